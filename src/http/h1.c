/*
 * h1.c - one HTTP/1.1 connection: reading requests, order, keep-alive, limits in time.
 *
 *      in queue --> head parser --> exchange --> sink        (h1_parse.c)
 *               --> body, chunked or by length --> sink      (h1_chunked.c)
 *      owner's answers --> out queue                         (h1_write.c)
 *
 * Sans-I/O: bytes and the time come in through feed, eof, sent and expire; only these call the
 * sink. What an answer causes (the next request may begin, the connection is over) takes effect in
 * them, and next() says "at once" while something is due.
 *
 * Invariants: at most pipelined_max + 1 exchanges are alive; at most body_window bytes of body are
 * with the owner unconsumed; after a fault nothing more is parsed; an answer to a fault is the last
 * one; a response that was cut never ends cleanly, and costs those before it nothing.
 */
#include "http_internal.h"

static struct ph_h1_conn *conn_of(struct ph_tcp_engine *engine)
{
    return PH_CONTAINER(engine, struct ph_h1_conn, engine);
}

static const struct ph_h1_conn *const_conn_of(const struct ph_tcp_engine *engine)
{
    return PH_CONTAINER((uintptr_t)engine, const struct ph_h1_conn, engine);
}

/* --- Exchanges --- */

struct ph_h1_exchange *ph_h1_current(const struct ph_h1_conn *conn)
{
    for (struct ph_link *link = conn->exchanges.next; link != &conn->exchanges; link = link->next) {
        struct ph_h1_exchange *ex = PH_CONTAINER(link, struct ph_h1_exchange, link);
        if (!ex->is_emitted)
            return ex;
    }
    return NULL;
}

static void exchange_free(struct ph_h1_exchange *ex)
{
    struct ph_h1_conn *conn = ex->conn;
    if (conn->body_ex == ex)
        conn->body_ex = NULL;
    if (conn->pending == ex)
        conn->pending = NULL;
    for (size_t i = 0; i < conn->piece_count; i++) { /* a 100 that is still on its way */
        struct ph_h1_piece *piece = &conn->pieces[(conn->piece_head + i) & (conn->piece_cap - 1)];
        if (piece->ex == ex)
            piece->ex = NULL;
    }
    ph_list_remove(&ex->link);
    conn->exchange_count--;
    ph_h1_exchange_drop_output(ex);
    ph_exchange_fini(&ex->base);
    ph_free(ex);
}

/* Tells the sink, if it was ever told of it, and frees. */
static void exchange_close(struct ph_h1_exchange *ex, bool clean)
{
    const struct ph_exchange_sink *sink = ex->base.sink;
    ex->base.is_aborted |= !clean;
    if (ex->is_dispatched)
        sink->on_closed(sink->self, &ex->base, clean, 0);
    exchange_free(ex);
}

/* --- The end of a connection --- */

static void conn_close(struct ph_h1_conn *conn)
{
    conn->is_closing = true;
    conn->reading = PH_H1_STOPPED;
}

/* The request is wrong or too slow: no more is read, and `status` is the last answer, after those
 * to the requests before it. */
static void conn_fault(struct ph_h1_conn *conn, const struct ph_h1_fault *fault, bool is_head)
{
    struct ph_h1_exchange *ex = conn->body_ex;
    bool in_body = conn->reading == PH_H1_BODY_LENGTH || conn->reading == PH_H1_BODY_CHUNKED;
    if (fault->status == 431 || fault->status == 414)
        ph_count(conn->stats, limit_head);
    else if (fault->status == 413)
        ph_count(conn->stats, limit_body);
    else if (fault->status != 408)
        ph_count(conn->stats, protocol_errors);
    conn->reading = PH_H1_STOPPED;
    if (in_body && ex == NULL) { /* it was answered already */
        conn_close(conn);
        return;
    }
    if (in_body && ex->is_begun) {
        ph_h1_cut(ex);
        return;
    }
    conn->fault = *fault;
    conn->fault_is_head = is_head;
    if (in_body)
        exchange_close(ex, false);
}

static void conn_fault_status(struct ph_h1_conn *conn, int status, const char *why)
{
    struct ph_h1_fault fault = {.status = status, .why = why};
    bool is_head = conn->body_ex != NULL && strcmp(conn->body_ex->base.head.method, "HEAD") == 0;
    conn_fault(conn, &fault, is_head);
}

/* Bytes of the body that is being read which are still to come; UINT64_MAX: not known. */
static uint64_t body_to_come(const struct ph_h1_conn *conn)
{
    switch (conn->reading) {
    case PH_H1_BODY_LENGTH:
        return conn->body_left;
    case PH_H1_BODY_CHUNKED:
        return UINT64_MAX;
    case PH_H1_HEAD:
    case PH_H1_UPGRADING:
    case PH_H1_TUNNEL:
    case PH_H1_STOPPED:
        break;
    }
    return 0;
}

/* HTTP/1.0 has but the end of the connection to say that a body without a length is whole. */
void ph_h1_cut(struct ph_h1_exchange *ex)
{
    struct ph_h1_conn *conn = ex->conn;
    if (conn->is_aborted)
        return;
    conn->is_aborted = true;
    conn->is_cut_framed =
        !ex->base.is_tunnel && (ex->base.head.version > 10 || ex->base.out_has_length);
}

void ph_h1_on_emitted(struct ph_h1_conn *conn, struct ph_h1_exchange *ex)
{
    if (ex->must_close) {
        conn_close(conn);
        return;
    }
    if (conn->body_ex != ex)
        return;
    /* Answered before its body was complete: a little more is read for nobody, so that the
     * connection can go on. */
    conn->body_ex = NULL;
    uint64_t left = body_to_come(conn);
    if (conn->discard_left == 0 || (left != UINT64_MAX && left > conn->discard_left))
        conn_close(conn);
}

/* --- Requests --- */

static bool asks_tunnel(const struct ph_h1_exchange *ex)
{
    return ex->base.head.protocol[0] != '\0';
}

void ph_h1_on_upgraded(struct ph_h1_conn *conn, bool granted)
{
    struct ph_h1_exchange *ex = conn->body_ex;
    if (conn->reading != PH_H1_UPGRADING)
        return;
    if (granted) {
        conn->reading = PH_H1_TUNNEL;
        return;
    }
    conn->body_ex = NULL;
    ex->base.in = PH_EX_DONE;
    conn->reading = ex->wants_close ? PH_H1_STOPPED : PH_H1_HEAD;
}

static bool is_safe(const struct ph_h1_exchange *ex)
{
    const char *method = ex->base.head.method;
    return !ex->has_body && !asks_tunnel(ex) &&
           (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ||
            strcmp(method, "OPTIONS") == 0);
}

/* RFC 9112 9.3.2: only safe requests are worked on side by side. */
static bool may_dispatch(const struct ph_h1_conn *conn, const struct ph_h1_exchange *ex)
{
    for (struct ph_link *link = conn->exchanges.next; link != &conn->exchanges; link = link->next) {
        const struct ph_h1_exchange *other = PH_CONTAINER(link, struct ph_h1_exchange, link);
        if (other != ex && !other->is_emitted && !(is_safe(other) && is_safe(ex)))
            return false;
    }
    return true;
}

static void body_end(struct ph_h1_conn *conn)
{
    struct ph_h1_exchange *ex = conn->body_ex;
    if (conn->is_aborted || conn->is_closing)
        return;
    conn->reading = PH_H1_HEAD;
    conn->body_ex = NULL;
    if (ex == NULL)
        return;
    if (ex->wants_close)
        conn->reading = PH_H1_STOPPED; /* nothing may follow it, RFC 9112 9.6 */
    /* Cannot fall short: a length was counted down to here, and a chunked body has none. */
    PH_ASSERT(ph_exchange_on_end(&ex->base) == 0);
}

static void dispatch(struct ph_h1_conn *conn, struct ph_h1_exchange *ex)
{
    const struct ph_exchange_sink *sink = ex->base.sink;
    conn->pending = NULL;
    ex->is_dispatched = true;
    if (asks_tunnel(ex)) {
        conn->reading = PH_H1_UPGRADING;
        conn->body_ex = ex;
        sink->on_request(sink->self, &ex->base);
        return;
    }
    if (ex->has_body) {
        conn->reading = ex->base.head.has_length ? PH_H1_BODY_LENGTH : PH_H1_BODY_CHUNKED;
        conn->body_left = ex->base.head.length;
        conn->body_ex = ex;
        conn->is_body_begun = false;
        conn->discard_left = PH_H1_DRAIN_MAX;
        ph_h1_chunked_fini(&conn->chunked);
        ph_h1_chunked_init(&conn->chunked, conn->config);
        sink->on_request(sink->self, &ex->base);
        return;
    }
    if (ex->wants_close)
        conn->reading = PH_H1_STOPPED;
    sink->on_request(sink->self, &ex->base);
    if (!conn->is_aborted && !ex->is_cut)
        PH_ASSERT(ph_exchange_on_end(&ex->base) == 0);
}

/* A complete head. */
static void on_head(struct ph_h1_conn *conn)
{
    struct ph_h1_parser *parser = &conn->parser;
    const struct ph_h1_config *config = conn->config;
    bool has_body = parser->is_chunked || (parser->head.has_length && parser->head.length > 0);
    if (config->max_body != 0 && parser->head.length > config->max_body) {
        struct ph_h1_fault fault = {.status = 413, .why = "the body is too large"};
        conn_fault(conn, &fault, strcmp(parser->head.method, "HEAD") == 0);
        return;
    }
    conn->requests++;
    struct ph_h1_exchange *ex = ph_alloc(sizeof(*ex));
    ph_exchange_init(&ex->base, &ph_h1_ops, conn->sink);
    ex->base.head = parser->head;
    ex->base.path = conn->path;
    ex->base.tls = conn->tls;
    ex->conn = conn;
    ex->has_body = has_body;
    ex->wants_continue = parser->wants_continue && has_body;
    ex->wants_close = parser->wants_close;
    ex->wants_keep_alive = parser->wants_keep_alive;
    ex->must_close =
        config->keep_alive_requests != 0 && conn->requests >= config->keep_alive_requests;
    parser->head = (struct ph_head){.version = 0}; /* moved into the exchange */
    ph_h1_parser_reset(parser);
    ph_list_append(&conn->exchanges, &ex->link);
    ex->base.siblings = ++conn->exchange_count;
    if (may_dispatch(conn, ex))
        dispatch(conn, ex);
    else
        conn->pending = ex;
}

/* --- Reading --- */

/* Gives payload to whom it is for. */
static void on_payload(struct ph_h1_conn *conn, const uint8_t *data, size_t n)
{
    struct ph_h1_exchange *ex = conn->body_ex;
    conn->is_body_begun = true;
    if (ex == NULL || ex->is_stopped) { /* for nobody: PH_H1_DRAIN_MAX at most */
        conn->discard_left -= PH_MIN(conn->discard_left, (uint64_t)n);
        if (ex != NULL) {
            ex->base.in = PH_EX_BODY;
            ex->base.in_bytes += n;
        } else if (conn->discard_left == 0 && conn->reading == PH_H1_BODY_CHUNKED) {
            conn_close(conn);
        }
        return;
    }
    ex->wants_continue = false;
    ex->unconsumed += n;
    PH_ASSERT(ph_exchange_on_body(&ex->base, data, n) == 0);
}

/* Bytes of payload that may be taken now. */
static size_t body_room(const struct ph_h1_conn *conn)
{
    if (conn->body_ex == NULL || conn->body_ex->is_stopped)
        return (size_t)conn->discard_left;
    size_t window = conn->config->body_window, held = conn->body_ex->unconsumed;
    return held < window ? window - held : 0;
}

static void read_by_length(struct ph_h1_conn *conn, const uint8_t **p, const uint8_t *end)
{
    size_t n = PH_MIN((size_t)(end - *p), body_room(conn));
    n = conn->body_left < n ? (size_t)conn->body_left : n;
    const uint8_t *data = *p;
    *p += n;
    conn->body_left -= n;
    on_payload(conn, data, n);
    if (conn->reading == PH_H1_BODY_LENGTH && conn->body_left == 0)
        body_end(conn);
}

static void read_chunked(struct ph_h1_conn *conn, const uint8_t **p, const uint8_t *end)
{
    struct ph_h1_chunked *chunked = &conn->chunked;
    const uint8_t *data;
    size_t n;
    int rv = ph_h1_chunked_next(chunked, p, end, body_room(conn), &data, &n);
    if (rv < 0) {
        bool is_head =
            conn->body_ex != NULL && strcmp(conn->body_ex->base.head.method, "HEAD") == 0;
        conn_fault(conn, &chunked->fault, is_head);
    } else if (rv == PH_CHUNKED_DATA) {
        uint64_t max = conn->config->max_body;
        /* What fits is given on, as if the rest had come later. */
        size_t over = max != 0 && chunked->payload > max ? (size_t)(chunked->payload - max) : 0;
        if (n > over)
            on_payload(conn, data, n - over);
        if (over > 0 && !conn->is_aborted && !conn->is_closing)
            conn_fault_status(conn, 413, "the body is too large");
    } else if (rv == PH_CHUNKED_END) {
        struct ph_h1_exchange *ex = conn->body_ex;
        if (ex != NULL && !ex->is_stopped && chunked->trailers.count > 0)
            ex->base.sink->on_trailers(ex->base.sink->self, &ex->base, &chunked->trailers);
        if (conn->reading == PH_H1_BODY_CHUNKED)
            body_end(conn);
    }
}

static void read_tunnel(struct ph_h1_conn *conn, const uint8_t **p, const uint8_t *end)
{
    size_t n = PH_MIN((size_t)(end - *p), body_room(conn));
    const uint8_t *data = *p;
    *p += n;
    on_payload(conn, data, n);
}

static void read_head(struct ph_h1_conn *conn, const uint8_t **p, const uint8_t *end)
{
    int rv = ph_h1_parser_feed(&conn->parser, p, end);
    if (rv < 0)
        conn_fault(conn, &conn->parser.fault, false);
    else if (rv > 0)
        on_head(conn);
}

static bool wants_input(const struct ph_h1_conn *conn)
{
    if (conn->is_aborted || conn->is_closing || conn->pending != NULL)
        return false;
    switch (conn->reading) {
    case PH_H1_HEAD:
        if (conn->parser.state != PH_H1_AT_START)
            return true; /* a head that has begun is read to its end, or to its limits */
        return conn->is_draining ? ph_h1_current(conn) == NULL
                                 : conn->exchange_count <= conn->config->pipelined_max;
    case PH_H1_BODY_LENGTH:
    case PH_H1_BODY_CHUNKED:
    case PH_H1_TUNNEL:
        return body_room(conn) > 0;
    case PH_H1_UPGRADING: /* what comes waits; but a client that leaves is to be noticed */
        return true;
    case PH_H1_STOPPED:
        break;
    }
    return false;
}

static bool can_read(const struct ph_h1_conn *conn)
{
    return conn->reading != PH_H1_UPGRADING && wants_input(conn);
}

/* Eats one run of bytes; stops early when no more is wanted. */
static size_t read_run(struct ph_h1_conn *conn, const uint8_t *data, size_t n)
{
    const uint8_t *p = data, *end = data + n;
    while (p < end && can_read(conn)) {
        switch (conn->reading) {
        case PH_H1_HEAD:
            read_head(conn, &p, end);
            break;
        case PH_H1_BODY_LENGTH:
            read_by_length(conn, &p, end);
            break;
        case PH_H1_BODY_CHUNKED:
            read_chunked(conn, &p, end);
            break;
        case PH_H1_TUNNEL:
            read_tunnel(conn, &p, end);
            break;
        case PH_H1_UPGRADING:
        case PH_H1_STOPPED:
            break;
        }
    }
    return (size_t)(p - data);
}

/* --- What is due --- */

static struct ph_h1_piece *piece_front(const struct ph_h1_conn *conn)
{
    return conn->piece_count > 0 ? &conn->pieces[conn->piece_head & (conn->piece_cap - 1)] : NULL;
}

static void piece_pop(struct ph_h1_conn *conn)
{
    struct ph_h1_piece piece = *piece_front(conn);
    conn->piece_head = (conn->piece_head + 1) & (conn->piece_cap - 1);
    conn->piece_count--;
    if (piece.is_last)
        exchange_close(piece.ex, true);
}

static bool is_held_head(const struct ph_h1_conn *conn)
{
    for (struct ph_link *link = conn->exchanges.next; link != &conn->exchanges; link = link->next) {
        if (PH_CONTAINER(link, struct ph_h1_exchange, link)->head != NULL)
            return true;
    }
    return false;
}

static bool is_fault_due(const struct ph_h1_conn *conn)
{
    return conn->fault.status != 0 && !conn->is_closing && !conn->is_aborted &&
           ph_h1_current(conn) == NULL;
}

/* Draining, and nothing is under way: no exchange to answer, no head half-read. */
static bool is_quiet(const struct ph_h1_conn *conn)
{
    return conn->is_draining && !conn->is_closing && !conn->is_aborted && conn->fault.status == 0 &&
           ph_h1_current(conn) == NULL &&
           (conn->reading != PH_H1_HEAD || conn->parser.state == PH_H1_AT_START);
}

static uint64_t wait_key(const struct ph_h1_conn *conn);

/* And nothing is likely to be on its way either. */
static bool is_drained(const struct ph_h1_conn *conn)
{
    if (!is_quiet(conn) || !wants_input(conn))
        return is_quiet(conn);
    return wait_key(conn) == conn->wait_key && conn->now >= conn->wait_since + PH_H1_DRAIN_IDLE;
}

static bool is_work_due(const struct ph_h1_conn *conn)
{
    const struct ph_h1_piece *front = piece_front(conn);
    return (front != NULL && front->n == 0) || is_held_head(conn) || is_fault_due(conn) ||
           is_drained(conn) ||
           (conn->pending != NULL && !conn->is_aborted && !conn->is_closing &&
            may_dispatch(conn, conn->pending));
}

static void conn_work(struct ph_h1_conn *conn)
{
    while (piece_front(conn) != NULL && piece_front(conn)->n == 0)
        piece_pop(conn);
    if (conn->pending != NULL && !conn->is_aborted && !conn->is_closing &&
        may_dispatch(conn, conn->pending))
        dispatch(conn, conn->pending);
    if (is_fault_due(conn)) {
        ph_h1_write_fault(conn);
        conn_close(conn);
    }
    if (is_drained(conn))
        conn_close(conn);
}

/* --- Time --- */

enum wait { WAIT_NONE, WAIT_IDLE, WAIT_HEAD, WAIT_BODY };

static enum wait wait_kind(const struct ph_h1_conn *conn)
{
    if (conn->is_aborted || conn->is_closing || !wants_input(conn))
        return WAIT_NONE;
    if (conn->reading == PH_H1_UPGRADING || conn->reading == PH_H1_TUNNEL)
        return WAIT_NONE; /* the time of a tunnel is its owner's */
    if (conn->reading != PH_H1_HEAD) {
        const struct ph_h1_exchange *ex = conn->body_ex;
        /* It is the application's turn: the client may wait for what that makes of the bytes. */
        if (ex != NULL && !ex->is_stopped && ex->unconsumed > 0)
            return WAIT_NONE;
        /* The client may wait for a 100 as long as the application does not ask for the body. */
        return ex != NULL && ex->wants_continue && !conn->is_body_begun ? WAIT_NONE : WAIT_BODY;
    }
    if (conn->parser.state != PH_H1_AT_START || conn->requests == 0)
        return WAIT_HEAD;
    return conn->exchange_count == 0 ? WAIT_IDLE : WAIT_NONE;
}

/* What is waited for; a change of it starts the clock anew, and so does the next request. */
static uint64_t wait_key(const struct ph_h1_conn *conn)
{
    return conn->requests << 2 | (uint64_t)wait_kind(conn);
}

static uint64_t wait_timeout(const struct ph_h1_conn *conn)
{
    switch (wait_kind(conn)) {
    case WAIT_NONE:
        return 0;
    case WAIT_IDLE:
        return conn->config->keep_alive_timeout;
    case WAIT_HEAD:
        return conn->config->header_timeout;
    case WAIT_BODY:
        return conn->config->body_timeout;
    }
    return 0;
}

static void conn_arm(struct ph_h1_conn *conn)
{
    uint64_t key = wait_key(conn);
    if (key != conn->wait_key) {
        conn->wait_key = key;
        conn->wait_since = conn->now;
    }
}

static uint64_t engine_next(const struct ph_tcp_engine *engine)
{
    const struct ph_h1_conn *conn = const_conn_of(engine);
    if (conn->is_aborted)
        return PH_NEVER;
    if (is_work_due(conn) || wait_key(conn) != conn->wait_key)
        return conn->now;
    uint64_t timeout = wait_timeout(conn);
    uint64_t wait = timeout == 0 ? PH_NEVER : conn->wait_since + timeout;
    if (is_quiet(conn))
        wait = PH_MIN(wait, conn->wait_since + PH_H1_DRAIN_IDLE);
    return wait;
}

static void on_timeout(struct ph_h1_conn *conn)
{
    switch (wait_kind(conn)) {
    case WAIT_NONE:
        break;
    case WAIT_IDLE:
        ph_count(conn->stats, timeouts_idle);
        conn_close(conn);
        break;
    case WAIT_HEAD:
        ph_count(conn->stats, timeouts_header);
        if (conn->parser.state == PH_H1_AT_START)
            conn_close(conn); /* not a byte: nothing to answer to */
        else
            conn_fault_status(conn, 408, "the header section took too long");
        break;
    case WAIT_BODY:
        ph_count(conn->stats, timeouts_body);
        conn_fault_status(conn, 408, "the body took too long");
        break;
    }
}

static void engine_expire(struct ph_tcp_engine *engine, uint64_t now)
{
    struct ph_h1_conn *conn = conn_of(engine);
    conn->now = now;
    ph_h1_write_flush(conn);
    conn_work(conn);
    conn_arm(conn);
    if (conn->is_aborted)
        return;
    uint64_t timeout = wait_timeout(conn);
    if (timeout != 0 && now - conn->wait_since >= timeout) {
        on_timeout(conn);
        conn_work(conn);
        conn_arm(conn);
    }
}

/* --- The owner's calls --- */

static void engine_feed(struct ph_tcp_engine *engine, struct ph_sliceq *in, uint64_t now)
{
    struct ph_h1_conn *conn = conn_of(engine);
    struct iovec iov;
    conn->now = now;
    conn_work(conn);
    while (can_read(conn) && ph_sliceq_gather(in, &iov, 1, SIZE_MAX) == 1) {
        bool in_body = conn->reading != PH_H1_HEAD;
        size_t n = read_run(conn, iov.iov_base, iov.iov_len);
        ph_sliceq_advance(in, n);
        ph_sliceq_drop(in, n);
        if (in_body && n > 0)
            conn->wait_since = now; /* a body may be slow, but not silent */
        conn_work(conn);
    }
    conn_arm(conn);
}

static void engine_flush(struct ph_tcp_engine *engine)
{
    ph_h1_write_flush(conn_of(engine));
}

/* The latest request is whole and said that it is the last one: its client may wait for answers
 * with its sending side shut down. */
static bool has_said_all(const struct ph_h1_conn *conn)
{
    if (ph_list_is_empty(&conn->exchanges))
        return false;
    const struct ph_h1_exchange *last =
        PH_CONTAINER(conn->exchanges.prev, struct ph_h1_exchange, link);
    bool is_whole = !(conn->pending == last && last->has_body);
    return is_whole && (last->wants_close || last->base.head.version == 10);
}

static void engine_eof(struct ph_tcp_engine *engine, uint64_t now)
{
    struct ph_h1_conn *conn = conn_of(engine);
    conn->now = now;
    ph_h1_write_flush(conn);
    conn_work(conn);
    bool in_body = conn->reading == PH_H1_BODY_LENGTH || conn->reading == PH_H1_BODY_CHUNKED;
    if (conn->reading == PH_H1_TUNNEL && !conn->is_aborted) {
        conn->reading = PH_H1_STOPPED;
        PH_ASSERT(ph_exchange_on_end(&conn->body_ex->base) == 0);
    } else if (in_body && conn->body_ex != NULL) {
        conn->is_aborted = true;
    } else if (ph_h1_current(conn) == NULL) {
        conn_close(conn);
    } else if (has_said_all(conn)) {
        conn->reading = PH_H1_STOPPED;
        PH_CONTAINER(conn->exchanges.prev, struct ph_h1_exchange, link)->must_close = true;
    } else {
        conn->is_aborted = true;
    }
    conn_arm(conn);
}

static void engine_sent(struct ph_tcp_engine *engine, size_t n, uint64_t now)
{
    struct ph_h1_conn *conn = conn_of(engine);
    conn->now = now;
    PH_ASSERT(n <= conn->unsent);
    conn->unsent -= n;
    while (n > 0) {
        struct ph_h1_piece *piece = piece_front(conn);
        size_t part = PH_MIN(n, piece->n);
        piece->n -= part;
        n -= part;
        if (piece->is_body && piece->ex != NULL) {
            struct ph_exchange *base = &piece->ex->base;
            base->sink->on_acked(base->sink->self, base, part);
        }
        piece = piece_front(conn); /* the ring may have moved */
        if (piece->n == 0)
            piece_pop(conn);
    }
    conn_work(conn);
    conn_arm(conn);
}

static bool engine_wants_input(const struct ph_tcp_engine *engine)
{
    return wants_input(const_conn_of(engine));
}

static bool engine_is_done(const struct ph_tcp_engine *engine, bool *abort)
{
    const struct ph_h1_conn *conn = const_conn_of(engine);
    *abort = conn->is_aborted;
    return conn->is_aborted || conn->is_closing;
}

static bool engine_is_cut_framed(const struct ph_tcp_engine *engine)
{
    return const_conn_of(engine)->is_cut_framed;
}

static void engine_drain(struct ph_tcp_engine *engine)
{
    struct ph_h1_conn *conn = conn_of(engine);
    conn->is_draining = true;
    if (is_drained(conn))
        conn_close(conn);
}

static void engine_free(struct ph_tcp_engine *engine)
{
    struct ph_h1_conn *conn = conn_of(engine);
    conn->is_aborted = true; /* what the sink does from here on goes nowhere */
    for (struct ph_link *link; (link = ph_list_take(&conn->exchanges)) != NULL;)
        exchange_close(PH_CONTAINER(link, struct ph_h1_exchange, link), false);
    ph_h1_parser_fini(&conn->parser);
    ph_h1_chunked_fini(&conn->chunked);
    ph_free(conn->pieces);
    ph_live_add(PH_LIVE_H1_CONN, -1);
    ph_free(conn);
}

static const struct ph_tcp_engine_ops engine_ops = {
    .free = engine_free,
    .flush = engine_flush,
    .feed = engine_feed,
    .eof = engine_eof,
    .sent = engine_sent,
    .expire = engine_expire,
    .next = engine_next,
    .wants_input = engine_wants_input,
    .is_done = engine_is_done,
    .is_cut_framed = engine_is_cut_framed,
    .drain = engine_drain,
};

/* --- Beginning --- */

void ph_h1_config_default(struct ph_h1_config *config)
{
    *config = (struct ph_h1_config){
        .limits = {.head_bytes = 65536, .head_fields = 100, .target_bytes = 8192},
        .max_body = 16 * 1024 * 1024,
        .header_timeout = 10 * PH_SEC,
        .body_timeout = 30 * PH_SEC,
        .keep_alive_timeout = 15 * PH_SEC,
        .keep_alive_requests = 10000,
        .pipelined_max = 16,
        .body_window = 256 * 1024,
        .chunk_overhead = 100 * 1024,
        .chunk_extension = 256,
    };
}

struct ph_tcp_engine *ph_h1_conn_new(const struct ph_h1_config *config,
                                     const struct ph_exchange_sink *sink,
                                     const struct ph_path *path, const struct ph_tls_info *tls,
                                     struct ph_sliceq *out, struct ph_stats *stats, uint64_t now)
{
    struct ph_h1_conn *conn = ph_alloc(sizeof(*conn));
    ph_live_add(PH_LIVE_H1_CONN, 1);
    conn->engine.ops = &engine_ops;
    conn->config = config;
    conn->sink = sink;
    conn->stats = stats;
    conn->out = out;
    conn->path = *path;
    conn->tls = tls;
    conn->now = conn->wait_since = now;
    ph_h1_parser_init(&conn->parser, &config->limits, tls != NULL);
    conn->parser.websocket = config->websocket;
    ph_h1_chunked_init(&conn->chunked, config);
    ph_list_init(&conn->exchanges);
    conn_arm(conn);
    return &conn->engine;
}
