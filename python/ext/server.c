/*
 * server.c - the Server type: configuration, start on a loop, drain, statistics, close.
 *
 * A Server owns one ph_server. Construction binds and listens; start() ties it to the running
 * thread and its loop. Everything after start() is to be called on that thread.
 *
 * Closing never blocks with the interpreter lock held: the core is asked to stop, its events are
 * taken while the lock is given up between them, and only when its I/O thread has ended is it
 * freed. Wrapped payloads are thereby always released with the lock held.
 */
#include "ext.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define ERROR_TEXT 1024
#define ADDRESS_TEXT 256

/* How long close() waits for the I/O thread to say that it has ended. It takes no part in anything
 * that can block for long, so this is never used up unless it hangs; freeing then joins it. */
#define STOP_WAIT_MS 5000

/* --- Construction --- */

static int set_option(State *st, ph_config *config, PyObject *pair)
{
    PyObject *item = PySequence_Fast(pair, "each option must be a (name, value) pair");
    if (item == NULL)
        return -1;
    int rc = -1;
    if (PySequence_Fast_GET_SIZE(item) != 2) {
        PyErr_SetString(PyExc_ValueError, "each option must be a (name, value) pair");
        goto out;
    }
    PyObject *value_borrowed = PySequence_Fast_GET_ITEM(item, 1);
    const char *name = PyUnicode_AsUTF8(PySequence_Fast_GET_ITEM(item, 0));
    const char *value = NULL;
    if (name != NULL && value_borrowed != Py_None)
        value = PyUnicode_AsUTF8(value_borrowed);
    if (name == NULL || (value == NULL && value_borrowed != Py_None))
        goto out;
    if (ph_config_set(config, name, value) != PH_OK)
        PyErr_SetString(st->config_error, ph_config_error(config));
    else
        rc = 0;
out:
    Py_DECREF(item);
    return rc;
}

static int set_options(State *st, ph_config *config, PyObject *options)
{
    PyObject *list = PySequence_Fast(options, "options must be a list of (name, value) pairs");
    if (list == NULL)
        return -1;
    int rc = 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PySequence_Fast_GET_SIZE(list); i++)
        rc = set_option(st, config, PySequence_Fast_GET_ITEM(list, i));
    Py_DECREF(list);
    return rc;
}

static PyObject *server_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"options", NULL};
    PyObject *options;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Server", names, &options))
        return NULL;
    State *st = PyType_GetModuleState(type);
    ph_config *config = ph_config_new();
    if (set_options(st, config, options) < 0) {
        ph_config_free(config);
        return NULL;
    }
    char err[ERROR_TEXT] = "";
    ph_server *core = NULL;
    int rc;
    Py_BEGIN_ALLOW_THREADS /* names are resolved and keys derived, which may take seconds */
    rc = ph_server_new(&core, config, err, sizeof(err));
    ph_config_free(config);
    Py_END_ALLOW_THREADS
    if (rc != PH_OK) {
        PyObject *kind_borrowed = rc == PH_E_IO    ? PyExc_OSError
                                  : rc == PH_E_TLS ? st->certificate_error
                                                   : st->config_error;
        PyErr_SetString(kind_borrowed, err[0] != '\0' ? err : ph_strerror(rc));
        return NULL;
    }
    Server *server = (Server *)type->tp_alloc(type, 0);
    if (server == NULL) {
        ph_server_free(core);
        return NULL;
    }
    server->st = st;
    list_init(&server->channels);
    server->lock = PyThread_allocate_lock();
    if (server->lock == NULL) {
        ph_server_free(core);
        Py_DECREF(server);
        return PyErr_NoMemory();
    }
    server->core = core;
    st->live[LIVE_SERVER]++;
    return (PyObject *)server;
}

/* --- Start --- */

static int take_callback(PyObject **slot, PyObject *value, const char *name)
{
    if (value == NULL || value == Py_None)
        return 0;
    if (!PyCallable_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable or None", name);
        return -1;
    }
    *slot = Py_NewRef(value);
    return 0;
}

/* root_path without a trailing "/", as text and as bytes. */
static int take_root_path(Server *server, PyObject *root_path)
{
    if (root_path == NULL) {
        server->root_path = Py_NewRef(server->st->str.empty);
    } else if (PyUnicode_Check(root_path)) {
        Py_ssize_t n = PyUnicode_GET_LENGTH(root_path);
        while (n > 0 && PyUnicode_READ_CHAR(root_path, n - 1) == '/')
            n--;
        server->root_path = PyUnicode_Substring(root_path, 0, n);
    } else {
        PyErr_SetString(PyExc_TypeError, "root_path must be str");
    }
    if (server->root_path != NULL)
        server->root_path_bytes = PyUnicode_AsUTF8String(server->root_path);
    return server->root_path_bytes == NULL ? -1 : 0;
}

/* Its methods are bound once: each request needs them, and a bound method is an object. */
static int take_loop(Server *server, PyObject *loop)
{
    server->loop = Py_NewRef(loop);
    server->create_task = PyObject_GetAttrString(loop, "create_task");
    if (server->create_task == NULL)
        return -1;
    server->create_future = PyObject_GetAttrString(loop, "create_future");
    if (server->create_future == NULL)
        return -1;
    server->call_soon = PyObject_GetAttrString(loop, "call_soon");
    if (server->call_soon == NULL)
        return -1;
    server->pump_method = PyObject_GetAttrString((PyObject *)server, "_pump");
    if (server->pump_method == NULL)
        return -1;
    server->flush_method = PyObject_GetAttrString((PyObject *)server, "_flush");
    return server->flush_method == NULL ? -1 : 0;
}

static int clear_refs(Server *server)
{
    Py_CLEAR(server->app);
    Py_CLEAR(server->loop);
    Py_CLEAR(server->state);
    Py_CLEAR(server->root_path);
    Py_CLEAR(server->root_path_bytes);
    Py_CLEAR(server->log);
    Py_CLEAR(server->on_app_error);
    Py_CLEAR(server->on_access);
    Py_CLEAR(server->on_stopped);
    Py_CLEAR(server->http_template);
    Py_CLEAR(server->wt_template);
    Py_CLEAR(server->ws_template);
    Py_CLEAR(server->own_address);
    Py_CLEAR(server->tls.facts);
    Py_CLEAR(server->tls.cert);
    Py_CLEAR(server->create_task);
    Py_CLEAR(server->create_future);
    Py_CLEAR(server->call_soon);
    Py_CLEAR(server->pump_method);
    Py_CLEAR(server->flush_method);
    return 0;
}

/* The I/O thread first: in a forked child the descriptor is made by it. */
static int start_core(Server *server)
{
    int rc = ph_server_start(server->core);
    if (rc != PH_OK) {
        PyErr_SetString(PyExc_OSError, ph_strerror(rc));
        return -1;
    }
    server->started = true;
    server->thread = PyThread_get_thread_ident();
    PyObject *none = PyObject_CallMethod(server->loop, "add_reader", "iO",
                                         ph_server_fd(server->core), server->pump_method);
    if (none == NULL)
        return -1;
    Py_DECREF(none);
    server->reading = true;
    return 0;
}

static PyObject *server_start(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"app",          "loop",      "state",      "root_path", "log",
                            "on_app_error", "on_access", "on_stopped", NULL};
    Server *server = (Server *)self;
    PyObject *app, *loop, *state = NULL, *root_path = NULL, *log = NULL, *on_app_error = NULL,
                          *on_access = NULL, *on_stopped = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOOOOO:start", names, &app, &loop, &state,
                                     &root_path, &log, &on_app_error, &on_access, &on_stopped))
        return NULL;
    if (server->core == NULL || server->started) {
        PyErr_SetString(PyExc_RuntimeError, "the server was started or closed already");
        return NULL;
    }
    if (state != NULL && state != Py_None && !PyDict_Check(state)) {
        PyErr_SetString(PyExc_TypeError, "state must be a dict or None");
        return NULL;
    }
    server->app = Py_NewRef(app);
    server->state = state != NULL && state != Py_None ? Py_NewRef(state) : NULL;
    if (take_callback(&server->log, log, "log") == 0 &&
        take_callback(&server->on_app_error, on_app_error, "on_app_error") == 0 &&
        take_callback(&server->on_access, on_access, "on_access") == 0 &&
        take_callback(&server->on_stopped, on_stopped, "on_stopped") == 0 &&
        take_root_path(server, root_path) == 0 && scope_prepare(server) == 0 &&
        take_loop(server, loop) == 0 && start_core(server) == 0)
        Py_RETURN_NONE;
    PyObject *exc = exception_take();
    if (server->started)
        server_close(server);
    clear_refs(server);
    exception_give(exc);
    return NULL;
}

/* --- Stop --- */

void server_stop_reading(Server *server)
{
    if (!server->reading)
        return;
    server->reading = false;
    PyObject *pending = exception_take();
    PyObject *done =
        PyObject_CallMethod(server->loop, "remove_reader", "i", ph_server_fd(server->core));
    if (done == NULL)
        PyErr_Clear(); /* the loop is closed, which removed it */
    Py_XDECREF(done);
    exception_give(pending);
}

/* Takes and drops events until the I/O thread has ended. Channels that come meanwhile are released
 * with the server. */
static void drop_events(ph_server *core)
{
    ph_event event;
    struct pollfd pfd = {.fd = ph_server_fd(core), .events = POLLIN};
    int ready = 1;
    while (ready > 0) {
        while (ph_server_next(core, &event) == 1) {
            ph_buf_unref(event.buf);
            if (event.kind == PH_EVENT_STOPPED)
                return;
        }
        Py_BEGIN_ALLOW_THREADS
        do {
            ready = poll(&pfd, 1, STOP_WAIT_MS);
        } while (ready < 0 && errno == EINTR);
        Py_END_ALLOW_THREADS
    }
}

/* Cuts every channel object off the core; what waits for them is woken and finds out. Waking can
 * run anything, so those to be done are on a list of their own: any of them may leave it. */
static void detach_all(Server *server)
{
    Link todo;
    list_init(&todo);
    while (!list_is_empty(&server->channels)) {
        Link *link = server->channels.next;
        link_remove(link);
        list_append(&todo, link);
    }
    while (!list_is_empty(&todo)) {
        Link *link = todo.next;
        link_remove(link);
        list_append(&server->channels, link);
        Channel *channel = CONTAINER(link, Channel, link);
        Py_INCREF((PyObject *)channel);
        channel->closed = true;
        channel_release(channel);
        channel->ops->detach(channel);
        channel_settle(channel);
        Py_DECREF((PyObject *)channel);
    }
}

/* Waits, when it has to, without the interpreter lock. */
static void lock_take(Server *server)
{
    if (PyThread_acquire_lock(server->lock, NOWAIT_LOCK) != 0)
        return;
    Py_BEGIN_ALLOW_THREADS
    PyThread_acquire_lock(server->lock, WAIT_LOCK);
    Py_END_ALLOW_THREADS
}

void server_close(Server *server)
{
    ph_server *core = server->core;
    if (core == NULL)
        return;
    if (server->in_pump) { /* called by a callback of an event that is still being handled */
        server->close_wanted = true;
        return;
    }
    server_stop_reading(server);
    server_enter(server);
    detach_all(server);
    lock_take(server); /* a reload on another thread ends first */
    server->core = NULL;
    PyThread_release_lock(server->lock);
    server->dirty = false;
    server_leave(server);
    if (server->started && !server->stopped) {
        ph_server_drain(core, 0);
        drop_events(core);
    }
    server->stopped = true;
    ph_server_stats(core, &server->last_stats);
    ph_server_free(core);
    server->st->live[LIVE_SERVER]--;
    Py_CLEAR(server->pump_method); /* they hold the server */
    Py_CLEAR(server->flush_method);
}

/* Any thread. */
static PyObject *server_reload(PyObject *self, PyObject *Py_UNUSED(unused))
{
    Server *server = (Server *)self;
    char err[ERROR_TEXT] = "";
    int rc = PH_E_CLOSED;
    lock_take(server);
    ph_server *core = server->core;
    if (core != NULL) {
        Py_BEGIN_ALLOW_THREADS
        rc = ph_server_reload(core, err, sizeof(err));
        Py_END_ALLOW_THREADS
    }
    PyThread_release_lock(server->lock);
    if (rc == PH_OK)
        Py_RETURN_NONE;
    PyObject *kind_borrowed = rc == PH_E_TLS ? server->st->certificate_error : PyExc_OSError;
    PyErr_SetString(kind_borrowed, err[0] != '\0' ? err : ph_strerror(rc));
    return NULL;
}

static PyObject *server_certificates(PyObject *self, PyObject *Py_UNUSED(unused))
{
    Server *server = (Server *)self;
    ph_certificate found;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && server->core != NULL &&
                       ph_server_certificate(server->core, i, &found) == PH_OK;
         i++) {
        PyObject *item = Py_BuildValue("(y#LO)", found.sha256, (Py_ssize_t)sizeof(found.sha256),
                                       (long long)found.expires, found.dev ? Py_True : Py_False);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *server_close_method(PyObject *self, PyObject *Py_UNUSED(unused))
{
    Server *server = (Server *)self;
    if (server->started && server->core != NULL && server_check_thread(server) < 0)
        return NULL;
    server_close(server);
    Py_RETURN_NONE;
}

static PyObject *server_drain(PyObject *self, PyObject *arg)
{
    Server *server = (Server *)self;
    unsigned long ms = PyLong_AsUnsignedLong(arg);
    if (ms == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (server->core == NULL || !server->started || server->stopped)
        Py_RETURN_NONE;
    if (server_check_thread(server) < 0)
        return NULL;
    ph_server_drain(server->core, ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms);
    Py_RETURN_NONE;
}

/* --- Questions --- */

static PyObject *server_tasks(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Server *server = (Server *)self;
    PyObject *list = PyList_New(0);
    for (const Link *link = server->channels.next; list != NULL && link != &server->channels;
         link = link->next) {
        const Channel *channel = CONTAINER(link, Channel, link);
        if (channel->task != NULL && PyList_Append(list, channel->task) < 0)
            Py_CLEAR(list);
    }
    return list;
}

/* is_cancelling: a task that ends without an answer from here on is no fault of the application's,
 * and is not reported. */
static PyObject *server_cancel_all(PyObject *self, PyObject *Py_UNUSED(unused))
{
    PyObject *tasks = server_tasks(self, NULL);
    if (tasks == NULL)
        return NULL;
    ((Server *)self)->is_cancelling = true;
    Py_ssize_t n = PyList_GET_SIZE(tasks);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *done =
            PyObject_CallMethodNoArgs(PyList_GET_ITEM(tasks, i), ((Server *)self)->st->str.cancel);
        if (done == NULL) {
            Py_DECREF(tasks);
            return NULL;
        }
        Py_DECREF(done);
    }
    Py_DECREF(tasks);
    return PyLong_FromSsize_t(n);
}

static PyObject *server_addresses(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Server *server = (Server *)self;
    PyObject *list = PyList_New(0);
    const char *kind;
    char text[ADDRESS_TEXT];
    for (size_t i = 0; list != NULL && server->core != NULL &&
                       ph_server_address(server->core, i, &kind, text, sizeof(text)) == PH_OK;
         i++) {
        PyObject *item = Py_BuildValue("(ss)", kind, text);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *server_sockets(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Server *server = (Server *)self;
    PyObject *list = PyList_New(0);
    int fd;
    for (size_t i = 0;
         list != NULL && server->core != NULL && (fd = ph_server_socket(server->core, i)) >= 0;
         i++) {
        PyObject *item = PyLong_FromLong(fd);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* Of a list that nobody gets: the last one may not be in it, when memory is short. */
static void close_all(PyObject **list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(*list); i++)
        close((int)PyLong_AsLong(PyList_GET_ITEM(*list, i)));
    Py_CLEAR(*list);
}

static PyObject *server_open_siblings(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Server *server = (Server *)self;
    PyObject *list = PyList_New(0);
    char err[ERROR_TEXT] = "";
    for (size_t i = 0;
         list != NULL && server->core != NULL && ph_server_socket(server->core, i) >= 0; i++) {
        int fd = ph_server_open_sibling(server->core, i, err, sizeof(err));
        if (fd == PH_E_NOTFOUND)
            continue;
        PyObject *item = fd >= 0 ? PyLong_FromLong(fd) : NULL;
        if (fd < 0)
            PyErr_SetString(PyExc_OSError, err);
        if (item == NULL || PyList_Append(list, item) < 0)
            close_all(&list);
        Py_XDECREF(item);
    }
    return list;
}

/* False: the kernel does not do it, and the workers pass packets on. */
static PyObject *server_steer(PyObject *self, PyObject *args)
{
    const Server *server = (Server *)self;
    unsigned sockets, spread;
    if (!PyArg_ParseTuple(args, "II:steer", &sockets, &spread))
        return NULL;
    int rc = server->core != NULL ? ph_server_steer(server->core, sockets, spread) : PH_E_STATE;
    if (rc == PH_E_INVAL || rc == PH_E_STATE) {
        PyErr_SetString(PyExc_ValueError, ph_strerror(rc));
        return NULL;
    }
    return PyBool_FromLong(rc == PH_OK);
}

/* The descriptors of this and the next belong to the core from then on. */
static PyObject *server_mesh(PyObject *self, PyObject *arg)
{
    const Server *server = (Server *)self;
    int fd = (int)PyLong_AsLong(arg);
    if (fd < 0 && PyErr_Occurred())
        return NULL;
    if (server->core == NULL || ph_server_mesh(server->core, fd) != PH_OK) {
        PyErr_SetString(PyExc_RuntimeError, "the server was started or closed already");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *server_peer(PyObject *self, PyObject *args)
{
    Server *server = (Server *)self;
    unsigned short worker;
    int fd;
    if (!PyArg_ParseTuple(args, "Hi:peer", &worker, &fd))
        return NULL;
    if (server->core == NULL || server->stopped) { /* there is nobody to pass on for any more */
        if (fd >= 0)
            close(fd);
        Py_RETURN_NONE;
    }
    if (server->started && server_check_thread(server) < 0)
        return NULL;
    ph_server_peer(server->core, worker, fd);
    Py_RETURN_NONE;
}

static PyObject *server_hand_over(PyObject *self, PyObject *Py_UNUSED(unused))
{
    Server *server = (Server *)self;
    if (server->core == NULL || !server->started || server->stopped)
        Py_RETURN_NONE;
    if (server_check_thread(server) < 0)
        return NULL;
    ph_server_hand_over(server->core);
    Py_RETURN_NONE;
}

static PyObject *server_stats(PyObject *self, PyObject *Py_UNUSED(unused))
{
    const Server *server = (Server *)self;
    ph_stats stats = server->last_stats;
    if (server->core != NULL)
        ph_server_stats(server->core, &stats);
    PyObject *dict = PyDict_New();
    if (dict == NULL)
        return NULL;
    PyObject *value;
#define PUT_STAT(name)                                                                             \
    value = PyLong_FromUnsignedLongLong(stats.name);                                               \
    if (value == NULL || PyDict_SetItemString(dict, #name, value) < 0) {                           \
        Py_XDECREF(value);                                                                         \
        Py_DECREF(dict);                                                                           \
        return NULL;                                                                               \
    }                                                                                              \
    Py_DECREF(value);
    PH_STATS_LIST(PUT_STAT)
#undef PUT_STAT
    return dict;
}

static PyObject *get_fd(PyObject *self, void *Py_UNUSED(closure))
{
    const Server *server = (Server *)self;
    return PyLong_FromLong(server->core != NULL ? ph_server_fd(server->core) : -1);
}

static PyObject *get_running(PyObject *self, void *Py_UNUSED(closure))
{
    const Server *server = (Server *)self;
    return PyBool_FromLong(server->started && !server->stopped);
}

/* --- Type --- */

static int server_traverse(PyObject *self, visitproc visit, void *arg)
{
    Server *server = (Server *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(server->app);
    Py_VISIT(server->loop);
    Py_VISIT(server->state);
    Py_VISIT(server->root_path);
    Py_VISIT(server->root_path_bytes);
    Py_VISIT(server->log);
    Py_VISIT(server->on_app_error);
    Py_VISIT(server->on_access);
    Py_VISIT(server->on_stopped);
    Py_VISIT(server->http_template);
    Py_VISIT(server->wt_template);
    Py_VISIT(server->tls.facts);
    Py_VISIT(server->ws_template);
    Py_VISIT(server->own_address);
    Py_VISIT(server->create_task);
    Py_VISIT(server->create_future);
    Py_VISIT(server->call_soon);
    Py_VISIT(server->pump_method);
    Py_VISIT(server->flush_method);
    if (server->channels.next == NULL) /* not made whole: server_new() failed */
        return 0;
    for (const Link *link = server->channels.next; link != &server->channels; link = link->next)
        Py_VISIT((PyObject *)CONTAINER(link, Channel, link));
    return 0;
}

/* Runs before anything is cleared, with every reference still good. */
static void server_finalize(PyObject *self)
{
    PyObject *pending = exception_take();
    server_close((Server *)self);
    exception_give(pending);
}

static int server_clear(PyObject *self)
{
    return clear_refs((Server *)self);
}

static void server_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0)
        return;
    PyObject_GC_UnTrack(self);
    server_clear(self);
    if (((Server *)self)->lock != NULL)
        PyThread_free_lock(((Server *)self)->lock);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef server_methods[] = {
    {"start", (PyCFunction)(void (*)(void))server_start, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("Starts the I/O thread and serves `app` on `loop`.")},
    {"drain", server_drain, METH_O,
     PyDoc_STR("Begins a graceful stop with a deadline in milliseconds.")},
    {"close", server_close_method, METH_NOARGS, PyDoc_STR("Stops at once and frees everything.")},
    {"reload", server_reload, METH_NOARGS, PyDoc_STR("Loads certificates again. Any thread.")},
    {"certificates", server_certificates, METH_NOARGS,
     PyDoc_STR("Certificates loaded last: (sha256, expires, dev).")},
    {"tasks", server_tasks, METH_NOARGS, PyDoc_STR("Application tasks that are running.")},
    {"cancel_all", server_cancel_all, METH_NOARGS,
     PyDoc_STR("Cancels every application task; how many.")},
    {"addresses", server_addresses, METH_NOARGS, PyDoc_STR("Bound addresses: (kind, text).")},
    {"sockets", server_sockets, METH_NOARGS,
     PyDoc_STR("Descriptors of the bound sockets, in the order of addresses().")},
    {"open_siblings", server_open_siblings, METH_NOARGS,
     PyDoc_STR("One more UDP socket for each QUIC address.")},
    {"steer", server_steer, METH_VARARGS,
     PyDoc_STR("Has the kernel give QUIC packets to the worker they belong to.")},
    {"mesh", server_mesh, METH_O, PyDoc_STR("Where other workers pass packets on to.")},
    {"peer", server_peer, METH_VARARGS, PyDoc_STR("Where packets of another worker go.")},
    {"hand_over", server_hand_over, METH_NOARGS,
     PyDoc_STR("A successor reads the UDP sockets from now on.")},
    {"stats", server_stats, METH_NOARGS, PyDoc_STR("Counters since start.")},
    {"_pump", server_pump, METH_NOARGS, NULL},
    {"_flush", server_flush, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef server_getset[] = {
    {"fd", get_fd, NULL, "The descriptor that the loop polls; -1 once closed.", NULL},
    {"running", get_running, NULL, "Started and not yet stopped.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot server_slots[] = {
    {Py_tp_doc, "Server(options): one bound server; see _core.pyi."},
    {Py_tp_new, server_new},
    {Py_tp_dealloc, server_dealloc},
    {Py_tp_finalize, server_finalize},
    {Py_tp_traverse, server_traverse},
    {Py_tp_clear, server_clear},
    {Py_tp_methods, server_methods},
    {Py_tp_getset, server_getset},
    {0, NULL},
};

static PyType_Spec server_spec = {
    .name = "pronghorn._core.Server",
    .basicsize = sizeof(Server),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = server_slots,
};

int server_type_new(PyObject *module, State *st)
{
    st->server_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &server_spec, NULL);
    return st->server_type == NULL ? -1 : 0;
}
