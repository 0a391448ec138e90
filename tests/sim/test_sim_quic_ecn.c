/* test_sim_quic_ecn.c - what a path sees of QUIC packets beside their payload: ECN marks, and the
 * worker index in connection ids. Looks at the engine's own state where the wire does not tell. */
#include "../../src/quic/quic_internal.h"
#include "../unit/test.h"
#include "quic_app.h"

enum { MEGABYTE = 1024 * 1024, NOT_ECT = 0, ECT_0 = 2, CE = 3 };

/* --- ECN (RFC 9000 13.4) --- */

static bool echo_done(void *arg)
{
    const struct quic_pair *pair = arg;
    return pair->client.logs_count > 0 && pair->client.logs[0]->closed;
}

/* Echoes a megabyte. */
static void echo(struct quic_pair *pair)
{
    CHECK(quic_pair_connect(pair));
    struct quic_log *log = quic_app_open(&pair->client, true);
    CHECK(log != NULL);
    quic_write_pattern(log->stream, MEGABYTE, 3, true);
    CHECK(quic_pair_run(pair, echo_done, 60 * PH_SEC));
    CHECK(log->fin && quic_is_pattern(log, MEGABYTE, 3));
}

static void pair_up(struct quic_pair *pair, const struct sim_link *link)
{
    quic_pair_init(pair, 40, link);
    pair->server.echo = true;
}

static uint64_t cwnd(const struct quic_pair *pair)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(pair->server.conn->qc, &info);
    return info.cwnd;
}

/* Without counts in the peer's acknowledgements a sender stops marking (RFC 9000 13.4.2.1), so
 * marks to the end prove that both sides report what they see. */
TEST(sim_quic_ecn, both_sides_mark_ect0_to_the_end)
{
    struct quic_pair pair;
    pair_up(&pair, &quic_clean_link);
    echo(&pair);
    struct sim_node *const nodes[] = {pair.server_node, pair.client_node};
    for (size_t i = 0; i < PH_COUNT_OF(nodes); i++) {
        CHECK_INT(nodes[i]->ecn_out[ECT_0], >, 200);
        CHECK_INT(nodes[i]->ecn_out[1] + nodes[i]->ecn_out[CE], ==, 0);
        CHECK_INT(nodes[i]->ecn_out[NOT_ECT], <, nodes[i]->ecn_out[ECT_0] / 10);
    }
    quic_pair_fini(&pair);
}

TEST(sim_quic_ecn, a_sender_yields_to_marks_as_to_loss)
{
    struct quic_pair pair;
    pair_up(&pair, &quic_clean_link);
    echo(&pair);
    uint64_t unmarked = cwnd(&pair);
    quic_pair_fini(&pair);

    struct sim_link marking = quic_clean_link;
    marking.ce = 50;
    pair_up(&pair, &marking);
    echo(&pair);
    CHECK_INT(pair.server_node->ce_marked, >, 5);
    CHECK_INT(cwnd(&pair), <, unmarked / 2);
    /* Marks did not turn ECN off: it goes on to the end. */
    CHECK_INT(pair.server_node->ecn_out[NOT_ECT], <, pair.server_node->ecn_out[ECT_0] / 10);
    quic_pair_fini(&pair);
}

TEST(sim_quic_ecn, a_path_that_takes_marks_off_gets_none)
{
    struct quic_pair pair;
    struct sim_link bleaching = quic_clean_link;
    bleaching.bleach = true;
    pair_up(&pair, &bleaching);
    echo(&pair);
    CHECK_INT(pair.server_node->ecn_out[ECT_0], >, 0);
    CHECK_INT(pair.server_node->ecn_out[ECT_0], <, pair.server_node->ecn_out[NOT_ECT] / 10);
    quic_pair_fini(&pair);
}

/* --- The worker in connection ids --- */

enum { WORKER = 0x102 };

struct seen {
    const struct quic_pair *pair;
    unsigned handshake, one_rtt, wrong;
};

/* What the client sends once it has our answer: from then on it uses ids of ours. */
static void look(void *self, struct sim_node *from, const uint8_t *data, size_t n)
{
    struct seen *seen = self;
    bool is_short = (data[0] & 0x80) == 0;
    if (from != seen->pair->client_node || from->packets_in == 0)
        return;
    seen->one_rtt += is_short;
    seen->handshake += !is_short;
    seen->wrong += ph_quic_packet_worker(data, n) != WORKER;
}

static int worker_of(const ngtcp2_cid *cid)
{
    uint8_t packet[64] = {0x40};
    memcpy(packet + 1, cid->data, cid->datalen);
    return ph_quic_packet_worker(packet, sizeof(packet));
}

TEST(sim_quic_worker, every_id_of_a_connection_carries_its_worker)
{
    struct quic_pair pair;
    struct seen seen = {.pair = &pair};
    pair_up(&pair, &quic_clean_link);
    pair.server_config.worker = WORKER;
    pair.sim->tap = look;
    pair.sim->tap_self = &seen;
    echo(&pair);
    CHECK_INT(seen.handshake, >, 0);
    CHECK_INT(seen.one_rtt, >, 200);
    CHECK_INT(seen.wrong, ==, 0);
    const struct ph_quic_conn *conn = pair.server.conn;
    CHECK_INT(conn->cids_count, >, 2); /* of the handshake, and of NEW_CONNECTION_ID frames */
    for (size_t i = 0; i < conn->cids_count; i++) {
        CHECK_INT(conn->cids[i].datalen, ==, PH_QUIC_CID_LEN);
        CHECK_INT(worker_of(&conn->cids[i]), ==, WORKER);
    }
    quic_pair_fini(&pair);
}

/* The ids that the client switches to are those of NEW_CONNECTION_ID. */
TEST(sim_quic_worker, ids_after_a_retirement_carry_it_too)
{
    struct quic_pair pair;
    struct seen seen = {.pair = &pair};
    pair_up(&pair, &quic_clean_link);
    pair.server_config.worker = WORKER;
    CHECK(quic_pair_connect(&pair));
    sim_run_for(pair.sim, PH_SEC);
    ngtcp2_cid before = *ngtcp2_conn_get_dcid(pair.client.conn->qc);
    struct ph_path moved = *ph_quic_conn_path(pair.client.conn);
    sim_rebind(pair.client_node, false);
    moved.local = pair.client_node->addr = pair.client_node->public;
    ngtcp2_path to;
    ph_quic_path_out(&to, &moved);
    CHECK_INT(ngtcp2_conn_initiate_immediate_migration(pair.client.conn->qc, &to, pair.sim->now),
              ==, 0);
    ngtcp2_cid after = *ngtcp2_conn_get_dcid(pair.client.conn->qc);
    CHECK(!ngtcp2_cid_eq(&before, &after));
    CHECK_INT(worker_of(&after), ==, WORKER);
    pair.sim->tap = look;
    pair.sim->tap_self = &seen;
    struct quic_log *log = quic_app_open(&pair.client, true);
    quic_write_pattern(log->stream, 10000, 3, true);
    CHECK(quic_pair_run(&pair, echo_done, 10 * PH_SEC));
    CHECK_INT(seen.one_rtt, >, 5);
    CHECK_INT(seen.wrong, ==, 0);
    quic_pair_fini(&pair);
}
