"""Waiting for the end: `wait_closed`, and the thread of a server connection that stays when `accept` has returned.

Rank 4, over Dispatching. The connection's own thread tells its listeners while it waits. Any other that waits reads, if
nobody else does, but runs no listener: so its time-out holds, and what it has locked cannot be waited for by one.
"""

from __future__ import annotations

from typing import Any

from .dispatch import Dispatching
from .lifecycle import CLOSED, CLOSING, CONNECTING
from .options import check_timeout
from .reading import leaves_reading
from .runtime import deadline_after, in_time, is_past, remaining


class Awaiting(Dispatching):
    """Whoever waits until all is over."""

    __slots__ = ("_resides", "_waits_inside")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waits_inside = False  # a listener is in wait_closed()
        self._resides = False  # accept() has returned

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until CLOSED and every close listener has run: True; False after `timeout` seconds.

        Inside a listener: until CLOSED, before the close listeners run; in one of the opening handshake at once, with
        InvalidStateError unless the socket was closed. Without a message listener, messages beyond `max_queue` are
        dropped meanwhile: whoever waits here does not `recv`. In `accept` the listeners run in here.
        """
        check_timeout(timeout)
        deadline = deadline_after(timeout)
        waits = 0
        try:
            with self._lock:
                waits = self._waits_closed = self._waits_closed + 1
            self._act_on_verdict(jump=not self._has_listeners("message"))
            if self._is_dispatching():
                return self._wait_inside(deadline)
            if self._home is not None and self._home == self._runtime.current():
                return self._wait_at_home(deadline)
            self._told()
            return self._wait_outside(deadline)
        finally:
            with self._lock:
                self._waits_closed -= waits > 0
            self._ensure_loop()
            self._told()  # what came when we had looked for the last time, and were still the looper

    def _wait_inside(self, deadline: float | None) -> bool:
        """In a listener of this connection."""
        if self._state == CONNECTING:
            if not self._aborted:
                self._refuse_to_wait_for_itself()
            return True  # it will be, when the listener returns
        self._waits_inside = True
        try:
            while self._state != CLOSED:
                self._act_on_verdict(jump=True)
                if not self._read_or_wait(object(), deadline, lambda: self._state == CLOSED, for_message=False):
                    break
        finally:
            self._waits_inside = False
        return self._state == CLOSED

    def _drops_overflow(self) -> bool:
        # Nobody can be told of messages before that listener has returned; the peer's Close is behind them.
        return super()._drops_overflow() or (self._waits_inside and self._state == CLOSING)

    def _wait_at_home(self, deadline: float | None) -> bool:
        """On the connection's own thread: read and tell, unless another does; then wait for that one."""
        while True:
            role = object()
            bell = None
            try:
                with self._lock:
                    if self._done:
                        return True
                    if self._looper is None:
                        self._looper = role
                    else:
                        bell = self._changed.bell()
                if bell is None:
                    return self._loop(role, deadline)
                self._changed.hear(bell, remaining(deadline))
                if is_past(deadline):
                    return self._done
            finally:
                if self._looper is role:  # interrupted between the taking and the loop
                    self._bail(role)

    def _wait_outside(self, deadline: float | None) -> bool:
        """On any other thread: read if nobody does, and leave the telling to others."""
        while not self._done:
            jump = not self._has_listeners("message")
            self._act_on_verdict(jump)
            if not in_time(deadline, self._read_unless_done(object(), deadline, jump)):
                return self._done
        return True

    @leaves_reading
    def _read_unless_done(self, role: object, deadline: float | None, jump: bool) -> bool:
        """One read, or a wait for whatever changes. False: nothing happened in time."""
        self._heed_signals()
        with self._lock:
            if self._done or self._verdict_is_due(jump):
                return True  # or the verdict came after the look at it
            may = self._looper is None and self._may_read() and self._has_room()
            bell = self._take_role_or_bell(role, may)
        return self._read_or_hear(bell, deadline)

    # -- for a server --------------------------------------------------------------------------------------------

    def _reside(self) -> None:
        """On a server connection's own thread, after accept(): stay until all is told, if no other loops.

        What ends more than a listener, as a KeyboardInterrupt does, goes on.
        """
        role = object()
        try:
            with self._lock:
                self._home = None
                self._resides = True
                if self._looper is not None or self._done:
                    return
                self._looper = role
            self._loop(role)
        finally:
            if self._looper is role:  # interrupted between the taking and the loop
                self._bail(role)
            self._told()

    def _await_told(self, deadline: float | None, *, inside: bool = False, patient: bool = True) -> bool:
        """As `wait_closed`, but for a server, which neither reads nor runs listeners itself.

        `inside`: in a listener of another connection, which the listeners of this one may be waiting for: until CLOSED.
        Not `patient`: a close does not wait for somebody who might listen to messages.
        """
        if not patient:
            self._hurry()
        while True:
            with self._lock:
                if self._is_over(inside):
                    return True
                bell = self._changed.bell()
            self._changed.hear(bell, remaining(deadline))
            if is_past(deadline):
                return self._done


def is_inside_one(connections: list[Any]) -> bool:
    """Whether the caller is in a listener of one of them."""
    return any(ws._is_dispatching() for ws in connections)
