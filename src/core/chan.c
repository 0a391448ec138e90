/*
 * chan.c - the I/O half of channels: what engines report becomes pending bits and blocks of
 * payload, and is moved into the up ring once a turn; commands from the down ring go to the
 * engine.
 *
 *      engine event -> bit (+ block) -> pipe->io.ready -> publish -> up ring
 *
 * Invariants: a channel that found the ring full keeps its bits and its place in the list, so that
 * nothing is lost and nothing overtakes (datagrams apart, of which the oldest are dropped); payload
 * is copied once, into the block that the application gets; credit goes back to the engine only for
 * bytes that the application consumed or can no longer get; CLOSED is published last, and a
 * session's after those of its streams. The I/O half drops its reference after it has published
 * CLOSED and seen RELEASE.
 */
#include "core.h"

struct ph_chan_datagrams {
    struct ph_buf **ring; /* limits.datagrams_in entries */
    uint32_t head, count;
    size_t bytes;
    uint32_t published; /* not given back by the application */
    size_t inflight;    /* outbound, given to the engine */
};

struct ph_chan_messages {
    struct {
        struct ph_buf *buf; /* own; NULL: empty */
        bool text;
    } * ring; /* a power of two */
    uint32_t cap, head, count;
};

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

static void drop_blocks(struct ph_chan_io *io)
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

static void drop_datagrams(struct ph_chan *chan)
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

static void drop_messages(struct ph_chan *chan)
{
    struct ph_chan_messages *messages = chan->io.messages;
    if (messages == NULL)
        return;
    for (; messages->count > 0; messages->count--) {
        ph_buf_unref(messages->ring[messages->head].buf);
        messages->head = (messages->head + 1) & (messages->cap - 1);
    }
}

/* CLOSED was published and RELEASE was seen: the last act of the I/O half. */
static void finish(struct ph_chan *chan)
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

static void make_ready(struct ph_chan *chan)
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
        make_ready(chan);
}

/* --- From the engine --- */

static void give_back(struct ph_chan *chan, size_t n)
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
        give_back(chan, n);
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
    drop_blocks(io);
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

static void take_queued(struct ph_chan *chan, size_t n)
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
    take_queued(chan, n);
    if (chan->io.file != NULL && n > 0)
        ph_chan_file_wake(chan);
}

void ph_chan_io_unqueue(struct ph_chan *chan, size_t n)
{
    take_queued(chan, n);
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
        struct ph_chan_messages grown = {.cap = PH_MAX(messages->cap * 2, (uint32_t)4)};
        grown.ring = ph_alloc(grown.cap * sizeof(*grown.ring));
        for (; grown.count < messages->count; grown.count++)
            grown.ring[grown.count] =
                messages->ring[(messages->head + grown.count) & (messages->cap - 1)];
        ph_free(messages->ring);
        *messages = grown;
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

static void take_datagrams_queued(struct ph_chan *chan, size_t n)
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
    take_datagrams_queued(chan, n);
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

/* --- Publishing --- */

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
    bool is_news = !io->released || chan->kind != PH_CHAN_HTTP;
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
    drop_messages(chan);
    if (io->messages != NULL)
        ph_free(io->messages->ring);
    ph_free(io->messages);
    io->messages = NULL;
    if (parent != NULL && --parent->io.children == 0 && (parent->io.pending & PH_PEND_CLOSED) != 0)
        make_ready(parent);
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
        make_ready(chan);
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
            finish(chan);
    }
    return true;
}

/* --- Commands --- */

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
        make_ready(chan);
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
        take_queued(chan, n);
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
    drop_blocks(io);
    io->pending &= ~(unsigned)PH_PEND_RESET;
    give_back(chan, io->unconsumed);
    io->published_count = 0;
    if (io->engine.any != NULL && !had_end)
        io->ops->stop(chan, code);
}

static void datagram_command(struct ph_chan *chan, struct ph_msg *msg)
{
    struct ph_chan_io *io = &chan->io;
    if (io->engine.any == NULL || io->ops->datagram == NULL) {
        ph_buf_unref(msg->s.buf);
        take_datagrams_queued(chan, 1);
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
    take_queued(chan, n); /* its frame counts instead: ph_chan_io_framed() */
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
    drop_blocks(io);
    drop_datagrams(chan);
    drop_messages(chan);
    io->pending &= PH_PEND_CLOSED;
    give_back(chan, io->unconsumed);
    if (io->engine.any != NULL && io->ops->release != NULL)
        io->ops->release(chan);
    if (io->is_slow)
        make_ready(chan);
    if (io->closed_sent)
        finish(chan);
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
