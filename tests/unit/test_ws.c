/* test_ws.c - a WebSocket connection: messages, breaches with their codes, limits, queue, closing,
 * pings. */
#include "ws_rig.h"

enum { TEXT = 0x81, BINARY = 0x82, CLOSE = 0x88, PING = 0x89, PONG = 0x8a };
enum { TEXT_MORE = 0x01, MORE = 0x00, LAST = 0x80 };

static const size_t steps[] = {SIZE_MAX, 1, 2, 3, 7};

TEST(ws, messages_of_one_frame_and_of_many)
{
    for (size_t i = 0; i < PH_COUNT_OF(steps); i++) {
        struct ws_rig *rig = ws_rig_open();
        rig->step = steps[i];
        ws_say(rig, TEXT, "hello");
        ws_say(rig, BINARY, "");
        ws_say(rig, TEXT, ""); /* 55: a message, not no message */
        ws_say(rig, TEXT_MORE, "a");
        ws_say(rig, PING, "p");
        ws_say(rig, MORE, "");
        ws_say(rig, LAST, "b");
        CHECK_STR(rig->log, "text(hello);bytes();text();text(ab);");
        CHECK_STR(ws_out(rig), "8a(p)");
        CHECK_INT(rig->stats.protocol_errors, ==, 0);
        ws_rig_free(rig);
    }
}

TEST(ws, every_way_to_say_a_length)
{
    static const size_t lengths[] = {125, 126, 127, 65535, 65536, 100000};
    struct ws_rig *rig = ws_rig_open();
    for (size_t i = 0; i < PH_COUNT_OF(lengths); i++) {
        uint8_t *data = ph_alloc(lengths[i]);
        for (size_t k = 0; k < lengths[i]; k++)
            data[k] = (uint8_t)(k * 7);
        rig->step = 1000;
        ws_say_n(rig, BINARY, data, lengths[i]);
        CHECK_INT(rig->last->len, ==, lengths[i]);
        CHECK_MEM(rig->last->data, data, lengths[i]);
        /* And back. */
        uint8_t first, *echo = ph_alloc(lengths[i]);
        size_t n;
        CHECK_INT(ph_ws_send(rig->ws, ph_slice_of(ph_buf_copy(data, lengths[i])), false, rig->now),
                  ==, 0);
        ws_turn(rig);
        CHECK(ws_take(rig, &first, echo, lengths[i], &n));
        CHECK_INT(first, ==, BINARY);
        CHECK_INT(n, ==, lengths[i]);
        CHECK_MEM(echo, data, n);
        ph_free(echo);
        ph_free(data);
    }
    CHECK_INT(rig->messages, ==, PH_COUNT_OF(lengths));
    ws_rig_free(rig);
}

/* --- Breaches --- */

struct breach {
    const char *name, *bytes;
    size_t n;
    int code;
};
#define BREACH(name, code, bytes)                                                                  \
    {                                                                                              \
        name, bytes, sizeof(bytes) - 1, code                                                       \
    }
/* Masked with zeros, so that payloads are legible. */
#define Z "\0\0\0\0"
static const struct breach breaches[] = {
    BREACH("unmasked", 1002, "\x81\x01x"),
    BREACH("unmasked and empty", 1002, "\x81\x00"),
    BREACH("RSV1 without an extension", 1002, "\xc1\x81" Z "x"),
    BREACH("RSV2", 1002, "\xa1\x81" Z "x"),
    BREACH("RSV3", 1002, "\x91\x81" Z "x"),
    BREACH("RSV on a control frame", 1002, "\xc9\x80" Z),
    BREACH("opcode 3", 1002, "\x83\x80" Z),
    BREACH("opcode 7", 1002, "\x87\x80" Z),
    BREACH("opcode 11", 1002, "\x8b\x80" Z),
    BREACH("opcode 15", 1002, "\x8f\x80" Z),
    BREACH("nothing to continue", 1002, "\x80\x80" Z),
    BREACH("nothing to continue, more to come", 1002, "\x00\x80" Z),
    BREACH("a message within a message", 1002, "\x01\x81" Z "a\x81\x81" Z "b"),
    BREACH("a ping in fragments", 1002, "\x09\x80" Z),
    BREACH("a close in fragments", 1002, "\x08\x80" Z),
    BREACH("a ping of 126 bytes", 1002, "\x89\xfe\x00\x7e" Z),
    BREACH("length 125 in 16 bits", 1002, "\x81\xfe\x00\x7d" Z),
    BREACH("length 65535 in 64 bits", 1002, "\x81\xff\0\0\0\0\0\0\xff\xff" Z),
    BREACH("length 2^63", 1002, "\x81\xff\x80\0\0\0\0\0\0\0" Z "x"),
    BREACH("length 2^62", 1009, "\x82\xff\x40\0\0\0\0\0\0\0" Z "x"),
    BREACH("close of one byte", 1002, "\x88\x81" Z "\x03"),
    BREACH("close 0", 1002, "\x88\x82" Z "\x00\x00"),
    BREACH("close 999", 1002, "\x88\x82" Z "\x03\xe7"),
    BREACH("close 1004", 1002, "\x88\x82" Z "\x03\xec"),
    BREACH("close 1005", 1002, "\x88\x82" Z "\x03\xed"),
    BREACH("close 1006", 1002, "\x88\x82" Z "\x03\xee"),
    BREACH("close 1015", 1002, "\x88\x82" Z "\x03\xf7"),
    BREACH("close 1016", 1002, "\x88\x82" Z "\x03\xf8"),
    BREACH("close 2999", 1002, "\x88\x82" Z "\x0b\xb7"),
    BREACH("close 5000", 1002, "\x88\x82" Z "\x13\x88"),
    BREACH("close 65535", 1002, "\x88\x82" Z "\xff\xff"),
    BREACH("a reason that is not UTF-8", 1007, "\x88\x83" Z "\x03\xe8\xff"),
    BREACH("text: lone continuation", 1007, "\x81\x81" Z "\x80"),
    BREACH("text: 0xff", 1007, "\x81\x81" Z "\xff"),
    BREACH("text: overlong slash", 1007, "\x81\x82" Z "\xc0\xaf"),
    BREACH("text: overlong in three", 1007, "\x81\x83" Z "\xe0\x80\xaf"),
    BREACH("text: overlong in four", 1007, "\x81\x84" Z "\xf0\x80\x80\xaf"),
    BREACH("text: a surrogate", 1007, "\x81\x83" Z "\xed\xa0\x80"),
    BREACH("text: above U+10FFFF", 1007, "\x81\x84" Z "\xf4\x90\x80\x80"),
    BREACH("text: cut at its end", 1007, "\x81\x82" Z "\xe2\x82"),
    BREACH("text: split, then bad", 1007, "\x01\x82" Z "\xe2\x82\x80\x81" Z "\x28"),
    BREACH("text: split and never whole", 1007, "\x01\x81" Z "\xe2\x80\x81" Z "\x82"),
};

TEST(ws, G4_G5_G6_G7_every_breach_closes_with_its_code)
{
    for (size_t i = 0; i < PH_COUNT_OF(breaches); i++) {
        for (size_t k = 0; k < PH_COUNT_OF(steps); k++) {
            struct ws_rig *rig = ws_rig_open();
            char want[32];
            rig->step = steps[k];
            ws_feed(rig, breaches[i].bytes, breaches[i].n);
            const char *out = ws_out(rig);
            snprintf(want, sizeof(want), "88 %d(", breaches[i].code);
            if (strncmp(out, want, strlen(want)) != 0)
                ph_test_fail(__FILE__, __LINE__, "%s, step %zu: \"%s\"", breaches[i].name, steps[k],
                             out);
            snprintf(want, sizeof(want), "closed %d ", breaches[i].code);
            if (strncmp(rig->log, want, strlen(want)) != 0)
                ph_test_fail(__FILE__, __LINE__, "%s: told \"%s\"", breaches[i].name, rig->log);
            CHECK_INT(rig->messages, ==, 0);
            CHECK_INT(rig->stats.protocol_errors + rig->stats.limit_ws_size, ==, 1);
            ws_rig_free(rig);
        }
    }
}

/* Autobahn 6.4: it is the byte that decides, not the end of the frame or the message. */
TEST(ws, G6_text_is_refused_with_its_first_bad_byte)
{
    struct ws_rig *rig = ws_rig_open();
    rig->step = 1;
    ws_feed(rig, "\x01\x8a\0\0\0\0\xce\xba\xe1\xbd\xb9\xf4", 12);
    CHECK_STR(rig->log, "");
    ws_feed(rig, "\x90", 1); /* above U+10FFFF whatever follows */
    CHECK_STR(rig->log, "closed 1007 \"the text is not UTF-8\" local;");
    ws_rig_free(rig);
}

TEST(ws, G7_codes_that_peers_may_close_with)
{
    static const int codes[] = {1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999};
    for (size_t i = 0; i < PH_COUNT_OF(codes); i++) {
        struct ws_rig *rig = ws_rig_open();
        uint8_t data[5] = {(uint8_t)(codes[i] >> 8), (uint8_t)codes[i], 'b', 'y', 'e'};
        char want[64];
        ws_say_n(rig, CLOSE, data, 5);
        snprintf(want, sizeof(want), "closed %d \"bye\" clean;over;", codes[i]);
        CHECK_STR(rig->log, want);
        snprintf(want, sizeof(want), "88 %d(bye)", codes[i]);
        CHECK_STR(ws_out(rig), want);
        ws_rig_free(rig);
    }
}

/* --- Limits, at the value and one past it --- */

TEST(ws, G1_size_of_a_message)
{
    for (int over = 0; over < 2; over++) {
        for (int pieces = 0; pieces < 2; pieces++) {
            struct ws_rig *rig = ws_rig_new();
            uint8_t data[101] = {0};
            rig->config.max_size = 100;
            ws_rig_start(rig);
            if (pieces != 0) {
                ws_say_n(rig, 0x02, data, 60);
                ws_say_n(rig, LAST, data, (size_t)(40 + over));
            } else {
                ws_say_n(rig, BINARY, data, (size_t)(100 + over));
            }
            CHECK_INT(rig->messages, ==, 1 - over);
            CHECK_INT(rig->stats.limit_ws_size, ==, over);
            CHECK_STR(ws_out(rig), over ? "88 1009(the message is too big)" : "");
            ws_rig_free(rig);
        }
    }
}

TEST(ws, G1_frames_of_a_message)
{
    for (int over = 0; over < 2; over++) {
        struct ws_rig *rig = ws_rig_new();
        rig->config.max_frames = 5;
        ws_rig_start(rig);
        ws_say(rig, TEXT_MORE, "");
        for (int i = 0; i < 3 + over; i++)
            ws_say(rig, MORE, "");
        ws_say(rig, LAST, "");
        CHECK_INT(rig->messages, ==, 1 - over);
        CHECK_INT(rig->stats.limit_ws_frames, ==, over);
        CHECK_STR(ws_out(rig), over ? "88 1008(too many frames in a message)" : "");
        ws_rig_free(rig);
    }
}

/* 64: reading stops at the limit, at the begin of the next message; what control frames come before
 * it is still answered. */
TEST(ws, G9_full_queue_stops_messages_and_not_pings)
{
    struct ws_rig *rig = ws_rig_new();
    rig->config.max_queue = 2;
    rig->no_consume = true;
    ws_rig_start(rig);
    ws_say(rig, TEXT, "1");
    ws_say(rig, TEXT, "2");
    CHECK(ph_ws_wants_input(rig->ws));
    ws_say(rig, PING, "still");
    CHECK_STR(ws_out(rig), "8a(still)");
    CHECK_INT(rig->stats.limit_ws_queue, ==, 0);
    ws_say(rig, TEXT, "3");
    CHECK(!ph_ws_wants_input(rig->ws));
    CHECK_INT(rig->stats.limit_ws_queue, ==, 1);
    ws_say(rig, PING, "behind it");
    CHECK_STR(rig->log, "text(1);text(2);");
    CHECK_STR(ws_out(rig), "");
    ph_ws_consume(rig->ws, 1);
    CHECK(ph_ws_wants_input(rig->ws));
    ws_feed(rig, "", 0);
    CHECK_STR(rig->log, "text(1);text(2);text(3);");
    CHECK_STR(ws_out(rig), "8a(behind it)");
    ws_rig_free(rig);
}

TEST(ws, G9_bytes_of_the_queue)
{
    struct ws_rig *rig = ws_rig_new();
    rig->config.queue_bytes = 10;
    rig->no_consume = true;
    ws_rig_start(rig);
    ws_say(rig, TEXT, "123456789");
    ws_say(rig, TEXT, "x"); /* below: begun */
    CHECK_INT(rig->stats.limit_ws_queue, ==, 0);
    ws_say(rig, TEXT, "y"); /* at it: not */
    CHECK_INT(rig->stats.limit_ws_queue, ==, 1);
    CHECK_STR(rig->log, "text(123456789);text(x);");
    CHECK(!ph_ws_wants_input(rig->ws));
    ph_ws_consume(rig->ws, 1);
    ws_feed(rig, "", 0);
    CHECK_STR(rig->log, "text(123456789);text(x);text(y);");
    ws_rig_free(rig);
}

TEST(ws, G4_pongs_that_do_not_leave_are_eight)
{
    struct ws_rig *rig = ws_rig_open();
    char text[4];
    rig->keep = true;
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof(text), "%d", i);
        ws_say(rig, PING, text);
    }
    CHECK_STR(ws_out(rig), "8a(0)8a(1)8a(2)8a(3)8a(4)8a(5)8a(6)8a(7)");
    CHECK_INT(rig->stats.limit_ws_pongs, ==, 12);
    CHECK_INT(ph_ws_next(rig->ws), >, rig->now);
    rig->keep = false;
    ws_turn(rig);
    CHECK_INT(ph_ws_next(rig->ws), ==, rig->now);
    ws_wait(rig, 0);
    CHECK_STR(ws_out(rig), "8a(19)"); /* RFC 6455 5.5.3: the latest */
    ws_rig_free(rig);
}

/* --- Closing --- */

TEST(ws, peer_closes_without_a_code)
{
    struct ws_rig *rig = ws_rig_open();
    ws_say(rig, CLOSE, "");
    CHECK_STR(rig->log, "closed 1005 \"\" clean;over;");
    CHECK_STR(ws_out(rig), "88()");
    ws_rig_free(rig);
}

TEST(ws, peer_leaves)
{
    struct ws_rig *rig = ws_rig_open();
    ws_say(rig, TEXT_MORE, "half");
    ph_ws_eof(rig->ws, rig->now);
    CHECK_STR(rig->log, "closed 1006 \"\";over;");
    CHECK_STR(ws_out(rig), "");
    CHECK_INT(ph_ws_send(rig->ws, (struct ph_slice){.buf = NULL}, true, rig->now), ==, PH_E_CLOSED);
    ws_rig_free(rig);
}

TEST(ws, we_close_and_the_peer_answers)
{
    struct ws_rig *rig = ws_rig_open();
    ph_ws_close(rig->ws, 4001, "enough", 6, rig->now);
    ws_turn(rig);
    CHECK_STR(ws_out(rig), "88 4001(enough)");
    CHECK_STR(rig->log, "");
    CHECK_INT(ph_ws_send(rig->ws, (struct ph_slice){.buf = NULL}, true, rig->now), ==, PH_E_CLOSED);
    ws_say(rig, TEXT, "too late");
    ws_say(rig, PING, "too");
    ws_say_n(rig, CLOSE, "\x0f\xa1", 2);
    CHECK_STR(rig->log, "closed 4001 \"\" clean local;over;");
    CHECK_STR(ws_out(rig), "");
    ws_rig_free(rig);
}

TEST(ws, we_close_while_the_queue_is_full)
{
    struct ws_rig *rig = ws_rig_new();
    rig->config.max_queue = 1;
    rig->no_consume = true;
    ws_rig_start(rig);
    ws_say(rig, TEXT, "1");
    ws_say(rig, TEXT, "2");
    ws_say_n(rig, CLOSE, "\x03\xe8", 2);
    ph_ws_close(rig->ws, 1000, "", 0, rig->now);
    CHECK(ph_ws_wants_input(rig->ws));
    ws_feed(rig, "", 0);
    CHECK_STR(rig->log, "text(1);closed 1000 \"\" clean local;over;");
    ws_rig_free(rig);
}

TEST(ws, G7_a_peer_that_does_not_close_is_left_after_a_time)
{
    struct ws_rig *rig = ws_rig_open();
    rig->keep = true;
    ph_ws_close(rig->ws, 1000, "", 0, rig->now);
    ws_wait(rig, 60 * PH_SEC); /* it cannot have heard of it: no hurry */
    CHECK_STR(rig->log, "");
    rig->keep = false;
    ws_turn(rig);
    ws_wait(rig, 5 * PH_SEC - 1);
    CHECK_STR(rig->log, "");
    ws_wait(rig, 1);
    CHECK_STR(rig->log, "closed 1006 \"\" local;over;");
    CHECK_INT(rig->stats.timeouts_ws_close, ==, 1);
    ws_rig_free(rig);
}

TEST(ws, reasons_are_cut_at_a_character)
{
    struct ws_rig *rig = ws_rig_open();
    char reason[200];
    uint8_t first, data[200];
    size_t n;
    for (size_t i = 0; i + 2 <= sizeof(reason); i += 2)
        memcpy(reason + i, "\xc3\xa4", 2);
    ph_ws_close(rig->ws, 1000, reason, sizeof(reason), rig->now);
    CHECK(ws_take(rig, &first, data, sizeof(data), &n));
    CHECK_INT(n, ==, 2 + 122);
    ws_rig_free(rig);
}

TEST(ws, going_away_is_told_at_once)
{
    struct ws_rig *rig = ws_rig_open();
    ph_ws_go_away(rig->ws, rig->now);
    ws_turn(rig);
    CHECK_STR(rig->log, "closed 1001 \"going away\" local;");
    CHECK_STR(ws_out(rig), "88 1001(going away)");
    ws_say_n(rig, CLOSE, "\x03\xe9", 2);
    CHECK_STR(rig->log, "closed 1001 \"going away\" local;over;");
    ws_rig_free(rig);
}

/* What still comes of a message that was too big is passed over, so that the peer's close is seen.
 */
TEST(ws, after_a_failure_the_peers_close_is_waited_for)
{
    struct ws_rig *rig = ws_rig_new();
    uint8_t data[100] = {0};
    rig->config.max_size = 10;
    ws_rig_start(rig);
    ws_say_n(rig, 0x02, data, 100);
    CHECK_STR(rig->log, "closed 1009 \"the message is too big\" local;");
    ws_say_n(rig, LAST, data, 100);
    ws_say_n(rig, CLOSE, "\x03\xf1", 2);
    CHECK_STR(rig->log, "closed 1009 \"the message is too big\" local;over;");
    ws_rig_free(rig);
}

/* --- Pings --- */

static void answer_ping(struct ws_rig *rig)
{
    uint8_t first, data[16];
    size_t n;
    CHECK(ws_take(rig, &first, data, sizeof(data), &n));
    CHECK_INT(first, ==, PING);
    ws_say_n(rig, PONG, data, n);
}

TEST(ws, pings_that_are_answered_go_on)
{
    struct ws_rig *rig = ws_rig_open();
    for (int i = 0; i < 5; i++) {
        ws_wait(rig, 20 * PH_SEC - 1);
        CHECK_INT(rig->wire_len, ==, 0);
        ws_wait(rig, 1);
        answer_ping(rig);
    }
    CHECK_STR(rig->log, "");
    ws_rig_free(rig);
}

/* 60 */
TEST(ws, a_ping_without_its_own_pong_ends_in_1011)
{
    struct ws_rig *rig = ws_rig_open();
    uint8_t first, old[16], data[16];
    size_t n;
    ws_say(rig, PONG, "nobody asked");
    ws_wait(rig, 20 * PH_SEC);
    CHECK(ws_take(rig, &first, old, sizeof(old), &n));
    ws_say_n(rig, PONG, old, n);
    ws_wait(rig, 20 * PH_SEC);
    CHECK(ws_take(rig, &first, data, sizeof(data), &n));
    ws_say_n(rig, PONG, old, n); /* of the ping before */
    ws_say(rig, PONG, "");
    ws_wait(rig, 20 * PH_SEC - 1);
    CHECK_STR(rig->log, "");
    ws_wait(rig, 1);
    CHECK_STR(rig->log, "closed 1011 \"keepalive ping timeout\" local;");
    CHECK_STR(ws_out(rig), "88 1011(keepalive ping timeout)");
    CHECK_INT(rig->stats.timeouts_ws_ping, ==, 1);
    ws_wait(rig, 5 * PH_SEC);
    CHECK(rig->is_over);
    ws_rig_free(rig);
}

/* Not the peer's fault: the ping has not left, the pong waits behind messages that are not read, or
 * behind the rest of a long frame. */
TEST(ws, a_pong_that_cannot_come_is_not_missed)
{
    struct ws_rig *rig = ws_rig_new();
    rig->config.max_queue = 1;
    rig->config.max_size = 1000;
    rig->no_consume = rig->keep = true;
    ws_rig_start(rig);
    ws_wait(rig, 100 * PH_SEC);
    CHECK_STR(rig->log, "");
    rig->keep = false;
    ws_turn(rig);
    ws_say(rig, TEXT, "1");
    ws_say(rig, TEXT, "2");
    ws_wait(rig, 100 * PH_SEC);
    CHECK_STR(rig->log, "text(1);");
    ph_ws_consume(rig->ws, 1);
    ws_feed(rig, "", 0);
    ph_ws_consume(rig->ws, 1);
    ws_feed(rig, "\x82\xfe\x02\x00\0\0\0\0", 8); /* 512 bytes to come */
    for (int i = 0; i < 512; i++) {
        ws_wait(rig, 19 * PH_SEC);
        ws_feed(rig, "x", 1);
    }
    CHECK_STR(rig->log, "text(1);text(2);bytes 512;");
    answer_ping(rig);
    CHECK_STR(rig->log, "text(1);text(2);bytes 512;");
    ws_rig_free(rig);
}

TEST(ws, pings_are_off_or_have_no_limit)
{
    struct ws_rig *rig = ws_rig_new();
    rig->config.ping_interval = 0;
    ws_rig_start(rig);
    CHECK_INT(ph_ws_next(rig->ws), ==, PH_NEVER);
    ws_rig_free(rig);
    rig = ws_rig_new();
    rig->config.ping_timeout = 0;
    ws_rig_start(rig);
    ws_wait(rig, 100 * PH_SEC);
    CHECK_STR(rig->log, "");
    CHECK_INT(rig->wire_len, ==, 5 * 10);
    ws_rig_free(rig);
}

/* --- UTF-8 --- */

TEST(ws, utf8_in_pieces_is_utf8_in_one)
{
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        static const uint8_t alphabet[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                           0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
                                           0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
        uint8_t text[12];
        size_t n = 1 + (size_t)round % sizeof(text);
        for (size_t i = 0; i < n; i++) {
            seed = seed * 1664525 + 1013904223;
            text[i] = alphabet[(seed >> 16) % sizeof(alphabet)];
        }
        struct ph_ws_utf8 utf8 = {.need = 0};
        bool ok = true;
        for (size_t i = 0; ok && i < n; i += 1 + i % 3)
            ok = ph_ws_utf8_feed(&utf8, text + i, PH_MIN(1 + i % 3, n - i));
        CHECK_INT(ok && ph_ws_utf8_is_whole(&utf8), ==, ph_utf8_is_valid(text, n));
    }
}
