/*
 * api.c - the consumer's end of the pipe: messages become ph_event, calls on channels become
 * commands.
 *
 * Everything here runs on the consumer thread. Arguments are checked here, so that a command can
 * only fail because the peer or the connection went away, which the channel's CLOSED tells. Bytes
 * are counted into `queued` before their command is pushed and out of it by the I/O thread when the
 * transport let go of them; ph_chan_wait_*() arm a flag and look again, so that a WRITABLE that
 * crosses them is never lost.
 */
#include "core.h"

#include <unistd.h>

/* Events handed out between two flushes: commands do not wait for the end of a long run. */
#define FLUSH_EVERY 64

/* --- Channels as the application holds them --- */

static void know(struct ph_chan *chan)
{
    chan->app.is_known = true;
    ph_list_append(&chan->pipe->app.chans, &chan->app.all);
    if (chan->parent != NULL)
        chan->parent->app.children++;
}

/* The application has both released the channel and seen it closed: its reference ends. For
 * commands that are still on their way the I/O half has its own, until RELEASE, the last of them.
 */
static void forget(struct ph_chan *chan)
{
    ph_list_remove(&chan->app.all);
    ph_list_remove(&chan->app.credit);
    ph_list_remove(&chan->app.held);
    ph_chan_unref(chan);
}

static void release(struct ph_chan *chan)
{
    struct ph_msg msg = {.kind = PH_DOWN_RELEASE, .chan = chan};
    ph_list_remove(&chan->app.credit); /* the I/O half returns what is left */
    chan->app.released = true;
    ph_pipe_push_down(chan->pipe, &msg);
    if (chan->app.held_msg.kind != 0) { /* its CLOSED has nobody to go to any more */
        ph_buf_unref(chan->app.held_msg.s.buf);
        chan->app.held_msg = (struct ph_msg){0};
    }
    if (chan->app.closed)
        forget(chan);
}

void ph_chan_release(ph_chan *chan)
{
    PH_ASSERT(!chan->app.released);
    release(chan);
}

void ph_pipe_release_all(struct ph_pipe *pipe)
{
    struct ph_link *link;
    while ((link = pipe->app.chans.next) != &pipe->app.chans) {
        struct ph_chan *chan = PH_CONTAINER(link, struct ph_chan, app.all);
        chan->app.closed = true;
        if (chan->app.released)
            forget(chan);
        else
            release(chan);
    }
}

/* --- Events --- */

/* Messages are made so that most members mean the same in both; what `n` is differs by kind. */
static void fill(struct ph_event *event, const struct ph_msg *msg)
{
    *event = (struct ph_event){
        .kind = (ph_event_kind)msg->kind,
        .chan = msg->chan,
        .buf = msg->s.buf,
        .data = msg->s.p,
        .len = msg->s.n,
        .code = msg->a,
        .has_code = (msg->flags & PH_MSG_HAS_CODE) != 0,
        .fin = (msg->flags & PH_MSG_FIN) != 0,
        .clean = (msg->flags & PH_MSG_CLEAN) != 0,
        .local = (msg->flags & PH_MSG_LOCAL) != 0,
    };
    if (msg->kind == PH_EVENT_TRAILERS) {
        event->fields = ph_fields_of(msg->s.buf);
        event->fields_len = msg->n;
    }
    if (msg->kind == PH_EVENT_LOG)
        event->level = (ph_log_level)msg->n;
    if (msg->kind == PH_EVENT_MESSAGE)
        event->text = (msg->flags & PH_MSG_TEXT) != 0;
    if (msg->kind == PH_EVENT_STREAM)
        event->parent = event->chan->parent;
}

static bool deliver_announce(struct ph_chan *chan, const struct ph_msg *msg, struct ph_event *event)
{
    know(chan);
    if (chan->parent != NULL && chan->parent->app.released) {
        release(chan); /* the application gave the session up: it will not hear of its streams */
        return false;
    }
    fill(event, msg);
    return true;
}

static bool deliver_closed(struct ph_chan *chan, struct ph_msg *msg, struct ph_event *event)
{
    struct ph_chan *parent = chan->parent;
    bool released = chan->app.released;
    chan->app.closed = true;
    if (parent != NULL && --parent->app.children == 0 && parent->app.held_msg.kind != 0)
        ph_list_append(&chan->pipe->app.held, &parent->app.held);
    if (released) {
        ph_buf_unref(msg->s.buf);
        forget(chan);
        return false;
    }
    if (chan->app.children > 0) { /* streams opened by us in the same moment come first */
        chan->app.held_msg = *msg;
        return false;
    }
    fill(event, msg);
    return true;
}

static bool deliver_chan(struct ph_chan *chan, struct ph_msg *msg, struct ph_event *event)
{
    /* What was on its way when the application let go, or said stop, is dropped here. */
    bool wanted = !chan->app.released;
    if (msg->kind == PH_EVENT_CLOSED)
        return deliver_closed(chan, msg, event);
    if (msg->kind == PH_EVENT_REQUEST || msg->kind == PH_EVENT_SESSION ||
        msg->kind == PH_EVENT_STREAM || msg->kind == PH_EVENT_SOCKET)
        return deliver_announce(chan, msg, event);
    if (chan->app.stopped && (msg->kind == PH_EVENT_DATA || msg->kind == PH_EVENT_RESET ||
                              msg->kind == PH_EVENT_TRAILERS))
        wanted = false;
    if (!wanted) {
        ph_buf_unref(msg->s.buf);
        return false;
    }
    fill(event, msg);
    return true;
}

/* A session's CLOSED that waited for its streams. */
static bool deliver_held(struct ph_pipe *pipe, struct ph_event *event)
{
    struct ph_link *link = ph_list_take(&pipe->app.held);
    if (link == NULL)
        return false;
    struct ph_chan *chan = PH_CONTAINER(link, struct ph_chan, app.held);
    fill(event, &chan->app.held_msg);
    chan->app.held_msg = (struct ph_msg){0};
    return true;
}

/* The I/O thread has ended. Streams whose OPEN it did not read any more get their CLOSED here. */
static bool deliver_stopped(struct ph_pipe *pipe, struct ph_event *event)
{
    struct ph_msg msg = {.kind = PH_EVENT_CLOSED, .flags = PH_MSG_LOCAL};
    for (struct ph_link *link = pipe->app.chans.next; link != &pipe->app.chans;) {
        struct ph_chan *chan = PH_CONTAINER(link, struct ph_chan, app.all);
        link = link->next;
        if (chan->app.closed)
            continue;
        msg.chan = chan;
        if (deliver_closed(chan, &msg, event))
            return true;
        link = pipe->app.chans.next; /* the list may have changed */
    }
    if (deliver_held(pipe, event))
        return true;
    pipe->app.is_ending = false;
    pipe->app.stopped = true;
    *event = (struct ph_event){.kind = PH_EVENT_STOPPED};
    return true;
}

static bool deliver(struct ph_pipe *pipe, struct ph_msg *msg, struct ph_event *event)
{
    if (msg->kind == PH_UP_HOME) {
        ph_buf_release_chain(msg->s.buf);
        return false;
    }
    if (msg->kind == PH_UP_ASK) {
        struct ph_msg here = {.kind = PH_DOWN_SERVER_HERE};
        ph_pipe_push_down(pipe, &here);
        return false;
    }
    if (msg->kind == PH_EVENT_STOPPED) {
        pipe->app.is_ending = true;
        return deliver_stopped(pipe, event);
    }
    if (msg->chan == NULL) {
        fill(event, msg);
        return true;
    }
    return deliver_chan(msg->chan, msg, event);
}

/* Tells an I/O thread that found the ring full that there is room again. */
static void tell_room(struct ph_pipe *pipe)
{
    pipe->app.since_wake = 0;
    atomic_thread_fence(memory_order_seq_cst); /* between making room and the look: see pipe.c */
    if (atomic_load_explicit(&pipe->up_starved, memory_order_relaxed) != 0 &&
        atomic_exchange(&pipe->up_starved, 0) != 0) {
        ph_ring_wake(&pipe->down);
        ph_count(pipe->stats, bells_down);
    }
}

int ph_pipe_next_event(struct ph_pipe *pipe, struct ph_event *event)
{
    struct ph_msg msg;
    if (pipe->app.asleep) {
        ph_ring_awake(&pipe->up);
        pipe->app.asleep = false;
    }
    for (;;) {
        if (deliver_held(pipe, event))
            return 1;
        if (pipe->app.is_ending && deliver_stopped(pipe, event))
            return 1;
        if (++pipe->app.since_flush >= FLUSH_EVERY)
            ph_pipe_flush(pipe);
        if (++pipe->app.since_wake > pipe->up.mask / 2)
            tell_room(pipe);
        if (ph_ring_pop(&pipe->up, &msg)) {
            if (deliver(pipe, &msg, event))
                return 1;
            continue;
        }
        /* What was said goes before the sleep: the answer may be what we would sleep for. */
        ph_pipe_flush(pipe);
        tell_room(pipe);
        pipe->app.asleep = ph_ring_sleep(&pipe->up);
        if (pipe->app.asleep)
            return 0;
    }
}

/* --- Reading a channel --- */

ph_chan_kind ph_chan_get_kind(const ph_chan *chan)
{
    return chan->kind;
}

uint64_t ph_chan_id(const ph_chan *chan)
{
    return atomic_load_explicit(&chan->id, memory_order_relaxed);
}

void ph_chan_set_user(ph_chan *chan, void *user)
{
    chan->app.user = user;
}

void *ph_chan_user(const ph_chan *chan)
{
    return chan->app.user;
}

const ph_request *ph_chan_request(const ph_chan *chan)
{
    return chan->request != NULL ? ph_chan_request_get(chan->request) : NULL;
}

const ph_tls_info *ph_chan_tls(const ph_chan *chan)
{
    const struct ph_chan *asked = chan->request != NULL ? chan : chan->parent;
    return asked != NULL ? ph_chan_request_get(asked->request)->tls_info : NULL;
}

size_t ph_chan_max_datagram_size(const ph_chan *chan)
{
    return atomic_load_explicit(&chan->max_datagram, memory_order_relaxed);
}

size_t ph_chan_queued(const ph_chan *chan)
{
    return atomic_load_explicit(&chan->queued, memory_order_relaxed);
}

/* --- Heads --- */

static bool name_is(const struct ph_field *field, const char *name)
{
    return ph_text_equal(field->name, field->name_len, name);
}

/* Sessions and WebSockets are accepted or rejected before anything else. */
static bool is_asking(const struct ph_chan *chan)
{
    return chan->kind == PH_CHAN_WT_SESSION || chan->kind == PH_CHAN_WEBSOCKET;
}

/* What the handshake of a session or WebSocket sets itself. */
static bool is_handshake(const struct ph_chan *chan, const struct ph_field *field)
{
    return (chan->kind == PH_CHAN_WT_SESSION && name_is(field, "wt-protocol")) ||
           (chan->kind == PH_CHAN_WEBSOCKET && ph_ws_field_is_ours(field->name, field->name_len));
}

/* PH_E_INVAL for a field that may not be sent. `connection` of a response goes on to the exchange,
 * which hears "close" in it and sends none of it. Outer white space is trimmed later, so it is
 * looked past here. */
static int check_fields(const struct ph_chan *chan, const struct ph_field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *p = fields[i].value;
        size_t len = fields[i].value_len;
        ph_text_trim(&p, &len);
        if (!ph_field_name_is_valid(fields[i].name, fields[i].name_len) ||
            !ph_field_value_is_valid(p, len))
            return PH_E_INVAL;
        if (ph_field_is_connection_specific(fields[i].name, fields[i].name_len) &&
            (is_asking(chan) || !name_is(&fields[i], "connection")))
            return PH_E_INVAL;
        if (is_handshake(chan, &fields[i]))
            return PH_E_INVAL;
    }
    return 0;
}

static void send_simple(struct ph_chan *chan, enum ph_down_kind kind, uint64_t a)
{
    struct ph_msg msg = {.kind = (uint16_t)kind, .chan = chan, .a = a};
    ph_pipe_push_down(chan->pipe, &msg);
}

int ph_chan_respond(ph_chan *chan, int status, const ph_field *fields, size_t fields_len, bool fin)
{
    bool is_session = is_asking(chan);
    bool is_final = status >= 200;
    /* 2xx would accept what asks (RFC 9110 9.3.6), and 101 is for ph_chan_accept() to say. */
    if (chan->kind == PH_CHAN_WT_STREAM || status < 100 || status > 999 || status == 101 ||
        (!is_final && (fin || is_session)) || (is_session && (status < 300 || status > 599)))
        return PH_E_INVAL;
    int rc = check_fields(chan, fields, fields_len);
    if (rc < 0)
        return rc;
    if (chan->app.closed)
        return PH_E_CLOSED;
    if (chan->app.head_sent || chan->app.ended)
        return PH_E_STATE;
    chan->app.head_sent = is_final;
    chan->app.rejected = is_session;
    chan->app.ended = fin;
    struct ph_msg msg = {.kind = PH_DOWN_RESPOND,
                         .flags = fin ? PH_MSG_FIN : 0,
                         .n = (uint32_t)fields_len,
                         .chan = chan,
                         .s = {.buf = ph_fields_pack(fields, fields_len, NULL)},
                         .a = (uint64_t)status};
    ph_pipe_push_down(chan->pipe, &msg);
    return 0;
}

int ph_chan_trailers(ph_chan *chan, const ph_field *fields, size_t fields_len)
{
    if (chan->kind != PH_CHAN_HTTP)
        return PH_E_INVAL;
    int rc = check_fields(chan, fields, fields_len);
    if (rc < 0)
        return rc;
    if (chan->app.closed)
        return PH_E_CLOSED;
    if (!chan->app.head_sent || chan->app.ended)
        return PH_E_STATE;
    chan->app.ended = true;
    struct ph_msg msg = {.kind = PH_DOWN_TRAILERS,
                         .n = (uint32_t)fields_len,
                         .chan = chan,
                         .s = {.buf = ph_fields_pack(fields, fields_len, NULL)}};
    ph_pipe_push_down(chan->pipe, &msg);
    return 0;
}

int ph_chan_accept(ph_chan *chan, const ph_field *fields, size_t fields_len,
                   const char *subprotocol)
{
    if (!is_asking(chan))
        return PH_E_INVAL;
    int rc = check_fields(chan, fields, fields_len);
    if (rc < 0)
        return rc;
    const struct ph_request *request = ph_chan_request(chan);
    bool offered = subprotocol == NULL;
    for (size_t i = 0; i < request->offered_len && !offered; i++)
        offered = strcmp(request->offered[i], subprotocol) == 0;
    if (!offered)
        return PH_E_INVAL;
    if (chan->app.closed)
        return PH_E_CLOSED;
    if (chan->app.head_sent)
        return PH_E_STATE;
    chan->app.head_sent = chan->app.accepted = true;
    struct ph_msg msg = {.kind = PH_DOWN_ACCEPT,
                         .flags = subprotocol != NULL ? PH_MSG_SUBPROTOCOL : 0,
                         .n = (uint32_t)fields_len,
                         .chan = chan,
                         .s = {.buf = ph_fields_pack(fields, fields_len, subprotocol)}};
    ph_pipe_push_down(chan->pipe, &msg);
    return 0;
}

/* --- Bytes --- */

/* May this channel be written, by kind and direction? */
static int check_write(const struct ph_chan *chan)
{
    if (chan->kind == PH_CHAN_WT_STREAM && !chan->is_local && !chan->is_bidi)
        return PH_E_STATE;
    if (is_asking(chan) && !chan->app.rejected)
        return PH_E_STATE;
    if (chan->app.closed)
        return PH_E_CLOSED;
    if (chan->app.ended || (chan->kind == PH_CHAN_HTTP && !chan->app.head_sent))
        return PH_E_STATE;
    return 0;
}

int ph_chan_write(ph_chan *chan, ph_buf *buf, bool fin)
{
    int rc = check_write(chan);
    if (rc < 0) {
        ph_buf_unref(buf);
        return rc;
    }
    struct ph_msg msg = {.kind = PH_DOWN_WRITE, .flags = fin ? PH_MSG_FIN : 0, .chan = chan};
    if (buf != NULL)
        msg.s = ph_slice_of(buf);
    if (msg.s.n == 0 && !fin) {
        ph_buf_unref(buf);
        return 0;
    }
    chan->app.ended = fin;
    /* Before the command: the I/O thread may take it out again at once. */
    atomic_fetch_add(&chan->queued, msg.s.n);
    if (chan->parent != NULL)
        atomic_fetch_add(&chan->parent->queued, msg.s.n);
    ph_pipe_push_down(chan->pipe, &msg);
    return 0;
}

int ph_chan_send_file(ph_chan *chan, int fd, uint64_t offset, size_t len, bool fin)
{
    int rc = chan->kind == PH_CHAN_HTTP ? check_write(chan) : PH_E_INVAL;
    if (rc < 0 || len == 0) {
        close(fd);
        return rc < 0 ? rc : ph_chan_write(chan, NULL, fin);
    }
    struct ph_msg msg = {.kind = PH_DOWN_FILE,
                         .flags = fin ? PH_MSG_FIN : 0,
                         .n = (uint32_t)fd,
                         .chan = chan,
                         .s = {.n = len},
                         .a = offset};
    chan->app.ended = fin;
    atomic_fetch_add(&chan->queued, len);
    ph_pipe_push_down(chan->pipe, &msg);
    return 0;
}

static void note_credit(struct ph_chan *chan)
{
    if (!ph_link_is_on(&chan->app.credit))
        ph_list_append(&chan->pipe->app.credit, &chan->app.credit);
}

void ph_chan_consume(ph_chan *chan, size_t bytes)
{
    chan->app.consumed += bytes;
    if (bytes == 0) /* the body is waited for: the client may want to hear 100 (RFC 9110 10.1.1) */
        chan->app.asked = true;
    note_credit(chan);
}

void ph_chan_consume_datagrams(ph_chan *chan, size_t count)
{
    chan->app.consumed_datagrams += count;
    if (count > 0)
        note_credit(chan);
}

int ph_chan_reset(ph_chan *chan, uint64_t code)
{
    bool is_stream = chan->kind == PH_CHAN_WT_STREAM;
    if (is_stream ? code > UINT32_MAX : code > PH_VARINT_MAX)
        return PH_E_INVAL;
    if (is_stream && !chan->is_local && !chan->is_bidi)
        return PH_E_STATE;
    if (chan->app.closed)
        return PH_E_CLOSED;
    chan->app.ended = true;
    if (!is_stream)
        chan->app.closing = true;
    send_simple(chan, PH_DOWN_RESET, code);
    return 0;
}

int ph_chan_stop_sending(ph_chan *chan, uint64_t code)
{
    bool is_stream = chan->kind == PH_CHAN_WT_STREAM;
    if (is_asking(chan) || (is_stream ? code > UINT32_MAX : code > PH_VARINT_MAX))
        return PH_E_INVAL;
    if (is_stream && chan->is_local && !chan->is_bidi)
        return PH_E_STATE;
    if (chan->app.closed)
        return PH_E_CLOSED;
    if (chan->app.stopped)
        return 0;
    chan->app.stopped = true;
    send_simple(chan, PH_DOWN_STOP, code);
    return 0;
}

int ph_chan_set_priority(ph_chan *chan, int urgency)
{
    if (chan->kind != PH_CHAN_WT_STREAM || urgency < 0 || urgency > 7)
        return PH_E_INVAL;
    if (chan->app.closed)
        return PH_E_CLOSED;
    send_simple(chan, PH_DOWN_PRIORITY, (uint64_t)urgency);
    return 0;
}

/* Arms `flag` unless `now` is already at most `low`. 1: there is room; 0: WRITABLE follows.
 * seq_cst: the I/O thread takes bytes away and then reads the flag. */
static int arm(atomic_uint *flag, const atomic_size_t *count, size_t low)
{
    atomic_store(flag, 1);
    if (atomic_load(count) > low)
        return 0;
    return atomic_exchange(flag, 0) != 0; /* 0: the I/O thread was first, its event is coming */
}

int ph_chan_wait_writable(ph_chan *chan)
{
    const struct ph_chan_limits *limits = &chan->pipe->limits;
    struct ph_chan *session = chan->kind == PH_CHAN_WT_SESSION ? chan : chan->parent;
    if (chan->app.closed)
        return 1;
    if (session != NULL && session->app.rejected)
        session = NULL; /* it is a plain response now */
    /* The stream's own mark, then the one that all streams of the session share. */
    if (session != chan && atomic_load(&chan->queued) >= chan->high &&
        arm(&chan->wait_write, &chan->queued, chan->low) == 0)
        return 0;
    if (session != NULL && !session->app.closed &&
        atomic_load(&session->queued) >= limits->session_high)
        return arm(&session->wait_write, &session->queued, limits->session_low);
    return 1;
}

/* May an accepted session or socket be used? */
static int check_accepted(const struct ph_chan *chan, ph_chan_kind kind)
{
    if (chan->kind != kind)
        return PH_E_INVAL;
    if (chan->app.closed)
        return PH_E_CLOSED;
    return chan->app.accepted ? 0 : PH_E_STATE;
}

/* --- WebSockets --- */

int ph_chan_send_message(ph_chan *socket, ph_buf *buf, bool text)
{
    int rc = check_accepted(socket, PH_CHAN_WEBSOCKET);
    if (rc == 0 && socket->app.closing)
        rc = PH_E_CLOSED;
    if (rc < 0) {
        ph_buf_unref(buf);
        return rc;
    }
    struct ph_msg msg = {.kind = PH_DOWN_MESSAGE, .flags = text ? PH_MSG_TEXT : 0, .chan = socket};
    if (buf != NULL)
        msg.s = ph_slice_of(buf);
    atomic_fetch_add(&socket->queued, msg.s.n);
    ph_pipe_push_down(socket->pipe, &msg);
    return 0;
}

void ph_chan_consume_messages(ph_chan *socket, size_t count)
{
    ph_chan_consume_datagrams(socket, count);
}

/* --- Sessions --- */

ph_chan *ph_chan_open_stream(ph_chan *session, bool bidirectional)
{
    if (check_accepted(session, PH_CHAN_WT_SESSION) < 0 || session->app.closing)
        return NULL;
    struct ph_chan *chan = ph_chan_new(session->pipe, PH_CHAN_WT_STREAM, session);
    chan->is_local = true;
    chan->is_bidi = bidirectional;
    know(chan);
    send_simple(chan, PH_DOWN_OPEN, 0);
    return chan;
}

int ph_chan_send_datagram(ph_chan *session, ph_buf *buf, uint32_t max_age_ms)
{
    int rc = check_accepted(session, PH_CHAN_WT_SESSION);
    if (rc == 0 && !ph_chan_request(session)->datagrams)
        rc = PH_E_STATE;
    if (rc == 0 && session->app.closing)
        rc = PH_E_CLOSED;
    if (rc == 0 && buf == NULL)
        rc = PH_E_INVAL;
    if (rc < 0) {
        ph_buf_unref(buf);
        return rc;
    }
    atomic_fetch_add(&session->datagrams_queued, 1);
    struct ph_msg msg = {
        .kind = PH_DOWN_DATAGRAM, .chan = session, .s = ph_slice_of(buf), .a = max_age_ms};
    ph_pipe_push_down(session->pipe, &msg);
    return 0;
}

int ph_chan_wait_datagram_room(ph_chan *session)
{
    uint32_t max = session->pipe->limits.datagrams_out;
    if (session->app.closed || atomic_load(&session->datagrams_queued) < max)
        return 1;
    return arm(&session->wait_datagram, &session->datagrams_queued, max / 2);
}

int ph_chan_close(ph_chan *session, uint32_t code, const char *reason, size_t reason_len)
{
    bool is_socket = session->kind == PH_CHAN_WEBSOCKET;
    int rc = check_accepted(session, is_socket ? PH_CHAN_WEBSOCKET : PH_CHAN_WT_SESSION);
    if (rc < 0 || session->app.closing)
        return rc == PH_E_CLOSED ? 0 : rc;
    if (!ph_utf8_is_valid((const uint8_t *)reason, reason_len) ||
        (is_socket && !ph_ws_code_is_valid(code)))
        return PH_E_INVAL;
    session->app.closing = true;
    struct ph_msg msg = {.kind = PH_DOWN_CLOSE, .chan = session, .a = code};
    if (reason_len > 0)
        msg.s = ph_slice_of(ph_buf_copy(reason, reason_len));
    ph_pipe_push_down(session->pipe, &msg);
    return 0;
}

int ph_chan_drain(ph_chan *session)
{
    int rc = check_accepted(session, PH_CHAN_WT_SESSION);
    if (rc < 0 || session->app.closing)
        return rc;
    send_simple(session, PH_DOWN_DRAIN, 0);
    return 0;
}
