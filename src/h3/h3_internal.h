/*
 * h3_internal.h - structures that the files of this module share.
 *
 *      ph_h3            one per endpoint: configuration, sinks, deadlines, what is to be ended
 *        ph_h3_conn     one per QUIC connection
 *          ph_h3_stream   a stream of ours: opening, critical (control, QPACK) or a request
 *          ph_h3_claim    a stream of the extension
 *
 * The user pointer of a QUIC stream is a ph_h3_claim: ours are the first member of ph_h3_stream.
 *
 * Lifetimes: nothing is freed while an event is being handled. A request that is over is put on
 * ph_h3.ended; its last event and its memory go when the outermost event handler returns
 * (ph_h3_leave()), or at the next ph_h3_expire() if the owner ended it from outside of one. A
 * connection that closes inside of an event waits on ph_h3.dead in the same way.
 */
#ifndef PH_H3_INTERNAL_H
#define PH_H3_INTERNAL_H

#include "h3.h"
#include "../http/http.h"
#include "../quic/quic.h"

/* A SETTINGS frame of any known peer is below 100 bytes and 10 entries. */
#define PH_H3_SETTINGS_BYTES 4096
#define PH_H3_SETTINGS_ENTRIES 32
/* Other control frames: an id, and for PRIORITY_UPDATE a short dictionary. */
#define PH_H3_CONTROL_BYTES 1024
/* PRIORITY_UPDATE frames that may arrive before their request; older ones are forgotten. */
#define PH_H3_EARLY_PRIORITIES 8
/* First bytes of extension streams, and the frame type that is reserved for it. */
#define PH_H3_SIGNAL_UNI 0x54
#define PH_H3_SIGNAL_BIDI 0x41

struct ph_h3 {
    struct ph_h3_config config;
    struct ph_http_limits limits;
    struct ph_exchange_sink sink;
    struct ph_h3_ext ext;
    bool has_ext;
    struct ph_h3_client_sink client;
    struct ph_stats *stats; /* borrowed */
    struct ph_link conns;   /* ph_h3_conn.link */
    struct ph_link heads;   /* ph_h3_stream.timer, by deadline: the timeout is the same for all */
    struct ph_link bodies;  /* the same for body_timeout */
    struct ph_link stalls;  /* ph_h3_request.stall, by stall_at */
    struct ph_link idle;    /* ph_h3_conn.idle, by idle_at */
    struct ph_link ended;   /* ph_h3_request.ended_link */
    struct ph_link dead;    /* ph_h3_conn.link */
    struct ph_h3_claim ignored; /* user pointer of streams that nobody listens to any more */
    unsigned depth;             /* event handlers under way */
    bool is_draining;
    uint64_t drain_at; /* earliest second step of a drain; PH_NEVER */
};

struct ph_h3_early_priority {
    uint64_t id;
    struct ph_h3_priority priority;
};

struct ph_h3_conn {
    struct ph_link link;
    struct ph_h3 *h3;
    struct ph_quic_conn *quic;
    void *ext;      /* the extension's */
    bool is_server; /* our role */
    bool failed;    /* closed by us: nothing is handled any more */
    bool closed;    /* QUIC said so: its pointers are not to be used */
    bool has_settings;
    bool has_control, has_encoder, has_decoder; /* peer's critical streams seen */
    bool got_goaway, got_max_push;
    struct ph_h3_settings settings; /* the peer's */
    struct ph_qpack *qpack;
    struct ph_map requests; /* stream id -> ph_h3_request that has not ended */
    struct ph_link streams; /* ph_h3_claim.link of our ph_h3_streams */
    struct ph_link claims;  /* ph_h3_claim.link of the extension's */
    struct ph_link held;    /* ph_h3_request.held_link, waiting for SETTINGS */
    struct ph_quic_stream *control;
    struct ph_bucket cancels;
    struct ph_link idle;  /* in h3->idle while it has no request and no hold */
    uint64_t idle_at;     /* ns: when it is closed for that */
    size_t open_requests; /* not yet freed */
    int holds;            /* ph_h3_conn_hold() */
    uint64_t next_id;     /* request ids from here on were not seen */
    uint64_t goaway_got, max_push;
    enum { PH_H3_SERVING, PH_H3_DRAIN_SAID, PH_H3_DRAIN_FINAL } drain;
    uint64_t goaway_at; /* when the second GOAWAY is due */
    uint64_t goaway_id; /* ids from here on are refused in PH_H3_DRAIN_FINAL */
    uint64_t end_code;  /* for on_closed of what is left, once closed */
    struct ph_h3_early_priority early[PH_H3_EARLY_PRIORITIES];
    unsigned early_next, early_count;
};

struct ph_h3_stream {
    struct ph_h3_claim claim; /* first: the QUIC stream's user pointer; link in conn->streams */
    struct ph_h3_conn *conn;
    struct ph_quic_stream *quic; /* NULL when it is gone */
    struct ph_link timer;        /* in h3->heads or h3->bodies */
    uint64_t deadline;           /* ns */
    void (*on_timeout)(struct ph_h3_stream *stream);
    void (*on_free)(struct ph_h3_stream *stream); /* the connection ends */
};

enum ph_h3_owner {
    PH_H3_OWNER_NONE,     /* h3 itself: no head yet, or it answered with an error status */
    PH_H3_OWNER_EXCHANGE, /* the exchange sink */
    PH_H3_OWNER_EXT,      /* the extension */
    PH_H3_OWNER_CLIENT    /* the client sink */
};

/* A run of the bytes written to a response stream: framing, then body. Kept until acknowledged, so
 * that on_acked can be told in body bytes. */
struct ph_h3_run {
    uint64_t framing, body;
};

struct ph_h3_request {
    struct ph_exchange
        ex; /* first: ph_exchange is the engines' base. Its head is used by all owners */
    struct ph_h3_stream stream;
    uint64_t id;
    enum ph_h3_owner owner;
    void *user; /* the extension's or the client's */

    /* Incoming. */
    enum { PH_H3_IN_HEAD, PH_H3_IN_BODY, PH_H3_IN_TRAILED, PH_H3_IN_END } in;
    struct ph_h3_frame_reader reader;
    bool in_frame;  /* the header of the current frame was judged */
    uint8_t *block; /* a HEADERS payload that came in pieces; at most config.head_encoded
                     * bytes, not yet consumed */
    size_t block_len, block_cap;
    size_t unconsumed; /* body bytes the owner has and did not consume */
    bool is_bodiless;  /* client: the response has no body whatever its length says */
    bool body_ignored; /* a refused CONNECT: the client's bytes mean nothing */
    bool has_priority; /* set by PRIORITY_UPDATE, which beats the header */
    bool is_held;      /* an extended CONNECT that waits for the peer's SETTINGS */
    bool held_fin;
    uint8_t *held; /* what came after its head; bounded by the stream's window: not consumed */
    size_t held_len, held_cap;
    struct ph_link held_link;

    /* Outgoing. */
    bool continued;          /* 100 (Continue) was sent */
    bool out_head, out_done; /* final head written; FIN written or our side was reset */
    bool out_lost;           /* something was not taken by a stream that the peer had stopped */
    struct ph_link stall;    /* in h3->stalls while something waits to be acknowledged */
    uint64_t stall_at;       /* ns: looked at then */
    uint64_t stall_due;      /* ns: too late when no more is acknowledged by then */
    uint64_t stall_acked;    /* bytes acknowledged since it was last in full time */
    struct ph_h3_run *runs;  /* ring, power of two */
    uint32_t runs_cap, runs_head, runs_count;

    /* The end. */
    bool ended, end_clean, end_by_reset;
    uint64_t end_code;
    struct ph_link ended_link;
};

static inline struct ph_h3_stream *ph_h3_stream_of(struct ph_h3_claim *claim)
{
    return PH_CONTAINER(claim, struct ph_h3_stream, claim);
}

/* --- h3_conn.c --- */

void ph_h3_enter(struct ph_h3 *h3);
void ph_h3_leave(struct ph_h3 *h3); /* ends what is due when the outermost event returns */
/* Binds an own stream to its QUIC stream. */
void ph_h3_stream_init(struct ph_h3_stream *stream, struct ph_h3_conn *conn,
                       struct ph_quic_stream *quic, const struct ph_h3_claim_ops *ops,
                       void (*on_free)(struct ph_h3_stream *stream));
/* Unlinks it everywhere; a QUIC stream that still lives is ignored from now on. */
void ph_h3_stream_fini(struct ph_h3_stream *stream);
void ph_h3_timer_arm(struct ph_h3_stream *stream, struct ph_link *list, uint64_t timeout);
void ph_h3_ignore(struct ph_h3_conn *conn, struct ph_quic_stream *quic);
/* The peer's STOP_SENDING, when it came before anybody could be told. */
void ph_h3_replay_stop(struct ph_quic_stream *quic, struct ph_h3_claim *claim);
/* Charges a request that the peer cancelled or that had to be reset for its fault. */
void ph_h3_conn_cancelled(struct ph_h3_conn *conn);
void ph_h3_conn_finish_if_drained(struct ph_h3_conn *conn);
/* A request came or went. */
void ph_h3_conn_note_use(struct ph_h3_conn *conn);

/* --- h3_open.c --- */

/* First bytes of a peer's stream. */
void ph_h3_open_feed(struct ph_h3_conn *conn, struct ph_quic_stream *quic, const uint8_t *data,
                     size_t n, bool fin);
/* A peer's stream that was reset or finished before it said what it is. */
void ph_h3_open_cut(struct ph_h3_conn *conn, struct ph_quic_stream *quic);

/* --- h3_control.c --- */

/* The peer's control or QPACK stream of this type; bytes after the type follow. */
void ph_h3_critical_open(struct ph_h3_conn *conn, struct ph_quic_stream *quic, uint64_t type,
                         const uint8_t *data, size_t n, bool fin);
void ph_h3_control_start(struct ph_h3_conn *conn); /* opens ours and sends SETTINGS */
void ph_h3_control_goaway(struct ph_h3_conn *conn, uint64_t id);
/* Frame types that HTTP/3 took from HTTP/2 (RFC 9114 7.2.8). */
bool ph_h3_is_http2_frame(uint64_t type);

/* --- h3_request.c --- */

/* The peer's request stream, whose first frame has this type. */
void ph_h3_request_open(struct ph_h3_conn *conn, struct ph_quic_stream *quic, uint64_t type,
                        const uint8_t *data, size_t n, bool fin);
/* Client: a request stream of ours. */
struct ph_h3_request *ph_h3_request_new(struct ph_h3_conn *conn, struct ph_quic_stream *quic,
                                        enum ph_h3_owner owner);
void ph_h3_request_end(struct ph_h3_request *req, uint64_t code, bool clean, bool by_reset);
/* Resets what is open of the stream with `code`, then ends the request. */
void ph_h3_request_abort(struct ph_h3_request *req, uint64_t code, bool by_reset);
void ph_h3_request_finish(struct ph_h3_request *req);     /* last event, memory */
void ph_h3_request_release_held(struct ph_h3_conn *conn); /* SETTINGS arrived */
void ph_h3_request_prioritize(struct ph_h3_request *req, struct ph_h3_priority priority);
/* Gives credit back, at most what is owed. */
void ph_h3_request_credit(struct ph_h3_request *req, size_t n);
/* STOP_SENDING: nothing that still comes is looked at. */
void ph_h3_request_stop_in(struct ph_h3_request *req, uint64_t code);
void ph_h3_request_arm_body(struct ph_h3_request *req);

/* --- h3_reply.c --- */

extern const struct ph_exchange_ops ph_h3_exchange_ops;
int ph_h3_reply_head(struct ph_h3_request *req, int status, const struct ph_field *fields, size_t n,
                     bool fin);
/* Writes HEADERS with exactly these fields; the frame's length. */
size_t ph_h3_reply_section(struct ph_h3_request *req, const struct ph_field *fields, size_t n);
void ph_h3_reply_fin(struct ph_h3_request *req);
/* An answer by h3 itself, with no body; the rest of the request is refused. */
void ph_h3_reply_error(struct ph_h3_request *req, int status);
void ph_h3_reply_framing(struct ph_h3_request *req,
                         size_t n); /* accounts n bytes that are no body */
void ph_h3_reply_acked(struct ph_h3_request *req, size_t n);
void ph_h3_reply_expire(struct ph_h3 *h3, uint64_t now); /* responses that stand still */

#endif
