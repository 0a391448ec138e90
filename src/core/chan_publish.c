/*
 * chan_publish.c - pending bits of channels are moved into the up ring, once a turn.
 *
 *      pipe->io.ready -> the bits of a channel in their order -> messages -> up ring
 *      pipe->io.slow  -> the same, a moment later: small DATA waits to be joined
 *
 * Invariants: a channel that found the ring full keeps its bits and its place in the list, so that
 * nothing is lost and nothing overtakes (datagrams apart, of which the oldest are dropped); CLOSED
 * is published last, and a session's after those of its streams.
 */
#include "chan_internal.h"

/* Remembers the size of a DATA message, to know how many are with the application. */
static void note_published(struct ph_chan_io *io, uint32_t n)
{
    if (n == 0)
        return;
    if (io->published_count == PH_BLOCKS_PUBLISHED) {
        io->published[(io->published_head + io->published_count - 1) % PH_BLOCKS_PUBLISHED] += n;
        return;
    }
    io->published[(io->published_head + io->published_count) % PH_BLOCKS_PUBLISHED] = n;
    io->published_count++;
}

static bool publish_data(struct ph_chan *chan)
{
    struct ph_chan_io *io = &chan->io;
    while (io->blocks != NULL) {
        struct ph_buf *buf = io->blocks;
        struct ph_buf *next = buf->next;
        bool fin = io->fin_in && next == NULL && io->trailers == NULL;
        if (next == NULL && buf->len < buf->cap / 4)
            io->block_hint = PH_MAX(io->block_hint / 2, (size_t)PH_BLOCK_MIN);
        buf->next = NULL;
        struct ph_msg msg = {.kind = PH_EVENT_DATA,
                             .flags = fin ? PH_MSG_FIN : 0,
                             .chan = chan,
                             .s = {.buf = buf, .p = buf->data, .n = buf->len}};
        if (!ph_pipe_push_up(chan->pipe, &msg)) {
            buf->next = next;
            return false;
        }
        /* The application owns `buf` from here on. */
        note_published(io, (uint32_t)msg.s.n);
        io->blocks_bytes -= msg.s.n;
        io->blocks = next;
        if (next == NULL)
            io->blocks_tail = NULL;
        if (fin)
            io->fin_in = false;
    }
    if (io->trailers != NULL) {
        struct ph_msg msg = {.kind = PH_EVENT_TRAILERS,
                             .n = (uint32_t)io->trailers_n,
                             .chan = chan,
                             .s = {.buf = io->trailers, .p = io->trailers->data}};
        if (!ph_pipe_push_up(chan->pipe, &msg))
            return false;
        io->trailers = NULL;
    }
    if (io->fin_in) {
        struct ph_msg msg = {.kind = PH_EVENT_DATA, .flags = PH_MSG_FIN, .chan = chan};
        if (!ph_pipe_push_up(chan->pipe, &msg))
            return false;
        io->fin_in = false;
    }
    return true;
}

static bool publish_messages(struct ph_chan *chan)
{
    struct ph_chan_messages *messages = chan->io.messages;
    while (messages->count > 0) {
        struct ph_buf *buf = messages->ring[messages->head].buf;
        struct ph_msg msg = {.kind = PH_EVENT_MESSAGE,
                             .flags = messages->ring[messages->head].text ? PH_MSG_TEXT : 0,
                             .chan = chan};
        if (buf != NULL)
            msg.s = ph_slice_of(buf);
        if (!ph_pipe_push_up(chan->pipe, &msg))
            return false;
        messages->head = (messages->head + 1) & (messages->cap - 1);
        messages->count--;
    }
    return true;
}

/* At the end of a session what waits is handed out whole: there will be nothing fresher. */
static bool publish_datagrams(struct ph_chan *chan)
{
    struct ph_chan_datagrams *dg = chan->io.datagrams;
    bool is_last = (chan->io.pending & PH_PEND_CLOSED) != 0;
    while (dg != NULL && dg->count > 0 && (is_last || dg->published < PH_DATAGRAMS_PUBLISHED)) {
        struct ph_buf *buf = dg->ring[dg->head];
        struct ph_msg msg = {.kind = PH_EVENT_DATAGRAM,
                             .chan = chan,
                             .s = {.buf = buf, .p = buf->data, .n = buf->len}};
        if (!ph_pipe_push_up(chan->pipe, &msg))
            return false;
        dg->head = (dg->head + 1) % chan->pipe->limits.datagrams_in;
        dg->count--;
        dg->bytes -= msg.s.n;
        dg->published++;
    }
    return true;
}

static bool publish_closed(struct ph_chan *chan)
{
    struct ph_chan_io *io = &chan->io;
    struct ph_chan *parent = chan->parent;
    if (io->children > 0)
        return true; /* the last of them makes us ready again */
    struct ph_msg msg = {.kind = PH_EVENT_CLOSED,
                         .flags = (uint16_t)((io->close_clean ? PH_MSG_CLEAN : 0) |
                                             (io->close_local ? PH_MSG_LOCAL : 0)),
                         .chan = chan,
                         .a = io->close_code};
    if (io->reason != NULL)
        msg.s = (struct ph_slice){io->reason, io->reason->data, io->reason->len};
    /* Of an exchange that is complete, or that the application has let go of, nobody waits for it.
     */
    bool is_news = chan->kind != PH_CHAN_HTTP || (!io->released && !io->close_clean);
    if (!(is_news ? ph_pipe_push_up(chan->pipe, &msg) : ph_pipe_push_up_quiet(chan->pipe, &msg)))
        return false;
    io->reason = NULL;
    io->closed_sent = true;
    io->pending = 0;
    chan->pipe->io.open--;
    if (io->datagrams != NULL)
        ph_free(io->datagrams->ring);
    ph_free(io->datagrams);
    io->datagrams = NULL;
    ph_chan_io_drop_messages(chan);
    if (io->messages != NULL)
        ph_free(io->messages->ring);
    ph_free(io->messages);
    io->messages = NULL;
    if (parent != NULL && --parent->io.children == 0 && (parent->io.pending & PH_PEND_CLOSED) != 0)
        ph_chan_io_ready(parent);
    return true;
}

static bool publish_announce(struct ph_chan *chan)
{
    static const uint16_t kinds[] = {
        [PH_CHAN_HTTP] = PH_EVENT_REQUEST,
        [PH_CHAN_WT_SESSION] = PH_EVENT_SESSION,
        [PH_CHAN_WT_STREAM] = PH_EVENT_STREAM,
        [PH_CHAN_WEBSOCKET] = PH_EVENT_SOCKET,
    };
    const struct ph_chan_io *io = &chan->io;
    if (chan->kind == PH_CHAN_HTTP)
        ph_chan_request_set_body(chan->request,
                                 io->blocks != NULL || io->trailers != NULL || !io->fin_in);
    struct ph_msg msg = {.kind = kinds[chan->kind], .chan = chan};
    return ph_pipe_push_up(chan->pipe, &msg);
}

/* The bits that are one message each and carry no payload. */
static bool publish_bit(struct ph_chan *chan, unsigned bit)
{
    struct ph_chan_io *io = &chan->io;
    struct ph_msg msg = {.chan = chan};
    switch (bit) {
    case PH_PEND_ANNOUNCE:
        return publish_announce(chan);
    case PH_PEND_OPENED:
        msg.kind = PH_EVENT_OPENED;
        break;
    case PH_PEND_DATA:
        return publish_data(chan);
    case PH_PEND_MESSAGE:
        return publish_messages(chan);
    case PH_PEND_RESET:
        msg.kind = PH_EVENT_RESET;
        msg.flags = io->reset_has_code ? PH_MSG_HAS_CODE : 0;
        msg.a = io->reset_code;
        break;
    case PH_PEND_STOP:
        msg.kind = PH_EVENT_STOP_SENDING;
        msg.flags = io->stop_has_code ? PH_MSG_HAS_CODE : 0;
        msg.a = io->stop_code;
        break;
    case PH_PEND_DRAIN:
        msg.kind = PH_EVENT_DRAIN;
        msg.flags = io->drain_local ? PH_MSG_LOCAL : 0;
        break;
    case PH_PEND_DATAGRAM:
        return publish_datagrams(chan);
    case PH_PEND_WRITABLE:
        msg.kind = PH_EVENT_WRITABLE;
        break;
    default:
        return publish_closed(chan);
    }
    return ph_pipe_push_up(chan->pipe, &msg);
}

/* Small DATA of a channel that has many messages with the application waits to be joined. */
static bool is_to_wait(const struct ph_chan_io *io)
{
    return io->pending == PH_PEND_DATA && io->published_count == PH_BLOCKS_PUBLISHED &&
           !io->fin_in && io->trailers == NULL && io->blocks_bytes < PH_COALESCE_BYTES &&
           !io->hurry;
}

static bool publish_chan(struct ph_chan *chan)
{
    struct ph_chan_io *io = &chan->io;
    for (unsigned bit = PH_PEND_ANNOUNCE; bit <= PH_PEND_CLOSED; bit <<= 1) {
        if ((io->pending & bit) == 0)
            continue;
        if (!publish_bit(chan, bit))
            return false;
        if (bit != PH_PEND_CLOSED)
            io->pending &= ~bit;
    }
    io->hurry = false;
    return true;
}

bool ph_pipe_publish(struct ph_pipe *pipe)
{
    while (!ph_list_is_empty(&pipe->io.slow)) {
        struct ph_chan *chan = PH_CONTAINER(pipe->io.slow.next, struct ph_chan, io.ready);
        if (chan->io.slow_until > pipe->io.now)
            break;
        chan->io.hurry = true;
        ph_chan_io_ready(chan);
    }
    while (!ph_list_is_empty(&pipe->io.ready)) {
        struct ph_chan *chan = PH_CONTAINER(pipe->io.ready.next, struct ph_chan, io.ready);
        struct ph_chan_io *io = &chan->io;
        if (is_to_wait(io)) {
            ph_list_remove(&io->ready);
            ph_list_append(&pipe->io.slow, &io->ready);
            io->is_slow = true;
            io->slow_until = pipe->io.now + PH_COALESCE_WAIT;
            continue;
        }
        if (!publish_chan(chan))
            return false;
        ph_list_remove(&io->ready);
        if (io->closed_sent && io->released)
            ph_chan_io_finish(chan);
    }
    return true;
}
