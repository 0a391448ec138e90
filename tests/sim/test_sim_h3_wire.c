/*
 * test_sim_h3_wire.c - a client that writes any bytes on QUIC streams against our server: HTTP/3
 * and QPACK attacks, one test per row of the catalogue (C1 to C15, B11).
 */
#include "../unit/test.h"
#include "h3_wire.h"

/* --- C1: critical streams --- */

TEST(h3_wire, C1_second_control_stream)
{
    struct h3_world world;
    h3_wire_up(&world, false);
    h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    h3_raw_open(&world, false, H3_WIRE_BYTES("\x00"), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_STREAM_CREATION_ERROR);
    h3_world_fini(&world);
}

TEST(h3_wire, C1_second_qpack_streams)
{
    static const char *const types[] = {"\x02", "\x03"};
    for (size_t i = 0; i < PH_COUNT_OF(types); i++) {
        struct h3_world world;
        h3_wire_up(&world, false);
        h3_raw_open(&world, false, types[i], 1, false);
        h3_run(&world, 5 * PH_SEC);
        CHECK_INT(h3_raw_closed(&world), ==, 0);
        h3_raw_open(&world, false, types[i], 1, false);
        h3_run(&world, 5 * PH_SEC);
        CHECK_INT(h3_raw_closed(&world), ==, PH_H3_STREAM_CREATION_ERROR);
        h3_world_fini(&world);
    }
}

TEST(h3_wire, C1_critical_stream_finished)
{
    h3_wire_refused(false, H3_WIRE_BYTES(H3_WIRE_CONTROL), true, PH_H3_CLOSED_CRITICAL_STREAM);
    h3_wire_refused(false, H3_WIRE_BYTES("\x02"), true, PH_H3_CLOSED_CRITICAL_STREAM);
    h3_wire_refused(false, H3_WIRE_BYTES("\x03"), true, PH_H3_CLOSED_CRITICAL_STREAM);
}

TEST(h3_wire, C1_critical_stream_reset)
{
    struct h3_world world;
    h3_wire_up(&world, false);
    struct quic_log *log = h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    h3_run(&world, 5 * PH_SEC);
    ph_quic_stream_reset(log->stream, PH_H3_NO_ERROR);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_CLOSED_CRITICAL_STREAM);
    h3_world_fini(&world);
}

TEST(h3_wire, C1_our_control_stream_stopped)
{
    struct h3_world world;
    h3_wire_up(&world, false);
    h3_run(&world, 2 * PH_SEC);
    struct quic_log *ours = quic_app_log(&world.raw, 3);
    CHECK(ours != NULL && ours->stream != NULL);
    ph_h3_drain(world.server, world.sim->now); /* something unacknowledged: the stop counts */
    ph_quic_stream_stop(ours->stream, PH_H3_NO_ERROR);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_CLOSED_CRITICAL_STREAM);
    h3_world_fini(&world);
}

TEST(h3_wire, C1_first_frame_is_not_settings)
{
    h3_wire_refused(false, H3_WIRE_BYTES("\x00\x07\x01\x00"), false, PH_H3_MISSING_SETTINGS);
    h3_wire_refused(false, H3_WIRE_BYTES("\x00\x21\x00"), false, PH_H3_MISSING_SETTINGS);
    h3_wire_refused(false, H3_WIRE_BYTES("\x00\x00\x01x"), false, PH_H3_MISSING_SETTINGS);
}

/* --- C2: SETTINGS --- */

TEST(h3_wire, C2_settings_bomb)
{
    h3_wire_refused(false, H3_WIRE_BYTES("\x00\x04\x80\x10\x00\x00"), false,
                    PH_H3_EXCESSIVE_LOAD); /* 1 MiB */
    h3_wire_refused(false, H3_WIRE_BYTES("\x00\x04\x50\x01"), false,
                    PH_H3_EXCESSIVE_LOAD); /* 4097 */
}

TEST(h3_wire, C2_too_many_entries)
{
    uint8_t data[256], body[200], *p = body;
    for (uint64_t i = 0; i < 33; i++)
        p = ph_varint_put(ph_varint_put(p, 0x40 + i), 0);
    data[0] = 0;
    uint8_t *end = ph_h3_frame_put(data + 1, PH_H3_SETTINGS, (uint64_t)(p - body));
    memcpy(end, body, (size_t)(p - body));
    h3_wire_refused(false, data, (size_t)(end - data + (p - body)), false, PH_H3_EXCESSIVE_LOAD);
}

TEST(h3_wire, C2_duplicate_and_http2_settings)
{
    h3_wire_refused(false, H3_WIRE_BYTES("\x00\x04\x04\x33\x01\x33\x01"), false,
                    PH_H3_SETTINGS_ERROR);
    h3_wire_refused(false, H3_WIRE_BYTES("\x00\x04\x02\x02\x00"), false, PH_H3_SETTINGS_ERROR);
    h3_wire_refused(false, H3_WIRE_BYTES("\x00\x04\x02\x05\x01"), false, PH_H3_SETTINGS_ERROR);
    h3_wire_refused(false, H3_WIRE_BYTES("\x00\x04\x01\x33"), false, PH_H3_FRAME_ERROR);
}

TEST(h3_wire, C2_second_settings)
{
    h3_wire_refused_control(H3_WIRE_BYTES("\x04\x00"), PH_H3_FRAME_UNEXPECTED);
}

TEST(h3_wire, C2_settings_split_per_byte_are_read)
{
    static const char capture[] =
        "\x00\x04\x29\x01\x80\x01\x00\x00\x06\x80\x00\x40\x00\x07\x40\x64\x33\x01\x80\xff\xd2\x77"
        "\x01\xab\x60\x37\x42\x01\xc0\x00\x00\x17\xe5\x4f\xe3\x83\xc0\x00\x00\x00\x53\x13\xca\x24";
    struct h3_world world;
    h3_wire_up(&world, true);
    struct quic_log *log = h3_raw_open(&world, false, capture, 1, false);
    for (size_t i = 1; i < sizeof(capture) - 1; i++) {
        ph_quic_stream_write_copy(log->stream, capture + i, 1);
        sim_run_for(world.sim, 30 * PH_MSEC);
    }
    CHECK(ph_h3_conn_settings(world.ext_conn) != NULL);
    CHECK_INT(ph_h3_conn_settings(world.ext_conn)->wt_draft02, ==, 1);
    CHECK_INT(ph_h3_conn_settings(world.ext_conn)->qpack_blocked_streams, ==, 100);
    h3_world_fini(&world);
}

/* --- C3 to C5: heads --- */

TEST(h3_wire, C3_declared_length_is_not_believed)
{
    struct h3_world world;
    h3_wire_up(&world, false);
    struct quic_log *log = h3_raw_open(
        &world, true, H3_WIRE_BYTES("\x01\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00"), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_status(log), ==, 431);
    CHECK(log->stopped);
    CHECK_INT(log->stop_code, ==, PH_H3_NO_ERROR);
    CHECK_INT(world.stats.limit_head, ==, 1);
    CHECK_INT(world.requests_count, ==, 0);
    h3_world_fini(&world);
}

/* 10 000 references to the static entry x-frame-options: deny, as HEADERS. */
static size_t bomb(uint8_t *out)
{
    enum { LINES = 10000 };
    uint8_t *p = ph_h3_frame_put(out, PH_H3_HEADERS, 2 + 2 * LINES);
    *p++ = 0;
    *p++ = 0;
    for (int i = 0; i < LINES; i++) {
        *p++ = 0xff;
        *p++ = 97 - 63;
    }
    return (size_t)(p - out);
}

TEST(h3_wire, C4_expansion_bomb_is_431)
{
    static uint8_t data[20100];
    struct h3_world world;
    h3_wire_up(&world, false);
    struct quic_log *log = h3_raw_open(&world, true, data, bomb(data), true);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_status(log), ==, 431);
    CHECK_INT(world.stats.limit_head, ==, 1);
    CHECK_INT(world.requests_count, ==, 0);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

TEST(h3_wire, C5_expansion_bomb_in_trailers)
{
    static uint8_t data[20500];
    struct h3_world world;
    h3_wire_up(&world, false);
    size_t len = h3_raw_request(data, 400, "POST", "/wait");
    memcpy(data + len, "\x00\x01x", 3);
    len += 3;
    len += bomb(data + len);
    struct quic_log *log = h3_raw_open(&world, true, data, len, true);
    h3_run(&world, 5 * PH_SEC);
    CHECK(log->reset);
    CHECK_INT(log->reset_code, ==, PH_H3_EXCESSIVE_LOAD);
    CHECK_INT(world.stats.limit_head, ==, 1);
    CHECK_INT(world.requests[0]->trailer_sections, ==, 0);
    CHECK_INT(world.requests[0]->closes, ==, 1);
    CHECK(!world.requests[0]->clean);
    h3_world_fini(&world);
}

/* --- C6 to C8: QPACK --- */

TEST(h3_wire, C6_reference_to_a_dynamic_table)
{
    h3_wire_refused(true, H3_WIRE_BYTES("\x01\x05\x06\x00\xd7\xcf\x84"), false,
                    PH_QPACK_DECOMPRESSION_FAILED);
    h3_wire_refused(true, H3_WIRE_BYTES("\x01\x00"), false, PH_QPACK_DECOMPRESSION_FAILED);
}

TEST(h3_wire, C7_insertions_on_the_encoder_stream)
{
    h3_wire_refused(false, H3_WIRE_BYTES("\x02\x3f\xe1\x1f"), false, PH_QPACK_ENCODER_STREAM_ERROR);
    h3_wire_refused(false, H3_WIRE_BYTES("\x02\x41xAy"), false, PH_QPACK_ENCODER_STREAM_ERROR);
}

TEST(h3_wire, C7_encoder_stream_for_nothing)
{
    static uint8_t data[10020];
    struct h3_world world;
    h3_wire_up(&world, false);
    memset(data, 0x20, sizeof(data)); /* capacity 0, again and again */
    data[0] = 0x02;
    h3_raw_open(&world, false, data, sizeof(data), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_EXCESSIVE_LOAD);
    CHECK_INT(world.server_node->stats.limit_glitch, ==, 1);
    h3_world_fini(&world);
}

TEST(h3_wire, C8_decoder_stream_errors)
{
    h3_wire_refused(false, H3_WIRE_BYTES("\x03\x80"), false, PH_QPACK_DECODER_STREAM_ERROR);
    h3_wire_refused(false, H3_WIRE_BYTES("\x03\x00"), false, PH_QPACK_DECODER_STREAM_ERROR);
    h3_wire_refused(false, H3_WIRE_BYTES("\x03\x05"), false, PH_QPACK_DECODER_STREAM_ERROR);
}

TEST(h3_wire, C8_stream_cancellation_is_harmless)
{
    struct h3_world world;
    h3_wire_up(&world, false);
    h3_raw_open(&world, false, H3_WIRE_BYTES("\x03\x40\x44\x7f\x80\x01"), false);
    h3_raw_open(&world, false, H3_WIRE_BYTES("\x02\x20"), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

/* --- C9: floods --- */

TEST(h3_wire, C9_unknown_streams_are_stopped_at_once)
{
    struct h3_world world;
    h3_wire_up(&world, true);
    struct quic_log *log = h3_raw_open(&world, false, H3_WIRE_BYTES("\x21some bytes"), false);
    struct quic_log *wide =
        h3_raw_open(&world, false, H3_WIRE_BYTES("\xc0\x00\x00\x00\x00\x00\x21\x21"), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK(log->stopped && wide->stopped);
    CHECK_INT(log->stop_code, ==, PH_H3_STREAM_CREATION_ERROR);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

/* Sends `n` copies of a frame on the control stream. */
static void flood(struct h3_world *world, const void *frame, size_t len, size_t n)
{
    uint8_t *data = ph_alloc(3 + n * len);
    memcpy(data, H3_WIRE_CONTROL, 3);
    for (size_t i = 0; i < n; i++)
        memcpy(data + 3 + i * len, frame, len);
    h3_raw_open(world, false, data, 3 + n * len, false);
    ph_free(data);
    h3_run(world, 5 * PH_SEC);
}

TEST(h3_wire, C9_unknown_frame_flood)
{
    struct h3_world world;
    h3_wire_up(&world, false);
    flood(&world, "\x21\x00", 2, 5000); /* within the budget */
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
    h3_wire_up(&world, false);
    flood(&world, "\x21\x00", 2, 12000);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_EXCESSIVE_LOAD);
    CHECK_INT(world.server_node->stats.limit_glitch, ==, 1);
    h3_world_fini(&world);
}

TEST(h3_wire, C9_priority_update_flood)
{
    struct h3_world world;
    h3_wire_up(&world, false);
    flood(&world, "\x80\x0f\x07\x00\x04\x00u=1", 9, 12000);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_EXCESSIVE_LOAD);
    h3_world_fini(&world);
}

TEST(h3_wire, C9_empty_data_frame_flood)
{
    static uint8_t data[24500];
    struct h3_world world;
    h3_wire_up(&world, false);
    size_t len = h3_raw_request(data, 400, "POST", "/wait");
    h3_raw_open(&world, true, data, len + 24000, false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_EXCESSIVE_LOAD);
    h3_world_fini(&world);
}

TEST(h3_wire, C9_large_unknown_frame_is_skipped_without_memory)
{
    enum { SIZE = 1000000 };
    struct h3_world world;
    uint8_t head[400];
    h3_wire_up(&world, false);
    size_t len = (size_t)(ph_h3_frame_put(head, 0x21, SIZE) - head);
    struct quic_log *log = h3_raw_open(&world, true, head, len, false);
    quic_write_pattern(log->stream, SIZE, 1, false);
    len = h3_raw_request(head, sizeof(head), "GET", "/");
    ph_quic_stream_write_copy(log->stream, head, len);
    ph_quic_stream_fin(log->stream);
    h3_run(&world, 20 * PH_SEC);
    CHECK_INT(h3_raw_status(log), ==, 200); /* credit of skipped bytes came back */
    h3_world_fini(&world);
}

/* --- C10: heads that never end --- */

TEST(h3_wire, C10_half_a_head_times_out)
{
    struct h3_world world;
    uint8_t data[400];
    h3_wire_up(&world, true);
    size_t len = h3_raw_request(data, sizeof(data), "GET", "/");
    struct quic_log *half = h3_raw_open(&world, true, data, len - 1, false);
    struct quic_log *type = h3_raw_open(&world, true, "\x40", 1, false);
    struct quic_log *uni = h3_raw_open(&world, false, "\x40", 1, false);
    sim_run_for(world.sim, 9 * PH_SEC);
    CHECK(!half->reset && !type->reset && !uni->stopped);
    sim_run_for(world.sim, 2 * PH_SEC);
    CHECK(half->reset && type->reset && uni->stopped);
    CHECK_INT(half->reset_code, ==, PH_H3_REQUEST_INCOMPLETE);
    CHECK_INT(type->reset_code, ==, PH_H3_REQUEST_INCOMPLETE);
    CHECK_INT(uni->stop_code, ==, PH_H3_STREAM_CREATION_ERROR);
    CHECK_INT(world.stats.timeouts_header, ==, 3);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

/* 200 heads of 60 000 bytes that never end: no more than the connection's window is taken. */
TEST(h3_wire, C10_unfinished_heads_stay_within_the_window)
{
    enum { HEADS = 200, SIZE = 59000 };
    static uint8_t data[SIZE + 8];
    struct h3_world world;
    h3_wire_up(&world, false);
    uint8_t *p = ph_h3_frame_put(data, PH_H3_HEADERS, 60000);
    for (int i = 0; i < HEADS; i++)
        h3_raw_open(&world, true, data, (size_t)(p - data) + SIZE, false);
    sim_run_for(world.sim, 5 * PH_SEC);
    size_t held = 0;
    for (size_t i = 0; i < world.raw.logs_count; i++) {
        if (world.raw.logs[i]->stream != NULL && !world.raw.logs[i]->by_peer)
            held += world.raw.logs[i]->acked;
    }
    CHECK_INT(held, >, 500000);
    CHECK_INT(held, <=, world.server_quic.conn_window + 64 * 1024);
    sim_run_for(world.sim, 60 * PH_SEC); /* all of them time out, their credit comes back */
    CHECK_INT(world.stats.timeouts_header, ==, HEADS);
    h3_world_fini(&world);
}

TEST(h3_wire, C10_head_in_small_pieces_gives_its_credit_back)
{
    struct h3_world world;
    struct ph_field fields[60] = {H3_WIRE_GET};
    static uint8_t data[60000];
    h3_wire_up(&world, false);
    for (size_t i = 4; i < PH_COUNT_OF(fields); i++)
        fields[i] = (struct ph_field)H3_FIELD(
            "x-long",
            "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!");
    size_t len = h3_raw_head(data, sizeof(data), fields, PH_COUNT_OF(fields));
    CHECK_INT(len, >, 4000); /* several packets */
    for (int i = 0; i < 400; i++) {
        struct quic_log *log = h3_raw_open(&world, true, data, len, true);
        h3_run(&world, 3 * PH_SEC);
        CHECK_INT(h3_raw_status(log), ==, 200);
    }
    h3_world_fini(&world);
}

/* --- C11: smuggling --- */

static void malformed_field(const char *name, size_t name_len, const char *value, size_t value_len)
{
    struct ph_field fields[] = {H3_WIRE_GET, {name, value, name_len, value_len}};
    h3_wire_malformed(fields, PH_COUNT_OF(fields));
}
#define MALFORMED(n, v) malformed_field(n, sizeof(n) - 1, v, sizeof(v) - 1)

TEST(h3_wire, C11_controls_in_values)
{
    MALFORMED("x", "a\r\nb: c");
    MALFORMED("x", "a\nb");
    MALFORMED("x", "a\0b");
}

TEST(h3_wire, C11_upper_case_and_bad_names)
{
    MALFORMED("X-Upper", "1");
    MALFORMED("x y", "1");
    MALFORMED("", "1");
}

TEST(h3_wire, C11_connection_fields)
{
    MALFORMED("transfer-encoding", "chunked");
    MALFORMED("connection", "keep-alive");
    MALFORMED("upgrade", "h2c");
    MALFORMED("te", "gzip");
}

TEST(h3_wire, C11_pseudo_fields)
{
    MALFORMED(":authority", "other");
    MALFORMED(":path", "/x");
    MALFORMED(":status", "200");
    MALFORMED(":unknown", "x");
    MALFORMED("host", "other.example");
    static const struct ph_field late[] = {
        H3_FIELD(":method", "GET"), H3_FIELD("x", "1"), H3_FIELD(":scheme", "https"),
        H3_FIELD(":authority", "localhost"), H3_FIELD(":path", "/")};
    h3_wire_malformed(late, PH_COUNT_OF(late));
    static const struct ph_field path[] = {H3_FIELD(":method", "GET"), H3_FIELD(":scheme", "https"),
                                           H3_FIELD(":authority", "localhost"),
                                           H3_FIELD(":path", "no-slash")};
    h3_wire_malformed(path, PH_COUNT_OF(path));
    h3_wire_malformed(path, 3);
}

TEST(h3_wire, C11_length_and_data_differ)
{
    static const struct ph_field fields[] = {
        H3_FIELD(":method", "POST"), H3_FIELD(":scheme", "https"),
        H3_FIELD(":authority", "localhost"), H3_FIELD(":path", "/wait"),
        H3_FIELD("content-length", "4")};
    static const char *const bodies[] = {"\x00\x03xyz", "\x00\x05xyzzy", "\x00\x04xyzz\x00\x01x"};
    static const size_t lens[] = {5, 7, 9};
    struct h3_world world;
    uint8_t data[400];
    h3_wire_up(&world, false);
    size_t len = h3_raw_head(data, sizeof(data), fields, PH_COUNT_OF(fields));
    for (size_t i = 0; i < PH_COUNT_OF(bodies); i++) {
        memcpy(data + len, bodies[i], lens[i]);
        struct quic_log *log = h3_raw_open(&world, true, data, len + lens[i], true);
        h3_run(&world, 5 * PH_SEC);
        CHECK(log->reset);
        CHECK_INT(log->reset_code, ==, PH_H3_MESSAGE_ERROR);
        CHECK_INT(world.requests[i]->ends, ==, 0);
        CHECK_INT(world.requests[i]->closes, ==, 1);
        CHECK(!world.requests[i]->clean);
    }
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

/* --- C12: CONNECT --- */

TEST(h3_wire, C12_unknown_protocol_is_501)
{
    static const struct ph_field fields[] = {H3_WIRE_CONNECT("connect-udp")};
    CHECK_INT(h3_wire_status_of(fields, PH_COUNT_OF(fields), true), ==, 501);
    CHECK_INT(h3_wire_status_of(fields, PH_COUNT_OF(fields), false), ==, 501);
}

TEST(h3_wire, C12_protocol_with_get)
{
    static const struct ph_field fields[] = {H3_WIRE_GET, H3_FIELD(":protocol", "webtransport")};
    h3_wire_malformed(fields, PH_COUNT_OF(fields));
}

TEST(h3_wire, C12_plain_connect_is_405)
{
    static const struct ph_field plain[] = {H3_FIELD(":method", "CONNECT"),
                                            H3_FIELD(":authority", "localhost:80")};
    static const struct ph_field both[] = {H3_FIELD(":method", "CONNECT"),
                                           H3_FIELD(":authority", "localhost:80"),
                                           H3_FIELD(":path", "/")};
    CHECK_INT(h3_wire_status_of(plain, PH_COUNT_OF(plain), true), ==, 405);
    h3_wire_malformed(both, PH_COUNT_OF(both));
}

TEST(h3_wire, C12_connect_before_settings_is_held_for_a_while)
{
    static const struct ph_field fields[] = {H3_WIRE_CONNECT("webtransport")};
    struct h3_world world;
    uint8_t data[400];
    h3_wire_up(&world, true);
    struct quic_log *log = h3_raw_open(
        &world, true, data, h3_raw_head(data, sizeof(data), fields, PH_COUNT_OF(fields)), false);
    sim_run_for(world.sim, 9 * PH_SEC);
    CHECK_INT(world.connects, ==, 0);
    CHECK(!log->reset);
    sim_run_for(world.sim, 2 * PH_SEC);
    CHECK(log->reset);
    CHECK_INT(world.connects, ==, 0);
    CHECK_INT(world.stats.timeouts_header, ==, 1);
    h3_world_fini(&world);
}

/* --- C14, C15: frames out of place --- */

TEST(h3_wire, C14_goaway_ids_never_rise)
{
    h3_wire_refused_control(H3_WIRE_BYTES("\x07\x01\x04\x07\x01\x05"), PH_H3_ID_ERROR);
    struct h3_world world;
    h3_wire_up(&world, true);
    h3_raw_open(&world, false,
                H3_WIRE_BYTES(H3_WIRE_CONTROL "\x07\x01\x05\x07\x01\x05\x07\x01\x00"), false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    CHECK_INT(world.goaways, ==, 1);
    h3_world_fini(&world);
}

TEST(h3_wire, C14_push_ids)
{
    h3_wire_refused_control(H3_WIRE_BYTES("\x0d\x01\x05\x0d\x01\x04"), PH_H3_ID_ERROR);
    h3_wire_refused_control(H3_WIRE_BYTES("\x0d\x01\x05\x03\x01\x00"), PH_H3_ID_ERROR);
    h3_wire_refused_control(H3_WIRE_BYTES("\x80\x0f\x07\x01\x01\x00"), PH_H3_ID_ERROR);
    h3_wire_refused_control(H3_WIRE_BYTES("\x80\x0f\x07\x00\x01\x01"),
                            PH_H3_ID_ERROR); /* not a request's id */
    h3_wire_refused(false, H3_WIRE_BYTES("\x01\x00"), false,
                    PH_H3_STREAM_CREATION_ERROR); /* push by a client */
}

TEST(h3_wire, C14_control_frames_of_wrong_length)
{
    h3_wire_refused_control(H3_WIRE_BYTES("\x07\x00"), PH_H3_FRAME_ERROR);
    h3_wire_refused_control(H3_WIRE_BYTES("\x07\x02\x04\x04"), PH_H3_FRAME_ERROR);
    h3_wire_refused_control(H3_WIRE_BYTES("\x0d\x01\x40"), PH_H3_FRAME_ERROR);
    h3_wire_refused_control(H3_WIRE_BYTES("\x80\x0f\x07\x00\x00"), PH_H3_FRAME_ERROR);
    h3_wire_refused_control(H3_WIRE_BYTES("\x07\x44\x01"), PH_H3_EXCESSIVE_LOAD);
}

TEST(h3_wire, C15_http2_frames)
{
    static const char types[] = {0x02, 0x06, 0x08, 0x09};
    for (size_t i = 0; i < sizeof(types); i++) {
        uint8_t frame[2] = {(uint8_t)types[i], 0};
        h3_wire_refused_control(frame, 2, PH_H3_FRAME_UNEXPECTED);
        h3_wire_refused_after_head(frame, 2, PH_H3_FRAME_UNEXPECTED);
        h3_wire_refused(true, frame, 2, false, PH_H3_FRAME_UNEXPECTED);
    }
}

TEST(h3_wire, C15_frames_of_another_stream)
{
    h3_wire_refused_control(H3_WIRE_BYTES("\x00\x00"), PH_H3_FRAME_UNEXPECTED);
    h3_wire_refused_control(H3_WIRE_BYTES("\x01\x00"), PH_H3_FRAME_UNEXPECTED);
    h3_wire_refused_control(H3_WIRE_BYTES("\x05\x01\x00"), PH_H3_FRAME_UNEXPECTED);
    h3_wire_refused_after_head(H3_WIRE_BYTES("\x05\x03\x00\x00\x00"), PH_H3_FRAME_UNEXPECTED);
    h3_wire_refused_after_head(H3_WIRE_BYTES("\x04\x00"), PH_H3_FRAME_UNEXPECTED);
    h3_wire_refused_after_head(H3_WIRE_BYTES("\x07\x01\x00"), PH_H3_FRAME_UNEXPECTED);
    h3_wire_refused_after_head(H3_WIRE_BYTES("\x0d\x01\x00"), PH_H3_FRAME_UNEXPECTED);
    h3_wire_refused_after_head(H3_WIRE_BYTES("\x03\x01\x00"), PH_H3_FRAME_UNEXPECTED);
    h3_wire_refused_after_head(H3_WIRE_BYTES("\x80\x0f\x07\x00\x01\x00"), PH_H3_FRAME_UNEXPECTED);
}

TEST(h3_wire, C15_order_of_request_frames)
{
    h3_wire_refused(true, H3_WIRE_BYTES("\x00\x01x"), false,
                    PH_H3_FRAME_UNEXPECTED); /* DATA before HEADERS */
    /* After trailers neither DATA nor HEADERS. */
    h3_wire_refused_after_head(H3_WIRE_BYTES("\x01\x02\x00\x00\x00\x01x"), PH_H3_FRAME_UNEXPECTED);
    h3_wire_refused_after_head(H3_WIRE_BYTES("\x01\x02\x00\x00\x01\x02\x00\x00"),
                               PH_H3_FRAME_UNEXPECTED);
}

TEST(h3_wire, C15_frame_cut_by_the_end)
{
    struct h3_world world;
    uint8_t data[400];
    h3_wire_up(&world, false);
    size_t len = h3_raw_request(data, sizeof(data), "POST", "/wait");
    memcpy(data + len, "\x00\x05xyz", 5);
    h3_raw_open(&world, true, data, len + 5, true);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_FRAME_ERROR);
    CHECK_INT(world.requests[0]->ends, ==, 0);
    h3_world_fini(&world);
}

TEST(h3_wire, C15_stream_without_a_request)
{
    struct h3_world world;
    h3_wire_up(&world, false);
    struct quic_log *empty = h3_raw_open(&world, true, "", 0, true);
    struct quic_log *grease = h3_raw_open(&world, true, H3_WIRE_BYTES("\x21\x01x"), true);
    h3_run(&world, 5 * PH_SEC);
    CHECK(empty->reset && grease->reset);
    CHECK_INT(empty->reset_code, ==, PH_H3_REQUEST_INCOMPLETE);
    CHECK_INT(grease->reset_code, ==, PH_H3_REQUEST_INCOMPLETE);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

TEST(h3_wire, C15_grease_frames_anywhere_are_skipped)
{
    struct h3_world world;
    uint8_t data[512], *p = data;
    h3_wire_up(&world, true);
    h3_raw_open(&world, false,
                H3_WIRE_BYTES(H3_WIRE_CONTROL "\x21\x02hi\xc0\x00\x00\x00\x00\x00\x21\x21\x00"),
                false);
    memcpy(p,
           "\x40\x5f\x03"
           "abc",
           6);
    p += 6;
    p += h3_raw_request(p, 300, "POST", "/echo");
    memcpy(p, "\x21\x00\x00\x02hi\x21\x01x\x00\x01!", 12);
    p += 12;
    struct quic_log *log = h3_raw_open(&world, true, data, (size_t)(p - data), true);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_status(log), ==, 200);
    CHECK(h3_log_is(world.requests[0], "hi!"));
    h3_world_fini(&world);
}

/* --- Slow readers --- */

/* Keeps the connection alive with small requests for `seconds`. */
static void stay(struct h3_world *world, int seconds)
{
    uint8_t data[400];
    size_t len = h3_raw_request(data, sizeof(data), "HEAD", "/");
    for (int i = 0; i < seconds && world->raw.conn != NULL; i++) {
        h3_raw_open(world, true, data, len, true);
        sim_run_for(world->sim, PH_SEC);
    }
}

static struct quic_log *ask_for_much(struct h3_world *world, size_t window)
{
    uint8_t data[400];
    size_t len = h3_raw_request(data, sizeof(data), "GET", "/bytes/2000000");
    h3_world_init(world, 100, &quic_clean_link);
    world->client_quic.stream_window = window;
    h3_world_start(world, H3_RAW);
    world->raw.hold = true; /* consumes nothing */
    return h3_raw_open(world, true, data, len, true);
}

TEST(h3_wire, B13_reader_that_gives_no_window_is_cut_off)
{
    struct h3_world world;
    struct quic_log *slow = ask_for_much(&world, 262144);
    stay(&world, 58);
    CHECK(!slow->reset);
    stay(&world, 5);
    CHECK(slow->reset);
    CHECK_INT(slow->reset_code, ==, PH_H3_REQUEST_CANCELLED);
    CHECK_INT(world.stats.timeouts_write, ==, 1);
    CHECK(!world.requests[0]->clean);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

TEST(h3_wire, B13_reader_of_a_little_now_and_then_is_served)
{
    struct h3_world world;
    struct quic_log *slow = ask_for_much(&world, 262144);
    for (int i = 0; i < 5; i++) {
        stay(&world, 30);
        size_t few = PH_MIN(slow->held, (size_t)200000);
        ph_quic_stream_consume(slow->stream, few);
        slow->held -= few;
    }
    CHECK(!slow->reset);
    CHECK_INT(world.stats.timeouts_write, ==, 0);
    h3_world_fini(&world);
}

/* --- Cancelled requests --- */

static void cancel_requests(struct h3_world *world, int n, uint64_t then)
{
    uint8_t data[400];
    size_t len = h3_raw_request(data, sizeof(data), "GET", "/wait");
    for (int i = 0; i < n && world->raw.conn != NULL; i++) {
        struct quic_log *log = h3_raw_open(world, true, data, len, false);
        sim_run_for(world->sim, PH_MSEC); /* it is on its way */
        if (log->stream != NULL)
            ph_quic_stream_reset(log->stream, PH_H3_REQUEST_CANCELLED);
    }
    sim_run_for(world->sim, then);
}

TEST(h3_wire, B11_cancelled_requests_have_a_budget)
{
    struct h3_world world;
    h3_wire_up(&world, false);
    cancel_requests(&world, 190, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    CHECK_INT(world.stats.limit_cancel, ==, 0);
    h3_world_fini(&world);
    h3_wire_up(&world, false);
    cancel_requests(&world, 300, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_EXCESSIVE_LOAD);
    CHECK_INT(world.stats.limit_cancel, ==, 1);
    CHECK_INT(world.requests_count, <, 300);
    h3_world_fini(&world);
}

TEST(h3_wire, cancelled_requests_up_to_the_burst_and_one_more_or_one_a_second_later)
{
    for (int later = 0; later < 2; later++) {
        struct h3_world world;
        h3_world_init(&world, 100, &quic_clean_link);
        world.server_config.cancel_burst = 20;
        world.server_config.cancel_rate = 1;
        h3_world_start(&world, H3_RAW);
        sim_run_for(world.sim, PH_SEC); /* probes of the path are over */
        cancel_requests(&world, 20, later ? 1100 * PH_MSEC : 200 * PH_MSEC);
        if (later)
            cancel_requests(&world, 1, 200 * PH_MSEC);
        CHECK_INT(h3_raw_closed(&world), ==, 0);
        CHECK_INT(world.stats.limit_cancel, ==, 0);
        CHECK_INT(world.requests_count, ==, 20 + later);
        cancel_requests(&world, 1, 200 * PH_MSEC);
        CHECK_INT(h3_raw_closed(&world), ==, PH_H3_EXCESSIVE_LOAD);
        CHECK_INT(world.stats.limit_cancel, ==, 1);
        h3_world_fini(&world);
    }
}

/* --- Least rates --- */

/* The reader takes `rate` bytes a second of a large response for two minutes. */
static void read_slowly(size_t rate, bool is_served)
{
    struct h3_world world;
    struct quic_log *slow = ask_for_much(&world, 2048); /* credit comes by half of it */
    for (int i = 0; i < 150 && !slow->reset; i++) {
        stay(&world, 1);
        if (slow->stream == NULL)
            break;
        size_t few = PH_MIN(slow->held, rate);
        ph_quic_stream_consume(slow->stream, few);
        slow->held -= few;
    }
    CHECK_INT(slow->reset, ==, !is_served);
    CHECK_INT(world.stats.timeouts_send_rate, ==, !is_served);
    CHECK_INT(world.stats.timeouts_write, ==, 0);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

TEST(h3_wire, F15_reader_below_the_least_rate_is_cut_off)
{
    read_slowly(100, false);
}

TEST(h3_wire, F15_reader_at_the_least_rate_is_served)
{
    read_slowly(260, true);
}

static void be_idle(struct h3_world *world, int seconds)
{
    uint64_t end = world->sim->now + (uint64_t)seconds * PH_SEC;
    while (world->sim->now < end && world->raw.conn != NULL) {
        h3_raw_datagram(world, "\x00x", 2); /* keeps QUIC's idle timeout away */
        sim_run_for(world->sim, PH_SEC);
    }
}

TEST(h3_wire, connection_that_asks_for_nothing_is_closed)
{
    struct h3_world world;
    h3_wire_up(&world, false);
    be_idle(&world, 50);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    CHECK(world.raw.conn != NULL);
    be_idle(&world, 11);
    CHECK_INT(h3_raw_closed(&world), ==, PH_H3_NO_ERROR);
    CHECK_INT(world.stats.timeouts_no_request, ==, 1);
    h3_world_fini(&world);
}

TEST(h3_wire, connection_that_asks_now_and_then_is_kept)
{
    struct h3_world world;
    uint8_t data[400];
    size_t len = h3_raw_request(data, sizeof(data), "HEAD", "/");
    h3_wire_up(&world, false);
    for (int i = 0; i < 5; i++) {
        be_idle(&world, 50);
        h3_raw_open(&world, true, data, len, true);
    }
    be_idle(&world, 50);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    CHECK_INT(world.stats.timeouts_no_request, ==, 0);
    h3_world_fini(&world);
}
