/*
 * h2_internal.h - what the files of the HTTP/2 engine share: the connection, its streams, and the
 * pieces of output that are on their way.
 *
 *      in -> h2_scan.c (frame heads, budgets) -> nghttp2 -> h2_request.c -> exchange -> sink
 *      owner's answers -> h2_reply.c -> nghttp2 -> out queue
 *      h2.c: life of the connection, time, drain
 */
#ifndef PH_H2_INTERNAL_H
#define PH_H2_INTERNAL_H

#include "http_internal.h"

#include <nghttp2/nghttp2.h>

/* Output made ahead of the socket: more would only sit between a late, more urgent response and the
 * client. */
#define PH_H2_OUT_MAX ((size_t)65536)

/* The head of a frame: 3 bytes of length, type, flags, 4 of stream (RFC 9113 4.1). */
#define PH_H2_FRAME_HEAD 9

/* Streams that are remembered as reset by us. More that are reset within a round trip, and had more
 * to say, are no mistake of the client: of those and of older ones nothing is held against it. */
#define PH_H2_CROSSING 64

struct ph_h2_stream {
    struct ph_exchange ex; /* first */
    struct ph_h2_conn *conn;
    struct ph_link link;  /* conn->streams */
    struct ph_link timer; /* conn->bodies, by deadline: the client's turn to send body */
    uint64_t deadline;
    struct ph_link stall;         /* conn->stalls, by stall_at: body that waits to be framed */
    uint64_t stall_at, stall_due; /* when it is looked at, and when it has waited too long */
    bool is_body_untimed, is_stall_untimed; /* see conn->has_untimed */
    size_t stall_moved;   /* bytes framed since stall_due was as late as it gets */
    struct ph_link fresh; /* conn->fresh: the sink is about to be told */
    struct ph_link done;  /* conn->ended, then conn->dead */
    int32_t id;
    bool is_open;     /* nghttp2 knows it, and has it as its user data */
    bool is_exchange; /* the sink knows it */

    /* Incoming. */
    enum { PH_H2_IN_HEAD, PH_H2_IN_BODY, PH_H2_IN_TRAILERS, PH_H2_IN_END } in;
    struct ph_head_builder builder; /* of the section being received */
    bool is_building;
    size_t decoded;    /* bytes of that section so far, counted as the limit does */
    bool is_stopped;   /* the reader wants no more */
    bool is_continued; /* 100 was sent */
    size_t unconsumed; /* body bytes with the owner */

    /* Outgoing. */
    struct ph_sliceq body; /* not framed yet */
    struct ph_fields trailers;
    bool out_head;    /* the final head was submitted */
    bool out_fin;     /* `body` and `trailers` are all that comes */
    bool out_done;    /* END_STREAM was framed */
    bool is_deferred; /* nghttp2 asked for body when there was none */
    bool is_reset;    /* by us, and accounted for */
    uint32_t pieces;  /* of conn->pieces that name it */

    /* The end of the exchange. */
    bool is_ended, end_clean;
    uint64_t end_code;
};

/* One piece of output on its way, for the report when it has left. */
struct ph_h2_piece {
    struct ph_h2_stream *stream; /* whose body it is; NULL: framing */
    size_t n;
    bool is_last; /* the response is whole when it has left */
};

struct ph_h2_conn {
    struct ph_tcp_engine engine; /* first */
    const struct ph_h2_config *config;
    const struct ph_exchange_sink *sink;
    struct ph_stats *stats;
    struct ph_sliceq *out;
    struct ph_path path;
    const struct ph_tls_info *tls; /* borrow; NULL: cleartext */
    uint64_t now;                  /* as last told */
    bool is_told;                  /* within a call that says the time: `now` is now */
    bool has_untimed; /* clocks that the owner's answers started since: they begin when it is told,
                       * because the last time may be long ago */
    nghttp2_session *session;
    bool has_settings; /* our first frame was taken from nghttp2 */
    bool has_more;     /* it was not asked for all, because the out queue was full */

    /* Frame heads, as seen before nghttp2 sees them. */
    uint8_t scan_head[PH_H2_FRAME_HEAD];
    size_t scan_have;      /* bytes of the preface or of a frame head */
    size_t scan_left;      /* of the frame's payload */
    bool has_preface;      /* the client's was complete */
    bool in_block;         /* a header block is open */
    uint64_t block_since;  /* when it began */
    size_t block_bytes;    /* of it so far, as on the wire */
    uint32_t block_frames; /* CONTINUATION frames of it */
    int32_t last_id;       /* highest stream that had HEADERS */
    int32_t ended_id;      /* the one that a client's END_STREAM came on last */
    uint64_t used;         /* bit i: last_id - 2 * i had HEADERS */
    /* Streams that we reset before their client had ended them: what it sent meanwhile may still
     * come. A ring, 0: free; and the highest id that had to make room. */
    int32_t crossing[PH_H2_CROSSING];
    uint32_t crossing_next;
    int32_t crossing_lost;
    uint64_t updates_due; /* WINDOW_UPDATE frames that the DATA we sent accounts for */
    struct ph_bucket resets, glitches;

    /* Priorities. */
    bool has_updates;   /* the client says them in frames */
    int32_t unsignaled; /* request of this frame that says nothing about its own; 0: none */

    struct ph_link streams; /* all that are not freed */
    size_t stream_count;
    /* Requests of this read that the sink was not told of. Those that are cancelled in the same
     * breath never reach it. */
    struct ph_link fresh;
    struct ph_link bodies, stalls;
    struct ph_link ended; /* exchanges whose on_closed is due */
    struct ph_link dead;  /* ended, closed, and all their output gone */

    struct ph_h2_piece *pieces; /* ring, power of two */
    size_t piece_head, piece_count, piece_cap;
    size_t unsent;                  /* bytes of all pieces */
    struct ph_h2_stream *finishing; /* its response ends with the HEADERS that are handed out */

    enum { PH_H2_SERVING, PH_H2_DRAIN_SAID, PH_H2_DRAIN_FINAL } drain;
    bool is_failed;    /* GOAWAY with an error was submitted or sent: nothing more is read */
    bool is_closing;   /* what nghttp2 still has to say goes out, then the end */
    bool is_aborted;   /* at once */
    uint64_t drain_at; /* SAID: the second GOAWAY at the latest */
    bool is_drain_untimed;
    int32_t goaway_id;   /* FINAL: what is above was not looked at */
    uint64_t idle_since; /* no stream is alive; PH_NEVER: one is */
};

/* --- h2.c --- */

/* Ends the connection for a breach: GOAWAY with this code, nothing more is read. */
void ph_h2_fail(struct ph_h2_conn *conn, uint32_t code);
/* What nghttp2 returned: fatal errors end the connection. true: it goes on. */
bool ph_h2_check(struct ph_h2_conn *conn, int rv);
struct ph_h2_stream *ph_h2_stream_new(struct ph_h2_conn *conn, int32_t id);
/* NULL: it is none of ours, or none any more. */
static inline struct ph_h2_stream *ph_h2_stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}
/* The exchange is over: the sink is told in the next call that may tell it. */
void ph_h2_stream_end(struct ph_h2_stream *stream, bool clean, uint64_t code);
/* Resets the stream and ends its exchange. `is_fault`: of the peer, whom it is charged to. */
void ph_h2_stream_reset(struct ph_h2_stream *stream, uint32_t code, bool is_fault);
/* Puts it on the list of the dead when nothing refers to it any more. */
void ph_h2_stream_settle(struct ph_h2_stream *stream);
void ph_h2_drain_final(struct ph_h2_conn *conn); /* the second GOAWAY */

/* --- h2_scan.c --- */

/* How many of the next n bytes nghttp2 may see now: up to the end of a frame, of a frame's head or
 * of the bytes. 0: a budget is used up, and the connection failed. */
size_t ph_h2_scan(struct ph_h2_conn *conn, const uint8_t *p, size_t n);
/* Charges a stream that the peer cancelled or that had to be reset for its fault. */
void ph_h2_charge_reset(struct ph_h2_conn *conn);
/* RST_STREAM goes out on a stream that the client has not ended: it may be sending all the same. */
void ph_h2_scan_reset(struct ph_h2_conn *conn, int32_t id);
/* A DATA frame of n bytes goes out: the peer may return that window without being charged. */
void ph_h2_scan_sent(struct ph_h2_conn *conn, size_t n);

/* --- h2_request.c --- */

void ph_h2_request_callbacks(nghttp2_session_callbacks *callbacks);
/* Tells the sink of fresh requests. */
void ph_h2_request_dispatch(struct ph_h2_conn *conn);
void ph_h2_request_arm_body(struct ph_h2_stream *stream);
void ph_h2_request_time(struct ph_h2_conn *conn); /* as ph_h2_reply_time(), of bodies */
/* The client holds its body back until it is told to go on (RFC 9110 10.1.1). */
bool ph_h2_request_is_waiting(const struct ph_h2_stream *stream);
/* Gives receive windows back, at most what the owner has. */
void ph_h2_request_credit(struct ph_h2_stream *stream, size_t n);

/* --- h2_reply.c --- */

extern const struct ph_exchange_ops ph_h2_ops;
void ph_h2_reply_callbacks(nghttp2_session_callbacks *callbacks);
/* Takes frames from nghttp2 into the out queue, up to its bound. */
void ph_h2_reply_flush(struct ph_h2_conn *conn);
void ph_h2_reply_sent(struct ph_h2_conn *conn, size_t n); /* n bytes of the out queue left */
/* Reports pieces without bytes. */
void ph_h2_reply_work(struct ph_h2_conn *conn);
bool ph_h2_reply_is_due(const struct ph_h2_conn *conn); /* there are some */
/* An answer by the engine itself, with no body; the rest of the request is refused. */
void ph_h2_reply_error(struct ph_h2_stream *stream, int status);
/* The clocks of answers that came at an unknown time begin now. */
void ph_h2_reply_time(struct ph_h2_conn *conn);
/* Responses that stand still. */
void ph_h2_reply_expire(struct ph_h2_conn *conn);

#endif
