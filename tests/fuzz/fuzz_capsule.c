/*
 * fuzz_capsule.c - the capsule reader: the first byte chooses how the rest is cut into pieces; the
 * events must not depend on it, memory must stay within the bounds of the known types.
 */
#include "../../src/wt/wt.h"

#include <stdlib.h>

#define SKIP_MAX 2048

struct outcome {
    uint64_t hash, events;
    int rc;
    bool between;
};

static void mix(struct outcome *out, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++)
        out->hash = (out->hash ^ p[i]) * UINT64_C(0x100000001b3);
}

static struct outcome run(const uint8_t *data, size_t n, size_t step)
{
    struct ph_capsule_reader reader = {0};
    struct outcome out = {0};
    for (size_t at = 0; at < n && out.rc >= 0; at += step) {
        const uint8_t *p = data + at, *end = data + PH_MIN(at + step, n);
        while ((out.rc = ph_capsule_next(&reader, &p, end, SKIP_MAX)) == 1) {
            out.events++;
            mix(&out, &reader.type, sizeof reader.type);
            mix(&out, reader.value, reader.value_len);
            if (reader.value_len > 4096 || reader.value_len != reader.length)
                abort();
        }
        if (out.rc == 0 && p != end)
            abort();
    }
    if (reader.value_cap > 4096 || reader.skipped > SKIP_MAX)
        abort();
    out.between = ph_capsule_is_between(&reader);
    ph_capsule_reader_fini(&reader);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    struct outcome whole = run(data + 1, n - 1, n), cut = run(data + 1, n - 1, data[0] % 31 + 1);
    if (whole.hash != cut.hash || whole.events != cut.events || whole.rc != cut.rc)
        abort();
    if (whole.rc >= 0 && whole.between != cut.between)
        abort();
    return 0;
}
