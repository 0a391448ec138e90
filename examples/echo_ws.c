/* echo_ws.c - a WebSocket server that echoes messages; other requests get a page that says so.
 *
 *      echo_ws [address]            the first subprotocol that a client offers is chosen */
#include <poll.h>
#include <pronghorn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

static void on_socket(ph_chan *chan)
{
    const ph_request *request = ph_chan_request(chan);
    if (strcmp(request->target, "/closed") == 0)
        ph_chan_respond(chan, 403, NULL, 0, true);
    else
        ph_chan_accept(chan, NULL, 0, request->offered_len > 0 ? request->offered[0] : NULL);
}

/* A place in the queue goes back only while there is room on the way out: who sends and does not
 * read is held back by it. `user` counts what is owed. */
static void give_places(ph_chan *chan)
{
    size_t owed = (size_t)(uintptr_t)ph_chan_user(chan);
    if (owed == 0 || !ph_chan_wait_writable(chan))
        return; /* PH_EVENT_WRITABLE brings us back */
    ph_chan_consume_messages(chan, owed);
    ph_chan_set_user(chan, NULL);
}

static void on_message(ph_event *event)
{
    ph_chan_send_message(event->chan, event->buf, event->text);
    event->buf = NULL; /* taken */
    ph_chan_set_user(event->chan, (char *)ph_chan_user(event->chan) + 1);
    give_places(event->chan);
}

static void on_request(ph_chan *chan)
{
    static const char text[] = "a WebSocket is expected\n";
    ph_chan_respond(chan, 426, NULL, 0, false);
    ph_chan_write(chan, ph_buf_copy(text, strlen(text)), true);
}

static void on_event(ph_event *event)
{
    switch (event->kind) {
    case PH_EVENT_REQUEST:
        on_request(event->chan);
        break;
    case PH_EVENT_SOCKET:
        on_socket(event->chan);
        break;
    case PH_EVENT_MESSAGE:
        on_message(event);
        break;
    case PH_EVENT_WRITABLE:
        give_places(event->chan);
        break;
    case PH_EVENT_CLOSED:
        if (ph_chan_get_kind(event->chan) == PH_CHAN_WEBSOCKET)
            printf("closed code=%llu reason=\"%.*s\"\n", (unsigned long long)event->code,
                   (int)event->len, (const char *)event->data);
        ph_chan_release(event->chan);
        break;
    case PH_EVENT_LOG:
        fprintf(stderr, "%.*s\n", (int)event->len, (const char *)event->data);
        break;
    default: /* bodies are small here, and sessions need quic_bind */
        ph_chan_consume(event->chan, event->len);
    }
    ph_buf_unref(event->buf);
}

int main(int argc, char **argv)
{
    char err[512], text[64];
    const char *kind;
    ph_server *server;
    ph_event event = {0};
    ph_config *config = ph_config_new();
    if (ph_config_set(config, "bind", argc > 1 ? argv[1] : "127.0.0.1:8000") < 0 ||
        ph_server_new(&server, config, err, sizeof(err)) < 0) {
        fprintf(stderr, "%s\n", *ph_config_error(config) ? ph_config_error(config) : err);
        return 2;
    }
    ph_config_free(config);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; ph_server_address(server, i, &kind, text, sizeof(text)) == 0; i++)
        printf("listening kind=%s address=%s\n", kind, text);
    signal(SIGINT, on_signal), signal(SIGTERM, on_signal);
    ph_server_start(server);
    while (event.kind != PH_EVENT_STOPPED) {
        struct pollfd wait = {.fd = ph_server_fd(server), .events = POLLIN};
        poll(&wait, 1, 500);
        if (stop)
            ph_server_drain(server, 2000); /* closes every socket with 1001 */
        while (event.kind != PH_EVENT_STOPPED && ph_server_next(server, &event)) {
            if (event.kind != PH_EVENT_STOPPED)
                on_event(&event);
        }
    }
    ph_server_free(server);
    return 0;
}
