/*
 * h1_engine.c - HTTP/1.1 as the engine of a TCP connection: the table through which
 * core/tcp_front.c drives it without knowing which version of HTTP it speaks.
 */
#include "http_internal.h"

static struct ph_h1_conn *conn_of(struct ph_tcp_engine *engine)
{
    return PH_CONTAINER(engine, struct ph_h1_conn, engine);
}

static const struct ph_h1_conn *const_conn_of(const struct ph_tcp_engine *engine)
{
    return PH_CONTAINER((uintptr_t)engine, const struct ph_h1_conn, engine);
}

static void engine_free(struct ph_tcp_engine *engine)
{
    ph_h1_conn_free(conn_of(engine));
}

static void engine_flush(struct ph_tcp_engine *engine)
{
    ph_h1_conn_flush(conn_of(engine));
}

static void engine_feed(struct ph_tcp_engine *engine, struct ph_sliceq *in, uint64_t now)
{
    ph_h1_conn_feed(conn_of(engine), in, now);
}

static void engine_eof(struct ph_tcp_engine *engine, uint64_t now)
{
    ph_h1_conn_eof(conn_of(engine), now);
}

static void engine_sent(struct ph_tcp_engine *engine, size_t n, uint64_t now)
{
    ph_h1_conn_sent(conn_of(engine), n, now);
}

static void engine_expire(struct ph_tcp_engine *engine, uint64_t now)
{
    ph_h1_conn_expire(conn_of(engine), now);
}

static uint64_t engine_next(const struct ph_tcp_engine *engine)
{
    return ph_h1_conn_next(const_conn_of(engine));
}

static bool engine_wants_input(const struct ph_tcp_engine *engine)
{
    return ph_h1_conn_wants_input(const_conn_of(engine));
}

static bool engine_is_done(const struct ph_tcp_engine *engine, bool *abort)
{
    return ph_h1_conn_is_done(const_conn_of(engine), abort);
}

static bool engine_is_cut_framed(const struct ph_tcp_engine *engine)
{
    return ph_h1_conn_is_cut_framed(const_conn_of(engine));
}

static void engine_drain(struct ph_tcp_engine *engine)
{
    ph_h1_conn_drain(conn_of(engine));
}

const struct ph_tcp_engine_ops ph_h1_engine_ops = {
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

struct ph_tcp_engine *ph_h1_conn_engine(struct ph_h1_conn *conn)
{
    return &conn->engine;
}
