/*
 * h3_frame.c - headers of HTTP/3 frames (RFC 9114 7.1): a resumable reader and a writer.
 *
 * Bytes come from quic in whatever pieces packets had; the reader keeps the type, the length and
 * what is left of the payload, and hands payload on in place. It never allocates and never looks
 * back: a declared length costs nothing until bytes arrive, so limits are the caller's, checked
 * when it sees the first piece (or, before any payload came, in state PH_H3_AT_PAYLOAD).
 */
#include "h3.h"

bool ph_h3_frame_next(struct ph_h3_frame_reader *reader, const uint8_t **p, const uint8_t *end,
                      const uint8_t **payload, size_t *n)
{
    if (reader->state == PH_H3_AT_TYPE) {
        if (!ph_varint_feed(&reader->varint, p, end))
            return false;
        reader->type = reader->varint.value;
        reader->state = PH_H3_AT_LENGTH;
    }
    if (reader->state == PH_H3_AT_LENGTH) {
        if (!ph_varint_feed(&reader->varint, p, end))
            return false;
        reader->length = reader->left = reader->varint.value;
        reader->state = PH_H3_AT_PAYLOAD;
    }
    size_t have = (size_t)(end - *p);
    if (have == 0 && reader->left > 0)
        return false;
    *payload = *p;
    *n = reader->left < have ? (size_t)reader->left : have;
    *p += *n;
    reader->left -= *n;
    if (reader->left == 0)
        reader->state = PH_H3_AT_TYPE;
    return true;
}

bool ph_h3_frame_is_between(const struct ph_h3_frame_reader *reader)
{
    return reader->state == PH_H3_AT_TYPE && !reader->varint.started;
}

uint8_t *ph_h3_frame_put(uint8_t *p, uint64_t type, uint64_t length)
{
    return ph_varint_put(ph_varint_put(p, type), length);
}
