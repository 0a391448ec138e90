/* test_h2_limits.c - what one HTTP/2 connection may cost: each limit at its value and one past it,
 * each clock, and a busy honest client that meets none of them. */
#include "h2_rig.h"

/* --- Streams --- */

TEST(h2_limits, streams_at_once)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.max_streams = 3;
    h2_rig_start(rig);
    h2_hello(rig);
    for (uint32_t id = 1; id <= 7; id += 2)
        h2_headers(rig, id, H2_POST, false);
    h2_data(rig, 7, "for nobody", true); /* it could not know */
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 3);
    CHECK_INT(rig->app.body_bytes, ==, 0);
    H2_EXPECT(rig, wire, "RST 7 7;");
    CHECK_INT(rig->stats.limit_streams, ==, 1);
    h2_data(rig, 3, "", true);
    CHECK_INT(h2_respond(rig, 1, 200, true), ==, 0);
    h2_turn(rig);
    h2_headers(rig, 9, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 4);
    CHECK_INT(rig->goaways, ==, 0);
    h2_rig_free(rig);
}

TEST(h2_limits, stream_counts_until_its_response_has_left)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.max_streams = 1;
    rig->app.echo = true;
    h2_rig_start(rig);
    h2_hello(rig);
    rig->no_reading = true;
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    h2_headers(rig, 3, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 1);
    rig->no_reading = false;
    h2_turn(rig);
    h2_headers(rig, 5, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 2);
    h2_rig_free(rig);
}

/* --- Heads --- */

/* A head block in `frames` CONTINUATION frames of one byte each after the first of the rest. */
static void split_head(struct h2_rig *rig, uint32_t id, const char *lines, size_t frames)
{
    size_t n;
    uint8_t *block = h2_block(rig, lines, &n);
    CHECK(n > frames);
    h2_frame(rig, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, id, block, n - frames);
    for (size_t i = 0; i < frames; i++)
        h2_frame(rig, NGHTTP2_CONTINUATION, i + 1 == frames ? NGHTTP2_FLAG_END_HEADERS : 0, id,
                 block + n - frames + i, 1);
    ph_free(block);
    h2_turn(rig);
}

TEST(h2_limits, continuation_frames)
{
    static const size_t steps[] = {SIZE_MAX, 1};
    for (size_t i = 0; i < PH_COUNT_OF(steps); i++) {
        struct h2_rig *rig = h2_rig_new();
        rig->step = steps[i];
        split_head(rig, 1, H2_GET "a: 1\nb: 2\n", 8);
        split_head(rig, 3, H2_GET "c: 1\nd: 2\n", 8);
        CHECK_INT(rig->app.count, ==, 2);
        split_head(rig, 5, H2_GET "e: 1\nf: 2\n", 9);
        CHECK_INT(rig->app.count, ==, 2);
        CHECK_INT(rig->last_goaway, ==, NGHTTP2_ENHANCE_YOUR_CALM);
        CHECK_INT(rig->stats.limit_head, ==, 1);
        h2_rig_free(rig);
    }
}

TEST(h2_limits, encoded_head_bytes)
{
    for (size_t over = 0; over < 2; over++) {
        struct h2_rig *rig = h2_rig_bare();
        size_t n;
        uint8_t *block = h2_block(rig, H2_GET "x: some value that takes a few bytes\n", &n);
        rig->config.head_encoded = n - over;
        h2_rig_start(rig);
        h2_hello(rig);
        h2_frame(rig, NGHTTP2_HEADERS, 0, 1, block, 5);
        h2_frame(rig, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, block + 5, n - 5);
        h2_turn(rig);
        CHECK_INT(rig->app.count, ==, 1 - over);
        CHECK_INT(rig->goaways, ==, over);
        CHECK_INT(rig->stats.limit_head, ==, over);
        ph_free(block);
        h2_rig_free(rig);
    }
}

TEST(h2_limits, decoded_head_gets_431_without_the_application)
{
    enum { COST = 7 + 3 + 7 + 5 + 10 + 1 + 5 + 1 + 4 * 32 }; /* of H2_GET */
    struct h2_rig *rig = h2_rig_bare();
    rig->config.limits.head_bytes = COST + 32 + 1 + 10;
    rig->config.limits.head_fields = 2;
    rig->config.limits.target_bytes = 8;
    h2_rig_start(rig);
    h2_hello(rig);
    h2_headers(rig, 1, H2_GET "x: 0123456789\n", true);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 1);
    h2_headers(rig, 3, H2_GET "x: 0123456789a\n", true);
    h2_headers(rig, 5, H2_POST "x: 0123456789ab\n", false); /* its body is not wanted either */
    h2_turn(rig);
    H2_EXPECT(rig, wire,
              "HEADERS 3 end :status=431 content-length=0;"
              "HEADERS 5 end :status=431 content-length=0;RST 5 0;");
    CHECK_INT(rig->app.count, ==, 1);
    CHECK_INT(rig->stats.limit_head, ==, 2);
    rig->config.limits.head_bytes = 65536;
    h2_headers(rig, 7, H2_GET "a: 1\nb: 2\n", true);
    h2_headers(rig, 9, H2_GET "a: 1\nb: 2\nc: 3\n", true);
    h2_headers(rig, 11, ":method: GET\n:scheme: https\n:authority: h\n:path: /2345678\n", true);
    h2_headers(rig, 13, ":method: GET\n:scheme: https\n:authority: h\n:path: /23456789\n", true);
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 3);
    H2_EXPECT(rig, wire,
              "HEADERS 9 end :status=431 content-length=0;"
              "HEADERS 13 end :status=414 content-length=0;");
    CHECK_INT(rig->stats.limit_head, ==, 4);
    CHECK_INT(rig->goaways, ==, 0);
    h2_rig_free(rig);
}

TEST(h2_limits, hpack_bomb_ends_the_connection)
{
    struct h2_rig *rig = h2_rig_new();
    char line[3000];
    memset(line, 'b', sizeof(line));
    memcpy(line, H2_GET "x: ", strlen(H2_GET) + 3);
    memcpy(line + sizeof(line) - 2, "\n", 2);
    h2_headers(rig, 1, line, true); /* x is in the table now, as its first entry */
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 1);
    size_t n;
    uint8_t *block = h2_block(rig, H2_GET, &n), bomb[16384];
    memset(bomb, 0xbe, sizeof(bomb)); /* entry 62, which is it */
    memcpy(bomb, block, n);
    h2_frame(rig, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 3, bomb, sizeof(bomb));
    h2_turn(rig);
    CHECK_INT(rig->app.count, ==, 1);
    CHECK_INT(rig->last_goaway, ==, NGHTTP2_ENHANCE_YOUR_CALM);
    CHECK_INT(rig->stats.limit_head, ==, 1);
    ph_free(block);
    h2_rig_free(rig);
}

TEST(h2_limits, trailers_too_large_cost_their_stream)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.limits.head_fields = 1;
    h2_rig_start(rig);
    h2_hello(rig);
    h2_headers(rig, 1, H2_POST, false);
    h2_headers(rig, 1, "a: 1\n", true);
    h2_headers(rig, 3, H2_POST, false);
    h2_headers(rig, 3, "a: 1\nb: 2\n", true);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "RST 3 11;");
    CHECK_STR(rig->app.log, "POST h /p;trailers a=1;end;POST h /p;");
    CHECK_INT(rig->stats.limit_head, ==, 1);
    h2_rig_free(rig);
}

/* --- Bodies --- */

TEST(h2_limits, body_bytes)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.max_body = 4;
    h2_rig_start(rig);
    h2_hello(rig);
    h2_headers(rig, 1, H2_POST "content-length: 4\n", false);
    h2_data(rig, 1, "1234", true);
    h2_headers(rig, 3, H2_POST, false);
    h2_data(rig, 3, "1234", true);
    h2_turn(rig);
    CHECK_STR(rig->app.log, "POST h /p;body(1234)end;POST h /p;body(1234)end;");
    CHECK_INT(rig->stats.limit_body, ==, 0);
    h2_headers(rig, 5, H2_POST "content-length: 5\n", false);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 5 end :status=413 content-length=0;RST 5 0;");
    CHECK_INT(rig->app.count, ==, 2);
    h2_headers(rig, 7, H2_POST, false);
    h2_data(rig, 7, "12", false);
    h2_data(rig, 7, "345", true);
    h2_turn(rig);
    CHECK_INT(rig->app.closed_cut, ==, 1);
    H2_EXPECT(rig, wire, "HEADERS 7 end :status=413 content-length=0;");
    h2_headers(rig, 9, H2_POST, false);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 3, 200, false), ==, 0);
    h2_turn(rig);
    h2_data(rig, 9, "12345", true);
    h2_turn(rig);
    H2_EXPECT(rig, wire, "HEADERS 9 :status=200;RST 9 11;");
    CHECK_INT(rig->stats.limit_body, ==, 3);
    CHECK_INT(rig->goaways, ==, 0);
    h2_rig_free(rig);
}

/* --- Resets --- */

static void cancelled(struct h2_rig *rig, uint32_t id)
{
    h2_headers(rig, id, H2_GET, true);
    h2_rst(rig, id, NGHTTP2_CANCEL);
}
static void wrong_length(struct h2_rig *rig, uint32_t id)
{
    h2_headers(rig, id, H2_POST "content-length: 1\n", false);
    h2_data(rig, id, "12", true);
}
static void malformed(struct h2_rig *rig, uint32_t id)
{
    h2_headers(rig, id, H2_GET "connection: x\n", true);
}
static void window_overflow(struct h2_rig *rig, uint32_t id)
{
    h2_headers(rig, id, H2_GET, true);
    h2_window(rig, id, 0x7fffffff);
}
static void bad_trailers(struct h2_rig *rig, uint32_t id)
{
    h2_headers(rig, id, H2_POST, false);
    h2_headers(rig, id, ":path: /\n", true);
}
static void one_too_many(struct h2_rig *rig, uint32_t id)
{
    h2_headers(rig, id, H2_GET, false);
}

/* CVE-2023-44487 and CVE-2025-8671: whoever resets, the client pays. */
TEST(h2_limits, resets_have_one_budget_whoever_says_them)
{
    static void (*const acts[])(struct h2_rig * rig, uint32_t id) = {
        cancelled, wrong_length, malformed, window_overflow, bad_trailers, one_too_many};
    enum { BURST = 20 };
    for (size_t i = 0; i <= PH_COUNT_OF(acts); i++) { /* each alone, then in turns */
        struct h2_rig *rig = h2_rig_bare();
        rig->config.reset_burst = BURST;
        rig->config.reset_rate = 10;
        rig->config.glitch_burst = 100;
        if (i < PH_COUNT_OF(acts) && acts[i] == one_too_many)
            rig->config.max_streams = 1;
        h2_rig_start(rig);
        h2_hello(rig);
        uint32_t id = 1;
        if (rig->config.max_streams == 1)
            one_too_many(rig, id), id += 2; /* not yet */
        for (int k = 0; k < BURST; k++, id += 2) {
            acts[i < PH_COUNT_OF(acts) ? i : (size_t)k % 5](rig, id);
            h2_turn(rig);
        }
        if (rig->goaways != 0)
            ph_test_fail(__FILE__, __LINE__, "act %zu: %s", i, rig->wire);
        CHECK_INT(rig->stats.limit_cancel, ==, 0);
        h2_pass(rig, 101 * PH_MSEC); /* one more is free now */
        acts[i % PH_COUNT_OF(acts)](rig, id);
        h2_turn(rig);
        if (i < PH_COUNT_OF(acts))
            CHECK_INT(rig->goaways, ==, 0);
        acts[i < PH_COUNT_OF(acts) ? i : 0](rig, id + 2);
        h2_turn(rig);
        if (rig->last_goaway != NGHTTP2_ENHANCE_YOUR_CALM)
            ph_test_fail(__FILE__, __LINE__, "act %zu: %s", i, rig->wire);
        CHECK_INT(rig->stats.limit_cancel, ==, 1);
        CHECK(h2_is_done(rig, NULL));
        h2_rig_free(rig);
    }
}

TEST(h2_limits, resets_of_the_application_are_not_the_clients)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.reset_burst = 2;
    h2_rig_start(rig);
    h2_hello(rig);
    for (uint32_t i = 0; i < 20; i++) {
        h2_headers(rig, 2 * i + 1, H2_POST, false);
        h2_turn(rig);
        if (i % 2 == 0)
            ph_exchange_reset(rig->app.ex[i], PH_H3_INTERNAL_ERROR);
        else
            CHECK_INT(h2_respond(rig, i, 200, true), ==, 0); /* early: RST_STREAM NO_ERROR */
        h2_turn(rig);
    }
    CHECK_INT(rig->goaways, ==, 0);
    CHECK_INT(rig->resets, ==, 20);
    h2_rig_free(rig);
}

TEST(h2_limits, rapid_reset_reaches_the_application_a_bounded_number_of_times)
{
    struct h2_rig *rig = h2_rig_new();
    uint32_t id = 1;
    for (int i = 0; i < 100000 && rig->engine->ops->wants_input(rig->engine); i++, id += 2) {
        cancelled(rig, id);
        if (i % 100 == 0)
            h2_turn(rig);
    }
    h2_turn(rig);
    CHECK_INT(rig->app.count, <=, 1001);
    CHECK_INT(rig->last_goaway, ==, NGHTTP2_ENHANCE_YOUR_CALM);
    CHECK_INT(rig->app.closed_cut, ==, rig->app.count);
    h2_rig_free(rig);
}

/* --- Frames without progress --- */

static void ping(struct h2_rig *rig)
{
    h2_frame(rig, NGHTTP2_PING, 0, 0, "12345678", 8);
}
static void pong(struct h2_rig *rig)
{
    h2_frame(rig, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "12345678", 8);
}
static void settings(struct h2_rig *rig)
{
    h2_frame(rig, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
}
static void empty_data(struct h2_rig *rig)
{
    h2_data(rig, 1, "", false);
}
static void priority(struct h2_rig *rig)
{
    h2_frame(rig, NGHTTP2_PRIORITY, 0, 1, "\0\0\0\3\x10", 5);
}
static void unknown(struct h2_rig *rig)
{
    h2_frame(rig, 0xee, 0, 0, NULL, 0);
}
static void update(struct h2_rig *rig)
{
    h2_window(rig, 0, 1);
}

TEST(h2_limits, frames_without_progress_have_a_budget)
{
    static void (*const acts[])(struct h2_rig * rig) = {ping,     pong,    settings, empty_data,
                                                        priority, unknown, update};
    enum { BURST = 20 };
    for (size_t i = 0; i <= PH_COUNT_OF(acts); i++) {
        struct h2_rig *rig = h2_rig_bare();
        rig->config.glitch_burst = BURST + 1; /* the first SETTINGS is one */
        rig->config.glitch_rate = 10;
        h2_rig_start(rig);
        h2_hello(rig);
        h2_headers(rig, 1, H2_POST, false);
        for (size_t k = 0; k < BURST; k++)
            acts[i < PH_COUNT_OF(acts) ? i : k % PH_COUNT_OF(acts)](rig);
        h2_turn(rig);
        CHECK_INT(rig->goaways, ==, 0);
        h2_pass(rig, 101 * PH_MSEC);
        acts[i % PH_COUNT_OF(acts)](rig);
        h2_turn(rig);
        CHECK_INT(rig->goaways, ==, 0);
        acts[i % PH_COUNT_OF(acts)](rig);
        h2_turn(rig);
        CHECK_INT(rig->last_goaway, ==, NGHTTP2_ENHANCE_YOUR_CALM);
        CHECK_INT(rig->stats.limit_glitch, ==, 1);
        h2_rig_free(rig);
    }
}

TEST(h2_limits, windows_for_what_was_sent_are_free)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.glitch_burst = 8;
    rig->config.glitch_rate = 1;
    h2_rig_start(rig);
    h2_hello(rig);
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write_zeros(rig, 0, 1000000, true), ==, 0);
    h2_turn(rig);
    for (size_t seen = 0; rig->data_bytes > seen && rig->goaways == 0;) {
        size_t n = rig->data_bytes - seen; /* returned in steps of 1024 on both levels */
        seen = rig->data_bytes;
        for (size_t i = 0; i < n; i += 1024) {
            h2_window(rig, 1, (uint32_t)PH_MIN(1024, n - i));
            h2_window(rig, 0, (uint32_t)PH_MIN(1024, n - i));
        }
        h2_turn(rig);
    }
    CHECK_INT(rig->data_bytes, ==, 1000000);
    CHECK_INT(rig->goaways, ==, 0);
    h2_rig_free(rig);
}

TEST(h2_limits, settings_entries)
{
    static const uint8_t entries[33 * 6] = {0xf0, 0xf0}; /* the others are id 0, value 0 */
    struct h2_rig *rig = h2_rig_new();
    h2_frame(rig, NGHTTP2_SETTINGS, 0, 0, entries, 32 * 6);
    h2_turn(rig);
    CHECK_INT(rig->goaways, ==, 0);
    h2_frame(rig, NGHTTP2_SETTINGS, 0, 0, entries, 33 * 6);
    h2_turn(rig);
    CHECK_INT(rig->last_goaway, ==, NGHTTP2_ENHANCE_YOUR_CALM);
    CHECK_INT(rig->stats.limit_frames, ==, 1);
    h2_rig_free(rig);
}

TEST(h2_limits, replies_that_nobody_reads)
{
    enum { REPLIES = 50 };
    struct h2_rig *rig = h2_rig_bare();
    rig->config.replies_max = REPLIES;
    h2_rig_start(rig);
    h2_hello(rig);
    h2_setting(rig, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20);
    h2_window(rig, 0, 1 << 20);
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    rig->no_reading = true;
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write_zeros(rig, 0, 200000, true), ==, 0);
    h2_turn(rig); /* the out queue is full */
    for (int i = 0; i < REPLIES; i++)
        ping(rig);
    h2_turn(rig);
    CHECK(!h2_is_done(rig, NULL));
    CHECK_INT(rig->stats.limit_frames, ==, 0);
    ping(rig);
    h2_turn(rig);
    CHECK(h2_is_done(rig, NULL));
    CHECK_INT(rig->stats.limit_frames, ==, 1);
    CHECK_INT(rig->out.unsent, <=, PH_H2_OUT_MAX + 40000);
    h2_rig_free(rig);
}

/* --- Clocks --- */

TEST(h2_limits, preface_has_a_deadline)
{
    struct h2_rig *rig = h2_rig_bare();
    h2_rig_start(rig);
    h2_bytes(rig, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN - 1);
    h2_pass(rig, rig->config.header_timeout - 1);
    CHECK(!h2_is_done(rig, NULL));
    h2_pass(rig, 1);
    CHECK(h2_is_done(rig, NULL));
    CHECK_INT(rig->stats.timeouts_header, ==, 1);
    h2_rig_free(rig);
}

TEST(h2_limits, head_has_a_deadline_that_its_pieces_do_not_move)
{
    struct h2_rig *rig = h2_rig_new();
    h2_frame(rig, NGHTTP2_HEADERS, 0, 1, "\x82", 1);
    h2_pass(rig, rig->config.header_timeout / 2);
    h2_frame(rig, NGHTTP2_CONTINUATION, 0, 1, "\x87", 1);
    h2_pass(rig, rig->config.header_timeout / 2 - 1);
    CHECK_INT(rig->goaways, ==, 0);
    h2_pass(rig, 1);
    CHECK_INT(rig->last_goaway, ==, NGHTTP2_ENHANCE_YOUR_CALM);
    CHECK_INT(rig->stats.timeouts_header, ==, 1);
    h2_rig_free(rig);
}

TEST(h2_limits, head_in_one_frame_has_the_same_deadline)
{
    struct h2_rig *rig = h2_rig_new();
    static const uint8_t begin[] = {0, 0, 6, NGHTTP2_HEADERS, 5, 0, 0, 0, 1, 0x82, 0x87, 0x84};
    h2_bytes(rig, begin, sizeof(begin));
    h2_pass(rig, rig->config.header_timeout - 1);
    CHECK_INT(rig->goaways, ==, 0);
    h2_pass(rig, 1);
    CHECK_INT(rig->last_goaway, ==, NGHTTP2_ENHANCE_YOUR_CALM);
    CHECK_INT(rig->stats.timeouts_header, ==, 1);
    CHECK_INT(rig->app.count, ==, 0);
    h2_rig_free(rig);
}

TEST(h2_limits, body_that_stands_still_gets_408)
{
    struct h2_rig *rig = h2_rig_new();
    uint64_t half = rig->config.body_timeout / 2;
    h2_headers(rig, 1, H2_POST, false);
    h2_headers(rig, 3, H2_POST, false);
    h2_turn(rig);
    h2_pass(rig, half);
    h2_data(rig, 3, "x", false); /* it is slow, not silent */
    h2_pass(rig, half);
    H2_EXPECT(rig, wire, "HEADERS 1 end :status=408 content-length=0;RST 1 0;");
    CHECK_INT(rig->app.closed_cut, ==, 1);
    CHECK_INT(h2_respond(rig, 1, 200, false), ==, 0);
    h2_turn(rig);
    h2_pass(rig, half);
    H2_EXPECT(rig, wire, "HEADERS 3 :status=200;RST 3 8;"); /* too late for a status */
    CHECK_INT(rig->stats.timeouts_body, ==, 2);
    h2_rig_free(rig);
}

/* What waits for a slow reader is not cut because the rest of its request does not come. */
TEST(h2_limits, body_that_stands_still_does_not_cut_a_complete_response)
{
    for (int is_begun = 0; is_begun < 2; is_begun++) {
        struct h2_rig *rig = h2_rig_new();
        h2_headers(rig, 1, H2_POST, false);
        if (is_begun)
            h2_data(rig, 1, "x", false); /* the clock ran before the response did */
        h2_turn(rig);
        CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
        CHECK_INT(h2_write_zeros(rig, 0, 100000, true), ==, 0); /* the window is 65535 */
        h2_turn(rig);
        if (is_begun)
            h2_data(rig, 1, "x", false);
        h2_pass(rig, rig->config.body_timeout + PH_SEC);
        CHECK_INT(rig->resets, ==, 0);
        CHECK_INT(rig->stats.timeouts_body, ==, 0);
        h2_window(rig, 0, 100000);
        h2_window(rig, 1, 100000);
        h2_turn(rig);
        CHECK_INT(rig->data_bytes, ==, 100000);
        CHECK_INT(rig->last_reset, ==, NGHTTP2_NO_ERROR);
        CHECK_INT(rig->app.closed_clean, ==, 1);
        h2_rig_free(rig);
    }
}

TEST(h2_limits, body_may_wait_while_the_application_does_not_read)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->app.no_consume = true;
    h2_rig_start(rig);
    h2_hello(rig);
    h2_headers(rig, 1, H2_POST, false);
    h2_data(rig, 1, "x", false);
    h2_pass(rig, 10 * rig->config.body_timeout);
    CHECK_INT(rig->app.closed_cut, ==, 0);
    ph_exchange_consume(rig->app.ex[0], 1);
    h2_turn(rig);
    h2_pass(rig, rig->config.body_timeout - 1);
    CHECK_INT(rig->app.closed_cut, ==, 0);
    h2_pass(rig, 1);
    CHECK_INT(rig->app.closed_cut, ==, 1);
    h2_rig_free(rig);
}

/* Nothing is due while the application thinks, so nobody tells the engine the time: what it says
 * then is the first to happen for long. */
static void think(struct h2_rig *rig, uint64_t ns)
{
    CHECK(rig->engine->ops->next(rig->engine) > rig->now + ns);
    rig->now += ns;
}

TEST(h2_limits, body_is_waited_for_from_when_the_application_has_read)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->app.no_consume = true;
    h2_rig_start(rig);
    h2_hello(rig);
    h2_headers(rig, 1, H2_POST, false);
    h2_headers(rig, 3, H2_POST, false);
    h2_data(rig, 1, "x", false);
    h2_data(rig, 3, "x", false);
    h2_turn(rig);
    think(rig, 10 * rig->config.body_timeout);
    ph_exchange_consume(rig->app.ex[0], 1);
    ph_exchange_consume(rig->app.ex[1], 1);
    h2_turn(rig);
    CHECK_INT(rig->app.closed_cut, ==, 0);
    h2_pass(rig, rig->config.body_timeout - 1);
    CHECK_INT(rig->app.closed_cut, ==, 0);
    h2_pass(rig, 1);
    CHECK_INT(rig->app.closed_cut, ==, 2);
    h2_rig_free(rig);
}

TEST(h2_limits, response_stands_still_from_when_the_application_gave_it)
{
    struct h2_rig *rig = h2_rig_new();
    uint64_t timeout = rig->config.write_stall_timeout;
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    think(rig, 10 * timeout);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write_zeros(rig, 0, 100000, true), ==, 0); /* more than the window */
    h2_turn(rig);
    CHECK_INT(rig->data_bytes, ==, 65535);
    CHECK_INT(rig->app.closed_cut, ==, 0);
    for (int i = 0; i < 7; i++)
        h2_pass(rig, timeout / 8);
    CHECK_INT(rig->app.closed_cut, ==, 0);
    h2_pass(rig, timeout / 8);
    CHECK_INT(rig->app.closed_cut, ==, 1);
    h2_rig_free(rig);
}

TEST(h2_limits, idle_connections_end_and_busy_ones_do_not)
{
    struct h2_rig *rig = h2_rig_new();
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    h2_pass(rig, 10 * rig->config.idle_timeout);
    CHECK_INT(rig->goaways, ==, 0);
    CHECK_INT(h2_respond(rig, 0, 200, true), ==, 0);
    h2_turn(rig);
    h2_pass(rig, rig->config.idle_timeout - 1);
    CHECK_INT(rig->goaways, ==, 0);
    h2_pass(rig, 1);
    CHECK_INT(rig->goaways, ==, 1);
    CHECK_INT(rig->last_goaway, ==, NGHTTP2_NO_ERROR);
    bool abort = true;
    CHECK(h2_is_done(rig, &abort) && !abort);
    CHECK_INT(rig->stats.timeouts_idle, ==, 1);
    h2_rig_free(rig);
}

/* A response of n bytes with a window for none. */
static struct h2_rig *without_window(size_t n)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.write_stall_timeout = 8 * PH_SEC;
    rig->config.min_send_rate = 100;
    h2_rig_start(rig);
    h2_hello(rig);
    h2_setting(rig, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    h2_headers(rig, 1, H2_GET, true);
    h2_headers(rig, 3, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write_zeros(rig, 0, n, true), ==, 0);
    h2_turn(rig);
    return rig;
}

/* Seconds until it is given up. */
static int wait_for_reset(struct h2_rig *rig, size_t window_each_second)
{
    for (int seconds = 1; seconds < 60; seconds++) {
        if (window_each_second > 0)
            h2_window(rig, 1, (uint32_t)window_each_second);
        h2_turn(rig);
        h2_pass(rig, PH_SEC);
        if (rig->app.closed_cut > 0)
            return seconds;
    }
    return 0;
}

TEST(h2_limits, response_without_a_window_costs_its_stream_only)
{
    struct h2_rig *rig = without_window(2);
    CHECK_INT(wait_for_reset(rig, 0), ==, 8);
    CHECK_INT(rig->last_reset, ==, NGHTTP2_CANCEL);
    CHECK_INT(rig->stats.timeouts_write, ==, 1);
    CHECK_INT(h2_respond(rig, 1, 200, true), ==, 0);
    h2_turn(rig);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    CHECK_INT(rig->stats.limit_cancel, ==, 0);
    h2_rig_free(rig);
}

/* An empty DATA frame with END_STREAM is held back by a window of nothing, too. */
TEST(h2_limits, end_without_a_window_is_not_waited_for_for_ever)
{
    struct h2_rig *rig = h2_rig_new();
    h2_setting(rig, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20);
    h2_headers(rig, 1, H2_GET, true);
    h2_headers(rig, 3, H2_GET, true);
    h2_turn(rig);
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write_zeros(rig, 0, 65535, true), ==, 0); /* the window of the connection */
    h2_turn(rig);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    CHECK_INT(h2_respond(rig, 1, 200, false), ==, 0);
    CHECK_INT(h2_write(rig, 1, "", true), ==, 0);
    h2_turn(rig);
    for (int i = 0; i < 8; i++)
        h2_pass(rig, rig->config.write_stall_timeout / 8);
    CHECK_INT(rig->app.closed_clean + rig->app.closed_cut, ==, 2);
    h2_rig_free(rig);
}

TEST(h2_limits, response_that_dribbles_is_given_up_and_one_at_the_least_rate_is_not)
{
    struct h2_rig *rig = without_window(100000);
    CHECK_INT(wait_for_reset(rig, 50), ==, 15); /* each second buys half of one */
    CHECK_INT(rig->stats.timeouts_send_rate, ==, 1);
    CHECK_INT(rig->stats.timeouts_write, ==, 0);
    h2_rig_free(rig);
    rig = without_window(100000);
    CHECK_INT(wait_for_reset(rig, 100), ==, 0);
    h2_rig_free(rig);
}

TEST(h2_limits, response_that_waits_for_the_socket_is_not_given_up_here)
{
    struct h2_rig *rig = h2_rig_new();
    h2_setting(rig, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20);
    h2_window(rig, 0, 1 << 20);
    h2_headers(rig, 1, H2_GET, true);
    h2_turn(rig);
    rig->no_reading = true;
    CHECK_INT(h2_respond(rig, 0, 200, false), ==, 0);
    CHECK_INT(h2_write_zeros(rig, 0, 200000, true), ==, 0);
    for (int i = 0; i < 30; i++)
        h2_pass(rig, rig->config.write_stall_timeout / 8);
    CHECK_INT(rig->app.closed_cut, ==, 0);
    h2_rig_free(rig);
}

/* --- Honest work --- */

TEST(h2_limits, busy_honest_client_meets_none)
{
    enum { ROUNDS = 300, STREAMS = 100, BODY = 3000 };
    struct h2_rig *rig = h2_rig_new();
    char body[BODY + 1];
    memset(body, 'b', BODY);
    body[BODY] = '\0';
    rig->app.echo = true;
    uint32_t id = 1;
    size_t sent = 0;
    for (int round = 0; round < ROUNDS; round++) {
        rig->app.count = 0;
        for (int i = 0; i < STREAMS; i++, id += 2) { /* all at the same instant */
            h2_headers(rig, id, H2_POST "priority: u=2, i\nx-long: some value or other\n", false);
            h2_data(rig, id, body, true);
            sent += BODY;
        }
        ping(rig); /* it measures the path as well */
        h2_turn(rig);
        for (int i = 0; i < STREAMS; i++)
            h2_window(rig, 0, BODY);
        h2_turn(rig);
        rig->app.log_len = rig->wire_len = 0;
        CHECK_INT(rig->app.closed_clean, ==, (size_t)(round + 1) * STREAMS);
    }
    CHECK_INT(rig->data_bytes, ==, sent);
    CHECK_INT(rig->app.acked, ==, sent);
    CHECK_INT(rig->goaways + rig->resets, ==, 0);
    CHECK_INT(rig->stats.protocol_errors + rig->stats.limit_glitch + rig->stats.limit_cancel, ==,
              0);
    h2_rig_free(rig);
}
