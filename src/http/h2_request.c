/*
 * h2_request.c - the incoming half of HTTP/2 streams: what nghttp2 decoded becomes heads, bodies
 * and trailers of exchanges (RFC 9113 8).
 *
 *      nghttp2 -> fields -> head builder -> route -> fresh -> sink
 *              -> DATA   -> exchange, counted as unconsumed until the owner is done
 *
 * nghttp2 checks messages as well; what it finds is reset by itself and ends up in on_stream_close.
 * Whatever passes it is decided by the head builder and the exchange, as for HTTP/3. Both windows
 * are returned by consumption: of the connection for every byte, also for those that nobody wants,
 * of the stream only for those that the owner took.
 */
#include "h2_internal.h"

/* Decoded bytes of a section, as a multiple of what a head may have, above which it is no mistake
 * any more: a few bytes can name the same large field again and again (RFC 7541 7.1). */
#define BOMB_FACTOR 4

/* --- Windows and time --- */

void ph_h2_request_credit(struct ph_h2_stream *stream, size_t n)
{
    struct ph_h2_conn *conn = stream->conn;
    n = PH_MIN(n, stream->unconsumed);
    stream->unconsumed -= n;
    if (n == 0 || conn->is_failed)
        return;
    int rv = stream->is_open ? nghttp2_session_consume(conn->session, stream->id, n)
                             : nghttp2_session_consume_connection(conn->session, n);
    ph_h2_check(conn, rv);
    if (stream->unconsumed == 0)
        ph_h2_request_arm_body(stream);
}

bool ph_h2_request_is_waiting(const struct ph_h2_stream *stream)
{
    if (stream->is_continued || stream->out_head || stream->ex.in_bytes > 0)
        return false;
    const struct ph_field *field = ph_fields_get(&stream->ex.head.fields, "expect");
    return field != NULL && ph_text_equal(field->value, field->value_len, "100-continue");
}

/* The peer's turn to send: a body that stands still is given up. While the owner has bytes that it
 * did not consume, the peer may be waiting for a window. A tunnel may be silent. */
void ph_h2_request_arm_body(struct ph_h2_stream *stream)
{
    struct ph_h2_conn *conn = stream->conn;
    ph_list_remove(&stream->timer);
    if (!stream->is_exchange || stream->is_ended || stream->is_stopped ||
        stream->in != PH_H2_IN_BODY || stream->unconsumed > 0 || stream->ex.out == PH_EX_DONE ||
        conn->config->body_timeout == 0 || stream->ex.head.protocol[0] != '\0' ||
        ph_h2_request_is_waiting(stream))
        return;
    stream->deadline = conn->now + conn->config->body_timeout;
    stream->is_body_untimed = !conn->is_told;
    conn->has_untimed = conn->has_untimed || !conn->is_told;
    ph_list_append(&conn->bodies, &stream->timer);
}

void ph_h2_request_time(struct ph_h2_conn *conn)
{
    for (struct ph_link *link = conn->bodies.prev; link != &conn->bodies; link = link->prev) {
        struct ph_h2_stream *stream = PH_CONTAINER(link, struct ph_h2_stream, timer);
        if (!stream->is_body_untimed)
            return;
        stream->is_body_untimed = false;
        stream->deadline = conn->now + conn->config->body_timeout;
    }
}

/* --- Heads --- */

/* The message is wrong: a stream error (RFC 9113 8.1.1). */
static void message_error(struct ph_h2_stream *stream)
{
    ph_h2_stream_reset(stream, NGHTTP2_PROTOCOL_ERROR, true);
}

static void dispatch(struct ph_h2_stream *stream)
{
    const struct ph_exchange_sink *sink = stream->ex.sink;
    ph_list_remove(&stream->fresh);
    stream->is_exchange = true;
    ph_h2_request_arm_body(stream);
    sink->on_request(sink->self, &stream->ex);
    if (stream->in == PH_H2_IN_END && !stream->is_ended && ph_exchange_on_end(&stream->ex) < 0)
        message_error(stream);
}

void ph_h2_request_dispatch(struct ph_h2_conn *conn)
{
    while (!ph_list_is_empty(&conn->fresh))
        dispatch(PH_CONTAINER(conn->fresh.next, struct ph_h2_stream, fresh));
}

static void route(struct ph_h2_stream *stream)
{
    struct ph_h2_conn *conn = stream->conn;
    struct ph_head *head = &stream->ex.head;
    uint64_t max = conn->config->max_body;
    bool is_connect = strcmp(head->method, "CONNECT") == 0;
    if (is_connect && head->protocol[0] == '\0') { /* a tunnel: we are no proxy */
        ph_h2_reply_error(stream, 405);
        return;
    }
    if (is_connect && (!conn->config->websocket ||
                       !ph_text_equal(head->protocol, strlen(head->protocol), "websocket"))) {
        ph_h2_reply_error(stream, 501); /* RFC 9220 3 */
        return;
    }
    if (max > 0 && head->has_length && head->length > max && !is_connect) {
        ph_count(conn->stats, limit_body);
        ph_h2_reply_error(stream, 413);
        return;
    }
    if (!conn->has_updates && ph_fields_get(&head->fields, "priority") == NULL)
        conn->unsignaled = stream->id;
    ph_list_append(&conn->fresh, &stream->fresh);
}

static void got_head(struct ph_h2_stream *stream)
{
    int rv = ph_head_builder_finish(&stream->builder);
    stream->is_building = false;
    stream->in = PH_H2_IN_BODY;
    if (rv == 0) {
        stream->ex.head = stream->builder.head;
        stream->ex.head.version = 20;
        route(stream);
        return;
    }
    int status = stream->builder.is_target_long ? 414 : 431;
    ph_head_builder_fini(&stream->builder);
    if (rv == PH_E_LIMIT) {
        ph_count(stream->conn->stats, limit_head);
        ph_h2_reply_error(stream, status);
    } else {
        message_error(stream);
    }
}

static void got_trailers(struct ph_h2_stream *stream)
{
    struct ph_exchange *ex = &stream->ex;
    int rv = ph_head_builder_finish(&stream->builder);
    stream->is_building = false;
    stream->in = PH_H2_IN_BODY;
    if (rv == 0 && stream->is_exchange && !stream->is_stopped)
        ex->sink->on_trailers(ex->sink->self, ex, &stream->builder.head.fields);
    ph_head_builder_fini(&stream->builder);
    if (rv == PH_E_LIMIT) {
        ph_count(stream->conn->stats, limit_head);
        ph_h2_stream_reset(stream, NGHTTP2_ENHANCE_YOUR_CALM, true);
    } else if (rv != 0) {
        message_error(stream);
    }
}

static void got_end(struct ph_h2_stream *stream)
{
    if (stream->in == PH_H2_IN_END)
        return;
    stream->in = PH_H2_IN_END;
    ph_list_remove(&stream->timer);
    if (stream->is_exchange && !stream->is_stopped && ph_exchange_on_end(&stream->ex) < 0)
        message_error(stream);
}

/* --- Callbacks --- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct ph_h2_conn *conn = user;
    struct ph_h2_stream *stream;
    int32_t id = frame->hd.stream_id;
    if (conn->is_failed)
        return 0;
    if (id == INT32_MAX && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        ph_h2_drain_final(conn); /* there can be no further stream (RFC 9113 5.1.1) */
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        stream = ph_h2_stream_of(session, id);
        if (stream == NULL || stream->is_ended || stream->in != PH_H2_IN_BODY)
            return 0;
        if (ph_link_is_on(&stream->fresh))
            dispatch(stream);
        stream->in = PH_H2_IN_TRAILERS;
        ph_head_builder_init_trailers(&stream->builder, &conn->config->limits);
    } else if (conn->stream_count >= conn->config->max_streams) { /* RFC 9113 5.1.2 */
        ph_count(conn->stats, limit_streams);
        ph_h2_charge_reset(conn);
        ph_h2_check(conn, nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id,
                                                    NGHTTP2_REFUSED_STREAM));
        return 0;
    } else {
        stream = ph_h2_stream_new(conn, id);
        ph_head_builder_init(&stream->builder, &conn->config->limits, false);
    }
    stream->is_building = true;
    stream->decoded = 0;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct ph_h2_conn *conn = user;
    struct ph_h2_stream *stream = ph_h2_stream_of(session, frame->hd.stream_id);
    (void)flags;
    if (stream == NULL || !stream->is_building || conn->is_failed)
        return 0;
    stream->decoded += name_len + value_len + PH_FIELD_COST;
    if (stream->decoded > BOMB_FACTOR * conn->config->limits.head_bytes) {
        ph_count(conn->stats, limit_head);
        ph_h2_fail(conn, NGHTTP2_ENHANCE_YOUR_CALM);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the rest is decoded for nobody */
    }
    ph_head_builder_add(&stream->builder, (const char *)name, name_len, (const char *)value,
                        value_len);
    return 0;
}

/* nghttp2 would pass over a field that it finds malformed; we do not. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_len, const uint8_t *value,
                             size_t value_len, uint8_t flags, void *user)
{
    struct ph_h2_stream *stream = ph_h2_stream_of(session, frame->hd.stream_id);
    (void)name;
    (void)name_len;
    (void)value;
    (void)value_len;
    (void)flags;
    (void)user;
    if (stream != NULL && stream->is_building && stream->builder.error == 0)
        stream->builder.error = PH_E_MALFORMED;
    return 0;
}

static void on_ping(struct ph_h2_conn *conn, const nghttp2_frame *frame)
{
    if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && conn->drain == PH_H2_DRAIN_SAID)
        ph_h2_drain_final(conn); /* a round trip since the first GOAWAY */
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct ph_h2_conn *conn = user;
    if (conn->is_failed)
        return 0;
    if (frame->hd.type == NGHTTP2_PING)
        on_ping(conn, frame);
    else if (frame->hd.type == NGHTTP2_GOAWAY)
        ph_h2_drain_final(conn); /* it will ask for nothing more */
    else if (frame->hd.type == NGHTTP2_PRIORITY_UPDATE && conn->unsignaled == 0)
        conn->has_updates = true;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct ph_h2_stream *stream = ph_h2_stream_of(session, frame->hd.stream_id);
    if (stream == NULL)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && stream->is_building) {
        if (stream->in == PH_H2_IN_HEAD)
            got_head(stream);
        else
            got_trailers(stream);
    }
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 && !stream->is_ended)
        got_end(stream);
    return 0;
}

static void body_too_large(struct ph_h2_stream *stream)
{
    ph_count(stream->conn->stats, limit_body);
    if (stream->out_head) {
        ph_h2_stream_reset(stream, NGHTTP2_ENHANCE_YOUR_CALM, true);
        return;
    }
    ph_h2_reply_error(stream, 413);
    ph_h2_stream_end(stream, false, NGHTTP2_ENHANCE_YOUR_CALM);
}

static void got_body(struct ph_h2_stream *stream, const uint8_t *data, size_t n)
{
    uint64_t max = stream->conn->config->max_body;
    stream->unconsumed += n;
    if (max > 0 && n > max - PH_MIN(stream->ex.in_bytes, max) &&
        stream->ex.head.protocol[0] == '\0')
        body_too_large(stream);
    else if (ph_exchange_on_body(&stream->ex, data, n) < 0)
        message_error(stream);
    else
        ph_h2_request_arm_body(stream);
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t n, void *user)
{
    struct ph_h2_conn *conn = user;
    struct ph_h2_stream *stream = ph_h2_stream_of(session, id);
    (void)flags;
    if (stream != NULL && ph_link_is_on(&stream->fresh))
        dispatch(stream);
    if (stream != NULL && stream->is_exchange && !stream->is_ended && !stream->is_stopped &&
        stream->in == PH_H2_IN_BODY && !conn->is_failed)
        got_body(stream, data, n);
    else
        ph_h2_check(conn, nghttp2_session_consume_connection(session, n));
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct ph_h2_stream *stream = ph_h2_stream_of(session, id);
    (void)user;
    if (stream == NULL)
        return 0;
    stream->is_open = false;
    if (!stream->out_done) /* one that is whole is on its way, whatever becomes of the request */
        ph_h2_stream_end(stream, false, code);
    stream->in = PH_H2_IN_END;
    ph_list_remove(&stream->timer);
    ph_h2_stream_settle(stream);
    return 0;
}

void ph_h2_request_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}
