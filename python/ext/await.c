/*
 * await.c - the awaitable that receive() and send() return.
 *
 * It has the methods of a coroutine (send, throw, close, __await__), so that create_task() and
 * wait_for() take it as they take the result of an `async def`. Like one it does nothing before its
 * first step: a receive() that nobody awaits takes no message.
 *
 * When a step can be completed, the awaitable ends in its first step, without a Future and without
 * a turn of the loop. Otherwise it links itself to a list of waiters and delegates to a Future of
 * the loop. Whoever makes progress possible completes the Future of the first waiter; the waiter
 * stays first on its list until it runs and takes its step. A waiter that is cancelled between the
 * two leaves everything as it was, and the next one is woken instead.
 */
#include "ext.h"

PyObject *await_new(Channel *channel, PyObject *message)
{
    State *st = channel->st;
    Await *await = PyObject_GC_New(Await, st->await_type);
    if (await == NULL)
        return NULL;
    await->st = st;
    await->channel = (Channel *)Py_NewRef((PyObject *)channel);
    await->message = Py_XNewRef(message);
    await->cmd = NULL;
    await->future = await->iter = await->result = NULL;
    await->target = NULL;
    await->link = (Link){NULL, NULL};
    await->state = AWAIT_NEW;
    await->is_send = message != NULL;
    await->signalled = false;
    st->live[LIVE_AWAIT]++;
    PyObject_GC_Track((PyObject *)await);
    return (PyObject *)await;
}

static void drop_future(Await *await)
{
    Py_CLEAR(await->iter);
    Py_CLEAR(await->future);
    await->signalled = false;
}

/* Completes the Future of a waiter. A Future that was cancelled meanwhile refuses, which is right:
 * its awaitable passes the turn on when it is told. */
static void wake(Await *await)
{
    if (await->signalled || await->future == NULL)
        return;
    await->signalled = true;
    PyObject *pending = exception_take();
    PyObject *none = PyObject_CallMethodOneArg(await->future, await->st->str.set_result, Py_None);
    if (none == NULL)
        PyErr_Clear();
    Py_XDECREF(none);
    exception_give(pending);
}

void await_wake_first(Link *waiters)
{
    if (!list_is_empty(waiters))
        wake(CONTAINER(waiters->next, Await, link));
}

void await_wake_all(Link *waiters)
{
    for (Link *link = waiters->next; link != waiters; link = link->next)
        wake(CONTAINER(link, Await, link));
}

/* Takes a waiter off its list for good without having taken its step. */
static void abandon(Await *await)
{
    bool waited = link_is_on(&await->link);
    link_remove(&await->link);
    await->state = AWAIT_DONE;
    drop_future(await);
    if (!waited || await->channel == NULL)
        return;
    if (await->is_send)
        await->channel->ops->abandoned(await->channel, await);
    else
        channel_wake(await->channel);
}

int await_keep(Await *await, Message *message)
{
    if (await->cmd == message)
        return STEP_WAIT;
    await->cmd = PyMem_Malloc(sizeof(Message));
    if (await->cmd == NULL) {
        link_remove(&await->link);
        message_clear(message);
        PyErr_NoMemory();
        return STEP_FAIL;
    }
    *await->cmd = *message;
    Py_CLEAR(await->message);
    return STEP_WAIT;
}

static void drop_message(Await *await)
{
    Py_CLEAR(await->message);
    if (await->cmd != NULL) {
        message_clear(await->cmd);
        PyMem_Free(await->cmd);
        await->cmd = NULL;
    }
}

/* Makes the Future of a waiter and yields it. */
static PySendResult begin_wait(Await *await, PyObject **result)
{
    drop_future(await);
    await->state = AWAIT_WAITING;
    await->future = PyObject_CallNoArgs(await->channel->server->create_future);
    if (await->future != NULL)
        await->iter = PyObject_GetIter(await->future);
    if (await->iter != NULL)
        return PyIter_Send(await->iter, Py_None, result);
    PyObject *exc = exception_take();
    abandon(await);
    exception_give(exc);
    return PYGEN_ERROR;
}

static PySendResult take_step(Await *await, PyObject **result)
{
    Channel *channel = await->channel;
    PyObject *value = NULL;
    await->state = AWAIT_DONE; /* against being stepped again from within */
    server_enter(channel->server);
    int step = await->is_send ? channel->ops->send(channel, await, &value)
                              : channel_receive(channel, await, &value);
    server_leave(channel->server);
    switch ((enum step)step) {
    case STEP_DONE:
        drop_message(await);
        *result = value;
        return PYGEN_RETURN;
    case STEP_WAIT:
        return begin_wait(await, result);
    case STEP_YIELD:
        await->state = AWAIT_YIELDED;
        drop_message(await);
        await->result = value;
        *result = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    case STEP_FAIL:
        break;
    }
    drop_message(await);
    return PYGEN_ERROR;
}

static PySendResult await_send_slot(PyObject *self, PyObject *Py_UNUSED(arg), PyObject **result)
{
    Await *await = (Await *)self;
    *result = NULL;
    switch (await->state) {
    case AWAIT_NEW:
        if (server_check_thread(await->channel->server) < 0)
            return PYGEN_ERROR;
        return take_step(await, result);
    case AWAIT_WAITING: {
        PyObject *value = NULL;
        PySendResult sent = PyIter_Send(await->iter, Py_None, &value);
        if (sent == PYGEN_NEXT) {
            *result = value;
            return PYGEN_NEXT;
        }
        if (sent == PYGEN_RETURN) {
            Py_XDECREF(value);
            drop_future(await);
            return take_step(await, result);
        }
        PyObject *exc = exception_take();
        abandon(await);
        exception_give(exc);
        return PYGEN_ERROR;
    }
    case AWAIT_YIELDED:
        await->state = AWAIT_DONE;
        *result = await->result;
        await->result = NULL;
        return PYGEN_RETURN;
    case AWAIT_DONE:
        break;
    }
    PyErr_SetString(PyExc_RuntimeError, "this receive() or send() was awaited already");
    return PYGEN_ERROR;
}

/* StopIteration with a value, as a generator would raise it. */
static void raise_stop(PyObject *value)
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (stop != NULL)
        PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
}

static PyObject *await_next(PyObject *self)
{
    PyObject *result;
    PySendResult sent = await_send_slot(self, Py_None, &result);
    if (sent == PYGEN_RETURN) {
        if (result != Py_None)
            raise_stop(result);
        Py_DECREF(result);
        return NULL;
    }
    return result;
}

static PyObject *await_send(PyObject *self, PyObject *arg)
{
    PyObject *result;
    PySendResult sent = await_send_slot(self, arg, &result);
    if (sent == PYGEN_RETURN) {
        raise_stop(result);
        Py_DECREF(result);
        return NULL;
    }
    return result;
}

/* throw(exc), throw(type, value=None, traceback=None): leaves the list, then raises. */
static PyObject *await_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "throw() takes one to three arguments");
        return NULL;
    }
    PyObject *type = args[0], *value = nargs > 1 ? args[1] : Py_None;
    Await *await = (Await *)self;
    abandon(await);
    drop_message(await);
    Py_CLEAR(await->result);
    if (PyExceptionInstance_Check(type))
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    else if (PyExceptionClass_Check(type))
        PyErr_SetObject(type, value == Py_None ? NULL : value);
    else
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    return NULL;
}

static PyObject *await_close(PyObject *self, PyObject *Py_UNUSED(unused))
{
    abandon((Await *)self);
    drop_message((Await *)self);
    Py_CLEAR(((Await *)self)->result);
    Py_RETURN_NONE;
}

static int await_traverse(PyObject *self, visitproc visit, void *arg)
{
    Await *await = (Await *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(await->channel);
    Py_VISIT(await->message);
    Py_VISIT(await->future);
    Py_VISIT(await->iter);
    Py_VISIT(await->result);
    return await->cmd != NULL ? message_traverse(await->cmd, visit, arg) : 0;
}

static int await_clear(PyObject *self)
{
    Await *await = (Await *)self;
    PyObject *pending = exception_take();
    abandon(await);
    drop_message(await);
    Py_CLEAR(await->result);
    Py_CLEAR(await->channel);
    exception_give(pending);
    return 0;
}

static void await_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    await_clear(self);
    ((Await *)self)->st->live[LIVE_AWAIT]--;
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyObject *await_self(PyObject *self)
{
    return Py_NewRef(self);
}

static PyMethodDef await_methods[] = {
    {"send", await_send, METH_O, PyDoc_STR("Takes a step, as of a coroutine.")},
    {"throw", (PyCFunction)(void (*)(void))await_throw, METH_FASTCALL,
     PyDoc_STR("Gives up waiting and raises.")},
    {"close", await_close, METH_NOARGS, PyDoc_STR("Gives up waiting.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot await_slots[] = {
    {Py_tp_doc, "What receive() and send() return; await it once."},
    {Py_tp_dealloc, await_dealloc},
    {Py_tp_traverse, await_traverse},
    {Py_tp_clear, await_clear},
    {Py_tp_iter, await_self},
    {Py_tp_iternext, await_next},
    {Py_am_await, await_self},
    {Py_am_send, await_send_slot},
    {Py_tp_methods, await_methods},
    {0, NULL},
};

static PyType_Spec await_spec = {
    .name = "pronghorn._core.Await",
    .basicsize = sizeof(Await),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = await_slots,
};

int await_type_new(PyObject *module, State *st)
{
    st->await_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &await_spec, NULL);
    return st->await_type == NULL ? -1 : 0;
}
