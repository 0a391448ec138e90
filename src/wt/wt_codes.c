/*
 * wt_codes.c - application error codes on the wire (draft-16 section 4.4).
 *
 * RESET_STREAM and STOP_SENDING of a data stream carry HTTP/3 codes. The 32-bit codes of the
 * application are spread over a range of their own that leaves out every 31st value: those have the
 * form 0x1f * N + 0x21, which HTTP/3 reserves for GREASE (RFC 9114 section 8.1).
 */
#include "wt.h"

#define CODE_FIRST UINT64_C(0x52e4a40fa8db)
#define CODE_LAST UINT64_C(0x52e5ac983162)
#define GREASE_OFFSET 0x21
#define GREASE_STEP 0x1f

uint64_t ph_wt_code_to_http3(uint32_t code)
{
    return CODE_FIRST + code + code / (GREASE_STEP - 1);
}

bool ph_wt_code_from_http3(uint64_t http3, uint32_t *code)
{
    if (http3 < CODE_FIRST || http3 > CODE_LAST || (http3 - GREASE_OFFSET) % GREASE_STEP == 0)
        return false;
    uint64_t shifted = http3 - CODE_FIRST;
    *code = (uint32_t)(shifted - shifted / GREASE_STEP);
    return true;
}
