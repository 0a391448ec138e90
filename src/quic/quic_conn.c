/*
 * quic_conn.c - one QUIC connection: an ngtcp2_conn with its TLS session, from creation to the end
 * of its closing period.
 *
 * feed and expire run the library, then settle: what callbacks and the owner recorded is applied,
 * and a wanted end is delivered (on_closed, streams gone). The close packet is written by the next
 * flush; it is kept and sent again, ever more rarely, while the peer goes on talking (RFC 9000
 * 10.2.1). From then on neither ngtcp2_conn nor TLS state is held, only the packet and the
 * connection ids.
 */
#include "quic_internal.h"

/* Three times the probe timeout, RFC 9000 10.2; used when the library cannot say. */
#define CLOSING_DEFAULT (1 * PH_SEC)

enum { CID_ISSUE_BURST = 64, CID_ISSUE_RATE = 8 };     /* ids a peer may make us issue */
enum { PATH_CHANGE_BURST = 16, PATH_CHANGE_RATE = 2 }; /* address changes of one connection */
enum { ACTIVE_CIDS = 4 };                              /* ids of the peer that we keep */

static ngtcp2_conn *qc_of_ref(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct ph_quic_conn *)ref->user_data)->qc;
}

/* --- Creation --- */

static struct ph_quic_conn *conn_new(struct ph_quic_endpoint *ep, const struct ph_path *path,
                                     bool server)
{
    struct ph_quic_conn *conn = ph_alloc(sizeof(*conn));
    conn->ep = ep;
    conn->server = server;
    conn->path = *path;
    conn->expiry = PH_NEVER;
    conn->granted[0] = ep->config.max_streams_uni; /* as in params_init() */
    conn->granted[1] = ep->config.max_streams_bidi;
    conn->close_answer = 1;
    conn->ref = (ngtcp2_crypto_conn_ref){.get_conn = qc_of_ref, .user_data = conn};
    ph_map_init(&conn->streams);
    ph_list_init(&conn->all_streams);
    for (int i = 0; i < PH_QUIC_URGENCIES; i++)
        ph_list_init(&conn->ready_streams[i]);
    ph_list_init(&conn->ops);
    ph_list_init(&conn->waiting);
    ph_list_init(&conn->dgramqs);
    ph_bucket_init(&conn->glitch, ep->config.glitch_burst, ep->config.glitch_rate, ep->now);
    ph_bucket_init(&conn->cid_issue, CID_ISSUE_BURST, CID_ISSUE_RATE, ep->now);
    ph_bucket_init(&conn->path_change, PATH_CHANGE_BURST, PATH_CHANGE_RATE, ep->now);
    ph_list_append(&ep->conns, &conn->link);
    ep->alive++;
    if (ep->config.admission != NULL)
        ph_admission_enter(ep->config.admission);
    ph_live_add(PH_LIVE_QUIC_CONN, 1);
    return conn;
}

static void settings_init(struct ph_quic_endpoint *ep, ngtcp2_settings *settings)
{
    static const uint32_t versions[] = {NGTCP2_PROTO_VER_V1, NGTCP2_PROTO_VER_V2};
    ngtcp2_settings_default(settings);
    settings->initial_ts = ep->now;
    settings->cc_algo = ep->config.bbr ? NGTCP2_CC_ALGO_BBR : NGTCP2_CC_ALGO_CUBIC;
    settings->handshake_timeout = ep->config.handshake_timeout;
    settings->max_window = ep->config.window_max;
    settings->max_stream_window = ep->config.window_max;
    settings->rand_ctx.native_handle = ep;
    settings->available_versions = versions;
    settings->available_versionslen = PH_COUNT_OF(versions);
#if NGTCP2_VERSION_NUM >= 0x010f00
    settings->glitch_ratelim_burst = ep->config.glitch_burst;
    settings->glitch_ratelim_rate = ep->config.glitch_rate;
#endif
}

static void params_init(struct ph_quic_endpoint *ep, ngtcp2_transport_params *params)
{
    const struct ph_quic_config *config = &ep->config;
    ngtcp2_transport_params_default(params);
    params->initial_max_stream_data_bidi_local = config->stream_window;
    params->initial_max_stream_data_bidi_remote = config->stream_window;
    params->initial_max_stream_data_uni = config->stream_window;
    params->initial_max_data = config->conn_window;
    params->initial_max_streams_bidi = config->max_streams_bidi;
    params->initial_max_streams_uni = config->max_streams_uni;
    params->max_idle_timeout = config->idle_timeout;
    params->max_datagram_frame_size = config->max_datagram_frame;
    params->active_connection_id_limit = ACTIVE_CIDS;
}

static int attach_tls(struct ph_quic_conn *conn, struct ph_tls_cred *cred, const char *server_name)
{
    int rc = ph_tls_quic_new(&conn->tls, cred, conn->server, conn->ep->alpn, server_name);
    if (rc != PH_OK) {
        conn->tls = NULL;
        return rc;
    }
    rc = conn->server ? ngtcp2_crypto_gnutls_configure_server_session(conn->tls)
                      : ngtcp2_crypto_gnutls_configure_client_session(conn->tls);
    if (rc != 0)
        return PH_E_TLS;
    gnutls_session_set_ptr(conn->tls, &conn->ref);
    ngtcp2_conn_set_tls_native_handle(conn->qc, conn->tls);
    return PH_OK;
}

static const ngtcp2_mem mem = {.malloc = ph_lib_malloc,
                               .free = ph_lib_free,
                               .calloc = ph_lib_calloc,
                               .realloc = ph_lib_realloc};

struct ph_quic_conn *ph_quic_conn_accept(struct ph_quic_endpoint *ep, const struct ph_path *path,
                                         const struct ph_quic_accept *accept)
{
    const ngtcp2_pkt_hd *hd = accept->hd;
    struct ph_quic_conn *conn = conn_new(ep, path, true);
    ngtcp2_callbacks callbacks;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_path qpath;
    ngtcp2_cid scid;
    conn->half_open = true;
    ep->half_open++;
    ph_quic_callbacks(&callbacks, true);
    settings_init(ep, &settings);
    params_init(ep, &params);
    if (accept->token_valid) {
        settings.token = hd->token;
        settings.tokenlen = hd->tokenlen;
        settings.token_type = accept->token_type;
    }
    /* RFC 9000 7.3: by these the client sees that nobody changed the ids on the way. */
    params.original_dcid = accept->odcid != NULL ? *accept->odcid : hd->dcid;
    params.original_dcid_present = 1;
    if (accept->odcid != NULL) {
        params.retry_scid = hd->dcid;
        params.retry_scid_present = 1;
    }
    ph_quic_cid_new(ep, &scid);
    ph_quic_reset_token(ep, &scid, params.stateless_reset_token);
    params.stateless_reset_token_present = 1;
    ph_quic_path_out(&qpath, &conn->path);
    int rv = ngtcp2_conn_server_new(&conn->qc, &hd->scid, &scid, &qpath, hd->version, &callbacks,
                                    &settings, &params, &mem, conn);
    if (rv != 0 || attach_tls(conn, ep->config.cred, NULL) != PH_OK) {
        conn->end_wanted = conn->silent = true;
        ph_quic_conn_settle(conn);
        return NULL;
    }
    if (accept->token_valid)
        ph_quic_conn_enter_peer(conn); /* there was room a moment ago */
    ph_quic_conn_cid_add(conn, &scid);
    /* The client goes on with the id it made up until it has heard of ours. */
    if (ph_cidmap_get(&ep->cids, hd->dcid.data, hd->dcid.datalen) == NULL) {
        conn->odcid = hd->dcid;
        ph_cidmap_put(&ep->cids, hd->dcid.data, hd->dcid.datalen, conn);
    }
    return conn;
}

struct ph_quic_conn *ph_quic_conn_connect(struct ph_quic_endpoint *ep, const struct ph_path *path,
                                          struct ph_tls_cred *cred, const char *server_name)
{
    struct ph_quic_conn *conn = conn_new(ep, path, false);
    ngtcp2_callbacks callbacks;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_path qpath;
    ngtcp2_cid dcid, scid;
    uint32_t version = ep->config.client_version;
    if (version == 0)
        version = NGTCP2_PROTO_VER_V1;
    ph_quic_callbacks(&callbacks, false);
    settings_init(ep, &settings);
    if (!ngtcp2_is_supported_version(version)) { /* a reserved one: provokes negotiation */
        settings.available_versions = NULL;
        settings.available_versionslen = 0;
    }
    params_init(ep, &params);
    ph_quic_cid_new(ep, &scid);
    dcid.datalen = PH_QUIC_CID_LEN;
    ph_quic_rand(ep, dcid.data, dcid.datalen);
    ph_quic_path_out(&qpath, &conn->path);
    int rv = ngtcp2_conn_client_new(&conn->qc, &dcid, &scid, &qpath, version, &callbacks, &settings,
                                    &params, &mem, conn);
    if (rv != 0 || attach_tls(conn, cred, server_name) != PH_OK) {
        conn->end_wanted = conn->silent = true;
        ph_quic_conn_settle(conn);
        return NULL;
    }
    ph_quic_conn_cid_add(conn, &scid);
    ph_quic_mark_dirty(conn);
    return conn;
}

/* --- Connection ids --- */

static void list_add(struct ph_cidmap *map, ngtcp2_cid **list, size_t *count, size_t *cap,
                     const ngtcp2_cid *cid, struct ph_quic_conn *conn)
{
    if (*count == *cap) {
        *cap = *cap == 0 ? 4 : *cap * 2;
        *list = ph_realloc(*list, *cap * sizeof(**list));
    }
    (*list)[(*count)++] = *cid;
    ph_cidmap_put(map, cid->data, cid->datalen, conn);
}

static void list_remove(struct ph_cidmap *map, ngtcp2_cid *list, size_t *count,
                        const ngtcp2_cid *cid)
{
    for (size_t i = 0; i < *count; i++) {
        if (!ngtcp2_cid_eq(&list[i], cid))
            continue;
        ph_cidmap_del(map, cid->data, cid->datalen);
        list[i] = list[--*count];
        return;
    }
}

void ph_quic_conn_cid_add(struct ph_quic_conn *conn, const ngtcp2_cid *cid)
{
    list_add(&conn->ep->cids, &conn->cids, &conn->cids_count, &conn->cids_cap, cid, conn);
}

void ph_quic_conn_cid_remove(struct ph_quic_conn *conn, const ngtcp2_cid *cid)
{
    list_remove(&conn->ep->cids, conn->cids, &conn->cids_count, cid);
}

void ph_quic_conn_peer_token(struct ph_quic_conn *conn, const uint8_t *token, bool in_use)
{
    ngtcp2_cid key;
    ngtcp2_cid_init(&key, token, NGTCP2_STATELESS_RESET_TOKENLEN);
    list_remove(&conn->ep->peer_tokens, conn->tokens, &conn->tokens_count, &key);
    if (in_use)
        list_add(&conn->ep->peer_tokens, &conn->tokens, &conn->tokens_count, &conn->tokens_cap,
                 &key, conn);
}

static void forget_cids(struct ph_quic_conn *conn)
{
    while (conn->cids_count > 0)
        ph_quic_conn_cid_remove(conn, &conn->cids[0]);
    while (conn->tokens_count > 0)
        ph_quic_conn_peer_token(conn, conn->tokens[0].data, false);
    if (conn->odcid.datalen > 0)
        ph_cidmap_del(&conn->ep->cids, conn->odcid.data, conn->odcid.datalen);
    conn->odcid.datalen = 0;
}

/* --- Endings --- */

static void free_library(struct ph_quic_conn *conn)
{
    ngtcp2_conn_del(conn->qc);
    conn->qc = NULL;
    if (conn->tls != NULL)
        ph_tls_quic_free(conn->tls);
    conn->tls = NULL;
}

void ph_quic_conn_free(struct ph_quic_conn *conn)
{
    free_library(conn);
    ph_list_remove(&conn->link);
    ph_list_remove(&conn->dirty);
    ph_map_fini(&conn->streams);
    ph_tls_info_unref(conn->tls_info);
    ph_free(conn->cids);
    ph_free(conn->tokens);
    ph_free(conn->close_packet);
    ph_free(conn);
    ph_live_add(PH_LIVE_QUIC_CONN, -1);
}

void ph_quic_conn_die(struct ph_quic_conn *conn)
{
    conn->state = PH_QUIC_DEAD;
    forget_cids(conn);
    ph_quic_heap_remove(&conn->ep->heap, conn);
    ph_list_remove(&conn->dirty);
    ph_list_remove(&conn->link);
    ph_list_append(&conn->ep->dead, &conn->link);
}

static uint64_t closing_period(struct ph_quic_conn *conn)
{
    uint64_t pto = conn->qc != NULL ? ngtcp2_conn_get_pto(conn->qc) : 0;
    return pto > 0 && pto < 10 * PH_SEC ? 3 * pto : CLOSING_DEFAULT;
}

static void enter_quiet(struct ph_quic_conn *conn, enum ph_quic_conn_state state)
{
    conn->state = state;
    conn->deadline = conn->ep->now + closing_period(conn);
    ph_list_remove(&conn->dirty);
    ph_quic_heap_set(&conn->ep->heap, conn, conn->deadline);
}

/* on_closed, then every stream and queue of the connection is gone for its owner. */
static void deliver_end(struct ph_quic_conn *conn)
{
    struct ph_quic_endpoint *ep = conn->ep;
    bool told = conn->ready;
    conn->state = PH_QUIC_ENDED;
    ep->alive--;
    if (ep->config.admission != NULL) {
        ph_admission_leave(ep->config.admission);
        ph_admission_leave_peer(ep->config.admission, &conn->admitted);
    }
    if (conn->half_open) {
        conn->half_open = false;
        ep->half_open--;
    }
    if (told) {
        ph_count(ep->stats, conns_closed);
        ep->sink.on_closed(ep->sink.self, conn, &conn->end);
    }
    while (!ph_list_is_empty(&conn->all_streams))
        ph_quic_stream_end(PH_CONTAINER(conn->all_streams.next, struct ph_quic_stream, link));
    ph_quic_dgramqs_orphan(conn);
}

static void finish(struct ph_quic_conn *conn)
{
    deliver_end(conn);
    if (conn->draining) {
        enter_quiet(conn, PH_QUIC_DRAINING);
        free_library(conn); /* nothing is said any more (RFC 9000 10.2.2); no callback runs now */
    } else if (conn->silent || conn->qc == NULL) {
        ph_quic_conn_die(conn);
    } else {
        ph_quic_heap_remove(&conn->ep->heap, conn);
        ph_quic_mark_dirty(conn); /* the close packet */
    }
}

static void want_end(struct ph_quic_conn *conn, enum ph_quic_end_how how, bool app, uint64_t code,
                     const void *reason, size_t reason_len)
{
    if (conn->end_wanted)
        return;
    conn->end_wanted = true;
    conn->end.how = how;
    conn->end.app = app;
    conn->end.code = code;
    size_t n = PH_MIN(reason_len, sizeof(conn->end.reason) - 1);
    if (n > 0)
        memcpy(conn->end.reason, reason, n);
    conn->end.reason[n] = '\0';
    ph_quic_mark_dirty(conn);
}

void ph_quic_conn_end_for_memory(struct ph_quic_conn *conn)
{
    static const char reason[] = "no memory";
    want_end(conn, PH_QUIC_END_LOCAL, false, NGTCP2_INTERNAL_ERROR, reason, sizeof(reason) - 1);
}

void ph_quic_conn_settle(struct ph_quic_conn *conn)
{
    if (conn->state != PH_QUIC_LIVE)
        return;
    ph_quic_conn_ready(conn);
    /* An owner that answers one event with work gets that work applied as well. */
    if (!conn->end_wanted && conn->qc != NULL)
        ph_quic_streams_apply(conn, conn->ep->now);
    if (ph_alloc_failed())
        ph_quic_conn_end_for_memory(conn);
    if (conn->end_wanted)
        finish(conn);
}

static void end_by_peer(struct ph_quic_conn *conn)
{
    const ngtcp2_ccerr *err = ngtcp2_conn_get_ccerr(conn->qc);
    conn->draining = true;
    if (conn->stateless_reset)
        want_end(conn, PH_QUIC_END_RESET, false, 0, NULL, 0);
    else
        want_end(conn, PH_QUIC_END_PEER, err->type == NGTCP2_CCERR_TYPE_APPLICATION,
                 err->error_code, err->reason, err->reasonlen);
}

/* `why`: what only the log is told; "" for nothing. */
static void protocol_error(struct ph_quic_conn *conn, uint64_t code, int liberr, const char *why)
{
    const char *text = ngtcp2_strerror(liberr);
    ph_count(conn->ep->stats, protocol_errors);
    ph_log_limited(&conn->ep->log, conn->ep->now, PH_LOG_INFO,
                   "quic: closed code=0x%llx error=%s%s%s%s", (unsigned long long)code, text,
                   why[0] != '\0' ? " reason=\"" : "", why, why[0] != '\0' ? "\"" : "");
    want_end(conn, PH_QUIC_END_LOCAL, false, code, text, strlen(text));
}

void ph_quic_conn_fail(struct ph_quic_conn *conn, int liberr)
{
    switch (liberr) {
    case NGTCP2_ERR_DRAINING:
        end_by_peer(conn);
        break;
    case NGTCP2_ERR_IDLE_CLOSE: /* RFC 9000 10.1: silently, the peer has given up as well */
        conn->silent = true;
        ph_count(conn->ep->stats, timeouts_idle);
        want_end(conn, PH_QUIC_END_IDLE, false, 0, NULL, 0);
        break;
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
        conn->silent = true;
        ph_count(conn->ep->stats, timeouts_handshake);
        want_end(conn, PH_QUIC_END_HANDSHAKE, false, 0, NULL, 0);
        break;
    case NGTCP2_ERR_RETRY:
        conn->retry_wanted = true;
        /* fall through */
    case NGTCP2_ERR_DROP_CONN:
    case NGTCP2_ERR_CLOSING:
    case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
        conn->silent = true;
        want_end(conn, PH_QUIC_END_HANDSHAKE, false, 0, NULL, 0);
        break;
    case NGTCP2_ERR_CRYPTO:
        protocol_error(conn, NGTCP2_CRYPTO_ERROR | ngtcp2_conn_get_tls_alert(conn->qc), liberr,
                       ph_tls_quic_why(conn->tls));
        break;
    default:
        protocol_error(conn, ngtcp2_err_infer_quic_transport_error_code(liberr), liberr, "");
        break;
    }
}

/* Once the handshake is done the client has answered something that was made for it alone. */
bool ph_quic_conn_is_early(const struct ph_quic_conn *conn)
{
    return conn->server && !conn->handshake_done;
}

/* Made late: most connections of a flood never get to a request. */
const struct ph_tls_info *ph_quic_conn_tls(struct ph_quic_conn *conn)
{
    if (conn->tls_info == NULL && conn->tls != NULL)
        conn->tls_info = ph_tls_info_new(conn->tls);
    return conn->tls_info;
}

void ph_quic_conn_close(struct ph_quic_conn *conn, uint64_t code, const char *reason)
{
    if (conn->state == PH_QUIC_LIVE)
        want_end(conn, PH_QUIC_END_LOCAL, true, code, reason, reason != NULL ? strlen(reason) : 0);
}

/* With a token the address is proven at once, otherwise by the handshake: called at both. */
bool ph_quic_conn_enter_peer(struct ph_quic_conn *conn)
{
    struct ph_admission *admission = conn->ep->config.admission;
    if (admission == NULL || !conn->server || conn->admitted.is_counted)
        return true;
    return ph_admission_enter_peer(admission, &conn->path.remote, &conn->admitted);
}

void ph_quic_conn_refuse(struct ph_quic_conn *conn)
{
    static const char reason[] = "too many connections";
    want_end(conn, PH_QUIC_END_LOCAL, false, NGTCP2_CONNECTION_REFUSED, reason, sizeof(reason) - 1);
}

void ph_quic_conn_glitch(struct ph_quic_conn *conn, unsigned tokens)
{
    if (conn->state != PH_QUIC_LIVE || conn->end_wanted ||
        ph_bucket_take(&conn->glitch, tokens, conn->ep->now))
        return;
    ph_count(conn->ep->stats, limit_glitch);
    ph_quic_conn_close(conn, PH_H3_EXCESSIVE_LOAD_CODE, "too many frames without progress");
}

void ph_quic_conn_begin_closing(struct ph_quic_conn *conn)
{
    struct ph_quic_endpoint *ep = conn->ep;
    size_t cap = ngtcp2_conn_get_max_tx_udp_payload_size(conn->qc);
    const uint8_t *reason = (const uint8_t *)conn->end.reason;
    ngtcp2_ccerr err;
    ngtcp2_path_storage ps;
    ngtcp2_pkt_info pi;
    if (conn->end.app)
        ngtcp2_ccerr_set_application_error(&err, conn->end.code, reason, strlen(conn->end.reason));
    else
        ngtcp2_ccerr_set_transport_error(&err, conn->end.code, reason, strlen(conn->end.reason));
    conn->close_packet = ph_alloc(cap);
    ngtcp2_path_storage_zero(&ps);
    ngtcp2_ssize n = ngtcp2_conn_write_connection_close(conn->qc, &ps.path, &pi, conn->close_packet,
                                                        cap, &err, ep->now);
    if (n <= 0) { /* no keys yet, or the amplification limit: nothing can be said */
        ph_quic_conn_die(conn);
        return;
    }
    conn->close_len = (size_t)n;
    conn->close_due = true;
    ph_quic_path_in(&conn->path, &ps.path);
    enter_quiet(conn, PH_QUIC_CLOSING);
    free_library(conn);
}

/* --- Running --- */

/* RFC 9000 10.2.1: answer the first packet, then after twice as many each time. */
static void feed_closing(struct ph_quic_conn *conn)
{
    conn->close_received++;
    if (conn->close_received < conn->close_answer)
        return;
    conn->close_received = 0;
    conn->close_answer *= 2;
    conn->close_due = true;
    ph_quic_mark_dirty(conn);
}

/* Each new address costs a validation of it (RFC 9000 9.3), and whoever sees packets can send them
 * on from any address. */
static bool path_is_allowed(struct ph_quic_conn *conn, const struct ph_path *path)
{
    if (ph_addr_equal(&conn->path.remote, &path->remote))
        return true;
    return ph_bucket_take(&conn->path_change, 1, conn->ep->now);
}

void ph_quic_conn_feed(struct ph_quic_conn *conn, const struct ph_path *path, uint8_t ecn,
                       const uint8_t *data, size_t n)
{
    struct ph_quic_endpoint *ep = conn->ep;
    if (conn->state == PH_QUIC_CLOSING) {
        feed_closing(conn);
        return;
    }
    if (conn->state != PH_QUIC_LIVE || conn->end_wanted)
        return;
    if (!path_is_allowed(conn, path)) {
        ph_count(ep->stats, packets_dropped);
        return;
    }
    ngtcp2_path qpath;
    ngtcp2_pkt_info pi = {.ecn = ecn};
    ph_quic_path_out(&qpath, path);
    ph_quic_conn_begin_feed(conn);
    int rv = ngtcp2_conn_read_pkt(conn->qc, &qpath, &pi, data, n, ep->now);
    ph_quic_conn_end_feed(conn);
    if (rv != 0 && !conn->end_wanted)
        ph_quic_conn_fail(conn, rv);
    if (rv == 0) /* the library knows which packets from elsewhere move it: RFC 9000 9.3 */
        ph_quic_path_in(&conn->path, ngtcp2_conn_get_path(conn->qc));
    ph_quic_mark_dirty(conn);
    ph_quic_conn_settle(conn);
}

void ph_quic_conn_expire(struct ph_quic_conn *conn)
{
    uint64_t now = conn->ep->now;
    ph_quic_heap_remove(&conn->ep->heap, conn);
    if (conn->state == PH_QUIC_CLOSING || conn->state == PH_QUIC_DRAINING) {
        ph_quic_conn_die(conn);
        return;
    }
    if (conn->state != PH_QUIC_LIVE)
        return;
    /* Or the deadline was one of the streams: see ph_quic_conn_rearm(). */
    if (ngtcp2_conn_get_expiry(conn->qc) <= now) {
        int rv = ngtcp2_conn_handle_expiry(conn->qc, now);
        if (rv != 0)
            ph_quic_conn_fail(conn, rv);
    }
    ph_quic_mark_dirty(conn);
    ph_quic_conn_settle(conn);
}

void ph_quic_conn_rearm(struct ph_quic_conn *conn)
{
    uint64_t at =
        PH_MIN((uint64_t)ngtcp2_conn_get_expiry(conn->qc), ph_quic_streams_deadline(conn));
    ph_quic_heap_set(&conn->ep->heap, conn, at);
}

/* --- For the owner --- */

void ph_quic_conn_set_user(struct ph_quic_conn *conn, void *user)
{
    conn->user = user;
}

void *ph_quic_conn_user(const struct ph_quic_conn *conn)
{
    return conn->user;
}

bool ph_quic_conn_is_server(const struct ph_quic_conn *conn)
{
    return conn->server;
}

const struct ph_path *ph_quic_conn_path(const struct ph_quic_conn *conn)
{
    return &conn->path;
}

uint64_t ph_quic_conn_now(const struct ph_quic_conn *conn)
{
    return conn->ep->now;
}

uint64_t ph_quic_conn_rtt(const struct ph_quic_conn *conn)
{
    ngtcp2_conn_info info;
    if (conn->qc == NULL)
        return NGTCP2_DEFAULT_INITIAL_RTT;
    ngtcp2_conn_get_conn_info(conn->qc, &info);
    return info.smoothed_rtt;
}

int ph_quic_conn_open_stream(struct ph_quic_conn *conn, bool bidi, struct ph_quic_stream **out)
{
    int64_t id = -1;
    if (!ph_quic_conn_wants_events(conn))
        return PH_E_CLOSED;
    int rv = bidi ? ngtcp2_conn_open_bidi_stream(conn->qc, &id, NULL)
                  : ngtcp2_conn_open_uni_stream(conn->qc, &id, NULL);
    if (rv != 0) {
        *(bidi ? &conn->wants_bidi : &conn->wants_uni) = true;
        return PH_E_BLOCKED;
    }
    *out = ph_quic_stream_new(conn, id);
    ngtcp2_conn_set_stream_user_data(conn->qc, id, *out);
    return PH_OK;
}

size_t ph_quic_conn_max_datagram(const struct ph_quic_conn *conn)
{
    /* Short header with a full packet number, AEAD tag, frame type and length. */
    enum { HEADER = 1 + 4, TAG = 16, FRAME = 1 + 2 };
    if (conn->qc == NULL || conn->state != PH_QUIC_LIVE)
        return 0;
    const ngtcp2_transport_params *peer = ngtcp2_conn_get_remote_transport_params(conn->qc);
    if (peer == NULL || peer->max_datagram_frame_size <= FRAME)
        return 0;
    size_t overhead = HEADER + TAG + FRAME + ngtcp2_conn_get_dcid(conn->qc)->datalen;
    size_t path = ngtcp2_conn_get_path_max_tx_udp_payload_size(conn->qc) - overhead;
    uint64_t limit = peer->max_datagram_frame_size - FRAME;
    return limit < path ? (size_t)limit : path;
}
