/*
 * scope.c - scope dicts of HTTP requests, WebSockets and WebTransport sessions.
 *
 * Each scope is a fresh dict with fresh containers, because middleware changes them; only the
 * immutable objects inside (names, versions, common header names) are shared. Names of common
 * headers come from a table in the module state, so that a request allocates only what is its own.
 */
#include "ext.h"

#include <string.h>

/* Names that most requests carry; an unknown name costs one bytes object more. */
static const char *const common_headers[] = {
    "accept",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "dnt",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-webtransport-http3-draft02",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "wt-available-protocols",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
    "x-requested-with",
};

/* What a webtransport scope of this server can do, see docs/asgi-webtransport.md. */
static const char *const features[] = {"stream.open",  "stream.reset", "stream.stop_sending",
                                       "stream.pause", "priority",     "drain",
                                       "subprotocols", "max_age"};

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
_Static_assert(COUNT_OF(common_headers) * 4 <= HEADER_SLOTS + 3, "keep the table sparse");

static unsigned hash_name(const char *p, size_t n) /* FNV-1a */
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)p[i]) * 16777619u;
    return (hash ^ (hash >> 15)) & (HEADER_SLOTS - 1);
}

int scope_init(State *st)
{
    for (size_t i = 0; i < COUNT_OF(common_headers); i++) {
        unsigned slot = hash_name(common_headers[i], strlen(common_headers[i]));
        while (st->header_names[slot] != NULL)
            slot = (slot + 1) & (HEADER_SLOTS - 1);
        st->header_names[slot] = PyBytes_FromString(common_headers[i]);
        if (st->header_names[slot] == NULL)
            return -1;
    }
    st->features = PyTuple_New((Py_ssize_t)COUNT_OF(features));
    for (size_t i = 0; st->features != NULL && i < COUNT_OF(features); i++) {
        PyObject *text = PyUnicode_InternFromString(features[i]);
        if (text == NULL)
            return -1;
        PyTuple_SET_ITEM(st->features, (Py_ssize_t)i, text);
    }
    return st->features == NULL ? -1 : 0;
}

/* --- Parts --- */

static PyObject *header_name(State *st, const char *p, size_t n)
{
    unsigned slot = hash_name(p, n);
    PyObject *known;
    while ((known = st->header_names[slot]) != NULL) {
        if ((size_t)PyBytes_GET_SIZE(known) == n && memcmp(PyBytes_AS_STRING(known), p, n) == 0)
            return Py_NewRef(known);
        slot = (slot + 1) & (HEADER_SLOTS - 1);
    }
    return PyBytes_FromStringAndSize(p, (Py_ssize_t)n);
}

/* Appends one (name, value) pair. */
static int add_header(State *st, PyObject *list, const char *name, size_t name_len,
                      const char *value, size_t value_len)
{
    PyObject *key = header_name(st, name, name_len);
    PyObject *text = PyBytes_FromStringAndSize(value, (Py_ssize_t)value_len);
    PyObject *pair = NULL;
    if (key != NULL && text != NULL)
        pair = PyTuple_Pack(2, key, text);
    Py_XDECREF(key);
    Py_XDECREF(text);
    if (pair == NULL)
        return -1;
    int rc = PyList_Append(list, pair);
    Py_DECREF(pair);
    return rc;
}

static bool is_host(const ph_field *field)
{
    return field->name_len == 4 && memcmp(field->name, "host", 4) == 0;
}

/* Headers in order. HTTP/2 and 3 carry the host in :authority: it comes first, in place of one that
 * is in the fields (RFC 9113 8.3.1). */
static PyObject *make_headers(State *st, const ph_request *request)
{
    PyObject *list = PyList_New(0);
    if (list == NULL)
        return NULL;
    bool host_first = request->http_version >= 20 && request->authority[0] != '\0';
    int rc = 0;
    if (host_first)
        rc = add_header(st, list, "host", 4, request->authority, strlen(request->authority));
    for (size_t i = 0; rc == 0 && i < request->fields_len; i++) {
        const ph_field *field = &request->fields[i];
        if (host_first && is_host(field))
            continue;
        rc = add_header(st, list, field->name, field->name_len, field->value, field->value_len);
    }
    if (rc < 0)
        Py_CLEAR(list);
    return list;
}

/* (host, port); (path, None) of a Unix socket, which has no port; None: unknown. */
static PyObject *make_address(const char *host, uint16_t port)
{
    if (host == NULL || host[0] == '\0')
        return Py_NewRef(Py_None);
    PyObject *text = host[0] == '/' ? PyUnicode_DecodeFSDefault(host) : PyUnicode_FromString(host);
    PyObject *number = port != 0 ? PyLong_FromLong(port) : Py_NewRef(Py_None);
    PyObject *pair = text != NULL && number != NULL ? PyTuple_Pack(2, text, number) : NULL;
    Py_XDECREF(text);
    Py_XDECREF(number);
    return pair;
}

/* scope["server"]: nearly always that of the request before, and a tuple does not change. */
static PyObject *own_address(Server *server, const ph_request *request)
{
    PyObject *known = server->own_address;
    if (known != NULL && known != Py_None) {
        const char *host = PyUnicode_AsUTF8(PyTuple_GET_ITEM(known, 0));
        PyObject *port = PyTuple_GET_ITEM(known, 1);
        long number = port != Py_None ? PyLong_AsLong(port) : 0;
        if (host == NULL)
            PyErr_Clear(); /* a path that is no UTF-8 */
        else if (number == request->server_port && strcmp(host, request->server_host) == 0)
            return Py_NewRef(known);
    }
    PyObject *made = make_address(request->server_host, request->server_port);
    if (made != NULL)
        Py_XSETREF(server->own_address, Py_NewRef(made));
    return made;
}

/* A request target without what comes before its path, in absolute form (RFC 9112 3.2.2), and
 * without a fragment. The authority form has no path. */
static void split_target(const char *target, const char **path, size_t *path_len,
                         const char **query, size_t *query_len)
{
    const char *p = target;
    if (*p != '/' && *p != '*') {
        const char *authority = strstr(p, "://");
        size_t n = authority != NULL ? strcspn(authority + 3, "/?#") : 0;
        p = authority != NULL ? authority + 3 + n : p + strlen(p);
    }
    size_t n = strcspn(p, "?#");
    *path = n > 0 ? p : "/";
    *path_len = n > 0 ? n : 1;
    *query = "";
    *query_len = 0;
    if (p[n] == '?') {
        *query = p + n + 1;
        *query_len = strcspn(*query, "#");
    }
    if (n == 0 && *target != '/' && strstr(target, "://") == NULL)
        *path_len = 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Percent-decoded as UTF-8; bytes that are none become U+FFFD, a broken escape stays as it is. */
static PyObject *decode_path(const char *p, size_t n)
{
    if (n == 0 || memchr(p, '%', n) == NULL)
        return PyUnicode_DecodeUTF8(p, (Py_ssize_t)n, "replace");
    char small[512], *out = small;
    if (n > sizeof(small) && (out = PyMem_Malloc(n)) == NULL)
        return PyErr_NoMemory();
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        int hi = -1, lo = -1;
        if (p[i] == '%' && n - i > 2) {
            hi = hex_value(p[i + 1]);
            lo = hex_value(p[i + 2]);
        }
        if (hi < 0 || lo < 0) {
            out[len++] = p[i];
            continue;
        }
        out[len++] = (char)(hi * 16 + lo);
        i += 2;
    }
    PyObject *text = PyUnicode_DecodeUTF8(out, (Py_ssize_t)len, "replace");
    if (out != small)
        PyMem_Free(out);
    return text;
}

static int put_target(State *st, const Server *server, const char *target, PyObject *scope)
{
    const char *path, *query;
    size_t path_len, query_len;
    split_target(target, &path, &path_len, &query, &query_len);
    PyObject *text = decode_path(path, path_len);
    PyObject *raw = PyBytes_FromStringAndSize(path, (Py_ssize_t)path_len);
    if (PyUnicode_GET_LENGTH(server->root_path) > 0 && path[0] == '/') {
        PyObject *joined = text != NULL ? PyUnicode_Concat(server->root_path, text) : NULL;
        Py_XDECREF(text);
        text = joined;
        PyObject *prefix = Py_NewRef(server->root_path_bytes);
        if (raw != NULL)
            PyBytes_ConcatAndDel(&prefix, raw); /* NULL on failure */
        else
            Py_CLEAR(prefix);
        raw = prefix;
    }
    int rc = dict_put(scope, st->str.path, text);
    if (raw == NULL)
        return -1;
    if (dict_put(scope, st->str.raw_path, raw) < 0 || rc < 0)
        return -1;
    PyObject *bytes = query_len > 0 ? PyBytes_FromStringAndSize(query, (Py_ssize_t)query_len)
                                    : Py_NewRef(st->empty_bytes);
    return dict_put(scope, st->str.query_string, bytes);
}

static PyObject *http_version_borrowed(State *st, int version)
{
    switch (version) {
    case 10:
        return st->str.v1_0;
    case 11:
        return st->str.v1_1;
    case 20:
        return st->str.v2;
    default:
        return st->str.v3;
    }
}

static PyObject *make_method(State *st, const char *method)
{
    PyObject *const known[] = {st->str.GET, st->str.POST, st->str.HEAD, st->str.PUT,
                               st->str.CONNECT};
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (strcmp(method, (const char *)PyUnicode_DATA(known[i])) == 0)
            return Py_NewRef(known[i]);
    }
    return PyUnicode_DecodeUTF8(method, (Py_ssize_t)strlen(method), "replace");
}

static PyObject *make_scheme(State *st, const ph_request *request, bool is_socket)
{
    const char *scheme = request->scheme;
    if (scheme[0] == '\0')
        scheme = request->tls ? "https" : "http";
    bool is_safe = strcmp(scheme, "https") == 0;
    if (is_socket)
        return Py_NewRef(is_safe ? st->str.wss : st->str.ws);
    if (is_safe)
        return Py_NewRef(st->str.https);
    if (strcmp(scheme, "http") == 0)
        return Py_NewRef(st->str.http);
    return PyUnicode_DecodeUTF8(scheme, (Py_ssize_t)strlen(scheme), "replace");
}

static PyObject *make_asgi(State *st)
{
    PyObject *dict = PyDict_New();
    if (dict != NULL && PyDict_SetItem(dict, st->str.version, st->str.v3_0) == 0 &&
        PyDict_SetItem(dict, st->str.spec_version, st->str.v2_5) == 0)
        return dict;
    Py_XDECREF(dict);
    return NULL;
}

/* --- Scopes --- */

/* A dict with the keys of a scope in order, and the values that never change. Copying it is cheaper
 * than letting a new dict grow. */
static PyObject *make_template(const Server *server, PyObject *type)
{
    State *st = server->st;
    bool has_method = type != st->str.websocket, has_subprotocols = type != st->str.http;
    PyObject *const unset[] = {st->str.asgi,   st->str.http_version, st->str.server,
                               st->str.client, st->str.scheme,       st->str.method,
                               st->str.path,   st->str.raw_path,     st->str.query_string,
                               st->str.headers};
    PyObject *dict = message_of_type(st, type);
    for (size_t i = 0; dict != NULL && i < COUNT_OF(unset); i++) {
        if ((has_method || unset[i] != st->str.method) &&
            PyDict_SetItem(dict, unset[i], Py_None) < 0)
            Py_CLEAR(dict);
    }
    if (dict != NULL && PyDict_SetItem(dict, st->str.root_path, server->root_path) == 0 &&
        (server->state == NULL || PyDict_SetItem(dict, st->str.state, Py_None) == 0) &&
        (!has_subprotocols || PyDict_SetItem(dict, st->str.subprotocols, Py_None) == 0) &&
        PyDict_SetItem(dict, st->str.extensions, Py_None) == 0)
        return dict;
    Py_XDECREF(dict);
    return NULL;
}

int scope_prepare(Server *server)
{
    State *st = server->st;
    server->http_template = make_template(server, st->str.http);
    if (server->http_template == NULL)
        return -1;
    server->wt_template = make_template(server, st->str.webtransport);
    if (server->wt_template == NULL)
        return -1;
    server->ws_template = make_template(server, st->str.websocket);
    return server->ws_template == NULL ? -1 : 0;
}

/* What all kinds have, and the method of those whose template has one. */
static PyObject *make_common(Server *server, const ph_request *request, PyObject *template)
{
    State *st = server->st;
    bool is_socket = template == server->ws_template;
    PyObject *scope = PyDict_Copy(template);
    if (scope == NULL)
        return NULL;
    if (dict_put(scope, st->str.asgi, make_asgi(st)) == 0 &&
        PyDict_SetItem(scope, st->str.http_version,
                       http_version_borrowed(st, request->http_version)) == 0 &&
        dict_put(scope, st->str.server, own_address(server, request)) == 0 &&
        dict_put(scope, st->str.client, make_address(request->client_host, request->client_port)) ==
            0 &&
        dict_put(scope, st->str.scheme, make_scheme(st, request, is_socket)) == 0 &&
        (is_socket || dict_put(scope, st->str.method, make_method(st, request->method)) == 0) &&
        put_target(st, server, request->target, scope) == 0 &&
        dict_put(scope, st->str.headers, make_headers(st, request)) == 0 &&
        (server->state == NULL || dict_put(scope, st->str.state, PyDict_Copy(server->state)) == 0))
        return scope;
    Py_DECREF(scope);
    return NULL;
}

/* --- extensions["tls"] --- */

/* A string, or None for an empty one. What a client wrote may hold any bytes. */
static PyObject *text_or_none(const char *text)
{
    size_t n = strlen(text);
    return n > 0 ? PyUnicode_DecodeUTF8(text, (Py_ssize_t)n, "replace") : Py_NewRef(Py_None);
}

static PyObject *client_chain(const ph_tls_info *info)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < info->client_chain_len; i++) {
        PyObject *pem = PyUnicode_FromString(info->client_chain[i]);
        if (pem == NULL || PyList_Append(list, pem) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pem);
    }
    return list;
}

/* All but the chain, whose place is kept. */
static PyObject *make_tls_facts(State *st, const ph_tls_info *info, bool early)
{
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    PyObject *suite =
        info->cipher_suite != 0 ? PyLong_FromLong(info->cipher_suite) : Py_NewRef(Py_None);
    if (dict_put(dict, st->str.server_cert, text_or_none(info->server_cert)) == 0 &&
        PyDict_SetItem(dict, st->str.client_cert_chain, Py_None) == 0 &&
        dict_put(dict, st->str.client_cert_name, text_or_none(info->client_name)) == 0 &&
        PyDict_SetItem(dict, st->str.client_cert_error, Py_None) == 0 &&
        dict_put(dict, st->str.tls_version, PyLong_FromLong(info->version)) == 0 &&
        dict_put(dict, st->str.cipher_suite, suite) == 0 &&
        dict_put(dict, st->str.server_name, text_or_none(info->server_name)) == 0 &&
        PyDict_SetItem(dict, st->str.early_data, early ? Py_True : Py_False) == 0)
        return dict;
    Py_DECREF(dict);
    return NULL;
}

/* Nearly all requests of a server are told the same: what was told last is kept, with what it was
 * made from. Client certificates and endless names are not kept. */
static PyObject *tls_facts(Server *server, const ph_tls_info *info, bool early)
{
    TlsFacts *last = &server->tls;
    if (info->client_chain_len > 0 || strlen(info->server_name) >= sizeof(last->name))
        return make_tls_facts(server->st, info, early);
    if (last->facts == NULL || last->version != info->version ||
        last->suite != info->cipher_suite || last->early != early ||
        strcmp(last->name, info->server_name) != 0 ||
        strcmp(PyBytes_AS_STRING(last->cert), info->server_cert) != 0) {
        PyObject *facts = make_tls_facts(server->st, info, early);
        PyObject *cert = PyBytes_FromString(info->server_cert);
        if (facts == NULL || cert == NULL) {
            Py_XDECREF(facts);
            Py_XDECREF(cert);
            return NULL;
        }
        Py_XSETREF(last->facts, facts);
        Py_XSETREF(last->cert, cert);
        last->version = info->version;
        last->suite = info->cipher_suite;
        last->early = early;
        strcpy(last->name, info->server_name);
    }
    return PyDict_Copy(last->facts);
}

/* Adds the member of asgiref's TLS extension to the extensions of any scope, fresh for each; none
 * on a connection without TLS. */
static int put_tls(Server *server, PyObject *extensions, const ph_request *request)
{
    State *st = server->st;
    const ph_tls_info *info = request->tls_info;
    if (info == NULL)
        return 0;
    PyObject *dict = tls_facts(server, info, request->early_data);
    if (dict == NULL)
        return -1;
    if (dict_put(dict, st->str.client_cert_chain, client_chain(info)) == 0)
        return dict_put(extensions, st->str.tls, dict);
    Py_DECREF(dict);
    return -1;
}

/* Ends a scope: takes both, either of which may be NULL; `filled`: nothing has failed so far. */
static PyObject *complete(State *st, PyObject *scope, PyObject *extensions, bool filled)
{
    if (!filled || PyDict_SetItem(scope, st->str.extensions, extensions) < 0)
        Py_CLEAR(scope);
    Py_XDECREF(extensions);
    return scope;
}

/* What an application may use in this request; HTTP/1.0 knows neither 1xx nor trailers. */
static int put_extensions(State *st, PyObject *extensions, const ph_request *request)
{
    bool is_old = request->http_version == 10;
    if (dict_put(extensions, st->str.http_response_pathsend, PyDict_New()) < 0 ||
        dict_put(extensions, st->str.http_response_zerocopysend, PyDict_New()) < 0)
        return -1;
    if (is_old)
        return 0;
    if (dict_put(extensions, st->str.http_response_early_hint, PyDict_New()) < 0)
        return -1;
    return dict_put(extensions, st->str.http_response_trailers, PyDict_New());
}

PyObject *scope_http(Server *server, const ph_request *request)
{
    State *st = server->st;
    PyObject *scope = make_common(server, request, server->http_template);
    PyObject *extensions = PyDict_New();
    bool filled = scope != NULL && extensions != NULL &&
                  put_extensions(st, extensions, request) == 0 &&
                  put_tls(server, extensions, request) == 0;
    return complete(st, scope, extensions, filled);
}

static PyObject *make_subprotocols(const ph_request *request)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < request->offered_len; i++) {
        PyObject *text = PyUnicode_DecodeUTF8(request->offered[i],
                                              (Py_ssize_t)strlen(request->offered[i]), "replace");
        if (text == NULL || PyList_Append(list, text) < 0)
            Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

/* The value of extensions["webtransport"]. */
static PyObject *make_capabilities(State *st, const ph_request *request)
{
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    if (PyDict_SetItem(dict, st->str.version, st->str.v1_0) == 0 &&
        dict_put(dict, st->str.session_id, PyLong_FromUnsignedLongLong(request->session_id)) == 0 &&
        dict_put(dict, st->str.protocol,
                 PyUnicode_DecodeUTF8(request->protocol, (Py_ssize_t)strlen(request->protocol),
                                      "replace")) == 0 &&
        PyDict_SetItem(dict, st->str.datagrams, request->datagrams ? Py_True : Py_False) == 0 &&
        dict_put(dict, st->str.max_datagram_size, PyLong_FromSize_t(request->max_datagram_size)) ==
            0 &&
        PyDict_SetItem(dict, st->str.reliable_only, Py_False) == 0 &&
        dict_put(dict, st->str.features, PySequence_List(st->features)) == 0)
        return dict;
    Py_DECREF(dict);
    return NULL;
}

PyObject *scope_webtransport(Server *server, const ph_request *request)
{
    State *st = server->st;
    PyObject *scope = make_common(server, request, server->wt_template);
    PyObject *extensions = PyDict_New();
    bool filled = scope != NULL && extensions != NULL &&
                  dict_put(scope, st->str.subprotocols, make_subprotocols(request)) == 0 &&
                  dict_put(extensions, st->str.webtransport, make_capabilities(st, request)) == 0 &&
                  dict_put(extensions, st->str.wt_http_response, PyDict_New()) == 0 &&
                  put_tls(server, extensions, request) == 0;
    return complete(st, scope, extensions, filled);
}

PyObject *scope_websocket(Server *server, const ph_request *request)
{
    State *st = server->st;
    PyObject *scope = make_common(server, request, server->ws_template);
    PyObject *extensions = PyDict_New();
    bool filled = scope != NULL && extensions != NULL &&
                  dict_put(scope, st->str.subprotocols, make_subprotocols(request)) == 0 &&
                  dict_put(extensions, st->str.ws_http_response, PyDict_New()) == 0 &&
                  put_tls(server, extensions, request) == 0;
    return complete(st, scope, extensions, filled);
}
