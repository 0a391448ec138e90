/*
 * test_sim_wt_wire_close.c - a raw client against the server: rows of the conformance list about
 * capsules, close, drain and abrupt ends.
 */
#include "../unit/test.h"
#include "wt_raw.h"

/* --- Close --- */

TEST(wt_wire, row_53_close_is_a_capsule_then_fin_then_nothing)
{
    static const uint8_t want[] = {0x68, 0x43, 7, 0, 0, 0x12, 0x34, 'b', 'y', 'e'};
    struct wt_raw raw;
    size_t n;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    struct quic_log *stream = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(stream, "x", 1);
    wt_raw_run(&raw);
    ph_wt_session_close(wt_raw_slog(&raw)->session, 0x1234, "bye", 3);
    wt_raw_run(&raw);
    const uint8_t *payload = wt_raw_payload(connect, &n);
    CHECK_INT(n, ==, sizeof want);
    CHECK_MEM(payload, want, n);
    CHECK(connect->fin && !connect->reset && !connect->stopped);
    CHECK_INT(stream->reset_code, ==, PH_WT_SESSION_GONE);
    CHECK_INT(stream->stop_code, ==, PH_WT_SESSION_GONE);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 0); /* waits for our end */
    wt_raw_fin(connect);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK(connect->closed);
    wt_raw_fini(&raw);
}

/* Sends bytes as capsule data to a fresh session; true when it was reset with `code`. */
static bool is_answered_with_reset(const uint8_t *data, size_t n, bool fin, uint64_t code,
                                   bool *clean)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_data(connect, data, n);
    if (fin)
        wt_raw_fin(connect);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK_INT(raw.raw.closed, ==, 0);
    *clean = wt_raw_slog(&raw)->end.clean;
    bool reset = connect->reset && connect->reset_code == code;
    wt_raw_fini(&raw);
    return reset;
}

static size_t close_capsule(uint8_t *out, size_t reason_len, uint8_t fill)
{
    uint8_t *p = ph_varint_put(out, PH_CAPSULE_WT_CLOSE_SESSION);
    p = ph_varint_put(p, 4 + reason_len);
    p = ph_u32_put(p, 3);
    memset(p, fill, reason_len);
    return (size_t)(p - out) + reason_len;
}

TEST(wt_wire, row_54_the_reason_has_its_bounds)
{
    uint8_t capsule[2048];
    bool clean;
    CHECK(!is_answered_with_reset(capsule, close_capsule(capsule, 1024, 'x'), true, 0, &clean));
    CHECK(clean);
    CHECK(is_answered_with_reset(capsule, close_capsule(capsule, 1025, 'x'), true,
                                 PH_H3_MESSAGE_ERROR, &clean));
    CHECK(!clean);
    CHECK(is_answered_with_reset(capsule, close_capsule(capsule, 3, 0xff), true,
                                 PH_H3_MESSAGE_ERROR, &clean));
    CHECK(!clean);
    CHECK(is_answered_with_reset((const uint8_t *)"\x68\x43\x03\0\0\0", 6, true,
                                 PH_H3_MESSAGE_ERROR, &clean));
    CHECK(!clean);
}

TEST(wt_wire, row_55_our_reason_is_cut_between_characters)
{
    struct wt_raw raw;
    char reason[1200];
    size_t n;
    for (size_t i = 0; i < sizeof reason; i += 3)
        memcpy(reason + i, "\xe2\x82\xac", 3);
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    ph_wt_session_close(wt_raw_slog(&raw)->session, 1, reason, sizeof reason);
    wt_raw_run(&raw);
    const uint8_t *payload = wt_raw_payload(connect, &n);
    CHECK_INT(n, ==, 8 + 1023);
    CHECK_MEM(payload + 8, reason, 1023);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_56_a_byte_after_the_close_capsule_is_an_error)
{
    static const uint8_t more[] = {0x68, 0x43, 4, 0, 0, 0, 9, 0};
    struct wt_raw raw;
    bool clean;
    CHECK(is_answered_with_reset(more, sizeof more, false, PH_H3_MESSAGE_ERROR, &clean));
    CHECK(clean); /* the close itself was in order */
    CHECK(!is_answered_with_reset(more, sizeof more - 1, true, 0, &clean));
    wt_raw_init(&raw, false); /* and in a frame of its own */
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_data(connect, more, sizeof more - 1);
    wt_raw_run(&raw);
    CHECK(connect->fin && !connect->reset);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    wt_raw_data(connect, "\0", 1);
    wt_raw_run(&raw);
    CHECK(connect->stopped);
    CHECK_INT(connect->stop_code, ==, PH_H3_MESSAGE_ERROR);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_57_fin_without_a_capsule_is_close_zero)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_fin(connect);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK(wt_raw_slog(&raw)->end.clean && !wt_raw_slog(&raw)->end.local);
    CHECK_INT(wt_raw_slog(&raw)->end.code, ==, 0);
    CHECK_STR(wt_raw_slog(&raw)->reason, "");
    CHECK(connect->fin && connect->closed);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_58_fin_inside_a_capsule_is_an_error)
{
    static const uint8_t capsule[] = {0x68, 0x43, 7, 0, 0, 0, 9, 'b', 'y'};
    bool clean;
    for (size_t n = 1; n <= sizeof capsule; n++) {
        CHECK(is_answered_with_reset(capsule, n, true, PH_H3_MESSAGE_ERROR, &clean));
        CHECK(!clean);
    }
}

TEST(wt_wire, row_59_reset_or_stop_of_connect_is_an_abrupt_end)
{
    for (int what = 0; what < 3; what++) {
        struct wt_raw raw;
        wt_raw_init(&raw, false);
        struct quic_log *connect = wt_raw_session(&raw);
        struct quic_log *stream = wt_raw_stream(&raw, true, connect->id);
        wt_raw_write(stream, "x", 1);
        wt_raw_run(&raw);
        if (what != 1)
            ph_quic_stream_reset(connect->stream, PH_H3_REQUEST_CANCELLED);
        if (what != 0)
            ph_quic_stream_stop(connect->stream, PH_H3_REQUEST_CANCELLED);
        wt_raw_run(&raw);
        CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
        CHECK(!wt_raw_slog(&raw)->end.clean && !wt_raw_slog(&raw)->end.local);
        CHECK_INT(stream->reset_code, ==, PH_WT_SESSION_GONE);
        CHECK_INT(stream->stop_code, ==, PH_WT_SESSION_GONE);
        CHECK_INT(raw.raw.closed, ==, 0);
        wt_raw_fini(&raw);
    }
}

TEST(wt_wire, stop_with_session_gone_waits_for_its_close_capsule)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    ph_quic_stream_stop(connect->stream, PH_WT_SESSION_GONE);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 0);
    wt_raw_data(connect, "\x68\x43\x04\0\0\0\x07", 7);
    wt_raw_fin(connect);
    wt_raw_run(&raw);
    CHECK(wt_raw_slog(&raw)->closed == 1 && wt_raw_slog(&raw)->end.clean &&
          wt_raw_slog(&raw)->end.code == 7);
    wt_raw_fini(&raw);
    wt_raw_init(&raw, false); /* but not for ever */
    connect = wt_raw_session(&raw);
    ph_quic_stream_stop(connect->stream, PH_WT_SESSION_GONE);
    for (int i = 0; i < 4; i++)
        wt_raw_run(&raw);
    CHECK(wt_raw_slog(&raw)->closed == 1 && !wt_raw_slog(&raw)->end.clean);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_60_simultaneous_close_is_told_once)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_data(connect, "\x68\x43\x04\0\0\0\x07", 7);
    wt_raw_fin(connect);
    ph_wt_session_close(wt_raw_slog(&raw)->session, 1, "mine", 4);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->closed, ==, 1);
    CHECK(wt_raw_slog(&raw)->end.clean && wt_raw_slog(&raw)->end.local);
    CHECK_INT(wt_raw_slog(&raw)->end.code, ==, 1);
    CHECK(connect->closed);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_61_no_streams_or_datagrams_after_a_close)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    CHECK(wt_raw_session(&raw) != NULL);
    struct ph_wt_session *mine = wt_raw_slog(&raw)->session;
    ph_wt_session_close(mine, 1, "", 0);
    CHECK(ph_wt_session_open(mine, true, NULL) == NULL);
    CHECK(ph_wt_session_open(mine, false, NULL) == NULL);
    CHECK_INT(wt_send_datagram(wt_raw_slog(&raw), "x", 1), ==, PH_E_CLOSED);
    CHECK_INT(ph_wt_session_drain(mine), ==, PH_E_CLOSED);
    CHECK_INT(ph_wt_session_max_datagram(mine), >=, 0);
    wt_raw_run(&raw);
    CHECK_INT(raw.raw.datagrams_count, ==, 0);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_62_unknown_capsules_are_skipped_without_growth)
{
    static const uint8_t zeros[16384];
    struct wt_raw raw;
    uint8_t head[16];
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_data(connect, "\x17\x00\xc0\0\0\0\0\0\0\x17\x00", 11);
    uint8_t *p = ph_varint_put(ph_varint_put(head, UINT64_C(1) << 40), 1024 * 1024);
    wt_raw_data(connect, head, (size_t)(p - head));
    for (size_t i = 0; i < 64; i++)
        wt_raw_data(connect, zeros, sizeof zeros);
    for (int i = 0; i < 3; i++)
        wt_raw_run(&raw);
    wt_raw_check_alive(&raw);
    wt_raw_data(connect, "\x68\x43\x04\0\0\0\x07", 7);
    wt_raw_fin(connect);
    wt_raw_run(&raw);
    CHECK(wt_raw_slog(&raw)->end.clean && wt_raw_slog(&raw)->end.code == 7);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_63_capsules_over_many_frames_with_unknown_frames_between)
{
    static const uint8_t capsule[] = {0x68, 0x43, 7, 0, 0, 0x12, 0x34, 'b', 'y', 'e'};
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    for (size_t i = 0; i < sizeof capsule; i++) {
        wt_raw_data(connect, capsule + i, 1);
        wt_raw_write(connect,
                     "\x21\x02"
                     "gr",
                     4); /* GREASE frame */
        wt_raw_data(connect, "", 0);
        if (i % 3 == 0)
            sim_run_for(raw.sim, 5 * PH_MSEC);
    }
    wt_raw_run(&raw);
    CHECK(wt_raw_slog(&raw)->end.clean && wt_raw_slog(&raw)->end.code == 0x1234);
    CHECK_STR(wt_raw_slog(&raw)->reason, "bye");
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_64_drain_both_ways_and_streams_go_on)
{
    struct wt_raw raw;
    size_t n;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_data(connect, "\x80\x00\x78\xae\x00", 5);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->drains_peer, ==, 1);
    ph_wt_session_drain(wt_raw_slog(&raw)->session);
    wt_raw_run(&raw);
    const uint8_t *payload = wt_raw_payload(connect, &n);
    CHECK_INT(n, ==, 5);
    CHECK_MEM(payload, "\x80\x00\x78\xae\x00", 5);
    struct quic_log *stream = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(stream, "x", 1);
    CHECK(wt_open_stream(wt_raw_slog(&raw), true) != NULL);
    wt_raw_run(&raw);
    CHECK_INT(raw.app.streams_count, ==, 2);
    wt_raw_check_alive(&raw);
    wt_raw_fini(&raw);
}

TEST(wt_wire, row_65_goaway_from_the_client_drains_the_session)
{
    struct wt_raw raw;
    wt_raw_init(&raw, false);
    struct quic_log *connect = wt_raw_session(&raw);
    wt_raw_write(raw.control, "\x07\x01\x00", 3);
    wt_raw_run(&raw);
    CHECK_INT(wt_raw_slog(&raw)->drains_peer, ==, 1);
    struct quic_log *stream = wt_raw_stream(&raw, true, connect->id);
    wt_raw_write(stream, "x", 1);
    wt_raw_run(&raw);
    CHECK_INT(raw.app.streams_count, ==, 1);
    wt_raw_check_alive(&raw);
    wt_raw_fini(&raw);
}
