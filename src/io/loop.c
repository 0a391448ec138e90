/*
 * loop.c - epoll and timers for the I/O thread.
 *
 * The bottom of each turn: ph_loop_wait() sleeps, ph_loop_dispatch() calls on_ready of what is
 * ready; timers run apart, when the turn says so. Level-triggered, so that a reader may stop at its
 * budget and be called again. Invariants:
 * - a watch that was removed is not called again, not even for an event that was already fetched,
 *   and neither is one that was put in its place: `since` tells, and its memory stays until the
 *   turn's end;
 * - ph_loop_wait() touches the batch and nothing else, so a second thread may use the rest
 * meanwhile;
 * - a watch is only told of what it is interested in now, hang-ups excepted;
 * - heap[1] is the earliest timer, heap[timer->slot] points back to its timer; what is set to the
 * past during a run fires in the next one, so that no timer can hold the turn.
 */
#include "io.h"

#include <errno.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

/* Events fetched with one call; what is left comes first with the next one. */
#define PH_LOOP_BATCH 128

struct timer_node {
    uint64_t at; /* copy of timer->at: sifting stays in the array */
    struct ph_timer *timer;
};

struct ph_loop { /* io */
    int epoll;
    bool no_pwait2; /* the kernel (or its filter) refused epoll_pwait2: milliseconds then */
    int ready_n;    /* events in the batch */
    struct epoll_event batch[PH_LOOP_BATCH];
    struct timer_node *heap; /* 1-based */
    size_t heap_n, heap_cap;
    uint64_t round;  /* of dispatching */
    uint64_t firing; /* ns: the time of the run at hand, 0 outside */
};

/* --- Descriptors --- */

struct ph_loop *ph_loop_new(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        return NULL;
    struct ph_loop *loop = ph_alloc(sizeof(*loop));
    loop->epoll = epoll;
    return loop;
}

void ph_loop_free(struct ph_loop *loop)
{
    if (loop == NULL)
        return;
    close(loop->epoll);
    ph_free(loop->heap);
    ph_free(loop);
}

static struct epoll_event event_of(struct ph_watch *watch, unsigned interest)
{
    struct epoll_event event = {.events = 0, .data.ptr = watch};
    if (interest & PH_IO_READ)
        event.events |= EPOLLIN;
    if (interest & PH_IO_WRITE)
        event.events |= EPOLLOUT;
    return event;
}

int ph_loop_watch(struct ph_loop *loop, struct ph_watch *watch, unsigned interest)
{
    struct epoll_event event = event_of(watch, interest);
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, watch->fd, &event) != 0)
        return PH_E_IO;
    watch->interest = interest;
    watch->since = loop->round;
    return PH_OK;
}

void ph_loop_interest(struct ph_loop *loop, struct ph_watch *watch, unsigned interest)
{
    if (watch->interest == interest)
        return;
    struct epoll_event event = event_of(watch, interest);
    PH_ASSERT(epoll_ctl(loop->epoll, EPOLL_CTL_MOD, watch->fd, &event) == 0);
    watch->interest = interest;
}

void ph_loop_unwatch(struct ph_loop *loop, struct ph_watch *watch)
{
    PH_ASSERT(epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL) == 0);
    watch->interest = 0;
    watch->since = PH_NEVER;
}

static int fetch_coarse(struct ph_loop *loop, uint64_t wait)
{
    int timeout = -1;
    if (wait != PH_NEVER) {
        /* Rounded up: waking too early would spin until the deadline. */
        uint64_t ms = wait / PH_MSEC + (wait % PH_MSEC != 0);
        timeout = (int)PH_MIN(ms, (uint64_t)INT32_MAX);
    }
    return epoll_wait(loop->epoll, loop->batch, PH_LOOP_BATCH, timeout);
}

/* Pacing wants better than milliseconds, hence epoll_pwait2 (Linux 5.11). */
static int fetch(struct ph_loop *loop, uint64_t wait)
{
    if (loop->no_pwait2)
        return fetch_coarse(loop, wait);
    struct timespec ts = {
        .tv_sec = (time_t)(wait / PH_SEC),
        .tv_nsec = (long)(wait % PH_SEC),
    };
    int n =
        epoll_pwait2(loop->epoll, loop->batch, PH_LOOP_BATCH, wait == PH_NEVER ? NULL : &ts, NULL);
    if (n >= 0 || (errno != ENOSYS && errno != EPERM))
        return n;
    loop->no_pwait2 = true;
    return fetch_coarse(loop, wait);
}

void ph_loop_wait(struct ph_loop *loop, uint64_t now, uint64_t deadline)
{
    uint64_t wait = PH_NEVER;
    if (deadline != PH_NEVER)
        wait = deadline > now ? deadline - now : 0;
    loop->ready_n = fetch(loop, wait);
    PH_ASSERT(loop->ready_n >= 0 || errno == EINTR);
}

void ph_loop_dispatch(struct ph_loop *loop)
{
    loop->round++;
    for (int i = 0; i < loop->ready_n; i++) {
        const struct epoll_event *event = &loop->batch[i];
        struct ph_watch *watch = event->data.ptr;
        if (watch->since >= loop->round)
            continue;
        unsigned ready = 0;
        if (event->events & (EPOLLHUP | EPOLLERR))
            ready |= PH_IO_HANGUP | watch->interest; /* reading or writing tells which error */
        if (event->events & EPOLLIN)
            ready |= PH_IO_READ & watch->interest;
        if (event->events & EPOLLOUT)
            ready |= PH_IO_WRITE & watch->interest;
        if (ready != 0)
            watch->on_ready(watch, ready);
    }
    loop->ready_n = 0;
}

/* --- Timers --- */

static void heap_place(struct ph_loop *loop, size_t slot, struct timer_node node)
{
    loop->heap[slot] = node;
    node.timer->slot = slot;
}

static void heap_up(struct ph_loop *loop, size_t slot, struct timer_node node)
{
    for (; slot > 1 && loop->heap[slot / 2].at > node.at; slot /= 2)
        heap_place(loop, slot, loop->heap[slot / 2]);
    heap_place(loop, slot, node);
}

static void heap_down(struct ph_loop *loop, size_t slot, struct timer_node node)
{
    for (size_t child = slot * 2; child <= loop->heap_n; child = slot * 2) {
        if (child < loop->heap_n && loop->heap[child + 1].at < loop->heap[child].at)
            child++;
        if (loop->heap[child].at >= node.at)
            break;
        heap_place(loop, slot, loop->heap[child]);
        slot = child;
    }
    heap_place(loop, slot, node);
}

/* Puts a node where the one at `slot` was. */
static void heap_replace(struct ph_loop *loop, size_t slot, struct timer_node node)
{
    if (slot > 1 && loop->heap[slot / 2].at > node.at)
        heap_up(loop, slot, node);
    else
        heap_down(loop, slot, node);
}

void ph_loop_timer_set(struct ph_loop *loop, struct ph_timer *timer, uint64_t at)
{
    if (at == PH_NEVER) {
        ph_loop_timer_cancel(loop, timer);
        return;
    }
    if (loop->firing != 0 && at <= loop->firing)
        at = loop->firing + 1;
    struct timer_node node = {.at = at, .timer = timer};
    timer->at = at;
    if (timer->slot != 0) {
        heap_replace(loop, timer->slot, node);
        return;
    }
    loop->heap_n++;
    if (loop->heap_n >= loop->heap_cap) {
        loop->heap_cap = PH_MAX(loop->heap_cap * 2, (size_t)64);
        loop->heap = ph_realloc(loop->heap, loop->heap_cap * sizeof(*loop->heap));
    }
    heap_up(loop, loop->heap_n, node);
}

void ph_loop_timer_cancel(struct ph_loop *loop, struct ph_timer *timer)
{
    size_t slot = timer->slot;
    if (slot == 0)
        return;
    PH_ASSERT(slot <= loop->heap_n && loop->heap[slot].timer == timer);
    timer->slot = 0;
    struct timer_node last = loop->heap[loop->heap_n--];
    if (last.timer != timer)
        heap_replace(loop, slot, last);
}

uint64_t ph_loop_timer_next(const struct ph_loop *loop)
{
    return loop->heap_n > 0 ? loop->heap[1].at : PH_NEVER;
}

void ph_loop_timers_run(struct ph_loop *loop, uint64_t now)
{
    loop->firing = now;
    while (loop->heap_n > 0 && loop->heap[1].at <= now) {
        struct ph_timer *timer = loop->heap[1].timer;
        ph_loop_timer_cancel(loop, timer);
        timer->on_fire(timer, now);
    }
    loop->firing = 0;
}
