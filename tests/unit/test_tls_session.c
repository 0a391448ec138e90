/* test_tls_session.c - client and server sessions talk in memory: whole flights, byte by byte,
 * ALPN, pins, client certificates, old versions, damage, the end. */
#include "tls_fixture.h"
#include "tls_raw.h"

#define HOUR ((time_t)3600)
#define DAY (24 * HOUR)

static const char *const alpn_h1[] = {"http/1.1", NULL};
static const char *const alpn_both[] = {"h2", "http/1.1", NULL};

struct pair {
    struct fixture fx;
    struct ph_tls_cred *server_cred, *client_cred;
    struct ph_tls_session *server, *client;
    struct ph_sliceq to_app, to_client; /* plaintext received by server and client */
    int server_rv, client_rv;
    size_t step; /* bytes per feed */
};

static struct ph_tls_cred *load_cred(struct fixture *fx, enum ph_tls_verify verify,
                                     const char *ca_path)
{
    struct ph_tls_cred_options o = {.cert_path = fixture_path(fx, "cert.pem"),
                                    .key_path = fixture_path(fx, "key.pem"),
                                    .ca_path = ca_path,
                                    .verify = verify};
    struct ph_tls_cred *cred;
    struct ph_err err = {""};
    if (ph_tls_cred_load(&cred, &o, &err) != 0)
        ph_test_fail(__FILE__, __LINE__, "%s", err.text);
    return cred;
}

static void pair_init(struct pair *pair, const char *const *server_alpn,
                      const char *const *client_alpn, const uint8_t *pin)
{
    memset(pair, 0, sizeof(*pair));
    pair->step = SIZE_MAX;
    fixture_init(&pair->fx);
    write_pair(&pair->fx, time(NULL) - HOUR, time(NULL) + DAY);
    pair->server_cred = load_cred(&pair->fx, PH_TLS_VERIFY_NONE, NULL);
    CHECK_INT(ph_tls_cred_client(&pair->client_cred, pin, NULL), ==, 0);
    CHECK_INT(ph_tls_session_new(&pair->server, pair->server_cred, true, server_alpn), ==, 0);
    CHECK_INT(ph_tls_session_new(&pair->client, pair->client_cred, false, client_alpn), ==, 0);
    ph_sliceq_init(&pair->to_app);
    ph_sliceq_init(&pair->to_client);
}

static void pair_fini(struct pair *pair)
{
    ph_tls_session_free(pair->server);
    ph_tls_session_free(pair->client);
    ph_tls_cred_unref(pair->server_cred);
    ph_tls_cred_unref(pair->client_cred);
    ph_sliceq_fini(&pair->to_app);
    ph_sliceq_fini(&pair->to_client);
    fixture_fini(&pair->fx);
}

/* Moves what waits in `from` into `to`. true when something moved. */
static bool move(struct ph_tls_session *from, struct ph_tls_session *to, struct ph_sliceq *plain,
                 size_t step, int *rv)
{
    struct ph_sliceq *out = ph_tls_session_out(from);
    struct iovec iov;
    bool any = false;
    while (out->unsent > 0 && ph_sliceq_gather(out, &iov, 1, step) == 1) {
        /* A copy of its own, so that a read past the end is caught. */
        uint8_t *copy = ph_alloc(iov.iov_len);
        memcpy(copy, iov.iov_base, iov.iov_len);
        int got = ph_tls_session_feed(to, copy, iov.iov_len, plain);
        if (*rv == 0)
            *rv = got;
        ph_free(copy);
        size_t n = iov.iov_len;
        ph_sliceq_advance(out, n);
        ph_sliceq_drop(out, n);
        any = true;
    }
    return any;
}

static void pair_run(struct pair *pair)
{
    bool any = true;
    while (any) {
        any = move(pair->client, pair->server, &pair->to_app, pair->step, &pair->server_rv);
        any |= move(pair->server, pair->client, &pair->to_client, pair->step, &pair->client_rv);
    }
}

static size_t read_all(struct ph_sliceq *q, uint8_t *out, size_t cap)
{
    size_t n = 0;
    struct iovec iov;
    while (q->unsent > 0 && ph_sliceq_gather(q, &iov, 1, cap - n) == 1) {
        size_t len = iov.iov_len;
        memcpy(out + n, iov.iov_base, len);
        n += len;
        ph_sliceq_advance(q, len);
        ph_sliceq_drop(q, len);
    }
    return n;
}

static void say(struct ph_tls_session *session, const void *data, size_t n)
{
    struct ph_sliceq plain;
    ph_sliceq_init(&plain);
    ph_sliceq_push_copy(&plain, data, n);
    CHECK_INT(ph_tls_session_write(session, &plain, SIZE_MAX), ==, 0);
    CHECK_INT(plain.bytes, ==, 0);
    ph_sliceq_fini(&plain);
}

TEST(tls_session, handshake_then_data_both_ways)
{
    struct pair pair;
    pair_init(&pair, alpn_both, alpn_h1, NULL);
    CHECK(!ph_tls_session_is_ready(pair.server));
    CHECK_STR(ph_tls_session_alpn(pair.server), "");
    pair_run(&pair);
    CHECK(ph_tls_session_is_ready(pair.server) && ph_tls_session_is_ready(pair.client));
    CHECK_STR(ph_tls_session_alpn(pair.server), "http/1.1");
    CHECK_STR(ph_tls_session_alpn(pair.client), "http/1.1");
    say(pair.client, "GET /", 5);
    say(pair.server, "hello", 5);
    pair_run(&pair);
    uint8_t got[64];
    CHECK_INT(read_all(&pair.to_app, got, sizeof(got)), ==, 5);
    CHECK_MEM(got, "GET /", 5);
    CHECK_INT(read_all(&pair.to_client, got, sizeof(got)), ==, 5);
    CHECK_MEM(got, "hello", 5);
    CHECK_INT(pair.server_rv, ==, 0);
    CHECK_INT(pair.client_rv, ==, 0);
    pair_fini(&pair);
}

TEST(tls_session, byte_by_byte_gives_the_same)
{
    struct pair pair;
    pair_init(&pair, alpn_both, alpn_both, NULL);
    pair.step = 1;
    pair_run(&pair);
    CHECK(ph_tls_session_is_ready(pair.server) && ph_tls_session_is_ready(pair.client));
    CHECK_STR(ph_tls_session_alpn(pair.server), "h2");
    uint8_t *big = ph_alloc(40000), *got = ph_alloc(40001);
    for (size_t i = 0; i < 40000; i++)
        big[i] = (uint8_t)(i * 7 + (i >> 8));
    say(pair.client, big, 40000);
    pair_run(&pair);
    CHECK_INT(read_all(&pair.to_app, got, 40001), ==, 40000);
    CHECK_MEM(big, got, 40000);
    ph_free(big);
    ph_free(got);
    pair_fini(&pair);
}

TEST(tls_session, server_preference_decides_alpn)
{
    static const char *const reversed[] = {"http/1.1", "h2", NULL};
    struct pair pair;
    pair_init(&pair, alpn_both, reversed, NULL);
    pair_run(&pair);
    CHECK_STR(ph_tls_session_alpn(pair.server), "h2");
    CHECK_STR(ph_tls_session_alpn(pair.client), "h2");
    pair_fini(&pair);
}

TEST(tls_session, client_without_alpn_is_served_and_foreign_alpn_is_not)
{
    struct pair pair;
    pair_init(&pair, alpn_h1, NULL, NULL);
    pair_run(&pair);
    CHECK(ph_tls_session_is_ready(pair.server));
    CHECK_STR(ph_tls_session_alpn(pair.server), "");
    pair_fini(&pair);
    static const char *const foreign[] = {"smtp", NULL};
    pair_init(&pair, alpn_h1, foreign, NULL);
    pair_run(&pair);
    CHECK(!ph_tls_session_is_ready(pair.server));
    CHECK_INT(pair.server_rv, ==, PH_E_CRYPTO);
    CHECK_INT(pair.client_rv, ==, PH_E_CRYPTO); /* it got the alert */
    pair_fini(&pair);
}

TEST(tls_session, pin_must_match_the_leaf)
{
    struct pair pair;
    uint8_t wrong[32] = {1, 2, 3};
    pair_init(&pair, alpn_h1, alpn_h1, wrong);
    pair_run(&pair);
    CHECK_INT(pair.client_rv, ==, PH_E_CRYPTO);
    CHECK(!ph_tls_session_is_ready(pair.server));
    CHECK_INT(ph_tls_session_feed(pair.client, (const uint8_t *)"x", 1, &pair.to_client), ==,
              PH_E_CRYPTO);
    uint8_t right[32];
    ph_tls_cred_sha256(pair.server_cred, right);
    struct ph_tls_cred *cred;
    CHECK_INT(ph_tls_cred_client(&cred, right, NULL), ==, 0);
    ph_tls_session_free(pair.client);
    ph_tls_session_free(pair.server);
    CHECK_INT(ph_tls_session_new(&pair.client, cred, false, alpn_h1), ==, 0);
    CHECK_INT(ph_tls_session_new(&pair.server, pair.server_cred, true, alpn_h1), ==, 0);
    ph_tls_cred_unref(cred); /* the session keeps it */
    pair.client_rv = pair.server_rv = 0;
    pair_run(&pair);
    CHECK(ph_tls_session_is_ready(pair.server) && ph_tls_session_is_ready(pair.client));
    pair_fini(&pair);
}

TEST(tls_session, replaced_credentials_live_until_the_last_session_ends)
{
    struct pair pair;
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    ph_tls_cred_unref(pair.server_cred); /* reload in the middle of a handshake */
    pair.server_cred = NULL;
    pair_run(&pair);
    CHECK(ph_tls_session_is_ready(pair.server));
    pair_fini(&pair);
}

TEST(tls_session, roles_and_lists_are_checked)
{
    struct pair pair;
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    struct ph_tls_session *session;
    CHECK_INT(ph_tls_session_new(&session, pair.client_cred, true, alpn_h1), ==, PH_E_INVAL);
    CHECK_INT(ph_tls_session_new(&session, pair.server_cred, false, alpn_h1), ==, PH_E_INVAL);
    static const char *const empty[] = {"", NULL};
    CHECK_INT(ph_tls_session_new(&session, pair.server_cred, true, empty), ==, PH_E_INVAL);
    CHECK(session == NULL);
    pair_fini(&pair);
}

TEST(tls_session, write_respects_the_bound_and_joins_small_slices)
{
    struct pair pair;
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    struct ph_sliceq plain;
    ph_sliceq_init(&plain);
    ph_sliceq_push_copy(&plain, "early", 5);
    CHECK_INT(ph_tls_session_write(pair.server, &plain, SIZE_MAX), ==, 0);
    CHECK_INT(plain.unsent, ==, 5); /* kept until the handshake is done */
    pair_run(&pair);
    uint8_t *block = ph_alloc(16384);
    for (int i = 0; i < 16; i++)
        ph_sliceq_push_copy(&plain, block, 16384);
    CHECK_INT(ph_tls_session_write(pair.server, &plain, 65536), ==, 0);
    struct ph_sliceq *out = ph_tls_session_out(pair.server);
    CHECK_INT(out->bytes, >=, 65536);
    CHECK_INT(out->bytes, <, 65536 + 16384 + 64);
    CHECK_INT(plain.unsent, >, 0);
    while (plain.unsent > 0) {
        pair_run(&pair);
        CHECK_INT(ph_tls_session_write(pair.server, &plain, 65536), ==, 0);
    }
    pair_run(&pair);
    CHECK_INT(pair.to_client.bytes, ==, 5 + 16 * 16384);
    for (int i = 0; i < 10; i++)
        ph_sliceq_push_copy(&plain, "x", 1);
    CHECK_INT(ph_tls_session_write(pair.server, &plain, SIZE_MAX), ==, 0);
    CHECK_INT(out->bytes, <, 64); /* one record, not ten */
    ph_free(block);
    ph_sliceq_fini(&plain);
    pair_fini(&pair);
}

TEST(tls_session, close_notify_ends_reading_only)
{
    struct pair pair;
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    pair_run(&pair);
    say(pair.client, "last", 4);
    ph_tls_session_bye(pair.client);
    ph_tls_session_bye(pair.client); /* once is enough */
    pair_run(&pair);
    uint8_t got[8];
    CHECK_INT(read_all(&pair.to_app, got, sizeof(got)), ==, 4);
    CHECK_INT(pair.server_rv, ==, PH_E_CLOSED);
    CHECK_INT(ph_tls_session_feed(pair.server, (const uint8_t *)"x", 1, &pair.to_app), ==,
              PH_E_CLOSED);
    say(pair.server, "answer", 6);
    pair_run(&pair);
    CHECK_INT(read_all(&pair.to_client, got, sizeof(got)), ==, 6);
    struct ph_sliceq plain;
    ph_sliceq_init(&plain);
    ph_sliceq_push_copy(&plain, "x", 1);
    CHECK_INT(ph_tls_session_write(pair.client, &plain, SIZE_MAX), ==, PH_E_CLOSED);
    ph_sliceq_fini(&plain);
    pair_fini(&pair);
}

/* F24, I9: what is no TLS, and TLS that is too old. */
TEST(tls_session, strangers_fail_with_an_alert_at_most)
{
    static const char *const said[] = {
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\xff\xff\x01", /* a record longer than RFC 8446 allows */
    };
    for (size_t i = 0; i < PH_COUNT_OF(said); i++) {
        struct pair pair;
        pair_init(&pair, alpn_h1, alpn_h1, NULL);
        CHECK_INT(ph_tls_session_feed(pair.server, (const uint8_t *)said[i], strlen(said[i]),
                                      &pair.to_app),
                  ==, PH_E_CRYPTO);
        CHECK_INT(ph_tls_session_out(pair.server)->bytes, <=, 7);
        CHECK_INT(pair.to_app.bytes, ==, 0);
        pair_fini(&pair);
    }
}

TEST(tls_session, versions_and_ciphers_are_modern)
{
    static const struct {
        const char *priority;
        bool good;
    } cases[] = {
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2", true},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.3", true},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305", true},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-SECP256R1", true},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.1", false},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.0", false},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC", false},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA", false},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct pair pair;
        struct raw raw;
        pair_init(&pair, alpn_h1, alpn_h1, NULL);
        raw_init(&raw, pair.server, cases[i].priority);
        int rv = raw_handshake(&raw);
        if ((rv == 0) != cases[i].good || ph_tls_session_is_ready(pair.server) != cases[i].good)
            ph_test_fail(__FILE__, __LINE__, "%s: %s", cases[i].priority, gnutls_strerror(rv));
        raw_fini(&raw);
        pair_fini(&pair);
    }
}

TEST(tls_session, aes_gcm_is_preferred_and_no_ticket_is_issued)
{
    struct pair pair;
    struct raw raw;
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    raw_init(&raw, pair.server, "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305:+AES-256-GCM:+AES-128-GCM");
    CHECK_INT(raw_handshake(&raw), ==, 0);
    CHECK_INT(gnutls_cipher_get(raw.tls), ==, GNUTLS_CIPHER_AES_128_GCM);
    char byte;
    CHECK_INT(gnutls_record_recv(raw.tls, &byte, 1), ==, GNUTLS_E_AGAIN);
    CHECK((gnutls_session_get_flags(raw.tls) & GNUTLS_SFLAGS_SESSION_TICKET) == 0);
    raw_fini(&raw);
    pair_fini(&pair);
}

TEST(tls_session, renegotiation_is_refused)
{
    struct pair pair;
    struct raw raw;
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    raw_init(&raw, pair.server, "NORMAL:-VERS-ALL:+VERS-TLS1.2");
    CHECK_INT(raw_handshake(&raw), ==, 0);
    CHECK_INT(raw.server_rv, ==, 0);
    CHECK(raw_handshake(&raw) != 0);
    CHECK_INT(raw.server_rv, ==, PH_E_CRYPTO);
    raw_fini(&raw);
    pair_fini(&pair);
}

TEST(tls_session, key_update_is_followed)
{
    struct pair pair;
    struct raw raw;
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    raw_init(&raw, pair.server, "NORMAL:-VERS-ALL:+VERS-TLS1.3");
    CHECK_INT(raw_handshake(&raw), ==, 0);
    CHECK_INT(gnutls_session_key_update(raw.tls, GNUTLS_KU_PEER), ==, 0);
    CHECK_INT(gnutls_record_send(raw.tls, "abc", 3), ==, 3);
    CHECK_INT(raw.server_rv, ==, 0);
    CHECK_INT(raw.plain.bytes, ==, 3);
    say(pair.server, "def", 3);
    char got[8];
    ssize_t n = GNUTLS_E_AGAIN;
    for (int i = 0; i < 4 && n == GNUTLS_E_AGAIN; i++)
        n = gnutls_record_recv(raw.tls, got, sizeof(got));
    CHECK_INT(n, ==, 3);
    CHECK_MEM(got, "def", 3);
    raw_fini(&raw);
    pair_fini(&pair);
}

TEST(tls_session, damaged_record_is_fatal)
{
    struct pair pair;
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    pair_run(&pair);
    say(pair.client, "hello", 5);
    struct ph_sliceq *out = ph_tls_session_out(pair.client);
    uint8_t record[256];
    size_t n = read_all(out, record, sizeof(record));
    record[n - 1] ^= 1;
    CHECK_INT(ph_tls_session_feed(pair.server, record, n, &pair.to_app), ==, PH_E_CRYPTO);
    CHECK_INT(pair.to_app.bytes, ==, 0);
    pair_fini(&pair);
}

/* --- Client certificates --- */

enum which { NONE, GOOD, FOREIGN, EXPIRED, WRONG_PURPOSE };

static int with_client_cert(enum ph_tls_verify verify, enum which which, const char *priority)
{
    struct pair pair;
    struct raw raw;
    time_t now = time(NULL);
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    gnutls_x509_privkey_t ca_key = make_key(), other_key = make_key(), key = make_key();
    gnutls_x509_crt_t ca = make_crt("ca", ca_key, now - DAY, now + DAY, NULL, NULL, NULL);
    gnutls_x509_crt_t other = make_crt("ca", other_key, now - DAY, now + DAY, NULL, NULL, NULL);
    struct ph_tls_cred *cred = load_cred(&pair.fx, verify, write_crt(&pair.fx, "ca.pem", ca));
    ph_tls_session_free(pair.server);
    CHECK_INT(ph_tls_session_new(&pair.server, cred, true, alpn_h1), ==, 0);
    raw_init(&raw, pair.server, priority);
    if (which != NONE) {
        gnutls_x509_crt_t crt =
            make_crt("client", key, now - HOUR, which == EXPIRED ? now - 1 : now + DAY,
                     which == WRONG_PURPOSE ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT,
                     which == FOREIGN ? other : ca, which == FOREIGN ? other_key : ca_key);
        CHECK(gnutls_certificate_set_x509_key(raw.cred, &crt, 1, key) >= 0);
        gnutls_certificate_set_flags(raw.cred, GNUTLS_CERTIFICATE_SKIP_KEY_CERT_MATCH);
        gnutls_priority_set_direct(raw.tls, priority, NULL);
        gnutls_x509_crt_deinit(crt);
    }
    raw_handshake(&raw);
    int rv = ph_tls_session_is_ready(pair.server) ? 0 : raw.server_rv;
    raw_fini(&raw);
    ph_tls_cred_unref(cred);
    gnutls_x509_crt_deinit(ca);
    gnutls_x509_crt_deinit(other);
    gnutls_x509_privkey_deinit(ca_key);
    gnutls_x509_privkey_deinit(other_key);
    gnutls_x509_privkey_deinit(key);
    pair_fini(&pair);
    return rv;
}

TEST(tls_session, client_certificates_are_judged_by_mode)
{
    static const char *const versions[] = {"NORMAL:-VERS-ALL:+VERS-TLS1.3",
                                           "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
    for (size_t i = 0; i < PH_COUNT_OF(versions); i++) {
        const char *v = versions[i];
        CHECK_INT(with_client_cert(PH_TLS_VERIFY_REQUIRED, GOOD, v), ==, 0);
        CHECK_INT(with_client_cert(PH_TLS_VERIFY_REQUIRED, NONE, v), ==, PH_E_CRYPTO);
        CHECK_INT(with_client_cert(PH_TLS_VERIFY_REQUIRED, FOREIGN, v), ==, PH_E_CRYPTO);
        CHECK_INT(with_client_cert(PH_TLS_VERIFY_REQUIRED, EXPIRED, v), ==, PH_E_CRYPTO);
        CHECK_INT(with_client_cert(PH_TLS_VERIFY_REQUIRED, WRONG_PURPOSE, v), ==, PH_E_CRYPTO);
        CHECK_INT(with_client_cert(PH_TLS_VERIFY_OPTIONAL, GOOD, v), ==, 0);
        CHECK_INT(with_client_cert(PH_TLS_VERIFY_OPTIONAL, NONE, v), ==, 0);
        CHECK_INT(with_client_cert(PH_TLS_VERIFY_OPTIONAL, FOREIGN, v), ==, PH_E_CRYPTO);
        CHECK_INT(with_client_cert(PH_TLS_VERIFY_NONE, FOREIGN, v), ==, 0);
    }
}

/* --- QUIC sessions --- */

/* Handshake messages of two QUIC sessions, exchanged level by level as CRYPTO frames would. */
struct quic_side {
    gnutls_session_t tls;
    uint8_t buf[4][16384]; /* by encryption level */
    size_t len[4];
    int rv;
};

static int quic_read(gnutls_session_t tls, gnutls_record_encryption_level_t level,
                     gnutls_handshake_description_t type, const void *data, size_t n)
{
    struct quic_side *side = gnutls_session_get_ptr(tls);
    if (type == GNUTLS_HANDSHAKE_CHANGE_CIPHER_SPEC)
        return 0;
    CHECK((size_t)level < 4 && side->len[level] + n <= sizeof(side->buf[0]));
    memcpy(side->buf[level] + side->len[level], data, n);
    side->len[level] += n;
    return 0;
}

static int quic_secret(gnutls_session_t tls, gnutls_record_encryption_level_t level, const void *rx,
                       const void *tx, size_t n)
{
    (void)tls;
    (void)level;
    (void)rx;
    (void)tx;
    (void)n;
    return 0;
}

static int quic_alert(gnutls_session_t tls, gnutls_record_encryption_level_t level,
                      gnutls_alert_level_t alert_level, gnutls_alert_description_t alert)
{
    (void)tls;
    (void)level;
    (void)alert_level;
    (void)alert;
    return 0;
}

static void quic_attach(struct quic_side *side)
{
    gnutls_session_set_ptr(side->tls, side);
    gnutls_handshake_set_read_function(side->tls, quic_read);
    gnutls_handshake_set_secret_function(side->tls, quic_secret);
    gnutls_alert_set_read_function(side->tls, quic_alert);
}

static void quic_step(struct quic_side *from, struct quic_side *to)
{
    for (int level = 0; level < 4; level++) {
        if (from->len[level] == 0)
            continue;
        int rv = gnutls_handshake_write(to->tls, (gnutls_record_encryption_level_t)level,
                                        from->buf[level], from->len[level]);
        from->len[level] = 0;
        if (rv < 0 && gnutls_error_is_fatal(rv))
            to->rv = rv;
    }
    int rv = gnutls_handshake(to->tls);
    if (to->rv == 0 && rv < 0 && gnutls_error_is_fatal(rv))
        to->rv = rv;
}

static void quic_run(struct quic_side *client, struct quic_side *server)
{
    int rv = gnutls_handshake(client->tls);
    CHECK(rv == 0 || !gnutls_error_is_fatal(rv));
    for (int i = 0; i < 4; i++) {
        quic_step(client, server);
        quic_step(server, client);
    }
}

TEST(tls_quic, session_is_tls13_with_alpn)
{
    struct pair pair;
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    static struct quic_side client, server;
    memset(&client, 0, sizeof(client));
    memset(&server, 0, sizeof(server));
    CHECK_INT(ph_tls_quic_new(&client.tls, pair.client_cred, false, "h3", "localhost"), ==, 0);
    CHECK_INT(ph_tls_quic_new(&server.tls, pair.server_cred, true, "h3", NULL), ==, 0);
    quic_attach(&client);
    quic_attach(&server);
    quic_run(&client, &server);
    CHECK_INT(client.rv, ==, 0);
    CHECK_INT(server.rv, ==, 0);
    gnutls_datum_t alpn;
    CHECK(gnutls_alpn_get_selected_protocol(server.tls, &alpn) == 0);
    CHECK(alpn.size == 2 && memcmp(alpn.data, "h3", 2) == 0);
    CHECK_INT(gnutls_protocol_get_version(server.tls), ==, GNUTLS_TLS1_3);
    char name[32];
    size_t n = sizeof(name);
    unsigned type;
    CHECK_INT(gnutls_server_name_get(server.tls, name, &n, &type, 0), ==, 0);
    CHECK_STR(name, "localhost");
    ph_tls_quic_free(client.tls);
    ph_tls_quic_free(server.tls);
    ph_tls_quic_free(NULL);
    pair_fini(&pair);
}

TEST(tls_quic, other_or_missing_alpn_fails)
{
    for (int with = 0; with < 2; with++) {
        struct pair pair;
        pair_init(&pair, alpn_h1, alpn_h1, NULL);
        static struct quic_side client, server;
        memset(&client, 0, sizeof(client));
        memset(&server, 0, sizeof(server));
        CHECK_INT(ph_tls_quic_new(&client.tls, pair.client_cred, false, "hq", NULL), ==, 0);
        CHECK_INT(ph_tls_quic_new(&server.tls, pair.server_cred, true, "h3", NULL), ==, 0);
        quic_attach(&client);
        quic_attach(&server);
        gnutls_session_t plain = client.tls;
        if (with == 0) { /* a client that does not know ALPN at all */
            CHECK(gnutls_init(&client.tls, GNUTLS_CLIENT) == 0);
            CHECK(gnutls_priority_set_direct(
                      client.tls, "NORMAL:-VERS-ALL:+VERS-TLS1.3:%DISABLE_TLS13_COMPAT_MODE",
                      NULL) == 0);
            gnutls_certificate_credentials_t cred;
            CHECK(gnutls_certificate_allocate_credentials(&cred) == 0);
            CHECK(gnutls_credentials_set(client.tls, GNUTLS_CRD_CERTIFICATE, cred) == 0);
            quic_attach(&client);
            quic_run(&client, &server);
            gnutls_deinit(client.tls);
            gnutls_certificate_free_credentials(cred);
        } else {
            quic_run(&client, &server);
        }
        CHECK_INT(server.rv, ==, GNUTLS_E_NO_APPLICATION_PROTOCOL);
        ph_tls_quic_free(plain);
        ph_tls_quic_free(server.tls);
        pair_fini(&pair);
    }
}

TEST(tls_quic, alpn_is_an_obligation_and_addresses_are_no_names)
{
    struct pair pair;
    pair_init(&pair, alpn_h1, alpn_h1, NULL);
    gnutls_session_t tls;
    CHECK_INT(ph_tls_quic_new(&tls, pair.server_cred, true, NULL, NULL), ==, PH_E_INVAL);
    CHECK(tls == NULL);
    CHECK_INT(ph_tls_quic_new(&tls, pair.client_cred, true, "h3", NULL), ==, PH_E_INVAL);
    CHECK_INT(ph_tls_quic_new(&tls, pair.client_cred, false, "h3", "127.0.0.1"), ==, 0);
    char name[32];
    size_t n = sizeof(name);
    unsigned type;
    CHECK(gnutls_server_name_get(tls, name, &n, &type, 0) != 0);
    ph_tls_quic_free(tls);
    pair_fini(&pair);
}
