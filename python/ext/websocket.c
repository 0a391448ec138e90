/*
 * websocket.c - one WebSocket, seen by an application of the "websocket" scope (ASGI 2.5).
 *
 *      ASKED --accept--> OPEN --close--> CLOSING          receive(): connect, messages, disconnect
 *        \--close, http.response.start--> REJECTING, REJECTED
 *
 * Messages wait in the inbox until receive() takes them; taking gives their place back, so an
 * application that does not read stops the client. websocket.disconnect comes when everything else
 * was handed out, and from then on again and again. The closing handshake, pings and compression
 * are the core's; so a close is reported when the core knows how it went.
 */
#include "ext.h"

#define CODE_NORMAL 1000u /* RFC 6455 7.4.1 */
#define CODE_LOST 1006u
#define CODE_FAILED 1011u

enum socket_phase {
    SOCKET_ASKED,     /* not answered */
    SOCKET_REJECTING, /* websocket.http.response.start was sent; its head is kept */
    SOCKET_REJECTED,
    SOCKET_OPEN,
    SOCKET_CLOSING, /* the application has closed it, or has ended */
};

typedef struct Socket {
    Channel base;
    Inbox in;            /* one piece a message */
    Link senders;        /* Await.link, own: send() calls that wait for room */
    Rejection rejection; /* while REJECTING */
    PyObject *reason;    /* own; of the disconnect; NULL: none */
    enum socket_phase phase;
    uint32_t code;  /* of the disconnect */
    unsigned sends; /* that found room at once */
    bool connect_handed;
    bool ended; /* the core has said how it ended */
} Socket;

static Socket *as_socket(Channel *channel)
{
    return (Socket *)(void *)channel;
}

/* --- receive() --- */

static bool has_message(const Socket *socket)
{
    return socket->in.count > 0 && socket->phase == SOCKET_OPEN && socket->base.running;
}

static bool is_over(const Socket *socket)
{
    return socket->ended || !socket->base.running || socket->phase == SOCKET_REJECTED;
}

static bool socket_is_ready(const Channel *channel)
{
    const Socket *socket = (const Socket *)(const void *)channel;
    return !socket->connect_handed || has_message(socket) || is_over(socket);
}

static PyObject *next_message(Socket *socket)
{
    State *st = socket->base.st;
    bool text = socket->in.ring[socket->in.head].text;
    PyObject *message = message_socket_receive(st, &socket->in, text);
    if (message != NULL && socket->base.chan != NULL) {
        ph_chan_consume_messages(socket->base.chan, 1);
        server_touch(socket->base.server);
    }
    return message;
}

static PyObject *socket_next(Channel *channel)
{
    Socket *socket = as_socket(channel);
    State *st = channel->st;
    if (!socket->connect_handed) {
        socket->connect_handed = true;
        return message_of_type(st, st->str.ws_connect);
    }
    if (has_message(socket))
        return next_message(socket);
    if (!is_over(socket))
        return NULL;
    channel->repeats++;
    return message_socket_disconnect(st, socket->ended ? socket->code : CODE_LOST,
                                     socket->reason != NULL ? socket->reason : st->str.empty);
}

/* --- Answers --- */

static int is_gone(Socket *socket)
{
    return fail_disconnected(socket->base.st, "the WebSocket is closed");
}

/* Whether websocket.connect was received does not matter: frameworks refuse without looking. */
static int check_asked(Socket *socket, const char *what)
{
    if (socket->phase != SOCKET_ASKED) {
        PyErr_Format(PyExc_RuntimeError, "%s after the WebSocket was answered", what);
        return STEP_FAIL;
    }
    if (socket->ended || socket->base.chan == NULL)
        return is_gone(socket);
    return STEP_DONE;
}

static int accept_socket(Socket *socket, const Message *message)
{
    if (check_asked(socket, "websocket.accept") < 0)
        return STEP_FAIL;
    const char *subprotocol;
    if (handshake_subprotocol(&socket->base, message, &subprotocol) < 0)
        return STEP_FAIL;
    int rc =
        ph_chan_accept(socket->base.chan, message->fields.list, message->fields.count, subprotocol);
    if (rc != PH_OK)
        return is_gone(socket);
    socket->phase = SOCKET_OPEN;
    socket->base.status = ph_chan_request(socket->base.chan)->http_version < 20 ? 101 : 200;
    return STEP_DONE;
}

/* A whole answer at once. */
static void reject(Socket *socket, int status)
{
    socket->phase = SOCKET_REJECTED;
    socket->base.status = status;
    if (socket->base.chan == NULL || socket->ended)
        return;
    ph_chan_respond(socket->base.chan, status, NULL, 0, true);
    server_touch(socket->base.server);
    channel_wake(&socket->base);
    channel_access(&socket->base);
}

static int response_start(Socket *socket, Message *message)
{
    if (check_asked(socket, "websocket.http.response.start") < 0)
        return STEP_FAIL;
    socket->phase = SOCKET_REJECTING;
    rejection_keep(&socket->base, &socket->rejection, message, message->status);
    return STEP_DONE;
}

static int respond(Socket *socket, Message *message)
{
    if (rejection_send(&socket->base, &socket->rejection, message, message->end) != PH_OK)
        return is_gone(socket);
    if (message->end) {
        socket->phase = SOCKET_REJECTED;
        channel_wake(&socket->base);
        channel_access(&socket->base);
    }
    return STEP_DONE;
}

/* --- Messages --- */

/* Whether this call has to wait behind others, or for room. */
static bool must_wait(Socket *socket, Await *await)
{
    return await_is_behind(&socket->senders, await) ||
           ph_chan_wait_writable(socket->base.chan) == 0;
}

static int response_body(Socket *socket, Await *await, Message *message)
{
    if (socket->phase != SOCKET_REJECTING)
        return fail_out_of_order("websocket.http.response.body without a response under way");
    if (socket->ended || socket->base.chan == NULL)
        return is_gone(socket);
    if (!socket->rejection.kept && must_wait(socket, await)) {
        await_join(&socket->senders, await);
        return STEP_WAIT;
    }
    return respond(socket, message);
}

static int send_message(Socket *socket, Await *await, Message *message)
{
    if (socket->phase == SOCKET_ASKED || socket->phase == SOCKET_REJECTING)
        return fail_out_of_order("websocket.send before websocket.accept");
    if (socket->ended || socket->base.chan == NULL || socket->phase != SOCKET_OPEN)
        return is_gone(socket);
    if (must_wait(socket, await)) {
        await_join(&socket->senders, await);
        return STEP_WAIT;
    }
    ph_buf *buf = message->buf;
    message->buf = NULL; /* taken */
    if (ph_chan_send_message(socket->base.chan, buf, message->is_text) != PH_OK)
        return is_gone(socket);
    socket->base.bytes_out += message->len;
    /* A tight loop that always finds room must let the event loop turn. */
    return ++socket->sends % CALLS_PER_YIELD == 0 ? STEP_YIELD : STEP_DONE;
}

static void drop_inbox(Socket *socket)
{
    inbox_clear(&socket->in);
    await_wake_all(&socket->senders);
}

static int close_socket(Socket *socket, const Message *message)
{
    uint32_t code = message->has_code ? message->code : CODE_NORMAL;
    if (socket->phase == SOCKET_ASKED) {
        if (check_asked(socket, "websocket.close") < 0)
            return STEP_FAIL;
        reject(socket, 403);
        return STEP_DONE;
    }
    if (socket->phase == SOCKET_REJECTING)
        return fail_out_of_order("websocket.close while a response is under way");
    if (socket->ended || socket->base.chan == NULL || socket->phase != SOCKET_OPEN)
        return is_gone(socket);
    Py_ssize_t n = 0;
    const char *reason = "";
    if (message->text != NULL) {
        reason = PyUnicode_AsUTF8AndSize(message->text, &n);
        if (reason == NULL)
            return STEP_FAIL;
    }
    int rc = ph_chan_close(socket->base.chan, code, reason, (size_t)n);
    if (rc == PH_E_INVAL) {
        PyErr_Format(PyExc_ValueError,
                     "'code' must be one that may be sent (1000 to 1003, 1007 to 1014, 3000 to "
                     "4999), not %u",
                     (unsigned)code);
        return STEP_FAIL;
    }
    socket->phase = SOCKET_CLOSING;
    drop_inbox(socket);
    return STEP_DONE;
}

static int socket_step(Socket *socket, Await *await, Message *message)
{
    switch (message->kind) {
    case MESSAGE_WS_ACCEPT:
        return accept_socket(socket, message);
    case MESSAGE_WS_SEND:
        return send_message(socket, await, message);
    case MESSAGE_WS_CLOSE:
        return close_socket(socket, message);
    case MESSAGE_WS_RESPONSE_START:
        return response_start(socket, message);
    case MESSAGE_WS_RESPONSE_BODY:
        return response_body(socket, await, message);
    default: /* ws_types has no others */
        Py_UNREACHABLE();
    }
}

static int socket_send(Channel *channel, Await *await, PyObject **result)
{
    Socket *socket = as_socket(channel);
    State *st = channel->st;
    Message fresh, *message = await->cmd;
    if (message == NULL) {
        message = &fresh;
        if (message_read(st, st->ws_types, "websocket", await->message, message) < 0)
            return STEP_FAIL;
    }
    int step = socket_step(socket, await, message);
    server_touch(channel->server);
    if (step == STEP_WAIT)
        return await_keep(await, message);
    PyObject *exc = exception_take();
    await_leave(await);
    message_clear(message);
    await_wake_first(&socket->senders);
    exception_give(exc);
    if (step != STEP_FAIL)
        *result = Py_NewRef(Py_None);
    return step;
}

static void socket_abandoned(Channel *channel, Await *Py_UNUSED(await))
{
    await_wake_first(&as_socket(channel)->senders);
}

/* --- Events --- */

static void on_closed(Socket *socket, const ph_event *event)
{
    Channel *channel = &socket->base;
    bool was_open = socket->phase == SOCKET_OPEN || socket->phase == SOCKET_CLOSING;
    socket->ended = channel->closed = true;
    socket->code = was_open ? (uint32_t)event->code : CODE_LOST;
    if (was_open && event->len > 0)
        socket->reason =
            PyUnicode_DecodeUTF8((const char *)event->data, (Py_ssize_t)event->len, "replace");
    channel_wake(channel);
    await_wake_all(&socket->senders);
    channel_access(channel);
    channel_let_go(channel);
}

static void on_message(Socket *socket, ph_event *event)
{
    ph_buf *buf = event->buf;
    event->buf = NULL; /* taken */
    if (socket->phase != SOCKET_OPEN || !socket->base.running) {
        ph_buf_unref(buf);
        return;
    }
    if (inbox_put_message(&socket->in, buf, event->data, event->len, event->text) < 0)
        PyErr_NoMemory();
    channel_wake(&socket->base);
}

static void socket_on_event(Channel *channel, ph_event *event)
{
    Socket *socket = as_socket(channel);
    if (event->kind == PH_EVENT_MESSAGE)
        on_message(socket, event);
    else if (event->kind == PH_EVENT_WRITABLE)
        await_wake_first(&socket->senders);
    else if (event->kind == PH_EVENT_CLOSED)
        on_closed(socket, event);
}

static void socket_on_stream_event(Channel *Py_UNUSED(channel), ph_event *Py_UNUSED(event))
{
}

/* The server is closed. Nobody waits for what was received. */
static void socket_detach(Channel *channel)
{
    Socket *socket = as_socket(channel);
    if (!socket->ended)
        socket->code = CODE_LOST;
    socket->ended = true;
    drop_inbox(socket);
    channel_wake(channel);
}

/* --- The end of the application --- */

static void report(Socket *socket, PyObject *exc, bool cancelled)
{
    Channel *channel = &socket->base;
    State *st = channel->st;
    if (exc == NULL) {
        if (socket->ended || (cancelled && channel->server->is_cancelling))
            return;
        if (cancelled && socket->phase != SOCKET_CLOSING)
            server_app_error(channel->server, channel->scope, NULL, st->str.kind_cancelled);
        else if (socket->phase == SOCKET_ASKED)
            server_app_error(channel->server, channel->scope, NULL, st->str.kind_no_accept);
        else if (socket->phase == SOCKET_REJECTING)
            server_app_error(channel->server, channel->scope, NULL, st->str.kind_no_response);
        return;
    }
    channel_report(channel, exc, socket->ended || socket->phase == SOCKET_CLOSING);
}

/* An application that returns while the socket is open has said what it had to say: 1000. */
static void end_answered(Socket *socket, bool failed)
{
    ph_chan *chan = socket->base.chan;
    if (chan == NULL || socket->ended)
        return;
    if (socket->phase == SOCKET_REJECTING) {
        rejection_cut(&socket->base, &socket->rejection);
        socket->phase = SOCKET_REJECTED;
        ph_chan_reset(chan, H3_INTERNAL_ERROR);
    } else if (socket->phase == SOCKET_OPEN) {
        ph_chan_close(chan, failed ? CODE_FAILED : CODE_NORMAL, "", 0);
    }
    server_touch(socket->base.server);
}

static void socket_finish(Channel *channel, PyObject *exc, bool cancelled)
{
    Socket *socket = as_socket(channel);
    report(socket, exc, cancelled);
    if (socket->phase == SOCKET_ASKED)
        reject(socket, 500);
    else
        end_answered(socket, exc != NULL || cancelled);
    if (socket->phase == SOCKET_OPEN)
        socket->phase = SOCKET_CLOSING;
    channel_access(channel);
    drop_inbox(socket);
    channel_wake(channel);
    channel_let_go(channel); /* otherwise at its CLOSED: the close must not be cut off */
}

static void socket_drop(Channel *channel)
{
    Socket *socket = as_socket(channel);
    inbox_fini(&socket->in);
    rejection_drop(&socket->rejection);
}

static const ChannelOps socket_ops = {
    .kind = "websocket",
    .live = LIVE_SOCKET,
    .next = socket_next,
    .is_ready = socket_is_ready,
    .send = socket_send,
    .abandoned = socket_abandoned,
    .finish = socket_finish,
    .on_event = socket_on_event,
    .on_stream_event = socket_on_stream_event,
    .detach = socket_detach,
    .drop = socket_drop,
};

/* --- Type --- */

Channel *socket_new(Server *server, ph_event *event)
{
    PyObject *scope = scope_websocket(server, ph_chan_request(event->chan));
    if (scope == NULL)
        return NULL;
    Channel *channel = channel_alloc(server->st->socket_type, server, &socket_ops);
    if (channel == NULL) {
        Py_DECREF(scope);
        return NULL;
    }
    list_init(&as_socket(channel)->senders);
    channel->scope = scope;
    channel->chan = event->chan;
    ph_chan_set_user(event->chan, channel);
    return channel;
}

static int socket_traverse(PyObject *self, visitproc visit, void *arg)
{
    int rc = await_visit_all(&as_socket((Channel *)self)->senders, visit, arg);
    return rc != 0 ? rc : channel_traverse((Channel *)self, visit, arg);
}

static int socket_clear(PyObject *self)
{
    await_forget_all(&as_socket((Channel *)self)->senders);
    channel_clear_refs((Channel *)self);
    return 0;
}

static void socket_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(as_socket((Channel *)self)->reason);
    channel_free((Channel *)self);
}

static PyType_Slot socket_slots[] = {
    {Py_tp_doc, "One WebSocket."},
    {Py_tp_dealloc, socket_dealloc},
    {Py_tp_traverse, socket_traverse},
    {Py_tp_clear, socket_clear},
    {0, NULL},
};

static PyType_Spec socket_spec = {
    .name = "pronghorn._core.Socket",
    .basicsize = sizeof(Socket),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = socket_slots,
};

int socket_type_new(PyObject *module, State *st)
{
    st->socket_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &socket_spec, NULL);
    return st->socket_type == NULL ? -1 : 0;
}
