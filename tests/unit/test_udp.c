/*
 * test_udp.c - UDP over loopback: addresses, ECN, GRO and GSO, and every fall-back.
 *
 * The system calls that send are replaced by ones that fail on request (this program's definitions
 * come before the C library's), so that each refusal of a kernel can be shown.
 */
#include "test.h"

#include "../../src/io/io.h"

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- Faults --- */

static _Thread_local struct {
    int gso_error;    /* sendmsg() with a segment size fails so */
    int plain_error;  /* sendmsg() without one */
    int plain_after;  /* ... after so many good ones */
    int mark_error;   /* any message with a traffic class */
    int mmsg_error;   /* sendmmsg() */
    int mmsg_at_most; /* messages one sendmmsg() takes; 0: all */
    int mmsg_after;   /* sendmmsg() fails after so many good ones */
    bool no_force;    /* SO_*BUFFORCE is not permitted */
    int gso_calls, plain_calls, mmsg_calls;
} fault;

static bool has_cmsg(const struct msghdr *msg, int level, int type)
{
    struct msghdr copy = *msg;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c != NULL; c = CMSG_NXTHDR(&copy, c)) {
        if (c->cmsg_level == level && c->cmsg_type == type)
            return true;
    }
    return false;
}

static int fault_of(const struct msghdr *msg)
{
    bool marked = has_cmsg(msg, IPPROTO_IP, IP_TOS) || has_cmsg(msg, IPPROTO_IPV6, IPV6_TCLASS);
    if (fault.mark_error != 0 && marked)
        return fault.mark_error;
    if (has_cmsg(msg, IPPROTO_UDP, UDP_SEGMENT)) {
        fault.gso_calls++;
        return fault.gso_error;
    }
    fault.plain_calls++;
    return fault.plain_calls > fault.plain_after ? fault.plain_error : 0;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    int error = fault_of(msg);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return syscall(SYS_sendmsg, fd, msg, flags);
}

int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    fault.mmsg_calls++;
    if (fault.mmsg_error != 0 && fault.mmsg_calls > fault.mmsg_after) {
        errno = fault.mmsg_error;
        return -1;
    }
    if (fault.mmsg_at_most != 0)
        n = PH_MIN(n, (unsigned)fault.mmsg_at_most);
    return (int)syscall(SYS_sendmmsg, fd, msgs, n, flags);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    if (fault.no_force && level == SOL_SOCKET &&
        (name == SO_RCVBUFFORCE || name == SO_SNDBUFFORCE)) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

/* --- Two ends --- */

#define GOT_MAX 512

/* What arrived. */
struct got {
    size_t count, bytes;
    size_t n[GOT_MAX];
    uint8_t ecn[GOT_MAX];
    struct ph_path path[GOT_MAX];
    uint8_t data[GOT_MAX * 1500];
};

static struct got got;

static void collect(void *self, const struct ph_udp_packet *packet)
{
    struct got *to = self;
    CHECK_INT(to->count, <, GOT_MAX);
    CHECK_INT(to->bytes + packet->n, <=, sizeof(to->data));
    to->n[to->count] = packet->n;
    to->ecn[to->count] = packet->ecn;
    to->path[to->count++] = packet->path;
    if (packet->n > 0)
        memcpy(to->data + to->bytes, packet->data, packet->n);
    to->bytes += packet->n;
}

static struct ph_udp *open_on(const char *host, struct ph_addr *addr, struct ph_udp_options options)
{
    struct ph_udp *udp = NULL;
    struct ph_err err = {""};
    CHECK_INT(ph_addr_parse(addr, host, 0), ==, 0);
    if (ph_udp_open(&udp, addr, &options, &err) != 0)
        ph_test_fail(__FILE__, __LINE__, "%s", err.text);
    CHECK_INT(ph_addr_port(addr), !=, 0);
    return udp;
}

struct ends {
    struct ph_udp *a, *b;
    struct ph_path path; /* a -> b */
    struct ph_addr addr_a, addr_b;
    struct ph_stats sent, received;
};

static void ends_open(struct ends *ends, const char *host, struct ph_udp_options a,
                      struct ph_udp_options b)
{
    memset(ends, 0, sizeof(*ends));
    memset(&fault, 0, sizeof(fault));
    memset(&got, 0, sizeof(got));
    ends->a = open_on(host, &ends->addr_a, a);
    ends->b = open_on(host, &ends->addr_b, b);
    ends->path = (struct ph_path){
        .local = ends->addr_a,
        .remote = ends->addr_b,
        .sock = ends->a,
    };
}

static void ends_close(struct ends *ends)
{
    memset(&fault, 0, sizeof(fault));
    ph_udp_close(ends->a);
    ph_udp_close(ends->b);
}

/* Receives until `count` datagrams are there. */
static void receive(struct ends *ends, size_t count)
{
    while (got.count < count) {
        struct pollfd poller = {.fd = ph_udp_fd(ends->b), .events = POLLIN};
        CHECK_INT(poll(&poller, 1, 10000), ==, 1);
        CHECK_INT(ph_udp_recv(ends->b, 64, collect, &got, &ends->received), >, 0);
    }
    CHECK_INT(got.count, ==, count);
    CHECK_INT(ends->received.packets_in, ==, count);
    CHECK_INT(ph_udp_recv(ends->b, 64, collect, &got, &ends->received), ==, 0);
}

static uint8_t payload[GOT_MAX * 1500];

static void payload_fill(void)
{
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i * 2654435761u >> 15);
}

static ssize_t send_run(struct ends *ends, size_t n, size_t segment)
{
    payload_fill();
    return ph_udp_send(ends->a, &ends->path, 0, payload, n, segment, &ends->sent);
}

/* The run of `n` bytes came whole, in order, in datagrams of `segment`. */
static void check_run(struct ends *ends, size_t n, size_t segment)
{
    receive(ends, (n + segment - 1) / segment);
    CHECK_INT(got.bytes, ==, n);
    CHECK_MEM(got.data, payload, n);
    for (size_t i = 0; i + 1 < got.count; i++)
        CHECK_INT(got.n[i], ==, segment);
}

static void send_and_check(struct ends *ends, size_t n, size_t segment)
{
    got.count = got.bytes = 0;
    ends->received.packets_in = 0;
    CHECK_INT(send_run(ends, n, segment), ==, n);
    check_run(ends, n, segment);
}

static const struct ph_udp_options defaults = {.buffer_bytes = 1 << 20};

/* --- Addresses and marks --- */

static void check_addresses(const char *host)
{
    struct ends ends;
    ends_open(&ends, host, defaults, defaults);
    CHECK_INT(send_run(&ends, 100, 1200), ==, 100);
    check_run(&ends, 100, 1200);
    CHECK(ph_addr_equal(&got.path[0].remote, &ends.addr_a));
    CHECK(ph_addr_equal(&got.path[0].local, &ends.addr_b));
    CHECK(got.path[0].sock == ends.b);
    CHECK_INT(ends.sent.packets_out, ==, 1);
    CHECK_INT(ends.sent.send_calls, ==, 1);
    ends_close(&ends);
}

TEST(udp, packet_tells_both_addresses)
{
    check_addresses("127.0.0.1");
    check_addresses("::1");
}

TEST(udp, answer_leaves_from_the_address_that_was_asked)
{
    struct ends ends; /* b is bound to every address and asked at 127.0.0.77 */
    ends_open(&ends, "0.0.0.0", defaults, defaults);
    CHECK_INT(ph_addr_parse(&ends.path.remote, "127.0.0.77", ph_addr_port(&ends.addr_b)), ==, 0);
    CHECK_INT(send_run(&ends, 10, 10), ==, 10); /* from 0.0.0.0: the kernel chooses */
    receive(&ends, 1);
    struct ph_path back = got.path[0];
    CHECK(ph_addr_equal(&back.local, &ends.path.remote));

    struct ph_udp *asked = ends.b;
    ends.b = ends.a; /* now a receives */
    CHECK_INT(ph_udp_send(asked, &back, 0, payload, 10, 10, &ends.sent), ==, 10);
    got.count = 0;
    ends.received.packets_in = 0;
    receive(&ends, 1);
    CHECK(ph_addr_equal(&got.path[0].remote, &ends.path.remote));
    ends.b = asked;
    ends_close(&ends);
}

static void check_marks(const char *host)
{
    struct ends ends;
    ends_open(&ends, host, defaults, defaults);
    for (uint8_t ecn = 0; ecn < 4; ecn++) {
        got.count = got.bytes = 0;
        ends.received.packets_in = 0;
        CHECK_INT(ph_udp_send(ends.a, &ends.path, ecn, payload, 300, 100, &ends.sent), ==, 300);
        receive(&ends, 3);
        for (size_t i = 0; i < 3; i++)
            CHECK_INT(got.ecn[i], ==, ecn);
    }
    ends_close(&ends);
}

TEST(udp, ecn_mark_makes_the_round_trip)
{
    check_marks("127.0.0.1");
    check_marks("::1");
}

/* --- Trains --- */

static bool has_option(const struct ph_udp *udp, int name)
{
    int value;
    socklen_t len = sizeof(value);
    return getsockopt(ph_udp_fd(udp), IPPROTO_UDP, name, &value, &len) == 0;
}

static void check_train(const char *host, bool no_gso, bool no_gro)
{
    struct ends ends;
    struct ph_udp_options a = defaults, b = defaults;
    a.no_gso = no_gso;
    b.no_gro = no_gro;
    ends_open(&ends, host, a, b);
    send_and_check(&ends, 20 * 1200 + 321, 1200);
    CHECK_INT(got.n[20], ==, 321);
    CHECK_INT(ends.sent.packets_out, ==, 21);
    CHECK_INT(ends.sent.send_calls, ==, 1);
    CHECK_INT(fault.mmsg_calls, ==, no_gso || !has_option(ends.a, UDP_SEGMENT));
    if (!no_gso && !no_gro && has_option(ends.a, UDP_SEGMENT) && has_option(ends.b, UDP_GRO))
        CHECK_INT(ends.received.recv_calls, <=, 2); /* a train in one, and "none left" */
    ends_close(&ends);
}

TEST(udp, train_arrives_as_its_datagrams)
{
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    for (size_t i = 0; i < PH_COUNT_OF(hosts); i++) {
        check_train(hosts[i], false, false);
        check_train(hosts[i], false, true);
        check_train(hosts[i], true, false);
        check_train(hosts[i], true, true);
    }
}

TEST(udp, long_runs_are_cut_at_64_segments_and_at_65507_bytes)
{
    struct ends ends;
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    bool gso = has_option(ends.a, UDP_SEGMENT);
    send_and_check(&ends, 130 * 100, 100);
    CHECK_INT(ends.sent.send_calls, ==, 3);
    CHECK_INT(fault.gso_calls, ==, gso ? 3 : 0);
    ends.sent.send_calls = 0;
    send_and_check(&ends, 60 * 1452, 1452); /* 45 fit */
    CHECK_INT(ends.sent.send_calls, ==, gso ? 2 : 1);
    ends.sent.send_calls = 0;
    send_and_check(&ends, 64 * 100, 100);
    CHECK_INT(ends.sent.send_calls, ==, 1);
    send_and_check(&ends, 65 * 100, 100);
    CHECK_INT(ends.sent.send_calls, ==, 3);
    CHECK_INT(ph_udp_send(ends.a, &ends.path, 0, payload, 0, 100, &ends.sent), ==, 0);
    ends_close(&ends);
}

TEST(udp, empty_datagrams_use_up_the_budget)
{
    struct ends ends;
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    for (int i = 0; i < 100; i++)
        CHECK_INT(sendto(ph_udp_fd(ends.a), "", 0, 0, &ends.addr_b.u.sa, ends.addr_b.len), ==, 0);
    struct pollfd poller = {.fd = ph_udp_fd(ends.b), .events = POLLIN};
    CHECK_INT(poll(&poller, 1, 10000), ==, 1);
    CHECK_INT(ph_udp_recv(ends.b, 64, collect, &got, &ends.received), ==, 64);
    CHECK_INT(ph_udp_recv(ends.b, 30, collect, &got, &ends.received), ==, 30);
    CHECK_INT(ph_udp_recv(ends.b, 64, collect, &got, &ends.received), ==, 6);
    CHECK_INT(ph_udp_recv(ends.b, 64, collect, &got, &ends.received), ==, 0);
    CHECK_INT(got.count, ==, 100);
    CHECK_INT(got.bytes, ==, 0);
    ends_close(&ends);
}

/* --- Refusals --- */

static void check_gso_refused(int error)
{
    struct ends ends;
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    fault.gso_error = error;
    send_and_check(&ends, 10 * 500, 500);
    int tried = fault.gso_calls;
    CHECK_INT(tried, <=, 1);
    send_and_check(&ends, 10 * 500 + 7, 500);
    CHECK_INT(fault.gso_calls, ==, tried); /* remembered */
    CHECK_INT(fault.mmsg_calls, ==, 2);
    ends_close(&ends);
}

TEST(udp, refused_gso_falls_back_to_sendmmsg_and_is_remembered)
{
    check_gso_refused(EIO);
    check_gso_refused(EINVAL);
    check_gso_refused(ENOPROTOOPT);
}

TEST(udp, refused_sendmmsg_falls_back_to_sendmsg_and_is_remembered)
{
    struct ends ends;
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    fault.gso_error = EIO;
    fault.mmsg_error = ENOSYS;
    send_and_check(&ends, 10 * 500, 500);
    CHECK_INT(fault.mmsg_calls, ==, 1);
    send_and_check(&ends, 10 * 500, 500);
    CHECK_INT(fault.mmsg_calls, ==, 1);
    CHECK_INT(fault.plain_calls, ==, 20);
    ends_close(&ends);
}

TEST(udp, refused_mark_is_left_out_and_nothing_else_is_given_up)
{
    struct ends ends;
    ends_open(&ends, "::1", defaults, defaults);
    bool gso = has_option(ends.a, UDP_SEGMENT);
    fault.mark_error = EINVAL;
    CHECK_INT(ph_udp_send(ends.a, &ends.path, 2, payload, 400, 100, &ends.sent), ==, 400);
    receive(&ends, 4);
    CHECK_INT(got.ecn[0], ==, 0);
    CHECK_INT(fault.gso_calls, ==, gso ? 1 : 0); /* the rest of the run */
    ends_close(&ends);
}

TEST(udp, unreachable_peer_counts_as_sent_and_says_nothing_about_gso)
{
    struct ends ends;
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    bool gso = has_option(ends.a, UDP_SEGMENT);
    fault.gso_error = EINVAL;
    fault.plain_error = EHOSTUNREACH;
    CHECK_INT(send_run(&ends, 100 * 500, 500), ==, 100 * 500);
    CHECK_INT(ends.sent.packets_out, ==, gso ? 0 : 100);
    fault.gso_error = fault.plain_error = 0;
    fault.gso_calls = 0;
    send_and_check(&ends, 10 * 500, 500);
    CHECK_INT(fault.gso_calls, ==, gso ? 1 : 0);
    ends_close(&ends);
}

TEST(udp, closed_port_is_ignored_on_both_calls)
{
    struct ends ends;
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    struct ph_addr gone_addr;
    struct ph_udp *gone = open_on("127.0.0.1", &gone_addr, defaults);
    ph_udp_close(gone);
    ends.path.remote = gone_addr;
    for (int i = 0; i < 3; i++) {
        CHECK_INT(send_run(&ends, 10, 10), ==, 10);
        CHECK_INT(ph_udp_recv(ends.a, 64, collect, &got, &ends.received), ==, 0);
    }
    ends_close(&ends);
}

TEST(udp, source_address_that_is_gone_counts_as_sent)
{
    struct ends ends;
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    bool gso = has_option(ends.a, UDP_SEGMENT);
    CHECK_INT(ph_addr_parse(&ends.path.local, "203.0.113.1", 1), ==, 0);
    CHECK_INT(send_run(&ends, 1000, 100), ==, 1000);
    CHECK_INT(ends.sent.packets_out, ==, 0);
    ends.path.local = ends.addr_a;
    fault.gso_calls = 0;
    send_and_check(&ends, 1000, 100);
    CHECK_INT(fault.gso_calls, ==, gso ? 1 : 0);
    ends_close(&ends);
}

/* --- Full sockets --- */

TEST(udp, full_socket_gives_back_the_rest_of_a_gso_run)
{
    struct ends ends;
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    fault.gso_error = fault.mmsg_error = EAGAIN;
    CHECK_INT(send_run(&ends, 10 * 500, 500), ==, 0);
    CHECK_INT(ends.sent.packets_out, ==, 0);
    fault.gso_error = fault.mmsg_error = 0;
    send_and_check(&ends, 10 * 500, 500);
    ends_close(&ends);
}

/* The socket stays writable all the while: who waits for that spins. */
TEST(udp, system_without_room_loses_datagrams_as_a_network_does)
{
    static const int errors[] = {ENOBUFS, ENOMEM};
    for (size_t i = 0; i < PH_COUNT_OF(errors); i++) {
        struct ends ends;
        ends_open(&ends, "127.0.0.1", defaults, defaults);
        fault.gso_error = fault.mmsg_error = fault.plain_error = errors[i];
        CHECK_INT(send_run(&ends, 10 * 500, 500), ==, 10 * 500);
        CHECK_INT(send_run(&ends, 500, 500), ==, 500);
        CHECK_INT(ends.sent.packets_out, ==, 0);
        CHECK_INT(ends.sent.send_calls, ==, 2);
        fault.gso_error = fault.mmsg_error = fault.plain_error = 0;
        send_and_check(&ends, 10 * 500, 500); /* in the same mode as before */
        ends_close(&ends);
    }
}

TEST(udp, partial_sendmmsg_ends_on_a_datagram)
{
    struct ends ends;
    struct ph_udp_options no_gso = defaults;
    no_gso.no_gso = true;
    ends_open(&ends, "127.0.0.1", no_gso, defaults);
    fault.mmsg_at_most = 3;
    send_and_check(&ends, 10 * 500 + 1, 500);
    CHECK_INT(fault.mmsg_calls, ==, 4); /* 3 + 3 + 3 + 2 */

    fault.mmsg_calls = 0;
    fault.mmsg_after = 2;
    fault.mmsg_error = EAGAIN;
    got.count = got.bytes = 0;
    ends.received.packets_in = 0;
    CHECK_INT(send_run(&ends, 10 * 500 + 1, 500), ==, 6 * 500);
    check_run(&ends, 6 * 500, 500);
    ends_close(&ends);
}

TEST(udp, single_sends_stop_where_the_socket_is_full)
{
    struct ends ends;
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    fault.gso_error = EIO;
    fault.mmsg_error = ENOSYS;
    fault.plain_after = 4;
    fault.plain_error = EAGAIN;
    CHECK_INT(send_run(&ends, 10 * 500, 500), ==, 4 * 500);
    check_run(&ends, 4 * 500, 500);
    ends_close(&ends);
}

TEST(udp, real_socket_that_is_full_loses_nothing_it_took)
{
    struct ends ends;
    struct ph_udp_options small = {.buffer_bytes = 8192};
    ends_open(&ends, "127.0.0.1", small, defaults);
    CHECK_INT(send_run(&ends, 40 * 1200, 1200), >=, 0);
    size_t taken = (size_t)ends.sent.packets_out;
    receive(&ends, taken);
    CHECK_MEM(got.data, payload, got.bytes);
    CHECK_INT(got.bytes, ==, taken * 1200);
    ends_close(&ends);
}

/* --- Size --- */

static int max_payload(const char *host)
{
    return strchr(host, ':') != NULL ? 65527 : 65507;
}

static void check_toobig(const char *host)
{
    static uint8_t huge[65536];
    struct ends ends;
    ends_open(&ends, host, defaults, defaults);
    size_t n = (size_t)max_payload(host) + 1;
    CHECK_INT(ph_udp_send(ends.a, &ends.path, 0, huge, n, n, &ends.sent), ==, PH_E_TOOBIG);
    CHECK_INT(ends.sent.packets_out, ==, 0);
    CHECK_INT(ph_udp_send(ends.a, &ends.path, 0, huge, 65000, 65000, &ends.sent), ==, 65000);
    receive(&ends, 1);
    CHECK_INT(got.n[0], ==, 65000);
    ends_close(&ends);
}

TEST(udp, datagram_above_the_interface_s_mtu_is_too_big)
{
    check_toobig("127.0.0.1");
    check_toobig("::1");
}

TEST(udp, segments_above_the_mtu_are_too_big_and_gso_stays)
{
    struct ends ends;
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    bool gso = has_option(ends.a, UDP_SEGMENT);
    fault.gso_error = EINVAL; /* so kernels before 6.14 */
    fault.plain_error = fault.mmsg_error = EMSGSIZE;
    CHECK_INT(send_run(&ends, 10 * 500, 500), ==, PH_E_TOOBIG);
    fault.gso_error = EMSGSIZE; /* so later ones */
    CHECK_INT(send_run(&ends, 10 * 500, 500), ==, PH_E_TOOBIG);
    fault.gso_error = fault.plain_error = fault.mmsg_error = 0;
    fault.gso_calls = 0;
    send_and_check(&ends, 10 * 500, 500);
    CHECK_INT(fault.gso_calls, ==, gso ? 1 : 0);
    ends_close(&ends);
}

TEST(udp, packets_are_never_fragmented)
{
    struct ends ends;
    int value = -1;
    socklen_t len = sizeof(value);
    ends_open(&ends, "127.0.0.1", defaults, defaults);
    CHECK_INT(getsockopt(ph_udp_fd(ends.a), IPPROTO_IP, IP_MTU_DISCOVER, &value, &len), ==, 0);
    CHECK_INT(value, ==, IP_PMTUDISC_PROBE);
    ends_close(&ends);
    ends_open(&ends, "::1", defaults, defaults);
    len = sizeof(value);
    CHECK_INT(getsockopt(ph_udp_fd(ends.a), IPPROTO_IPV6, IPV6_MTU_DISCOVER, &value, &len), ==, 0);
    CHECK_INT(value, ==, IPV6_PMTUDISC_PROBE);
    ends_close(&ends);
}

/* --- Opening --- */

struct lines {
    int count;
    char last[1200];
};

static void keep_line(void *self, enum ph_log_level level, const char *line, size_t n)
{
    struct lines *lines = self;
    (void)level;
    lines->count++;
    memcpy(lines->last, line, n + 1);
}

TEST(udp, capped_buffers_are_told_once_with_the_remedy)
{
    struct lines lines = {0};
    struct ph_thread env = {.log = keep_line, .self = &lines, .level = PH_LOG_INFO};
    struct ph_addr addr;
    memset(&fault, 0, sizeof(fault));
    ph_thread_set(&env);
    fault.no_force = true;
    ph_udp_close(open_on("127.0.0.1", &addr, (struct ph_udp_options){.buffer_bytes = 1 << 30}));
    CHECK_INT(lines.count, ==, 1);
    CHECK(strstr(lines.last, "net.core.rmem_max") != NULL);
    CHECK(strstr(lines.last, "net.core.wmem_max") != NULL);
    CHECK(strstr(lines.last, "1073741823") != NULL || strstr(lines.last, "1073741824") != NULL);
    ph_udp_close(open_on("127.0.0.1", &addr, (struct ph_udp_options){.buffer_bytes = 65536}));
    ph_udp_close(open_on("127.0.0.1", &addr, (struct ph_udp_options){.buffer_bytes = 0}));
    ph_thread_set(NULL);
    CHECK_INT(lines.count, ==, 1);
    fault.no_force = false;
}

TEST(udp, address_in_use_is_named)
{
    struct ph_addr addr;
    struct ph_udp *second = NULL, *first = open_on("127.0.0.1", &addr, defaults);
    struct ph_err err = {""};
    char text[64];
    CHECK_INT(ph_udp_open(&second, &addr, &defaults, &err), ==, PH_E_IO);
    CHECK(second == NULL);
    CHECK(strstr(err.text, ph_addr_text(&addr, text, sizeof(text))) != NULL);
    ph_udp_close(first);
    ph_udp_close(NULL);
}

TEST(udp, reuse_port_and_v6only_share_a_port)
{
    struct ph_udp_options shared = {.reuse_port = true};
    struct ph_addr addr, four;
    struct ph_udp *a = open_on("::", &addr, shared), *b = NULL, *c = NULL;
    CHECK_INT(ph_udp_open(&b, &addr, &shared, NULL), ==, 0);
    CHECK_INT(ph_addr_parse(&four, "0.0.0.0", ph_addr_port(&addr)), ==, 0);
    struct ph_udp_options alone = {.reuse_port = false};
    CHECK_INT(ph_udp_open(&c, &four, &alone, NULL), ==, 0);
    ph_udp_close(a);
    ph_udp_close(b);
    ph_udp_close(c);
}
