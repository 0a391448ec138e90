/*
 * pump.c - takes events from the core and hands them to channel objects; flushes what was said.
 *
 * server_pump() is what the loop calls when ph_server_fd() is readable. It runs on the consumer
 * thread with the interpreter lock held, never blocks, and takes at most EVENTS_PER_TURN events
 * before the loop's other callbacks get their turn. Handlers only update state and complete
 * Futures; applications run later, in their tasks, so what arrived together is seen together.
 *
 * Flushing: what is said to the core inside the pump or inside a step of an application's task is
 * flushed once when that ends. What other tasks say is flushed by a callback of the loop's next
 * turn, once for all of them. A part of a response is flushed at once: what follows in the same
 * step may block the loop, and the client is to have the part by then.
 */
#include "ext.h"

int server_check_thread(const Server *server)
{
    if (PyThread_get_thread_ident() == server->thread)
        return 0;
    PyErr_SetString(PyExc_RuntimeError,
                    "this belongs to the thread of the event loop that the server was started on");
    return -1;
}

void server_touch(Server *server)
{
    server->dirty = true;
    if (server->depth > 0 || server->flush_waiting || server->core == NULL ||
        server->flush_method == NULL)
        return;
    PyObject *pending = exception_take();
    PyObject *handle = PyObject_CallOneArg(server->call_soon, server->flush_method);
    if (handle != NULL)
        server->flush_waiting = true;
    else
        PyErr_Clear(); /* the loop is closed */
    Py_XDECREF(handle);
    exception_give(pending);
}

void server_enter(Server *server)
{
    server->depth++;
}

void server_leave(Server *server)
{
    if (--server->depth > 0 || !server->dirty)
        return;
    server->dirty = false;
    if (server->core != NULL)
        ph_server_flush(server->core);
}

void server_push(Server *server)
{
    server->dirty = false;
    if (server->core != NULL)
        ph_server_flush(server->core);
}

PyObject *server_flush(PyObject *self, PyObject *Py_UNUSED(unused))
{
    Server *server = (Server *)self;
    server->flush_waiting = false;
    server_enter(server);
    server_leave(server);
    Py_RETURN_NONE;
}

static int log_number(ph_log_level level)
{
    switch (level) {
    case PH_LOG_DEBUG:
        return 10;
    case PH_LOG_INFO:
        return 20;
    case PH_LOG_WARNING:
        return 30;
    case PH_LOG_ERROR:
        return 40;
    }
    return 40;
}

static void say(Server *server, const ph_event *event)
{
    if (server->log == NULL)
        return;
    PyObject *text =
        PyUnicode_DecodeUTF8((const char *)event->data, (Py_ssize_t)event->len, "backslashreplace");
    PyObject *none = NULL;
    if (text != NULL)
        none = PyObject_CallFunction(server->log, "iO", log_number(event->level), text);
    if (none == NULL)
        PyErr_WriteUnraisable(server->log);
    Py_XDECREF(none);
    Py_XDECREF(text);
}

void server_app_error(Server *server, PyObject *scope, PyObject *exc, PyObject *kind)
{
    if (server->on_app_error == NULL) {
        if (exc != NULL) {
            exception_give(Py_NewRef(exc));
            PyErr_WriteUnraisable(server->app);
        }
        return;
    }
    PyObject *none =
        PyObject_CallFunctionObjArgs(server->on_app_error, scope != NULL ? scope : Py_None,
                                     exc != NULL ? exc : Py_None, kind, NULL);
    if (none == NULL)
        PyErr_WriteUnraisable(server->on_app_error);
    Py_XDECREF(none);
}

static void on_stopped(Server *server)
{
    server->stopped = true;
    server_stop_reading(server);
    if (server->on_stopped == NULL)
        return;
    PyObject *none = PyObject_CallNoArgs(server->on_stopped);
    if (none == NULL)
        PyErr_WriteUnraisable(server->on_stopped);
    Py_XDECREF(none);
}

/* A new request, WebSocket or session. Trouble in making its objects is ours, and answered with
 * 500. */
static void on_new(Server *server, ph_event *event)
{
    Channel *channel = event->kind == PH_EVENT_REQUEST  ? http_new(server, event)
                       : event->kind == PH_EVENT_SOCKET ? socket_new(server, event)
                                                        : session_new(server, event);
    if (channel == NULL) {
        PyErr_WriteUnraisable((PyObject *)server);
        ph_chan_respond(event->chan, 500, NULL, 0, true);
        ph_chan_release(event->chan);
        return;
    }
    channel_start(channel);
    Py_DECREF((PyObject *)channel);
}

/* The session of a stream's event, borrowed; NULL when it is gone. Streams have their Stream as
 * user pointer, whose first member is the session. */
static Channel *owner_of(const ph_event *event, bool *is_child)
{
    *is_child = false;
    if (event->chan == NULL)
        return NULL;
    if (event->kind == PH_EVENT_STREAM) {
        *is_child = true;
        return event->parent != NULL ? ph_chan_user(event->parent) : NULL;
    }
    void *user = ph_chan_user(event->chan);
    if (user == NULL || ph_chan_get_kind(event->chan) != PH_CHAN_WT_STREAM)
        return user;
    *is_child = true;
    return *(Channel **)user;
}

static void on_channel_event(ph_event *event)
{
    bool is_child;
    Channel *channel = owner_of(event, &is_child);
    if (channel == NULL) {
        if (event->kind == PH_EVENT_STREAM)
            ph_chan_release(event->chan);
        return;
    }
    Py_INCREF((PyObject *)channel);
    if (is_child)
        channel->ops->on_stream_event(channel, event);
    else
        channel->ops->on_event(channel, event);
    if (PyErr_Occurred())
        PyErr_WriteUnraisable((PyObject *)channel->server);
    Py_DECREF((PyObject *)channel);
}

static void dispatch(Server *server, ph_event *event)
{
    switch (event->kind) {
    case PH_EVENT_LOG:
        say(server, event);
        break;
    case PH_EVENT_STOPPED:
        on_stopped(server);
        break;
    case PH_EVENT_REQUEST:
    case PH_EVENT_SESSION:
    case PH_EVENT_SOCKET:
        on_new(server, event);
        break;
    case PH_EVENT_STREAM:
    case PH_EVENT_OPENED:
    case PH_EVENT_DATA:
    case PH_EVENT_TRAILERS:
    case PH_EVENT_DATAGRAM:
    case PH_EVENT_MESSAGE:
    case PH_EVENT_RESET:
    case PH_EVENT_STOP_SENDING:
    case PH_EVENT_DRAIN:
    case PH_EVENT_WRITABLE:
    case PH_EVENT_CLOSED:
        on_channel_event(event);
        break;
    }
    ph_buf_unref(event->buf);
}

/* Takes up to EVENTS_PER_TURN events; true: there may be more. */
static bool take_events(Server *server)
{
    for (int i = 0; i < EVENTS_PER_TURN; i++) {
        ph_event event;
        if (server->close_wanted || ph_server_next(server->core, &event) != 1)
            return false;
        dispatch(server, &event);
    }
    return true;
}

PyObject *server_pump(PyObject *self, PyObject *Py_UNUSED(unused))
{
    Server *server = (Server *)self;
    if (server->core == NULL || server->in_pump)
        Py_RETURN_NONE;
    if (server_check_thread(server) < 0)
        return NULL;
    Py_INCREF(self);
    server->in_pump = true;
    server_enter(server);
    bool more = take_events(server);
    server_leave(server);
    server->in_pump = false;
    if (server->close_wanted) {
        server_close(server);
    } else if (more && server->reading) {
        /* The descriptor is only rung again after ph_server_next() has returned 0. */
        PyObject *handle = PyObject_CallOneArg(server->call_soon, server->pump_method);
        Py_XDECREF(handle);
        if (handle == NULL) {
            Py_DECREF(self);
            return NULL;
        }
    }
    Py_DECREF(self);
    Py_RETURN_NONE;
}
