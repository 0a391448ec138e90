/*
 * mesh.c - packets that reached the wrong process: handing them to the right one.
 *
 * Several workers share the UDP ports. A packet belongs to one of them by its connection id; when
 * the kernel gave it to another one (it cannot steer, or a process that is on its way out shares
 * its socket with its successor), that one passes it on, with the addresses it came by and its ECN
 * mark, over a pair of Unix datagram sockets: every worker reads one end of its own, and has the
 * other ends of all others. The two processes may be of different versions of this library: what is
 * not of this form is dropped. What a full socket does not take is lost, as on the network.
 */
#include "io.h"

#include <errno.h>
#include <unistd.h>

/* Bytes of a datagram with its head: no UDP payload is larger than this. */
#define MESH_SLAB 65600

struct mesh_head {
    uint8_t magic[4]; /* of this form */
    uint16_t socket;
    uint8_t ecn, family; /* 4, 6 */
    uint16_t port[2];    /* local, remote; as the kernel has them */
    uint32_t scope[2];
    uint8_t addr[2][16];
};
_Static_assert(sizeof(struct mesh_head) == 52, "no padding: it is compared by bytes in tests");
static const uint8_t magic[4] = {'P', 'H', 'M', 1};

struct peer {
    uint16_t worker;
    int fd;
};

struct ph_mesh {
    int fd;
    struct peer *peers;
    size_t peers_n;
    uint8_t *slab;
};

struct ph_mesh *ph_mesh_new(int fd)
{
    struct ph_mesh *mesh = ph_alloc(sizeof(*mesh));
    mesh->fd = fd;
    mesh->slab = ph_alloc(MESH_SLAB);
    return mesh;
}

void ph_mesh_free(struct ph_mesh *mesh)
{
    if (mesh == NULL)
        return;
    for (size_t i = 0; i < mesh->peers_n; i++)
        close(mesh->peers[i].fd);
    close(mesh->fd);
    ph_free(mesh->peers);
    ph_free(mesh->slab);
    ph_free(mesh);
}

int ph_mesh_fd(const struct ph_mesh *mesh)
{
    return mesh->fd;
}

static struct peer *find(const struct ph_mesh *mesh, uint16_t worker)
{
    for (size_t i = 0; i < mesh->peers_n; i++) {
        if (mesh->peers[i].worker == worker)
            return &mesh->peers[i];
    }
    return NULL;
}

void ph_mesh_peer(struct ph_mesh *mesh, uint16_t worker, int fd)
{
    struct peer *peer = find(mesh, worker);
    if (peer != NULL) {
        close(peer->fd);
        *peer = mesh->peers[--mesh->peers_n];
    }
    if (fd < 0)
        return;
    mesh->peers = ph_realloc(mesh->peers, (mesh->peers_n + 1) * sizeof(*mesh->peers));
    mesh->peers[mesh->peers_n++] = (struct peer){.worker = worker, .fd = fd};
}

/* --- The form --- */

static bool addr_put(struct mesh_head *head, int which, const struct ph_addr *addr)
{
    if (addr->len != 0 && addr->u.sa.sa_family == AF_INET) {
        head->family = 4;
        head->port[which] = addr->u.in.sin_port;
        memcpy(head->addr[which], &addr->u.in.sin_addr, sizeof(addr->u.in.sin_addr));
        return true;
    }
    if (addr->len == 0 || addr->u.sa.sa_family != AF_INET6)
        return false;
    head->family = 6;
    head->port[which] = addr->u.in6.sin6_port;
    head->scope[which] = addr->u.in6.sin6_scope_id;
    memcpy(head->addr[which], &addr->u.in6.sin6_addr, sizeof(addr->u.in6.sin6_addr));
    return true;
}

static void addr_get(struct ph_addr *addr, const struct mesh_head *head, int which)
{
    *addr = (struct ph_addr){.len = 0};
    if (head->family == 4) {
        addr->u.in.sin_family = AF_INET;
        addr->u.in.sin_port = head->port[which];
        memcpy(&addr->u.in.sin_addr, head->addr[which], sizeof(addr->u.in.sin_addr));
        addr->len = sizeof(addr->u.in);
    } else {
        addr->u.in6.sin6_family = AF_INET6;
        addr->u.in6.sin6_port = head->port[which];
        addr->u.in6.sin6_scope_id = head->scope[which];
        memcpy(&addr->u.in6.sin6_addr, head->addr[which], sizeof(addr->u.in6.sin6_addr));
        addr->len = sizeof(addr->u.in6);
    }
}

bool ph_mesh_decode(struct ph_mesh_packet *packet, const uint8_t *data, size_t n)
{
    struct mesh_head head;
    if (n <= sizeof(head))
        return false;
    memcpy(&head, data, sizeof(head));
    if (memcmp(head.magic, magic, sizeof(magic)) != 0 || head.ecn > 3 ||
        (head.family != 4 && head.family != 6))
        return false;
    *packet = (struct ph_mesh_packet){
        .socket = head.socket,
        .ecn = head.ecn,
        .data = data + sizeof(head),
        .n = n - sizeof(head),
    };
    addr_get(&packet->local, &head, 0);
    addr_get(&packet->remote, &head, 1);
    return true;
}

/* --- Passing on --- */

int ph_mesh_send(struct ph_mesh *mesh, uint16_t worker, const struct ph_mesh_packet *packet)
{
    struct peer *peer = find(mesh, worker);
    struct mesh_head head = {.socket = packet->socket, .ecn = packet->ecn};
    if (peer == NULL)
        return PH_E_NOTFOUND;
    memcpy(head.magic, magic, sizeof(magic));
    if (!addr_put(&head, 0, &packet->local) || !addr_put(&head, 1, &packet->remote))
        return PH_E_INVAL;
    struct iovec iov[2] = {
        {.iov_base = &head, .iov_len = sizeof(head)},
        {.iov_base = (void *)(uintptr_t)packet->data, .iov_len = packet->n},
    };
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    ssize_t n;
    do {
        n = sendmsg(peer->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 0;
    if (errno != ECONNREFUSED && errno != ECONNRESET && errno != EPIPE)
        return PH_E_AGAIN;
    ph_mesh_peer(mesh, worker, -1); /* its process is gone: nobody has told us yet */
    return PH_E_NOTFOUND;
}

int ph_mesh_recv(struct ph_mesh *mesh, int budget, ph_mesh_packet_fn fn, void *self)
{
    int count = 0;
    while (count < budget) {
        struct ph_mesh_packet packet;
        ssize_t n = recv(mesh->fd, mesh->slab, MESH_SLAB, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        count++;
        if (ph_mesh_decode(&packet, mesh->slab, (size_t)n))
            fn(self, &packet);
    }
    return count;
}
