/*
 * wire.c - varints (RFC 9000 16), big-endian integers, UTF-8.
 *
 * Used by every parser and writer of QUIC, HTTP/3 and WebTransport framing. Readers never look past
 * the bytes they are given and hold no pointer to them afterwards.
 */
#include "base.h"

/* --- Varints --- */

size_t ph_varint_len(uint64_t v)
{
    if (v < UINT64_C(1) << 6)
        return 1;
    if (v < UINT64_C(1) << 14)
        return 2;
    return v < UINT64_C(1) << 30 ? 4 : 8;
}

uint8_t *ph_varint_put(uint8_t *p, uint64_t v)
{
    PH_ASSERT(v <= PH_VARINT_MAX);
    size_t n = ph_varint_len(v);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    /* The two top bits say log2 of the length: 1, 2, 4, 8 -> 0, 1, 2, 3. */
    unsigned prefix = n == 8 ? 3 : (unsigned)(n / 2);
    p[0] = (uint8_t)(p[0] | prefix << 6);
    return p + n;
}

size_t ph_varint_get(const uint8_t *p, size_t n, uint64_t *v)
{
    if (n == 0)
        return 0;
    size_t len = (size_t)1 << (p[0] >> 6);
    if (n < len)
        return 0;
    uint64_t value = p[0] & 0x3f;
    for (size_t i = 1; i < len; i++)
        value = value << 8 | p[i];
    *v = value;
    return len;
}

bool ph_varint_feed(struct ph_varint_reader *reader, const uint8_t **p, const uint8_t *end)
{
    const uint8_t *at = *p;
    if (at == end)
        return false;
    if (!reader->started) {
        reader->started = true;
        reader->left = (uint8_t)((1u << (*at >> 6)) - 1);
        reader->value = *at++ & 0x3f;
    }
    while (reader->left > 0 && at < end) {
        reader->value = reader->value << 8 | *at++;
        reader->left--;
    }
    *p = at;
    if (reader->left > 0)
        return false;
    reader->started = false;
    return true;
}

/* --- Big-endian integers --- */

uint8_t *ph_u16_put(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return p + 2;
}

uint8_t *ph_u32_put(uint8_t *p, uint32_t v)
{
    return ph_u16_put(ph_u16_put(p, (uint16_t)(v >> 16)), (uint16_t)v);
}

uint16_t ph_u16_get(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t ph_u32_get(const uint8_t *p)
{
    return (uint32_t)ph_u16_get(p) << 16 | ph_u16_get(p + 2);
}

/* --- UTF-8 (RFC 3629) --- */

/* Length of the well-formed character at p (n > 0), 0 when there is none. The second byte's range
 * rules out overlong forms, surrogates and values past U+10FFFF (table 3-7 of Unicode). */
static size_t utf8_char(const uint8_t *p, size_t n)
{
    uint8_t lead = p[0], low = 0x80, high = 0xbf;
    size_t len;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        len = 2;
    else if (lead >= 0xe0 && lead <= 0xef)
        len = 3;
    else if (lead >= 0xf0 && lead <= 0xf4)
        len = 4;
    else
        return 0;
    if (n < len)
        return 0;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

bool ph_utf8_is_valid(const uint8_t *p, size_t n)
{
    while (n > 0) {
        size_t len = utf8_char(p, n);
        if (len == 0)
            return false;
        p += len;
        n -= len;
    }
    return true;
}

size_t ph_utf8_cut(const uint8_t *p, size_t n, size_t max)
{
    if (n <= max)
        return n;
    /* A character has at most three continuation bytes; text with more of them in a row is not
     * UTF-8 and has no boundary to respect. */
    for (size_t back = 0; back <= 3 && back <= max; back++) {
        if ((p[max - back] & 0xc0) != 0x80)
            return max - back;
    }
    return max;
}
