/*
 * h1_rig.h - one HTTP/1.1 connection on a bench: bytes in, bytes out, a written record of what the
 * sink was told, and an application that answers at once or when the test says so.
 */
#ifndef PH_H1_RIG_H
#define PH_H1_RIG_H

#include "../../src/http/http_internal.h"
#include "test.h"

#include <stdlib.h>

struct rig {
    struct ph_h1_config config;
    struct ph_exchange_sink sink;
    struct ph_tcp_engine *engine;
    struct ph_sliceq in, out;
    struct ph_stats stats;
    uint64_t now;
    bool echo;                  /* answers each request with its body when that is complete */
    bool no_consume;            /* body bytes are not given back */
    size_t step;                /* bytes per feed */
    struct ph_exchange *ex[64]; /* in order of on_request; NULL when closed */
    size_t count;               /* of them */
    size_t body_bytes, acked, closed_clean, closed_cut;
    char *log, *wire; /* own, NUL-terminated */
    size_t log_len, wire_len;
    struct ph_buf *body; /* of the echo */
};

static inline void rig_append(char **text, size_t *len, const void *data, size_t n)
{
    size_t need = *len + n + 1, cap = 64;
    while (cap < *len + 1)
        cap *= 2; /* what it has */
    if (*text == NULL || need > cap) {
        while (cap < need)
            cap *= 2;
        *text = ph_realloc(*text, cap);
    }
    memcpy(*text + *len, data, n);
    *len += n;
    (*text)[*len] = '\0';
}

static inline void rig_note(struct rig *rig, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static inline void rig_note(struct rig *rig, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    rig_append(&rig->log, &rig->log_len, line, PH_MIN((size_t)n, sizeof(line) - 1));
}

static inline size_t rig_index(const struct rig *rig, const struct ph_exchange *ex)
{
    for (size_t i = 0; i < rig->count; i++) {
        if (rig->ex[i] == ex)
            return i;
    }
    ph_test_fail(__FILE__, __LINE__, "an exchange that is not alive");
}

static inline void rig_on_request(void *self, struct ph_exchange *ex)
{
    struct rig *rig = self;
    CHECK(rig->count < PH_COUNT_OF(rig->ex));
    rig->ex[rig->count++] = ex;
    ex->user = rig;
    rig_note(rig, "%s %s %s;", ex->head.method, ex->head.authority, ex->head.target);
}

static inline void rig_on_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    struct rig *rig = self;
    rig_index(rig, ex);
    rig->body_bytes += n;
    /* Runs of body join in the record, so that it does not depend on how they came. */
    if (rig->log_len > 0 && rig->log[rig->log_len - 1] == ')')
        rig->log_len--;
    else
        rig_note(rig, "body(");
    rig_append(&rig->log, &rig->log_len, data, n);
    rig_note(rig, ")");
    if (rig->echo) {
        struct ph_buf *joined = ph_buf_new((rig->body != NULL ? rig->body->len : 0) + n);
        if (rig->body != NULL)
            memcpy(joined->data, rig->body->data, rig->body->len);
        ph_buf_set_len(joined, joined->cap);
        memcpy(joined->data + joined->len - n, data, n);
        ph_buf_unref(rig->body);
        rig->body = joined;
    }
    if (!rig->no_consume)
        ph_exchange_consume(ex, n);
}

static inline void rig_on_trailers(void *self, struct ph_exchange *ex,
                                   const struct ph_fields *fields)
{
    struct rig *rig = self;
    rig_index(rig, ex);
    rig_note(rig, "trailers");
    for (size_t i = 0; i < fields->count; i++)
        rig_note(rig, " %s=%s", fields->list[i].name, fields->list[i].value);
    rig_note(rig, ";");
}

static inline void rig_on_end(void *self, struct ph_exchange *ex)
{
    struct rig *rig = self;
    rig_index(rig, ex);
    rig_note(rig, "end;");
    if (!rig->echo)
        return;
    struct ph_buf *body = rig->body;
    rig->body = NULL;
    CHECK_INT(ph_exchange_respond(ex, 200, NULL, 0, body == NULL), ==, 0);
    if (body != NULL)
        CHECK_INT(ph_exchange_write(ex, ph_slice_of(body), true), ==, 0);
}

static inline void rig_on_acked(void *self, struct ph_exchange *ex, size_t n)
{
    struct rig *rig = self;
    rig_index(rig, ex);
    rig->acked += n;
}

static inline void rig_on_closed(void *self, struct ph_exchange *ex, bool clean, uint64_t code)
{
    struct rig *rig = self;
    (void)code;
    rig->ex[rig_index(rig, ex)] = NULL;
    rig->closed_clean += clean;
    rig->closed_cut += !clean;
    ph_buf_unref(rig->body);
    rig->body = NULL;
}

static inline void rig_start(struct rig *rig)
{
    static const struct ph_path path;
    rig->sink = (struct ph_exchange_sink){.self = rig,
                                          .on_request = rig_on_request,
                                          .on_body = rig_on_body,
                                          .on_trailers = rig_on_trailers,
                                          .on_end = rig_on_end,
                                          .on_acked = rig_on_acked,
                                          .on_closed = rig_on_closed};
    rig->engine =
        ph_h1_conn_new(&rig->config, &rig->sink, &path, NULL, &rig->out, &rig->stats, rig->now);
}

static inline struct rig *rig_new(void)
{
    struct rig *rig = ph_alloc(sizeof(*rig));
    ph_h1_config_default(&rig->config);
    rig->now = 1000 * PH_SEC;
    rig->step = SIZE_MAX;
    rig_append(&rig->log, &rig->log_len, "", 0);
    rig_append(&rig->wire, &rig->wire_len, "", 0);
    ph_sliceq_init(&rig->in);
    ph_sliceq_init(&rig->out);
    rig_start(rig);
    return rig;
}

/* The connection is freed under its exchanges. */
static inline void rig_end(struct rig *rig)
{
    rig->engine->ops->free(rig->engine);
    rig->engine = NULL;
}

static inline void rig_free(struct rig *rig)
{
    if (rig->engine != NULL)
        rig_end(rig);
    CHECK_INT(rig->closed_clean + rig->closed_cut, ==, rig->count);
    ph_sliceq_fini(&rig->in);
    ph_sliceq_fini(&rig->out);
    ph_buf_unref(rig->body);
    ph_free(rig->log);
    ph_free(rig->wire);
    ph_free(rig);
}

static inline bool rig_wants_input(const struct rig *rig)
{
    return rig->engine->ops->wants_input(rig->engine);
}

static inline uint64_t rig_next(const struct rig *rig)
{
    return rig->engine->ops->next(rig->engine);
}

static inline void rig_eof(struct rig *rig)
{
    rig->engine->ops->eof(rig->engine, rig->now);
}

static inline void rig_drain(struct rig *rig)
{
    rig->engine->ops->drain(rig->engine);
}

static inline bool rig_is_cut_framed(const struct rig *rig)
{
    return rig->engine->ops->is_cut_framed(rig->engine);
}

/* Takes at most `max` bytes of output, as a socket would. */
static inline size_t rig_take(struct rig *rig, size_t max)
{
    struct iovec iov;
    size_t total = 0;
    rig->engine->ops->flush(rig->engine);
    while (max > 0 && ph_sliceq_gather(&rig->out, &iov, 1, max) == 1) {
        size_t n = iov.iov_len;
        rig_append(&rig->wire, &rig->wire_len, iov.iov_base, n);
        ph_sliceq_advance(&rig->out, n);
        ph_sliceq_drop(&rig->out, n);
        rig->engine->ops->sent(rig->engine, n, rig->now);
        max -= n;
        total += n;
    }
    return total;
}

/* What the owner does until nothing is left to do. */
static inline void rig_turn(struct rig *rig)
{
    for (int i = 0; i < 1000; i++) {
        size_t waiting = rig->in.unsent;
        if (rig_wants_input(rig) && waiting > 0)
            rig->engine->ops->feed(rig->engine, &rig->in, rig->now);
        size_t sent = rig_take(rig, SIZE_MAX);
        bool due = rig_next(rig) <= rig->now;
        if (due)
            rig->engine->ops->expire(rig->engine, rig->now);
        if (sent == 0 && !due && rig->in.unsent == waiting)
            return;
    }
    ph_test_fail(__FILE__, __LINE__, "the connection does not come to rest");
}

static inline void rig_feed(struct rig *rig, const char *data, size_t n)
{
    for (size_t at = 0; at < n;) {
        size_t part = PH_MIN(rig->step, n - at);
        ph_sliceq_push(&rig->in, ph_slice_of(ph_buf_copy(data + at, part)));
        at += part;
        rig_turn(rig);
    }
}

static inline void rig_say(struct rig *rig, const char *text)
{
    rig_feed(rig, text, strlen(text));
}

/* Lets time pass, and what is due happen. */
static inline void rig_wait(struct rig *rig, uint64_t ns)
{
    uint64_t end = rig->now + ns;
    while (rig_next(rig) <= end) {
        rig->now = PH_MAX(rig->now, rig_next(rig));
        rig->engine->ops->expire(rig->engine, rig->now);
        rig_turn(rig);
    }
    rig->now = end;
}

static inline int rig_respond(struct rig *rig, size_t i, int status, const char *name,
                              const char *value, bool fin)
{
    struct ph_field field = {.name = name,
                             .value = value,
                             .name_len = name != NULL ? strlen(name) : 0,
                             .value_len = value != NULL ? strlen(value) : 0};
    return ph_exchange_respond(rig->ex[i], status, &field, name != NULL, fin);
}

static inline int rig_write(struct rig *rig, size_t i, const char *text, bool fin)
{
    return ph_exchange_write(rig->ex[i], ph_slice_of(ph_buf_copy(text, strlen(text))), fin);
}

static inline bool rig_is_done(const struct rig *rig)
{
    bool abort;
    return rig->engine->ops->is_done(rig->engine, &abort) && !abort;
}

static inline bool rig_is_aborted(const struct rig *rig)
{
    bool abort;
    return rig->engine->ops->is_done(rig->engine, &abort) && abort;
}

static inline size_t count_of(const char *text, const char *part)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, part)) != NULL; p += strlen(part))
        n++;
    return n;
}

#endif
