/* echo_wt.c - a WebTransport server that echoes: bidirectional streams on themselves,
 * unidirectional ones on a stream of ours, datagrams as datagrams.
 *
 *      echo_wt [quic-address] [cert.pem key.pem | --dev directory] */
#include <poll.h>
#include <pronghorn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* Credit goes back only while `out` has room: who sends and does not read is held back by it. */
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
    if (echo->in == NULL || (echo->out != NULL && !ph_chan_wait_writable(echo->out)))
        return; /* PH_EVENT_WRITABLE brings us back */
    ph_chan_consume(echo->in, echo->owed);
    echo->owed = 0;
}

static void on_stream(ph_chan *in, ph_chan *session)
{
    struct echo *echo = malloc(sizeof(*echo));
    bool one_way = (ph_chan_id(in) & 2) != 0;
    *echo = (struct echo){in, one_way ? ph_chan_open_stream(session, false) : in, 0, echoes};
    echoes = echo;
    ph_chan_set_user(in, echo);
}

static void on_data(ph_event *event, struct echo *echo)
{
    if (echo->out != NULL) {
        ph_chan_write(echo->out, event->buf, event->fin);
        event->buf = NULL; /* taken */
    }
    echo->owed += event->len;
    give_credit(echo);
}

static void on_closed(ph_chan *chan)
{
    struct echo **at = &echoes, *echo;
    for (; (echo = *at) != NULL; at = &echo->next) {
        echo->in = echo->in == chan ? NULL : echo->in;
        echo->out = echo->out == chan ? NULL : echo->out;
        if (echo->in == NULL && echo->out == NULL) {
            *at = echo->next;
            free(echo);
            break;
        }
    }
    ph_chan_release(chan);
}

static void on_event(ph_event *event)
{
    struct echo *echo = event->chan != NULL ? ph_chan_user(event->chan) : NULL;
    if (event->kind == PH_EVENT_REQUEST)
        ph_chan_respond(event->chan, 404, NULL, 0, true);
    else if (event->kind == PH_EVENT_SESSION)
        ph_chan_accept(event->chan, NULL, 0, NULL);
    else if (event->kind == PH_EVENT_STREAM)
        on_stream(event->chan, event->parent);
    else if (event->kind == PH_EVENT_DATA && echo != NULL)
        on_data(event, echo);
    else if (event->kind == PH_EVENT_RESET && echo != NULL && echo->out != NULL)
        ph_chan_reset(echo->out, event->code);
    else if (event->kind == PH_EVENT_DATAGRAM) {
        ph_chan_send_datagram(event->chan, ph_buf_ref(event->buf), 0);
        ph_chan_consume_datagrams(event->chan, 1);
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
    ph_server *server;
    ph_event event = {0};
    ph_config *config = ph_config_new();
    bool dev = argc < 4 || argv[2][0] == '-';
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
    while (event.kind != PH_EVENT_STOPPED) {
        poll(&(struct pollfd){ph_server_fd(server), POLLIN, 0}, 1, 500);
        if (stop)
            ph_server_drain(server, 2000); /* the earliest deadline counts */
        while (ph_server_next(server, &event))
            on_event(&event);
    }
    ph_server_free(server);
    return 0;
}
