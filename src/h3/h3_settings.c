/*
 * h3_settings.c - the SETTINGS payload (RFC 9114 7.2.4): what we send, decided in one place, and a
 * bounded parser of what peers send.
 *
 * WebTransport drafts negotiate by setting ids: each draft has its own, an endpoint sends the ids
 * of all drafts it speaks, and the highest common one wins. Real clients look for different
 * subsets: current browsers for draft-02's with H3_DATAGRAM, others for one of the later drafts';
 * the union below is accepted by all of them. The flow-control settings (WT_INITIAL_...) are not
 * sent, and therefore the session counts are 1: a larger one would promise flow control (draft-14
 * section 5.1).
 */
#include "h3.h"
#include "h3_internal.h"

enum {
    ID_QPACK_MAX_TABLE_CAPACITY = 0x01,
    ID_HTTP2_FIRST = 0x02, /* 0x02 to 0x05 had meanings in HTTP/2 only (RFC 9114 7.2.4.1) */
    ID_HTTP2_LAST = 0x05,
    ID_MAX_FIELD_SECTION_SIZE = 0x06,
    ID_QPACK_BLOCKED_STREAMS = 0x07,
    ID_ENABLE_CONNECT_PROTOCOL = 0x08, /* RFC 9220 */
    ID_H3_DATAGRAM = 0x33,             /* RFC 9297 */
    ID_WT_INITIAL_MAX_DATA = 0x2b61,
    ID_WT_INITIAL_MAX_STREAMS_UNI = 0x2b64,
    ID_WT_INITIAL_MAX_STREAMS_BIDI = 0x2b65,
    ID_H3_DATAGRAM_DRAFT04 = 0xffd277
};
#define ID_WT_DRAFT02 UINT64_C(0x2b603742) /* ENABLE_WEBTRANSPORT */
#define ID_WT_DRAFT07 UINT64_C(0xc671706a) /* WEBTRANSPORT_MAX_SESSIONS */
#define ID_WT_DRAFT13 UINT64_C(0x14e9cd29) /* WT_MAX_SESSIONS */
#define ID_WT_DRAFT15 UINT64_C(0x2c7cf000) /* WT_ENABLED */

size_t ph_h3_settings_write(uint8_t *out, bool is_client, bool webtransport, bool websocket)
{
    static const struct {
        uint64_t id;
        uint8_t value;
        bool by_server, by_client, webtransport, websocket; /* needed by which; none: always */
    } sent[] = {
        {ID_QPACK_MAX_TABLE_CAPACITY, 0, true, false, false, false},
        {ID_QPACK_BLOCKED_STREAMS, 0, true, false, false, false},
        {ID_ENABLE_CONNECT_PROTOCOL, 1, true, false, true, true},
        {ID_H3_DATAGRAM, 1, true, true, true, false},
        {ID_WT_DRAFT02, 1, true, true, true, false},
        {ID_WT_DRAFT07, 1, true, true, true, false},
        {ID_WT_DRAFT13, 1, true, true, true, false},
        {ID_WT_DRAFT15, 1, true, true, true, false},
    };
    uint8_t *p = out;
    for (size_t i = 0; i < PH_COUNT_OF(sent); i++) {
        if (!(is_client ? sent[i].by_client : sent[i].by_server))
            continue;
        bool is_for_all = !sent[i].webtransport && !sent[i].websocket;
        if (!is_for_all && !(sent[i].webtransport && webtransport) &&
            !(sent[i].websocket && websocket))
            continue;
        p = ph_varint_put(ph_varint_put(p, sent[i].id), sent[i].value);
    }
    return (size_t)(p - out);
}

static int read_bool(bool *out, uint64_t value)
{
    if (value > 1)
        return PH_E_PROTO;
    *out = value == 1;
    return 0;
}

/* Unknown ids, reserved ones among them, are ignored (RFC 9114 7.2.4). */
static int apply(struct ph_h3_settings *settings, uint64_t id, uint64_t value)
{
    if (id >= ID_HTTP2_FIRST && id <= ID_HTTP2_LAST)
        return PH_E_PROTO;
    switch (id) {
    case ID_QPACK_MAX_TABLE_CAPACITY:
        settings->qpack_max_table_capacity = value;
        return 0;
    case ID_MAX_FIELD_SECTION_SIZE:
        settings->max_field_section_size = value;
        return 0;
    case ID_QPACK_BLOCKED_STREAMS:
        settings->qpack_blocked_streams = value;
        return 0;
    case ID_ENABLE_CONNECT_PROTOCOL:
        return read_bool(&settings->enable_connect_protocol, value);
    case ID_H3_DATAGRAM:
    case ID_H3_DATAGRAM_DRAFT04: {
        bool on = false; /* either of the two says yes */
        int rv = read_bool(&on, value);
        settings->h3_datagram |= on;
        return rv;
    }
    case ID_WT_DRAFT02:
        settings->wt_draft02 = value;
        return value > 1 ? PH_E_PROTO : 0;
    case ID_WT_DRAFT07:
        settings->wt_draft07 = value;
        return 0;
    case ID_WT_DRAFT13:
        settings->wt_draft13 = value;
        return 0;
    case ID_WT_DRAFT15:
        settings->wt_draft15 = value;
        return value > 1 ? PH_E_PROTO : 0;
    case ID_WT_INITIAL_MAX_DATA:
        settings->wt_max_data = value;
        return 0;
    case ID_WT_INITIAL_MAX_STREAMS_UNI:
        settings->wt_max_streams_uni = value;
        return 0;
    case ID_WT_INITIAL_MAX_STREAMS_BIDI:
        settings->wt_max_streams_bidi = value;
        return 0;
    default:
        return 0;
    }
}

static bool has(const uint64_t *ids, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

int ph_h3_settings_parse(struct ph_h3_settings *settings, const uint8_t *p, size_t n,
                         uint64_t *code)
{
    uint64_t ids[PH_H3_SETTINGS_ENTRIES];
    size_t count = 0;
    *settings = (struct ph_h3_settings){.max_field_section_size = UINT64_MAX};
    if (n > PH_H3_SETTINGS_BYTES)
        return *code = PH_H3_EXCESSIVE_LOAD, PH_E_PROTO;
    while (n > 0) {
        uint64_t id = 0, value = 0;
        size_t id_len = ph_varint_get(p, n, &id);
        size_t value_len = id_len == 0 ? 0 : ph_varint_get(p + id_len, n - id_len, &value);
        if (value_len == 0) /* ends within an entry: RFC 9114 7.1 */
            return *code = PH_H3_FRAME_ERROR, PH_E_PROTO;
        if (count == PH_COUNT_OF(ids))
            return *code = PH_H3_EXCESSIVE_LOAD, PH_E_PROTO;
        if (has(ids, count, id) || apply(settings, id, value) < 0)
            return *code = PH_H3_SETTINGS_ERROR, PH_E_PROTO;
        ids[count++] = id;
        p += id_len + value_len;
        n -= id_len + value_len;
    }
    return 0;
}
