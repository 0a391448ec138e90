/*
 * fuzz_h1.c - an HTTP/1.1 connection fed with arbitrary bytes, twice: whole, and cut into pieces
 * that depend on the bytes. The application answers by what the request says, so that all ways to
 * answer are taken. What the application saw and what went out must be the same both times.
 *
 * Also held: nothing is said of an exchange after its end, no body beyond its declared length, no
 * output and no reading once the connection is done, every exchange is closed exactly once.
 */
#include "../../src/http/http_internal.h"

#include <stdlib.h>

#define MUST(cond) ((cond) ? (void)0 : abort())

struct text {
    char *p;
    size_t n;
};

/* One exchange as the application sees it. */
struct seen {
    struct ph_exchange *ex;
    uint64_t body;
    bool ended, closed, answered;
    bool tunnel, left; /* granted; our side of it is finished */
    unsigned way;      /* to answer */
};

struct run {
    struct ph_h1_config config;
    struct ph_exchange_sink sink;
    struct ph_tcp_engine *engine;
    struct ph_sliceq in, out;
    struct ph_stats stats;
    struct text log, wire;
    struct seen *seen;
    size_t count;
};

static void text_add(struct text *text, const void *data, size_t n)
{
    if (n == 0)
        return;
    text->p = ph_realloc(text->p, text->n + n);
    memcpy(text->p + text->n, data, n);
    text->n += n;
}

static void text_say(struct text *text, const char *say)
{
    text_add(text, say, strlen(say));
}

static struct seen *find(struct run *run, struct ph_exchange *ex)
{
    for (size_t i = 0; i < run->count; i++) {
        if (run->seen[i].ex == ex && !run->seen[i].closed)
            return &run->seen[i];
    }
    abort();
}

static int say(struct ph_exchange *ex, const char *data, size_t n, bool fin)
{
    return ph_exchange_write(ex, ph_slice_of(ph_buf_copy(data, n)), fin);
}

static void answer(struct seen *seen)
{
    static const struct ph_field length = {"content-length", "4", 14, 1};
    static const struct ph_field close = {"connection", "close", 10, 5};
    static const struct ph_field sum = {"x-sum", "1", 5, 1};
    struct ph_exchange *ex = seen->ex;
    if (seen->answered)
        return;
    seen->answered = true;
    switch (seen->way) {
    case 0:
        MUST(ph_exchange_respond(ex, 200, NULL, 0, true) == 0);
        break;
    case 1:
        MUST(ph_exchange_respond(ex, 200, NULL, 0, false) == 0);
        MUST(say(ex, "hello", 5, true) == 0);
        break;
    case 2:
        MUST(ph_exchange_respond(ex, 200, NULL, 0, false) == 0);
        MUST(say(ex, "hello", 5, false) == 0);
        MUST(say(ex, "", 0, true) == 0);
        break;
    case 3:
        MUST(ph_exchange_respond(ex, 203, &length, 1, false) == 0);
        MUST(say(ex, "four", 4, true) == 0);
        break;
    case 4:
        MUST(ph_exchange_respond(ex, 204, NULL, 0, true) == 0);
        break;
    case 5:
        MUST(ph_exchange_respond(ex, 103, NULL, 0, false) == 0);
        MUST(ph_exchange_respond(ex, 200, NULL, 0, false) == 0);
        MUST(say(ex, "x", 1, false) == 0);
        MUST(ph_exchange_trailers(ex, &sum, 1) == 0);
        break;
    case 6:
        MUST(ph_exchange_respond(ex, 500, &close, 1, true) == 0);
        break;
    default:
        MUST(ph_exchange_respond(ex, 200, NULL, 0, false) == 0);
        MUST(say(ex, "cut", 3, false) == 0);
        ph_exchange_reset(ex, 0);
        break;
    }
}

static void on_request(void *self, struct ph_exchange *ex)
{
    struct run *run = self;
    const struct ph_head *head = &ex->head;
    MUST(strlen(head->method) == head->method_len && head->method_len > 0);
    MUST(strlen(head->target) == head->target_len && head->target_len > 0);
    MUST(strlen(head->authority) == head->authority_len);
    run->seen = ph_realloc(run->seen, (run->count + 1) * sizeof(*run->seen));
    struct seen *seen = &run->seen[run->count++];
    *seen = (struct seen){.ex = ex};
    unsigned hash = 5381;
    for (size_t i = 0; i < head->target_len; i++)
        hash = hash * 33 + (uint8_t)head->target[i];
    seen->way = hash % 8;
    text_say(&run->log, head->method);
    text_say(&run->log, " ");
    text_say(&run->log, head->authority);
    text_say(&run->log, " ");
    text_say(&run->log, head->target);
    for (size_t i = 0; i < head->fields.count; i++) {
        const struct ph_field *field = &head->fields.list[i];
        MUST(ph_field_name_is_lower(field->name, field->name_len));
        MUST(ph_field_value_is_valid(field->value, field->value_len));
        text_say(&run->log, "|");
        text_add(&run->log, field->name, field->name_len);
        text_say(&run->log, "=");
        text_add(&run->log, field->value, field->value_len);
    }
    text_say(&run->log, "\n");
    if (head->protocol[0] != '\0') { /* its end comes with the tunnel's, or never */
        seen->tunnel = seen->way < 4;
        if (!seen->tunnel)
            answer(seen);
        else
            MUST(ph_exchange_upgrade(ex, NULL, 0) == 0);
        seen->answered = true;
    } else if (hash / 8 % 4 == 0)
        answer(seen); /* without having read the body */
    else if (hash / 8 % 4 == 1)
        ph_exchange_consume(ex, 0);
    else if (hash / 8 % 16 == 2)
        ph_exchange_stop(ex, 0);
}

/* Echoes up to a byte that says goodbye. */
static void on_raw(struct run *run, struct seen *seen, const uint8_t *data, size_t n)
{
    for (size_t i = 0; i < n && !seen->left; i++) {
        text_add(&run->log, data + i, 1);
        seen->left = data[i] == 'q';
        MUST(say(seen->ex, (const char *)data + i, 1, seen->left) == 0);
    }
    if (!seen->left)
        ph_exchange_consume(seen->ex, n);
}

static void on_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    struct run *run = self;
    struct seen *seen = find(run, ex);
    MUST(!seen->ended && n > 0);
    MUST(!seen->left);
    if (seen->tunnel) {
        on_raw(run, seen, data, n);
        return;
    }
    seen->body += n;
    MUST(!ex->head.has_length || seen->body <= ex->head.length);
    MUST(seen->body <= run->config.max_body);
    text_add(&run->log, data, n);
    ph_exchange_consume(ex, n);
}

static void on_trailers(void *self, struct ph_exchange *ex, const struct ph_fields *fields)
{
    struct run *run = self;
    MUST(!find(run, ex)->ended);
    for (size_t i = 0; i < fields->count; i++) {
        text_say(&run->log, fields->list[i].name);
        text_say(&run->log, "=");
        text_say(&run->log, fields->list[i].value);
    }
}

static void on_end(void *self, struct ph_exchange *ex)
{
    struct run *run = self;
    struct seen *seen = find(run, ex);
    MUST(!seen->ended);
    seen->ended = true;
    text_say(&run->log, "\nend\n");
    if (seen->tunnel) {
        MUST(seen->left || say(ex, "", 0, true) == 0);
        return;
    }
    MUST(!ex->head.has_length || ex->in_bytes == ex->head.length);
    answer(seen);
}

static void on_acked(void *self, struct ph_exchange *ex, size_t n)
{
    MUST(!find(self, ex)->closed && n > 0);
}

static void on_closed(void *self, struct ph_exchange *ex, bool clean, uint64_t code)
{
    struct seen *seen = find(self, ex);
    (void)code;
    MUST(!clean || seen->answered);
    seen->closed = true;
}

static void take_output(struct run *run)
{
    struct iovec iov;
    run->engine->ops->flush(run->engine);
    while (ph_sliceq_gather(&run->out, &iov, 1, SIZE_MAX) == 1) {
        size_t n = iov.iov_len;
        text_add(&run->wire, iov.iov_base, n);
        ph_sliceq_advance(&run->out, n);
        ph_sliceq_drop(&run->out, n);
        run->engine->ops->sent(run->engine, n, 1);
    }
}

static void turn(struct run *run)
{
    for (int i = 0;; i++) {
        size_t waiting = run->in.unsent, wire = run->wire.n;
        if (waiting > 0 && run->engine->ops->wants_input(run->engine))
            run->engine->ops->feed(run->engine, &run->in, 1);
        take_output(run);
        bool due = run->engine->ops->next(run->engine) <= 1;
        if (due)
            run->engine->ops->expire(run->engine, 1);
        if (!due && run->in.unsent == waiting && run->wire.n == wire)
            return;
        MUST(i < 100000);
    }
}

static void run_init(struct run *run)
{
    static const struct ph_path path;
    memset(run, 0, sizeof(*run));
    ph_h1_config_default(&run->config);
    run->config.limits.head_bytes = 2048; /* small enough to be reached */
    run->config.limits.head_fields = 20;
    run->config.limits.target_bytes = 256;
    run->config.max_body = 1000;
    run->config.chunk_overhead = 200;
    run->config.chunk_extension = 20;
    run->config.pipelined_max = 3;
    run->config.keep_alive_requests = 12;
    run->config.websocket = true;
    run->sink = (struct ph_exchange_sink){.self = run,
                                          .on_request = on_request,
                                          .on_body = on_body,
                                          .on_trailers = on_trailers,
                                          .on_end = on_end,
                                          .on_acked = on_acked,
                                          .on_closed = on_closed};
    ph_sliceq_init(&run->in);
    ph_sliceq_init(&run->out);
    run->engine = ph_h1_conn_new(&run->config, &run->sink, &path, NULL, &run->out, &run->stats, 1);
}

/* `seed` 0: in one piece. */
static void run_feed(struct run *run, const uint8_t *data, size_t n, uint32_t seed)
{
    while (n > 0) {
        size_t part = n;
        if (seed != 0) {
            seed = seed * 1664525 + 1013904223;
            part = PH_MIN((size_t)(seed >> 28) + 1, n);
        }
        ph_sliceq_push(&run->in, ph_slice_of(ph_buf_copy(data, part)));
        data += part;
        n -= part;
        turn(run);
    }
    bool abort_;
    if (run->engine->ops->is_done(run->engine, &abort_)) {
        size_t wire = run->wire.n, log = run->log.n, waiting = run->in.unsent;
        run->engine->ops->feed(run->engine, &run->in, 1);
        turn(run);
        MUST(run->wire.n == wire && run->log.n == log && run->in.unsent == waiting);
    }
}

static void run_fini(struct run *run)
{
    run->engine->ops->free(run->engine);
    for (size_t i = 0; i < run->count; i++)
        MUST(run->seen[i].closed);
    ph_sliceq_fini(&run->in);
    ph_sliceq_fini(&run->out);
    ph_free(run->log.p);
    ph_free(run->wire.p);
    ph_free(run->seen);
}

static bool is_same(const struct text *a, const struct text *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct run whole, pieces;
    uint32_t seed = 1;
    for (size_t i = 0; i < n; i++)
        seed = seed * 31 + data[i];
    run_init(&whole);
    run_feed(&whole, data, n, 0);
    run_init(&pieces);
    run_feed(&pieces, data, n, seed | 1);
    bool a, b;
    MUST(whole.engine->ops->is_done(whole.engine, &a) ==
             pieces.engine->ops->is_done(pieces.engine, &b) &&
         a == b);
    MUST(is_same(&whole.log, &pieces.log));
    MUST(a || is_same(&whole.wire, &pieces.wire)); /* what an abort overtakes is a matter of time */
    whole.engine->ops->eof(whole.engine, 1);
    pieces.engine->ops->expire(pieces.engine, PH_SEC * 1000);
    run_fini(&whole);
    run_fini(&pieces);
    return 0;
}
