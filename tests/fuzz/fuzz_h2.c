/*
 * fuzz_h2.c - an HTTP/2 connection under a client and an application that do anything. The first
 * byte chooses: the rest is what the client says, byte for byte, or a script of steps in which
 * frames are whole, so that the states behind them are reached; time passes, the socket takes a
 * little, the application answers, writes, resets at any moment.
 *
 * Held: frames that go out are whole and within the peer's limit; nothing follows the end of a
 * stream; no more is acknowledged than was written; every exchange is closed exactly once, and
 * nothing is said of it afterwards; a connection is aborted only when its client left; nothing is
 * left alive.
 */
#include "../../src/http/h2_internal.h"

#include <stdlib.h>

#define MUST(cond) ((cond) ? (void)0 : abort())
#define EXCHANGES 64

struct seen {
    struct ph_exchange *ex; /* NULL: closed */
    size_t unconsumed, written, acked;
};

struct run {
    struct ph_h2_config config;
    struct ph_exchange_sink sink;
    struct ph_tcp_engine *engine;
    struct ph_sliceq in, out;
    struct ph_stats stats;
    uint64_t now;
    bool has_left;
    struct seen seen[EXCHANGES];
    size_t count;
    uint8_t head[PH_H2_FRAME_HEAD]; /* of the frame that goes out */
    size_t head_len, left;
    uint8_t ended[256]; /* streams that were ended or reset by us, by the low bits of their ids */
    const uint8_t *p, *end;
};

static unsigned next(struct run *run)
{
    return run->p < run->end ? *run->p++ : 0;
}

/* --- The application --- */

static struct seen *find(struct run *run, const struct ph_exchange *ex)
{
    for (size_t i = 0; i < EXCHANGES; i++) {
        if (run->seen[i].ex == ex)
            return &run->seen[i];
    }
    abort();
}

static void on_request(void *self, struct ph_exchange *ex)
{
    struct run *run = self;
    const struct ph_head *head = &ex->head;
    struct seen *free_one = find(run, NULL);
    MUST(strlen(head->method) == head->method_len && head->method_len > 0);
    MUST(strlen(head->target) == head->target_len && head->target_len > 0);
    MUST(strlen(head->authority) == head->authority_len);
    for (size_t i = 0; i < head->fields.count; i++) {
        MUST(ph_field_name_is_lower(head->fields.list[i].name, head->fields.list[i].name_len));
        MUST(ph_field_value_is_valid(head->fields.list[i].value, head->fields.list[i].value_len));
    }
    *free_one = (struct seen){.ex = ex};
    run->count++;
    MUST(run->count <= run->config.max_streams);
}

static void on_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    struct run *run = self;
    struct seen *seen = find(run, ex);
    MUST(n > 0 && data != NULL && ex->in != PH_EX_DONE);
    MUST(!ex->head.has_length || ex->in_bytes <= ex->head.length);
    seen->unconsumed += n;
    MUST(seen->unconsumed <= run->config.stream_window + run->config.max_frame);
}

static void on_trailers(void *self, struct ph_exchange *ex, const struct ph_fields *fields)
{
    MUST(find(self, ex)->ex->in != PH_EX_DONE && fields->count <= 20);
}

static void on_end(void *self, struct ph_exchange *ex)
{
    MUST(find(self, ex)->ex == ex);
    MUST(!ex->head.has_length || ex->in_bytes == ex->head.length);
}

static void on_acked(void *self, struct ph_exchange *ex, size_t n)
{
    struct seen *seen = find(self, ex);
    seen->acked += n;
    MUST(n > 0 && seen->acked <= seen->written);
}

static void on_closed(void *self, struct ph_exchange *ex, bool clean, uint64_t code)
{
    struct run *run = self;
    struct seen *seen = find(run, ex);
    (void)code;
    MUST(!clean || (ex->out == PH_EX_DONE && seen->acked == seen->written));
    seen->ex = NULL;
    run->count--;
}

static void act(struct run *run)
{
    static const struct ph_field length = {"content-length", "100", 14, 3};
    static const struct ph_field sum = {"x-sum", "1", 5, 1};
    struct seen *seen = &run->seen[next(run) % EXCHANGES];
    unsigned what = next(run), arg = next(run);
    struct ph_exchange *ex = seen->ex;
    if (ex == NULL)
        return;
    switch (what % 8) {
    case 0:
        ph_exchange_respond(ex, 200, &length, arg % 2, false);
        break;
    case 1:
        ph_exchange_respond(ex,
                            arg % 3 == 0   ? 103
                            : arg % 3 == 1 ? 204
                                           : 500,
                            NULL, 0, arg % 3 == 2);
        break;
    case 2:
    case 3: {
        struct ph_buf *buf = ph_buf_new(arg * arg + 1);
        memset(buf->data, 'w', buf->cap);
        ph_buf_set_len(buf, arg == 0 ? 0 : buf->cap);
        size_t n = buf->len;
        seen->written += n; /* it may be acknowledged within the call */
        if (ph_exchange_write(ex, ph_slice_of(buf), what % 8 == 3) < 0)
            seen->written -= n;
        break;
    }
    case 4:
        ph_exchange_trailers(ex, &sum, 1);
        break;
    case 5: {
        size_t n = PH_MIN(seen->unconsumed, (size_t)arg * arg);
        seen->unconsumed -= n;
        ph_exchange_consume(ex, n);
        break;
    }
    case 6:
        ph_exchange_stop(ex, 0);
        break;
    case 7:
        ph_exchange_reset(ex, arg);
        break;
    }
}

/* --- What goes out --- */

static void check_frame(struct run *run)
{
    uint32_t id = ph_u32_get(run->head + 5);
    uint8_t type = run->head[3], flags = run->head[4];
    run->left = (size_t)run->head[0] << 16 | (size_t)run->head[1] << 8 | run->head[2];
    MUST(run->left <= 16777215 && type <= NGHTTP2_CONTINUATION && type != NGHTTP2_PUSH_PROMISE);
    MUST(id <= INT32_MAX && id % 2 == (id != 0));
    if (id >= 512)
        return;
    uint8_t *ended = &run->ended[id / 2];
    if (type == NGHTTP2_DATA || type == NGHTTP2_HEADERS) {
        MUST(*ended == 0);
        *ended = (flags & NGHTTP2_FLAG_END_STREAM) != 0;
    } else if (type == NGHTTP2_RST_STREAM) {
        *ended = 1;
    }
}

static void check_output(struct run *run, const uint8_t *p, size_t n)
{
    while (n > 0) {
        size_t part =
            run->head_len < PH_H2_FRAME_HEAD ? PH_H2_FRAME_HEAD - run->head_len : run->left;
        part = PH_MIN(part, n);
        if (run->head_len < PH_H2_FRAME_HEAD) {
            memcpy(run->head + run->head_len, p, part);
            run->head_len += part;
            if (run->head_len == PH_H2_FRAME_HEAD)
                check_frame(run);
        } else {
            run->left -= part;
        }
        if (run->head_len == PH_H2_FRAME_HEAD && run->left == 0)
            run->head_len = 0;
        p += part;
        n -= part;
    }
}

static void turn(struct run *run, size_t max)
{
    const struct ph_tcp_engine_ops *ops = run->engine->ops;
    struct iovec iov;
    if (run->in.unsent > 0 && ops->wants_input(run->engine))
        ops->feed(run->engine, &run->in, run->now);
    ops->flush(run->engine);
    MUST(run->out.unsent <= PH_H2_OUT_MAX + (1 << 20));
    while (max > 0 && ph_sliceq_gather(&run->out, &iov, 1, max) == 1) {
        size_t n = iov.iov_len;
        check_output(run, iov.iov_base, n);
        ph_sliceq_advance(&run->out, n);
        ph_sliceq_drop(&run->out, n);
        ops->sent(run->engine, n, run->now);
        ops->flush(run->engine);
        max -= n;
    }
    for (int i = 0; ops->next(run->engine) <= run->now && i < 10; i++) {
        ops->expire(run->engine, run->now);
        ops->flush(run->engine);
    }
    bool abort_ = false;
    MUST(!ops->is_done(run->engine, &abort_) || !ops->wants_input(run->engine));
    MUST(!abort_ || run->has_left);
}

/* --- The client --- */

static void say(struct run *run, const void *data, size_t n)
{
    ph_sliceq_push(&run->in, ph_slice_of(ph_buf_copy(data, n)));
    if (run->engine->ops->wants_input(run->engine))
        run->engine->ops->feed(run->engine, &run->in, run->now);
}

static void frame(struct run *run, uint8_t type, uint8_t flags, uint32_t id, const void *payload,
                  size_t n)
{
    struct ph_buf *buf = ph_buf_new(PH_H2_FRAME_HEAD + n);
    ph_u32_put(buf->data, (uint32_t)n << 8);
    buf->data[3] = type;
    buf->data[4] = flags;
    ph_u32_put(buf->data + 5, id);
    if (n > 0)
        memcpy(buf->data + PH_H2_FRAME_HEAD, payload, n);
    say(run, buf->data, PH_H2_FRAME_HEAD + n);
    ph_buf_unref(buf);
}

/* Heads from the static table (RFC 7541 Appendix A), with a dynamic entry here and there. */
static void headers(struct run *run)
{
    static const struct {
        const char *p;
        size_t n;
    } blocks[] = {
#define BLOCK(text) {text, sizeof(text) - 1}
        BLOCK("\x82\x87\x84\x41\x01h"), /* GET https / h */
        BLOCK("\x83\x87\x84\x41\x01h"), /* POST */
        BLOCK("\x83\x87\x84\x41\x01h\x5c\x03"
              "100"), /* content-length: 100 */
        BLOCK("\x82\x87\x84\x41\x01h\x40\x02te\x08trailers"),
        BLOCK("\x42\x04HEAD\x87\x84\x41\x01h"),
        BLOCK("\x82\x87\x84\x41\x01h\x40\x08priority\x05u=1,i"),
        BLOCK("\x83\x87\x84\x41\x01h\x63\x0c"
              "100-continue"),
        BLOCK("\x42\x07"
              "CONNECT\x87\x84\x41\x01h\x40\x09:protocol\x09websocket"),
        BLOCK("\x40\x01x\x01y"),                    /* trailers */
        BLOCK("\x82\x87\x84"),                      /* malformed */
        BLOCK("\xbe\xbe\xbe\xbe\xbe\xbe\xbe"),      /* dynamic entries */
        BLOCK("\x3f\xe1\x1f\x82\x87\x84\x41\x01h"), /* with a table size update */
    };
    unsigned id = next(run), flags = next(run), which = next(run) % PH_COUNT_OF(blocks);
    frame(run, NGHTTP2_HEADERS, (uint8_t)(flags & ~(unsigned)NGHTTP2_FLAG_PADDED), id,
          blocks[which].p, blocks[which].n);
}

static void step(struct run *run)
{
    static const uint8_t zeros[16384];
    unsigned what = next(run), a, b, n;
    switch (what % 12) {
    case 0:
        a = next(run), b = next(run), n = next(run);
        n = PH_MIN(n, (unsigned)(run->end - run->p));
        frame(run, (uint8_t)(a % 18), (uint8_t)b, next(run) % 64, run->p, 0);
        break;
    case 1:
        a = next(run), b = next(run), n = next(run);
        unsigned id = next(run) % 64;
        n = PH_MIN(n, (unsigned)(run->end - run->p));
        frame(run, (uint8_t)(a % 18), (uint8_t)b, id, run->p, n);
        run->p += n;
        break;
    case 2:
    case 3:
        headers(run);
        break;
    case 4:
        a = next(run), b = next(run), n = next(run);
        frame(run, NGHTTP2_DATA, (uint8_t)(b & 1), a, zeros, PH_MIN((size_t)n * n, sizeof(zeros)));
        break;
    case 5:
        turn(run, (size_t)next(run) << 8);
        break;
    case 6:
        run->now += next(run) * PH_SEC / 4;
        turn(run, 0);
        break;
    case 7:
    case 8:
        act(run);
        break;
    case 9: {
        uint8_t entry[6];
        a = next(run), b = next(run);
        ph_u32_put(ph_u16_put(entry, (uint16_t)(a % 10)), 1u << b % 32);
        frame(run, NGHTTP2_SETTINGS, 0, 0, entry, sizeof(entry));
        break;
    }
    case 10: {
        uint8_t size[4];
        a = next(run), b = next(run);
        ph_u32_put(size, 1u << b % 31);
        frame(run, b < 128 ? NGHTTP2_WINDOW_UPDATE : NGHTTP2_RST_STREAM, 0, a, size, 4);
        break;
    }
    default:
        a = next(run);
        if (a % 16 == 0)
            run->engine->ops->drain(run->engine);
        turn(run, SIZE_MAX);
        break;
    }
}

static void run_init(struct run *run)
{
    static const struct ph_path path;
    memset(run, 0, sizeof(*run));
    ph_h2_config_default(&run->config);
    run->config.limits.head_bytes = 2048; /* small enough to be reached */
    run->config.limits.head_fields = 20;
    run->config.limits.target_bytes = 256;
    run->config.head_encoded = 1024;
    run->config.max_body = 100000;
    run->config.max_streams = 8;
    run->config.reset_burst = 20;
    run->config.glitch_burst = 60;
    run->config.websocket = true;
    run->now = PH_SEC;
    run->sink = (struct ph_exchange_sink){.self = run,
                                          .on_request = on_request,
                                          .on_body = on_body,
                                          .on_trailers = on_trailers,
                                          .on_end = on_end,
                                          .on_acked = on_acked,
                                          .on_closed = on_closed};
    ph_sliceq_init(&run->in);
    ph_sliceq_init(&run->out);
    run->engine =
        ph_h2_conn_new(&run->config, &run->sink, &path, NULL, &run->out, &run->stats, run->now);
}

static void run_fini(struct run *run)
{
    run->engine->ops->free(run->engine);
    for (size_t i = 0; i < EXCHANGES; i++)
        MUST(run->seen[i].ex == NULL);
    ph_sliceq_fini(&run->in);
    ph_sliceq_fini(&run->out);
    for (int kind = 0; kind < PH_LIVE_COUNT; kind++)
        MUST(ph_live_get((enum ph_live)kind) == 0);
}

/* Whatever is under way is answered: a connection that still lives gets to its end. */
static void finish(struct run *run)
{
    turn(run, SIZE_MAX);
    for (size_t i = 0; i < EXCHANGES; i++) {
        struct seen *seen = &run->seen[i];
        if (seen->ex == NULL)
            continue;
        if (seen->ex->out == PH_EX_HEAD)
            ph_exchange_respond(seen->ex, 200, NULL, 0, true);
        else if (seen->ex->out == PH_EX_BODY)
            ph_exchange_reset(seen->ex, PH_H3_INTERNAL_ERROR);
        turn(run, SIZE_MAX);
    }
    run->engine->ops->drain(run->engine);
    bool abort_;
    for (int i = 0; i < 100 && !run->engine->ops->is_done(run->engine, &abort_); i++) {
        run->now += run->config.write_stall_timeout / 8; /* heads, windows that do not come */
        turn(run, SIZE_MAX);
    }
    turn(run, SIZE_MAX); /* the last word */
    MUST(run->count == 0);
    MUST(run->engine->ops->is_done(run->engine, &abort_));
    MUST(run->out.unsent == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct run run;
    if (n == 0)
        return 0;
    run_init(&run);
    run.p = data + 1;
    run.end = data + n;
    if (data[0] % 2 == 0) {
        while (run.p < run.end) {
            size_t part = data[0] % 4 == 0 ? (size_t)(run.end - run.p) : 1;
            say(&run, run.p, part);
            run.p += part;
            if (data[0] % 8 < 4)
                turn(&run, SIZE_MAX);
        }
    } else {
        say(&run, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
        frame(&run, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
        while (run.p < run.end)
            step(&run);
    }
    if (data[0] % 16 < 8) {
        finish(&run);
    } else {
        run.has_left = true;
        run.engine->ops->eof(run.engine, run.now);
        turn(&run, SIZE_MAX);
    }
    run_fini(&run);
    return 0;
}
