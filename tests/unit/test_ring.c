/* test_ring.c - the SPSC ring alone and between two threads, and the promise about its bell. */
#include "test.h"

#include <poll.h>
#include <pthread.h>

static bool is_ringing(const struct ph_ring *ring)
{
    struct pollfd fd = {.fd = ring->bell, .events = POLLIN};
    return poll(&fd, 1, 0) == 1;
}

static void wait_for_bell(const struct ph_ring *ring)
{
    struct pollfd fd = {.fd = ring->bell, .events = POLLIN};
    while (poll(&fd, 1, -1) != 1)
        continue;
}

TEST(ring, full_then_drain_then_full_again)
{
    struct ph_ring ring;
    struct ph_msg msg = {.kind = 1};
    CHECK_INT(ph_ring_init(&ring, 8), ==, 0);
    for (uint64_t round = 0; round < 5; round++) {
        CHECK_INT(ph_ring_room(&ring), ==, 8);
        for (msg.a = 0; msg.a < 8; msg.a++)
            CHECK(ph_ring_push(&ring, &msg));
        CHECK(!ph_ring_push(&ring, &msg));
        CHECK_INT(ph_ring_room(&ring), ==, 0);
        ph_ring_publish(&ring);
        for (uint64_t i = 0; i < 8; i++) {
            CHECK(ph_ring_pop(&ring, &msg));
            CHECK_INT(msg.a, ==, i);
        }
        CHECK(!ph_ring_pop(&ring, &msg));
    }
    ph_ring_fini(&ring);
    ph_ring_fini(&ring); /* a second time does nothing */
}

TEST(ring, pushed_is_invisible_until_published)
{
    struct ph_ring ring;
    struct ph_msg msg = {.kind = 9, .b = 5};
    CHECK_INT(ph_ring_init(&ring, 4), ==, 0);
    CHECK(ph_ring_push(&ring, &msg));
    CHECK(!ph_ring_pop(&ring, &msg));
    CHECK(!ph_ring_publish(&ring)); /* the consumer does not sleep */
    CHECK(ph_ring_pop(&ring, &msg));
    CHECK_INT(msg.kind, ==, 9);
    CHECK_INT(msg.b, ==, 5);
    ph_ring_fini(&ring);
}

TEST(ring, bell_rings_once_a_sleep)
{
    struct ph_ring ring;
    struct ph_msg msg = {.kind = 1};
    CHECK_INT(ph_ring_init(&ring, 8), ==, 0);
    CHECK(ph_ring_sleep(&ring));
    CHECK(!ph_ring_publish(&ring)); /* nothing new */
    CHECK(!is_ringing(&ring));
    CHECK(ph_ring_push(&ring, &msg));
    CHECK(ph_ring_publish(&ring));
    CHECK(is_ringing(&ring));
    CHECK(ph_ring_push(&ring, &msg));
    CHECK(!ph_ring_publish(&ring)); /* was rung already */
    ph_ring_awake(&ring);
    CHECK(!is_ringing(&ring));
    CHECK(!ph_ring_sleep(&ring)); /* two messages are waiting */
    CHECK(ph_ring_pop(&ring, &msg) && ph_ring_pop(&ring, &msg) && !ph_ring_pop(&ring, &msg));
    CHECK(ph_ring_push(&ring, &msg));
    CHECK(!ph_ring_publish(&ring)); /* awake: no bell */
    CHECK(!is_ringing(&ring));
    ph_ring_fini(&ring);
}

TEST(ring, sleep_is_refused_when_messages_came_meanwhile)
{
    struct ph_ring ring;
    struct ph_msg msg = {.kind = 1};
    CHECK_INT(ph_ring_init(&ring, 2), ==, 0);
    CHECK(!ph_ring_pop(&ring, &msg));
    CHECK(ph_ring_push(&ring, &msg));
    ph_ring_publish(&ring);
    CHECK(!ph_ring_sleep(&ring));
    CHECK(ph_ring_push(&ring, &msg));
    CHECK(!ph_ring_publish(&ring)); /* not asleep */
    CHECK(!is_ringing(&ring));
    ph_ring_fini(&ring);
}

TEST(ring, wake_rings_in_any_case)
{
    struct ph_ring ring;
    CHECK_INT(ph_ring_init(&ring, 2), ==, 0);
    ph_ring_wake(&ring);
    ph_ring_wake(&ring);
    CHECK(is_ringing(&ring));
    ph_ring_awake(&ring);
    CHECK(!is_ringing(&ring));
    CHECK(ph_ring_sleep(&ring));
    ph_ring_wake(&ring);
    CHECK(is_ringing(&ring));
    ph_ring_awake(&ring);
    ph_ring_awake(&ring); /* woken by something else: harmless */
    ph_ring_fini(&ring);
}

TEST(ring, indices_pass_their_wrap)
{
    struct ph_ring ring;
    struct ph_msg msg = {.kind = 1};
    CHECK_INT(ph_ring_init(&ring, 4), ==, 0);
    uint32_t start = UINT32_MAX - 5;
    ring.head = ring.tail = ring.tail_local = ring.head_cached = ring.tail_cached = start;
    for (uint64_t i = 0; i < 20; i++) {
        msg.a = i;
        CHECK(ph_ring_push(&ring, &msg));
        if (i < 3)
            continue; /* three stay in flight */
        ph_ring_publish(&ring);
        CHECK(ph_ring_pop(&ring, &msg));
        CHECK_INT(msg.a, ==, i - 3);
        CHECK_INT(ph_ring_room(&ring), ==, 1);
    }
    ph_ring_fini(&ring);
}

/* --- Two threads --- */

#define CROSS_COUNT UINT64_C(1000000)

struct crossing {
    struct ph_ring there; /* producer -> consumer: the messages */
    struct ph_ring back;  /* consumer -> producer: "there is room again" */
    uint64_t bells;       /* producer: times it rang `there` */
};

/* Ends when the consumer has made room in `there`. */
static void wait_for_room(struct crossing *crossing)
{
    struct ph_msg msg;
    while (ph_ring_room(&crossing->there) == 0) {
        while (ph_ring_pop(&crossing->back, &msg))
            continue;
        if (ph_ring_room(&crossing->there) > 0 || !ph_ring_sleep(&crossing->back))
            continue;
        wait_for_bell(&crossing->back);
        ph_ring_awake(&crossing->back);
    }
}

static void *produce(void *arg)
{
    struct crossing *crossing = arg;
    for (uint64_t i = 0; i < CROSS_COUNT;) {
        struct ph_msg msg = {.kind = (uint16_t)i, .n = (uint32_t)i, .a = i, .c = ~i};
        if (!ph_ring_push(&crossing->there, &msg)) {
            crossing->bells += ph_ring_publish(&crossing->there);
            wait_for_room(crossing);
            continue;
        }
        i++;
        if (i % 61 == 0 || i == CROSS_COUNT)
            crossing->bells += ph_ring_publish(&crossing->there);
    }
    return NULL;
}

/* Pops what is there; false when a message is not the expected one. */
static bool take_all(struct crossing *crossing, uint64_t *next)
{
    struct ph_msg msg;
    while (ph_ring_pop(&crossing->there, &msg)) {
        uint64_t i = *next;
        if (msg.a != i || msg.c != ~i || msg.kind != (uint16_t)i || msg.n != (uint32_t)i)
            return false;
        ++*next;
    }
    ph_ring_push(&crossing->back, &(struct ph_msg){.kind = 1}); /* full: then it was told */
    ph_ring_publish(&crossing->back);
    return true;
}

TEST(ring, what_is_shown_rings_only_when_nudged)
{
    struct ph_ring ring;
    struct ph_msg msg = {.kind = 7};
    CHECK_INT(ph_ring_init(&ring, 4), ==, 0);
    CHECK(ph_ring_sleep(&ring));
    CHECK(ph_ring_push(&ring, &msg));
    ph_ring_show(&ring);
    CHECK(!ph_ring_publish(&ring)); /* nothing new */
    CHECK(ph_ring_nudge(&ring));
    CHECK(!ph_ring_nudge(&ring)); /* awake by now */
    ph_ring_awake(&ring);
    CHECK(ph_ring_pop(&ring, &msg) && msg.kind == 7);
    CHECK(ph_ring_sleep(&ring));
    CHECK(!ph_ring_nudge(&ring)); /* it has everything */
    ph_ring_rise(&ring);
    CHECK(ph_ring_push(&ring, &msg));
    CHECK(!ph_ring_publish(&ring)); /* nobody sleeps */
    CHECK(!ph_ring_sleep(&ring));
    ph_ring_fini(&ring);
}

TEST(ring, a_million_messages_cross_in_order_with_at_most_one_bell_a_sleep)
{
    static struct crossing crossing;
    pthread_t thread;
    uint64_t next = 0, sleeps = 0;
    bool in_order = true;
    CHECK_INT(ph_ring_init(&crossing.there, 256), ==, 0);
    CHECK_INT(ph_ring_init(&crossing.back, 4), ==, 0);
    crossing.bells = 0;
    CHECK_INT(pthread_create(&thread, NULL, produce, &crossing), ==, 0);
    while (next < CROSS_COUNT && in_order) {
        in_order = take_all(&crossing, &next);
        if (next == CROSS_COUNT)
            break;
        sleeps++;
        if (!ph_ring_sleep(&crossing.there))
            continue;
        wait_for_bell(&crossing.there);
        ph_ring_awake(&crossing.there);
    }
    if (!in_order) /* the producer waits for room that will not come */
        ph_test_fail(__FILE__, __LINE__, "message %llu is not the expected one",
                     (unsigned long long)next);
    pthread_join(thread, NULL);
    CHECK_INT(next, ==, CROSS_COUNT);
    CHECK_INT(crossing.bells, <=, sleeps);
    CHECK(!ph_ring_pop(&crossing.there, &(struct ph_msg){.kind = 0}));
    ph_ring_fini(&crossing.there);
    ph_ring_fini(&crossing.back);
}
