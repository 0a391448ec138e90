/*
 * wt.h - WebTransport over HTTP/3, drafts 02 to 16 (see docs), as an extension of h3.
 *
 * One ph_wt per endpoint, one ph_wt_session per CONNECT, one ph_wt_stream per data stream. The
 * owner (core/bridge.c, or a test client) gets events through ph_wt_sink and acts through the
 * functions below. Flow-control capsules (WT_MAX_DATA, ...) are not negotiated: their settings are
 * not sent, so they are ignored on receipt, as the drafts demand. I/O thread.
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

/* Resumable reader. Values of the kinds named in `wanted` are collected (up to their own bound),
 * others are skipped in place. Zero is its initial state. */
struct ph_capsule_reader {
    struct ph_varint_reader varint;
    enum { PH_CAPSULE_AT_TYPE, PH_CAPSULE_AT_LENGTH, PH_CAPSULE_AT_VALUE } state;
    uint64_t type, length, left;
    uint64_t skipped; /* bytes of unknown capsules so far */
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

/* Stream header: signal 0x41 or 0x54, session id. Returns its length (at most 10). */
size_t ph_wt_stream_header_put(uint8_t *out, bool bidi, uint64_t session_id);

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
    void (*on_acked)(void *self, struct ph_wt_stream *stream,
                     size_t n); /* n payload bytes left our memory */
    void (*on_stream_closed)(void *self, struct ph_wt_stream *stream); /* last; the pointer dies */
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
                              draft-02 peers may have more */
    uint32_t pending_streams; /* per connection, for sessions not yet known or answered */
    size_t pending_bytes;     /* held for them */
    uint32_t pending_datagrams;
    size_t pending_datagram_bytes;
    uint64_t pending_timeout; /* ns until held streams are refused */
    uint64_t accept_timeout;  /* ns until an unanswered session gets 503 */
    uint64_t close_timeout;   /* ns that a close waits for the peer */
    uint32_t datagrams_out;   /* entries */
    uint32_t datagram_bytes_out;
    uint64_t capsule_skip_max;          /* bytes */
    const char *const *allowed_origins; /* "https://example.com"; NULL or empty: same origin, or any
                                           loopback origin when `dev`; "*" allows all. Borrowed. */
    size_t allowed_origins_len;
    bool dev;
};
void ph_wt_config_default(struct ph_wt_config *config);

/* --- Endpoint side --- */

struct ph_wt *ph_wt_new(const struct ph_wt_config *config, const struct ph_wt_sink *sink,
                        struct ph_stats *stats);
void ph_wt_free(struct ph_wt *wt);
void ph_wt_h3_ext(struct ph_wt *wt, struct ph_h3_ext *out); /* the table to give to ph_h3_new() */
void ph_wt_expire(struct ph_wt *wt, uint64_t now);
uint64_t ph_wt_next(const struct ph_wt *wt);
void ph_wt_drain(struct ph_wt *wt); /* DRAIN capsule and on_drain(local) for every session */

/* --- Session --- */

void ph_wt_session_set_user(struct ph_wt_session *session, void *user);
void *ph_wt_session_user(const struct ph_wt_session *session);
uint64_t ph_wt_session_id(const struct ph_wt_session *session);
const struct ph_head *ph_wt_session_head(const struct ph_wt_session *session);
const struct ph_path *ph_wt_session_path(const struct ph_wt_session *session);
const char *const *ph_wt_session_offered(const struct ph_wt_session *session, size_t *n);
bool ph_wt_session_has_datagrams(const struct ph_wt_session *session);
size_t ph_wt_session_max_datagram(const struct ph_wt_session *session); /* payload bytes now */
/* 200; then streams and datagrams held so far are delivered in arrival order. PH_E_INVAL:
 * subprotocol not offered, or a bad field. */
int ph_wt_session_accept(struct ph_wt_session *session, const struct ph_field *fields, size_t n,
                         const char *subprotocol);
/* Refuses: the request becomes an ordinary exchange of the h3 exchange sink, which the caller
 * answers; what was held is refused. The session pointer dies (no on_session_closed). */
struct ph_exchange *ph_wt_session_reject(struct ph_wt_session *session);
int ph_wt_session_close(struct ph_wt_session *session, uint32_t code, const char *reason,
                        size_t reason_len);
void ph_wt_session_reset(struct ph_wt_session *session, uint64_t http3_code); /* abrupt end */
int ph_wt_session_drain(struct ph_wt_session *session);
int ph_wt_session_datagram(struct ph_wt_session *session, struct ph_buf *buf,
                           uint64_t expires); /* takes buf */
/* A stream that may be written at once; on_opened comes (possibly within this call) when the peer's
 * limit allows. NULL: the session is not open. */
struct ph_wt_stream *ph_wt_session_open(struct ph_wt_session *session, bool bidi, void *user);
/* Client role. Fields beyond the pseudo-header fields; `offered` may be NULL. */
struct ph_wt_session *ph_wt_connect(struct ph_wt *wt, struct ph_h3_conn *conn,
                                    const char *authority, const char *path,
                                    const struct ph_field *fields, size_t n,
                                    const char *const *offered, size_t offered_len, void *user);

/* --- Stream --- */

void ph_wt_stream_set_user(struct ph_wt_stream *stream, void *user);
void *ph_wt_stream_user(const struct ph_wt_stream *stream);
uint64_t ph_wt_stream_id(const struct ph_wt_stream *stream); /* UINT64_MAX before on_opened */
struct ph_wt_session *ph_wt_stream_session(const struct ph_wt_stream *stream);
int ph_wt_stream_write(struct ph_wt_stream *stream, struct ph_slice slice,
                       bool fin); /* takes the reference */
void ph_wt_stream_consume(struct ph_wt_stream *stream, size_t n);
void ph_wt_stream_reset(struct ph_wt_stream *stream, uint32_t code);
void ph_wt_stream_stop(struct ph_wt_stream *stream, uint32_t code);
void ph_wt_stream_set_urgency(struct ph_wt_stream *stream, unsigned urgency);

#endif
