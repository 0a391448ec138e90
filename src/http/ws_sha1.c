/*
 * ws_sha1.c - SHA-1 (RFC 3174) for Sec-WebSocket-Accept, and for nothing else: the handshake of
 * HTTP/1.1 proves with it that the server read the key (RFC 6455 1.3). This module has no library
 * of cryptography, and needs none for that.
 */
#include "ws_internal.h"

static uint32_t rotate(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static void add_block(uint32_t h[5], const uint8_t *p)
{
    uint32_t w[80];
    for (size_t i = 0; i < 16; i++)
        w[i] = ph_u32_get(p + 4 * i);
    for (size_t i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (size_t i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) {
            f = (b & c) | (~b & d);
            k = 0x5a827999;
        } else if (i < 40) {
            f = b ^ c ^ d;
            k = 0x6ed9eba1;
        } else if (i < 60) {
            f = (b & c) | (b & d) | (c & d);
            k = 0x8f1bbcdc;
        } else {
            f = b ^ c ^ d;
            k = 0xca62c1d6;
        }
        uint32_t sum = rotate(a, 5) + f + e + k + w[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = sum;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

void ph_ws_sha1(const void *data, size_t n, uint8_t out[20])
{
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    const uint8_t *p = data;
    uint8_t last[128] = {0};
    size_t left = n;
    for (; left >= 64; left -= 64, p += 64)
        add_block(h, p);
    if (left > 0)
        memcpy(last, p, left);
    last[left] = 0x80;
    size_t total = left < 56 ? 64 : 128;
    ph_u32_put(last + total - 8, (uint32_t)((uint64_t)n >> 29));
    ph_u32_put(last + total - 4, (uint32_t)(n << 3));
    add_block(h, last);
    if (total == 128)
        add_block(h, last + 64);
    for (size_t i = 0; i < 5; i++)
        ph_u32_put(out + 4 * i, h[i]);
}
