"""Vectors for the hot functions of frames, for both twins: wires and what is in them, payloads, wrong arguments.

Made from the RFC, byte by byte, by nothing that is tested here.
"""

from __future__ import annotations

import array
import sys
from typing import Any, NamedTuple

TEXT, BINARY = 1, 2
KEY = bytes.fromhex("37fa213d")
# None, all and some of the bytes change something; a zero at each end of the word.
KEYS = [KEY, bytes(4), b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00"]

# Around the forms of the length, around words, around what is done with large integers and without the GIL.
LENGTHS = [
    *range(18), 31, 32, 33, 63, 64, 65, 124, 125, 126, 127, 128, 255, 256, 257, 399, 400, 401, 1023, 1024,
    65527, 65528, 65534, 65535, 65536, 65537, 65543, 65544, 131071, 131073,
]  # fmt: skip


def xor(payload: bytes, key: bytes, offset: int = 0) -> bytes:
    return bytes(byte ^ key[(offset + i) % 4] for i, byte in enumerate(payload))


def octets(length: int) -> bytes:
    return (bytes(range(256)) * (length // 256 + 1))[:length]


def frame(first: int, payload: bytes, key: bytes = b"", width: int | None = None) -> bytes:
    """RFC 6455 section 5.2; `width` is the bytes of the length, the fewest if None."""
    length = len(payload)
    if width is None:
        width = 1 if length < 126 else 2 if length < 65536 else 8
    mark = {1: length, 2: 126, 8: 127}[width]
    extended = length.to_bytes(width, "big") if width > 1 else b""
    return bytes((first, mark | (0x80 if key else 0))) + extended + key + (xor(payload, key) if key else payload)


class Vector(NamedTuple):
    name: str
    wire: bytes
    messages: list[tuple[int, str | bytes, bool]] = []  # noqa: RUF012  (nobody changes it)
    position: int = 0  # where `decode` stops
    masked: bool = False
    limit: int = 0


def whole(name: str, first: int, payload: str | bytes, key: bytes = b"", limit: int = 0) -> Vector:
    data = payload.encode() if isinstance(payload, str) else payload
    wire = frame(first, data, key)
    return Vector(name, wire, [(first & 15, payload, False)], len(wire), bool(key), limit)


def lengths() -> list[Vector]:
    vectors = []
    for length in LENGTHS:
        for key in (b"", KEY):
            name = f"{length} {'masked' if key else 'plain'}"
            vectors.append(whole(f"binary {name}", 0x82, octets(length), key))
            vectors.append(whole(f"ascii {name}", 0x81, "abcdefg"[: length % 7] + "tuvwxyz" * (length // 7), key))
            vectors.append(whole(f"latin {name}", 0x81, "é" * (length // 2) + "a" * (length % 2), key))
    return vectors


CHARACTERS = ["\0", "\x7f", "\x80", "߿", "ࠀ", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]
NOT_UTF_8 = [
    b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
    b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xfe", b"\xff",
    b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98",
]  # fmt: skip
PADDING = [0, 1, 7, 8, 9, 300, 65536]


def texts() -> list[Vector]:
    vectors = []
    for pad in PADDING:
        for key in (b"", KEY):
            for character in CHARACTERS:
                name = f"U+{ord(character):04X} behind {pad} {'masked' if key else 'plain'}"
                vectors.append(whole(name, 0x81, "a" * pad + character, key))
                vectors.append(whole(f"{name}, and more", 0x81, "a" * pad + character + "b" * pad, key))
            for bad in NOT_UTF_8:
                name = f"{bad.hex()} behind {pad} {'masked' if key else 'plain'}"
                vectors.append(Vector(name, frame(0x81, b"a" * pad + bad, key), masked=bool(key)))
                vectors.append(
                    Vector(f"{name}, and more", frame(0x81, b"a" * pad + bad + b"b" * pad, key), masked=bool(key))
                )
    return vectors


def stops() -> list[Vector]:
    """Frames that are left for others to judge."""
    vectors = []
    for key in (b"", KEY):
        kind, masked = ("masked", True) if key else ("plain", False)
        for first in [*range(256)]:
            if first not in (0x81, 0x82):
                vectors.append(Vector(f"first byte {first:02x} {kind}", frame(first, b"ab", key), masked=masked))
        for length, width in [(0, 2), (1, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8)]:
            wire = frame(0x82, bytes(length), key, width)
            vectors.append(Vector(f"{length} in {width} bytes {kind}", wire, masked=masked))
        for length in [1 << 31, 1 << 32, (1 << 63) - 15, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]:
            mark = b"\xff" if key else b"\x7f"
            wire = b"\x82" + mark + length.to_bytes(8, "big") + key + bytes(20)
            vectors.append(Vector(f"announced {length:#x} {kind}", wire, masked=masked))
        for length in (0, 125, 126, 65536):
            wire = frame(0x82, bytes(length), key)
            vectors.append(Vector(f"wrong mask bit, {length} {kind}", wire, masked=not masked))
    return vectors


def limits() -> list[Vector]:
    vectors = []
    for length in (1, 2, 125, 126, 65535, 65536):
        for key in (b"", KEY):
            for opcode, payload in ((0x82, bytes(length)), (0x81, "a" * length)):
                name = f"{opcode:x} {length} {'masked' if key else 'plain'}"
                vectors.append(whole(f"at the limit {name}", opcode, payload, key, limit=length))
                vectors.append(whole(f"far below it {name}", opcode, payload, key, limit=1 << 70))
                vectors.append(whole(f"no limit {name}", opcode, payload, key, limit=0))
                over = whole(f"over it {name}", opcode, payload, key, limit=length - 1 or -1)
                vectors.append(over._replace(messages=[], position=0))
    return vectors


def several() -> list[Vector]:
    """Messages behind each other, and something else in the end."""
    vectors = []
    for key in (b"", KEY):
        one, two, three = frame(0x81, b"one", key), frame(0x82, octets(126), key), frame(0x81, b"", key)
        messages = [(TEXT, "one", False), (BINARY, octets(126), False), (TEXT, "", False)]
        wire = one + two + three
        vectors.append(Vector(f"three, {key.hex()}", wire, messages, len(wire), bool(key)))
        for end in (b"\x89\x00", b"\x01", b"\x82\xff\xff", b"\x81\x7f", frame(0x81, b"\xff", key)):
            name = f"three and {end.hex()}, {key.hex()}"
            vectors.append(Vector(name, wire + end, messages, len(wire), bool(key)))
        for other in KEYS:
            vectors.append(whole(f"key {other.hex()}", 0x81, "key in eleven places", other))
    return vectors


VECTORS = [*lengths(), *texts(), *stops(), *limits(), *several()]

# --- payloads as they may be handed over, and their bytes


def halves(data: bytes) -> memoryview:
    return memoryview(array.array("H", data))


def table(data: bytes) -> memoryview:
    return memoryview(data).cast("B", (2, len(data) // 2))


BUFFERS: dict[str, Any] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "view of a bytearray": lambda data: memoryview(bytearray(data)),
    "unaligned view": lambda data: memoryview(b"?" + data + b"?")[1:-1],
    "array": lambda data: array.array("H", data),
    "view of 16-bit numbers": halves,
    "view in two dimensions": table,
}

# --- wrong arguments: function, arguments, exception; the message, too, must be the same

HUGE = 1 << 70
EVERY_OTHER = memoryview(b"abcdef")[::2]

WRONG_KEYS: list[tuple[Any, type[Exception]]] = [
    (b"1", ValueError),
    (b"123", ValueError),
    (b"12345", ValueError),
    (bytearray(4), TypeError),
    (memoryview(b"1234"), TypeError),
    ("1234", TypeError),
    (None, TypeError),
    (0, TypeError),
]
WRONG_SIZES: list[tuple[Any, type[Exception]]] = [
    (-1, ValueError),
    (-HUGE, ValueError),
    (HUGE, ValueError),
    (sys.maxsize, ValueError),
    ("1", TypeError),
    (None, TypeError),
]
WRONG_BOUNDS: list[tuple[Any, Any]] = [
    (-1, 3), (0, 4), (2, 1), (3, 2), (4, 4), (-3, -1), (0, HUGE), (-HUGE, 3), (HUGE, HUGE), (sys.maxsize, sys.maxsize),
]  # fmt: skip
WRONG_BUFFERS: list[tuple[Any, type[Exception]]] = [
    ("abc", TypeError),
    (None, TypeError),
    (3, TypeError),
    ([1, 2, 3], TypeError),
    (EVERY_OTHER, BufferError),
]

WRONG: list[tuple[str, tuple[Any, ...], type[Exception]]] = [
    *(("mask", (b"abc", key), error) for key, error in WRONG_KEYS),
    ("mask", (b"abc", b""), ValueError),
    *(("mask", (b"abc", KEY, size), error) for size, error in WRONG_SIZES),
    *(("mask", (data, KEY), error) for data, error in WRONG_BUFFERS),
    ("mask", (b"abc",), TypeError),
    ("mask", (b"abc", KEY, 0, 0), TypeError),
    *(("decode", (b"abc", *bounds, False, 0), ValueError) for bounds in WRONG_BOUNDS),
    *(("decode", (data, 0, 0, False, 0), error) for data, error in WRONG_BUFFERS),
    ("decode", (b"abc", 0, 3, False), TypeError),
    ("decode", (b"abc", 0, 3, False, 0, 0), TypeError),
    *(("encode", (opcode, b"", True, False, b""), ValueError) for opcode in (-1, 16, 256, HUGE, -HUGE)),
    *(("encode", (1, b"abc", True, False, key), error) for key, error in WRONG_KEYS),
    *(("encode", (2, data, True, False, b""), error) for data, error in WRONG_BUFFERS if data != "abc"),
    *(("encode", (1, text, True, False, key), UnicodeEncodeError)
      for text in ("\ud800", "ab\udfff", "é\ud800é", "x" * 100 + "\udc80") for key in (b"", KEY)),
    ("encode", (1, b"abc", True, False), TypeError),
    ("encode", (1, b"abc", True, False, b"", 0), TypeError),
    *(("add", (b"abc", *bounds, b"", 0), ValueError) for bounds in WRONG_BOUNDS),
    *(("add", (b"abc", *bounds, KEY, 0), ValueError) for bounds in WRONG_BOUNDS),
    *(("add", (b"abc", 0, 3, key, 0), error) for key, error in WRONG_KEYS),
    *(("add", (b"abc", 0, 3, KEY, size), error) for size, error in WRONG_SIZES),
    *(("add", (b"abc", 0, 3, b"", 0, size), error) for size, error in WRONG_SIZES),
    *(("add", (data, 0, 0, b"", 0), error) for data, error in WRONG_BUFFERS),
    ("add", (b"abc", 0, 3, b""), TypeError),
    ("add", (b"abc", 0, 3, b"", 0, 0, 0), TypeError),
]  # fmt: skip
