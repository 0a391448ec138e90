/*
 * ws_load.c - the client of bench/ws.py: WebSocket echoes over HTTP/1.1 without TLS.
 *
 *      ws_load HOST PORT SECONDS CONNECTIONS WINDOW SIZE [deflate]
 *
 * Each connection keeps WINDOW messages of SIZE bytes of text under way for SECONDS; what comes
 * back is counted by its frames. Plain system calls and nothing of ours, so that it costs little
 * and measures the server alone. "deflate": the extension is offered, as browsers do; the messages
 * that we send are not compressed, those that come back are.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_SIZE (1 << 18)

struct conn {
    int fd;
    uint8_t *in;
    size_t in_n;
    size_t owed, sent_of; /* messages to send; bytes of the current one that are out */
};

static uint8_t *message; /* one masked frame */
static size_t message_n;

static void die(const char *what)
{
    fprintf(stderr, "ws_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Text that repeats itself about as much as JSON does. */
static void make_message(size_t size)
{
    static const char words[] = "{\"id\": 1234, \"name\": \"some name\", \"value\": 17.25}, ";
    message = malloc(size + 14);
    uint8_t *p = message;
    *p++ = 0x81;
    if (size < 126) {
        *p++ = (uint8_t)(0x80 | size);
    } else if (size < 65536) {
        *p++ = 0x80 | 126;
        *p++ = (uint8_t)(size >> 8);
        *p++ = (uint8_t)size;
    } else {
        *p++ = 0x80 | 127;
        for (int i = 7; i >= 0; i--)
            *p++ = (uint8_t)((uint64_t)size >> (8 * i));
    }
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    memcpy(p, mask, 4);
    p += 4;
    for (size_t i = 0; i < size; i++)
        *p++ = (uint8_t)((uint8_t)words[i % (sizeof(words) - 1)] ^ mask[i % 4]);
    message_n = (size_t)(p - message);
}

static void dial(struct conn *conn, const char *host, const char *port, bool deflate)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    char head[512];
    inet_pton(AF_INET, host, &to.sin_addr);
    conn->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(conn->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        die("connect");
    int on = 1;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    int n = snprintf(head, sizeof(head),
                     "GET /ws HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
                     host, port,
                     deflate ? "Sec-WebSocket-Extensions: permessage-deflate; "
                               "client_max_window_bits\r\n"
                             : "");
    if (write(conn->fd, head, (size_t)n) != n)
        die("write");
    conn->in = malloc(IN_SIZE);
    uint8_t *end = NULL;
    while (end == NULL) {
        ssize_t got = read(conn->fd, conn->in + conn->in_n, IN_SIZE - conn->in_n);
        if (got <= 0)
            die("handshake");
        conn->in_n += (size_t)got;
        end = memmem(conn->in, conn->in_n, "\r\n\r\n", 4);
    }
    if (memcmp(conn->in, "HTTP/1.1 101", 12) != 0 ||
        deflate != (memmem(conn->in, conn->in_n, "permessage-deflate", 18) != NULL)) {
        fprintf(stderr, "ws_load: refused: %.*s\n", (int)conn->in_n, (char *)conn->in);
        exit(1);
    }
    conn->in_n -= (size_t)(end + 4 - conn->in);
    memmove(conn->in, end + 4, conn->in_n);
    fcntl(conn->fd, F_SETFL, O_NONBLOCK);
}

/* Counts whole messages and drops them; pings of the server are not answered: runs are short. */
static size_t take(struct conn *conn)
{
    size_t at = 0, count = 0;
    for (;;) {
        const uint8_t *p = conn->in + at;
        size_t left = conn->in_n - at, head = 2;
        if (left < 2)
            break;
        uint64_t size = p[1];
        if (size == 126)
            head = 4;
        else if (size == 127)
            head = 10;
        if (left < head)
            break;
        if (head > 2) {
            size = 0;
            for (size_t i = 2; i < head; i++)
                size = size << 8 | p[i];
        }
        if (left - head < size)
            break;
        count += (p[0] & 0x8f) == 0x81;
        at += head + (size_t)size;
    }
    conn->in_n -= at;
    memmove(conn->in, conn->in + at, conn->in_n);
    return count;
}

static void send_owed(struct conn *conn)
{
    while (conn->owed > 0) {
        ssize_t n = write(conn->fd, message + conn->sent_of, message_n - conn->sent_of);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            die("write");
        conn->sent_of += (size_t)n;
        if (conn->sent_of == message_n) {
            conn->sent_of = 0;
            conn->owed--;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 7) {
        fprintf(stderr, "usage: ws_load HOST PORT SECONDS CONNECTIONS WINDOW SIZE [deflate]\n");
        return 2;
    }
    double seconds = atof(argv[3]);
    size_t count = strtoull(argv[4], NULL, 10), window = strtoull(argv[5], NULL, 10), echoes = 0;
    make_message(strtoull(argv[6], NULL, 10));
    struct conn *conns = calloc(count, sizeof(*conns));
    struct pollfd *fds = calloc(count, sizeof(*fds));
    for (size_t i = 0; i < count; i++) {
        dial(&conns[i], argv[1], argv[2], argc > 7);
        conns[i].owed = window;
    }
    double start = now();
    while (now() - start < seconds) {
        for (size_t i = 0; i < count; i++) {
            send_owed(&conns[i]);
            fds[i] = (struct pollfd){.fd = conns[i].fd, .events = POLLIN};
            if (conns[i].owed > 0)
                fds[i].events |= POLLOUT;
        }
        poll(fds, count, 100);
        for (size_t i = 0; i < count; i++) {
            if ((fds[i].revents & ~POLLOUT) == 0)
                continue;
            ssize_t n = read(conns[i].fd, conns[i].in + conns[i].in_n, IN_SIZE - conns[i].in_n);
            if (n == 0 || (n < 0 && errno != EAGAIN))
                die("the server is gone");
            conns[i].in_n += n > 0 ? (size_t)n : 0;
            size_t done = take(&conns[i]);
            conns[i].owed += done;
            echoes += done;
        }
    }
    double took = now() - start;
    printf("echoes=%zu seconds=%.3f per_second=%.0f\n", echoes, took, (double)echoes / took);
    return 0;
}
