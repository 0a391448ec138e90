/*
 * h3_conn.c - endpoint and connection: the sink of ph_quic, dispatch of stream events and
 * datagrams, deadlines, GOAWAY, the end of everything.
 *
 * quic -> here -> opening / critical / request (h3_open.c, h3_control.c, h3_request.c) or a claim
 * of the extension. A stream's user pointer says whose it is; NULL is a peer's stream that has not
 * said a byte yet.
 *
 * A drain follows RFC 9114 5.2: GOAWAY with the largest id, so that requests on their way are still
 * served; a round trip later GOAWAY with the real one, from which on requests are refused; and when
 * nothing is left the connection is closed.
 */
#include "h3_internal.h"

/* Largest id of a client's bidirectional stream: refuses nothing yet. */
#define GOAWAY_FIRST (PH_VARINT_MAX - 3)
/* The second GOAWAY waits for a round trip, within these: an estimate may be missing or absurd. */
#define DRAIN_WAIT_MIN (10 * PH_MSEC)
#define DRAIN_WAIT_MAX (1 * PH_SEC)
/* RFC 9297 2.1: a quarter of the largest stream id. */
#define QUARTER_ID_MAX ((UINT64_C(1) << 60) - 1)

void ph_h3_config_default(struct ph_h3_config *config)
{
    *config = (struct ph_h3_config){
        .head_bytes = 64 * 1024,
        .head_fields = 100,
        .target_bytes = 8 * 1024,
        .head_encoded = 64 * 1024,
        .max_body = 16 * 1024 * 1024,
        .header_timeout = 10 * PH_SEC,
        .body_timeout = 30 * PH_SEC,
        .write_stall_timeout = 60 * PH_SEC,
        .min_send_rate = 256,
        .no_request_timeout = 60 * PH_SEC,
        .cancel_burst = 200,
        .cancel_rate = 50,
        .webtransport = true,
    };
}

struct ph_h3 *ph_h3_new(const struct ph_h3_config *config, const struct ph_exchange_sink *sink,
                        const struct ph_h3_ext *ext, struct ph_stats *stats)
{
    struct ph_h3 *h3 = ph_alloc(sizeof(*h3));
    h3->config = *config;
    h3->limits = (struct ph_http_limits){.head_bytes = config->head_bytes,
                                         .head_fields = config->head_fields,
                                         .target_bytes = config->target_bytes};
    if (sink != NULL)
        h3->sink = *sink;
    if (ext != NULL) {
        h3->ext = *ext;
        h3->has_ext = true;
    }
    h3->stats = stats;
    h3->drain_at = PH_NEVER;
    ph_list_init(&h3->conns);
    ph_list_init(&h3->heads);
    ph_list_init(&h3->bodies);
    ph_list_init(&h3->stalls);
    ph_list_init(&h3->idle);
    ph_list_init(&h3->ended);
    ph_list_init(&h3->dead);
    return h3;
}

void ph_h3_set_client_sink(struct ph_h3 *h3, const struct ph_h3_client_sink *sink)
{
    h3->client = *sink;
}

/* --- Own streams --- */

void ph_h3_stream_init(struct ph_h3_stream *stream, struct ph_h3_conn *conn,
                       struct ph_quic_stream *quic, const struct ph_h3_claim_ops *ops,
                       void (*on_free)(struct ph_h3_stream *stream))
{
    stream->claim.ops = ops;
    stream->conn = conn;
    stream->quic = quic;
    stream->on_free = on_free;
    ph_list_append(&conn->streams, &stream->claim.link);
    ph_quic_stream_set_user(quic, &stream->claim);
    ph_live_add(PH_LIVE_H3_STREAM, 1);
}

void ph_h3_stream_fini(struct ph_h3_stream *stream)
{
    if (stream->quic != NULL && !stream->conn->closed)
        ph_h3_ignore(stream->conn, stream->quic);
    stream->quic = NULL;
    ph_list_remove(&stream->timer);
    ph_list_remove(&stream->claim.link);
    ph_live_add(PH_LIVE_H3_STREAM, -1);
}

void ph_h3_ignore(struct ph_h3_conn *conn, struct ph_quic_stream *quic)
{
    ph_quic_stream_set_user(quic, &conn->h3->ignored);
}

void ph_h3_timer_arm(struct ph_h3_stream *stream, struct ph_link *list, uint64_t timeout)
{
    ph_list_remove(&stream->timer);
    if (timeout == 0)
        return;
    stream->deadline = ph_quic_conn_now(stream->conn->quic) + timeout;
    ph_list_append(list, &stream->timer);
}

void ph_h3_claim_stream(struct ph_h3_conn *conn, struct ph_quic_stream *stream,
                        struct ph_h3_claim *claim)
{
    ph_list_append(&conn->claims, &claim->link);
    ph_quic_stream_set_user(stream, claim);
}

/* --- The end of connections and requests --- */

/* Claims and streams look at the connection when they end, and claims at what the extension keeps
 * for it: the extension is told last. */
static void conn_fini(struct ph_h3_conn *conn)
{
    struct ph_h3 *h3 = conn->h3;
    struct ph_link *link = NULL;
    while ((link = ph_list_take(&conn->claims)) != NULL) {
        struct ph_h3_claim *claim = PH_CONTAINER(link, struct ph_h3_claim, link);
        claim->ops->on_closed(claim);
    }
    while (!ph_list_is_empty(&conn->streams)) {
        struct ph_h3_claim *claim = PH_CONTAINER(conn->streams.next, struct ph_h3_claim, link);
        struct ph_h3_stream *stream = ph_h3_stream_of(claim);
        stream->on_free(stream);
    }
    if (h3->has_ext && h3->ext.on_conn_closed != NULL)
        h3->ext.on_conn_closed(h3->ext.self, conn);
    if (!conn->is_server && h3->client.on_conn_closed != NULL)
        h3->client.on_conn_closed(h3->client.self, conn);
    ph_map_fini(&conn->requests);
    ph_qpack_free(conn->qpack);
    ph_free(conn);
    ph_live_add(PH_LIVE_H3_CONN, -1);
}

/* Ends what is due. Owners act in their last events, which may end more. */
static void settle(struct ph_h3 *h3)
{
    struct ph_link *link = NULL;
    h3->depth++;
    for (;;) {
        if ((link = ph_list_take(&h3->ended)) != NULL)
            ph_h3_request_finish(PH_CONTAINER(link, struct ph_h3_request, ended_link));
        else if ((link = ph_list_take(&h3->dead)) != NULL)
            conn_fini(PH_CONTAINER(link, struct ph_h3_conn, link));
        else
            break;
    }
    h3->depth--;
}

void ph_h3_enter(struct ph_h3 *h3)
{
    h3->depth++;
}

void ph_h3_leave(struct ph_h3 *h3)
{
    if (--h3->depth == 0)
        settle(h3);
}

void ph_h3_free(struct ph_h3 *h3)
{
    if (h3 == NULL)
        return;
    settle(h3);
    PH_ASSERT(ph_list_is_empty(&h3->conns)); /* the endpoint closes them before */
    ph_free(h3);
}

void ph_h3_conn_error(struct ph_h3_conn *conn, uint64_t code, const char *reason)
{
    if (conn->failed || conn->closed)
        return;
    conn->failed = true;
    if (code != PH_H3_NO_ERROR) {
        ph_count(conn->h3->stats, protocol_errors);
        ph_log(PH_LOG_DEBUG, "h3: connection error code=0x%llx reason=\"%s\"",
               (unsigned long long)code, reason);
    }
    ph_quic_conn_close(conn->quic, code, reason);
}

void ph_h3_conn_cancelled(struct ph_h3_conn *conn)
{
    if (!conn->is_server || conn->failed ||
        ph_bucket_take(&conn->cancels, 1, ph_quic_conn_now(conn->quic)))
        return;
    ph_count(conn->h3->stats, limit_cancel);
    ph_h3_conn_error(conn, PH_H3_EXCESSIVE_LOAD, "too many cancelled requests");
}

/* --- Drain --- */

void ph_h3_conn_finish_if_drained(struct ph_h3_conn *conn)
{
    if (conn->drain == PH_H3_DRAIN_FINAL && conn->open_requests == 0 && conn->holds <= 0)
        ph_h3_conn_error(conn, PH_H3_NO_ERROR, "");
}

void ph_h3_conn_hold(struct ph_h3_conn *conn, int delta)
{
    conn->holds += delta;
    ph_h3_conn_note_use(conn);
    ph_h3_conn_finish_if_drained(conn);
}

static void drain_final(struct ph_h3_conn *conn)
{
    conn->drain = PH_H3_DRAIN_FINAL;
    conn->goaway_id = conn->is_server ? conn->next_id : 0; /* ours as client: push ids */
    ph_h3_control_goaway(conn, conn->goaway_id);
    ph_h3_conn_finish_if_drained(conn);
}

void ph_h3_conn_note_use(struct ph_h3_conn *conn)
{
    struct ph_h3 *h3 = conn->h3;
    bool is_used = conn->open_requests > 0 || conn->holds > 0;
    if (is_used || conn->closed || conn->failed || !conn->is_server) {
        ph_list_remove(&conn->idle);
    } else if (!ph_link_is_on(&conn->idle) && h3->config.no_request_timeout != 0) {
        conn->idle_at = ph_quic_conn_now(conn->quic) + h3->config.no_request_timeout;
        ph_list_append(&h3->idle, &conn->idle);
    }
}

/* Whoever asks for nothing does not need the connection; PING frames alone do not keep it. */
static void expire_idle(struct ph_h3 *h3, uint64_t now)
{
    while (!ph_list_is_empty(&h3->idle)) {
        struct ph_h3_conn *conn = PH_CONTAINER(h3->idle.next, struct ph_h3_conn, idle);
        if (conn->idle_at > now)
            return;
        ph_list_remove(&conn->idle);
        if (conn->failed || conn->closed)
            continue;
        ph_count(h3->stats, timeouts_no_request);
        drain_final(conn);
    }
}

static void conn_drain(struct ph_h3_conn *conn, uint64_t now)
{
    if (conn->drain != PH_H3_SERVING || conn->failed || conn->closed)
        return;
    if (!conn->is_server) {
        drain_final(conn);
        return;
    }
    conn->drain = PH_H3_DRAIN_SAID;
    ph_h3_control_goaway(conn, GOAWAY_FIRST);
    uint64_t wait = ph_quic_conn_rtt(conn->quic);
    conn->goaway_at = now + PH_MIN(PH_MAX(wait, DRAIN_WAIT_MIN), DRAIN_WAIT_MAX);
    conn->h3->drain_at = PH_MIN(conn->h3->drain_at, conn->goaway_at);
}

void ph_h3_drain(struct ph_h3 *h3, uint64_t now)
{
    h3->is_draining = true;
    for (struct ph_link *link = h3->conns.next; link != &h3->conns; link = link->next)
        conn_drain(PH_CONTAINER(link, struct ph_h3_conn, link), now);
}

static void expire_drain(struct ph_h3 *h3, uint64_t now)
{
    if (h3->drain_at > now)
        return;
    h3->drain_at = PH_NEVER;
    for (struct ph_link *link = h3->conns.next; link != &h3->conns; link = link->next) {
        struct ph_h3_conn *conn = PH_CONTAINER(link, struct ph_h3_conn, link);
        if (conn->drain != PH_H3_DRAIN_SAID || conn->failed)
            continue;
        if (conn->goaway_at <= now)
            drain_final(conn);
        else
            h3->drain_at = PH_MIN(h3->drain_at, conn->goaway_at);
    }
}

/* --- Deadlines --- */

/* All of a list have the same timeout, so that the first of it is due first. */
static void expire_list(struct ph_link *list, uint64_t now)
{
    while (!ph_list_is_empty(list)) {
        struct ph_h3_stream *stream = PH_CONTAINER(list->next, struct ph_h3_stream, timer);
        if (stream->deadline > now)
            return;
        ph_list_remove(&stream->timer);
        if (!stream->conn->failed)
            stream->on_timeout(stream);
    }
}

void ph_h3_expire(struct ph_h3 *h3, uint64_t now)
{
    ph_h3_enter(h3);
    expire_list(&h3->heads, now);
    expire_list(&h3->bodies, now);
    ph_h3_reply_expire(h3, now);
    expire_drain(h3, now);
    expire_idle(h3, now);
    ph_h3_leave(h3);
}

static uint64_t first_deadline(const struct ph_link *list)
{
    if (ph_list_is_empty(list))
        return PH_NEVER;
    return PH_CONTAINER(list->next, const struct ph_h3_stream, timer)->deadline;
}

uint64_t ph_h3_next(const struct ph_h3 *h3)
{
    if (!ph_list_is_empty(&h3->ended) || !ph_list_is_empty(&h3->dead))
        return 0;
    uint64_t next = PH_MIN(first_deadline(&h3->heads), first_deadline(&h3->bodies));
    if (!ph_list_is_empty(&h3->stalls))
        next = PH_MIN(next,
                      PH_CONTAINER(h3->stalls.next, const struct ph_h3_request, stall)->stall_at);
    if (!ph_list_is_empty(&h3->idle))
        next = PH_MIN(next, PH_CONTAINER(h3->idle.next, const struct ph_h3_conn, idle)->idle_at);
    return PH_MIN(next, h3->drain_at);
}

/* --- Events of quic --- */

static void on_ready(void *self, struct ph_quic_conn *quic)
{
    struct ph_h3 *h3 = self;
    struct ph_h3_conn *conn = ph_alloc(sizeof(*conn));
    uint64_t now = ph_quic_conn_now(quic);
    ph_h3_enter(h3);
    ph_live_add(PH_LIVE_H3_CONN, 1);
    conn->h3 = h3;
    conn->quic = quic;
    conn->is_server = ph_quic_conn_is_server(quic);
    conn->qpack = ph_qpack_new();
    ph_map_init(&conn->requests);
    ph_list_init(&conn->streams);
    ph_list_init(&conn->claims);
    ph_list_init(&conn->held);
    ph_bucket_init(&conn->cancels, h3->config.cancel_burst, h3->config.cancel_rate, now);
    ph_list_append(&h3->conns, &conn->link);
    ph_quic_conn_set_user(quic, conn);
    ph_h3_control_start(conn); /* before the extension can open a stream: it has to be the first */
    if (h3->has_ext && h3->ext.on_conn != NULL)
        conn->ext = h3->ext.on_conn(h3->ext.self, conn);
    if (h3->is_draining)
        conn_drain(conn, now);
    ph_h3_conn_note_use(conn);
    ph_h3_leave(h3);
}

static void on_handshake_done(void *self, struct ph_quic_conn *quic)
{
    (void)self; /* requests are taken before it, as 0.5-RTT allows */
    (void)quic;
}

static void on_stream(void *self, struct ph_quic_conn *quic, struct ph_quic_stream *stream)
{
    (void)self; /* what it is, its first bytes say */
    (void)quic;
    (void)stream;
}

static bool is_by_peer(const struct ph_h3_conn *conn, const struct ph_quic_stream *stream)
{
    return ph_quic_id_is_server(ph_quic_stream_id(stream)) != conn->is_server;
}

static void on_data(void *self, struct ph_quic_stream *stream, const uint8_t *data, size_t n,
                    bool fin)
{
    struct ph_h3 *h3 = self;
    struct ph_h3_conn *conn = ph_quic_conn_user(ph_quic_stream_conn(stream));
    struct ph_h3_claim *claim = ph_quic_stream_user(stream);
    if (conn == NULL || conn->failed || conn->closed)
        return;
    if (data == NULL) /* an end alone: pointer arithmetic wants an object */
        data = (const uint8_t *)"";
    ph_h3_enter(h3);
    if (claim == &h3->ignored || (claim == NULL && !is_by_peer(conn, stream)))
        ph_quic_stream_consume(stream, n);
    else if (claim != NULL)
        claim->ops->on_data(claim, data, n, fin);
    else if (n > 0 || fin)
        ph_h3_open_feed(conn, stream, data, n, fin);
    ph_h3_leave(h3);
}

static void on_reset(void *self, struct ph_quic_stream *stream, uint64_t code, uint64_t final_size)
{
    struct ph_h3 *h3 = self;
    struct ph_h3_conn *conn = ph_quic_conn_user(ph_quic_stream_conn(stream));
    struct ph_h3_claim *claim = ph_quic_stream_user(stream);
    if (conn == NULL || conn->failed || conn->closed || claim == &h3->ignored)
        return;
    ph_h3_enter(h3);
    if (claim != NULL)
        claim->ops->on_reset(claim, code, final_size);
    else if (is_by_peer(conn, stream))
        ph_h3_open_cut(conn, stream);
    ph_h3_leave(h3);
}

static void on_stop(void *self, struct ph_quic_stream *stream, uint64_t code)
{
    struct ph_h3 *h3 = self;
    struct ph_h3_conn *conn = ph_quic_conn_user(ph_quic_stream_conn(stream));
    struct ph_h3_claim *claim = ph_quic_stream_user(stream);
    if (conn == NULL || conn->failed || conn->closed || claim == NULL || claim == &h3->ignored)
        return; /* without a claim: ph_h3_replay_stop() once it has one */
    ph_h3_enter(h3);
    claim->ops->on_stop(claim, code);
    ph_h3_leave(h3);
}

void ph_h3_replay_stop(struct ph_quic_stream *quic, struct ph_h3_claim *claim)
{
    uint64_t code;
    if (ph_quic_stream_peer_stop_code(quic, &code))
        claim->ops->on_stop(claim, code);
}

static void on_acked(void *self, struct ph_quic_stream *stream, size_t n)
{
    struct ph_h3 *h3 = self;
    struct ph_h3_conn *conn = ph_quic_conn_user(ph_quic_stream_conn(stream));
    struct ph_h3_claim *claim = ph_quic_stream_user(stream);
    /* After an error, too: whoever counts what is unacknowledged goes on until the end. */
    if (conn == NULL || conn->closed || claim == NULL || claim == &h3->ignored)
        return;
    ph_h3_enter(h3);
    claim->ops->on_acked(claim, n);
    ph_h3_leave(h3);
}

static void on_stream_closed(void *self, struct ph_quic_stream *stream)
{
    struct ph_h3 *h3 = self;
    struct ph_h3_conn *conn = ph_quic_conn_user(ph_quic_stream_conn(stream));
    struct ph_h3_claim *claim = ph_quic_stream_user(stream);
    if (conn == NULL || conn->closed || claim == NULL || claim == &h3->ignored)
        return;
    ph_h3_enter(h3);
    ph_list_remove(&claim->link);
    claim->ops->on_closed(claim);
    ph_h3_leave(h3);
}

static void on_streams_available(void *self, struct ph_quic_conn *quic, bool bidi)
{
    struct ph_h3 *h3 = self;
    struct ph_h3_conn *conn = ph_quic_conn_user(quic);
    if (conn == NULL || conn->failed || conn->closed)
        return;
    ph_h3_enter(h3);
    if (!bidi)
        ph_h3_control_start(conn);
    if (h3->has_ext && h3->ext.on_streams_available != NULL)
        h3->ext.on_streams_available(h3->ext.self, conn, bidi);
    ph_h3_leave(h3);
}

static void on_datagram(void *self, struct ph_quic_conn *quic, const uint8_t *data, size_t n)
{
    struct ph_h3 *h3 = self;
    struct ph_h3_conn *conn = ph_quic_conn_user(quic);
    uint64_t quarter = 0;
    if (conn == NULL || conn->failed || conn->closed)
        return;
    ph_h3_enter(h3);
    size_t len = ph_varint_get(data, n, &quarter);
    if (len == 0 || quarter > QUARTER_ID_MAX) /* RFC 9297 2.1, also the next */
        ph_h3_conn_error(conn, PH_H3_DATAGRAM_ERROR, "datagram without a stream");
    else if (ph_quic_conn_is_server(quic) && !ph_quic_conn_peer_may_open(quic, quarter * 4))
        ph_h3_conn_error(conn, PH_H3_ID_ERROR, "datagram of a stream beyond the limit");
    else if (h3->has_ext && h3->ext.on_datagram != NULL)
        h3->ext.on_datagram(h3->ext.self, conn, quarter * 4, data + len, n - len);
    ph_h3_leave(h3);
}

static void on_closed(void *self, struct ph_quic_conn *quic, const struct ph_quic_end *end)
{
    struct ph_h3 *h3 = self;
    struct ph_h3_conn *conn = ph_quic_conn_user(quic);
    if (conn == NULL || conn->closed)
        return;
    ph_h3_enter(h3);
    conn->failed = conn->closed = true;
    ph_list_remove(&conn->idle);
    /* For what is cut off by it, NO_ERROR would be a lie. */
    conn->end_code = end->app && end->code != PH_H3_NO_ERROR ? end->code : PH_H3_REQUEST_CANCELLED;
    ph_list_remove(&conn->link);
    ph_list_append(&h3->dead, &conn->link);
    ph_h3_leave(h3);
}

void ph_h3_quic_sink(struct ph_h3 *h3, struct ph_quic_sink *out)
{
    *out = (struct ph_quic_sink){
        .self = h3,
        .on_ready = on_ready,
        .on_handshake_done = on_handshake_done,
        .on_stream = on_stream,
        .on_data = on_data,
        .on_reset = on_reset,
        .on_stop = on_stop,
        .on_acked = on_acked,
        .on_stream_closed = on_stream_closed,
        .on_streams_available = on_streams_available,
        .on_datagram = on_datagram,
        .on_closed = on_closed,
    };
}

/* --- Small questions --- */

void *ph_h3_conn_ext(const struct ph_h3_conn *conn)
{
    return conn->ext;
}

struct ph_quic_conn *ph_h3_conn_quic(const struct ph_h3_conn *conn)
{
    return conn->quic;
}

const struct ph_h3_settings *ph_h3_conn_settings(const struct ph_h3_conn *conn)
{
    return conn->has_settings ? &conn->settings : NULL;
}

struct ph_h3_request *ph_h3_conn_request(const struct ph_h3_conn *conn, uint64_t stream_id)
{
    return ph_map_get(&conn->requests, stream_id);
}

bool ph_h3_conn_is_draining(const struct ph_h3_conn *conn)
{
    return conn->drain != PH_H3_SERVING;
}

struct ph_h3_conn *ph_h3_conn_of(const struct ph_quic_conn *quic)
{
    return ph_quic_conn_user(quic);
}
