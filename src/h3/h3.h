/*
 * h3.h - HTTP/3 (RFC 9114) with extended CONNECT (RFC 9220) and HTTP datagrams (RFC 9297) over
 * ph_quic, QPACK with no dynamic table.
 *
 * One ph_h3 per endpoint holds configuration and the sinks; one ph_h3_conn per QUIC connection; one
 * ph_h3_stream per stream it owns. A request stream carries one ph_exchange. So does an
 * extended CONNECT for a WebSocket. An extension (WebTransport) may claim streams by their first
 * bytes, request streams by their head, and datagrams by their request stream. Both roles: the
 * client side serves simulation, tests and tools. I/O thread.
 */
#ifndef PH_H3_H
#define PH_H3_H

#include "../base/base.h"

struct ph_quic_conn;
struct ph_quic_stream;
struct ph_quic_sink;
struct ph_exchange;
struct ph_exchange_sink;
struct ph_fields;
struct ph_head;
struct ph_h3;
struct ph_h3_conn;
struct ph_h3_request;

/* --- Settings --- */

/* The peer's SETTINGS, by name (the ids are in h3_settings.c); absent ones have their default. */
struct ph_h3_settings {
    uint64_t qpack_max_table_capacity, max_field_section_size, qpack_blocked_streams;
    bool enable_connect_protocol;
    bool h3_datagram;                                              /* of RFC 9297 or draft-04 */
    uint64_t wt_draft02;                                           /* ENABLE_WEBTRANSPORT */
    uint64_t wt_draft07;                                           /* WEBTRANSPORT_MAX_SESSIONS */
    uint64_t wt_draft13;                                           /* WT_MAX_SESSIONS */
    uint64_t wt_draft15;                                           /* WT_ENABLED */
    uint64_t wt_max_data, wt_max_streams_uni, wt_max_streams_bidi; /* WT_INITIAL_... */
};
/* Writes the SETTINGS payload we send (without frame header): the union that every known client
 * accepts. `out` has room for 128 bytes; returns the length. The one place that decides it. */
size_t ph_h3_settings_write(uint8_t *out, bool is_client, bool webtransport, bool websocket);
/* Parses a whole payload. 0, PH_E_PROTO: *code is the connection error (H3_SETTINGS_ERROR). */
int ph_h3_settings_parse(struct ph_h3_settings *settings, const uint8_t *p, size_t n,
                         uint64_t *code);

/* --- Frames --- */

enum {
    PH_H3_DATA = 0x00,
    PH_H3_HEADERS = 0x01,
    PH_H3_CANCEL_PUSH = 0x03,
    PH_H3_SETTINGS = 0x04,
    PH_H3_PUSH_PROMISE = 0x05,
    PH_H3_GOAWAY = 0x07,
    PH_H3_MAX_PUSH_ID = 0x0d,
    PH_H3_PRIORITY_UPDATE = 0xf0700,
    PH_H3_PRIORITY_UPDATE_PUSH = 0xf0701
};
enum {
    PH_H3_STREAM_CONTROL = 0x00,
    PH_H3_STREAM_PUSH = 0x01,
    PH_H3_STREAM_QPACK_ENCODER = 0x02,
    PH_H3_STREAM_QPACK_DECODER = 0x03
};
/* Codes beside those of http.h: RFC 9297 5.2, RFC 9204 6. */
enum {
    PH_H3_DATAGRAM_ERROR = 0x33,
    PH_QPACK_DECOMPRESSION_FAILED = 0x200,
    PH_QPACK_ENCODER_STREAM_ERROR = 0x201,
    PH_QPACK_DECODER_STREAM_ERROR = 0x202
};

/* Resumable reader of frame headers: type, length, then payload passes through. Zero is its initial
 * state. */
struct ph_h3_frame_reader {
    struct ph_varint_reader varint;
    enum { PH_H3_AT_TYPE, PH_H3_AT_LENGTH, PH_H3_AT_PAYLOAD } state;
    uint64_t type, length, left;
};
/* Advances over [*p, end). true: `*payload`/`*n` is a piece of the current frame's payload (n may
 * be 0 for an empty frame, delivered once); reader->left says how much follows. false: input is
 * used up. */
bool ph_h3_frame_next(struct ph_h3_frame_reader *reader, const uint8_t **p, const uint8_t *end,
                      const uint8_t **payload, size_t *n);
bool ph_h3_frame_is_between(
    const struct ph_h3_frame_reader *reader); /* at a frame boundary: FIN is allowed here */
uint8_t *ph_h3_frame_put(uint8_t *p, uint64_t type, uint64_t length); /* header; at most 16 bytes */

/* --- QPACK (qpack.c), static table and literals only --- */

struct ph_http_limits;
struct ph_head_builder;
struct ph_qpack; /* encoder and decoder of one connection */
struct ph_qpack *ph_qpack_new(void);
void ph_qpack_free(struct ph_qpack *qpack);
/* Decodes one whole field section into the builder (which validates and limits). 0, PH_E_MALFORMED
 * or PH_E_LIMIT from the builder (the section is decoded no further), PH_E_PROTO:
 * QPACK_DECOMPRESSION_FAILED. */
int ph_qpack_decode(struct ph_qpack *qpack, uint64_t stream_id, const uint8_t *p, size_t n,
                    struct ph_head_builder *builder);
/* Encodes fields (pseudo-header fields first) into a new buffer that begins with a HEADERS frame
 * header. Caller owns. */
struct ph_buf *ph_qpack_encode(struct ph_qpack *qpack, uint64_t stream_id,
                               const struct ph_field *fields, size_t n);
/* Bytes on the peer's encoder or decoder stream; with no table of ours only what needs none is
 * legal. 0 or PH_E_PROTO with *code. */
int ph_qpack_encoder_stream(struct ph_qpack *qpack, const uint8_t *p, size_t n, uint64_t *code);
int ph_qpack_decoder_stream(struct ph_qpack *qpack, const uint8_t *p, size_t n, uint64_t *code);
/* Decodes a trailer section (RFC 9114 4.3: no pseudo-header fields) under the same limits; `out` is
 * empty before and sealed after success, freed on failure. Errors as ph_qpack_decode(). */
int ph_qpack_decode_trailers(struct ph_qpack *qpack, uint64_t stream_id, const uint8_t *p, size_t n,
                             struct ph_fields *out, const struct ph_http_limits *limits);

/* --- Priority (RFC 9218) --- */

struct ph_h3_priority {
    unsigned urgency; /* 0 to 7, default 3 */
    bool incremental; /* default false */
};
/* Reads a Priority field value (`u` and `i`); members it does not know and values out of range are
 * ignored, a value that is no dictionary leaves what was read so far. */
struct ph_h3_priority ph_h3_priority_parse(const char *p, size_t n);

/* --- Extension hooks --- */

/* A stream claimed by an extension; embed it. h3 routes its QUIC events here: the user pointer of
 * every QUIC stream of an HTTP/3 connection belongs to h3. */
struct ph_h3_claim {
    const struct ph_h3_claim_ops *ops;
    struct ph_link link; /* h3's: the connection's list of claims */
};
struct ph_h3_claim_ops {
    void (*on_data)(struct ph_h3_claim *claim, const uint8_t *data, size_t n, bool fin);
    void (*on_reset)(struct ph_h3_claim *claim, uint64_t code, uint64_t final_size);
    void (*on_stop)(struct ph_h3_claim *claim, uint64_t code); /* may come before all data */
    void (*on_acked)(struct ph_h3_claim *claim, size_t n);
    /* Last, exactly once, also when the connection ends: the pointer of the QUIC stream dies. */
    void (*on_closed)(struct ph_h3_claim *claim);
};
/* Routes the events of a stream that the extension opened itself (ph_quic_conn_open_stream()) to
 * `claim`. Call it right after opening. */
void ph_h3_claim_stream(struct ph_h3_conn *conn, struct ph_quic_stream *stream,
                        struct ph_h3_claim *claim);

struct ph_h3_ext {
    void *self;
    /* Connection data of the extension; ph_h3_conn_ext() returns it. Called when the connection
     * starts and ends. */
    void *(*on_conn)(void *self, struct ph_h3_conn *conn);
    void (*on_settings)(void *self, struct ph_h3_conn *conn); /* the peer's SETTINGS are known */
    void (*on_goaway)(void *self, struct ph_h3_conn *conn);   /* received */
    /* The last event of a connection: every claim had its on_closed and every request its
     * on_request_closed before. The extension frees its connection data here. */
    void (*on_conn_closed)(void *self, struct ph_h3_conn *conn);
    void (*on_streams_available)(void *self, struct ph_h3_conn *conn, bool bidi);
    /* A peer stream that begins with 0x54 (uni) or 0x41 (bidi): the type varint was taken off and
     * its credit returned. Return a claim (its on_data follows with what comes next) or NULL: h3
     * refuses the stream with H3_STREAM_CREATION_ERROR. */
    struct ph_h3_claim *(*on_stream)(void *self, struct ph_h3_conn *conn,
                                     struct ph_quic_stream *stream, uint64_t type);
    /* A valid extended CONNECT with a :protocol, never before the peer's SETTINGS are known. true:
     * the extension owns the request stream now (see ph_h3_request_*); false: h3 answers 501. The
     * head stays valid until on_request_closed. */
    bool (*on_connect)(void *self, struct ph_h3_conn *conn, struct ph_h3_request *request,
                       const struct ph_head *head);
    void (*on_request_data)(void *self, struct ph_h3_request *request, const uint8_t *data,
                            size_t n);                                 /* DATA payload */
    void (*on_request_end)(void *self, struct ph_h3_request *request); /* FIN */
    void (*on_request_stop)(void *self, struct ph_h3_request *request, uint64_t code);
    /* Last, exactly once for a request it owns: reset by the peer (code, by_reset), malformed,
     * connection gone, reset by ph_h3_request_reset() (its code; never inside that call), or both
     * directions finished and acknowledged (code H3_NO_ERROR). */
    void (*on_request_closed)(void *self, struct ph_h3_request *request, uint64_t code,
                              bool by_reset);
    /* HTTP datagram for request stream `stream_id` (quarter id times 4); no request of that id may
     * exist. */
    void (*on_datagram)(void *self, struct ph_h3_conn *conn, uint64_t stream_id,
                        const uint8_t *data, size_t n);
    /* Client role: the response head to ph_h3_connect(). */
    void (*on_response)(void *self, struct ph_h3_request *request, const struct ph_head *head);
};

/* Requests owned by an extension. */
void ph_h3_request_set_user(struct ph_h3_request *request, void *user);
void *ph_h3_request_user(const struct ph_h3_request *request);
uint64_t ph_h3_request_id(const struct ph_h3_request *request);
struct ph_h3_conn *ph_h3_request_conn(const struct ph_h3_request *request);
const struct ph_head *ph_h3_request_head(const struct ph_h3_request *request);
int ph_h3_request_respond(struct ph_h3_request *request, int status, const struct ph_field *fields,
                          size_t n, bool fin);
int ph_h3_request_data(struct ph_h3_request *request, const uint8_t *data, size_t n,
                       bool fin); /* one DATA frame (none when n is 0), copied */
void ph_h3_request_consume(struct ph_h3_request *request, size_t n);
void ph_h3_request_reset(struct ph_h3_request *request,
                         uint64_t code); /* RESET_STREAM and STOP_SENDING */
void ph_h3_request_stop(struct ph_h3_request *request, uint64_t code); /* STOP_SENDING alone */
/* Gives a CONNECT that the extension refuses to the exchange sink instead (body of a rejection,
 * full response). The extension gets no further event of it; the exchange's on_request is called
 * before this returns. It has no body: what the client still sends is discarded, the sink gets
 * neither on_body nor on_end, only on_acked and on_closed. */
struct ph_exchange *ph_h3_request_to_exchange(struct ph_h3_request *request);

/* --- Connection --- */

struct ph_h3_config {
    size_t head_bytes, head_fields, target_bytes; /* ph_http_limits */
    size_t head_encoded;                   /* bytes of a HEADERS payload held while incomplete */
    uint64_t max_body;                     /* 0: none */
    uint64_t header_timeout, body_timeout; /* ns */
    uint64_t write_stall_timeout;          /* ns; a response that the peer gives no window for */
    uint64_t min_send_rate;      /* bytes a second that it takes in that time; 0: one byte */
    uint64_t no_request_timeout; /* ns; 0: none */
    uint64_t cancel_burst, cancel_rate;
    bool webtransport; /* advertise it */
    bool websocket;    /* advertise it; such CONNECTs are exchanges (RFC 9220) */
};
void ph_h3_config_default(struct ph_h3_config *config);

/* `sink` gets ordinary requests, `ext` may be NULL; all are copied, `stats` borrowed. */
struct ph_h3 *ph_h3_new(const struct ph_h3_config *config, const struct ph_exchange_sink *sink,
                        const struct ph_h3_ext *ext, struct ph_stats *stats);
void ph_h3_free(struct ph_h3 *h3);
/* The table to give to ph_quic_endpoint_new(). */
void ph_h3_quic_sink(struct ph_h3 *h3, struct ph_quic_sink *out);
/* Sends GOAWAY on every connection (first the largest id, after an RTT the real one) and refuses
 * new requests with H3_REQUEST_REJECTED; connections without requests or extension work are closed
 * with H3_NO_ERROR. */
void ph_h3_drain(struct ph_h3 *h3, uint64_t now);
/* Timeouts of heads and bodies, GOAWAY's second step, connections that drained. */
void ph_h3_expire(struct ph_h3 *h3, uint64_t now);
uint64_t ph_h3_next(const struct ph_h3 *h3); /* when to call expire; PH_NEVER */

void *ph_h3_conn_ext(const struct ph_h3_conn *conn);
struct ph_quic_conn *ph_h3_conn_quic(const struct ph_h3_conn *conn);
const struct ph_h3_settings *
ph_h3_conn_settings(const struct ph_h3_conn *conn); /* NULL before they arrived */
struct ph_h3_request *ph_h3_conn_request(const struct ph_h3_conn *conn,
                                         uint64_t stream_id); /* NULL: none alive */
bool ph_h3_conn_is_draining(const struct ph_h3_conn *conn);   /* GOAWAY sent */
/* The extension's sessions keep a draining connection alive. */
void ph_h3_conn_hold(struct ph_h3_conn *conn, int delta);
void ph_h3_conn_error(struct ph_h3_conn *conn, uint64_t code,
                      const char *reason); /* closes the connection */

/* --- Client role --- */

/* Responses of plain client requests. */
struct ph_h3_client_sink {
    void *self;
    void (*on_settings)(void *self, struct ph_h3_conn *conn);
    void (*on_response)(void *self, struct ph_h3_request *request, const struct ph_head *head);
    void (*on_body)(void *self, struct ph_h3_request *request, const uint8_t *data, size_t n);
    void (*on_trailers)(void *self, struct ph_h3_request *request, const struct ph_fields *fields);
    void (*on_end)(void *self, struct ph_h3_request *request);
    void (*on_closed)(void *self, struct ph_h3_request *request, uint64_t code);
    void (*on_conn_closed)(void *self, struct ph_h3_conn *conn);
};
void ph_h3_set_client_sink(struct ph_h3 *h3, const struct ph_h3_client_sink *sink); /* copied */
/* Sends a request; fields begin with the pseudo-header fields. */
int ph_h3_request(struct ph_h3_conn *conn, struct ph_h3_request **out,
                  const struct ph_field *fields, size_t n, bool fin);
/* Body: ph_h3_request_data(); its end with trailers: */
int ph_h3_request_trailers(struct ph_h3_request *request, const struct ph_field *fields, size_t n);
/* Sends an extended CONNECT owned by the extension. PH_E_STATE before the server's SETTINGS are
 * known, PH_E_CLOSED after its GOAWAY, PH_E_BLOCKED at its stream limit. */
int ph_h3_connect(struct ph_h3_conn *conn, struct ph_h3_request **out,
                  const struct ph_field *fields, size_t n);
struct ph_h3_conn *ph_h3_conn_of(const struct ph_quic_conn *quic);

#endif
