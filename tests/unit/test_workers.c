/* test_workers.c - two servers on one UDP port, as two workers have it: packets reach the one that
 * has their connection, and only that one says that there is none. */
#include "../../src/io/io.h"
#include "world.h"

#include <poll.h>
#include <unistd.h>

enum { FIRST = 0x0100, SECOND = 0x0101 }; /* slots 0 and 1 */
static const char secret[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

struct pair {
    struct world door; /* never started: has the first socket, and opened the second */
    struct world one, two;
    bool steered;
};

static void make(struct world *world, int fd, int worker)
{
    char bind[32], number[16];
    snprintf(bind, sizeof(bind), "fd://%d", fd);
    snprintf(number, sizeof(number), "%d", worker);
    world_make(world,
               (const char *[]){"quic_bind", bind, "worker", number, "secret", secret, NULL});
}

static void join(struct world *world, int rx, int worker, int tx)
{
    CHECK_INT(ph_server_mesh(world->server, rx), ==, 0);
    ph_server_peer(world->server, (uint16_t)worker, tx);
    CHECK_INT(ph_server_start(world->server), ==, 0);
}

static void pair_init(struct pair *pair, bool steer)
{
    char err[512] = "";
    int to_one[2], to_two[2];
    world_make(&pair->door, (const char *[]){"quic_bind", "127.0.0.1:0", NULL});
    int second = ph_server_open_sibling(pair->door.server, 0, err, sizeof(err));
    CHECK_INT(second, >=, 0);
    make(&pair->one, ph_server_socket(pair->door.server, 0), FIRST);
    make(&pair->two, second, SECOND);
    pair->steered = steer && ph_server_steer(pair->door.server, 2, 2) == 0;
    CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, to_one), ==, 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, to_two), ==, 0);
    join(&pair->one, to_one[0], SECOND, to_two[1]);
    join(&pair->two, to_two[0], FIRST, to_one[1]);
    close(second);
}

static void pair_fini(struct pair *pair)
{
    world_stop(&pair->one);
    world_stop(&pair->two);
    world_stop(&pair->door);
}

#define PAIR_UNTIL(pair, condition)                                                                \
    do {                                                                                           \
        uint64_t deadline = ph_clock_now() + 20 * PH_SEC;                                          \
        while (!(condition)) {                                                                     \
            if (ph_clock_now() > deadline)                                                         \
                ph_test_fail(__FILE__, __LINE__, "not within 20 s: %s", #condition);               \
            world_step(&(pair)->one);                                                              \
            world_step(&(pair)->two);                                                              \
        }                                                                                          \
    } while (0)

static void ask(struct pair *pair, struct client *client)
{
    struct client_request *request = client_request(client, "GET", "/hello", NULL, 0);
    CHECK(request != NULL);
    PAIR_UNTIL(pair, request->end);
    CHECK_INT(request->status, ==, 200);
}

static uint64_t forwarded(const struct pair *pair)
{
    return world_stats(&pair->one).packets_forwarded + world_stats(&pair->two).packets_forwarded;
}

static uint64_t adopted(const struct pair *pair)
{
    return world_stats(&pair->one).packets_adopted + world_stats(&pair->two).packets_adopted;
}

static void moving(bool steer)
{
    static struct pair pair; /* large */
    struct client client;
    pair_init(&pair, steer);
    world_connect(&pair.one, &client);
    ask(&pair, &client);
    bool was_one = world_stats(&pair.one).requests == 1;
    for (int moves = 1; moves < 64 && (moves < 8 || (!pair.steered && forwarded(&pair) == 0));
         moves++) {
        client_move(&client);
        ask(&pair, &client);
    }
    CHECK_INT(world_stats(was_one ? &pair.two : &pair.one).requests, ==, 0);
    CHECK_INT(world_stats(was_one ? &pair.one : &pair.two).conns_accepted, ==, 1);
    if (pair.steered)
        CHECK_INT(forwarded(&pair), ==, 0);
    else
        CHECK_INT(forwarded(&pair), >, 0);
    CHECK_INT(world_stats(&pair.one).resets_sent + world_stats(&pair.two).resets_sent, ==, 0);
    pair_fini(&pair);
}

TEST(workers, a_client_that_moves_stays_where_it_is_by_steering)
{
    moving(true);
}

TEST(workers, a_client_that_moves_stays_where_it_is_by_forwarding)
{
    moving(false);
}

/* A short header with an id of this worker that leads nowhere, to whichever socket gets it. */
static void stray(struct pair *pair, int fd, int worker)
{
    struct ph_addr addr = world_addr(&pair->door, "quic");
    uint8_t data[100];
    ph_random(data, sizeof(data));
    data[0] = 0x40;
    ph_u16_put(data + 1, (uint16_t)worker);
    CHECK_INT(sendto(fd, data, sizeof(data), 0, &addr.u.sa, addr.len), ==, (ssize_t)sizeof(data));
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    CHECK_INT(poll(&wait, 1, 20000), ==, 1);
    ssize_t n = recv(fd, data, sizeof(data), 0);
    CHECK_INT(n, >, 0);
    CHECK_INT(n, <, (ssize_t)sizeof(data)); /* shorter than what caused it */
}

TEST(workers, A10_only_the_worker_that_an_id_names_sends_resets_for_it)
{
    static struct pair pair;
    pair_init(&pair, false);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < 8; i++) {
        stray(&pair, fd, FIRST);
        CHECK_INT(world_stats(&pair.one).resets_sent, ==, (uint64_t)i + 1);
    }
    CHECK_INT(world_stats(&pair.two).resets_sent, ==, 0);
    for (int i = 0; i < 8; i++)
        stray(&pair, fd, SECOND);
    CHECK_INT(world_stats(&pair.one).resets_sent, ==, 8);
    CHECK_INT(world_stats(&pair.two).resets_sent, ==, 8);
    uint64_t before = adopted(&pair); /* counted before the answer leaves */
    for (int i = 0; i < 8; i++)
        stray(&pair, fd, 0x7700); /* nobody's: whoever got it may answer */
    CHECK_INT(adopted(&pair), ==, before);
    CHECK_INT(world_stats(&pair.one).resets_sent + world_stats(&pair.two).resets_sent, ==, 24);
    close(fd);
    pair_fini(&pair);
}

TEST(workers, one_that_was_handed_over_gets_its_packets_from_its_successor)
{
    static struct pair pair; /* `two` is the successor: the same socket */
    int to_one[2], to_two[2];
    world_make(&pair.door, (const char *[]){"quic_bind", "127.0.0.1:0", NULL});
    make(&pair.one, ph_server_socket(pair.door.server, 0), FIRST);
    make(&pair.two, ph_server_socket(pair.door.server, 0), FIRST + 0x100);
    CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, to_one), ==, 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, to_two), ==, 0);
    join(&pair.one, to_one[0], FIRST + 0x100, to_two[1]);
    join(&pair.two, to_two[0], FIRST, to_one[1]);
    struct client client;
    do { /* until one has a connection */
        world_connect(&pair.one, &client);
        ask(&pair, &client);
        if (world_stats(&pair.one).requests == 0)
            world_drop(&pair.one, &client);
    } while (world_stats(&pair.one).requests == 0);
    ph_server_hand_over(pair.one.server);
    uint64_t before;
    do { /* what it still reads itself does not count */
        before = adopted(&pair);
        ask(&pair, &client);
    } while (adopted(&pair) == before);
    for (int i = 0; i < 4; i++) {
        uint64_t received = world_stats(&pair.one).packets_in;
        client_move(&client);
        ask(&pair, &client);
        CHECK_INT(world_stats(&pair.one).packets_in, ==, received);
    }
    CHECK_INT(world_stats(&pair.one).resets_sent + world_stats(&pair.two).resets_sent, ==, 0);
    pair_fini(&pair);
}

TEST(workers, sockets_are_shared_before_the_start_only)
{
    struct world world;
    char err[512] = "";
    int pair[2];
    world_make(&world,
               (const char *[]){"quic_bind", "127.0.0.1:0", "insecure_bind", "127.0.0.1:0", NULL});
    CHECK_INT(ph_server_socket(world.server, 0), >=, 0); /* TCP comes first */
    CHECK_INT(ph_server_socket(world.server, 1), >=, 0);
    CHECK_INT(ph_server_socket(world.server, 2), ==, PH_E_NOTFOUND);
    CHECK_INT(ph_server_open_sibling(world.server, 0, err, sizeof(err)), ==, PH_E_NOTFOUND);
    CHECK_INT(ph_server_open_sibling(world.server, 2, err, sizeof(err)), ==, PH_E_NOTFOUND);
    CHECK_INT(ph_server_steer(world.server, 1, 0), ==, PH_E_INVAL);
    CHECK_INT(ph_server_steer(world.server, 1, 2), ==, PH_E_INVAL);
    CHECK_INT(ph_server_steer(world.server, 257, 1), ==, PH_E_INVAL);
    CHECK_INT(ph_server_start(world.server), ==, 0);
    CHECK_INT(ph_server_socket(world.server, 0), ==, PH_E_STATE);
    CHECK_INT(ph_server_open_sibling(world.server, 1, err, sizeof(err)), ==, PH_E_STATE);
    CHECK_INT(ph_server_steer(world.server, 1, 1), ==, PH_E_STATE);
    CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    CHECK_INT(ph_server_mesh(world.server, pair[0]), ==, PH_E_STATE); /* taken all the same */
    ph_server_peer(world.server, 1, pair[1]);
    world_stop(&world);
}

TEST(workers, I18_a_connection_is_taken_once_the_application_shows_that_it_goes_on)
{
    static struct world world;
    world_start(&world, (const char *[]){"insecure_bind", "127.0.0.1:0", "processes", "2", NULL});
    for (uint64_t i = 0; i < 3; i++) {
        world_tcp(&world, "tcp", "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        struct pollfd wait = {.fd = ph_server_fd(world.server), .events = POLLIN};
        CHECK_INT(poll(&wait, 1, 20000), ==, 1); /* the question; nobody answers it yet */
        CHECK_INT(world_stats(&world).conns_accepted, ==, i);
        WORLD_UNTIL(&world, world.tcp_eof);
        CHECK(strstr(world.text, "200") != NULL);
        CHECK_INT(world_stats(&world).conns_accepted, ==, i + 1);
    }
    world_stop(&world);
}
