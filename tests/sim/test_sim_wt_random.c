/*
 * test_sim_wt_random.c - random sequences of everything that two owners of sessions can do, over a
 * bad network. wt_app asserts the order of events; afterwards nothing may be alive and all credit
 * must have come back: a fresh session moves several connection windows.
 */
#include "../unit/test.h"
#include "wt_app.h"

static const struct sim_link rough_link = {.delay = 5 * PH_MSEC,
                                           .jitter = 3 * PH_MSEC,
                                           .loss = 20,
                                           .duplicate = 20,
                                           .corrupt = 5,
                                           .reorder = 50,
                                           .reorder_delay = 8 * PH_MSEC};

enum { STEPS = 120, SEEDS = 100 };

/* The newest session of a side that still lives; NULL: none. */
static struct wt_slog *living(const struct wt_app *app)
{
    for (size_t i = app->sessions_count; i-- > 0;) {
        if (app->sessions[i]->session != NULL)
            return app->sessions[i];
    }
    return NULL;
}

static struct wt_log *any_stream(const struct wt_app *app, struct sim_rng *rng)
{
    if (app->streams_count == 0)
        return NULL;
    size_t start = sim_rng_below(rng, app->streams_count);
    for (size_t i = 0; i < app->streams_count; i++) {
        struct wt_log *log = app->streams[(start + i) % app->streams_count];
        if (log->stream != NULL)
            return log;
    }
    return NULL;
}

static void act_on_stream(struct wt_log *log, struct sim_rng *rng)
{
    bool can_write = log->bidi || !log->by_peer;
    switch (sim_rng_below(rng, 8)) {
    case 0:
    case 1:
    case 2:
        if (can_write)
            wt_write_pattern(log, sim_rng_below(rng, 30000), 1, false);
        break;
    case 3:
        if (can_write)
            wt_write(log, NULL, 0, true);
        break;
    case 4:
        ph_wt_stream_reset(log->stream, (uint32_t)sim_rng_next(rng));
        break;
    case 5:
        ph_wt_stream_stop(log->stream, (uint32_t)sim_rng_next(rng));
        log->held = 0;
        break;
    case 6:
        wt_consume_held(log);
        break;
    case 7:
        ph_wt_stream_set_urgency(log->stream, (unsigned)sim_rng_below(rng, 9));
        break;
    }
}

static void act_on_session(struct wt_slog *slog, struct sim_rng *rng)
{
    uint8_t bytes[900] = {0};
    switch (sim_rng_below(rng, 24)) {
    case 0:
        ph_wt_session_close(slog->session, 7, "random", 6);
        break;
    case 1:
        ph_wt_session_reset(slog->session, PH_H3_INTERNAL_ERROR);
        break;
    case 2:
        ph_wt_session_drain(slog->session);
        break;
    case 3:
    case 4:
    case 5:
        wt_send_datagram(slog, bytes, sim_rng_below(rng, sizeof bytes));
        break;
    default:
        wt_open_stream(slog, sim_rng_below(rng, 2) == 0);
        break;
    }
}

/* A session that waits for the server's answer gets one. */
static void answer(struct wt_app *server, struct sim_rng *rng)
{
    struct wt_slog *slog = living(server);
    if (slog == NULL)
        return;
    if (sim_rng_below(rng, 5) > 0) {
        ph_wt_session_accept(slog->session, NULL, 0, NULL); /* PH_E_STATE when it has one */
        return;
    }
    struct ph_wt_session *session = slog->session;
    if (ph_wt_session_reject(session) != NULL)
        slog->session = NULL;
}

static void change_policy(struct wt_app *app, struct sim_rng *rng)
{
    app->hold = sim_rng_below(rng, 3) == 0;
    app->echo = sim_rng_below(rng, 3) == 0;
    app->close_on_stream = sim_rng_below(rng, 40) == 0;
    app->close_on_data = sim_rng_below(rng, 40) == 0;
    app->answer = (enum wt_answer)sim_rng_below(rng, 3);
    app->reject_status = 404;
}

static void act(struct wt_pair *pair, struct sim_rng *rng)
{
    struct wt_app *side = sim_rng_below(rng, 2) == 0 ? &pair->client : &pair->server;
    struct wt_slog *slog = living(side);
    struct wt_log *log = any_stream(side, rng);
    switch (sim_rng_below(rng, 10)) {
    case 0:
        change_policy(side, rng);
        break;
    case 1:
        answer(&pair->server, rng);
        break;
    case 2:
        if (living(&pair->client) == NULL)
            wt_open_session(pair, "/random");
        break;
    case 3:
    case 4:
        if (slog != NULL)
            act_on_session(slog, rng);
        break;
    case 5:
        sim_run_for(pair->sim, sim_rng_below(rng, 30) * PH_MSEC);
        break;
    default:
        if (log != NULL)
            act_on_stream(log, rng);
        break;
    }
}

static bool nothing_lives(void *arg)
{
    (void)arg;
    return ph_live_get(PH_LIVE_WT_SESSION) == 0 && ph_live_get(PH_LIVE_WT_STREAM) == 0;
}

static void calm(struct wt_app *app)
{
    app->hold = app->echo = app->close_on_data = app->close_on_stream = false;
    app->answer = WT_ANSWER_ACCEPT;
}

/* Ends what is left; then a fresh session must move 3 MB, three times the connection window. */
static const char *check_afterwards(struct wt_pair *pair)
{
    calm(&pair->server);
    calm(&pair->client);
    for (struct wt_slog *slog; (slog = living(&pair->server)) != NULL;)
        ph_wt_session_reset(slog->session, PH_H3_NO_ERROR);
    for (struct wt_slog *slog; (slog = living(&pair->client)) != NULL;)
        ph_wt_session_reset(slog->session, PH_H3_NO_ERROR);
    if (!sim_run_until(pair->sim, nothing_lives, NULL, 20 * PH_SEC))
        return "something lives on";
    sim_run_for(pair->sim, PH_SEC); /* for what raises limits to arrive */
    struct wt_slog *mine = wt_open_session(pair, "/last");
    if (mine == NULL || !wt_run(pair, wt_is_ready, mine))
        return "no session afterwards";
    struct wt_slog *theirs = living(&pair->server);
    struct wt_log *up = wt_open_stream(mine, false), *down = wt_open_stream(theirs, true);
    wt_write_pattern(up, 3000000, 1, true);
    wt_write_pattern(down, 3000000, 2, true);
    if (!wt_run(pair, wt_stream_is_closed, up))
        return "credit of the server is lost";
    struct wt_log *there = wt_app_stream_by_id(&pair->client, down->id);
    if (there == NULL || !wt_run(pair, wt_has_fin, there))
        return "credit of the client is lost";
    return NULL;
}

static const char *random_run(uint64_t seed)
{
    struct wt_pair pair;
    struct sim_rng rng = {.state = seed};
    wt_pair_init(&pair, seed, &rough_link);
    pair.server_config.max_streams_bidi = 20;
    pair.server_config.max_streams_uni = 12;
    pair.client_config.max_streams_bidi = 5;
    const char *wrong = wt_pair_connect(&pair) ? NULL : "no connection";
    for (unsigned i = 0; i < STEPS && wrong == NULL; i++)
        act(&pair, &rng);
    if (wrong == NULL)
        wrong = check_afterwards(&pair);
    wt_pair_fini(&pair);
    return wrong;
}

TEST(sim_wt_random, sequences_end_everything_once_and_return_all_credit)
{
    for (uint64_t i = 0; i < SEEDS; i++) {
        uint64_t seed = ph_test_seed() * 100000 + i;
        const char *wrong = random_run(seed);
        if (wrong != NULL)
            ph_test_fail(__FILE__, __LINE__, "seed %llu: %s", (unsigned long long)seed, wrong);
    }
}
