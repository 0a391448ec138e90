/*
 * h1_driver.c - says what the HTTP/1.1 engine makes of request streams; differential.py compares it
 * with what another implementation makes of them.
 *
 *      stdin:   u32 n, n bytes        one stream, whole connections each; repeated until the end
 *      stdout:  u32 requests, then for each
 *                   u8 version, u8 is_ended, u32 n + method, u32 n + target, u32 n + body,
 *                   u32 n + fields, u32 n + trailers ("name: value\n" each)
 *               u32 n + why           of the refusal; empty: nothing was refused
 *               u8 is_done            the connection takes no more
 *
 * Numbers are little-endian. Every request is answered with an empty 200 when its body is complete,
 * so that the next one of a pipeline is read.
 */
#include "../../src/http/http_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(cond) ((cond) ? (void)0 : abort())
#define STREAM_MAX ((uint32_t)64 << 20)

struct text {
    char *p;
    size_t n, cap;
};

struct seen {
    struct ph_exchange *ex;
    int version;
    bool is_ended;
    struct text method, target, body, fields, trailers;
};

struct run {
    struct ph_exchange_sink sink;
    struct seen *seen;
    size_t count;
};

static void text_add(struct text *text, const void *data, size_t n)
{
    if (text->cap - text->n < n) {
        text->cap = PH_MAX(text->n + n, text->cap * 2);
        text->p = ph_realloc(text->p, text->cap);
    }
    if (n > 0)
        memcpy(text->p + text->n, data, n);
    text->n += n;
}

static void add_fields(struct text *text, const struct ph_fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        const struct ph_field *field = &fields->list[i];
        text_add(text, field->name, field->name_len);
        text_add(text, ": ", 2);
        text_add(text, field->value, field->value_len);
        text_add(text, "\n", 1);
    }
}

static struct seen *find(struct run *run, const struct ph_exchange *ex)
{
    for (size_t i = run->count; i > 0; i--) {
        if (run->seen[i - 1].ex == ex)
            return &run->seen[i - 1];
    }
    abort();
}

static void on_request(void *self, struct ph_exchange *ex)
{
    struct run *run = self;
    run->seen = ph_realloc(run->seen, (run->count + 1) * sizeof(*run->seen));
    struct seen *seen = &run->seen[run->count++];
    *seen = (struct seen){.ex = ex, .version = ex->head.version};
    text_add(&seen->method, ex->head.method, ex->head.method_len);
    text_add(&seen->target, ex->head.target, ex->head.target_len);
    add_fields(&seen->fields, &ex->head.fields);
    if (ex->head.protocol[0] != '\0') { /* no WebSocket is granted: the connection goes on */
        seen->is_ended = true;
        MUST(ph_exchange_respond(ex, 403, NULL, 0, true) == 0);
        return;
    }
    ph_exchange_consume(ex, 0); /* a 100, where one is waited for */
}

static void on_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    text_add(&find(self, ex)->body, data, n);
    ph_exchange_consume(ex, n);
}

static void on_trailers(void *self, struct ph_exchange *ex, const struct ph_fields *fields)
{
    add_fields(&find(self, ex)->trailers, fields);
}

static void on_end(void *self, struct ph_exchange *ex)
{
    find(self, ex)->is_ended = true;
    MUST(ph_exchange_respond(ex, 200, NULL, 0, true) == 0);
}

static void on_acked(void *self, struct ph_exchange *ex, size_t n)
{
    (void)self, (void)ex, (void)n;
}

static void on_closed(void *self, struct ph_exchange *ex, bool clean, uint64_t code)
{
    (void)clean, (void)code;
    find(self, ex)->ex = NULL; /* another may get its address */
}

/* Feeds everything and takes what is said, until nothing moves. */
static void turn(struct ph_tcp_engine *engine, struct ph_sliceq *in, struct ph_sliceq *out)
{
    for (bool moved = true; moved;) {
        struct iovec iov;
        size_t waiting = in->unsent;
        if (waiting > 0 && engine->ops->wants_input(engine))
            engine->ops->feed(engine, in, 1);
        moved = in->unsent != waiting;
        engine->ops->flush(engine);
        while (ph_sliceq_gather(out, &iov, 1, SIZE_MAX) == 1) {
            size_t n = iov.iov_len;
            ph_sliceq_advance(out, n);
            ph_sliceq_drop(out, n);
            engine->ops->sent(engine, n, 1);
            moved = true;
        }
        if (engine->ops->next(engine) <= 1) {
            engine->ops->expire(engine, 1);
            moved = true;
        }
    }
}

static void put_number(uint32_t v)
{
    uint8_t bytes[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    MUST(fwrite(bytes, 1, 4, stdout) == 4);
}

static void put_text(const char *p, size_t n)
{
    put_number((uint32_t)n);
    MUST(n == 0 || fwrite(p, 1, n, stdout) == n);
}

static void put_result(struct run *run, const struct ph_tcp_engine *engine)
{
    bool abort_;
    const struct ph_h1_conn *conn =
        PH_CONTAINER((uintptr_t)engine, const struct ph_h1_conn, engine);
    const char *why = conn->fault.why != NULL ? conn->fault.why : "";
    put_number((uint32_t)run->count);
    for (size_t i = 0; i < run->count; i++) {
        struct seen *seen = &run->seen[i];
        putchar(seen->version);
        putchar(seen->is_ended);
        put_text(seen->method.p, seen->method.n);
        put_text(seen->target.p, seen->target.n);
        put_text(seen->body.p, seen->body.n);
        put_text(seen->fields.p, seen->fields.n);
        put_text(seen->trailers.p, seen->trailers.n);
    }
    put_text(why, strlen(why));
    putchar(engine->ops->is_done(engine, &abort_) || !engine->ops->wants_input(engine));
}

static void run_stream(const struct ph_h1_config *config, const uint8_t *data, size_t n)
{
    static const struct ph_path path;
    struct ph_stats stats = {0};
    struct ph_sliceq in, out;
    struct run run = {.sink = {.on_request = on_request,
                               .on_body = on_body,
                               .on_trailers = on_trailers,
                               .on_end = on_end,
                               .on_acked = on_acked,
                               .on_closed = on_closed}};
    run.sink.self = &run;
    ph_sliceq_init(&in);
    ph_sliceq_init(&out);
    struct ph_tcp_engine *engine = ph_h1_conn_new(config, &run.sink, &path, NULL, &out, &stats, 1);
    ph_sliceq_push(&in, (struct ph_slice){.p = data, .n = n});
    turn(engine, &in, &out);
    put_result(&run, engine);
    engine->ops->free(engine);
    ph_sliceq_fini(&in);
    ph_sliceq_fini(&out);
    for (size_t i = 0; i < run.count; i++) {
        ph_free(run.seen[i].method.p);
        ph_free(run.seen[i].target.p);
        ph_free(run.seen[i].body.p);
        ph_free(run.seen[i].fields.p);
        ph_free(run.seen[i].trailers.p);
    }
    ph_free(run.seen);
}

int main(void)
{
    struct ph_h1_config config;
    uint8_t bytes[4];
    ph_h1_config_default(&config);
    config.websocket = true;
    while (fread(bytes, 1, 4, stdin) == 4) {
        uint32_t n = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                     (uint32_t)bytes[3] << 24;
        MUST(n <= STREAM_MAX);
        uint8_t *data = ph_alloc(n + 1);
        MUST(fread(data, 1, n, stdin) == n);
        run_stream(&config, data, n);
        ph_free(data);
    }
    return 0;
}
