/*
 * certs.c - certificates of a server: loaded from the configuration at the start, and again, as
 * often as wanted, while it runs.
 *
 *      any thread    ph_server_reload(): files -> struct ph_creds -> server->fresh
 *      io            ph_certs_take():    server->fresh -> tcp_cred, quic_cred
 *
 * Reading files and deriving keys from passwords takes long, so it is never done on the I/O thread.
 * That takes the whole set in one step, between two turns: a handshake sees either the old one or
 * the new one. Connections keep references to what they began with.
 */
#include "../quic/quic.h"
#include "../tls/tls.h"
#include "core.h"

#include <limits.h>
#include <sys/stat.h>

struct ph_creds {
    struct ph_tls_cred *tcp, *quic; /* own; NULL: none of this kind */
};

static void creds_free(struct ph_creds *creds)
{
    if (creds == NULL)
        return;
    ph_tls_cred_unref(creds->tcp);
    ph_tls_cred_unref(creds->quic);
    ph_free(creds);
}

/* --- Options --- */

bool ph_certs_have_tls(const struct ph_config *config)
{
    return config->certfile != NULL || config->certificate.n > 0;
}

int ph_certs_check(const struct ph_config *config, struct ph_err *err)
{
    bool verify = config->verify_mode != PH_TLS_VERIFY_NONE;
    if (config->certfile == NULL && config->keyfile != NULL)
        return ph_fail(err, PH_E_CONFIG, "keyfile: needs certfile");
    if (config->quic_bind.n > 0 && !ph_certs_have_tls(config) && config->dev_certificate == NULL)
        return ph_fail(err, PH_E_CONFIG,
                       "quic_bind: QUIC needs a certificate: set certfile or dev_certificate");
    if (verify && config->ca_certs == NULL)
        return ph_fail(err, PH_E_CONFIG, "verify_mode: checking clients needs ca_certs");
    if (config->ca_crl != NULL && !verify)
        return ph_fail(err, PH_E_CONFIG, "ca_crl: has no use when verify_mode is none");
    if (config->early_data != 0 && config->session_tickets == 0)
        return ph_fail(err, PH_E_CONFIG, "early_data: needs session_tickets");
    if (config->early_data != 0 && verify)
        return ph_fail(err, PH_E_CONFIG,
                       "early_data: not together with client certificates: no tickets are issued"
                       " then");
    return 0;
}

/* One value of the option `certificate`, cut at its commas. */
struct entry {
    char *text; /* own */
    struct ph_tls_cert_files files;
};

static void entry_init(struct entry *entry, const char *value)
{
    const char **const parts[] = {&entry->files.cert, &entry->files.key,
                                  &entry->files.password_file};
    *entry = (struct entry){.text = ph_strdup(value)};
    char *rest = entry->text;
    for (size_t i = 0; i < PH_COUNT_OF(parts) && rest != NULL; i++) {
        char *part = strsep(&rest, ",");
        *parts[i] = part[0] != '\0' ? part : NULL;
    }
}

bool ph_certs_entry_is_valid(const char *value)
{
    size_t commas = 0;
    for (const char *p = value; *p != '\0'; p++)
        commas += *p == ',';
    return value[0] != ',' && commas <= 2;
}

/* --- Loading --- */

static const char *option_of(const struct ph_config *config, enum ph_tls_file failed, bool dev)
{
    switch (failed) {
    case PH_TLS_FILE_CA:
        return "ca_certs";
    case PH_TLS_FILE_CRL:
        return "ca_crl";
    case PH_TLS_FILE_MORE:
        return "certificate";
    case PH_TLS_FILE_KEY:
        if (!dev && config->keyfile != NULL)
            return "keyfile";
        break;
    case PH_TLS_FILE_CERT:
        break;
    }
    return dev ? "dev_certificate" : "certfile";
}

/* `dev`: the development certificate's files; NULL: those of the options. */
static int load_cred(struct ph_tls_cred **out, const struct ph_server *server,
                     const struct ph_tls_cert_files *dev, struct ph_err *err)
{
    const struct ph_config *config = server->config;
    struct ph_err why = {""};
    enum ph_tls_file failed = PH_TLS_FILE_CERT;
    size_t n = dev == NULL ? config->certificate.n : 0;
    struct entry *entries = ph_alloc((n + 1) * sizeof(*entries));
    struct ph_tls_cert_files *more = ph_alloc((n + 1) * sizeof(*more));
    for (size_t i = 0; i < n; i++) {
        entry_init(&entries[i], config->certificate.items[i]);
        more[i] = entries[i].files;
    }
    struct ph_tls_cred_options options = {
        .cert_path = dev != NULL ? dev->cert : config->certfile,
        .key_path = dev != NULL ? dev->key : config->keyfile,
        .key_password = dev != NULL ? NULL : config->keyfile_password,
        .more = more,
        .more_n = n,
        .ca_path = config->ca_certs,
        .crl_path = config->ca_crl,
        .verify = (enum ph_tls_verify)config->verify_mode,
        .ciphers = config->ciphers,
        .tls13_only = config->tls_min_version == PH_TLS_MIN_13,
        .tickets = server->tickets,
        .failed = &failed,
    };
    int rc = ph_tls_cred_load(out, &options, &why);
    for (size_t i = 0; i < n; i++)
        ph_free(entries[i].text);
    ph_free(entries);
    ph_free(more);
    if (rc < 0)
        ph_fail(err, rc, "%s: %s", option_of(config, failed, dev != NULL), why.text);
    return rc;
}

static int load_dev(struct ph_tls_cred **out, const struct ph_server *server, struct ph_err *err)
{
    char cert[PATH_MAX], key[PATH_MAX];
    uint8_t sha256[32];
    struct ph_err why = {""};
    int rc = ph_dev_certificate(server->config->dev_certificate, cert, sizeof(cert), key,
                                sizeof(key), sha256, why.text, sizeof(why.text));
    if (rc < 0)
        return ph_fail(err, rc, "dev_certificate: %s", why.text);
    return load_cred(out, server, &(struct ph_tls_cert_files){.cert = cert, .key = key}, err);
}

/* QUIC has the certificates of TCP, or the development certificate, which browsers accept by its
 * hash in WebTransport only. */
static int load_all(struct ph_creds **out, const struct ph_server *server, struct ph_err *err)
{
    const struct ph_config *config = server->config;
    struct ph_creds *creds = ph_alloc(sizeof(*creds));
    int rc = 0;
    *out = NULL;
    if (ph_certs_have_tls(config))
        rc = load_cred(&creds->tcp, server, NULL, err);
    if (rc == 0 && config->quic_bind.n > 0) {
        if (config->dev_certificate != NULL)
            rc = load_dev(&creds->quic, server, err);
        else
            creds->quic = ph_tls_cred_ref(creds->tcp);
    }
    if (rc < 0)
        creds_free(creds);
    else
        *out = creds;
    return rc;
}

/* What QUIC clients remember of a server together with a ticket: RFC 9000 7.4.1, RFC 9114 7.2.4.2.
 */
static int make_tickets(struct ph_server *server, struct ph_err *err)
{
    const struct ph_config *config = server->config;
    const uint64_t binding[] = {
        config->max_streams_bidi, config->max_streams_uni,    config->stream_window,
        config->conn_window,      config->max_datagram_frame, config->head_bytes,
        config->webtransport,     config->wt_max_sessions,    config->websocket,
    };
    uint8_t secret[32];
    if (config->session_tickets == 0)
        return 0;
    int rc = ph_engines_secret(secret, config, err);
    if (rc == 0)
        ph_tls_tickets_new(&server->tickets, secret, config->early_data != 0, binding,
                           sizeof(binding));
    explicit_bzero(secret, sizeof(secret));
    return rc;
}

/* --- What is known of them on any thread --- */

static void describe(struct ph_server *server, const struct ph_creds *creds)
{
    size_t tcp = creds->tcp != NULL ? ph_tls_cred_certs(creds->tcp) : 0;
    bool own = creds->quic != NULL && creds->quic != creds->tcp;
    size_t n = tcp + (own ? ph_tls_cred_certs(creds->quic) : 0);
    struct ph_certificate *list = ph_alloc((n + 1) * sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        const struct ph_tls_cred *cred = i < tcp ? creds->tcp : creds->quic;
        list[i].dev = i >= tcp;
        ph_tls_cred_describe(cred, i < tcp ? i : i - tcp, list[i].sha256, &list[i].expires);
    }
    pthread_mutex_lock(&server->certs_lock);
    struct ph_certificate *old = server->certs;
    server->certs = list;
    server->certs_n = n;
    pthread_mutex_unlock(&server->certs_lock);
    ph_free(old);
}

int ph_server_certificate(ph_server *server, size_t index, ph_certificate *out)
{
    int rc = PH_E_NOTFOUND;
    pthread_mutex_lock(&server->certs_lock);
    if (index < server->certs_n) {
        *out = server->certs[index];
        rc = 0;
    }
    pthread_mutex_unlock(&server->certs_lock);
    return rc;
}

/* --- Life --- */

int ph_certs_init(struct ph_server *server, struct ph_err *err)
{
    struct ph_creds *creds;
    int rc = make_tickets(server, err);
    if (rc == 0)
        rc = load_all(&creds, server, err);
    if (rc < 0)
        return rc;
    describe(server, creds);
    server->tcp_cred = creds->tcp;
    server->quic_cred = creds->quic;
    ph_free(creds);
    return 0;
}

void ph_certs_fini(struct ph_server *server)
{
    creds_free(atomic_exchange(&server->fresh, NULL));
    ph_tls_cred_unref(server->tcp_cred);
    ph_tls_cred_unref(server->quic_cred);
    ph_tls_tickets_free(server->tickets);
    ph_free(server->certs);
    pthread_mutex_destroy(&server->certs_lock);
    pthread_mutex_destroy(&server->reload_lock);
}

/* What can be read only once, or makes a reader wait, cannot be read again. */
static int check_file(const char *option, const char *path, struct ph_err *err)
{
    struct stat st;
    if (path == NULL || stat(path, &st) != 0 || S_ISREG(st.st_mode))
        return 0; /* one that is missing is the loader's to tell */
    return ph_fail(err, PH_E_IO, "%s: '%s' is not a regular file and cannot be read again", option,
                   path);
}

static int check_files(const struct ph_config *config, struct ph_err *err)
{
    int rc = check_file("certfile", config->certfile, err);
    if (rc == 0)
        rc = check_file("keyfile", config->keyfile, err);
    if (rc == 0)
        rc = check_file("ca_certs", config->ca_certs, err);
    if (rc == 0)
        rc = check_file("ca_crl", config->ca_crl, err);
    for (size_t i = 0; rc == 0 && i < config->certificate.n; i++) {
        struct entry entry;
        entry_init(&entry, config->certificate.items[i]);
        rc = check_file("certificate", entry.files.cert, err);
        if (rc == 0)
            rc = check_file("certificate", entry.files.key, err);
        if (rc == 0)
            rc = check_file("certificate", entry.files.password_file, err);
        ph_free(entry.text);
    }
    return rc;
}

int ph_server_reload(ph_server *server, char *err, size_t err_len)
{
    struct ph_err why = {""};
    struct ph_creds *creds;
    pthread_mutex_lock(&server->reload_lock); /* two at once must not end with the older files */
    int rc = check_files(server->config, &why);
    if (rc == 0)
        rc = load_all(&creds, server, &why);
    if (rc == 0) {
        describe(server, creds);
        /* One that was never taken is replaced: nobody has seen it. */
        creds_free(atomic_exchange(&server->fresh, creds));
        if (server->is_started)
            ph_ring_wake(&server->pipe.down);
    }
    pthread_mutex_unlock(&server->reload_lock);
    if (err != NULL && err_len > 0)
        snprintf(err, err_len, "%s", why.text);
    return rc;
}

void ph_certs_take(struct ph_server *server)
{
    /* Relaxed: once a turn, and nothing is read through it; the exchange below orders. */
    if (atomic_load_explicit(&server->fresh, memory_order_relaxed) == NULL)
        return;
    struct ph_creds *creds = atomic_exchange(&server->fresh, NULL);
    ph_tls_cred_unref(server->tcp_cred);
    ph_tls_cred_unref(server->quic_cred);
    server->tcp_cred = creds->tcp;
    server->quic_cred = creds->quic;
    ph_free(creds);
    if (server->quic != NULL)
        ph_quic_endpoint_set_cred(server->quic, server->quic_cred);
    ph_count(&server->stats, certificates_replaced);
}
