/*
 * task.c - the coroutine of an application's task.
 *
 * The application runs in an asyncio Task of its own, which gives it its own contextvars. What the
 * Task steps is not the application's coroutine but a Run around it. The Run calls
 * `app(scope, receive, send)` in its first step, so that also this call happens inside the Task's
 * context; it sees the end of the application at once, without a done callback and its turn of the
 * loop; and it keeps SystemExit and KeyboardInterrupt raised by an application from ending the
 * loop.
 *
 * Everything the application said to the core during one step is flushed when the step ends.
 */
#include "ext.h"

typedef struct Run {
    PyObject_HEAD
    State *st;
    Channel *channel;      /* own; NULL once the application has ended */
    PyObject *coro;        /* own; NULL before the first step and after the end */
    PyObject *frame_owner; /* own; the application's awaitable, for cr_frame and friends */
    bool is_running;       /* inside a step: nobody else may take one, or end it */
} Run;

static PyObject *channel_receive_method(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return await_new((Channel *)self, NULL);
}

static PyObject *channel_send_method(PyObject *self, PyObject *message)
{
    return await_new((Channel *)self, message);
}

static PyMethodDef receive_def = {"receive", channel_receive_method, METH_NOARGS,
                                  PyDoc_STR("Awaitable for the next message of this scope.")};
static PyMethodDef send_def = {"send", channel_send_method, METH_O,
                               PyDoc_STR("Awaitable that sends one message of this scope.")};

PyObject *run_new(Channel *channel)
{
    State *st = channel->st;
    Run *run = PyObject_GC_New(Run, st->run_type);
    if (run == NULL)
        return NULL;
    run->st = st;
    run->channel = (Channel *)Py_NewRef((PyObject *)channel);
    run->coro = run->frame_owner = NULL;
    run->is_running = false;
    st->live[LIVE_TASK]++;
    PyObject_GC_Track((PyObject *)run);
    return (PyObject *)run;
}

/* The iterator behind an awaitable, as `await` finds it. */
static PyObject *awaitable_iter(PyObject *awaitable)
{
    if (PyCoro_CheckExact(awaitable))
        return Py_NewRef(awaitable);
    PyAsyncMethods *async = Py_TYPE(awaitable)->tp_as_async;
    if (async != NULL && async->am_await != NULL)
        return async->am_await(awaitable);
    PyErr_Format(PyExc_TypeError, "the application returned %.100s, which cannot be awaited",
                 Py_TYPE(awaitable)->tp_name);
    return NULL;
}

static int call_app(Run *run)
{
    Channel *channel = run->channel;
    PyObject *self = (PyObject *)channel;
    PyObject *app = Py_NewRef(channel->server->app);
    PyObject *scope = Py_NewRef(channel->scope);
    PyObject *receive = PyCFunction_New(&receive_def, self);
    PyObject *send = PyCFunction_New(&send_def, self);
    PyObject *awaitable = NULL;
    if (receive != NULL && send != NULL)
        awaitable = PyObject_CallFunctionObjArgs(app, scope, receive, send, NULL);
    Py_XDECREF(receive);
    Py_XDECREF(send);
    Py_DECREF(scope);
    Py_DECREF(app);
    if (awaitable == NULL)
        return -1;
    run->coro = awaitable_iter(awaitable);
    run->frame_owner = awaitable;
    return run->coro == NULL ? -1 : 0;
}

/* Tells the channel how the application ended and lets go of both. */
static void run_finish(Run *run, PyObject *exc, bool cancelled)
{
    Channel *channel = run->channel;
    run->channel = NULL;
    Py_CLEAR(run->coro);
    Py_CLEAR(run->frame_owner);
    if (channel == NULL)
        return;
    run->st->live[LIVE_TASK]--;
    channel_end(channel, exc, cancelled);
    Py_DECREF((PyObject *)channel);
}

/* Turns the end of the application into the end of the Task. Exceptions were reported by then and
 * end here, except those that say that the Task itself was cancelled or closed. */
static PySendResult run_outcome(Run *run, PySendResult sent, PyObject **result)
{
    if (sent == PYGEN_NEXT)
        return sent;
    if (sent == PYGEN_RETURN) {
        Py_CLEAR(*result);
        run_finish(run, NULL, false);
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    PyObject *exc = exception_take();
    if (PyErr_GivenExceptionMatches(exc, run->st->cancelled_error) ||
        PyErr_GivenExceptionMatches(exc, PyExc_GeneratorExit)) {
        run_finish(run, NULL, true);
        exception_give(exc);
        return PYGEN_ERROR;
    }
    run_finish(run, exc, false);
    Py_DECREF(exc);
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/* As of a coroutine, which must not go away under its own feet. */
static bool is_running(const Run *run)
{
    if (run->is_running)
        PyErr_SetString(PyExc_ValueError, "the application is running already");
    return run->is_running;
}

static PySendResult run_send_slot(PyObject *self, PyObject *arg, PyObject **result)
{
    Run *run = (Run *)self;
    *result = NULL;
    if (is_running(run))
        return PYGEN_ERROR;
    if (run->channel == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the application has ended");
        return PYGEN_ERROR;
    }
    Server *server = (Server *)Py_NewRef((PyObject *)run->channel->server);
    server_enter(server);
    PySendResult sent = PYGEN_ERROR;
    run->is_running = true;
    if (run->coro != NULL || call_app(run) == 0)
        sent = PyIter_Send(run->coro, arg, result);
    run->is_running = false;
    sent = run_outcome(run, sent, result);
    server_leave(server);
    Py_DECREF((PyObject *)server);
    return sent;
}

/* The value of a StopIteration that is set, which is cleared; NULL: another exception is set. */
static PyObject *stop_value(void)
{
    PyObject *exc = exception_take();
    if (exc == NULL)
        return Py_NewRef(Py_None);
    if (!PyErr_GivenExceptionMatches(exc, PyExc_StopIteration)) {
        exception_give(exc);
        return NULL;
    }
    PyObject *value = Py_NewRef(((PyStopIterationObject *)exc)->value);
    Py_DECREF(exc);
    return value;
}

static PySendResult throw_into(Run *run, PyObject *const *args, Py_ssize_t nargs, PyObject **result)
{
    PyObject *method = PyObject_GetAttr(run->coro, run->st->str.throw_);
    if (method == NULL)
        return PYGEN_ERROR;
    *result = PyObject_Vectorcall(method, args, (size_t)nargs, NULL);
    Py_DECREF(method);
    if (*result != NULL)
        return PYGEN_NEXT;
    *result = stop_value();
    return *result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
}

static void raise_thrown(PyObject *const *args, Py_ssize_t nargs)
{
    if (PyExceptionInstance_Check(args[0]))
        PyErr_SetObject((PyObject *)Py_TYPE(args[0]), args[0]);
    else if (PyExceptionClass_Check(args[0]))
        PyErr_SetObject(args[0], nargs > 1 && args[1] != Py_None ? args[1] : NULL);
    else
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
}

static PyObject *run_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Run *run = (Run *)self;
    if (nargs < 1 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "throw() takes one to three arguments");
        return NULL;
    }
    if (is_running(run))
        return NULL;
    if (run->channel == NULL) {
        raise_thrown(args, nargs);
        return NULL;
    }
    Server *server = (Server *)Py_NewRef((PyObject *)run->channel->server);
    PyObject *result = NULL;
    PySendResult sent = PYGEN_ERROR;
    server_enter(server);
    run->is_running = true;
    if (run->coro != NULL)
        sent = throw_into(run, args, nargs, &result);
    else
        raise_thrown(args, nargs);
    run->is_running = false;
    sent = run_outcome(run, sent, &result);
    server_leave(server);
    Py_DECREF((PyObject *)server);
    if (sent != PYGEN_RETURN)
        return result;
    Py_DECREF(result);
    PyErr_SetNone(PyExc_StopIteration);
    return NULL;
}

static PyObject *run_send(PyObject *self, PyObject *arg)
{
    PyObject *result;
    PySendResult sent = run_send_slot(self, arg, &result);
    if (sent != PYGEN_RETURN)
        return result;
    Py_DECREF(result);
    PyErr_SetNone(PyExc_StopIteration);
    return NULL;
}

static PyObject *run_next(PyObject *self)
{
    return run_send(self, Py_None);
}

static PyObject *run_close(PyObject *self, PyObject *Py_UNUSED(unused))
{
    Run *run = (Run *)self;
    if (is_running(run))
        return NULL;
    PyObject *coro = Py_XNewRef(run->coro);
    PyObject *none = Py_NewRef(Py_None);
    if (coro != NULL) {
        Py_DECREF(none);
        run->is_running = true;
        none = PyObject_CallMethodNoArgs(coro, run->st->str.close);
        run->is_running = false;
        Py_DECREF(coro);
    }
    PyObject *exc = exception_take();
    run_finish(run, NULL, true);
    exception_give(exc);
    return none;
}

/* cr_frame, cr_code, cr_running, cr_await: those of the application's coroutine. */
static PyObject *run_forward(PyObject *self, void *name)
{
    Run *run = (Run *)self;
    if (run->frame_owner != NULL)
        return PyObject_GetAttrString(run->frame_owner, name);
    PyErr_SetString(PyExc_AttributeError, name);
    return NULL;
}

/* What the application was called with; None once it has ended. */
static PyObject *run_scope(PyObject *self, void *Py_UNUSED(closure))
{
    const Run *run = (Run *)self;
    PyObject *scope = run->channel != NULL ? run->channel->scope : NULL;
    return Py_NewRef(scope != NULL ? scope : Py_None);
}

static int run_traverse(PyObject *self, visitproc visit, void *arg)
{
    Run *run = (Run *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(run->channel);
    Py_VISIT(run->coro);
    Py_VISIT(run->frame_owner);
    return 0;
}

/* A Run that is dropped without having ended: its loop went away. */
static int run_clear(PyObject *self)
{
    Run *run = (Run *)self;
    PyObject *pending = exception_take();
    run_finish(run, NULL, true);
    exception_give(pending);
    return 0;
}

static void run_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    run_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyObject *run_self(PyObject *self)
{
    return Py_NewRef(self);
}

static PyMethodDef run_methods[] = {
    {"send", run_send, METH_O, PyDoc_STR("Takes a step, as of a coroutine.")},
    {"throw", (PyCFunction)(void (*)(void))run_throw, METH_FASTCALL,
     PyDoc_STR("Raises inside the application.")},
    {"close", run_close, METH_NOARGS, PyDoc_STR("Ends the application.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef run_getset[] = {
    {"__name__", run_forward, NULL, NULL, "__name__"},
    {"__qualname__", run_forward, NULL, NULL, "__qualname__"},
    {"cr_await", run_forward, NULL, NULL, "cr_await"},
    {"cr_code", run_forward, NULL, NULL, "cr_code"},
    {"cr_frame", run_forward, NULL, NULL, "cr_frame"},
    {"cr_running", run_forward, NULL, NULL, "cr_running"},
    {"scope", run_scope, NULL, PyDoc_STR("What the application was called with."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot run_slots[] = {
    {Py_tp_doc, "The coroutine of one application task."},
    {Py_tp_dealloc, run_dealloc},
    {Py_tp_traverse, run_traverse},
    {Py_tp_clear, run_clear},
    {Py_tp_iter, run_self},
    {Py_tp_iternext, run_next},
    {Py_am_await, run_self},
    {Py_am_send, run_send_slot},
    {Py_tp_methods, run_methods},
    {Py_tp_getset, run_getset},
    {0, NULL},
};

static PyType_Spec run_spec = {
    .name = "pronghorn._core.Application",
    .basicsize = sizeof(Run),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = run_slots,
};

int run_type_new(PyObject *module, State *st)
{
    st->run_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &run_spec, NULL);
    return st->run_type == NULL ? -1 : 0;
}
