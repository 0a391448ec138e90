/*
 * pronghorn.h - the public C API of the Pronghorn server.
 *
 * One server owns one I/O thread. That thread does everything that has to do with sockets, TLS,
 * QUIC and HTTP; it never calls your code. You own one consumer thread: poll ph_server_fd(), take
 * events with ph_server_next(), act on channels. No callbacks are needed.
 *
 *      ph_config_set() ... -> ph_server_new() -> ph_server_start()
 *              poll(ph_server_fd())  ->  while (ph_server_next()) act  -> ...
 *      ph_server_drain() -> PH_EVENT_STOPPED -> ph_server_free()
 *
 * A channel (ph_chan) is the one concept to learn: an HTTP request with its response, a WebSocket,
 * a WebTransport session and a WebTransport stream are channels of different kinds.
 *
 * Threads: unless a function says otherwise, everything that takes a ph_server, a ph_chan or a
 * ph_event is to be called from the one consumer thread. ph_buf references may be taken and dropped
 * anywhere.
 *
 * Ownership words used below: borrow (valid for this call, or as long as stated), take (the callee
 * owns it on success and on failure), own (yours to release).
 */
#ifndef PRONGHORN_H
#define PRONGHORN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PH_API __attribute__((visibility("default")))
#else
#define PH_API
#endif

#define PH_VERSION_STRING "0.1.0"

/* The version of the library that is loaded, for example "0.1.0". Any thread; static storage. */
PH_API const char *ph_version(void);

/* --- Errors --- */

/* Functions return 0 (or a count) on success and one of these, negative, on failure. Codes below
 * PH_E_FATAL mean that the connection they happened on cannot go on; the others concern one call or
 * one stream. */
enum {
    PH_OK = 0,
    PH_E_AGAIN = -1,      /* nothing was done; try again later */
    PH_E_INVAL = -2,      /* an argument is out of its range */
    PH_E_STATE = -3,      /* the object is in a state that does not allow this call */
    PH_E_CLOSED = -4,     /* the channel or connection is gone */
    PH_E_LIMIT = -5,      /* a named limit was reached */
    PH_E_CONFIG = -6,     /* bad option; the text says which and what is accepted */
    PH_E_IO = -7,         /* the system refused; the text says what */
    PH_E_TLS = -8,        /* certificate or key trouble; the text says what */
    PH_E_NOTFOUND = -9,   /* no such thing */
    PH_E_BLOCKED = -10,   /* the peer's limit is used up for now */
    PH_E_TOOBIG = -11,    /* does not fit (datagram larger than the path allows) */
    PH_E_MALFORMED = -12, /* the peer's message is malformed: stream error */
    PH_E_FATAL = -100,    /* below this line: the connection is dead */
    PH_E_PROTO = -101,    /* the peer broke the protocol */
    PH_E_CRYPTO = -102,   /* the handshake failed */
    PH_E_INTERNAL = -103, /* a library failed in a way that only closing answers */
};

/* A short English sentence for a code. Any thread; static storage. */
PH_API const char *ph_strerror(int code);

/* --- Buffers --- */

/* A reference-counted run of bytes. Immutable once it was given to a channel. */
typedef struct ph_buf ph_buf;

/* Called when the last reference to a wrapped buffer is gone: on the consumer thread, inside a call
 * that takes the server or a channel, or on the thread that dropped the last reference; never on
 * the I/O thread. It may say more, but not free the server. */
typedef void (*ph_buf_release_fn)(void *ctx);

/* A new buffer with room for `cap` bytes and length 0. Caller owns one reference. Never NULL. Any
 * thread. */
PH_API ph_buf *ph_buf_new(size_t cap);
/* A new buffer holding a copy of `len` bytes. Caller owns one reference. Any thread. */
PH_API ph_buf *ph_buf_copy(const void *data, size_t len);
/* Wraps bytes that stay yours until `release(ctx)` is called. Caller owns one reference. Any
 * thread. */
PH_API ph_buf *ph_buf_wrap(const void *data, size_t len, ph_buf_release_fn release, void *ctx);
PH_API ph_buf *ph_buf_ref(ph_buf *buf);
PH_API void ph_buf_unref(ph_buf *buf); /* NULL is allowed */
PH_API uint8_t *ph_buf_data(ph_buf *buf);
PH_API size_t ph_buf_len(const ph_buf *buf);
/* Sets the length of a buffer made by ph_buf_new(); `len` at most its capacity. */
PH_API void ph_buf_set_len(ph_buf *buf, size_t len);

/* --- Configuration --- */

typedef struct ph_config ph_config;

/* What an option accepts; see ph_config_option(). */
typedef struct ph_option {
    const char *name; /* "idle_timeout" */
    const char
        *type; /* "address", "path", "string", "bool", "count", "bytes", "milliseconds", "choice" */
    const char *default_value; /* as text, "" when unset */
    const char *accepts;       /* "0 to 3600000", "cubic, bbr" */
    const char *help;          /* one sentence */
    bool repeatable;           /* each ph_config_set() adds a value */
} ph_option;

PH_API ph_config *ph_config_new(void);
PH_API void ph_config_free(ph_config *config);
/* Sets an option by name from text. PH_E_CONFIG on an unknown name or a bad value:
 * ph_config_error() then says what was wrong and what is accepted; the configuration is unchanged.
 * Repeatable options append; the value NULL clears. */
PH_API int ph_config_set(ph_config *config, const char *name, const char *value);
/* The sentence for the last failure of ph_config_set(); "" when there was none. Borrow, until the
 * next call. */
PH_API const char *ph_config_error(const ph_config *config);
/* Describes option number `index`, for documentation and --show-limits. PH_E_NOTFOUND past the
 * last. Any thread. */
PH_API int ph_config_option(size_t index, ph_option *out);

/* Makes or renews a development certificate in `dir` (dev-cert.pem, dev-key.pem with mode 0600):
 * ECDSA P-256, valid for 13 days as serverCertificateHashes demands, for localhost and loopback
 * addresses; renewed when less than two days are left. `sha256` receives the certificate's SHA-256
 * (32 bytes). On failure PH_E_IO or PH_E_TLS and a sentence in `err`. Any thread. */
PH_API int ph_dev_certificate(const char *dir, char *cert_path, size_t cert_path_len,
                              char *key_path, size_t key_path_len, uint8_t sha256[32], char *err,
                              size_t err_len);

/* --- Server --- */

typedef struct ph_server ph_server;
typedef struct ph_chan ph_chan;
typedef struct ph_event ph_event;

/* Checks the configuration, loads certificates, binds and listens on every address. Nothing is
 * accepted yet. On failure nothing is left bound and `err` holds one sentence that names the
 * option, file or address. `config` is copied. */
PH_API int ph_server_new(ph_server **out, const ph_config *config, char *err, size_t err_len);
/* Starts the I/O thread: connections are accepted from here on. Call after any fork(). */
PH_API int ph_server_start(ph_server *server);
/* Poll this descriptor for reading; when it is readable call ph_server_next() until it returns 0.
 * It is never to be read or closed by the caller. */
PH_API int ph_server_fd(const ph_server *server);
/* Takes the next event. 1: `event` is filled; 0: none left, and the descriptor will become readable
 * for the next. */
PH_API int ph_server_next(ph_server *server, ph_event *event);
/* Text of bound address number `index`: kind is "tcp", "tls" or "quic"; for example
 * "127.0.0.1:8000", "[::1]:8000". PH_E_NOTFOUND past the last. */
PH_API int ph_server_address(const ph_server *server, size_t index, const char **kind, char *text,
                             size_t text_len);
/* Loads certificates, keys, authorities and revocation lists again. All are taken into use at once,
 * for connections that begin from then on; others keep what they began with. When anything is wrong
 * with any of them nothing changes: PH_E_TLS or PH_E_IO and one sentence in `err`. Reads files, so
 * it may take a while. Any thread, between ph_server_new() and ph_server_free(), but not at the
 * moment of ph_server_start(). */
PH_API int ph_server_reload(ph_server *server, char *err, size_t err_len);
/* A certificate of the set that was loaded last. */
typedef struct ph_certificate {
    uint8_t sha256[32]; /* of its DER form */
    int64_t expires;    /* seconds since 1970 */
    bool dev;           /* the development certificate */
} ph_certificate;
/* Certificate number `index`: those of certfile and certificate in order, then the development
 * certificate. PH_E_NOTFOUND past the last. Any thread. */
PH_API int ph_server_certificate(ph_server *server, size_t index, ph_certificate *out);
/* The descriptor of the socket with the same `index`, for a process that is to share it
 * (bind=fd://N there). Borrow, until the server is freed or drains; PH_E_NOTFOUND past the last,
 * PH_E_STATE once started. */
PH_API int ph_server_socket(const ph_server *server, size_t index);

/* --- Several processes ---
 *
 * One process makes a server, starts none, and gives its sockets to others that serve (bind=fd://N
 * there): listening TCP and Unix sockets as they are, for any of them may accept a connection. QUIC
 * packets have to reach the process that has their connection: each process reads a UDP socket of
 * its own, has a number of its own (`worker`: in the low byte which socket, in the high byte what
 * tells it from who had that place before) and the same `secret`, and passes on what is not its. */

/* Opens one more UDP socket on the address with the same `index`. They are numbered as they are
 * opened, from 0, which is that of ph_server_socket(); keep all open while any process serves.
 * Returns the descriptor (own), PH_E_NOTFOUND for what is no QUIC address, or PH_E_IO and a
 * sentence in `err`. Before the start. */
PH_API int ph_server_open_sibling(const ph_server *server, size_t index, char *err, size_t err_len);
/* Has the kernel give packets to the socket that their connection id names, of `sockets` of each
 * address, and new connections to the first `spread` of them. Again: when these change. PH_E_IO:
 * this kernel cannot; everything works all the same, by passing packets on. Nothing with
 * steering=off. */
PH_API int ph_server_steer(const ph_server *server, unsigned sockets, unsigned spread);
/* Takes one end of a pair of Unix datagram sockets: what others pass on. Before the start. */
PH_API int ph_server_mesh(ph_server *server, int fd);
/* Takes the other end of the pair of another worker: where packets with its number go; -1: it is
 * gone. At any time. */
PH_API void ph_server_peer(ph_server *server, uint16_t worker, int fd);
/* A successor reads the UDP sockets from now on: packets come through the mesh only. Before a
 * drain.
 */
PH_API void ph_server_hand_over(ph_server *server);

/* --- The end of a server, its figures --- */

/* Begins a graceful stop: no new connections, GOAWAY / Connection: close, a DRAIN capsule and
 * PH_EVENT_DRAIN for each session. When the last channel is closed, or `deadline_ms` has passed
 * (then the rest is closed by force), the I/O thread ends and PH_EVENT_STOPPED follows as the last
 * event. Calling again with a shorter deadline shortens it. */
PH_API void ph_server_drain(ph_server *server, uint32_t deadline_ms);
/* Stops at once (as a drain with deadline 0), joins the I/O thread and frees everything. Channels
 * not yet released are released. NULL is allowed. */
PH_API void ph_server_free(ph_server *server);

/* Counters since start; never reset. Limits that fired have one counter each. The first two are
 * figures of the moment instead. */
#define PH_STATS_LIST(X)                                                                           \
    X(queue_up)       /* now: messages that wait for the consumer */                               \
    X(queue_down)     /* now: messages that wait for the I/O thread */                             \
    X(conns_accepted) /* QUIC and TCP connections taken */                                         \
    X(conns_closed)                                                                                \
    X(requests)                /* HTTP requests handed to the application */                       \
    X(sessions)                /* WebTransport sessions handed to the application */               \
    X(sockets)                 /* WebSockets handed to the application */                          \
    X(messages_in)             /* WebSocket messages received */                                   \
    X(messages_out)            /* WebSocket messages sent */                                       \
    X(streams)                 /* WebTransport streams, both directions */                         \
    X(bytes_in)                /* payload bytes delivered to channels */                           \
    X(bytes_out)               /* payload bytes written by channels */                             \
    X(packets_in)              /* UDP datagrams received */                                        \
    X(packets_out)             /* QUIC packets sent */                                             \
    X(packets_dropped)         /* UDP datagrams that belonged to nothing or were malformed */      \
    X(packets_forwarded)       /* UDP datagrams passed on to the worker they belong to */          \
    X(packets_adopted)         /* UDP datagrams that another worker passed on */                   \
    X(send_calls)              /* system calls that sent packets */                                \
    X(recv_calls)              /* system calls that received packets */                            \
    X(datagrams_in)            /* WebTransport datagrams received */                               \
    X(datagrams_in_dropped)    /* inbound queue full: oldest dropped */                            \
    X(datagrams_out)           /* WebTransport datagrams put into packets */                       \
    X(datagrams_out_dropped)   /* outbound queue full: oldest dropped */                           \
    X(datagrams_out_expired)   /* older than max_age */                                            \
    X(datagrams_out_toobig)    /* larger than the path allows */                                   \
    X(datagrams_lost)          /* reported lost by loss recovery */                                \
    X(datagrams_acked)         /* acknowledged by the peer */                                      \
    X(writes_discarded)        /* bytes written to a stream that the peer had stopped */           \
    X(retries_sent)            /* Retry packets */                                                 \
    X(resets_sent)             /* stateless resets */                                              \
    X(version_negotiations)    /* Version Negotiation packets */                                   \
    X(handshakes_refused)      /* half_open_max reached */                                         \
    X(limit_conns_per_ip)      /* max_connections_per_ip reached */                                \
    X(limit_memory)            /* connections and requests refused: memory_budget */               \
    X(limit_app_calls)         /* requests and sessions refused: max_concurrent_app_calls */       \
    X(limit_conns)             /* max_connections reached */                                       \
    X(limit_sessions)          /* wt_max_sessions reached */                                       \
    X(limit_pending_streams)   /* early WebTransport streams refused */                            \
    X(limit_pending_datagrams) /* early datagrams dropped */                                       \
    X(limit_pending_sessions)  /* of both: wt_pending_sessions reached */                          \
    X(limit_head)              /* header section too large */                                      \
    X(limit_body)              /* request body too large */                                        \
    X(limit_glitch)            /* no-progress budget used up */                                    \
    X(limit_cancel)            /* cancelled-request budget used up */                              \
    X(limit_streams)           /* HTTP/2 streams above h2_max_streams refused */                   \
    X(limit_frames)            /* HTTP/2: h2_settings_max or h2_replies_max passed */              \
    X(certificates_replaced)   /* times that ph_server_reload() was followed */                    \
    X(early_requests)          /* requests taken in 0-RTT */                                       \
    X(early_refused)           /* answered with 425 */                                             \
    X(limit_ws_size)           /* ws_max_size: the WebSocket was closed with 1009 */               \
    X(limit_ws_frames)         /* ws_max_frames: closed with 1008 */                               \
    X(limit_ws_queue)          /* times that reading stopped at ws_max_queue or ws_queue_bytes */  \
    X(limit_ws_pongs)          /* pings of WebSocket clients that were not answered one by one */  \
    X(timeouts_handshake)                                                                          \
    X(timeouts_idle)                                                                               \
    X(timeouts_header)                                                                             \
    X(timeouts_body)                                                                               \
    X(timeouts_send_rate)  /* min_send_rate */                                                     \
    X(timeouts_body_rate)  /* min_body_rate */                                                     \
    X(timeouts_no_request) /* no_request_timeout */                                                \
    X(timeouts_write)      /* write_stall_timeout */                                               \
    X(timeouts_accept)     /* wt_accept_timeout */                                                 \
    X(timeouts_ws_ping)    /* ws_ping_timeout: closed with 1011 */                                 \
    X(timeouts_ws_close)   /* ws_close_timeout: the peer did not close */                          \
    X(origins_refused)     /* WebTransport or WebSocket from a foreign Origin */                   \
    X(protocol_errors)     /* connections or streams closed for a peer's breach */                 \
    X(alloc_failures)      /* allocations that the system refused; see docs/overload.md */         \
    X(log_dropped)         /* log lines dropped because the ring was full */                       \
    X(copied)              /* payload bytes copied by our own code */                              \
    X(bells_up)            /* eventfd writes towards the consumer */                               \
    X(bells_down)          /* eventfd writes towards the I/O thread */                             \
    X(turns_borrowed)      /* answers the consumer's thread wrote while the I/O thread slept */

typedef struct ph_stats {
#define PH_STATS_FIELD(name) uint64_t name;
    PH_STATS_LIST(PH_STATS_FIELD)
#undef PH_STATS_FIELD
} ph_stats;

/* Fills a snapshot; each counter is exact, the set is not taken at one instant. Any thread. */
PH_API void ph_server_stats(const ph_server *server, ph_stats *out);

/* Number of objects of kind `index` alive in this process ("buf", "chan", "quic_conn", ...), for
 * leak assertions. PH_E_NOTFOUND past the last. Any thread. */
PH_API int ph_live_objects(size_t index, const char **name, int64_t *count);

/* --- Channels --- */

typedef enum ph_chan_kind {
    PH_CHAN_HTTP,       /* one request and its response */
    PH_CHAN_WT_SESSION, /* one WebTransport session */
    PH_CHAN_WT_STREAM,  /* one WebTransport stream */
    PH_CHAN_WEBSOCKET,  /* one WebSocket, over any version of HTTP */
} ph_chan_kind;

typedef enum ph_event_kind {
    PH_EVENT_REQUEST = 1, /* new PH_CHAN_HTTP: see ph_chan_request() */
    PH_EVENT_SESSION,  /* new PH_CHAN_WT_SESSION: answer with ph_chan_accept() or ph_chan_respond()
                        */
    PH_EVENT_STREAM,   /* new PH_CHAN_WT_STREAM opened by the peer; `parent` is its session */
    PH_EVENT_OPENED,   /* a stream of ph_chan_open_stream() has its id now */
    PH_EVENT_DATA,     /* `data`, `len`, `fin`: bytes in order; len may be 0 with fin */
    PH_EVENT_TRAILERS, /* request trailers: `fields`, `fields_len`; comes before the DATA with fin
                        */
    PH_EVENT_DATAGRAM, /* `data`, `len` */
    PH_EVENT_RESET,    /* peer abandoned its sending side; `code`, `has_code` */
    PH_EVENT_STOP_SENDING, /* peer will read no more; our side was reset with the same code; `code`,
                              `has_code` */
    PH_EVENT_DRAIN,        /* session should finish soon; `local`: this server asked */
    PH_EVENT_WRITABLE,     /* answer to a ph_chan_wait_*() that returned 0 */
    PH_EVENT_CLOSED,       /* the last event of a channel; `clean`, `code`, and for sessions and
                              WebSockets the reason in `data` */
    PH_EVENT_LOG,          /* a log line of the core: `level`, `data`; chan is NULL */
    PH_EVENT_STOPPED,      /* the I/O thread has ended; the last event of a server */
    PH_EVENT_SOCKET,  /* new PH_CHAN_WEBSOCKET: answer with ph_chan_accept() or ph_chan_respond() */
    PH_EVENT_MESSAGE, /* a whole message of a WebSocket: `data`, `len` (0 is a message), `text` */
} ph_event_kind;

typedef struct ph_field {
    const char *name; /* lower case in received heads */
    const char *value;
    size_t name_len;
    size_t value_len;
} ph_field;

typedef enum ph_log_level { PH_LOG_DEBUG, PH_LOG_INFO, PH_LOG_WARNING, PH_LOG_ERROR } ph_log_level;

struct ph_event {
    ph_event_kind kind;
    ph_chan *chan;          /* borrow, until released */
    ph_chan *parent;        /* STREAM: the session */
    ph_buf *buf;            /* own one reference when not NULL: unref it when done with `data` */
    const uint8_t *data;    /* inside buf */
    size_t len;             /* bytes */
    const ph_field *fields; /* TRAILERS: inside buf */
    size_t fields_len;
    /* 32-bit application code; HTTP CLOSED: the protocol's error code; WebSocket CLOSED: the peer's
     * code, 1005 when it gave none, 1006 when it left without closing, or the code that this side
     * failed the connection with (1001, 1002, 1007, 1008, 1009, 1011) */
    uint64_t code;
    bool has_code; /* false: the peer's code was outside the application range */
    bool fin;      /* DATA: the peer finished its sending side */
    bool clean; /* CLOSED: ended by close or FIN of either side, or the response was sent whole */
    bool local; /* DRAIN, CLOSED: this side did it */
    bool text;  /* MESSAGE: text, in valid UTF-8; otherwise bytes */
    ph_log_level level;
};

/* What TLS agreed on for the connection of a request or session (RFC 5246, RFC 8446). */
typedef struct ph_tls_info {
    uint16_t version;        /* as on the wire: 0x0303 for TLS 1.2, 0x0304 for TLS 1.3 */
    uint16_t cipher_suite;   /* IANA number; 0: unknown */
    const char *cipher_name; /* IANA name */
    const char *server_name; /* that the client asked for (RFC 6066 3); "" when it did not */
    const char *server_cert; /* the server's own certificate, PEM; "" when unknown */
    const char *const *client_chain; /* verified, PEM, leaf first */
    size_t client_chain_len;         /* 0: the client showed none */
    const char *client_name;         /* subject of its leaf (RFC 4514) */
} ph_tls_info;

/* What a request or session was asked for. Lives as long as its channel. */
typedef struct ph_request {
    int http_version; /* 10, 11, 20, 30 */
    const char *method, *scheme, *authority, *target,
        *protocol; /* NUL-terminated, "" when absent; `target` is the
                       path with its query as received */
    const ph_field
        *fields; /* in order, names in lower case, no pseudo-header fields; `host` not added; the
                    cookie fields of HTTP/2 and HTTP/3 joined into the first */
    size_t fields_len;
    const char *client_host, *server_host; /* numeric addresses; over a Unix socket "" and its path
                                              ("@name" when abstract), with ports 0 */
    uint16_t client_port, server_port;
    bool tls;
    const ph_tls_info *tls_info; /* NULL without TLS */
    bool early_data;             /* came in 0-RTT: it may be the replay of another (RFC 8470) */
    bool has_body;               /* false: the DATA with fin follows at once and is empty */
    /* Sessions and WebSockets: */
    const char *const *offered; /* subprotocols in order */
    size_t offered_len;
    /* Sessions: */
    uint64_t session_id;      /* the CONNECT stream's QUIC id */
    bool datagrams;           /* the peer takes datagrams */
    size_t max_datagram_size; /* largest payload now, bytes */
} ph_request;

PH_API ph_chan_kind ph_chan_get_kind(const ph_chan *chan);
/* QUIC stream id of a WebTransport session or stream; UINT64_MAX before PH_EVENT_OPENED and for
 * HTTP/1.1. */
PH_API uint64_t ph_chan_id(const ph_chan *chan);
PH_API void ph_chan_set_user(ph_chan *chan, void *user);
PH_API void *ph_chan_user(const ph_chan *chan);
/* Head of an HTTP, WebSocket or session channel; NULL for streams. Borrow, until released. */
PH_API const ph_request *ph_chan_request(const ph_chan *chan);
/* What TLS agreed on for its connection; for a stream that of its session. NULL without TLS.
 * Borrow, until released. */
PH_API const ph_tls_info *ph_chan_tls(const ph_chan *chan);
/* Largest datagram payload a session can send now, bytes; 0 when the peer takes none. May shrink
 * and grow. */
PH_API size_t ph_chan_max_datagram_size(const ph_chan *chan);

/* Says that you are done with a channel: no further event of it is delivered and the pointer is
 * invalid after this call. What was queued is still sent. An HTTP response, WebSocket or
 * WebTransport session that was not finished is aborted. Exactly once a channel, before or after
 * its CLOSED. */
PH_API void ph_chan_release(ph_chan *chan);

/* HTTP, and a session or WebSocket not yet accepted (which it rejects): sends the response head.
 * `status` 200 to 999, for sessions and WebSockets 300 to 599; 1xx are allowed before the final
 * one. `fin`: there is no body. Field names are lower-cased; PH_E_INVAL for names or values that
 * HTTP forbids and for pseudo, connection-specific and (for sessions and WebSockets) handshake
 * fields; fields are copied. PH_E_STATE when a final head was sent already, PH_E_CLOSED when the
 * peer is gone. */
PH_API int ph_chan_respond(ph_chan *chan, int status, const ph_field *fields, size_t fields_len,
                           bool fin);
/* HTTP, a rejected session or WebSocket, and WT stream: queues bytes, and the end when `fin`. Takes
 * one reference to `buf` always (NULL: no bytes). PH_E_STATE before the head or after the end;
 * PH_E_CLOSED when the peer is gone (bytes are dropped); a stream that the peer stopped swallows
 * bytes and returns 0 (counted). */
PH_API int ph_chan_write(ph_chan *chan, ph_buf *buf, bool fin);
/* HTTP: queues `len` bytes of a regular file from `offset` on, and the end when `fin`. Takes `fd`
 * always (it is closed when it is done with; give a duplicate of one that others use). The file is
 * read as the client takes it; over HTTP/1.1 in cleartext the kernel sends it by itself. A file
 * that cannot be read, or has become shorter, aborts the response. Errors as ph_chan_write(), and
 * PH_E_INVAL for other kinds. */
PH_API int ph_chan_send_file(ph_chan *chan, int fd, uint64_t offset, size_t len, bool fin);
/* HTTP: ends the response with trailers (dropped silently on HTTP/1.0 and where the client did not
 * say TE: trailers). */
PH_API int ph_chan_trailers(ph_chan *chan, const ph_field *fields, size_t fields_len);
/* Gives back `bytes` of receive credit after DATA was used. Summed and sent at the next
 * ph_server_next() or flush. */
PH_API void ph_chan_consume(ph_chan *chan, size_t bytes);
/* Session: gives back `count` places in the inbound datagram queue. */
PH_API void ph_chan_consume_datagrams(ph_chan *chan, size_t count);
/* WebSocket: gives back the places of `count` messages, oldest first. With ws_max_queue of them, or
 * ws_queue_bytes in them, no further message is read. */
PH_API void ph_chan_consume_messages(ph_chan *socket, size_t count);
/* HTTP: aborts the exchange (HTTP/1.1: closes the connection without a clean end; HTTP/3: `code` as
 * it stands). WT stream: abandons our sending side with the 32-bit application code; unsent bytes
 * are dropped. No effect after FIN was acknowledged or after an earlier reset. WT session: resets
 * the CONNECT stream with the HTTP/3 code as it stands. */
PH_API int ph_chan_reset(ph_chan *chan, uint64_t code);
/* WT stream: asks the peer to stop; undelivered bytes are dropped and no further DATA or RESET is
 * delivered. HTTP: no interest in the rest of the request body. */
PH_API int ph_chan_stop_sending(ph_chan *chan, uint64_t code);
/* WT stream: urgency 0 (sent first) to 7, default 3. */
PH_API int ph_chan_set_priority(ph_chan *chan, int urgency);

/* Session, WebSocket: accepts it (status 200, or 101 over HTTP/1.1). `subprotocol` NULL or one of
 * the offered ones (PH_E_INVAL otherwise). */
PH_API int ph_chan_accept(ph_chan *chan, const ph_field *fields, size_t fields_len,
                          const char *subprotocol);
/* WebSocket: queues one message; takes one reference to `buf` always (NULL: an empty message).
 * `text` promises valid UTF-8. Wait with ph_chan_wait_writable() as for writes. PH_E_STATE before
 * it was accepted; PH_E_CLOSED after a close of either side. */
PH_API int ph_chan_send_message(ph_chan *socket, ph_buf *buf, bool text);
/* Session: opens a stream. The channel can be written at once; its id comes with PH_EVENT_OPENED,
 * when the peer's stream limit allows. NULL when the session is closed or not accepted. */
PH_API ph_chan *ph_chan_open_stream(ph_chan *session, bool bidirectional);
/* Session: queues one datagram; takes one reference to `buf`. Never blocks: the oldest is dropped
 * (and counted) when the queue is full. `max_age_ms` 0: no age limit. PH_E_CLOSED, PH_E_STATE (peer
 * takes no datagrams). */
PH_API int ph_chan_send_datagram(ph_chan *session, ph_buf *buf, uint32_t max_age_ms);
/* Session: sends WT_CLOSE_SESSION with the code and reason (cut to 1024 bytes at a UTF-8 boundary),
 * then FIN; aborts all streams. PH_EVENT_CLOSED follows when the peer has answered or a short time
 * has passed. A second close does nothing.
 * WebSocket: begins the closing handshake behind what was queued, with a code that may be sent
 * (1000 to 1003, 1007 to 1014, 3000 to 4999; PH_E_INVAL otherwise) and a reason (cut to 123 bytes).
 * PH_EVENT_CLOSED follows when the peer has answered, or ws_close_timeout after it could hear of
 * it. An accepted socket only; before that, ph_chan_respond(). */
PH_API int ph_chan_close(ph_chan *session, uint32_t code, const char *reason, size_t reason_len);
/* Session: sends the WT_DRAIN_SESSION capsule. */
PH_API int ph_chan_drain(ph_chan *session);

/* Bytes written and not yet acknowledged (QUIC) or taken by the kernel (TCP). For a session: the
 * sum of its streams. */
PH_API size_t ph_chan_queued(const ph_chan *chan);
/* 1: below the high-water mark (send_buffer; for a stream also session_send_buffer of its session):
 * write on. 0: PH_EVENT_WRITABLE follows when it has fallen below the low-water mark (on the
 * session's channel when that was the one that was full). */
PH_API int ph_chan_wait_writable(ph_chan *chan);
/* 1: the outbound datagram queue has room; 0: PH_EVENT_WRITABLE follows on the session when it has.
 */
PH_API int ph_chan_wait_datagram_room(ph_chan *session);
/* Hands everything said so far to the I/O thread. ph_server_next() does it when it runs out of
 * events; call it after acting outside of event handling. */
PH_API void ph_server_flush(ph_server *server);

#ifdef __cplusplus
}
#endif
#endif
