/* test_head.c - heads from decoded fields: RFC 9114 4.2 to 4.4, RFC 9220, limits, responses,
 * trailers. */
#include "../../src/http/http_internal.h"
#include "test.h"

static const struct ph_http_limits limits = {
    .head_bytes = 4096, .head_fields = 20, .target_bytes = 64};

enum kind { REQUEST, RESPONSE, TRAILERS };

/* Fields as "name\0value\0...", ended by an empty name. Returns the final verdict; a good head is
 * left in `out`. */
static int build(struct ph_head *out, enum kind kind, const char *const (*fields)[2], size_t n)
{
    struct ph_head_builder builder;
    if (kind == TRAILERS)
        ph_head_builder_init_trailers(&builder, &limits);
    else
        ph_head_builder_init(&builder, &limits, kind == RESPONSE);
    int first = 0;
    for (size_t i = 0; i < n && fields[i][0] != NULL; i++) {
        int rv = ph_head_builder_add(&builder, fields[i][0], strlen(fields[i][0]), fields[i][1],
                                     strlen(fields[i][1]));
        if (first == 0)
            first = rv;
        CHECK_INT(rv, ==, first); /* the first error stays */
    }
    int rv = ph_head_builder_finish(&builder);
    if (first != 0)
        CHECK_INT(rv, ==, first);
    if (rv != 0) {
        ph_head_builder_fini(&builder);
        return rv;
    }
    *out = builder.head;
    return 0;
}

#define MAX_FIELDS 10

static void expect(enum kind kind, int rv, const char *const (*fields)[2], const char *what)
{
    struct ph_head head;
    int got = build(&head, kind, fields, MAX_FIELDS);
    if (got == 0)
        ph_head_fini(&head);
    if (got != rv)
        ph_test_fail(__FILE__, __LINE__, "%s: %d instead of %d", what, got, rv);
}

TEST(head, request_is_taken_apart)
{
    static const char *const fields[][2] = {
        {":method", "GET"},     {":scheme", "https"},    {":authority", "localhost:4433"},
        {":path", "/echo?x=1"}, {"accept", "*/*"},       {"cookie", "a=b"},
        {"cookie", "c=d"},      {"content-length", "12"}};
    struct ph_head head;
    CHECK_INT(build(&head, REQUEST, fields, PH_COUNT_OF(fields)), ==, 0);
    CHECK_STR(head.method, "GET");
    CHECK_INT(head.method_len, ==, 3);
    CHECK_STR(head.scheme, "https");
    CHECK_STR(head.authority, "localhost:4433");
    CHECK_INT(head.authority_len, ==, 14);
    CHECK_STR(head.target, "/echo?x=1");
    CHECK_INT(head.target_len, ==, 9);
    CHECK_STR(head.protocol, "");
    CHECK(head.has_length);
    CHECK_INT(head.length, ==, 12);
    CHECK_INT(head.version, ==, 30);
    CHECK_INT(head.fields.count, ==, 4);
    CHECK_STR(head.fields.list[0].name, "accept");
    CHECK_STR(head.fields.list[2].value, "c=d");
    ph_head_fini(&head);
}

TEST(head, pseudo_fields_may_come_in_any_order)
{
    static const char *const fields[][2] = {
        {":protocol", "webtransport"}, {":path", "/"},
        {":authority", "h"},           {":method", "CONNECT"},
        {":scheme", "https"},          {"sec-webtransport-http3-draft02", "1"}};
    struct ph_head head;
    CHECK_INT(build(&head, REQUEST, fields, PH_COUNT_OF(fields)), ==, 0);
    CHECK_STR(head.method, "CONNECT");
    CHECK_STR(head.protocol, "webtransport");
    CHECK_STR(head.target, "/");
    ph_head_fini(&head);
}

TEST(head, host_stands_in_for_authority)
{
    static const char *const fields[][2] = {
        {":method", "GET"}, {":scheme", "https"}, {":path", "/"}, {"host", "Example.com"}};
    struct ph_head head;
    CHECK_INT(build(&head, REQUEST, fields, PH_COUNT_OF(fields)), ==, 0);
    CHECK_STR(head.authority, "Example.com");
    CHECK_INT(head.authority_len, ==, 11);
    ph_head_fini(&head);
}

#define M                                                                                          \
    {                                                                                              \
        ":method", "GET"                                                                           \
    }
#define S                                                                                          \
    {                                                                                              \
        ":scheme", "https"                                                                         \
    }
#define A                                                                                          \
    {                                                                                              \
        ":authority", "h"                                                                          \
    }
#define P                                                                                          \
    {                                                                                              \
        ":path", "/"                                                                               \
    }

/* C11 */
TEST(head, malformed_requests)
{
    static const struct {
        const char *what;
        const char *const fields[MAX_FIELDS][2];
    } cases[] = {
        {"nothing", {{NULL, NULL}}},
        {"no method", {S, A, P}},
        {"no scheme", {M, A, P}},
        {"no path", {M, S, A}},
        {"no authority", {M, S, P}},
        {"empty path", {M, S, A, {":path", ""}}},
        {"empty authority", {M, S, {":authority", ""}, P}},
        {"empty method", {{":method", ""}, S, A, P}},
        {"two methods", {M, M, S, A, P}},
        {"two authorities", {M, S, A, A, P}},
        {"two paths", {M, S, A, P, P}},
        {"unknown pseudo", {M, S, A, P, {":foo", "x"}}},
        {"bare colon", {M, S, A, P, {":", "x"}}},
        {"status in request", {M, S, A, P, {":status", "200"}}},
        {"pseudo after regular", {M, S, A, {"a", "b"}, P}},
        {"upper-case name", {M, S, A, P, {"Accept", "x"}}},
        {"upper-case pseudo", {{":Method", "GET"}, S, A, P}},
        {"empty name", {M, S, A, P, {"", "x"}}},
        {"space in name", {M, S, A, P, {"a b", "x"}}},
        {"colon in name", {M, S, A, P, {"a:b", "x"}}},
        {"CR in value", {M, S, A, P, {"a", "b\rc"}}},
        {"LF in value", {M, S, A, P, {"a", "b\nc"}}},
        {"CRLF splitting", {M, S, A, P, {"a", "b\r\nset-cookie: x"}}},
        {"outer space", {M, S, A, P, {"a", " b"}}},
        {"connection", {M, S, A, P, {"connection", "close"}}},
        {"transfer-encoding", {M, S, A, P, {"transfer-encoding", "chunked"}}},
        {"upgrade", {M, S, A, P, {"upgrade", "x"}}},
        {"keep-alive", {M, S, A, P, {"keep-alive", "5"}}},
        {"proxy-connection", {M, S, A, P, {"proxy-connection", "x"}}},
        {"te gzip", {M, S, A, P, {"te", "gzip"}}},
        {"te list", {M, S, A, P, {"te", "trailers, gzip"}}},
        {"method not a token", {{":method", "GE T"}, S, A, P}},
        {"scheme with colon", {M, {":scheme", "ht:tp"}, A, P}},
        {"scheme empty", {M, {":scheme", ""}, A, P}},
        {"authority with user", {M, S, {":authority", "u@h"}, P}},
        {"authority list", {M, S, {":authority", "a,b"}, P}},
        {"path absolute", {M, S, A, {":path", "https://h/"}}},
        {"path with space", {M, S, A, {":path", "/a b"}}},
        {"path with fragment", {M, S, A, {":path", "/a#b"}}},
        {"path with CR", {M, S, A, {":path", "/a\rb"}}},
        {"asterisk without OPTIONS", {M, S, A, {":path", "*"}}},
        {"host differs", {M, S, A, P, {"host", "other"}}},
        {"two hosts", {M, S, A, P, {"host", "h"}, {"host", "h"}}},
        {"bad host", {M, S, P, {"host", "a b"}}},
        {"empty host", {M, S, P, {"host", ""}}},
        {"length not a number", {M, S, A, P, {"content-length", "x"}}},
        {"length twice", {M, S, A, P, {"content-length", "1"}, {"content-length", "1"}}},
        {"length list", {M, S, A, P, {"content-length", "1, 1"}}},
        {"length signed", {M, S, A, P, {"content-length", "+1"}}},
        {"protocol with GET", {M, S, A, P, {":protocol", "webtransport"}}},
        {"connect with path", {{":method", "CONNECT"}, {":authority", "h:1"}, P}},
        {"connect with scheme", {{":method", "CONNECT"}, {":authority", "h:1"}, S}},
        {"connect without authority", {{":method", "CONNECT"}}},
        {"connect without port", {{":method", "CONNECT"}, A}},
        {"connect to v6 without port", {{":method", "CONNECT"}, {":authority", "[::1]"}}},
        {"extended without path", {{":method", "CONNECT"}, {":protocol", "x"}, S, A}},
        {"extended without scheme", {{":method", "CONNECT"}, {":protocol", "x"}, A, P}},
        {"extended without authority",
         {{":method", "CONNECT"}, {":protocol", "x"}, S, P, {"host", "h"}}},
        {"extended with empty protocol", {{":method", "CONNECT"}, {":protocol", ""}, S, A, P}},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++)
        expect(REQUEST, PH_E_MALFORMED, cases[i].fields, cases[i].what);
}

TEST(head, unusual_but_good_requests)
{
    static const struct {
        const char *what;
        const char *const fields[MAX_FIELDS][2];
    } cases[] = {
        {"te trailers", {M, S, A, P, {"te", "trailers"}}},
        {"host equal but for case", {M, S, A, P, {"host", "H"}}},
        {"options asterisk", {{":method", "OPTIONS"}, S, A, {":path", "*"}}},
        {"unknown method", {{":method", "brew"}, S, A, P}},
        {"plain connect", {{":method", "CONNECT"}, {":authority", "h:1"}}},
        {"connect to v6", {{":method", "CONNECT"}, {":authority", "[::1]:1"}}},
        {"raw UTF-8 path", {M, S, A, {":path", "/caf\xc3\xa9"}}},
        {"empty value", {M, S, A, P, {"a", ""}}},
        {"other scheme", {M, {":scheme", "coap+ws"}, A, P}},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++)
        expect(REQUEST, 0, cases[i].fields, cases[i].what);
}

TEST(head, name_with_nul_is_malformed)
{
    struct ph_head_builder builder;
    ph_head_builder_init(&builder, &limits, false);
    CHECK_INT(ph_head_builder_add(&builder, "a\0b", 3, "x", 1), ==, PH_E_MALFORMED);
    ph_head_builder_fini(&builder);
    ph_head_builder_init(&builder, &limits, false);
    CHECK_INT(ph_head_builder_add(&builder, "a", 1, "x\0y", 3), ==, PH_E_MALFORMED);
    ph_head_builder_fini(&builder);
}

/* C4, C5: at the limit and one more. */
TEST(head, limits_end_the_work)
{
    static const char long_path[] =
        "/123456789012345678901234567890123456789012345678901234567890123";
    static const char *const at[][2] = {M, S, A, {":path", long_path}, {NULL, NULL}};
    CHECK_INT(sizeof(long_path) - 1, ==, 64);
    expect(REQUEST, 0, at, "target at limit");
    static const char over_path[] =
        "/1234567890123456789012345678901234567890123456789012345678901234";
    static const char *const over[][2] = {M, S, A, {":path", over_path}, {NULL, NULL}};
    expect(REQUEST, PH_E_LIMIT, over, "target over limit");
    for (int kind = 0; kind < 2; kind++) {
        struct ph_head_builder builder;
        if (kind == 0)
            ph_head_builder_init(&builder, &limits, false);
        else
            ph_head_builder_init_trailers(&builder, &limits);
        for (size_t i = 0; i < limits.head_fields; i++)
            CHECK_INT(ph_head_builder_add(&builder, "a", 1, "b", 1), ==, 0);
        CHECK_INT(ph_head_builder_add(&builder, "a", 1, "b", 1), ==, PH_E_LIMIT);
        size_t arena = builder.head.fields.arena_len;
        for (int i = 0; i < 1000; i++)
            CHECK_INT(ph_head_builder_add(&builder, "a", 1, "b", 1), ==, PH_E_LIMIT);
        CHECK_INT(builder.head.fields.arena_len, ==, arena);
        CHECK_INT(ph_head_builder_finish(&builder), ==, PH_E_LIMIT);
        ph_head_builder_fini(&builder);
    }
}

TEST(head, bytes_of_the_head_are_limited_with_pseudo_fields)
{
    struct ph_head_builder builder;
    char big[4096];
    memset(big, 'x', sizeof(big));
    ph_head_builder_init(&builder, &limits, false);
    CHECK_INT(ph_head_builder_add(&builder, ":method", 7, "GET", 3), ==, 0);
    size_t room = limits.head_bytes - (7 + 3 + 32);
    CHECK_INT(ph_head_builder_add(&builder, "a", 1, big, room - 33), ==, 0);
    CHECK_INT(ph_head_builder_add(&builder, "b", 1, "", 0), ==, PH_E_LIMIT);
    ph_head_builder_fini(&builder);
    ph_head_builder_init(&builder, &limits, false);
    CHECK_INT(ph_head_builder_add(&builder, ":method", 7, "GET", 3), ==, 0);
    CHECK_INT(ph_head_builder_add(&builder, "a", 1, big, room - 32), ==, PH_E_LIMIT);
    ph_head_builder_fini(&builder);
    ph_head_builder_init(&builder, &limits, false);
    CHECK_INT(ph_head_builder_add(&builder, ":authority", 10, big, sizeof(big)), ==, PH_E_LIMIT);
    ph_head_builder_fini(&builder);
}

TEST(head, responses)
{
    static const char *const fields[][2] = {{":status", "404"}, {"content-length", "3"}};
    struct ph_head head;
    CHECK_INT(build(&head, RESPONSE, fields, 2), ==, 0);
    CHECK_INT(head.status, ==, 404);
    CHECK(head.has_length);
    ph_head_fini(&head);
    static const struct {
        const char *what;
        const char *const fields[MAX_FIELDS][2];
    } bad[] = {
        {"no status", {{"a", "b"}}},
        {"two", {{":status", "200"}, {":status", "200"}}},
        {"short", {{":status", "20"}}},
        {"long", {{":status", "2000"}}},
        {"letters", {{":status", "2xx"}}},
        {"zero", {{":status", "099"}}},
        {"switching", {{":status", "101"}}},
        {"late", {{"a", "b"}, {":status", "200"}}},
        {"method", {{":status", "200"}, {":method", "GET"}}},
        {"connection", {{":status", "200"}, {"connection", "x"}}},
    };
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++)
        expect(RESPONSE, PH_E_MALFORMED, bad[i].fields, bad[i].what);
}

TEST(head, trailers)
{
    static const char *const good[MAX_FIELDS][2] = {{"grpc-status", "0"}, {"x", ""}};
    struct ph_head head;
    CHECK_INT(build(&head, TRAILERS, good, 2), ==, 0);
    CHECK_INT(head.fields.count, ==, 2);
    ph_head_fini(&head);
    static const char *const empty[MAX_FIELDS][2] = {{NULL, NULL}};
    expect(TRAILERS, 0, empty, "empty");
    static const char *const pseudo[MAX_FIELDS][2] = {{":path", "/"}};
    expect(TRAILERS, PH_E_MALFORMED, pseudo, "pseudo");
    static const char *const unknown[MAX_FIELDS][2] = {{":x", "/"}};
    expect(TRAILERS, PH_E_MALFORMED, unknown, "unknown pseudo");
    static const char *const length[MAX_FIELDS][2] = {{"content-length", "1"}};
    expect(TRAILERS, PH_E_MALFORMED, length, "length");
    static const char *const upper[MAX_FIELDS][2] = {{"X", "1"}};
    expect(TRAILERS, PH_E_MALFORMED, upper, "upper case");
}
