/*
 * tls_dev.c - the development certificate: what a page's serverCertificateHashes accepts without
 * any authority.
 *
 * The W3C WebTransport specification wants ECDSA on P-256, X.509v3 and a validity of at most two
 * weeks. Ours is valid for 13 days in all, beginning one hour ago (clocks differ), and is renewed
 * when less than two days are left.
 *
 * Several servers may start in one directory at the same moment. The directory is locked while
 * files are looked at and written, each file is written under a name of its own and renamed, and a
 * renewed certificate keeps its key: whoever reads the two files at any moment finds a pair.
 */
#include "tls_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY ((time_t)86400)
#define BACKDATE ((time_t)3600) /* seconds between not-before and now */
#define VALIDITY (13 * DAY)     /* in all; browsers refuse more than 14 days */
#define RENEW_BEFORE (2 * DAY)  /* left of it when a new one is made */
#define CERT_NAME "dev-cert.pem"
#define KEY_NAME "dev-key.pem"

/* --- Files --- */

/* Writes a file that nobody can see half-written. PH_E_IO. */
static int file_replace(int dir, const char *dir_path, const char *name, mode_t mode,
                        const gnutls_datum_t *data, struct ph_err *err)
{
    uint64_t salt;
    ph_random(&salt, sizeof(salt));
    char temp[64];
    snprintf(temp, sizeof(temp), ".%s.%016llx", name, (unsigned long long)salt);
    int fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return ph_fail(err, PH_E_IO, "'%s/%s' cannot be created: %s", dir_path, name,
                       strerror(errno));
    size_t done = 0;
    while (done < data->size) {
        ssize_t n = write(fd, data->data + done, data->size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    int why = errno;
    bool ok = done == data->size;
    if (close(fd) != 0 && ok) {
        why = errno;
        ok = false;
    }
    if (ok && renameat(dir, temp, dir, name) != 0) {
        why = errno;
        ok = false;
    }
    if (ok)
        return 0;
    unlinkat(dir, temp, 0);
    return ph_fail(err, PH_E_IO, "'%s/%s' cannot be written: %s", dir_path, name, strerror(why));
}

/* --- Key --- */

#define COORDINATE 32 /* bytes of a number on P-256 */

/* PKCS#8 (RFC 5208 5) around an ECPrivateKey (RFC 5915 3) of P-256, up to the private number; and
 * from there to the public point. All lengths are constant, because all numbers are padded. */
static const uint8_t before_k[] = {
    0x30, 0x81,      0x87, 0x02, 0x01, 0x00,                               /* version 0 */
    0x30, 0x13,      0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, /* id-ecPublicKey */
    0x06, 0x08,      0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,       /* secp256r1 */
    0x04, 0x6d,      0x30, 0x6b, 0x02, 0x01, 0x01,                         /* version 1 */
    0x04, COORDINATE};
static const uint8_t before_xy[] = {0xa1, 0x44, 0x03, 0x42, 0x00, 0x04}; /* not compressed */

/* A number of GnuTLS, which has a zero in front or lacks some, as wide as the curve wants it. */
static uint8_t *put_number(uint8_t *p, const gnutls_datum_t *number)
{
    const uint8_t *from = number->data;
    size_t n = number->size;
    for (; n > COORDINATE; n--, from++)
        PH_ASSERT(*from == 0);
    memset(p, 0, COORDINATE - n);
    memcpy(p + COORDINATE - n, from, n);
    return p + COORDINATE;
}

/* The key as text that every reader takes: GnuTLS before 3.8 writes the private number as long as
 * it happens to be, which strict ones refuse (RFC 5915 3 wants its length fixed). `pem`: caller
 * owns.
 */
static int key_export(gnutls_x509_privkey_t key, gnutls_datum_t *pem)
{
    gnutls_ecc_curve_t curve;
    gnutls_datum_t x = {NULL, 0}, y = {NULL, 0}, k = {NULL, 0};
    int rv = gnutls_x509_privkey_export_ecc_raw(key, &curve, &x, &y, &k);
    if (rv < 0)
        return rv;
    uint8_t der[sizeof(before_k) + sizeof(before_xy) + 3 * COORDINATE], *p = der;
    memcpy(p, before_k, sizeof(before_k));
    p = put_number(p + sizeof(before_k), &k);
    memcpy(p, before_xy, sizeof(before_xy));
    p = put_number(p + sizeof(before_xy), &x);
    p = put_number(p, &y);
    PH_ASSERT(p == der + sizeof(der));
    rv = gnutls_pem_base64_encode2("PRIVATE KEY", &(gnutls_datum_t){der, sizeof(der)}, pem);
    gnutls_memset(der, 0, sizeof(der));
    gnutls_memset(k.data, 0, k.size);
    gnutls_free(k.data);
    gnutls_free(x.data);
    gnutls_free(y.data);
    return rv;
}

static void key_text_free(gnutls_datum_t *pem)
{
    if (pem->data != NULL)
        gnutls_memset(pem->data, 0, pem->size);
    gnutls_free(pem->data);
}

static bool is_p256(gnutls_x509_privkey_t key)
{
    gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
    return gnutls_x509_privkey_get_pk_algorithm(key) == GNUTLS_PK_ECDSA &&
           gnutls_x509_privkey_export_ecc_raw(key, &curve, NULL, NULL, NULL) == 0 &&
           curve == GNUTLS_ECC_CURVE_SECP256R1;
}

/* The key in the file when it is usable: P-256 and readable by its owner alone. `is_ours`: the file
 * is as we write it. */
static bool key_read(gnutls_x509_privkey_t key, const char *path, bool *is_ours)
{
    struct stat st;
    gnutls_datum_t file, text = {NULL, 0};
    if (stat(path, &st) != 0 || (st.st_mode & 077) != 0 ||
        ph_tls_file_read(&file, "key", path, NULL) != 0)
        return false;
    bool ok = gnutls_x509_privkey_import(key, &file, GNUTLS_X509_FMT_PEM) == 0 && is_p256(key);
    *is_ours = ok && key_export(key, &text) == 0 && text.size == file.size &&
               memcmp(text.data, file.data, file.size) == 0;
    key_text_free(&text);
    ph_tls_file_free(&file);
    return ok;
}

static int key_write(gnutls_x509_privkey_t key, int dir, const char *dir_path, struct ph_err *err)
{
    gnutls_datum_t text = {NULL, 0};
    int got = key_export(key, &text);
    if (got < 0)
        return ph_fail(err, PH_E_TLS, "a development key cannot be written: %s",
                       gnutls_strerror(got));
    int rv = file_replace(dir, dir_path, KEY_NAME, 0600, &text, err);
    key_text_free(&text);
    return rv;
}

static int key_make(gnutls_x509_privkey_t key, int dir, const char *dir_path, struct ph_err *err)
{
    int got = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                           GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    if (got < 0)
        return ph_fail(err, PH_E_TLS, "a development key cannot be made: %s", gnutls_strerror(got));
    return key_write(key, dir, dir_path, err);
}

/* --- Certificate --- */

static bool cert_read(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const char *path,
                      time_t now)
{
    gnutls_datum_t file;
    if (ph_tls_file_read(&file, "certificate", path, NULL) != 0)
        return false;
    bool ok = gnutls_x509_crt_import(crt, &file, GNUTLS_X509_FMT_PEM) == 0;
    ph_tls_file_free(&file);
    if (!ok || !ph_tls_is_pair(crt, key))
        return false;
    time_t from = gnutls_x509_crt_get_activation_time(crt);
    time_t to = gnutls_x509_crt_get_expiration_time(crt);
    return from <= now && to - now >= RENEW_BEFORE && to - from <= VALIDITY &&
           gnutls_x509_crt_check_hostname(crt, "localhost") != 0;
}

static int cert_fill(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, time_t now)
{
    static const uint8_t v4[4] = {127, 0, 0, 1};
    static const uint8_t v6[16] = {[15] = 1};
    uint8_t serial[16], id[20];
    ph_random(serial, sizeof(serial));
    serial[0] = (uint8_t)((serial[0] & 0x3f) | 0x40); /* positive, RFC 5280 4.1.2.2 */
    size_t id_len = sizeof(id);
    int rv = gnutls_x509_crt_set_version(crt, 3);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_key(crt, key);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_serial(crt, serial, sizeof(serial));
    if (rv >= 0)
        rv = gnutls_x509_crt_set_activation_time(crt, now - BACKDATE);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_expiration_time(crt, now - BACKDATE + VALIDITY);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_dn(crt, "CN=localhost,O=Pronghorn development", NULL);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost", 9,
                                                  GNUTLS_FSAN_SET);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, v4, sizeof(v4),
                                                  GNUTLS_FSAN_APPEND);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, v6, sizeof(v6),
                                                  GNUTLS_FSAN_APPEND);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
    if (rv >= 0)
        rv = gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA1, id, &id_len);
    if (rv >= 0)
        rv = gnutls_x509_crt_set_subject_key_id(crt, id, id_len);
    if (rv >= 0)
        rv = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    return rv;
}

static int cert_make(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, time_t now, int dir,
                     const char *dir_path, struct ph_err *err)
{
    gnutls_datum_t pem = {NULL, 0};
    int got = cert_fill(crt, key, now);
    if (got >= 0)
        got = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);
    if (got < 0)
        return ph_fail(err, PH_E_TLS, "a development certificate cannot be made: %s",
                       gnutls_strerror(got));
    int rv = file_replace(dir, dir_path, CERT_NAME, 0644, &pem, err);
    gnutls_free(pem.data);
    return rv;
}

/* --- The public function --- */

static int dir_open(const char *path, int *out, struct ph_err *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return ph_fail(err, PH_E_IO, "directory '%s' cannot be made: %s", path, strerror(errno));
    *out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out < 0)
        return ph_fail(err, PH_E_IO, "directory '%s' cannot be opened: %s", path, strerror(errno));
    /* A file system without locks leaves us with atomic renames, which is nearly as good. */
    while (flock(*out, LOCK_EX) != 0 && errno == EINTR)
        continue;
    return 0;
}

static int renew(const char *dir_path, const char *cert_path, const char *key_path,
                 uint8_t sha256[32], struct ph_err *err)
{
    int dir = -1;
    int rv = dir_open(dir_path, &dir, err);
    if (rv != 0)
        return rv;
    time_t now = time(NULL);
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    PH_ASSERT(gnutls_x509_privkey_init(&key) == 0);
    PH_ASSERT(gnutls_x509_crt_init(&crt) == 0);
    bool is_ours = false;
    if (!key_read(key, key_path, &is_ours)) {
        gnutls_x509_privkey_deinit(key); /* may hold the remains of an import */
        PH_ASSERT(gnutls_x509_privkey_init(&key) == 0);
        rv = key_make(key, dir, dir_path, err);
    } else if (!is_ours) {
        rv = key_write(key, dir, dir_path, err); /* the same key, so that everybody can read it */
    }
    if (rv == 0 && !cert_read(crt, key, cert_path, now)) {
        gnutls_x509_crt_deinit(crt);
        PH_ASSERT(gnutls_x509_crt_init(&crt) == 0);
        rv = cert_make(crt, key, now, dir, dir_path, err);
    }
    size_t n = 32;
    if (rv == 0 && gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, sha256, &n) < 0)
        rv = ph_fail(err, PH_E_TLS, "the hash of '%s' cannot be computed", cert_path);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    close(dir); /* unlocks */
    return rv;
}

int ph_dev_certificate(const char *dir, char *cert_path, size_t cert_path_len, char *key_path,
                       size_t key_path_len, uint8_t sha256[32], char *err, size_t err_len)
{
    struct ph_err why = {""};
    int rv = 0;
    int cert_n = snprintf(cert_path, cert_path_len, "%s/" CERT_NAME, dir);
    int key_n = snprintf(key_path, key_path_len, "%s/" KEY_NAME, dir);
    if (cert_n < 0 || key_n < 0 || (size_t)cert_n >= cert_path_len || (size_t)key_n >= key_path_len)
        rv = ph_fail(&why, PH_E_IO, "directory '%s' has too long a path", dir);
    else
        rv = renew(dir, cert_path, key_path, sha256, &why);
    if (err != NULL && err_len > 0)
        snprintf(err, err_len, "%s", why.text);
    return rv;
}
