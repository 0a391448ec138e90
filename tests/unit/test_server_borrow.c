/* test_server_borrow.c - what the application's thread does of the I/O thread's work while that one
 * sleeps: when it does, and when it wakes it instead. */
#include "world.h"

#include "../../src/core/core.h"

#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#define ASK "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

struct borrowing {
    struct world world;
    ph_chan *chan; /* a request that nobody has answered */
};

/* A request came, and the I/O thread has gone to sleep over it. */
static void setup(struct borrowing *test, const char *const *options)
{
    struct ph_server *server;
    ph_event event = {.kind = PH_EVENT_LOG};
    world_start(&test->world, options);
    server = test->world.server;
    world_tcp(&test->world, "tcp", ASK);
    while (event.kind != PH_EVENT_REQUEST) {
        struct pollfd wait = {.fd = ph_server_fd(server), .events = POLLIN};
        CHECK_INT(poll(&wait, 1, 20000), ==, 1);
        while (event.kind != PH_EVENT_REQUEST && ph_server_next(server, &event) == 1)
            ph_buf_unref(event.buf);
    }
    test->chan = event.chan;
    while (ph_server_next(server, &event) == 1) /* until the consumer sleeps as well */
        ph_buf_unref(event.buf);
    uint64_t deadline = ph_clock_now() + 20 * PH_SEC;
    for (bool asleep = false; !asleep;) {
        CHECK_INT(ph_clock_now(), <, deadline);
        sched_yield();
        pthread_mutex_lock(&server->turn);
        asleep = server->may_borrow && ph_ring_is_asleep(&server->pipe.down);
        pthread_mutex_unlock(&server->turn);
    }
}

/* Says an answer of which everything together weighs as much, and takes it at the client. */
static void answer(struct borrowing *test, size_t weight)
{
    struct ph_server *server = test->world.server;
    CHECK_INT(ph_chan_respond(test->chan, 200, NULL, 0, false), ==, 0);
    size_t n = weight - server->pipe.app.weight - 2 * PH_BORROW_COMMAND; /* WRITE and RELEASE */
    struct ph_buf *body = ph_buf_new(n);
    memset(ph_buf_data(body), 'x', n);
    ph_buf_set_len(body, n);
    CHECK_INT(ph_chan_write(test->chan, body, true), ==, 0);
    ph_chan_release(test->chan);
    CHECK_INT(server->pipe.app.weight, ==, weight);
    ph_server_flush(server);
    static char got[4 * PH_BORROW_MAX];
    size_t len = 0;
    const char *start = NULL;
    while (start == NULL || len < (size_t)(start - got) + n) {
        ssize_t k = recv(test->world.tcp, got + len, sizeof(got) - 1 - len, 0);
        CHECK_INT(k, >, 0);
        len += (size_t)k;
        got[len] = '\0';
        start = strstr(got, "\r\n\r\nx");
        start = start != NULL ? start + 4 : NULL;
    }
    CHECK_INT(len, ==, (size_t)(start - got) + n);
}

TEST(server, a_short_answer_is_written_by_the_thread_that_says_it)
{
    static struct borrowing test;
    setup(&test, (const char *const[]){"bind", "127.0.0.1:0", NULL});
    answer(&test, PH_BORROW_MAX);
    CHECK_INT(world_stats(&test.world).turns_borrowed, ==, 1);
    world_stop(&test.world);
}

TEST(server, a_longer_answer_wakes_the_io_thread)
{
    static struct borrowing test;
    setup(&test, (const char *const[]){"bind", "127.0.0.1:0", NULL});
    uint64_t bells = world_stats(&test.world).bells_down;
    answer(&test, PH_BORROW_MAX + 1);
    CHECK_INT(world_stats(&test.world).turns_borrowed, ==, 0);
    CHECK_INT(world_stats(&test.world).bells_down, ==, bells + 1);
    world_stop(&test.world);
}

/* So many times in a row, and the rest is not over. */
static uint64_t borrowed_after(unsigned run)
{
    static struct borrowing test;
    setup(&test, (const char *const[]){"bind", "127.0.0.1:0", NULL});
    pthread_mutex_lock(&test.world.server->turn);
    test.world.server->borrow_after = PH_NEVER;
    test.world.server->borrowed_run = run;
    pthread_mutex_unlock(&test.world.server->turn);
    answer(&test, 8192);
    uint64_t borrowed = world_stats(&test.world).turns_borrowed;
    world_stop(&test.world);
    return borrowed;
}

TEST(server, who_borrowed_too_often_wakes_the_io_thread)
{
    CHECK_INT(borrowed_after(PH_BORROW_RUN - 1), ==, 1);
    CHECK_INT(borrowed_after(PH_BORROW_RUN), ==, 0);
}

/* The keep-alive timeout is nearer than anything that the I/O thread sleeps for: it is woken, and
 * closes in time. */
TEST(server, a_timer_set_in_a_borrowed_turn_fires)
{
    static struct borrowing test;
    char byte;
    setup(&test, (const char *const[]){"bind", "127.0.0.1:0", "keep_alive", "50", NULL});
    answer(&test, 8192);
    CHECK_INT(recv(test.world.tcp, &byte, 1, 0), ==, 0);
    CHECK_INT(world_stats(&test.world).turns_borrowed, ==, 1);
    world_stop(&test.world);
}

TEST(server, quic_is_written_by_the_io_thread)
{
    static struct world world;
    static struct client client;
    world_start(&world, (const char *const[]){"quic_bind", "127.0.0.1:0", NULL});
    world_connect(&world, &client);
    for (int i = 0; i < 20; i++) {
        struct client_request *request = client_request(&client, "GET", "/hello", NULL, 0);
        WORLD_UNTIL(&world, request->closed);
        CHECK_INT(request->status, ==, 200);
    }
    CHECK_INT(world_stats(&world).turns_borrowed, ==, 0);
    world_stop(&world);
}
