/* test_server.c - a whole server on loopback: HTTP/1.1 by raw TCP, HTTP/3 and WebTransport by a
 * client of our own engines; backpressure, small rings, drain, stop. */
#include "world.h"

#include "../../src/tls/tls.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define TCP_ONLY ((const char *const[]){"bind", "127.0.0.1:0", NULL})
#define QUIC_ONLY ((const char *const[]){"quic_bind", "127.0.0.1:0", NULL})
/* A ring of eight: everything is full all the time. */
#define SMALL_RING ((const char *const[]){"quic_bind", "127.0.0.1:0", "ring_slots", "8", NULL})

static uint8_t pattern_at(size_t i)
{
    return (uint8_t)(i * 7 + i / 251);
}

static uint8_t *pattern(size_t n)
{
    uint8_t *p = ph_alloc(n + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = pattern_at(i);
    return p;
}

static void check_pattern(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != pattern_at(i))
            ph_test_fail(__FILE__, __LINE__, "byte %zu of %zu differs", i, n);
    }
}

/* --- HTTP/1.1 --- */

TEST(server, http1_answers_and_keeps_the_connection)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp", "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, strstr(world.text, "\r\n\r\nhello") != NULL);
    CHECK(strncmp(world.text, "HTTP/1.1 200 ", 13) == 0);
    CHECK(strstr(world.text, "\r\nserver: pronghorn\r\n") != NULL);
    CHECK(strstr(world.text, "\r\ndate: ") != NULL);
    CHECK(strstr(world.text, " GMT\r\n") != NULL);
    CHECK(strstr(world.text, "\r\ncontent-type: text/plain\r\n") != NULL);
    const struct world_chan *chan = world_last(&world, PH_CHAN_HTTP);
    WORLD_UNTIL(&world, chan->closed);
    CHECK(chan->clean && chan->fin);
    world.text_len = 0;
    world_tcp_send(&world, "GET /hello HTTP/1.0\r\n\r\n", 23);
    WORLD_UNTIL(&world, world.tcp_eof);
    CHECK(strstr(world.text, "hello") != NULL);
    CHECK_INT(world_stats(&world).requests, ==, 2);
    CHECK_INT(world_stats(&world).conns_accepted, ==, 1);
    world_stop(&world);
}

TEST(server, headers_of_the_server_can_be_turned_off)
{
    static struct world world;
    world_start(&world, (const char *const[]){"bind", "127.0.0.1:0", "server_header", "off",
                                              "date_header", "off", NULL});
    world_tcp(&world, "tcp", "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, strstr(world.text, "\r\n\r\nhello") != NULL);
    CHECK(strstr(world.text, "server:") == NULL);
    CHECK(strstr(world.text, "date:") == NULL);
    world_stop(&world);
}

TEST(server, http1_body_comes_back_whole)
{
    static struct world world;
    enum { SIZE = 300000 };
    char head[128];
    world_start(&world, TCP_ONLY);
    uint8_t *body = pattern(SIZE);
    snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n",
             SIZE);
    world_tcp(&world, "tcp", head);
    world_tcp_send(&world, (const char *)body, SIZE);
    const char *start = NULL;
    WORLD_UNTIL(&world, world.text_len > SIZE &&
                            (memcmp(world.text + world.text_len - 5, "0\r\n\r\n", 5) == 0));
    start = strstr(world.text, "\r\n\r\n");
    CHECK(start != NULL);
    size_t at = 0; /* undo the chunks */
    for (char *p = (char *)(uintptr_t)start + 4;;) {
        size_t n = strtoul(p, &p, 16);
        if (n == 0)
            break;
        CHECK_MEM(p + 2, body + at, n);
        at += n;
        p += 2 + n + 2;
    }
    CHECK_INT(at, ==, SIZE);
    ph_stats stats = world_stats(&world);
    CHECK_INT(stats.bytes_in, ==, SIZE);
    CHECK_INT(stats.bytes_out, ==, SIZE);
    ph_free(body);
    world_stop(&world);
}

TEST(server, http1_reader_that_holds_stops_the_socket)
{
    static struct world world;
    enum { SIZE = 8 << 20 };
    world_start(&world, TCP_ONLY);
    world.hold = true;
    world_tcp(&world, "tcp", "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n");
    int sndbuf = 65536;
    setsockopt(world.tcp, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
    uint8_t *body = pattern(SIZE);
    size_t sent = 0;
    /* Until the socket takes nothing for ten steps. */
    for (int quiet = 0; quiet < 10;) {
        ssize_t n = send(world.tcp, body + sent, SIZE - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        quiet = n > 0 ? 0 : quiet + 1;
        world_step(&world);
    }
    CHECK_INT(sent, <, SIZE);
    struct world_chan *chan = world_last(&world, PH_CHAN_HTTP);
    CHECK_INT(chan->received, <=, 65536 + 65536); /* body_window and one read */
    world_consume(&world);
    world_tcp_send(&world, (const char *)body + sent, SIZE - sent);
    WORLD_UNTIL(&world, chan->fin);
    CHECK_INT(chan->received, ==, SIZE);
    ph_stats stats = world_stats(&world);
    CHECK_INT(stats.copied, <=, stats.bytes_in + 2 * 65536);
    ph_free(body);
    world_stop(&world);
}

TEST(server, http1_long_answer_waits_for_its_reader)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp", "GET /bytes/400000 HTTP/1.0\r\n\r\n");
    WORLD_UNTIL(&world, world.tcp_eof);
    const struct world_chan *chan = world_last(&world, PH_CHAN_HTTP);
    CHECK_INT(chan->written, ==, 400000);
    CHECK_INT(world.text_len, >, 400000);
    CHECK_INT(chan->most_queued, <=, 262144 + 10000);
    world_stop(&world);
}

TEST(server, cut_response_shows_what_there_was_and_that_it_is_cut)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp", "GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, world.tcp_reset || world.tcp_eof);
    CHECK(strstr(world.text, "content-length: 100\r\n") != NULL);
    CHECK(strstr(world.text, "\r\n\r\nbegin") != NULL);
    CHECK(world.tcp_eof);
    world_tcp(&world, "tcp", "GET /cut-open HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, world.tcp_reset || world.tcp_eof);
    CHECK(strstr(world.text, "5\r\nbegin\r\n") != NULL);
    CHECK(strstr(world.text, "\r\n0\r\n") == NULL);
    /* Nothing but a reset tells an HTTP/1.0 client. */
    world_tcp(&world, "tcp", "GET /cut-open HTTP/1.0\r\n\r\n");
    WORLD_UNTIL(&world, world.tcp_reset || world.tcp_eof);
    CHECK(world.tcp_reset);
    world_stop(&world);
}

TEST(server, http1_pipelined_requests_through_a_small_ring)
{
    static struct world world;
    enum { REQUESTS = 200 };
    static const char one[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    world_start(&world, (const char *const[]){"bind", "127.0.0.1:0", "ring_slots", "8", NULL});
    world_tcp(&world, "tcp", one);
    for (int i = 1; i < REQUESTS; i++)
        world_tcp_send(&world, one, strlen(one));
    size_t seen = 0, at = 0;
    WORLD_UNTIL(&world, ({
        for (char *p; (p = strstr(world.text + at, "hello")) != NULL; seen++)
            at = (size_t)(p - world.text) + 5;
        seen == REQUESTS;
    }));
    WORLD_UNTIL(&world, world.chans[REQUESTS - 1]->closed);
    for (size_t i = 0; i < world.chans_n; i++)
        CHECK(world.chans[i]->clean);
    world_stop(&world);
}

TEST(server, http1_client_that_leaves_closes_its_channel)
{
    static struct world world;
    world_start(&world, TCP_ONLY);
    world_tcp(&world, "tcp", "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, world.chans_n == 1);
    world_tcp_close(&world);
    WORLD_UNTIL(&world, world.chans[0]->closed);
    CHECK(!world.chans[0]->clean);
    world_stop(&world);
}

TEST(server, connections_above_the_limit_are_refused_and_counted)
{
    static struct world world;
    world_start(&world, (const char *const[]){"bind", "127.0.0.1:0", "max_connections", "1", NULL});
    world_tcp(&world, "tcp", "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, strstr(world.text, "hello") != NULL);
    int first = world.tcp;
    world.tcp = -1;
    world_tcp(&world, "tcp", "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    WORLD_UNTIL(&world, world.tcp_eof || world.tcp_reset);
    CHECK_INT(world_stats(&world).limit_conns, ==, 1);
    CHECK_INT(world.text_len, ==, 0);
    close(first);
    world_stop(&world);
}

TEST(server, silent_tls_handshake_is_ended)
{
    static struct world world;
    world_start(&world, (const char *const[]){"bind", "127.0.0.1:0", "certfile", "cert",
                                              "handshake_timeout", "100", NULL});
    world_tcp(&world, "tls", "");
    WORLD_UNTIL(&world, world.tcp_eof || world.tcp_reset);
    CHECK_INT(world_stats(&world).timeouts_handshake, ==, 1);
    world_stop(&world);
}

TEST(server, tls_listener_speaks_http1)
{
    static struct world world;
    struct ph_err err;
    struct ph_tls_cred *cred;
    struct ph_tls_session *tls;
    struct ph_sliceq plain, request;
    static const char *const alpn[] = {"http/1.1", NULL};
    world_start(&world, (const char *const[]){"bind", "127.0.0.1:0", "certfile", "cert", NULL});
    CHECK_INT(ph_tls_cred_client(&cred, NULL, &err), ==, 0);
    CHECK_INT(ph_tls_session_new(&tls, cred, false, alpn), ==, 0);
    ph_sliceq_init(&plain);
    ph_sliceq_init(&request);
    world_tcp(&world, "tls", "");
    static const char text[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    ph_sliceq_push_copy(&request, text, strlen(text));
    world.deadline = ph_clock_now() + 20 * PH_SEC;
    bool done = false;
    while (!done) {
        CHECK(ph_clock_now() < world.deadline);
        CHECK_INT(ph_tls_session_feed(tls, (uint8_t *)world.text, world.text_len, &plain), ==, 0);
        world.text_len = 0;
        if (ph_tls_session_is_ready(tls))
            CHECK_INT(ph_tls_session_write(tls, &request, 65536), ==, 0);
        struct ph_sliceq *out = ph_tls_session_out(tls);
        struct iovec iov[8];
        size_t n = ph_sliceq_gather(out, iov, 8, SIZE_MAX), sent = 0;
        for (size_t i = 0; i < n; i++) {
            world_tcp_send(&world, iov[i].iov_base, iov[i].iov_len);
            sent += iov[i].iov_len;
        }
        ph_sliceq_advance(out, sent);
        ph_sliceq_drop(out, sent);
        world_step(&world);
        n = ph_sliceq_gather(&plain, iov, 8, SIZE_MAX);
        for (size_t i = 0; i < n; i++)
            done = done || memmem(iov[i].iov_base, iov[i].iov_len, "hello", 5) != NULL;
    }
    CHECK_STR(ph_tls_session_alpn(tls), "http/1.1");
    CHECK(world.chans[0]->tls);
    ph_tls_session_free(tls);
    ph_tls_cred_unref(cred);
    ph_sliceq_fini(&plain);
    ph_sliceq_fini(&request);
    world_stop(&world);
}

/* --- HTTP/3 --- */

TEST(server, http3_answers)
{
    static struct world world;
    struct client client;
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    struct client_request *request = client_request(&client, "GET", "/hello", NULL, 0);
    CHECK(request != NULL);
    WORLD_UNTIL(&world, request->end);
    CHECK_INT(request->status, ==, 200);
    CHECK_INT(request->len, ==, 5);
    CHECK_MEM(request->body, "hello", 5);
    CHECK_STR(request->server, "pronghorn");
    CHECK_STR(request->content_type, "text/plain");
    const struct world_chan *chan = world_last(&world, PH_CHAN_HTTP);
    WORLD_UNTIL(&world, chan->closed);
    CHECK(chan->clean);
    world_stop(&world);
}

TEST(server, http3_body_comes_back_whole)
{
    static struct world world;
    struct client client;
    enum { SIZE = 1000000 };
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    uint8_t *body = pattern(SIZE);
    struct client_request *request = client_request(&client, "POST", "/echo", body, SIZE);
    CHECK(request != NULL);
    WORLD_UNTIL(&world, request->end);
    CHECK_INT(request->len, ==, SIZE);
    check_pattern(request->body, SIZE);
    ph_stats stats = world_stats(&world);
    CHECK_INT(stats.bytes_in, ==, SIZE);
    CHECK_INT(stats.copied, <=, stats.bytes_in);
    ph_free(body);
    world_stop(&world);
}

TEST(server, http3_many_requests_through_a_small_ring)
{
    static struct world world;
    struct client client;
    enum { REQUESTS = 60 };
    world_start(&world, SMALL_RING);
    world_connect(&world, &client);
    uint8_t *body = pattern(5000);
    struct client_request *requests[REQUESTS];
    for (int i = 0; i < REQUESTS; i++)
        requests[i] = client_request(&client, "POST", "/echo", body, 5000);
    for (int i = 0; i < REQUESTS; i++) {
        WORLD_UNTIL(&world, requests[i]->closed);
        CHECK_INT(requests[i]->len, ==, 5000);
        check_pattern(requests[i]->body, 5000);
    }
    ph_free(body);
    world_stop(&world);
}

/* --- WebTransport --- */

TEST(server, session_echoes_streams_and_datagrams)
{
    static struct world world;
    struct client client;
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    static const char *const offered[] = {"chat", "other"};
    struct client_session *session = client_session(&client, "/room?x=1", NULL, 0, offered, 2);
    CHECK(session != NULL);
    WORLD_UNTIL(&world, session->ready);
    CHECK_STR(session->subprotocol, "chat");
    struct world_chan *chan = world_last(&world, PH_CHAN_WT_SESSION);
    const ph_request *request = ph_chan_request(chan->chan);
    CHECK_STR(request->method, "CONNECT");
    CHECK_STR(request->target, "/room?x=1");
    CHECK_STR(request->client_host, "127.0.0.1");
    CHECK_INT(request->client_port, ==, ph_addr_port(&client.local));
    CHECK(request->tls && request->datagrams);
    CHECK_INT(request->offered_len, ==, 2);
    CHECK_INT(ph_chan_max_datagram_size(chan->chan), >=, 1000);
    CHECK_INT(ph_chan_id(chan->chan), ==, request->session_id);
    const ph_tls_info *tls = ph_chan_tls(chan->chan);
    CHECK(tls != NULL && tls == request->tls_info);
    CHECK_INT(tls->version, ==, 0x0304);

    uint8_t *bytes = pattern(1000000);
    struct client_stream *bidi = client_open(session, true), *uni = client_open(session, false);
    client_write(bidi, bytes, 1000000, true);
    client_write(uni, bytes, 70000, true);
    CHECK_INT(client_datagram(session, "ping", 4), ==, 0);
    WORLD_UNTIL(&world, bidi->fin && session->datagrams == 1);
    CHECK(world_last(&world, PH_CHAN_WT_STREAM)->tls); /* that of its session */
    CHECK_INT(bidi->len, ==, 1000000);
    check_pattern(bidi->data, bidi->len);
    CHECK_MEM(session->datagram, "ping", 4);
    struct client_stream *back = NULL;
    WORLD_UNTIL(&world, (back = client_peer_stream(session)) != NULL && back->fin);
    CHECK_INT(back->len, ==, 11);
    CHECK_MEM(back->data, "70000 bytes", 11);
    CHECK(ph_quic_id_is_uni(back->id) && ph_quic_id_is_server(back->id));

    ph_wt_session_close(session->wt, 42, "bye", 3);
    WORLD_UNTIL(&world, chan->closed);
    CHECK(chan->clean && !chan->local);
    CHECK_INT(chan->code, ==, 42);
    CHECK_STR(chan->reason, "bye");
    ph_stats stats = world_stats(&world);
    CHECK_INT(stats.sessions, ==, 1);
    CHECK_INT(stats.streams, ==, 3);
    CHECK_INT(stats.copied, <=, stats.bytes_in);
    ph_free(bytes);
    world_stop(&world);
}

TEST(server, session_closed_by_the_application)
{
    static struct world world;
    struct client client;
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    struct client_stream *stream = client_open(session, true);
    client_write(stream, "x", 1, false);
    WORLD_UNTIL(&world, stream->len == 1);
    struct world_chan *chan = world_last(&world, PH_CHAN_WT_SESSION);
    CHECK_INT(ph_chan_close(chan->chan, 7, "\xff", 1), ==, PH_E_INVAL);
    CHECK_INT(ph_chan_close(chan->chan, 7, "enough", 6), ==, 0);
    CHECK_INT(ph_chan_close(chan->chan, 8, NULL, 0), ==, 0);
    CHECK(ph_chan_open_stream(chan->chan, true) == NULL);
    ph_server_flush(world.server);
    WORLD_UNTIL(&world, session->closed && chan->closed);
    CHECK(session->clean && session->code == 7);
    CHECK_STR(session->reason, "enough");
    CHECK(chan->clean && chan->local && chan->code == 7);
    CHECK(stream->closed);
    world_stop(&world);
}

TEST(server, session_that_is_rejected_gets_a_whole_response)
{
    static struct world world;
    struct client client;
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    struct client_session *session = client_session(&client, "/reject", NULL, 0, NULL, 0);
    CHECK(session != NULL);
    WORLD_UNTIL(&world, session->closed);
    CHECK_INT(session->status, ==, 403);
    CHECK(!session->ready);
    const struct world_chan *chan = world_last(&world, PH_CHAN_WT_SESSION);
    WORLD_UNTIL(&world, chan->closed);
    world_stop(&world);
}

TEST(server, resets_and_stops_cross_with_their_codes)
{
    static struct world world;
    struct client client;
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    struct client_stream *a = client_open(session, true), *b = client_open(session, true);
    client_write(a, "a", 1, false);
    WORLD_UNTIL(&world, a->len == 1);
    struct world_chan *chan = world_stream(&world, a->id);
    ph_wt_stream_reset(a->wt, 123456);
    WORLD_UNTIL(&world, chan->resets == 1);
    WORLD_UNTIL(&world, a->reset);
    CHECK_INT(chan->code, ==, 123456);
    CHECK_INT(a->reset_code, ==, 123456); /* the application answers in kind */
    client_write(b, "b", 1, false);
    WORLD_UNTIL(&world, b->len == 1);
    chan = world_stream(&world, b->id);
    ph_wt_stream_stop(b->wt, 5);
    WORLD_UNTIL(&world, chan->stops == 1);
    CHECK_INT(ph_chan_write(chan->chan, ph_buf_copy("swallowed", 9), false), ==, 0);
    CHECK_INT(ph_chan_stop_sending(chan->chan, 6), ==, 0);
    ph_server_flush(world.server);
    WORLD_UNTIL(&world, b->stopped && chan->closed);
    CHECK_INT(b->stop_code, ==, 6);
    CHECK_INT(world_stats(&world).writes_discarded, ==, 9);
    world_stop(&world);
}

TEST(server, slow_application_holds_its_peer_back_and_loses_nothing)
{
    static struct world world;
    struct client client;
    enum { SIZE = 3000000 };
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    world.hold = true;
    uint8_t *bytes = pattern(SIZE);
    struct client_stream *stream = client_open(session, false);
    client_write(stream, bytes, SIZE, true);
    struct world_chan *chan = NULL;
    WORLD_UNTIL(&world, (chan = world_last(&world, PH_CHAN_WT_STREAM)) != NULL &&
                            chan->received >= 262144 - 16);
    for (int i = 0; i < 20; i++)
        world_step(&world);
    CHECK_INT(chan->received, <=, 262144); /* its window */
    struct client_stream *other = client_open(session, true);
    world.hold = false; /* other streams are not in its way */
    client_write(other, "free", 4, true);
    WORLD_UNTIL(&world, other->fin);
    CHECK_INT(chan->received, <=, 262144);
    world_consume(&world);
    WORLD_UNTIL(&world, chan->fin);
    CHECK_INT(chan->received, ==, SIZE);
    ph_free(bytes);
    world_stop(&world);
}

TEST(server, many_held_streams_stay_within_the_connection_window)
{
    static struct world world;
    struct client client;
    enum { STREAMS = 40, SIZE = 100000 };
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    world.hold = true;
    uint8_t *bytes = pattern(SIZE);
    for (int i = 0; i < STREAMS; i++) /* one-way with FIN: QUIC is done with them at once */
        client_write(client_open(session, false), bytes, SIZE, true);
    size_t total = 0, before = 1;
    for (int quiet = 0; quiet < 20; quiet = total == before ? quiet + 1 : 0) {
        before = total;
        world_step(&world);
        total = 0;
        for (size_t i = 0; i < world.chans_n; i++)
            total += world.chans[i]->received;
    }
    CHECK_INT(total, >, 900000);
    CHECK_INT(total, <=, 1048576);
    world_consume(&world);
    size_t fins = 0;
    WORLD_UNTIL(&world, ({
        fins = 0;
        for (size_t i = 0; i < world.chans_n; i++)
            fins += world.chans[i]->fin && world.chans[i]->received == SIZE;
        fins == STREAMS;
    }));
    ph_free(bytes);
    world_stop(&world);
}

TEST(server, slow_peer_makes_the_application_wait)
{
    static struct world world;
    struct client client;
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    client.hold = true;
    struct client_session *session = client_session(&client, "/push/3000000", NULL, 0, NULL, 0);
    CHECK(session != NULL);
    struct client_stream *stream = NULL;
    WORLD_UNTIL(&world, (stream = client_peer_stream(session)) != NULL && stream->len > 200000);
    for (int i = 0; i < 20; i++)
        world_step(&world);
    struct world_chan *chan = world_last(&world, PH_CHAN_WT_STREAM);
    CHECK(chan->waiting);
    CHECK_INT(chan->opened, ==, 1);
    CHECK_INT(chan->most_queued, <=, 262144 + 10000);
    CHECK_INT(ph_chan_queued(chan->chan), <=, 262144 + 10000);
    client_resume(stream);
    WORLD_UNTIL(&world, stream->fin);
    CHECK_INT(stream->len, ==, 3000000);
    CHECK_INT(chan->writables, >, 2);
    WORLD_UNTIL(&world, chan->closed);
    CHECK(chan->clean);
    world_stop(&world);
}

TEST(server, small_ring_carries_many_streams)
{
    static struct world world;
    struct client client;
    enum { STREAMS = 100, SIZE = 3000 };
    struct client_stream *streams[STREAMS];
    world_start(&world, SMALL_RING);
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    uint8_t *bytes = pattern(SIZE);
    for (int i = 0; i < STREAMS; i++) {
        streams[i] = client_open(session, true);
        client_write(streams[i], bytes, SIZE, true);
    }
    for (int i = 0; i < STREAMS; i++) {
        WORLD_UNTIL(&world, streams[i]->fin);
        CHECK_INT(streams[i]->len, ==, SIZE);
        check_pattern(streams[i]->data, SIZE);
    }
    ph_free(bytes);
    world_stop(&world);
}

TEST(server, streams_beyond_the_limit_come_as_others_end)
{
    static struct world world;
    struct client client;
    enum { STREAMS = 200 };
    struct client_stream *streams[STREAMS];
    world_start(&world,
                (const char *const[]){"quic_bind", "127.0.0.1:0", "max_streams_bidi", "10", NULL});
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    for (int i = 0; i < STREAMS; i++) {
        streams[i] = client_open(session, true);
        client_write(streams[i], "abc", 3, true);
    }
    for (int i = 0; i < STREAMS; i++)
        WORLD_UNTIL(&world, streams[i]->fin);
    CHECK_INT(world_stats(&world).streams, ==, STREAMS);
    world_stop(&world);
}

TEST(server, flood_of_datagrams_to_a_slow_application_is_bounded)
{
    static struct world world;
    struct client client;
    uint8_t bytes[1000] = {0};
    world_start(&world, SMALL_RING);
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    world.deadline = ph_clock_now() + 20 * PH_SEC;
    while (world_stats(&world).datagrams_in < 400) { /* the application does not get to run */
        struct pollfd wait = {.fd = client_fd(&client), .events = POLLIN};
        CHECK(ph_clock_now() < world.deadline);
        CHECK_INT(client_datagram(session, bytes, sizeof(bytes)), ==, 0);
        client_turn(&client);
        poll(&wait, 1, client_timeout(&client, 1));
    }
    struct world_chan *chan = world_last(&world, PH_CHAN_WT_SESSION);
    CHECK_INT(chan->datagrams, ==, 0);
    WORLD_UNTIL(&world, ({
        ph_stats now = world_stats(&world);
        chan->datagrams + now.datagrams_in_dropped == now.datagrams_in;
    }));
    CHECK_INT(world_stats(&world).datagrams_in_dropped, >=, 300); /* 64 KiB are kept */
    world_stop(&world);
}

TEST(server, datagrams_that_wait_at_the_end_of_a_session_are_handed_out)
{
    static struct world world;
    struct client client;
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    struct world_chan *chan = world_last(&world, PH_CHAN_WT_SESSION);
    world.deadline = ph_clock_now() + 20 * PH_SEC;
    while (world_stats(&world).datagrams_in < 150) { /* the application does not get to run */
        struct pollfd wait = {.fd = client_fd(&client), .events = POLLIN};
        CHECK(ph_clock_now() < world.deadline);
        CHECK_INT(client_datagram(session, "datagram", 8), ==, 0);
        client_turn(&client);
        poll(&wait, 1, client_timeout(&client, 1));
    }
    ph_wt_session_close(session->wt, 0, NULL, 0);
    WORLD_UNTIL(&world, chan->closed);
    ph_stats stats = world_stats(&world);
    CHECK_INT(chan->datagrams + stats.datagrams_in_dropped, ==, stats.datagrams_in);
    CHECK_INT(chan->datagrams, >=, 150);
    world_stop(&world);
}

TEST(server, connection_that_vanishes_closes_its_sessions)
{
    static struct world world;
    struct client client;
    world_start(&world, QUIC_ONLY);
    world_connect(&world, &client);
    struct client_session *session = world_session(&world, &client, "/");
    client_write(client_open(session, true), "x", 1, false);
    WORLD_UNTIL(&world, world.chans_n == 2);
    client_close(&client, PH_H3_NO_ERROR);
    WORLD_UNTIL(&world, world.chans[0]->closed && world.chans[1]->closed);
    CHECK(!world.chans[0]->clean);
    world_stop(&world);
}

TEST(server, unanswered_session_gets_503)
{
    static struct world world;
    struct client client;
    world_start(&world, (const char *const[]){"quic_bind", "127.0.0.1:0", "wt_accept_timeout",
                                              "100", NULL});
    world.silent = true;
    world_connect(&world, &client);
    struct client_session *session = client_session(&client, "/", NULL, 0, NULL, 0);
    WORLD_UNTIL(&world, session->closed);
    CHECK_INT(session->status, ==, 503);
    WORLD_UNTIL(&world, world.chans_n == 1 && world.chans[0]->closed);
    CHECK_INT(world_stats(&world).timeouts_accept, ==, 1);
    world_stop(&world);
}

TEST(server, webtransport_can_be_turned_off)
{
    static struct world world;
    struct client client;
    world_start(&world,
                (const char *const[]){"quic_bind", "127.0.0.1:0", "webtransport", "off", NULL});
    world_connect(&world, &client);
    CHECK(client_session(&client, "/", NULL, 0, NULL, 0) == NULL);
    struct client_request *request = client_request(&client, "GET", "/hello", NULL, 0);
    WORLD_UNTIL(&world, request->end);
    world_stop(&world);
}
