/*
 * fuzz_qpack.c - field sections from the wire through QPACK into heads and trailers, and the peer's
 * QPACK streams. The first byte chooses: request, response, trailers, encoder or decoder stream.
 *
 * A head that is accepted must keep the promises that the rest of the server builds on, and survive
 * being encoded and decoded again.
 */
#include "../../src/h3/h3.h"
#include "../../src/http/http.h"

#include <stdlib.h>

static const struct ph_http_limits limits = {
    .head_bytes = 4096, .head_fields = 20, .target_bytes = 256};

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void check_fields(const struct ph_fields *fields)
{
    check(fields->count <= limits.head_fields && fields->cost <= limits.head_bytes);
    for (size_t i = 0; i < fields->count; i++) {
        const struct ph_field *field = &fields->list[i];
        check(ph_field_name_is_lower(field->name, field->name_len));
        check(ph_field_value_is_valid(field->value, field->value_len));
        check(!ph_field_is_connection_specific(field->name, field->name_len));
        check(field->name[field->name_len] == '\0' && field->value[field->value_len] == '\0');
    }
}

static size_t put(struct ph_field *out, size_t n, const char *name, const char *value)
{
    if (value[0] == '\0')
        return n;
    out[n] = (struct ph_field){name, value, strlen(name), strlen(value)};
    return n + 1;
}

static int read_head(struct ph_qpack *qpack, const uint8_t *p, size_t n, bool response,
                     struct ph_head *head)
{
    struct ph_head_builder builder;
    ph_head_builder_init(&builder, &limits, response);
    int rv = ph_qpack_decode(qpack, 0, p, n, &builder);
    if (rv == 0)
        rv = ph_head_builder_finish(&builder);
    if (rv == 0)
        *head = builder.head;
    else
        ph_head_builder_fini(&builder);
    check(rv == 0 || rv == PH_E_MALFORMED || rv == PH_E_LIMIT || rv == PH_E_PROTO);
    return rv;
}

static void check_request(struct ph_qpack *qpack, const struct ph_head *head)
{
    struct ph_field fields[32];
    struct ph_head again;
    check_fields(&head->fields);
    check(head->method[0] != '\0' && head->authority[0] != '\0');
    check(strlen(head->target) == head->target_len && head->target_len <= limits.target_bytes);
    check(head->protocol[0] == '\0' || strcmp(head->method, "CONNECT") == 0);
    size_t n = put(fields, 0, ":method", head->method);
    n = put(fields, n, ":scheme", head->scheme);
    n = put(fields, n, ":authority", head->authority);
    n = put(fields, n, ":path", head->target);
    n = put(fields, n, ":protocol", head->protocol);
    for (size_t i = 0; i < head->fields.count; i++)
        fields[n++] = head->fields.list[i];
    struct ph_buf *buf = ph_qpack_encode(qpack, 0, fields, n);
    struct ph_h3_frame_reader reader = {0};
    const uint8_t *p = ph_buf_data(buf), *piece = NULL;
    size_t len = 0;
    check(ph_h3_frame_next(&reader, &p, p + ph_buf_len(buf), &piece, &len) && reader.left == 0);
    int rv = read_head(qpack, piece, len, false, &again);
    /* Without :authority the Host field stood for it; with both the head may pass the limit. */
    check(rv == 0 || rv == PH_E_LIMIT);
    if (rv == 0) {
        check(strcmp(again.method, head->method) == 0 && strcmp(again.target, head->target) == 0);
        check(again.fields.count == head->fields.count && again.length == head->length);
        ph_head_fini(&again);
    }
    ph_buf_unref(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    struct ph_qpack *qpack = ph_qpack_new();
    struct ph_head head;
    struct ph_fields fields = {0};
    uint64_t code = 0;
    unsigned kind = data[0] % 5;
    data++;
    n--;
    if (kind == 0 && read_head(qpack, data, n, false, &head) == 0) {
        check_request(qpack, &head);
        ph_head_fini(&head);
    } else if (kind == 1 && read_head(qpack, data, n, true, &head) == 0) {
        check_fields(&head.fields);
        check(head.status >= 100 && head.status <= 999 && head.status != 101);
        ph_head_fini(&head);
    } else if (kind == 2 && ph_qpack_decode_trailers(qpack, 0, data, n, &fields, &limits) == 0) {
        check_fields(&fields);
        ph_fields_fini(&fields);
    } else if (kind == 3) {
        int rv = ph_qpack_encoder_stream(qpack, data, n, &code);
        check(rv == 0 || (rv == PH_E_PROTO && code == PH_QPACK_ENCODER_STREAM_ERROR));
    } else if (kind == 4) {
        struct ph_qpack *whole = ph_qpack_new();
        int rv = ph_qpack_decoder_stream(whole, data, n, &code), cut = 0;
        for (size_t i = 0; i < n && cut == 0; i++)
            cut = ph_qpack_decoder_stream(qpack, data + i, 1, &code);
        check(rv == cut && (rv == 0 || code == PH_QPACK_DECODER_STREAM_ERROR));
        ph_qpack_free(whole);
    }
    ph_qpack_free(qpack);
    return 0;
}
