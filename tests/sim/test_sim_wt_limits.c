/*
 * test_sim_wt_limits.c - WebTransport between two stacks: receive credit and stream credit follow
 * the application, and what comes before the answer is held within its limits.
 */
#include "../unit/test.h"
#include "wt_app.h"
#include "wt_raw.h"

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

/* --- Credit --- */

TEST(sim_wt, a_reader_that_does_not_consume_stops_the_writer_within_the_window)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 5, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    pair.server.hold = true;
    struct wt_log *log = wt_open_stream(mine, false);
    wt_write_pattern(log, 2000000, 1, true);
    quiet(&pair);
    struct wt_log *there = wt_app_stream(&pair.server, 0);
    CHECK_INT(there->rx_len, <=, pair.server_config.stream_window);
    CHECK_INT(there->rx_len, >, pair.server_config.stream_window - 16);
    pair.server.hold = false;
    wt_consume_held(there);
    CHECK(wt_run(&pair, wt_has_fin, there));
    CHECK(wt_is_pattern(there, 2000000, 1));
    wt_pair_fini(&pair);
}

TEST(sim_wt, unread_bytes_of_closed_streams_hold_the_connection_window)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 5, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    pair.server.hold = true;
    for (size_t i = 0; i < 40; i++) {
        wt_write_pattern(wt_open_stream(mine, false), 60000, i, true);
        sim_run_for(pair.sim, 100 * PH_MSEC);
    }
    size_t total = 0, closed = 0;
    for (size_t i = 0; i < pair.server.streams_count; i++) {
        total += wt_app_stream(&pair.server, i)->rx_len;
        closed += wt_app_stream(&pair.server, i)->closed;
    }
    CHECK_INT(total, <=, pair.server_config.conn_window);
    CHECK_INT(closed, >=, 10);
    pair.server.hold = false;
    for (size_t i = 0; i < pair.server.streams_count; i++)
        wt_consume_held(wt_app_stream(&pair.server, i));
    CHECK(wt_run(&pair, wt_all_closed, &pair.client));
    for (size_t i = 0; i < 40; i++)
        CHECK(wt_is_pattern(wt_app_stream_by_id(&pair.server, wt_app_stream(&pair.client, i)->id),
                            60000, i));
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_closed_session_returns_all_credit)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 5, &wt_clean_link);
    CHECK(wt_pair_connect(&pair));
    pair.server.hold = true;
    for (unsigned round = 0; round < 4; round++) {
        struct wt_slog *mine = wt_open_session(&pair, "/");
        CHECK(wt_run(&pair, wt_is_ready, mine));
        for (size_t i = 0; i < 30; i++)
            wt_write_pattern(wt_open_stream(mine, i % 2 == 0), 60000, i, i % 3 != 0);
        sim_run_for(pair.sim, PH_SEC);
        ph_wt_session_close(mine->session, 0, "", 0);
        CHECK(wt_run(&pair, wt_is_closed, mine));
        sim_run_for(pair.sim, PH_SEC);
    }
    /* Four times the connection window has gone by; the fifth session still moves a full one. */
    pair.server.hold = false;
    struct wt_slog *mine = wt_open_session(&pair, "/");
    CHECK(wt_run(&pair, wt_is_ready, mine));
    struct wt_log *log = wt_open_stream(mine, false);
    wt_write_pattern(log, 1500000, 1, true);
    CHECK(wt_run(&pair, wt_stream_is_closed, log));
    wt_pair_fini(&pair);
}

TEST(sim_wt, stream_count_credit_waits_for_the_application)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 5, &wt_clean_link);
    pair.server_config.max_streams_uni = 8; /* three are critical streams */
    struct wt_slog *mine = wt_pair_session(&pair);
    pair.server.hold = true;
    for (size_t i = 0; i < 50; i++)
        wt_write(wt_open_stream(mine, false), "abc", 3, true);
    quiet(&pair);
    size_t first = pair.server.streams_count;
    CHECK_INT(first, <=, 8);
    for (size_t i = 0; i < first; i++)
        CHECK(wt_app_stream(&pair.server, i)->closed);
    ph_wt_session_stream_done(theirs(&pair)->session, false);
    quiet(&pair);
    CHECK_INT(pair.server.streams_count, ==, first + 1);
    for (size_t i = 0; i < first; i++)
        ph_wt_session_stream_done(theirs(&pair)->session, false);
    ph_wt_session_stream_done(theirs(&pair)->session, false); /* one too many */
    quiet(&pair);
    CHECK_INT(pair.server.streams_count, ==, 2 * first + 1);
    wt_pair_fini(&pair);
}

TEST(sim_wt, ten_thousand_short_streams_leave_nothing_behind)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 5, &wt_clean_link);
    struct wt_slog *mine = wt_pair_session(&pair);
    for (size_t round = 0; round < 20; round++) {
        for (size_t i = 0; i < 500; i++)
            wt_write(wt_open_stream(mine, i % 2 == 0), bytes, 10, true);
        for (size_t i = pair.server.streams_count; i-- > 0;) {
            struct wt_log *log = wt_app_stream(&pair.server, i);
            if (log->stream != NULL && log->bidi && log->fin)
                wt_write(log, NULL, 0, true);
        }
        sim_run_for(pair.sim, PH_SEC);
    }
    for (size_t i = 0; i < pair.server.streams_count; i++) {
        struct wt_log *log = wt_app_stream(&pair.server, i);
        if (log->stream != NULL && log->bidi)
            wt_write(log, NULL, 0, true);
    }
    CHECK(wt_run(&pair, wt_all_closed, &pair.client));
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(pair.server.streams_count, ==, 10000);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    CHECK_INT(ph_live_get(PH_LIVE_WT_SESSION), ==, 2);
    wt_pair_fini(&pair);
}

/* --- Before the answer --- */

TEST(sim_wt, early_streams_and_datagrams_arrive_after_the_answer_in_order)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 9, &wt_clean_link);
    pair.server.answer = WT_ANSWER_LATER;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    for (size_t i = 0; i < 6; i++)
        wt_write_pattern(wt_open_stream(mine, i % 2 == 0), 1000 + i, i, i < 4);
    ph_wt_stream_reset(wt_app_stream(&pair.client, 5)->stream, 77);
    for (size_t i = 0; i < 3; i++)
        wt_send_datagram(mine, bytes, i);
    sim_run_for(pair.sim, 7 * PH_SEC); /* longer than unknown sessions are waited for */
    CHECK_INT(pair.server.streams_count, ==, 0);
    CHECK_INT(ph_wt_session_accept(theirs(&pair)->session, NULL, 0, NULL), ==, 0);
    CHECK_INT(pair.server.streams_count, ==, 6);
    for (size_t i = 0; i < 5; i++) {
        const struct wt_log *log = wt_app_stream(&pair.server, i);
        CHECK(wt_is_pattern(log, 1000 + i, i));
        CHECK_INT(log->fin, ==, i < 4);
        CHECK_INT(log->closed, ==, i == 1 || i == 3); /* QUIC was through with these two */
    }
    CHECK(wt_app_stream(&pair.server, 5)->reset);
    CHECK_INT(wt_app_stream(&pair.server, 5)->code, ==, 77);
    CHECK(wt_run(&pair, wt_is_ready, mine));
    wt_write(wt_app_stream(&pair.client, 4), "more", 4, true);
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(wt_app_stream(&pair.server, 4)->rx_len, ==, 1004 + 4);
    wt_pair_fini(&pair);
}

TEST(sim_wt, early_datagrams_wait_within_their_time)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 9, &wt_clean_link);
    pair.server.answer = WT_ANSWER_LATER;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    for (size_t i = 0; i < 3; i++)
        wt_send_datagram(mine, bytes, i);
    CHECK(wt_run(&pair, wt_has_session, &pair.server));
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(ph_wt_session_accept(theirs(&pair)->session, NULL, 0, NULL), ==, 0);
    CHECK_INT(theirs(&pair)->datagrams_count, ==, 3);
    for (size_t i = 0; i < 3; i++)
        CHECK_INT(theirs(&pair)->datagrams[i].n, ==, i);
    wt_pair_fini(&pair);
}

TEST(sim_wt, early_streams_up_to_the_limit_and_one_more)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 9, &wt_clean_link);
    pair.server.answer = WT_ANSWER_LATER;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    size_t limit = pair.server.wt_config.pending_streams;
    for (size_t i = 0; i < limit; i++)
        wt_write(wt_open_stream(mine, true), "abc", 3, false);
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(pair.server.stats.limit_pending_streams, ==, 0);
    wt_write(wt_open_stream(mine, true), "abc", 3, false);
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(pair.server.stats.limit_pending_streams, ==, 1);
    const struct wt_log *last = wt_app_stream(&pair.client, limit);
    CHECK(last->stopped && last->reset && !last->has_code && last->closed);
    CHECK_INT(ph_wt_session_accept(theirs(&pair)->session, NULL, 0, NULL), ==, 0);
    CHECK_INT(pair.server.streams_count, ==, limit);
    wt_pair_fini(&pair);
}

TEST(sim_wt, early_bytes_up_to_the_limit_and_one_more)
{
    for (size_t over = 0; over < 2; over++) {
        struct wt_pair pair;
        wt_pair_init(&pair, 9, &wt_clean_link);
        pair.server.answer = WT_ANSWER_LATER;
        CHECK(wt_pair_connect(&pair));
        struct wt_slog *mine = wt_open_session(&pair, "/");
        size_t limit = pair.server.wt_config.pending_bytes;
        wt_write_pattern(wt_open_stream(mine, false), limit - 10, 1, false);
        sim_run_for(pair.sim, PH_SEC);
        wt_write_pattern(wt_open_stream(mine, false), 10 + over, 2, false);
        sim_run_for(pair.sim, PH_SEC);
        CHECK_INT(pair.server.stats.limit_pending_streams, ==, over);
        CHECK_INT(ph_wt_session_accept(theirs(&pair)->session, NULL, 0, NULL), ==, 0);
        CHECK_INT(pair.server.streams_count, ==, 2 - over);
        CHECK(wt_is_pattern(wt_app_stream(&pair.server, 0), limit - 10, 1));
        wt_pair_fini(&pair);
    }
}

TEST(sim_wt, early_datagrams_up_to_the_limit_and_one_more)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 9, &wt_clean_link);
    pair.server.answer = WT_ANSWER_LATER;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    size_t limit = pair.server.wt_config.pending_datagrams;
    for (size_t i = 0; i < limit + 1; i++)
        wt_send_datagram(mine, bytes, 4);
    sim_run_for(pair.sim, PH_SEC);
    CHECK_INT(pair.server.stats.limit_pending_datagrams, ==, 1);
    CHECK_INT(ph_wt_session_accept(theirs(&pair)->session, NULL, 0, NULL), ==, 0);
    CHECK_INT(theirs(&pair)->datagrams_count, ==, limit);
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_rejection_ends_early_streams)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 9, &wt_clean_link);
    pair.server.answer = WT_ANSWER_LATER;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    wt_write(wt_open_stream(mine, true), "abc", 3, false);
    wt_write(wt_open_stream(mine, false), "abc", 3, true);
    wt_send_datagram(mine, bytes, 4);
    CHECK(wt_run(&pair, wt_has_session, &pair.server));
    sim_run_for(pair.sim, PH_SEC);
    pair.server.reject_status = 429;
    struct ph_wt_session *session = theirs(&pair)->session;
    theirs(&pair)->session = NULL;
    CHECK(ph_wt_session_reject(session) != NULL);
    CHECK(wt_run(&pair, wt_is_closed, mine));
    CHECK_INT(mine->end.status, ==, 429);
    CHECK_INT(pair.server.streams_count, ==, 0);
    quiet(&pair);
    check_no_objects();
    wt_pair_fini(&pair);
}

TEST(sim_wt, a_close_before_the_answer_is_told_after_it)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 9, &wt_clean_link);
    pair.server.answer = WT_ANSWER_LATER;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    CHECK(wt_run(&pair, wt_has_session, &pair.server));
    CHECK_INT(ph_wt_session_close(mine->session, 1, "", 0), ==, 0); /* gives up: resets */
    CHECK(mine->closed == 1 && !mine->end.clean && mine->end.local);
    CHECK(wt_run(&pair, wt_is_closed, theirs(&pair)));
    CHECK(!theirs(&pair)->end.clean);
    quiet(&pair);
    check_no_objects();
    wt_pair_fini(&pair);
}

/* What came for one session is counted without regard to its neighbours', and comes out in the
 * order in which it came. */
TEST(sim_wt, each_pending_session_has_its_own_places)
{
    struct wt_raw raw;
    struct quic_log *connects[3];
    wt_raw_init(&raw, false); /* a draft that lets a connection have several sessions */
    raw.app.answer = WT_ANSWER_LATER;
    CHECK(wt_raw_start(&raw));
    size_t limit = raw.app.wt_config.pending_streams;
    CHECK_INT(raw.app.wt_config.pending_datagrams, ==, limit);
    for (size_t k = 0; k < PH_COUNT_OF(connects); k++) {
        connects[k] = wt_raw_connect(&raw, "/");
        for (size_t i = 0; i < limit + (k == 1); i++) {
            wt_raw_write(wt_raw_stream(&raw, i % 2 == 0, connects[k]->id), "abc", 3);
            sim_run_for(raw.sim, 20 * PH_MSEC); /* one after the other on the wire */
            wt_raw_datagram(&raw, connects[k]->id, bytes, i);
            sim_run_for(raw.sim, 20 * PH_MSEC);
        }
    }
    CHECK_INT(raw.app.stats.limit_pending_streams, ==, 1);
    CHECK_INT(raw.app.stats.limit_pending_datagrams, ==, 1);
    for (size_t k = PH_COUNT_OF(connects); k-- > 0;) {
        struct wt_slog *there = wt_app_session(&raw.app, k);
        size_t before = raw.app.streams_count;
        raw.app.order_len = 0;
        CHECK_INT(there->id, ==, connects[k]->id);
        CHECK_INT(ph_wt_session_accept(there->session, NULL, 0, NULL), ==, 0);
        CHECK_INT(raw.app.streams_count - before, ==, limit);
        CHECK_INT(there->datagrams_count, ==, limit);
        for (size_t i = 0; i < limit; i++) {
            CHECK_INT(wt_app_stream(&raw.app, before + i)->bidi, ==, i % 2 == 0);
            CHECK_INT(there->datagrams[i].n, ==, i);
        }
        CHECK_INT(raw.app.order_len, ==, 2 * limit);
        for (size_t i = 0; i < raw.app.order_len; i++)
            CHECK_INT(raw.app.order[i], ==, i % 2 == 0 ? 's' : 'd');
    }
    wt_raw_fini(&raw);
}

TEST(sim_wt, datagrams_of_a_session_that_was_asked_for_wait_as_long_as_its_streams)
{
    struct wt_pair pair;
    wt_pair_init(&pair, 9, &wt_clean_link);
    pair.server.answer = WT_ANSWER_LATER;
    CHECK(wt_pair_connect(&pair));
    struct wt_slog *mine = wt_open_session(&pair, "/");
    wt_send_datagram(mine, bytes, 3);
    sim_run_for(pair.sim, pair.server.wt_config.pending_timeout + 2 * PH_SEC);
    CHECK_INT(ph_wt_session_accept(theirs(&pair)->session, NULL, 0, NULL), ==, 0);
    CHECK_INT(theirs(&pair)->datagrams_count, ==, 1);
    wt_pair_fini(&pair);
}

/* Of what nobody asked for: as many session ids as the limit says, then no more. */
static void unknown_sessions(bool datagrams, size_t over)
{
    struct wt_raw raw;
    struct quic_log *connects[4] = {0};
    wt_raw_init(&raw, false);
    raw.app.wt_config.pending_sessions = 3;
    CHECK(wt_raw_start(&raw));
    for (size_t i = 0; i < 3 + over; i++) {
        connects[i] = wt_raw_open(&raw, true);
        if (datagrams)
            wt_raw_datagram(&raw, connects[i]->id, "x", 1);
        else
            wt_raw_write(wt_raw_stream(&raw, false, connects[i]->id), "x", 1);
        wt_raw_run(&raw);
    }
    CHECK_INT(raw.app.stats.limit_pending_sessions, ==, over);
    CHECK_INT(datagrams ? raw.app.stats.limit_pending_datagrams
                        : raw.app.stats.limit_pending_streams,
              ==, over);
    wt_raw_connect_on(&raw, connects[0], "/"); /* a place is free again */
    wt_raw_run(&raw);
    uint64_t next = wt_raw_open(&raw, true)->id;
    wt_raw_write(wt_raw_stream(&raw, false, next), "x", 1);
    wt_raw_run(&raw);
    CHECK_INT(raw.app.stats.limit_pending_sessions, ==, over);
    CHECK_INT(wt_raw_slog(&raw)->datagrams_count + raw.app.streams_count, ==, 1);
    wt_raw_fini(&raw);
}

TEST(sim_wt, early_session_ids_up_to_the_limit_and_one_more)
{
    for (size_t over = 0; over < 2; over++) {
        unknown_sessions(false, over);
        unknown_sessions(true, over);
    }
}

/* Asked for at once and given up at once, so that max_sessions is not what ends them. Returns how
 * many of them were not refused. */
static size_t sessions_at_once(struct wt_raw *raw, size_t n)
{
    struct quic_log *logs[8];
    size_t taken = 0;
    CHECK(n <= PH_COUNT_OF(logs));
    for (size_t i = 0; i < n; i++)
        logs[i] = wt_raw_connect(raw, "/");
    sim_run_for(raw->sim, 50 * PH_MSEC);
    for (size_t i = 0; i < n; i++) {
        bool is_refused = logs[i]->reset && logs[i]->reset_code == PH_H3_REQUEST_REJECTED;
        CHECK_INT(wt_raw_status(raw, logs[i]), ==, is_refused ? 0 : 200);
        taken += !is_refused;
        wt_raw_fin(logs[i]);
    }
    sim_run_for(raw->sim, 50 * PH_MSEC);
    return taken;
}

TEST(sim_wt, sessions_asked_for_up_to_the_burst_and_one_more_then_at_the_rate)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.app.wt_config.session_burst = 5;
    raw.app.wt_config.session_rate = 2;
    CHECK(wt_raw_start(&raw));
    CHECK_INT(sessions_at_once(&raw, 5), ==, 5); /* as many, 0.1 s */
    CHECK_INT(raw.app.stats.limit_sessions, ==, 0);
    CHECK_INT(sessions_at_once(&raw, 1), ==, 0); /* one more */
    CHECK_INT(raw.app.stats.limit_sessions, ==, 1);
    sim_run_for(raw.sim, 250 * PH_MSEC);
    CHECK_INT(sessions_at_once(&raw, 1), ==, 0); /* 0.45 s after the first, 0.5 s are one */
    CHECK_INT(raw.app.stats.limit_sessions, ==, 2);
    CHECK_INT(sessions_at_once(&raw, 2), ==, 1); /* 0.55 s */
    CHECK_INT(raw.app.stats.limit_sessions, ==, 3);
    sim_run_for(raw.sim, 10 * PH_SEC); /* what is not used is saved, up to the burst */
    CHECK_INT(sessions_at_once(&raw, 6), ==, 5);
    CHECK_INT(raw.app.stats.limit_sessions, ==, 4);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}
