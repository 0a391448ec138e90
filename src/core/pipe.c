/*
 * pipe.c - the two rings between the threads with the rules for when one is full.
 *
 *      I/O thread --up--> consumer --down--> I/O thread
 *
 * A producer that finds its ring full says so in a flag and tries once more; a consumer that made
 * room takes the flag and rings the producer's bell. Both sides put a full fence between writing
 * their word and reading the other's, so that one of them always sees the other (Dekker): nobody
 * sleeps while room and work are both there. The I/O thread never waits here: what does not fit
 * stays where it is (pending bits of channels, the home chain) for a later turn.
 */
#include "core.h"

#include <unistd.h>

int ph_pipe_init(struct ph_pipe *pipe, uint32_t slots, const struct ph_chan_limits *limits,
                 struct ph_stats *stats)
{
    int rc = ph_ring_init(&pipe->up, slots);
    if (rc < 0)
        return rc;
    rc = ph_ring_init(&pipe->down, slots);
    if (rc < 0) {
        ph_ring_fini(&pipe->up);
        return rc;
    }
    pipe->io.quiet_until = PH_NEVER;
    pipe->limits = *limits;
    pipe->stats = stats;
    ph_list_init(&pipe->io.ready);
    ph_list_init(&pipe->io.slow);
    ph_list_init(&pipe->io.chans);
    ph_list_init(&pipe->io.files);
    ph_list_init(&pipe->app.chans);
    ph_list_init(&pipe->app.credit);
    ph_list_init(&pipe->app.held);
    /* The consumer polls before its first ph_server_next(): it sleeps from the start. */
    pipe->app.asleep = ph_ring_sleep(&pipe->up);
    return 0;
}

void ph_pipe_drop_down(struct ph_msg *msg)
{
    ph_buf_unref(msg->s.buf);
    if (msg->kind == PH_DOWN_FILE)
        close((int)msg->n);
    if (msg->kind == PH_DOWN_SERVER_PEER && msg->b != UINT64_MAX)
        close((int)msg->b);
    if (msg->kind == PH_DOWN_OPEN) /* the I/O half never took the channel over */
        ph_chan_unref(msg->chan);
}

void ph_pipe_fini(struct ph_pipe *pipe)
{
    struct ph_msg msg;
    struct ph_event event;
    ph_pipe_flush(pipe);
    while (ph_pipe_next_event(pipe, &event) == 1)
        ph_buf_unref(event.buf);
    ph_pipe_release_all(pipe);
    while (ph_ring_pop(&pipe->down, &msg))
        ph_pipe_drop_down(&msg);
    for (; pipe->app.overflow_count > 0; pipe->app.overflow_count--) {
        ph_pipe_drop_down(&pipe->app.overflow[pipe->app.overflow_head]);
        pipe->app.overflow_head = (pipe->app.overflow_head + 1) & (pipe->app.overflow_cap - 1);
    }
    ph_free(pipe->app.overflow);
    ph_reader_free(pipe->io.reader);
    ph_buf_release_chain(pipe->io.home.head); /* fell due after the last message up */
    ph_ring_fini(&pipe->up);
    ph_ring_fini(&pipe->down);
}

/* --- I/O thread --- */

static void ring_now(struct ph_pipe *pipe)
{
    pipe->io.is_urgent = false;
    pipe->io.quiet_until = PH_NEVER;
    if (ph_ring_publish(&pipe->up) || ph_ring_nudge(&pipe->up))
        ph_count(pipe->stats, bells_up);
}

static bool push_up(struct ph_pipe *pipe, const struct ph_msg *msg)
{
    if (ph_ring_push(&pipe->up, msg))
        return true;
    ring_now(pipe); /* what is in it may be taken while we look again */
    atomic_store(&pipe->up_starved, 1);
    atomic_thread_fence(memory_order_seq_cst);
    return ph_ring_push(&pipe->up, msg);
}

bool ph_pipe_push_up(struct ph_pipe *pipe, const struct ph_msg *msg)
{
    pipe->io.is_urgent = true;
    return push_up(pipe, msg);
}

bool ph_pipe_push_up_quiet(struct ph_pipe *pipe, const struct ph_msg *msg)
{
    if (pipe->io.quiet_until == PH_NEVER)
        pipe->io.quiet_until = pipe->io.now + PH_QUIET_WAIT;
    return push_up(pipe, msg);
}

void ph_pipe_ring_up(struct ph_pipe *pipe)
{
    if (pipe->io.is_urgent || pipe->io.now >= pipe->io.quiet_until)
        ring_now(pipe);
    else if (pipe->io.quiet_until != PH_NEVER)
        ph_ring_show(&pipe->up);
    else if (ph_ring_publish(&pipe->up)) /* log lines */
        ph_count(pipe->stats, bells_up);
}

bool ph_pipe_publish_home(struct ph_pipe *pipe)
{
    struct ph_buf_home *home = &pipe->io.home;
    if (home->head == NULL)
        return true;
    struct ph_msg msg = {.kind = PH_UP_HOME, .s = {.buf = home->head}};
    if (!ph_pipe_push_up_quiet(pipe, &msg))
        return false;
    *home = (struct ph_buf_home){0};
    return true;
}

bool ph_pipe_ask(struct ph_pipe *pipe)
{
    struct ph_msg msg = {.kind = PH_UP_ASK};
    return ph_pipe_push_up(pipe, &msg);
}

uint64_t ph_pipe_next_joined(const struct ph_pipe *pipe)
{
    if (ph_list_is_empty(&pipe->io.slow))
        return PH_NEVER;
    return PH_CONTAINER(pipe->io.slow.next, struct ph_chan, io.ready)->io.slow_until;
}

uint64_t ph_pipe_next_publish(const struct ph_pipe *pipe)
{
    return PH_MIN(ph_pipe_next_joined(pipe), pipe->io.quiet_until);
}

bool ph_pipe_pop_down(struct ph_pipe *pipe, struct ph_msg *msg)
{
    return ph_ring_pop(&pipe->down, msg);
}

void ph_pipe_commands_taken(struct ph_pipe *pipe)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&pipe->down_starved, memory_order_relaxed) != 0 &&
        atomic_exchange(&pipe->down_starved, 0) != 0) {
        ph_ring_wake(&pipe->up);
        ph_count(pipe->stats, bells_up);
    }
}

void ph_pipe_leave(struct ph_pipe *pipe)
{
    struct ph_link *link;
    while ((link = ph_list_take(&pipe->io.chans)) != NULL) {
        struct ph_chan *chan = PH_CONTAINER(link, struct ph_chan, io.all);
        PH_ASSERT(chan->io.closed_sent);
        ph_list_remove(&chan->io.ready);
        ph_chan_unref(chan);
    }
}

/* --- Consumer thread --- */

static void overflow_append(struct ph_pipe *pipe, const struct ph_msg *msg)
{
    size_t cap = pipe->app.overflow_cap;
    if (pipe->app.overflow_count == cap) {
        size_t grown = cap == 0 ? 64 : cap * 2;
        pipe->app.overflow = ph_queue_grow(pipe->app.overflow, sizeof(*pipe->app.overflow), cap,
                                           pipe->app.overflow_head, grown);
        pipe->app.overflow_head = 0;
        pipe->app.overflow_cap = cap = grown;
    }
    pipe->app.overflow[(pipe->app.overflow_head + pipe->app.overflow_count) & (cap - 1)] = *msg;
    pipe->app.overflow_count++;
}

static void overflow_drain(struct ph_pipe *pipe)
{
    while (pipe->app.overflow_count > 0 &&
           ph_ring_push(&pipe->down, &pipe->app.overflow[pipe->app.overflow_head])) {
        pipe->app.overflow_head = (pipe->app.overflow_head + 1) & (pipe->app.overflow_cap - 1);
        pipe->app.overflow_count--;
    }
}

static void ring_down(struct ph_pipe *pipe)
{
    if (pipe->app.weight > 0 && pipe->app.weight <= PH_BORROW_MAX && pipe->app.borrow != NULL &&
        ph_ring_is_asleep(&pipe->down)) {
        ph_ring_show(&pipe->down);
        pipe->app.borrow(pipe->app.self);
    }
    pipe->app.weight = 0;
    if (ph_ring_publish(&pipe->down) || ph_ring_nudge(&pipe->down))
        ph_count(pipe->stats, bells_down);
}

/* What a command adds to the weight. QUIC and files are never for the application's thread: the one
 * has timers that would wake the I/O thread anyway, the other may wait for a disk. */
static size_t weight_of(const struct ph_msg *msg)
{
    const struct ph_chan *chan = msg->chan;
    if (chan == NULL || chan->request == NULL || msg->kind == PH_DOWN_FILE ||
        ph_chan_request_get(chan->request)->http_version >= 30)
        return PH_BORROW_MAX + 1;
    return msg->s.n + PH_BORROW_COMMAND;
}

void ph_pipe_push_down(struct ph_pipe *pipe, const struct ph_msg *msg)
{
    if (pipe->app.stopped) {
        struct ph_msg dropped = *msg;
        ph_pipe_drop_down(&dropped);
        return;
    }
    pipe->app.weight += weight_of(msg);
    if (pipe->app.overflow_count == 0 && ph_ring_push(&pipe->down, msg))
        return;
    if (pipe->app.overflow_count == 0)
        ring_down(pipe);
    overflow_append(pipe, msg);
}

static void send_credit(struct ph_chan *chan)
{
    struct ph_msg msg = {.kind = PH_DOWN_CONSUME, .chan = chan, .a = chan->app.consumed};
    if (chan->app.consumed > 0 || chan->app.asked)
        ph_pipe_push_down(chan->pipe, &msg);
    if (chan->app.consumed_datagrams > 0) {
        msg.kind = PH_DOWN_CONSUME_DATAGRAMS;
        msg.a = chan->app.consumed_datagrams;
        ph_pipe_push_down(chan->pipe, &msg);
    }
    chan->app.consumed = chan->app.consumed_datagrams = 0;
    chan->app.asked = false;
}

void ph_pipe_flush(struct ph_pipe *pipe)
{
    struct ph_link *link;
    while ((link = ph_list_take(&pipe->app.credit)) != NULL)
        send_credit(PH_CONTAINER(link, struct ph_chan, app.credit));
    pipe->app.since_flush = 0;
    overflow_drain(pipe);
    ring_down(pipe);
    if (pipe->app.overflow_count == 0)
        return;
    atomic_store(&pipe->down_starved, 1);
    atomic_thread_fence(memory_order_seq_cst);
    overflow_drain(pipe);
    ring_down(pipe);
}
