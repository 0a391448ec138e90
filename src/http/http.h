/*
 * http.h - what all versions of HTTP share: fields, heads, the exchange; and the engines of
 * HTTP/1.1 and HTTP/2.
 *
 * An exchange is one request with its response. An engine (h1, h2, h3) creates it when a head is
 * complete and valid; the sink (core/bridge_http.c) gets its events and answers through the
 * functions below. I/O thread.
 */
#ifndef PH_HTTP_H
#define PH_HTTP_H

#include "../base/base.h"

/* --- Fields --- */

struct ph_http_limits {
    size_t head_bytes; /* decoded, name + value + 32 a field (RFC 9114 4.2.2) */
    size_t head_fields;
    size_t target_bytes;
};

/* Name/value pairs in one arena. Pointers in `list` are stable only after ph_fields_seal(). Zero is
 * an empty set. */
struct ph_fields {
    char *arena;
    size_t arena_len, arena_cap;
    struct ph_field *list;
    size_t count, cap;
    size_t cost; /* name + value + 32 each */
};
void ph_fields_fini(struct ph_fields *fields);
/* Appends a copy. PH_E_LIMIT past head_bytes or head_fields of `limits` (NULL: none). */
int ph_fields_add(struct ph_fields *fields, const char *name, size_t name_len, const char *value,
                  size_t value_len, const struct ph_http_limits *limits);
void ph_fields_seal(
    struct ph_fields *fields); /* makes pointers final; strings are NUL-terminated too */
const struct ph_field *ph_fields_get(const struct ph_fields *fields,
                                     const char *name); /* first, after seal */
size_t ph_fields_count_of(const struct ph_fields *fields, const char *name);

bool ph_field_name_is_valid(const char *p, size_t n); /* RFC 9110 token, any case */
bool ph_field_name_is_lower(const char *p, size_t n); /* token without upper case (RFC 9114 4.2) */
bool ph_field_value_is_valid(
    const char *p, size_t n); /* no CR, LF, NUL, other controls but HTAB; no outer white space */
bool ph_field_is_connection_specific(const char *name, size_t n); /* RFC 9114 4.2, any case */
/* Decimal digits only, below 2^63. PH_E_MALFORMED otherwise. */
int ph_content_length_parse(const char *p, size_t n, uint64_t *out);
/* host [ ":" port ] without user information: what Host, :authority and targets may hold. Stricter
 * than RFC 3986: of the characters of a registered name only letters, digits, "-", ".", "_", "~"
 * and percent-encoded ones; host not empty, port 1 to 65535. */
bool ph_authority_is_valid(const char *p, size_t n);
/* Path and query of a request in origin form: begins with "/", no white space, controls or "#".
 * Bytes above 0x7f are kept as they are. */
bool ph_target_is_valid(const char *p, size_t n);

/* --- Heads --- */

/* A request head; strings live in `fields`' arena or are static, NUL-terminated, "" when absent. */
struct ph_head {
    int version; /* 10, 11, 20, 30 */
    const char *method, *scheme, *authority, *target, *protocol;
    size_t method_len, target_len, authority_len;
    int status; /* responses (client side) */
    bool has_length;
    uint64_t length;         /* content-length */
    struct ph_fields fields; /* without pseudo-header fields */
};
void ph_head_fini(struct ph_head *head);

/* Builds and validates a request head of HTTP/2 and HTTP/3 from fields in wire order, pseudo-header
 * fields first (RFC 9114 4.3.1, 4.4; RFC 9220). Feed all fields, then finish. PH_E_MALFORMED,
 * PH_E_LIMIT. */
struct ph_head_builder {
    struct ph_head head;
    const struct ph_http_limits *limits;
    bool regular_seen, is_response, is_trailers;
    unsigned seen;
    int error;           /* first error; later fields are ignored */
    bool is_target_long; /* of PH_E_LIMIT: 414 instead of 431 (RFC 9110 15.5.15) */
    size_t off[8];       /* offsets of pseudo values in the arena */
};
void ph_head_builder_init(struct ph_head_builder *builder, const struct ph_http_limits *limits,
                          bool is_response);
/* For a trailer section: no pseudo-header fields, the same limits; finish gives head.fields. */
void ph_head_builder_init_trailers(struct ph_head_builder *builder,
                                   const struct ph_http_limits *limits);
int ph_head_builder_add(struct ph_head_builder *builder, const char *name, size_t name_len,
                        const char *value, size_t value_len);
int ph_head_builder_finish(
    struct ph_head_builder *builder); /* then builder->head is valid and the caller's */
void ph_head_builder_fini(struct ph_head_builder *builder); /* when it was not finished */

/* --- Origins --- */

/* Whether the page that a request names as its Origin is one of `allowed`, or without any list of
 * the same host. Requests without Origin come from no page and are allowed. */
bool ph_origin_is_allowed(const char *const *allowed, size_t n, const struct ph_head *head);

/* --- Exchange --- */

struct ph_exchange;

/* What an engine does for an exchange. None of these calls the sink, except for on_acked. */
struct ph_exchange_ops {
    /* Head, checked already (names lower case, valid). Informational (100 to 199) or final. */
    void (*respond)(struct ph_exchange *ex, int status, const struct ph_field *fields, size_t n,
                    bool fin);
    void (*write)(struct ph_exchange *ex, struct ph_slice slice,
                  bool fin); /* takes the reference */
    void (*trailers)(struct ph_exchange *ex, const struct ph_field *fields,
                     size_t n); /* ends the response */
    /* n > 0: body bytes were used. n = 0: the reader waits for the body; this is what sends "100
     * Continue" to a client that asked for it (RFC 9110 10.1.1). */
    void (*consume)(struct ph_exchange *ex, size_t n);
    void (*reset)(struct ph_exchange *ex, uint64_t code); /* abort both directions */
    void (*stop)(struct ph_exchange *ex,
                 uint64_t code); /* no interest in the rest of the request body */
    /* Turns the exchange into a tunnel. NULL: respond with 200 does (extended CONNECT). */
    void (*upgrade)(struct ph_exchange *ex, const struct ph_field *fields, size_t n);
};

/* The codes that owners and exchanges speak in, whatever the version (RFC 9114 8.1). HTTP/2 has
 * names of its own for them (h2_reply.c), HTTP/1.1 has none. */
enum {
    PH_H3_NO_ERROR = 0x100,
    PH_H3_GENERAL_PROTOCOL_ERROR = 0x101,
    PH_H3_INTERNAL_ERROR = 0x102,
    PH_H3_STREAM_CREATION_ERROR = 0x103,
    PH_H3_CLOSED_CRITICAL_STREAM = 0x104,
    PH_H3_FRAME_UNEXPECTED = 0x105,
    PH_H3_FRAME_ERROR = 0x106,
    PH_H3_EXCESSIVE_LOAD = 0x107,
    PH_H3_ID_ERROR = 0x108,
    PH_H3_SETTINGS_ERROR = 0x109,
    PH_H3_MISSING_SETTINGS = 0x10a,
    PH_H3_REQUEST_REJECTED = 0x10b,
    PH_H3_REQUEST_CANCELLED = 0x10c,
    PH_H3_REQUEST_INCOMPLETE = 0x10d,
    PH_H3_MESSAGE_ERROR = 0x10e,
    PH_H3_CONNECT_ERROR = 0x10f,
    PH_H3_VERSION_FALLBACK = 0x110
};

/* Owner's side. on_closed is last; the exchange is freed after it. */
struct ph_exchange_sink {
    void *self;
    /* A new exchange: set ex->user. The head is valid as long as the exchange. May point ex->sink
     * to another table, which then gets all that follows. */
    void (*on_request)(void *self, struct ph_exchange *ex);
    void (*on_body)(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n);
    void (*on_trailers)(void *self, struct ph_exchange *ex, const struct ph_fields *fields);
    void (*on_end)(void *self, struct ph_exchange *ex); /* the request is complete */
    void (*on_acked)(void *self, struct ph_exchange *ex,
                     size_t n); /* n body bytes left our memory */
    /* clean: the response was sent whole (and, over QUIC, acknowledged). Otherwise the code that
     * ended it. */
    void (*on_closed)(void *self, struct ph_exchange *ex, bool clean, uint64_t code);
};

/* Of each direction. An exchange:
 *
 *      in   HEAD --on_body--> BODY --on_end--> DONE
 *      out  HEAD --respond(final)--> BODY --write(fin), trailers--> DONE
 *             \--respond(1xx)--> HEAD
 *
 * and `is_aborted` ends both: every later call of the owner gives PH_E_CLOSED.
 *
 * A request whose head has a protocol asks for a tunnel: HTTP/1.1 with Upgrade (RFC 9110 7.8),
 * later versions with extended CONNECT (RFC 8441, RFC 9220). ph_exchange_upgrade() grants it; from
 * there on on_body and ph_exchange_write() carry raw bytes, on_end and `fin` the ends of both
 * directions, and neither a declared length nor max_body nor body_timeout applies. Any other answer
 * makes it an ordinary exchange: HTTP/1.1 then goes on with the next request. on_end of such a
 * request is not called before the peer has ended its side of the tunnel. */
enum ph_exchange_state { PH_EX_HEAD, PH_EX_BODY, PH_EX_DONE };

/* Base of the engines' own structures: first member there. */
struct ph_exchange {
    const struct ph_exchange_ops *ops;
    const struct ph_exchange_sink *sink;
    void *user;
    struct ph_head head;
    struct ph_path path;           /* as of the head */
    const struct ph_tls_info *tls; /* borrow, of the connection; NULL: no TLS */
    bool is_early;                 /* came in 0-RTT (RFC 8470) */
    size_t siblings;               /* exchanges alive on its connection at its beginning, with it */
    enum ph_exchange_state in, out;
    uint64_t in_bytes;    /* body bytes received, against content-length */
    bool out_is_bodiless; /* HEAD, 204, 304: written bytes are swallowed */
    bool out_close;       /* the application said "connection: close" */
    bool out_has_length;
    uint64_t out_length, out_bytes; /* declared and written body bytes */
    bool is_aborted;
    bool is_tunnel; /* ph_exchange_upgrade() was called */
};
/* Zeroes it; the engine then sets head (which the exchange owns from there on), path, tls. */
void ph_exchange_init(struct ph_exchange *ex, const struct ph_exchange_ops *ops,
                      const struct ph_exchange_sink *sink);
void ph_exchange_fini(struct ph_exchange *ex);
/* Checked front doors for the sink's owner; they enforce RFC 9110, then call ops.
 *
 * PH_E_INVAL for field names that are not lower-case tokens, bad values, pseudo-header fields and
 * statuses outside 100 to 999 (101 included: that is ph_exchange_upgrade()'s, and so is 2xx to an
 * extended CONNECT, which the owner avoids); nothing was sent then. Fields
 * that belong to the connection (connection, transfer-encoding, keep-alive, ...) are taken out;
 * "connection: close" is honoured by HTTP/1.1. No body goes out on HEAD, 204, 304: its bytes are
 * swallowed, and reported as acked within the call. A declared content-length is kept: going past
 * it, or ending before it, gives PH_E_INVAL and aborts the exchange (in respond with `fin`, where
 * nothing was sent yet, only PH_E_INVAL). Trailers are dropped silently when the request did not
 * say TE: trailers, or is HTTP/1.0; 1xx heads are dropped on HTTP/1.0. PH_E_STATE out of order,
 * PH_E_CLOSED after an abort. */
int ph_exchange_respond(struct ph_exchange *ex, int status, const struct ph_field *fields, size_t n,
                        bool fin);
/* Answers 101, or 200 to an extended CONNECT, with these fields and opens the tunnel. PH_E_STATE
 * for a request that asked for none, otherwise as respond. */
int ph_exchange_upgrade(struct ph_exchange *ex, const struct ph_field *fields, size_t n);
int ph_exchange_write(struct ph_exchange *ex, struct ph_slice slice,
                      bool fin); /* takes the reference, always */
int ph_exchange_trailers(struct ph_exchange *ex, const struct ph_field *fields, size_t n);
void ph_exchange_consume(struct ph_exchange *ex, size_t n); /* n = 0: see ph_exchange_ops */
void ph_exchange_reset(struct ph_exchange *ex, uint64_t code);
void ph_exchange_stop(struct ph_exchange *ex, uint64_t code);
/* For engines: report body bytes; PH_E_MALFORMED when they pass content-length; at the end when
 * they fall short. */
int ph_exchange_on_body(struct ph_exchange *ex, const uint8_t *data, size_t n);
int ph_exchange_on_end(struct ph_exchange *ex);

/* --- Engines of a TCP connection --- */

/* What the owner of a TCP connection does with the engine that speaks on it, whatever the version
 * of HTTP. Sans-I/O: plaintext comes in by feed and goes out through the queue that the engine was
 * given when it was made; the time comes with every call.
 *
 * The owner's turn: feed what came (and what still waits in `in` whenever wants_input has become
 * true: after consume, after a response), flush, write the queue, sent. The sink is called inside
 * feed, eof, sent, expire and free only, and may call any ph_exchange_* function; it must not free
 * the engine. After any other call `next` may have become "at once". */
struct ph_tcp_engine;
struct ph_tcp_engine_ops {
    /* Exchanges under way get on_closed(clean = false). */
    void (*free)(struct ph_tcp_engine *engine);
    /* Makes output that was held back (heads, in the hope of a length that can be told), before the
     * queue is written; without it that leaves with the next expire. */
    void (*flush)(struct ph_tcp_engine *engine);
    /* Eats bytes from `in`, advancing and dropping, as long as it wants input. */
    void (*feed)(struct ph_tcp_engine *engine, struct ph_sliceq *in, uint64_t now);
    void (*eof)(struct ph_tcp_engine *engine, uint64_t now); /* the peer finished sending */
    void (*sent)(struct ph_tcp_engine *engine, size_t n, uint64_t now); /* n bytes of the queue */
    void (*expire)(struct ph_tcp_engine *engine, uint64_t now);
    uint64_t (*next)(const struct ph_tcp_engine *engine);    /* when to expire; PH_NEVER */
    bool (*wants_input)(const struct ph_tcp_engine *engine); /* false: do not read now */
    /* The owner closes the socket once the queue is empty. `abort`: the end must be unclean (RST,
     * no close_notify), or a response that was cut could pass for whole. */
    bool (*is_done)(const struct ph_tcp_engine *engine, bool *abort);
    /* Of an abort: the queue is worth writing, and after it a FIN is enough, since the framing of
     * the last response shows that it was cut. */
    bool (*is_cut_framed)(const struct ph_tcp_engine *engine);
    void (*drain)(struct ph_tcp_engine *engine); /* finish what is under way, then done */
};
/* First member of the engines' connections. */
struct ph_tcp_engine {
    const struct ph_tcp_engine_ops *ops;
};

/* --- HTTP/1.1 --- */

/* One TCP connection. Requests are parsed strictly (RFC 9112, nothing lenient: docs/limits.md),
 * answered in order. Pipelined requests are handed out together as long as all of them are GET,
 * HEAD or OPTIONS without a body (RFC 9112 9.3.2), otherwise one after the other.
 *
 * A finished sending side of the peer (eof) within a request is its departure. After whole requests
 * it may be no more than "that was all": so it is read from a client that said as much, in HTTP/1.0
 * or with "connection: close" in its last request, and the answers under way still go out (RFC 9112
 * 9.6). From others, which keep their connections for more requests, it counts as departure, as in
 * every ASGI server, so that the application learns of it at once: responses that are not complete
 * are aborted, complete ones are still sent.
 *
 * Closing: when is_done, shut down the sending side first and read for a moment, so that bytes
 * still on their way do not turn into a reset that destroys the response (RFC 9112 9.6). */
struct ph_h1_config {
    struct ph_http_limits limits;
    uint64_t max_body;                                         /* bytes; 413 above. 0: none */
    uint64_t header_timeout, body_timeout, keep_alive_timeout; /* ns */
    uint32_t keep_alive_requests;
    uint32_t pipelined_max; /* parsed ahead */
    size_t body_window;     /* unconsumed body bytes above which reading stops */
    size_t chunk_overhead;  /* bytes of chunk framing beyond the payload */
    size_t chunk_extension; /* bytes of extension on one chunk line */
    bool websocket;         /* "upgrade: websocket" asks for a tunnel; otherwise it is ignored */
};
void ph_h1_config_default(struct ph_h1_config *config);

/* Outgoing bytes are appended to `out`. `config`, `sink`, `stats`, `out` and `tls` (NULL:
 * cleartext) are borrowed for its life. */
struct ph_tcp_engine *ph_h1_conn_new(const struct ph_h1_config *config,
                                     const struct ph_exchange_sink *sink,
                                     const struct ph_path *path, const struct ph_tls_info *tls,
                                     struct ph_sliceq *out, struct ph_stats *stats, uint64_t now);

/* --- HTTP/2 --- */

/* One connection, on nghttp2 (RFC 9113): its engine is driven like that of HTTP/1.1. Streams carry
 * exchanges; extended CONNECT (RFC 8441) gives one with head.protocol "websocket", others are
 * answered 501. Receive windows open as the owner consumes. Responses leave by priority (RFC 9218).
 * A stream error is a reset and costs the other streams nothing. */
struct ph_h2_config {
    struct ph_http_limits limits;
    uint64_t max_body;                                   /* bytes; 413 above. 0: none */
    size_t head_encoded;                                 /* bytes of one header block, compressed */
    uint64_t header_timeout, body_timeout, idle_timeout; /* ns; 0: none */
    /* Of one response; those that nothing is taken of at all are the owner's business. */
    uint64_t write_stall_timeout, min_send_rate; /* ns; bytes a second, 0: one byte */
    uint32_t max_streams;                        /* at once; REFUSED_STREAM above */
    uint32_t max_frame;                          /* bytes; 16384 to 2^24-1 */
    uint32_t header_table;                       /* bytes, both ways */
    uint32_t settings_max;                       /* entries of one SETTINGS frame */
    uint32_t continuations_max;                  /* CONTINUATION frames of one header block */
    uint32_t replies_max; /* acknowledgements that wait for a peer which does not read */
    uint32_t stream_window, conn_window; /* receive windows, bytes */
    uint64_t reset_burst, reset_rate;    /* streams that the peer cancels, or makes us reset */
    uint64_t glitch_burst, glitch_rate;  /* frames without progress */
    bool websocket; /* advertise extended CONNECT and take it for WebSocket (RFC 8441) */
};
void ph_h2_config_default(struct ph_h2_config *config);
/* `config`, `sink`, `stats`, `out` and `tls` (NULL: cleartext) are borrowed for its life. */
struct ph_tcp_engine *ph_h2_conn_new(const struct ph_h2_config *config,
                                     const struct ph_exchange_sink *sink,
                                     const struct ph_path *path, const struct ph_tls_info *tls,
                                     struct ph_sliceq *out, struct ph_stats *stats, uint64_t now);
/* Says INADEQUATE_SECURITY and ends (RFC 9113 9.2.2). */
void ph_h2_conn_refuse(struct ph_tcp_engine *engine);

/* --- WebSocket --- */

/* Server side of RFC 6455 with permessage-deflate (RFC 7692), whatever carries its bytes: the
 * tunnel of an exchange of HTTP/1.1, HTTP/2 (RFC 8441) or HTTP/3 (RFC 9220). Sans-I/O:
 *
 *      head of the request -> ph_ws_ask_read() -> ph_ws_ask_answer() -> ph_exchange_upgrade()
 *      bytes of the tunnel -> ph_ws_feed() -> on_message             ph_ws_send() -> on_out
 *
 * One host holds what all connections share. The owner feeds bytes and the time, writes what on_out
 * gives into the tunnel, reports what left memory with ph_ws_sent(), and calls ph_ws_expire() when
 * ph_ws_next() is due. */
struct ph_ws_config {
    size_t max_size;                      /* of a message, decompressed; 1009 above */
    uint32_t max_frames;                  /* of a message; 1008 above */
    uint32_t max_queue;                   /* messages with the owner and not consumed */
    size_t queue_bytes;                   /* their bytes: no new message is read above either */
    uint64_t ping_interval, ping_timeout; /* ns; 0: no pings; for ever */
    uint64_t close_timeout;               /* ns; for the peer's answer to our close */
    bool deflate;                         /* permessage-deflate may be negotiated */
    const char *const *allowed_origins;   /* none: every page may connect */
    size_t allowed_origins_len;
};
void ph_ws_config_default(struct ph_ws_config *config);

struct ph_ws_host;
/* `config` is copied, its list and `stats` are borrowed. */
struct ph_ws_host *ph_ws_host_new(const struct ph_ws_config *config, struct ph_stats *stats);
void ph_ws_host_free(struct ph_ws_host *host);

/* What a valid handshake asked for. */
struct ph_ws_ask {
    char **offered; /* own: subprotocols in order */
    size_t offered_len;
    char accept[32];                   /* of HTTP/1.1; "" later */
    bool deflate;                      /* an offer was acceptable: */
    bool deflate_client_bits;          /* and lets us choose the client's window */
    unsigned server_bits, client_bits; /* windows of both directions, as powers of two */
};
/* A request to be answered with an error. */
struct ph_ws_refusal {
    int status; /* 400, 403, or 426 with sec-websocket-version (RFC 6455 4.4) */
    const char *why;
};
/* Reads the handshake in a head that asks for a tunnel (RFC 6455 4.2.1, RFC 8441 5). PH_E_INVAL:
 * `refusal` says how to answer. */
int ph_ws_ask_read(struct ph_ws_ask *ask, const struct ph_ws_config *config,
                   const struct ph_head *head, struct ph_ws_refusal *refusal);
void ph_ws_ask_fini(struct ph_ws_ask *ask);
/* Collects the fields of the answer that accepts: the owner's, and those of the handshake.
 * `subprotocol`: one of the offered ones, or NULL. PH_E_INVAL for fields that the handshake sets
 * (ph_ws_field_is_ours()) and invalid ones. */
int ph_ws_ask_answer(const struct ph_ws_ask *ask, struct ph_fields *out,
                     const struct ph_field *fields, size_t n, const char *subprotocol);
bool ph_ws_field_is_ours(const char *name, size_t n); /* any case */
/* Codes that an application may close with (RFC 6455 7.4; 1004 to 1006 and 1015 are never sent). */
bool ph_ws_code_is_valid(uint32_t code);

#define PH_WS_REASON_MAX 123 /* bytes of a reason in a close frame */
#define PH_WS_CODE_LOST 1006 /* the peer left without closing (RFC 6455 7.1.5) */

struct ph_ws;
struct ph_ws_end {
    uint32_t code;      /* the peer's; 1005: it gave none; 1006: it left without closing. Where we
                         * failed the connection or went away: ours */
    const char *reason; /* UTF-8 */
    size_t reason_len;
    bool clean; /* both sides closed */
    bool local; /* this side began it */
};
struct ph_ws_sink {
    /* A whole message; takes the buffer (NULL: it is empty). */
    void (*on_message)(void *user, struct ph_buf *message, bool text);
    void (*on_out)(void *user, struct ph_slice slice); /* takes the reference */
    /* How it ended, once. No message follows. */
    void (*on_closed)(void *user, const struct ph_ws_end *end);
    /* All was said: the owner finishes its side of the tunnel. Nothing follows. */
    void (*on_over)(void *user);
};
/* An accepted connection. `sink` is borrowed. None of the functions below but feed, eof, send,
 * close, go_away and expire calls it. */
struct ph_ws *ph_ws_new(struct ph_ws_host *host, const struct ph_ws_ask *ask,
                        const struct ph_ws_sink *sink, void *user, uint64_t now);
void ph_ws_free(struct ph_ws *ws);
/* Eats bytes, at most `n`, as long as it wants input; call it without any after ph_ws_consume(). */
size_t ph_ws_feed(struct ph_ws *ws, const uint8_t *data, size_t n, uint64_t now);
/* false: the queue is full and the next message has begun. Control frames are answered up to it. */
bool ph_ws_wants_input(const struct ph_ws *ws);
/* The tunnel ended, after everything was fed. */
void ph_ws_eof(struct ph_ws *ws, uint64_t now);
/* Sends a message; takes the reference. PH_E_CLOSED: dropped. */
int ph_ws_send(struct ph_ws *ws, struct ph_slice message, bool text, uint64_t now);
/* Begins the closing handshake; the reason is cut to PH_WS_REASON_MAX at a character. */
void ph_ws_close(struct ph_ws *ws, uint32_t code, const char *reason, size_t n, uint64_t now);
/* The server stops: closes with 1001, and says so to the owner at once. */
void ph_ws_go_away(struct ph_ws *ws, uint64_t now);
void ph_ws_consume(struct ph_ws *ws, size_t messages);     /* the owner used that many */
void ph_ws_sent(struct ph_ws *ws, size_t n, uint64_t now); /* bytes of on_out left memory */
uint64_t ph_ws_next(const struct ph_ws *ws);               /* when to expire; PH_NEVER */
void ph_ws_expire(struct ph_ws *ws, uint64_t now);

#endif
