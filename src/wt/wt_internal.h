/*
 * wt_internal.h - structures that the files of this module share.
 *
 *      ph_wt            configuration, sink, timer queues, what waits to be freed
 *        wt_conn        one HTTP/3 connection: its sessions, what came before them, streams
 *                       that wait for an id
 *          ph_wt_session    one CONNECT; outlives its last event until the request is closed
 *            ph_wt_stream   one data stream; outlives its last event until QUIC closed it
 *
 * Life and death: an object is over for its owner when its last event was delivered; it stays until
 * the layer below let go of it; then it is put on `dead_*` and freed by ph_wt_expire(). So no
 * pointer that some caller up the stack still holds ever dangles, whatever order RESET, STOP, FIN
 * and capsules arrive in.
 */
#ifndef PH_WT_INTERNAL_H
#define PH_WT_INTERNAL_H

#include "wt.h"
#include "../h3/h3.h"
#include "../http/http.h"
#include "../quic/quic.h"

/* Ids of sessions that ended lately, so that their late streams are told so instead of waiting. */
enum { WT_GONE_MAX = 32 };

/* A place in one of the timer queues. All entries of a queue have the same delay, so that appending
 * keeps it sorted. */
struct wt_timer {
    struct ph_link link;
    uint64_t at; /* ns */
};

struct ph_wt {
    struct ph_wt_config config;
    struct ph_wt_sink sink;
    struct ph_stats *stats;
    bool draining;
    struct ph_link conns;                                   /* wt_conn.link */
    struct ph_link asked;                                   /* sessions: accept_timeout */
    struct ph_link closing;                                 /* sessions: close_timeout */
    struct ph_link held;                                    /* streams: pending_timeout */
    struct ph_link early_datagrams;                         /* wt_early_datagram: pending_timeout */
    struct ph_link dead_streams, dead_sessions, dead_conns; /* freed by ph_wt_expire() */
    struct ph_bucket log_budget;
};

struct wt_conn {
    struct ph_link link;
    struct ph_wt *wt;
    struct ph_h3_conn *h3; /* NULL: over */
    struct ph_quic_conn *quic;
    struct ph_link sessions;   /* every ph_wt_session until its request is closed */
    struct ph_link strays;     /* streams with an incomplete header, and those over for the owner */
    struct ph_link early;      /* wt_early: what sessions unknown or unanswered have sent */
    struct ph_link waiting[2]; /* own streams without an id yet: unidirectional, bidirectional */
    uint32_t headless;         /* streams with an incomplete header */
    uint32_t early_unknown;    /* of `early`: without a CONNECT so far */
    size_t pending_bytes, pending_datagram_bytes;
    struct ph_bucket session_budget;
    uint64_t gone[WT_GONE_MAX]; /* session ids plus 1; 0: free */
    unsigned gone_next;
    bool goaway; /* the peer sent it */
};

enum wt_session_state {
    WT_ASKED,      /* server: the owner has not answered */
    WT_CONNECTING, /* client: the server has not answered */
    WT_OPEN,
    WT_CLOSING, /* our close is on its way; streams are gone; the owner waits for its last event */
    WT_OVER     /* the owner had its last event; the request is not closed yet */
};

struct ph_wt_session {
    struct ph_link link; /* wt_conn.sessions; dead_sessions */
    struct wt_timer timer;
    struct wt_conn *conn;
    struct ph_h3_request *request; /* NULL: closed */
    void *user;
    uint64_t id;
    enum wt_session_state state;
    int draft;
    bool is_client;
    bool peer_done;  /* close capsule or FIN was received: nothing may follow */
    bool stop_seen;  /* STOP_SENDING with SESSION_GONE: a close capsule should be on its way */
    bool drain_told; /* on_drain(local = false) was delivered */
    bool drain_sent; /* the capsule was sent */
    bool early_end;  /* FIN came before the answer */
    bool has_dgramq; /* `dgramq` is initialised */
    struct ph_path path;
    char **offered; /* own */
    size_t offered_len;
    struct ph_capsule_reader capsules;
    uint8_t *early; /* DATA payload before the answer; its credit is held, which bounds it */
    size_t early_len, early_cap;
    struct ph_link streams; /* those the owner knows */
    struct ph_quic_dgramq dgramq;
    size_t unread_closed; /* delivered bytes of closed streams, not consumed */
    size_t undone[2];     /* closed peer streams (uni, bidi) that the owner holds on to */
    struct ph_wt_end end; /* ours, while WT_CLOSING; `reason` is own */
};

enum wt_stream_phase {
    WT_HEADER,  /* the session id is incomplete */
    WT_PENDING, /* session unknown or unanswered */
    WT_WAITING, /* ours, the peer's limit does not allow it yet */
    WT_ACTIVE,
    WT_STRAY, /* over for the owner, or never shown; QUIC still has it */
    WT_DEAD   /* waits to be freed */
};

/* What came for one session id before its session was answered. */
struct wt_early {
    struct ph_link link; /* wt_conn.early */
    uint64_t session_id;
    bool is_known;        /* its CONNECT came */
    uint32_t count[2];    /* streams, datagrams */
    struct ph_link items; /* wt_early_item, in arrival order; never empty */
};

struct wt_early_item {
    struct ph_link link;
    struct wt_early *of;
    bool is_datagram;
};

/* What a pending stream holds back for its owner. */
struct wt_held {
    uint8_t *data;
    size_t len, cap;
    bool fin, reset, stop;
    uint64_t reset_code, stop_code;
};

struct ph_wt_stream {
    struct ph_h3_claim claim;
    struct ph_link link; /* session->streams, conn->strays or dead_streams */
    struct ph_link wait; /* conn->waiting */
    struct wt_timer timer;
    struct wt_conn *conn;
    struct ph_wt_session *session; /* WT_WAITING, WT_ACTIVE */
    struct ph_quic_stream *quic;   /* NULL: without an id yet, or closed */
    void *user;
    uint64_t id, session_id;
    enum wt_stream_phase phase;
    bool bidi, is_local;
    bool send_over;         /* fin, reset, stopped: nothing more is written */
    bool send_stopped;      /* by the peer: writes are swallowed */
    bool send_reset;        /* by us; code below */
    bool fin_queued;        /* WT_WAITING: fin follows the early bytes */
    bool recv_over;         /* fin, reset or our stop */
    bool stop_wanted;       /* WT_WAITING: code below */
    bool early_stop;        /* WT_HEADER: the peer stopped it; its code is peer_stop_code */
    uint8_t header_unacked; /* bytes of our header not yet acknowledged */
    uint8_t urgency;
    uint32_t reset_code, stop_code;
    uint64_t peer_stop_code;
    struct ph_varint_reader header;
    size_t unacked;         /* payload bytes taken and not yet reported by on_acked */
    size_t unread;          /* payload bytes delivered or held and not consumed */
    struct ph_slice *early; /* WT_WAITING: own, each with its reference */
    size_t early_count, early_cap;
    struct wt_held *held;      /* WT_PENDING; own */
    struct wt_early_item item; /* WT_PENDING */
};

struct wt_early_datagram {
    struct wt_early_item item;
    struct wt_timer timer; /* while the session is unknown */
    struct wt_conn *conn;
    size_t n;
    uint8_t data[];
};

/* --- wt.c --- */

void ph_wt_timer_set(struct wt_timer *timer, struct ph_link *queue, uint64_t at);
void ph_wt_timer_stop(struct wt_timer *timer);
uint64_t ph_wt_conn_now(const struct wt_conn *conn);
struct ph_wt_session *ph_wt_conn_session(const struct wt_conn *conn, uint64_t id);
void ph_wt_conn_forget(struct wt_conn *conn, uint64_t session_id); /* adds to `gone` */
bool ph_wt_conn_is_gone(const struct wt_conn *conn, uint64_t session_id);
/* For ids without a session: a request whose head is known, so that it will never be one. */
bool ph_wt_conn_is_foreign(const struct wt_conn *conn, uint64_t id);

/* --- wt_connect.c: from the request to the open session, both roles --- */

/* The highest draft that both sides know: 2, 7, 13, 15; 0: none. */
int ph_wt_draft_of(const struct ph_h3_settings *settings);
bool ph_wt_on_connect(void *self, struct ph_h3_conn *h3, struct ph_h3_request *request,
                      const struct ph_head *head);
void ph_wt_on_response(void *self, struct ph_h3_request *request, const struct ph_head *head);
void ph_wt_connect_expired(struct ph_wt_session *session);

/* --- wt_session.c --- */

struct ph_wt_session *ph_wt_session_new(struct wt_conn *conn, struct ph_h3_request *request);
/* What came before the answer: streams, datagrams, capsules. */
void ph_wt_session_release(struct ph_wt_session *session);
/* The last event, exactly once, after ending all streams. */
void ph_wt_session_finish(struct ph_wt_session *session, const struct ph_wt_end *end);
/* Takes the session away from its request and gives it to the reaper. */
void ph_wt_session_detach(struct ph_wt_session *session);
void ph_wt_session_bury(struct ph_wt_session *session); /* frees */
void ph_wt_session_expired(struct ph_wt_session *session);
void ph_wt_session_drain_event(struct ph_wt_session *session); /* the peer asks, once */
void ph_wt_session_drain_local(struct ph_wt_session *session); /* capsule and on_drain */
void ph_wt_on_request_data(void *self, struct ph_h3_request *request, const uint8_t *data,
                           size_t n);
void ph_wt_on_request_end(void *self, struct ph_h3_request *request);
void ph_wt_on_request_stop(void *self, struct ph_h3_request *request, uint64_t code);
void ph_wt_on_request_closed(void *self, struct ph_h3_request *request, uint64_t code,
                             bool by_reset);

/* --- wt_stream.c, wt_pending.c --- */

struct ph_h3_claim *ph_wt_on_stream(void *self, struct ph_h3_conn *h3, struct ph_quic_stream *quic,
                                    uint64_t type);
void ph_wt_on_streams_available(void *self, struct ph_h3_conn *h3, bool bidi);
void ph_wt_stream_bury(struct ph_wt_stream *stream); /* frees */
/* Shows a stream to the owner: on_stream. */
void ph_wt_stream_show(struct ph_wt_stream *stream, struct ph_wt_session *session);
void ph_wt_stream_deliver(struct ph_wt_stream *stream, const uint8_t *data, size_t n, bool fin);
void ph_wt_stream_deliver_reset(struct ph_wt_stream *stream, uint64_t code);
void ph_wt_stream_deliver_stop(struct ph_wt_stream *stream, uint64_t code);
/* QUIC is through with it. */
void ph_wt_stream_deliver_closed(struct ph_wt_stream *stream);
/* Resets and stops a stream that the owner does not know; nothing of it is delivered. */
void ph_wt_stream_refuse(struct ph_wt_stream *stream, uint64_t http3_code);
void ph_wt_session_end_streams(struct ph_wt_session *session);

/* The header is complete and its session is not open: holds the stream, or refuses it. */
void ph_wt_pending_add(struct ph_wt_stream *stream);
void ph_wt_pending_data(struct ph_wt_stream *stream, const uint8_t *data, size_t n, bool fin);
void ph_wt_pending_reset(struct ph_wt_stream *stream, uint64_t code);
void ph_wt_pending_remove(struct ph_wt_stream *stream); /* takes it off the lists, frees `held` */
/* Holds a copy, or drops it. */
void ph_wt_pending_datagram(struct wt_conn *conn, uint64_t session_id, const uint8_t *data,
                            size_t n);
void ph_wt_pending_datagram_free(struct wt_early_datagram *held);
void ph_wt_pending_session_known(struct wt_conn *conn, uint64_t session_id);
void ph_wt_pending_release(struct ph_wt_session *session);
void ph_wt_pending_refuse(struct wt_conn *conn, uint64_t session_id, uint64_t http3_code);
void ph_wt_pending_refuse_all(struct wt_conn *conn, uint64_t http3_code);

/* --- wt_datagram.c --- */

void ph_wt_on_datagram(void *self, struct ph_h3_conn *h3, uint64_t stream_id, const uint8_t *data,
                       size_t n);
void ph_wt_datagrams_open(struct ph_wt_session *session);
void ph_wt_datagrams_close(struct ph_wt_session *session);
void ph_wt_datagram_deliver(struct ph_wt_session *session, const uint8_t *data, size_t n);

#endif
