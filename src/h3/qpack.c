/*
 * qpack.c - field sections (RFC 9204) over nghttp3's QPACK codec, with no dynamic table in either
 * direction.
 *
 * We advertise capacity 0 and 0 blocked streams and never use a table at the peer, so a field
 * section depends on nothing but itself: no blocking, no state between requests, and no QPACK
 * streams of ours (RFC 9204 4.2 allows that; some clients mind extra streams). What the peer may
 * say on its two streams then shrinks to "Set Dynamic Table Capacity 0" and "Stream Cancellation".
 *
 * Decoding is bounded twice: the encoded bytes by the caller, the decoded list by the builder's
 * limits, and it stops at the first field that breaks one. A few bytes can name a large table
 * entry thousands of times; nothing beyond the limit is ever decoded.
 */
#include "h3.h"
#include "../http/http.h"

#include <nghttp3/nghttp3.h>

/* Continuation bytes of a prefixed integer of 62 bits (RFC 7541 5.1). */
enum { INTEGER_TAIL_MAX = 9 };

struct ph_qpack {
    nghttp3_qpack_encoder *encoder;
    nghttp3_qpack_decoder *decoder;
    nghttp3_qpack_stream_context *section; /* reused: without a table its stream id means nothing */
    nghttp3_buf prefix, lines, instructions; /* encoder output, reused */
    nghttp3_nv *nv;                          /* encoder input, reused */
    size_t nv_cap;
    uint8_t tail; /* decoder stream: continuation bytes read, 0 outside of an instruction */
};

/* nghttp3 fails here only without memory, and small allocations never fail in this project. */
static void must(int rv)
{
    PH_ASSERT(rv == 0);
}

static const nghttp3_mem lib_mem = {.malloc = ph_lib_malloc,
                                    .free = ph_lib_free,
                                    .calloc = ph_lib_calloc,
                                    .realloc = ph_lib_realloc};

struct ph_qpack *ph_qpack_new(void)
{
    struct ph_qpack *qpack = ph_alloc(sizeof(*qpack));
    must(nghttp3_qpack_encoder_new(&qpack->encoder, 0, &lib_mem));
    must(nghttp3_qpack_decoder_new(&qpack->decoder, 0, 0, &lib_mem));
    nghttp3_buf_init(&qpack->prefix);
    nghttp3_buf_init(&qpack->lines);
    nghttp3_buf_init(&qpack->instructions);
    return qpack;
}

void ph_qpack_free(struct ph_qpack *qpack)
{
    if (qpack == NULL)
        return;
    nghttp3_qpack_stream_context_del(qpack->section);
    nghttp3_qpack_encoder_del(qpack->encoder);
    nghttp3_qpack_decoder_del(qpack->decoder);
    nghttp3_buf_free(&qpack->prefix, &lib_mem);
    nghttp3_buf_free(&qpack->lines, &lib_mem);
    nghttp3_buf_free(&qpack->instructions, &lib_mem);
    ph_free(qpack->nv);
    ph_free(qpack);
}

/* --- Decoding --- */

static int emit(nghttp3_qpack_nv *nv, struct ph_head_builder *builder)
{
    nghttp3_vec name = nghttp3_rcbuf_get_buf(nv->name);
    nghttp3_vec value = nghttp3_rcbuf_get_buf(nv->value);
    int rv = ph_head_builder_add(builder, (const char *)name.base, name.len,
                                 (const char *)value.base, value.len);
    nghttp3_rcbuf_decref(nv->name);
    nghttp3_rcbuf_decref(nv->value);
    return rv;
}

static int decode_lines(struct ph_qpack *qpack, const uint8_t *p, size_t n,
                        struct ph_head_builder *builder)
{
    for (;;) {
        nghttp3_qpack_nv nv;
        uint8_t flags = NGHTTP3_QPACK_DECODE_FLAG_NONE;
        nghttp3_ssize used = nghttp3_qpack_decoder_read_request(qpack->decoder, qpack->section, &nv,
                                                                &flags, p, n, 1);
        if (used < 0)
            return used == NGHTTP3_ERR_QPACK_HEADER_TOO_LARGE ? PH_E_LIMIT : PH_E_PROTO;
        if (flags & NGHTTP3_QPACK_DECODE_FLAG_BLOCKED) /* refers to a table that cannot exist */
            return PH_E_PROTO;
        p += used;
        n -= (size_t)used;
        if (flags & NGHTTP3_QPACK_DECODE_FLAG_EMIT) {
            int rv = emit(&nv, builder);
            if (rv < 0)
                return rv;
        }
        if (flags & NGHTTP3_QPACK_DECODE_FLAG_FINAL)
            return 0;
        if (used == 0 && !(flags & NGHTTP3_QPACK_DECODE_FLAG_EMIT))
            return PH_E_PROTO;
    }
}

static int decode(struct ph_qpack *qpack, uint64_t stream_id, const uint8_t *p, size_t n,
                  struct ph_head_builder *builder)
{
    if (n == 0) /* not even a prefix (RFC 9204 4.5.1) */
        return PH_E_PROTO;
    if (qpack->section == NULL)
        must(nghttp3_qpack_stream_context_new(&qpack->section, (int64_t)stream_id, &lib_mem));
    int rv = decode_lines(qpack, p, n, builder);
    if (rv == 0) {
        nghttp3_qpack_stream_context_reset(qpack->section);
    } else { /* it may hold half a field */
        nghttp3_qpack_stream_context_del(qpack->section);
        qpack->section = NULL;
    }
    return rv;
}

int ph_qpack_decode(struct ph_qpack *qpack, uint64_t stream_id, const uint8_t *p, size_t n,
                    struct ph_head_builder *builder)
{
    return decode(qpack, stream_id, p, n, builder);
}

int ph_qpack_decode_trailers(struct ph_qpack *qpack, uint64_t stream_id, const uint8_t *p, size_t n,
                             struct ph_fields *out, const struct ph_http_limits *limits)
{
    struct ph_head_builder builder;
    ph_head_builder_init_trailers(&builder, limits);
    int rv = decode(qpack, stream_id, p, n, &builder);
    if (rv == 0)
        rv = ph_head_builder_finish(&builder);
    if (rv == 0)
        *out = builder.head.fields;
    else
        ph_head_builder_fini(&builder);
    return rv;
}

/* --- Encoding --- */

/* Values worth guessing are never to be indexed by anybody on the way (RFC 9204 7.1.3). */
static bool is_secret(const struct ph_field *field)
{
    static const char *const names[] = {"authorization", "cookie", "set-cookie"};
    for (size_t i = 0; i < PH_COUNT_OF(names); i++) {
        if (field->name_len == strlen(names[i]) &&
            memcmp(field->name, names[i], field->name_len) == 0)
            return true;
    }
    return false;
}

struct ph_buf *ph_qpack_encode(struct ph_qpack *qpack, uint64_t stream_id,
                               const struct ph_field *fields, size_t n)
{
    if (qpack->nv_cap < n) {
        qpack->nv_cap = PH_MAX(n, (size_t)16);
        qpack->nv = ph_realloc(qpack->nv, qpack->nv_cap * sizeof(*qpack->nv));
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t flags = NGHTTP3_NV_FLAG_NO_COPY_NAME | NGHTTP3_NV_FLAG_NO_COPY_VALUE;
        if (is_secret(&fields[i]))
            flags |= NGHTTP3_NV_FLAG_NEVER_INDEX;
        qpack->nv[i] = (nghttp3_nv){.name = (const uint8_t *)fields[i].name,
                                    .value = (const uint8_t *)fields[i].value,
                                    .namelen = fields[i].name_len,
                                    .valuelen = fields[i].value_len,
                                    .flags = flags};
    }
    nghttp3_buf_reset(&qpack->prefix);
    nghttp3_buf_reset(&qpack->lines);
    nghttp3_buf_reset(&qpack->instructions);
    must(nghttp3_qpack_encoder_encode(qpack->encoder, &qpack->prefix, &qpack->lines,
                                      &qpack->instructions, (int64_t)stream_id, qpack->nv, n));
    PH_ASSERT(nghttp3_buf_len(&qpack->instructions) == 0);
    size_t prefix_len = nghttp3_buf_len(&qpack->prefix), lines_len = nghttp3_buf_len(&qpack->lines);
    uint8_t head[16];
    size_t head_len = (size_t)(ph_h3_frame_put(head, PH_H3_HEADERS, prefix_len + lines_len) - head);
    struct ph_buf *buf = ph_buf_new(head_len + prefix_len + lines_len);
    uint8_t *out = ph_buf_data(buf);
    memcpy(out, head, head_len);
    memcpy(out + head_len, qpack->prefix.pos, prefix_len);
    if (lines_len > 0)
        memcpy(out + head_len + prefix_len, qpack->lines.pos, lines_len);
    ph_buf_set_len(buf, head_len + prefix_len + lines_len);
    return buf;
}

/* --- The peer's QPACK streams --- */

int ph_qpack_encoder_stream(struct ph_qpack *qpack, const uint8_t *p, size_t n, uint64_t *code)
{
    (void)qpack;
    /* RFC 9204 4.3.1: 001xxxxx is Set Dynamic Table Capacity; 0 is the only capacity within ours.
     * An insertion cannot fit and a duplicate cannot refer to anything. */
    for (size_t i = 0; i < n; i++) {
        if (p[i] != 0x20)
            return *code = PH_QPACK_ENCODER_STREAM_ERROR, PH_E_PROTO;
    }
    return 0;
}

int ph_qpack_decoder_stream(struct ph_qpack *qpack, const uint8_t *p, size_t n, uint64_t *code)
{
    /* RFC 9204 4.4: a Section Acknowledgment (1xxxxxxx) or an Insert Count Increment (00xxxxxx) can
     * refer to nothing we ever sent; a Stream Cancellation (01xxxxxx) is always harmless. */
    for (size_t i = 0; i < n; i++) {
        if (qpack->tail == 0) {
            if ((p[i] & 0xc0) != 0x40)
                return *code = PH_QPACK_DECODER_STREAM_ERROR, PH_E_PROTO;
            qpack->tail = (p[i] & 0x3f) == 0x3f ? 1 : 0;
        } else if ((p[i] & 0x80) == 0) {
            qpack->tail = 0;
        } else if (++qpack->tail > INTEGER_TAIL_MAX) {
            return *code = PH_QPACK_DECODER_STREAM_ERROR, PH_E_PROTO;
        }
    }
    return 0;
}
