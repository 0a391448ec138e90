/*
 * chan_command.c - commands of the application, from the down ring, for the engine of a channel.
 *
 * The engine may be gone when a command comes, since both sides end a channel on their own: then
 * payload is dropped and counted as written, so that no writer waits for it, and the rest says
 * nothing to anybody. While a file is being sent, what follows it waits behind it (chan_file.c).
 */
#include "chan_internal.h"

static void consumed(struct ph_chan *chan, size_t n)
{
    struct ph_chan_io *io = &chan->io;
    n = PH_MIN(n, io->unconsumed);
    io->unconsumed -= n;
    size_t left = n;
    while (io->published_count > 0 && left > 0) {
        uint32_t *size = &io->published[io->published_head];
        uint32_t k = (uint32_t)PH_MIN(left, (size_t)*size);
        *size -= k;
        left -= k;
        if (*size > 0)
            break;
        io->published_head = (io->published_head + 1) % PH_BLOCKS_PUBLISHED;
        io->published_count--;
    }
    io->asked = true;
    if (io->is_slow)
        ph_chan_io_ready(chan);
    if (io->ops != NULL && io->ops->consume != NULL)
        io->ops->consume(chan, n); /* 0: the application asks for the body */
}

int ph_chan_io_write(struct ph_chan *chan, struct ph_slice slice, bool fin)
{
    struct ph_chan_io *io = &chan->io;
    size_t n = slice.n;
    if (io->engine.any == NULL || io->tx_done) {
        if (io->peer_stopped)
            ph_count_add(chan->pipe->stats, writes_discarded, n);
        ph_buf_unref(slice.buf);
        ph_chan_io_unqueue(chan, n);
        return PH_E_CLOSED;
    }
    io->inflight += n;
    io->fin_out = io->fin_out || fin;
    ph_count_add(chan->pipe->stats, bytes_out, n);
    int rc = io->ops->write(chan, slice, fin);
    if (rc < 0)
        ph_chan_io_acked(chan, n);
    return rc;
}

static void reset_command(struct ph_chan *chan, uint64_t code)
{
    struct ph_chan_io *io = &chan->io;
    if (io->engine.any == NULL)
        return;
    if (chan->kind == PH_CHAN_WT_STREAM && io->tx_done)
        return;
    io->tx_done = true;
    io->reset_sent = true;
    ph_chan_file_drop(chan);
    io->ops->reset(chan, code);
    ph_chan_io_acked(chan, io->inflight);
}

static void stop_command(struct ph_chan *chan, uint64_t code)
{
    struct ph_chan_io *io = &chan->io;
    bool had_end = io->rx_ended;
    io->rx_done = true;
    ph_chan_io_drop_blocks(io);
    io->pending &= ~(unsigned)PH_PEND_RESET;
    ph_chan_io_give_back(chan, io->unconsumed);
    io->published_count = 0;
    if (io->engine.any != NULL && !had_end)
        io->ops->stop(chan, code);
}

static void datagram_command(struct ph_chan *chan, struct ph_msg *msg)
{
    struct ph_chan_io *io = &chan->io;
    if (io->engine.any == NULL || io->ops->datagram == NULL) {
        ph_buf_unref(msg->s.buf);
        ph_chan_io_unqueue_datagrams(chan, 1);
        return;
    }
    uint64_t expires = msg->a != 0 ? chan->pipe->io.now + msg->a * PH_MSEC : PH_NEVER;
    io->datagrams->inflight++;
    ph_count_add(chan->pipe->stats, bytes_out, msg->s.n);
    io->ops->datagram(chan, msg->s.buf, expires);
}

static void message_command(struct ph_chan *chan, struct ph_msg *msg)
{
    const struct ph_chan_io *io = &chan->io;
    size_t n = msg->s.n;
    if (io->engine.any == NULL || io->ops->message == NULL) {
        ph_buf_unref(msg->s.buf);
    } else {
        ph_count_add(chan->pipe->stats, bytes_out, n);
        ph_count(chan->pipe->stats, messages_out);
        io->ops->message(chan, msg->s, (msg->flags & PH_MSG_TEXT) != 0);
    }
    ph_chan_io_unqueue(chan, n); /* its frame counts instead: ph_chan_io_framed() */
}

static void open_command(struct ph_chan *chan)
{
    struct ph_chan *session = chan->parent;
    if (session->io.engine.any != NULL && session->io.ops->open != NULL) {
        session->io.ops->open(session, chan);
        return;
    }
    ph_chan_io_attach(chan, NULL, NULL);
    ph_chan_io_closed(chan, false, false, 0, NULL, 0);
}

static void release_command(struct ph_chan *chan)
{
    struct ph_chan_io *io = &chan->io;
    io->released = true;
    if (chan->parent == NULL && chan->server != NULL) /* a test's channel has no server */
        chan->server->app_calls--;
    io->rx_done = true;
    ph_chan_io_drop_blocks(io);
    ph_chan_io_drop_datagrams(chan);
    ph_chan_io_drop_messages(chan);
    io->pending &= PH_PEND_CLOSED;
    ph_chan_io_give_back(chan, io->unconsumed);
    if (io->engine.any != NULL && io->ops->release != NULL)
        io->ops->release(chan);
    if (io->is_slow)
        ph_chan_io_ready(chan);
    if (io->closed_sent)
        ph_chan_io_finish(chan);
}

/* Commands that only an engine can answer. */
static void engine_command(struct ph_chan *chan, const struct ph_msg *msg)
{
    const struct ph_chan_ops *ops = chan->io.ops;
    const struct ph_field *fields = msg->s.buf != NULL ? ph_fields_of(msg->s.buf) : NULL;
    switch (msg->kind) {
    case PH_DOWN_RESPOND:
        if (ops->respond != NULL)
            ops->respond(chan, (int)msg->a, fields, msg->n, msg->flags);
        break;
    case PH_DOWN_TRAILERS:
        chan->io.fin_out = true;
        if (ops->trailers != NULL)
            ops->trailers(chan, fields, msg->n);
        break;
    case PH_DOWN_ACCEPT:
        if (ops->accept != NULL)
            ops->accept(chan, fields, msg->n,
                        (msg->flags & PH_MSG_SUBPROTOCOL) != 0 ? fields[msg->n].value : NULL);
        break;
    case PH_DOWN_PRIORITY:
        if (ops->priority != NULL)
            ops->priority(chan, (unsigned)msg->a);
        break;
    case PH_DOWN_CLOSE:
        if (ops->close != NULL)
            ops->close(chan, (uint32_t)msg->a, (const char *)msg->s.p, msg->s.n);
        break;
    case PH_DOWN_DRAIN:
        if (ops->drain != NULL)
            ops->drain(chan);
        break;
    }
}

void ph_chan_io_command(struct ph_chan *chan, struct ph_msg *msg)
{
    struct ph_chan_datagrams *dg = chan->io.datagrams;
    if (ph_chan_file_holds(chan, msg))
        return;
    switch (msg->kind) {
    case PH_DOWN_WRITE:
        ph_chan_io_write(chan, msg->s, (msg->flags & PH_MSG_FIN) != 0);
        return;
    case PH_DOWN_FILE:
        ph_chan_file_command(chan, msg);
        return;
    case PH_DOWN_CONSUME:
        consumed(chan, msg->a);
        return;
    case PH_DOWN_CONSUME_DATAGRAMS:
        if (dg != NULL) {
            dg->published -= (uint32_t)PH_MIN(msg->a, (uint64_t)dg->published);
            if (dg->count > 0)
                ph_chan_io_pend(chan, PH_PEND_DATAGRAM);
        } else if (chan->kind == PH_CHAN_WEBSOCKET && chan->io.engine.any != NULL) {
            chan->io.ops->consume(chan, msg->a);
        }
        return;
    case PH_DOWN_RESET:
        reset_command(chan, msg->a);
        return;
    case PH_DOWN_STOP:
        stop_command(chan, msg->a);
        return;
    case PH_DOWN_OPEN:
        open_command(chan);
        return;
    case PH_DOWN_DATAGRAM:
        datagram_command(chan, msg);
        return;
    case PH_DOWN_MESSAGE:
        message_command(chan, msg);
        return;
    case PH_DOWN_RELEASE:
        release_command(chan);
        return;
    }
    if (chan->io.engine.any != NULL)
        engine_command(chan, msg);
    ph_buf_unref(msg->s.buf);
}
