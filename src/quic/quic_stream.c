/*
 * quic_stream.c - one QUIC stream: what waits to be sent, what was received and not yet consumed,
 * reset and stop.
 *
 *      write -> sendq: [acknowledged, freed][sent, kept for the library][unsent] <- fin
 *
 * Invariants: bytes handed to ngtcp2 stay at their address until they are acknowledged or the
 * stream is closed. A stream is on its urgency's ready list exactly when it has something to send
 * and the peer's stream window is not used up. Resets and stops are recorded on conn->ops and told
 * to the library outside of its callbacks (inside, ngtcp2 would count the window twice). Each
 * received byte is given back to the connection window once: by consume, by reset or stop, or, when
 * the stream is gone, by ph_quic_conn_consume().
 */
#include "quic_internal.h"

struct ph_quic_stream *ph_quic_stream_new(struct ph_quic_conn *conn, int64_t id)
{
    struct ph_quic_stream *stream = ph_alloc(sizeof(*stream));
    stream->conn = conn;
    stream->id = id;
    stream->urgency = 3;
    stream->incremental = true;
    ph_sliceq_init(&stream->sendq);
    ph_list_append(&conn->all_streams, &stream->link);
    ph_map_put(&conn->streams, (uint64_t)id, stream);
    ph_live_add(PH_LIVE_QUIC_STREAM, 1);
    return stream;
}

void ph_quic_stream_free(struct ph_quic_stream *stream)
{
    ph_sliceq_fini(&stream->sendq);
    ph_free(stream);
    ph_live_add(PH_LIVE_QUIC_STREAM, -1);
}

void ph_quic_stream_end(struct ph_quic_stream *stream)
{
    struct ph_quic_conn *conn = stream->conn;
    stream->closed = true;
    ph_quic_stream_disarm(stream);
    ph_list_remove(&stream->op);
    ph_list_remove(&stream->wait);
    ph_list_remove(&stream->link);
    ph_map_del(&conn->streams, (uint64_t)stream->id);
    ph_list_append(&conn->ep->streams, &stream->link);
}

/* --- Accessors --- */

void ph_quic_stream_set_user(struct ph_quic_stream *stream, void *user)
{
    stream->user = user;
}

void *ph_quic_stream_user(const struct ph_quic_stream *stream)
{
    return stream->user;
}

uint64_t ph_quic_stream_id(const struct ph_quic_stream *stream)
{
    return (uint64_t)stream->id;
}

struct ph_quic_conn *ph_quic_stream_conn(const struct ph_quic_stream *stream)
{
    return stream->conn;
}

size_t ph_quic_stream_queued(const struct ph_quic_stream *stream)
{
    return stream->sendq.bytes;
}

size_t ph_quic_stream_unconsumed(const struct ph_quic_stream *stream)
{
    return (size_t)stream->unconsumed;
}

bool ph_quic_stream_is_writable(const struct ph_quic_stream *stream)
{
    return ph_quic_stream_can_send(stream) && !stream->closed && !stream->fin && !stream->reset &&
           !stream->peer_stopped && stream->conn->state == PH_QUIC_LIVE;
}

bool ph_quic_stream_is_blocked(const struct ph_quic_stream *stream)
{
    const struct ph_quic_conn *conn = stream->conn;
    if (stream->closed || stream->reset || stream->peer_stopped || conn->qc == NULL ||
        stream->sendq.unsent == 0) /* a FIN alone needs no window */
        return false;
    return stream->blocked || ngtcp2_conn_get_max_data_left(conn->qc) == 0;
}

void ph_quic_stream_hold_credit(struct ph_quic_stream *stream)
{
    stream->hold_credit = true;
}

/* --- Sending --- */

static bool wants_to_send(const struct ph_quic_stream *stream)
{
    if (stream->closed || stream->blocked || stream->peer_stopped)
        return false;
    if (stream->reset)
        return stream->reset_pending && stream->sendq.unsent > 0; /* the header, before the reset */
    return stream->sendq.unsent > 0 || (stream->fin && !stream->fin_sent);
}

void ph_quic_stream_arm(struct ph_quic_stream *stream)
{
    struct ph_quic_conn *conn = stream->conn;
    if (!wants_to_send(stream)) {
        ph_quic_stream_disarm(stream);
        return;
    }
    if (!ph_link_is_on(&stream->ready)) {
        ph_list_append(&conn->ready_streams[stream->urgency], &stream->ready);
        conn->ready_mask |= 1u << stream->urgency;
    }
    ph_quic_mark_dirty(conn);
}

void ph_quic_stream_disarm(struct ph_quic_stream *stream)
{
    struct ph_quic_conn *conn = stream->conn;
    ph_list_remove(&stream->ready);
    if (ph_list_is_empty(&conn->ready_streams[stream->urgency]))
        conn->ready_mask &= ~(1u << stream->urgency);
}

int ph_quic_stream_write(struct ph_quic_stream *stream, struct ph_slice slice)
{
    if (!ph_quic_stream_is_writable(stream)) {
        if (slice.buf != NULL)
            ph_buf_unref(slice.buf);
        return PH_E_STATE;
    }
    stream->written += slice.n;
    ph_sliceq_push(&stream->sendq, slice);
    ph_quic_stream_arm(stream);
    return PH_OK;
}

int ph_quic_stream_write_copy(struct ph_quic_stream *stream, const void *data, size_t n)
{
    if (!ph_quic_stream_is_writable(stream))
        return PH_E_STATE;
    stream->written += n;
    ph_sliceq_push_copy(&stream->sendq, data, n);
    ph_quic_stream_arm(stream);
    return PH_OK;
}

int ph_quic_stream_fin(struct ph_quic_stream *stream)
{
    if (!ph_quic_stream_is_writable(stream))
        return PH_E_STATE;
    stream->fin = true;
    ph_quic_stream_arm(stream);
    return PH_OK;
}

void ph_quic_stream_set_urgency(struct ph_quic_stream *stream, unsigned urgency)
{
    if (urgency >= PH_QUIC_URGENCIES || urgency == stream->urgency)
        return;
    ph_quic_stream_disarm(stream);
    stream->urgency = (uint8_t)urgency;
    ph_quic_stream_arm(stream);
}

void ph_quic_stream_set_incremental(struct ph_quic_stream *stream, bool incremental)
{
    stream->incremental = incremental;
}

void ph_quic_stream_set_reliable(struct ph_quic_stream *stream, size_t n)
{
    PH_ASSERT(n <= PH_QUIC_RELIABLE_MAX);
    stream->reliable = (uint32_t)n;
}

/* --- Reset and stop --- */

void ph_quic_stream_record(struct ph_quic_stream *stream)
{
    if (!ph_link_is_on(&stream->op))
        ph_list_append(&stream->conn->ops, &stream->op);
    ph_quic_mark_dirty(stream->conn);
}

/* Forgets unsent bytes except the part of the header that a reset waits for. */
static void drop_unsent(struct ph_quic_stream *stream, uint64_t keep_until)
{
    uint64_t sent = stream->written - stream->sendq.unsent;
    uint8_t keep[PH_QUIC_RELIABLE_MAX];
    size_t n = 0;
    if (keep_until > sent) {
        struct iovec iov[PH_QUIC_RELIABLE_MAX];
        size_t count =
            ph_sliceq_gather(&stream->sendq, iov, PH_COUNT_OF(iov), (size_t)(keep_until - sent));
        for (size_t i = 0; i < count; i++) {
            memcpy(keep + n, iov[i].iov_base, iov[i].iov_len);
            n += iov[i].iov_len;
        }
    }
    ph_sliceq_drop_unsent(&stream->sendq);
    if (n > 0)
        ph_sliceq_push_copy(&stream->sendq, keep, n);
    stream->written = sent + n;
}

void ph_quic_stream_reset(struct ph_quic_stream *stream, uint64_t code)
{
    struct ph_quic_conn *conn = stream->conn;
    if (stream->closed || stream->reset || stream->peer_stopped || conn->state != PH_QUIC_LIVE ||
        !ph_quic_stream_can_send(stream))
        return;
    if (stream->fin_sent && stream->sendq.bytes == 0)
        return; /* everything arrived, or is about to be known to have */
    uint64_t reliable = PH_MIN((uint64_t)stream->reliable, stream->written);
    stream->reset = true;
    stream->reset_pending = true;
    stream->reset_code = code;
    drop_unsent(stream, reliable);
    ph_quic_stream_arm(stream);
    if (stream->acked < reliable) {
        stream->wait_deadline = conn->ep->now + PH_QUIC_RESET_WAIT;
        ph_list_append(&conn->waiting, &stream->wait);
        ph_quic_mark_dirty(conn);
        return;
    }
    ph_quic_stream_record(stream);
}

void ph_quic_stream_give_back(struct ph_quic_stream *stream)
{
    struct ph_quic_conn *conn = stream->conn;
    if (stream->unconsumed == 0)
        return;
    if (conn->qc != NULL && conn->state == PH_QUIC_LIVE) {
        ngtcp2_conn_extend_max_offset(conn->qc, stream->unconsumed);
        ph_quic_mark_dirty(conn);
    }
    stream->unconsumed = 0;
}

void ph_quic_stream_stop(struct ph_quic_stream *stream, uint64_t code)
{
    if (stream->closed || stream->stopped || stream->peer_reset || stream->rx_fin ||
        stream->conn->state != PH_QUIC_LIVE)
        return;
    if (ph_quic_id_is_uni((uint64_t)stream->id) && ph_quic_stream_can_send(stream))
        return; /* nothing to read on our own unidirectional stream */
    stream->stopped = true;
    stream->stop_pending = true;
    stream->stop_code = code;
    ph_quic_stream_give_back(stream);
    ph_quic_stream_record(stream);
}

void ph_quic_stream_peer_stop(struct ph_quic_stream *stream, uint64_t code)
{
    if (stream->closed || stream->peer_stopped || !ph_quic_stream_can_send(stream))
        return;
    if (stream->fin_sent && stream->sendq.bytes == 0)
        return; /* too late to matter: everything is acknowledged */
    bool known = stream->reset && !stream->reset_pending;
    stream->peer_stopped = true;
    stream->peer_stop_code = code;
    stream->reset_pending = false; /* the library's own RESET_STREAM is under way */
    ph_list_remove(&stream->wait);
    drop_unsent(stream, 0);
    ph_quic_stream_disarm(stream);
    if (known)
        return; /* our reset crossed it: nobody waits for an answer */
    stream->peer_stop_pending = true;
    ph_quic_stream_record(stream);
}

static void apply_reset(struct ph_quic_stream *stream)
{
    stream->reset_pending = false;
    ph_list_remove(&stream->wait);
    drop_unsent(stream, 0);
    ph_quic_stream_disarm(stream);
    ngtcp2_conn_shutdown_stream_write(stream->conn->qc, 0, stream->id, stream->reset_code);
}

static bool is_sending_over(const struct ph_quic_stream *stream)
{
    return !ph_quic_stream_can_send(stream) || stream->peer_stopped ||
           (stream->reset && !stream->reset_pending) ||
           (stream->fin_sent && stream->sendq.bytes == 0);
}

/* Streams that ngtcp2 never closes although they are over. Before 1.25: one that we stopped and
 * whose FIN came with a gap before it (what fills the gap is dropped, so the library waits for
 * ever). Before 1.22 or so: a peer's unidirectional stream of which RESET_STREAM came first (its
 * missing sending side does not count as finished). After any other reset of such a stream the
 * library has closed it before we get here. */
static bool is_zombie(const struct ph_quic_stream *stream)
{
    if (stream->closed)
        return false;
    if (stream->peer_reset && !ph_quic_stream_can_send(stream))
        return true;
    return stream->stopped && !stream->stop_pending && stream->fin_seen && is_sending_over(stream);
}

/* We close our side; the library's few hundred bytes stay, perhaps until the connection ends, so
 * the peer's credit is returned only for a bounded number of them. No data is pending there: after
 * its own reset the library does not touch a stream's data any more. */
static void settle_zombie(struct ph_quic_stream *stream)
{
    struct ph_quic_conn *conn = stream->conn;
    ngtcp2_conn_set_stream_user_data(conn->qc, stream->id, NULL);
    if (conn->zombies++ >= PH_QUIC_ZOMBIE_STREAMS)
        stream->hold_credit = true;
    ph_quic_stream_close(stream);
}

void ph_quic_stream_fin_seen(struct ph_quic_stream *stream)
{
    stream->fin_seen = true;
    if (stream->stopped && !stream->closed)
        ph_quic_stream_record(stream);
}

static void tell_stop(struct ph_quic_stream *stream)
{
    struct ph_quic_conn *conn = stream->conn;
    if (!stream->peer_stop_pending)
        return;
    stream->peer_stop_pending = false;
    if (!ph_quic_conn_wants_events(conn))
        return;
    stream->peer_stop_told = true;
    conn->ep->sink.on_stop(conn->ep->sink.self, stream, stream->peer_stop_code);
}

bool ph_quic_stream_peer_stop_code(const struct ph_quic_stream *stream, uint64_t *code)
{
    *code = stream->peer_stop_code;
    return stream->peer_stop_told;
}

static void apply_op(struct ph_quic_stream *stream)
{
    struct ph_quic_conn *conn = stream->conn;
    if (stream->reset_pending && !ph_link_is_on(&stream->wait))
        apply_reset(stream);
    if (stream->stop_pending) {
        stream->stop_pending = false;
        ngtcp2_conn_shutdown_stream_read(conn->qc, 0, stream->id, stream->stop_code);
    }
    tell_stop(stream);
    if (is_zombie(stream))
        settle_zombie(stream);
}

void ph_quic_streams_apply(struct ph_quic_conn *conn, uint64_t now)
{
    while (!ph_list_is_empty(&conn->waiting)) {
        struct ph_quic_stream *stream =
            PH_CONTAINER(conn->waiting.next, struct ph_quic_stream, wait);
        if (stream->wait_deadline > now)
            break;
        ph_list_remove(&stream->wait);
        ph_quic_stream_record(stream);
    }
    struct ph_link *link;
    while ((link = ph_list_take(&conn->ops)) != NULL)
        apply_op(PH_CONTAINER(link, struct ph_quic_stream, op));
}

uint64_t ph_quic_streams_deadline(const struct ph_quic_conn *conn)
{
    if (ph_list_is_empty(&conn->waiting))
        return PH_NEVER;
    return PH_CONTAINER(conn->waiting.next, struct ph_quic_stream, wait)->wait_deadline;
}

/* --- What the library reports --- */

void ph_quic_stream_acked(struct ph_quic_stream *stream, size_t n)
{
    struct ph_quic_conn *conn = stream->conn;
    ph_sliceq_drop(&stream->sendq, n);
    stream->acked += n;
    if (ph_link_is_on(&stream->wait) && stream->acked >= stream->reliable) {
        ph_list_remove(&stream->wait);
        ph_quic_stream_record(stream);
    }
    if (stream->fin_seen && stream->stopped)
        ph_quic_stream_record(stream);
    if (n > 0 && ph_quic_conn_wants_events(conn))
        conn->ep->sink.on_acked(conn->ep->sink.self, stream, n);
}

void ph_quic_stream_close(struct ph_quic_stream *stream)
{
    struct ph_quic_conn *conn = stream->conn;
    if (stream->closed)
        return;
    tell_stop(stream); /* before the end, in order */
    stream->closed = true;
    conn->orphaned += stream->unconsumed; /* from here on ph_quic_conn_consume() is the way */
    if (ph_quic_conn_wants_events(conn))
        conn->ep->sink.on_stream_closed(conn->ep->sink.self, stream);
    bool by_peer = ph_quic_id_is_server((uint64_t)stream->id) != conn->server;
    if (by_peer && !stream->hold_credit)
        ph_quic_conn_extend_streams(conn, !ph_quic_id_is_uni((uint64_t)stream->id), 1);
    ph_quic_stream_end(stream);
}

/* --- Receive credit --- */

void ph_quic_stream_consume(struct ph_quic_stream *stream, size_t n)
{
    struct ph_quic_conn *conn = stream->conn;
    uint64_t k = PH_MIN((uint64_t)n, stream->unconsumed);
    if (k == 0)
        return;
    stream->unconsumed -= k;
    if (stream->closed) {
        ph_quic_conn_consume(conn, (size_t)k);
        return;
    }
    if (conn->qc == NULL || conn->state != PH_QUIC_LIVE)
        return;
    if (!stream->rx_fin)
        ngtcp2_conn_extend_max_stream_offset(conn->qc, stream->id, k);
    ngtcp2_conn_extend_max_offset(conn->qc, k);
    ph_quic_mark_dirty(conn);
}

void ph_quic_conn_consume(struct ph_quic_conn *conn, size_t n)
{
    uint64_t k = PH_MIN((uint64_t)n, conn->orphaned);
    conn->orphaned -= k;
    if (k == 0 || conn->qc == NULL || conn->state != PH_QUIC_LIVE)
        return;
    ngtcp2_conn_extend_max_offset(conn->qc, k);
    ph_quic_mark_dirty(conn);
}

void ph_quic_conn_extend_streams(struct ph_quic_conn *conn, bool bidi, size_t n)
{
    if (n == 0 || conn->qc == NULL || conn->state != PH_QUIC_LIVE)
        return;
    conn->granted[bidi] += n;
    if (bidi)
        ngtcp2_conn_extend_max_streams_bidi(conn->qc, n);
    else
        ngtcp2_conn_extend_max_streams_uni(conn->qc, n);
    ph_quic_mark_dirty(conn);
}

bool ph_quic_conn_peer_may_open(const struct ph_quic_conn *conn, uint64_t id)
{
    return id / 4 < conn->granted[!ph_quic_id_is_uni(id)];
}
