/* hostile.c - a QUIC client with the wrong frames; see hostile.h. */
#include "hostile.h"

#include <gnutls/gnutls.h>
#include <malloc.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <stdlib.h>

enum { PACKET = 1200, FILLER = 1100 };

struct hostile {
    struct sim *sim;
    struct sim_node *node;
    struct ph_addr server;
    ngtcp2_conn *qc;
    ngtcp2_crypto_conn_ref ref;
    gnutls_session_t tls;
    bool confirmed, closed, app, split;
    uint64_t code;
    int64_t filler_stream;
    uint8_t token[256];
    size_t token_len;
    unsigned tokens;
    const uint8_t *frames; /* for the packet being written */
    size_t frames_len;
};

static struct hostile *current; /* the encrypt callback has no user pointer */

static ngtcp2_conn *qc_of(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct hostile *)ref->user_data)->qc;
}

/* CRYPTO at offset 0 becomes CRYPTO at offset 100. */
static void split_hello(uint8_t *plain, size_t n, const uint8_t *original)
{
    enum { CUT = 100 };
    uint64_t len = 0;
    if (original[0] != 6 || original[1] != 0)
        return;
    size_t used = ph_varint_get(original + 2, n - 2, &len);
    memset(plain, 0, n);
    uint8_t *p = plain;
    *p++ = 6;
    p = ph_varint_put(p, CUT);
    p = ph_varint_put(p, len - CUT);
    memcpy(p, original + 2 + used + CUT, len - CUT);
}

static int on_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *aead_ctx, const uint8_t *plaintext, size_t n,
                      const uint8_t *nonce, size_t noncelen, const uint8_t *aad, size_t aadlen)
{
    uint8_t plain[2 * PACKET];
    PH_ASSERT(n <= sizeof(plain));
    memcpy(plain, plaintext, n);
    bool short_header = (aad[0] & 0x80) == 0;
    if (short_header && current->frames != NULL && current->frames_len <= n) {
        memset(plain, 0, n);
        memcpy(plain, current->frames, current->frames_len);
        current->frames = NULL;
    } else if (!short_header && current->split) {
        current->split = false;
        split_hello(plain, n, plaintext);
    }
    return ngtcp2_crypto_encrypt_cb(dest, aead, aead_ctx, plain, n, nonce, noncelen, aad, aadlen);
}

static void on_rand(uint8_t *dest, size_t n, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        dest[i] = (uint8_t)sim_rng_next(&current->node->rng);
}

static int on_new_cid(ngtcp2_conn *qc, ngtcp2_cid *cid, uint8_t *token, size_t len, void *self)
{
    (void)qc;
    (void)self;
    cid->datalen = len;
    on_rand(cid->data, len, NULL);
    on_rand(token, NGTCP2_STATELESS_RESET_TOKENLEN, NULL);
    return 0;
}

static int on_confirmed(ngtcp2_conn *qc, void *self)
{
    (void)qc;
    ((struct hostile *)self)->confirmed = true;
    return 0;
}

static int on_new_token(ngtcp2_conn *qc, const uint8_t *token, size_t n, void *self)
{
    struct hostile *hostile = self;
    (void)qc;
    PH_ASSERT(n <= sizeof(hostile->token) && ++hostile->tokens == 1);
    memcpy(hostile->token, token, n);
    hostile->token_len = n;
    return 0;
}

/* --- Packets --- */

static void flush(struct hostile *hostile)
{
    uint8_t buf[2 * PACKET];
    for (int i = 0; i < 100 && !hostile->closed; i++) {
        ngtcp2_ssize n = ngtcp2_conn_writev_stream(hostile->qc, NULL, NULL, buf, sizeof(buf), NULL,
                                                   0, -1, NULL, 0, hostile->sim->now);
        if (n <= 0)
            break;
        sim_node_send(hostile->node, &hostile->server, buf, (size_t)n);
    }
}

static void path_of(struct hostile *hostile, ngtcp2_path *path)
{
    *path = (ngtcp2_path){
        .local = {.addr = &hostile->node->addr.u.sa, .addrlen = hostile->node->addr.len},
        .remote = {.addr = &hostile->server.u.sa, .addrlen = hostile->server.len}};
}

static void on_feed(void *self, const struct ph_path *from, const uint8_t *data, size_t n)
{
    struct hostile *hostile = self;
    ngtcp2_path path;
    (void)from;
    if (hostile->closed)
        return;
    path_of(hostile, &path);
    int rv = ngtcp2_conn_read_pkt(hostile->qc, &path, NULL, data, n, hostile->sim->now);
    if (rv == NGTCP2_ERR_DRAINING || ngtcp2_err_is_fatal(rv)) { /* others are its own worries */
        const ngtcp2_ccerr *err = ngtcp2_conn_get_ccerr(hostile->qc);
        hostile->closed = true;
        hostile->app = err->type == NGTCP2_CCERR_TYPE_APPLICATION;
        hostile->code =
            rv == NGTCP2_ERR_DRAINING ? err->error_code : UINT64_MAX; /* our own error */
        return;
    }
    flush(hostile);
}

static void on_expire(void *self, uint64_t now)
{
    struct hostile *hostile = self;
    if (hostile->closed || ngtcp2_conn_get_expiry(hostile->qc) > now)
        return;
    if (ngtcp2_conn_handle_expiry(hostile->qc, now) != 0)
        hostile->closed = true;
    flush(hostile);
}

static uint64_t on_next(const void *self)
{
    const struct hostile *hostile = self;
    return hostile->closed ? PH_NEVER : ngtcp2_conn_get_expiry(hostile->qc);
}

/* A packet that is large enough to be overwritten: a datagram, or stream data when the server takes
 * none of that size. */
static ngtcp2_ssize write_filler(struct hostile *hostile, uint8_t *buf, size_t cap)
{
    static const uint8_t filler[FILLER];
    ngtcp2_vec vec = {.base = (uint8_t *)(uintptr_t)filler, .len = FILLER};
    ngtcp2_ssize taken;
    ngtcp2_ssize len = ngtcp2_conn_writev_datagram(hostile->qc, NULL, NULL, buf, cap, NULL, 0, 0,
                                                   &vec, 1, hostile->sim->now);
    if (len != NGTCP2_ERR_INVALID_ARGUMENT)
        return len;
    if (hostile->filler_stream < 0 &&
        ngtcp2_conn_open_uni_stream(hostile->qc, &hostile->filler_stream, NULL) != 0)
        return len;
    return ngtcp2_conn_writev_stream(hostile->qc, NULL, NULL, buf, cap, &taken, 0,
                                     hostile->filler_stream, &vec, 1, hostile->sim->now);
}

void hostile_send_now(struct hostile *hostile, const void *frames, size_t n)
{
    uint8_t buf[2 * PACKET];
    hostile->frames = frames;
    hostile->frames_len = n;
    for (int i = 0; i < 1000 && hostile->frames != NULL && !hostile->closed; i++) {
        ngtcp2_ssize len = write_filler(hostile, buf, sizeof(buf));
        PH_ASSERT(len >= 0);
        if (len > 0)
            sim_node_send(hostile->node, &hostile->server, buf, (size_t)len);
        else /* pacing, or the congestion window */
            sim_run_for(hostile->sim, 1 * PH_MSEC);
    }
    PH_ASSERT(hostile->frames == NULL || hostile->closed);
    hostile->frames = NULL;
}

void hostile_skip(struct hostile *hostile)
{
    uint8_t buf[2 * PACKET];
    ngtcp2_ssize len = 0;
    for (int i = 0; i < 1000 && len == 0 && !hostile->closed; i++) {
        len = write_filler(hostile, buf, sizeof(buf));
        PH_ASSERT(len >= 0);
        if (len == 0)
            sim_run_for(hostile->sim, 1 * PH_MSEC);
    }
    PH_ASSERT(len > 0 || hostile->closed);
}

void hostile_open(struct hostile *hostile, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int64_t id;
        int rv = ngtcp2_conn_open_bidi_stream(hostile->qc, &id, NULL);
        PH_ASSERT(rv == 0);
    }
}

void hostile_send(struct hostile *hostile, const void *frames, size_t n)
{
    hostile_send_now(hostile, frames, n);
    sim_run_for(hostile->sim, 100 * PH_MSEC);
}

/* --- Memory --- */

static size_t owned; /* bytes */

static void *own(void *p)
{
    owned += p != NULL ? malloc_usable_size(p) : 0;
    return p;
}

static void disown(void *p)
{
    owned -= p != NULL ? malloc_usable_size(p) : 0;
}

static void *mem_malloc(size_t n, void *self)
{
    (void)self;
    return own(malloc(n));
}

static void *mem_calloc(size_t n, size_t size, void *self)
{
    (void)self;
    return own(calloc(n, size));
}

static void *mem_realloc(void *p, size_t n, void *self)
{
    (void)self;
    disown(p);
    return own(realloc(p, n));
}

static void mem_free(void *p, void *self)
{
    (void)self;
    disown(p);
    free(p);
}

static const ngtcp2_mem mem = {
    .malloc = mem_malloc, .free = mem_free, .calloc = mem_calloc, .realloc = mem_realloc};

size_t hostile_memory(void)
{
    return owned;
}

/* --- Life --- */

static void fill(ngtcp2_callbacks *callbacks)
{
    *callbacks = (ngtcp2_callbacks){
        .client_initial = ngtcp2_crypto_client_initial_cb,
        .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
        .encrypt = on_encrypt,
        .decrypt = ngtcp2_crypto_decrypt_cb,
        .hp_mask = ngtcp2_crypto_hp_mask_cb,
        .recv_retry = ngtcp2_crypto_recv_retry_cb,
        .rand = on_rand,
        .get_new_connection_id = on_new_cid,
        .update_key = ngtcp2_crypto_update_key_cb,
        .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
        .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
        .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
        .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
        .handshake_confirmed = on_confirmed,
        .recv_new_token = on_new_token,
    };
}

struct hostile *hostile_new(struct sim *sim, struct sim_node *server, struct ph_tls_cred *cred,
                            const struct hostile_options *options)
{
    static const struct hostile_options none;
    struct hostile *hostile = ph_alloc(sizeof(*hostile));
    if (options == NULL)
        options = &none;
    ngtcp2_callbacks callbacks;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_path path;
    ngtcp2_cid dcid = {.datalen = 8}, scid = {.datalen = 8};
    *hostile = (struct hostile){
        .sim = sim, .server = server->public, .split = options->split, .filler_stream = -1};
    hostile->node = sim_node_raw(sim, hostile, on_feed);
    if (options->addr != NULL)
        hostile->node->addr = hostile->node->public = *options->addr;
    hostile->node->upper = hostile;
    hostile->node->upper_expire = on_expire;
    hostile->node->upper_next = on_next;
    current = hostile;
    fill(&callbacks);
    ngtcp2_settings_default(&settings);
    settings.initial_ts = sim->now;
    settings.no_pmtud = 1;
    settings.token = options->token;
    settings.tokenlen = options->token_len;
    ngtcp2_transport_params_default(&params);
    params.initial_max_data = params.initial_max_stream_data_uni = 1 << 20;
    params.initial_max_stream_data_bidi_local = params.initial_max_stream_data_bidi_remote = 1
                                                                                             << 20;
    params.initial_max_streams_bidi = params.initial_max_streams_uni = 100;
    params.max_datagram_frame_size = 65535;
    params.active_connection_id_limit = 8;
    if (options->tune != NULL)
        options->tune(&params);
    on_rand(dcid.data, dcid.datalen, NULL);
    on_rand(scid.data, scid.datalen, NULL);
    path_of(hostile, &path);
    int rv = ngtcp2_conn_client_new(&hostile->qc, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1,
                                    &callbacks, &settings, &params, &mem, hostile);
    PH_ASSERT(rv == 0);
    rv = ph_tls_quic_new(&hostile->tls, cred, false, "h3", "localhost");
    PH_ASSERT(rv == 0);
    rv = ngtcp2_crypto_gnutls_configure_client_session(hostile->tls);
    PH_ASSERT(rv == 0);
    hostile->ref = (ngtcp2_crypto_conn_ref){.get_conn = qc_of, .user_data = hostile};
    gnutls_session_set_ptr(hostile->tls, &hostile->ref);
    ngtcp2_conn_set_tls_native_handle(hostile->qc, hostile->tls);
    flush(hostile);
    return hostile;
}

void hostile_free(struct hostile *hostile)
{
    ngtcp2_conn_del(hostile->qc);
    ph_tls_quic_free(hostile->tls);
    hostile->node->raw_feed = NULL;
    hostile->node->upper_next = NULL;
    hostile->node->upper_expire = NULL;
    ph_free(hostile);
    current = NULL;
}

bool hostile_is_ready(const struct hostile *hostile)
{
    return hostile->confirmed && !hostile->closed;
}

size_t hostile_token(const struct hostile *hostile, uint8_t *out, size_t cap)
{
    size_t n = PH_MIN(cap, hostile->token_len);
    memcpy(out, hostile->token, n);
    return n;
}

bool hostile_is_closed(const struct hostile *hostile, uint64_t *code, bool *app)
{
    *code = hostile->code;
    *app = hostile->app;
    return hostile->closed;
}
