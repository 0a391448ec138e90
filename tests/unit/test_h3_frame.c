/*
 * test_h3_frame.c - the resumable frame reader and writer of HTTP/3, and the Priority field value.
 */
#include "test.h"

#include "../../src/h3/h3.h"

struct seen {
    uint64_t type[16], length[16];
    size_t frames, bytes;
    uint8_t payload[64];
};

/* Reads `n` bytes in pieces of at most `step`. */
static struct seen read_all(struct ph_h3_frame_reader *reader, const uint8_t *data, size_t n,
                            size_t step)
{
    struct seen seen = {0};
    for (size_t off = 0; off < n; off += step) {
        const uint8_t *p = data + off, *end = data + PH_MIN(off + step, n), *piece = NULL;
        size_t len = 0;
        while (ph_h3_frame_next(reader, &p, end, &piece, &len)) {
            memcpy(seen.payload + seen.bytes, piece, len);
            seen.bytes += len;
            if (reader->left == 0) {
                seen.type[seen.frames] = reader->type;
                seen.length[seen.frames++] = reader->length;
            }
        }
        CHECK(p == end);
    }
    return seen;
}

/* DATA "hello", an empty DATA, a grease frame with a two-byte type and one byte, HEADERS "xy". */
static const uint8_t sample[] = {0x00, 0x05, 'h',  'e',  'l', 'l',  'o', 0x00, 0x00,
                                 0x40, 0x5f, 0x01, 0xaa, 0x1, 0x02, 'x', 'y'};

TEST(h3_frame, whole_input_gives_every_frame)
{
    struct ph_h3_frame_reader reader = {0};
    struct seen seen = read_all(&reader, sample, sizeof(sample), sizeof(sample));
    CHECK_INT(seen.frames, ==, 4);
    CHECK_INT(seen.type[0], ==, PH_H3_DATA);
    CHECK_INT(seen.length[0], ==, 5);
    CHECK_INT(seen.type[1], ==, PH_H3_DATA);
    CHECK_INT(seen.length[1], ==, 0);
    CHECK_INT(seen.type[2], ==, 0x5f);
    CHECK_INT(seen.type[3], ==, PH_H3_HEADERS);
    CHECK_INT(seen.bytes, ==, 8);
    CHECK_MEM(seen.payload, "hello\xaaxy", 8);
    CHECK(ph_h3_frame_is_between(&reader));
}

TEST(h3_frame, any_split_gives_the_same)
{
    for (size_t step = 1; step < sizeof(sample); step++) {
        struct ph_h3_frame_reader reader = {0};
        struct seen seen = read_all(&reader, sample, sizeof(sample), step);
        CHECK_INT(seen.frames, ==, 4);
        CHECK_INT(seen.bytes, ==, 8);
        CHECK_MEM(seen.payload, "hello\xaaxy", 8);
        CHECK(ph_h3_frame_is_between(&reader));
    }
}

TEST(h3_frame, is_between_only_at_frame_boundaries)
{
    static const bool between[] = {true, false, false, false, false, false, false, true, false,
                                   true, false, false, false, true,  false, false, false};
    for (size_t n = 0; n < sizeof(sample); n++) {
        struct ph_h3_frame_reader reader = {0};
        read_all(&reader, sample, n, 1);
        CHECK_INT(ph_h3_frame_is_between(&reader), ==, between[n]);
    }
}

TEST(h3_frame, empty_frame_is_delivered_once)
{
    static const uint8_t in[] = {0x00, 0x00};
    struct ph_h3_frame_reader reader = {0};
    const uint8_t *p = in, *piece = NULL;
    size_t n = 99;
    CHECK(ph_h3_frame_next(&reader, &p, in + 2, &piece, &n));
    CHECK_INT(n, ==, 0);
    CHECK_INT(reader.left, ==, 0);
    CHECK(!ph_h3_frame_next(&reader, &p, in + 2, &piece, &n));
}

TEST(h3_frame, largest_length_costs_nothing)
{
    static const uint8_t in[] = {0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00};
    struct ph_h3_frame_reader reader = {0};
    const uint8_t *p = in, *piece = NULL;
    size_t n = 0;
    CHECK(!ph_h3_frame_next(&reader, &p, in + 9, &piece, &n));
    CHECK_INT(reader.state, ==, PH_H3_AT_PAYLOAD);
    CHECK(reader.length == PH_VARINT_MAX);
    CHECK(ph_h3_frame_next(&reader, &p, in + 10, &piece, &n));
    CHECK_INT(n, ==, 1);
    CHECK(reader.left == PH_VARINT_MAX - 1);
}

TEST(h3_frame, put_writes_shortest_header)
{
    uint8_t out[16];
    CHECK_INT(ph_h3_frame_put(out, PH_H3_DATA, 63) - out, ==, 2);
    CHECK_MEM(out, "\x00\x3f", 2);
    CHECK_INT(ph_h3_frame_put(out, PH_H3_HEADERS, 16384) - out, ==, 5);
    CHECK_MEM(out, "\x01\x80\x00\x40\x00", 5);
    CHECK_INT(ph_h3_frame_put(out, PH_VARINT_MAX, PH_VARINT_MAX) - out, ==, 16);
}

static void check_priority(const char *value, unsigned urgency, bool incremental)
{
    struct ph_h3_priority priority = ph_h3_priority_parse(value, strlen(value));
    CHECK_INT(priority.urgency, ==, urgency);
    CHECK_INT(priority.incremental, ==, incremental);
}

TEST(h3_priority, reads_urgency_and_incremental)
{
    check_priority("", 3, false);
    check_priority("u=0, i", 0, true);
    check_priority("u=4", 4, false);
    check_priority("i", 3, true);
    check_priority("i=?0", 3, false);
    check_priority("i=?1,u=7", 7, true);
    check_priority(" u=1 ,\ti ", 1, true);
    check_priority("u=2;x=1, i;y", 2, true);
}

TEST(h3_priority, ignores_what_it_does_not_know)
{
    check_priority("u=8", 3, false);
    check_priority("u=-1", 3, false);
    check_priority("u=10", 3, false);
    check_priority("u=?1", 3, false);
    check_priority("i=1", 3, false);
    check_priority("a=\"u=1, i\", u=5", 5, false);
    check_priority("a=\"\\\", u=1\", i", 3, true);
    check_priority("uu=1, ii", 3, false);
    check_priority("U=1", 3, false);
    check_priority(",u=1", 3, false);
}
