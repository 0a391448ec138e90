/*
 * inherit.c - sockets that this process did not open: from a supervisor, a service manager or a
 * shell.
 *
 * They come by number ("fd://3") or, from a service manager, by the environment (sd_listen_fds(3)).
 * Each is checked before it is used: a number may be anything, from a closed descriptor to the
 * terminal. The server works on a duplicate, so that whoever handed the descriptor over keeps his,
 * and one number may be named twice.
 */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_PASSED 3 /* SD_LISTEN_FDS_START */

static int get_int(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

static bool is_inet(int domain)
{
    return domain == AF_INET || domain == AF_INET6;
}

static int duplicate(int fd, struct ph_err *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_PASSED);
    if (copy < 0)
        return ph_fail(err, PH_E_IO, "descriptor %d: %s", fd, strerror(errno));
    int flags = fcntl(copy, F_GETFL);
    if (flags < 0 || fcntl(copy, F_SETFL, flags | O_NONBLOCK) != 0) {
        ph_fail(err, PH_E_IO, "descriptor %d: %s", fd, strerror(errno));
        close(copy);
        return PH_E_IO;
    }
    return copy;
}

/* The name of a Unix socket as it is written in an option. */
static void unix_name(char *path, const struct sockaddr_un *un, socklen_t len)
{
    size_t n = len > offsetof(struct sockaddr_un, sun_path)
                   ? len - offsetof(struct sockaddr_un, sun_path)
                   : 0;
    n = PH_MIN(n, (size_t)PH_UNIX_PATH_MAX);
    memcpy(path, un->sun_path, n);
    path[n] = '\0';
    if (n > 0 && path[0] == '\0')
        path[0] = '@';
    else if (n == 0)
        memcpy(path, "@", 2); /* was never bound */
}

static int describe(int fd, int domain, struct ph_addr *addr, char *path)
{
    struct sockaddr_un un = {0};
    socklen_t len = sizeof(un);
    *addr = (struct ph_addr){0};
    path[0] = '\0';
    if (domain == AF_UNIX) {
        if (getsockname(fd, (struct sockaddr *)&un, &len) != 0)
            return -1;
        unix_name(path, &un, len);
        return 0;
    }
    addr->len = sizeof(addr->u);
    return getsockname(fd, &addr->u.sa, &addr->len);
}

int ph_inherit_listener(int fd, int backlog, struct ph_addr *addr, char *path, struct ph_err *err)
{
    int domain = get_int(fd, SO_DOMAIN);
    if (get_int(fd, SO_TYPE) != SOCK_STREAM || (!is_inet(domain) && domain != AF_UNIX))
        return ph_fail(err, PH_E_CONFIG, "descriptor %d is not a TCP or Unix stream socket", fd);
    bool listens = get_int(fd, SO_ACCEPTCONN) == 1;
    if (!listens && listen(fd, backlog) != 0)
        return ph_fail(err, PH_E_IO, "descriptor %d cannot listen: %s", fd, strerror(errno));
    if (describe(fd, domain, addr, path) != 0)
        return ph_fail(err, PH_E_IO, "descriptor %d: getsockname: %s", fd, strerror(errno));
    return duplicate(fd, err);
}

int ph_inherit_udp(int fd, struct ph_err *err)
{
    struct ph_addr addr = {.len = sizeof(addr.u)};
    if (get_int(fd, SO_TYPE) != SOCK_DGRAM || !is_inet(get_int(fd, SO_DOMAIN)))
        return ph_fail(err, PH_E_CONFIG, "descriptor %d is not a UDP socket", fd);
    if (getsockname(fd, &addr.u.sa, &addr.len) != 0 || ph_addr_port(&addr) == 0)
        return ph_fail(err, PH_E_CONFIG, "descriptor %d is not bound to a UDP port", fd);
    return duplicate(fd, err);
}

/* The decimal number in an environment variable; -1: none. */
static long env_number(const char *name)
{
    const char *text = getenv(name);
    if (text == NULL || *text < '0' || *text > '9')
        return -1;
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    return errno == 0 && *end == '\0' ? value : -1;
}

/* Whether item `index` of LISTEN_FDNAMES, names separated by colons, is `name`. */
static bool has_name(const char *names, long index, const char *name)
{
    for (; names != NULL && index > 0; index--) {
        names = strchr(names, ':');
        names = names != NULL ? names + 1 : NULL;
    }
    if (names == NULL)
        return false;
    size_t n = strcspn(names, ":");
    return n == strlen(name) && memcmp(names, name, n) == 0;
}

int ph_inherit_list(int *out, int max, int type, const char *name)
{
    int count = 0;
    if (env_number("LISTEN_PID") != (long)getpid())
        return 0;
    long n = PH_MIN(env_number("LISTEN_FDS"), (long)PH_INHERIT_MAX);
    const char *names = getenv("LISTEN_FDNAMES");
    for (long i = 0; i < n && count < max; i++) {
        int fd = FIRST_PASSED + (int)i;
        if (get_int(fd, SO_TYPE) == type && (name == NULL || has_name(names, i, name)))
            out[count++] = fd;
    }
    return count;
}
