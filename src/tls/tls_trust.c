/*
 * tls_trust.c - whom we believe: authorities and revocation lists for client certificates, and the
 * judgement of what a peer showed.
 *
 * A client certificate that is shown must be good, whether it was required or only welcome: what
 * reaches the application was verified. Why it was refused is kept with the session, for one log
 * line; the peer gets TLS' alert.
 */
#include "tls_internal.h"

/* --- Authorities and revocation --- */

static int crl_check_dates(const gnutls_datum_t *file, const char *path, struct ph_err *err)
{
    gnutls_x509_crl_t *crls = NULL;
    unsigned count = 0;
    char date[PH_TLS_DATE_LEN];
    int rv = 0;
    if (gnutls_x509_crl_list_import2(&crls, &count, file, GNUTLS_X509_FMT_PEM, 0) < 0)
        return ph_fail(err, PH_E_TLS, "CRL file '%s' cannot be parsed", path);
    for (unsigned i = 0; i < count; i++) {
        time_t next = gnutls_x509_crl_get_next_update(crls[i]);
        /* Past it every certificate of its issuer would be refused: better told now. */
        if (rv == 0 && next != (time_t)-1 && next < time(NULL))
            rv = ph_fail(err, PH_E_TLS, "CRL file '%s': a list expired on %s", path,
                         ph_tls_date(date, next));
        gnutls_x509_crl_deinit(crls[i]);
    }
    gnutls_free(crls);
    return rv;
}

static int crl_load(gnutls_certificate_credentials_t x509, const char *path, struct ph_err *err)
{
    gnutls_datum_t file;
    int rv = ph_tls_file_read(&file, "CRL file", path, err);
    if (rv != 0)
        return rv;
    if (strstr((const char *)file.data, "-----BEGIN X509 CRL-----") == NULL)
        rv = ph_fail(err, PH_E_TLS, "CRL file '%s' contains no PEM revocation list", path);
    else
        rv = crl_check_dates(&file, path, err);
    int got = rv == 0 ? gnutls_certificate_set_x509_crl_mem(x509, &file, GNUTLS_X509_FMT_PEM) : 0;
    if (got < 0)
        rv = ph_fail(err, PH_E_TLS, "CRL file '%s' cannot be used: %s", path, gnutls_strerror(got));
    ph_tls_file_free(&file);
    return rv;
}

int ph_tls_trust_load(struct ph_tls_cred *cred, const struct ph_tls_cred_options *options,
                      enum ph_tls_file *failed, struct ph_err *err)
{
    *failed = PH_TLS_FILE_CA;
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
    if (rv == 0 && options->crl_path != NULL) {
        *failed = PH_TLS_FILE_CRL;
        rv = crl_load(cred->x509, options->crl_path, err);
    }
    return rv;
}

/* --- Verification of the peer --- */

static const char *why_untrusted(unsigned status)
{
    static const struct {
        unsigned bit;
        const char *why;
    } reasons[] = {
        {GNUTLS_CERT_REVOKED, "client certificate: revoked"},
        {GNUTLS_CERT_EXPIRED, "client certificate: expired"},
        {GNUTLS_CERT_NOT_ACTIVATED, "client certificate: not valid yet"},
        {GNUTLS_CERT_SIGNER_NOT_FOUND, "client certificate: by no authority that is trusted here"},
        {GNUTLS_CERT_SIGNATURE_FAILURE,
         "client certificate: by no authority that is trusted here"}, /* only of the same name */
        {GNUTLS_CERT_SIGNER_NOT_CA, "client certificate: its issuer may not sign certificates"},
        {GNUTLS_CERT_PURPOSE_MISMATCH, "client certificate: not meant for clients"},
        {GNUTLS_CERT_INSECURE_ALGORITHM, "client certificate: signed with a weak algorithm"},
        {GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED, "client certificate: the revocation list is old"},
    };
    for (size_t i = 0; i < PH_COUNT_OF(reasons); i++) {
        if ((status & reasons[i].bit) != 0)
            return reasons[i].why;
    }
    return "client certificate: not valid";
}

/* Server: what a client certificate must be. Called by GnuTLS once the peer's message is there,
 * empty or not. */
static int verify_client(gnutls_session_t session)
{
    struct ph_tls_side *side = ph_tls_side_of(session);
    if (side->cred->verify == PH_TLS_VERIFY_NONE)
        return 0;
    unsigned count = 0, status = 0;
    size_t bytes = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    if (chain == NULL || count == 0) {
        if (side->cred->verify != PH_TLS_VERIFY_REQUIRED)
            return 0;
        side->why = "client certificate: none was shown";
        return GNUTLS_E_CERTIFICATE_REQUIRED;
    }
    for (unsigned i = 0; i < count; i++)
        bytes += chain[i].size;
    if (count > PH_TLS_PEER_CHAIN_MAX || bytes > PH_TLS_PEER_CHAIN_BYTES) {
        side->why = "client certificate: the chain is too long";
        return GNUTLS_E_CERTIFICATE_LIST_UNSORTED;
    }
    gnutls_typed_vdata_st purpose = {
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT,
        .size = 0,
    };
    if (gnutls_certificate_verify_peers(session, &purpose, 1, &status) < 0 || status != 0) {
        side->why = why_untrusted(status);
        return GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
    }
    return 0;
}

/* Client: the pin, when there is one, is all that counts, as serverCertificateHashes has it. */
static int verify_server(gnutls_session_t session)
{
    const struct ph_tls_cred *cred = ph_tls_side_of(session)->cred;
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

void ph_tls_trust_attach(struct ph_tls_cred *cred)
{
    gnutls_certificate_set_verify_function(cred->x509,
                                           cred->is_client ? verify_server : verify_client);
    if (!cred->is_client)
        gnutls_certificate_set_verify_limits(cred->x509, PH_TLS_PEER_KEY_BITS,
                                             PH_TLS_PEER_CHAIN_MAX);
}
