/* tls_raw.h - a client of GnuTLS itself, which can be made to do what ours never does. */
#ifndef PH_TLS_RAW_H
#define PH_TLS_RAW_H

#include "tls_fixture.h"

/* A client of GnuTLS with a priority string of its own against our server. */
struct raw {
    gnutls_session_t tls;
    gnutls_certificate_credentials_t cred;
    struct ph_sliceq *in, plain;
    struct ph_tls_session *server;
    int server_rv;
};

static inline ssize_t raw_pull(gnutls_transport_ptr_t self, void *data, size_t n)
{
    struct raw *raw = self;
    struct iovec iov;
    if (ph_sliceq_gather(raw->in, &iov, 1, n) == 0) {
        gnutls_transport_set_errno(raw->tls, EAGAIN);
        return -1;
    }
    size_t got = iov.iov_len;
    memcpy(data, iov.iov_base, got);
    ph_sliceq_advance(raw->in, got);
    ph_sliceq_drop(raw->in, got);
    return (ssize_t)got;
}

static inline ssize_t raw_push(gnutls_transport_ptr_t self, const void *data, size_t n)
{
    struct raw *raw = self;
    int rv = ph_tls_session_feed(raw->server, data, n, &raw->plain);
    if (raw->server_rv == 0)
        raw->server_rv = rv;
    return (ssize_t)n;
}

static inline int raw_timeout(gnutls_transport_ptr_t self, unsigned ms)
{
    (void)ms;
    return ((struct raw *)self)->in->unsent > 0;
}

static inline void raw_init(struct raw *raw, struct ph_tls_session *server, const char *priority)
{
    memset(raw, 0, sizeof(*raw));
    raw->server = server;
    raw->in = ph_tls_session_out(server);
    ph_sliceq_init(&raw->plain);
    CHECK(gnutls_init(&raw->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_FORCE_CLIENT_CERT) == 0);
    CHECK(gnutls_certificate_allocate_credentials(&raw->cred) == 0);
    CHECK(gnutls_credentials_set(raw->tls, GNUTLS_CRD_CERTIFICATE, raw->cred) == 0);
    CHECK(gnutls_priority_set_direct(raw->tls, priority, NULL) == 0);
    gnutls_transport_set_ptr(raw->tls, raw);
    gnutls_transport_set_pull_function(raw->tls, raw_pull);
    gnutls_transport_set_push_function(raw->tls, raw_push);
    gnutls_transport_set_pull_timeout_function(raw->tls, raw_timeout);
}

static inline int raw_handshake(struct raw *raw)
{
    int rv;
    for (int i = 0; i < 20; i++) {
        rv = gnutls_handshake(raw->tls);
        if (rv != GNUTLS_E_AGAIN)
            break;
    }
    return rv;
}

static inline void raw_fini(struct raw *raw)
{
    gnutls_deinit(raw->tls);
    gnutls_certificate_free_credentials(raw->cred);
    ph_sliceq_fini(&raw->plain);
}

#endif
