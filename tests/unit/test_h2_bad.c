/* test_h2_bad.c - the HTTP/2 engine and clients that break the rules: messages that are wrong cost
 * their stream, frames that are wrong the connection, and nothing costs anybody else. */
#include "h2_rig.h"

/* A request that is wrong by itself: reset with PROTOCOL_ERROR, the next one is served. */
TEST(h2_bad, malformed_requests_are_stream_errors)
{
    static const char *const bad[] = {
        ":method: GET\n:scheme: https\n:authority: h\n", /* no path */
        ":scheme: https\n:authority: h\n:path: /\n",     /* no method */
        ":method: GET\n:authority: h\n:path: /\n",       /* no scheme */
        ":method: GET\n:scheme: https\n:path: /\n",      /* no authority */
        H2_GET ":method: GET\n",                         /* twice */
        H2_GET ":status: 200\n",                         /* a response's */
        H2_GET ":foo: bar\n",                            /* unknown */
        H2_GET ":protocol: websocket\n",                 /* without CONNECT */
        H2_GET "a: b\n:late: x\n",                       /* after a field */
        H2_GET "X-Upper: 1\n",                           /* upper case */
        H2_GET "x y: 1\n",                               /* no token */
        H2_GET "x: a\x01"
               "b\n", /* a control character */
        H2_GET "x: \x7f\n",
        H2_GET "x:  leading\n",
        H2_GET "x: trailing \n",
        H2_GET "connection: close\n",
        H2_GET "connection: x\n",
        H2_GET "keep-alive: 1\n",
        H2_GET "proxy-connection: x\n",
        H2_GET "transfer-encoding: chunked\n",
        H2_GET "upgrade: h2c\n",
        H2_GET "te: gzip\n",
        H2_GET "content-length: x\n",
        H2_GET "content-length: -1\n",
        H2_GET "content-length: 1\ncontent-length: 1\n",
        H2_GET "content-length: 1\ncontent-length: 2\n",
        H2_GET "host: other\n", /* not the authority */
        ":method: GET\n:scheme: https\n:authority: u@h\n:path: /\n",
        ":method: GET\n:scheme: https\n:authority: h/\n:path: /\n",
        ":method: GET\n:scheme: https\n:authority: h\n:path: x\n",
        ":method: GET\n:scheme: https\n:authority: h\n:path: \n",
        ":method: GET\n:scheme: https\n:authority: h\n:path: *\n",
        ":method: GET\n:scheme: https\n:authority: h\n:path: /#f\n",
        ":method: G T\n:scheme: https\n:authority: h\n:path: /\n",
        ":method: CONNECT\n:scheme: https\n:authority: h:1\n:path: /\n",
        ":method: CONNECT\n",
    };
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++) {
        struct h2_rig *rig = h2_rig_new();
        rig->app.echo = true;
        h2_headers(rig, 1, bad[i], true);
        h2_headers(rig, 3, H2_GET, true);
        h2_turn(rig);
        if (strcmp(rig->app.log, "GET h /;end;") != 0 || strstr(rig->wire, "RST 1 1;") == NULL ||
            strstr(rig->wire, "HEADERS 3 end :status=200;") == NULL)
            ph_test_fail(__FILE__, __LINE__, "%s: %s, %s", bad[i], rig->app.log, rig->wire);
        CHECK_INT(rig->stats.protocol_errors, ==, 1);
        CHECK_INT(rig->goaways, ==, 0);
        h2_rig_free(rig);
    }
}

TEST(h2_bad, body_and_declared_length_agree_or_the_stream_is_reset)
{
    static const struct {
        const char *declared, *body;
    } bad[] = {{"3", "ab"}, {"3", "abcd"}, {"3", ""}, {"0", "a"}};
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++) {
        struct h2_rig *rig = h2_rig_new();
        char head[256];
        snprintf(head, sizeof(head), H2_POST "content-length: %s\n", bad[i].declared);
        h2_headers(rig, 1, head, false);
        h2_data(rig, 1, bad[i].body, true);
        h2_turn(rig);
        H2_EXPECT(rig, wire, "RST 1 1;");
        CHECK(strstr(rig->app.log, "end;") == NULL);
        CHECK_INT(rig->app.closed_cut, ==, rig->app.count);
        CHECK_INT(rig->stats.protocol_errors, ==, 1);
        h2_rig_free(rig);
    }
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_POST "content-length: 3\n", true); /* no body at all */
    h2_turn(rig);
    H2_EXPECT(rig, wire, "RST 1 1;");
    h2_rig_free(rig);
    rig = h2_rig_new();
    h2_headers(rig, 1, H2_POST "content-length: 3\n", false);
    h2_data(rig, 1, "ab", false);
    h2_headers(rig, 1, "x: trailer\n", true); /* too short, shown by trailers */
    h2_turn(rig);
    H2_EXPECT(rig, wire, "RST 1 1;");
    CHECK_INT(rig->app.closed_cut, ==, 1);
    h2_rig_free(rig);
}

TEST(h2_bad, malformed_trailers_are_stream_errors)
{
    static const char *const bad[] = {":path: /\n", "X: 1\n", "connection: close\n",
                                      "content-length: 1\n", "host: h\n"};
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++) {
        struct h2_rig *rig = h2_rig_new();
        h2_headers(rig, 1, H2_POST, false);
        h2_headers(rig, 1, bad[i], true);
        h2_turn(rig);
        if (strcmp(rig->wire, "RST 1 1;") != 0)
            ph_test_fail(__FILE__, __LINE__, "%s: %s", bad[i], rig->wire);
        CHECK(strstr(rig->app.log, "trailers") == NULL);
        CHECK_INT(rig->app.closed_cut, ==, 1);
        h2_rig_free(rig);
    }
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_POST, false);
    h2_headers(rig, 1, "x: 1\n", false); /* trailers that do not end the stream */
    h2_turn(rig);
    CHECK_INT(rig->last_reset, ==, NGHTTP2_PROTOCOL_ERROR);
    h2_rig_free(rig);
}

/* --- Connection errors --- */

static void raw(struct h2_rig *rig, uint8_t type, uint8_t flags, uint32_t id, const char *bytes,
                size_t n)
{
    h2_frame(rig, type, flags, id, bytes, n);
}
#define RAW(rig, type, flags, id, bytes) raw(rig, type, flags, id, bytes, sizeof(bytes) - 1)

/* Each breaks the framing on a connection with stream 1 open and stream 3 closed. */
static void settings_on_a_stream(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_SETTINGS, 0, 1, "");
}
static void settings_of_odd_length(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_SETTINGS, 0, 0, "12345");
}
static void settings_ack_with_payload(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, "123456");
}
static void window_too_large_by_settings(struct h2_rig *rig)
{
    h2_setting(rig, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0x80000000u);
}
static void frame_size_too_small_by_settings(struct h2_rig *rig)
{
    h2_setting(rig, NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 100);
}
static void push_by_settings(struct h2_rig *rig)
{
    h2_setting(rig, NGHTTP2_SETTINGS_ENABLE_PUSH, 2);
}
static void ping_of_wrong_length(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_PING, 0, 0, "1234567");
}
static void ping_on_a_stream(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_PING, 0, 1, "12345678");
}
static void goaway_on_a_stream(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_GOAWAY, 0, 1, "\0\0\0\0\0\0\0\0");
}
static void window_update_of_zero(struct h2_rig *rig)
{
    h2_window(rig, 0, 0);
}
static void window_update_over_the_top(struct h2_rig *rig)
{
    h2_window(rig, 0, 0x7fffffff);
}
static void window_update_of_wrong_length(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_WINDOW_UPDATE, 0, 1, "123");
}
static void window_update_of_an_idle_stream(struct h2_rig *rig)
{
    h2_window(rig, 99, 1);
}
static void reset_of_an_idle_stream(struct h2_rig *rig)
{
    h2_rst(rig, 99, 8);
}
static void reset_of_wrong_length(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_RST_STREAM, 0, 1, "123");
}
static void data_on_the_connection(struct h2_rig *rig)
{
    h2_data(rig, 0, "x", false);
}
static void data_on_an_idle_stream(struct h2_rig *rig)
{
    h2_data(rig, 99, "x", false);
}
static void data_with_too_much_padding(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1,
        "\x05"
        "abc");
}
static void headers_on_the_connection(struct h2_rig *rig)
{
    h2_headers(rig, 0, H2_GET, true);
}
static void headers_with_an_even_id(struct h2_rig *rig)
{
    h2_headers(rig, 4, H2_GET, true);
}
static void headers_that_are_no_hpack(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 5, "\xff\xff\xff\xff\xff\xff");
}
static void table_size_update_too_large(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 5, "\x3f\xe2\x1f\x82"); /* 4097 */
}
static void continuation_out_of_place(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, "\x82");
}
static void frame_within_a_header_block(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_HEADERS, 0, 5, "\x82");
    RAW(rig, NGHTTP2_PING, 0, 0, "12345678");
}
static void continuation_of_another_stream(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_HEADERS, 0, 5, "\x82");
    RAW(rig, NGHTTP2_CONTINUATION, 0, 7, "\x82");
}
static void push_promise_of_a_client(struct h2_rig *rig)
{
    RAW(rig, NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS, 1, "\0\0\0\2\x82");
}
static void frame_too_large(struct h2_rig *rig)
{
    static char big[16385];
    raw(rig, NGHTTP2_DATA, 0, 1, big, sizeof(big));
}
static void data_on_a_closed_stream_after_its_end(struct h2_rig *rig)
{
    h2_headers(rig, 5, H2_POST, true);
    h2_data(rig, 5, "more", false);
}

static const struct {
    const char *name;
    void (*act)(struct h2_rig *rig);
    uint32_t code, other; /* of GOAWAY: one of them */
} breaches[] = {
    {"settings on a stream", settings_on_a_stream, 1, 1},
    {"settings of odd length", settings_of_odd_length, 6, 6},
    {"settings ack with payload", settings_ack_with_payload, 6, 6},
    {"window too large by settings", window_too_large_by_settings, 3, 1},
    {"frame size too small by settings", frame_size_too_small_by_settings, 1, 1},
    {"push by settings", push_by_settings, 1, 1},
    {"ping of wrong length", ping_of_wrong_length, 6, 6},
    {"ping on a stream", ping_on_a_stream, 1, 1},
    {"goaway on a stream", goaway_on_a_stream, 1, 1},
    {"window update of zero", window_update_of_zero, 1, 1},
    {"window update over the top", window_update_over_the_top, 3, 3},
    {"window update of wrong length", window_update_of_wrong_length, 6, 6},
    {"window update of an idle stream", window_update_of_an_idle_stream, 1, 1},
    {"reset of an idle stream", reset_of_an_idle_stream, 1, 1},
    {"reset of wrong length", reset_of_wrong_length, 6, 6},
    {"data on the connection", data_on_the_connection, 1, 1},
    {"data on an idle stream", data_on_an_idle_stream, 1, 1},
    {"data with too much padding", data_with_too_much_padding, 1, 1},
    {"headers on the connection", headers_on_the_connection, 1, 1},
    {"headers with an even id", headers_with_an_even_id, 1, 1},
    {"headers that are no hpack", headers_that_are_no_hpack, 9, 9},
    {"table size update too large", table_size_update_too_large, 9, 9},
    {"continuation out of place", continuation_out_of_place, 1, 1},
    {"frame within a header block", frame_within_a_header_block, 1, 1},
    {"continuation of another stream", continuation_of_another_stream, 1, 1},
    {"push promise of a client", push_promise_of_a_client, 1, 1},
    {"frame too large", frame_too_large, 6, 6},
    {"data after the end of a stream", data_on_a_closed_stream_after_its_end, 5, 5},
};

TEST(h2_bad, broken_frames_end_the_connection_with_a_word)
{
    static const size_t steps[] = {SIZE_MAX, 1};
    for (size_t i = 0; i < PH_COUNT_OF(breaches) * PH_COUNT_OF(steps); i++) {
        struct h2_rig *rig = h2_rig_new();
        const char *name = breaches[i / 2].name;
        h2_headers(rig, 1, H2_POST, false);
        h2_headers(rig, 3, H2_GET, true);
        h2_turn(rig);
        CHECK_INT(h2_respond(rig, 1, 200, true), ==, 0);
        h2_turn(rig);
        rig->step = steps[i % 2];
        breaches[i / 2].act(rig);
        size_t before = rig->app.count;
        h2_headers(rig, 21, H2_GET, true); /* nothing that follows is looked at */
        h2_turn(rig);
        if (rig->goaways != 1 ||
            (rig->last_goaway != breaches[i / 2].code && rig->last_goaway != breaches[i / 2].other))
            ph_test_fail(__FILE__, __LINE__, "%s: %s", name, rig->wire);
        bool abort = true;
        if (!h2_is_done(rig, &abort) || abort || rig->app.count != before)
            ph_test_fail(__FILE__, __LINE__, "%s: not done", name);
        CHECK(!rig->engine->ops->wants_input(rig->engine));
        CHECK_INT(rig->stats.protocol_errors, ==, 1);
        CHECK_INT(rig->app.closed_cut + rig->app.closed_clean, ==, rig->app.count);
        h2_rig_free(rig);
    }
}

/* nghttp2 CVE-2026-27135: a frame that is wrong after the one that ended it. */
TEST(h2_bad, nothing_is_read_after_an_error)
{
    for (size_t i = 0; i < PH_COUNT_OF(breaches); i++) {
        for (size_t k = 0; k < PH_COUNT_OF(breaches); k++) {
            struct h2_rig *rig = h2_rig_new();
            h2_headers(rig, 1, H2_POST, false);
            h2_headers(rig, 3, H2_GET, true);
            breaches[i].act(rig);
            breaches[k].act(rig);
            h2_turn(rig);
            CHECK_INT(rig->goaways, ==, 1);
            CHECK(h2_is_done(rig, NULL));
            h2_rig_free(rig);
        }
    }
}

/* --- Ids of streams --- */

/* Each on a connection where stream 1 is answered, 7 is open, and 9 waits for its answer. */
static void request_on_a_stream_that_was_answered(struct h2_rig *rig)
{
    h2_headers(rig, 1, H2_GET, true);
}
static void data_on_a_stream_that_was_answered(struct h2_rig *rig)
{
    h2_data(rig, 1, "x", true);
}
static void request_on_a_stream_that_was_ended(struct h2_rig *rig)
{
    h2_headers(rig, 9, H2_GET, true);
}
static void request_on_a_stream_that_was_cancelled(struct h2_rig *rig)
{
    h2_rst(rig, 7, 8);
    h2_headers(rig, 7, H2_GET, true);
}
static void data_on_a_stream_that_was_cancelled(struct h2_rig *rig)
{
    h2_rst(rig, 7, 8);
    h2_data(rig, 7, "x", false);
}
static void request_on_a_stream_that_was_skipped(struct h2_rig *rig)
{
    h2_headers(rig, 3, H2_GET, true);
}
static void data_on_a_stream_that_was_skipped(struct h2_rig *rig)
{
    h2_data(rig, 5, "x", false);
}
static void request_on_an_even_stream(struct h2_rig *rig)
{
    h2_headers(rig, 8, H2_GET, true);
}
static void request_far_below_the_last(struct h2_rig *rig)
{
    h2_headers(rig, 0x7fffffff, H2_GET, true);
    h2_headers(rig, 11, H2_GET, true);
}
static void request_on_a_malformed_one(struct h2_rig *rig)
{
    h2_headers(rig, 11, ":method: GET\n", true);
    h2_headers(rig, 11, H2_GET, true);
}
static void request_on_a_refused_one(struct h2_rig *rig)
{
    h2_headers(rig, 11, H2_GET, true);
    h2_headers(rig, 13, H2_GET, true); /* one too many */
    h2_headers(rig, 13, H2_GET, true);
}
static void two_trailers(struct h2_rig *rig)
{
    h2_headers(rig, 7, "x: \x1f\n", false); /* which costs the stream */
    h2_headers(rig, 7, "x: 1\n", true);     /* the client did not know */
    CHECK_INT(rig->goaways, ==, 0);
    h2_headers(rig, 7, "x: 1\n", true);
}

static const struct {
    const char *name;
    void (*act)(struct h2_rig *rig);
    uint32_t code; /* of GOAWAY */
} id_games[] = {
    {"request, answered", request_on_a_stream_that_was_answered, 5},
    {"data, answered", data_on_a_stream_that_was_answered, 5},
    {"request, ended", request_on_a_stream_that_was_ended, 5},
    {"request, cancelled", request_on_a_stream_that_was_cancelled, 5},
    {"data, cancelled", data_on_a_stream_that_was_cancelled, 5},
    {"request, skipped", request_on_a_stream_that_was_skipped, 1},
    {"data, skipped", data_on_a_stream_that_was_skipped, 1},
    {"request, even", request_on_an_even_stream, 1},
    {"request, far below", request_far_below_the_last, 1},
    {"request, malformed", request_on_a_malformed_one, 5},
    {"request, refused", request_on_a_refused_one, 5},
    {"two trailers", two_trailers, 5},
};

TEST(h2_bad, streams_that_are_over_do_not_begin_again)
{
    static const size_t steps[] = {SIZE_MAX, 1};
    for (size_t i = 0; i < PH_COUNT_OF(id_games) * PH_COUNT_OF(steps); i++) {
        struct h2_rig *rig = h2_rig_bare();
        rig->config.max_streams = 3;
        h2_rig_start(rig);
        h2_hello(rig);
        h2_headers(rig, 1, H2_GET, true);
        h2_turn(rig);
        CHECK_INT(h2_respond(rig, 0, 200, true), ==, 0);
        h2_turn(rig);
        h2_headers(rig, 7, H2_POST, false);
        h2_headers(rig, 9, H2_GET, true);
        h2_turn(rig);
        rig->step = steps[i % 2];
        id_games[i / 2].act(rig);
        h2_turn(rig);
        if (rig->goaways == 0 || rig->last_goaway != id_games[i / 2].code)
            ph_test_fail(__FILE__, __LINE__, "%s: %s", id_games[i / 2].name, rig->wire);
        CHECK(h2_is_done(rig, NULL));
        CHECK_INT(rig->stats.protocol_errors, >=, 1);
        CHECK_INT(rig->app.closed_cut + rig->app.closed_clean, ==, rig->app.count);
        h2_rig_free(rig);
    }
}

/* We refuse the body of `id` with an answer, which resets what is left of the request. */
static void refuse_body(struct h2_rig *rig, uint32_t id)
{
    size_t i = rig->app.count;
    h2_headers(rig, id, H2_POST, false);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, i, 403, true), ==, 0);
    h2_turn(rig);
    CHECK_INT(rig->last_reset, ==, NGHTTP2_NO_ERROR);
}

TEST(h2_bad, what_crossed_our_reset_is_passed_over)
{
    struct h2_rig *rig = h2_rig_new();
    refuse_body(rig, 1);
    refuse_body(rig, 3);
    h2_data(rig, 1, "body that was ", false);
    h2_data(rig, 1, "on its way", false);
    h2_headers(rig, 1, "x: trailer\n", true);
    h2_data(rig, 3, "and its end", true);
    h2_headers(rig, 5, H2_GET, true); /* with the tables of the trailers */
    h2_turn(rig);
    CHECK_INT(rig->goaways, ==, 0);
    CHECK_INT(rig->stats.protocol_errors, ==, 0);
    CHECK_INT(rig->app.count, ==, 3);
    h2_data(rig, 3, "", true); /* but it had ended */
    h2_turn(rig);
    CHECK_INT(rig->last_goaway, ==, NGHTTP2_STREAM_CLOSED);
    h2_rig_free(rig);
}

TEST(h2_bad, a_reset_that_waits_for_the_socket_can_be_crossed)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_POST, false);
    h2_window(rig, 0, 1 << 20);
    h2_setting(rig, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20);
    h2_headers(rig, 3, H2_GET, true);
    h2_turn(rig);
    rig->no_reading = true;
    CHECK_INT(h2_respond(rig, 1, 200, false), ==, 0);
    CHECK_INT(h2_write_zeros(rig, 1, 200000, true), ==, 0);
    h2_turn(rig);
    ph_exchange_reset(rig->app.ex[0], NGHTTP2_CANCEL);
    h2_turn(rig);
    CHECK_INT(rig->resets, ==, 0);
    h2_data(rig, 1, "body", false);
    h2_headers(rig, 1, "x: trailer\n", true);
    rig->no_reading = false;
    h2_turn(rig);
    CHECK_INT(rig->resets, ==, 1);
    CHECK_INT(rig->goaways, ==, 0);
    CHECK_INT(rig->stats.protocol_errors, ==, 0);
    h2_rig_free(rig);
}

/* More resets at once than are remembered: nothing is held against whom we cannot judge, but it is
 * charged. */
TEST(h2_bad, resets_that_are_forgotten_can_be_crossed)
{
    enum { BURST = 200 };
    for (uint32_t count = PH_H2_CROSSING; count <= PH_H2_CROSSING + 1; count++) {
        struct h2_rig *rig = h2_rig_bare();
        rig->config.glitch_burst = BURST;
        rig->config.glitch_rate = 0;
        h2_rig_start(rig);
        h2_hello(rig); /* one of the budget */
        for (uint32_t i = 0; i < count; i++)
            refuse_body(rig, 2 * i + 1);
        for (uint32_t i = 0; i < count; i++)
            h2_headers(rig, 2 * i + 1, "x: trailer\n", true);
        h2_turn(rig);
        CHECK_INT(rig->goaways, ==, 0);
        CHECK_INT(rig->stats.protocol_errors, ==, 0);
        for (uint32_t i = count + 1; i < BURST; i++)
            h2_headers(rig, 1, "x: trailer\n", true);
        h2_turn(rig);
        if (count == PH_H2_CROSSING) {
            CHECK_INT(rig->last_goaway, ==, NGHTTP2_STREAM_CLOSED);
        } else {
            CHECK_INT(rig->goaways, ==, 0);
            h2_headers(rig, 1, "x: trailer\n", true);
            h2_turn(rig);
            CHECK_INT(rig->last_goaway, ==, NGHTTP2_ENHANCE_YOUR_CALM);
            CHECK_INT(rig->stats.limit_glitch, ==, 1);
        }
        h2_rig_free(rig);
    }
}

/* There can be none after it: the client is told to go elsewhere, and gets its answer. */
TEST(h2_bad, the_last_id_is_served_and_ends_the_connection)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 0x7fffffff, H2_POST, false);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "GOAWAY 2147483647 0;");
    h2_data(rig, 0x7fffffff, "body", false);
    h2_headers(rig, 0x7fffffff, "x: trailer\n", true);
    h2_turn(rig);
    CHECK_STR(rig->app.log, "POST h /p;body(body)trailers x=trailer;end;");
    CHECK(!h2_is_done(rig, NULL));
    CHECK_INT(h2_respond(rig, 0, 200, true), ==, 0);
    h2_turn(rig);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    bool abort = true;
    CHECK(h2_is_done(rig, &abort) && !abort);
    h2_rig_free(rig);
}

TEST(h2_bad, whoever_does_not_speak_http2_is_left)
{
    static const char *const said[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                                       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r ",
                                       "\x16\x03\x01\x02\x01\x01\xfc\x03\x03 a TLS client hello"};
    for (size_t i = 0; i < PH_COUNT_OF(said); i++) {
        struct h2_rig *rig = h2_rig_bare();
        h2_rig_start(rig);
        h2_bytes(rig, said[i], strlen(said[i]));
        h2_turn(rig);
        CHECK(h2_is_done(rig, NULL));
        CHECK_INT(rig->stats.protocol_errors, ==, 1);
        h2_rig_free(rig);
    }
    struct h2_rig *rig = h2_rig_bare();
    h2_rig_start(rig);
    h2_bytes(rig, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    h2_frame(rig, NGHTTP2_PING, 0, 0, "12345678", 8); /* SETTINGS comes first */
    h2_turn(rig);
    CHECK_INT(rig->last_goaway, ==, NGHTTP2_PROTOCOL_ERROR);
    h2_rig_free(rig);
}

TEST(h2_bad, unknown_frames_and_settings_are_passed_over)
{
    struct h2_rig *rig = h2_rig_new();
    rig->app.echo = true;
    RAW(rig, 0xef, 0xff, 0, "whatever");
    RAW(rig, 0xef, 0xff, 1, "whatever");
    RAW(rig, NGHTTP2_PRIORITY, 0, 1, "\0\0\0\3\x10");
    h2_setting(rig, 0xf0f0, 77);
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 end :status=200;");
    CHECK_INT(rig->stats.protocol_errors, ==, 0);
    h2_rig_free(rig);
}

TEST(h2_bad, stream_depending_on_itself_and_other_old_priorities_do_nothing)
{
    struct h2_rig *rig = h2_rig_new();
    rig->app.echo = true;
    size_t n;
    uint8_t *block = h2_block(rig, H2_GET, &n), payload[256];
    ph_u32_put(payload, 0);
    payload[4] = 255;
    memcpy(payload + 5, block, n);
    h2_frame(rig, NGHTTP2_HEADERS,
             NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM | NGHTTP2_FLAG_PRIORITY, 1, payload,
             n + 5);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 end :status=200;");
    ph_free(block);
    h2_rig_free(rig);
}
