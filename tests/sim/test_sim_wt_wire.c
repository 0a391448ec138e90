/*
 * test_sim_wt_wire.c - a raw client against the server: requirements of the drafts, one test a row
 * of the project's conformance list (docs), named by its number. Rows about the end of a session
 * are in test_sim_wt_wire_close.c, hostile ones in test_sim_wt_hostile.c.
 */
#include "../unit/test.h"
#include "wt_raw.h"

static const uint8_t only_draft07[] = {0x33, 1, 0xc0, 0, 0, 0, 0xc6, 0x71, 0x70, 0x6a, 1};
static const uint8_t only_draft13[] = {0x33, 1, 0x94, 0xe9, 0xcd, 0x29, 1};
static const uint8_t only_draft15[] = {0x33, 1, 0xac, 0x7c, 0xf0, 0x00, 1};
static const uint8_t only_datagrams[] = {0x33, 1};
static const uint8_t all_drafts[] = {0x33, 1,    0xab, 0x60, 0x37, 0x42, 1,    0xc0, 0,
                                     0,    0,    0xc6, 0x71, 0x70, 0x6a, 1,    0x94, 0xe9,
                                     0xcd, 0x29, 1,    0xac, 0x7c, 0xf0, 0x00, 1};
static const uint8_t no_datagrams[] = {0xab, 0x60, 0x37, 0x42, 1};

static void check_connection_error(const struct wt_raw *raw, uint64_t code)
{
    CHECK_INT(raw->raw.closed, ==, 1);
    CHECK(raw->raw.end.app);
    CHECK_INT(raw->raw.end.code, ==, code);
}

/* --- Establishment --- */

TEST(wt_wire, row_09_connect_waits_for_the_clients_settings)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.no_control = true;
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_connect(&raw, "/");
    struct quic_log *stream = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(stream, "early", 5);
    wt_raw_run(&raw);
    CHECK_INT(raw.app.sessions_count, ==, 0);
    CHECK_INT(wt_raw_status(&raw, connect), ==, 0);
    wt_raw_control(&raw);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_status(&raw, connect), ==, 200);
    CHECK_INT(wt_app_stream(&raw.app, 0)->rx_len, ==, 5);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_10_settings_without_datagrams_make_the_request_malformed)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.settings = no_datagrams;
    raw.settings_len = sizeof no_datagrams;
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_connect(&raw, "/");
    wt_raw_run(&raw);
    CHECK(connect->reset && connect->stopped);
    CHECK_INT(connect->reset_code, ==, PH_H3_MESSAGE_ERROR);
    CHECK_INT(raw.app.sessions_count, ==, 0);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

static int draft_with(const uint8_t *settings, size_t n)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    if (settings != NULL) {
        raw.settings = settings;
        raw.settings_len = n;
    }
    CHECK(wt_raw_session(&raw) != NULL);
    int draft = ph_wt_session_draft(wt_raw_slog(&raw)->session);
    wt_raw_fini(&raw);
    return draft;
}

TEST(wt_wire, row_11_the_highest_common_draft_is_picked)
{
    CHECK_INT(draft_with(NULL, 0), ==, 2);
    CHECK_INT(draft_with(only_draft07, sizeof only_draft07), ==, 7);
    CHECK_INT(draft_with(only_draft13, sizeof only_draft13), ==, 13);
    CHECK_INT(draft_with(only_draft15, sizeof only_draft15), ==, 15);
    CHECK_INT(draft_with(all_drafts, sizeof all_drafts), ==, 15);
    CHECK_INT(draft_with(only_datagrams, sizeof only_datagrams), ==, 15);
}

/* Status of a CONNECT with these five values; NULL leaves the field out. 0: reset. */
static int connect_status(struct wt_raw *raw, const char *scheme, const char *authority,
                          const char *path, const char *protocol, uint64_t *reset)
{
    struct ph_field list[5];
    size_t n = 0;
    list[n++] = wt_raw_field(":method", "CONNECT");
    if (scheme != NULL)
        list[n++] = wt_raw_field(":scheme", scheme);
    if (authority != NULL)
        list[n++] = wt_raw_field(":authority", authority);
    if (path != NULL)
        list[n++] = wt_raw_field(":path", path);
    if (protocol != NULL)
        list[n++] = wt_raw_field(":protocol", protocol);
    struct quic_log *log = wt_raw_open(raw, true);
    wt_raw_head(raw, log, list, n);
    wt_raw_run(raw);
    *reset = log->reset ? log->reset_code : 0;
    int status = wt_raw_status(raw, log);
    wt_raw_fin(log);
    wt_raw_run(raw);
    return status;
}

TEST(wt_wire, row_12_both_tokens_are_taken_and_no_other)
{
    struct wt_raw raw;
    uint64_t reset;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    CHECK_INT(connect_status(&raw, "https", "a", "/", "webtransport", &reset), ==, 200);
    CHECK_INT(connect_status(&raw, "https", "a", "/", "webtransport-h3", &reset), ==, 200);
    CHECK_INT(connect_status(&raw, "https", "a", "/", "websocket", &reset), >=, 400);
    CHECK_INT(connect_status(&raw, "https", "a", "/", "WebTransport", &reset), >=, 400);
    CHECK_INT(raw.app.sessions_count, ==, 2);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_13_incomplete_requests_are_malformed)
{
    struct wt_raw raw;
    uint64_t reset;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    CHECK_INT(connect_status(&raw, NULL, "a", "/", "webtransport", &reset), !=, 200);
    CHECK_INT(reset, ==, PH_H3_MESSAGE_ERROR);
    CHECK_INT(connect_status(&raw, "https", NULL, "/", "webtransport", &reset), !=, 200);
    CHECK_INT(reset, ==, PH_H3_MESSAGE_ERROR);
    CHECK_INT(connect_status(&raw, "https", "a", NULL, "webtransport", &reset), !=, 200);
    CHECK_INT(reset, ==, PH_H3_MESSAGE_ERROR);
    CHECK_INT(connect_status(&raw, "http", "a", "/", "webtransport", &reset), ==, 400);
    CHECK_INT(raw.app.sessions_count, ==, 0);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_14_draft02_is_echoed_only_when_offered)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    struct ph_field offer = wt_raw_field("sec-webtransport-http3-draft02", "1");
    struct quic_log *with = wt_raw_connect_with(&raw, "/", &offer, 1);
    struct quic_log *without = wt_raw_connect(&raw, "/");
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_status(&raw, with), ==, 200);
    CHECK_STR(wt_raw_response(&raw, with, "sec-webtransport-http3-draft"), "draft02");
    CHECK_INT(wt_raw_status(&raw, without), ==, 200);
    CHECK(wt_raw_response(&raw, without, "sec-webtransport-http3-draft") == NULL);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_15_origin_decides)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    struct ph_field good = wt_raw_field("origin", "http://localhost:8000"),
                    evil = wt_raw_field("origin", "https://evil.example");
    struct quic_log *absent = wt_raw_connect(&raw, "/");
    struct quic_log *allowed = wt_raw_connect_with(&raw, "/", &good, 1);
    struct quic_log *refused = wt_raw_connect_with(&raw, "/", &evil, 1);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_status(&raw, absent), ==, 200);
    CHECK_INT(wt_raw_status(&raw, allowed), ==, 200);
    CHECK_INT(wt_raw_status(&raw, refused), ==, 403);
    CHECK(refused->fin && refused->stopped);
    CHECK_INT(refused->stop_code, ==, PH_H3_NO_ERROR);
    CHECK_INT(raw.app.sessions_count, ==, 2);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_16_a_refusal_carries_status_and_body)
{
    struct wt_raw raw;
    size_t n;
    wt_raw_init(&raw, false);
    raw.app.answer = WT_ANSWER_REJECT;
    raw.app.reject_status = 405;
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_connect(&raw, "/nowhere");
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_status(&raw, connect), ==, 405);
    CHECK_MEM(wt_raw_payload(connect, &n), "no", 2);
    CHECK(connect->fin);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_19_capsules_before_the_answer_are_processed_after_it)
{
    static const uint8_t capsule[] = {0x68, 0x43, 7, 0, 0, 0x12, 0x34, 'b', 'y', 'e'};
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.app.answer = WT_ANSWER_LATER;
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_connect(&raw, "/");
    struct quic_log *stream = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(stream, "first", 5);
    wt_raw_data(connect, capsule, sizeof capsule);
    wt_raw_fin(connect);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 0);
    CHECK_INT(ph_wt_session_accept(wt_raw_slog(&raw)->session, NULL, 0, NULL), ==, 0);
    CHECK_INT(wt_app_stream(&raw.app, 0)->rx_len, ==, 5); /* delivered before the end */
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK(wt_raw_slog(&raw)->end.clean);
    CHECK_INT(wt_raw_slog(&raw)->end.code, ==, 0x1234);
    CHECK_STR(wt_raw_slog(&raw)->reason, "bye");
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_status(&raw, connect), ==, 200);
    CHECK(connect->fin);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_20_capsules_before_a_rejection_are_discarded)
{
    static const uint8_t capsule[] = {0x68, 0x43, 4, 0, 0, 0, 1};
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.app.answer = WT_ANSWER_LATER;
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_connect(&raw, "/");
    wt_raw_data(connect, capsule, sizeof capsule);
    wt_raw_run(&raw);
    raw.app.reject_status = 404;
    struct ph_wt_session *asked = wt_raw_slog(&raw)->session;
    wt_raw_slog(&raw)->session = NULL;
    CHECK(ph_wt_session_reject(asked) != NULL);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_status(&raw, connect), ==, 404);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 0);
    CHECK_INT(ph_live_get(PH_LIVE_WT_SESSION), ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_21_a_grease_capsule_after_connect_is_harmless)
{
    for (int split = 0; split < 2; split++) {
        struct wt_raw raw;
        uint8_t capsule[128], frame[140];
        wt_raw_init(&raw, false);
        uint8_t *p = ph_varint_put(capsule, UINT64_C(41) * 0x1122334455 + 23);
        p = ph_varint_put(p, 40);
        memset(p, 0x5a, 40);
        size_t n = (size_t)(p - capsule) + 40;
        p = ph_h3_frame_put(frame, PH_H3_DATA, n);
        memcpy(p, capsule, n);
        n += (size_t)(p - frame);
        CHECK(wt_raw_start(&raw));
        struct quic_log *connect = wt_raw_connect(&raw, "/");
        for (size_t at = 0; at < n; at += split ? 1 : n) {
            wt_raw_write(connect, frame + at, split ? 1 : n);
            if (split)
                sim_run_for(raw.sim, PH_MSEC);
        }
        wt_raw_run(&raw);
        CHECK_INT(wt_raw_status(&raw, connect), ==, 200);
        wt_raw_check_alive(&raw);
        wt_raw_fini(&raw);
    }
}

/* Opens a session with this offer; returns what the server chose from it ("b" when it can). */
static bool choose(const char *offer, char *out, size_t cap)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.app.subprotocol = "b";
    CHECK(wt_raw_start(&raw));
    struct ph_field field = wt_raw_field("wt-available-protocols", offer);
    struct quic_log *connect = wt_raw_connect_with(&raw, "/", &field, offer != NULL);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_status(&raw, connect), ==, 200);
    const char *chosen = wt_raw_response(&raw, connect, "wt-protocol");
    if (chosen != NULL)
        snprintf(out, cap, "%s", chosen);
    wt_raw_fini(&raw);
    return chosen != NULL;
}

TEST(wt_wire, row_22_subprotocols_are_a_list_of_strings)
{
    char chosen[64];
    CHECK(choose("\"a\";x=1, \"b\"", chosen, sizeof chosen));
    CHECK_STR(chosen, "\"b\"");
}

TEST(wt_wire, row_23_a_bad_offer_is_ignored_and_the_session_opens)
{
    static const char *const offers[] = {"b", "(\"a\" \"b\")", "\"a\", \"b", "", "\"a\", b"};
    char chosen[64];
    for (size_t i = 0; i < PH_COUNT_OF(offers); i++)
        CHECK(!choose(offers[i], chosen, sizeof chosen));
}

TEST(wt_wire, row_24_nothing_is_chosen_that_was_not_offered)
{
    char chosen[64];
    CHECK(!choose("\"a\", \"c\"", chosen, sizeof chosen));
    CHECK(!choose("\"a\"", chosen, sizeof chosen));
}

TEST(wt_wire, row_26_streams_before_their_connect_are_delivered_after_the_answer)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_open(&raw, true);
    struct quic_log *uni = wt_raw_stream(&raw, false, connect->id);
    struct quic_log *bidi = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(uni, "one", 3);
    wt_raw_fin(uni);
    wt_raw_write(bidi, "two", 3);
    wt_raw_run(&raw);
    wt_raw_write(bidi, "more", 4);
    wt_raw_run(&raw);
    CHECK_INT(raw.app.streams_count, ==, 0);
    wt_raw_connect_on(&raw, connect, "/");
    wt_raw_run(&raw);
    CHECK_INT(raw.app.streams_count, ==, 2);
    CHECK_MEM(wt_app_stream(&raw.app, 0)->rx, "one", 3);
    CHECK(wt_app_stream(&raw.app, 0)->fin);
    CHECK_MEM(wt_app_stream(&raw.app, 1)->rx, "twomore", 7);
    wt_raw_fini(&raw);
}

TEST(wt_wire, a_stream_that_is_over_before_its_session_opens_is_told_whole)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.app.echo = true; /* writes to it although nobody is there any more */
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_open(&raw, true);
    struct quic_log *stream = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(stream, "all of it", 9);
    wt_raw_fin(stream);
    ph_quic_stream_stop(stream->stream, UINT64_C(0x52e4a40fa8dc));
    wt_raw_run(&raw);
    CHECK(stream->closed);
    wt_raw_connect_on(&raw, connect, "/");
    wt_raw_run(&raw);
    const struct wt_log *there = wt_app_stream(&raw.app, 0);
    CHECK(there->fin && there->rx_len == 9 && there->stopped && there->closed);
    CHECK(there->has_code && there->code == 1);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_27_one_early_stream_too_many_is_refused)
{
    struct wt_raw raw;
    struct quic_log *last = NULL;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_open(&raw, true);
    for (size_t i = 0; i <= raw.app.wt_config.pending_streams; i++) {
        last = wt_raw_stream(&raw, true, connect->id);
        wt_raw_write(last, "x", 1);
    }
    wt_raw_run(&raw);
    CHECK(last->reset && last->stopped && last->closed);
    CHECK_INT(last->reset_code, ==, PH_WT_BUFFERED_STREAM_REJECTED);
    CHECK_INT(last->stop_code, ==, PH_WT_BUFFERED_STREAM_REJECTED);
    wt_raw_connect_on(&raw, connect, "/");
    wt_raw_run(&raw);
    CHECK_INT(raw.app.streams_count, ==, raw.app.wt_config.pending_streams);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_28_a_flood_of_early_datagrams_is_bounded_and_harmless)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_open(&raw, true);
    for (size_t i = 0; i < 2000; i++)
        wt_raw_datagram(&raw, connect->id, "12345", 5);
    wt_raw_run(&raw);
    wt_raw_connect_on(&raw, connect, "/");
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->datagrams_count, ==, raw.app.wt_config.pending_datagrams);
    CHECK_INT(raw.app.stats.limit_pending_datagrams, >, 1000);
    wt_raw_datagram(&raw, connect->id, "later", 5);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->datagrams_count, ==, raw.app.wt_config.pending_datagrams + 1);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_29_streams_of_a_rejected_session_are_reset)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.app.answer = WT_ANSWER_REJECT;
    raw.app.reject_status = 404;
    CHECK(wt_raw_start(&raw));
    struct quic_log *connect = wt_raw_open(&raw, true);
    struct quic_log *bidi = wt_raw_stream(&raw, true, connect->id);
    struct quic_log *uni = wt_raw_stream(&raw, false, connect->id);
    wt_raw_write(bidi, "x", 1);
    wt_raw_write(uni, "x", 1);
    wt_raw_run(&raw);
    wt_raw_connect_on(&raw, connect, "/");
    wt_raw_run(&raw);
    CHECK(bidi->reset && bidi->stopped && uni->stopped);
    CHECK_INT(bidi->reset_code, ==, PH_WT_BUFFERED_STREAM_REJECTED);
    CHECK_INT(uni->stop_code, ==, PH_WT_BUFFERED_STREAM_REJECTED);
    CHECK_INT(raw.app.streams_count, ==, 0);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_30_a_second_session_without_flow_control_is_rejected_alone)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.settings = only_draft15;
    raw.settings_len = sizeof only_draft15;
    CHECK(wt_raw_session(&raw) != NULL);
    struct quic_log *second = wt_raw_connect(&raw, "/second");
    wt_raw_run(&raw);
    CHECK(second->reset);
    CHECK_INT(second->reset_code, ==, PH_H3_REQUEST_REJECTED);
    CHECK_INT(raw.app.sessions_count, ==, 1);
    wt_raw_check_alive(&raw);
    wt_raw_fini(&raw);
}

/* --- Stream headers --- */

static size_t put_form(uint8_t *out, uint64_t value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(value >> (8 * (len - 1 - i)));
    out[0] |= (uint8_t)(len == 1 ? 0 : len == 2 ? 0x40 : len == 4 ? 0x80 : 0xc0);
    return len;
}

TEST(wt_wire, row_31_headers_in_every_form_split_at_every_byte)
{
    static const size_t signal_forms[] = {2, 4, 8}, id_forms[] = {1, 2, 4, 8};
    struct wt_raw raw;
    size_t count = 0;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    CHECK(connect != NULL);
    for (size_t form = 0; form < 12; form++) {
        for (int bidi = 0; bidi < 2; bidi++) {
            uint8_t head[32];
            size_t n = put_form(head, bidi ? 0x41 : 0x54, signal_forms[form / 4]);
            n += put_form(head + n, connect->id, id_forms[form % 4]);
            memcpy(head + n, "hello", 5);
            for (size_t split = 1; split <= n; split++) {
                struct quic_log *log = wt_raw_open(&raw, bidi);
                wt_raw_write(log, head, split);
                sim_run_for(raw.sim, 25 * PH_MSEC);
                wt_raw_write(log, head + split, n + 5 - split);
                wt_raw_fin(log);
                sim_run_for(raw.sim, 25 * PH_MSEC);
                const struct wt_log *there = wt_app_stream(&raw.app, count++);
                CHECK(there != NULL && there->fin && there->rx_len == 5);
                CHECK_MEM(there->rx, "hello", 5);
                if (bidi)
                    ph_wt_stream_reset(there->stream, 0);
            }
        }
    }
    CHECK_INT(count, ==, raw.app.streams_count);
    wt_raw_check_alive(&raw);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_32_session_ids_of_no_client_request_end_the_connection)
{
    for (uint64_t id = 1; id < 4; id++) {
        for (int bidi = 0; bidi < 2; bidi++) {
            struct wt_raw raw;
            wt_raw_init(&raw, false);
            CHECK(wt_raw_start(&raw));
            wt_raw_stream(&raw, bidi, id);
            wt_raw_run(&raw);
            check_connection_error(&raw, PH_H3_ID_ERROR);
            wt_raw_fini(&raw);
        }
    }
}

/* The server lets a client open `limit` bidirectional streams: ids 0, 4, ... 4 * (limit - 1). */
TEST(wt_wire, row_32_session_ids_beyond_the_stream_limit_end_the_connection)
{
    for (unsigned over = 0; over < 2; over++) {
        for (int kind = 0; kind < 3; kind++) {
            struct wt_raw raw;
            wt_raw_init(&raw, false);
            CHECK(wt_raw_start(&raw));
            uint64_t id = 4 * (raw.server_config.max_streams_bidi - 1 + over);
            if (kind < 2)
                wt_raw_stream(&raw, kind, id);
            else
                wt_raw_datagram(&raw, id, "x", 1);
            wt_raw_run(&raw);
            if (over)
                check_connection_error(&raw, PH_H3_ID_ERROR);
            else
                CHECK_INT(raw.raw.closed, ==, 0);
            wt_raw_fini(&raw);
        }
    }
}

/* Each stream that is over lets the client open one more. */
TEST(wt_wire, row_32_the_limit_of_session_ids_moves_with_the_streams)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.server_config.max_streams_bidi = 4;
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_fin(connect);
    wt_raw_run(&raw);
    wt_raw_datagram(&raw, UINT64_C(4) * 4, "x", 1);
    wt_raw_run(&raw);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_datagram(&raw, UINT64_C(4) * 5, "x", 1);
    wt_raw_run(&raw);
    check_connection_error(&raw, PH_H3_ID_ERROR);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_33_the_signal_anywhere_else_ends_the_connection)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_write(connect, "\x40\x41\x00", 3);
    wt_raw_run(&raw);
    check_connection_error(&raw, PH_H3_FRAME_ERROR);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK(!wt_raw_slog(&raw)->end.clean);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_35_a_stream_for_a_closed_session_is_refused_alone)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_fin(connect);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    struct quic_log *late = wt_raw_stream(&raw, true, connect->id);
    struct quic_log *uni = wt_raw_stream(&raw, false, connect->id);
    wt_raw_write(late, "x", 1);
    wt_raw_write(uni, "x", 1);
    wt_raw_run(&raw);
    CHECK(late->reset && late->stopped && uni->stopped);
    CHECK_INT(late->reset_code, ==, PH_WT_SESSION_GONE);
    CHECK_INT(late->stop_code, ==, PH_WT_SESSION_GONE);
    CHECK_INT(uni->stop_code, ==, PH_WT_SESSION_GONE);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_36_a_fin_inside_the_header_is_nothing)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_session(&raw) != NULL);
    for (int bidi = 0; bidi < 2; bidi++) {
        static const uint8_t heads[2][5] = {{0x40, 0x54, 0x80, 0, 0}, {0x40, 0x41, 0x80, 0, 0}};
        for (size_t n = 0; n <= 5; n++) {
            struct quic_log *log = wt_raw_open(&raw, bidi);
            wt_raw_write(log, heads[bidi], n);
            sim_run_for(raw.sim, n % 2 == 0 ? 0 : 30 * PH_MSEC);
            wt_raw_fin(log);
            wt_raw_run(&raw);
            CHECK(log->closed);
        }
    }
    CHECK_INT(raw.app.streams_count, ==, 0);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    wt_raw_check_alive(&raw);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_37_a_header_with_fin_is_an_empty_stream)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_fin(wt_raw_stream(&raw, true, connect->id));
    wt_raw_fin(wt_raw_stream(&raw, false, connect->id));
    wt_raw_run(&raw);
    CHECK_INT(raw.app.streams_count, ==, 2);
    for (size_t i = 0; i < 2; i++)
        CHECK(wt_app_stream(&raw.app, i)->fin && wt_app_stream(&raw.app, i)->rx_len == 0);
    CHECK(wt_app_stream(&raw.app, 1)->closed || wt_app_stream(&raw.app, 0)->closed);
    wt_raw_fini(&raw);
}

TEST(wt_wire, a_header_alone_announces_a_stream)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_stream(&raw, true, connect->id);
    wt_raw_run(&raw);
    CHECK_INT(raw.app.streams_count, ==, 1);
    CHECK(!wt_app_stream(&raw.app, 0)->fin);
    wt_raw_fini(&raw);
}

TEST(wt_wire, a_stream_for_an_ordinary_request_is_refused)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    raw.app.answer = WT_ANSWER_LATER;
    CHECK(wt_raw_start(&raw));
    struct quic_log *get = wt_raw_open(&raw, true);
    struct ph_field list[] = {wt_raw_field(":method", "POST"), wt_raw_field(":scheme", "https"),
                              wt_raw_field(":authority", "localhost"), wt_raw_field(":path", "/")};
    wt_raw_head(&raw, get, list, 4);
    wt_raw_run(&raw);
    struct quic_log *stream = wt_raw_stream(&raw, true, get->id);
    wt_raw_write(stream, "x", 1);
    wt_raw_run(&raw);
    CHECK(stream->reset);
    CHECK_INT(stream->reset_code, ==, PH_WT_BUFFERED_STREAM_REJECTED);
    CHECK_INT(raw.raw.closed, ==, 0);
    wt_raw_fini(&raw);
}

/* --- Flow control that was not negotiated, datagrams --- */

TEST(wt_wire, row_38_flow_control_capsules_are_ignored)
{
    static const uint8_t capsules[] = {
        0x99, 0x0b, 0x4d, 0x3d, 4, 0x80, 1,    0,    0, /* MAX_DATA */
        0x99, 0x0b, 0x4d, 0x3f, 2, 0x40, 0x64,          /* MAX_STREAMS bidi */
        0x99, 0x0b, 0x4d, 0x3f, 1, 0,                   /* lower: would be an error */
        0x99, 0x0b, 0x4d, 0x40, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* > 2^60 */
        0x99, 0x0b, 0x4d, 0x3e, 1, 0,                               /* MAX_STREAM_DATA */
        0x99, 0x0b, 0x4d, 0x41, 1, 0,    0x99, 0x0b, 0x4d, 0x43, 0, /* BLOCKED, empty */
    };
    struct wt_raw raw;
    size_t n;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_data(connect, capsules, sizeof capsules);
    wt_raw_run(&raw);
    wt_raw_check_alive(&raw);
    for (size_t i = 0; i < 50; i++)
        CHECK(wt_open_stream(wt_raw_slog(&raw), false) != NULL);
    wt_raw_run(&raw);
    wt_raw_payload(connect, &n);
    CHECK_INT(n, ==, 0); /* and none was sent */
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_47_the_quarter_stream_id_names_the_session)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *first = wt_raw_session(&raw);
    wt_raw_stream(&raw, true, first->id); /* takes id 4 */
    struct quic_log *second = wt_raw_connect(&raw, "/second");
    CHECK_INT(second->id, ==, 8);
    wt_raw_run(&raw);
    wt_raw_datagram(&raw, 0, "for zero", 8);
    wt_raw_datagram(&raw, 8, "for eight", 9);
    wt_raw_datagram(&raw, 8, NULL, 0);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->datagrams_count, ==, 1);
    CHECK_MEM(wt_raw_slog(&raw)->datagrams[0].data, "for zero", 8);
    struct wt_slog *other = wt_app_session(&raw.app, 1);
    CHECK_INT(other->datagrams_count, ==, 2);
    CHECK_MEM(other->datagrams[0].data, "for eight", 9);
    CHECK_INT(other->datagrams[1].n, ==, 0);
    size_t before = raw.raw.datagram_bytes;
    CHECK_INT(wt_send_datagram(other, "\0\0\0\7", 4), ==, 0);
    wt_raw_run(&raw);
    CHECK_INT(raw.raw.datagrams_count, ==, 1);
    CHECK_INT(raw.raw.datagrams[0], ==, 7);
    CHECK_INT(raw.raw.datagram_bytes - before, ==, 5); /* one byte of quarter id */
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_48_datagrams_of_no_session_are_not_fatal)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_datagram(&raw, 400, "unknown", 7);
    wt_raw_run(&raw);
    wt_raw_fin(connect);
    wt_raw_run(&raw);
    wt_raw_datagram(&raw, connect->id, "closed", 6);
    wt_raw_run(&raw);
    CHECK_INT(raw.raw.closed, ==, 0);
    CHECK_INT(wt_raw_slog(&raw)->datagrams_count, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_wire, a_datagram_capsule_is_delivered_like_a_datagram)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_data(connect, "\x00\x05hello", 7);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->datagrams_count, ==, 1);
    CHECK_MEM(wt_raw_slog(&raw)->datagrams[0].data, "hello", 5);
    wt_raw_fini(&raw);
}

/* --- Reset and stop --- */

TEST(wt_wire, row_50_mapped_codes_in_both_directions)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    struct quic_log *log = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(log, "x", 1);
    wt_raw_run(&raw);
    struct wt_log *there = wt_app_stream(&raw.app, 0);
    ph_quic_stream_reset(log->stream, UINT64_C(0x52e4a40fa8fa));
    wt_raw_run(&raw);
    CHECK(there->reset && there->has_code && there->code == 0x1e);
    CHECK(!there->closed && !log->reset); /* the other side is unaffected */
    wt_write(there, "back", 4, false);
    wt_raw_run(&raw);
    CHECK_INT(log->rx_len, ==, 4);
    ph_quic_stream_stop(log->stream, UINT64_C(0x52e5ac983162));
    wt_raw_run(&raw);
    CHECK(there->stopped && there->has_code && there->code == 0xffffffff && there->closed);
    struct quic_log *second = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(second, "x", 1);
    wt_raw_run(&raw);
    struct wt_log *ours = wt_app_stream(&raw.app, 1);
    ph_wt_stream_reset(ours->stream, 255);
    ph_wt_stream_stop(ours->stream, 1);
    wt_raw_run(&raw);
    CHECK_INT(second->reset_code, ==, UINT64_C(0x52e4a40fa9e2));
    CHECK_INT(second->stop_code, ==, UINT64_C(0x52e4a40fa8dc));
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_49_codes_outside_the_range_have_no_application_code)
{
    static const uint64_t codes[] = {0x10c, 0x10f, UINT64_C(0x52e4a40fa8f9), PH_WT_SESSION_GONE};
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    for (size_t i = 0; i < PH_COUNT_OF(codes); i++) {
        struct quic_log *log = wt_raw_stream(&raw, false, connect->id);
        wt_raw_write(log, "x", 1);
        wt_raw_run(&raw);
        ph_quic_stream_reset(log->stream, codes[i]);
        wt_raw_run(&raw);
        CHECK(wt_app_stream(&raw.app, i)->reset && !wt_app_stream(&raw.app, i)->has_code);
    }
    wt_raw_check_alive(&raw);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_51_a_reset_stream_still_shows_its_header)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_session(&raw) != NULL);
    struct wt_log *mine = wt_open_stream(wt_raw_slog(&raw), false);
    wt_write_pattern(mine, 5000, 1, false);
    ph_wt_stream_reset(mine->stream, 1);
    wt_raw_run(&raw);
    struct quic_log *log = quic_app_log(&raw.raw, mine->id);
    CHECK(log != NULL && log->reset);
    CHECK_INT(log->reset_code, ==, UINT64_C(0x52e4a40fa8dc));
    CHECK_INT(log->rx_len, ==, 3);
    CHECK_MEM(log->rx, "\x40\x54\x00", 3);
    CHECK(mine->closed);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_52_a_reset_before_or_inside_the_header_is_nothing)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_session(&raw) != NULL);
    for (int bidi = 0; bidi < 2; bidi++) {
        static const uint8_t heads[2][5] = {{0x40, 0x54, 0x80, 0, 0}, {0x40, 0x41, 0x80, 0, 0}};
        for (size_t n = 0; n <= 5; n++) {
            struct quic_log *log = wt_raw_open(&raw, bidi);
            wt_raw_write(log, heads[bidi], n);
            sim_run_for(raw.sim, n % 2 == 0 ? 0 : 30 * PH_MSEC);
            ph_quic_stream_reset(log->stream, 0x10c);
            wt_raw_run(&raw);
            CHECK(log->closed);
        }
    }
    CHECK_INT(raw.app.streams_count, ==, 0);
    CHECK_INT(ph_live_get(PH_LIVE_WT_STREAM), ==, 0);
    wt_raw_check_alive(&raw);
    wt_raw_fini(&raw);
}
