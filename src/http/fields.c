/*
 * fields.c - field lines: storage in one arena, syntax, limits.
 *
 * A set of fields keeps all of its bytes in one block, so that a head costs two allocations
 * whatever the number of its fields. The block moves while it grows, and the pairs that point into
 * it are moved along; pointers are for keeping only after ph_fields_seal().
 *
 * Syntax is RFC 9110 5 without leniency: what is refused here never reaches an application, nor the
 * wire.
 */
#include "http_internal.h"

#include <arpa/inet.h>

/* --- Characters --- */

/* RFC 9110 5.6.2 token, with the upper-case letters marked apart. */
static const uint8_t char_class[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1,
    ['-'] = 1, ['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1,  ['~'] = 1, ['0'] = 1,
    ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1,  ['7'] = 1, ['8'] = 1,
    ['9'] = 1, ['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1,  ['f'] = 1, ['g'] = 1,
    ['h'] = 1, ['i'] = 1, ['j'] = 1, ['k'] = 1, ['l'] = 1, ['m'] = 1,  ['n'] = 1, ['o'] = 1,
    ['p'] = 1, ['q'] = 1, ['r'] = 1, ['s'] = 1, ['t'] = 1, ['u'] = 1,  ['v'] = 1, ['w'] = 1,
    ['x'] = 1, ['y'] = 1, ['z'] = 1, ['A'] = 2, ['B'] = 2, ['C'] = 2,  ['D'] = 2, ['E'] = 2,
    ['F'] = 2, ['G'] = 2, ['H'] = 2, ['I'] = 2, ['J'] = 2, ['K'] = 2,  ['L'] = 2, ['M'] = 2,
    ['N'] = 2, ['O'] = 2, ['P'] = 2, ['Q'] = 2, ['R'] = 2, ['S'] = 2,  ['T'] = 2, ['U'] = 2,
    ['V'] = 2, ['W'] = 2, ['X'] = 2, ['Y'] = 2, ['Z'] = 2,
};

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (ph_lower(c) >= 'a' && ph_lower(c) <= 'f');
}

bool ph_field_name_is_valid(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (char_class[(uint8_t)p[i]] == 0)
            return false;
    }
    return n > 0;
}

bool ph_field_name_is_lower(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (char_class[(uint8_t)p[i]] != 1)
            return false;
    }
    return n > 0;
}

bool ph_field_value_is_valid(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return n == 0 || (p[0] != ' ' && p[0] != '\t' && p[n - 1] != ' ' && p[n - 1] != '\t');
}

/* Items of RFC 9110 5.6.1; parameters behind ";" do not count. Quoted strings are not looked for:
 * the lists that are asked have none, and a comma in one could at most give them an item more. */
bool ph_list_has(const char *p, size_t n, const char *token)
{
    size_t at = 0;
    while (at < n) {
        size_t end = at;
        while (end < n && p[end] != ',')
            end++;
        size_t from = at, to = from;
        while (from < end && (p[from] == ' ' || p[from] == '\t'))
            from++;
        for (to = from; to < end && char_class[(uint8_t)p[to]] != 0;)
            to++;
        size_t after = to;
        while (after < end && (p[after] == ' ' || p[after] == '\t'))
            after++;
        if ((after == end || p[after] == ';') && ph_text_equal(p + from, to - from, token))
            return true;
        at = end + 1;
    }
    return false;
}

static bool is_one_of(const char *name, size_t n, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ph_text_equal(name, n, names[i]))
            return true;
    }
    return false;
}

/* RFC 9113 8.2.2, RFC 9114 4.2. `te` is one as well, but may say "trailers": see head.c. */
bool ph_field_is_connection_specific(const char *name, size_t n)
{
    static const char *const names[] = {"connection", "keep-alive", "proxy-connection",
                                        "transfer-encoding", "upgrade"};
    return is_one_of(name, n, names, PH_COUNT_OF(names));
}

bool ph_field_is_forbidden_trailer(const char *name, size_t n)
{
    static const char *const names[] = {"content-length", "host", "te", "trailer"};
    return ph_field_is_connection_specific(name, n) ||
           is_one_of(name, n, names, PH_COUNT_OF(names));
}

int ph_content_length_parse(const char *p, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    if (n == 0)
        return PH_E_MALFORMED;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9' || v > (UINT64_C(1) << 63) / 10)
            return PH_E_MALFORMED;
        v = v * 10 + (uint64_t)(p[i] - '0');
    }
    if (v >> 63 != 0) /* others count in signed numbers: what fits there means the same to all */
        return PH_E_MALFORMED;
    *out = v;
    return 0;
}

/* --- Authorities and targets --- */

static bool is_port(const char *p, size_t n)
{
    unsigned v = 0;
    if (n == 0 || n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        v = v * 10 + (unsigned)(p[i] - '0');
    }
    return v >= 1 && v <= 65535;
}

/* `p` begins with "[". Returns the length with both brackets, 0 when it is no IPv6 address. */
static size_t ipv6_literal(const char *p, size_t n)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr addr;
    const char *close = memchr(p, ']', n);
    size_t len = close == NULL ? 0 : (size_t)(close - p) - 1;
    if (len == 0 || len >= sizeof(text) || memchr(p, '\0', len + 1) != NULL)
        return 0;
    memcpy(text, p + 1, len);
    text[len] = '\0';
    return inet_pton(AF_INET6, text, &addr) == 1 ? len + 2 : 0;
}

bool ph_authority_is_valid(const char *p, size_t n)
{
    size_t at = 0;
    if (n > 0 && p[0] == '[') {
        at = ipv6_literal(p, n);
    } else {
        for (; at < n && p[at] != ':'; at++) {
            char c = ph_lower(p[at]);
            bool unreserved = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                              c == '.' || c == '_' || c == '~';
            if (!unreserved && !(c == '%' && n - at > 2 && is_hex(p[at + 1]) && is_hex(p[at + 2])))
                return false;
        }
    }
    if (at == 0)
        return false;
    return at == n || (p[at] == ':' && is_port(p + at + 1, n - at - 1));
}

bool ph_target_is_valid(const char *p, size_t n)
{
    if (n == 0 || p[0] != '/')
        return false;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)p[i];
        if (c <= 0x20 || c == 0x7f || c == '#')
            return false;
    }
    return true;
}

/* --- Storage --- */

void ph_fields_fini(struct ph_fields *fields)
{
    ph_free(fields->arena);
    ph_free(fields->list);
    *fields = (struct ph_fields){.arena = NULL};
}

/* Room for `n` more bytes; pointers into the arena follow it. */
static void fields_reserve(struct ph_fields *fields, size_t n)
{
    if (fields->arena_cap - fields->arena_len >= n)
        return;
    size_t cap = PH_MAX(fields->arena_cap * 2, (size_t)512);
    while (cap - fields->arena_len < n)
        cap *= 2;
    char *arena = ph_realloc(NULL, cap);
    if (fields->arena_len > 0)
        memcpy(arena, fields->arena, fields->arena_len);
    for (size_t i = 0; i < fields->count; i++) {
        struct ph_field *field = &fields->list[i];
        field->name = arena + (field->name - fields->arena);
        field->value = arena + (field->value - fields->arena);
    }
    ph_free(fields->arena);
    fields->arena = arena;
    fields->arena_cap = cap;
}

size_t ph_fields_put(struct ph_fields *fields, const char *p, size_t n)
{
    fields_reserve(fields, n + 1);
    size_t off = fields->arena_len;
    if (n > 0)
        memcpy(fields->arena + off, p, n);
    fields->arena[off + n] = '\0';
    fields->arena_len += n + 1;
    return off;
}

int ph_fields_add(struct ph_fields *fields, const char *name, size_t name_len, const char *value,
                  size_t value_len, const struct ph_http_limits *limits)
{
    size_t cost = name_len + value_len + PH_FIELD_COST;
    if (limits != NULL &&
        (fields->count >= limits->head_fields || fields->cost + cost > limits->head_bytes))
        return PH_E_LIMIT;
    if (fields->count == fields->cap) {
        fields->cap = PH_MAX(fields->cap * 2, (size_t)16);
        fields->list = ph_realloc(fields->list, fields->cap * sizeof(*fields->list));
    }
    fields_reserve(fields, name_len + value_len + 2);
    size_t name_off = ph_fields_put(fields, name, name_len);
    size_t value_off = ph_fields_put(fields, value, value_len);
    fields->list[fields->count++] = (struct ph_field){.name = fields->arena + name_off,
                                                      .value = fields->arena + value_off,
                                                      .name_len = name_len,
                                                      .value_len = value_len};
    fields->cost += cost;
    return 0;
}

int ph_fields_add_lower(struct ph_fields *fields, const char *name, size_t name_len,
                        const char *value, size_t value_len, const struct ph_http_limits *limits)
{
    int rv = ph_fields_add(fields, name, name_len, value, value_len, limits);
    if (rv != 0)
        return rv;
    char *copy = fields->arena + (fields->list[fields->count - 1].name - fields->arena);
    for (size_t i = 0; i < name_len; i++)
        copy[i] = ph_lower(copy[i]);
    return 0;
}

void ph_fields_seal(struct ph_fields *fields)
{
    /* Pairs are moved along while the arena grows and strings get their NUL as they are put: all
     * that sealing adds is the promise that nothing is put from here on. */
    fields->arena_cap = fields->arena_len;
    fields->cap = fields->count;
}

const struct ph_field *ph_fields_get(const struct ph_fields *fields, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->list[i].name_len == n && memcmp(fields->list[i].name, name, n) == 0)
            return &fields->list[i];
    }
    return NULL;
}

size_t ph_fields_count_of(const struct ph_fields *fields, const char *name)
{
    size_t n = strlen(name), count = 0;
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->list[i].name_len == n && memcmp(fields->list[i].name, name, n) == 0)
            count++;
    }
    return count;
}
