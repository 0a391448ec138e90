/*
 * fuzz_wt_header.c - header of a data stream: reading piece by piece gives what reading at once
 * gives, and what is read can be written and read again. Error codes round-trip on the way.
 */
#include "../../src/wt/wt.h"

#include <stdlib.h>

static int read_in_steps(const uint8_t *data, size_t n, size_t step, uint64_t *id, size_t *used)
{
    struct ph_varint_reader reader = {0};
    *used = 0;
    for (size_t at = 0; at < n; at += step) {
        const uint8_t *p = data + at;
        int rc = ph_wt_stream_header_feed(&reader, &p, data + PH_MIN(at + step, n), id);
        *used = (size_t)(p - data);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint64_t id = 0, again = 0, http3 = 0;
    size_t used = 0, used_again = 0;
    uint8_t out[PH_WT_STREAM_HEADER_MAX];
    uint32_t code;
    if (n == 0)
        return 0;
    int rc = read_in_steps(data, n, n, &id, &used);
    int rc_again = read_in_steps(data, n, 1, &again, &used_again);
    if (rc != rc_again || used != used_again || (rc == 1 && id != again))
        abort();
    if (rc == 1) {
        size_t len = ph_wt_stream_header_put(out, (data[0] & 1) != 0, id);
        if (len > sizeof out || read_in_steps(out + 2, len - 2, 1, &again, &used) != 1 ||
            again != id || used != len - 2)
            abort();
    }
    for (size_t i = 0; i < PH_MIN(n, 8); i++)
        http3 = http3 << 8 | data[i];
    if (ph_wt_code_from_http3(http3, &code) && ph_wt_code_to_http3(code) != http3)
        abort();
    if (!ph_wt_code_from_http3(ph_wt_code_to_http3((uint32_t)http3), &code) ||
        code != (uint32_t)http3)
        abort();
    return 0;
}
