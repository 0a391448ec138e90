/*
 * test_sim_h3_ext.c - raw bytes against the parts of HTTP/3 that WebTransport stands on, one test
 * per row of the wire checklist as far as HTTP/3 answers for it (W1 to W65); and our client against
 * a server that writes any bytes.
 */
#include "../unit/test.h"
#include "h3_wire.h"

/* --- Rows of the WebTransport checklist --- */

TEST(h3_wire, W1_W2_W3_settings_come_first_on_stream_3)
{
    static const char want[] = "\x00\x04\x20\x01\x00\x07\x00\x08\x01\x33\x01"
                               "\xab\x60\x37\x42\x01\xc0\x00\x00\x00\xc6\x71\x70\x6a\x01"
                               "\x94\xe9\xcd\x29\x01\xac\x7c\xf0\x00\x01";
    struct h3_world world;
    h3_wire_up(&world, true);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(world.raw.logs_count, ==, 1); /* no QPACK streams */
    CHECK_INT(world.raw.logs[0]->id, ==, 3);
    CHECK_INT(world.raw.logs[0]->rx_len, ==, sizeof(want) - 1);
    CHECK_MEM(world.raw.logs[0]->rx, want, sizeof(want) - 1);
    h3_world_fini(&world);
}

/* CONNECT and a capsule first, SETTINGS later: the answer comes after them, the capsule is read. */
TEST(h3_wire, W9_connect_waits_for_settings)
{
    static const struct ph_field fields[] = {H3_WIRE_CONNECT("webtransport")};
    struct h3_world world;
    uint8_t data[400];
    h3_wire_up(&world, true);
    size_t len = h3_raw_head(data, sizeof(data), fields, PH_COUNT_OF(fields));
    memcpy(data + len, "\x00\x03\x17\x01z", 5); /* a grease capsule, as browsers send it */
    struct quic_log *log = h3_raw_open(&world, true, data, len + 2, false);
    sim_run_for(world.sim, 100 * PH_MSEC);
    ph_quic_stream_write_copy(log->stream, data + len + 2, 3);
    sim_run_for(world.sim, 900 * PH_MSEC);
    CHECK_INT(world.connects, ==, 0);
    CHECK_INT(log->rx_len, ==, 0);
    h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(world.connects, ==, 1);
    CHECK_INT(h3_raw_status(log), ==, 200);
    CHECK_INT(world.connect_len, ==, 3);
    CHECK_MEM(world.connect_data, "\x17\x01z", 3);
    ph_quic_stream_fin(log->stream);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(world.connect_ends, ==, 1);
    CHECK_INT(world.connect_closes, ==, 1);
    CHECK_INT(world.connect_code, ==, PH_H3_NO_ERROR);
    CHECK(log->fin);
    h3_world_fini(&world);
}

TEST(h3_wire, W12_other_tokens_are_refused_with_a_status)
{
    static const struct ph_field ok[] = {H3_WIRE_CONNECT("webtransport")};
    static const struct ph_field no[] = {H3_WIRE_CONNECT("websocket")};
    CHECK_INT(h3_wire_status_of(ok, PH_COUNT_OF(ok), true), ==, 200);
    CHECK_INT(h3_wire_status_of(no, PH_COUNT_OF(no), true), ==, 501);
}

TEST(h3_wire, W13_extended_connect_needs_all_pseudo_fields)
{
    static const struct ph_field all[] = {H3_WIRE_CONNECT("webtransport")};
    for (size_t missing = 1; missing < 4; missing++) {
        struct ph_field fields[4];
        size_t n = 0;
        for (size_t i = 0; i < PH_COUNT_OF(all); i++) {
            if (i != missing)
                fields[n++] = all[i];
        }
        h3_wire_malformed(fields, n);
    }
}

/* A CONNECT of the extension in an open world. */
static struct quic_log *open_session(struct h3_world *world)
{
    static const struct ph_field fields[] = {H3_WIRE_CONNECT("webtransport")};
    uint8_t data[400];
    h3_raw_open(world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    struct quic_log *log = h3_raw_open(
        world, true, data, h3_raw_head(data, sizeof(data), fields, PH_COUNT_OF(fields)), false);
    h3_run(world, 5 * PH_SEC);
    CHECK_INT(h3_raw_status(log), ==, 200);
    return log;
}

TEST(h3_wire, W21_unknown_frames_between_data_of_a_session)
{
    struct h3_world world;
    h3_wire_up(&world, true);
    struct quic_log *log = open_session(&world);
    ph_quic_stream_write_copy(log->stream, H3_WIRE_BYTES("\x00\x02"
                                                         "ab\x21\x03xyz\x00\x01"
                                                         "c"));
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(world.connect_len, ==, 3);
    CHECK_MEM(world.connect_data, "abc", 3);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

TEST(h3_wire, W21_known_frames_on_a_session_are_errors)
{
    struct h3_world world;
    h3_wire_up(&world, true);
    struct quic_log *log = open_session(&world);
    ph_quic_stream_write_copy(log->stream, H3_WIRE_BYTES("\x01\x02\x00\x00"));
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_FRAME_UNEXPECTED);
    CHECK_INT(world.connect_closes, ==, 1);
    CHECK_INT(world.connect_code, !=, PH_H3_NO_ERROR);
    h3_world_fini(&world);
}

TEST(h3_wire, W20_refused_session_becomes_an_exchange)
{
    static const struct ph_field fields[] = {H3_WIRE_CONNECT("webtransport")};
    struct h3_world world;
    uint8_t data[400];
    h3_wire_up(&world, true);
    world.refuse_connect = true;
    h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    size_t len = h3_raw_head(data, sizeof(data), fields, PH_COUNT_OF(fields));
    memcpy(data + len, "\x00\x03\x17\x01z", 5);
    struct quic_log *log = h3_raw_open(&world, true, data, len + 5, false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_status(log), ==, 200); /* the exchange sink answers hello to /wt */
    CHECK_INT(world.requests_count, ==, 1);
    CHECK_STR(world.requests[0]->method, "CONNECT");
    CHECK_INT(world.requests[0]->body_len, ==, 0);
    CHECK_INT(world.requests[0]->ends, ==, 0);
    CHECK_INT(world.requests[0]->closes, ==, 1);
    CHECK(world.requests[0]->clean);
    CHECK_INT(world.connect_closes, ==, 0);
    h3_world_fini(&world);
}

/* 0x54 and 0x41 in every varint form, cut at every byte: the claim gets what follows. */
TEST(h3_wire, W31_stream_types_in_any_form_and_split)
{
    static const uint8_t forms[][8] = {
        {0x40, 0x00}, {0x80, 0x00, 0x00, 0x00}, {0xc0, 0, 0, 0, 0, 0, 0, 0}};
    static const size_t lens[] = {2, 4, 8};
    for (size_t f = 0; f < 6; f++) {
        bool bidi = f >= 3;
        uint8_t data[16];
        size_t len = lens[f % 3];
        memcpy(data, forms[f % 3], 8);
        data[len - 1] = bidi ? 0x41 : 0x54;
        memcpy(data + len, "\x00hi", 3);
        for (size_t cut = 0; cut <= len; cut++) {
            struct h3_world world;
            h3_wire_up(&world, true);
            struct quic_log *log = h3_raw_open(&world, bidi, data, cut, false);
            sim_run_for(world.sim, 200 * PH_MSEC);
            ph_quic_stream_write_copy(log->stream, data + cut, len + 3 - cut);
            ph_quic_stream_fin(log->stream);
            h3_run(&world, 5 * PH_SEC);
            CHECK_INT(world.claims, ==, 1);
            CHECK_INT(world.claim_type, ==, data[len - 1]);
            CHECK_INT(world.claim_len, ==, 3);
            CHECK_MEM(world.claim_data, "\x00hi", 3);
            CHECK(world.claim_fin);
            CHECK_INT(world.claim_ends, ==, 1);
            h3_world_fini(&world);
        }
    }
}

TEST(h3_wire, W31_refused_stream_is_stopped_and_reset)
{
    struct h3_world world;
    h3_wire_up(&world, true);
    world.refuse_stream = true;
    struct quic_log *bidi = h3_raw_open(&world, true, H3_WIRE_BYTES("\x40\x41\x00x"), false);
    struct quic_log *uni = h3_raw_open(&world, false, H3_WIRE_BYTES("\x40\x54\x00x"), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK(bidi->stopped && bidi->reset && uni->stopped);
    CHECK_INT(bidi->stop_code, ==, PH_H3_STREAM_CREATION_ERROR);
    CHECK_INT(uni->stop_code, ==, PH_H3_STREAM_CREATION_ERROR);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

TEST(h3_wire, W32_datagram_ids)
{
    static const struct {
        const char *data;
        size_t n;
        uint64_t code;
    } cases[] = {
        {"\x80\x00", 2, PH_H3_DATAGRAM_ERROR},                         /* half an id */
        {"\xd0\x00\x00\x00\x00\x00\x00\x00", 8, PH_H3_DATAGRAM_ERROR}, /* 2^60 */
        {"\xcf\xff\xff\xff\xff\xff\xff\xff", 8, PH_H3_ID_ERROR},       /* past the stream limit */
        {"\x3fx", 2, 0},
        {"\x01hello", 6, 0},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct h3_world world;
        h3_wire_up(&world, true);
        h3_raw_datagram(&world, cases[i].data, cases[i].n);
        CHECK_INT(h3_raw_closed(&world), ==, cases[i].code);
        CHECK_INT(world.datagrams, ==, cases[i].code == 0);
        if (i == 4)
            CHECK_INT(world.datagram_stream, ==, 4);
        h3_world_fini(&world);
    }
}

TEST(h3_wire, W33_signal_anywhere_else_is_a_frame_error)
{
    h3_wire_refused_after_head(H3_WIRE_BYTES("\x40\x41\x00"), PH_H3_FRAME_ERROR);
    h3_wire_refused_control(H3_WIRE_BYTES("\x40\x41\x00"), PH_H3_FRAME_ERROR);
    h3_wire_refused(true, H3_WIRE_BYTES("\x21\x00\x40\x41\x00"), false, PH_H3_FRAME_ERROR);
}

TEST(h3_wire, W36_end_inside_a_stream_header_is_quiet)
{
    struct h3_world world;
    h3_wire_up(&world, true);
    h3_raw_open(&world, true, "\x40", 1, true);
    h3_raw_open(&world, false, "\x40", 1, true);
    struct quic_log *reset = h3_raw_open(&world, false, "\x40", 1, false);
    h3_run(&world, 2 * PH_SEC);
    ph_quic_stream_reset(reset->stream, 5);
    h3_run(&world, 2 * PH_SEC);
    CHECK_INT(world.claims, ==, 0);
    CHECK_INT(world.requests_count, ==, 0);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    CHECK_INT(world.stats.protocol_errors, ==, 0);
    CHECK_INT(ph_live_get(PH_LIVE_H3_STREAM), ==, 1); /* our control stream */
    h3_world_fini(&world);
}

TEST(h3_wire, W59_reset_and_stop_of_a_session)
{
    for (int how = 0; how < 3; how++) {
        struct h3_world world;
        h3_wire_up(&world, true);
        struct quic_log *log = open_session(&world);
        if (how != 1)
            ph_quic_stream_reset(log->stream, PH_H3_REQUEST_CANCELLED);
        if (how != 0)
            ph_quic_stream_stop(log->stream, PH_H3_REQUEST_CANCELLED);
        h3_run(&world, 5 * PH_SEC);
        CHECK_INT(world.connect_closes, ==, 1);
        CHECK_INT(world.connect_code, ==, PH_H3_REQUEST_CANCELLED);
        CHECK_INT(world.connect_stops, <=, 1);
        CHECK_INT(h3_raw_closed(&world), ==, 0);
        CHECK_INT(ph_live_get(PH_LIVE_H3_STREAM), ==, 2); /* the control streams */
        h3_world_fini(&world);
    }
}

TEST(h3_wire, W65_requests_after_goaway_are_rejected)
{
    struct h3_world world;
    uint8_t data[400];
    h3_wire_up(&world, true);
    struct quic_log *session = open_session(&world);
    ph_h3_drain(world.server, world.sim->now);
    h3_run(&world, 2 * PH_SEC);
    struct quic_log *late =
        h3_raw_open(&world, true, data, h3_raw_request(data, sizeof(data), "GET", "/"), true);
    h3_run(&world, 2 * PH_SEC);
    CHECK(late->reset);
    CHECK_INT(late->reset_code, ==, PH_H3_REQUEST_REJECTED);
    CHECK(!session->reset);
    static const char goaways[] = "\x07\x08\xff\xff\xff\xff\xff\xff\xff\xfc\x07\x01\x04";
    struct quic_log *control = quic_app_log(&world.raw, 3);
    CHECK_MEM(control->rx + control->rx_len - 13, goaways, 13);
    h3_world_fini(&world);
}

/* PRIORITY_UPDATE before the request beats its header; after it, too. */
TEST(h3_wire, priority_update_reorders_answers)
{
    for (int early = 0; early < 2; early++) {
        struct sim_link slow = {.delay = 10 * PH_MSEC, .rate = 1000000};
        struct h3_world world;
        uint8_t data[400];
        h3_world_init(&world, 102, &slow);
        h3_world_start(&world, H3_RAW);
        struct quic_log *control =
            h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
        size_t len = h3_raw_request(data, sizeof(data), "GET", "/bytes/200000");
        struct quic_log *one = NULL, *two = NULL;
        if (early == 0) {
            one = h3_raw_open(&world, true, data, len, true);
            two = h3_raw_open(&world, true, data, len, true);
            sim_run_for(world.sim, 50 * PH_MSEC);
        }
        /* Stream 0: twice, the second counts; stream 4: most urgent. */
        ph_quic_stream_write_copy(control->stream, H3_WIRE_BYTES("\x80\x0f\x07\x00\x04\x00u=0"
                                                                 "\x80\x0f\x07\x00\x04\x00u=6"
                                                                 "\x80\x0f\x07\x00\x04\x04u=0"));
        if (early == 1) {
            sim_run_for(world.sim, 50 * PH_MSEC);
            one = h3_raw_open(&world, true, data, len, true);
            two = h3_raw_open(&world, true, data, len, true);
        }
        while (!one->fin && !two->fin)
            sim_run_for(world.sim, PH_MSEC);
        CHECK(two->fin);
        CHECK_INT(one->rx_len, <, 150000);
        h3_world_fini(&world);
    }
}

/* Accepted and reset in one turn: the 200 arrives before the reset. */
TEST(h3_wire, answer_of_a_session_outlives_its_reset)
{
    static const struct ph_field fields[] = {H3_WIRE_CONNECT("webtransport")};
    struct h3_world world;
    uint8_t data[400];
    h3_wire_up(&world, true);
    world.reset_connect = true;
    h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    struct quic_log *log = h3_raw_open(
        &world, true, data, h3_raw_head(data, sizeof(data), fields, PH_COUNT_OF(fields)), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_status(log), ==, 200);
    CHECK(log->reset && log->stopped);
    CHECK_INT(log->reset_code, ==, PH_H3_INTERNAL_ERROR);
    CHECK_INT(world.connect_closes, ==, 1);
    h3_world_fini(&world);
}

/* --- CONNECT by our client --- */

struct connect_log {
    unsigned responses, ends, stops, closes;
    int status;
    uint64_t code;
    bool by_reset;
};

static void connect_response(void *self, struct ph_h3_request *request, const struct ph_head *head)
{
    struct connect_log *log = self;
    PH_ASSERT(ph_h3_request_head(request) == head);
    log->responses++;
    log->status = head->status;
}

static void connect_data(void *self, struct ph_h3_request *request, const uint8_t *data, size_t n)
{
    (void)self;
    (void)data;
    ph_h3_request_consume(request, n);
}

static void connect_end(void *self, struct ph_h3_request *request)
{
    struct connect_log *log = self;
    PH_ASSERT(ph_h3_conn_request(ph_h3_request_conn(request), ph_h3_request_id(request)) ==
              request);
    log->ends++;
}

static void connect_stop(void *self, struct ph_h3_request *request, uint64_t code)
{
    struct connect_log *log = self;
    (void)request;
    (void)code;
    log->stops++;
}

static void connect_closed(void *self, struct ph_h3_request *request, uint64_t code, bool by_reset)
{
    struct connect_log *log = self;
    (void)request;
    log->closes++;
    log->code = code;
    log->by_reset = by_reset;
}

/* Connects with this token; the request, NULL when it ended. */
static struct ph_h3_request *client_connect(struct h3_world *world, struct connect_log *log,
                                            struct ph_h3_ext *ext, const char *protocol)
{
    struct ph_field fields[] = {H3_WIRE_CONNECT("")};
    struct ph_h3_request *request = NULL;
    fields[4].value = protocol;
    fields[4].value_len = strlen(protocol);
    *log = (struct connect_log){0};
    *ext = (struct ph_h3_ext){.self = log,
                              .on_response = connect_response,
                              .on_request_data = connect_data,
                              .on_request_end = connect_end,
                              .on_request_stop = connect_stop,
                              .on_request_closed = connect_closed};
    h3_world_init(world, 103, &quic_clean_link);
    h3_world_use_ext(world);
    world->client_ext = ext;
    h3_world_start(world, H3_CLIENT);
    CHECK_INT(ph_h3_connect(world->conn, &request, fields, PH_COUNT_OF(fields)), ==, 0);
    h3_run(world, 5 * PH_SEC);
    CHECK_INT(log->responses, ==, 1);
    return log->closes == 0 ? request : NULL;
}

TEST(h3_wire, client_connects_and_both_sides_finish)
{
    struct h3_world world;
    struct connect_log log;
    struct ph_h3_ext ext;
    struct ph_h3_request *request = client_connect(&world, &log, &ext, "webtransport");
    CHECK_INT(log.status, ==, 200);
    CHECK_INT(ph_h3_request_data(request, (const uint8_t *)"abc", 3, true), ==, 0);
    CHECK_INT(ph_h3_request_data(request, (const uint8_t *)"d", 1, false), ==, PH_E_STATE);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(world.connect_len, ==, 3);
    CHECK_INT(log.ends, ==, 1);
    CHECK_INT(log.closes, ==, 1);
    CHECK_INT(log.code, ==, PH_H3_NO_ERROR);
    CHECK_INT(world.connect_closes, ==, 1);
    h3_world_fini(&world);
}

TEST(h3_wire, client_sees_a_refusal_and_a_reset)
{
    struct h3_world world;
    struct connect_log log;
    struct ph_h3_ext ext;
    struct ph_h3_request *request = client_connect(&world, &log, &ext, "other");
    CHECK_INT(log.status, ==, 501);
    CHECK_INT(log.ends, ==, 1);
    CHECK_INT(log.stops, ==, 1); /* H3_NO_ERROR: the rest is not wanted */
    if (request != NULL)
        ph_h3_request_reset(request, PH_H3_REQUEST_CANCELLED);
    h3_run(&world, 2 * PH_SEC);
    CHECK_INT(log.closes, ==, 1);
    h3_world_fini(&world);
    request = client_connect(&world, &log, &ext, "webtransport");
    ph_h3_request_stop(request, PH_H3_REQUEST_CANCELLED);
    h3_run(&world, 2 * PH_SEC);
    CHECK_INT(world.connect_stops, ==, 1);
    CHECK_INT(world.connect_closes, ==, 1); /* it answers with a reset of both directions */
    CHECK_INT(log.closes, ==, 1);
    h3_world_fini(&world);
}

/* --- Our client against a raw server --- */

TEST(h3_wire, client_gives_up_requests_beyond_goaway)
{
    struct h3_world world;
    h3_world_init(&world, 202, &quic_clean_link);
    h3_world_start(&world, H3_RAW_SERVER);
    struct quic_log *control = h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    h3_run(&world, 2 * PH_SEC);
    struct h3_log *kept = h3_send(&world, "GET", "/", NULL, 0, true);
    struct h3_log *beyond = h3_send(&world, "GET", "/", NULL, 0, true);
    h3_run(&world, 2 * PH_SEC);
    ph_quic_stream_write_copy(control->stream, "\x07\x01\x04", 3);
    h3_run(&world, 2 * PH_SEC);
    CHECK_INT(kept->closes, ==, 0);
    CHECK_INT(beyond->closes, ==, 1);
    CHECK_INT(beyond->code, ==, PH_H3_REQUEST_REJECTED);
    CHECK_INT(h3_send(&world, "GET", "/", NULL, 0, true)->code, ==, PH_H3_REQUEST_REJECTED);
    h3_world_fini(&world);
}

TEST(h3_wire, control_stream_waits_for_the_peers_permission)
{
    struct h3_world world;
    h3_world_init(&world, 203, &quic_clean_link);
    world.client_quic.max_streams_uni = 0;
    h3_world_start(&world, H3_RAW);
    uint8_t data[400];
    struct quic_log *log =
        h3_raw_open(&world, true, data, h3_raw_request(data, sizeof(data), "GET", "/"), true);
    h3_run(&world, 2 * PH_SEC);
    CHECK_INT(h3_raw_status(log), ==, 200);
    CHECK(quic_app_log(&world.raw, 3) == NULL);
    ph_quic_conn_extend_streams(world.raw.conn, false, 3);
    h3_run(&world, 2 * PH_SEC);
    CHECK(quic_app_log(&world.raw, 3) != NULL);
    CHECK_INT(quic_app_log(&world.raw, 3)->rx[1], ==, PH_H3_SETTINGS);
    h3_world_fini(&world);
}

static void client_refuses(bool bidi, const void *data, size_t n, uint64_t code)
{
    struct h3_world world;
    h3_world_init(&world, 200, &quic_clean_link);
    h3_world_start(&world, H3_RAW_SERVER);
    h3_raw_open(&world, bidi, data, n, false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, code);
    h3_world_fini(&world);
}

TEST(h3_wire, W8_client_refuses_settings)
{
    client_refuses(false, H3_WIRE_BYTES("\x00\x04\x05\xac\x7c\xf0\x00\x02"), PH_H3_SETTINGS_ERROR);
    client_refuses(false, H3_WIRE_BYTES("\x00\x04\x05\xab\x60\x37\x42\x02"), PH_H3_SETTINGS_ERROR);
    client_refuses(false, H3_WIRE_BYTES("\x00\x04\x05\xac\x7c\xf0\x00\x01"), 0);
}

TEST(h3_wire, W34_server_bidi_stream_closes_the_client)
{
    client_refuses(true, H3_WIRE_BYTES("\x01\x02\x00\x00"), PH_H3_STREAM_CREATION_ERROR);
    client_refuses(true, H3_WIRE_BYTES("\x40\x41\x00"),
                   PH_H3_STREAM_CREATION_ERROR); /* no extension */
}

TEST(h3_wire, client_refuses_frames_of_a_server)
{
    client_refuses(false, H3_WIRE_BYTES(H3_WIRE_CONTROL "\x0d\x01\x01"), PH_H3_FRAME_UNEXPECTED);
    client_refuses(false, H3_WIRE_BYTES(H3_WIRE_CONTROL "\x80\x0f\x07\x00\x02\x00u"),
                   PH_H3_FRAME_UNEXPECTED);
    client_refuses(false, H3_WIRE_BYTES(H3_WIRE_CONTROL "\x07\x01\x01"), PH_H3_ID_ERROR);
    client_refuses(false, H3_WIRE_BYTES(H3_WIRE_CONTROL "\x07\x01\x04"), 0);
    client_refuses(false, H3_WIRE_BYTES("\x01\x00"), PH_H3_ID_ERROR); /* push was never allowed */
}

/* What a response must be: our client's view of a raw server's answer to GET /. */
static uint64_t answer_code(const void *data, size_t n, bool fin, int *status)
{
    struct h3_world world;
    h3_world_init(&world, 201, &quic_clean_link);
    h3_world_start(&world, H3_RAW_SERVER);
    h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    h3_run(&world, 2 * PH_SEC);
    struct h3_log *log = h3_send(&world, "GET", "/", NULL, 0, true);
    h3_run(&world, 2 * PH_SEC);
    struct quic_log *raw = quic_app_log(&world.raw, 0);
    CHECK(raw != NULL && raw->fin);
    ph_quic_stream_write_copy(raw->stream, data, n);
    if (fin)
        ph_quic_stream_fin(raw->stream);
    h3_run(&world, 2 * PH_SEC);
    *status = log->status;
    uint64_t code = log->closes > 0 ? log->code : 0;
    h3_world_fini(&world);
    return code;
}

TEST(h3_wire, client_checks_responses)
{
    uint8_t data[300];
    int status = 0;
    static const struct ph_field ok[] = {H3_FIELD(":status", "200"),
                                         H3_FIELD("content-length", "2")};
    static const struct ph_field bad[] = {H3_FIELD("x", "1")};
    static const struct ph_field early[] = {H3_FIELD(":status", "103")};
    size_t n = h3_raw_head(data, sizeof(data), ok, 2);
    memcpy(data + n, "\x00\x02hi", 4);
    CHECK_INT(answer_code(data, n + 4, true, &status), ==, PH_H3_NO_ERROR);
    CHECK_INT(status, ==, 200);
    CHECK_INT(answer_code(data, n, true, &status), ==, PH_H3_MESSAGE_ERROR);
    memcpy(data + n, "\x00\x03hi!", 5);
    CHECK_INT(answer_code(data, n + 5, true, &status), ==, PH_H3_MESSAGE_ERROR);
    n = h3_raw_head(data, sizeof(data), bad, 1);
    CHECK_INT(answer_code(data, n, true, &status), ==, PH_H3_MESSAGE_ERROR);
    n = h3_raw_head(data, sizeof(data), early, 1);
    CHECK_INT(answer_code(data, n, true, &status), ==, PH_H3_MESSAGE_ERROR);
    CHECK_INT(status, ==, 103);
}
