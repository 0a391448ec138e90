/*
 * session.h - what the files of the webtransport scope share: wt_session.c (receive, events, life),
 * wt_send.c (send) and wt_stream.c (streams, their table, the ready list).
 *
 * Received things wait in three places, in this order of delivery: `controls` (opened, reset,
 * stop_sending, drain), then by turns `datagrams` and the streams on `ready`. The ready list holds
 * streams, not messages: what a stream received meanwhile is joined when its turn comes.
 */
#ifndef PRONGHORN_EXT_SESSION_H
#define PRONGHORN_EXT_SESSION_H

#include "ext.h"

/* Ids of forgotten streams that the peer had stopped: writes to the latest of them are still
 * swallowed, because an application may not have seen the stop_sending yet. */
#define STOPPED_REMEMBERED 16

enum session_phase {
    SESSION_ASKED,     /* not answered */
    SESSION_REJECTING, /* webtransport.http.response.start was sent */
    SESSION_REJECTED,
    SESSION_OPEN,
    SESSION_CLOSING, /* the application has closed it, or has ended */
};

typedef struct Session Session;

/* Not a Python object. Lives in its session's lists until it is over for the core and everything
 * about it was handed out, and is freed by session_leave(). pump.c relies on the first member. */
typedef struct Stream {
    Session *session; /* borrowed */
    ph_chan *chan;    /* NULL: released */
    uint64_t id;      /* valid once `opened` */
    Inbox in;
    Link all;          /* Session.streams */
    Link ready;        /* Session.ready, while there is something to hand out */
    Link dead;         /* Session.dead, once nobody needs it */
    Link senders;      /* Await.link, own: send() calls that wait, or the one that opened it */
    PyObject *tag;     /* own; of stream.open, until it is opened */
    size_t stop_after; /* bytes to be handed out before stop_sending */
    uint64_t stop_code;
    unsigned controls; /* entries of Session.controls about it */
    bool local, bidirectional;
    bool opened;    /* has its id and is in the table */
    bool announced; /* the application has heard of it */
    bool fin_in;    /* the peer's FIN arrived */
    bool in_over;   /* no more stream.receive: end handed out, reset, or stopped by us */
    bool out_over;  /* own FIN or reset */
    bool peer_stopped;
    bool stop_pending; /* stop_sending is to be handed out once stop_after is */
    bool stop_has_code;
    bool paused;
    bool closed; /* the core has sent its CLOSED */
} Stream;

enum control_kind { CONTROL_OPENED, CONTROL_RESET, CONTROL_STOP, CONTROL_DRAIN };

typedef struct Control {
    Link link; /* Session.controls */
    enum control_kind kind;
    Stream *stream; /* borrowed; NULL for drain; the stream stays while `controls` counts this */
    uint64_t code;
    bool flag;     /* has a code; drain: local */
    PyObject *tag; /* own */
} Control;

struct Session {
    Channel base;
    enum session_phase phase;
    Link streams, ready, controls, dead;
    Link senders;          /* Await.link, own: waiting for room in the session */
    Link datagram_senders; /* Await.link, own: waiting for room in the datagram queue */
    Inbox datagrams;
    Stream **table; /* open addressing, by id */
    size_t table_cap, table_used;
    uint64_t lowest[4], highest[4]; /* ids seen, by their two lowest bits (RFC 9000 2.1) */
    bool seen[4];
    uint64_t stopped[STOPPED_REMEMBERED]; /* ids + 1 */
    unsigned stopped_next;
    Rejection rejection; /* while REJECTING */
    PyObject *reason;    /* own; why it ended, or why we closed it */
    uint32_t code;
    unsigned datagram_sends; /* in a row without waiting */
    unsigned depth;          /* calls of session_enter() */
    bool has_datagrams;
    bool connect_handed;
    bool datagram_turn;
    bool ended; /* CLOSED arrived, or the server is closed */
    bool clean;
};

static inline Session *as_session(Channel *channel)
{
    return (Session *)(void *)channel;
}

/* Brackets whatever is asked of a session from outside. No stream is freed and none leaves the list
 * of streams before the outermost leave, because what runs inside may wake somebody, and with that
 * run finalizers that send, close or receive. The caller holds the session. */
static inline void session_enter(Session *session)
{
    session->depth++;
}
void session_leave(Session *session);

/* --- wt_stream.c --- */

/* A new stream on `chan` in the session's lists; NULL with MemoryError. */
Stream *stream_new(Session *session, ph_chan *chan, bool local, bool bidirectional);
/* Enters it into the table under its id. */
int stream_opened(Stream *stream);
Stream *stream_find_borrowed(const Session *session, uint64_t id);
bool stream_was_seen(const Session *session, uint64_t id);
bool stream_was_stopped(const Session *session, uint64_t id);
/* Puts it on the ready list, or takes it off, as it should be. */
void stream_update(Stream *stream);
/* The next message of the first ready stream. */
PyObject *stream_next(Session *session);
/* Handlers of the core's events. */
int stream_on_event(Stream *stream, ph_event *event);
/* The application will read no more of it. */
void stream_stop(Stream *stream);
void stream_set_paused(Stream *stream, bool paused);
/* Has it freed when nobody needs it any more. Inside session_enter(), as everything here that
 * wakes. */
void stream_settle(Stream *stream);
/* Takes it out of everything and releases its channel; send() calls that wait for it are woken. */
void stream_abandon(Stream *stream);
void streams_abandon_all(Session *session);
void streams_wake_all(Session *session);
void streams_free(Session *session);
/* For tp_traverse and tp_clear. */
int streams_traverse(const Session *session, visitproc visit, void *arg);
void streams_forget_waiters(Session *session);

int control_push(Session *session, enum control_kind kind, Stream *stream, bool flag,
                 uint64_t code);
PyObject *control_next(Session *session);
void controls_clear(Session *session);

/* --- wt_send.c --- */

int session_send(Channel *channel, Await *await, PyObject **result);
void session_abandoned(Channel *channel, Await *await);
/* Rejects with a status and no body. */
void session_reject(Session *session, int status);
/* Nothing that was received is wanted any more. */
void session_discard(Session *session);

#endif
