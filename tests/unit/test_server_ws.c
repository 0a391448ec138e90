/* test_server_ws.c - WebSocket against a whole server with both its threads, over raw TCP: what the
 * application in C sees of it, and what a drain does. */
#include "world.h"

#define TCP_ONLY ((const char *const[]){"bind", "127.0.0.1:0", NULL})
#define SMALL_RING ((const char *const[]){"bind", "127.0.0.1:0", "ring_slots", "8", NULL})
#define ASK                                                                                        \
    "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                 \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define KEY0 "\0\0\0\0" /* a mask of zeros: payloads are legible */
#define SAY(world, bytes) world_tcp_send(world, bytes, sizeof(bytes) - 1)
#define HAS(world, bytes) has_behind_head(world, bytes, sizeof(bytes) - 1)

/* Whether exactly this came behind the head. */
static bool has_behind_head(const struct world *world, const char *want, size_t n)
{
    const char *end = memmem(world->text, world->text_len, "\r\n\r\n", 4);
    if (end == NULL)
        return false;
    end += 4;
    return world->text_len - (size_t)(end - world->text) == n && memcmp(end, want, n) == 0;
}

TEST(server_ws, echo_and_the_peers_close)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp", ASK);
    WORLD_UNTIL(&world, strstr(world.text, "\r\n\r\n") != NULL);
    CHECK(strncmp(world.text, "HTTP/1.1 101 Switching Protocols\r\n", 34) == 0);
    CHECK(strstr(world.text, "\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") != NULL);
    SAY(&world, "\x81\x85" KEY0 "hello\x02\x81" KEY0 "a\x89\x81" KEY0 "p\x80\x81" KEY0 "b");
    WORLD_UNTIL(&world, HAS(&world, "\x81\x05hello\x8a\x01p\x82\x02"
                                    "ab") ||
                            HAS(&world, "\x8a\x01p\x81\x05hello\x82\x02"
                                        "ab"));
    const struct world_chan *chan = world_last(&world, PH_CHAN_WEBSOCKET);
    CHECK_INT(chan->received, ==, 7);
    SAY(&world, "\x88\x85" KEY0 "\x0f\xa0"
                "bye");
    WORLD_UNTIL(&world, world.tcp_eof && chan->closed);
    CHECK(chan->clean && !chan->local);
    CHECK_INT(chan->code, ==, 4000);
    CHECK_STR(chan->reason, "bye");
    CHECK(memmem(world.text, world.text_len, "\x88\x05\x0f\xa0", 4) != NULL);
    CHECK_INT(world_stats(&world).sockets, ==, 1);
    CHECK_INT(world_stats(&world).messages_in, ==, 2);
    CHECK_INT(world_stats(&world).messages_out, ==, 2);
    world_stop(&world);
}

/* Rings of eight slots are full all the time: nothing is lost, nothing overtakes. */
TEST(server_ws, through_the_smallest_rings)
{
    static struct world world;
    world_start(&world, SMALL_RING);
    world_tcp(&world, "tcp", ASK);
    char frames[200 * 8], want[200 * 4];
    for (size_t i = 0; i < 200; i++) {
        memcpy(frames + 8 * i, "\x82\x82" KEY0, 6);
        frames[8 * i + 6] = want[4 * i + 2] = (char)i;
        frames[8 * i + 7] = want[4 * i + 3] = (char)(i * 7);
        memcpy(want + 4 * i, "\x82\x02", 2);
    }
    world_tcp_send(&world, frames, sizeof(frames));
    WORLD_UNTIL(&world, has_behind_head(&world, want, sizeof(want)));
    world_tcp_close(&world);
    const struct world_chan *chan = world_last(&world, PH_CHAN_WEBSOCKET);
    WORLD_UNTIL(&world, chan->closed);
    CHECK_INT(chan->code, ==, 1006);
    CHECK(!chan->clean);
    world_stop(&world);
}

TEST(server_ws, an_unanswered_one_whose_client_leaves)
{
    static struct world world;
    world.silent = true;
    world_start(&world, TCP_ONLY);
    world.silent = true;
    world_tcp(&world, "tcp", ASK);
    WORLD_UNTIL(&world, world.chans_n == 1);
    world_tcp_close(&world);
    WORLD_UNTIL(&world, world.chans[0]->closed);
    CHECK_INT(world.chans[0]->code, ==, 1006);
    world.silent = false;
    world_stop(&world);
}

TEST(server_ws, released_without_a_close_it_is_cut)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp", ASK);
    WORLD_UNTIL(&world, strstr(world.text, "\r\n\r\n") != NULL);
    world_release(world.chans[0]);
    WORLD_UNTIL(&world, world.tcp_eof || world.tcp_reset);
    CHECK(world.tcp_reset);
    world_stop(&world);
}

TEST(server_ws, a_drain_closes_with_1001_and_ends)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp", ASK);
    WORLD_UNTIL(&world, strstr(world.text, "\r\n\r\n") != NULL);
    const struct world_chan *chan = world_last(&world, PH_CHAN_WEBSOCKET);
    ph_server_drain(world.server, 60000);
    WORLD_UNTIL(&world, HAS(&world, "\x88\x0c\x03\xe9going away"));
    WORLD_UNTIL(&world, chan->closed);
    CHECK_INT(chan->code, ==, 1001);
    CHECK(chan->local);
    SAY(&world, "\x88\x82" KEY0 "\x03\xe9");
    WORLD_UNTIL(&world, world.stopped);
    world_stop(&world);
}

TEST(server_ws, off_it_is_a_request)
{
    static struct world world;
    world_start(&world, (const char *const[]){"bind", "127.0.0.1:0", "websocket", "off", NULL});
    world_tcp(
        &world, "tcp",
        "GET /hello HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    WORLD_UNTIL(&world, strstr(world.text, "\r\n\r\nhello") != NULL);
    CHECK_INT(world_stats(&world).sockets, ==, 0);
    CHECK_INT(world_stats(&world).requests, ==, 1);
    world_stop(&world);
}
