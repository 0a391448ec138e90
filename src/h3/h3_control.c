/*
 * h3_control.c - the streams that live as long as the connection: our control stream, the peer's
 * control stream and its two QPACK streams (RFC 9114 6.2.1, 7.2; RFC 9204 4.2).
 *
 * The peer's may be there once and never end. Everything h3 reads here it consumes at once. Frames
 * of the control stream are collected whole, so each kind has a bound; what HTTP/3 does not know is
 * skipped in place and charged to the no-progress budget.
 */
#include "h3_internal.h"

struct critical {
    struct ph_h3_stream stream;
    uint64_t type;
    struct ph_h3_frame_reader reader; /* control only, as all that follows */
    bool in_frame;                    /* its header was judged */
    bool collects;                    /* its payload goes to `buf`; otherwise skipped */
    uint8_t *buf;
    size_t len, cap;
};

bool ph_h3_is_http2_frame(uint64_t type)
{
    return type == 0x02 || type == 0x06 || type == 0x08 || type == 0x09;
}

/* --- What the peer says --- */

static bool got_settings(struct ph_h3_conn *conn, const uint8_t *p, size_t n)
{
    struct ph_h3 *h3 = conn->h3;
    uint64_t code = 0;
    if (ph_h3_settings_parse(&conn->settings, p, n, &code) < 0) {
        ph_h3_conn_error(conn, code, "SETTINGS");
        return false;
    }
    conn->has_settings = true;
    if (h3->has_ext && h3->ext.on_settings != NULL)
        h3->ext.on_settings(h3->ext.self, conn);
    if (!conn->is_server && !conn->failed && h3->client.on_settings != NULL)
        h3->client.on_settings(h3->client.self, conn);
    if (!conn->failed)
        ph_h3_request_release_held(conn);
    return true;
}

/* A payload that is one varint and nothing else (7.1: otherwise H3_FRAME_ERROR). */
static bool read_id(struct ph_h3_conn *conn, const uint8_t *p, size_t n, uint64_t *id)
{
    if (n > 0 && ph_varint_get(p, n, id) == n)
        return true;
    ph_h3_conn_error(conn, PH_H3_FRAME_ERROR, "length of a control frame");
    return false;
}

/* RFC 9114 5.2: what was said refused stays refused, ids never grow. */
static void got_goaway(struct ph_h3_conn *conn, const uint8_t *p, size_t n)
{
    struct ph_h3 *h3 = conn->h3;
    uint64_t id = 0;
    if (!read_id(conn, p, n, &id))
        return;
    if ((!conn->is_server && (id & 3) != 0) || (conn->got_goaway && id > conn->goaway_got)) {
        ph_h3_conn_error(conn, PH_H3_ID_ERROR, "GOAWAY");
        return;
    }
    bool first = !conn->got_goaway;
    conn->got_goaway = true;
    conn->goaway_got = id;
    if (first && h3->has_ext && h3->ext.on_goaway != NULL)
        h3->ext.on_goaway(h3->ext.self, conn);
    if (conn->is_server)
        return;
    size_t pos = 0;
    uint64_t key = 0;
    void *value = NULL;
    while (ph_map_next(&conn->requests, &pos, &key, &value)) {
        if (key >= id) /* not processed: may be tried again elsewhere */
            ph_h3_request_abort(value, PH_H3_REQUEST_REJECTED, false);
    }
}

static void got_max_push_id(struct ph_h3_conn *conn, const uint8_t *p, size_t n)
{
    uint64_t id = 0;
    if (!read_id(conn, p, n, &id))
        return;
    if (conn->got_max_push && id < conn->max_push) { /* 7.2.7 */
        ph_h3_conn_error(conn, PH_H3_ID_ERROR, "MAX_PUSH_ID");
        return;
    }
    conn->got_max_push = true;
    conn->max_push = id;
    ph_quic_conn_glitch(conn->quic, 1);
}

static void remember_priority(struct ph_h3_conn *conn, uint64_t id, struct ph_h3_priority priority)
{
    unsigned i = 0;
    while (i < conn->early_count && conn->early[i].id != id)
        i++;
    if (i == conn->early_count) {
        i = conn->early_next;
        conn->early_next = (conn->early_next + 1) % PH_H3_EARLY_PRIORITIES;
        conn->early_count = PH_MIN(conn->early_count + 1, (unsigned)PH_H3_EARLY_PRIORITIES);
    }
    conn->early[i] = (struct ph_h3_early_priority){id, priority};
}

/* RFC 9218 7.2. A value that cannot be read leaves the priority as it is. */
static void got_priority(struct ph_h3_conn *conn, const uint8_t *p, size_t n)
{
    uint64_t id = 0;
    size_t len = ph_varint_get(p, n, &id);
    if (len == 0) {
        ph_h3_conn_error(conn, PH_H3_FRAME_ERROR, "PRIORITY_UPDATE");
        return;
    }
    if ((id & 3) != 0) {
        ph_h3_conn_error(conn, PH_H3_ID_ERROR, "PRIORITY_UPDATE");
        return;
    }
    ph_quic_conn_glitch(conn->quic, 1);
    struct ph_h3_priority priority = ph_h3_priority_parse((const char *)p + len, n - len);
    struct ph_h3_request *req = ph_map_get(&conn->requests, id);
    if (req != NULL) {
        req->has_priority = true;
        ph_h3_request_prioritize(req, priority);
    } else if (id >= conn->next_id) {
        remember_priority(conn, id, priority);
    }
}

static void got_frame(struct ph_h3_conn *conn, uint64_t type, const uint8_t *p, size_t n)
{
    switch (type) {
    case PH_H3_SETTINGS:
        got_settings(conn, p, n);
        break;
    case PH_H3_GOAWAY:
        got_goaway(conn, p, n);
        break;
    case PH_H3_MAX_PUSH_ID:
        got_max_push_id(conn, p, n);
        break;
    case PH_H3_PRIORITY_UPDATE:
        got_priority(conn, p, n);
        break;
    default: /* CANCEL_PUSH, PRIORITY_UPDATE_PUSH: no push was ever promised (7.2.3) */
        ph_h3_conn_error(conn, PH_H3_ID_ERROR, "push that does not exist");
        break;
    }
}

/* --- Control stream in --- */

/* The error of a frame of this type now, or 0. */
static uint64_t judge(const struct ph_h3_conn *conn, const struct ph_h3_frame_reader *reader)
{
    uint64_t type = reader->type;
    if (type == PH_H3_SIGNAL_BIDI && conn->h3->has_ext)
        return PH_H3_FRAME_ERROR;
    if (!conn->has_settings)
        return type == PH_H3_SETTINGS ? 0 : PH_H3_MISSING_SETTINGS;
    switch (type) {
    case PH_H3_SETTINGS: /* the second */
    case PH_H3_DATA:
    case PH_H3_HEADERS:
    case PH_H3_PUSH_PROMISE:
        return PH_H3_FRAME_UNEXPECTED;
    case PH_H3_MAX_PUSH_ID:
    case PH_H3_PRIORITY_UPDATE:
    case PH_H3_PRIORITY_UPDATE_PUSH:
        return conn->is_server ? 0 : PH_H3_FRAME_UNEXPECTED;
    default:
        return ph_h3_is_http2_frame(type) ? PH_H3_FRAME_UNEXPECTED : 0;
    }
}

static bool is_known(uint64_t type)
{
    return type == PH_H3_SETTINGS || type == PH_H3_GOAWAY || type == PH_H3_MAX_PUSH_ID ||
           type == PH_H3_CANCEL_PUSH || type == PH_H3_PRIORITY_UPDATE ||
           type == PH_H3_PRIORITY_UPDATE_PUSH;
}

/* Decides about a frame as soon as its header is there. false: the connection is over. */
static bool begin_frame(struct critical *in)
{
    struct ph_h3_conn *conn = in->stream.conn;
    uint64_t code = judge(conn, &in->reader);
    if (code != 0) {
        ph_h3_conn_error(conn, code, "frame on the control stream");
        return false;
    }
    in->in_frame = true;
    in->len = 0;
    in->collects = is_known(in->reader.type);
    size_t most = in->reader.type == PH_H3_SETTINGS ? PH_H3_SETTINGS_BYTES : PH_H3_CONTROL_BYTES;
    if (in->collects && in->reader.length > most) {
        ph_h3_conn_error(conn, PH_H3_EXCESSIVE_LOAD, "control frame too large");
        return false;
    }
    if (!in->collects)
        ph_quic_conn_glitch(conn->quic, 1);
    return true;
}

static void collect(struct critical *in, const uint8_t *p, size_t n)
{
    if (n == 0)
        return;
    if (in->len + n > in->cap) {
        in->cap = PH_MAX(in->len + n, 2 * in->cap);
        in->buf = ph_realloc(in->buf, in->cap);
    }
    memcpy(in->buf + in->len, p, n);
    in->len += n;
}

static void control_data(struct critical *in, const uint8_t *p, size_t n)
{
    struct ph_h3_conn *conn = in->stream.conn;
    const uint8_t *end = p + n, *piece = NULL;
    size_t len = 0;
    while (!conn->failed && ph_h3_frame_next(&in->reader, &p, end, &piece, &len)) {
        if (!in->in_frame && !begin_frame(in))
            return;
        bool is_whole = in->reader.left == 0;
        in->in_frame = !is_whole;
        if (!in->collects)
            continue;
        if (is_whole && in->len == 0) {
            got_frame(conn, in->reader.type, piece, len);
            continue;
        }
        collect(in, piece, len);
        if (is_whole)
            got_frame(conn, in->reader.type, in->buf, in->len);
    }
    /* The header came without payload: refuse what cannot become right before more is sent. */
    if (!conn->failed && !in->in_frame && in->reader.state == PH_H3_AT_PAYLOAD)
        begin_frame(in);
}

/* --- Critical streams in --- */

static void critical_data(struct ph_h3_claim *claim, const uint8_t *data, size_t n, bool fin)
{
    struct ph_h3_stream *stream = ph_h3_stream_of(claim);
    struct critical *in = PH_CONTAINER(stream, struct critical, stream);
    struct ph_h3_conn *conn = stream->conn;
    uint64_t code = 0;
    int rv = 0;
    ph_quic_stream_consume(stream->quic, n);
    if (in->type == PH_H3_STREAM_CONTROL) {
        control_data(in, data, n);
    } else if (in->type == PH_H3_STREAM_QPACK_ENCODER) {
        ph_quic_conn_glitch(conn->quic, (unsigned)n); /* one instruction a byte, each for nothing */
        rv = ph_qpack_encoder_stream(conn->qpack, data, n, &code);
    } else {
        ph_quic_conn_glitch(conn->quic, (unsigned)(n + 1) / 2);
        rv = ph_qpack_decoder_stream(conn->qpack, data, n, &code);
    }
    if (rv < 0)
        ph_h3_conn_error(conn, code, "QPACK stream");
    if (fin)
        ph_h3_conn_error(conn, PH_H3_CLOSED_CRITICAL_STREAM, "critical stream ended");
}

static void critical_reset(struct ph_h3_claim *claim, uint64_t code, uint64_t final_size)
{
    (void)code;
    (void)final_size;
    ph_h3_conn_error(ph_h3_stream_of(claim)->conn, PH_H3_CLOSED_CRITICAL_STREAM,
                     "critical stream reset");
}

static void critical_stop(struct ph_h3_claim *claim, uint64_t code)
{
    (void)claim; /* cannot be: the peer's unidirectional stream has no side of ours */
    (void)code;
}

static void critical_acked(struct ph_h3_claim *claim, size_t n)
{
    (void)claim;
    (void)n;
}

static void critical_free(struct ph_h3_stream *stream)
{
    struct critical *in = PH_CONTAINER(stream, struct critical, stream);
    ph_h3_stream_fini(stream);
    ph_free(in->buf);
    ph_free(in);
}

static void critical_closed(struct ph_h3_claim *claim)
{
    struct ph_h3_stream *stream = ph_h3_stream_of(claim);
    stream->quic = NULL;
    critical_free(stream);
}

static const struct ph_h3_claim_ops critical_ops = {
    .on_data = critical_data,
    .on_reset = critical_reset,
    .on_stop = critical_stop,
    .on_acked = critical_acked,
    .on_closed = critical_closed,
};

void ph_h3_critical_open(struct ph_h3_conn *conn, struct ph_quic_stream *quic, uint64_t type,
                         const uint8_t *data, size_t n, bool fin)
{
    bool *seen = type == PH_H3_STREAM_CONTROL         ? &conn->has_control
                 : type == PH_H3_STREAM_QPACK_ENCODER ? &conn->has_encoder
                                                      : &conn->has_decoder;
    if (*seen) {
        ph_h3_conn_error(conn, PH_H3_STREAM_CREATION_ERROR, "second critical stream");
        return;
    }
    *seen = true;
    struct critical *in = ph_alloc(sizeof(*in));
    in->type = type;
    ph_h3_stream_init(&in->stream, conn, quic, &critical_ops, critical_free);
    if (n > 0 || fin)
        critical_data(&in->stream.claim, data, n, fin);
}

/* --- Our control stream --- */

static void control_stop(struct ph_h3_claim *claim, uint64_t code)
{
    (void)code;
    ph_h3_conn_error(ph_h3_stream_of(claim)->conn, PH_H3_CLOSED_CRITICAL_STREAM,
                     "control stream stopped");
}

static void control_input(struct ph_h3_claim *claim, const uint8_t *data, size_t n, bool fin)
{
    (void)claim; /* cannot be: the stream is unidirectional and ours, as in control_reset() */
    (void)data;
    (void)n;
    (void)fin;
}

static void control_reset(struct ph_h3_claim *claim, uint64_t code, uint64_t final_size)
{
    (void)claim;
    (void)code;
    (void)final_size;
}

static void control_free(struct ph_h3_stream *stream)
{
    stream->conn->control = NULL;
    ph_h3_stream_fini(stream);
    ph_free(stream);
}

static void control_closed(struct ph_h3_claim *claim)
{
    struct ph_h3_stream *stream = ph_h3_stream_of(claim);
    stream->quic = NULL;
    control_free(stream);
}

static const struct ph_h3_claim_ops control_ops = {
    .on_data = control_input,
    .on_reset = control_reset,
    .on_stop = control_stop,
    .on_acked = critical_acked,
    .on_closed = control_closed,
};

void ph_h3_control_start(struct ph_h3_conn *conn)
{
    uint8_t settings[128], out[160];
    struct ph_quic_stream *quic = NULL;
    if (conn->control != NULL || ph_quic_conn_open_stream(conn->quic, false, &quic) < 0)
        return; /* no stream left for us yet: tried again when the peer allows one */
    struct ph_h3_stream *stream = ph_alloc(sizeof(*stream));
    conn->control = quic;
    ph_h3_stream_init(stream, conn, quic, &control_ops, control_free);
    ph_quic_stream_set_urgency(quic, 0);
    const struct ph_h3_config *config = &conn->h3->config;
    size_t n =
        ph_h3_settings_write(settings, !conn->is_server, config->webtransport, config->websocket);
    uint8_t *p = ph_varint_put(out, PH_H3_STREAM_CONTROL);
    p = ph_h3_frame_put(p, PH_H3_SETTINGS, n);
    memcpy(p, settings, n);
    ph_quic_stream_write_copy(quic, out, (size_t)(p + n - out));
}

void ph_h3_control_goaway(struct ph_h3_conn *conn, uint64_t id)
{
    uint8_t out[32];
    if (conn->control == NULL)
        return;
    uint8_t *p = ph_h3_frame_put(out, PH_H3_GOAWAY, ph_varint_len(id));
    p = ph_varint_put(p, id);
    ph_quic_stream_write_copy(conn->control, out, (size_t)(p - out));
}
