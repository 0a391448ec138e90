/*
 * h1_write.c - HTTP/1.1 responses: heads, framing, order, and the account of what has left.
 *
 *      ops of an exchange --> its turn?  --yes--> out queue + piece (ring)
 *                                        --no---> held by the exchange until it is current
 *
 * Framing (RFC 9112 6.3): the length that the application declared; none on HEAD, 204, 304; a
 * length of our own when the body came with one write; otherwise chunked on HTTP/1.1, and up to the
 * end of the connection on HTTP/1.0. To see whether one write is all, a head without a length is
 * held back until the next write or the flush at the end of the turn.
 *
 * Invariant: the sum of the pieces is what was put into `out` and was not yet reported as sent.
 * Nothing here calls the sink.
 */
#include "http_internal.h"

/* --- Status lines --- */

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {102, "Processing"},
        {103, "Early Hints"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {203, "Non-Authoritative Information"},
        {204, "No Content"},
        {205, "Reset Content"},
        {206, "Partial Content"},
        {207, "Multi-Status"},
        {208, "Already Reported"},
        {226, "IM Used"},
        {300, "Multiple Choices"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {305, "Use Proxy"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {407, "Proxy Authentication Required"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {418, "I'm a teapot"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {423, "Locked"},
        {424, "Failed Dependency"},
        {425, "Too Early"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {451, "Unavailable For Legal Reasons"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {506, "Variant Also Negotiates"},
        {507, "Insufficient Storage"},
        {508, "Loop Detected"},
        {510, "Not Extended"},
        {511, "Network Authentication Required"},
    };
    for (size_t i = 0; i < PH_COUNT_OF(reasons); i++) {
        if (reasons[i].status == status)
            return reasons[i].reason;
    }
    return "Unknown";
}

/* --- Pieces --- */

static void piece_push(struct ph_h1_conn *conn, struct ph_h1_exchange *ex, size_t n, bool is_body)
{
    conn->unsent += n;
    if (conn->piece_count > 0) {
        size_t at = (conn->piece_head + conn->piece_count - 1) & (conn->piece_cap - 1);
        struct ph_h1_piece *tail = &conn->pieces[at];
        if (tail->ex == ex && tail->is_body == is_body && !tail->is_last) {
            tail->n += n;
            return;
        }
    }
    if (conn->piece_count == conn->piece_cap) {
        size_t cap = PH_MAX(conn->piece_cap * 2, (size_t)8);
        conn->pieces = ph_queue_grow(conn->pieces, sizeof(*conn->pieces), conn->piece_cap,
                                     conn->piece_head, cap);
        conn->piece_cap = cap;
        conn->piece_head = 0;
    }
    size_t at = (conn->piece_head + conn->piece_count++) & (conn->piece_cap - 1);
    conn->pieces[at] = (struct ph_h1_piece){.ex = ex, .n = n, .is_body = is_body};
}

/* Marks where the exchange is over; with all of it gone already, by an empty piece. */
static void piece_end(struct ph_h1_conn *conn, struct ph_h1_exchange *ex)
{
    size_t at = (conn->piece_head + conn->piece_count - 1) & (conn->piece_cap - 1);
    if (conn->piece_count == 0 || conn->pieces[at].ex != ex) {
        piece_push(conn, ex, 0, false);
        at = (conn->piece_head + conn->piece_count - 1) & (conn->piece_cap - 1);
    }
    conn->pieces[at].is_last = true;
}

/* --- Output in order --- */

/* Takes the reference. */
static void wire(struct ph_h1_conn *conn, struct ph_h1_exchange *ex, struct ph_slice slice,
                 bool is_body)
{
    if (slice.n == 0 || conn->is_aborted || conn->is_closing) {
        ph_buf_unref(slice.buf);
        return;
    }
    piece_push(conn, ex, slice.n, is_body);
    ph_sliceq_push(conn->out, slice);
}

/* Takes the reference. */
static void emit(struct ph_h1_exchange *ex, struct ph_slice slice, bool is_body)
{
    if (ph_h1_current(ex->conn) == ex) {
        wire(ex->conn, ex, slice, is_body);
        return;
    }
    if (slice.n == 0) {
        ph_buf_unref(slice.buf);
        return;
    }
    if (ex->held_len == ex->held_cap) {
        ex->held_cap = PH_MAX(ex->held_cap * 2, (size_t)4);
        ex->held = ph_realloc(ex->held, ex->held_cap * sizeof(*ex->held));
    }
    ex->held[ex->held_len++] = (struct ph_h1_held){.slice = slice, .is_body = is_body};
}

static void emit_text(struct ph_h1_exchange *ex, const char *text)
{
    emit(ex, (struct ph_slice){.p = (const uint8_t *)text, .n = strlen(text)}, false);
}

void ph_h1_exchange_drop_output(struct ph_h1_exchange *ex)
{
    ph_buf_unref(ex->head);
    ex->head = NULL;
    for (size_t i = 0; i < ex->held_len; i++)
        ph_buf_unref(ex->held[i].slice.buf);
    ph_free(ex->held);
    ex->held = NULL;
    ex->held_len = ex->held_cap = 0;
}

/* The response is whole. When it was this one's turn, those behind it may follow. */
static void finish(struct ph_h1_exchange *ex)
{
    struct ph_h1_conn *conn = ex->conn;
    bool is_current = ph_h1_current(conn) == ex;
    ex->is_emitted = true;
    while (is_current && !conn->is_aborted && !conn->is_closing) {
        piece_end(conn, ex);
        ph_h1_on_emitted(conn, ex);
        /* The next one that is not whole is the current one now; whole ones are on the way to it.
         */
        struct ph_link *next = ex->link.next;
        if (conn->is_closing || next == &conn->exchanges)
            break;
        ex = PH_CONTAINER(next, struct ph_h1_exchange, link);
        for (size_t i = 0; i < ex->held_len; i++)
            wire(conn, ex, ex->held[i].slice, ex->held[i].is_body);
        ex->held_len = 0;
        if (ex->is_cut)
            ph_h1_cut(ex);
        is_current = ex->is_emitted;
    }
}

/* --- Heads --- */

static uint8_t *put(uint8_t *p, const void *data, size_t n)
{
    if (n > 0)
        memcpy(p, data, n);
    return p + n;
}

/* Room for content-length or transfer-encoding, connection, upgrade and the empty line. */
#define FRAMING_ROOM 128

static size_t fields_size(const struct ph_field *fields, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += fields[i].name_len + fields[i].value_len + 4;
    return size;
}

static uint8_t *put_fields(uint8_t *p, const struct ph_field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p = put(p, fields[i].name, fields[i].name_len);
        p = put(p, ": ", 2);
        p = put(p, fields[i].value, fields[i].value_len);
        p = put(p, "\r\n", 2);
    }
    return p;
}

/* Status line and fields, with room for the framing. */
static struct ph_buf *head_make(int status, const struct ph_field *fields, size_t n)
{
    const char *reason = reason_of(status);
    size_t size = sizeof("HTTP/1.1 200 ") + strlen(reason) + 2 + FRAMING_ROOM;
    struct ph_buf *buf = ph_buf_new(size + fields_size(fields, n));
    uint8_t *p = buf->data;
    const uint8_t digits[] = {(uint8_t)('0' + status / 100), (uint8_t)('0' + status / 10 % 10),
                              (uint8_t)('0' + status % 10), ' '};
    p = put(p, "HTTP/1.1 ", 9);
    p = put(p, digits, sizeof(digits));
    p = put(p, reason, strlen(reason));
    p = put(p, "\r\n", 2);
    p = put_fields(p, fields, n);
    ph_buf_set_len(buf, (size_t)(p - buf->data));
    return buf;
}

static void head_append(struct ph_buf *buf, const char *text)
{
    size_t n = strlen(text);
    PH_ASSERT(buf->cap - buf->len >= n);
    memcpy(buf->data + buf->len, text, n);
    buf->len += n;
}

/* true when the connection cannot or shall not serve another request after this response. */
static bool is_last_response(const struct ph_h1_exchange *ex)
{
    const struct ph_h1_conn *conn = ex->conn;
    bool body_to_come = conn->body_ex == ex && !conn->is_body_begun;
    return ex->must_close || ex->wants_close || ex->base.out_close || conn->is_draining ||
           (ex->base.head.version == 10 && !ex->wants_keep_alive) ||
           /* The client waits for a 100 that will not come: nobody can tell what it sends next. */
           (ex->wants_continue && body_to_come);
}

enum framing { DECLARED, LENGTH, CHUNKED, TO_THE_END };

/* Emits the head that was held back. */
static void head_finish(struct ph_h1_exchange *ex, enum framing framing, size_t length)
{
    struct ph_buf *head = ex->head;
    char line[64];
    ex->head = NULL;
    if (framing == CHUNKED && ex->base.head.version == 10)
        framing = TO_THE_END;
    if (framing == TO_THE_END)
        ex->must_close = true;
    if (framing == LENGTH) {
        snprintf(line, sizeof(line), "content-length: %zu\r\n", length);
        head_append(head, line);
    } else if (framing == CHUNKED) {
        ex->is_out_chunked = true;
        head_append(head, "transfer-encoding: chunked\r\n");
    }
    ex->must_close = is_last_response(ex);
    if (ex->must_close)
        head_append(head, "connection: close\r\n");
    else if (ex->base.head.version == 10)
        head_append(head, "connection: keep-alive\r\n");
    head_append(head, "\r\n");
    emit(ex, ph_slice_of(head), false);
}

void ph_h1_write_flush(struct ph_h1_conn *conn)
{
    for (struct ph_link *link = conn->exchanges.next; link != &conn->exchanges; link = link->next) {
        struct ph_h1_exchange *ex = PH_CONTAINER(link, struct ph_h1_exchange, link);
        if (ex->head != NULL)
            head_finish(ex, CHUNKED, 0);
    }
}

/* --- What the owner says --- */

static struct ph_h1_exchange *of(struct ph_exchange *base)
{
    return PH_CONTAINER(base, struct ph_h1_exchange, base);
}

static void on_respond(struct ph_exchange *base, int status, const struct ph_field *fields,
                       size_t n, bool fin)
{
    struct ph_h1_exchange *ex = of(base);
    ex->head = head_make(status, fields, n);
    if (status < 200) {
        ex->wants_continue = ex->wants_continue && status != 100;
        struct ph_buf *head = ex->head;
        ex->head = NULL;
        head_append(head, "\r\n");
        emit(ex, ph_slice_of(head), false);
        return;
    }
    ex->is_begun = true;
    if (ex->conn->body_ex == ex)
        ph_h1_on_upgraded(ex->conn, false);
    if (status == 426 && ex->conn->config->websocket) /* RFC 9110 15.5.22: to what */
        head_append(ex->head, "upgrade: websocket\r\nconnection: upgrade\r\n");
    if (base->out_is_bodiless || base->out_has_length)
        head_finish(ex, DECLARED, 0);
    else if (fin)
        head_finish(ex, LENGTH, 0);
    if (fin)
        finish(ex);
}

/* RFC 9110 15.2.2. Nothing follows on this connection but the tunnel. */
static void on_upgrade(struct ph_exchange *base, const struct ph_field *fields, size_t n)
{
    struct ph_h1_exchange *ex = of(base);
    struct ph_buf *head = head_make(101, fields, n);
    head_append(head, "connection: upgrade\r\nupgrade: ");
    head_append(head, base->head.protocol);
    head_append(head, "\r\n\r\n");
    ex->is_begun = ex->must_close = true;
    ph_h1_on_upgraded(ex->conn, true);
    emit(ex, ph_slice_of(head), false);
}

static void on_write(struct ph_exchange *base, struct ph_slice slice, bool fin)
{
    struct ph_h1_exchange *ex = of(base);
    if (ex->head != NULL)
        head_finish(ex, fin ? LENGTH : CHUNKED, slice.n);
    if (slice.n > 0 && ex->is_out_chunked) {
        char text[24];
        int n = snprintf(text, sizeof(text), "%zx\r\n", slice.n);
        emit(ex, ph_slice_of(ph_buf_copy(text, (size_t)n)), false);
        emit(ex, slice, true);
        emit_text(ex, fin ? "\r\n0\r\n\r\n" : "\r\n");
    } else {
        emit(ex, slice, true);
        if (fin && ex->is_out_chunked)
            emit_text(ex, "0\r\n\r\n");
    }
    if (fin)
        finish(ex);
}

static void on_trailers(struct ph_exchange *base, const struct ph_field *fields, size_t n)
{
    struct ph_h1_exchange *ex = of(base);
    if (ex->head != NULL)
        head_finish(ex, CHUNKED, 0);
    if (ex->is_out_chunked) { /* RFC 9112 7.1.2; a declared length leaves no place for them */
        struct ph_buf *buf = ph_buf_new(sizeof("0\r\n\r\n") + fields_size(fields, n));
        uint8_t *p = put_fields(put(buf->data, "0\r\n", 3), fields, n);
        p = put(p, "\r\n", 2);
        ph_buf_set_len(buf, (size_t)(p - buf->data));
        emit(ex, ph_slice_of(buf), false);
    }
    finish(ex);
}

static void on_consume(struct ph_exchange *base, size_t n)
{
    struct ph_h1_exchange *ex = of(base);
    struct ph_h1_conn *conn = ex->conn;
    if (n == 0 && ex->wants_continue && !ex->is_begun && conn->body_ex == ex &&
        !conn->is_body_begun) {
        ex->wants_continue = false;
        emit_text(ex, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    ex->unconsumed -= PH_MIN(n, ex->unconsumed);
}

static void on_reset(struct ph_exchange *base, uint64_t code)
{
    (void)code; /* HTTP/1.1 has no way to say it */
    struct ph_h1_exchange *ex = of(base);
    if (ex->is_emitted)
        return;
    if (ex->head != NULL) /* what was said before the cut may still be shown */
        head_finish(ex, CHUNKED, 0);
    ex->is_cut = true;
    if (ph_h1_current(ex->conn) == ex)
        ph_h1_cut(ex);
    else if (ex->conn->reading == PH_H1_HEAD)
        ex->conn->reading = PH_H1_STOPPED; /* nothing behind it will be answered */
}

static void on_stop(struct ph_exchange *base, uint64_t code)
{
    (void)code;
    of(base)->is_stopped = true; /* what still comes is read for nobody */
}

const struct ph_exchange_ops ph_h1_ops = {
    .respond = on_respond,
    .write = on_write,
    .trailers = on_trailers,
    .consume = on_consume,
    .reset = on_reset,
    .stop = on_stop,
    .upgrade = on_upgrade,
};

/* --- Answers of our own --- */

void ph_h1_write_fault(struct ph_h1_conn *conn)
{
    char text[512], body[160];
    const struct ph_h1_fault *fault = &conn->fault;
    int body_len = snprintf(body, sizeof(body), "%d %s: %s\n", fault->status,
                            reason_of(fault->status), fault->why);
    int n = snprintf(
        text, sizeof(text),
        "HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\n"
        "content-length: %d\r\n%sconnection: close\r\n\r\n%s",
        fault->status, reason_of(fault->status), body_len,
        fault->status == 405 ? "allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" : "",
        conn->fault_is_head ? "" : body);
    wire(conn, NULL, ph_slice_of(ph_buf_copy(text, (size_t)n)), false);
}
