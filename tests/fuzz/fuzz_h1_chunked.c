/*
 * fuzz_h1_chunked.c - the chunked decoder alone: whole, and byte by byte with payload taken in
 * small pieces. Same payload, same trailers, same verdict; and never more payload than input.
 */
#include "../../src/http/http_internal.h"

#include <stdlib.h>

#define MUST(cond) ((cond) ? (void)0 : abort())

struct result {
    uint8_t *payload;
    size_t n, used;
    int verdict;
    struct ph_h1_fault fault;
    struct ph_h1_chunked chunked;
};

static void decode(struct result *result, const struct ph_h1_config *config, const uint8_t *data,
                   size_t n, size_t step, size_t max)
{
    memset(result, 0, sizeof(*result));
    ph_h1_chunked_init(&result->chunked, config);
    result->payload = ph_alloc(n + 1);
    const uint8_t *p = data, *all = data + n;
    while (p < all && result->verdict != PH_CHUNKED_END && result->verdict >= 0) {
        const uint8_t *end = (size_t)(all - p) > step ? p + step : all;
        while (p < end) {
            const uint8_t *piece;
            size_t len;
            result->verdict = ph_h1_chunked_next(&result->chunked, &p, end, max, &piece, &len);
            if (result->verdict != PH_CHUNKED_DATA)
                break;
            MUST(len > 0 && len <= max && piece + len == p);
            memcpy(result->payload + result->n, piece, len);
            result->n += len;
        }
    }
    if (result->verdict == PH_CHUNKED_DATA)
        result->verdict = PH_CHUNKED_MORE;
    result->used = (size_t)(p - data);
    result->fault = result->chunked.fault;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct ph_h1_config config;
    ph_h1_config_default(&config);
    config.limits.head_bytes = 512;
    config.limits.head_fields = 6;
    config.chunk_overhead = 64;
    config.chunk_extension = 16;
    struct result whole, pieces;
    decode(&whole, &config, data, n, SIZE_MAX, SIZE_MAX);
    decode(&pieces, &config, data, n, 1, 1);
    MUST(whole.verdict == pieces.verdict);
    MUST(whole.n == pieces.n && memcmp(whole.payload, pieces.payload, whole.n) == 0);
    MUST(whole.n == whole.chunked.payload);
    MUST(whole.chunked.overhead <= whole.chunked.payload + config.chunk_overhead + 1);
    if (whole.verdict == PH_CHUNKED_END) {
        MUST(whole.used == pieces.used && whole.n < whole.used);
        const struct ph_fields *a = &whole.chunked.trailers, *b = &pieces.chunked.trailers;
        MUST(a->count == b->count && a->count <= config.limits.head_fields);
        for (size_t i = 0; i < a->count; i++) {
            MUST(strcmp(a->list[i].name, b->list[i].name) == 0);
            MUST(strcmp(a->list[i].value, b->list[i].value) == 0);
            MUST(!ph_field_is_forbidden_trailer(a->list[i].name, a->list[i].name_len));
        }
    } else if (whole.verdict < 0) {
        MUST(whole.fault.status == pieces.fault.status && whole.fault.status >= 400);
    }
    ph_h1_chunked_fini(&whole.chunked);
    ph_h1_chunked_fini(&pieces.chunked);
    ph_free(whole.payload);
    ph_free(pieces.payload);
    return 0;
}
