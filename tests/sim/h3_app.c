/* h3_app.c - HTTP/3 over the simulated network; see h3_app.h. */
#include "h3_app.h"

#include <stdlib.h>

enum { PIECE = 10000, PATTERN_SALT = 77 };

static void log_body(struct h3_log *log, const uint8_t *data, size_t n)
{
    if (log->body_len + n > log->body_cap) {
        log->body_cap = PH_MAX(log->body_cap * 2, log->body_len + n);
        log->body = ph_realloc(log->body, log->body_cap);
    }
    memcpy(log->body + log->body_len, data, n);
    log->body_len += n;
}

static void log_trailers(struct h3_log *log, const struct ph_fields *fields)
{
    log->trailer_sections++;
    if (fields->count > 0)
        snprintf(log->trailer, sizeof(log->trailer), "%s: %s", fields->list[0].name,
                 fields->list[0].value);
}

bool h3_log_is(const struct h3_log *log, const char *text)
{
    return log->body_len == strlen(text) && memcmp(log->body, text, log->body_len) == 0;
}

bool h3_log_is_pattern(const struct h3_log *log, size_t n)
{
    struct quic_log body = {.rx = log->body, .rx_len = log->body_len};
    return quic_is_pattern(&body, n, PATTERN_SALT);
}

/* --- Server --- */

static void write_text(struct ph_exchange *ex, const void *data, size_t n, bool fin)
{
    struct ph_slice slice = {.buf = NULL};
    if (n > 0)
        slice = ph_slice_of(ph_buf_copy(data, n));
    ph_exchange_write(ex, slice, fin);
}

static void write_pattern(struct ph_exchange *ex, size_t n)
{
    struct ph_buf *buf = ph_buf_new(n);
    quic_pattern(ph_buf_data(buf), n, PATTERN_SALT);
    ph_buf_set_len(buf, n);
    ph_exchange_respond(ex, 200, NULL, 0, false);
    for (size_t at = 0; at < n; at += PIECE)
        ph_exchange_write(ex,
                          (struct ph_slice){.buf = ph_buf_ref(buf),
                                            .p = ph_buf_data(buf) + at,
                                            .n = PH_MIN((size_t)PIECE, n - at)},
                          n - at <= PIECE);
    ph_buf_unref(buf);
}

static void on_request(void *self, struct ph_exchange *ex)
{
    struct h3_world *world = self;
    PH_ASSERT(world->requests_count < H3_LOGS);
    struct h3_log *log = ph_alloc(sizeof(*log));
    static const struct ph_field length = H3_FIELD("content-length", "5");
    log->world = world;
    log->ex = ex;
    log->heads = 1;
    snprintf(log->method, sizeof(log->method), "%s", ex->head.method);
    snprintf(log->target, sizeof(log->target), "%s", ex->head.target);
    world->requests[world->requests_count++] = log;
    ex->user = log;
    if (strcmp(log->target, "/wait") == 0 || strcmp(log->target, "/hold") == 0 ||
        strcmp(log->target, "/echo") == 0)
        return;
    if (strncmp(log->target, "/bytes/", 7) == 0) {
        write_pattern(ex, strtoul(log->target + 7, NULL, 10));
    } else if (strcmp(log->target, "/reset") == 0) {
        ph_exchange_reset(ex, PH_H3_INTERNAL_ERROR);
    } else {
        ph_exchange_respond(ex, 200, &length, 1, false);
        write_text(ex, "hello", 5, true);
    }
}

static void on_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    struct h3_log *log = ex->user;
    (void)self;
    PH_ASSERT(log->closes == 0 && log->ends == 0);
    log_body(log, data, n);
    if (strcmp(log->target, "/hold") == 0)
        log->held += n;
    else
        ph_exchange_consume(ex, n);
}

static void on_trailers(void *self, struct ph_exchange *ex, const struct ph_fields *fields)
{
    struct h3_log *log = ex->user;
    (void)self;
    PH_ASSERT(log->closes == 0 && log->ends == 0);
    log_trailers(log, fields);
}

static void on_end(void *self, struct ph_exchange *ex)
{
    struct h3_log *log = ex->user;
    (void)self;
    PH_ASSERT(log->closes == 0);
    log->ends++;
    if (strcmp(log->target, "/echo") != 0)
        return;
    ph_exchange_respond(ex, 200, NULL, 0, false);
    write_text(ex, log->body, log->body_len, log->trailer_sections == 0);
    if (log->trailer_sections > 0) {
        static const struct ph_field trailer = H3_FIELD("x-sum", "42");
        ph_exchange_trailers(ex, &trailer, 1);
    }
}

static void on_acked(void *self, struct ph_exchange *ex, size_t n)
{
    struct h3_log *log = ex->user;
    (void)self;
    PH_ASSERT(log->closes == 0);
    log->acked += n;
}

static void on_closed(void *self, struct ph_exchange *ex, bool clean, uint64_t code)
{
    struct h3_log *log = ex->user;
    (void)self;
    log->closes++;
    log->clean = clean;
    log->code = code;
    log->ex = NULL;
}

/* --- Server extension --- */

static const struct ph_h3_claim_ops claim_ops;

struct claim {
    struct ph_h3_claim claim;
    struct h3_world *world;
    struct ph_quic_stream *quic;
};

static void claim_data(struct ph_h3_claim *claim, const uint8_t *data, size_t n, bool fin)
{
    struct claim *own = PH_CONTAINER(claim, struct claim, claim);
    struct h3_world *world = own->world;
    PH_ASSERT(world->claim_len + n <= sizeof(world->claim_data));
    memcpy(world->claim_data + world->claim_len, data, n);
    world->claim_len += n;
    world->claim_fin |= fin;
    ph_quic_stream_consume(own->quic, n);
    if (fin)
        ph_quic_stream_fin(own->quic);
}

static void claim_reset(struct ph_h3_claim *claim, uint64_t code, uint64_t final_size)
{
    struct claim *own = PH_CONTAINER(claim, struct claim, claim);
    (void)code;
    (void)final_size;
    own->world->claim_reset = true;
    ph_quic_stream_reset(own->quic, PH_H3_REQUEST_CANCELLED);
}

static void claim_stop(struct ph_h3_claim *claim, uint64_t code)
{
    (void)claim;
    (void)code;
}

static void claim_acked(struct ph_h3_claim *claim, size_t n)
{
    (void)claim;
    (void)n;
}

static void claim_closed(struct ph_h3_claim *claim)
{
    struct claim *own = PH_CONTAINER(claim, struct claim, claim);
    own->world->claim_ends++;
    ph_free(own);
}

static const struct ph_h3_claim_ops claim_ops = {
    .on_data = claim_data,
    .on_reset = claim_reset,
    .on_stop = claim_stop,
    .on_acked = claim_acked,
    .on_closed = claim_closed,
};

static void *ext_conn(void *self, struct ph_h3_conn *conn)
{
    struct h3_world *world = self;
    world->ext_conn = conn;
    return world;
}

static void ext_goaway(void *self, struct ph_h3_conn *conn)
{
    struct h3_world *world = self;
    PH_ASSERT(ph_h3_conn_ext(conn) == world);
    world->goaways++;
}

static void ext_conn_closed(void *self, struct ph_h3_conn *conn)
{
    struct h3_world *world = self;
    PH_ASSERT(ph_h3_conn_ext(conn) == world);
    PH_ASSERT(world->connects == world->connect_closes || world->refuse_connect);
    PH_ASSERT(world->claims == world->claim_ends);
    world->ext_conn = NULL;
}

static struct ph_h3_claim *ext_stream(void *self, struct ph_h3_conn *conn,
                                      struct ph_quic_stream *stream, uint64_t type)
{
    struct h3_world *world = self;
    (void)conn;
    world->claim_type = type;
    if (world->refuse_stream)
        return NULL;
    struct claim *own = ph_alloc(sizeof(*own));
    own->claim.ops = &claim_ops;
    own->world = world;
    own->quic = stream;
    world->claims++;
    return &own->claim;
}

static bool ext_connect(void *self, struct ph_h3_conn *conn, struct ph_h3_request *request,
                        const struct ph_head *head)
{
    struct h3_world *world = self;
    PH_ASSERT(ph_h3_conn_settings(conn) != NULL);
    if (strcmp(head->protocol, "webtransport") != 0)
        return false;
    world->connects++;
    if (world->refuse_connect) {
        ph_h3_request_to_exchange(request);
        return true;
    }
    world->connect = request;
    ph_h3_request_set_user(request, world);
    ph_h3_request_respond(request, 200, NULL, 0, false);
    if (world->reset_connect)
        ph_h3_request_reset(request, PH_H3_INTERNAL_ERROR);
    return true;
}

static void ext_request_data(void *self, struct ph_h3_request *request, const uint8_t *data,
                             size_t n)
{
    struct h3_world *world = self;
    PH_ASSERT(ph_h3_request_user(request) == world);
    PH_ASSERT(world->connect_len + n <= sizeof(world->connect_data));
    memcpy(world->connect_data + world->connect_len, data, n);
    world->connect_len += n;
    ph_h3_request_consume(request, n);
}

static void ext_request_end(void *self, struct ph_h3_request *request)
{
    struct h3_world *world = self;
    world->connect_ends++;
    ph_h3_request_data(request, NULL, 0, true);
}

static void ext_request_stop(void *self, struct ph_h3_request *request, uint64_t code)
{
    struct h3_world *world = self;
    world->connect_stops++;
    ph_h3_request_reset(request, code);
}

static void ext_request_closed(void *self, struct ph_h3_request *request, uint64_t code,
                               bool by_reset)
{
    struct h3_world *world = self;
    PH_ASSERT(ph_h3_request_user(request) == world);
    world->connect_closes++;
    world->connect_code = code;
    world->connect_by_reset = by_reset;
    world->connect = NULL;
}

static void ext_datagram(void *self, struct ph_h3_conn *conn, uint64_t stream_id,
                         const uint8_t *data, size_t n)
{
    struct h3_world *world = self;
    (void)conn;
    (void)data;
    (void)n;
    world->datagrams++;
    world->datagram_stream = stream_id;
}

void h3_world_use_ext(struct h3_world *world)
{
    world->has_ext = true;
    world->ext = (struct ph_h3_ext){
        .self = world,
        .on_conn = ext_conn,
        .on_goaway = ext_goaway,
        .on_conn_closed = ext_conn_closed,
        .on_stream = ext_stream,
        .on_connect = ext_connect,
        .on_request_data = ext_request_data,
        .on_request_end = ext_request_end,
        .on_request_stop = ext_request_stop,
        .on_request_closed = ext_request_closed,
        .on_datagram = ext_datagram,
    };
}

/* --- Client --- */

static void client_settings(void *self, struct ph_h3_conn *conn)
{
    struct h3_world *world = self;
    world->settings++;
    world->conn = conn;
}

static void client_response(void *self, struct ph_h3_request *request, const struct ph_head *head)
{
    struct h3_log *log = ph_h3_request_user(request);
    (void)self;
    PH_ASSERT(log->closes == 0);
    log->heads++;
    log->status = head->status;
}

static void client_body(void *self, struct ph_h3_request *request, const uint8_t *data, size_t n)
{
    struct h3_world *world = self;
    struct h3_log *log = ph_h3_request_user(request);
    PH_ASSERT(log->closes == 0 && log->heads > 0);
    log_body(log, data, n);
    if (world->hold_client)
        log->held += n;
    else
        ph_h3_request_consume(request, n);
}

static void client_trailers(void *self, struct ph_h3_request *request,
                            const struct ph_fields *fields)
{
    (void)self;
    log_trailers(ph_h3_request_user(request), fields);
}

static void client_end(void *self, struct ph_h3_request *request)
{
    struct h3_log *log = ph_h3_request_user(request);
    (void)self;
    log->ends++;
}

static void client_closed(void *self, struct ph_h3_request *request, uint64_t code)
{
    struct h3_log *log = ph_h3_request_user(request);
    (void)self;
    log->closes++;
    log->code = code;
    log->req = NULL;
}

static void client_conn_closed(void *self, struct ph_h3_conn *conn)
{
    struct h3_world *world = self;
    (void)conn;
    world->conn_closes++;
    world->conn = NULL;
}

struct h3_log *h3_send(struct h3_world *world, const char *method, const char *target,
                       const struct ph_field *more, size_t n, bool fin)
{
    struct ph_field fields[120] = {
        {":method", method, 7, strlen(method)},
        H3_FIELD(":scheme", "https"),
        H3_FIELD(":authority", "localhost"),
        {":path", target, 5, strlen(target)},
    };
    PH_ASSERT(n + 4 <= PH_COUNT_OF(fields) && world->responses_count < H3_LOGS);
    if (n > 0)
        memcpy(fields + 4, more, n * sizeof(*more));
    struct h3_log *log = ph_alloc(sizeof(*log));
    world->responses[world->responses_count++] = log;
    log->world = world;
    if (world->conn == NULL || ph_h3_request(world->conn, &log->req, fields, 4 + n, fin) != PH_OK) {
        log->closes = 1;
        log->code = PH_H3_REQUEST_REJECTED;
        return log;
    }
    ph_h3_request_set_user(log->req, log);
    return log;
}

/* --- World --- */

static void upper_expire(void *upper, uint64_t now)
{
    ph_h3_expire(upper, now);
}

static uint64_t upper_next(const void *upper)
{
    return ph_h3_next(upper);
}

static void attach(struct sim_node *node, struct ph_h3 *h3)
{
    node->upper = h3;
    node->upper_expire = upper_expire;
    node->upper_next = upper_next;
}

void h3_world_init(struct h3_world *world, uint64_t seed, const struct sim_link *link)
{
    *world = (struct h3_world){.sim = sim_new(seed, link)};
    world->server_cred = sim_cred_server();
    world->client_cred = sim_cred_client();
    ph_quic_config_default(&world->server_quic);
    ph_quic_config_default(&world->client_quic);
    world->server_quic.cred = world->server_cred;
    memset(world->server_quic.secret, 0x33, sizeof(world->server_quic.secret));
    ph_h3_config_default(&world->server_config);
    ph_h3_config_default(&world->client_config);
    world->client_config.max_body = 0;
    quic_app_init(&world->raw);
}

static bool is_up(void *arg)
{
    const struct h3_world *world = arg;
    bool both = world->client != NULL && world->server != NULL;
    return both ? world->settings > 0 : world->raw.handshakes > 0;
}

void h3_world_start(struct h3_world *world, enum h3_world_kind kind)
{
    struct ph_exchange_sink sink = {.self = world,
                                    .on_request = on_request,
                                    .on_body = on_body,
                                    .on_trailers = on_trailers,
                                    .on_end = on_end,
                                    .on_acked = on_acked,
                                    .on_closed = on_closed};
    struct ph_h3_client_sink client = {.self = world,
                                       .on_settings = client_settings,
                                       .on_response = client_response,
                                       .on_body = client_body,
                                       .on_trailers = client_trailers,
                                       .on_end = client_end,
                                       .on_closed = client_closed,
                                       .on_conn_closed = client_conn_closed};
    struct ph_quic_sink quic_sink;
    struct ph_quic_conn *conn = NULL;
    if (kind == H3_RAW_SERVER) {
        world->server_node = sim_node_new(world->sim, &world->server_quic, &world->raw.sink);
    } else {
        world->server = ph_h3_new(&world->server_config, &sink, world->has_ext ? &world->ext : NULL,
                                  &world->stats);
        ph_h3_quic_sink(world->server, &quic_sink);
        world->server_node = sim_node_new(world->sim, &world->server_quic, &quic_sink);
        attach(world->server_node, world->server);
    }
    if (kind == H3_RAW) {
        world->client_node = sim_node_new(world->sim, &world->client_quic, &world->raw.sink);
    } else {
        world->client =
            ph_h3_new(&world->client_config, NULL, world->client_ext, &world->client_stats);
        ph_h3_set_client_sink(world->client, &client);
        ph_h3_quic_sink(world->client, &quic_sink);
        world->client_node = sim_node_new(world->sim, &world->client_quic, &quic_sink);
        attach(world->client_node, world->client);
    }
    PH_ASSERT(sim_connect(world->client_node, world->server_node, world->client_cred, &conn) ==
              PH_OK);
    PH_ASSERT(sim_run_until(world->sim, is_up, world, 20 * PH_SEC));
}

static void logs_free(struct h3_log **logs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ph_free(logs[i]->body);
        ph_free(logs[i]);
    }
}

void h3_world_fini(struct h3_world *world)
{
    sim_free(world->sim);
    ph_h3_free(world->server);
    ph_h3_free(world->client);
    quic_app_fini(&world->raw);
    ph_tls_cred_unref(world->server_cred);
    ph_tls_cred_unref(world->client_cred);
    logs_free(world->requests, world->requests_count);
    logs_free(world->responses, world->responses_count);
}

struct quiet {
    struct h3_world *world;
    uint64_t packets, since;
};

static bool is_quiet(void *arg)
{
    struct quiet *quiet = arg;
    const struct h3_world *world = quiet->world;
    uint64_t packets = world->server_node->packets_out + world->client_node->packets_out;
    if (packets != quiet->packets) {
        quiet->packets = packets;
        quiet->since = world->sim->now;
    }
    return world->sim->now - quiet->since >= PH_SEC;
}

void h3_run(struct h3_world *world, uint64_t limit)
{
    struct quiet quiet = {.world = world, .since = world->sim->now};
    uint64_t until = world->sim->now + limit;
    while (world->sim->now < until && !is_quiet(&quiet))
        sim_run_until(world->sim, is_quiet, &quiet, PH_MIN(until - world->sim->now, 500 * PH_MSEC));
}

/* --- Raw --- */

struct quic_log *h3_raw_open(struct h3_world *world, bool bidi, const void *data, size_t n,
                             bool fin)
{
    struct quic_log *log = quic_app_open(&world->raw, bidi);
    PH_ASSERT(log != NULL);
    ph_quic_stream_write_copy(log->stream, data, n);
    if (fin)
        ph_quic_stream_fin(log->stream);
    return log;
}

void h3_raw_datagram(struct h3_world *world, const void *data, size_t n)
{
    struct ph_quic_dgramq q = {0};
    const uint8_t *p = data;
    PH_ASSERT(n >= 2);
    ph_quic_dgramq_init(&q, world->raw.conn, p, 1, 4, 4096);
    ph_quic_dgramq_push(&q, ph_buf_copy(p + 1, n - 1), PH_NEVER);
    h3_run(world, 5 * PH_SEC);
    ph_quic_dgramq_fini(&q);
}

size_t h3_raw_head(uint8_t *out, size_t cap, const struct ph_field *fields, size_t n)
{
    struct ph_qpack *qpack = ph_qpack_new();
    struct ph_buf *buf = ph_qpack_encode(qpack, 0, fields, n);
    size_t len = ph_buf_len(buf);
    PH_ASSERT(len <= cap);
    memcpy(out, ph_buf_data(buf), len);
    ph_buf_unref(buf);
    ph_qpack_free(qpack);
    return len;
}

size_t h3_raw_request(uint8_t *out, size_t cap, const char *method, const char *target)
{
    struct ph_field fields[] = {
        {":method", method, 7, strlen(method)},
        H3_FIELD(":scheme", "https"),
        H3_FIELD(":authority", "localhost"),
        {":path", target, 5, strlen(target)},
    };
    return h3_raw_head(out, cap, fields, PH_COUNT_OF(fields));
}

int h3_raw_status(const struct quic_log *log)
{
    static const struct ph_http_limits limits = {65536, 100, 8192};
    struct ph_h3_frame_reader reader = {0};
    const uint8_t *p = log->rx, *piece = NULL;
    size_t n = 0;
    if (log->rx_len == 0 || !ph_h3_frame_next(&reader, &p, log->rx + log->rx_len, &piece, &n))
        return 0;
    struct ph_qpack *qpack = ph_qpack_new();
    struct ph_head_builder builder;
    int status = -1;
    ph_head_builder_init(&builder, &limits, true);
    if (reader.type == PH_H3_HEADERS && reader.left == 0 &&
        ph_qpack_decode(qpack, 0, piece, n, &builder) == 0 && ph_head_builder_finish(&builder) == 0)
        status = builder.head.status;
    ph_head_builder_fini(&builder);
    ph_qpack_free(qpack);
    return status;
}

uint64_t h3_raw_closed(const struct h3_world *world)
{
    return world->raw.closed > 0 && world->raw.end.app ? world->raw.end.code : 0;
}
