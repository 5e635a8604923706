"""Messages that nobody waits for: `cork` gathers some for one write, a server's broadcast leaves them in an outbox.

Rank 4, over Outgoing. What is posted is one whole frame of one whole message, made elsewhere and shared between
connections; it leaves between the messages of this one, as soon as the kernel takes it: with a `send`, at once, or by
the attendant. RFC 6455 section 5.4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from .frames import encode_close
from .lifecycle import OPEN
from .outgoing import Outgoing

#: RFC 6455 section 7.4 and its registry: "Try Again Later"
_TOO_SLOW = 1013


class Posting(Outgoing):
    """`cork`, and the receiving end of `Server.broadcast`."""

    @contextmanager
    def cork(self) -> Iterator[None]:
        """What is sent inside leaves at the end of the block, in as few writes as possible; 64 KiB leave before.

        The end waits as `send` does, and raises ConnectionClosed if the connection went before all of it was out.
        Control frames are not held up, and take what lies before them along. May be nested; counts for all threads.
        """
        with self._lock:
            self._corks += 1
            self._short_descriptor = -1
        try:
            yield
        except BaseException:
            self._uncork()
            self._flush()
            raise
        self._uncork()
        self._write_corked()

    def _uncork(self) -> None:
        with self._lock:
            self._corks -= 1
            if self._corks == 0 and self._transport is not None and not self._released:
                self._short_descriptor = self._transport.short_descriptor

    def _write_corked(self) -> None:
        """Get what is left of the corked out, as long as that may take."""
        if not self._out or self._corks:
            return
        role = object()
        cut = False
        try:
            self._take_writing(role, None, None)
            if self._out and self._transport is not None:
                cut = True
                self._write_out(self._transport, None)
                cut = False
        except OSError as error:
            cut = False
            self._sending_failed(error)
        finally:
            self._leave_frame(role, cut)

    def _post(self, frame: bytes, max_backlog: int) -> None:
        """Send a whole frame without waiting. Who has more than `max_backlog` bytes before it is closed with 1013."""
        if self._plain and self._post_alone(frame):
            return
        with self._lock:
            if self._state != OPEN:
                return
            slow = self._backlog + self._buffered + len(frame) > max_backlog
            if slow:
                self._outbox, self._backlog = None, 0
            else:
                if self._outbox is None:
                    self._outbox = deque()
                self._outbox.append(frame)
                self._backlog += len(frame)
        if slow:
            self._start_closing(encode_close(_TOO_SLOW, "too slow"))
        else:
            self._flush()
