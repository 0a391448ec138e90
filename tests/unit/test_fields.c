/* test_fields.c - field syntax, storage, limits, content-length, authorities, targets. */
#include "../../src/http/http_internal.h"
#include "test.h"

static int add(struct ph_fields *fields, const char *name, const char *value,
               const struct ph_http_limits *limits)
{
    return ph_fields_add(fields, name, strlen(name), value, strlen(value), limits);
}

TEST(fields, keep_order_duplicates_and_bytes)
{
    struct ph_fields fields = {.arena = NULL};
    CHECK_INT(add(&fields, "a", "1", NULL), ==, 0);
    CHECK_INT(add(&fields, "b", "", NULL), ==, 0);
    CHECK_INT(add(&fields, "a", "\x80\xff", NULL), ==, 0);
    ph_fields_seal(&fields);
    CHECK_INT(fields.count, ==, 3);
    CHECK_STR(ph_fields_get(&fields, "a")->value, "1");
    CHECK_STR(fields.list[1].value, "");
    CHECK_STR(fields.list[2].value, "\x80\xff");
    CHECK_INT(fields.list[2].value_len, ==, 2);
    CHECK_INT(ph_fields_count_of(&fields, "a"), ==, 2);
    CHECK(ph_fields_get(&fields, "c") == NULL);
    ph_fields_fini(&fields);
    ph_fields_fini(&fields);
}

TEST(fields, pointers_follow_a_growing_arena)
{
    struct ph_fields fields = {.arena = NULL};
    char name[16], value[64];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        snprintf(value, sizeof(value), "value of %d", i);
        CHECK_INT(add(&fields, name, value, NULL), ==, 0);
    }
    ph_fields_seal(&fields);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        snprintf(value, sizeof(value), "value of %d", i);
        CHECK_STR(fields.list[i].name, name);
        CHECK_STR(fields.list[i].value, value);
    }
    ph_fields_fini(&fields);
}

TEST(fields, limits_hold_at_the_byte_and_at_the_field)
{
    struct ph_http_limits limits = {.head_bytes = 2 * (2 + 32) + 10, .head_fields = 2};
    struct ph_fields fields = {.arena = NULL};
    CHECK_INT(add(&fields, "a", "1", &limits), ==, 0);
    CHECK_INT(add(&fields, "b", "01234567890", &limits), ==, 0); /* exactly at the limit */
    CHECK_INT(fields.cost, ==, limits.head_bytes);
    CHECK_INT(add(&fields, "c", "", &limits), ==, PH_E_LIMIT);
    ph_fields_fini(&fields);
    CHECK_INT(add(&fields, "a", "1", &limits), ==, 0);
    CHECK_INT(add(&fields, "b", "012345678901", &limits), ==, PH_E_LIMIT); /* one more */
    CHECK_INT(fields.count, ==, 1);
    CHECK_INT(add(&fields, "b", "", &limits), ==, 0);
    CHECK_INT(add(&fields, "c", "", &limits), ==, PH_E_LIMIT); /* third field */
    ph_fields_fini(&fields);
}

TEST(fields, names_are_tokens)
{
    for (int c = 0; c < 256; c++) {
        char name[3] = {'x', (char)c, 'y'};
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool token = alnum || (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
        CHECK_INT(ph_field_name_is_valid(name, 3), ==, token);
        CHECK_INT(ph_field_name_is_lower(name, 3), ==, token && !(c >= 'A' && c <= 'Z'));
    }
    CHECK(!ph_field_name_is_valid("", 0));
    CHECK(!ph_field_name_is_lower("", 0));
}

TEST(fields, values_have_no_controls_and_no_outer_space)
{
    for (int c = 0; c < 256; c++) {
        char value[3] = {'x', (char)c, 'y'};
        bool good = (c >= 0x20 && c != 0x7f) || c == '\t';
        CHECK_INT(ph_field_value_is_valid(value, 3), ==, good);
    }
    CHECK(ph_field_value_is_valid("", 0));
    CHECK(!ph_field_value_is_valid(" a", 2));
    CHECK(!ph_field_value_is_valid("a ", 2));
    CHECK(!ph_field_value_is_valid("\ta", 2));
    CHECK(!ph_field_value_is_valid("a\t", 2));
    CHECK(!ph_field_value_is_valid(" ", 1));
    CHECK(ph_field_value_is_valid("\x80", 1));
}

/* F3 */
TEST(fields, content_length_is_digits_below_two_to_the_63)
{
    static const struct {
        const char *text;
        int rv;
        uint64_t v;
    } cases[] = {
        {"0", 0, 0},
        {"5", 0, 5},
        {"0005", 0, 5},
        {"9223372036854775807", 0, INT64_MAX},
        {"9223372036854775808", PH_E_MALFORMED, 0},
        {"18446744073709551616", PH_E_MALFORMED, 0},
        {"99999999999999999999999", PH_E_MALFORMED, 0},
        {"", PH_E_MALFORMED, 0},
        {"+5", PH_E_MALFORMED, 0},
        {"-5", PH_E_MALFORMED, 0},
        {"0x5", PH_E_MALFORMED, 0},
        {"5 ", PH_E_MALFORMED, 0},
        {"1,1", PH_E_MALFORMED, 0},
        {"1_0", PH_E_MALFORMED, 0},
        {"5.0", PH_E_MALFORMED, 0},
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        uint64_t v = 0;
        int rv = ph_content_length_parse(cases[i].text, strlen(cases[i].text), &v);
        if (rv != cases[i].rv || v != cases[i].v)
            ph_test_fail(__FILE__, __LINE__, "\"%s\": %d", cases[i].text, rv);
    }
}

/* F9 */
TEST(fields, authorities)
{
    static const char *const good[] = {
        "localhost",       "example.com:443", "127.0.0.1:8000",        "[::1]", "[::1]:4433",
        "[2001:db8::1]:1", "a_b.c~d",         "xn--bcher-kva.example", "a%20b", "h:65535"};
    static const char *const bad[] = {"",           ":80",          "a b",         "a,b",
                                      "user@host",  "user:pw@host", "host:",       "host:0",
                                      "host:65536", "host:8o",      "host:123456", "a/b",
                                      "a?b",        "a#b",          "a\\b",        "[::1",
                                      "[::1]x",     "[]",           "[127.0.0.1]", "[::1%25eth0]",
                                      "a%2",        "a%zz",         "\x80/",       "a\x01",
                                      "host:80:80", "http://a",     "a;b"};
    for (size_t i = 0; i < PH_COUNT_OF(good); i++) {
        if (!ph_authority_is_valid(good[i], strlen(good[i])))
            ph_test_fail(__FILE__, __LINE__, "\"%s\" refused", good[i]);
    }
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++) {
        if (ph_authority_is_valid(bad[i], strlen(bad[i])))
            ph_test_fail(__FILE__, __LINE__, "\"%s\" taken", bad[i]);
    }
}

/* F10 */
TEST(fields, targets)
{
    static const char *const good[] = {"/",  "//",           "/a/../b", "/%00", "/a?b=c&d=%20",
                                       "/?", "/caf\xc3\xa9", "/a|b{c}", "/*"};
    static const char *const bad[] = {"",      "a",      "*",      "/a b",     "/a#b",
                                      "/a\tb", "/a\x7f", "/a\x01", "http://a/"};
    for (size_t i = 0; i < PH_COUNT_OF(good); i++) {
        if (!ph_target_is_valid(good[i], strlen(good[i])))
            ph_test_fail(__FILE__, __LINE__, "\"%s\" refused", good[i]);
    }
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++) {
        if (ph_target_is_valid(bad[i], strlen(bad[i])))
            ph_test_fail(__FILE__, __LINE__, "\"%s\" taken", bad[i]);
    }
    CHECK(!ph_target_is_valid("/\0", 2));
}

TEST(fields, lists_are_searched_by_member)
{
    CHECK(ph_list_has("close", 5, "close"));
    CHECK(ph_list_has("Keep-Alive, CLOSE", 17, "close"));
    CHECK(ph_list_has(" , ,close ,", 11, "close"));
    CHECK(ph_list_has("trailers;q=0.5", 14, "trailers"));
    CHECK(!ph_list_has("closed", 6, "close"));
    CHECK(!ph_list_has("not-close", 9, "close"));
    CHECK(!ph_list_has("", 0, "close"));
    CHECK(ph_list_has("close \t, x", 10, "close"));
    CHECK(ph_list_has("trailers ; q=0.5", 16, "trailers"));
    CHECK(!ph_list_has("close\\", 6, "close")); /* no token */
    CHECK(!ph_list_has("close/1", 7, "close"));
    CHECK(!ph_list_has("close x", 7, "close"));
    CHECK(!ph_list_has("close\x80", 6, "close"));
}

TEST(fields, connection_specific_names)
{
    CHECK(ph_field_is_connection_specific("connection", 10));
    CHECK(ph_field_is_connection_specific("transfer-encoding", 17));
    CHECK(ph_field_is_connection_specific("upgrade", 7));
    CHECK(ph_field_is_connection_specific("keep-alive", 10));
    CHECK(ph_field_is_connection_specific("proxy-connection", 16));
    CHECK(!ph_field_is_connection_specific("te", 2));
    CHECK(!ph_field_is_connection_specific("connectio", 9));
}
