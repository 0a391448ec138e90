/* events.c - publishes a tick ten times a second to every WebTransport session: on one
 * unidirectional stream each (who does not read misses some), or as datagrams at /datagrams.
 *
 *      events [quic-address] [cert.pem key.pem | --dev directory] */
#include <poll.h>
#include <pronghorn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TICK_MS 100
struct subscriber {
    ph_chan *session, *stream; /* stream: NULL once closed */
    bool datagrams;
    struct subscriber *next;
};
static struct subscriber *subscribers;
static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void subscribe(ph_chan *session)
{
    struct subscriber *one = malloc(sizeof(*one));
    bool datagrams = strcmp(ph_chan_request(session)->target, "/datagrams") == 0;
    *one = (struct subscriber){session, NULL, datagrams, subscribers};
    ph_chan_accept(session, NULL, 0, NULL);
    one->stream = datagrams ? NULL : ph_chan_open_stream(session, false);
    subscribers = one;
}

static void on_closed(ph_chan *chan)
{
    struct subscriber **at = &subscribers, *one;
    for (; (one = *at) != NULL; at = &one->next) {
        one->stream = one->stream == chan ? NULL : one->stream;
        if (one->session == chan) {
            *at = one->next;
            free(one);
            break;
        }
    }
    ph_chan_release(chan);
}

static void publish(void)
{
    static unsigned long long number;
    char text[32];
    int n = snprintf(text, sizeof(text), "tick %llu\n", number++);
    ph_buf *buf = ph_buf_copy(text, (size_t)n); /* one buffer for all */
    for (struct subscriber *one = subscribers; one != NULL; one = one->next) {
        if (one->datagrams)
            ph_chan_send_datagram(one->session, ph_buf_ref(buf), TICK_MS);
        else if (one->stream != NULL && ph_chan_queued(one->stream) < 4096)
            ph_chan_write(one->stream, ph_buf_ref(buf), false);
    }
    ph_buf_unref(buf);
}

static void on_event(ph_event *event)
{
    if (event->kind == PH_EVENT_REQUEST)
        ph_chan_respond(event->chan, 404, NULL, 0, true);
    else if (event->kind == PH_EVENT_SESSION)
        subscribe(event->chan);
    else if (event->kind == PH_EVENT_DATA)
        ph_chan_consume(event->chan, event->len);
    else if (event->kind == PH_EVENT_DATAGRAM)
        ph_chan_consume_datagrams(event->chan, 1);
    else if (event->kind == PH_EVENT_CLOSED)
        on_closed(event->chan);
    else if (event->kind == PH_EVENT_LOG)
        fprintf(stderr, "%.*s\n", (int)event->len, (const char *)event->data);
    ph_buf_unref(event->buf);
}

int main(int argc, char **argv)
{
    char err[512], text[64];
    ph_server *server;
    ph_event event = {0};
    ph_config *config = ph_config_new();
    bool dev = argc < 4 || strcmp(argv[2], "--dev") == 0;
    const char *kind, *cert = argc < 4 ? "certs" : argv[2 + dev];
    if (ph_config_set(config, dev ? "dev_certificate" : "certfile", cert) < 0 ||
        ph_config_set(config, "keyfile", dev ? NULL : argv[3]) < 0 ||
        ph_config_set(config, "quic_bind", argc > 1 ? argv[1] : "localhost:4433") < 0 ||
        ph_server_new(&server, config, err, sizeof(err)) < 0)
        return fprintf(stderr, "%s\n", *ph_config_error(config) ? ph_config_error(config) : err),
               ph_config_free(config), 2;
    ph_config_free(config);
    for (size_t i = 0; ph_server_address(server, i, &kind, text, sizeof(text)) == 0; i++)
        fprintf(stderr, "listening kind=%s address=%s\n", kind, text);
    signal(SIGINT, on_signal), signal(SIGTERM, on_signal);
    ph_server_start(server);
    for (double due = now_ms(); event.kind != PH_EVENT_STOPPED;) {
        poll(&(struct pollfd){ph_server_fd(server), POLLIN, 0}, 1, TICK_MS / 4);
        if (stop)
            ph_server_drain(server, 2000); /* the earliest deadline counts */
        for (; now_ms() >= due; due += TICK_MS)
            publish();
        while (ph_server_next(server, &event))
            on_event(&event);
    }
    ph_server_free(server);
    return 0;
}
