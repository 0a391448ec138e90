/* test_wire.c - varints (RFC 9000 16), big-endian integers, UTF-8. */
#include "test.h"

/* RFC 9000 A.1, and the edges of each length. */
static const struct {
    uint64_t value;
    size_t n;
    uint8_t bytes[8];
} varints[] = {
    {UINT64_C(151288809941952652), 8, {0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c}},
    {494878333, 4, {0x9d, 0x7f, 0x3e, 0x7d}},
    {15293, 2, {0x7b, 0xbd}},
    {37, 1, {0x25}},
    {0, 1, {0x00}},
    {63, 1, {0x3f}},
    {64, 2, {0x40, 0x40}},
    {16383, 2, {0x7f, 0xff}},
    {16384, 4, {0x80, 0x00, 0x40, 0x00}},
    {1073741823, 4, {0xbf, 0xff, 0xff, 0xff}},
    {1073741824, 8, {0xc0, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00}},
    {PH_VARINT_MAX, 8, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
};

TEST(wire, varint_is_written_in_its_shortest_form)
{
    for (size_t i = 0; i < PH_COUNT_OF(varints); i++) {
        uint8_t out[8];
        CHECK_INT(ph_varint_len(varints[i].value), ==, varints[i].n);
        CHECK(ph_varint_put(out, varints[i].value) == out + varints[i].n);
        CHECK_MEM(out, varints[i].bytes, varints[i].n);
    }
}

TEST(wire, varint_is_read_only_when_whole)
{
    for (size_t i = 0; i < PH_COUNT_OF(varints); i++) {
        uint64_t value = 1;
        for (size_t n = 0; n < varints[i].n; n++)
            CHECK_INT(ph_varint_get(varints[i].bytes, n, &value), ==, 0);
        CHECK_INT(value, ==, 1);
        CHECK_INT(ph_varint_get(varints[i].bytes, 8, &value), ==, varints[i].n);
        CHECK(value == varints[i].value);
    }
}

TEST(wire, varint_may_be_longer_than_needed)
{
    static const uint8_t two[] = {0x40, 0x25}, eight[] = {0xc0, 0, 0, 0, 0, 0, 0, 0x25};
    uint64_t value = 0;
    CHECK_INT(ph_varint_get(two, 2, &value), ==, 2);
    CHECK_INT(value, ==, 37);
    CHECK_INT(ph_varint_get(eight, 8, &value), ==, 8);
    CHECK_INT(value, ==, 37);
}

TEST(wire, varint_reader_takes_any_split)
{
    uint8_t stream[128];
    size_t n = 0;
    for (size_t i = 0; i < PH_COUNT_OF(varints); i++) {
        memcpy(stream + n, varints[i].bytes, varints[i].n);
        n += varints[i].n;
    }
    for (size_t step = 1; step <= n; step++) {
        struct ph_varint_reader reader = {0};
        size_t found = 0;
        for (size_t at = 0; at < n; at += step) {
            const uint8_t *p = stream + at, *end = stream + PH_MIN(at + step, n);
            while (ph_varint_feed(&reader, &p, end)) {
                CHECK_INT(found, <, PH_COUNT_OF(varints));
                CHECK(reader.value == varints[found++].value);
            }
            CHECK(p == end);
        }
        CHECK_INT(found, ==, PH_COUNT_OF(varints));
        CHECK(!reader.started);
    }
}

TEST(wire, varint_reader_leaves_what_follows)
{
    static const uint8_t bytes[] = {0x7b, 0xbd, 0x01};
    struct ph_varint_reader reader = {0};
    const uint8_t *p = bytes;
    CHECK(!ph_varint_feed(&reader, &p, bytes));
    CHECK(ph_varint_feed(&reader, &p, bytes + 3));
    CHECK_INT(reader.value, ==, 15293);
    CHECK(p == bytes + 2);
}

TEST(wire, integers_are_big_endian)
{
    uint8_t out[6];
    CHECK(ph_u32_put(ph_u16_put(out, 0x0102), 0xfffefdfc) == out + 6);
    CHECK_MEM(out, "\x01\x02\xff\xfe\xfd\xfc", 6);
    CHECK_INT(ph_u16_get(out), ==, 0x0102);
    CHECK_INT(ph_u32_get(out + 2), ==, 0xfffefdfc);
    CHECK_INT(ph_u16_get(out + 2), ==, 0xfffe);
}

static bool utf8(const char *text)
{
    return ph_utf8_is_valid((const uint8_t *)text, strlen(text));
}

TEST(wire, utf8_accepts_the_edges_of_each_length)
{
    CHECK(utf8(""));
    CHECK(ph_utf8_is_valid(NULL, 0));
    CHECK(utf8("plain"));
    CHECK(utf8("\xc2\x80\xdf\xbf"));
    CHECK(utf8("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"));
    CHECK(utf8("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
    CHECK(ph_utf8_is_valid((const uint8_t *)"\0", 1));
}

TEST(wire, utf8_refuses_what_rfc_3629_forbids)
{
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc2",
        "\xc2\x41",
        "\xe0\x9f\xbf",
        "\xe0\xa0",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xe1\x80\x41",
        "\xf0\x8f\xbf\xbf",
        "\xf0\x90\x80",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xf1\x80\x80\xc0",
        "a\x80",
        "\xfe",
    };
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++)
        CHECK(!utf8(bad[i]));
}

/* The decoder of the definition: value, shortest length, range. */
static bool utf8_by_definition(const uint8_t *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < n;) {
        size_t len = p[i] < 0x80 ? 1 : p[i] >> 5 == 6 ? 2 : p[i] >> 4 == 14 ? 3 : 4;
        if (len == 4 && p[i] >> 3 != 30)
            return false;
        if (n - i < len)
            return false;
        uint32_t value = len == 1 ? p[i] : p[i] & (0xffu >> (len + 1));
        for (size_t k = 1; k < len; k++) {
            if (p[i + k] >> 6 != 2)
                return false;
            value = value << 6 | (p[i + k] & 0x3f);
        }
        if (value < least[len] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
            return false;
        i += len;
    }
    return true;
}

TEST(wire, utf8_agrees_with_the_definition_on_all_three_byte_strings)
{
    /* All lead bytes; second and third bytes around every boundary. */
    static const uint8_t edges[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0,
                                    0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xf4, 0xff};
    for (unsigned lead = 0; lead < 256; lead++) {
        for (size_t i = 0; i < PH_COUNT_OF(edges); i++) {
            for (size_t k = 0; k < PH_COUNT_OF(edges) * 2; k++) {
                uint8_t text[4] = {(uint8_t)lead, edges[i], edges[k / 2], k % 2 ? 0xbf : 0x80};
                for (size_t n = 1; n <= 4; n++)
                    CHECK_INT(ph_utf8_is_valid(text, n), ==, utf8_by_definition(text, n));
            }
        }
    }
}

TEST(wire, utf8_cut_falls_on_a_boundary)
{
    static const uint8_t text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
    static const size_t cuts[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    for (size_t max = 0; max < PH_COUNT_OF(cuts); max++)
        CHECK_INT(ph_utf8_cut(text, 11, max), ==, cuts[max]);
    CHECK_INT(ph_utf8_cut(NULL, 0, 5), ==, 0);
}

TEST(wire, utf8_cut_of_nonsense_still_ends_within_the_limit)
{
    static const uint8_t text[] = "\x80\x80\x80\x80\x80\x80\x80\x80";
    for (size_t max = 0; max <= 9; max++) {
        size_t cut = ph_utf8_cut(text, 8, max);
        CHECK_INT(cut, <=, PH_MIN(max, (size_t)8));
    }
    CHECK_INT(ph_utf8_cut(text, 8, 6), ==, 6);
}
