/*
 * fuzz_wire.c - varints read at once, read in pieces, and written again agree; UTF-8 checks agree
 * with the definition and cuts fall on boundaries.
 *
 * Input: one byte gives the pieces' sizes (1 + byte % 16, growing and wrapping), the rest is the
 * stream.
 */
#include "../../src/base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Values of a stream, by ph_varint_get(). */
struct values {
    uint64_t list[4096];
    size_t count;
    size_t used; /* bytes of whole varints */
};

static struct values expected;

static void read_at_once(const uint8_t *data, size_t size)
{
    expected.count = expected.used = 0;
    while (expected.count < PH_COUNT_OF(expected.list)) {
        uint64_t value;
        size_t n = ph_varint_get(data + expected.used, size - expected.used, &value);
        if (n == 0)
            break;
        PH_ASSERT(value <= PH_VARINT_MAX);
        PH_ASSERT(n == 1 || n == 2 || n == 4 || n == 8);
        PH_ASSERT(n <= size - expected.used);
        expected.list[expected.count++] = value;
        expected.used += n;
    }
}

static void read_in_pieces(const uint8_t *data, size_t size, size_t piece)
{
    struct ph_varint_reader reader = {0};
    size_t found = 0;
    for (size_t at = 0; at < size && found < expected.count;) {
        size_t n = PH_MIN(piece, size - at);
        const uint8_t *p = data + at, *end = p + n;
        while (found < expected.count && ph_varint_feed(&reader, &p, end)) {
            PH_ASSERT(reader.value == expected.list[found]);
            found++;
        }
        PH_ASSERT(p == end || found == expected.count);
        at += n;
        piece = piece % 16 + 1;
    }
    PH_ASSERT(found == expected.count);
    /* What is left over is less than one varint. */
    PH_ASSERT(!ph_varint_feed(&reader, &(const uint8_t *){data}, data));
}

static void write_again(void)
{
    for (size_t i = 0; i < expected.count; i++) {
        uint8_t out[8];
        uint64_t value = 0;
        size_t n = (size_t)(ph_varint_put(out, expected.list[i]) - out);
        PH_ASSERT(n == ph_varint_len(expected.list[i]));
        PH_ASSERT(ph_varint_get(out, n, &value) == n && value == expected.list[i]);
        PH_ASSERT(ph_varint_get(out, n - 1, &value) == 0);
    }
}

/* The decoder of RFC 3629 3, by value. */
static bool utf8_by_definition(const uint8_t *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < n;) {
        size_t len = p[i] < 0x80 ? 1 : p[i] >> 5 == 6 ? 2 : p[i] >> 4 == 14 ? 3 : 4;
        if ((len == 4 && p[i] >> 3 != 30) || n - i < len)
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

static void check_utf8(const uint8_t *data, size_t size)
{
    bool valid = ph_utf8_is_valid(data, size);
    PH_ASSERT(valid == utf8_by_definition(data, size));
    for (size_t max = 0; max <= PH_MIN(size, (size_t)40); max++) {
        size_t cut = ph_utf8_cut(data, size, max);
        PH_ASSERT(cut <= max && cut + 3 >= max);
        PH_ASSERT(!valid || ph_utf8_is_valid(data, cut));
    }
}

static void check_escape(const uint8_t *data, size_t size)
{
    char out[64];
    ph_escape(out, sizeof(out), data, size);
    for (const char *p = out; *p != '\0'; p++)
        PH_ASSERT(*p >= 0x20 && *p < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t piece = data[0] % 16u + 1;
    data++;
    size--;
    read_at_once(data, size);
    read_in_pieces(data, size, piece);
    write_again();
    check_utf8(data, size);
    check_escape(data, size);
    return 0;
}
