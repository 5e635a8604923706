"""Messages that nobody waits for: `cork` gathers some for one write, a server's broadcast leaves them in an outbox, and
so does what is published under a topic that the socket has subscribed to.

Rank 4, over Outgoing. What is posted is one whole frame of one whole message, made elsewhere and shared between
connections; it leaves between the messages of this one, as soon as the kernel takes it: with a `send`, at once, or by
the attendant. RFC 6455 section 5.4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from .frames import encode_close
from .lifecycle import CLOSED, CONNECTING, OPEN
from .outgoing import Outgoing
from .topics import check_topic, topics

#: RFC 6455 section 7.4 and its registry: "Try Again Later"
_TOO_SLOW = 1013
_KEPT = "kept"
_POST_COST = 64  # bytes that a message takes besides its own


class Posting(Outgoing):
    """`cork`, `subscribe`, and the receiving end of `Server.broadcast` and `publish`."""

    # Guarded by the state lock: by topic, on whose behalf: of calls of `subscribe` that are waiting, and, once one has
    # returned, _KEPT. One `__init__` more, on top of all the others, would cost each thread a page of stack.
    _topics: dict[str, set[object]] | None = None

    @contextmanager
    def cork(self) -> Iterator[None]:
        """What is sent inside leaves at the end of the block, in as few writes as possible; 64 KiB leave before.

        The end waits as `send` does, and raises ConnectionClosed if the connection went before all of it was out.
        Control frames are not held up, and take what lies before them along. May be nested; counts for all threads.
        If the block raises, its end does not wait. InvalidStateError while CONNECTING.
        """
        cork = object()
        try:
            with self._lock:
                if self._state == CONNECTING:
                    self._refuse_unless_open()
                self._corks += (cork,)
                self._short_descriptor = -1
            yield
            self._uncork(cork)
            self._write_corked()
        except BaseException:
            try:
                self._uncork(cork)  # once more, if that was interrupted
                self._flush()
            except BaseException:
                self._uncork(cork)
                self._bail()
                raise
            raise

    def _uncork(self, cork: object) -> None:
        with self._lock:
            self._corks = tuple(other for other in self._corks if other is not cork)
            if not self._corks and self._transport is not None and not self._released:
                self._short_descriptor = self._transport.short_descriptor

    def _write_corked(self) -> None:
        """Get what is left of the corked out, as long as that may take."""
        role = object()
        cut = False
        try:
            if self._take_corked(role) and self._transport is not None:
                cut = True
                self._write_out(self._transport, None)
                cut = False
        except OSError as error:
            cut = False
            self._sending_failed(error)
        finally:
            try:
                self._leave_frame(role, cut)
            except BaseException:
                self._bail(role)
                raise

    def _take_corked(self, role: object) -> bool:
        """The writer's role, to write what was corked; False: there is nothing, or another cork holds it."""
        while True:
            with self._lock:
                if self._lost or (self._out and self._state == CLOSED):
                    raise self._closed_error()
                if self._corks or self._state == CLOSED or not self._holds_unsent():
                    return False
                # Once it is closing, others write: the Close may be among it.
                if self._writer is None and self._state == OPEN:
                    self._writer = role
                    return True
                bell = self._changed.bell()
            self._changed.hear(bell, None)

    def _holds_unsent(self) -> bool:
        """With the state lock."""
        if self._out:
            return True
        return self._lags and self._transport is not None and self._transport.wants_to_write()

    # -- topics --------------------------------------------------------------------------------------------------

    def subscribe(self, topic: str) -> None:
        """Get what any server of this process publishes under `topic`, until `unsubscribe` or the end; twice is once.

        Where a server has a broker, also what other processes publish: it returns once that is sure, and raises OSError
        if it cannot be had; the socket is not subscribed then. TypeError for what is no str, ValueError on a client's
        socket, InvalidStateError while CONNECTING, ConnectionClosed while CLOSING or CLOSED.
        """
        check_topic(topic)
        if not self._server_side:  # each of its frames has a mask of its own
            raise ValueError(f"expected a socket of a server, got {self!r}")
        call = object()
        with self._lock:
            self._refuse_unless_open()
            if self._topics is None:
                self._topics = {}
            self._topics.setdefault(topic, set()).add(call)
            topics().join(topic, self)
        followed = False
        try:
            topics().follow(topic, self._runtime)
            followed = True
        finally:
            self._settle(topic, call, followed)

    def _settle(self, topic: str, call: object, followed: bool) -> None:
        """A `subscribe` ends: unless it was followed, and nobody else has asked for it, all is as before."""
        with self._lock:
            behalf = (self._topics or {}).get(topic, set())
            if call not in behalf:
                return  # unsubscribed, or closed
            behalf.discard(call)
            if followed:
                behalf.add(_KEPT)
            if not behalf:
                self._leave_topic(topic)

    def _leave_topic(self, topic: str) -> None:
        """With the state lock."""
        if self._topics and self._topics.pop(topic, None) is not None:
            topics().leave((topic,), self)

    def unsubscribe(self, topic: str) -> None:
        """The opposite of `subscribe`; nothing if there was none. TypeError for what is no str.

        What another thread is publishing at this moment may still come.
        """
        check_topic(topic)
        with self._lock:
            self._leave_topic(topic)

    def _conclude(self) -> None:
        if self._topics:
            topics().leave(self._topics, self)
        super()._conclude()

    # -- posts ---------------------------------------------------------------------------------------------------

    def _post(self, frame: bytes, max_backlog: int) -> None:
        """Send a whole frame without waiting. Who is left with more than `max_backlog` bytes is closed with 1013.

        But whoever has taken all before it may take as long as it likes over one, however large.
        """
        if self._plain and self._post_alone(frame):
            return
        first = slow = False
        try:
            with self._lock:
                if self._state != OPEN:
                    return
                waiting = self._waiting_posts()
                slow = waiting > 0 and waiting + len(frame) > max_backlog
                if not slow:
                    first = not self._outbox
                    if self._outbox is None:
                        self._outbox = deque()
                    self._outbox.append(frame)
                    self._backlog += len(frame)
        finally:
            # Behind another, it leaves with that: who has posted the first flushes, or the attendant does what is left.
            if first:
                self._flush()
        if slow:
            self._start_closing(encode_close(_TOO_SLOW, "too slow"), unposted=True)

    def _waiting_posts(self) -> int:
        """With the state lock: bytes that the peer lags behind. Not those of a `send` at work, nor the corked."""
        left = self._buffered if self._writer is None and not self._is_held() else 0
        return self._backlog + _POST_COST * len(self._outbox or ()) + left
