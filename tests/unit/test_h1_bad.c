/* test_h1_bad.c - the HTTP/1.1 engine against malformed and hostile requests: the matrix F1 to F24
 * of the fault catalogue as far as bytes decide it, each limit at its value and one beyond, and the
 * clock. Every case is fed whole, byte by byte and in odd pieces, with one verdict. */
#include "h1_rig.h"

#define GET "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST "POST / HTTP/1.1\r\nHost: h\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static const size_t steps[] = {SIZE_MAX, 1, 3};

struct bad {
    const char *id;
    const char *said;
    size_t n; /* 0: strlen(said) */
    int status;
    const char *log; /* NULL: the application is never called */
};

#define RAW(s) (s), sizeof(s) - 1

static const struct bad cases[] = {
    /* F1 content-length with transfer-encoding */
    {"F1", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, 400, NULL},
    {"F1", POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", 0, 400, NULL},
    /* F2 transfer-encoding in disguise */
    {"F2", POST "Transfer-Encoding: xchunked\r\n\r\n", 0, 501, NULL},
    {"F2", POST "Transfer-Encoding: chunked, identity\r\n\r\n", 0, 501, NULL},
    {"F2", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 0, 501, NULL},
    {"F2", POST "Transfer-Encoding: identity\r\n\r\n", 0, 501, NULL},
    {"F2", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", 0, 501, NULL},
    {"F2", POST "Transfer-Encoding: chunked;a=b\r\n\r\n", 0, 501, NULL},
    {"F2", POST "Transfer-Encoding:\r\n\r\n", 0, 501, NULL},
    {"F2",
     POST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n",
     0, 400, NULL},
    {"F2", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 400, NULL},
    {"F2", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 0, 400, NULL},
    {"F2", POST "Transfer-Encoding : chunked\r\n\r\n", 0, 400, NULL},
    {"F2", POST "X: y\r\n Transfer-Encoding: chunked\r\n\r\n", 0, 400, NULL},
    {"F2", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 400, NULL},
    /* F3 content-length */
    {"F3", POST "Content-Length: 1,1\r\n\r\nx", 0, 400, NULL},
    {"F3", POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 0, 400, NULL},
    {"F3", POST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", 0, 400, NULL},
    {"F3", POST "Content-Length: +5\r\n\r\n", 0, 400, NULL},
    {"F3", POST "Content-Length: -5\r\n\r\n", 0, 400, NULL},
    {"F3", POST "Content-Length: 0x5\r\n\r\n", 0, 400, NULL},
    {"F3", POST "Content-Length: 5 5\r\n\r\n", 0, 400, NULL},
    {"F3", POST "Content-Length: \r\n\r\n", 0, 400, NULL},
    {"F3", POST "Content-Length: 18446744073709551616\r\n\r\n", 0, 400, NULL},
    {"F3", POST "Content-Length: 9223372036854775808\r\n\r\n", 0, 400, NULL},
    /* F4 chunk sizes */
    {"F4", CHUNKED "0_2e\r\n", 0, 400, "POST h /;"},
    {"F4", CHUNKED "0x5\r\n", 0, 400, "POST h /;"},
    {"F4", CHUNKED "00000000000000001\r\nx", 0, 400, "POST h /;"}, /* 17 digits */
    {"F4", CHUNKED "8000000000000000\r\n", 0, 400, "POST h /;"},
    {"F4", CHUNKED "ffffffffffffffff\r\n", 0, 400, "POST h /;"},
    {"F4", CHUNKED "-1\r\n", 0, 400, "POST h /;"},
    {"F4", CHUNKED "+1\r\n", 0, 400, "POST h /;"},
    {"F4", CHUNKED "\r\n", 0, 400, "POST h /;"},
    {"F4", CHUNKED ";x\r\n", 0, 400, "POST h /;"},
    {"F4", CHUNKED " 1\r\nx", 0, 400, "POST h /;"},
    {"F4", CHUNKED "1 \r\nx", 0, 400, "POST h /;"},
    {"F4", CHUNKED "g\r\n", 0, 400, "POST h /;"},
    /* F5 chunk ends */
    {"F5", CHUNKED "1\nx", 0, 400, "POST h /;"},
    {"F5", CHUNKED "1\r\r\nx", 0, 400, "POST h /;"},
    {"F5", CHUNKED "1\r\nx\n", 0, 400, "POST h /;body(x)"},
    {"F5", CHUNKED "1\r\nxx\r\n", 0, 400, "POST h /;body(x)"},
    {"F5", CHUNKED "1\r\nx\rx", 0, 400, "POST h /;body(x)"},
    {"F5", CHUNKED "1\r\nx0\r\n\r\n", 0, 400, "POST h /;body(x)"},
    {"F5", CHUNKED "1;a\nb\r\nx", 0, 400, "POST h /;"},
    {"F5", CHUNKED "1;a\rb\r\nx", 0, 400, "POST h /;"},
    {"F5", CHUNKED "1;a=\"b\r\nx", 0, 400, "POST h /;"},
    {"F5", RAW(CHUNKED "1;a\0b\r\nx"), 400, "POST h /;"},
    {"F5", CHUNKED "0\r\n\n", 0, 400, "POST h /;"},
    {"F5", CHUNKED "0\r\nX: y\n\r\n", 0, 400, "POST h /;"},
    {"F5", CHUNKED "0\r\nX y\r\n\r\n", 0, 400, "POST h /;"},
    {"F5", CHUNKED "0\r\nX: y\r\n z\r\n\r\n", 0, 400, "POST h /;"},
    {"F5", CHUNKED "0\r\nContent-Length: 5\r\n\r\n", 0, 400, "POST h /;"},
    {"F5", CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 400, "POST h /;"},
    {"F5", CHUNKED "0\r\nHost: other\r\n\r\n", 0, 400, "POST h /;"},
    /* F7 line ends, folding, names */
    {"F7", "GET / HTTP/1.1\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\n\n", 0, 400, NULL},
    {"F7", "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F7", "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F7", "\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\tb\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost\t: h\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\nX Y: z\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\nX\xc3\xa9: x\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\nX(: x\r\n\r\n", 0, 400, NULL},
    {"F7", RAW("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n"), 400, NULL},
    {"F7", RAW("GET / HTTP/1.1\r\nHost: h\r\nX\0: a\r\n\r\n"), 400, NULL},
    {"F7", RAW("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n"), 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\nX: a\x7f\r\n\r\n", 0, 400, NULL},
    {"F7", "GET / HTTP/1.1\r\nHost: h\r\nX: a\x1b[31m\r\n\r\n", 0, 400, NULL},
    /* F8, F9 host */
    {"F8",
     "GET / HTTP/1.1\r\nHost: \x80"
     "a\r\n\r\n",
     0, 400, NULL},
    {"F9", "GET / HTTP/1.1\r\n\r\n", 0, 400, NULL},
    {"F9", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 0, 400, NULL},
    {"F9", "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F9", "GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F9", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 0, 400, NULL},
    {"F9", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 0, 400, NULL},
    {"F9", "GET / HTTP/1.1\r\nHost: user@h\r\n\r\n", 0, 400, NULL},
    {"F9", "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", 0, 400, NULL},
    {"F9", "GET / HTTP/1.1\r\nHost: h?x\r\n\r\n", 0, 400, NULL},
    {"F9", "GET / HTTP/1.1\r\nHost: h:99999\r\n\r\n", 0, 400, NULL},
    {"F9", "GET http://o/ HTTP/1.1\r\n\r\n", 0, 400, NULL},
    {"F9", "GET http://o/ HTTP/1.1\r\nHost: a b\r\n\r\n", 0, 400, NULL},
    {"F9", "GET http://u@o/ HTTP/1.1\r\nHost: o\r\n\r\n", 0, 400, NULL},
    {"F9", "GET http:/// HTTP/1.1\r\nHost: o\r\n\r\n", 0, 400, NULL},
    /* F10 method and target */
    {"F10", "G(ET / HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET /  HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", " GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET /#f HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET a HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET http://h/#f HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET http://h?a#f HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F10", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\nHost: h\r\n\r\n", 0, 501, NULL},
    /* F11 */
    {"F11", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 0, 501, NULL},
    {"F11", "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 0, 405, NULL},
    {"F11", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, 400, NULL},
    /* F12 versions */
    {"F12", "GET /\r\n", 0, 400, NULL},
    {"F12", "GET\r\n", 0, 400, NULL},
    {"F12", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", 0, 505, NULL},
    {"F12", "GET / HTTP/2.0\r\nHost: h\r\n\r\n", 0, 505, NULL},
    {"F12", "GET / HTTP/3.0\r\nHost: h\r\n\r\n", 0, 505, NULL},
    {"F12", "GET / HTTP/0.9\r\nHost: h\r\n\r\n", 0, 505, NULL},
    {"F12", "GET / HTTP/1.257\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F12", "GET / HTTP/11\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F12", "GET / HTTP/1.\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F12", "GET / http/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F12", "GET / HTTP/1.1x\r\nHost: h\r\n\r\n", 0, 400, NULL},
    {"F12", "GET / XTTP/1.1\r\nHost: h\r\n\r\n", 0, 400, NULL},
    /* F18 */
    {"F18", POST "Content-Length: 1\r\nExpect: 200-ok\r\n\r\n", 0, 417, NULL},
    {"F18", POST "Content-Length: 1\r\nExpect: 100-continue, x\r\n\r\n", 0, 417, NULL},
    /* F19 */
    {"F19", POST "Content-Length: 107374182400\r\n\r\n", 0, 413, NULL},
    {"F19", "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 107374182400\r\n\r\n", 0, 413, NULL},
    /* F24 */
    {"F24", RAW("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400, NULL},
    {"F24", "SSH-2.0-OpenSSH_9.2\r\n", 0, 400, NULL},
    {"F24", RAW("\0\0\0\0"), 400, NULL},
    {"F24", "<policy-file-request/>", 0, 400, NULL},
};

static void expect_bad(const struct bad *bad, size_t index, size_t step)
{
    struct rig *rig = rig_new();
    rig->step = step;
    rig_feed(rig, bad->said, bad->n != 0 ? bad->n : strlen(bad->said));
    char start[32];
    snprintf(start, sizeof(start), "HTTP/1.1 %d ", bad->status);
    const char *log = bad->log != NULL ? bad->log : "";
    if (strncmp(rig->wire, start, strlen(start)) != 0 || strcmp(rig->app.log, log) != 0 ||
        !rig_is_done(rig))
        ph_test_fail(__FILE__, __LINE__, "case %zu (%s) step %zu: log \"%s\", answer \"%.40s\"",
                     index, bad->id, step, rig->app.log, rig->wire);
    CHECK_INT(count_of(rig->wire, "HTTP/1.1 "), ==, 1);
    CHECK_INT(count_of(rig->wire, "connection: close\r\n"), ==, 1);
    CHECK_INT(rig->wire_len, <, 400);
    CHECK_INT(rig->stats.protocol_errors + rig->stats.limit_head + rig->stats.limit_body, ==, 1);
    CHECK_INT(rig->app.closed_cut, ==, bad->log != NULL);
    CHECK(!rig_wants_input(rig));
    /* Whatever comes next is not even looked at. */
    rig_say(rig, GET);
    CHECK_INT(count_of(rig->wire, "HTTP/1.1 "), ==, 1);
    CHECK_STR(rig->app.log, log);
    rig_free(rig);
}

TEST(h1_bad, matrix)
{
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        for (size_t k = 0; k < PH_COUNT_OF(steps); k++)
            expect_bad(&cases[i], i, steps[k]);
    }
}

/* F17: what was right before the wrong one is answered first. */
TEST(h1_bad, fault_waits_for_the_answers_before_it)
{
    for (size_t k = 0; k < PH_COUNT_OF(steps); k++) {
        struct rig *rig = rig_new();
        rig->step = steps[k];
        rig_say(rig, GET GET "GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n" GET);
        CHECK_INT(rig->app.count, ==, 2);
        CHECK_STR(rig->wire, "");
        CHECK(!rig_is_done(rig));
        CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
        rig_turn(rig);
        CHECK_INT(count_of(rig->wire, "HTTP/1.1 "), ==, 1);
        CHECK_INT(rig_respond(rig, 1, 200, NULL, NULL, true), ==, 0);
        rig_turn(rig);
        CHECK_INT(count_of(rig->wire, "HTTP/1.1 200 OK"), ==, 2);
        CHECK_INT(count_of(rig->wire, "HTTP/1.1 400 Bad Request"), ==, 1);
        CHECK(rig_is_done(rig));
        CHECK_INT(rig->app.closed_clean, ==, 2);
        rig_free(rig);
    }
}

TEST(h1_bad, fault_in_a_body_after_the_response_began_cuts_it)
{
    struct rig *rig = rig_new();
    rig_say(rig, CHUNKED "1\r\nx\r\n");
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "ab", false), ==, 0);
    rig_turn(rig);
    rig_say(rig, "zz\r\n");
    CHECK(rig_is_aborted(rig));
    CHECK_INT(rig->stats.protocol_errors, ==, 1);
    CHECK(strstr(rig->wire, "0\r\n\r\n") == NULL);
    CHECK(strstr(rig->wire, "400") == NULL);
    rig_free(rig);
}

TEST(h1_bad, fault_in_a_body_that_was_answered_closes)
{
    struct rig *rig = rig_new();
    rig_say(rig, CHUNKED "1\r\nx\r\n");
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    rig_say(rig, "zz\r\n");
    CHECK(rig_is_done(rig));
    CHECK_INT(rig->app.closed_clean, ==, 1);
    CHECK_INT(count_of(rig->wire, "HTTP/1.1 "), ==, 1);
    rig_free(rig);
}

TEST(h1_bad, fault_after_a_100_answers_in_the_place_of_the_response)
{
    struct rig *rig = rig_new();
    rig_say(rig, POST "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    ph_exchange_consume(rig->app.ex[0], 0);
    ph_sliceq_push_copy(&rig->in, "zz", 2); /* the 100 is still on its way */
    rig->engine->ops->feed(rig->engine, &rig->in, rig->now);
    CHECK_INT(rig->app.closed_cut, ==, 1);
    rig_turn(rig);
    CHECK(strncmp(rig->wire, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 ", 38) == 0);
    rig_free(rig);
}

TEST(h1_bad, answers_to_trace_and_head)
{
    struct rig *rig = rig_new();
    rig_say(rig, "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK(strstr(rig->wire, "\r\nallow: GET, HEAD, POST") != NULL);
    rig_free(rig);
    rig = rig_new();
    rig_say(rig, "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 107374182400\r\n\r\n");
    size_t n = rig->wire_len;
    CHECK_INT(n, >, 4);
    CHECK_STR(rig->wire + n - 4, "\r\n\r\n"); /* no body */
    rig_free(rig);
}

/* --- Limits: at the value, and one beyond --- */

struct text {
    char *p;
    size_t n;
};

static void text_add(struct text *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void text_add(struct text *text, const char *fmt, ...)
{
    va_list ap;
    if (text->p == NULL)
        text->p = ph_alloc(300000);
    va_start(ap, fmt);
    text->n += (size_t)vsnprintf(text->p + text->n, 300000 - text->n, fmt, ap);
    va_end(ap);
}

static void text_fill(struct text *text, char c, size_t n)
{
    text_add(text, "%s", "");
    memset(text->p + text->n, c, n);
    text->n += n;
    text->p[text->n] = '\0';
}

/* Feeds in all steps; `status` 0: one request reaches the application. Frees the text. */
static void expect_status(struct text *text, int status, void (*tune)(struct ph_h1_config *))
{
    for (size_t k = 0; k < PH_COUNT_OF(steps); k++) {
        struct rig *rig = rig_new();
        tune(&rig->config);
        rig->step = steps[k];
        rig->app.echo = true;
        rig_feed(rig, text->p, text->n);
        int got = rig->wire_len > 12 ? atoi(rig->wire + 9) : 0;
        if (got != (status == 0 ? 200 : status))
            ph_test_fail(__FILE__, __LINE__, "step %zu: %d instead of %d", steps[k], got, status);
        CHECK_INT(rig->stats.limit_head, ==, status == 414 || status == 431);
        CHECK_INT(rig->stats.limit_body, ==, status == 413);
        CHECK_INT(rig->stats.protocol_errors, ==, status == 400);
        rig_free(rig);
    }
    ph_free(text->p);
    *text = (struct text){.p = NULL};
}

static void small_limits(struct ph_h1_config *config)
{
    config->limits =
        (struct ph_http_limits){.head_bytes = 1000, .head_fields = 5, .target_bytes = 50};
    config->max_body = 100;
    config->chunk_extension = 10;
    config->chunk_overhead = 40;
}

/* F10, F16 */
TEST(h1_bad, target_at_limit)
{
    struct text text = {.p = NULL};
    text_add(&text, "GET /");
    text_fill(&text, 'a', 49);
    text_add(&text, " HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_status(&text, 0, small_limits);
    text_add(&text, "GET /");
    text_fill(&text, 'a', 50);
    text_add(&text, " HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_status(&text, 414, small_limits);
    text_add(&text, "GET /");
    text_fill(&text, 'a', 5000); /* never ends */
    expect_status(&text, 414, small_limits);
    text_add(&text, "GET / ");
    text_fill(&text, 'a', 5000);
    expect_status(&text, 400, small_limits);
}

TEST(h1_bad, method_at_limit)
{
    struct text text = {.p = NULL};
    text_fill(&text, 'M', PH_H1_METHOD_MAX);
    text_add(&text, " / HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_status(&text, 0, small_limits);
    struct rig *rig = rig_new();
    text_fill(&text, 'M', PH_H1_METHOD_MAX + 1);
    text_add(&text, " / HTTP/1.1\r\nHost: h\r\n\r\n");
    rig_feed(rig, text.p, text.n);
    CHECK(strncmp(rig->wire, "HTTP/1.1 501", 12) == 0);
    ph_free(text.p);
    rig_free(rig);
}

TEST(h1_bad, head_bytes_at_limit)
{
    /* host: 4 + 1 + 32, x: 1 + n + 32 */
    struct text text = {.p = NULL};
    text_add(&text, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    text_fill(&text, 'a', 1000 - 37 - 33);
    text_add(&text, "\r\n\r\n");
    expect_status(&text, 0, small_limits);
    text_add(&text, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    text_fill(&text, 'a', 1000 - 37 - 33 + 1);
    text_add(&text, "\r\n\r\n");
    expect_status(&text, 431, small_limits);
    text_add(&text, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
    text_fill(&text, 'a', 70000);
    expect_status(&text, 431, small_limits);
    text_add(&text, "GET / HTTP/1.1\r\nHost: h\r\nX:"); /* white space counts as well */
    text_fill(&text, ' ', 70000);
    expect_status(&text, 431, small_limits);
}

TEST(h1_bad, head_fields_at_limit)
{
    for (int n = 5; n <= 6; n++) {
        struct text text = {.p = NULL};
        text_add(&text, "GET / HTTP/1.1\r\nHost: h\r\n");
        for (int i = 1; i < n; i++)
            text_add(&text, "X: %d\r\n", i);
        text_add(&text, "\r\n");
        expect_status(&text, n == 5 ? 0 : 431, small_limits);
    }
}

/* F19 */
TEST(h1_bad, body_at_limit)
{
    for (int n = 100; n <= 101; n++) {
        struct text text = {.p = NULL};
        text_add(&text, POST "Content-Length: %d\r\n\r\n", n);
        text_fill(&text, 'b', (size_t)n);
        expect_status(&text, n == 100 ? 0 : 413, small_limits);
        text_add(&text, CHUNKED "32\r\n");
        text_fill(&text, 'b', 50);
        text_add(&text, "\r\n%x\r\n", n - 50);
        text_fill(&text, 'b', (size_t)n - 50);
        text_add(&text, "\r\n0\r\n\r\n");
        expect_status(&text, n == 100 ? 0 : 413, small_limits);
    }
}

TEST(h1_bad, body_beyond_the_limit_is_delivered_up_to_it_whatever_the_pieces)
{
    for (size_t k = 0; k < PH_COUNT_OF(steps); k++) {
        struct rig *rig = rig_new();
        rig->config.max_body = 4;
        rig->step = steps[k];
        rig_say(rig, CHUNKED "6\r\nabcdef\r\n0\r\n\r\n");
        CHECK_STR(rig->app.log, "POST h /;body(abcd)");
        CHECK(strncmp(rig->wire, "HTTP/1.1 413 ", 13) == 0);
        rig_free(rig);
    }
}

/* F6 */
TEST(h1_bad, chunk_extension_at_limit)
{
    for (size_t n = 9; n <= 10; n++) { /* the semicolon counts */
        struct text text = {.p = NULL};
        text_add(&text, CHUNKED "1;");
        text_fill(&text, 'e', n);
        text_add(&text, "\r\nx\r\n0\r\n\r\n");
        expect_status(&text, n == 9 ? 0 : 400, small_limits);
    }
}

TEST(h1_bad, chunk_overhead_at_limit)
{
    /* n one-byte chunks: framing 5 n, payload n; the last chunk line has 3 bytes. Allowed is
     * payload + 40. */
    for (int n = 9; n <= 10; n++) {
        struct text text = {.p = NULL};
        text_add(&text, CHUNKED);
        for (int i = 0; i < n; i++)
            text_add(&text, "1\r\nx\r\n");
        text_add(&text, "0\r\n\r\n");
        expect_status(&text, n == 9 ? 0 : 400, small_limits);
    }
}

TEST(h1_bad, large_chunked_upload_is_no_overhead)
{
    struct text text = {.p = NULL};
    text_add(&text, CHUNKED);
    for (int i = 0; i < 60; i++) {
        text_add(&text, "fa0\r\n");
        text_fill(&text, 'u', 4000);
        text_add(&text, "\r\n");
    }
    text_add(&text, "0\r\n\r\n");
    expect_status(&text, 0, ph_h1_config_default);
}

TEST(h1_bad, trailers_are_under_the_limits_of_a_head)
{
    for (int n = 5; n <= 6; n++) {
        struct text text = {.p = NULL};
        text_add(&text, CHUNKED "0\r\n");
        for (int i = 0; i < n; i++)
            text_add(&text, "X: %d\r\n", i);
        text_add(&text, "\r\n");
        expect_status(&text, n == 5 ? 0 : 431, small_limits);
    }
    struct text text = {.p = NULL};
    text_add(&text, CHUNKED "0\r\nX: ");
    text_fill(&text, 'a', 1000 - 33);
    text_add(&text, "\r\n\r\n");
    expect_status(&text, 0, small_limits);
    text_add(&text, CHUNKED "0\r\nX: ");
    text_fill(&text, 'a', 1000 - 32);
    text_add(&text, "\r\n\r\n");
    expect_status(&text, 431, small_limits);
}

/* --- The clock --- */

/* F13: absolute, not per byte. */
TEST(h1_bad, slow_head)
{
    struct rig *rig = rig_new();
    for (const char *p = "GET / HT"; *p != '\0'; p++) {
        rig_wait(rig, PH_SEC);
        rig_feed(rig, p, 1);
    }
    CHECK(!rig_is_done(rig));
    rig_wait(rig, 2 * PH_SEC - 1);
    CHECK(!rig_is_done(rig));
    rig_wait(rig, 1);
    CHECK(rig_is_done(rig));
    CHECK(strncmp(rig->wire, "HTTP/1.1 408 ", 13) == 0);
    CHECK_INT(rig->stats.timeouts_header, ==, 1);
    rig_free(rig);

    rig = rig_new(); /* nothing at all: no answer to nothing */
    rig_wait(rig, 10 * PH_SEC);
    CHECK(rig_is_done(rig));
    CHECK_STR(rig->wire, "");
    CHECK_INT(rig->stats.timeouts_header, ==, 1);
    rig_free(rig);

    rig = rig_new(); /* the second head has its own time, from its first byte */
    rig->app.echo = true;
    rig_wait(rig, 9 * PH_SEC);
    rig_say(rig, GET);
    rig_wait(rig, 5 * PH_SEC);
    rig_say(rig, "GET /");
    rig_wait(rig, 10 * PH_SEC - 1);
    CHECK(!rig_is_done(rig));
    rig_wait(rig, 1);
    CHECK(rig_is_done(rig));
    CHECK_INT(count_of(rig->wire, "HTTP/1.1 408 "), ==, 1);
    rig_free(rig);
}

TEST(h1_bad, idle_connection_is_closed_silently)
{
    struct rig *rig = rig_new();
    rig->app.echo = true;
    rig_say(rig, GET);
    size_t n = rig->wire_len;
    rig_wait(rig, 15 * PH_SEC - 1);
    CHECK(!rig_is_done(rig));
    rig_wait(rig, 1);
    CHECK(rig_is_done(rig));
    CHECK_INT(rig->wire_len, ==, n);
    CHECK_INT(rig->stats.timeouts_idle, ==, 1);
    rig_free(rig);
}

/* F14 */
TEST(h1_bad, slow_body)
{
    struct rig *rig = rig_new();
    rig_say(rig, POST "Content-Length: 5\r\n\r\na");
    rig_wait(rig, 30 * PH_SEC - 1);
    rig_say(rig, "b"); /* a byte is a sign of life */
    rig_wait(rig, 30 * PH_SEC - 1);
    CHECK(!rig_is_done(rig));
    rig_wait(rig, 1);
    CHECK(rig_is_done(rig));
    CHECK(strncmp(rig->wire, "HTTP/1.1 408 ", 13) == 0);
    CHECK_INT(rig->app.closed_cut, ==, 1);
    CHECK_INT(rig->stats.timeouts_body, ==, 1);
    rig_free(rig);

    rig = rig_new(); /* with a response under way: cut */
    rig_say(rig, POST "Content-Length: 5\r\n\r\na");
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, false), ==, 0);
    rig_turn(rig);
    rig_wait(rig, 30 * PH_SEC);
    CHECK(rig_is_aborted(rig));
    rig_free(rig);
}

TEST(h1_bad, slow_application_is_no_timeout)
{
    struct rig *rig;
    for (size_t window = 4; window <= 5; window++) { /* full, or with room */
        rig = rig_new();
        rig->app.no_consume = true;
        rig->config.body_window = window;
        rig_say(rig, POST "Content-Length: 5\r\n\r\nabcd");
        rig_wait(rig, 1000 * PH_SEC);
        CHECK(!rig_is_done(rig) && !rig_is_aborted(rig));
        ph_exchange_consume(rig->app.ex[0], 3);
        rig_wait(rig, 1000 * PH_SEC);
        CHECK(!rig_is_done(rig) && !rig_is_aborted(rig));
        ph_exchange_consume(rig->app.ex[0], 1); /* from here on it is the client's turn */
        rig_wait(rig, 30 * PH_SEC - 1);
        CHECK(!rig_is_done(rig));
        rig_wait(rig, 1);
        CHECK(rig_is_done(rig));
        rig_free(rig);
    }
    rig = rig_new();
    rig_say(rig, GET);
    rig_wait(rig, 100000 * PH_SEC);
    CHECK(!rig_is_done(rig) && !rig_is_aborted(rig));
    rig_free(rig);
}

/* What waits for a slow reader is not cut because the rest of its request does not come. */
TEST(h1_bad, slow_body_does_not_cut_a_complete_response)
{
    struct rig *rig = rig_new();
    rig_say(rig, POST "Content-Length: 5\r\n\r\na");
    CHECK_INT(rig_respond(rig, 0, 200, "content-length", "5", false), ==, 0);
    CHECK_INT(rig_write(rig, 0, "hello", true), ==, 0);
    rig_take(rig, 20);
    for (int i = 0; i < 3; i++) {
        rig->now += 30 * PH_SEC;
        rig->engine->ops->expire(rig->engine, rig->now);
    }
    CHECK(!rig_is_aborted(rig));
    rig_turn(rig);
    CHECK(strstr(rig->wire, "\r\n\r\nhello") != NULL);
    CHECK_INT(rig->app.closed_clean, ==, 1);
    rig_free(rig);
}

TEST(h1_bad, discarded_body_has_the_same_clock)
{
    struct rig *rig = rig_new();
    rig_say(rig, POST "Content-Length: 5\r\n\r\na");
    CHECK_INT(rig_respond(rig, 0, 200, NULL, NULL, true), ==, 0);
    rig_turn(rig);
    rig_wait(rig, 30 * PH_SEC);
    CHECK(rig_is_done(rig));
    CHECK_INT(rig->app.closed_clean, ==, 1);
    CHECK_INT(count_of(rig->wire, "HTTP/1.1 "), ==, 1);
    rig_free(rig);
}
