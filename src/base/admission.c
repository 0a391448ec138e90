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

#include <arpa/inet.h>
#include <stdlib.h>

static bool is_mapped(const struct ph_addr *addr)
{
    return addr->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&addr->u.in6.sin6_addr);
}

/* The bytes of an address, IPv4-mapped ones as IPv4; 0: of another family. */
static size_t bytes_of(const struct ph_addr *addr, uint8_t out[16])
{
    if (addr->len == 0)
        return 0;
    if (addr->u.sa.sa_family == AF_INET) {
        memcpy(out, &addr->u.in.sin_addr, 4);
        return 4;
    }
    if (addr->u.sa.sa_family != AF_INET6)
        return 0;
    const uint8_t *p = addr->u.in6.sin6_addr.s6_addr;
    size_t n = is_mapped(addr) ? 4 : 16;
    memcpy(out, p + 16 - n, n);
    return n;
}

/* --- Networks --- */

int ph_net_parse(struct ph_net *net, const char *text)
{
    char host[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    struct ph_addr addr;
    if (n >= sizeof(host))
        return PH_E_INVAL;
    memcpy(host, text, n);
    host[n] = '\0';
    if (ph_addr_parse(&addr, host, 0) < 0)
        return PH_E_INVAL;
    net->n = bytes_of(&addr, net->bytes);
    net->bits = (unsigned)net->n * 8;
    if (slash == NULL)
        return 0;
    size_t digits = strspn(slash + 1, "0123456789");
    if (digits == 0 || digits > 3 || slash[1 + digits] != '\0' ||
        (unsigned)atoi(slash + 1) > net->bits)
        return PH_E_INVAL;
    net->bits = (unsigned)atoi(slash + 1);
    return 0;
}

bool ph_net_has(const struct ph_net *net, const struct ph_addr *addr)
{
    uint8_t bytes[16];
    if (bytes_of(addr, bytes) != net->n || net->n == 0)
        return false;
    unsigned whole = net->bits / 8, rest = net->bits % 8;
    if (memcmp(bytes, net->bytes, whole) != 0)
        return false;
    return rest == 0 || ((bytes[whole] ^ net->bytes[whole]) >> (8 - rest)) == 0;
}

/* --- Admission --- */

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
    size_t n = bytes_of(addr, bytes);
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
