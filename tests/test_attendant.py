"""The attendant alone, with charges made for the test: what it looks at, when, and what it survives."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import threading
import time
import weakref
from typing import Any

import pytest
import world
from test_runtime import RUNTIME
from world import eventually

from syncws import attendant
from syncws.attendant import TICK, Attendant, attendant_of
from syncws.runtime import READ


class Charge:
    """Notes how it was tended, and answers what it was told to answer; None once that is used up."""

    def __init__(self, *answers: Any, descriptor: int = -1) -> None:
        self.answers = list(answers)
        self.descriptor = descriptor
        self.tended: list[tuple[float, bool]] = []
        self.aborted: list[str] = []
        self.reference = weakref.ref(self)

    @property
    def _descriptor(self) -> int:
        return self.descriptor

    def _tend(self, ticked: bool) -> int | None:
        self.tended.append((time.monotonic(), ticked))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _arm(self, poller: Any, events: int) -> None:
        poller.arm(self.descriptor, events)

    def _abort(self, why: str) -> None:
        self.aborted.append(why)

    @property
    def ticked(self) -> list[bool]:
        return [ticked for _, ticked in self.tended]


@pytest.fixture
def minder() -> Any:
    """An attendant of the test's own, which ends with it."""
    minder = Attendant(RUNTIME)
    over = world.Event()

    def run() -> None:
        minder._run()
        over.set()

    RUNTIME.spawn("syncws-attendant", run)
    minder._unstarted.clear()
    yield minder
    minder._closed = True
    minder._poller.ring()
    assert over.wait(world.PATIENCE)
    minder._poller.close()


# -- charges -------------------------------------------------------------------------------------------------------


def test_a_watched_charge_is_looked_at_each_tick_until_it_lets_go(minder: Any) -> None:
    charge = Charge(0, 0, None)
    began = time.monotonic()
    minder.watch(charge.reference)
    eventually(lambda: len(charge.tended) == 3)
    assert charge.ticked == [True] * 3
    gaps = [later[0] - earlier[0] for earlier, later in zip(charge.tended, charge.tended[1:], strict=False)]
    assert charge.tended[0][0] - began < TICK + 1 and all(TICK * 0.9 <= gap < TICK + 1 for gap in gaps), gaps
    minder.watch((other := Charge()).reference)
    eventually(lambda: other.tended)
    assert len(charge.tended) == 3


def test_an_urgent_charge_is_looked_at_now(minder: Any) -> None:
    charges = [Charge() for _ in range(20)]
    began = time.monotonic()
    for charge in charges:
        minder.attend(charge.reference)
    eventually(lambda: all(charge.tended for charge in charges))
    assert all(charge.ticked == [False] for charge in charges)
    assert max(charge.tended[0][0] for charge in charges) - began < TICK


def test_a_charge_is_called_once_for_its_descriptor_and_then_again_if_it_asks(minder: Any) -> None:
    ours, theirs = world.pair_of_sockets()
    with contextlib.closing(ours), contextlib.closing(theirs):
        charge = Charge(READ, READ, None, descriptor=ours.fileno())
        minder.attend(charge.reference)
        eventually(lambda: len(charge.tended) == 1)
        theirs.send(b"x")  # never read: so it stays ready
        eventually(lambda: len(charge.tended) == 3)
        minder.attend((other := Charge()).reference)
        eventually(lambda: other.tended)
        assert charge.ticked == [False] * 3
        minder.poller.forget(ours.fileno())


def test_a_charge_that_fails_is_dropped_and_the_others_are_tended(minder: Any, caplog: Any) -> None:
    caplog.expected_errors = 1
    bad, good = Charge(ValueError("a bug")), Charge()
    minder.attend(bad.reference)
    minder.attend(good.reference)
    eventually(lambda: good.tended)
    assert bad.aborted == ["an internal error"] and not good.aborted


def test_a_charge_that_nobody_holds_is_let_go(minder: Any) -> None:
    charges = {Charge(*[0] * 100) for _ in range(50)}
    references = [charge.reference for charge in charges]
    for reference in references:
        minder.watch(reference)
    eventually(lambda: all(charge.tended for charge in charges))
    charges.clear()
    eventually(lambda: not any(reference() for reference in references))  # the attendant may hold one just now
    eventually(lambda: not minder._watched)


def test_a_charge_that_goes_before_its_first_look_is_nothing(minder: Any) -> None:
    for _ in range(100):
        charge = Charge()
        minder.watch(charge.reference)
        minder.attend(charge.reference)
    del charge
    minder.watch((last := Charge()).reference)
    eventually(lambda: last.tended)
    eventually(lambda: not minder._watched)


@world.threads_only
def test_charges_may_come_from_many_threads(minder: Any) -> None:
    charges = [[Charge(0) for _ in range(200)] for _ in range(4)]

    def bring(mine: list[Charge]) -> None:
        for charge in mine:
            minder.watch(charge.reference)
            minder.attend(charge.reference)

    for task in [world.spawn(bring, mine) for mine in charges]:
        task.result()
    eventually(lambda: all(len(charge.tended) >= 2 for mine in charges for charge in mine))


# -- timers --------------------------------------------------------------------------------------------------------


def test_timers_are_called_in_order_and_not_early(minder: Any) -> None:
    called: list[tuple[int, float]] = []
    began = time.monotonic()
    for number in (3, 1, 2, 0):
        minder.call_at(began + 0.05 * number, lambda number=number: called.append((number, time.monotonic() - began)))
    eventually(lambda: len(called) == 4)
    assert [number for number, _ in called] == [0, 1, 2, 3]
    assert all(0.05 * number <= after < 0.05 * number + 1 for number, after in called), called


def test_a_timer_may_be_as_far_as_can_be_said(minder: Any) -> None:
    called: list[int] = []
    minder.call_at(math.inf, lambda: called.append(3))
    minder.call_at(time.monotonic() + 1e12, lambda: called.append(2))
    world.sleep(0.05)  # until it sleeps, for as long as the system lets it
    minder.call_at(time.monotonic(), lambda: called.append(1))
    eventually(lambda: called)
    assert called == [1]


def test_a_nearer_timer_wakes_the_attendant_from_a_long_sleep(minder: Any) -> None:
    called: list[int] = []
    far = minder.call_at(time.monotonic() + 3600, lambda: called.append(2))
    world.sleep(0.05)
    minder.call_at(time.monotonic() + 0.05, lambda: called.append(1))
    eventually(lambda: called, 1.0)
    assert called == [1]
    far.cancel()


def test_a_cancelled_timer_is_not_called(minder: Any) -> None:
    called: list[int] = []
    when = time.monotonic() + 0.1
    minder.call_at(when, lambda: called.append(1)).cancel()
    minder.call_at(when, lambda: called.append(2))
    eventually(lambda: called)
    assert called == [2]


def test_a_timer_that_fails_is_logged_and_the_others_are_called(minder: Any, caplog: Any) -> None:
    caplog.expected_errors = 1
    called: list[int] = []
    when = time.monotonic()
    minder.call_at(when, lambda: 1 // 0)
    minder.call_at(when, lambda: called.append(1))
    eventually(lambda: called)
    assert [record.exc_info[0] for record in caplog.records if record.levelno == logging.ERROR] == [ZeroDivisionError]


def test_cancelled_timers_do_not_pile_up(minder: Any) -> None:
    kept = [minder.call_at(time.monotonic() + 3600, lambda: None) for _ in range(100)]
    for _ in range(20_000):
        minder.call_at(time.monotonic() + 3600, lambda: None).cancel()
    eventually(lambda: len(minder._timers) + len(minder._fresh) <= 1000)
    assert {id(timer) for timer in kept} <= {id(entry[2]) for entry in minder._timers} | set(map(id, minder._fresh))


# -- the attendant itself ------------------------------------------------------------------------------------------


def test_there_is_one_for_all_connections() -> None:
    assert attendant_of(RUNTIME) is attendant_of(RUNTIME)
    assert not attendant_of(RUNTIME)._unstarted


@world.threads_only
def test_there_is_one_also_when_many_ask_at_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(attendant, "_attendants", weakref.WeakKeyDictionary())
    before = {thread for thread in threading.enumerate() if thread.name == "syncws-attendant"}
    descriptors = len(os.listdir("/proc/self/fd"))
    barrier = threading.Barrier(8)

    def ask() -> Attendant:
        barrier.wait()
        return attendant_of(RUNTIME)

    found = {task.result() for task in [world.spawn(ask) for _ in range(8)]}
    assert len(found) == 1
    after = {thread for thread in threading.enumerate() if thread.name == "syncws-attendant"}
    assert len(after - before) == 1
    assert len(os.listdir("/proc/self/fd")) == descriptors + 3
    minder = found.pop()
    minder._closed = True
    minder._poller.ring()
    eventually(lambda: not (after - before) & set(threading.enumerate()))
    minder.close()


def test_without_a_thread_for_it_the_next_connection_tries_again(monkeypatch: Any) -> None:
    minder = Attendant(RUNTIME)
    spawned: list[str] = []

    def refuse(name: str, *_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(RUNTIME, "spawn", refuse, raising=False)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            minder.start()
    monkeypatch.setattr(RUNTIME, "spawn", lambda name, *_: spawned.append(name))
    minder.start()
    minder.start()
    assert spawned == ["syncws-attendant"]
    minder.close()


def test_a_bug_in_a_round_does_not_end_it(minder: Any, caplog: Any) -> None:
    caplog.expected_errors = None  # one for each failure
    failures = [OSError("once"), ValueError("twice")]
    tick = minder._tick

    def failing() -> None:
        if failures:
            raise failures.pop()
        tick()

    minder._tick = failing
    minder.watch((charge := Charge()).reference)
    eventually(lambda: charge.tended)
    assert not failures
    del minder._tick
    gc.collect()
