/*
 * addr.c - IPv4 and IPv6 socket addresses: comparing, ports, text, networks.
 *
 * Used wherever a path is compared (every packet) or shown (logs, request heads). An IPv4-mapped
 * IPv6 address is shown as IPv4 and is in IPv4 networks, since that is what the peer has; it is not
 * equal to the IPv4 one, since answers to it must leave through the socket it came in by.
 */
#include "base.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdlib.h>

bool ph_addr_equal(const struct ph_addr *a, const struct ph_addr *b)
{
    if (a->len == 0 || b->len == 0)
        return a->len == b->len;
    if (a->u.sa.sa_family != b->u.sa.sa_family)
        return false;
    if (a->u.sa.sa_family == AF_INET) {
        return a->u.in.sin_port == b->u.in.sin_port &&
               a->u.in.sin_addr.s_addr == b->u.in.sin_addr.s_addr;
    }
    /* The flow label is no part of the identity; the scope is, for link-local addresses. */
    return a->u.in6.sin6_port == b->u.in6.sin6_port &&
           a->u.in6.sin6_scope_id == b->u.in6.sin6_scope_id &&
           memcmp(&a->u.in6.sin6_addr, &b->u.in6.sin6_addr, sizeof(struct in6_addr)) == 0;
}

uint16_t ph_addr_port(const struct ph_addr *addr)
{
    if (addr->len == 0)
        return 0;
    if (addr->u.sa.sa_family == AF_INET)
        return ntohs(addr->u.in.sin_port);
    return addr->u.sa.sa_family == AF_INET6 ? ntohs(addr->u.in6.sin6_port) : 0;
}

void ph_addr_set_port(struct ph_addr *addr, uint16_t port)
{
    if (addr->len == 0)
        return;
    if (addr->u.sa.sa_family == AF_INET)
        addr->u.in.sin_port = htons(port);
    else if (addr->u.sa.sa_family == AF_INET6)
        addr->u.in6.sin6_port = htons(port);
}

/* "a.b.c.d". Each request has two of them, and inet_ntop() goes through printf. */
static void v4_text(char out[INET_ADDRSTRLEN], const uint8_t bytes[4])
{
    for (int i = 0; i < 4; i++) {
        unsigned v = bytes[i];
        if (v >= 100)
            *out++ = (char)('0' + v / 100);
        if (v >= 10)
            *out++ = (char)('0' + v / 10 % 10);
        *out++ = (char)('0' + v % 10);
        *out++ = i < 3 ? '.' : '\0';
    }
}

size_t ph_addr_bytes(const struct ph_addr *addr, uint8_t out[16])
{
    if (addr->len == 0)
        return 0;
    if (addr->u.sa.sa_family == AF_INET) {
        memcpy(out, &addr->u.in.sin_addr, 4);
        return 4;
    }
    if (addr->u.sa.sa_family != AF_INET6)
        return 0;
    const struct in6_addr *in6 = &addr->u.in6.sin6_addr;
    size_t n = IN6_IS_ADDR_V4MAPPED(in6) ? 4 : 16;
    memcpy(out, in6->s6_addr + 16 - n, n);
    return n;
}

const char *ph_addr_host(const struct ph_addr *addr, char *out, size_t cap)
{
    uint8_t bytes[16];
    size_t n = ph_addr_bytes(addr, bytes);
    if (n == 4 && cap >= INET_ADDRSTRLEN) {
        v4_text(out, bytes);
        return out;
    }
    char host[INET6_ADDRSTRLEN] = "unset";
    char scope[16] = "";
    if (n > 0)
        inet_ntop(n == 4 ? AF_INET : AF_INET6, bytes, host, sizeof(host));
    if (n == 16 && IN6_IS_ADDR_LINKLOCAL(&addr->u.in6.sin6_addr) && addr->u.in6.sin6_scope_id != 0)
        snprintf(scope, sizeof(scope), "%%%u", addr->u.in6.sin6_scope_id);
    snprintf(out, cap, "%s%s", host, scope);
    return out;
}

const char *ph_addr_text(const struct ph_addr *addr, char *out, size_t cap)
{
    char host[INET6_ADDRSTRLEN + 16];
    ph_addr_host(addr, host, sizeof(host));
    if (addr->len == 0)
        snprintf(out, cap, "%s", host);
    else if (strchr(host, ':') != NULL)
        snprintf(out, cap, "[%s]:%u", host, ph_addr_port(addr));
    else
        snprintf(out, cap, "%s:%u", host, ph_addr_port(addr));
    return out;
}

/* "fe80::1%2" and "fe80::1%eth0": splits at the percent sign. False when the zone is unknown. */
static bool split_scope(const char *host, char *bare, size_t cap, uint32_t *scope)
{
    const char *percent = strchr(host, '%');
    size_t n = percent != NULL ? (size_t)(percent - host) : strlen(host);
    *scope = 0;
    if (n >= cap)
        return false;
    memcpy(bare, host, n);
    bare[n] = '\0';
    if (percent == NULL)
        return true;
    const char *zone = percent + 1;
    size_t digits = strspn(zone, "0123456789");
    if (digits == 0 || zone[digits] != '\0') {
        *scope = if_nametoindex(zone);
        return *scope != 0;
    }
    if (digits > 9)
        return false;
    for (size_t i = 0; i < digits; i++)
        *scope = *scope * 10 + (uint32_t)(zone[i] - '0');
    return *scope != 0;
}

int ph_addr_parse(struct ph_addr *addr, const char *host, uint16_t port)
{
    struct ph_addr parsed = {.len = 0};
    char bare[INET6_ADDRSTRLEN];
    uint32_t scope;
    if (inet_pton(AF_INET, host, &parsed.u.in.sin_addr) == 1) {
        parsed.u.in.sin_family = AF_INET;
        parsed.u.in.sin_port = htons(port);
        parsed.len = sizeof(parsed.u.in);
        *addr = parsed;
        return PH_OK;
    }
    parsed = (struct ph_addr){.len = 0};
    if (!split_scope(host, bare, sizeof(bare), &scope) ||
        inet_pton(AF_INET6, bare, &parsed.u.in6.sin6_addr) != 1)
        return PH_E_INVAL;
    parsed.u.in6.sin6_family = AF_INET6;
    parsed.u.in6.sin6_port = htons(port);
    parsed.u.in6.sin6_scope_id = scope;
    parsed.len = sizeof(parsed.u.in6);
    *addr = parsed;
    return PH_OK;
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
    net->n = ph_addr_bytes(&addr, net->bytes);
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
    if (ph_addr_bytes(addr, bytes) != net->n || net->n == 0)
        return false;
    unsigned whole = net->bits / 8, rest = net->bits % 8;
    if (memcmp(bytes, net->bytes, whole) != 0)
        return false;
    return rest == 0 || ((bytes[whole] ^ net->bytes[whole]) >> (8 - rest)) == 0;
}
