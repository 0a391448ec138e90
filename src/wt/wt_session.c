/*
 * wt_session.c - one session from open to gone: capsules, close, drain, and the one place where a
 * session ends (draft-16 sections 5 and 6).
 *
 *      OPEN --close()--> CLOSING --capsule, FIN, reset or timeout--> OVER
 *      any  --capsule, FIN, reset, breach, reset()-----------------> OVER --request closed--> freed
 *
 * Invariants: ph_wt_session_finish() delivers the last event and does so once; before it every
 * stream has had its own. Nothing of the peer's CONNECT stream is kept: its credit returns at once
 * (before the answer it is held together with the bytes).
 */
#include "wt_internal.h"

struct ph_wt_session *ph_wt_session_new(struct wt_conn *conn, struct ph_h3_request *request)
{
    struct ph_wt_session *session = ph_alloc(sizeof *session);
    session->conn = conn;
    session->request = request;
    session->id = ph_h3_request_id(request);
    session->path = *ph_quic_conn_path(conn->quic);
    ph_list_init(&session->streams);
    ph_list_append(&conn->sessions, &session->link);
    ph_h3_request_set_user(request, session);
    ph_h3_conn_hold(conn->h3, 1);
    ph_live_add(PH_LIVE_WT_SESSION, 1);
    return session;
}

void ph_wt_session_bury(struct ph_wt_session *session)
{
    ph_capsule_reader_fini(&session->capsules);
    ph_wt_protocols_free(session->offered, session->offered_len);
    ph_free(session->early);
    ph_free((void *)(uintptr_t)session->end.reason);
    ph_free(session);
    ph_live_add(PH_LIVE_WT_SESSION, -1);
}

void ph_wt_session_detach(struct ph_wt_session *session)
{
    struct wt_conn *conn = session->conn;
    struct ph_wt_end end = {0};
    ph_wt_session_finish(session, &end);
    session->request = NULL;
    ph_wt_timer_stop(&session->timer);
    ph_list_remove(&session->link);
    ph_list_append(&conn->wt->dead_sessions, &session->link);
    ph_h3_conn_hold(conn->h3, -1);
}

/* --- The end --- */

/* Credit that the owner has not returned and, with its last event, never will. */
static void return_credit(struct ph_wt_session *session)
{
    struct ph_quic_conn *quic = session->conn->quic;
    ph_quic_conn_consume(quic, session->unread_closed);
    ph_quic_conn_extend_streams(quic, false, session->undone[0]);
    ph_quic_conn_extend_streams(quic, true, session->undone[1]);
    session->unread_closed = session->undone[0] = session->undone[1] = 0;
    if (session->early_len > 0 && session->request != NULL)
        ph_h3_request_consume(session->request, session->early_len);
    session->early_len = 0;
}

/* Streams, held things and datagrams of a session that takes no more part. */
static void stop_traffic(struct ph_wt_session *session)
{
    struct wt_conn *conn = session->conn;
    ph_wt_conn_forget(conn, session->id);
    ph_wt_session_end_streams(session);
    ph_wt_pending_refuse(conn, session->id, PH_WT_SESSION_GONE);
    ph_wt_datagrams_close(session);
}

void ph_wt_session_finish(struct ph_wt_session *session, const struct ph_wt_end *end)
{
    struct ph_wt *wt = session->conn->wt;
    if (session->state == WT_OVER)
        return;
    session->state = WT_OVER;
    stop_traffic(session);
    return_credit(session);
    /* The peer still owes the end of its side of the CONNECT stream. */
    ph_wt_timer_set(&session->timer, &wt->closing,
                    ph_wt_conn_now(session->conn) + wt->config.close_timeout);
    ph_log(PH_LOG_DEBUG, "session: over id=%llu clean=%d local=%d code=%lu",
           (unsigned long long)session->id, end->clean, end->local, (unsigned long)end->code);
    wt->sink.on_session_closed(wt->sink.self, session, end);
}

/* The request is torn down in both directions; the session ends without close information, or with
 * ours if a close was under way. */
static void abort_session(struct ph_wt_session *session, uint64_t http3_code)
{
    struct ph_wt_end end = {0};
    bool is_closing = session->state == WT_CLOSING;
    if (session->request != NULL)
        ph_h3_request_reset(session->request, http3_code);
    ph_wt_session_finish(session, is_closing ? &session->end : &end);
}

static void breach(struct ph_wt_session *session, uint64_t http3_code)
{
    ph_count(session->conn->wt->stats, protocol_errors);
    abort_session(session, http3_code);
}

/* The peer ended its side, with or without a capsule: end ours. */
static void closed_by_peer(struct ph_wt_session *session, uint32_t code, const uint8_t *reason,
                           size_t reason_len)
{
    struct ph_wt_end end = {
        .clean = true, .code = code, .reason = (const char *)reason, .reason_len = reason_len};
    session->peer_done = true;
    if (session->state == WT_CLOSING) { /* both at once: ours came first here */
        ph_wt_session_finish(session, &session->end);
        return;
    }
    ph_h3_request_data(session->request, NULL, 0, true);
    ph_wt_session_finish(session, &end);
}

int ph_wt_session_close(struct ph_wt_session *session, uint32_t code, const char *reason,
                        size_t reason_len)
{
    uint8_t capsule[PH_WT_REASON_MAX + 16];
    switch (session->state) {
    case WT_ASKED:
        return PH_E_STATE;
    case WT_CLOSING:
    case WT_OVER:
        return 0;
    case WT_CONNECTING:
        ph_wt_session_reset(session, PH_H3_REQUEST_CANCELLED);
        return 0;
    case WT_OPEN:
        break;
    }
    if (!ph_utf8_is_valid((const uint8_t *)reason, reason_len))
        return PH_E_INVAL;
    reason_len = ph_utf8_cut((const uint8_t *)reason, reason_len, PH_WT_REASON_MAX);
    session->end =
        (struct ph_wt_end){.clean = true,
                           .local = true,
                           .code = code,
                           .reason = ph_strndup(reason_len > 0 ? reason : "", reason_len),
                           .reason_len = reason_len};
    session->state = WT_CLOSING;
    size_t n = ph_capsule_close_put(capsule, code, reason, reason_len);
    ph_h3_request_data(session->request, capsule, n, true);
    ph_wt_timer_set(&session->timer, &session->conn->wt->closing,
                    ph_wt_conn_now(session->conn) + session->conn->wt->config.close_timeout);
    stop_traffic(session);
    return 0;
}

void ph_wt_session_reset(struct ph_wt_session *session, uint64_t http3_code)
{
    struct ph_wt_end end = {.local = true};
    if (session->state == WT_OVER)
        return;
    if (session->request != NULL)
        ph_h3_request_reset(session->request, http3_code);
    ph_wt_session_finish(session, &end);
}

/* accept_timeout or close_timeout. */
void ph_wt_session_expired(struct ph_wt_session *session)
{
    if (session->state == WT_ASKED)
        ph_wt_connect_expired(session);
    else
        abort_session(session, PH_WT_SESSION_GONE);
}

/* --- Drain --- */

int ph_wt_session_drain(struct ph_wt_session *session)
{
    uint8_t capsule[8];
    if (session->state == WT_CLOSING || session->state == WT_OVER)
        return PH_E_CLOSED;
    if (session->state != WT_OPEN)
        return PH_E_STATE;
    if (session->drain_sent)
        return 0;
    session->drain_sent = true;
    return ph_h3_request_data(session->request, capsule, ph_capsule_drain_put(capsule), false);
}

void ph_wt_session_drain_local(struct ph_wt_session *session)
{
    const struct ph_wt_sink *sink = &session->conn->wt->sink;
    /* The peer closed it and may be gone: nobody waits until it has acknowledged our end. */
    if (session->state == WT_OVER && session->peer_done && session->request != NULL)
        ph_h3_request_reset(session->request, PH_H3_NO_ERROR);
    if (session->state != WT_OPEN)
        return;
    ph_wt_session_drain(session);
    if (sink->on_drain != NULL)
        sink->on_drain(sink->self, session, true);
}

void ph_wt_session_drain_event(struct ph_wt_session *session)
{
    const struct ph_wt_sink *sink = &session->conn->wt->sink;
    if (session->state != WT_OPEN || session->drain_told)
        return;
    session->drain_told = true;
    if (sink->on_drain != NULL)
        sink->on_drain(sink->self, session, false);
}

/* --- Capsules --- */

static void capsule_arrived(struct ph_wt_session *session)
{
    const struct ph_capsule_reader *capsule = &session->capsules;
    switch (capsule->type) {
    case PH_CAPSULE_WT_CLOSE_SESSION:
        if (!ph_utf8_is_valid(capsule->value + 4, capsule->value_len - 4)) {
            breach(session, PH_H3_MESSAGE_ERROR);
            return;
        }
        closed_by_peer(session, ph_u32_get(capsule->value), capsule->value + 4,
                       capsule->value_len - 4);
        return;
    case PH_CAPSULE_WT_DRAIN_SESSION:
        ph_wt_session_drain_event(session);
        return;
    case PH_CAPSULE_DATAGRAM:
        if (session->state == WT_OPEN)
            ph_wt_datagram_deliver(session, capsule->value, capsule->value_len);
        return;
    }
}

/* DATA payload of an answered session. */
static void read_capsules(struct ph_wt_session *session, const uint8_t *data, size_t n)
{
    const uint8_t *p = data, *end = data + n;
    uint64_t skip_max = session->conn->wt->config.capsule_skip_max;
    while (p < end) {
        if (session->peer_done) { /* draft-16 section 6: nothing may follow the close capsule */
            breach(session, PH_H3_MESSAGE_ERROR);
            return;
        }
        if (session->state == WT_OVER)
            return;
        uint64_t unknown = session->capsules.unknown;
        int rc = ph_capsule_next(&session->capsules, &p, end, skip_max);
        if (session->capsules.unknown > unknown) {
            uint64_t tokens = session->capsules.unknown - unknown;
            ph_quic_conn_glitch(session->conn->quic, (unsigned)tokens);
        }
        if (rc == 0)
            return;
        if (rc < 0) {
            breach(session, rc == PH_E_LIMIT ? PH_H3_EXCESSIVE_LOAD : PH_H3_MESSAGE_ERROR);
            return;
        }
        capsule_arrived(session);
    }
}

static void hold_early(struct ph_wt_session *session, const uint8_t *data, size_t n)
{
    if (session->early_len + n > session->early_cap) {
        session->early_cap = PH_MAX(2 * session->early_cap, session->early_len + n);
        session->early = ph_realloc(session->early, session->early_cap);
    }
    memcpy(session->early + session->early_len, data, n);
    session->early_len += n;
}

static void end_of_capsules(struct ph_wt_session *session)
{
    switch (session->state) {
    case WT_ASKED:
        session->early_end = true;
        break;
    case WT_CONNECTING:
        breach(session, PH_H3_MESSAGE_ERROR);
        break;
    case WT_OPEN:
        if (ph_capsule_is_between(&session->capsules))
            closed_by_peer(session, 0, NULL, 0); /* draft-16 section 6: as close(0, "") */
        else
            breach(session, PH_H3_MESSAGE_ERROR); /* RFC 9297 section 3.3 */
        break;
    case WT_CLOSING:
        closed_by_peer(session, 0, NULL, 0);
        break;
    case WT_OVER:
        session->peer_done = true;
        break;
    }
}

void ph_wt_session_release(struct ph_wt_session *session)
{
    ph_wt_pending_release(session);
    uint8_t *early = session->early;
    size_t n = session->early_len;
    session->early = NULL;
    session->early_len = session->early_cap = 0;
    if (n > 0) {
        ph_h3_request_consume(session->request, n);
        read_capsules(session, early, n);
    }
    ph_free(early);
    if (session->early_end) {
        session->early_end = false;
        end_of_capsules(session);
    }
}

/* --- Events of the CONNECT stream --- */

void ph_wt_on_request_data(void *self, struct ph_h3_request *request, const uint8_t *data, size_t n)
{
    struct ph_wt_session *session = ph_h3_request_user(request);
    (void)self;
    if (session != NULL && session->state == WT_ASKED) {
        hold_early(session, data, n);
        return;
    }
    ph_h3_request_consume(request, n);
    if (session != NULL)
        read_capsules(session, data, n);
}

void ph_wt_on_request_end(void *self, struct ph_h3_request *request)
{
    struct ph_wt_session *session = ph_h3_request_user(request);
    (void)self;
    if (session != NULL)
        end_of_capsules(session);
}

void ph_wt_on_request_stop(void *self, struct ph_h3_request *request, uint64_t code)
{
    struct ph_wt_session *session = ph_h3_request_user(request);
    struct ph_wt *wt = self;
    if (session == NULL)
        return;
    switch (session->state) {
    case WT_OPEN:
        /* Draft-16 section 6: may accompany a close capsule, which need not come first. */
        if (code == PH_WT_SESSION_GONE && !session->stop_seen) {
            session->stop_seen = true;
            ph_wt_timer_set(&session->timer, &wt->closing,
                            ph_wt_conn_now(session->conn) + wt->config.close_timeout);
            return;
        }
        abort_session(session, PH_WT_SESSION_GONE);
        break;
    case WT_ASKED:
    case WT_CONNECTING:
        abort_session(session, PH_WT_SESSION_GONE);
        break;
    case WT_CLOSING: /* its FIN or reset is what we wait for */
    case WT_OVER:
        break;
    }
}

void ph_wt_on_request_closed(void *self, struct ph_h3_request *request, uint64_t code,
                             bool by_reset)
{
    struct ph_wt_session *session = ph_h3_request_user(request);
    (void)self;
    (void)code;
    (void)by_reset; /* either way there is no close information, or it was delivered before */
    if (session == NULL)
        return;
    ph_h3_request_set_user(request, NULL);
    session->request = NULL;
    if (session->state == WT_CLOSING)
        ph_wt_session_finish(session, &session->end);
    ph_wt_session_detach(session);
}

/* --- Accessors --- */

void ph_wt_session_set_user(struct ph_wt_session *session, void *user)
{
    session->user = user;
}

void *ph_wt_session_user(const struct ph_wt_session *session)
{
    return session->user;
}

uint64_t ph_wt_session_id(const struct ph_wt_session *session)
{
    return session->id;
}

const struct ph_head *ph_wt_session_head(const struct ph_wt_session *session)
{
    return session->request != NULL ? ph_h3_request_head(session->request) : NULL;
}

const struct ph_path *ph_wt_session_path(const struct ph_wt_session *session)
{
    return &session->path;
}

const struct ph_tls_info *ph_wt_session_tls(const struct ph_wt_session *session)
{
    return ph_quic_conn_tls(session->conn->quic);
}

const char *const *ph_wt_session_offered(const struct ph_wt_session *session, size_t *n)
{
    *n = session->offered_len;
    return (const char *const *)session->offered;
}

int ph_wt_session_draft(const struct ph_wt_session *session)
{
    return session->draft;
}

void ph_wt_session_consume(struct ph_wt_session *session, size_t n)
{
    size_t k = PH_MIN(n, session->unread_closed);
    session->unread_closed -= k;
    if (k > 0)
        ph_quic_conn_consume(session->conn->quic, k);
}

void ph_wt_session_stream_done(struct ph_wt_session *session, bool bidi)
{
    if (session->undone[bidi] == 0)
        return;
    session->undone[bidi]--;
    ph_quic_conn_extend_streams(session->conn->quic, bidi, 1);
}
