/* What a port consists of, and how its two roles are taken and given back, for _port.c. */

#ifndef SYNCWS_ROLES_H
#define SYNCWS_ROLES_H

#include <Python.h>

#include "_event.h"
#include "_lock.h"

/* Up to here (bytes) a message is framed on the stack, and a buffer for reading is worth no second thought. */
enum { MOST_SENT = 4096, MOST_READ = 8192, KEYS = 256 };
/* So many messages a greenlet may send, or reads it may do, before it looks at whether others should have their turn. */
enum { MOST_TURNS = 32 };

typedef struct {
    PyObject_HEAD
    /* Guarded by the state lock: */
    PyObject *lock, *reader, *writer, *message_owner, *waiting, *pongs, *pings, *outbox;
    char calm, watched;
    int descriptor; /* of a plain socket that is written to without more ado; else -1 */
    char green;     /* we live among greenlets: nothing may wait in a system call */
    unsigned turns, reads; /* messages sent so, and reads that found something, without giving way to other greenlets */
    /* The reader's: */
    PyObject *buffer, *inbox, *happenings;
    PyObject *hub, *watcher; /* hub.wait(watcher) waits for data, among greenlets */
    unsigned long reads_here; /* the thread that reads: another may be the main one, which is to hear signals */
    char between; /* the receiver is between two messages */
    Py_ssize_t max_payload, decoded, received;
    /* The writer's: */
    PyObject *out;
    char plain; /* nothing but framing is to be done to a message */
    Py_ssize_t sent;
    int keys_used;
    PyObject *keys; /* bytes, once some are needed: a server needs none */
    /* Never changes: */
    char server_side; /* what comes is masked; on the other side what leaves is */
} Port;

typedef struct {
    PyTypeObject *lock_type;
    PyObject *urandom, *take_in, *note_end, *leave_reading, *leave_writing, *send_rest, *bail, *append, *extend, *popleft;
    PyObject *locked, *wait, *inbox, *deque;
    EventClass events;
} Module;

typedef enum { READING, WRITING } Role;

/* Who has a role for as long as only this module knows. Before any Python code runs in between, the role gets an object
   of its own: so that only the taker can give it back, whatever interrupts whom. */
#define NOBODY_ELSE Py_True

static void set_role(Port *self, Role role, PyObject *holder) {
    PyObject **place = role == READING ? &self->reader : &self->writer;
    /* In one step, for it is read elsewhere without the lock, as a hint. */
    Py_DECREF(__atomic_exchange_n(place, Py_NewRef(holder), __ATOMIC_ACQ_REL));
}

/* Takes the state lock; 0 if it is not for us to take. Greenlets switch only where they wait, and the lock is never held
   there: so it need not be taken for what does not wait, only be free. */
static int guard(Port *self, const Module *module) {
    if (self->lock == NULL) return 0;
    if (!self->green) {
        if (Py_TYPE(self->lock) != module->lock_type) return 0;
        return take((Lock *)self->lock);
    }
    PyObject *locked = PyObject_CallMethodNoArgs(self->lock, module->locked);
    int free = locked == Py_False;
    if (locked == NULL) PyErr_Clear();
    Py_XDECREF(locked);
    return free;
}

static void unguard(Port *self) {
    if (!self->green) give((Lock *)self->lock);
}

static int is_empty(PyObject *container) { return container != NULL && PyObject_Size(container) == 0; }

/* With the state lock: whether the short path is open. */
static int may_begin(Port *self, Role role) {
    if (!self->calm || self->descriptor < 0) return 0;
    if (role == WRITING) {
        if (self->outbox != Py_None && !is_empty(self->outbox)) return 0;
        return self->writer == Py_None && self->message_owner == Py_None && self->plain && is_empty(self->out);
    }
    if (!self->green && self->reads_here != PyThread_get_thread_ident()) return 0;
    if (self->reader != Py_None || !self->between || !is_empty(self->inbox) || !is_empty(self->happenings)) return 0;
    return self->buffer != NULL && PyByteArray_CheckExact(self->buffer) && PyByteArray_GET_SIZE(self->buffer) <= MOST_READ;
}

/* With the state lock: whether nothing is left to whoever gives a role back. */
static int may_leave(Port *self, Role role) {
    if (!self->calm || !is_empty(self->waiting)) return 0;
    if (role == READING) return self->watched && is_empty(self->happenings);
    if (self->outbox != Py_None && !is_empty(self->outbox)) return 0;
    return is_empty(self->pongs) && is_empty(self->pings) && is_empty(self->out);
}

/* Takes a role if it is free and nothing is the matter: the descriptor, which stays open for as long as there is a role,
   whatever is said of it from now on; else -1. */
static int begin(Port *self, const Module *module, Role role, PyObject *holder) {
    if (self->descriptor < 0 || !guard(self, module)) return -1;
    int descriptor = may_begin(self, role) ? self->descriptor : -1;
    if (descriptor >= 0) set_role(self, role, holder);
    unguard(self);
    return descriptor;
}

/* As the holder of a role, before Python code runs: the object that stands for the taking, made now if need be. A new
   reference; never NULL. */
static PyObject *announce(Port *self, Role role) {
    PyObject *holder = role == READING ? self->reader : self->writer;
    if (holder != NOBODY_ELSE) return Py_NewRef(holder);
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    holder = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
    PyErr_Restore(type, value, trace);
    if (holder == NULL) return Py_NewRef(NOBODY_ELSE); /* no memory: the worst is that another taker has to wait */
    /* Among greenlets nobody else is here, whoever has the lock. */
    if (!self->green && !take((Lock *)self->lock)) return holder; /* cannot be: the role was taken with it free */
    set_role(self, role, holder);
    unguard(self);
    return holder;
}

/* An exception came in the middle: the role is given back, if it is still the holder's, and the connection dropped. */
static void give_up(Port *self, const Module *module, PyObject *holder) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *done = PyObject_CallMethodOneArg((PyObject *)self, module->bail, holder);
    if (done == NULL) PyErr_WriteUnraisable((PyObject *)self);
    Py_XDECREF(done);
    PyErr_Restore(type, value, trace);
}

/* Gives a role back; where more is to be done than that, by the long way. -1 with an exception. */
static int leave(Port *self, const Module *module, Role role) {
    int left = 0;
    if (guard(self, module)) {
        left = may_leave(self, role);
        if (left) set_role(self, role, Py_None);
        unguard(self);
    }
    if (left) return 0;
    PyObject *holder = announce(self, role), *name = role == READING ? module->leave_reading : module->leave_writing;
    PyObject *done = PyObject_CallMethodOneArg((PyObject *)self, name, holder);
    if (done == NULL) give_up(self, module, holder);
    Py_XDECREF(done);
    Py_DECREF(holder);
    return done == NULL ? -1 : 0;
}

#endif
