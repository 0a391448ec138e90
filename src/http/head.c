/*
 * head.c - heads of HTTP/2 and HTTP/3 from decoded fields: pseudo-header fields, what a request
 * must and must not carry, trailers, responses for the client role.
 *
 * The decoder of the field section (QPACK) adds fields one by one in wire order; nothing is
 * trusted, and the first offence is remembered: later fields cost nothing. Everything a head says
 * is in one arena, so that a finished head is two blocks of memory that the caller takes over.
 *
 * RFC 9114 4.2, 4.3 and 4.4; RFC 9220 for extended CONNECT. Names are checked for lower case here,
 * because not every version of the QPACK library does.
 */
#include "http_internal.h"

enum pseudo { METHOD, SCHEME, AUTHORITY, PATH, PROTOCOL, STATUS, PSEUDO_COUNT };

_Static_assert(PSEUDO_COUNT <= 8, "ph_head_builder.off is too small");

#define BIT(id) (1u << (id))

void ph_head_fini(struct ph_head *head)
{
    ph_fields_fini(&head->fields);
    *head = (struct ph_head){.version = 0};
}

void ph_head_builder_init(struct ph_head_builder *builder, const struct ph_http_limits *limits,
                          bool is_response)
{
    *builder = (struct ph_head_builder){.limits = limits, .is_response = is_response};
    builder->head.version = 30;
    builder->head.method = builder->head.scheme = builder->head.authority = "";
    builder->head.target = builder->head.protocol = "";
}

void ph_head_builder_init_trailers(struct ph_head_builder *builder,
                                   const struct ph_http_limits *limits)
{
    ph_head_builder_init(builder, limits, false);
    builder->is_trailers = true;
}

void ph_head_builder_fini(struct ph_head_builder *builder)
{
    ph_head_fini(&builder->head);
}

static enum pseudo pseudo_find(const char *name, size_t n)
{
    static const char *const names[PSEUDO_COUNT] = {":method", ":scheme",   ":authority",
                                                    ":path",   ":protocol", ":status"};
    for (unsigned i = 0; i < PSEUDO_COUNT; i++) {
        if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
            return (enum pseudo)i;
    }
    return PSEUDO_COUNT;
}

/* RFC 3986 3.1 */
static bool is_scheme(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool alpha = (p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z');
        bool other = (p[i] >= '0' && p[i] <= '9') || p[i] == '+' || p[i] == '-' || p[i] == '.';
        if (!alpha && !(other && i > 0))
            return false;
    }
    return n > 0;
}

static int check_pseudo(struct ph_head_builder *builder, enum pseudo id, const char *value,
                        size_t n)
{
    switch (id) {
    case METHOD:
    case PROTOCOL:
        return ph_field_name_is_valid(value, n) ? 0 : PH_E_MALFORMED;
    case SCHEME:
        return is_scheme(value, n) ? 0 : PH_E_MALFORMED;
    case AUTHORITY:
        return ph_authority_is_valid(value, n) ? 0 : PH_E_MALFORMED;
    case PATH:
        if (builder->limits != NULL && n > builder->limits->target_bytes) {
            builder->is_target_long = true;
            return PH_E_LIMIT;
        }
        return ph_target_is_valid(value, n) || (n == 1 && value[0] == '*') ? 0 : PH_E_MALFORMED;
    case STATUS:
        if (n != 3 || value[0] < '1' || value[0] > '9' || value[1] < '0' || value[1] > '9' ||
            value[2] < '0' || value[2] > '9')
            return PH_E_MALFORMED;
        builder->head.status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
        return builder->head.status == 101 ? PH_E_MALFORMED : 0; /* RFC 9114 4.5 */
    case PSEUDO_COUNT:
        break;
    }
    return PH_E_MALFORMED;
}

static int add_pseudo(struct ph_head_builder *builder, const char *name, size_t name_len,
                      const char *value, size_t value_len)
{
    enum pseudo id = pseudo_find(name, name_len);
    if (builder->is_trailers || builder->regular_seen || id == PSEUDO_COUNT ||
        (builder->seen & BIT(id)) != 0 || (id == STATUS) != builder->is_response)
        return PH_E_MALFORMED;
    int rv = check_pseudo(builder, id, value, value_len);
    if (rv != 0)
        return rv;
    struct ph_fields *fields = &builder->head.fields;
    size_t cost = name_len + value_len + PH_FIELD_COST;
    if (builder->limits != NULL && fields->cost + cost > builder->limits->head_bytes)
        return PH_E_LIMIT;
    fields->cost += cost;
    builder->seen |= BIT(id);
    builder->off[id] = ph_fields_put(fields, value, value_len);
    if (id == METHOD)
        builder->head.method_len = value_len;
    else if (id == PATH)
        builder->head.target_len = value_len;
    else if (id == AUTHORITY)
        builder->head.authority_len = value_len;
    return 0;
}

static int check_regular(struct ph_head_builder *builder, const char *name, size_t name_len,
                         const char *value, size_t value_len)
{
    if (!ph_field_name_is_lower(name, name_len) || !ph_field_value_is_valid(value, value_len) ||
        ph_field_is_connection_specific(name, name_len))
        return PH_E_MALFORMED;
    if (name_len == 2 && memcmp(name, "te", 2) == 0 && !ph_text_equal(value, value_len, "trailers"))
        return PH_E_MALFORMED;
    if (builder->is_trailers)
        return ph_field_is_forbidden_trailer(name, name_len) ? PH_E_MALFORMED : 0;
    if (name_len == 14 && memcmp(name, "content-length", 14) == 0) {
        if (builder->head.has_length)
            return PH_E_MALFORMED;
        builder->head.has_length = true;
        return ph_content_length_parse(value, value_len, &builder->head.length);
    }
    return 0;
}

int ph_head_builder_add(struct ph_head_builder *builder, const char *name, size_t name_len,
                        const char *value, size_t value_len)
{
    if (builder->error != 0)
        return builder->error;
    int rv;
    if (name_len > 0 && name[0] == ':') {
        rv = add_pseudo(builder, name, name_len, value, value_len);
    } else {
        builder->regular_seen = true;
        rv = check_regular(builder, name, name_len, value, value_len);
        if (rv == 0)
            rv = ph_fields_add(&builder->head.fields, name, name_len, value, value_len,
                               builder->limits);
    }
    builder->error = rv;
    return rv;
}

/* --- The whole --- */

static bool is_same_authority(const char *a, size_t a_len, const char *b, size_t b_len)
{
    if (a_len != b_len)
        return false;
    for (size_t i = 0; i < a_len; i++) {
        char x = a[i], y = b[i];
        x = x >= 'A' && x <= 'Z' ? (char)(x | 0x20) : x;
        y = y >= 'A' && y <= 'Z' ? (char)(y | 0x20) : y;
        if (x != y)
            return false;
    }
    return true;
}

/* RFC 9114 4.3.1: Host and :authority say the same; one of them must be there. */
static int finish_authority(struct ph_head_builder *builder)
{
    struct ph_head *head = &builder->head;
    const struct ph_field *host = ph_fields_get(&head->fields, "host");
    if (host == NULL)
        return (builder->seen & BIT(AUTHORITY)) != 0 ? 0 : PH_E_MALFORMED;
    if (ph_fields_count_of(&head->fields, "host") > 1 ||
        !ph_authority_is_valid(host->value, host->value_len))
        return PH_E_MALFORMED;
    if ((builder->seen & BIT(AUTHORITY)) == 0) {
        head->authority = host->value;
        head->authority_len = host->value_len;
        return 0;
    }
    return is_same_authority(head->authority, head->authority_len, host->value, host->value_len)
               ? 0
               : PH_E_MALFORMED;
}

static int finish_request(struct ph_head_builder *builder)
{
    struct ph_head *head = &builder->head;
    unsigned seen = builder->seen;
    if ((seen & BIT(METHOD)) == 0)
        return PH_E_MALFORMED;
    bool is_connect = strcmp(head->method, "CONNECT") == 0;
    if ((seen & BIT(PROTOCOL)) != 0 && !is_connect)
        return PH_E_MALFORMED;
    if (is_connect && (seen & BIT(PROTOCOL)) == 0) {
        /* RFC 9114 4.4: host and port, nothing else. */
        if ((seen & (BIT(SCHEME) | BIT(PATH))) != 0 || (seen & BIT(AUTHORITY)) == 0)
            return PH_E_MALFORMED;
        const char *colon = strrchr(head->authority, ':');
        if (colon == NULL || strchr(colon, ']') != NULL)
            return PH_E_MALFORMED;
    } else if ((seen & BIT(SCHEME)) == 0 || (seen & BIT(PATH)) == 0 ||
               (is_connect && (seen & BIT(AUTHORITY)) == 0)) {
        return PH_E_MALFORMED;
    }
    if (head->target[0] == '*' && strcmp(head->method, "OPTIONS") != 0)
        return PH_E_MALFORMED;
    return finish_authority(builder);
}

int ph_head_builder_finish(struct ph_head_builder *builder)
{
    struct ph_head *head = &builder->head;
    if (builder->error != 0)
        return builder->error;
    ph_fields_seal(&head->fields);
    const char **slots[] = {[METHOD] = &head->method,
                            [SCHEME] = &head->scheme,
                            [AUTHORITY] = &head->authority,
                            [PATH] = &head->target,
                            [PROTOCOL] = &head->protocol};
    for (unsigned i = 0; i < PH_COUNT_OF(slots); i++) {
        if ((builder->seen & BIT(i)) != 0)
            *slots[i] = head->fields.arena + builder->off[i];
    }
    if (builder->is_trailers)
        return 0;
    if (builder->is_response)
        builder->error = (builder->seen & BIT(STATUS)) != 0 ? 0 : PH_E_MALFORMED;
    else
        builder->error = finish_request(builder);
    return builder->error;
}
