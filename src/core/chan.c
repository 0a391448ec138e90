/*
 * chan.c - the I/O half of channels: its life, and what engines report, which becomes pending bits
 * and blocks of payload.
 *
 *      engine event -> bit (+ block) -> pipe->io.ready -> chan_publish.c -> up ring
 *                      engine <- chan_command.c <- down ring
 *
 * Invariants: payload is copied once, into the block that the application gets; credit goes back to
 * the engine only for bytes that the application consumed or can no longer get; the I/O half drops
 * its reference after it has published CLOSED and seen RELEASE.
 */
#include "chan_internal.h"

/* --- Life --- */

struct ph_chan *ph_chan_new(struct ph_pipe *pipe, ph_chan_kind kind, struct ph_chan *parent)
{
    struct ph_chan *chan = ph_alloc_lines(sizeof(*chan));
    chan->kind = kind;
    chan->pipe = pipe;
    chan->high = pipe->limits.high;
    chan->low = pipe->limits.low;
    atomic_init(&chan->refs, 2);
    atomic_init(&chan->id, UINT64_MAX);
    chan->io.block_hint = PH_BLOCK_MIN;
    if (parent != NULL) {
        chan->parent = parent;
        chan->server = parent->server;
        atomic_fetch_add_explicit(&parent->refs, 1, memory_order_relaxed);
    }
    ph_live_add(PH_LIVE_CHAN, 1);
    return chan;
}

/* A client may ask for many responses and take none of them. Each later one gets a smaller part:
 * all together hold a few times the limit, not the limit of one times their number. */
void ph_chan_share(struct ph_chan *chan, size_t siblings)
{
    const struct ph_chan_limits *limits = &chan->pipe->limits;
    size_t part = PH_MAX(limits->conn_high / PH_MAX(siblings, (size_t)1), PH_SHARE_MIN);
    if (part >= limits->high)
        return;
    chan->high = part;
    chan->low = PH_MIN(limits->low, part / 4);
}

void ph_chan_unref(struct ph_chan *chan)
{
    /* acq_rel: the half that frees must see everything that the other one wrote. */
    while (chan != NULL && atomic_fetch_sub_explicit(&chan->refs, 1, memory_order_acq_rel) == 1) {
        struct ph_chan *parent = chan->parent;
        PH_ASSERT(chan->io.blocks == NULL && chan->io.datagrams == NULL && chan->io.file == NULL);
        PH_ASSERT(chan->io.messages == NULL);
        ph_chan_request_free(chan->request);
        ph_free_lines(chan);
        ph_live_add(PH_LIVE_CHAN, -1);
        chan = parent;
    }
}

void ph_chan_io_attach(struct ph_chan *chan, const struct ph_chan_ops *ops, void *engine)
{
    struct ph_pipe *pipe = chan->pipe;
    chan->io.ops = ops;
    chan->io.engine.any = engine;
    ph_list_append(&pipe->io.chans, &chan->io.all);
    pipe->io.open++;
    if (chan->parent != NULL)
        chan->parent->io.children++;
    if (chan->kind == PH_CHAN_WT_SESSION) {
        struct ph_chan_datagrams *dg = ph_alloc(sizeof(*dg));
        dg->ring = ph_alloc(sizeof(*dg->ring) * pipe->limits.datagrams_in);
        chan->io.datagrams = dg;
    }
    if (chan->kind == PH_CHAN_WEBSOCKET)
        chan->io.messages = ph_alloc(sizeof(*chan->io.messages));
}

void ph_chan_io_drop_blocks(struct ph_chan_io *io)
{
    while (io->blocks != NULL) {
        struct ph_buf *next = io->blocks->next;
        io->blocks->next = NULL;
        ph_buf_unref(io->blocks);
        io->blocks = next;
    }
    io->blocks_tail = NULL;
    io->blocks_bytes = 0;
    ph_buf_unref(io->trailers);
    io->trailers = NULL;
    io->fin_in = false;
    io->pending &= ~(unsigned)PH_PEND_DATA;
}

void ph_chan_io_drop_datagrams(struct ph_chan *chan)
{
    struct ph_chan_datagrams *dg = chan->io.datagrams;
    if (dg == NULL)
        return;
    for (; dg->count > 0; dg->count--) {
        ph_buf_unref(dg->ring[dg->head]);
        dg->head = (dg->head + 1) % chan->pipe->limits.datagrams_in;
    }
    dg->bytes = 0;
}

void ph_chan_io_drop_messages(struct ph_chan *chan)
{
    struct ph_chan_messages *messages = chan->io.messages;
    if (messages == NULL)
        return;
    for (; messages->count > 0; messages->count--) {
        ph_buf_unref(messages->ring[messages->head].buf);
        messages->head = (messages->head + 1) & (messages->cap - 1);
    }
}

void ph_chan_io_finish(struct ph_chan *chan)
{
    struct ph_chan_io *io = &chan->io;
    ph_list_remove(&io->ready);
    ph_list_remove(&io->pace.link);
    ph_list_remove(&io->all);
    if (io->ops != NULL && io->ops->delivered != NULL)
        io->ops->delivered(chan);
    ph_chan_unref(chan);
}

/* --- Pending bits --- */

void ph_chan_io_ready(struct ph_chan *chan)
{
    struct ph_chan_io *io = &chan->io;
    if (io->is_slow) {
        ph_list_remove(&io->ready);
        io->is_slow = false;
    }
    if (!ph_link_is_on(&io->ready))
        ph_list_append(&chan->pipe->io.ready, &io->ready);
}

void ph_chan_io_pend(struct ph_chan *chan, unsigned bits)
{
    struct ph_chan_io *io = &chan->io;
    if (io->closed_sent)
        return;
    if (io->released)
        bits &= PH_PEND_CLOSED;
    if (bits == 0)
        return;
    io->pending |= bits;
    bool may_wait = bits == PH_PEND_DATA && !io->fin_in && io->blocks_bytes < PH_COALESCE_BYTES;
    if (!io->is_slow || !may_wait)
        ph_chan_io_ready(chan);
}

/* --- From the engine --- */

void ph_chan_io_give_back(struct ph_chan *chan, size_t n)
{
    struct ph_chan_io *io = &chan->io;
    n = PH_MIN(n, io->unconsumed);
    io->unconsumed -= n;
    if (io->ops != NULL && io->ops->consume != NULL && n > 0)
        io->ops->consume(chan, n);
}

static struct ph_buf *block_new(struct ph_chan_io *io, size_t n)
{
    if (io->blocks_tail != NULL) /* the run outgrew its block: the next is larger */
        io->block_hint = PH_MIN(io->block_hint * 4, (size_t)PH_BLOCK_MAX);
    size_t cap = PH_MIN(PH_MAX(n, io->block_hint), (size_t)PH_BLOCK_MAX);
    struct ph_buf *buf = ph_buf_new(cap);
    if (io->blocks_tail != NULL)
        io->blocks_tail->next = buf;
    else
        io->blocks = buf;
    io->blocks_tail = buf;
    return buf;
}

void ph_chan_io_data(struct ph_chan *chan, const uint8_t *data, size_t n)
{
    struct ph_chan_io *io = &chan->io;
    if (n == 0)
        return;
    io->unconsumed += n;
    if (io->rx_done) {
        ph_chan_io_give_back(chan, n);
        return;
    }
    ph_count_add(chan->pipe->stats, bytes_in, n);
    io->blocks_bytes += n;
    while (n > 0) {
        struct ph_buf *buf = io->blocks_tail;
        if (buf == NULL || buf->len == buf->cap)
            buf = block_new(io, n);
        size_t k = PH_MIN(n, buf->cap - buf->len);
        ph_copy(chan->pipe->stats, buf->data + buf->len, data, k);
        buf->len += k;
        data += k;
        n -= k;
    }
    ph_chan_io_pend(chan, PH_PEND_DATA);
}

void ph_chan_io_trailers(struct ph_chan *chan, const struct ph_field *fields, size_t n)
{
    struct ph_chan_io *io = &chan->io;
    if (io->rx_done || n == 0)
        return;
    ph_buf_unref(io->trailers);
    io->trailers = ph_fields_pack(fields, n, NULL);
    io->trailers_n = n;
    ph_chan_io_pend(chan, PH_PEND_DATA);
}

void ph_chan_io_fin(struct ph_chan *chan)
{
    chan->io.rx_ended = true;
    if (chan->io.rx_done)
        return;
    chan->io.fin_in = true;
    ph_chan_io_pend(chan, PH_PEND_DATA);
}

void ph_chan_io_reset(struct ph_chan *chan, bool has_code, uint64_t code)
{
    struct ph_chan_io *io = &chan->io;
    bool was_done = io->rx_done;
    io->rx_ended = true;
    io->rx_reset = true;
    io->rx_done = true;
    ph_chan_io_drop_blocks(io);
    io->unconsumed = 0; /* the transport returns the credit of a reset stream itself */
    if (was_done)
        return;
    io->reset_has_code = has_code;
    io->reset_code = code;
    ph_chan_io_pend(chan, PH_PEND_RESET);
}

/* seq_cst in both: the other side arms its flag and then reads the count (Dekker). */
static void wake_writer(struct ph_chan *chan, atomic_uint *armed)
{
    if (atomic_load(armed) != 0 && atomic_exchange(armed, 0) != 0)
        ph_chan_io_pend(chan, PH_PEND_WRITABLE);
}

void ph_chan_io_unqueue(struct ph_chan *chan, size_t n)
{
    const struct ph_chan_limits *limits = &chan->pipe->limits;
    if (n == 0)
        return;
    if (atomic_fetch_sub(&chan->queued, n) - n <= chan->low)
        wake_writer(chan, &chan->wait_write);
    if (chan->parent != NULL &&
        atomic_fetch_sub(&chan->parent->queued, n) - n <= limits->session_low)
        wake_writer(chan->parent, &chan->parent->wait_write);
}

void ph_chan_io_acked(struct ph_chan *chan, size_t n)
{
    n = PH_MIN(n, chan->io.inflight);
    chan->io.inflight -= n;
    ph_chan_io_unqueue(chan, n);
    if (chan->io.file != NULL && n > 0)
        ph_chan_file_wake(chan);
}

void ph_chan_io_stop(struct ph_chan *chan, bool has_code, uint64_t code)
{
    struct ph_chan_io *io = &chan->io;
    if (io->tx_done)
        return;
    io->tx_done = true;
    io->peer_stopped = true;
    io->stop_has_code = has_code;
    io->stop_code = code;
    ph_chan_io_pend(chan, PH_PEND_STOP);
    ph_chan_io_acked(chan, io->inflight);
}

void ph_chan_io_datagram(struct ph_chan *chan, const uint8_t *data, size_t n)
{
    const struct ph_chan_limits *limits = &chan->pipe->limits;
    struct ph_chan_datagrams *dg = chan->io.datagrams;
    if (chan->io.released || dg == NULL)
        return;
    while (dg->count > 0 &&
           (dg->count == limits->datagrams_in || dg->bytes + n > limits->datagram_bytes_in)) {
        struct ph_buf *oldest = dg->ring[dg->head];
        dg->head = (dg->head + 1) % limits->datagrams_in;
        dg->count--;
        dg->bytes -= oldest->len;
        ph_buf_unref(oldest);
        ph_count(chan->pipe->stats, datagrams_in_dropped);
    }
    struct ph_buf *buf = ph_buf_new(n);
    ph_copy(chan->pipe->stats, buf->data, data, n);
    buf->len = n;
    dg->ring[(dg->head + dg->count) % limits->datagrams_in] = buf;
    dg->count++;
    dg->bytes += n;
    ph_count_add(chan->pipe->stats, bytes_in, n);
    ph_chan_io_pend(chan, PH_PEND_DATAGRAM);
}

void ph_chan_io_message(struct ph_chan *chan, struct ph_buf *message, bool text)
{
    struct ph_chan_messages *messages = chan->io.messages;
    if (chan->io.released || messages == NULL) {
        ph_buf_unref(message);
        return;
    }
    if (messages->count == messages->cap) {
        uint32_t cap = PH_MAX(messages->cap * 2, (uint32_t)4);
        messages->ring = ph_queue_grow(messages->ring, sizeof(*messages->ring), messages->cap,
                                       messages->head, cap);
        messages->cap = cap;
        messages->head = 0;
    }
    uint32_t at = (messages->head + messages->count++) & (messages->cap - 1);
    messages->ring[at].buf = message;
    messages->ring[at].text = text;
    ph_count_add(chan->pipe->stats, bytes_in, message != NULL ? message->len : 0);
    ph_chan_io_pend(chan, PH_PEND_MESSAGE);
}

void ph_chan_io_framed(struct ph_chan *chan, size_t n)
{
    chan->io.inflight += n;
    atomic_fetch_add(&chan->queued, n);
}

void ph_chan_io_unqueue_datagrams(struct ph_chan *chan, size_t n)
{
    if (n == 0)
        return;
    if (atomic_fetch_sub(&chan->datagrams_queued, n) - n <= chan->pipe->limits.datagrams_out / 2)
        wake_writer(chan, &chan->wait_datagram);
}

void ph_chan_io_datagrams_left(struct ph_chan *chan, size_t n)
{
    struct ph_chan_datagrams *dg = chan->io.datagrams;
    if (dg == NULL)
        return;
    n = PH_MIN(n, dg->inflight);
    dg->inflight -= n;
    ph_chan_io_unqueue_datagrams(chan, n);
}

void ph_chan_io_drain(struct ph_chan *chan, bool local)
{
    chan->io.drain_local = local;
    ph_chan_io_pend(chan, PH_PEND_DRAIN);
}

void ph_chan_io_closed(struct ph_chan *chan, bool clean, bool local, uint64_t code,
                       const char *reason, size_t reason_len)
{
    struct ph_chan_io *io = &chan->io;
    if ((io->pending & PH_PEND_CLOSED) != 0 || io->closed_sent)
        return;
    io->engine.any = NULL;
    ph_chan_file_drop(chan);
    io->close_clean = clean;
    io->close_local = local;
    io->close_code = code;
    if (reason_len > 0)
        io->reason = ph_buf_copy(reason, reason_len);
    ph_chan_io_acked(chan, io->inflight);
    unsigned bits = PH_PEND_CLOSED;
    if (io->datagrams != NULL) {
        ph_chan_io_datagrams_left(chan, io->datagrams->inflight);
        bits |= io->datagrams->count > 0 ? PH_PEND_DATAGRAM : 0;
    }
    ph_chan_io_pend(chan, bits);
}
