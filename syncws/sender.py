"""Messages in, buffers out: the sending half of a connection.

Rank 3: on frames and deflate; the socket calls it as the writer and writes what comes back.
Source: RFC 6455 sections 5.2 to 5.6 and 6.1 (sending), RFC 7692 sections 6 and 7.2.1 (RSV1, compression).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import frames
from .frames import CONTINUE, MAX_CONTROL_PAYLOAD, BytesLike

if TYPE_CHECKING:
    from .deflate import Deflater

# Up to here (bytes) one copy behind the header is cheaper than a second buffer to write.
_JOIN_LIMIT = 16 * 1024


class Sender:
    """Turns messages into the buffers to write, in order; remembers only an unfinished message.

    `message` must not be called from two threads at once: the order of its calls is the order on the wire.
    `control` may be called at any time.
    """

    __slots__ = ("_compressing", "_deflater", "_generate_mask", "_masked", "_open", "_threshold")

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
        self._open = False
        self._compressing = False

    @property
    def open_message(self) -> bool:
        """Whether a fragmented message waits for its last frame."""
        return self._open

    def message(
        self,
        opcode: int,
        payload: BytesLike,
        *,
        fin: bool = True,
        compress: bool | None = None,
        mask: bool | None = None,
    ) -> list[BytesLike]:
        """Frame a message, or with `fin=False` a part of one: the next call continues it, whatever `opcode`.

        `compress` None leaves the choice to the threshold; it is made once, by the first frame of a message.
        A large unmasked payload comes back as it is, uncopied. ValueError if `generate_mask` misbehaves;
        nothing has happened then.
        """
        if isinstance(payload, memoryview):
            payload = payload.cast("B")
        masked = self._masked if mask is None else mask
        # The key comes first: if making it fails, the compressor must not have seen what the peer never will.
        key = self._new_key() if masked else b""
        rsv1 = False
        deflater = self._deflater
        if self._open:
            opcode = CONTINUE
        elif deflater is not None:
            # RFC 7692 section 6: RSV1 marks the first frame and speaks for the whole message.
            rsv1 = len(payload) >= self._threshold if compress is None else compress
            self._compressing = rsv1
        if self._compressing and deflater is not None:
            payload = deflater.compress(payload, fin)
        self._open = not fin
        length = len(payload)
        if length < 126:
            # `write_header` written out: most messages are short.
            first = (0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode
            if not masked:
                return [bytes((first, length)) + payload]
            return [bytes((first, 0x80 | length)) + key + frames.mask(payload, key)]
        header = frames.write_header(opcode, length, fin, rsv1, key)
        if masked:
            payload = frames.mask(payload, key)
        return [header + payload] if length <= _JOIN_LIMIT else [header, payload]

    def control(self, opcode: int, payload: BytesLike, *, mask: bool | None = None) -> bytes:
        """Frame a Close, Ping or Pong of at most 125 bytes, else ValueError (RFC 6455 section 5.5)."""
        payload = bytes(payload)
        if len(payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"expected at most 125 bytes in a control frame, got {len(payload)}")
        masked = self._masked if mask is None else mask
        if not masked:
            return frames.write_header(opcode, len(payload)) + payload
        key = self._new_key()
        return frames.write_header(opcode, len(payload), key=key) + frames.mask(payload, key)

    def _new_key(self) -> bytes:
        # RFC 6455 section 5.3: a fresh key for every frame, from a strong source of entropy.
        if self._generate_mask is None:
            return os.urandom(4)
        key = self._generate_mask()
        if not isinstance(key, (bytes, bytearray)) or len(key) != 4:
            raise ValueError(f"expected 4 bytes from generate_mask, got {key!r}")
        return bytes(key)
