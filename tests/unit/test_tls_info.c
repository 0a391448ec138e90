/* test_tls_info.c - what a session says of itself once it is agreed. */
#include "tls_fixture.h"

#define HOUR ((time_t)3600)
#define DAY (24 * HOUR)

static const char *const alpn[] = {"http/1.1", NULL};

/* Moves records until nobody has more to say. */
static void talk(struct ph_tls_session *a, struct ph_tls_session *b)
{
    struct ph_sliceq plain;
    struct iovec iov;
    ph_sliceq_init(&plain);
    for (int idle = 0; idle < 2;) {
        struct ph_sliceq *out = ph_tls_session_out(a);
        idle++;
        while (out->unsent > 0 && ph_sliceq_gather(out, &iov, 1, SIZE_MAX) == 1) {
            size_t n = iov.iov_len;
            CHECK_INT(ph_tls_session_feed(b, iov.iov_base, n, &plain), ==, 0);
            ph_sliceq_advance(out, n);
            ph_sliceq_drop(out, n);
            idle = 0;
        }
        struct ph_tls_session *other = b;
        b = a;
        a = other;
    }
    ph_sliceq_fini(&plain);
}

TEST(tls_info, is_made_once_and_outlives_its_session)
{
    struct fixture fx;
    struct ph_tls_cred *server_cred, *client_cred;
    struct ph_tls_session *server, *client;
    struct ph_err err = {""};
    fixture_init(&fx);
    write_pair(&fx, time(NULL) - HOUR, time(NULL) + DAY);
    struct ph_tls_cred_options o = {.cert_path = fixture_path(&fx, "cert.pem"),
                                    .key_path = fixture_path(&fx, "key.pem")};
    CHECK_INT(ph_tls_cred_load(&server_cred, &o, &err), ==, 0);
    CHECK_INT(ph_tls_cred_client(&client_cred, NULL, NULL), ==, 0);
    CHECK_INT(ph_tls_session_new(&server, server_cred, true, alpn), ==, 0);
    CHECK_INT(ph_tls_session_new(&client, client_cred, false, alpn), ==, 0);
    CHECK(ph_tls_session_info(server) == NULL);
    talk(client, server);
    const struct ph_tls_info *info = ph_tls_info_ref(ph_tls_session_info(server));
    CHECK(info != NULL && info == ph_tls_session_info(server));
    ph_tls_session_free(server);
    ph_tls_cred_unref(server_cred);
    CHECK_INT(info->version, ==, 0x0304);
    CHECK_INT(info->cipher_suite, ==, 0x1301);
    CHECK_STR(info->cipher_name, "TLS_AES_128_GCM_SHA256");
    CHECK_STR(info->server_name, "");
    CHECK_STR(info->client_name, "");
    CHECK_INT(info->client_chain_len, ==, 0);
    gnutls_datum_t file;
    CHECK(gnutls_load_file(o.cert_path, &file) == 0);
    CHECK_INT(strlen(info->server_cert), ==, file.size);
    CHECK_MEM(info->server_cert, file.data, file.size);
    gnutls_free(file.data);
    CHECK_INT(ph_live_get(PH_LIVE_TLS_INFO), ==, 2); /* and that of the client */
    CHECK_STR(ph_tls_session_info(client)->server_cert, "");
    ph_tls_info_unref(info);
    ph_tls_info_unref(NULL);
    CHECK(ph_tls_info_ref(NULL) == NULL);
    ph_tls_session_free(client);
    ph_tls_cred_unref(client_cred);
    CHECK_INT(ph_live_get(PH_LIVE_TLS_INFO), ==, 0);
    fixture_fini(&fx);
}
