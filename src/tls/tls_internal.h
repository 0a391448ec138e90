/*
 * tls_internal.h - what the files of tls/ share: the credentials' structure, the priority strings
 * and small helpers around GnuTLS and files. Nothing outside tls/ includes it.
 */
#ifndef PH_TLS_INTERNAL_H
#define PH_TLS_INTERNAL_H

#include "tls.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <time.h>

#define PH_TLS_FILE_MAX (1024 * 1024) /* bytes of a PEM file; a chain with its key is 20 KiB */
#define PH_TLS_CERTS_MAX 64           /* of a server: each may be compared with a client's name */
#define PH_TLS_PEER_CHAIN_MAX 8       /* certificates a client may send */
#define PH_TLS_PEER_CHAIN_BYTES (32 * 1024)
#define PH_TLS_PEER_KEY_BITS 8200         /* larger RSA keys cost seconds to verify */
#define PH_TLS_HANDSHAKE_MAX (48 * 1024)  /* bytes of one handshake message: 32 KiB of chain fit */
#define PH_TLS_RECORD_MAX ((size_t)16384) /* plaintext of one record, RFC 8446 5.1 */
#define PH_TLS_DATE_LEN ((size_t)32)      /* room for ph_tls_date() */
#define PH_TLS_CIPHERS_LEN ((size_t)128)  /* room for ph_tls_ciphers_parse() */
#define PH_TLS_TICKET_PERIOD (12 * 3600)  /* seconds that a ticket key is issued with */
#define PH_TLS_REPLAY_WINDOW 10           /* seconds around its due time that early data is taken */

/* A certificate chain with its key, all own. */
struct ph_tls_cert {
    gnutls_pcert_st *chain;
    unsigned count; /* of the chain */
    gnutls_privkey_t key;
    gnutls_x509_crt_t leaf;
    int type;           /* gnutls_pk_algorithm_t of the key */
    struct ph_buf *pem; /* the leaf, NUL-terminated text */
    uint8_t sha256[32]; /* of the leaf */
    time_t expires;
};

struct ph_tls_cred {
    unsigned refs;
    gnutls_certificate_credentials_t x509; /* own */
    gnutls_priority_t tcp, quic;           /* own; parsed once for all sessions */
    struct ph_tls_cert *certs;             /* server: own, at least one */
    unsigned count;
    enum ph_tls_verify verify;      /* of client certificates */
    struct ph_tls_tickets *tickets; /* borrow; NULL: none */
    bool is_client, has_pin;
    uint8_t pin[32]; /* client: SHA-256 that the server's leaf must have */
};

/* What we keep with a session; its database pointer leads here. */
struct ph_tls_side {
    struct ph_tls_cred *cred;        /* own one reference */
    const struct ph_tls_cert *shown; /* server: by us in this handshake; NULL: none yet, resumed */
    const char *why;                 /* static; why the peer was refused; NULL */
    bool takes_rsa, takes_ecdsa;     /* server: suites of TLS 1.2 that the client offered */
};
struct ph_tls_side *ph_tls_side_of(gnutls_session_t session);

/* tls_cert.c: sets *failed to PH_TLS_FILE_CERT or _KEY when it fails; `cert` is empty then. */
int ph_tls_cert_load(struct ph_tls_cert *cert, const struct ph_tls_cert_files *files,
                     enum ph_tls_file *failed, struct ph_err *err);
void ph_tls_cert_fini(struct ph_tls_cert *cert);
bool ph_tls_cert_is_for(const struct ph_tls_cert *cert, const char *name, bool wildcards);

/* tls_trust.c */
int ph_tls_trust_load(struct ph_tls_cred *cred, const struct ph_tls_cred_options *options,
                      enum ph_tls_file *failed, struct ph_err *err);
void ph_tls_trust_attach(struct ph_tls_cred *cred); /* sets what judges a peer's certificate */

/* tls_cred.c: reads a ClientHello, when the choice among certificates depends on it. */
void ph_tls_watch_suites(gnutls_session_t session);
/* Which suites of TLS 1.2 a ClientHello message (without its header) offers. */
void ph_tls_suites_read(const uint8_t *p, size_t n, bool *rsa, bool *ecdsa);

/* tls_ciphers.c: as a part of a priority string; PH_E_CONFIG. */
int ph_tls_ciphers_parse(char out[PH_TLS_CIPHERS_LEN], const char *text);

/* tls_tickets.c */
int ph_tls_tickets_attach(struct ph_tls_tickets *tickets, gnutls_session_t session, bool is_quic);
bool ph_tls_tickets_have_early(const struct ph_tls_tickets *tickets);

/* Reads a whole file of at most PH_TLS_FILE_MAX bytes, NUL-terminated. Caller owns out->data
 * (ph_tls_file_free). PH_E_TLS with a sentence that begins with `what` and names the path. */
int ph_tls_file_read(gnutls_datum_t *out, const char *what, const char *path, struct ph_err *err);
void ph_tls_file_free(gnutls_datum_t *file); /* wipes: it may hold a key */

/* "2026-11-22 18:40:00 UTC". Returns `out`, which has room for PH_TLS_DATE_LEN. */
const char *ph_tls_date(char *out, time_t when);

/* true when the certificate carries the public half of the key. */
bool ph_tls_is_pair(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key);

/* A session with everything that TCP and QUIC share: credentials (one reference, given back by
 * ph_tls_common_free), client certificate request, ALPN (mandatory in QUIC, RFC 9001 8.1; on TCP
 * only for peers that use the extension, RFC 7301 3.2). */
int ph_tls_common_new(gnutls_session_t *out, struct ph_tls_cred *cred, bool is_server, bool is_quic,
                      const char *const *alpn);
void ph_tls_common_free(gnutls_session_t session);

/* The certificate that the server shows or would show in this session, as PEM. A reference for the
 * caller; NULL: a client's session. */
struct ph_buf *ph_tls_server_pem(gnutls_session_t session);

#endif
