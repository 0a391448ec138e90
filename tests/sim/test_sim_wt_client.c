/*
 * test_sim_wt_client.c - the client role against a raw server: which servers it takes, what it
 * makes of their answers and of streams that break the rules. Numbers are rows of the project's
 * conformance list (docs).
 */
#include "../unit/test.h"
#include "wt_raw.h"

#include <stdlib.h>

/* Is a server with these SETTINGS good enough? */
static bool is_taken(const uint8_t *settings, size_t n, bool datagrams)
{
    struct wt_raw raw;
    wt_raw_init(&raw, true);
    raw.settings = settings;
    raw.settings_len = n;
    if (!datagrams)
        raw.server_config.max_datagram_frame = 0;
    CHECK(wt_raw_start(&raw));
    bool taken =
        raw.app.settings > 0 && wt_app_connect(&raw.app, raw.quic, "/", NULL, 0, NULL, 0) != NULL;
    wt_raw_fini(&raw);
    return taken;
}

TEST(wt_client, row_07_servers_that_lack_something_are_refused)
{
    static const uint8_t draft02[] = {0x33, 1, 0xab, 0x60, 0x37, 0x42, 1};
    static const uint8_t draft15[] = {0x08, 1, 0x33, 1, 0xac, 0x7c, 0xf0, 0x00, 1};
    static const uint8_t no_connect[] = {0x33, 1, 0xac, 0x7c, 0xf0, 0x00, 1};
    static const uint8_t no_datagram[] = {0x08, 1, 0xac, 0x7c, 0xf0, 0x00, 1};
    static const uint8_t no_webtransport[] = {0x08, 1, 0x33, 1};
    CHECK(is_taken(draft02, sizeof draft02, true)); /* 0x08 is implied there */
    CHECK(is_taken(draft15, sizeof draft15, true));
    CHECK(!is_taken(draft15, sizeof draft15, false));
    CHECK(!is_taken(no_connect, sizeof no_connect, true));
    CHECK(!is_taken(no_datagram, sizeof no_datagram, true));
    CHECK(!is_taken(no_webtransport, sizeof no_webtransport, true));
}

TEST(wt_client, row_08_values_out_of_range_end_the_connection)
{
    static const uint8_t draft15_2[] = {0x08, 1, 0x33, 1, 0xac, 0x7c, 0xf0, 0x00, 2};
    static const uint8_t draft02_2[] = {0x08, 1, 0x33, 1, 0xab, 0x60, 0x37, 0x42, 2};
    const uint8_t *const settings[] = {draft15_2, draft02_2};
    for (size_t i = 0; i < 2; i++) {
        struct wt_raw raw;
        wt_raw_init(&raw, true);
        raw.settings = settings[i];
        raw.settings_len = sizeof draft15_2;
        CHECK(wt_raw_start(&raw));
        CHECK_INT(raw.raw.closed, ==, 1);
        CHECK_INT(raw.raw.end.code, ==, PH_H3_SETTINGS_ERROR);
        wt_raw_fini(&raw);
    }
}

/* Starts, asks with an offer, and answers the CONNECT with these fields. */
static struct quic_log *asked(struct wt_raw *raw, const char *const *offered, size_t n)
{
    wt_raw_init(raw, true);
    CHECK(wt_raw_start(raw));
    CHECK(wt_app_connect(&raw->app, raw->quic, "/", NULL, 0, offered, n) != NULL);
    wt_raw_run(raw);
    struct quic_log *connect = quic_app_log(&raw->raw, 0);
    CHECK(connect != NULL && connect->rx_len > 0);
    return connect;
}

static void answer(struct wt_raw *raw, struct quic_log *connect, const char *status,
                   const char *protocol, const char *location)
{
    struct ph_field fields[3] = {wt_raw_field(":status", status)};
    size_t n = 1;
    if (protocol != NULL)
        fields[n++] = wt_raw_field("wt-protocol", protocol);
    if (location != NULL)
        fields[n++] = wt_raw_field("location", location);
    wt_raw_head(raw, connect, fields, n);
    wt_raw_run(raw);
}

static struct quic_log *accepted(struct wt_raw *raw)
{
    struct quic_log *connect = asked(raw, NULL, 0);
    answer(raw, connect, "200", NULL, NULL);
    CHECK_INT(wt_raw_slog(raw)->ready, ==, 1);
    return connect;
}

TEST(wt_client, row_17_refusals_and_redirects_are_failures)
{
    static const char *const statuses[] = {"301", "403", "404", "429", "500"};
    for (size_t i = 0; i < PH_COUNT_OF(statuses); i++) {
        struct wt_raw raw;
        struct quic_log *connect = asked(&raw, NULL, 0);
        size_t streams = raw.raw.logs_count;
        answer(&raw, connect, statuses[i], NULL, i == 0 ? "https://localhost/other" : NULL);
        CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
        CHECK_INT(wt_raw_slog(&raw)->ready, ==, 0);
        CHECK_INT(wt_raw_slog(&raw)->end.status, ==, atoi(statuses[i]));
        CHECK_INT(raw.raw.logs_count, ==, streams); /* no new request */
        CHECK_INT(raw.raw.closed, ==, 0);
        wt_raw_fini(&raw);
    }
}

TEST(wt_client, row_18_any_2xx_opens_and_1xx_does_not)
{
    struct wt_raw raw;
    struct quic_log *connect = asked(&raw, NULL, 0);
    answer(&raw, connect, "103", NULL, NULL);
    CHECK_INT(wt_raw_slog(&raw)->ready, ==, 0);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 0);
    answer(&raw, connect, "204", NULL, NULL);
    CHECK_INT(wt_raw_slog(&raw)->ready, ==, 1);
    wt_raw_fini(&raw);
}

TEST(wt_client, a_chosen_subprotocol_is_told)
{
    static const char *const offered[] = {"a", "b"};
    struct wt_raw raw;
    struct quic_log *connect = asked(&raw, offered, 2);
    answer(&raw, connect, "200", "\"b\";x=1", NULL);
    CHECK_INT(wt_raw_slog(&raw)->ready, ==, 1);
    CHECK_STR(wt_raw_slog(&raw)->subprotocol, "b");
    wt_raw_fini(&raw);
}

TEST(wt_client, row_25_a_choice_that_was_not_offered_closes_the_session)
{
    static const char *const offered[] = {"a", "b"};
    for (size_t n = 0; n <= 2; n += 2) {
        struct wt_raw raw;
        size_t len;
        struct quic_log *connect = asked(&raw, offered, n);
        answer(&raw, connect, "200", "\"zzz\"", NULL);
        CHECK_INT(wt_raw_slog(&raw)->ready, ==, 0);
        const uint8_t *payload = wt_raw_payload(connect, &len);
        CHECK_INT(len, ==, 7);
        CHECK_MEM(payload, "\x68\x43\x04\x08\x17\xb3\xdd", 7);
        CHECK(connect->fin);
        wt_raw_fin(connect);
        wt_raw_run(&raw);
        CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
        CHECK_INT(wt_raw_slog(&raw)->end.code, ==, PH_WT_ALPN_ERROR);
        wt_raw_fini(&raw);
    }
}

TEST(wt_client, a_malformed_choice_is_as_none)
{
    static const char *const offered[] = {"a"};
    static const char *const choices[] = {"a", "(\"a\")", "\"a\", \"a\"", "\"a"};
    for (size_t i = 0; i < PH_COUNT_OF(choices); i++) {
        struct wt_raw raw;
        struct quic_log *connect = asked(&raw, offered, 1);
        answer(&raw, connect, "200", choices[i], NULL);
        CHECK_INT(wt_raw_slog(&raw)->ready, ==, 1);
        CHECK_STR(wt_raw_slog(&raw)->subprotocol, "");
        wt_raw_fini(&raw);
    }
}

TEST(wt_client, streams_before_the_answer_wait_for_it)
{
    struct wt_raw raw;
    struct quic_log *connect = asked(&raw, NULL, 0);
    struct quic_log *uni = wt_raw_stream(&raw, false, 0), *bidi = wt_raw_stream(&raw, true, 0);
    wt_raw_write(uni, "one", 3);
    wt_raw_fin(uni);
    wt_raw_write(bidi, "two", 3);
    wt_raw_datagram(&raw, 0, "three", 5);
    wt_raw_run(&raw);
    CHECK_INT(raw.app.streams_count, ==, 0);
    answer(&raw, connect, "200", NULL, NULL);
    CHECK_INT(raw.app.streams_count, ==, 2);
    CHECK_MEM(wt_app_stream(&raw.app, 0)->rx, "one", 3);
    CHECK_MEM(wt_app_stream(&raw.app, 1)->rx, "two", 3);
    CHECK_INT(wt_raw_slog(&raw)->datagrams_count, ==, 1);
    wt_raw_fini(&raw);
}

TEST(wt_client, row_32_session_ids_of_no_client_request_end_the_connection)
{
    for (uint64_t id = 1; id < 4; id++) {
        struct wt_raw raw;
        accepted(&raw);
        wt_raw_stream(&raw, id == 2, id);
        wt_raw_run(&raw);
        CHECK_INT(raw.raw.closed, ==, 1);
        CHECK_INT(raw.raw.end.code, ==, PH_H3_ID_ERROR);
        CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
        CHECK(!wt_raw_slog(&raw)->end.clean);
        wt_raw_fini(&raw);
    }
}

TEST(wt_client, row_34_a_server_stream_without_the_signal_ends_the_connection)
{
    struct wt_raw raw;
    accepted(&raw);
    wt_raw_write(wt_raw_open(&raw, true), "\x01\x00", 2);
    wt_raw_run(&raw);
    CHECK_INT(raw.raw.closed, ==, 1);
    CHECK_INT(raw.raw.end.code, ==, PH_H3_STREAM_CREATION_ERROR);
    wt_raw_fini(&raw);
}

TEST(wt_client, row_54_a_bad_close_is_an_unclean_end)
{
    struct wt_raw raw;
    struct quic_log *connect = accepted(&raw);
    wt_raw_data(connect, "\x68\x43\x05\0\0\0\x01\xff", 8);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK(!wt_raw_slog(&raw)->end.clean);
    CHECK_INT(connect->reset_code, ==, PH_H3_MESSAGE_ERROR);
    wt_raw_fini(&raw);
}

TEST(wt_client, row_59_a_reset_before_the_answer_is_an_unclean_end)
{
    struct wt_raw raw;
    struct quic_log *connect = asked(&raw, NULL, 0);
    ph_quic_stream_reset(connect->stream, PH_H3_REQUEST_REJECTED);
    ph_quic_stream_stop(connect->stream, PH_H3_REQUEST_REJECTED);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK(!wt_raw_slog(&raw)->end.clean);
    CHECK_INT(wt_raw_slog(&raw)->end.status, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_client, row_65_goaway_drains_and_refuses_new_sessions)
{
    struct wt_raw raw;
    accepted(&raw);
    wt_raw_write(raw.control, "\x07\x01\x04", 3);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->drains_peer, ==, 1);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 0);
    CHECK(wt_app_connect(&raw.app, raw.quic, "/", NULL, 0, NULL, 0) == NULL);
    CHECK(wt_open_stream(wt_raw_slog(&raw), true) != NULL);
    wt_raw_fini(&raw);
}
