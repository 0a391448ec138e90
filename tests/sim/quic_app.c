/* quic_app.c - an owner of QUIC connections for simulations; see quic_app.h. */
#include "quic_app.h"

const struct sim_link quic_clean_link = {.delay = 10 * PH_MSEC};

void quic_pattern(uint8_t *out, size_t n, uint64_t salt)
{
    struct sim_rng rng = {.state = salt * 7919 + 1};
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % 8 == 0)
            value = sim_rng_next(&rng);
        out[i] = (uint8_t)(value >> (8 * (i % 8)));
    }
}

void quic_write_pattern(struct ph_quic_stream *stream, size_t n, uint64_t salt, bool fin)
{
    enum { PIECE = 10000 };
    struct ph_buf *buf = ph_buf_new(n);
    quic_pattern(ph_buf_data(buf), n, salt);
    ph_buf_set_len(buf, n);
    for (size_t at = 0; at < n; at += PIECE)
        ph_quic_stream_write(stream, (struct ph_slice){.buf = ph_buf_ref(buf),
                                                       .p = ph_buf_data(buf) + at,
                                                       .n = PH_MIN((size_t)PIECE, n - at)});
    ph_buf_unref(buf);
    if (fin)
        ph_quic_stream_fin(stream);
}

bool quic_is_pattern(const struct quic_log *log, size_t n, uint64_t salt)
{
    if (log == NULL || log->rx_len != n)
        return false;
    uint8_t *want = ph_alloc(n + 1);
    quic_pattern(want, n, salt);
    bool same = memcmp(want, log->rx, n) == 0;
    ph_free(want);
    return same;
}

struct quic_log *quic_app_log(struct quic_app *app, uint64_t id)
{
    for (size_t i = app->logs_count; i > 0; i--) {
        if (app->logs[i - 1]->id == id)
            return app->logs[i - 1];
    }
    return NULL;
}

static struct quic_log *log_new(struct quic_app *app, struct ph_quic_stream *stream, bool by_peer)
{
    if (app->logs_count == app->logs_cap) {
        app->logs_cap = app->logs_cap == 0 ? 16 : app->logs_cap * 2;
        app->logs = ph_realloc(app->logs, app->logs_cap * sizeof(struct quic_log *));
    }
    struct quic_log *log = ph_alloc(sizeof(*log));
    *log = (struct quic_log){.id = ph_quic_stream_id(stream), .stream = stream, .by_peer = by_peer};
    app->logs[app->logs_count++] = log;
    ph_quic_stream_set_user(stream, log);
    return log;
}

struct quic_log *quic_app_open(struct quic_app *app, bool bidi)
{
    struct ph_quic_stream *stream = NULL;
    if (ph_quic_conn_open_stream(app->conn, bidi, &stream) != PH_OK)
        return NULL;
    return log_new(app, stream, false);
}

void quic_app_release(struct quic_app *app)
{
    for (size_t i = 0; i < app->logs_count; i++) {
        struct quic_log *log = app->logs[i];
        if (log->stream != NULL)
            ph_quic_stream_consume(log->stream, log->held);
        else if (app->conn != NULL)
            ph_quic_conn_consume(app->conn, log->held);
        log->held = 0;
    }
}

/* --- Events --- */

static void on_ready(void *self, struct ph_quic_conn *conn)
{
    struct quic_app *app = self;
    app->ready++;
    app->conn = conn;
    ph_quic_conn_set_user(conn, app);
}

static void on_handshake_done(void *self, struct ph_quic_conn *conn)
{
    struct quic_app *app = self;
    PH_ASSERT(ph_quic_conn_user(conn) == app);
    app->handshakes++;
}

static void on_stream(void *self, struct ph_quic_conn *conn, struct ph_quic_stream *stream)
{
    struct quic_app *app = self;
    PH_ASSERT(ph_quic_stream_conn(stream) == conn);
    log_new(app, stream, true);
    if (app->hold_credit)
        ph_quic_stream_hold_credit(stream);
}

static void on_data(void *self, struct ph_quic_stream *stream, const uint8_t *data, size_t n,
                    bool fin)
{
    struct quic_app *app = self;
    struct quic_log *log = ph_quic_stream_user(stream);
    PH_ASSERT(!log->fin && !log->reset && !log->closed);
    if (log->rx_len + n > log->rx_cap) {
        log->rx_cap = PH_MAX(log->rx_cap * 2, log->rx_len + n);
        log->rx = ph_realloc(log->rx, log->rx_cap);
    }
    if (n > 0)
        memcpy(log->rx + log->rx_len, data, n);
    log->rx_len += n;
    log->fin = fin;
    if (app->stop_at_once && log->by_peer)
        ph_quic_stream_stop(stream, 8);
    if (app->hold)
        log->held += n;
    else
        ph_quic_stream_consume(stream, n);
    if (app->echo && log->by_peer && !ph_quic_id_is_uni(log->id)) {
        ph_quic_stream_write_copy(stream, data, n);
        if (fin)
            ph_quic_stream_fin(stream);
    }
}

static void on_reset(void *self, struct ph_quic_stream *stream, uint64_t code, uint64_t final_size)
{
    struct quic_log *log = ph_quic_stream_user(stream);
    (void)self;
    PH_ASSERT(!log->reset && !log->fin && !log->closed);
    log->reset = true;
    log->reset_code = code;
    log->final_size = final_size;
    log->held = 0;
}

static void on_stop(void *self, struct ph_quic_stream *stream, uint64_t code)
{
    struct quic_log *log = ph_quic_stream_user(stream);
    (void)self;
    PH_ASSERT(!log->stopped && !log->closed);
    log->stopped = true;
    log->stop_code = code;
}

static void on_acked(void *self, struct ph_quic_stream *stream, size_t n)
{
    struct quic_log *log = ph_quic_stream_user(stream);
    (void)self;
    PH_ASSERT(n > 0 && !log->closed);
    log->acked += n;
}

static void on_stream_closed(void *self, struct ph_quic_stream *stream)
{
    struct quic_log *log = ph_quic_stream_user(stream);
    (void)self;
    PH_ASSERT(!log->closed);
    log->closed = true;
    log->stream = NULL;
}

static void on_streams_available(void *self, struct ph_quic_conn *conn, bool bidi)
{
    struct quic_app *app = self;
    (void)conn;
    if (bidi)
        app->available_bidi++;
    else
        app->available_uni++;
}

static void on_datagram(void *self, struct ph_quic_conn *conn, const uint8_t *data, size_t n)
{
    struct quic_app *app = self;
    (void)conn;
    if (app->datagrams_count == app->datagrams_cap) {
        app->datagrams_cap = app->datagrams_cap == 0 ? 64 : app->datagrams_cap * 2;
        app->datagrams = ph_realloc(app->datagrams, app->datagrams_cap * sizeof(uint32_t));
    }
    app->datagrams[app->datagrams_count++] = n >= 5 ? ph_u32_get(data + 1) : 0;
    app->datagram_bytes += n;
}

static void on_closed(void *self, struct ph_quic_conn *conn, const struct ph_quic_end *end)
{
    struct quic_app *app = self;
    app->closed++;
    app->end = *end;
    for (size_t i = 0; i < app->logs_count; i++)
        app->logs[i]->stream = NULL;
    if (app->conn == conn)
        app->conn = NULL;
}

void quic_app_init(struct quic_app *app)
{
    *app = (struct quic_app){.sink = {.self = app,
                                      .on_ready = on_ready,
                                      .on_handshake_done = on_handshake_done,
                                      .on_stream = on_stream,
                                      .on_data = on_data,
                                      .on_reset = on_reset,
                                      .on_stop = on_stop,
                                      .on_acked = on_acked,
                                      .on_stream_closed = on_stream_closed,
                                      .on_streams_available = on_streams_available,
                                      .on_datagram = on_datagram,
                                      .on_closed = on_closed}};
}

void quic_app_fini(struct quic_app *app)
{
    for (size_t i = 0; i < app->logs_count; i++) {
        ph_free(app->logs[i]->rx);
        ph_free(app->logs[i]);
    }
    ph_free(app->logs);
    ph_free(app->datagrams);
}

/* --- Pair --- */

void quic_pair_init(struct quic_pair *pair, uint64_t seed, const struct sim_link *link)
{
    *pair = (struct quic_pair){.sim = sim_new(seed, link)};
    pair->server_cred = sim_cred_server();
    pair->client_cred = sim_cred_client();
    ph_quic_config_default(&pair->server_config);
    ph_quic_config_default(&pair->client_config);
    pair->server_config.cred = pair->server_cred;
    memset(pair->server_config.secret, 0x5a, sizeof(pair->server_config.secret));
    quic_app_init(&pair->server);
    quic_app_init(&pair->client);
}

void quic_pair_start(struct quic_pair *pair)
{
    struct ph_quic_conn *conn = NULL;
    pair->server_node = sim_node_new(pair->sim, &pair->server_config, &pair->server.sink);
    pair->client_node = sim_node_new(pair->sim, &pair->client_config, &pair->client.sink);
    int rc = sim_connect(pair->client_node, pair->server_node, pair->client_cred, &conn);
    PH_ASSERT(rc == PH_OK);
}

static bool both_done(void *arg)
{
    const struct quic_pair *pair = arg;
    return pair->server.handshakes > 0 && pair->client.handshakes > 0;
}

bool quic_pair_run(struct quic_pair *pair, bool (*condition)(void *pair), uint64_t limit)
{
    return sim_run_until(pair->sim, condition, pair, limit);
}

bool quic_pair_connect(struct quic_pair *pair)
{
    quic_pair_start(pair);
    return quic_pair_run(pair, both_done, 10 * PH_SEC);
}

void quic_pair_fini(struct quic_pair *pair)
{
    sim_free(pair->sim);
    quic_app_fini(&pair->server);
    quic_app_fini(&pair->client);
    ph_tls_cred_unref(pair->server_cred);
    ph_tls_cred_unref(pair->client_cred);
}
