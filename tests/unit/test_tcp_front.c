/* test_tcp_front.c - how TCP connections of a real server begin (HTTP/2) and end: half-closed by
 * the client, cut by the application, gone. */
#include "fault.h"
#include "world.h"

#include <sys/socket.h>

#define TCP_ONLY ((const char *const[]){"bind", "127.0.0.1:0", NULL})

static void answer(struct world_chan *note, const char *text, bool fin)
{
    CHECK_INT(ph_chan_respond(note->chan, 200, NULL, 0, false), ==, 0);
    CHECK_INT(ph_chan_write(note->chan, ph_buf_copy(text, strlen(text)), fin), ==, 0);
    ph_server_flush(note->world->server);
}

TEST(tcp_front, client_that_said_all_gets_its_answer_after_its_fin)
{
    static const char *const requests[] = {
        "GET /wait HTTP/1.0\r\n\r\n",
        "GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    };
    static struct world world;
    world_start(&world, TCP_ONLY);
    for (size_t i = 0; i < PH_COUNT_OF(requests); i++) {
        world_tcp(&world, "tcp", requests[i]);
        CHECK_INT(shutdown(world.tcp, SHUT_WR), ==, 0);
        WORLD_UNTIL(&world, world.chans_n == i + 1 && world.chans[i]->fin);
        for (int k = 0; k < 20; k++)
            world_step(&world);
        CHECK(!world.chans[i]->closed);
        answer(world.chans[i], "late", true);
        WORLD_UNTIL(&world, world.tcp_eof || world.tcp_reset);
        CHECK(world.tcp_eof && strstr(world.text, "\r\n\r\nlate") != NULL);
        WORLD_UNTIL(&world, world.chans[i]->closed);
        CHECK(world.chans[i]->clean);
    }
    world_stop(&world);
}

TEST(tcp_front, fin_of_a_client_that_keeps_its_connection_is_its_departure)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp", "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, world.chans_n == 1);
    CHECK_INT(shutdown(world.tcp, SHUT_WR), ==, 0);
    WORLD_UNTIL(&world, world.chans[0]->closed);
    CHECK(!world.chans[0]->clean);
    world_stop(&world);
}

#define ASK                                                                                        \
    "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                 \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

/* A client asks for a WebSocket and sends a frame; the application does not answer. */
static void start_early(struct world *world)
{
    world_start(world, TCP_ONLY);
    world->silent = true;
    world_tcp(world, "tcp", ASK);
    world_tcp_send(world, "\x81\x82\0\0\0\0hi", 8);
}

/* They wait for the application, and the I/O thread does not try them again and again. */
TEST(tcp_front, frames_before_the_answer_to_their_handshake_wait)
{
    static struct world world;
    start_early(&world);
    WORLD_UNTIL(&world, world.chans_n == 1);
    for (int k = 0; k < 5; k++) /* the frame is there by then, and a spin has long begun */
        world_step(&world);
    long before = fault_waits();
    for (int k = 0; k < 5; k++)
        world_step(&world);
    CHECK_INT(fault_waits() - before, <, 50);
    CHECK_INT(ph_chan_accept(world.chans[0]->chan, NULL, 0, NULL), ==, 0);
    WORLD_UNTIL(&world, memmem(world.text, world.text_len, "\x81\x02hi", 4) != NULL);
    world_stop(&world);
}

TEST(tcp_front, fin_behind_frames_that_wait_is_noticed)
{
    static struct world world;
    start_early(&world);
    CHECK_INT(shutdown(world.tcp, SHUT_WR), ==, 0);
    WORLD_UNTIL(&world, world.chans_n == 1 && world.chans[0]->closed);
    CHECK(!world.chans[0]->clean);
    world_stop(&world);
}

TEST(tcp_front, client_that_left_shows_at_the_next_write)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp", "GET /wait HTTP/1.0\r\n\r\n");
    WORLD_UNTIL(&world, world.chans_n == 1);
    world_tcp_close(&world);
    answer(world.chans[0], "a", false);
    WORLD_UNTIL(&world, ({
        if (!world.chans[0]->closed) {
            ph_chan_write(world.chans[0]->chan, ph_buf_copy("b", 1), false);
            ph_server_flush(world.server);
        }
        world.chans[0]->closed;
    }));
    CHECK(!world.chans[0]->clean);
    world_stop(&world);
}

/* Nobody knows whether it will ever say anything; who began a moment ago is given that moment. */
TEST(tcp_front, drain_does_not_wait_for_a_connection_that_says_nothing)
{
    static struct world world;
    for (int is_tls = 0; is_tls < 2; is_tls++) {
        world_start(&world,
                    (const char *const[]){"bind", "127.0.0.1:0", "insecure_bind", "127.0.0.1:0",
                                          "certfile", "cert", "h2c", "on", "handshake_timeout",
                                          "3600000", "header_timeout", "3600000", NULL});
        world_tcp(&world, is_tls ? "tls" : "tcp", "");
        WORLD_UNTIL(&world, world_stats(&world).conns_accepted == 1);
        ph_server_drain(world.server, 3600000);
        WORLD_UNTIL(&world, world.stopped);
        CHECK_INT(world_stats(&world).timeouts_handshake, ==, 0);
        world_stop(&world);
    }
}

TEST(tcp_front, cut_response_leaves_the_one_before_it_whole)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp",
              "GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET /cut-open HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, world.chans_n == 2);
    for (int k = 0; k < 20; k++)
        world_step(&world);
    CHECK(!world.chans[0]->closed && !world.tcp_eof && world.text_len == 0);
    answer(world.chans[0], "slow", true);
    WORLD_UNTIL(&world, world.tcp_eof || world.tcp_reset);
    CHECK(world.tcp_eof);
    CHECK(strstr(world.text, "\r\n\r\nslowHTTP/1.1 200 OK\r\n") != NULL);
    CHECK(strstr(world.text, "5\r\nbegin\r\n") != NULL);
    CHECK(strstr(world.text, "\r\n0\r\n") == NULL);
    WORLD_UNTIL(&world, world.chans[0]->closed);
    CHECK(world.chans[0]->clean);
    world_stop(&world);
}

/* More than the server keeps unread (64 KiB) waits in the socket, with nothing else to wake it. */
TEST(tcp_front, pipelined_requests_beyond_what_is_kept_go_on)
{
    static struct world world;
    enum { REQUESTS = 300 };
    char one[1100];
    int n = snprintf(one, sizeof(one), "GET /hello HTTP/1.1\r\nHost: a\r\nX: %01000d\r\n\r\n", 0);
    for (int ahead = 1; ahead <= 16; ahead += 15) {
        char text[8];
        snprintf(text, sizeof(text), "%d", ahead);
        world_start(&world,
                    (const char *const[]){"bind", "127.0.0.1:0", "pipelined_max", text, NULL});
        world_tcp(&world, "tcp", one);
        for (int i = 1; i < REQUESTS; i++)
            world_tcp_send(&world, one, (size_t)n);
        size_t seen = 0, at = 0;
        WORLD_UNTIL(&world, ({
            for (char *p; (p = strstr(world.text + at, "hello")) != NULL; seen++)
                at = (size_t)(p - world.text) + 5;
            seen == REQUESTS;
        }));
        world_stop(&world);
    }
}

/* --- HTTP/2 --- */

/* The preface, SETTINGS, and GET http://h/hello on stream 1. */
static const char h2_hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                               "\0\0\0\4\0\0\0\0\0"
                               "\0\0\x0d\1\5\0\0\0\1\x82\x86\x44\6/hello\x41\1h";

static bool received(const struct world *world, const char *text)
{
    return memmem(world->text, world->text_len, text, strlen(text)) != NULL;
}

TEST(tcp_front, prior_knowledge_is_known_by_its_preface_however_it_comes)
{
    static struct world world;
    for (size_t step = 1; step <= sizeof(h2_hello); step += 28) {
        world_start(&world, (const char *const[]){"bind", "127.0.0.1:0", "h2c", "on", NULL});
        world_tcp(&world, "tcp", "");
        for (size_t at = 0; at < sizeof(h2_hello) - 1; at += step) {
            world_tcp_send(&world, h2_hello + at, PH_MIN(step, sizeof(h2_hello) - 1 - at));
            world_step(&world);
        }
        WORLD_UNTIL(&world, received(&world, "hello"));
        CHECK(!received(&world, "HTTP/1.1"));
        WORLD_UNTIL(&world, world.chans[0]->closed);
        CHECK(world.chans[0]->clean);
        CHECK_INT(world_stats(&world).protocol_errors, ==, 0);
        world_stop(&world); /* with a connection that is idle */
    }
}

TEST(tcp_front, prior_knowledge_without_the_option_is_a_bad_request)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp", "");
    world_tcp_send(&world, h2_hello, sizeof(h2_hello) - 1);
    WORLD_UNTIL(&world, world.tcp_eof || world.tcp_reset);
    CHECK(received(&world, "HTTP/1.1 505 ") || received(&world, "HTTP/1.1 400 "));
    CHECK_INT(world.chans_n, ==, 0);
    world_stop(&world);
}

TEST(tcp_front, client_that_does_not_begin_is_left_in_time)
{
    static struct world world;
    world_start(&world, (const char *const[]){"bind", "127.0.0.1:0", "h2c", "on", "header_timeout",
                                              "100", NULL});
    world_tcp(&world, "tcp", "PRI * HTTP/2.0\r\n");
    WORLD_UNTIL(&world, world.tcp_eof || world.tcp_reset);
    CHECK_INT(world_stats(&world).timeouts_header, ==, 1);
    world_stop(&world);
}

/* What the engine makes at a time is less than this, and so is what a socket takes. */
TEST(tcp_front, large_response_over_http2_arrives_whole)
{
    static struct world world;
    enum { BYTES = 400000 };
    world_start(&world, (const char *const[]){"bind", "127.0.0.1:0", "h2c", "on", NULL});
    world_tcp(&world, "tcp", "");
    world_tcp_send(&world, h2_hello, sizeof(h2_hello) - 1);
    WORLD_UNTIL(&world, received(&world, "hello"));
    /* Stream and connection windows of 1 MiB more, and GET http://h/wait on stream 3. */
    static const char more[] = "\0\0\6\4\0\0\0\0\0\0\4\0\x10\0\0"
                               "\0\0\4\x8\0\0\0\0\0\0\x10\0\0"
                               "\0\0\x0c\1\5\0\0\0\3\x82\x86\x44\5/wait\x41\1h";
    world_tcp_send(&world, more, sizeof(more) - 1);
    WORLD_UNTIL(&world, world.chans_n == 2);
    struct ph_buf *buf = ph_buf_new(BYTES);
    memset(buf->data, 'w', BYTES);
    ph_buf_set_len(buf, BYTES);
    size_t before = world.text_len;
    CHECK_INT(ph_chan_respond(world.chans[1]->chan, 200, NULL, 0, false), ==, 0);
    CHECK_INT(ph_chan_write(world.chans[1]->chan, buf, true), ==, 0);
    ph_server_flush(world.server);
    WORLD_UNTIL(&world, world.chans[1]->closed);
    CHECK(world.chans[1]->clean);
    WORLD_UNTIL(&world, world.text_len >= before + BYTES + 9 * (BYTES / 16384 + 1));
    world_stop(&world);
}
