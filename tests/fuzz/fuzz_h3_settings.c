/*
 * fuzz_h3_settings.c - the SETTINGS parser: it accepts or names one of three codes, and what it
 * accepts is well-formed.
 */
#include "../../src/h3/h3.h"
#include "../../src/http/http.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct ph_h3_settings settings;
    uint64_t code = 0;
    int rv = ph_h3_settings_parse(&settings, data, n, &code);
    if (rv == 0) {
        if (n > 4096 || settings.wt_draft02 > 1 || settings.wt_draft15 > 1 || code != 0)
            abort();
        return 0;
    }
    if (rv != PH_E_PROTO ||
        (code != PH_H3_SETTINGS_ERROR && code != PH_H3_FRAME_ERROR && code != PH_H3_EXCESSIVE_LOAD))
        abort();
    return 0;
}
