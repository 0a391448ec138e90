/*
 * fuzz_ws.c - a WebSocket connection fed with arbitrary bytes, twice: whole, with an application
 * that takes each message at once, and in pieces that depend on the bytes, with one that lets the
 * queue fill. The first byte of the input chooses compression and limits.
 *
 * Held: both saw the same messages and the same end; no message beyond the limits; text is UTF-8;
 * no more messages with the application than the queue has places; nothing after the end; what goes
 * out are frames of a server. The application echoes, so that the way out is taken, too.
 */
#include "../../src/http/ws_internal.h"

#include <stdlib.h>

#define MUST(cond) ((cond) ? (void)0 : abort())

struct run {
    struct ph_ws_config config;
    struct ph_ws_host *host;
    struct ph_ws *ws;
    struct ph_stats stats;
    uint64_t now;
    bool is_lazy;
    size_t queued;
    bool closed, over;
    struct ph_buf *log; /* of what was received */
    uint8_t *wire;
    size_t wire_n, unsent;
};

static void note(struct run *run, const void *data, size_t n)
{
    struct ph_buf *grown = ph_buf_new(run->log->len + n);
    memcpy(grown->data, run->log->data, run->log->len);
    if (n > 0)
        memcpy(grown->data + run->log->len, data, n);
    grown->len = run->log->len + n;
    ph_buf_unref(run->log);
    run->log = grown;
}

static void on_message(void *user, struct ph_buf *message, bool text)
{
    struct run *run = user;
    size_t n = message != NULL ? message->len : 0;
    MUST(!run->closed && !run->over);
    MUST(n <= run->config.max_size);
    MUST(!text || n == 0 || ph_utf8_is_valid(message->data, n));
    run->queued++;
    MUST(run->queued <= run->config.max_queue);
    note(run, text ? "T" : "B", 1);
    note(run, n > 0 ? message->data : NULL, n);
    ph_ws_send(run->ws, message != NULL ? ph_slice_of(message) : (struct ph_slice){.buf = NULL},
               text, run->now);
    if (!run->is_lazy) {
        ph_ws_consume(run->ws, 1);
        run->queued--;
    }
}

static void on_out(void *user, struct ph_slice slice)
{
    struct run *run = user;
    MUST(!run->over && slice.n > 0);
    run->wire = ph_realloc(run->wire, run->wire_n + slice.n);
    memcpy(run->wire + run->wire_n, slice.p, slice.n);
    run->wire_n += slice.n;
    run->unsent += slice.n;
    ph_buf_unref(slice.buf);
}

static void on_closed(void *user, const struct ph_ws_end *end)
{
    struct run *run = user;
    MUST(!run->closed);
    MUST(ph_utf8_is_valid((const uint8_t *)end->reason, end->reason_len));
    run->closed = true;
    note(run, &end->code, sizeof(end->code));
    note(run, end->reason, end->reason_len);
}

static void on_over(void *user)
{
    struct run *run = user;
    MUST(!run->over && run->closed);
    run->over = true;
}

static const struct ph_ws_sink sink = {
    .on_message = on_message, .on_out = on_out, .on_closed = on_closed, .on_over = on_over};

static void check_wire(const struct run *run)
{
    size_t at = 0;
    bool closed = false;
    while (at < run->wire_n) {
        const uint8_t *p = run->wire + at;
        size_t head = 2, len;
        MUST(run->wire_n - at >= 2 && !closed);
        MUST((p[0] & 0xb0) == 0x80 && (p[1] & 0x80) == 0);
        len = p[1];
        if (len == 126) {
            MUST(run->wire_n - at >= 4);
            head = 4;
            len = ph_u16_get(p + 2);
        } else if (len == 127) {
            MUST(run->wire_n - at >= 10);
            head = 10;
            len = (size_t)((uint64_t)ph_u32_get(p + 2) << 32 | ph_u32_get(p + 6));
        }
        closed = (p[0] & 15) == 8;
        MUST((p[0] & 8) == 0 || len <= 125);
        MUST(run->wire_n - at - head >= len);
        at += head + len;
    }
}

static void sent(struct run *run)
{
    size_t n = run->unsent;
    run->unsent = 0;
    ph_ws_sent(run->ws, n, run->now);
    while (ph_ws_next(run->ws) <= run->now)
        ph_ws_expire(run->ws, run->now);
}

static void run_input(struct run *run, const uint8_t *data, size_t n, uint8_t flags, uint32_t seed)
{
    memset(run, 0, sizeof(*run));
    ph_ws_config_default(&run->config);
    run->config.max_size = (flags & 1) != 0 ? 300 : 5000;
    run->config.max_frames = (flags & 2) != 0 ? 3 : 100;
    run->config.max_queue = (flags & 4) != 0 ? 1 : 3;
    struct ph_ws_ask ask = {.deflate = (flags & 8) != 0,
                            .server_bits = 9 + (flags >> 4) % 4,
                            .client_bits = (flags & 128) != 0 ? 9 : 15};
    run->now = PH_SEC;
    run->is_lazy = seed != 0;
    run->log = ph_buf_new(0);
    run->host = ph_ws_host_new(&run->config, &run->stats);
    run->ws = ph_ws_new(run->host, &ask, &sink, run, run->now);
    while (n > 0 && !run->over) {
        size_t part = n;
        if (seed != 0) {
            seed = seed * 1664525 + 1013904223;
            part = PH_MIN((size_t)(seed >> 28) + 1, n);
        }
        size_t eaten = ph_ws_feed(run->ws, data, part, run->now);
        MUST(eaten <= part);
        MUST(eaten == part || !ph_ws_wants_input(run->ws));
        data += eaten;
        n -= eaten;
        sent(run);
        while (!ph_ws_wants_input(run->ws) && !run->over) {
            MUST(run->queued > 0);
            run->queued--;
            ph_ws_consume(run->ws, 1);
            ph_ws_feed(run->ws, NULL, 0, run->now);
        }
    }
    if (!run->over)
        ph_ws_eof(run->ws, run->now);
    MUST(run->over && run->closed);
    MUST(ph_ws_next(run->ws) == PH_NEVER);
    check_wire(run);
}

static void run_fini(struct run *run)
{
    ph_ws_free(run->ws);
    ph_ws_host_free(run->host);
    ph_buf_unref(run->log);
    ph_free(run->wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct run whole, pieces;
    uint32_t seed = 1;
    if (n == 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        seed = seed * 31 + data[i];
    run_input(&whole, data + 1, n - 1, data[0], 0);
    run_input(&pieces, data + 1, n - 1, data[0], seed | 1);
    MUST(whole.log->len == pieces.log->len);
    MUST(memcmp(whole.log->data, pieces.log->data, whole.log->len) == 0);
    run_fini(&whole);
    run_fini(&pieces);
    return 0;
}
