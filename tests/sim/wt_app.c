/* wt_app.c - an owner of WebTransport sessions for simulations; see wt_app.h. */
#include "wt_app.h"

const struct sim_link wt_clean_link = {.delay = 10 * PH_MSEC};

/* --- Logs --- */

static void *grow(void *list, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return list;
    *cap = *cap == 0 ? 16 : *cap * 2;
    return ph_realloc(list, *cap * size);
}

static struct wt_slog *session_log(struct wt_app *app, struct ph_wt_session *session)
{
    struct wt_slog *slog = ph_alloc(sizeof *slog);
    slog->app = app;
    slog->session = session;
    slog->id = ph_wt_session_id(session);
    app->sessions =
        grow(app->sessions, app->sessions_count, &app->sessions_cap, sizeof *app->sessions);
    app->sessions[app->sessions_count++] = slog;
    return slog;
}

static struct wt_log *stream_log(struct wt_slog *session, bool bidi, bool by_peer)
{
    struct wt_app *app = session->app;
    struct wt_log *log = ph_alloc(sizeof *log);
    log->session = session;
    log->bidi = bidi;
    log->by_peer = by_peer;
    log->id = UINT64_MAX;
    app->streams = grow(app->streams, app->streams_count, &app->streams_cap, sizeof *app->streams);
    app->streams[app->streams_count++] = log;
    session->streams_alive++;
    return log;
}

struct wt_slog *wt_app_session(const struct wt_app *app, size_t index)
{
    return index < app->sessions_count ? app->sessions[index] : NULL;
}

struct wt_log *wt_app_stream(const struct wt_app *app, size_t index)
{
    return index < app->streams_count ? app->streams[index] : NULL;
}

struct wt_log *wt_app_stream_by_id(const struct wt_app *app, uint64_t id)
{
    for (size_t i = 0; i < app->streams_count; i++) {
        if (app->streams[i]->id == id)
            return app->streams[i];
    }
    return NULL;
}

/* --- Events of sessions --- */

static void on_session(void *self, struct ph_wt_session *session)
{
    struct wt_app *app = self;
    struct wt_slog *slog = session_log(app, session);
    const struct ph_head *head = ph_wt_session_head(session);
    const char *chosen = NULL;
    size_t n;
    snprintf(slog->path, sizeof slog->path, "%.*s", (int)PH_MIN(head->target_len, (size_t)63),
             head->target);
    ph_wt_session_set_user(session, slog);
    const char *const *offered = ph_wt_session_offered(session, &n);
    for (size_t i = 0; i < n && app->subprotocol != NULL; i++) {
        if (strcmp(offered[i], app->subprotocol) == 0)
            chosen = app->subprotocol;
    }
    switch (app->answer) {
    case WT_ANSWER_ACCEPT:
        PH_ASSERT(ph_wt_session_accept(session, NULL, 0, chosen) == 0);
        break;
    case WT_ANSWER_LATER:
        break;
    case WT_ANSWER_REJECT:
        slog->session = NULL;
        PH_ASSERT(ph_wt_session_reject(session) != NULL);
        break;
    }
}

static void on_session_ready(void *self, struct ph_wt_session *session, const char *subprotocol)
{
    struct wt_slog *slog = ph_wt_session_user(session);
    (void)self;
    PH_ASSERT(slog->ready == 0 && slog->closed == 0);
    slog->ready++;
    snprintf(slog->subprotocol, sizeof slog->subprotocol, "%s",
             subprotocol != NULL ? subprotocol : "");
}

static void note_order(struct wt_app *app, char what)
{
    if (app->order_len < sizeof app->order)
        app->order[app->order_len++] = what;
}

static void on_datagram(void *self, struct ph_wt_session *session, const uint8_t *data, size_t n)
{
    struct wt_app *app = self;
    struct wt_slog *slog = ph_wt_session_user(session);
    PH_ASSERT(slog->closed == 0);
    slog->datagrams =
        grow(slog->datagrams, slog->datagrams_count, &slog->datagrams_cap, sizeof *slog->datagrams);
    struct wt_datagram_log *log = &slog->datagrams[slog->datagrams_count++];
    note_order(app, 'd');
    log->data = ph_alloc(n + 1);
    log->n = n;
    if (n > 0)
        memcpy(log->data, data, n);
    if (app->echo)
        wt_send_datagram(slog, data, n);
}

static void on_datagrams_left(void *self, struct ph_wt_session *session, size_t n)
{
    struct wt_slog *slog = ph_wt_session_user(session);
    (void)self;
    slog->datagrams_left += n;
}

static void on_drain(void *self, struct ph_wt_session *session, bool local)
{
    struct wt_slog *slog = ph_wt_session_user(session);
    (void)self;
    PH_ASSERT(slog->closed == 0);
    if (local)
        slog->drains_local++;
    else
        slog->drains_peer++;
}

static void on_session_closed(void *self, struct ph_wt_session *session,
                              const struct ph_wt_end *end)
{
    struct wt_slog *slog = ph_wt_session_user(session);
    (void)self;
    PH_ASSERT(slog->closed == 0 && slog->session == session);
    PH_ASSERT(slog->streams_alive == 0); /* each had its last event before */
    slog->closed++;
    slog->session = NULL;
    slog->end = *end;
    PH_ASSERT(end->reason_len <= PH_WT_REASON_MAX);
    if (end->reason_len > 0)
        memcpy(slog->reason, end->reason, end->reason_len);
}

/* --- Events of streams --- */

static void on_stream(void *self, struct ph_wt_session *session, struct ph_wt_stream *stream)
{
    struct wt_app *app = self;
    struct wt_slog *slog = ph_wt_session_user(session);
    PH_ASSERT(slog->closed == 0);
    uint64_t id = ph_wt_stream_id(stream);
    struct wt_log *log = stream_log(slog, !ph_quic_id_is_uni(id), true);
    log->stream = stream;
    log->id = id;
    ph_wt_stream_set_user(stream, log);
    PH_ASSERT(ph_wt_stream_session(stream) == session);
    note_order(app, 's');
    if (app->close_on_stream)
        ph_wt_session_close(session, 5, "on_stream", 9);
}

static void on_opened(void *self, struct ph_wt_stream *stream)
{
    struct wt_log *log = ph_wt_stream_user(stream);
    (void)self;
    PH_ASSERT(!log->opened && !log->closed && !log->by_peer);
    log->opened = true;
    log->id = ph_wt_stream_id(stream);
}

static void echo_data(struct wt_log *log, const uint8_t *data, size_t n, bool fin)
{
    if (log->echo == NULL)
        log->echo = log->bidi ? log : wt_open_stream(log->session, false);
    if (log->echo != NULL && log->echo->stream != NULL)
        wt_write(log->echo, data, n, fin);
}

static void on_data(void *self, struct ph_wt_stream *stream, const uint8_t *data, size_t n,
                    bool fin)
{
    struct wt_app *app = self;
    struct wt_log *log = ph_wt_stream_user(stream);
    PH_ASSERT(!log->fin && !log->reset && !log->closed && (n > 0 || fin));
    if (log->rx_len + n > log->rx_cap) {
        log->rx_cap = PH_MAX(log->rx_cap * 2, log->rx_len + n);
        log->rx = ph_realloc(log->rx, log->rx_cap);
    }
    if (n > 0)
        memcpy(log->rx + log->rx_len, data, n);
    log->rx_len += n;
    log->fin = fin;
    if (app->hold)
        log->held += n;
    else
        ph_wt_stream_consume(stream, n);
    if (app->close_on_data)
        ph_wt_session_close(log->session->session, 6, "on_data", 7);
    else if (app->echo && log->by_peer)
        echo_data(log, data, n, fin);
}

static void on_reset(void *self, struct ph_wt_stream *stream, bool has_code, uint32_t code)
{
    struct wt_log *log = ph_wt_stream_user(stream);
    (void)self;
    PH_ASSERT(!log->fin && !log->reset && !log->closed);
    log->reset = true;
    log->has_code = has_code;
    log->code = code;
    log->held = 0;
}

static void on_stop(void *self, struct ph_wt_stream *stream, bool has_code, uint32_t code)
{
    struct wt_log *log = ph_wt_stream_user(stream);
    (void)self;
    PH_ASSERT(!log->stopped && !log->closed);
    log->stopped = true;
    log->has_code = has_code;
    log->code = code;
}

static void on_acked(void *self, struct ph_wt_stream *stream, size_t n)
{
    struct wt_log *log = ph_wt_stream_user(stream);
    (void)self;
    PH_ASSERT(n > 0 && !log->closed);
    log->acked += n;
}

static void on_stream_closed(void *self, struct ph_wt_stream *stream)
{
    struct wt_app *app = self;
    struct wt_log *log = ph_wt_stream_user(stream);
    PH_ASSERT(!log->closed && log->acked == log->written);
    log->closed = true;
    log->stream = NULL;
    log->session->streams_alive--;
    if (log->session->session == NULL)
        return;
    if (app->reset_on_closed_stream) {
        ph_wt_session_reset(log->session->session, PH_H3_INTERNAL_ERROR);
        return;
    }
    if (!app->hold && log->by_peer)
        ph_wt_session_stream_done(log->session->session, log->bidi);
}

static const struct ph_wt_sink wt_sink = {
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

/* --- Ordinary exchanges: rejections, plain requests --- */

static void on_request(void *self, struct ph_exchange *ex)
{
    struct wt_app *app = self;
    app->exchanges++;
    if (app->answer == WT_ANSWER_LATER && app->reject_status == 0)
        return; /* not refused by us: an ordinary request that waits */
    int status = app->reject_status != 0 ? app->reject_status : 200;
    struct ph_buf *buf = ph_buf_copy("no", 2);
    ph_exchange_respond(ex, status, NULL, 0, false);
    ph_exchange_write(ex, ph_slice_of(buf), true);
}

static void on_exchange_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    (void)self;
    (void)data;
    ph_exchange_consume(ex, n);
}

static void on_exchange_trailers(void *self, struct ph_exchange *ex, const struct ph_fields *fields)
{
    (void)self;
    (void)ex;
    (void)fields;
}

static void on_exchange_end(void *self, struct ph_exchange *ex)
{
    (void)self;
    (void)ex;
}

static void on_exchange_acked(void *self, struct ph_exchange *ex, size_t n)
{
    (void)self;
    (void)ex;
    (void)n;
}

static void on_exchange_closed(void *self, struct ph_exchange *ex, bool clean, uint64_t code)
{
    (void)self;
    (void)ex;
    (void)clean;
    (void)code;
}

static void on_settings(void *self, struct ph_h3_conn *conn)
{
    struct wt_app *app = self;
    (void)conn;
    app->settings++;
}

/* --- The stack --- */

void wt_app_init(struct wt_app *app)
{
    *app = (struct wt_app){0};
    ph_wt_config_default(&app->wt_config);
    ph_h3_config_default(&app->h3_config);
}

void wt_app_start(struct wt_app *app)
{
    struct ph_wt_sink sink = wt_sink;
    struct ph_h3_ext ext;
    struct ph_exchange_sink exchange_sink = {.self = app,
                                             .on_request = on_request,
                                             .on_body = on_exchange_body,
                                             .on_trailers = on_exchange_trailers,
                                             .on_end = on_exchange_end,
                                             .on_acked = on_exchange_acked,
                                             .on_closed = on_exchange_closed};
    sink.self = app;
    app->wt = ph_wt_new(&app->wt_config, &sink, &app->stats);
    ph_wt_h3_ext(app->wt, &ext);
    app->h3 = ph_h3_new(&app->h3_config, &exchange_sink, &ext, &app->stats);
    ph_h3_set_client_sink(app->h3,
                          &(struct ph_h3_client_sink){.self = app, .on_settings = on_settings});
    ph_h3_quic_sink(app->h3, &app->quic_sink);
}

static void expire(void *upper, uint64_t now)
{
    struct wt_app *app = upper;
    ph_h3_expire(app->h3, now);
    ph_wt_expire(app->wt, now);
}

static uint64_t next(const void *upper)
{
    const struct wt_app *app = upper;
    return PH_MIN(ph_h3_next(app->h3), ph_wt_next(app->wt));
}

void wt_app_attach(struct wt_app *app, struct sim_node *node)
{
    app->node = node;
    node->upper = app;
    node->upper_expire = expire;
    node->upper_next = next;
}

void wt_app_fini(struct wt_app *app)
{
    if (app->h3 != NULL)
        ph_h3_free(app->h3);
    ph_wt_free(app->wt);
    for (size_t i = 0; i < app->sessions_count; i++) {
        struct wt_slog *slog = app->sessions[i];
        for (size_t k = 0; k < slog->datagrams_count; k++)
            ph_free(slog->datagrams[k].data);
        ph_free(slog->datagrams);
        ph_free(slog);
    }
    for (size_t i = 0; i < app->streams_count; i++) {
        ph_free(app->streams[i]->rx);
        ph_free(app->streams[i]);
    }
    ph_free(app->sessions);
    ph_free(app->streams);
}

/* --- Pair --- */

void wt_pair_init(struct wt_pair *pair, uint64_t seed, const struct sim_link *link)
{
    *pair = (struct wt_pair){.sim = sim_new(seed, link)};
    pair->server_cred = sim_cred_server();
    pair->client_cred = sim_cred_client();
    ph_quic_config_default(&pair->server_config);
    ph_quic_config_default(&pair->client_config);
    pair->server_config.cred = pair->server_cred;
    memset(pair->server_config.secret, 0x5a, sizeof pair->server_config.secret);
    wt_app_init(&pair->server);
    wt_app_init(&pair->client);
}

static bool has_settings(void *arg)
{
    return ((struct wt_app *)arg)->settings > 0;
}

bool wt_pair_connect(struct wt_pair *pair)
{
    wt_app_start(&pair->server);
    wt_app_start(&pair->client);
    pair->server_node = sim_node_new(pair->sim, &pair->server_config, &pair->server.quic_sink);
    pair->client_node = sim_node_new(pair->sim, &pair->client_config, &pair->client.quic_sink);
    wt_app_attach(&pair->server, pair->server_node);
    wt_app_attach(&pair->client, pair->client_node);
    if (sim_connect(pair->client_node, pair->server_node, pair->client_cred, &pair->quic) != 0)
        return false;
    return wt_run(pair, has_settings, &pair->client);
}

void wt_pair_fini(struct wt_pair *pair)
{
    sim_free(pair->sim);
    wt_app_fini(&pair->server);
    wt_app_fini(&pair->client);
    ph_tls_cred_unref(pair->server_cred);
    ph_tls_cred_unref(pair->client_cred);
}

bool wt_run(struct wt_pair *pair, bool (*condition)(void *arg), void *arg)
{
    return sim_run_until(pair->sim, condition, arg, 30 * PH_SEC);
}

struct wt_slog *wt_app_connect(struct wt_app *app, struct ph_quic_conn *quic, const char *path,
                               const struct ph_field *fields, size_t n, const char *const *offered,
                               size_t offered_len)
{
    struct ph_wt_session *session = ph_wt_connect(app->wt, ph_h3_conn_of(quic), "localhost:4433",
                                                  path, fields, n, offered, offered_len, NULL);
    if (session == NULL)
        return NULL;
    struct wt_slog *slog = session_log(app, session);
    ph_wt_session_set_user(session, slog);
    return slog;
}

struct wt_slog *wt_open_session_with(struct wt_pair *pair, const char *path,
                                     const struct ph_field *fields, size_t n,
                                     const char *const *offered, size_t offered_len)
{
    return wt_app_connect(&pair->client, pair->quic, path, fields, n, offered, offered_len);
}

struct wt_slog *wt_open_session(struct wt_pair *pair, const char *path)
{
    return wt_open_session_with(pair, path, NULL, 0, NULL, 0);
}

struct wt_slog *wt_pair_session(struct wt_pair *pair)
{
    if (!wt_pair_connect(pair))
        return NULL;
    struct wt_slog *slog = wt_open_session(pair, "/test");
    return slog != NULL && wt_run(pair, wt_is_ready, slog) ? slog : NULL;
}

/* --- Acting --- */

struct wt_log *wt_open_stream(struct wt_slog *session, bool bidi)
{
    struct wt_log *log = stream_log(session, bidi, false);
    struct ph_wt_stream *stream = ph_wt_session_open(session->session, bidi, log);
    if (stream == NULL) { /* refused: no events of it */
        session->streams_alive--;
        session->app->streams_count--;
        ph_free(log);
        return NULL;
    }
    log->stream = stream;
    return log;
}

void wt_write(struct wt_log *log, const void *data, size_t n, bool fin)
{
    struct ph_slice slice = n > 0 ? ph_slice_of(ph_buf_copy(data, n)) : (struct ph_slice){0};
    log->written += n; /* before: a stopped stream reports at once */
    if (ph_wt_stream_write(log->stream, slice, fin) != 0)
        log->written -= n;
}

/* Bytes that depend on position and salt only. */
static void pattern(uint8_t *out, size_t n, uint64_t salt)
{
    struct sim_rng rng = {.state = salt * 7919 + 1};
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % 8 == 0)
            value = sim_rng_next(&rng);
        out[i] = (uint8_t)(value >> (8 * (i % 8)));
    }
}

void wt_write_pattern(struct wt_log *log, size_t n, uint64_t salt, bool fin)
{
    uint8_t *bytes = ph_alloc(n + 1);
    pattern(bytes, n, salt);
    for (size_t at = 0; at < n; at += 10000)
        wt_write(log, bytes + at, PH_MIN(n - at, (size_t)10000), false);
    ph_free(bytes);
    if (fin)
        wt_write(log, NULL, 0, true);
}

bool wt_is_pattern(const struct wt_log *log, size_t n, uint64_t salt)
{
    if (log == NULL || log->rx_len != n)
        return false;
    uint8_t *want = ph_alloc(n + 1);
    pattern(want, n, salt);
    bool same = n == 0 || memcmp(want, log->rx, n) == 0;
    ph_free(want);
    return same;
}

void wt_consume_held(struct wt_log *log)
{
    if (log->stream != NULL)
        ph_wt_stream_consume(log->stream, log->held);
    else if (log->session->session != NULL)
        ph_wt_session_consume(log->session->session, log->held);
    log->held = 0;
}

int wt_send_datagram(struct wt_slog *session, const void *data, size_t n)
{
    struct ph_buf *buf = ph_buf_new(n + 1);
    if (n > 0)
        memcpy(ph_buf_data(buf), data, n);
    ph_buf_set_len(buf, n);
    return ph_wt_session_datagram(session->session, buf, PH_NEVER);
}

/* --- Conditions --- */

bool wt_is_ready(void *slog)
{
    return ((struct wt_slog *)slog)->ready > 0;
}

bool wt_is_closed(void *slog)
{
    return ((struct wt_slog *)slog)->closed > 0;
}

bool wt_has_fin(void *log)
{
    return ((struct wt_log *)log)->fin;
}

bool wt_stream_is_closed(void *log)
{
    return ((struct wt_log *)log)->closed;
}

bool wt_has_session(void *app)
{
    return ((struct wt_app *)app)->sessions_count > 0;
}

bool wt_all_closed(void *arg)
{
    const struct wt_app *app = arg;
    for (size_t i = 0; i < app->streams_count; i++) {
        if (!app->streams[i]->closed)
            return false;
    }
    return true;
}
