/* h3_wire.c - what the tests with raw bytes share; see h3_wire.h. */
#include "h3_wire.h"

#include "../unit/test.h"

void h3_wire_up(struct h3_world *world, bool ext)
{
    h3_world_init(world, 100, &quic_clean_link);
    if (ext)
        h3_world_use_ext(world);
    h3_world_start(world, H3_RAW);
}

void h3_wire_refused(bool bidi, const void *data, size_t n, bool fin, uint64_t code)
{
    struct h3_world world;
    h3_wire_up(&world, true);
    h3_raw_open(&world, bidi, data, n, fin);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, code);
    CHECK_INT(world.requests_count, ==, 0);
    CHECK_INT(world.stats.protocol_errors, ==, 1);
    h3_world_fini(&world);
}

void h3_wire_refused_control(const void *frames, size_t n, uint64_t code)
{
    uint8_t data[256] = H3_WIRE_CONTROL;
    memcpy(data + 3, frames, n);
    h3_wire_refused(false, data, 3 + n, false, code);
}

void h3_wire_refused_after_head(const void *frames, size_t n, uint64_t code)
{
    struct h3_world world;
    uint8_t data[512];
    h3_wire_up(&world, true);
    size_t len = h3_raw_request(data, sizeof(data), "POST", "/wait");
    memcpy(data + len, frames, n);
    h3_raw_open(&world, true, data, len + n, false);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_closed(&world), ==, code);
    CHECK_INT(world.requests_count, ==, 1);
    CHECK_INT(world.requests[0]->closes, ==, 1);
    h3_world_fini(&world);
}

void h3_wire_malformed(const struct ph_field *fields, size_t n)
{
    struct h3_world world;
    uint8_t data[1024];
    h3_wire_up(&world, true);
    h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    struct quic_log *bad =
        h3_raw_open(&world, true, data, h3_raw_head(data, sizeof(data), fields, n), true);
    h3_run(&world, 5 * PH_SEC);
    CHECK(bad->reset);
    CHECK_INT(bad->reset_code, ==, PH_H3_MESSAGE_ERROR);
    CHECK_INT(world.requests_count, ==, 0);
    CHECK_INT(world.connects, ==, 0);
    CHECK_INT(world.stats.protocol_errors, ==, 1);
    struct quic_log *good =
        h3_raw_open(&world, true, data, h3_raw_request(data, sizeof(data), "GET", "/"), true);
    h3_run(&world, 5 * PH_SEC);
    CHECK_INT(h3_raw_status(good), ==, 200);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
}

int h3_wire_status_of(const struct ph_field *fields, size_t n, bool ext)
{
    struct h3_world world;
    uint8_t data[1024];
    h3_wire_up(&world, ext);
    h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    struct quic_log *log =
        h3_raw_open(&world, true, data, h3_raw_head(data, sizeof(data), fields, n), false);
    h3_run(&world, 5 * PH_SEC);
    int status = h3_raw_status(log);
    CHECK_INT(h3_raw_closed(&world), ==, 0);
    h3_world_fini(&world);
    return status;
}
