/*
 * hello.c - answers every HTTP request with "Hello, world!".
 *
 *      hello [tcp-address]            for example: hello 127.0.0.1:8000
 */
#include <poll.h>
#include <pronghorn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static void respond(ph_chan *chan)
{
    static const char text[] = "Hello, world!\n";
    ph_field type = {"content-type", "text/plain", strlen("content-type"), strlen("text/plain")};
    ph_chan_respond(chan, 200, &type, 1, false);
    ph_chan_write(chan, ph_buf_copy(text, strlen(text)), true);
}

int main(int argc, char **argv)
{
    char err[512], text[64];
    const char *kind;
    ph_server *server;
    ph_event event;
    ph_config *config = ph_config_new();
    if (ph_config_set(config, "bind", argc > 1 ? argv[1] : "127.0.0.1:8000") < 0 ||
        ph_server_new(&server, config, err, sizeof(err)) < 0) {
        fprintf(stderr, "%s\n", *ph_config_error(config) ? ph_config_error(config) : err);
        return 2;
    }
    ph_config_free(config);
    for (size_t i = 0; ph_server_address(server, i, &kind, text, sizeof(text)) == 0; i++)
        printf("listening kind=%s address=%s\n", kind, text);
    fflush(stdout);

    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    ph_server_start(server);
    for (bool draining = false, running = true; running;) {
        struct pollfd wait = {.fd = ph_server_fd(server), .events = POLLIN};
        poll(&wait, 1, 1000); /* a signal between the check below and here waits a second */
        if (stop && !draining) {
            ph_server_drain(server, 5000);
            draining = true;
        }
        while (ph_server_next(server, &event)) {
            if (event.kind == PH_EVENT_REQUEST)
                respond(event.chan);
            else if (event.kind == PH_EVENT_DATA)
                ph_chan_consume(event.chan, event.len); /* a body is read and dropped */
            else if (event.kind == PH_EVENT_CLOSED)
                ph_chan_release(event.chan);
            else if (event.kind == PH_EVENT_LOG)
                fprintf(stderr, "%.*s\n", (int)event.len, (const char *)event.data);
            else if (event.kind == PH_EVENT_STOPPED)
                running = false;
            ph_buf_unref(event.buf);
        }
    }
    ph_server_free(server);
    return 0;
}
