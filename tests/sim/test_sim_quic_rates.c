/* test_sim_quic_rates.c - what an endpoint says to packets without a connection: so many a second,
 * at that number and one past it, by a clock that stands still. */
#include "../unit/test.h"
#include "quic_app.h"

enum { RATE = 4 };

struct rates {
    struct quic_pair pair;
    uint8_t initial[1500]; /* the client's first datagram */
    size_t initial_n;
};

static void keep_first(void *self, struct sim_node *from, const uint8_t *data, size_t n)
{
    struct rates *rates = self;
    if (from->index != 1 || rates->initial_n > 0)
        return;
    CHECK_INT(n, <=, sizeof(rates->initial));
    memcpy(rates->initial, data, n);
    rates->initial_n = n;
}

/* Injects `data` at the moment; whether there was an answer. The others were dropped. */
static bool is_answered(struct rates *rates, const uint8_t *data, size_t n)
{
    struct sim_node *server = rates->pair.server_node;
    uint64_t out = server->packets_out, dropped = server->stats.packets_dropped;
    struct ph_addr from;
    CHECK_INT(ph_addr_parse(&from, "10.7.7.7", 7000), ==, 0);
    sim_inject(server, &from, data, n);
    CHECK_INT(server->packets_out - out + server->stats.packets_dropped - dropped, ==, 1);
    return server->packets_out > out;
}

static void check_rate(struct rates *rates, const uint8_t *data, size_t n, const uint64_t *counter)
{
    uint64_t before = *counter;
    sim_run_for(rates->pair.sim, 2 * PH_SEC); /* which saves nothing up beyond a second */
    for (int i = 0; i < RATE; i++)
        CHECK(is_answered(rates, data, n));
    CHECK(!is_answered(rates, data, n));
    CHECK_INT(*counter - before, ==, RATE);
    rates->pair.sim->now += PH_SEC / RATE - 1;
    CHECK(!is_answered(rates, data, n));
    rates->pair.sim->now += 1;
    CHECK(is_answered(rates, data, n));
    CHECK(!is_answered(rates, data, n));
    CHECK_INT(*counter - before, ==, RATE + 1);
}

static void rates_init(struct rates *rates, uint32_t rate)
{
    memset(rates, 0, sizeof(*rates));
    quic_pair_init(&rates->pair, 26, &quic_clean_link);
    rates->pair.server_config.vn_rate = rate;
    rates->pair.server_config.retry_rate = rate;
    rates->pair.server_config.reset_rate = rate;
    rates->pair.server_config.always_retry = true;
    rates->pair.sim->tap = keep_first;
    rates->pair.sim->tap_self = rates;
    quic_pair_start(&rates->pair);
    sim_run_for(rates->pair.sim, 1 * PH_MSEC);
    CHECK_INT(rates->initial_n, >=, 1200);
}

static const uint8_t of_nobody[100] = {0x40};
static const uint8_t unknown_version[1200] = {0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, [14] = 8};

TEST(sim_quic_rates, stateless_answers_up_to_their_rate_and_one_more)
{
    struct rates rates;
    rates_init(&rates, RATE);
    struct ph_stats *stats = &rates.pair.server_node->stats;
    check_rate(&rates, unknown_version, sizeof(unknown_version), &stats->version_negotiations);
    check_rate(&rates, of_nobody, sizeof(of_nobody), &stats->resets_sent);
    check_rate(&rates, rates.initial, rates.initial_n, &stats->retries_sent);
    quic_pair_fini(&rates.pair);
}

TEST(sim_quic_rates, a_rate_of_nothing_answers_nobody)
{
    struct rates rates;
    rates_init(&rates, 0);
    CHECK(!is_answered(&rates, unknown_version, sizeof(unknown_version)));
    CHECK(!is_answered(&rates, of_nobody, sizeof(of_nobody)));
    CHECK(!is_answered(&rates, rates.initial, rates.initial_n));
    CHECK_INT(rates.pair.server_node->packets_out, ==, 0);
    quic_pair_fini(&rates.pair);
}

/* --- Packets that are ahead of the handshake --- */

struct early {
    struct quic_pair pair;
    uint8_t cid[20]; /* that the server chose */
    size_t cid_len;
};

static void keep_cid(void *self, struct sim_node *from, const uint8_t *data, size_t n)
{
    struct early *early = self;
    size_t at = 6 + (size_t)data[5]; /* behind the client's id */
    if (from->index != 0 || (data[0] & 0x80) == 0 || early->cid_len > 0)
        return;
    CHECK_INT(data[at], <=, sizeof(early->cid));
    CHECK_INT(at + data[at], <, n);
    early->cid_len = data[at];
    memcpy(early->cid, data + at + 1, early->cid_len);
}

static bool has_cid(void *self)
{
    return ((struct early *)self)->cid_len > 0;
}

static bool is_connected(void *self)
{
    const struct early *early = self;
    return early->pair.client.handshakes > 0 && early->pair.server.handshakes > 0;
}

static bool is_echoed(void *self)
{
    const struct early *early = self;
    return early->pair.client.logs_count > 0 && early->pair.client.logs[0]->fin;
}

/* Between the server's first flight and the client's Finished there are no keys for them yet. A few
 * are kept, for those that overtook; the rest is dropped, nothing is said, and the handshake does
 * not notice. */
TEST(sim_quic_rates, A17_packets_before_the_handshake_is_complete_are_dropped)
{
    enum { FLOOD = 10000 };
    struct early early;
    memset(&early, 0, sizeof(early));
    quic_pair_init(&early.pair, 27, &quic_clean_link);
    early.pair.server.echo = true;
    early.pair.sim->tap = keep_cid;
    early.pair.sim->tap_self = &early;
    quic_pair_start(&early.pair);
    CHECK(sim_run_until(early.pair.sim, has_cid, &early, 1 * PH_SEC));
    struct sim_node *server = early.pair.server_node;
    CHECK_INT(early.pair.server.handshakes, ==, 0);
    uint8_t packet[1200];
    uint64_t out = server->packets_out;
    size_t held = sim_memory();
    for (int i = 0; i < FLOOD; i++) {
        for (size_t k = 0; k < sizeof(packet); k++)
            packet[k] = (uint8_t)sim_rng_next(&early.pair.sim->rng);
        packet[0] = (uint8_t)(0x40 | (packet[0] & 0x3f));
        memcpy(packet + 1, early.cid, early.cid_len);
        sim_inject(server, &early.pair.client_node->public, packet, sizeof(packet));
    }
    CHECK_INT(sim_memory(), <, held + 8 * sizeof(packet));
    CHECK_INT(server->packets_out, ==, out);
    CHECK_INT(ph_quic_endpoint_conns(server->ep), ==, 1);
    CHECK(sim_run_until(early.pair.sim, is_connected, &early, 5 * PH_SEC));
    struct quic_log *log = quic_app_open(&early.pair.client, true);
    quic_write_pattern(log->stream, 5000, 1, true);
    CHECK(sim_run_until(early.pair.sim, is_echoed, &early, 5 * PH_SEC));
    CHECK(quic_is_pattern(log, 5000, 1));
    CHECK_INT(early.pair.server.closed, ==, 0);
    quic_pair_fini(&early.pair);
}
