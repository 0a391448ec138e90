/*
 * capsule.c - the capsules of a CONNECT stream (RFC 9297 section 3.2), both ways.
 *
 * In: DATA payload of the CONNECT stream, in pieces of any size, through wt_session.c. Three types
 * are known; a value is collected only for them and only up to the length that its type allows, so
 * that a length of 2^62 costs nothing. Everything else (GREASE, flow control that was not
 * negotiated, types to come) is skipped in place and counted against the caller's bound.
 * Out: the two capsules that we send.
 *
 * Invariant: value_len <= value_cap <= bound of the type; between capsules nothing is collected.
 */
#include "wt.h"

enum {
    CLOSE_MIN = 4,                            /* draft-16 section 6: the code */
    CLOSE_MAX = CLOSE_MIN + PH_WT_REASON_MAX, /* and the reason */
    DATAGRAM_MAX = 4096 /* no QUIC packet on a common path carries more; longer ones are dropped */
};

static bool type_is_collected(uint64_t type, uint64_t length)
{
    return type == PH_CAPSULE_WT_CLOSE_SESSION || type == PH_CAPSULE_WT_DRAIN_SESSION ||
           (type == PH_CAPSULE_DATAGRAM && length <= DATAGRAM_MAX);
}

static bool length_is_legal(uint64_t type, uint64_t length)
{
    if (type == PH_CAPSULE_WT_CLOSE_SESSION)
        return length >= CLOSE_MIN && length <= CLOSE_MAX;
    if (type == PH_CAPSULE_WT_DRAIN_SESSION)
        return length == 0;
    return true;
}

/* The header is complete. */
static int value_start(struct ph_capsule_reader *reader)
{
    reader->left = reader->length;
    reader->value_len = 0;
    reader->state = PH_CAPSULE_AT_VALUE;
    if (!type_is_collected(reader->type, reader->length)) {
        reader->unknown++;
        return 0;
    }
    if (!length_is_legal(reader->type, reader->length))
        return PH_E_MALFORMED;
    if (reader->length > reader->value_cap) {
        reader->value_cap = (size_t)reader->length;
        reader->value = ph_realloc(reader->value, reader->value_cap);
    }
    return 0;
}

/* Takes what there is of the value. 1: a known capsule is complete. */
static int value_take(struct ph_capsule_reader *reader, const uint8_t **p, const uint8_t *end,
                      uint64_t skip_max)
{
    size_t n = (size_t)PH_MIN(reader->left, (uint64_t)(end - *p));
    bool collected = type_is_collected(reader->type, reader->length);
    if (!collected) {
        if (n > skip_max - PH_MIN(reader->skipped, skip_max))
            return PH_E_LIMIT;
        reader->skipped += n;
    } else if (n > 0) {
        memcpy(reader->value + reader->value_len, *p, n);
        reader->value_len += n;
    }
    *p += n;
    reader->left -= n;
    if (reader->left > 0)
        return 0;
    reader->state = PH_CAPSULE_AT_TYPE;
    return collected ? 1 : 0;
}

int ph_capsule_next(struct ph_capsule_reader *reader, const uint8_t **p, const uint8_t *end,
                    uint64_t skip_max)
{
    int rc = 0;
    for (;;) {
        switch (reader->state) {
        case PH_CAPSULE_AT_TYPE:
            if (!ph_varint_feed(&reader->varint, p, end))
                return 0;
            reader->type = reader->varint.value;
            reader->state = PH_CAPSULE_AT_LENGTH;
            break;
        case PH_CAPSULE_AT_LENGTH:
            if (!ph_varint_feed(&reader->varint, p, end))
                return 0;
            reader->length = reader->varint.value;
            if ((rc = value_start(reader)) < 0)
                return rc;
            break;
        case PH_CAPSULE_AT_VALUE:
            if ((rc = value_take(reader, p, end, skip_max)) != 0)
                return rc;
            if (reader->state == PH_CAPSULE_AT_VALUE)
                return 0;
            break;
        }
    }
}

bool ph_capsule_is_between(const struct ph_capsule_reader *reader)
{
    return reader->state == PH_CAPSULE_AT_TYPE && !reader->varint.started;
}

void ph_capsule_reader_fini(struct ph_capsule_reader *reader)
{
    ph_free(reader->value);
    *reader = (struct ph_capsule_reader){0};
}

size_t ph_capsule_close_put(uint8_t *out, uint32_t code, const char *reason, size_t reason_len)
{
    size_t n = ph_utf8_cut((const uint8_t *)reason, reason_len, PH_WT_REASON_MAX);
    uint8_t *p = ph_varint_put(out, PH_CAPSULE_WT_CLOSE_SESSION);
    p = ph_varint_put(p, CLOSE_MIN + n);
    p = ph_u32_put(p, code);
    if (n > 0)
        memcpy(p, reason, n);
    return (size_t)(p - out) + n;
}

size_t ph_capsule_drain_put(uint8_t *out)
{
    uint8_t *p = ph_varint_put(out, PH_CAPSULE_WT_DRAIN_SESSION);
    p = ph_varint_put(p, 0);
    return (size_t)(p - out);
}
