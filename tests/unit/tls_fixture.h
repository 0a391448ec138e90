/*
 * tls_fixture.h - certificates made on the spot for the TLS tests: a temporary directory, keys and
 * certificates with chosen dates and issuer, and files with chosen contents.
 */
#ifndef PH_TLS_FIXTURE_H
#define PH_TLS_FIXTURE_H

#include "../../src/tls/tls.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct fixture {
    char dir[256];
    char path[8][320]; /* of fixture_path(), in turn */
    unsigned next;
};

static inline void fixture_init(struct fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    const char *base = getenv("TMPDIR");
    snprintf(fixture->dir, sizeof(fixture->dir), "%s/ph-tls-XXXXXX",
             base != NULL ? base : P_tmpdir);
    CHECK(mkdtemp(fixture->dir) != NULL);
}

static inline void fixture_fini(struct fixture *fixture)
{
    DIR *dir = opendir(fixture->dir);
    CHECK(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[600];
        snprintf(path, sizeof(path), "%s/%s", fixture->dir, entry->d_name);
        unlink(path);
    }
    closedir(dir);
    CHECK(rmdir(fixture->dir) == 0);
}

static inline const char *fixture_path(struct fixture *fixture, const char *name)
{
    char *out = fixture->path[fixture->next++ % PH_COUNT_OF(fixture->path)];
    char full[sizeof(fixture->path[0])];
    snprintf(full, sizeof(full), "%s/%s", fixture->dir, name);
    memcpy(out, full, sizeof(full));
    return out;
}

static inline const char *fixture_write(struct fixture *fixture, const char *name, const void *data,
                                        size_t n)
{
    const char *path = fixture_path(fixture, name);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK_INT(fwrite(data, 1, n, file), ==, n);
    CHECK(fclose(file) == 0);
    return path;
}

static inline gnutls_x509_privkey_t make_key(void)
{
    gnutls_x509_privkey_t key;
    CHECK(gnutls_x509_privkey_init(&key) == 0);
    CHECK(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                       GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) == 0);
    return key;
}

/* A certificate for `name` signed by `issuer` (NULL: by itself). `purpose` NULL: an authority. */
static inline gnutls_x509_crt_t make_crt(const char *name, gnutls_x509_privkey_t key, time_t from,
                                         time_t to, const char *purpose, gnutls_x509_crt_t issuer,
                                         gnutls_x509_privkey_t issuer_key)
{
    gnutls_x509_crt_t crt;
    uint8_t serial[8], id[20];
    size_t id_len = sizeof(id);
    char dn[64];
    ph_random(serial, sizeof(serial));
    serial[0] &= 0x7f;
    serial[0] |= 1;
    snprintf(dn, sizeof(dn), "CN=%s", name);
    CHECK(gnutls_x509_crt_init(&crt) == 0);
    CHECK(gnutls_x509_crt_set_version(crt, 3) == 0);
    CHECK(gnutls_x509_crt_set_key(crt, key) == 0);
    CHECK(gnutls_x509_crt_set_serial(crt, serial, sizeof(serial)) == 0);
    CHECK(gnutls_x509_crt_set_activation_time(crt, from) == 0);
    CHECK(gnutls_x509_crt_set_expiration_time(crt, to) == 0);
    CHECK(gnutls_x509_crt_set_dn(crt, dn, NULL) == 0);
    CHECK(gnutls_x509_crt_set_basic_constraints(crt, purpose == NULL, -1) == 0);
    CHECK(gnutls_x509_crt_get_key_id(crt, 0, id, &id_len) == 0);
    CHECK(gnutls_x509_crt_set_subject_key_id(crt, id, id_len) == 0);
    if (purpose != NULL) {
        CHECK(gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE) == 0);
        CHECK(gnutls_x509_crt_set_key_purpose_oid(crt, purpose, 0) == 0);
        CHECK(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name,
                                                   (unsigned)strlen(name), GNUTLS_FSAN_SET) == 0);
    } else {
        CHECK(gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_KEY_CERT_SIGN) == 0);
    }
    CHECK(gnutls_x509_crt_sign2(crt, issuer != NULL ? issuer : crt,
                                issuer_key != NULL ? issuer_key : key, GNUTLS_DIG_SHA256, 0) == 0);
    return crt;
}

static inline const char *write_crt(struct fixture *fixture, const char *name,
                                    gnutls_x509_crt_t crt)
{
    gnutls_datum_t pem;
    CHECK(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem) == 0);
    const char *path = fixture_write(fixture, name, pem.data, pem.size);
    gnutls_free(pem.data);
    return path;
}

/* `password` NULL: not encrypted. */
static inline const char *write_key(struct fixture *fixture, const char *name,
                                    gnutls_x509_privkey_t key, const char *password)
{
    gnutls_datum_t pem;
    CHECK(gnutls_x509_privkey_export2_pkcs8(
              key, GNUTLS_X509_FMT_PEM, password,
              password == NULL ? GNUTLS_PKCS_PLAIN : GNUTLS_PKCS_PBES2_AES_256, &pem) == 0);
    const char *path = fixture_write(fixture, name, pem.data, pem.size);
    gnutls_free(pem.data);
    return path;
}

/* cert.pem and key.pem in the fixture: a self-signed server certificate of these dates. */
static inline void write_pair(struct fixture *fixture, time_t from, time_t to)
{
    gnutls_x509_privkey_t key = make_key();
    gnutls_x509_crt_t crt =
        make_crt("localhost", key, from, to, GNUTLS_KP_TLS_WWW_SERVER, NULL, NULL);
    write_crt(fixture, "cert.pem", crt);
    write_key(fixture, "key.pem", key, NULL);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

#endif
