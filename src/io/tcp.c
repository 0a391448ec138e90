/*
 * tcp.c - TCP sockets: listening, accepting, reading into the caller's block, gathered writing.
 *
 * Bytes come from here to a TLS session or an HTTP/1 engine, and leave from their slice queues; no
 * byte is copied in between. Nothing here blocks, raises SIGPIPE or closes a connection's
 * descriptor. When the process runs out of descriptors the kernel would report the waiting
 * connection for ever: one spare descriptor is kept (struct ph_tcp_spare) to accept and drop it
 * with.
 */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

/* Slices handed to one sendmsg(). More gains nothing: 64 of them are more than a socket buffer. */
#define PH_TCP_IOV_MAX 64
/* Bytes written to one socket before others have their turn. */
#define PH_TCP_WRITE_MAX ((size_t)1 << 20)
/* Connections that died before accept() looked at them, skipped in one call. */
#define PH_TCP_ABORTED_MAX 64

static void spare_keep(struct ph_tcp_spare *spare)
{
    if (spare->fd < 0)
        spare->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void ph_tcp_spare_init(struct ph_tcp_spare *spare)
{
    spare->fd = -1;
    spare_keep(spare);
}

void ph_tcp_spare_fini(struct ph_tcp_spare *spare)
{
    if (spare->fd >= 0)
        close(spare->fd);
    spare->fd = -1;
}

const char *ph_port_hint(const struct ph_addr *addr, int code)
{
    if (code != EACCES || ph_addr_port(addr) >= 1024)
        return "";
    return "; ports below 1024 take CAP_NET_BIND_SERVICE, a lower "
           "net.ipv4.ip_unprivileged_port_start"
           ", or a socket from who has the right (fd://)";
}

/* `what` failed, as errno says; NULL: listening itself. */
static int listen_fail(int fd, const struct ph_addr *addr, const char *what, struct ph_err *err)
{
    int code = errno;
    char text[64];
    if (fd >= 0)
        close(fd);
    return ph_fail(err, PH_E_IO, "cannot listen on tcp %s: %s%s%s%s",
                   ph_addr_text(addr, text, sizeof(text)), what != NULL ? what : "",
                   what != NULL ? ": " : "", strerror(code), ph_port_hint(addr, code));
}

int ph_tcp_listen(struct ph_addr *addr, int backlog, bool reuse_port, struct ph_err *err)
{
    int on = 1;
    int fd = socket(addr->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return listen_fail(fd, addr, "socket", err);
    /* A restarted server does not wait for the connections of the one before to leave TIME_WAIT. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
        return listen_fail(fd, addr, "SO_REUSEADDR", err);
    if (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0)
        return listen_fail(fd, addr, "SO_REUSEPORT", err);
    if (addr->u.sa.sa_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0)
        return listen_fail(fd, addr, "IPV6_V6ONLY", err);
    if (bind(fd, &addr->u.sa, addr->len) != 0)
        return listen_fail(fd, addr, NULL, err);
    if (listen(fd, backlog) != 0)
        return listen_fail(fd, addr, NULL, err);
    socklen_t len = sizeof(addr->u);
    if (getsockname(fd, &addr->u.sa, &len) != 0)
        return listen_fail(fd, addr, "getsockname", err);
    addr->len = len;
    return fd;
}

/* Takes the connection at hand with the spare descriptor and drops it: its client learns at once,
 * and the listener is no longer reported ready for it. */
static void drop_waiting(int listener, struct ph_tcp_spare *spare)
{
    ph_tcp_spare_fini(spare);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    spare_keep(spare);
}

int ph_tcp_accept(int listener, struct ph_tcp_spare *spare, struct ph_addr *remote,
                  struct ph_addr *local)
{
    int fd = -1;
    for (int tries = 0; fd < 0; tries++) {
        socklen_t len = sizeof(remote->u);
        fd = accept4(listener, &remote->u.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            remote->len = remote->u.sa.sa_family == AF_UNIX ? 0 : len;
            break;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK || tries == PH_TCP_ABORTED_MAX)
            return PH_E_AGAIN;
        if (errno == EMFILE || errno == ENFILE) {
            drop_waiting(listener, spare);
            return PH_E_IO;
        }
        if (errno == ENOBUFS || errno == ENOMEM || errno == EINVAL) /* EINVAL: no longer listens */
            return PH_E_IO;
        /* All else (ECONNABORTED, EPROTO, network errors) belongs to the connection at hand, see
         * accept(2). */
        PH_ASSERT(errno != EBADF && errno != ENOTSOCK && errno != EFAULT);
    }
    spare_keep(spare); /* lost in a shortage that is over */
    local->len = 0;
    if (remote->len == 0)
        return fd;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    socklen_t len = sizeof(local->u);
    local->len = getsockname(fd, &local->u.sa, &len) == 0 ? len : 0;
    return fd;
}

ssize_t ph_tcp_read(int fd, void *out, size_t cap)
{
    ssize_t n;
    do {
        n = recv(fd, out, cap, 0);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EWOULDBLOCK ? PH_E_AGAIN : PH_E_CLOSED;
}

size_t ph_tcp_unacked(int fd)
{
    int n = 0;
    return ioctl(fd, SIOCOUTQ, &n) == 0 && n > 0 ? (size_t)n : 0;
}

ssize_t ph_tcp_write(int fd, struct ph_sliceq *q)
{
    struct iovec iov[PH_TCP_IOV_MAX];
    size_t total = 0;
    while (q->unsent > 0 && total < PH_TCP_WRITE_MAX) {
        struct msghdr msg = {.msg_iov = iov};
        msg.msg_iovlen = ph_sliceq_gather(q, iov, PH_TCP_IOV_MAX, PH_TCP_WRITE_MAX - total);
        if (msg.msg_iovlen == 0) /* a file is next */
            break;
        ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && total == 0) {
            bool is_full =
                errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM;
            return is_full ? PH_E_AGAIN : PH_E_CLOSED;
        }
        if (n < 0) /* what did leave is reported first; the error comes again */
            break;
        ph_sliceq_advance(q, (size_t)n);
        ph_sliceq_drop(q, (size_t)n);
        total += (size_t)n;
    }
    return (ssize_t)total;
}

ssize_t ph_tcp_send_file(int fd, struct ph_sliceq *q, size_t max)
{
    int file;
    uint64_t offset;
    size_t n = ph_sliceq_file(q, &file, &offset);
    off_t at = (off_t)offset;
    ssize_t sent;
    do {
        sent = sendfile(fd, file, &at, PH_MIN(n, max));
    } while (sent < 0 && errno == EINTR);
    if (sent == 0)
        return PH_E_IO;
    if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM))
        return PH_E_AGAIN;
    if (sent < 0)
        return errno == EIO || errno == EINVAL || errno == EOVERFLOW ? PH_E_IO : PH_E_CLOSED;
    ph_sliceq_advance(q, (size_t)sent);
    ph_sliceq_drop(q, (size_t)sent);
    return sent;
}
