/*
 * fuzz_h3_frame.c - the HTTP/3 frame reader and the Priority parser: the first byte chooses how the
 * rest is cut into pieces; frames and payload must not depend on it, and every header written back
 * must read the same.
 */
#include "../../src/h3/h3.h"

#include <stdlib.h>

struct outcome {
    uint64_t hash, frames, bytes;
    bool between;
};

static void mix(struct outcome *out, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++)
        out->hash = (out->hash ^ p[i]) * UINT64_C(0x100000001b3);
}

static void check_header(const struct ph_h3_frame_reader *reader)
{
    struct ph_h3_frame_reader again = {0};
    uint8_t head[17];
    const uint8_t *p = head, *piece = NULL;
    size_t n = 0;
    uint8_t *end = ph_h3_frame_put(head, reader->type, reader->length);
    *end = 0;
    if (!ph_h3_frame_next(&again, &p, end + 1, &piece, &n) || again.type != reader->type ||
        again.length != reader->length)
        abort();
}

static struct outcome run(const uint8_t *data, size_t n, size_t step)
{
    struct ph_h3_frame_reader reader = {0};
    struct outcome out = {0};
    for (size_t at = 0; at < n; at += step) {
        const uint8_t *p = data + at, *end = data + PH_MIN(at + step, n), *piece = NULL;
        size_t len = 0;
        while (ph_h3_frame_next(&reader, &p, end, &piece, &len)) {
            if (piece < data + at || piece + len > end || len > reader.length)
                abort();
            mix(&out, piece, len);
            out.bytes += len;
            if (reader.left > 0)
                continue;
            out.frames++;
            mix(&out, &reader.type, sizeof(reader.type));
            mix(&out, &reader.length, sizeof(reader.length));
            check_header(&reader);
        }
        if (p != end)
            abort();
    }
    out.between = ph_h3_frame_is_between(&reader);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    struct outcome whole = run(data + 1, n - 1, n), cut = run(data + 1, n - 1, data[0] % 31 + 1);
    if (whole.hash != cut.hash || whole.frames != cut.frames || whole.bytes != cut.bytes ||
        whole.between != cut.between)
        abort();
    struct ph_h3_priority priority = ph_h3_priority_parse((const char *)data, n);
    if (priority.urgency > 7)
        abort();
    return 0;
}
