/*
 * test_sim_wt_hostile.c - a raw client that means harm: rows D1 to D12 and D15 to D18 of the
 * project's threat catalogue. The server stays bounded, tells its owner one end a session, and the
 * connection survives unless the protocol itself was broken.
 */
#include "../unit/test.h"
#include "wt_raw.h"

static void run_seconds(struct wt_raw *raw, unsigned seconds)
{
    for (unsigned i = 0; i < seconds; i++)
        wt_raw_run(raw);
}

TEST(wt_hostile, d01_streams_for_a_connect_that_never_comes)
{
    struct wt_raw raw;
    struct quic_log *logs[1000];
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    uint64_t id = wt_raw_open(&raw, true)->id;
    for (size_t i = 0; i < PH_COUNT_OF(logs); i++) {
        logs[i] = wt_raw_stream(&raw, i % 2 == 0, id);
        wt_raw_write(logs[i], "0123456789", 10);
    }
    run_seconds(&raw, 3);
    size_t held = 0;
    for (size_t i = 0; i < PH_COUNT_OF(logs); i++)
        held += !logs[i]->stopped;
    CHECK_INT(held, ==, raw.app.wt_config.pending_streams);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, held);
    run_seconds(&raw, 4); /* pending_timeout */
    for (size_t i = 0; i < PH_COUNT_OF(logs); i++) {
        CHECK(logs[i]->stopped);
        CHECK_INT(logs[i]->stop_code, ==, PH_WT_BUFFERED_STREAM_REJECTED);
    }
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    CHECK_INT(raw.app.stats.limit_pending_streams, ==, PH_COUNT_OF(logs));
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d01_bytes_for_a_connect_that_never_comes)
{
    static const uint8_t zeros[100000];
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    uint64_t id = wt_raw_open(&raw, true)->id;
    for (size_t i = 0; i < 20; i++)
        wt_raw_write(wt_raw_stream(&raw, false, id), zeros, sizeof zeros);
    run_seconds(&raw, 8);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    struct quic_log *connect = wt_raw_connect(&raw, "/"); /* all credit came back */
    run_seconds(&raw, 1);
    struct quic_log *stream = wt_raw_stream(&raw, false, connect->id);
    for (size_t i = 0; i < 20; i++)
        wt_raw_write(stream, zeros, sizeof zeros);
    wt_raw_fin(stream);
    run_seconds(&raw, 3);
    CHECK_INT(wt_app_stream(&raw.app, 0)->rx_len, ==, 20 * sizeof zeros);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d01_a_fin_does_not_free_the_place_of_an_early_stream)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    uint64_t id = wt_raw_open(&raw, true)->id;
    for (size_t i = 0; i < 500; i++) {
        struct quic_log *log = wt_raw_stream(&raw, false, id);
        wt_raw_write(log, "x", 1);
        wt_raw_fin(log);
    }
    run_seconds(&raw, 2);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, raw.app.wt_config.pending_streams);
    run_seconds(&raw, 5);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d01_a_connection_that_ends_takes_early_things_with_it)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    uint64_t id = wt_raw_open(&raw, true)->id;
    for (size_t i = 0; i < 6; i++) {
        struct quic_log *log = wt_raw_stream(&raw, i % 2 == 0, id);
        wt_raw_write(log, "x", 1);
        if (i < 4)
            wt_raw_fin(log);
        wt_raw_datagram(&raw, id, "abcde", 5);
    }
    wt_raw_write(wt_raw_open(&raw, false), "\x40\x54", 2);
    run_seconds(&raw, 1);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 7);
    ph_quic_conn_close(raw.raw.conn, PH_H3_NO_ERROR, "");
    run_seconds(&raw, 1);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    CHECK_INT(raw.app.sessions_count, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d02_datagrams_for_a_connect_that_never_comes)
{
    static uint8_t big[1000];
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_open(&raw, true);
    for (size_t i = 0; i < 1000; i++)
        wt_raw_datagram(&raw, connect->id, big, sizeof big);
    run_seconds(&raw, 2);
    wt_raw_connect_on(&raw, connect, "/");
    run_seconds(&raw, 1);
    CHECK_INT(wt_raw_slog(&raw)->datagrams_count, ==,
              raw.app.wt_config.pending_datagram_bytes / sizeof big);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d03_a_flood_of_sessions_on_one_connection)
{
    struct wt_raw raw;
    struct quic_log *logs[200];
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    for (size_t i = 0; i < PH_COUNT_OF(logs); i++)
        logs[i] = wt_raw_connect(&raw, "/");
    run_seconds(&raw, 1);
    size_t open = 0, rejected = 0;
    for (size_t i = 0; i < PH_COUNT_OF(logs); i++) {
        open += wt_raw_status(&raw, logs[i]) == 200;
        rejected += logs[i]->reset && logs[i]->reset_code == PH_H3_REQUEST_REJECTED;
    }
    CHECK_INT(open, ==, raw.app.wt_config.max_sessions);
    CHECK_INT(open + rejected, ==, PH_COUNT_OF(logs));
    CHECK_INT(raw.app.stats.limit_sessions, ==, rejected);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d03_sessions_opened_and_closed_in_a_hurry)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    for (size_t i = 0; i < 300; i++) {
        wt_raw_fin(wt_raw_connect(&raw, "/"));
        sim_run_for(raw.sim, PH_MSEC);
    }
    run_seconds(&raw, 3);
    const struct ph_wt_config *config = &raw.app.wt_config;
    CHECK_INT(raw.app.sessions_count, <=, config->session_burst + config->session_rate);
    CHECK_INT(raw.app.stats.limit_sessions, >, 0);
    CHECK_INT(ph_live_get(PH_LIVE_WT_SESSION), ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d05_stream_headers_that_are_never_finished)
{
    struct wt_raw raw;
    struct quic_log *logs[40];
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    for (size_t i = 0; i < PH_COUNT_OF(logs); i++) {
        logs[i] = wt_raw_open(&raw, i % 2 == 0);
        wt_raw_write(logs[i], i % 2 == 0 ? "\x40\x41\xc0\0" : "\x40\x54\xc0\0", 4);
    }
    run_seconds(&raw, 2);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, raw.app.wt_config.pending_streams);
    struct quic_log *honest = wt_raw_stream(&raw, true, connect->id); /* is not in their way */
    wt_raw_write(honest, "x", 1);
    run_seconds(&raw, 5);
    CHECK_INT(raw.app.streams_count, ==, 1);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 1);
    for (size_t i = 0; i < PH_COUNT_OF(logs); i++)
        CHECK_INT(logs[i]->stop_code, ==, PH_WT_BUFFERED_STREAM_REJECTED);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d06_ten_megabytes_of_reason)
{
    uint8_t head[32];
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    uint8_t *p = ph_varint_put(ph_varint_put(head, PH_CAPSULE_WT_CLOSE_SESSION), 10000000);
    wt_raw_data(connect, head, (size_t)(p - head));
    run_seconds(&raw, 1);
    CHECK(connect->reset && connect->stopped);
    CHECK_INT(connect->reset_code, ==, PH_H3_MESSAGE_ERROR);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK(!wt_raw_slog(&raw)->end.clean);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d07_a_capsule_without_end)
{
    static const uint8_t zeros[16384];
    uint8_t head[32];
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    uint8_t *p = ph_varint_put(ph_varint_put(head, 0x7777), UINT64_C(1) << 40);
    wt_raw_data(connect, head, (size_t)(p - head));
    for (size_t i = 0; i < 70 && connect->stream != NULL; i++)
        wt_raw_data(connect, zeros, sizeof zeros);
    run_seconds(&raw, 3);
    CHECK(connect->reset);
    CHECK_INT(connect->reset_code, ==, PH_H3_EXCESSIVE_LOAD);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d07_empty_capsules_without_end)
{
    static uint8_t many[16384];
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    for (size_t i = 0; i < sizeof many; i += 2)
        many[i] = 0x17; /* an unknown type of length 0 */
    for (size_t i = 0; i < 60 && connect->stream != NULL; i++)
        wt_raw_data(connect, many, sizeof many);
    run_seconds(&raw, 3);
    CHECK_INT(raw.raw.closed, ==, 1);
    CHECK_INT(raw.raw.end.code, ==, PH_H3_EXCESSIVE_LOAD);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d08_a_close_without_credit_ends_in_time)
{
    static char reason[1000];
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.client_config.stream_window = 400;
    struct quic_log *connect = wt_raw_session(&raw);
    raw.raw.hold = true;
    memset(reason, 'x', sizeof reason);
    uint64_t start = raw.sim->now;
    ph_wt_session_close(wt_raw_slog(&raw)->session, 1, reason, sizeof reason);
    while (wt_raw_slog(&raw)->closed == 0 && raw.sim->now - start < 10 * PH_SEC)
        sim_run_for(raw.sim, 50 * PH_MSEC);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK_INT(raw.sim->now - start, <=, raw.app.wt_config.close_timeout + 100 * PH_MSEC);
    run_seconds(&raw, 1);
    CHECK(connect->reset);
    CHECK_INT(connect->reset_code, ==, PH_WT_SESSION_GONE);
    CHECK_INT(ph_live_get(PH_LIVE_WT_SESSION), ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d09_nothing_the_peer_sends_makes_us_queue_capsules)
{
    static uint8_t drains[5000];
    struct wt_raw raw;
    size_t n;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    raw.raw.hold = true;
    for (size_t i = 0; i < sizeof drains; i += 5)
        memcpy(drains + i, "\x80\x00\x78\xae\x00", 5);
    for (size_t i = 0; i < 20; i++)
        wt_raw_data(connect, drains, sizeof drains);
    for (size_t i = 0; i < 100; i++)
        ph_wt_session_drain(wt_raw_slog(&raw)->session);
    run_seconds(&raw, 1);
    wt_raw_payload(connect, &n);
    CHECK_INT(n, ==, 5);
    CHECK_INT(wt_raw_slog(&raw)->drains_peer, ==, 1);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d10_closed_streams_are_forgotten)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    for (size_t i = 0; i < 3000; i++) {
        struct quic_log *log = wt_raw_stream(&raw, false, connect->id);
        if (i % 3 == 0)
            ph_quic_stream_reset(log->stream, 0x10c);
        else
            wt_raw_fin(log);
        if (i % 100 == 0)
            sim_run_for(raw.sim, 100 * PH_MSEC);
    }
    run_seconds(&raw, 2);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    CHECK_INT(wt_raw_slog(&raw)->streams_alive, ==, 0);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

/* --- D11: every order of what can end a session --- */

enum act {
    ACT_CAPSULE,
    ACT_FIN,
    ACT_RESET,
    ACT_STOP,
    ACT_STOP_GONE,
    ACT_LOCAL_CLOSE,
    ACT_LOCAL_RESET,
    ACT_GARBAGE,
    ACT_DATA,
    ACT_CONN_CLOSE,
    ACTS
};

/* Nothing when the connection is on its way out. */
static void new_stream(struct wt_raw *raw, uint64_t session_id)
{
    uint8_t head[PH_WT_STREAM_HEADER_MAX + 3];
    struct quic_log *log = raw->raw.conn != NULL ? quic_app_open(&raw->raw, true) : NULL;
    if (log == NULL)
        return;
    size_t n = ph_wt_stream_header_put(head, true, session_id);
    memcpy(head + n, "new", 3);
    wt_raw_write(log, head, n + 3);
}

static void act(struct wt_raw *raw, struct quic_log *connect, struct quic_log *stream,
                enum act what)
{
    struct wt_slog *slog = wt_raw_slog(raw);
    switch (what) {
    case ACT_CAPSULE:
        wt_raw_data(connect, "\x68\x43\x06\0\0\0\x07ok", 9);
        break;
    case ACT_FIN:
        wt_raw_fin(connect);
        break;
    case ACT_RESET:
        if (connect->stream != NULL)
            ph_quic_stream_reset(connect->stream, PH_H3_REQUEST_CANCELLED);
        break;
    case ACT_STOP:
    case ACT_STOP_GONE:
        if (connect->stream != NULL)
            ph_quic_stream_stop(connect->stream,
                                what == ACT_STOP ? PH_H3_REQUEST_CANCELLED : PH_WT_SESSION_GONE);
        break;
    case ACT_LOCAL_CLOSE:
        if (slog->session != NULL)
            ph_wt_session_close(slog->session, 3, "mine", 4);
        break;
    case ACT_LOCAL_RESET:
        if (slog->session != NULL)
            ph_wt_session_reset(slog->session, PH_H3_INTERNAL_ERROR);
        break;
    case ACT_GARBAGE:
        wt_raw_data(connect, "\x68\x43\x01\0", 4);
        break;
    case ACT_DATA:
        wt_raw_write(stream, "more", 4);
        if (stream->stream != NULL)
            ph_quic_stream_stop(stream->stream, 1);
        new_stream(raw, connect->id);
        break;
    case ACT_CONN_CLOSE:
        if (raw->raw.conn != NULL)
            ph_quic_conn_close(raw->raw.conn, PH_H3_NO_ERROR, "");
        break;
    case ACTS:
        break;
    }
}

/* Three acts; bits of `gaps` put a pause behind the first and the second, so that they travel in
 * one packet or in several. wt_app checks the order of events and that each comes once. */
static void run_acts(const enum act acts[3], unsigned gaps, bool early)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    if (early)
        raw.app.answer = WT_ANSWER_LATER;
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_connect(&raw, "/");
    struct quic_log *stream = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(stream, "data", 4);
    sim_run_for(raw.sim, 100 * PH_MSEC);
    if (!early) {
        wt_write_pattern(wt_open_stream(wt_raw_slog(&raw), true), 20000, 1, false);
        wt_write_pattern(wt_app_stream(&raw.app, 0), 20000, 1, false);
    }
    for (unsigned i = 0; i < 3; i++) {
        act(&raw, connect, stream, acts[i]);
        if (gaps & 1u << i)
            sim_run_for(raw.sim, 7 * PH_MSEC);
    }
    sim_run_for(raw.sim, 100 * PH_MSEC);
    if (early && wt_raw_slog(&raw)->session != NULL)
        ph_wt_session_accept(wt_raw_slog(&raw)->session, NULL, 0, NULL);
    run_seconds(&raw, 4);
    CHECK_INT(raw.app.sessions_count, ==, 1);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK_INT(ph_live_get(PH_LIVE_WT_SESSION), ==, 0);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    wt_raw_fini(&raw);
}

static bool ends_session(enum act what)
{
    return what != ACT_DATA;
}

TEST(wt_hostile, d11_every_order_of_three_endings_in_one_packet_or_more)
{
    for (unsigned n = 0; n < ACTS * ACTS * ACTS; n++) {
        enum act acts[3] = {n % ACTS, n / ACTS % ACTS, n / ACTS / ACTS};
        if (acts[0] == acts[1] || acts[1] == acts[2] || acts[0] == acts[2])
            continue;
        if (!ends_session(acts[0]) && !ends_session(acts[1]) && !ends_session(acts[2]))
            continue;
        run_acts(acts, (n + n / 3) % 4, false);
    }
}

TEST(wt_hostile, d11_the_same_before_the_answer)
{
    static const enum act remote[] = {ACT_CAPSULE, ACT_FIN,     ACT_RESET,
                                      ACT_STOP,    ACT_GARBAGE, ACT_CONN_CLOSE};
    for (unsigned n = 0; n < 6 * 6 * 6; n++) {
        enum act acts[3] = {remote[n % 6], remote[n / 6 % 6], remote[n / 36]};
        if (acts[0] == acts[1] || acts[1] == acts[2] || acts[0] == acts[2])
            continue;
        run_acts(acts, n % 4, true);
    }
}

TEST(wt_hostile, d12_streams_and_datagrams_after_the_close)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    ph_wt_session_close(wt_raw_slog(&raw)->session, 1, "", 0); /* not yet answered */
    sim_run_for(raw.sim, 100 * PH_MSEC);
    struct quic_log *stream = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(stream, "x", 1);
    wt_raw_datagram(&raw, connect->id, "late", 4);
    sim_run_for(raw.sim, 100 * PH_MSEC);
    CHECK(stream->reset && stream->stopped);
    CHECK_INT(stream->reset_code, ==, PH_WT_SESSION_GONE);
    CHECK_INT(raw.app.streams_count, ==, 0);
    CHECK_INT(wt_raw_slog(&raw)->datagrams_count, ==, 0);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d15_origins_of_every_bad_kind_are_refused)
{
    static char huge[8192];
    memset(huge, 'a', sizeof huge - 1);
    memcpy(huge, "https://", 8);
    const char *const origins[] = {"https://evil.example", "null", huge};
    for (size_t i = 0; i <= PH_COUNT_OF(origins); i++) {
        struct wt_raw raw;
        wt_raw_init(&raw, false);
        CHECK(wt_raw_start(&raw));
        bool twice = i == PH_COUNT_OF(origins);
        const char *origin = twice ? "https://localhost:4433" : origins[i];
        struct ph_field fields[2] = {wt_raw_field("origin", origin),
                                     wt_raw_field("origin", origin)};
        struct quic_log *connect = wt_raw_connect_with(&raw, "/", fields, twice ? 2 : 1);
        run_seconds(&raw, 1);
        CHECK_INT(wt_raw_status(&raw, connect), ==, 403);
        CHECK_INT(raw.app.sessions_count, ==, 0);
        CHECK_INT(raw.app.stats.origins_refused, ==, 1);
        wt_raw_fini(&raw);
    }
}

TEST(wt_hostile, d16_streams_reset_at_once_leave_nothing_and_return_their_credit)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_session(&raw) != NULL);
    uint64_t limit = raw.server_config.max_streams_uni;
    for (uint64_t i = 0; i < 2 * limit; i++) {
        struct quic_log *log = quic_app_open(&raw.raw, false);
        if (log == NULL) {
            run_seconds(&raw, 1); /* MAX_STREAMS is on its way */
            log = quic_app_open(&raw.raw, false);
        }
        CHECK(log != NULL);
        if (i % 2 == 0) /* half of them say whose they would be */
            wt_raw_write(log, "\x40\x54", 2);
        if (i % 4 == 0)
            wt_raw_write(log, "\x00", 1);
        ph_quic_stream_reset(log->stream, 0x10c);
    }
    run_seconds(&raw, 2);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_hostile, d18_a_bomb_of_subprotocols)
{
    static char list[20000];
    struct wt_raw raw;
    size_t n = 0, count;
    for (size_t i = 0; i < 4000; i++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s\"x\"", i == 0 ? "" : ",");
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    struct ph_field fields[3] = {wt_raw_field("wt-available-protocols", list),
                                 wt_raw_field("wt-available-protocols", list),
                                 wt_raw_field("wt-available-protocols", "\"\xc3\xa4\"")};
    struct quic_log *bomb = wt_raw_connect_with(&raw, "/", fields, 3);
    run_seconds(&raw, 1);
    CHECK_INT(wt_raw_status(&raw, bomb), ==, 200);
    ph_wt_session_offered(wt_raw_slog(&raw)->session, &count);
    CHECK_INT(count, ==, 0); /* as if absent */
    struct quic_log *foreign = wt_raw_connect_with(&raw, "/", &fields[2], 1);
    run_seconds(&raw, 1);
    CHECK_INT(wt_raw_status(&raw, foreign), ==, 200);
    wt_raw_fini(&raw);
}
