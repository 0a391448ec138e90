/*
 * quic_events.c - the callbacks that ngtcp2 calls while it reads a packet, writes one, or runs a
 * timer.
 *
 * A callback may hand lent bytes to the sink (which only records), set bits and link objects onto
 * lists. It never writes a packet, never frees, never fails the library call for a reason of ours:
 * the connection is ended through conn->end_wanted after the library returned. Once an end is
 * wanted, nothing more is reported until on_closed.
 */
#include "quic_internal.h"

#if PH_QUIC_SCAN_FRAMES
/* ngtcp2 gives the decrypt callback no user pointer: this names the connection that is being fed on
 * this thread, between the start and the end of ngtcp2_conn_read_pkt(). */
static _Thread_local struct ph_quic_conn *feeding;
#endif

bool ph_quic_conn_wants_events(const struct ph_quic_conn *conn)
{
    return conn->ready && conn->state == PH_QUIC_LIVE && !conn->end_wanted;
}

void ph_quic_conn_ready(struct ph_quic_conn *conn)
{
    if (!conn->ready_pending || conn->end_wanted || conn->state != PH_QUIC_LIVE)
        return;
    conn->ready_pending = false;
    conn->ready = true;
    if (conn->server)
        ph_count(conn->ep->stats, conns_accepted);
    conn->ep->sink.on_ready(conn->ep->sink.self, conn);
}

/* --- Handshake --- */

static void on_rand(uint8_t *dest, size_t n, const ngtcp2_rand_ctx *ctx)
{
    ph_quic_rand(ctx->native_handle, dest, n);
}

static int on_tx_key(ngtcp2_conn *qc, ngtcp2_encryption_level level, void *user_data)
{
    struct ph_quic_conn *conn = user_data;
    (void)qc;
    if (level == NGTCP2_ENCRYPTION_LEVEL_1RTT)
        conn->ready_pending = true; /* on_ready waits until the library call is over */
    return 0;
}

static void submit_token(struct ph_quic_conn *conn)
{
    struct ph_quic_endpoint *ep = conn->ep;
    uint8_t token[NGTCP2_CRYPTO_MAX_REGULAR_TOKENLEN];
    struct ph_addr remote;
    ph_quic_sockaddr(&remote, &conn->path.remote);
    ngtcp2_ssize n = ngtcp2_crypto_generate_regular_token(
        token, ep->token_key, sizeof(ep->token_key), &remote.u.sa, remote.len, ep->now);
    if (n > 0)
        ngtcp2_conn_submit_new_token(conn->qc, token, (size_t)n);
}

static int on_handshake_completed(ngtcp2_conn *qc, void *user_data)
{
    struct ph_quic_conn *conn = user_data;
    (void)qc;
    conn->handshake_done = true;
    if (conn->half_open) {
        conn->half_open = false;
        conn->ep->half_open--;
    }
    if (!ph_quic_conn_enter_peer(conn)) {
        ph_quic_conn_refuse(conn);
        return 0;
    }
    if (conn->server) { /* one of each a connection: they are not worth hoarding */
        ph_tls_quic_send_ticket(conn->tls);
        submit_token(conn);
    }
    ph_quic_conn_ready(conn);
    if (ph_quic_conn_wants_events(conn))
        conn->ep->sink.on_handshake_done(conn->ep->sink.self, conn);
    return 0;
}

/* --- Streams --- */

static int on_stream_open(ngtcp2_conn *qc, int64_t id, void *user_data)
{
    struct ph_quic_conn *conn = user_data;
    ph_quic_conn_ready(conn);
    if (!ph_quic_conn_wants_events(conn))
        return 0;
    struct ph_quic_stream *stream = ph_quic_stream_new(conn, id);
    ngtcp2_conn_set_stream_user_data(qc, id, stream);
    conn->ep->sink.on_stream(conn->ep->sink.self, conn, stream);
    return 0;
}

static int on_stream_data(ngtcp2_conn *qc, uint32_t flags, int64_t id, uint64_t offset,
                          const uint8_t *data, size_t n, void *user_data, void *stream_user_data)
{
    struct ph_quic_conn *conn = user_data;
    struct ph_quic_stream *stream = stream_user_data;
    (void)id;
    (void)offset;
    if (stream == NULL || stream->stopped || !ph_quic_conn_wants_events(conn)) {
        ngtcp2_conn_extend_max_offset(qc, n); /* nobody will consume these */
        return 0;
    }
    bool fin = (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0;
    stream->unconsumed += n;
    stream->rx_fin = stream->rx_fin || fin;
    conn->ep->sink.on_data(conn->ep->sink.self, stream, data, n, fin);
    return 0;
}

static int on_stream_reset(ngtcp2_conn *qc, int64_t id, uint64_t final_size, uint64_t code,
                           void *user_data, void *stream_user_data)
{
    struct ph_quic_conn *conn = user_data;
    struct ph_quic_stream *stream = stream_user_data;
    (void)qc;
    (void)id;
    if (stream == NULL || stream->peer_reset || stream->rx_fin)
        return 0; /* RFC 9000 3.2: when everything was delivered, a reset changes nothing */
    stream->peer_reset = true;
    ph_quic_stream_give_back(stream);
    ph_quic_stream_record(stream);
    if (!stream->stopped && ph_quic_conn_wants_events(conn))
        conn->ep->sink.on_reset(conn->ep->sink.self, stream, code, final_size);
    return 0;
}

static int on_stream_close(ngtcp2_conn *qc, uint32_t flags, int64_t id, uint64_t code,
                           void *user_data, void *stream_user_data)
{
    struct ph_quic_stream *stream = stream_user_data;
    (void)qc;
    (void)flags;
    (void)id;
    (void)code;
    struct ph_quic_conn *conn = user_data;
    if (stream != NULL)
        ph_quic_stream_close(stream);
    else if (conn->zombies > 0)
        conn->zombies--; /* the library ended it after all */
    return 0;
}

static int on_acked(ngtcp2_conn *qc, int64_t id, uint64_t offset, uint64_t n, void *user_data,
                    void *stream_user_data)
{
    struct ph_quic_stream *stream = stream_user_data;
    (void)qc;
    (void)id;
    (void)offset;
    (void)user_data;
    if (stream != NULL && !stream->closed)
        ph_quic_stream_acked(stream, (size_t)n);
    return 0;
}

static int on_max_stream_data(ngtcp2_conn *qc, int64_t id, uint64_t max, void *user_data,
                              void *stream_user_data)
{
    struct ph_quic_stream *stream = stream_user_data;
    (void)qc;
    (void)id;
    (void)max;
    (void)user_data;
    if (stream != NULL && !stream->closed) {
        stream->blocked = false;
        ph_quic_stream_arm(stream);
    }
    return 0;
}

static int streams_available(struct ph_quic_conn *conn, bool bidi)
{
    bool *wants = bidi ? &conn->wants_bidi : &conn->wants_uni;
    if (!*wants || !ph_quic_conn_wants_events(conn))
        return 0;
    *wants = false;
    conn->ep->sink.on_streams_available(conn->ep->sink.self, conn, bidi);
    return 0;
}

static int on_max_streams_bidi(ngtcp2_conn *qc, uint64_t max, void *user_data)
{
    (void)qc;
    (void)max;
    return streams_available(user_data, true);
}

static int on_max_streams_uni(ngtcp2_conn *qc, uint64_t max, void *user_data)
{
    (void)qc;
    (void)max;
    return streams_available(user_data, false);
}

#if PH_QUIC_SCAN_FRAMES
/* A frame in a payload that the library has not processed yet may be for a stream that this very
 * packet opens: it is kept until it has been. What does not fit is noticed later: a stop at the
 * next write, without its code. */
static void note_early(struct ph_quic_early *list, unsigned *count, uint64_t id, uint64_t value)
{
    if (*count < PH_QUIC_EARLY)
        list[(*count)++] = (struct ph_quic_early){id, value};
}

static void note_stop(struct ph_quic_conn *conn, uint64_t id, uint64_t code)
{
    struct ph_quic_stream *stream = ph_map_get(&conn->streams, id);
    if (stream != NULL)
        ph_quic_stream_peer_stop(stream, code);
    else
        note_early(conn->early_stops, &conn->early_stops_count, id, code);
}

static void note_fin(struct ph_quic_conn *conn, uint64_t id, uint64_t offset)
{
    struct ph_quic_stream *stream = ph_map_get(&conn->streams, id);
    if (stream != NULL)
        ph_quic_stream_fin_seen(stream);
    else if (offset > 0) /* otherwise it is whole, and needs no help */
        note_early(conn->early_fins, &conn->early_fins_count, id, offset);
}

/* Credit and BLOCKED frames carry progress when they name a larger value than before. Those of
 * streams that are gone are only late. */
static void note_credit(struct ph_quic_conn *conn, uint64_t type, uint64_t id, uint64_t value)
{
    uint64_t *seen = &conn->seen_credit[type - PH_QUIC_MAX_DATA];
    if (type == PH_QUIC_MAX_STREAM_DATA || type == PH_QUIC_STREAM_DATA_BLOCKED) {
        struct ph_quic_stream *stream = ph_map_get(&conn->streams, id);
        if (stream == NULL)
            return;
        seen = type == PH_QUIC_MAX_STREAM_DATA ? &stream->seen_max : &stream->seen_blocked;
    }
    if (value > *seen)
        *seen = value;
    else
        conn->idle_frames++;
}

static void on_value(void *self, uint64_t type, uint64_t id, uint64_t value)
{
    if (type == PH_QUIC_STOP_SENDING)
        note_stop(self, id, value);
    else if (type == PH_QUIC_STREAM)
        note_fin(self, id, value);
    else
        note_credit(self, type, id, value);
}

static void scan_payload(struct ph_quic_conn *conn, const uint8_t *p, size_t n)
{
    struct ph_quic_scan scan = {.self = conn, .on_value = on_value};
    ph_quic_scan_frames(&scan, p, n);
    conn->idle_frames += scan.idle;
}

static int on_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *aead_ctx, const uint8_t *ciphertext,
                      size_t ciphertextlen, const uint8_t *nonce, size_t noncelen,
                      const uint8_t *aad, size_t aadlen)
{
    int rv = ngtcp2_crypto_decrypt_cb(dest, aead, aead_ctx, ciphertext, ciphertextlen, nonce,
                                      noncelen, aad, aadlen);
    bool short_header = aadlen > 0 && (aad[0] & 0x80) == 0;
    if (rv == 0 && short_header && feeding != NULL && ciphertextlen >= aead->max_overhead)
        scan_payload(feeding, dest, ciphertextlen - aead->max_overhead);
    return rv;
}

void ph_quic_conn_begin_feed(struct ph_quic_conn *conn)
{
    feeding = conn;
    conn->early_stops_count = conn->early_fins_count = 0;
    conn->idle_frames = 0;
}

void ph_quic_conn_end_feed(struct ph_quic_conn *conn)
{
    feeding = NULL;
    for (unsigned i = 0; i < conn->early_stops_count; i++) {
        struct ph_quic_stream *stream = ph_map_get(&conn->streams, conn->early_stops[i].id);
        if (stream != NULL)
            ph_quic_stream_peer_stop(stream, conn->early_stops[i].value);
    }
    for (unsigned i = 0; i < conn->early_fins_count; i++) {
        struct ph_quic_stream *stream = ph_map_get(&conn->streams, conn->early_fins[i].id);
        if (stream != NULL)
            ph_quic_stream_fin_seen(stream);
    }
    if (conn->idle_frames > 0)
        ph_quic_conn_glitch(conn, conn->idle_frames);
}
#else
static int on_stop_sending(ngtcp2_conn *qc, int64_t id, uint64_t code, void *user_data,
                           void *stream_user_data)
{
    struct ph_quic_stream *stream = stream_user_data;
    (void)qc;
    (void)id;
    (void)user_data;
    if (stream != NULL && !stream->closed)
        ph_quic_stream_peer_stop(stream, code);
    return 0;
}

void ph_quic_conn_begin_feed(struct ph_quic_conn *conn)
{
    (void)conn;
}

void ph_quic_conn_end_feed(struct ph_quic_conn *conn)
{
    (void)conn;
}
#endif

/* --- Datagrams --- */

static int on_datagram(ngtcp2_conn *qc, uint32_t flags, const uint8_t *data, size_t n,
                       void *user_data)
{
    struct ph_quic_conn *conn = user_data;
    (void)qc;
    (void)flags;
    ph_quic_conn_ready(conn);
    if (ph_quic_conn_wants_events(conn))
        conn->ep->sink.on_datagram(conn->ep->sink.self, conn, data, n);
    return 0;
}

static int on_datagram_acked(ngtcp2_conn *qc, uint64_t id, void *user_data)
{
    struct ph_quic_conn *conn = user_data;
    (void)qc;
    (void)id;
    ph_count(conn->ep->stats, datagrams_acked);
    return 0;
}

static int on_datagram_lost(ngtcp2_conn *qc, uint64_t id, void *user_data)
{
    struct ph_quic_conn *conn = user_data;
    (void)qc;
    (void)id;
    ph_count(conn->ep->stats, datagrams_lost);
    return 0;
}

/* --- Connection ids and resets --- */

static int on_new_cid(ngtcp2_conn *qc, ngtcp2_cid *cid, uint8_t *token, size_t cidlen,
                      void *user_data)
{
    struct ph_quic_conn *conn = user_data;
    (void)qc;
    (void)cidlen;
    ph_quic_cid_new(conn->ep, cid);
    ph_quic_reset_token(conn->ep, cid, token);
    ph_quic_conn_cid_add(conn, cid);
    /* A peer that retires ids as fast as it gets them makes us work for nothing. */
    if (conn->handshake_done && !ph_bucket_take(&conn->cid_issue, 1, conn->ep->now))
        ph_quic_conn_glitch(conn, (unsigned)conn->ep->config.glitch_burst);
    return 0;
}

static int on_remove_cid(ngtcp2_conn *qc, const ngtcp2_cid *cid, void *user_data)
{
    (void)qc;
    ph_quic_conn_cid_remove(user_data, cid);
    return 0;
}

static int on_peer_cid(ngtcp2_conn *qc, ngtcp2_connection_id_status_type type, uint64_t seq,
                       const ngtcp2_cid *cid, const uint8_t *token, void *user_data)
{
    (void)qc;
    (void)seq;
    (void)cid;
    if (token != NULL)
        ph_quic_conn_peer_token(user_data, token,
                                type == NGTCP2_CONNECTION_ID_STATUS_TYPE_ACTIVATE);
    return 0;
}

static int on_stateless_reset(ngtcp2_conn *qc, const ngtcp2_pkt_stateless_reset *sr,
                              void *user_data)
{
    struct ph_quic_conn *conn = user_data;
    (void)qc;
    (void)sr;
    conn->stateless_reset = true;
    return 0;
}

void ph_quic_callbacks(ngtcp2_callbacks *callbacks, bool server)
{
    *callbacks = (ngtcp2_callbacks)
    {
        .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb, .encrypt = ngtcp2_crypto_encrypt_cb,
#if PH_QUIC_SCAN_FRAMES
        .decrypt = on_decrypt,
#else
        .decrypt = ngtcp2_crypto_decrypt_cb, .recv_stop_sending = on_stop_sending,
#endif
        .hp_mask = ngtcp2_crypto_hp_mask_cb, .rand = on_rand,
        .update_key = ngtcp2_crypto_update_key_cb,
        .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
        .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
        .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
        .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
        .handshake_completed = on_handshake_completed, .recv_tx_key = on_tx_key,
        .stream_open = on_stream_open, .recv_stream_data = on_stream_data,
        .stream_reset = on_stream_reset, .stream_close = on_stream_close,
        .acked_stream_data_offset = on_acked, .extend_max_stream_data = on_max_stream_data,
        .extend_max_local_streams_bidi = on_max_streams_bidi,
        .extend_max_local_streams_uni = on_max_streams_uni, .recv_datagram = on_datagram,
        .ack_datagram = on_datagram_acked, .lost_datagram = on_datagram_lost,
        .get_new_connection_id = on_new_cid, .remove_connection_id = on_remove_cid,
        .dcid_status = on_peer_cid, .recv_stateless_reset = on_stateless_reset,
    };
    if (server) {
        callbacks->recv_client_initial = ngtcp2_crypto_recv_client_initial_cb;
    } else {
        callbacks->client_initial = ngtcp2_crypto_client_initial_cb;
        callbacks->recv_retry = ngtcp2_crypto_recv_retry_cb;
    }
}
