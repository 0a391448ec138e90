/*
 * h2_rig.h - one HTTP/2 connection on a bench. The client is made of raw frames, so that it can do
 * anything; what the sink was told and what came over the wire are written down as text.
 */
#ifndef PH_H2_RIG_H
#define PH_H2_RIG_H

#include "../../src/http/h2_internal.h"
#include "http_app.h"

struct h2_rig {
    struct ph_h2_config config;
    struct http_app app;
    struct ph_tcp_engine *engine;
    struct ph_sliceq in, out;
    struct ph_stats stats;
    uint64_t now;
    bool no_reading; /* the client's socket takes nothing */
    bool is_brief;   /* windows and settings are not written down */
    size_t step;     /* bytes per feed */
    size_t data_bytes, goaways, resets;
    uint32_t last_goaway, last_reset;
    char *wire; /* own, NUL-terminated */
    size_t wire_len;
    nghttp2_hd_deflater *deflater;
    nghttp2_hd_inflater *inflater;
    uint8_t frame[70000]; /* of the server, while it is incomplete */
    size_t frame_len;
};

#define H2_WIRE(rig, ...) text_note(&(rig)->wire, &(rig)->wire_len, __VA_ARGS__)

/* --- What the server says --- */

static inline void h2_show_fields(struct h2_rig *rig, const uint8_t *p, size_t n)
{
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t used = nghttp2_hd_inflate_hd2(rig->inflater, &nv, &flags, p, n, 1);
        CHECK(used >= 0);
        p += used;
        n -= (size_t)used;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0)
            H2_WIRE(rig, " %.*s=%.*s", (int)nv.namelen, (const char *)nv.name,
                    (int)PH_MIN(nv.valuelen, 64), (const char *)nv.value);
        if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0)
            break;
    }
    nghttp2_hd_inflate_end_headers(rig->inflater);
}

static inline void h2_show(struct h2_rig *rig, const uint8_t *frame, size_t n)
{
    unsigned type = frame[3], flags = frame[4], id = ph_u32_get(frame + 5);
    const uint8_t *p = frame + PH_H2_FRAME_HEAD;
    const char *end = (flags & NGHTTP2_FLAG_END_STREAM) != 0 ? " end" : "";
    n -= PH_H2_FRAME_HEAD;
    switch (type) {
    case NGHTTP2_DATA:
        rig->data_bytes += n;
        if (n < 64)
            H2_WIRE(rig, "DATA %u%s(%.*s);", id, end, (int)n, (const char *)p);
        else
            H2_WIRE(rig, "DATA %u%s %zu;", id, end, n);
        break;
    case NGHTTP2_HEADERS:
        H2_WIRE(rig, "HEADERS %u%s", id, end);
        if ((flags & NGHTTP2_FLAG_END_HEADERS) != 0)
            h2_show_fields(rig, p, n);
        H2_WIRE(rig, ";");
        break;
    case NGHTTP2_RST_STREAM:
        rig->resets++;
        rig->last_reset = ph_u32_get(p);
        H2_WIRE(rig, "RST %u %u;", id, rig->last_reset);
        break;
    case NGHTTP2_GOAWAY:
        rig->goaways++;
        rig->last_goaway = ph_u32_get(p + 4);
        H2_WIRE(rig, "GOAWAY %u %u;", ph_u32_get(p), rig->last_goaway);
        break;
    case NGHTTP2_PING:
        H2_WIRE(rig, "PING%s;", (flags & NGHTTP2_FLAG_ACK) != 0 ? " ack" : "");
        break;
    case NGHTTP2_SETTINGS:
        if (rig->is_brief)
            break;
        H2_WIRE(rig, "SETTINGS%s", (flags & NGHTTP2_FLAG_ACK) != 0 ? " ack" : "");
        for (; n >= 6; n -= 6, p += 6)
            H2_WIRE(rig, " %u=%u", ph_u16_get(p), ph_u32_get(p + 2));
        H2_WIRE(rig, ";");
        break;
    case NGHTTP2_WINDOW_UPDATE:
        if (!rig->is_brief)
            H2_WIRE(rig, "WINDOW %u %u;", id, ph_u32_get(p));
        break;
    default:
        H2_WIRE(rig, "FRAME %u %u;", type, id);
        break;
    }
}

static inline void h2_take(struct h2_rig *rig, const uint8_t *p, size_t n)
{
    while (n > 0) {
        size_t need = PH_H2_FRAME_HEAD;
        if (rig->frame_len >= need)
            need += (size_t)rig->frame[0] << 16 | (size_t)rig->frame[1] << 8 | rig->frame[2];
        CHECK(need <= sizeof(rig->frame));
        size_t part = PH_MIN(n, need - rig->frame_len);
        memcpy(rig->frame + rig->frame_len, p, part);
        rig->frame_len += part;
        p += part;
        n -= part;
        if (rig->frame_len < PH_H2_FRAME_HEAD)
            continue;
        need = PH_H2_FRAME_HEAD +
               ((size_t)rig->frame[0] << 16 | (size_t)rig->frame[1] << 8 | rig->frame[2]);
        if (rig->frame_len == need) {
            rig->frame_len = 0;
            h2_show(rig, rig->frame, need);
        }
    }
}

/* Gives the connection what is due, and the client what is written, at most `max` bytes. */
static inline void h2_turn_some(struct h2_rig *rig, size_t max)
{
    const struct ph_tcp_engine_ops *ops = rig->engine->ops;
    if (rig->in.unsent > 0 && ops->wants_input(rig->engine))
        ops->feed(rig->engine, &rig->in, rig->now);
    ops->flush(rig->engine);
    struct iovec iov;
    while (!rig->no_reading && max > 0 && ph_sliceq_gather(&rig->out, &iov, 1, max) == 1) {
        size_t n = iov.iov_len;
        h2_take(rig, iov.iov_base, n);
        ph_sliceq_advance(&rig->out, n);
        ph_sliceq_drop(&rig->out, n);
        ops->sent(rig->engine, n, rig->now);
        if (rig->out.unsent == 0)
            ops->flush(rig->engine);
        max -= n;
    }
    for (int i = 0; i < 100 && ops->next(rig->engine) <= rig->now; i++)
        ops->expire(rig->engine, rig->now);
    CHECK(ops->next(rig->engine) > rig->now || rig->out.unsent < PH_H2_OUT_MAX);
}

static inline void h2_turn(struct h2_rig *rig)
{
    h2_turn_some(rig, SIZE_MAX);
    h2_turn_some(rig, SIZE_MAX);
}

static inline bool h2_is_done(const struct h2_rig *rig, bool *abort)
{
    bool dummy;
    return rig->engine->ops->is_done(rig->engine, abort != NULL ? abort : &dummy);
}

static inline void h2_pass(struct h2_rig *rig, uint64_t ns)
{
    rig->now += ns;
    rig->engine->ops->expire(rig->engine, rig->now);
    h2_turn(rig);
}

/* --- What the client says --- */

static inline void h2_bytes(struct h2_rig *rig, const void *data, size_t n)
{
    const uint8_t *p = data;
    while (n > 0) {
        size_t part = PH_MIN(n, rig->step);
        ph_sliceq_push_copy(&rig->in, p, part);
        if (rig->engine->ops->wants_input(rig->engine))
            rig->engine->ops->feed(rig->engine, &rig->in, rig->now);
        p += part;
        n -= part;
    }
}

static inline void h2_frame(struct h2_rig *rig, uint8_t type, uint8_t flags, uint32_t id,
                            const void *payload, size_t n)
{
    uint8_t *bytes = ph_alloc(PH_H2_FRAME_HEAD + n);
    ph_u32_put(bytes, (uint32_t)n << 8);
    bytes[3] = type;
    bytes[4] = flags;
    ph_u32_put(bytes + 5, id);
    if (n > 0)
        memcpy(bytes + PH_H2_FRAME_HEAD, payload, n);
    h2_bytes(rig, bytes, PH_H2_FRAME_HEAD + n);
    ph_free(bytes);
}

/* "name: value" lines into a header block; the caller frees it. */
static inline uint8_t *h2_block(struct h2_rig *rig, const char *lines, size_t *len)
{
    nghttp2_nv nv[300];
    size_t count = 0, size = strlen(lines);
    char *copy = ph_strdup(lines), *line = copy;
    while (*line != '\0') {
        char *end = strchr(line, '\n'), *colon = strstr(line + 1, ": ");
        CHECK(end != NULL && colon != NULL && colon < end && count < PH_COUNT_OF(nv));
        nv[count++] = (nghttp2_nv){.name = (uint8_t *)line,
                                   .namelen = (size_t)(colon - line),
                                   .value = (uint8_t *)colon + 2,
                                   .valuelen = (size_t)(end - colon - 2)};
        line = end + 1;
    }
    uint8_t *block = ph_alloc(2 * size + 64);
    ssize_t n = nghttp2_hd_deflate_hd(rig->deflater, block, 2 * size + 64, nv, count);
    CHECK(n >= 0);
    ph_free(copy);
    *len = (size_t)n;
    return block;
}

static inline void h2_headers(struct h2_rig *rig, uint32_t id, const char *lines, bool fin)
{
    size_t n;
    uint8_t *block = h2_block(rig, lines, &n);
    uint8_t flags = fin ? NGHTTP2_FLAG_END_STREAM : 0;
    h2_frame(rig, NGHTTP2_HEADERS, flags | NGHTTP2_FLAG_END_HEADERS, id, block, n);
    ph_free(block);
}

#define H2_GET ":method: GET\n:scheme: https\n:authority: h\n:path: /\n"
#define H2_POST ":method: POST\n:scheme: https\n:authority: h\n:path: /p\n"

static inline void h2_data(struct h2_rig *rig, uint32_t id, const char *text, bool fin)
{
    h2_frame(rig, NGHTTP2_DATA, fin ? NGHTTP2_FLAG_END_STREAM : 0, id, text, strlen(text));
}

static inline void h2_u32(struct h2_rig *rig, uint8_t type, uint32_t id, uint32_t value)
{
    uint8_t payload[4];
    ph_u32_put(payload, value);
    h2_frame(rig, type, 0, id, payload, 4);
}
static inline void h2_rst(struct h2_rig *rig, uint32_t id, uint32_t code)
{
    h2_u32(rig, NGHTTP2_RST_STREAM, id, code);
}
static inline void h2_window(struct h2_rig *rig, uint32_t id, uint32_t n)
{
    h2_u32(rig, NGHTTP2_WINDOW_UPDATE, id, n);
}
static inline void h2_setting(struct h2_rig *rig, uint16_t id, uint32_t value)
{
    uint8_t entry[6];
    ph_u32_put(ph_u16_put(entry, id), value);
    h2_frame(rig, NGHTTP2_SETTINGS, 0, 0, entry, 6);
}

/* --- Life --- */

static inline struct h2_rig *h2_rig_bare(void)
{
    struct h2_rig *rig = ph_alloc(sizeof(*rig));
    ph_h2_config_default(&rig->config);
    rig->config.websocket = true;
    rig->step = SIZE_MAX;
    rig->now = PH_SEC;
    rig->is_brief = true;
    app_init(&rig->app);
    rig->app.shown_max = 63;
    text_append(&rig->wire, &rig->wire_len, "", 0);
    CHECK_INT(nghttp2_hd_deflate_new(&rig->deflater, 4096), ==, 0);
    CHECK_INT(nghttp2_hd_inflate_new(&rig->inflater), ==, 0);
    ph_sliceq_init(&rig->in);
    ph_sliceq_init(&rig->out);
    return rig;
}

/* After the configuration was changed. */
static inline void h2_rig_start(struct h2_rig *rig)
{
    struct ph_path path = {0};
    rig->engine =
        ph_h2_conn_new(&rig->config, &rig->app.sink, &path, NULL, &rig->out, &rig->stats, rig->now);
}

static inline void h2_hello(struct h2_rig *rig)
{
    h2_bytes(rig, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    h2_frame(rig, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    h2_frame(rig, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0);
    h2_turn(rig);
}

static inline struct h2_rig *h2_rig_new(void)
{
    struct h2_rig *rig = h2_rig_bare();
    h2_rig_start(rig);
    h2_hello(rig);
    return rig;
}

static inline void h2_rig_free(struct h2_rig *rig)
{
    rig->engine->ops->free(rig->engine);
    app_fini(&rig->app);
    ph_sliceq_fini(&rig->in);
    ph_sliceq_fini(&rig->out);
    nghttp2_hd_deflate_del(rig->deflater);
    nghttp2_hd_inflate_del(rig->inflater);
    ph_free(rig->wire);
    ph_free(rig);
}

/* --- Answers --- */

static inline int h2_respond(struct h2_rig *rig, size_t i, int status, bool fin)
{
    return ph_exchange_respond(rig->app.ex[i], status, NULL, 0, fin);
}

static inline int h2_write(struct h2_rig *rig, size_t i, const char *text, bool fin)
{
    return ph_exchange_write(rig->app.ex[i], ph_slice_of(ph_buf_copy(text, strlen(text))), fin);
}

static inline int h2_write_zeros(struct h2_rig *rig, size_t i, size_t n, bool fin)
{
    struct ph_buf *buf = ph_buf_new(n);
    memset(buf->data, 'z', n);
    ph_buf_set_len(buf, n);
    return ph_exchange_write(rig->app.ex[i], ph_slice_of(buf), fin);
}

/* The record since the last look is this. */
#define H2_EXPECT(rig, what, text)                                                                 \
    do {                                                                                           \
        CHECK_STR((rig)->what, text);                                                              \
        (rig)->what##_len = 0;                                                                     \
        (rig)->what[0] = '\0';                                                                     \
    } while (0)

#endif
