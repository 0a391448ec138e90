/*
 * wt_stream.c - data streams: association with their session, payload both ways, reset and stop
 * with mapped codes (draft-16 section 4).
 *
 *      peer's:  HEADER -> ACTIVE ----------------------> DEAD     session open
 *                  |   -> PENDING -> ACTIVE                        not yet (wt_pending.c)
 *                  '--------------------> STRAY --------> DEAD     refused, or broken off
 *      ours:    WAITING -> ACTIVE -> ... ; at the session's end everything becomes STRAY
 *                  '--------------------------------> DEAD     abandoned before it had its id
 *
 * Invariants: the owner knows exactly the streams that are on a session's list (WAITING, ACTIVE);
 * a STRAY has been reset and stopped and is silent until QUIC closes it. The first bytes of our own
 * streams are reliable, so that the peer can tell whose stream was reset. on_acked sums up to what
 * was written, on_data to what is consumed or returned.
 */
#include "wt_internal.h"

static const struct ph_h3_claim_ops claim_ops;

static struct ph_wt_stream *stream_new(struct wt_conn *conn, bool bidi, bool is_local)
{
    struct ph_wt_stream *stream = ph_alloc(sizeof *stream);
    stream->claim.ops = &claim_ops;
    stream->conn = conn;
    stream->bidi = bidi;
    stream->is_local = is_local;
    stream->id = UINT64_MAX;
    stream->urgency = 3; /* RFC 9218 section 4.1 */
    stream->send_over = !bidi && !is_local;
    stream->recv_over = !bidi && is_local;
    ph_live_add(PH_LIVE_WT_STREAM, 1);
    return stream;
}

static void drop_slice(struct ph_slice slice)
{
    if (slice.buf != NULL)
        ph_buf_unref(slice.buf);
}

/* Bytes written before the stream had its id. */
static void early_push(struct ph_wt_stream *stream, struct ph_slice slice)
{
    if (slice.n == 0) {
        drop_slice(slice);
        return;
    }
    if (stream->early_count == stream->early_cap) {
        stream->early_cap = PH_MAX(2 * stream->early_cap, 4);
        stream->early = ph_realloc(stream->early, stream->early_cap * sizeof *stream->early);
    }
    stream->early[stream->early_count++] = slice;
}

static void early_drop(struct ph_wt_stream *stream)
{
    for (size_t i = 0; i < stream->early_count; i++)
        drop_slice(stream->early[i]);
    ph_free(stream->early);
    stream->early = NULL;
    stream->early_count = stream->early_cap = 0;
}

void ph_wt_stream_bury(struct ph_wt_stream *stream)
{
    early_drop(stream);
    ph_free(stream);
    ph_live_add(PH_LIVE_WT_STREAM, -1);
}

static void stream_die(struct ph_wt_stream *stream)
{
    stream->phase = WT_DEAD;
    stream->quic = NULL;
    ph_wt_timer_stop(&stream->timer);
    ph_list_remove(&stream->link);
    ph_list_append(&stream->conn->wt->dead_streams, &stream->link);
}

/* QUIC closed a stream that the owner does not know (any more): its count credit is ours to
 * return. */
static void stream_die_unseen(struct ph_wt_stream *stream)
{
    if (!stream->is_local)
        ph_quic_conn_extend_streams(stream->conn->quic, stream->bidi, 1);
    stream_die(stream);
}

/* Both directions are abandoned; nothing more of it reaches the owner. */
static void stream_stray(struct ph_wt_stream *stream, uint64_t http3_code)
{
    stream->phase = WT_STRAY;
    ph_wt_timer_stop(&stream->timer);
    ph_list_remove(&stream->link);
    ph_list_append(&stream->conn->strays, &stream->link);
    ph_quic_stream_stop(stream->quic, http3_code);
    ph_quic_stream_consume(stream->quic, stream->unread);
    stream->unread = 0;
    ph_quic_stream_reset(stream->quic, http3_code);
}

void ph_wt_stream_refuse(struct ph_wt_stream *stream, uint64_t http3_code)
{
    size_t unread = stream->unread;
    if (stream->phase == WT_HEADER)
        stream->conn->headless--;
    if (stream->phase == WT_PENDING)
        ph_wt_pending_remove(stream);
    if (stream->quic != NULL) {
        stream_stray(stream, http3_code);
        return;
    }
    ph_quic_conn_consume(stream->conn->quic, unread); /* it was whole already */
    stream_die_unseen(stream);
}

/* --- Towards the owner --- */

static void report_acked(struct ph_wt_stream *stream, size_t n)
{
    const struct ph_wt_sink *sink = &stream->conn->wt->sink;
    n = PH_MIN(n, stream->unacked);
    stream->unacked -= n;
    if (n > 0 && sink->on_acked != NULL)
        sink->on_acked(sink->self, stream, n);
}

void ph_wt_stream_show(struct ph_wt_stream *stream, struct ph_wt_session *session)
{
    struct ph_wt *wt = stream->conn->wt;
    stream->phase = WT_ACTIVE;
    stream->session = session;
    ph_wt_timer_stop(&stream->timer);
    ph_list_remove(&stream->link);
    ph_list_append(&session->streams, &stream->link);
    ph_count(wt->stats, streams);
    wt->sink.on_stream(wt->sink.self, session, stream);
}

void ph_wt_stream_deliver(struct ph_wt_stream *stream, const uint8_t *data, size_t n, bool fin)
{
    const struct ph_wt_sink *sink = &stream->conn->wt->sink;
    if (stream->phase != WT_ACTIVE || stream->recv_over)
        return;
    stream->recv_over = fin;
    sink->on_data(sink->self, stream, data, n, fin);
}

void ph_wt_stream_deliver_reset(struct ph_wt_stream *stream, uint64_t code)
{
    const struct ph_wt_sink *sink = &stream->conn->wt->sink;
    uint32_t app = 0;
    stream->unread = 0; /* quic returned it */
    if (stream->phase != WT_ACTIVE || stream->recv_over)
        return;
    stream->recv_over = true;
    bool has_code = ph_wt_code_from_http3(code, &app);
    sink->on_reset(sink->self, stream, has_code, app);
}

void ph_wt_stream_deliver_stop(struct ph_wt_stream *stream, uint64_t code)
{
    const struct ph_wt_sink *sink = &stream->conn->wt->sink;
    uint32_t app = 0;
    bool was_reset = stream->send_reset;
    if (stream->phase != WT_ACTIVE)
        return;
    stream->send_over = true;
    stream->send_stopped = true;
    report_acked(stream, stream->unacked);
    if (was_reset || stream->phase != WT_ACTIVE)
        return;
    bool has_code = ph_wt_code_from_http3(code, &app);
    sink->on_stop(sink->self, stream, has_code, app);
}

/* The owner's last event. What it still holds of a stream that the peer opened comes back through
 * the session. */
void ph_wt_stream_deliver_closed(struct ph_wt_stream *stream)
{
    const struct ph_wt_sink *sink = &stream->conn->wt->sink;
    struct ph_wt_session *session = stream->session;
    stream->quic = NULL;
    report_acked(stream, stream->unacked);
    if (stream->phase != WT_ACTIVE)
        return; /* ended inside that event */
    session->unread_closed += stream->unread;
    if (!stream->is_local)
        session->undone[stream->bidi]++;
    stream_die(stream);
    sink->on_stream_closed(sink->self, stream);
}

static void end_stream(struct ph_wt_stream *stream)
{
    const struct ph_wt_sink *sink = &stream->conn->wt->sink;
    if (stream->phase == WT_WAITING) {
        ph_list_remove(&stream->wait);
        stream_die(stream);
    } else if (stream->quic != NULL) {
        stream_stray(stream, PH_WT_SESSION_GONE);
    } else { /* QUIC closed it; its last event is being delivered up the stack */
        ph_quic_conn_consume(stream->conn->quic, stream->unread);
        stream_die_unseen(stream);
    }
    report_acked(stream, stream->unacked);
    sink->on_stream_closed(sink->self, stream);
}

void ph_wt_session_end_streams(struct ph_wt_session *session)
{
    while (!ph_list_is_empty(&session->streams))
        end_stream(PH_CONTAINER(session->streams.next, struct ph_wt_stream, link));
}

/* --- From the peer --- */

struct ph_h3_claim *ph_wt_on_stream(void *self, struct ph_h3_conn *h3, struct ph_quic_stream *quic,
                                    uint64_t type)
{
    struct ph_wt *wt = self;
    struct wt_conn *conn = ph_h3_conn_ext(h3);
    if (conn == NULL)
        return NULL;
    struct ph_wt_stream *stream = stream_new(conn, type == PH_WT_SIGNAL_BIDI, false);
    stream->quic = quic;
    stream->id = ph_quic_stream_id(quic);
    stream->phase = WT_HEADER;
    conn->headless++;
    ph_quic_stream_hold_credit(quic);
    ph_list_append(&conn->strays, &stream->link);
    ph_wt_timer_set(&stream->timer, &wt->held, ph_wt_conn_now(conn) + wt->config.pending_timeout);
    return &stream->claim;
}

static void take_stop(struct ph_wt_stream *stream, uint64_t code)
{
    switch (stream->phase) {
    case WT_HEADER: /* until it is known whose stream it is */
        stream->early_stop = true;
        stream->peer_stop_code = code;
        break;
    case WT_PENDING:
        stream->held->stop = true;
        stream->held->stop_code = code;
        break;
    case WT_ACTIVE:
        ph_wt_stream_deliver_stop(stream, code);
        break;
    case WT_STRAY:
    case WT_WAITING:
    case WT_DEAD:
        break;
    }
}

/* The header is complete. */
static void associate(struct ph_wt_stream *stream, uint64_t session_id)
{
    struct wt_conn *conn = stream->conn;
    struct ph_wt_session *session = ph_wt_conn_session(conn, session_id);
    stream->session_id = session_id;
    if (ph_quic_conn_is_server(conn->quic) && !ph_quic_conn_peer_may_open(conn->quic, session_id)) {
        /* Never wait for an id that cannot exist (as RFC 9297 2.1 has it for datagrams). */
        ph_h3_conn_error(conn->h3, PH_H3_ID_ERROR, "session id beyond the stream limit");
        return;
    }
    if (session == NULL && ph_wt_conn_is_gone(conn, session_id)) {
        ph_wt_stream_refuse(stream, PH_WT_SESSION_GONE);
        return;
    }
    if (session != NULL && (session->state == WT_CLOSING || session->state == WT_OVER)) {
        ph_wt_stream_refuse(stream, PH_WT_SESSION_GONE);
        return;
    }
    if (session == NULL && ph_wt_conn_is_foreign(conn, session_id)) {
        ph_wt_stream_refuse(stream, PH_WT_BUFFERED_STREAM_REJECTED);
        return;
    }
    if (session != NULL && session->state == WT_OPEN) {
        conn->headless--;
        ph_wt_stream_show(stream, session);
    } else {
        ph_wt_pending_add(stream);
    }
    if (stream->early_stop)
        take_stop(stream, stream->peer_stop_code);
}

/* Takes header bytes from [*data, *data + *n). false: nothing is left to deliver. */
static bool read_header(struct ph_wt_stream *stream, const uint8_t **data, size_t *n, bool fin)
{
    struct wt_conn *conn = stream->conn;
    const uint8_t *p = *data;
    uint64_t session_id = 0;
    int rc = ph_wt_stream_header_feed(&stream->header, &p, *data + *n, &session_id);
    size_t used = (size_t)(p - *data);
    ph_quic_stream_consume(stream->quic, used);
    *data = p;
    *n -= used;
    if (rc < 0) {
        ph_h3_conn_error(conn->h3, PH_H3_ID_ERROR, "session id of no request");
        return false;
    }
    if (rc == 0) {
        bool is_full = conn->headless > conn->wt->config.pending_streams;
        if (is_full)
            ph_count(conn->wt->stats, limit_pending_streams);
        if (fin || is_full) /* FIN inside the header: nobody's stream */
            ph_wt_stream_refuse(stream, PH_WT_BUFFERED_STREAM_REJECTED);
        return false;
    }
    associate(stream, session_id);
    return true;
}

static struct ph_wt_stream *of_claim(struct ph_h3_claim *claim)
{
    return PH_CONTAINER(claim, struct ph_wt_stream, claim);
}

static void on_data(struct ph_h3_claim *claim, const uint8_t *data, size_t n, bool fin)
{
    struct ph_wt_stream *stream = of_claim(claim);
    if (stream->phase == WT_HEADER && !read_header(stream, &data, &n, fin))
        return;
    if (n == 0 && !fin)
        return;
    switch (stream->phase) {
    case WT_ACTIVE:
        stream->unread += n;
        ph_wt_stream_deliver(stream, data, n, fin);
        break;
    case WT_PENDING:
        stream->unread += n;
        ph_wt_pending_data(stream, data, n, fin);
        break;
    case WT_STRAY:
        ph_quic_stream_consume(stream->quic, n);
        break;
    case WT_HEADER:
    case WT_WAITING:
    case WT_DEAD:
        break;
    }
}

static void on_reset(struct ph_h3_claim *claim, uint64_t code, uint64_t final_size)
{
    struct ph_wt_stream *stream = of_claim(claim);
    (void)final_size; /* would count against WT_MAX_DATA, which is not negotiated */
    switch (stream->phase) {
    case WT_HEADER: /* nobody's stream: silently */
        ph_wt_stream_refuse(stream, PH_WT_BUFFERED_STREAM_REJECTED);
        break;
    case WT_PENDING:
        ph_wt_pending_reset(stream, code);
        break;
    case WT_ACTIVE:
        ph_wt_stream_deliver_reset(stream, code);
        break;
    case WT_STRAY:
    case WT_WAITING:
    case WT_DEAD:
        break;
    }
}

static void on_stop(struct ph_h3_claim *claim, uint64_t code)
{
    take_stop(of_claim(claim), code);
}

static void on_acked(struct ph_h3_claim *claim, size_t n)
{
    struct ph_wt_stream *stream = of_claim(claim);
    size_t header = PH_MIN(n, stream->header_unacked);
    stream->header_unacked = (uint8_t)(stream->header_unacked - header);
    if (stream->phase == WT_ACTIVE)
        report_acked(stream, n - header);
}

static void on_closed(struct ph_h3_claim *claim)
{
    struct ph_wt_stream *stream = of_claim(claim);
    switch (stream->phase) {
    case WT_PENDING: /* whole; waits for its session without QUIC */
        stream->quic = NULL;
        break;
    case WT_ACTIVE:
        ph_wt_stream_deliver_closed(stream);
        break;
    case WT_HEADER:
        stream->conn->headless--;
        stream_die_unseen(stream);
        break;
    case WT_STRAY:
        stream_die_unseen(stream);
        break;
    case WT_WAITING:
    case WT_DEAD:
        break;
    }
}

static const struct ph_h3_claim_ops claim_ops = {.on_data = on_data,
                                                 .on_reset = on_reset,
                                                 .on_stop = on_stop,
                                                 .on_acked = on_acked,
                                                 .on_closed = on_closed};

/* --- Opening --- */

/* The stream has its id: header, then what the owner said meanwhile. */
static void stream_opened(struct ph_wt_stream *stream, struct ph_quic_stream *quic)
{
    struct ph_wt *wt = stream->conn->wt;
    uint8_t header[PH_WT_STREAM_HEADER_MAX];
    size_t n = ph_wt_stream_header_put(header, stream->bidi, stream->session_id);
    ph_list_remove(&stream->wait);
    stream->phase = WT_ACTIVE;
    stream->quic = quic;
    stream->id = ph_quic_stream_id(quic);
    ph_h3_claim_stream(stream->conn->h3, quic, &stream->claim);
    ph_quic_stream_set_urgency(quic, stream->urgency);
    stream->header_unacked = (uint8_t)n;
    ph_quic_stream_write_copy(quic, header, n);
    ph_quic_stream_set_reliable(quic, n);
    for (size_t i = 0; i < stream->early_count; i++)
        ph_quic_stream_write(quic, stream->early[i]); /* takes the reference */
    stream->early_count = 0;
    if (stream->fin_queued)
        ph_quic_stream_fin(quic);
    if (stream->send_reset)
        ph_quic_stream_reset(quic, ph_wt_code_to_http3(stream->reset_code));
    if (stream->stop_wanted)
        ph_quic_stream_stop(quic, ph_wt_code_to_http3(stream->stop_code));
    ph_count(wt->stats, streams);
    if (wt->sink.on_opened != NULL)
        wt->sink.on_opened(wt->sink.self, stream);
}

/* First come, first served, over all sessions of the connection. */
static void open_waiting(struct wt_conn *conn, bool bidi)
{
    struct ph_quic_stream *quic;
    while (!ph_list_is_empty(&conn->waiting[bidi])) {
        if (ph_quic_conn_open_stream(conn->quic, bidi, &quic) != 0)
            return;
        stream_opened(PH_CONTAINER(conn->waiting[bidi].next, struct ph_wt_stream, wait), quic);
    }
}

void ph_wt_on_streams_available(void *self, struct ph_h3_conn *h3, bool bidi)
{
    struct wt_conn *conn = ph_h3_conn_ext(h3);
    (void)self;
    if (conn != NULL)
        open_waiting(conn, bidi);
}

struct ph_wt_stream *ph_wt_session_open(struct ph_wt_session *session, bool bidi, void *user)
{
    struct wt_conn *conn = session->conn;
    if (session->state != WT_OPEN && session->state != WT_CONNECTING)
        return NULL;
    struct ph_wt_stream *stream = stream_new(conn, bidi, true);
    stream->phase = WT_WAITING;
    stream->session = session;
    stream->session_id = session->id;
    stream->user = user;
    ph_list_append(&session->streams, &stream->link);
    ph_list_append(&conn->waiting[bidi], &stream->wait);
    open_waiting(conn, bidi);
    /* The owner may have ended the session inside on_opened. */
    return stream->phase == WT_WAITING || stream->phase == WT_ACTIVE ? stream : NULL;
}

/* --- The owner's side --- */

void ph_wt_stream_set_user(struct ph_wt_stream *stream, void *user)
{
    stream->user = user;
}

void *ph_wt_stream_user(const struct ph_wt_stream *stream)
{
    return stream->user;
}

uint64_t ph_wt_stream_id(const struct ph_wt_stream *stream)
{
    return stream->id;
}

struct ph_wt_session *ph_wt_stream_session(const struct ph_wt_stream *stream)
{
    return stream->session;
}

/* Bytes for a stream that the peer stopped: gone at once. */
static int swallow(struct ph_wt_stream *stream, size_t n)
{
    ph_count_add(stream->conn->wt->stats, writes_discarded, n);
    stream->unacked += n;
    report_acked(stream, n);
    return 0;
}

int ph_wt_stream_write(struct ph_wt_stream *stream, struct ph_slice slice, bool fin)
{
    size_t n = slice.n;
    if (stream->send_over) {
        bool is_stopped = stream->send_stopped && !stream->fin_queued && !stream->send_reset;
        drop_slice(slice);
        if (!is_stopped)
            return PH_E_STATE;
        stream->fin_queued = fin;
        return swallow(stream, n);
    }
    stream->fin_queued = stream->send_over = fin;
    if (stream->phase == WT_WAITING) {
        stream->unacked += n;
        early_push(stream, slice);
        return 0;
    }
    if (stream->quic == NULL) { /* stopped before its session opened; on_stop follows */
        drop_slice(slice);
        return swallow(stream, n);
    }
    if (n == 0)
        drop_slice(slice);
    else if (ph_quic_stream_write(stream->quic, slice) != 0)
        return swallow(stream, n); /* stopped; on_stop is on its way */
    stream->unacked += n;
    if (fin)
        ph_quic_stream_fin(stream->quic);
    return 0;
}

void ph_wt_stream_consume(struct ph_wt_stream *stream, size_t n)
{
    size_t k = PH_MIN(n, stream->unread);
    stream->unread -= k;
    if (stream->quic != NULL)
        ph_quic_stream_consume(stream->quic, k);
    else
        ph_quic_conn_consume(stream->conn->quic, k); /* it was whole before its session opened */
}

/* A stream without an id that nobody wants any more: it ends here, and costs the peer nothing. */
static bool end_unwanted(struct ph_wt_stream *stream)
{
    bool wants_peer = stream->bidi && !stream->recv_over;
    if (stream->phase != WT_WAITING || !stream->send_reset || wants_peer)
        return false;
    end_stream(stream);
    return true;
}

void ph_wt_stream_reset(struct ph_wt_stream *stream, uint32_t code)
{
    if (stream->send_reset || stream->send_stopped || (!stream->bidi && !stream->is_local))
        return;
    stream->send_over = true;
    stream->send_reset = true;
    stream->reset_code = code;
    stream->fin_queued = false;
    if (end_unwanted(stream))
        return;
    if (stream->phase == WT_WAITING)
        early_drop(stream);
    else if (stream->quic != NULL)
        ph_quic_stream_reset(stream->quic, ph_wt_code_to_http3(code));
    report_acked(stream, stream->unacked);
}

void ph_wt_stream_stop(struct ph_wt_stream *stream, uint32_t code)
{
    if (!stream->bidi && stream->is_local)
        return;
    if (!stream->recv_over) {
        stream->stop_code = code;
        stream->stop_wanted = true;
        if (stream->quic != NULL)
            ph_quic_stream_stop(stream->quic, ph_wt_code_to_http3(code));
    }
    stream->recv_over = true;
    if (!end_unwanted(stream))
        ph_wt_stream_consume(stream, stream->unread);
}

void ph_wt_stream_set_urgency(struct ph_wt_stream *stream, unsigned urgency)
{
    stream->urgency = (uint8_t)PH_MIN(urgency, 7);
    if (stream->quic != NULL)
        ph_quic_stream_set_urgency(stream->quic, stream->urgency);
}
