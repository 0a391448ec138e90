/*
 * fuzz_tls_hello.c - the suites of a ClientHello: nothing is read past its end, and what is found
 * there really is in the message.
 */
#include "../../src/tls/tls_internal.h"

#include <stdlib.h>

static bool has(const uint8_t *data, size_t n, uint16_t suite)
{
    for (size_t i = 0; i + 2 <= n; i++) {
        if (ph_u16_get(data + i) == suite)
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    bool rsa = true, ecdsa = true;
    /* A copy of exactly this size, whatever the engine has behind it. */
    uint8_t *copy = malloc(n > 0 ? n : 1);
    if (n > 0)
        memcpy(copy, data, n);
    ph_tls_suites_read(copy, n, &rsa, &ecdsa);
    if (rsa && !has(data, n, 0xc02f) && !has(data, n, 0xc030) && !has(data, n, 0xcca8))
        abort();
    if (ecdsa && !has(data, n, 0xc02b) && !has(data, n, 0xc02c) && !has(data, n, 0xcca9))
        abort();
    free(copy);
    return 0;
}
