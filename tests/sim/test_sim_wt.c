/*
 * test_sim_wt.c - WebTransport between two stacks of this core over the simulated network:
 * sessions, streams and datagrams, every way to end, limits, waiting, loss of the connection.
 */
#include "../unit/test.h"
#include "wt_app.h"

#define OUTSIDE_RANGE 0x10c

static uint8_t bytes[4096];

/* Server's view of the client's first session. */
static struct wt_slog *theirs(const struct wt_pair *pair)
{
    return wt_app_session(&pair->server, 0);
}

static void quiet(struct wt_pair *pair)
{
    sim_run_for(pair->sim, 5 * PH_SEC);
}

/* Nothing of a finished session is left but the connection. */
static void check_no_objects(void)
{
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    CHECK_INT(ph_live_get(PH_LIVE_WT_SESSION), ==, 0);
}

/* --- Establishment --- */

TEST(sim_wt, session_opens_on_both_sides)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 1, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    CHECK(mine != NULL);
    CHECK_INT(pair.server.sessions_count, ==, 1);
    CHECK_INT(theirs(&pair)->id, ==, mine->id);
    CHECK_STR(theirs(&pair)->path, "/test");
    CHECK_INT(ph_wt_session_draft(mine->session), ==, 15);
    CHECK_INT(ph_wt_session_draft(theirs(&pair)->session), ==, 15);
    CHECK(ph_wt_session_has_datagrams(mine->session));
    CHECK_STR(ph_wt_session_head(theirs(&pair)->session)->protocol, "webtransport-h3");
    wt_pair_fini(&pair);
}

TEST(sim_wt, client_asks_nothing_before_the_settings)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 1, &wt_clean_link);
    wt_app_start(&pair.server);
    wt_app_start(&pair.client);
    pair.server_node = sim_node_new(pair.sim, &pair.server_config, &pair.server.quic_sink);
    pair.client_node = sim_node_new(pair.sim, &pair.client_config, &pair.client.quic_sink);
    wt_app_attach(&pair.server, pair.server_node);
    wt_app_attach(&pair.client, pair.client_node);
    CHECK_INT(sim_connect(pair.client_node, pair.server_node, pair.client_cred, &pair.quic), ==, 0);
    while (ph_h3_conn_of(pair.quic) == NULL)
        CHECK(sim_step(pair.sim, pair.sim->now + PH_SEC));
    if (pair.client.settings == 0)
        CHECK(wt_open_session(&pair, "/early") == NULL);
    wt_pair_fini(&pair);
}

TEST(sim_wt, server_without_webtransport_is_refused)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 1, &wt_clean_link);
    pair.server.h3_config.webtransport = false;
    CHECK(wt_pair_connect(&pair));
    CHECK(wt_open_session(&pair, "/") == NULL);
    wt_pair_fini(&pair);
}

TEST(sim_wt, server_without_datagrams_is_refused)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 1, &wt_clean_link);
    pair.server_config.max_datagram_frame = 0;
    CHECK(wt_pair_connect(&pair));
    CHECK(wt_open_session(&pair, "/") == NULL);
    wt_pair_fini(&pair);
}

TEST(sim_wt, subprotocol_is_negotiated)
{
    static const char *const offered[] = {"chat.v2", "chat.v1"};
    struct wt_pair pair;
    wt_pair_init(&pair, 1, &wt_clean_link);
    pair.server.subprotocol = "chat.v1";
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session_with(&pair, "/", NULL, 0, offered, 2);
    CHECK(wt_run(&pair, wt_is_ready, mine));
    CHECK_STR(mine->subprotocol, "chat.v1");
    size_t n;
    const char *const *list = ph_wt_session_offered(theirs(&pair)->session, &n);
    CHECK_INT(n, ==, 2);
    CHECK_STR(list[0], "chat.v2");
    CHECK_STR(list[1], "chat.v1");
    wt_pair_fini(&pair);
}

TEST(sim_wt, accept_refuses_what_was_not_offered_and_reserved_fields)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 1, &wt_clean_link);
    pair.server.answer = WT_ANSWER_LATER;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    CHECK(wt_run(&pair, wt_has_session, &pair.server));
    struct ph_wt_session *session = theirs(&pair)->session;
    static const struct ph_field bad[] = {
        {":status", "200", 7, 3}, {"wt-protocol", "\"a\"", 11, 3}, {"connection", "close", 10, 5},
        {"x\ny", "1", 3, 1},      {"x-a", "1\r\n", 3, 3},          {"WT-Protocol", "\"a\"", 11, 3},
    };
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++)
        CHECK_INT(ph_wt_session_accept(session, &bad[i], 1, NULL), ==, PH_E_INVAL);
    CHECK_INT(ph_wt_session_accept(session, NULL, 0, "zzz"), ==, PH_E_INVAL);
    CHECK_INT(ph_wt_session_close(session, 0, "", 0), ==, PH_E_STATE);
    CHECK(ph_wt_session_open(session, true, NULL) == NULL);
    static const struct ph_field good = {"X-Answer", "42", 8, 2};
    CHECK_INT(ph_wt_session_accept(session, &good, 1, NULL), ==, 0);
    CHECK_INT(ph_wt_session_accept(session, NULL, 0, NULL), ==, PH_E_STATE);
    CHECK(wt_run(&pair, wt_is_ready, mine));
    wt_pair_fini(&pair);
}

TEST(sim_wt, rejection_is_an_ordinary_response)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 1, &wt_clean_link);
    pair.server.answer = WT_ANSWER_REJECT;
    pair.server.reject_status = 404;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    CHECK(wt_run(&pair, wt_is_closed, mine));
    CHECK_INT(mine->end.status, ==, 404);
    CHECK(!mine->end.clean && !mine->end.local);
    CHECK_INT(mine->ready, ==, 0);
    CHECK_INT(pair.server.exchanges, ==, 1);
    quiet(&pair);
    check_no_objects();
    wt_pair_fini(&pair);
}

TEST(sim_wt, foreign_origin_is_refused_without_asking)
{
    static const struct ph_field evil = {"origin", "https://evil.example", 6, 20};
    struct wt_pair pair;
    wt_pair_init(&pair, 1, &wt_clean_link);
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session_with(&pair, "/", &evil, 1, NULL, 0);
    CHECK(wt_run(&pair, wt_is_closed, mine));
    CHECK_INT(mine->end.status, ==, 403);
    CHECK_INT(pair.server.sessions_count, ==, 0);
    CHECK_INT(pair.server.stats.origins_refused, ==, 1);
    wt_pair_fini(&pair);
}

TEST(sim_wt, an_answer_that_does_not_come_is_503)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 1, &wt_clean_link);
    pair.server.answer = WT_ANSWER_LATER;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    CHECK(wt_run(&pair, wt_is_closed, mine));
    CHECK_INT(mine->end.status, ==, 503);
    CHECK_INT(pair.server.stats.timeouts_accept, ==, 1);
    CHECK_INT(theirs(&pair)->closed, ==, 1);
    CHECK(!theirs(&pair)->end.clean);
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_second_session_is_refused_while_the_first_lives)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 1, &wt_clean_link);
    struct wt_slog *first = wt_pair_session(&pair);
    struct wt_slog *second = wt_open_session(&pair, "/second");
    CHECK(wt_run(&pair, wt_is_closed, second));
    CHECK_INT(second->end.status, ==, 0);
    CHECK_INT(pair.server.sessions_count, ==, 1);
    CHECK_INT(pair.server.stats.limit_sessions, ==, 1);
    ph_wt_session_close(first->session, 0, "", 0);
    CHECK(wt_run(&pair, wt_is_closed, first));
    struct wt_slog *third = wt_open_session(&pair, "/third");
    CHECK(wt_run(&pair, wt_is_ready, third));
    wt_pair_fini(&pair);
}

/* --- Streams --- */

/* One stream of either kind from `from`, echoed by the other side. */
static void echo_once(struct wt_pair *pair, struct wt_app *from, struct wt_app *to, bool bidi)
{
    to->echo = true;
    struct wt_slog *session = wt_app_session(from, 0);
    size_t before = from->streams_count;
    struct wt_log *log = wt_open_stream(session, bidi);
    CHECK(log != NULL);
    wt_write_pattern(log, 100000, 7, true);
    CHECK(wt_run(pair, wt_stream_is_closed, log));
    struct wt_log *back = bidi ? log : wt_app_stream(from, before + 1);
    CHECK(back != NULL && wt_run(pair, wt_has_fin, back));
    CHECK(wt_is_pattern(back, 100000, 7));
    struct wt_log *there = wt_app_stream_by_id(to, log->id);
    CHECK(wt_is_pattern(there, 100000, 7));
    CHECK_INT(there->bidi, ==, bidi);
    CHECK_INT(ph_quic_id_is_uni(log->id), ==, !bidi);
    to->echo = false;
}

TEST(sim_wt, streams_of_both_kinds_in_both_directions)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 2, &wt_clean_link);
    CHECK(wt_pair_session(&pair) != NULL);
    echo_once(&pair, &pair.client, &pair.server, true);
    echo_once(&pair, &pair.client, &pair.server, false);
    echo_once(&pair, &pair.server, &pair.client, true);
    echo_once(&pair, &pair.server, &pair.client, false);
    quiet(&pair);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_hundred_streams_in_parallel)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 3, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    pair.server.echo = true;
    for (size_t i = 0; i < 100; i++)
        wt_write_pattern(wt_open_stream(mine, true), 1000 + 37 * i, i, true);
    CHECK(wt_run(&pair, wt_all_closed, &pair.client));
    for (size_t i = 0; i < 100; i++)
        CHECK(wt_is_pattern(wt_app_stream(&pair.client, i), 1000 + 37 * i, i));
    CHECK_INT(pair.server.streams_count, ==, 100);
    wt_pair_fini(&pair);
}

TEST(sim_wt, streams_wait_for_the_peers_limit_in_order)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 3, &wt_clean_link);
    pair.server_config.max_streams_bidi = 4; /* one of them is the session */
    struct wt_slog *mine = wt_pair_session(&pair);
    pair.server.echo = true;
    for (size_t i = 0; i < 20; i++)
        wt_write_pattern(wt_open_stream(mine, true), 3000, i, true);
    CHECK_INT(wt_app_stream(&pair.client, 2)->opened, ==, true);
    CHECK_INT(wt_app_stream(&pair.client, 3)->opened, ==, false);
    CHECK_INT(ph_wt_stream_id(wt_app_stream(&pair.client, 3)->stream), ==, UINT64_MAX);
    CHECK(wt_run(&pair, wt_all_closed, &pair.client));
    for (size_t i = 0; i < 20; i++) {
        CHECK(wt_is_pattern(wt_app_stream(&pair.client, i), 3000, i));
        CHECK_INT(wt_app_stream(&pair.client, i)->id, ==, 4 + 4 * i);
    }
    wt_pair_fini(&pair);
}

TEST(sim_wt, waiting_streams_can_be_reset_stopped_and_ended_with_the_session)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 3, &wt_clean_link);
    pair.server_config.max_streams_bidi = 2;
    struct wt_slog *mine = wt_pair_session(&pair);
    pair.server.hold = true; /* keeps its one stream open */
    struct wt_log *first = wt_open_stream(mine, true), *second = wt_open_stream(mine, true),
                  *third = wt_open_stream(mine, true);
    wt_write(first, "x", 1, false);
    wt_write(second, "never sent", 10, false);
    ph_wt_stream_reset(second->stream, 9);
    CHECK_INT(second->acked, ==, 10);
    CHECK(!second->closed); /* the peer may still answer */
    wt_write(third, "waits", 5, true);
    quiet(&pair);
    CHECK(!second->opened && !third->opened);
    ph_wt_stream_reset(first->stream, 1);
    ph_wt_stream_stop(first->stream, 1);
    quiet(&pair);
    CHECK(first->closed && !second->opened); /* the server has not taken its final event */
    struct wt_log *there = wt_app_stream_by_id(&pair.server, first->id);
    CHECK(there->closed);
    ph_wt_session_stream_done(theirs(&pair)->session, true);
    quiet(&pair);
    CHECK(second->opened && !second->closed && !third->opened);
    there = wt_app_stream_by_id(&pair.server, second->id);
    CHECK(there->reset && there->has_code && there->rx_len == 0);
    CHECK_INT(there->code, ==, 9);
    ph_wt_session_close(mine->session, 0, "", 0);
    CHECK(third->closed && !third->opened);
    CHECK(wt_run(&pair, wt_is_closed, mine));
    wt_pair_fini(&pair);
}

/* RFC 9000 4.6: they would wait for credit for as long as the session lives, and then burn it. */
TEST(sim_wt, waiting_streams_that_are_abandoned_end_at_once)
{
    for (size_t bidi = 0; bidi < 2; bidi++) {
        struct wt_pair pair;
        wt_pair_init(&pair, 3, &wt_clean_link);
        pair.server_config.max_streams_bidi = 101; /* the session */
        pair.server_config.max_streams_uni = 101;  /* the control stream */
        struct wt_slog *mine = wt_pair_session(&pair);
        pair.server.hold = true;
        int64_t before = ph_live_get(PH_LIVE_WT_STREAM);
        for (size_t i = 0; i < 310; i++)
            wt_write(wt_open_stream(mine, bidi == 1), "abc", 3, i < 100 || i >= 300);
        quiet(&pair);
        CHECK_INT(pair.server.streams_count, ==, 100);
        int64_t open = ph_live_get(PH_LIVE_WT_STREAM);
        for (size_t i = 100; i < 300; i++) {
            struct wt_log *log = wt_app_stream(&pair.client, i);
            CHECK(!log->opened);
            ph_wt_stream_reset(log->stream, 1);
            CHECK_INT(log->acked, ==, 3);
            CHECK_INT(log->closed, ==, bidi == 0);
            if (bidi == 1)
                ph_wt_stream_stop(log->stream, 2);
            CHECK(log->closed && !log->opened);
        }
        quiet(&pair);
        CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, open - 200);
        CHECK_INT(open - 200, <=, before + 210);
        for (size_t i = 0; i < 100; i++) {
            struct wt_log *there = wt_app_stream(&pair.server, i);
            if (bidi == 1)
                wt_write(there, NULL, 0, true);
        }
        quiet(&pair);
        for (size_t i = 0; i < 20; i++)
            ph_wt_session_stream_done(theirs(&pair)->session, bidi == 1);
        quiet(&pair);
        CHECK_INT(pair.server.streams_count, ==, 110); /* those that still waited, and no other */
        for (size_t i = 300; i < 310; i++)
            CHECK(wt_app_stream(&pair.client, i)->opened);
        wt_pair_fini(&pair);
    }
}

TEST(sim_wt, reset_and_stop_carry_their_codes)
{
    static const uint32_t codes[] = {0, 1, 29, 30, 255, 0x80000000, 0xffffffff};
    struct wt_pair pair;
    wt_pair_init(&pair, 4, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    for (size_t i = 0; i < PH_COUNT_OF(codes); i++) {
        struct wt_log *reset = wt_open_stream(mine, true), *stop = wt_open_stream(mine, true);
        wt_write(reset, "abc", 3, false);
        wt_write(stop, "abc", 3, false);
        sim_run_for(pair.sim, PH_SEC);
        ph_wt_stream_reset(reset->stream, codes[i]);
        ph_wt_stream_stop(stop->stream, codes[i]);
        sim_run_for(pair.sim, PH_SEC);
        struct wt_log *there = wt_app_stream_by_id(&pair.server, reset->id);
        CHECK(there->reset && !there->fin && there->has_code);
        CHECK_INT(there->code, ==, codes[i]);
        CHECK(!there->stopped && !there->closed); /* the other direction lives */
        wt_write(there, "still", 5, true);
        there = wt_app_stream_by_id(&pair.server, stop->id);
        CHECK(there->stopped && !there->reset && there->has_code);
        CHECK_INT(there->code, ==, codes[i]);
        sim_run_for(pair.sim, PH_SEC);
        CHECK(reset->fin && reset->rx_len == 5);
    }
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_reset_at_once_still_names_its_session)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 4, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    struct wt_log *log = wt_open_stream(mine, false);
    wt_write_pattern(log, 50000, 1, false);
    ph_wt_stream_reset(log->stream, 42);
    CHECK_INT(log->acked, ==, 50000);
    CHECK(wt_run(&pair, wt_stream_is_closed, log));
    struct wt_log *there = wt_app_stream_by_id(&pair.server, log->id);
    CHECK(there != NULL && there->reset && there->has_code);
    CHECK_INT(there->code, ==, 42);
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_reset_at_once_names_its_session_when_the_first_packet_is_lost)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 4, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    struct wt_log *log = wt_open_stream(mine, true);
    wt_write(log, "data", 4, false);
    ph_wt_stream_reset(log->stream, 43);
    pair.client_node->link.blackout_from = pair.sim->now;
    pair.client_node->link.blackout_to = pair.sim->now + 60 * PH_MSEC;
    sim_run_for(pair.sim, 2 * PH_SEC);
    struct wt_log *there = wt_app_stream_by_id(&pair.server, log->id);
    CHECK(there != NULL && there->reset && there->has_code);
    CHECK_INT(there->code, ==, 43);
    wt_pair_fini(&pair);
}

TEST(sim_wt, writes_after_the_end_are_refused_and_after_a_stop_swallowed)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 4, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    struct wt_log *ended = wt_open_stream(mine, false), *log = wt_open_stream(mine, true);
    wt_write(ended, "a", 1, true);
    struct ph_slice slice = ph_slice_of(ph_buf_copy("b", 1));
    CHECK_INT(ph_wt_stream_write(ended->stream, slice, false), ==, PH_E_STATE);
    wt_write(log, "a", 1, false);
    sim_run_for(pair.sim, PH_SEC);
    struct wt_log *there = wt_app_stream_by_id(&pair.server, log->id);
    wt_write(there, "first", 5, false);
    ph_wt_stream_stop(log->stream, 3);
    sim_run_for(pair.sim, PH_SEC);
    CHECK(there->stopped);
    wt_write(there, "swallowed", 9, false);
    CHECK_INT(there->acked, ==, there->written);
    CHECK_INT(pair.server.stats.writes_discarded, ==, 9);
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_peers_unidirectional_stream_cannot_be_written)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 4, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    struct wt_log *log = wt_open_stream(mine, false);
    wt_write(log, "a", 1, false);
    sim_run_for(pair.sim, PH_SEC);
    struct wt_log *there = wt_app_stream(&pair.server, 0);
    struct ph_slice slice = ph_slice_of(ph_buf_copy("b", 1));
    CHECK_INT(ph_wt_stream_write(there->stream, slice, false), ==, PH_E_STATE);
    ph_wt_stream_reset(there->stream, 1); /* nothing to reset */
    ph_wt_stream_stop(log->stream, 1);    /* nothing to stop */
    wt_write(log, "b", 1, true);
    sim_run_for(pair.sim, PH_SEC);
    CHECK(there->fin && there->rx_len == 2);
    wt_pair_fini(&pair);
}

TEST(sim_wt, after_our_stop_neither_data_nor_reset_comes)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 4, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    struct wt_log *log = wt_open_stream(mine, false);
    wt_write(log, "one", 3, false);
    sim_run_for(pair.sim, PH_SEC);
    struct wt_log *there = wt_app_stream(&pair.server, 0);
    ph_wt_stream_stop(there->stream, 5);
    wt_write_pattern(log, 20000, 1, false); /* crosses it */
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(there->rx_len, ==, 3);
    CHECK(!there->reset && !there->fin && there->closed);
    CHECK(log->stopped && log->code == 5 && log->closed);
    wt_pair_fini(&pair);
}

/* --- Datagrams --- */

static bool has_ten_datagrams(void *slog)
{
    return ((struct wt_slog *)slog)->datagrams_count >= 10;
}

TEST(sim_wt, datagrams_go_both_ways_and_keep_their_bounds)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 6, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    pair.server.echo = true;
    size_t max = ph_wt_session_max_datagram(mine->session);
    CHECK_INT(max, >, 1000);
    for (size_t i = 0; i < 10; i++)
        CHECK_INT(wt_send_datagram(mine, bytes, i == 9 ? max : i * 100), ==, 0);
    CHECK(wt_run(&pair, has_ten_datagrams, mine));
    for (size_t i = 0; i < 9; i++)
        CHECK_INT(theirs(&pair)->datagrams[i].n, ==, i * 100); /* the empty one included */
    CHECK_INT(theirs(&pair)->datagrams[9].n, ==, max);
    CHECK_INT(mine->datagrams_left, ==, 10);
    CHECK_INT(pair.server.stats.datagrams_in, ==, 10);
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_datagram_above_the_maximum_is_refused_here)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 6, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    size_t max = ph_wt_session_max_datagram(mine->session);
    CHECK_INT(wt_send_datagram(mine, bytes, max + 1), ==, PH_E_TOOBIG);
    CHECK_INT(pair.client.stats.datagrams_out_toobig, ==, 1);
    CHECK_INT(wt_send_datagram(mine, bytes, max), ==, 0);
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(theirs(&pair)->datagrams_count, ==, 1);
    wt_pair_fini(&pair);
}

/* As many as there is room for, in number or in bytes, and then one more and five. */
TEST(sim_wt, the_outbound_queue_drops_its_oldest)
{
    static const struct {
        uint32_t entries, bytes;
        size_t room;
    } cases[] = {{64, 256 * 1024, 64}, {10, 40, 10}, {64, 40, 10}, {64, 43, 10}};
    for (size_t k = 0; k < PH_COUNT_OF(cases); k++) {
        struct wt_pair pair;
        wt_pair_init(&pair, 6, &wt_clean_link);
        pair.client.wt_config.datagrams_out = cases[k].entries;
        pair.client.wt_config.datagram_bytes_out = cases[k].bytes;
        struct wt_slog *mine = wt_pair_session(&pair);
        size_t room = cases[k].room;
        for (size_t i = 0; i < room + 5; i++) {
            uint8_t number[4];
            ph_u32_put(number, (uint32_t)i);
            CHECK_INT(wt_send_datagram(mine, number, sizeof number), ==, 0);
            size_t dropped = i < room ? 0 : i + 1 - room;
            CHECK_INT(mine->datagrams_left, ==, dropped);
            CHECK_INT(pair.client_node->stats.datagrams_out_dropped, ==, dropped);
        }
        sim_run_for(pair.sim, PH_SEC);
        CHECK_INT(theirs(&pair)->datagrams_count, ==, room);
        CHECK_INT(ph_u32_get(theirs(&pair)->datagrams[0].data), ==, 5);
        CHECK_INT(mine->datagrams_left, ==, room + 5);
        wt_pair_fini(&pair);
    }
}

/* --- Close --- */

static void check_end(const struct wt_slog *slog, bool clean, bool local, uint32_t code,
                      const char *reason)
{
    CHECK_INT(slog->closed, ==, 1);
    CHECK_INT(slog->end.clean, ==, clean);
    CHECK_INT(slog->end.local, ==, local);
    CHECK_INT(slog->end.code, ==, code);
    CHECK_STR(slog->reason, reason);
}

TEST(sim_wt, close_from_the_client_reaches_the_server)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 7, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    CHECK_INT(ph_wt_session_close(mine->session, 0xfffffffe, "gr\xc3\xbc\xc3\x9f", 6), ==, 0);
    CHECK_INT(ph_wt_session_close(mine->session, 1, "second", 6), ==, 0); /* does nothing */
    CHECK(ph_wt_session_open(mine->session, true, NULL) == NULL);
    CHECK_INT(wt_send_datagram(mine, "x", 1), ==, PH_E_CLOSED);
    CHECK(wt_run(&pair, wt_is_closed, mine));
    check_end(mine, true, true, 0xfffffffe, "gr\xc3\xbc\xc3\x9f");
    check_end(theirs(&pair), true, false, 0xfffffffe, "gr\xc3\xbc\xc3\x9f");
    quiet(&pair);
    check_no_objects();
    wt_pair_fini(&pair);
}

TEST(sim_wt, close_from_the_server_reaches_the_client)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 7, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    ph_wt_session_close(theirs(&pair)->session, 1234, "bye", 3);
    CHECK(wt_run(&pair, wt_is_closed, theirs(&pair)));
    check_end(theirs(&pair), true, true, 1234, "bye");
    check_end(mine, true, false, 1234, "bye");
    wt_pair_fini(&pair);
}

TEST(sim_wt, simultaneous_close_keeps_each_sides_own_words)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 7, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    ph_wt_session_close(mine->session, 1, "client", 6);
    ph_wt_session_close(theirs(&pair)->session, 2, "server", 6);
    CHECK(wt_run(&pair, wt_is_closed, mine));
    CHECK(wt_run(&pair, wt_is_closed, theirs(&pair)));
    check_end(mine, true, true, 1, "client");
    check_end(theirs(&pair), true, true, 2, "server");
    quiet(&pair);
    check_no_objects();
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_reason_that_is_no_utf8_is_refused_and_a_long_one_cut)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 7, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    char reason[1200];
    CHECK_INT(ph_wt_session_close(mine->session, 1, "\xff", 1), ==, PH_E_INVAL);
    for (size_t i = 0; i < sizeof reason; i += 3)
        memcpy(reason + i, "\xe2\x82\xac", 3);
    CHECK_INT(ph_wt_session_close(mine->session, 1, reason, sizeof reason), ==, 0);
    CHECK(wt_run(&pair, wt_is_closed, mine));
    CHECK_INT(mine->end.reason_len, ==, 1023);
    CHECK_INT(theirs(&pair)->end.reason_len, ==, 1023);
    CHECK_MEM(theirs(&pair)->reason, reason, 1023);
    wt_pair_fini(&pair);
}

TEST(sim_wt, close_ends_running_streams_on_both_sides)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 7, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    for (size_t i = 0; i < 10; i++) {
        wt_write_pattern(wt_open_stream(mine, i % 2 == 0), 200000, i, false);
        wt_write_pattern(wt_open_stream(theirs(&pair), i % 2 == 0), 200000, i, false);
    }
    sim_run_for(pair.sim, 30 * PH_MSEC);
    ph_wt_session_close(theirs(&pair)->session, 3, "enough", 6);
    CHECK_INT(theirs(&pair)->streams_alive, ==, 0);
    CHECK(wt_run(&pair, wt_is_closed, mine));
    check_end(mine, true, false, 3, "enough");
    quiet(&pair);
    check_no_objects();
    CHECK_INT(ph_live_get(PH_LIVE_QUIC_STREAM), <=, 8); /* control streams only */
    wt_pair_fini(&pair);
}

TEST(sim_wt, the_owner_may_close_inside_any_stream_event)
{
    for (int what = 0; what < 3; what++) {
        struct wt_pair pair;
        wt_pair_init(&pair, 7, &wt_clean_link);
        struct wt_slog *mine = wt_pair_session(&pair);
        pair.server.close_on_stream = what == 0;
        pair.server.close_on_data = what == 1;
        pair.server.reset_on_closed_stream = what == 2;
        for (size_t i = 0; i < 5; i++)
            wt_write_pattern(wt_open_stream(mine, false), 3000, i, true);
        CHECK(wt_run(&pair, wt_is_closed, mine));
        CHECK(wt_run(&pair, wt_is_closed, theirs(&pair)));
        CHECK_INT(mine->end.clean, ==, what != 2);
        quiet(&pair);
        check_no_objects();
        wt_pair_fini(&pair);
    }
}

TEST(sim_wt, reset_is_an_unclean_end_for_both)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 7, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    wt_write_pattern(wt_open_stream(mine, true), 1000, 1, false);
    sim_run_for(pair.sim, PH_SEC);
    ph_wt_session_reset(theirs(&pair)->session, PH_H3_INTERNAL_ERROR);
    check_end(theirs(&pair), false, true, 0, "");
    CHECK(wt_run(&pair, wt_is_closed, mine));
    check_end(mine, false, false, 0, "");
    quiet(&pair);
    check_no_objects();
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_close_that_nobody_answers_ends_in_time)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 7, &wt_clean_link);
    CHECK(wt_pair_session(&pair) != NULL);
    pair.client_node->link.loss = 1000;
    uint64_t start = pair.sim->now;
    ph_wt_session_close(theirs(&pair)->session, 9, "alone", 5);
    CHECK(wt_run(&pair, wt_is_closed, theirs(&pair)));
    CHECK_INT(pair.sim->now - start, <=, pair.server.wt_config.close_timeout);
    check_end(theirs(&pair), true, true, 9, "alone");
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_lost_connection_ends_streams_then_sessions)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 7, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    for (size_t i = 0; i < 5; i++) {
        wt_write_pattern(wt_open_stream(mine, true), 5000, i, i % 2 == 0);
        wt_write_pattern(wt_open_stream(theirs(&pair), false), 5000, i, i % 2 == 0);
    }
    sim_run_for(pair.sim, 15 * PH_MSEC);
    ph_quic_conn_close(pair.quic, PH_H3_NO_ERROR, "");
    CHECK(wt_run(&pair, wt_is_closed, mine));
    CHECK(wt_run(&pair, wt_is_closed, theirs(&pair)));
    check_end(mine, false, false, 0, "");
    check_end(theirs(&pair), false, false, 0, "");
    sim_run_for(pair.sim, PH_SEC);
    check_no_objects();
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_vanished_peer_is_noticed_by_the_idle_timeout)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 7, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    wt_write(wt_open_stream(mine, true), "x", 1, false);
    sim_run_for(pair.sim, PH_SEC);
    pair.client_node->link.loss = 1000;
    sim_run_for(pair.sim, pair.server_config.idle_timeout + PH_SEC);
    CHECK_INT(theirs(&pair)->closed, ==, 1);
    CHECK(!theirs(&pair)->end.clean);
    wt_pair_fini(&pair);
}

/* --- Drain --- */

TEST(sim_wt, drain_is_told_and_the_session_goes_on)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 8, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    CHECK_INT(ph_wt_session_drain(theirs(&pair)->session), ==, 0);
    CHECK_INT(ph_wt_session_drain(theirs(&pair)->session), ==, 0); /* once on the wire */
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(mine->drains_peer, ==, 1);
    CHECK_INT(ph_wt_session_drain(mine->session), ==, 0);
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(theirs(&pair)->drains_peer, ==, 1);
    echo_once(&pair, &pair.client, &pair.server, true);
    echo_once(&pair, &pair.server, &pair.client, false);
    wt_pair_fini(&pair);
}

TEST(sim_wt, shutting_down_tells_both_ends_of_every_session)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 8, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    ph_wt_drain(pair.server.wt);
    ph_h3_drain(pair.server.h3, pair.sim->now);
    CHECK_INT(theirs(&pair)->drains_local, ==, 1);
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(mine->drains_peer, ==, 1); /* capsule and GOAWAY, told once */
    CHECK(wt_open_session(&pair, "/late") == NULL);
    echo_once(&pair, &pair.client, &pair.server, true); /* it lives on */
    ph_wt_session_close(mine->session, 0, "", 0);
    CHECK(wt_run(&pair, wt_is_closed, mine));
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 0); /* the last one let go */
    wt_pair_fini(&pair);
}

TEST(sim_wt, shutting_down_does_not_wait_for_a_peer_that_left_after_its_close)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 8, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    ph_wt_session_close(mine->session, 0, "", 0);
    CHECK(wt_run(&pair, wt_is_closed, theirs(&pair)));
    pair.client_node->link.loss = pair.server_node->link.loss = 1000;
    ph_wt_drain(pair.server.wt);
    ph_h3_drain(pair.server.h3, pair.sim->now);
    sim_run_for(pair.sim, 500 * PH_MSEC); /* close_timeout is two seconds */
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 0);
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_session_accepted_while_shutting_down_is_told_at_once)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 8, &wt_clean_link);
    pair.server.answer = WT_ANSWER_LATER;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    CHECK(wt_run(&pair, wt_has_session, &pair.server));
    ph_wt_drain(pair.server.wt);
    CHECK_INT(theirs(&pair)->drains_local, ==, 0);
    CHECK_INT(ph_wt_session_accept(theirs(&pair)->session, NULL, 0, NULL), ==, 0);
    CHECK_INT(theirs(&pair)->drains_local, ==, 1);
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(mine->ready, ==, 1);
    CHECK_INT(mine->drains_peer, ==, 1);
    wt_pair_fini(&pair);
}

/* --- Soak --- */

static const struct sim_link bad_link = {.delay = 15 * PH_MSEC,
                                         .jitter = 4 * PH_MSEC,
                                         .loss = 40,
                                         .duplicate = 30,
                                         .corrupt = 20,
                                         .reorder = 60,
                                         .reorder_delay = 9 * PH_MSEC};

enum { SOAK_STREAMS = 8, SOAK_DATAGRAMS = 20 };

static size_t soak_size(uint64_t seed, size_t i)
{
    struct sim_rng rng = {.state = seed * 131 + i};
    return sim_rng_below(&rng, 20000);
}

static const char *soak(uint64_t seed)
{
    struct wt_pair pair;
    const char *wrong = NULL;
    wt_pair_init(&pair, seed, &bad_link);
    pair.server.echo = true;
    struct wt_slog *mine = wt_pair_session(&pair);
    if (mine == NULL) {
        wt_pair_fini(&pair);
        return "no session";
    }
    for (size_t i = 0; i < SOAK_STREAMS; i++)
        wt_write_pattern(wt_open_stream(mine, true), soak_size(seed, i), seed + i, true);
    for (size_t i = 0; i < SOAK_DATAGRAMS; i++) {
        uint8_t number[4];
        ph_u32_put(number, (uint32_t)i);
        wt_send_datagram(mine, number, 4);
        sim_run_for(pair.sim, 3 * PH_MSEC);
    }
    if (!wt_run(&pair, wt_all_closed, &pair.client))
        wrong = "streams did not end";
    for (size_t i = 0; i < SOAK_STREAMS && wrong == NULL; i++) {
        const struct wt_log *log = wt_app_stream(&pair.client, i);
        if (!log->fin || !wt_is_pattern(log, soak_size(seed, i), seed + i))
            wrong = "bytes differ";
    }
    bool seen[SOAK_DATAGRAMS] = {false};
    for (size_t i = 0; i < mine->datagrams_count && wrong == NULL; i++) {
        const struct wt_datagram_log *log = &mine->datagrams[i];
        uint32_t number = log->n == 4 ? ph_u32_get(log->data) : SOAK_DATAGRAMS;
        if (number >= SOAK_DATAGRAMS || seen[number])
            wrong = "a datagram was changed or doubled";
        else
            seen[number] = true;
    }
    ph_wt_session_close(mine->session, 17, "soaked", 6);
    if (wrong == NULL && !wt_run(&pair, wt_is_closed, theirs(&pair)))
        wrong = "the close did not arrive";
    if (wrong == NULL && (theirs(&pair)->end.code != 17 || !theirs(&pair)->end.clean))
        wrong = "the close arrived changed";
    wt_pair_fini(&pair);
    return wrong;
}

TEST(sim_wt, a_hundred_bad_networks_change_nothing)
{
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t seed = ph_test_seed() * 1000 + i;
        const char *wrong = soak(seed);
        if (wrong != NULL)
            ph_test_fail(__FILE__, __LINE__, "seed %llu: %s", (unsigned long long)seed, wrong);
    }
}
