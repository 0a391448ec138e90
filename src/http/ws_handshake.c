/*
 * ws_handshake.c - from the head of a request to an accepted WebSocket: versions, the key of
 * HTTP/1.1, the Origin, subprotocols and the negotiation of permessage-deflate.
 *
 *      head -> ph_ws_ask_read() -> (the application chooses) -> ph_ws_ask_answer() -> fields of 101
 *
 * Lists are parsed by the grammar of RFC 6455 9.1 and 11.3.4; what breaks it is answered with 400.
 * Of the offers of an extension the first that can be accepted whole is taken, the others are
 * declined without a word (RFC 7692 5.1).
 */
#include "ws_internal.h"

#include <gnutls/crypto.h>

#define VERSION "13"
#define KEY_LEN 24 /* base64 of 16 bytes */
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
/* More subprotocols than anybody offers. */
#define OFFERED_MAX 64

void ph_ws_ask_fini(struct ph_ws_ask *ask)
{
    for (size_t i = 0; i < ask->offered_len; i++)
        ph_free(ask->offered[i]);
    ph_free(ask->offered);
    ask->offered = NULL;
    ask->offered_len = 0;
}

/* --- Key --- */

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* 22 digits, of which the last has four bits to spare, and "==". */
static bool key_is_valid(const struct ph_field *field)
{
    if (field->value_len != KEY_LEN || memcmp(field->value + 22, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < 22; i++) {
        if (base64_value(field->value[i]) < 0)
            return false;
    }
    return true;
}

/* RFC 6455 1.3: SHA-1 tells that the key was understood; it protects nothing. */
static void make_accept(char out[32], const char *key)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[KEY_LEN + sizeof(GUID)];
    uint8_t hash[21] = {0};
    memcpy(text, key, KEY_LEN);
    memcpy(text + KEY_LEN, GUID, sizeof(GUID) - 1);
    int rc = gnutls_hash_fast(GNUTLS_DIG_SHA1, text, sizeof(text) - 1, hash);
    PH_ASSERT(rc == 0);
    char *p = out;
    for (size_t i = 0; i < 21; i += 3) { /* 20 bytes: the last digit stands for padding */
        *p++ = digits[hash[i] >> 2];
        *p++ = digits[(hash[i] & 3) << 4 | hash[i + 1] >> 4];
        *p++ = digits[(hash[i + 1] & 15) << 2 | hash[i + 2] >> 6];
        *p++ = digits[hash[i + 2] & 63];
    }
    p[-1] = '=';
    *p = '\0';
}

/* --- Lists --- */

struct cursor {
    const char *p, *end;
};

static void skip_blanks(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
        c->p++;
}

/* Length of the token at the cursor, which moves behind it. */
static size_t take_token(struct cursor *c, const char **token)
{
    *token = c->p;
    while (c->p < c->end && ph_field_name_is_valid(c->p, 1))
        c->p++;
    return (size_t)(c->p - *token);
}

static bool take_char(struct cursor *c, char want)
{
    skip_blanks(c);
    if (c->p == c->end || *c->p != want)
        return false;
    c->p++;
    skip_blanks(c);
    return true;
}

/* Passes over the comma before the next member and empty members (RFC 9110 5.6.1.2). 1: there is
 * one; 0: the list ends; negative: neither. */
static int next_member(struct cursor *c, bool is_first)
{
    bool comma = is_first;
    skip_blanks(c);
    while (take_char(c, ','))
        comma = true;
    if (c->p == c->end)
        return 0;
    return comma ? 1 : PH_E_INVAL;
}

/* --- Subprotocols --- */

static int read_protocols(struct ph_ws_ask *ask, const struct ph_field *field)
{
    struct cursor c = {field->value, field->value + field->value_len};
    int more;
    for (bool is_first = true; (more = next_member(&c, is_first)) > 0; is_first = false) {
        const char *token;
        size_t n = take_token(&c, &token);
        if (n == 0 || ask->offered_len == OFFERED_MAX)
            return PH_E_INVAL;
        if (ask->offered == NULL)
            ask->offered = ph_alloc(OFFERED_MAX * sizeof(*ask->offered));
        ask->offered[ask->offered_len++] = ph_strndup(token, n);
    }
    return more;
}

/* --- permessage-deflate --- */

/* One offer of it, as read. */
struct offer {
    bool is_bad; /* not to be accepted (RFC 7692 7.1: unknown, doubled, bad value) */
    unsigned seen;
    unsigned server_bits; /* asked for, or the largest */
    unsigned client_bits;
};
enum { SERVER_TAKEOVER = 1, CLIENT_TAKEOVER = 2, SERVER_BITS = 4, CLIENT_BITS = 8 };

static bool is(const char *p, size_t n, const char *text)
{
    return strlen(text) == n && memcmp(p, text, n) == 0;
}

/* "8" to "15", no zeros in front. 0: neither. */
static unsigned parse_bits(const char *p, size_t n)
{
    if (n == 1 && (p[0] == '8' || p[0] == '9'))
        return (unsigned)(p[0] - '0');
    if (n == 2 && p[0] == '1' && p[1] >= '0' && p[1] <= '5')
        return 10 + (unsigned)(p[1] - '0');
    return 0;
}

static void note_parameter(struct offer *offer, const char *name, size_t name_len,
                           const char *value, size_t value_len)
{
    unsigned bits = value != NULL ? parse_bits(value, value_len) : 0, bit = 0;
    if (is(name, name_len, "server_no_context_takeover") && value == NULL)
        bit = SERVER_TAKEOVER;
    else if (is(name, name_len, "client_no_context_takeover") && value == NULL)
        bit = CLIENT_TAKEOVER;
    else if (is(name, name_len, "server_max_window_bits") && bits >= PH_WS_WINDOW_MIN)
        bit = SERVER_BITS; /* a window of 2^8 is one that the library cannot make */
    else if (is(name, name_len, "client_max_window_bits") && (value == NULL || bits != 0))
        bit = CLIENT_BITS;
    if (bit == 0 || (offer->seen & bit) != 0)
        offer->is_bad = true;
    offer->seen |= bit;
    if (bit == SERVER_BITS)
        offer->server_bits = bits;
    if (bit == CLIENT_BITS && value != NULL)
        offer->client_bits = bits;
}

/* The value of a parameter: a token, or one in quotes. */
static int take_value(struct cursor *c, const char **value, size_t *n)
{
    bool quoted = c->p < c->end && *c->p == '"';
    if (quoted)
        c->p++;
    *n = take_token(c, value);
    if (*n == 0 || (quoted && (c->p == c->end || *c->p++ != '"')))
        return PH_E_INVAL;
    return 0;
}

static void take_offer(struct ph_ws_ask *ask, const struct offer *offer)
{
    ask->deflate = true;
    ask->deflate_client_bits = (offer->seen & CLIENT_BITS) != 0;
    ask->server_bits = PH_MIN(offer->server_bits, (unsigned)PH_WS_WINDOW_BITS);
    ask->client_bits = ask->deflate_client_bits
                           ? PH_MIN(offer->client_bits, (unsigned)PH_WS_WINDOW_BITS)
                           : PH_WS_WINDOW_MAX;
}

static int read_extensions(struct ph_ws_ask *ask, bool wanted, const struct ph_field *field)
{
    struct cursor c = {field->value, field->value + field->value_len};
    int more;
    for (bool is_first = true; (more = next_member(&c, is_first)) > 0; is_first = false) {
        struct offer offer = {.server_bits = PH_WS_WINDOW_MAX, .client_bits = PH_WS_WINDOW_MAX};
        const char *extension, *name, *value;
        size_t len = take_token(&c, &extension), name_len, value_len;
        if (len == 0)
            return PH_E_INVAL;
        while (take_char(&c, ';')) {
            name_len = take_token(&c, &name);
            value = NULL;
            value_len = 0;
            if (name_len == 0 || (take_char(&c, '=') && take_value(&c, &value, &value_len) < 0))
                return PH_E_INVAL;
            note_parameter(&offer, name, name_len, value, value_len);
        }
        if (wanted && !ask->deflate && !offer.is_bad && is(extension, len, "permessage-deflate"))
            take_offer(ask, &offer);
    }
    return more;
}

/* --- Reading --- */

static int refuse(struct ph_ws_refusal *refusal, int status, const char *why)
{
    *refusal = (struct ph_ws_refusal){.status = status, .why = why};
    return PH_E_INVAL;
}

static int read_lists(struct ph_ws_ask *ask, bool wants_deflate, const struct ph_head *head,
                      struct ph_ws_refusal *refusal)
{
    for (size_t i = 0; i < head->fields.count; i++) {
        const struct ph_field *field = &head->fields.list[i];
        if (is(field->name, field->name_len, "sec-websocket-protocol") &&
            read_protocols(ask, field) < 0)
            return refuse(refusal, 400, "Sec-WebSocket-Protocol is malformed");
        if (is(field->name, field->name_len, "sec-websocket-extensions") &&
            read_extensions(ask, wants_deflate, field) < 0)
            return refuse(refusal, 400, "Sec-WebSocket-Extensions is malformed");
    }
    return 0;
}

int ph_ws_ask_read(struct ph_ws_ask *ask, const struct ph_ws_config *config,
                   const struct ph_head *head, struct ph_ws_refusal *refusal)
{
    const struct ph_field *version = ph_fields_get(&head->fields, "sec-websocket-version");
    const struct ph_field *key = ph_fields_get(&head->fields, "sec-websocket-key");
    *ask = (struct ph_ws_ask){.offered = NULL};
    if (version == NULL || ph_fields_count_of(&head->fields, "sec-websocket-version") != 1 ||
        !is(version->value, version->value_len, VERSION))
        return refuse(refusal, 426, "the version of WebSocket spoken here is " VERSION);
    if (head->version < 20) { /* later versions have no key (RFC 8441 5) */
        if (key == NULL || ph_fields_count_of(&head->fields, "sec-websocket-key") != 1 ||
            !key_is_valid(key))
            return refuse(refusal, 400, "there must be one valid Sec-WebSocket-Key");
        make_accept(ask->accept, key->value);
    }
    if (config->allowed_origins_len > 0 &&
        !ph_origin_is_allowed(config->allowed_origins, config->allowed_origins_len, head))
        return refuse(refusal, 403, "this Origin may not connect");
    int rc = read_lists(ask, config->deflate, head, refusal);
    if (rc < 0)
        ph_ws_ask_fini(ask);
    return rc;
}

/* --- Answering --- */

bool ph_ws_field_is_ours(const char *name, size_t n)
{
    return ph_text_equal(name, n, "sec-websocket-accept") ||
           ph_text_equal(name, n, "sec-websocket-protocol") ||
           ph_text_equal(name, n, "sec-websocket-extensions") ||
           ph_field_is_connection_specific(name, n);
}

static int add(struct ph_fields *out, const char *name, const char *value)
{
    return ph_fields_add(out, name, strlen(name), value, strlen(value), NULL);
}

static int add_extension(const struct ph_ws_ask *ask, struct ph_fields *out)
{
    char text[192];
    int n = snprintf(text, sizeof(text),
                     "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
                     "server_max_window_bits=%u",
                     ask->server_bits);
    if (ask->deflate_client_bits) /* RFC 7692 7.1.2.2: only to who said that it can */
        snprintf(text + n, sizeof(text) - (size_t)n, "; client_max_window_bits=%u",
                 ask->client_bits);
    return add(out, "sec-websocket-extensions", text);
}

int ph_ws_ask_answer(const struct ph_ws_ask *ask, struct ph_fields *out,
                     const struct ph_field *fields, size_t n, const char *subprotocol)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (ph_ws_field_is_ours(fields[i].name, fields[i].name_len) ||
            !ph_field_name_is_lower(fields[i].name, fields[i].name_len) ||
            !ph_field_value_is_valid(fields[i].value, fields[i].value_len))
            return PH_E_INVAL;
        rc = ph_fields_add(out, fields[i].name, fields[i].name_len, fields[i].value,
                           fields[i].value_len, NULL);
    }
    if (rc == 0 && ask->accept[0] != '\0')
        rc = add(out, "sec-websocket-accept", ask->accept);
    if (rc == 0 && subprotocol != NULL) {
        bool offered = false;
        for (size_t i = 0; i < ask->offered_len; i++)
            offered = offered || strcmp(ask->offered[i], subprotocol) == 0;
        rc = offered ? add(out, "sec-websocket-protocol", subprotocol) : PH_E_INVAL;
    }
    if (rc == 0 && ask->deflate)
        rc = add_extension(ask, out);
    ph_fields_seal(out);
    return rc;
}
