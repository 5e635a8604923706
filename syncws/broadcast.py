"""One message for many connections of a server: framed once, and compressed once.

Rank 4. A connection takes what is made here as it takes any frame; see posting.
"""

from __future__ import annotations

from collections.abc import Iterable

from .buffers import Data, as_bytes, kind_of
from .deflate import Agreement
from .frames import BINARY, TEXT, encode
from .websocket import Connection

_Key = tuple[int, int, int]


class Broadcast:
    """A message and its frames. TypeError for what is neither text nor a buffer."""

    def __init__(self, data: Data) -> None:
        payload = data.encode() if isinstance(data, str) else as_bytes(data)
        if payload is None:
            raise TypeError(f"data must be str or bytes-like, not {kind_of(data)}")
        self._opcode = TEXT if isinstance(data, str) else BINARY
        self._payload = payload
        self._frames: dict[_Key | None, bytes] = {}

    def send(self, sockets: Iterable[Connection], max_backlog: int) -> None:
        """Post it to all of them. Before the first: TypeError for what is no socket, ValueError for a client's."""
        if isinstance(sockets, Connection):  # to iterate over it would be to take its messages
            raise TypeError(f"expected an iterable of sockets, got {sockets!r}")
        sockets = tuple(sockets)
        for ws in sockets:
            if not isinstance(ws, Connection):
                raise TypeError(f"expected sockets, got {ws!r:.80}")
            if not ws._server_side:  # each of its frames has a mask of its own
                raise ValueError(f"expected sockets of a server, got {ws!r}")
        for ws in sockets:
            ws._post(self._frame_for(ws._deflate), max_backlog)

    def _frame_for(self, deflate: Agreement | None) -> bytes:
        key = None
        if deflate is not None and len(self._payload) >= deflate.threshold:
            key = deflate.compressor(server=True)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self._make_frame(deflate, key)
        return frame

    def _make_frame(self, deflate: Agreement | None, key: _Key | None) -> bytes:
        if deflate is None or key is None:
            return encode(self._opcode, self._payload, True, False, b"")
        # A compressor that has seen nothing refers to nothing that a peer might not have (RFC 7692 section 7.2.1).
        deflater = deflate.deflater(server=True)
        assert deflater is not None
        return encode(self._opcode, deflater.compress(self._payload, True), True, True, b"")
