/*
 * http.c - one HTTP request and its response, seen by an application of the "http" scope.
 *
 * Request side: bytes wait in the inbox until receive() takes them; taking gives credit back, so an
 * application that does not read stops the client. Response side: the head is kept until the first
 * body message, as ASGI demands; each later message is handed to the core at once, after waiting
 * for room. The core checks nothing that it could tell us in time, so the declared content-length
 * is watched here: too much and too little are errors of send(), and the response is cut.
 */
#include "ext.h"

#include <string.h>

enum response_state {
    RESPONSE_NONE,     /* no http.response.start yet */
    RESPONSE_STARTED,  /* started; the head is kept */
    RESPONSE_SENDING,  /* the head is with the core */
    RESPONSE_TRAILING, /* the body is complete, trailers are expected */
    RESPONSE_DONE,     /* complete, or cut */
};

typedef struct Exchange {
    Channel base;
    Inbox in;
    Link senders; /* Await.link, own: send() calls that wait for room */
    Fields head;  /* while RESPONSE_STARTED */
    Fields trailers;
    enum response_state response;
    uint64_t length, sent; /* declared and handed over, bytes */
    bool has_length;
    bool is_bodiless;   /* HEAD, 204, 304: body bytes are not sent and not counted */
    bool has_trailers;  /* announced in the start message */
    bool body_complete; /* the request's end arrived */
    bool body_handed;   /* the last http.request was given out */
    bool body_asked;    /* the core was told that the application wants the body */
    bool gone;          /* the client is gone, or has given the exchange up */
} Exchange;

static Exchange *as_exchange(Channel *channel)
{
    return (Exchange *)(void *)channel;
}

/* --- receive() --- */

static bool is_over(const Exchange *ex)
{
    return ex->gone || ex->response == RESPONSE_DONE || !ex->base.running;
}

static bool has_body(const Exchange *ex)
{
    return ex->in.bytes > 0 || (ex->body_complete && !ex->body_handed);
}

static bool http_is_ready(const Channel *channel)
{
    const Exchange *ex = (const Exchange *)(const void *)channel;
    return is_over(ex) || has_body(ex);
}

/* Tells the core that the body is wanted (100 Continue hangs on it), and how much was taken. */
static void consume(Exchange *ex, size_t bytes)
{
    ph_chan *chan = ex->base.chan;
    if (chan == NULL || (bytes == 0 && (ex->body_asked || ex->body_complete)))
        return;
    ex->body_asked = true;
    ph_chan_consume(chan, bytes);
    server_touch(ex->base.server);
}

static PyObject *http_next(Channel *channel)
{
    Exchange *ex = as_exchange(channel);
    State *st = channel->st;
    if (is_over(ex)) {
        channel->repeats++;
        return message_of_type(st, st->str.http_disconnect);
    }
    if (!has_body(ex)) {
        consume(ex, 0);
        return NULL;
    }
    size_t before = ex->in.bytes;
    PyObject *body = inbox_take(st, &ex->in, MESSAGE_MAX);
    if (body == NULL)
        return NULL;
    if (before > ex->in.bytes)
        consume(ex, before - ex->in.bytes);
    bool more = !ex->body_complete || ex->in.bytes > 0;
    ex->body_handed = !more;
    PyObject *message = message_http_request(st, body, more);
    Py_DECREF(body);
    return message;
}

/* --- The response --- */

static void finish_response(Exchange *ex)
{
    ex->response = RESPONSE_DONE;
    fields_clear(&ex->head);
    fields_clear(&ex->trailers);
    channel_wake(&ex->base);
    await_wake_all(&ex->senders);
}

/* Cuts the response, so that the client can tell that it is not whole. A head that was kept goes
 * out first: the client is to see a response that is cut, not a connection that breaks. */
static void cut(Exchange *ex)
{
    ph_chan *chan = ex->base.chan;
    if (chan != NULL && ex->response != RESPONSE_DONE) {
        if (ex->response == RESPONSE_STARTED)
            ph_chan_respond(chan, ex->base.status, ex->head.list, ex->head.count, false);
        ph_chan_reset(chan, H3_INTERNAL_ERROR);
        server_touch(ex->base.server);
    }
    finish_response(ex);
}

/* What a call of the core that should have worked says about the exchange. STEP_FAIL. */
static int core_refused(Exchange *ex, int rc)
{
    if (rc == PH_E_CLOSED) {
        ex->gone = true;
        channel_wake(&ex->base);
        return fail_disconnected(ex->base.st, "the client is gone");
    }
    cut(ex);
    PyErr_Format(PyExc_RuntimeError, "the response was refused: %s", ph_strerror(rc));
    return STEP_FAIL;
}

static int send_head(Exchange *ex, bool fin)
{
    int rc = ph_chan_respond(ex->base.chan, ex->base.status, ex->head.list, ex->head.count, fin);
    ex->response = RESPONSE_SENDING;
    fields_clear(&ex->head);
    return rc == PH_OK ? 0 : core_refused(ex, rc);
}

/* The first content-length of the head; a wrong one is the application's error. */
static int take_length(Exchange *ex)
{
    for (size_t i = 0; i < ex->head.count; i++) {
        const ph_field *field = &ex->head.list[i];
        if (field->name_len != 14 || memcmp(field->name, "content-length", 14) != 0)
            continue;
        uint64_t length = 0;
        bool valid = field->value_len > 0 && field->value_len < 19;
        for (size_t k = 0; valid && k < field->value_len; k++) {
            valid = field->value[k] >= '0' && field->value[k] <= '9';
            length = length * 10 + (uint64_t)(field->value[k] - '0');
        }
        if (!valid || (ex->has_length && length != ex->length)) {
            PyErr_SetString(PyExc_ValueError, "invalid header value: content-length");
            return -1;
        }
        ex->has_length = true;
        ex->length = length;
    }
    return 0;
}

static int start(Exchange *ex, Message *message)
{
    if (ex->response != RESPONSE_NONE)
        return fail_out_of_order("http.response.start was sent already");
    if (ex->gone || ex->base.chan == NULL)
        return fail_disconnected(ex->base.st, "the client is gone");
    ex->head = message->fields; /* moved */
    message->fields = (Fields){0};
    if (take_length(ex) < 0) {
        fields_clear(&ex->head);
        ex->has_length = false;
        return STEP_FAIL;
    }
    ex->base.status = message->status;
    if (message->status == 204 || message->status == 304)
        ex->is_bodiless = true;
    ex->has_trailers = message->trailers;
    ex->response = RESPONSE_STARTED;
    return STEP_DONE;
}

/* RFC 9110 8.6: the length that was declared is the length that is sent. */
static int check_length(Exchange *ex, const Message *message)
{
    if (!ex->has_length || ex->is_bodiless)
        return 0;
    bool too_long = ex->sent + message->len > ex->length;
    bool too_short = message->end && ex->sent + message->len < ex->length;
    if (!too_long && !too_short)
        return 0;
    cut(ex);
    PyErr_SetString(PyExc_RuntimeError, too_long
                                            ? "the response body is longer than its content-length"
                                            : "the response body is shorter than its "
                                              "content-length");
    return -1;
}

/* Hands bytes or a file to the core. */
static int hand_over(Exchange *ex, Message *message, bool fin)
{
    if (message->has_file)
        return file_hand_over(message, ex->base.chan, fin);
    ph_buf *buf = message->buf;
    message->buf = NULL; /* taken */
    return ph_chan_write(ex->base.chan, buf, fin);
}

static int write_body(Exchange *ex, Message *message)
{
    bool fin = message->end && !ex->has_trailers;
    bool empty = message->len == 0 || (message->has_file && ex->is_bodiless);
    bool said = empty && !fin;
    if (ex->response == RESPONSE_STARTED) {
        if (send_head(ex, fin && empty) < 0)
            return STEP_FAIL;
        said = empty;
    }
    if (!said) {
        int rc = empty ? ph_chan_write(ex->base.chan, NULL, fin) : hand_over(ex, message, fin);
        if (rc != PH_OK)
            return core_refused(ex, rc);
    }
    ex->sent += message->len;
    if (!ex->is_bodiless)
        ex->base.bytes_out += message->len;
    if (fin) {
        finish_response(ex);
        channel_access(&ex->base);
    } else if (message->end) {
        ex->response = RESPONSE_TRAILING;
    }
    return STEP_DONE;
}

/* Whether a message that was in order when it began to wait still is. */
static int body_order(const Exchange *ex)
{
    if (ex->response == RESPONSE_NONE)
        return fail_out_of_order("http.response.body before http.response.start");
    if (ex->response > RESPONSE_SENDING)
        return fail_out_of_order("http.response.body after the response was complete");
    return STEP_DONE;
}

static int body(Exchange *ex, Await *await, Message *message)
{
    int rc = body_order(ex);
    if (rc == STEP_DONE && (ex->gone || ex->base.chan == NULL))
        rc = fail_disconnected(ex->base.st, "the client is gone");
    if (rc == STEP_DONE &&
        (await_is_behind(&ex->senders, await) ||
         (ex->response == RESPONSE_SENDING && ph_chan_wait_writable(ex->base.chan) == 0))) {
        await_join(&ex->senders, await);
        return STEP_WAIT;
    }
    await_leave(await);
    if (rc == STEP_DONE)
        rc = check_length(ex, message) < 0 ? STEP_FAIL : write_body(ex, message);
    server_push(ex->base.server);
    await_wake_first(&ex->senders);
    return rc;
}

/* A whole file as the whole body. */
static int path(Exchange *ex, Await *await, Message *message)
{
    if (ex->response == RESPONSE_SENDING && !link_is_on(&await->link))
        return fail_out_of_order("http.response.pathsend after http.response.body");
    return body(ex, await, message);
}

/* 103 goes out while the response itself is not there yet (RFC 8297). */
static int early_hint(Exchange *ex, const Message *message)
{
    if (ex->response > RESPONSE_STARTED)
        return fail_out_of_order("http.response.early_hint after http.response.body");
    if (ex->gone || ex->base.chan == NULL)
        return fail_disconnected(ex->base.st, "the client is gone");
    if (message->fields.count == 0)
        return STEP_DONE;
    int rc =
        ph_chan_respond(ex->base.chan, 103, message->fields.list, message->fields.count, false);
    if (rc != PH_OK)
        return core_refused(ex, rc);
    server_push(ex->base.server);
    return STEP_DONE;
}

static int trailers(Exchange *ex, const Message *message)
{
    if (ex->response != RESPONSE_TRAILING)
        return fail_out_of_order(
            ex->has_trailers ? "http.response.trailers before the body was complete"
                             : "http.response.trailers needs 'trailers': True at the start");
    if (ex->gone || ex->base.chan == NULL)
        return fail_disconnected(ex->base.st, "the client is gone");
    if (fields_join(&ex->trailers, &message->fields) < 0)
        return STEP_FAIL;
    if (!message->end)
        return STEP_DONE;
    int rc = ph_chan_trailers(ex->base.chan, ex->trailers.list, ex->trailers.count);
    if (rc != PH_OK)
        return core_refused(ex, rc);
    server_push(ex->base.server);
    finish_response(ex);
    channel_access(&ex->base);
    return STEP_DONE;
}

static int http_step(Exchange *ex, Await *await, Message *message)
{
    switch (message->kind) {
    case MESSAGE_HTTP_START:
        return start(ex, message);
    case MESSAGE_HTTP_BODY:
        return body(ex, await, message);
    case MESSAGE_HTTP_TRAILERS:
        return trailers(ex, message);
    case MESSAGE_HTTP_PATH:
        return path(ex, await, message);
    case MESSAGE_HTTP_FILE:
        return body(ex, await, message);
    case MESSAGE_HTTP_HINT:
        return early_hint(ex, message);
    case MESSAGE_WT_ACCEPT: /* http_types has those above */
    case MESSAGE_WT_CLOSE:
    case MESSAGE_WT_RESPONSE_START:
    case MESSAGE_WT_RESPONSE_BODY:
    case MESSAGE_WT_OPEN:
    case MESSAGE_WT_SEND:
    case MESSAGE_WT_RESET:
    case MESSAGE_WT_STOP:
    case MESSAGE_WT_PAUSE:
    case MESSAGE_WT_RESUME:
    case MESSAGE_WT_DATAGRAM:
    case MESSAGE_WT_DRAIN:
    case MESSAGE_WS_ACCEPT:
    case MESSAGE_WS_SEND:
    case MESSAGE_WS_CLOSE:
    case MESSAGE_WS_RESPONSE_START:
    case MESSAGE_WS_RESPONSE_BODY:
        break;
    }
    Py_UNREACHABLE();
}

static int http_send(Channel *channel, Await *await, PyObject **result)
{
    State *st = channel->st;
    Message fresh, *message = await->cmd;
    if (message == NULL) {
        message = &fresh;
        if (message_read(st, st->http_types, "http", await->message, message) < 0)
            return STEP_FAIL;
    }
    int step = http_step(as_exchange(channel), await, message);
    if (step == STEP_WAIT)
        return await_keep(await, message);
    if (step == STEP_DONE) {
        message_clear(message);
        *result = Py_NewRef(Py_None);
        return step;
    }
    PyObject *exc = exception_take();
    message_clear(message);
    exception_give(exc);
    return step;
}

static void http_abandoned(Channel *channel, Await *Py_UNUSED(await))
{
    await_wake_first(&as_exchange(channel)->senders);
}

/* --- Events --- */

static void client_gone(Exchange *ex)
{
    ex->gone = true;
    channel_wake(&ex->base);
    await_wake_all(&ex->senders);
}

static void on_data(Exchange *ex, ph_event *event)
{
    if (event->fin)
        ex->body_complete = true;
    if (event->len > 0) {
        ph_buf *buf = event->buf;
        event->buf = NULL; /* taken */
        if (inbox_put(&ex->in, buf, event->data, event->len) < 0) {
            PyErr_NoMemory();
            cut(ex);
            return;
        }
    }
    channel_wake(&ex->base);
}

static void http_on_event(Channel *channel, ph_event *event)
{
    Exchange *ex = as_exchange(channel);
    switch (event->kind) {
    case PH_EVENT_DATA:
        on_data(ex, event);
        break;
    case PH_EVENT_RESET:
    case PH_EVENT_STOP_SENDING:
        client_gone(ex);
        break;
    case PH_EVENT_WRITABLE:
        await_wake_first(&ex->senders);
        break;
    case PH_EVENT_CLOSED:
        channel->closed = true;
        if (ex->response != RESPONSE_DONE)
            client_gone(ex);
        channel_access(channel);
        channel_let_go(channel);
        break;
    case PH_EVENT_TRAILERS: /* ASGI has no message for them */
    case PH_EVENT_REQUEST:
    case PH_EVENT_SESSION:
    case PH_EVENT_STREAM:
    case PH_EVENT_OPENED:
    case PH_EVENT_DATAGRAM:
    case PH_EVENT_DRAIN:
    case PH_EVENT_LOG:
    case PH_EVENT_STOPPED:
    case PH_EVENT_SOCKET:
    case PH_EVENT_MESSAGE:
        break;
    }
}

static void http_on_stream_event(Channel *Py_UNUSED(channel), ph_event *Py_UNUSED(event))
{
}

static void http_detach(Channel *channel)
{
    client_gone(as_exchange(channel));
}

/* --- The end of the application --- */

/* The state of an application that failed is unknown, so the connection ends with the answer; over
 * HTTP/2 and HTTP/3 the core leaves that field out. */
static void answer_500(Exchange *ex)
{
    static const char text[] = "Internal Server Error";
    static const ph_field fields[] = {{"content-type", "text/plain; charset=utf-8", 12, 25},
                                      {"connection", "close", 10, 5}};
    if (ex->base.chan == NULL || ex->gone)
        return;
    ex->base.status = 500;
    ph_chan_respond(ex->base.chan, 500, fields, 2, false);
    ph_chan_write(ex->base.chan, ph_buf_copy(text, sizeof(text) - 1), true);
    ex->base.bytes_out = ex->is_bodiless ? 0 : sizeof(text) - 1;
    finish_response(ex);
    server_touch(ex->base.server);
}

static void report(Exchange *ex, PyObject *exc, bool cancelled)
{
    Channel *channel = &ex->base;
    State *st = channel->st;
    if (exc == NULL) {
        bool is_told = ex->gone || ex->response == RESPONSE_DONE;
        if (!is_told && !(cancelled && channel->server->is_cancelling))
            server_app_error(channel->server, channel->scope, NULL,
                             cancelled ? st->str.kind_cancelled : st->str.kind_no_response);
        return;
    }
    channel_report(channel, exc, ex->gone);
}

static void http_finish(Channel *channel, PyObject *exc, bool cancelled)
{
    Exchange *ex = as_exchange(channel);
    report(ex, exc, cancelled);
    if (ex->response <= RESPONSE_STARTED) { /* nothing was sent so far */
        answer_500(ex);
    } else {
        cut(ex);
    }
    if (channel->chan != NULL && !ex->body_complete && !ex->gone)
        ph_chan_stop_sending(channel->chan,
                             H3_NO_ERROR); /* RFC 9114 4.1: it was answered without */
    channel_access(channel);
    channel_release(channel);
    channel_wake(channel);
    await_wake_all(&ex->senders);
}

static void http_drop(Channel *channel)
{
    Exchange *ex = as_exchange(channel);
    inbox_fini(&ex->in);
    fields_clear(&ex->head);
    fields_clear(&ex->trailers);
}

static const ChannelOps http_ops = {
    .kind = "http",
    .live = LIVE_EXCHANGE,
    .next = http_next,
    .is_ready = http_is_ready,
    .send = http_send,
    .abandoned = http_abandoned,
    .finish = http_finish,
    .on_event = http_on_event,
    .on_stream_event = http_on_stream_event,
    .detach = http_detach,
    .drop = http_drop,
};

/* --- Type --- */

Channel *http_new(Server *server, ph_event *event)
{
    const ph_request *request = ph_chan_request(event->chan);
    PyObject *scope = scope_http(server, request);
    if (scope == NULL)
        return NULL;
    Channel *channel = channel_alloc(server->st->exchange_type, server, &http_ops);
    if (channel == NULL) {
        Py_DECREF(scope);
        return NULL;
    }
    Exchange *ex = as_exchange(channel);
    list_init(&ex->senders);
    channel->scope = scope;
    channel->chan = event->chan;
    ex->is_bodiless = strcmp(request->method, "HEAD") == 0;
    ex->body_complete = !request->has_body;
    ph_chan_set_user(event->chan, channel);
    return channel;
}

static int exchange_traverse(PyObject *self, visitproc visit, void *arg)
{
    int rc = await_visit_all(&as_exchange((Channel *)self)->senders, visit, arg);
    return rc != 0 ? rc : channel_traverse((Channel *)self, visit, arg);
}

static int exchange_clear(PyObject *self)
{
    await_forget_all(&as_exchange((Channel *)self)->senders);
    channel_clear_refs((Channel *)self);
    return 0;
}

static void exchange_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    channel_free((Channel *)self);
}

static PyType_Slot exchange_slots[] = {
    {Py_tp_doc, "One HTTP request and its response."},
    {Py_tp_dealloc, exchange_dealloc},
    {Py_tp_traverse, exchange_traverse},
    {Py_tp_clear, exchange_clear},
    {0, NULL},
};

static PyType_Spec exchange_spec = {
    .name = "pronghorn._core.Exchange",
    .basicsize = sizeof(Exchange),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = exchange_slots,
};

int http_type_new(PyObject *module, State *st)
{
    st->exchange_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &exchange_spec, NULL);
    return st->exchange_type == NULL ? -1 : 0;
}
