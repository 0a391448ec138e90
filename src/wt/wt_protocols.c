/*
 * wt_protocols.c - the structured fields WT-Available-Protocols and WT-Protocol (draft-16 section
 * 3.3, RFC 8941).
 *
 * The first is a List whose members must all be Strings: a token, an inner list or any breach of
 * the syntax makes the whole field worthless, and the session opens as if nothing had been offered.
 * Parameters are parsed, because they must be well formed, and ignored. The second is one String.
 *
 * Parsers work on one cursor, without recursion; the only allocations are the copies of members,
 * at most PH_WT_PROTOCOLS_MAX.
 */
#include "wt.h"

struct cursor {
    const char *p, *end;
};

static bool has_more(const struct cursor *c)
{
    return c->p < c->end;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_alpha(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z');
}

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static void skip_spaces(struct cursor *c)
{
    while (has_more(c) && *c->p == ' ')
        c->p++;
}

static void skip_ows(struct cursor *c)
{
    while (has_more(c) && (*c->p == ' ' || *c->p == '\t'))
        c->p++;
}

/* RFC 8941 4.2.5. With `out` (room for the rest of the input and a NUL) stores the text. */
static bool take_string(struct cursor *c, char *out)
{
    if (!has_more(c) || *c->p != '"')
        return false;
    c->p++;
    for (;;) {
        if (!has_more(c))
            return false;
        char ch = *c->p++;
        if (ch == '"')
            break;
        if (ch == '\\') {
            if (!has_more(c) || !is_one_of(*c->p, "\"\\"))
                return false;
            ch = *c->p++;
        } else if (ch < 0x20 || ch > 0x7e) {
            return false;
        }
        if (out != NULL)
            *out++ = ch;
    }
    if (out != NULL)
        *out = '\0';
    return true;
}

/* RFC 8941 4.2.4: at most 15 digits, or 12 and 3 around a point. */
static bool take_number(struct cursor *c)
{
    if (has_more(c) && *c->p == '-')
        c->p++;
    size_t whole = 0, fraction = 0;
    while (has_more(c) && is_digit(*c->p)) {
        c->p++;
        whole++;
    }
    if (whole == 0 || whole > 15)
        return false;
    if (!has_more(c) || *c->p != '.')
        return true;
    c->p++;
    while (has_more(c) && is_digit(*c->p)) {
        c->p++;
        fraction++;
    }
    return whole <= 12 && fraction >= 1 && fraction <= 3;
}

/* RFC 8941 4.2.6: begins with a letter or an asterisk. */
static bool take_token(struct cursor *c)
{
    c->p++;
    while (has_more(c) &&
           (is_alpha(*c->p) || is_digit(*c->p) || is_one_of(*c->p, "!#$%&'*+-.^_`|~:/")))
        c->p++;
    return true;
}

/* RFC 8941 4.2.7: base64 between colons; the decoded bytes are of no use here. */
static bool take_bytes(struct cursor *c)
{
    c->p++;
    while (has_more(c) && (is_alpha(*c->p) || is_digit(*c->p) || is_one_of(*c->p, "+/=")))
        c->p++;
    if (!has_more(c) || *c->p != ':')
        return false;
    c->p++;
    return true;
}

static bool take_boolean(struct cursor *c)
{
    c->p++;
    if (!has_more(c) || (*c->p != '0' && *c->p != '1'))
        return false;
    c->p++;
    return true;
}

/* RFC 8941 4.2.3.1, any kind, value ignored. */
static bool take_bare_item(struct cursor *c)
{
    if (!has_more(c))
        return false;
    if (*c->p == '"')
        return take_string(c, NULL);
    if (*c->p == '-' || is_digit(*c->p))
        return take_number(c);
    if (*c->p == '*' || is_alpha(*c->p))
        return take_token(c);
    if (*c->p == ':')
        return take_bytes(c);
    if (*c->p == '?')
        return take_boolean(c);
    return false;
}

/* RFC 8941 4.2.3.2 */
static bool take_parameters(struct cursor *c)
{
    while (has_more(c) && *c->p == ';') {
        c->p++;
        skip_spaces(c);
        if (!has_more(c) || (!is_lower(*c->p) && *c->p != '*'))
            return false;
        while (has_more(c) && (is_lower(*c->p) || is_digit(*c->p) || is_one_of(*c->p, "_-.*")))
            c->p++;
        if (!has_more(c) || *c->p != '=')
            continue;
        c->p++;
        if (!take_bare_item(c))
            return false;
    }
    return true;
}

/* The comma before the next member. 1: a member follows; 0: the list ends here; negative: neither.
 */
static int take_separator(struct cursor *c)
{
    skip_ows(c);
    if (!has_more(c))
        return 0;
    if (*c->p != ',')
        return PH_E_MALFORMED;
    c->p++;
    skip_ows(c);
    return has_more(c) ? 1 : PH_E_MALFORMED; /* a trailing comma is an error */
}

int ph_wt_protocols_parse(char ***out, const char *p, size_t n)
{
    struct cursor c = {p, p + n};
    char **list = NULL;
    size_t count = 0;
    int more = 1;
    *out = NULL;
    while (c.end > c.p && c.end[-1] == ' ')
        c.end--;
    skip_spaces(&c);
    if (!has_more(&c))
        return 0;
    list = ph_alloc(PH_WT_PROTOCOLS_MAX * sizeof *list);
    while (more == 1) {
        if (count == PH_WT_PROTOCOLS_MAX)
            goto fail;
        const char *start = c.p;
        struct cursor probe = c;
        if (!take_string(&probe, NULL) || !take_parameters(&probe))
            goto fail;
        char *text = ph_alloc((size_t)(probe.p - start) + 1);
        take_string(&c, text);
        list[count++] = text;
        c = probe;
        more = take_separator(&c);
    }
    if (more < 0)
        goto fail;
    *out = list;
    return (int)count;
fail:
    ph_wt_protocols_free(list, count);
    return PH_E_MALFORMED;
}

void ph_wt_protocols_free(char **list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ph_free(list[i]);
    ph_free(list);
}

size_t ph_wt_protocol_put(char *out, const char *value, size_t n)
{
    char *p = out;
    *p++ = '"';
    for (size_t i = 0; i < n; i++) {
        if (value[i] < 0x20 || value[i] > 0x7e)
            return 0;
        if (value[i] == '"' || value[i] == '\\')
            *p++ = '\\';
        *p++ = value[i];
    }
    *p++ = '"';
    *p = '\0';
    return (size_t)(p - out);
}
