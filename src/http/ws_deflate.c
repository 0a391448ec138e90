/*
 * ws_deflate.c - permessage-deflate (RFC 7692) without context takeover, in both directions.
 *
 *      message -> deflate, sync flush -> without 00 00 ff ff -> frame with RSV1
 *      frames with RSV1 -> inflate into the message, at most its limit
 *
 * Each message is compressed on its own. That costs some ratio on many small and similar messages,
 * and buys that an idle connection holds no compressor at all (the usual settings hold up to 300
 * KiB for each), so that the extension can be on by default: the compressor is shared by all
 * connections of a thread, and a decompressor exists while a compressed message is being received,
 * with a window of 4 KiB where the client lets us choose.
 *
 * Bounds: the output is measured while it is made, so that a message that would pass the limit
 * never exists; input of any size costs no more than its output.
 */
#include "ws_internal.h"

#define ZLIB_CONST
#include <zlib.h>

/* The level that costs the thread least; messages in text still shrink to a half or a quarter. */
#define LEVEL Z_BEST_SPEED
#define MEM_LEVEL 5 /* 16 KiB of hash chains: more gains nothing with a window of 4 KiB */

struct ph_ws_inflate {
    z_stream z;
    bool is_ended; /* a block with BFINAL was the last so far (RFC 7692 7.2.3.4) */
};

struct ph_ws_zip {
    z_stream deflate; /* of PH_WS_WINDOW_BITS, made at first use */
    bool has_deflate;
    struct ph_ws_inflate *spare; /* the one that was given back last; NULL: none */
};

/* --- Memory --- */

static void *z_alloc(void *self, unsigned items, unsigned size)
{
    (void)self;
    return ph_try_alloc((size_t)items * size);
}

static void z_free(void *self, void *p)
{
    ph_lib_free(p, self);
}

bool ph_ws_grow(struct ph_buf **buf, size_t want, size_t max)
{
    size_t len = *buf != NULL ? (*buf)->len : 0, cap = *buf != NULL ? (*buf)->cap : 0;
    size_t limit = max + 1;
    PH_ASSERT(len < limit);
    if (cap - len >= PH_MIN(want, limit - len) && cap > len)
        return true;
    size_t grown = PH_MIN(PH_MAX(len + PH_MIN(want, limit - len), 2 * cap), limit);
    struct ph_buf *larger = ph_buf_try_new(PH_MAX(grown, len + 1));
    if (larger == NULL)
        return false;
    if (len > 0)
        memcpy(larger->data, (*buf)->data, len);
    larger->len = len;
    ph_buf_unref(*buf);
    *buf = larger;
    return true;
}

struct ph_ws_zip *ph_ws_zip_new(void)
{
    return ph_alloc(sizeof(struct ph_ws_zip));
}

static void inflate_free(struct ph_ws_inflate *in)
{
    if (in == NULL)
        return;
    inflateEnd(&in->z);
    ph_free(in);
}

void ph_ws_zip_free(struct ph_ws_zip *zip)
{
    if (zip->has_deflate)
        deflateEnd(&zip->deflate);
    inflate_free(zip->spare);
    ph_free(zip);
}

/* --- Out --- */

/* false: there is no memory. */
static bool deflate_new(z_stream *z, unsigned window_bits)
{
    *z = (z_stream){.zalloc = z_alloc, .zfree = z_free};
    int rc = deflateInit2(z, LEVEL, Z_DEFLATED, -(int)window_bits, MEM_LEVEL, Z_DEFAULT_STRATEGY);
    PH_ASSERT(rc == Z_OK || rc == Z_MEM_ERROR);
    return rc == Z_OK;
}

/* true: `out` holds it all and is smaller. */
static bool deflate_into(z_stream *z, struct ph_buf *out, const uint8_t *p, size_t n)
{
    z->next_in = p;
    z->avail_in = (uInt)n;
    z->next_out = out->data;
    z->avail_out = (uInt)out->cap;
    int rc = deflate(z, Z_SYNC_FLUSH);
    size_t made = out->cap - z->avail_out;
    if (rc != Z_OK || z->avail_in > 0 || z->avail_out == 0 || made < 4)
        return false;
    out->len = made - 4; /* 00 00 ff ff */
    return true;
}

struct ph_buf *ph_ws_zip_deflate(struct ph_ws_zip *zip, unsigned window_bits, const uint8_t *p,
                                 size_t n)
{
    PH_ASSERT(n > 0 && n <= UINT32_MAX / 2);
    struct ph_buf *out = ph_buf_try_new(n + 4);
    bool is_small = false;
    if (out == NULL)
        return NULL;
    if (window_bits >= PH_WS_WINDOW_BITS) {
        if (zip->has_deflate)
            deflateReset(&zip->deflate);
        else
            zip->has_deflate = deflate_new(&zip->deflate, PH_WS_WINDOW_BITS);
        is_small = zip->has_deflate && deflate_into(&zip->deflate, out, p, n);
    } else {
        z_stream z;
        if (deflate_new(&z, window_bits)) {
            is_small = deflate_into(&z, out, p, n);
            deflateEnd(&z);
        }
    }
    if (is_small && out->len < n)
        return out;
    ph_buf_unref(out);
    return NULL;
}

/* --- In --- */

/* The window is the largest there is, whatever the client agreed to: with a smaller one zlib takes
 * what reaches back farther if it comes in one piece, and refuses it if it comes in several. */
struct ph_ws_inflate *ph_ws_zip_inflate(struct ph_ws_zip *zip)
{
    struct ph_ws_inflate *in = zip->spare;
    int rc;
    zip->spare = NULL;
    if (in != NULL) {
        rc = inflateReset(&in->z);
    } else {
        in = ph_alloc(sizeof(*in));
        in->z = (z_stream){.zalloc = z_alloc, .zfree = z_free};
        rc = inflateInit2(&in->z, -PH_WS_WINDOW_MAX);
    }
    if (rc == Z_MEM_ERROR) {
        inflate_free(in);
        return NULL;
    }
    PH_ASSERT(rc == Z_OK);
    in->is_ended = false;
    return in;
}

void ph_ws_inflate_done(struct ph_ws_zip *zip, struct ph_ws_inflate *in)
{
    if (zip->spare == NULL)
        zip->spare = in;
    else
        inflate_free(in);
}

int ph_ws_inflate_feed(struct ph_ws_inflate *in, const uint8_t *p, size_t n, struct ph_buf **buf,
                       size_t max)
{
    z_stream *z = &in->z;
    z->next_in = p;
    z->avail_in = (uInt)n;
    PH_ASSERT(n <= UINT32_MAX);
    for (;;) {
        if (!ph_ws_grow(buf, PH_MAX(2 * (size_t)z->avail_in, (size_t)64), max))
            return PH_E_INTERNAL;
        if (in->is_ended && z->avail_in > 0) { /* another stream of blocks follows */
            inflateReset(z);
            in->is_ended = false;
        }
        size_t room = PH_MIN((*buf)->cap - (*buf)->len, (size_t)UINT32_MAX);
        z->next_out = (*buf)->data + (*buf)->len;
        z->avail_out = (uInt)room;
        int rc = in->is_ended ? Z_BUF_ERROR : inflate(z, Z_SYNC_FLUSH);
        (*buf)->len += room - z->avail_out;
        if ((*buf)->len > max)
            return PH_E_LIMIT;
        if (rc == Z_STREAM_END)
            in->is_ended = true;
        else if (rc == Z_MEM_ERROR)
            return PH_E_INTERNAL;
        else if (rc != Z_OK && rc != Z_BUF_ERROR)
            return PH_E_MALFORMED;
        if (z->avail_in == 0 && z->avail_out > 0)
            return 0;
        if (rc == Z_BUF_ERROR && z->avail_out > 0) /* no progress with room and input */
            return PH_E_MALFORMED;
    }
}

int ph_ws_inflate_end(struct ph_ws_inflate *in, struct ph_buf **buf, size_t max)
{
    static const uint8_t tail[] = {0x00, 0x00, 0xff, 0xff};
    if (in->is_ended) /* its sender left out nothing */
        return 0;
    return ph_ws_inflate_feed(in, tail, sizeof(tail), buf, max);
}
