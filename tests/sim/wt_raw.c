/* wt_raw.c - a peer made of bytes; see wt_raw.h. */
#include "wt_raw.h"

#include "../unit/test.h"

/* H3_DATAGRAM = 1, ENABLE_WEBTRANSPORT = 1. */
static const uint8_t draft02_settings[] = {0x33, 0x01, 0xab, 0x60, 0x37, 0x42, 0x01};
/* The same with ENABLE_CONNECT_PROTOCOL = 1. */
static const uint8_t server_settings[] = {0x08, 0x01, 0x33, 0x01, 0xab, 0x60, 0x37, 0x42, 0x01};

void wt_raw_init(struct wt_raw *raw, bool is_server)
{
    *raw = (struct wt_raw){.sim = sim_new(1, &wt_clean_link)};
    raw->is_server = is_server;
    raw->server_cred = sim_cred_server();
    raw->client_cred = sim_cred_client();
    ph_quic_config_default(&raw->server_config);
    ph_quic_config_default(&raw->client_config);
    raw->server_config.cred = raw->server_cred;
    memset(raw->server_config.secret, 0x5a, sizeof raw->server_config.secret);
    raw->settings = is_server ? server_settings : draft02_settings;
    raw->settings_len = is_server ? sizeof server_settings : sizeof draft02_settings;
    raw->qpack = ph_qpack_new();
    quic_app_init(&raw->raw);
    wt_app_init(&raw->app);
}

static bool is_up(void *arg)
{
    const struct wt_raw *raw = arg;
    return raw->raw.handshakes > 0;
}

bool wt_raw_start(struct wt_raw *raw)
{
    wt_app_start(&raw->app);
    const struct ph_quic_sink *server = raw->is_server ? &raw->raw.sink : &raw->app.quic_sink;
    const struct ph_quic_sink *client = raw->is_server ? &raw->app.quic_sink : &raw->raw.sink;
    struct sim_node *first = sim_node_new(raw->sim, &raw->server_config, server);
    struct sim_node *second = sim_node_new(raw->sim, &raw->client_config, client);
    raw->raw_node = raw->is_server ? first : second;
    raw->app_node = raw->is_server ? second : first;
    wt_app_attach(&raw->app, raw->app_node);
    if (sim_connect(second, first, raw->client_cred, &raw->quic) != 0 ||
        !sim_run_until(raw->sim, is_up, raw, 10 * PH_SEC))
        return false;
    if (!raw->no_control)
        wt_raw_control(raw);
    wt_raw_run(raw);
    return true;
}

void wt_raw_fini(struct wt_raw *raw)
{
    for (unsigned i = 0; i < raw->dgramqs_count; i++)
        ph_quic_dgramq_fini(&raw->dgramqs[i].q);
    sim_free(raw->sim);
    wt_app_fini(&raw->app);
    quic_app_fini(&raw->raw);
    ph_qpack_free(raw->qpack);
    ph_tls_cred_unref(raw->server_cred);
    ph_tls_cred_unref(raw->client_cred);
}

void wt_raw_run(struct wt_raw *raw)
{
    sim_run_for(raw->sim, PH_SEC);
}

/* --- Writing --- */

struct quic_log *wt_raw_open(struct wt_raw *raw, bool bidi)
{
    struct quic_log *log = quic_app_open(&raw->raw, bidi);
    PH_ASSERT(log != NULL);
    return log;
}

void wt_raw_write(struct quic_log *log, const void *data, size_t n)
{
    if (log->stream != NULL && n > 0)
        ph_quic_stream_write_copy(log->stream, data, n);
}

void wt_raw_fin(struct quic_log *log)
{
    if (log->stream != NULL)
        ph_quic_stream_fin(log->stream);
}

void wt_raw_control(struct wt_raw *raw)
{
    uint8_t head[32];
    uint8_t *p = ph_varint_put(head, PH_H3_STREAM_CONTROL);
    p = ph_h3_frame_put(p, PH_H3_SETTINGS, raw->settings_len);
    raw->control = wt_raw_open(raw, false);
    wt_raw_write(raw->control, head, (size_t)(p - head));
    wt_raw_write(raw->control, raw->settings, raw->settings_len);
}

void wt_raw_data(struct quic_log *log, const void *data, size_t n)
{
    uint8_t head[16];
    wt_raw_write(log, head, (size_t)(ph_h3_frame_put(head, PH_H3_DATA, n) - head));
    wt_raw_write(log, data, n);
}

struct quic_log *wt_raw_stream(struct wt_raw *raw, bool bidi, uint64_t session_id)
{
    uint8_t head[PH_WT_STREAM_HEADER_MAX];
    struct quic_log *log = wt_raw_open(raw, bidi);
    wt_raw_write(log, head, ph_wt_stream_header_put(head, bidi, session_id));
    return log;
}

struct ph_field wt_raw_field(const char *name, const char *value)
{
    return (struct ph_field){
        .name = name, .value = value, .name_len = strlen(name), .value_len = strlen(value)};
}

void wt_raw_head(struct wt_raw *raw, struct quic_log *log, const struct ph_field *fields, size_t n)
{
    struct ph_buf *buf = ph_qpack_encode(raw->qpack, log->id, fields, n);
    wt_raw_write(log, ph_buf_data(buf), ph_buf_len(buf));
    ph_buf_unref(buf);
}

static void connect_on(struct wt_raw *raw, struct quic_log *log, const char *path,
                       const struct ph_field *fields, size_t n)
{
    struct ph_field list[32] = {
        wt_raw_field(":scheme", "https"),
        wt_raw_field(":method", "CONNECT"),
        wt_raw_field(":authority", "localhost:4433"),
        wt_raw_field(":path", path),
        wt_raw_field(":protocol", "webtransport"),
    };
    PH_ASSERT(n <= 27);
    for (size_t i = 0; i < n; i++)
        list[5 + i] = fields[i];
    wt_raw_head(raw, log, list, 5 + n);
}

void wt_raw_connect_on(struct wt_raw *raw, struct quic_log *log, const char *path)
{
    connect_on(raw, log, path, NULL, 0);
}

struct quic_log *wt_raw_connect_with(struct wt_raw *raw, const char *path,
                                     const struct ph_field *fields, size_t n)
{
    struct quic_log *log = wt_raw_open(raw, true);
    connect_on(raw, log, path, fields, n);
    return log;
}

struct quic_log *wt_raw_connect(struct wt_raw *raw, const char *path)
{
    return wt_raw_connect_with(raw, path, NULL, 0);
}

struct quic_log *wt_raw_session(struct wt_raw *raw)
{
    if (!wt_raw_start(raw))
        return NULL;
    struct quic_log *connect = wt_raw_connect(raw, "/raw");
    wt_raw_run(raw);
    return wt_raw_status(raw, connect) == 200 ? connect : NULL;
}

static struct ph_quic_dgramq *queue_of(struct wt_raw *raw, uint64_t session_id)
{
    uint8_t prefix[8];
    for (unsigned i = 0; i < raw->dgramqs_count; i++) {
        if (raw->dgramqs[i].session_id == session_id)
            return &raw->dgramqs[i].q;
    }
    PH_ASSERT(raw->dgramqs_count < PH_COUNT_OF(raw->dgramqs));
    unsigned i = raw->dgramqs_count++;
    size_t n = (size_t)(ph_varint_put(prefix, session_id / 4) - prefix);
    raw->dgramqs[i].session_id = session_id;
    ph_quic_dgramq_init(&raw->dgramqs[i].q, raw->raw.conn, prefix, n, 4096, 1 << 20);
    return &raw->dgramqs[i].q;
}

void wt_raw_datagram(struct wt_raw *raw, uint64_t session_id, const void *data, size_t n)
{
    ph_quic_dgramq_push(queue_of(raw, session_id), ph_buf_copy(data, n), PH_NEVER);
}

/* --- Reading --- */

/* Decodes the first HEADERS frame of what was received. */
static bool read_head(struct wt_raw *raw, const struct quic_log *log, struct ph_head *head)
{
    struct ph_h3_frame_reader reader = {0};
    struct ph_http_limits limits = {.head_bytes = 65536, .head_fields = 100, .target_bytes = 8192};
    struct ph_head_builder builder;
    const uint8_t *p = log->rx, *piece = NULL;
    size_t n = 0;
    if (log->rx_len == 0)
        return false;
    while (ph_h3_frame_next(&reader, &p, log->rx + log->rx_len, &piece, &n)) {
        if (reader.type != PH_H3_HEADERS || reader.left > 0)
            continue;
        ph_head_builder_init(&builder, &limits, true);
        if (ph_qpack_decode(raw->qpack, log->id, piece, n, &builder) < 0 ||
            ph_head_builder_finish(&builder) < 0) {
            ph_head_builder_fini(&builder);
            return false;
        }
        *head = builder.head;
        return true;
    }
    return false;
}

int wt_raw_status(struct wt_raw *raw, const struct quic_log *log)
{
    struct ph_head head;
    if (!read_head(raw, log, &head))
        return 0;
    int status = head.status;
    ph_head_fini(&head);
    return status;
}

const char *wt_raw_response(struct wt_raw *raw, const struct quic_log *log, const char *name)
{
    static char value[256];
    struct ph_head head;
    if (!read_head(raw, log, &head))
        return NULL;
    const struct ph_field *field = ph_fields_get(&head.fields, name);
    if (field != NULL)
        snprintf(value, sizeof value, "%s", field->value);
    ph_head_fini(&head);
    return field != NULL ? value : NULL;
}

const uint8_t *wt_raw_payload(const struct quic_log *log, size_t *n)
{
    static uint8_t payload[8192];
    struct ph_h3_frame_reader reader = {0};
    const uint8_t *p = log->rx, *piece = NULL;
    size_t len = 0;
    *n = 0;
    if (log->rx_len == 0)
        return payload;
    while (ph_h3_frame_next(&reader, &p, log->rx + log->rx_len, &piece, &len)) {
        if (reader.type != PH_H3_DATA)
            continue;
        PH_ASSERT(*n + len <= sizeof payload);
        if (len > 0)
            memcpy(payload + *n, piece, len);
        *n += len;
    }
    return payload;
}

struct wt_slog *wt_raw_slog(const struct wt_raw *raw)
{
    return wt_app_session(&raw->app, 0);
}

void wt_raw_check_alive(const struct wt_raw *raw)
{
    CHECK_INT(raw->raw.closed, ==, 0);
    CHECK_INT(wt_raw_slog(raw)->closed, ==, 0);
}
