/*
 * test_capsule.c - the capsule reader and the two writers: wire bytes, every split, bounds.
 */
#include "test.h"

#include "../../src/wt/wt.h"

#define SKIP_MAX (1024 * 1024)

/* Feeds everything at once; the result of the last call. */
static int feed(struct ph_capsule_reader *reader, const void *data, size_t n)
{
    const uint8_t *p = data;
    return ph_capsule_next(reader, &p, p + n, SKIP_MAX);
}

TEST(capsule, close_has_the_bytes_of_the_draft)
{
    uint8_t out[PH_WT_REASON_MAX + 16];
    const uint8_t want[] = {0x68, 0x43, 0x07, 0x00, 0x00, 0x12, 0x34, 'b', 'y', 'e'};
    CHECK_INT(ph_capsule_close_put(out, 0x1234, "bye", 3), ==, sizeof want);
    CHECK_MEM(out, want, sizeof want);
}

TEST(capsule, drain_has_the_bytes_of_the_draft)
{
    uint8_t out[8];
    const uint8_t want[] = {0x80, 0x00, 0x78, 0xae, 0x00};
    CHECK_INT(ph_capsule_drain_put(out), ==, sizeof want);
    CHECK_MEM(out, want, sizeof want);
}

TEST(capsule, long_reason_is_cut_between_characters)
{
    uint8_t out[PH_WT_REASON_MAX + 16];
    char reason[1100];
    for (size_t i = 0; i + 3 <= sizeof reason; i += 3)
        memcpy(reason + i, "\xe2\x82\xac", 3);
    size_t n = ph_capsule_close_put(out, 1, reason, sizeof reason - sizeof reason % 3);
    CHECK_INT(n, ==, 2 + 2 + 4 + 1023); /* 341 characters of 3 bytes */
    CHECK(ph_utf8_is_valid(out + 8, 1023));
    CHECK_INT(out[2] << 8 | out[3], ==, 0x4000 + 4 + 1023);
}

TEST(capsule, reason_of_exactly_the_limit_is_kept)
{
    uint8_t out[PH_WT_REASON_MAX + 16];
    char reason[PH_WT_REASON_MAX + 1];
    memset(reason, 'x', sizeof reason);
    CHECK_INT(ph_capsule_close_put(out, 1, reason, PH_WT_REASON_MAX), ==, 8 + 1024);
    CHECK_INT(ph_capsule_close_put(out, 1, reason, PH_WT_REASON_MAX + 1), ==, 8 + 1024);
    CHECK_INT(out[2], ==, 0x44);
    CHECK_INT(out[3], ==, 0x04);
}

TEST(capsule, empty_reason_needs_no_pointer)
{
    uint8_t out[PH_WT_REASON_MAX + 16];
    CHECK_INT(ph_capsule_close_put(out, 0, NULL, 0), ==, 7);
}

TEST(capsule, reader_gives_back_what_the_writers_wrote_at_every_split)
{
    uint8_t wire[64];
    size_t n = ph_capsule_drain_put(wire);
    n += ph_capsule_close_put(wire + n, 0xfffffffe, "so long", 7);
    for (size_t split = 0; split <= n; split++) {
        struct ph_capsule_reader reader = {0};
        unsigned drains = 0, closes = 0;
        const uint8_t *p = wire;
        for (int part = 0; part < 2; part++) {
            const uint8_t *end = wire + (part == 0 ? split : n);
            while (ph_capsule_next(&reader, &p, end, SKIP_MAX) == 1) {
                if (reader.type == PH_CAPSULE_WT_DRAIN_SESSION) {
                    drains++;
                    continue;
                }
                closes++;
                CHECK_INT(reader.type, ==, PH_CAPSULE_WT_CLOSE_SESSION);
                CHECK_INT(reader.value_len, ==, 11);
                CHECK_INT(ph_u32_get(reader.value), ==, 0xfffffffe);
                CHECK_MEM(reader.value + 4, "so long", 7);
            }
            CHECK(p == end);
        }
        CHECK_INT(drains, ==, 1);
        CHECK_INT(closes, ==, 1);
        CHECK(ph_capsule_is_between(&reader));
        ph_capsule_reader_fini(&reader);
    }
}

TEST(capsule, each_byte_alone_gives_the_same)
{
    uint8_t wire[32];
    size_t n = ph_capsule_close_put(wire, 7, "client done", 11);
    struct ph_capsule_reader reader = {0};
    for (size_t i = 0; i < n; i++)
        CHECK_INT(feed(&reader, wire + i, 1), ==, i == n - 1 ? 1 : 0);
    CHECK_INT(reader.value_len, ==, 15);
    ph_capsule_reader_fini(&reader);
}

TEST(capsule, is_between_only_between_capsules)
{
    const uint8_t wire[] = {0x68, 0x43, 0x04, 0, 0, 0, 0};
    struct ph_capsule_reader reader = {0};
    CHECK(ph_capsule_is_between(&reader));
    for (size_t i = 0; i + 1 < sizeof wire; i++) {
        feed(&reader, wire + i, 1);
        CHECK(!ph_capsule_is_between(&reader));
    }
    CHECK_INT(feed(&reader, wire + 6, 1), ==, 1);
    CHECK(ph_capsule_is_between(&reader));
    ph_capsule_reader_fini(&reader);
}

TEST(capsule, all_varint_lengths_of_a_type_are_read)
{
    const uint8_t two[] = {0x68, 0x43, 0x04, 0, 0, 0, 9};
    const uint8_t four[] = {0x80, 0x00, 0x28, 0x43, 0x40, 0x04, 0, 0, 0, 9};
    const uint8_t eight[] = {0xc0, 0, 0, 0, 0, 0, 0x28, 0x43, 0xc0, 0,
                             0,    0, 0, 0, 0, 4, 0,    0,    0,    9};
    struct {
        const uint8_t *p;
        size_t n;
    } forms[] = {{two, sizeof two}, {four, sizeof four}, {eight, sizeof eight}};
    for (size_t i = 0; i < PH_COUNT_OF(forms); i++) {
        struct ph_capsule_reader reader = {0};
        CHECK_INT(feed(&reader, forms[i].p, forms[i].n), ==, 1);
        CHECK_INT(ph_u32_get(reader.value), ==, 9);
        ph_capsule_reader_fini(&reader);
    }
}

TEST(capsule, close_shorter_than_its_code_is_malformed)
{
    for (uint8_t len = 0; len < 4; len++) {
        uint8_t wire[] = {0x68, 0x43, len, 0, 0, 0};
        struct ph_capsule_reader reader = {0};
        CHECK_INT(feed(&reader, wire, (size_t)3 + len), ==, PH_E_MALFORMED);
        ph_capsule_reader_fini(&reader);
    }
}

TEST(capsule, close_of_1028_is_taken_and_1029_is_malformed)
{
    static uint8_t wire[4 + 1029] = {0x68, 0x43, 0x44, 0x04};
    struct ph_capsule_reader reader = {0};
    CHECK_INT(feed(&reader, wire, 4 + 1028), ==, 1);
    CHECK_INT(reader.value_len, ==, 1028);
    ph_capsule_reader_fini(&reader);
    wire[3] = 0x05;
    CHECK_INT(feed(&reader, wire, 4), ==, PH_E_MALFORMED); /* before a byte of the value came */
    ph_capsule_reader_fini(&reader);
}

TEST(capsule, drain_with_a_value_is_malformed)
{
    const uint8_t wire[] = {0x80, 0x00, 0x78, 0xae, 0x01, 0x00};
    struct ph_capsule_reader reader = {0};
    CHECK_INT(feed(&reader, wire, sizeof wire), ==, PH_E_MALFORMED);
    ph_capsule_reader_fini(&reader);
}

TEST(capsule, grease_is_skipped_without_storing)
{
    /* Type 41*N+23 in eight bytes, as browsers send right after the request. */
    uint8_t wire[128];
    uint8_t *p = ph_varint_put(wire, UINT64_C(41) * 0x123456789ab + 23);
    p = ph_varint_put(p, 63);
    memset(p, 0xaa, 63);
    p += 63;
    p += ph_capsule_close_put(p, 5, "", 0);
    struct ph_capsule_reader reader = {0};
    CHECK_INT(feed(&reader, wire, (size_t)(p - wire)), ==, 1);
    CHECK_INT(reader.type, ==, PH_CAPSULE_WT_CLOSE_SESSION);
    CHECK_INT(reader.value_cap, ==, 4);
    CHECK_INT(reader.skipped, ==, 63);
    CHECK_INT(reader.unknown, ==, 1);
    ph_capsule_reader_fini(&reader);
}

TEST(capsule, empty_unknown_capsules_count_as_unknown)
{
    const uint8_t wire[] = {0x17, 0x00, 0x17, 0x00, 0x40, 0x40, 0x00};
    struct ph_capsule_reader reader = {0};
    CHECK_INT(feed(&reader, wire, sizeof wire), ==, 0);
    CHECK_INT(reader.unknown, ==, 3);
    CHECK_INT(reader.skipped, ==, 0);
    CHECK(ph_capsule_is_between(&reader));
    ph_capsule_reader_fini(&reader);
}

TEST(capsule, skipping_stops_behind_the_limit)
{
    static const uint8_t zeros[4096];
    uint8_t head[16], *p = ph_varint_put(head, 0x7777);
    struct ph_capsule_reader reader = {0};
    p = ph_varint_put(p, UINT64_C(1) << 40);
    CHECK_INT(feed(&reader, head, (size_t)(p - head)), ==, 0);
    for (size_t i = 0; i < SKIP_MAX / sizeof zeros; i++)
        CHECK_INT(feed(&reader, zeros, sizeof zeros), ==, 0);
    CHECK_INT(reader.skipped, ==, SKIP_MAX);
    CHECK_INT(feed(&reader, zeros, 1), ==, PH_E_LIMIT);
    CHECK(reader.value == NULL);
    ph_capsule_reader_fini(&reader);
}

TEST(capsule, skip_limit_is_a_sum_over_capsules)
{
    static const uint8_t wire[] = {0x17, 0x04, 1, 2, 3, 4, 0x17, 0x04, 1, 2, 3, 4};
    struct ph_capsule_reader reader = {0};
    const uint8_t *p = wire;
    CHECK_INT(ph_capsule_next(&reader, &p, wire + sizeof wire, 8), ==, 0);
    CHECK(p == wire + sizeof wire);
    p = wire;
    CHECK_INT(ph_capsule_next(&reader, &p, wire + sizeof wire, 8), ==, PH_E_LIMIT);
    ph_capsule_reader_fini(&reader);
}

TEST(capsule, datagram_is_collected_and_an_oversized_one_skipped)
{
    static uint8_t wire[4 + 4097] = {0x00, 0x50, 0x00}; /* length 4096 */
    struct ph_capsule_reader reader = {0};
    CHECK_INT(feed(&reader, wire, 3 + 4096), ==, 1);
    CHECK_INT(reader.type, ==, PH_CAPSULE_DATAGRAM);
    CHECK_INT(reader.value_len, ==, 4096);
    wire[2] = 0x01;
    CHECK_INT(feed(&reader, wire, 3 + 4097), ==, 0);
    CHECK_INT(reader.skipped, ==, 4097);
    ph_capsule_reader_fini(&reader);
}

TEST(capsule, empty_datagram_is_a_datagram)
{
    const uint8_t wire[] = {0x00, 0x00};
    struct ph_capsule_reader reader = {0};
    CHECK_INT(feed(&reader, wire, sizeof wire), ==, 1);
    CHECK_INT(reader.value_len, ==, 0);
    ph_capsule_reader_fini(&reader);
}
