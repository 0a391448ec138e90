/*
 * quic_app.h - an owner of QUIC connections for simulations: it writes down every event, consumes
 * or holds back, and can echo.
 */
#ifndef PH_SIM_QUIC_APP_H
#define PH_SIM_QUIC_APP_H

#include "net.h"

/* What happened on one stream, from this side. */
struct quic_log {
    uint64_t id;
    struct ph_quic_stream *stream; /* NULL once closed */
    uint8_t *rx;
    size_t rx_len, rx_cap, acked, held; /* held: delivered and not consumed */
    bool by_peer, fin, reset, stopped, closed;
    uint64_t reset_code, stop_code, final_size;
};

struct quic_app {
    struct ph_quic_sink sink;  /* give it to sim_node_new() */
    struct ph_quic_conn *conn; /* the latest; NULL once closed */
    unsigned ready, handshakes, closed, available_bidi, available_uni;
    struct ph_quic_end end;
    bool hold;         /* do not consume */
    bool echo;         /* bidirectional streams come back */
    bool stop_at_once; /* STOP_SENDING from inside the first on_data of each stream of the peer */
    bool hold_credit;  /* of streams that the peer opens */
    struct quic_log **logs;
    size_t logs_count, logs_cap;
    uint32_t *datagrams; /* first four bytes of each */
    size_t datagrams_count, datagrams_cap, datagram_bytes;
};

void quic_app_init(struct quic_app *app);
void quic_app_fini(struct quic_app *app);
struct quic_log *quic_app_log(struct quic_app *app, uint64_t id); /* NULL: never seen */
/* Opens a stream and begins its log. */
struct quic_log *quic_app_open(struct quic_app *app, bool bidi);
/* Consumes everything that was held back. */
void quic_app_release(struct quic_app *app);
/* Bytes that depend on position and `salt` only. */
void quic_pattern(uint8_t *out, size_t n, uint64_t salt);
/* Writes n pattern bytes to the stream in pieces of at most 10 000 bytes, and FIN. */
void quic_write_pattern(struct ph_quic_stream *stream, size_t n, uint64_t salt, bool fin);
bool quic_is_pattern(const struct quic_log *log, size_t n, uint64_t salt);

/* The pair that most tests need: nodes 0 (server) and 1 (client), connected or about to be. */
struct quic_pair {
    struct sim *sim;
    struct ph_tls_cred *server_cred, *client_cred;
    struct quic_app server, client;
    struct sim_node *server_node, *client_node;
    struct ph_quic_config server_config, client_config;
};
/* Default configurations; change them before quic_pair_start(). */
void quic_pair_init(struct quic_pair *pair, uint64_t seed, const struct sim_link *link);
void quic_pair_start(struct quic_pair *pair);   /* nodes and a connection attempt */
bool quic_pair_connect(struct quic_pair *pair); /* start, and run until both are done */
void quic_pair_fini(struct quic_pair *pair);
bool quic_pair_run(struct quic_pair *pair, bool (*condition)(void *pair), uint64_t limit);
extern const struct sim_link quic_clean_link; /* 10 ms each way */

#endif
