/*
 * quic.h - QUIC v1 and v2 over ngtcp2, sans-I/O: packets and the time go in, packets and events
 * come out.
 *
 *      endpoint   first-packet triage, connection-id table, Retry, stateless reset, expiry heap
 *        conn     one ngtcp2_conn with its TLS session
 *          stream   send queue kept until acknowledged, receive credit, reset and stop
 *          dgramq   one bounded outbound datagram queue (a conn may have several; they take turns)
 *
 * Rules: events arrive only inside ph_quic_endpoint_feed(), _expire(), _flush() and _close(); they
 * may call any ph_quic_stream_*, ph_quic_conn_* and ph_quic_dgramq_* function, which only record
 * work; packets are written in _flush() only, memory is freed in _reap() only. One thread.
 */
#ifndef PH_QUIC_H
#define PH_QUIC_H

#include "../base/base.h"

struct ph_tls_cred;
struct ph_quic_endpoint;
struct ph_quic_conn;
struct ph_quic_stream;

/* --- Configuration --- */

struct ph_quic_config {
    struct ph_tls_cred
        *cred;        /* server credentials; the endpoint takes a reference. NULL: client only */
    const char *alpn; /* "h3" */
    bool bbr;         /* CUBIC otherwise */
    bool always_retry;
    uint32_t half_open_retry; /* handshakes under way above which Retry is asked for */
    uint32_t half_open_max;   /* above: dropped */
    uint32_t max_conns;
    struct ph_admission *admission;             /* borrowed; NULL: max_conns alone decides */
    uint64_t idle_timeout, handshake_timeout;   /* ns */
    uint64_t max_streams_bidi, max_streams_uni; /* of the peer, at once */
    uint64_t stream_window, conn_window,
        window_max;              /* bytes; windows grow up to window_max by consumption only */
    uint64_t max_datagram_frame; /* advertised; 0: none taken */
    uint32_t vn_rate, retry_rate, reset_rate; /* stateless answers per second */
    uint64_t glitch_burst, glitch_rate;       /* frames that carry no progress */
    uint8_t secret[32]; /* tokens and stateless resets are derived from it; shared by workers */
    uint16_t worker;    /* index carried by our connection ids */
    uint32_t client_version; /* first version of connections we open; 0: v1 */
    /* Source of connection ids and of what ngtcp2 draws; NULL: ph_random(). Simulations seed it. */
    void (*rand)(void *rand_ctx, void *out, size_t n);
    void *rand_ctx;
};
/* The values of docs/limits.md; `cred`, `secret` are left zero. */
void ph_quic_config_default(struct ph_quic_config *config);

/* Our connection ids: PH_QUIC_CID_LEN bytes, the first two are the worker index in network order,
 * the others random. */
#define PH_QUIC_CID_LEN 18
/* Of the worker index, the low byte is the socket that the kernel is to give packets to: processes
 * that follow each other in one place differ in the high byte. */
#define PH_QUIC_SLOT(worker) ((worker)&0xff)
/* Where a payload has these (RFC 8999 5): what a kernel needs to know. */
enum {
    PH_QUIC_LONG_BIT = 0x80,
    PH_QUIC_AT_SHORT_CID = 1,
    PH_QUIC_AT_LONG_CID_LEN = 5,
    PH_QUIC_AT_LONG_CID = 6,
    PH_QUIC_AT_SLOT = 1 /* in an id of ours */
};
/* Worker index in the destination connection id of a UDP payload; -1: not an id of ours (an Initial
 * with a client-chosen id, or malformed). Without a secret, so an index may be forged: forward a
 * packet once at most, and only to a worker that exists. */
int ph_quic_packet_worker(const uint8_t *data, size_t n);

/* --- Output --- */

/* Where packets go. Returns the bytes that left in whole datagrams of `segment` bytes (the last may
 * be shorter): less than n when the socket is full; PH_E_TOOBIG when larger than the interface
 * takes. */
struct ph_quic_out {
    void *self;
    ssize_t (*send)(void *self, const struct ph_path *path, uint8_t ecn, const uint8_t *data,
                    size_t n, size_t segment);
    /* A packet for which there is nothing here, with an id of another worker. false: that worker
     * does not exist, so that nobody knows better. NULL: there are no others. */
    bool (*forward)(void *self, uint16_t worker, const struct ph_path *path, uint8_t ecn,
                    const uint8_t *data, size_t n);
};

/* --- Events --- */

/* How a connection ended. */
enum ph_quic_end_how {
    PH_QUIC_END_LOCAL,
    PH_QUIC_END_PEER,
    PH_QUIC_END_IDLE,
    PH_QUIC_END_HANDSHAKE,
    PH_QUIC_END_RESET
};
struct ph_quic_end {
    enum ph_quic_end_how how;
    bool app; /* code is an application (HTTP/3) code, not a transport one */
    uint64_t code;
    char reason[257]; /* peer text, not escaped; cut to 256 bytes */
};

/* The owner of a connection (h3). `user` is what ph_quic_conn_set_user() set. */
struct ph_quic_sink {
    void *self;
    /* A connection has 1-RTT send keys: streams can be opened (server: 0.5-RTT, before the peer is
     * confirmed). The peer's transport parameters are known. First event of a connection; set the
     * user pointer here. */
    void (*on_ready)(void *self, struct ph_quic_conn *conn);
    void (*on_handshake_done)(void *self, struct ph_quic_conn *conn);
    /* The peer opened a stream; set its user pointer here or at the first data. */
    void (*on_stream)(void *self, struct ph_quic_conn *conn, struct ph_quic_stream *stream);
    /* In-order bytes (n may be 0 with fin). Credit is not returned until ph_quic_stream_consume().
     */
    void (*on_data)(void *self, struct ph_quic_stream *stream, const uint8_t *data, size_t n,
                    bool fin);
    /* The peer reset its sending side. Credit of undelivered and unconsumed bytes is returned by
     * quic. */
    void (*on_reset)(void *self, struct ph_quic_stream *stream, uint64_t code, uint64_t final_size);
    /* The peer sent STOP_SENDING; our side was reset with that code by the transport. With ngtcp2
     * < 1.24 this is noticed at the next write, the next flush or on close. It may come before the
     * stream's first bytes: ph_quic_stream_peer_stop_code(). */
    void (*on_stop)(void *self, struct ph_quic_stream *stream, uint64_t code);
    /* n bytes of the send queue were acknowledged and released. What a reset, a stop or the end of
     * the stream drops is not reported here. */
    void (*on_acked)(void *self, struct ph_quic_stream *stream, size_t n);
    /* Both directions are over; the pointer is invalid after this returns. */
    void (*on_stream_closed)(void *self, struct ph_quic_stream *stream);
    /* The peer raised its limit after ph_quic_conn_open_stream() had returned PH_E_BLOCKED. */
    void (*on_streams_available)(void *self, struct ph_quic_conn *conn, bool bidi);
    void (*on_datagram)(void *self, struct ph_quic_conn *conn, const uint8_t *data, size_t n);
    /* The last event of a connection that had on_ready. Its streams get no further events; all
     * pointers die after this returns. */
    void (*on_closed)(void *self, struct ph_quic_conn *conn, const struct ph_quic_end *end);
};

/* --- Endpoint --- */

/* Copies config, sink and out. `stats` is borrowed for the endpoint's life. */
int ph_quic_endpoint_new(struct ph_quic_endpoint **out_ep, const struct ph_quic_config *config,
                         const struct ph_quic_sink *sink, const struct ph_quic_out *out,
                         struct ph_stats *stats, uint64_t now, struct ph_err *err);
/* Server credentials for connections from now on; takes a reference. */
void ph_quic_endpoint_set_cred(struct ph_quic_endpoint *ep, struct ph_tls_cred *cred);
/* Closes nothing politely: call ph_quic_endpoint_close() and flush before. What is still open gets
 * its on_closed: free the owner afterwards. */
void ph_quic_endpoint_free(struct ph_quic_endpoint *ep);
/* One UDP payload. Never fails: what belongs to nothing is dropped, counted or answered
 * statelessly. */
void ph_quic_endpoint_feed(struct ph_quic_endpoint *ep, const struct ph_path *path, uint8_t ecn,
                           const uint8_t *data, size_t n, uint64_t now);
/* The time, before anything else is done in a turn: what owners ask of connections in between
 * starts clocks. */
void ph_quic_endpoint_tell(struct ph_quic_endpoint *ep, uint64_t now);
/* The same for one that another worker passed on: it is not passed on again. */
void ph_quic_endpoint_feed_adopted(struct ph_quic_endpoint *ep, const struct ph_path *path,
                                   uint8_t ecn, const uint8_t *data, size_t n, uint64_t now);
/* Runs what is due (loss recovery, idle, draining periods). */
void ph_quic_endpoint_expire(struct ph_quic_endpoint *ep, uint64_t now);
/* When ph_quic_endpoint_expire() or _flush() (pacing) wants to be called; PH_NEVER. */
uint64_t ph_quic_endpoint_next(const struct ph_quic_endpoint *ep);
/* Writes packets of every connection that has something to say. Stops at a socket that is full and
 * goes on when called again after ph_quic_endpoint_writable(). */
void ph_quic_endpoint_flush(struct ph_quic_endpoint *ep, uint64_t now);
bool ph_quic_endpoint_is_blocked(const struct ph_quic_endpoint *ep,
                                 const void *sock); /* wants a writable event */
void ph_quic_endpoint_writable(struct ph_quic_endpoint *ep, const void *sock);
void ph_quic_endpoint_reap(struct ph_quic_endpoint *ep);
/* No new connections from now on (answered with CONNECTION_REFUSED). */
void ph_quic_endpoint_refuse(struct ph_quic_endpoint *ep);
/* Closes every connection with this HTTP/3 code; on_closed follows at once, the packets at the next
 * flush. */
void ph_quic_endpoint_close(struct ph_quic_endpoint *ep, uint64_t code, uint64_t now);
/* Ends who came last, because memory is needed. false: there is nobody. */
bool ph_quic_endpoint_shed(struct ph_quic_endpoint *ep, uint64_t now);
size_t ph_quic_endpoint_conns(
    const struct ph_quic_endpoint *ep); /* alive, without closing and draining ones */
size_t ph_quic_endpoint_half_open(
    const struct ph_quic_endpoint *ep); /* of these, without a complete handshake */
/* Client: begins a handshake; events arrive at the endpoint's sink. Caller does not own the
 * connection. */
int ph_quic_endpoint_connect(struct ph_quic_endpoint *ep, struct ph_quic_conn **out,
                             const struct ph_path *path, struct ph_tls_cred *cred,
                             const char *server_name, uint64_t now);

/* --- Connection --- */

void ph_quic_conn_set_user(struct ph_quic_conn *conn, void *user);
void *ph_quic_conn_user(const struct ph_quic_conn *conn);
bool ph_quic_conn_is_server(const struct ph_quic_conn *conn);
/* Server: what arrives now may be 0-RTT, the replay of another connection (RFC 9001 9.2). */
bool ph_quic_conn_is_early(const struct ph_quic_conn *conn);
const struct ph_path *ph_quic_conn_path(const struct ph_quic_conn *conn); /* current */
/* What TLS agreed on; from the first stream data on. Borrow, until on_closed. */
const struct ph_tls_info *ph_quic_conn_tls(struct ph_quic_conn *conn);
/* Sends CONNECTION_CLOSE with an application code at the next flush; on_closed follows in this
 * turn. */
void ph_quic_conn_close(struct ph_quic_conn *conn, uint64_t code, const char *reason);
/* PH_E_BLOCKED when the peer's limit is used up; on_streams_available tells when to try again. */
int ph_quic_conn_open_stream(struct ph_quic_conn *conn, bool bidi, struct ph_quic_stream **out);
/* Largest DATAGRAM payload that fits now (after both sides' limits and path MTU); 0: the peer takes
 * none. */
size_t ph_quic_conn_max_datagram(const struct ph_quic_conn *conn);
/* Charges the connection's no-progress budget; when it is used up the connection is closed with
 * H3_EXCESSIVE_LOAD. */
void ph_quic_conn_glitch(struct ph_quic_conn *conn, unsigned tokens);
/* The time of the current turn, as last given to the endpoint. */
uint64_t ph_quic_conn_now(const struct ph_quic_conn *conn);
/* Smoothed round-trip time, ns. */
uint64_t ph_quic_conn_rtt(const struct ph_quic_conn *conn);

/* --- Stream --- */

void ph_quic_stream_set_user(struct ph_quic_stream *stream, void *user);
void *ph_quic_stream_user(const struct ph_quic_stream *stream);
uint64_t ph_quic_stream_id(const struct ph_quic_stream *stream);
struct ph_quic_conn *ph_quic_stream_conn(const struct ph_quic_stream *stream);
static inline bool ph_quic_id_is_uni(uint64_t id)
{
    return (id & 2) != 0;
}
static inline bool ph_quic_id_is_server(uint64_t id)
{
    return (id & 1) != 0;
}
/* Queues bytes; takes the slice's reference always. PH_E_STATE after fin or reset (also by the
 * peer's stop). */
int ph_quic_stream_write(struct ph_quic_stream *stream, struct ph_slice slice);
int ph_quic_stream_write_copy(struct ph_quic_stream *stream, const void *data,
                              size_t n); /* small headers */
int ph_quic_stream_fin(struct ph_quic_stream *stream);
/* The first n bytes written (a stream header) should reach the peer although the stream is reset:
 * the reset waits until they are acknowledged, at most PH_QUIC_RESET_WAIT. */
#define PH_QUIC_RESET_WAIT (500 * PH_MSEC)
void ph_quic_stream_set_reliable(struct ph_quic_stream *stream, size_t n);
void ph_quic_stream_reset(struct ph_quic_stream *stream,
                          uint64_t code); /* drops unsent bytes; no-op when over */
void ph_quic_stream_stop(struct ph_quic_stream *stream,
                         uint64_t code); /* STOP_SENDING; no on_data after it */
/* true when on_stop was called for the stream: for who learns later whose stream it is. */
bool ph_quic_stream_peer_stop_code(const struct ph_quic_stream *stream, uint64_t *code);
/* The owner has used n bytes that on_data delivered: extends stream and connection windows. Bytes
 * that quic gave back itself (peer's reset, our stop) are not counted again. */
void ph_quic_stream_consume(struct ph_quic_stream *stream, size_t n);
/* The same for a stream that is gone: bytes delivered and not consumed when a stream ends stay
 * charged to the connection window until this is called, so that memory stays bounded. At most what
 * gone streams left charged. */
void ph_quic_conn_consume(struct ph_quic_conn *conn, size_t n);
/* Delivered bytes that were neither consumed nor given back. In on_stream_closed: what
 * ph_quic_conn_consume() may be called for, then or later. */
size_t ph_quic_stream_unconsumed(const struct ph_quic_stream *stream);
/* The peer's stream-count credit for this stream is not returned when it closes: the owner does it
 * with ph_quic_conn_extend_streams() when it is really done with it. */
void ph_quic_stream_hold_credit(struct ph_quic_stream *stream);
void ph_quic_conn_extend_streams(struct ph_quic_conn *conn, bool bidi, size_t n);
/* Whether the stream limits granted so far let the peer open `id`, or did when it was opened. */
bool ph_quic_conn_peer_may_open(const struct ph_quic_conn *conn, uint64_t id);
size_t
ph_quic_stream_queued(const struct ph_quic_stream *stream); /* unsent and unacknowledged bytes */
bool ph_quic_stream_is_writable(
    const struct ph_quic_stream *stream); /* neither fin, nor reset, nor stopped */
/* 0 to 7, default 3 (RFC 9218). Streams up to PH_QUIC_BEFORE_DATAGRAMS go before datagrams, the
 * others after them. */
#define PH_QUIC_BEFORE_DATAGRAMS 2
void ph_quic_stream_set_urgency(struct ph_quic_stream *stream, unsigned urgency);
/* Has bytes to send, and only the peer's flow control holds them back. */
bool ph_quic_stream_is_blocked(const struct ph_quic_stream *stream);
void ph_quic_stream_set_incremental(struct ph_quic_stream *stream,
                                    bool incremental); /* default true */

/* --- Outbound datagrams --- */

struct ph_quic_dgram {
    struct ph_buf *buf; /* payload, one reference */
    uint64_t expires;   /* ns; PH_NEVER */
};

/* Embedded by its owner (a WebTransport session). Drop-oldest, bounded in entries and bytes. */
struct ph_quic_dgramq {
    struct ph_link link; /* in the connection's list */
    struct ph_quic_conn *conn;
    uint8_t prefix[8]; /* the same for every datagram of this queue: quarter stream id */
    uint8_t prefix_len;
    uint32_t max_entries, max_bytes;
    uint32_t head, count, bytes;
    struct ph_quic_dgram *ring; /* max_entries */
    uint32_t left;              /* left since the last on_left */
    /* `n` entries left the queue: sent, expired, too big or dropped (within push for what push
     * drops, otherwise at the end of the connection's flush). Each pushed entry leaves once, except
     * those that _fini() drops. May be NULL. */
    void (*on_left)(struct ph_quic_dgramq *q, size_t n);
};
void ph_quic_dgramq_init(struct ph_quic_dgramq *q, struct ph_quic_conn *conn, const uint8_t *prefix,
                         size_t prefix_len, uint32_t max_entries, uint32_t max_bytes);
void ph_quic_dgramq_fini(
    struct ph_quic_dgramq *q); /* drops what waits; also called after on_closed */
/* Takes the buffer. Drops the oldest while full. */
void ph_quic_dgramq_push(struct ph_quic_dgramq *q, struct ph_buf *buf, uint64_t expires);

#endif
