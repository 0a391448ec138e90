/*
 * wt_session.c - one WebTransport session, seen by an application of the "webtransport" scope: what
 * receive() gives, the core's events, the application's life.
 *
 * Order of delivery (docs/asgi-webtransport.md): webtransport.connect first and alone; once the
 * application has accepted, control events, then streams and datagrams by turns; the disconnect
 * when everything else was handed out, and from then on again and again. After the application has
 * closed the session it is given nothing but the disconnect.
 */
#include "session.h"

/* --- receive() --- */

static bool is_open(const Session *session)
{
    return session->phase == SESSION_OPEN && session->base.running;
}

static bool has_events(const Session *session)
{
    return is_open(session) && (!list_is_empty(&session->controls) ||
                                session->datagrams.count > 0 || !list_is_empty(&session->ready));
}

static bool session_is_ready(const Channel *channel)
{
    const Session *session = (const Session *)(const void *)channel;
    return !session->connect_handed || session->ended || !channel->running || has_events(session);
}

static PyObject *next_datagram(Session *session)
{
    State *st = session->base.st;
    PyObject *data = inbox_take_piece(&session->datagrams);
    if (data == NULL)
        return NULL;
    if (session->base.chan != NULL) {
        ph_chan_consume_datagrams(session->base.chan, 1);
        server_touch(session->base.server);
    }
    PyObject *message = message_datagram(st, data);
    Py_DECREF(data);
    return message;
}

static PyObject *next_disconnect(Session *session)
{
    State *st = session->base.st;
    session->base.repeats++;
    PyObject *reason = session->reason != NULL ? session->reason : st->str.empty;
    return message_wt_disconnect(st, session->code, reason, session->clean);
}

static PyObject *next_message(Session *session)
{
    State *st = session->base.st;
    if (!session->connect_handed) {
        session->connect_handed = true;
        return message_of_type(st, st->str.wt_connect);
    }
    if (has_events(session)) {
        if (!list_is_empty(&session->controls))
            return control_next(session);
        /* By turns: a flood of either must not starve the other. */
        bool datagram = session->datagrams.count > 0 &&
                        (session->datagram_turn || list_is_empty(&session->ready));
        session->datagram_turn = !datagram;
        return datagram ? next_datagram(session) : stream_next(session);
    }
    if (session->ended || !session->base.running)
        return next_disconnect(session);
    return NULL;
}

static PyObject *session_next(Channel *channel)
{
    Session *session = as_session(channel);
    session_enter(session);
    PyObject *message = next_message(session);
    PyObject *exc = exception_take();
    session_leave(session);
    exception_give(exc);
    return message;
}

/* --- Events --- */

void session_discard(Session *session)
{
    inbox_clear(&session->datagrams);
    streams_abandon_all(session);
    await_wake_all(&session->senders);
    await_wake_all(&session->datagram_senders);
}

static void wake_everybody(Session *session)
{
    await_wake_all(&session->senders);
    await_wake_all(&session->datagram_senders);
    streams_wake_all(session);
    channel_wake(&session->base);
}

/* What was received is handed out before the disconnect, also on paused streams. */
static void unpause_all(Session *session)
{
    for (Link *link = session->streams.next; link != &session->streams; link = link->next) {
        Stream *stream = CONTAINER(link, Stream, all);
        stream->paused = false;
        stream_update(stream);
    }
}

static void on_closed(Session *session, const ph_event *event)
{
    Channel *channel = &session->base;
    session->ended = channel->closed = true;
    session->clean = event->clean;
    if (session->phase == SESSION_OPEN && event->clean) {
        session->code = (uint32_t)event->code;
        if (event->len > 0)
            session->reason =
                PyUnicode_DecodeUTF8((const char *)event->data, (Py_ssize_t)event->len, "replace");
    }
    /* Our own close comes back with what it said, unless the peer cannot have heard it. */
    if (session->phase == SESSION_CLOSING && !event->clean) {
        session->code = 0;
        Py_CLEAR(session->reason);
    }
    unpause_all(session);
    wake_everybody(session);
    channel_let_go(channel);
}

static void on_stream(Session *session, const ph_event *event)
{
    if (session->phase != SESSION_OPEN || session->ended) {
        ph_chan_release(event->chan);
        return;
    }
    uint64_t id = ph_chan_id(event->chan);
    /* RFC 9000 2.1: the second bit says that it is unidirectional. */
    Stream *stream = stream_new(session, event->chan, false, (id & 2) == 0);
    if (stream == NULL) {
        ph_chan_release(event->chan);
        return;
    }
    if (stream_opened(stream) < 0) {
        stream_abandon(stream);
        return;
    }
    stream_update(stream);
}

/* An exception that is left set here and in the next is reported by pump.c: no call of the
 * application is there to raise it in. */
static void session_on_event(Channel *channel, ph_event *event)
{
    Session *session = as_session(channel);
    session_enter(session);
    switch (event->kind) {
    case PH_EVENT_DATAGRAM: {
        ph_buf *buf = event->buf;
        event->buf = NULL; /* taken */
        if (inbox_put(&session->datagrams, buf, event->data, event->len) < 0)
            PyErr_NoMemory();
        channel_wake(channel);
        break;
    }
    case PH_EVENT_DRAIN:
        control_push(session, CONTROL_DRAIN, NULL, event->local, 0);
        break;
    case PH_EVENT_WRITABLE:
        await_wake_first(&session->senders);
        await_wake_first(&session->datagram_senders);
        streams_wake_all(session);
        break;
    case PH_EVENT_CLOSED:
        on_closed(session, event);
        break;
    case PH_EVENT_REQUEST:
    case PH_EVENT_SESSION:
    case PH_EVENT_STREAM:
    case PH_EVENT_OPENED:
    case PH_EVENT_DATA:
    case PH_EVENT_TRAILERS:
    case PH_EVENT_RESET:
    case PH_EVENT_STOP_SENDING:
    case PH_EVENT_LOG:
    case PH_EVENT_STOPPED:
    case PH_EVENT_SOCKET:
    case PH_EVENT_MESSAGE:
        break;
    }
    session_leave(session);
}

static void session_on_stream_event(Channel *channel, ph_event *event)
{
    Session *session = as_session(channel);
    session_enter(session);
    if (event->kind == PH_EVENT_STREAM)
        on_stream(session, event);
    else
        stream_on_event(ph_chan_user(event->chan), event);
    session_leave(session);
}

/* The server is closed. Nobody waits for what was received. */
static void session_detach(Channel *channel)
{
    Session *session = as_session(channel);
    session->ended = true;
    session->code = 0;
    Py_CLEAR(session->reason);
    session_enter(session);
    session_discard(session);
    wake_everybody(session);
    session_leave(session);
}

/* --- The end of the application --- */

/* The application did not answer: 405 when it did not even ask, as frameworks refuse a scope that
 * they do not know; 500 otherwise. */
static void end_unanswered(Session *session, PyObject *exc, bool cancelled)
{
    Channel *channel = &session->base;
    Server *server = channel->server;
    State *st = channel->st;
    if (exc != NULL && !channel->receive_called) {
        if (!st->unsupported_said) {
            st->unsupported_said = true;
            server_app_error(server, channel->scope, exc, st->str.kind_unsupported);
        }
        session_reject(session, 405);
        return;
    }
    if (exc == NULL && !cancelled && !session->ended)
        server_app_error(server, channel->scope, NULL, st->str.kind_no_accept);
    else if (exc != NULL)
        channel_report(channel, exc, false);
    session_reject(session, 500);
}

/* Who returns has said all it had to say: a close without a code. Who raised, or left a rejection
 * unfinished, has not, and the peer must not take what it got for the whole. */
static void end_answered(Session *session, PyObject *exc, bool cancelled)
{
    ph_chan *chan = session->base.chan;
    if (chan == NULL || session->ended)
        return;
    bool failed = exc != NULL || cancelled || session->phase == SESSION_REJECTING;
    rejection_cut(&session->base, &session->rejection);
    if (failed && session->phase != SESSION_CLOSING && session->phase != SESSION_REJECTED)
        ph_chan_reset(chan, H3_INTERNAL_ERROR);
    else if (session->phase == SESSION_OPEN)
        ph_chan_close(chan, 0, "", 0);
    server_touch(session->base.server);
}

static void session_finish(Channel *channel, PyObject *exc, bool cancelled)
{
    Session *session = as_session(channel);
    session_enter(session);
    if (session->phase == SESSION_ASKED) {
        end_unanswered(session, exc, cancelled);
    } else {
        if (exc != NULL)
            channel_report(channel, exc, session->ended || session->phase == SESSION_CLOSING);
        else if (session->phase == SESSION_REJECTING && !session->ended && !cancelled)
            server_app_error(channel->server, channel->scope, NULL,
                             channel->st->str.kind_no_response);
        end_answered(session, exc, cancelled);
    }
    if (session->phase == SESSION_OPEN)
        session->phase = SESSION_CLOSING;
    session_discard(session);
    wake_everybody(session);
    session_leave(session);
    /* The channel stays until its CLOSED: a close that is under way must not be aborted. */
}

static void session_drop(Channel *channel)
{
    Session *session = as_session(channel);
    inbox_fini(&session->datagrams);
    rejection_drop(&session->rejection);
    session_enter(session);
    session_discard(session);
    session_leave(session);
}

static const ChannelOps session_ops = {
    .kind = "webtransport",
    .live = LIVE_SESSION,
    .next = session_next,
    .is_ready = session_is_ready,
    .send = session_send,
    .abandoned = session_abandoned,
    .finish = session_finish,
    .on_event = session_on_event,
    .on_stream_event = session_on_stream_event,
    .detach = session_detach,
    .drop = session_drop,
};

/* --- Type --- */

Channel *session_new(Server *server, ph_event *event)
{
    const ph_request *request = ph_chan_request(event->chan);
    PyObject *scope = scope_webtransport(server, request);
    if (scope == NULL)
        return NULL;
    Channel *channel = channel_alloc(server->st->session_type, server, &session_ops);
    if (channel == NULL) {
        Py_DECREF(scope);
        return NULL;
    }
    Session *session = as_session(channel);
    list_init(&session->streams);
    list_init(&session->ready);
    list_init(&session->controls);
    list_init(&session->dead);
    list_init(&session->senders);
    list_init(&session->datagram_senders);
    session->has_datagrams = request->datagrams;
    channel->scope = scope;
    channel->chan = event->chan;
    ph_chan_set_user(event->chan, channel);
    return channel;
}

static int session_traverse(PyObject *self, visitproc visit, void *arg)
{
    const Session *session = (Session *)self;
    int rc = await_visit_all(&session->senders, visit, arg);
    if (rc == 0)
        rc = await_visit_all(&session->datagram_senders, visit, arg);
    if (rc == 0)
        rc = streams_traverse(session, visit, arg);
    return rc != 0 ? rc : channel_traverse((Channel *)self, visit, arg);
}

/* Waiters may be in a cycle with the session. Streams are not: they stay for session_dealloc(). */
static int session_clear(PyObject *self)
{
    Session *session = (Session *)self;
    session_enter(session);
    await_forget_all(&session->senders);
    await_forget_all(&session->datagram_senders);
    streams_forget_waiters(session);
    session_leave(session);
    channel_clear_refs(&session->base);
    return 0;
}

static void session_dealloc(PyObject *self)
{
    Session *session = (Session *)self;
    PyObject_GC_UnTrack(self);
    streams_free(session);
    Py_CLEAR(session->reason);
    channel_free(&session->base);
}

static PyType_Slot session_slots[] = {
    {Py_tp_doc, "One WebTransport session."},
    {Py_tp_dealloc, session_dealloc},
    {Py_tp_traverse, session_traverse},
    {Py_tp_clear, session_clear},
    {0, NULL},
};

static PyType_Spec session_spec = {
    .name = "pronghorn._core.Session",
    .basicsize = sizeof(Session),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = session_slots,
};

int session_type_new(PyObject *module, State *st)
{
    st->session_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &session_spec, NULL);
    return st->session_type == NULL ? -1 : 0;
}
