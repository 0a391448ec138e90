/*
 * server.c - the life of a server: from a configuration to bound sockets, a started I/O thread, a
 * drain, and nothing left.
 *
 * ph_server_new() does everything that can fail for a reason an operator can mend, in this order:
 * options against each other, certificates, addresses, engines. Each failure is one sentence that
 * begins with the option, and leaves nothing bound. No thread exists before ph_server_start(), so
 * that a process may fork in between and the workers share what is bound.
 */
#include "core.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

/* --- Log lines before the I/O thread --- */

static void log_keep(void *self, enum ph_log_level level, const char *text, size_t n)
{
    struct ph_server *server = self;
    struct ph_log_line *line = ph_alloc(sizeof(*line) + n + 1);
    line->level = level;
    line->n = n;
    memcpy(line->text, text, n);
    *server->early_end = line;
    server->early_end = &line->next;
}

static void log_drop(struct ph_server *server)
{
    struct ph_log_line *line;
    while ((line = server->early) != NULL) {
        server->early = line->next;
        ph_free(line);
    }
}

/* --- Checks of options against each other --- */

static int check_config(const struct ph_config *config, struct ph_err *err)
{
    if (config->bind.n + config->insecure_bind.n + config->quic_bind.n == 0)
        return ph_fail(err, PH_E_CONFIG, "no address: set bind, insecure_bind or quic_bind");
    int rc = ph_certs_check(config, err);
    if (rc < 0)
        return rc;
    if (config->stream_window > PH_MAX(config->window_max, config->conn_window))
        return ph_fail(err, PH_E_CONFIG, "stream_window: must not be above window_max");
    if (config->send_buffer_low >= config->send_buffer)
        return ph_fail(err, PH_E_CONFIG, "send_buffer_low: must be below send_buffer");
    return 0;
}

/* --- Life --- */

static int init_pipe(struct ph_server *server)
{
    struct ph_chan_limits limits;
    ph_engines_chan_limits(&limits, server->config);
    server->pid = getpid();
    int rc =
        ph_pipe_init(&server->pipe, (uint32_t)server->config->ring_slots, &limits, &server->stats);
    server->pipe.app.borrow = ph_iothread_borrow;
    server->pipe.app.self = server;
    return rc;
}

static void init_admission(struct ph_server *server)
{
    static const char *const loopback[] = {"127.0.0.0/8", "::1"};
    const struct ph_config *config = server->config;
    size_t n = config->unlimited_peer.n;
    ph_admission_init(&server->admission, config->max_connections, config->max_connections_per_ip,
                      &server->stats);
    for (size_t i = 0; i < (n > 0 ? n : PH_COUNT_OF(loopback)); i++) {
        struct ph_net net;
        int rc = ph_net_parse(&net, n > 0 ? config->unlimited_peer.items[i] : loopback[i]);
        PH_ASSERT(rc == 0); /* checked when it was set */
        ph_admission_except(&server->admission, &net);
    }
}

/* What ph_server_new() made and the I/O thread did not free. Each part may be missing: a start may
 * have failed anywhere. */
static void free_parts(struct ph_server *server)
{
    ph_engines_free(server);
    ph_mesh_free(server->mesh);
    ph_bind_close(server);
    ph_tcp_spare_fini(&server->tcp_spare);
    ph_free(server->tcp);
    ph_free(server->udp);
    if (server->loop != NULL)
        ph_loop_free(server->loop);
    ph_certs_fini(server);
    log_drop(server);
    ph_admission_fini(&server->admission);
    ph_memory_fini(&server->memory);
    pthread_mutex_destroy(&server->turn);
    ph_free(server->scratch);
    ph_free(server->headers);
    ph_config_free(server->config);
    ph_free(server);
    ph_live_add(PH_LIVE_SERVER, -1);
}

int ph_server_new(ph_server **out, const ph_config *config, char *err, size_t err_len)
{
    struct ph_err why = {""};
    struct ph_server *server = ph_alloc(sizeof(*server));
    ph_live_add(PH_LIVE_SERVER, 1);
    server->config = ph_config_copy(config);
    server->early_end = &server->early;
    server->scratch = ph_alloc(PH_TCP_SCRATCH);
    ph_tcp_spare_init(&server->tcp_spare);
    pthread_mutex_init(&server->turn, NULL);
    pthread_mutex_init(&server->certs_lock, NULL);
    pthread_mutex_init(&server->reload_lock, NULL);
    ph_list_init(&server->paces);
    ph_list_init(&server->tcp_conns);
    ph_list_init(&server->tcp_ready);
    ph_list_init(&server->tcp_dirty);
    ph_list_init(&server->tcp_dead);
    ph_list_init(&server->sockets);
    /* Nobody reads the ring yet: what is said now waits for the I/O thread (log_early()). */
    struct ph_thread env = {
        .log = log_keep, .self = server, .level = (enum ph_log_level)config->log_level};
    ph_thread_set(&env);
    ph_iothread_prepare(server); /* the clocks of the engines begin with the server */
    init_admission(server);
    ph_bridge_http_init_headers(server);
    ph_memory_init(&server->memory, config->memory_budget, config->processes);

    int rc = check_config(server->config, &why);
    if (rc == 0)
        rc = ph_certs_init(server, &why);
    if (rc == 0)
        rc = ph_bind_all(server, &why);
    if (rc == 0)
        ph_bridge_http_init_alt_svc(server);
    if (rc == 0)
        rc = ph_engines_new(server, &why);
    if (rc == 0) {
        rc = init_pipe(server);
        if (rc < 0)
            ph_fail(&why, rc, "the system has no descriptors left for an eventfd");
    }
    ph_thread_set(NULL);
    if (rc < 0) {
        snprintf(err, err_len, "%s", why.text);
        free_parts(server);
        return rc;
    }
    *out = server;
    return 0;
}

int ph_server_start(ph_server *server)
{
    if (server->is_started)
        return PH_E_STATE;
    if (server->pid != getpid()) { /* forked: the eventfds are those of the parent as well */
        ph_pipe_fini(&server->pipe);
        memset(&server->pipe, 0, sizeof(server->pipe));
        if (init_pipe(server) < 0)
            return PH_E_IO;
    }
    server->loop = ph_loop_new(); /* only now: children would share the parent's epoll */
    if (server->loop == NULL)
        return PH_E_IO;
    /* Signals are for the application's threads; a new one has the mask of its maker. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&server->thread, NULL, ph_iothread_main, server);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        ph_loop_free(server->loop);
        server->loop = NULL;
        return PH_E_IO;
    }
    server->is_started = true;
    return 0;
}

int ph_server_fd(const ph_server *server)
{
    return server->pipe.up.bell;
}

int ph_server_next(ph_server *server, ph_event *event)
{
    return ph_pipe_next_event(&server->pipe, event);
}

void ph_server_flush(ph_server *server)
{
    ph_pipe_flush(&server->pipe);
}

int ph_server_address(const ph_server *server, size_t index, const char **kind, char *text,
                      size_t text_len)
{
    if (index < server->tcp_n) {
        *kind = server->tcp[index].tls ? "tls" : "tcp";
        if (server->tcp[index].path != NULL)
            snprintf(text, text_len, "unix:%s", server->tcp[index].path);
        else
            ph_addr_text(&server->tcp[index].addr, text, text_len);
        return 0;
    }
    index -= server->tcp_n;
    if (index >= server->udp_n)
        return PH_E_NOTFOUND;
    *kind = "quic";
    ph_addr_text(&server->udp[index].addr, text, text_len);
    return 0;
}

int ph_server_socket(const ph_server *server, size_t index)
{
    if (server->is_started)
        return PH_E_STATE;
    if (index < server->tcp_n)
        return server->tcp[index].watch.fd;
    index -= server->tcp_n;
    return index < server->udp_n ? ph_udp_fd(server->udp[index].udp) : PH_E_NOTFOUND;
}

void ph_server_drain(ph_server *server, uint32_t deadline_ms)
{
    struct ph_msg msg = {.kind = PH_DOWN_SERVER_DRAIN, .a = deadline_ms};
    if (!server->is_started)
        return;
    ph_pipe_push_down(&server->pipe, &msg);
    ph_pipe_flush(&server->pipe);
}

/* Takes and drops events until the I/O thread has ended. */
static void stop_now(struct ph_server *server)
{
    struct ph_event event;
    ph_server_drain(server, 0);
    while (!server->pipe.app.stopped) {
        if (ph_server_next(server, &event) == 1) {
            ph_buf_unref(event.buf);
            continue;
        }
        struct pollfd wait = {.fd = ph_server_fd(server), .events = POLLIN};
        poll(&wait, 1, -1);
    }
}

void ph_server_free(ph_server *server)
{
    if (server == NULL)
        return;
    if (server->is_started) {
        stop_now(server);
        pthread_join(server->thread, NULL);
    }
    ph_pipe_fini(&server->pipe);
    free_parts(server);
}

void ph_server_stats(const ph_server *server, ph_stats *out)
{
#define COPY(name) out->name = __atomic_load_n(&server->stats.name, __ATOMIC_RELAXED);
    PH_STATS_LIST(COPY)
#undef COPY
    out->queue_up = ph_ring_used(&server->pipe.up);
    out->queue_down = ph_ring_used(&server->pipe.down);
}
