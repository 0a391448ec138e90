/*
 * wt_pending.c - streams and datagrams that came before their session was known or answered
 * (draft-16 section 4.6), the place where a peer could make us hold memory for nothing.
 *
 *      stream header, datagram -> wt_early of its session id -> released in arrival order after the
 *                                                               answer, or refused and dropped
 *
 * Bounded in number for each session, in session ids that are not known yet and in bytes for the
 * connection, and in time while the session is unknown (an answer has its own timeout). The bytes
 * of streams hold their flow-control credit. A stream that does not fit is refused with
 * WT_BUFFERED_STREAM_REJECTED, a datagram is dropped; the connection and its other sessions go on.
 * A stream may be finished or reset while it waits; QUIC may even be through with it
 * (quic == NULL): what happened is replayed in order once the session opens. A wt_early exists as
 * long as it has items.
 */
#include "wt_internal.h"

static struct wt_early *early_find(const struct wt_conn *conn, uint64_t session_id)
{
    for (struct ph_link *link = conn->early.next; link != &conn->early; link = link->next) {
        struct wt_early *early = PH_CONTAINER(link, struct wt_early, link);
        if (early->session_id == session_id)
            return early;
    }
    return NULL;
}

/* The place for one more item of a session; NULL: there is none. */
static struct wt_early *early_for(struct wt_conn *conn, uint64_t session_id, bool is_datagram)
{
    struct ph_wt *wt = conn->wt;
    struct wt_early *early = early_find(conn, session_id);
    uint32_t limit = is_datagram ? wt->config.pending_datagrams : wt->config.pending_streams;
    if ((early != NULL ? early->count[is_datagram] : 0) >= limit)
        return NULL;
    if (early != NULL)
        return early;
    bool is_known = ph_wt_conn_session(conn, session_id) != NULL;
    if (!is_known && conn->early_unknown >= wt->config.pending_sessions) {
        ph_count(wt->stats, limit_pending_sessions);
        return NULL;
    }
    early = ph_alloc(sizeof *early);
    early->session_id = session_id;
    early->is_known = is_known;
    ph_list_init(&early->items);
    ph_list_append(&conn->early, &early->link);
    conn->early_unknown += !is_known;
    return early;
}

static void item_add(struct wt_early_item *item, struct wt_early *early, bool is_datagram)
{
    item->of = early;
    item->is_datagram = is_datagram;
    early->count[is_datagram]++;
    ph_list_append(&early->items, &item->link);
}

static void item_remove(struct wt_conn *conn, struct wt_early_item *item)
{
    struct wt_early *early = item->of;
    item->of = NULL;
    early->count[item->is_datagram]--;
    ph_list_remove(&item->link);
    if (!ph_list_is_empty(&early->items))
        return;
    conn->early_unknown -= !early->is_known;
    ph_list_remove(&early->link);
    ph_free(early);
}

static struct ph_wt_stream *stream_of(struct wt_early_item *item)
{
    return PH_CONTAINER(item, struct ph_wt_stream, item);
}

static struct wt_early_datagram *datagram_of(struct wt_early_item *item)
{
    return PH_CONTAINER(item, struct wt_early_datagram, item);
}

/* --- Streams --- */

void ph_wt_pending_add(struct ph_wt_stream *stream)
{
    struct wt_conn *conn = stream->conn;
    struct wt_early *early = early_for(conn, stream->session_id, false);
    if (early == NULL) {
        ph_count(conn->wt->stats, limit_pending_streams);
        ph_wt_stream_refuse(stream, PH_WT_BUFFERED_STREAM_REJECTED);
        return;
    }
    conn->headless--;
    stream->phase = WT_PENDING;
    stream->held = ph_alloc(sizeof *stream->held);
    ph_list_remove(&stream->link);
    item_add(&stream->item, early, false);
    if (early->is_known) /* otherwise its timer has run since the first byte */
        ph_wt_timer_stop(&stream->timer);
}

void ph_wt_pending_remove(struct ph_wt_stream *stream)
{
    stream->conn->pending_bytes -= stream->held->len;
    item_remove(stream->conn, &stream->item);
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

/* --- Datagrams --- */

void ph_wt_pending_datagram(struct wt_conn *conn, uint64_t session_id, const uint8_t *data,
                            size_t n)
{
    struct ph_wt *wt = conn->wt;
    struct wt_early *early = NULL;
    if (n <= wt->config.pending_datagram_bytes - conn->pending_datagram_bytes)
        early = early_for(conn, session_id, true);
    if (early == NULL) {
        ph_count(wt->stats, limit_pending_datagrams);
        return;
    }
    struct wt_early_datagram *held = ph_alloc(sizeof *held + n);
    held->conn = conn;
    held->n = n;
    ph_copy(wt->stats, held->data, data, n);
    conn->pending_datagram_bytes += n;
    item_add(&held->item, early, true);
    if (!early->is_known)
        ph_wt_timer_set(&held->timer, &wt->early_datagrams,
                        ph_wt_conn_now(conn) + wt->config.pending_timeout);
}

static void datagram_remove(struct wt_early_datagram *held)
{
    held->conn->pending_datagram_bytes -= held->n;
    ph_wt_timer_stop(&held->timer);
    item_remove(held->conn, &held->item);
}

void ph_wt_pending_datagram_free(struct wt_early_datagram *held)
{
    datagram_remove(held);
    ph_free(held);
}

/* --- All of a session --- */

static struct wt_early_item *first_of(const struct wt_conn *conn, uint64_t session_id)
{
    struct wt_early *early = early_find(conn, session_id);
    return early == NULL ? NULL : PH_CONTAINER(early->items.next, struct wt_early_item, link);
}

void ph_wt_pending_session_known(struct wt_conn *conn, uint64_t session_id)
{
    struct wt_early *early = early_find(conn, session_id);
    if (early == NULL || early->is_known)
        return;
    early->is_known = true;
    conn->early_unknown--;
    for (struct ph_link *link = early->items.next; link != &early->items; link = link->next) {
        struct wt_early_item *item = PH_CONTAINER(link, struct wt_early_item, link);
        ph_wt_timer_stop(item->is_datagram ? &datagram_of(item)->timer : &stream_of(item)->timer);
    }
}

void ph_wt_pending_release(struct ph_wt_session *session)
{
    struct wt_early_item *item;
    while (session->state == WT_OPEN && (item = first_of(session->conn, session->id)) != NULL) {
        if (!item->is_datagram) {
            replay(stream_of(item), session);
            continue;
        }
        /* Off the list first: the owner may end the session inside its event. */
        struct wt_early_datagram *held = datagram_of(item);
        datagram_remove(held);
        ph_wt_datagram_deliver(session, held->data, held->n);
        ph_free(held);
    }
}

static void refuse(struct wt_early_item *item, uint64_t http3_code)
{
    if (item->is_datagram)
        ph_wt_pending_datagram_free(datagram_of(item));
    else
        ph_wt_stream_refuse(stream_of(item), http3_code);
}

void ph_wt_pending_refuse(struct wt_conn *conn, uint64_t session_id, uint64_t http3_code)
{
    struct wt_early_item *item;
    while ((item = first_of(conn, session_id)) != NULL)
        refuse(item, http3_code);
}

void ph_wt_pending_refuse_all(struct wt_conn *conn, uint64_t http3_code)
{
    while (!ph_list_is_empty(&conn->early)) {
        struct wt_early *early = PH_CONTAINER(conn->early.next, struct wt_early, link);
        refuse(PH_CONTAINER(early->items.next, struct wt_early_item, link), http3_code);
    }
}
