/*
 * tcp_front.c - TCP connections: socket <-> TLS (by the kind of the listener) <-> engine (HTTP).
 *
 *      socket -> scratch -> [tls] -> in  -> engine        reads, in the order sockets were ready
 *      socket <------------ [tls] <- out <- engine        writes, in the flush, for dirty ones
 *
 * A socket is not read while the engine wants no input: the kernel's window then closes on the
 * peer. A connection ends by finishing our side first and discarding what still comes for a moment,
 * so that unread bytes do not turn our last answer into a reset (RFC 9112 9.6); or with a reset,
 * when a response was cut and nothing else would tell the client, or when there was no memory for
 * it. Memory is freed in the reap.
 */
#include "../quic/quic.h"
#include "../tls/tls.h"
#include "core.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connections taken from one listener in one turn. */
#define ACCEPT_BUDGET 64
/* Out of descriptors: the next attempt. */
#define ACCEPT_PAUSE (100 * PH_MSEC)
/* Reads of one connection in one turn: others have their turn too. */
#define READ_BUDGET 4
/* Plaintext that waits for the engine above which the socket is not read. */
#define IN_MAX ((size_t)65536)
/* Records that wait for the socket: encrypted plaintext counts as sent to the engine, so this much
 * hides from its send accounting. */
#define RECORDS_MAX ((size_t)65536)
/* How a client without TLS begins that means HTTP/2 (RFC 9113 3.4). */
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
/* Writes of one connection in one flush, each of what the engine makes at a time. */
#define WRITE_BUDGET 8
/* Bytes of a file given to the kernel at a time, and for one connection in one turn. */
#define FILE_STEP ((size_t)262144)
#define FILE_BUDGET ((size_t)1 << 20)
/* What a peer may still send after our last byte, in time and bytes. */
#define LINGER_WAIT (2 * PH_SEC)
#define LINGER_BYTES ((size_t)1 << 20)
/* In a drain: who has had our last byte for so long is not in the middle of reading it. */
#define LINGER_QUIET (500 * PH_MSEC)

/* A part of a file on its way into memory: sendfile(2) would wait for the disk. */
struct tcp_warm {
    struct ph_reader_job job; /* first */
    struct ph_tcp_conn *conn; /* NULL: closed meanwhile */
    int fd;                   /* own: the response may be dropped */
    uint8_t data[];
};

struct ph_tcp_conn {
    struct ph_watch watch;
    struct ph_timer timer;
    struct ph_link all, ready, dirty; /* `all` is on tcp_dead once closed */
    struct ph_server *server;
    struct ph_path path;
    struct ph_tls_session *tls;   /* NULL: cleartext */
    struct ph_tcp_engine *engine; /* NULL: handshake under way, or not chosen yet */
    struct ph_sliceq in, out;     /* plaintext */
    struct tcp_warm *warm;        /* NULL: none under way */
    bool is_warm;                 /* the next step of the file is in memory */
    unsigned readiness;           /* PH_IO_* of this turn */
    bool eof;                     /* the peer finished sending */
    bool eof_told;                /* and the engine knows */
    bool is_cutting;              /* what is queued of a cut response is on its way */
    bool is_hasty;                /* used up its budget in this flush: goes on in the next turn */
    bool is_lingering;
    bool is_closed;
    struct ph_admitted admitted;
    size_t lingered;     /* bytes discarded */
    uint64_t give_up;    /* handshake, stalled records, lingering: when to close; PH_NEVER */
    bool is_watched;     /* something waits for the peer, which has until `give_up` */
    bool is_slow;        /* it took less than it has to, lately */
    uint64_t written;    /* bytes that the kernel took */
    uint64_t written_at; /* when it last took some */
    uint64_t taken_mark; /* bytes that the peer had taken when the window began */
};

void ph_tcp_front_touch(struct ph_tcp_conn *conn)
{
    if (!conn->is_closed && !ph_link_is_on(&conn->dirty))
        ph_list_append(&conn->server->tcp_dirty, &conn->dirty);
}

/* --- Closing --- */

static void conn_close(struct ph_tcp_conn *conn, bool abort)
{
    struct ph_server *server = conn->server;
    if (conn->is_closed)
        return;
    conn->is_closed = true;
    if (conn->warm != NULL)
        conn->warm->conn = NULL;
    if (abort) {
        struct linger hard = {.l_onoff = 1, .l_linger = 0};
        setsockopt(conn->watch.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    }
    ph_loop_timer_cancel(server->loop, &conn->timer);
    ph_loop_unwatch(server->loop, &conn->watch);
    close(conn->watch.fd);
    if (conn->engine != NULL)
        conn->engine->ops->free(conn->engine);
    conn->engine = NULL;
    ph_list_remove(&conn->ready);
    ph_list_remove(&conn->dirty);
    ph_list_remove(&conn->all);
    ph_list_append(&server->tcp_dead, &conn->all);
    server->tcp_count--;
    ph_admission_leave(&server->admission);
    ph_admission_leave_peer(&server->admission, &conn->admitted);
    ph_count(&server->stats, conns_closed);
}

bool ph_tcp_front_shed(struct ph_server *server)
{
    if (ph_list_is_empty(&server->tcp_conns))
        return false;
    conn_close(PH_CONTAINER(server->tcp_conns.prev, struct ph_tcp_conn, all), true);
    return true;
}

/* Memory that this connection asked for came from the reserve: it ends, so that the others go on,
 * and what it gives back is the reserve's before the next one asks. (Who came last may hold
 * nothing.) */
static bool ends_for_memory(struct ph_tcp_conn *conn)
{
    if (!ph_alloc_failed())
        return false;
    conn_close(conn, true);
    ph_reserve_fill(&conn->server->reserve);
    return true;
}

void ph_tcp_front_reap(struct ph_server *server)
{
    struct ph_link *link;
    while ((link = ph_list_take(&server->tcp_dead)) != NULL) {
        struct ph_tcp_conn *conn = PH_CONTAINER(link, struct ph_tcp_conn, all);
        if (conn->tls != NULL)
            ph_tls_session_free(conn->tls);
        ph_sliceq_fini(&conn->in);
        ph_sliceq_fini(&conn->out);
        ph_free(conn);
        ph_live_add(PH_LIVE_TCP_CONN, -1);
    }
}

/* --- Opening --- */

static void on_conn_ready(struct ph_watch *watch, unsigned ready)
{
    struct ph_tcp_conn *conn = PH_CONTAINER(watch, struct ph_tcp_conn, watch);
    conn->readiness |= ready;
    if (!ph_link_is_on(&conn->ready))
        ph_list_append(&conn->server->tcp_ready, &conn->ready);
}

static void count_written(struct ph_tcp_conn *conn, size_t n)
{
    conn->written += n;
    conn->written_at = conn->server->now;
}

/* What the peer has taken, as far as the kernel knows: much of what a large buffer swallowed may
 * still wait there, and its room is told in large pieces. */
static uint64_t taken(const struct ph_tcp_conn *conn)
{
    uint64_t unacked = conn->path.unix_path == NULL ? ph_tcp_unacked(conn->watch.fd) : 0;
    return conn->written - PH_MIN(unacked, conn->written);
}

/* Something waits for the peer from now on: it has `wait` to take some of it. */
static void begin_window(struct ph_tcp_conn *conn, uint64_t wait)
{
    conn->is_watched = true;
    conn->taken_mark = taken(conn);
    conn->give_up = conn->server->now + wait;
}

/* Its time is over. What it took buys it more at the least rate, never more than a stall may last:
 * whoever takes a byte now and then gets nowhere with that. */
static bool took_enough(struct ph_tcp_conn *conn)
{
    struct ph_server *server = conn->server;
    uint64_t n = taken(conn) - conn->taken_mark;
    uint64_t stall = server->config->write_stall_timeout * PH_MSEC;
    uint64_t wait = ph_time_bought(n, server->config->min_send_rate, stall);
    if (n == 0 && conn->is_slow)
        ph_count(&server->stats, timeouts_send_rate);
    else if (n == 0)
        ph_count(&server->stats, timeouts_write);
    if (n == 0)
        return false;
    conn->is_slow = wait < stall;
    begin_window(conn, wait);
    return true;
}

static void count_timeout(struct ph_tcp_conn *conn)
{
    struct ph_stats *stats = &conn->server->stats;
    if (conn->engine == NULL && conn->server->is_draining)
        return; /* it was given less than its time */
    if (conn->engine == NULL && conn->tls == NULL)
        ph_count(stats, timeouts_header);
    else if (conn->engine == NULL)
        ph_count(stats, timeouts_handshake);
    else if (!conn->is_lingering && !conn->is_watched)
        ph_count(stats, timeouts_write);
}

static void on_conn_timer(struct ph_timer *timer, uint64_t now)
{
    struct ph_tcp_conn *conn = PH_CONTAINER(timer, struct ph_tcp_conn, timer);
    if (now >= conn->give_up && !(conn->is_watched && took_enough(conn))) {
        count_timeout(conn);
        conn_close(conn, !conn->is_lingering);
        return;
    }
    if (conn->engine != NULL)
        conn->engine->ops->expire(conn->engine, now);
    if (!ends_for_memory(conn))
        ph_tcp_front_touch(conn);
}

/* false: there was no memory, and the connection is over. */
static bool start_engine(struct ph_tcp_conn *conn, bool is_h2)
{
    struct ph_server *server = conn->server;
    conn->give_up = PH_NEVER;
    const struct ph_tls_info *tls = conn->tls != NULL ? ph_tls_session_info(conn->tls) : NULL;
    if (is_h2)
        conn->engine = ph_h2_conn_new(&server->h2_config, &server->http_sink, &conn->path, tls,
                                      &conn->out, &server->stats, server->now);
    else
        conn->engine = ph_h1_conn_new(&server->h1_config, &server->http_sink, &conn->path, tls,
                                      &conn->out, &server->stats, server->now);
    if (conn->engine == NULL) {
        conn_close(conn, true);
        return false;
    }
    if (server->is_draining)
        conn->engine->ops->drain(conn->engine);
    return true;
}

static bool offers_h1(const struct ph_server *server)
{
    const char *const *name = server->tcp_alpn;
    while (*name != NULL && strcmp(*name, PH_ALPN_H1) != 0)
        name++;
    return *name != NULL || name == server->tcp_alpn;
}

/* By what the handshake agreed on. A client that named no protocol means HTTP/1.1. false: it is not
 * spoken, and the connection is over. */
static bool start_tls_engine(struct ph_tcp_conn *conn)
{
    bool is_h2 = strcmp(ph_tls_session_alpn(conn->tls), PH_ALPN_H2) == 0;
    if (!is_h2 && !offers_h1(conn->server)) {
        ph_count(&conn->server->stats, protocol_errors);
        conn_close(conn, true);
        return false;
    }
    if (!start_engine(conn, is_h2))
        return false;
    if (is_h2 && !ph_tls_session_suits_h2(conn->tls))
        ph_h2_conn_refuse(conn->engine);
    return true;
}

/* By its first bytes: those of HTTP/2, or any others. false: as above. */
static bool start_plain_engine(struct ph_tcp_conn *conn)
{
    struct iovec iov[sizeof(PREFACE)];
    size_t at = 0, n = ph_sliceq_gather(&conn->in, iov, PH_COUNT_OF(iov), sizeof(PREFACE) - 1);
    for (size_t i = 0; i < n; at += iov[i++].iov_len) {
        if (memcmp(&PREFACE[at], iov[i].iov_base, iov[i].iov_len) != 0) {
            return start_engine(conn, false);
        }
    }
    return at < sizeof(PREFACE) - 1 || start_engine(conn, true);
}

static void conn_new(struct ph_tcp_listener *listener, int fd, const struct ph_addr *remote,
                     const struct ph_addr *local)
{
    struct ph_server *server = listener->server;
    struct ph_tls_session *session = NULL;
    bool tls = listener->tls;
    struct ph_tcp_conn *conn = ph_alloc(sizeof(*conn));
    conn->watch = (struct ph_watch){.fd = fd, .on_ready = on_conn_ready};
    if ((tls && ph_tls_session_new(&session, server->tcp_cred, true,
                                   server->tcp_alpn[0] != NULL ? server->tcp_alpn : NULL) < 0) ||
        ph_loop_watch(server->loop, &conn->watch, PH_IO_READ) < 0) {
        ph_log_limited(&server->tcp_log, server->now, PH_LOG_WARNING,
                       "tcp: connection refused limit=system");
        ph_tls_session_free(session);
        close(fd);
        ph_free(conn);
        return;
    }
    ph_live_add(PH_LIVE_TCP_CONN, 1);
    conn->server = server;
    conn->tls = session;
    conn->path = (struct ph_path){
        .local = *local, .remote = *remote, .sock = conn, .unix_path = listener->path};
    conn->timer.on_fire = on_conn_timer;
    conn->give_up = server->now + server->config->handshake_timeout * PH_MSEC;
    ph_sliceq_init(&conn->in);
    ph_sliceq_init(&conn->out);
    ph_list_append(&server->tcp_conns, &conn->all);
    server->tcp_count++;
    ph_admission_enter(&server->admission);
    ph_admission_enter_peer(&server->admission, remote, &conn->admitted);
    ph_count(&server->stats, conns_accepted);
    if (!tls && server->config->h2c == 0)
        start_engine(conn, false);
    else if (!tls)
        conn->give_up = server->now + server->config->header_timeout * PH_MSEC;
    if (!ends_for_memory(conn))
        ph_tcp_front_touch(conn); /* sets the timer */
}

static void on_pause_over(struct ph_timer *timer, uint64_t now)
{
    struct ph_tcp_listener *listener = PH_CONTAINER(timer, struct ph_tcp_listener, pause);
    (void)now;
    if (!listener->is_closed)
        ph_loop_interest(listener->server->loop, &listener->watch, PH_IO_READ);
}

static void accept_some(struct ph_server *server, struct ph_tcp_listener *listener)
{
    for (int i = 0; i < ACCEPT_BUDGET; i++) {
        struct ph_addr remote = {0}, local = {0};
        int fd = ph_tcp_accept(listener->watch.fd, &server->tcp_spare, &remote, &local);
        if (fd == PH_E_AGAIN)
            return;
        if (fd < 0) {
            ph_log_limited(&server->tcp_log, server->now, PH_LOG_WARNING,
                           "tcp: accept failed, out of descriptors");
            ph_loop_interest(server->loop, &listener->watch, 0);
            ph_loop_timer_set(server->loop, &listener->pause, server->now + ACCEPT_PAUSE);
            return;
        }
        enum ph_admit verdict = ph_admission_check(&server->admission, &remote);
        if (verdict != PH_ADMIT_OK) {
            ph_log_limited(&server->tcp_log, server->now, PH_LOG_WARNING,
                           "tcp: connection refused limit=%s", ph_admit_name(verdict));
            close(fd);
            continue;
        }
        conn_new(listener, fd, &remote, &local);
    }
}

/* Several processes accept from the same sockets. This thread would do so while the application's
 * is stuck in a handler, and the connections wait for it although others could serve them: so it
 * asks whether the other thread goes on first, and the process whose thread answers first takes
 * them. */
static bool may_accept(struct ph_server *server, struct ph_tcp_listener *listener)
{
    if (server->config->processes == 1 || server->is_here || listener->is_closed)
        return true;
    if (!server->here_asked)
        server->here_asked = ph_pipe_ask(&server->pipe);
    if (!listener->is_waiting)
        ph_loop_interest(server->loop, &listener->watch, 0);
    listener->is_waiting = true;
    return false;
}

void ph_tcp_front_here(struct ph_server *server)
{
    server->is_here = true;
    server->here_asked = false;
    for (size_t i = 0; i < server->tcp_n; i++) {
        struct ph_tcp_listener *listener = &server->tcp[i];
        if (listener->is_waiting && !listener->is_closed && listener->pause.slot == 0)
            ph_loop_interest(server->loop, &listener->watch, PH_IO_READ);
        listener->is_waiting = false;
    }
}

static void on_listener_ready(struct ph_watch *watch, unsigned ready)
{
    (void)ready;
    PH_CONTAINER(watch, struct ph_tcp_listener, watch)->is_ready = true;
}

void ph_tcp_front_listen(struct ph_server *server, struct ph_tcp_listener *listener)
{
    listener->server = server;
    listener->watch.on_ready = on_listener_ready;
    listener->pause.on_fire = on_pause_over;
    ph_loop_watch(server->loop, &listener->watch, PH_IO_READ);
}

void ph_tcp_front_stop_listening(struct ph_server *server)
{
    for (size_t i = 0; i < server->tcp_n; i++) {
        struct ph_tcp_listener *listener = &server->tcp[i];
        if (listener->is_closed)
            continue;
        listener->is_ready = false;
        ph_loop_timer_cancel(server->loop, &listener->pause);
        ph_loop_unwatch(server->loop, &listener->watch);
        ph_bind_close_listener(listener);
    }
}

/* --- Reading --- */

static bool wants_input(const struct ph_tcp_conn *conn)
{
    if (conn->eof)
        return false;
    if (conn->is_lingering)
        return true;
    if (conn->in.bytes >= IN_MAX)
        return false;
    return conn->engine == NULL || conn->engine->ops->wants_input(conn->engine);
}

/* false: the engine wants to hear more, but can use none of it yet. */
static bool feed_engine(struct ph_tcp_conn *conn)
{
    size_t had = conn->in.unsent;
    if (had == 0 || !conn->engine->ops->wants_input(conn->engine))
        return true;
    conn->engine->ops->feed(conn->engine, &conn->in, conn->server->now);
    return conn->in.unsent < had;
}

/* Cleartext goes to the engine from the scratch, without a copy; what it leaves is kept. false: the
 * connection is over. */
static bool feed_plain(struct ph_tcp_conn *conn, const uint8_t *p, size_t n)
{
    if (conn->engine == NULL) {
        ph_sliceq_push_copy(&conn->in, p, n);
        return start_plain_engine(conn);
    }
    if (conn->in.bytes > 0) {
        ph_sliceq_push_copy(&conn->in, p, n);
        return true;
    }
    ph_sliceq_push(&conn->in, (struct ph_slice){.p = p, .n = n});
    feed_engine(conn);
    size_t left = conn->in.unsent;
    ph_sliceq_fini(&conn->in);
    ph_sliceq_push_copy(&conn->in, p + (n - left), left);
    return true;
}

/* false: the connection is over. */
static bool feed_tls(struct ph_tcp_conn *conn, const uint8_t *p, size_t n)
{
    int rc = ph_tls_session_feed(conn->tls, p, n, &conn->in);
    if (rc == PH_E_CLOSED) {
        conn->eof = true;
    } else if (rc < 0) {
        ph_tcp_write(conn->watch.fd, ph_tls_session_out(conn->tls)); /* the alert, if it fits */
        ph_log_limited(&conn->server->tcp_log, conn->server->now, PH_LOG_INFO,
                       "tls: session failed reason=\"%s\"", ph_tls_session_why(conn->tls));
        ph_count(&conn->server->stats, protocol_errors);
        conn_close(conn, false);
        return false;
    }
    if (conn->engine == NULL && ph_tls_session_is_ready(conn->tls))
        return start_tls_engine(conn);
    return true;
}

/* Discards; false: enough. */
static bool linger(struct ph_tcp_conn *conn, size_t n)
{
    conn->lingered += n;
    if (conn->lingered <= LINGER_BYTES)
        return true;
    conn_close(conn, true);
    return false;
}

static void conn_read(struct ph_tcp_conn *conn)
{
    uint8_t *scratch = conn->server->scratch;
    for (int i = 0; i < READ_BUDGET && wants_input(conn); i++) {
        ssize_t n = ph_tcp_read(conn->watch.fd, scratch, PH_TCP_SCRATCH);
        if (n == PH_E_AGAIN)
            break;
        if (n < 0) {
            conn_close(conn, true);
            return;
        }
        if (n == 0) {
            conn->eof = true;
            break;
        }
        if (conn->is_lingering) {
            if (!linger(conn, (size_t)n))
                return;
        } else if (conn->tls == NULL) {
            if (!feed_plain(conn, scratch, (size_t)n))
                return;
        } else if (!feed_tls(conn, scratch, (size_t)n)) {
            return;
        } else if (conn->engine != NULL) {
            feed_engine(conn);
        }
        if (ends_for_memory(conn))
            return;
        if ((size_t)n < PH_TCP_SCRATCH)
            break;
    }
    if (conn->eof && conn->is_lingering)
        conn_close(conn, false);
    else if (conn->eof && conn->engine == NULL)
        conn_close(conn, true);
    else
        ph_tcp_front_touch(conn);
}

void ph_tcp_front_in(struct ph_server *server)
{
    struct ph_link *link;
    for (size_t i = 0; i < server->tcp_n; i++) {
        struct ph_tcp_listener *listener = &server->tcp[i];
        if (!listener->is_ready || !may_accept(server, listener))
            continue;
        listener->is_ready = false;
        if (!listener->is_closed)
            accept_some(server, listener);
    }
    server->is_here = false; /* that was now */
    while ((link = ph_list_take(&server->tcp_ready)) != NULL) {
        struct ph_tcp_conn *conn = PH_CONTAINER(link, struct ph_tcp_conn, ready);
        unsigned readiness = conn->readiness;
        conn->readiness = 0;
        if ((readiness & PH_IO_HANGUP) != 0 && !wants_input(conn)) {
            conn_close(conn, true); /* both directions are gone, and nobody would read the rest */
            continue;
        }
        if ((readiness & (PH_IO_READ | PH_IO_HANGUP)) != 0)
            conn_read(conn);
        else
            ph_tcp_front_touch(conn);
    }
}

/* --- Writing --- */

static void on_warm(struct ph_reader_job *job)
{
    struct tcp_warm *warm = (struct tcp_warm *)(void *)job;
    if (warm->conn != NULL) {
        warm->conn->warm = NULL;
        warm->conn->is_warm = true; /* or unreadable, which sendfile will tell */
        ph_tcp_front_touch(warm->conn);
    }
    close(warm->fd);
    ph_free(warm);
}

/* Has a part of a file read into the page cache. false: nobody can. */
static bool warm_up(struct ph_tcp_conn *conn, int fd, uint64_t offset, size_t n)
{
    struct ph_reader *reader = ph_pipe_reader(&conn->server->pipe);
    int own = reader != NULL ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (own < 0)
        return false;
    struct tcp_warm *warm = ph_try_alloc(sizeof(*warm) + n);
    if (warm == NULL) {
        close(own);
        return false;
    }
    *warm = (struct tcp_warm){
        .job = {.fd = own, .offset = offset, .data = warm->data, .n = n, .on_done = on_warm},
        .conn = conn,
        .fd = own,
    };
    conn->warm = warm;
    ph_reader_submit(reader, &warm->job);
    return true;
}

/* One step of the file that is next; as ph_tcp_send_file(). */
static ssize_t write_file(struct ph_tcp_conn *conn, size_t *budget)
{
    int fd;
    uint64_t offset;
    size_t n = PH_MIN(ph_sliceq_file(&conn->out, &fd, &offset), FILE_STEP);
    if (conn->warm != NULL || *budget == 0)
        return PH_E_AGAIN;
    if (!conn->is_warm && !ph_reader_is_cached(fd, offset, n) && warm_up(conn, fd, offset, n))
        return PH_E_AGAIN;
    ssize_t sent = ph_tcp_send_file(conn->watch.fd, &conn->out, n);
    if (sent == PH_E_IO)
        ph_log_limited(&conn->server->tcp_log, conn->server->now, PH_LOG_WARNING,
                       "http: response aborted error=\"the file is unreadable or shorter than it "
                       "was\"");
    if (sent < 0)
        return sent;
    conn->is_warm = false;
    *budget -= PH_MIN((size_t)sent, *budget);
    return sent;
}

/* false: the socket is gone. */
static bool write_plain(struct ph_tcp_conn *conn)
{
    size_t budget = FILE_BUDGET;
    while (conn->out.unsent > 0) {
        int fd;
        uint64_t offset;
        ssize_t n = ph_sliceq_file(&conn->out, &fd, &offset) > 0
                        ? write_file(conn, &budget)
                        : ph_tcp_write(conn->watch.fd, &conn->out);
        if (n == PH_E_AGAIN)
            break;
        if (n < 0)
            return false;
        count_written(conn, (size_t)n);
        conn->engine->ops->sent(conn->engine, (size_t)n, conn->server->now);
    }
    return true;
}

static bool write_tls(struct ph_tcp_conn *conn)
{
    struct ph_sliceq *records = ph_tls_session_out(conn->tls);
    for (;;) {
        size_t before = conn->out.unsent;
        if (conn->engine != NULL && before > 0) {
            if (ph_tls_session_write(conn->tls, &conn->out, RECORDS_MAX) < 0)
                return false;
            if (conn->out.unsent < before)
                conn->engine->ops->sent(conn->engine, before - conn->out.unsent, conn->server->now);
        }
        if (records->unsent == 0)
            return true;
        ssize_t n = ph_tcp_write(conn->watch.fd, records);
        if (n == PH_E_AGAIN)
            return true;
        if (n < 0)
            return false;
        count_written(conn, (size_t)n);
    }
}

/* Whether closing loses nothing: what the peer says next is answered with a reset, which makes it
 * lose what it has not read yet (RFC 9112 9.6). Browsers take seconds to close a connection that
 * they do not use, and a stop need not wait for that. */
static bool has_been_read(const struct ph_tcp_conn *conn)
{
    return conn->server->is_draining && conn->server->now >= conn->written_at + LINGER_QUIET &&
           taken(conn) == conn->written;
}

/* Our last byte is out: finish our side, and listen a moment longer. No word of farewell in TLS for
 * a response that was cut (RFC 9112 9.8). */
static void begin_linger(struct ph_tcp_conn *conn)
{
    bool is_over = conn->eof || has_been_read(conn);
    if (conn->tls != NULL && !conn->is_cutting) {
        ph_tls_session_bye(conn->tls);
        ph_tcp_write(conn->watch.fd, ph_tls_session_out(conn->tls));
    }
    if (is_over) {
        conn_close(conn, false);
        return;
    }
    shutdown(conn->watch.fd, SHUT_WR);
    conn->is_lingering = true;
    conn->is_watched = false;
    conn->give_up = conn->server->now + LINGER_WAIT;
}

/* The peer is watched from when something waits for it until nothing does. */
static void watch_peer(struct ph_tcp_conn *conn, size_t waiting)
{
    if (conn->engine == NULL || conn->is_lingering || conn->is_cutting)
        return;
    if (waiting > 0 && !conn->is_watched) {
        conn->is_slow = false;
        begin_window(conn, conn->server->config->write_stall_timeout * PH_MSEC);
    } else if (waiting == 0) {
        conn->is_watched = false;
        conn->give_up = PH_NEVER;
    }
}

/* Feeds what waits and writes what that made, as long as one leads to the other: what was written
 * may have let the engine go on with the next request or with what it did not make yet, and nothing
 * else would tell us that, because a socket behind a full `in` is not read. What cannot be used yet
 * (a tunnel that was asked for and is not granted) waits for the application; that the peer left is
 * told all the same. Others have their turn too. false: the socket is gone. */
static bool pump(struct ph_tcp_conn *conn)
{
    conn->is_hasty = false;
    for (int round = 0; round < WRITE_BUDGET; round++) {
        bool is_usable = conn->engine == NULL || feed_engine(conn);
        if (conn->engine != NULL && conn->eof && !conn->eof_told &&
            (conn->in.unsent == 0 || !is_usable)) {
            conn->eof_told = true;
            conn->engine->ops->eof(conn->engine, conn->server->now);
        }
        if (conn->engine != NULL)
            conn->engine->ops->flush(conn->engine);
        size_t made = conn->out.unsent;
        if (!(conn->tls != NULL ? write_tls(conn) : write_plain(conn)))
            return false;
        bool has_input = (is_usable || made > 0) && conn->engine != NULL && conn->in.unsent > 0 &&
                         conn->engine->ops->wants_input(conn->engine);
        if (!has_input && (made == 0 || conn->out.unsent > 0))
            return true;
    }
    conn->is_hasty = true;
    return true;
}

/* The engine is done: ends the connection when everything is out, or at once. */
static void finish(struct ph_tcp_conn *conn, bool abort, size_t waiting)
{
    if (abort && !conn->engine->ops->is_cut_framed(conn->engine)) {
        conn_close(conn, true);
        return;
    }
    if (abort && !conn->is_cutting) {
        conn->is_cutting = true;
        conn->is_watched = false;
        conn->give_up = conn->server->now + conn->server->config->write_stall_timeout * PH_MSEC;
    }
    if (waiting == 0)
        begin_linger(conn);
}

static void conn_flush(struct ph_tcp_conn *conn)
{
    struct ph_server *server = conn->server;
    bool abort = false;
    if (!conn->is_lingering && !pump(conn)) {
        conn_close(conn, true);
        return;
    }
    if (ends_for_memory(conn))
        return;
    size_t records = conn->tls != NULL ? ph_tls_session_out(conn->tls)->unsent : 0;
    if (conn->engine != NULL && !conn->is_lingering &&
        conn->engine->ops->is_done(conn->engine, &abort))
        finish(conn, abort, conn->out.unsent + records);
    if (conn->is_closed)
        return;
    watch_peer(conn, conn->warm == NULL ? conn->out.unsent + records : 0);
    bool more = !conn->is_lingering && conn->warm == NULL && conn->out.unsent + records > 0;
    ph_loop_interest(server->loop, &conn->watch,
                     (wants_input(conn) ? PH_IO_READ : 0u) | (more ? PH_IO_WRITE : 0u));
    uint64_t at = conn->is_hasty ? server->now : conn->give_up;
    if (conn->engine != NULL && !conn->is_lingering)
        at = PH_MIN(at, conn->engine->ops->next(conn->engine));
    if (at == PH_NEVER)
        ph_loop_timer_cancel(server->loop, &conn->timer);
    else
        ph_loop_timer_set(server->loop, &conn->timer, at);
}

void ph_tcp_front_flush(struct ph_server *server)
{
    struct ph_link *link;
    while ((link = ph_list_take(&server->tcp_dirty)) != NULL)
        conn_flush(PH_CONTAINER(link, struct ph_tcp_conn, dirty));
}

/* --- Ending --- */

void ph_tcp_front_drain(struct ph_server *server)
{
    for (size_t i = 0; i < server->tcp_n; i++) { /* who waits there believes to be connected */
        if (!server->tcp[i].is_closed)
            accept_some(server, &server->tcp[i]);
    }
    ph_tcp_front_stop_listening(server);
    for (struct ph_link *link = server->tcp_conns.next; link != &server->tcp_conns;
         link = link->next) {
        struct ph_tcp_conn *conn = PH_CONTAINER(link, struct ph_tcp_conn, all);
        if (conn->engine != NULL)
            conn->engine->ops->drain(conn->engine);
        else
            conn->give_up = PH_MIN(conn->give_up, server->now + PH_DRAIN_HANDSHAKE);
        ph_tcp_front_touch(conn);
    }
}

void ph_tcp_front_abort(struct ph_server *server)
{
    ph_tcp_front_stop_listening(server);
    while (!ph_list_is_empty(&server->tcp_conns)) {
        struct ph_tcp_conn *conn = PH_CONTAINER(server->tcp_conns.next, struct ph_tcp_conn, all);
        conn_close(conn, !conn->is_lingering);
    }
}
