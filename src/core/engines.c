/*
 * engines.c - the protocol engines of a server, made from its configuration: HTTP/1.1 and HTTP/2
 * settings for the TCP front; QUIC endpoint, HTTP/3 and WebTransport when there is a QUIC address.
 *
 * The one place where options become the engines' own configuration: milliseconds become
 * nanoseconds, names become enums. What an engine can be told and an option does not cover keeps
 * the engine's default.
 */
#include "../h3/h3.h"
#include "../quic/quic.h"
#include "../tls/tls.h"
#include "../wt/wt.h"
#include "core.h"

#include <stdlib.h>

/* 64 hexadecimal digits. */
static bool secret_from_hex(uint8_t out[32], const char *text)
{
    if (strlen(text) != 64 || strspn(text, "0123456789abcdefABCDEF") != 64)
        return false;
    for (size_t i = 0; i < 32; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};
        out[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return true;
}

int ph_engines_secret(uint8_t out[32], const struct ph_config *config, struct ph_err *err)
{
    const char *text = config->secret;
    if (text == NULL) {
        ph_random(out, 32);
        return 0;
    }
    if (secret_from_hex(out, text))
        return 0;
    FILE *file = fopen(text, "rb");
    if (file == NULL)
        return ph_fail(err, PH_E_CONFIG,
                       "secret: neither 64 hexadecimal digits nor a file that can be read");
    size_t n = fread(out, 1, 32, file);
    fclose(file);
    if (n < 32)
        return ph_fail(err, PH_E_CONFIG, "secret: %s has fewer than 32 bytes", text);
    return 0;
}

/* The endpoint's way out: the path of a packet names the socket that it came by. */
static ssize_t quic_send(void *self, const struct ph_path *path, uint8_t ecn, const uint8_t *data,
                         size_t n, size_t segment)
{
    struct ph_server *server = self;
    return ph_udp_send(path->sock, path, ecn, data, n, segment, &server->stats);
}

/* What all versions say about heads. */
static struct ph_http_limits http_limits(const struct ph_config *config)
{
    return (struct ph_http_limits){.head_bytes = config->head_bytes,
                                   .head_fields = config->head_fields,
                                   .target_bytes = config->target_bytes};
}

void ph_engines_h1_config(struct ph_h1_config *h1, const struct ph_config *config)
{
    ph_h1_config_default(h1);
    h1->limits = http_limits(config);
    h1->max_body = config->max_body;
    h1->header_timeout = config->header_timeout * PH_MSEC;
    h1->body_timeout = config->body_timeout * PH_MSEC;
    h1->keep_alive_timeout = config->keep_alive * PH_MSEC;
    h1->keep_alive_requests = (uint32_t)config->keep_alive_requests;
    h1->pipelined_max = (uint32_t)config->pipelined_max;
    h1->body_window = config->body_window;
    h1->chunk_overhead = config->chunk_overhead;
    h1->chunk_extension = config->chunk_extension;
    h1->websocket = config->websocket != 0;
}

void ph_engines_h2_config(struct ph_h2_config *h2, const struct ph_config *config)
{
    ph_h2_config_default(h2);
    h2->limits = http_limits(config);
    h2->max_body = config->max_body;
    h2->head_encoded = config->head_encoded;
    h2->header_timeout = config->header_timeout * PH_MSEC;
    h2->body_timeout = config->body_timeout * PH_MSEC;
    h2->idle_timeout = config->h2_idle_timeout * PH_MSEC;
    h2->write_stall_timeout = config->write_stall_timeout * PH_MSEC;
    h2->min_send_rate = config->min_send_rate;
    h2->max_streams = (uint32_t)config->h2_max_streams;
    h2->max_frame = (uint32_t)config->h2_max_frame;
    h2->header_table = (uint32_t)config->h2_header_table;
    h2->settings_max = (uint32_t)config->h2_settings_max;
    h2->continuations_max = (uint32_t)config->h2_continuations;
    h2->replies_max = (uint32_t)config->h2_replies_max;
    h2->stream_window = (uint32_t)config->h2_stream_window;
    h2->conn_window = (uint32_t)config->h2_conn_window;
    h2->reset_burst = config->h2_reset_burst;
    h2->reset_rate = config->h2_reset_rate;
    h2->glitch_burst = config->glitch_burst;
    h2->glitch_rate = config->glitch_rate;
    h2->websocket = config->websocket != 0;
}

void ph_engines_wt_config(struct ph_wt_config *wt, const struct ph_config *config)
{
    ph_wt_config_default(wt);
    wt->max_sessions = (uint32_t)config->wt_max_sessions;
    wt->session_burst = (uint32_t)config->wt_session_burst;
    wt->session_rate = (uint32_t)config->wt_session_rate;
    wt->pending_sessions = (uint32_t)config->wt_pending_sessions;
    wt->pending_streams = (uint32_t)config->wt_pending_streams;
    wt->pending_bytes = config->wt_pending_bytes;
    wt->pending_datagrams = (uint32_t)config->wt_pending_datagrams;
    wt->pending_datagram_bytes = config->wt_pending_datagram_bytes;
    wt->pending_timeout = config->wt_pending_timeout * PH_MSEC;
    wt->accept_timeout = config->wt_accept_timeout * PH_MSEC;
    wt->close_timeout = config->wt_close_timeout * PH_MSEC;
    wt->datagrams_out = (uint32_t)config->datagrams_out;
    wt->datagram_bytes_out = (uint32_t)config->datagram_bytes_out;
    wt->capsule_skip_max = config->wt_capsule_skip_max;
    wt->allowed_origins = (const char *const *)config->wt_allowed_origin.items;
    wt->allowed_origins_len = config->wt_allowed_origin.n;
}

void ph_engines_ws_config(struct ph_ws_config *ws, const struct ph_config *config)
{
    *ws = (struct ph_ws_config){
        .max_size = config->ws_max_size,
        .max_frames = (uint32_t)config->ws_max_frames,
        .max_queue = (uint32_t)config->ws_max_queue,
        .queue_bytes = config->ws_queue_bytes,
        .ping_interval = config->ws_ping_interval * PH_MSEC,
        .ping_timeout = config->ws_ping_timeout * PH_MSEC,
        .close_timeout = config->ws_close_timeout * PH_MSEC,
        .deflate = config->ws_per_message_deflate != 0,
        .allowed_origins = (const char *const *)config->ws_allowed_origin.items,
        .allowed_origins_len = config->ws_allowed_origin.n,
    };
}

void ph_engines_h3_config(struct ph_h3_config *h3, const struct ph_config *config)
{
    ph_h3_config_default(h3);
    h3->head_bytes = config->head_bytes;
    h3->head_fields = config->head_fields;
    h3->target_bytes = config->target_bytes;
    h3->head_encoded = config->head_encoded;
    h3->max_body = config->max_body;
    h3->header_timeout = config->header_timeout * PH_MSEC;
    h3->body_timeout = config->body_timeout * PH_MSEC;
    h3->write_stall_timeout = config->write_stall_timeout * PH_MSEC;
    h3->min_send_rate = config->min_send_rate;
    h3->no_request_timeout = config->no_request_timeout * PH_MSEC;
    h3->cancel_burst = config->cancel_burst;
    h3->cancel_rate = config->cancel_rate;
    h3->webtransport = config->webtransport != 0;
    h3->websocket = config->websocket != 0;
}

int ph_engines_quic_config(struct ph_quic_config *quic, const struct ph_config *config,
                           struct ph_err *err)
{
    ph_quic_config_default(quic);
    quic->alpn = "h3";
    quic->bbr = config->congestion == PH_CC_BBR;
    quic->always_retry = config->retry == PH_RETRY_ALWAYS;
    quic->half_open_retry = (uint32_t)config->half_open_retry;
    quic->half_open_max = (uint32_t)config->half_open_max;
    quic->max_conns = (uint32_t)config->max_connections; /* with TCP's: see admission.c */
    quic->idle_timeout = config->idle_timeout * PH_MSEC;
    quic->handshake_timeout = config->handshake_timeout * PH_MSEC;
    quic->max_streams_bidi = config->max_streams_bidi;
    quic->max_streams_uni = config->max_streams_uni;
    quic->stream_window = config->stream_window;
    quic->conn_window = config->conn_window;
    /* At least the first window: who raises only conn_window means both. */
    quic->window_max = PH_MAX(config->window_max, config->conn_window);
    quic->max_datagram_frame = config->max_datagram_frame;
    quic->vn_rate = (uint32_t)config->vn_rate;
    quic->retry_rate = (uint32_t)config->retry_rate;
    quic->reset_rate = (uint32_t)config->reset_rate;
    quic->glitch_burst = config->glitch_burst;
    quic->glitch_rate = config->glitch_rate;
    quic->worker = (uint16_t)config->worker;
    return ph_engines_secret(quic->secret, config, err);
}

void ph_engines_udp_options(struct ph_udp_options *udp, const struct ph_config *config)
{
    *udp = (struct ph_udp_options){
        .buffer_bytes = config->udp_buffer,
        .reuse_port = config->reuse_port != 0,
        .no_gso = config->gso == 0,
        .no_gro = config->gro == 0,
    };
}

void ph_engines_chan_limits(struct ph_chan_limits *limits, const struct ph_config *config)
{
    *limits = (struct ph_chan_limits){
        .high = config->send_buffer,
        .low = config->send_buffer_low,
        .conn_high = config->conn_send_buffer,
        .session_high = config->session_send_buffer,
        .session_low = config->session_send_buffer / 4, /* as send_buffer_low by default */
        .datagrams_in = (uint32_t)config->datagrams_in,
        .datagram_bytes_in = (uint32_t)config->datagram_bytes_in,
        .datagrams_out = (uint32_t)config->datagrams_out,
    };
}

/* What is offered on TCP: the alpn option without "h3", which QUIC always speaks. */
static void alpn_configure(struct ph_server *server)
{
    const struct ph_text_list *alpn = &server->config->alpn;
    size_t n = 0;
    if (alpn->n == 0) {
        server->tcp_alpn[n++] = PH_ALPN_H2;
        server->tcp_alpn[n++] = PH_ALPN_H1;
    }
    for (size_t i = 0; i < alpn->n; i++) {
        const char *name = strcmp(alpn->items[i], PH_ALPN_H2) == 0   ? PH_ALPN_H2
                           : strcmp(alpn->items[i], PH_ALPN_H1) == 0 ? PH_ALPN_H1
                                                                     : NULL;
        if (name == NULL && server->udp_n == 0)
            ph_log(PH_LOG_INFO, "tls: alpn name ignored without quic_bind name=%s", alpn->items[i]);
        bool is_new = name != NULL;
        for (size_t k = 0; k < n; k++)
            is_new = is_new && server->tcp_alpn[k] != name;
        if (is_new)
            server->tcp_alpn[n++] = name;
    }
    server->tcp_alpn[n] = NULL;
}

static int make_engines(struct ph_server *server, const struct ph_quic_config *quic,
                        struct ph_err *err)
{
    const struct ph_config *config = server->config;
    struct ph_h3_ext ext;
    /* From the top down: each gets the sink of the one above it. */
    if (config->webtransport != 0) {
        struct ph_wt_config wt;
        struct ph_wt_sink wt_sink;
        ph_engines_wt_config(&wt, config);
        ph_bridge_wt_sink(server, &wt_sink);
        server->wt = ph_wt_new(&wt, &wt_sink, &server->stats);
        ph_wt_h3_ext(server->wt, &ext);
    }
    struct ph_h3_config h3;
    ph_engines_h3_config(&h3, config);
    server->h3 =
        ph_h3_new(&h3, &server->http_sink, server->wt != NULL ? &ext : NULL, &server->stats);
    struct ph_quic_sink quic_sink;
    ph_h3_quic_sink(server->h3, &quic_sink);
    struct ph_quic_out out = {.self = server, .send = quic_send, .forward = ph_mesh_front_forward};
    return ph_quic_endpoint_new(&server->quic, quic, &quic_sink, &out, &server->stats, server->now,
                                err);
}

int ph_engines_new(struct ph_server *server, struct ph_err *err)
{
    ph_engines_h1_config(&server->h1_config, server->config);
    ph_engines_h2_config(&server->h2_config, server->config);
    ph_bridge_http_sink(server, &server->http_sink);
    if (server->config->websocket != 0) {
        ph_engines_ws_config(&server->ws_config, server->config);
        ph_bridge_ws_sink(server, &server->ws_sink);
        server->ws = ph_ws_host_new(&server->ws_config, &server->stats);
    }
    alpn_configure(server);
    if (server->udp_n == 0)
        return 0;
    struct ph_quic_config quic;
    int rc = ph_engines_quic_config(&quic, server->config, err);
    quic.cred = server->quic_cred;
    quic.admission = &server->admission;
    if (rc == 0)
        rc = make_engines(server, &quic, err);
    explicit_bzero(&quic, sizeof(quic)); /* the secret does not stay on the stack */
    return rc;
}

/* QUIC first: it tells those above of the end of its connections while they are there. */
void ph_engines_free(struct ph_server *server)
{
    if (server->quic != NULL)
        ph_quic_endpoint_free(server->quic);
    if (server->h3 != NULL)
        ph_h3_free(server->h3);
    if (server->wt != NULL)
        ph_wt_free(server->wt);
    if (server->ws != NULL)
        ph_ws_host_free(server->ws);
    server->ws = NULL;
    server->quic = NULL;
    server->h3 = NULL;
    server->wt = NULL;
}
