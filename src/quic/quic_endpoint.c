/*
 * quic_endpoint.c - what happens to a UDP payload before a connection sees it, and the life of all
 * connections of one worker.
 *
 *      payload -> version and ids -> known id? -> connection
 *                                 -> unknown version: Version Negotiation
 *                                 -> Initial: token? Retry? limits -> new connection
 *                                 -> another worker's id: passed on
 *                                 -> short header: stateless reset
 *
 * Invariants: an answer without state is never larger than what caused it, is rate-limited, and
 * goes only to payloads that could be honest (RFC 9000 6.1, 8.1, 10.3, 14.1). State is allocated
 * for a well-formed Initial of at least 1200 bytes, below the half-open limit, and nothing else.
 */
#include "quic_internal.h"

/* Source ports of services that answer anybody: a forged request from there would make us attack
 * them (QUICforge). */
static const uint16_t reflector_ports[] = {0,   17,  19,  53,   69,   111,  123,
                                           137, 161, 389, 1900, 3702, 5353, 11211};

void ph_quic_config_default(struct ph_quic_config *config)
{
    *config = (struct ph_quic_config){
        .alpn = "h3",
        .half_open_retry = 512,
        .half_open_max = 4096,
        .max_conns = 16384,
        .idle_timeout = 30 * PH_SEC,
        .handshake_timeout = 10 * PH_SEC,
        .max_streams_bidi = 1024,
        .max_streams_uni = 1024,
        .stream_window = 256 * 1024,
        .conn_window = 1024 * 1024,
        .window_max = 4 * 1024 * 1024,
        .max_datagram_frame = 1500,
        .vn_rate = 100,
        .retry_rate = 10000,
        .reset_rate = 100,
        .glitch_burst = 10000,
        .glitch_rate = 330,
    };
}

/* --- Helpers shared with the connections --- */

void ph_quic_rand(struct ph_quic_endpoint *ep, void *out, size_t n)
{
    if (ep->config.rand != NULL)
        ep->config.rand(ep->config.rand_ctx, out, n);
    else
        ph_random(out, n);
}

void ph_quic_cid_new(struct ph_quic_endpoint *ep, ngtcp2_cid *cid)
{
    cid->datalen = PH_QUIC_CID_LEN;
    ph_u16_put(cid->data, ep->config.worker);
    ph_quic_rand(ep, cid->data + 2, PH_QUIC_CID_LEN - 2);
}

void ph_quic_reset_token(const struct ph_quic_endpoint *ep, const ngtcp2_cid *cid, uint8_t *token)
{
    int rv = ngtcp2_crypto_generate_stateless_reset_token(token, ep->reset_key,
                                                          sizeof(ep->reset_key), cid);
    PH_ASSERT(rv == 0);
}

void ph_quic_mark_dirty(struct ph_quic_conn *conn)
{
    if (conn->state != PH_QUIC_DEAD && !ph_link_is_on(&conn->dirty))
        ph_list_append(&conn->ep->dirty, &conn->dirty);
}

/* Tokens are bound to the bytes of the address: padding and scope must not differ between two
 * packets of the same peer. */
void ph_quic_sockaddr(struct ph_addr *out, const struct ph_addr *in)
{
    memset(out, 0, sizeof(*out));
    if (in->u.sa.sa_family == AF_INET6) {
        out->u.in6.sin6_family = AF_INET6;
        out->u.in6.sin6_port = in->u.in6.sin6_port;
        out->u.in6.sin6_addr = in->u.in6.sin6_addr;
        out->len = sizeof(out->u.in6);
    } else {
        out->u.in.sin_family = AF_INET;
        out->u.in.sin_port = in->u.in.sin_port;
        out->u.in.sin_addr = in->u.in.sin_addr;
        out->len = sizeof(out->u.in);
    }
}

void ph_quic_path_out(ngtcp2_path *out, const struct ph_path *path)
{
    *out = (ngtcp2_path){
        .local = {.addr = (ngtcp2_sockaddr *)(uintptr_t)&path->local.u.sa,
                  .addrlen = path->local.len},
        .remote = {.addr = (ngtcp2_sockaddr *)(uintptr_t)&path->remote.u.sa,
                   .addrlen = path->remote.len},
        .user_data = path->sock,
    };
}

static void addr_in(struct ph_addr *out, const ngtcp2_addr *addr)
{
    memset(out, 0, sizeof(*out));
    PH_ASSERT(addr->addrlen <= sizeof(out->u));
    memcpy(&out->u, addr->addr, addr->addrlen);
    out->len = addr->addrlen;
}

void ph_quic_path_in(struct ph_path *out, const ngtcp2_path *path)
{
    addr_in(&out->local, &path->local);
    addr_in(&out->remote, &path->remote);
    out->sock = path->user_data;
}

/* --- Stateless answers --- */

static void send_version_negotiation(struct ph_quic_endpoint *ep, const struct ph_path *path,
                                     const ngtcp2_version_cid *vc, size_t trigger)
{
    uint8_t buf[PH_QUIC_MIN_INITIAL];
    uint8_t noise = 0;
    if (ep->config.cred == NULL || trigger < PH_QUIC_MIN_INITIAL ||
        !ph_bucket_take(&ep->vn, 1, ep->now)) {
        ph_count(ep->stats, packets_dropped);
        return;
    }
    ph_quic_rand(ep, &noise, 1);
    /* A reserved version keeps clients honest about unknown ones (RFC 9000 15). */
    uint32_t versions[] = {0x0a0a0a0au ^ ((uint32_t)(noise & 0xf0) << 24), NGTCP2_PROTO_VER_V1,
                           NGTCP2_PROTO_VER_V2};
    ngtcp2_ssize n = ngtcp2_pkt_write_version_negotiation(buf, sizeof(buf), noise, vc->scid,
                                                          vc->scidlen, vc->dcid, vc->dcidlen,
                                                          versions, PH_COUNT_OF(versions));
    if (n <= 0)
        return;
    ph_count(ep->stats, version_negotiations);
    ph_quic_send_once(ep, path, buf, (size_t)n);
}

static void send_reset(struct ph_quic_endpoint *ep, const struct ph_path *path,
                       const ngtcp2_version_cid *vc, size_t trigger)
{
    uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN];
    uint8_t noise[PH_QUIC_MIN_RESET_TRIGGER], buf[PH_QUIC_MIN_RESET_TRIGGER];
    if (ep->config.cred == NULL || trigger < PH_QUIC_MIN_RESET_TRIGGER ||
        !ph_bucket_take(&ep->reset, 1, ep->now)) {
        ph_count(ep->stats, packets_dropped);
        return;
    }
    ngtcp2_cid cid;
    ngtcp2_cid_init(&cid, vc->dcid, vc->dcidlen);
    ph_quic_reset_token(ep, &cid, token);
    size_t len = PH_MIN(trigger - 1, sizeof(buf)); /* shorter each time: two servers cannot loop */
    ph_quic_rand(ep, noise, sizeof(noise));
    ngtcp2_ssize n = ngtcp2_pkt_write_stateless_reset(buf, len, token, noise,
                                                      len - NGTCP2_STATELESS_RESET_TOKENLEN);
    if (n <= 0)
        return;
    ph_count(ep->stats, resets_sent);
    ph_quic_send_once(ep, path, buf, (size_t)n);
}

/* CONNECTION_CLOSE in an Initial packet, for a connection that is not made. */
static void send_refusal(struct ph_quic_endpoint *ep, const struct ph_path *path,
                         const ngtcp2_pkt_hd *hd, uint64_t code)
{
    uint8_t buf[256];
    if (!ph_bucket_take(&ep->retry, 1, ep->now))
        return;
    ngtcp2_ssize n = ngtcp2_crypto_write_connection_close(buf, sizeof(buf), hd->version, &hd->scid,
                                                          &hd->dcid, code, NULL, 0);
    if (n > 0)
        ph_quic_send_once(ep, path, buf, (size_t)n);
}

static void send_retry(struct ph_quic_endpoint *ep, const struct ph_path *path,
                       const ngtcp2_pkt_hd *hd)
{
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2], buf[PH_QUIC_MIN_INITIAL];
    struct ph_addr remote;
    ngtcp2_cid scid;
    if (!ph_bucket_take(&ep->retry, 1, ep->now)) {
        ph_count(ep->stats, packets_dropped);
        return;
    }
    ph_quic_sockaddr(&remote, &path->remote);
    ph_quic_cid_new(ep, &scid);
    if (ngtcp2_cid_eq(&scid, &hd->dcid)) { /* forbidden (RFC 9000 17.2.5.1); the library asserts */
        ph_count(ep->stats, packets_dropped);
        return;
    }
    ngtcp2_ssize len = ngtcp2_crypto_generate_retry_token2(
        token, ep->token_key, sizeof(ep->token_key), hd->version, &remote.u.sa, remote.len, &scid,
        &hd->dcid, ep->now);
    if (len < 0)
        return;
    ngtcp2_ssize n = ngtcp2_crypto_write_retry(buf, sizeof(buf), hd->version, &hd->scid, &scid,
                                               &hd->dcid, token, (size_t)len);
    if (n <= 0)
        return;
    ph_count(ep->stats, retries_sent);
    ph_quic_send_once(ep, path, buf, (size_t)n);
}

/* --- Accepting --- */

enum token_verdict { TOKEN_NONE, TOKEN_VALID, TOKEN_INVALID };

/* A token that cannot be read is no token at all: the address stays unvalidated. A Retry token that
 * can be read and does not fit is the client's mistake or theft (RFC 9000 8.1.3). */
static enum token_verdict check_token(struct ph_quic_endpoint *ep, const struct ph_path *path,
                                      struct ph_quic_accept *accept, ngtcp2_cid *odcid)
{
    const ngtcp2_pkt_hd *hd = accept->hd;
    struct ph_addr remote;
    if (hd->tokenlen == 0)
        return TOKEN_NONE;
    ph_quic_sockaddr(&remote, &path->remote);
    if (hd->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2) {
        int rv = ngtcp2_crypto_verify_retry_token2(
            odcid, hd->token, hd->tokenlen, ep->token_key, sizeof(ep->token_key), hd->version,
            &remote.u.sa, remote.len, &hd->dcid, PH_QUIC_RETRY_LIFE, ep->now);
        if (rv == NGTCP2_CRYPTO_ERR_VERIFY_TOKEN)
            return TOKEN_INVALID;
        if (rv != 0)
            return TOKEN_NONE;
        accept->odcid = odcid;
        accept->token_type = NGTCP2_TOKEN_TYPE_RETRY;
        return TOKEN_VALID;
    }
    if (hd->token[0] != NGTCP2_CRYPTO_TOKEN_MAGIC_REGULAR ||
        ngtcp2_crypto_verify_regular_token(hd->token, hd->tokenlen, ep->token_key,
                                           sizeof(ep->token_key), &remote.u.sa, remote.len,
                                           PH_QUIC_TOKEN_LIFE, ep->now) != 0)
        return TOKEN_NONE;
    accept->token_type = NGTCP2_TOKEN_TYPE_NEW_TOKEN;
    return TOKEN_VALID;
}

static bool is_reflector(const struct ph_path *path)
{
    uint16_t port = ph_addr_port(&path->remote);
    for (size_t i = 0; i < PH_COUNT_OF(reflector_ports); i++) {
        if (reflector_ports[i] == port)
            return true;
    }
    return false;
}

/* Hands on the packets that carry the datagram's first id. Others are wiped, not cut off: the size
 * of a datagram with an Initial packet counts (RFC 9000 14.1). */
static void feed_coalesced(struct ph_quic_conn *conn, const struct ph_path *path, uint8_t ecn,
                           const uint8_t *data, size_t n, const ngtcp2_version_cid *vc)
{
    size_t len = ph_quic_coalesced_len(data, n, vc->dcid, vc->dcidlen);
    if (len < n && n <= PH_QUIC_MAX_BATCH_BYTES) {
        uint8_t *scratch = conn->ep->batch; /* free outside of flush */
        memcpy(scratch, data, len);
        memset(scratch + len, 0, n - len);
        data = scratch;
    }
    ph_quic_conn_feed(conn, path, ecn, data, n);
}

/* Hands the first datagram to its new connection. A ClientHello whose beginning is not in it would
 * have to be buffered for an address that nobody has validated: the library then asks for Retry. */
static void feed_first(struct ph_quic_endpoint *ep, const struct ph_path *path, uint8_t ecn,
                       const uint8_t *data, size_t n, const ngtcp2_version_cid *vc,
                       const struct ph_quic_accept *accept)
{
    const ngtcp2_pkt_hd *hd = accept->hd;
    struct ph_quic_conn *conn = ph_quic_conn_accept(ep, path, accept);
    if (conn == NULL)
        return;
    feed_coalesced(conn, path, ecn, data, n, vc);
    if (conn->retry_wanted)
        send_retry(ep, path, hd);
}

/* The peer's own places are looked at, but taken only when its address is proven. */
static bool has_room(struct ph_quic_endpoint *ep, const struct ph_path *path)
{
    if (ep->alive >= ep->config.max_conns) {
        ph_count(ep->stats, limit_conns);
        return false;
    }
    if (ep->config.admission == NULL)
        return true;
    enum ph_admit verdict = ph_admission_check(ep->config.admission, &path->remote);
    if (verdict != PH_ADMIT_OK)
        ph_log_limited(&ep->log, ep->now, PH_LOG_WARNING, "quic: connection refused limit=%s",
                       ph_admit_name(verdict));
    return verdict == PH_ADMIT_OK;
}

/* Decides about the first packet of a connection. */
static void accept_initial(struct ph_quic_endpoint *ep, const struct ph_path *path, uint8_t ecn,
                           const uint8_t *data, size_t n, const ngtcp2_version_cid *vc)
{
    ngtcp2_pkt_hd hd;
    ngtcp2_cid odcid;
    struct ph_quic_accept accept = {.hd = &hd};
    if (ep->config.cred == NULL || n < PH_QUIC_MIN_INITIAL || ngtcp2_accept(&hd, data, n) != 0 ||
        hd.dcid.datalen < NGTCP2_MIN_INITIAL_DCIDLEN || is_reflector(path)) {
        ph_count(ep->stats, packets_dropped);
        return;
    }
    if (ep->half_open >= ep->config.half_open_max) {
        ph_count(ep->stats, handshakes_refused);
        return;
    }
    if (ep->refusing || !has_room(ep, path)) {
        send_refusal(ep, path, &hd, NGTCP2_CONNECTION_REFUSED);
        return;
    }
    enum token_verdict verdict = check_token(ep, path, &accept, &odcid);
    if (verdict == TOKEN_INVALID) {
        send_refusal(ep, path, &hd, NGTCP2_INVALID_TOKEN);
        return;
    }
    accept.token_valid = verdict == TOKEN_VALID;
    if (!accept.token_valid &&
        (ep->config.always_retry || ep->half_open >= ep->config.half_open_retry)) {
        send_retry(ep, path, &hd);
        return;
    }
    feed_first(ep, path, ecn, data, n, vc, &accept);
}

/* A stateless reset has a random connection id: it is known by its last 16 bytes (RFC 9000 10.3.1).
 */
static struct ph_quic_conn *find_by_token(const struct ph_quic_endpoint *ep, const uint8_t *data,
                                          size_t n)
{
    if (n < NGTCP2_STATELESS_RESET_TOKENLEN + NGTCP2_MIN_STATELESS_RESET_RANDLEN)
        return NULL;
    return ph_cidmap_get(&ep->peer_tokens, data + n - NGTCP2_STATELESS_RESET_TOKENLEN,
                         NGTCP2_STATELESS_RESET_TOKENLEN);
}

/* Only whom an id names can tell that it leads nowhere: it alone may answer with a reset. */
static bool forward(struct ph_quic_endpoint *ep, const struct ph_path *path, uint8_t ecn,
                    const uint8_t *data, size_t n)
{
    int worker = ph_quic_packet_worker(data, n);
    return ep->out.forward != NULL && worker >= 0 && worker != ep->config.worker &&
           ep->out.forward(ep->out.self, (uint16_t)worker, path, ecn, data, n);
}

static void feed(struct ph_quic_endpoint *ep, const struct ph_path *path, uint8_t ecn,
                 const uint8_t *data, size_t n, bool adopted)
{
    ngtcp2_version_cid vc;
    int rv = n == 0 ? NGTCP2_ERR_INVALID_ARGUMENT
                    : ngtcp2_pkt_decode_version_cid(&vc, data, n, PH_QUIC_CID_LEN);
    if (rv == NGTCP2_ERR_VERSION_NEGOTIATION) {
        send_version_negotiation(ep, path, &vc, n);
        return;
    }
    if (rv != 0 || vc.dcidlen > NGTCP2_MAX_CIDLEN) {
        ph_count(ep->stats, packets_dropped);
        return;
    }
    struct ph_quic_conn *conn = ph_cidmap_get(&ep->cids, vc.dcid, vc.dcidlen);
    bool long_header = (data[0] & 0x80) != 0;
    if (conn == NULL && !long_header)
        conn = find_by_token(ep, data, n);
    if (conn != NULL && long_header)
        feed_coalesced(conn, path, ecn, data, n, &vc);
    else if (conn != NULL)
        ph_quic_conn_feed(conn, path, ecn, data, n);
    else if (!adopted && forward(ep, path, ecn, data, n))
        return;
    else if (long_header)
        accept_initial(ep, path, ecn, data, n, &vc);
    else
        send_reset(ep, path, &vc, n);
}

void ph_quic_endpoint_feed(struct ph_quic_endpoint *ep, const struct ph_path *path, uint8_t ecn,
                           const uint8_t *data, size_t n, uint64_t now)
{
    ep->now = now;
    feed(ep, path, ecn, data, n, false);
}

void ph_quic_endpoint_feed_adopted(struct ph_quic_endpoint *ep, const struct ph_path *path,
                                   uint8_t ecn, const uint8_t *data, size_t n, uint64_t now)
{
    ep->now = now;
    feed(ep, path, ecn, data, n, true);
}

/* --- Life --- */

static void derive(const struct ph_quic_config *config, const char *label, uint8_t out[32])
{
    ngtcp2_crypto_md md;
    ngtcp2_crypto_md_init(&md, (void *)(uintptr_t)GNUTLS_DIG_SHA256);
    int rv = ngtcp2_crypto_hkdf(out, 32, &md, config->secret, sizeof(config->secret), NULL, 0,
                                (const uint8_t *)label, strlen(label));
    PH_ASSERT(rv == 0);
}

int ph_quic_endpoint_new(struct ph_quic_endpoint **out_ep, const struct ph_quic_config *config,
                         const struct ph_quic_sink *sink, const struct ph_quic_out *out,
                         struct ph_stats *stats, uint64_t now, struct ph_err *err)
{
    if (config->alpn == NULL || config->alpn[0] == '\0' || config->window_max > PH_VARINT_MAX ||
        config->stream_window > config->window_max || config->conn_window > config->window_max)
        return ph_fail(err, PH_E_CONFIG,
                       "quic: windows must not exceed the maximal window, and alpn must be set");
    struct ph_quic_endpoint *ep = ph_alloc(sizeof(*ep));
    ep->config = *config;
    ep->alpn = ph_strdup(config->alpn);
    ep->config.alpn = ep->alpn;
    if (config->cred != NULL)
        ph_tls_cred_ref(config->cred);
    ep->sink = *sink;
    ep->out = *out;
    ep->stats = stats;
    ep->now = now;
    derive(config, "pronghorn quic token", ep->token_key);
    derive(config, "pronghorn quic reset", ep->reset_key);
    explicit_bzero(ep->config.secret, sizeof(ep->config.secret)); /* the keys are all we need */
    ph_cidmap_init(&ep->cids);
    ph_cidmap_init(&ep->peer_tokens);
    ph_list_init(&ep->conns);
    ph_list_init(&ep->dirty);
    ph_list_init(&ep->dead);
    ph_list_init(&ep->streams);
    ph_list_init(&ep->held);
    ph_bucket_init(&ep->vn, config->vn_rate, config->vn_rate, now);
    ph_bucket_init(&ep->retry, config->retry_rate, config->retry_rate, now);
    ph_bucket_init(&ep->reset, config->reset_rate, config->reset_rate, now);
    ep->batch = ph_alloc(PH_QUIC_MAX_BATCH_BYTES + NGTCP2_MAX_UDP_PAYLOAD_SIZE * 2);
    *out_ep = ep;
    return PH_OK;
}

void ph_quic_endpoint_set_cred(struct ph_quic_endpoint *ep, struct ph_tls_cred *cred)
{
    struct ph_tls_cred *old = ep->config.cred;
    ep->config.cred = ph_tls_cred_ref(cred);
    ph_tls_cred_unref(old);
}

void ph_quic_endpoint_free(struct ph_quic_endpoint *ep)
{
    struct ph_link *link;
    if (ep == NULL)
        return;
    while ((link = ep->conns.next) != &ep->conns) {
        struct ph_quic_conn *conn = PH_CONTAINER(link, struct ph_quic_conn, link);
        if (conn->state == PH_QUIC_LIVE) {
            conn->silent = conn->end_wanted = true;
            conn->draining = false;
            ph_quic_conn_settle(conn);
        } else {
            ph_quic_conn_die(conn);
        }
    }
    ph_quic_endpoint_reap(ep);
    while ((link = ph_list_take(&ep->held)) != NULL) {
        struct ph_quic_held *held = PH_CONTAINER(link, struct ph_quic_held, link);
        ph_free(held->data);
        ph_free(held);
    }
    ph_quic_heap_fini(&ep->heap);
    ph_cidmap_fini(&ep->cids);
    ph_cidmap_fini(&ep->peer_tokens);
    if (ep->config.cred != NULL)
        ph_tls_cred_unref(ep->config.cred);
    ph_free(ep->alpn);
    ph_free(ep->batch);
    ph_free(ep);
}

void ph_quic_endpoint_tell(struct ph_quic_endpoint *ep, uint64_t now)
{
    ep->now = now;
}

void ph_quic_endpoint_expire(struct ph_quic_endpoint *ep, uint64_t now)
{
    struct ph_quic_conn *conn;
    ep->now = now;
    while ((conn = ph_quic_heap_top(&ep->heap)) != NULL && conn->expiry <= now)
        ph_quic_conn_expire(conn); /* leaves the heap; flush puts it back */
}

uint64_t ph_quic_endpoint_next(const struct ph_quic_endpoint *ep)
{
    for (const struct ph_link *l = ep->dirty.next; l != &ep->dirty; l = l->next) {
        const struct ph_quic_conn *conn = PH_CONTAINER(l, struct ph_quic_conn, dirty);
        if (!ph_quic_endpoint_is_blocked(ep, conn->path.sock))
            return ep->now;
    }
    const struct ph_quic_conn *top = ph_quic_heap_top(&ep->heap);
    return top == NULL ? PH_NEVER : top->expiry;
}

void ph_quic_endpoint_flush(struct ph_quic_endpoint *ep, uint64_t now)
{
    /* What flushing one connection gives others (or itself) to do is done in the next rounds. */
    enum { ROUNDS = 4 };
    struct ph_link full;
    ep->now = now;
    ph_list_init(&full);
    for (int i = 0; i < ROUNDS && !ph_list_is_empty(&ep->dirty); i++) {
        struct ph_link round, *link;
        ph_list_init(&round);
        while ((link = ph_list_take(&ep->dirty)) != NULL)
            ph_list_append(&round, link);
        while ((link = ph_list_take(&round)) != NULL) {
            struct ph_quic_conn *conn = PH_CONTAINER(link, struct ph_quic_conn, dirty);
            if (ph_quic_conn_flush(conn, now))
                continue;
            ph_list_remove(&conn->dirty);
            ph_list_append(&full, &conn->dirty);
        }
    }
    struct ph_link *link;
    while ((link = ph_list_take(&full)) != NULL)
        ph_list_append(&ep->dirty, link);
}

void ph_quic_endpoint_reap(struct ph_quic_endpoint *ep)
{
    struct ph_link *link;
    while ((link = ph_list_take(&ep->streams)) != NULL)
        ph_quic_stream_free(PH_CONTAINER(link, struct ph_quic_stream, link));
    while ((link = ph_list_take(&ep->dead)) != NULL)
        ph_quic_conn_free(PH_CONTAINER(link, struct ph_quic_conn, link));
}

void ph_quic_endpoint_refuse(struct ph_quic_endpoint *ep)
{
    ep->refusing = true;
}

void ph_quic_endpoint_close(struct ph_quic_endpoint *ep, uint64_t code, uint64_t now)
{
    struct ph_link *link = ep->conns.next;
    ep->now = now;
    while (link != &ep->conns) {
        struct ph_quic_conn *conn = PH_CONTAINER(link, struct ph_quic_conn, link);
        link = link->next;
        ph_quic_conn_close(conn, code, NULL);
        ph_quic_conn_settle(conn);
    }
}

bool ph_quic_endpoint_shed(struct ph_quic_endpoint *ep, uint64_t now)
{
    ep->now = now;
    for (struct ph_link *link = ep->conns.prev; link != &ep->conns; link = link->prev) {
        struct ph_quic_conn *conn = PH_CONTAINER(link, struct ph_quic_conn, link);
        if (conn->state != PH_QUIC_LIVE)
            continue;
        ph_quic_conn_end_for_memory(conn);
        ph_quic_conn_settle(conn);
        return true;
    }
    return false;
}

size_t ph_quic_endpoint_conns(const struct ph_quic_endpoint *ep)
{
    return ep->alive;
}

size_t ph_quic_endpoint_half_open(const struct ph_quic_endpoint *ep)
{
    return ep->half_open;
}

int ph_quic_endpoint_connect(struct ph_quic_endpoint *ep, struct ph_quic_conn **out,
                             const struct ph_path *path, struct ph_tls_cred *cred,
                             const char *server_name, uint64_t now)
{
    ep->now = now;
    struct ph_quic_conn *conn = ph_quic_conn_connect(ep, path, cred, server_name);
    if (conn == NULL)
        return PH_E_TLS;
    *out = conn;
    return PH_OK;
}
