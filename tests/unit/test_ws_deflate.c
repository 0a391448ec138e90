/* test_ws_deflate.c - permessage-deflate: what it makes, what it takes, and what a bomb costs. */
#include "ws_rig.h"

#define ZLIB_CONST
#include <zlib.h>

enum { TEXT_Z = 0xc1, BINARY_Z = 0xc2, TEXT_MORE_Z = 0x41, MORE = 0x00, LAST = 0x80 };

/* As a client compresses a message. `last` ends with a block that has BFINAL. Caller owns. */
static struct ph_buf *deflate_with(const void *data, size_t n, int bits, bool last)
{
    z_stream z = {.next_in = data, .avail_in = (uInt)n};
    struct ph_buf *buf = ph_buf_new(n + 1024);
    CHECK_INT(deflateInit2(&z, 9, Z_DEFLATED, -bits, 8, Z_DEFAULT_STRATEGY), ==, Z_OK);
    z.next_out = buf->data;
    z.avail_out = (uInt)buf->cap;
    CHECK_INT(deflate(&z, last ? Z_FINISH : Z_SYNC_FLUSH), ==, last ? Z_STREAM_END : Z_OK);
    buf->len = buf->cap - z.avail_out - (last ? 0 : 4);
    deflateEnd(&z);
    return buf;
}

TEST(ws_deflate, messages_are_inflated)
{
    static const size_t steps[] = {SIZE_MAX, 1, 5};
    for (size_t i = 0; i < PH_COUNT_OF(steps); i++) {
        struct ws_rig *rig = ws_rig_deflate();
        rig->step = steps[i];
        struct ph_buf *small = deflate_with("hello hello", 11, 15, false);
        struct ph_buf *final = deflate_with("the end", 7, 15, true);
        struct ph_buf *empty = deflate_with("", 0, 15, false);
        ws_say_n(rig, TEXT_Z, small->data, small->len);
        ws_say_n(rig, TEXT_MORE_Z, small->data, 3);
        ws_say(rig, 0x89, "p");
        ws_say_n(rig, MORE, small->data + 3, 0);
        ws_say_n(rig, LAST, small->data + 3, small->len - 3);
        ws_say(rig, 0x81, "plain");
        ws_say_n(rig, TEXT_Z, final->data, final->len); /* RFC 7692 7.2.3.4 */
        final->data[final->len] = 0;
        ws_say_n(rig, TEXT_Z, final->data, final->len + 1); /* and with its empty block */
        ws_say_n(rig, BINARY_Z, empty->data, empty->len);
        ws_say_n(rig, BINARY_Z, "", 0);
        CHECK_STR(rig->log, "text(hello hello);text(hello hello);text(plain);text(the end);"
                            "text(the end);bytes();bytes();");
        ph_buf_unref(small);
        ph_buf_unref(final);
        ph_buf_unref(empty);
        ws_rig_free(rig);
    }
}

TEST(ws_deflate, breaches)
{
    static const struct {
        const char *bytes;
        size_t n;
        int code;
    } cases[] = {
        {"\x41\x81\0\0\0\0\x00\xc0\x80\0\0\0\0", 13, 1002}, /* RSV1 on a continuation */
        {"\xc9\x80\0\0\0\0", 6, 1002},                      /* on a control frame */
        {"\xc2\x82\0\0\0\0\xff\xff", 8, 1007},              /* not deflate */
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct ws_rig *rig = ws_rig_deflate();
        char want[16];
        ws_feed(rig, cases[i].bytes, cases[i].n);
        snprintf(want, sizeof(want), "closed %d", cases[i].code);
        CHECK(strncmp(rig->log, want, strlen(want)) == 0);
        ws_rig_free(rig);
    }
    struct ws_rig *rig = ws_rig_deflate();
    struct ph_buf *bad = deflate_with("caf\xe9 ol\xe9", 8, 15, false);
    ws_say_n(rig, TEXT_Z, bad->data, bad->len);
    CHECK(strncmp(rig->log, "closed 1007", 11) == 0);
    ph_buf_unref(bad);
    ws_rig_free(rig);
}

TEST(ws_deflate, limit_is_that_of_the_inflated_message)
{
    for (size_t over = 0; over < 2; over++) {
        struct ws_rig *rig = ws_rig_new();
        uint8_t zeros[1001] = {0};
        rig->config.max_size = 1000;
        rig->ask = (struct ph_ws_ask){.deflate = true, .server_bits = 12, .client_bits = 12};
        ws_rig_start(rig);
        struct ph_buf *z = deflate_with(zeros, 1000 + over, 12, false);
        ws_say_n(rig, BINARY_Z, z->data, z->len);
        CHECK_INT(rig->messages, ==, 1 - over);
        CHECK_INT(rig->stats.limit_ws_size, ==, over);
        CHECK_STR(ws_out(rig), over != 0 ? "88 1009(the message is too big)" : "");
        ph_buf_unref(z);
        ws_rig_free(rig);
    }
}

/* How the network cut it does not change what was wrong with it. */
TEST(ws_deflate, text_that_is_wrong_and_too_long_is_wrong)
{
    char text[2000];
    memset(text, 'a', sizeof(text));
    text[10] = '\xe9';
    struct ph_buf *z = deflate_with(text, sizeof(text), 12, false);
    for (size_t step = 1; step < 2000; step *= 100) {
        struct ws_rig *rig = ws_rig_new();
        rig->step = step;
        rig->config.max_size = 1000;
        rig->ask = (struct ph_ws_ask){.deflate = true, .server_bits = 12, .client_bits = 12};
        ws_rig_start(rig);
        ws_say_n(rig, TEXT_Z, z->data, z->len);
        CHECK_STR(ws_out(rig), "88 1007(the text is not UTF-8)");
        ws_rig_free(rig);
    }
    ph_buf_unref(z);
}

/* G2: a gigabyte in a megabyte never exists. */
TEST(ws_deflate, G2_a_bomb_is_cut_while_it_is_inflated)
{
    struct ws_rig *rig = ws_rig_deflate();
    size_t n = (size_t)64 << 20;
    uint8_t *zeros = calloc(1, n);
    struct ph_buf *z = deflate_with(zeros, n, 15, false);
    free(zeros);
    CHECK_INT(z->len, <, 100000);
    ws_say_n(rig, BINARY_Z, z->data, z->len);
    CHECK_STR(rig->log, "closed 1009 \"the message is too big\" local;");
    CHECK_INT(rig->messages, ==, 0);
    ph_buf_unref(z);
    ws_rig_free(rig);

    /* Memory of a message is what ph_ws_grow() gives it: its limit and a byte at most. */
    struct ph_buf *buf = NULL;
    for (size_t i = 0; i <= 1000; i++) {
        ph_ws_grow(&buf, i + 1, 1000);
        CHECK_INT(buf->cap, <=, 1001);
        CHECK_INT(buf->cap, >, buf->len);
        buf->len += PH_MIN((size_t)7, buf->cap - buf->len);
        if (buf->len == 1001)
            break;
    }
    CHECK_INT(buf->len, ==, 1001);
    ph_buf_unref(buf);
}

TEST(ws_deflate, what_is_sent_inflates_to_what_was_said)
{
    static const unsigned windows[] = {9, 10, 11, 12};
    for (size_t w = 0; w < PH_COUNT_OF(windows); w++) {
        struct ws_rig *rig = ws_rig_new();
        rig->ask =
            (struct ph_ws_ask){.deflate = true, .server_bits = windows[w], .client_bits = 15};
        ws_rig_start(rig);
        for (size_t n = 100; n < 200000; n = n * 3 + 1) {
            struct ph_buf *text = ph_buf_new(n);
            for (size_t i = 0; i < n; i++)
                text->data[i] = (uint8_t) "abcdefgh-the-same-again"[(i * i / 50) % 23];
            text->len = n;
            ph_buf_ref(text);
            CHECK_INT(ph_ws_send(rig->ws, ph_slice_of(text), true, rig->now), ==, 0);
            ws_turn(rig);
            uint8_t first, *data = ph_alloc(n + 16), *back = ph_alloc(n);
            size_t len;
            CHECK(ws_take(rig, &first, data, n, &len));
            CHECK_INT(first, ==, n >= 128 ? TEXT_Z : 0x81);
            if (first == TEXT_Z) {
                CHECK_INT(len, <, n);
                memcpy(data + len, "\0\0\xff\xff", 4);
                z_stream z = {.next_in = data, .avail_in = (uInt)len + 4};
                CHECK_INT(inflateInit2(&z, -(int)windows[w]), ==, Z_OK);
                z.next_out = back;
                z.avail_out = (uInt)n;
                CHECK_INT(inflate(&z, Z_SYNC_FLUSH), ==, Z_OK);
                CHECK_INT(z.total_out, ==, n);
                CHECK_MEM(back, text->data, n);
                inflateEnd(&z);
            }
            ph_free(data);
            ph_free(back);
            ph_buf_unref(text);
        }
        ws_rig_free(rig);
    }
}

TEST(ws_deflate, what_does_not_shrink_goes_as_it_is)
{
    struct ws_rig *rig = ws_rig_deflate();
    struct ph_buf *noise = ph_buf_new(1000);
    ph_random(noise->data, 1000);
    noise->len = 1000;
    uint8_t first, data[1000];
    size_t n;
    CHECK_INT(ph_ws_send(rig->ws, ph_slice_of(noise), false, rig->now), ==, 0);
    ws_turn(rig);
    CHECK(ws_take(rig, &first, data, sizeof(data), &n));
    CHECK_INT(first, ==, 0x82);
    CHECK_INT(n, ==, 1000);
    ws_rig_free(rig);
}
