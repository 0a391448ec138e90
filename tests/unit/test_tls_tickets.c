/* test_tls_tickets.c - tickets of servers that share a secret and a clock. */
#include "tls_raw.h"

#define HOUR ((time_t)3600)
#define DAY (24 * HOUR)
#define PERIOD (12 * HOUR)

static const char *const alpn[] = {"http/1.1", NULL};
static const char tls12[] = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
static const char tls13[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3";

/* The library's clock: ticket keys follow it. */
static time_t now;

static time_t clock_of_test(time_t *out)
{
    if (out != NULL)
        *out = now;
    return now;
}

struct host {
    struct fixture fx;
    struct ph_tls_tickets *tickets;
    struct ph_tls_cred *cred;
};

static void host_init(struct host *host, uint8_t secret, enum ph_tls_verify verify)
{
    uint8_t bytes[32];
    struct ph_err err = {""};
    memset(bytes, secret, sizeof(bytes));
    fixture_init(&host->fx);
    write_pair(&host->fx, time(NULL) - HOUR, time(NULL) + DAY);
    ph_tls_tickets_new(&host->tickets, bytes, false, NULL, 0);
    struct ph_tls_cred_options o = {.cert_path = fixture_path(&host->fx, "cert.pem"),
                                    .key_path = fixture_path(&host->fx, "key.pem"),
                                    .ca_path = fixture_path(&host->fx, "cert.pem"),
                                    .verify = verify,
                                    .tickets = host->tickets};
    CHECK_INT(ph_tls_cred_load(&host->cred, &o, &err), ==, 0);
}

static void host_fini(struct host *host)
{
    ph_tls_cred_unref(host->cred);
    ph_tls_tickets_free(host->tickets);
    fixture_fini(&host->fx);
}

/* One connection with the ticket in `session` (none when empty), which is replaced by the new one.
 * true: it was resumed. */
static bool visit(struct host *host, const char *priority, gnutls_datum_t *session)
{
    struct ph_tls_session *server;
    struct raw raw;
    char byte;
    CHECK_INT(ph_tls_session_new(&server, host->cred, true, alpn), ==, 0);
    raw_init(&raw, server, priority);
    if (session->size > 0)
        CHECK(gnutls_session_set_data(raw.tls, session->data, session->size) == 0);
    CHECK_INT(raw_handshake(&raw), ==, 0);
    CHECK_INT(gnutls_record_recv(raw.tls, &byte, 1), ==, GNUTLS_E_AGAIN); /* takes the ticket */
    CHECK(ph_tls_session_is_ready(server));
    bool resumed = gnutls_session_is_resumed(raw.tls) != 0;
    CHECK(ph_tls_session_info(server)->server_cert[0] != '\0');
    gnutls_free(session->data);
    *session = (gnutls_datum_t){NULL, 0};
    CHECK(gnutls_session_get_data2(raw.tls, session) == 0);
    raw_fini(&raw);
    ph_tls_session_free(server);
    return resumed;
}

TEST(tls_tickets, keys_follow_the_clock_and_the_last_one_is_still_good)
{
    static const char *const versions[] = {tls12, tls13};
    gnutls_global_set_time_function(clock_of_test);
    for (size_t i = 0; i < PH_COUNT_OF(versions); i++) {
        struct host host, worker;
        gnutls_datum_t session = {NULL, 0};
        host_init(&host, 7, PH_TLS_VERIFY_NONE);
        host_init(&worker, 7, PH_TLS_VERIFY_NONE);
        now = time(NULL) / PERIOD * PERIOD + PERIOD - 60; /* a minute before the next key */
        CHECK(!visit(&host, versions[i], &session));
        CHECK(visit(&host, versions[i], &session));
        CHECK(visit(&worker, versions[i], &session));
        now += 120;
        CHECK(visit(&worker, versions[i], &session));
        now += 2 * PERIOD;
        CHECK(!visit(&worker, versions[i], &session));
        CHECK(visit(&host, versions[i], &session));
        gnutls_free(session.data);
        host_fini(&host);
        host_fini(&worker);
    }
    gnutls_global_set_time_function(time);
}

TEST(tls_tickets, another_secret_is_another_key)
{
    static const char *const versions[] = {tls12, tls13};
    for (size_t i = 0; i < PH_COUNT_OF(versions); i++) {
        struct host host, other;
        gnutls_datum_t session = {NULL, 0};
        host_init(&host, 7, PH_TLS_VERIFY_NONE);
        host_init(&other, 8, PH_TLS_VERIFY_NONE);
        CHECK(!visit(&host, versions[i], &session));
        CHECK(!visit(&other, versions[i], &session));
        gnutls_free(session.data);
        host_fini(&host);
        host_fini(&other);
    }
}

TEST(tls_tickets, none_where_clients_show_certificates)
{
    struct host host;
    host_init(&host, 7, PH_TLS_VERIFY_OPTIONAL);
    gnutls_datum_t session = {NULL, 0};
    CHECK(!visit(&host, tls12, &session));
    CHECK(!visit(&host, tls12, &session));
    gnutls_free(session.data);
    host_fini(&host);
}
