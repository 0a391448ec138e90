/*
 * quic_internal.h - what the files of src/quic share.
 *
 *   quic_endpoint.c  routing, stateless answers, accepting, life of the endpoint
 *   quic_conn.c      one ngtcp2_conn: creation, feed, expiry, ending
 *   quic_events.c    ngtcp2 callbacks: they record, or call the sink
 *   quic_stream.c    send queue, receive credit, reset, stop
 *   quic_send.c      packet building and batches
 *   quic_dgram.c     outbound datagram queues
 *   quic_heap.c      expiry heap
 *   quic_packet.c    pure functions on packets: coalescing, worker index
 *   quic_frames.c    pure scan of a decrypted payload, for ngtcp2 < 1.24
 *
 * Life of a connection:  LIVE -> ENDED (on_closed delivered) -> CLOSING or DRAINING -> DEAD (on the
 * endpoint's dead list) -> freed by reap. ngtcp2_conn and TLS session are freed when CLOSING or
 * DRAINING begins: what is left is the close packet and the connection ids.
 */
#ifndef PH_QUIC_INTERNAL_H
#define PH_QUIC_INTERNAL_H

#include "quic.h"

#include "../tls/tls.h"

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

/* Before 1.25 frames are read from the decrypted payload, for two reasons: recv_stop_sending came
 * with 1.24, and until 1.25 a stream that we stopped is never closed when its FIN had arrived with
 * a gap before it. */
#if NGTCP2_VERSION_NUM < 0x011900
#define PH_QUIC_SCAN_FRAMES 1
#else
#define PH_QUIC_SCAN_FRAMES 0
#endif

enum {
    PH_QUIC_MAX_BATCH = 64,          /* packets of one GSO send: the kernel's limit */
    PH_QUIC_MAX_BATCH_BYTES = 65000, /* UDP_SEGMENT takes at most one 64 KiB IP packet */
    PH_QUIC_MIN_INITIAL = 1200,      /* RFC 9000 14.1 */
    PH_QUIC_MIN_RESET_TRIGGER = 43,  /* below, a reset could not look like a packet */
    PH_QUIC_URGENCIES = 8,
    PH_QUIC_GATHER = 16,           /* slices of one stream offered to one packet */
    PH_QUIC_EARLY = 32,            /* frames of one packet for streams that it may open */
    PH_QUIC_RELIABLE_MAX = 64,     /* bytes of a stream header that a reset waits for */
    PH_QUIC_ZOMBIE_STREAMS = 4096, /* see settle_zombie() */
};

#define PH_QUIC_RETRY_LIFE (10 * PH_SEC)
#define PH_QUIC_TOKEN_LIFE (3600 * PH_SEC)
#define PH_H3_EXCESSIVE_LOAD_CODE UINT64_C(0x107)

struct ph_quic_heap {
    struct ph_quic_conn **items;
    size_t count, cap;
};

/* Packets that a full socket did not take, in sending order. */
struct ph_quic_held {
    struct ph_link link;
    struct ph_path path;
    uint8_t ecn;
    uint8_t *data; /* own */
    size_t n, segment;
};

struct ph_quic_endpoint {
    struct ph_quic_config config;
    struct ph_quic_sink sink;
    struct ph_quic_out out;
    struct ph_stats *stats;
    char *alpn;
    uint64_t now;
    uint8_t token_key[32], reset_key[32];
    struct ph_cidmap cids;        /* every id that leads to a connection */
    struct ph_cidmap peer_tokens; /* stateless reset token of a peer -> connection */
    struct ph_link conns;         /* all that are not dead */
    struct ph_link dirty;         /* have something to write or to settle */
    struct ph_link dead;          /* waiting for reap */
    struct ph_link streams;       /* dead streams waiting for reap */
    struct ph_link held;          /* struct ph_quic_held */
    struct ph_quic_heap heap;
    size_t alive, half_open;
    bool refusing;
    struct ph_bucket vn, retry, reset, log;
    uint8_t *batch; /* PH_QUIC_MAX_BATCH_BYTES and one packet */
};

enum ph_quic_conn_state {
    PH_QUIC_LIVE,
    PH_QUIC_ENDED, /* on_closed delivered; the close packet is to be written at the next flush */
    PH_QUIC_CLOSING,
    PH_QUIC_DRAINING,
    PH_QUIC_DEAD
};

/* quic_frames.c */
struct ph_quic_scan {
    void *self;
    /* STOP_SENDING (value: the code), STREAM with FIN (value: its offset), MAX_* and *_BLOCKED
     * frames; id 0 where there is none. */
    void (*on_value)(void *self, uint64_t type, uint64_t id, uint64_t value);
    unsigned idle; /* out: PING, PATH_CHALLENGE, empty STREAM frames */
};
enum {
    PH_QUIC_STOP_SENDING = 0x05,
    PH_QUIC_STREAM = 0x08,   /* to 0x0f */
    PH_QUIC_MAX_DATA = 0x10, /* the eight credit frames, 0x10 to 0x17 */
    PH_QUIC_MAX_STREAM_DATA = 0x11,
    PH_QUIC_STREAM_DATA_BLOCKED = 0x15,
    PH_QUIC_STREAMS_BLOCKED_UNI = 0x17,
    PH_QUIC_CREDIT_FRAMES = 8
};
/* Walks the frames of a 1-RTT payload. Stops silently at what it cannot read: the library judges.
 */
void ph_quic_scan_frames(struct ph_quic_scan *scan, const uint8_t *p, size_t n);

/* A frame for a stream that the same packet may open. */
struct ph_quic_early {
    uint64_t id, value;
};

struct ph_quic_conn {
    struct ph_link link;  /* ep->conns or ep->dead */
    struct ph_link dirty; /* ep->dirty */
    struct ph_quic_endpoint *ep;
    void *user;
    ngtcp2_conn *qc; /* NULL from CLOSING or DRAINING on */
    ngtcp2_crypto_conn_ref ref;
    gnutls_session_t tls;
    const struct ph_tls_info *tls_info; /* own; made when it is first asked for */
    enum ph_quic_conn_state state;
    struct ph_admitted admitted;
    bool server, ready, handshake_done, half_open;
    bool wants_bidi, wants_uni; /* an open was refused: tell when there is credit again */
    bool ready_pending;         /* 1-RTT keys are there, on_ready not yet called */
    bool end_wanted;            /* `end` says how; settle() delivers it */
    bool silent;                /* no close packet */
    bool retry_wanted;          /* the first packet needs a validated address */
    bool draining;              /* the peer ended it */
    bool stateless_reset;
    struct ph_quic_end end;
    size_t heap_slot;    /* 1-based; 0: not in the heap */
    uint64_t expiry;     /* ns */
    uint64_t deadline;   /* CLOSING, DRAINING: when it is dead */
    struct ph_path path; /* the peer's last and our answers' addresses */
    ngtcp2_cid *cids;    /* ids in ep->cids that are ours */
    size_t cids_count, cids_cap;
    ngtcp2_cid *tokens; /* in ep->peer_tokens; 16 bytes each */
    size_t tokens_count, tokens_cap;
    ngtcp2_cid odcid; /* the client's first choice, in ep->cids as well; datalen 0: none */
    struct ph_map streams;
    struct ph_link all_streams;
    struct ph_link ready_streams[PH_QUIC_URGENCIES];
    unsigned ready_mask;
    struct ph_link ops;     /* streams with a reset, stop or stop event to apply */
    struct ph_link waiting; /* streams whose reset waits for the header's acknowledgement */
    struct ph_link dgramqs;
    uint64_t next_dgram_id;
    uint64_t granted[2]; /* streams of the peer since the start: unidirectional, bidirectional */
    uint64_t orphaned;   /* delivered, unconsumed bytes of streams that are gone */
    size_t zombies;      /* streams that the library never closes */
    struct ph_bucket glitch, cid_issue, path_change;
    struct ph_quic_early early_stops[PH_QUIC_EARLY], early_fins[PH_QUIC_EARLY];
    unsigned early_stops_count, early_fins_count;
    unsigned idle_frames; /* of the datagram being fed: frames without progress */
    uint64_t seen_credit[PH_QUIC_CREDIT_FRAMES]; /* largest value of each credit frame */
    /* CLOSING */
    uint8_t *close_packet; /* own */
    size_t close_len;
    unsigned close_received, close_answer; /* packets since the last answer, needed for the next */
    bool close_due;
};

struct ph_quic_stream {
    struct ph_link link;  /* conn->all_streams or ep->streams */
    struct ph_link ready; /* conn->ready_streams[urgency] */
    struct ph_link op;    /* conn->ops */
    struct ph_link wait;  /* conn->waiting */
    struct ph_quic_conn *conn;
    void *user;
    int64_t id;
    struct ph_sliceq sendq;
    uint64_t written, acked; /* bytes since the start */
    uint64_t unconsumed;     /* delivered and neither consumed nor given back */
    uint64_t reset_code, stop_code, peer_stop_code;
    uint64_t wait_deadline;
    uint64_t seen_max, seen_blocked; /* largest MAX_STREAM_DATA and STREAM_DATA_BLOCKED */
    uint32_t reliable;               /* bytes that a reset waits for */
    uint8_t urgency;
    bool incremental;
    bool fin, fin_sent;
    bool reset;         /* our side was abandoned */
    bool reset_pending; /* the library does not know yet */
    bool stopped;       /* we read no more */
    bool stop_pending;
    bool peer_stopped;      /* STOP_SENDING came */
    bool peer_stop_pending; /* on_stop not yet delivered */
    bool peer_stop_told;    /* on_stop delivered */
    bool peer_reset;        /* RESET_STREAM came */
    bool rx_fin;            /* FIN was delivered */
    bool fin_seen;          /* FIN has arrived, perhaps with a gap before it */
    bool blocked;           /* by the peer's stream window */
    bool hold_credit;
    bool closed;
};

/* quic_endpoint.c */
void ph_quic_rand(struct ph_quic_endpoint *ep, void *out, size_t n);
void ph_quic_cid_new(struct ph_quic_endpoint *ep, ngtcp2_cid *cid);
void ph_quic_reset_token(const struct ph_quic_endpoint *ep, const ngtcp2_cid *cid, uint8_t *token);
void ph_quic_mark_dirty(struct ph_quic_conn *conn);
void ph_quic_sockaddr(struct ph_addr *out, const struct ph_addr *in); /* canonical bytes */
void ph_quic_path_out(ngtcp2_path *out, const struct ph_path *path);  /* borrows */
void ph_quic_path_in(struct ph_path *out, const ngtcp2_path *path);

/* quic_conn.c */
struct ph_quic_accept {
    const ngtcp2_pkt_hd *hd;
    const ngtcp2_cid *odcid; /* from a Retry token; NULL: none */
    ngtcp2_token_type token_type;
    bool token_valid;
};
struct ph_quic_conn *ph_quic_conn_accept(struct ph_quic_endpoint *ep, const struct ph_path *path,
                                         const struct ph_quic_accept *accept);
struct ph_quic_conn *ph_quic_conn_connect(struct ph_quic_endpoint *ep, const struct ph_path *path,
                                          struct ph_tls_cred *cred, const char *server_name);
void ph_quic_conn_feed(struct ph_quic_conn *conn, const struct ph_path *path, uint8_t ecn,
                       const uint8_t *data, size_t n);
void ph_quic_conn_expire(struct ph_quic_conn *conn);
void ph_quic_conn_settle(struct ph_quic_conn *conn); /* applies what was recorded */
void ph_quic_conn_fail(struct ph_quic_conn *conn, int liberr);
/* Memory could not be had for this connection: it ends, so that the others go on. */
void ph_quic_conn_end_for_memory(struct ph_quic_conn *conn);
void ph_quic_conn_refuse(struct ph_quic_conn *conn); /* closes it: CONNECTION_REFUSED */
/* The address is proven: takes a place of the peer's. false: it has none left. */
bool ph_quic_conn_enter_peer(struct ph_quic_conn *conn);
void ph_quic_conn_rearm(struct ph_quic_conn *conn); /* puts it into the heap by its expiry */
void ph_quic_conn_begin_closing(struct ph_quic_conn *conn);
void ph_quic_conn_die(struct ph_quic_conn *conn); /* onto the dead list */
void ph_quic_conn_free(struct ph_quic_conn *conn);
void ph_quic_conn_cid_add(struct ph_quic_conn *conn, const ngtcp2_cid *cid);
void ph_quic_conn_cid_remove(struct ph_quic_conn *conn, const ngtcp2_cid *cid);
/* The peer's stateless reset token of a connection id that we use or no longer use. */
void ph_quic_conn_peer_token(struct ph_quic_conn *conn, const uint8_t *token, bool in_use);

/* quic_events.c */
void ph_quic_callbacks(ngtcp2_callbacks *callbacks, bool server);
void ph_quic_conn_ready(struct ph_quic_conn *conn); /* calls on_ready when it is due */
void ph_quic_conn_begin_feed(struct ph_quic_conn *conn);
void ph_quic_conn_end_feed(struct ph_quic_conn *conn);
bool ph_quic_conn_wants_events(const struct ph_quic_conn *conn);

/* quic_stream.c */
struct ph_quic_stream *ph_quic_stream_new(struct ph_quic_conn *conn, int64_t id);
void ph_quic_stream_end(struct ph_quic_stream *stream); /* off every list, onto the dead ones */
void ph_quic_stream_free(struct ph_quic_stream *stream);
void ph_quic_stream_arm(struct ph_quic_stream *stream); /* into the ready list if it can send */
void ph_quic_stream_disarm(struct ph_quic_stream *stream);
void ph_quic_stream_acked(struct ph_quic_stream *stream, size_t n);
void ph_quic_stream_give_back(struct ph_quic_stream *stream); /* unconsumed bytes, once */
void ph_quic_stream_fin_seen(struct ph_quic_stream *stream);
void ph_quic_stream_peer_stop(struct ph_quic_stream *stream, uint64_t code);
void ph_quic_stream_close(struct ph_quic_stream *stream);
void ph_quic_stream_record(struct ph_quic_stream *stream); /* something to apply */
void ph_quic_streams_apply(struct ph_quic_conn *conn, uint64_t now);
uint64_t ph_quic_streams_deadline(const struct ph_quic_conn *conn);
static inline bool ph_quic_stream_can_send(const struct ph_quic_stream *stream)
{
    return !ph_quic_id_is_uni((uint64_t)stream->id) ||
           ph_quic_id_is_server((uint64_t)stream->id) == stream->conn->server;
}

/* quic_send.c */
bool ph_quic_conn_flush(struct ph_quic_conn *conn, uint64_t now); /* false: the socket is full */
/* Sends one batch, or keeps what a full socket did not take. false: full. */
bool ph_quic_send(struct ph_quic_endpoint *ep, const struct ph_path *path, uint8_t ecn,
                  const uint8_t *data, size_t n, size_t segment);
/* Stateless answers: never held. */
void ph_quic_send_once(struct ph_quic_endpoint *ep, const struct ph_path *path, const uint8_t *data,
                       size_t n);

/* quic_dgram.c */
struct ph_quic_dgramq *ph_quic_dgramq_first(struct ph_quic_conn *conn, size_t max, uint64_t now);
void ph_quic_dgramq_sent(struct ph_quic_dgramq *q);     /* the first entry is in a packet */
void ph_quic_dgramqs_report(struct ph_quic_conn *conn); /* calls on_left */
void ph_quic_dgramqs_orphan(struct ph_quic_conn *conn);

/* quic_heap.c */
void ph_quic_heap_set(struct ph_quic_heap *heap, struct ph_quic_conn *conn, uint64_t at);
void ph_quic_heap_remove(struct ph_quic_heap *heap, struct ph_quic_conn *conn);
struct ph_quic_conn *ph_quic_heap_top(const struct ph_quic_heap *heap);
void ph_quic_heap_fini(struct ph_quic_heap *heap);

/* quic_packet.c */
/* Bytes of the leading packets of a datagram that carry the same destination connection id as the
 * first (RFC 9000 12.2: others are ignored). */
size_t ph_quic_coalesced_len(const uint8_t *data, size_t n, const uint8_t *dcid, size_t dcid_len);

#endif
