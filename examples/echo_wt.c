/*
 * echo_wt.c - a WebTransport server that echoes: bidirectional streams on themselves,
 * unidirectional ones on a stream of ours, datagrams as datagrams.
 *
 *      echo_wt [quic-address] [cert.pem key.pem | --dev directory]
 */
#include <poll.h>
#include <pronghorn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One echoed stream. What was written is given back as credit only while there is room in `out`: a
 * client that sends and does not read is held back by its own credit, and costs no memory. */
struct echo {
    ph_chan *in, *out; /* the same channel for a bidirectional stream */
    size_t owed;
    struct echo *next;
};

static struct echo *echoes;
static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

static void give_credit(struct echo *echo)
{
    if (echo->in == NULL || echo->owed == 0 || !ph_chan_wait_writable(echo->out))
        return; /* PH_EVENT_WRITABLE brings us back */
    ph_chan_consume(echo->in, echo->owed);
    echo->owed = 0;
}

static void on_stream(ph_chan *in, ph_chan *session)
{
    struct echo *echo = calloc(1, sizeof(*echo));
    bool one_way = (ph_chan_id(in) & 2) != 0;
    *echo = (struct echo){in, one_way ? ph_chan_open_stream(session, false) : in, 0, echoes};
    echoes = echo;
    ph_chan_set_user(in, echo);
    if (echo->out != NULL)
        ph_chan_set_user(echo->out, echo);
}

static void on_data(ph_event *event)
{
    struct echo *echo = ph_chan_user(event->chan);
    if (echo->out == NULL)
        return;
    ph_chan_write(echo->out, event->buf, event->fin);
    event->buf = NULL; /* taken */
    echo->owed += event->len;
    give_credit(echo);
}

static void on_closed(ph_chan *chan)
{
    struct echo **at = &echoes, *echo = ph_chan_user(chan);
    ph_chan_release(chan);
    if (echo == NULL)
        return;
    echo->in = echo->in == chan ? NULL : echo->in;
    echo->out = echo->out == chan ? NULL : echo->out;
    if (echo->in != NULL || echo->out != NULL)
        return;
    while (*at != echo)
        at = &(*at)->next;
    *at = echo->next;
    free(echo);
}

static void on_event(ph_event *event)
{
    struct echo *echo = event->kind == PH_EVENT_RESET ? ph_chan_user(event->chan) : NULL;
    if (event->kind == PH_EVENT_REQUEST)
        ph_chan_respond(event->chan, 404, NULL, 0, true);
    else if (event->kind == PH_EVENT_SESSION)
        ph_chan_accept(event->chan, NULL, 0, NULL);
    else if (event->kind == PH_EVENT_STREAM)
        on_stream(event->chan, event->parent);
    else if (event->kind == PH_EVENT_DATA && ph_chan_user(event->chan) != NULL)
        on_data(event);
    else if (echo != NULL && echo->out != NULL)
        ph_chan_reset(echo->out, event->code);
    else if (event->kind == PH_EVENT_DATAGRAM) {
        ph_chan_consume_datagrams(event->chan, 1);
        ph_chan_send_datagram(event->chan, event->buf, 0);
        event->buf = NULL; /* taken */
    } else if (event->kind == PH_EVENT_CLOSED)
        on_closed(event->chan);
    else if (event->kind == PH_EVENT_LOG)
        fprintf(stderr, "%.*s\n", (int)event->len, (const char *)event->data);
    for (echo = event->kind == PH_EVENT_WRITABLE ? echoes : NULL; echo; echo = echo->next)
        give_credit(echo);
    ph_buf_unref(event->buf);
}

int main(int argc, char **argv)
{
    char err[512], text[64];
    const char *kind;
    ph_server *server;
    ph_event event = {0};
    ph_config *config = ph_config_new();
    bool dev = argc < 4 || strcmp(argv[2], "--dev") == 0;
    if (ph_config_set(config, "quic_bind", argc > 1 ? argv[1] : "localhost:4433") < 0 ||
        ph_config_set(config, dev ? "dev_certificate" : "certfile",
                      argc < 4 ? "certs" : argv[dev ? 3 : 2]) < 0 ||
        ph_config_set(config, "keyfile", dev ? NULL : argv[3]) < 0 ||
        ph_server_new(&server, config, err, sizeof(err)) < 0) {
        fprintf(stderr, "%s\n", *ph_config_error(config) ? ph_config_error(config) : err);
        return 2;
    }
    ph_config_free(config);
    for (size_t i = 0; ph_server_address(server, i, &kind, text, sizeof(text)) == 0; i++)
        printf("listening kind=%s address=%s\n", kind, text);
    fflush(stdout);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    ph_server_start(server);
    for (bool draining = false; event.kind != PH_EVENT_STOPPED; draining = stop != 0) {
        struct pollfd wait = {.fd = ph_server_fd(server), .events = POLLIN};
        poll(&wait, 1, 500);
        if (stop && !draining)
            ph_server_drain(server, 2000);
        while (event.kind != PH_EVENT_STOPPED && ph_server_next(server, &event))
            on_event(&event);
    }
    ph_server_free(server);
    return 0;
}
