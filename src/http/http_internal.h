/*
 * http_internal.h - what the files of http/ share: arena helpers, the HTTP/1.1 head parser, the
 * chunked decoder, and the connection with its exchanges as seen by h1.c and h1_write.c.
 */
#ifndef PH_HTTP_INTERNAL_H
#define PH_HTTP_INTERNAL_H

#include "http.h"

/* --- Fields --- */

#define PH_FIELD_COST 32 /* beyond name and value, RFC 9114 4.2.2 */

/* A NUL-terminated copy in the arena; returns its offset there (fields->arena + offset; the arena
 * moves as it grows). */
size_t ph_fields_put(struct ph_fields *fields, const char *p, size_t n);
/* ph_fields_add() with the name made lower case. */
int ph_fields_add_lower(struct ph_fields *fields, const char *name, size_t name_len,
                        const char *value, size_t value_len, const struct ph_http_limits *limits);
/* true when the comma-separated list holds the token (case-insensitive, parameters ignored). */
bool ph_list_has(const char *p, size_t n, const char *token);
/* Fields that no trailer section may carry, because they decide framing or routing (RFC 9110
 * 6.5.1). */
bool ph_field_is_forbidden_trailer(const char *name, size_t n);

/* --- HTTP/1.1 lines --- */

/* A line that arrives in pieces. Bytes are looked at once. */
struct ph_h1_line {
    char *data; /* what came of it so far */
    size_t len, cap;
};
/* Takes bytes up to and with LF. 1: `*text`, `*n` is the line without its LF (borrow, until the
 * next call); 0: more is needed; PH_E_LIMIT: `max` bytes and no LF among them (`*text` is the
 * beginning). The same whatever the pieces. */
int ph_h1_line_feed(struct ph_h1_line *line, const uint8_t **p, const uint8_t *end, size_t max,
                    const char **text, size_t *n);
void ph_h1_line_fini(struct ph_h1_line *line);

/* What to answer to a malformed request. */
struct ph_h1_fault {
    int status;      /* 0: none */
    const char *why; /* static; goes into the answer's body */
};
/* Records and returns PH_E_MALFORMED. */
int ph_h1_fault_set(struct ph_h1_fault *fault, int status, const char *why);

/* Parses "name: value CR" (LF taken off) and appends it. */
int ph_h1_field_line(const char *line, size_t n, struct ph_fields *fields,
                     const struct ph_http_limits *limits, struct ph_h1_fault *fault);

/* --- HTTP/1.1 heads --- */

#define PH_H1_METHOD_MAX 32 /* the longest registered one has 17 (UPDATEREDIRECTREF) */

struct ph_h1_parser {
    const struct ph_http_limits *limits;
    bool tls;
    bool websocket; /* of the configuration */
    enum { PH_H1_AT_START, PH_H1_AT_REQUEST_LINE, PH_H1_AT_FIELDS, PH_H1_AT_END } state;
    bool empty_line_seen; /* RFC 9112 2.2: one before the request line is passed over */
    struct ph_h1_line line;
    size_t raw; /* bytes of field lines so far */
    struct ph_head head;
    size_t method_off, target_off, authority_off; /* in the arena */
    bool is_absolute;                             /* the target named the authority */
    struct ph_h1_fault fault;
    /* Of a complete head: */
    bool is_chunked, wants_continue;
    bool wants_close, wants_keep_alive;
    bool says_upgrade, names_websocket; /* in Connection, in Upgrade */
};
void ph_h1_parser_init(struct ph_h1_parser *parser, const struct ph_http_limits *limits, bool tls);
void ph_h1_parser_reset(struct ph_h1_parser *parser); /* for the next request; drops the head */
void ph_h1_parser_fini(struct ph_h1_parser *parser);
/* 1: the head is complete (take it, then reset); 0: more is needed; PH_E_MALFORMED: see fault. */
int ph_h1_parser_feed(struct ph_h1_parser *parser, const uint8_t **p, const uint8_t *end);

/* --- Chunked bodies --- */

struct ph_h1_chunked {
    const struct ph_h1_config *config;
    enum {
        PH_CHUNK_SIZE,
        PH_CHUNK_EXTENSION,
        PH_CHUNK_SIZE_LF,
        PH_CHUNK_DATA,
        PH_CHUNK_DATA_CR,
        PH_CHUNK_DATA_LF,
        PH_CHUNK_TRAILERS,
        PH_CHUNK_END
    } state;
    unsigned digits;            /* of the size */
    uint64_t size, left;        /* of the current chunk */
    uint64_t payload, overhead; /* bytes so far; overhead is everything that is not payload */
    size_t extension;           /* bytes on this line */
    bool quoted, escaped;       /* within a quoted string of an extension */
    struct ph_h1_line line;
    size_t raw;
    struct ph_fields trailers;
    struct ph_h1_fault fault;
};
void ph_h1_chunked_init(struct ph_h1_chunked *chunked, const struct ph_h1_config *config);
void ph_h1_chunked_fini(struct ph_h1_chunked *chunked);
enum { PH_CHUNKED_MORE = 0, PH_CHUNKED_DATA = 1, PH_CHUNKED_END = 2 };
/* MORE: input is used up; DATA: `*data`, `*n` is a piece of payload, at most `max` bytes; END: the
 * body is complete, trailers are sealed. PH_E_MALFORMED: see fault. */
int ph_h1_chunked_next(struct ph_h1_chunked *chunked, const uint8_t **p, const uint8_t *end,
                       size_t max, const uint8_t **data, size_t *n);

/* --- HTTP/1.1 connection --- */

#define PH_H1_DRAIN_MAX ((uint64_t)65536) /* request body bytes read for nobody before closing */

/* A drain: a connection that was in use less than this ago may have a request on its way, which is
 * answered, with Connection: close. Longer than a round trip, shorter than anybody's patience. */
#define PH_H1_DRAIN_IDLE (500 * PH_MSEC)

/* One piece of output on its way, for the report when it has left. */
struct ph_h1_piece {
    struct ph_h1_exchange *ex; /* NULL: an answer of the engine's own */
    size_t n;
    bool is_body; /* counted by on_acked */
    bool is_last; /* the exchange is over when it has left */
};

struct ph_h1_held {
    struct ph_slice slice;
    bool is_body;
};

struct ph_h1_exchange {
    struct ph_exchange base; /* first */
    struct ph_h1_conn *conn;
    struct ph_link link;
    size_t unconsumed;  /* body bytes delivered and not consumed */
    bool is_dispatched; /* on_request was called */
    bool has_body;
    bool is_stopped;     /* the reader wants no more */
    bool wants_continue; /* a 100 may still be sent */
    bool wants_close, wants_keep_alive;
    bool is_begun;           /* final head made */
    bool is_emitted;         /* response made whole */
    bool must_close;         /* after it; its head says so */
    bool is_cut;             /* reset by the owner: what it had said is all that goes out */
    bool is_out_chunked;     /* framing of the response body */
    struct ph_buf *head;     /* held back until its framing is known; without the last CRLF */
    struct ph_h1_held *held; /* output made before its turn */
    size_t held_len, held_cap;
};

/*      exchanges:  [emitted, leaving] [emitted, leaving] [current] [waiting] [waiting]
 * [undispatched] pieces ------------------------------------^    held output
 */
struct ph_h1_conn {
    struct ph_tcp_engine engine; /* first */
    const struct ph_h1_config *config;
    const struct ph_exchange_sink *sink;
    struct ph_stats *stats;
    struct ph_sliceq *out;
    struct ph_path path;
    const struct ph_tls_info *tls; /* borrow */
    uint64_t now;                  /* as last told */

    struct ph_h1_parser parser;
    enum {
        PH_H1_HEAD,
        PH_H1_BODY_LENGTH,
        PH_H1_BODY_CHUNKED,
        PH_H1_UPGRADING, /* what comes belongs to a tunnel or to the next request: not known yet */
        PH_H1_TUNNEL,
        PH_H1_STOPPED
    } reading;
    uint64_t body_left;             /* BODY_LENGTH */
    struct ph_h1_chunked chunked;   /* BODY_CHUNKED */
    struct ph_h1_exchange *body_ex; /* whose body or tunnel it is; NULL: read for nobody */
    bool is_body_begun;             /* a byte of it came */
    uint64_t discard_left;          /* PH_H1_DRAIN_MAX downwards */
    uint64_t requests;              /* heads completed */

    struct ph_link exchanges;
    size_t exchange_count;
    struct ph_h1_exchange *pending; /* complete head that must wait for its turn, or NULL */

    struct ph_h1_piece *pieces; /* ring, power of two */
    size_t piece_head, piece_count, piece_cap;
    size_t unsent; /* bytes of all pieces */

    struct ph_h1_fault fault; /* to answer once all before it is answered */
    bool fault_is_head;       /* the faulty request was a HEAD */
    bool is_draining, is_closing, is_aborted;
    bool is_cut_framed; /* is_aborted by a cut that the framing of the response shows */

    /* Timers: what is waited for, since when. */
    uint64_t wait_key, wait_since;
};

/* The exchange whose output goes to the wire now; NULL when all are emitted. */
struct ph_h1_exchange *ph_h1_current(const struct ph_h1_conn *conn);
extern const struct ph_exchange_ops ph_h1_ops;
/* Makes held-back heads whole. */
void ph_h1_write_flush(struct ph_h1_conn *conn);
/* Appends the answer to conn->fault. */
void ph_h1_write_fault(struct ph_h1_conn *conn);
void ph_h1_exchange_drop_output(struct ph_h1_exchange *ex);
/* The response of the current exchange breaks off here, and with it the connection. */
void ph_h1_cut(struct ph_h1_exchange *ex);
/* The exchange that asked for a tunnel gets it, or an ordinary answer. */
void ph_h1_on_upgraded(struct ph_h1_conn *conn, bool granted);
/* The response of the current exchange is whole: decides what becomes of the connection. */
void ph_h1_on_emitted(struct ph_h1_conn *conn, struct ph_h1_exchange *ex);

#endif
