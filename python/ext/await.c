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
 *
 * References: channel -> list -> Await -> Future -> Task -> Await -> channel. The server's list
 * keeps the channel, and so whoever waits, until the channel is over; by then everybody was woken
 * and leaves. Of a server that was dropped with its loop the garbage collector breaks the cycle.
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
    await->woken_next = NULL;
    await->state = AWAIT_NEW;
    await->is_send = message != NULL;
    await->signalled = await->is_chained = false;
    st->live[LIVE_AWAIT]++;
    PyObject_GC_Track((PyObject *)await);
    return (PyObject *)await;
}

static void drop_future(Await *await)
{
    await->signalled = false;
    Py_CLEAR(await->iter);
    Py_CLEAR(await->future);
}

/* --- Lists of waiters --- */

void await_join(Link *waiters, Await *await)
{
    if (link_is_on(&await->link))
        return;
    Py_INCREF((PyObject *)await);
    list_append(waiters, &await->link);
}

bool await_is_behind(const Link *waiters, const Await *await)
{
    return !list_is_empty(waiters) && waiters->next != &await->link;
}

void await_leave(Await *await)
{
    if (!link_is_on(&await->link))
        return;
    link_remove(&await->link);
    Py_DECREF((PyObject *)await);
}

/* Completes the Future of a waiter. A Future that was cancelled meanwhile refuses, which is right:
 * its awaitable passes the turn on when it is told. */
static void complete(Await *await)
{
    if (!await->signalled || await->future == NULL)
        return;
    PyObject *pending = exception_take();
    PyObject *future = Py_NewRef(await->future);
    PyObject *none = PyObject_CallMethodOneArg(future, await->st->str.set_result, Py_None);
    if (none == NULL)
        PyErr_Clear();
    Py_XDECREF(none);
    Py_DECREF(future);
    exception_give(pending);
}

void await_wake_first(Link *waiters)
{
    if (list_is_empty(waiters))
        return;
    Await *await = CONTAINER(waiters->next, Await, link);
    if (await->signalled)
        return;
    await->signalled = true;
    Py_INCREF((PyObject *)await);
    complete(await);
    Py_DECREF((PyObject *)await);
}

/* Completing a Future can run anything, so the list is gone through before the first is completed.
 * Who is on the chain of an outer call is left to it: it completes the Future of that moment. */
void await_wake_all(Link *waiters)
{
    Await *first = NULL, **end = &first;
    for (const Link *link = waiters->next; link != waiters; link = link->next) {
        Await *await = CONTAINER(link, Await, link);
        if (await->signalled)
            continue;
        await->signalled = true;
        if (await->is_chained)
            continue;
        await->is_chained = true;
        *end = (Await *)Py_NewRef((PyObject *)await);
        end = &await->woken_next;
    }
    while (first != NULL) {
        Await *await = first;
        first = await->woken_next;
        await->woken_next = NULL;
        await->is_chained = false;
        complete(await);
        Py_DECREF((PyObject *)await);
    }
}

int await_visit_all(const Link *waiters, visitproc visit, void *arg)
{
    for (const Link *link = waiters->next; link != waiters; link = link->next)
        Py_VISIT((PyObject *)CONTAINER(link, Await, link));
    return 0;
}

void await_forget_all(Link *waiters)
{
    while (!list_is_empty(waiters)) {
        Await *await = CONTAINER(waiters->next, Await, link);
        await->target = NULL;
        await_leave(await);
    }
}

/* --- Steps --- */

/* Takes a waiter off its list for good without having taken its step. */
static void abandon(Await *await)
{
    bool waited = link_is_on(&await->link);
    await->state = AWAIT_DONE;
    await_leave(await);
    if (waited && await->is_send)
        await->channel->ops->abandoned(await->channel, await);
    else if (waited)
        channel_wake(await->channel);
    drop_future(await);
}

int await_keep(Await *await, Message *message)
{
    if (await->cmd == message)
        return STEP_WAIT;
    await->cmd = PyMem_Malloc(sizeof(Message));
    if (await->cmd == NULL) {
        await_leave(await);
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

/* Makes the Future of a waiter and yields it. Nobody sees the Future before that: it would not be
 * yielded if it were done. */
static PySendResult begin_wait(Await *await, PyObject **result)
{
    PySendResult sent = PYGEN_ERROR;
    PyObject *iter = NULL, *future = PyObject_CallNoArgs(await->channel->server->create_future);
    if (future != NULL)
        iter = PyObject_GetIter(future);
    if (iter != NULL)
        sent = PyIter_Send(iter, Py_None, result);
    if (sent == PYGEN_NEXT) {
        await->state = AWAIT_WAITING;
        await->future = future;
        await->iter = iter;
        complete(await); /* it may have been woken meanwhile */
        return sent;
    }
    if (sent == PYGEN_RETURN) {
        Py_CLEAR(*result);
        PyErr_SetString(PyExc_RuntimeError, "the loop's new Future is done");
    }
    Py_XDECREF(iter);
    Py_XDECREF(future);
    PyObject *exc = exception_take();
    abandon(await);
    exception_give(exc);
    return PYGEN_ERROR;
}

static PySendResult take_step(Await *await, PyObject **result)
{
    Channel *channel = await->channel;
    PyObject *value = NULL;
    await->state = AWAIT_RUNNING;
    drop_future(await);
    server_enter(channel->server);
    int step = await->is_send ? channel->ops->send(channel, await, &value)
                              : channel_receive(channel, await, &value);
    server_leave(channel->server);
    switch ((enum step)step) {
    case STEP_DONE:
        await->state = AWAIT_DONE;
        drop_message(await);
        *result = value;
        return PYGEN_RETURN;
    case STEP_WAIT:
        return begin_wait(await, result);
    case STEP_YIELD:
        drop_message(await);
        await->result = value;
        await->state = AWAIT_YIELDED;
        *result = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    case STEP_FAIL:
        break;
    }
    await->state = AWAIT_DONE;
    drop_message(await);
    return PYGEN_ERROR;
}

/* The Future was completed, or is asked without having been. */
static PySendResult go_on(Await *await, PyObject **result)
{
    await->state = AWAIT_RUNNING;
    PySendResult sent = PyIter_Send(await->iter, Py_None, result);
    if (sent == PYGEN_NEXT) {
        await->state = AWAIT_WAITING;
        return sent;
    }
    if (sent == PYGEN_RETURN) {
        Py_CLEAR(*result);
        return take_step(await, result);
    }
    PyObject *exc = exception_take();
    abandon(await);
    exception_give(exc);
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
    case AWAIT_WAITING:
        return go_on(await, result);
    case AWAIT_YIELDED:
        await->state = AWAIT_DONE;
        *result = await->result;
        await->result = NULL;
        return PYGEN_RETURN;
    case AWAIT_RUNNING:
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

static bool is_running(const Await *await)
{
    if (await->state == AWAIT_RUNNING)
        PyErr_SetString(PyExc_RuntimeError, "this receive() or send() is running");
    return await->state == AWAIT_RUNNING;
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
    if (is_running(await))
        return NULL;
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
    Await *await = (Await *)self;
    if (is_running(await))
        return NULL;
    abandon(await);
    drop_message(await);
    Py_CLEAR(await->result);
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

/* Nobody is woken: when one waiter of a channel is garbage, the channel and its others are too. */
static int await_clear(PyObject *self)
{
    Await *await = (Await *)self;
    PyObject *pending = exception_take();
    await->state = AWAIT_DONE;
    await->target = NULL;
    await_leave(await);
    drop_future(await);
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
