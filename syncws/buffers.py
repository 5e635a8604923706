"""What users hand over to be sent, as bytes: checks of types and sizes, before anything is changed.

Rank 1.
"""

from __future__ import annotations

from .frames import BINARY, TEXT

Data = str | bytes | bytearray | memoryview
Payload = bytes | bytearray | memoryview

_MAX_CONTROL = 125


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
    if len(payload) > _MAX_CONTROL:
        raise ValueError(f"a control frame carries at most {_MAX_CONTROL} bytes, not {len(payload)}")
    return bytes(payload)


def kind_of(value: object) -> str:
    return type(value).__name__
