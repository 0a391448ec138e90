/*
 * h3_reply.c - the outgoing half of a request stream: HEADERS and DATA frames, trailers, FIN, and
 * the operations of an exchange.
 *
 * A body write becomes one DATA frame: its header is a small copied slice, the payload the caller's
 * slice as it is. quic acknowledges bytes of the stream; owners count body bytes, so the order of
 * framing and body runs is kept until acknowledged.
 */
#include "h3_internal.h"

/* Fields of a response up to this many are put together on the stack. */
enum { FIELDS_INLINE = 32 };

/* How often a response that waits is looked at within the time of a stall. */
enum { STALL_LOOKS = 32 };

/* Heads up to this many bytes outlive a reset: what quic keeps for it is bounded. */
enum { RELIABLE_HEAD = 64 };

static bool can_send(const struct ph_h3_request *req)
{
    return !req->ended && !req->out_done && req->stream.quic != NULL && !req->stream.conn->failed;
}

/* --- Responses that stand still --- */

static void stall_look_again(struct ph_h3_request *req, uint64_t now)
{
    struct ph_h3 *h3 = req->stream.conn->h3;
    req->stall_at = now + h3->config.write_stall_timeout / STALL_LOOKS;
    ph_list_append(&h3->stalls, &req->stall);
}

static void stall_arm(struct ph_h3_request *req)
{
    uint64_t now = ph_quic_conn_now(req->stream.conn->quic);
    uint64_t timeout = req->stream.conn->h3->config.write_stall_timeout;
    if (timeout == 0 || req->owner != PH_H3_OWNER_EXCHANGE || req->ended)
        return;
    req->stall_due = now + timeout;
    req->stall_acked = 0;
    stall_look_again(req, now);
}

/* What the peer took buys it time at the least rate, never more than a stall may last. */
static void stall_moved(struct ph_h3_request *req, size_t n)
{
    const struct ph_h3_config *config = &req->stream.conn->h3->config;
    uint64_t timeout = config->write_stall_timeout;
    uint64_t most = ph_quic_conn_now(req->stream.conn->quic) + timeout;
    req->stall_due =
        PH_MIN(req->stall_due + ph_time_bought(n, config->min_send_rate, timeout), most);
    req->stall_acked = req->stall_due == most ? 0 : req->stall_acked + n;
}

/* Something has waited, and the peer took too little of it for too long. If it gives no window it
 * is a slow reader, and what waits for it is dropped; otherwise it is our own order of sending that
 * makes the stream wait. */
void ph_h3_reply_expire(struct ph_h3 *h3, uint64_t now)
{
    while (!ph_list_is_empty(&h3->stalls)) {
        struct ph_h3_request *req = PH_CONTAINER(h3->stalls.next, struct ph_h3_request, stall);
        if (req->stall_at > now)
            return;
        ph_list_remove(&req->stall);
        if (req->stream.conn->failed)
            continue;
        bool is_late = now >= req->stall_due;
        if (is_late && !ph_quic_stream_is_blocked(req->stream.quic)) {
            req->stall_due = now + h3->config.write_stall_timeout;
            is_late = false;
        }
        if (!is_late) {
            stall_look_again(req, now);
            continue;
        }
        if (req->stall_acked == 0)
            ph_count(h3->stats, timeouts_write);
        else
            ph_count(h3->stats, timeouts_send_rate);
        ph_h3_request_abort(req, PH_H3_REQUEST_CANCELLED, false);
    }
}

/* --- Runs --- */

static struct ph_h3_run *run_at(struct ph_h3_request *req, uint32_t i)
{
    return &req->runs[(req->runs_head + i) & (req->runs_cap - 1)];
}

static void grow_runs(struct ph_h3_request *req)
{
    uint32_t cap = req->runs_cap == 0 ? 4 : req->runs_cap * 2;
    req->runs = ph_queue_grow(req->runs, sizeof(*req->runs), req->runs_cap, req->runs_head, cap);
    req->runs_cap = cap;
    req->runs_head = 0;
}

static void add_run(struct ph_h3_request *req, uint64_t framing, uint64_t body)
{
    if (req->runs_count > 0) {
        struct ph_h3_run *last = run_at(req, req->runs_count - 1);
        if (last->body == 0 || framing == 0) {
            last->framing += framing;
            last->body += body;
            return;
        }
    }
    if (req->runs_count == req->runs_cap)
        grow_runs(req);
    *run_at(req, req->runs_count++) = (struct ph_h3_run){framing, body};
}

void ph_h3_reply_framing(struct ph_h3_request *req, size_t n)
{
    add_run(req, n, 0);
}

void ph_h3_reply_acked(struct ph_h3_request *req, size_t n)
{
    uint64_t left = n, body = 0;
    while (left > 0 && req->runs_count > 0) {
        struct ph_h3_run *run = run_at(req, 0);
        uint64_t framing = PH_MIN(run->framing, left);
        run->framing -= framing;
        left -= framing;
        uint64_t part = PH_MIN(run->body, left);
        run->body -= part;
        left -= part;
        body += part;
        if (run->framing > 0 || run->body > 0)
            break;
        req->runs_head = (req->runs_head + 1) & (req->runs_cap - 1);
        req->runs_count--;
    }
    if (req->runs_count == 0)
        ph_list_remove(&req->stall);
    else if (ph_link_is_on(&req->stall))
        stall_moved(req, n);
    if (body > 0 && req->owner == PH_H3_OWNER_EXCHANGE && !req->ended)
        req->ex.sink->on_acked(req->ex.sink->self, &req->ex, (size_t)body);
}

/* --- Frames --- */

size_t ph_h3_reply_section(struct ph_h3_request *req, const struct ph_field *fields, size_t n)
{
    struct ph_buf *buf = ph_qpack_encode(req->stream.conn->qpack, req->id, fields, n);
    size_t len = ph_buf_len(buf);
    if (ph_quic_stream_write(req->stream.quic, ph_slice_of(buf)) == 0)
        add_run(req, len, 0);
    else
        req->out_lost = true;
    return len;
}

void ph_h3_reply_fin(struct ph_h3_request *req)
{
    req->out_done = true;
    if (ph_quic_stream_fin(req->stream.quic) != 0)
        req->out_lost = true;
    /* The whole response is on its way: the rest of the request is not needed (RFC 9114 4.1). */
    if (req->stream.conn->is_server && req->owner != PH_H3_OWNER_EXT)
        ph_h3_request_stop_in(req, PH_H3_NO_ERROR);
}

int ph_h3_reply_head(struct ph_h3_request *req, int status, const struct ph_field *fields, size_t n,
                     bool fin)
{
    if (!can_send(req))
        return PH_E_CLOSED;
    if (req->out_head)
        return PH_E_STATE;
    struct ph_field few[FIELDS_INLINE], *all = few;
    char text[8];
    if (n + 1 > PH_COUNT_OF(few))
        all = ph_alloc((n + 1) * sizeof(*all));
    snprintf(text, sizeof(text), "%03d", status % 1000);
    all[0] = (struct ph_field){.name = ":status", .name_len = 7, .value = text, .value_len = 3};
    if (n > 0)
        memcpy(all + 1, fields, n * sizeof(*all));
    bool is_first = req->runs_count == 0;
    size_t len = ph_h3_reply_section(req, all, n + 1);
    if (all != few)
        ph_free(all);
    req->out_head = status >= 200;
    /* A session that is accepted and reset at once: the client should still see the answer. */
    if (req->owner == PH_H3_OWNER_EXT && is_first && len <= RELIABLE_HEAD)
        ph_quic_stream_set_reliable(req->stream.quic, len);
    if (fin)
        ph_h3_reply_fin(req);
    return 0;
}

void ph_h3_reply_error(struct ph_h3_request *req, int status)
{
    static const struct ph_field empty = {"content-length", "0", 14, 1};
    static const struct ph_field allow[] = {
        {"content-length", "0", 14, 1},
        {"allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS", 5, 44},
    };
    if (status == 405) /* RFC 9110 15.5.6 wants the list */
        ph_h3_reply_head(req, status, allow, PH_COUNT_OF(allow), true);
    else
        ph_h3_reply_head(req, status, &empty, 1, true);
}

/* --- Operations of an exchange --- */

static struct ph_h3_request *request_of(struct ph_exchange *ex)
{
    return PH_CONTAINER(ex, struct ph_h3_request, ex);
}

static void exchange_respond(struct ph_exchange *ex, int status, const struct ph_field *fields,
                             size_t n, bool fin)
{
    ph_h3_reply_head(request_of(ex), status, fields, n, fin);
}

/* Takes the reference. The peer may have stopped the stream and on_stop be still on its way: the
 * bytes are gone then, and nobody waits for their acknowledgement. */
static void write_data(struct ph_h3_request *req, struct ph_slice slice)
{
    uint8_t head[16];
    size_t len = (size_t)(ph_h3_frame_put(head, PH_H3_DATA, slice.n) - head);
    if (ph_quic_stream_write_copy(req->stream.quic, head, len) != 0) {
        ph_buf_unref(slice.buf);
        req->out_lost = true;
        req->ex.sink->on_acked(req->ex.sink->self, &req->ex, slice.n);
        return;
    }
    add_run(req, len, slice.n);
    if (!ph_link_is_on(&req->stall))
        stall_arm(req);
    ph_quic_stream_write(req->stream.quic, slice);
}

static void exchange_write(struct ph_exchange *ex, struct ph_slice slice, bool fin)
{
    struct ph_h3_request *req = request_of(ex);
    if (slice.n == 0 || !can_send(req))
        ph_buf_unref(slice.buf);
    else
        write_data(req, slice);
    if (!can_send(req))
        return;
    if (fin)
        ph_h3_reply_fin(req);
}

static void exchange_trailers(struct ph_exchange *ex, const struct ph_field *fields, size_t n)
{
    struct ph_h3_request *req = request_of(ex);
    if (!can_send(req))
        return;
    if (n > 0)
        ph_h3_reply_section(req, fields, n);
    ph_h3_reply_fin(req);
}

/* RFC 9110 10.1.1: the client holds its body back until it is wanted. Once. */
static bool expects_continue(struct ph_h3_request *req)
{
    const struct ph_field *field = ph_fields_get(&req->ex.head.fields, "expect");
    if (req->continued || req->out_head || req->in != PH_H3_IN_BODY || req->ex.in_bytes > 0 ||
        field == NULL || !ph_text_equal(field->value, field->value_len, "100-continue"))
        return false;
    req->continued = true;
    return true;
}

static void exchange_consume(struct ph_exchange *ex, size_t n)
{
    struct ph_h3_request *req = request_of(ex);
    if (n > 0)
        ph_h3_request_credit(req, n);
    else if (can_send(req) && expects_continue(req))
        ph_h3_reply_head(req, 100, NULL, 0, false);
}

static void exchange_reset(struct ph_exchange *ex, uint64_t code)
{
    ph_h3_request_abort(request_of(ex), code, false);
}

static void exchange_stop(struct ph_exchange *ex, uint64_t code)
{
    struct ph_h3_request *req = request_of(ex);
    if (!req->ended && req->stream.quic != NULL && !req->stream.conn->failed)
        ph_h3_request_stop_in(req, code);
}

const struct ph_exchange_ops ph_h3_exchange_ops = {
    .respond = exchange_respond,
    .write = exchange_write,
    .trailers = exchange_trailers,
    .consume = exchange_consume,
    .reset = exchange_reset,
    .stop = exchange_stop,
};
