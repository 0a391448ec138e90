/*
 * ext.h - the CPython extension pronghorn._core: module state, object layouts, internal functions.
 *
 * The extension is one consumer of <pronghorn.h> and includes nothing else of the core. Everything
 * runs on the thread of one asyncio loop (the consumer thread): pump.c takes events when the loop
 * says that ph_server_fd() is readable and puts them into channel objects; task.c steps the
 * application; await.c is what receive() and send() return.
 *
 *      ph_server_next() -> pump.c -> http.c, websocket.c, wt_session.c with wt_stream.c
 *      receive() -> await.c -> the same files -> events.c (dicts)
 *      send() -> await.c -> messages.c (dicts) -> the same files -> ph_chan_*()
 *
 * No static mutable objects: what lives as long as the module is in State, found through the type.
 * Functions return new references unless their name says borrowed; NULL or -1 means that a Python
 * exception is set, unless the remark says otherwise.
 */
#ifndef PRONGHORN_EXT_H
#define PRONGHORN_EXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pronghorn.h>

/* Largest payload of one received message. Adjacent bytes are joined up to here: large enough that
 * a bulk transfer is not bound by messages, small enough that streams take turns. */
#define MESSAGE_MAX ((size_t)64 * 1024)
/* Payloads up to this size are copied into the core: cheaper than tracking a reference. */
#define PAYLOAD_INLINE_MAX ((Py_ssize_t)256)
/* After this many calls in a row that need no waiting an awaitable yields to the loop once. */
#define CALLS_PER_YIELD 64u
/* Events taken in one turn of the loop before other callbacks get their turn. */
#define EVENTS_PER_TURN 1024

#define H3_NO_ERROR 0x100u       /* RFC 9114 8.1 */
#define H3_INTERNAL_ERROR 0x102u /* RFC 9114 8.1 */

/* --- Interned names --- */

/* Identifier in C, text in Python. One string object each, made at module creation. */
#define NAMES(X)                                                                                   \
    X(type, "type")                                                                                \
    X(asgi, "asgi")                                                                                \
    X(version, "version")                                                                          \
    X(spec_version, "spec_version")                                                                \
    X(http_version, "http_version")                                                                \
    X(method, "method")                                                                            \
    X(scheme, "scheme")                                                                            \
    X(path, "path")                                                                                \
    X(raw_path, "raw_path")                                                                        \
    X(query_string, "query_string")                                                                \
    X(root_path, "root_path")                                                                      \
    X(headers, "headers")                                                                          \
    X(client, "client")                                                                            \
    X(server, "server")                                                                            \
    X(state, "state")                                                                              \
    X(extensions, "extensions")                                                                    \
    X(subprotocols, "subprotocols")                                                                \
    X(subprotocol, "subprotocol")                                                                  \
    X(session_id, "session_id")                                                                    \
    X(protocol, "protocol")                                                                        \
    X(datagrams, "datagrams")                                                                      \
    X(max_datagram_size, "max_datagram_size")                                                      \
    X(reliable_only, "reliable_only")                                                              \
    X(features, "features")                                                                        \
    X(body, "body")                                                                                \
    X(more_body, "more_body")                                                                      \
    X(more_data, "more_data")                                                                      \
    X(more_trailers, "more_trailers")                                                              \
    X(trailers, "trailers")                                                                        \
    X(status, "status")                                                                            \
    X(stream, "stream")                                                                            \
    X(stream_id, "stream_id")                                                                      \
    X(data, "data")                                                                                \
    X(text, "text")                                                                                \
    X(bytes, "bytes")                                                                              \
    X(end_stream, "end_stream")                                                                    \
    X(finish, "finish")                                                                            \
    X(tls, "tls")                                                                                  \
    X(server_cert, "server_cert")                                                                  \
    X(early_data, "early_data")                                                                    \
    X(server_name, "server_name")                                                                  \
    X(client_cert_chain, "client_cert_chain")                                                      \
    X(client_cert_name, "client_cert_name")                                                        \
    X(client_cert_error, "client_cert_error")                                                      \
    X(tls_version, "tls_version")                                                                  \
    X(cipher_suite, "cipher_suite")                                                                \
    X(priority, "priority")                                                                        \
    X(bidirectional, "bidirectional")                                                              \
    X(is_unidirectional, "is_unidirectional")                                                      \
    X(tag, "tag")                                                                                  \
    X(code, "code")                                                                                \
    X(reason, "reason")                                                                            \
    X(clean, "clean")                                                                              \
    X(local, "local")                                                                              \
    X(max_age, "max_age")                                                                          \
    X(wait, "wait")                                                                                \
    X(name, "name")                                                                                \
    X(cancel, "cancel")                                                                            \
    X(throw_, "throw")                                                                             \
    X(close, "close")                                                                              \
    X(set_result, "set_result")                                                                    \
    X(exceptions, "exceptions")                                                                    \
    X(file, "file")                                                                                \
    X(offset, "offset")                                                                            \
    X(count, "count")                                                                              \
    X(links, "links")                                                                              \
    X(empty, "")                                                                                   \
    X(slash, "/")                                                                                  \
    X(http, "http")                                                                                \
    X(https, "https")                                                                              \
    X(ws, "ws")                                                                                    \
    X(wss, "wss")                                                                                  \
    X(v1_0, "1.0")                                                                                 \
    X(v1_1, "1.1")                                                                                 \
    X(v2, "2")                                                                                     \
    X(v3, "3")                                                                                     \
    X(v3_0, "3.0")                                                                                 \
    X(v2_5, "2.5")                                                                                 \
    X(GET, "GET")                                                                                  \
    X(POST, "POST")                                                                                \
    X(HEAD, "HEAD")                                                                                \
    X(PUT, "PUT")                                                                                  \
    X(CONNECT, "CONNECT")                                                                          \
    X(webtransport, "webtransport")                                                                \
    X(websocket, "websocket")                                                                      \
    X(http_request, "http.request")                                                                \
    X(http_disconnect, "http.disconnect")                                                          \
    X(http_response_trailers, "http.response.trailers")                                            \
    X(http_response_pathsend, "http.response.pathsend")                                            \
    X(http_response_zerocopysend, "http.response.zerocopysend")                                    \
    X(http_response_early_hint, "http.response.early_hint")                                        \
    X(wt_connect, "webtransport.connect")                                                          \
    X(wt_receive, "webtransport.stream.receive")                                                   \
    X(wt_opened, "webtransport.stream.opened")                                                     \
    X(wt_reset, "webtransport.stream.reset")                                                       \
    X(wt_stop_sending, "webtransport.stream.stop_sending")                                         \
    X(wt_datagram, "webtransport.datagram.receive")                                                \
    X(wt_drain, "webtransport.drain")                                                              \
    X(wt_disconnect, "webtransport.disconnect")                                                    \
    X(wt_http_response, "webtransport.http.response")                                              \
    X(ws_connect, "websocket.connect")                                                             \
    X(ws_receive, "websocket.receive")                                                             \
    X(ws_disconnect, "websocket.disconnect")                                                       \
    X(ws_http_response, "websocket.http.response")                                                 \
    X(kind_exception, "exception")                                                                 \
    X(kind_disconnected, "disconnected")                                                           \
    X(kind_no_response, "no-response")                                                             \
    X(kind_no_accept, "no-accept")                                                                 \
    X(kind_cancelled, "cancelled")                                                                 \
    X(kind_unsupported, "unsupported-scope")

/* --- Module state --- */

enum live_kind {
    LIVE_SERVER,
    LIVE_EXCHANGE,
    LIVE_SESSION,
    LIVE_STREAM,
    LIVE_AWAIT,
    LIVE_TASK,
    LIVE_SOCKET
};
#define LIVE_KINDS 7

#define HEADER_SLOTS 256u /* of the table of common header names; a power of two */

typedef struct State {
    PyTypeObject *server_type, *exchange_type, *session_type, *socket_type, *await_type, *run_type;
    PyObject *config_error, *certificate_error, *client_disconnected, *cancelled_error;
    PyObject *http_types, *wt_types, *ws_types; /* dict: message type -> int of enum message_kind */
    PyObject *name_only;                        /* ("name",): keyword of create_task */
    PyObject *empty_bytes;                      /* b"" */
    PyObject *header_names[HEADER_SLOTS];       /* bytes objects, open addressing; scope.c */
    PyObject *features;       /* tuple of str: what webtransport scopes advertise */
    int64_t live[LIVE_KINDS]; /* objects in use, for leak assertions */
    bool unsupported_said;    /* the hint about unsupported scopes was given, by any server */
    struct {
#define NAME_MEMBER(id, text) PyObject *id;
        NAMES(NAME_MEMBER)
#undef NAME_MEMBER
    } str;
} State;

/* --- Small intrusive list --- */

typedef struct Link {
    struct Link *prev, *next; /* both NULL: not on a list */
} Link;

#define CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(Link *head)
{
    head->prev = head->next = head;
}
static inline bool list_is_empty(const Link *head)
{
    return head->next == head;
}
static inline bool link_is_on(const Link *link)
{
    return link->next != NULL;
}
static inline void list_append(Link *head, Link *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}
static inline void link_remove(Link *link)
{
    if (link->next == NULL)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}

/* --- Received bytes (channel.c) --- */

typedef struct Piece {
    ph_buf *buf; /* own */
    const uint8_t *p;
    size_t n;  /* bytes left of it */
    bool text; /* a message of a WebSocket: a text */
} Piece;

/* A queue of received pieces. Zero is empty. */
typedef struct Inbox {
    Piece *ring;
    uint32_t cap, head, count; /* cap: a power of two, or 0 */
    size_t bytes;
} Inbox;

/* Takes `buf`. 0, or -1 when there is no memory. */
int inbox_put(Inbox *inbox, ph_buf *buf, const uint8_t *p, size_t n);
int inbox_put_message(Inbox *inbox, ph_buf *buf, const uint8_t *p, size_t n, bool text);
/* Drops the first piece. */
void inbox_drop_piece(Inbox *inbox);
/* A bytes object with at most `max` bytes from the front. */
PyObject *inbox_take(State *st, Inbox *inbox, size_t max);
/* A bytes object with the first piece; for datagrams. */
PyObject *inbox_take_piece(Inbox *inbox);
/* Drops everything; the number of bytes dropped. */
size_t inbox_clear(Inbox *inbox);
void inbox_fini(Inbox *inbox);

/* --- Messages (messages.c reads, events.c makes) --- */

/* From MESSAGE_WT_OPEN on: for sessions that were accepted. */
enum message_kind {
    MESSAGE_HTTP_START,
    MESSAGE_HTTP_BODY,
    MESSAGE_HTTP_TRAILERS,
    MESSAGE_HTTP_PATH,
    MESSAGE_HTTP_FILE,
    MESSAGE_HTTP_HINT,
    MESSAGE_WS_ACCEPT,
    MESSAGE_WS_SEND,
    MESSAGE_WS_CLOSE,
    MESSAGE_WS_RESPONSE_START,
    MESSAGE_WS_RESPONSE_BODY,
    MESSAGE_WT_ACCEPT,
    MESSAGE_WT_CLOSE,
    MESSAGE_WT_RESPONSE_START,
    MESSAGE_WT_RESPONSE_BODY,
    MESSAGE_WT_OPEN,
    MESSAGE_WT_SEND,
    MESSAGE_WT_RESET,
    MESSAGE_WT_STOP,
    MESSAGE_WT_PAUSE,
    MESSAGE_WT_RESUME,
    MESSAGE_WT_DATAGRAM,
    MESSAGE_WT_DRAIN,
};

/* Header fields of a message in one arena; names are valid tokens in lower case, values valid. */
typedef struct Fields {
    ph_field *list; /* own */
    size_t count, cap;
    char *arena; /* own; list points into it */
    size_t arena_len, arena_cap;
} Fields;

/* A sent message, read and checked as far as that needs no knowledge of its channel. */
typedef struct Message {
    enum message_kind kind;
    uint64_t stream_id;
    ph_buf *buf; /* own; NULL: no bytes */
    size_t len;  /* bytes in buf, or of the file */
    int fd;      /* own, while has_file */
    uint64_t offset;
    bool has_file;
    bool moves;    /* the file's position is to follow what was sent */
    bool end;      /* end_stream, or more_* False */
    bool trailers; /* http start */
    bool bidirectional;
    bool wait;     /* datagram */
    bool is_text;  /* of a WebSocket */
    bool has_code; /* of a WebSocket's close */
    bool has_priority;
    int urgency; /* 0 to 7 */
    int status;  /* 0: absent */
    uint32_t code;
    uint32_t max_age_ms; /* 0: no limit */
    Fields fields;
    PyObject *text; /* own; str: subprotocol or reason; NULL: absent */
    PyObject *tag;  /* own; NULL: absent */
} Message;

int message_read(State *st, PyObject *types, const char *scope_type, PyObject *dict, Message *out);
void message_clear(Message *message);
int message_traverse(const Message *message, visitproc visit, void *arg);
void fields_clear(Fields *fields);
/* Appends the fields of `from` to `to` (trailers that come in several messages). */
int fields_join(Fields *to, const Fields *from);

/* Puts a new reference into a dict and drops it; NULL is passed on as failure. */
int dict_put(PyObject *dict, PyObject *key, PyObject *value);
PyObject *message_http_request(State *st, PyObject *body, bool more);
PyObject *message_of_type(State *st, PyObject *type); /* {"type": type} */
PyObject *message_stream_receive(State *st, uint64_t id, PyObject *data, bool end);
PyObject *message_stream_opened(State *st, uint64_t id, bool bidirectional, PyObject *tag);
PyObject *message_stream_code(State *st, PyObject *type, uint64_t id, bool has_code, uint64_t code);
PyObject *message_datagram(State *st, PyObject *data);
PyObject *message_drain(State *st, bool local);
/* Takes the first piece of the inbox. */
PyObject *message_socket_receive(State *st, Inbox *inbox, bool text);
PyObject *message_socket_disconnect(State *st, uint32_t code, PyObject *reason);
PyObject *message_wt_disconnect(State *st, uint32_t code, PyObject *reason, bool clean);

/* --- Files (files.c) --- */

/* Both give the message a descriptor of its own, of a regular file. */
int file_open(PyObject *path, Message *out, uint64_t *size);
int file_take(PyObject *file, Message *out, uint64_t *size); /* a descriptor, or has fileno() */
uint64_t file_position(const Message *message);
/* ph_chan_send_file(); moves the position when the message says so. */
int file_hand_over(Message *message, ph_chan *chan, bool fin);
void file_close(Message *message);

/* --- Server (server.c, pump.c) --- */

typedef struct Channel Channel;
typedef struct Await Await;

/* What a scope was told of TLS last, and what it was made from; scope.c. */
typedef struct TlsFacts {
    PyObject *facts; /* dict; NULL: none yet */
    PyObject *cert;  /* bytes */
    uint16_t version, suite;
    bool early;
    char name[128];
} TlsFacts;

typedef struct Server {
    PyObject_HEAD
    State *st;
    ph_server *core;         /* NULL once closed */
    PyThread_type_lock lock; /* held while `core` is used without the interpreter lock, or closed */
    PyObject *app, *loop, *state, *root_path, *root_path_bytes;
    PyObject *log, *on_app_error, *on_access, *on_stopped; /* NULL: not wanted */
    bool is_cancelling; /* cancel_all() was called: tasks that are cancelled need no explanation */
    PyObject *http_template, *wt_template, *ws_template; /* dicts; scope.c */
    PyObject *own_address; /* scope["server"] of the latest request; NULL */
    TlsFacts tls;
    PyObject *create_task, *create_future, *call_soon, *pump_method, *flush_method;
    Link channels;        /* Channel.link; each holds one reference */
    unsigned long thread; /* the consumer thread */
    uint64_t next_task;   /* number in the next task's name */
    int depth;            /* inside pump or a task step: flushed when it ends */
    bool started, stopped, reading;
    bool dirty;         /* something was said to the core since the last flush */
    bool flush_waiting; /* call_soon(flush) is under way */
    bool close_wanted;  /* close() was called inside the pump */
    bool in_pump;
    ph_stats last_stats; /* of the moment of closing */
} Server;

int server_type_new(PyObject *module, State *st);
PyObject *server_pump(PyObject *self, PyObject *unused);
PyObject *server_flush(PyObject *self, PyObject *unused);
/* To be called after anything was said to the core: makes sure that a flush follows. */
void server_touch(Server *server);
/* Flushes now. */
void server_push(Server *server);
/* Brackets code that may touch the core several times; the outermost leave flushes. */
void server_enter(Server *server);
void server_leave(Server *server);
int server_check_thread(const Server *server);
void server_close(Server *server);
void server_stop_reading(Server *server);
/* Reports through on_app_error; never fails. `exc` may be NULL. Keeps no exception set. */
void server_app_error(Server *server, PyObject *scope, PyObject *exc, PyObject *kind);

/* --- Channels (channel.c) --- */

/* What the kinds of channel object do. */
typedef struct ChannelOps {
    const char *kind; /* "http": in task names */
    enum live_kind live;
    /* The next message for receive(); NULL without an exception: nothing is ready. */
    PyObject *(*next)(Channel *channel);
    bool (*is_ready)(const Channel *channel); /* next() would give a message */
    /* One step of send(): see enum step. */
    int (*send)(Channel *channel, Await *await, PyObject **result);
    /* A send() was cancelled while it waited; it is off its list already. */
    void (*abandoned)(Channel *channel, Await *await);
    /* The application ended: `exc` borrowed or NULL; `cancelled`: by CancelledError. */
    void (*finish)(Channel *channel, PyObject *exc, bool cancelled);
    /* `event->buf` stays the caller's unless the handler takes it by setting it to NULL. */
    void (*on_event)(Channel *channel, ph_event *event);
    void (*on_stream_event)(Channel *channel, ph_event *event); /* events of a child stream */
    /* The core is going away: wake everybody. `chan` is NULL already. */
    void (*detach)(Channel *channel);
    /* It is over for the core and the application: frees what is not a Python object. */
    void (*drop)(Channel *channel);
} ChannelOps;

/* Base of Exchange, Socket and Session. On the server's list, which holds a reference, until the
 * application has ended and the core's channel was released. */
struct Channel {
    PyObject_HEAD
    State *st;
    Server *server; /* own */
    const ChannelOps *ops;
    ph_chan *chan;   /* NULL: released, or the server is closed */
    PyObject *scope; /* own; NULL once the application has ended */
    PyObject *task;  /* own; the application's asyncio.Task while it runs */
    Link link;       /* Server.channels */
    Link receivers;  /* Await.link, own; first come first served */
    uint64_t started_ns;
    uint64_t bytes_out; /* response body */
    int status;         /* of the final response, 0: none yet */
    unsigned repeats;   /* disconnects handed out */
    bool running;       /* the application has not ended */
    bool closed;        /* CLOSED was seen, or the server is closed */
    bool receive_called;
    bool access_said;
    bool counted; /* in State.live */
};

Channel *channel_alloc(PyTypeObject *type, Server *server, const ChannelOps *ops);
int channel_traverse(Channel *channel, visitproc visit, void *arg);
void channel_clear_refs(Channel *channel);
/* Ends a dealloc: drops what the base owns and the memory. */
void channel_free(Channel *channel);
/* Starts the application; takes the channel onto the server's list. Never fails: trouble is
 * reported and answered. */
void channel_start(Channel *channel);
/* The application has ended, with this exception (NULL: none); the caller holds a reference. */
void channel_end(Channel *channel, PyObject *exc, bool cancelled);
void channel_release(Channel *channel); /* ph_chan_release(), once */
/* Releases it once it is closed and its task has ended: until then the core counts it as a call of
 * the application under way. Settles it. */
void channel_let_go(Channel *channel);
/* Takes it off the server's list when nothing holds it there. May free it. */
void channel_settle(Channel *channel);
void channel_wake(Channel *channel);   /* the first receiver, when there is something for it */
void channel_access(Channel *channel); /* on_access, once */
int channel_receive(Channel *channel, Await *await, PyObject **result);
/* Tells of the exception that ended the application, unless all it says is that the client went
 * away. `gone`: the client did; what was raised because of that is of another kind. */
void channel_report(const Channel *channel, PyObject *exc, bool gone);
/* Wraps bytes, copies everything else. 0: *out (own) may be NULL for no bytes. */
int payload_read(PyObject *obj, const char *what, ph_buf **out, size_t *len);
/* The same for a str, as UTF-8. */
int payload_read_text(PyObject *obj, ph_buf **out, size_t *len);
uint64_t clock_ns(void);
/* Sets ClientDisconnected; always -1, which is STEP_FAIL. */
int fail_disconnected(State *st, const char *what);
/* The same for a message that is not in order: RuntimeError. */
int fail_out_of_order(const char *what);

Channel *http_new(Server *server, ph_event *event);
int http_type_new(PyObject *module, State *st);
Channel *session_new(Server *server, ph_event *event);
int session_type_new(PyObject *module, State *st);
Channel *socket_new(Server *server, ph_event *event);
int socket_type_new(PyObject *module, State *st);

/* --- Answers to the request for a WebSocket or a session (handshake.c) --- */

/* The head of a rejection that the application words itself. Zero is none. */
typedef struct Rejection {
    Fields head; /* own, while kept */
    bool kept;   /* until the first message with its body */
} Rejection;

/* The subprotocol of an accept, borrowed from the message, NULL: none. -1 when it was not offered.
 */
int handshake_subprotocol(const Channel *channel, const Message *message, const char **out);
/* Takes the fields of `message`. */
void rejection_keep(Channel *channel, Rejection *rejection, Message *message, int status);
/* Says the head if it is kept, then the bytes of `message`, which it takes. The core's error. */
int rejection_send(Channel *channel, Rejection *rejection, Message *message, bool fin);
/* Says a kept head without an end: the client is to see a rejection that is cut, not silence. */
void rejection_cut(Channel *channel, Rejection *rejection);
void rejection_drop(Rejection *rejection);

/* --- Awaitables (await.c) --- */

enum step {
    STEP_FAIL = -1, /* an exception is set */
    STEP_DONE,      /* *result is set */
    STEP_WAIT,      /* the awaitable is on a list of waiters */
    STEP_YIELD,     /* *result is set; give the loop a turn first */
};

enum await_state {
    AWAIT_NEW,
    AWAIT_RUNNING, /* inside a step; nobody else may touch it */
    AWAIT_WAITING,
    AWAIT_YIELDED,
    AWAIT_DONE,
};

/* What receive() and send() return. Nothing happens before it is awaited; then it ends at once, or
 * waits for a Future of the loop. The Future is only a wake-up: the step is taken when the waiter
 * runs again, so that a cancelled wait loses nothing.
 *
 * A list of waiters owns its members. Otherwise nothing would: an event loop holds no reference to
 * a Task that waits, and the garbage collector would take it together with its Await. */
struct Await {
    PyObject_HEAD
    State *st;
    Channel *channel;  /* own */
    PyObject *message; /* own; send(): the dict, until it was read */
    Message *cmd;      /* own; send(): the message while it waits */
    PyObject *future, *iter, *result;
    void *target; /* send(): the Stream that is waited for, borrowed: streams with waiters stay */
    Link link;    /* list of waiters, which holds a reference */
    Await *woken_next; /* own; chain of await_wake_all(), while `is_chained` */
    enum await_state state;
    bool is_send;
    bool signalled; /* the Future was completed, or is to be as soon as there is one */
    bool is_chained;
};

int await_type_new(PyObject *module, State *st);
PyObject *await_new(Channel *channel, PyObject *message);
/* Keeps `message` with a send() that has to wait: STEP_WAIT, or STEP_FAIL without memory. */
int await_keep(Await *await, Message *message);
/* Puts it at the end of a list, unless it is on one already. */
void await_join(Link *waiters, Await *await);
/* Whether others are before it: it waits on this list and is not the first, or is to join it. */
bool await_is_behind(const Link *waiters, const Await *await);
/* Takes it off its list, if any. The caller has a reference of its own. */
void await_leave(Await *await);
/* These run code of the loop, and with it finalizers: any waiter may have left, any other may have
 * come when they return. What holds the list stays if the caller holds it. */
void await_wake_first(Link *waiters);
void await_wake_all(Link *waiters);
/* For tp_traverse and tp_clear of what holds a list. */
int await_visit_all(const Link *waiters, visitproc visit, void *arg);
void await_forget_all(Link *waiters);

/* --- Application task (task.c) --- */

int run_type_new(PyObject *module, State *st);
PyObject *run_new(Channel *channel);

/* --- Scopes (scope.c) --- */

int scope_init(State *st);
int scope_prepare(Server *server); /* at start, when its settings are known */
PyObject *scope_http(Server *server, const ph_request *request);
PyObject *scope_webtransport(Server *server, const ph_request *request);
PyObject *scope_websocket(Server *server, const ph_request *request);

/* --- Exceptions across versions --- */

/* The current exception as one object (new reference), cleared; NULL when there is none. */
static inline PyObject *exception_take(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL)
        return NULL;
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL)
        PyException_SetTraceback(value, tb);
    Py_XDECREF(tb);
    Py_DECREF(type);
    return value;
#endif
}

/* Sets it again; takes the reference; NULL clears. */
static inline void exception_give(PyObject *exc)
{
#if PY_VERSION_HEX >= 0x030c0000
    PyErr_SetRaisedException(exc);
#else
    if (exc == NULL) {
        PyErr_Clear();
        return;
    }
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc, PyException_GetTraceback(exc));
#endif
}

#endif
