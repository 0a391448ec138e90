/*
 * world.h - a real server on loopback with an application on the test's thread, and clients beside
 * it: what tests of the whole core stand on.
 *
 *      struct world world;
 *      world_start(&world, (const char *[]){"quic_bind", "127.0.0.1:0", NULL});
 *      WORLD_UNTIL(&world, condition);      one step after another, 20 s at most
 *      world_stop(&world);
 *
 * The application answers by path; see world.c.
 */
#ifndef PH_TEST_WORLD_H
#define PH_TEST_WORLD_H

#include "client.h"
#include "test.h"

enum { WORLD_CHANS = 4096 };

/* What the application knows of one channel. */
struct world_chan {
    struct world *world;
    ph_chan *chan; /* NULL once released */
    struct world_chan *parent;
    ph_chan_kind kind;
    uint64_t id;
    char target[64];
    size_t received, owed; /* owed: not consumed */
    size_t to_write;       /* of a long answer: bytes left */
    size_t written, most_queued;
    unsigned datagrams, opened, drains, resets, stops, writables;
    bool tls, fin, closed, clean, local, drain_local, waiting;
    uint64_t code;
    char reason[64];
};

struct world {
    ph_server *server;
    struct client *clients[8];
    size_t clients_n;
    int tcp;            /* a raw connection; -1: none */
    int also;           /* a descriptor that a step waits for besides; 0: none */
    char text[1 << 19]; /* received on it */
    size_t text_len;
    bool tcp_eof, tcp_reset;
    bool hold;   /* the application does not consume */
    bool silent; /* the application answers no session */
    bool stopped, events_after_stop, leave_open;
    size_t events, logs;
    char log[512]; /* the last line */
    size_t chans_n;
    struct world_chan *chans[WORLD_CHANS];
    uint64_t deadline;
    char dir[64]; /* for certificates */
};

/* `options`: names and values, ending with NULL. "cert" as a value of certfile stands for a
 * certificate made for the test; "" clears. */
void world_start(struct world *world, const char *const *options);
void world_make(struct world *world, const char *const *options); /* the same, not started */
void world_stop(struct world *world);
/* Waits a little and lets everybody act once. */
void world_step(struct world *world);
#define WORLD_UNTIL(world, condition)                                                              \
    do {                                                                                           \
        (world)->deadline = ph_clock_now() + 20 * PH_SEC;                                          \
        while (!(condition)) {                                                                     \
            if (ph_clock_now() > (world)->deadline)                                                \
                ph_test_fail(__FILE__, __LINE__, "not within 20 s: %s", #condition);               \
            world_step(world);                                                                     \
        }                                                                                          \
    } while (0)

struct ph_addr world_addr(const struct world *world, const char *kind);
void world_connect(struct world *world, struct client *client); /* QUIC; until its settings */
void world_drop(struct world *world, struct client *client);
/* A session that was accepted. */
struct client_session *world_session(struct world *world, struct client *client, const char *path);
void world_tcp(struct world *world, const char *kind, const char *text); /* connects and sends */
void world_tcp_send(struct world *world, const char *p, size_t n);
void world_tcp_close(struct world *world);
/* The application opens a stream; lets go of a channel. */
struct world_chan *world_open(struct world_chan *session, bool bidi);
void world_release(struct world_chan *note);
/* The newest channel of a kind. */
struct world_chan *world_last(const struct world *world, ph_chan_kind kind);
struct world_chan *world_stream(const struct world *world, uint64_t id);
/* Consumes what the application held. */
void world_consume(struct world *world);
ph_stats world_stats(const struct world *world);

#endif
