/*
 * tls_cred.c - credentials: certificates with their keys, whom they trust and what they speak,
 * shared by sessions and replaced as a whole.
 *
 *      files --tls_cert.c--> certificates -+
 *      authorities, CRL --tls_trust.c------+--> ph_tls_cred <-- sessions hold references
 *      versions, ciphers ------------------+
 *
 * A reload makes a new object; a file that is wrong leaves the one in use untouched. Sessions hold
 * references, so that a replaced certificate lives until the last connection that began with it has
 * ended.
 */
#include "tls_internal.h"

/* AES-GCM first: every server processor has instructions for it. No CBC, no static RSA, no finite
 * field Diffie-Hellman (slow, and a favourite of floods). */
#define CIPHERS "+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"
#define REST                                                                                       \
    ":-MAC-ALL:+AEAD:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:"                  \
    "%%SERVER_PRECEDENCE"

/* --- Which certificate for which name --- */

/* RFC 5246 7.4.1.2: version, random, session id, suites. Anything odd offers nothing: the library
 * will refuse it. */
void ph_tls_suites_read(const uint8_t *p, size_t n, bool *rsa, bool *ecdsa)
{
    static const uint16_t rsa_suites[] = {0xc02f, 0xc030, 0xcca8};
    static const uint16_t ecdsa_suites[] = {0xc02b, 0xc02c, 0xcca9};
    *rsa = *ecdsa = false;
    size_t at = 2 + 32;
    if (n < at + 1 || n < at + 1 + p[at] + 2)
        return;
    at += (size_t)1 + p[at];
    size_t end = at + 2 + ph_u16_get(p + at);
    if (end > n)
        return;
    for (at += 2; at + 2 <= end; at += 2) {
        uint16_t suite = ph_u16_get(p + at);
        for (size_t i = 0; i < PH_COUNT_OF(rsa_suites); i++) {
            *rsa = *rsa || suite == rsa_suites[i];
            *ecdsa = *ecdsa || suite == ecdsa_suites[i];
        }
    }
}

static int on_client_hello(gnutls_session_t session, unsigned type, unsigned when,
                           unsigned incoming, const gnutls_datum_t *message)
{
    struct ph_tls_side *side = ph_tls_side_of(session);
    (void)type;
    (void)when;
    (void)incoming;
    ph_tls_suites_read(message->data, message->size, &side->takes_rsa, &side->takes_ecdsa);
    return 0;
}

void ph_tls_watch_suites(gnutls_session_t session)
{
    if (ph_tls_side_of(session)->cred->count > 1)
        gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_PRE,
                                           on_client_hello);
}

/* Whether the client understands signatures of such a key; one that does not say takes all. In TLS
 * 1.2 suites are for one type of key. */
static bool client_takes(gnutls_session_t session, int type)
{
    const struct ph_tls_side *side = ph_tls_side_of(session);
    gnutls_sign_algorithm_t sign;
    size_t i = 0;
    bool is_rsa = type == GNUTLS_PK_RSA || type == GNUTLS_PK_RSA_PSS;
    if (gnutls_protocol_get_version(session) == GNUTLS_TLS1_2 &&
        !(is_rsa ? side->takes_rsa : side->takes_ecdsa))
        return false;
    for (; gnutls_sign_algorithm_get_requested(session, i, &sign) >= 0; i++) {
        if (gnutls_sign_supports_pk_algorithm(sign, (gnutls_pk_algorithm_t)type) != 0)
            return true;
    }
    return i == 0;
}

/* Among several certificates: exact names go before wildcards; among equals the first whose key the
 * client understands, or the first; no name: the first of all. */
static const struct ph_tls_cert *cred_pick(const struct ph_tls_cred *cred, gnutls_session_t session)
{
    char name[256];
    size_t n = sizeof(name);
    unsigned type = 0;
    if (cred->count == 1)
        return &cred->certs[0];
    bool named = gnutls_server_name_get(session, name, &n, &type, 0) >= 0 &&
                 type == GNUTLS_NAME_DNS && n > 0 && strnlen(name, n) > 0;
    for (int pass = 0; named && pass < 2; pass++) {
        const struct ph_tls_cert *found = NULL;
        for (unsigned i = 0; i < cred->count; i++) {
            const struct ph_tls_cert *cert = &cred->certs[i];
            if (!ph_tls_cert_is_for(cert, name, pass == 1))
                continue;
            if (client_takes(session, cert->type))
                return cert;
            found = found != NULL ? found : cert;
        }
        if (found != NULL)
            return found;
    }
    for (unsigned i = 0; i < cred->count; i++) {
        if (client_takes(session, cred->certs[i].type))
            return &cred->certs[i];
    }
    return &cred->certs[0];
}

static int on_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                       gnutls_pcert_st **chain, unsigned *count, gnutls_ocsp_data_st **ocsp,
                       unsigned *ocsp_count, gnutls_privkey_t *key, unsigned *flags)
{
    (void)info;
    struct ph_tls_side *side = ph_tls_side_of(session);
    const struct ph_tls_cert *cert = cred_pick(side->cred, session);
    side->shown = cert;
    *chain = cert->chain;
    *count = cert->count;
    *key = cert->key;
    *ocsp = NULL;
    *ocsp_count = 0;
    *flags = 0; /* all stay ours */
    return 0;
}

struct ph_buf *ph_tls_server_pem(gnutls_session_t session)
{
    const struct ph_tls_side *side = ph_tls_side_of(session);
    if (side->cred->is_client)
        return NULL;
    /* A resumed session showed none: it would be this one. */
    const struct ph_tls_cert *cert =
        side->shown != NULL ? side->shown : cred_pick(side->cred, session);
    return ph_buf_ref(cert->pem);
}

/* --- Making --- */

static int priorities_init(struct ph_tls_cred *cred, const char *ciphers, bool tls13_only)
{
    char chosen[PH_TLS_CIPHERS_LEN] = CIPHERS, text[512];
    if (ciphers != NULL && ph_tls_ciphers_parse(chosen, ciphers) != 0)
        return PH_E_CONFIG;
    snprintf(text, sizeof(text),
             "NORMAL:-VERS-ALL:+VERS-TLS1.3%s:-CIPHER-ALL:%s:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA" REST,
             tls13_only ? "" : ":+VERS-TLS1.2", chosen);
    int got = gnutls_priority_init(&cred->tcp, text, NULL);
    PH_ASSERT(got == 0);
    /* RFC 9001 4.2 and 8.4: TLS 1.3 without the middlebox compatibility mode. */
    snprintf(text, sizeof(text),
             "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:%s" REST ":%%DISABLE_TLS13_COMPAT_MODE",
             chosen);
    got = gnutls_priority_init(&cred->quic, text, NULL);
    PH_ASSERT(got == 0);
    return 0;
}

static struct ph_tls_cred *cred_new(void)
{
    struct ph_tls_cred *cred = ph_alloc(sizeof(*cred));
    cred->refs = 1;
    ph_live_add(PH_LIVE_TLS_CRED, 1);
    PH_ASSERT(gnutls_certificate_allocate_credentials(&cred->x509) == 0);
    return cred;
}

static int certs_load(struct ph_tls_cred *cred, const struct ph_tls_cred_options *options,
                      enum ph_tls_file *failed, struct ph_err *err)
{
    const struct ph_tls_cert_files first = {
        .cert = options->cert_path, .key = options->key_path, .password = options->key_password};
    size_t total = options->more_n + (options->cert_path != NULL ? 1 : 0);
    *failed = options->cert_path == NULL ? PH_TLS_FILE_MORE : PH_TLS_FILE_CERT;
    if (total == 0 || total > PH_TLS_CERTS_MAX)
        return ph_fail(err, PH_E_TLS, "between 1 and %d certificates are possible",
                       PH_TLS_CERTS_MAX);
    cred->certs = ph_alloc(sizeof(*cred->certs) * total);
    int rv = 0;
    if (options->cert_path != NULL) {
        rv = ph_tls_cert_load(&cred->certs[0], &first, failed, err);
        cred->count = rv == 0;
    }
    for (size_t i = 0; rv == 0 && i < options->more_n; i++) {
        enum ph_tls_file which;
        *failed = PH_TLS_FILE_MORE;
        rv = ph_tls_cert_load(&cred->certs[cred->count], &options->more[i], &which, err);
        cred->count += rv == 0;
    }
    return rv;
}

int ph_tls_cred_load(struct ph_tls_cred **out, const struct ph_tls_cred_options *options,
                     struct ph_err *err)
{
    enum ph_tls_file failed = PH_TLS_FILE_CERT;
    struct ph_tls_cred *cred = cred_new();
    *out = NULL;
    int rv = priorities_init(cred, options->ciphers, options->tls13_only);
    PH_ASSERT(rv == 0); /* the caller has checked the names of the ciphers */
    rv = certs_load(cred, options, &failed, err);
    if (rv == 0)
        rv = ph_tls_trust_load(cred, options, &failed, err);
    if (rv != 0) {
        ph_tls_cred_unref(cred);
        if (options->failed != NULL)
            *options->failed = failed;
        return rv;
    }
    gnutls_certificate_set_retrieve_function3(cred->x509, on_retrieve);
    cred->verify = options->verify;
    cred->tickets = options->tickets;
    ph_tls_trust_attach(cred);
    *out = cred;
    return 0;
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
    priorities_init(cred, NULL, false);
    ph_tls_trust_attach(cred);
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
    for (unsigned i = 0; i < cred->count; i++)
        ph_tls_cert_fini(&cred->certs[i]);
    ph_free(cred->certs);
    ph_live_add(PH_LIVE_TLS_CRED, -1);
    ph_free(cred);
}

void ph_tls_cred_sha256(const struct ph_tls_cred *cred, uint8_t out[32])
{
    memcpy(out, cred->certs[0].sha256, 32);
}

size_t ph_tls_cred_certs(const struct ph_tls_cred *cred)
{
    return cred->count;
}

void ph_tls_cred_describe(const struct ph_tls_cred *cred, size_t index, uint8_t sha256[32],
                          int64_t *expires)
{
    PH_ASSERT(index < cred->count);
    memcpy(sha256, cred->certs[index].sha256, 32);
    *expires = (int64_t)cred->certs[index].expires;
}
