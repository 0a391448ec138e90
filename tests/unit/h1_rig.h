/*
 * h1_rig.h - one HTTP/1.1 connection on a bench: bytes in, bytes out, and the application of
 * http_app.h, which writes down what it was told.
 */
#ifndef PH_H1_RIG_H
#define PH_H1_RIG_H

#include "../../src/http/http_internal.h"
#include "http_app.h"

struct rig {
    struct ph_h1_config config;
    struct http_app app;
    struct ph_tcp_engine *engine;
    struct ph_sliceq in, out;
    struct ph_stats stats;
    uint64_t now;
    size_t step; /* bytes per feed */
    char *wire;  /* own, NUL-terminated */
    size_t wire_len;
};

static inline void rig_start(struct rig *rig)
{
    static const struct ph_path path;
    rig->engine =
        ph_h1_conn_new(&rig->config, &rig->app.sink, &path, NULL, &rig->out, &rig->stats, rig->now);
}

static inline struct rig *rig_new(void)
{
    struct rig *rig = ph_alloc(sizeof(*rig));
    ph_h1_config_default(&rig->config);
    rig->now = 1000 * PH_SEC;
    rig->step = SIZE_MAX;
    app_init(&rig->app);
    text_append(&rig->wire, &rig->wire_len, "", 0);
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
    app_fini(&rig->app);
    ph_sliceq_fini(&rig->in);
    ph_sliceq_fini(&rig->out);
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
        text_append(&rig->wire, &rig->wire_len, iov.iov_base, n);
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
    return ph_exchange_respond(rig->app.ex[i], status, &field, name != NULL, fin);
}

static inline int rig_write(struct rig *rig, size_t i, const char *text, bool fin)
{
    return ph_exchange_write(rig->app.ex[i], ph_slice_of(ph_buf_copy(text, strlen(text))), fin);
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
