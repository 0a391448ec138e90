/*
 * net.h - a network in one process: a virtual clock, nodes that are QUIC endpoints, and a seeded
 * link that delays, loses, reorders, duplicates and corrupts their packets.
 *
 *      struct sim *sim = sim_new(seed, &link);
 *      struct sim_node *server = sim_node_new(sim, &config, &sink);   ... client ...
 *      sim_connect(client, server, cred, &conn);
 *      CHECK(sim_run_until(sim, is_done, &state, 10 * PH_SEC));
 *      sim_free(sim);
 *
 * The same seed gives the same trace (sim->trace): every random decision, those of ngtcp2 included,
 * is drawn from it. TLS draws its own random bytes, so the credentials of sim_cred() are Ed25519:
 * their signatures have one size.
 */
#ifndef PH_SIM_NET_H
#define PH_SIM_NET_H

#include "../../src/quic/quic.h"
#include "../../src/tls/tls.h"

/* --- Randomness --- */

struct sim_rng {
    uint64_t state;
};
uint64_t sim_rng_next(struct sim_rng *rng);
uint64_t sim_rng_below(struct sim_rng *rng, uint64_t n);

/* --- Network --- */

/* Of one direction; probabilities in thousandths. */
struct sim_link {
    uint64_t delay;  /* ns, one way */
    uint64_t jitter; /* ns, uniform, on top */
    unsigned loss, duplicate, corrupt;
    unsigned reorder; /* these wait `reorder_delay` longer */
    uint64_t reorder_delay;
    uint64_t rate;                       /* bytes a second; 0: no limit */
    uint64_t queue;                      /* bytes waiting for the rate at most; 0: no limit */
    uint64_t blackout_from, blackout_to; /* ns: everything is lost in between */
    size_t mtu;                          /* larger payloads vanish; 0: no limit */
    unsigned ce;                         /* of packets with ECT: marked "congestion experienced" */
    bool bleach;                         /* ECN marks are taken off */
};

struct sim;
struct sim_node;

/* Sees every payload that a node sends, before the link treats it. */
typedef void (*sim_tap_fn)(void *self, struct sim_node *from, const uint8_t *data, size_t n);

struct sim_node {
    struct sim *sim;
    unsigned index;
    struct ph_quic_endpoint *ep; /* NULL after sim_node_kill() and for raw nodes */
    void *raw;                   /* what arrives at a raw node goes to raw_feed */
    void (*raw_feed)(void *raw, const struct ph_path *path, const uint8_t *data, size_t n);
    struct ph_stats stats;
    struct ph_addr addr;   /* as the node knows itself */
    struct ph_addr public; /* as the others see it: sim_rebind() changes it */
    struct sim_link link;  /* what the node sends goes through this */
    struct sim_rng rng;    /* of the endpoint */
    uint64_t link_free;    /* ns: when the rate lets the next packet out */
    uint64_t bytes_out, bytes_in, packets_out, packets_in;
    size_t largest_out, smallest_out;
    unsigned sends;      /* calls that sent something */
    uint64_t ecn_out[4]; /* packets by their mark, as sent */
    uint64_t ce_marked;  /* of those, by the link */
    bool limited;        /* the socket takes only `allowance` more bytes */
    size_t allowance;
    /* Timers of a layer above, may be NULL. */
    void *upper;
    void (*upper_expire)(void *upper, uint64_t now);
    uint64_t (*upper_next)(const void *upper);
};

enum { SIM_NODES = 8 };

struct sim {
    uint64_t now; /* ns */
    uint64_t seed;
    struct sim_rng rng; /* of the links */
    struct sim_node *nodes[SIM_NODES];
    unsigned nodes_count;
    struct sim_packet **heap; /* by time of arrival, then by number */
    size_t heap_count, heap_cap;
    uint64_t number;
    uint64_t trace; /* hash of time, sender, size and fate of every packet */
    sim_tap_fn tap;
    void *tap_self;
};

struct sim *sim_new(uint64_t seed, const struct sim_link *link);
void sim_free(struct sim *sim); /* endpoints included */

/* Server: 10.0.0.(index + 1):4433 and so on. `config->rand` is replaced by the node's generator. */
struct sim_node *sim_node_new(struct sim *sim, const struct ph_quic_config *config,
                              const struct ph_quic_sink *sink);
/* A node that is no endpoint: it gets payloads, and sends with sim_node_send(). Its timers are the
 * `upper` ones. */
struct sim_node *sim_node_raw(struct sim *sim, void *raw,
                              void (*feed)(void *raw, const struct ph_path *path,
                                           const uint8_t *data, size_t n));
void sim_node_send(struct sim_node *node, const struct ph_addr *to, const uint8_t *data, size_t n);
/* The process dies: its state is lost, nothing is said. sim_node_revive() starts a new endpoint at
 * the same address. */
void sim_node_kill(struct sim_node *node);
void sim_node_revive(struct sim_node *node, const struct ph_quic_config *config,
                     const struct ph_quic_sink *sink);
/* NAT: from now on the node appears at another port (and address); the old one is dead. */
void sim_rebind(struct sim_node *node, bool address_too);
/* A payload out of nowhere, as if it came from `from`, arriving now. */
void sim_inject(struct sim_node *to, const struct ph_addr *from, const uint8_t *data, size_t n);

int sim_connect(struct sim_node *client, struct sim_node *server, struct ph_tls_cred *cred,
                struct ph_quic_conn **conn);

/* One turn: flush, reap, then the clock jumps to the next packet or timer (at most `until`), and
 * what is due happens. false: the clock reached `until`. */
bool sim_step(struct sim *sim, uint64_t until);
/* Runs until the condition holds; false when it does not within `limit` ns of virtual time. */
bool sim_run_until(struct sim *sim, bool (*condition)(void *arg), void *arg, uint64_t limit);
void sim_run_for(struct sim *sim, uint64_t duration);

/* Bytes of memory in use by this process. 0 where the allocator does not say (sanitizers). */
size_t sim_memory(void);

/* --- Credentials --- */

/* A fresh Ed25519 server certificate, or client credentials that trust anything. Caller owns one
 * reference; aborts when the system cannot provide it. */
struct ph_tls_cred *sim_cred_server(void);
struct ph_tls_cred *sim_cred_client(void);

#endif
