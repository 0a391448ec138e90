/*
 * ws_utf8.c - UTF-8 that arrives in pieces, judged byte by byte (RFC 3629): a text message is
 * refused with the first byte that cannot be right, not when it is complete (RFC 6455 8.1).
 *
 * Overlong forms, surrogates and what lies above U+10FFFF are told by the second byte alone, so the
 * state is how many bytes are missing and what the next one may be.
 */
#include "ws_internal.h"

static bool begin(struct ph_ws_utf8 *utf8, uint8_t c)
{
    utf8->lo = 0x80;
    utf8->hi = 0xbf;
    if (c >= 0xc2 && c <= 0xdf) {
        utf8->need = 1;
    } else if (c >= 0xe0 && c <= 0xef) {
        utf8->need = 2;
        utf8->lo = c == 0xe0 ? 0xa0 : 0x80;
        utf8->hi = c == 0xed ? 0x9f : 0xbf;
    } else if (c >= 0xf0 && c <= 0xf4) {
        utf8->need = 3;
        utf8->lo = c == 0xf0 ? 0x90 : 0x80;
        utf8->hi = c == 0xf4 ? 0x8f : 0xbf;
    } else {
        return false;
    }
    return true;
}

/* Skips ASCII 64 bytes at a time: the inner loop has no branch, so that it becomes vectors. */
static const uint8_t *skip_ascii(const uint8_t *p, const uint8_t *end)
{
    uint64_t words[8];
    while ((size_t)(end - p) >= sizeof(words)) {
        uint64_t all = 0;
        memcpy(words, p, sizeof(words));
        for (size_t i = 0; i < PH_COUNT_OF(words); i++)
            all |= words[i];
        if ((all & UINT64_C(0x8080808080808080)) != 0)
            break;
        p += sizeof(words);
    }
    while (p < end && *p < 0x80)
        p++;
    return p;
}

bool ph_ws_utf8_feed(struct ph_ws_utf8 *utf8, const uint8_t *p, size_t n)
{
    const uint8_t *end = p + n;
    while (p < end) {
        if (utf8->need == 0) {
            p = skip_ascii(p, end);
            if (p < end && !begin(utf8, *p++))
                return false;
            continue;
        }
        if (*p < utf8->lo || *p > utf8->hi)
            return false;
        utf8->lo = 0x80;
        utf8->hi = 0xbf;
        utf8->need--;
        p++;
    }
    return true;
}
