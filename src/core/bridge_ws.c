/*
 * bridge_ws.c - WebSockets: exchanges that ask for a tunnel on one side, channels of kind
 * PH_CHAN_WEBSOCKET on the other, and between them the protocol (http/ws.c), whatever the version
 * of HTTP that carries it.
 *
 *      exchange sink -> [in] -> ph_ws_feed() -> ph_chan_io_message()
 *      commands -> socket_ops -> ph_ws_*() -> ph_exchange_write()
 *
 * One socket lives as long as its exchange. Before the application accepts, what the client says
 * already waits in `in` (HTTP/1.1 does not even read it); a rejection is an ordinary response, for
 * which the exchange takes the socket's place in the channel. Afterwards `in` holds what the
 * protocol does not want yet because the application's queue is full; its bytes are credit that the
 * transport does not get back. The channel is told of the end as soon as it is known, while frames
 * may still be on their way out.
 */
#include "core.h"

struct ph_bridge_ws {
    struct ph_server *server;
    struct ph_link link; /* server->sockets */
    struct ph_timer timer;
    struct ph_exchange *ex;
    struct ph_chan *chan; /* NULL: its end was told */
    struct ph_ws_ask ask;
    struct ph_ws *ws;    /* NULL: not accepted */
    struct ph_sliceq in; /* came and was not eaten */
    bool in_ended;       /* and nothing follows */
    bool is_feeding;
    bool is_over; /* our side is finished */
};

/* --- Between the two --- */

static void arm(struct ph_bridge_ws *socket)
{
    uint64_t at = socket->ws != NULL ? ph_ws_next(socket->ws) : PH_NEVER;
    if (at == PH_NEVER)
        ph_loop_timer_cancel(socket->server->loop, &socket->timer);
    else
        ph_loop_timer_set(socket->server->loop, &socket->timer, at);
}

/* Gives the protocol what waits, as long as it wants it, and then the end. */
static void feed(struct ph_bridge_ws *socket)
{
    uint64_t now = socket->server->now;
    struct iovec iov;
    if (socket->ws == NULL || socket->is_feeding)
        return;
    socket->is_feeding = true;
    ph_ws_feed(socket->ws, NULL, 0, now); /* a message that waited for room may go on */
    while (ph_ws_wants_input(socket->ws) && ph_sliceq_gather(&socket->in, &iov, 1, SIZE_MAX) == 1) {
        size_t n = ph_ws_feed(socket->ws, iov.iov_base, iov.iov_len, now);
        ph_sliceq_advance(&socket->in, n);
        ph_sliceq_drop(&socket->in, n);
        ph_exchange_consume(socket->ex, n);
    }
    if (socket->in_ended && ph_ws_wants_input(socket->ws) && socket->in.unsent == 0)
        ph_ws_eof(socket->ws, now);
    socket->is_feeding = false;
}

/* After everything that may have changed what is due. */
static void settle(struct ph_bridge_ws *socket)
{
    arm(socket);
    ph_bridge_http_touch(socket->ex);
}

static void on_timer(struct ph_timer *timer, uint64_t now)
{
    struct ph_bridge_ws *socket = PH_CONTAINER(timer, struct ph_bridge_ws, timer);
    ph_ws_expire(socket->ws, now);
    settle(socket);
}

/* --- From the protocol --- */

static void on_message(void *user, struct ph_buf *message, bool text)
{
    struct ph_bridge_ws *socket = user;
    ph_count(&socket->server->stats, messages_in);
    if (socket->chan != NULL)
        ph_chan_io_message(socket->chan, message, text);
    else
        ph_buf_unref(message);
}

static void on_out(void *user, struct ph_slice slice)
{
    struct ph_bridge_ws *socket = user;
    if (socket->chan != NULL)
        ph_chan_io_framed(socket->chan, slice.n);
    ph_exchange_write(socket->ex, slice, false);
}

static void on_closed(void *user, const struct ph_ws_end *end)
{
    struct ph_bridge_ws *socket = user;
    struct ph_chan *chan = socket->chan;
    socket->chan = NULL;
    if (chan != NULL)
        ph_chan_io_closed(chan, end->clean, end->local, end->code, end->reason, end->reason_len);
}

static void on_over(void *user)
{
    struct ph_bridge_ws *socket = user;
    socket->is_over = true;
    ph_exchange_write(socket->ex, (struct ph_slice){.buf = NULL}, true);
}

static const struct ph_ws_sink ws_sink = {
    .on_message = on_message, .on_out = on_out, .on_closed = on_closed, .on_over = on_over};

/* --- From the exchange --- */

static void ex_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    struct ph_bridge_ws *socket = ex->user;
    size_t eaten = 0;
    (void)self;
    if (socket->is_over) {
        ph_exchange_consume(ex, n);
        return;
    }
    if (socket->ws != NULL && socket->in.unsent == 0 && ph_ws_wants_input(socket->ws)) {
        eaten = ph_ws_feed(socket->ws, data, n, socket->server->now);
        ph_exchange_consume(ex, eaten);
    }
    if (eaten < n)
        ph_sliceq_push_copy(&socket->in, data + eaten, n - eaten);
    settle(socket);
}

/* A tunnel has no trailers; an extended CONNECT that has some is refused by its engine. */
static void ex_trailers(void *self, struct ph_exchange *ex, const struct ph_fields *fields)
{
    (void)self;
    (void)ex;
    (void)fields;
}

static void ex_end(void *self, struct ph_exchange *ex)
{
    struct ph_bridge_ws *socket = ex->user;
    (void)self;
    socket->in_ended = true;
    feed(socket);
    settle(socket);
}

static void ex_acked(void *self, struct ph_exchange *ex, size_t n)
{
    struct ph_bridge_ws *socket = ex->user;
    (void)self;
    ph_ws_sent(socket->ws, n, socket->server->now);
    if (socket->chan != NULL)
        ph_chan_io_acked(socket->chan, n);
    arm(socket);
}

static void socket_free(struct ph_bridge_ws *socket)
{
    ph_loop_timer_cancel(socket->server->loop, &socket->timer);
    ph_list_remove(&socket->link);
    if (socket->ws != NULL)
        ph_ws_free(socket->ws);
    ph_ws_ask_fini(&socket->ask);
    ph_sliceq_fini(&socket->in);
    ph_free(socket);
}

static void ex_closed(void *self, struct ph_exchange *ex, bool clean, uint64_t code)
{
    struct ph_bridge_ws *socket = ex->user;
    (void)self;
    (void)clean;
    (void)code;
    if (socket->chan != NULL) {
        struct ph_ws_end lost = {.code = PH_WS_CODE_LOST, .reason = ""};
        lost.local = socket->chan->io.reset_sent;
        on_closed(socket, &lost);
    }
    socket_free(socket);
}

/* --- A new one --- */

static void refuse(struct ph_server *server, struct ph_exchange *ex,
                   const struct ph_ws_refusal *refusal)
{
    static const struct ph_field version = {"sec-websocket-version", "13", 21, 2};
    if (refusal->status == 403)
        ph_count(&server->stats, origins_refused);
    else
        ph_count(&server->stats, protocol_errors);
    ph_bridge_http_answer(server, ex, refusal->status, refusal->status == 426 ? &version : NULL,
                          refusal->why);
}

static const struct ph_chan_ops socket_ops;

void ph_bridge_ws_request(struct ph_server *server, struct ph_exchange *ex)
{
    struct ph_ws_ask ask;
    struct ph_ws_refusal refusal;
    if (ph_ws_ask_read(&ask, &server->ws_config, &ex->head, &refusal) < 0) {
        refuse(server, ex, &refusal);
        return;
    }
    struct ph_bridge_ws *socket = ph_alloc(sizeof(*socket));
    struct ph_chan *chan = ph_chan_new(&server->pipe, PH_CHAN_WEBSOCKET, NULL);
    chan->server = server;
    ph_chan_share(chan, ex->siblings);
    chan->request = ph_chan_request_new(&ex->head, &ex->path, ex->tls);
    ph_chan_request_set_early(chan->request, ex->is_early);
    ph_chan_request_set_session(chan->request, 0, (const char *const *)ask.offered, ask.offered_len,
                                false, 0);
    socket->server = server;
    socket->ex = ex;
    socket->chan = chan;
    socket->ask = ask;
    socket->timer.on_fire = on_timer;
    ph_sliceq_init(&socket->in);
    ph_list_append(&server->sockets, &socket->link);
    ex->user = socket;
    ex->sink = &server->ws_sink;
    ph_chan_io_attach(chan, &socket_ops, socket);
    ph_count(&server->stats, sockets);
    server->app_calls++;
    ph_chan_io_pend(chan, PH_PEND_ANNOUNCE);
}

void ph_bridge_ws_drain(struct ph_server *server)
{
    for (struct ph_link *link = server->sockets.next; link != &server->sockets; link = link->next) {
        struct ph_bridge_ws *socket = PH_CONTAINER(link, struct ph_bridge_ws, link);
        if (socket->ws == NULL)
            continue; /* closed as soon as it is accepted */
        ph_ws_go_away(socket->ws, server->now);
        feed(socket); /* what waited for room is not wanted any more: the peer's close may be there
                       */
        settle(socket);
    }
}

void ph_bridge_ws_sink(struct ph_server *server, struct ph_exchange_sink *out)
{
    *out = (struct ph_exchange_sink){
        .self = server,
        .on_body = ex_body,
        .on_trailers = ex_trailers,
        .on_end = ex_end,
        .on_acked = ex_acked,
        .on_closed = ex_closed,
    };
}

/* --- Commands --- */

static struct ph_bridge_ws *of(const struct ph_chan *chan)
{
    return chan->io.engine.socket;
}

/* 101, or 200 to an extended CONNECT. */
static int grant(struct ph_bridge_ws *socket, const struct ph_field *fields, size_t n,
                 const char *subprotocol)
{
    struct ph_fields out = {0};
    int rc = ph_ws_ask_answer(&socket->ask, &out, fields, n, subprotocol);
    if (rc == 0) {
        size_t count;
        struct ph_field *list =
            ph_bridge_http_fields(socket->server, socket->ex, out.list, out.count, &count);
        rc = ph_exchange_upgrade(socket->ex, list, count);
        ph_free(list);
    }
    ph_fields_fini(&out);
    return rc;
}

static void socket_accept(struct ph_chan *chan, const struct ph_field *fields, size_t n,
                          const char *subprotocol)
{
    struct ph_bridge_ws *socket = of(chan);
    struct ph_server *server = socket->server;
    int rc = grant(socket, fields, n, subprotocol);
    if (rc < 0) {
        ph_log(PH_LOG_WARNING, "ws: accept failed error=\"%s\"", ph_strerror(rc));
        ph_exchange_reset(socket->ex, PH_H3_INTERNAL_ERROR);
        ph_bridge_http_touch(socket->ex);
        return;
    }
    socket->ws = ph_ws_new(server->ws, &socket->ask, &ws_sink, socket, server->now);
    if (server->is_draining)
        ph_ws_go_away(socket->ws, server->now);
    feed(socket);
    settle(socket);
}

/* A rejection: from here on it is an ordinary exchange. */
static void socket_respond(struct ph_chan *chan, int status, const struct ph_field *fields,
                           size_t n, unsigned flags)
{
    struct ph_bridge_ws *socket = of(chan);
    struct ph_exchange *ex = socket->ex;
    ex->sink = &socket->server->http_sink;
    ph_bridge_http_adopt(chan, ex);
    ph_exchange_consume(ex, socket->in.unsent);
    socket_free(socket);
    ph_bridge_http_respond(chan, status, fields, n, flags);
}

static void socket_message(struct ph_chan *chan, struct ph_slice message, bool text)
{
    struct ph_bridge_ws *socket = of(chan);
    if (socket->ws == NULL) {
        ph_buf_unref(message.buf);
        return;
    }
    ph_ws_send(socket->ws, message, text, socket->server->now);
    settle(socket);
}

static void socket_consume(struct ph_chan *chan, size_t messages)
{
    struct ph_bridge_ws *socket = of(chan);
    if (socket == NULL || socket->ws == NULL || messages == 0)
        return;
    ph_ws_consume(socket->ws, messages);
    feed(socket);
    settle(socket);
}

static void socket_close(struct ph_chan *chan, uint32_t code, const char *reason, size_t n)
{
    struct ph_bridge_ws *socket = of(chan);
    chan->io.fin_out = true;
    if (socket->ws == NULL)
        return;
    ph_ws_close(socket->ws, code, reason, n, socket->server->now);
    feed(socket); /* the peer's close may be behind what was not wanted */
    settle(socket);
}

static void socket_reset(struct ph_chan *chan, uint64_t code)
{
    struct ph_bridge_ws *socket = of(chan);
    ph_exchange_reset(socket->ex, code);
    ph_bridge_http_touch(socket->ex);
}

/* A socket that was neither closed nor rejected is cut. */
static void socket_release(struct ph_chan *chan)
{
    if (!chan->io.fin_out && !chan->io.reset_sent)
        socket_reset(chan, PH_H3_INTERNAL_ERROR);
}

static const struct ph_chan_ops socket_ops = {
    .respond = socket_respond,
    .accept = socket_accept,
    .message = socket_message,
    .consume = socket_consume,
    .close = socket_close,
    .reset = socket_reset,
    .release = socket_release,
};
