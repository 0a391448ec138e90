/*
 * world.c - see world.h. The application, by path:
 *
 *      /hello      200 and "hello"             /echo       the body comes back
 *      /bytes/N    N bytes, as fast as wait_writable allows
 *      /wait       no answer
 *      /cut        a head with content-length 100, five bytes, then let go; /cut-open without
 * length sessions: /reject  403 and a body       others are accepted with the first subprotocol
 *      streams: bidirectional ones are echoed; one-way ones come back on a stream of ours
 *      datagrams are echoed
 */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

/* --- Application --- */

static struct world_chan *note_new(struct world *world, ph_chan *chan, ph_chan *parent)
{
    struct world_chan *note = ph_alloc(sizeof(*note));
    CHECK_INT(world->chans_n, <, WORLD_CHANS);
    world->chans[world->chans_n++] = note;
    note->world = world;
    note->chan = chan;
    note->parent = parent != NULL ? ph_chan_user(parent) : NULL;
    note->kind = ph_chan_get_kind(chan);
    note->id = ph_chan_id(chan);
    note->tls = ph_chan_tls(chan) != NULL;
    if (ph_chan_request(chan) != NULL)
        snprintf(note->target, sizeof(note->target), "%s", ph_chan_request(chan)->target);
    ph_chan_set_user(chan, note);
    return note;
}

static void write_long(struct world_chan *note)
{
    static const char chunk[10000];
    note->waiting = false;
    while (note->to_write > 0) {
        if (ph_chan_wait_writable(note->chan) == 0) {
            note->waiting = true;
            return;
        }
        size_t n = PH_MIN(note->to_write, sizeof(chunk));
        note->to_write -= n;
        note->written += n;
        CHECK_INT(ph_chan_write(note->chan, ph_buf_wrap(chunk, n, NULL, NULL), note->to_write == 0),
                  ==, 0);
        note->most_queued = PH_MAX(note->most_queued, ph_chan_queued(note->chan));
    }
}

static void on_request(struct world *world, ph_event *event)
{
    struct world_chan *note = note_new(world, event->chan, NULL);
    ph_field type = {"Content-Type", "text/plain", 12, 10};
    if (strcmp(note->target, "/hello") == 0) {
        CHECK_INT(ph_chan_respond(event->chan, 200, &type, 1, false), ==, 0);
        CHECK_INT(ph_chan_write(event->chan, ph_buf_copy("hello", 5), true), ==, 0);
    } else if (strcmp(note->target, "/echo") == 0) {
        CHECK_INT(ph_chan_respond(event->chan, 200, &type, 1, false), ==, 0);
    } else if (strncmp(note->target, "/bytes/", 7) == 0) {
        CHECK_INT(ph_chan_respond(event->chan, 200, &type, 1, false), ==, 0);
        note->to_write = (size_t)atol(note->target + 7);
        write_long(note);
    } else if (strncmp(note->target, "/cut", 4) == 0) {
        ph_field length = {"content-length", "100", 14, 3};
        size_t n = strcmp(note->target, "/cut") == 0 ? 1 : 0;
        CHECK_INT(ph_chan_respond(event->chan, 200, &length, n, false), ==, 0);
        CHECK_INT(ph_chan_write(event->chan, ph_buf_copy("begin", 5), false), ==, 0);
        ph_chan_release(event->chan);
        note->chan = NULL;
    }
}

static void on_session(struct world *world, ph_event *event)
{
    struct world_chan *note = note_new(world, event->chan, NULL);
    const ph_request *request = ph_chan_request(event->chan);
    if (world->silent)
        return;
    if (strcmp(note->target, "/reject") == 0) {
        CHECK_INT(ph_chan_respond(event->chan, 403, NULL, 0, false), ==, 0);
        CHECK_INT(ph_chan_write(event->chan, ph_buf_copy("no", 2), true), ==, 0);
        return;
    }
    const char *protocol = request->offered_len > 0 ? request->offered[0] : NULL;
    CHECK_INT(ph_chan_accept(event->chan, NULL, 0, protocol), ==, 0);
    if (strncmp(note->target, "/push/", 6) == 0) {
        ph_chan *stream = ph_chan_open_stream(event->chan, false);
        CHECK(stream != NULL);
        struct world_chan *pushed = note_new(world, stream, event->chan);
        pushed->to_write = (size_t)atol(note->target + 6);
        write_long(pushed);
    }
}

static void on_socket(struct world *world, ph_event *event)
{
    note_new(world, event->chan, NULL);
    if (!world->silent)
        CHECK_INT(ph_chan_accept(event->chan, NULL, 0, NULL), ==, 0);
}

static void on_data(struct world *world, ph_event *event)
{
    struct world_chan *note = ph_chan_user(event->chan);
    CHECK(!note->fin && !note->closed);
    note->received += event->len;
    note->fin = event->fin;
    ph_chan *to = event->chan;
    if (note->kind == PH_CHAN_WT_STREAM && (note->id & 2) != 0)
        to = NULL;
    if (note->kind == PH_CHAN_HTTP && strcmp(note->target, "/echo") != 0)
        to = NULL;
    if (to != NULL) {
        CHECK_INT(ph_chan_write(to, event->buf, event->fin), ==, 0);
        event->buf = NULL;
    } else if (note->kind == PH_CHAN_WT_STREAM && event->fin && note->parent->chan != NULL) {
        ph_chan *back = ph_chan_open_stream(note->parent->chan, false);
        if (back != NULL) {
            char text[32];
            int n = snprintf(text, sizeof(text), "%zu bytes", note->received);
            note_new(world, back, note->parent->chan);
            CHECK_INT(ph_chan_write(back, ph_buf_copy(text, (size_t)n), true), ==, 0);
        }
    }
    if (world->hold)
        note->owed += event->len;
    else
        ph_chan_consume(event->chan, event->len);
}

static void on_closed(ph_event *event)
{
    struct world_chan *note = ph_chan_user(event->chan);
    CHECK(!note->closed);
    for (size_t i = 0; i < note->world->chans_n; i++) /* its streams were closed before */
        CHECK(note->world->chans[i]->parent != note || note->world->chans[i]->closed ||
              note->world->chans[i]->chan == NULL);
    note->closed = true;
    note->clean = event->clean;
    note->local = event->local;
    note->code = event->code;
    if (event->len > 0)
        memcpy(note->reason, event->data, PH_MIN(event->len, sizeof(note->reason) - 1));
    ph_chan_release(event->chan);
    note->chan = NULL;
}

static void on_writable(struct world *world, ph_chan *chan)
{
    struct world_chan *note = ph_chan_user(chan);
    note->writables++;
    for (size_t i = 0; i < world->chans_n; i++) {
        struct world_chan *one = world->chans[i];
        if (one->chan != NULL && one->waiting && (one == note || one->parent == note))
            write_long(one);
    }
}

static void on_event(struct world *world, ph_event *event)
{
    struct world_chan *note = NULL;
    if (event->chan != NULL)
        note = ph_chan_user(event->chan);
    CHECK(!world->stopped);
    switch (event->kind) {
    case PH_EVENT_REQUEST:
        on_request(world, event);
        break;
    case PH_EVENT_SESSION:
        on_session(world, event);
        break;
    case PH_EVENT_STREAM:
        note_new(world, event->chan, event->parent);
        break;
    case PH_EVENT_OPENED:
        note->id = ph_chan_id(event->chan);
        note->opened++;
        break;
    case PH_EVENT_DATA:
        on_data(world, event);
        break;
    case PH_EVENT_TRAILERS:
        break;
    case PH_EVENT_SOCKET:
        on_socket(world, event);
        break;
    case PH_EVENT_MESSAGE:
        note->received += event->len;
        ph_chan_consume_messages(event->chan, 1);
        CHECK_INT(ph_chan_send_message(event->chan, event->buf, event->text), ==, 0);
        event->buf = NULL;
        break;
    case PH_EVENT_DATAGRAM:
        note->datagrams++;
        ph_chan_consume_datagrams(event->chan, 1);
        CHECK_INT(ph_chan_send_datagram(event->chan, event->buf, 0), ==, 0);
        event->buf = NULL;
        break;
    case PH_EVENT_RESET:
        note->resets++;
        note->code = event->code;
        if (note->kind == PH_CHAN_WT_STREAM && (note->id & 2) == 0)
            ph_chan_reset(event->chan, event->code);
        break;
    case PH_EVENT_STOP_SENDING:
        note->stops++;
        break;
    case PH_EVENT_DRAIN:
        note->drains++;
        note->drain_local = event->local;
        if (event->local && !world->leave_open)
            CHECK_INT(ph_chan_close(event->chan, 99, "going", 5), ==, 0);
        break;
    case PH_EVENT_WRITABLE:
        on_writable(world, event->chan);
        break;
    case PH_EVENT_CLOSED:
        on_closed(event);
        break;
    case PH_EVENT_LOG:
        world->logs++;
        snprintf(world->log, sizeof(world->log), "%.*s", (int)event->len,
                 (const char *)event->data);
        break;
    case PH_EVENT_STOPPED:
        world->stopped = true;
        break;
    }
    ph_buf_unref(event->buf);
}

/* --- Steps --- */

static void read_tcp(struct world *world)
{
    while (world->tcp >= 0 && !world->tcp_eof && !world->tcp_reset) {
        ssize_t n = recv(world->tcp, world->text + world->text_len,
                         sizeof(world->text) - 1 - world->text_len, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        world->tcp_reset = n < 0;
        world->tcp_eof = n == 0;
        if (n > 0)
            world->text_len += (size_t)n;
        world->text[world->text_len] = '\0';
    }
}

void world_step(struct world *world)
{
    struct pollfd fds[16];
    nfds_t n = 0;
    int wait = 20;
    fds[n++] = (struct pollfd){.fd = ph_server_fd(world->server), .events = POLLIN};
    for (size_t i = 0; i < world->clients_n; i++) {
        fds[n++] = (struct pollfd){.fd = client_fd(world->clients[i]), .events = POLLIN};
        wait = client_timeout(world->clients[i], wait);
    }
    if (world->tcp >= 0 && !world->tcp_eof && !world->tcp_reset)
        fds[n++] = (struct pollfd){.fd = world->tcp, .events = POLLIN};
    if (world->also > 0)
        fds[n++] = (struct pollfd){.fd = world->also, .events = POLLIN};
    poll(fds, n, wait);
    struct ph_event event;
    while (!world->stopped && ph_server_next(world->server, &event) == 1) {
        world->events++;
        on_event(world, &event);
    }
    ph_server_flush(world->server);
    for (size_t i = 0; i < world->clients_n; i++)
        client_turn(world->clients[i]);
    read_tcp(world);
}

/* --- Life --- */

static void set_option(struct world *world, ph_config *config, const char *name, const char *value)
{
    char path[128], key[128], err[256];
    uint8_t sha256[32];
    if (strcmp(value, "cert") != 0) {
        if (ph_config_set(config, name, value[0] != '\0' ? value : NULL) < 0)
            ph_test_fail(__FILE__, __LINE__, "%s", ph_config_error(config));
        return;
    }
    CHECK_INT(ph_dev_certificate(world->dir, path, sizeof(path), key, sizeof(key), sha256, err,
                                 sizeof(err)),
              ==, 0);
    CHECK_INT(ph_config_set(config, "certfile", path), ==, 0);
    CHECK_INT(ph_config_set(config, "keyfile", key), ==, 0);
}

void world_make(struct world *world, const char *const *options)
{
    char err[512] = "";
    *world = (struct world){.tcp = -1};
    snprintf(world->dir, sizeof(world->dir), "/tmp/pronghorn-test-XXXXXX");
    CHECK(mkdtemp(world->dir) != NULL);
    ph_config *config = ph_config_new();
    CHECK_INT(ph_config_set(config, "dev_certificate", world->dir), ==, 0);
    for (; *options != NULL; options += 2)
        set_option(world, config, options[0], options[1]);
    int rc = ph_server_new(&world->server, config, err, sizeof(err));
    ph_config_free(config);
    if (rc < 0)
        ph_test_fail(__FILE__, __LINE__, "%s", err);
}

void world_start(struct world *world, const char *const *options)
{
    world_make(world, options);
    CHECK_INT(ph_server_start(world->server), ==, 0);
    CHECK_INT(ph_server_start(world->server), ==, PH_E_STATE);
}

static void remove_dir(const char *dir)
{
    static const char *const names[] = {"dev-cert.pem", "dev-key.pem"};
    char path[128];
    for (size_t i = 0; i < PH_COUNT_OF(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

void world_stop(struct world *world)
{
    world_tcp_close(world);
    ph_server_free(world->server);
    for (size_t i = 0; i < world->clients_n; i++)
        client_fini(world->clients[i]);
    for (size_t i = 0; i < world->chans_n; i++)
        ph_free(world->chans[i]);
    remove_dir(world->dir);
}

struct ph_addr world_addr(const struct world *world, const char *kind)
{
    const char *found;
    char text[64];
    struct ph_addr addr = {0};
    for (size_t i = 0; ph_server_address(world->server, i, &found, text, sizeof(text)) == 0; i++) {
        char *colon = strrchr(text, ':');
        if (strcmp(found, kind) != 0)
            continue;
        *colon = '\0';
        bool v6 = text[0] == '[';
        if (v6)
            text[strlen(text) - 1] = '\0';
        CHECK_INT(ph_addr_parse(&addr, text + v6, (uint16_t)atoi(colon + 1)), ==, 0);
        return addr;
    }
    ph_test_fail(__FILE__, __LINE__, "no address of kind %s", kind);
}

void world_connect(struct world *world, struct client *client)
{
    struct ph_addr addr = world_addr(world, "quic");
    client_init(client, &addr);
    world->clients[world->clients_n++] = client;
    WORLD_UNTIL(world, client->settings);
}

void world_drop(struct world *world, struct client *client)
{
    for (size_t i = 0; i < world->clients_n; i++) {
        if (world->clients[i] == client)
            world->clients[i] = world->clients[--world->clients_n];
    }
    client_fini(client);
}

struct client_session *world_session(struct world *world, struct client *client, const char *path)
{
    struct client_session *session = client_session(client, path, NULL, 0, NULL, 0);
    CHECK(session != NULL);
    WORLD_UNTIL(world, session->ready);
    return session;
}

void world_tcp_send(struct world *world, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = send(world->tcp, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (k < 0 && errno == EAGAIN) {
            world_step(world);
            continue;
        }
        CHECK(k > 0);
        p += k;
        n -= (size_t)k;
    }
}

void world_tcp(struct world *world, const char *kind, const char *text)
{
    struct ph_addr addr = world_addr(world, kind);
    world_tcp_close(world);
    world->text_len = 0;
    world->text[0] = '\0';
    world->tcp_eof = world->tcp_reset = false;
    world->tcp = socket(addr.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(world->tcp, &addr.u.sa, addr.len) == 0);
    world_tcp_send(world, text, strlen(text));
}

void world_tcp_close(struct world *world)
{
    if (world->tcp >= 0)
        close(world->tcp);
    world->tcp = -1;
}

struct world_chan *world_open(struct world_chan *session, bool bidi)
{
    ph_chan *stream = ph_chan_open_stream(session->chan, bidi);
    CHECK(stream != NULL);
    return note_new(session->world, stream, session->chan);
}

void world_release(struct world_chan *note)
{
    ph_chan_release(note->chan);
    note->chan = NULL;
}

struct world_chan *world_last(const struct world *world, ph_chan_kind kind)
{
    for (size_t i = world->chans_n; i > 0; i--) {
        if (world->chans[i - 1]->kind == kind)
            return world->chans[i - 1];
    }
    return NULL;
}

struct world_chan *world_stream(const struct world *world, uint64_t id)
{
    for (size_t i = 0; i < world->chans_n; i++) {
        if (world->chans[i]->kind == PH_CHAN_WT_STREAM && world->chans[i]->id == id)
            return world->chans[i];
    }
    return NULL;
}

void world_consume(struct world *world)
{
    world->hold = false;
    for (size_t i = 0; i < world->chans_n; i++) {
        struct world_chan *note = world->chans[i];
        if (note->chan != NULL && note->owed > 0)
            ph_chan_consume(note->chan, note->owed);
        note->owed = 0;
    }
}

ph_stats world_stats(const struct world *world)
{
    ph_stats stats;
    ph_server_stats(world->server, &stats);
    return stats;
}
