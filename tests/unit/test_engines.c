/* test_engines.c - options arrive in the modules' configurations: each in its place, none
 * forgotten.
 */
#include "../../src/core/core.h"
#include "../../src/h3/h3.h"
#include "../../src/quic/quic.h"
#include "../../src/quic/quic_internal.h"
#include "../../src/wt/wt.h"
#include "test.h"

/* Everything that options become. */
struct mapped {
    struct ph_h1_config h1;
    struct ph_h2_config h2;
    struct ph_h3_config h3;
    struct ph_wt_config wt;
    struct ph_ws_config ws;
    struct ph_quic_config quic;
    struct ph_udp_options udp;
    struct ph_chan_limits limits;
};

struct place {
    const char *option;
    size_t offset, size;
    uint64_t factor;
};
#define PLACE(option, member, factor)                                                              \
    {                                                                                              \
#option, offsetof(struct mapped, member), sizeof(((struct mapped *)0)->member), factor     \
    }

static const struct place places[] = {
    PLACE(head_bytes, h1.limits.head_bytes, 1),
    PLACE(head_fields, h1.limits.head_fields, 1),
    PLACE(target_bytes, h1.limits.target_bytes, 1),
    PLACE(max_body, h1.max_body, 1),
    PLACE(header_timeout, h1.header_timeout, PH_MSEC),
    PLACE(body_timeout, h1.body_timeout, PH_MSEC),
    PLACE(keep_alive, h1.keep_alive_timeout, PH_MSEC),
    PLACE(keep_alive_requests, h1.keep_alive_requests, 1),
    PLACE(pipelined_max, h1.pipelined_max, 1),
    PLACE(body_window, h1.body_window, 1),
    PLACE(chunk_overhead, h1.chunk_overhead, 1),
    PLACE(chunk_extension, h1.chunk_extension, 1),
    PLACE(head_bytes, h3.head_bytes, 1),
    PLACE(head_fields, h3.head_fields, 1),
    PLACE(target_bytes, h3.target_bytes, 1),
    PLACE(head_encoded, h3.head_encoded, 1),
    PLACE(max_body, h3.max_body, 1),
    PLACE(header_timeout, h3.header_timeout, PH_MSEC),
    PLACE(body_timeout, h3.body_timeout, PH_MSEC),
    PLACE(write_stall_timeout, h3.write_stall_timeout, PH_MSEC),
    PLACE(min_send_rate, h3.min_send_rate, 1),
    PLACE(no_request_timeout, h3.no_request_timeout, PH_MSEC),
    PLACE(cancel_burst, h3.cancel_burst, 1),
    PLACE(cancel_rate, h3.cancel_rate, 1),
    PLACE(wt_max_sessions, wt.max_sessions, 1),
    PLACE(wt_session_burst, wt.session_burst, 1),
    PLACE(wt_session_rate, wt.session_rate, 1),
    PLACE(wt_accept_timeout, wt.accept_timeout, PH_MSEC),
    PLACE(wt_close_timeout, wt.close_timeout, PH_MSEC),
    PLACE(wt_pending_sessions, wt.pending_sessions, 1),
    PLACE(wt_pending_streams, wt.pending_streams, 1),
    PLACE(wt_pending_bytes, wt.pending_bytes, 1),
    PLACE(wt_pending_datagrams, wt.pending_datagrams, 1),
    PLACE(wt_pending_datagram_bytes, wt.pending_datagram_bytes, 1),
    PLACE(wt_pending_timeout, wt.pending_timeout, PH_MSEC),
    PLACE(wt_capsule_skip_max, wt.capsule_skip_max, 1),
    PLACE(datagrams_out, wt.datagrams_out, 1),
    PLACE(datagram_bytes_out, wt.datagram_bytes_out, 1),
    PLACE(head_bytes, h2.limits.head_bytes, 1),
    PLACE(head_fields, h2.limits.head_fields, 1),
    PLACE(target_bytes, h2.limits.target_bytes, 1),
    PLACE(max_body, h2.max_body, 1),
    PLACE(head_encoded, h2.head_encoded, 1),
    PLACE(header_timeout, h2.header_timeout, PH_MSEC),
    PLACE(body_timeout, h2.body_timeout, PH_MSEC),
    PLACE(h2_idle_timeout, h2.idle_timeout, PH_MSEC),
    PLACE(write_stall_timeout, h2.write_stall_timeout, PH_MSEC),
    PLACE(min_send_rate, h2.min_send_rate, 1),
    PLACE(h2_max_streams, h2.max_streams, 1),
    PLACE(h2_max_frame, h2.max_frame, 1),
    PLACE(h2_header_table, h2.header_table, 1),
    PLACE(h2_settings_max, h2.settings_max, 1),
    PLACE(h2_continuations, h2.continuations_max, 1),
    PLACE(h2_replies_max, h2.replies_max, 1),
    PLACE(h2_stream_window, h2.stream_window, 1),
    PLACE(h2_conn_window, h2.conn_window, 1),
    PLACE(h2_reset_burst, h2.reset_burst, 1),
    PLACE(h2_reset_rate, h2.reset_rate, 1),
    PLACE(glitch_burst, h2.glitch_burst, 1),
    PLACE(glitch_rate, h2.glitch_rate, 1),
    PLACE(half_open_retry, quic.half_open_retry, 1),
    PLACE(half_open_max, quic.half_open_max, 1),
    PLACE(max_connections, quic.max_conns, 1),
    PLACE(idle_timeout, quic.idle_timeout, PH_MSEC),
    PLACE(handshake_timeout, quic.handshake_timeout, PH_MSEC),
    PLACE(max_streams_bidi, quic.max_streams_bidi, 1),
    PLACE(max_streams_uni, quic.max_streams_uni, 1),
    PLACE(stream_window, quic.stream_window, 1),
    PLACE(conn_window, quic.conn_window, 1),
    PLACE(window_max, quic.window_max, 1),
    PLACE(max_datagram_frame, quic.max_datagram_frame, 1),
    PLACE(vn_rate, quic.vn_rate, 1),
    PLACE(retry_rate, quic.retry_rate, 1),
    PLACE(reset_rate, quic.reset_rate, 1),
    PLACE(glitch_burst, quic.glitch_burst, 1),
    PLACE(glitch_rate, quic.glitch_rate, 1),
    PLACE(worker, quic.worker, 1),
    PLACE(ws_max_size, ws.max_size, 1),
    PLACE(ws_max_frames, ws.max_frames, 1),
    PLACE(ws_max_queue, ws.max_queue, 1),
    PLACE(ws_queue_bytes, ws.queue_bytes, 1),
    PLACE(ws_ping_interval, ws.ping_interval, PH_MSEC),
    PLACE(ws_ping_timeout, ws.ping_timeout, PH_MSEC),
    PLACE(ws_close_timeout, ws.close_timeout, PH_MSEC),
    PLACE(udp_buffer, udp.buffer_bytes, 1),
    PLACE(send_buffer, limits.high, 1),
    PLACE(send_buffer_low, limits.low, 1),
    PLACE(conn_send_buffer, limits.conn_high, 1),
    PLACE(session_send_buffer, limits.session_high, 1),
    PLACE(datagrams_in, limits.datagrams_in, 1),
    PLACE(datagram_bytes_in, limits.datagram_bytes_in, 1),
    PLACE(datagrams_out, limits.datagrams_out, 1),
};

/* Numbers that the core itself reads. */
static const char *const of_the_core[] = {
    "ring_slots",    "backlog",       "max_connections_per_ip", "max_concurrent_app_calls",
    "memory_budget", "min_body_rate", "body_rate_grace",        "processes"};

static void map(struct mapped *out, const struct ph_config *config)
{
    struct ph_err err = {""};
    memset(out, 0, sizeof(*out));
    ph_engines_h1_config(&out->h1, config);
    ph_engines_h2_config(&out->h2, config);
    ph_engines_h3_config(&out->h3, config);
    ph_engines_wt_config(&out->wt, config);
    ph_engines_ws_config(&out->ws, config);
    CHECK_INT(ph_engines_quic_config(&out->quic, config, &err), ==, 0);
    ph_engines_udp_options(&out->udp, config);
    ph_engines_chan_limits(&out->limits, config);
}

static uint64_t value_at(const struct mapped *mapped, const struct place *place)
{
    const char *p = (const char *)mapped + place->offset;
    uint64_t wide = 0;
    uint32_t narrow;
    uint16_t half;
    switch (place->size) {
    case sizeof(wide):
        memcpy(&wide, p, sizeof(wide));
        return wide;
    case sizeof(narrow):
        memcpy(&narrow, p, sizeof(narrow));
        return narrow;
    case sizeof(half):
        memcpy(&half, p, sizeof(half));
        return half;
    }
    ph_test_fail(__FILE__, __LINE__, "%s is %zu bytes", place->option, place->size);
}

static bool is_in(const uint64_t *values, size_t n, uint64_t value)
{
    for (size_t i = 0; i < n; i++) {
        if (values[i] == value)
            return true;
    }
    return false;
}

static bool is_of_the_core(const char *name)
{
    for (size_t i = 0; i < PH_COUNT_OF(of_the_core); i++) {
        if (strcmp(of_the_core[i], name) == 0)
            return true;
    }
    return false;
}

TEST(engines, every_number_arrives_in_its_place)
{
    enum { OPTIONS = 128 };
    ph_config *config = ph_config_new();
    uint64_t values[OPTIONS] = {0};
    unsigned places_of[OPTIONS] = {0};
    ph_option options[OPTIONS];
    struct mapped mapped;
    size_t n = 0;
    for (; ph_config_option(n, &options[n]) == 0; n++) {
        unsigned long long min, max;
        char text[32];
        if (sscanf(options[n].accepts, "%llu to %llu", &min, &max) != 2)
            continue;
        uint64_t value = PH_MAX((uint64_t)min, 300);
        if (is_of_the_core(options[n].name))
            continue;
        while (is_in(values, n, value)) /* no two options are the same */
            value++;
        snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
        if (ph_config_set(config, options[n].name, text) < 0)
            ph_test_fail(__FILE__, __LINE__, "%s", ph_config_error(config));
        values[n] = value;
    }
    map(&mapped, config);
    CHECK(mapped.quic.window_max >= mapped.quic.conn_window);
    for (size_t i = 0; i < PH_COUNT_OF(places); i++) {
        size_t at = 0;
        while (at < n && strcmp(options[at].name, places[i].option) != 0)
            at++;
        CHECK_INT(at, <, n);
        places_of[at]++;
        if (value_at(&mapped, &places[i]) != values[at] * places[i].factor)
            ph_test_fail(__FILE__, __LINE__, "%s: %llu instead of %llu", places[i].option,
                         (unsigned long long)value_at(&mapped, &places[i]),
                         (unsigned long long)(values[at] * places[i].factor));
    }
    for (size_t i = 0; i < n; i++) {
        if (values[i] != 0 && places_of[i] == 0)
            ph_test_fail(__FILE__, __LINE__, "%s goes nowhere", options[i].name);
    }
    CHECK_INT(mapped.limits.session_low, ==, mapped.limits.session_high / 4);
    ph_config_free(config);
}

TEST(engines, switches_and_names_arrive)
{
    static const char *const on[][2] = {{"congestion", "bbr"},  {"retry", "always"},
                                        {"webtransport", "on"}, {"gso", "on"},
                                        {"gro", "on"},          {"reuse_port", "on"},
                                        {"websocket", "on"},    {"ws_per_message_deflate", "on"}};
    static const char *const off[][2] = {
        {"congestion", "cubic"}, {"retry", "auto"},
        {"webtransport", "off"}, {"gso", "off"},
        {"gro", "off"},          {"reuse_port", "off"},
        {"websocket", "off"},    {"ws_per_message_deflate", "off"}};
    ph_config *config = ph_config_new();
    struct mapped mapped;
    for (size_t i = 0; i < PH_COUNT_OF(on); i++) { /* one at a time: no two are mixed up */
        for (size_t k = 0; k < PH_COUNT_OF(on); k++)
            CHECK_INT(ph_config_set(config, off[k][0], k == i ? on[k][1] : off[k][1]), ==, 0);
        map(&mapped, config);
        CHECK_INT(mapped.quic.bbr, ==, i == 0);
        CHECK_INT(mapped.quic.always_retry, ==, i == 1);
        CHECK_INT(mapped.h3.webtransport, ==, i == 2);
        CHECK_INT(mapped.udp.no_gso, ==, i != 3);
        CHECK_INT(mapped.udp.no_gro, ==, i != 4);
        CHECK_INT(mapped.udp.reuse_port, ==, i == 5);
        CHECK_INT(mapped.h1.websocket, ==, i == 6);
        CHECK_INT(mapped.h2.websocket, ==, i == 6);
        CHECK_INT(mapped.h3.websocket, ==, i == 6);
        CHECK_INT(mapped.ws.deflate, ==, i == 7);
    }
    CHECK_STR(mapped.quic.alpn, "h3");
    ph_config_free(config);
}

TEST(engines, origins_and_the_secret_arrive)
{
    uint8_t want[32];
    char hex[65];
    struct mapped mapped;
    ph_config *config = ph_config_new();
    map(&mapped, config);
    CHECK_INT(mapped.wt.allowed_origins_len, ==, 0);
    for (int i = 0; i < 32; i++) {
        want[i] = (uint8_t)(i * 7 + 1);
        snprintf(hex + 2 * i, 3, "%02x", want[i]);
    }
    CHECK_INT(ph_config_set(config, "secret", hex), ==, 0);
    CHECK_INT(ph_config_set(config, "wt_allowed_origin", "https://a.example"), ==, 0);
    CHECK_INT(ph_config_set(config, "wt_allowed_origin", "https://b.example:8443"), ==, 0);
    map(&mapped, config);
    CHECK_MEM(mapped.quic.secret, want, 32);
    CHECK_INT(mapped.wt.allowed_origins_len, ==, 2);
    CHECK_INT(mapped.ws.allowed_origins_len, ==, 0);
    CHECK_INT(ph_config_set(config, "ws_allowed_origin", "https://c.example"), ==, 0);
    map(&mapped, config);
    CHECK_INT(mapped.ws.allowed_origins_len, ==, 1);
    CHECK_STR(mapped.ws.allowed_origins[0], "https://c.example");
    CHECK_STR(mapped.wt.allowed_origins[0], "https://a.example");
    CHECK_STR(mapped.wt.allowed_origins[1], "https://b.example:8443");
    ph_config_free(config);
}

TEST(engines, a_connection_window_above_the_maximum_raises_it)
{
    struct mapped mapped;
    ph_config *config = ph_config_new();
    CHECK_INT(ph_config_set(config, "conn_window", "8M"), ==, 0);
    CHECK_INT(ph_config_set(config, "window_max", "1M"), ==, 0);
    map(&mapped, config);
    CHECK_INT(mapped.quic.window_max, ==, 8 << 20);
    ph_config_free(config);
}

static ssize_t send_nothing(void *self, const struct ph_path *path, uint8_t ecn,
                            const uint8_t *data, size_t n, size_t segment)
{
    (void)self;
    (void)path;
    (void)ecn;
    (void)data;
    (void)segment;
    return (ssize_t)n;
}

TEST(engines, the_endpoint_keeps_keys_and_not_the_secret)
{
    static const uint8_t zero[32];
    struct mapped mapped;
    struct ph_stats stats = {0};
    struct ph_quic_sink sink = {0};
    struct ph_quic_out out = {.send = send_nothing};
    struct ph_quic_endpoint *ep;
    struct ph_err err = {""};
    ph_config *config = ph_config_new();
    map(&mapped, config);
    CHECK(memcmp(mapped.quic.secret, zero, 32) != 0);
    CHECK_INT(ph_quic_endpoint_new(&ep, &mapped.quic, &sink, &out, &stats, 1, &err), ==, 0);
    CHECK_MEM(ep->config.secret, zero, 32);
    CHECK(memcmp(ep->token_key, ep->reset_key, 32) != 0);
    CHECK(memcmp(ep->token_key, zero, 32) != 0);
    ph_quic_endpoint_free(ep);
    ph_config_free(config);
}
