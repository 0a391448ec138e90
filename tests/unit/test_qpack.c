/*
 * test_qpack.c - field sections with no dynamic table: round trips, limits, smuggling, and what the
 * peer's QPACK streams may say.
 */
#include "test.h"

#include "../../src/h3/h3.h"
#include "../../src/http/http.h"

#define F(n, v)                                                                                    \
    {                                                                                              \
        .name = n, .value = v, .name_len = sizeof(n) - 1, .value_len = sizeof(v) - 1               \
    }
#define BYTES(s) ((const uint8_t *)(s)), (sizeof(s) - 1)

static const struct ph_http_limits limits = {
    .head_bytes = 64 * 1024, .head_fields = 100, .target_bytes = 8 * 1024};

/* Decodes a section into a head; the result of decoding, then of finishing. */
static int decode(struct ph_head *head, const uint8_t *p, size_t n)
{
    struct ph_qpack *qpack = ph_qpack_new();
    struct ph_head_builder builder;
    ph_head_builder_init(&builder, &limits, false);
    int rv = ph_qpack_decode(qpack, 0, p, n, &builder);
    if (rv == 0)
        rv = ph_head_builder_finish(&builder);
    if (rv == 0)
        *head = builder.head;
    else
        ph_head_builder_fini(&builder);
    ph_qpack_free(qpack);
    return rv;
}

/* Encodes fields, takes the frame header off and decodes them. */
static int round_trip(struct ph_head *head, const struct ph_field *fields, size_t n)
{
    struct ph_qpack *qpack = ph_qpack_new();
    struct ph_buf *buf = ph_qpack_encode(qpack, 0, fields, n);
    struct ph_h3_frame_reader reader = {0};
    const uint8_t *p = ph_buf_data(buf), *piece = NULL;
    size_t len = 0;
    CHECK(ph_h3_frame_next(&reader, &p, p + ph_buf_len(buf), &piece, &len));
    CHECK_INT(reader.type, ==, PH_H3_HEADERS);
    CHECK_INT(reader.left, ==, 0);
    CHECK(p == ph_buf_data(buf) + ph_buf_len(buf));
    int rv = decode(head, piece, len);
    ph_buf_unref(buf);
    ph_qpack_free(qpack);
    return rv;
}

/* A GET of / with one more field. */
static int with_field(const char *name, size_t name_len, const char *value, size_t value_len)
{
    struct ph_field fields[] = {F(":method", "GET"),
                                F(":scheme", "https"),
                                F(":authority", "a.example"),
                                F(":path", "/"),
                                {name, value, name_len, value_len}};
    struct ph_head head;
    int rv = round_trip(&head, fields, PH_COUNT_OF(fields));
    if (rv == 0)
        ph_head_fini(&head);
    return rv;
}
#define WITH(n, v) with_field(n, sizeof(n) - 1, v, sizeof(v) - 1)

TEST(qpack, request_survives_a_round_trip)
{
    static const struct ph_field fields[] = {
        F(":method", "POST"),         F(":scheme", "https"),  F(":authority", "localhost:4433"),
        F(":path", "/echo?x=1"),      F("cookie", "a=b"),     F("authorization", "Basic eDp5"),
        F("content-length", "12"),    F("x-empty", ""),       F("x-long", "0123456789abcdefghij"),
        F("accept-encoding", "gzip"), F("x-bin", "\x80\xff"),
    };
    struct ph_head head;
    CHECK_INT(round_trip(&head, fields, PH_COUNT_OF(fields)), ==, 0);
    CHECK_STR(head.method, "POST");
    CHECK_STR(head.scheme, "https");
    CHECK_STR(head.authority, "localhost:4433");
    CHECK_STR(head.target, "/echo?x=1");
    CHECK(head.has_length);
    CHECK_INT(head.length, ==, 12);
    CHECK_INT(head.fields.count, ==, PH_COUNT_OF(fields) - 4);
    CHECK_STR(ph_fields_get(&head.fields, "x-bin")->value, "\x80\xff");
    CHECK_STR(ph_fields_get(&head.fields, "x-empty")->value, "");
    CHECK_STR(ph_fields_get(&head.fields, "authorization")->value, "Basic eDp5");
    ph_head_fini(&head);
}

TEST(qpack, extended_connect_as_chromium_sends_it)
{
    static const struct ph_field fields[] = {
        F(":scheme", "https"),
        F(":method", "CONNECT"),
        F(":authority", "localhost:4433"),
        F(":path", "/echo?x=1"),
        F(":protocol", "webtransport"),
        F("sec-webtransport-http3-draft02", "1"),
        F("origin", "http://localhost:8080"),
    };
    struct ph_head head;
    CHECK_INT(round_trip(&head, fields, PH_COUNT_OF(fields)), ==, 0);
    CHECK_STR(head.method, "CONNECT");
    CHECK_STR(head.protocol, "webtransport");
    CHECK_STR(head.target, "/echo?x=1");
    CHECK_INT(head.fields.count, ==, 2);
    ph_head_fini(&head);
}

TEST(qpack, one_codec_serves_many_sections)
{
    static const struct ph_field fields[] = {F(":status", "200"), F("server", "x"),
                                             F("set-cookie", "secret")};
    struct ph_qpack *qpack = ph_qpack_new();
    size_t first = 0;
    for (uint64_t i = 0; i < 300; i++) {
        struct ph_buf *buf = ph_qpack_encode(qpack, i * 4, fields, PH_COUNT_OF(fields));
        struct ph_head_builder builder;
        if (i == 0)
            first = ph_buf_len(buf);
        CHECK_INT(ph_buf_len(buf), ==, first); /* nothing is learned */
        ph_head_builder_init(&builder, &limits, true);
        CHECK_INT(ph_qpack_decode(qpack, i * 4, ph_buf_data(buf) + 2, first - 2, &builder), ==, 0);
        CHECK_INT(ph_head_builder_finish(&builder), ==, 0);
        CHECK_INT(builder.head.status, ==, 200);
        ph_head_fini(&builder.head);
        ph_buf_unref(buf);
    }
    ph_qpack_free(qpack);
}

TEST(qpack, secrets_are_marked_never_indexed)
{
    static const struct ph_field open[] = {F("x-token", "zzz")};
    static const struct ph_field secret[] = {F("authorization", "zzz"), F("set-cookie", "zzz")};
    struct ph_qpack *qpack = ph_qpack_new();
    struct ph_buf *buf = ph_qpack_encode(qpack, 0, open, 1);
    CHECK_INT(ph_buf_data(buf)[4] & 0xf0, ==, 0x20); /* literal name, N = 0, Huffman or not below */
    ph_buf_unref(buf);
    buf = ph_qpack_encode(qpack, 0, secret, 1);
    CHECK_INT(ph_buf_data(buf)[4] & 0xf0, ==, 0x70); /* static name reference, N = 1 */
    ph_buf_unref(buf);
    buf = ph_qpack_encode(qpack, 0, secret + 1, 1);
    CHECK_INT(ph_buf_data(buf)[4] & 0xf0, ==, 0x70);
    ph_buf_unref(buf);
    ph_qpack_free(qpack);
}

TEST(qpack, empty_section_and_bad_prefix_fail)
{
    struct ph_head head;
    CHECK_INT(decode(&head, BYTES("")), ==, PH_E_PROTO);
    CHECK_INT(decode(&head, BYTES("\x00")), ==, PH_E_PROTO);
    CHECK_INT(decode(&head, BYTES("\x00\x00")), ==, PH_E_MALFORMED); /* valid, but no request */
}

TEST(qpack, references_to_a_dynamic_table_fail)
{
    struct ph_head head;
    CHECK_INT(decode(&head, BYTES("\x06\x00\xd7\xcf\x84\x83")), ==, PH_E_PROTO);
    CHECK_INT(decode(&head, BYTES("\x01\x00\x80")), ==, PH_E_PROTO);
    CHECK_INT(decode(&head, BYTES("\x00\x00\x80")), ==, PH_E_PROTO); /* index relative to base */
    CHECK_INT(decode(&head, BYTES("\x00\x00\x10")), ==, PH_E_PROTO); /* post-base */
    CHECK_INT(decode(&head, BYTES("\x00\x00\x40\x01x")), ==, PH_E_PROTO);
}

TEST(qpack, cut_or_bad_literals_fail)
{
    struct ph_head head;
    CHECK_INT(decode(&head, BYTES("\x00\x00\xff")), ==, PH_E_PROTO);     /* unfinished integer */
    CHECK_INT(decode(&head, BYTES("\x00\x00\xff\x40")), ==, PH_E_PROTO); /* static index 127 */
    CHECK_INT(decode(&head, BYTES("\x00\x00\x51\x05/ab")), ==, PH_E_PROTO);
    CHECK_INT(decode(&head, BYTES("\x00\x00\x23xyz\x81\xff\xff")), ==, PH_E_PROTO);
    CHECK_INT(decode(&head, BYTES("\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f")), ==,
              PH_E_PROTO);
}

TEST(qpack, codec_goes_on_after_a_refused_section)
{
    struct ph_qpack *qpack = ph_qpack_new();
    struct ph_head_builder builder;
    ph_head_builder_init(&builder, &limits, false);
    CHECK_INT(ph_qpack_decode(qpack, 0, BYTES("\x00\x00\x23xyz\x01\x0a\x23"), &builder), ==,
              PH_E_MALFORMED);
    ph_head_builder_fini(&builder);
    ph_head_builder_init(&builder, &limits, false);
    /* :method GET, :scheme https, :path /, :authority "a" */
    CHECK_INT(ph_qpack_decode(qpack, 4, BYTES("\x00\x00\xd1\xd7\xc1\x50\x01\x61"), &builder), ==,
              0);
    CHECK_INT(ph_head_builder_finish(&builder), ==, 0);
    CHECK_STR(builder.head.target, "/");
    ph_head_fini(&builder.head);
    ph_qpack_free(qpack);
}

/* 10 000 references to a static entry: 20 KB on the wire claim 600 KB decoded. */
TEST(qpack, expansion_stops_at_the_field_limit)
{
    static uint8_t in[20002];
    for (size_t i = 2; i + 1 < sizeof(in); i += 2) {
        in[i] = 0xff; /* static index 63 + ... */
        in[i + 1] = 0x16;
    }
    struct ph_qpack *qpack = ph_qpack_new();
    struct ph_head_builder builder;
    ph_head_builder_init(&builder, &limits, false);
    CHECK_INT(ph_qpack_decode(qpack, 0, in, sizeof(in), &builder), ==, PH_E_LIMIT);
    CHECK_INT(builder.head.fields.count, <=, 100);
    ph_head_builder_fini(&builder);
    struct ph_fields trailers = {0};
    CHECK_INT(ph_qpack_decode_trailers(qpack, 0, in, sizeof(in), &trailers, &limits), ==,
              PH_E_LIMIT);
    CHECK_INT(trailers.count, ==, 0);
    ph_qpack_free(qpack);
}

TEST(qpack, byte_limit_counts_name_value_and_32)
{
    struct ph_http_limits small = {.head_bytes = 0, .head_fields = 100, .target_bytes = 100};
    static const struct ph_field fields[] = {F("abc", "defg"), F("x", "")};
    small.head_bytes = 3 + 4 + 32 + 1 + 32;
    struct ph_qpack *qpack = ph_qpack_new();
    struct ph_buf *buf = ph_qpack_encode(qpack, 0, fields, 2);
    struct ph_fields out = {0};
    CHECK_INT(
        ph_qpack_decode_trailers(qpack, 0, ph_buf_data(buf) + 2, ph_buf_len(buf) - 2, &out, &small),
        ==, 0);
    CHECK_INT(out.count, ==, 2);
    CHECK_STR(out.list[0].value, "defg");
    ph_fields_fini(&out);
    out = (struct ph_fields){0};
    small.head_bytes--;
    CHECK_INT(
        ph_qpack_decode_trailers(qpack, 0, ph_buf_data(buf) + 2, ph_buf_len(buf) - 2, &out, &small),
        ==, PH_E_LIMIT);
    ph_buf_unref(buf);
    ph_qpack_free(qpack);
}

TEST(qpack, a_hundred_fields_pass_and_one_more_does_not)
{
    struct ph_field fields[106] = {F(":method", "GET"), F(":scheme", "https"), F(":authority", "a"),
                                   F(":path", "/")};
    struct ph_head head;
    for (size_t i = 4; i < 106; i++)
        fields[i] = (struct ph_field)F("x-a", "1");
    size_t most = 0;
    while (most < 106 && round_trip(&head, fields, most + 1) != PH_E_LIMIT) {
        if (++most >= 4)
            ph_head_fini(&head);
    }
    CHECK_INT(most, ==, 4 + 100);
}

TEST(qpack, smuggling_is_malformed)
{
    CHECK_INT(WITH("x-ok", "1"), ==, 0);
    CHECK_INT(WITH("x-cr", "a\r\nb: c"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("x-lf", "a\nb"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("x-nul", "a\0b"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("X-Upper", "1"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("x space", "1"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("", "1"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("transfer-encoding", "chunked"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("connection", "close"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("upgrade", "websocket"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("te", "gzip"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("te", "trailers"), ==, 0);
    CHECK_INT(WITH(":authority", "b.example"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH(":unknown", "1"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("content-length", "-1"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("host", "evil.example"), ==, PH_E_MALFORMED);
    CHECK_INT(WITH("host", "a.example"), ==, 0);
}

TEST(qpack, trailers_have_no_pseudo_and_no_connection_fields)
{
    static const struct ph_field bad[] = {F(":path", "/"), F("connection", "x"), F("X", "1"),
                                          F("x", "a\nb")};
    struct ph_qpack *qpack = ph_qpack_new();
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++) {
        struct ph_fields out = {0};
        struct ph_buf *buf = ph_qpack_encode(qpack, 0, &bad[i], 1);
        CHECK_INT(ph_qpack_decode_trailers(qpack, 0, ph_buf_data(buf) + 2, ph_buf_len(buf) - 2,
                                           &out, &limits),
                  ==, PH_E_MALFORMED);
        ph_buf_unref(buf);
    }
    ph_qpack_free(qpack);
}

static uint64_t encoder_code(const uint8_t *p, size_t n)
{
    struct ph_qpack *qpack = ph_qpack_new();
    uint64_t code = 0;
    int rv = ph_qpack_encoder_stream(qpack, p, n, &code);
    CHECK_INT(rv, ==, code == 0 ? 0 : PH_E_PROTO);
    ph_qpack_free(qpack);
    return code;
}

TEST(qpack, encoder_stream_may_only_set_capacity_0)
{
    CHECK_INT(encoder_code(BYTES("")), ==, 0);
    CHECK_INT(encoder_code(BYTES("\x20")), ==, 0); /* Chromium's whole encoder stream */
    CHECK_INT(encoder_code(BYTES("\x20\x20")), ==, 0);
    CHECK_INT(encoder_code(BYTES("\x21")), ==, PH_QPACK_ENCODER_STREAM_ERROR);
    CHECK_INT(encoder_code(BYTES("\x3f\xe1\x1f")), ==, PH_QPACK_ENCODER_STREAM_ERROR); /* 4096 */
    CHECK_INT(encoder_code(BYTES("\xc0\x01x")), ==, PH_QPACK_ENCODER_STREAM_ERROR);    /* insert */
    CHECK_INT(encoder_code(BYTES("\x41xAy")), ==, PH_QPACK_ENCODER_STREAM_ERROR);
    CHECK_INT(encoder_code(BYTES("\x00")), ==, PH_QPACK_ENCODER_STREAM_ERROR); /* duplicate */
}

/* Feeds byte by byte, so that each state is left and entered again. */
static uint64_t decoder_code(const uint8_t *p, size_t n)
{
    struct ph_qpack *qpack = ph_qpack_new();
    uint64_t code = 0;
    int rv = 0;
    for (size_t i = 0; i < n && rv == 0; i++)
        rv = ph_qpack_decoder_stream(qpack, p + i, 1, &code);
    CHECK_INT(rv, ==, code == 0 ? 0 : PH_E_PROTO);
    ph_qpack_free(qpack);
    return code;
}

TEST(qpack, decoder_stream_may_only_cancel)
{
    CHECK_INT(decoder_code(BYTES("\x40\x44\x7e")), ==, 0);
    CHECK_INT(decoder_code(BYTES("\x7f\x00\x7f\x80\x01\x41")), ==, 0);
    CHECK_INT(decoder_code(BYTES("\x80")), ==, PH_QPACK_DECODER_STREAM_ERROR);
    CHECK_INT(decoder_code(BYTES("\x00")), ==, PH_QPACK_DECODER_STREAM_ERROR);
    CHECK_INT(decoder_code(BYTES("\x01")), ==, PH_QPACK_DECODER_STREAM_ERROR);
    CHECK_INT(decoder_code(BYTES("\x7f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80")), ==,
              PH_QPACK_DECODER_STREAM_ERROR);
}
