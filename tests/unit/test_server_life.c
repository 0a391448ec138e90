/* test_server_life.c - what ph_server_new() refuses, and how a server starts, drains and stops. */
#include "world.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define TCP_ONLY ((const char *const[]){"bind", "127.0.0.1:0", NULL})
#define QUIC_ONLY ((const char *const[]){"quic_bind", "127.0.0.1:0", NULL})
#define BOTH ((const char *const[]){"quic_bind", "127.0.0.1:0", "bind", "127.0.0.1:0", NULL})

/* --- Drain and stop --- */

TEST(server, drain_lets_work_finish)
{
    static struct world world;
    struct client client;
    world_start(&world,
                (const char *const[]){"quic_bind", "127.0.0.1:0", "bind", "127.0.0.1:0", NULL});
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    struct client_request *request = client_request(&client, "GET", "/wait", NULL, 0);
    world_tcp(&world, "tcp", "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, world.chans_n == 3);
    ph_server_drain(world.server, 20000);
    WORLD_UNTIL(&world, session->closed);
    CHECK(session->clean && session->code == 99); /* what this application does when asked */
    struct world_chan *chan = world.chans[0];
    WORLD_UNTIL(&world, chan->closed);
    CHECK(chan->drains == 1 && chan->drain_local && chan->local);
    CHECK(!world.stopped);
    for (size_t i = 0; i < world.chans_n; i++) {
        if (world.chans[i]->chan == NULL)
            continue;
        CHECK_INT(ph_chan_respond(world.chans[i]->chan, 204, NULL, 0, true), ==, 0);
    }
    ph_server_flush(world.server);
    WORLD_UNTIL(&world, request->end && world.tcp_eof);
    CHECK_INT(request->status, ==, 204);
    CHECK(strstr(world.text, "HTTP/1.1 204") != NULL);
    WORLD_UNTIL(&world, world.stopped);
    WORLD_UNTIL(&world, client.closed);
    for (size_t i = 0; i < world.chans_n; i++)
        CHECK(world.chans[i]->closed && world.chans[i]->clean);
    world_stop(&world);
}

TEST(server, drain_of_an_idle_server_stops_at_once)
{
    static struct world world;
    struct client client;
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    ph_server_drain(world.server, 3600000);
    WORLD_UNTIL(&world, world.stopped && client.closed);
    world_stop(&world);
}

TEST(server, drain_deadline_closes_what_is_left)
{
    static struct world world;
    struct client client;
    world_start(&world,
                (const char *const[]){"quic_bind", "127.0.0.1:0", "bind", "127.0.0.1:0", NULL});
    world.leave_open = true;
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    client_write(client_open(session, true), "x", 1, false);
    client_request(&client, "GET", "/wait", NULL, 0);
    world_tcp(&world, "tcp", "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, world.chans_n == 4);
    ph_server_drain(world.server, 3600000);
    WORLD_UNTIL(&world, session->drain);
    CHECK(!world.stopped);
    ph_server_drain(world.server, 50); /* a shorter deadline counts */
    WORLD_UNTIL(&world, world.stopped);
    for (size_t i = 0; i < world.chans_n; i++)
        CHECK(world.chans[i]->closed);
    CHECK(!world.chans[0]->clean);
    WORLD_UNTIL(&world, client.closed && (world.tcp_eof || world.tcp_reset));
    ph_event event;
    CHECK_INT(ph_server_next(world.server, &event), ==, 0);
    world_stop(&world);
}

TEST(server, free_under_load_leaves_nothing)
{
    static struct world world;
    struct client client;
    world_start(&world, (const char *const[]){"quic_bind", "127.0.0.1:0", "bind", "127.0.0.1:0",
                                              "ring_slots", "8", NULL});
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    world.hold = true;
    uint8_t *bytes = ph_alloc(100000);
    for (int i = 0; i < 30; i++)
        client_write(client_open(session, (i & 1) != 0), bytes, 100000, i % 3 == 0);
    world_tcp(&world, "tcp", "GET /bytes/9000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 5; i++)
        world_step(&world);
    ph_free(bytes);
    world_stop(&world); /* the harness looks for what is left */
}

TEST(server, never_started_is_freed_too)
{
    ph_server *server;
    char err[512];
    ph_config *config = ph_config_new();
    ph_config_set(config, "bind", "127.0.0.1:0");
    CHECK_INT(ph_server_new(&server, config, err, sizeof(err)), ==, 0);
    ph_server_drain(server, 0);
    ph_server_free(server);
    ph_server_free(NULL);
    ph_config_free(config);
}

/* The worker's half: answers one request, drains, ends. */
static int serve_one(ph_server *server)
{
    ph_event event = {0};
    if (ph_server_start(server) != 0)
        return 10;
    while (event.kind != PH_EVENT_STOPPED) {
        struct pollfd wait = {.fd = ph_server_fd(server), .events = POLLIN};
        if (poll(&wait, 1, 20000) == 0)
            return 11;
        while (ph_server_next(server, &event) == 1) {
            if (event.kind == PH_EVENT_REQUEST)
                ph_chan_respond(event.chan, 204, NULL, 0, true);
            if (event.kind == PH_EVENT_CLOSED) {
                ph_chan_release(event.chan);
                ph_server_drain(server, 10000);
            }
            ph_buf_unref(event.buf);
        }
    }
    ph_server_free(server);
    return ph_live_get(PH_LIVE_CHAN) == 0 && ph_live_get(PH_LIVE_SERVER) == 0 ? 0 : 12;
}

TEST(server, process_may_fork_between_new_and_start)
{
    ph_server *server;
    char err[512], address[64], answer[512];
    const char *kind;
    ph_config *config = ph_config_new();
    ph_config_set(config, "bind", "127.0.0.1:0");
    CHECK_INT(ph_server_new(&server, config, err, sizeof(err)), ==, 0);
    ph_config_free(config);
    CHECK_INT(ph_server_address(server, 0, &kind, address, sizeof(address)), ==, 0);
    CHECK_STR(kind, "tcp");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(serve_one(server));
    struct ph_addr addr;
    CHECK_INT(ph_addr_parse(&addr, "127.0.0.1", (uint16_t)atoi(strrchr(address, ':') + 1)), ==, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0), status = 0;
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    CHECK(connect(fd, &addr.u.sa, addr.len) == 0);
    CHECK(write(fd, request, strlen(request)) == (ssize_t)strlen(request));
    CHECK(read(fd, answer, sizeof(answer)) > 12 && memcmp(answer, "HTTP/1.1 204", 12) == 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, ==, 0);
    close(fd);
    ph_server_free(server);
}

/* --- What ph_server_new() refuses --- */

static void expect_refusal(const char *const *options, int code, const char *words)
{
    ph_server *server = NULL;
    char err[512] = "";
    ph_config *config = ph_config_new();
    for (; *options != NULL; options += 2)
        CHECK_INT(ph_config_set(config, options[0], options[1]), ==, 0);
    CHECK_INT(ph_server_new(&server, config, err, sizeof(err)), ==, code);
    if (strstr(err, words) == NULL)
        ph_test_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", err, words);
    ph_config_free(config);
}

TEST(server, refuses_what_does_not_go_together)
{
    expect_refusal((const char *const[]){"max_body", "1", NULL}, PH_E_CONFIG, "no address");
    expect_refusal((const char *const[]){"quic_bind", "127.0.0.1:0", NULL}, PH_E_CONFIG,
                   "quic_bind: QUIC needs a certificate");
    expect_refusal((const char *const[]){"bind", "127.0.0.1:0", "keyfile", "k", NULL}, PH_E_CONFIG,
                   "keyfile: ");
    expect_refusal((const char *const[]){"bind", "127.0.0.1:0", "verify_mode", "required", NULL},
                   PH_E_CONFIG, "verify_mode: ");
    expect_refusal((const char *const[]){"bind", "127.0.0.1:0", "send_buffer", "100", NULL},
                   PH_E_CONFIG, "send_buffer_low: ");
    expect_refusal((const char *const[]){"bind", "127.0.0.1:0", "stream_window", "8M", NULL},
                   PH_E_CONFIG, "stream_window: ");
    expect_refusal((const char *const[]){"bind", "no-such-host.invalid:80", NULL}, PH_E_CONFIG,
                   "bind: ");
    expect_refusal(
        (const char *const[]){"bind", "127.0.0.1:0", "certfile", "/nonexistent/c.pem", NULL},
        PH_E_TLS, "/nonexistent/c.pem");
}

TEST(server, address_in_use_is_named_and_leaves_nothing_bound)
{
    static struct world world;
    char address[64], sentence[192];
    world_start(&world, TCP_ONLY);
    struct ph_addr addr = world_addr(&world, "tcp");
    ph_addr_text(&addr, address, sizeof(address));
    snprintf(sentence, sizeof(sentence), "bind: cannot listen on tcp %s: Address already in use",
             address);
    expect_refusal((const char *const[]){"insecure_bind", "127.0.0.1:0", "bind", address, NULL},
                   PH_E_IO, sentence);
    expect_refusal((const char *const[]){"insecure_bind", address, NULL}, PH_E_IO,
                   "insecure_bind: ");
    world_stop(&world);
    /* Nothing of the first attempt holds the address now. */
    world_start(&world, (const char *const[]){"bind", address, NULL});
    world_stop(&world);
}

TEST(server, udp_address_in_use_is_named)
{
    static struct world world;
    char address[64], sentence[192];
    world_start(&world, QUIC_ONLY);
    struct ph_addr addr = world_addr(&world, "quic");
    ph_addr_text(&addr, address, sizeof(address));
    snprintf(sentence, sizeof(sentence), "quic_bind: cannot open udp %s: Address already in use",
             address);
    expect_refusal((const char *const[]){"quic_bind", address, "dev_certificate", world.dir, NULL},
                   PH_E_IO, sentence);
    world_stop(&world);
}

/* A sentence names the option whose file it is about. */
TEST(server, certificate_trouble_names_its_option)
{
    static struct world world;
    char cert[128], key[128];
    world_start(&world, QUIC_ONLY); /* makes a certificate */
    snprintf(cert, sizeof(cert), "%s/dev-cert.pem", world.dir);
    snprintf(key, sizeof(key), "%s/dev-key.pem", world.dir);
    expect_refusal((const char *const[]){"bind", "127.0.0.1:0", "certfile", cert, "keyfile", key,
                                         "verify_mode", "required", "ca_certs",
                                         "/nonexistent/ca.pem", NULL},
                   PH_E_TLS, "ca_certs: CA file '/nonexistent/ca.pem'");
    expect_refusal((const char *const[]){"quic_bind", "127.0.0.1:0", "dev_certificate", world.dir,
                                         "verify_mode", "optional", "ca_certs", key, NULL},
                   PH_E_TLS, "ca_certs: ");
    expect_refusal(
        (const char *const[]){"bind", "127.0.0.1:0", "certfile", cert, "keyfile", cert, NULL},
        PH_E_TLS, "keyfile: ");
    expect_refusal((const char *const[]){"bind", "127.0.0.1:0", "certfile", cert, NULL}, PH_E_TLS,
                   "certfile: "); /* where the key is looked for */
    expect_refusal((const char *const[]){"bind", "127.0.0.1:0", "certfile", key, NULL}, PH_E_TLS,
                   "certfile: ");
    world_stop(&world);
}

TEST(server, localhost_has_one_port_in_both_families)
{
    static struct world world;
    const char *kind;
    char text[64];
    int port[2] = {0, 0}, n[2] = {0, 0};
    world_start(&world, (const char *const[]){"quic_bind", "localhost:0", "insecure_bind",
                                              "localhost:0", NULL});
    for (size_t i = 0; ph_server_address(world.server, i, &kind, text, sizeof(text)) == 0; i++) {
        int quic = strcmp(kind, "quic") == 0, this = atoi(strrchr(text, ':') + 1);
        CHECK(port[quic] == 0 || port[quic] == this);
        port[quic] = this;
        n[quic]++;
    }
    CHECK_INT(n[0], >=, 1);
    CHECK_INT(n[0], ==, n[1]);
    world_stop(&world);
}

TEST(server, options_that_are_ignored_are_told)
{
    static struct world world;
    world_start(&world, (const char *const[]){"bind", "127.0.0.1:0", "alpn", "h3", "alpn",
                                              "http/1.1", NULL});
    WORLD_UNTIL(&world, strstr(world.log, "name=h3") != NULL);
    world_stop(&world);
}

TEST(server, secret_comes_from_hex_or_a_file)
{
    static struct world world;
    char path[128];
    world_start(&world, (const char *const[]){"quic_bind", "127.0.0.1:0", "secret",
                                              "00112233445566778899aabbccddeeff"
                                              "00112233445566778899aabbccddeeff",
                                              NULL});
    snprintf(path, sizeof(path), "%s/dev-key.pem", world.dir); /* any file of 32 bytes will do */
    char cert[128];
    snprintf(cert, sizeof(cert), "%s", world.dir);
    const char *const good[] = {"quic_bind", "127.0.0.1:0", "dev_certificate", cert, "secret",
                                path,        NULL};
    ph_config *config = ph_config_new();
    ph_server *server;
    char err[512];
    for (size_t i = 0; good[i] != NULL; i += 2)
        CHECK_INT(ph_config_set(config, good[i], good[i + 1]), ==, 0);
    CHECK_INT(ph_server_new(&server, config, err, sizeof(err)), ==, 0);
    ph_server_free(server);
    ph_config_free(config);
    expect_refusal((const char *const[]){"quic_bind", "127.0.0.1:0", "dev_certificate", cert,
                                         "secret", "tooshort", NULL},
                   PH_E_CONFIG, "secret: ");
    world_stop(&world);
}
