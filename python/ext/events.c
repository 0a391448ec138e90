/*
 * events.c - the only place where ASGI message dicts are made: what receive() gives. Keys are the
 * interned objects of the module state; docs/asgi-webtransport.md is the contract for the
 * webtransport scope.
 */
#include "ext.h"

int dict_put(PyObject *dict, PyObject *key, PyObject *value)
{
    if (value == NULL)
        return -1;
    int rc = PyDict_SetItem(dict, key, value);
    Py_DECREF(value);
    return rc;
}

static PyObject *fail(PyObject *dict)
{
    Py_DECREF(dict);
    return NULL;
}

PyObject *message_of_type(State *st, PyObject *type)
{
    PyObject *dict = PyDict_New();
    if (dict != NULL && PyDict_SetItem(dict, st->str.type, type) < 0)
        return fail(dict);
    return dict;
}

PyObject *message_http_request(State *st, PyObject *body, bool more)
{
    PyObject *dict = message_of_type(st, st->str.http_request);
    if (dict == NULL)
        return NULL;
    if (PyDict_SetItem(dict, st->str.body, body) < 0 ||
        PyDict_SetItem(dict, st->str.more_body, more ? Py_True : Py_False) < 0)
        return fail(dict);
    return dict;
}

/* The id under both of its names, `stream_id` and `stream`: applications may use either. */
static PyObject *stream_message(State *st, PyObject *type, uint64_t id)
{
    PyObject *dict = message_of_type(st, type);
    if (dict == NULL)
        return NULL;
    PyObject *number = PyLong_FromUnsignedLongLong(id);
    int rc = -1;
    if (number != NULL && PyDict_SetItem(dict, st->str.stream_id, number) == 0)
        rc = PyDict_SetItem(dict, st->str.stream, number);
    Py_XDECREF(number);
    return rc < 0 ? fail(dict) : dict;
}

/* Five keys at most until the last message of a stream: such a dict needs the smallest table. */
PyObject *message_stream_receive(State *st, uint64_t id, PyObject *data, bool end)
{
    PyObject *dict = stream_message(st, st->str.wt_receive, id);
    if (dict == NULL)
        return NULL;
    if (PyDict_SetItem(dict, st->str.data, data) < 0 ||
        PyDict_SetItem(dict, st->str.end_stream, end ? Py_True : Py_False) < 0 ||
        (end && PyDict_SetItem(dict, st->str.more_body, Py_False) < 0))
        return fail(dict);
    return dict;
}

PyObject *message_stream_opened(State *st, uint64_t id, bool bidirectional, PyObject *tag)
{
    PyObject *dict = stream_message(st, st->str.wt_opened, id);
    if (dict == NULL)
        return NULL;
    if (PyDict_SetItem(dict, st->str.bidirectional, bidirectional ? Py_True : Py_False) < 0 ||
        PyDict_SetItem(dict, st->str.tag, tag != NULL ? tag : Py_None) < 0)
        return fail(dict);
    return dict;
}

PyObject *message_stream_code(State *st, PyObject *type, uint64_t id, bool has_code, uint64_t code)
{
    PyObject *dict = stream_message(st, type, id);
    if (dict == NULL)
        return NULL;
    PyObject *value = has_code ? PyLong_FromUnsignedLongLong(code) : Py_NewRef(Py_None);
    return dict_put(dict, st->str.code, value) < 0 ? fail(dict) : dict;
}

PyObject *message_datagram(State *st, PyObject *data)
{
    PyObject *dict = message_of_type(st, st->str.wt_datagram);
    if (dict != NULL && PyDict_SetItem(dict, st->str.data, data) < 0)
        return fail(dict);
    return dict;
}

PyObject *message_drain(State *st, bool local)
{
    PyObject *dict = message_of_type(st, st->str.wt_drain);
    if (dict != NULL && PyDict_SetItem(dict, st->str.local, local ? Py_True : Py_False) < 0)
        return fail(dict);
    return dict;
}

/* The message leaves the inbox when its dict is made: without memory for that, it is still the next
 * one. */
PyObject *message_socket_receive(State *st, Inbox *inbox, bool text)
{
    PyObject *dict = message_of_type(st, st->str.ws_receive);
    if (dict == NULL)
        return NULL;
    const Piece *piece = &inbox->ring[inbox->head];
    const char *p = (const char *)piece->p;
    PyObject *value = text ? PyUnicode_DecodeUTF8(p, (Py_ssize_t)piece->n, NULL)
                           : PyBytes_FromStringAndSize(p, (Py_ssize_t)piece->n);
    if (dict_put(dict, text ? st->str.text : st->str.bytes, value) < 0)
        return fail(dict);
    inbox_drop_piece(inbox);
    return dict;
}

PyObject *message_socket_disconnect(State *st, uint32_t code, PyObject *reason)
{
    PyObject *dict = message_of_type(st, st->str.ws_disconnect);
    if (dict == NULL)
        return NULL;
    if (dict_put(dict, st->str.code, PyLong_FromUnsignedLong(code)) < 0 ||
        PyDict_SetItem(dict, st->str.reason, reason) < 0)
        return fail(dict);
    return dict;
}

PyObject *message_wt_disconnect(State *st, uint32_t code, PyObject *reason, bool clean)
{
    PyObject *dict = message_of_type(st, st->str.wt_disconnect);
    if (dict == NULL)
        return NULL;
    if (dict_put(dict, st->str.code, PyLong_FromUnsignedLong(code)) < 0 ||
        PyDict_SetItem(dict, st->str.reason, reason) < 0 ||
        PyDict_SetItem(dict, st->str.clean, clean ? Py_True : Py_False) < 0)
        return fail(dict);
    return dict;
}
