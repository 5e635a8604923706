/* The short path of a message, compiled: one read, or one write, on a plain socket when nothing is the matter.

   The base class of a connection. It holds what the short paths look at, as attributes that the Python layers above
   read and write, too. port.py is its twin, for threads. The definition is the long way, by the layers: nothing is
   decided here that they decide, and whatever is not the usual case is left to them, with the role that was taken, or
   untouched.

   The state lock is this module's own, so that it can be taken without a call. All of `Port` that is guarded by it is
   touched with the lock only; the rest belongs to whoever has the reader's or the writer's role. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <sys/socket.h>

#include "_roles.h"
#include "_wire.h"

/* --- Reading */

/* One read, as long as it takes: what recv says, -1 with errno, or -2 with an exception. */
static Py_ssize_t receive(int descriptor, char *bytes, size_t size) {
    Py_ssize_t count;
    int error;
    do {
        Py_BEGIN_ALLOW_THREADS
        count = recv(descriptor, bytes, size, 0);
        error = errno;
        Py_END_ALLOW_THREADS
        /* A signal: its handler may raise. Nothing was read. */
        if (count < 0 && error == EINTR && PyErr_CheckSignals() < 0) return -2;
    } while (count < 0 && error == EINTR);
    errno = error;
    return count;
}

/* Among greenlets: one read that does not wait, so the GIL is kept; finding nothing, it waits in the hub. As above. */
static Py_ssize_t receive_green(Port *self, const Module *module, char *bytes, size_t size) {
    while (self->descriptor >= 0) {
        Py_ssize_t count = recv(self->descriptor, bytes, size, MSG_DONTWAIT);
        if (count >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) return count;
        self->reads = 0;
        if (self->hub == NULL) return -1;
        PyObject *hub = Py_NewRef(self->hub), *watcher = Py_NewRef(self->watcher), *holder = announce(self, READING);
        PyObject *done = PyObject_CallMethodOneArg(hub, module->wait, watcher);
        Py_DECREF(holder);
        Py_DECREF(watcher);
        Py_DECREF(hub);
        if (done == NULL) return -2;
        Py_DECREF(done);
    }
    errno = EAGAIN; /* something is the matter now: for the layers above */
    return -1;
}

/* As the reader: before the first message there is no deque. -1: an exception. */
static int open_inbox(Port *self, const Module *module) {
    if (!PyTuple_CheckExact(self->inbox)) return 0;
    PyObject *fresh = PyObject_CallNoArgs(module->deque);
    int status = fresh == NULL ? -1 : PyObject_SetAttr((PyObject *)self, module->inbox, fresh);
    Py_XDECREF(fresh);
    return status;
}

/* `messages` go into the inbox, but one that is wanted at once is returned; else a true value. NULL: an exception. */
static PyObject *store(Port *self, const Module *module, PyObject *messages, int wanted) {
    Py_ssize_t count = PyList_GET_SIZE(messages);
    if (wanted && count == 1) {
        self->decoded += count;
        return Py_NewRef(PyList_GET_ITEM(messages, 0));
    }
    if (open_inbox(self, module) < 0) return NULL;
    /* With the lock, for an event is told by the difference of the two. */
    int guarded = guard(self, module);
    PyObject *done = PyObject_CallMethodOneArg(self->inbox, module->extend, messages);
    self->decoded += count;
    if (guarded) unguard(self);
    if (done == NULL || !wanted) return done;
    Py_DECREF(done);
    PyObject *first = PyObject_CallMethodNoArgs(self->inbox, module->popleft);
    if (first != NULL || !PyErr_ExceptionMatches(PyExc_IndexError)) return first;
    PyErr_Clear(); /* another caller was faster */
    Py_RETURN_NONE;
}

/* What `count` bytes in the buffer say. Anything but whole messages, and the end of a full buffer, is for the layers
   above; then None is returned, for them to look again. NULL: an exception, and nothing after those bytes makes sense:
   the connection is dropped. */
static PyObject *understand(Port *self, const Module *module, PyObject *buffer, Py_ssize_t count, int wanted) {
    PyObject *holder = NULL, *result = NULL, *messages = PyList_New(0);
    PyObject *number = PyLong_FromSsize_t(count), *position = NULL;
    Py_ssize_t limit = self->max_payload > 0 ? self->max_payload : PY_SSIZE_T_MAX, end = -1;
    if (messages != NULL && number != NULL) {
        const uint8_t *bytes = (const uint8_t *)PyByteArray_AS_STRING(buffer);
        end = read_messages(messages, bytes, 0, count, self->server_side, limit);
    }
    if (end == count && count < PyByteArray_GET_SIZE(buffer)) {
        self->received += count;
        result = store(self, module, messages, wanted);
    } else if (end >= 0 && (position = PyLong_FromSsize_t(end)) != NULL) {
        holder = announce(self, READING);
        result = PyObject_CallMethodObjArgs((PyObject *)self, module->take_in, buffer, number, messages, position, NULL);
    }
    if (result == NULL) {
        if (holder == NULL) holder = announce(self, READING);
        give_up(self, module, holder);
    }
    Py_XDECREF(holder);
    Py_XDECREF(position);
    Py_XDECREF(number);
    Py_XDECREF(messages);
    return result;
}

/* As the reader: the stream of the peer is at its end. */
static PyObject *note_end(Port *self, const Module *module) {
    Py_DECREF(announce(self, READING)); /* held by the role */
    return PyObject_CallMethodNoArgs((PyObject *)self, module->note_end);
}

static PyObject *port_read_alone(PyObject *object, PyTypeObject *class, PyObject *const *args, Py_ssize_t count,
                                 PyObject *Py_UNUSED(names)) {
    Port *self = (Port *)object;
    const Module *module = PyType_GetModuleState(class);
    int wanted = count == 0, turn = self->green && ++self->reads % MOST_TURNS == 0;
    int descriptor = turn ? -1 : begin(self, module, READING, wanted ? NOBODY_ELSE : args[0]);
    if (descriptor < 0) Py_RETURN_NONE;
    PyObject *result = NULL, *buffer = Py_NewRef(self->buffer);
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer);
    char *bytes = PyByteArray_AS_STRING(buffer);
    Py_ssize_t read = self->green ? receive_green(self, module, bytes, (size_t)size)
                                  : receive(descriptor, bytes, (size_t)size);
    if (read > 0) {
        result = understand(self, module, buffer, read, wanted);
    } else if (read == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        result = Py_NewRef(Py_None); /* the system's time-out (SO_RCVTIMEO), ours or somebody's: it is not the end */
    } else if (read != -2) {
        result = note_end(self, module);
    }
    Py_DECREF(buffer);
    if (result == NULL && read > 0) return NULL;
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    if (leave(self, module, READING) < 0) {
        Py_CLEAR(result);
        if (type == NULL) return NULL;
        PyErr_Clear(); /* the first counts */
    }
    PyErr_Restore(type, value, trace);
    return result;
}

/* --- Writing */

/* The next four bytes of the system's entropy; asked for in bulk, which costs as much as four. -1: an exception. */
static int next_key(Port *self, const Module *module, char *key) {
    if (self->keys_used == KEYS) {
        PyObject *fresh = PyObject_CallFunction(module->urandom, "i", KEYS);
        if (fresh == NULL) return -1;
        Py_XSETREF(self->keys, fresh);
        self->keys_used = 0;
    }
    memcpy(key, PyBytes_AS_STRING(self->keys) + self->keys_used, KEY_SIZE);
    self->keys_used += KEY_SIZE;
    return 0;
}

/* It does not wait, so the GIL is kept: to give it away and to ask for it again costs as much as the call. Whatever is
   wrong, the next attempt will find it, too. */
static Py_ssize_t offer(Port *self, int descriptor, const void *bytes, Py_ssize_t size) {
    Py_ssize_t sent = send(descriptor, bytes, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == size) self->sent += size;
    return sent < 0 ? 0 : sent;
}

/* As the writer: leaves what the kernel did not take where the next attempt takes it from. Steals `rest`, NULL for one
   that could not be made. -1: an exception, and a frame is cut: the connection is dropped. */
static int put_rest(Port *self, const Module *module, PyObject *rest) {
    PyObject *put = rest == NULL ? NULL : PyObject_CallMethodOneArg(self->out, module->append, rest);
    Py_XDECREF(rest);
    Py_XDECREF(put);
    if (put != NULL) return 0;
    PyObject *holder = announce(self, WRITING);
    give_up(self, module, holder);
    Py_DECREF(holder);
    return -1;
}

/* As the writer: frames the message and writes it. What the kernel did not take goes the long way. NULL: an exception,
   and the role is given back; else it still has to be, unless `*left`. */
static PyObject *write_message(Port *self, const Module *module, int descriptor, int opcode, const char *payload,
                               Py_ssize_t length, PyObject *timeout, int *left) {
    uint8_t frame[MOST_SENT + 2 + 8 + KEY_SIZE];
    char key[KEY_SIZE];
    int masks = !self->server_side;
    *left = 0;
    if (masks && next_key(self, module, key) < 0) {
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        if (leave(self, module, WRITING) < 0) PyErr_Clear();
        PyErr_Restore(type, value, trace);
        return NULL;
    }
    Py_ssize_t size = write_header(frame, FIN | opcode, masks, length);
    if (masks) memcpy(frame + size, key, KEY_SIZE), size += KEY_SIZE;
    if (length > 0) copy_xored((char *)frame + size, payload, (size_t)length, masks ? key_at(key, 0) : 0);
    size += length;
    Py_ssize_t sent = offer(self, descriptor, frame, size);
    if (sent == size) Py_RETURN_TRUE;
    *left = 1;
    if (put_rest(self, module, PyBytes_FromStringAndSize((char *)frame + sent, size - sent)) < 0) return NULL;
    PyObject *holder = announce(self, WRITING), *number = PyLong_FromSsize_t(size), *result = NULL;
    if (number == NULL) give_up(self, module, holder);
    else result = PyObject_CallMethodObjArgs((PyObject *)self, module->send_rest, holder, number, timeout, NULL);
    /* Interrupted on its first step it has not come to giving the role back. */
    if (result == NULL && number != NULL && self->writer == holder) give_up(self, module, holder);
    Py_XDECREF(number);
    Py_DECREF(holder);
    return result;
}

static PyObject *port_send_alone(PyObject *object, PyTypeObject *class, PyObject *const *args, Py_ssize_t count,
                                 PyObject *Py_UNUSED(names)) {
    Port *self = (Port *)object;
    const Module *module = PyType_GetModuleState(class);
    if (count != 2) return PyErr_Format(PyExc_TypeError, "expected data and a timeout, got %zd arguments", count);
    PyObject *data = args[0], *encoded = NULL, *result = NULL;
    int opcode = PyUnicode_Check(data) ? TEXT : BINARY, left;
    if (opcode == TEXT && PyUnicode_GET_LENGTH(data) > MOST_SENT) Py_RETURN_FALSE;
    if (opcode == TEXT && !PyUnicode_IS_COMPACT_ASCII(data)) {
        data = encoded = PyUnicode_AsUTF8String(data);
        if (encoded == NULL) {
            PyErr_Clear(); /* the long way says so, unless there is worse to be said */
            Py_RETURN_FALSE;
        }
    }
    const char *payload = NULL;
    Py_ssize_t length = MOST_SENT + 1;
    if (PyUnicode_Check(data)) {
        payload = (const char *)PyUnicode_1BYTE_DATA(data);
        length = PyUnicode_GET_LENGTH(data);
    } else if (PyBytes_Check(data)) {
        payload = PyBytes_AS_STRING(data);
        length = PyBytes_GET_SIZE(data);
    }
    int turn = self->green && ++self->turns % MOST_TURNS == 0;
    int descriptor = turn || length > MOST_SENT ? -1 : begin(self, module, WRITING, NOBODY_ELSE);
    if (descriptor < 0) {
        Py_XDECREF(encoded);
        Py_RETURN_FALSE;
    }
    result = write_message(self, module, descriptor, opcode, payload, length, args[1], &left);
    Py_XDECREF(encoded);
    if (result == NULL || left || leave(self, module, WRITING) == 0) return result;
    Py_DECREF(result);
    return NULL;
}

static PyObject *port_post_alone(PyObject *object, PyTypeObject *class, PyObject *const *args, Py_ssize_t count,
                                 PyObject *Py_UNUSED(names)) {
    Port *self = (Port *)object;
    const Module *module = PyType_GetModuleState(class);
    if (count != 1 || !PyBytes_Check(args[0])) return PyErr_Format(PyExc_TypeError, "expected a frame in bytes");
    int descriptor = begin(self, module, WRITING, NOBODY_ELSE);
    if (descriptor < 0) Py_RETURN_FALSE;
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]), sent = offer(self, descriptor, PyBytes_AS_STRING(args[0]), size);
    if (sent < size) {
        /* A view, for it is the same frame for all that do not take it at once. */
        PyObject *whole = PyMemoryView_FromObject(args[0]);
        PyObject *rest = whole == NULL ? NULL : PySequence_GetSlice(whole, sent, size);
        Py_XDECREF(whole);
        if (put_rest(self, module, rest) < 0) return NULL;
        self->sent += size;
    }
    if (leave(self, module, WRITING) < 0) return NULL;
    Py_RETURN_TRUE;
}

/* --- The type */

static PyObject *port_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs)) {
    Port *self = (Port *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->descriptor = -1;
    self->keys_used = KEYS;
    self->reader = Py_NewRef(Py_None);
    self->writer = Py_NewRef(Py_None);
    self->message_owner = Py_NewRef(Py_None);
    self->outbox = Py_NewRef(Py_None);
    return (PyObject *)self;
}

static int port_traverse(Port *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    PyObject *all[] = {self->lock,  self->reader, self->writer, self->message_owner, self->waiting,    self->pongs,
                       self->pings, self->outbox, self->buffer, self->inbox,         self->happenings, self->out,
                       self->hub,   self->watcher};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) Py_VISIT(all[i]);
    return 0;
}

static int port_clear(Port *self) {
    PyObject **all[] = {&self->lock,   &self->reader, &self->writer,     &self->message_owner,
                        &self->waiting, &self->pongs,  &self->pings,      &self->outbox,
                        &self->buffer,  &self->inbox,  &self->happenings, &self->out,
                        &self->hub,     &self->watcher};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) Py_CLEAR(*all[i]);
    return 0;
}

static void port_dealloc(Port *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    port_clear(self);
    Py_CLEAR(self->keys);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

#define MEMBER(name, type, field) {name, type, offsetof(Port, field), 0, NULL}

static PyMemberDef port_members[] = {
    MEMBER("_lock", T_OBJECT_EX, lock),
    MEMBER("_reader", T_OBJECT_EX, reader),
    MEMBER("_writer", T_OBJECT_EX, writer),
    MEMBER("_message_owner", T_OBJECT_EX, message_owner),
    MEMBER("_waiting", T_OBJECT_EX, waiting),
    MEMBER("_pongs", T_OBJECT_EX, pongs),
    MEMBER("_pings", T_OBJECT_EX, pings),
    MEMBER("_outbox", T_OBJECT_EX, outbox),
    MEMBER("_calm", T_BOOL, calm),
    MEMBER("_watched", T_BOOL, watched),
    MEMBER("_short_descriptor", T_INT, descriptor),
    MEMBER("_green", T_BOOL, green),
    MEMBER("_buffer", T_OBJECT_EX, buffer),
    MEMBER("_inbox", T_OBJECT_EX, inbox),
    MEMBER("_hub", T_OBJECT_EX, hub),
    MEMBER("_watcher", T_OBJECT_EX, watcher),
    MEMBER("_happenings", T_OBJECT_EX, happenings),
    MEMBER("_reads_here", T_ULONG, reads_here),
    MEMBER("_between", T_BOOL, between),
    MEMBER("_max_payload", T_PYSSIZET, max_payload),
    MEMBER("_decoded", T_PYSSIZET, decoded),
    MEMBER("bytes_received", T_PYSSIZET, received),
    MEMBER("_out", T_OBJECT_EX, out),
    MEMBER("_plain", T_BOOL, plain),
    MEMBER("bytes_sent", T_PYSSIZET, sent),
    MEMBER("_server_side", T_BOOL, server_side),
    {NULL, 0, 0, 0, NULL},
};

#define METHOD(function) ((PyCFunction)(void (*)(void))(function)), METH_METHOD | METH_FASTCALL | METH_KEYWORDS, NULL

static PyMethodDef port_methods[] = {
    {"_read_alone", METHOD(port_read_alone)},
    {"_send_alone", METHOD(port_send_alone)},
    {"_post_alone", METHOD(port_post_alone)},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot port_slots[] = {
    {Py_tp_new, port_new},         {Py_tp_dealloc, port_dealloc}, {Py_tp_traverse, port_traverse},
    {Py_tp_clear, port_clear},     {Py_tp_members, port_members}, {Py_tp_methods, port_methods},
    {Py_tp_doc, "See port.py."}, {0, NULL},
};

static PyType_Spec port_spec = {
    "syncws._port.Port", sizeof(Port), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, port_slots,
};

/* --- The module */

static int add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **kept) {
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL) return -1;
    int status = PyModule_AddType(module, (PyTypeObject *)type);
    if (kept != NULL) *kept = (PyTypeObject *)Py_NewRef(type);
    Py_DECREF(type);
    return status;
}

static PyObject *import(const char *name, const char *attribute) {
    PyObject *module = PyImport_ImportModule(name);
    PyObject *value = module == NULL ? NULL : PyObject_GetAttrString(module, attribute);
    Py_XDECREF(module);
    return value;
}

static int module_exec(PyObject *object) {
    Module *module = PyModule_GetState(object);
    struct {
        PyObject **place;
        const char *name;
    } names[] = {
        {&module->take_in, "_take_in"},         {&module->note_end, "_note_end"},
        {&module->leave_reading, "_leave_reading"}, {&module->leave_writing, "_leave_writing"},
        {&module->send_rest, "_send_rest"},     {&module->bail, "_bail"},
        {&module->append, "append"},            {&module->extend, "extend"},
        {&module->popleft, "popleft"},          {&module->locked, "locked"},
        {&module->wait, "wait"},                {&module->inbox, "_inbox"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *names[i].place = PyUnicode_InternFromString(names[i].name);
        if (*names[i].place == NULL) return -1;
    }
    module->urandom = import("os", "urandom");
    module->deque = import("collections", "deque");
    if (module->urandom == NULL || module->deque == NULL || add_type(object, &lock_spec, &module->lock_type) < 0) return -1;
    return add_type(object, &port_spec, NULL);
}

static PyObject *set_event_class(PyObject *object, PyObject *class) {
    Module *module = PyModule_GetState(object);
    if (learn_event_class(&module->events, class) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *message_event(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    const Module *module = PyModule_GetState(object);
    if (count != 4) return PyErr_Format(PyExc_TypeError, "expected 4 arguments, got %zd", count);
    return make_event(&module->events, args);
}

static PyMethodDef module_methods[] = {
    {"set_event_class", set_event_class, METH_O, NULL},
    {"message_event", (PyCFunction)(void (*)(void))message_event, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static int module_traverse(PyObject *object, visitproc visit, void *arg) {
    Module *module = PyModule_GetState(object);
    Py_VISIT(module->events.class);
    Py_VISIT(module->lock_type);
    Py_VISIT(module->urandom);
    Py_VISIT(module->deque);
    return 0;
}

static int module_clear(PyObject *object) {
    Module *module = PyModule_GetState(object);
    PyObject **all[] = {(PyObject **)&module->lock_type, &module->urandom, &module->deque, &module->take_in,
                        &module->note_end, &module->leave_reading, &module->leave_writing, &module->send_rest,
                        &module->bail, &module->append, &module->extend, &module->popleft, &module->locked,
                        &module->wait, &module->inbox, (PyObject **)&module->events.class, &module->events.name};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) Py_CLEAR(*all[i]);
    return 0;
}

static void module_free(void *object) { module_clear((PyObject *)object); }

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "syncws._port",
    .m_doc = "The short path of a message, compiled; see port.py.",
    .m_size = sizeof(Module),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__port(void) { return PyModuleDef_Init(&module_definition); }
