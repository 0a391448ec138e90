/* test_server_certs.c - a server's certificates are replaced while it runs: ph_server_reload(). */
#include "tls_fixture.h"
#include "world.h"

#include "../../src/tls/tls.h"

#include <pthread.h>

#define HOUR ((time_t)3600)
#define DAY (24 * HOUR)

/* A server on TLS and QUIC with the pair in the fixture. */
static void start(struct world *world, struct fixture *fx)
{
    fixture_init(fx);
    write_pair(fx, time(NULL) - HOUR, time(NULL) + DAY);
    world_start(world,
                (const char *const[]){"dev_certificate", "", "bind", "127.0.0.1:0", "quic_bind",
                                      "127.0.0.1:0", "certfile", fixture_path(fx, "cert.pem"),
                                      "keyfile", fixture_path(fx, "key.pem"), NULL});
}

static void stop(struct world *world, struct fixture *fx)
{
    world_stop(world);
    fixture_fini(fx);
}

static void sha256_of_file(struct fixture *fx, uint8_t out[32])
{
    gnutls_datum_t pem;
    gnutls_x509_crt_t crt;
    size_t n = 32;
    CHECK(gnutls_load_file(fixture_path(fx, "cert.pem"), &pem) == 0);
    CHECK(gnutls_x509_crt_init(&crt) == 0);
    CHECK(gnutls_x509_crt_import(crt, &pem, GNUTLS_X509_FMT_PEM) == 0);
    CHECK(gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, out, &n) == 0);
    gnutls_x509_crt_deinit(crt);
    gnutls_free(pem.data);
}

static void sha256_in_use(const struct world *world, uint8_t out[32])
{
    ph_certificate found;
    CHECK_INT(ph_server_certificate(world->server, 0, &found), ==, 0);
    CHECK_INT(ph_server_certificate(world->server, 1, &found), ==, PH_E_NOTFOUND);
    CHECK_INT(ph_server_certificate(world->server, 0, &found), ==, 0);
    CHECK(!found.dev);
    CHECK_INT(found.expires, >, (int64_t)(time(NULL) + DAY / 2));
    memcpy(out, found.sha256, 32);
}

/* What a request of a new QUIC connection is told of the server's certificate. */
static void sha256_shown(struct world *world, uint8_t out[32])
{
    struct client client;
    size_t n = 32;
    world_connect(world, &client);
    struct client_session *session = client_session(&client, "/", NULL, 0, NULL, 0);
    WORLD_UNTIL(world, session->ready);
    const ph_tls_info *info = ph_chan_tls(world_last(world, PH_CHAN_WT_SESSION)->chan);
    const gnutls_datum_t pem = {(unsigned char *)(uintptr_t)info->server_cert,
                                (unsigned)strlen(info->server_cert)};
    gnutls_datum_t der;
    CHECK(gnutls_pem_base64_decode2("CERTIFICATE", &pem, &der) == 0);
    CHECK(gnutls_fingerprint(GNUTLS_DIG_SHA256, &der, out, &n) == 0);
    gnutls_free(der.data);
    world_drop(world, &client);
}

TEST(server_certs, new_connections_get_the_new_one_and_old_ones_stay)
{
    static struct world world;
    struct fixture fx;
    struct client kept;
    uint8_t first[32], second[32], shown[32];
    char err[256] = "x";
    start(&world, &fx);
    sha256_of_file(&fx, first);
    sha256_shown(&world, shown);
    CHECK_MEM(shown, first, 32);
    world_connect(&world, &kept);

    write_pair(&fx, time(NULL) - HOUR, time(NULL) + DAY);
    sha256_of_file(&fx, second);
    CHECK(memcmp(first, second, 32) != 0);
    CHECK_INT(ph_server_reload(world.server, err, sizeof(err)), ==, 0);
    CHECK_STR(err, "");
    WORLD_UNTIL(&world, world_stats(&world).certificates_replaced == 1);
    sha256_in_use(&world, shown);
    CHECK_MEM(shown, second, 32);
    sha256_shown(&world, shown);
    CHECK_MEM(shown, second, 32);

    struct client_session *session = client_session(&kept, "/", NULL, 0, NULL, 0);
    WORLD_UNTIL(&world, session->ready); /* still connected, with the first */
    const ph_tls_info *info = ph_chan_tls(world_last(&world, PH_CHAN_WT_SESSION)->chan);
    CHECK(info != NULL && info->server_cert[0] != '\0');
    world_drop(&world, &kept);
    stop(&world, &fx);
}

TEST(server_certs, what_is_wrong_is_told_and_changes_nothing)
{
    static struct world world;
    struct fixture fx;
    uint8_t first[32], shown[32];
    char err[512];
    start(&world, &fx);
    sha256_of_file(&fx, first);
    gnutls_x509_privkey_t other = make_key();
    write_key(&fx, "key.pem", other, NULL);
    CHECK_INT(ph_server_reload(world.server, err, sizeof(err)), ==, PH_E_TLS);
    CHECK(strstr(err, "keyfile: key file") != NULL && strstr(err, "does not belong") != NULL);
    fixture_write(&fx, "cert.pem", "", 0);
    CHECK_INT(ph_server_reload(world.server, err, sizeof(err)), ==, PH_E_TLS);
    CHECK(strstr(err, "certfile: ") != NULL && strstr(err, "is empty") != NULL);
    write_pair(&fx, 1000000000, 1100000000);
    CHECK_INT(ph_server_reload(world.server, err, sizeof(err)), ==, PH_E_TLS);
    CHECK(strstr(err, "expired on") != NULL);
    CHECK(unlink(fixture_path(&fx, "key.pem")) == 0);
    CHECK_INT(ph_server_reload(world.server, NULL, 0), ==, PH_E_TLS);
    CHECK(mkfifo(fixture_path(&fx, "key.pem"), 0600) == 0); /* would never return */
    CHECK_INT(ph_server_reload(world.server, err, sizeof(err)), ==, PH_E_IO);
    CHECK(strstr(err, "keyfile: ") != NULL && strstr(err, "not a regular file") != NULL);
    sha256_in_use(&world, shown);
    CHECK_MEM(shown, first, 32);
    sha256_shown(&world, shown);
    CHECK_MEM(shown, first, 32);
    CHECK_INT(world_stats(&world).certificates_replaced, ==, 0);
    gnutls_x509_privkey_deinit(other);
    stop(&world, &fx);
}

static void *reload_often(void *server)
{
    intptr_t failures = 0;
    for (int i = 0; i < 50; i++)
        failures += ph_server_reload(server, NULL, 0) != 0;
    return (void *)failures;
}

TEST(server_certs, threads_reload_while_clients_come)
{
    static struct world world;
    struct fixture fx;
    pthread_t threads[3];
    uint8_t shown[32];
    start(&world, &fx);
    for (size_t i = 0; i < PH_COUNT_OF(threads); i++)
        CHECK(pthread_create(&threads[i], NULL, reload_often, world.server) == 0);
    for (int i = 0; i < 10; i++)
        sha256_shown(&world, shown);
    for (size_t i = 0; i < PH_COUNT_OF(threads); i++) {
        void *failures;
        CHECK(pthread_join(threads[i], &failures) == 0);
        CHECK(failures == NULL);
    }
    CHECK_INT(world_stats(&world).certificates_replaced, >=, 1);
    stop(&world, &fx);
}

TEST(server_certs, a_reload_that_nobody_takes_is_freed)
{
    struct fixture fx;
    ph_server *server;
    char err[256];
    fixture_init(&fx);
    write_pair(&fx, time(NULL) - HOUR, time(NULL) + DAY);
    ph_config *config = ph_config_new();
    CHECK_INT(ph_config_set(config, "bind", "127.0.0.1:0"), ==, 0);
    CHECK_INT(ph_config_set(config, "certfile", fixture_path(&fx, "cert.pem")), ==, 0);
    CHECK_INT(ph_config_set(config, "keyfile", fixture_path(&fx, "key.pem")), ==, 0);
    CHECK_INT(ph_server_new(&server, config, err, sizeof(err)), ==, 0);
    ph_config_free(config);
    CHECK_INT(ph_server_reload(server, err, sizeof(err)), ==, 0);
    CHECK_INT(ph_server_reload(server, err, sizeof(err)), ==, 0);
    CHECK_INT(ph_live_get(PH_LIVE_TLS_CRED), ==, 2);
    ph_server_free(server);
    fixture_fini(&fx);
}
