/* The event of a message, for _port.c: the same object as `events.message_event` makes, without running Python. */

#ifndef SYNCWS_EVENT_H
#define SYNCWS_EVENT_H

#include <Python.h>
#include <structmember.h>

/* The class, what its `_type` says, and where its slots are. */
typedef struct {
    PyTypeObject *class;
    PyObject *name;
    Py_ssize_t type, target, data, binary, compressed;
} EventClass;

static int find_slot(PyObject *class, const char *name, Py_ssize_t *offset) {
    PyObject *slot = PyObject_GetAttrString(class, name);
    if (slot == NULL) return -1;
    int found = Py_TYPE(slot) == &PyMemberDescr_Type;
    if (found) *offset = ((PyMemberDescrObject *)slot)->d_member->offset;
    else PyErr_Format(PyExc_TypeError, "expected a class with a slot %s", name);
    Py_DECREF(slot);
    return found ? 0 : -1;
}

static int learn_event_class(EventClass *known, PyObject *class) {
    struct {
        const char *name;
        Py_ssize_t *offset;
    } slots[] = {{"_type", &known->type},
                 {"_target", &known->target},
                 {"data", &known->data},
                 {"binary", &known->binary},
                 {"compressed", &known->compressed}};
    if (!PyType_Check(class)) return PyErr_SetString(PyExc_TypeError, "expected a class"), -1;
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        if (find_slot(class, slots[i].name, slots[i].offset) < 0) return -1;
    }
    Py_XSETREF(known->name, PyUnicode_InternFromString("message"));
    if (known->name == NULL) return -1;
    Py_XSETREF(known->class, (PyTypeObject *)Py_NewRef(class));
    return 0;
}

static void put(PyObject *event, Py_ssize_t offset, PyObject *value) {
    *(PyObject **)((char *)event + offset) = Py_NewRef(value);
}

/* `values` are data, binary, compressed and target. */
static PyObject *make_event(const EventClass *known, PyObject *const *values) {
    if (known->class == NULL) return PyErr_SetString(PyExc_TypeError, "expected to be told the class first"), NULL;
    PyObject *event = known->class->tp_alloc(known->class, 0);
    if (event == NULL) return NULL;
    put(event, known->type, known->name);
    put(event, known->data, values[0]);
    put(event, known->binary, values[1]);
    put(event, known->compressed, values[2]);
    put(event, known->target, values[3]);
    return event;
}

#endif
