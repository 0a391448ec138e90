/*
 * fuzz_head.c - the builder of HTTP/3 heads. Input: one byte for the kind ('q' request, 'r'
 * response, 't' trailers), then lines "name: value" (a colon within the first byte of the name
 * belongs to it). A head that is accepted must be clean in every string, and must be accepted again
 * when it is built from its own parts.
 */
#include "../../src/http/http_internal.h"

#include <stdlib.h>

#define MUST(cond) ((cond) ? (void)0 : abort())

static const struct ph_http_limits limits = {
    .head_bytes = 2048, .head_fields = 24, .target_bytes = 128};

static void init(struct ph_head_builder *builder, uint8_t kind)
{
    if (kind == 't')
        ph_head_builder_init_trailers(builder, &limits);
    else
        ph_head_builder_init(builder, &limits, kind == 'r');
}

static void add_line(struct ph_head_builder *builder, const char *line, size_t n)
{
    const char *sep = NULL;
    for (size_t i = 1; i + 1 < n && sep == NULL; i++) {
        if (line[i] == ':' && line[i + 1] == ' ')
            sep = line + i;
    }
    size_t name_len = sep != NULL ? (size_t)(sep - line) : n;
    const char *value = sep != NULL ? sep + 2 : "";
    ph_head_builder_add(builder, line, name_len, value, sep != NULL ? n - name_len - 2 : 0);
}

static void add(struct ph_head_builder *builder, const char *name, const char *value)
{
    if (value[0] != '\0')
        MUST(ph_head_builder_add(builder, name, strlen(name), value, strlen(value)) == 0);
}

static void check(const struct ph_head *head, uint8_t kind)
{
    MUST(head->fields.count <= limits.head_fields && head->fields.cost <= limits.head_bytes);
    for (size_t i = 0; i < head->fields.count; i++) {
        const struct ph_field *field = &head->fields.list[i];
        MUST(ph_field_name_is_lower(field->name, field->name_len));
        MUST(ph_field_value_is_valid(field->value, field->value_len));
        MUST(!ph_field_is_connection_specific(field->name, field->name_len));
        MUST(field->name[field->name_len] == '\0' && field->value[field->value_len] == '\0');
    }
    if (kind == 't')
        return;
    if (kind == 'r') {
        MUST(head->status >= 100 && head->status <= 999);
        return;
    }
    MUST(strlen(head->method) == head->method_len && head->method_len > 0);
    MUST(strlen(head->target) == head->target_len && head->target_len <= limits.target_bytes);
    MUST(strlen(head->authority) == head->authority_len);
    MUST(ph_authority_is_valid(head->authority, head->authority_len));
    MUST(ph_fields_count_of(&head->fields, "content-length") == (head->has_length ? 1 : 0));
}

static void rebuild(const struct ph_head *head, uint8_t kind)
{
    struct ph_head_builder builder;
    char status[8];
    init(&builder, kind);
    builder.limits = NULL; /* an authority from Host is one field more */
    snprintf(status, sizeof(status), "%d", head->status);
    if (kind == 'r')
        add(&builder, ":status", status);
    if (kind != 'r' && kind != 't') {
        add(&builder, ":method", head->method);
        add(&builder, ":scheme", head->scheme);
        add(&builder, ":authority", head->authority);
        add(&builder, ":path", head->target);
        add(&builder, ":protocol", head->protocol);
    }
    for (size_t i = 0; i < head->fields.count; i++) {
        const struct ph_field *field = &head->fields.list[i];
        MUST(ph_head_builder_add(&builder, field->name, field->name_len, field->value,
                                 field->value_len) == 0);
    }
    MUST(ph_head_builder_finish(&builder) == 0);
    MUST(builder.head.length == head->length && builder.head.status == head->status);
    ph_head_fini(&builder.head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    struct ph_head_builder builder;
    uint8_t kind = data[0];
    const char *p = (const char *)data + 1, *end = (const char *)data + n;
    init(&builder, kind);
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        const char *stop = lf != NULL ? lf : end;
        if (stop > p)
            add_line(&builder, p, (size_t)(stop - p));
        p = lf != NULL ? lf + 1 : end;
    }
    if (ph_head_builder_finish(&builder) != 0) {
        ph_head_builder_fini(&builder);
        return 0;
    }
    check(&builder.head, kind);
    rebuild(&builder.head, kind);
    ph_head_fini(&builder.head);
    return 0;
}
