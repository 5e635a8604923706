"""One message for many connections of a server: framed once, and compressed once.

Rank 4. A connection takes what is made here as it takes any frame; see posting.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from .buffers import Data, as_bytes, kind_of
from .deflate import Agreement
from .frames import BINARY, TEXT
from .framing import Framing
from .websocket import Connection

logger = logging.getLogger("syncws")

_Key = tuple[Framing, tuple[int, int, int] | None]


class Broadcast:
    """A message and its frames. TypeError for what is neither text nor a buffer."""

    def __init__(self, data: Data) -> None:
        payload = data.encode() if isinstance(data, str) else as_bytes(data)
        if payload is None:
            raise TypeError(f"data must be str or bytes-like, not {kind_of(data)}")
        self._opcode = TEXT if isinstance(data, str) else BINARY
        self._payload = payload
        self._frames: dict[_Key, bytes] = {}

    def send(self, sockets: Iterable[Connection], max_backlog: int) -> None:
        """Post it to all of them but those that cannot take it: a binary one may be nothing for a legacy client.

        Before the first: TypeError for what is no socket, ValueError for a client's.
        """
        if isinstance(sockets, Connection):  # to iterate over it would be to take its messages
            raise TypeError(f"expected an iterable of sockets, got {sockets!r}")
        sockets = tuple(sockets)
        for ws in sockets:
            if not isinstance(ws, Connection):
                raise TypeError(f"expected sockets, got {ws!r:.80}")
            if not ws._server_side:  # each of its frames has a mask of its own
                raise ValueError(f"expected sockets of a server, got {ws!r}")
        framing, frame = None, b""
        for ws in sockets:
            if self._opcode != TEXT and not ws.supports.binary:
                logger.debug("a binary broadcast passes over %r, which has text only", ws)
                continue
            if ws._framing is not framing or ws._deflate is not None:
                framing, frame = None if ws._deflate else ws._framing, self._frame_for(ws)
            # What `_post` does first, without that call: for a frame to thousands it is a quarter of the work.
            if not (ws._plain and ws._post_alone(frame)):
                ws._post(frame, max_backlog)

    def _frame_for(self, ws: Connection) -> bytes:
        framing, deflate = ws._framing, ws._deflate
        if deflate is not None and len(self._payload) < deflate.threshold:
            deflate = None
        key = framing, None if deflate is None else deflate.compressor(server=True)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self._make_frame(framing, deflate if key[1] else None)
        return frame

    def _make_frame(self, framing: Framing, deflate: Agreement | None) -> bytes:
        if deflate is None:
            return framing.frame(self._opcode, self._payload, False)
        # A compressor that has seen nothing refers to nothing that a peer might not have (RFC 7692 section 7.2.1).
        deflater = deflate.deflater(server=True)
        assert deflater is not None
        return framing.frame(self._opcode, deflater.compress(self._payload, True), True)
