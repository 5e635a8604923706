"""What the attendant does for one connection: it reads while nobody does, and writes what the kernel did not take.

Rank 4, over Awaiting. All of this runs on the attendant's thread: nothing here waits, and nothing calls the user.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .awaiting import Awaiting
from .lifecycle import CLOSED, CLOSING, LINGER, OPEN
from .reading import leaves_reading
from .runtime import READ, WRITE

_MOST_READS = 16  # of one connection, before the attendant turns to the next
_PATIENCE = 1.0  # seconds after our `close` in which somebody may still begin to read by hand


class Tended(Awaiting):
    """The charge of an attendant; see `attendant.Charge`."""

    __slots__ = ("_activity_seen", "_closing_since", "_minding")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._activity_seen = -1
        self._closing_since = 0.0
        self._minding = False

    def _tend(self, ticked: bool) -> int | None:
        """See `attendant.Charge`."""
        if ticked:
            self._relieve()
        if self._state == OPEN and self._is_read():
            return self._tend_read()
        if self._state in (OPEN, CLOSING):
            self._mind(self._mind_once)
        with self._lock:
            if self._state == CLOSED and self._happenings:
                return 0  # a close that hesitates, or did so a moment ago: the next tick sees to it
            events = self._let_go_if_none(self._events_wanted())
            more = self._holds_more()
        if more:
            self._attend()  # at once, when the others have had their turn
        return events

    def _tend_read(self) -> int | None:
        """On the attendant: somebody reads; look again at the next tick, and write what could not be written."""
        if self._out or self._outbox or self._lags:
            self._mind(self._flush)
        with self._lock:
            events = self._events_wanted() or 0
            if events & WRITE:
                return events
            return self._let_go_if_none(None if self._reader is not None and not self._is_stalled() else 0)

    def _let_go_if_none(self, events: int | None) -> int | None:
        """With the state lock: what the attendant is answered; None also means that it watches us no longer."""
        if events is None:
            self._watched = False
        return events

    def _activity(self) -> int:
        """A number that changes while somebody reads, or takes messages."""
        return self.bytes_received + self._decoded - len(self._inbox)

    def _read_on(self, seen: int = -1, since: float = 0.0) -> None:
        """Drop the connection when nobody makes headway any more with what the peer has sent."""
        now, activity = time.monotonic(), self._activity()
        if activity != seen:
            since = now
        with self._lock:
            held_up = bool(self._inbox) or not self._has_room()
        patience = max(LINGER, self._options.close_timeout) if held_up else LINGER
        if now - since < patience:
            self._call_after(LINGER, Tended._read_on, activity, since)
        else:
            self._abort(f"nothing more of it was read for {patience:g} s, and it cannot be written to")

    def _is_read(self) -> bool:
        """On the attendant: whether somebody has been reading since the last look."""
        activity = self._activity()
        seen, self._activity_seen = self._activity_seen, activity
        return activity != seen

    def _attend(self) -> None:
        # While it minds us the attendant looks anyway, at its end: to ask for more would be to go round and round
        # for as long as a peer takes nothing of what we write.
        if not self._minding:
            super()._attend()

    def _attend_end(self) -> None:
        # A server's own thread reads on when accept() returns; if that takes longer than a tick, the attendant does.
        if self._home is not None or self._looper is not None:
            self._watch()
        else:
            super()._attend_end()

    def _mind(self, work: Callable[[], None]) -> None:
        self._minding = True
        try:
            work()
        finally:
            self._minding = False

    def _mind_once(self) -> None:
        """On the attendant: act and read on behalf of whoever will take what comes. Does not wait."""
        self._act_on_verdict(jump=True)
        for _ in range(_MOST_READS):
            if not self._read_for_others(object()) or self._transport is None or not self._transport.holds_data():
                break
        if self._state == CLOSING:
            self._act_on_verdict(jump=True)  # we have closed already: it takes no `send` from anybody
        self._activity_seen = self._activity()  # our own reads are not somebody's
        self._flush()

    @leaves_reading
    def _read_for_others(self, role: object) -> bool:
        if not self._take_reading(role):
            return False
        self._read(0)
        self._drop_overflow()
        return True

    def _leave_open(self) -> None:
        if self._state == OPEN:
            self._closing_since = time.monotonic()
        super()._leave_open()

    def _is_given_up(self) -> bool:
        # Whoever has read by hand may go on after close(): to it the peer's Close must not seem to stand where
        # messages were dropped. Until it does, TCP holds the peer back.
        if self._state != CLOSING:
            return False
        if self._resides or self._read_by_hand:
            return self._resides
        return self._looper is not None or time.monotonic() - self._closing_since >= _PATIENCE

    def _take_reading(self, role: object) -> bool:
        """The reader's role, for whoever reads on behalf of others: only if it is free and there is room."""
        with self._lock:
            if not self._may_read() or not self._has_room():
                return False
            self._reader = role
            return True

    def _holds_more(self) -> bool:
        """With the state lock: whether there is something to be read that the descriptor does not show."""
        if self._transport is None or not self._may_read() or not self._has_room():
            return False
        return self._transport.holds_data()

    def _is_stalled(self) -> bool:
        """With the state lock: whether what is to be written waits for what somebody reads."""
        stalls = self._transport is not None and self._transport.stalls
        return stalls and self._writer is None and self._has_unwritten()

    def _events_wanted(self) -> int | None:
        """With the state lock: what the attendant should be called for; see `Charge._tend`."""
        if self._state == CLOSED or self._transport is None:
            return None
        if self._verdict is not None or self._holds_more():
            return 0  # neither makes the descriptor ready: to be looked at again, whatever is to be written
        # A writer at work waits for itself, and says so if it leaves something.
        if self._is_stalled():
            return 0
        events = WRITE if self._writer is None and self._has_unwritten() else 0
        if self._reader is None and not self._ended:  # at its end the stream is always ready, and nobody reads it
            if self._has_room():
                return events | READ
            self._held_back = not self._paused
            if self._has_room():
                return events | READ  # a message was taken in the last moment, when nothing held us back yet
            if self._state == CLOSING:
                return events  # looked at again, for it may be given up by then
        return events or None
