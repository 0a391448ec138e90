/*
 * h2_reply.c - the outgoing half of HTTP/2 streams: the operations of an exchange, DATA frames
 * without a copy, and what leaves when.
 *
 *      owner -> stream->body -> nghttp2 asks (priorities, windows) -> out queue -> owner of the
 *                               connection -> ph_h2_reply_sent() -> on_acked, on_closed
 *
 * nghttp2 chooses the stream: by urgency, those of one urgency one after the other unless they are
 * incremental, which take turns (RFC 9218 10). It is asked for no more than the out queue may hold,
 * so that the choice is made late. Frames of a stream end with END_STREAM on the last DATA, HEADERS
 * or trailers; a request that is still being sent then is refused without an error (RFC 9113 8.1).
 */
#include "h2_internal.h"

/* Fields of a response up to this many are put together on the stack. */
#define FIELDS_INLINE 32
/* A response that waits is looked at this often within write_stall_timeout. */
#define STALL_LOOKS 8

/* --- Pieces --- */

static struct ph_h2_piece *piece_at(const struct ph_h2_conn *conn, size_t i)
{
    return &conn->pieces[(conn->piece_head + i) & (conn->piece_cap - 1)];
}

static void grow_pieces(struct ph_h2_conn *conn)
{
    size_t cap = conn->piece_cap == 0 ? 16 : conn->piece_cap * 2;
    conn->pieces =
        ph_queue_grow(conn->pieces, sizeof(*conn->pieces), conn->piece_cap, conn->piece_head, cap);
    conn->piece_cap = cap;
    conn->piece_head = 0;
}

/* n bytes were put into the out queue. */
static void add_piece(struct ph_h2_conn *conn, struct ph_h2_stream *stream, size_t n, bool is_last)
{
    conn->unsent += n;
    if (conn->piece_count > 0 && !is_last) {
        struct ph_h2_piece *last = piece_at(conn, conn->piece_count - 1);
        if (last->stream == stream && !last->is_last) {
            last->n += n;
            return;
        }
    }
    if (conn->piece_count == conn->piece_cap)
        grow_pieces(conn);
    *piece_at(conn, conn->piece_count++) =
        (struct ph_h2_piece){.stream = stream, .n = n, .is_last = is_last};
    if (stream != NULL)
        stream->pieces++;
}

static void pop_piece(struct ph_h2_conn *conn)
{
    struct ph_h2_piece piece = *piece_at(conn, 0);
    conn->piece_head = (conn->piece_head + 1) & (conn->piece_cap - 1);
    conn->piece_count--;
    if (piece.stream == NULL)
        return;
    piece.stream->pieces--;
    if (piece.is_last)
        ph_h2_stream_end(piece.stream, true, NGHTTP2_NO_ERROR);
    ph_h2_stream_settle(piece.stream);
}

bool ph_h2_reply_is_due(const struct ph_h2_conn *conn)
{
    return conn->piece_count > 0 && piece_at(conn, 0)->n == 0;
}

void ph_h2_reply_work(struct ph_h2_conn *conn)
{
    while (ph_h2_reply_is_due(conn))
        pop_piece(conn);
}

void ph_h2_reply_sent(struct ph_h2_conn *conn, size_t n)
{
    PH_ASSERT(n <= conn->unsent);
    conn->unsent -= n;
    while (n > 0) {
        struct ph_h2_piece *piece = piece_at(conn, 0);
        struct ph_h2_stream *stream = piece->stream;
        size_t part = PH_MIN(n, piece->n);
        piece->n -= part;
        n -= part;
        if (part > 0 && stream != NULL && stream->is_exchange && !stream->is_ended)
            stream->ex.sink->on_acked(stream->ex.sink->self, &stream->ex, part);
        if (piece_at(conn, 0)->n == 0)
            pop_piece(conn);
    }
}

/* --- Responses that stand still --- */

static void stall_look_again(struct ph_h2_stream *stream)
{
    struct ph_h2_conn *conn = stream->conn;
    stream->stall_at = conn->now + conn->config->write_stall_timeout / STALL_LOOKS;
    ph_list_append(&conn->stalls, &stream->stall);
}

/* There is something that the peer's windows may hold back: body, or the end alone, because an
 * empty DATA frame too waits for a window of the connection. */
static void stall_arm(struct ph_h2_stream *stream)
{
    struct ph_h2_conn *conn = stream->conn;
    bool is_waiting = stream->body.unsent > 0 || stream->out_fin;
    if (conn->config->write_stall_timeout == 0 || !is_waiting || ph_link_is_on(&stream->stall))
        return;
    stream->stall_due = conn->now + conn->config->write_stall_timeout;
    stream->stall_moved = 0;
    stream->is_stall_untimed = !conn->is_told;
    conn->has_untimed = conn->has_untimed || !conn->is_told;
    stall_look_again(stream);
}

void ph_h2_reply_time(struct ph_h2_conn *conn)
{
    for (struct ph_link *link = conn->stalls.prev; link != &conn->stalls; link = link->prev) {
        struct ph_h2_stream *stream = PH_CONTAINER(link, struct ph_h2_stream, stall);
        if (!stream->is_stall_untimed)
            return;
        stream->is_stall_untimed = false;
        stream->stall_due = conn->now + conn->config->write_stall_timeout;
        stream->stall_at = conn->now + conn->config->write_stall_timeout / STALL_LOOKS;
    }
}

/* What the peer's window let go buys time at the least rate, never more than a stall may last. */
static void stall_moved(struct ph_h2_stream *stream, size_t n)
{
    struct ph_h2_conn *conn = stream->conn;
    uint64_t timeout = conn->config->write_stall_timeout;
    uint64_t bought = ph_time_bought(n, conn->config->min_send_rate, timeout);
    if (stream->body.unsent == 0 && !stream->out_fin) {
        ph_list_remove(&stream->stall);
        return;
    }
    stream->stall_due = PH_MIN(stream->stall_due + bought, conn->now + timeout);
    stream->stall_moved = stream->stall_due == conn->now + timeout ? 0 : stream->stall_moved + n;
}

/* Something has waited, and too little of it went for too long. If the peer gives no window it is a
 * slow reader, and what waits for it is dropped; otherwise it is our own order of sending that
 * makes the stream wait, or the connection, whose owner has a clock for it. */
void ph_h2_reply_expire(struct ph_h2_conn *conn)
{
    while (!ph_list_is_empty(&conn->stalls)) {
        struct ph_h2_stream *stream = PH_CONTAINER(conn->stalls.next, struct ph_h2_stream, stall);
        if (stream->stall_at > conn->now)
            return;
        ph_list_remove(&stream->stall);
        bool is_late = conn->now >= stream->stall_due;
        if (is_late &&
            nghttp2_session_get_stream_remote_window_size(conn->session, stream->id) > 0 &&
            nghttp2_session_get_remote_window_size(conn->session) > 0) {
            stream->stall_due = conn->now + conn->config->write_stall_timeout;
            is_late = false;
        }
        if (!is_late) {
            stall_look_again(stream);
            continue;
        }
        if (stream->stall_moved == 0)
            ph_count(conn->stats, timeouts_write);
        else
            ph_count(conn->stats, timeouts_send_rate);
        ph_h2_stream_reset(stream, NGHTTP2_CANCEL, false);
    }
}

/* --- What nghttp2 asks and says --- */

static size_t list_fields(nghttp2_nv *out, const struct ph_field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (nghttp2_nv){
            .name = (uint8_t *)(uintptr_t)fields[i].name,
            .value = (uint8_t *)(uintptr_t)fields[i].value,
            .namelen = fields[i].name_len,
            .valuelen = fields[i].value_len,
            .flags = NGHTTP2_NV_FLAG_NONE,
        };
    }
    return n;
}

static int submit_trailers(struct ph_h2_stream *stream)
{
    const struct ph_fields *trailers = &stream->trailers;
    nghttp2_nv *list = ph_alloc(trailers->count * sizeof(*list));
    size_t n = list_fields(list, trailers->list, trailers->count);
    int rv = nghttp2_submit_trailer(stream->conn->session, stream->id, list, n);
    ph_free(list);
    return rv;
}

/* How much of the body goes into the next DATA frame. */
static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                       uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct ph_h2_stream *stream = ph_h2_stream_of(session, id);
    (void)buf;
    (void)source;
    (void)user;
    if (stream == NULL || stream->is_ended)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* its RST_STREAM is on the way */
    size_t n = PH_MIN(length, stream->body.unsent);
    bool is_last = stream->out_fin && n == stream->body.unsent;
    if (n == 0 && !is_last) {
        stream->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (is_last)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (is_last && stream->trailers.count > 0) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (submit_trailers(stream) < 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

/* One DATA frame: its head is copied, its payload is not. */
static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t n, nghttp2_data_source *source, void *user)
{
    struct ph_h2_conn *conn = user;
    struct ph_h2_stream *stream = ph_h2_stream_of(session, frame->hd.stream_id);
    (void)source;
    ph_sliceq_push_copy(conn->out, head, PH_H2_FRAME_HEAD);
    add_piece(conn, NULL, PH_H2_FRAME_HEAD, false);
    if (n > 0) {
        ph_sliceq_move(conn->out, &stream->body, n);
        add_piece(conn, stream, n, false);
        ph_h2_scan_sent(conn, n);
        stall_moved(stream, n);
    }
    return conn->out->unsent < PH_H2_OUT_MAX ? 0 : NGHTTP2_ERR_PAUSE;
}

/* END_STREAM was framed. nghttp2 says so of HEADERS before it hands out their bytes. */
static void on_stream_end_sent(struct ph_h2_stream *stream, bool is_data)
{
    struct ph_h2_conn *conn = stream->conn;
    stream->out_done = true;
    ph_list_remove(&stream->stall);
    if (is_data)
        add_piece(conn, stream, 0, true);
    else
        conn->finishing = stream;
    if (nghttp2_session_get_stream_remote_close(conn->session, stream->id) == 0) {
        stream->is_reset = true;
        ph_h2_check(conn, nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, stream->id,
                                                    NGHTTP2_NO_ERROR));
    }
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct ph_h2_conn *conn = user;
    struct ph_h2_stream *stream;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        stream = ph_h2_stream_of(session, frame->hd.stream_id);
        if (stream != NULL && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
            on_stream_end_sent(stream, frame->hd.type == NGHTTP2_DATA);
        break;
    case NGHTTP2_RST_STREAM:
        if (nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
            ph_h2_scan_reset(conn, frame->hd.stream_id);
        stream = ph_h2_stream_of(session, frame->hd.stream_id);
        /* Not by us: nghttp2 found something wrong. */
        if (stream == NULL || stream->is_reset || frame->rst_stream.error_code == NGHTTP2_NO_ERROR)
            break;
        stream->is_reset = true;
        ph_count(conn->stats, protocol_errors);
        ph_h2_charge_reset(conn);
        break;
    case NGHTTP2_GOAWAY:
        if (frame->goaway.error_code != NGHTTP2_NO_ERROR && !conn->is_failed) {
            ph_count(conn->stats, protocol_errors);
            conn->is_failed = true;
        }
        break;
    default:
        break;
    }
    return 0;
}

/* A head that cannot be sent: the client would wait for it for ever. Not so when the stream or the
 * connection is about to end anyway. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *user)
{
    struct ph_h2_stream *stream = ph_h2_stream_of(session, frame->hd.stream_id);
    (void)user;
    if (frame->hd.type != NGHTTP2_HEADERS || stream == NULL || stream->is_ended ||
        error == NGHTTP2_ERR_STREAM_CLOSING || error == NGHTTP2_ERR_SESSION_CLOSING)
        return 0;
    ph_log(PH_LOG_WARNING, "http: response head not sent error=\"%s\"", nghttp2_strerror(error));
    ph_h2_stream_reset(stream, NGHTTP2_INTERNAL_ERROR, false);
    return 0;
}

/* The limit on streams is ours alone: nghttp2, which would take one stream too many for the end of
 * the connection, is told of none, and the number for the peer is put into SETTINGS here. */
static void patch_settings(struct ph_h2_conn *conn, uint8_t *frame, size_t n)
{
    for (uint8_t *p = frame + PH_H2_FRAME_HEAD; p + 6 <= frame + n; p += 6) {
        if (ph_u16_get(p) == NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
            ph_u32_put(p + 2, conn->config->max_streams);
    }
}

void ph_h2_reply_flush(struct ph_h2_conn *conn)
{
    conn->has_more = true;
    while (!conn->is_aborted && (conn->is_closing || conn->out->unsent < PH_H2_OUT_MAX)) {
        const uint8_t *data;
        ssize_t n = nghttp2_session_mem_send(conn->session, &data);
        if (n <= 0) {
            ph_h2_check(conn, (int)n);
            conn->has_more = conn->out->unsent >= PH_H2_OUT_MAX;
            return;
        }
        if (conn->has_settings) {
            ph_sliceq_push_copy(conn->out, data, (size_t)n);
        } else {
            struct ph_buf *buf = ph_buf_copy(data, (size_t)n);
            patch_settings(conn, buf->data, buf->len);
            ph_sliceq_push(conn->out, ph_slice_of(buf));
            conn->has_settings = true;
        }
        add_piece(conn, NULL, (size_t)n, false);
        if (conn->finishing != NULL)
            add_piece(conn, conn->finishing, 0, true);
        conn->finishing = NULL;
    }
}

void ph_h2_reply_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
}

/* --- What the owner says --- */

static bool can_send(const struct ph_h2_stream *stream)
{
    return !stream->is_ended && stream->is_open && !stream->conn->is_failed &&
           !stream->conn->is_aborted;
}

static void submit_head(struct ph_h2_stream *stream, int status, const struct ph_field *fields,
                        size_t n, bool fin)
{
    struct ph_h2_conn *conn = stream->conn;
    nghttp2_nv few[FIELDS_INLINE], *list = few;
    const char text[3] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10),
                          (char)('0' + status % 10)};
    if (n + 1 > PH_COUNT_OF(few))
        list = ph_alloc((n + 1) * sizeof(*list));
    const struct ph_field first = {":status", text, 7, 3};
    list_fields(list, &first, 1);
    list_fields(list + 1, fields, n);
    int rv;
    if (status < 200) {
        rv = nghttp2_submit_headers(conn->session, NGHTTP2_FLAG_NONE, stream->id, NULL, list, n + 1,
                                    NULL);
    } else {
        nghttp2_data_provider body = {.read_callback = on_read};
        stream->out_head = true;
        stream->out_fin = fin;
        rv = nghttp2_submit_response(conn->session, stream->id, list, n + 1, fin ? NULL : &body);
    }
    ph_h2_check(conn, rv);
    if (list != few)
        ph_free(list);
}

void ph_h2_reply_error(struct ph_h2_stream *stream, int status)
{
    static const struct ph_field empty = {"content-length", "0", 14, 1};
    static const struct ph_field allow[] = {
        {"content-length", "0", 14, 1},
        {"allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS", 5, 44},
    };
    if (!can_send(stream))
        return;
    if (status == 405) /* RFC 9110 15.5.6 wants the list */
        submit_head(stream, status, allow, PH_COUNT_OF(allow), true);
    else
        submit_head(stream, status, &empty, 1, true);
}

static struct ph_h2_stream *of(struct ph_exchange *ex)
{
    return PH_CONTAINER(ex, struct ph_h2_stream, ex);
}

static void on_respond(struct ph_exchange *ex, int status, const struct ph_field *fields, size_t n,
                       bool fin)
{
    if (can_send(of(ex)))
        submit_head(of(ex), status, fields, n, fin);
}

/* There is more to ask for. */
static void resume(struct ph_h2_stream *stream)
{
    if (!stream->is_deferred)
        return;
    stream->is_deferred = false;
    ph_h2_check(stream->conn, nghttp2_session_resume_data(stream->conn->session, stream->id));
}

static void on_write(struct ph_exchange *ex, struct ph_slice slice, bool fin)
{
    struct ph_h2_stream *stream = of(ex);
    if (!can_send(stream)) {
        ph_buf_unref(slice.buf);
        return;
    }
    ph_sliceq_push(&stream->body, slice);
    stream->out_fin = fin;
    stall_arm(stream);
    resume(stream);
}

static void on_trailers(struct ph_exchange *ex, const struct ph_field *fields, size_t n)
{
    struct ph_h2_stream *stream = of(ex);
    if (!can_send(stream))
        return;
    for (size_t i = 0; i < n; i++)
        ph_fields_add(&stream->trailers, fields[i].name, fields[i].name_len, fields[i].value,
                      fields[i].value_len, NULL);
    ph_fields_seal(&stream->trailers);
    stream->out_fin = true;
    stall_arm(stream);
    resume(stream);
}

static void on_consume(struct ph_exchange *ex, size_t n)
{
    struct ph_h2_stream *stream = of(ex);
    if (n > 0) {
        ph_h2_request_credit(stream, n);
    } else if (can_send(stream) && ph_h2_request_is_waiting(stream)) {
        stream->is_continued = true;
        submit_head(stream, 100, NULL, 0, false);
        ph_h2_request_arm_body(stream);
    }
}

/* The name that HTTP/2 has for a code of HTTP/3; its own (RFC 9113 7), which are smaller, stay. */
static uint32_t code_of(uint64_t code)
{
    static const struct {
        uint64_t h3;
        uint32_t h2;
    } names[] = {
        {PH_H3_NO_ERROR, NGHTTP2_NO_ERROR},
        {PH_H3_GENERAL_PROTOCOL_ERROR, NGHTTP2_PROTOCOL_ERROR},
        {PH_H3_EXCESSIVE_LOAD, NGHTTP2_ENHANCE_YOUR_CALM},
        {PH_H3_REQUEST_REJECTED, NGHTTP2_REFUSED_STREAM},
        {PH_H3_REQUEST_CANCELLED, NGHTTP2_CANCEL},
        {PH_H3_REQUEST_INCOMPLETE, NGHTTP2_CANCEL},
        {PH_H3_MESSAGE_ERROR, NGHTTP2_PROTOCOL_ERROR},
        {PH_H3_CONNECT_ERROR, NGHTTP2_CONNECT_ERROR},
    };
    if (code < PH_H3_NO_ERROR)
        return (uint32_t)code;
    for (size_t i = 0; i < PH_COUNT_OF(names); i++) {
        if (names[i].h3 == code)
            return names[i].h2;
    }
    return NGHTTP2_INTERNAL_ERROR;
}

/* nghttp2 drops what waits of a stream that is reset: what was answered before the cut leaves
 * first, so that the client sees a response that is cut and not only a stream that is gone. Not
 * within a call of the library, which has the time told. */
static void on_reset(struct ph_exchange *ex, uint64_t code)
{
    struct ph_h2_stream *stream = of(ex);
    if (ex->out != PH_EX_HEAD && !stream->conn->is_told)
        ph_h2_reply_flush(stream->conn);
    ph_h2_stream_reset(stream, code_of(code), false);
}

/* What still comes is dropped; its window is not returned, so that not much can come. */
static void on_stop(struct ph_exchange *ex, uint64_t code)
{
    struct ph_h2_stream *stream = of(ex);
    (void)code;
    stream->is_stopped = true;
    ph_list_remove(&stream->timer);
}

const struct ph_exchange_ops ph_h2_ops = {
    .respond = on_respond,
    .write = on_write,
    .trailers = on_trailers,
    .consume = on_consume,
    .reset = on_reset,
    .stop = on_stop,
};
