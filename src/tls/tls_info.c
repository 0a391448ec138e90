/*
 * tls_info.c - what TLS agreed on, told to whoever answers requests of the connection.
 *
 * One immutable object a connection, made once when the handshake is over (or when the first bytes
 * of 0-RTT arrive) and shared by its requests, which may outlive the connection and are let go of
 * on another thread: hence the atomic count. All texts stand behind the structure in one block,
 * except for the server's certificate, which is the credentials' and shared.
 */
#include "tls_internal.h"

#include <stdatomic.h>

struct info {
    struct ph_tls_info pub;
    atomic_uint refs;
    struct ph_buf *cert; /* own one reference; NULL: unknown */
    const char *chain[PH_TLS_PEER_CHAIN_MAX];
    char *text; /* own; what pub and chain point into */
};

static struct info *info_of(const struct ph_tls_info *pub)
{
    return (struct info *)(uintptr_t)PH_CONTAINER(pub, const struct info, pub);
}

const struct ph_tls_info *ph_tls_info_ref(const struct ph_tls_info *pub)
{
    if (pub != NULL)
        atomic_fetch_add_explicit(&info_of(pub)->refs, 1, memory_order_relaxed);
    return pub;
}

void ph_tls_info_unref(const struct ph_tls_info *pub)
{
    if (pub == NULL)
        return;
    struct info *info = info_of(pub);
    if (atomic_fetch_sub_explicit(&info->refs, 1, memory_order_acq_rel) != 1)
        return;
    ph_buf_unref(info->cert);
    ph_free(info->text);
    ph_free(info);
    ph_live_add(PH_LIVE_TLS_INFO, -1);
}

/* --- What a session says of itself --- */

/* The IANA number of the cipher suite: the library tells names and parts, its table the number. */
static uint16_t suite_number(gnutls_session_t session, bool is_13)
{
    gnutls_cipher_algorithm_t cipher = gnutls_cipher_get(session), its_cipher;
    gnutls_mac_algorithm_t mac = gnutls_mac_get(session), its_mac;
    gnutls_kx_algorithm_t kx = gnutls_kx_get(session), its_kx;
    gnutls_protocol_t since;
    unsigned char id[2];
    for (size_t i = 0;
         gnutls_cipher_suite_info(i, id, &its_kx, &its_cipher, &its_mac, &since) != NULL; i++) {
        if (its_cipher == cipher && its_mac == mac && (since == GNUTLS_TLS1_3) == is_13 &&
            (is_13 || its_kx == kx))
            return ph_u16_get(id);
    }
    return 0;
}

/* Texts of unknown length, one after the other; pointers are made when all are there. */
struct text {
    char *p;
    size_t n;
};

/* Appends with a NUL; where it begins. */
static size_t text_add(struct text *text, const void *data, size_t n)
{
    size_t at = text->n;
    text->p = ph_realloc(text->p, at + n + 1);
    if (n > 0)
        memcpy(text->p + at, data, n);
    text->p[at + n] = '\0';
    text->n = at + n + 1;
    return at;
}

/* Subject of a DER certificate as RFC 4514 writes it. */
static size_t add_subject(struct text *text, const gnutls_datum_t *der)
{
    gnutls_x509_crt_t crt;
    gnutls_datum_t dn = {NULL, 0};
    PH_ASSERT(gnutls_x509_crt_init(&crt) == 0);
    if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) == 0)
        gnutls_x509_crt_get_dn3(crt, &dn, 0);
    size_t at = text_add(text, dn.data, dn.size);
    gnutls_free(dn.data);
    gnutls_x509_crt_deinit(crt);
    return at;
}

static size_t add_server_name(struct text *text, gnutls_session_t session)
{
    char name[256]; /* a longer one is none (RFC 1035 2.3.4) */
    size_t n = sizeof(name);
    unsigned type = 0;
    if (gnutls_server_name_get(session, name, &n, &type, 0) < 0 || type != GNUTLS_NAME_DNS)
        n = 0;
    return text_add(text, name, strnlen(name, n));
}

const struct ph_tls_info *ph_tls_info_new(struct gnutls_session_int *session)
{
    struct info *info = ph_alloc(sizeof(*info));
    struct text text = {NULL, 0};
    size_t chain[PH_TLS_PEER_CHAIN_MAX], subject = 0;
    ph_live_add(PH_LIVE_TLS_INFO, 1);
    atomic_init(&info->refs, 1);
    bool is_13 = gnutls_protocol_get_version(session) == GNUTLS_TLS1_3;
    size_t name = add_server_name(&text, session);
    const char *suite = gnutls_ciphersuite_get(session);
    size_t cipher = text_add(&text, suite, suite != NULL ? strlen(suite) : 0);
    unsigned count = 0;
    const gnutls_datum_t *peers = gnutls_certificate_get_peers(session, &count);
    count = peers == NULL ? 0 : PH_MIN(count, (unsigned)PH_TLS_PEER_CHAIN_MAX);
    for (unsigned i = 0; i < count; i++) {
        gnutls_datum_t pem = {NULL, 0};
        gnutls_pem_base64_encode2("CERTIFICATE", &peers[i], &pem);
        chain[i] = text_add(&text, pem.data, pem.size);
        gnutls_free(pem.data);
    }
    if (count > 0)
        subject = add_subject(&text, &peers[0]);
    for (unsigned i = 0; i < count; i++)
        info->chain[i] = text.p + chain[i];
    info->text = text.p;
    info->cert = ph_tls_server_pem(session);
    info->pub = (struct ph_tls_info){
        .version = is_13 ? 0x0304 : 0x0303,
        .cipher_suite = suite_number(session, is_13),
        .cipher_name = text.p + cipher,
        .server_name = text.p + name,
        .server_cert = info->cert != NULL ? (const char *)ph_buf_data(info->cert) : "",
        .client_chain = info->chain,
        .client_chain_len = count,
        .client_name = count > 0 ? text.p + subject : "",
    };
    return &info->pub;
}
