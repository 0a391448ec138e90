/*
 * ws_rig.h - one WebSocket connection on a bench: frames of a client in, a written record of what
 * the owner was told, and what goes out taken apart into frames again.
 */
#ifndef PH_WS_RIG_H
#define PH_WS_RIG_H

#include "../../src/http/ws_internal.h"
#include "test.h"

#include <stdlib.h>

struct ws_rig {
    struct ph_ws_config config;
    struct ph_ws_ask ask;
    struct ph_ws_host *host;
    struct ph_ws *ws;
    struct ph_stats stats;
    uint64_t now;
    size_t step;     /* bytes per feed */
    bool keep;       /* what goes out does not leave memory */
    bool no_consume; /* messages are not given back */
    bool is_over;
    size_t messages;
    char log[4096];
    size_t log_len;
    uint8_t *wire; /* own: what went out and was not looked at */
    size_t wire_len, unsent;
    struct ph_buf *last; /* own: the latest message */
    uint8_t *rest;       /* own: fed and not eaten */
    size_t rest_len;
};

static inline void ws_note(struct ws_rig *rig, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static inline void ws_note(struct ws_rig *rig, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(rig->log + rig->log_len, sizeof(rig->log) - rig->log_len, fmt, ap);
    va_end(ap);
    rig->log_len = PH_MIN(rig->log_len + (size_t)n, sizeof(rig->log) - 1);
}

static inline void ws_on_message(void *user, struct ph_buf *message, bool text)
{
    struct ws_rig *rig = user;
    size_t n = message != NULL ? message->len : 0;
    CHECK(!rig->is_over);
    rig->messages++;
    if (n <= 32)
        ws_note(rig, "%s(%.*s);", text ? "text" : "bytes", (int)n,
                n > 0 ? (const char *)message->data : "");
    else
        ws_note(rig, "%s %zu;", text ? "text" : "bytes", n);
    ph_buf_unref(rig->last);
    rig->last = message;
    if (!rig->no_consume)
        ph_ws_consume(rig->ws, 1);
}

static inline void ws_on_out(void *user, struct ph_slice slice)
{
    struct ws_rig *rig = user;
    CHECK(!rig->is_over);
    rig->wire = ph_realloc(rig->wire, rig->wire_len + slice.n + 1);
    memcpy(rig->wire + rig->wire_len, slice.p, slice.n);
    rig->wire_len += slice.n;
    rig->unsent += slice.n;
    ph_buf_unref(slice.buf);
}

static inline void ws_on_closed(void *user, const struct ph_ws_end *end)
{
    ws_note(user, "closed %u \"%.*s\"%s%s;", end->code, (int)end->reason_len, end->reason,
            end->clean ? " clean" : "", end->local ? " local" : "");
}

static inline void ws_on_over(void *user)
{
    struct ws_rig *rig = user;
    CHECK(!rig->is_over);
    rig->is_over = true;
    ws_note(rig, "over;");
}

static const struct ph_ws_sink ws_rig_sink = {.on_message = ws_on_message,
                                              .on_out = ws_on_out,
                                              .on_closed = ws_on_closed,
                                              .on_over = ws_on_over};

static inline struct ws_rig *ws_rig_new(void)
{
    struct ws_rig *rig = ph_alloc(sizeof(*rig));
    ph_ws_config_default(&rig->config);
    rig->now = 1000 * PH_SEC;
    rig->step = SIZE_MAX;
    return rig;
}

static inline void ws_rig_start(struct ws_rig *rig)
{
    rig->host = ph_ws_host_new(&rig->config, &rig->stats);
    rig->ws = ph_ws_new(rig->host, &rig->ask, &ws_rig_sink, rig, rig->now);
}

static inline struct ws_rig *ws_rig_open(void)
{
    struct ws_rig *rig = ws_rig_new();
    ws_rig_start(rig);
    return rig;
}

static inline struct ws_rig *ws_rig_deflate(void)
{
    struct ws_rig *rig = ws_rig_new();
    rig->ask = (struct ph_ws_ask){.deflate = true, .server_bits = 12, .client_bits = 15};
    ws_rig_start(rig);
    return rig;
}

static inline void ws_rig_free(struct ws_rig *rig)
{
    ph_ws_free(rig->ws);
    ph_ws_host_free(rig->host);
    ph_buf_unref(rig->last);
    ph_free(rig->wire);
    ph_free(rig->rest);
    ph_free(rig);
}

static inline void ws_turn(struct ws_rig *rig)
{
    if (!rig->keep && rig->unsent > 0) {
        size_t n = rig->unsent;
        rig->unsent = 0;
        ph_ws_sent(rig->ws, n, rig->now);
    }
}

/* Feeds bytes behind those that were not eaten, in steps. */
static inline void ws_feed(struct ws_rig *rig, const void *data, size_t n)
{
    rig->rest = ph_realloc(rig->rest, rig->rest_len + n + 1);
    if (n > 0)
        memcpy(rig->rest + rig->rest_len, data, n);
    rig->rest_len += n;
    size_t at = 0;
    do {
        size_t part = PH_MIN(rig->step, rig->rest_len - at);
        size_t eaten = ph_ws_feed(rig->ws, rig->rest + at, part, rig->now);
        CHECK(eaten <= part);
        at += eaten;
        ws_turn(rig);
        if (eaten < part)
            break;
    } while (at < rig->rest_len && !rig->is_over);
    memmove(rig->rest, rig->rest + at, rig->rest_len - at);
    rig->rest_len -= at;
}

/* A frame as a client makes it: `first` is the first byte (FIN, RSV, opcode). Returns its length.
 */
static inline size_t ws_frame(uint8_t *out, uint8_t first, const void *data, size_t n)
{
    static const uint8_t mask[4] = {0x12, 0xfe, 0x00, 0x81};
    uint8_t *p = out;
    *p++ = first;
    if (n < 126) {
        *p++ = (uint8_t)(0x80 | n);
    } else if (n < 65536) {
        *p++ = 0x80 | 126;
        p = ph_u16_put(p, (uint16_t)n);
    } else {
        *p++ = 0x80 | 127;
        p = ph_u32_put(p, (uint32_t)((uint64_t)n >> 32));
        p = ph_u32_put(p, (uint32_t)n);
    }
    memcpy(p, mask, 4);
    p += 4;
    for (size_t i = 0; i < n; i++)
        *p++ = ((const uint8_t *)data)[i] ^ mask[i % 4];
    return (size_t)(p - out);
}

static inline void ws_say_n(struct ws_rig *rig, uint8_t first, const void *data, size_t n)
{
    uint8_t *frame = ph_alloc(n + 14);
    ws_feed(rig, frame, ws_frame(frame, first, data, n));
    ph_free(frame);
}

static inline void ws_say(struct ws_rig *rig, uint8_t first, const char *text)
{
    ws_say_n(rig, first, text, strlen(text));
}

/* The next frame that went out: first byte, payload copied. false: none. */
static inline bool ws_take(struct ws_rig *rig, uint8_t *first, uint8_t *data, size_t cap, size_t *n)
{
    if (rig->wire_len < 2)
        return false;
    const uint8_t *p = rig->wire + 2;
    *first = rig->wire[0];
    uint64_t len = rig->wire[1];
    CHECK((len & 0x80) == 0); /* a server does not mask */
    if (len == 126) {
        len = ph_u16_get(p);
        p += 2;
    } else if (len == 127) {
        len = (uint64_t)ph_u32_get(p) << 32 | ph_u32_get(p + 4);
        p += 8;
    }
    size_t total = (size_t)(p - rig->wire) + (size_t)len;
    CHECK(total <= rig->wire_len);
    CHECK(len <= cap);
    memcpy(data, p, (size_t)len);
    *n = (size_t)len;
    memmove(rig->wire, rig->wire + total, rig->wire_len - total);
    rig->wire_len -= total;
    return true;
}

/* What went out, as text: "81(hello)", "88 1000(bye)"; payloads up to 100 bytes. */
static inline const char *ws_out(struct ws_rig *rig)
{
    static char text[4096];
    uint8_t first, data[2048];
    size_t n, len = 0;
    text[0] = '\0';
    while (ws_take(rig, &first, data, sizeof(data), &n)) {
        int code = (first & 15) == 8 && n >= 2 ? ph_u16_get(data) : 0;
        size_t skip = code != 0 ? 2 : 0;
        if (code != 0)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%02x %d(%.*s)", first, code,
                                    (int)(n - skip), (char *)data + skip);
        else
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%02x(%.*s)", first,
                                    (int)PH_MIN(n, (size_t)100), (char *)data);
        CHECK(len < sizeof(text));
    }
    return text;
}

/* Lets time pass, and what is due happen. */
static inline void ws_wait(struct ws_rig *rig, uint64_t ns)
{
    uint64_t end = rig->now + ns;
    while (ph_ws_next(rig->ws) <= end) {
        rig->now = PH_MAX(rig->now, ph_ws_next(rig->ws));
        ph_ws_expire(rig->ws, rig->now);
        ws_turn(rig);
    }
    rig->now = end;
}

#endif
