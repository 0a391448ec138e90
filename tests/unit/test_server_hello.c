/* test_server_hello.c - a QUIC client whose ClientHello does not come to its end: it holds a place
 * of the server, and nothing more. */
#include "world.h"

#include "../../src/tls/tls.h"

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <unistd.h>

enum { BEGIN = 100 }; /* bytes of the ClientHello that come */

/* Cuts the CRYPTO frame and leaves PADDING. */
static int on_encrypt(uint8_t *to, const ngtcp2_crypto_aead *aead,
                      const ngtcp2_crypto_aead_ctx *aead_ctx, const uint8_t *plain, size_t n,
                      const uint8_t *nonce, size_t nonce_len, const uint8_t *ad, size_t ad_len)
{
    uint8_t cut[1500] = {6, 0, 0x40, BEGIN};
    uint64_t length;
    size_t at = 2 + ph_varint_get(plain + 2, n - 2, &length);
    CHECK(n <= sizeof(cut) && plain[0] == 6 && plain[1] == 0 && length > BEGIN);
    memcpy(cut + 4, plain + at, BEGIN);
    return ngtcp2_crypto_encrypt_cb(to, aead, aead_ctx, cut, n, nonce, nonce_len, ad, ad_len);
}

static ngtcp2_conn *conn_of(ngtcp2_crypto_conn_ref *ref)
{
    return ref->user_data;
}

static void on_rand(uint8_t *to, size_t n, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    ph_random(to, n);
}

static int on_new_cid(ngtcp2_conn *conn, ngtcp2_cid *cid, uint8_t *token, size_t n, void *self)
{
    (void)conn;
    (void)self;
    cid->datalen = n;
    ph_random(cid->data, n);
    ph_random(token, NGTCP2_STATELESS_RESET_TOKENLEN);
    return 0;
}

/* The datagram of such a client. */
static size_t write_hello(uint8_t *to, size_t cap, const struct ph_addr *from,
                          const struct ph_addr *server)
{
    ngtcp2_callbacks callbacks = {
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
    };
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_settings_default(&settings);
    settings.initial_ts = ph_clock_now();
    ngtcp2_transport_params_default(&params);
    ngtcp2_path path = {.local = {(ngtcp2_sockaddr *)(uintptr_t)&from->u.sa, from->len},
                        .remote = {(ngtcp2_sockaddr *)(uintptr_t)&server->u.sa, server->len}};
    ngtcp2_cid dcid = {.datalen = 8}, scid = {.datalen = 8};
    ph_random(dcid.data, dcid.datalen);
    ph_random(scid.data, scid.datalen);
    ngtcp2_conn *conn;
    CHECK_INT(ngtcp2_conn_client_new(&conn, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1, &callbacks,
                                     &settings, &params, NULL, NULL),
              ==, 0);
    struct ph_tls_cred *cred;
    struct ph_err err;
    gnutls_session_t tls;
    CHECK_INT(ph_tls_cred_client(&cred, NULL, &err), ==, 0);
    CHECK_INT(ph_tls_quic_new(&tls, cred, false, "h3", "localhost"), ==, 0);
    CHECK_INT(ngtcp2_crypto_gnutls_configure_client_session(tls), ==, 0);
    ngtcp2_crypto_conn_ref ref = {.get_conn = conn_of, .user_data = conn};
    gnutls_session_set_ptr(tls, &ref);
    ngtcp2_conn_set_tls_native_handle(conn, tls);
    ngtcp2_ssize n = ngtcp2_conn_writev_stream(conn, NULL, NULL, to, cap, NULL, 0, -1, NULL, 0,
                                               settings.initial_ts);
    ngtcp2_conn_del(conn);
    ph_tls_quic_free(tls);
    ph_tls_cred_unref(cred);
    CHECK_INT(n, >=, 1200);
    return (size_t)n;
}

TEST(server_hello, drain_does_not_wait_for_the_rest_of_it)
{
    static struct world world;
    uint8_t datagram[1500];
    world_start(&world, (const char *const[]){"quic_bind", "127.0.0.1:0", "handshake_timeout",
                                              "3600000", "idle_timeout", "3600000", NULL});
    struct ph_addr server = world_addr(&world, "quic"), from = {.len = sizeof(from.u)};
    int fd = socket(server.u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, &server.u.sa, server.len) == 0);
    CHECK(getsockname(fd, &from.u.sa, &from.len) == 0);
    size_t n = write_hello(datagram, sizeof(datagram), &from, &server);
    CHECK_INT(send(fd, datagram, n, 0), ==, n);
    WORLD_UNTIL(&world, world_stats(&world).packets_out > 0); /* the acknowledgement */
    CHECK_INT(world_stats(&world).conns_accepted, ==, 0);     /* and that is all */
    ph_server_drain(world.server, 3600000);
    WORLD_UNTIL(&world, world.stopped);
    close(fd);
    world_stop(&world);
}
