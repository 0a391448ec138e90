/*
 * h3_open.c - the first bytes of a peer's stream decide what it is (RFC 9114 6; WebTransport draft
 * 4.2, 4.3): control, QPACK, request, or a stream of the extension.
 *
 * The type is one varint and usually whole in the first piece; only a stream whose type is cut in
 * two gets a structure of its own, under the deadline of a request head. Unknown types are refused
 * at once and their bytes never looked at.
 */
#include "h3_internal.h"

struct opening {
    struct ph_h3_stream stream;
    struct ph_varint_reader type;
};

static void open_claim(struct ph_h3_conn *conn, struct ph_quic_stream *quic, uint64_t type,
                       const uint8_t *p, size_t n, bool fin)
{
    const struct ph_h3_ext *ext = &conn->h3->ext;
    struct ph_h3_claim *claim = ext->on_stream(ext->self, conn, quic, type);
    if (claim == NULL) {
        ph_h3_ignore(conn, quic);
        ph_quic_stream_stop(quic, PH_H3_STREAM_CREATION_ERROR);
        if (type == PH_H3_SIGNAL_BIDI)
            ph_quic_stream_reset(quic, PH_H3_STREAM_CREATION_ERROR);
        ph_quic_stream_consume(quic, n);
        return;
    }
    ph_h3_claim_stream(conn, quic, claim);
    ph_h3_replay_stop(quic, claim);
    if ((n > 0 || fin) && !conn->failed)
        claim->ops->on_data(claim, p, n, fin);
}

static void open_uni(struct ph_h3_conn *conn, struct ph_quic_stream *quic, uint64_t type,
                     const uint8_t *p, size_t n, bool fin)
{
    switch (type) {
    case PH_H3_STREAM_CONTROL:
    case PH_H3_STREAM_QPACK_ENCODER:
    case PH_H3_STREAM_QPACK_DECODER:
        ph_h3_critical_open(conn, quic, type, p, n, fin);
        return;
    case PH_H3_STREAM_PUSH: /* a client cannot push; we as client never allowed it (6.2.2, 4.6) */
        ph_h3_conn_error(conn, conn->is_server ? PH_H3_STREAM_CREATION_ERROR : PH_H3_ID_ERROR,
                         "push stream");
        return;
    case PH_H3_SIGNAL_UNI:
        if (conn->h3->has_ext) {
            open_claim(conn, quic, type, p, n, fin);
            return;
        }
        break;
    default:
        break;
    }
    ph_h3_ignore(conn, quic);
    ph_quic_stream_stop(quic, PH_H3_STREAM_CREATION_ERROR);
    ph_quic_stream_consume(quic, n);
    ph_quic_conn_glitch(conn->quic, 1);
}

static void open_bidi(struct ph_h3_conn *conn, struct ph_quic_stream *quic, uint64_t type,
                      const uint8_t *p, size_t n, bool fin)
{
    if (type == PH_H3_SIGNAL_BIDI && conn->h3->has_ext)
        open_claim(conn, quic, type, p, n, fin);
    else if (conn->is_server)
        ph_h3_request_open(conn, quic, type, p, n, fin);
    else /* RFC 9114 6.1 */
        ph_h3_conn_error(conn, PH_H3_STREAM_CREATION_ERROR, "bidirectional stream by the server");
}

static void open_typed(struct ph_h3_conn *conn, struct ph_quic_stream *quic, uint64_t type,
                       const uint8_t *p, size_t n, bool fin)
{
    if (ph_quic_id_is_uni(ph_quic_stream_id(quic)))
        open_uni(conn, quic, type, p, n, fin);
    else
        open_bidi(conn, quic, type, p, n, fin);
}

/* The stream ended before or within its type. RFC 9114 6.2: a unidirectional one is let go quietly,
 * and so is what may have become a stream of the extension. */
void ph_h3_open_cut(struct ph_h3_conn *conn, struct ph_quic_stream *quic)
{
    ph_h3_ignore(conn, quic);
    if (!ph_quic_id_is_uni(ph_quic_stream_id(quic))) {
        ph_quic_stream_reset(quic, PH_H3_REQUEST_INCOMPLETE);
        ph_h3_conn_cancelled(conn);
    }
}

static void opening_free(struct ph_h3_stream *stream)
{
    ph_h3_stream_fini(stream);
    ph_free(PH_CONTAINER(stream, struct opening, stream));
}

static void opening_data(struct ph_h3_claim *claim, const uint8_t *data, size_t n, bool fin)
{
    struct ph_h3_stream *stream = ph_h3_stream_of(claim);
    struct opening *opening = PH_CONTAINER(stream, struct opening, stream);
    struct ph_h3_conn *conn = stream->conn;
    struct ph_quic_stream *quic = stream->quic;
    const uint8_t *p = data, *end = data + n;
    bool whole = ph_varint_feed(&opening->type, &p, end);
    ph_quic_stream_consume(quic, (size_t)(p - data));
    if (!whole && !fin)
        return;
    uint64_t type = opening->type.value;
    ph_quic_stream_set_user(quic, NULL);
    stream->quic = NULL;
    opening_free(stream);
    if (whole)
        open_typed(conn, quic, type, p, (size_t)(end - p), fin);
    else
        ph_h3_open_cut(conn, quic);
}

static void opening_reset(struct ph_h3_claim *claim, uint64_t code, uint64_t final_size)
{
    (void)code;
    (void)final_size;
    struct ph_h3_stream *stream = ph_h3_stream_of(claim);
    struct ph_h3_conn *conn = stream->conn;
    struct ph_quic_stream *quic = stream->quic;
    opening_free(stream);
    ph_h3_open_cut(conn, quic);
}

static void opening_stop(struct ph_h3_claim *claim, uint64_t code)
{
    (void)claim; /* replayed once it is known what the stream is */
    (void)code;
}

static void opening_acked(struct ph_h3_claim *claim, size_t n)
{
    (void)claim;
    (void)n;
}

static void opening_closed(struct ph_h3_claim *claim)
{
    struct ph_h3_stream *stream = ph_h3_stream_of(claim);
    stream->quic = NULL;
    opening_free(stream);
}

static void opening_timeout(struct ph_h3_stream *stream)
{
    struct ph_quic_stream *quic = stream->quic;
    struct ph_h3_conn *conn = stream->conn;
    bool uni = ph_quic_id_is_uni(ph_quic_stream_id(quic));
    ph_count(conn->h3->stats, timeouts_header);
    ph_quic_stream_stop(quic, uni ? PH_H3_STREAM_CREATION_ERROR : PH_H3_REQUEST_INCOMPLETE);
    if (!uni)
        ph_quic_stream_reset(quic, PH_H3_REQUEST_INCOMPLETE);
    opening_free(stream);
}

static const struct ph_h3_claim_ops opening_ops = {
    .on_data = opening_data,
    .on_reset = opening_reset,
    .on_stop = opening_stop,
    .on_acked = opening_acked,
    .on_closed = opening_closed,
};

void ph_h3_open_feed(struct ph_h3_conn *conn, struct ph_quic_stream *quic, const uint8_t *data,
                     size_t n, bool fin)
{
    uint64_t type = 0;
    size_t len = ph_varint_get(data, n, &type);
    if (len > 0) {
        ph_quic_stream_consume(quic, len);
        open_typed(conn, quic, type, data + len, n - len, fin);
        return;
    }
    if (fin) { /* a request stream without a request is malformed all the same (4.1.2) */
        ph_quic_stream_consume(quic, n);
        ph_h3_open_cut(conn, quic);
        return;
    }
    struct opening *opening = ph_alloc(sizeof(*opening));
    ph_h3_stream_init(&opening->stream, conn, quic, &opening_ops, opening_free);
    opening->stream.on_timeout = opening_timeout;
    ph_h3_timer_arm(&opening->stream, &conn->h3->heads, conn->h3->config.header_timeout);
    opening_data(&opening->stream.claim, data, n, false);
}
