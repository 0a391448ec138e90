/*
 * mesh_front.c - several workers on the same UDP ports: packets for and from the others.
 *
 *      socket -> endpoint: not mine -> mesh -> the worker that its connection id names
 *      mesh -> endpoint, as if it had come by the socket of the same address
 *
 * Each worker reads a socket of its own in the group of a port (io/steer.c). A worker that was
 * replaced shares its socket with its successor: it hands reading over, sends on, and gets its
 * packets from there. A packet is passed on once: the worker that is named answers it, whatever it
 * is.
 *
 * The public functions that open and number those sockets are here as well.
 */
#include "../quic/quic.h"
#include "core.h"

#include <unistd.h>

/* Packets taken from the mesh in one turn: the sockets have their turn too. */
#define MESH_BUDGET 256

static void on_mesh(struct ph_watch *watch, unsigned ready)
{
    (void)ready;
    PH_CONTAINER(watch, struct ph_server, mesh_watch)->mesh_ready = true;
}

void ph_mesh_front_start(struct ph_server *server)
{
    if (server->mesh == NULL)
        return;
    server->mesh_watch = (struct ph_watch){.fd = ph_mesh_fd(server->mesh), .on_ready = on_mesh};
    ph_loop_watch(server->loop, &server->mesh_watch, PH_IO_READ);
}

void ph_mesh_front_stop(struct ph_server *server)
{
    if (server->mesh == NULL)
        return;
    ph_loop_unwatch(server->loop, &server->mesh_watch);
    ph_mesh_free(server->mesh);
    server->mesh = NULL;
}

static void on_packet(void *self, const struct ph_mesh_packet *packet)
{
    struct ph_server *server = self;
    if (server->quic == NULL || packet->socket >= server->udp_n) {
        ph_count(&server->stats, packets_dropped);
        return;
    }
    ph_count(&server->stats, packets_adopted);
    struct ph_path path = {
        .local = packet->local, .remote = packet->remote, .sock = server->udp[packet->socket].udp};
    ph_quic_endpoint_feed_adopted(server->quic, &path, packet->ecn, packet->data, packet->n,
                                  server->now);
}

void ph_mesh_front_in(struct ph_server *server)
{
    if (!server->mesh_ready)
        return;
    server->mesh_ready = false;
    ph_mesh_recv(server->mesh, MESH_BUDGET, on_packet, server);
}

bool ph_mesh_front_forward(void *self, uint16_t worker, const struct ph_path *path, uint8_t ecn,
                           const uint8_t *data, size_t n)
{
    struct ph_server *server = self;
    struct ph_mesh_packet packet = {
        .local = path->local, .remote = path->remote, .ecn = ecn, .data = data, .n = n};
    if (server->mesh == NULL)
        return false;
    for (size_t i = 0; i < server->udp_n; i++) {
        if (server->udp[i].udp == path->sock)
            packet.socket = (uint16_t)i;
    }
    int rc = ph_mesh_send(server->mesh, worker, &packet);
    if (rc == 0)
        ph_count(&server->stats, packets_forwarded);
    else if (rc != PH_E_NOTFOUND)
        ph_count(&server->stats, packets_dropped);
    return rc != PH_E_NOTFOUND;
}

void ph_mesh_front_peer(struct ph_server *server, uint16_t worker, int fd)
{
    if (server->mesh != NULL)
        ph_mesh_peer(server->mesh, worker, fd);
    else if (fd >= 0)
        close(fd);
}

/* --- Public functions: consumer thread, most before the start --- */

int ph_server_open_sibling(const ph_server *server, size_t index, char *err, size_t err_len)
{
    struct ph_err why = {""};
    if (server->is_started)
        return PH_E_STATE;
    if (index < server->tcp_n || index - server->tcp_n >= server->udp_n)
        return PH_E_NOTFOUND;
    const struct ph_udp_socket *sock = &server->udp[index - server->tcp_n];
    int fd = ph_udp_sibling(sock->udp, &sock->addr, &why);
    if (fd < 0)
        snprintf(err, err_len, "quic_bind: %s", why.text);
    return fd;
}

struct ph_udp_steering ph_mesh_front_steering(unsigned sockets, unsigned spread)
{
    return (struct ph_udp_steering){
        .long_bit = PH_QUIC_LONG_BIT,
        .short_slot = PH_QUIC_AT_SHORT_CID + PH_QUIC_AT_SLOT,
        .long_length = PH_QUIC_AT_LONG_CID_LEN,
        .id_length = PH_QUIC_CID_LEN,
        .long_id = PH_QUIC_AT_LONG_CID,
        .long_slot = PH_QUIC_AT_LONG_CID + PH_QUIC_AT_SLOT,
        .sockets = sockets,
        .spread = spread,
    };
}

int ph_server_steer(const ph_server *server, unsigned sockets, unsigned spread)
{
    const struct ph_udp_steering by = ph_mesh_front_steering(sockets, spread);
    if (server->is_started)
        return PH_E_STATE;
    if (spread == 0 || spread > sockets || sockets > PH_QUIC_SLOT(UINT16_MAX) + 1)
        return PH_E_INVAL;
    int rc = 0;
    for (size_t i = 0; i < server->udp_n && rc == 0 && server->config->steering != 0; i++)
        rc = ph_udp_steer(server->udp[i].udp, &by);
    return rc;
}

int ph_server_mesh(ph_server *server, int fd)
{
    if (server->is_started || server->mesh != NULL) {
        close(fd);
        return PH_E_STATE;
    }
    server->mesh = ph_mesh_new(fd);
    return 0;
}

static void command(ph_server *server, const struct ph_msg *msg)
{
    ph_pipe_push_down(&server->pipe, msg);
    ph_pipe_flush(&server->pipe);
}

void ph_server_peer(ph_server *server, uint16_t worker, int fd)
{
    struct ph_msg msg = {
        .kind = PH_DOWN_SERVER_PEER, .a = worker, .b = fd < 0 ? UINT64_MAX : (uint64_t)fd};
    command(server, &msg);
}

void ph_server_hand_over(ph_server *server)
{
    struct ph_msg msg = {.kind = PH_DOWN_SERVER_HAND_OVER};
    command(server, &msg);
}
