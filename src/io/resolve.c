/*
 * resolve.c - from the text of a listen option to socket addresses.
 *
 * Runs once for each listen address, before the I/O thread exists, so it may block. IPv4 comes
 * before IPv6, so that the order does not depend on the system. A name with several addresses
 * ("localhost", "*") on a machine without IPv6 gives those that can be bound here; when none can,
 * all are given, and binding names the error.
 */
#include "io.h"

#include <netdb.h>
#include <unistd.h>

struct target {
    char host[256]; /* "" for all addresses */
    char port[6];
};

/* Splits "host:port" into its halves; false when it is not of that form. */
static bool target_split(struct target *target, const char *text)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return false;
    const char *host = text;
    size_t n = (size_t)(colon - text);
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
        if (n == 0 || memchr(host, ':', n) == NULL)
            return false;
    } else if (memchr(host, ':', n) != NULL || memchr(host, '[', n) != NULL) {
        return false; /* IPv6 needs its brackets: where else would the port begin? */
    } else if (n == 1 && host[0] == '*') {
        n = 0;
    }
    size_t digits = strspn(colon + 1, "0123456789");
    if (n >= sizeof(target->host) || digits == 0 || digits >= sizeof(target->port) ||
        colon[1 + digits] != '\0')
        return false;
    memcpy(target->host, host, n);
    target->host[n] = '\0';
    memcpy(target->port, colon + 1, digits + 1);
    return true;
}

static unsigned port_of(const struct target *target)
{
    unsigned port = 0;
    for (const char *p = target->port; *p != '\0'; p++)
        port = port * 10 + (unsigned)(*p - '0');
    return port;
}

/* Both loopback addresses, whatever the hosts file says (RFC 6761 6.3): browsers resolve the name
 * themselves, and for WebTransport dial [::1] without falling back to 127.0.0.1. */
static bool is_localhost(const char *host)
{
    size_t n = strlen(host);
    return ph_text_equal(host, n, "localhost") || ph_text_equal(host, n, "localhost.");
}

/* Whether a socket of this machine can have the address (the port aside). */
static bool can_bind(const struct ph_addr *addr)
{
    struct ph_addr probe = *addr;
    ph_addr_set_port(&probe, 0);
    int fd = socket(probe.u.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    int on = 1;
    if (probe.u.sa.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    bool bound = bind(fd, &probe.u.sa, probe.len) == 0;
    close(fd);
    return bound;
}

static size_t add_unique(struct ph_addr *out, size_t count, size_t max, const struct ph_addr *addr)
{
    for (size_t i = 0; i < count; i++) {
        if (ph_addr_equal(&out[i], addr))
            return count;
    }
    if (count < max)
        out[count++] = *addr;
    return count;
}

/* One pass over a name's addresses, those of one family. */
static size_t add_family(struct ph_addr *out, size_t count, size_t max, const struct addrinfo *list,
                         int family, bool only_bindable)
{
    for (const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next) {
        struct ph_addr addr = {.len = 0};
        if (ai->ai_family != family || ai->ai_addrlen > sizeof(addr.u))
            continue;
        memcpy(&addr.u, ai->ai_addr, ai->ai_addrlen);
        addr.len = ai->ai_addrlen;
        if (only_bindable && !can_bind(&addr))
            continue;
        count = add_unique(out, count, max, &addr);
    }
    return count;
}

int ph_resolve(struct ph_addr *out, size_t max, const char *text, struct ph_err *err)
{
    struct target target;
    struct ph_addr numeric;
    if (!target_split(&target, text))
        return ph_fail(err, PH_E_CONFIG,
                       "\"%s\" is not an address: write host:port, [IPv6 address]:port or *:port",
                       text);
    unsigned port = port_of(&target);
    if (port > 65535)
        return ph_fail(err, PH_E_CONFIG, "\"%s\" is not an address: the port is 0 to 65535", text);
    if (max > 0 && ph_addr_parse(&numeric, target.host, (uint16_t)port) == PH_OK) {
        out[0] = numeric;
        return 1;
    }

    bool is_local = is_localhost(target.host);
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = is_local ? AI_NUMERICSERV : AI_PASSIVE | AI_NUMERICSERV,
    };
    /* Without a host: the loopback addresses, or with AI_PASSIVE the wildcards. */
    const char *host = is_local || target.host[0] == '\0' ? NULL : target.host;
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, target.port, &hints, &list);
    if (rc != 0)
        return ph_fail(err, PH_E_CONFIG, "\"%s\" cannot be resolved: %s", text, gai_strerror(rc));
    size_t count = 0;
    for (int only_bindable = 1; only_bindable >= 0 && count == 0; only_bindable--) {
        count = add_family(out, count, max, list, AF_INET, only_bindable != 0);
        count = add_family(out, count, max, list, AF_INET6, only_bindable != 0);
    }
    freeaddrinfo(list);
    if (count == 0)
        return ph_fail(err, PH_E_CONFIG, "\"%s\" has neither an IPv4 nor an IPv6 address", text);
    return (int)count;
}
