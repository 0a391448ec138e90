/*
 * fuzz_ws_handshake.c - arbitrary header fields as a WebSocket handshake: "name: value" lines; the
 * first byte chooses the version of HTTP and whether compression is wanted.
 *
 * Held: refused with one of the three statuses, or accepted with an answer that is valid fields,
 * whose key is answered where there is one, and whose subprotocols are tokens that can be chosen.
 */
#include "../../src/http/ws_internal.h"

#include <stdlib.h>

#define MUST(cond) ((cond) ? (void)0 : abort())

static void read_lines(struct ph_fields *fields, const char *p, const char *end)
{
    while (p < end) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        if (line_end == NULL)
            line_end = end;
        const char *colon = memchr(p, ':', (size_t)(line_end - p));
        if (colon != NULL && ph_field_name_is_lower(p, (size_t)(colon - p)) &&
            ph_field_value_is_valid(colon + 1, (size_t)(line_end - colon - 1)))
            ph_fields_add(fields, p, (size_t)(colon - p), colon + 1, (size_t)(line_end - colon - 1),
                          NULL);
        p = line_end + (line_end < end);
    }
}

static void check_answer(const struct ph_ws_ask *ask, const struct ph_head *head)
{
    for (size_t i = 0; i <= ask->offered_len; i++) {
        const char *chosen = i < ask->offered_len ? ask->offered[i] : NULL;
        struct ph_fields out = {0};
        MUST(ph_ws_ask_answer(ask, &out, NULL, 0, chosen) == 0);
        for (size_t k = 0; k < out.count; k++) {
            MUST(ph_field_name_is_lower(out.list[k].name, out.list[k].name_len));
            MUST(ph_field_value_is_valid(out.list[k].value, out.list[k].value_len));
        }
        const struct ph_field *accept = ph_fields_get(&out, "sec-websocket-accept");
        MUST((accept != NULL) == (head->version < 20));
        MUST(accept == NULL || accept->value_len == 28);
        MUST((ph_fields_get(&out, "sec-websocket-protocol") != NULL) == (chosen != NULL));
        MUST((ph_fields_get(&out, "sec-websocket-extensions") != NULL) == ask->deflate);
        ph_fields_fini(&out);
    }
    MUST(!ask->deflate || (ask->server_bits >= 9 && ask->server_bits <= 12));
    MUST(!ask->deflate || (ask->client_bits >= 8 && ask->client_bits <= 15));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const allowed[] = {"https://a.example", "null"};
    struct ph_ws_config config;
    struct ph_ws_ask ask;
    struct ph_ws_refusal refusal = {0};
    if (n == 0)
        return 0;
    ph_ws_config_default(&config);
    config.deflate = (data[0] & 2) != 0;
    config.allowed_origins = allowed;
    config.allowed_origins_len = (data[0] & 4) != 0 ? PH_COUNT_OF(allowed) : 0;
    struct ph_head head = {.version = (data[0] & 1) != 0 ? 11 : 20,
                           .authority = "a.example",
                           .authority_len = 9,
                           .protocol = "websocket"};
    read_lines(&head.fields, (const char *)data + 1, (const char *)data + n);
    ph_fields_seal(&head.fields);
    if (ph_ws_ask_read(&ask, &config, &head, &refusal) == 0) {
        check_answer(&ask, &head);
        ph_ws_ask_fini(&ask);
    } else {
        MUST(refusal.status == 400 || refusal.status == 403 || refusal.status == 426);
        MUST(refusal.why != NULL && ask.offered == NULL);
    }
    ph_fields_fini(&head.fields);
    return 0;
}
