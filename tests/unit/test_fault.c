/*
 * test_fault.c - a whole server whose system refuses what it asks for: for each protocol one
 * connection is used again and again, and each time one allocation later fails. That connection may
 * end; the server, and the client beside it, go on, and nothing is left behind.
 */
#include "fault.h"
#include "world.h"

#include "../../src/tls/tls.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* After the failure a peer that was not told has this long to notice; it decides about the time
 * that the test takes, not about its result. */
#define SILENCE (50 * PH_MSEC)

/* --- A client over TCP --- */

struct peer {
    struct world *world;
    int fd;
    bool is_over; /* the server ended it */
    struct ph_tls_session *tls;
    struct ph_sliceq said, heard; /* plaintext */
};

static void peer_open(struct peer *peer, struct world *world, struct ph_tls_cred *cred,
                      const char *alpn)
{
    struct ph_addr addr = world_addr(world, cred != NULL ? "tls" : "tcp");
    *peer = (struct peer){.world = world};
    ph_sliceq_init(&peer->said);
    ph_sliceq_init(&peer->heard);
    if (cred != NULL)
        CHECK_INT(ph_tls_session_new(&peer->tls, cred, false, (const char *[]){alpn, NULL}), ==, 0);
    peer->fd = socket(addr.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(peer->fd, &addr.u.sa, addr.len) == 0);
    setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static void peer_close(struct peer *peer)
{
    peer->world->also = 0;
    close(peer->fd);
    ph_tls_session_free(peer->tls);
    ph_sliceq_fini(&peer->said);
    ph_sliceq_fini(&peer->heard);
}

static void peer_say(struct peer *peer, const void *data, size_t n)
{
    ph_sliceq_push_copy(&peer->said, data, n);
}

static void peer_write(struct peer *peer, struct ph_sliceq *from)
{
    struct iovec iov;
    while (!peer->is_over && ph_sliceq_gather(from, &iov, 1, SIZE_MAX) == 1) {
        ssize_t n = send(peer->fd, iov.iov_base, iov.iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        peer->is_over = n < 0;
        ph_sliceq_advance(from, n > 0 ? (size_t)n : 0);
        ph_sliceq_drop(from, n > 0 ? (size_t)n : 0);
    }
}

/* What comes, and what is to be said. */
static void peer_turn(struct peer *peer)
{
    static uint8_t data[65536];
    peer->world->also = peer->is_over ? 0 : peer->fd;
    ssize_t n = recv(peer->fd, data, sizeof(data), MSG_DONTWAIT);
    bool is_new = n > 0;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        peer->is_over = true;
    if (peer->tls == NULL) {
        if (is_new)
            ph_sliceq_push_copy(&peer->heard, data, (size_t)n);
        peer_write(peer, &peer->said);
        return;
    }
    if (is_new && ph_tls_session_feed(peer->tls, data, (size_t)n, &peer->heard) < 0)
        peer->is_over = true;
    if (ph_tls_session_is_ready(peer->tls) && !peer->is_over)
        CHECK_INT(ph_tls_session_write(peer->tls, &peer->said, 1 << 20), ==, 0);
    peer_write(peer, ph_tls_session_out(peer->tls));
}

static bool peer_heard(struct peer *peer, const char *text)
{
    struct iovec iov[64];
    size_t n = ph_sliceq_gather(&peer->heard, iov, PH_COUNT_OF(iov), SIZE_MAX);
    for (size_t i = 0; i < n; i++) {
        if (memmem(iov[i].iov_base, iov[i].iov_len, text, strlen(text)) != NULL)
            return true;
    }
    return false;
}

/* --- Rounds --- */

struct round {
    struct world *world;
    struct peer bystander; /* HTTP/1.1, on one connection all the time */
    struct ph_tls_cred *cred;
    long more;     /* allocations that fail besides, in a row */
    long nth, cut; /* the first that fails; rounds that ended before all was there */
};

static void round_begin(struct round *round, struct world *world, const char *const *options)
{
    struct ph_err err;
    *round = (struct round){.world = world};
    world_start(world, options);
    CHECK_INT(ph_tls_cred_client(&round->cred, NULL, &err), ==, 0);
    peer_open(&round->bystander, world, NULL, NULL);
}

static void round_end(struct round *round)
{
    peer_close(&round->bystander);
    ph_tls_cred_unref(round->cred);
    world_stop(round->world);
}

/* Notes of channels that are gone. */
static void forget_closed(struct world *world)
{
    size_t kept = 0;
    for (size_t i = 0; i < world->chans_n; i++) {
        if (world->chans[i]->closed)
            ph_free(world->chans[i]);
        else
            world->chans[kept++] = world->chans[i];
    }
    world->chans_n = kept;
}

static void ask_bystander(struct round *round)
{
    static const char ask[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    struct peer *peer = &round->bystander;
    peer_say(peer, ask, sizeof(ask) - 1);
    peer_turn(peer);
    WORLD_UNTIL(round->world, (peer_turn(peer), peer->is_over || peer_heard(peer, "hello")));
    CHECK(!peer->is_over);
    ph_sliceq_fini(&peer->heard);
    ph_sliceq_init(&peer->heard);
}

/* One more allocation works than the last time. false: all of them did. */
static bool round_next(struct round *round, bool is_whole)
{
    bool fired = fault_alloc_end() == 0;
    CHECK(is_whole || fired);
    round->cut += !is_whole;
    ask_bystander(round);
    forget_closed(round->world);
    if (round->nth > 0 && !fired)
        return false;
    fault_alloc(++round->nth, round->more);
    return true;
}

/* Every failure was counted, and some of them had an end. */
static void round_check(struct round *round)
{
    uint64_t rounds = (uint64_t)round->nth - 1, all = rounds * (uint64_t)(round->more + 1);
    CHECK_INT(round->cut, >, 0);
    WORLD_UNTIL(round->world, world_stats(round->world).alloc_failures >= rounds);
    CHECK_INT(world_stats(round->world).alloc_failures, <=, all);
}

/* --- Over TCP --- */

struct script {
    const char *alpn; /* NULL: cleartext */
    const char *said;
    size_t n;
    const char *heard; /* within what comes, before the end */
};

/* The server ends the connection at the latest when it has said everything. */
static bool talk(struct round *round, const struct script *script)
{
    struct peer peer;
    peer_open(&peer, round->world, script->alpn != NULL ? round->cred : NULL, script->alpn);
    peer_say(&peer, script->said, script->n);
    WORLD_UNTIL(round->world, (peer_turn(&peer), peer.is_over));
    bool is_whole = peer_heard(&peer, script->heard);
    peer_close(&peer);
    return is_whole;
}

static void run_one(const struct script *script, long more)
{
    static struct world world;
    struct round round;
    round_begin(&round, &world,
                (const char *const[]){"bind", "127.0.0.1:0", "insecure_bind", "127.0.0.1:0",
                                      "certfile", "cert", "h2c", "on", "ws_per_message_deflate",
                                      "on", NULL});
    round.more = more;
    bool is_whole = talk(&round, script);
    CHECK(is_whole);
    while (round_next(&round, is_whole))
        is_whole = talk(&round, script);
    round_check(&round);
    round_end(&round);
}

/* Once as if memory were there again at once, and once with pieces of the reserve that do not help.
 */
static void run_script(const struct script *script)
{
    run_one(script, 0);
    run_one(script, 5);
}

#define SCRIPT(alpn_, said_, heard_)                                                               \
    (&(const struct script){                                                                       \
        .alpn = (alpn_), .said = (said_), .n = sizeof(said_) - 1, .heard = (heard_)})

#define H1                                                                                         \
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"                 \
    "5\r\nhello\r\n0\r\nz: z\r\n\r\nGET /bytes/70000 HTTP/1.1\r\nHost: a\r\n\r\n"                  \
    "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
#define ASK                                                                                        \
    "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                 \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define KEY0 "\0\0\0\0" /* a mask of zeros: payloads are legible */
#define TEXT16 "sixteen letters "
#define TEXT125 TEXT16 TEXT16 TEXT16 TEXT16 TEXT16 TEXT16 TEXT16 "thirteen more"
#define FRAMES "\x81\xfd" KEY0 TEXT125 "\x02\x81" KEY0 "a\x80\x81" KEY0 "b\x88\x82" KEY0 "\x03\xe8"
/* RFC 7692 7.2.3.1: "Hello" */
#define DEFLATED "\xc1\x87" KEY0 "\xf2\x48\xcd\xc9\xc9\x07\x00"
#define H2_HEAD "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define H2_REQUESTS                                                                                \
    "\0\0\x0c\1\4\0\0\0\1\x83\x87\4\5/echo\1\1h"                                                   \
    "\0\0\5\0\0\0\0\0\1howdy\0\0\x05\1\5\0\0\0\1\0\1z\1z"                                          \
    "\0\0\x13\1\5\0\0\0\3\x82\x87\4\x0c/bytes/70000\1\1h"                                          \
    "\0\0\4\x08\0\0\0\0\0\0\1\0\0\0\0\4\x08\0\0\0\0\3\0\1\0\0"                                     \
    "\0\0\x0d\1\5\0\0\0\5\x82\x87\4\6/hello\1\1h"
#define H2_BYE "\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\0"

TEST(fault, H13_http1)
{
    run_script(SCRIPT(NULL, H1, "\r\n\r\nhello"));
}

TEST(fault, H13_http1_over_tls)
{
    run_script(SCRIPT("http/1.1", H1, "\r\n\r\nhello"));
}

TEST(fault, H13_http2)
{
    run_script(SCRIPT(NULL, H2_HEAD H2_REQUESTS H2_BYE, "hello"));
}

TEST(fault, H13_http2_over_tls)
{
    run_script(SCRIPT("h2", H2_HEAD H2_REQUESTS H2_BYE, "hello"));
}

TEST(fault, H13_websocket)
{
    run_script(SCRIPT(NULL, ASK "\r\n" FRAMES, "\x88\x02\x03\xe8"));
}

TEST(fault, H13_websocket_compressed)
{
    run_script(SCRIPT(NULL,
                      ASK "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n" DEFLATED FRAMES,
                      "\x88\x02\x03\xe8"));
}

/* --- Over QUIC --- */

/* false: the connection ended, or is silent after the failure. */
static bool quic_until(struct round *round, struct client *client,
                       bool (*is_there)(struct client *))
{
    uint64_t quiet = PH_NEVER, end = ph_clock_now() + 20 * PH_SEC;
    while (!is_there(client)) {
        uint64_t now = ph_clock_now();
        if (client->closed || now > quiet)
            return false;
        CHECK(now < end);
        if (quiet == PH_NEVER && round->nth > 0 && fault_alloc_fired())
            quiet = now + SILENCE;
        world_step(round->world);
    }
    return true;
}

static bool has_settings(struct client *client)
{
    return client->settings;
}

static bool has_session(struct client *client)
{
    return client->sessions->ready || client->sessions->closed;
}

static bool has_all(struct client *client)
{
    const struct client_session *session = client->sessions;
    const struct client_stream *stream = client->streams;
    const struct client_request *request = client->requests;
    return (session->datagrams > 0 || session->closed) && (stream->fin || stream->closed) &&
           (request->end || request->closed);
}

/* A session with a stream and a datagram, and a request. */
static bool use_quic(struct round *round, struct client *client)
{
    static const char body[3000] = "body";
    if (!quic_until(round, client, has_settings))
        return false;
    struct client_session *session = client_session(client, "/session", NULL, 0, NULL, 0);
    struct client_request *request = client_request(client, "POST", "/echo", body, sizeof(body));
    if (session == NULL || request == NULL || !quic_until(round, client, has_session) ||
        session->closed)
        return false;
    struct client_stream *stream = client_open(session, true);
    if (stream == NULL)
        return false;
    client_write(stream, body, sizeof(body), true);
    client_datagram(session, body, 100);
    if (!quic_until(round, client, has_all))
        return false;
    return !session->closed && stream->len == sizeof(body) && request->len == sizeof(body);
}

static bool talk_quic(struct round *round)
{
    static struct client client;
    struct ph_addr addr = world_addr(round->world, "quic");
    client_init(&client, &addr);
    round->world->clients[round->world->clients_n++] = &client;
    bool is_whole = use_quic(round, &client);
    world_drop(round->world, &client);
    return is_whole;
}

static void run_quic(long more)
{
    static struct world world;
    struct round round;
    round_begin(
        &round, &world,
        (const char *const[]){"insecure_bind", "127.0.0.1:0", "quic_bind", "127.0.0.1:0", NULL});
    round.more = more;
    bool is_whole = talk_quic(&round);
    CHECK(is_whole);
    while (round_next(&round, is_whole))
        is_whole = talk_quic(&round);
    round_check(&round);
    round_end(&round);
}

TEST(fault, H13_http3_and_webtransport)
{
    run_quic(0);
    run_quic(5);
}

/* --- The reserve --- */

/* Allocations of which `failing` fail, on a thread like the I/O thread. The exit status of a
 * process that tries. */
static int try_reserve(long failing)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct ph_buf_home home = {.head = NULL};
        struct ph_reserve reserve = {.failures = 0};
        const struct ph_thread env = {.home = &home, .reserve = &reserve};
        CHECK(freopen("/dev/null", "w", stderr) != NULL);
        ph_thread_set(&env);
        bool is_whole = ph_reserve_fill(&reserve);
        fault_alloc(1, failing - 1);
        ph_free(ph_alloc(100));
        bool is_right = is_whole && ph_alloc_failed() && !ph_alloc_failed() &&
                        reserve.failures == (uint64_t)failing && ph_reserve_fill(&reserve);
        ph_reserve_fini(&reserve);
        _exit(is_right ? 0 : 1);
    }
    int status;
    CHECK_INT(waitpid(pid, &status, 0), ==, pid);
    return status;
}

TEST(fault, the_reserve_lasts_for_as_many_failures_as_it_has_blocks)
{
    CHECK_INT(try_reserve(1), ==, 0);
    CHECK_INT(try_reserve(PH_RESERVE_BLOCKS), ==, 0);
    int status = try_reserve(PH_RESERVE_BLOCKS + 1);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* --- A limit of the system --- */

#define CHILD "PH_TEST_FAULT_CHILD"

/* Address space for little more than what the process has. */
static void limit_memory(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages;
    CHECK(file != NULL && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    rlim_t bytes = pages * (rlim_t)sysconf(_SC_PAGESIZE) + (1 << 20);
    CHECK_INT(setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes}), ==, 0);
}

/* Heads that are not finished, from more clients than there is memory for: whoever is one too many
 * ends. The application, which would have to do without memory as well, has nothing to do. */
static void flood(int clients)
{
    static struct world world;
    static int held[8192];
    static char head[60000];
    struct round round;
    round_begin(
        &round, &world,
        (const char *const[]){"insecure_bind", "127.0.0.1:0", "keep_alive", "3600000", NULL});
    ask_bystander(&round);
    struct ph_addr addr = world_addr(&world, "tcp");
    int n = snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    memset(head + n, 'y', sizeof(head) - (size_t)n);
    limit_memory();
    for (int i = 0; i < clients; i++) {
        held[i] = socket(addr.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(connect(held[i], &addr.u.sa, addr.len) == 0);
        send(held[i], head, sizeof(head), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    WORLD_UNTIL(&world, world_stats(&world).alloc_failures > 0);
    for (int i = 0; i < clients; i++)
        close(held[i]);
    WORLD_UNTIL(&world, world_stats(&world).conns_closed + 1 == world_stats(&world).conns_accepted);
    ask_bystander(&round);
    CHECK(talk(&round, SCRIPT(NULL, H1, "\r\n\r\nhello")));
    round_end(&round);
}

/* In a process of its own, which a limit can be set for. */
TEST(fault, H13_a_server_outlives_a_flood_that_it_has_no_memory_for)
{
    enum { CLIENTS = 2000 }; /* some 120 MB; an arena of the C library has 64 */
    struct rlimit files;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &files), ==, 0);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return; /* which want address space without end */
#endif
    if (files.rlim_max < 2 * CLIENTS + 100)
        return;
    if (getenv(CHILD) != NULL) {
        files.rlim_cur = files.rlim_max;
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &files), ==, 0);
        flood(CLIENTS);
        return;
    }
    char *argv[] = {"unit", "fault.H13_a_server_outlives", NULL};
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        setenv(CHILD, "1", 1);
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    int status;
    CHECK_INT(waitpid(pid, &status, 0), ==, pid);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), ==, 0);
}

/* --- Other refusals --- */

TEST(fault, a_descriptor_that_cannot_be_watched_costs_its_connection)
{
    static struct world world;
    struct round round;
    round_begin(&round, &world, (const char *const[]){"insecure_bind", "127.0.0.1:0", NULL});
    ask_bystander(&round);
    fault_watch();
    struct peer peer;
    peer_open(&peer, &world, NULL, NULL);
    WORLD_UNTIL(&world, (peer_turn(&peer), peer.is_over));
    peer_close(&peer);
    ask_bystander(&round);
    CHECK_INT(world_stats(&world).conns_accepted, ==, 1);
    CHECK(talk(&round, SCRIPT(NULL, H1, "\r\n\r\nhello")));
    round_end(&round);
}
