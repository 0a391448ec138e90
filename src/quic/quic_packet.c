/*
 * quic_packet.c - pure functions on UDP payloads: where coalesced packets end, which worker an id
 * names.
 *
 * Nothing here is authenticated: these bytes come straight from the network, before any key is
 * known. The functions only decide how much of a datagram is handed on and to whom; every length is
 * checked against what is left.
 */
#include "quic_internal.h"

enum { LONG_FORM = 0x80, LONG_FIXED = 7 }; /* form, version, two length bytes */

/* Packet types in the long header, RFC 9000 17.2 and RFC 9369 3.2. */
static bool is_initial(uint8_t first, uint32_t version)
{
    unsigned type = (unsigned)(first >> 4) & 3;
    return version == NGTCP2_PROTO_VER_V2 ? type == 1 : type == 0;
}

static bool is_retry(uint8_t first, uint32_t version)
{
    unsigned type = (unsigned)(first >> 4) & 3;
    return version == NGTCP2_PROTO_VER_V2 ? type == 0 : type == 3;
}

/* Length of the long-header packet at `p`; 0 when it cannot be told (malformed, Retry, a version
 * with an unknown layout): it then takes the rest. */
static size_t long_packet_len(const uint8_t *p, size_t n)
{
    uint32_t version = ph_u32_get(p + 1);
    if (version != NGTCP2_PROTO_VER_V1 && version != NGTCP2_PROTO_VER_V2)
        return 0;
    if (is_retry(p[0], version))
        return 0;
    size_t at = 6 + (size_t)p[5];
    if (at >= n)
        return 0;
    at += 1 + (size_t)p[at];
    if (at > n)
        return 0;
    uint64_t value = 0;
    if (is_initial(p[0], version)) {
        size_t used = ph_varint_get(p + at, n - at, &value);
        if (used == 0 || value > n - at - used)
            return 0;
        at += used + (size_t)value;
    }
    size_t used = ph_varint_get(p + at, n - at, &value);
    if (used == 0 || value > n - at - used)
        return 0;
    return at + used + (size_t)value;
}

static bool has_dcid(const uint8_t *p, size_t n, const uint8_t *dcid, size_t dcid_len)
{
    if ((p[0] & LONG_FORM) == 0)
        return n >= 1 + dcid_len && memcmp(p + 1, dcid, dcid_len) == 0;
    return n >= LONG_FIXED + dcid_len && p[5] == dcid_len && memcmp(p + 6, dcid, dcid_len) == 0;
}

size_t ph_quic_coalesced_len(const uint8_t *data, size_t n, const uint8_t *dcid, size_t dcid_len)
{
    size_t at = 0;
    while (at < n) {
        const uint8_t *p = data + at;
        if (p[0] == 0 && at > 0)
            return n; /* zeros that fill the datagram up, as some clients do */
        if (!has_dcid(p, n - at, dcid, dcid_len))
            return at;
        if ((p[0] & LONG_FORM) == 0)
            return n;
        size_t len = long_packet_len(p, n - at);
        if (len == 0)
            return n;
        at += len;
    }
    return n;
}

int ph_quic_packet_worker(const uint8_t *data, size_t n)
{
    if (n < 1)
        return -1;
    if ((data[0] & LONG_FORM) == 0)
        return n < 1 + PH_QUIC_CID_LEN ? -1 : ph_u16_get(data + 1);
    if (n < LONG_FIXED + PH_QUIC_CID_LEN || data[5] != PH_QUIC_CID_LEN)
        return -1;
    uint32_t version = ph_u32_get(data + 1);
    if (version != NGTCP2_PROTO_VER_V1 && version != NGTCP2_PROTO_VER_V2)
        return -1;
    return ph_u16_get(data + 6);
}
