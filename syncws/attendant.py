"""The attendant: one thread per process (one greenlet per hub) that keeps all timers and minds unread connections.

Rank 2. It never runs a callback of the user's and never blocks: what it minds does non-blocking work only. It knows
its charges by `Charge` alone, and weakly, so that a connection nobody holds any more can go.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol

from .runtime import READ, Poller, Runtime

logger = logging.getLogger("syncws")

#: Seconds between two looks at the connections that may be unread; one is minded after one to two of them.
TICK = 0.2
_SWEEP = 256  # timers, from which on cancelled ones are looked for


class Charge(Protocol):
    """What an attendant looks after."""

    @property
    def _descriptor(self) -> int:
        """What `_arm` would arm."""

    def _tend(self, ticked: bool) -> int | None:
        """Do what can be done without waiting.

        `ticked`: called by the clock, not because the descriptor is ready. Answers with the events to be
        called for, 0 for a look at the next tick, None to be let go until watched again.
        """

    def _arm(self, poller: Poller, events: int) -> None:
        """Arm the descriptor in `poller` unless it is closed by now."""

    def _abort(self, why: str) -> None:
        """Drop the connection: tending it failed."""


class Timer:
    """One call in the future; forgotten by `cancel`."""

    __slots__ = ("function", "when")

    def __init__(self, when: float, function: Callable[[], None]) -> None:
        self.when = when
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        self.function = None


class Attendant:
    """Timers and minding; made with the first connection of a process (of a hub)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._thread = runtime.native_thread()  # of the hub
        self._poller = Poller(runtime)
        self._unstarted = deque([None])  # who takes it starts us
        # No lock: what comes is appended by anybody, also by another hub's thread, or by a finalizer in the middle of
        # whatever we do, and taken by us.
        self._fresh: deque[Timer] = deque()
        self._urgent: deque[weakref.ref[Charge]] = deque()
        self._arrivals: deque[weakref.ref[Charge]] = deque()
        self._wakes_at = 0.0  # read by them: who is late rings
        self._closed = False  # set in the child of a fork
        # Only the attendant's own thread touches these.
        self._timers: list[tuple[float, int, Timer]] = []
        self._sequence = itertools.count()
        self._sweep_at = _SWEEP
        self._watched: set[weakref.ref[Charge]] = set()
        self._armed: dict[int, weakref.ref[Charge]] = {}
        self._next_tick = 0.0

    @property
    def poller(self) -> Poller:
        return self._poller

    def is_here(self) -> bool:
        """Whether the caller runs on the thread of this hub."""
        return self._thread == self._runtime.native_thread()

    def start(self) -> None:
        """Start the thread, once. Raises RuntimeError if there is none to be had."""
        try:
            token = self._unstarted.pop()
        except IndexError:
            return
        try:
            self._runtime.spawn("syncws-attendant", self._run)
        except BaseException:
            self._unstarted.append(token)
            raise

    def close(self) -> None:
        """Give the descriptors back; only for one that was never started."""
        self._poller.close()

    def disinherit(self) -> None:
        """In the child of a fork: the poller is shared with the parent, so unregister nothing."""
        self._closed = True
        self._poller.disinherit()

    def call_at(self, when: float, function: Callable[[], None]) -> Timer:
        """Call `function`, which must not block, at `when` (time.monotonic)."""
        timer = Timer(when, function)
        self._fresh.append(timer)
        if when < self._wakes_at or len(self._fresh) >= _SWEEP:
            self._poller.ring()
        return timer

    def _sort_in(self) -> None:
        """Put new timers where they belong."""
        while self._fresh:
            timer = self._fresh.popleft()
            if timer.function is not None:
                heapq.heappush(self._timers, (timer.when, next(self._sequence), timer))
        if len(self._timers) >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """Drop cancelled timers, which would stay until they fall due."""
        self._timers = [entry for entry in self._timers if entry[2].function is not None]
        heapq.heapify(self._timers)
        self._sweep_at = max(2 * len(self._timers), _SWEEP)

    def watch(self, charge: weakref.ref[Charge]) -> None:
        """Look at a charge from the next tick on, until it lets go."""
        hash(charge)  # remembered from now on: once the charge is gone it cannot be asked for
        self._arrivals.append(charge)
        if self._wakes_at > time.monotonic() + TICK:
            self._poller.ring()

    def attend(self, charge: weakref.ref[Charge]) -> None:
        """Look at a charge now."""
        self._urgent.append(charge)
        self._poller.ring()

    def _run(self) -> None:
        # A greenlet, unlike a thread, is in the child of a fork too: there it ends.
        while not self._closed:
            try:
                self._round()
            except Exception:
                # Nothing but a bug gets here; the other connections must not suffer from it.
                logger.exception("the attendant failed, and goes on")
                self._runtime.sleep(TICK)
        self._poller.close()

    def _round(self) -> None:
        ready = self._poller.wait(self._doze())
        for descriptor in ready:
            charge = self._armed.pop(descriptor, None)
            if charge is not None:
                self._tend(charge, ticked=False)
        self._call_timers()
        for _ in range(len(self._urgent)):  # those that are added meanwhile come after the others' turn
            self._tend(self._urgent.popleft(), ticked=False)
        if time.monotonic() >= self._next_tick:
            self._tick()

    def _doze(self) -> float | None:
        """How long there is nothing to do; None: until the bell rings."""
        self._sort_in()
        moments = [self._timers[0][0]] if self._timers else []
        if self._watched or self._arrivals:
            moments.append(self._next_tick)
        if self._urgent:
            moments.append(0.0)
        self._wakes_at = min(moments, default=float("inf"))
        # Looked at again after the promise to wake: whoever came before it did not ring.
        if self._fresh or (self._arrivals and self._wakes_at > self._next_tick):
            return 0.0
        return max(self._wakes_at - time.monotonic(), 0.0) if moments else None

    def _call_timers(self) -> None:
        self._sort_in()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            function, timer.function = timer.function, None
            if function is not None:
                try:
                    function()
                except Exception:
                    logger.exception("a timer failed")

    def _tick(self) -> None:
        self._next_tick = time.monotonic() + TICK
        while self._arrivals:
            self._watched.add(self._arrivals.popleft())
        watched, self._watched = self._watched, set()
        for charge in watched:
            self._tend(charge, ticked=True)

    def _tend(self, reference: weakref.ref[Charge], ticked: bool) -> None:
        charge = reference()
        if charge is None:
            return
        try:
            events = charge._tend(ticked)
            if events:
                self._arm(charge, reference, events)
            if events is not None and not events & READ:
                self._watched.add(reference)  # what comes does not make its descriptor ready, or may not
        except Exception:
            logger.exception("tending a connection failed; it is dropped")
            with contextlib.suppress(Exception):  # no memory, say; the others are to be looked at all the same
                charge._abort("an internal error")

    def _arm(self, charge: Charge, reference: weakref.ref[Charge], events: int) -> None:
        descriptor = charge._descriptor
        self._armed[descriptor] = reference
        charge._arm(self._poller, events)


_attendants: weakref.WeakKeyDictionary[object, Attendant] = weakref.WeakKeyDictionary()


def attendant_of(runtime: Runtime) -> Attendant:
    """The attendant of this process, or of this hub; started when first asked for."""
    home = runtime.home()
    attendant = _attendants.get(home)
    if attendant is None:
        fresh = Attendant(runtime)
        attendant = _attendants.setdefault(home, fresh)
        if attendant is not fresh:
            fresh.close()
    attendant.start()
    return attendant


class Owner(Protocol):
    """What has descriptors of its own."""

    def _disinherit(self) -> None:
        """In the child of a fork: close them, but do nothing that the parent or its peers would notice."""


#: Whoever has descriptors stands in here: added when it gets them, discarded when it gives them back.
owners: set[weakref.ref[Owner]] = set()


def _forget_after_fork() -> None:
    for attendant in list(_attendants.values()):
        attendant.disinherit()
    _attendants.clear()
    inherited = [reference() for reference in list(owners)]
    owners.clear()
    for owner in inherited:
        if owner is not None:
            owner._disinherit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
