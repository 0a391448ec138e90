/*
 * h2_scan.c - frame heads of HTTP/2 as they come in, before nghttp2 acts on them: what a peer may
 * send without getting anywhere (RFC 9113 10.5).
 *
 *      in -> [preface] -> head -> judge -> payload -> head -> judge ...
 *
 * Bytes are looked at, not kept: nghttp2 gets all of them, at most one frame at a time, so that
 * nothing of a frame is acted on that is over a budget, and nothing at all after an error.
 *
 * Two budgets. Resets: streams that the peer cancels, together with those that it makes us reset
 * (what it asks for is work either way). Glitches: frames that make no progress. Frames that answer
 * ours (acknowledgements, windows for DATA that we sent) are free.
 *
 * nghttp2 forgets a stream that is over, and passes over whatever comes on it, because that may
 * have crossed a RST_STREAM. Here is remembered which streams that can be true of; elsewhere it
 * ends the connection.
 */
#include "h2_internal.h"

#define PREFACE_LEN ((size_t)NGHTTP2_CLIENT_MAGIC_LEN)
#define SETTINGS_ENTRY 6 /* bytes */
/* A window may be returned in steps of this many bytes. */
#define UPDATE_STEP 512

static bool has_flag(const struct ph_h2_conn *conn, uint8_t flag)
{
    return (conn->scan_head[4] & flag) != 0;
}

static bool charge_glitch(struct ph_h2_conn *conn)
{
    if (ph_bucket_take(&conn->glitches, 1, conn->now))
        return true;
    ph_count(conn->stats, limit_glitch);
    ph_h2_fail(conn, NGHTTP2_ENHANCE_YOUR_CALM);
    return false;
}

void ph_h2_charge_reset(struct ph_h2_conn *conn)
{
    if (conn->is_failed || ph_bucket_take(&conn->resets, 1, conn->now))
        return;
    ph_count(conn->stats, limit_cancel);
    ph_h2_fail(conn, NGHTTP2_ENHANCE_YOUR_CALM);
}

void ph_h2_scan_sent(struct ph_h2_conn *conn, size_t n)
{
    conn->updates_due += 2 + n / UPDATE_STEP; /* of the stream and of the connection */
}

/* The beginning or the continuation of a header block: bounded in bytes and in frames. */
static bool judge_block(struct ph_h2_conn *conn, size_t length, bool is_first)
{
    if (is_first) {
        conn->in_block = true;
        conn->block_since = conn->now;
        conn->block_bytes = 0;
        conn->block_frames = 0;
    } else {
        conn->block_frames++;
    }
    conn->block_bytes += length;
    if (conn->block_bytes <= conn->config->head_encoded &&
        conn->block_frames <= conn->config->continuations_max)
        return true;
    ph_count(conn->stats, limit_head);
    ph_h2_fail(conn, NGHTTP2_ENHANCE_YOUR_CALM);
    return false;
}

/* --- Streams that are over --- */

void ph_h2_scan_reset(struct ph_h2_conn *conn, int32_t id)
{
    if (id == conn->ended_id) /* with the frame that was wrong, or refused */
        return;
    int32_t *place = &conn->crossing[conn->crossing_next++ % PH_H2_CROSSING];
    conn->crossing_lost = PH_MAX(conn->crossing_lost, *place);
    *place = id;
}

/* What comes on this stream may have been sent before the client heard that it is over. An end of
 * it is its last frame. */
static bool is_crossing(struct ph_h2_conn *conn, int32_t id)
{
    if (id <= conn->crossing_lost)
        return true;
    if (conn->drain == PH_H2_DRAIN_FINAL && id > conn->goaway_id) /* RFC 9113 6.8 */
        return true;
    for (size_t i = 0; i < PH_H2_CROSSING; i++) {
        if (conn->crossing[i] != id)
            continue;
        if (has_flag(conn, NGHTTP2_FLAG_END_STREAM))
            conn->crossing[i] = 0;
        return true;
    }
    return false;
}

static void note_new(struct ph_h2_conn *conn, int32_t id)
{
    int32_t step = (id - conn->last_id) / 2;
    conn->used = (step < 64 ? conn->used << step : 0) | 1;
    conn->last_id = id;
}

static bool was_used(const struct ph_h2_conn *conn, int32_t id)
{
    int32_t back = (conn->last_id - id) / 2;
    return back < 64 && (conn->used >> back & 1) != 0;
}

/* HEADERS or DATA, perhaps on a stream that is over. */
static bool judge_stream(struct ph_h2_conn *conn)
{
    int32_t id = (int32_t)(ph_u32_get(conn->scan_head + 5) & INT32_MAX);
    bool is_headers = conn->scan_head[3] == NGHTTP2_HEADERS;
    if (conn->in_block || id % 2 == 0) /* an error in any case, which nghttp2 names */
        return true;
    if (has_flag(conn, NGHTTP2_FLAG_END_STREAM))
        conn->ended_id = id;
    if (id > conn->last_id) {
        if (is_headers)
            note_new(conn, id);
        return true;
    }
    const struct ph_h2_stream *stream = nghttp2_session_get_stream_user_data(conn->session, id);
    if (stream != NULL && !stream->is_reset)
        return true;
    /* While RST_STREAM waits for the socket, nghttp2 knows the stream. */
    if (nghttp2_session_get_stream_remote_close(conn->session, id) >= 0 || is_crossing(conn, id))
        return !is_headers || charge_glitch(conn);
    ph_count(conn->stats, protocol_errors);
    ph_h2_fail(conn, was_used(conn, id) ? NGHTTP2_STREAM_CLOSED    /* RFC 9113 5.1 */
                                        : NGHTTP2_PROTOCOL_ERROR); /* 5.1.1 */
    return false;
}

/* --- Frame heads --- */

static bool judge_settings(struct ph_h2_conn *conn, size_t length)
{
    if (length / SETTINGS_ENTRY > conn->config->settings_max) {
        ph_count(conn->stats, limit_frames);
        ph_h2_fail(conn, NGHTTP2_ENHANCE_YOUR_CALM);
        return false;
    }
    return has_flag(conn, NGHTTP2_FLAG_ACK) || charge_glitch(conn);
}

/* A complete frame head. false: the connection failed. */
static bool judge(struct ph_h2_conn *conn, size_t length)
{
    switch (conn->scan_head[3]) {
    case NGHTTP2_DATA:
        return judge_stream(conn) &&
               (length > 0 || has_flag(conn, NGHTTP2_FLAG_END_STREAM) || charge_glitch(conn));
    case NGHTTP2_HEADERS:
        return judge_stream(conn) && judge_block(conn, length, true);
    case NGHTTP2_CONTINUATION:
        return judge_block(conn, length, false);
    case NGHTTP2_RST_STREAM:
        ph_h2_charge_reset(conn);
        return !conn->is_failed;
    case NGHTTP2_SETTINGS:
        return judge_settings(conn, length);
    case NGHTTP2_WINDOW_UPDATE:
        if (conn->updates_due == 0)
            return charge_glitch(conn);
        conn->updates_due--;
        return true;
    default: /* PING, PRIORITY and whatever there is besides */
        return charge_glitch(conn);
    }
}

/* Nothing else may come within a header block, so the last frame of it is its end. */
static void end_frame(struct ph_h2_conn *conn)
{
    conn->scan_have = 0;
    if (has_flag(conn, NGHTTP2_FLAG_END_HEADERS) &&
        (conn->scan_head[3] == NGHTTP2_HEADERS || conn->scan_head[3] == NGHTTP2_CONTINUATION))
        conn->in_block = false;
}

size_t ph_h2_scan(struct ph_h2_conn *conn, const uint8_t *p, size_t n)
{
    if (!conn->has_preface) {
        size_t part = PH_MIN(n, PREFACE_LEN - conn->scan_have);
        conn->scan_have += part;
        if (conn->scan_have == PREFACE_LEN) {
            conn->has_preface = true;
            conn->scan_have = 0;
        }
        return part;
    }
    size_t used = 0;
    if (conn->scan_have < PH_H2_FRAME_HEAD) {
        used = PH_MIN(n, PH_H2_FRAME_HEAD - conn->scan_have);
        memcpy(conn->scan_head + conn->scan_have, p, used);
        conn->scan_have += used;
        if (conn->scan_have < PH_H2_FRAME_HEAD)
            return used;
        const uint8_t *head = conn->scan_head;
        conn->scan_left = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (!judge(conn, conn->scan_left))
            return 0;
    }
    size_t part = PH_MIN(n - used, conn->scan_left);
    conn->scan_left -= part;
    if (conn->scan_left == 0)
        end_frame(conn);
    return used + part;
}
