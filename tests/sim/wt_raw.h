/*
 * wt_raw.h - a peer that writes bytes on QUIC streams, against a WebTransport owner of this core:
 * conformance tests say exactly what is on the wire.
 *
 *      struct wt_raw raw;
 *      wt_raw_init(&raw, false);                      raw client against a server
 *      CHECK(wt_raw_start(&raw));                     handshake; the raw control stream is open
 *      struct quic_log *connect = wt_raw_connect(&raw, "/path");
 *      wt_raw_run(&raw);
 *      CHECK_INT(wt_raw_status(&raw, connect), ==, 200);
 */
#ifndef PH_SIM_WT_RAW_H
#define PH_SIM_WT_RAW_H

#include "quic_app.h"
#include "wt_app.h"

struct wt_raw {
    struct sim *sim;
    struct ph_tls_cred *server_cred, *client_cred;
    struct ph_quic_config server_config, client_config;
    bool is_server;      /* the raw side's role */
    struct quic_app raw; /* events on the raw side */
    struct wt_app app;   /* the side under test */
    struct sim_node *raw_node, *app_node;
    struct ph_quic_conn *quic; /* client's */
    struct ph_qpack *qpack;
    struct {
        uint64_t session_id;
        struct ph_quic_dgramq q;
    } dgramqs[8];
    unsigned dgramqs_count;
    struct quic_log *control; /* the raw side's control stream */
    bool no_control;          /* do not open the control stream in wt_raw_start() */
    const uint8_t *settings;  /* payload; the default speaks draft-02 as browsers do */
    size_t settings_len;
};
void wt_raw_init(struct wt_raw *raw, bool is_server);
bool wt_raw_start(struct wt_raw *raw);
void wt_raw_fini(struct wt_raw *raw);
void wt_raw_run(struct wt_raw *raw); /* one second */
void wt_raw_control(struct wt_raw *raw);

/* --- Writing --- */

void wt_raw_write(struct quic_log *log, const void *data, size_t n);
void wt_raw_fin(struct quic_log *log);
void wt_raw_data(struct quic_log *log, const void *data, size_t n); /* one DATA frame */
struct quic_log *wt_raw_open(struct wt_raw *raw, bool bidi);
/* A stream that begins with the header of a WebTransport stream. */
struct quic_log *wt_raw_stream(struct wt_raw *raw, bool bidi, uint64_t session_id);
void wt_raw_head(struct wt_raw *raw, struct quic_log *log, const struct ph_field *fields, size_t n);
/* CONNECT as a browser sends it, with up to n fields more. */
struct quic_log *wt_raw_connect_with(struct wt_raw *raw, const char *path,
                                     const struct ph_field *fields, size_t n);
struct quic_log *wt_raw_connect(struct wt_raw *raw, const char *path);
void wt_raw_connect_on(struct wt_raw *raw, struct quic_log *log, const char *path);
void wt_raw_datagram(struct wt_raw *raw, uint64_t session_id, const void *data, size_t n);
/* The common beginning: start, CONNECT, accepted by the server. */
struct quic_log *wt_raw_session(struct wt_raw *raw);
struct ph_field wt_raw_field(const char *name, const char *value);

/* --- Reading --- */

int wt_raw_status(struct wt_raw *raw, const struct quic_log *log); /* 0: no head yet */
/* Value of a response field, or NULL; valid until the next call. */
const char *wt_raw_response(struct wt_raw *raw, const struct quic_log *log, const char *name);
/* DATA payload received so far; valid until the next call. */
const uint8_t *wt_raw_payload(const struct quic_log *log, size_t *n);
/* The first session of the side under test. */
struct wt_slog *wt_raw_slog(const struct wt_raw *raw);
/* Fails the test when the connection or that session is over. */
void wt_raw_check_alive(const struct wt_raw *raw);

#endif
