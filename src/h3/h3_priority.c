/*
 * h3_priority.c - the Priority field value (RFC 9218 4): a dictionary (RFC 8941 3.2) of which only
 * `u` and `i` mean something. It arrives in the `priority` field of a request and in
 * PRIORITY_UPDATE frames, and ends as urgency and interleaving of the response stream.
 *
 * It is a hint: nothing in it is an error, so the reader takes what it understands and stops at the
 * first thing that is no dictionary.
 */
#include "h3.h"

struct cursor {
    const char *p, *end;
};

static bool at(const struct cursor *in, char c)
{
    return in->p < in->end && *in->p == c;
}

static void skip_space(struct cursor *in)
{
    while (at(in, ' ') || at(in, '\t'))
        in->p++;
}

static bool is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' ||
           c == '*';
}

/* Passes over a value or parameters up to the comma that ends the member, minding strings. */
static void skip_member(struct cursor *in)
{
    bool quoted = false;
    for (; in->p < in->end; in->p++) {
        if (quoted && *in->p == '\\' && in->p + 1 < in->end)
            in->p++;
        else if (*in->p == '"')
            quoted = !quoted;
        else if (*in->p == ',' && !quoted)
            return;
    }
}

static bool ends_value(const char *p, const char *end)
{
    return p == end || *p == ',' || *p == ';' || *p == ' ' || *p == '\t';
}

static void read_value(struct ph_h3_priority *priority, char key, const struct cursor *in)
{
    const char *p = in->p;
    if (key == 'u' && in->end - p >= 2 && p[0] == '=' && p[1] >= '0' && p[1] <= '7' &&
        ends_value(p + 2, in->end))
        priority->urgency = (unsigned)(p[1] - '0');
    if (key != 'i')
        return;
    if (ends_value(p, in->end)) /* a bare key is true (RFC 8941 3.2) */
        priority->incremental = true;
    else if (in->end - p >= 3 && p[0] == '=' && p[1] == '?' && (p[2] == '0' || p[2] == '1') &&
             ends_value(p + 3, in->end))
        priority->incremental = p[2] == '1';
}

struct ph_h3_priority ph_h3_priority_parse(const char *text, size_t n)
{
    struct ph_h3_priority priority = {.urgency = 3, .incremental = false};
    struct cursor in = {text, text + n};
    skip_space(&in);
    while (in.p < in.end) {
        const char *key = in.p;
        while (in.p < in.end && is_key_char(*in.p))
            in.p++;
        if (in.p == key)
            break;
        if (in.p - key == 1)
            read_value(&priority, *key, &in);
        skip_member(&in);
        if (at(&in, ','))
            in.p++;
        skip_space(&in);
    }
    return priority;
}
