/* The hot half of the wire format, compiled.

   The twin of pure.py, which is the definition: same names, same results, same exceptions; tests run both from one
   table and compare them at random. Source: RFC 6455 section 5 (framing).

   Nothing here is shared between calls but the blocks of Gatherers, which guard themselves: no state in the module,
   so none between interpreters and threads. A buffer of the caller's is held during a call only. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_wire.h"

/* Before 3.13 there is the GIL. */
#if PY_VERSION_HEX < 0x030D0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* --- Arguments: -1 is returned, with an exception set, for wrong ones */

static int check_count(const char *name, Py_ssize_t count, Py_ssize_t least, Py_ssize_t most) {
    if (least <= count && count <= most) return 0;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd to %zd arguments, got %zd", name, least, most, count);
    return -1;
}

/* A number, clipped to what fits: the largest is more than anybody has bytes. */
static int read_number(PyObject *object, Py_ssize_t *number) {
    *number = PyNumber_AsSsize_t(object, NULL);
    return *number == -1 && PyErr_Occurred() ? -1 : 0;
}

static int read_size(PyObject *object, const char *name, Py_ssize_t *size) {
    if (read_number(object, size) < 0) return -1;
    if (0 <= *size && *size < PY_SSIZE_T_MAX) return 0;
    PyErr_Format(PyExc_ValueError, "expected %s from 0 to below sys.maxsize, got %S", name, object);
    return -1;
}

static int read_bounds(PyObject *first, PyObject *second, Py_ssize_t length, Py_ssize_t *start, Py_ssize_t *stop) {
    if (read_number(first, start) < 0 || read_number(second, stop) < 0) return -1;
    if (0 <= *start && *start <= *stop && *stop <= length) return 0;
    PyErr_Format(PyExc_ValueError, "expected bounds within %zd bytes, got %S and %S", length, first, second);
    return -1;
}

/* A key of 4 bytes, or none. Returns whether there is one. */
static int read_key(PyObject *object, const char **key) {
    Py_ssize_t size = PyBytes_Check(object) ? PyBytes_GET_SIZE(object) : -1;
    *key = size < 0 ? NULL : PyBytes_AS_STRING(object);
    if (size == 0 || size == KEY_SIZE) return size != 0;
    if (size < 0) PyErr_Format(PyExc_TypeError, "expected a key in bytes, got %s", Py_TYPE(object)->tp_name);
    else PyErr_Format(PyExc_ValueError, "expected a key of 4 bytes, got %zd", size);
    return -1;
}

/* --- Masking */

static PyObject *mask(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Py_buffer data;
    Py_ssize_t offset = 0;
    const char *key;
    if (check_count("mask", count, 2, 3) < 0) return NULL;
    int keyed = read_key(args[1], &key);
    if (keyed == 0) PyErr_SetString(PyExc_ValueError, "expected a key of 4 bytes, got 0");
    if (keyed <= 0 || (count == 3 && read_size(args[2], "offset", &offset) < 0)) return NULL;
    if (PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, data.len);
    if (result != NULL) transfer(PyBytes_AS_STRING(result), data.buf, data.len, key_at(key, offset));
    PyBuffer_Release(&data);
    return result;
}

/* --- Reading whole messages */

static PyObject *decode(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Py_buffer buffer;
    Py_ssize_t start, end, limit;
    if (check_count("decode", count, 5, 5) < 0) return NULL;
    int masked = PyObject_IsTrue(args[3]);
    if (masked < 0 || read_number(args[4], &limit) < 0) return NULL;
    if (PyObject_GetBuffer(args[0], &buffer, PyBUF_SIMPLE) < 0) return NULL;
    PyObject *messages = NULL, *position = NULL, *result = NULL;
    if (read_bounds(args[1], args[2], buffer.len, &start, &end) == 0) messages = PyList_New(0);
    if (messages != NULL) {
        start = read_messages(messages, buffer.buf, start, end, masked, limit == 0 ? PY_SSIZE_T_MAX : limit);
        if (start >= 0) position = PyLong_FromSsize_t(start);
    }
    if (position != NULL) result = PyTuple_Pack(2, messages, position);
    Py_XDECREF(position);
    Py_XDECREF(messages);
    PyBuffer_Release(&buffer);
    return result;
}

/* --- Writing a frame */

static PyObject *make_frame(int first, const char *payload, Py_ssize_t length, const char *key, int keyed) {
    uint8_t header[2 + 8 + KEY_SIZE];
    Py_ssize_t size = write_header(header, first, keyed, length);
    if (keyed) {
        memcpy(header + size, key, KEY_SIZE);
        size += KEY_SIZE;
    }
    if (length > PY_SSIZE_T_MAX - size) return PyErr_NoMemory();
    PyObject *frame = PyBytes_FromStringAndSize(NULL, size + length);
    if (frame == NULL) return NULL;
    memcpy(PyBytes_AS_STRING(frame), header, (size_t)size);
    transfer(PyBytes_AS_STRING(frame) + size, payload, length, keyed ? key_at(key, 0) : 0);
    return frame;
}

static PyObject *make_frame_of(int first, PyObject *payload, const char *key, int keyed) {
    Py_buffer view;
    PyObject *encoded = NULL;
    if (PyUnicode_Check(payload)) {
        /* ASCII is UTF-8 as it lies there. */
        if (PyUnicode_IS_COMPACT_ASCII(payload)) {
            const char *ascii = (const char *)PyUnicode_1BYTE_DATA(payload);
            return make_frame(first, ascii, PyUnicode_GET_LENGTH(payload), key, keyed);
        }
        /* Not PyUnicode_AsUTF8AndSize: that keeps the encoded copy for as long as the str lives. */
        payload = encoded = PyUnicode_AsUTF8String(payload);
        if (encoded == NULL) return NULL;
    }
    PyObject *frame = NULL;
    if (PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE) == 0) {
        frame = make_frame(first, view.buf, view.len, key, keyed);
        PyBuffer_Release(&view);
    }
    Py_XDECREF(encoded);
    return frame;
}

static PyObject *encode(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t opcode;
    const char *key;
    if (check_count("encode", count, 5, 5) < 0 || read_number(args[0], &opcode) < 0) return NULL;
    if (opcode < 0 || opcode > 15) {
        return PyErr_Format(PyExc_ValueError, "expected an opcode of 0-15, got %S", args[0]);
    }
    int fin = PyObject_IsTrue(args[2]);
    int rsv1 = fin < 0 ? -1 : PyObject_IsTrue(args[3]);
    int keyed = rsv1 < 0 ? -1 : read_key(args[4], &key);
    if (keyed < 0) return NULL;
    return make_frame_of((int)opcode | (fin ? FIN : 0) | (rsv1 ? RSV1 : 0), args[1], key, keyed);
}

/* --- Gathering a payload that comes in pieces */

/* Less (bytes) is not worth a read, if more is to come. */
#define LEAST_ROOM 4096

/* `block` is bytes that nobody else has seen, `size` of them written; NULL as long as there are none. `busy` while a
   thread writes into it without the GIL, and for each view of its room. All of it is guarded by the GIL, or the critical
   section of the object. */
typedef struct {
    PyObject_HEAD
    PyObject *block;
    Py_ssize_t size, trusted;
    int busy;
} Gatherer;

static int check_idle(Gatherer *self) {
    if (self->busy == 0) return 0;
    PyErr_SetString(PyExc_RuntimeError, "expected one thread at a time in a Gatherer");
    return -1;
}

static PyObject *gatherer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    Py_ssize_t trusted = 0;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Gatherer() takes no keyword arguments");
        return NULL;
    }
    if (check_count("Gatherer", PyTuple_GET_SIZE(args), 0, 1) < 0) return NULL;
    if (PyTuple_GET_SIZE(args) == 1 && read_size(PyTuple_GET_ITEM(args, 0), "trusted", &trusted) < 0) return NULL;
    Gatherer *self = (Gatherer *)type->tp_alloc(type, 0);
    if (self != NULL) self->trusted = trusted;
    return (PyObject *)self;
}

/* Makes room for `length` more bytes. The block doubles, but not beyond `hint`, if that is enough: it is never larger
   than twice what came and a little, whatever a header announced, unless the owner trusts in it. */
static int reserve(Gatherer *self, Py_ssize_t length, Py_ssize_t hint) {
    if (length > PY_SSIZE_T_MAX / 2 - self->size) return PyErr_NoMemory(), -1;
    Py_ssize_t needed = self->size + length;
    if (self->block != NULL && needed <= PyBytes_GET_SIZE(self->block)) return 0;
    Py_ssize_t room = hint >= needed && (hint < 2 * needed || hint <= self->trusted) ? hint : 2 * needed;
    if (self->block == NULL) self->block = PyBytes_FromStringAndSize(NULL, room);
    else _PyBytes_Resize(&self->block, room);
    if (self->block != NULL) return 0;
    self->size = 0; /* What was there is lost with the block. */
    return -1;
}

static int append(Gatherer *self, const char *piece, Py_ssize_t length, uint32_t key, Py_ssize_t hint) {
    if (length == 0) return 0;
    if (check_idle(self) < 0 || reserve(self, length, hint) < 0) return -1;
    self->busy++;
    transfer(PyBytes_AS_STRING(self->block) + self->size, piece, length, key);
    self->busy--;
    self->size += length;
    return 0;
}

static PyObject *gatherer_add(Gatherer *self, PyObject *const *args, Py_ssize_t count) {
    Py_buffer buffer;
    Py_ssize_t start, stop, offset, hint = 0;
    const char *key;
    int status = -1;
    if (check_count("add", count, 5, 6) < 0) return NULL;
    int keyed = read_key(args[3], &key);
    if (keyed < 0 || read_size(args[4], "offset", &offset) < 0) return NULL;
    if (count == 6 && read_size(args[5], "hint", &hint) < 0) return NULL;
    if (PyObject_GetBuffer(args[0], &buffer, PyBUF_SIMPLE) < 0) return NULL;
    if (read_bounds(args[1], args[2], buffer.len, &start, &stop) == 0) {
        Py_BEGIN_CRITICAL_SECTION(self);
        status = append(self, (char *)buffer.buf + start, stop - start, keyed ? key_at(key, offset) : 0, hint);
        Py_END_CRITICAL_SECTION();
    }
    PyBuffer_Release(&buffer);
    if (status < 0) return NULL;
    Py_RETURN_NONE;
}

/* What may be written into: the room behind what there is. */
static int gatherer_getbuffer(Gatherer *self, Py_buffer *view, int flags) {
    int status = -1;
    view->obj = NULL; /* also where it is refused */
    Py_BEGIN_CRITICAL_SECTION(self);
    if (check_idle(self) == 0) {
        char *room = self->block == NULL ? NULL : PyBytes_AS_STRING(self->block) + self->size;
        Py_ssize_t length = self->block == NULL ? 0 : PyBytes_GET_SIZE(self->block) - self->size;
        status = PyBuffer_FillInfo(view, (PyObject *)self, room, length, 0, flags);
        if (status == 0) self->busy++;
    }
    Py_END_CRITICAL_SECTION();
    return status;
}

static void gatherer_releasebuffer(Gatherer *self, Py_buffer *Py_UNUSED(view)) {
    Py_BEGIN_CRITICAL_SECTION(self);
    self->busy--;
    Py_END_CRITICAL_SECTION();
}

static PyObject *gatherer_room(Gatherer *self, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t hint;
    int status = -1;
    if (check_count("room", count, 1, 1) < 0 || read_size(args[0], "hint", &hint) < 0) return NULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    Py_ssize_t missing = hint - self->size;
    if (check_idle(self) == 0) status = reserve(self, missing < 1 ? 1 : missing < LEAST_ROOM ? missing : LEAST_ROOM, hint);
    Py_END_CRITICAL_SECTION();
    return status < 0 ? NULL : PyMemoryView_FromObject((PyObject *)self);
}

static PyObject *gatherer_fill(Gatherer *self, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t length, offset;
    const char *key;
    int status = -1;
    if (check_count("fill", count, 3, 3) < 0 || read_size(args[0], "length", &length) < 0) return NULL;
    int keyed = read_key(args[1], &key);
    if (keyed < 0 || read_size(args[2], "offset", &offset) < 0) return NULL;
    Py_BEGIN_CRITICAL_SECTION(self);
    Py_ssize_t room = self->block == NULL ? 0 : PyBytes_GET_SIZE(self->block) - self->size;
    if (length > room) PyErr_Format(PyExc_ValueError, "expected at most %zd bytes, got %zd", room, length);
    else status = check_idle(self);
    if (status == 0 && length > 0) {
        self->busy++;
        if (keyed) transfer_in_place(PyBytes_AS_STRING(self->block) + self->size, length, key_at(key, offset));
        self->busy--;
        self->size += length;
    }
    Py_END_CRITICAL_SECTION();
    if (status < 0) return NULL;
    Py_RETURN_NONE;
}

static PyObject *gatherer_take(Gatherer *self, PyObject *Py_UNUSED(unused)) {
    PyObject *block = NULL;
    Py_ssize_t size = 0;
    int status;
    Py_BEGIN_CRITICAL_SECTION(self);
    status = check_idle(self);
    if (status == 0) {
        block = self->block, size = self->size;
        self->block = NULL, self->size = 0;
    }
    Py_END_CRITICAL_SECTION();
    if (status < 0) return NULL;
    if (block == NULL) return PyBytes_FromStringAndSize(NULL, 0);
    /* Cut where it is: the room in reserve goes back to the system. */
    if (_PyBytes_Resize(&block, size) < 0) return NULL;
    return block;
}

static Py_ssize_t gatherer_length(Gatherer *self) {
    Py_ssize_t size;
    Py_BEGIN_CRITICAL_SECTION(self);
    size = self->size;
    Py_END_CRITICAL_SECTION();
    return size;
}

static void gatherer_dealloc(Gatherer *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->block);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef gatherer_methods[] = {
    {"add", (PyCFunction)(void (*)(void))gatherer_add, METH_FASTCALL, NULL},
    {"room", (PyCFunction)(void (*)(void))gatherer_room, METH_FASTCALL, NULL},
    {"fill", (PyCFunction)(void (*)(void))gatherer_fill, METH_FASTCALL, NULL},
    {"take", (PyCFunction)(void (*)(void))gatherer_take, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot gatherer_slots[] = {
    {Py_tp_methods, gatherer_methods},
    {Py_tp_dealloc, (void *)gatherer_dealloc},
    {Py_sq_length, (void *)gatherer_length},
    {Py_tp_new, (void *)gatherer_new},
    {Py_bf_getbuffer, (void *)gatherer_getbuffer},
    {Py_bf_releasebuffer, (void *)gatherer_releasebuffer},
    {0, NULL},
};

static PyType_Spec gatherer_spec = {
    "syncws._frames.Gatherer", sizeof(Gatherer), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, gatherer_slots,
};

/* --- The module */

static int execute(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &gatherer_spec, NULL);
    if (type == NULL) return -1;
    int status = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return status;
}

static PyMethodDef functions[] = {
    {"mask", (PyCFunction)(void (*)(void))mask, METH_FASTCALL, NULL},
    {"decode", (PyCFunction)(void (*)(void))decode, METH_FASTCALL, NULL},
    {"encode", (PyCFunction)(void (*)(void))encode, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "syncws._frames", .m_slots = slots, .m_methods = functions,
};

PyMODINIT_FUNC PyInit__frames(void) { return PyModuleDef_Init(&definition); }
