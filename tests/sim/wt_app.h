/*
 * wt_app.h - an owner of WebTransport sessions for simulations: it writes down every event, checks
 * their order, answers, echoes. Both roles, since client and server are the same core.
 *
 *      struct wt_pair pair;
 *      wt_pair_init(&pair, seed, &wt_clean_link);     change configurations ...
 *      CHECK(wt_pair_connect(&pair));                 h3 is up, SETTINGS are known
 *      struct wt_slog *mine = wt_open_session(&pair, "/path");
 *      CHECK(wt_run(&pair, wt_is_ready, mine));
 *
 * A raw peer (wt_raw.h) takes the place of one side for tests on bytes.
 */
#ifndef PH_SIM_WT_APP_H
#define PH_SIM_WT_APP_H

#include "net.h"

#include "../../src/h3/h3.h"
#include "../../src/http/http.h"
#include "../../src/wt/wt.h"

extern const struct sim_link wt_clean_link; /* 10 ms each way */

struct wt_app;

struct wt_datagram_log {
    uint8_t *data;
    size_t n;
};

/* One session, from one side. */
struct wt_slog {
    struct wt_app *app;
    struct ph_wt_session *session; /* NULL once closed */
    uint64_t id;
    unsigned ready, closed, drains_local, drains_peer;
    char subprotocol[64]; /* client: the server's choice */
    char path[64];
    struct ph_wt_end end;
    char reason[PH_WT_REASON_MAX + 1];
    struct wt_datagram_log *datagrams;
    size_t datagrams_count, datagrams_cap, datagrams_left;
    size_t streams_alive;
};

/* One stream, from one side. */
struct wt_log {
    struct wt_slog *session;
    struct ph_wt_stream *stream; /* NULL once closed */
    uint64_t id;
    bool by_peer, bidi, opened, fin, reset, stopped, has_code, closed;
    uint32_t code;
    uint8_t *rx;
    size_t rx_len, rx_cap, acked, written, held;
    struct wt_log *echo; /* where the bytes go back to */
};

enum wt_answer { WT_ANSWER_ACCEPT, WT_ANSWER_LATER, WT_ANSWER_REJECT };

struct wt_app {
    /* Policy. */
    enum wt_answer answer;
    int reject_status;       /* with the body "no" */
    const char *subprotocol; /* chosen when offered */
    bool echo;               /* bidi streams and datagrams come back, uni streams as new ones */
    bool hold;               /* do not consume */
    bool close_on_stream;    /* end the session inside on_stream */
    bool close_on_data;
    bool reset_on_closed_stream; /* misuse: act on the session inside on_stream_closed */
    /* What happened. */
    struct wt_slog **sessions;
    size_t sessions_count, sessions_cap;
    struct wt_log **streams;
    size_t streams_count, streams_cap;
    char order[64]; /* of arrival: 's' a stream by the peer, 'd' a datagram */
    size_t order_len;
    unsigned exchanges, settings, responses;
    int response_status;
    char response_body[64];
    /* The stack. */
    struct ph_wt_config wt_config;
    struct ph_h3_config h3_config;
    struct ph_wt *wt;
    struct ph_h3 *h3;
    struct ph_quic_sink quic_sink;
    struct ph_stats stats; /* of h3 and wt */
    struct sim_node *node;
};

void wt_app_init(struct wt_app *app);
void wt_app_start(struct wt_app *app); /* makes the stack; then give quic_sink to sim_node_new() */
void wt_app_attach(struct wt_app *app, struct sim_node *node); /* timers */
void wt_app_fini(struct wt_app *app);                          /* after the endpoint is gone */
/* Client: CONNECT to https://localhost:4433. NULL: refused locally. */
struct wt_slog *wt_app_connect(struct wt_app *app, struct ph_quic_conn *quic, const char *path,
                               const struct ph_field *fields, size_t n, const char *const *offered,
                               size_t offered_len);
struct wt_slog *wt_app_session(const struct wt_app *app, size_t index); /* NULL: none */
struct wt_log *wt_app_stream(const struct wt_app *app, size_t index);
struct wt_log *wt_app_stream_by_id(const struct wt_app *app, uint64_t id);

struct wt_pair {
    struct sim *sim;
    struct ph_tls_cred *server_cred, *client_cred;
    struct ph_quic_config server_config, client_config;
    struct wt_app server, client;
    struct sim_node *server_node, *client_node;
    struct ph_quic_conn *quic; /* the client's */
};
void wt_pair_init(struct wt_pair *pair, uint64_t seed, const struct sim_link *link);
bool wt_pair_connect(struct wt_pair *pair); /* until the client knows the server's SETTINGS */
void wt_pair_fini(struct wt_pair *pair);
bool wt_run(struct wt_pair *pair, bool (*condition)(void *arg), void *arg); /* 30 s of its time */

/* The pair's client, as wt_app_connect(). */
struct wt_slog *wt_open_session(struct wt_pair *pair, const char *path);
struct wt_slog *wt_open_session_with(struct wt_pair *pair, const char *path,
                                     const struct ph_field *fields, size_t n,
                                     const char *const *offered, size_t offered_len);
/* Connects, opens one session and runs until both sides have it. */
struct wt_slog *wt_pair_session(struct wt_pair *pair);

struct wt_log *wt_open_stream(struct wt_slog *session, bool bidi);
void wt_write(struct wt_log *log, const void *data, size_t n, bool fin);
void wt_write_pattern(struct wt_log *log, size_t n, uint64_t salt, bool fin);
bool wt_is_pattern(const struct wt_log *log, size_t n, uint64_t salt);
void wt_consume_held(struct wt_log *log);
int wt_send_datagram(struct wt_slog *session, const void *data, size_t n);

/* Conditions for wt_run(). */
bool wt_is_ready(void *slog);
bool wt_is_closed(void *slog);
bool wt_has_fin(void *log);
bool wt_stream_is_closed(void *log);
bool wt_has_session(void *app); /* at least one */
bool wt_all_closed(void *app);  /* every stream so far */

#endif
