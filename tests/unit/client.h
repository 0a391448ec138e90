/*
 * client.h - an HTTP/3 and WebTransport client on a real UDP socket, made of the same engines as
 * the server (ph_quic, ph_h3 and ph_wt in their client roles), for tests against a server in this
 * process or anywhere.
 *
 *      client_init(&client, &server_addr);
 *      session = client_session(&client, "/path", ...);       once client.settings is set
 *      loop: poll client_fd() until client_timeout(), then client_turn()
 *      client_fini(&client);
 *
 * It writes down what happens to each session and stream. One thread; nothing here waits.
 */
#ifndef PH_TEST_CLIENT_H
#define PH_TEST_CLIENT_H

#include "../../src/h3/h3.h"
#include "../../src/http/http.h"
#include "../../src/io/io.h"
#include "../../src/quic/quic.h"
#include "../../src/wt/wt.h"

struct client;

struct client_stream {
    struct client_stream *next;
    struct client *client;
    struct client_session *session;
    struct ph_wt_stream *wt; /* NULL once closed */
    uint64_t id;
    bool by_peer, opened, fin, reset, stopped, closed;
    bool hold; /* do not consume: the peer's credit runs out */
    uint32_t reset_code, stop_code;
    uint8_t *data; /* received, when the client keeps it */
    size_t len, cap, acked, held;
};

struct client_session {
    struct client_session *next;
    struct client *client;
    struct ph_wt_session *wt; /* NULL once closed */
    bool ready, closed, clean, drain;
    int status; /* of a refusal */
    uint32_t code;
    char reason[1025];
    char subprotocol[64];
    size_t datagrams, datagram_bytes;
    uint8_t datagram[1500]; /* the last one */
    size_t datagram_len;
};

/* A plain request. */
struct client_request {
    struct client_request *next;
    struct ph_h3_request *h3; /* NULL once closed */
    int status;
    bool end, closed;
    uint64_t code;
    uint8_t *body;
    size_t len, cap;
    char server[32], date[32], content_type[64];
};

struct client {
    struct ph_stats stats;
    struct ph_udp *udp;
    struct ph_addr local, remote;
    struct ph_tls_cred *cred;
    struct ph_quic_endpoint *endpoint;
    struct ph_h3 *h3;
    struct ph_wt *wt;
    struct ph_h3_conn *conn; /* after its settings; NULL once closed */
    uint64_t now;
    bool settings, closed, hold; /* hold: new streams begin with hold set */
    struct client_stream *streams;
    struct client_session *sessions;
    struct client_request *requests;
};

/* Begins a connection to `remote` from a socket of its own. */
void client_init(struct client *client, const struct ph_addr *remote);
/* Closes the connection with one flush and frees everything. */
void client_fini(struct client *client);
/* Goes on from a new socket without knowing it, as behind a NAT that forgot the client. */
void client_move(struct client *client);
int client_fd(const struct client *client);
int client_timeout(const struct client *client, int max_ms); /* for poll() */
void client_turn(struct client *client);
/* Closes the connection with this HTTP/3 code. */
void client_close(struct client *client, uint64_t code);

/* NULL: the server's settings are not known, or forbid it. */
struct client_session *client_session(struct client *client, const char *path,
                                      const struct ph_field *fields, size_t n,
                                      const char *const *offered, size_t offered_len);
struct client_stream *client_open(struct client_session *session, bool bidi);
void client_write(struct client_stream *stream, const void *data, size_t n, bool fin);
/* Consumes what was held, and stops holding. */
void client_resume(struct client_stream *stream);
int client_datagram(struct client_session *session, const void *data, size_t n);
struct client_request *client_request(struct client *client, const char *method, const char *path,
                                      const void *body, size_t n);
/* The first stream of a session that the server opened; NULL: none yet. */
struct client_stream *client_peer_stream(const struct client_session *session);

#endif
