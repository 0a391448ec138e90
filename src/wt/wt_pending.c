/*
 * wt_pending.c - streams that came before their session was known or answered (draft-16 section
 * 4.6), the place where a peer could make us hold memory for nothing.
 *
 * Bounded per connection in number and bytes, and in time while the session is unknown (an answer
 * has its own timeout). The bytes hold their flow-control credit. What does not fit is refused with
 * WT_BUFFERED_STREAM_REJECTED; the connection and its other sessions go on. A stream may be
 * finished or reset while it waits; QUIC may even be through with it (quic == NULL): what happened
 * is replayed in order once the session opens.
 */
#include "wt_internal.h"

void ph_wt_pending_add(struct ph_wt_stream *stream, bool is_known)
{
    struct wt_conn *conn = stream->conn;
    struct ph_wt *wt = conn->wt;
    stream->phase = WT_PENDING;
    stream->held = ph_alloc(sizeof *stream->held);
    ph_list_remove(&stream->link);
    ph_list_append(&conn->pending, &stream->link);
    conn->pending_streams++;
    if (is_known) /* otherwise its timer has run since the first byte */
        ph_wt_timer_stop(&stream->timer);
    if (conn->pending_streams > wt->config.pending_streams) {
        ph_count(wt->stats, limit_pending_streams);
        ph_wt_stream_refuse(stream, PH_WT_BUFFERED_STREAM_REJECTED);
    }
}

void ph_wt_pending_remove(struct ph_wt_stream *stream)
{
    struct wt_conn *conn = stream->conn;
    conn->pending_streams--;
    conn->pending_bytes -= stream->held->len;
    ph_list_remove(&stream->link);
    ph_free(stream->held->data);
    ph_free(stream->held);
    stream->held = NULL;
}

void ph_wt_pending_data(struct ph_wt_stream *stream, const uint8_t *data, size_t n, bool fin)
{
    struct wt_conn *conn = stream->conn;
    struct wt_held *held = stream->held;
    size_t room = conn->wt->config.pending_bytes - conn->pending_bytes;
    if (n > room) {
        ph_count(conn->wt->stats, limit_pending_streams);
        ph_wt_stream_refuse(stream, PH_WT_BUFFERED_STREAM_REJECTED);
        return;
    }
    if (held->len + n > held->cap) {
        held->cap = PH_MAX(2 * held->cap, held->len + n);
        held->data = ph_realloc(held->data, held->cap);
    }
    if (n > 0)
        ph_copy(conn->wt->stats, held->data + held->len, data, n);
    held->len += n;
    held->fin = fin;
    conn->pending_bytes += n;
}

void ph_wt_pending_reset(struct ph_wt_stream *stream, uint64_t code)
{
    stream->conn->pending_bytes -= stream->held->len;
    stream->held->len = 0;
    stream->held->reset = true;
    stream->held->reset_code = code;
    stream->unread = 0; /* quic returned it */
}

static struct ph_wt_stream *pending_of(const struct wt_conn *conn, uint64_t session_id)
{
    for (struct ph_link *link = conn->pending.next; link != &conn->pending; link = link->next) {
        struct ph_wt_stream *stream = PH_CONTAINER(link, struct ph_wt_stream, link);
        if (stream->session_id == session_id)
            return stream;
    }
    return NULL;
}

void ph_wt_pending_session_known(struct wt_conn *conn, uint64_t session_id)
{
    for (struct ph_link *link = conn->pending.next; link != &conn->pending; link = link->next) {
        struct ph_wt_stream *stream = PH_CONTAINER(link, struct ph_wt_stream, link);
        if (stream->session_id == session_id)
            ph_wt_timer_stop(&stream->timer);
    }
}

void ph_wt_pending_refuse(struct wt_conn *conn, uint64_t session_id, uint64_t http3_code)
{
    struct ph_wt_stream *stream;
    while ((stream = pending_of(conn, session_id)) != NULL)
        ph_wt_stream_refuse(stream, http3_code);
}

/* Shows one stream and replays what it held. The owner may end the stream or the session inside
 * any of these events; the deliver functions then do nothing. */
static void replay(struct ph_wt_stream *stream, struct ph_wt_session *session)
{
    struct wt_held held = *stream->held;
    stream->held->data = NULL; /* ours now */
    ph_wt_pending_remove(stream);
    ph_wt_stream_show(stream, session);
    if (held.len > 0 || held.fin)
        ph_wt_stream_deliver(stream, held.data, held.len, held.fin);
    if (held.reset)
        ph_wt_stream_deliver_reset(stream, held.reset_code);
    if (held.stop)
        ph_wt_stream_deliver_stop(stream, held.stop_code);
    if (stream->quic == NULL && stream->phase == WT_ACTIVE)
        ph_wt_stream_deliver_closed(stream);
    ph_free(held.data);
}

void ph_wt_pending_release(struct ph_wt_session *session)
{
    struct ph_wt_stream *stream;
    while (session->state == WT_OPEN && (stream = pending_of(session->conn, session->id)) != NULL)
        replay(stream, session);
}
