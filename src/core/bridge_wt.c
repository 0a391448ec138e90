/*
 * bridge_wt.c - WebTransport sessions and streams on one side, channels on the other.
 *
 *      wt sink -> ph_chan_io_*()          commands -> session_ops, stream_ops -> ph_wt_*()
 *
 * A stream's engine object may be gone long before the application has read all of it: the bytes
 * and the stream itself stay charged to the peer until they are consumed and the channel is
 * released; both are then given back through the session, as long as it lives.
 */
#include "../h3/h3.h"
#include "../http/http.h"
#include "../quic/quic.h"
#include "../wt/wt.h"
#include "core.h"

static const struct ph_chan_ops session_ops, stream_ops;

static struct ph_wt_session *session_of(const struct ph_chan *chan)
{
    return chan->io.ops == &session_ops ? chan->io.engine.session : NULL;
}

static void note_max_datagram(struct ph_chan *chan)
{
    struct ph_wt_session *session = session_of(chan);
    if (session != NULL)
        atomic_store_explicit(&chan->max_datagram, ph_wt_session_max_datagram(session),
                              memory_order_relaxed);
}

/* --- From the engine --- */

static void on_session(void *self, struct ph_wt_session *session)
{
    struct ph_server *server = self;
    if (ph_bridge_http_is_full(server)) {
        server->is_refusing = true; /* the exchange that this makes gets 503 */
        ph_wt_session_reject(session);
        server->is_refusing = false;
        return;
    }
    struct ph_chan *chan = ph_chan_new(&server->pipe, PH_CHAN_WT_SESSION, NULL);
    size_t n = 0;
    const char *const *offered = ph_wt_session_offered(session, &n);
    chan->server = server;
    chan->request = ph_chan_request_new(ph_wt_session_head(session), ph_wt_session_path(session),
                                        ph_wt_session_tls(session));
    ph_chan_request_set_session(chan->request, ph_wt_session_id(session), offered, n,
                                ph_wt_session_has_datagrams(session),
                                ph_wt_session_max_datagram(session));
    atomic_store_explicit(&chan->id, ph_wt_session_id(session), memory_order_relaxed);
    ph_wt_session_set_user(session, chan);
    ph_chan_io_attach(chan, &session_ops, session);
    ph_count(&server->stats, sessions);
    server->app_calls++;
    note_max_datagram(chan);
    ph_chan_io_pend(chan, PH_PEND_ANNOUNCE);
}

static void on_stream(void *self, struct ph_wt_session *session, struct ph_wt_stream *stream)
{
    struct ph_server *server = self;
    struct ph_chan *parent = ph_wt_session_user(session);
    struct ph_chan *chan = ph_chan_new(&server->pipe, PH_CHAN_WT_STREAM, parent);
    uint64_t id = ph_wt_stream_id(stream);
    chan->is_bidi = !ph_quic_id_is_uni(id);
    atomic_store_explicit(&chan->id, id, memory_order_relaxed);
    ph_wt_stream_set_user(stream, chan);
    ph_chan_io_attach(chan, &stream_ops, stream);
    ph_chan_io_pend(chan, PH_PEND_ANNOUNCE);
}

static void on_opened(void *self, struct ph_wt_stream *stream)
{
    (void)self;
    struct ph_chan *chan = ph_wt_stream_user(stream);
    atomic_store_explicit(&chan->id, ph_wt_stream_id(stream), memory_order_relaxed);
    ph_chan_io_pend(chan, PH_PEND_OPENED);
}

static void on_data(void *self, struct ph_wt_stream *stream, const uint8_t *data, size_t n,
                    bool fin)
{
    (void)self;
    struct ph_chan *chan = ph_wt_stream_user(stream);
    ph_chan_io_data(chan, data, n);
    if (fin)
        ph_chan_io_fin(chan);
}

static void on_reset(void *self, struct ph_wt_stream *stream, bool has_code, uint32_t code)
{
    (void)self;
    ph_chan_io_reset(ph_wt_stream_user(stream), has_code, code);
}

static void on_stop(void *self, struct ph_wt_stream *stream, bool has_code, uint32_t code)
{
    (void)self;
    ph_chan_io_stop(ph_wt_stream_user(stream), has_code, code);
}

static void on_acked(void *self, struct ph_wt_stream *stream, size_t n)
{
    (void)self;
    ph_chan_io_acked(ph_wt_stream_user(stream), n);
}

static bool can_write(const struct ph_chan *chan)
{
    return chan->is_local || chan->is_bidi;
}

static bool can_read(const struct ph_chan *chan)
{
    return !chan->is_local || chan->is_bidi;
}

static void on_stream_closed(void *self, struct ph_wt_stream *stream)
{
    (void)self;
    struct ph_chan *chan = ph_wt_stream_user(stream);
    const struct ph_chan_io *io = &chan->io;
    /* Whole is a direction that does not exist or that got to its FIN; a FIN of ours that a reset
     * or the peer's stop overtook (tx_done) did not. */
    bool read_whole = !can_read(chan) || (io->rx_ended && !io->rx_reset);
    bool written_whole = !can_write(chan) || (io->fin_out && !io->tx_done);
    uint64_t code = io->rx_reset ? io->reset_code : io->peer_stopped ? io->stop_code : 0;
    ph_chan_io_closed(chan, read_whole && written_whole, io->reset_sent, code, NULL, 0);
}

static void on_datagram(void *self, struct ph_wt_session *session, const uint8_t *data, size_t n)
{
    (void)self;
    struct ph_chan *chan = ph_wt_session_user(session);
    note_max_datagram(chan);
    ph_chan_io_datagram(chan, data, n);
}

static void on_datagrams_left(void *self, struct ph_wt_session *session, size_t n)
{
    (void)self;
    struct ph_chan *chan = ph_wt_session_user(session);
    note_max_datagram(chan);
    ph_chan_io_datagrams_left(chan, n);
}

static void on_drain(void *self, struct ph_wt_session *session, bool local)
{
    (void)self;
    ph_chan_io_drain(ph_wt_session_user(session), local);
}

static void on_session_closed(void *self, struct ph_wt_session *session,
                              const struct ph_wt_end *end)
{
    (void)self;
    ph_chan_io_closed(ph_wt_session_user(session), end->clean, end->local, end->code, end->reason,
                      end->reason_len);
}

void ph_bridge_wt_sink(struct ph_server *server, struct ph_wt_sink *out)
{
    *out = (struct ph_wt_sink){
        .self = server,
        .on_session = on_session,
        .on_stream = on_stream,
        .on_opened = on_opened,
        .on_data = on_data,
        .on_reset = on_reset,
        .on_stop = on_stop,
        .on_acked = on_acked,
        .on_stream_closed = on_stream_closed,
        .on_datagram = on_datagram,
        .on_datagrams_left = on_datagrams_left,
        .on_drain = on_drain,
        .on_session_closed = on_session_closed,
    };
}

/* --- To a session --- */

static void session_accept(struct ph_chan *chan, const struct ph_field *fields, size_t n,
                           const char *subprotocol)
{
    int rc = ph_wt_session_accept(chan->io.engine.session, fields, n, subprotocol);
    if (rc < 0 && session_of(chan) != NULL) {
        ph_log(PH_LOG_WARNING, "wt: accept failed error=\"%s\"", ph_strerror(rc));
        ph_wt_session_reset(session_of(chan), PH_H3_INTERNAL_ERROR);
    }
    note_max_datagram(chan);
}

/* The rejection is an ordinary response: the session's exchange takes its place in the channel. */
static void session_respond(struct ph_chan *chan, int status, const struct ph_field *fields,
                            size_t n, unsigned flags)
{
    struct ph_server *server = chan->server;
    server->rejecting = chan;
    struct ph_exchange *ex = ph_wt_session_reject(chan->io.engine.session);
    server->rejecting = NULL;
    if (ex == NULL)
        return; /* already over: its end is on the way */
    PH_ASSERT(chan->io.engine.ex == ex);
    ph_bridge_http_respond(chan, status, fields, n, flags);
}

static void session_open(struct ph_chan *session, struct ph_chan *stream)
{
    ph_chan_io_attach(stream, &stream_ops, NULL);
    struct ph_wt_stream *engine =
        ph_wt_session_open(session->io.engine.session, stream->is_bidi, stream);
    if (engine == NULL)
        ph_chan_io_closed(stream, false, false, 0, NULL, 0);
    else if ((stream->io.pending & PH_PEND_CLOSED) == 0) /* it may have ended inside the call */
        stream->io.engine.stream = engine;
}

static void session_datagram(struct ph_chan *chan, struct ph_buf *buf, uint64_t expires)
{
    /* Refused ones (too big for the path, session closing) are not reported as having left. */
    if (ph_wt_session_datagram(chan->io.engine.session, buf, expires) < 0)
        ph_chan_io_datagrams_left(chan, 1);
    note_max_datagram(chan);
}

static void session_close(struct ph_chan *chan, uint32_t code, const char *reason, size_t n)
{
    chan->io.fin_out = true;
    ph_wt_session_close(chan->io.engine.session, code, reason, n);
}

static void session_drain(struct ph_chan *chan)
{
    ph_wt_session_drain(chan->io.engine.session);
}

static void session_reset(struct ph_chan *chan, uint64_t code)
{
    ph_wt_session_reset(chan->io.engine.session, code);
}

/* An application that lets go without a close has failed: the peer gets no clean end. */
static void session_release(struct ph_chan *chan)
{
    if (!chan->io.fin_out && !chan->io.reset_sent)
        ph_wt_session_reset(chan->io.engine.session, PH_H3_INTERNAL_ERROR);
}

static const struct ph_chan_ops session_ops = {
    .respond = session_respond,
    .accept = session_accept,
    .open = session_open,
    .datagram = session_datagram,
    .close = session_close,
    .drain = session_drain,
    .reset = session_reset,
    .release = session_release,
};

/* --- To a stream --- */

static int stream_write(struct ph_chan *chan, struct ph_slice slice, bool fin)
{
    return ph_wt_stream_write(chan->io.engine.stream, slice, fin);
}

static void stream_consume(struct ph_chan *chan, size_t n)
{
    struct ph_wt_session *session = session_of(chan->parent);
    if (n == 0)
        return;
    if (chan->io.engine.stream != NULL)
        ph_wt_stream_consume(chan->io.engine.stream, n);
    else if (session != NULL)
        ph_wt_session_consume(session, n);
}

static void stream_reset(struct ph_chan *chan, uint64_t code)
{
    if (can_write(chan))
        ph_wt_stream_reset(chan->io.engine.stream, (uint32_t)code);
}

static void stream_stop(struct ph_chan *chan, uint64_t code)
{
    if (can_read(chan))
        ph_wt_stream_stop(chan->io.engine.stream, (uint32_t)code);
}

static void stream_priority(struct ph_chan *chan, unsigned urgency)
{
    if (can_write(chan))
        ph_wt_stream_set_urgency(chan->io.engine.stream, urgency);
}

/* What was finished goes out; what was not is abandoned in both directions. */
static void stream_release(struct ph_chan *chan)
{
    struct ph_chan_io *io = &chan->io;
    if (can_write(chan) && !io->fin_out && !io->tx_done) {
        io->tx_done = io->reset_sent = true;
        ph_wt_stream_reset(io->engine.stream, 0);
    }
    if (io->engine.stream != NULL && can_read(chan) && !io->rx_ended)
        ph_wt_stream_stop(io->engine.stream, 0);
}

/* Only now does the peer get credit for another stream: it cannot have more of them at once than
 * were allowed, however slowly the application reads. */
static void stream_delivered(struct ph_chan *chan)
{
    struct ph_wt_session *session = session_of(chan->parent);
    if (session != NULL && !chan->is_local)
        ph_wt_session_stream_done(session, chan->is_bidi);
}

static const struct ph_chan_ops stream_ops = {
    .write = stream_write,
    .consume = stream_consume,
    .reset = stream_reset,
    .stop = stream_stop,
    .priority = stream_priority,
    .release = stream_release,
    .delivered = stream_delivered,
};
