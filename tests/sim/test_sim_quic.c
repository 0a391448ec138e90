/* test_sim_quic.c - QUIC connections over the simulated network: handshake, transfer, loss, moving
 * clients, endings. */
#include "../unit/test.h"
#include "quic_app.h"

enum { MEGABYTE = 1024 * 1024 };

/* --- Conditions --- */

static bool echo_done(void *arg)
{
    const struct quic_pair *pair = arg;
    return pair->client.logs_count > 0 && pair->client.logs[0]->closed;
}

/* --- Handshake and transfer --- */

TEST(sim_quic, handshake_gives_both_sides_their_events_once)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 1, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    CHECK_INT(pair.server.ready, ==, 1);
    CHECK_INT(pair.client.ready, ==, 1);
    CHECK_INT(pair.server.handshakes, ==, 1);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 1);
    CHECK(ph_quic_conn_is_server(pair.server.conn));
    CHECK(!ph_quic_conn_is_server(pair.client.conn));
    CHECK(ph_addr_equal(&ph_quic_conn_path(pair.server.conn)->remote, &pair.client_node->addr));
    CHECK_INT(pair.server_node->stats.conns_accepted, ==, 1);
    quic_pair_fini(&pair);
}

TEST(sim_quic, a_megabyte_goes_and_comes_back_unchanged)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 2, &quic_clean_link);
    pair.server.echo = true;
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, true);
    CHECK(log != NULL);
    quic_write_pattern(log->stream, MEGABYTE, 3, true);
    CHECK(quic_pair_run(&pair, echo_done, 30 * PH_SEC));
    CHECK(log->fin && quic_is_pattern(log, MEGABYTE, 3));
    CHECK_INT(log->acked, ==, MEGABYTE);
    CHECK(quic_is_pattern(quic_app_log(&pair.server, log->id), MEGABYTE, 3));
    quic_pair_fini(&pair);
}
