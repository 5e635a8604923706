"""The wire format of frames: headers, the payload of Close, and the hot functions, compiled if that can be.

Rank 1: pure functions over buffers, used by the receiver, the sender and the `Message` value.
Source: RFC 6455 section 5 (framing), sections 5.5.1 and 7.4 (Close).
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from .errors import InvalidData, ProtocolError
from .opcodes import (
    BINARY,
    CLOSE,
    CONTINUE,
    FIN,
    KEY_SIZE,
    LENGTH,
    LENGTH_16,
    MASKED,
    MAX_CONTROL_PAYLOAD,
    OPCODE,
    PING,
    PONG,
    RSV1,
    RSV23,
    TEXT,
    BytesLike,
)
from .pure import Gatherer, decode, encode, mask, write_header

__all__ = [
    "BINARY",
    "CLOSE",
    "COMPILED",
    "CONTINUE",
    "MAX_CONTROL_PAYLOAD",
    "MAX_REASON",
    "PING",
    "PONG",
    "TEXT",
    "BytesLike",
    "Gatherer",
    "Header",
    "decode",
    "decode_close",
    "encode",
    "encode_close",
    "mask",
    "read_header",
    "write_header",
]

#: bytes of UTF-8 of the reason in a Close, behind its code
MAX_REASON = MAX_CONTROL_PAYLOAD - 2

# Whether the hot functions are the compiled ones: they were built, and SYNCWS_PURE is empty or 0.
COMPILED = False
if os.environ.get("SYNCWS_PURE", "") in ("", "0"):
    with contextlib.suppress(ImportError):
        from ._frames import Gatherer, decode, encode, mask

        COMPILED = True


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


def read_header(buffer: bytes | bytearray, start: int, end: int) -> Header | None:
    """Read the frame header at `buffer[start:end]`; None if it is not complete yet.

    Judges only the form of the length: ProtocolError if it is not the shortest, or has more than 63 bits.
    """
    if end - start < 2:
        return None
    first, second = buffer[start], buffer[start + 1]
    length = second & LENGTH
    body = start + 2
    if length >= LENGTH_16:
        body += 2 if length == LENGTH_16 else 8
        if body > end:
            return None
        length = _extended_length(buffer[start + 2 : body])
    masked = second >= MASKED
    key = b""
    if masked:
        key = bytes(buffer[body : body + KEY_SIZE])
        body += KEY_SIZE
    if body > end:
        return None
    return Header(
        fin=first >= FIN,
        rsv1=bool(first & RSV1),
        rsv23=bool(first & RSV23),
        opcode=first & OPCODE,
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
        raise ProtocolError(f"expected a payload length below 2**63, got {length}")
    return length


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
