/*
 * test_wt_protocols.c - WT-Available-Protocols and WT-Protocol: lists of strings, and everything
 * that makes the field worthless.
 */
#include "test.h"

#include "../../src/wt/wt.h"

/* Parses and compares with a NULL-terminated list. */
static void expect(const char *text, const char *const *want)
{
    char **list = NULL;
    size_t n = 0;
    int count = ph_wt_protocols_parse(&list, text, strlen(text));
    while (want[n] != NULL)
        n++;
    CHECK_INT(count, ==, n);
    for (size_t i = 0; i < n; i++)
        CHECK_STR(list[i], want[i]);
    ph_wt_protocols_free(list, n);
}

static void expect_malformed(const char *text)
{
    char **list = (char **)(uintptr_t)1;
    int count = ph_wt_protocols_parse(&list, text, strlen(text));
    if (count != PH_E_MALFORMED || list != NULL)
        ph_test_fail(__FILE__, __LINE__, "'%s' gave %d", text, count);
}

TEST(wt_protocols, strings_in_order)
{
    expect("\"chat.v2\", \"chat.v1\"", (const char *const[]){"chat.v2", "chat.v1", NULL});
    expect("\"a\",\"b\"", (const char *const[]){"a", "b", NULL});
    expect("\"a\" \t, \t\"b\"", (const char *const[]){"a", "b", NULL});
    expect("  \"a\"  ", (const char *const[]){"a", NULL});
    expect("\"a\", \"a\"", (const char *const[]){"a", "a", NULL});
}

TEST(wt_protocols, empty_value_offers_nothing)
{
    expect("", (const char *const[]){NULL});
    expect("   ", (const char *const[]){NULL});
}

TEST(wt_protocols, parameters_are_ignored)
{
    expect("\"a\";x=1, \"b\"", (const char *const[]){"a", "b", NULL});
    expect("\"a\";x, \"b\";*y=?1;z=:aGk=:", (const char *const[]){"a", "b", NULL});
    expect("\"a\"; q=0.125;t=tok/en;s=\"x,y\", \"b\"", (const char *const[]){"a", "b", NULL});
    expect("\"a\";n=-12", (const char *const[]){"a", NULL});
}

TEST(wt_protocols, escapes_are_undone)
{
    expect("\"a\\\"b\\\\c\"", (const char *const[]){"a\"b\\c", NULL});
    expect("\"\"", (const char *const[]){"", NULL});
    expect("\"a, b\"", (const char *const[]){"a, b", NULL});
}

TEST(wt_protocols, other_members_make_the_field_worthless)
{
    static const char *const texts[] = {
        "chat",        "\"a\", chat", "(\"a\" \"b\")", "42",         "?1", ":aGk=:", "\"a\", 1.5",
        "chat, \"a\"", "*x",          "\"a\" x",       "\"a\"\"b\"",
    };
    for (size_t i = 0; i < PH_COUNT_OF(texts); i++)
        expect_malformed(texts[i]);
}

TEST(wt_protocols, bad_syntax_makes_the_field_worthless)
{
    static const char *const texts[] = {
        "\"a",
        "\"",
        "\"a\",",
        "\"a\", ",
        ",\"a\"",
        "\"a\",,\"b\"",
        "\"a\\x\"",
        "\"a\\",
        "\"a\x01\"",
        "\"\x7f\"",
        "\"\xc3\xa4\"",
        "\"a\";",
        "\"a\";X=1",
        "\"a\";x=",
        "\"a\";x=\"",
        "\"a\";x=1.",
        "\"a\";x=1.2345",
        "\"a\";x=-",
        "\"a\";x=?2",
        "\"a\";x=:a",
        "\"a\";x=1234567890123456",
        "\"a\";x=1234567890123.1",
        "\t\"a\"",
        "\"a\" ;x=1",
    };
    for (size_t i = 0; i < PH_COUNT_OF(texts); i++)
        expect_malformed(texts[i]);
}

TEST(wt_protocols, a_nul_byte_is_no_character)
{
    char **list;
    CHECK_INT(ph_wt_protocols_parse(&list, "\"a\0b\"", 5), ==, PH_E_MALFORMED);
    CHECK_INT(ph_wt_protocols_parse(&list, "\"a\";x=a\0b", 9), ==, PH_E_MALFORMED);
}

TEST(wt_protocols, the_limit_is_taken_and_one_more_is_not)
{
    char text[(PH_WT_PROTOCOLS_MAX + 1) * 4 + 1], *p = text, **list;
    for (int i = 0; i < PH_WT_PROTOCOLS_MAX + 1; i++) {
        memcpy(p, ",\"x\"", 4);
        p += 4;
    }
    size_t one = 4;
    CHECK_INT(ph_wt_protocols_parse(&list, text + 1, PH_WT_PROTOCOLS_MAX * one - 1), ==,
              PH_WT_PROTOCOLS_MAX);
    ph_wt_protocols_free(list, PH_WT_PROTOCOLS_MAX);
    CHECK_INT(ph_wt_protocols_parse(&list, text + 1, (size_t)(p - text) - 1), ==, PH_E_MALFORMED);
}

TEST(wt_protocols, put_quotes_and_escapes)
{
    char out[32];
    CHECK_INT(ph_wt_protocol_put(out, "chat.v2", 7), ==, 9);
    CHECK_STR(out, "\"chat.v2\"");
    CHECK_INT(ph_wt_protocol_put(out, "a\"b\\", 4), ==, 8);
    CHECK_STR(out, "\"a\\\"b\\\\\"");
}

TEST(wt_protocols, put_refuses_what_a_string_cannot_hold)
{
    char out[32];
    CHECK_INT(ph_wt_protocol_put(out, "a\nb", 3), ==, 0);
    CHECK_INT(ph_wt_protocol_put(out, "\xc3\xa4", 2), ==, 0);
    CHECK_INT(ph_wt_protocol_put(out, "\x7f", 1), ==, 0);
}

TEST(wt_protocols, put_and_parse_agree)
{
    char out[600], value[256];
    size_t n = 0;
    for (int c = 0x20; c <= 0x7e; c++)
        value[n++] = (char)c;
    value[n] = '\0';
    size_t len = ph_wt_protocol_put(out, value, n);
    expect(out, (const char *const[]){value, NULL});
    CHECK_INT(len, ==, n + 4);
}
