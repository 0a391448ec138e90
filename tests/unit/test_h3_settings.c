/*
 * test_h3_settings.c - the SETTINGS payload: exact bytes of what is sent, captures of real clients,
 * and every refusal.
 */
#include "test.h"

#include "../../src/h3/h3.h"
#include "../../src/http/http.h"

#define BYTES(s) ((const uint8_t *)(s)), (sizeof(s) - 1)

static uint64_t code_of(const uint8_t *p, size_t n)
{
    struct ph_h3_settings settings;
    uint64_t code = 0;
    int rv = ph_h3_settings_parse(&settings, p, n, &code);
    CHECK(rv == 0 || rv == PH_E_PROTO);
    CHECK((rv == 0) == (code == 0));
    return code;
}

static struct ph_h3_settings parse(const uint8_t *p, size_t n)
{
    struct ph_h3_settings settings;
    uint64_t code = 0;
    CHECK_INT(ph_h3_settings_parse(&settings, p, n, &code), ==, 0);
    return settings;
}

TEST(h3_settings, server_bytes_are_the_union_for_all_clients)
{
    static const char want[] = "\x01\x00\x07\x00\x08\x01\x33\x01"
                               "\xab\x60\x37\x42\x01"
                               "\xc0\x00\x00\x00\xc6\x71\x70\x6a\x01" /* an 8-byte varint */
                               "\x94\xe9\xcd\x29\x01"
                               "\xac\x7c\xf0\x00\x01";
    uint8_t out[128];
    CHECK_INT(ph_h3_settings_write(out, false, true, false), ==, sizeof(want) - 1);
    CHECK_MEM(out, want, sizeof(want) - 1);
}

TEST(h3_settings, client_bytes)
{
    static const char want[] = "\x33\x01\xab\x60\x37\x42\x01\xc0\x00\x00\x00\xc6\x71\x70\x6a\x01"
                               "\x94\xe9\xcd\x29\x01\xac\x7c\xf0\x00\x01";
    uint8_t out[128];
    CHECK_INT(ph_h3_settings_write(out, true, true, false), ==, sizeof(want) - 1);
    CHECK_MEM(out, want, sizeof(want) - 1);
}

TEST(h3_settings, without_webtransport_only_qpack)
{
    uint8_t out[128];
    CHECK_INT(ph_h3_settings_write(out, false, false, false), ==, 4);
    CHECK_MEM(out, "\x01\x00\x07\x00", 4);
    CHECK_INT(ph_h3_settings_write(out, true, false, false), ==, 0);
}

TEST(h3_settings, websocket_needs_extended_connect_alone)
{
    uint8_t out[128];
    CHECK_INT(ph_h3_settings_write(out, false, false, true), ==, 6);
    CHECK_MEM(out, "\x01\x00\x07\x00\x08\x01", 6);
    CHECK_INT(ph_h3_settings_write(out, true, false, true), ==, 0);
}

TEST(h3_settings, what_is_sent_is_accepted)
{
    uint8_t out[128];
    size_t n = ph_h3_settings_write(out, false, true, false);
    struct ph_h3_settings settings = parse(out, n);
    CHECK(settings.enable_connect_protocol && settings.h3_datagram);
    CHECK_INT(settings.wt_draft02, ==, 1);
    CHECK_INT(settings.wt_draft07, ==, 1);
    CHECK_INT(settings.wt_draft13, ==, 1);
    CHECK_INT(settings.wt_draft15, ==, 1);
    CHECK_INT(settings.wt_max_data, ==, 0);
}

TEST(h3_settings, chromium_capture)
{
    struct ph_h3_settings settings =
        parse(BYTES("\x01\x80\x01\x00\x00\x06\x80\x00\x40\x00\x07\x40\x64\x33\x01\x80\xff\xd2\x77"
                    "\x01\xab\x60\x37\x42\x01\xc0\x00\x00\x17\xe5\x4f\xe3\x83\xc0\x00\x00\x00\x53"
                    "\x13\xca\x24"));
    CHECK_INT(settings.qpack_max_table_capacity, ==, 65536);
    CHECK_INT(settings.max_field_section_size, ==, 16384);
    CHECK_INT(settings.qpack_blocked_streams, ==, 100);
    CHECK(settings.h3_datagram);
    CHECK(!settings.enable_connect_protocol);
    CHECK_INT(settings.wt_draft02, ==, 1);
    CHECK_INT(settings.wt_draft07, ==, 0);
}

TEST(h3_settings, firefox_capture)
{
    struct ph_h3_settings settings = parse(BYTES("\x01\x80\x01\x00\x00\x07\x14\xab\x60\x37\x42\x01"
                                                 "\x80\xff\xd2\x77\x01\x33\x01\x08\x01"));
    CHECK_INT(settings.qpack_blocked_streams, ==, 20);
    CHECK(settings.h3_datagram && settings.enable_connect_protocol);
    CHECK_INT(settings.wt_draft02, ==, 1);
}

TEST(h3_settings, empty_payload_has_defaults)
{
    struct ph_h3_settings settings = parse(BYTES(""));
    CHECK(!settings.h3_datagram && !settings.enable_connect_protocol);
    CHECK(settings.max_field_section_size == UINT64_MAX);
}

TEST(h3_settings, old_datagram_id_counts)
{
    CHECK(parse(BYTES("\x80\xff\xd2\x77\x01")).h3_datagram);
    CHECK(parse(BYTES("\x80\xff\xd2\x77\x01\x33\x00")).h3_datagram);
    CHECK(!parse(BYTES("\x33\x00")).h3_datagram);
}

TEST(h3_settings, initial_flow_control_is_read)
{
    struct ph_h3_settings settings = parse(BYTES("\x6b\x64\x40\x64\x6b\x65\x41\x00\x6b\x61\x80\x10"
                                                 "\x00\x00"));
    CHECK_INT(settings.wt_max_streams_uni, ==, 100);
    CHECK_INT(settings.wt_max_streams_bidi, ==, 256);
    CHECK_INT(settings.wt_max_data, ==, 1048576);
}

TEST(h3_settings, duplicate_is_an_error)
{
    CHECK_INT(code_of(BYTES("\x33\x01\x33\x01")), ==, PH_H3_SETTINGS_ERROR);
    CHECK_INT(code_of(BYTES("\x21\x01\x40\x21\x02")), ==, PH_H3_SETTINGS_ERROR);
}

TEST(h3_settings, http2_ids_are_errors)
{
    CHECK_INT(code_of(BYTES("\x02\x00")), ==, PH_H3_SETTINGS_ERROR);
    CHECK_INT(code_of(BYTES("\x03\x24")), ==, PH_H3_SETTINGS_ERROR);
    CHECK_INT(code_of(BYTES("\x04\x01")), ==, PH_H3_SETTINGS_ERROR);
    CHECK_INT(code_of(BYTES("\x05\x01")), ==, PH_H3_SETTINGS_ERROR);
}

TEST(h3_settings, booleans_above_one_are_errors)
{
    CHECK_INT(code_of(BYTES("\x08\x02")), ==, PH_H3_SETTINGS_ERROR);
    CHECK_INT(code_of(BYTES("\x33\x02")), ==, PH_H3_SETTINGS_ERROR);
    CHECK_INT(code_of(BYTES("\x80\xff\xd2\x77\x02")), ==, PH_H3_SETTINGS_ERROR);
    CHECK_INT(code_of(BYTES("\xab\x60\x37\x42\x02")), ==, PH_H3_SETTINGS_ERROR);
    CHECK_INT(code_of(BYTES("\xac\x7c\xf0\x00\x02")), ==, PH_H3_SETTINGS_ERROR);
    CHECK_INT(code_of(BYTES("\xc0\x00\x00\x00\xc6\x71\x70\x6a\x10")), ==, 0);
}

TEST(h3_settings, cut_entry_is_a_frame_error)
{
    CHECK_INT(code_of(BYTES("\x33")), ==, PH_H3_FRAME_ERROR);
    CHECK_INT(code_of(BYTES("\x33\x01\xab\x60")), ==, PH_H3_FRAME_ERROR);
    CHECK_INT(code_of(BYTES("\x06\x80\x00")), ==, PH_H3_FRAME_ERROR);
}

TEST(h3_settings, thirty_two_entries_pass_and_one_more_does_not)
{
    uint8_t in[256], *p = in;
    for (uint64_t i = 0; i < 32; i++)
        p = ph_varint_put(ph_varint_put(p, 0x40 + i * 2), i);
    CHECK_INT(code_of(in, (size_t)(p - in)), ==, 0);
    p = ph_varint_put(ph_varint_put(p, 0x1000), 1);
    CHECK_INT(code_of(in, (size_t)(p - in)), ==, PH_H3_EXCESSIVE_LOAD);
}

TEST(h3_settings, more_than_4_KiB_is_not_looked_at)
{
    static uint8_t in[4097];
    CHECK_INT(code_of(in, sizeof(in)), ==, PH_H3_EXCESSIVE_LOAD);
}
