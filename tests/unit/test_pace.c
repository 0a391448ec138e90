/* test_pace.c - least rates of request bodies in a whole server: whom they do not concern. */
#include "world.h"

#include <unistd.h>

/* A body that does not come at all is late after this long, ms. */
#define GRACE "200"

#define HELLO "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define POST_BYTES "\0\0\x14\1\4\0\0\0\1\x83\x86\4\x0d/bytes/200000\1\1h"
#define WINDOWS "\0\0\4\x08\0\0\0\0\0\0\3\x0d\x40\0\0\4\x08\0\0\0\0\1\0\3\x0d\x40"

/* A response that is complete, and waits for a window of its reader, is not cut because the rest of
 * its request does not come. The second request, which began later, is the clock. */
TEST(pace, late_body_does_not_cut_a_complete_response)
{
    enum { SIZE = 200000 };
    static struct world world;
    static char data[65536];
    world_start(&world, (const char *const[]){"insecure_bind", "127.0.0.1:0", "h2c", "on",
                                              "body_rate_grace", GRACE, NULL});
    struct ph_addr addr = world_addr(&world, "tcp");
    int slow = socket(addr.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(slow, &addr.u.sa, addr.len) == 0);
    CHECK_INT(send(slow, HELLO POST_BYTES, sizeof(HELLO POST_BYTES) - 1, 0), >, 0);
    WORLD_UNTIL(&world, world.chans_n == 1 && world.chans[0]->written == SIZE);
    world_tcp(&world, "tcp", "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    WORLD_UNTIL(&world, strstr(world.text, "HTTP/1.1 408 ") != NULL);
    CHECK_INT(world_stats(&world).timeouts_body_rate, ==, 1);
    CHECK(!world.chans[0]->closed);
    CHECK_INT(send(slow, WINDOWS, sizeof(WINDOWS) - 1, 0), ==, sizeof(WINDOWS) - 1);
    size_t got = 0;
    WORLD_UNTIL(&world, ({
        ssize_t n = recv(slow, data, sizeof(data), MSG_DONTWAIT);
        got += n > 0 ? (size_t)n : 0;
        got > SIZE &&world.chans[0]->closed;
    }));
    CHECK(world.chans[0]->clean);
    close(slow);
    world_stop(&world);
}
