/*
 * bind.c - listening sockets from the addresses of the configuration: names, paths, and descriptors
 * from outside.
 *
 *      host:port            resolved; every address of the name, all with the same port
 *      unix:path            one listening Unix socket, for what goes over TCP
 *      fd://N               a socket somebody else opened
 *      fd://systemd[:name]  all that a service manager handed over, of the kind that fits
 *
 * Runs once, in ph_server_new(), and may block. What a list began and could not finish is closed by
 * the caller through ph_bind_close().
 */
#include "core.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

/* Addresses of one name; "localhost" has two. */
#define ADDRS_MAX 8
/* Attempts to find one port that is free for all addresses of a name, when it was 0. */
#define PORT_TRIES 16

/* --- Closing --- */

void ph_bind_close_listener(struct ph_tcp_listener *listener)
{
    if (listener->is_closed)
        return;
    listener->is_closed = true;
    close(listener->watch.fd);
    if (listener->path != NULL)
        ph_unix_remove(listener->path, &listener->file);
}

static void udp_close_from(struct ph_server *server, size_t first)
{
    while (server->udp_n > first) {
        struct ph_udp_socket *sock = &server->udp[--server->udp_n];
        if (sock->udp != NULL)
            ph_udp_close(sock->udp);
    }
}

static void tcp_close_from(struct ph_server *server, size_t first)
{
    while (server->tcp_n > first) {
        struct ph_tcp_listener *listener = &server->tcp[--server->tcp_n];
        ph_bind_close_listener(listener);
        ph_free(listener->path);
    }
}

void ph_bind_close(struct ph_server *server)
{
    tcp_close_from(server, 0);
    udp_close_from(server, 0);
}

/* --- host:port --- */

enum bind_kind { BIND_TCP, BIND_TLS, BIND_QUIC };

static void add_udp(struct ph_server *server, struct ph_udp *udp, const struct ph_addr *addr)
{
    server->udp = ph_realloc(server->udp, (server->udp_n + 1) * sizeof(*server->udp));
    server->udp[server->udp_n++] =
        (struct ph_udp_socket){.udp = udp, .server = server, .addr = *addr};
}

static struct ph_tcp_listener *add_listener(struct ph_server *server, int fd, bool tls)
{
    server->tcp = ph_realloc(server->tcp, (server->tcp_n + 1) * sizeof(*server->tcp));
    struct ph_tcp_listener *listener = &server->tcp[server->tcp_n++];
    *listener = (struct ph_tcp_listener){.watch = {.fd = fd}, .server = server, .tls = tls};
    return listener;
}

static int open_udp(struct ph_server *server, struct ph_addr *addr, struct ph_err *err)
{
    struct ph_udp_options options;
    struct ph_udp *udp = NULL;
    ph_engines_udp_options(&options, server->config);
    int rc = ph_udp_open(&udp, addr, &options, err);
    if (rc < 0)
        return rc;
    add_udp(server, udp, addr);
    return 0;
}

static int open_tcp(struct ph_server *server, struct ph_addr *addr, bool tls, struct ph_err *err)
{
    const struct ph_config *config = server->config;
    int fd = ph_tcp_listen(addr, (int)config->backlog, config->reuse_port != 0, err);
    if (fd < 0)
        return fd;
    add_listener(server, fd, tls)->addr = *addr;
    return 0;
}

/* The port that the kernel chose for TLS on this address, 0 when there is none: HTTP/3 is best
 * found on the same number. */
static uint16_t port_of_tls(const struct ph_server *server, const struct ph_addr *addr)
{
    for (size_t i = 0; i < server->tcp_n; i++) {
        const struct ph_tcp_listener *listener = &server->tcp[i];
        struct ph_addr same = *addr;
        ph_addr_set_port(&same, ph_addr_port(&listener->addr));
        if (listener->tls && listener->is_any_port && ph_addr_equal(&same, &listener->addr))
            return ph_addr_port(&listener->addr);
    }
    return 0;
}

/* Opens every address of one name with the same port. */
static int open_all(struct ph_server *server, enum bind_kind kind, const struct ph_addr *addrs,
                    size_t n, uint16_t port, struct ph_err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct ph_addr addr = addrs[i];
        ph_addr_set_port(&addr, port);
        int rc = kind == BIND_QUIC ? open_udp(server, &addr, err)
                                   : open_tcp(server, &addr, kind == BIND_TLS, err);
        if (rc < 0)
            return rc;
        port = ph_addr_port(&addr);
    }
    return 0;
}

static int bind_name(struct ph_server *server, enum bind_kind kind, const char *option,
                     const char *text, struct ph_err *err)
{
    struct ph_addr addrs[ADDRS_MAX] = {0};
    struct ph_err why = {""};
    int n = ph_resolve(addrs, ADDRS_MAX, text, &why);
    if (n < 0)
        return ph_fail(err, n, "%s: %s", option, why.text);
    uint16_t port = ph_addr_port(&addrs[0]);
    bool any_port = port == 0;
    size_t tcp_n = server->tcp_n, udp_n = server->udp_n;
    int rc = PH_E_IO;
    if (any_port && kind == BIND_QUIC)
        port = port_of_tls(server, &addrs[0]);
    for (int tries = 0; tries < (any_port ? PORT_TRIES : 1); tries++) {
        rc = open_all(server, kind, addrs, (size_t)n, port, &why);
        for (size_t i = tcp_n; i < server->tcp_n; i++)
            server->tcp[i].is_any_port = any_port;
        if (rc == 0)
            return 0;
        tcp_close_from(server, tcp_n);
        udp_close_from(server, udp_n);
        port = any_port ? 0 : port;
    }
    return ph_fail(err, rc, "%s: %s", option, why.text);
}

/* --- unix:path --- */

/* Number of a user or group given by name or number. */
static int owner_id(const char *option, const char *text, uint32_t *id, struct ph_err *err)
{
    bool is_user = strcmp(option, "uds_user") == 0;
    char *end;
    if (*text >= '0' && *text <= '9') {
        errno = 0;
        unsigned long value = strtoul(text, &end, 10);
        if (errno == 0 && *end == '\0' && value < UINT32_MAX) {
            *id = (uint32_t)value;
            return 0;
        }
    }
    const struct passwd *user = is_user ? getpwnam(text) : NULL;
    const struct group *group = is_user ? NULL : getgrnam(text);
    if (user == NULL && group == NULL)
        return ph_fail(err, PH_E_CONFIG, "%s: this system has no %s \"%s\"", option,
                       is_user ? "user" : "group", text);
    *id = user != NULL ? user->pw_uid : group->gr_gid;
    return 0;
}

static int unix_options(struct ph_unix_options *out, const struct ph_config *config,
                        struct ph_err *err)
{
    const char *mode = config->uds_permissions != NULL ? config->uds_permissions : "666";
    uint32_t uid = UINT32_MAX, gid = UINT32_MAX;
    int rc = 0;
    if (config->uds_user != NULL)
        rc = owner_id("uds_user", config->uds_user, &uid, err);
    if (rc == 0 && config->uds_group != NULL)
        rc = owner_id("uds_group", config->uds_group, &gid, err);
    *out = (struct ph_unix_options){
        .mode = (unsigned)strtoul(strncmp(mode, "0o", 2) == 0 ? mode + 2 : mode, NULL, 8),
        .uid = (uid_t)uid,
        .gid = (gid_t)gid,
    };
    return rc;
}

static int bind_unix(struct ph_server *server, enum bind_kind kind, const char *option,
                     const char *path, struct ph_err *err)
{
    struct ph_unix_options options;
    struct ph_unix_file file;
    struct ph_err why = {""};
    int rc = unix_options(&options, server->config, err);
    if (rc < 0)
        return rc;
    int fd = ph_unix_listen(&file, path, &options, (int)server->config->backlog, &why);
    if (fd < 0)
        return ph_fail(err, fd, "%s: %s", option, why.text);
    struct ph_tcp_listener *listener = add_listener(server, fd, kind == BIND_TLS);
    listener->path = ph_strdup(path);
    listener->file = file;
    return 0;
}

/* --- fd:// --- */

static int inherit_one(struct ph_server *server, enum bind_kind kind, int number,
                       struct ph_err *err)
{
    char path[PH_UNIX_PATH_MAX + 2];
    struct ph_addr addr = {.len = 0};
    if (kind == BIND_QUIC) {
        struct ph_udp_options options;
        struct ph_udp *udp = NULL;
        int fd = ph_inherit_udp(number, err);
        if (fd < 0)
            return fd;
        ph_engines_udp_options(&options, server->config);
        int rc = ph_udp_adopt(&udp, fd, &addr, &options, err);
        if (rc == 0)
            add_udp(server, udp, &addr);
        return rc;
    }
    int fd = ph_inherit_listener(number, (int)server->config->backlog, &addr, path, err);
    if (fd < 0)
        return fd;
    struct ph_tcp_listener *listener = add_listener(server, fd, kind == BIND_TLS);
    listener->addr = addr;
    listener->path = path[0] != '\0' ? ph_strdup(path) : NULL;
    return 0;
}

static int bind_inherited(struct ph_server *server, enum bind_kind kind, const char *option,
                          const char *text, struct ph_err *err)
{
    static const char systemd[] = "systemd";
    int fds[PH_INHERIT_MAX], n = 1;
    struct ph_err why = {""};
    if (strncmp(text, systemd, strlen(systemd)) == 0) {
        const char *name = text[strlen(systemd)] == ':' ? text + strlen(systemd) + 1 : NULL;
        n = ph_inherit_list(fds, PH_INHERIT_MAX, kind == BIND_QUIC ? SOCK_DGRAM : SOCK_STREAM,
                            name);
        if (n == 0)
            return ph_fail(err, PH_E_CONFIG,
                           "%s: the service manager handed over no %s socket%s%s (LISTEN_FDS, for "
                           "this process by LISTEN_PID)",
                           option, kind == BIND_QUIC ? "datagram" : "stream",
                           name != NULL ? " named " : "", name != NULL ? name : "");
    } else {
        fds[0] = atoi(text); /* digits: config.c looked */
    }
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++)
        rc = inherit_one(server, kind, fds[i], &why);
    return rc < 0 ? ph_fail(err, rc, "%s: %s", option, why.text) : 0;
}

/* --- All --- */

static int bind_one(struct ph_server *server, enum bind_kind kind, const char *option,
                    const char *text, struct ph_err *err)
{
    if (strncmp(text, "unix:", 5) == 0)
        return bind_unix(server, kind, option, text + 5, err);
    if (strncmp(text, "fd://", 5) == 0)
        return bind_inherited(server, kind, option, text + 5, err);
    return bind_name(server, kind, option, text, err);
}

static int bind_list(struct ph_server *server, enum bind_kind kind, const char *option,
                     const struct ph_text_list *list, struct ph_err *err)
{
    int rc = 0;
    for (size_t i = 0; i < list->n && rc == 0; i++)
        rc = bind_one(server, kind, option, list->items[i], err);
    return rc;
}

int ph_bind_all(struct ph_server *server, struct ph_err *err)
{
    const struct ph_config *config = server->config;
    enum bind_kind kind = ph_certs_have_tls(config) ? BIND_TLS : BIND_TCP;
    int rc = bind_list(server, kind, "bind", &config->bind, err);
    if (rc == 0)
        rc = bind_list(server, BIND_TCP, "insecure_bind", &config->insecure_bind, err);
    if (rc == 0)
        rc = bind_list(server, BIND_QUIC, "quic_bind", &config->quic_bind, err);
    return rc;
}
