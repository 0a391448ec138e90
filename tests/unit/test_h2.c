/* test_h2.c - the HTTP/2 engine with well-meaning clients: requests, bodies under flow control,
 * responses, trailers, interim heads, priorities, early answers, drain. */
#include "h2_rig.h"

static const size_t steps[] = {SIZE_MAX, 1, 5, 64};

/* A DATA frame of the largest size, as text. */
static const char *full_frame(void)
{
    static char piece[16384 + 1];
    memset(piece, 'a', sizeof(piece) - 1);
    return piece;
}

TEST(h2, settings_say_what_we_allow)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->is_brief = false;
    h2_rig_start(rig);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "SETTINGS 1=4096 3=128 4=262144 5=16384 6=65536 8=1 9=1;WINDOW 0 983041;");
    h2_bytes(rig, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    h2_frame(rig, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "SETTINGS ack;");
    CHECK(!h2_is_done(rig, NULL));
    h2_rig_free(rig);
}

TEST(h2, get_is_answered_whatever_the_pieces)
{
    for (size_t i = 0; i < PH_COUNT_OF(steps); i++) {
        struct h2_rig *rig = h2_rig_bare();
        rig->app.echo = true;
        rig->step = steps[i];
        h2_rig_start(rig);
        h2_hello(rig);
        h2_headers(rig, 1, H2_GET, true);
        h2_turn(rig);
        H2_EXPECT(rig, app.log, "GET h /;end;");
        H2_EXPECT(rig, wire, "HEADERS 1 end :status=200;");
        CHECK_INT(rig->app.closed_clean, ==, 1);
        h2_headers(rig, 3, H2_POST, false);
        h2_data(rig, 3, "hel", false);
        h2_data(rig, 3, "lo", true);
        h2_turn(rig);
        H2_EXPECT(rig, app.log, "POST h /p;body(hello)end;");
        H2_EXPECT(rig, wire, "HEADERS 3 :status=200;DATA 3 end(hello);");
        CHECK_INT(rig->app.acked, ==, 5);
        CHECK_INT(rig->app.closed_clean, ==, 2);
        CHECK_INT(rig->stats.protocol_errors, ==, 0);
        h2_rig_free(rig);
    }
}

TEST(h2, head_is_the_applications)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1,
               ":method: PUT\n:scheme: https\n:authority: Ex.com:80\n:path: /a?b\nx-a: 1\n"
               "cookie: a=b\ncookie: c=d\nx-b: two words\nx-a: \x80z\ncontent-length: 0\n",
               true);
    h2_turn(rig);
    const struct ph_head *head = &rig->app.ex[0]->head;
    CHECK_INT(head->version, ==, 20);
    CHECK_STR(head->method, "PUT");
    CHECK_STR(head->scheme, "https");
    CHECK_STR(head->authority, "Ex.com:80");
    CHECK_STR(head->target, "/a?b");
    CHECK_STR(head->protocol, "");
    CHECK_INT(head->fields.count, ==, 6);
    CHECK_STR(head->fields.list[1].value, "a=b");
    CHECK_STR(head->fields.list[4].value, "\x80z");
    CHECK(head->has_length);
    h2_rig_free(rig);
}

TEST(h2, many_streams_at_once_each_get_their_own)
{
    enum { STREAMS = 100 };
    struct h2_rig *rig = h2_rig_new();
    for (uint32_t i = 0; i < STREAMS; i++)
        h2_headers(rig, 2 * i + 1, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, STREAMS);
    rig->wire_len = 0;
    for (size_t i = STREAMS; i-- > 0;) {
        char text[16];
        snprintf(text, sizeof(text), "answer %zu", i);
        CHECK_INT(h2_respond(rig, i, 200, false), ==, 0);
        CHECK_INT(h2_write(rig, i, text, true), ==, 0);
    }
    h2_turn(rig);
    for (size_t i = 0; i < STREAMS; i++) {
        char text[64];
        snprintf(text, sizeof(text), "DATA %zu end(answer %zu);", 2 * i + 1, i);
        CHECK(strstr(rig->wire, text) != NULL);
    }
    CHECK_INT(rig->app.closed_clean, ==, STREAMS);
    h2_rig_free(rig);
}

TEST(h2, response_forms)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, ":method: HEAD\n:scheme: https\n:authority: h\n:path: /\n", true);
    h2_headers(rig, 3, H2_GET, true);
    h2_headers(rig, 5, H2_GET, true);
    h2_turn(rig);
    static const struct ph_field length = {"content-length", "9", 14, 1};
    CHECK_INT(ph_exchange_respond(rig->app.ex[0], 200, &length, 1, false), ==, 0);
    CHECK_INT(h2_write(rig, 0, "swallowed", true), ==, 0);
    CHECK_INT(rig->app.acked, ==, 9);
    CHECK_INT(h2_respond(rig, 1, 204, true), ==, 0);
    CHECK_INT(h2_respond(rig, 2, 304, false), ==, 0);
    CHECK_INT(h2_write(rig, 2, "none", true), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire,
              "HEADERS 1 :status=200 content-length=9;HEADERS 3 end :status=204;"
              "HEADERS 5 :status=304;DATA 1 end();DATA 5 end();");
    CHECK_INT(rig->app.closed_clean, ==, 3);
    h2_rig_free(rig);
}

TEST(h2, connection_fields_of_the_application_do_not_go_out)
{
    struct h2_rig *rig = h2_rig_new();
    static const struct ph_field fields[] = {
        {"connection", "close", 10, 5},
        {"transfer-encoding", "chunked", 17, 7},
        {"x", "y", 1, 1},
    };
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(ph_exchange_respond(rig->app.ex[0], 200, fields, 3, true), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 end :status=200 x=y;");
    CHECK(!h2_is_done(rig, NULL));
    h2_rig_free(rig);
}

TEST(h2, interim_heads_come_before_the_final_one)
{
    struct h2_rig *rig = h2_rig_new();
    static const struct ph_field link = {"link", "</a>; rel=preload", 4, 17};
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(ph_exchange_respond(rig->app.ex[0], 103, &link, 1, false), ==, 0);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 0, 200, true), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 :status=103 link=</a>; rel=preload;HEADERS 1 end :status=200;");
    h2_rig_free(rig);
}

TEST(h2, continue_is_said_once_and_only_when_the_body_is_wanted)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_POST "expect: 100-continue\n", false);
    h2_turn(rig);
    h2_pass(rig, rig->config.body_timeout + 1); /* the client does not owe us a body yet */
    CHECK_INT(rig->app.closed_cut, ==, 0);
    H2_EXPECT(rig, wire, "");
    ph_exchange_consume(rig->app.ex[0], 0);
    ph_exchange_consume(rig->app.ex[0], 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 :status=100;");
    h2_data(rig, 1, "x", true);
    CHECK_INT(h2_respond(rig, 0, 200, true), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 end :status=200;");
    h2_rig_free(rig);
}

TEST(h2, trailers_both_ways)
{
    struct h2_rig *rig = h2_rig_new();
    static const struct ph_field sum = {"x-sum", "1", 5, 1};
    h2_headers(rig, 1, H2_POST "te: trailers\n", false);
    h2_data(rig, 1, "x", false);
    h2_headers(rig, 1, "x-more: 2\n", true);
    h2_turn(rig);
    H2_EXPECT(rig, app.log, "POST h /p;body(x)trailers x-more=2;end;");
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write(rig, 0, "abc", false), ==, 0);
    CHECK_INT(ph_exchange_trailers(rig->app.ex[0], &sum, 1), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 :status=200;DATA 1(abc);HEADERS 1 end x-sum=1;");
    CHECK_INT(rig->app.closed_clean, ==, 1);
    /* After all the body had left, and with none at all. */
    h2_headers(rig, 3, H2_GET "te: trailers\n", true);
    h2_headers(rig, 5, H2_GET "te: trailers\n", true);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 1, 200, false), ==, 0);
    CHECK_INT(h2_write(rig, 1, "abc", false), ==, 0);
    CHECK_INT(h2_respond(rig, 2, 200, false), ==, 0);
    h2_turn(rig);
    CHECK_INT(ph_exchange_trailers(rig->app.ex[1], &sum, 1), ==, 0);
    CHECK_INT(ph_exchange_trailers(rig->app.ex[2], &sum, 1), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire,
              "HEADERS 3 :status=200;HEADERS 5 :status=200;DATA 3(abc);"
              "HEADERS 3 end x-sum=1;HEADERS 5 end x-sum=1;");
    CHECK_INT(rig->app.closed_clean, ==, 3);
    h2_rig_free(rig);
}

/* --- Flow control --- */

TEST(h2, windows_open_as_the_application_consumes)
{
    struct h2_rig *rig = h2_rig_bare();
    const char *piece = full_frame();
    rig->app.no_consume = true;
    h2_rig_start(rig);
    h2_hello(rig);
    rig->is_brief = false;
    h2_headers(rig, 1, H2_POST, false);
    for (int i = 0; i < 16; i++) /* the whole window of the stream */
        h2_data(rig, 1, piece, false);
    h2_turn(rig);
    CHECK_INT(rig->app.body_bytes, ==, 262144);
    H2_EXPECT(rig, wire, "");
    ph_exchange_consume(rig->app.ex[0], 262144);
    h2_turn(rig);
    CHECK(strstr(rig->wire, "WINDOW 1 262144;") != NULL);
    CHECK(strstr(rig->wire, "WINDOW 0 ") == NULL); /* not yet half of it */
    for (int i = 0; i < 16; i++)
        h2_data(rig, 1, piece, false);
    h2_turn(rig);
    ph_exchange_consume(rig->app.ex[0], 262144);
    h2_turn(rig);
    CHECK(strstr(rig->wire, "WINDOW 0 524288;") != NULL);
    CHECK_INT(rig->stats.protocol_errors, ==, 0);
    h2_rig_free(rig);
}

TEST(h2, sending_past_a_window_is_an_error)
{
    struct h2_rig *rig = h2_rig_bare();
    const char *piece = full_frame();
    rig->app.no_consume = true;
    h2_rig_start(rig);
    h2_hello(rig);
    h2_headers(rig, 1, H2_POST, false);
    for (int i = 0; i < 16; i++)
        h2_data(rig, 1, piece, false);
    CHECK_INT(rig->app.body_bytes, ==, 262144);
    CHECK_INT(rig->resets, ==, 0);
    h2_data(rig, 1, "x", false); /* one past it */
    h2_data(rig, 1, piece, false);
    h2_turn(rig);
    CHECK_INT(rig->app.body_bytes, <, 262144 + 16384); /* nothing after the offending frame */
    CHECK_INT(rig->last_reset, ==, NGHTTP2_FLOW_CONTROL_ERROR);
    CHECK_INT(rig->app.closed_cut, ==, 1);
    CHECK_INT(rig->goaways, ==, 0);
    h2_rig_free(rig);
}

TEST(h2, bytes_that_nobody_takes_go_back_to_the_connection)
{
    struct h2_rig *rig = h2_rig_bare();
    const char *piece = full_frame();
    rig->app.no_consume = true;
    h2_rig_start(rig);
    h2_hello(rig);
    for (uint32_t id = 1; id < 41; id += 2) { /* five windows of the connection */
        h2_headers(rig, id, H2_POST, false);
        for (int i = 0; i < 8; i++)
            h2_data(rig, id, piece, false);
        h2_turn(rig);
        if (id % 4 == 1)
            h2_rst(rig, id, NGHTTP2_CANCEL);
        else
            ph_exchange_reset(rig->app.ex[id / 2], PH_H3_INTERNAL_ERROR);
        for (int i = 0; i < 8 && id % 4 != 1; i++) /* on their way meanwhile */
            h2_data(rig, id, piece, false);
        h2_turn(rig);
    }
    CHECK_INT(rig->goaways, ==, 0);
    CHECK_INT(rig->app.closed_cut, ==, 20);
    h2_rig_free(rig);
}

TEST(h2, peers_windows_are_kept)
{
    struct h2_rig *rig = h2_rig_new();
    h2_setting(rig, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1000);
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write_zeros(rig, 0, 200000, true), ==, 0);
    h2_turn(rig);
    CHECK_INT(rig->data_bytes, ==, 1000);
    CHECK_INT(rig->app.acked, ==, 1000);
    h2_window(rig, 1, 30000);
    h2_turn(rig);
    CHECK_INT(rig->data_bytes, ==, 31000);
    h2_window(rig, 1, 1000000);
    h2_turn(rig);
    CHECK_INT(rig->data_bytes, ==, 65535); /* the connection's */
    h2_window(rig, 0, 1000000);
    h2_turn(rig);
    CHECK_INT(rig->data_bytes, ==, 200000);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    h2_rig_free(rig);
}

TEST(h2, output_waits_for_the_socket)
{
    struct h2_rig *rig = h2_rig_new();
    h2_setting(rig, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30);
    h2_window(rig, 0, 1 << 30);
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write_zeros(rig, 0, 1000000, true), ==, 0);
    rig->no_reading = true;
    h2_turn(rig);
    CHECK_INT(rig->out.unsent, >=, PH_H2_OUT_MAX);
    CHECK_INT(rig->out.unsent, <=, PH_H2_OUT_MAX + 16384 + PH_H2_FRAME_HEAD);
    rig->no_reading = false;
    for (int i = 0; i < 200; i++) /* a reader of a few bytes at a time */
        h2_turn_some(rig, 5100);
    CHECK_INT(rig->data_bytes, ==, 1000000);
    CHECK_INT(rig->app.acked, ==, 1000000);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    h2_rig_free(rig);
}

TEST(h2, body_is_not_copied)
{
    struct h2_rig *rig = h2_rig_new();
    struct iovec iov[16];
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    struct ph_buf *buf = ph_buf_new(20000);
    ph_buf_set_len(buf, 20000);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(ph_exchange_write(rig->app.ex[0], ph_slice_of(buf), true), ==, 0);
    rig->engine->ops->flush(rig->engine);
    size_t n = ph_sliceq_gather(&rig->out, iov, PH_COUNT_OF(iov), SIZE_MAX);
    CHECK_INT(n, ==, 4); /* heads, 16384 bytes, a head, the rest */
    CHECK(iov[1].iov_base == buf->data);
    CHECK(iov[3].iov_base == buf->data + 16384);
    h2_turn(rig);
    h2_rig_free(rig);
}

/* --- Priorities --- */

/* Five responses of 20000 bytes each are ready at once; the order of their first and last frames.
 */
static void order(struct h2_rig *rig, char *first, char *last)
{
    size_t firsts = 0, lasts = 0;
    for (char *p = rig->wire; (p = strstr(p, "DATA ")) != NULL; p++) {
        unsigned id = (unsigned)strtoul(p + 5, &p, 10);
        char name = (char)('0' + id);
        first[firsts] = '\0';
        if (strchr(first, name) == NULL)
            first[firsts++] = name;
        if (strncmp(p, " end", 4) == 0)
            last[lasts++] = name;
    }
    first[firsts] = last[lasts] = '\0';
}

static void answer_all(struct h2_rig *rig)
{
    h2_turn(rig);
    for (size_t i = 0; i < rig->app.count; i++) {
        CHECK_INT(h2_respond(rig, i, 200, false), ==, 0);
        CHECK_INT(h2_write_zeros(rig, i, 40000, true), ==, 0);
    }
    h2_setting(rig, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20);
    h2_window(rig, 0, 1 << 20);
    h2_turn(rig);
}

TEST(h2, urgent_responses_go_first)
{
    struct h2_rig *rig = h2_rig_new();
    char first[16], last[16];
    h2_headers(rig, 1, H2_GET "priority: u=7\n", true);
    h2_headers(rig, 3, H2_GET, true);
    h2_headers(rig, 5, H2_GET "priority: u=0\n", true);
    answer_all(rig);
    order(rig, first, last);
    CHECK_STR(first, "531");
    CHECK_STR(last, "531");
    h2_rig_free(rig);
}

TEST(h2, incremental_responses_take_turns_and_others_do_not)
{
    struct h2_rig *rig = h2_rig_new();
    char first[16], last[16];
    h2_headers(rig, 1, H2_GET "priority: i\n", true);
    h2_headers(rig, 3, H2_GET "priority: u=3, i\n", true);
    answer_all(rig);
    order(rig, first, last);
    CHECK_STR(first, "13");
    const char *third = strstr(strstr(rig->wire, "DATA 3") + 1, "DATA");
    CHECK(strncmp(third, "DATA 1", 6) == 0);
    h2_rig_free(rig);

    rig = h2_rig_new();
    h2_headers(rig, 1, H2_GET "priority: u=3\n", true);
    h2_headers(rig, 3, H2_GET "priority: u=3\n", true);
    answer_all(rig);
    order(rig, first, last);
    CHECK_STR(last, "13");
    CHECK(strstr(rig->wire, "DATA 1 end") < strstr(rig->wire, "DATA 3 "));
    h2_rig_free(rig);
}

/* Behind a proxy they are of different people. */
TEST(h2, responses_without_a_priority_take_turns)
{
    struct h2_rig *rig = h2_rig_new();
    char first[16], last[16];
    h2_headers(rig, 1, H2_GET, true);
    h2_headers(rig, 3, H2_GET, true);
    h2_headers(rig, 5, H2_GET "priority: u=2\n", true);
    answer_all(rig);
    order(rig, first, last);
    CHECK_STR(first, "513");
    CHECK(strstr(rig->wire, "DATA 3 ") < strstr(rig->wire, "DATA 1 end"));
    h2_rig_free(rig);

    rig = h2_rig_new(); /* who knows the frames means what it says, and what it does not */
    uint8_t update[] = {0, 0, 0, 5, 'u', '=', '7'};
    h2_frame(rig, NGHTTP2_PRIORITY_UPDATE, 0, 0, update, sizeof(update));
    h2_headers(rig, 1, H2_GET, true);
    h2_headers(rig, 3, H2_GET, true);
    answer_all(rig);
    CHECK(strstr(rig->wire, "DATA 1 end") < strstr(rig->wire, "DATA 3 "));
    h2_rig_free(rig);
}

TEST(h2, priority_update_frames_are_heard)
{
    struct h2_rig *rig = h2_rig_new();
    char first[16], last[16];
    uint8_t update[] = {0, 0, 0, 5, 'u', '=', '1'};
    uint8_t early[] = {0, 0, 0, 7, 'u', '=', '0'};
    h2_frame(rig, NGHTTP2_PRIORITY_UPDATE, 0, 0, early, sizeof(early)); /* before its request */
    h2_headers(rig, 1, H2_GET, true);
    h2_headers(rig, 5, H2_GET "priority: u=7\n", true);
    h2_headers(rig, 7, H2_GET, true);
    h2_frame(rig, NGHTTP2_PRIORITY_UPDATE, 0, 0, update, sizeof(update));
    answer_all(rig);
    order(rig, first, last);
    CHECK_STR(last, "751");
    h2_rig_free(rig);
}

/* --- Early answers, cuts --- */

TEST(h2, answer_before_the_body_ends_refuses_the_rest_without_an_error)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_POST, false);
    h2_data(rig, 1, "abc", false);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write(rig, 0, "enough", true), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 :status=200;DATA 1 end(enough);RST 1 0;");
    CHECK_INT(rig->app.closed_clean, ==, 1);
    h2_data(rig, 1, "on its way", true);
    h2_headers(rig, 3, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 2);
    CHECK_INT(rig->goaways, ==, 0);
    CHECK_INT(rig->stats.protocol_errors, ==, 0);
    h2_rig_free(rig);
}

TEST(h2, response_that_is_cut_is_reset)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_GET, true);
    h2_headers(rig, 3, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write(rig, 0, "begin", false), ==, 0);
    h2_turn(rig);
    ph_exchange_reset(rig->app.ex[0], PH_H3_INTERNAL_ERROR);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 :status=200;DATA 1(begin);RST 1 2;");
    CHECK_INT(rig->app.closed_cut, ==, 1);
    CHECK_INT(h2_respond(rig, 1, 200, true), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 3 end :status=200;");
    CHECK_INT(rig->stats.protocol_errors, ==, 0); /* not the client's fault */
    h2_rig_free(rig);
}

TEST(h2, owners_codes_have_their_names_of_http2)
{
    static const struct {
        uint64_t said;
        uint32_t sent;
    } rows[] = {
        {PH_H3_NO_ERROR, NGHTTP2_NO_ERROR},
        {PH_H3_REQUEST_CANCELLED, NGHTTP2_CANCEL},
        {PH_H3_REQUEST_INCOMPLETE, NGHTTP2_CANCEL}, /* a body too slow, as body_timeout says it */
        {PH_H3_EXCESSIVE_LOAD, NGHTTP2_ENHANCE_YOUR_CALM},
        {PH_H3_FRAME_ERROR, NGHTTP2_INTERNAL_ERROR},
        {NGHTTP2_CONNECT_ERROR, NGHTTP2_CONNECT_ERROR},
    };
    struct h2_rig *rig = h2_rig_new();
    for (size_t i = 0; i < PH_COUNT_OF(rows); i++) {
        char want[32];
        uint32_t id = 2 * (uint32_t)i + 1;
        h2_headers(rig, id, H2_POST, false);
        h2_turn(rig);
        ph_exchange_reset(rig->app.ex[i], rows[i].said);
        h2_turn(rig);
        snprintf(want, sizeof(want), "RST %u %u;", id, rows[i].sent);
        H2_EXPECT(rig, wire, want);
    }
    h2_rig_free(rig);
}

TEST(h2, what_was_answered_leaves_before_a_cut_in_the_same_turn)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write(rig, 0, "begin", false), ==, 0);
    ph_exchange_reset(rig->app.ex[0], PH_H3_INTERNAL_ERROR);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 :status=200;DATA 1(begin);RST 1 2;");
    CHECK_INT(rig->app.closed_cut, ==, 1);
    h2_rig_free(rig);
}

TEST(h2, client_that_cancels_ends_its_exchange_with_its_code)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_POST, false);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write(rig, 0, "begin", false), ==, 0);
    h2_rst(rig, 1, NGHTTP2_CANCEL);
    h2_turn(rig);
    CHECK_INT(rig->app.closed_cut, ==, 1);
    CHECK_INT(rig->app.last_code, ==, NGHTTP2_CANCEL);
    CHECK(strstr(rig->wire, "DATA") == NULL);
    h2_rig_free(rig);
}

TEST(h2, request_that_is_cancelled_in_the_same_read_never_reaches_the_application)
{
    struct h2_rig *rig = h2_rig_new();
    for (uint32_t id = 1; id < 201; id += 2) {
        size_t n;
        uint8_t *block = h2_block(rig, H2_GET, &n), frame[512];
        ph_u32_put(frame, (uint32_t)n << 8);
        frame[3] = NGHTTP2_HEADERS;
        frame[4] = NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM;
        ph_u32_put(frame + 5, id);
        memcpy(frame + 9, block, n);
        uint8_t *p = frame + 9 + n;
        p = ph_u32_put(p, 4 << 8);
        p[-1] = NGHTTP2_RST_STREAM;
        *p++ = 0;
        p = ph_u32_put(p, id);
        p = ph_u32_put(p, NGHTTP2_CANCEL);
        h2_bytes(rig, frame, (size_t)(p - frame));
        ph_free(block);
    }
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 0);
    CHECK_INT(rig->goaways, ==, 0);
    h2_rig_free(rig);
}

TEST(h2, reader_that_stopped_gets_no_more_body_and_can_still_answer)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_POST, false);
    h2_data(rig, 1, "abc", false);
    h2_turn(rig);
    ph_exchange_stop(rig->app.ex[0], 0);
    h2_data(rig, 1, "def", true);
    h2_turn(rig);
    CHECK_INT(rig->app.body_bytes, ==, 3);
    CHECK_INT(h2_respond(rig, 0, 200, true), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 end :status=200;");
    CHECK_INT(rig->app.closed_clean, ==, 1);
    h2_rig_free(rig);
}

/* --- CONNECT --- */

TEST(h2, extended_connect_is_an_exchange_without_limits)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.max_body = 4;
    h2_rig_start(rig);
    h2_hello(rig);
    h2_headers(rig, 1,
               ":method: CONNECT\n:protocol: websocket\n:scheme: https\n:authority: h\n"
               ":path: /chat\nsec-websocket-version: 13\n",
               false);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 1);
    CHECK_STR(rig->app.ex[0]->head.protocol, "websocket");
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    h2_data(rig, 1, "more than four", false);
    h2_pass(rig, rig->config.body_timeout + 1);
    CHECK_INT(rig->app.body_bytes, ==, 14);
    CHECK_INT(h2_write(rig, 0, "back", false), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 :status=200;DATA 1(back);");
    h2_data(rig, 1, "", true);
    CHECK_INT(h2_write(rig, 0, "bye", true), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "DATA 1 end(bye);");
    CHECK_INT(rig->app.closed_clean, ==, 1);
    h2_rig_free(rig);
}

TEST(h2, E13_tunnel_that_dies_ends_its_stream_alone)
{
    static const char ask[] = ":method: CONNECT\n:protocol: websocket\n:scheme: https\n"
                              ":authority: h\n:path: /chat\nsec-websocket-version: 13\n";
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_GET, true);
    for (uint32_t id = 3; id <= 7; id += 2)
        h2_headers(rig, id, ask, false);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 4);
    for (size_t i = 1; i < 4; i++) {
        CHECK_INT(ph_exchange_upgrade(rig->app.ex[i], NULL, 0), ==, 0);
        CHECK_INT(h2_write(rig, i, "frames", false), ==, 0);
    }
    h2_turn(rig);
    h2_rst(rig, 3, NGHTTP2_CANCEL);                                /* by the client */
    ph_exchange_reset(rig->app.ex[2], PH_H3_INTERNAL_ERROR);       /* by us */
    h2_data(rig, 7, "\xff\xff\xff, which is no WebSocket", false); /* nothing of ours here */
    h2_turn(rig);
    CHECK_INT(rig->app.closed_cut, ==, 2);
    CHECK(rig->app.ex[0] != NULL && rig->app.ex[3] != NULL);
    CHECK_INT(h2_respond(rig, 0, 200, true), ==, 0);
    h2_headers(rig, 9, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    CHECK_INT(rig->app.count, ==, 5);
    CHECK_INT(rig->goaways, ==, 0);
    h2_rig_free(rig);
}

TEST(h2, other_tunnels_are_refused)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, ":method: CONNECT\n:authority: h:1\n", true);
    h2_headers(rig, 3,
               ":method: CONNECT\n:protocol: connect-udp\n:scheme: https\n"
               ":authority: h\n:path: /\n",
               true);
    h2_turn(rig);
    H2_EXPECT(rig, wire,
              "HEADERS 1 end :status=405 content-length=0 "
              "allow=GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS;"
              "HEADERS 3 end :status=501 content-length=0;");
    CHECK_INT(rig->app.count, ==, 0);
    h2_rig_free(rig);
}

/* --- The end --- */

TEST(h2, drain_says_goaway_twice_and_serves_what_comes_between)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    rig->engine->ops->drain(rig->engine);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "PING;GOAWAY 2147483647 0;");
    h2_headers(rig, 3, H2_GET, true); /* it crossed our word */
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 2);
    h2_frame(rig, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "\0\0\0\0\0\0\0\0", 8);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "GOAWAY 3 0;");
    h2_headers(rig, 5, H2_POST, false); /* it does not count any more */
    h2_data(rig, 5, "body of nobody", false);
    h2_headers(rig, 5, "x: trailer\n", true);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 2);
    CHECK_INT(rig->stats.protocol_errors, ==, 0);
    CHECK(!h2_is_done(rig, NULL));
    CHECK_INT(h2_respond(rig, 0, 200, true), ==, 0);
    CHECK_INT(h2_respond(rig, 1, 200, true), ==, 0);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 1 end :status=200;HEADERS 3 end :status=200;");
    bool abort = true;
    CHECK(h2_is_done(rig, &abort) && !abort);
    CHECK_INT(rig->app.closed_clean, ==, 2);
    h2_rig_free(rig);
}

TEST(h2, drain_of_an_idle_connection_does_not_wait_for_its_peer)
{
    struct h2_rig *rig = h2_rig_new();
    rig->engine->ops->drain(rig->engine);
    h2_turn(rig);
    CHECK(!h2_is_done(rig, NULL));
    CHECK_INT(rig->engine->ops->next(rig->engine), ==, rig->now + PH_SEC);
    h2_pass(rig, PH_SEC);
    CHECK_INT(rig->goaways, ==, 2);
    CHECK(h2_is_done(rig, NULL));
    h2_rig_free(rig);
}

/* Nobody told the engine the time since the client's last word. */
TEST(h2, drain_after_a_silence_waits_for_the_round_trip_too)
{
    struct h2_rig *rig = h2_rig_new();
    rig->now += rig->config.idle_timeout / 2;
    rig->engine->ops->drain(rig->engine);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "PING;GOAWAY 2147483647 0;");
    CHECK(!h2_is_done(rig, NULL));
    CHECK_INT(rig->engine->ops->next(rig->engine), ==, rig->now + PH_SEC);
    h2_rig_free(rig);
}

TEST(h2, peer_that_says_goaway_is_served_and_left)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_GET, true);
    h2_frame(rig, NGHTTP2_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 1);
    CHECK(!h2_is_done(rig, NULL));
    CHECK_INT(h2_respond(rig, 0, 200, true), ==, 0);
    h2_turn(rig);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    CHECK(h2_is_done(rig, NULL));
    h2_rig_free(rig);
}

TEST(h2, end_of_input_is_the_clients_departure)
{
    struct h2_rig *rig = h2_rig_new();
    bool abort = true;
    rig->engine->ops->eof(rig->engine, rig->now);
    CHECK(h2_is_done(rig, &abort) && !abort);
    h2_rig_free(rig);
    rig = h2_rig_new();
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    rig->engine->ops->eof(rig->engine, rig->now);
    CHECK(h2_is_done(rig, &abort) && abort);
    h2_rig_free(rig);
}

TEST(h2, inadequate_security_is_said)
{
    struct h2_rig *rig = h2_rig_bare();
    h2_rig_start(rig);
    ph_h2_conn_refuse(rig->engine);
    h2_turn(rig);
    CHECK_INT(rig->last_goaway, ==, NGHTTP2_INADEQUATE_SECURITY);
    CHECK(h2_is_done(rig, NULL));
    CHECK(!rig->engine->ops->wants_input(rig->engine));
    h2_rig_free(rig);
}
