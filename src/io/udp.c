/*
 * udp.c - UDP sockets with batching: recvmmsg and UDP_GRO in, UDP_SEGMENT, sendmmsg or sendmsg out.
 *
 * The two ends of the packet path. In: the kernel fills receive slabs, each datagram is handed to
 * the endpoint as a borrowed view with its addresses and ECN mark. Out: one contiguous run of equal
 * datagrams to one peer, which is what UDP_SEGMENT wants (10 to 50 times cheaper than one call a
 * datagram). Invariants:
 * - a datagram leaves whole or not at all, and in order; what the socket could not take is the
 *   caller's to send again;
 * - packets are never fragmented (path MTU discovery is QUIC's, RFC 9000 14); a cached path MTU of
 *   the kernel, which forged ICMP could lower, is not used;
 * - the answer leaves from the address the question came to (packet info), with the ECN mark asked
 *   for;
 * - a means that the kernel refuses is not tried again on that socket, but only when the next
 *   simpler one works for the very same datagram: an unreachable peer says nothing about GSO.
 */
#include "io.h"

#include <errno.h>
#include <netinet/udp.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define PH_UDP_SLAB 65536  /* bytes: the largest datagram or GRO train */
#define PH_UDP_SLABS 8     /* filled with one recvmmsg() */
#define PH_UDP_CONTROL 128 /* bytes: packet info, traffic class, segment size and their headers */
#define PH_UDP_BATCH                                                                               \
    64 /* segments of one UDP_SEGMENT call (the kernel's limit), and messages                      \
          of one sendmmsg() */
#define PH_UDP_GSO_BYTES 65507 /* largest UDP payload over IPv4 */

enum send_mode { SEND_GSO, SEND_MMSG, SEND_PLAIN };

struct control {
    _Alignas(struct cmsghdr) uint8_t bytes[PH_UDP_CONTROL];
};

struct ph_udp { /* io, once the I/O thread runs */
    int fd;
    int family;
    uint16_t port;        /* bound */
    enum send_mode mode;  /* best that works */
    bool no_ecn;          /* the kernel refuses to mark */
    bool said_send_error; /* one log line a socket */
    struct mmsghdr msgs[PH_UDP_SLABS];
    struct iovec iov[PH_UDP_SLABS];
    struct ph_addr remote[PH_UDP_SLABS];
    struct control control[PH_UDP_SLABS];
    uint8_t *slabs; /* PH_UDP_SLABS * PH_UDP_SLAB bytes */
};

/* --- Open --- */

static bool set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

static size_t get_buffer(int fd, int name)
{
    int value = 0;
    socklen_t len = sizeof(value);
    if (getsockopt(fd, SOL_SOCKET, name, &value, &len) != 0 || value < 0)
        return 0;
    return (size_t)value / 2; /* the kernel doubles what it was asked, for its own overhead */
}

static size_t want_buffer(int fd, int name, int force_name, size_t bytes)
{
    int value = (int)PH_MIN(bytes, (size_t)INT32_MAX / 2);
    if (!set_int(fd, SOL_SOCKET, force_name, value)) /* needs CAP_NET_ADMIN, passes the cap */
        set_int(fd, SOL_SOCKET, name, value);
    return get_buffer(fd, name);
}

static void size_buffers(int fd, const struct ph_addr *addr, size_t bytes)
{
    char text[64];
    if (bytes == 0)
        return;
    bytes = PH_MIN(bytes, (size_t)INT32_MAX / 2);
    size_t in = want_buffer(fd, SO_RCVBUF, SO_RCVBUFFORCE, bytes);
    size_t out = want_buffer(fd, SO_SNDBUF, SO_SNDBUFFORCE, bytes);
    if (in >= bytes && out >= bytes)
        return;
    ph_log(PH_LOG_WARNING,
           "udp: socket buffers capped address=%s receive=%zu send=%zu wanted=%zu; raise "
           "net.core.rmem_max and net.core.wmem_max to %zu",
           ph_addr_text(addr, text, sizeof(text)), in, out, bytes, bytes);
}

/* Name of the option that was refused, or NULL. */
static const char *configure_v4(int fd)
{
    if (!set_int(fd, IPPROTO_IP, IP_PKTINFO, 1))
        return "IP_PKTINFO";
    if (!set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE))
        return "IP_MTU_DISCOVER";
    set_int(fd, IPPROTO_IP, IP_RECVTOS, 1); /* QUIC does without, it then reports no ECN */
    return NULL;
}

static const char *configure_v6(int fd)
{
    if (!set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1))
        return "IPV6_RECVPKTINFO";
    if (!set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE))
        return "IPV6_MTU_DISCOVER";
    set_int(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1); /* as above */
    return NULL;
}

static enum send_mode best_mode(int fd, const struct ph_udp_options *options)
{
    int value;
    socklen_t len = sizeof(value);
    if (options->no_gso || getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &value, &len) != 0)
        return SEND_MMSG;
    return SEND_GSO;
}

/* `what` failed, as errno says; NULL: binding itself. */
static int open_fail(int fd, const struct ph_addr *addr, const char *what, struct ph_err *err)
{
    int code = errno;
    char text[64];
    if (fd >= 0)
        close(fd);
    return ph_fail(err, PH_E_IO, "cannot open udp %s: %s%s%s%s",
                   ph_addr_text(addr, text, sizeof(text)), what != NULL ? what : "",
                   what != NULL ? ": " : "", strerror(code), ph_port_hint(addr, code));
}

static const char *configure(int fd, int family, const struct ph_udp_options *options)
{
    const char *refused = family == AF_INET6 ? configure_v6(fd) : configure_v4(fd);
    if (!options->no_gro)
        set_int(fd, IPPROTO_UDP, UDP_GRO, 1); /* without it datagrams come one by one */
    return refused;
}

/* A bound, configured socket from here on. */
static int make(struct ph_udp **out, int fd, struct ph_addr *addr,
                const struct ph_udp_options *options, struct ph_err *err)
{
    socklen_t len = sizeof(addr->u);
    if (getsockname(fd, &addr->u.sa, &len) != 0)
        return open_fail(fd, addr, "getsockname", err);
    addr->len = len;
    size_buffers(fd, addr, options->buffer_bytes);

    struct ph_udp *udp = ph_alloc(sizeof(*udp));
    udp->fd = fd;
    udp->family = addr->u.sa.sa_family;
    udp->port = ph_addr_port(addr);
    udp->mode = best_mode(fd, options);
    udp->slabs = ph_alloc((size_t)PH_UDP_SLABS * PH_UDP_SLAB);
    *out = udp;
    return PH_OK;
}

int ph_udp_open(struct ph_udp **out, struct ph_addr *addr, const struct ph_udp_options *options,
                struct ph_err *err)
{
    int family = addr->u.sa.sa_family;
    *out = NULL;
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return open_fail(fd, addr, "socket", err);
    const char *refused = configure(fd, family, options);
    if (refused == NULL && family == AF_INET6 && !set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1))
        refused = "IPV6_V6ONLY";
    if (refused != NULL)
        return open_fail(fd, addr, refused, err);
    if (options->reuse_port && !set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1))
        return open_fail(fd, addr, "SO_REUSEPORT", err);
    if (bind(fd, &addr->u.sa, addr->len) != 0)
        return open_fail(fd, addr, NULL, err);
    return make(out, fd, addr, options, err);
}

int ph_udp_adopt(struct ph_udp **out, int fd, struct ph_addr *addr,
                 const struct ph_udp_options *options, struct ph_err *err)
{
    *out = NULL;
    *addr = (struct ph_addr){.len = sizeof(addr->u)};
    if (getsockname(fd, &addr->u.sa, &addr->len) != 0)
        return open_fail(fd, addr, "getsockname", err);
    const char *refused = configure(fd, addr->u.sa.sa_family, options);
    if (refused != NULL)
        return open_fail(fd, addr, refused, err);
    return make(out, fd, addr, options, err);
}

void ph_udp_close(struct ph_udp *udp)
{
    if (udp == NULL)
        return;
    close(udp->fd);
    ph_free(udp->slabs);
    ph_free(udp);
}

int ph_udp_fd(const struct ph_udp *udp)
{
    return udp->fd;
}

/* --- Receive --- */

static void local_v4(struct ph_addr *local, const struct cmsghdr *cmsg, uint16_t port)
{
    struct in_pktinfo info;
    memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
    *local = (struct ph_addr){.len = sizeof(local->u.in)};
    local->u.in.sin_family = AF_INET;
    local->u.in.sin_port = htons(port);
    local->u.in.sin_addr = info.ipi_spec_dst; /* ours, also when it was sent to a group */
}

static void local_v6(struct ph_addr *local, const struct cmsghdr *cmsg, uint16_t port)
{
    struct in6_pktinfo info;
    memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
    *local = (struct ph_addr){.len = sizeof(local->u.in6)};
    local->u.in6.sin6_family = AF_INET6;
    local->u.in6.sin6_port = htons(port);
    local->u.in6.sin6_addr = info.ipi6_addr;
    if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
        local->u.in6.sin6_scope_id = (uint32_t)info.ipi6_ifindex;
}

/* An integer that kernels pass as one byte or as an int. */
static int cmsg_int(const struct cmsghdr *cmsg)
{
    int value = 0;
    if (cmsg->cmsg_len >= CMSG_LEN(sizeof(value)))
        memcpy(&value, CMSG_DATA(cmsg), sizeof(value));
    else if (cmsg->cmsg_len >= CMSG_LEN(1))
        value = *CMSG_DATA(cmsg);
    return value;
}

/* Fills in what the control messages say; returns the segment size of a GRO train or 0. */
static size_t read_control(const struct ph_udp *udp, struct msghdr *msg,
                           struct ph_udp_packet *packet)
{
    size_t segment = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
            local_v4(&packet->path.local, c, udp->port);
        else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
            local_v6(&packet->path.local, c, udp->port);
        else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) ||
                 (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS))
            packet->ecn = (uint8_t)(cmsg_int(c) & 3);
        else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO && cmsg_int(c) > 0)
            segment = (size_t)cmsg_int(c);
    }
    return segment;
}

/* Hands over the datagrams of one kernel message; returns how many they were, at least 1. */
static int deliver(struct ph_udp *udp, size_t index, ph_udp_packet_fn fn, void *self)
{
    struct msghdr *msg = &udp->msgs[index].msg_hdr;
    size_t left = udp->msgs[index].msg_len;
    struct ph_udp_packet packet = {
        .path = {.remote = udp->remote[index], .sock = udp},
        .data = udp->iov[index].iov_base,
    };
    packet.path.remote.len = msg->msg_namelen;
    size_t segment = read_control(udp, msg, &packet);
    if (segment == 0)
        segment = left;
    int count = 0;
    do {
        packet.n = PH_MIN(segment, left);
        fn(self, &packet);
        count++;
        packet.data += packet.n;
        left -= packet.n;
    } while (left > 0);
    return count;
}

static void prepare_slots(struct ph_udp *udp, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        udp->iov[i] = (struct iovec){
            .iov_base = udp->slabs + i * PH_UDP_SLAB,
            .iov_len = PH_UDP_SLAB,
        };
        udp->msgs[i].msg_hdr = (struct msghdr){
            .msg_name = &udp->remote[i].u,
            .msg_namelen = sizeof(udp->remote[i].u),
            .msg_iov = &udp->iov[i],
            .msg_iovlen = 1,
            .msg_control = &udp->control[i],
            .msg_controllen = sizeof(udp->control[i]),
        };
    }
}

int ph_udp_recv(struct ph_udp *udp, int budget, ph_udp_packet_fn fn, void *self,
                struct ph_stats *stats)
{
    int count = 0;
    int errors = 0;
    while (count + errors < budget) {
        int want = PH_MIN(PH_UDP_SLABS, budget - count);
        prepare_slots(udp, (size_t)want);
        int n = recvmmsg(udp->fd, udp->msgs, (unsigned)want, MSG_DONTWAIT, NULL);
        ph_count(stats, recv_calls);
        if (n < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                break;
            errors++; /* EINTR, or an ICMP error of some peer: the next call goes on behind it */
            continue;
        }
        for (int i = 0; i < n; i++)
            count += deliver(udp, (size_t)i, fn, self);
        if (n < want)
            break;
    }
    ph_count_add(stats, packets_in, count);
    return count;
}

/* --- Send --- */

struct outgoing {
    const struct ph_path *path;
    struct control control;
    size_t control_len;
};

static void put_cmsg(struct outgoing *out, int level, int type, const void *data, size_t n)
{
    PH_ASSERT(out->control_len + CMSG_SPACE(n) <= sizeof(out->control));
    struct cmsghdr cmsg = {.cmsg_level = level, .cmsg_type = type, .cmsg_len = CMSG_LEN(n)};
    uint8_t *at = out->control.bytes + out->control_len;
    memset(at, 0, CMSG_SPACE(n));
    memcpy(at, &cmsg, sizeof(cmsg));
    memcpy(at + CMSG_LEN(0), data, n);
    out->control_len += CMSG_SPACE(n);
}

static void put_source(struct outgoing *out, int family)
{
    const struct ph_addr *local = &out->path->local;
    if (local->len == 0 || local->u.sa.sa_family != family)
        return;
    if (family == AF_INET) {
        struct in_pktinfo info = {.ipi_spec_dst = local->u.in.sin_addr};
        if (info.ipi_spec_dst.s_addr != htonl(INADDR_ANY))
            put_cmsg(out, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
        return;
    }
    struct in6_pktinfo info = {
        .ipi6_addr = local->u.in6.sin6_addr,
        .ipi6_ifindex = local->u.in6.sin6_scope_id,
    };
    if (!IN6_IS_ADDR_UNSPECIFIED(&info.ipi6_addr))
        put_cmsg(out, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
}

static void outgoing_init(struct outgoing *out, const struct ph_udp *udp,
                          const struct ph_path *path, uint8_t ecn)
{
    out->path = path;
    out->control_len = 0;
    put_source(out, udp->family);
    int mark = ecn & 3;
    if (mark == 0 || udp->no_ecn)
        return;
    if (udp->family == AF_INET)
        put_cmsg(out, IPPROTO_IP, IP_TOS, &mark, sizeof(mark));
    else
        put_cmsg(out, IPPROTO_IPV6, IPV6_TCLASS, &mark, sizeof(mark));
}

static struct msghdr outgoing_msg(struct outgoing *out, struct iovec *iov)
{
    const struct ph_addr *remote = &out->path->remote;
    return (struct msghdr){
        .msg_name = (void *)(uintptr_t)&remote->u,
        .msg_namelen = remote->len,
        .msg_iov = iov,
        .msg_iovlen = 1,
        .msg_control = out->control_len > 0 ? &out->control : NULL,
        .msg_controllen = out->control_len,
    };
}

static struct iovec iov_of(const uint8_t *data, size_t n)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = n};
}

/* One sendmsg() of what may be one datagram or, with a segment size, several. 0 or errno. */
static int send_one(struct ph_udp *udp, const struct outgoing *base, const uint8_t *data, size_t n,
                    size_t segment, struct ph_stats *stats)
{
    struct outgoing out = *base;
    struct iovec iov = iov_of(data, n);
    if (segment != 0) {
        uint16_t size = (uint16_t)segment;
        put_cmsg(&out, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
    }
    struct msghdr msg = outgoing_msg(&out, &iov);
    ssize_t rc;
    do {
        rc = sendmsg(udp->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        ph_count(stats, send_calls);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? errno : 0;
}

/* Several datagrams with one sendmmsg(). Bytes that left; 0 with `*error` set. */
static size_t send_many(struct ph_udp *udp, struct outgoing *out, const uint8_t *data, size_t n,
                        size_t segment, struct ph_stats *stats, int *error)
{
    struct mmsghdr msgs[PH_UDP_BATCH];
    struct iovec iov[PH_UDP_BATCH];
    unsigned count = 0;
    for (size_t at = 0; at < n; at += segment, count++) {
        iov[count] = iov_of(data + at, PH_MIN(segment, n - at));
        msgs[count] = (struct mmsghdr){.msg_hdr = outgoing_msg(out, &iov[count])};
    }
    int sent;
    do {
        sent = sendmmsg(udp->fd, msgs, count, MSG_DONTWAIT | MSG_NOSIGNAL);
        ph_count(stats, send_calls);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        *error = errno;
        return 0;
    }
    *error = 0;
    return PH_MIN((size_t)sent * segment, n);
}

/* The socket's own buffer is full, and a writable event will tell when it is not. ENOBUFS and
 * ENOMEM are not of that kind: the interface's queue or the system is out of room while the socket
 * stays writable, so that waiting for it would spin. */
static bool is_full(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK;
}

/* Errors by which kernels and devices say "not this way". */
static bool is_refusal(int error)
{
    return error == EIO || error == EINVAL || error == ENOPROTOOPT || error == EOPNOTSUPP ||
           error == ENOSYS || error == EPERM;
}

/* One datagram, in the plainest way; a refused ECN mark is left out from then on. 0 or errno. */
static int send_plain(struct ph_udp *udp, struct outgoing *out, uint8_t ecn, const uint8_t *data,
                      size_t n, struct ph_stats *stats)
{
    int error = send_one(udp, out, data, n, 0, stats);
    if ((error != EINVAL && error != ENOPROTOOPT) || ecn == 0 || udp->no_ecn)
        return error;
    struct outgoing unmarked;
    outgoing_init(&unmarked, udp, out->path, 0);
    if (send_one(udp, &unmarked, data, n, 0, stats) != 0)
        return error;
    udp->no_ecn = true;
    *out = unmarked;
    return 0;
}

static void note_error(struct ph_udp *udp, const struct ph_path *path, int error)
{
    char text[64];
    if (udp->said_send_error)
        return;
    udp->said_send_error = true;
    ph_log(PH_LOG_INFO, "udp: send failed remote=%s error=\"%s\"; later ones are not logged",
           ph_addr_text(&path->remote, text, sizeof(text)), strerror(error));
}

static const char *mode_name(enum send_mode mode)
{
    switch (mode) {
    case SEND_GSO:
        return "UDP_SEGMENT";
    case SEND_MMSG:
        return "sendmmsg";
    case SEND_PLAIN:
        return "sendmsg";
    }
    return "";
}

/* Bytes of the next call: as many whole datagrams as it may carry. */
static size_t chunk_of(enum send_mode mode, size_t n, size_t segment)
{
    size_t most = 1;
    if (mode == SEND_GSO && segment <= PH_UDP_GSO_BYTES)
        most = PH_MIN((size_t)PH_UDP_BATCH, PH_UDP_GSO_BYTES / segment);
    else if (mode == SEND_MMSG)
        most = PH_UDP_BATCH;
    return n / segment < most ? n : most * segment;
}

/* Sends the next datagrams of a run in the socket's mode, and if that is refused, the first of them
 * plainly. Returns the bytes that left; 0 with `*error` set. */
static size_t send_chunk(struct ph_udp *udp, struct outgoing *out, uint8_t ecn, const uint8_t *data,
                         size_t n, size_t segment, struct ph_stats *stats, int *error)
{
    enum send_mode mode = n > segment ? udp->mode : SEND_PLAIN;
    size_t chunk = chunk_of(mode, n, segment);
    *error = 0;
    if (mode == SEND_GSO && chunk > segment) {
        *error = send_one(udp, out, data, chunk, segment, stats);
        if (*error == 0)
            return chunk;
    } else if (mode == SEND_MMSG) {
        size_t sent = send_many(udp, out, data, chunk, segment, stats, error);
        if (*error == 0)
            return sent;
    }
    if (*error != 0 && !is_refusal(*error))
        return 0;
    /* The means was refused, or (older kernels say EINVAL for segments above the MTU) the datagram:
     * the same datagram alone tells. */
    bool was_refused = *error != 0;
    bool had_no_ecn = udp->no_ecn;
    size_t first = PH_MIN(segment, n);
    *error = send_plain(udp, out, ecn, data, first, stats);
    if (*error != 0)
        return 0;
    if (was_refused && udp->no_ecn == had_no_ecn) { /* otherwise it was the mark */
        udp->mode = mode == SEND_GSO ? SEND_MMSG : SEND_PLAIN;
        ph_log(PH_LOG_INFO, "udp: %s refused, sending by %s", mode_name(mode),
               mode_name(udp->mode));
    }
    return first;
}

ssize_t ph_udp_send(struct ph_udp *udp, const struct ph_path *path, uint8_t ecn,
                    const uint8_t *data, size_t n, size_t segment, struct ph_stats *stats)
{
    struct outgoing out;
    size_t done = 0;
    PH_ASSERT(segment > 0);
    outgoing_init(&out, udp, path, ecn);
    while (done < n) {
        int error;
        size_t left = n - done;
        size_t sent = send_chunk(udp, &out, ecn, data + done, left, segment, stats, &error);
        if (error != 0) {
            if (is_full(error))
                break;
            if (error == EMSGSIZE)
                return done > 0 ? (ssize_t)done : PH_E_TOOBIG;
            note_error(udp, path, error);
            sent = chunk_of(udp->mode, left, segment); /* lost, as on the network */
        } else {
            ph_count_add(stats, packets_out, (sent + segment - 1) / segment);
        }
        done += sent;
    }
    return (ssize_t)done;
}
