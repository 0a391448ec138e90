/*
 * h2.c - one HTTP/2 connection on nghttp2: its life, its clocks, its end; the engine table.
 *
 *      in queue -> h2_scan.c -> nghttp2 -> h2_request.c -> exchanges -> sink
 *      owner's answers -> h2_reply.c -> nghttp2 -> out queue
 *
 * Sans-I/O: bytes and the time come in through feed, eof, sent and expire; only these call the
 * sink. nghttp2's callbacks record (fresh requests, ended exchanges) and hand on body bytes, which
 * are theirs only for the call.
 *
 * Invariants: at most max_streams streams are alive, and one is until its exchange has ended and
 * its last byte has left; unconsumed body bytes stay within the windows; the out queue holds no
 * more than PH_H2_OUT_MAX and a frame, except for a last word; after an error nothing more is read,
 * whatever nghttp2 would make of it.
 *
 * A drain follows RFC 9113 6.8: GOAWAY with the largest id, and a PING; when that is answered (or
 * after DRAIN_WAIT) GOAWAY with the real one; and when no stream is left, the end.
 */
#include "h2_internal.h"

/* The second GOAWAY does not wait longer for an answer to the PING. */
#define DRAIN_WAIT (1 * PH_SEC)

void ph_h2_config_default(struct ph_h2_config *config)
{
    *config = (struct ph_h2_config){
        .limits = {.head_bytes = 65536, .head_fields = 100, .target_bytes = 8192},
        .max_body = 16 * 1024 * 1024,
        .head_encoded = 65536,
        .header_timeout = 10 * PH_SEC,
        .body_timeout = 30 * PH_SEC,
        .idle_timeout = 60 * PH_SEC,
        .write_stall_timeout = 60 * PH_SEC,
        .min_send_rate = 256,
        .max_streams = 128,
        .max_frame = 16384,
        .header_table = 4096,
        .settings_max = 32,
        .continuations_max = 8,
        .replies_max = 1000,
        .stream_window = 256 * 1024,
        .conn_window = 1024 * 1024,
        .reset_burst = 1000,
        .reset_rate = 33,
        .glitch_burst = 10000,
        .glitch_rate = 330,
    };
}

static struct ph_h2_conn *conn_of(struct ph_tcp_engine *engine)
{
    return PH_CONTAINER(engine, struct ph_h2_conn, engine);
}

static const struct ph_h2_conn *const_conn_of(const struct ph_tcp_engine *engine)
{
    return PH_CONTAINER((uintptr_t)engine, const struct ph_h2_conn, engine);
}

/* --- Streams --- */

struct ph_h2_stream *ph_h2_stream_new(struct ph_h2_conn *conn, int32_t id)
{
    struct ph_h2_stream *stream = ph_alloc(sizeof(*stream));
    ph_live_add(PH_LIVE_H2_STREAM, 1);
    ph_exchange_init(&stream->ex, &ph_h2_ops, conn->sink);
    stream->ex.path = conn->path;
    stream->ex.tls = conn->tls;
    stream->conn = conn;
    stream->id = id;
    stream->is_open = true;
    ph_sliceq_init(&stream->body);
    ph_list_append(&conn->streams, &stream->link);
    stream->ex.siblings = ++conn->stream_count;
    conn->idle_since = PH_NEVER;
    ph_h2_check(conn, nghttp2_session_set_stream_user_data(conn->session, id, stream));
    return stream;
}

static void stream_free(struct ph_h2_stream *stream)
{
    struct ph_h2_conn *conn = stream->conn;
    ph_list_remove(&stream->link);
    ph_list_remove(&stream->done);
    conn->stream_count--;
    if (conn->stream_count == 0)
        conn->idle_since = conn->now;
    ph_sliceq_fini(&stream->body);
    ph_fields_fini(&stream->trailers);
    ph_exchange_fini(&stream->ex);
    ph_free(stream);
    ph_live_add(PH_LIVE_H2_STREAM, -1);
}

void ph_h2_stream_settle(struct ph_h2_stream *stream)
{
    if (stream->is_ended && !stream->is_open && stream->pieces == 0 &&
        !ph_link_is_on(&stream->done))
        ph_list_append(&stream->conn->dead, &stream->done);
}

void ph_h2_stream_end(struct ph_h2_stream *stream, bool clean, uint64_t code)
{
    struct ph_h2_conn *conn = stream->conn;
    if (stream->is_ended)
        return;
    stream->is_ended = true;
    stream->end_clean = clean;
    stream->end_code = code;
    stream->ex.is_aborted |= !clean;
    stream->in = PH_H2_IN_END;
    if (stream->is_building)
        ph_head_builder_fini(&stream->builder);
    stream->is_building = false;
    ph_list_remove(&stream->fresh);
    ph_list_remove(&stream->timer);
    ph_list_remove(&stream->stall);
    ph_sliceq_fini(&stream->body);
    if (stream->unconsumed > 0 && !conn->is_failed)
        ph_h2_check(conn, nghttp2_session_consume_connection(conn->session, stream->unconsumed));
    stream->unconsumed = 0;
    ph_list_append(&conn->ended, &stream->done);
}

void ph_h2_stream_reset(struct ph_h2_stream *stream, uint32_t code, bool is_fault)
{
    struct ph_h2_conn *conn = stream->conn;
    if (stream->is_open && !stream->is_reset && !conn->is_failed) {
        stream->is_reset = true;
        ph_h2_check(conn,
                    nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, stream->id, code));
        if (is_fault) {
            ph_count(conn->stats, protocol_errors);
            ph_h2_charge_reset(conn);
        }
    }
    ph_h2_stream_end(stream, false, code);
}

/* --- The end of a connection --- */

bool ph_h2_check(struct ph_h2_conn *conn, int rv)
{
    if (rv >= 0)
        return true;
    if (!conn->is_aborted)
        ph_log(PH_LOG_DEBUG, "h2: connection aborted error=\"%s\"", nghttp2_strerror(rv));
    conn->is_aborted = true;
    return false;
}

void ph_h2_fail(struct ph_h2_conn *conn, uint32_t code)
{
    if (conn->is_failed)
        return;
    conn->is_failed = true;
    ph_log(PH_LOG_DEBUG, "h2: connection error code=0x%x", code);
    ph_h2_check(conn, nghttp2_session_terminate_session(conn->session, code));
}

static void goaway(struct ph_h2_conn *conn)
{
    conn->goaway_id = nghttp2_session_get_last_proc_stream_id(conn->session);
    ph_h2_check(conn, nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, conn->goaway_id,
                                            NGHTTP2_NO_ERROR, NULL, 0));
}

void ph_h2_drain_final(struct ph_h2_conn *conn)
{
    if (conn->drain == PH_H2_DRAIN_FINAL || conn->is_failed || conn->is_closing)
        return;
    conn->drain = PH_H2_DRAIN_FINAL;
    conn->drain_at = PH_NEVER;
    goaway(conn);
}

static bool is_drained(const struct ph_h2_conn *conn)
{
    return conn->drain == PH_H2_DRAIN_FINAL && conn->stream_count == 0;
}

/* --- What is due --- */

static bool is_work_due(const struct ph_h2_conn *conn)
{
    return !ph_list_is_empty(&conn->ended) || !ph_list_is_empty(&conn->dead) ||
           !ph_list_is_empty(&conn->fresh) || ph_h2_reply_is_due(conn) ||
           ((conn->is_failed || is_drained(conn)) && !conn->is_closing);
}

static void tell_ended(struct ph_h2_stream *stream)
{
    const struct ph_exchange_sink *sink = stream->ex.sink;
    ph_list_remove(&stream->done);
    if (stream->is_exchange)
        sink->on_closed(sink->self, &stream->ex, stream->end_clean, stream->end_code);
    stream->is_exchange = false;
    ph_h2_stream_settle(stream);
}

/* Nobody is answered any more. */
static void end_all(struct ph_h2_conn *conn)
{
    for (struct ph_link *link = conn->streams.next; link != &conn->streams; link = link->next)
        ph_h2_stream_end(PH_CONTAINER(link, struct ph_h2_stream, link), false,
                         NGHTTP2_INTERNAL_ERROR);
}

static void conn_work(struct ph_h2_conn *conn)
{
    ph_h2_reply_work(conn);
    if (!conn->is_failed && !conn->is_closing)
        ph_h2_request_dispatch(conn);
    if (conn->is_failed && !conn->is_closing) {
        conn->is_closing = true;
        end_all(conn);
    }
    struct ph_link *link;
    while ((link = conn->ended.next) != &conn->ended)
        tell_ended(PH_CONTAINER(link, struct ph_h2_stream, done));
    while ((link = conn->dead.next) != &conn->dead)
        stream_free(PH_CONTAINER(link, struct ph_h2_stream, done));
    if (is_drained(conn))
        conn->is_closing = true;
}

/* --- Time --- */

static uint64_t after(uint64_t since, uint64_t timeout)
{
    return timeout == 0 || since == PH_NEVER ? PH_NEVER : since + timeout;
}

/* A header block stops everything else on the connection (RFC 9113 4.3), and so does a preface that
 * does not come. */
static uint64_t head_deadline(const struct ph_h2_conn *conn)
{
    bool is_waiting = conn->in_block || !conn->has_preface;
    return is_waiting ? after(conn->block_since, conn->config->header_timeout) : PH_NEVER;
}

static uint64_t idle_deadline(const struct ph_h2_conn *conn)
{
    return conn->drain == PH_H2_DRAIN_FINAL ? PH_NEVER
                                            : after(conn->idle_since, conn->config->idle_timeout);
}

static uint64_t engine_next(const struct ph_tcp_engine *engine)
{
    const struct ph_h2_conn *conn = const_conn_of(engine);
    if (conn->is_aborted)
        return PH_NEVER;
    if (conn->has_untimed || is_work_due(conn) ||
        (conn->has_more && conn->out->unsent < PH_H2_OUT_MAX))
        return conn->now;
    if (conn->is_closing)
        return PH_NEVER;
    uint64_t at = PH_MIN(head_deadline(conn), idle_deadline(conn));
    if (!ph_list_is_empty(&conn->bodies))
        at = PH_MIN(at, PH_CONTAINER(conn->bodies.next, struct ph_h2_stream, timer)->deadline);
    if (!ph_list_is_empty(&conn->stalls))
        at = PH_MIN(at, PH_CONTAINER(conn->stalls.next, struct ph_h2_stream, stall)->stall_at);
    return PH_MIN(at, conn->drain_at);
}

static void expire_bodies(struct ph_h2_conn *conn)
{
    while (!ph_list_is_empty(&conn->bodies)) {
        struct ph_h2_stream *stream = PH_CONTAINER(conn->bodies.next, struct ph_h2_stream, timer);
        if (stream->deadline > conn->now)
            return;
        ph_list_remove(&stream->timer);
        if (stream->ex.out == PH_EX_DONE) /* it is not cut for a body that means nothing any more */
            continue;
        ph_count(conn->stats, timeouts_body);
        if (stream->out_head) {
            ph_h2_stream_reset(stream, NGHTTP2_CANCEL, false);
            continue;
        }
        ph_h2_reply_error(stream, 408);
        ph_h2_stream_end(stream, false, NGHTTP2_CANCEL);
    }
}

static void expire_conn(struct ph_h2_conn *conn)
{
    if (head_deadline(conn) <= conn->now) {
        ph_count(conn->stats, timeouts_header);
        if (conn->has_preface)
            ph_h2_fail(conn, NGHTTP2_ENHANCE_YOUR_CALM);
        else
            conn->is_closing = true; /* it does not seem to speak HTTP/2 */
    } else if (idle_deadline(conn) <= conn->now) {
        ph_count(conn->stats, timeouts_idle);
        ph_h2_drain_final(conn);
    }
    if (conn->drain_at <= conn->now)
        ph_h2_drain_final(conn);
}

/* The owner says the time; it is right until the call ends. */
static void begin_call(struct ph_h2_conn *conn, uint64_t now)
{
    conn->now = now;
    conn->is_told = true;
    if (!conn->has_untimed)
        return;
    conn->has_untimed = false;
    ph_h2_request_time(conn);
    ph_h2_reply_time(conn);
    if (conn->is_drain_untimed)
        conn->drain_at = now + DRAIN_WAIT;
    conn->is_drain_untimed = false;
}

static void end_call(struct ph_h2_conn *conn)
{
    conn->is_told = false;
}

static void engine_expire(struct ph_tcp_engine *engine, uint64_t now)
{
    struct ph_h2_conn *conn = conn_of(engine);
    begin_call(conn, now);
    conn_work(conn);
    if (!conn->is_closing && !conn->is_aborted) {
        expire_bodies(conn);
        ph_h2_reply_expire(conn);
        expire_conn(conn);
        conn_work(conn);
    }
    end_call(conn);
}

/* --- The owner's calls --- */

static bool engine_wants_input(const struct ph_tcp_engine *engine)
{
    const struct ph_h2_conn *conn = const_conn_of(engine);
    return !conn->is_failed && !conn->is_closing && !conn->is_aborted;
}

/* A request without a word about its priority takes turns with others, as in HTTP/3: nghttp2 would
 * answer it whole before the next, which is not fair to those behind a proxy (RFC 9218 13.1). It
 * has no function for that, so it hears it as the client would say it, between two frames. */
static ssize_t take_turns(struct ph_h2_conn *conn)
{
    static const char field[] = {'u', '=', '3', ',', 'i'};
    uint8_t frame[PH_H2_FRAME_HEAD + 4 + sizeof(field)] = {
        [2] = 4 + sizeof(field), [3] = NGHTTP2_PRIORITY_UPDATE};
    ph_u32_put(frame + PH_H2_FRAME_HEAD, (uint32_t)conn->unsignaled);
    memcpy(frame + PH_H2_FRAME_HEAD + 4, field, sizeof(field));
    ssize_t rv = nghttp2_session_mem_recv(conn->session, frame, sizeof(frame));
    conn->unsignaled = 0;
    return rv;
}

/* One frame, or what is there of it. Whatever it made nghttp2 say is taken from it before the next,
 * so that an end that it wants is known; unless the peer reads too slowly. false: the connection is
 * over. */
static bool read_frame(struct ph_h2_conn *conn, const uint8_t *p, size_t n)
{
    ssize_t rv = nghttp2_session_mem_recv(conn->session, p, n);
    if (rv >= 0 && conn->unsignaled != 0 && !conn->is_failed)
        rv = take_turns(conn);
    if (rv == NGHTTP2_ERR_FLOODED) { /* replies_max */
        ph_count(conn->stats, limit_frames);
        ph_h2_fail(conn, NGHTTP2_ENHANCE_YOUR_CALM);
    } else if (rv == NGHTTP2_ERR_BAD_CLIENT_MAGIC) {
        ph_count(conn->stats, protocol_errors);
        conn->is_closing = true;
    } else if (ph_h2_check(conn, (int)rv) &&
               nghttp2_session_get_outbound_queue_size(conn->session) > 0) {
        ph_h2_reply_flush(conn);
    }
    return engine_wants_input(&conn->engine);
}

static size_t read_run(struct ph_h2_conn *conn, const uint8_t *data, size_t n)
{
    size_t used = 0;
    while (used < n) {
        size_t part = ph_h2_scan(conn, data + used, n - used);
        if (part == 0 || !read_frame(conn, data + used, part))
            break;
        used += part;
    }
    return used;
}

static void engine_feed(struct ph_tcp_engine *engine, struct ph_sliceq *in, uint64_t now)
{
    struct ph_h2_conn *conn = conn_of(engine);
    struct iovec iov;
    begin_call(conn, now);
    conn_work(conn);
    while (engine_wants_input(engine) && ph_sliceq_gather(in, &iov, 1, SIZE_MAX) == 1) {
        size_t n = read_run(conn, iov.iov_base, iov.iov_len);
        ph_sliceq_advance(in, n);
        ph_sliceq_drop(in, n);
        conn_work(conn);
    }
    end_call(conn);
}

static void engine_flush(struct ph_tcp_engine *engine)
{
    struct ph_h2_conn *conn = conn_of(engine);
    ph_h2_reply_flush(conn);
}

/* Nobody half-closes a connection of HTTP/2: its client is gone. */
static void engine_eof(struct ph_tcp_engine *engine, uint64_t now)
{
    struct ph_h2_conn *conn = conn_of(engine);
    begin_call(conn, now);
    conn_work(conn);
    if (conn->stream_count == 0)
        conn->is_closing = true;
    else
        conn->is_aborted = true;
    end_call(conn);
}

static void engine_sent(struct ph_tcp_engine *engine, size_t n, uint64_t now)
{
    struct ph_h2_conn *conn = conn_of(engine);
    begin_call(conn, now);
    ph_h2_reply_sent(conn, n);
    conn_work(conn);
    end_call(conn);
}

static bool engine_is_done(const struct ph_tcp_engine *engine, bool *abort)
{
    const struct ph_h2_conn *conn = const_conn_of(engine);
    *abort = conn->is_aborted;
    return conn->is_aborted || conn->is_closing;
}

/* What was cut lacks its END_STREAM, but who is aborted does not read. */
static bool engine_is_cut_framed(const struct ph_tcp_engine *engine)
{
    (void)engine;
    return false;
}

static void engine_drain(struct ph_tcp_engine *engine)
{
    struct ph_h2_conn *conn = conn_of(engine);
    if (conn->drain != PH_H2_SERVING || conn->is_failed || conn->is_closing)
        return;
    conn->drain = PH_H2_DRAIN_SAID;
    conn->drain_at = conn->now + DRAIN_WAIT;
    conn->is_drain_untimed = conn->has_untimed = true;
    if (ph_h2_check(conn, nghttp2_submit_shutdown_notice(conn->session)))
        ph_h2_check(conn, nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL));
}

static void engine_free(struct ph_tcp_engine *engine)
{
    struct ph_h2_conn *conn = conn_of(engine);
    struct ph_link *link;
    conn->is_aborted = conn->is_failed = conn->is_closing = true; /* nothing goes anywhere now */
    end_all(conn);
    nghttp2_session_del(conn->session);
    while ((link = conn->ended.next) != &conn->ended)
        tell_ended(PH_CONTAINER(link, struct ph_h2_stream, done));
    while ((link = conn->streams.next) != &conn->streams)
        stream_free(PH_CONTAINER(link, struct ph_h2_stream, link));
    ph_free(conn->pieces);
    ph_live_add(PH_LIVE_H2_CONN, -1);
    ph_free(conn);
}

static const struct ph_tcp_engine_ops engine_ops = {
    .free = engine_free,
    .flush = engine_flush,
    .feed = engine_feed,
    .eof = engine_eof,
    .sent = engine_sent,
    .expire = engine_expire,
    .next = engine_next,
    .wants_input = engine_wants_input,
    .is_done = engine_is_done,
    .is_cut_framed = engine_is_cut_framed,
    .drain = engine_drain,
};

/* --- Beginning --- */

/* Limits of nghttp2 that are out of the way of ours: its limiter of resets counts only half of what
 * ours does, and it takes a CONTINUATION head that comes in pieces for as many frames. */
#define NO_LIMIT UINT32_MAX

/* NULL: there is no memory. */
static nghttp2_session *session_new(struct ph_h2_conn *conn)
{
    static nghttp2_mem mem = {.malloc = ph_lib_malloc,
                              .free = ph_lib_free,
                              .calloc = ph_lib_calloc,
                              .realloc = ph_lib_realloc}; /* not const for the library's sake */
    const struct ph_h2_config *config = conn->config;
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    nghttp2_session *session = NULL;
    if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0)
        goto out;
    ph_h2_request_callbacks(callbacks);
    ph_h2_reply_callbacks(callbacks);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_builtin_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE);
    nghttp2_option_set_max_deflate_dynamic_table_size(option, config->header_table);
    nghttp2_option_set_max_send_header_block_length(option, SIZE_MAX / 2);
    nghttp2_option_set_max_outbound_ack(option, config->replies_max);
    nghttp2_option_set_max_settings(option, config->settings_max);
    nghttp2_option_set_max_continuations(option, NO_LIMIT);
    nghttp2_option_set_stream_reset_rate_limit(option, NO_LIMIT, NO_LIMIT);
    if (nghttp2_session_server_new3(&session, callbacks, conn, option, &mem) != 0)
        session = NULL;
out:
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return session;
}

static void submit_settings(struct ph_h2_conn *conn)
{
    const struct ph_h2_config *config = conn->config;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, config->header_table},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, INT32_MAX}, /* see h2_reply.c */
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, config->stream_window},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, config->max_frame},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)config->limits.head_bytes},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, config->websocket}, /* RFC 8441 3 */
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},                   /* RFC 9218 2.1 */
    };
    nghttp2_session *session = conn->session;
    if (ph_h2_check(conn, nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings,
                                                  PH_COUNT_OF(settings))))
        ph_h2_check(conn, nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
                                                                (int32_t)config->conn_window));
}

struct ph_tcp_engine *ph_h2_conn_new(const struct ph_h2_config *config,
                                     const struct ph_exchange_sink *sink,
                                     const struct ph_path *path, const struct ph_tls_info *tls,
                                     struct ph_sliceq *out, struct ph_stats *stats, uint64_t now)
{
    struct ph_h2_conn *conn = ph_alloc(sizeof(*conn));
    ph_live_add(PH_LIVE_H2_CONN, 1);
    conn->engine.ops = &engine_ops;
    conn->config = config;
    conn->sink = sink;
    conn->stats = stats;
    conn->out = out;
    conn->path = *path;
    conn->tls = tls;
    conn->now = conn->block_since = conn->idle_since = now;
    conn->drain_at = PH_NEVER;
    ph_list_init(&conn->streams);
    ph_list_init(&conn->fresh);
    ph_list_init(&conn->bodies);
    ph_list_init(&conn->stalls);
    ph_list_init(&conn->ended);
    ph_list_init(&conn->dead);
    ph_bucket_init(&conn->resets, config->reset_burst, config->reset_rate, now);
    ph_bucket_init(&conn->glitches, config->glitch_burst, config->glitch_rate, now);
    conn->session = session_new(conn);
    if (conn->session == NULL) {
        engine_free(&conn->engine);
        return NULL;
    }
    submit_settings(conn);
    return &conn->engine;
}

void ph_h2_conn_refuse(struct ph_tcp_engine *engine)
{
    struct ph_h2_conn *conn = conn_of(engine);
    ph_count(conn->stats, protocol_errors);
    ph_h2_fail(conn, NGHTTP2_INADEQUATE_SECURITY);
}
