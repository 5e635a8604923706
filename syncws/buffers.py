"""What users hand over to be sent, as bytes: checks of types and sizes, before anything is changed. And the buffer for
what comes in: its size.

Rank 1.
"""

from __future__ import annotations

from .frames import BINARY, MAX_CONTROL_PAYLOAD, TEXT

Data = str | bytes | bytearray | memoryview
Payload = bytes | bytearray | memoryview

#: bytes of the buffer of a connection that has nothing to do
LEAST_BUFFER = 496
#: up to so many it may keep them, although it has nothing to do for a while
SMALL_BUFFER = 8192
#: beyond so many it does not grow
MOST_BUFFER = 1 << 18
_FEW_FRAMES, _MANY_FRAMES = 256, 4096  # in one read


def as_bytes(data: object) -> Payload | None:
    """A contiguous buffer as one of bytes; None for what is no buffer. TypeError if it is not contiguous."""
    if isinstance(data, (bytes, bytearray)):
        return data
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except TypeError:
        return None
    if not view.c_contiguous:
        raise TypeError("a buffer must be contiguous: copy it with bytes() first")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def fragment_of(piece: object, binary: bool | None) -> tuple[int, Payload]:
    """Opcode and payload of one piece of a message."""
    if isinstance(piece, str):
        return TEXT if not binary else BINARY, piece.encode()
    view = as_bytes(piece)
    if view is None:
        raise TypeError(f"a fragment must be str or bytes-like, not {kind_of(piece)}")
    return TEXT if binary is False else BINARY, view


def control_payload(data: object) -> bytes:
    """The payload of a ping or pong. TypeError, or ValueError for more than 125 bytes (RFC 6455 section 5.5)."""
    payload = data.encode() if isinstance(data, str) else as_bytes(data)
    if payload is None:
        raise TypeError(f"data must be str or bytes-like, not {kind_of(data)}")
    if len(payload) > MAX_CONTROL_PAYLOAD:
        raise ValueError(f"a control frame carries at most {MAX_CONTROL_PAYLOAD} bytes, not {len(payload)}")
    return bytes(payload)


def kind_of(value: object) -> str:
    return type(value).__name__


def fitting(buffer: bytearray, count: int, frames: int) -> bytearray:
    """The buffer for the next read: one that grows with what comes.

    `count` bytes came last, with the ends of `frames` frames in them. Tiny frames get no large buffer: decoded they
    are many times larger than they were on the wire.
    """
    size = len(buffer)
    if count == size < MOST_BUFFER and frames < _FEW_FRAMES:
        return bytearray(4 * size)
    if size > LEAST_BUFFER and frames > _MANY_FRAMES:
        return bytearray(LEAST_BUFFER)
    return buffer
