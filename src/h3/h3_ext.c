/*
 * h3_ext.c - requests in the hands of the extension or of a client: what ph_h3_request_* of h3.h
 * says, and the client role's requests.
 *
 * These functions are called from within events and from outside of them; they only record work in
 * quic, and a request that they end gets its last event later (see h3_internal.h).
 */
#include "h3_internal.h"

static bool is_open(const struct ph_h3_request *req)
{
    return !req->ended && req->stream.quic != NULL && !req->stream.conn->failed;
}

void ph_h3_request_set_user(struct ph_h3_request *request, void *user)
{
    request->user = user;
}

void *ph_h3_request_user(const struct ph_h3_request *request)
{
    return request->user;
}

uint64_t ph_h3_request_id(const struct ph_h3_request *request)
{
    return request->id;
}

struct ph_h3_conn *ph_h3_request_conn(const struct ph_h3_request *request)
{
    return request->stream.conn;
}

const struct ph_head *ph_h3_request_head(const struct ph_h3_request *request)
{
    return &request->ex.head;
}

int ph_h3_request_respond(struct ph_h3_request *request, int status, const struct ph_field *fields,
                          size_t n, bool fin)
{
    return ph_h3_reply_head(request, status, fields, n, fin);
}

int ph_h3_request_data(struct ph_h3_request *request, const uint8_t *data, size_t n, bool fin)
{
    uint8_t head[16];
    if (!is_open(request))
        return PH_E_CLOSED;
    if (request->out_done)
        return PH_E_STATE;
    if (n > 0) {
        size_t len = (size_t)(ph_h3_frame_put(head, PH_H3_DATA, n) - head);
        ph_h3_reply_framing(request, len + n);
        ph_quic_stream_write_copy(request->stream.quic, head, len);
        ph_quic_stream_write_copy(request->stream.quic, data, n);
    }
    if (fin)
        ph_h3_reply_fin(request);
    return 0;
}

int ph_h3_request_trailers(struct ph_h3_request *request, const struct ph_field *fields, size_t n)
{
    if (!is_open(request))
        return PH_E_CLOSED;
    if (request->out_done)
        return PH_E_STATE;
    ph_h3_reply_section(request, fields, n);
    ph_h3_reply_fin(request);
    return 0;
}

void ph_h3_request_consume(struct ph_h3_request *request, size_t n)
{
    ph_h3_request_credit(request, n);
}

void ph_h3_request_reset(struct ph_h3_request *request, uint64_t code)
{
    ph_h3_request_abort(request, code, false);
}

void ph_h3_request_stop(struct ph_h3_request *request, uint64_t code)
{
    if (is_open(request))
        ph_h3_request_stop_in(request, code);
}

/* --- Client role --- */

static int start(struct ph_h3_conn *conn, struct ph_h3_request **out, enum ph_h3_owner owner,
                 const struct ph_field *fields, size_t n)
{
    struct ph_quic_stream *quic = NULL;
    if (conn->failed || conn->got_goaway || conn->drain != PH_H3_SERVING)
        return PH_E_CLOSED;
    int rv = ph_quic_conn_open_stream(conn->quic, true, &quic);
    if (rv < 0)
        return rv;
    struct ph_h3_request *req = ph_h3_request_new(conn, quic, owner);
    ph_h3_reply_section(req, fields, n);
    req->out_head = true;
    *out = req;
    return 0;
}

int ph_h3_request(struct ph_h3_conn *conn, struct ph_h3_request **out,
                  const struct ph_field *fields, size_t n, bool fin)
{
    int rv = start(conn, out, PH_H3_OWNER_CLIENT, fields, n);
    if (rv < 0)
        return rv;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(fields[i].name, ":method") == 0 && fields[i].value_len == 4 &&
            memcmp(fields[i].value, "HEAD", 4) == 0)
            (*out)->is_bodiless = true;
    }
    if (fin)
        ph_h3_reply_fin(*out);
    return 0;
}

int ph_h3_connect(struct ph_h3_conn *conn, struct ph_h3_request **out,
                  const struct ph_field *fields, size_t n)
{
    if (!conn->has_settings)
        return PH_E_STATE;
    return start(conn, out, PH_H3_OWNER_EXT, fields, n);
}
