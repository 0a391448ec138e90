/*
 * h3_app.h - HTTP/3 over the simulated network: a server whose answers follow from the path of a
 * request, and either an HTTP/3 client or a raw one that writes any bytes on QUIC streams.
 *
 *      struct h3_world world;
 *      h3_world_init(&world, seed, &quic_clean_link);
 *      h3_world_start(&world, H3_RAW);           ... or H3_CLIENT
 *      ... requests, or h3_raw_send() ...
 *      h3_world_fini(&world);
 *
 * Paths of the server: "/wait" (the test answers), "/hold" (as /wait, and the body is not
 * consumed), "/echo" (body and trailers come back at the end),
 * "/bytes/N" (N pattern bytes in pieces of 10 000), "/reset" (aborted at the head), any other:
 * "hello".
 */
#ifndef PH_SIM_H3_APP_H
#define PH_SIM_H3_APP_H

#include "../../src/h3/h3.h"
#include "../../src/http/http.h"
#include "quic_app.h"

/* H3_RAW_SERVER: our client against a server that writes any bytes (`raw` is the server then). */
enum h3_world_kind { H3_CLIENT, H3_RAW, H3_RAW_SERVER };

/* One exchange, as the server's sink saw it, or one response, as the client's did. */
struct h3_log {
    struct ph_exchange *ex;    /* server; NULL once closed */
    struct ph_h3_request *req; /* client; NULL once closed */
    struct h3_world *world;
    char method[16], target[64];
    int status;
    unsigned heads, ends, closes, trailer_sections;
    char trailer[64]; /* "name: value" of the first trailer */
    uint8_t *body;
    size_t body_len, body_cap, acked;
    size_t held; /* not consumed */
    bool clean;
    uint64_t code;
};

enum { H3_LOGS = 4096 };

struct h3_world {
    struct sim *sim;
    struct ph_tls_cred *server_cred, *client_cred;
    struct sim_node *server_node, *client_node;
    struct ph_quic_config server_quic, client_quic;
    struct ph_h3_config server_config, client_config;
    struct ph_stats stats, client_stats; /* of HTTP/3 */
    struct ph_h3 *server, *client;       /* client NULL for a raw one */
    struct quic_app raw;
    struct ph_h3_conn *conn;            /* client's; NULL once closed */
    struct ph_h3_ext ext;               /* server's; used when has_ext */
    const struct ph_h3_ext *client_ext; /* the client's, may be NULL */
    bool has_ext;
    bool hold_client; /* the client consumes nothing */
    struct h3_log *requests[H3_LOGS], *responses[H3_LOGS];
    size_t requests_count, responses_count;
    unsigned settings, conn_closes;
    unsigned connects, connect_closes, connect_ends, connect_stops, goaways, datagrams, claims,
        claim_ends;
    struct ph_h3_request *connect; /* the latest; NULL once closed */
    struct ph_h3_conn *ext_conn;
    uint8_t connect_data[256], claim_data[256];
    size_t connect_len, claim_len;
    uint64_t connect_code, datagram_stream, claim_type;
    bool connect_by_reset, refuse_connect, reset_connect, refuse_stream, claim_fin, claim_reset;
};

void h3_world_init(struct h3_world *world, uint64_t seed, const struct sim_link *link);
/* Nodes, connection and handshake; the client also has the server's SETTINGS. */
void h3_world_start(struct h3_world *world, enum h3_world_kind kind);
void h3_world_fini(struct h3_world *world);
/* A server extension that takes every CONNECT, stream and datagram and writes down what it sees. */
void h3_world_use_ext(struct h3_world *world);

/* Client: sends a request; the log of its response. */
struct h3_log *h3_send(struct h3_world *world, const char *method, const char *target,
                       const struct ph_field *more, size_t n, bool fin);
bool h3_log_is(const struct h3_log *log, const char *text);
bool h3_log_is_pattern(const struct h3_log *log, size_t n);
/* Runs until both ways are silent for a virtual second, at most `limit`. */
void h3_run(struct h3_world *world, uint64_t limit);

/* Raw: opens a stream and writes bytes (and FIN); its log. */
struct quic_log *h3_raw_open(struct h3_world *world, bool bidi, const void *data, size_t n,
                             bool fin);
/* One QUIC datagram of at least 2 bytes. */
void h3_raw_datagram(struct h3_world *world, const void *data, size_t n);
/* HEADERS frame of these fields, by our encoder. Returns its length. */
size_t h3_raw_head(uint8_t *out, size_t cap, const struct ph_field *fields, size_t n);
/* The same for a GET (or another method) of https://localhost/`target`. */
size_t h3_raw_request(uint8_t *out, size_t cap, const char *method, const char *target);
/* Status of the first HEADERS frame on a raw stream; 0: none, -1: not readable. */
int h3_raw_status(const struct quic_log *log);
/* Error code that the other side closed the connection with; 0 while it is open. */
uint64_t h3_raw_closed(const struct h3_world *world);

#define H3_FIELD(n, v)                                                                             \
    {                                                                                              \
        .name = n, .value = v, .name_len = sizeof(n) - 1, .value_len = sizeof(v) - 1               \
    }

#endif
