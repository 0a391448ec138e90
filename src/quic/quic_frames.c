/*
 * quic_frames.c - a scan of the frames in a decrypted 1-RTT payload, for ngtcp2 before 1.24.
 *
 * Those versions answer STOP_SENDING with RESET_STREAM and tell the application nothing, and
 * (before 1.15) have no budget against frames that keep a peer busy without moving anything. Both
 * are seen here, between decryption and the library's own parser: the scan changes nothing,
 * allocates nothing, and gives up at the first thing that it does not understand, because judging
 * the packet stays the library's business. Layouts: RFC 9000 19, RFC 9221 4.
 */
#include "quic_internal.h"

enum frame_type {
    PADDING = 0x00,
    PING = 0x01,
    ACK = 0x02,
    ACK_ECN = 0x03,
    CRYPTO = 0x06,
    NEW_TOKEN = 0x07,
    STREAM_LAST = 0x0f,
    NEW_CONNECTION_ID = 0x18,
    PATH_CHALLENGE = 0x1a,
    PATH_RESPONSE = 0x1b,
    DATAGRAM = 0x30,
    DATAGRAM_LEN = 0x31,
};

enum { STREAM_FIN = 1, STREAM_LEN = 2, STREAM_OFF = 4 };

struct cursor {
    const uint8_t *p, *end;
    bool bad;
};

static uint64_t take(struct cursor *cur)
{
    uint64_t value = 0;
    size_t used = cur->bad ? 0 : ph_varint_get(cur->p, (size_t)(cur->end - cur->p), &value);
    cur->bad = used == 0;
    cur->p += used;
    return value;
}

static void skip(struct cursor *cur, uint64_t n)
{
    cur->bad = cur->bad || n > (uint64_t)(cur->end - cur->p);
    if (!cur->bad)
        cur->p += n;
}

static void skip_ack(struct cursor *cur, bool ecn)
{
    take(cur); /* largest */
    take(cur); /* delay */
    uint64_t ranges = take(cur);
    take(cur); /* first range */
    while (!cur->bad && ranges-- > 0) {
        take(cur);
        take(cur);
    }
    for (int i = 0; ecn && i < 3; i++)
        take(cur);
}

static void scan_stream(struct ph_quic_scan *scan, struct cursor *cur, uint64_t type)
{
    uint64_t id = take(cur);
    uint64_t offset = (type & STREAM_OFF) != 0 ? take(cur) : 0;
    uint64_t len = (type & STREAM_LEN) != 0 ? take(cur) : (uint64_t)(cur->end - cur->p);
    skip(cur, len);
    if (cur->bad)
        return;
    if ((type & STREAM_FIN) != 0)
        scan->on_value(scan->self, PH_QUIC_STREAM, id, offset);
    /* Empty and not the first: nothing new. The first may open the stream. */
    if (len == 0 && offset > 0 && (type & STREAM_FIN) == 0)
        scan->idle++;
}

/* Number of varints of a frame that has nothing else; -1: another layout. */
static int varints_of(uint64_t type)
{
    switch (type) {
    case PADDING:
    case PING:
    case 0x1e: /* HANDSHAKE_DONE */
        return 0;
    case PH_QUIC_MAX_DATA:
    case 0x12: /* MAX_STREAMS, both kinds */
    case 0x13:
    case 0x14: /* DATA_BLOCKED */
    case 0x16: /* STREAMS_BLOCKED, both kinds */
    case PH_QUIC_STREAMS_BLOCKED_UNI:
    case 0x19: /* RETIRE_CONNECTION_ID */
        return 1;
    case PH_QUIC_STOP_SENDING:
    case PH_QUIC_MAX_STREAM_DATA:
    case PH_QUIC_STREAM_DATA_BLOCKED:
        return 2;
    case 0x04: /* RESET_STREAM */
        return 3;
    default:
        return -1;
    }
}

static void scan_plain(struct ph_quic_scan *scan, struct cursor *cur, uint64_t type, int varints)
{
    uint64_t value[3] = {0};
    for (int i = 0; i < varints; i++)
        value[i] = take(cur);
    if (cur->bad)
        return;
    if (type == PING)
        scan->idle++;
    else if (type == PH_QUIC_STOP_SENDING ||
             (type >= PH_QUIC_MAX_DATA && type <= PH_QUIC_STREAMS_BLOCKED_UNI))
        scan->on_value(scan->self, type, varints == 2 ? value[0] : 0, value[varints - 1]);
}

static void scan_other(struct ph_quic_scan *scan, struct cursor *cur, uint64_t type)
{
    switch (type) {
    case ACK:
    case ACK_ECN:
        skip_ack(cur, type == ACK_ECN);
        break;
    case CRYPTO:
        take(cur);
        skip(cur, take(cur));
        break;
    case NEW_TOKEN:
    case DATAGRAM_LEN:
        skip(cur, take(cur));
        break;
    case NEW_CONNECTION_ID:
        take(cur);
        take(cur);
        skip(cur, cur->bad || cur->p == cur->end ? UINT64_MAX : (uint64_t)*cur->p + 1 + 16);
        break;
    case PATH_CHALLENGE:
        scan->idle++;
        skip(cur, 8);
        break;
    case PATH_RESPONSE:
        skip(cur, 8);
        break;
    default: /* DATAGRAM without a length, CONNECTION_CLOSE and the unknown: the last of interest */
        cur->bad = true;
        break;
    }
}

void ph_quic_scan_frames(struct ph_quic_scan *scan, const uint8_t *p, size_t n)
{
    struct cursor cur = {.p = p, .end = p + n};
    while (!cur.bad && cur.p < cur.end) {
        if (*cur.p == PADDING) { /* often hundreds */
            cur.p++;
            continue;
        }
        uint64_t type = take(&cur);
        int varints = varints_of(type);
        if (type >= PH_QUIC_STREAM && type <= STREAM_LAST)
            scan_stream(scan, &cur, type);
        else if (varints >= 0)
            scan_plain(scan, &cur, type, varints);
        else
            scan_other(scan, &cur, type);
    }
}
