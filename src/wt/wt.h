/*
 * wt.h - WebTransport over HTTP/3, drafts 02 to 16 (see docs), as an extension of h3.
 *
 * One ph_wt per endpoint, one ph_wt_session per CONNECT, one ph_wt_stream per data stream. The
 * owner (core/bridge.c, or a test client) gets events through ph_wt_sink and acts through the
 * functions below. Flow-control capsules (WT_MAX_DATA, ...) are not negotiated: their settings are
 * not sent, so they are ignored on receipt, as the drafts demand. I/O thread.
 *
 * Events may come inside the functions below (accept releases what was held, close ends streams);
 * every event function may call every other function here, on any object that has not had its last
 * event. Memory is freed in ph_wt_expire() and ph_wt_free() only.
 */
#ifndef PH_WT_H
#define PH_WT_H

#include "../base/base.h"

struct ph_h3;
struct ph_h3_conn;
struct ph_h3_ext;
struct ph_head;
struct ph_exchange;
struct ph_wt;
struct ph_wt_session;
struct ph_wt_stream;

/* --- Error codes --- */

#define PH_WT_BUFFERED_STREAM_REJECTED UINT64_C(0x3994bd84)
#define PH_WT_SESSION_GONE UINT64_C(0x170d7b68)
#define PH_WT_FLOW_CONTROL_ERROR UINT64_C(0x045d4487)
#define PH_WT_ALPN_ERROR UINT64_C(0x0817b3dd)
#define PH_WT_REQUIREMENTS_NOT_MET UINT64_C(0x212c0d48)

uint64_t ph_wt_code_to_http3(uint32_t code);
bool ph_wt_code_from_http3(uint64_t http3,
                           uint32_t *code); /* false: not in the application range */

/* --- Capsules (capsule.c) --- */

#define PH_CAPSULE_DATAGRAM UINT64_C(0x00)
#define PH_CAPSULE_WT_CLOSE_SESSION UINT64_C(0x2843)
#define PH_CAPSULE_WT_DRAIN_SESSION UINT64_C(0x78ae)
#define PH_WT_REASON_MAX 1024

/* Resumable reader. Values of CLOSE, DRAIN and DATAGRAM capsules are collected (up to their own
 * bound), others are skipped in place, and so is a DATAGRAM that no QUIC packet could have carried.
 * Zero is its initial state. */
struct ph_capsule_reader {
    struct ph_varint_reader varint;
    enum { PH_CAPSULE_AT_TYPE, PH_CAPSULE_AT_LENGTH, PH_CAPSULE_AT_VALUE } state;
    uint64_t type, length, left;
    uint64_t skipped; /* value bytes of unknown capsules so far */
    uint64_t unknown; /* unknown capsules so far */
    uint8_t *value;   /* collected; capacity `value_cap` */
    size_t value_len, value_cap;
};
/* 1: a whole capsule: type, value, value_len (unknown ones are not reported); 0: input is used up;
 * PH_E_MALFORMED: a known capsule longer than its bound; PH_E_LIMIT: more than `skip_max` bytes
 * skipped. */
int ph_capsule_next(struct ph_capsule_reader *reader, const uint8_t **p, const uint8_t *end,
                    uint64_t skip_max);
bool ph_capsule_is_between(const struct ph_capsule_reader *reader);
void ph_capsule_reader_fini(struct ph_capsule_reader *reader);
/* Writes a WT_CLOSE_SESSION capsule; the reason is cut to 1024 bytes at a character boundary. `out`
 * has room for PH_WT_REASON_MAX + 16. Returns the length. */
size_t ph_capsule_close_put(uint8_t *out, uint32_t code, const char *reason, size_t reason_len);
size_t ph_capsule_drain_put(uint8_t *out); /* 5 bytes */

/* --- Stream header (wt_header.c): signal 0x41 or 0x54, session id --- */

#define PH_WT_SIGNAL_BIDI UINT64_C(0x41)
#define PH_WT_SIGNAL_UNI UINT64_C(0x54)
#define PH_WT_STREAM_HEADER_MAX 10
/* Returns its length, at most PH_WT_STREAM_HEADER_MAX. */
size_t ph_wt_stream_header_put(uint8_t *out, bool bidi, uint64_t session_id);
/* Reads the session id, which follows the signal, from [*p, end); zero is the reader's initial
 * state. 1: *session_id is complete; 0: more bytes are needed; PH_E_PROTO: the id is not one of a
 * client-initiated bidirectional stream (H3_ID_ERROR). */
int ph_wt_stream_header_feed(struct ph_varint_reader *reader, const uint8_t **p, const uint8_t *end,
                             uint64_t *session_id);

/* --- Subprotocols (wt_protocols.c) --- */

/* Structured field (RFC 8941) helpers for WT-Available-Protocols and WT-Protocol. Parses a list of
 * strings into NUL-terminated copies; count, or PH_E_MALFORMED (any other member: the whole field
 * is to be ignored). Caller owns *out and its strings (ph_wt_protocols_free). At most
 * PH_WT_PROTOCOLS_MAX. */
#define PH_WT_PROTOCOLS_MAX 64
int ph_wt_protocols_parse(char ***out, const char *p, size_t n);
void ph_wt_protocols_free(char **list, size_t count);
/* Writes an sf-string; room for 2 * n + 3. Returns the length, 0 when `value` has characters that a
 * string cannot hold. */
size_t ph_wt_protocol_put(char *out, const char *value, size_t n);

/* --- Events --- */

struct ph_wt_end {
    bool clean; /* a close capsule or FIN of either side */
    bool local; /* ours came first */
    int status; /* client: HTTP status of a refusal, otherwise 0 */
    uint32_t code;
    const char *reason; /* valid UTF-8, borrow */
    size_t reason_len;
};

struct ph_wt_sink {
    void *self;
    /* Server: a new session to answer with ph_wt_session_accept() or _reject(). Its head:
     * ph_wt_session_head(). */
    void (*on_session)(void *self, struct ph_wt_session *session);
    /* Client: accepted (status 2xx), with the chosen subprotocol (NULL: none). A refusal is
     * on_session_closed. */
    void (*on_session_ready)(void *self, struct ph_wt_session *session, const char *subprotocol);
    void (*on_stream)(void *self, struct ph_wt_session *session,
                      struct ph_wt_stream *stream);             /* by the peer */
    void (*on_opened)(void *self, struct ph_wt_stream *stream); /* ours has its id */
    void (*on_data)(void *self, struct ph_wt_stream *stream, const uint8_t *data, size_t n,
                    bool fin);
    void (*on_reset)(void *self, struct ph_wt_stream *stream, bool has_code, uint32_t code);
    void (*on_stop)(void *self, struct ph_wt_stream *stream, bool has_code, uint32_t code);
    /* n payload bytes left our memory: acknowledged, or dropped by a reset, a stop or the end.
     * Every byte that ph_wt_stream_write() took is reported once, at the latest before
     * on_stream_closed. */
    void (*on_acked)(void *self, struct ph_wt_stream *stream, size_t n);
    /* Last; the pointer dies. What the owner still holds of it is given back through
     * ph_wt_session_consume() and ph_wt_session_stream_done(). */
    void (*on_stream_closed)(void *self, struct ph_wt_stream *stream);
    void (*on_datagram)(void *self, struct ph_wt_session *session, const uint8_t *data, size_t n);
    void (*on_datagrams_left)(void *self, struct ph_wt_session *session,
                              size_t n); /* outbound: sent, dropped, expired */
    void (*on_drain)(void *self, struct ph_wt_session *session, bool local);
    /* The session is over: every stream got on_stream_closed before. The pointer dies. */
    void (*on_session_closed)(void *self, struct ph_wt_session *session,
                              const struct ph_wt_end *end);
};

struct ph_wt_config {
    uint32_t max_sessions; /* per connection, at once; > 1 is refused with H3_REQUEST_REJECTED while
                              flow control capsules are not negotiated (drafts 13 and later);
                              older peers may have more */
    uint32_t session_burst, session_rate; /* sessions at once and a second, per connection; more are
                                             refused with H3_REQUEST_REJECTED */
    /* For sessions not yet known or answered. */
    uint32_t pending_sessions;                    /* of a connection: ids that are not known */
    uint32_t pending_streams, pending_datagrams;  /* of each session */
    size_t pending_bytes, pending_datagram_bytes; /* of a connection */
    uint64_t pending_timeout; /* ns until streams of an unknown session are refused */
    uint64_t accept_timeout;  /* ns until an unanswered session gets 503 */
    uint64_t close_timeout;   /* ns that a close waits for the peer */
    uint32_t datagrams_out;   /* entries */
    uint32_t datagram_bytes_out;
    uint64_t capsule_skip_max; /* bytes */
    /* "https://example.com", exactly those; "*" allows all. Empty: https pages of the host that the
     * request addresses, and any loopback page when that is a loopback name. Borrowed. */
    const char *const *allowed_origins;
    size_t allowed_origins_len;
};
void ph_wt_config_default(struct ph_wt_config *config);

/* --- Endpoint side --- */

struct ph_wt *ph_wt_new(const struct ph_wt_config *config, const struct ph_wt_sink *sink,
                        struct ph_stats *stats);
void ph_wt_free(struct ph_wt *wt);
void ph_wt_h3_ext(struct ph_wt *wt, struct ph_h3_ext *out); /* the table to give to ph_h3_new() */
/* Runs what is due and frees what died. */
void ph_wt_expire(struct ph_wt *wt, uint64_t now);
/* When to call ph_wt_expire(); 0 while something waits to be freed; PH_NEVER. */
uint64_t ph_wt_next(const struct ph_wt *wt);
void ph_wt_drain(struct ph_wt *wt); /* DRAIN capsule and on_drain(local) for every session */

/* --- Session --- */

void ph_wt_session_set_user(struct ph_wt_session *session, void *user);
void *ph_wt_session_user(const struct ph_wt_session *session);
uint64_t ph_wt_session_id(const struct ph_wt_session *session);
const struct ph_head *ph_wt_session_head(const struct ph_wt_session *session);
const struct ph_path *ph_wt_session_path(const struct ph_wt_session *session);
const struct ph_tls_info *ph_wt_session_tls(const struct ph_wt_session *session);
const char *const *ph_wt_session_offered(const struct ph_wt_session *session, size_t *n);
bool ph_wt_session_has_datagrams(const struct ph_wt_session *session);
size_t ph_wt_session_max_datagram(const struct ph_wt_session *session); /* payload bytes now */
/* 200; then streams, datagrams and capsules held so far are delivered in arrival order, before this
 * returns: the session may be over by then. Field names are sent in lower case. PH_E_INVAL:
 * subprotocol not offered, or a field that HTTP/3 or this protocol reserves; PH_E_STATE: answered
 * before. */
int ph_wt_session_accept(struct ph_wt_session *session, const struct ph_field *fields, size_t n,
                         const char *subprotocol);
/* Refuses: the request becomes an ordinary exchange of the h3 exchange sink, which the caller
 * answers; what was held is refused. The session pointer dies (no on_session_closed). NULL:
 * answered before, or over; nothing changes. */
struct ph_exchange *ph_wt_session_reject(struct ph_wt_session *session);
/* Sends code and reason (cut to 1024 bytes) and FIN; ends all streams before it returns.
 * on_session_closed follows when the peer has ended its side too, or after close_timeout. A second
 * close does nothing. PH_E_INVAL: the reason is not UTF-8; PH_E_STATE: not accepted yet. */
int ph_wt_session_close(struct ph_wt_session *session, uint32_t code, const char *reason,
                        size_t reason_len);
/* Abrupt end: resets the CONNECT stream and all streams; on_session_closed comes before this
 * returns. */
void ph_wt_session_reset(struct ph_wt_session *session, uint64_t http3_code);
int ph_wt_session_drain(struct ph_wt_session *session);
/* Takes buf. On an error it was not queued and on_datagrams_left does not come: PH_E_CLOSED,
 * PH_E_STATE (the peer takes none), PH_E_TOOBIG (counted). */
int ph_wt_session_datagram(struct ph_wt_session *session, struct ph_buf *buf, uint64_t expires);
/* Returns receive credit for bytes of streams that had on_stream_closed. */
void ph_wt_session_consume(struct ph_wt_session *session, size_t n);
/* The owner is done with one stream that the peer had opened and that had on_stream_closed (the
 * application saw its final event): the peer may open another. What was not said at
 * on_session_closed is returned by wt. */
void ph_wt_session_stream_done(struct ph_wt_session *session, bool bidi);
/* The draft this session follows: 2, 7, 13 or 15 (the first of those that look alike). */
int ph_wt_session_draft(const struct ph_wt_session *session);
/* A stream that may be written at once; on_opened comes (possibly within this call) when the peer's
 * limit allows. NULL: the session is not open (a client may open streams before the answer). */
struct ph_wt_stream *ph_wt_session_open(struct ph_wt_session *session, bool bidi, void *user);
/* Client role. Fields beyond the pseudo-header fields; `offered` may be NULL. NULL: the server's
 * SETTINGS have not arrived or lack WebTransport, it sent GOAWAY, or no stream can be opened
 * now. */
struct ph_wt_session *ph_wt_connect(struct ph_wt *wt, struct ph_h3_conn *conn,
                                    const char *authority, const char *path,
                                    const struct ph_field *fields, size_t n,
                                    const char *const *offered, size_t offered_len, void *user);

/* --- Stream --- */

void ph_wt_stream_set_user(struct ph_wt_stream *stream, void *user);
void *ph_wt_stream_user(const struct ph_wt_stream *stream);
uint64_t ph_wt_stream_id(const struct ph_wt_stream *stream); /* UINT64_MAX before on_opened */
struct ph_wt_session *ph_wt_stream_session(const struct ph_wt_stream *stream);
/* Takes the reference. PH_E_STATE after fin or reset, and on a stream that only the peer writes; a
 * stream that the peer stopped swallows bytes (counted) and returns 0. */
int ph_wt_stream_write(struct ph_wt_stream *stream, struct ph_slice slice, bool fin);
void ph_wt_stream_consume(struct ph_wt_stream *stream, size_t n);
/* Abandons our side; unsent bytes are dropped, the stream header still reaches the peer. A stream
 * that has no id yet and is abandoned in all its directions (reset, and stopped when it is
 * bidirectional) never reaches the peer: on_stream_closed comes before the call returns. */
void ph_wt_stream_reset(struct ph_wt_stream *stream, uint32_t code);
/* Asks the peer to stop; neither on_data nor on_reset comes after it. Credit of what was delivered
 * and not consumed returns at once. */
void ph_wt_stream_stop(struct ph_wt_stream *stream, uint32_t code);
void ph_wt_stream_set_urgency(struct ph_wt_stream *stream, unsigned urgency);

#endif
