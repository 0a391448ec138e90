/*
 * h3_request.c - the incoming half of a request stream (RFC 9114 4.1, 7): frames in order, head,
 * body, trailers and end; routing of a head to the exchange sink, the extension or the client sink.
 *
 *      quic -> frames -> HEADERS: collected, decoded, validated -> route
 *                        DATA: handed on in place, counted as unconsumed until the owner is done
 *
 * Errors are of two kinds: what the frames do wrong ends the connection, what the message does
 * wrong (4.1.2) ends the stream. Credit: every byte that h3 itself eats is returned at once; body
 * bytes when their owner consumes them. After `ended` is set nothing more is delivered.
 */
#include "h3_internal.h"

static void feed(struct ph_h3_request *req, const uint8_t *data, size_t n, bool fin);

/* --- Life --- */

/* The message is wrong: a stream error, charged to the peer. */
static void message_error(struct ph_h3_request *req, uint64_t code)
{
    struct ph_h3_conn *conn = req->stream.conn;
    ph_count(conn->h3->stats, protocol_errors);
    ph_h3_request_abort(req, code, false);
    ph_h3_conn_cancelled(conn);
}

/* The frames are wrong: a connection error. */
static void frame_error(struct ph_h3_request *req, uint64_t code)
{
    ph_h3_conn_error(req->stream.conn, code, "request stream");
}

void ph_h3_request_end(struct ph_h3_request *req, uint64_t code, bool clean, bool by_reset)
{
    struct ph_h3_conn *conn = req->stream.conn;
    if (req->ended)
        return;
    req->ended = true;
    req->end_code = code;
    req->end_clean = clean;
    req->end_by_reset = by_reset;
    req->in = PH_H3_IN_END;
    if (!clean)
        req->ex.is_aborted = true;
    ph_map_del(&conn->requests, req->id);
    ph_list_remove(&req->stream.timer);
    ph_list_remove(&req->held_link);
    ph_list_remove(&req->stall);
    ph_list_append(&conn->h3->ended, &req->ended_link);
}

void ph_h3_request_abort(struct ph_h3_request *req, uint64_t code, bool by_reset)
{
    if (req->ended)
        return;
    if (req->stream.quic != NULL && !req->stream.conn->closed) {
        ph_quic_stream_reset(req->stream.quic, code);
        ph_quic_stream_stop(req->stream.quic, code);
    }
    req->out_done = true;
    ph_h3_request_end(req, code, false, by_reset);
}

void ph_h3_request_finish(struct ph_h3_request *req)
{
    struct ph_h3_conn *conn = req->stream.conn;
    struct ph_h3 *h3 = conn->h3;
    switch (req->owner) {
    case PH_H3_OWNER_EXCHANGE:
        req->ex.sink->on_closed(req->ex.sink->self, &req->ex, req->end_clean, req->end_code);
        ph_exchange_fini(&req->ex);
        break;
    case PH_H3_OWNER_EXT:
        h3->ext.on_request_closed(h3->ext.self, req, req->end_code, req->end_by_reset);
        ph_head_fini(&req->ex.head);
        break;
    case PH_H3_OWNER_CLIENT:
        if (h3->client.on_closed != NULL)
            h3->client.on_closed(h3->client.self, req, req->end_code);
        ph_head_fini(&req->ex.head);
        break;
    case PH_H3_OWNER_NONE:
        ph_head_fini(&req->ex.head);
        break;
    }
    if (!conn->closed)
        ph_h3_request_credit(req, req->unconsumed);
    ph_h3_stream_fini(&req->stream);
    ph_free(req->block);
    ph_free(req->held);
    ph_free(req->runs);
    ph_free(req);
    conn->open_requests--;
    ph_h3_conn_note_use(conn);
    if (!conn->closed)
        ph_h3_conn_finish_if_drained(conn);
}

void ph_h3_request_credit(struct ph_h3_request *req, size_t n)
{
    struct ph_h3_conn *conn = req->stream.conn;
    n = PH_MIN(n, req->unconsumed);
    req->unconsumed -= n;
    if (n == 0 || conn->closed)
        return;
    if (req->stream.quic != NULL)
        ph_quic_stream_consume(req->stream.quic, n);
    else
        ph_quic_conn_consume(conn->quic, n);
    if (req->unconsumed == 0)
        ph_h3_request_arm_body(req);
}

void ph_h3_request_stop_in(struct ph_h3_request *req, uint64_t code)
{
    if (req->in == PH_H3_IN_END)
        return;
    req->in = PH_H3_IN_END;
    ph_list_remove(&req->stream.timer);
    ph_quic_stream_stop(req->stream.quic, code);
    req->unconsumed = PH_MIN(req->unconsumed, ph_quic_stream_unconsumed(req->stream.quic));
}

/* An extended CONNECT for a WebSocket (RFC 9220): an exchange that becomes a tunnel. */
static bool is_socket(const struct ph_h3_request *req)
{
    const struct ph_h3_conn *conn = req->stream.conn;
    const char *protocol = req->ex.head.protocol;
    return conn->h3->config.websocket && conn->is_server &&
           ph_text_equal(protocol, strlen(protocol), "websocket");
}

/* The peer's turn to send: a body that stands still is given up. While the owner has bytes that it
 * did not consume, the peer may be waiting for credit. */
void ph_h3_request_arm_body(struct ph_h3_request *req)
{
    struct ph_h3 *h3 = req->stream.conn->h3;
    if (req->owner != PH_H3_OWNER_EXCHANGE || req->body_ignored || req->ended || is_socket(req))
        return;
    if (req->in != PH_H3_IN_BODY && req->in != PH_H3_IN_TRAILED)
        return;
    if (req->unconsumed > 0)
        ph_list_remove(&req->stream.timer);
    else
        ph_h3_timer_arm(&req->stream, &h3->bodies, h3->config.body_timeout);
}

/* --- Routing of a request --- */

void ph_h3_request_prioritize(struct ph_h3_request *req, struct ph_h3_priority priority)
{
    unsigned urgency = priority.urgency;
    if (req->owner == PH_H3_OWNER_EXT || req->is_held) /* see route_connect() */
        urgency = PH_MIN(urgency, (unsigned)PH_QUIC_BEFORE_DATAGRAMS);
    ph_quic_stream_set_urgency(req->stream.quic, urgency);
    ph_quic_stream_set_incremental(req->stream.quic, priority.incremental);
}

static void apply_priority_field(struct ph_h3_request *req)
{
    const struct ph_field *field = ph_fields_get(&req->ex.head.fields, "priority");
    if (field != NULL && !req->has_priority)
        ph_h3_request_prioritize(req, ph_h3_priority_parse(field->value, field->value_len));
}

static void to_exchange(struct ph_h3_request *req)
{
    struct ph_h3_conn *conn = req->stream.conn;
    struct ph_h3 *h3 = conn->h3;
    struct ph_head head = req->ex.head;
    ph_exchange_init(&req->ex, &ph_h3_exchange_ops, &h3->sink);
    req->ex.head = head;
    req->ex.path = *ph_quic_conn_path(conn->quic);
    req->ex.tls = ph_quic_conn_tls(conn->quic);
    req->ex.is_early = ph_quic_conn_is_early(conn->quic);
    req->ex.siblings = conn->open_requests;
    req->owner = PH_H3_OWNER_EXCHANGE;
    ph_h3_request_arm_body(req);
    h3->sink.on_request(h3->sink.self, &req->ex);
}

struct ph_exchange *ph_h3_request_to_exchange(struct ph_h3_request *req)
{
    PH_ASSERT(req->owner == PH_H3_OWNER_EXT && !req->out_head);
    ph_h3_request_credit(req, req->unconsumed);
    req->body_ignored = true;
    to_exchange(req);
    return &req->ex;
}

static void route_connect(struct ph_h3_request *req)
{
    struct ph_h3_conn *conn = req->stream.conn;
    struct ph_h3 *h3 = conn->h3;
    if (!h3->has_ext) {
        ph_h3_reply_error(req, 501);
        return;
    }
    /* The answer to a session goes before its datagrams: browsers drop those that come first. */
    ph_quic_stream_set_urgency(req->stream.quic, PH_QUIC_BEFORE_DATAGRAMS);
    if (!conn->has_settings) { /* what the peer speaks is not known yet */
        req->is_held = true;
        ph_list_append(&conn->held, &req->held_link);
        return;
    }
    ph_list_remove(&req->stream.timer);
    req->owner = PH_H3_OWNER_EXT;
    if (!h3->ext.on_connect(h3->ext.self, conn, req, &req->ex.head) &&
        req->owner == PH_H3_OWNER_EXT && !req->ended) {
        req->owner = PH_H3_OWNER_NONE;
        ph_h3_reply_error(req, 501);
    }
}

/* 0-RTT can be replayed by whoever recorded it, so only what changes nothing is served in it (RFC
 * 8470 5.2, RFC 9110 9.2.1); for everything else, sessions among it, the client has to prove first
 * that it is there. */
static bool is_too_early(const struct ph_h3_request *req)
{
    static const char *const safe[] = {"GET", "HEAD", "OPTIONS"};
    const struct ph_h3 *h3 = req->stream.conn->h3;
    if (!ph_quic_conn_is_early(req->stream.conn->quic))
        return false;
    for (size_t i = 0; i < PH_COUNT_OF(safe); i++) {
        if (strcmp(req->ex.head.method, safe[i]) == 0) {
            ph_count(h3->stats, early_requests);
            return false;
        }
    }
    ph_count(h3->stats, early_refused);
    return true;
}

static void route(struct ph_h3_request *req)
{
    struct ph_h3 *h3 = req->stream.conn->h3;
    const struct ph_head *head = &req->ex.head;
    if (is_too_early(req)) {
        ph_list_remove(&req->stream.timer);
        ph_h3_reply_error(req, 425);
        return;
    }
    if (head->protocol[0] != '\0' && !is_socket(req)) {
        route_connect(req);
        return;
    }
    apply_priority_field(req);
    ph_list_remove(&req->stream.timer);
    if (is_socket(req)) {
        to_exchange(req);
        return;
    }
    if (strcmp(head->method, "CONNECT") == 0) { /* a tunnel: we are no proxy */
        ph_h3_reply_error(req, 405);
        return;
    }
    if (h3->config.max_body > 0 && head->has_length && head->length > h3->config.max_body) {
        ph_count(h3->stats, limit_body);
        ph_h3_reply_error(req, 413);
        return;
    }
    to_exchange(req);
}

void ph_h3_request_release_held(struct ph_h3_conn *conn)
{
    struct ph_link *link = NULL;
    while (!conn->failed && (link = ph_list_take(&conn->held)) != NULL) {
        struct ph_h3_request *req = PH_CONTAINER(link, struct ph_h3_request, held_link);
        uint8_t *held = req->held;
        req->held = NULL;
        req->is_held = false;
        route_connect(req);
        feed(req, held != NULL ? held : (const uint8_t *)"", req->held_len, req->held_fin);
        ph_free(held);
    }
}

static void hold(struct ph_h3_request *req, const uint8_t *p, size_t n, bool fin)
{
    if (n > 0 && req->held_len + n > req->held_cap) {
        req->held_cap = PH_MAX(req->held_len + n, 2 * req->held_cap);
        req->held = ph_realloc(req->held, req->held_cap);
    }
    if (n > 0)
        memcpy(req->held + req->held_len, p, n);
    req->held_len += n;
    req->held_fin |= fin;
}

/* --- Responses, client role --- */

static bool is_tunnel(const struct ph_h3_request *req)
{
    if (req->owner != PH_H3_OWNER_EXT)
        return req->body_ignored || (req->owner == PH_H3_OWNER_EXCHANGE && is_socket(req));
    return req->stream.conn->is_server || (req->ex.head.status >= 200 && req->ex.head.status < 300);
}

static void route_response(struct ph_h3_request *req)
{
    struct ph_h3 *h3 = req->stream.conn->h3;
    const struct ph_head *head = &req->ex.head;
    bool is_final = head->status >= 200;
    if (head->status == 204 || head->status == 304)
        req->is_bodiless = true;
    if (req->owner == PH_H3_OWNER_CLIENT && h3->client.on_response != NULL)
        h3->client.on_response(h3->client.self, req, head);
    else if (req->owner == PH_H3_OWNER_EXT && is_final && h3->ext.on_response != NULL)
        h3->ext.on_response(h3->ext.self, req, head);
    if (!is_final && !req->ended) { /* informational: the next HEADERS is another head */
        ph_head_fini(&req->ex.head);
        req->ex.head = (struct ph_head){0};
        req->in = PH_H3_IN_HEAD;
    }
}

/* --- Sections --- */

/* What a section that could not be decoded means; `status` answers a head beyond a limit. */
static void section_error(struct ph_h3_request *req, int rv, int status)
{
    struct ph_h3 *h3 = req->stream.conn->h3;
    if (rv == PH_E_PROTO) {
        frame_error(req, PH_QPACK_DECOMPRESSION_FAILED);
        return;
    }
    if (rv != PH_E_LIMIT) {
        message_error(req, PH_H3_MESSAGE_ERROR);
        return;
    }
    ph_count(h3->stats, limit_head);
    if (req->stream.conn->is_server && req->in == PH_H3_IN_HEAD)
        ph_h3_reply_error(req, status);
    else
        ph_h3_request_abort(req, PH_H3_EXCESSIVE_LOAD, false);
}

static void got_head(struct ph_h3_request *req, const uint8_t *p, size_t n)
{
    struct ph_h3_conn *conn = req->stream.conn;
    struct ph_head_builder builder;
    ph_head_builder_init(&builder, &conn->h3->limits, !conn->is_server);
    int rv = ph_qpack_decode(conn->qpack, req->id, p, n, &builder);
    if (rv == 0)
        rv = ph_head_builder_finish(&builder);
    if (rv < 0) {
        ph_head_builder_fini(&builder);
        section_error(req, rv, builder.is_target_long ? 414 : 431);
        return;
    }
    req->ex.head = builder.head;
    req->ex.head.version = 30;
    req->in = PH_H3_IN_BODY;
    if (conn->is_server)
        route(req);
    else
        route_response(req);
}

static void got_trailers(struct ph_h3_request *req, const uint8_t *p, size_t n)
{
    struct ph_h3_conn *conn = req->stream.conn;
    struct ph_h3 *h3 = conn->h3;
    struct ph_fields fields = {0};
    req->in = PH_H3_IN_TRAILED;
    int rv = ph_qpack_decode_trailers(conn->qpack, req->id, p, n, &fields, &h3->limits);
    if (rv < 0) {
        section_error(req, rv, 431);
        return;
    }
    if (req->owner == PH_H3_OWNER_EXCHANGE && !req->body_ignored)
        req->ex.sink->on_trailers(req->ex.sink->self, &req->ex, &fields);
    else if (req->owner == PH_H3_OWNER_CLIENT && h3->client.on_trailers != NULL)
        h3->client.on_trailers(h3->client.self, req, &fields);
    ph_fields_fini(&fields);
}

static void got_section(struct ph_h3_request *req, const uint8_t *p, size_t n)
{
    if (req->in == PH_H3_IN_HEAD)
        got_head(req, p, n);
    else
        got_trailers(req, p, n);
}

/* A piece of a HEADERS payload. The declared length costs nothing: memory grows with what comes,
 * and credit for it is not returned before the section is whole, so that all the unfinished heads
 * of a connection together stay within its window. Returns the bytes whose credit waits. */
static size_t section_piece(struct ph_h3_request *req, const uint8_t *p, size_t n)
{
    if (req->reader.left == 0 && req->block_len == 0) {
        got_section(req, p, n);
        return 0;
    }
    if (req->block_len + n > req->block_cap) {
        req->block_cap = PH_MAX(req->block_len + n, 2 * req->block_cap);
        req->block = ph_realloc(req->block, req->block_cap);
    }
    if (n > 0)
        memcpy(req->block + req->block_len, p, n);
    req->block_len += n;
    if (req->reader.left > 0)
        return n;
    uint8_t *block = req->block;
    size_t len = req->block_len;
    req->block = NULL;
    req->block_len = req->block_cap = 0;
    ph_quic_stream_consume(req->stream.quic, len - n);
    got_section(req, block, len);
    ph_free(block);
    return 0;
}

/* --- Body --- */

static void body_to_exchange(struct ph_h3_request *req, const uint8_t *p, size_t n)
{
    struct ph_h3 *h3 = req->stream.conn->h3;
    uint64_t max = is_socket(req) ? 0 : h3->config.max_body;
    if (max > 0 && n > max - PH_MIN(req->ex.in_bytes, max)) {
        ph_count(h3->stats, limit_body);
        if (req->out_head) {
            ph_h3_request_abort(req, PH_H3_EXCESSIVE_LOAD, false);
            return;
        }
        ph_h3_reply_error(req, 413);
        ph_h3_request_end(req, PH_H3_EXCESSIVE_LOAD, false, false);
        return;
    }
    if (ph_exchange_on_body(&req->ex, p, n) < 0)
        message_error(req, PH_H3_MESSAGE_ERROR);
    else
        ph_h3_request_arm_body(req);
}

static void body_to_client(struct ph_h3_request *req, const uint8_t *p, size_t n)
{
    struct ph_h3 *h3 = req->stream.conn->h3;
    const struct ph_head *head = &req->ex.head;
    req->ex.in_bytes += n;
    if (req->is_bodiless || (head->has_length && req->ex.in_bytes > head->length)) {
        message_error(req, PH_H3_MESSAGE_ERROR);
        return;
    }
    if (h3->client.on_body != NULL)
        h3->client.on_body(h3->client.self, req, p, n);
}

/* Returns the bytes that the owner got, whose credit waits for it. */
static size_t body_piece(struct ph_h3_request *req, const uint8_t *p, size_t n)
{
    struct ph_h3 *h3 = req->stream.conn->h3;
    if (n == 0 || req->body_ignored || req->owner == PH_H3_OWNER_NONE)
        return 0;
    req->unconsumed += n;
    switch (req->owner) {
    case PH_H3_OWNER_EXCHANGE:
        body_to_exchange(req, p, n);
        break;
    case PH_H3_OWNER_CLIENT:
        body_to_client(req, p, n);
        break;
    case PH_H3_OWNER_EXT:
        h3->ext.on_request_data(h3->ext.self, req, p, n);
        break;
    case PH_H3_OWNER_NONE:
        break;
    }
    return n;
}

/* --- Frames --- */

/* The connection error of a frame of this type now, or 0. */
static uint64_t judge(const struct ph_h3_request *req)
{
    const struct ph_h3_conn *conn = req->stream.conn;
    switch (req->reader.type) {
    case PH_H3_DATA:
        return req->in == PH_H3_IN_BODY ? 0 : PH_H3_FRAME_UNEXPECTED;
    case PH_H3_HEADERS: /* on CONNECT nothing known but DATA may follow the head (4.4) */
        if (req->in == PH_H3_IN_TRAILED || (req->in == PH_H3_IN_BODY && is_tunnel(req)))
            return PH_H3_FRAME_UNEXPECTED;
        return 0;
    case PH_H3_PUSH_PROMISE:
        return conn->is_server ? PH_H3_FRAME_UNEXPECTED : PH_H3_ID_ERROR;
    case PH_H3_CANCEL_PUSH:
    case PH_H3_SETTINGS:
    case PH_H3_GOAWAY:
    case PH_H3_MAX_PUSH_ID:
    case PH_H3_PRIORITY_UPDATE:
    case PH_H3_PRIORITY_UPDATE_PUSH:
        return PH_H3_FRAME_UNEXPECTED;
    case PH_H3_SIGNAL_BIDI: /* legal only as the first bytes of a stream */
        return conn->h3->has_ext ? PH_H3_FRAME_ERROR : 0;
    default:
        return ph_h3_is_http2_frame(req->reader.type) ? PH_H3_FRAME_UNEXPECTED : 0;
    }
}

/* Decides about a frame as soon as its header is there. false: nothing more is to be read. */
static bool begin_frame(struct ph_h3_request *req)
{
    struct ph_h3_conn *conn = req->stream.conn;
    uint64_t type = req->reader.type, code = judge(req);
    req->in_frame = true;
    if (code != 0) {
        frame_error(req, code);
        return false;
    }
    if (type == PH_H3_HEADERS && req->reader.length > conn->h3->config.head_encoded) {
        section_error(req, PH_E_LIMIT, 431);
        return false;
    }
    if (type != PH_H3_HEADERS && (type != PH_H3_DATA || req->reader.length == 0))
        ph_quic_conn_glitch(conn->quic, 1);
    return true;
}

/* The stream's end (4.1): the message must be whole. */
static void got_fin(struct ph_h3_request *req)
{
    struct ph_h3_conn *conn = req->stream.conn;
    struct ph_h3 *h3 = conn->h3;
    if (!ph_h3_frame_is_between(&req->reader)) {
        frame_error(req, PH_H3_FRAME_ERROR); /* 7.1 */
        return;
    }
    if (req->in == PH_H3_IN_HEAD) {
        message_error(req, conn->is_server ? PH_H3_REQUEST_INCOMPLETE : PH_H3_MESSAGE_ERROR);
        return;
    }
    req->in = PH_H3_IN_END;
    ph_list_remove(&req->stream.timer);
    const struct ph_head *head = &req->ex.head;
    switch (req->owner) {
    case PH_H3_OWNER_EXCHANGE:
        if (!req->body_ignored && ph_exchange_on_end(&req->ex) < 0)
            message_error(req, PH_H3_MESSAGE_ERROR);
        break;
    case PH_H3_OWNER_EXT:
        h3->ext.on_request_end(h3->ext.self, req);
        break;
    case PH_H3_OWNER_CLIENT:
        if (!req->is_bodiless && head->has_length && req->ex.in_bytes != head->length)
            message_error(req, PH_H3_MESSAGE_ERROR);
        else if (h3->client.on_end != NULL)
            h3->client.on_end(h3->client.self, req);
        break;
    case PH_H3_OWNER_NONE:
        break;
    }
}

static bool is_reading(const struct ph_h3_request *req)
{
    return !req->ended && req->in != PH_H3_IN_END && !req->is_held && !req->stream.conn->failed;
}

/* Reads frames; bytes not read because the request is held are kept, all others are used up. */
static void feed(struct ph_h3_request *req, const uint8_t *data, size_t n, bool fin)
{
    const uint8_t *p = data, *end = data + n, *piece = NULL;
    size_t len = 0, owned = 0;
    while (is_reading(req) && ph_h3_frame_next(&req->reader, &p, end, &piece, &len)) {
        if (!req->in_frame && !begin_frame(req))
            break;
        req->in_frame = req->reader.left > 0;
        if (req->reader.type == PH_H3_HEADERS)
            owned += section_piece(req, piece, len);
        else if (req->reader.type == PH_H3_DATA)
            owned += body_piece(req, piece, len);
    }
    if (is_reading(req) && !req->in_frame && req->reader.state == PH_H3_AT_PAYLOAD)
        begin_frame(req);
    if (is_reading(req) && fin)
        got_fin(req);
    if (req->is_held)
        hold(req, p, (size_t)(end - p), fin);
    size_t eaten = (size_t)((req->is_held ? p : end) - data) - owned;
    if (req->stream.quic != NULL && !req->stream.conn->failed)
        ph_quic_stream_consume(req->stream.quic, eaten);
}

/* --- Events of the stream --- */

static struct ph_h3_request *request_of(struct ph_h3_claim *claim)
{
    return PH_CONTAINER(ph_h3_stream_of(claim), struct ph_h3_request, stream);
}

static void request_data(struct ph_h3_claim *claim, const uint8_t *data, size_t n, bool fin)
{
    struct ph_h3_request *req = request_of(claim);
    if (req->is_held)
        hold(req, data, n, fin);
    else
        feed(req, data, n, fin);
}

/* RFC 9114 4.1.1: the peer gave up. Quic returns the credit of a stream that is reset. */
static void request_reset(struct ph_h3_claim *claim, uint64_t code, uint64_t final_size)
{
    (void)final_size;
    struct ph_h3_request *req = request_of(claim);
    req->unconsumed = 0;
    if (req->ended || req->in == PH_H3_IN_END) /* our STOP_SENDING was answered */
        return;
    ph_h3_conn_cancelled(req->stream.conn);
    req->in = PH_H3_IN_END;
    if (req->stream.quic != NULL && !req->stream.conn->failed && !req->out_done)
        ph_quic_stream_reset(req->stream.quic, PH_H3_REQUEST_CANCELLED);
    ph_h3_request_end(req, code, false, true);
}

static void request_stop(struct ph_h3_claim *claim, uint64_t code)
{
    struct ph_h3_request *req = request_of(claim);
    struct ph_h3 *h3 = req->stream.conn->h3;
    req->out_done = true;
    if (req->ended)
        return;
    switch (req->owner) {
    case PH_H3_OWNER_EXT:
        h3->ext.on_request_stop(h3->ext.self, req, code);
        break;
    case PH_H3_OWNER_CLIENT: /* the server wants no more of the body; its response may still come */
        break;
    case PH_H3_OWNER_NONE:
    case PH_H3_OWNER_EXCHANGE:
        ph_h3_conn_cancelled(req->stream.conn);
        ph_h3_request_abort(req, code, true);
        break;
    }
}

static void request_acked(struct ph_h3_claim *claim, size_t n)
{
    ph_h3_reply_acked(request_of(claim), n);
}

/* Both directions are over. */
static void request_closed(struct ph_h3_claim *claim)
{
    struct ph_h3_request *req = request_of(claim);
    struct ph_h3_conn *conn = req->stream.conn;
    req->stream.quic = NULL;
    if (req->unconsumed > 0) { /* the exchange ends: nobody can consume it any more */
        ph_quic_conn_consume(conn->quic, req->unconsumed);
        req->unconsumed = 0;
    }
    uint64_t code = req->out_lost ? PH_H3_REQUEST_CANCELLED : PH_H3_NO_ERROR;
    ph_h3_request_end(req, code, !req->out_lost, false);
}

static void request_timeout(struct ph_h3_stream *stream)
{
    struct ph_h3_request *req = PH_CONTAINER(stream, struct ph_h3_request, stream);
    if (req->in == PH_H3_IN_HEAD || req->is_held)
        ph_count(stream->conn->h3->stats, timeouts_header);
    else
        ph_count(stream->conn->h3->stats, timeouts_body);
    ph_h3_request_abort(req, PH_H3_REQUEST_INCOMPLETE, false);
}

/* The connection is gone. */
static void request_free(struct ph_h3_stream *stream)
{
    struct ph_h3_request *req = PH_CONTAINER(stream, struct ph_h3_request, stream);
    ph_h3_request_end(req, stream->conn->end_code, false, false);
    ph_list_remove(&req->ended_link);
    ph_h3_request_finish(req);
}

static const struct ph_h3_claim_ops request_ops = {
    .on_data = request_data,
    .on_reset = request_reset,
    .on_stop = request_stop,
    .on_acked = request_acked,
    .on_closed = request_closed,
};

struct ph_h3_request *ph_h3_request_new(struct ph_h3_conn *conn, struct ph_quic_stream *quic,
                                        enum ph_h3_owner owner)
{
    struct ph_h3_request *req = ph_alloc(sizeof(*req));
    req->id = ph_quic_stream_id(quic);
    req->owner = owner;
    req->stream.on_timeout = request_timeout;
    ph_h3_stream_init(&req->stream, conn, quic, &request_ops, request_free);
    ph_map_put(&conn->requests, req->id, req);
    conn->open_requests++;
    ph_h3_conn_note_use(conn);
    return req;
}

void ph_h3_request_open(struct ph_h3_conn *conn, struct ph_quic_stream *quic, uint64_t type,
                        const uint8_t *data, size_t n, bool fin)
{
    uint64_t id = ph_quic_stream_id(quic);
    if (conn->drain == PH_H3_DRAIN_FINAL && id >= conn->goaway_id) { /* 5.2 */
        ph_h3_ignore(conn, quic);
        ph_quic_stream_reset(quic, PH_H3_REQUEST_REJECTED);
        ph_quic_stream_stop(quic, PH_H3_REQUEST_REJECTED);
        ph_quic_stream_consume(quic, n);
        return;
    }
    conn->next_id = PH_MAX(conn->next_id, id + 4);
    struct ph_h3_request *req = ph_h3_request_new(conn, quic, PH_H3_OWNER_NONE);
    req->reader.type = type;
    req->reader.state = PH_H3_AT_LENGTH;
    ph_h3_timer_arm(&req->stream, &conn->h3->heads, conn->h3->config.header_timeout);
    for (unsigned i = 0; i < conn->early_count; i++) {
        if (conn->early[i].id != id)
            continue;
        req->has_priority = true;
        ph_h3_request_prioritize(req, conn->early[i].priority);
    }
    ph_h3_replay_stop(quic, &req->stream.claim);
    feed(req, data, n, fin);
}
