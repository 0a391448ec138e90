/*
 * fuzz_mesh.c - a datagram from another process: whatever it is, what is read of it lies within it,
 * has addresses that can be shown, and is the same when it is passed on again.
 */
#include "../../src/io/io.h"

#include <stdlib.h>
#include <unistd.h>

static void same(void *self, const struct ph_mesh_packet *packet)
{
    const struct ph_mesh_packet *first = self;
    if (!ph_addr_equal(&packet->local, &first->local) ||
        !ph_addr_equal(&packet->remote, &first->remote) || packet->socket != first->socket ||
        packet->ecn != first->ecn || packet->n != first->n ||
        memcmp(packet->data, first->data, first->n) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct ph_mesh_packet packet;
    char text[64];
    int pair[2];
    if (!ph_mesh_decode(&packet, data, n))
        return 0;
    if (packet.n == 0 || packet.data < data || packet.data + packet.n != data + n ||
        packet.ecn > 3 || *ph_addr_text(&packet.local, text, sizeof(text)) == '\0' ||
        *ph_addr_text(&packet.remote, text, sizeof(text)) == '\0')
        abort();
    if (packet.n > 2048 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) != 0)
        return 0;
    struct ph_mesh *mesh = ph_mesh_new(pair[0]);
    ph_mesh_peer(mesh, 1, pair[1]);
    if (ph_mesh_send(mesh, 1, &packet) != 0 || ph_mesh_recv(mesh, 2, same, &packet) != 1)
        abort();
    ph_mesh_free(mesh);
    return 0;
}
