/*
 * wt_header.c - the few bytes in front of a data stream (draft-16 sections 4.2 and 4.3).
 *
 *      signal 0x41 (bidirectional) or type 0x54 (unidirectional), varint
 *      session id, varint: the CONNECT stream's id
 *
 * h3 reads the first varint, because it decides who gets the stream; the second is read here, byte
 * by byte if it comes that way, in any of its four lengths.
 */
#include "wt.h"

size_t ph_wt_stream_header_put(uint8_t *out, bool bidi, uint64_t session_id)
{
    uint8_t *p = ph_varint_put(out, bidi ? PH_WT_SIGNAL_BIDI : PH_WT_SIGNAL_UNI);
    p = ph_varint_put(p, session_id);
    return (size_t)(p - out);
}

int ph_wt_stream_header_feed(struct ph_varint_reader *reader, const uint8_t **p, const uint8_t *end,
                             uint64_t *session_id)
{
    if (!ph_varint_feed(reader, p, end))
        return 0;
    /* RFC 9000 section 2.1: the two low bits are 0 on a client's bidirectional stream. */
    if ((reader->value & 3) != 0)
        return PH_E_PROTO;
    *session_id = reader->value;
    return 1;
}
