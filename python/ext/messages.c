/*
 * messages.c - the only place where ASGI message dicts are read; events.c makes them.
 *
 * Reading turns a dict into a Message: types, ranges and header syntax are checked here, with
 * TypeError for a wrong Python type and ValueError for a wrong value; what depends on the state of
 * a channel is checked by its owner.
 *
 * docs/asgi-webtransport.md is the contract for the webtransport scope. Everywhere a stream is
 * named, "stream" and "stream_id" mean the same.
 */
#include "ext.h"

#include <math.h>
#include <string.h>

#define STREAM_ID_MAX ((UINT64_C(1) << 62) - 1) /* RFC 9000 2.1 */
#define URGENCY_DEFAULT 3                       /* RFC 9218 4.1 */
#define URGENCY_MAX 7

/* --- Reading: single values --- */

/* Borrowed; NULL without an exception: absent. */
static PyObject *get_borrowed(PyObject *dict, PyObject *key)
{
    return PyDict_GetItemWithError(dict, key);
}

static int wrong_type(PyObject *key, const char *expected, PyObject *value)
{
    PyErr_Format(PyExc_TypeError, "'%U' must be %s, not %.100s", key, expected,
                 Py_TYPE(value)->tp_name);
    return -1;
}

static bool is_int(PyObject *value)
{
    return PyLong_Check(value) && !PyBool_Check(value);
}

/* A bool (or an int used as one). *present says whether the key was there. */
static int read_flag(PyObject *dict, PyObject *key, bool *out, bool *present)
{
    PyObject *value = get_borrowed(dict, key);
    *present = value != NULL;
    if (value == NULL)
        return PyErr_Occurred() ? -1 : 0;
    if (value == Py_True || value == Py_False)
        *out = value == Py_True;
    else if (PyLong_Check(value))
        *out = PyObject_IsTrue(value) == 1;
    else
        return wrong_type(key, "bool", value);
    return 0;
}

/* Of messages that are ours alone, where a number is no flag. */
static int read_bool(PyObject *dict, PyObject *key, bool *out, bool *present)
{
    PyObject *value = get_borrowed(dict, key);
    if (value != NULL && !PyBool_Check(value))
        return wrong_type(key, "bool", value);
    return read_flag(dict, key, out, present);
}

/* An integer of 0 to `max`. 1: read, 0: absent, -1. */
static int read_uint(PyObject *dict, PyObject *key, uint64_t max, uint64_t *out)
{
    PyObject *value = get_borrowed(dict, key);
    if (value == NULL)
        return PyErr_Occurred() ? -1 : 0;
    if (!is_int(value))
        return wrong_type(key, "int", value);
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (number == -1 && PyErr_Occurred())
        return -1;
    if (overflow != 0 || number < 0 || (uint64_t)number > max) {
        PyErr_Format(PyExc_ValueError, "'%U' must be 0 to %llu, not %R", key,
                     (unsigned long long)max, value);
        return -1;
    }
    *out = (uint64_t)number;
    return 1;
}

static int read_stream_id(State *st, PyObject *dict, Message *out)
{
    uint64_t id = 0, alias = 0;
    int has_id = read_uint(dict, st->str.stream_id, STREAM_ID_MAX, &id);
    int has_alias = has_id < 0 ? -1 : read_uint(dict, st->str.stream, STREAM_ID_MAX, &alias);
    if (has_alias < 0)
        return -1;
    if (!has_id && !has_alias) {
        PyErr_SetString(PyExc_ValueError, "the message needs 'stream_id' (or 'stream')");
        return -1;
    }
    if (has_id && has_alias && id != alias) {
        PyErr_SetString(PyExc_ValueError, "'stream_id' and 'stream' name different streams");
        return -1;
    }
    out->stream_id = has_id ? id : alias;
    return 0;
}

static int read_code(State *st, PyObject *dict, Message *out)
{
    uint64_t code = 0;
    if (read_uint(dict, st->str.code, UINT32_MAX, &code) < 0)
        return -1;
    out->code = (uint32_t)code;
    return 0;
}

static int read_payload(PyObject *dict, PyObject *key, Message *out)
{
    PyObject *value = get_borrowed(dict, key);
    if (value == NULL)
        return PyErr_Occurred() ? -1 : 0;
    const char *text = PyUnicode_AsUTF8(key);
    return text == NULL ? -1 : payload_read(value, text, &out->buf, &out->len);
}

/* A str; None and absence leave *out as it is. */
static int read_text(PyObject *dict, PyObject *key, PyObject **out)
{
    PyObject *value = get_borrowed(dict, key);
    if (value == NULL || value == Py_None)
        return PyErr_Occurred() ? -1 : 0;
    if (!PyUnicode_Check(value))
        return wrong_type(key, "str", value);
    *out = Py_NewRef(value);
    return 0;
}

/* end_stream with its aliases: finish; more_body and more_data inverted. Any of them ends. */
static int read_end(State *st, PyObject *dict, Message *out)
{
    bool present, flag = false;
    PyObject *const yes[] = {st->str.end_stream, st->str.finish};
    PyObject *const no[] = {st->str.more_body, st->str.more_data};
    for (int i = 0; i < 2; i++) {
        if (read_bool(dict, yes[i], &flag, &present) < 0)
            return -1;
        out->end = out->end || (present && flag);
        if (read_bool(dict, no[i], &flag, &present) < 0)
            return -1;
        out->end = out->end || (present && !flag);
    }
    return 0;
}

/* Any integer, higher goes first, 0 is normal; mapped onto the urgencies of RFC 9218. */
static int read_priority(State *st, PyObject *dict, Message *out)
{
    PyObject *value = get_borrowed(dict, st->str.priority);
    if (value == NULL || value == Py_None)
        return PyErr_Occurred() ? -1 : 0;
    if (!is_int(value))
        return wrong_type(st->str.priority, "int", value);
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (number == -1 && PyErr_Occurred())
        return -1;
    if (overflow > 0 || number > URGENCY_DEFAULT)
        number = URGENCY_DEFAULT;
    if (overflow < 0 || number < URGENCY_DEFAULT - URGENCY_MAX)
        number = URGENCY_DEFAULT - URGENCY_MAX;
    out->has_priority = true;
    out->urgency = (int)(URGENCY_DEFAULT - number);
    return 0;
}

/* Seconds as int or float to milliseconds, at least one of them. */
static int read_max_age(State *st, PyObject *dict, Message *out)
{
    PyObject *value = get_borrowed(dict, st->str.max_age);
    if (value == NULL || value == Py_None)
        return PyErr_Occurred() ? -1 : 0;
    if (!PyFloat_Check(value) && !is_int(value))
        return wrong_type(st->str.max_age, "float or None", value);
    double seconds = PyFloat_AsDouble(value);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (isnan(seconds) || seconds < 0) {
        PyErr_SetString(PyExc_ValueError, "'max_age' must not be negative");
        return -1;
    }
    double ms = ceil(seconds * 1000);
    out->max_age_ms = ms < 1 ? 1 : ms >= (double)UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
    return 0;
}

static int read_status(State *st, PyObject *dict, uint64_t min, uint64_t max, Message *out)
{
    uint64_t status = 0;
    int found = read_uint(dict, st->str.status, 999, &status);
    if (found <= 0)
        return found;
    if (status < min || status > max) {
        PyErr_Format(PyExc_ValueError, "'status' must be %d to %d here, not %d", (int)min, (int)max,
                     (int)status);
        return -1;
    }
    out->status = (int)status;
    return 1;
}

/* --- Reading: header fields --- */

/* What may stand in the fields of a message. */
enum field_rule {
    FIELDS_HTTP,    /* connection-specific fields are ours and are left out */
    FIELDS_SESSION, /* they, and wt-protocol, are refused */
    FIELDS_SOCKET,  /* they are left out; those of the handshake are refused */
};

void fields_clear(Fields *fields)
{
    PyMem_Free(fields->list);
    PyMem_Free(fields->arena);
    *fields = (Fields){0};
}

static int fields_reserve(Fields *fields, size_t bytes)
{
    if (fields->count == fields->cap) {
        size_t cap = fields->cap ? fields->cap * 2 : 8;
        ph_field *list = PyMem_Realloc(fields->list, cap * sizeof(ph_field));
        if (list == NULL)
            return -1;
        fields->list = list;
        fields->cap = cap;
    }
    if (bytes <= fields->arena_cap - fields->arena_len)
        return 0;
    size_t cap = fields->arena_cap ? fields->arena_cap * 2 : 256;
    while (cap - fields->arena_len < bytes)
        cap *= 2;
    char *arena = PyMem_Realloc(fields->arena, cap);
    if (arena == NULL)
        return -1;
    /* The arena has moved: so do the pointers into it. */
    char *p = arena;
    for (size_t i = 0; i < fields->count; i++) {
        fields->list[i].name = p;
        fields->list[i].value = p + fields->list[i].name_len;
        p += fields->list[i].name_len + fields->list[i].value_len;
    }
    fields->arena = arena;
    fields->arena_cap = cap;
    return 0;
}

static int fields_put(Fields *fields, const char *name, size_t name_len, const char *value,
                      size_t value_len)
{
    if (fields_reserve(fields, name_len + value_len) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    char *p = fields->arena + fields->arena_len;
    memcpy(p, name, name_len);
    if (value_len > 0)
        memcpy(p + name_len, value, value_len);
    for (size_t i = 0; i < name_len; i++) {
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] - 'A' + 'a');
    }
    fields->list[fields->count++] = (ph_field){p, p + name_len, name_len, value_len};
    fields->arena_len += name_len + value_len;
    return 0;
}

int fields_join(Fields *to, const Fields *from)
{
    for (size_t i = 0; i < from->count; i++) {
        const ph_field *field = &from->list[i];
        if (fields_put(to, field->name, field->name_len, field->value, field->value_len) < 0)
            return -1;
    }
    return 0;
}

static bool is_token(const char *p, size_t n) /* RFC 9110 5.6.2 */
{
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return n > 0;
}

/* RFC 9110 5.5: no control characters but tab. */
static bool is_value(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool name_is(const char *name, size_t n, const char *other)
{
    return strlen(other) == n && PyOS_strnicmp(name, other, (Py_ssize_t)n) == 0;
}

/* RFC 9114 4.2: these describe a connection, which is the server's. */
static bool is_connection_specific(const char *name, size_t n)
{
    static const char *const names[] = {"connection", "keep-alive", "proxy-connection",
                                        "transfer-encoding", "upgrade"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (name_is(name, n, names[i]))
            return true;
    }
    return false;
}

/* RFC 6455 4.2.2: the server makes these; a subprotocol has a key of its own in the message. */
static bool is_handshake(const char *name, size_t n)
{
    return name_is(name, n, "sec-websocket-protocol") || name_is(name, n, "sec-websocket-accept") ||
           name_is(name, n, "sec-websocket-extensions");
}

static int bad_field(const char *what, PyObject *part)
{
    PyErr_Format(PyExc_ValueError, "invalid header %s: %R", what, part);
    return -1;
}

/* The bytes of one half of a pair; *owner keeps them alive. */
static int field_part(PyObject *part, PyObject **owner, const char **p, size_t *n)
{
    if (PyBytes_Check(part))
        *owner = Py_NewRef(part);
    else if (PyByteArray_Check(part) || PyMemoryView_Check(part))
        *owner = PyBytes_FromObject(part);
    else
        PyErr_Format(PyExc_TypeError, "header names and values must be bytes, not %.100s",
                     Py_TYPE(part)->tp_name);
    if (*owner == NULL)
        return -1;
    *p = PyBytes_AS_STRING(*owner);
    *n = (size_t)PyBytes_GET_SIZE(*owner);
    return 0;
}

static int add_field(Fields *fields, PyObject *name_part, PyObject *value_part,
                     enum field_rule rule)
{
    PyObject *name_owner = NULL, *value_owner = NULL;
    const char *name, *value;
    size_t name_len, value_len;
    int rc = -1;
    if (field_part(name_part, &name_owner, &name, &name_len) < 0 ||
        field_part(value_part, &value_owner, &value, &value_len) < 0)
        goto out;
    while (value_len > 0 && is_blank(value[0]))
        value++, value_len--;
    while (value_len > 0 && is_blank(value[value_len - 1]))
        value_len--;
    if (!is_token(name, name_len)) { /* pseudo-header names begin with ":", which is none */
        bad_field("name", name_part);
        goto out;
    }
    if (!is_value(value, value_len)) {
        bad_field("value", value_part);
        goto out;
    }
    bool ours = is_connection_specific(name, name_len);
    if (rule == FIELDS_HTTP && name_is(name, name_len, "connection"))
        ours = false; /* "close" means something to HTTP/1.1; the core drops the rest */
    if (rule == FIELDS_SOCKET && is_handshake(name, name_len)) {
        bad_field("name, which the server sets", name_part);
        goto out;
    }
    if (rule == FIELDS_SESSION && (ours || name_is(name, name_len, "wt-protocol"))) {
        bad_field("name, which the server sets", name_part);
        goto out;
    }
    rc = ours ? 0 : fields_put(fields, name, name_len, value, value_len);
out:
    Py_XDECREF(name_owner);
    Py_XDECREF(value_owner);
    return rc;
}

/* One item of an iterable of pairs. */
static int add_pair(Fields *fields, PyObject *item, enum field_rule rule)
{
    PyObject *pair = PySequence_Fast(item, "each header must be a (name, value) pair");
    if (pair == NULL)
        return -1;
    int rc = -1;
    if (PySequence_Fast_GET_SIZE(pair) != 2)
        PyErr_SetString(PyExc_ValueError, "each header must be a (name, value) pair");
    else
        rc = add_field(fields, PySequence_Fast_GET_ITEM(pair, 0), PySequence_Fast_GET_ITEM(pair, 1),
                       rule);
    Py_DECREF(pair);
    return rc;
}

static int read_headers(State *st, PyObject *dict, enum field_rule rule, Message *out)
{
    PyObject *value = get_borrowed(dict, st->str.headers);
    if (value == NULL || value == Py_None)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *iter = PyObject_GetIter(value);
    if (iter == NULL)
        return -1;
    PyObject *item;
    int rc = 0;
    while (rc == 0 && (item = PyIter_Next(iter)) != NULL) {
        rc = add_pair(&out->fields, item, rule);
        Py_DECREF(item);
    }
    Py_DECREF(iter);
    return rc < 0 || PyErr_Occurred() ? -1 : 0;
}

/* --- Reading: messages --- */

static int need_status(int found)
{
    if (found == 0)
        PyErr_SetString(PyExc_ValueError, "the message needs 'status'");
    return found > 0 ? 0 : -1;
}

static int read_more(PyObject *dict, PyObject *key, Message *out)
{
    bool more = false, present;
    if (read_flag(dict, key, &more, &present) < 0)
        return -1;
    out->end = !more;
    return 0;
}

static int read_http_start(State *st, PyObject *dict, Message *out)
{
    bool present;
    if (need_status(read_status(st, dict, 200, 999, out)) < 0)
        return -1;
    if (read_flag(dict, st->str.trailers, &out->trailers, &present) < 0)
        return -1;
    return read_headers(st, dict, FIELDS_HTTP, out);
}

static int read_body(State *st, PyObject *dict, Message *out)
{
    if (read_payload(dict, st->str.body, out) < 0)
        return -1;
    return read_more(dict, st->str.more_body, out);
}

static int read_accept(State *st, PyObject *dict, enum field_rule rule, Message *out)
{
    if (read_text(dict, st->str.subprotocol, &out->text) < 0)
        return -1;
    return read_headers(st, dict, rule, out);
}

static int read_wt_close(State *st, PyObject *dict, Message *out)
{
    if (read_code(st, dict, out) < 0 || read_text(dict, st->str.reason, &out->text) < 0)
        return -1;
    if (read_status(st, dict, 300, 599, out) < 0 || read_payload(dict, st->str.body, out) < 0)
        return -1;
    return read_headers(st, dict, FIELDS_SESSION, out);
}

static int read_wt_open(State *st, PyObject *dict, Message *out)
{
    bool has_uni, has_bidi, uni = false, bidi = true;
    if (read_bool(dict, st->str.is_unidirectional, &uni, &has_uni) < 0 ||
        read_bool(dict, st->str.bidirectional, &bidi, &has_bidi) < 0)
        return -1;
    if (has_uni && has_bidi && uni == bidi) {
        PyErr_SetString(PyExc_ValueError,
                        "'bidirectional' and 'is_unidirectional' contradict each other");
        return -1;
    }
    out->bidirectional = has_bidi ? bidi : !uni;
    PyObject *tag = get_borrowed(dict, st->str.tag);
    if (tag == NULL && PyErr_Occurred())
        return -1;
    if (tag != NULL && tag != Py_None && !PyUnicode_Check(tag) && !is_int(tag))
        return wrong_type(st->str.tag, "str, int or None", tag);
    out->tag = Py_XNewRef(tag);
    if (read_payload(dict, st->str.data, out) < 0 || read_end(st, dict, out) < 0)
        return -1;
    return read_priority(st, dict, out);
}

static int read_wt_send(State *st, PyObject *dict, Message *out)
{
    if (read_stream_id(st, dict, out) < 0 || read_payload(dict, st->str.data, out) < 0)
        return -1;
    if (read_end(st, dict, out) < 0)
        return -1;
    return read_priority(st, dict, out);
}

static int read_stream_code(State *st, PyObject *dict, Message *out)
{
    if (read_stream_id(st, dict, out) < 0)
        return -1;
    return read_code(st, dict, out);
}

static int read_wt_datagram(State *st, PyObject *dict, Message *out)
{
    bool present;
    int found = PyDict_Contains(dict, st->str.data);
    if (found == 0)
        PyErr_SetString(PyExc_ValueError, "the message needs 'data'");
    if (found <= 0)
        return -1;
    if (read_payload(dict, st->str.data, out) < 0 || read_max_age(st, dict, out) < 0)
        return -1;
    return read_bool(dict, st->str.wait, &out->wait, &present);
}

/* Of a rejection. */
static int read_response_start(State *st, PyObject *dict, enum field_rule rule, Message *out)
{
    if (need_status(read_status(st, dict, 300, 599, out)) < 0)
        return -1;
    return read_headers(st, dict, rule, out);
}

static int read_trailers(State *st, PyObject *dict, Message *out)
{
    if (read_headers(st, dict, FIELDS_HTTP, out) < 0)
        return -1;
    return read_more(dict, st->str.more_trailers, out);
}

/* A member that has to be there; NULL with an exception. */
static PyObject *get_needed(PyObject *dict, PyObject *key)
{
    PyObject *value = get_borrowed(dict, key);
    if (value == NULL && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "the message needs '%U'", key);
    return Py_XNewRef(value);
}

/* The file is opened here: a missing one is known before anything is sent. */
static int read_path(State *st, PyObject *dict, Message *out)
{
    PyObject *path = get_needed(dict, st->str.path);
    if (path == NULL)
        return -1;
    uint64_t size = 0;
    int rc = file_open(path, out, &size);
    out->len = (size_t)size;
    out->end = true;
    Py_DECREF(path);
    return rc;
}

/* An integer or None. 1: read, 0: absent or None, -1. */
static int read_optional(PyObject *dict, PyObject *key, uint64_t max, uint64_t *out)
{
    PyObject *value = get_borrowed(dict, key);
    if (value == NULL || value == Py_None)
        return PyErr_Occurred() ? -1 : 0;
    return read_uint(dict, key, max, out);
}

/* As os.sendfile(): from `offset`, or from the file's position, which then moves; `count` bytes, or
 * up to the end. */
static int read_file(State *st, PyObject *dict, Message *out)
{
    PyObject *file = get_needed(dict, st->str.file);
    if (file == NULL)
        return -1;
    uint64_t size = 0, count = INT64_MAX;
    int rc = file_take(file, out, &size);
    Py_DECREF(file);
    if (rc < 0)
        return -1;
    int placed = read_optional(dict, st->str.offset, INT64_MAX, &out->offset);
    if (placed < 0 || read_optional(dict, st->str.count, INT64_MAX, &count) < 0)
        return -1;
    if (placed == 0) {
        out->offset = file_position(out);
        out->moves = true;
    }
    uint64_t left = out->offset < size ? size - out->offset : 0;
    out->len = (size_t)(count < left ? count : left);
    return read_more(dict, st->str.more_body, out);
}

/* Each link is the value of a Link field (RFC 8297). */
static int read_hint(State *st, PyObject *dict, Message *out)
{
    PyObject *links = get_needed(dict, st->str.links);
    PyObject *name = links != NULL ? PyBytes_FromString("link") : NULL;
    PyObject *item, *iter = name != NULL ? PyObject_GetIter(links) : NULL;
    int rc = iter != NULL ? 0 : -1;
    while (rc == 0 && (item = PyIter_Next(iter)) != NULL) {
        rc = add_field(&out->fields, name, item, FIELDS_HTTP);
        Py_DECREF(item);
    }
    Py_XDECREF(iter);
    Py_XDECREF(name);
    Py_XDECREF(links);
    return rc < 0 || PyErr_Occurred() ? -1 : 0;
}

/* One of text and bytes; the other may be there as None. */
static int read_ws_send(State *st, PyObject *dict, Message *out)
{
    PyObject *text = get_borrowed(dict, st->str.text);
    PyObject *bytes = text != NULL || !PyErr_Occurred() ? get_borrowed(dict, st->str.bytes) : NULL;
    if (PyErr_Occurred())
        return -1;
    bool has_text = text != NULL && text != Py_None, has_bytes = bytes != NULL && bytes != Py_None;
    if (has_text == has_bytes) {
        PyErr_SetString(PyExc_ValueError, "the message needs one of 'text' and 'bytes'");
        return -1;
    }
    out->is_text = has_text;
    if (has_bytes)
        return payload_read(bytes, "bytes", &out->buf, &out->len);
    if (!PyUnicode_Check(text))
        return wrong_type(st->str.text, "str or None", text);
    return payload_read_text(text, &out->buf, &out->len);
}

static int read_ws_close(State *st, PyObject *dict, Message *out)
{
    PyObject *code = get_borrowed(dict, st->str.code);
    if (code == NULL && PyErr_Occurred())
        return -1;
    out->has_code = code != NULL && code != Py_None;
    if (out->has_code && read_code(st, dict, out) < 0)
        return -1;
    return read_text(dict, st->str.reason, &out->text);
}

static int read_kind(State *st, PyObject *dict, Message *out)
{
    switch (out->kind) {
    case MESSAGE_HTTP_START:
        return read_http_start(st, dict, out);
    case MESSAGE_HTTP_BODY:
    case MESSAGE_WT_RESPONSE_BODY:
    case MESSAGE_WS_RESPONSE_BODY:
        return read_body(st, dict, out);
    case MESSAGE_WS_ACCEPT:
        return read_accept(st, dict, FIELDS_SOCKET, out);
    case MESSAGE_WS_SEND:
        return read_ws_send(st, dict, out);
    case MESSAGE_WS_CLOSE:
        return read_ws_close(st, dict, out);
    case MESSAGE_WS_RESPONSE_START:
        return read_response_start(st, dict, FIELDS_SOCKET, out);
    case MESSAGE_HTTP_TRAILERS:
        return read_trailers(st, dict, out);
    case MESSAGE_HTTP_PATH:
        return read_path(st, dict, out);
    case MESSAGE_HTTP_FILE:
        return read_file(st, dict, out);
    case MESSAGE_HTTP_HINT:
        return read_hint(st, dict, out);
    case MESSAGE_WT_ACCEPT:
        return read_accept(st, dict, FIELDS_SESSION, out);
    case MESSAGE_WT_CLOSE:
        return read_wt_close(st, dict, out);
    case MESSAGE_WT_RESPONSE_START:
        return read_response_start(st, dict, FIELDS_SESSION, out);
    case MESSAGE_WT_OPEN:
        return read_wt_open(st, dict, out);
    case MESSAGE_WT_SEND:
        return read_wt_send(st, dict, out);
    case MESSAGE_WT_RESET:
    case MESSAGE_WT_STOP:
        return read_stream_code(st, dict, out);
    case MESSAGE_WT_PAUSE:
    case MESSAGE_WT_RESUME:
        return read_stream_id(st, dict, out);
    case MESSAGE_WT_DATAGRAM:
        return read_wt_datagram(st, dict, out);
    case MESSAGE_WT_DRAIN:
        return 0;
    }
    Py_UNREACHABLE();
}

/* Finds the kind of a message in `types`. */
static int find_kind(State *st, PyObject *types, const char *scope_type, PyObject *dict,
                     Message *out)
{
    if (!PyDict_Check(dict)) {
        PyErr_Format(PyExc_TypeError, "a message must be a dict, not %.100s",
                     Py_TYPE(dict)->tp_name);
        return -1;
    }
    PyObject *type = get_borrowed(dict, st->str.type);
    if (type == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "the message has no 'type'");
        return -1;
    }
    if (!PyUnicode_Check(type))
        return wrong_type(st->str.type, "str", type);
    PyObject *kind = get_borrowed(types, type);
    if (kind == NULL) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "unexpected message %R in a scope of type '%s'", type,
                         scope_type);
        return -1;
    }
    out->kind = (enum message_kind)PyLong_AsLong(kind);
    return 0;
}

int message_read(State *st, PyObject *types, const char *scope_type, PyObject *dict, Message *out)
{
    *out = (Message){0};
    if (find_kind(st, types, scope_type, dict, out) < 0)
        return -1;
    if (read_kind(st, dict, out) == 0)
        return 0;
    PyObject *exc = exception_take();
    message_clear(out);
    exception_give(exc);
    return -1;
}

void message_clear(Message *message)
{
    ph_buf_unref(message->buf);
    message->buf = NULL;
    file_close(message);
    fields_clear(&message->fields);
    Py_CLEAR(message->text);
    Py_CLEAR(message->tag);
}

int message_traverse(const Message *message, visitproc visit, void *arg)
{
    Py_VISIT(message->text);
    Py_VISIT(message->tag);
    return 0;
}
