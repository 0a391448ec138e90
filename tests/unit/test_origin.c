/*
 * test_origin.c - which pages may open sessions and sockets.
 */
#include "test.h"

#include "../../src/http/http_internal.h"

static const char *const no_list[1];

/* One request with up to two Origin fields against a list. */
static bool allowed(const char *const *list, size_t n, const char *authority, const char *origin,
                    const char *second)
{
    struct ph_head head = {.authority = authority, .authority_len = strlen(authority)};
    ph_fields_add(&head.fields, "x-first", 7, "1", 1, NULL);
    if (origin != NULL)
        ph_fields_add(&head.fields, "origin", 6, origin, strlen(origin), NULL);
    if (second != NULL)
        ph_fields_add(&head.fields, "origin", 6, second, strlen(second), NULL);
    ph_fields_seal(&head.fields);
    bool result = ph_origin_is_allowed(list, n, &head);
    ph_fields_fini(&head.fields);
    return result;
}

static bool page(const char *authority, const char *origin)
{
    return allowed(no_list, 0, authority, origin, NULL);
}

TEST(origin, absent_is_allowed)
{
    static const char *const list[] = {"https://example.com"};
    CHECK(page("example.com", NULL));
    CHECK(allowed(list, 1, "example.com", NULL, NULL));
}

TEST(origin, same_host_over_https_is_allowed_whatever_its_port)
{
    CHECK(page("example.com", "https://example.com"));
    CHECK(page("example.com:4433", "https://example.com"));
    CHECK(page("example.com", "https://EXAMPLE.com:8443"));
    CHECK(page("[2001:db8::1]:4433", "https://[2001:db8::1]"));
}

TEST(origin, other_pages_are_refused)
{
    static const char *const origins[] = {
        "http://example.com",
        "https://evil.example",
        "https://example.com.evil.net",
        "https://evil.net/example.com",
        "https://evilexample.com",
        "https://user@example.com",
        "https://example.com/",
        "https://example.com:443x",
        "https://example.com:",
        "https://example.com:99999",
        "https://",
        "https:example.com",
        "null",
        "",
        "example.com",
        "file://",
        "http://localhost",
        "https://127.0.0.1",
        "https://[2001:db8::1",
    };
    for (size_t i = 0; i < PH_COUNT_OF(origins); i++) {
        if (page("example.com", origins[i]))
            ph_test_fail(__FILE__, __LINE__, "'%s' was allowed", origins[i]);
    }
}

TEST(origin, loopback_pages_reach_a_loopback_server)
{
    static const char *const names[] = {"localhost",  "localhost:4433", "127.0.0.1:4433",
                                        "[::1]:4433", "127.8.8.8",      "app.localhost"};
    static const char *const origins[] = {"http://localhost:8000", "https://localhost",
                                          "http://127.0.0.1:3000", "http://[::1]:8000",
                                          "http://app.localhost",  "http://LOCALHOST:1"};
    for (size_t i = 0; i < PH_COUNT_OF(names); i++) {
        for (size_t j = 0; j < PH_COUNT_OF(origins); j++)
            CHECK(page(names[i], origins[j]));
    }
}

TEST(origin, what_only_looks_like_loopback_is_refused)
{
    static const char *const origins[] = {
        "http://127.0.0.1.evil.net",
        "http://localhost.evil.net",
        "http://evillocalhost",
        "http://128.0.0.1",
        "http://[::2]",
        "ftp://localhost",
        "http://.localhost.net",
        "chrome-extension://localhost",
    };
    for (size_t i = 0; i < PH_COUNT_OF(origins); i++) {
        if (page("localhost:4433", origins[i]))
            ph_test_fail(__FILE__, __LINE__, "'%s' was allowed", origins[i]);
    }
}

TEST(origin, a_list_is_exact)
{
    static const char *const list[] = {"https://app.example.com", "http://dev.example.com:8080"};
    CHECK(allowed(list, 2, "example.com", "https://app.example.com", NULL));
    CHECK(allowed(list, 2, "example.com", "https://app.example.com:443", NULL));
    CHECK(allowed(list, 2, "example.com", "http://dev.example.com:8080", NULL));
    CHECK(!allowed(list, 2, "example.com", "http://dev.example.com", NULL));
    CHECK(!allowed(list, 2, "example.com", "https://example.com", NULL));
    CHECK(!allowed(list, 2, "localhost", "http://localhost", NULL));
    CHECK(!allowed(list, 2, "example.com", "null", NULL));
}

TEST(origin, a_star_allows_everything_but_two)
{
    static const char *const star[] = {"*"};
    CHECK(allowed(star, 1, "example.com", "https://any.net", NULL));
    CHECK(allowed(star, 1, "example.com", "null", NULL));
    CHECK(!allowed(star, 1, "example.com", "https://any.net", "https://any.net"));
}

TEST(origin, two_fields_are_refused)
{
    CHECK(!allowed(no_list, 0, "example.com", "https://example.com", "https://example.com"));
}

TEST(origin, eight_kilobytes_are_refused)
{
    char origin[8200];
    memset(origin, 'a', sizeof origin - 1);
    memcpy(origin, "https://", 8);
    origin[sizeof origin - 1] = '\0';
    CHECK(!page("example.com", origin));
    CHECK(!page("localhost", origin));
}
