/*
 * test_wt_codes.c - application error codes to HTTP/3 codes and back: published vectors, the edges
 * around the reserved values, and a sweep.
 */
#include "test.h"

#include "../../src/wt/wt.h"

TEST(wt_codes, published_vectors_both_ways)
{
    static const struct {
        uint32_t code;
        uint64_t http3;
    } vectors[] = {
        {0, UINT64_C(0x52e4a40fa8db)},          {1, UINT64_C(0x52e4a40fa8dc)},
        {0x1d, UINT64_C(0x52e4a40fa8f8)},       {0x1e, UINT64_C(0x52e4a40fa8fa)},
        {0x3b, UINT64_C(0x52e4a40fa917)},       {0x3c, UINT64_C(0x52e4a40fa919)},
        {255, UINT64_C(0x52e4a40fa9e2)},        {0xffff, UINT64_C(0x52e4a410b162)},
        {0x7fffffff, UINT64_C(0x52e52853ed1e)}, {0x80000000, UINT64_C(0x52e52853ed1f)},
        {0xfffffffe, UINT64_C(0x52e5ac983161)}, {0xffffffff, UINT64_C(0x52e5ac983162)},
    };
    for (size_t i = 0; i < PH_COUNT_OF(vectors); i++) {
        uint32_t back = 0;
        CHECK_INT(ph_wt_code_to_http3(vectors[i].code), ==, vectors[i].http3);
        CHECK(ph_wt_code_from_http3(vectors[i].http3, &back));
        CHECK_INT(back, ==, vectors[i].code);
    }
}

TEST(wt_codes, what_is_no_application_code_is_refused)
{
    static const uint64_t foreign[] = {
        0,
        0x100,
        0x10c,
        0x10f,
        PH_WT_SESSION_GONE,
        PH_WT_BUFFERED_STREAM_REJECTED,
        UINT64_C(0x52e4a40fa8da), /* one below the first */
        UINT64_C(0x52e4a40fa8f9), /* reserved */
        UINT64_C(0x52e4a40fa918),
        UINT64_C(0x52e5ac983163), /* one above the last */
        PH_VARINT_MAX,
    };
    for (size_t i = 0; i < PH_COUNT_OF(foreign); i++) {
        uint32_t code = 77;
        CHECK(!ph_wt_code_from_http3(foreign[i], &code));
        CHECK_INT(code, ==, 77);
    }
}

TEST(wt_codes, no_code_maps_to_a_reserved_value)
{
    for (uint32_t code = 0; code < 1000000; code++)
        CHECK((ph_wt_code_to_http3(code) - 0x21) % 0x1f != 0);
}

TEST(wt_codes, sweep_round_trips)
{
    /* Every code near a wrap of the divisor, and a stride over the whole range. */
    for (uint64_t base = 0; base <= UINT32_MAX; base += 0x00fffff1) {
        for (uint64_t code = base; code < base + 64 && code <= UINT32_MAX; code++) {
            uint32_t back = 0;
            CHECK(ph_wt_code_from_http3(ph_wt_code_to_http3((uint32_t)code), &back));
            CHECK_INT(back, ==, code);
        }
    }
}

TEST(wt_codes, wire_codes_between_two_neighbours_are_the_reserved_ones)
{
    unsigned holes = 0;
    uint64_t first = ph_wt_code_to_http3(0), last = ph_wt_code_to_http3(3099);
    for (uint64_t http3 = first; http3 <= last; http3++) {
        uint32_t code;
        if (!ph_wt_code_from_http3(http3, &code))
            holes++;
    }
    CHECK_INT(holes, ==, 103); /* one behind each full run of 30 codes */
    CHECK_INT(last - first + 1 - holes, ==, 3100);
}
