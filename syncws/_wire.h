/* The wire format of frames, for what is compiled: _frames.c and _port.c. Source: RFC 6455 section 5.

   Its definition is pure.py; tests compare the two. */

#ifndef SYNCWS_WIRE_H
#define SYNCWS_WIRE_H

#include <Python.h>

#include <stdint.h>
#include <string.h>

/* RFC 6455 section 5.2 */
enum { TEXT = 0x1, BINARY = 0x2, FIN = 0x80, RSV1 = 0x40 };
enum { MASKED = 0x80, LENGTH_16 = 126, LENGTH_64 = 127, KEY_SIZE = 4 };

/* From here on (bytes) letting other threads run is worth giving the GIL away and asking for it again. */
#define LARGE (64 * 1024)

/* --- Masking (RFC 6455 section 5.3) */

/* The key as a word in memory, turned to where in the payload the masked bytes begin. 0 stands for no key, too: XOR
   with zeros is a copy. */
static inline uint32_t key_at(const char *key, Py_ssize_t offset) {
    char turned[KEY_SIZE];
    uint32_t word;
    for (int i = 0; i < KEY_SIZE; i++) turned[i] = key[(offset % KEY_SIZE + i) % KEY_SIZE];
    memcpy(&word, turned, KEY_SIZE);
    return word;
}

/* memcpy is how C reads and writes a word that is not aligned; compilers make one instruction of it. */
static inline void copy_xored(char *restrict out, const char *restrict in, size_t length, uint32_t key) {
    uint64_t word, pad = (uint64_t)key << 32 | key;
    size_t i = 0;
    if (key == 0) memcpy(out, in, i = length);
    for (; i + sizeof word <= length; i += sizeof word) {
        memcpy(&word, in + i, sizeof word);
        word ^= pad;
        memcpy(out + i, &word, sizeof word);
    }
    for (; i < length; i++) out[i] = in[i] ^ ((const char *)&pad)[i % KEY_SIZE];
}

/* The same for any length. Both buffers are held by the caller, so that other threads may run meanwhile. */
static inline void transfer(char *out, const char *in, Py_ssize_t length, uint32_t key) {
    if (length < LARGE) {
        /* An empty buffer may be at NULL, which memcpy must not see. */
        if (length > 0) copy_xored(out, in, (size_t)length, key);
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    copy_xored(out, in, (size_t)length, key);
    Py_END_ALLOW_THREADS
}

/* What was copied already, masked where it is. */
static inline void transfer_in_place(char *bytes, Py_ssize_t length, uint32_t key) {
    uint64_t word, pad = (uint64_t)key << 32 | key;
    size_t i = 0, size = (size_t)length;
    if (key == 0) return;
    PyThreadState *others = length < LARGE ? NULL : PyEval_SaveThread();
    for (; i + sizeof word <= size; i += sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        word ^= pad;
        memcpy(bytes + i, &word, sizeof word);
    }
    for (; i < size; i++) bytes[i] ^= ((const char *)&pad)[i % KEY_SIZE];
    if (others != NULL) PyEval_RestoreThread(others);
}

/* --- Reading whole messages */

typedef struct {
    int opcode;
    uint32_t key;
    const char *payload;
    Py_ssize_t length;
} Frame;

/* Reads the frame at `head` if it is whole, plain, at most `limit` long and has FIN set. Returns its size, 0 for
   anything else. Every byte is read once: under free threading another thread might write into the buffer. */
static inline Py_ssize_t read_frame(const uint8_t *head, Py_ssize_t available, int masked, Py_ssize_t limit,
                                    Frame *frame) {
    if (available < 2) return 0;
    /* Both bits flipped: only FIN set leaves a bare opcode, the right mask bit a bare length. */
    frame->opcode = head[0] ^ FIN;
    uint64_t length = head[1] ^ (masked ? MASKED : 0U);
    Py_ssize_t size = 2;
    if ((frame->opcode != TEXT && frame->opcode != BINARY) || length > LENGTH_64) return 0;
    if (length >= LENGTH_16) {
        int width = length == LENGTH_16 ? 2 : 8;
        uint64_t shortest = length == LENGTH_16 ? 126 : 1 << 16;
        size += width;
        if (available < size) return 0;
        length = 0;
        for (int i = 0; i < width; i++) length = length << 8 | head[2 + i];
        /* RFC 6455 section 5.2: "the minimal number of bytes MUST be used to encode the length" */
        if (length < shortest) return 0;
    }
    size += masked ? KEY_SIZE : 0;
    /* Compared without a sum: the length may be anything. */
    if (available < size || length > (uint64_t)(available - size) || (Py_ssize_t)length > limit) return 0;
    frame->key = masked ? key_at((const char *)head + size - KEY_SIZE, 0) : 0;
    frame->payload = (const char *)head + size;
    frame->length = (Py_ssize_t)length;
    return size + frame->length;
}

static inline int is_ascii(const char *text, Py_ssize_t length) {
    uint64_t word, all = 0;
    Py_ssize_t i = 0;
    for (; i + (Py_ssize_t)sizeof word <= length; i += (Py_ssize_t)sizeof word) {
        memcpy(&word, text + i, sizeof word);
        all |= word;
    }
    for (; i < length; i++) all |= (uint8_t)text[i];
    return (all & UINT64_C(0x8080808080808080)) == 0;
}

static inline PyObject *read_text(const Frame *frame) {
    if (frame->key == 0) return PyUnicode_DecodeUTF8(frame->payload, frame->length, NULL);
    /* Most text is ASCII: unmasked into the str that it will be, it is not copied again. */
    PyObject *text = PyUnicode_New(frame->length, 127);
    if (text == NULL) return NULL;
    char *plain = (char *)PyUnicode_1BYTE_DATA(text);
    transfer(plain, frame->payload, frame->length, frame->key);
    if (is_ascii(plain, frame->length)) return text;
    PyObject *result = PyUnicode_DecodeUTF8(plain, frame->length, NULL);
    Py_DECREF(text);
    return result;
}

static inline PyObject *read_binary(const Frame *frame) {
    PyObject *data = PyBytes_FromStringAndSize(NULL, frame->length);
    if (data != NULL) transfer(PyBytes_AS_STRING(data), frame->payload, frame->length, frame->key);
    return data;
}

static inline int append_message(PyObject *messages, const Frame *frame) {
    PyObject *payload = frame->opcode == TEXT ? read_text(frame) : read_binary(frame);
    if (payload == NULL) return -1;
    PyObject *opcode = PyLong_FromLong(frame->opcode);
    PyObject *message = opcode == NULL ? NULL : PyTuple_Pack(3, opcode, payload, Py_False);
    int status = message == NULL ? -1 : PyList_Append(messages, message);
    Py_XDECREF(message);
    Py_XDECREF(opcode);
    Py_DECREF(payload);
    return status;
}

/* Appends the messages; returns the position behind them. */
static inline Py_ssize_t read_messages(PyObject *messages, const uint8_t *bytes, Py_ssize_t start, Py_ssize_t end,
                                       int masked, Py_ssize_t limit) {
    Frame frame;
    Py_ssize_t size;
    while ((size = read_frame(bytes + start, end - start, masked, limit, &frame)) > 0) {
        if (append_message(messages, &frame) < 0) {
            /* Text that is none is judged by the receiver. */
            if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) return -1;
            PyErr_Clear();
            break;
        }
        start += size;
    }
    return start;
}

/* --- Writing a frame */

/* RFC 6455 section 5.2: the length in the shortest of three forms. Returns how long the header is. */
static inline Py_ssize_t write_header(uint8_t *header, int first, int keyed, Py_ssize_t length) {
    int mask_bit = keyed ? MASKED : 0;
    header[0] = (uint8_t)first;
    if (length < LENGTH_16) {
        header[1] = (uint8_t)(mask_bit | (int)length);
        return 2;
    }
    int width = length < 1 << 16 ? 2 : 8;
    header[1] = (uint8_t)(mask_bit | (width == 2 ? LENGTH_16 : LENGTH_64));
    for (int i = 1 + width; i > 1; i--, length >>= 8) header[i] = (uint8_t)(length & 0xFF);
    return 2 + width;
}

#endif
