/*
 * http_app.h - the application behind an engine of HTTP on a bench (h1_rig.h, h2_rig.h): it writes
 * down what the sink is told, and answers at once, or when the test says so.
 */
#ifndef PH_HTTP_APP_H
#define PH_HTTP_APP_H

#include "../../src/http/http.h"
#include "test.h"

#include <stdlib.h>

struct http_app {
    struct ph_exchange_sink sink;
    bool echo;                    /* answers each request with its body when that is complete */
    bool no_consume;              /* body bytes are not given back */
    size_t shown_max;             /* bytes of a piece of body that are written down */
    struct ph_exchange *ex[4096]; /* in order of on_request; NULL when closed */
    size_t count;                 /* of them */
    size_t body_bytes, acked, closed_clean, closed_cut;
    uint64_t last_code; /* of on_closed */
    char *log;          /* own, NUL-terminated */
    size_t log_len;
};

/* --- Text that grows --- */

static inline void text_append(char **text, size_t *len, const void *data, size_t n)
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

static inline void text_note(char **text, size_t *len, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static inline void text_note(char **text, size_t *len, const char *fmt, ...)
{
    char line[600];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    text_append(text, len, line, PH_MIN((size_t)n, sizeof(line) - 1));
}
#define APP_LOG(app, ...) text_note(&(app)->log, &(app)->log_len, __VA_ARGS__)

/* --- The sink --- */

static inline size_t app_index(const struct http_app *app, const struct ph_exchange *ex)
{
    for (size_t i = app->count; i-- > 0;) {
        if (app->ex[i] == ex)
            return i;
    }
    ph_test_fail(__FILE__, __LINE__, "an exchange that is not alive");
}

static inline void app_on_request(void *self, struct ph_exchange *ex)
{
    struct http_app *app = self;
    CHECK(app->count < PH_COUNT_OF(app->ex));
    app->ex[app->count++] = ex;
    APP_LOG(app, "%s %s %s;", ex->head.method, ex->head.authority, ex->head.target);
}

static inline void app_keep(struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    struct ph_buf *before = ex->user, *joined = ph_buf_new((before ? before->len : 0) + n);
    if (before != NULL)
        memcpy(joined->data, before->data, before->len);
    ph_buf_set_len(joined, joined->cap);
    memcpy(joined->data + joined->len - n, data, n);
    ph_buf_unref(before);
    ex->user = joined;
}

static inline void app_on_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    struct http_app *app = self;
    app_index(app, ex);
    app->body_bytes += n;
    if (n <= app->shown_max) {
        /* Runs of body join in the record, so that it does not depend on how they came. */
        if (app->log_len > 0 && app->log[app->log_len - 1] == ')')
            app->log_len--;
        else
            APP_LOG(app, "body(");
        text_append(&app->log, &app->log_len, data, n);
        APP_LOG(app, ")");
    }
    if (app->echo)
        app_keep(ex, data, n);
    if (!app->no_consume)
        ph_exchange_consume(ex, n);
}

static inline void app_on_trailers(void *self, struct ph_exchange *ex,
                                   const struct ph_fields *fields)
{
    struct http_app *app = self;
    app_index(app, ex);
    APP_LOG(app, "trailers");
    for (size_t i = 0; i < fields->count; i++)
        APP_LOG(app, " %s=%s", fields->list[i].name, fields->list[i].value);
    APP_LOG(app, ";");
}

static inline void app_on_end(void *self, struct ph_exchange *ex)
{
    struct http_app *app = self;
    app_index(app, ex);
    APP_LOG(app, "end;");
    if (!app->echo)
        return;
    struct ph_buf *body = ex->user;
    ex->user = NULL;
    CHECK_INT(ph_exchange_respond(ex, 200, NULL, 0, body == NULL), ==, 0);
    if (body != NULL)
        CHECK_INT(ph_exchange_write(ex, ph_slice_of(body), true), ==, 0);
}

static inline void app_on_acked(void *self, struct ph_exchange *ex, size_t n)
{
    struct http_app *app = self;
    app_index(app, ex);
    app->acked += n;
}

static inline void app_on_closed(void *self, struct ph_exchange *ex, bool clean, uint64_t code)
{
    struct http_app *app = self;
    app->ex[app_index(app, ex)] = NULL;
    app->closed_clean += clean;
    app->closed_cut += !clean;
    app->last_code = code;
    ph_buf_unref(ex->user);
    ex->user = NULL;
}

/* --- Life --- */

static inline void app_init(struct http_app *app)
{
    app->sink = (struct ph_exchange_sink){.self = app,
                                          .on_request = app_on_request,
                                          .on_body = app_on_body,
                                          .on_trailers = app_on_trailers,
                                          .on_end = app_on_end,
                                          .on_acked = app_on_acked,
                                          .on_closed = app_on_closed};
    app->shown_max = SIZE_MAX;
    text_append(&app->log, &app->log_len, "", 0);
}

/* After the connection: every exchange has been closed. */
static inline void app_fini(struct http_app *app)
{
    for (size_t i = 0; i < app->count; i++)
        CHECK(app->ex[i] == NULL);
    ph_free(app->log);
}

#endif
