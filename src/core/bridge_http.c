/*
 * bridge_http.c - exchanges of all versions of HTTP on one side, channels of kind PH_CHAN_HTTP on
 * the other (and those of sessions and WebSockets, once the application has rejected them with a
 * response).
 *
 *      exchange sink -> ph_chan_io_*()          commands -> http_ops -> ph_exchange_*()
 *
 * A request that the application has no room for is answered here with 503 and has no channel.
 *
 * An exchange of HTTP/1.1 or HTTP/2 is answered into the output queue of its TCP connection, which
 * is then touched so that the flush writes it; one of HTTP/3 is scheduled by the QUIC endpoint
 * itself.
 */
#include "core.h"

static const struct ph_chan_ops http_ops;

/* The connection of an exchange over TCP: tcp_front.c put it into the path. NULL for HTTP/3. */
static struct ph_tcp_conn *tcp_of(const struct ph_exchange *ex)
{
    return ex->head.version < 30 ? ex->path.sock : NULL;
}

static void touch(struct ph_tcp_conn *conn)
{
    if (conn != NULL)
        ph_tcp_front_touch(conn);
}

static bool has_field(const struct ph_field *fields, size_t n, const struct ph_field *other)
{
    for (size_t i = 0; i < n; i++) {
        if (ph_text_same(fields[i].name, fields[i].name_len, other->name, other->name_len))
            return true;
    }
    return false;
}

/* How long clients may remember where HTTP/3 is, seconds: a day, as they do by themselves. */
#define ALT_SVC_AGE 86400

void ph_bridge_http_init_alt_svc(struct ph_server *server)
{
    for (size_t i = 0; i < server->udp_n; i++) {
        struct ph_udp_socket *sock = &server->udp[i];
        snprintf(sock->alt_svc, sizeof(sock->alt_svc), "h3=\":%u\"; ma=%d",
                 ph_addr_port(&sock->addr), ALT_SVC_AGE);
    }
}

/* Where the same origin speaks HTTP/3 (RFC 7838, RFC 9114 3.1.1): on the QUIC port of the number
 * that the client came to, if there is one. NULL: it is not told. */
static const char *alt_svc_of(const struct ph_server *server, const struct ph_exchange *ex)
{
    if (server->config->alt_svc == 0 || server->udp_n == 0 || ex->tls == NULL ||
        ex->head.version >= 30)
        return NULL;
    if (server->config->alt_svc_value != NULL)
        return server->config->alt_svc_value;
    for (size_t i = 0; i < server->udp_n; i++) {
        if (ex->path.local.len > 0 &&
            ph_addr_port(&server->udp[i].addr) == ph_addr_port(&ex->path.local))
            return server->udp[i].alt_svc;
    }
    return server->udp[0].alt_svc;
}

void ph_bridge_http_touch(const struct ph_exchange *ex)
{
    touch(tcp_of(ex));
}

/* Appends a field of the server's own if it has a value and the list has none of its name. */
static void add_missing(struct ph_field *list, size_t *count, const char *name, const char *value)
{
    if (value == NULL)
        return;
    const struct ph_field field = {name, value, strlen(name), strlen(value)};
    if (!has_field(list, *count, &field))
        list[(*count)++] = field;
}

/* Those of the option `header` come first: one of them may be in place of one of the server's own,
 * and there may be several of one name. */
struct ph_field *ph_bridge_http_fields(const struct ph_server *server, const struct ph_exchange *ex,
                                       const struct ph_field *fields, size_t n, size_t *out)
{
    const struct ph_config *config = server->config;
    struct ph_field *list = ph_alloc((n + server->headers_n + 3) * sizeof(*list));
    size_t count = n;
    if (n > 0)
        memcpy(list, fields, n * sizeof(*list));
    for (size_t i = 0; i < server->headers_n; i++) {
        if (!has_field(fields, n, &server->headers[i]))
            list[count++] = server->headers[i];
    }
    add_missing(list, &count, "alt-svc", alt_svc_of(server, ex));
    add_missing(list, &count, "date", config->date_header != 0 ? server->date : NULL);
    add_missing(list, &count, "server", config->server_header != 0 ? PH_SERVER_NAME : NULL);
    *out = count;
    return list;
}

static int respond_final(const struct ph_server *server, struct ph_exchange *ex, int status,
                         const struct ph_field *fields, size_t n, bool fin)
{
    size_t count;
    struct ph_field *list = ph_bridge_http_fields(server, ex, fields, n, &count);
    int rc = ph_exchange_respond(ex, status, list, count, fin);
    ph_free(list);
    return rc;
}

/* --- Too much at once --- */

bool ph_bridge_http_is_full(struct ph_server *server)
{
    bool is_busy = server->app_calls >= server->config->max_concurrent_app_calls;
    if (!is_busy && !server->admission.is_short)
        return false;
    if (is_busy)
        ph_count(&server->stats, limit_app_calls);
    else
        ph_count(&server->stats, limit_memory);
    ph_log_limited(&server->refused_log, server->now, PH_LOG_WARNING,
                   "app: request refused status=503 limit=%s",
                   is_busy ? "max_concurrent_app_calls" : ph_admit_name(PH_ADMIT_MEMORY));
    return true;
}

/* The exchange has no channel any more, and what still comes of the request is dropped. */
void ph_bridge_http_answer(const struct ph_server *server, struct ph_exchange *ex, int status,
                           const struct ph_field *extra, const char *text)
{
    char length[24];
    snprintf(length, sizeof(length), "%zu", strlen(text));
    struct ph_field fields[3] = {
        {"content-type", "text/plain; charset=utf-8", 12, 25},
        {"content-length", length, 14, strlen(length)},
    };
    size_t n = 2;
    if (extra != NULL)
        fields[n++] = *extra;
    ex->user = NULL;
    if (respond_final(server, ex, status, fields, n, false) == 0) {
        ph_exchange_write(ex, ph_slice_of(ph_buf_copy(text, strlen(text))), true);
        ph_exchange_stop(ex, PH_H3_NO_ERROR);
    }
    touch(tcp_of(ex));
}

void ph_bridge_http_init_headers(struct ph_server *server)
{
    const struct ph_text_list *given = &server->config->header;
    server->headers = ph_alloc((given->n + 1) * sizeof(*server->headers));
    for (size_t i = 0; i < given->n; i++) {
        struct ph_field *field = &server->headers[server->headers_n++];
        int rc = ph_config_header(given->items[i], field);
        PH_ASSERT(rc == 0); /* checked when it was set */
        for (size_t k = 0; k < field->name_len; k++)
            given->items[i][k] = ph_lower(given->items[i][k]);
    }
}

static void refuse(const struct ph_server *server, struct ph_exchange *ex)
{
    static const struct ph_field retry = {"retry-after", "1", 11, 1};
    ph_bridge_http_answer(server, ex, 503, &retry, "Service Unavailable");
}

void ph_bridge_http_late(struct ph_chan *chan)
{
    static const struct ph_field close = {"connection", "close", 10, 5};
    struct ph_exchange *ex = chan->io.engine.ex;
    struct ph_tcp_conn *conn = tcp_of(ex);
    ex->user = NULL;
    ph_chan_io_closed(chan, false, true, PH_H3_REQUEST_INCOMPLETE, NULL, 0);
    if (ex->out == PH_EX_HEAD)
        ph_bridge_http_answer(chan->server, ex, 408, &close, "Request Timeout");
    else
        ph_exchange_reset(ex, PH_H3_REQUEST_INCOMPLETE);
    touch(conn);
}

/* --- From the engine --- */

void ph_bridge_http_adopt(struct ph_chan *chan, struct ph_exchange *ex)
{
    ex->user = chan;
    chan->io.ops = &http_ops;
    chan->io.engine.ex = ex;
    chan->io.rx_done = true; /* nothing of a rejected CONNECT's body is wanted */
}

static void on_request(void *self, struct ph_exchange *ex)
{
    struct ph_server *server = self;
    if (server->rejecting != NULL) {
        ph_bridge_http_adopt(server->rejecting, ex);
        return;
    }
    if (server->is_refusing || ph_bridge_http_is_full(server)) {
        refuse(server, ex);
        return;
    }
    if (ex->head.protocol[0] != '\0') {
        ph_bridge_ws_request(server, ex);
        return;
    }
    struct ph_chan *chan = ph_chan_new(&server->pipe, PH_CHAN_HTTP, NULL);
    chan->server = server;
    chan->request = ph_chan_request_new(&ex->head, &ex->path, ex->tls);
    ph_chan_request_set_early(chan->request, ex->is_early);
    ph_chan_share(chan, ex->siblings);
    ex->user = chan;
    ph_chan_io_attach(chan, &http_ops, ex);
    ph_count(&server->stats, requests);
    server->app_calls++;
    ph_pace_begin(chan, ph_fields_get(&ex->head.fields, "expect") != NULL);
    ph_chan_io_pend(chan, PH_PEND_ANNOUNCE);
}

static void on_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    (void)self;
    if (ex->user == NULL) {
        ph_exchange_consume(ex, n);
        return;
    }
    ph_pace_moved(ex->user, n);
    ph_chan_io_data(ex->user, data, n);
}

static void on_trailers(void *self, struct ph_exchange *ex, const struct ph_fields *fields)
{
    (void)self;
    if (ex->user != NULL)
        ph_chan_io_trailers(ex->user, fields->list, fields->count);
}

static void on_end(void *self, struct ph_exchange *ex)
{
    (void)self;
    if (ex->user != NULL)
        ph_chan_io_fin(ex->user);
}

static void on_acked(void *self, struct ph_exchange *ex, size_t n)
{
    (void)self;
    if (ex->user != NULL)
        ph_chan_io_acked(ex->user, n);
}

static void on_closed(void *self, struct ph_exchange *ex, bool clean, uint64_t code)
{
    (void)self;
    struct ph_chan *chan = ex->user;
    if (chan != NULL)
        ph_chan_io_closed(chan, clean, chan->io.reset_sent, code, NULL, 0);
}

void ph_bridge_http_sink(struct ph_server *server, struct ph_exchange_sink *out)
{
    *out = (struct ph_exchange_sink){
        .self = server,
        .on_request = on_request,
        .on_body = on_body,
        .on_trailers = on_trailers,
        .on_end = on_end,
        .on_acked = on_acked,
        .on_closed = on_closed,
    };
}

/* --- To the engine --- */

/* The response could not be made as asked: the client must not take what it got for whole. */
static void give_up(struct ph_chan *chan, int rc)
{
    if (rc == PH_E_CLOSED || chan->io.engine.ex == NULL)
        return;
    ph_log(PH_LOG_WARNING, "http: response aborted error=\"%s\"", ph_strerror(rc));
    ph_exchange_reset(chan->io.engine.ex, PH_H3_INTERNAL_ERROR);
}

void ph_bridge_http_respond(struct ph_chan *chan, int status, const struct ph_field *fields,
                            size_t n, unsigned flags)
{
    struct ph_tcp_conn *conn = tcp_of(chan->io.engine.ex);
    bool fin = (flags & PH_MSG_FIN) != 0;
    int rc;
    chan->io.fin_out = chan->io.fin_out || fin;
    if (status < 200)
        rc = ph_exchange_respond(chan->io.engine.ex, status, fields, n, false);
    else
        rc = respond_final(chan->server, chan->io.engine.ex, status, fields, n, fin);
    if (rc < 0)
        give_up(chan, rc);
    touch(conn);
}

static int http_write(struct ph_chan *chan, struct ph_slice slice, bool fin)
{
    struct ph_tcp_conn *conn = tcp_of(chan->io.engine.ex);
    int rc = ph_exchange_write(chan->io.engine.ex, slice, fin);
    if (rc < 0)
        give_up(chan, rc);
    touch(conn);
    return rc;
}

/* The socket of HTTP/1.1 in cleartext takes a file as it is. */
static bool http_file(struct ph_chan *chan, int fd, uint64_t offset, size_t n, bool fin)
{
    struct ph_exchange *ex = chan->io.engine.ex;
    struct ph_tcp_conn *conn = tcp_of(ex);
    if (ex->head.version >= 20 || ex->tls != NULL)
        return false;
    int rc = ph_exchange_write(ex, ph_slice_of(ph_buf_file(fd, offset, n)), fin);
    if (rc < 0) {
        give_up(chan, rc);
        ph_chan_io_acked(chan, n);
    }
    touch(conn);
    return true;
}

static void http_trailers(struct ph_chan *chan, const struct ph_field *fields, size_t n)
{
    struct ph_tcp_conn *conn = tcp_of(chan->io.engine.ex);
    int rc = ph_exchange_trailers(chan->io.engine.ex, fields, n);
    if (rc < 0)
        give_up(chan, rc);
    touch(conn);
}

static void http_consume(struct ph_chan *chan, size_t n)
{
    if (chan->io.engine.ex == NULL)
        return; /* credit of an exchange that is over went back with it */
    struct ph_tcp_conn *conn = tcp_of(chan->io.engine.ex);
    ph_exchange_consume(chan->io.engine.ex, n);
    touch(conn);
}

static void http_reset(struct ph_chan *chan, uint64_t code)
{
    struct ph_tcp_conn *conn = tcp_of(chan->io.engine.ex);
    ph_exchange_reset(chan->io.engine.ex, code);
    touch(conn);
}

static void http_stop(struct ph_chan *chan, uint64_t code)
{
    struct ph_tcp_conn *conn = tcp_of(chan->io.engine.ex);
    ph_exchange_stop(chan->io.engine.ex, code);
    touch(conn);
}

/* What was finished goes out; an unfinished response is cut, so that the client can tell. */
static void http_release(struct ph_chan *chan)
{
    if (!chan->io.fin_out && !chan->io.reset_sent)
        http_reset(chan, PH_H3_INTERNAL_ERROR);
    else if (!chan->io.rx_ended && chan->kind == PH_CHAN_HTTP)
        http_stop(chan, PH_H3_NO_ERROR); /* RFC 9114 4.1: the rest of the request is not needed */
}

static const struct ph_chan_ops http_ops = {
    .respond = ph_bridge_http_respond,
    .write = http_write,
    .file = http_file,
    .trailers = http_trailers,
    .consume = http_consume,
    .reset = http_reset,
    .stop = http_stop,
    .release = http_release,
};
