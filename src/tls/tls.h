/*
 * tls.h - GnuTLS behind one door: credentials, the development certificate, and record sessions
 * without a descriptor.
 *
 * QUIC borrows a gnutls_session_t made here and drives it through ngtcp2's crypto glue; TCP
 * connections use ph_tls_session, which turns bytes from the peer into plaintext and back. One ALPN
 * list, certificate and key serve both.
 */
#ifndef PH_TLS_H
#define PH_TLS_H

#include "../base/base.h"

struct gnutls_session_int;

/* What an error of ph_tls_cred_load() is about. */
enum ph_tls_file {
    PH_TLS_FILE_CERT,
    PH_TLS_FILE_KEY,
    PH_TLS_FILE_MORE, /* a certificate beside the first, or its key */
    PH_TLS_FILE_CA,
    PH_TLS_FILE_CRL
};

enum ph_tls_verify { PH_TLS_VERIFY_NONE, PH_TLS_VERIFY_OPTIONAL, PH_TLS_VERIFY_REQUIRED };

struct ph_tls_tickets;

struct ph_tls_cert_files {
    const char *cert;          /* PEM chain, leaf first */
    const char *key;           /* PEM key, may be encrypted; NULL: in cert */
    const char *password;      /* NULL: none */
    const char *password_file; /* its first line is the password; goes before `password` */
};

struct ph_tls_cred_options {
    const char *cert_path; /* the certificate for clients that name none or an unknown one; NULL:
                              the first of `more` */
    const char *key_path, *key_password;  /* see ph_tls_cert_files */
    const struct ph_tls_cert_files *more; /* others, chosen by the name that is asked for */
    size_t more_n;
    const char *ca_path;  /* PEM certificates that client certificates must chain to; NULL: none */
    const char *crl_path; /* PEM lists of revoked ones; NULL: none */
    enum ph_tls_verify verify;
    const char *ciphers; /* ph_tls_ciphers_are_valid(); NULL: all good ones */
    bool tls13_only;
    struct ph_tls_tickets *tickets; /* borrow, outlives all sessions; NULL: none are issued */
    enum ph_tls_file *failed;       /* set on failure; may be NULL */
};

/* Names of AEAD ciphers separated by ":" or ",", in order of preference. */
bool ph_tls_ciphers_are_valid(const char *text);

/* --- Session tickets --- */

/* Ticket keys from a secret that all workers share (see tls_tickets.c). `binding`: at most 128
 * bytes; QUIC tickets of servers with other ones are not accepted. `early_data`: QUIC tickets allow
 * 0-RTT. I/O thread after start. */
void ph_tls_tickets_new(struct ph_tls_tickets **out, const uint8_t secret[32], bool early_data,
                        const void *binding, size_t n);
void ph_tls_tickets_free(struct ph_tls_tickets *tickets);

/* --- Credentials --- */

/* Certificates with their keys, shared by the sessions that use them. Reference-counted: replaced
 * ones live until their last session ends. I/O thread after start; loading and the first reference
 * on any thread. No tickets where client certificates are asked for: each handshake then looks at
 * the certificate anew. */
struct ph_tls_cred;
/* PH_E_TLS with one sentence that names the file: missing, unreadable, no PEM in it, wrong
 * password, expired or not yet valid (with the date), key and certificate do not belong together.
 */
int ph_tls_cred_load(struct ph_tls_cred **out, const struct ph_tls_cred_options *options,
                     struct ph_err *err);
/* Client credentials; `pin` NULL trusts any certificate, otherwise the leaf's SHA-256 must match.
 * Tests and tools. */
int ph_tls_cred_client(struct ph_tls_cred **out, const uint8_t *pin, struct ph_err *err);
struct ph_tls_cred *ph_tls_cred_ref(struct ph_tls_cred *cred);
void ph_tls_cred_unref(struct ph_tls_cred *cred);
void ph_tls_cred_sha256(const struct ph_tls_cred *cred, uint8_t out[32]); /* of the first leaf */
size_t ph_tls_cred_certs(const struct ph_tls_cred *cred);
/* Of certificate number `index`: hash of the leaf (DER), and when it expires (seconds since 1970).
 */
void ph_tls_cred_describe(const struct ph_tls_cred *cred, size_t index, uint8_t sha256[32],
                          int64_t *expires);

/* --- What was agreed --- */

/* A new description of a session whose peer has chosen version and cipher; caller owns one
 * reference. ref and unref on any thread; NULL is allowed. */
const struct ph_tls_info *ph_tls_info_new(struct gnutls_session_int *session);
const struct ph_tls_info *ph_tls_info_ref(const struct ph_tls_info *info);
void ph_tls_info_unref(const struct ph_tls_info *info);

/* --- For QUIC --- */

/* A TLS 1.3 session for QUIC with this ALPN protocol ("h3"; required). The caller owns it
 * (ph_tls_quic_free) and attaches ngtcp2 to it. `server_name` only for clients, may be NULL. */
int ph_tls_quic_new(struct gnutls_session_int **out, struct ph_tls_cred *cred, bool is_server,
                    const char *alpn, const char *server_name);
void ph_tls_quic_free(struct gnutls_session_int *session);
/* Server, when the handshake is over: gives the client a ticket, when there are any. */
void ph_tls_quic_send_ticket(struct gnutls_session_int *session);
/* Why the peer's certificate was refused, "" when that was not the reason. Borrow, static. */
const char *ph_tls_quic_why(struct gnutls_session_int *session);

/* --- For TCP --- */

struct ph_tls_session;
/* `alpn`: NULL-terminated list in server preference. Takes a reference of `cred`. */
int ph_tls_session_new(struct ph_tls_session **out, struct ph_tls_cred *cred, bool is_server,
                       const char *const *alpn);
void ph_tls_session_free(struct ph_tls_session *session);
/* Eats bytes from the peer and appends plaintext to `plain`. Records to send appear in
 * ph_tls_session_out(). 0, or PH_E_CRYPTO (an alert may wait to be sent), PH_E_CLOSED after
 * close_notify. */
int ph_tls_session_feed(struct ph_tls_session *session, const uint8_t *p, size_t n,
                        struct ph_sliceq *plain);
/* Encrypts everything unsent in `plain` (up to `max_out` bytes waiting in the out queue) and drops
 * it from there. */
int ph_tls_session_write(struct ph_tls_session *session, struct ph_sliceq *plain, size_t max_out);
struct ph_sliceq *ph_tls_session_out(struct ph_tls_session *session); /* records for the socket */
/* Why feed failed: for the log, never for the peer. "" before. Static storage. */
const char *ph_tls_session_why(const struct ph_tls_session *session);
bool ph_tls_session_is_ready(const struct ph_tls_session *session);    /* handshake done */
const char *ph_tls_session_alpn(const struct ph_tls_session *session); /* "" when none was agreed */
/* What was agreed on is good enough for HTTP/2: not TLS 1.2 with a suite of RFC 9113 Appendix A,
 * that is, without an ephemeral key exchange or without AEAD. */
bool ph_tls_session_suits_h2(const struct ph_tls_session *session);
void ph_tls_session_bye(struct ph_tls_session *session); /* queues close_notify */
/* What was agreed; NULL before. Borrow, until the session is freed. */
const struct ph_tls_info *ph_tls_session_info(const struct ph_tls_session *session);

#endif
