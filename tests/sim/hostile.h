/*
 * hostile.h - a QUIC client that keeps the keys right and the frames wrong.
 *
 * It is an ngtcp2 connection of its own on a raw node. Just before a packet is encrypted its
 * plaintext is replaced, so any sequence of frames can be sent under valid keys. One at a time.
 */
#ifndef PH_SIM_HOSTILE_H
#define PH_SIM_HOSTILE_H

#include "net.h"

#include <ngtcp2/ngtcp2.h>

struct hostile;

struct hostile_options {
    bool split;           /* the first ClientHello is sent without its beginning */
    const uint8_t *token; /* for its Initial packets; NULL: none */
    size_t token_len;
    const struct ph_addr *addr; /* instead of the node's own */
    /* Makes the transport parameters what they should not be; NULL: they are honest. */
    void (*tune)(ngtcp2_transport_params *params);
};
/* Begins a handshake. `options` NULL: all zero. */
struct hostile *hostile_new(struct sim *sim, struct sim_node *server, struct ph_tls_cred *cred,
                            const struct hostile_options *options);
void hostile_free(struct hostile *hostile);
bool hostile_is_ready(const struct hostile *hostile); /* handshake confirmed */
/* Tells its own library that bidirectional streams 0, 4, ... are open, so that it bears answers. */
void hostile_open(struct hostile *hostile, unsigned n);
/* Sends one packet with exactly these frames (and PADDING) and lets 100 ms pass. */
void hostile_send(struct hostile *hostile, const void *frames, size_t n);
/* The same without waiting afterwards. */
void hostile_send_now(struct hostile *hostile, const void *frames, size_t n);
/* Bytes that it holds itself: it keeps a record of what it sent. */
size_t hostile_memory(void);
/* Uses up a packet number: its packet is not sent. */
void hostile_skip(struct hostile *hostile);
/* The NEW_TOKEN that came; its length, 0: none. */
size_t hostile_token(const struct hostile *hostile, uint8_t *out, size_t cap);
/* The server closed the connection: its code, and whether it is an application's. */
bool hostile_is_closed(const struct hostile *hostile, uint64_t *code, bool *app);

#endif
