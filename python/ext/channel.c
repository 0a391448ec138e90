/*
 * channel.c - what HTTP exchanges, WebSockets and WebTransport sessions have in common: the queue
 * of received bytes, the FIFO of receive() calls, the life of the object, payloads on their way
 * out.
 *
 * Life: pump.c makes a channel object for PH_EVENT_REQUEST and PH_EVENT_SESSION. While it is on the
 * server's list, the list holds a reference. It leaves the list when the application has ended and
 * the core's channel was released, in either order. The application's receive and send hold
 * references of their own, so late calls find an object that knows that it is over.
 */
#include "ext.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- Received bytes --- */

static int inbox_grow(Inbox *inbox)
{
    uint32_t cap = inbox->cap ? inbox->cap * 2 : 4;
    Piece *ring = PyMem_Malloc(cap * sizeof(Piece));
    if (ring == NULL)
        return -1;
    for (uint32_t i = 0; i < inbox->count; i++)
        ring[i] = inbox->ring[(inbox->head + i) & (inbox->cap - 1)];
    PyMem_Free(inbox->ring);
    inbox->ring = ring;
    inbox->cap = cap;
    inbox->head = 0;
    return 0;
}

int inbox_put_message(Inbox *inbox, ph_buf *buf, const uint8_t *p, size_t n, bool text)
{
    if (inbox->count == inbox->cap && inbox_grow(inbox) < 0) {
        ph_buf_unref(buf);
        return -1;
    }
    inbox->ring[(inbox->head + inbox->count) & (inbox->cap - 1)] = (Piece){buf, p, n, text};
    inbox->count++;
    inbox->bytes += n;
    return 0;
}

int inbox_put(Inbox *inbox, ph_buf *buf, const uint8_t *p, size_t n)
{
    return inbox_put_message(inbox, buf, p, n, false);
}

/* Drops `n` bytes of the first piece, and the piece when that was all of it. */
static void inbox_skip(Inbox *inbox, size_t n)
{
    Piece *piece = &inbox->ring[inbox->head];
    piece->p += n;
    piece->n -= n;
    inbox->bytes -= n;
    if (piece->n > 0)
        return;
    ph_buf_unref(piece->buf);
    inbox->head = (inbox->head + 1) & (inbox->cap - 1);
    inbox->count--;
}

void inbox_drop_piece(Inbox *inbox)
{
    inbox_skip(inbox, inbox->ring[inbox->head].n);
}

PyObject *inbox_take(State *st, Inbox *inbox, size_t max)
{
    size_t total = inbox->bytes < max ? inbox->bytes : max;
    if (total == 0)
        return Py_NewRef(st->empty_bytes);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total);
    if (bytes == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(bytes);
    while (total > 0) {
        const Piece *piece = &inbox->ring[inbox->head];
        size_t n = piece->n < total ? piece->n : total;
        memcpy(to, piece->p, n);
        to += n;
        total -= n;
        inbox_skip(inbox, n);
    }
    return bytes;
}

PyObject *inbox_take_piece(Inbox *inbox)
{
    const Piece *piece = &inbox->ring[inbox->head];
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)piece->p, (Py_ssize_t)piece->n);
    if (bytes != NULL)
        inbox_skip(inbox, piece->n);
    return bytes;
}

size_t inbox_clear(Inbox *inbox)
{
    size_t bytes = inbox->bytes;
    while (inbox->count > 0)
        inbox_skip(inbox, inbox->ring[inbox->head].n);
    return bytes;
}

void inbox_fini(Inbox *inbox)
{
    inbox_clear(inbox);
    PyMem_Free(inbox->ring);
    *inbox = (Inbox){0};
}

/* --- Payloads on their way out --- */

/* The core is done with wrapped bytes. It says so inside ph_server_next(), a flush that writes at
 * once, or a call that dropped the last reference; the extension makes all of these with the
 * interpreter lock held. */
static void release_bytes(void *ctx)
{
    Py_DECREF((PyObject *)ctx);
}

/* bytes cannot change and are wrapped; everything else may change after send() and is copied. So is
 * an object of a subclass: its end could run code of the application inside the core. */
int payload_read(PyObject *obj, const char *what, ph_buf **out, size_t *len)
{
    *out = NULL;
    *len = 0;
    if (PyBytes_CheckExact(obj)) {
        Py_ssize_t n = PyBytes_GET_SIZE(obj);
        if (n == 0)
            return 0;
        *len = (size_t)n;
        if (n <= PAYLOAD_INLINE_MAX)
            *out = ph_buf_copy(PyBytes_AS_STRING(obj), (size_t)n);
        else
            *out = ph_buf_wrap(PyBytes_AS_STRING(obj), (size_t)n, release_bytes, Py_NewRef(obj));
        return 0;
    }
    if (!PyObject_CheckBuffer(obj)) {
        PyErr_Format(PyExc_TypeError, "'%s' must be bytes, bytearray or memoryview, not %.100s",
                     what, Py_TYPE(obj)->tp_name);
        return -1;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(obj, &view, PyBUF_CONTIG_RO) < 0)
        return -1;
    if (view.len > 0) {
        *out = ph_buf_copy(view.buf, (size_t)view.len);
        *len = (size_t)view.len;
    }
    PyBuffer_Release(&view);
    return 0;
}

/* A str keeps its UTF-8 once that was asked for; one of ASCII is its own. */
int payload_read_text(PyObject *obj, ph_buf **out, size_t *len)
{
    Py_ssize_t n;
    const char *p = PyUnicode_AsUTF8AndSize(obj, &n);
    *out = NULL;
    *len = 0;
    if (p == NULL)
        return -1;
    if (n == 0)
        return 0;
    *len = (size_t)n;
    if (n <= PAYLOAD_INLINE_MAX || !PyUnicode_CheckExact(obj))
        *out = ph_buf_copy(p, (size_t)n);
    else
        *out = ph_buf_wrap(p, (size_t)n, release_bytes, Py_NewRef(obj));
    return 0;
}

/* --- Life of a channel object --- */

Channel *channel_alloc(PyTypeObject *type, Server *server, const ChannelOps *ops)
{
    Channel *channel = (Channel *)PyType_GenericAlloc(type, 0); /* zeroed, tracked */
    if (channel == NULL)
        return NULL;
    channel->st = server->st;
    channel->server = (Server *)Py_NewRef((PyObject *)server);
    channel->ops = ops;
    channel->started_ns = clock_ns();
    list_init(&channel->receivers);
    channel->counted = true;
    channel->st->live[ops->live]++;
    return channel;
}

/* It is over: whoever still holds the object (a traceback, a late task) holds no more than it. */
static void channel_drop(Channel *channel)
{
    if (channel->counted)
        channel->st->live[channel->ops->live]--;
    channel->counted = false;
    channel->ops->drop(channel);
}

int channel_traverse(Channel *channel, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)channel));
    Py_VISIT(channel->server);
    Py_VISIT(channel->scope);
    Py_VISIT(channel->task);
    return await_visit_all(&channel->receivers, visit, arg);
}

/* For tp_clear: the server stays until the end, because everything else is found through it. */
void channel_clear_refs(Channel *channel)
{
    await_forget_all(&channel->receivers);
    Py_CLEAR(channel->scope);
    Py_CLEAR(channel->task);
}

void channel_free(Channel *channel)
{
    PyTypeObject *type = Py_TYPE((PyObject *)channel);
    channel_release(channel);
    channel_clear_refs(channel);
    link_remove(&channel->link);
    channel_drop(channel);
    Py_CLEAR(channel->server);
    type->tp_free(channel);
    Py_DECREF(type);
}

void channel_release(Channel *channel)
{
    ph_chan *chan = channel->chan;
    if (chan == NULL)
        return;
    channel->chan = NULL;
    ph_chan_set_user(chan, NULL);
    ph_chan_release(chan);
    server_touch(channel->server);
}

void channel_let_go(Channel *channel)
{
    if (channel->closed && !channel->running)
        channel_release(channel);
    channel_settle(channel);
}

void channel_settle(Channel *channel)
{
    if (channel->running || channel->chan != NULL || !link_is_on(&channel->link))
        return;
    link_remove(&channel->link);
    channel_drop(channel);
    Py_DECREF((PyObject *)channel);
}

/* "pronghorn-http-17", without a formatter: one is made for every request. */
static PyObject *make_name(const char *kind, uint64_t number)
{
    char text[64], *end = text + sizeof(text), *p = end;
    do {
        *--p = (char)('0' + number % 10);
    } while ((number /= 10) > 0);
    const char *parts[] = {"-", kind, "pronghorn-"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        size_t n = strlen(parts[i]);
        p -= n;
        memcpy(p, parts[i], n);
    }
    return PyUnicode_FromStringAndSize(p, end - p);
}

static PyObject *make_task(Channel *channel)
{
    State *st = channel->st;
    Server *server = channel->server;
    PyObject *task = NULL;
    PyObject *run = run_new(channel);
    PyObject *name = make_name(channel->ops->kind, server->next_task++);
    if (run != NULL && name != NULL) {
        PyObject *args[] = {run, name};
        task = PyObject_Vectorcall(server->create_task, args, 1, st->name_only);
    }
    if (task == NULL && run != NULL) {
        PyObject *exc = exception_take();
        PyObject *none = PyObject_CallMethodNoArgs(run, st->str.close); /* ends the channel */
        Py_XDECREF(none);
        exception_give(exc);
    }
    Py_XDECREF(name);
    Py_XDECREF(run);
    return task;
}

void channel_end(Channel *channel, PyObject *exc, bool cancelled)
{
    channel->running = false;
    channel->ops->finish(channel, exc, cancelled);
    channel_access(channel);
    Py_CLEAR(channel->scope);
    Py_CLEAR(channel->task);
    channel_let_go(channel);
}

void channel_start(Channel *channel)
{
    channel->running = true;
    list_append(&channel->server->channels, &channel->link);
    Py_INCREF((PyObject *)channel); /* the list's */
    PyObject *task = make_task(channel);
    if (task == NULL) {
        PyErr_WriteUnraisable((PyObject *)channel->server);
        if (channel->running) /* there was no memory even for a Run, which would have ended it */
            channel_end(channel, NULL, true);
        return;
    }
    if (channel->running)
        channel->task = task;
    else
        Py_DECREF(task); /* an eager task has ended already */
}

void channel_wake(Channel *channel)
{
    if (!list_is_empty(&channel->receivers) && channel->ops->is_ready(channel))
        await_wake_first(&channel->receivers);
}

/* One step of receive(): first come first served, also between a new call and one that was woken
 * but has not run yet. */
int channel_receive(Channel *channel, Await *await, PyObject **result)
{
    channel->receive_called = true;
    if (!link_is_on(&await->link) && !list_is_empty(&channel->receivers)) {
        await_join(&channel->receivers, await);
        return STEP_WAIT;
    }
    PyObject *message = channel->ops->next(channel);
    if (message == NULL && !PyErr_Occurred()) {
        await_join(&channel->receivers, await);
        return STEP_WAIT;
    }
    await_leave(await);
    channel_wake(channel);
    *result = message;
    if (message == NULL)
        return STEP_FAIL;
    /* A loop that goes on receiving after the end must not keep the event loop from running. */
    return channel->repeats > 0 && channel->repeats % CALLS_PER_YIELD == 0 ? STEP_YIELD : STEP_DONE;
}

void channel_access(Channel *channel)
{
    if (channel->access_said || channel->scope == NULL)
        return;
    channel->access_said = true;
    Server *server = channel->server;
    if (server->on_access == NULL)
        return;
    double seconds = (double)(clock_ns() - channel->started_ns) / 1e9;
    PyObject *none = PyObject_CallFunction(server->on_access, "OiKd", channel->scope,
                                           channel->status, channel->bytes_out, seconds);
    if (none == NULL)
        PyErr_WriteUnraisable(server->on_access);
    Py_XDECREF(none);
}

/* --- Exceptions --- */

int fail_disconnected(State *st, const char *what)
{
    PyErr_SetString(st->client_disconnected, what);
    return -1;
}

int fail_out_of_order(const char *what)
{
    PyErr_SetString(PyExc_RuntimeError, what);
    return -1;
}

/* Whether an exception is ClientDisconnected, or a group of nothing else (a task group whose tasks
 * were all sending). `depth` bounds nested groups. */
static bool is_disconnect(State *st, PyObject *exc, int depth)
{
    if (PyErr_GivenExceptionMatches(exc, st->client_disconnected))
        return true;
    PyObject *members = depth > 0 ? PyObject_GetAttr(exc, st->str.exceptions) : NULL;
    if (members == NULL || !PyTuple_Check(members) || PyTuple_GET_SIZE(members) == 0) {
        PyErr_Clear();
        Py_XDECREF(members);
        return false;
    }
    bool all = true;
    for (Py_ssize_t i = 0; all && i < PyTuple_GET_SIZE(members); i++)
        all = is_disconnect(st, PyTuple_GET_ITEM(members, i), depth - 1);
    Py_DECREF(members);
    return all;
}

void channel_report(const Channel *channel, PyObject *exc, bool gone)
{
    State *st = channel->st;
    if (is_disconnect(st, exc, 8))
        return;
    /* Frameworks raise an exception of their own while they handle ours. */
    PyObject *context = PyException_GetContext(exc);
    bool because = gone && context != NULL && is_disconnect(st, context, 8);
    Py_XDECREF(context);
    server_app_error(channel->server, channel->scope, exc,
                     because ? st->str.kind_disconnected : st->str.kind_exception);
}
