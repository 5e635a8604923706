"""A transport before one deadline, for the steps that a client takes before its connection is open.

Rank 2: on `transport` and `runtime`. Has the names of a socket's calls, for python-socks works on those.
"""

from __future__ import annotations

import math
import time

from .runtime import remaining
from .transport import Transport


class Punctual:
    """Sends and receives; TimeoutError at `deadline`, which says what `who` did not do."""

    def __init__(self, transport: Transport, deadline: float | None, who: str) -> None:
        self._transport = transport
        self._deadline = deadline
        self._who = who
        self._enough: float | None = None
        #: whether the end of the stream was met
        self.ended = False

    def be_brief(self, seconds: float) -> None:
        """What still comes is worth so long, counted from the first call; then it is as if the stream had ended."""
        if self._enough is None:
            self._enough = min(time.monotonic() + seconds, self._deadline or math.inf)

    def sendall(self, data: bytes) -> None:
        self._transport.write_all(data, self._deadline, f"{self._who} does not take the request")

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end of the stream."""
        buffer = bytearray(size)
        count = self._transport.read(buffer, remaining(self._enough or self._deadline))
        if count is None and self._enough is not None:
            return b""
        if count is None:
            raise TimeoutError(f"{self._who} does not answer")
        self.ended = count == 0
        return bytes(buffer[:count])

    def close(self) -> None:
        """Nothing: the transport is its owner's to close."""
