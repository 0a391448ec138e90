/*
 * h1_chunked.c - the chunked coding of request bodies (RFC 9112 7.1) and the trailer section.
 *
 *      3;ext=1 CR LF  a b c CR LF  0 CR LF  name: value CR LF  CR LF
 *      SIZE EXTENSION DATA  DATA_CR.. SIZE  TRAILERS           END
 *
 * Bounded against bodies that are framing and little else: sixteen digits of size, a few bytes of
 * extension on a line, and framing in all at most as many bytes as there is payload plus an
 * allowance. Trailers are under the limits of a head. Extensions are checked and dropped.
 */
#include "http_internal.h"

void ph_h1_chunked_init(struct ph_h1_chunked *chunked, const struct ph_h1_config *config)
{
    *chunked = (struct ph_h1_chunked){.config = config};
}

void ph_h1_chunked_fini(struct ph_h1_chunked *chunked)
{
    ph_h1_line_fini(&chunked->line);
    ph_fields_fini(&chunked->trailers);
}

static int fault(struct ph_h1_chunked *chunked, const char *why)
{
    return ph_h1_fault_set(&chunked->fault, 400, why);
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int on_size(struct ph_h1_chunked *chunked, uint8_t c)
{
    int digit = hex_value(c);
    if (digit >= 0) {
        /* 16 digits cannot overflow; beyond 2^63 no body counter could follow. */
        if (++chunked->digits > 16)
            return fault(chunked, "a chunk size has too many digits");
        chunked->size = chunked->size << 4 | (uint64_t)digit;
        if (chunked->size >> 63 != 0)
            return fault(chunked, "a chunk size is too large");
        return 0;
    }
    if (chunked->digits == 0 || (c != ';' && c != '\r'))
        return fault(chunked, "a chunk size is malformed");
    chunked->state = c == ';' ? PH_CHUNK_EXTENSION : PH_CHUNK_SIZE_LF;
    chunked->extension = c == ';';
    chunked->quoted = chunked->escaped = false;
    return 0;
}

/* Text and quoted strings (RFC 9112 7.1.1); a line break ends it wherever it stands. */
static int on_extension(struct ph_h1_chunked *chunked, uint8_t c)
{
    if (c == '\r') {
        if (chunked->quoted)
            return fault(chunked, "a chunk extension is malformed");
        chunked->state = PH_CHUNK_SIZE_LF;
        return 0;
    }
    if (++chunked->extension > chunked->config->chunk_extension)
        return fault(chunked, "a chunk extension is too long");
    if ((c < 0x20 && c != '\t') || c == 0x7f)
        return fault(chunked, "a chunk extension is malformed");
    if (chunked->escaped)
        chunked->escaped = false;
    else if (c == '\\' && chunked->quoted)
        chunked->escaped = true;
    else if (c == '"')
        chunked->quoted = !chunked->quoted;
    return 0;
}

static int on_size_lf(struct ph_h1_chunked *chunked, uint8_t c)
{
    if (c != '\n')
        return fault(chunked, "a chunk size does not end with CR LF");
    chunked->left = chunked->size;
    chunked->state = chunked->size == 0 ? PH_CHUNK_TRAILERS : PH_CHUNK_DATA;
    chunked->size = 0;
    chunked->digits = 0;
    return 0;
}

/* One byte of framing. */
static int on_framing(struct ph_h1_chunked *chunked, uint8_t c)
{
    if (++chunked->overhead > chunked->payload + chunked->config->chunk_overhead)
        return fault(chunked, "the body is more framing than payload");
    switch (chunked->state) {
    case PH_CHUNK_SIZE:
        return on_size(chunked, c);
    case PH_CHUNK_EXTENSION:
        return on_extension(chunked, c);
    case PH_CHUNK_SIZE_LF:
        return on_size_lf(chunked, c);
    case PH_CHUNK_DATA_CR:
        chunked->state = PH_CHUNK_DATA_LF;
        return c == '\r' ? 0 : fault(chunked, "a chunk does not end with CR LF");
    case PH_CHUNK_DATA_LF:
        chunked->state = PH_CHUNK_SIZE;
        return c == '\n' ? 0 : fault(chunked, "a chunk does not end with CR LF");
    case PH_CHUNK_DATA:
    case PH_CHUNK_TRAILERS:
    case PH_CHUNK_END:
        break;
    }
    return 0;
}

static int on_trailer_line(struct ph_h1_chunked *chunked, const char *line, size_t n)
{
    struct ph_fields *trailers = &chunked->trailers;
    int rv = ph_h1_field_line(line, n, trailers, &chunked->config->limits, &chunked->fault);
    if (rv != 0)
        return rv;
    const struct ph_field *last = &trailers->list[trailers->count - 1];
    if (ph_field_is_forbidden_trailer(last->name, last->name_len))
        return fault(chunked, "a trailer field decides framing");
    return 0;
}

/* Lines up to the empty one. */
static int feed_trailers(struct ph_h1_chunked *chunked, const uint8_t **p, const uint8_t *end)
{
    while (*p < end) {
        const char *line;
        size_t n;
        size_t max = chunked->config->limits.head_bytes - chunked->raw;
        int rv = ph_h1_line_feed(&chunked->line, p, end, max, &line, &n);
        if (rv == 0)
            return PH_CHUNKED_MORE;
        if (rv == PH_E_LIMIT)
            return ph_h1_fault_set(&chunked->fault, 431, "the trailer section is too large");
        if (n == 1 && line[0] == '\r') {
            chunked->state = PH_CHUNK_END;
            ph_fields_seal(&chunked->trailers);
            return PH_CHUNKED_END;
        }
        chunked->raw += n;
        rv = on_trailer_line(chunked, line, n);
        if (rv != 0)
            return rv;
    }
    return PH_CHUNKED_MORE;
}

int ph_h1_chunked_next(struct ph_h1_chunked *chunked, const uint8_t **p, const uint8_t *end,
                       size_t max, const uint8_t **data, size_t *n)
{
    while (*p < end) {
        if (chunked->state == PH_CHUNK_TRAILERS)
            return feed_trailers(chunked, p, end);
        if (chunked->state == PH_CHUNK_END)
            return PH_CHUNKED_END;
        if (chunked->state != PH_CHUNK_DATA) {
            int rv = on_framing(chunked, *(*p)++);
            if (rv != 0)
                return rv;
            continue;
        }
        if (max == 0)
            return PH_CHUNKED_MORE;
        size_t have = PH_MIN((size_t)(end - *p), max);
        *data = *p;
        *n = chunked->left < have ? (size_t)chunked->left : have;
        *p += *n;
        chunked->left -= *n;
        chunked->payload += *n;
        if (chunked->left == 0)
            chunked->state = PH_CHUNK_DATA_CR;
        return PH_CHUNKED_DATA;
    }
    return PH_CHUNKED_MORE;
}
