/* test_text.c - letters are those of ASCII, and nothing else is one. */
#include "test.h"

TEST(text, only_ascii_letters_have_a_lower_case)
{
    for (int c = -128; c < 128; c++) {
        char want = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        CHECK_INT(ph_lower((char)c), ==, want);
    }
}

TEST(text, same_but_for_the_case)
{
    CHECK(ph_text_equal("X-REQUEST-ID", 12, "x-request-id"));
    CHECK(ph_text_equal("", 0, ""));
    CHECK(!ph_text_equal("x-request-i", 11, "x-request-id"));
    CHECK(!ph_text_equal("x-request-id", 12, "x-request-i"));
    CHECK(!ph_text_equal("[", 1, "{")); /* 32 apart as well, and no letters */
    CHECK(!ph_text_equal("\xc9", 1, "\xe9"));
    CHECK(ph_text_same("Host", 4, "hOSTx", 4));
}

TEST(text, blanks_are_taken_off_both_ends)
{
    static const char *const texts[] = {"a b", " a b", "a b\t", " \t a b \t "};
    for (size_t i = 0; i < PH_COUNT_OF(texts); i++) {
        const char *p = texts[i];
        size_t n = strlen(p);
        ph_text_trim(&p, &n);
        CHECK_INT(n, ==, 3);
        CHECK(memcmp(p, "a b", n) == 0);
    }
    const char *blank = " \t ";
    size_t n = 3;
    ph_text_trim(&blank, &n);
    CHECK_INT(n, ==, 0);
}
