/*
 * admission.c - who may still come in: the connections of all transports together, those of one
 * peer, and none while memory is short.
 *
 *      accept -> ph_admission_check() -> ph_admission_enter(), ph_admission_enter_peer() ... leave
 *
 * A peer is an IPv4 address or an IPv6 network of 64 bits, which is what one household or host has;
 * other families are not told apart and not counted. Who may have a forged address (a QUIC client
 * before its address is validated) counts towards the total only: nobody can use up the places of
 * somebody else. The map is keyed, and has at most as many entries as there are connections.
 */
#include "base.h"

void ph_admission_init(struct ph_admission *adm, size_t max_conns, size_t max_per_peer,
                       struct ph_stats *stats)
{
    *adm =
        (struct ph_admission){.max_conns = max_conns, .max_per_peer = max_per_peer, .stats = stats};
    ph_map_init(&adm->peers);
}

void ph_admission_fini(struct ph_admission *adm)
{
    ph_map_fini(&adm->peers);
    ph_free(adm->uncounted);
    adm->uncounted = NULL;
    adm->uncounted_n = 0;
}

void ph_admission_except(struct ph_admission *adm, const struct ph_net *net)
{
    adm->uncounted = ph_realloc(adm->uncounted, (adm->uncounted_n + 1) * sizeof(*net));
    adm->uncounted[adm->uncounted_n++] = *net;
}

/* false: such peers are not counted. Keys of the two families do not meet: no IPv6 network begins
 * with 32 zero bits, but for the loopback's and the mapped ones. */
static bool key_of(const struct ph_admission *adm, const struct ph_addr *addr, uint64_t *key)
{
    uint8_t bytes[16];
    size_t n = ph_addr_bytes(addr, bytes);
    if (n == 0 || adm->max_per_peer == 0)
        return false;
    for (size_t i = 0; i < adm->uncounted_n; i++) {
        if (ph_net_has(&adm->uncounted[i], addr))
            return false;
    }
    *key = 0;
    for (size_t i = 0; i < PH_MIN(n, 8); i++)
        *key = *key << 8 | bytes[i];
    return true;
}

static size_t conns_of(const struct ph_admission *adm, uint64_t key)
{
    return (size_t)(uintptr_t)ph_map_get(&adm->peers, key);
}

static void set_conns_of(struct ph_admission *adm, uint64_t key, size_t n)
{
    if (n == 0)
        ph_map_del(&adm->peers, key);
    else
        ph_map_put(&adm->peers, key, (void *)(uintptr_t)n);
}

enum ph_admit ph_admission_check(const struct ph_admission *adm, const struct ph_addr *remote)
{
    uint64_t key;
    if (adm->is_short) {
        ph_count(adm->stats, limit_memory);
        return PH_ADMIT_MEMORY;
    }
    if (adm->conns >= adm->max_conns) {
        ph_count(adm->stats, limit_conns);
        return PH_ADMIT_FULL;
    }
    if (key_of(adm, remote, &key) && conns_of(adm, key) >= adm->max_per_peer) {
        ph_count(adm->stats, limit_conns_per_ip);
        return PH_ADMIT_PEER;
    }
    return PH_ADMIT_OK;
}

void ph_admission_enter(struct ph_admission *adm)
{
    adm->conns++;
}

void ph_admission_leave(struct ph_admission *adm)
{
    PH_ASSERT(adm->conns > 0);
    adm->conns--;
}

bool ph_admission_enter_peer(struct ph_admission *adm, const struct ph_addr *remote,
                             struct ph_admitted *out)
{
    out->is_counted = key_of(adm, remote, &out->key);
    if (!out->is_counted)
        return true;
    size_t n = conns_of(adm, out->key);
    if (n >= adm->max_per_peer) {
        out->is_counted = false;
        ph_count(adm->stats, limit_conns_per_ip);
        return false;
    }
    set_conns_of(adm, out->key, n + 1);
    return true;
}

void ph_admission_leave_peer(struct ph_admission *adm, struct ph_admitted *admitted)
{
    if (!admitted->is_counted)
        return;
    admitted->is_counted = false;
    set_conns_of(adm, admitted->key, conns_of(adm, admitted->key) - 1);
}

const char *ph_admit_name(enum ph_admit verdict)
{
    switch (verdict) {
    case PH_ADMIT_OK:
        return "ok";
    case PH_ADMIT_FULL:
        return "max_connections";
    case PH_ADMIT_PEER:
        return "max_connections_per_ip";
    case PH_ADMIT_MEMORY:
        return "memory_budget";
    }
    return "";
}
