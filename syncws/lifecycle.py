"""The life of one connection: its states, what ends it, and the two roles that keep its descriptor alive.

Rank 4, the lowest of the layers that make a socket (see docs/design.md). The table of states is in docs/states.md;
RFC 6455 section 7 is the closing handshake.

The state lock, `_lock`, guards everything named here as such. It is held for a few statements, never across a call
that can block, a callback, or another lock but the transport's, which is a leaf. Whoever waits for a change waits on
`_changed`.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from .attendant import Attendant, Timer, attendant_of, owners
from .errors import CALLED_OFF, ConnectionClosed, ProtocolError
from .events import CloseEvent, Event, EventTarget
from .options import Options
from .port import Port, new_lock
from .runtime import Condition, Poller, Runtime
from .transport import Transport

logger = logging.getLogger("syncws")

CONNECTING, OPEN, CLOSING, CLOSED = range(4)
STATE_NAMES = ("CONNECTING", "OPEN", "CLOSING", "CLOSED")

#: Seconds the peer has to end the TCP connection once the closing handshake is done.
LINGER = 2.0


class Role:
    """Who sends a message in fragments, or who tells events, just now: `owner` is a thread or greenlet.

    Made for each taking, so that only the taker can give it back. For the reader and the writer, of whom nobody asks
    where they run, a bare object does.
    """

    __slots__ = ("owner",)

    def __init__(self, owner: object) -> None:
        self.owner = owner


class _Constant:
    """A number on a class and on its instances; theirs cannot be set."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __get__(self, target: object, owner: type) -> int:
        return self._value

    def __set__(self, target: object, value: object) -> None:
        raise AttributeError("the ready states are constants")


class Lifecycle(EventTarget, Port):
    """States and their changes. The layers above fill in reading, writing and telling."""

    # A dictionary of them all would take 1 KiB more of every connection.
    __slots__ = (
        "_aborted",
        "_armed",
        "_attendant",
        "_changed",
        "_close_received",
        "_close_sent",
        "_ended",
        "_failure",
        "_lags",
        "_options",
        "_receive",
        "_reference",
        "_registry",
        "_released",
        "_runtime",
        "_state",
        "_timers",
        "_transport",
    )

    CONNECTING, OPEN, CLOSING, CLOSED = map(_Constant, range(4))

    #: the attributes that say who has which role
    _ROLES: ClassVar[tuple[str, ...]] = ("_reader", "_writer")

    #: the code of the peer's Close: 1005 for an empty one, 1006 when none came; None while open
    close_code: int | None = None
    close_reason: str = ""

    def __init__(self, runtime: Runtime, options: Options, *, server_side: bool) -> None:
        EventTarget.__init__(self)
        Port.__init__(self)
        self._runtime = runtime
        self._green = not runtime.may_block
        self._options = options
        self._server_side = server_side
        self._attendant: Attendant = attendant_of(runtime)
        self._reference: weakref.ref[Any] = weakref.ref(self)
        self._transport: Transport | None = None
        self._lags = False  # the transport may have something of its own to be written
        # Guards what follows, here and in the layers above.
        self._renew_lock()
        self._state = CONNECTING
        self._reader = self._writer = None  # who has the role, by an object made for the taking
        # OPEN and no end in sight, nor paused: the short paths need not look any further. Set to False by whoever
        # changes any of that, under the lock, with the change.
        self._calm = False
        self._aborted = False  # the transport is shut both ways: whoever is in it, leave
        self._ended = False  # the stream of the peer is at its end
        self._close_sent = False  # our Close is with the kernel
        self._close_received = False  # the peer's Close was acted on
        self._failure: BaseException | None = None  # why it ends, if it was not a Close
        self._released = False  # the descriptor is given back
        self._armed = False  # the poller of the attendant knows the descriptor
        self._registry: dict[Any, Any] | None = None  # of the server; we leave it when CLOSED
        self._timers: list[Timer] = []
        self._happenings: list[tuple[int, Event]] = []  # events to be told; see dispatch

    def _renew_lock(self) -> None:
        self._lock = new_lock(self._runtime)
        self._changed = Condition(self._runtime, self._lock)
        self._waiting = self._changed.waiting

    def _listener_guard(self) -> Any:
        return self._lock

    # -- what the layers above provide --------------------------------------------------------------------

    def _told(self) -> None:
        """Something may be waiting in `_happenings`."""

    def _messages_decoded(self) -> int:
        """How many messages have been decoded: an event is told after those."""
        return 0

    # -- attributes ---------------------------------------------------------------------------------------

    @property
    def readyState(self) -> int:
        """CONNECTING, OPEN, CLOSING or CLOSED (0 to 3)."""
        # Called off, it is about to be CLOSED; whoever connects has yet to find that.
        return CLOSING if self._state == CONNECTING and self._aborted else self._state

    @property
    def _descriptor(self) -> int:
        return -1 if self._transport is None else self._transport.descriptor

    def _take_over(self, transport: Transport) -> None:
        """The transport is ours from here on, its descriptor too."""
        self._transport = transport
        self._lags = transport.lags
        self._receive = transport.receive
        self._short_descriptor = transport.short_descriptor
        if self._green:
            self._hub, self._watcher = transport.data_wait()
        owners.add(self._reference)

    def _let_go(self) -> None:
        """While CONNECTING: close the transport, for the way leads elsewhere. Nobody but the caller is in it."""
        with self._lock:
            transport, self._transport = self._transport, None
            self._lags = False
            self._short_descriptor = -1
            owners.discard(self._reference)
        if transport is not None:
            transport.close()

    # -- the end ------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Drop the TCP connection now. Frees whoever waits in this socket.

        `close` fires with 1006, or with the code of the peer's Close if that came before.
        """
        self._abort("terminated")

    def _abort(self, why: str) -> None:
        """Shut the transport both ways. Whoever reads or writes finishes when it leaves; if nobody does, we do."""
        try:
            with self._lock:
                if self._state == CLOSED:
                    return
                self._mark_aborted(why)
                closed = self._conclude_if_due()
            if closed:
                self._told()
        except BaseException:
            self._bail()
            raise

    def _call_off(self) -> bool:
        """As `_abort` while CONNECTING: whoever connects finds it, and says so. False: it is too late, or was."""
        with self._lock:
            if self._state != CONNECTING:
                return False
            self._mark_aborted(CALLED_OFF)
            return True

    def _bail(self, role: object = None) -> None:
        """An interrupt left something half done: whatever `role` holds is given back, and the connection dropped.

        A KeyboardInterrupt can come between any two steps, also on the first of a clean-up. There is one at a time:
        what is called because of it runs to its end.
        """
        with self._lock:
            for name in self._ROLES:
                if role is not None and getattr(self, name) is role:
                    setattr(self, name, None)
            if self._state not in (CONNECTING, CLOSED):
                self._mark_aborted("interrupted")
            self._changed.notify_all()
            self._conclude_if_due()
        self._told()

    def _mark_aborted(self, why: str) -> None:
        """With the state lock."""
        # As one step after the other, each of which may be done again: the last time may have been interrupted.
        self._aborted = True
        self._failure = self._failure or ConnectionAbortedError(why)
        self._leave_open()
        self._shutdown()
        self._changed.notify_all()

    def _leave_open(self) -> None:
        """With the state lock: OPEN becomes CLOSING; what only an open connection does ends."""
        self._calm = False
        if self._state == OPEN:
            self._state = CLOSING
        self._changed.notify_all()

    def _conclude_if_due(self) -> bool:
        """With the state lock: CLOSED, once, when the end came and nobody is in here. True if that was now."""
        self._release_if_free()
        if self._state in (CONNECTING, CLOSED) or self._reader is not None:
            return False
        if not (self._ended or self._aborted):
            return False
        if self._writer is not None or (self._close_is_due() and not self._aborted):
            # It concludes when it leaves, or whoever is about to write our Close: only they know whether that got out.
            return False
        self._conclude()
        return True

    def _close_is_due(self) -> bool:
        """A hook, with the state lock: whether somebody is about to write our Close."""
        return False

    def _conclude_ended(self) -> None:
        """CLOSED, if whoever would come to that is held up: by a listener, who may be the caller."""
        with self._lock:
            closed = self._conclude_if_due()
        if closed:
            self._told()

    def _conclude(self) -> None:
        """With the state lock: the one way into CLOSED, but for a connection that is another's (`_disown`, a fork)."""
        if not self._close_received:
            self.close_code, self.close_reason = 1006, ""
        for timer in self._timers:
            timer.cancel()
        if self._registry is not None:
            self._registry.pop(self, None)
        happenings = [*self._happenings, (self._messages_decoded(), CloseEvent(*self._ending()))]
        # In one statement: whatever interrupts, CLOSED comes with its event, once.
        self._state, self._happenings = CLOSED, happenings
        self._release_if_free()
        self._changed.notify_all()

    def _shutdown(self) -> None:
        """With the state lock: free whoever waits in the transport."""
        if self._transport is not None and not self._released:
            self._transport.shutdown()

    def _ending(self) -> tuple[int, str, bool]:
        """Code, reason and wasClean, as far as they are known."""
        code = 1006 if self.close_code is None else self.close_code
        return code, self.close_reason, self._close_received and self._close_sent

    def _release_if_free(self) -> None:
        """With the state lock: give the descriptor back, once, when CLOSED and nobody is in the transport."""
        if self._state != CLOSED or self._released or self._reader is not None or self._writer is not None:
            return
        self._give_descriptor_back()
        self._forget()

    def _forget(self) -> None:
        """A hook, with the state lock: nothing is read or written any more."""

    def _give_descriptor_back(self) -> None:
        self._short_descriptor = -1
        owners.discard(self._reference)
        if self._transport is not None:
            if self._armed:
                self._attendant.poller.forget(self._transport.descriptor)
            self._transport.close()
        self._released = True

    def _closed_error(self) -> ConnectionClosed:
        """What a call on a closing or closed connection raises, with the code known so far."""
        error = ConnectionClosed(*self._ending())
        if isinstance(self._failure, (ProtocolError, ConnectionError)):
            error.__cause__ = self._failure
        return error

    def _disinherit(self) -> None:
        """See `attendant.Owner`. A stranger to the child: CLOSED, whoever was in here, and without a `close` event."""
        if self._runtime.may_block:
            # The threads stayed in the parent, whatever they held or awaited. Greenlets are here, and leave now.
            self._renew_lock()
            self._reader = self._writer = None
        self._state = CLOSED
        self._calm = False
        self._short_descriptor = -1
        self._registry = None
        self._timers = []
        self._happenings.clear()
        self._aborted = True
        self.close_code, self.close_reason = 1006, "the connection belongs to the parent process, from before a fork"
        self._failure = ConnectionAbortedError(self.close_reason)
        if self._transport is not None and not self._released:
            self._transport.disinherit()
        self._release_if_free()
        self._changed.notify_all()

    # -- with the attendant -------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Have the attendant look at this connection from the next tick on."""
        self._watched = True
        self._attendant.watch(self._reference)

    def _attend(self) -> None:
        """Have the attendant look at this connection now."""
        self._watched = True
        self._attendant.attend(self._reference)

    def _attend_end(self) -> None:
        """A hook: it is about to end, so have the attendant look at it soon."""
        self._attend()

    def _arm(self, poller: Poller, events: int) -> None:
        with self._lock:
            if not self._released:
                self._armed = True
                poller.arm(self._descriptor, events)

    def _call_after(self, seconds: float, function: Callable[..., None], *args: object) -> Timer:
        """Call `function(self, *args)` later, on the attendant, unless this object is gone by then."""
        timer = self._attendant.call_at(time.monotonic() + seconds, partial(_call, self._reference, function, *args))
        with self._lock:
            if self._state == CLOSED:
                timer.cancel()
            self._timers = [timer for timer in (*self._timers, timer) if timer.function is not None]
        return timer


def _call(reference: weakref.ref[Any], function: Callable[..., None], *args: object) -> None:
    this = reference()
    if this is not None:
        function(this, *args)
