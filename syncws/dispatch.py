"""Telling the user: events leave in order, one at a time, on the connection's own thread.

Rank 4, over Incoming. Whoever dispatches is the dispatcher (a token under the state lock) until nothing is left to be
told; what comes meanwhile is told by that one. A connection whose messages are listened to has one thread that loops:
read, dispatch, read again. For the rest there is a short-lived thread, and nothing ever runs on the attendant's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar

from .attendant import TICK
from .errors import ConnectionClosed, InvalidStateError
from .events import LISTENERS_ERRORS, Event, Handler
from .frames import BINARY
from .inbox import hand_out
from .incoming import Incoming
from .lifecycle import CLOSED, CONNECTING, OPEN, Role
from .port import message_event
from .reading import leaves_reading
from .runtime import in_time

logger = logging.getLogger("syncws")

#: Seconds that a close waits for somebody to listen to the messages before it, if none was read by hand.
HESITATION = 10.0

#: events that wait for their first listener
_KEPT = ("open", "error", "close")


class Dispatching(Incoming):
    """Listeners, and the loop that reads for them."""

    __slots__ = (
        "_close_fired",
        "_dispatcher",
        "_done",
        "_hesitates_until",
        "_home",
        "_hurried",
        "_kept",
        "_listened_at",
        "_looper",
    )

    _ROLES = (*Incoming._ROLES, "_looper", "_dispatcher")
    _TYPES: ClassVar[frozenset[str]] = frozenset(
        ("open", "message", "close", "error", "ping", "pong", "upgrade", "redirect", "unexpected-response")
    )

    onopen = Handler("open")
    onmessage = Handler("message")
    onclose = Handler("close")
    onerror = Handler("error")
    onping = Handler("ping")
    onpong = Handler("pong")
    onupgrade = Handler("upgrade")
    onredirect = Handler("redirect")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Guarded by the state lock:
        self._dispatcher: Role | None = None
        self._looper: object = None  # who runs the loop
        self._home: object = None  # the connection's own thread, while it is in the user's accept()
        self._kept: dict[str, Event] = {}
        self._hesitates_until = 0.0
        self._hurried = False
        self._listened_at = 0.0  # when a listener to messages came last, in accept()
        self._close_fired = False
        self._done = False  # CLOSED, and the close listeners have run

    # -- what comes next ---------------------------------------------------------------------------------------

    def _next(self) -> str | None:
        """What is to be told next: a message, an event, or nothing just now."""
        listened = self._has_listeners("message") and not self._close_fired
        if not self._happenings:
            return "message" if listened and self._inbox and not self._paused else None
        after, event = self._happenings[0]
        if after <= self._decoded - len(self._inbox) or not self._inbox:
            return "event"
        # Messages stand before it.
        if listened:
            return None if self._paused else "message"
        return None if event.type == "close" and self._hesitates() else "event"

    def _hesitates(self) -> bool:
        """Whether a close waits for a message listener, who may be attached only now."""
        waited_for = self._hurried or self._waits_closed > 0 or not self._has_listeners("close")
        return not waited_for and time.monotonic() < self._hesitates_until

    def _hurry(self) -> None:
        """Whoever is told of the end is waited for: no close hesitates any more."""
        with self._lock:
            self._hurried = True
        self._told()

    def _hesitate(self) -> None:
        """With the state lock: a close is to be told from now on."""
        self._hesitates_until = time.monotonic() + (TICK if self._read_by_hand else HESITATION)

    def _conclude(self) -> None:
        self._hesitate()
        super()._conclude()

    # -- who tells it --------------------------------------------------------------------------------------------

    def _told(self) -> None:
        """Something may be there to be told: find somebody who does. Runs no listener itself."""
        with self._lock:
            if self._dispatcher is not None:
                return
            while self._settle_unheard():
                pass
            due = self._next() is not None
            if due and self._looper_is_awake():
                self._changed.notify_all()
                return
            at_home = self._looper is None and self._home is not None and not self._waits_closed
            watch = at_home if due else bool(self._happenings)  # else: a close that hesitates
        if watch:
            # The thread that is busy in accept() may come to it; if not, the attendant finds another.
            self._watch()
        elif due:
            self._spawn(self._tell_all)

    def _looper_is_awake(self) -> bool:
        """With the state lock: whether a looper will look before it reads again."""
        return self._looper is not None and self._reader is not self._looper

    def _settle_unheard(self) -> bool:
        """With the state lock: an event that nobody listens to is put aside, which takes no thread."""
        if self._next() != "event" or self._has_listeners(self._happenings[0][1].type):
            return False
        event = self._happenings.pop(0)[1]
        if event.type in _KEPT and not self._close_fired:
            self._kept[event.type] = event
        self._note_told(event)
        return True

    def _note_told(self, event: Event) -> None:
        """With the state lock."""
        if event.type == "close":
            self._done = True
        self._changed.notify_all()

    def _spawn(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._runtime.spawn("syncws-listener", self._survive, function, *args)
        except RuntimeError as error:
            logger.error("no thread for the listeners of a connection, trying again: %s", error)
            self._watch()

    def _survive(self, function: Callable[..., object], *args: object) -> None:
        """The top of a thread of ours: what a listener raises that is no Exception ends the connection."""
        try:
            function(*args)
        except BaseException as error:
            logger.error("a listener raised %r: the connection is dropped", type(error).__name__)
            self._abort("a listener raised")
            self._told()  # also if it was CLOSED before

    def _listener_added(self, type: str) -> None:
        with self._lock:
            event = self._kept.pop(type, None)
            if event is not None and type == "close":
                self._hesitate()
                self._done = False
                self._happenings.append((self._decoded, event))
            elif event is not None:
                self._happenings.insert(0, (0, event))
        if type == "message":
            with self._lock:
                self._read_by_hand = False
                self._changed.notify_all()  # whoever waits in recv() gets nothing any more
            self._ensure_loop()
        self._told()

    def _ensure_loop(self) -> None:
        """See to it that a connection with message listeners has a thread that reads for them."""
        role = object()
        try:
            with self._lock:
                if not self._needs_loop():
                    return
                if self._home is None:
                    self._looper = role
            if self._looper is role:
                self._spawn_loop(role)
            else:
                self._listened_at = time.monotonic()
                self._watch()
        except BaseException:
            if self._looper is role:  # interrupted before it could begin
                self._bail(role)
            raise

    def _needs_loop(self) -> bool:
        """With the state lock."""
        return (
            self._looper is None
            and self._state not in (CONNECTING, CLOSED)
            and self._has_listeners("message")
        )

    def _spawn_loop(self, role: object) -> None:
        try:
            self._runtime.spawn("syncws-reader", self._survive, self._loop, role)
        except RuntimeError:
            with self._lock:
                self._looper = None
            logger.error("no thread to read for the listeners of a connection, trying again")
            self._watch()

    def _relieve(self) -> None:
        """On the attendant: a thread for listeners whose own is busy in accept(), or could not be had."""
        if self._home is not None and time.monotonic() < self._listened_at + TICK:
            self._watch()  # it may be about to wait for the end, or to return, and will tell them itself
            return
        with self._lock:
            if self._needs_loop():
                role = self._looper = object()
            elif self._next() is None or self._dispatcher is not None:
                return
            elif self._looper_is_awake():
                self._changed.notify_all()  # it may wait for a close that hesitated until now
                return
            else:
                role = None
        if role is not None:
            self._spawn_loop(role)
        else:
            self._spawn(self._tell_all)

    # -- telling ---------------------------------------------------------------------------------------------------

    def _tell_opening(self, event: Event) -> None:
        """On the thread that connects: tell an event of the opening handshake now."""
        role = Role(self._runtime.current())
        with self._lock:
            self._dispatcher = role
        try:
            event._target = self
            self._call(event.type, event)
        finally:
            with self._lock:
                if self._dispatcher is role:
                    self._dispatcher = None

    def _refuse_to_wait_for_itself(self) -> None:
        if self._state == CONNECTING and self._is_dispatching():
            raise InvalidStateError("the connection is not open yet, and this listener is what it waits for")

    def _is_dispatching(self) -> bool:
        """Whether the caller is inside a listener of this connection."""
        dispatcher = self._dispatcher
        return dispatcher is not None and dispatcher.owner == self._runtime.current()

    def _is_over(self, inside: bool = False) -> bool:
        """CLOSED, and its listeners were told; or they wait for the caller, who is a listener: `inside`, of another."""
        return self._done or (self._state == CLOSED and (inside or self._is_dispatching()))

    def _tell_all(self, role: Role | None = None) -> None:
        """Tell what there is to be told, unless somebody does: that one looks again before it leaves.

        role: the dispatcher's, if the caller has taken it already.
        """
        role = role or Role(self._runtime.current())
        try:
            with self._lock:
                if self._dispatcher is not None and self._dispatcher is not role:
                    return
                kind = self._next()
                self._dispatcher = role if kind is not None else None
            while kind is not None:
                self._tell_messages() if kind == "message" else self._tell_event()
                kind = self._next_to_tell()
        except BaseException:
            with self._lock:
                if self._dispatcher is role:
                    self._dispatcher = None
                self._done = self._done or self._close_fired
                self._changed.notify_all()
            self._told()  # somebody else tells the rest
            raise

    def _next_to_tell(self) -> str | None:
        """As the dispatcher: `_next`; if there is nothing, the role is given back in the same step."""
        with self._lock:
            kind = self._next()
            if kind is None:
                self._dispatcher = None
                self._changed.notify_all()
            return kind

    def _tell_event(self) -> None:
        with self._lock:
            if self._next() != "event" or self._settle_unheard():
                return
            event = self._happenings.pop(0)[1]
            if event.type == "close":
                self._close_fired = True
                self._kept.clear()  # nothing fires after it
        event._target = self
        try:
            self._call(event.type, event)
        finally:
            with self._lock:
                self._note_told(event)

    def _tell_messages(self) -> None:
        """Tell messages as long as nothing else is to be told before the next one."""
        inbox, listeners = self._inbox, self._listeners
        while inbox and (entries := listeners["message"]):
            try:
                message = inbox.popleft()
            except IndexError:
                return
            if self._held_back:
                self._made_room()
            opcode, data, compressed = message
            if data.__class__ is str:
                event = message_event(data, False, compressed, self)
            else:
                event = message_event(hand_out(message, self._binary_type), opcode == BINARY, compressed, self)
            entry = entries[0]
            if len(entries) == 1 and not entry.once:
                # `_call` in short.
                try:
                    entry.call(event)
                except LISTENERS_ERRORS as error:
                    self._listener_raised("message", error)
            else:
                self._call("message", event)
            if not self._calm or self._happenings:
                return

    def _listener_raised(self, type: str, error: BaseException) -> None:
        if isinstance(error, ConnectionClosed) and self._state != OPEN:
            logger.debug("a listener for %r ended as the connection did: %s", type, error)
        else:
            super()._listener_raised(type, error)

    # -- the loop --------------------------------------------------------------------------------------------------

    def _loop(self, role: object, deadline: float | None = None) -> bool:
        """As the looper: read, tell, read again, until all is told. False at the deadline."""
        try:
            self._heed_signals()
            while True:
                self._tell_all()
                if self._done:
                    return True
                if deadline is None and self._calm and self._read_in_short(role):
                    continue
                self._act_on_verdict(jump=self._state != OPEN)
                if not in_time(deadline, self._step(role, deadline)):
                    return self._done
        finally:
            with self._lock:
                self._changed.notify_all()
                self._looper = None

    def _read_in_short(self, role: object) -> bool:
        """`_step` while nothing is the matter; whether messages came, and nothing else."""
        decoded = self._decoded
        self._read_alone(role)
        return self._decoded != decoded and self._calm

    @leaves_reading
    def _step(self, role: object, deadline: float | None) -> bool:
        """One read, or a wait for whatever makes one possible. False: nothing happened in time."""
        with self._lock:
            if self._done or (self._dispatcher is None and self._next() is not None):
                return True
            if self._verdict_is_due():
                return True  # it came after the look at it
            self._held_back = self._held_back or not self._has_room()
            bell = self._take_role_or_bell(role, may=self._may_read() and self._has_room())
        return self._read_or_hear(bell, deadline)
