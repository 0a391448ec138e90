/*
 * wt_load.c - the load generator of bench/run.py: one QUIC connection, one WebTransport session,
 * made of the same engines as the server (tests/unit/client.h). The same client measures every
 * server, so that ratios compare servers.
 *
 *      wt_load HOST PORT datagrams SECONDS SIZE WINDOW     echo with at most WINDOW on their way
 *      wt_load HOST PORT up MEGABYTES                      one bidirectional stream to /sink
 *      wt_load HOST PORT down MEGABYTES                    one unidirectional stream from /source
 *      wt_load HOST PORT streams COUNT                     short bidirectional streams to /echo, 50
 *                                                          at once
 *      wt_load HOST PORT requests COUNT                    GET /ping over HTTP/3, 50 at once
 *
 * Prints one line: name=value pairs. Exit 1 when the server does not do its part within a minute.
 */
#include "../tests/unit/client.h"

#include <poll.h>
#include <stdlib.h>

enum { DEADLINE = 60, PIECE = 65536, QUEUE_MAX = 4 << 20, STREAMS_AT_ONCE = 50 };

static struct client client;
static struct client_session *session;
static uint64_t give_up;

static void turn(int max_ms)
{
    struct pollfd fd = {.fd = client_fd(&client), .events = POLLIN};
    poll(&fd, 1, client_timeout(&client, max_ms));
    client_turn(&client);
    if (client.closed || ph_clock_now() > give_up) {
        fprintf(stderr, "wt_load: %s\n", client.closed ? "connection closed" : "out of time");
        exit(1);
    }
}

static void dial(const char *host, const char *port, const char *path)
{
    struct ph_addr addr;
    if (ph_addr_parse(&addr, host, (uint16_t)atoi(port)) != 0) {
        fprintf(stderr, "wt_load: HOST is a numeric address, not \"%s\"\n", host);
        exit(2);
    }
    give_up = ph_clock_now() + DEADLINE * PH_SEC;
    client_init(&client, &addr);
    while (!client.settings)
        turn(100);
    session = client_session(&client, path, NULL, 0, NULL, 0);
    while (session != NULL && !session->ready)
        turn(100);
}

static double seconds_since(uint64_t start)
{
    return (double)(ph_clock_now() - start) / (double)PH_SEC;
}

/* Lost ones are noticed by silence: then the window is filled anew. */
static void datagrams(double seconds, size_t size, size_t window)
{
    uint8_t payload[1200] = {0};
    size_t sent = 0, base = 0, seen = 0;
    uint64_t start = ph_clock_now(), last = start;
    size = PH_MIN(size, sizeof(payload));
    while (seconds_since(start) < seconds) {
        while (sent - base - (session->datagrams - seen) < window && sent - base < 1 << 20) {
            client_datagram(session, payload, size);
            sent++;
        }
        size_t before = session->datagrams;
        turn(5);
        if (session->datagrams != before) {
            last = ph_clock_now();
        } else if (ph_clock_now() - last > 50 * PH_MSEC) {
            base = sent;
            seen = session->datagrams;
            last = ph_clock_now();
        }
    }
    double took = seconds_since(start);
    printf("echoes=%zu sent=%zu seconds=%.3f per_second=%.0f\n", session->datagrams, sent, took,
           (double)session->datagrams / took);
}

static void up(size_t megabytes)
{
    static uint8_t piece[PIECE];
    struct client_stream *stream = client_open(session, true);
    size_t total = megabytes << 20, written = 0;
    uint64_t start = ph_clock_now();
    while (!stream->fin) {
        while (written < total && written - stream->acked < QUEUE_MAX) {
            written += PIECE;
            client_write(stream, piece, PIECE, written == total);
        }
        turn(100);
    }
    double took = seconds_since(start);
    if (strtoull((const char *)stream->data, NULL, 10) != total) {
        fprintf(stderr, "wt_load: the server counted %.*s of %zu bytes\n", (int)stream->len,
                (const char *)stream->data, total);
        exit(1);
    }
    printf("megabytes=%zu seconds=%.3f per_second=%.1f\n", megabytes, took,
           (double)megabytes / took);
}

static void down(size_t megabytes)
{
    uint64_t start = ph_clock_now();
    struct client_stream *stream = NULL;
    while (stream == NULL || !stream->fin) {
        turn(100);
        stream = client_peer_stream(session);
    }
    double took = seconds_since(start);
    if (stream->len != megabytes << 20) {
        fprintf(stderr, "wt_load: %zu bytes came\n", stream->len);
        exit(1);
    }
    printf("megabytes=%zu seconds=%.3f per_second=%.1f\n", megabytes, took,
           (double)megabytes / took);
}

static void streams(size_t count)
{
    struct client_stream *open[STREAMS_AT_ONCE] = {0};
    size_t begun = 0, done = 0;
    uint64_t start = ph_clock_now();
    while (done < count) {
        for (size_t i = 0; i < STREAMS_AT_ONCE; i++) {
            if (open[i] != NULL && open[i]->fin) {
                open[i] = NULL;
                done++;
            }
            if (open[i] == NULL && begun < count) {
                open[i] = client_open(session, true);
                client_write(open[i], "a short message", 15, true);
                begun++;
            }
        }
        turn(100);
    }
    double took = seconds_since(start);
    printf("streams=%zu seconds=%.3f per_second=%.0f\n", count, took, (double)count / took);
}

static void requests(size_t count)
{
    struct client_request *open[STREAMS_AT_ONCE] = {0};
    size_t begun = 0, done = 0;
    uint64_t start = ph_clock_now();
    while (done < count) {
        for (size_t i = 0; i < STREAMS_AT_ONCE; i++) {
            if (open[i] != NULL && open[i]->end) {
                open[i] = NULL;
                done++;
            }
            if (open[i] == NULL && begun < count) {
                open[i] = client_request(&client, "GET", "/ping", NULL, 0);
                begun++;
            }
        }
        turn(100);
    }
    double took = seconds_since(start);
    printf("requests=%zu seconds=%.3f per_second=%.0f\n", count, took, (double)count / took);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr,
                "usage: wt_load HOST PORT datagrams SECONDS SIZE WINDOW | up MB | down MB | "
                "streams COUNT | requests COUNT\n");
        return 2;
    }
    const char *mode = argv[3];
    size_t amount = strtoull(argv[4], NULL, 10);
    char path[64] = "/echo";
    if (strcmp(mode, "up") == 0)
        snprintf(path, sizeof(path), "/sink");
    else if (strcmp(mode, "down") == 0)
        snprintf(path, sizeof(path), "/source?mb=%zu", amount);
    dial(argv[1], argv[2], path);
    if (strcmp(mode, "datagrams") == 0 && argc == 7)
        datagrams((double)amount, strtoull(argv[5], NULL, 10), strtoull(argv[6], NULL, 10));
    else if (strcmp(mode, "up") == 0)
        up(amount);
    else if (strcmp(mode, "down") == 0)
        down(amount);
    else if (strcmp(mode, "streams") == 0)
        streams(amount);
    else if (strcmp(mode, "requests") == 0)
        requests(amount);
    client_fini(&client);
    return 0;
}
