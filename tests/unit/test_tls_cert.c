/* test_tls_cert.c - loading of certificates and keys with the sentence for each way to get it
 * wrong, and the development certificate. */
#include "tls_fixture.h"

#include <sys/wait.h>

#define HOUR ((time_t)3600)
#define DAY (24 * HOUR)

/* Loads and expects failure with a sentence that contains both texts. */
static void expect_error(const struct ph_tls_cred_options *options, const char *a, const char *b)
{
    struct ph_tls_cred *cred = (struct ph_tls_cred *)1;
    struct ph_err err = {""};
    CHECK_INT(ph_tls_cred_load(&cred, options, &err), ==, PH_E_TLS);
    CHECK(cred == NULL);
    if (strstr(err.text, a) == NULL || strstr(err.text, b) == NULL)
        ph_test_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\" or \"%s\"", err.text, a, b);
}

TEST(tls_cert, good_pair_loads_and_hash_is_that_of_the_leaf)
{
    struct fixture fx;
    fixture_init(&fx);
    time_t now = time(NULL);
    gnutls_x509_privkey_t key = make_key();
    gnutls_x509_crt_t crt =
        make_crt("localhost", key, now - HOUR, now + DAY, GNUTLS_KP_TLS_WWW_SERVER, NULL, NULL);
    struct ph_tls_cred_options options = {.cert_path = write_crt(&fx, "cert.pem", crt),
                                          .key_path = write_key(&fx, "key.pem", key, NULL)};
    struct ph_tls_cred *cred;
    struct ph_err err;
    CHECK_INT(ph_tls_cred_load(&cred, &options, &err), ==, 0);
    uint8_t ours[32], theirs[32];
    size_t n = sizeof(theirs);
    ph_tls_cred_sha256(cred, ours);
    CHECK(gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, theirs, &n) == 0);
    CHECK_MEM(ours, theirs, 32);
    CHECK(ph_tls_cred_ref(cred) == cred);
    ph_tls_cred_unref(cred);
    CHECK_INT(ph_live_get(PH_LIVE_TLS_CRED), ==, 1);
    ph_tls_cred_unref(cred);
    ph_tls_cred_unref(NULL);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    fixture_fini(&fx);
}

TEST(tls_cert, key_may_stand_in_the_certificate_file_in_any_order)
{
    struct fixture fx;
    fixture_init(&fx);
    time_t now = time(NULL);
    gnutls_x509_privkey_t key = make_key();
    gnutls_x509_crt_t crt =
        make_crt("localhost", key, now - HOUR, now + DAY, GNUTLS_KP_TLS_WWW_SERVER, NULL, NULL);
    gnutls_datum_t cert_pem, key_pem, old_pem;
    CHECK(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &cert_pem) == 0);
    CHECK(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
                                            &key_pem) == 0);
    CHECK(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &old_pem) == 0); /* SEC 1 */
    static const char params[] = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
                                 "-----END EC PARAMETERS-----\n";
    const gnutls_datum_t none = {NULL, 0};
    const gnutls_datum_t ec = {(unsigned char *)(uintptr_t)params, sizeof(params) - 1};
    const gnutls_datum_t order[][3] = {
        {cert_pem, key_pem, none}, {key_pem, cert_pem, none}, {ec, old_pem, cert_pem}};
    for (size_t i = 0; i < PH_COUNT_OF(order); i++) {
        char all[8192];
        size_t n = 0;
        for (size_t k = 0; k < 3; k++) {
            memcpy(all + n, order[i][k].data != NULL ? (const char *)order[i][k].data : "",
                   order[i][k].size);
            n += order[i][k].size;
        }
        struct ph_tls_cred_options options = {.cert_path = fixture_write(&fx, "both.pem", all, n)};
        struct ph_tls_cred *cred;
        struct ph_err err = {""};
        if (ph_tls_cred_load(&cred, &options, &err) != 0)
            ph_test_fail(__FILE__, __LINE__, "order %zu: %s", i, err.text);
        ph_tls_cred_unref(cred);
    }
    gnutls_free(cert_pem.data);
    gnutls_free(key_pem.data);
    gnutls_free(old_pem.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    fixture_fini(&fx);
}

TEST(tls_cert, bad_files_are_named)
{
    struct fixture fx;
    fixture_init(&fx);
    write_pair(&fx, time(NULL) - HOUR, time(NULL) + DAY);
    const char *cert = fixture_path(&fx, "cert.pem"), *key = fixture_path(&fx, "key.pem");
    const char *junk = fixture_write(&fx, "junk.pem", "hello\n", 6);
    const char *empty = fixture_write(&fx, "empty.pem", "", 0);
    static const char broken[] = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    const char *bad = fixture_write(&fx, "bad.pem", broken, sizeof(broken) - 1);
    struct ph_tls_cred_options o = {.cert_path = "/nonexistent/c.pem", .key_path = key};
    expect_error(&o, "'/nonexistent/c.pem'", "does not exist");
    o.cert_path = fx.dir;
    expect_error(&o, fx.dir, "is a directory");
    o.cert_path = junk;
    expect_error(&o, "junk.pem", "is not PEM");
    o.cert_path = empty;
    expect_error(&o, "empty.pem", "is empty");
    o.cert_path = bad;
    expect_error(&o, "bad.pem", "certificate file");
    o.cert_path = key;
    expect_error(&o, "key.pem", "contains no PEM certificate");
    o = (struct ph_tls_cred_options){.cert_path = cert, .key_path = "/nonexistent/k.pem"};
    expect_error(&o, "'/nonexistent/k.pem'", "does not exist");
    o.key_path = cert;
    expect_error(&o, "cert.pem", "contains no PEM private key");
    o.key_path = NULL;
    expect_error(&o, "cert.pem", "contains no PEM private key");
    fixture_fini(&fx);
}

TEST(tls_cert, unreadable_file_is_named_with_the_reason)
{
    if (geteuid() == 0) {
        /* Nothing is unreadable to root: a path through a file gives the same branch. */
        struct fixture fx;
        fixture_init(&fx);
        write_pair(&fx, time(NULL) - HOUR, time(NULL) + DAY);
        struct ph_tls_cred_options o = {.cert_path = fixture_path(&fx, "cert.pem/x")};
        expect_error(&o, "cert.pem/x", "cannot be read: Not a directory");
        fixture_fini(&fx);
        return;
    }
    struct fixture fx;
    fixture_init(&fx);
    write_pair(&fx, time(NULL) - HOUR, time(NULL) + DAY);
    struct ph_tls_cred_options o = {.cert_path = fixture_path(&fx, "cert.pem"),
                                    .key_path = fixture_path(&fx, "key.pem")};
    CHECK(chmod(o.key_path, 0) == 0);
    expect_error(&o, "key.pem", "Permission denied");
    fixture_fini(&fx);
}

TEST(tls_cert, dates_outside_of_validity_are_told)
{
    struct fixture fx;
    fixture_init(&fx);
    struct ph_tls_cred_options o = {.cert_path = fixture_path(&fx, "cert.pem"),
                                    .key_path = fixture_path(&fx, "key.pem")};
    write_pair(&fx, 1000000000, 1100000000); /* until 2004-11-09 11:33:20 */
    expect_error(&o, "cert.pem", "expired on 2004-11-09 11:33:20 UTC");
    write_pair(&fx, 4000000000, 4100000000); /* from 2096-10-02 07:06:40 */
    expect_error(&o, "cert.pem", "is not valid before 2096-10-02 07:06:40 UTC");
    fixture_fini(&fx);
}

TEST(tls_cert, key_of_another_certificate_is_refused)
{
    struct fixture fx;
    fixture_init(&fx);
    write_pair(&fx, time(NULL) - HOUR, time(NULL) + DAY);
    gnutls_x509_privkey_t other = make_key();
    struct ph_tls_cred_options o = {.cert_path = fixture_path(&fx, "cert.pem"),
                                    .key_path = write_key(&fx, "other.pem", other, NULL)};
    expect_error(&o, "other.pem", "does not belong to the certificate");
    gnutls_x509_privkey_deinit(other);
    fixture_fini(&fx);
}

TEST(tls_cert, encrypted_key_needs_the_right_password)
{
    struct fixture fx;
    fixture_init(&fx);
    time_t now = time(NULL);
    gnutls_x509_privkey_t key = make_key();
    gnutls_x509_crt_t crt =
        make_crt("localhost", key, now - HOUR, now + DAY, GNUTLS_KP_TLS_WWW_SERVER, NULL, NULL);
    struct ph_tls_cred_options o = {.cert_path = write_crt(&fx, "cert.pem", crt),
                                    .key_path = write_key(&fx, "key.pem", key, "sesame")};
    expect_error(&o, "key.pem", "encrypted and no password");
    o.key_password = "wrong";
    expect_error(&o, "key.pem", "password is wrong");
    o.key_password = "sesame";
    struct ph_tls_cred *cred;
    struct ph_err err;
    CHECK_INT(ph_tls_cred_load(&cred, &o, &err), ==, 0);
    ph_tls_cred_unref(cred);
    /* A password for a key that needs none does no harm. */
    o.key_path = write_key(&fx, "plain.pem", key, NULL);
    CHECK_INT(ph_tls_cred_load(&cred, &o, &err), ==, 0);
    ph_tls_cred_unref(cred);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    fixture_fini(&fx);
}

TEST(tls_cert, client_verification_needs_a_usable_authority)
{
    struct fixture fx;
    fixture_init(&fx);
    write_pair(&fx, time(NULL) - HOUR, time(NULL) + DAY);
    struct ph_tls_cred_options o = {.cert_path = fixture_path(&fx, "cert.pem"),
                                    .key_path = fixture_path(&fx, "key.pem"),
                                    .verify = PH_TLS_VERIFY_REQUIRED};
    expect_error(&o, "CA file", "without");
    o.ca_path = "/nonexistent/ca.pem";
    expect_error(&o, "CA file '/nonexistent/ca.pem'", "does not exist");
    o.ca_path = fixture_write(&fx, "ca.pem", "nothing\n", 8);
    expect_error(&o, "ca.pem", "no");
    o.ca_path = o.cert_path;
    struct ph_tls_cred *cred;
    struct ph_err err;
    CHECK_INT(ph_tls_cred_load(&cred, &o, &err), ==, 0);
    ph_tls_cred_unref(cred);
    fixture_fini(&fx);
}

/* --- Development certificate --- */

struct dev {
    char cert[320], key[320], err[512];
    uint8_t sha256[32];
};

static int dev_make(const char *dir, struct dev *dev)
{
    return ph_dev_certificate(dir, dev->cert, sizeof(dev->cert), dev->key, sizeof(dev->key),
                              dev->sha256, dev->err, sizeof(dev->err));
}

static void dev_load(const struct dev *dev)
{
    struct ph_tls_cred_options o = {.cert_path = dev->cert, .key_path = dev->key};
    struct ph_tls_cred *cred;
    struct ph_err err = {""};
    if (ph_tls_cred_load(&cred, &o, &err) != 0)
        ph_test_fail(__FILE__, __LINE__, "%s", err.text);
    uint8_t sha256[32];
    ph_tls_cred_sha256(cred, sha256);
    ph_tls_cred_unref(cred);
    CHECK_MEM(sha256, dev->sha256, 32);
}

static gnutls_x509_crt_t dev_read(const struct dev *dev)
{
    gnutls_datum_t pem;
    gnutls_x509_crt_t crt;
    CHECK(gnutls_load_file(dev->cert, &pem) == 0);
    CHECK(gnutls_x509_crt_init(&crt) == 0);
    CHECK(gnutls_x509_crt_import(crt, &pem, GNUTLS_X509_FMT_PEM) == 0);
    gnutls_free(pem.data);
    return crt;
}

TEST(tls_dev, certificate_is_what_browsers_accept_by_hash)
{
    struct fixture fx;
    fixture_init(&fx);
    struct dev dev;
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    CHECK_STR(dev.err, "");
    dev_load(&dev);
    struct stat st;
    CHECK(stat(dev.key, &st) == 0);
    CHECK_INT(st.st_mode & 0777, ==, 0600);
    gnutls_x509_crt_t crt = dev_read(&dev);
    time_t from = gnutls_x509_crt_get_activation_time(crt);
    time_t to = gnutls_x509_crt_get_expiration_time(crt);
    CHECK_INT(to - from, ==, 13 * DAY);
    CHECK_INT(from, <=, time(NULL) - HOUR / 2);
    CHECK_INT(gnutls_x509_crt_get_version(crt), ==, 3);
    gnutls_ecc_curve_t curve;
    CHECK_INT(gnutls_x509_crt_get_pk_algorithm(crt, NULL), ==, GNUTLS_PK_ECDSA);
    CHECK(gnutls_x509_crt_get_pk_ecc_raw(crt, &curve, NULL, NULL) == 0);
    CHECK_INT(curve, ==, GNUTLS_ECC_CURVE_SECP256R1);
    CHECK(gnutls_x509_crt_check_hostname(crt, "localhost") != 0);
    CHECK(gnutls_x509_crt_check_hostname(crt, "127.0.0.1") != 0);
    CHECK(gnutls_x509_crt_check_hostname(crt, "::1") != 0);
    CHECK(gnutls_x509_crt_check_hostname(crt, "example.com") == 0);
    gnutls_x509_crt_deinit(crt);
    fixture_fini(&fx);
}

TEST(tls_dev, second_start_reuses_and_missing_directory_is_made)
{
    struct fixture fx;
    fixture_init(&fx);
    char sub[300];
    snprintf(sub, sizeof(sub), "%s/new", fx.dir);
    struct dev a, b;
    CHECK_INT(dev_make(sub, &a), ==, 0);
    CHECK_INT(dev_make(sub, &b), ==, 0);
    CHECK_MEM(a.sha256, b.sha256, 32);
    CHECK(unlink(a.cert) == 0 && unlink(a.key) == 0);
    CHECK(rmdir(sub) == 0);
    fixture_fini(&fx);
}

/* Leaves a certificate of the given dates with the key that is there. */
static void dev_backdate(struct fixture *fx, const struct dev *dev, time_t from, time_t to)
{
    gnutls_datum_t pem;
    gnutls_x509_privkey_t key;
    CHECK(gnutls_load_file(dev->key, &pem) == 0);
    CHECK(gnutls_x509_privkey_init(&key) == 0);
    CHECK(gnutls_x509_privkey_import(key, &pem, GNUTLS_X509_FMT_PEM) == 0);
    gnutls_free(pem.data);
    gnutls_x509_crt_t crt =
        make_crt("localhost", key, from, to, GNUTLS_KP_TLS_WWW_SERVER, NULL, NULL);
    write_crt(fx, "dev-cert.pem", crt);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

TEST(tls_dev, renews_below_two_days_and_keeps_above)
{
    struct fixture fx;
    fixture_init(&fx);
    time_t now = time(NULL);
    struct dev dev;
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    uint8_t first[32];
    memcpy(first, dev.sha256, 32);
    dev_backdate(&fx, &dev, now - 5 * DAY, now + 2 * DAY - 60); /* too little left */
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    dev_load(&dev);
    gnutls_x509_crt_t crt = dev_read(&dev);
    CHECK_INT(gnutls_x509_crt_get_expiration_time(crt), >, now + 12 * DAY);
    gnutls_x509_crt_deinit(crt);
    CHECK(memcmp(first, dev.sha256, 32) != 0);
    dev_backdate(&fx, &dev, now - 5 * DAY, now + 2 * DAY + 60); /* enough left */
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    crt = dev_read(&dev);
    CHECK_INT(gnutls_x509_crt_get_expiration_time(crt), ==, now + 2 * DAY + 60);
    gnutls_x509_crt_deinit(crt);
    dev_backdate(&fx, &dev, now - DAY, now + 20 * DAY); /* longer than browsers take */
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    crt = dev_read(&dev);
    CHECK_INT(gnutls_x509_crt_get_expiration_time(crt), <, now + 14 * DAY);
    gnutls_x509_crt_deinit(crt);
    fixture_fini(&fx);
}

TEST(tls_dev, damage_is_repaired)
{
    struct fixture fx;
    fixture_init(&fx);
    struct dev dev;
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    fixture_write(&fx, "dev-cert.pem", "-----BEGIN CERT", 15); /* half-written */
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    dev_load(&dev);
    fixture_write(&fx, "dev-key.pem", "junk", 4);
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    dev_load(&dev);
    gnutls_x509_privkey_t other = make_key(); /* mismatch */
    write_key(&fx, "dev-key.pem", other, NULL);
    gnutls_x509_privkey_deinit(other);
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    dev_load(&dev);
    CHECK(chmod(dev.key, 0644) == 0); /* others could have read it: a new one */
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    dev_load(&dev);
    struct stat st;
    CHECK(stat(dev.key, &st) == 0);
    CHECK_INT(st.st_mode & 0777, ==, 0600);
    fixture_fini(&fx);
}

/* By a GnuTLS that pads nothing, or by hand. */
TEST(tls_dev, a_key_that_is_not_written_as_ours_stays_and_is_written_anew)
{
    struct fixture fx;
    fixture_init(&fx);
    struct dev dev;
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    uint8_t first[32];
    memcpy(first, dev.sha256, 32);
    gnutls_datum_t ours, now;
    char other[1000];
    CHECK(gnutls_load_file(dev.key, &ours) == 0);
    int n = snprintf(other, sizeof(other), "a note\n%s", (const char *)ours.data);
    fixture_write(&fx, "dev-key.pem", other, (size_t)n);
    CHECK(chmod(dev.key, 0600) == 0);
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    CHECK_MEM(first, dev.sha256, 32);
    dev_load(&dev);
    CHECK(gnutls_load_file(dev.key, &now) == 0);
    CHECK_INT(now.size, ==, ours.size);
    CHECK_MEM(now.data, ours.data, ours.size);
    struct stat st;
    CHECK(stat(dev.key, &st) == 0);
    CHECK_INT(st.st_mode & 0777, ==, 0600);
    gnutls_free(ours.data);
    gnutls_free(now.data);
    fixture_fini(&fx);
}

TEST(tls_dev, starts_at_the_same_moment_agree)
{
    struct fixture fx;
    fixture_init(&fx);
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    enum { STARTS = 6 };
    for (int i = 0; i < STARTS; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            struct dev dev;
            if (dev_make(fx.dir, &dev) != 0)
                memset(dev.sha256, i, 32);
            ssize_t n = write(pipes[1], dev.sha256, 32);
            _exit(n != 32);
        }
    }
    uint8_t first[32], other[32];
    CHECK_INT(read(pipes[0], first, 32), ==, 32);
    for (int i = 1; i < STARTS; i++) {
        CHECK_INT(read(pipes[0], other, 32), ==, 32);
        CHECK_MEM(first, other, 32);
    }
    for (int i = 0; i < STARTS; i++) {
        int status = 1;
        CHECK(wait(&status) > 0);
        CHECK_INT(status, ==, 0);
    }
    close(pipes[0]);
    close(pipes[1]);
    struct dev dev;
    CHECK_INT(dev_make(fx.dir, &dev), ==, 0);
    CHECK_MEM(first, dev.sha256, 32);
    dev_load(&dev);
    fixture_fini(&fx);
}

TEST(tls_dev, impossible_directory_gives_a_sentence)
{
    struct dev dev;
    CHECK_INT(dev_make("/nonexistent/deep/dir", &dev), ==, PH_E_IO);
    CHECK(strstr(dev.err, "'/nonexistent/deep/dir'") != NULL);
    CHECK_INT(dev_make("/dev/null", &dev), ==, PH_E_IO);
    CHECK(strstr(dev.err, "'/dev/null'") != NULL);
    char small[8];
    CHECK_INT(ph_dev_certificate("directory", small, sizeof(small), dev.key, sizeof(dev.key),
                                 dev.sha256, dev.err, sizeof(dev.err)),
              ==, PH_E_IO);
    CHECK(strstr(dev.err, "too long") != NULL);
}
