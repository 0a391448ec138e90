/*
 * wt_send.c - send() of the webtransport scope: what each message does, and every row of the error
 * table of docs/asgi-webtransport.md.
 *
 * A message is read and checked, then carried out. What has to wait (room on a stream, in the
 * session or in the datagram queue; an id for a new stream) waits on a list of its own, so that one
 * stream never holds up another, and is carried out whole when it runs again: a send() that was
 * cancelled has sent nothing.
 */
#include "session.h"

#include <string.h>

/* Bits of a stream id, RFC 9000 2.1. */
#define ID_IS_CLIENT_UNI(id) (((id)&3) == 2)
#define ID_IS_SERVER_UNI(id) (((id)&3) == 3)

static int is_gone(Session *session)
{
    return fail_disconnected(session->base.st, "the session is over");
}

/* Joins a list of waiters, at the end unless it is on it already. */
static int wait_on(Link *waiters, Await *await)
{
    await_join(waiters, await);
    return STEP_WAIT;
}

/* --- Answers --- */

static int accept_session(Session *session, const Message *message)
{
    if (session->phase != SESSION_ASKED)
        return fail_out_of_order("webtransport.accept after the session was answered");
    if (!session->connect_handed)
        return fail_out_of_order("webtransport.accept before webtransport.connect was received");
    if (session->ended)
        return is_gone(session);
    const char *subprotocol;
    if (handshake_subprotocol(&session->base, message, &subprotocol) < 0)
        return STEP_FAIL;
    int rc = ph_chan_accept(session->base.chan, message->fields.list, message->fields.count,
                            subprotocol);
    if (rc == PH_E_INVAL) {
        PyErr_SetString(PyExc_ValueError, "the headers of webtransport.accept were refused");
        return STEP_FAIL;
    }
    if (rc != PH_OK)
        return is_gone(session);
    session->phase = SESSION_OPEN;
    session->base.status = 200;
    return STEP_DONE;
}

void session_reject(Session *session, int status)
{
    if (session->phase != SESSION_ASKED)
        return;
    session->phase = SESSION_REJECTED;
    session->base.status = status;
    if (session->base.chan == NULL || session->ended)
        return;
    ph_chan_respond(session->base.chan, status, NULL, 0, true);
    server_touch(session->base.server);
}

static int respond(Session *session, Message *message, bool fin)
{
    if (rejection_send(&session->base, &session->rejection, message, fin) != PH_OK)
        return is_gone(session);
    return STEP_DONE;
}

static int response_start(Session *session, Message *message)
{
    if (session->phase != SESSION_ASKED)
        return fail_out_of_order("webtransport.http.response.start after the session was answered");
    if (session->ended)
        return is_gone(session);
    session->phase = SESSION_REJECTING;
    rejection_keep(&session->base, &session->rejection, message, message->status);
    return STEP_DONE;
}

static int response_body(Session *session, Await *await, Message *message)
{
    if (session->phase != SESSION_REJECTING)
        return fail_out_of_order("webtransport.http.response.body without a response under way");
    if (session->ended)
        return is_gone(session);
    if (await_is_behind(&session->senders, await) ||
        (!session->rejection.kept && ph_chan_wait_writable(session->base.chan) == 0))
        return wait_on(&session->senders, await);
    if (message->end)
        session->phase = SESSION_REJECTED;
    return respond(session, message, message->end);
}

/* Before the answer: a rejection. */
static int close_unanswered(Session *session, Message *message)
{
    int status = message->status;
    if (status == 0)
        status = message->code >= 400 && message->code <= 599 ? (int)message->code : 403;
    session->phase = SESSION_REJECTED;
    rejection_keep(&session->base, &session->rejection, message, status);
    return respond(session, message, true);
}

static int close_session(Session *session, Message *message)
{
    if (session->ended || session->phase == SESSION_CLOSING || session->phase == SESSION_REJECTED)
        return STEP_DONE;
    if (session->phase == SESSION_REJECTING)
        return fail_out_of_order("webtransport.close while a response is under way");
    if (session->phase == SESSION_ASKED)
        return close_unanswered(session, message);
    Py_ssize_t n = 0;
    const char *reason = "";
    if (message->text != NULL) {
        reason = PyUnicode_AsUTF8AndSize(message->text, &n);
        if (reason == NULL)
            return STEP_FAIL;
    }
    ph_chan_close(session->base.chan, message->code, reason, (size_t)n);
    session->phase = SESSION_CLOSING;
    session->code = message->code;
    Py_XSETREF(session->reason, Py_XNewRef(message->text));
    session_discard(session);
    return STEP_DONE;
}

/* --- Streams --- */

/* The stream that a message names, borrowed. NULL without an exception: it was forgotten. */
static Stream *named_borrowed(Session *session, uint64_t id)
{
    Stream *stream = stream_find_borrowed(session, id);
    if (stream == NULL && !stream_was_seen(session, id))
        PyErr_Format(PyExc_ValueError, "stream %llu is not one of this session",
                     (unsigned long long)id);
    return stream;
}

static int wrong_direction(const char *what, uint64_t id)
{
    PyErr_Format(PyExc_ValueError, "%s: stream %llu has no such direction", what,
                 (unsigned long long)id);
    return STEP_FAIL;
}

static void write_now(Stream *stream, Message *message)
{
    ph_buf *buf = message->buf;
    message->buf = NULL; /* taken */
    stream->out_over = stream->out_over || message->end;
    ph_chan_write(stream->chan, buf, message->end); /* CLOSED comes: then nobody reads it */
    if (message->end)
        await_wake_all(&stream->senders); /* what is queued behind the end finds out */
}

static int write_stream(Stream *stream, Await *await, Message *message)
{
    if (stream->out_over)
        return fail_out_of_order("stream.send after the stream was ended or reset by this side");
    if (message->has_priority && stream->chan != NULL)
        ph_chan_set_priority(stream->chan, message->urgency);
    if (message->len == 0 && !message->end)
        return STEP_DONE;
    bool discarded = stream->peer_stopped || stream->closed || stream->chan == NULL;
    if (!discarded &&
        (await_is_behind(&stream->senders, await) || ph_chan_wait_writable(stream->chan) == 0)) {
        await->target = stream;
        return wait_on(&stream->senders, await);
    }
    if (stream->chan != NULL)
        write_now(stream, message); /* to a stopped stream too: the core counts what it drops */
    return STEP_DONE;
}

static int stream_send(Session *session, Await *await, Message *message)
{
    Stream *stream = await->target;
    if (ID_IS_CLIENT_UNI(message->stream_id))
        return wrong_direction("stream.send", message->stream_id);
    if (stream == NULL)
        stream = named_borrowed(session, message->stream_id);
    if (stream != NULL) {
        int step = write_stream(stream, await, message);
        if (step != STEP_WAIT) {
            await_leave(await);
            await->target = NULL;
            await_wake_first(&stream->senders);
            stream_settle(stream);
        }
        return step;
    }
    if (PyErr_Occurred())
        return STEP_FAIL;
    if (stream_was_stopped(session, message->stream_id))
        return STEP_DONE;
    return fail_out_of_order("stream.send to a stream that is over");
}

static int stream_reset(Session *session, const Message *message)
{
    if (ID_IS_CLIENT_UNI(message->stream_id))
        return wrong_direction("stream.reset", message->stream_id);
    Stream *stream = named_borrowed(session, message->stream_id);
    if (stream == NULL)
        return PyErr_Occurred() ? STEP_FAIL : STEP_DONE;
    if (stream->chan != NULL && !stream->peer_stopped)
        ph_chan_reset(stream->chan, message->code);
    stream->out_over = true;
    await_wake_all(&stream->senders);
    return STEP_DONE;
}

static int stream_stop_sending(Session *session, const Message *message)
{
    if (ID_IS_SERVER_UNI(message->stream_id))
        return wrong_direction("stream.stop_sending", message->stream_id);
    Stream *stream = named_borrowed(session, message->stream_id);
    if (stream == NULL)
        return PyErr_Occurred() ? STEP_FAIL : STEP_DONE;
    if (stream->chan != NULL && !stream->in_over)
        ph_chan_stop_sending(stream->chan, message->code);
    stream_stop(stream);
    return STEP_DONE;
}

static int stream_pause(Session *session, const Message *message, bool paused)
{
    if (ID_IS_SERVER_UNI(message->stream_id))
        return wrong_direction(paused ? "stream.pause" : "stream.resume", message->stream_id);
    Stream *stream = named_borrowed(session, message->stream_id);
    if (stream == NULL)
        return PyErr_Occurred() ? STEP_FAIL : STEP_DONE;
    stream_set_paused(stream, paused);
    return STEP_DONE;
}

/* --- Opening --- */

static int open_now(Session *session, Await *await, Message *message)
{
    ph_chan *chan = ph_chan_open_stream(session->base.chan, message->bidirectional);
    if (chan == NULL)
        return is_gone(session);
    Stream *stream = stream_new(session, chan, true, message->bidirectional);
    if (stream == NULL) {
        ph_chan_release(chan);
        return STEP_FAIL;
    }
    stream->tag = message->tag;
    message->tag = NULL;
    if (message->has_priority)
        ph_chan_set_priority(chan, message->urgency);
    if (message->buf != NULL || message->end)
        write_now(stream, message);
    await->target = stream;
    return wait_on(&stream->senders, await);
}

static int begin_open(Session *session, Await *await, Message *message)
{
    if (message->len > 0 && (await_is_behind(&session->senders, await) ||
                             ph_chan_wait_writable(session->base.chan) == 0))
        return wait_on(&session->senders, await);
    await_leave(await);
    int step = open_now(session, await, message);
    await_wake_first(&session->senders);
    return step;
}

static int stream_open(Session *session, Await *await, Message *message, PyObject **result)
{
    Stream *stream = await->target;
    if (stream == NULL)
        return begin_open(session, await, message);
    if (!stream->opened && !stream->closed)
        return STEP_WAIT;
    await_leave(await);
    await->target = NULL;
    int step = STEP_DONE;
    if (stream->opened)
        *result = PyLong_FromUnsignedLongLong(stream->id);
    if (*result == NULL)
        step = stream->opened ? STEP_FAIL : is_gone(session);
    await_wake_first(&stream->senders);
    stream_settle(stream);
    return step;
}

/* --- Datagrams --- */

static int datagram_send(Session *session, Await *await, Message *message)
{
    if (!session->has_datagrams)
        return fail_out_of_order("the client takes no datagrams");
    if (message->wait && (await_is_behind(&session->datagram_senders, await) ||
                          ph_chan_wait_datagram_room(session->base.chan) == 0))
        return wait_on(&session->datagram_senders, await);
    ph_buf *buf = message->buf != NULL ? message->buf : ph_buf_new(0);
    message->buf = NULL; /* taken */
    int rc = ph_chan_send_datagram(session->base.chan, buf, message->max_age_ms);
    if (message->wait) {
        await_leave(await);
        await_wake_first(&session->datagram_senders);
    }
    if (rc == PH_E_CLOSED)
        return is_gone(session);
    /* Dropped and counted when it does not fit the path: not an error (W3C API). */
    if (++session->datagram_sends % CALLS_PER_YIELD != 0)
        return STEP_DONE;
    return STEP_YIELD; /* a tight loop that always finds room must let the event loop turn */
}

/* --- All of them --- */

static int check_open(const Session *session)
{
    if (session->ended || session->phase == SESSION_CLOSING)
        return fail_disconnected(session->base.st, "the session is over");
    if (session->phase != SESSION_OPEN)
        return fail_out_of_order("the session is not accepted");
    return 0;
}

static int session_step(Session *session, Await *await, Message *message, PyObject **result)
{
    if (message->kind >= MESSAGE_WT_OPEN && check_open(session) < 0)
        return STEP_FAIL;
    switch (message->kind) {
    case MESSAGE_WT_ACCEPT:
        return accept_session(session, message);
    case MESSAGE_WT_CLOSE:
        return close_session(session, message);
    case MESSAGE_WT_RESPONSE_START:
        return response_start(session, message);
    case MESSAGE_WT_RESPONSE_BODY:
        return response_body(session, await, message);
    case MESSAGE_WT_OPEN:
        return stream_open(session, await, message, result);
    case MESSAGE_WT_SEND:
        return stream_send(session, await, message);
    case MESSAGE_WT_RESET:
        return stream_reset(session, message);
    case MESSAGE_WT_STOP:
        return stream_stop_sending(session, message);
    case MESSAGE_WT_PAUSE:
    case MESSAGE_WT_RESUME:
        return stream_pause(session, message, message->kind == MESSAGE_WT_PAUSE);
    case MESSAGE_WT_DATAGRAM:
        return datagram_send(session, await, message);
    case MESSAGE_WT_DRAIN:
        ph_chan_drain(session->base.chan);
        return STEP_DONE;
    case MESSAGE_HTTP_START: /* wt_types has none of these */
    case MESSAGE_HTTP_BODY:
    case MESSAGE_HTTP_TRAILERS:
    case MESSAGE_WS_ACCEPT:
    case MESSAGE_WS_SEND:
    case MESSAGE_WS_CLOSE:
    case MESSAGE_WS_RESPONSE_START:
    case MESSAGE_WS_RESPONSE_BODY:
    case MESSAGE_HTTP_PATH:
    case MESSAGE_HTTP_FILE:
    case MESSAGE_HTTP_HINT:
        break;
    }
    Py_UNREACHABLE();
}

/* Takes a send() off whatever it waited for. */
static void leave(Session *session, Await *await)
{
    Stream *stream = await->target;
    bool waited = link_is_on(&await->link);
    await_leave(await);
    await->target = NULL;
    if (stream != NULL) {
        await_wake_first(&stream->senders);
        stream_settle(stream);
    } else if (waited) {
        await_wake_first(&session->senders);
        await_wake_first(&session->datagram_senders);
    }
}

int session_send(Channel *channel, Await *await, PyObject **result)
{
    Session *session = as_session(channel);
    State *st = channel->st;
    Message fresh, *message = await->cmd;
    if (message == NULL) {
        message = &fresh;
        if (message_read(st, st->wt_types, "webtransport", await->message, message) < 0)
            return STEP_FAIL;
    }
    session_enter(session);
    int step = session_step(session, await, message, result);
    server_touch(channel->server);
    if (step == STEP_WAIT)
        step = await_keep(await, message);
    PyObject *exc = exception_take();
    if (step != STEP_WAIT) {
        leave(session, await);
        message_clear(message);
    }
    session_leave(session);
    exception_give(exc);
    if (step == STEP_WAIT)
        return step;
    if (step != STEP_FAIL && *result == NULL)
        *result = Py_NewRef(Py_None);
    return step;
}

/* A stream whose opening was given up before it had an id is taken back. */
void session_abandoned(Channel *channel, Await *await)
{
    Session *session = as_session(channel);
    Stream *stream = await->target;
    bool is_opening = stream != NULL && await->cmd != NULL && await->cmd->kind == MESSAGE_WT_OPEN;
    session_enter(session);
    if (is_opening && !stream->opened) {
        await->target = NULL;
        stream_abandon(stream);
    } else {
        leave(session, await);
    }
    /* It is off its list already: the next one may be waiting for the turn it had. */
    if (stream == NULL) {
        await_wake_first(&session->senders);
        await_wake_first(&session->datagram_senders);
    }
    session_leave(session);
}
