/*
 * iothread.c - the I/O thread: one turn after another, always in the same order.
 *
 *      sleep -> now -> commands -> udp in -> tcp in -> timers -> files -> flush -> publish -> home
 *            -> reap
 *
 * Engines and sinks only record work in between; packets and bytes are written in flush, events
 * reach the consumer in publish, memory is freed in reap. The thread never calls the application,
 * and waits for nothing but epoll. The clock is read here and nowhere else.
 *
 * It holds the lock `turn` but for its sleep. Meanwhile the consumer may do a little of its work
 * (ph_iothread_borrow), never more than PH_BORROW_MAX bytes at a time and only over TCP: this is
 * all that the thread ever has to wait for. Of what it finds afterwards only the batch of the loop
 * is older: a connection that was closed meanwhile is still there, because only this thread reaps.
 *
 * The end: a drain refuses new work and waits until the last channel and connection is gone or its
 * deadline has passed; then everything left is closed, every CLOSED is published, the engines are
 * freed, and STOPPED is the last message up.
 */
#include "../h3/h3.h"
#include "../quic/quic.h"
#include "../wt/wt.h"
#include "core.h"

#include <inttypes.h>
#include <time.h>

/* UDP datagrams taken from one socket in one turn: the others and the timers have their turn too.
 */
#define UDP_BUDGET 64

/* Connections that end in one turn so that the reserve of memory becomes whole: some of what they
 * held is given back only at the end of it. */
#define SHED_MAX (2 * PH_RESERVE_BLOCKS)

/* --- Environment --- */

static void log_up(void *self, enum ph_log_level level, const char *line, size_t n)
{
    struct ph_server *server = self;
    struct ph_buf *buf = ph_buf_copy(line, n);
    struct ph_msg msg = {.kind = PH_EVENT_LOG,
                         .n = (uint32_t)level,
                         .s = {.buf = buf, .p = buf->data, .n = buf->len}};
    if (ph_ring_push(&server->pipe.up, &msg))
        return;
    ph_count(&server->stats, log_dropped);
    ph_buf_unref(buf);
}

/* Lines of ph_server_new(), made before there was anybody to hand them to. */
static void log_early(struct ph_server *server)
{
    struct ph_log_line *line;
    while ((line = server->early) != NULL) {
        server->early = line->next;
        log_up(server, line->level, line->text, line->n);
        ph_free(line);
    }
}

/* RFC 9110 5.6.7, renewed once a second. */
static void date_renew(struct ph_server *server)
{
    if (server->now < server->date_at)
        return;
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct timespec wall;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &wall);
    gmtime_r(&wall.tv_sec, &tm);
    snprintf(server->date, sizeof(server->date), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
             days + 3 * tm.tm_wday, tm.tm_mday % 100, months + 3 * tm.tm_mon,
             (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
    server->date_at = server->now + PH_SEC - (uint64_t)wall.tv_nsec;
}

/* --- Parts of a turn --- */

static void on_bell(struct ph_watch *watch, unsigned ready)
{
    (void)ready;
    PH_CONTAINER(watch, struct ph_server, bell)->is_rung = true;
}

static void on_udp(struct ph_watch *watch, unsigned ready)
{
    PH_CONTAINER(watch, struct ph_udp_socket, watch)->ready |= ready;
}

/* Draining: nothing is under way. A handshake over QUIC that does not come to its end is nothing.
 */
static bool is_idle(const struct ph_server *server)
{
    if (server->pipe.io.open > 0 || server->tcp_count > 0)
        return false;
    if (server->quic == NULL)
        return true;
    bool is_late = server->now >= server->drain_since + PH_DRAIN_HANDSHAKE;
    return ph_quic_endpoint_conns(server->quic) ==
           (is_late ? ph_quic_endpoint_half_open(server->quic) : 0);
}

static uint64_t next_deadline(const struct ph_server *server)
{
    uint64_t at = ph_loop_timer_next(server->loop);
    if (server->quic != NULL) {
        at = PH_MIN(at, ph_quic_endpoint_next(server->quic));
        at = PH_MIN(at, ph_h3_next(server->h3));
    }
    if (server->wt != NULL)
        at = PH_MIN(at, ph_wt_next(server->wt));
    if (server->is_draining && !server->is_closing)
        at = PH_MIN(at, is_idle(server) ? 0 : server->drain_deadline);
    if (server->is_draining && server->now < server->drain_since + PH_DRAIN_HANDSHAKE)
        at = PH_MIN(at, server->drain_since + PH_DRAIN_HANDSHAKE);
    if (server->pipe.io.home.head != NULL && !server->home_blocked)
        at = 0;
    if (!ph_list_is_empty(&server->pipe.io.files) || !ph_list_is_empty(&server->tcp_dead))
        at = 0;
    at = PH_MIN(at, ph_paces_next(server));
    return PH_MIN(at, ph_pipe_next_joined(&server->pipe));
}

/* Until something is ready, due, or said. The turn is the consumer's to borrow meanwhile. */
static void wait_for_work(struct ph_server *server)
{
    uint64_t now = ph_clock_now();
    uint64_t deadline = PH_MIN(next_deadline(server), ph_pipe_next_publish(&server->pipe));
    bool asleep = ph_ring_sleep(&server->pipe.down);
    if (!asleep)
        deadline = 0;
    else if (now < server->borrowed_at + PH_BORROW_LATELY)
        deadline = PH_MIN(deadline, now + PH_BORROW_NAP);
    server->is_rung = false;
    server->may_borrow = deadline > now && !server->is_closing;
    server->asleep_until = deadline;
    pthread_mutex_unlock(&server->turn);
    ph_loop_wait(server->loop, now, deadline);
    pthread_mutex_lock(&server->turn);
    server->may_borrow = false;
    ph_loop_dispatch(server->loop);
    if (server->is_rung)
        ph_ring_awake(&server->pipe.down);
    else if (asleep)
        ph_ring_rise(&server->pipe.down);
}

static void begin_drain(struct ph_server *server, uint64_t ms)
{
    uint64_t deadline = server->now + ms * PH_MSEC;
    if (server->is_draining) {
        server->drain_deadline = PH_MIN(server->drain_deadline, deadline);
        return;
    }
    server->is_draining = true;
    server->drain_since = server->now;
    server->drain_deadline = deadline;
    ph_bridge_ws_drain(server);
    ph_tcp_front_drain(server);
    if (server->quic == NULL)
        return;
    ph_quic_endpoint_refuse(server->quic);
    if (server->wt != NULL)
        ph_wt_drain(server->wt);
    ph_h3_drain(server->h3, server->now);
}

static void take_commands(struct ph_server *server)
{
    struct ph_msg msg;
    /* As many as the ring holds: what is said meanwhile belongs to the next turn. */
    for (uint32_t left = server->pipe.down.mask + 1; left > 0; left--) {
        if (!ph_pipe_pop_down(&server->pipe, &msg))
            break;
        if (msg.chan != NULL)
            ph_chan_io_command(msg.chan, &msg);
        else if (msg.kind == PH_DOWN_SERVER_DRAIN)
            begin_drain(server, msg.a);
        else if (msg.kind == PH_DOWN_SERVER_PEER)
            ph_mesh_front_peer(server, (uint16_t)msg.a, msg.b == UINT64_MAX ? -1 : (int)msg.b);
        else if (msg.kind == PH_DOWN_SERVER_HAND_OVER)
            server->handed_over = true;
        else if (msg.kind == PH_DOWN_SERVER_HERE)
            ph_tcp_front_here(server);
    }
    ph_pipe_commands_taken(&server->pipe);
}

static void on_packet(void *self, const struct ph_udp_packet *packet)
{
    struct ph_server *server = self;
    ph_quic_endpoint_feed(server->quic, &packet->path, packet->ecn, packet->data, packet->n,
                          server->now);
}

static void udp_in(struct ph_server *server)
{
    for (size_t i = 0; i < server->udp_n; i++) {
        struct ph_udp_socket *sock = &server->udp[i];
        if ((sock->ready & PH_IO_WRITE) != 0)
            ph_quic_endpoint_writable(server->quic, sock->udp);
        if ((sock->ready & (PH_IO_READ | PH_IO_HANGUP)) != 0 && !server->handed_over)
            ph_udp_recv(sock->udp, UDP_BUDGET, on_packet, server, &server->stats);
        sock->ready = 0;
    }
}

static void run_timers(struct ph_server *server)
{
    ph_loop_timers_run(server->loop, server->now);
    ph_paces_expire(server);
    if (server->quic == NULL)
        return;
    if (ph_quic_endpoint_next(server->quic) <= server->now)
        ph_quic_endpoint_expire(server->quic, server->now);
    if (ph_h3_next(server->h3) <= server->now)
        ph_h3_expire(server->h3, server->now);
    if (server->wt != NULL && ph_wt_next(server->wt) <= server->now)
        ph_wt_expire(server->wt, server->now);
}

static void flush(struct ph_server *server)
{
    ph_tcp_front_flush(server);
    if (server->quic == NULL)
        return;
    ph_quic_endpoint_flush(server->quic, server->now);
    for (size_t i = 0; i < server->udp_n; i++) {
        struct ph_udp_socket *sock = &server->udp[i];
        bool full = ph_quic_endpoint_is_blocked(server->quic, sock->udp);
        ph_loop_interest(server->loop, &sock->watch,
                         (server->handed_over ? 0 : PH_IO_READ) | (full ? PH_IO_WRITE : 0));
    }
}

/* The end of a drain: everything that is left goes, with H3_NO_ERROR where there is a word for it.
 */
static void check_drain(struct ph_server *server)
{
    if (!server->is_draining || server->is_closing)
        return;
    if (!is_idle(server) && server->now < server->drain_deadline)
        return;
    server->is_closing = true;
    ph_tcp_front_abort(server);
    if (server->quic != NULL)
        ph_quic_endpoint_close(server->quic, PH_H3_NO_ERROR, server->now);
}

static void reap(struct ph_server *server)
{
    ph_tcp_front_reap(server);
    if (server->quic != NULL)
        ph_quic_endpoint_reap(server->quic);
}

/* Engines refuse bodies where there is no log: what they counted is told here. */
static void tell_refused_bodies(struct ph_server *server)
{
    if (server->stats.limit_body == server->bodies_told)
        return;
    server->bodies_told = server->stats.limit_body;
    ph_log_limited(&server->body_log, server->now, PH_LOG_WARNING,
                   "http: request body refused status=413 limit=max_body bytes=%" PRIu64,
                   server->config->max_body);
}

/* An allocation failed for the application's command, or for nobody: what it was for goes on, and
 * the next connection that is looked after does not end for it. */
static void blame_nobody(void)
{
    (void)ph_alloc_failed();
}

/* Ends who came last. false: there is nobody. */
static bool shed(struct ph_server *server)
{
    return ph_tcp_front_shed(server) ||
           (server->quic != NULL && ph_quic_endpoint_shed(server->quic, server->now));
}

/* Makes the reserve whole again, and tells what it was used for. When there is no memory for it,
 * some have to go before it is used up. false: memory is short. */
static bool tend_reserve(struct ph_server *server)
{
    struct ph_reserve *reserve = &server->reserve;
    uint64_t failures = reserve->failures - server->stats.alloc_failures;
    blame_nobody();
    if (failures > 0) {
        ph_count_add(&server->stats, alloc_failures, failures);
        ph_log_limited(&server->reserve_log, server->now, PH_LOG_WARNING,
                       "memory: allocation failed bytes=%zu", reserve->size);
    }
    for (int i = 0; i < SHED_MAX && !ph_reserve_fill(reserve) && shed(server); i++)
        continue;
    return ph_reserve_fill(reserve);
}

static void begin_turn(struct ph_server *server, uint64_t now)
{
    server->now = now;
    server->pipe.io.now = now;
    server->admission.is_short = ph_memory_sample(&server->memory, now);
    if (!tend_reserve(server))
        server->admission.is_short = true;
    date_renew(server);
}

static void turn(struct ph_server *server)
{
    wait_for_work(server);
    begin_turn(server, ph_clock_now());
    if (server->quic != NULL)
        ph_quic_endpoint_tell(server->quic, server->now);
    take_commands(server);
    ph_certs_take(server);
    blame_nobody();
    udp_in(server);
    ph_mesh_front_in(server);
    ph_tcp_front_in(server);
    run_timers(server);
    check_drain(server);
    ph_chan_files_run(&server->pipe);
    blame_nobody();
    flush(server);
    tell_refused_bodies(server);
    bool all = ph_pipe_publish(&server->pipe);
    server->home_blocked = !ph_pipe_publish_home(&server->pipe);
    ph_pipe_ring_up(&server->pipe);
    reap(server);
    server->is_done = server->is_closing && all && server->pipe.io.open == 0;
}

/* --- The consumer's part --- */

/* Waking a thread costs more than writing an answer. So the consumer does what it has just said
 * itself, when that is little and the I/O thread sleeps anyway: a turn without the parts that
 * listen. That thread is woken when something is due before it wakes by itself. */
void ph_iothread_borrow(void *self)
{
    struct ph_server *server = self;
    if (pthread_mutex_trylock(&server->turn) != 0)
        return; /* it looks at the ring before it sleeps */
    uint64_t now = ph_clock_now();
    if (now >= server->borrow_after)
        server->borrowed_run = 0;
    if (server->may_borrow && server->borrowed_run < PH_BORROW_RUN) {
        server->borrowed_run++;
        ph_thread_set(&server->borrow_env);
        begin_turn(server, now);
        take_commands(server);
        blame_nobody();
        ph_tcp_front_flush(server);
        ph_pipe_publish(&server->pipe);
        ph_pipe_ring_up(&server->pipe);
        ph_thread_set(NULL);
        ph_count(&server->stats, turns_borrowed);
        server->borrowed_at = ph_clock_now();
        server->borrow_after =
            server->borrowed_at + PH_MAX(PH_BORROW_GAP, server->borrowed_at - now);
        if (next_deadline(server) < server->asleep_until)
            ph_ring_wake(&server->pipe.down);
    }
    pthread_mutex_unlock(&server->turn);
}

/* --- Life --- */

/* Pushes a message that has to go up, waiting for room: only at the very end, when there is nothing
 * else left to do. */
static void push_last(struct ph_server *server, bool (*push)(struct ph_server *server))
{
    while (!push(server)) {
        ph_pipe_ring_up(&server->pipe);
        wait_for_work(server);
        struct ph_msg msg;
        while (ph_pipe_pop_down(&server->pipe, &msg))
            ph_pipe_drop_down(&msg);
    }
}

static bool push_home(struct ph_server *server)
{
    return ph_pipe_publish_home(&server->pipe);
}

static bool push_stopped(struct ph_server *server)
{
    struct ph_msg msg = {.kind = PH_EVENT_STOPPED};
    return ph_pipe_push_up(&server->pipe, &msg);
}

static void stop(struct ph_server *server)
{
    /* The farewell packets had one flush; what the socket did not take is the peer's idle timeout.
     */
    ph_engines_free(server);
    ph_tcp_front_reap(server);
    ph_mesh_front_stop(server);
    for (size_t i = 0; i < server->udp_n; i++) {
        ph_loop_unwatch(server->loop, &server->udp[i].watch);
        ph_udp_close(server->udp[i].udp);
        server->udp[i].udp = NULL;
    }
    push_last(server, push_home);
    ph_pipe_leave(&server->pipe);
    push_last(server, push_stopped);
    ph_pipe_ring_up(&server->pipe);
    ph_loop_unwatch(server->loop, &server->bell);
}

void ph_iothread_prepare(struct ph_server *server)
{
    server->now = ph_clock_now();
}

void *ph_iothread_main(void *arg)
{
    struct ph_server *server = arg;
    server->borrow_env = (struct ph_thread){.log = log_up,
                                            .self = server,
                                            .level = (enum ph_log_level)server->config->log_level,
                                            .reserve = &server->reserve};
    server->env = server->borrow_env;
    server->env.home = &server->pipe.io.home;
    ph_reserve_fill(&server->reserve);
    ph_thread_set(&server->env);
    pthread_mutex_lock(&server->turn);
    server->now = server->pipe.io.now = ph_clock_now();
    server->bell = (struct ph_watch){.fd = server->pipe.down.bell, .on_ready = on_bell};
    ph_loop_watch(server->loop, &server->bell, PH_IO_READ);
    for (size_t i = 0; i < server->udp_n; i++) {
        server->udp[i].watch.on_ready = on_udp;
        server->udp[i].watch.fd = ph_udp_fd(server->udp[i].udp);
        ph_loop_watch(server->loop, &server->udp[i].watch, PH_IO_READ);
    }
    ph_mesh_front_start(server);
    for (size_t i = 0; i < server->tcp_n; i++)
        ph_tcp_front_listen(server, &server->tcp[i]);
    log_early(server);
    ph_pipe_ring_up(&server->pipe);
    while (!server->is_done)
        turn(server);
    stop(server);
    pthread_mutex_unlock(&server->turn);
    ph_thread_set(NULL);
    ph_reserve_fini(&server->reserve);
    return NULL;
}
