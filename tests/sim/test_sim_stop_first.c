/*
 * test_sim_stop_first.c - STOP_SENDING that overtakes the first bytes of its stream (RFC 9000 19.5
 * allows it, and networks reorder): a request and a WebTransport stream learn of it all the same,
 * and nobody waits for a reader who left.
 */
#include "../unit/test.h"
#include "h3_wire.h"
#include "wt_raw.h"

/* WebTransport's code 7 as HTTP/3 carries it. */
#define STOP_7 (UINT64_C(0x52e4a40fa8db) + 7)

static void write_bytes(struct quic_log *log, const void *data, size_t n)
{
    CHECK_INT(ph_quic_stream_write_copy(log->stream, data, n), ==, 0);
}

/* --- Requests --- */

TEST(sim_stop_first, request_that_was_cancelled_before_it_came_is_not_served)
{
    /* HEADERS with its type in two bytes. Written before the stop: nothing, half a type; and once
     * the head comes in two pieces. */
    static const size_t before[] = {0, 1, 0}, pieces[] = {1, 1, 2};
    for (size_t i = 0; i < PH_COUNT_OF(before); i++) {
        struct h3_world world;
        uint8_t head[512] = {0x40};
        h3_wire_up(&world, false);
        size_t n = 1 + h3_raw_request(head + 1, sizeof(head) - 1, "POST", "/wait");
        struct quic_log *log = quic_app_open(&world.raw, true);
        if (before[i] > 0)
            write_bytes(log, head, before[i]);
        sim_run_for(world.sim, PH_SEC);
        ph_quic_stream_stop(log->stream, PH_H3_REQUEST_CANCELLED);
        sim_run_for(world.sim, PH_SEC);
        write_bytes(log, head + before[i], n / pieces[i] - before[i]);
        sim_run_for(world.sim, PH_SEC);
        CHECK_INT(world.requests_count, ==, 0);
        CHECK(log->stopped); /* the rest is not wanted either */
        log = h3_raw_open(&world, true, head, n, false);
        sim_run_for(world.sim, PH_SEC);
        CHECK_INT(world.requests_count, ==, 1);
        CHECK_INT(h3_raw_closed(&world), ==, 0);
        h3_world_fini(&world);
    }
}

TEST(sim_stop_first, session_request_that_was_cancelled_before_it_came_is_none)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_open(&raw, true);
    ph_quic_stream_stop(connect->stream, PH_H3_REQUEST_CANCELLED);
    wt_raw_run(&raw);
    wt_raw_connect_on(&raw, connect, "/");
    wt_raw_run(&raw);
    CHECK_INT(raw.app.sessions_count, ==, 0);
    CHECK(connect->stopped);
    connect = wt_raw_connect(&raw, "/");
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_status(&raw, connect), ==, 200);
    wt_raw_fini(&raw);
}

/* In one packet: the stop is known when the rest of the head makes the server answer, but its event
 * comes after the answer. */
TEST(sim_stop_first, answer_that_the_transport_refuses_is_reported_as_gone)
{
    struct h3_world world;
    uint8_t head[512];
    h3_wire_up(&world, false);
    size_t n = h3_raw_request(head, sizeof(head), "GET", "/hello");
    struct quic_log *log = h3_raw_open(&world, true, head, n - 1, false);
    sim_run_for(world.sim, PH_SEC);
    CHECK_INT(world.requests_count, ==, 0);
    write_bytes(log, head + n - 1, 1);
    ph_quic_stream_stop(log->stream, PH_H3_REQUEST_CANCELLED);
    sim_run_for(world.sim, PH_SEC);
    CHECK_INT(world.requests_count, ==, 1);
    CHECK_INT(world.requests[0]->acked, ==, 5);
    CHECK_INT(world.requests[0]->closes, ==, 1);
    CHECK(!world.requests[0]->clean);
    CHECK_INT(world.requests[0]->code, ==, PH_H3_REQUEST_CANCELLED);
    h3_world_fini(&world);
}

/* --- Streams of WebTransport --- */

static void check_stopped(const struct wt_raw *raw)
{
    const struct wt_log *there = wt_app_stream(&raw->app, 0);
    CHECK(there != NULL);
    CHECK(there->rx_len == 3 && memcmp(there->rx, "abc", 3) == 0);
    CHECK(there->stopped && there->has_code && !there->reset);
    CHECK_INT(there->code, ==, 7);
    wt_raw_check_alive(raw);
}

TEST(sim_stop_first, stream_learns_of_a_stop_that_came_before_its_header)
{
    /* Bytes of the header before the stop: none, half a signal, a signal. */
    for (size_t before = 0; before < 3; before++) {
        struct wt_raw raw;
        wt_raw_init(&raw, false);
        struct quic_log *connect = wt_raw_session(&raw);
        uint8_t header[PH_WT_STREAM_HEADER_MAX];
        size_t n = ph_wt_stream_header_put(header, true, connect->id);
        struct quic_log *stream = wt_raw_open(&raw, true);
        if (before > 0)
            wt_raw_write(stream, header, before);
        wt_raw_run(&raw);
        ph_quic_stream_stop(stream->stream, STOP_7);
        wt_raw_run(&raw);
        CHECK_INT(raw.app.streams_count, ==, 0);
        wt_raw_write(stream, header + before, n - before);
        wt_raw_write(stream, "abc", 3);
        wt_raw_run(&raw);
        check_stopped(&raw);
        CHECK_INT(wt_app_stream(&raw.app, 0)->closed, ==, false); /* the peer still writes */
        wt_raw_fini(&raw);
    }
}

TEST(sim_stop_first, stream_held_for_its_session_learns_of_the_stop)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.app.answer = WT_ANSWER_LATER;
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_connect(&raw, "/");
    struct quic_log *stream = wt_raw_open(&raw, true);
    ph_quic_stream_stop(stream->stream, STOP_7);
    wt_raw_run(&raw);
    uint8_t header[PH_WT_STREAM_HEADER_MAX];
    wt_raw_write(stream, header, ph_wt_stream_header_put(header, true, connect->id));
    wt_raw_write(stream, "abc", 3);
    wt_raw_run(&raw);
    CHECK_INT(raw.app.streams_count, ==, 0);
    CHECK_INT(ph_wt_session_accept(wt_raw_slog(&raw)->session, NULL, 0, NULL), ==, 0);
    check_stopped(&raw);
    wt_raw_fini(&raw);
}
