/*
 * ws.c - one WebSocket connection, server side (RFC 6455): messages out of frames, frames out of
 * messages, the closing handshake, pings.
 *
 *      ph_ws_feed() -> masks off -> wslay (frames) -> [inflate] -> [UTF-8] -> on_message
 *      ph_ws_send() -> [deflate] -> wslay (frame header) -> on_out
 *
 * wslay judges lengths and fragmented control frames; reserved bits, opcodes, masking, the order of
 * fragments and everything above frames is judged here. A message is one buffer, filled as its
 * bytes come and handed on whole.
 *
 * States:  OPEN --close, fail, go_away--> CLOSING --peer's close, time--> OVER
 *               --peer's close, end of the tunnel, broken framing-------> OVER
 *
 * Invariants: on_closed once, then no on_message; on_over once, then nothing; at most max_queue
 * messages are with the owner, and a new one is begun only below queue_bytes, so that memory is
 * bounded by queue_bytes and one message; at most PH_WS_PONGS pongs wait to leave; a close frame is
 * sent once, and nothing after it. While the queue is full the peer's pong may wait behind its own
 * data, so its time stands still.
 */
#include "ws_internal.h"

#include <wslay/wslay.h>

/* Pongs on their way above which pings are answered by the latest alone (RFC 6455 5.5.3). */
#define PH_WS_PONGS 8
/* Largest payload of a control frame (RFC 6455 5.5). */
#define CONTROL_MAX 125
/* Messages up to this size share one buffer with their header: one piece on the way out. */
#define JOIN_MAX ((size_t)4096)
/* Compressed are messages that can gain by it, and that do not hold the thread for long. */
#define DEFLATE_MIN ((size_t)128)
#define DEFLATE_MAX ((size_t)1 << 20)
/* The first buffer of a message whose length was announced: all of it up to this. What does not
 * come costs addresses and no memory; longer ones grow with what comes. */
#define MESSAGE_FIRST ((size_t)1 << 20)

enum {
    CODE_NORMAL = 1000,
    CODE_AWAY = 1001,
    CODE_PROTOCOL = 1002,
    CODE_NONE = 1005,
    CODE_DATA = 1007,
    CODE_POLICY = 1008,
    CODE_TOO_BIG = 1009,
    CODE_INTERNAL = 1011
};

struct ph_ws_host {
    struct ph_ws_config config;
    struct ph_ws_zip *zip;
    struct ph_stats *stats;
};

struct ph_ws {
    struct ph_ws_host *host;
    const struct ph_ws_sink *sink;
    void *user;
    wslay_frame_context_ptr frames;
    bool deflate;
    unsigned server_bits;
    enum { WS_OPEN, WS_CLOSING, WS_OVER } state;
    bool closed_told;
    uint64_t now; /* as last told */

    const uint8_t *in, *in_end; /* borrowed: of the running feed, not yet taken by wslay */
    struct ph_ws_masks masks;

    /* The frame that is being received. */
    bool in_frame;
    uint64_t left;                /* bytes of its payload */
    struct wslay_frame_iocb held; /* the begin of a message that waits for room in the queue; its
                                   * bytes are wslay's until more is received */
    bool is_held;
    uint8_t control[CONTROL_MAX];
    size_t control_n;

    /* The message that is being received. */
    bool in_message, is_text;
    uint32_t frame_count;
    struct ph_buf *message;        /* NULL: nothing yet */
    struct ph_ws_inflate *inflate; /* NULL: it is not compressed */
    struct ph_ws_utf8 utf8;

    /* Messages with the owner: their sizes, a ring with a power of two. */
    size_t *sizes;
    uint32_t sizes_cap, sizes_head, queued;
    size_t queued_bytes;

    /* Bytes given to on_out, and of these the ones that left memory. */
    uint64_t out, sent;
    struct ph_slice payload;     /* borrowed: what wslay is to send now */
    struct ph_buf *head;         /* own: the header that it made, and a short payload */
    uint64_t pongs[PH_WS_PONGS]; /* a ring: `out` behind each pong on its way */
    unsigned pongs_head, pongs_n;
    bool has_late_pong; /* the answer to the latest ping found the ring full */
    uint8_t late_pong[CONTROL_MAX];
    size_t late_pong_n;

    /* Times, ns; PH_NEVER. */
    uint64_t ping_at;    /* the next ping */
    uint64_t ping_n;     /* payload of the latest */
    bool ping_waits;     /* it is not answered */
    uint64_t ping_mark;  /* `out` behind it */
    uint64_t pong_due;   /* once it has left */
    uint64_t close_mark; /* `out` behind our close frame */
    uint64_t close_due;  /* once it has left */
    bool close_is_ours;  /* the owner asked for it: what the peer answers is the end */
};

/* --- Host --- */

void ph_ws_config_default(struct ph_ws_config *config)
{
    *config = (struct ph_ws_config){
        .max_size = 16 * 1024 * 1024,
        .max_frames = 4096,
        .max_queue = 32,
        .queue_bytes = 1024 * 1024,
        .ping_interval = 20 * PH_SEC,
        .ping_timeout = 20 * PH_SEC,
        .close_timeout = 5 * PH_SEC,
        .deflate = true,
    };
}

struct ph_ws_host *ph_ws_host_new(const struct ph_ws_config *config, struct ph_stats *stats)
{
    struct ph_ws_host *host = ph_alloc(sizeof(*host));
    host->config = *config;
    host->stats = stats;
    host->zip = ph_ws_zip_new();
    return host;
}

void ph_ws_host_free(struct ph_ws_host *host)
{
    ph_ws_zip_free(host->zip);
    ph_free(host);
}

bool ph_ws_code_is_valid(uint32_t code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

/* --- Life --- */

/* What wslay reads: the rest of the running feed. Nothing there is an error in its terms. */
static ssize_t on_recv(uint8_t *to, size_t n, int flags, void *user)
{
    struct ph_ws *ws = user;
    (void)flags;
    n = ph_ws_unmask(&ws->masks, to, n, &ws->in, ws->in_end);
    return n > 0 ? (ssize_t)n : -1;
}

/* What wslay writes: a header, then the payload as it is. */
static ssize_t on_send(const uint8_t *data, size_t n, int flags, void *user)
{
    struct ph_ws *ws = user;
    (void)flags;
    if (data == ws->payload.p && n > 0 && ws->head->cap - ws->head->len < n)
        return (ssize_t)n; /* too long to be joined: it follows as a slice of its own */
    memcpy(ws->head->data + ws->head->len, data, n);
    ws->head->len += n;
    return (ssize_t)n;
}

struct ph_ws *ph_ws_new(struct ph_ws_host *host, const struct ph_ws_ask *ask,
                        const struct ph_ws_sink *sink, void *user, uint64_t now)
{
    static const struct wslay_frame_callbacks callbacks = {.send_callback = on_send,
                                                           .recv_callback = on_recv};
    struct ph_ws *ws = ph_alloc(sizeof(*ws));
    ws->host = host;
    ws->sink = sink;
    ws->user = user;
    ws->now = now;
    ws->deflate = ask->deflate;
    ws->server_bits = ask->server_bits;
    ws->pong_due = ws->close_due = PH_NEVER;
    ws->ping_at = host->config.ping_interval > 0 ? now + host->config.ping_interval : PH_NEVER;
    int rc = wslay_frame_context_init(&ws->frames, &callbacks, ws); /* a few hundred bytes */
    PH_ASSERT(rc == 0);
    ph_live_add(PH_LIVE_WS, 1);
    return ws;
}

static void drop_message(struct ph_ws *ws)
{
    ph_buf_unref(ws->message);
    ws->message = NULL;
    if (ws->inflate != NULL)
        ph_ws_inflate_done(ws->host->zip, ws->inflate);
    ws->inflate = NULL;
}

void ph_ws_free(struct ph_ws *ws)
{
    drop_message(ws);
    wslay_frame_context_free(ws->frames);
    ph_free(ws->sizes);
    ph_free(ws);
    ph_live_add(PH_LIVE_WS, -1);
}

/* --- Frames out --- */

/* Takes the reference. */
static void send_frame(struct ph_ws *ws, uint8_t opcode, uint8_t rsv, struct ph_slice payload)
{
    struct wslay_frame_iocb iocb = {.fin = 1,
                                    .rsv = rsv,
                                    .opcode = opcode,
                                    .payload_length = payload.n,
                                    .data = payload.p,
                                    .data_length = payload.n};
    bool is_joined = payload.n <= JOIN_MAX;
    ws->payload = payload;
    ws->head = ph_buf_new(10 + (is_joined ? payload.n : 0)); /* RFC 6455 5.2: 10 without a mask */
    ssize_t rc = wslay_frame_send(ws->frames, &iocb);
    PH_ASSERT(rc == (ssize_t)payload.n);
    struct ph_slice head = ph_slice_of(ws->head);
    ws->payload = (struct ph_slice){.buf = NULL};
    ws->head = NULL;
    ws->out += head.n + (is_joined ? 0 : payload.n);
    ws->sink->on_out(ws->user, head);
    if (!is_joined)
        ws->sink->on_out(ws->user, payload);
    else
        ph_buf_unref(payload.buf);
}

static void send_control(struct ph_ws *ws, uint8_t opcode, const void *data, size_t n)
{
    send_frame(ws, opcode, WSLAY_RSV_NONE, (struct ph_slice){.p = data, .n = n});
}

int ph_ws_send(struct ph_ws *ws, struct ph_slice message, bool text, uint64_t now)
{
    uint8_t rsv = WSLAY_RSV_NONE;
    ws->now = now;
    if (ws->state != WS_OPEN) {
        ph_buf_unref(message.buf);
        return PH_E_CLOSED;
    }
    if (ws->deflate && message.n >= DEFLATE_MIN && message.n <= DEFLATE_MAX) {
        struct ph_buf *small =
            ph_ws_zip_deflate(ws->host->zip, ws->server_bits, message.p, message.n);
        if (small != NULL) {
            ph_buf_unref(message.buf);
            message = ph_slice_of(small);
            rsv = WSLAY_RSV1_BIT;
        }
    }
    send_frame(ws, text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, rsv, message);
    return 0;
}

/* --- The end --- */

static void tell_closed(struct ph_ws *ws, uint32_t code, const char *reason, size_t n, bool clean,
                        bool local)
{
    struct ph_ws_end end = {
        .code = code, .reason = reason, .reason_len = n, .clean = clean, .local = local};
    if (ws->closed_told)
        return;
    ws->closed_told = true;
    drop_message(ws);
    ws->sink->on_closed(ws->user, &end);
}

static void be_over(struct ph_ws *ws)
{
    if (ws->state == WS_OVER)
        return;
    ws->state = WS_OVER;
    ws->ping_at = ws->pong_due = ws->close_due = PH_NEVER;
    ws->ping_waits = ws->has_late_pong = false;
    ws->sink->on_over(ws->user);
}

/* 1005: without a code. */
static void send_close(struct ph_ws *ws, uint32_t code, const char *reason, size_t n)
{
    uint8_t data[CONTROL_MAX];
    if (code == CODE_NONE) {
        send_control(ws, WSLAY_CONNECTION_CLOSE, data, 0);
        return;
    }
    n = ph_utf8_cut((const uint8_t *)reason, n, PH_WS_REASON_MAX);
    ph_u16_put(data, (uint16_t)code);
    if (n > 0)
        memcpy(data + 2, reason, n);
    send_control(ws, WSLAY_CONNECTION_CLOSE, data, 2 + n);
}

/* Closes our side; the peer has some time to close its own, once it can have heard of it. */
static void begin_close(struct ph_ws *ws, uint32_t code, const char *reason, size_t n)
{
    ws->state = WS_CLOSING;
    ws->ping_at = ws->pong_due = PH_NEVER;
    ws->ping_waits = ws->has_late_pong = false;
    send_close(ws, code, reason, n);
    ws->close_mark = ws->out;
    ws->close_due = ws->sent >= ws->out ? ws->now + ws->host->config.close_timeout : PH_NEVER;
}

/* RFC 6455 7.1.7. When frames can still be told apart, the peer's close is waited for, so that what
 * it sends meanwhile does not cut off our close frame. */
static void fail(struct ph_ws *ws, uint32_t code, const char *reason)
{
    size_t n = strlen(reason);
    bool was_open = ws->state == WS_OPEN;
    if (was_open)
        begin_close(ws, code, reason, n);
    tell_closed(ws, was_open ? code : PH_WS_CODE_LOST, was_open ? reason : "", was_open ? n : 0,
                false, true);
    drop_message(ws);
    if (code == CODE_PROTOCOL)
        be_over(ws);
}

static void break_protocol(struct ph_ws *ws, const char *reason)
{
    ph_count(ws->host->stats, protocol_errors);
    fail(ws, CODE_PROTOCOL, reason);
}

void ph_ws_close(struct ph_ws *ws, uint32_t code, const char *reason, size_t n, uint64_t now)
{
    ws->now = now;
    if (ws->state != WS_OPEN)
        return;
    ws->close_is_ours = true;
    begin_close(ws, code, reason, n);
}

void ph_ws_go_away(struct ph_ws *ws, uint64_t now)
{
    static const char reason[] = "going away";
    ws->now = now;
    if (ws->state != WS_OPEN)
        return;
    begin_close(ws, CODE_AWAY, reason, sizeof(reason) - 1);
    tell_closed(ws, CODE_AWAY, reason, sizeof(reason) - 1, false, true);
}

void ph_ws_eof(struct ph_ws *ws, uint64_t now)
{
    ws->now = now;
    tell_closed(ws, PH_WS_CODE_LOST, "", 0, false, ws->close_is_ours);
    be_over(ws);
}

/* --- Control frames --- */

static void send_pong(struct ph_ws *ws, const uint8_t *data, size_t n)
{
    while (ws->pongs_n > 0 && ws->pongs[ws->pongs_head] <= ws->sent) {
        ws->pongs_head = (ws->pongs_head + 1) % PH_WS_PONGS;
        ws->pongs_n--;
    }
    if (ws->pongs_n == PH_WS_PONGS) {
        ph_count(ws->host->stats, limit_ws_pongs);
        ws->has_late_pong = true;
        ws->late_pong_n = n;
        if (n > 0)
            memcpy(ws->late_pong, data, n);
        return;
    }
    ws->has_late_pong = false;
    send_control(ws, WSLAY_PONG, data, n);
    ws->pongs[(ws->pongs_head + ws->pongs_n++) % PH_WS_PONGS] = ws->out;
}

static void got_pong(struct ph_ws *ws)
{
    uint8_t want[8];
    ph_u32_put(want, (uint32_t)(ws->ping_n >> 32));
    ph_u32_put(want + 4, (uint32_t)ws->ping_n);
    if (!ws->ping_waits || ws->control_n != sizeof(want) ||
        memcmp(ws->control, want, sizeof(want)) != 0)
        return; /* unsolicited, or late: no matter (RFC 6455 5.5.3) */
    ws->ping_waits = false;
    ws->pong_due = PH_NEVER;
    ws->ping_at = ws->now + ws->host->config.ping_interval;
}

static void got_close(struct ph_ws *ws)
{
    uint32_t code = ws->control_n >= 2 ? ph_u16_get(ws->control) : CODE_NONE;
    const char *reason = (const char *)ws->control + 2;
    size_t n = ws->control_n >= 2 ? ws->control_n - 2 : 0;
    if (ws->control_n == 1 || (ws->control_n > 1 && !ph_ws_code_is_valid(code))) {
        break_protocol(ws, "invalid close code");
        return;
    }
    if (!ph_utf8_is_valid(ws->control + 2, n)) {
        ph_count(ws->host->stats, protocol_errors);
        fail(ws, CODE_DATA, "the reason is not UTF-8");
        be_over(ws);
        return;
    }
    if (ws->state == WS_OPEN) /* what it said comes back: browsers show it as the end's */
        send_close(ws, code, reason, n);
    tell_closed(ws, code, reason, n, true, ws->close_is_ours);
    be_over(ws);
}

static void got_control(struct ph_ws *ws, uint8_t opcode)
{
    if (opcode == WSLAY_CONNECTION_CLOSE)
        got_close(ws);
    else if (opcode == WSLAY_PING && ws->state == WS_OPEN)
        send_pong(ws, ws->control, ws->control_n);
    else if (opcode == WSLAY_PONG)
        got_pong(ws);
}

/* --- Messages in --- */

static bool has_room(const struct ph_ws *ws)
{
    const struct ph_ws_config *config = &ws->host->config;
    return ws->queued < config->max_queue && ws->queued_bytes < config->queue_bytes;
}

static void note_queued(struct ph_ws *ws, size_t n)
{
    if (ws->queued == ws->sizes_cap) {
        uint32_t cap = PH_MAX(ws->sizes_cap * 2, (uint32_t)8);
        ws->sizes =
            ph_queue_grow(ws->sizes, sizeof(*ws->sizes), ws->sizes_cap, ws->sizes_head, cap);
        ws->sizes_cap = cap;
        ws->sizes_head = 0;
    }
    ws->sizes[(ws->sizes_head + ws->queued++) & (ws->sizes_cap - 1)] = n;
    ws->queued_bytes += n;
}

void ph_ws_consume(struct ph_ws *ws, size_t messages)
{
    for (; messages > 0 && ws->queued > 0; messages--) {
        ws->queued_bytes -= ws->sizes[ws->sizes_head];
        ws->sizes_head = (ws->sizes_head + 1) & (ws->sizes_cap - 1);
        ws->queued--;
    }
}

/* What is wrong with a frame, by its header; NULL: nothing. */
static const char *judge(const struct ph_ws *ws, const struct wslay_frame_iocb *frame)
{
    bool is_control = wslay_is_ctrl_frame(frame->opcode);
    bool may_compress = ws->deflate && !is_control && frame->opcode != WSLAY_CONTINUATION_FRAME;
    if ((frame->rsv & (WSLAY_RSV2_BIT | WSLAY_RSV3_BIT)) != 0 ||
        ((frame->rsv & WSLAY_RSV1_BIT) != 0 && !may_compress))
        return "a reserved bit is set";
    switch (frame->opcode) {
    case WSLAY_CONTINUATION_FRAME:
        return ws->in_message ? NULL : "nothing to continue";
    case WSLAY_TEXT_FRAME:
    case WSLAY_BINARY_FRAME:
        return ws->in_message ? "the message before is not complete" : NULL;
    case WSLAY_CONNECTION_CLOSE:
    case WSLAY_PING:
    case WSLAY_PONG:
        return NULL;
    default:
        return "unknown opcode";
    }
}

static void too_big(struct ph_ws *ws)
{
    ph_count(ws->host->stats, limit_ws_size);
    fail(ws, CODE_TOO_BIG, "the message is too big");
}

static void no_memory(struct ph_ws *ws)
{
    fail(ws, CODE_INTERNAL, "no memory for the message");
}

static void begin_inflate(struct ph_ws *ws)
{
    ws->inflate = ph_ws_zip_inflate(ws->host->zip);
    if (ws->inflate == NULL)
        no_memory(ws);
}

/* The header of a data frame. */
static void begin_data(struct ph_ws *ws, const struct wslay_frame_iocb *frame)
{
    const struct ph_ws_config *config = &ws->host->config;
    if (frame->opcode != WSLAY_CONTINUATION_FRAME) {
        ws->in_message = true;
        ws->is_text = frame->opcode == WSLAY_TEXT_FRAME;
        ws->frame_count = 0;
        ws->utf8 = (struct ph_ws_utf8){.need = 0};
        if (ws->state == WS_OPEN && (frame->rsv & WSLAY_RSV1_BIT) != 0)
            begin_inflate(ws);
    }
    if (ws->state != WS_OPEN)
        return;
    if (++ws->frame_count > config->max_frames) {
        ph_count(ws->host->stats, limit_ws_frames);
        fail(ws, CODE_POLICY, "too many frames in a message");
        return;
    }
    size_t have = ws->message != NULL ? ws->message->len : 0;
    if (ws->inflate == NULL && frame->payload_length > config->max_size - have) {
        too_big(ws);
        return;
    }
    if (ws->inflate == NULL && frame->payload_length > 0) {
        size_t want = (size_t)PH_MIN(frame->payload_length, (uint64_t)MESSAGE_FIRST);
        if (!ph_ws_grow(&ws->message, want, config->max_size))
            no_memory(ws);
    }
}

/* What the bytes behind `before` mean, `rc` apart: text that is wrong is so however it came, also
 * when the same piece makes it too long. */
static int judge_text(struct ph_ws *ws, size_t before, int rc)
{
    if (!ws->is_text || ws->message == NULL)
        return rc;
    bool is_right =
        ph_ws_utf8_feed(&ws->utf8, ws->message->data + before, ws->message->len - before);
    return is_right ? rc : PH_E_MALFORMED;
}

/* Appends to the message. 0, PH_E_LIMIT, PH_E_MALFORMED, PH_E_INTERNAL (no memory). */
static int take_payload(struct ph_ws *ws, const uint8_t *p, size_t n)
{
    size_t before = ws->message != NULL ? ws->message->len : 0, max = ws->host->config.max_size;
    int rc = 0;
    if (ws->inflate != NULL) {
        rc = ph_ws_inflate_feed(ws->inflate, p, n, &ws->message, max);
    } else {
        if ((ws->message == NULL || ws->message->cap - ws->message->len < n) &&
            !ph_ws_grow(&ws->message, n, max))
            return PH_E_INTERNAL;
        ph_copy(ws->host->stats, ws->message->data + ws->message->len, p, n);
        ws->message->len += n;
    }
    return judge_text(ws, before, rc);
}

/* The last frame of a message is complete. */
static int end_message(struct ph_ws *ws)
{
    size_t before = ws->message != NULL ? ws->message->len : 0;
    int rc = 0;
    if (ws->inflate != NULL) {
        rc = ph_ws_inflate_end(ws->inflate, &ws->message, ws->host->config.max_size);
        rc = judge_text(ws, before, rc);
    }
    if (rc == 0 && ws->is_text && !ph_ws_utf8_is_whole(&ws->utf8))
        rc = PH_E_MALFORMED;
    if (rc < 0)
        return rc;
    struct ph_buf *message = ws->message;
    ws->message = NULL;
    drop_message(ws);
    note_queued(ws, message != NULL ? message->len : 0);
    ws->sink->on_message(ws->user, message, ws->is_text);
    return 0;
}

static void got_data(struct ph_ws *ws, const struct wslay_frame_iocb *piece)
{
    bool is_last = piece->fin != 0 && ws->left == 0;
    int rc = 0;
    /* A pong cannot come in the middle of a frame: that the frame goes on is as good a sign. */
    if (ws->pong_due != PH_NEVER && piece->data_length > 0)
        ws->pong_due = ws->now + ws->host->config.ping_timeout;
    if (ws->state == WS_OPEN && piece->data_length > 0)
        rc = take_payload(ws, piece->data, piece->data_length);
    if (rc == 0 && ws->state == WS_OPEN && is_last)
        rc = end_message(ws);
    if (is_last)
        ws->in_message = false;
    if (rc == PH_E_LIMIT) {
        too_big(ws);
    } else if (rc == PH_E_INTERNAL) {
        no_memory(ws);
    } else if (rc < 0) {
        ph_count(ws->host->stats, protocol_errors);
        fail(ws, CODE_DATA, ws->is_text ? "the text is not UTF-8" : "the data cannot be inflated");
    }
}

/* A frame's header with the first bytes of its payload, or some of the rest. */
static void got_piece(struct ph_ws *ws, const struct wslay_frame_iocb *piece)
{
    bool is_control = wslay_is_ctrl_frame(piece->opcode);
    if (!ws->in_frame) {
        const char *fault = judge(ws, piece);
        if (fault != NULL) {
            break_protocol(ws, fault);
            return;
        }
        if (!is_control && !ws->in_message && ws->state == WS_OPEN && !has_room(ws)) {
            if (!ws->is_held)
                ph_count(ws->host->stats, limit_ws_queue);
            ws->held = *piece;
            ws->is_held = true;
            return;
        }
        ws->left = piece->payload_length;
        ws->control_n = 0;
        if (!is_control)
            begin_data(ws, piece);
    }
    ws->left -= piece->data_length;
    ws->in_frame = ws->left > 0;
    if (!is_control) {
        got_data(ws, piece);
        return;
    }
    memcpy(ws->control + ws->control_n, piece->data, piece->data_length);
    ws->control_n += piece->data_length;
    if (!ws->in_frame)
        got_control(ws, piece->opcode);
}

bool ph_ws_wants_input(const struct ph_ws *ws)
{
    return ws->state != WS_OVER && (!ws->is_held || has_room(ws) || ws->state == WS_CLOSING);
}

/* The message that waited has room now. */
static void release_held(struct ph_ws *ws)
{
    struct wslay_frame_iocb held = ws->held;
    ws->is_held = false;
    if (ws->pong_due != PH_NEVER) /* its time stood still */
        ws->pong_due = ws->now + ws->host->config.ping_timeout;
    got_piece(ws, &held);
}

size_t ph_ws_feed(struct ph_ws *ws, const uint8_t *data, size_t n, uint64_t now)
{
    ws->now = now;
    ws->in = data;
    ws->in_end = n > 0 ? data + n : data;
    if (ws->is_held && ph_ws_wants_input(ws))
        release_held(ws);
    while (!ws->is_held && ws->state != WS_OVER) {
        struct wslay_frame_iocb piece = {.fin = 0};
        ssize_t rc = wslay_frame_recv(ws->frames, &piece);
        if (rc == WSLAY_ERR_WANT_READ && !ws->masks.is_missing)
            break;
        if (rc == WSLAY_ERR_WANT_READ)
            break_protocol(ws, "the frame is not masked");
        else if (rc < 0)
            break_protocol(ws, "the frame is malformed");
        else
            got_piece(ws, &piece);
    }
    size_t eaten = ws->state == WS_OVER ? n : n - (size_t)(ws->in_end - ws->in);
    ws->in = ws->in_end = NULL;
    return eaten;
}

/* --- Time --- */

void ph_ws_sent(struct ph_ws *ws, size_t n, uint64_t now)
{
    uint64_t before = ws->sent;
    ws->now = now;
    ws->sent += n;
    PH_ASSERT(ws->sent <= ws->out);
    if (ws->ping_waits && before < ws->ping_mark && ws->sent >= ws->ping_mark &&
        ws->host->config.ping_timeout > 0)
        ws->pong_due = now + ws->host->config.ping_timeout;
    if (ws->state == WS_CLOSING && before < ws->close_mark && ws->sent >= ws->close_mark)
        ws->close_due = now + ws->host->config.close_timeout;
}

static bool is_pong_due(const struct ph_ws *ws)
{
    return ws->has_late_pong && ws->pongs_n > 0 && ws->pongs[ws->pongs_head] <= ws->sent;
}

uint64_t ph_ws_next(const struct ph_ws *ws)
{
    uint64_t at = ws->close_due;
    if (is_pong_due(ws))
        return ws->now;
    if (!ws->is_held) /* the queue is full: the pong may be behind what is not read */
        at = PH_MIN(at, ws->pong_due);
    return PH_MIN(at, ws->ping_at);
}

static void send_ping(struct ph_ws *ws)
{
    const struct ph_ws_config *config = &ws->host->config;
    uint8_t data[8];
    ws->ping_n++;
    ph_u32_put(data, (uint32_t)(ws->ping_n >> 32));
    ph_u32_put(data + 4, (uint32_t)ws->ping_n);
    ws->ping_waits = true;
    send_control(ws, WSLAY_PING, data, sizeof(data));
    ws->ping_mark = ws->out;
    /* With a limit for the answer, the next one is sent after it. */
    ws->ping_at = config->ping_timeout > 0 ? PH_NEVER : ws->now + config->ping_interval;
}

void ph_ws_expire(struct ph_ws *ws, uint64_t now)
{
    ws->now = now;
    if (is_pong_due(ws))
        send_pong(ws, ws->late_pong, ws->late_pong_n);
    if (!ws->is_held && now >= ws->pong_due) {
        ph_count(ws->host->stats, timeouts_ws_ping);
        fail(ws, CODE_INTERNAL, "keepalive ping timeout");
    }
    if (now >= ws->ping_at)
        send_ping(ws);
    if (now >= ws->close_due) {
        ph_count(ws->host->stats, timeouts_ws_close);
        tell_closed(ws, PH_WS_CODE_LOST, "", 0, false, ws->close_is_ours);
        be_over(ws);
    }
}
