/* test_server_options.c - options that change how a server behaves, seen from outside; counters
 * that need a whole server. */
#include "world.h"

#include <unistd.h>

#define WITH(...) ((const char *const[]){"quic_bind", "127.0.0.1:0", __VA_ARGS__, NULL})
#define TCP_WITH(...) ((const char *const[]){"bind", "127.0.0.1:0", __VA_ARGS__, NULL})

/* A session whose streams and datagrams work. */
static void check_session_works(struct world *world, struct client *client)
{
    static const uint8_t bytes[100000] = {1, 2, 3};
    struct client_session *session = world_session(world, client, "/");
    struct client_stream *stream = client_open(session, true);
    client_write(stream, bytes, sizeof(bytes), true);
    CHECK_INT(client_datagram(session, "ping", 4), ==, 0);
    WORLD_UNTIL(world, stream->fin && session->datagrams == 1);
    CHECK_INT(stream->len, ==, sizeof(bytes));
    CHECK_MEM(stream->data, bytes, sizeof(bytes));
}

/* --- QUIC and WebTransport --- */

TEST(server_options, retry_always_asks_every_client_to_prove_its_address)
{
    static struct world world;
    struct client clients[2];
    world_start(&world, WITH("retry", "always"));
    for (int i = 0; i < 2; i++) {
        world_connect(&world, &clients[i]);
        check_session_works(&world, &clients[i]);
        CHECK_INT(world_stats(&world).retries_sent, >=, i + 1);
    }
    world_stop(&world);
}

TEST(server_options, retry_auto_asks_nobody_while_it_is_quiet)
{
    static struct world world;
    struct client client;
    world_start(&world, WITH("retry", "auto"));
    world_connect(&world, &client);
    CHECK_INT(world_stats(&world).retries_sent, ==, 0);
    world_stop(&world);
}

TEST(server_options, congestion_bbr_carries_sessions)
{
    static struct world world;
    struct client client;
    world_start(&world, WITH("congestion", "bbr"));
    world_connect(&world, &client);
    check_session_works(&world, &client);
    struct client_request *request = client_request(&client, "GET", "/bytes/1000000", NULL, 0);
    WORLD_UNTIL(&world, request->end);
    CHECK_INT(request->len, ==, 1000000);
    world_stop(&world);
}

TEST(server_options, sessions_end_at_wt_max_sessions)
{
    static struct world world;
    struct client client;
    world_start(&world, WITH("wt_max_sessions", "1"));
    world_connect(&world, &client);
    struct client_session *first = world_session(&world, &client, "/");
    CHECK_INT(world_stats(&world).limit_sessions, ==, 0);
    struct client_session *second = client_session(&client, "/", NULL, 0, NULL, 0);
    WORLD_UNTIL(&world, second->closed);
    CHECK(!second->ready);
    CHECK_INT(world_stats(&world).limit_sessions, ==, 1);
    CHECK(!first->closed);
    ph_wt_session_close(first->wt, 0, NULL, 0);
    WORLD_UNTIL(&world, first->closed);
    check_session_works(&world, &client); /* its place is free again */
    CHECK_INT(world_stats(&world).sessions, ==, 2);
    CHECK_INT(world_stats(&world).limit_sessions, ==, 1);
    world_stop(&world);
}

TEST(server_options, sessions_end_at_wt_session_burst)
{
    static struct world world;
    struct client client;
    world_start(&world, WITH("wt_session_burst", "2", "wt_session_rate", "1"));
    world_connect(&world, &client);
    for (int i = 0; i < 2; i++) {
        struct client_session *session = world_session(&world, &client, "/");
        ph_wt_session_close(session->wt, 0, NULL, 0);
        WORLD_UNTIL(&world, session->closed);
    }
    struct client_session *third = client_session(&client, "/", NULL, 0, NULL, 0);
    WORLD_UNTIL(&world, third->closed || third->ready);
    CHECK_INT(world_stats(&world).limit_sessions, ==, third->ready ? 0 : 1);
    CHECK(third->closed || world_stats(&world).sessions == 3);
    world_stop(&world);
}

/* --- HTTP/1.1 --- */

TEST(server_options, write_stall_timeout_ends_who_does_not_read)
{
    static struct world world;
    world_start(&world, TCP_WITH("write_stall_timeout", "100"));
    world_tcp(&world, "tcp", "GET /bytes/60000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    int fd = world.tcp;
    world.tcp = -1; /* nobody reads it */
    WORLD_UNTIL(&world, world_stats(&world).timeouts_write == 1);
    WORLD_UNTIL(&world, world.chans_n == 1 && world.chans[0]->closed);
    CHECK(!world.chans[0]->clean);
    CHECK_INT(world_stats(&world).conns_closed, ==, 1);
    close(fd);
    world_stop(&world);
}

TEST(server_options, keep_alive_requests_end_the_connection)
{
    static struct world world;
    static const char request[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    world_start(&world, TCP_WITH("keep_alive_requests", "2"));
    world_tcp(&world, "tcp", request);
    WORLD_UNTIL(&world, strstr(world.text, "\r\n\r\nhello") != NULL);
    CHECK(strstr(world.text, "connection: close") == NULL);
    world_tcp_send(&world, request, strlen(request));
    WORLD_UNTIL(&world, world.tcp_eof);
    const char *second = strstr(world.text, "hello") + 5;
    CHECK(strncmp(second, "HTTP/1.1 200 ", 13) == 0);
    CHECK(strstr(second, "connection: close") != NULL);
    world_stop(&world);
}

TEST(server_options, header_adds_fields_unless_the_response_has_them)
{
    static struct world world;
    world_start(&world, TCP_WITH("header", "X-Frame-Options: DENY", "header", "server:mine",
                                 "header", "content-type: text/x", "keep_alive", "50"));
    world_tcp(&world, "tcp", "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, world.tcp_eof);
    CHECK(strstr(world.text, "\r\nx-frame-options: DENY\r\n") != NULL);
    CHECK(strstr(world.text, "\r\nserver: mine\r\n") != NULL);
    CHECK(strstr(world.text, "pronghorn") == NULL);
    CHECK(strstr(world.text, "\r\ndate: ") != NULL);
    CHECK(strstr(world.text, "text/x") == NULL);
    world_stop(&world);
}

TEST(server_options, header_takes_fields_that_frame_nothing)
{
    static const char *const bad[] = {"x-a",
                                      "x a: b",
                                      ": b",
                                      "x-a: b\r\nx-b: c",
                                      "content-length: 3",
                                      "Connection: x",
                                      "trailer: x-",
                                      "transfer-encoding: chunked"};
    static const char *const good[] = {
        "x-a:", "X-A: b: c", "date: never",
        "a-name-that-is-longer-than-sixty-three-characters-which-few-people-need: x"};
    ph_config *config = ph_config_new();
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++)
        CHECK_INT(ph_config_set(config, "header", bad[i]), ==, PH_E_CONFIG);
    for (size_t i = 0; i < PH_COUNT_OF(good); i++)
        CHECK_INT(ph_config_set(config, "header", good[i]), ==, PH_OK);
    ph_config_free(config);
}

TEST(server_options, keep_alive_ends_idle_connections)
{
    static struct world world;
    world_start(&world, TCP_WITH("keep_alive", "50"));
    world_tcp(&world, "tcp", "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, world.tcp_eof);
    CHECK(strstr(world.text, "hello") != NULL);
    CHECK(strstr(world.text, "connection: close") == NULL);
    world_stop(&world);
}

/* --- Counters --- */

TEST(server_counters, every_accepted_connection_is_counted_when_it_closes)
{
    static struct world world;
    struct client client;
    world_start(&world, WITH("insecure_bind", "127.0.0.1:0"));
    world_connect(&world, &client);
    CHECK_INT(world_stats(&world).conns_accepted, ==, 1);
    CHECK_INT(world_stats(&world).conns_closed, ==, 0);
    client_close(&client, PH_H3_NO_ERROR);
    WORLD_UNTIL(&world, world_stats(&world).conns_closed == 1);
    world_tcp(&world, "tcp", "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, strstr(world.text, "hello") != NULL);
    CHECK_INT(world_stats(&world).conns_accepted, ==, 2);
    CHECK_INT(world_stats(&world).conns_closed, ==, 1);
    world_tcp_close(&world);
    WORLD_UNTIL(&world, world_stats(&world).conns_closed == 2);
    world_stop(&world);
}

/* Twenty lines are there before anybody can take one; the ring holds eight. */
TEST(server_counters, log_lines_without_room_are_counted)
{
    enum { LINES = 20, SLOTS = 8 };
    static struct world world;
    const char *options[2 * LINES + 5] = {"bind", "127.0.0.1:0", "ring_slots", "8"};
    for (int i = 0; i < LINES; i++) {
        options[4 + 2 * i] = "alpn";
        options[5 + 2 * i] = "h3";
    }
    world_start(&world, options);
    WORLD_UNTIL(&world, world.logs == SLOTS);
    CHECK_INT(world_stats(&world).log_dropped, ==, LINES - SLOTS);
    world_stop(&world);
}

/* Each step of the world lies down once: after the last event. */
TEST(server_counters, one_bell_at_most_for_each_sleep)
{
    enum { STREAMS = 200 };
    static struct world world;
    struct client client;
    world_start(&world, WITH("log_level", "error"));
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    uint64_t before = world_stats(&world).bells_up, steps = 0;
    for (int i = 0; i < STREAMS; i++)
        client_write(client_open(session, true), "abc", 3, true);
    size_t done = 0;
    WORLD_UNTIL(&world, ({
        steps++;
        done = 0;
        for (size_t i = 0; i < world.chans_n; i++)
            done += world.chans[i]->closed;
        done == STREAMS;
    }));
    CHECK_INT(world_stats(&world).bells_up, >, before);
    CHECK_INT(world_stats(&world).bells_up - before, <=, steps);
    /* The thread may have been awake at each of our words: sooner or later it sleeps at one. */
    struct ph_chan *chan = world_last(&world, PH_CHAN_WT_SESSION)->chan;
    WORLD_UNTIL(&world, ({
        CHECK_INT(ph_chan_send_datagram(chan, ph_buf_copy("x", 1), 0), ==, 0);
        ph_server_flush(world.server);
        world_stats(&world).bells_down > 0;
    }));
    world_stop(&world);
}
