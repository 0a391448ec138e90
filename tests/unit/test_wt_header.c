/*
 * test_wt_header.c - the header of data streams: bytes, varint forms, splits, illegal ids.
 */
#include "test.h"

#include "../../src/wt/wt.h"

TEST(wt_header, has_the_bytes_of_the_draft)
{
    uint8_t out[PH_WT_STREAM_HEADER_MAX];
    CHECK_INT(ph_wt_stream_header_put(out, true, 4), ==, 3);
    CHECK_MEM(out, "\x40\x41\x04", 3);
    CHECK_INT(ph_wt_stream_header_put(out, false, 4), ==, 3);
    CHECK_MEM(out, "\x40\x54\x04", 3);
    CHECK_INT(ph_wt_stream_header_put(out, true, 68), ==, 4);
    CHECK_MEM(out, "\x40\x41\x40\x44", 4);
    CHECK_INT(ph_wt_stream_header_put(out, true, PH_VARINT_MAX - 3), ==, 10);
}

TEST(wt_header, every_varint_form_and_split_is_read)
{
    static const struct {
        uint8_t bytes[8];
        size_t n;
    } forms[] = {{{0x04}, 1},
                 {{0x40, 0x04}, 2},
                 {{0x80, 0, 0, 0x04}, 4},
                 {{0xc0, 0, 0, 0, 0, 0, 0, 0x04}, 8}};
    for (size_t i = 0; i < PH_COUNT_OF(forms); i++) {
        for (size_t split = 0; split < forms[i].n; split++) {
            struct ph_varint_reader reader = {0};
            uint64_t id = 99;
            const uint8_t *p = forms[i].bytes;
            CHECK_INT(ph_wt_stream_header_feed(&reader, &p, forms[i].bytes + split, &id), ==, 0);
            CHECK_INT(ph_wt_stream_header_feed(&reader, &p, forms[i].bytes + forms[i].n, &id), ==,
                      1);
            CHECK_INT(id, ==, 4);
        }
    }
}

TEST(wt_header, stops_behind_the_id)
{
    const uint8_t bytes[] = {0x08, 'd', 'a', 't', 'a'};
    struct ph_varint_reader reader = {0};
    uint64_t id = 0;
    const uint8_t *p = bytes;
    CHECK_INT(ph_wt_stream_header_feed(&reader, &p, bytes + sizeof bytes, &id), ==, 1);
    CHECK_INT(id, ==, 8);
    CHECK(p == bytes + 1);
}

TEST(wt_header, id_of_no_client_request_is_a_breach)
{
    for (uint8_t low = 1; low < 4; low++) {
        struct ph_varint_reader reader = {0};
        uint64_t id = 0;
        const uint8_t byte = (uint8_t)(8 + low), *p = &byte;
        CHECK_INT(ph_wt_stream_header_feed(&reader, &p, &byte + 1, &id), ==, PH_E_PROTO);
    }
}
