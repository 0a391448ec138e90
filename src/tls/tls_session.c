/*
 * tls_session.c - TLS records without a descriptor, and the bare TLS sessions that QUIC drives.
 *
 *      socket bytes --feed--> pull function -> GnuTLS -> plain queue
 *      plain queue --write--> GnuTLS -> push function -> out queue -> socket
 *
 * GnuTLS asks for exactly the bytes of the record that it reads, so the pull function lends it the
 * caller's bytes and all of them are used up when feed returns; nothing is read ahead. Plaintext is
 * copied once out of GnuTLS' record buffer.
 *
 * Invariants: the handshake advances in feed only (a client's first flight is made by new);
 * renegotiation is refused; after a fatal error or close_notify nothing is read or written any
 * more, except for what waits in the out queue.
 */
#include "tls_internal.h"

#include <errno.h>

struct ph_tls_session {
    gnutls_session_t tls;
    const uint8_t *in; /* borrow, during feed */
    size_t in_len;
    bool is_starved;      /* the pull function had nothing to give since it was last reset */
    struct ph_sliceq out; /* records for the socket */
    bool is_ready, is_closed, said_bye;
    int error; /* PH_E_CRYPTO once it has happened */
    char alpn[256];
    const struct ph_tls_info *info; /* own; NULL before is_ready */
    const char *why;                /* static; of `error` */
};

/* --- What TCP and QUIC share --- */

/* RFC 9001 8.1: a QUIC handshake without ALPN fails. GnuTLS' own flag catches only a list without
 * overlap, not a missing extension. */
static int require_alpn(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                        const gnutls_datum_t *message)
{
    (void)type;
    (void)when;
    (void)incoming;
    (void)message;
    gnutls_datum_t chosen;
    return gnutls_alpn_get_selected_protocol(session, &chosen) < 0
               ? GNUTLS_E_NO_APPLICATION_PROTOCOL
               : 0;
}

static int set_alpn(gnutls_session_t session, const char *const *alpn)
{
    gnutls_datum_t list[8]; /* protocols that we can speak at most */
    unsigned n = 0;
    for (; alpn != NULL && alpn[n] != NULL; n++) {
        size_t len = strlen(alpn[n]);
        if (n == PH_COUNT_OF(list) || len == 0 || len > 255)
            return PH_E_INVAL;
        list[n] = (gnutls_datum_t){(unsigned char *)(uintptr_t)alpn[n], (unsigned)len};
    }
    if (n == 0)
        return 0;
    return gnutls_alpn_set_protocols(session, list, n,
                                     GNUTLS_ALPN_MANDATORY | GNUTLS_ALPN_SERVER_PRECEDENCE) < 0
               ? PH_E_TLS
               : 0;
}

int ph_tls_common_new(gnutls_session_t *out, struct ph_tls_cred *cred, bool is_server, bool is_quic,
                      const char *const *alpn)
{
    *out = NULL;
    if (cred->is_client == is_server)
        return PH_E_INVAL;
    bool tickets = is_server && cred->tickets != NULL && cred->verify == PH_TLS_VERIFY_NONE;
    unsigned flags =
        (is_server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL;
    if (!tickets)
        flags |= GNUTLS_NO_TICKETS;
    if (!tickets || is_quic)
        flags |= GNUTLS_NO_AUTO_SEND_TICKET; /* QUIC: see ph_tls_quic_send_ticket() */
    if (is_quic)
        flags |= GNUTLS_NO_END_OF_EARLY_DATA; /* RFC 9001 8.3 */
    if (is_quic && tickets && ph_tls_tickets_have_early(cred->tickets))
        flags |= GNUTLS_ENABLE_EARLY_DATA;
    gnutls_session_t session;
    if (gnutls_init(&session, flags) < 0)
        return PH_E_TLS;
    int rv = set_alpn(session, alpn);
    if (rv != 0 || gnutls_priority_set(session, is_quic ? cred->quic : cred->tcp) < 0 ||
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, cred->x509) < 0) {
        gnutls_deinit(session);
        return rv != 0 ? rv : PH_E_TLS;
    }
    if (tickets && ph_tls_tickets_attach(cred->tickets, session, is_quic) < 0) {
        gnutls_deinit(session);
        return PH_E_TLS;
    }
    gnutls_handshake_set_max_packet_length(session, PH_TLS_HANDSHAKE_MAX);
    /* The session pointer belongs to ngtcp2's glue; the database pointer is free, as sessions are
     * resumed by tickets alone. */
    struct ph_tls_side *side = ph_alloc(sizeof(*side));
    side->cred = ph_tls_cred_ref(cred);
    gnutls_db_set_ptr(session, side);
    if (is_server && cred->verify != PH_TLS_VERIFY_NONE)
        gnutls_certificate_server_set_request(session, cred->verify == PH_TLS_VERIFY_REQUIRED
                                                           ? GNUTLS_CERT_REQUIRE
                                                           : GNUTLS_CERT_REQUEST);
    *out = session;
    return 0;
}

void ph_tls_common_free(gnutls_session_t session)
{
    struct ph_tls_side *side = ph_tls_side_of(session);
    gnutls_deinit(session);
    ph_tls_cred_unref(side->cred);
    ph_free(side);
}

struct ph_tls_side *ph_tls_side_of(gnutls_session_t session)
{
    return gnutls_db_get_ptr(session);
}

/* --- For QUIC --- */

int ph_tls_quic_new(struct gnutls_session_int **out, struct ph_tls_cred *cred, bool is_server,
                    const char *alpn, const char *server_name)
{
    *out = NULL;
    if (alpn == NULL)
        return PH_E_INVAL;
    gnutls_session_t session;
    int rv = ph_tls_common_new(&session, cred, is_server, true, (const char *const[]){alpn, NULL});
    if (rv != 0)
        return rv;
    /* Before a server says what it has chosen; a client knows by the Finished messages. */
    gnutls_handshake_set_hook_function(
        session, is_server ? GNUTLS_HANDSHAKE_ENCRYPTED_EXTENSIONS : GNUTLS_HANDSHAKE_FINISHED,
        GNUTLS_HOOK_PRE, require_alpn);
    /* RFC 6066 3: literal addresses are not sent as a server name. */
    struct ph_addr addr;
    if (!is_server && server_name != NULL && ph_addr_parse(&addr, server_name, 0) != 0 &&
        gnutls_server_name_set(session, GNUTLS_NAME_DNS, server_name, strlen(server_name)) < 0) {
        ph_tls_common_free(session);
        return PH_E_INVAL;
    }
    ph_live_add(PH_LIVE_TLS_SESSION, 1);
    *out = session;
    return 0;
}

void ph_tls_quic_free(struct gnutls_session_int *session)
{
    if (session == NULL)
        return;
    ph_tls_common_free(session);
    ph_live_add(PH_LIVE_TLS_SESSION, -1);
}

void ph_tls_quic_send_ticket(struct gnutls_session_int *session)
{
    const struct ph_tls_cred *cred = ph_tls_side_of(session)->cred;
    if (!cred->is_client && cred->tickets != NULL && cred->verify == PH_TLS_VERIFY_NONE)
        gnutls_session_ticket_send(session, 1, 0);
}

const char *ph_tls_quic_why(struct gnutls_session_int *session)
{
    const char *why = ph_tls_side_of(session)->why;
    return why != NULL ? why : "";
}

/* --- Transport functions of a record session --- */

static ssize_t on_pull(gnutls_transport_ptr_t self, void *data, size_t n)
{
    struct ph_tls_session *session = self;
    if (session->in_len == 0) {
        session->is_starved = true;
        gnutls_transport_set_errno(session->tls, EAGAIN);
        return -1;
    }
    n = PH_MIN(n, session->in_len);
    memcpy(data, session->in, n);
    session->in += n;
    session->in_len -= n;
    return (ssize_t)n;
}

static int on_pull_timeout(gnutls_transport_ptr_t self, unsigned ms)
{
    (void)ms; /* never waits */
    return ((struct ph_tls_session *)self)->in_len > 0;
}

static ssize_t on_push(gnutls_transport_ptr_t self, const giovec_t *iov, int count)
{
    struct ph_tls_session *session = self;
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    struct ph_buf *buf = ph_buf_new(total);
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        memcpy(buf->data + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    ph_buf_set_len(buf, total);
    ph_sliceq_push(&session->out, ph_slice_of(buf));
    return (ssize_t)total;
}

/* --- Record sessions --- */

static int session_fail(struct ph_tls_session *session, int reason)
{
    if (session->error == 0) {
        /* Tells the peer why, where TLS has an alert for it. */
        gnutls_alert_send_appropriate(session->tls, reason);
        session->error = PH_E_CRYPTO;
        session->why = gnutls_strerror(reason);
        if (reason == GNUTLS_E_NO_CERTIFICATE_FOUND || reason == GNUTLS_E_CERTIFICATE_REQUIRED) {
            session->why = "client certificate: none was shown";
        } else if (reason == GNUTLS_E_FATAL_ALERT_RECEIVED) {
            const char *alert = gnutls_alert_get_name(gnutls_alert_get(session->tls));
            session->why = alert != NULL ? alert : session->why;
        }
        const struct ph_tls_side *side = ph_tls_side_of(session->tls);
        if (side->why != NULL)
            session->why = side->why;
    }
    return session->error;
}

/* 0: done or waiting for the peer. */
static int session_handshake(struct ph_tls_session *session)
{
    while (!session->is_ready) {
        session->is_starved = false;
        int rv = gnutls_handshake(session->tls);
        if (rv == GNUTLS_E_SUCCESS) {
            gnutls_datum_t chosen;
            if (gnutls_alpn_get_selected_protocol(session->tls, &chosen) == 0 &&
                chosen.size < sizeof(session->alpn)) {
                memcpy(session->alpn, chosen.data, chosen.size);
                session->alpn[chosen.size] = '\0';
            }
            session->info = ph_tls_info_new(session->tls);
            session->is_ready = true;
        } else if (rv == GNUTLS_E_AGAIN && session->is_starved) {
            return 0;
        } else if (gnutls_error_is_fatal(rv)) {
            return session_fail(session, rv);
        }
    }
    return 0;
}

int ph_tls_session_new(struct ph_tls_session **out, struct ph_tls_cred *cred, bool is_server,
                       const char *const *alpn)
{
    *out = NULL;
    gnutls_session_t tls;
    int rv = ph_tls_common_new(&tls, cred, is_server, false, alpn);
    if (rv != 0)
        return rv;
    struct ph_tls_session *session = ph_alloc(sizeof(*session));
    ph_live_add(PH_LIVE_TLS_SESSION, 1);
    session->tls = tls;
    ph_sliceq_init(&session->out);
    if (is_server)
        ph_tls_watch_suites(tls);
    gnutls_transport_set_ptr(tls, session);
    gnutls_transport_set_pull_function(tls, on_pull);
    gnutls_transport_set_pull_timeout_function(tls, on_pull_timeout);
    gnutls_transport_set_vec_push_function(tls, on_push);
    if (!is_server)
        rv = session_handshake(session);
    if (rv != 0) {
        ph_tls_session_free(session);
        return rv;
    }
    *out = session;
    return 0;
}

void ph_tls_session_free(struct ph_tls_session *session)
{
    if (session == NULL)
        return;
    ph_tls_common_free(session->tls);
    ph_tls_info_unref(session->info);
    ph_sliceq_fini(&session->out);
    ph_live_add(PH_LIVE_TLS_SESSION, -1);
    ph_free(session);
}

/* Decrypts until the input is used up. */
static int session_read(struct ph_tls_session *session, struct ph_sliceq *plain)
{
    for (;;) {
        session->is_starved = false;
        gnutls_packet_t packet = NULL;
        ssize_t rv = gnutls_record_recv_packet(session->tls, &packet);
        if (rv > 0) {
            gnutls_datum_t data;
            gnutls_packet_get(packet, &data, NULL);
            ph_sliceq_push_copy(plain, data.data, data.size);
            gnutls_packet_deinit(packet);
            continue;
        }
        if (packet != NULL)
            gnutls_packet_deinit(packet); /* an empty record */
        if (rv == 0) {
            session->is_closed = true;
            return PH_E_CLOSED;
        }
        /* AGAIN also follows a post-handshake message; then there may be more to read. */
        if (rv == GNUTLS_E_AGAIN && session->is_starved)
            return 0;
        if (rv == GNUTLS_E_REHANDSHAKE || gnutls_error_is_fatal((int)rv))
            return session_fail(session, rv == GNUTLS_E_REHANDSHAKE
                                             ? GNUTLS_E_UNSAFE_RENEGOTIATION_DENIED
                                             : (int)rv);
    }
}

int ph_tls_session_feed(struct ph_tls_session *session, const uint8_t *p, size_t n,
                        struct ph_sliceq *plain)
{
    if (session->error != 0)
        return session->error;
    if (session->is_closed)
        return PH_E_CLOSED;
    session->in = p;
    session->in_len = n;
    int rv = session_handshake(session);
    if (rv == 0 && session->is_ready)
        rv = session_read(session, plain);
    session->in = NULL;
    session->in_len = 0;
    return rv;
}

int ph_tls_session_write(struct ph_tls_session *session, struct ph_sliceq *plain, size_t max_out)
{
    if (session->error != 0)
        return session->error;
    if (session->said_bye)
        return PH_E_CLOSED;
    if (!session->is_ready)
        return 0;
    while (plain->unsent > 0 && session->out.bytes < max_out) {
        uint8_t scratch[PH_TLS_RECORD_MAX];
        struct iovec iov[32]; /* slices joined into one record */
        size_t count = ph_sliceq_gather(plain, iov, PH_COUNT_OF(iov), sizeof(scratch));
        const uint8_t *data = iov[0].iov_base;
        size_t n = iov[0].iov_len;
        if (count > 1) {
            n = 0;
            for (size_t i = 0; i < count; n += iov[i++].iov_len)
                memcpy(scratch + n, iov[i].iov_base, iov[i].iov_len);
            data = scratch;
        }
        ssize_t sent = gnutls_record_send(session->tls, data, n);
        if (sent < 0 && !gnutls_error_is_fatal((int)sent))
            continue;
        if (sent <= 0)
            return session_fail(session, (int)sent);
        ph_sliceq_advance(plain, (size_t)sent);
        ph_sliceq_drop(plain, (size_t)sent);
    }
    return 0;
}

struct ph_sliceq *ph_tls_session_out(struct ph_tls_session *session)
{
    return &session->out;
}

const char *ph_tls_session_why(const struct ph_tls_session *session)
{
    return session->why != NULL ? session->why : "";
}

bool ph_tls_session_is_ready(const struct ph_tls_session *session)
{
    return session->is_ready;
}

const char *ph_tls_session_alpn(const struct ph_tls_session *session)
{
    return session->alpn;
}

const struct ph_tls_info *ph_tls_session_info(const struct ph_tls_session *session)
{
    return session->info;
}

void ph_tls_session_bye(struct ph_tls_session *session)
{
    if (!session->is_ready || session->error != 0 || session->said_bye)
        return;
    session->said_bye = true;
    gnutls_bye(session->tls, GNUTLS_SHUT_WR);
}

/* The authentication-only and static exchanges of Appendix A, and everything that is no AEAD. */
bool ph_tls_session_suits_h2(const struct ph_tls_session *session)
{
    if (gnutls_protocol_get_version(session->tls) >= GNUTLS_TLS1_3)
        return true;
    gnutls_kx_algorithm_t kx = gnutls_kx_get(session->tls);
    return gnutls_mac_get(session->tls) == GNUTLS_MAC_AEAD &&
           (kx == GNUTLS_KX_ECDHE_RSA || kx == GNUTLS_KX_ECDHE_ECDSA || kx == GNUTLS_KX_DHE_RSA);
}
