/* The state lock of a connection, for _port.c: as threading.Lock, but taken from C without a call. Held for a few
   statements at a time.

   Whoever asks for it while holding it was called in the middle of those, as a finalizer or by a signal: waiting would be
   for ever, so it is a RuntimeError. */

#ifndef SYNCWS_LOCK_H
#define SYNCWS_LOCK_H

#include <Python.h>

typedef struct {
    PyObject_HEAD
    PyThread_type_lock lock;
    unsigned long owner; /* the thread that holds it; 0: none */
} Lock;

static void own(Lock *self) { __atomic_store_n(&self->owner, PyThread_get_thread_ident(), __ATOMIC_RELAXED); }

/* Of another thread's it may say what was, or will be; of our own it is right. */
static int is_ours(Lock *self) { return __atomic_load_n(&self->owner, __ATOMIC_RELAXED) == PyThread_get_thread_ident(); }

static void give(Lock *self) {
    __atomic_store_n(&self->owner, 0, __ATOMIC_RELAXED);
    PyThread_release_lock(self->lock);
}

/* 0: it is held further out. */
static int take(Lock *self) {
    if (!PyThread_acquire_lock(self->lock, NOWAIT_LOCK)) {
        if (is_ours(self)) return 0;
        Py_BEGIN_ALLOW_THREADS
        PyThread_acquire_lock(self->lock, WAIT_LOCK);
        Py_END_ALLOW_THREADS
    }
    own(self);
    return 1;
}

static PyObject *refuse(void) {
    PyErr_SetString(PyExc_RuntimeError, "called in the middle of another call of the same connection, on its thread: a "
                                        "finalizer, or a signal handler, must leave that to another thread");
    return NULL;
}

static PyObject *lock_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    Lock *self = (Lock *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->lock = PyThread_allocate_lock();
    if (self->lock != NULL) return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_NoMemory();
}

static void lock_dealloc(Lock *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (self->lock != NULL) {
        /* Locked or not, it may be freed only when it is not. */
        PyThread_acquire_lock(self->lock, NOWAIT_LOCK);
        PyThread_release_lock(self->lock);
        PyThread_free_lock(self->lock);
    }
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *lock_acquire(Lock *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"blocking", "timeout", NULL};
    int blocking = 1;
    double timeout = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|pd:acquire", names, &blocking, &timeout)) return NULL;
    int taken = PyThread_acquire_lock(self->lock, NOWAIT_LOCK);
    if (!taken && blocking && timeout < 0 && is_ours(self)) return refuse();
    if (!taken && blocking) {
        PY_TIMEOUT_T limit = timeout < 0 ? -1 : (PY_TIMEOUT_T)(timeout < 1e6 ? timeout * 1e6 : 1e12);
        Py_BEGIN_ALLOW_THREADS
        taken = PyThread_acquire_lock_timed(self->lock, limit, 0) == PY_LOCK_ACQUIRED;
        Py_END_ALLOW_THREADS
    }
    if (taken) own(self);
    return PyBool_FromLong(taken);
}

/* A signal ends the waiting if its handler raises, so that Ctrl-C works even if there were a deadlock. */
static PyObject *lock_enter(Lock *self, PyObject *Py_UNUSED(none)) {
    while (!PyThread_acquire_lock(self->lock, NOWAIT_LOCK)) {
        PyLockStatus status;
        if (is_ours(self)) return refuse();
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(self->lock, -1, 1);
        Py_END_ALLOW_THREADS
        if (status == PY_LOCK_ACQUIRED) break;
        if (PyErr_CheckSignals() < 0) return NULL;
    }
    own(self);
    Py_RETURN_TRUE;
}

static PyObject *lock_release(Lock *self, PyObject *Py_UNUSED(none)) {
    if (PyThread_acquire_lock(self->lock, NOWAIT_LOCK)) {
        PyThread_release_lock(self->lock);
        PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
        return NULL;
    }
    give(self);
    Py_RETURN_NONE;
}

static PyObject *lock_exit(Lock *self, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(count)) {
    give(self);
    Py_RETURN_NONE;
}

static PyObject *lock_locked(Lock *self, PyObject *Py_UNUSED(none)) {
    if (!PyThread_acquire_lock(self->lock, NOWAIT_LOCK)) Py_RETURN_TRUE;
    PyThread_release_lock(self->lock);
    Py_RETURN_FALSE;
}

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))lock_acquire, METH_VARARGS | METH_KEYWORDS, NULL},
    {"release", (PyCFunction)lock_release, METH_NOARGS, NULL},
    {"locked", (PyCFunction)lock_locked, METH_NOARGS, NULL},
    {"__enter__", (PyCFunction)lock_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))lock_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot lock_slots[] = {
    {Py_tp_new, lock_new},
    {Py_tp_dealloc, lock_dealloc},
    {Py_tp_methods, lock_methods},
    {Py_tp_doc, "A mutual exclusion of threads, as threading.Lock, for a few statements at a time."},
    {0, NULL},
};

static PyType_Spec lock_spec = {"syncws._port.Lock", sizeof(Lock), 0, Py_TPFLAGS_DEFAULT, lock_slots};

#endif
