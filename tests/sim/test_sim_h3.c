/*
 * test_sim_h3.c - requests and responses between our client and our server over the simulated
 * network: bodies, trailers, loss, resets of either side, back pressure, limits, GOAWAY.
 */
#include "../unit/test.h"
#include "h3_app.h"

static const struct sim_link lossy = {.delay = 15 * PH_MSEC,
                                      .jitter = 5 * PH_MSEC,
                                      .loss = 100,
                                      .reorder = 50,
                                      .reorder_delay = 20 * PH_MSEC,
                                      .duplicate = 20};
static const struct ph_field te_trailers = H3_FIELD("te", "trailers");

static void check_clean(const struct h3_world *world)
{
    for (size_t i = 0; i < world->responses_count; i++) {
        const struct h3_log *log = world->responses[i];
        CHECK_INT(log->status, ==, 200);
        CHECK_INT(log->ends, ==, 1);
        CHECK_INT(log->closes, ==, 1);
        CHECK_INT(log->code, ==, PH_H3_NO_ERROR);
    }
    for (size_t i = 0; i < world->requests_count; i++) {
        const struct h3_log *log = world->requests[i];
        CHECK_INT(log->closes, ==, 1);
        CHECK(log->clean);
    }
    CHECK_INT(world->stats.protocol_errors, ==, 0);
    CHECK_INT(world->client_stats.protocol_errors, ==, 0);
}

TEST(sim_h3, get_has_its_answer)
{
    struct h3_world world;
    h3_world_init(&world, 1, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "GET", "/", NULL, 0, true);
    h3_run(&world, 10 * PH_SEC);
    CHECK(h3_log_is(log, "hello"));
    CHECK_INT(world.requests_count, ==, 1);
    CHECK_STR(world.requests[0]->method, "GET");
    CHECK_INT(world.requests[0]->acked, ==, 5);
    check_clean(&world);
    h3_world_fini(&world);
}

TEST(sim_h3, body_and_trailers_go_both_ways)
{
    struct h3_world world;
    static const struct ph_field sum = H3_FIELD("x-sum", "17");
    h3_world_init(&world, 2, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "POST", "/echo", &te_trailers, 1, false);
    CHECK_INT(ph_h3_request_data(log->req, (const uint8_t *)"one ", 4, false), ==, 0);
    CHECK_INT(ph_h3_request_data(log->req, (const uint8_t *)"two", 3, false), ==, 0);
    CHECK_INT(ph_h3_request_trailers(log->req, &sum, 1), ==, 0);
    CHECK_INT(ph_h3_request_data(log->req, (const uint8_t *)"x", 1, false), ==, PH_E_STATE);
    h3_run(&world, 10 * PH_SEC);
    CHECK(h3_log_is(log, "one two"));
    CHECK_STR(world.requests[0]->trailer, "x-sum: 17");
    CHECK_INT(world.requests[0]->ends, ==, 1);
    CHECK_STR(log->trailer, "x-sum: 42");
    CHECK_INT(log->trailer_sections, ==, 1);
    CHECK_INT(world.requests[0]->acked, ==, 7); /* not the frame headers, not the trailers */
    check_clean(&world);
    h3_world_fini(&world);
}

TEST(sim_h3, large_bodies_survive_loss)
{
    enum { SIZE = 300000 };
    struct h3_world world;
    h3_world_init(&world, 3, &lossy);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *up = h3_send(&world, "POST", "/echo", NULL, 0, false);
    uint8_t *data = ph_alloc(SIZE);
    quic_pattern(data, SIZE, 77);
    for (size_t at = 0; at < SIZE; at += 5000)
        CHECK_INT(ph_h3_request_data(up->req, data + at, 5000, at + 5000 == SIZE), ==, 0);
    ph_free(data);
    struct h3_log *down = h3_send(&world, "GET", "/bytes/300001", NULL, 0, true);
    h3_run(&world, 120 * PH_SEC);
    CHECK(h3_log_is_pattern(up, SIZE));
    CHECK(h3_log_is_pattern(down, SIZE + 1));
    for (size_t i = 0; i < world.requests_count; i++) {
        struct h3_log *log = world.requests[i];
        CHECK_INT(log->acked, ==, strcmp(log->target, "/echo") == 0 ? SIZE : SIZE + 1);
    }
    check_clean(&world);
    h3_world_fini(&world);
}

TEST(sim_h3, hundred_requests_at_once_under_loss)
{
    struct h3_world world;
    h3_world_init(&world, 4, &lossy);
    h3_world_start(&world, H3_CLIENT);
    for (int i = 0; i < 100; i++)
        h3_send(&world, "GET", i % 2 == 0 ? "/" : "/bytes/3000", NULL, 0, true);
    h3_run(&world, 60 * PH_SEC);
    CHECK_INT(world.requests_count, ==, 100);
    for (size_t i = 0; i < 100; i++)
        CHECK(i % 2 == 0 ? h3_log_is(world.responses[i], "hello")
                         : h3_log_is_pattern(world.responses[i], 3000));
    check_clean(&world);
    h3_world_fini(&world);
}

TEST(sim_h3, head_and_204_have_no_body)
{
    struct h3_world world;
    h3_world_init(&world, 5, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *head = h3_send(&world, "HEAD", "/", NULL, 0, true);
    struct h3_log *none = h3_send(&world, "GET", "/wait", NULL, 0, true);
    h3_run(&world, 10 * PH_SEC);
    CHECK_INT(ph_exchange_respond(world.requests[1]->ex, 204, NULL, 0, true), ==, 0);
    h3_run(&world, 10 * PH_SEC);
    CHECK_INT(head->status, ==, 200);
    CHECK_INT(head->body_len, ==, 0);
    CHECK_INT(none->status, ==, 204);
    CHECK_INT(none->body_len, ==, 0);
    CHECK_INT(head->code, ==, PH_H3_NO_ERROR);
    CHECK_INT(none->code, ==, PH_H3_NO_ERROR);
    h3_world_fini(&world);
}

TEST(sim_h3, informational_heads_come_before_the_answer)
{
    struct h3_world world;
    static const struct ph_field link = H3_FIELD("link", "</a.css>; rel=preload");
    h3_world_init(&world, 6, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "GET", "/wait", NULL, 0, true);
    h3_run(&world, 10 * PH_SEC);
    CHECK_INT(ph_exchange_respond(world.requests[0]->ex, 103, &link, 1, false), ==, 0);
    h3_run(&world, 10 * PH_SEC);
    CHECK_INT(log->status, ==, 103);
    CHECK_INT(ph_exchange_respond(world.requests[0]->ex, 200, NULL, 0, true), ==, 0);
    h3_run(&world, 10 * PH_SEC);
    CHECK_INT(log->heads, ==, 2);
    check_clean(&world);
    h3_world_fini(&world);
}

TEST(sim_h3, continue_is_sent_once_when_the_body_is_wanted)
{
    struct h3_world world;
    static const struct ph_field expect = H3_FIELD("expect", "100-continue");
    h3_world_init(&world, 7, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "POST", "/echo", &expect, 1, false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(log->heads, ==, 0);
    ph_exchange_consume(world.requests[0]->ex, 0);
    ph_exchange_consume(world.requests[0]->ex, 0);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(log->heads, ==, 1);
    CHECK_INT(log->status, ==, 100);
    ph_h3_request_data(log->req, (const uint8_t *)"late", 4, true);
    h3_run(&world, 5 * PH_SEC);
    CHECK(h3_log_is(log, "late"));
    CHECK_INT(log->heads, ==, 2);
    check_clean(&world);
    h3_world_fini(&world);
}

TEST(sim_h3, early_answer_stops_the_upload)
{
    struct h3_world world;
    uint8_t data[20000] = {0};
    h3_world_init(&world, 8, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "POST", "/", NULL, 0, false);
    ph_h3_request_data(log->req, data, sizeof(data), false); /* and no end */
    h3_run(&world, 10 * PH_SEC);
    CHECK(h3_log_is(log, "hello"));
    CHECK_INT(log->ends, ==, 1);
    CHECK_INT(log->closes, ==, 1);
    CHECK_INT(log->code, ==, PH_H3_NO_ERROR);
    CHECK_INT(world.requests[0]->closes, ==, 1);
    CHECK(world.requests[0]->clean);
    CHECK_INT(world.requests[0]->ends, ==, 0);
    CHECK_INT(world.stats.limit_cancel, ==, 0);
    h3_world_fini(&world);
}

TEST(sim_h3, client_reset_ends_the_exchange)
{
    struct h3_world world;
    h3_world_init(&world, 9, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *open = h3_send(&world, "POST", "/wait", NULL, 0, false);
    struct h3_log *whole = h3_send(&world, "GET", "/wait", NULL, 0, true);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(world.requests_count, ==, 2);
    ph_h3_request_reset(open->req, PH_H3_REQUEST_CANCELLED);
    ph_h3_request_reset(whole->req, PH_H3_REQUEST_CANCELLED);
    CHECK_INT(open->closes, ==, 0); /* never inside of the call */
    h3_run(&world, 5 * PH_SEC);
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(world.requests[i]->closes, ==, 1);
        CHECK(!world.requests[i]->clean);
        CHECK_INT(world.requests[i]->code, ==, PH_H3_REQUEST_CANCELLED);
        CHECK_INT(world.responses[i]->closes, ==, 1);
    }
    h3_world_fini(&world);
}

TEST(sim_h3, server_reset_reaches_the_client)
{
    struct h3_world world;
    h3_world_init(&world, 10, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "POST", "/reset", NULL, 0, false);
    struct h3_log *late = h3_send(&world, "GET", "/wait", NULL, 0, true);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(log->closes, ==, 1);
    CHECK_INT(log->code, ==, PH_H3_INTERNAL_ERROR);
    CHECK_INT(world.requests[0]->closes, ==, 1);
    CHECK(!world.requests[0]->clean);
    CHECK_INT(world.requests[0]->code, ==, PH_H3_INTERNAL_ERROR);
    struct ph_exchange *ex = world.requests[1]->ex;
    ph_exchange_respond(ex, 200, NULL, 0, false);
    ph_exchange_write(ex, ph_slice_of(ph_buf_copy("part", 4)), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK(h3_log_is(late, "part"));
    ph_exchange_reset(ex, PH_H3_INTERNAL_ERROR);
    CHECK_INT(world.requests[1]->closes, ==, 0); /* never inside of the call */
    CHECK_INT(ph_exchange_respond(ex, 200, NULL, 0, true), ==, PH_E_CLOSED);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(world.requests[1]->closes, ==, 1);
    CHECK_INT(late->closes, ==, 1);
    CHECK_INT(late->ends, ==, 0);
    h3_world_fini(&world);
}

TEST(sim_h3, app_that_wants_no_body_still_answers)
{
    struct h3_world world;
    uint8_t data[3000] = {0};
    h3_world_init(&world, 11, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "POST", "/hold", NULL, 0, false);
    ph_h3_request_data(log->req, data, sizeof(data), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(world.requests[0]->held, ==, sizeof(data));
    ph_exchange_stop(world.requests[0]->ex, PH_H3_NO_ERROR);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(world.requests[0]->closes, ==, 0);
    CHECK_INT(ph_exchange_respond(world.requests[0]->ex, 200, NULL, 0, true), ==, 0);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(log->status, ==, 200);
    CHECK_INT(log->ends, ==, 1);
    CHECK(world.requests[0]->clean);
    h3_world_fini(&world);
}

/* Unconsumed bodies stop the sender at the stream window; consuming lets the rest through. */
TEST(sim_h3, unread_body_holds_the_sender_back)
{
    enum { SIZE = 1000000 };
    struct h3_world world;
    h3_world_init(&world, 12, &quic_clean_link);
    world.server_config.body_timeout = 60 * PH_SEC;
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "POST", "/hold", NULL, 0, false);
    uint8_t *data = ph_alloc(SIZE);
    ph_h3_request_data(log->req, data, SIZE, true);
    ph_free(data);
    h3_run(&world, 5 * PH_SEC);
    struct h3_log *in = world.requests[0];
    CHECK_INT(in->held, <=, world.server_quic.stream_window);
    CHECK_INT(in->held, >, world.server_quic.stream_window / 2);
    for (int i = 0; i < 100 && in->ends == 0; i++) {
        ph_exchange_consume(in->ex, in->held);
        in->held = 0;
        h3_run(&world, 5 * PH_SEC);
    }
    CHECK_INT(in->ends, ==, 1);
    CHECK_INT(in->body_len, ==, SIZE);
    h3_world_fini(&world);
}

/* Bytes that an application never consumed do not shrink the connection's window for ever. */
TEST(sim_h3, credit_of_ended_requests_comes_back)
{
    enum { SIZE = 200000, ROUNDS = 30 };
    struct h3_world world;
    h3_world_init(&world, 13, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    uint8_t *data = ph_alloc(SIZE);
    for (int i = 0; i < ROUNDS; i++) {
        struct h3_log *log = h3_send(&world, "POST", "/hold", NULL, 0, false);
        CHECK_INT(ph_h3_request_data(log->req, data, SIZE, true), ==, 0);
        h3_run(&world, 5 * PH_SEC);
        struct h3_log *in = world.requests[i];
        CHECK_INT(in->body_len, ==, SIZE);
        CHECK_INT(in->ends, ==, 1);
        if (i % 3 == 0)
            ph_exchange_reset(in->ex, PH_H3_INTERNAL_ERROR);
        else
            CHECK_INT(ph_exchange_respond(in->ex, 200, NULL, 0, true), ==, 0);
        h3_run(&world, 5 * PH_SEC);
        CHECK_INT(in->closes, ==, 1);
    }
    ph_free(data);
    h3_world_fini(&world);
}

TEST(sim_h3, body_over_the_limit_is_413)
{
    struct h3_world world;
    uint8_t data[2000] = {0};
    static const struct ph_field length = H3_FIELD("content-length", "1001");
    h3_world_init(&world, 14, &quic_clean_link);
    world.server_config.max_body = 1000;
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *declared = h3_send(&world, "POST", "/echo", &length, 1, false);
    struct h3_log *sneaked = h3_send(&world, "POST", "/echo", NULL, 0, false);
    ph_h3_request_data(sneaked->req, data, 600, false);
    ph_h3_request_data(sneaked->req, data, 401, false);
    struct h3_log *fits = h3_send(&world, "POST", "/echo", NULL, 0, false);
    ph_h3_request_data(fits->req, data, 1000, true);
    h3_run(&world, 10 * PH_SEC);
    CHECK_INT(declared->status, ==, 413);
    CHECK_INT(declared->code, ==, PH_H3_NO_ERROR);
    CHECK_INT(sneaked->status, ==, 413);
    CHECK_INT(sneaked->ends, ==, 1);
    CHECK_INT(fits->status, ==, 200);
    CHECK_INT(fits->body_len, ==, 1000);
    CHECK_INT(world.stats.limit_body, ==, 2);
    CHECK_INT(world.requests_count, ==, 2); /* the declared one never reached the application */
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(world.requests[i]->closes, ==, 1);
        CHECK_INT(world.requests[i]->clean, ==, world.requests[i]->body_len == 1000);
    }
    h3_world_fini(&world);
}

TEST(sim_h3, head_over_the_limit_is_431)
{
    struct h3_world world;
    static const struct ph_field one = H3_FIELD("x-a", "1");
    struct ph_field many[101];
    for (size_t i = 0; i < PH_COUNT_OF(many); i++)
        many[i] = one;
    h3_world_init(&world, 15, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *fits = h3_send(&world, "GET", "/", many, 100, true);
    struct h3_log *over = h3_send(&world, "GET", "/", many, 101, true);
    h3_run(&world, 10 * PH_SEC);
    CHECK_INT(fits->status, ==, 200);
    CHECK_INT(over->status, ==, 431);
    CHECK_INT(world.stats.limit_head, ==, 1);
    CHECK_INT(world.requests_count, ==, 1);
    h3_world_fini(&world);
}

TEST(sim_h3, body_that_stands_still_is_given_up)
{
    struct h3_world world;
    h3_world_init(&world, 16, &quic_clean_link);
    world.server_config.body_timeout = 2 * PH_SEC;
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *still = h3_send(&world, "POST", "/echo", NULL, 0, false);
    ph_h3_request_data(still->req, (const uint8_t *)"x", 1, false);
    struct h3_log *unread = h3_send(&world, "POST", "/hold", NULL, 0, false);
    ph_h3_request_data(unread->req, (const uint8_t *)"x", 1, false);
    sim_run_for(world.sim, 5 * PH_SEC);
    CHECK_INT(still->closes, ==, 1);
    CHECK_INT(still->code, ==, PH_H3_REQUEST_INCOMPLETE);
    CHECK_INT(unread->closes, ==, 0); /* it is the application that waits */
    CHECK_INT(world.stats.timeouts_body, ==, 1);
    ph_exchange_consume(world.requests[1]->ex, 1);
    sim_run_for(world.sim, 5 * PH_SEC);
    CHECK_INT(unread->closes, ==, 1);
    CHECK_INT(world.stats.timeouts_body, ==, 2);
    h3_world_fini(&world);
}

/* What waits for a slow reader is not cut because the rest of its request does not come. */
TEST(sim_h3, body_that_stands_still_does_not_cut_a_complete_response)
{
    struct h3_world world;
    h3_world_init(&world, 18, &quic_clean_link);
    world.server_config.body_timeout = 2 * PH_SEC;
    world.hold_client = true;
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "POST", "/bytes/1000000", NULL, 0, false);
    ph_h3_request_data(log->req, (const uint8_t *)"x", 1, false);
    sim_run_for(world.sim, 10 * PH_SEC);
    CHECK_INT(log->body_len, >, 0);
    CHECK_INT(log->body_len, <, 1000000);
    CHECK_INT(log->closes, ==, 0);
    CHECK_INT(world.stats.timeouts_body, ==, 0);
    world.hold_client = false;
    ph_h3_request_consume(log->req, log->body_len);
    sim_run_for(world.sim, 5 * PH_SEC);
    CHECK(h3_log_is_pattern(log, 1000000));
    CHECK_INT(world.requests[0]->closes, ==, 1);
    CHECK(world.requests[0]->clean);
    h3_world_fini(&world);
}

TEST(sim_h3, drain_lets_requests_finish_and_closes)
{
    struct h3_world world;
    h3_world_init(&world, 17, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *before = h3_send(&world, "GET", "/wait", NULL, 0, true);
    h3_run(&world, 5 * PH_SEC);
    ph_h3_drain(world.server, world.sim->now);
    struct h3_log *crossing = h3_send(&world, "GET", "/", NULL, 0, true); /* GOAWAY is under way */
    h3_run(&world, 5 * PH_SEC);
    CHECK(h3_log_is(crossing, "hello"));
    struct h3_log *after = h3_send(&world, "GET", "/", NULL, 0, true);
    CHECK_INT(after->code, ==, PH_H3_REQUEST_REJECTED);
    CHECK_INT(world.conn_closes, ==, 0);
    CHECK_INT(before->closes, ==, 0);
    CHECK_INT(ph_exchange_respond(world.requests[0]->ex, 200, NULL, 0, true), ==, 0);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(before->status, ==, 200);
    CHECK_INT(before->code, ==, PH_H3_NO_ERROR);
    CHECK_INT(world.conn_closes, ==, 1);
    CHECK(world.requests[0]->clean);
    h3_world_fini(&world);
}

TEST(sim_h3, drain_closes_an_idle_connection_after_a_round_trip)
{
    struct h3_world world;
    h3_world_init(&world, 18, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    h3_run(&world, 2 * PH_SEC);
    ph_h3_drain(world.server, world.sim->now);
    sim_run_for(world.sim, 500 * PH_MSEC);
    CHECK_INT(world.conn_closes, ==, 1);
    CHECK_INT(world.stats.protocol_errors, ==, 0);
    h3_world_fini(&world);
}

TEST(sim_h3, a_held_connection_survives_the_drain)
{
    struct h3_world world;
    h3_world_init(&world, 19, &quic_clean_link);
    h3_world_use_ext(&world);
    h3_world_start(&world, H3_CLIENT);
    ph_h3_conn_hold(world.ext_conn, 1);
    ph_h3_drain(world.server, world.sim->now);
    CHECK(ph_h3_conn_is_draining(world.ext_conn));
    sim_run_for(world.sim, 2 * PH_SEC);
    CHECK_INT(world.conn_closes, ==, 0);
    ph_h3_conn_hold(world.ext_conn, -1);
    sim_run_for(world.sim, 2 * PH_SEC);
    CHECK_INT(world.conn_closes, ==, 1);
    h3_world_fini(&world);
}

TEST(sim_h3, client_drain_says_goaway_and_leaves)
{
    struct h3_world world;
    h3_world_init(&world, 20, &quic_clean_link);
    h3_world_use_ext(&world);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "GET", "/wait", NULL, 0, true);
    h3_run(&world, 2 * PH_SEC);
    ph_h3_drain(world.client, world.sim->now);
    h3_run(&world, 2 * PH_SEC);
    CHECK_INT(world.goaways, ==, 1);
    CHECK_INT(world.conn_closes, ==, 0);
    ph_exchange_respond(world.requests[0]->ex, 200, NULL, 0, true);
    h3_run(&world, 2 * PH_SEC);
    CHECK_INT(log->code, ==, PH_H3_NO_ERROR);
    CHECK_INT(world.conn_closes, ==, 1);
    h3_world_fini(&world);
}

TEST(sim_h3, connection_loss_ends_every_exchange)
{
    struct h3_world world;
    h3_world_init(&world, 21, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    h3_send(&world, "GET", "/wait", NULL, 0, true);
    h3_send(&world, "POST", "/hold", NULL, 0, false);
    h3_run(&world, 2 * PH_SEC);
    ph_quic_endpoint_close(world.client_node->ep, PH_H3_NO_ERROR, world.sim->now);
    h3_run(&world, 2 * PH_SEC);
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(world.requests[i]->closes, ==, 1);
        CHECK(!world.requests[i]->clean);
        CHECK_INT(world.responses[i]->closes, ==, 1);
    }
    CHECK_INT(world.conn_closes, ==, 1);
    h3_world_fini(&world);
}

/* 3000 requests on one connection leave no state behind (catalogue C13). */
TEST(sim_h3, C13_finished_streams_leave_nothing)
{
    struct h3_world world;
    int64_t streams = 0;
    h3_world_init(&world, 22, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    for (int i = 0; i < 60; i++) {
        for (int k = 0; k < 50; k++)
            h3_send(&world, "GET", "/", NULL, 0, true);
        h3_run(&world, 10 * PH_SEC);
        if (i == 0)
            streams = ph_live_get(PH_LIVE_H3_STREAM);
        CHECK_INT(ph_live_get(PH_LIVE_H3_STREAM), ==, streams);
        CHECK_INT(ph_live_get(PH_LIVE_EXCHANGE), ==, 0);
    }
    CHECK_INT(world.requests_count, ==, 3000);
    check_clean(&world);
    h3_world_fini(&world);
}

TEST(sim_h3, many_fields_arrive)
{
    struct h3_world world;
    static const struct ph_field one = H3_FIELD("x-a", "1");
    struct ph_field many[90];
    for (size_t i = 0; i < PH_COUNT_OF(many); i++)
        many[i] = one;
    h3_world_init(&world, 24, &quic_clean_link);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *log = h3_send(&world, "GET", "/wait", NULL, 0, true);
    h3_run(&world, 2 * PH_SEC);
    CHECK_INT(ph_exchange_respond(world.requests[0]->ex, 200, many, PH_COUNT_OF(many), true), ==,
              0);
    h3_run(&world, 2 * PH_SEC);
    CHECK_INT(log->status, ==, 200);
    check_clean(&world);
    h3_world_fini(&world);
}

/* Which of two large answers, asked for in this order, is complete first. */
static size_t first_of_two(const char *one, const char *two)
{
    struct sim_link slow = {.delay = 10 * PH_MSEC, .rate = 1000000};
    struct ph_field fields[] = {{"priority", one, 8, strlen(one)},
                                {"priority", two, 8, strlen(two)}};
    struct h3_world world;
    h3_world_init(&world, 25, &slow);
    h3_world_start(&world, H3_CLIENT);
    struct h3_log *logs[2];
    for (size_t i = 0; i < 2; i++)
        logs[i] =
            h3_send(&world, "GET", "/bytes/200000", &fields[i], fields[i].value_len > 0, true);
    while (logs[0]->ends == 0 && logs[1]->ends == 0)
        sim_run_for(world.sim, PH_MSEC);
    size_t first = logs[0]->ends > 0 ? 0 : 1;
    size_t other = logs[1 - first]->body_len;
    h3_run(&world, 20 * PH_SEC);
    CHECK(h3_log_is_pattern(logs[0], 200000) && h3_log_is_pattern(logs[1], 200000));
    CHECK_INT(other, <, 100000); /* not by a hair: the more urgent one went alone */
    h3_world_fini(&world);
    return first;
}

TEST(sim_h3, urgent_answers_go_first)
{
    CHECK_INT(first_of_two("u=6", "u=1"), ==, 1);
    CHECK_INT(first_of_two("u=1", "u=6"), ==, 0);
    CHECK_INT(first_of_two("u=5, i", ""), ==, 1); /* the default is 3 */
}

TEST(sim_h3, same_seed_same_trace)
{
    uint64_t trace[2] = {0};
    for (int i = 0; i < 2; i++) {
        struct h3_world world;
        h3_world_init(&world, 23, &lossy);
        h3_world_start(&world, H3_CLIENT);
        for (int k = 0; k < 10; k++)
            h3_send(&world, "GET", "/bytes/20000", NULL, 0, true);
        h3_run(&world, 60 * PH_SEC);
        check_clean(&world);
        trace[i] = world.sim->trace;
        h3_world_fini(&world);
    }
    CHECK(trace[0] == trace[1]);
}
