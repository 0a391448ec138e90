/*
 * module.c - the module pronghorn._core: multi-phase initialisation, module state, exceptions and
 * the functions that need no server.
 *
 * The module is imported by the package only; its interface is described by _core.pyi. All state is
 * in State, so that each interpreter that imports it has its own.
 */
#include "ext.h"

#include <string.h>

/* Bytes of the fixed texts that the core writes into our buffers. */
#define PATH_TEXT 4096
#define ERROR_TEXT 1024

static State *state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

/* --- Functions --- */

static PyObject *core_options(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    PyObject *list = PyList_New(0);
    ph_option option;
    for (size_t i = 0; list != NULL && ph_config_option(i, &option) == PH_OK; i++) {
        PyObject *item =
            Py_BuildValue("(sssssO)", option.name, option.type, option.default_value,
                          option.accepts, option.help, option.repeatable ? Py_True : Py_False);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *core_dev_certificate(PyObject *module, PyObject *arg)
{
    PyObject *dir;
    if (!PyUnicode_FSConverter(arg, &dir))
        return NULL;
    char cert[PATH_TEXT], key[PATH_TEXT], err[ERROR_TEXT] = "";
    uint8_t sha256[32];
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = ph_dev_certificate(PyBytes_AS_STRING(dir), cert, sizeof(cert), key, sizeof(key), sha256,
                            err, sizeof(err));
    Py_END_ALLOW_THREADS
    Py_DECREF(dir);
    if (rc != PH_OK) {
        PyErr_SetString(rc == PH_E_IO ? PyExc_OSError : state_of(module)->certificate_error, err);
        return NULL;
    }
    PyObject *cert_text = PyUnicode_DecodeFSDefault(cert);
    PyObject *key_text = PyUnicode_DecodeFSDefault(key);
    PyObject *result = NULL;
    if (cert_text != NULL && key_text != NULL)
        result = Py_BuildValue("(OOy#)", cert_text, key_text, sha256, (Py_ssize_t)sizeof(sha256));
    Py_XDECREF(cert_text);
    Py_XDECREF(key_text);
    return result;
}

static int put_count(PyObject *dict, const char *prefix, const char *name, int64_t count)
{
    PyObject *key = PyUnicode_FromFormat("%s.%s", prefix, name);
    PyObject *value = PyLong_FromLongLong(count);
    int rc = -1;
    if (key != NULL && value != NULL)
        rc = PyDict_SetItem(dict, key, value);
    Py_XDECREF(key);
    Py_XDECREF(value);
    return rc;
}

static PyObject *core_live_objects(PyObject *module, PyObject *Py_UNUSED(unused))
{
    static const char *const kinds[LIVE_KINDS] = {"server", "exchange", "session", "stream",
                                                  "await",  "task",     "socket"};
    const State *st = state_of(module);
    PyObject *dict = PyDict_New();
    const char *name;
    int64_t count;
    for (size_t i = 0; dict != NULL && ph_live_objects(i, &name, &count) == PH_OK; i++) {
        if (put_count(dict, "core", name, count) < 0)
            Py_CLEAR(dict);
    }
    for (size_t i = 0; dict != NULL && i < LIVE_KINDS; i++) {
        if (put_count(dict, "py", kinds[i], st->live[i]) < 0)
            Py_CLEAR(dict);
    }
    return dict;
}

static PyMethodDef module_methods[] = {
    {"options", core_options, METH_NOARGS,
     PyDoc_STR("Every option of the server: (name, type, default, accepts, help, repeatable).")},
    {"dev_certificate", core_dev_certificate, METH_O,
     PyDoc_STR("Makes or renews a development certificate: (cert_path, key_path, sha256).")},
    {"live_objects", core_live_objects, METH_NOARGS,
     PyDoc_STR("Objects alive by kind, for leak assertions.")},
    {NULL, NULL, 0, NULL},
};

/* --- State --- */

static int init_names(State *st)
{
#define NAME_INIT(id, text)                                                                        \
    st->str.id = PyUnicode_InternFromString(text);                                                 \
    if (st->str.id == NULL)                                                                        \
        return -1;
    NAMES(NAME_INIT)
#undef NAME_INIT
    st->empty_bytes = PyBytes_FromStringAndSize(NULL, 0);
    st->name_only = PyTuple_Pack(1, st->str.name);
    return st->empty_bytes == NULL || st->name_only == NULL ? -1 : 0;
}

struct type_name {
    const char *text;
    enum message_kind kind;
};

static const struct type_name http_types[] = {
    {"http.response.start", MESSAGE_HTTP_START},
    {"http.response.body", MESSAGE_HTTP_BODY},
    {"http.response.trailers", MESSAGE_HTTP_TRAILERS},
    {"http.response.pathsend", MESSAGE_HTTP_PATH},
    {"http.response.zerocopysend", MESSAGE_HTTP_FILE},
    {"http.response.early_hint", MESSAGE_HTTP_HINT},
};

/* With the aliases of stop_sending; see docs/asgi-webtransport.md. */
static const struct type_name wt_types[] = {
    {"webtransport.accept", MESSAGE_WT_ACCEPT},
    {"webtransport.close", MESSAGE_WT_CLOSE},
    {"webtransport.http.response.start", MESSAGE_WT_RESPONSE_START},
    {"webtransport.http.response.body", MESSAGE_WT_RESPONSE_BODY},
    {"webtransport.stream.open", MESSAGE_WT_OPEN},
    {"webtransport.stream.send", MESSAGE_WT_SEND},
    {"webtransport.stream.reset", MESSAGE_WT_RESET},
    {"webtransport.stream.stop_sending", MESSAGE_WT_STOP},
    {"webtransport.stream.stop_receiving", MESSAGE_WT_STOP},
    {"webtransport.stream.pause", MESSAGE_WT_PAUSE},
    {"webtransport.stream.resume", MESSAGE_WT_RESUME},
    {"webtransport.datagram.send", MESSAGE_WT_DATAGRAM},
    {"webtransport.drain", MESSAGE_WT_DRAIN},
};

static const struct type_name ws_types[] = {
    {"websocket.accept", MESSAGE_WS_ACCEPT},
    {"websocket.send", MESSAGE_WS_SEND},
    {"websocket.close", MESSAGE_WS_CLOSE},
    {"websocket.http.response.start", MESSAGE_WS_RESPONSE_START},
    {"websocket.http.response.body", MESSAGE_WS_RESPONSE_BODY},
};

static PyObject *types_dict(const struct type_name *types, size_t n)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < n; i++) {
        PyObject *key = PyUnicode_InternFromString(types[i].text);
        PyObject *value = PyLong_FromLong(types[i].kind);
        if (key == NULL || value == NULL || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

static int init_exceptions(PyObject *module, State *st)
{
    st->config_error = PyErr_NewExceptionWithDoc(
        "pronghorn._core.ConfigError",
        "An option was refused; the text says which and what is accepted.", PyExc_ValueError, NULL);
    st->certificate_error =
        PyErr_NewExceptionWithDoc("pronghorn._core.CertificateError",
                                  "A certificate or key cannot be used.", st->config_error, NULL);
    st->client_disconnected = PyErr_NewExceptionWithDoc(
        "pronghorn._core.ClientDisconnected",
        "Raised by send() when the client is gone. Letting it propagate is fine.", PyExc_OSError,
        NULL);
    if (st->config_error == NULL || st->certificate_error == NULL ||
        st->client_disconnected == NULL)
        return -1;
    PyObject *exceptions = PyImport_ImportModule("asyncio.exceptions");
    if (exceptions == NULL)
        return -1;
    st->cancelled_error = PyObject_GetAttrString(exceptions, "CancelledError");
    Py_DECREF(exceptions);
    if (st->cancelled_error == NULL)
        return -1;
    if (PyModule_AddObjectRef(module, "ConfigError", st->config_error) < 0 ||
        PyModule_AddObjectRef(module, "CertificateError", st->certificate_error) < 0)
        return -1;
    return PyModule_AddObjectRef(module, "ClientDisconnected", st->client_disconnected);
}

static int core_exec(PyObject *module)
{
    State *st = state_of(module);
    if (init_names(st) < 0 || init_exceptions(module, st) < 0)
        return -1;
    st->http_types = types_dict(http_types, sizeof(http_types) / sizeof(http_types[0]));
    st->wt_types = types_dict(wt_types, sizeof(wt_types) / sizeof(wt_types[0]));
    st->ws_types = types_dict(ws_types, sizeof(ws_types) / sizeof(ws_types[0]));
    if (st->http_types == NULL || st->wt_types == NULL || st->ws_types == NULL ||
        scope_init(st) < 0)
        return -1;
    if (server_type_new(module, st) < 0 || http_type_new(module, st) < 0 ||
        session_type_new(module, st) < 0 || socket_type_new(module, st) < 0 ||
        await_type_new(module, st) < 0 || run_type_new(module, st) < 0)
        return -1;
    if (PyModule_AddType(module, st->server_type) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "__version__", ph_version());
}

/* Names and empty_bytes are in no cycle, and objects that outlive tp_clear still ask for them: they
 * go with the module, in core_free(). */
static int core_traverse(PyObject *module, visitproc visit, void *arg)
{
    const State *st = state_of(module);
    Py_VISIT(st->server_type);
    Py_VISIT(st->exchange_type);
    Py_VISIT(st->session_type);
    Py_VISIT(st->socket_type);
    Py_VISIT(st->await_type);
    Py_VISIT(st->run_type);
    Py_VISIT(st->config_error);
    Py_VISIT(st->certificate_error);
    Py_VISIT(st->client_disconnected);
    Py_VISIT(st->cancelled_error);
    Py_VISIT(st->http_types);
    Py_VISIT(st->wt_types);
    Py_VISIT(st->ws_types);
    Py_VISIT(st->features);
    return 0;
}

static int core_clear(PyObject *module)
{
    State *st = state_of(module);
    Py_CLEAR(st->server_type);
    Py_CLEAR(st->exchange_type);
    Py_CLEAR(st->session_type);
    Py_CLEAR(st->socket_type);
    Py_CLEAR(st->await_type);
    Py_CLEAR(st->run_type);
    Py_CLEAR(st->config_error);
    Py_CLEAR(st->certificate_error);
    Py_CLEAR(st->client_disconnected);
    Py_CLEAR(st->cancelled_error);
    Py_CLEAR(st->http_types);
    Py_CLEAR(st->wt_types);
    Py_CLEAR(st->ws_types);
    Py_CLEAR(st->features);
    return 0;
}

static void core_free(void *module)
{
    State *st = state_of(module);
    core_clear(module);
#define NAME_FREE(id, text) Py_CLEAR(st->str.id);
    NAMES(NAME_FREE)
#undef NAME_FREE
    Py_CLEAR(st->empty_bytes);
    Py_CLEAR(st->name_only);
    for (size_t i = 0; i < HEADER_SLOTS; i++)
        Py_CLEAR(st->header_names[i]);
}

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, core_exec},
    {0, NULL},
};

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pronghorn._core",
    .m_doc = PyDoc_STR("Pronghorn's server core for CPython; see _core.pyi."),
    .m_size = sizeof(State),
    .m_methods = module_methods,
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
