/*
 * steer.c - several UDP sockets on one port, and which of them the kernel gives a datagram to.
 *
 * Without more, the kernel picks a socket of such a group by the addresses of the datagram: when a
 * client's address changes, its packets reach another process. A classic BPF program on the payload
 * picks by what does not change. It needs no privilege; where the kernel refuses it, or answers a
 * number that no socket has, the addresses decide as before.
 *
 * The number of a socket in its group is the order in which it was bound. It moves when an earlier
 * one is closed: so whoever counts on it keeps all of them open.
 */
#include "io.h"

#include <errno.h>
#include <linux/filter.h>
#include <unistd.h>

#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif

static int sibling_fail(int fd, const struct ph_addr *addr, struct ph_err *err)
{
    int code = errno;
    char text[64];
    if (fd >= 0)
        close(fd);
    return ph_fail(err, PH_E_IO, "cannot open another socket on udp %s: %s",
                   ph_addr_text(addr, text, sizeof(text)), strerror(code));
}

int ph_udp_sibling(const struct ph_udp *first, const struct ph_addr *addr, struct ph_err *err)
{
    int on = 1, family = addr->u.sa.sa_family;
    /* Only now: the first one was bound alone, so nobody else's socket is in the group. */
    if (setsockopt(ph_udp_fd(first), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0)
        return sibling_fail(-1, addr, err);
    int only = 1;
    socklen_t len = sizeof(only);
    if (family == AF_INET6 &&
        getsockopt(ph_udp_fd(first), IPPROTO_IPV6, IPV6_V6ONLY, &only, &len) != 0)
        return sibling_fail(-1, addr, err);
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        (family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)) != 0) ||
        bind(fd, &addr->u.sa, addr->len) != 0)
        return sibling_fail(fd, addr, err);
    return fd;
}

int ph_udp_steer(const struct ph_udp *udp, const struct ph_udp_steering *by)
{
    /* A long header names the length of its id, a short one has ours. Of an id of our length, a
     * byte is the number of its socket; of others, which clients choose for their first packets,
     * any four bytes are as good as a hash. */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, by->long_bit, 2, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, by->short_slot),
        BPF_JUMP(BPF_JMP | BPF_JA, 3, 0, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, by->long_length),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, by->id_length, 0, 3),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, by->long_slot),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, by->sockets, 1, 0),
        BPF_STMT(BPF_RET | BPF_A, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, by->long_id),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, by->spread),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_fprog program = {.len = PH_COUNT_OF(code), .filter = code};
    PH_ASSERT(by->spread > 0 && by->spread <= by->sockets);
    return setsockopt(ph_udp_fd(udp), SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program,
                      sizeof(program)) == 0
               ? 0
               : PH_E_IO;
}
