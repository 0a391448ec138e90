/*
 * tls_cert.c - credentials: a certificate chain with its key, shared by sessions and replaced as a
 * whole.
 *
 * Loading happens before the server starts, or on a reload; a file that is wrong in any way gives
 * one sentence that names it and leaves the credentials in use untouched, because a reload makes a
 * new object. Sessions hold references, so that a replaced certificate lives until the last
 * handshake that began with it has ended.
 *
 *      files --read--> PEM --parse--> leaf, chain, key --check dates, pair--> ph_tls_cred
 *
 * Files are read by us rather than by GnuTLS, whose file functions say "error while reading file"
 * for all that can go wrong.
 */
#include "tls_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* AES-GCM first: every server processor has instructions for it. No CBC, no static RSA, no finite
 * field Diffie-Hellman (slow, and a favourite of floods). */
#define CIPHERS "-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:-MAC-ALL:+AEAD"
#define GROUPS "-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1"
static const char priority_tcp[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:" CIPHERS
                                   ":-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:" GROUPS ":%SERVER_PRECEDENCE";
/* RFC 9001 4.2 and 8.4: TLS 1.3 without the middlebox compatibility mode. */
static const char priority_quic[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:" CIPHERS ":" GROUPS
                                    ":%SERVER_PRECEDENCE:%DISABLE_TLS13_COMPAT_MODE";

/* --- Files and dates --- */

int ph_tls_file_read(gnutls_datum_t *out, const char *what, const char *path, struct ph_err *err)
{
    *out = (gnutls_datum_t){NULL, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? ph_fail(err, PH_E_TLS, "%s '%s' does not exist", what, path)
                               : ph_fail(err, PH_E_TLS, "%s '%s' cannot be read: %s", what, path,
                                         strerror(errno));
    }
    struct stat st;
    int rv = 0;
    if (fstat(fd, &st) != 0) {
        rv = ph_fail(err, PH_E_TLS, "%s '%s' cannot be read: %s", what, path, strerror(errno));
        goto out;
    }
    if (S_ISDIR(st.st_mode)) {
        rv = ph_fail(err, PH_E_TLS, "%s '%s' is a directory", what, path);
        goto out;
    }
    /* Read to the end rather than by st_size: pipes and secret mounts have none. */
    uint8_t *data = ph_alloc(PH_TLS_FILE_MAX + 1);
    size_t n = 0;
    out->data = data;
    while (n < PH_TLS_FILE_MAX) {
        ssize_t got = read(fd, data + n, PH_TLS_FILE_MAX - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            rv = ph_fail(err, PH_E_TLS, "%s '%s' cannot be read: %s", what, path, strerror(errno));
            goto out;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    out->size = (unsigned)n;
    if (n == PH_TLS_FILE_MAX)
        rv = ph_fail(err, PH_E_TLS, "%s '%s' is larger than %d bytes", what, path,
                     PH_TLS_FILE_MAX - 1);
    else if (n == 0)
        rv = ph_fail(err, PH_E_TLS, "%s '%s' is empty", what, path);
out:
    close(fd);
    if (rv != 0)
        ph_tls_file_free(out);
    return rv;
}

void ph_tls_file_free(gnutls_datum_t *file)
{
    if (file->data != NULL)
        gnutls_memset(file->data, 0, file->size);
    ph_free(file->data);
    *file = (gnutls_datum_t){NULL, 0};
}

const char *ph_tls_date(char *out, time_t when)
{
    struct tm tm;
    if (gmtime_r(&when, &tm) == NULL || strftime(out, PH_TLS_DATE_LEN, "%F %T UTC", &tm) == 0)
        snprintf(out, PH_TLS_DATE_LEN, "%lld", (long long)when);
    return out;
}

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

static int key_load(gnutls_x509_privkey_t *out, const struct ph_tls_cred_options *options,
                    struct ph_err *err)
{
    const char *path = options->key_path != NULL ? options->key_path : options->cert_path;
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
    if (encrypted && options->key_password == NULL) {
        rv = ph_fail(err, PH_E_TLS, "key file '%s' is encrypted and no password was given", path);
        goto out;
    }
    gnutls_datum_t pem = {(unsigned char *)(uintptr_t)block, (unsigned)strlen(block)};
    PH_ASSERT(gnutls_x509_privkey_init(out) == 0);
    int got = gnutls_x509_privkey_import2(*out, &pem, GNUTLS_X509_FMT_PEM,
                                          encrypted ? options->key_password : NULL, 0);
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

static int trust_load(struct ph_tls_cred *cred, const struct ph_tls_cred_options *options,
                      struct ph_err *err)
{
    if (options->verify == PH_TLS_VERIFY_NONE)
        return 0;
    if (options->ca_path == NULL)
        return ph_fail(err, PH_E_TLS, "client certificates cannot be verified without a CA file");
    gnutls_datum_t file;
    int rv = ph_tls_file_read(&file, "CA file", options->ca_path, err);
    if (rv != 0)
        return rv;
    int got = gnutls_certificate_set_x509_trust_mem(cred->x509, &file, GNUTLS_X509_FMT_PEM);
    if (got < 0)
        rv = ph_fail(err, PH_E_TLS, "CA file '%s' contains no usable PEM certificate: %s",
                     options->ca_path, gnutls_strerror(got));
    else if (got == 0)
        rv = ph_fail(err, PH_E_TLS, "CA file '%s' contains no PEM certificate", options->ca_path);
    ph_tls_file_free(&file);
    return rv;
}

/* --- Verification of the peer --- */

/* Server: what a client certificate must be. Called by GnuTLS once the peer's message is there,
 * empty or not. */
static int verify_client(gnutls_session_t session)
{
    const struct ph_tls_cred *cred = gnutls_db_get_ptr(session);
    if (cred->verify == PH_TLS_VERIFY_NONE)
        return 0;
    unsigned count = 0, status = 0;
    if (gnutls_certificate_get_peers(session, &count) == NULL || count == 0)
        return cred->verify == PH_TLS_VERIFY_REQUIRED ? GNUTLS_E_CERTIFICATE_REQUIRED : 0;
    if (count > PH_TLS_PEER_CHAIN_MAX)
        return GNUTLS_E_CERTIFICATE_LIST_UNSORTED;
    gnutls_typed_vdata_st purpose = {
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT,
        .size = 0,
    };
    if (gnutls_certificate_verify_peers(session, &purpose, 1, &status) < 0 || status != 0)
        return GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
    return 0;
}

/* Client: the pin, when there is one, is all that counts, as serverCertificateHashes has it. */
static int verify_server(gnutls_session_t session)
{
    const struct ph_tls_cred *cred = gnutls_db_get_ptr(session);
    if (!cred->has_pin)
        return 0;
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    uint8_t sha256[32];
    size_t n = sizeof(sha256);
    if (chain == NULL || count == 0 ||
        gnutls_fingerprint(GNUTLS_DIG_SHA256, &chain[0], sha256, &n) < 0 ||
        memcmp(sha256, cred->pin, sizeof(sha256)) != 0)
        return GNUTLS_E_CERTIFICATE_ERROR;
    return 0;
}

/* --- Credentials --- */

struct ph_buf *ph_tls_server_pem(gnutls_session_t session)
{
    const struct ph_tls_cred *cred = gnutls_db_get_ptr(session);
    return cred->pem != NULL ? ph_buf_ref(cred->pem) : NULL;
}

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

static struct ph_tls_cred *cred_new(void)
{
    struct ph_tls_cred *cred = ph_alloc(sizeof(*cred));
    cred->refs = 1;
    ph_live_add(PH_LIVE_TLS_CRED, 1);
    PH_ASSERT(gnutls_certificate_allocate_credentials(&cred->x509) == 0);
    PH_ASSERT(gnutls_priority_init(&cred->tcp, priority_tcp, NULL) == 0);
    PH_ASSERT(gnutls_priority_init(&cred->quic, priority_quic, NULL) == 0);
    return cred;
}

int ph_tls_cred_load(struct ph_tls_cred **out, const struct ph_tls_cred_options *options,
                     struct ph_err *err)
{
    *out = NULL;
    struct chain chain = {NULL, 0};
    gnutls_x509_privkey_t key = NULL;
    struct ph_tls_cred *cred = cred_new();
    enum ph_tls_file file = PH_TLS_FILE_CERT;
    int rv = chain_load(&chain, options->cert_path, err);
    if (rv == 0) {
        file = PH_TLS_FILE_KEY;
        rv = key_load(&key, options, err);
    }
    if (rv == 0) {
        file = PH_TLS_FILE_CERT;
        rv = chain_check_dates(&chain, options->cert_path, err);
    }
    if (rv == 0 && !ph_tls_is_pair(chain.crts[0], key)) {
        file = PH_TLS_FILE_KEY;
        rv = ph_fail(err, PH_E_TLS, "key file '%s' does not belong to the certificate in '%s'",
                     options->key_path != NULL ? options->key_path : options->cert_path,
                     options->cert_path);
    }
    if (rv == 0) {
        file = PH_TLS_FILE_CA;
        rv = trust_load(cred, options, err);
    }
    if (rv != 0)
        goto out;
    file = PH_TLS_FILE_CERT;
    int got = gnutls_certificate_set_x509_key(cred->x509, chain.crts, (int)chain.count, key);
    if (got < 0) {
        rv = ph_fail(err, PH_E_TLS, "certificate file '%s' cannot be used: %s", options->cert_path,
                     gnutls_strerror(got));
        goto out;
    }
    size_t n = sizeof(cred->sha256);
    PH_ASSERT(gnutls_x509_crt_get_fingerprint(chain.crts[0], GNUTLS_DIG_SHA256, cred->sha256, &n) ==
              0);
    cred->pem = pem_of(chain.crts[0]);
    cred->verify = options->verify;
    gnutls_certificate_set_verify_function(cred->x509, verify_client);
    gnutls_certificate_set_verify_limits(cred->x509, PH_TLS_PEER_KEY_BITS, PH_TLS_PEER_CHAIN_MAX);
    *out = cred;
out:
    chain_fini(&chain);
    if (key != NULL)
        gnutls_x509_privkey_deinit(key);
    if (rv != 0) {
        ph_tls_cred_unref(cred);
        if (options->failed != NULL)
            *options->failed = file;
    }
    return rv;
}

int ph_tls_cred_client(struct ph_tls_cred **out, const uint8_t *pin, struct ph_err *err)
{
    (void)err; /* nothing can go wrong that is not out of memory */
    struct ph_tls_cred *cred = cred_new();
    cred->is_client = true;
    if (pin != NULL) {
        cred->has_pin = true;
        memcpy(cred->pin, pin, sizeof(cred->pin));
    }
    gnutls_certificate_set_verify_function(cred->x509, verify_server);
    *out = cred;
    return 0;
}

struct ph_tls_cred *ph_tls_cred_ref(struct ph_tls_cred *cred)
{
    cred->refs++;
    return cred;
}

void ph_tls_cred_unref(struct ph_tls_cred *cred)
{
    if (cred == NULL || --cred->refs > 0)
        return;
    gnutls_certificate_free_credentials(cred->x509);
    gnutls_priority_deinit(cred->tcp);
    gnutls_priority_deinit(cred->quic);
    ph_buf_unref(cred->pem);
    ph_live_add(PH_LIVE_TLS_CRED, -1);
    ph_free(cred);
}

void ph_tls_cred_sha256(const struct ph_tls_cred *cred, uint8_t out[32])
{
    memcpy(out, cred->sha256, 32);
}
