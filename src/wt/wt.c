/*
 * wt.c - the endpoint side of WebTransport: configuration, the table of hooks for h3, connections,
 * timer queues and the reaper.
 *
 *      h3 events -> hooks (wt_connect, wt_session, wt_stream, wt_datagram) -> ph_wt_sink
 *      ph_wt_expire(): answers that did not come, closes that were not answered, streams held too
 *      long; then frees what died since the last time
 *
 * Invariant: each timer queue holds one delay only, so its head is its earliest entry.
 */
#include "wt_internal.h"

void ph_wt_config_default(struct ph_wt_config *config)
{
    *config = (struct ph_wt_config){
        .max_sessions = 16,
        .session_burst = 64,
        .session_rate = 32,
        .pending_sessions = 16,
        .pending_streams = 16,
        .pending_bytes = 64 * 1024,
        .pending_datagrams = 16,
        .pending_datagram_bytes = 16 * 1024,
        .pending_timeout = 5 * PH_SEC,
        .accept_timeout = 10 * PH_SEC,
        .close_timeout = 2 * PH_SEC, /* some retransmissions of the capsule on a slow path */
        .datagrams_out = 64,
        .datagram_bytes_out = 256 * 1024,
        .capsule_skip_max = 1024 * 1024,
    };
}

/* --- Timers --- */

void ph_wt_timer_set(struct wt_timer *timer, struct ph_link *queue, uint64_t at)
{
    ph_list_remove(&timer->link);
    timer->at = at;
    ph_list_append(queue, &timer->link);
}

void ph_wt_timer_stop(struct wt_timer *timer)
{
    ph_list_remove(&timer->link);
}

static uint64_t queue_next(const struct ph_link *queue)
{
    if (ph_list_is_empty(queue))
        return PH_NEVER;
    return PH_CONTAINER(queue->next, struct wt_timer, link)->at;
}

/* The first entry that is due, taken off; NULL when none is. */
static struct wt_timer *queue_take(struct ph_link *queue, uint64_t now)
{
    if (queue_next(queue) > now)
        return NULL;
    struct wt_timer *timer = PH_CONTAINER(queue->next, struct wt_timer, link);
    ph_list_remove(&timer->link);
    return timer;
}

/* --- Connections --- */

uint64_t ph_wt_conn_now(const struct wt_conn *conn)
{
    return ph_quic_conn_now(conn->quic);
}

struct ph_wt_session *ph_wt_conn_session(const struct wt_conn *conn, uint64_t id)
{
    for (struct ph_link *link = conn->sessions.next; link != &conn->sessions; link = link->next) {
        struct ph_wt_session *session = PH_CONTAINER(link, struct ph_wt_session, link);
        if (session->id == id)
            return session;
    }
    return NULL;
}

void ph_wt_conn_forget(struct wt_conn *conn, uint64_t session_id)
{
    if (ph_wt_conn_is_gone(conn, session_id))
        return;
    conn->gone[conn->gone_next] = session_id + 1;
    conn->gone_next = (conn->gone_next + 1) % WT_GONE_MAX;
}

bool ph_wt_conn_is_gone(const struct wt_conn *conn, uint64_t session_id)
{
    for (unsigned i = 0; i < WT_GONE_MAX; i++) {
        if (conn->gone[i] == session_id + 1)
            return true;
    }
    return false;
}

bool ph_wt_conn_is_foreign(const struct wt_conn *conn, uint64_t id)
{
    if (!ph_quic_conn_is_server(conn->quic) || ph_h3_conn_settings(conn->h3) == NULL)
        return false; /* a CONNECT may be waiting for the peer's SETTINGS */
    const struct ph_h3_request *request = ph_h3_conn_request(conn->h3, id);
    return request != NULL && ph_h3_request_head(request)->method != NULL;
}

static void *on_conn(void *self, struct ph_h3_conn *h3)
{
    struct ph_wt *wt = self;
    struct wt_conn *conn = ph_alloc(sizeof *conn);
    conn->wt = wt;
    conn->h3 = h3;
    conn->quic = ph_h3_conn_quic(h3);
    ph_list_init(&conn->sessions);
    ph_list_init(&conn->strays);
    ph_list_init(&conn->early);
    ph_list_init(&conn->waiting[0]);
    ph_list_init(&conn->waiting[1]);
    ph_bucket_init(&conn->session_budget, wt->config.session_burst, wt->config.session_rate,
                   ph_wt_conn_now(conn));
    ph_list_append(&wt->conns, &conn->link);
    return conn;
}

/* h3 has closed every claim and every request before; what is left is what only we know: streams
 * that were whole before their session was known, and datagrams. */
static void on_conn_closed(void *self, struct ph_h3_conn *h3)
{
    struct ph_wt *wt = self;
    struct wt_conn *conn = ph_h3_conn_ext(h3);
    if (conn == NULL)
        return;
    PH_ASSERT(ph_list_is_empty(&conn->sessions));
    ph_wt_pending_refuse_all(conn, PH_WT_SESSION_GONE);
    PH_ASSERT(ph_list_is_empty(&conn->strays));
    PH_ASSERT(ph_list_is_empty(&conn->waiting[0]) && ph_list_is_empty(&conn->waiting[1]));
    conn->h3 = NULL;
    conn->quic = NULL;
    ph_list_remove(&conn->link);
    ph_list_append(&wt->dead_conns, &conn->link);
}

/* The owner may end any session inside its event, so the list is walked by moving it over. */
static void sessions_for_each(struct wt_conn *conn, void (*act)(struct ph_wt_session *session))
{
    struct ph_link todo, *link;
    ph_list_init(&todo);
    while ((link = ph_list_take(&conn->sessions)) != NULL)
        ph_list_append(&todo, link);
    while ((link = ph_list_take(&todo)) != NULL) {
        ph_list_append(&conn->sessions, link);
        act(PH_CONTAINER(link, struct ph_wt_session, link));
    }
}

static void on_goaway(void *self, struct ph_h3_conn *h3)
{
    struct wt_conn *conn = ph_h3_conn_ext(h3);
    (void)self;
    if (conn == NULL)
        return;
    conn->goaway = true;
    sessions_for_each(conn, ph_wt_session_drain_event);
}

static void on_settings(void *self, struct ph_h3_conn *h3)
{
    (void)self;
    ph_log(PH_LOG_DEBUG, "webtransport: settings draft=%d",
           ph_wt_draft_of(ph_h3_conn_settings(h3)));
}

/* --- Endpoint --- */

struct ph_wt *ph_wt_new(const struct ph_wt_config *config, const struct ph_wt_sink *sink,
                        struct ph_stats *stats)
{
    struct ph_wt *wt = ph_alloc(sizeof *wt);
    wt->config = *config;
    wt->sink = *sink;
    wt->stats = stats;
    ph_list_init(&wt->conns);
    ph_list_init(&wt->asked);
    ph_list_init(&wt->closing);
    ph_list_init(&wt->held);
    ph_list_init(&wt->early_datagrams);
    ph_list_init(&wt->dead_streams);
    ph_list_init(&wt->dead_sessions);
    ph_list_init(&wt->dead_conns);
    return wt;
}

/* Streams before sessions before connections: each points at the next. */
static void reap(struct ph_wt *wt)
{
    struct ph_link *link;
    while ((link = ph_list_take(&wt->dead_streams)) != NULL)
        ph_wt_stream_bury(PH_CONTAINER(link, struct ph_wt_stream, link));
    while ((link = ph_list_take(&wt->dead_sessions)) != NULL)
        ph_wt_session_bury(PH_CONTAINER(link, struct ph_wt_session, link));
    while ((link = ph_list_take(&wt->dead_conns)) != NULL)
        ph_free(PH_CONTAINER(link, struct wt_conn, link));
}

void ph_wt_free(struct ph_wt *wt)
{
    if (wt == NULL)
        return;
    PH_ASSERT(ph_list_is_empty(&wt->conns));
    reap(wt);
    ph_free(wt);
}

void ph_wt_h3_ext(struct ph_wt *wt, struct ph_h3_ext *out)
{
    *out = (struct ph_h3_ext){
        .self = wt,
        .on_conn = on_conn,
        .on_settings = on_settings,
        .on_goaway = on_goaway,
        .on_conn_closed = on_conn_closed,
        .on_streams_available = ph_wt_on_streams_available,
        .on_stream = ph_wt_on_stream,
        .on_connect = ph_wt_on_connect,
        .on_request_data = ph_wt_on_request_data,
        .on_request_end = ph_wt_on_request_end,
        .on_request_stop = ph_wt_on_request_stop,
        .on_request_closed = ph_wt_on_request_closed,
        .on_datagram = ph_wt_on_datagram,
        .on_response = ph_wt_on_response,
    };
}

void ph_wt_drain(struct ph_wt *wt)
{
    wt->draining = true; /* sessions accepted from now on are told at once */
    for (struct ph_link *at = wt->conns.next; at != &wt->conns; at = at->next) {
        struct wt_conn *conn = PH_CONTAINER(at, struct wt_conn, link);
        sessions_for_each(conn, ph_wt_session_drain_local);
    }
}

void ph_wt_expire(struct ph_wt *wt, uint64_t now)
{
    struct wt_timer *timer;
    while ((timer = queue_take(&wt->asked, now)) != NULL)
        ph_wt_session_expired(PH_CONTAINER(timer, struct ph_wt_session, timer));
    while ((timer = queue_take(&wt->closing, now)) != NULL)
        ph_wt_session_expired(PH_CONTAINER(timer, struct ph_wt_session, timer));
    while ((timer = queue_take(&wt->held, now)) != NULL) {
        ph_count(wt->stats, limit_pending_streams);
        ph_wt_stream_refuse(PH_CONTAINER(timer, struct ph_wt_stream, timer),
                            PH_WT_BUFFERED_STREAM_REJECTED);
    }
    while ((timer = queue_take(&wt->early_datagrams, now)) != NULL) {
        ph_count(wt->stats, limit_pending_datagrams);
        ph_wt_pending_datagram_free(PH_CONTAINER(timer, struct wt_early_datagram, timer));
    }
    reap(wt);
}

uint64_t ph_wt_next(const struct ph_wt *wt)
{
    if (!ph_list_is_empty(&wt->dead_streams) || !ph_list_is_empty(&wt->dead_sessions) ||
        !ph_list_is_empty(&wt->dead_conns))
        return 0;
    uint64_t sessions = PH_MIN(queue_next(&wt->asked), queue_next(&wt->closing));
    uint64_t held = PH_MIN(queue_next(&wt->held), queue_next(&wt->early_datagrams));
    return PH_MIN(sessions, held);
}
