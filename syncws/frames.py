"""The wire format of frames: headers, masking, the payload of Close, and a fast path for whole messages.

Rank 1: pure functions over buffers, used by the receiver, the sender and the `Message` value.
Source: RFC 6455 section 5 (framing), sections 5.5.1 and 7.4 (Close).
"""

from __future__ import annotations

import struct
import sys
from functools import cache
from typing import Final, NamedTuple

from .errors import InvalidData, MessageTooBig, ProtocolError

COMPILED = False

CONTINUE: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

MAX_CONTROL_PAYLOAD: Final = 125

BytesLike = bytes | bytearray | memoryview

_FIN = 0x80
_RSV1 = 0x40
_RSV23 = 0x30
_OPCODE = 0x0F
_MASKED = 0x80
_KEY_SIZE = 4
_LENGTH_16 = 126
_LENGTH_64 = 127
# Up to here (bytes) one XOR of two integers beats four translated slices.
_INTEGER_XOR_LIMIT = 400

_pack_16 = struct.Struct("!BBH").pack
_pack_64 = struct.Struct("!BBQ").pack


class Header(NamedTuple):
    """The header of a frame: `length` bytes of payload follow its own `size`; `key` is b"" if unmasked."""

    fin: bool
    rsv1: bool
    rsv23: bool
    opcode: int
    masked: bool
    length: int
    key: bytes
    size: int


def mask(data: BytesLike, key: bytes, offset: int = 0) -> bytes:
    """XOR `data` with the 4-byte `key`; masking and unmasking are the same (RFC 6455 section 5.3).

    `offset` is where in the payload `data` begins.
    """
    if offset := offset % _KEY_SIZE:
        key = key[offset:] + key[:offset]
    # A view that is not one of bytes, say of an array, has a length in items.
    length = data.nbytes if isinstance(data, memoryview) else len(data)
    if length <= _INTEGER_XOR_LIMIT:
        pad = (key * (length + 3 >> 2))[:length]
        return (int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")).to_bytes(length, "little")
    result = bytearray(data)
    for i in range(_KEY_SIZE):
        result[i::_KEY_SIZE] = result[i::_KEY_SIZE].translate(_xor_table(key[i]))
    return bytes(result)


@cache
def _xor_table(key_byte: int) -> bytes:
    return bytes(byte ^ key_byte for byte in range(256))


def decode(
    buffer: bytes | bytearray, start: int, end: int, masked: bool, limit: int
) -> tuple[list[tuple[int, str | bytes, bool]], int]:
    """Take the messages at the head of `buffer[start:end]` that are one whole, plain, valid frame each.

    Returns them as `(opcode, payload, False)`, and the position of the first byte of anything else: a control
    frame, a fragment, a compressed or incomplete frame, an error, more than `limit` bytes (0 = no limit).
    Never raises: whatever stopped it is judged by the careful code of the receiver.
    """
    messages: list[tuple[int, str | bytes, bool]] = []
    from_bytes = int.from_bytes
    mask_bit = _MASKED if masked else 0
    limit = limit or sys.maxsize
    payload: bytes | bytearray
    try:
        while end - start >= 2:
            # Both bits flipped: only FIN set leaves a bare opcode, the right mask bit a bare length.
            opcode = buffer[start] ^ _FIN
            length = buffer[start + 1] ^ mask_bit
            if opcode != TEXT and opcode != BINARY:
                break
            body = start + 2
            if length >= _LENGTH_16:
                if length > _LENGTH_64:
                    break
                body += 2 if length == _LENGTH_16 else 8
                shortest = 126 if length == _LENGTH_16 else 1 << 16
                length = from_bytes(buffer[start + 2 : body], "big")
                if length < shortest:
                    break
            if masked:
                key = buffer[body : body + 4]
                body += 4
            stop = body + length
            if stop > end or length > limit:
                break
            payload = buffer[body:stop]
            if masked:
                if length <= _INTEGER_XOR_LIMIT:
                    # `mask` written out: a call would cost as much as the XOR.
                    pad = (key * (length + 3 >> 2))[:length]
                    number = from_bytes(payload, "little") ^ from_bytes(pad, "little")
                    payload = number.to_bytes(length, "little")
                else:
                    payload = mask(payload, bytes(key))
            messages.append((opcode, payload.decode() if opcode == TEXT else bytes(payload), False))
            start = stop
    except UnicodeDecodeError:
        pass
    return messages, start


def read_header(buffer: bytes | bytearray, start: int, end: int) -> Header | None:
    """Read the frame header at `buffer[start:end]`; None if it is not complete yet.

    Judges only the form of the length: ProtocolError if it is not the shortest, MessageTooBig past 63 bits.
    """
    if end - start < 2:
        return None
    first, second = buffer[start], buffer[start + 1]
    length = second & 0x7F
    body = start + 2
    if length >= _LENGTH_16:
        body += 2 if length == _LENGTH_16 else 8
        if body > end:
            return None
        length = _extended_length(buffer[start + 2 : body])
    masked = second >= _MASKED
    key = b""
    if masked:
        key = bytes(buffer[body : body + _KEY_SIZE])
        body += _KEY_SIZE
    if body > end:
        return None
    return Header(
        fin=first >= _FIN,
        rsv1=bool(first & _RSV1),
        rsv23=bool(first & _RSV23),
        opcode=first & _OPCODE,
        masked=masked,
        length=length,
        key=key,
        size=body - start,
    )


def _extended_length(field: bytes | bytearray) -> int:
    length = int.from_bytes(field, "big")
    # RFC 6455 section 5.2: "the minimal number of bytes MUST be used to encode the length"
    if length < (126 if len(field) == 2 else 1 << 16):
        raise ProtocolError(f"expected the shortest form of the length, got {length} in {len(field)} bytes")
    # RFC 6455 section 5.2: "the most significant bit MUST be 0"
    if length >> 63:
        raise MessageTooBig(f"expected a payload length below 2**63, got {length}")
    return length


def write_header(opcode: int, length: int, fin: bool = True, rsv1: bool = False, key: bytes = b"") -> bytes:
    """Make the header of a frame of `length` payload bytes; the mask bit is set iff there is a `key`."""
    first = opcode | (_FIN if fin else 0) | (_RSV1 if rsv1 else 0)
    mask_bit = _MASKED if key else 0
    if length < _LENGTH_16:
        return bytes((first, mask_bit | length)) + key
    if length < 1 << 16:
        return _pack_16(first, mask_bit | _LENGTH_16, length) + key
    return _pack_64(first, mask_bit | _LENGTH_64, length) + key


def encode_close(code: int | None, reason: str) -> bytes:
    """Make the payload of a Close frame, b"" for no code; ValueError or TypeError if it must not be sent."""
    if not isinstance(reason, str):
        raise TypeError(f"expected a str as close reason, got {type(reason).__name__}")
    if code is None:
        if reason:
            raise ValueError("expected a close code beside the reason, got None")
        return b""
    if not isinstance(code, int) or isinstance(code, bool):
        raise TypeError(f"expected an int or None as close code, got {type(code).__name__}")
    if not _close_code_allowed(code):
        raise ValueError(f"expected a close code of 1000-1003, 1007-1014 or 3000-4999, got {code}")
    payload = code.to_bytes(2, "big") + reason.encode()
    if len(payload) > MAX_CONTROL_PAYLOAD:
        raise ValueError(f"expected a close reason of at most 123 bytes of UTF-8, got {len(payload) - 2}")
    return payload


def decode_close(payload: BytesLike, errors: str = "strict") -> tuple[int, str]:
    """Read the code and reason of a Close frame; an empty one says 1005 (RFC 6455 section 7.1.5).

    `errors` is what `bytes.decode` does about a reason that is not UTF-8; "strict" raises InvalidData.
    """
    payload = bytes(payload)
    if not payload:
        return 1005, ""
    # RFC 6455 section 5.5.1: "the first two bytes of the body MUST be a 2-byte unsigned integer"
    if len(payload) == 1:
        raise ProtocolError("expected no payload or at least 2 bytes in a Close frame, got 1")
    code = int.from_bytes(payload[:2], "big")
    if not _close_code_allowed(code):
        raise ProtocolError(f"expected a close code of 1000-1003, 1007-1014 or 3000-4999, got {code}")
    try:
        return code, payload[2:].decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise InvalidData(f"expected a close reason in UTF-8, got an invalid byte at {error.start}") from None


def _close_code_allowed(code: int) -> bool:
    # RFC 6455 section 7.4 and the IANA registry: 1004 is reserved; 1005, 1006 and 1015 are never sent.
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
