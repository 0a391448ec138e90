/*
 * fuzz_quic_frames.c - the pure functions of quic/: the scan of a decrypted payload, the end of
 * coalesced packets, the worker index.
 *
 * They see every byte of the network before anything else has judged it. Checked: no read outside,
 * ids and values within a varint, at most one reported frame per two bytes, a coalesced length
 * within the datagram.
 */
#include "../../src/quic/quic_internal.h"

static void on_value(void *self, uint64_t type, uint64_t id, uint64_t value)
{
    size_t *count = self;
    PH_ASSERT(type <= PH_QUIC_STREAMS_BLOCKED_UNI && id <= PH_VARINT_MAX && value <= PH_VARINT_MAX);
    (*count)++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t count = 0;
    struct ph_quic_scan scan = {.self = &count, .on_value = on_value};
    ph_quic_scan_frames(&scan, data, size);
    PH_ASSERT(count * 2 <= size && scan.idle <= size);
    ngtcp2_version_cid vc;
    if (size > 0 && ngtcp2_pkt_decode_version_cid(&vc, data, size, PH_QUIC_CID_LEN) == 0) {
        size_t len = ph_quic_coalesced_len(data, size, vc.dcid, vc.dcidlen);
        PH_ASSERT(len <= size && len > 0);
    }
    int worker = ph_quic_packet_worker(data, size);
    PH_ASSERT(worker >= -1 && worker <= 65535);
    return 0;
}
