/* test_h1.c - the HTTP/1.1 engine with well-meaning clients: requests, bodies, framing of
 * responses, keep-alive, pipelining, expectations, backpressure. */
#include "h1_rig.h"

#define GET "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

static const size_t steps[] = {SIZE_MAX, 1, 2, 7};

/* Feeds in all step sizes to an echo; the record and the answer must be these each time. */
static void expect_echo(const char *said, const char *log, const char *wire)
{
    for (size_t i = 0; i < PH_COUNT_OF(steps); i++) {
        struct rig *rig = rig_new();
        rig->app.echo = true;
        rig->step = steps[i];
        rig_say(rig, said);
        if (strcmp(rig->app.log, log) != 0)
            ph_test_fail(__FILE__, __LINE__, "step %zu: \"%s\" is not \"%s\"", steps[i],
                         rig->app.log, log);
        if (wire != NULL && strcmp(rig->wire, wire) != 0)
            ph_test_fail(__FILE__, __LINE__, "step %zu: \"%s\" is not \"%s\"", steps[i], rig->wire,
                         wire);
        CHECK_INT(rig->stats.protocol_errors, ==, 0);
        CHECK_INT(rig->app.closed_clean, ==, rig->app.count);
        rig_free(rig);
    }
}

#define OK0 "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

TEST(h1, get_is_answered_and_the_connection_lives)
{
    expect_echo(GET, "GET h /;end;", OK0);
    expect_echo(GET GET, "GET h /;end;GET h /;end;", OK0 OK0);
}

TEST(h1, fields_are_lower_cased_trimmed_and_in_order)
{
    struct rig *rig = rig_new();
    rig->app.echo = false;
    rig_say(rig, "GET /a?b HTTP/1.1\r\nHost: Ex.com:80\r\nX-A:1\r\nx-b: \t two words \t\r\nX-A: "
                 "\x80z\r\nEmpty:\r\nUpgrade: h2c\r\n\r\n");
    const struct ph_head *head = &rig->app.ex[0]->head;
    CHECK_INT(head->version, ==, 11);
    CHECK_STR(head->scheme, "http");
    CHECK_STR(head->authority, "Ex.com:80");
    CHECK_STR(head->target, "/a?b");
    CHECK_INT(head->target_len, ==, 4);
    CHECK_INT(head->fields.count, ==, 6);
    CHECK_STR(head->fields.list[0].name, "host");
    CHECK_STR(head->fields.list[1].name, "x-a");
    CHECK_STR(head->fields.list[2].value, "two words");
    CHECK_STR(head->fields.list[3].value, "\x80z"); /* F8: bytes as they are */
    CHECK_STR(head->fields.list[4].value, "");
    CHECK(!head->has_length);
    CHECK_INT(rig->app.ex[0]->in, ==, PH_EX_DONE);
    rig_free(rig);
}

TEST(h1, one_empty_line_before_a_request_is_passed_over)
{
    expect_echo("\r\n" GET, "GET h /;end;", OK0);
    expect_echo("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx\r\n" GET,
                "POST h /;body(x)end;GET h /;end;", NULL);
}

TEST(h1, target_forms)
{
    expect_echo("GET http://Other:81/p?q HTTP/1.1\r\nHost: h\r\n\r\n", "GET Other:81 /p?q;end;",
                OK0);
    expect_echo("GET HTTP://o HTTP/1.1\r\nHost: h\r\n\r\n", "GET o /;end;", OK0);
    expect_echo("GET https://o?q HTTP/1.1\r\nHost: h\r\n\r\n", "GET o /?q;end;", OK0);
    expect_echo("OPTIONS http://o HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS o *;end;", OK0);
    expect_echo("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS h *;end;", OK0);
    expect_echo("GET //a/%00/caf\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n",
                "GET h //a/%00/caf\xc3\xa9;end;", OK0); /* F10 */
    expect_echo("brew / HTTP/1.1\r\nHost: h\r\n\r\n", "brew h /;end;", OK0);
}

TEST(h1, absolute_target_replaces_the_host_field)
{
    struct rig *rig = rig_new();
    rig_say(rig, "GET http://o:1/ HTTP/1.1\r\nHost: evil\r\n\r\n");
    CHECK_STR(ph_fields_get(&rig->app.ex[0]->head.fields, "host")->value, "o:1");
    CHECK_STR(rig->app.ex[0]->head.authority, "o:1");
    rig_free(rig);
}

TEST(h1, body_by_length)
{
    expect_echo("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" GET,
                "POST h /x;body(hello)end;GET h /;end;",
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello" OK0);
    expect_echo("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n" GET,
                "POST h /x;end;GET h /;end;", OK0 OK0);
    expect_echo("GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab",
                "GET h /x;body(ab)end;", NULL);
}

TEST(h1, body_in_chunks)
{
    expect_echo("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
                "5\r\nhello\r\n00001\r\n \r\nA;x=\"y;z\\\"\"\r\n0123456789\r\n0\r\n\r\n" GET,
                "POST h /;body(hello 0123456789)end;GET h /;end;",
                "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\nhello 0123456789" OK0);
    expect_echo("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "POST h /;end;", OK0);
    expect_echo("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                "1\r\na\r\n0;last\r\nX-Sum: 1\r\nEmpty:\r\n\r\n",
                "POST h /;body(a)trailers x-sum=1 empty=;end;", NULL);
}

TEST(h1, http10)
{
    expect_echo("GET / HTTP/1.0\r\n\r\n", "GET  /;end;",
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    expect_echo("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
                "GET  /;end;GET  /2;end;",
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
                "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    struct rig *rig = rig_new();
    rig_say(rig, "GET / HTTP/1.0\r\nConnection: keep-alive\r\nHost: h\r\nTE: trailers\r\n\r\n");
    CHECK_INT(rig->app.ex[0]->head.version, ==, 10);
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "ab", false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "cd", true), ==, 0);
    rig_turn(rig);
    /* No chunks: the end of the connection is the end of the body. */
    CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcd");
    CHECK(rig_is_done(rig));
    rig_free(rig);
}

TEST(h1, connection_close_ends_after_the_answer)
{
    for (size_t i = 0; i < PH_COUNT_OF(steps); i++) {
        struct rig *rig = rig_new();
        rig->app.echo = true;
        rig->step = steps[i];
        rig_say(rig, "GET /1 HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n" GET);
        CHECK_STR(rig->app.log, "GET h /1;end;"); /* nothing after it is looked at */
        CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        CHECK(rig_is_done(rig));
        CHECK(!rig_wants_input(rig));
        rig_free(rig);
    }
}

TEST(h1, connection_close_with_a_body_ends_after_the_answer)
{
    struct rig *rig = rig_new();
    rig_say(rig, "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
                 "ab" GET);
    CHECK_STR(rig->app.log, "POST h /;body(ab)end;");
    CHECK(!rig_wants_input(rig));
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK(rig_is_done(rig));
    CHECK_INT(rig->app.count, ==, 1);
    rig_free(rig);
}

TEST(h1, application_may_close)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET GET);
    CHECK_INT(rig->app.count, ==, 2);
    CHECK_INT(rig_respond(rig, 1, 200, NULL, NULL, true), ==, 0);
    CHECK_INT(rig_respond(rig, 0, 200, "connection", "close", true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    CHECK(rig_is_done(rig));
    rig_free(rig);
}

TEST(h1, response_framing)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 404, "x", "y", false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "one write", true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 404 Not Found\r\nx: y\r\ncontent-length: 9\r\n\r\none write");
    CHECK_INT(rig->app.acked, ==, 9);
    rig_free(rig);

    rig = rig_new();
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 299, "content-length", "4", false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "ab", false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "cd", true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 299 Unknown\r\ncontent-length: 4\r\n\r\nabcd");
    CHECK_INT(rig->app.acked, ==, 4);
    rig_free(rig);

    rig = rig_new();
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 200, "transfer-encoding", "chunked", false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "ab", false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "", false), ==, 0); /* an empty write ends nothing */
    CHECK_INT(rig_write(rig, 0, "0123456789abcdef", true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                         "2\r\nab\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
    CHECK_INT(rig->app.acked, ==, 18);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_free(rig);
}

TEST(h1, held_head_leaves_with_the_flush)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(rig->out.bytes, ==, 0);
    CHECK_INT(rig_next(rig), <=, rig->now); /* an owner without flush sees it too */
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    CHECK_INT(rig_write(rig, 0, "event", false), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nevent\r\n");
    CHECK_INT(rig_write(rig, 0, "", true), ==, 0);
    rig_turn(rig);
    CHECK(strstr(rig->wire, "\r\n0\r\n\r\n") != NULL);
    rig_free(rig);
}

TEST(h1, bodiless_responses)
{
    static const struct {
        const char *request, *name;
        int status;
        const char *wire;
    } cases[] = {
        {"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "content-length", 200,
         "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"},
        {"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "x", 200, "HTTP/1.1 200 OK\r\nx: 5\r\n\r\n"},
        {GET, "content-length", 304, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"},
        {GET, "content-length", 204, "HTTP/1.1 204 No Content\r\n\r\n"},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        for (int with_body = 0; with_body < 2; with_body++) {
            struct rig *rig = rig_new();
            rig_say(rig, cases[i].request);
            CHECK_INT(rig_respond(rig, 0, cases[i].status, cases[i].name, "5", !with_body), ==, 0);
            if (with_body)
                CHECK_INT(rig_write(rig, 0, "hello", true), ==, 0);
            rig_turn(rig);
            CHECK_STR(rig->wire, cases[i].wire);
            CHECK_INT(rig->app.closed_clean, ==, 1);
            CHECK_INT(rig->app.acked, ==, with_body ? 5 : 0);
            rig_say(rig, GET);
            CHECK_INT(rig->app.count, ==, 2);
            rig_free(rig);
        }
    }
}

TEST(h1, informational_heads_go_out_at_once)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 103, "link", "</a>", false), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" OK0);
    rig_free(rig);
}

TEST(h1, trailers_follow_chunks_for_who_asked)
{
    static const struct ph_field sum = {"x-sum", "7", 5, 1};
    struct rig *rig = rig_new();
    rig_say(rig, "GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n");
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "ab", false), ==, 0);
    CHECK_INT(ph_exchange_trailers(rig->app.ex[0], &sum, 1), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                         "2\r\nab\r\n0\r\nx-sum: 7\r\n\r\n");
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 1, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(ph_exchange_trailers(rig->app.ex[1], &sum, 1), ==, 0);
    rig_turn(rig);
    CHECK(strstr(rig->wire, OK0) != NULL); /* dropped; the empty body gets its length */
    rig_free(rig);
}

/* F18 */
TEST(h1, continue_is_sent_when_the_reader_waits)
{
    static const char post[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: "
                               "100-Continue\r\n\r\n";
    struct rig *rig = rig_new();
    rig_say(rig, post);
    CHECK_STR(rig->wire, "");
    CHECK_INT(rig_next(rig), ==, PH_NEVER); /* the client is right to wait */
    ph_exchange_consume(rig->app.ex[0], 0);
    ph_exchange_consume(rig->app.ex[0], 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 100 Continue\r\n\r\n");
    CHECK_INT(rig_next(rig), ==, rig->now + rig->config.body_timeout);
    rig_say(rig, "hello");
    CHECK_STR(rig->app.log, "POST h /;body(hello)end;");
    rig_free(rig);

    rig = rig_new(); /* the body came without waiting: no 100 */
    rig_say(rig, post);
    rig_say(rig, "hel");
    ph_exchange_consume(rig->app.ex[0], 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "");
    rig_free(rig);

    rig = rig_new(); /* answered without reading: what comes next cannot be told */
    rig_say(rig, post);
    CHECK_INT(rig_respond(rig, 0, 401, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire,
              "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    CHECK(rig_is_done(rig));
    rig_free(rig);

    rig = rig_new(); /* an HTTP/1.0 client cannot mean it */
    rig_say(rig, "POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    ph_exchange_consume(rig->app.ex[0], 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "");
    rig_free(rig);
}

TEST(h1, body_window_stops_reading)
{
    struct rig *rig = rig_new();
    rig->app.no_consume = true;
    rig->config.body_window = 10;
    rig_say(rig, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n01234567890123456789");
    CHECK_INT(rig->app.body_bytes, ==, 10);
    CHECK(!rig_wants_input(rig));
    CHECK_INT(rig->in.unsent, ==, 10);
    CHECK_INT(rig_next(rig), ==, PH_NEVER); /* the application is slow, not the peer */
    ph_exchange_consume(rig->app.ex[0], 3);
    CHECK(rig_wants_input(rig));
    rig_turn(rig);
    CHECK_INT(rig->app.body_bytes, ==, 13);
    ph_exchange_consume(rig->app.ex[0], 10);
    rig_turn(rig);
    CHECK_STR(rig->app.log, "POST h /;body(01234567890123456789)end;");
    /* Bytes never consumed do not narrow the window of the next request. */
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    rig_say(rig, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "a\r\n0123456789\r\n5\r\n01234\r\n0\r\n\r\n");
    CHECK_INT(rig->app.body_bytes, ==, 30);
    ph_exchange_consume(rig->app.ex[1], 10);
    rig_turn(rig);
    CHECK_INT(rig->app.body_bytes, ==, 35);
    CHECK_INT(rig->app.ex[1]->in, ==, PH_EX_DONE);
    rig_free(rig);
}

/* F17 */
TEST(h1, pipelined_gets_run_together_and_are_answered_in_order)
{
    struct rig *rig = rig_new();
    rig_say(rig, "GET /0 HTTP/1.1\r\nHost: h\r\n\r\nGET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
                 "HEAD /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK_INT(rig->app.count, ==, 3);
    CHECK_INT(rig_respond(rig, 2, 200, NULL, NULL, true), ==, 0);
    CHECK_INT(rig_respond(rig, 1, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(rig_write(rig, 1, "one", false), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "");
    CHECK_INT(rig->app.acked, ==, 0);
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "zero", true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nzero"
                         "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
    CHECK_INT(rig_write(rig, 1, "", true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nzero"
                         "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"
                         "0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
    CHECK_INT(rig->app.closed_clean, ==, 3);
    CHECK_INT(rig->app.acked, ==, 7);
    rig_free(rig);
}

TEST(h1, unsafe_requests_wait_for_their_turn)
{
    static const char post[] = "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx";
    struct rig *rig = rig_new();
    rig_say(rig, GET);
    rig_say(rig, post);
    rig_say(rig, GET);
    CHECK_STR(rig->app.log, "GET h /;end;");
    CHECK(!rig_wants_input(rig));
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    CHECK_INT(rig_next(rig), <=, rig->now);
    rig_turn(rig);
    CHECK_STR(rig->app.log, "GET h /;end;POST h /p;body(x)end;");
    CHECK_INT(rig_respond(rig, 1, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->app.log, "GET h /;end;POST h /p;body(x)end;GET h /;end;");
    rig_free(rig);
}

/* F17: at the limit and one more. */
TEST(h1, requests_parsed_ahead_are_limited)
{
    struct rig *rig = rig_new();
    rig->config.pipelined_max = 3;
    for (int i = 0; i < 10; i++)
        rig_say(rig, GET);
    CHECK_INT(rig->app.count, ==, 4); /* the one in work and three ahead */
    CHECK(!rig_wants_input(rig));
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig->engine->ops->flush(rig->engine);
    CHECK(!rig_wants_input(rig)); /* not before its bytes have left */
    rig_turn(rig);
    CHECK_INT(rig->app.count, ==, 5);
    rig_free(rig);
}

TEST(h1, flood_of_pipelined_gets_is_served_in_order)
{
    struct rig *rig = rig_new();
    rig->app.echo = true;
    for (int i = 0; i < 60; i++)
        ph_sliceq_push_copy(&rig->in, GET, sizeof(GET) - 1);
    rig_turn(rig);
    CHECK_INT(count_of(rig->wire, OK0), ==, 60);
    CHECK_INT(rig->app.closed_clean, ==, 60);
    rig_free(rig);
}

TEST(h1, keep_alive_requests_at_limit)
{
    struct rig *rig = rig_new();
    rig->config.keep_alive_requests = 3;
    rig->app.echo = true;
    rig_say(rig, GET GET GET GET);
    CHECK_INT(rig->app.count, ==, 3);
    CHECK_INT(count_of(rig->wire, "connection: close"), ==, 1);
    CHECK(rig_is_done(rig));
    rig_free(rig);
}
