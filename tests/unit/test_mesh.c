/* test_mesh.c - packets for other processes (src/io/mesh.c), and which of several sockets the
 * kernel gives a datagram to (src/io/steer.c). */
#include "../../src/core/core.h"
#include "../../src/quic/quic.h"
#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

struct caught {
    size_t count;
    struct ph_mesh_packet packet; /* the last */
    uint8_t data[2048];
};

static void catch (void *self, const struct ph_mesh_packet *packet)
{
    struct caught *caught = self;
    caught->count++;
    caught->packet = *packet;
    memcpy(caught->data, packet->data, PH_MIN(packet->n, sizeof(caught->data)));
}

struct two {
    struct ph_mesh *to, *from;
    struct caught caught;
};

/* `from` reaches `to` as worker 0x0102. */
static void two_init(struct two *two)
{
    int there[2], back[2];
    memset(two, 0, sizeof(*two));
    CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, there), ==, 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, back), ==, 0);
    two->to = ph_mesh_new(there[0]);
    two->from = ph_mesh_new(back[0]);
    close(back[1]);
    ph_mesh_peer(two->from, 0x0102, there[1]);
}

static void two_fini(struct two *two)
{
    ph_mesh_free(two->to);
    ph_mesh_free(two->from);
}

static struct ph_mesh_packet packet_of(const char *host, const uint8_t *data, size_t n)
{
    struct ph_mesh_packet packet = {.socket = 3, .ecn = 2, .data = data, .n = n};
    CHECK_INT(ph_addr_parse(&packet.local, host, 4433), ==, 0);
    CHECK_INT(ph_addr_parse(&packet.remote, host, 50000), ==, 0);
    return packet;
}

TEST(mesh, a_packet_arrives_with_its_path_and_mark)
{
    static const char *const hosts[] = {"127.0.0.1", "::1", "fe80::1%7"};
    struct two two;
    uint8_t data[1500];
    ph_random(data, sizeof(data));
    two_init(&two);
    for (size_t i = 0; i < PH_COUNT_OF(hosts); i++) {
        struct ph_mesh_packet packet = packet_of(hosts[i], data, sizeof(data));
        CHECK_INT(ph_mesh_send(two.from, 0x0102, &packet), ==, 0);
        CHECK_INT(ph_mesh_recv(two.to, 8, catch, &two.caught), ==, 1);
        CHECK_INT(two.caught.count, ==, i + 1);
        CHECK(ph_addr_equal(&two.caught.packet.local, &packet.local));
        CHECK(ph_addr_equal(&two.caught.packet.remote, &packet.remote));
        CHECK_INT(two.caught.packet.socket, ==, 3);
        CHECK_INT(two.caught.packet.ecn, ==, 2);
        CHECK_INT(two.caught.packet.n, ==, sizeof(data));
        CHECK(memcmp(two.caught.data, data, sizeof(data)) == 0);
    }
    two_fini(&two);
}

TEST(mesh, who_is_not_there_is_not_found)
{
    struct two two;
    struct ph_mesh_packet packet = packet_of("127.0.0.1", (const uint8_t *)"x", 1);
    two_init(&two);
    CHECK_INT(ph_mesh_send(two.from, 0x0103, &packet), ==, PH_E_NOTFOUND);
    ph_mesh_peer(two.from, 0x0102, -1);
    CHECK_INT(ph_mesh_send(two.from, 0x0102, &packet), ==, PH_E_NOTFOUND);
    two_fini(&two);
}

TEST(mesh, who_died_is_not_found_before_anybody_said_so)
{
    struct two two;
    struct ph_mesh_packet packet = packet_of("127.0.0.1", (const uint8_t *)"x", 1);
    two_init(&two);
    ph_mesh_free(two.to);
    two.to = NULL;
    CHECK_INT(ph_mesh_send(two.from, 0x0102, &packet), ==, PH_E_NOTFOUND);
    two_fini(&two);
}

TEST(mesh, what_a_full_socket_does_not_take_is_lost)
{
    struct two two;
    uint8_t data[1500] = {0};
    struct ph_mesh_packet packet = packet_of("127.0.0.1", data, sizeof(data));
    size_t sent = 0;
    int rc = 0;
    two_init(&two);
    while (sent < 100000 && (rc = ph_mesh_send(two.from, 0x0102, &packet)) == 0)
        sent++;
    CHECK_INT(rc, ==, PH_E_AGAIN);
    while (ph_mesh_recv(two.to, 64, catch, &two.caught) > 0)
        ;
    CHECK_INT(two.caught.count, ==, sent);
    CHECK_INT(ph_mesh_send(two.from, 0x0102, &packet), ==, 0);
    two_fini(&two);
}

TEST(mesh, what_is_not_of_this_form_is_dropped)
{
    int pair[2];
    struct caught caught = {0};
    uint8_t data[64] = {'P', 'H', 'M', 1};
    CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    struct ph_mesh *mesh = ph_mesh_new(pair[0]);
    struct ph_mesh_packet packet;
    data[7] = 4; /* family */
    CHECK(ph_mesh_decode(&packet, data, sizeof(data)));
    for (size_t n = 0; n <= 52; n++) /* no payload, and less */
        CHECK(!ph_mesh_decode(&packet, data, n));
    data[7] = 5;
    CHECK(!ph_mesh_decode(&packet, data, sizeof(data)));
    data[7] = 4;
    data[6] = 4; /* ecn */
    CHECK(!ph_mesh_decode(&packet, data, sizeof(data)));
    data[6] = 0;
    data[3] = 2; /* of another version of the library */
    CHECK_INT(send(pair[1], data, sizeof(data), 0), ==, (ssize_t)sizeof(data));
    CHECK_INT(send(pair[1], data, 0, 0), ==, 0);
    CHECK_INT(ph_mesh_recv(mesh, 8, catch, &caught), ==, 2);
    CHECK_INT(caught.count, ==, 0);
    close(pair[1]);
    ph_mesh_free(mesh);
}

/* --- Steering --- */

enum { SOCKETS = 4, SPREAD = 3 };

struct group {
    struct ph_udp *first;
    struct ph_addr addr;
    int fds[SOCKETS];
    int client;
};

static bool group_init(struct group *group)
{
    struct ph_err err = {""};
    struct ph_udp_options options = {.buffer_bytes = 65536};
    memset(group, 0, sizeof(*group));
    CHECK_INT(ph_addr_parse(&group->addr, "127.0.0.1", 0), ==, 0);
    CHECK_INT(ph_udp_open(&group->first, &group->addr, &options, &err), ==, 0);
    group->fds[0] = ph_udp_fd(group->first);
    for (int i = 1; i < SOCKETS; i++) {
        group->fds[i] = ph_udp_sibling(group->first, &group->addr, &err);
        CHECK_INT(group->fds[i], >=, 0);
    }
    const struct ph_udp_steering by = ph_mesh_front_steering(SOCKETS, SPREAD);
    return ph_udp_steer(group->first, &by) == 0;
}

static void group_fini(struct group *group)
{
    for (int i = 1; i < SOCKETS; i++)
        close(group->fds[i]);
    ph_udp_close(group->first);
}

/* Sends from a new port; the number of the socket that got it. */
static int arrives_at(struct group *group, const uint8_t *data, size_t n)
{
    int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_INT(sendto(client, data, n, 0, &group->addr.u.sa, group->addr.len), ==, (ssize_t)n);
    close(client);
    struct pollfd wait[SOCKETS];
    for (int i = 0; i < SOCKETS; i++)
        wait[i] = (struct pollfd){.fd = group->fds[i], .events = POLLIN};
    CHECK_INT(poll(wait, SOCKETS, 10000), ==, 1);
    for (int i = 0; i < SOCKETS; i++) {
        uint8_t got[2048];
        if (wait[i].revents != 0) {
            CHECK_INT(recv(group->fds[i], got, sizeof(got), 0), ==, (ssize_t)n);
            return i;
        }
    }
    return -1;
}

TEST(steer, packets_go_to_the_socket_that_their_id_names)
{
    struct group group;
    uint8_t data[64];
    if (!group_init(&group)) { /* a kernel without it: workers pass packets on */
        group_fini(&group);
        return;
    }
    for (int round = 0; round < 32; round++) {
        int slot = round % SOCKETS;
        ph_random(data, sizeof(data));
        data[0] &= 0x7f; /* short header */
        data[2] = (uint8_t)slot;
        CHECK_INT(arrives_at(&group, data, sizeof(data)), ==, slot);
        data[0] |= 0x80; /* long header, an id of our length */
        data[5] = PH_QUIC_CID_LEN;
        data[7] = (uint8_t)slot;
        CHECK_INT(arrives_at(&group, data, sizeof(data)), ==, slot);
    }
    group_fini(&group);
}

TEST(steer, first_packets_are_spread_by_the_clients_id_over_those_that_take_new_ones)
{
    struct group group;
    uint8_t data[64];
    size_t counts[SOCKETS] = {0};
    if (!group_init(&group)) {
        group_fini(&group);
        return;
    }
    for (int round = 0; round < 64; round++) {
        ph_random(data, sizeof(data));
        data[0] |= 0x80;
        data[5] = round % 2 == 0 ? 8 : PH_QUIC_CID_LEN;
        data[7] = 0xff; /* names no socket */
        int first = arrives_at(&group, data, sizeof(data));
        counts[first]++;
        CHECK_INT(arrives_at(&group, data, sizeof(data)), ==, first); /* from another port */
    }
    CHECK(counts[0] > 0 && counts[1] > 0 && counts[2] > 0);
    CHECK_INT(counts[3], ==, 0);
    group_fini(&group);
}

TEST(steer, a_port_of_somebody_else_is_not_joined)
{
    struct group group;
    struct ph_udp *second = NULL;
    struct ph_err err = {""};
    struct ph_udp_options options = {.buffer_bytes = 65536};
    group_init(&group);
    CHECK_INT(ph_udp_open(&second, &group.addr, &options, &err), ==, PH_E_IO);
    group_fini(&group);
}
