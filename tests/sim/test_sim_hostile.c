/* test_sim_hostile.c - a server against clients that hold valid keys and send what they like. */
#include "../unit/test.h"
#include "hostile.h"
#include "quic_app.h"

#include "../../src/quic/quic_internal.h"

struct siege {
    struct quic_pair pair; /* node 1, the honest client, is a bystander */
    struct hostile *hostile;
};

static void siege_init(struct siege *siege)
{
    quic_pair_init(&siege->pair, 3, &quic_clean_link);
}

static void siege_start(struct siege *siege)
{
    struct quic_pair *pair = &siege->pair;
    pair->server_node = sim_node_new(pair->sim, &pair->server_config, &pair->server.sink);
    siege->hostile = hostile_new(pair->sim, pair->server_node, pair->client_cred, NULL);
    sim_run_for(pair->sim, 1 * PH_SEC);
    CHECK(hostile_is_ready(siege->hostile));
    CHECK_INT(pair->server.handshakes, ==, 1);
}

static void siege_end(struct siege *siege)
{
    hostile_free(siege->hostile);
    quic_pair_fini(&siege->pair);
}

/* Sends the frames on a fresh connection and expects its end with this code. */
static void expect_close(const char *what, const void *frames, size_t n, uint64_t want)
{
    struct siege siege;
    uint64_t code = 0;
    bool app = false;
    siege_init(&siege);
    siege_start(&siege);
    hostile_send(siege.hostile, frames, n);
    bool closed = hostile_is_closed(siege.hostile, &code, &app);
    unsigned told = siege.pair.server.closed;
    siege_end(&siege);
    if (!closed || app || code != want || told != 1)
        ph_test_fail(__FILE__, __LINE__, "%s: closed %d, code 0x%llx, wanted 0x%llx", what, closed,
                     (unsigned long long)code, (unsigned long long)want);
}
#define EXPECT_CLOSE(frames, code) expect_close(#frames, frames, sizeof(frames) - 1, code)

TEST(sim_hostile, frames_in_the_wrong_direction_close_the_connection)
{
    EXPECT_CLOSE("\x1e", NGTCP2_PROTOCOL_VIOLATION);           /* HANDSHAKE_DONE */
    EXPECT_CLOSE("\x07\x02hi", NGTCP2_PROTOCOL_VIOLATION);     /* NEW_TOKEN */
    EXPECT_CLOSE("\x0a\x03\x02hi", NGTCP2_STREAM_STATE_ERROR); /* our own stream 3 */
    EXPECT_CLOSE("\x0a\x01\x02hi", NGTCP2_STREAM_STATE_ERROR); /* not opened by us */
    EXPECT_CLOSE("\x11\x02\x20", NGTCP2_STREAM_STATE_ERROR);   /* credit for its uni stream */
    EXPECT_CLOSE("\x05\x02\x20", NGTCP2_STREAM_STATE_ERROR);   /* stop of its own */
    EXPECT_CLOSE("\x02\x7f\xff\x00\x00\x00", NGTCP2_PROTOCOL_VIOLATION); /* never sent */
}

TEST(sim_hostile, broken_frames_close_the_connection)
{
    EXPECT_CLOSE("\x7f\xff", NGTCP2_FRAME_ENCODING_ERROR); /* unknown type */
    EXPECT_CLOSE("\x18\x01\x02\x04"
                 "cidX0123456789abcdef",
                 NGTCP2_FRAME_ENCODING_ERROR); /* retire prior to a later one */
    EXPECT_CLOSE("\x12\xd0\x00\x00\x00\x00\x00\x00\x01",
                 NGTCP2_FRAME_ENCODING_ERROR); /* more than 2^60 streams */
    EXPECT_CLOSE("\x0a\x00\x02hi\x04\x00\x05\x01",
                 NGTCP2_FINAL_SIZE_ERROR); /* the final size is not final */
}

TEST(sim_hostile, limits_hold_for_every_frame_that_names_a_stream)
{
    /* 1024 streams: bidirectional 4092 is the last, unidirectional 4094. */
    EXPECT_CLOSE("\x0a\x50\x00\x02hi", NGTCP2_STREAM_LIMIT_ERROR);
    EXPECT_CLOSE("\x04\x50\x02\x05\x00", NGTCP2_STREAM_LIMIT_ERROR);
    EXPECT_CLOSE("\x05\x50\x00\x05", NGTCP2_STREAM_LIMIT_ERROR);
    EXPECT_CLOSE("\x0c\x00\x80\x04\x00\x00X", NGTCP2_FLOW_CONTROL_ERROR); /* offset 256 KiB */
    EXPECT_CLOSE("\x04\x02\x05\x80\x04\x00\x01", NGTCP2_FLOW_CONTROL_ERROR);
}

TEST(sim_hostile, the_last_permitted_stream_may_come_first)
{
    struct siege siege;
    uint64_t code;
    bool app;
    siege_init(&siege);
    siege_start(&siege);
    hostile_send(siege.hostile, "\x0b\x4f\xfe\x02hi", 6);
    CHECK(!hostile_is_closed(siege.hostile, &code, &app));
    CHECK_INT(siege.pair.server.logs_count, ==, 1); /* not a thousand */
    CHECK_INT(siege.pair.server.logs[0]->id, ==, 4094);
    CHECK(siege.pair.server.logs[0]->fin);
    siege_end(&siege);
}

/* Every order of frames on one stream, in one packet: each event once (quic_app asserts it), the
 * connection lives, nothing is left. */
struct frame {
    const char *bytes;
    size_t n;
};

static void permute(struct siege *siege, struct frame *frames, size_t k, size_t count, uint8_t *id)
{
    if (k < count) {
        for (size_t i = k; i < count; i++) {
            struct frame tmp = frames[k];
            frames[k] = frames[i];
            frames[i] = tmp;
            permute(siege, frames, k + 1, count, id);
            frames[i] = frames[k];
            frames[k] = tmp;
        }
        return;
    }
    uint8_t packet[200], *p = packet;
    for (size_t i = 0; i < count; i++) {
        *p++ = (uint8_t)frames[i].bytes[0];
        p = ph_u16_put(p, (uint16_t)(0x4000 | *id << 2));
        memcpy(p, frames[i].bytes + 1, frames[i].n - 1);
        p += frames[i].n - 1;
    }
    hostile_send_now(siege->hostile, packet, (size_t)(p - packet));
    sim_run_for(siege->pair.sim, 30 * PH_MSEC);
    (*id)++;
}

TEST(sim_hostile, any_order_of_frames_in_one_packet_is_survived)
{
    struct siege siege;
    uint64_t code = 0;
    bool app = false;
    uint8_t id = 0;
    struct frame frames[] = {{"\x0b\x02hi", 4},           /* STREAM with FIN, 2 bytes */
                             {"\x04\x21\x02", 3},         /* RESET_STREAM, final size 2 */
                             {"\x05\x22", 2},             /* STOP_SENDING */
                             {"\x11\x80\x10\x00\x00", 5}, /* MAX_STREAM_DATA */
                             {"\x0a\x01h", 3}};           /* the first byte again */
    siege_init(&siege);
    siege.pair.server.echo = true;
    siege_start(&siege);
    hostile_open(siege.hostile, 120);
    permute(&siege, frames, 0, PH_COUNT_OF(frames), &id);
    CHECK_INT(id, ==, 120);
    sim_run_for(siege.pair.sim, 2 * PH_SEC);
    CHECK(!hostile_is_closed(siege.hostile, &code, &app));
    CHECK_INT(siege.pair.server.logs_count, ==, 120);
    for (size_t i = 0; i < 120; i++)
        CHECK(siege.pair.server.logs[i]->closed);
    CHECK_INT(siege.pair.server.conn->streams.count, ==, 0);
    siege_end(&siege);
}

#if PH_QUIC_SCAN_FRAMES /* later versions of ngtcp2 have a budget of their own */
TEST(sim_hostile, frames_without_progress_use_up_a_budget)
{
    struct siege siege;
    uint64_t code = 0;
    bool app = false;
    uint8_t pings[1000];
    memset(pings, 1, sizeof(pings));
    siege_init(&siege);
    siege_start(&siege);
    for (int i = 0; i < 9; i++)
        hostile_send_now(siege.hostile, pings, sizeof(pings));
    sim_run_for(siege.pair.sim, 20 * PH_MSEC);
    CHECK(!hostile_is_closed(siege.hostile, &code, &app));
    for (int i = 0; i < 3; i++)
        hostile_send_now(siege.hostile, pings, sizeof(pings));
    sim_run_for(siege.pair.sim, 50 * PH_MSEC);
    CHECK(hostile_is_closed(siege.hostile, &code, &app));
    CHECK(app);
    CHECK_INT(code, ==, 0x107);
    CHECK_INT(siege.pair.server_node->stats.limit_glitch, ==, 1);
    siege_end(&siege);
}
#endif

TEST(sim_hostile, retired_ids_leave_the_table)
{
    struct siege siege;
    uint64_t code = 0;
    bool app = false, closed = false;
    size_t most = 0;
    siege_init(&siege);
    siege_start(&siege);
    for (uint64_t seq = 1; seq < 500 && !closed; seq++) {
        uint8_t frame[9] = {0x19};
        uint8_t *end = ph_varint_put(frame + 1, seq);
        hostile_send_now(siege.hostile, frame, (size_t)(end - frame));
        sim_run_for(siege.pair.sim, 21 * PH_MSEC);
        if (siege.pair.server.conn != NULL)
            most = PH_MAX(most, siege.pair.server.conn->cids_count);
        closed = hostile_is_closed(siege.hostile, &code, &app);
    }
    CHECK(closed); /* it retired what it had not got yet */
    CHECK_INT(code, ==, NGTCP2_PROTOCOL_VIOLATION);
    CHECK_INT(most, <=, 16);
    sim_run_for(siege.pair.sim, 5 * PH_SEC);
    CHECK_INT(siege.pair.server_node->ep->cids.count, ==, 0);
    siege_end(&siege);
}

TEST(sim_hostile, making_us_issue_ids_without_end_ends_the_connection)
{
    struct siege siege;
    ngtcp2_callbacks callbacks;
    uint64_t code = 0;
    bool app = false;
    siege_init(&siege);
    siege_start(&siege);
    ph_quic_callbacks(&callbacks, true);
    struct ph_quic_conn *conn = siege.pair.server.conn;
    size_t before = conn->cids_count;
    for (int i = 0; i < 70; i++) { /* as the library does for each retired one */
        ngtcp2_cid cid;
        uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN];
        CHECK_INT(callbacks.get_new_connection_id(conn->qc, &cid, token, PH_QUIC_CID_LEN, conn), ==,
                  0);
        CHECK_INT(conn->cids_count, ==, before + 1);
        callbacks.remove_connection_id(conn->qc, &cid, conn);
    }
    sim_run_for(siege.pair.sim, 100 * PH_MSEC);
    CHECK(hostile_is_closed(siege.hostile, &code, &app));
    CHECK(app);
    CHECK_INT(code, ==, 0x107);
    siege_end(&siege);
}

TEST(sim_hostile, streams_that_only_ever_reset_stay_bounded)
{
    struct siege siege;
    siege_init(&siege);
    siege.pair.server_config.max_streams_uni = 1024;
    siege_start(&siege);
    uint64_t next = 0;
    for (int i = 0; i < 400; i++) {
        uint8_t packet[1000], *p = packet;
        for (int k = 0; k < 20; k++, next++) {
            *p++ = 0x04;
            p = ph_varint_put(p, next * 4 + 2);
            *p++ = 9;
            *p++ = 0;
        }
        hostile_send_now(siege.hostile, packet, (size_t)(p - packet));
        sim_run_for(siege.pair.sim, 21 * PH_MSEC);
        uint64_t code;
        bool app;
        if (hostile_is_closed(siege.hostile, &code, &app))
            break;
    }
    uint64_t code = 0;
    bool app = false;
    if (!hostile_is_closed(siege.hostile, &code, &app)) {
        CHECK(NGTCP2_VERSION_NUM > 0x010b00); /* a library that closes them itself */
        CHECK_INT(siege.pair.server.conn->zombies, ==, 0);
        siege_end(&siege);
        return;
    }
    CHECK_INT(code, ==, NGTCP2_STREAM_LIMIT_ERROR); /* credit is no longer returned */
    CHECK_INT(next, >=, PH_QUIC_ZOMBIE_STREAMS + 1000);
    CHECK_INT(siege.pair.server.logs_count, <=, PH_QUIC_ZOMBIE_STREAMS + 1024 + 20);
    siege_end(&siege);
}

TEST(sim_hostile, a_datagram_larger_than_advertised_is_refused)
{
    struct siege siege;
    uint64_t code = 0;
    bool app = false;
    uint8_t frame[3 + 497] = {0x31, 0x41, 0xf1}; /* 500 bytes in all */
    siege_init(&siege);
    siege.pair.server_config.max_datagram_frame = 500;
    siege_start(&siege);
    hostile_send(siege.hostile, frame, sizeof(frame));
    CHECK(!hostile_is_closed(siege.hostile, &code, &app));
    CHECK_INT(siege.pair.server.datagrams_count, ==, 1);
    uint8_t larger[3 + 498] = {0x31, 0x41, 0xf2};
    hostile_send(siege.hostile, larger, sizeof(larger));
    CHECK(hostile_is_closed(siege.hostile, &code, &app));
    CHECK(!app);
    CHECK_INT(code, ==, NGTCP2_PROTOCOL_VIOLATION);
    siege_end(&siege);
}

TEST(sim_hostile, crypto_data_after_the_handshake_is_bounded)
{
    struct siege siege;
    uint64_t code = 0;
    bool app = false;
    siege_init(&siege);
    siege_start(&siege);
    for (uint64_t i = 1; i < 400; i++) { /* with a hole at 0 */
        uint8_t frame[1000] = {0x06};
        uint8_t *p = ph_varint_put(frame + 1, i * 900);
        p = ph_varint_put(p, 900);
        hostile_send_now(siege.hostile, frame, (size_t)(p - frame) + 900);
        sim_run_for(siege.pair.sim, 1 * PH_MSEC);
    }
    sim_run_for(siege.pair.sim, 100 * PH_MSEC);
    CHECK(hostile_is_closed(siege.hostile, &code, &app));
    CHECK(!app);
    CHECK_INT(code, ==, NGTCP2_CRYPTO_BUFFER_EXCEEDED);
    siege_end(&siege);
}

TEST(sim_hostile, a_hello_without_its_beginning_is_completed)
{
    struct siege siege;
    siege_init(&siege);
    struct quic_pair *pair = &siege.pair;
    pair->server_node = sim_node_new(pair->sim, &pair->server_config, &pair->server.sink);
    siege.hostile = hostile_new(pair->sim, pair->server_node, pair->client_cred,
                                &(struct hostile_options){.split = true});
    sim_run_for(pair->sim, 15 * PH_MSEC);
    /* Either a Retry and no state, or (later versions of ngtcp2) a bounded buffer. */
    CHECK_INT(pair->server_node->stats.retries_sent + ph_quic_endpoint_conns(pair->server_node->ep),
              ==, 1);
    sim_run_for(pair->sim, 1 * PH_SEC);
    CHECK(hostile_is_ready(siege.hostile));
    CHECK_INT(pair->server.handshakes, ==, 1);
    siege_end(&siege);
}

TEST(sim_hostile, a_stopped_stream_ends_with_a_fin_behind_a_gap)
{
    struct siege siege;
    siege_init(&siege);
    siege.pair.server.stop_at_once = true;
    siege_start(&siege);
    /* The end is there first, then the beginning (which brings the stop), then the rest. */
    hostile_send(siege.hostile, "\x0e\x02\x04\x02xx", 6);
    hostile_send(siege.hostile, "\x0f\x02\x0a\x02hi", 6);
    hostile_send(siege.hostile, "\x0e\x02\x00\x04xxxx", 8);
    hostile_send(siege.hostile, "\x0e\x02\x06\x04xxxx", 8);
    /* The stop first. */
    hostile_send(siege.hostile, "\x0e\x06\x00\x02xx", 6);
    hostile_send(siege.hostile, "\x0f\x06\x0a\x02hi", 6);
    hostile_send(siege.hostile, "\x0e\x06\x02\x08xxxxxxxx", 12);
    /* Bidirectional: not before our side is over as well. */
    hostile_send(siege.hostile, "\x0e\x00\x00\x02xx", 6);
    hostile_send(siege.hostile, "\x0f\x00\x0a\x02hi", 6);
    hostile_send(siege.hostile, "\x0e\x00\x02\x08xxxxxxxx", 12);
    CHECK_INT(siege.pair.server.logs_count, ==, 3);
    CHECK(siege.pair.server.logs[0]->closed && siege.pair.server.logs[1]->closed);
    CHECK(!siege.pair.server.logs[2]->closed);
    ph_quic_stream_reset(siege.pair.server.logs[2]->stream, 5);
    sim_run_for(siege.pair.sim, 100 * PH_MSEC);
    /* A library that ends such streams itself waits for its reset to be acknowledged. */
    CHECK(siege.pair.server.logs[2]->closed || !PH_QUIC_SCAN_FRAMES);
    CHECK_INT(siege.pair.server.conn->streams.count, <=, 1);
    siege_end(&siege);
}

/* A new connection with this token from this address: how many Retry packets it was sent. */
static uint64_t retries_with(struct siege *siege, const uint8_t *token, size_t n,
                             const struct ph_addr *addr)
{
    struct quic_pair *pair = &siege->pair;
    uint64_t before = pair->server_node->stats.retries_sent;
    struct hostile *other =
        hostile_new(pair->sim, pair->server_node, pair->client_cred,
                    &(struct hostile_options){.token = token, .token_len = n, .addr = addr});
    sim_run_for(pair->sim, 1 * PH_SEC);
    CHECK(hostile_is_ready(other));
    hostile_free(other);
    return pair->server_node->stats.retries_sent - before;
}

TEST(sim_hostile, one_token_comes_and_spares_its_address_a_retry)
{
    struct siege siege;
    uint8_t token[256];
    struct ph_addr addr;
    siege_init(&siege);
    siege.pair.server_config.always_retry = true;
    siege_start(&siege);
    addr = siege.pair.sim->nodes[1]->addr;
    size_t n = hostile_token(siege.hostile, token, sizeof(token));
    CHECK_INT(n, >, 16);
    hostile_free(siege.hostile);
    CHECK_INT(retries_with(&siege, token, n, &addr), ==, 0);
    CHECK_INT(retries_with(&siege, token, n, NULL), ==, 1); /* from elsewhere */
    CHECK_INT(retries_with(&siege, NULL, 0, &addr), ==, 1);
    token[3] ^= 1;
    CHECK_INT(retries_with(&siege, token, n, &addr), ==, 1);
    token[3] ^= 1;
    siege.pair.sim->now += 3600 * PH_SEC;
    CHECK_INT(retries_with(&siege, token, n, &addr), ==, 1); /* too old */
    quic_pair_fini(&siege.pair);
}

TEST(sim_hostile, the_owner_gets_no_event_after_closing)
{
    struct siege siege;
    siege_init(&siege);
    siege_start(&siege);
    ph_quic_conn_close(siege.pair.server.conn, 0x102, "no");
    hostile_send(siege.hostile, "\x0a\x00\x02hi", 5);
    CHECK_INT(siege.pair.server.logs_count, ==, 0);
    CHECK_INT(siege.pair.server.closed, ==, 1);
    siege_end(&siege);
}

/* --- Rows of the catalogue that need one frame, again and again --- */

static void long_delays(ngtcp2_transport_params *params)
{
    params->ack_delay_exponent = 21;
}
static void small_packets(ngtcp2_transport_params *params)
{
    params->max_udp_payload_size = 1199;
}
TEST(sim_hostile, A18_impossible_transport_parameters_end_the_handshake)
{
    static void (*const tunes[])(ngtcp2_transport_params *) = {long_delays, small_packets};
    for (size_t i = 0; i < PH_COUNT_OF(tunes); i++) {
        struct siege siege;
        uint64_t code = 0;
        bool app = true;
        siege_init(&siege);
        struct quic_pair *pair = &siege.pair;
        pair->server_node = sim_node_new(pair->sim, &pair->server_config, &pair->server.sink);
        siege.hostile = hostile_new(pair->sim, pair->server_node, pair->client_cred,
                                    &(struct hostile_options){.tune = tunes[i]});
        sim_run_for(pair->sim, 1 * PH_SEC);
        CHECK(hostile_is_closed(siege.hostile, &code, &app));
        CHECK(!app);
        CHECK_INT(code, ==, NGTCP2_TRANSPORT_PARAMETER_ERROR);
        CHECK_INT(pair->server.handshakes, ==, 0);
        siege_end(&siege);
    }
}

TEST(sim_hostile, A22_a_reason_without_measure_is_cut)
{
    struct siege siege;
    uint8_t frame[1100] = {0x1d, 0x40, 0xff};
    memset(frame, '\x1b', sizeof(frame));
    frame[0] = 0x1d;
    frame[1] = 0x40;
    frame[2] = 0xff; /* code 255 */
    uint8_t *p = ph_varint_put(frame + 3, 1000);
    siege_init(&siege);
    siege_start(&siege);
    hostile_send(siege.hostile, frame, (size_t)(p - frame) + 1000);
    const struct ph_quic_end *end = &siege.pair.server.end;
    CHECK_INT(siege.pair.server.closed, ==, 1);
    CHECK(end->how == PH_QUIC_END_PEER && end->app);
    CHECK_INT(end->code, ==, 255);
    CHECK_INT(strlen(end->reason), ==, 256);
    siege_end(&siege);
}

/* NEW_CONNECTION_ID number `seq`. */
static size_t new_cid_frame(uint8_t *out, uint64_t seq, uint64_t retire)
{
    uint8_t *p = out;
    *p++ = 0x18;
    p = ph_varint_put(p, seq);
    p = ph_varint_put(p, retire);
    *p++ = 8;
    memset(p, 0, 24); /* an id and its token */
    ph_u32_put(p, (uint32_t)seq);
    ph_u32_put(p + 8, (uint32_t)seq);
    return (size_t)(p + 24 - out);
}

TEST(sim_hostile, B1_more_ids_than_the_server_asked_for_close_the_connection)
{
    struct siege siege;
    uint8_t packet[1000];
    size_t n = 0;
    uint64_t code = 0;
    bool app = true;
    siege_init(&siege);
    siege_start(&siege);
    for (uint64_t seq = 50; seq < 70; seq++)
        n += new_cid_frame(packet + n, seq, 0);
    hostile_send(siege.hostile, packet, n);
    CHECK(hostile_is_closed(siege.hostile, &code, &app));
    CHECK(!app);
    CHECK_INT(code, ==, NGTCP2_CONNECTION_ID_LIMIT_ERROR);
    siege_end(&siege);
}

/* Each id takes the place of all before it: what the server owes for them stays bounded. The
 * client's library, whose own ids go as well, hears nothing any more: it is the server that tells.
 */
TEST(sim_hostile, B1_ids_that_retire_each_other_end_in_a_close)
{
    struct siege siege;
    siege_init(&siege);
    siege_start(&siege);
    uint64_t seq = 50;
    for (int i = 0; i < 8 && siege.pair.server.closed == 0; i++) {
        uint8_t packet[1000];
        size_t n = 0;
        for (; n + 64 < sizeof(packet); seq++)
            n += new_cid_frame(packet + n, seq, seq);
        hostile_send_now(siege.hostile, packet, n);
        sim_run_for(siege.pair.sim, 21 * PH_MSEC);
    }
    CHECK_INT(siege.pair.server.closed, ==, 1);
    CHECK(siege.pair.server.end.how == PH_QUIC_END_LOCAL && !siege.pair.server.end.app);
    CHECK_INT(siege.pair.server.end.code, ==, NGTCP2_CONNECTION_ID_LIMIT_ERROR);
    siege_end(&siege);
}

TEST(sim_hostile, B3_challenges_are_answered_a_few_at_a_time)
{
    struct siege siege;
    uint8_t packet[1000];
    uint64_t code = 0;
    bool app = false;
    for (size_t i = 0; i + 9 <= sizeof(packet); i += 9) {
        packet[i] = 0x1a;
        memset(packet + i + 1, (int)i, 8);
    }
    siege_init(&siege);
    siege_start(&siege);
    uint64_t before = siege.pair.server_node->packets_out;
    for (int i = 0; i < 50; i++) {
        hostile_send_now(siege.hostile, packet, 999);
        sim_run_for(siege.pair.sim, 1 * PH_MSEC);
    }
    sim_run_for(siege.pair.sim, 100 * PH_MSEC);
    CHECK_INT(siege.pair.server_node->packets_out - before, <=, 3 * 50); /* of 5550 challenges */
    CHECK(!hostile_is_closed(siege.hostile, &code, &app));
    siege_end(&siege);
}

/* Every other byte of a stream, none at its beginning. */
TEST(sim_hostile, B8_bytes_between_gaps_are_bounded)
{
    struct siege siege;
    uint64_t code = 0;
    bool app = true, closed = false;
    siege_init(&siege);
    siege_start(&siege);
    uint64_t offset = 1;
    for (int i = 0; i < 400 && !closed; i++) {
        uint8_t packet[1000], *p = packet;
        while (p - packet < 980) {
            *p++ = 0x0e;
            *p++ = 0x02;
            p = ph_varint_put(p, offset);
            *p++ = 1;
            *p++ = 'x';
            offset += 2;
        }
        hostile_send_now(siege.hostile, packet, (size_t)(p - packet));
        sim_run_for(siege.pair.sim, 1 * PH_MSEC);
        closed = hostile_is_closed(siege.hostile, &code, &app);
    }
    sim_run_for(siege.pair.sim, 100 * PH_MSEC);
    CHECK(hostile_is_closed(siege.hostile, &code, &app));
    CHECK(!app);
    CHECK_INT(offset, <, 40000); /* by the number of gaps, long before the window is full */
    siege_end(&siege);
}

/* Every second packet number is missing, so that what came is thousands of ranges. */
TEST(sim_hostile, B7_ranges_of_packet_numbers_are_bounded)
{
    enum { RANGES = 3000 };
    struct siege siege;
    uint64_t code;
    bool app;
    siege_init(&siege);
    siege_start(&siege);
    size_t held = sim_memory() - hostile_memory();
    for (int i = 0; i < RANGES; i++) {
        hostile_send_now(siege.hostile, "\x01", 1);
        hostile_skip(siege.hostile);
    }
    sim_run_for(siege.pair.sim, 1 * PH_SEC);
    CHECK(!hostile_is_closed(siege.hostile, &code, &app));
    CHECK_INT(sim_memory() - hostile_memory(), <, held + 16384);
    hostile_send(siege.hostile, "\x0b\x02\x02hi", 5); /* and it is of use still */
    CHECK_INT(siege.pair.server.logs_count, ==, 1);
    CHECK(siege.pair.server.logs[0]->fin);
    siege_end(&siege);
}

/* Acknowledgements of 64 ranges, again and again, of what was acknowledged long ago. */
TEST(sim_hostile, B7_acknowledgements_of_many_ranges_are_borne)
{
    enum { RANGES = 64, TIMES = 2000 };
    struct siege siege;
    uint64_t code;
    bool app;
    uint8_t frame[8 + 2 * RANGES], *p = frame;
    siege_init(&siege);
    siege_start(&siege);
    struct quic_log *log = quic_app_open(&siege.pair.server, false);
    quic_write_pattern(log->stream, 400000, 1, true); /* something to acknowledge */
    sim_run_for(siege.pair.sim, 1 * PH_SEC);
    CHECK_INT(siege.pair.server_node->packets_out, >, 2 * RANGES + 10);
    size_t held = sim_memory() - hostile_memory();
    *p++ = 0x02;
    p = ph_varint_put(p, 2 * RANGES); /* the largest; no delay */
    *p++ = 0;
    p = ph_varint_put(p, RANGES - 1);
    *p++ = 0;
    for (int i = 1; i < RANGES; i++) { /* one is missing, one is there */
        *p++ = 0;
        *p++ = 0;
    }
    for (int i = 0; i < TIMES; i++)
        hostile_send_now(siege.hostile, frame, (size_t)(p - frame));
    sim_run_for(siege.pair.sim, 1 * PH_SEC);
    CHECK(!hostile_is_closed(siege.hostile, &code, &app));
    CHECK_INT(sim_memory() - hostile_memory(), <, held + 16384);
    hostile_send(siege.hostile, "\x0b\x02\x02hi", 5);
    CHECK_INT(siege.pair.server.logs_count, ==, 2);
    siege_end(&siege);
}
