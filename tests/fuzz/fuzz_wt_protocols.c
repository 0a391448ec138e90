/*
 * fuzz_wt_protocols.c - the list of subprotocols: what was parsed is made of printable characters,
 * can be written, and parses to the same list again.
 */
#include "../../src/wt/wt.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char **list = NULL, **again = NULL;
    int count = ph_wt_protocols_parse(&list, (const char *)data, n);
    if (count < 0) {
        if (list != NULL)
            abort();
        return 0;
    }
    if (count > PH_WT_PROTOCOLS_MAX)
        abort();
    for (int i = 0; i < count; i++) {
        size_t len = strlen(list[i]);
        char *text = ph_alloc(2 * len + 3);
        size_t put = ph_wt_protocol_put(text, list[i], len);
        if (put < len + 2 || ph_wt_protocols_parse(&again, text, put) != 1 ||
            strcmp(again[0], list[i]) != 0)
            abort();
        ph_wt_protocols_free(again, 1);
        ph_free(text);
    }
    ph_wt_protocols_free(list, (size_t)count);
    return 0;
}
