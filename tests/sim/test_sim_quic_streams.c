/* test_sim_quic_streams.c - streams and datagrams over the simulated network: credit, limits,
 * reset, stop, the header that a reset waits for, datagram queues. */
#include "../unit/test.h"
#include "quic_app.h"

#include "../../src/quic/quic_internal.h"

enum { KILOBYTE = 1024 };

static struct quic_log *first_by_peer(struct quic_app *app)
{
    for (size_t i = 0; i < app->logs_count; i++) {
        if (app->logs[i]->by_peer)
            return app->logs[i];
    }
    return NULL;
}

static size_t received(const struct quic_app *app)
{
    size_t sum = 0;
    for (size_t i = 0; i < app->logs_count; i++)
        sum += app->logs[i]->rx_len;
    return sum;
}

/* --- Flow control --- */

TEST(sim_quic_streams, no_more_than_the_stream_window_arrives_unconsumed)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 1, &quic_clean_link);
    pair.server_config.stream_window = 64 * KILOBYTE;
    pair.server.hold = true;
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, false);
    quic_write_pattern(log->stream, 1000000, 1, true);
    sim_run_for(pair.sim, 3 * PH_SEC);
    CHECK_INT(received(&pair.server), ==, 64 * KILOBYTE);
    CHECK_INT(log->acked, ==, 64 * KILOBYTE);
    CHECK_INT(ph_quic_stream_queued(log->stream), ==, 1000000 - 64 * KILOBYTE);
    CHECK(ph_quic_stream_is_blocked(log->stream));
    pair.server.hold = false;
    quic_app_release(&pair.server);
    sim_run_for(pair.sim, 3 * PH_SEC);
    CHECK(log->closed);
    CHECK(quic_is_pattern(quic_app_log(&pair.server, log->id), 1000000, 1));
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, no_more_than_the_connection_window_arrives_unconsumed)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 2, &quic_clean_link);
    pair.server_config.conn_window = pair.server_config.window_max = 100 * KILOBYTE;
    pair.server_config.stream_window = 64 * KILOBYTE;
    pair.server.hold = true;
    CHECK(quic_pair_connect(&pair));
    for (uint64_t i = 0; i < 5; i++)
        quic_write_pattern(quic_app_open(&pair.client, true)->stream, 50 * KILOBYTE, i, false);
    sim_run_for(pair.sim, 3 * PH_SEC);
    CHECK_INT(received(&pair.server), ==, 100 * KILOBYTE);
    for (size_t i = 0; i < 5; i++)
        CHECK(ph_quic_stream_is_blocked(pair.client.logs[i]->stream));
    for (int i = 0; i < 10; i++) {
        quic_app_release(&pair.server);
        sim_run_for(pair.sim, 200 * PH_MSEC);
    }
    for (uint64_t i = 0; i < 5; i++) {
        CHECK(quic_is_pattern(quic_app_log(&pair.server, 4 * i), 50 * KILOBYTE, i));
        CHECK(!ph_quic_stream_is_blocked(pair.client.logs[i]->stream));
    }
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, an_end_does_not_wait_for_the_connection_window)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 19, &quic_clean_link);
    pair.server_config.conn_window = pair.server_config.window_max = 100 * KILOBYTE;
    pair.server_config.stream_window = 80 * KILOBYTE;
    pair.server.hold = true;
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, false);
    ph_quic_stream_write_copy(log->stream, "short", 5);
    sim_run_for(pair.sim, 100 * PH_MSEC);
    for (int i = 0; i < 2; i++)
        quic_write_pattern(quic_app_open(&pair.client, false)->stream, 80 * KILOBYTE, 1, true);
    sim_run_for(pair.sim, 2 * PH_SEC);
    CHECK_INT(received(&pair.server), ==, 100 * KILOBYTE);
    ph_quic_stream_fin(log->stream);
    sim_run_for(pair.sim, 100 * PH_MSEC);
    CHECK(quic_app_log(&pair.server, log->id)->fin && log->closed);
    quic_pair_fini(&pair);
}

/* The window is given back exactly once: after all kinds of endings streams that nobody
 * consumes get the whole connection window, and not a byte more. A last quarter may still be
 * unannounced: ngtcp2 does not send MAX_DATA for less. */
static void window_is_whole(struct quic_pair *pair)
{
    size_t before = received(&pair->server);
    for (int i = 0; i < 4; i++) /* one alone would be bounded by its own window */
        quic_write_pattern(quic_app_open(&pair->client, true)->stream, 300 * KILOBYTE, 1, false);
    sim_run_for(pair->sim, 2 * PH_SEC);
    size_t got = received(&pair->server) - before;
    CHECK_INT(got, <=, pair->server_config.conn_window);
    CHECK_INT(got, >, pair->server_config.conn_window / 4 * 3);
}

TEST(sim_quic_streams, a_window_grows_with_its_reader_up_to_the_maximum)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 2, &quic_clean_link);
    pair.server_config.conn_window = pair.server_config.stream_window = 64 * KILOBYTE;
    pair.server_config.window_max = 256 * KILOBYTE;
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, true);
    quic_write_pattern(log->stream, 8000 * KILOBYTE, 1, false);
    sim_run_for(pair.sim, 10 * PH_SEC);
    CHECK_INT(received(&pair.server), ==, 8000 * KILOBYTE);
    pair.server.hold = true;
    size_t before = received(&pair.server);
    quic_write_pattern(log->stream, 1000 * KILOBYTE, 1, false);
    sim_run_for(pair.sim, 3 * PH_SEC);
    CHECK_INT(received(&pair.server) - before, >, 128 * KILOBYTE); /* twice what it began with */
    CHECK_INT(received(&pair.server) - before, <=, 256 * KILOBYTE);
    quic_pair_fini(&pair);
}

static void small_window(struct quic_pair *pair, uint64_t seed)
{
    quic_pair_init(pair, seed, &quic_clean_link);
    pair->server_config.conn_window = pair->server_config.stream_window =
        pair->server_config.window_max = 100 * KILOBYTE;
    pair->server.hold = true;
}

TEST(sim_quic_streams, bytes_of_reset_streams_are_given_back_once)
{
    struct quic_pair pair;
    small_window(&pair, 3);
    CHECK(quic_pair_connect(&pair));
    for (int i = 0; i < 20; i++) {
        struct quic_log *log = quic_app_open(&pair.client, i % 2 == 0);
        quic_write_pattern(log->stream, 40 * KILOBYTE, 1, false);
        sim_run_for(pair.sim, 45 * PH_MSEC); /* some of it, or all */
        ph_quic_stream_reset(log->stream, 5);
        sim_run_for(pair.sim, 200 * PH_MSEC);
        struct quic_log *there = quic_app_log(&pair.server, log->id);
        CHECK(there->reset);
        CHECK_INT(there->reset_code, ==, 5);
        if (there->stream != NULL) { /* late consumption counts for nothing */
            ph_quic_stream_consume(there->stream, 1000);
            ph_quic_stream_fin(there->stream);
        }
    }
    window_is_whole(&pair);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, bytes_of_stopped_streams_are_given_back_once)
{
    struct quic_pair pair;
    small_window(&pair, 4);
    CHECK(quic_pair_connect(&pair));
    for (int i = 0; i < 20; i++) {
        struct quic_log *log = quic_app_open(&pair.client, false);
        quic_write_pattern(log->stream, 60 * KILOBYTE, 1, false);
        sim_run_for(pair.sim, 25 * PH_MSEC);
        struct quic_log *there = quic_app_log(&pair.server, log->id);
        CHECK(there != NULL && there->stream != NULL);
        size_t got = there->rx_len;
        ph_quic_stream_stop(there->stream, 6);
        ph_quic_stream_consume(there->stream, 1000);
        sim_run_for(pair.sim, 200 * PH_MSEC);
        CHECK_INT(there->rx_len, ==, got); /* nothing is delivered after a stop */
        CHECK(!there->reset && there->closed);
    }
    window_is_whole(&pair);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, bytes_behind_a_stop_are_given_back_once)
{
    struct quic_pair pair;
    small_window(&pair, 14);
    CHECK(quic_pair_connect(&pair));
    sim_run_for(pair.sim, 1 * PH_SEC);
    pair.server.stop_at_once = true;
    pair.client_node->link.loss = 200; /* gaps: what is behind them comes in one go with them */
    for (int i = 0; i < 100; i++) {
        struct quic_log *log = quic_app_open(&pair.client, false);
        quic_write_pattern(log->stream, 12 * KILOBYTE, 1, true);
        sim_run_for(pair.sim, 300 * PH_MSEC);
    }
    pair.client_node->link.loss = 0;
    sim_run_for(pair.sim, 5 * PH_SEC);
    for (size_t i = 0; i < 100; i++)
        CHECK(pair.client.logs[i]->closed);
    CHECK_INT(pair.server.conn->streams.count, ==, 0); /* a FIN behind a gap ends one, too */
    pair.server.stop_at_once = false;
    window_is_whole(&pair);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, bytes_of_finished_streams_stay_charged_until_consumed)
{
    struct quic_pair pair;
    small_window(&pair, 5);
    CHECK(quic_pair_connect(&pair));
    for (uint64_t i = 0; i < 4; i++) {
        struct quic_log *log = quic_app_open(&pair.client, false);
        ph_quic_stream_set_incremental(log->stream, false); /* one after the other */
        quic_write_pattern(log->stream, 40 * KILOBYTE, i, true);
    }
    sim_run_for(pair.sim, 2 * PH_SEC);
    CHECK_INT(received(&pair.server), ==, 100 * KILOBYTE);
    CHECK(pair.server.logs[0]->closed);
    CHECK_INT(pair.server.logs[0]->held, ==, 40 * KILOBYTE);
    ph_quic_conn_consume(pair.server.conn, 40 * KILOBYTE);
    pair.server.logs[0]->held = 0;
    sim_run_for(pair.sim, 2 * PH_SEC);
    CHECK_INT(received(&pair.server), ==, 140 * KILOBYTE);
    quic_app_release(&pair.server);
    sim_run_for(pair.sim, 2 * PH_SEC);
    CHECK_INT(received(&pair.server), ==, 160 * KILOBYTE);
    quic_app_release(&pair.server);
    ph_quic_conn_consume(pair.server.conn, 1000000); /* more than is owed: capped */
    window_is_whole(&pair);
    quic_pair_fini(&pair);
}

/* --- Stream count --- */

TEST(sim_quic_streams, the_peers_limit_blocks_and_its_credit_unblocks)
{
    struct quic_pair pair;
    struct ph_quic_stream *stream = NULL;
    quic_pair_init(&pair, 6, &quic_clean_link);
    pair.server_config.max_streams_bidi = 3;
    pair.server.echo = true;
    CHECK(quic_pair_connect(&pair));
    for (int i = 0; i < 3; i++)
        CHECK(quic_app_open(&pair.client, true) != NULL);
    CHECK_INT(ph_quic_conn_open_stream(pair.client.conn, true, &stream), ==, PH_E_BLOCKED);
    CHECK_INT(pair.client.available_bidi, ==, 0);
    quic_write_pattern(pair.client.logs[1]->stream, 100, 1, true);
    sim_run_for(pair.sim, 1 * PH_SEC);
    CHECK(pair.client.logs[1]->closed);
    CHECK_INT(pair.client.available_bidi, ==, 1);
    CHECK_INT(pair.client.available_uni, ==, 0);
    CHECK(quic_app_open(&pair.client, true) != NULL);
    CHECK(quic_app_open(&pair.client, true) == NULL);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, held_credit_comes_back_when_the_owner_says)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 7, &quic_clean_link);
    pair.server_config.max_streams_uni = 2;
    pair.server.hold_credit = true;
    CHECK(quic_pair_connect(&pair));
    for (int i = 0; i < 2; i++)
        quic_write_pattern(quic_app_open(&pair.client, false)->stream, 100, 1, true);
    sim_run_for(pair.sim, 1 * PH_SEC);
    CHECK(pair.client.logs[1]->closed && pair.server.logs[1]->closed);
    CHECK(quic_app_open(&pair.client, false) == NULL);
    ph_quic_conn_extend_streams(pair.server.conn, false, 1);
    sim_run_for(pair.sim, 1 * PH_SEC);
    CHECK(quic_app_open(&pair.client, false) != NULL);
    CHECK(quic_app_open(&pair.client, false) == NULL);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, thousands_of_streams_leave_nothing_behind)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 8, &quic_clean_link);
    pair.server.echo = true;
    pair.server_config.max_streams_bidi = pair.server_config.max_streams_uni = 100;
    CHECK(quic_pair_connect(&pair));
    int opened = 0;
    for (int i = 0; i < 10000 && opened < 2000; i++) {
        struct quic_log *log = quic_app_open(&pair.client, opened % 2 == 0);
        if (log == NULL) {
            sim_run_for(pair.sim, 10 * PH_MSEC);
            continue;
        }
        quic_write_pattern(log->stream, 50, (uint64_t)opened, opened % 10 != 3);
        if (opened % 10 == 3)
            ph_quic_stream_reset(log->stream, 9);
        opened++;
    }
    CHECK_INT(opened, ==, 2000);
    sim_run_for(pair.sim, 5 * PH_SEC);
    for (size_t i = 0; i < pair.client.logs_count; i++)
        CHECK(pair.client.logs[i]->closed);
    CHECK_INT(ph_live_get(PH_LIVE_QUIC_STREAM), ==, 0);
    CHECK_INT(pair.server.conn->streams.count, ==, 0);
    CHECK(pair.server.conn->zombies <= 200);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, a_stream_whose_reset_comes_first_is_closed_and_credited)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 9, &quic_clean_link);
    pair.server_config.max_streams_uni = 1;
    CHECK(quic_pair_connect(&pair));
    for (int i = 0; i < 5; i++) {
        struct quic_log *log = quic_app_open(&pair.client, false);
        CHECK(log != NULL);
        ph_quic_stream_reset(log->stream, 77); /* nothing was ever written */
        sim_run_for(pair.sim, 500 * PH_MSEC);
        struct quic_log *there = quic_app_log(&pair.server, log->id);
        CHECK(there != NULL && there->reset && there->closed);
        CHECK_INT(there->reset_code, ==, 77);
        CHECK(log->closed);
    }
    CHECK_INT(pair.server.conn->streams.count, ==, 0);
    quic_pair_fini(&pair);
}

/* --- Reset and stop --- */

TEST(sim_quic_streams, stop_sending_arrives_with_its_code_at_once)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 10, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, true);
    quic_write_pattern(log->stream, 100, 1, false); /* and then nothing: no write will notice */
    sim_run_for(pair.sim, 100 * PH_MSEC);
    struct quic_log *there = first_by_peer(&pair.server);
    ph_quic_stream_stop(there->stream, 0x52e4a40fa8dbull);
    sim_run_for(pair.sim, 15 * PH_MSEC);
    CHECK(log->stopped);
    CHECK(log->stop_code == 0x52e4a40fa8dbull);
    CHECK(!ph_quic_stream_is_writable(log->stream));
    CHECK_INT(ph_quic_stream_write_copy(log->stream, "x", 1), ==, PH_E_STATE);
    ph_quic_stream_fin(there->stream);
    sim_run_for(pair.sim, 500 * PH_MSEC);
    CHECK(log->closed && there->closed);
    CHECK(!there->reset); /* not told: the owner stopped reading */
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, a_stop_for_a_stream_never_seen_is_reported)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 11, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, true);
    ph_quic_stream_write_copy(log->stream, "hello", 5);
    ph_quic_stream_stop(log->stream, 33); /* leaves with the first bytes, in one packet */
    sim_run_for(pair.sim, 100 * PH_MSEC);
    struct quic_log *there = first_by_peer(&pair.server);
    CHECK(there != NULL && there->stopped);
    CHECK_INT(there->stop_code, ==, 33);
    CHECK_INT(there->rx_len, ==, 5);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, a_hundred_stops_in_a_packet_keep_their_codes)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 12, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    for (int i = 0; i < 100; i++)
        ph_quic_stream_write_copy(quic_app_open(&pair.server, false)->stream, "hello", 5);
    sim_run_for(pair.sim, 100 * PH_MSEC);
    CHECK_INT(pair.client.logs_count, ==, 100);
    for (size_t i = 0; i < 100; i++)
        ph_quic_stream_stop(pair.client.logs[i]->stream, 1000 + i);
    sim_run_for(pair.sim, 100 * PH_MSEC);
    for (size_t i = 0; i < 100; i++) {
        CHECK(pair.client.logs[i]->stopped == false);
        struct quic_log *there = quic_app_log(&pair.server, pair.client.logs[i]->id);
        CHECK(there->stopped);
        CHECK_INT(there->stop_code, ==, 1000 + i);
    }
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, reset_and_stop_of_both_sides_at_once_end_once)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 13, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, true);
    quic_write_pattern(log->stream, 20000, 1, false);
    sim_run_for(pair.sim, 100 * PH_MSEC);
    struct quic_log *there = first_by_peer(&pair.server);
    ph_quic_stream_reset(there->stream, 1);
    ph_quic_stream_stop(there->stream, 2);
    ph_quic_stream_reset(log->stream, 3);
    ph_quic_stream_stop(log->stream, 4);
    ph_quic_stream_reset(log->stream, 5); /* too late to change anything */
    sim_run_for(pair.sim, 1 * PH_SEC);
    CHECK(log->closed && there->closed);
    CHECK_INT(ph_live_get(PH_LIVE_QUIC_STREAM), ==, 0);
    CHECK(pair.server.conn != NULL && pair.client.conn != NULL);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, a_reset_waits_for_the_header)
{
    struct quic_pair pair;
    struct sim_link link = quic_clean_link;
    link.loss = 200;
    for (uint64_t seed = 0; seed < 20; seed++) {
        quic_pair_init(&pair, seed, &link);
        CHECK(quic_pair_connect(&pair));
        sim_run_for(pair.sim, 1 * PH_SEC);
        struct quic_log *log = quic_app_open(&pair.client, false);
        ph_quic_stream_set_reliable(log->stream, 8);
        ph_quic_stream_write_copy(log->stream, "\x40\x54\x80\x01\x02", 5);
        ph_quic_stream_write_copy(log->stream, "\x03\x04\x05", 3);
        quic_write_pattern(log->stream, 50000, 1, true);
        if (seed % 2 == 0)
            sim_run_for(pair.sim, 1 * PH_MSEC);
        pair.client_node->link.loss = 0;
        if (seed % 4 < 2) { /* the first flight is lost, not the wait */
            pair.client_node->link.blackout_from = pair.sim->now;
            pair.client_node->link.blackout_to = pair.sim->now + 20 * PH_MSEC;
        }
        ph_quic_stream_reset(log->stream, 44);
        CHECK_INT(ph_quic_stream_write_copy(log->stream, "x", 1), ==, PH_E_STATE);
        sim_run_for(pair.sim, 3 * PH_SEC);
        struct quic_log *there = first_by_peer(&pair.server);
        CHECK(there != NULL && there->reset && there->closed && log->closed);
        CHECK_INT(there->reset_code, ==, 44);
        CHECK_INT(there->rx_len, >=, 8);
        CHECK_MEM(there->rx, "\x40\x54\x80\x01\x02\x03\x04\x05", 8);
        if (seed % 2 == 1)
            CHECK_INT(there->rx_len, ==, 8);
        quic_pair_fini(&pair);
    }
}

TEST(sim_quic_streams, a_reset_does_not_wait_for_ever)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 15, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    sim_run_for(pair.sim, 1 * PH_SEC);
    struct quic_log *log = quic_app_open(&pair.client, false);
    ph_quic_stream_set_reliable(log->stream, 8);
    ph_quic_stream_write_copy(log->stream, "headerXX", 8);
    pair.client_node->link.loss = 1000;
    ph_quic_stream_reset(log->stream, 44);
    sim_run_for(pair.sim, 400 * PH_MSEC);
    CHECK(log->stream->reset_pending);
    sim_run_for(pair.sim, 200 * PH_MSEC);
    CHECK(!log->stream->reset_pending);
    pair.client_node->link.loss = 0;
    sim_run_for(pair.sim, 10 * PH_SEC);
    CHECK(first_by_peer(&pair.server)->reset);
    CHECK(log->closed);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, urgent_streams_finish_first)
{
    struct quic_pair pair;
    struct sim_link link = quic_clean_link;
    link.rate = 1000 * KILOBYTE;
    quic_pair_init(&pair, 16, &link);
    CHECK(quic_pair_connect(&pair));
    struct quic_log *bulk = quic_app_open(&pair.client, false);
    struct quic_log *urgent = quic_app_open(&pair.client, false);
    quic_write_pattern(bulk->stream, 200 * KILOBYTE, 1, true);
    quic_write_pattern(urgent->stream, 200 * KILOBYTE, 2, true);
    ph_quic_stream_set_urgency(urgent->stream, 1);
    bool first = false;
    for (int i = 0; i < 5000 && !bulk->closed; i++) {
        first = first || (urgent->closed && !bulk->closed);
        sim_run_for(pair.sim, 1 * PH_MSEC);
    }
    CHECK(bulk->closed && first);
    CHECK_INT(quic_app_log(&pair.server, bulk->id)->rx_len, ==, 200 * KILOBYTE);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, equal_streams_share_the_line)
{
    struct quic_pair pair;
    struct sim_link link = quic_clean_link;
    link.rate = 1000 * KILOBYTE;
    quic_pair_init(&pair, 17, &link);
    CHECK(quic_pair_connect(&pair));
    for (uint64_t i = 0; i < 4; i++)
        quic_write_pattern(quic_app_open(&pair.client, false)->stream, 200 * KILOBYTE, i, true);
    sim_run_for(pair.sim, 300 * PH_MSEC);
    size_t least = SIZE_MAX, most = 0;
    for (size_t i = 0; i < pair.server.logs_count; i++) {
        least = PH_MIN(least, pair.server.logs[i]->rx_len);
        most = PH_MAX(most, pair.server.logs[i]->rx_len);
    }
    CHECK_INT(pair.server.logs_count, ==, 4);
    CHECK_INT(least, >, 20 * KILOBYTE);
    CHECK_INT(most - least, <, 8 * KILOBYTE);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, keys_are_updated_in_flight)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 18, &quic_clean_link);
    pair.server.echo = true;
    CHECK(quic_pair_connect(&pair));
    sim_run_for(pair.sim, 1 * PH_SEC);
    struct quic_log *log = quic_app_open(&pair.client, true);
    quic_write_pattern(log->stream, 300000, 1, true);
    sim_run_for(pair.sim, 30 * PH_MSEC);
    CHECK_INT(ngtcp2_conn_initiate_key_update(pair.client.conn->qc, pair.sim->now), ==, 0);
    sim_run_for(pair.sim, 5 * PH_SEC);
    CHECK(log->closed);
    CHECK(quic_is_pattern(log, 300000, 1));
    quic_pair_fini(&pair);
}

/* --- Datagrams --- */

static size_t left_sum;

static void count_left(struct ph_quic_dgramq *q, size_t n)
{
    (void)q;
    left_sum += n;
}

static void queue_init(struct ph_quic_dgramq *q, struct ph_quic_conn *conn, uint8_t prefix,
                       uint32_t entries, uint32_t bytes)
{
    ph_quic_dgramq_init(q, conn, &prefix, 1, entries, bytes);
    q->on_left = count_left;
    left_sum = 0;
}

static void push(struct ph_quic_dgramq *q, uint32_t number, size_t n, uint64_t expires)
{
    struct ph_buf *buf = ph_buf_new(n);
    memset(ph_buf_data(buf), 0, n);
    ph_u32_put(ph_buf_data(buf), number);
    ph_buf_set_len(buf, n);
    ph_quic_dgramq_push(q, buf, expires);
}

TEST(sim_quic_datagrams, the_oldest_give_way_and_the_rest_arrive_in_order)
{
    struct quic_pair pair;
    struct ph_quic_dgramq q;
    quic_pair_init(&pair, 30, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    queue_init(&q, pair.client.conn, 0, 4, 10000);
    for (uint32_t i = 0; i < 10; i++)
        push(&q, i, 100, PH_NEVER);
    CHECK_INT(left_sum, ==, 6);
    sim_run_for(pair.sim, 100 * PH_MSEC);
    CHECK_INT(pair.server.datagrams_count, ==, 4);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_INT(pair.server.datagrams[i], ==, 6 + i);
    CHECK_INT(pair.server.datagram_bytes, ==, 4 * 101);
    CHECK_INT(left_sum, ==, 10);
    CHECK_INT(pair.client_node->stats.datagrams_out, ==, 4);
    CHECK_INT(pair.client_node->stats.datagrams_out_dropped, ==, 6);
    CHECK_INT(pair.client_node->stats.datagrams_acked, ==, 4);
    ph_quic_dgramq_fini(&q);
    quic_pair_fini(&pair);
}

TEST(sim_quic_datagrams, each_is_counted_as_acknowledged_or_lost)
{
    struct quic_pair pair;
    struct ph_quic_dgramq q;
    quic_pair_init(&pair, 34, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    sim_run_for(pair.sim, PH_SEC);
    queue_init(&q, pair.client.conn, 0, 16, 100000);
    struct sim_link *link = &pair.client_node->link;
    link->blackout_from = pair.sim->now;
    link->blackout_to = pair.sim->now + 5 * PH_MSEC;
    for (uint32_t i = 0; i < 5; i++)
        push(&q, i, 1000, PH_NEVER);
    sim_run_for(pair.sim, 10 * PH_MSEC);
    CHECK_INT(pair.client_node->stats.datagrams_out, ==, 5);
    for (uint32_t i = 5; i < 15; i++)
        push(&q, i, 1000, PH_NEVER);
    sim_run_for(pair.sim, 5 * PH_SEC);
    const struct ph_stats *stats = &pair.client_node->stats;
    CHECK_INT(pair.server.datagrams_count, ==, 10);
    CHECK_INT(stats->datagrams_out, ==, 15);
    CHECK_INT(stats->datagrams_lost, ==, 5);
    CHECK_INT(stats->datagrams_acked, ==, 10);
    ph_quic_dgramq_fini(&q);
    quic_pair_fini(&pair);
}

TEST(sim_quic_datagrams, bytes_are_bounded_as_well)
{
    struct quic_pair pair;
    struct ph_quic_dgramq q;
    quic_pair_init(&pair, 31, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    queue_init(&q, pair.client.conn, 0, 100, 1000);
    for (uint32_t i = 0; i < 10; i++)
        push(&q, i, 400, PH_NEVER);
    CHECK_INT(q.count, ==, 2);
    push(&q, 10, 1001, PH_NEVER); /* larger than the whole queue */
    CHECK_INT(pair.client_node->stats.datagrams_out_toobig, ==, 1);
    CHECK_INT(q.count, ==, 2);
    ph_quic_dgramq_fini(&q);
    quic_pair_fini(&pair);
}

TEST(sim_quic_datagrams, the_old_and_the_large_do_not_hold_up_the_rest)
{
    struct quic_pair pair;
    struct ph_quic_dgramq q;
    quic_pair_init(&pair, 32, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    queue_init(&q, pair.client.conn, 0, 100, 100000);
    size_t max = ph_quic_conn_max_datagram(pair.client.conn);
    CHECK_INT(max, >, 1100);
    push(&q, 0, max, PH_NEVER); /* with its prefix one byte too large */
    push(&q, 1, 100, pair.sim->now);
    push(&q, 2, max - 1, PH_NEVER); /* fits exactly */
    push(&q, 3, 100, pair.sim->now + PH_SEC);
    sim_run_for(pair.sim, 100 * PH_MSEC);
    CHECK_INT(pair.server.datagrams_count, ==, 2);
    CHECK_INT(pair.server.datagrams[0], ==, 2);
    CHECK_INT(pair.server.datagrams[1], ==, 3);
    CHECK_INT(pair.client_node->stats.datagrams_out_toobig, ==, 1);
    CHECK_INT(pair.client_node->stats.datagrams_out_expired, ==, 1);
    CHECK_INT(left_sum, ==, 4);
    ph_quic_dgramq_fini(&q);
    quic_pair_fini(&pair);
}

TEST(sim_quic_datagrams, what_waits_too_long_is_dropped)
{
    struct quic_pair pair;
    struct ph_quic_dgramq q;
    struct sim_link link = quic_clean_link;
    link.rate = 20 * KILOBYTE;
    quic_pair_init(&pair, 33, &link);
    CHECK(quic_pair_connect(&pair));
    queue_init(&q, pair.client.conn, 0, 1000, 1000000);
    for (uint32_t i = 0; i < 200; i++)
        push(&q, i, 1000, pair.sim->now + 300 * PH_MSEC);
    sim_run_for(pair.sim, 20 * PH_SEC);
    CHECK_INT(q.count, ==, 0);
    CHECK_INT(left_sum, ==, 200);
    CHECK_INT(pair.client_node->stats.datagrams_out_expired, >, 50);
    CHECK_INT(pair.server.datagrams_count, ==, pair.client_node->stats.datagrams_out);
    for (size_t i = 1; i < pair.server.datagrams_count; i++)
        CHECK(pair.server.datagrams[i] > pair.server.datagrams[i - 1]);
    ph_quic_dgramq_fini(&q);
    quic_pair_fini(&pair);
}

TEST(sim_quic_datagrams, small_ones_share_packets)
{
    struct quic_pair pair;
    struct ph_quic_dgramq q;
    quic_pair_init(&pair, 34, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    sim_run_for(pair.sim, 1 * PH_SEC);
    queue_init(&q, pair.client.conn, 0, 1000, 1000000);
    uint64_t before = pair.client_node->packets_out;
    for (uint32_t i = 0; i < 300; i++)
        push(&q, i, 30, PH_NEVER);
    sim_run_for(pair.sim, 500 * PH_MSEC);
    CHECK_INT(pair.server.datagrams_count, ==, 300);
    CHECK_INT(pair.client_node->packets_out - before, <, 20);
    ph_quic_dgramq_fini(&q);
    quic_pair_fini(&pair);
}

TEST(sim_quic_datagrams, queues_take_turns_and_outlive_the_connection)
{
    struct quic_pair pair;
    struct ph_quic_dgramq a, b;
    quic_pair_init(&pair, 35, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    queue_init(&a, pair.client.conn, 0, 100, 100000);
    queue_init(&b, pair.client.conn, 1, 100, 100000);
    for (uint32_t i = 0; i < 20; i++) {
        push(&a, 100 + i, 600, PH_NEVER);
        push(&b, 200 + i, 600, PH_NEVER);
    }
    sim_run_for(pair.sim, 500 * PH_MSEC);
    CHECK_INT(pair.server.datagrams_count, ==, 40);
    for (size_t i = 0; i < 40; i++)
        CHECK_INT(pair.server.datagrams[i], ==, (i % 2 == 0 ? 100 : 200) + i / 2);
    push(&a, 1, 10, PH_NEVER);
    ph_quic_conn_close(pair.client.conn, 0x100, NULL);
    sim_run_for(pair.sim, 5 * PH_SEC);
    push(&a, 2, 10, PH_NEVER); /* nobody is there: released at once */
    ph_quic_dgramq_fini(&a);
    ph_quic_dgramq_fini(&b);
    quic_pair_fini(&pair);
}

TEST(sim_quic_datagrams, streams_without_window_do_not_hold_them_up)
{
    struct quic_pair pair;
    struct ph_quic_dgramq q;
    quic_pair_init(&pair, 38, &quic_clean_link);
    pair.server_config.conn_window = pair.server_config.window_max = 50 * KILOBYTE;
    pair.server_config.stream_window = 50 * KILOBYTE;
    pair.server.hold = true;
    CHECK(quic_pair_connect(&pair));
    for (unsigned urgency = 0; urgency < 8; urgency++) {
        struct quic_log *log = quic_app_open(&pair.client, false);
        ph_quic_stream_set_urgency(log->stream, urgency);
        quic_write_pattern(log->stream, 100 * KILOBYTE, 1, true);
    }
    sim_run_for(pair.sim, 2 * PH_SEC);
    CHECK_INT(received(&pair.server), ==, 50 * KILOBYTE);
    queue_init(&q, pair.client.conn, 0, 10, 1000);
    for (uint32_t i = 0; i < 10; i++)
        push(&q, i, 50, PH_NEVER);
    sim_run_for(pair.sim, 50 * PH_MSEC);
    CHECK_INT(pair.server.datagrams_count, ==, 10);
    CHECK(!PH_QUIC_SCAN_FRAMES || /* DATA_BLOCKED */
          pair.server.conn->seen_credit[4] == 50 * KILOBYTE);
    ph_quic_dgramq_fini(&q);
    quic_pair_fini(&pair);
}

TEST(sim_quic_datagrams, empty_payloads_arrive)
{
    struct quic_pair pair;
    struct ph_quic_dgramq q, bare;
    quic_pair_init(&pair, 37, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    queue_init(&q, pair.client.conn, 9, 10, 1000);
    ph_quic_dgramq_push(&q, ph_buf_new(0), PH_NEVER);
    sim_run_for(pair.sim, 100 * PH_MSEC);
    CHECK_INT(pair.server.datagrams_count, ==, 1);
    CHECK_INT(pair.server.datagram_bytes, ==, 1);
    ph_quic_dgramq_fini(&q);
    ph_quic_dgramq_init(&bare, pair.client.conn, NULL, 0, 10, 1000);
    push(&bare, 5, 10, PH_NEVER);
    ph_quic_dgramq_push(&bare, ph_buf_new(0), PH_NEVER); /* not a byte at all: cannot be sent */
    sim_run_for(pair.sim, 100 * PH_MSEC);
    CHECK_INT(pair.server.datagrams_count, ==, 2);
    CHECK_INT(pair.client_node->stats.datagrams_out_dropped, ==, 1);
    ph_quic_dgramq_fini(&bare);
    quic_pair_fini(&pair);
}

TEST(sim_quic_datagrams, a_peer_that_takes_none_gets_none)
{
    struct quic_pair pair;
    struct ph_quic_dgramq q;
    quic_pair_init(&pair, 36, &quic_clean_link);
    pair.server_config.max_datagram_frame = 0;
    CHECK(quic_pair_connect(&pair));
    CHECK_INT(ph_quic_conn_max_datagram(pair.client.conn), ==, 0);
    queue_init(&q, pair.client.conn, 0, 10, 1000);
    push(&q, 1, 10, PH_NEVER);
    sim_run_for(pair.sim, 100 * PH_MSEC);
    CHECK_INT(pair.server.datagrams_count, ==, 0);
    CHECK_INT(pair.client_node->stats.datagrams_out_toobig, ==, 1);
    CHECK(pair.client.conn != NULL);
    ph_quic_dgramq_fini(&q);
    quic_pair_fini(&pair);
}

/* --- Budgets --- */

TEST(sim_quic_streams, an_owner_can_use_up_the_glitch_budget)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 40, &quic_clean_link);
    pair.server_config.glitch_burst = 10;
    CHECK(quic_pair_connect(&pair));
    sim_run_for(pair.sim, 1 * PH_SEC); /* probes of the path are over */
    ph_quic_conn_glitch(pair.server.conn, 10);
    sim_run_for(pair.sim, 1);
    CHECK_INT(pair.server.closed, ==, 0);
    ph_quic_conn_glitch(pair.server.conn, 1);
    sim_run_for(pair.sim, 1 * PH_SEC);
    CHECK_INT(pair.server.closed, ==, 1);
    CHECK_INT(pair.client.end.code, ==, 0x107);
    CHECK_INT(pair.server_node->stats.limit_glitch, ==, 1);
    quic_pair_fini(&pair);
}

TEST(sim_quic_streams, heavy_honest_traffic_spends_no_glitch_tokens)
{
    struct quic_pair pair;
    struct sim_link link = quic_clean_link;
    link.loss = 20;
    link.reorder = 20;
    link.reorder_delay = 5 * PH_MSEC;
    quic_pair_init(&pair, 41, &link);
    pair.server.echo = true;
    pair.server_config.stream_window = pair.client_config.stream_window = 16 * KILOBYTE;
    pair.server_config.glitch_burst = pair.client_config.glitch_burst = 100;
    pair.server_config.glitch_rate = pair.client_config.glitch_rate = 0;
    CHECK(quic_pair_connect(&pair));
    for (uint64_t i = 0; i < 50; i++)
        quic_write_pattern(quic_app_open(&pair.client, true)->stream, 100 * KILOBYTE, i, true);
    sim_run_for(pair.sim, 20 * PH_SEC);
    CHECK_INT(pair.client.closed, ==, 0);
    for (uint64_t i = 0; i < 50; i++)
        CHECK(quic_is_pattern(quic_app_log(&pair.client, 4 * i), 100 * KILOBYTE, i));
    quic_pair_fini(&pair);
}
