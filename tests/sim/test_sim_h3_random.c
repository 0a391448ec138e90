/*
 * test_sim_h3_random.c - sequences nobody thought of: a raw client draws pieces of valid and
 * invalid frames, FIN, RESET_STREAM and STOP_SENDING on several streams, often within one packet,
 * while the server's side draws answers, resets and stops (catalogue B26). There is nothing to
 * compare with; the facts are that every exchange and session ends exactly once, and that nothing
 * is left over.
 */
#include "../unit/test.h"
#include "h3_wire.h"

enum { ROUNDS = 60, STEPS = 60, STREAMS = 12 };

struct piece {
    const char *data;
    size_t n;
};
#define PIECE(s)                                                                                   \
    {                                                                                              \
        s, sizeof(s) - 1                                                                           \
    }

/* Mostly harmless, so that connections live long enough for combinations. */
static const struct piece pieces[] = {
    PIECE("\x00\x05hello"),        PIECE("\x00\x00"), PIECE("\x21\x02xy"),
    PIECE("\x00\x09half"),         PIECE("\x00"),     PIECE("\x01\x02\x00\x00"),
    PIECE("\x01\x80\x00\x10\x00"), PIECE("\x40"),     PIECE("\x00\x03\x17\x01z"),
};
static const struct piece openings[] = {
    PIECE("\x40\x41\x00"), PIECE("\x40\x54\x00"), PIECE("\x40"), PIECE("\x21"), PIECE("\x01"),
};

static size_t draw_head(struct sim_rng *rng, uint8_t *out, size_t cap)
{
    static const char *const targets[] = {"/", "/wait", "/echo", "/hold", "/bytes/4000", "/reset"};
    static const struct ph_field connect[] = {H3_WIRE_CONNECT("webtransport")};
    if (sim_rng_below(rng, 3) == 0)
        return h3_raw_head(out, cap, connect, PH_COUNT_OF(connect));
    return h3_raw_request(out, cap, "POST", targets[sim_rng_below(rng, PH_COUNT_OF(targets))]);
}

static struct quic_log *draw_open(struct h3_world *world, struct sim_rng *rng)
{
    uint8_t data[512];
    bool bidi = sim_rng_below(rng, 4) != 0;
    if (bidi && sim_rng_below(rng, 5) != 0) {
        size_t n = draw_head(rng, data, sizeof(data));
        size_t cut = sim_rng_below(rng, 4) == 0 ? sim_rng_below(rng, n) : n;
        return h3_raw_open(world, true, data, cut, false);
    }
    const struct piece *piece = &openings[sim_rng_below(rng, PH_COUNT_OF(openings))];
    if (!bidi && piece->data[0] == 0x01) /* a push stream ends the connection at once */
        piece = &openings[1];
    return h3_raw_open(world, bidi, piece->data, piece->n, false);
}

static void draw_act(struct quic_log *log, struct sim_rng *rng)
{
    const struct piece *piece = &pieces[sim_rng_below(rng, PH_COUNT_OF(pieces))];
    if (log->stream == NULL)
        return;
    switch (sim_rng_below(rng, 8)) {
    case 0:
        ph_quic_stream_reset(log->stream, PH_H3_REQUEST_CANCELLED);
        break;
    case 1:
        if (!ph_quic_id_is_uni(log->id))
            ph_quic_stream_stop(log->stream, PH_H3_REQUEST_CANCELLED);
        break;
    case 2:
        ph_quic_stream_fin(log->stream);
        break;
    default:
        ph_quic_stream_write_copy(log->stream, piece->data, piece->n);
        break;
    }
}

/* What an application may do at any time. */
static void draw_answer(struct h3_world *world, struct sim_rng *rng)
{
    if (world->connect != NULL && sim_rng_below(rng, 4) == 0) {
        if (sim_rng_below(rng, 2) == 0)
            ph_h3_request_reset(world->connect, PH_H3_REQUEST_CANCELLED);
        else
            ph_h3_request_data(world->connect, (const uint8_t *)"hi", 2,
                               sim_rng_below(rng, 2) == 0);
    }
    if (world->requests_count == 0)
        return;
    struct h3_log *log = world->requests[sim_rng_below(rng, world->requests_count)];
    if (log->ex == NULL)
        return;
    switch (sim_rng_below(rng, 6)) {
    case 0:
        ph_exchange_reset(log->ex, PH_H3_INTERNAL_ERROR);
        break;
    case 1:
        ph_exchange_stop(log->ex, PH_H3_NO_ERROR);
        break;
    case 2:
        ph_exchange_respond(log->ex, 200, NULL, 0, sim_rng_below(rng, 2) == 0);
        break;
    case 3:
        ph_exchange_write(log->ex, ph_slice_of(ph_buf_copy("body", 4)), sim_rng_below(rng, 2) == 0);
        break;
    case 4:
        ph_exchange_consume(log->ex, log->held);
        log->held = 0;
        break;
    default:
        ph_exchange_trailers(log->ex, NULL, 0);
        break;
    }
}

/* So that the test cannot pass by drawing nothing. */
struct sums {
    size_t requests, connects, claims, clean, aborted;
};

static void play(uint64_t seed, struct sums *sums)
{
    struct h3_world world;
    struct sim_rng rng = {.state = seed};
    struct quic_log *logs[STREAMS];
    size_t count = 0;
    h3_world_init(&world, seed, &quic_clean_link);
    h3_world_use_ext(&world);
    world.server_config.header_timeout = 2 * PH_SEC;
    world.server_config.body_timeout = 2 * PH_SEC;
    world.refuse_connect = sim_rng_below(&rng, 4) == 0;
    world.refuse_stream = sim_rng_below(&rng, 4) == 0;
    h3_world_start(&world, H3_RAW);
    if (sim_rng_below(&rng, 3) != 0)
        h3_raw_open(&world, false, H3_WIRE_BYTES(H3_WIRE_CONTROL), false);
    for (int step = 0; step < STEPS && world.raw.conn != NULL; step++) {
        if (count < STREAMS && (count == 0 || sim_rng_below(&rng, 3) == 0))
            logs[count++] = draw_open(&world, &rng);
        for (uint64_t acts = sim_rng_below(&rng, 4); acts > 0; acts--)
            draw_act(logs[sim_rng_below(&rng, count)], &rng);
        draw_answer(&world, &rng);
        if (sim_rng_below(&rng, 2) == 0)
            sim_run_for(world.sim, sim_rng_below(&rng, 30) * PH_MSEC);
        if (sim_rng_below(&rng, 60) == 0)
            ph_h3_drain(world.server, world.sim->now);
    }
    h3_run(&world, 5 * PH_SEC);
    if (world.raw.conn != NULL)
        ph_quic_conn_close(world.raw.conn, PH_H3_NO_ERROR, NULL);
    h3_run(&world, 5 * PH_SEC);
    for (size_t i = 0; i < world.requests_count; i++) {
        CHECK_INT(world.requests[i]->closes, ==, 1);
        sums->clean += world.requests[i]->clean;
        sums->aborted += !world.requests[i]->clean;
    }
    sums->requests += world.requests_count;
    sums->connects += world.connects;
    sums->claims += world.claims;
    if (!world.refuse_connect)
        CHECK_INT(world.connect_closes, ==, world.connects);
    CHECK_INT(world.claim_ends, ==, world.claims);
    CHECK_INT(ph_live_get(PH_LIVE_H3_STREAM), ==, 0);
    CHECK_INT(ph_live_get(PH_LIVE_H3_CONN), ==, 0);
    CHECK_INT(ph_live_get(PH_LIVE_EXCHANGE), ==, 0);
    h3_world_fini(&world);
}

TEST(h3_random, B26_any_sequence_ends_everything_once)
{
    uint64_t base = ph_test_seed() * 1000;
    struct sums sums = {0};
    for (uint64_t i = 0; i < ROUNDS; i++)
        play(base + i, &sums);
    CHECK_INT(sums.requests, >, ROUNDS);
    CHECK_INT(sums.connects, >, ROUNDS / 4);
    CHECK_INT(sums.claims, >, ROUNDS / 8);
    CHECK_INT(sums.clean, >, ROUNDS / 4);
    CHECK_INT(sums.aborted, >, ROUNDS / 4);
}
