/*
 * core.h - private header of the core: configuration, the pipe between the two threads, channels,
 * the TCP front and the server.
 *
 *      consumer thread   api.c        public calls -> commands -> down ring
 *                                     up ring -> ph_event
 *      ---------------------------------------------------------------- rings (struct ph_pipe)
 *      I/O thread        chan*.c      engine events -> pending bits -> up ring; commands -> engine
 *                        bridge_*.c   engine events -> channels; the engines' side of commands
 *                        tcp_front.c  sockets <-> TLS <-> HTTP/1.1, HTTP/2
 *                        iothread.c   the turn
 *      any thread        certs.c      files -> certificates, which the I/O thread takes as a set
 *
 * Every member says who may touch it: io, app, or shared (then it is atomic or never changes).
 */
#ifndef PH_CORE_H
#define PH_CORE_H

#include "../base/base.h"
#include "../http/http.h"
#include "../io/io.h"

#include <pthread.h>

struct ph_quic_endpoint;
struct ph_h3;
struct ph_h3_ext;
struct ph_h3_config;
struct ph_quic_config;
struct ph_wt;
struct ph_wt_config;
struct ph_wt_sink;
struct ph_wt_session;
struct ph_wt_stream;
struct ph_bridge_ws;
struct ph_tls_cred;
struct ph_chan_file;
struct ph_tls_session;
struct ph_tls_tickets;
struct ph_creds;

/* --- Configuration (config.c) --- */

struct ph_text_list {
    char **items;
    size_t n;
};

/* Values of the option table. Numbers, booleans and choices are uint64_t, so that one table entry
 * can describe any of them; times are milliseconds here and nanoseconds everywhere else. */
struct ph_config {
    struct ph_text_list bind, insecure_bind, quic_bind, alpn, wt_allowed_origin, ws_allowed_origin,
        unlimited_peer, header;
    struct ph_text_list certificate;
    char *ca_crl, *ciphers;
    uint64_t tls_min_version, session_tickets, early_data;
    char *certfile, *keyfile, *keyfile_password, *ca_certs, *dev_certificate, *secret;
    char *uds_permissions, *uds_user, *uds_group;
    uint64_t verify_mode, congestion, retry, log_level;
    uint64_t reuse_port, steering, gso, gro, server_header, date_header, webtransport;
    uint64_t backlog, udp_buffer, worker, processes, max_connections, max_connections_per_ip,
        memory_budget, max_concurrent_app_calls;
    uint64_t handshake_timeout, idle_timeout, header_timeout, body_timeout, keep_alive,
        write_stall_timeout, min_send_rate, min_body_rate, body_rate_grace, no_request_timeout;
    uint64_t head_bytes, head_fields, target_bytes, max_body, body_window, keep_alive_requests,
        pipelined_max, chunk_overhead, chunk_extension, head_encoded;
    uint64_t websocket, ws_max_size, ws_max_frames, ws_max_queue, ws_queue_bytes, ws_ping_interval,
        ws_ping_timeout, ws_close_timeout, ws_per_message_deflate;
    char *alt_svc_value;
    uint64_t alt_svc, h2c, h2_max_streams, h2_max_frame, h2_header_table, h2_settings_max,
        h2_continuations, h2_replies_max, h2_stream_window, h2_conn_window, h2_idle_timeout,
        h2_reset_burst, h2_reset_rate;
    uint64_t half_open_retry, half_open_max, max_streams_bidi, max_streams_uni, stream_window,
        conn_window, window_max, max_datagram_frame, vn_rate, retry_rate, reset_rate, glitch_burst,
        glitch_rate, cancel_burst, cancel_rate;
    uint64_t wt_max_sessions, wt_session_burst, wt_session_rate, wt_accept_timeout,
        wt_close_timeout, wt_pending_sessions, wt_pending_streams, wt_pending_bytes,
        wt_pending_datagrams, wt_pending_datagram_bytes, wt_pending_timeout, wt_capsule_skip_max;
    uint64_t datagrams_in, datagram_bytes_in, datagrams_out, datagram_bytes_out;
    uint64_t send_buffer, send_buffer_low, conn_send_buffer, session_send_buffer, ring_slots;
    struct ph_err error;
};
enum { PH_RETRY_AUTO, PH_RETRY_ALWAYS };
enum { PH_TLS_MIN_12, PH_TLS_MIN_13 };
enum { PH_CC_CUBIC, PH_CC_BBR };

/* Caller owns. */
struct ph_config *ph_config_copy(const struct ph_config *config);
/* Reads "name: value" of the option `header`; `out` points into `text`. PH_E_INVAL: not a field
 * that a response may be given, or one that frames it. */
int ph_config_header(const char *text, struct ph_field *out);

/* --- The pipe: two rings and what each side keeps about them --- */

/* Messages up are ph_event_kind, or one of these. */
enum ph_up_kind {
    PH_UP_HOME = 100, /* a chain of wrapped buffers to be released */
    PH_UP_ASK         /* whoever takes this says PH_DOWN_SERVER_HERE */
};

/* Messages down. `chan` is NULL for the last group. */
enum ph_down_kind {
    PH_DOWN_RESPOND = 1,       /* s: head (n fields); a: status; flags */
    PH_DOWN_WRITE,             /* s: bytes; flags: FIN */
    PH_DOWN_FILE,              /* n: descriptor; a: offset; s.n: bytes; flags: FIN */
    PH_DOWN_TRAILERS,          /* s: n fields */
    PH_DOWN_CONSUME,           /* a: bytes */
    PH_DOWN_CONSUME_DATAGRAMS, /* a: places; of a WebSocket: of messages */
    PH_DOWN_RESET,             /* a: code */
    PH_DOWN_STOP,              /* a: code */
    PH_DOWN_PRIORITY,          /* a: urgency */
    PH_DOWN_ACCEPT,            /* s: n fields, then the subprotocol when flags has SUBPROTOCOL */
    PH_DOWN_OPEN,              /* chan: the new stream */
    PH_DOWN_DATAGRAM,          /* s: payload; a: max age, ms */
    PH_DOWN_MESSAGE,           /* s: payload; flags: TEXT */
    PH_DOWN_CLOSE,             /* s: reason; a: code */
    PH_DOWN_DRAIN,
    PH_DOWN_RELEASE,
    PH_DOWN_SERVER_DRAIN, /* a: deadline, ms from now */
    PH_DOWN_SERVER_PEER,  /* a: worker; b: descriptor, UINT64_MAX: gone */
    PH_DOWN_SERVER_HAND_OVER,
    PH_DOWN_SERVER_HERE /* the answer to PH_UP_ASK */
};

/* Flags of messages in either direction. */
enum {
    PH_MSG_FIN = 1,
    PH_MSG_HAS_CODE = 2,
    PH_MSG_CLEAN = 4,
    PH_MSG_LOCAL = 8,
    PH_MSG_SUBPROTOCOL = 16,
    PH_MSG_TEXT = 32
};

/* Published but unconsumed datagrams of one session: the rest waits, drop-oldest, in the I/O half,
 * so that a slow application finds fresh ones. */
#define PH_DATAGRAMS_PUBLISHED 64
/* Blocks of received payload: the first of a run fits what came, the next grow up to this. */
#define PH_BLOCK_MIN 256
#define PH_BLOCK_MAX 65536
/* Published but unconsumed DATA messages of one channel above which small ones wait to be joined:
 * memory of a stream that trickles stays near its window instead of a multiple of it. */
#define PH_BLOCKS_PUBLISHED 64
#define PH_COALESCE_WAIT (20 * PH_MSEC)
#define PH_COALESCE_BYTES 16384
/* How long the end of an exchange that the application has let go of, and buffers that go home, may
 * wait for company: a wake-up of the application's thread each would cost more than they do. */
#define PH_QUIET_WAIT (5 * PH_MSEC)

/* What the application's thread does of the I/O thread's work when that one sleeps (iothread.c): as
 * many bytes, each command counted as PH_BORROW_COMMAND, and twice in a row, which is an answer and
 * the end of who gave it. Then a rest of PH_BORROW_GAP, and no less than the last time took: who
 * has more to say wakes the I/O thread, and goes on while that one works. */
#define PH_BORROW_MAX ((size_t)16384)
#define PH_BORROW_COMMAND ((size_t)1024)
#define PH_BORROW_RUN 2
#define PH_BORROW_GAP (PH_MSEC / 50)
/* While that goes on the I/O thread looks at the clock so often: a timer that is set farther ahead
 * need not wake it. */
#define PH_BORROW_NAP (100 * PH_MSEC)
#define PH_BORROW_LATELY PH_SEC

/* The least that one of many responses may queue: below, each write would wait for the one before.
 */
#define PH_SHARE_MIN ((size_t)4096)

struct ph_chan_limits {               /* shared: constant */
    size_t high, low;                 /* bytes queued on one channel */
    size_t conn_high;                 /* bytes queued on exchanges of one connection, about */
    size_t session_high, session_low; /* bytes queued on all streams of a session */
    uint32_t datagrams_in, datagram_bytes_in;
    uint32_t datagrams_out;
};

struct ph_pipe {
    struct ph_ring up, down;
    /* shared: set by the producer that found its ring full; whoever takes it rings. */
    _Alignas(64) atomic_uint up_starved;
    _Alignas(64) atomic_uint down_starved;
    struct ph_stats *stats;
    struct ph_chan_limits limits;
    struct {                      /* io */
        struct ph_link ready;     /* channels with pending bits, in the order they got them */
        struct ph_link slow;      /* channels whose small DATA waits to be joined, oldest first */
        struct ph_link chans;     /* every channel the I/O thread holds a reference to */
        struct ph_link files;     /* struct ph_chan_file that can go on */
        struct ph_reader *reader; /* NULL until a file is not in memory */
        size_t open;              /* of those, the ones whose CLOSED was not published */
        uint64_t now;             /* of this turn */
        uint64_t quiet_until;     /* when to ring for what came quietly; PH_NEVER */
        bool is_urgent;           /* something in this turn is worth a bell */
        struct ph_buf_home home;
    } io;
    struct {                     /* app */
        struct ph_link chans;    /* every channel the application was told of and has not released,
                                    or has released and not seen closed */
        struct ph_link credit;   /* channels with consumed bytes to be sent down */
        struct ph_link held;     /* sessions whose CLOSED waits for that of their streams */
        struct ph_msg *overflow; /* commands that found the ring full: FIFO, power of two */
        size_t overflow_head, overflow_count, overflow_cap;
        uint32_t since_flush; /* events handed out since the last flush */
        uint32_t since_wake;  /* events handed out since the I/O thread was last told of room */
        size_t weight;        /* of the commands since the last flush, in bytes */
        void (*borrow)(void *self); /* does them here if the I/O thread sleeps; NULL: nobody can */
        void *self;
        bool asleep;
        bool is_ending; /* the I/O thread has ended: what is left to say is said here */
        bool stopped;   /* STOPPED was handed out: nobody reads commands any more */
    } app;
};
int ph_pipe_init(struct ph_pipe *pipe, uint32_t slots, const struct ph_chan_limits *limits,
                 struct ph_stats *stats);
/* After the I/O half ended (or never began). Drops what is still in the rings and releases the
 * application's channels. */
void ph_pipe_fini(struct ph_pipe *pipe);

/* io side (pipe.c; publish: chan_publish.c) */
bool ph_pipe_push_up(struct ph_pipe *pipe, const struct ph_msg *msg); /* false: full */
/* The same for what nobody waits for: it alone wakes the consumer only after PH_QUIET_WAIT. */
bool ph_pipe_push_up_quiet(struct ph_pipe *pipe, const struct ph_msg *msg);
/* Moves pending bits of channels into the ring until it is full. true: nothing is left. */
bool ph_pipe_publish(struct ph_pipe *pipe);
uint64_t ph_pipe_next_joined(const struct ph_pipe *pipe);  /* when joined DATA is due; PH_NEVER */
uint64_t ph_pipe_next_publish(const struct ph_pipe *pipe); /* that, or what came quietly */
bool ph_pipe_publish_home(struct ph_pipe *pipe);           /* false: full, some are left */
bool ph_pipe_ask(struct ph_pipe *pipe);                    /* for a sign of life; false: full */
void ph_pipe_ring_up(struct ph_pipe *pipe);                /* one bell a turn */
/* Takes a command; after the last one of a turn call ph_pipe_commands_taken(). */
bool ph_pipe_pop_down(struct ph_pipe *pipe, struct ph_msg *msg);
void ph_pipe_commands_taken(struct ph_pipe *pipe);
void ph_pipe_drop_down(struct ph_msg *msg); /* a command that nobody will run */
/* The I/O half ends: drops its references to all channels, which must be closed and published. */
void ph_pipe_leave(struct ph_pipe *pipe);

/* app side (api.c) */
int ph_pipe_next_event(struct ph_pipe *pipe, struct ph_event *event);
void ph_pipe_flush(struct ph_pipe *pipe);
/* Queues a command; takes the reference in msg->s. Never fails. */
void ph_pipe_push_down(struct ph_pipe *pipe, const struct ph_msg *msg);
void ph_pipe_release_all(struct ph_pipe *pipe);

/* --- Channels (chan.c; commands: chan_command.c) --- */

/* What an engine does for a channel. Functions that a kind has no use for are NULL. The engine may
 * call ph_chan_io_closed() from within any of them. (io) */
struct ph_chan_ops {
    void (*respond)(struct ph_chan *chan, int status, const struct ph_field *fields, size_t n,
                    unsigned flags);
    int (*write)(struct ph_chan *chan, struct ph_slice slice, bool fin); /* takes the reference */
    /* Takes `fd` and sends the bytes without our reading them; false: not possible here. */
    bool (*file)(struct ph_chan *chan, int fd, uint64_t offset, size_t n, bool fin);
    void (*trailers)(struct ph_chan *chan, const struct ph_field *fields, size_t n);
    void (*message)(struct ph_chan *chan, struct ph_slice message,
                    bool text);                      /* takes the reference */
    void (*consume)(struct ph_chan *chan, size_t n); /* bytes; of a WebSocket: messages */
    void (*reset)(struct ph_chan *chan, uint64_t code);
    void (*stop)(struct ph_chan *chan, uint64_t code);
    void (*priority)(struct ph_chan *chan, unsigned urgency);
    void (*accept)(struct ph_chan *chan, const struct ph_field *fields, size_t n,
                   const char *subprotocol);
    void (*open)(struct ph_chan *session, struct ph_chan *stream);
    void (*datagram)(struct ph_chan *chan, struct ph_buf *buf, uint64_t expires); /* takes buf */
    void (*close)(struct ph_chan *chan, uint32_t code, const char *reason, size_t n);
    void (*drain)(struct ph_chan *chan);
    void (*release)(struct ph_chan *chan);   /* the application let go: end what is unfinished */
    void (*delivered)(struct ph_chan *chan); /* a released channel is gone: return its place */
};

/* Pending bits, published in this order. */
enum {
    PH_PEND_ANNOUNCE = 1 << 0,
    PH_PEND_OPENED = 1 << 1,
    PH_PEND_DATA = 1 << 2, /* blocks, trailers, fin */
    PH_PEND_MESSAGE = 1 << 3,
    PH_PEND_RESET = 1 << 4,
    PH_PEND_STOP = 1 << 5,
    PH_PEND_DRAIN = 1 << 6,
    PH_PEND_DATAGRAM = 1 << 7,
    PH_PEND_WRITABLE = 1 << 8,
    PH_PEND_CLOSED = 1 << 9
};

struct ph_chan_datagrams; /* inbound ring of a session */
struct ph_chan_messages;  /* inbound ring of a WebSocket */
struct ph_chan_request;   /* ph_request with its strings in one block */

/* Of a request body (pace.c). */
struct ph_pace {
    struct ph_link link; /* server->paces, while the body is to come */
    uint64_t look_at, looked_at;
    uint64_t due; /* ns: the peer is too slow when it has not sent more by then */
    bool expects_continue;
};

struct ph_chan_io {                /* io */
    struct ph_link all;            /* pipe->io.chans */
    struct ph_link ready;          /* pipe->io.ready or pipe->io.slow */
    const struct ph_chan_ops *ops; /* NULL: the engine's object is gone */
    union {
        struct ph_exchange *ex; /* HTTP, and a session that was rejected */
        struct ph_wt_session *session;
        struct ph_wt_stream *stream;
        struct ph_bridge_ws *socket;
        void *any;
    } engine;
    unsigned pending;
    struct ph_pace pace;
    bool asked;        /* the application wants the body */
    bool fin_in;       /* the peer's end waits to be published */
    bool fin_out;      /* the application's end was given to the engine */
    bool rx_done;      /* nothing more is delivered: reset, stopped, released */
    bool tx_done;      /* our side was reset, by us or by the peer's stop */
    bool peer_stopped; /* of those: by the peer */
    bool released;     /* RELEASE was seen */
    bool closed_sent;  /* CLOSED was published */
    bool drain_local;
    bool rx_ended;   /* the peer's FIN or reset was seen */
    bool rx_reset;   /* of those: its reset */
    bool reset_sent; /* the application reset our side */
    bool is_slow;    /* `ready` is on the slow list */
    bool hurry;      /* its wait is over */
    uint64_t slow_until;
    bool reset_has_code, stop_has_code, close_clean, close_local;
    uint64_t reset_code, stop_code, close_code;
    struct ph_buf *blocks, *blocks_tail; /* payload not published, linked by `next` */
    size_t blocks_bytes;                 /* in them */
    size_t block_hint;                   /* capacity of the next block */
    struct ph_buf *trailers;             /* n fields */
    size_t trailers_n;
    struct ph_buf *reason;                   /* of CLOSED */
    size_t unconsumed;                       /* bytes received and not given back */
    size_t inflight;                         /* bytes the engine holds */
    uint32_t published[PH_BLOCKS_PUBLISHED]; /* sizes of DATA messages not consumed, a ring */
    uint32_t published_head, published_count;
    size_t children; /* session: streams whose CLOSED was not published */
    struct ph_chan_datagrams *datagrams;
    struct ph_chan_file *file; /* being sent; NULL */
    struct ph_chan_messages *messages;
};

struct ph_chan_app {       /* app */
    struct ph_link all;    /* pipe->app.chans */
    struct ph_link credit; /* pipe->app.credit */
    struct ph_link held;   /* pipe->app.held */
    void *user;
    size_t consumed;
    size_t consumed_datagrams;        /* of a WebSocket: messages */
    bool asked;                       /* ph_chan_consume(chan, 0): the application wants the body */
    bool is_known;                    /* on pipe->app.chans */
    bool released;                    /* RELEASE was sent */
    bool closed;                      /* CLOSED was seen */
    bool head_sent;                   /* HTTP: the final head; session: answered */
    bool accepted, rejected, closing; /* session */
    bool ended;                       /* FIN, trailers or reset were sent */
    bool stopped;                     /* the application wants no more data */
    size_t children;                  /* session: streams not seen closed */
    struct ph_msg held_msg;           /* session: CLOSED, while on pipe->app.held */
};

struct ph_chan {
    /* shared: constant after creation */
    ph_chan_kind kind;
    bool is_local, is_bidi; /* streams */
    struct ph_pipe *pipe;
    struct ph_server *server;
    struct ph_chan *parent; /* stream: its session; holds a reference */
    size_t high, low;       /* bytes queued above which the writer waits, at which it goes on */
    struct ph_chan_request *request;
    /* shared: one reference of each half, and one of each child */
    atomic_uint refs;
    _Atomic uint64_t id;
    atomic_size_t max_datagram;
    _Alignas(64) atomic_size_t queued; /* shared: the application adds, the I/O thread takes */
    atomic_size_t datagrams_queued;
    atomic_uint wait_write, wait_datagram; /* armed by the application, taken by the I/O thread */
    _Alignas(64) struct ph_chan_io io;
    _Alignas(64) struct ph_chan_app app;
};

/* A new channel with both references. `parent` of a stream, or NULL. Either thread. */
struct ph_chan *ph_chan_new(struct ph_pipe *pipe, ph_chan_kind kind, struct ph_chan *parent);
void ph_chan_unref(struct ph_chan *chan);
/* Its part of what may be queued on a connection that it shares: the `siblings`-th. Before it is
 * announced. */
void ph_chan_share(struct ph_chan *chan, size_t siblings);

/* The I/O half takes a channel over. For streams after the session's. */
void ph_chan_io_attach(struct ph_chan *chan, const struct ph_chan_ops *ops, void *engine);
void ph_chan_io_pend(struct ph_chan *chan, unsigned bits);
void ph_chan_io_data(struct ph_chan *chan, const uint8_t *data, size_t n);
void ph_chan_io_trailers(struct ph_chan *chan, const struct ph_field *fields, size_t n);
void ph_chan_io_fin(struct ph_chan *chan);
void ph_chan_io_reset(struct ph_chan *chan, bool has_code, uint64_t code);
void ph_chan_io_stop(struct ph_chan *chan, bool has_code, uint64_t code);
void ph_chan_io_acked(struct ph_chan *chan, size_t n);
void ph_chan_io_datagram(struct ph_chan *chan, const uint8_t *data, size_t n);
/* A whole message; takes the buffer (NULL: it is empty). */
void ph_chan_io_message(struct ph_chan *chan, struct ph_buf *message, bool text);
/* The engine made n bytes of what it was given, or of its own: they count as queued until acked. */
void ph_chan_io_framed(struct ph_chan *chan, size_t n);
void ph_chan_io_datagrams_left(struct ph_chan *chan, size_t n);
void ph_chan_io_drain(struct ph_chan *chan, bool local);
/* The engine's object is gone. `reason` is copied. */
void ph_chan_io_closed(struct ph_chan *chan, bool clean, bool local, uint64_t code,
                       const char *reason, size_t reason_len);
/* Runs one command. Takes the reference in msg->s. */
void ph_chan_io_command(struct ph_chan *chan, struct ph_msg *msg);

/* Payload on its way to the engine, and what never got there. */
int ph_chan_io_write(struct ph_chan *chan, struct ph_slice slice, bool fin); /* takes it */
void ph_chan_io_unqueue(struct ph_chan *chan, size_t n);

/* --- Files (chan_file.c) --- */

/* Runs PH_DOWN_FILE. Takes the descriptor. */
void ph_chan_file_command(struct ph_chan *chan, struct ph_msg *msg);
/* Whether a command has to wait for the file before it; it was taken then. */
bool ph_chan_file_holds(struct ph_chan *chan, struct ph_msg *msg);
void ph_chan_file_wake(struct ph_chan *chan); /* its bytes have left: more may be read */
void ph_chan_file_drop(struct ph_chan *chan); /* nothing more of it, or of what waits, is sent */
/* Once a turn: reads and hands on what there is room for. */
void ph_chan_files_run(struct ph_pipe *pipe);
/* The pipe's reader, made on first use; NULL when the system refuses. */
struct ph_reader *ph_pipe_reader(struct ph_pipe *pipe);

/* --- Fields and requests (request.c) --- */

/* Fields packed into one buffer: the array first, then NUL-terminated strings. Names are
 * lower-cased. Caller owns. `extra` (may be NULL) becomes the value of one more, nameless field. */
struct ph_buf *ph_fields_pack(const struct ph_field *fields, size_t n, const char *extra);
static inline const struct ph_field *ph_fields_of(const struct ph_buf *buf)
{
    return (const struct ph_field *)(const void *)buf->data;
}

/* Builds the ph_request of a channel from a head. Takes a reference of `tls` (NULL: cleartext). */
struct ph_chan_request *ph_chan_request_new(const struct ph_head *head, const struct ph_path *path,
                                            const struct ph_tls_info *tls);
void ph_chan_request_set_session(struct ph_chan_request *request, uint64_t id,
                                 const char *const *offered, size_t offered_len, bool datagrams,
                                 size_t max_datagram);
void ph_chan_request_set_early(struct ph_chan_request *request, bool is_early);
void ph_chan_request_set_body(struct ph_chan_request *request, bool has_body);
void ph_chan_request_free(struct ph_chan_request *request);
const struct ph_request *ph_chan_request_get(const struct ph_chan_request *request);

/* --- Memory budget (memory.c) --- */

struct ph_memory {
    uint64_t budget, page;
    uint64_t used; /* at the last sample */
    uint64_t next_sample, next_trim;
    int fd; /* /proc/self/statm */
    bool is_short;
};
/* Three quarters of the machine's memory, or of the control group's limit. */
uint64_t ph_memory_budget_default(void);
/* budget 0: the default, divided by the processes that share it. */
void ph_memory_init(struct ph_memory *memory, uint64_t budget, uint64_t workers);
void ph_memory_fini(struct ph_memory *memory);
/* Whether the process uses more than its budget. Cheap when called often. */
bool ph_memory_sample(struct ph_memory *memory, uint64_t now);

/* --- Server --- */

struct ph_udp_socket {
    struct ph_watch watch;
    struct ph_udp *udp;
    struct ph_server *server;
    struct ph_addr addr;
    unsigned ready;   /* PH_IO_* of this turn */
    char alt_svc[40]; /* field value that names its port */
};

struct ph_tcp_listener {
    struct ph_watch watch;
    struct ph_timer pause; /* out of descriptors: accept again later */
    struct ph_server *server;
    struct ph_addr addr;      /* unset on a Unix socket */
    char *path;               /* of a Unix socket; NULL: IP */
    struct ph_unix_file file; /* what of it is ours to remove */
    bool tls;
    bool is_any_port; /* the kernel chose it */
    bool is_ready;
    bool is_waiting; /* for a sign of life of the application */
    bool is_closed;
};

struct ph_log_line { /* written before the I/O thread runs */
    struct ph_log_line *next;
    enum ph_log_level level;
    size_t n;
    char text[];
};

struct ph_server {
    struct ph_config *config; /* shared: constant */
    struct ph_stats stats;    /* shared: one writer each, relaxed */
    struct ph_pipe pipe;
    pthread_t thread;
    bool is_started; /* app */
    pid_t pid;       /* of the process that made the eventfds */

    /* Filled by ph_server_new(), then io. The counts and addresses are constant. */
    struct ph_loop *loop;
    struct ph_tls_cred *tcp_cred, *quic_cred;
    struct ph_tls_tickets *tickets; /* NULL: none are issued */
    struct ph_udp_socket *udp;
    size_t udp_n;
    struct ph_tcp_listener *tcp;
    size_t tcp_n;
    struct ph_tcp_spare tcp_spare;
    struct ph_mesh *mesh; /* NULL: no other workers */
    struct ph_log_line *early, **early_end;

    /* shared: certificates that the I/O thread is to take, NULL: none; see certs.c */
    _Atomic(struct ph_creds *) fresh;
    pthread_mutex_t reload_lock; /* held while a set is loaded; never by the I/O thread */
    pthread_mutex_t certs_lock;  /* of `certs`; never taken by the I/O thread */
    struct ph_certificate *certs;
    size_t certs_n;

    /* Held by the thread whose turn it is: the I/O thread but for its sleep, and then by the
     * consumer while it runs what it said (ph_iothread_borrow). Guards all that is "io". */
    pthread_mutex_t turn;
    bool may_borrow;       /* the I/O thread sleeps */
    uint64_t asleep_until; /* ns; PH_NEVER */
    uint64_t borrowed_at;  /* ns: when it last was; 0: never */
    uint64_t borrow_after; /* ns: when it has rested */
    unsigned borrowed_run; /* times without a rest */

    /* io */
    uint64_t now; /* of this turn */
    struct ph_watch bell, mesh_watch;
    bool is_rung; /* the bell is up */
    bool mesh_ready;
    bool is_here, here_asked; /* the application's thread goes on, as it said in this turn */
    bool handed_over;         /* somebody else reads the UDP sockets */
    struct ph_thread env, borrow_env; /* of the I/O thread, and of the consumer in its place */
    struct ph_reserve reserve;        /* whole unless the system had no memory lately */
    struct ph_bucket reserve_log;
    struct ph_quic_endpoint *quic;
    struct ph_h3 *h3;
    struct ph_wt *wt;
    struct ph_h1_config h1_config;
    struct ph_h2_config h2_config;
    struct ph_ws_config ws_config;
    struct ph_ws_host *ws; /* NULL: WebSocket is off */
    const char *tcp_alpn[4];
    struct ph_exchange_sink http_sink, ws_sink;
    struct ph_link sockets;    /* ph_bridge_ws.link */
    struct ph_chan *rejecting; /* the session channel whose exchange is being made */
    struct ph_admission admission;
    struct ph_memory memory;
    struct ph_field *headers; /* the option `header`, pointing into config */
    size_t headers_n;
    size_t app_calls; /* requests and sessions that the application has not released */
    bool is_refusing; /* a session that there is no room for is being turned into an exchange */
    struct ph_bucket refused_log, body_log;
    uint64_t bodies_told; /* stats.limit_body when it was last looked at for the log */
    struct ph_link paces; /* ph_pace.link, by look_at */
    struct ph_link tcp_conns, tcp_ready, tcp_dirty, tcp_dead;
    size_t tcp_count;
    uint8_t *scratch; /* PH_TCP_SCRATCH bytes */
    struct ph_bucket tcp_log;
    uint64_t date_at; /* when `date` is to be renewed */
    char date[48];
    bool is_draining, is_closing, is_done;
    bool home_blocked; /* the up ring had no room for the home chain */
    uint64_t drain_since, drain_deadline;
};

#define PH_SERVER_NAME "pronghorn"
#define PH_ALPN_H1 "http/1.1"
#define PH_ALPN_H2 "h2"

/* bind.c: sockets from the addresses of the configuration. Before the I/O thread runs; each failure
 * is a sentence that begins with the option. */
int ph_bind_all(struct ph_server *server, struct ph_err *err);
void ph_bind_close(struct ph_server *server); /* what the I/O thread did not close */
void ph_bind_close_listener(struct ph_tcp_listener *listener); /* either thread; again: no effect */

/* engines.c: protocol engines from the configuration. */
int ph_engines_new(struct ph_server *server, struct ph_err *err);
void ph_engines_free(struct ph_server *server);
/* The options as each module's own configuration. Lists are borrowed from `config`; QUIC's `cred`
 * is left NULL; PH_E_CONFIG when the secret cannot be read. */
void ph_engines_h1_config(struct ph_h1_config *h1, const struct ph_config *config);
void ph_engines_h2_config(struct ph_h2_config *h2, const struct ph_config *config);
void ph_engines_h3_config(struct ph_h3_config *h3, const struct ph_config *config);
void ph_engines_ws_config(struct ph_ws_config *ws, const struct ph_config *config);
void ph_engines_wt_config(struct ph_wt_config *wt, const struct ph_config *config);
int ph_engines_quic_config(struct ph_quic_config *quic, const struct ph_config *config,
                           struct ph_err *err);
void ph_engines_udp_options(struct ph_udp_options *udp, const struct ph_config *config);
void ph_engines_chan_limits(struct ph_chan_limits *limits, const struct ph_config *config);

/* QUIC tokens, resets and session tickets are derived from it; random when the option is unset. */
int ph_engines_secret(uint8_t out[32], const struct ph_config *config, struct ph_err *err);

/* certs.c */
bool ph_certs_have_tls(const struct ph_config *config); /* `bind` is with TLS */
int ph_certs_check(const struct ph_config *config, struct ph_err *err);
bool ph_certs_entry_is_valid(const char *value); /* of the option `certificate` */
int ph_certs_init(struct ph_server *server, struct ph_err *err);
void ph_certs_fini(struct ph_server *server);
void ph_certs_take(struct ph_server *server); /* io */

/* iothread.c */
void ph_iothread_prepare(struct ph_server *server); /* reads the clock for ph_server_new() */
void *ph_iothread_main(void *server);
void ph_iothread_borrow(void *server); /* app: pipe->app.borrow */

/* mesh_front.c: packets for and from other workers. */
void ph_mesh_front_start(struct ph_server *server);
void ph_mesh_front_stop(struct ph_server *server);
void ph_mesh_front_in(struct ph_server *server);
bool ph_mesh_front_forward(void *server, uint16_t worker, const struct ph_path *path, uint8_t ecn,
                           const uint8_t *data, size_t n);
void ph_mesh_front_peer(struct ph_server *server, uint16_t worker, int fd);
/* How the kernel finds the socket that a connection id of ours names. */
struct ph_udp_steering ph_mesh_front_steering(unsigned sockets, unsigned spread);

/* bridge_http.c */
/* Makes fields of the option `header`; once, when the server is made. */
void ph_bridge_http_init_headers(struct ph_server *server);
void ph_bridge_http_init_alt_svc(struct ph_server *server); /* once all is bound */
void ph_bridge_http_sink(struct ph_server *server, struct ph_exchange_sink *out);
/* Whether one more request or session must be answered with 503; counts and logs it. */
bool ph_bridge_http_is_full(struct ph_server *server);
/* Hands a session that the application rejects over to its exchange. */
void ph_bridge_http_adopt(struct ph_chan *chan, struct ph_exchange *ex);
void ph_bridge_http_respond(struct ph_chan *chan, int status, const struct ph_field *fields,
                            size_t n, unsigned flags);

/* The body comes too slowly: 408, or a cut response, and the application's client is gone. */
void ph_bridge_http_late(struct ph_chan *chan);

/* pace.c */
void ph_pace_begin(struct ph_chan *chan, bool expects_continue);
void ph_pace_moved(struct ph_chan *chan, size_t n);
void ph_paces_expire(struct ph_server *server);
uint64_t ph_paces_next(const struct ph_server *server);

/* The connection of an exchange over TCP has work for the flush. */
void ph_bridge_http_touch(const struct ph_exchange *ex);
/* `fields` with those that the server adds to a final head, unless they are there (RFC 9110 10.2.4,
 * 6.6.1). Caller owns. */
struct ph_field *ph_bridge_http_fields(const struct ph_server *server, const struct ph_exchange *ex,
                                       const struct ph_field *fields, size_t n, size_t *out);
/* Answers a request that gets no channel. `extra`: one more field, or NULL. */
void ph_bridge_http_answer(const struct ph_server *server, struct ph_exchange *ex, int status,
                           const struct ph_field *extra, const char *text);

/* bridge_ws.c */
void ph_bridge_ws_sink(struct ph_server *server, struct ph_exchange_sink *out);
/* A request that asks for a tunnel: becomes a channel, or is refused. */
void ph_bridge_ws_request(struct ph_server *server, struct ph_exchange *ex);
void ph_bridge_ws_drain(struct ph_server *server); /* closes every one with 1001 */

/* bridge_wt.c */
void ph_bridge_wt_sink(struct ph_server *server, struct ph_wt_sink *out);

/* tcp_front.c */
#define PH_TCP_SCRATCH 65536
struct ph_tcp_conn;
void ph_tcp_front_listen(struct ph_server *server, struct ph_tcp_listener *listener);
void ph_tcp_front_here(struct ph_server *server);  /* the application's thread answered */
void ph_tcp_front_in(struct ph_server *server);    /* accepts and reads what is ready */
void ph_tcp_front_flush(struct ph_server *server); /* feeds and writes what is dirty */
void ph_tcp_front_drain(struct ph_server *server);
void ph_tcp_front_abort(struct ph_server *server); /* closes every connection by force */
/* While draining: a handshake that was begun may end in this time, and ask for something. */
#define PH_DRAIN_HANDSHAKE (1 * PH_SEC)
void ph_tcp_front_reap(struct ph_server *server);
bool ph_tcp_front_shed(struct ph_server *server); /* ends who came last; false: there is nobody */
void ph_tcp_front_stop_listening(struct ph_server *server);
void ph_tcp_front_touch(struct ph_tcp_conn *conn); /* has work for the flush */

#endif
