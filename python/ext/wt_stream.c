/*
 * wt_stream.c - the streams of a WebTransport session: their table, what was received on them, the
 * ready list and the control queue.
 *
 * A stream is entered into the table when it has an id and stays until its channel is closed and
 * everything about it was handed out; it is freed when the outermost call into the session ends,
 * and then only the session's highest ids remember it. Credit goes back to the core for bytes that
 * were handed out or discarded, never earlier.
 *
 * A stop_sending waits for the bytes that arrived before it; it overtakes them only while the
 * application has paused the stream. A reset discards them.
 */
#include "session.h"

/* --- Table: linear probing, deletion by moving back, at most three quarters full --- */

/* Ids of one kind are four apart: times a constant without structure (2^64 over the golden ratio)
 * they spread over all slots. */
static size_t slot_of(const Session *session, uint64_t id)
{
    return (size_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (session->table_cap - 1);
}

Stream *stream_find_borrowed(const Session *session, uint64_t id)
{
    if (session->table_cap == 0)
        return NULL;
    size_t slot = slot_of(session, id);
    while (session->table[slot] != NULL && session->table[slot]->id != id)
        slot = (slot + 1) & (session->table_cap - 1);
    return session->table[slot];
}

static void table_put(Session *session, Stream *stream)
{
    size_t slot = slot_of(session, stream->id);
    while (session->table[slot] != NULL)
        slot = (slot + 1) & (session->table_cap - 1);
    session->table[slot] = stream;
    session->table_used++;
}

static int table_reserve(Session *session)
{
    if ((session->table_used + 1) * 4 <= session->table_cap * 3)
        return 0;
    Stream **old = session->table;
    size_t old_cap = session->table_cap, cap = old_cap ? old_cap * 2 : 8;
    session->table = PyMem_Calloc(cap, sizeof(Stream *));
    if (session->table == NULL) {
        session->table = old;
        PyErr_NoMemory();
        return -1;
    }
    session->table_cap = cap;
    session->table_used = 0;
    for (size_t i = 0; i < old_cap; i++) {
        if (old[i] != NULL)
            table_put(session, old[i]);
    }
    PyMem_Free(old);
    return 0;
}

/* Each stream behind the hole moves into it if its home is not after the hole: no lookup meets an
 * empty slot before what it looks for, and no tombstones pile up in long sessions. */
static void table_remove(Session *session, const Stream *stream)
{
    size_t mask = session->table_cap - 1;
    size_t hole = slot_of(session, stream->id);
    while (session->table[hole] != stream)
        hole = (hole + 1) & mask;
    session->table[hole] = NULL;
    session->table_used--;
    for (size_t i = (hole + 1) & mask; session->table[i] != NULL; i = (i + 1) & mask) {
        size_t home = slot_of(session, session->table[i]->id);
        if (((i - home) & mask) < ((i - hole) & mask))
            continue; /* its home is behind the hole: it is found where it is */
        session->table[hole] = session->table[i];
        session->table[i] = NULL;
        hole = i;
    }
}

bool stream_was_seen(const Session *session, uint64_t id)
{
    unsigned type = id & 3;
    return session->seen[type] && id >= session->lowest[type] && id <= session->highest[type];
}

bool stream_was_stopped(const Session *session, uint64_t id)
{
    for (unsigned i = 0; i < STOPPED_REMEMBERED; i++) {
        if (session->stopped[i] == id + 1)
            return true;
    }
    return false;
}

/* --- Life --- */

Stream *stream_new(Session *session, ph_chan *chan, bool local, bool bidirectional)
{
    Stream *stream = PyMem_Calloc(1, sizeof(*stream));
    if (stream == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    stream->session = session;
    stream->chan = chan;
    stream->local = stream->announced = local;
    stream->bidirectional = bidirectional;
    stream->in_over = local && !bidirectional;
    list_init(&stream->senders);
    list_append(&session->streams, &stream->all);
    session->base.st->live[LIVE_STREAM]++;
    ph_chan_set_user(chan, stream);
    return stream;
}

int stream_opened(Stream *stream)
{
    Session *session = stream->session;
    if (table_reserve(session) < 0)
        return -1;
    stream->id = ph_chan_id(stream->chan);
    stream->opened = true;
    table_put(session, stream);
    unsigned type = stream->id & 3;
    if (!session->seen[type] || stream->id < session->lowest[type])
        session->lowest[type] = stream->id;
    if (!session->seen[type] || stream->id > session->highest[type])
        session->highest[type] = stream->id;
    session->seen[type] = true;
    return 0;
}

static void release(Stream *stream)
{
    if (stream->chan == NULL)
        return;
    ph_chan_set_user(stream->chan, NULL);
    ph_chan_release(stream->chan);
    stream->chan = NULL;
    server_touch(stream->session->base.server);
}

/* Out of everybody's reach first: what follows can run anything. */
static void stream_free(Stream *stream)
{
    Session *session = stream->session;
    if (stream->opened)
        table_remove(session, stream);
    /* A late send() to it is no mistake: the application may not have read of the stop yet. */
    if (stream->opened && stream->peer_stopped && !stream->out_over) {
        session->stopped[session->stopped_next] = stream->id + 1;
        session->stopped_next = (session->stopped_next + 1) % STOPPED_REMEMBERED;
    }
    link_remove(&stream->all);
    link_remove(&stream->ready);
    link_remove(&stream->dead);
    release(stream);
    inbox_fini(&stream->in);
    Py_CLEAR(stream->tag);
    session->base.st->live[LIVE_STREAM]--;
    PyMem_Free(stream);
}

static bool has_more(const Stream *stream)
{
    return !stream->in_over && (stream->in.bytes > 0 || stream->fin_in || !stream->announced);
}

static bool is_over(const Stream *stream)
{
    return stream->closed && stream->controls == 0 && !stream->stop_pending && !has_more(stream) &&
           list_is_empty(&stream->senders);
}

void stream_settle(Stream *stream)
{
    if (is_over(stream) && !link_is_on(&stream->dead))
        list_append(&stream->session->dead, &stream->dead);
}

void session_leave(Session *session)
{
    while (session->depth == 1 && !list_is_empty(&session->dead)) {
        Stream *stream = CONTAINER(session->dead.next, Stream, dead);
        link_remove(&stream->dead);
        if (is_over(stream))
            stream_free(stream);
    }
    session->depth--;
}

void stream_abandon(Stream *stream)
{
    inbox_clear(&stream->in);
    link_remove(&stream->ready);
    release(stream);
    stream->in_over = stream->closed = true;
    stream->stop_pending = false;
    await_wake_all(&stream->senders);
    stream_settle(stream);
}

void streams_abandon_all(Session *session)
{
    controls_clear(session);
    for (Link *link = session->streams.next; link != &session->streams; link = link->next)
        stream_abandon(CONTAINER(link, Stream, all));
}

/* The session's memory ends; nobody can be waiting. */
void streams_free(Session *session)
{
    controls_clear(session);
    while (!list_is_empty(&session->streams))
        stream_free(CONTAINER(session->streams.next, Stream, all));
    PyMem_Free(session->table);
    session->table = NULL;
    session->table_cap = session->table_used = 0;
}

int streams_traverse(const Session *session, visitproc visit, void *arg)
{
    for (const Link *link = session->controls.next; link != &session->controls; link = link->next)
        Py_VISIT(CONTAINER(link, Control, link)->tag);
    for (const Link *link = session->streams.next; link != &session->streams; link = link->next) {
        const Stream *stream = CONTAINER(link, Stream, all);
        Py_VISIT(stream->tag);
        int rc = await_visit_all(&stream->senders, visit, arg);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void streams_forget_waiters(Session *session)
{
    for (Link *link = session->streams.next; link != &session->streams; link = link->next)
        await_forget_all(&CONTAINER(link, Stream, all)->senders);
}

void streams_wake_all(Session *session)
{
    for (Link *link = session->streams.next; link != &session->streams; link = link->next)
        await_wake_all(&CONTAINER(link, Stream, all)->senders);
}

/* --- Control queue --- */

int control_push(Session *session, enum control_kind kind, Stream *stream, bool flag, uint64_t code)
{
    Control *control = PyMem_Calloc(1, sizeof(*control));
    if (control == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    control->kind = kind;
    control->stream = stream;
    control->flag = flag;
    control->code = code;
    if (stream != NULL)
        stream->controls++;
    if (kind == CONTROL_OPENED) {
        control->tag = stream->tag;
        stream->tag = NULL;
    }
    list_append(&session->controls, &control->link);
    channel_wake(&session->base);
    return 0;
}

static void control_free(Control *control)
{
    Stream *stream = control->stream;
    link_remove(&control->link);
    Py_CLEAR(control->tag);
    PyMem_Free(control);
    if (stream == NULL)
        return;
    stream->controls--;
    stream_settle(stream);
}

PyObject *control_next(Session *session)
{
    State *st = session->base.st;
    Control *control = CONTAINER(session->controls.next, Control, link);
    const Stream *stream = control->stream;
    PyObject *message = NULL;
    link_remove(&control->link); /* nobody else is to take it meanwhile */
    switch (control->kind) {
    case CONTROL_OPENED:
        message = message_stream_opened(st, stream->id, stream->bidirectional, control->tag);
        break;
    case CONTROL_RESET:
        message =
            message_stream_code(st, st->str.wt_reset, stream->id, control->flag, control->code);
        break;
    case CONTROL_STOP:
        message = message_stream_code(st, st->str.wt_stop_sending, stream->id, control->flag,
                                      control->code);
        break;
    case CONTROL_DRAIN:
        message = message_drain(st, control->flag);
        break;
    }
    if (message != NULL)
        control_free(control);
    else
        list_append(session->controls.next, &control->link); /* first again */
    return message;
}

void controls_clear(Session *session)
{
    while (!list_is_empty(&session->controls))
        control_free(CONTAINER(session->controls.next, Control, link));
}

/* Forgets a reset that was not handed out yet. */
static void drop_reset(Stream *stream)
{
    Link *next;
    for (Link *link = stream->session->controls.next; link != &stream->session->controls;
         link = next) {
        next = link->next;
        Control *control = CONTAINER(link, Control, link);
        if (control->stream != stream || control->kind != CONTROL_RESET)
            continue;
        link_remove(link);
        PyMem_Free(control);
        stream->controls--;
    }
}

/* --- Handing out --- */

void stream_update(Stream *stream)
{
    bool ready = has_more(stream) && !stream->paused;
    if (!ready) {
        link_remove(&stream->ready);
        return;
    }
    if (!link_is_on(&stream->ready))
        list_append(&stream->session->ready, &stream->ready);
    channel_wake(&stream->session->base);
}

/* Queues a stop_sending whose time has come. */
static int try_stop(Stream *stream)
{
    if (!stream->stop_pending || !stream->announced)
        return 0;
    if (stream->stop_after > 0 && !stream->paused && !stream->in_over)
        return 0;
    stream->stop_pending = false;
    return control_push(stream->session, CONTROL_STOP, stream, stream->stop_has_code,
                        stream->stop_code);
}

static void consume(Stream *stream, size_t bytes)
{
    if (stream->chan == NULL || bytes == 0)
        return;
    ph_chan_consume(stream->chan, bytes);
    server_touch(stream->session->base.server);
}

PyObject *stream_next(Session *session)
{
    State *st = session->base.st;
    Stream *stream = CONTAINER(session->ready.next, Stream, ready);
    size_t before = stream->in.bytes;
    PyObject *data = inbox_take(st, &stream->in, MESSAGE_MAX);
    if (data == NULL)
        return NULL;
    size_t taken = before - stream->in.bytes;
    bool end = stream->fin_in && stream->in.bytes == 0;
    PyObject *message = message_stream_receive(st, stream->id, data, end);
    Py_DECREF(data);
    consume(stream, taken);
    stream->announced = true;
    stream->in_over = end;
    stream->stop_after -= taken < stream->stop_after ? taken : stream->stop_after;
    if (try_stop(stream) < 0)
        Py_CLEAR(message);
    link_remove(&stream->ready); /* to the end of the list when there is more */
    stream_update(stream);
    stream_settle(stream);
    return message;
}

void stream_stop(Stream *stream)
{
    if (stream->in_over && stream->controls == 0)
        return;
    inbox_clear(&stream->in); /* the core returns the credit of a stopped stream by itself */
    stream->in_over = stream->announced = true;
    drop_reset(stream);
    stream_update(stream);
    if (try_stop(stream) < 0)
        PyErr_Clear();
    stream_settle(stream);
}

void stream_set_paused(Stream *stream, bool paused)
{
    stream->paused = paused;
    if (try_stop(stream) < 0)
        PyErr_Clear();
    stream_update(stream);
}

/* --- Events --- */

static int on_data(Stream *stream, ph_event *event)
{
    if (stream->in_over)
        return 0;
    if (event->len > 0) {
        ph_buf *buf = event->buf;
        event->buf = NULL; /* taken */
        if (inbox_put(&stream->in, buf, event->data, event->len) < 0) {
            PyErr_NoMemory();
            return -1;
        }
    }
    stream->fin_in = stream->fin_in || event->fin;
    stream_update(stream);
    return 0;
}

static int on_reset(Stream *stream, const ph_event *event)
{
    if (stream->in_over)
        return 0;
    consume(stream, inbox_clear(&stream->in));
    stream->in_over = stream->announced = true;
    stream_update(stream);
    if (control_push(stream->session, CONTROL_RESET, stream, event->has_code, event->code) < 0)
        return -1;
    return try_stop(stream);
}

static int on_stop_sending(Stream *stream, const ph_event *event)
{
    stream->peer_stopped = true;
    stream->stop_pending = true;
    stream->stop_after = stream->in.bytes;
    stream->stop_has_code = event->has_code;
    stream->stop_code = event->code;
    await_wake_all(&stream->senders);
    return try_stop(stream);
}

static int on_opened(Stream *stream)
{
    int rc = stream_opened(stream);
    if (rc == 0)
        rc = control_push(stream->session, CONTROL_OPENED, stream, false, 0);
    await_wake_all(&stream->senders);
    return rc;
}

int stream_on_event(Stream *stream, ph_event *event)
{
    switch (event->kind) {
    case PH_EVENT_OPENED:
        return on_opened(stream);
    case PH_EVENT_DATA:
        return on_data(stream, event);
    case PH_EVENT_RESET:
        return on_reset(stream, event);
    case PH_EVENT_STOP_SENDING:
        return on_stop_sending(stream, event);
    case PH_EVENT_WRITABLE:
        await_wake_first(&stream->senders);
        return 0;
    case PH_EVENT_CLOSED:
        stream->closed = true;
        await_wake_all(&stream->senders);
        stream_settle(stream);
        return 0;
    case PH_EVENT_REQUEST:
    case PH_EVENT_SESSION:
    case PH_EVENT_STREAM:
    case PH_EVENT_TRAILERS:
    case PH_EVENT_DATAGRAM:
    case PH_EVENT_DRAIN:
    case PH_EVENT_LOG:
    case PH_EVENT_STOPPED:
    case PH_EVENT_SOCKET:
    case PH_EVENT_MESSAGE:
        return 0;
    }
    return 0;
}
