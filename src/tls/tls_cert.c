/*
 * tls_cert.c - one certificate chain with its key, and the names that it is for.
 *
 *      files --read--> PEM --parse--> leaf, chain, key --check dates, pair--> ph_tls_cert
 *
 * Loading happens before the server starts, or on a reload away from the I/O thread; a file that is
 * wrong in any way gives one sentence that names it.
 */
#include "tls_internal.h"

bool ph_tls_is_pair(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
    uint8_t a[64], b[64];
    size_t a_len = sizeof(a), b_len = sizeof(b);
    if (gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, a, &a_len) < 0 ||
        gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, b, &b_len) < 0)
        return false;
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

/* --- Chain and key --- */

struct chain {
    gnutls_x509_crt_t *crts;
    unsigned count;
};

static void chain_fini(struct chain *chain)
{
    for (unsigned i = 0; i < chain->count; i++)
        gnutls_x509_crt_deinit(chain->crts[i]);
    gnutls_free(chain->crts);
    *chain = (struct chain){NULL, 0};
}

static int chain_load(struct chain *chain, const char *path, struct ph_err *err)
{
    gnutls_datum_t file;
    int rv = ph_tls_file_read(&file, "certificate file", path, err);
    if (rv != 0)
        return rv;
    if (strstr((const char *)file.data, "-----BEGIN") == NULL) {
        rv = ph_fail(err, PH_E_TLS, "certificate file '%s' is not PEM", path);
        goto out;
    }
    int got =
        gnutls_x509_crt_list_import2(&chain->crts, &chain->count, &file, GNUTLS_X509_FMT_PEM, 0);
    if (got == GNUTLS_E_NO_CERTIFICATE_FOUND || (got >= 0 && chain->count == 0))
        rv = ph_fail(err, PH_E_TLS, "certificate file '%s' contains no PEM certificate", path);
    else if (got < 0)
        rv = ph_fail(err, PH_E_TLS, "certificate file '%s' cannot be parsed: %s", path,
                     gnutls_strerror(got));
    if (got < 0)
        *chain = (struct chain){NULL, 0};
out:
    ph_tls_file_free(&file);
    return rv;
}

static int chain_check_dates(const struct chain *chain, const char *path, struct ph_err *err)
{
    char date[PH_TLS_DATE_LEN];
    time_t now = time(NULL);
    for (unsigned i = 0; i < chain->count; i++) {
        const char *which = i == 0 ? "the certificate" : "a chain certificate";
        time_t from = gnutls_x509_crt_get_activation_time(chain->crts[i]);
        time_t to = gnutls_x509_crt_get_expiration_time(chain->crts[i]);
        if (from == (time_t)-1 || to == (time_t)-1)
            return ph_fail(err, PH_E_TLS, "certificate file '%s': %s has no valid dates", path,
                           which);
        if (to < now)
            return ph_fail(err, PH_E_TLS, "certificate file '%s': %s expired on %s", path, which,
                           ph_tls_date(date, to));
        if (from > now)
            return ph_fail(err, PH_E_TLS, "certificate file '%s': %s is not valid before %s", path,
                           which, ph_tls_date(date, from));
    }
    return 0;
}

/* The first block "-----BEGIN ... PRIVATE KEY-----"; blocks before it (a certificate, EC
 * PARAMETERS) are passed over. NULL when there is none. */
static const char *find_key_block(const char *pem)
{
    static const char begin[] = "-----BEGIN ";
    for (const char *p = strstr(pem, begin); p != NULL; p = strstr(p + 1, begin)) {
        const char *label = p + sizeof(begin) - 1;
        const char *end = strstr(label, "-----");
        size_t n = end == NULL ? 0 : (size_t)(end - label);
        static const char tail[] = "PRIVATE KEY";
        if (n >= sizeof(tail) - 1 &&
            memcmp(label + n - (sizeof(tail) - 1), tail, sizeof(tail) - 1) == 0)
            return p;
    }
    return NULL;
}

/* PKCS #8 says it in the label, the older formats in a header line inside of the block. */
static bool is_encrypted_block(const char *block)
{
    static const char pkcs8[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    if (strncmp(block, pkcs8, sizeof(pkcs8) - 1) == 0)
        return true;
    const char *end = strstr(block, "-----END");
    const char *mark = strstr(block, "Proc-Type: 4,ENCRYPTED");
    return mark != NULL && (end == NULL || mark < end);
}

static int key_load(gnutls_x509_privkey_t *out, const struct ph_tls_cert_files *files,
                    const char *password, struct ph_err *err)
{
    const char *path = files->key != NULL ? files->key : files->cert;
    gnutls_datum_t file;
    int rv = ph_tls_file_read(&file, "key file", path, err);
    if (rv != 0)
        return rv;
    const char *block = find_key_block((const char *)file.data);
    if (block == NULL) {
        rv = ph_fail(err, PH_E_TLS, "key file '%s' contains no PEM private key", path);
        goto out;
    }
    bool encrypted = is_encrypted_block(block);
    if (encrypted && password == NULL) {
        rv = ph_fail(err, PH_E_TLS, "key file '%s' is encrypted and no password was given", path);
        goto out;
    }
    gnutls_datum_t pem = {(unsigned char *)(uintptr_t)block, (unsigned)strlen(block)};
    PH_ASSERT(gnutls_x509_privkey_init(out) == 0);
    int got = gnutls_x509_privkey_import2(*out, &pem, GNUTLS_X509_FMT_PEM,
                                          encrypted ? password : NULL, 0);
    if (got < 0) {
        gnutls_x509_privkey_deinit(*out);
        *out = NULL;
        rv = encrypted ? ph_fail(err, PH_E_TLS, "key file '%s': the password is wrong (%s)", path,
                                 gnutls_strerror(got))
                       : ph_fail(err, PH_E_TLS, "key file '%s' cannot be parsed: %s", path,
                                 gnutls_strerror(got));
    }
out:
    ph_tls_file_free(&file);
    return rv;
}

/* The first line of a file; the rest of it is nobody's. */
static int password_load(gnutls_datum_t *out, const char *path, struct ph_err *err)
{
    int rv = ph_tls_file_read(out, "password file", path, err);
    if (rv != 0)
        return rv;
    out->data[strcspn((const char *)out->data, "\r\n")] = '\0';
    return 0;
}

/* --- The certificate --- */

/* With the NUL that makes it a string. */
static struct ph_buf *pem_of(gnutls_x509_crt_t crt)
{
    gnutls_datum_t pem = {NULL, 0};
    PH_ASSERT(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem) == 0);
    struct ph_buf *buf = ph_buf_new(pem.size + 1);
    memcpy(buf->data, pem.data, pem.size);
    buf->data[pem.size] = '\0';
    ph_buf_set_len(buf, pem.size + 1);
    gnutls_free(pem.data);
    return buf;
}

/* Takes the key and what is in the chain into the form that handshakes need. */
static int cert_fill(struct ph_tls_cert *cert, struct chain *chain, gnutls_x509_privkey_t key,
                     const char *path, struct ph_err *err)
{
    size_t n = sizeof(cert->sha256);
    PH_ASSERT(
        gnutls_x509_crt_get_fingerprint(chain->crts[0], GNUTLS_DIG_SHA256, cert->sha256, &n) == 0);
    cert->expires = gnutls_x509_crt_get_expiration_time(chain->crts[0]);
    cert->type = gnutls_x509_crt_get_pk_algorithm(chain->crts[0], NULL);
    cert->pem = pem_of(chain->crts[0]);
    cert->chain = ph_alloc(sizeof(*cert->chain) * chain->count);
    int got = gnutls_privkey_init(&cert->key);
    if (got >= 0)
        got = gnutls_privkey_import_x509(cert->key, key, GNUTLS_PRIVKEY_IMPORT_COPY);
    for (; got >= 0 && cert->count < chain->count; cert->count++) {
        got = gnutls_pcert_import_x509(&cert->chain[cert->count], chain->crts[cert->count], 0);
        if (got < 0)
            break;
    }
    cert->leaf = chain->crts[0];
    chain->crts[0] = NULL; /* taken; deinit of NULL does nothing */
    if (got < 0)
        return ph_fail(err, PH_E_TLS, "certificate file '%s' cannot be used: %s", path,
                       gnutls_strerror(got));
    return 0;
}

int ph_tls_cert_load(struct ph_tls_cert *cert, const struct ph_tls_cert_files *files,
                     enum ph_tls_file *failed, struct ph_err *err)
{
    struct chain chain = {NULL, 0};
    gnutls_x509_privkey_t key = NULL;
    gnutls_datum_t password = {NULL, 0};
    memset(cert, 0, sizeof(*cert));
    *failed = PH_TLS_FILE_CERT;
    int rv = chain_load(&chain, files->cert, err);
    if (rv == 0) {
        *failed = PH_TLS_FILE_KEY;
        if (files->password_file != NULL)
            rv = password_load(&password, files->password_file, err);
        if (rv == 0)
            rv = key_load(&key, files,
                          password.data != NULL ? (const char *)password.data : files->password,
                          err);
    }
    if (rv == 0) {
        *failed = PH_TLS_FILE_CERT;
        rv = chain_check_dates(&chain, files->cert, err);
    }
    if (rv == 0 && !ph_tls_is_pair(chain.crts[0], key)) {
        *failed = PH_TLS_FILE_KEY;
        rv = ph_fail(err, PH_E_TLS, "key file '%s' does not belong to the certificate in '%s'",
                     files->key != NULL ? files->key : files->cert, files->cert);
    }
    if (rv == 0) {
        *failed = PH_TLS_FILE_CERT;
        rv = cert_fill(cert, &chain, key, files->cert, err);
    }
    chain_fini(&chain);
    if (key != NULL)
        gnutls_x509_privkey_deinit(key);
    ph_tls_file_free(&password);
    if (rv != 0)
        ph_tls_cert_fini(cert);
    return rv;
}

void ph_tls_cert_fini(struct ph_tls_cert *cert)
{
    for (unsigned i = 0; i < cert->count; i++)
        gnutls_pcert_deinit(&cert->chain[i]);
    ph_free(cert->chain);
    if (cert->key != NULL)
        gnutls_privkey_deinit(cert->key);
    if (cert->leaf != NULL)
        gnutls_x509_crt_deinit(cert->leaf);
    ph_buf_unref(cert->pem);
    memset(cert, 0, sizeof(*cert));
}

bool ph_tls_cert_is_for(const struct ph_tls_cert *cert, const char *name, bool wildcards)
{
    unsigned flags = wildcards ? 0 : GNUTLS_VERIFY_DO_NOT_ALLOW_WILDCARDS;
    return gnutls_x509_crt_check_hostname2(cert->leaf, name, flags) != 0;
}
