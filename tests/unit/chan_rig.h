/*
 * chan_rig.h - both halves of channels in one thread, without sockets: a pipe, and a fake engine
 * that takes what channels give it and lets go of it when told. Used by the tests of channels and
 * fuzz_chan.c.
 *
 *      test -> ph_chan_*() -> rig_io() -> fake engine
 *      test -> rig_ack(), ph_chan_io_*() -> rig_io() -> ph_pipe_next_event()
 */
#ifndef PH_CHAN_RIG_H
#define PH_CHAN_RIG_H

#include "../../src/core/core.h"

#include <stdlib.h>

/* The engine's side of one channel. */
struct rig_engine {
    struct ph_chan *chan;
    struct rig_engine *next;
    struct ph_sliceq held; /* written and not acknowledged */
    size_t credit;         /* bytes the channel gave back */
    unsigned asked, resets, stops, releases, delivered, datagrams, closes, accepts, responses;
    uint64_t code;
    bool fin;
    bool is_broken; /* refuses what is written */
};

struct rig {
    struct ph_stats stats;
    struct ph_pipe pipe;
    struct ph_thread env;
    struct rig_engine *engines;
    unsigned opened; /* streams that the application asked for */
    bool left;       /* the I/O half has ended */
};

static struct rig *rig_of(const struct ph_chan *chan)
{
    return PH_CONTAINER(chan->pipe, struct rig, pipe);
}

/* Engines outlive their channels' engine pointer, as the figures are asked for later. */
static struct rig_engine *rig_engine_of(const struct ph_chan *chan)
{
    for (struct rig_engine *engine = rig_of(chan)->engines; engine != NULL; engine = engine->next) {
        if (engine->chan == chan)
            return engine;
    }
    abort();
}

static void rig_respond(struct ph_chan *chan, int status, const struct ph_field *fields, size_t n,
                        unsigned flags)
{
    (void)fields;
    (void)n;
    rig_engine_of(chan)->responses++;
    rig_engine_of(chan)->code = (uint64_t)status;
    if ((flags & PH_MSG_FIN) != 0)
        rig_engine_of(chan)->fin = true;
}

static int rig_write(struct ph_chan *chan, struct ph_slice slice, bool fin)
{
    struct rig_engine *engine = rig_engine_of(chan);
    ph_sliceq_push(&engine->held, slice);
    if (engine->is_broken)
        return PH_E_CLOSED;
    engine->fin = engine->fin || fin;
    return 0;
}

static void rig_consume(struct ph_chan *chan, size_t n)
{
    rig_engine_of(chan)->credit += n;
    if (n == 0)
        rig_engine_of(chan)->asked++;
}

static void rig_reset(struct ph_chan *chan, uint64_t code)
{
    rig_engine_of(chan)->resets++;
    rig_engine_of(chan)->code = code;
    ph_sliceq_fini(&rig_engine_of(chan)->held);
}

static void rig_stop(struct ph_chan *chan, uint64_t code)
{
    rig_engine_of(chan)->stops++;
    rig_engine_of(chan)->code = code;
}

static void rig_accept(struct ph_chan *chan, const struct ph_field *fields, size_t n,
                       const char *subprotocol)
{
    (void)fields;
    (void)n;
    (void)subprotocol;
    rig_engine_of(chan)->accepts++;
}

static void rig_datagram(struct ph_chan *chan, struct ph_buf *buf, uint64_t expires)
{
    (void)expires;
    rig_engine_of(chan)->datagrams++;
    ph_buf_unref(buf);
}

/* Holds a frame of two bytes more than the message. */
static void rig_message(struct ph_chan *chan, struct ph_slice message, bool text)
{
    struct rig_engine *engine = rig_engine_of(chan);
    ph_sliceq_push_copy(&engine->held, text ? "T:" : "B:", 2);
    if (message.n > 0)
        ph_sliceq_push_copy(&engine->held, message.p, message.n);
    ph_chan_io_framed(chan, 2 + message.n);
    ph_buf_unref(message.buf);
}

static void rig_close(struct ph_chan *chan, uint32_t code, const char *reason, size_t n)
{
    (void)reason;
    (void)n;
    rig_engine_of(chan)->closes++;
    rig_engine_of(chan)->code = code;
}

static void rig_release(struct ph_chan *chan)
{
    rig_engine_of(chan)->releases++;
}

static void rig_delivered(struct ph_chan *chan)
{
    rig_engine_of(chan)->delivered++;
}

static void rig_open(struct ph_chan *session, struct ph_chan *stream);

static const struct ph_chan_ops rig_ops = {
    .respond = rig_respond,
    .write = rig_write,
    .message = rig_message,
    .consume = rig_consume,
    .reset = rig_reset,
    .stop = rig_stop,
    .accept = rig_accept,
    .open = rig_open,
    .datagram = rig_datagram,
    .close = rig_close,
    .release = rig_release,
    .delivered = rig_delivered,
};

static void rig_attach(struct ph_chan *chan)
{
    struct rig *rig = rig_of(chan);
    struct rig_engine *engine = ph_alloc(sizeof(*engine));
    engine->chan = chan;
    engine->next = rig->engines;
    rig->engines = engine;
    ph_sliceq_init(&engine->held);
    ph_chan_io_attach(chan, &rig_ops, engine);
}

static void rig_open(struct ph_chan *session, struct ph_chan *stream)
{
    rig_of(session)->opened++;
    rig_attach(stream);
    ph_chan_io_pend(stream, PH_PEND_OPENED);
}

/* A request, session or stream of the peer, announced at the next rig_io(). */
static struct ph_chan *rig_chan(struct rig *rig, ph_chan_kind kind, struct ph_chan *parent)
{
    struct ph_chan *chan = ph_chan_new(&rig->pipe, kind, parent);
    if (kind != PH_CHAN_WT_STREAM) {
        struct ph_head head = {.version = 30,
                               .method = "GET",
                               .scheme = "https",
                               .authority = "example.org",
                               .target = "/",
                               .protocol = ""};
        struct ph_path path = {0};
        ph_addr_parse(&path.local, "127.0.0.1", 4433);
        ph_addr_parse(&path.remote, "127.0.0.1", 50000);
        chan->request = ph_chan_request_new(&head, &path, NULL);
        if (kind == PH_CHAN_WT_SESSION)
            ph_chan_request_set_session(chan->request, 0, NULL, 0, true, 1200);
    }
    chan->is_bidi = true;
    rig_attach(chan);
    ph_chan_io_pend(chan, PH_PEND_ANNOUNCE);
    return chan;
}

/* The engine lets go of n bytes. */
static void rig_ack(struct ph_chan *chan, size_t n)
{
    struct rig_engine *engine = rig_engine_of(chan);
    n = PH_MIN(n, engine->held.bytes);
    ph_sliceq_advance(&engine->held, n);
    ph_sliceq_drop(&engine->held, n);
    ph_chan_io_acked(chan, n);
}

/* The engine's object ends. */
static void rig_end(struct ph_chan *chan, bool clean, uint64_t code)
{
    if (chan->io.ops != NULL) /* none: a stream whose session was over before it */
        ph_sliceq_fini(&rig_engine_of(chan)->held);
    ph_chan_io_closed(chan, clean, false, code, NULL, 0);
}

/* Commands and publishing, as in a turn of the I/O thread. */
static void rig_io(struct rig *rig)
{
    struct ph_msg msg;
    if (rig->left)
        return;
    ph_thread_set(&rig->env);
    while (ph_pipe_pop_down(&rig->pipe, &msg)) {
        if (msg.chan != NULL)
            ph_chan_io_command(msg.chan, &msg);
    }
    ph_pipe_commands_taken(&rig->pipe);
    ph_chan_files_run(&rig->pipe);
    ph_pipe_publish(&rig->pipe);
    ph_pipe_publish_home(&rig->pipe);
    ph_pipe_ring_up(&rig->pipe);
    ph_thread_set(NULL);
}

static void rig_init(struct rig *rig, uint32_t slots)
{
    *rig = (struct rig){.left = false};
    struct ph_chan_limits limits = {.high = 1000,
                                    .low = 100,
                                    .session_high = 3000,
                                    .session_low = 300,
                                    .datagrams_in = 256,
                                    .datagram_bytes_in = 65536,
                                    .datagrams_out = 8};
    int rc = ph_pipe_init(&rig->pipe, slots, &limits, &rig->stats);
    PH_ASSERT(rc == 0);
    rig->env = (struct ph_thread){.level = PH_LOG_ERROR, .home = &rig->pipe.io.home};
}

/* Ends as a server does: everything is closed and published, STOPPED comes last. The application
 * takes what is left. */
static void rig_fini(struct rig *rig)
{
    struct ph_event event;
    struct ph_msg stopped = {.kind = PH_EVENT_STOPPED};
    ph_pipe_flush(&rig->pipe);
    for (struct ph_link *link = rig->pipe.io.chans.next; link != &rig->pipe.io.chans;
         link = link->next)
        rig_end(PH_CONTAINER(link, struct ph_chan, io.all), false, 0);
    while (rig->pipe.io.open > 0 || rig->pipe.io.home.head != NULL) {
        rig_io(rig);
        for (struct ph_link *link = rig->pipe.io.chans.next; link != &rig->pipe.io.chans;
             link = link->next)
            rig_end(PH_CONTAINER(link, struct ph_chan, io.all), false, 0);
        while (ph_pipe_next_event(&rig->pipe, &event) == 1)
            ph_buf_unref(event.buf);
    }
    rig->left = true;
    for (struct rig_engine *engine = rig->engines; engine != NULL;) {
        struct rig_engine *next = engine->next;
        ph_sliceq_fini(&engine->held);
        ph_free(engine);
        engine = next;
    }
    ph_pipe_leave(&rig->pipe);
    while (!ph_pipe_push_up(&rig->pipe, &stopped)) {
        while (ph_pipe_next_event(&rig->pipe, &event) == 1)
            ph_buf_unref(event.buf);
    }
    ph_pipe_ring_up(&rig->pipe);
    while (ph_pipe_next_event(&rig->pipe, &event) == 1)
        ph_buf_unref(event.buf);
    PH_ASSERT(rig->pipe.app.stopped);
    ph_pipe_fini(&rig->pipe);
}

#endif
