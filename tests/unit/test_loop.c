/* test_loop.c - watches that change each other, and timers against a model. */
#include "test.h"

#include "../../src/io/io.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* --- Watches --- */

struct probe {
    struct ph_watch watch;
    struct ph_loop *loop;
    int calls;
    unsigned ready;       /* of the last call */
    struct probe *victim; /* unwatched by the first call, closed and re-opened when `reopen` */
    bool reopen;
};

static void poll_loop(struct ph_loop *loop, uint64_t now, uint64_t deadline)
{
    ph_loop_wait(loop, now, deadline);
    ph_loop_dispatch(loop);
}

static void set_ready(int fd)
{
    CHECK_INT(eventfd_write(fd, 1), ==, 0);
}

static void probe_ready(struct ph_watch *watch, unsigned ready)
{
    struct probe *probe = PH_CONTAINER(watch, struct probe, watch);
    struct probe *victim = probe->victim;
    probe->calls++;
    probe->ready = ready;
    probe->victim = NULL;
    if (victim == NULL)
        return;
    ph_loop_unwatch(probe->loop, &victim->watch);
    if (!victim->reopen)
        return;
    close(victim->watch.fd);
    victim->watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); /* gets the same number */
    ph_loop_watch(probe->loop, &victim->watch, PH_IO_READ);
}

static void probe_open(struct probe *probe, struct ph_loop *loop)
{
    *probe = (struct probe){.loop = loop};
    probe->watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    probe->watch.on_ready = probe_ready;
    CHECK_INT(ph_loop_watch(loop, &probe->watch, PH_IO_READ), ==, 0);
}

static void probe_close(struct probe *probe)
{
    ph_loop_unwatch(probe->loop, &probe->watch);
    close(probe->watch.fd);
}

TEST(loop, ready_descriptors_are_called_until_read)
{
    struct ph_loop *loop = ph_loop_new();
    struct probe a, b;
    eventfd_t value;
    CHECK(loop != NULL);
    probe_open(&a, loop);
    probe_open(&b, loop);
    poll_loop(loop, 1, 0);
    CHECK_INT(a.calls + b.calls, ==, 0);
    set_ready(a.watch.fd);
    poll_loop(loop, 1, PH_NEVER);
    poll_loop(loop, 1, PH_NEVER); /* level-triggered */
    CHECK_INT(a.calls, ==, 2);
    CHECK_INT(a.ready, ==, PH_IO_READ);
    CHECK_INT(b.calls, ==, 0);
    CHECK_INT(eventfd_read(a.watch.fd, &value), ==, 0);
    poll_loop(loop, 1, 1);
    CHECK_INT(a.calls, ==, 2);
    probe_close(&a);
    probe_close(&b);
    ph_loop_free(loop);
}

TEST(loop, interest_is_what_is_told)
{
    struct ph_loop *loop = ph_loop_new();
    struct probe a;
    probe_open(&a, loop);
    set_ready(a.watch.fd);
    ph_loop_interest(loop, &a.watch, 0);
    poll_loop(loop, 1, 0);
    CHECK_INT(a.calls, ==, 0);
    ph_loop_interest(loop, &a.watch, PH_IO_WRITE);
    poll_loop(loop, 1, PH_NEVER);
    CHECK_INT(a.ready, ==, PH_IO_WRITE);
    ph_loop_interest(loop, &a.watch, PH_IO_READ | PH_IO_WRITE);
    CHECK_INT(a.watch.interest, ==, PH_IO_READ | PH_IO_WRITE);
    poll_loop(loop, 1, PH_NEVER);
    CHECK_INT(a.ready, ==, PH_IO_READ | PH_IO_WRITE);
    probe_close(&a);
    ph_loop_free(loop);
}

TEST(loop, hangup_is_told_whatever_the_interest)
{
    struct ph_loop *loop = ph_loop_new();
    struct probe a;
    int pair[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), ==, 0);
    a = (struct probe){.loop = loop, .watch = {.fd = pair[0], .on_ready = probe_ready}};
    CHECK_INT(ph_loop_watch(loop, &a.watch, 0), ==, 0);
    poll_loop(loop, 1, 0);
    CHECK_INT(a.calls, ==, 0);
    close(pair[1]);
    poll_loop(loop, 1, PH_NEVER);
    CHECK_INT(a.ready, ==, PH_IO_HANGUP);
    ph_loop_interest(loop, &a.watch, PH_IO_READ);
    poll_loop(loop, 1, PH_NEVER);
    CHECK_INT(a.ready, ==, PH_IO_HANGUP | PH_IO_READ);
    probe_close(&a);
    ph_loop_free(loop);
}

/* Both are ready in one batch; whichever is called first removes the other. */
static void remove_other(bool reopen)
{
    struct ph_loop *loop = ph_loop_new();
    struct probe a, b;
    probe_open(&a, loop);
    probe_open(&b, loop);
    a.victim = &b;
    b.victim = &a;
    a.reopen = b.reopen = reopen;
    set_ready(a.watch.fd);
    set_ready(b.watch.fd);
    poll_loop(loop, 1, PH_NEVER);
    CHECK_INT(a.calls + b.calls, ==, 1);
    struct probe *gone = a.calls == 0 ? &a : &b, *left = a.calls == 0 ? &b : &a;
    poll_loop(loop, 1, 0);
    CHECK_INT(gone->calls, ==, 0);
    if (reopen) {
        set_ready(gone->watch.fd);
        poll_loop(loop, 1, PH_NEVER);
        CHECK_INT(gone->calls, ==, 1); /* the new descriptor is watched */
        ph_loop_unwatch(loop, &gone->watch);
    }
    close(gone->watch.fd);
    if (left->watch.interest != 0) /* unless the new descriptor's call removed it in turn */
        ph_loop_unwatch(loop, &left->watch);
    close(left->watch.fd);
    ph_loop_free(loop);
}

TEST(loop, removed_watch_is_not_called_in_the_same_batch)
{
    remove_other(false);
}

TEST(loop, event_of_a_closed_descriptor_does_not_reach_its_successor)
{
    remove_other(true);
}

TEST(loop, watch_may_remove_itself)
{
    struct ph_loop *loop = ph_loop_new();
    struct probe a;
    probe_open(&a, loop);
    a.victim = &a;
    set_ready(a.watch.fd);
    poll_loop(loop, 1, PH_NEVER);
    poll_loop(loop, 1, 0);
    CHECK_INT(a.calls, ==, 1);
    close(a.watch.fd);
    ph_loop_free(loop);
}

TEST(loop, watching_a_bad_descriptor_fails)
{
    struct ph_loop *loop = ph_loop_new();
    struct ph_watch watch = {.fd = -1, .on_ready = probe_ready};
    CHECK_INT(ph_loop_watch(loop, &watch, PH_IO_READ), ==, PH_E_IO);
    ph_loop_free(loop);
    ph_loop_free(NULL);
}

TEST(loop, poll_keeps_its_deadline)
{
    struct ph_loop *loop = ph_loop_new();
    uint64_t start = ph_clock_now();
    poll_loop(loop, start, start + 2 * PH_MSEC + 300000);
    CHECK(ph_clock_now() >= start + 2 * PH_MSEC + 300000);
    poll_loop(loop, start, start); /* passed: returns at once, or this test hangs */
    poll_loop(loop, start, 0);
    ph_loop_free(loop);
}

/* --- Timers --- */

#define TIMERS 300

struct alarm {
    struct ph_timer timer;
    struct ph_loop *loop;
    int fired;
    uint64_t again;       /* set anew to this time by the next firing */
    struct alarm *cancel; /* cancelled by the next firing */
};

static uint64_t last_fired_at;
static int fired_out_of_order;

static void alarm_fire(struct ph_timer *timer, uint64_t now)
{
    struct alarm *alarm = PH_CONTAINER(timer, struct alarm, timer);
    CHECK_INT(timer->slot, ==, 0);
    CHECK(timer->at <= now);
    fired_out_of_order += timer->at < last_fired_at;
    last_fired_at = timer->at;
    alarm->fired++;
    if (alarm->again != 0)
        ph_loop_timer_set(alarm->loop, timer, alarm->again);
    if (alarm->cancel != NULL)
        ph_loop_timer_cancel(alarm->loop, &alarm->cancel->timer);
}

static void run_timers(struct ph_loop *loop, uint64_t now)
{
    last_fired_at = 0;
    ph_loop_timers_run(loop, now);
}

TEST(loop, timers_agree_with_a_model_under_random_use)
{
    static struct alarm alarms[TIMERS];
    static uint64_t at[TIMERS]; /* PH_NEVER: not set */
    struct ph_loop *loop = ph_loop_new();
    unsigned seed = (unsigned)ph_test_seed();
    uint64_t now = 1000;
    memset(alarms, 0, sizeof(alarms));
    fired_out_of_order = 0;
    for (int i = 0; i < TIMERS; i++) {
        alarms[i].timer.on_fire = alarm_fire;
        at[i] = PH_NEVER;
    }
    for (int step = 0; step < 40000; step++) {
        int i = rand_r(&seed) % TIMERS, op = rand_r(&seed) % 10;
        if (op < 6) {
            at[i] = now + (uint64_t)(rand_r(&seed) % 1000);
            ph_loop_timer_set(loop, &alarms[i].timer, at[i]);
        } else if (op < 8) {
            at[i] = PH_NEVER;
            ph_loop_timer_cancel(loop, &alarms[i].timer);
        } else if (op < 9) {
            at[i] = PH_NEVER;
            ph_loop_timer_set(loop, &alarms[i].timer, PH_NEVER);
        } else {
            now += (uint64_t)(rand_r(&seed) % 100);
            run_timers(loop, now);
        }
        uint64_t next = PH_NEVER;
        for (int k = 0; op == 9 && k < TIMERS; k++) {
            bool due = at[k] <= now;
            CHECK_INT(alarms[k].fired, ==, due);
            alarms[k].fired = 0;
            at[k] = due ? PH_NEVER : at[k];
        }
        for (int k = 0; k < TIMERS; k++)
            next = PH_MIN(next, at[k]);
        CHECK(ph_loop_timer_next(loop) == next);
    }
    CHECK_INT(fired_out_of_order, ==, 0);
    ph_loop_free(loop);
}

TEST(loop, timer_set_to_the_past_fires_in_the_next_run)
{
    struct ph_loop *loop = ph_loop_new();
    struct alarm busy = {.timer = {.on_fire = alarm_fire}, .loop = loop, .again = 5};
    struct alarm other = {.timer = {.on_fire = alarm_fire}, .loop = loop};
    ph_loop_timer_set(loop, &busy.timer, 5);
    ph_loop_timer_set(loop, &other.timer, 7);
    run_timers(loop, 10);
    CHECK_INT(busy.fired, ==, 1);
    CHECK_INT(other.fired, ==, 1); /* was not starved */
    run_timers(loop, 11);
    CHECK_INT(busy.fired, ==, 2);
    ph_loop_timer_cancel(loop, &busy.timer);
    CHECK(ph_loop_timer_next(loop) == PH_NEVER);
    ph_loop_free(loop);
}

TEST(loop, timer_cancelled_by_an_earlier_one_does_not_fire)
{
    struct ph_loop *loop = ph_loop_new();
    struct alarm second = {.timer = {.on_fire = alarm_fire}, .loop = loop};
    struct alarm first = {.timer = {.on_fire = alarm_fire}, .loop = loop, .cancel = &second};
    ph_loop_timer_set(loop, &second.timer, 9);
    ph_loop_timer_set(loop, &first.timer, 8);
    run_timers(loop, 100);
    CHECK_INT(first.fired, ==, 1);
    CHECK_INT(second.fired, ==, 0);
    ph_loop_timer_cancel(loop, &second.timer);
    ph_loop_free(loop);
}

/* --- Names --- */

static bool resolves_to(const char *text, const char *want)
{
    struct ph_addr addrs[8];
    struct ph_err err;
    char one[64];
    int n = ph_resolve(addrs, PH_COUNT_OF(addrs), text, &err);
    for (int i = 0; i < n; i++) {
        if (strcmp(ph_addr_text(&addrs[i], one, sizeof(one)), want) == 0)
            return true;
    }
    return false;
}

TEST(resolve, numeric_addresses_give_themselves)
{
    struct ph_addr addrs[2];
    CHECK_INT(ph_resolve(addrs, 2, "127.0.0.1:8000", NULL), ==, 1);
    CHECK(resolves_to("127.0.0.1:8000", "127.0.0.1:8000"));
    CHECK(resolves_to("[::1]:0", "[::1]:0"));
    CHECK(resolves_to("0.0.0.0:65535", "0.0.0.0:65535"));
    CHECK(resolves_to("203.0.113.9:1", "203.0.113.9:1")); /* not ours: binding says so */
}

TEST(resolve, star_and_nothing_mean_all_addresses)
{
    struct ph_addr addrs[8];
    CHECK(resolves_to("*:80", "0.0.0.0:80"));
    CHECK(resolves_to(":443", "0.0.0.0:443"));
    int n = ph_resolve(addrs, 8, "*:80", NULL);
    CHECK_INT(n, >=, 1);
    CHECK_INT(n, <=, 2);
    CHECK_INT(addrs[0].u.sa.sa_family, ==, AF_INET);
    CHECK_INT(ph_resolve(addrs, 1, "*:80", NULL), ==, 1);
}

/* Whatever the hosts file says. */
TEST(resolve, localhost_is_every_loopback_address_that_can_be_bound)
{
    struct ph_addr addrs[8], v6;
    CHECK_INT(ph_addr_parse(&v6, "::1", 0), ==, 0);
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    bool has_v6 = fd >= 0 && bind(fd, &v6.u.sa, v6.len) == 0;
    if (fd >= 0)
        close(fd);
    CHECK_INT(ph_resolve(addrs, 8, "LocalHost:0", NULL), ==, has_v6 ? 2 : 1);
    CHECK_INT(ph_resolve(addrs, 8, "localhost.:0", NULL), ==, has_v6 ? 2 : 1);
    CHECK(resolves_to("localhost:81", "127.0.0.1:81"));
    if (has_v6)
        CHECK(resolves_to("localhost:81", "[::1]:81"));
}

TEST(resolve, bad_text_is_named_in_the_error)
{
    static const char *const bad[] = {
        "",       "127.0.0.1", "127.0.0.1:", "::1:80",          "[::1]",    "[::1]80", "[]:80",
        "[a]:80", "a:b",       "a:65536",    "a:99999",         "a:-1",     "a:+1",    "a: 1",
        "a:1 ",   "[::1:80",   "x]:80",      "no such host:80", "a:123456",
    };
    struct ph_addr addrs[2];
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++) {
        struct ph_err err = {""};
        char quoted[64];
        snprintf(quoted, sizeof(quoted), "\"%s\"", bad[i]);
        CHECK_INT(ph_resolve(addrs, 2, bad[i], &err), ==, PH_E_CONFIG);
        CHECK(strstr(err.text, quoted) != NULL);
    }
}
