/*
 * ws_internal.h - what the files of the WebSocket engine share: UTF-8 in pieces, messages that
 * grow, compression of single messages.
 */
#ifndef PH_WS_INTERNAL_H
#define PH_WS_INTERNAL_H

#include "http.h"

/* --- UTF-8 in pieces (ws_utf8.c) --- */

/* Zero is between two characters. */
struct ph_ws_utf8 {
    uint8_t need;   /* bytes that the character still misses */
    uint8_t lo, hi; /* what its next byte may be; meaningful while need > 0 */
};
/* false: with the first byte that no continuation could make valid. */
bool ph_ws_utf8_feed(struct ph_ws_utf8 *utf8, const uint8_t *p, size_t n);
static inline bool ph_ws_utf8_is_whole(const struct ph_ws_utf8 *utf8)
{
    return utf8->need == 0;
}

/* --- Masks (ws_mask.c) --- */

#define PH_WS_HEAD_MAX 10 /* bytes of a header without its key */

/* Where in the stream of frames we are. Zero is its begin. */
struct ph_ws_masks {
    uint8_t head[PH_WS_HEAD_MAX + 4]; /* of the next frame, while it is incomplete */
    size_t head_n;
    uint8_t key[4];
    size_t at;       /* byte of the key that is due */
    uint64_t left;   /* payload of the current frame that is to come */
    bool is_missing; /* a frame has no mask: nothing behind what was made is looked at */
};
/* Moves bytes of a client from [*p, end) into `to`: headers without mask bit and key, payload
 * unmasked. Returns how many were made; 0 when more is needed. `room` is at least PH_WS_HEAD_MAX.
 */
size_t ph_ws_unmask(struct ph_ws_masks *masks, uint8_t *to, size_t room, const uint8_t **p,
                    const uint8_t *end);

/* --- A message that grows (ws_deflate.c) --- */

/* Room for at least one byte behind buf->len and for `want` if the limit allows: doubles, so that
 * memory is at most twice what came. A message may outgrow `max` by one byte, to be seen as too
 * long. `*buf` may be NULL before the first. false: there is no memory, and it is as before. */
bool ph_ws_grow(struct ph_buf **buf, size_t want, size_t max);

/* --- permessage-deflate (ws_deflate.c) --- */

#define PH_WS_WINDOW_BITS 12 /* 4 KiB of history, what we choose where we may */
#define PH_WS_WINDOW_MIN 9   /* zlib has no window of 2^8 */
#define PH_WS_WINDOW_MAX 15

struct ph_ws_zip; /* compressors that the connections of one host share, as none keeps a context */
struct ph_ws_zip *ph_ws_zip_new(void);
void ph_ws_zip_free(struct ph_ws_zip *zip);
/* The compressed message without its last four bytes (RFC 7692 7.2.1), or NULL when it is not
 * smaller or there is no memory for it. Caller owns. */
struct ph_buf *ph_ws_zip_deflate(struct ph_ws_zip *zip, unsigned window_bits, const uint8_t *p,
                                 size_t n);

struct ph_ws_inflate; /* of one message that is being received */
/* NULL: there is no memory. */
struct ph_ws_inflate *ph_ws_zip_inflate(struct ph_ws_zip *zip);
/* Gives it back. NULL is allowed. */
void ph_ws_inflate_done(struct ph_ws_zip *zip, struct ph_ws_inflate *inflate);
/* Appends what these bytes stand for to `*buf`, of which no more than `max` + 1 bytes are ever
 * allocated. PH_E_LIMIT: past `max`; PH_E_MALFORMED; PH_E_INTERNAL: there is no memory. */
int ph_ws_inflate_feed(struct ph_ws_inflate *inflate, const uint8_t *p, size_t n,
                       struct ph_buf **buf, size_t max);
/* The message is complete: the four bytes that its sender left out. */
int ph_ws_inflate_end(struct ph_ws_inflate *inflate, struct ph_buf **buf, size_t max);

#endif
