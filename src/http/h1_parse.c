/*
 * h1_parse.c - HTTP/1.1 request heads, strictly by RFC 9112.
 *
 *      bytes --line_feed--> request line, field lines --> ph_head (or one fault)
 *
 * Bytes are looked at once: a search for LF, then one pass over the complete line. A line that lies
 * whole in the input is parsed in place. The verdict depends on the bytes alone, never on how they
 * were cut into pieces.
 *
 * Nothing lenient: CRLF only, no folded lines, no white space before a colon, no second Host or
 * Content-Length, no Transfer-Encoding but `chunked`. Each leniency has been somebody's request
 * smuggling (RFC 9112 11.2).
 */
#include "http_internal.h"

/* --- Lines --- */

int ph_h1_line_feed(struct ph_h1_line *line, const uint8_t **p, const uint8_t *end, size_t max,
                    const char **text, size_t *n)
{
    const char *from = (const char *)*p;
    size_t have = (size_t)(end - *p);
    /* One more than allowed is enough to know. */
    size_t look = PH_MIN(have, max + 1 - line->len);
    const char *lf = memchr(from, '\n', look);
    if (lf != NULL && line->len == 0) {
        *text = from;
        *n = (size_t)(lf - from);
        *p += *n + 1;
        return 1;
    }
    size_t take = lf != NULL ? (size_t)(lf - from) : look;
    if (line->cap - line->len < take) {
        line->cap = PH_MAX(line->len + take, PH_MIN(line->cap * 2 + 256, max + 1));
        line->data = ph_realloc(line->data, line->cap);
    }
    if (take > 0)
        memcpy(line->data + line->len, from, take);
    line->len += take;
    *p += take;
    *text = line->data;
    *n = line->len;
    if (lf != NULL) {
        (*p)++;
        line->len = 0;
        return 1;
    }
    return line->len > max ? PH_E_LIMIT : 0;
}

void ph_h1_line_fini(struct ph_h1_line *line)
{
    ph_free(line->data);
    *line = (struct ph_h1_line){.data = NULL};
}

int ph_h1_fault_set(struct ph_h1_fault *fault, int status, const char *why)
{
    *fault = (struct ph_h1_fault){.status = status, .why = why};
    return PH_E_MALFORMED;
}

/* Takes the CR off. false: the line ended with a bare LF. */
static bool take_cr(const char *line, size_t *n)
{
    if (*n == 0 || line[*n - 1] != '\r')
        return false;
    (*n)--;
    return true;
}

/* --- Field lines --- */

int ph_h1_field_line(const char *line, size_t n, struct ph_fields *fields,
                     const struct ph_http_limits *limits, struct ph_h1_fault *fault)
{
    if (!take_cr(line, &n))
        return ph_h1_fault_set(fault, 400, "a line does not end with CR LF");
    if (n > 0 && (line[0] == ' ' || line[0] == '\t'))
        return ph_h1_fault_set(fault, 400, "a field line is folded");
    const char *colon = memchr(line, ':', n);
    size_t name_len = colon == NULL ? 0 : (size_t)(colon - line);
    if (!ph_field_name_is_valid(line, name_len))
        return ph_h1_fault_set(fault, 400, "a field name is malformed");
    const char *value = colon + 1;
    size_t value_len = n - name_len - 1;
    ph_text_trim(&value, &value_len);
    if (!ph_field_value_is_valid(value, value_len))
        return ph_h1_fault_set(fault, 400, "a field value is malformed");
    if (ph_fields_add_lower(fields, line, name_len, value, value_len, limits) != 0)
        return ph_h1_fault_set(fault, 431, "the header section is too large");
    return 0;
}

/* --- Request line --- */

void ph_h1_parser_init(struct ph_h1_parser *parser, const struct ph_http_limits *limits, bool tls)
{
    *parser = (struct ph_h1_parser){.limits = limits, .tls = tls};
}

void ph_h1_parser_fini(struct ph_h1_parser *parser)
{
    ph_head_fini(&parser->head);
    ph_h1_line_fini(&parser->line);
}

void ph_h1_parser_reset(struct ph_h1_parser *parser)
{
    bool websocket = parser->websocket;
    ph_h1_parser_fini(parser);
    ph_h1_parser_init(parser, parser->limits, parser->tls);
    parser->websocket = websocket;
}

static size_t request_line_max(const struct ph_h1_parser *parser)
{
    return PH_H1_METHOD_MAX + 1 + parser->limits->target_bytes + 1 + sizeof("HTTP/1.1\r") - 1;
}

/* Length of the method, which a space must follow. */
static int parse_method(struct ph_h1_parser *parser, const char *line, size_t n, size_t *len)
{
    size_t i = 0;
    while (i < n && i <= PH_H1_METHOD_MAX && ph_field_name_is_valid(line + i, 1))
        i++;
    *len = i;
    if (i > PH_H1_METHOD_MAX)
        return ph_h1_fault_set(&parser->fault, 501, "the method is too long");
    if (i == 0 || i == n || line[i] != ' ')
        return ph_h1_fault_set(&parser->fault, 400, "the request line is malformed");
    return 0;
}

static int parse_version(struct ph_h1_parser *parser, const char *p, size_t n)
{
    if (n != 8 || memcmp(p, "HTTP/", 5) != 0 || p[5] < '0' || p[5] > '9' || p[6] != '.' ||
        p[7] < '0' || p[7] > '9')
        return ph_h1_fault_set(&parser->fault, 400, "the request line is malformed");
    if (p[5] != '1' || p[7] > '1')
        return ph_h1_fault_set(&parser->fault, 505, "this version of HTTP is not spoken here");
    parser->head.version = 10 + (p[7] - '0');
    return 0;
}

/* RFC 9112 3.2.2: scheme "://" authority [ path ]. The target becomes its origin form. */
static int parse_absolute(struct ph_h1_parser *parser, const char *p, size_t n)
{
    size_t scheme = 0;
    if (n > 7 && ph_text_equal(p, 7, "http://"))
        scheme = 7;
    else if (n > 8 && ph_text_equal(p, 8, "https://"))
        scheme = 8;
    size_t end = scheme;
    while (end < n && p[end] != '/' && p[end] != '?')
        end++;
    if (scheme == 0 || !ph_authority_is_valid(p + scheme, end - scheme))
        return ph_h1_fault_set(&parser->fault, 400, "the request target is malformed");
    struct ph_fields *fields = &parser->head.fields;
    parser->is_absolute = true;
    parser->authority_off = ph_fields_put(fields, p + scheme, end - scheme);
    parser->head.authority_len = end - scheme;
    bool is_options = strcmp(fields->arena + parser->method_off, "OPTIONS") == 0;
    if (end == n) { /* RFC 9112 3.2.1 and 3.2.4 */
        parser->target_off = ph_fields_put(fields, is_options ? "*" : "/", 1);
        parser->head.target_len = 1;
        return 0;
    }
    size_t slash = p[end] == '?';
    size_t len = slash + (n - end);
    parser->target_off = fields->arena_len;
    if (slash != 0) {
        ph_fields_put(fields, "/", 1);
        fields->arena_len--; /* continue over the NUL */
    }
    ph_fields_put(fields, p + end, n - end);
    parser->head.target_len = len;
    if (!ph_target_is_valid(fields->arena + parser->target_off, len))
        return ph_h1_fault_set(&parser->fault, 400, "the request target is malformed");
    return 0;
}

static int parse_target(struct ph_h1_parser *parser, const char *p, size_t n)
{
    const char *method = parser->head.fields.arena + parser->method_off;
    if (strcmp(method, "CONNECT") == 0)
        return ph_h1_fault_set(&parser->fault, 501, "this server is no proxy");
    if (strcmp(method, "TRACE") == 0)
        return ph_h1_fault_set(&parser->fault, 405, "TRACE is not allowed");
    bool is_asterisk = n == 1 && p[0] == '*' && strcmp(method, "OPTIONS") == 0;
    if (!is_asterisk && (n == 0 || p[0] != '/'))
        return parse_absolute(parser, p, n);
    if (!is_asterisk && !ph_target_is_valid(p, n))
        return ph_h1_fault_set(&parser->fault, 400, "the request target is malformed");
    parser->target_off = ph_fields_put(&parser->head.fields, p, n);
    parser->head.target_len = n;
    return 0;
}

/* `is_cut`: the line goes on past its limit. */
static int parse_request_line(struct ph_h1_parser *parser, const char *line, size_t n, bool is_cut)
{
    size_t method_len;
    int rv = parse_method(parser, line, n, &method_len);
    if (rv != 0)
        return rv;
    const char *target = line + method_len + 1;
    size_t rest = n - method_len - 1;
    const char *space = memchr(target, ' ', rest);
    size_t target_len = space == NULL ? rest : (size_t)(space - target);
    if (target_len > parser->limits->target_bytes)
        return ph_h1_fault_set(&parser->fault, 414, "the request target is too long");
    if (is_cut || !take_cr(line, &n) || space == NULL || space >= line + n)
        return ph_h1_fault_set(&parser->fault, 400, "the request line is malformed");
    if (method_len == 3 && memcmp(line, "PRI", 3) == 0) /* RFC 9113 3.4: not spoken here */
        return ph_h1_fault_set(&parser->fault, 400, "this is the preface of HTTP/2");
    rv = parse_version(parser, space + 1, (size_t)(line + n - (space + 1)));
    if (rv != 0)
        return rv;
    parser->method_off = ph_fields_put(&parser->head.fields, line, method_len);
    parser->head.method_len = method_len;
    return parse_target(parser, target, target_len);
}

/* --- The whole head --- */

static int check_expect(struct ph_h1_parser *parser, const struct ph_field *field)
{
    if (!ph_text_equal(field->value, field->value_len, "100-continue"))
        return ph_h1_fault_set(&parser->fault, 417, "only 100-continue can be expected");
    parser->wants_continue = parser->head.version == 11; /* RFC 9110 10.1.1 */
    return 0;
}

static int check_field(struct ph_h1_parser *parser, const struct ph_field *field)
{
    struct ph_head *head = &parser->head;
    switch (field->name_len) {
    case 6:
        if (memcmp(field->name, "expect", 6) == 0)
            return check_expect(parser, field);
        break;
    case 7:
        if (memcmp(field->name, "upgrade", 7) == 0)
            parser->names_websocket |= ph_list_has(field->value, field->value_len, "websocket");
        break;
    case 10:
        if (memcmp(field->name, "connection", 10) == 0) {
            parser->says_upgrade |= ph_list_has(field->value, field->value_len, "upgrade");
            parser->wants_close |= ph_list_has(field->value, field->value_len, "close");
            parser->wants_keep_alive |= ph_list_has(field->value, field->value_len, "keep-alive");
        }
        break;
    case 14:
        if (memcmp(field->name, "content-length", 14) == 0) {
            if (head->has_length ||
                ph_content_length_parse(field->value, field->value_len, &head->length) != 0)
                return ph_h1_fault_set(&parser->fault, 400, "Content-Length is malformed");
            head->has_length = true;
        }
        break;
    case 17:
        if (memcmp(field->name, "transfer-encoding", 17) == 0) {
            /* RFC 9112 6.1: in HTTP/1.0 the framing cannot be trusted. */
            if (parser->is_chunked || head->version == 10)
                return ph_h1_fault_set(&parser->fault, 400, "Transfer-Encoding is malformed");
            if (!ph_text_equal(field->value, field->value_len, "chunked"))
                return ph_h1_fault_set(&parser->fault, 501, "only the coding chunked is known");
            parser->is_chunked = true;
        }
        break;
    default:
        break;
    }
    return 0;
}

static int check_host(struct ph_h1_parser *parser)
{
    struct ph_head *head = &parser->head;
    size_t count = ph_fields_count_of(&head->fields, "host");
    if (count > 1 || (count == 0 && head->version == 11))
        return ph_h1_fault_set(&parser->fault, 400, "there must be one Host");
    struct ph_field *host = (struct ph_field *)(uintptr_t)ph_fields_get(&head->fields, "host");
    if (host != NULL && !ph_authority_is_valid(host->value, host->value_len))
        return ph_h1_fault_set(&parser->fault, 400, "Host is malformed");
    if (parser->is_absolute) {
        head->authority = head->fields.arena + parser->authority_off;
        if (host != NULL) { /* RFC 9112 3.2.2: the target wins */
            host->value = head->authority;
            host->value_len = head->authority_len;
        }
    } else if (host != NULL) {
        head->authority = host->value;
        head->authority_len = host->value_len;
    }
    return 0;
}

/* RFC 6455 4.1: a GET of HTTP/1.1 with Upgrade, and Connection naming it (RFC 9110 7.8; HTTP/1.0
 * has no upgrades). A body before the tunnel is what proxies and servers disagree about: refused.
 */
static int check_upgrade(struct ph_h1_parser *parser)
{
    struct ph_head *head = &parser->head;
    if (!parser->websocket || !parser->says_upgrade || !parser->names_websocket ||
        head->version != 11)
        return 0;
    if (parser->is_chunked || (head->has_length && head->length > 0))
        return ph_h1_fault_set(&parser->fault, 400, "an upgrade has no body");
    if (strcmp(head->method, "GET") == 0)
        head->protocol = "websocket";
    return 0;
}

static int finish(struct ph_h1_parser *parser)
{
    struct ph_head *head = &parser->head;
    ph_fields_seal(&head->fields);
    head->method = head->fields.arena + parser->method_off;
    head->target = head->fields.arena + parser->target_off;
    head->scheme = parser->tls ? "https" : "http";
    head->authority = head->protocol = "";
    int rv = check_host(parser);
    for (size_t i = 0; rv == 0 && i < head->fields.count; i++)
        rv = check_field(parser, &head->fields.list[i]);
    if (rv == 0 && parser->is_chunked && head->has_length)
        rv = ph_h1_fault_set(&parser->fault, 400,
                             "Content-Length and Transfer-Encoding exclude each other");
    return rv == 0 ? check_upgrade(parser) : rv;
}

/* The request line, or the one empty line that may precede it. */
static int feed_request_line(struct ph_h1_parser *parser, const uint8_t **p, const uint8_t *end)
{
    const char *line;
    size_t n;
    if (parser->state == PH_H1_AT_START) {
        /* What cannot begin a request is refused without waiting for a line of it. */
        if (**p != '\r' && !ph_field_name_is_valid((const char *)*p, 1))
            return ph_h1_fault_set(&parser->fault, 400, "this is no HTTP request");
        parser->state = PH_H1_AT_REQUEST_LINE;
    }
    int rv = ph_h1_line_feed(&parser->line, p, end, request_line_max(parser), &line, &n);
    if (rv == 0)
        return 0;
    if (rv > 0 && n == 1 && line[0] == '\r' && !parser->empty_line_seen) {
        parser->empty_line_seen = true;
        parser->state = PH_H1_AT_START;
        return 0;
    }
    bool is_cut = rv == PH_E_LIMIT;
    rv = parse_request_line(parser, line, n, is_cut);
    if (rv == 0)
        parser->state = PH_H1_AT_FIELDS;
    return rv;
}

static int feed_field_line(struct ph_h1_parser *parser, const uint8_t **p, const uint8_t *end)
{
    const char *line;
    size_t n;
    size_t max = parser->limits->head_bytes - parser->raw;
    int rv = ph_h1_line_feed(&parser->line, p, end, max, &line, &n);
    if (rv == 0)
        return 0;
    if (rv == PH_E_LIMIT)
        return ph_h1_fault_set(&parser->fault, 431, "the header section is too large");
    if (n == 1 && line[0] == '\r') {
        parser->state = PH_H1_AT_END;
        return finish(parser);
    }
    parser->raw += n;
    return ph_h1_field_line(line, n, &parser->head.fields, parser->limits, &parser->fault);
}

int ph_h1_parser_feed(struct ph_h1_parser *parser, const uint8_t **p, const uint8_t *end)
{
    int rv = 0;
    while (rv == 0 && *p < end && parser->state != PH_H1_AT_END) {
        if (parser->state == PH_H1_AT_FIELDS)
            rv = feed_field_line(parser, p, end);
        else
            rv = feed_request_line(parser, p, end);
    }
    if (rv != 0)
        return rv;
    return parser->state == PH_H1_AT_END;
}
