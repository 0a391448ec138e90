/* test_addr.c - addresses: parsing, text, equality, networks. */
#include "test.h"

static struct ph_addr addr_of(const char *host, uint16_t port)
{
    struct ph_addr addr;
    CHECK_INT(ph_addr_parse(&addr, host, port), ==, 0);
    return addr;
}

TEST(addr, text_is_what_was_parsed)
{
    static const char *const hosts[] = {"127.0.0.1", "255.255.255.255", "0.0.0.0"};
    static const char *const hosts6[] = {"::1", "::", "2001:db8::ff00:42:8329"};
    char out[64], want[64];
    for (size_t i = 0; i < PH_COUNT_OF(hosts); i++) {
        struct ph_addr addr = addr_of(hosts[i], (uint16_t)(65535 - i));
        snprintf(want, sizeof(want), "%s:%zu", hosts[i], 65535 - i);
        CHECK_STR(ph_addr_text(&addr, out, sizeof(out)), want);
        CHECK_STR(ph_addr_host(&addr, out, sizeof(out)), hosts[i]);
        CHECK_INT(addr.len, ==, sizeof(struct sockaddr_in));
    }
    for (size_t i = 0; i < PH_COUNT_OF(hosts6); i++) {
        struct ph_addr addr = addr_of(hosts6[i], 80);
        snprintf(want, sizeof(want), "[%s]:80", hosts6[i]);
        CHECK_STR(ph_addr_text(&addr, out, sizeof(out)), want);
        CHECK_STR(ph_addr_host(&addr, out, sizeof(out)), hosts6[i]);
        CHECK_INT(addr.len, ==, sizeof(struct sockaddr_in6));
    }
}

TEST(addr, mapped_address_is_shown_as_ipv4)
{
    char out[64];
    struct ph_addr addr = addr_of("::ffff:192.0.2.7", 443);
    CHECK_STR(ph_addr_text(&addr, out, sizeof(out)), "192.0.2.7:443");
    CHECK_STR(ph_addr_host(&addr, out, sizeof(out)), "192.0.2.7");
    struct ph_addr plain = addr_of("192.0.2.7", 443);
    CHECK(!ph_addr_equal(&addr, &plain));
}

TEST(addr, scope_belongs_to_link_local_addresses)
{
    char out[64];
    struct ph_addr two = addr_of("fe80::1%2", 1), three = addr_of("fe80::1%3", 1);
    CHECK(!ph_addr_equal(&two, &three));
    CHECK_STR(ph_addr_text(&two, out, sizeof(out)), "[fe80::1%2]:1");
    struct ph_addr lo = addr_of("fe80::1%lo", 1);
    CHECK(lo.u.in6.sin6_scope_id != 0);
}

TEST(addr, nonsense_is_refused)
{
    static const char *const bad[] = {
        "",
        "localhost",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "[::1]",
        ":::",
        "::1%",
        "::1%0",
        "fe80::1%9999999999",
        "fe80::1%no-such-zone",
        " 1.2.3.4",
        "::1 ",
        "1:2:3",
        "1:2:3:4:5:6:7:8:9:1:2:3:4:5:6:7:8:9:1:2:3:4:5:6:7:8:9:1:2:3",
    };
    struct ph_addr addr;
    memset(&addr, 0x5a, sizeof(addr));
    struct ph_addr before = addr;
    for (size_t i = 0; i < PH_COUNT_OF(bad); i++)
        CHECK_INT(ph_addr_parse(&addr, bad[i], 1), ==, PH_E_INVAL);
    CHECK_MEM(&addr, &before, sizeof(addr));
}

TEST(addr, equality_is_family_host_and_port)
{
    struct ph_addr a = addr_of("127.0.0.1", 80), b = addr_of("127.0.0.1", 80);
    struct ph_addr a6 = addr_of("::1", 80), b6 = addr_of("::1", 80), unset = {.len = 0};
    CHECK(ph_addr_equal(&a, &b));
    CHECK(ph_addr_equal(&a6, &b6));
    CHECK(!ph_addr_equal(&a, &a6));
    CHECK(!ph_addr_equal(&a, &unset));
    CHECK(ph_addr_equal(&unset, &unset));
    memset(b.u.in.sin_zero, 0xff, sizeof(b.u.in.sin_zero)); /* padding from a kernel */
    CHECK(ph_addr_equal(&a, &b));
    b6.u.in6.sin6_flowinfo = 77;
    CHECK(ph_addr_equal(&a6, &b6));
    ph_addr_set_port(&b, 81);
    CHECK_INT(ph_addr_port(&b), ==, 81);
    CHECK(!ph_addr_equal(&a, &b));
    ph_addr_set_port(&b6, 65535);
    CHECK_INT(ph_addr_port(&b6), ==, 65535);
    CHECK(!ph_addr_equal(&a6, &b6));
}

TEST(addr, unset_address_has_a_text)
{
    char out[64], tiny[5];
    struct ph_addr unset = {.len = 0}, v4 = addr_of("127.0.0.1", 80);
    ph_addr_set_port(&unset, 9);
    CHECK_INT(ph_addr_port(&unset), ==, 0);
    CHECK_STR(ph_addr_text(&unset, out, sizeof(out)), "unset");
    CHECK_STR(ph_addr_text(&v4, tiny, sizeof(tiny)), "127.");
}

TEST(addr, a_network_has_the_addresses_that_share_its_bits)
{
    static const struct {
        const char *net, *in, *out;
    } rows[] = {
        {"192.0.2.7", "192.0.2.7", "192.0.2.6"},
        {"192.0.2.0/24", "192.0.2.255", "192.0.3.0"},
        {"10.0.0.0/9", "10.127.255.255", "10.128.0.0"},
        {"0.0.0.0/0", "255.1.2.3", "::1"},
        {"192.0.2.7/32", "::ffff:192.0.2.7", "::ffff:192.0.2.8"},
        {"2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"},
        {"::1", "::1", "::2"},
        {"::/0", "2001:db8::1", "127.0.0.1"},
    };
    for (size_t i = 0; i < PH_COUNT_OF(rows); i++) {
        struct ph_net net;
        CHECK_INT(ph_net_parse(&net, rows[i].net), ==, 0);
        struct ph_addr in = addr_of(rows[i].in, 4433), out = addr_of(rows[i].out, 4433);
        CHECK(ph_net_has(&net, &in));
        CHECK(!ph_net_has(&net, &out));
    }
    struct ph_net net;
    struct ph_addr none = {.len = 0};
    CHECK_INT(ph_net_parse(&net, "::1"), ==, 0);
    CHECK(!ph_net_has(&net, &none));
}

TEST(addr, what_is_no_network_is_refused)
{
    static const char *const texts[] = {"",
                                        "/",
                                        "10.0.0.0/33",
                                        "::1/129",
                                        "10.0.0.0/",
                                        "localhost",
                                        "10.0.0.0/8x",
                                        "10.0.0.0/-1",
                                        "10.0.0/8",
                                        "[::1]",
                                        "10.0.0.0/0008",
                                        "1111111111111111111111111111111111111111111111111/8"};
    for (size_t i = 0; i < PH_COUNT_OF(texts); i++) {
        struct ph_net net;
        CHECK_INT(ph_net_parse(&net, texts[i]), ==, PH_E_INVAL);
    }
}
