/* test_config.c - the option table and what it accepts. */
#include "../../src/core/core.h"
#include "test.h"

#include <stdlib.h>

TEST(config, every_option_accepts_its_own_default)
{
    ph_config *config = ph_config_new();
    ph_option option;
    size_t n = 0;
    for (; ph_config_option(n, &option) == 0; n++) {
        CHECK(option.name[0] != '\0' && option.help[0] != '\0' && option.accepts[0] != '\0');
        if (option.default_value[0] != '\0')
            CHECK_INT(ph_config_set(config, option.name, option.default_value), ==, 0);
        CHECK_INT(ph_config_set(config, option.name, NULL), ==, 0);
    }
    CHECK_INT(n, >, 50);
    CHECK_INT(ph_config_option(n, &option), ==, PH_E_NOTFOUND);
    ph_config_free(config);
}

TEST(config, numbers_end_at_their_bounds)
{
    ph_config *config = ph_config_new();
    ph_option option;
    for (size_t i = 0; ph_config_option(i, &option) == 0; i++) {
        unsigned long long min, max;
        char text[32];
        if (sscanf(option.accepts, "%llu to %llu", &min, &max) != 2)
            continue;
        snprintf(text, sizeof(text), "%llu", max);
        CHECK_INT(ph_config_set(config, option.name, text), ==, 0);
        snprintf(text, sizeof(text), "%llu", max + 1);
        CHECK_INT(ph_config_set(config, option.name, text), ==, PH_E_CONFIG);
        CHECK(strstr(ph_config_error(config), option.name) != NULL);
        CHECK(strstr(ph_config_error(config), option.accepts) != NULL);
        snprintf(text, sizeof(text), "%llu", min);
        CHECK_INT(ph_config_set(config, option.name, text), ==, 0);
        if (min > 0) {
            snprintf(text, sizeof(text), "%llu", min - 1);
            CHECK_INT(ph_config_set(config, option.name, text), ==, PH_E_CONFIG);
        }
    }
    ph_config_free(config);
}

TEST(config, units_multiply)
{
    ph_config *config = ph_config_new();
    CHECK_INT(ph_config_set(config, "max_body", "3M"), ==, 0);
    CHECK_INT(config->max_body, ==, 3 << 20);
    CHECK_INT(ph_config_set(config, "max_body", "2kib"), ==, 0);
    CHECK_INT(config->max_body, ==, 2048);
    CHECK_INT(ph_config_set(config, "idle_timeout", "45s"), ==, 0);
    CHECK_INT(config->idle_timeout, ==, 45000);
    CHECK_INT(ph_config_set(config, "idle_timeout", "2m"), ==, 0);
    CHECK_INT(config->idle_timeout, ==, 120000);
    CHECK_INT(ph_config_set(config, "max_connections", "2K"), ==, PH_E_CONFIG);
    CHECK_INT(ph_config_set(config, "idle_timeout", "2M "), ==, PH_E_CONFIG);
    CHECK_INT(ph_config_set(config, "max_body", "99999999999999999999999"), ==, PH_E_CONFIG);
    CHECK_INT(ph_config_set(config, "max_body", "-1"), ==, PH_E_CONFIG);
    CHECK_INT(ph_config_set(config, "max_body", ""), ==, PH_E_CONFIG);
    CHECK_INT(config->max_body, ==, 2048); /* a failure changes nothing */
    ph_config_free(config);
}

TEST(config, choices_and_booleans)
{
    ph_config *config = ph_config_new();
    CHECK_INT(ph_config_set(config, "congestion", "bbr"), ==, 0);
    CHECK_INT(config->congestion, ==, PH_CC_BBR);
    CHECK_INT(ph_config_set(config, "congestion", "reno"), ==, PH_E_CONFIG);
    CHECK_STR(ph_config_error(config),
              "congestion: \"reno\" is not a valid choice; accepted: cubic, bbr");
    CHECK_INT(ph_config_set(config, "congestion", "bb"), ==, PH_E_CONFIG);
    CHECK_INT(ph_config_set(config, "congestion", ""), ==, PH_E_CONFIG);
    CHECK_INT(ph_config_set(config, "webtransport", "off"), ==, 0);
    CHECK_INT(config->webtransport, ==, 0);
    CHECK_INT(ph_config_set(config, "webtransport", "True"), ==, 0);
    CHECK_INT(config->webtransport, ==, 1);
    CHECK_INT(ph_config_set(config, "webtransport", "maybe"), ==, PH_E_CONFIG);
    CHECK_INT(ph_config_set(config, "verify_mode", "required"), ==, 0);
    CHECK_INT(config->verify_mode, ==, 2);
    ph_config_free(config);
}

TEST(config, alpn_takes_names_that_it_knows)
{
    static const char *const good[] = {"h3", "h2", "http/1.1"};
    static const char *const bad[] = {"foo", "", "h3,h2", "HTTP/1.1", "h3, h2"};
    ph_config *config = ph_config_new();
    for (size_t i = 0; i < PH_COUNT_OF(good); i++)
        CHECK_INT(ph_config_set(config, "alpn", good[i]), ==, 0);
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++)
        CHECK_INT(ph_config_set(config, "alpn", bad[i]), ==, PH_E_CONFIG);
    CHECK_INT(ph_config_set(config, "alpn", "foo"), ==, PH_E_CONFIG);
    CHECK_STR(ph_config_error(config),
              "alpn: \"foo\" is not a valid string; accepted: h3, h2, http/1.1");
    CHECK_INT(config->alpn.n, ==, PH_COUNT_OF(good));
    ph_config_free(config);
}

TEST(config, alt_svc_value_is_a_field_value)
{
    ph_config *config = ph_config_new();
    CHECK_INT(ph_config_set(config, "alt_svc_value", "h3=\":443\"; ma=60"), ==, 0);
    CHECK_STR(config->alt_svc_value, "h3=\":443\"; ma=60");
    CHECK_INT(ph_config_set(config, "alt_svc_value", "a\r\nb: c"), ==, PH_E_CONFIG);
    CHECK_STR(ph_config_error(config), "alt_svc_value: \"a\\x0d\\x0ab: c\" is not a valid string; "
                                       "accepted: value of an Alt-Svc field");
    ph_config_free(config);
}

TEST(config, ring_slots_is_a_power_of_two)
{
    ph_config *config = ph_config_new();
    CHECK_INT(ph_config_set(config, "ring_slots", "1000"), ==, PH_E_CONFIG);
    CHECK_INT(ph_config_set(config, "ring_slots", "1024"), ==, 0);
    CHECK_INT(config->ring_slots, ==, 1024);
    ph_config_free(config);
}

TEST(config, addresses_have_a_port)
{
    static const char *const good[] = {"127.0.0.1:80", "[::1]:0", "localhost:65535",
                                       ":443",         "*:1",     "host.example:8080"};
    static const char *const bad[] = {"",        "127.0.0.1", "::1:80", "host:", "host:http",
                                      "h:65536", "h:123456",  "[::1]",  "h:80 ", "]:80x"};
    ph_config *config = ph_config_new();
    for (size_t i = 0; i < PH_COUNT_OF(good); i++)
        CHECK_INT(ph_config_set(config, "bind", good[i]), ==, 0);
    CHECK_INT(config->bind.n, ==, PH_COUNT_OF(good));
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++)
        CHECK_INT(ph_config_set(config, "bind", bad[i]), ==, PH_E_CONFIG);
    CHECK_INT(config->bind.n, ==, PH_COUNT_OF(good));
    CHECK_INT(ph_config_set(config, "bind", NULL), ==, 0);
    CHECK_INT(config->bind.n, ==, 0);
    ph_config_free(config);
}

TEST(config, unknown_option_is_named)
{
    ph_config *config = ph_config_new();
    CHECK_STR(ph_config_error(config), "");
    CHECK_INT(ph_config_set(config, "bnid", "x"), ==, PH_E_CONFIG);
    CHECK_STR(ph_config_error(config), "unknown option \"bnid\"");
    CHECK_INT(ph_config_set(config, "bind", ":1"), ==, 0);
    CHECK_STR(ph_config_error(config), "");
    ph_config_free(config);
}

TEST(config, values_from_outside_are_escaped_in_errors)
{
    ph_config *config = ph_config_new();
    CHECK_INT(ph_config_set(config, "max_body", "1\n\x1b[31m"), ==, PH_E_CONFIG);
    for (const char *p = ph_config_error(config); *p != '\0'; p++)
        CHECK((unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f);
    ph_config_free(config);
}

TEST(config, copy_is_independent)
{
    ph_config *config = ph_config_new();
    CHECK_INT(ph_config_set(config, "bind", "a:1"), ==, 0);
    CHECK_INT(ph_config_set(config, "certfile", "cert.pem"), ==, 0);
    struct ph_config *copy = ph_config_copy(config);
    ph_config_free(config);
    CHECK_INT(copy->bind.n, ==, 1);
    CHECK_STR(copy->bind.items[0], "a:1");
    CHECK_STR(copy->certfile, "cert.pem");
    CHECK(copy->keyfile == NULL);
    ph_config_free(copy);
    ph_config_free(NULL);
}
