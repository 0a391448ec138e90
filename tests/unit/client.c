/*
 * client.c - see client.h. Engine events become marks in the records of sessions, streams and
 * requests; bytes are consumed at once unless the test holds them.
 */
#include "client.h"

#include "../../src/http/http.h"
#include "../../src/tls/tls.h"

#include <stdlib.h>

static void append(uint8_t **data, size_t *len, size_t *cap, const uint8_t *p, size_t n)
{
    if (*len + n > *cap) {
        *cap = PH_MAX(*cap * 2, *len + n + 1024);
        *data = ph_realloc(*data, *cap);
    }
    if (n > 0)
        memcpy(*data + *len, p, n);
    *len += n;
}

/* --- WebTransport events --- */

static void on_session_ready(void *self, struct ph_wt_session *wt, const char *subprotocol)
{
    (void)self;
    struct client_session *session = ph_wt_session_user(wt);
    session->ready = true;
    snprintf(session->subprotocol, sizeof(session->subprotocol), "%s",
             subprotocol != NULL ? subprotocol : "");
}

static void on_session_closed(void *self, struct ph_wt_session *wt, const struct ph_wt_end *end)
{
    (void)self;
    struct client_session *session = ph_wt_session_user(wt);
    session->wt = NULL;
    session->closed = true;
    session->clean = end->clean;
    session->status = end->status;
    session->code = end->code;
    if (end->reason_len > 0)
        memcpy(session->reason, end->reason, PH_MIN(end->reason_len, sizeof(session->reason) - 1));
}

static struct client_stream *stream_new(struct client_session *session, bool by_peer)
{
    struct client_stream *stream = ph_alloc(sizeof(*stream));
    stream->client = session->client;
    stream->session = session;
    stream->by_peer = by_peer;
    stream->hold = session->client->hold;
    stream->next = session->client->streams;
    session->client->streams = stream;
    return stream;
}

static void on_stream(void *self, struct ph_wt_session *wt, struct ph_wt_stream *wt_stream)
{
    (void)self;
    struct client_stream *stream = stream_new(ph_wt_session_user(wt), true);
    stream->wt = wt_stream;
    stream->opened = true;
    stream->id = ph_wt_stream_id(wt_stream);
    ph_wt_stream_set_user(wt_stream, stream);
}

static void on_opened(void *self, struct ph_wt_stream *wt_stream)
{
    (void)self;
    struct client_stream *stream = ph_wt_stream_user(wt_stream);
    stream->opened = true;
    stream->id = ph_wt_stream_id(wt_stream);
}

static void on_data(void *self, struct ph_wt_stream *wt_stream, const uint8_t *data, size_t n,
                    bool fin)
{
    (void)self;
    struct client_stream *stream = ph_wt_stream_user(wt_stream);
    append(&stream->data, &stream->len, &stream->cap, data, n);
    stream->fin = stream->fin || fin;
    if (stream->hold)
        stream->held += n;
    else
        ph_wt_stream_consume(wt_stream, n);
}

static void on_reset(void *self, struct ph_wt_stream *wt_stream, bool has_code, uint32_t code)
{
    (void)self;
    struct client_stream *stream = ph_wt_stream_user(wt_stream);
    stream->reset = true;
    stream->reset_code = has_code ? code : UINT32_MAX;
}

static void on_stop(void *self, struct ph_wt_stream *wt_stream, bool has_code, uint32_t code)
{
    (void)self;
    struct client_stream *stream = ph_wt_stream_user(wt_stream);
    stream->stopped = true;
    stream->stop_code = has_code ? code : UINT32_MAX;
}

static void on_acked(void *self, struct ph_wt_stream *wt_stream, size_t n)
{
    (void)self;
    ((struct client_stream *)ph_wt_stream_user(wt_stream))->acked += n;
}

static void on_stream_closed(void *self, struct ph_wt_stream *wt_stream)
{
    (void)self;
    struct client_stream *stream = ph_wt_stream_user(wt_stream);
    stream->wt = NULL;
    stream->closed = true;
    if (stream->held > 0 && stream->session->wt != NULL)
        ph_wt_session_consume(stream->session->wt, stream->held);
    stream->held = 0;
    if (stream->by_peer && stream->session->wt != NULL)
        ph_wt_session_stream_done(stream->session->wt, !ph_quic_id_is_uni(stream->id));
}

static void on_datagram(void *self, struct ph_wt_session *wt, const uint8_t *data, size_t n)
{
    (void)self;
    struct client_session *session = ph_wt_session_user(wt);
    session->datagrams++;
    session->datagram_bytes += n;
    session->datagram_len = PH_MIN(n, sizeof(session->datagram));
    if (n > 0)
        memcpy(session->datagram, data, session->datagram_len);
}

static void on_datagrams_left(void *self, struct ph_wt_session *wt, size_t n)
{
    (void)self;
    (void)wt;
    (void)n;
}

static void on_drain(void *self, struct ph_wt_session *wt, bool local)
{
    (void)self;
    ((struct client_session *)ph_wt_session_user(wt))->drain |= !local;
}

static void on_session(void *self, struct ph_wt_session *wt)
{
    (void)self;
    (void)wt;
    abort(); /* servers do not ask for sessions */
}

/* --- Requests --- */

static void on_settings(void *self, struct ph_h3_conn *conn)
{
    struct client *client = self;
    client->settings = true;
    client->conn = conn;
}

static void keep_field(const struct ph_head *head, const char *name, char *out, size_t cap)
{
    const struct ph_field *field = ph_fields_get(&head->fields, name);
    if (field != NULL)
        snprintf(out, cap, "%s", field->value);
}

static void on_response(void *self, struct ph_h3_request *h3, const struct ph_head *head)
{
    (void)self;
    struct client_request *request = ph_h3_request_user(h3);
    request->status = head->status;
    keep_field(head, "server", request->server, sizeof(request->server));
    keep_field(head, "date", request->date, sizeof(request->date));
    keep_field(head, "content-type", request->content_type, sizeof(request->content_type));
}

static void on_body(void *self, struct ph_h3_request *h3, const uint8_t *data, size_t n)
{
    (void)self;
    struct client_request *request = ph_h3_request_user(h3);
    append(&request->body, &request->len, &request->cap, data, n);
    ph_h3_request_consume(h3, n);
}

static void on_trailers(void *self, struct ph_h3_request *h3, const struct ph_fields *fields)
{
    (void)self;
    (void)h3;
    (void)fields;
}

static void on_end(void *self, struct ph_h3_request *h3)
{
    (void)self;
    ((struct client_request *)ph_h3_request_user(h3))->end = true;
}

static void on_closed(void *self, struct ph_h3_request *h3, uint64_t code)
{
    (void)self;
    struct client_request *request = ph_h3_request_user(h3);
    request->closed = true;
    request->code = code;
    request->h3 = NULL;
}

static void on_conn_closed(void *self, struct ph_h3_conn *conn)
{
    struct client *client = self;
    (void)conn;
    client->conn = NULL;
    client->closed = true;
}

/* --- Life --- */

static ssize_t send_packets(void *self, const struct ph_path *path, uint8_t ecn,
                            const uint8_t *data, size_t n, size_t segment)
{
    struct client *client = self;
    return ph_udp_send(client->udp, path, ecn, data, n, segment, &client->stats);
}

static void make_engines(struct client *client)
{
    struct ph_wt_config wt_config;
    struct ph_wt_sink wt_sink = {
        .self = client,
        .on_session = on_session,
        .on_session_ready = on_session_ready,
        .on_stream = on_stream,
        .on_opened = on_opened,
        .on_data = on_data,
        .on_reset = on_reset,
        .on_stop = on_stop,
        .on_acked = on_acked,
        .on_stream_closed = on_stream_closed,
        .on_datagram = on_datagram,
        .on_datagrams_left = on_datagrams_left,
        .on_drain = on_drain,
        .on_session_closed = on_session_closed,
    };
    ph_wt_config_default(&wt_config);
    client->wt = ph_wt_new(&wt_config, &wt_sink, &client->stats);
    struct ph_h3_ext ext;
    ph_wt_h3_ext(client->wt, &ext);
    struct ph_h3_config h3_config;
    struct ph_exchange_sink no_requests = {.self = client};
    ph_h3_config_default(&h3_config);
    h3_config.webtransport = true;
    client->h3 = ph_h3_new(&h3_config, &no_requests, &ext, &client->stats);
    struct ph_h3_client_sink client_sink = {
        .self = client,
        .on_settings = on_settings,
        .on_response = on_response,
        .on_body = on_body,
        .on_trailers = on_trailers,
        .on_end = on_end,
        .on_closed = on_closed,
        .on_conn_closed = on_conn_closed,
    };
    ph_h3_set_client_sink(client->h3, &client_sink);
    struct ph_quic_config quic_config;
    struct ph_quic_sink quic_sink;
    struct ph_quic_out out = {.self = client, .send = send_packets};
    struct ph_err err = {""};
    ph_quic_config_default(&quic_config);
    quic_config.alpn = "h3";
    ph_random(quic_config.secret, sizeof(quic_config.secret));
    ph_h3_quic_sink(client->h3, &quic_sink);
    int rc = ph_quic_endpoint_new(&client->endpoint, &quic_config, &quic_sink, &out, &client->stats,
                                  client->now, &err);
    PH_ASSERT(rc == 0);
}

void client_init(struct client *client, const struct ph_addr *remote)
{
    *client = (struct client){.remote = *remote, .now = ph_clock_now()};
    struct ph_udp_options options = {.buffer_bytes = 1 << 20};
    struct ph_err err = {""};
    bool v6 = remote->u.sa.sa_family == AF_INET6;
    int rc = ph_addr_parse(&client->local, v6 ? "::1" : "127.0.0.1", 0);
    PH_ASSERT(rc == 0);
    rc = ph_udp_open(&client->udp, &client->local, &options, &err);
    PH_ASSERT(rc == 0);
    rc = ph_tls_cred_client(&client->cred, NULL, &err);
    PH_ASSERT(rc == 0);
    make_engines(client);
    struct ph_path path = {.local = client->local, .remote = client->remote, .sock = client};
    struct ph_quic_conn *conn = NULL;
    rc = ph_quic_endpoint_connect(client->endpoint, &conn, &path, client->cred, "localhost",
                                  client->now);
    PH_ASSERT(rc == 0);
    client_turn(client);
}

void client_close(struct client *client, uint64_t code)
{
    ph_quic_endpoint_close(client->endpoint, code, client->now);
    client_turn(client);
}

static void free_records(struct client *client)
{
    while (client->streams != NULL) {
        struct client_stream *stream = client->streams;
        client->streams = stream->next;
        ph_free(stream->data);
        ph_free(stream);
    }
    while (client->sessions != NULL) {
        struct client_session *session = client->sessions;
        client->sessions = session->next;
        ph_free(session);
    }
    while (client->requests != NULL) {
        struct client_request *request = client->requests;
        client->requests = request->next;
        ph_free(request->body);
        ph_free(request);
    }
}

void client_fini(struct client *client)
{
    client_close(client, PH_H3_NO_ERROR);
    ph_quic_endpoint_free(client->endpoint);
    ph_h3_free(client->h3);
    ph_wt_free(client->wt);
    ph_tls_cred_unref(client->cred);
    ph_udp_close(client->udp);
    free_records(client);
}

void client_move(struct client *client)
{
    struct ph_udp_options options = {.buffer_bytes = 1 << 20};
    struct ph_addr addr = client->local;
    struct ph_err err = {""};
    ph_udp_close(client->udp);
    ph_addr_set_port(&addr, 0);
    int rc = ph_udp_open(&client->udp, &addr, &options, &err);
    PH_ASSERT(rc == 0);
}

int client_fd(const struct client *client)
{
    return ph_udp_fd(client->udp);
}

static uint64_t next_deadline(const struct client *client)
{
    uint64_t at = ph_quic_endpoint_next(client->endpoint);
    at = PH_MIN(at, ph_h3_next(client->h3));
    return PH_MIN(at, ph_wt_next(client->wt));
}

int client_timeout(const struct client *client, int max_ms)
{
    uint64_t at = next_deadline(client), now = ph_clock_now();
    if (at <= now)
        return 0;
    uint64_t ms = (at - now + PH_MSEC - 1) / PH_MSEC;
    return ms < (uint64_t)max_ms ? (int)ms : max_ms;
}

static void on_packet(void *self, const struct ph_udp_packet *packet)
{
    struct client *client = self;
    struct ph_path path = packet->path;
    path.local = client->local; /* it does not know that it moved */
    path.sock = client;
    ph_quic_endpoint_feed(client->endpoint, &path, packet->ecn, packet->data, packet->n,
                          client->now);
}

void client_turn(struct client *client)
{
    client->now = ph_clock_now();
    ph_quic_endpoint_writable(client->endpoint, client);
    ph_udp_recv(client->udp, 64, on_packet, client, &client->stats);
    if (ph_quic_endpoint_next(client->endpoint) <= client->now)
        ph_quic_endpoint_expire(client->endpoint, client->now);
    if (ph_h3_next(client->h3) <= client->now)
        ph_h3_expire(client->h3, client->now);
    if (ph_wt_next(client->wt) <= client->now)
        ph_wt_expire(client->wt, client->now);
    ph_quic_endpoint_flush(client->endpoint, client->now);
    ph_quic_endpoint_reap(client->endpoint);
}

/* --- Acting --- */

static const char *authority(const struct client *client, char *out, size_t cap)
{
    snprintf(out, cap, "localhost:%u", ph_addr_port(&client->remote));
    return out;
}

struct client_session *client_session(struct client *client, const char *path,
                                      const struct ph_field *fields, size_t n,
                                      const char *const *offered, size_t offered_len)
{
    char name[64];
    if (client->conn == NULL)
        return NULL;
    struct client_session *session = ph_alloc(sizeof(*session));
    session->client = client;
    session->next = client->sessions;
    client->sessions = session;
    session->wt = ph_wt_connect(client->wt, client->conn, authority(client, name, sizeof(name)),
                                path, fields, n, offered, offered_len, session);
    if (session->wt == NULL && !session->closed) {
        client->sessions = session->next;
        ph_free(session);
        return NULL;
    }
    return session;
}

struct client_stream *client_open(struct client_session *session, bool bidi)
{
    if (session->wt == NULL)
        return NULL;
    struct client_stream *stream = stream_new(session, false);
    stream->wt = ph_wt_session_open(session->wt, bidi, stream);
    return stream;
}

void client_write(struct client_stream *stream, const void *data, size_t n, bool fin)
{
    struct ph_slice slice = {.buf = NULL};
    if (n > 0)
        slice = ph_slice_of(ph_buf_copy(data, n));
    if (stream->wt != NULL)
        ph_wt_stream_write(stream->wt, slice, fin);
    else
        ph_buf_unref(slice.buf);
}

void client_resume(struct client_stream *stream)
{
    stream->hold = false;
    if (stream->wt != NULL)
        ph_wt_stream_consume(stream->wt, stream->held);
    stream->held = 0;
}

int client_datagram(struct client_session *session, const void *data, size_t n)
{
    if (session->wt == NULL)
        return PH_E_CLOSED;
    return ph_wt_session_datagram(session->wt, ph_buf_copy(data, n), PH_NEVER);
}

#define FIELD(name, value)                                                                         \
    {                                                                                              \
        name, value, strlen(name), strlen(value)                                                   \
    }

struct client_request *client_request(struct client *client, const char *method, const char *path,
                                      const void *body, size_t n)
{
    char name[64];
    if (client->conn == NULL)
        return NULL;
    authority(client, name, sizeof(name));
    struct ph_field fields[] = {FIELD(":method", method), FIELD(":scheme", "https"),
                                FIELD(":authority", name), FIELD(":path", path)};
    struct client_request *request = ph_alloc(sizeof(*request));
    if (ph_h3_request(client->conn, &request->h3, fields, PH_COUNT_OF(fields), n == 0) < 0) {
        ph_free(request);
        return NULL;
    }
    ph_h3_request_set_user(request->h3, request);
    request->next = client->requests;
    client->requests = request;
    if (n > 0)
        ph_h3_request_data(request->h3, body, n, true);
    return request;
}

struct client_stream *client_peer_stream(const struct client_session *session)
{
    struct client_stream *found = NULL;
    for (struct client_stream *stream = session->client->streams; stream != NULL;
         stream = stream->next) {
        if (stream->session == session && stream->by_peer)
            found = stream; /* the oldest is the last of the list */
    }
    return found;
}
