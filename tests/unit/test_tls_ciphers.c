/* test_tls_ciphers.c - names of ciphers as several programs write them, and the suites that a
 * ClientHello offers. */
#include "../../src/tls/tls_internal.h"
#include "test.h"

TEST(tls_ciphers, names_of_three_programs_mean_the_same)
{
    static const struct {
        const char *text, *priority;
    } cases[] = {
        {"AES-128-GCM", "+AES-128-GCM"},
        {"aes-256-gcm:aes-128-gcm", "+AES-256-GCM:+AES-128-GCM"},
        {"ECDHE-ECDSA-AES128-GCM-SHA256", "+AES-128-GCM"},
        {"ECDHE-RSA-CHACHA20-POLY1305,TLS_AES_256_GCM_SHA384", "+CHACHA20-POLY1305:+AES-256-GCM"},
        {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "+AES-256-GCM"},
        {"ECDHE+AESGCM:ECDHE+CHACHA20", "+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"},
        {"AES-128-GCM:AES-128-GCM", "+AES-128-GCM"},
    };
    char out[PH_TLS_CIPHERS_LEN];
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        CHECK_INT(ph_tls_ciphers_parse(out, cases[i].text), ==, 0);
        CHECK_STR(out, cases[i].priority);
        CHECK(ph_tls_ciphers_are_valid(cases[i].text));
    }
}

TEST(tls_ciphers, everything_else_is_refused)
{
    static const char *const cases[] = {
        "",
        ":",
        "AES-128-GCM:",
        ":AES-128-GCM",
        "AES-128-CBC",
        "RC4",
        "NULL",
        "NORMAL",
        "TLSv1",
        "!aNULL",
        "AES-128-GCM:3DES",
        "TLS_RSA_WITH_AES_128_GCM_SHA256",
        "SHA256",
        "ECDHE",
        "AES-128-GCM AES-256-GCM",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    };
    for (size_t i = 0; i < PH_COUNT_OF(cases); i++) {
        if (ph_tls_ciphers_are_valid(cases[i]))
            ph_test_fail(__FILE__, __LINE__, "\"%s\" was taken", cases[i]);
    }
}

/* Version, random, a session id of `sid` bytes, and the suites. */
static size_t hello(uint8_t *out, uint8_t sid, const uint16_t *suites, size_t n)
{
    memset(out, 0, 34);
    out[34] = sid;
    memset(out + 35, 0, sid);
    size_t at = (size_t)35 + sid;
    ph_u16_put(out + at, (uint16_t)(n * 2));
    at += 2;
    for (size_t i = 0; i < n; i++, at += 2)
        ph_u16_put(out + at, suites[i]);
    return at;
}

TEST(tls_ciphers, suites_of_a_hello_are_read_within_its_bounds)
{
    static const uint16_t rsa[] = {0x1301, 0xc02f}, ecdsa[] = {0x00ff, 0xc02c, 0x0005};
    uint8_t whole[512];
    bool r, e;
    size_t n = hello(whole, 32, rsa, 2);
    ph_tls_suites_read(whole, n, &r, &e);
    CHECK(r && !e);
    n = hello(whole, 0, ecdsa, 3);
    ph_tls_suites_read(whole, n, &r, &e);
    CHECK(e && !r);
    /* Cut anywhere: copies of their own, so that a read past the end is caught. */
    n = hello(whole, 32, rsa, 2);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *copy = ph_alloc(cut + 1);
        memcpy(copy, whole, cut);
        ph_tls_suites_read(copy, cut, &r, &e);
        CHECK(!r && !e);
        ph_free(copy);
    }
    /* Lengths that lie. */
    whole[34] = 255;
    ph_tls_suites_read(whole, n, &r, &e);
    CHECK(!r && !e);
    n = hello(whole, 0, rsa, 2);
    ph_u16_put(whole + 35, 0xffff);
    ph_tls_suites_read(whole, n, &r, &e);
    CHECK(!r && !e);
    ph_u16_put(whole + 35, 3); /* half a suite at the end */
    ph_tls_suites_read(whole, n, &r, &e);
    CHECK(!r && !e);
}
