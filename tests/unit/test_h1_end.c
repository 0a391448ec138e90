/* test_h1_end.c - the HTTP/1.1 engine: how requests and connections end. Early answers, stopped
 * bodies, resets, broken promises, the end that the peer says, drain. */
#include "h1_rig.h"

#define GET "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define OK0 "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

TEST(h1, early_answer_drains_a_little_and_goes_on)
{
    struct rig *rig = rig_new();
    rig_say(rig, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65536\r\n\r\n");
    CHECK_INT(rig_respond(rig, 0, 403, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    CHECK(!rig_is_done(rig));
    char *block = ph_alloc(65536);
    rig_feed(rig, block, 65535);
    CHECK(!rig_is_done(rig));
    rig_feed(rig, "", 1);
    rig_say(rig, GET);
    CHECK_INT(rig->app.count, ==, 2);
    CHECK_INT(rig->app.body_bytes, ==, 0);
    ph_free(block);
    rig_free(rig);
}

TEST(h1, early_answer_to_a_large_body_closes)
{
    struct rig *rig = rig_new();
    rig_say(rig, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\n");
    CHECK_INT(rig_respond(rig, 0, 403, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK(rig_is_done(rig));
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_free(rig);

    rig = rig_new(); /* of unknown length: until the budget is used up */
    rig_say(rig, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK_INT(rig_respond(rig, 0, 403, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    char *block = ph_alloc(70000);
    rig_say(rig, "ffff\r\n");
    rig_feed(rig, block, 65535);
    CHECK(!rig_is_done(rig));
    rig_say(rig, "\r\n1\r\nx");
    CHECK(rig_is_done(rig));
    ph_free(block);
    rig_free(rig);
}

TEST(h1, stopped_body_is_read_for_nobody)
{
    struct rig *rig = rig_new();
    rig_say(rig, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01");
    ph_exchange_stop(rig->app.ex[0], 0);
    rig_say(rig, "23456789");
    CHECK_STR(rig->app.log, "POST h /;body(01)end;");
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    rig_say(rig, GET);
    CHECK_INT(rig->app.count, ==, 2);
    rig_free(rig);

    rig = rig_new(); /* beyond the budget nothing is read until the answer, then it closes */
    rig_say(rig, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n");
    ph_exchange_stop(rig->app.ex[0], 0);
    char *block = ph_alloc(70000);
    rig_feed(rig, block, 70000);
    CHECK_INT(rig->in.unsent, ==, 70000 - 65536);
    CHECK(!rig_wants_input(rig));
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK(rig_is_done(rig));
    ph_free(block);
    rig_free(rig);
}

TEST(h1, reset_cuts_without_a_clean_end)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "ab", false), ==, 0);
    rig_turn(rig);
    ph_exchange_reset(rig->app.ex[0], 0);
    CHECK(rig_is_aborted(rig));
    CHECK_INT(rig_write(rig, 0, "cd", true), ==, PH_E_CLOSED);
    rig_turn(rig);
    CHECK_INT(rig->app.closed_cut, ==, 0); /* never inside of the call, but at the end */
    rig_end(rig);
    CHECK_INT(rig->app.closed_cut, ==, 1);
    CHECK(strstr(rig->wire, "0\r\n\r\n") == NULL);
    rig_free(rig);
}

TEST(h1, reset_of_a_later_response_leaves_those_before_it_whole)
{
    for (size_t early = 0; early < 2; early++) {
        struct rig *rig = rig_new();
        rig_say(rig,
                "GET /slow HTTP/1.1\r\nHost: h\r\n\r\nGET /fail HTTP/1.1\r\nHost: h\r\n\r\n" GET);
        CHECK_INT(rig->app.count, ==, 3);
        CHECK_INT(rig_respond(rig, 1, 200, NULL, NULL, false), ==, 0);
        CHECK_INT(rig_write(rig, 1, "part", false), ==, 0);
        rig_turn(rig);
        if (early)
            CHECK_INT(rig_respond(rig, 0, 200, "content-length", "6", false), ==, 0);
        ph_exchange_reset(rig->app.ex[1], 0);
        rig_turn(rig);
        CHECK(!rig_is_aborted(rig) && !rig_is_done(rig));
        CHECK_INT(rig_write(rig, 1, "more", true), ==, PH_E_CLOSED);
        CHECK_INT(rig_respond(rig, 2, 200, NULL, NULL, true), ==, 0);
        if (!early)
            CHECK_INT(rig_respond(rig, 0, 200, "content-length", "6", false), ==, 0);
        CHECK_INT(rig_write(rig, 0, "sl", false), ==, 0);
        rig_turn(rig);
        CHECK(!rig_is_aborted(rig));
        CHECK_INT(rig_write(rig, 0, "owly", true), ==, 0);
        CHECK(rig_is_aborted(rig) && rig_is_cut_framed(rig));
        rig_turn(rig);
        CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nslowly"
                             "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n");
        CHECK_INT(rig->app.closed_clean, ==, 1);
        rig_end(rig);
        CHECK_INT(rig->app.closed_cut, ==, 2);
        rig_free(rig);
    }
}

static void reset_at_once(void *self, struct ph_exchange *ex)
{
    app_on_request(self, ex);
    if (((struct http_app *)self)->count == 2)
        ph_exchange_reset(ex, 0);
}

TEST(h1, reset_within_the_request_event_of_a_later_request_ends_its_events)
{
    struct rig *rig = rig_new();
    rig->app.sink.on_request = reset_at_once;
    rig_say(rig, GET GET GET);
    CHECK_STR(rig->app.log, "GET h /;end;GET h /;");
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK_STR(rig->wire, OK0);
    CHECK(rig_is_aborted(rig));
    rig_free(rig);
}

TEST(h1, only_framing_shows_a_cut)
{
    static const struct {
        const char *request, *name;
        bool is_framed;
    } cases[] = {{GET, NULL, true},
                 {GET, "content-length", true},
                 {"GET / HTTP/1.0\r\n\r\n", "content-length", true},
                 {"GET / HTTP/1.0\r\n\r\n", NULL, false}};
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct rig *rig = rig_new();
        rig_say(rig, cases[i].request);
        CHECK(!rig_is_cut_framed(rig));
        CHECK_INT(rig_respond(rig, 0, 200, cases[i].name, "9", false), ==, 0);
        ph_exchange_reset(rig->app.ex[0], 0);
        CHECK(rig_is_aborted(rig));
        CHECK_INT(rig_is_cut_framed(rig), ==, cases[i].is_framed);
        rig_free(rig);
    }
}

TEST(h1, head_before_a_reset_is_shown_without_an_end)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    ph_exchange_reset(rig->app.ex[0], 0);
    CHECK(rig_is_aborted(rig));
    rig_take(rig, SIZE_MAX);
    CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    rig_free(rig);
}

static void reset_on_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    app_on_body(self, ex, data, n);
    ph_exchange_reset(ex, 0);
}

TEST(h1, reset_within_the_last_body_event_ends_all_events)
{
    static const char *const posts[] = {
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab" GET,
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" GET};
    for (size_t i = 0; i < PH_COUNT_OF(posts); i++) {
        struct rig *rig = rig_new();
        rig->app.sink.on_body = reset_on_body;
        rig_say(rig, posts[i]);
        CHECK(rig_is_aborted(rig));
        CHECK_STR(rig->app.log, "POST h /;body(ab)");
        rig_free(rig);
    }
}

TEST(h1, reset_after_the_whole_response_changes_nothing)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET);
    struct ph_exchange *ex = rig->app.ex[0];
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    ph_exchange_reset(ex, 0);
    CHECK(!rig_is_aborted(rig));
    rig_turn(rig);
    CHECK_STR(rig->wire, OK0);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_free(rig);
}

TEST(h1, broken_length_promise_aborts)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 200, "content-length", "5", false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "ab", true), ==, PH_E_INVAL);
    CHECK(rig_is_aborted(rig));
    rig_free(rig);
}

TEST(h1, acknowledgements_count_body_bytes_only)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "0123456789", false), ==, 0);
    rig->engine->ops->flush(rig->engine);
    size_t head = strlen("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n");
    rig_take(rig, head);
    CHECK_INT(rig->app.acked, ==, 0);
    rig_take(rig, 4);
    CHECK_INT(rig->app.acked, ==, 4);
    rig_take(rig, 6);
    CHECK_INT(rig->app.acked, ==, 10);
    rig_take(rig, 2);
    CHECK_INT(rig->app.acked, ==, 10);
    CHECK_INT(rig_write(rig, 0, "", true), ==, 0);
    rig_take(rig, 4);
    CHECK_INT(rig->app.closed_clean, ==, 0);
    rig_take(rig, 1);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_free(rig);
}

TEST(h1, end_after_everything_has_left_closes_the_exchange)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 200, "content-length", "2", false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "ab", false), ==, 0);
    rig_turn(rig);
    CHECK_INT(rig->app.closed_clean, ==, 0);
    CHECK_INT(rig_write(rig, 0, "", true), ==, 0); /* not a byte on the wire */
    rig_turn(rig);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_say(rig, GET);
    CHECK_INT(rig->app.count, ==, 2);
    rig_free(rig);
}

TEST(h1, eof)
{
    struct rig *rig = rig_new(); /* idle: a clean end */
    rig_eof(rig);
    CHECK(rig_is_done(rig));
    rig_free(rig);
    rig = rig_new(); /* in the middle of a head */
    rig_say(rig, "GET / HT");
    rig_eof(rig);
    CHECK(rig_is_done(rig));
    CHECK_STR(rig->wire, "");
    rig_free(rig);
    rig = rig_new(); /* the client left before the answer was whole */
    rig_say(rig, GET);
    rig_eof(rig);
    CHECK(rig_is_aborted(rig));
    rig_free(rig);
    rig = rig_new(); /* the answer is whole: it is still sent */
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_eof(rig);
    CHECK(rig_is_done(rig));
    rig_take(rig, SIZE_MAX);
    CHECK_STR(rig->wire, OK0);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_free(rig);
    rig = rig_new(); /* in the middle of a body */
    rig_say(rig, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    rig_eof(rig);
    CHECK(rig_is_aborted(rig));
    CHECK(strstr(rig->app.log, "end;") == NULL);
    rig_free(rig);
}

/* RFC 9112 9.6: who says that it is done may shut down its sending side and wait. */
TEST(h1, eof_after_the_last_request_waits_for_the_answers)
{
    static const struct {
        const char *said;
        size_t requests;
        bool is_kept;
    } cases[] = {
        {"GET / HTTP/1.0\r\n\r\n", 1, true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 1, true},
        {"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", 1, true},
        {"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 1, true},
        {GET "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 2, true},
        {"DELETE / HTTP/1.1\r\nHost: h\r\n\r\n"
         "DELETE / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
         2, true},
        {GET, 1, false},
        {GET GET, 2, false},
        {"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nab", 1, false},
        {"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n", 1,
         false},
        {"DELETE / HTTP/1.1\r\nHost: h\r\n\r\nPOST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n", 2,
         false},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct rig *rig = rig_new();
        rig_say(rig, cases[i].said);
        rig_eof(rig);
        CHECK(!rig_is_done(rig));
        CHECK_INT(rig_is_aborted(rig), ==, !cases[i].is_kept);
        for (size_t k = 0; k < cases[i].requests && cases[i].is_kept; k++) {
            rig_wait(rig, 100 * PH_SEC); /* the application takes its time */
            CHECK(!rig_is_done(rig) && !rig_is_aborted(rig));
            CHECK(!rig_wants_input(rig));
            CHECK_INT(rig_respond(rig, k, 200, NULL, NULL, true), ==, 0);
            rig_turn(rig);
        }
        CHECK_INT(rig_is_done(rig), ==, cases[i].is_kept);
        CHECK_INT(rig->app.closed_clean, ==, cases[i].is_kept ? cases[i].requests : 0);
        if (cases[i].is_kept)
            CHECK(strstr(rig->wire, "\r\nconnection: close\r\n\r\n") != NULL);
        rig_free(rig);
    }
}

TEST(h1, drain)
{
    struct rig *rig = rig_new(); /* idle for long */
    rig->app.echo = true;
    rig_say(rig, GET);
    rig_wait(rig, PH_H1_DRAIN_IDLE);
    rig_drain(rig);
    rig_turn(rig);
    CHECK(rig_is_done(rig));
    rig_free(rig);
    rig = rig_new(); /* a moment ago: what is on its way is answered */
    rig->app.echo = true;
    rig_say(rig, GET);
    rig_drain(rig);
    rig_wait(rig, PH_H1_DRAIN_IDLE - 1);
    CHECK(!rig_is_done(rig));
    rig_say(rig, GET GET);
    CHECK(rig_is_done(rig));
    CHECK_INT(rig->app.count, ==, 2); /* no third */
    CHECK_INT(rig->app.closed_clean, ==, 2);
    CHECK(strstr(rig->wire, "connection: close") != NULL);
    rig_free(rig);
    rig = rig_new(); /* new, and nothing comes */
    rig_drain(rig);
    rig_wait(rig, PH_H1_DRAIN_IDLE - 1);
    CHECK(!rig_is_done(rig));
    rig_wait(rig, 1);
    CHECK(rig_is_done(rig));
    CHECK_STR(rig->wire, "");
    rig_free(rig);
    rig = rig_new(); /* under way: answered with close */
    rig_say(rig, GET);
    rig_drain(rig);
    CHECK(!rig_is_done(rig));
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    CHECK(rig_is_done(rig));
    CHECK_STR(rig->wire, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    rig_free(rig);
    rig = rig_new(); /* the head has left already: the client does not know */
    rig_say(rig, GET);
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    rig_turn(rig);
    rig_drain(rig);
    CHECK_INT(rig_write(rig, 0, "ab", true), ==, 0);
    rig_turn(rig);
    CHECK(!rig_is_done(rig));
    rig_wait(rig, PH_H1_DRAIN_IDLE);
    CHECK(rig_is_done(rig));
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_free(rig);
    rig = rig_new(); /* half a head: a request is under way */
    rig_say(rig, "GET / HTTP/1.1\r\n");
    rig_drain(rig);
    CHECK(!rig_is_done(rig));
    rig->app.echo = true;
    rig_say(rig, "Host: h\r\n\r\n");
    CHECK(rig_is_done(rig));
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_free(rig);
}

TEST(h1, freed_in_the_middle_of_everything)
{
    struct rig *rig = rig_new();
    rig_say(rig, GET GET "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    CHECK_INT(rig->app.count, ==, 2); /* the third waits, unknown to the application */
    CHECK_INT(rig_respond(rig, 1, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(rig_write(rig, 1, "held", false), ==, 0);
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    rig_end(rig);
    CHECK_INT(rig->app.closed_cut, ==, 2);
    rig_free(rig);
}
