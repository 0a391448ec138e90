/* test_admission.c - who may still come in. */
#include "test.h"

static struct ph_addr addr_of(const char *host)
{
    struct ph_addr addr;
    CHECK_INT(ph_addr_parse(&addr, host, 4433), ==, 0);
    return addr;
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
