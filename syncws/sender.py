"""Messages in, buffers out: the sending half of a connection.

Rank 3: on frames and deflate; the socket calls it as the writer and writes what comes back.
Source: RFC 6455 sections 5.2 to 5.6 and 6.1 (sending), RFC 7692 sections 6 and 7.2.1 (RSV1, compression).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from .frames import CONTINUE, MAX_CONTROL_PAYLOAD, BytesLike, encode, write_header

if TYPE_CHECKING:
    from .deflate import Deflater

# Up to here (bytes) one copy behind the header is cheaper than a second buffer to write.
_JOIN_LIMIT = 16 * 1024
_SMALL = 1024  # items of whatever size, in a view that is not one of bytes
# Asking the system for four bytes costs as much as for many; of so many bytes are the keys of the next frames.
_KEYS = 256


class Sender:
    """Turns messages into the buffers to write, in order; remembers only an unfinished message.

    No two calls at once: their order is the order on the wire.
    """

    __slots__ = ("_compressing", "_deflater", "_generate_mask", "_keys", "_masked", "_next_key", "_open", "_threshold")

    def __init__(
        self,
        *,
        masked: bool,
        deflater: Deflater | None = None,
        threshold: int = 1024,
        generate_mask: Callable[[], bytes] | None = None,
    ) -> None:
        self._masked = masked
        self._deflater = deflater
        self._threshold = threshold
        self._generate_mask = generate_mask
        self._keys = b""
        self._next_key = 0
        self._open = False
        self._compressing = False

    @property
    def open_message(self) -> bool:
        """Whether a fragmented message waits for its last frame."""
        return self._open

    @property
    def plain(self) -> bool:
        """Whether a message needs nothing but framing, with a key of ours."""
        return self._deflater is None and self._generate_mask is None and not self._open

    def message(
        self,
        opcode: int,
        payload: str | BytesLike,
        fin: bool = True,
        compress: bool | None = None,
        mask: bool | None = None,
    ) -> tuple[BytesLike, ...]:
        """Frame a message, or with `fin=False` a part of one: the next call continues it, whatever `opcode`.

        `compress` None leaves the choice to the threshold; it is made once, by the first frame of a message.
        A large unmasked payload comes back as it is, uncopied. ValueError if `generate_mask` misbehaves, or for
        text that is not Unicode; nothing has happened then.
        """
        # The key comes first: if making it fails, the compressor must not have seen what the peer never will.
        key = self.new_key() if (self._masked if mask is None else mask) else b""
        if fin and self._deflater is None and not self._open and (payload.__class__ is str or len(payload) <= _SMALL):
            return (encode(opcode, payload, True, False, key),)
        if isinstance(payload, str):
            payload = payload.encode()
        elif isinstance(payload, memoryview):
            payload = payload.cast("B")
        rsv1 = False
        if self._open:
            opcode = CONTINUE
        elif self._deflater is not None:
            # RFC 7692 section 6: RSV1 marks the first frame and speaks for the whole message.
            rsv1 = self._compressing = len(payload) >= self._threshold if compress is None else compress
        if self._compressing and self._deflater is not None:
            payload = self._deflater.compress(payload, fin)
        self._open = not fin
        if key or len(payload) <= _JOIN_LIMIT:
            return (encode(opcode, payload, fin, rsv1, key),)
        if isinstance(payload, bytearray):
            payload = memoryview(payload)  # cannot be resized meanwhile: the header has said how long it is
        return write_header(opcode, len(payload), fin, rsv1), payload

    def forget(self) -> None:
        """The peer has got a message that was not framed here: what is compressed from now on must not refer back.

        The peer's window holds that message, ours does not (RFC 7692 section 7.2.1).
        """
        if self._deflater is not None:
            self._deflater.forget()

    def control(self, opcode: int, payload: BytesLike, *, mask: bool | None = None) -> bytes:
        """Frame a Close, Ping or Pong of at most 125 bytes, else ValueError (RFC 6455 section 5.5)."""
        payload = bytes(payload)
        if len(payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"expected at most 125 bytes in a control frame, got {len(payload)}")
        masked = self._masked if mask is None else mask
        return encode(opcode, payload, True, False, self.new_key() if masked else b"")

    def new_key(self) -> bytes:
        """The key of the next frame."""
        # RFC 6455 section 5.3: a fresh key for every frame, from a strong source of entropy.
        if self._generate_mask is not None:
            return self._generated_key(self._generate_mask)
        start = self._next_key
        if start == len(self._keys):
            self._keys = os.urandom(_KEYS)
            start = 0
        self._next_key = stop = start + 4
        return self._keys[start:stop]

    @staticmethod
    def _generated_key(generate_mask: Callable[[], bytes]) -> bytes:
        key = generate_mask()
        if not isinstance(key, (bytes, bytearray)) or len(key) != 4:
            raise ValueError(f"expected 4 bytes from generate_mask, got {key!r}")
        return bytes(key)
