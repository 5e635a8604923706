"""The hot half of the wire format in Python: masking, whole messages, writing a frame, gathering a payload.

Rank 1: the definition. `_frames.c` does the same, faster; `frames` gives out one of the two.
Source: RFC 6455 section 5 (framing).
"""

from __future__ import annotations

import struct
import sys
from functools import cache
from io import BytesIO

from .opcodes import BINARY, FIN, KEY_SIZE, LENGTH_16, LENGTH_64, MASKED, RSV1, TEXT, BytesLike

# Up to here (bytes) one XOR of two integers beats four translated slices.
_INTEGER_XOR_LIMIT = 400

# A key, as a number of 32 bits, times the number at `n`: the key, `n` times over.
_REPEATED = [int.from_bytes(b"\1\0\0\0" * n, "little") for n in range(_INTEGER_XOR_LIMIT // 4 + 1)]

_OCTETS = [bytes((octet,)) for octet in range(256)]

_ROOM = 1 << 16  # bytes to be read at once

_pack_16 = struct.Struct("!BBH").pack
_pack_64 = struct.Struct("!BBQ").pack


def mask(data: BytesLike, key: bytes, offset: int = 0, /) -> bytes:
    """XOR `data` with the 4-byte `key`; masking and unmasking are the same (RFC 6455 section 5.3).

    `offset` is where in the payload `data` begins.
    """
    _check_key(key)
    if not key:
        raise ValueError("expected a key of 4 bytes, got 0")
    _check_size("offset", offset)
    if not isinstance(data, (bytes, bytearray)):
        data = _octets(data)
    return _xor(data, key, offset % KEY_SIZE)


def _xor(data: BytesLike, key: bytes, turn: int = 0) -> bytes:
    if turn:
        key = key[turn:] + key[:turn]
    length = len(data)
    if length <= _INTEGER_XOR_LIMIT:
        pad = (key * (length + 3 >> 2))[:length]
        return (int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")).to_bytes(length, "little")
    result = bytearray(data)
    for i in range(KEY_SIZE):
        result[i::KEY_SIZE] = result[i::KEY_SIZE].translate(_xor_table(key[i]))
    return bytes(result)


@cache
def _xor_table(key_byte: int) -> bytes:
    return bytes(byte ^ key_byte for byte in range(256))


def decode(
    buffer: BytesLike, start: int, end: int, masked: bool, limit: int, /
) -> tuple[list[tuple[int, str | bytes, bool]], int]:
    """Take the messages at the head of `buffer[start:end]` that are one whole, plain, valid frame each.

    Returns them as `(opcode, payload, False)`, and the position of the first byte of anything else: a control
    frame, a fragment, a compressed or incomplete frame, an error, more than `limit` bytes (0 = no limit).
    Never raises for what it reads: whatever stopped it is judged by the careful code of the receiver.
    """
    if buffer.__class__ is not bytearray and buffer.__class__ is not bytes:
        buffer = bytes(_octets(buffer))
    if not 0 <= start <= end <= len(buffer):
        _check_bounds(start, end, len(buffer))
    messages: list[tuple[int, str | bytes, bool]] = []
    from_bytes = int.from_bytes
    mask_bit = MASKED if masked else 0
    limit = limit or sys.maxsize
    payload: bytes | bytearray
    try:
        while end - start >= 2:
            # Both bits flipped: only FIN set leaves a bare opcode, the right mask bit a bare length.
            opcode = buffer[start] ^ FIN
            length = buffer[start + 1] ^ mask_bit
            if opcode != TEXT and opcode != BINARY:
                break
            body = start + 2
            if length >= LENGTH_16:
                if length > LENGTH_64:
                    break
                body += 2 if length == LENGTH_16 else 8
                shortest = 126 if length == LENGTH_16 else 1 << 16
                length = from_bytes(buffer[start + 2 : body], "big")
                if length < shortest:
                    break
            if masked:
                body += KEY_SIZE
            stop = body + length
            if stop > end or length > limit:
                break
            if not masked:
                payload = buffer[body:stop]
            elif length <= _INTEGER_XOR_LIMIT:
                # `mask` written out, key and payload as one number: a call would cost as much as the XOR.
                number = from_bytes(buffer[body - KEY_SIZE : stop], "little")
                words = length + 3 >> 2
                number = number >> 32 ^ (number & 0xFFFFFFFF) * _REPEATED[words]
                payload = number.to_bytes(words << 2, "little")
                if length & 3:
                    payload = payload[:length]
            else:
                payload = _xor(buffer[body:stop], bytes(buffer[body - KEY_SIZE : body]))
            messages.append((opcode, payload.decode() if opcode == TEXT else bytes(payload), False))
            start = stop
    except UnicodeDecodeError:
        pass
    return messages, start


def encode(opcode: int, payload: str | BytesLike, fin: bool, rsv1: bool, key: bytes, /) -> bytes:
    """Make one frame; text is encoded as UTF-8, and what has a `key` (4 bytes, else b"") is masked."""
    if not 0 <= opcode <= 15:
        raise ValueError(f"expected an opcode of 0-15, got {opcode}")
    if key.__class__ is not bytes or key:
        _check_key(key)
    if isinstance(payload, str):
        payload = payload.encode()
    elif not isinstance(payload, (bytes, bytearray)):
        payload = _octets(payload)
    length = len(payload)
    if key:
        payload = _xor(payload, key)
    if length < LENGTH_16:
        # `write_header` written out: most messages are short.
        first = opcode | (FIN if fin else 0) | (RSV1 if rsv1 else 0)
        if not key:
            return _OCTETS[first] + _OCTETS[length] + payload
        return _OCTETS[first] + _OCTETS[MASKED | length] + key + payload
    return write_header(opcode, length, fin, rsv1, key) + payload


def write_header(opcode: int, length: int, fin: bool = True, rsv1: bool = False, key: bytes = b"") -> bytes:
    """Make the header of a frame of `length` payload bytes; the mask bit is set iff there is a `key`."""
    first = opcode | (FIN if fin else 0) | (RSV1 if rsv1 else 0)
    mask_bit = MASKED if key else 0
    if length < LENGTH_16:
        return bytes((first, mask_bit | length)) + key
    if length < 1 << 16:
        return _pack_16(first, mask_bit | LENGTH_16, length) + key
    return _pack_64(first, mask_bit | LENGTH_64, length) + key


class Gatherer:
    """Collects a payload that comes in pieces; its memory follows what came, not what was announced.

    It has one owner at a time: two threads in one of them at once get a RuntimeError at best.
    """

    __slots__ = ("_file", "_room")

    def __init__(self, trusted: int = 0, /) -> None:
        """A `hint` of up to `trusted` bytes is believed at once, whatever came."""
        _check_size("trusted", trusted)
        self._file = BytesIO()
        self._room = bytearray()

    def __len__(self) -> int:
        return self._file.tell()

    def add(self, buffer: BytesLike, start: int, stop: int, key: bytes, offset: int, hint: int = 0, /) -> None:
        """Append `buffer[start:stop]`, unmasked if there is a `key`; `offset` is its place in the payload.

        `hint` is how long the whole may become, 0 if nobody knows: a bound for room in reserve.
        """
        _check_key(key)
        _check_size("offset", offset)
        _check_size("hint", hint)
        view = _octets(buffer)
        _check_bounds(start, stop, len(view))
        piece = view[start:stop]
        self._file.write(mask(piece, key, offset) if key else piece)

    def room(self, hint: int, /) -> memoryview:
        """Where more can be put: a view of at least a byte, to be released before anything else is called; then `fill`.

        `hint` as for `add`.
        """
        _check_size("hint", hint)
        if not self._room:
            self._room = bytearray(_ROOM)
        return memoryview(self._room)

    def fill(self, length: int, key: bytes, offset: int, /) -> None:
        """Append the first `length` bytes of the room, as `add` does."""
        _check_size("length", length)
        _check_key(key)
        _check_size("offset", offset)
        if length > len(self._room):
            raise ValueError(f"expected at most {len(self._room)} bytes, got {length}")
        self.add(self._room, 0, length, key, offset)

    def take(self) -> bytes:
        """Give out what was collected, uncopied, and begin anew."""
        # BytesIO gives out its block itself; a new one instead of an emptied one keeps it the only owner.
        payload, self._file, self._room = self._file.getvalue(), BytesIO(), bytearray()
        return payload


def _octets(data: BytesLike) -> memoryview:
    """A view by bytes: one of an array, say, has its length in items."""
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("expected a contiguous buffer")
    return view.cast("B")


def _check_key(key: bytes) -> None:
    if not isinstance(key, bytes):
        raise TypeError(f"expected a key in bytes, got {type(key).__name__}")
    if key and len(key) != KEY_SIZE:
        raise ValueError(f"expected a key of 4 bytes, got {len(key)}")


def _check_size(name: str, size: int) -> None:
    if not 0 <= size < sys.maxsize:
        raise ValueError(f"expected {name} from 0 to below sys.maxsize, got {size}")


def _check_bounds(start: int, stop: int, length: int) -> None:
    if not 0 <= start <= stop <= length:
        raise ValueError(f"expected bounds within {length} bytes, got {start} and {stop}")
