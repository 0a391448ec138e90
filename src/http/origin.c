/*
 * origin.c - which pages may open a WebTransport session (where the draft demands the check of
 * every server, draft-16 section 3.2) or a WebSocket (RFC 6455 10.2); RFC 6454 for the syntax.
 *
 * Browsers always send Origin, other clients need not. Absent: allowed. With a configured list it
 * must be one of the list. Without: a page of https on the same host, whatever its port (the page
 * may be served over TCP by another listener), or, when the server is addressed by a loopback name,
 * any loopback page, so that development needs no configuration. Two Origin fields, "null" and
 * everything that does not parse match nothing.
 */
#include "http_internal.h"

struct origin {
    const char *scheme, *host; /* borrow */
    size_t scheme_len, host_len;
    unsigned port; /* the scheme's default when it was not written */
};

static bool parse_port(const char *p, size_t n, unsigned *port)
{
    unsigned value = 0;
    if (n == 0 || n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        value = value * 10 + (unsigned)(p[i] - '0');
    }
    *port = value;
    return value <= 65535;
}

/* "host", "host:port", "[v6]", "[v6]:port". */
static bool parse_host(struct origin *out, const char *p, size_t n)
{
    const char *end = p + n;
    const char *host_end = memchr(p, n > 0 && *p == '[' ? ']' : ':', n);
    if (n > 0 && *p == '[') {
        if (host_end == NULL)
            return false;
        host_end++;
    }
    if (host_end == NULL)
        host_end = end;
    out->host = p;
    out->host_len = (size_t)(host_end - p);
    if (out->host_len == 0)
        return false;
    if (host_end == end)
        return true;
    return *host_end == ':' && parse_port(host_end + 1, (size_t)(end - host_end) - 1, &out->port);
}

/* "scheme://host[:port]" and nothing behind it. */
static bool parse_origin(struct origin *out, const char *p, size_t n)
{
    const char *colon = memchr(p, ':', n);
    if (colon == NULL || (size_t)(p + n - colon) < 3 || colon[1] != '/' || colon[2] != '/')
        return false;
    out->scheme = p;
    out->scheme_len = (size_t)(colon - p);
    out->port = ph_text_equal(p, out->scheme_len, "https")  ? 443
                : ph_text_equal(p, out->scheme_len, "http") ? 80
                                                            : 0;
    const char *host = colon + 3;
    size_t host_len = (size_t)(p + n - host);
    return memchr(host, '/', host_len) == NULL && parse_host(out, host, host_len);
}

static bool is_same(const struct origin *a, const struct origin *b)
{
    return a->port == b->port && ph_text_same(a->scheme, a->scheme_len, b->scheme, b->scheme_len) &&
           ph_text_same(a->host, a->host_len, b->host, b->host_len);
}

/* localhost, *.localhost (RFC 6761 section 6.3), 127.0.0.0/8, [::1]. */
static bool is_loopback(const struct origin *origin)
{
    char host[64];
    struct ph_addr addr;
    size_t n = origin->host_len;
    const char *p = origin->host;
    if (ph_text_equal(p, n, "localhost") || (n > 10 && ph_text_equal(p + n - 10, 10, ".localhost")))
        return true;
    if (n > 2 && *p == '[') {
        p++;
        n -= 2;
    }
    if (n >= sizeof host)
        return false;
    memcpy(host, p, n);
    host[n] = '\0';
    if (ph_addr_parse(&addr, host, 0) != 0)
        return false;
    if (addr.u.sa.sa_family == AF_INET)
        return (ntohl(addr.u.in.sin_addr.s_addr) >> 24) == 127;
    return IN6_IS_ADDR_LOOPBACK(&addr.u.in6.sin6_addr);
}

static bool is_listed(const char *const *allowed_origins, size_t count, const char *p, size_t n,
                      const struct origin *origin)
{
    for (size_t i = 0; i < count; i++) {
        const char *text = allowed_origins[i];
        struct origin allowed;
        if (strcmp(text, "*") == 0)
            return true;
        if (ph_text_equal(p, n, text)) /* also what is no URL, such as "null" */
            return true;
        if (origin != NULL && parse_origin(&allowed, text, strlen(text)) &&
            is_same(origin, &allowed))
            return true;
    }
    return false;
}

bool ph_origin_is_allowed(const char *const *allowed, size_t n, const struct ph_head *head)
{
    const struct ph_field *field = ph_fields_get(&head->fields, "origin");
    if (field == NULL)
        return true;
    if (ph_fields_count_of(&head->fields, "origin") > 1)
        return false;
    struct origin origin, self = {.scheme = "https", .scheme_len = 5, .port = 443};
    bool is_parsed = parse_origin(&origin, field->value, field->value_len);
    if (n > 0)
        return is_listed(allowed, n, field->value, field->value_len, is_parsed ? &origin : NULL);
    if (!is_parsed || !parse_host(&self, head->authority, head->authority_len))
        return false;
    bool is_https = ph_text_equal(origin.scheme, origin.scheme_len, "https");
    if (is_https && ph_text_same(origin.host, origin.host_len, self.host, self.host_len))
        return true;
    bool is_web = is_https || ph_text_equal(origin.scheme, origin.scheme_len, "http");
    return is_web && is_loopback(&origin) && is_loopback(&self);
}
