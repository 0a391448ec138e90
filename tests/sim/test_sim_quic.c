/* test_sim_quic.c - QUIC connections over the simulated network: handshake, transfer, loss, moving
 * clients, endings. */
#include "../unit/test.h"
#include "quic_app.h"

#include "../../src/quic/quic_internal.h"

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

static bool client_closed(void *arg)
{
    const struct quic_pair *pair = arg;
    return pair->client.closed > 0;
}

static bool server_closed(void *arg)
{
    const struct quic_pair *pair = arg;
    return pair->server.closed > 0;
}

static bool client_gone(void *arg)
{
    const struct quic_pair *pair = arg;
    return ph_quic_endpoint_conns(pair->client_node->ep) == 0;
}

static bool server_gone(void *arg)
{
    const struct quic_pair *pair = arg;
    return ph_quic_endpoint_conns(pair->server_node->ep) == 0;
}

/* --- Loss --- */

static const struct sim_link bad_link = {.delay = 15 * PH_MSEC,
                                         .jitter = 2 * PH_MSEC,
                                         .loss = 50,
                                         .duplicate = 30,
                                         .corrupt = 20,
                                         .reorder = 50,
                                         .reorder_delay = 8 * PH_MSEC,
                                         .rate = 4 * MEGABYTE,
                                         .queue = 64 * 1024};

/* One lossy echo of `n` bytes; returns the trace, 0 when it did not finish unchanged. */
static uint64_t lossy_echo(uint64_t seed, size_t n)
{
    struct quic_pair pair;
    quic_pair_init(&pair, seed, &bad_link);
    pair.server.echo = true;
    bool ok = quic_pair_connect(&pair);
    struct quic_log *log = ok ? quic_app_open(&pair.client, true) : NULL;
    if (log != NULL) {
        quic_write_pattern(log->stream, n, seed, true);
        ok = quic_pair_run(&pair, echo_done, 120 * PH_SEC) && log->fin &&
             quic_is_pattern(log, n, seed) &&
             quic_is_pattern(quic_app_log(&pair.server, log->id), n, seed);
    }
    uint64_t trace = ok && log != NULL ? pair.sim->trace : 0;
    quic_pair_fini(&pair);
    return trace;
}

TEST(sim_quic, a_hundred_bad_networks_change_no_byte)
{
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t seed = ph_test_seed() * 1000 + i;
        if (lossy_echo(seed, 60000) == 0)
            ph_test_fail(__FILE__, __LINE__, "seed %llu", (unsigned long long)seed);
    }
}

TEST(sim_quic, a_megabyte_survives_a_bad_network)
{
    CHECK(lossy_echo(ph_test_seed(), MEGABYTE) != 0);
}

TEST(sim_quic, the_same_seed_gives_the_same_trace)
{
    uint64_t first = lossy_echo(77, 200000);
    CHECK(first != 0);
    CHECK(lossy_echo(77, 200000) == first);
    CHECK(lossy_echo(78, 200000) != first);
}

TEST(sim_quic, two_seconds_of_darkness_are_survived)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 5, &quic_clean_link);
    pair.server.echo = true;
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, true);
    quic_write_pattern(log->stream, MEGABYTE, 9, true);
    sim_run_for(pair.sim, 30 * PH_MSEC);
    uint64_t now = pair.sim->now;
    for (int i = 0; i < 2; i++) {
        pair.sim->nodes[i]->link.blackout_from = now;
        pair.sim->nodes[i]->link.blackout_to = now + 2 * PH_SEC;
    }
    CHECK(quic_pair_run(&pair, echo_done, 60 * PH_SEC));
    CHECK(pair.sim->now > now + 2 * PH_SEC);
    CHECK(quic_is_pattern(log, MEGABYTE, 9));
    quic_pair_fini(&pair);
}

TEST(sim_quic, bbr_carries_data_as_well)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 6, &bad_link);
    pair.server.echo = true;
    pair.server_config.bbr = pair.client_config.bbr = true;
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, true);
    quic_write_pattern(log->stream, 300000, 4, true);
    CHECK(quic_pair_run(&pair, echo_done, 120 * PH_SEC));
    CHECK(quic_is_pattern(log, 300000, 4));
    quic_pair_fini(&pair);
}

TEST(sim_quic, a_full_socket_loses_nothing)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 7, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, false);
    struct sim_node *node = pair.client_node;
    node->limited = true;
    quic_write_pattern(log->stream, 200000, 8, true);
    sim_run_for(pair.sim, 100 * PH_MSEC);
    CHECK(ph_quic_endpoint_is_blocked(node->ep, node));
    CHECK_INT(quic_app_log(&pair.server, log->id) == NULL, ==, 1);
    for (int i = 0; i < 5000 && !log->closed; i++) {
        node->allowance = 4000; /* between packets, never a whole batch */
        ph_quic_endpoint_writable(node->ep, node);
        sim_run_for(pair.sim, 1 * PH_MSEC);
    }
    CHECK(log->closed);
    CHECK(quic_is_pattern(quic_app_log(&pair.server, log->id), 200000, 8));
    quic_pair_fini(&pair);
}

/* --- Paths --- */

static void rebinding(bool address_too)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 8, &quic_clean_link);
    pair.server.echo = true;
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, true);
    quic_write_pattern(log->stream, MEGABYTE, 5, true);
    sim_run_for(pair.sim, 80 * PH_MSEC);
    CHECK(!log->closed);
    sim_rebind(pair.client_node, address_too);
    CHECK(quic_pair_run(&pair, echo_done, 60 * PH_SEC));
    CHECK(quic_is_pattern(log, MEGABYTE, 5));
    CHECK(ph_addr_equal(&ph_quic_conn_path(pair.server.conn)->remote, &pair.client_node->public));
    quic_pair_fini(&pair);
}

TEST(sim_quic, a_new_port_in_mid_transfer_is_followed)
{
    rebinding(false);
}

TEST(sim_quic, a_new_address_in_mid_transfer_is_followed)
{
    rebinding(true);
}

TEST(sim_quic, a_storm_of_new_ports_is_bounded)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 9, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.client, false);
    for (int i = 0; i < 200; i++) {
        sim_rebind(pair.client_node, false);
        ph_quic_stream_write_copy(log->stream, "x", 1);
        sim_run_for(pair.sim, 5 * PH_MSEC);
    }
    CHECK_INT(pair.server_node->stats.packets_dropped, >, 100);
    quic_pair_fini(&pair);
}

TEST(sim_quic, packets_grow_to_what_the_path_takes)
{
    struct quic_pair pair;
    struct sim_link link = quic_clean_link;
    link.mtu = 1420;
    quic_pair_init(&pair, 10, &link);
    pair.server.echo = true;
    CHECK(quic_pair_connect(&pair));
    size_t before = ph_quic_conn_max_datagram(pair.client.conn);
    struct quic_log *log = quic_app_open(&pair.client, true);
    quic_write_pattern(log->stream, MEGABYTE, 5, true);
    CHECK(quic_pair_run(&pair, echo_done, 60 * PH_SEC));
    CHECK_INT(before, <, 1200);
    CHECK_INT(ph_quic_conn_max_datagram(pair.client.conn), >, 1300);
    CHECK_INT(ph_quic_conn_max_datagram(pair.client.conn), <, 1420);
    CHECK(quic_is_pattern(log, MEGABYTE, 5));
    quic_pair_fini(&pair);
}

/* --- Endings --- */

TEST(sim_quic, a_close_carries_code_and_reason)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 11, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    const struct ph_quic_conn *closing = pair.server.conn, *draining = pair.client.conn;
    ph_quic_conn_close(pair.server.conn, 0x10c, "enough");
    CHECK(quic_pair_run(&pair, client_closed, 1 * PH_SEC));
    /* For three PTOs both wait for stray packets, without what is large. */
    CHECK(closing->state == PH_QUIC_CLOSING && closing->qc == NULL && closing->tls == NULL);
    CHECK(draining->state == PH_QUIC_DRAINING && draining->qc == NULL && draining->tls == NULL);
    CHECK_INT(pair.client.end.how, ==, PH_QUIC_END_PEER);
    CHECK(pair.client.end.app);
    CHECK_INT(pair.client.end.code, ==, 0x10c);
    CHECK_STR(pair.client.end.reason, "enough");
    CHECK_INT(pair.server.end.how, ==, PH_QUIC_END_LOCAL);
    CHECK_INT(pair.server.closed, ==, 1);
    sim_run_for(pair.sim, 5 * PH_SEC); /* closing and draining periods */
    CHECK_INT(ph_live_get(PH_LIVE_QUIC_CONN), ==, 0);
    quic_pair_fini(&pair);
}

TEST(sim_quic, a_lost_close_is_repeated_when_the_peer_goes_on)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 12, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    struct quic_log *log = quic_app_open(&pair.server, false);
    quic_write_pattern(log->stream, 100000, 1, false);
    pair.client_node->link.blackout_from = pair.sim->now;
    pair.client_node->link.blackout_to = pair.sim->now + 5 * PH_MSEC;
    ph_quic_conn_close(pair.client.conn, 7, NULL);
    CHECK(quic_pair_run(&pair, server_closed, 2 * PH_SEC));
    CHECK_INT(pair.server.end.how, ==, PH_QUIC_END_PEER);
    CHECK_INT(pair.server.end.code, ==, 7);
    quic_pair_fini(&pair);
}

TEST(sim_quic, closing_the_endpoint_tells_owners_at_once)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 13, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    ph_quic_endpoint_close(pair.server_node->ep, 0x100, pair.sim->now);
    CHECK_INT(pair.server.closed, ==, 1);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 0);
    CHECK(quic_pair_run(&pair, client_closed, 1 * PH_SEC));
    CHECK_INT(pair.client.end.code, ==, 0x100);
    quic_pair_fini(&pair);
}

TEST(sim_quic, silence_ends_in_the_idle_timeout)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 14, &quic_clean_link);
    pair.server_config.idle_timeout = 5 * PH_SEC;
    CHECK(quic_pair_connect(&pair));
    sim_run_for(pair.sim, 4 * PH_SEC);
    CHECK_INT(pair.server.closed, ==, 0);
    sim_run_for(pair.sim, 3 * PH_SEC);
    CHECK_INT(pair.server.closed, ==, 1);
    CHECK_INT(pair.client.closed, ==, 1);
    CHECK_INT(pair.server.end.how, ==, PH_QUIC_END_IDLE);
    CHECK_INT(pair.client.end.how, ==, PH_QUIC_END_IDLE);
    CHECK_INT(pair.server_node->stats.timeouts_idle, ==, 1);
    CHECK_INT(ph_live_get(PH_LIVE_QUIC_CONN), ==, 0);
    quic_pair_fini(&pair);
}

TEST(sim_quic, a_client_that_falls_silent_in_the_handshake_is_dropped_in_time)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 15, &quic_clean_link);
    quic_pair_start(&pair);
    sim_run_for(pair.sim, 1 * PH_MSEC);
    pair.client_node->link.loss = 1000;
    sim_run_for(pair.sim, 9 * PH_SEC);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 1);
    sim_run_for(pair.sim, 2 * PH_SEC);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 0);
    CHECK_INT(pair.server_node->stats.timeouts_handshake, ==, 1);
    /* RFC 9000 8.1: three times what came, until the address is validated. */
    CHECK_INT(pair.server_node->bytes_out, >, 0);
    CHECK_INT(pair.server_node->bytes_out, <=, 3 * pair.server_node->bytes_in);
    quic_pair_fini(&pair);
}

TEST(sim_quic, a_server_that_does_not_answer_is_given_up_in_time)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 27, &quic_clean_link);
    quic_pair_start(&pair);
    pair.client_node->link.loss = 1000;
    sim_run_for(pair.sim, 9 * PH_SEC);
    CHECK_INT(ph_quic_endpoint_conns(pair.client_node->ep), ==, 1);
    sim_run_for(pair.sim, 2 * PH_SEC);
    CHECK_INT(ph_quic_endpoint_conns(pair.client_node->ep), ==, 0);
    CHECK_INT(pair.client_node->stats.timeouts_handshake, ==, 1);
    CHECK_INT(pair.client.ready, ==, 0);
    quic_pair_fini(&pair);
}

TEST(sim_quic, a_server_that_lost_its_state_resets_the_client)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 16, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    sim_run_for(pair.sim, 1 * PH_SEC);
    sim_node_kill(pair.server_node);
    sim_node_revive(pair.server_node, &pair.server_config, &pair.server.sink);
    struct quic_log *log = quic_app_open(&pair.client, false);
    quic_write_pattern(log->stream, 5000, 1, true);
    CHECK(quic_pair_run(&pair, client_closed, 2 * PH_SEC));
    CHECK_INT(pair.client.end.how, ==, PH_QUIC_END_RESET);
    CHECK_INT(pair.server_node->stats.resets_sent, >, 0);
    quic_pair_fini(&pair);
}

TEST(sim_quic, another_secret_resets_nobody)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 17, &quic_clean_link);
    CHECK(quic_pair_connect(&pair));
    sim_run_for(pair.sim, 1 * PH_SEC);
    sim_node_kill(pair.server_node);
    memset(pair.server_config.secret, 1, sizeof(pair.server_config.secret));
    sim_node_revive(pair.server_node, &pair.server_config, &pair.server.sink);
    struct quic_log *log = quic_app_open(&pair.client, false);
    quic_write_pattern(log->stream, 5000, 1, true);
    sim_run_for(pair.sim, 5 * PH_SEC);
    CHECK_INT(pair.client.closed, ==, 0);
    CHECK_INT(pair.server_node->stats.resets_sent, >, 0);
    quic_pair_fini(&pair);
}

/* --- Versions and tokens --- */

struct capture {
    struct sim_node *from;
    uint32_t version;   /* of the long headers seen; 0: none */
    bool mixed;         /* more than one */
    uint8_t data[1500]; /* the first Initial with a token */
    size_t n;
};

static void capture_tap(void *self, struct sim_node *from, const uint8_t *data, size_t n)
{
    struct capture *capture = self;
    if (from->index != 1 || (data[0] & 0x80) == 0)
        return;
    uint32_t version = ph_u32_get(data + 1);
    capture->mixed = capture->mixed || (capture->version != 0 && capture->version != version);
    capture->version = version;
    size_t at = 6 + (size_t)data[5];
    at += 1 + (size_t)data[at];
    if (capture->n == 0 && (data[0] & 0x30) == 0 && n <= sizeof(capture->data) && data[at] != 0) {
        memcpy(capture->data, data, n);
        capture->n = n;
    }
}

TEST(sim_quic, version_2_is_spoken_to_those_who_begin_with_it)
{
    struct quic_pair pair;
    struct capture capture = {.version = 0};
    quic_pair_init(&pair, 18, &quic_clean_link);
    pair.client_config.client_version = 0x6b3343cf;
    pair.sim->tap = capture_tap;
    pair.sim->tap_self = &capture;
    CHECK(quic_pair_connect(&pair));
    CHECK(capture.version == 0x6b3343cf && !capture.mixed);
    quic_pair_fini(&pair);
}

TEST(sim_quic, an_unknown_version_is_negotiated)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 19, &quic_clean_link);
    pair.client_config.client_version = 0x1a2a3a4a;
    quic_pair_start(&pair);
    CHECK(quic_pair_run(&pair, client_gone, 1 * PH_SEC));
    CHECK_INT(pair.server_node->stats.version_negotiations, ==, 1);
    CHECK_INT(pair.server_node->bytes_out, <, pair.server_node->bytes_in);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 0);
    quic_pair_fini(&pair);
}

TEST(sim_quic, retry_is_asked_for_and_answered)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 20, &quic_clean_link);
    pair.server_config.always_retry = true;
    pair.server.echo = true;
    CHECK(quic_pair_connect(&pair));
    CHECK_INT(pair.server_node->stats.retries_sent, ==, 1);
    struct quic_log *log = quic_app_open(&pair.client, true);
    quic_write_pattern(log->stream, 5000, 1, true);
    CHECK(quic_pair_run(&pair, echo_done, 5 * PH_SEC));
    quic_pair_fini(&pair);
}

TEST(sim_quic, a_retry_token_of_another_address_is_refused)
{
    struct quic_pair pair;
    struct capture capture = {.version = 0};
    struct ph_addr thief;
    quic_pair_init(&pair, 21, &quic_clean_link);
    pair.server_config.always_retry = true;
    pair.sim->tap = capture_tap;
    pair.sim->tap_self = &capture;
    CHECK(quic_pair_connect(&pair));
    CHECK_INT(capture.n, >=, 1200);
    sim_node_kill(pair.server_node);
    sim_node_revive(pair.server_node, &pair.server_config, &pair.server.sink);
    uint64_t before = pair.server_node->packets_out;
    CHECK_INT(ph_addr_parse(&thief, "10.9.9.9", 999), ==, 0);
    sim_inject(pair.server_node, &thief, capture.data, capture.n);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 0);
    CHECK_INT(pair.server_node->packets_out, ==, before + 1); /* INVALID_TOKEN */
    /* The rightful owner, in time; and then too late. */
    sim_inject(pair.server_node, &pair.client_node->addr, capture.data, capture.n);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 1);
    sim_node_kill(pair.server_node);
    sim_node_revive(pair.server_node, &pair.server_config, &pair.server.sink);
    pair.sim->now += 11 * PH_SEC;
    sim_inject(pair.server_node, &pair.client_node->addr, capture.data, capture.n);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 0);
    /* A token that cannot be read at all is no token: here that means another Retry. */
    uint64_t retries = pair.server_node->stats.retries_sent;
    size_t at = 6 + (size_t)capture.data[5];
    at += 1 + (size_t)capture.data[at];
    capture.data[at + 3] ^= 0xff;
    sim_inject(pair.server_node, &pair.client_node->addr, capture.data, capture.n);
    CHECK_INT(pair.server_node->stats.retries_sent, ==, retries + 1);
    quic_pair_fini(&pair);
}

/* Returns the first of them. */
static struct ph_quic_conn *start_clients(struct quic_pair *pair, int n)
{
    struct ph_quic_conn *first = NULL;
    for (int i = 0; i < n; i++) {
        struct ph_quic_conn *conn = NULL;
        sim_connect(pair->client_node, pair->server_node, pair->client_cred, &conn);
        first = first == NULL ? conn : first;
    }
    return first;
}

static bool six_handshakes(void *arg)
{
    const struct quic_pair *pair = arg;
    return pair->server.handshakes == 6 && pair->client.handshakes == 6;
}

TEST(sim_quic, many_half_open_handshakes_bring_retry)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 22, &quic_clean_link);
    pair.server_config.half_open_retry = 4;
    quic_pair_start(&pair); /* the first */
    start_clients(&pair, 3);
    pair.server_node->link.loss = 1000; /* their handshakes stay half open */
    sim_run_for(pair.sim, 11 * PH_MSEC);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 4);
    CHECK_INT(pair.server_node->stats.retries_sent, ==, 0);
    start_clients(&pair, 2);
    sim_run_for(pair.sim, 11 * PH_MSEC);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 4);
    CHECK_INT(pair.server_node->stats.retries_sent, ==, 2);
    pair.server_node->link.loss = 0;
    CHECK(quic_pair_run(&pair, six_handshakes, 8 * PH_SEC));
    quic_pair_fini(&pair);
}

TEST(sim_quic, above_the_half_open_limit_initials_are_dropped)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 23, &quic_clean_link);
    pair.server_config.half_open_max = 3;
    quic_pair_start(&pair);
    pair.server_node->link.loss = 1000;
    start_clients(&pair, 5);
    sim_run_for(pair.sim, 11 * PH_MSEC);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 3);
    CHECK_INT(pair.server_node->stats.handshakes_refused, ==, 3);
    quic_pair_fini(&pair);
}

static bool three_or_more_are_through(void *arg)
{
    const struct quic_pair *pair = arg;
    return pair->client.handshakes >= 3 && ph_quic_endpoint_conns(pair->client_node->ep) == 3;
}

/* All begin together, so that the last two are found to be too many when their address is proven:
 * at the end of the handshake, or by the token of a Retry. Later ones are refused at once. */
TEST(sim_quic, connections_of_one_peer_above_its_limit_are_refused)
{
    for (int always_retry = 0; always_retry < 2; always_retry++) {
        struct ph_stats stats = {0};
        struct ph_admission adm;
        struct quic_pair pair;
        quic_pair_init(&pair, 27, &quic_clean_link);
        ph_admission_init(&adm, 100, 3, &stats);
        pair.server_config.admission = &adm;
        pair.server_config.always_retry = always_retry;
        quic_pair_start(&pair);
        struct ph_quic_conn *admitted = start_clients(&pair, 4);
        CHECK(quic_pair_run(&pair, three_or_more_are_through, 8 * PH_SEC));
        CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 3);
        CHECK_INT(stats.limit_conns_per_ip, ==, 2);
        start_clients(&pair, 1);
        sim_run_for(pair.sim, 1 * PH_SEC);
        CHECK_INT(stats.limit_conns_per_ip, ==, 3);
        CHECK_INT(ph_quic_endpoint_conns(pair.client_node->ep), ==, 3);
        CHECK_INT(adm.conns, ==, 3);
        ph_quic_conn_close(admitted, 0, NULL); /* a place is free again */
        sim_run_for(pair.sim, 1 * PH_SEC);
        CHECK_INT(adm.conns, ==, 2);
        start_clients(&pair, 1);
        sim_run_for(pair.sim, 1 * PH_SEC);
        CHECK_INT(ph_quic_endpoint_conns(pair.client_node->ep), ==, 3);
        CHECK_INT(stats.limit_conns_per_ip, ==, 3);
        quic_pair_fini(&pair);
        CHECK_INT(adm.conns, ==, 0);
        CHECK_INT(adm.peers.count, ==, 0);
        ph_admission_fini(&adm);
    }
}

/* Whoever forges addresses takes places of the whole, never of the one whose address it is. */
TEST(sim_quic, unproven_addresses_take_no_place_of_a_peer)
{
    struct ph_stats stats = {0};
    struct ph_admission adm;
    struct quic_pair pair;
    quic_pair_init(&pair, 28, &quic_clean_link);
    ph_admission_init(&adm, 100, 1, &stats);
    pair.server_config.admission = &adm;
    quic_pair_start(&pair);
    start_clients(&pair, 5);
    pair.server_node->link.loss = 1000;
    sim_run_for(pair.sim, 11 * PH_MSEC);
    CHECK_INT(adm.conns, ==, 6);
    CHECK_INT(adm.peers.count, ==, 0);
    CHECK_INT(stats.limit_conns_per_ip, ==, 0);
    quic_pair_fini(&pair);
    CHECK_INT(adm.conns, ==, 0);
    ph_admission_fini(&adm);
}

TEST(sim_quic, connections_above_the_limit_are_refused)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 24, &quic_clean_link);
    pair.server_config.max_conns = 1;
    CHECK(quic_pair_connect(&pair));
    start_clients(&pair, 1);
    sim_run_for(pair.sim, 1 * PH_SEC);
    CHECK_INT(ph_quic_endpoint_conns(pair.client_node->ep), ==, 1);
    CHECK_INT(pair.server_node->stats.limit_conns, >=, 1);
    ph_quic_endpoint_refuse(pair.server_node->ep);
    start_clients(&pair, 1);
    sim_run_for(pair.sim, 1 * PH_SEC);
    CHECK_INT(ph_quic_endpoint_conns(pair.client_node->ep), ==, 1);
    quic_pair_fini(&pair);
}

TEST(sim_quic, nothing_is_said_to_what_cannot_be_honest)
{
    struct quic_pair pair;
    uint8_t junk[1500];
    struct ph_addr from;
    quic_pair_init(&pair, 25, &quic_clean_link);
    quic_pair_start(&pair);
    CHECK_INT(ph_addr_parse(&from, "10.7.7.7", 7000), ==, 0);
    memset(junk, 0, sizeof(junk));
    sim_inject(pair.server_node, &from, junk, 0);
    junk[0] = 0x40;
    for (size_t n = 1; n < 43; n++) /* too short for a stateless reset */
        sim_inject(pair.server_node, &from, junk, n);
    junk[0] = 0xc0;
    ph_u32_put(junk + 1, 0x0a1a2a3a);
    sim_inject(pair.server_node, &from, junk, 1199); /* too short for Version Negotiation */
    ph_u32_put(junk + 1, 0);
    sim_inject(pair.server_node, &from, junk, 1400); /* is Version Negotiation itself */
    ph_u32_put(junk + 1, 1);
    junk[5] = 7;
    sim_inject(pair.server_node, &from, junk, 1400); /* connection id too short */
    junk[5] = 21;
    sim_inject(pair.server_node, &from, junk, 1400); /* and too long */
    junk[5] = 8;
    sim_inject(pair.server_node, &from, junk, 1199); /* too short for an Initial */
    CHECK_INT(pair.server_node->packets_out, ==, 0);
    CHECK_INT(pair.server_node->stats.packets_dropped, ==, 48);
    CHECK_INT(ph_quic_endpoint_conns(pair.server_node->ep), ==, 0);
    junk[0] = 0x40;
    for (size_t n = 43; n < 60; n++) {
        uint64_t before = pair.server_node->bytes_out;
        sim_inject(pair.server_node, &from, junk, n);
        CHECK_INT(pair.server_node->bytes_out - before, <, n);
        CHECK_INT(pair.server_node->bytes_out - before, >, 20);
    }
    for (int i = 0; i < 1000; i++)
        sim_inject(pair.server_node, &from, junk, 1200);
    CHECK_INT(pair.server_node->stats.resets_sent, ==, 100); /* reset_rate, one instant */
    quic_pair_fini(&pair);
}

/* --- The machinery --- */

static bool server_has_connection(void *arg)
{
    return !server_gone(arg);
}

TEST(sim_quic, an_endpoint_freed_in_the_middle_leaves_nothing)
{
    struct quic_pair pair;
    quic_pair_init(&pair, 26, &quic_clean_link);
    quic_pair_start(&pair);
    CHECK(quic_pair_run(&pair, server_has_connection, 1 * PH_SEC));
    quic_pair_fini(&pair); /* the leak check is the test */
}
