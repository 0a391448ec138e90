/* test_tls_suits_h2.c - which TLS sessions are good enough for HTTP/2 (RFC 9113 9.2.2): what we
 * would never agree on by ourselves, a server that was told to accept anything agrees on. */
#include "../../src/tls/tls_internal.h"
#include "tls_fixture.h"
#include "tls_raw.h"

TEST(tls_suits_h2, modern_suites_do_and_those_of_appendix_a_do_not)
{
    static const struct {
        const char *client;
        bool suits;
    } cases[] = {
        {"NORMAL:-VERS-ALL:+VERS-TLS1.3", true},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM:-KX-ALL:+ECDHE-ECDSA", true},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305:-KX-ALL:+ECDHE-ECDSA", true},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC:-KX-ALL:+ECDHE-ECDSA", false},
        {"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-256-CBC:-KX-ALL:+ECDHE-ECDSA", false},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct fixture fx;
        struct ph_tls_session *server;
        struct raw raw;
        fixture_init(&fx);
        write_pair(&fx, time(NULL) - 3600, time(NULL) + 86400);
        struct ph_tls_cred_options o = {.cert_path = fixture_path(&fx, "cert.pem"),
                                        .key_path = fixture_path(&fx, "key.pem")};
        struct ph_tls_cred *cred;
        CHECK_INT(ph_tls_cred_load(&cred, &o, NULL), ==, 0);
        gnutls_priority_deinit(cred->tcp);
        CHECK_INT(gnutls_priority_init(&cred->tcp, "NORMAL:+SHA1", NULL), ==, 0);
        CHECK_INT(ph_tls_session_new(&server, cred, true, NULL), ==, 0);
        raw_init(&raw, server, cases[i].client);
        int rv = raw_handshake(&raw);
        if (rv != 0 || ph_tls_session_suits_h2(server) != cases[i].suits)
            ph_test_fail(__FILE__, __LINE__, "%s: %s", cases[i].client, gnutls_strerror(rv));
        raw_fini(&raw);
        ph_tls_session_free(server);
        ph_tls_cred_unref(cred);
        fixture_fini(&fx);
    }
}
