/*
 * request.c - heads as the application sees them: a ph_request with all its strings in one block
 * that belongs to the channel, and field lists packed into one buffer for the way across the ring.
 *
 * The engine's head dies with its exchange, while the application may hold the channel for as long
 * as it likes: hence one copy, made once, when the channel is made.
 */
#include "../tls/tls.h"
#include "core.h"

struct ph_chan_request {
    struct ph_request pub;
    const char **offered;
    char client[64];                               /* numeric address, "" on a Unix socket */
    char server[PH_MAX(64, PH_UNIX_PATH_MAX + 1)]; /* numeric address or path */
    struct ph_field *fields;
    char *strings; /* of the head and the fields */
};

static char *put(char *to, const char *from, size_t n)
{
    if (n > 0)
        memcpy(to, from, n);
    to[n] = '\0';
    return to + n + 1;
}

struct ph_buf *ph_fields_pack(const struct ph_field *fields, size_t n, const char *extra)
{
    size_t extra_len = extra != NULL ? strlen(extra) : 0;
    size_t total = (n + 1) * sizeof(struct ph_field) + extra_len + 1; /* values may get shorter */
    for (size_t i = 0; i < n; i++)
        total += fields[i].name_len + fields[i].value_len + 2;
    struct ph_buf *buf = ph_buf_new(total);
    struct ph_field *list = (struct ph_field *)(void *)buf->data;
    PH_ASSERT((uintptr_t)list % _Alignof(struct ph_field) == 0);
    char *text = (char *)(list + n + 1);
    for (size_t i = 0; i < n; i++) {
        const char *value = fields[i].value;
        list[i] =
            (struct ph_field){.name_len = fields[i].name_len, .value_len = fields[i].value_len};
        ph_text_trim(&value, &list[i].value_len); /* is no part of it (RFC 9110 5.5) */
        list[i].name = text;
        for (size_t k = 0; k < fields[i].name_len; k++)
            text[k] = ph_lower(fields[i].name[k]);
        text[fields[i].name_len] = '\0';
        text += fields[i].name_len + 1;
        list[i].value = text;
        text = put(text, value, list[i].value_len);
    }
    list[n] = (struct ph_field){.name = "", .value = text, .value_len = extra_len};
    put(text, extra, extra_len);
    buf->len = total;
    return buf;
}

static bool is_cookie(const struct ph_field *field)
{
    return field->name_len == 6 && memcmp(field->name, "cookie", 6) == 0;
}

/* The values of the cookie fields from `first` on as one, which is what an application expects (RFC
 * 9113 8.2.3, RFC 9114 4.2.1). Not longer than they were with their names. */
static char *put_cookies(char *to, const struct ph_fields *fields, size_t first, size_t *len)
{
    char *begin = to;
    for (size_t i = first; i < fields->count; i++) {
        const struct ph_field *from = &fields->list[i];
        if (!is_cookie(from))
            continue;
        if (i != first)
            to = put(to, "; ", 2) - 1;
        to = put(to, from->value, from->value_len) - 1;
    }
    *len = (size_t)(to - begin);
    return to + 1;
}

/* Copies the fields; the number of them. */
static size_t put_fields(struct ph_field *list, char *text, const struct ph_head *head)
{
    size_t count = 0;
    bool has_cookie = false;
    for (size_t i = 0; i < head->fields.count; i++) {
        const struct ph_field *from = &head->fields.list[i];
        bool joins =
            head->version >= 20 && is_cookie(from); /* before, there is one (RFC 6265 5.4) */
        if (joins && has_cookie)
            continue;
        struct ph_field *field = &list[count++];
        *field = *from;
        field->name = text;
        text = put(text, from->name, from->name_len);
        field->value = text;
        if (joins)
            text = put_cookies(text, &head->fields, i, &field->value_len);
        else
            text = put(text, from->value, from->value_len);
        has_cookie = has_cookie || joins;
    }
    return count;
}

struct ph_chan_request *ph_chan_request_new(const struct ph_head *head, const struct ph_path *path,
                                            const struct ph_tls_info *tls)
{
    const char *parts[] = {head->method, head->scheme, head->authority, head->target,
                           head->protocol};
    size_t lens[PH_COUNT_OF(parts)], total = 0;
    for (size_t i = 0; i < PH_COUNT_OF(parts); i++) {
        lens[i] = parts[i] != NULL ? strlen(parts[i]) : 0;
        total += lens[i] + 1;
    }
    for (size_t i = 0; i < head->fields.count; i++)
        total += head->fields.list[i].name_len + head->fields.list[i].value_len + 2;

    struct ph_chan_request *request = ph_alloc(sizeof(*request));
    char *text = request->strings = ph_alloc(total);
    const char *copies[PH_COUNT_OF(parts)];
    for (size_t i = 0; i < PH_COUNT_OF(parts); i++) {
        copies[i] = text;
        text = put(text, parts[i], lens[i]);
    }
    request->fields = ph_alloc(sizeof(*request->fields) * (head->fields.count + 1));
    size_t fields_len = put_fields(request->fields, text, head);
    request->pub = (struct ph_request){
        .http_version = head->version,
        .method = copies[0],
        .scheme = copies[1],
        .authority = copies[2],
        .target = copies[3],
        .protocol = copies[4],
        .fields = request->fields,
        .fields_len = fields_len,
        .client_host = request->client,
        .server_host = request->server,
        .client_port = ph_addr_port(&path->remote),
        .server_port = ph_addr_port(&path->local),
        .tls = tls != NULL,
        .tls_info = ph_tls_info_ref(tls),
    };
    if (path->unix_path == NULL) {
        ph_addr_host(&path->remote, request->client, sizeof(request->client));
        ph_addr_host(&path->local, request->server, sizeof(request->server));
    } else {
        snprintf(request->server, sizeof(request->server), "%s", path->unix_path);
    }
    return request;
}

void ph_chan_request_set_body(struct ph_chan_request *request, bool has_body)
{
    request->pub.has_body = has_body;
}

void ph_chan_request_set_early(struct ph_chan_request *request, bool is_early)
{
    request->pub.early_data = is_early;
}

void ph_chan_request_set_session(struct ph_chan_request *request, uint64_t id,
                                 const char *const *offered, size_t offered_len, bool datagrams,
                                 size_t max_datagram)
{
    request->offered = ph_alloc(sizeof(*request->offered) * (offered_len + 1));
    for (size_t i = 0; i < offered_len; i++)
        request->offered[i] = ph_strdup(offered[i]);
    request->pub.session_id = id;
    request->pub.offered = request->offered;
    request->pub.offered_len = offered_len;
    request->pub.datagrams = datagrams;
    request->pub.max_datagram_size = max_datagram;
}

void ph_chan_request_free(struct ph_chan_request *request)
{
    if (request == NULL)
        return;
    for (size_t i = 0; i < request->pub.offered_len; i++)
        ph_free((void *)(uintptr_t)request->offered[i]);
    ph_tls_info_unref(request->pub.tls_info);
    ph_free(request->offered);
    ph_free(request->fields);
    ph_free(request->strings);
    ph_free(request);
}

const struct ph_request *ph_chan_request_get(const struct ph_chan_request *request)
{
    return &request->pub;
}
