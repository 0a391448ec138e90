/* test_tcp.c - listening, accepting (also without descriptors), reading and gathered writing. */
#include "test.h"

#include "../../src/io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

static void wait_readable(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    CHECK_INT(poll(&poller, 1, 10000), ==, 1);
}

static int listen_on(const char *host, struct ph_addr *addr)
{
    struct ph_err err = {""};
    CHECK_INT(ph_addr_parse(addr, host, 0), ==, 0);
    int fd = ph_tcp_listen(addr, 16, false, &err);
    if (fd < 0)
        ph_test_fail(__FILE__, __LINE__, "%s", err.text);
    CHECK_INT(ph_addr_port(addr), !=, 0);
    return fd;
}

static int connect_to(const struct ph_addr *addr)
{
    int fd = socket(addr->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(fd, >=, 0);
    CHECK_INT(connect(fd, &addr->u.sa, addr->len), ==, 0);
    return fd;
}

/* A listener, a client (blocking) and the accepted end (nonblocking). */
struct pair {
    int listener, client, server;
    struct ph_tcp_spare spare;
    struct ph_addr addr, remote, local;
};

static void pair_open(struct pair *pair, const char *host)
{
    pair->listener = listen_on(host, &pair->addr);
    pair->client = connect_to(&pair->addr);
    wait_readable(pair->listener);
    ph_tcp_spare_init(&pair->spare);
    pair->server = ph_tcp_accept(pair->listener, &pair->spare, &pair->remote, &pair->local);
    CHECK_INT(pair->server, >=, 0);
}

static void pair_close(struct pair *pair)
{
    ph_tcp_spare_fini(&pair->spare);
    close(pair->listener);
    close(pair->client);
    close(pair->server);
}

static void check_accept(const char *host)
{
    struct pair pair;
    struct ph_addr name = {.len = 0};
    char text[64];
    pair_open(&pair, host);
    name.len = sizeof(name.u);
    CHECK_INT(getsockname(pair.client, &name.u.sa, &name.len), ==, 0);
    CHECK(ph_addr_equal(&pair.remote, &name));
    CHECK(ph_addr_equal(&pair.local, &pair.addr));
    CHECK_STR(ph_addr_host(&pair.local, text, sizeof(text)), host);
    CHECK(fcntl(pair.server, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(pair.server, F_GETFD) & FD_CLOEXEC);
    int value = 0;
    socklen_t len = sizeof(value);
    CHECK_INT(getsockopt(pair.server, IPPROTO_TCP, TCP_NODELAY, &value, &len), ==, 0);
    CHECK(value);
    struct ph_addr ignored;
    CHECK_INT(ph_tcp_accept(pair.listener, &pair.spare, &ignored, &ignored), ==, PH_E_AGAIN);
    pair_close(&pair);
}

TEST(tcp, accept_tells_both_addresses)
{
    check_accept("127.0.0.1");
    check_accept("::1");
}

TEST(tcp, listening_twice_names_the_address)
{
    struct ph_addr addr;
    struct ph_err err = {""};
    char text[64];
    int fd = listen_on("127.0.0.1", &addr);
    CHECK_INT(ph_tcp_listen(&addr, 16, false, &err), ==, PH_E_IO);
    CHECK(strstr(err.text, ph_addr_text(&addr, text, sizeof(text))) != NULL);
    close(fd);
}

TEST(tcp, reuse_port_shares_the_address)
{
    struct ph_addr addr;
    CHECK_INT(ph_addr_parse(&addr, "127.0.0.1", 0), ==, 0);
    int a = ph_tcp_listen(&addr, 16, true, NULL);
    int b = ph_tcp_listen(&addr, 16, true, NULL);
    CHECK_INT(a, >=, 0);
    CHECK_INT(b, >=, 0);
    close(a);
    close(b);
}

TEST(tcp, ipv6_listener_leaves_the_port_to_ipv4)
{
    struct ph_addr six, four;
    CHECK_INT(ph_addr_parse(&six, "::", 0), ==, 0);
    int a = ph_tcp_listen(&six, 16, false, NULL);
    CHECK_INT(a, >=, 0);
    CHECK_INT(ph_addr_parse(&four, "0.0.0.0", ph_addr_port(&six)), ==, 0);
    int b = ph_tcp_listen(&four, 16, false, NULL);
    CHECK_INT(b, >=, 0);
    close(a);
    close(b);
}

TEST(tcp, read_gives_bytes_then_again_then_the_end)
{
    struct pair pair;
    char data[16];
    pair_open(&pair, "127.0.0.1");
    CHECK_INT(ph_tcp_read(pair.server, data, sizeof(data)), ==, PH_E_AGAIN);
    CHECK_INT(write(pair.client, "hello", 5), ==, 5);
    wait_readable(pair.server);
    CHECK_INT(ph_tcp_read(pair.server, data, 3), ==, 3);
    CHECK_INT(ph_tcp_read(pair.server, data + 3, sizeof(data) - 3), ==, 2);
    CHECK_MEM(data, "hello", 5);
    CHECK_INT(shutdown(pair.client, SHUT_WR), ==, 0);
    wait_readable(pair.server);
    CHECK_INT(ph_tcp_read(pair.server, data, sizeof(data)), ==, 0);
    pair_close(&pair);
}

static void reset_by_client(struct pair *pair)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    CHECK_INT(setsockopt(pair->client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), ==, 0);
    close(pair->client);
    wait_readable(pair->server);
    pair->client = dup(pair->server);
}

TEST(tcp, reset_peer_is_closed_for_reading_and_writing)
{
    struct pair pair;
    char data[16];
    struct ph_sliceq q;
    pair_open(&pair, "127.0.0.1");
    reset_by_client(&pair);
    CHECK_INT(ph_tcp_read(pair.server, data, sizeof(data)), ==, PH_E_CLOSED);
    ph_sliceq_init(&q);
    ph_sliceq_push_copy(&q, "x", 1);
    CHECK_INT(ph_tcp_write(pair.server, &q), ==, PH_E_CLOSED); /* and no SIGPIPE */
    CHECK_INT(q.unsent, ==, 1);
    ph_sliceq_fini(&q);
    pair_close(&pair);
}

TEST(tcp, write_gathers_many_slices_into_few_calls)
{
    struct pair pair;
    struct ph_sliceq q;
    char got[400];
    size_t n = 0;
    pair_open(&pair, "::1");
    ph_sliceq_init(&q);
    CHECK_INT(ph_tcp_write(pair.server, &q), ==, 0);
    for (int i = 0; i < 200; i++) /* more than one call's worth of slices */
        ph_sliceq_push(&q, ph_slice_of(ph_buf_copy(i % 2 ? "b" : "a", 1)));
    CHECK_INT(ph_tcp_write(pair.server, &q), ==, 200);
    CHECK_INT(q.bytes, ==, 0);
    CHECK_INT(q.count, ==, 0);
    while (n < 200) {
        ssize_t part = read(pair.client, got + n, sizeof(got) - n);
        CHECK_INT(part, >, 0);
        n += (size_t)part;
    }
    for (size_t i = 0; i < 200; i++)
        CHECK_INT(got[i], ==, i % 2 ? 'b' : 'a');
    ph_sliceq_fini(&q);
    pair_close(&pair);
}

TEST(tcp, full_socket_takes_what_fits_and_loses_nothing)
{
    struct pair pair;
    struct ph_sliceq q;
    static uint8_t block[65536], got[65536];
    size_t total = 160 * sizeof(block), sent = 0, received = 0;
    bool was_full = false;
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (uint8_t)(i * 31 >> 3);
    pair_open(&pair, "127.0.0.1");
    CHECK_INT(fcntl(pair.client, F_SETFL, O_NONBLOCK), ==, 0);
    ph_sliceq_init(&q);
    for (size_t i = 0; i < total / sizeof(block); i++)
        ph_sliceq_push(&q, (struct ph_slice){.p = block, .n = sizeof(block)});
    while (received < total) {
        ssize_t n = ph_tcp_write(pair.server, &q);
        CHECK(n >= 0 || n == PH_E_AGAIN);
        was_full |= n == PH_E_AGAIN;
        sent += n > 0 ? (size_t)n : 0;
        CHECK_INT(q.bytes, ==, total - sent);
        if (n > 0)
            continue; /* fill it before reading */
        wait_readable(pair.client);
        n = read(pair.client, got, sizeof(got));
        CHECK_INT(n, >, 0);
        for (size_t i = 0; i < (size_t)n; i++)
            CHECK_INT(got[i], ==, block[(received + i) % sizeof(block)]);
        received += (size_t)n;
    }
    CHECK(was_full);
    ph_sliceq_fini(&q);
    pair_close(&pair);
}

static int highest_descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK_INT(fd, >=, 0);
    close(fd);
    return fd; /* the lowest free one; all below are taken */
}

TEST(tcp, connection_without_a_descriptor_for_it_is_dropped)
{
    struct ph_addr addr, remote, local;
    struct ph_tcp_spare spare;
    struct rlimit before, tight;
    char byte;
    ph_tcp_spare_init(&spare);
    CHECK_INT(spare.fd, >=, 0);
    int listener = listen_on("127.0.0.1", &addr);
    int first = connect_to(&addr), second = connect_to(&addr);
    wait_readable(listener);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    tight = before;
    tight.rlim_cur = (rlim_t)highest_descriptor();
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &tight), ==, 0);
    int rc = ph_tcp_accept(listener, &spare, &remote, &local);
    int rc2 = ph_tcp_accept(listener, &spare, &remote, &local); /* the spare one was got back */
    int rc3 = ph_tcp_accept(listener, &spare, &remote, &local);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    CHECK_INT(rc, ==, PH_E_IO);
    CHECK_INT(rc2, ==, PH_E_IO);
    CHECK_INT(rc3, !=, PH_OK);
    CHECK_INT(spare.fd, >=, 0);
    struct pollfd poller = {.fd = listener, .events = POLLIN};
    CHECK_INT(poll(&poller, 1, 0), ==, 0); /* nothing to spin on */
    CHECK_INT(read(first, &byte, 1), <=, 0);
    CHECK_INT(read(second, &byte, 1), <=, 0);
    close(first);
    close(second);

    int third = connect_to(&addr); /* and the listener goes on */
    wait_readable(listener);
    int accepted = ph_tcp_accept(listener, &spare, &remote, &local);
    CHECK_INT(accepted, >=, 0);
    close(accepted);
    close(third);
    close(listener);
    ph_tcp_spare_fini(&spare);
    CHECK_INT(spare.fd, ==, -1);
}

TEST(tcp, spare_descriptor_that_was_lost_comes_back_with_the_next_connection)
{
    struct ph_addr addr, remote, local;
    struct ph_tcp_spare spare = {.fd = -1};
    int listener = listen_on("127.0.0.1", &addr);
    int client = connect_to(&addr);
    wait_readable(listener);
    int accepted = ph_tcp_accept(listener, &spare, &remote, &local);
    CHECK_INT(accepted, >=, 0);
    CHECK_INT(spare.fd, >=, 0);
    close(accepted);
    close(client);
    close(listener);
    ph_tcp_spare_fini(&spare);
}
