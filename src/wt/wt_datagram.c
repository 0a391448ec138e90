/*
 * wt_datagram.c - datagrams of sessions (RFC 9297; draft-16 section 4.5).
 *
 * In: QUIC DATAGRAM -> h3 takes the quarter stream id off -> here by session: delivered, held for a
 * session that is not open yet (bounded in number, bytes and time, and never fatal), or dropped.
 * A DATAGRAM capsule arrives at the same place.
 * Out: one queue per session, which drops its oldest and which quic serves in turn; the quarter
 * stream id is the queue's prefix.
 */
#include "wt_internal.h"

/* --- In --- */

void ph_wt_datagram_deliver(struct ph_wt_session *session, const uint8_t *data, size_t n)
{
    struct ph_wt *wt = session->conn->wt;
    ph_count(wt->stats, datagrams_in);
    if (wt->sink.on_datagram != NULL)
        wt->sink.on_datagram(wt->sink.self, session, data, n);
}

void ph_wt_on_datagram(void *self, struct ph_h3_conn *h3, uint64_t stream_id, const uint8_t *data,
                       size_t n)
{
    struct wt_conn *conn = ph_h3_conn_ext(h3);
    (void)self;
    if (conn == NULL)
        return;
    struct ph_wt_session *session = ph_wt_conn_session(conn, stream_id);
    if (session == NULL) {
        if (!ph_wt_conn_is_gone(conn, stream_id) && !ph_wt_conn_is_foreign(conn, stream_id))
            ph_wt_pending_datagram(conn, stream_id, data, n);
        return;
    }
    switch (session->state) {
    case WT_OPEN:
        ph_wt_datagram_deliver(session, data, n);
        break;
    case WT_ASKED:
    case WT_CONNECTING:
        ph_wt_pending_datagram(conn, stream_id, data, n);
        break;
    case WT_CLOSING:
    case WT_OVER:
        break; /* draft-16 section 5: silently */
    }
}

/* --- Out --- */

static void on_left(struct ph_quic_dgramq *q, size_t n)
{
    struct ph_wt_session *session = PH_CONTAINER(q, struct ph_wt_session, dgramq);
    const struct ph_wt_sink *sink = &session->conn->wt->sink;
    if (sink->on_datagrams_left != NULL)
        sink->on_datagrams_left(sink->self, session, n);
}

void ph_wt_datagrams_open(struct ph_wt_session *session)
{
    const struct ph_wt_config *config = &session->conn->wt->config;
    uint8_t prefix[8];
    size_t n = (size_t)(ph_varint_put(prefix, session->id / 4) - prefix);
    ph_quic_dgramq_init(&session->dgramq, session->conn->quic, prefix, n, config->datagrams_out,
                        config->datagram_bytes_out);
    session->dgramq.on_left = on_left;
    session->has_dgramq = true;
}

void ph_wt_datagrams_close(struct ph_wt_session *session)
{
    if (!session->has_dgramq)
        return;
    session->has_dgramq = false;
    session->dgramq.on_left = NULL;
    ph_quic_dgramq_fini(&session->dgramq);
}

bool ph_wt_session_has_datagrams(const struct ph_wt_session *session)
{
    return ph_wt_session_max_datagram(session) > 0;
}

size_t ph_wt_session_max_datagram(const struct ph_wt_session *session)
{
    if (session->state == WT_OVER || session->conn->quic == NULL)
        return 0;
    size_t max = ph_quic_conn_max_datagram(session->conn->quic);
    size_t prefix = ph_varint_len(session->id / 4);
    return max > prefix ? max - prefix : 0;
}

int ph_wt_session_datagram(struct ph_wt_session *session, struct ph_buf *buf, uint64_t expires)
{
    int rc = 0;
    if (session->state == WT_CLOSING || session->state == WT_OVER)
        rc = PH_E_CLOSED;
    else if (!session->has_dgramq || !ph_wt_session_has_datagrams(session))
        rc = PH_E_STATE;
    else if (ph_buf_len(buf) > ph_wt_session_max_datagram(session))
        rc = PH_E_TOOBIG;
    if (rc == PH_E_TOOBIG)
        ph_count(session->conn->wt->stats, datagrams_out_toobig);
    if (rc != 0) {
        ph_buf_unref(buf);
        return rc;
    }
    ph_quic_dgramq_push(&session->dgramq, buf, expires);
    return 0;
}
