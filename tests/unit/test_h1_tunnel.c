/* test_h1_tunnel.c - upgrades on an HTTP/1.1 connection: who asks for a tunnel, what of the bytes
 * belongs to it, how it ends, and that a refused one leaves the connection as it was. */
#include "h1_rig.h"

#define ASK_TO(path, more)                                                                         \
    "GET " path " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" more "\r"  \
    "\n"
#define ASK ASK_TO("/ws", "")
#define GRANTED                                                                                    \
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
#define GET "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

static struct rig *rig_ws(void)
{
    struct rig *rig = rig_new();
    rig_end(rig);
    rig->config.websocket = true;
    rig_start(rig);
    return rig;
}

static int upgrade(struct rig *rig, size_t i)
{
    int rc = ph_exchange_upgrade(rig->app.ex[i], NULL, 0);
    rig_turn(rig);
    return rc;
}

static void expect_protocol(const char *said, const char *protocol)
{
    struct rig *rig = rig_ws();
    rig_say(rig, said);
    CHECK_INT(rig->app.count, ==, 1);
    CHECK_STR(rig->app.ex[0]->head.protocol, protocol);
    rig_free(rig);
}

TEST(h1_tunnel, who_asks_for_one)
{
    expect_protocol(ASK, "websocket");
    expect_protocol("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c, WebSocket\r\n"
                    "Connection: keep-alive, upgrade\r\n\r\n",
                    "websocket");
    expect_protocol("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", "");
    expect_protocol("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n\r\n", "");
    expect_protocol("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websockets\r\n"
                    "Connection: upgrade\r\n\r\n",
                    "");
    expect_protocol("GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "");
    expect_protocol("POST / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
                    "Connection: upgrade\r\nContent-Length: 0\r\n\r\n",
                    "");
}

TEST(h1_tunnel, nobody_asks_when_the_option_is_off)
{
    struct rig *rig = rig_new();
    rig_say(rig, ASK GET);
    CHECK_STR(rig->app.log, "GET h /ws;end;GET h /;end;");
    CHECK_STR(rig->app.ex[0]->head.protocol, "");
    CHECK_INT(ph_exchange_upgrade(rig->app.ex[0], NULL, 0), ==, PH_E_STATE);
    rig_free(rig);
}

TEST(h1_tunnel, a_request_with_a_body_gets_none)
{
    static const char *const bodies[] = {"Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"};
    for (size_t i = 0; i < PH_COUNT_OF(bodies); i++) {
        struct rig *rig = rig_ws();
        rig_say(rig, "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n");
        rig_say(rig, bodies[i]);
        rig_say(rig, "\r\nx");
        CHECK_INT(rig->app.count, ==, 0);
        CHECK(strncmp(rig->wire, "HTTP/1.1 400 ", 13) == 0);
        CHECK(rig_is_done(rig));
        rig_free(rig);
    }
}

TEST(h1_tunnel, bytes_behind_the_handshake_belong_to_it)
{
    static const size_t steps[] = {SIZE_MAX, 1, 5};
    for (size_t i = 0; i < PH_COUNT_OF(steps); i++) {
        struct rig *rig = rig_ws();
        rig->step = steps[i];
        rig_say(rig, ASK "GET / no request");
        CHECK_STR(rig->app.log, "GET h /ws;");
        CHECK(rig_wants_input(rig)); /* or nobody would notice that it left */
        CHECK_INT(upgrade(rig, 0), ==, 0);
        CHECK(rig->app.ex[0]->is_tunnel);
        CHECK_STR(rig->wire, GRANTED);
        CHECK_STR(rig->app.log, "GET h /ws;body(GET / no request)");
        rig_say(rig, "\r\n\r\n more");
        CHECK_STR(rig->app.log, "GET h /ws;body(GET / no request\r\n\r\n more)");
        CHECK_INT(upgrade(rig, 0), ==, PH_E_STATE);
        rig_free(rig);
    }
}

TEST(h1_tunnel, carries_raw_bytes_and_ends_by_fin)
{
    struct rig *rig = rig_ws();
    rig_say(rig, ASK);
    struct ph_field fields[] = {{"sec-websocket-accept", "x", 20, 1},
                                {"content-length", "5", 14, 1}};
    CHECK_INT(ph_exchange_upgrade(rig->app.ex[0], fields, 2), ==, 0);
    CHECK_INT(rig_write(rig, 0, "one", false), ==, 0);
    rig_turn(rig);
    CHECK_INT(rig_write(rig, 0, "two", false), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\n"
                         "connection: upgrade\r\nupgrade: websocket\r\n\r\nonetwo");
    CHECK_INT(rig->app.acked, ==, 6);
    CHECK_INT(ph_exchange_write(rig->app.ex[0], (struct ph_slice){.buf = NULL}, true), ==, 0);
    rig_turn(rig);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    CHECK(rig_is_done(rig));
    rig_free(rig);
}

TEST(h1_tunnel, the_end_of_the_peer_is_told_and_ours_may_follow)
{
    struct rig *rig = rig_ws();
    rig_say(rig, ASK);
    CHECK_INT(upgrade(rig, 0), ==, 0);
    rig_eof(rig);
    CHECK_STR(rig->app.log, "GET h /ws;end;");
    CHECK(!rig_wants_input(rig));
    CHECK(!rig_is_done(rig));
    CHECK_INT(rig_write(rig, 0, "bye", true), ==, 0);
    rig_turn(rig);
    CHECK(rig_is_done(rig));
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_free(rig);
}

TEST(h1_tunnel, a_client_that_leaves_before_the_answer)
{
    struct rig *rig = rig_ws();
    rig_say(rig, ASK);
    rig_eof(rig);
    CHECK(rig_is_aborted(rig));
    rig_free(rig);
}

TEST(h1_tunnel, a_reset_is_hard)
{
    struct rig *rig = rig_ws();
    rig_say(rig, ASK);
    CHECK_INT(upgrade(rig, 0), ==, 0);
    CHECK_INT(rig_write(rig, 0, "half", false), ==, 0);
    ph_exchange_reset(rig->app.ex[0], 0);
    CHECK(rig_is_aborted(rig));
    CHECK(!rig_is_cut_framed(rig));
    rig_free(rig);
}

TEST(h1_tunnel, refused_the_connection_goes_on)
{
    struct rig *rig = rig_ws();
    rig_say(rig, ASK GET);
    CHECK_STR(rig->app.log, "GET h /ws;");
    CHECK_INT(rig_respond(rig, 0, 403, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->app.log, "GET h /ws;GET h /;end;");
    CHECK_INT(rig_respond(rig, 1, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"
                         "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    CHECK(!rig_is_done(rig));
    rig_free(rig);
}

TEST(h1_tunnel, refused_with_close_nothing_follows)
{
    struct rig *rig = rig_ws();
    rig_say(rig, "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
                 "Connection: upgrade, close\r\n\r\n" GET);
    CHECK_INT(rig_respond(rig, 0, 403, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK_INT(rig->app.count, ==, 1);
    CHECK(strstr(rig->wire, "connection: close\r\n") != NULL);
    CHECK(rig_is_done(rig));
    rig_free(rig);
}

TEST(h1_tunnel, waits_for_the_answers_before_it)
{
    struct rig *rig = rig_ws();
    rig_say(rig, GET ASK "raw");
    CHECK_STR(rig->app.log, "GET h /;end;");
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->app.log, "GET h /;end;GET h /ws;");
    CHECK_INT(upgrade(rig, 1), ==, 0);
    CHECK_STR(rig->app.log, "GET h /;end;GET h /ws;body(raw)");
    rig_free(rig);
}

TEST(h1_tunnel, has_no_time_of_its_own_and_no_size)
{
    struct rig *rig = rig_ws();
    rig->config.max_body = 4;
    rig_say(rig, ASK);
    rig_wait(rig, 3600 * PH_SEC); /* before the answer, and after it */
    CHECK_INT(upgrade(rig, 0), ==, 0);
    rig_wait(rig, 3600 * PH_SEC);
    rig_say(rig, "more than four");
    CHECK_STR(rig->app.log, "GET h /ws;body(more than four)");
    CHECK(!rig_is_done(rig));
    rig_free(rig);
}

TEST(h1_tunnel, not_consumed_it_is_not_read)
{
    struct rig *rig = rig_ws();
    rig->config.body_window = 4;
    rig->app.no_consume = true;
    rig_say(rig, ASK "012345");
    CHECK_INT(upgrade(rig, 0), ==, 0);
    CHECK_STR(rig->app.log, "GET h /ws;body(0123)");
    CHECK(!rig_wants_input(rig));
    ph_exchange_consume(rig->app.ex[0], 4);
    rig_turn(rig);
    CHECK_STR(rig->app.log, "GET h /ws;body(012345)");
    rig_free(rig);
}

TEST(h1_tunnel, a_drain_waits_for_it)
{
    struct rig *rig = rig_ws();
    rig_say(rig, ASK);
    CHECK_INT(upgrade(rig, 0), ==, 0);
    rig_drain(rig);
    rig_turn(rig);
    CHECK(!rig_is_done(rig));
    CHECK_INT(ph_exchange_write(rig->app.ex[0], (struct ph_slice){.buf = NULL}, true), ==, 0);
    rig_turn(rig);
    CHECK(rig_is_done(rig));
    rig_free(rig);
}
