/* test_h2_settings.c - what our SETTINGS allow a client of HTTP/2: each number at its value and one
 * past it, on the wire. */
#include "h2_rig.h"

static uint8_t zeros[70000];

static struct h2_rig *rig_started(struct h2_rig *rig)
{
    rig->app.no_consume = true;
    h2_rig_start(rig);
    h2_hello(rig);
    return rig;
}

/* --- h2_max_frame --- */

static struct h2_rig *with_max_frame(uint32_t max_frame)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.max_frame = max_frame;
    rig_started(rig);
    h2_headers(rig, 1, H2_POST, false);
    h2_turn(rig);
    return rig;
}

/* A head block of exactly this size: '<' is not shorter in Huffman's code, so each is a byte. */
static uint8_t *head_of(struct h2_rig *rig, size_t size)
{
    char *lines = ph_alloc(size + sizeof(H2_GET) + 16);
    uint8_t *block = NULL;
    size_t got = 0;
    for (size_t fill = size - 40; got < size; fill++) {
        char *p = stpcpy(lines, H2_GET "x: ");
        memset(p, '<', fill);
        memcpy(p + fill, "\n", 2);
        ph_free(block);
        block = h2_block(rig, lines, &got);
    }
    CHECK_INT(got, ==, size);
    ph_free(lines);
    return block;
}

TEST(h2_settings, frames_of_the_largest_size_and_one_byte_more)
{
    static const uint32_t limits[] = {16384, 20000};
    static const uint8_t types[] = {NGHTTP2_DATA, NGHTTP2_HEADERS, 0xee};
    for (size_t i = 0; i < PH_COUNT_OF(limits) * PH_COUNT_OF(types); i++) {
        uint32_t limit = limits[i % 2];
        uint8_t type = types[i / 2], flags = type == NGHTTP2_HEADERS ? 5 : 0;
        uint32_t id = type == NGHTTP2_HEADERS ? 3 : 1;
        struct h2_rig *rig = with_max_frame(limit);
        uint8_t *head = type == NGHTTP2_HEADERS ? head_of(rig, limit) : NULL;
        h2_frame(rig, type, flags, id, head != NULL ? head : zeros, limit);
        h2_turn(rig);
        CHECK_INT(rig->goaways + rig->resets, ==, 0);
        CHECK_INT(rig->app.body_bytes, ==, type == NGHTTP2_DATA ? limit : 0);
        CHECK_INT(rig->app.count, ==, type == NGHTTP2_HEADERS ? 2 : 1);
        CHECK_INT(rig->stats.protocol_errors, ==, 0);
        uint8_t more[PH_H2_FRAME_HEAD] = {[4] = flags};
        ph_u32_put(more, (limit + 1) << 8 | type);
        ph_u32_put(more + 5, type == NGHTTP2_HEADERS ? id + 2 : id);
        h2_bytes(rig, more, sizeof(more)); /* its head decides, no byte of it is waited for */
        h2_turn(rig);
        CHECK_INT(rig->last_goaway, ==, NGHTTP2_FRAME_SIZE_ERROR);
        CHECK_INT(rig->stats.protocol_errors, ==, 1);
        CHECK(h2_is_done(rig, NULL));
        ph_free(head);
        h2_rig_free(rig);
    }
}

/* --- h2_header_table --- */

/* A head block: the size of the table if there is one to say, GET https h /, then `n` bytes. */
static void raw_get(struct h2_rig *rig, uint32_t id, int64_t table, const uint8_t *rest, size_t n)
{
    static const uint8_t get[] = {0x82, 0x87, 0x84, 0x01, 0x01, 'h'};
    uint8_t block[400], *p = block;
    if (table >= 31) { /* RFC 7541 5.1, prefix of five bits */
        *p++ = 0x3f;
        for (table -= 31; table >= 128; table >>= 7)
            *p++ = (uint8_t)(0x80 | (table & 0x7f));
        *p++ = (uint8_t)table;
    } else if (table >= 0) {
        *p++ = (uint8_t)(0x20 | table);
    }
    memcpy(p, get, sizeof(get));
    p += sizeof(get);
    CHECK(n <= sizeof(block) - (size_t)(p - block));
    if (n > 0)
        memcpy(p, rest, n);
    h2_frame(rig, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM | NGHTTP2_FLAG_END_HEADERS, id, block,
             (size_t)(p - block) + n);
    h2_turn(rig);
}

static struct h2_rig *with_header_table(uint32_t size)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.header_table = size;
    return rig_started(rig);
}

TEST(h2_settings, a_client_may_say_the_header_table_and_not_one_byte_more)
{
    static const uint32_t sizes[] = {0, 100, 4096, 5000};
    for (size_t i = 0; i < PH_COUNT_OF(sizes); i++) {
        struct h2_rig *rig = with_header_table(sizes[i]);
        raw_get(rig, 1, sizes[i], NULL, 0);
        CHECK_INT(rig->app.count, ==, 1);
        CHECK_INT(rig->goaways, ==, 0);
        CHECK_INT(rig->stats.protocol_errors, ==, 0);
        raw_get(rig, 3, (int64_t)sizes[i] + 1, NULL, 0);
        CHECK_INT(rig->app.count, ==, 1);
        CHECK_INT(rig->last_goaway, ==, NGHTTP2_COMPRESSION_ERROR);
        CHECK_INT(rig->stats.protocol_errors, ==, 1);
        h2_rig_free(rig);
    }
}

/* RFC 7541 4.4: an entry that is larger than the table is not in it. */
TEST(h2_settings, an_entry_of_the_size_of_the_header_table_is_held_and_a_larger_one_is_not)
{
    enum { TABLE = 100 };
    for (size_t over = 0; over < 2; over++) {
        struct h2_rig *rig = with_header_table(TABLE);
        uint8_t entry[4 + 68] = {0x40, 0x01, 'x', (uint8_t)(TABLE - 32 - 1 + over)};
        memset(entry + 4, 'v', TABLE - 32 - 1 + over);
        raw_get(rig, 1, TABLE, entry, 4 + TABLE - 32 - 1 + over);
        CHECK_INT(rig->app.count, ==, 1);
        raw_get(rig, 3, -1, (const uint8_t *)"\xbe", 1); /* entry 62, the first of the table */
        CHECK_INT(rig->app.count, ==, 2 - over);
        CHECK_INT(rig->last_goaway, ==, over ? NGHTTP2_COMPRESSION_ERROR : 0);
        CHECK_INT(rig->stats.protocol_errors, ==, over);
        h2_rig_free(rig);
    }
}

/* What we keep for a client is bounded by ours, however much it allows us. */
TEST(h2_settings, our_own_header_table_is_the_lesser_of_both)
{
    static const struct {
        uint32_t ours, theirs, used;
    } cases[] = {
        {100, 99, 99},      {100, 100, 100},    {100, 101, 100},       {100, 1 << 20, 100},
        {5000, 4999, 4999}, {5000, 5000, 5000}, {5000, 5001, 5000},    {5000, UINT32_MAX, 5000},
        {0, 4096, 0},       {4096, 0, 0},       {4096, 1 << 20, 4096},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct h2_rig *rig = with_header_table(cases[i].ours);
        CHECK_INT(nghttp2_hd_inflate_change_table_size(rig->inflater, cases[i].theirs), ==, 0);
        h2_setting(rig, NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, cases[i].theirs);
        raw_get(rig, 1, PH_MIN(cases[i].ours, 4096), NULL, 0);
        CHECK_INT(h2_respond(rig, 0, 200, true), ==, 0);
        h2_turn(rig);
        CHECK_INT(nghttp2_hd_inflate_get_max_dynamic_table_size(rig->inflater), ==, cases[i].used);
        CHECK_INT(rig->stats.protocol_errors, ==, 0);
        h2_rig_free(rig);
    }
}

/* --- h2_stream_window, h2_conn_window --- */

/* Body in frames as large as they may be. */
static void send_body(struct h2_rig *rig, uint32_t id, size_t n)
{
    for (; n > 0; n -= PH_MIN(n, rig->config.max_frame))
        h2_frame(rig, NGHTTP2_DATA, 0, id, zeros, PH_MIN(n, rig->config.max_frame));
    h2_turn(rig);
}

static struct h2_rig *with_windows(uint32_t stream_window, uint32_t conn_window)
{
    struct h2_rig *rig = h2_rig_bare();
    rig->config.stream_window = stream_window;
    rig->config.conn_window = conn_window;
    rig_started(rig);
    for (uint32_t id = 1; id <= 5; id += 2)
        h2_headers(rig, id, H2_POST, false);
    h2_turn(rig);
    return rig;
}

TEST(h2_settings, a_byte_past_the_window_of_a_stream_costs_that_stream)
{
    static const uint32_t windows[] = {65535, 70000, 262144};
    for (size_t i = 0; i < PH_COUNT_OF(windows); i++) {
        struct h2_rig *rig = with_windows(windows[i], 1 << 20);
        send_body(rig, 1, windows[i]);
        CHECK_INT(rig->app.body_bytes, ==, windows[i]);
        CHECK_INT(rig->resets + rig->goaways, ==, 0);
        CHECK_INT(rig->stats.protocol_errors, ==, 0);
        send_body(rig, 1, 1);
        H2_EXPECT(rig, wire, "RST 1 3;");
        CHECK_INT(rig->stats.protocol_errors, ==, 1);
        CHECK_INT(rig->app.closed_cut, ==, 1);
        size_t before = rig->app.body_bytes;
        send_body(rig, 3, windows[i]); /* the others have theirs */
        CHECK_INT(rig->app.body_bytes - before, ==, windows[i]);
        CHECK_INT(rig->resets, ==, 1);
        CHECK_INT(rig->goaways, ==, 0);
        h2_rig_free(rig);
    }
}

TEST(h2_settings, a_byte_past_the_window_of_the_connection_ends_it)
{
    static const uint32_t windows[] = {65535, 100000, 300000};
    for (size_t i = 0; i < PH_COUNT_OF(windows); i++) {
        struct h2_rig *rig = with_windows(1 << 20, windows[i]);
        send_body(rig, 1, 50000);
        send_body(rig, 3, windows[i] - 50000);
        CHECK_INT(rig->app.body_bytes, ==, windows[i]);
        CHECK_INT(rig->resets + rig->goaways, ==, 0);
        CHECK_INT(rig->stats.protocol_errors, ==, 0);
        send_body(rig, 5, 1);
        CHECK_INT(rig->last_goaway, ==, NGHTTP2_FLOW_CONTROL_ERROR);
        CHECK_INT(rig->app.body_bytes, ==, windows[i]);
        CHECK_INT(rig->stats.protocol_errors, ==, 1);
        CHECK_INT(rig->app.closed_cut, ==, 3);
        h2_rig_free(rig);
    }
}
