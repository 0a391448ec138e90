/* test_exchange.c - the front doors of an exchange: order, framing promises, fields, swallowed
 * bodies, trailers, aborts; against an engine that writes down what it is told. */
#include "../../src/http/http_internal.h"
#include "test.h"

struct rig {
    struct ph_exchange ex;
    struct ph_exchange_sink sink;
    char said[2048];   /* what the engine was told */
    char events[1024]; /* what the sink was told */
};

static void note(char *to, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void note(char *to, size_t cap, const char *fmt, ...)
{
    va_list ap;
    size_t n = strlen(to);
    va_start(ap, fmt);
    vsnprintf(to + n, cap - n, fmt, ap);
    va_end(ap);
}

static struct rig *rig_of(struct ph_exchange *ex)
{
    return PH_CONTAINER(ex, struct rig, ex);
}

static void op_respond(struct ph_exchange *ex, int status, const struct ph_field *fields, size_t n,
                       bool fin)
{
    struct rig *rig = rig_of(ex);
    note(rig->said, sizeof(rig->said), "head %d", status);
    for (size_t i = 0; i < n; i++)
        note(rig->said, sizeof(rig->said), " %.*s=%.*s", (int)fields[i].name_len, fields[i].name,
             (int)fields[i].value_len, fields[i].value);
    note(rig->said, sizeof(rig->said), "%s;", fin ? " fin" : "");
}

static void op_write(struct ph_exchange *ex, struct ph_slice slice, bool fin)
{
    struct rig *rig = rig_of(ex);
    note(rig->said, sizeof(rig->said), "body %.*s%s;", (int)slice.n,
         slice.n > 0 ? (const char *)slice.p : "", fin ? " fin" : "");
    ph_buf_unref(slice.buf);
}

static void op_trailers(struct ph_exchange *ex, const struct ph_field *fields, size_t n)
{
    (void)fields;
    note(rig_of(ex)->said, sizeof(rig_of(ex)->said), "trailers %zu;", n);
}

static void op_consume(struct ph_exchange *ex, size_t n)
{
    note(rig_of(ex)->said, sizeof(rig_of(ex)->said), "consume %zu;", n);
}

static void op_reset(struct ph_exchange *ex, uint64_t code)
{
    note(rig_of(ex)->said, sizeof(rig_of(ex)->said), "reset %llx;", (unsigned long long)code);
}

static void op_stop(struct ph_exchange *ex, uint64_t code)
{
    note(rig_of(ex)->said, sizeof(rig_of(ex)->said), "stop %llx;", (unsigned long long)code);
}

static const struct ph_exchange_ops ops = {.respond = op_respond,
                                           .write = op_write,
                                           .trailers = op_trailers,
                                           .consume = op_consume,
                                           .reset = op_reset,
                                           .stop = op_stop};

static void on_body(void *self, struct ph_exchange *ex, const uint8_t *data, size_t n)
{
    struct rig *rig = self;
    (void)ex;
    note(rig->events, sizeof(rig->events), "body %.*s;", (int)n, (const char *)data);
}

static void on_end(void *self, struct ph_exchange *ex)
{
    (void)ex;
    note(((struct rig *)self)->events, 1024, "end;");
}

static void on_acked(void *self, struct ph_exchange *ex, size_t n)
{
    (void)ex;
    note(((struct rig *)self)->events, 1024, "acked %zu;", n);
}

static struct rig *rig_new(const char *method, int version, const char *te)
{
    struct rig *rig = ph_alloc(sizeof(*rig));
    rig->sink = (struct ph_exchange_sink){
        .self = rig, .on_body = on_body, .on_end = on_end, .on_acked = on_acked};
    ph_exchange_init(&rig->ex, &ops, &rig->sink);
    rig->ex.head.method = method;
    rig->ex.head.version = version;
    if (te != NULL)
        ph_fields_add(&rig->ex.head.fields, "te", 2, te, strlen(te), NULL);
    return rig;
}

static void rig_free(struct rig *rig)
{
    ph_exchange_fini(&rig->ex);
    ph_free(rig);
}

static struct ph_field field(const char *name, const char *value)
{
    return (struct ph_field){
        .name = name, .value = value, .name_len = strlen(name), .value_len = strlen(value)};
}

static int respond(struct rig *rig, int status, const char *name, const char *value, bool fin)
{
    struct ph_field f = name != NULL ? field(name, value) : field("", "");
    return ph_exchange_respond(&rig->ex, status, &f, name != NULL, fin);
}

static int say(struct rig *rig, const char *text, bool fin)
{
    return ph_exchange_write(&rig->ex, ph_slice_of(ph_buf_copy(text, strlen(text))), fin);
}

TEST(exchange, ordinary_response)
{
    struct rig *rig = rig_new("GET", 11, NULL);
    CHECK_INT(say(rig, "early", false), ==, PH_E_STATE);
    CHECK_INT(respond(rig, 200, "a", "b", false), ==, 0);
    CHECK_INT(respond(rig, 200, "a", "b", false), ==, PH_E_STATE);
    CHECK_INT(say(rig, "one", false), ==, 0);
    CHECK_INT(say(rig, "", false), ==, 0); /* says nothing: the engine is not bothered */
    CHECK_INT(say(rig, "two", true), ==, 0);
    CHECK_INT(say(rig, "late", false), ==, PH_E_STATE);
    CHECK_INT(ph_exchange_trailers(&rig->ex, NULL, 0), ==, PH_E_STATE);
    CHECK_STR(rig->said, "head 200 a=b;body one;body two fin;");
    CHECK_INT(rig->ex.out_bytes, ==, 6);
    rig_free(rig);
}

TEST(exchange, informational_heads_come_first)
{
    struct rig *rig = rig_new("GET", 11, NULL);
    CHECK_INT(respond(rig, 103, "link", "x", false), ==, 0);
    CHECK_INT(respond(rig, 100, "content-length", "5", false), ==, 0);
    CHECK_INT(respond(rig, 103, NULL, NULL, true), ==, PH_E_INVAL);
    CHECK_INT(respond(rig, 101, NULL, NULL, false), ==, PH_E_INVAL);
    CHECK_INT(respond(rig, 200, NULL, NULL, true), ==, 0);
    CHECK_INT(respond(rig, 103, NULL, NULL, false), ==, PH_E_STATE);
    CHECK_STR(rig->said, "head 103 link=x;head 100;head 200 fin;");
    rig_free(rig);
    rig = rig_new("GET", 10, NULL); /* HTTP/1.0 knows no 1xx */
    CHECK_INT(respond(rig, 103, "link", "x", false), ==, 0);
    CHECK_STR(rig->said, "");
    rig_free(rig);
}

/* F20 */
TEST(exchange, bad_heads_are_refused_and_leave_no_trace)
{
    static const char *const bad[][2] = {{"a", "b\r\nset-cookie: x"},
                                         {"a", "b\nc"},
                                         {"a", "b\rc"},
                                         {"a", " b"},
                                         {"a b", "c"},
                                         {":status", "200"},
                                         {"", "x"},
                                         {"Upper", "x"},
                                         {"a", "\x01"},
                                         {"a:", "b"},
                                         {"content-length", "x"},
                                         {"content-length", "-1"},
                                         {"content-length", "1, 1"}};
    struct rig *rig = rig_new("GET", 11, NULL);
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++) {
        if (respond(rig, 200, bad[i][0], bad[i][1], false) != PH_E_INVAL)
            ph_test_fail(__FILE__, __LINE__, "%s: %s was taken", bad[i][0], bad[i][1]);
    }
    struct ph_field twice[2] = {field("content-length", "1"), field("content-length", "1")};
    CHECK_INT(ph_exchange_respond(&rig->ex, 200, twice, 2, false), ==, PH_E_INVAL);
    CHECK_INT(respond(rig, 99, NULL, NULL, false), ==, PH_E_INVAL);
    CHECK_INT(respond(rig, 1000, NULL, NULL, false), ==, PH_E_INVAL);
    CHECK_STR(rig->said, "");
    CHECK_INT(respond(rig, 500, NULL, NULL, true), ==, 0);
    CHECK_STR(rig->said, "head 500 fin;");
    rig_free(rig);
}

TEST(exchange, connection_fields_are_taken_out)
{
    struct rig *rig = rig_new("GET", 30, NULL);
    struct ph_field fields[] = {field("transfer-encoding", "chunked"),
                                field("x", "1"),
                                field("connection", "Keep-Alive, Close"),
                                field("upgrade", "h2c"),
                                field("keep-alive", "5"),
                                field("y", "2")};
    CHECK_INT(ph_exchange_respond(&rig->ex, 200, fields, PH_COUNT_OF(fields), true), ==, 0);
    CHECK(rig->ex.out_close);
    CHECK_STR(rig->said, "head 200 x=1 y=2 fin;");
    rig_free(rig);
}

TEST(exchange, bodiless_responses_swallow)
{
    static const struct {
        const char *method;
        int status;
        const char *said;
    } cases[] = {
        {"HEAD", 200, "head 200 content-length=5;body  fin;"},
        {"GET", 304, "head 304 content-length=5;body  fin;"},
        {"GET", 204, "head 204;body  fin;"},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        struct rig *rig = rig_new(cases[i].method, 11, NULL);
        CHECK_INT(respond(rig, cases[i].status, "content-length", "5", false), ==, 0);
        CHECK(rig->ex.out_is_bodiless);
        CHECK_INT(say(rig, "hel", false), ==, 0);
        CHECK_INT(say(rig, "lo, and more than declared", true), ==, 0);
        CHECK_STR(rig->said, cases[i].said);
        CHECK_STR(rig->events, "acked 3;acked 26;");
        rig_free(rig);
    }
    struct rig *rig = rig_new("HEAD", 11, NULL);
    CHECK_INT(respond(rig, 200, "content-length", "5", true), ==, 0);
    CHECK_STR(rig->said, "head 200 content-length=5 fin;");
    rig_free(rig);
}

TEST(exchange, declared_length_is_kept)
{
    struct rig *rig = rig_new("GET", 11, NULL);
    CHECK_INT(respond(rig, 200, "content-length", "5", true), ==, PH_E_INVAL);
    CHECK_STR(rig->said, "");
    CHECK_INT(respond(rig, 200, "content-length", "5", false), ==, 0);
    CHECK_INT(say(rig, "hello", true), ==, 0);
    rig_free(rig);
    rig = rig_new("GET", 11, NULL); /* one byte too many */
    CHECK_INT(respond(rig, 200, "content-length", "5", false), ==, 0);
    CHECK_INT(say(rig, "hello!", false), ==, PH_E_INVAL);
    CHECK_STR(rig->said, "head 200 content-length=5;reset 102;");
    CHECK_INT(say(rig, "x", false), ==, PH_E_CLOSED);
    CHECK_INT(respond(rig, 200, NULL, NULL, false), ==, PH_E_CLOSED);
    CHECK_INT(ph_exchange_trailers(&rig->ex, NULL, 0), ==, PH_E_CLOSED);
    rig_free(rig);
    rig = rig_new("GET", 11, NULL); /* one too few */
    CHECK_INT(respond(rig, 200, "content-length", "5", false), ==, 0);
    CHECK_INT(say(rig, "hell", true), ==, PH_E_INVAL);
    CHECK_STR(rig->said, "head 200 content-length=5;reset 102;");
    rig_free(rig);
    rig = rig_new("GET", 11, NULL);
    CHECK_INT(respond(rig, 200, "content-length", "0", true), ==, 0);
    rig_free(rig);
}

TEST(exchange, trailers_only_for_who_asked)
{
    struct ph_field good = field("grpc-status", "0"), bad = field("content-length", "5");
    struct rig *rig = rig_new("GET", 11, "gzip, Trailers;q=0.5");
    CHECK_INT(ph_exchange_trailers(&rig->ex, &good, 1), ==, PH_E_STATE);
    CHECK_INT(respond(rig, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(ph_exchange_trailers(&rig->ex, &bad, 1), ==, PH_E_INVAL);
    CHECK_INT(ph_exchange_trailers(&rig->ex, &good, 1), ==, 0);
    CHECK_INT(ph_exchange_trailers(&rig->ex, &good, 1), ==, PH_E_STATE);
    CHECK_STR(rig->said, "head 200;trailers 1;");
    rig_free(rig);
    rig = rig_new("GET", 11, NULL);
    CHECK_INT(respond(rig, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(ph_exchange_trailers(&rig->ex, &good, 1), ==, 0);
    CHECK_STR(rig->said, "head 200;body  fin;");
    rig_free(rig);
    rig = rig_new("GET", 10, "trailers");
    CHECK_INT(respond(rig, 200, NULL, NULL, false), ==, 0);
    CHECK_INT(ph_exchange_trailers(&rig->ex, &good, 1), ==, 0);
    CHECK_STR(rig->said, "head 200;body  fin;");
    rig_free(rig);
    rig = rig_new("GET", 11, "trailers"); /* trailers do not replace missing bytes */
    CHECK_INT(respond(rig, 200, "content-length", "5", false), ==, 0);
    CHECK_INT(ph_exchange_trailers(&rig->ex, &good, 1), ==, PH_E_INVAL);
    CHECK_STR(rig->said, "head 200 content-length=5;reset 102;");
    rig_free(rig);
}

TEST(exchange, request_body_is_held_against_its_length)
{
    struct rig *rig = rig_new("POST", 30, NULL);
    rig->ex.head.has_length = true;
    rig->ex.head.length = 5;
    CHECK_INT(ph_exchange_on_body(&rig->ex, (const uint8_t *)"hel", 3), ==, 0);
    CHECK_INT(rig->ex.in, ==, PH_EX_BODY);
    CHECK_INT(ph_exchange_on_end(&rig->ex), ==, PH_E_MALFORMED); /* C11: falls short */
    CHECK_INT(ph_exchange_on_body(&rig->ex, (const uint8_t *)"lo!", 3), ==, PH_E_MALFORMED);
    CHECK_INT(ph_exchange_on_body(&rig->ex, (const uint8_t *)"lo", 2), ==, 0);
    CHECK_INT(ph_exchange_on_end(&rig->ex), ==, 0);
    CHECK_INT(rig->ex.in, ==, PH_EX_DONE);
    CHECK_STR(rig->events, "body hel;body lo;end;");
    rig_free(rig);
}

TEST(exchange, a_tunnel_is_granted_only_to_who_asked)
{
    struct ph_field fields[] = {field("x-a", "1"), field("content-length", "5"),
                                field("connection", "close")};
    struct ph_field bad = field("X", "1");
    struct rig *rig = rig_new("GET", 11, NULL);
    CHECK_INT(ph_exchange_upgrade(&rig->ex, NULL, 0), ==, PH_E_STATE);
    rig->ex.head.protocol = "websocket";
    CHECK_INT(ph_exchange_upgrade(&rig->ex, &bad, 1), ==, PH_E_INVAL);
    CHECK(!rig->ex.is_tunnel);
    CHECK_INT(ph_exchange_upgrade(&rig->ex, fields, 3), ==, 0);
    CHECK(rig->ex.is_tunnel);
    CHECK_STR(rig->said, "head 200 x-a=1;"); /* an engine without upgrade: extended CONNECT */
    CHECK_INT(respond(rig, 200, NULL, NULL, true), ==, PH_E_STATE);
    CHECK_INT(say(rig, "raw", false), ==, 0);
    CHECK_INT(say(rig, "", true), ==, 0);
    rig_free(rig);
}

TEST(exchange, a_tunnel_has_no_length)
{
    struct rig *rig = rig_new("CONNECT", 30, NULL);
    rig->ex.head.protocol = "websocket";
    rig->ex.head.has_length = true;
    rig->ex.head.length = 2;
    CHECK_INT(ph_exchange_on_body(&rig->ex, (const uint8_t *)"abc", 3), ==, 0);
    CHECK_INT(ph_exchange_upgrade(&rig->ex, NULL, 0), ==, 0);
    CHECK_INT(ph_exchange_on_end(&rig->ex), ==, 0);
    CHECK_STR(rig->events, "body abc;end;");
    rig_free(rig);
}

TEST(exchange, reset_and_stop)
{
    struct rig *rig = rig_new("POST", 30, NULL);
    ph_exchange_consume(&rig->ex, 0);
    ph_exchange_consume(&rig->ex, 7);
    ph_exchange_stop(&rig->ex, 0x100);
    ph_exchange_reset(&rig->ex, 0x10c);
    ph_exchange_reset(&rig->ex, 0x10c);
    ph_exchange_stop(&rig->ex, 0x100);
    ph_exchange_consume(&rig->ex, 7);
    CHECK_STR(rig->said, "consume 0;consume 7;stop 100;reset 10c;");
    CHECK(rig->ex.is_aborted);
    rig_free(rig);
    rig = rig_new("POST", 30, NULL);
    CHECK_INT(ph_exchange_on_end(&rig->ex), ==, 0);
    ph_exchange_stop(&rig->ex, 0x100); /* nothing left to stop */
    CHECK_STR(rig->said, "");
    rig_free(rig);
}
