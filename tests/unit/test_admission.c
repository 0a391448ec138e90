/* test_admission.c - networks, and who may still come in. */
#include "test.h"

static struct ph_addr addr_of(const char *host)
{
    struct ph_addr addr;
    CHECK_INT(ph_addr_parse(&addr, host, 4433), ==, 0);
    return addr;
}

TEST(admission, a_network_has_the_addresses_that_share_its_bits)
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
        struct ph_addr in = addr_of(rows[i].in), out = addr_of(rows[i].out);
        CHECK(ph_net_has(&net, &in));
        CHECK(!ph_net_has(&net, &out));
    }
    struct ph_net net;
    struct ph_addr none = {.len = 0};
    CHECK_INT(ph_net_parse(&net, "::1"), ==, 0);
    CHECK(!ph_net_has(&net, &none));
}

TEST(admission, what_is_no_network_is_refused)
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

struct gate {
    struct ph_stats stats;
    struct ph_admission adm;
};

static void gate_init(struct gate *gate, size_t max, size_t per_peer)
{
    *gate = (struct gate){0};
    ph_admission_init(&gate->adm, max, per_peer, &gate->stats);
}

static enum ph_admit come(struct gate *gate, const char *host, struct ph_admitted *admitted)
{
    struct ph_addr addr = addr_of(host);
    enum ph_admit verdict = ph_admission_check(&gate->adm, &addr);
    if (verdict != PH_ADMIT_OK)
        return verdict;
    ph_admission_enter(&gate->adm);
    CHECK(ph_admission_enter_peer(&gate->adm, &addr, admitted));
    return verdict;
}

static void go(struct gate *gate, struct ph_admitted *admitted)
{
    ph_admission_leave(&gate->adm);
    ph_admission_leave_peer(&gate->adm, admitted);
}

TEST(admission, each_peer_has_its_places_and_gets_them_back)
{
    static const char *const peers[] = {"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1",
                                        "0.0.0.0"};
    struct ph_admitted admitted[PH_COUNT_OF(peers)][3];
    struct gate gate;
    gate_init(&gate, 100, 3);
    for (size_t i = 0; i < PH_COUNT_OF(peers); i++) {
        for (size_t k = 0; k < 3; k++)
            CHECK_INT(come(&gate, peers[i], &admitted[i][k]), ==, PH_ADMIT_OK);
        struct ph_admitted more;
        CHECK_INT(come(&gate, peers[i], &more), ==, PH_ADMIT_PEER);
        CHECK_INT(gate.stats.limit_conns_per_ip, ==, i + 1);
    }
    struct ph_admitted again;
    CHECK_INT(come(&gate, "2001:db8::ffff:1:2:3", &again), ==,
              PH_ADMIT_PEER); /* the same 64 bits */
    CHECK_INT(come(&gate, "::ffff:192.0.2.1", &again), ==, PH_ADMIT_PEER);
    go(&gate, &admitted[0][1]);
    CHECK_INT(come(&gate, "192.0.2.1", &admitted[0][1]), ==, PH_ADMIT_OK);
    CHECK_INT(come(&gate, "192.0.2.1", &again), ==, PH_ADMIT_PEER);
    for (size_t i = 0; i < PH_COUNT_OF(peers); i++) {
        for (size_t k = 0; k < 3; k++)
            go(&gate, &admitted[i][k]);
    }
    CHECK_INT(gate.adm.conns, ==, 0);
    CHECK_INT(gate.adm.peers.count, ==, 0); /* nobody is remembered */
    ph_admission_fini(&gate.adm);
}

TEST(admission, all_together_have_a_limit)
{
    struct ph_admitted admitted[3];
    struct gate gate;
    gate_init(&gate, 2, 0); /* and peers have none */
    CHECK_INT(come(&gate, "192.0.2.1", &admitted[0]), ==, PH_ADMIT_OK);
    CHECK_INT(come(&gate, "192.0.2.1", &admitted[1]), ==, PH_ADMIT_OK);
    CHECK_INT(come(&gate, "192.0.2.1", &admitted[2]), ==, PH_ADMIT_FULL);
    CHECK_INT(gate.stats.limit_conns, ==, 1);
    CHECK_INT(gate.adm.peers.count, ==, 0);
    go(&gate, &admitted[0]);
    CHECK_INT(come(&gate, "192.0.2.9", &admitted[2]), ==, PH_ADMIT_OK);
    ph_admission_fini(&gate.adm);
}

TEST(admission, nobody_comes_while_memory_is_short)
{
    struct ph_admitted admitted;
    struct gate gate;
    gate_init(&gate, 2, 2);
    gate.adm.is_short = true;
    CHECK_INT(come(&gate, "192.0.2.1", &admitted), ==, PH_ADMIT_MEMORY);
    CHECK_INT(gate.stats.limit_memory, ==, 1);
    ph_admission_fini(&gate.adm);
}

TEST(admission, exceptions_are_not_counted)
{
    struct ph_admitted admitted[8];
    struct ph_net net;
    struct gate gate;
    gate_init(&gate, 100, 1);
    CHECK_INT(ph_net_parse(&net, "192.0.2.0/24"), ==, 0);
    ph_admission_except(&gate.adm, &net);
    CHECK_INT(ph_net_parse(&net, "::1"), ==, 0);
    ph_admission_except(&gate.adm, &net);
    for (size_t i = 0; i < 6; i++)
        CHECK_INT(come(&gate, i % 2 == 0 ? "192.0.2.1" : "::1", &admitted[i]), ==, PH_ADMIT_OK);
    CHECK_INT(come(&gate, "198.51.100.1", &admitted[6]), ==, PH_ADMIT_OK);
    CHECK_INT(come(&gate, "198.51.100.1", &admitted[7]), ==, PH_ADMIT_PEER);
    struct ph_addr local = {.u.sa.sa_family = AF_UNIX, .len = sizeof(struct sockaddr)};
    CHECK(ph_admission_enter_peer(&gate.adm, &local, &admitted[7]));
    CHECK(!admitted[7].is_counted);
    ph_admission_fini(&gate.adm);
}
