"""The runtime of the world under test: locks, waiting, and which world a process lives in."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import select
import socket as _native
import sys
import threading
import time
import types
from typing import Any

import pytest
import world
from program import run
from world import eventually, spawn

from syncws import runtime
from syncws.runtime import READ, THREADS, WRITE, Condition, Poller, current_runtime, deadline_after, remaining

if world.GREEN:
    from syncws.greenlets import GREENLETS

    RUNTIME: Any = GREENLETS
else:
    RUNTIME = THREADS


@pytest.fixture
def pair() -> Any:
    ours, theirs = (RUNTIME.adopt(sock) for sock in world.pair_of_sockets())
    with contextlib.closing(ours), contextlib.closing(theirs):
        yield ours, theirs


@pytest.fixture
def poller() -> Any:
    with contextlib.closing(Poller(RUNTIME)) as poller:
        yield poller


# -- which world ---------------------------------------------------------------------------------------------------


def test_the_world_is_the_one_of_this_mode() -> None:
    assert current_runtime() is (RUNTIME if world.MODE.startswith("patched") else THREADS)
    assert world.Socket._RUNTIME is (RUNTIME if world.MODE == "gevent" else None)


@pytest.mark.parametrize(
    ("patched", "outcome"),
    [
        (set(), "threads"),
        ({"socket", "threading"}, "gevent"),
        ({"socket"}, r"'socket' but not 'threading'.*patch_all.*syncws\.gevent"),
        ({"threading"}, r"'threading' but not 'socket'.*patch_all.*syncws\.gevent"),
    ],
)
def test_half_a_world_is_refused(patched: set[str], outcome: str, monkeypatch: Any) -> None:
    pytest.importorskip("syncws.greenlets")
    monkey = types.SimpleNamespace(is_module_patched=patched.__contains__)
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    if outcome in ("threads", "gevent"):
        assert current_runtime().name == outcome
        return
    with pytest.raises(RuntimeError, match=outcome):
        current_runtime()


def test_without_gevent_the_world_is_threads(monkeypatch: Any) -> None:
    monkeypatch.delitem(sys.modules, "gevent.monkey", raising=False)
    assert current_runtime() is THREADS


# -- time ----------------------------------------------------------------------------------------------------------


def test_a_deadline_is_never_less_than_now() -> None:
    assert remaining(None) is None and deadline_after(None) is None
    assert remaining(time.monotonic() - 5) == 0.0
    assert 4.0 < (remaining(deadline_after(5.0)) or 0) <= 5.0


# -- tasks and locks -----------------------------------------------------------------------------------------------


def test_what_is_spawned_runs_elsewhere_with_its_arguments() -> None:
    who: list[Any] = []
    RUNTIME.spawn("syncws-test", lambda *args: who.append((args, RUNTIME.current())), 1, 2)
    eventually(lambda: who)
    assert who[0][0] == (1, 2) and who[0][1] != RUNTIME.current()
    assert RUNTIME.current() == RUNTIME.current()


@world.threads_only
def test_a_thread_of_ours_has_a_name_and_does_not_hold_up_the_exit() -> None:
    found: list[Any] = []
    RUNTIME.spawn("syncws-test", lambda: found.append(threading.current_thread()))
    eventually(lambda: found)
    assert found[0].daemon and found[0].name == "syncws-test"


@pytest.mark.parametrize("timeout", [None, 0, 0.01, 1e9, math.inf])
def test_a_free_lock_is_taken_whatever_the_timeout(timeout: Any) -> None:
    lock = RUNTIME.lock()
    assert RUNTIME.acquire(lock, timeout) is True
    lock.release()


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_taken_lock_is_a_timeout(timeout: float) -> None:
    lock = RUNTIME.lock()
    lock.acquire()
    began = time.monotonic()
    assert RUNTIME.acquire(lock, timeout) is False
    assert time.monotonic() - began >= timeout


def test_a_condition_wakes_all_who_wait() -> None:
    lock = RUNTIME.lock()
    changed = Condition(RUNTIME, lock)

    def wait() -> bool:
        with lock:
            return changed.wait(world.PATIENCE)

    waiting = [spawn(wait) for _ in range(5)]
    eventually(lambda: len(changed.waiting) == 5)
    with lock:
        changed.notify_all()
    assert all(task.result() for task in waiting)
    assert not changed.waiting


@pytest.mark.parametrize("timeout", [-1.0, 0, 0.05])
def test_a_condition_that_does_not_come_is_a_timeout(timeout: float) -> None:
    lock = RUNTIME.lock()
    changed = Condition(RUNTIME, lock)
    with lock:
        assert changed.wait(timeout) is False
        assert not changed.waiting
        assert RUNTIME.acquire(lock, 0) is False, "the lock was not taken again"


class Interrupted(type(RUNTIME)):  # type: ignore[misc]
    """Every wait for a lock is interrupted."""

    def acquire(self, lock: Any, timeout: float | None) -> bool:
        raise KeyboardInterrupt


class Reluctant:
    """A lock whose taking is interrupted a few times."""

    def __init__(self, times: int) -> None:
        self._lock = RUNTIME.lock()
        self.times = times

    def acquire(self) -> Any:
        if self.times:
            self.times -= 1
            raise KeyboardInterrupt
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


@pytest.mark.parametrize("times", [0, 1, 3])
def test_an_interrupted_wait_has_the_lock_and_leaves_no_trace(times: int) -> None:
    lock: Any = Reluctant(0)
    lock.acquire()
    lock.times = times
    changed = Condition(Interrupted(), lock)
    with pytest.raises(KeyboardInterrupt):
        changed.wait(1.0)
    assert not changed.waiting
    lock.release()  # raises if it was not held


def test_sleeping_and_breathing_let_others_run() -> None:
    ran: list[int] = []
    RUNTIME.spawn("syncws-test", lambda: ran.append(1))
    RUNTIME.breathe()
    RUNTIME.sleep(0.05)
    assert ran


# -- waiting for descriptors ---------------------------------------------------------------------------------------


def test_a_waiter_tells_what_may_be_tried(pair: Any) -> None:
    ours, theirs = pair
    with contextlib.closing(RUNTIME.waiter(ours.fileno())) as waiter:
        assert waiter.wait(READ, 0) == 0
        assert waiter.wait(WRITE, None) & WRITE
        assert waiter.wait(READ | WRITE, 1) & WRITE
        theirs.send(b"x")
        assert waiter.wait(READ, None) == READ
        assert waiter.wait(READ | WRITE, 1) & READ


def test_a_hang_up_makes_every_direction_worth_a_try(pair: Any) -> None:
    ours, theirs = pair
    theirs.close()
    with contextlib.closing(RUNTIME.waiter(ours.fileno())) as waiter:
        for events in (READ, WRITE, READ | WRITE):
            assert waiter.wait(events, 5) & events


@pytest.mark.parametrize("timeout", [0.0001, 0.0015, 0.05])
def test_a_wait_does_not_end_before_its_time(timeout: float, pair: Any) -> None:
    with contextlib.closing(RUNTIME.waiter(pair[0].fileno())) as waiter:
        began = time.monotonic()
        assert waiter.wait(READ, timeout) == 0
        assert time.monotonic() - began >= timeout


def test_a_waiter_can_wait_for_both_directions_from_two_places(pair: Any) -> None:
    ours, theirs = pair
    with contextlib.closing(RUNTIME.waiter(ours.fileno())) as waiter:
        reading = [spawn(waiter.wait, READ, world.PATIENCE) for _ in range(2)]
        assert waiter.wait(WRITE, 1) == WRITE
        theirs.send(b"x")
        assert [task.result() for task in reading] == [READ, READ]


def test_a_poller_reports_once_until_armed_again(poller: Any, pair: Any) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    for _ in range(3):
        poller.arm(ours.fileno(), READ)
        assert poller.wait(5) == [ours.fileno()]
        assert poller.wait(0.01) == []


def test_a_poller_is_armed_while_it_waits(poller: Any, pair: Any) -> None:
    ours, theirs = pair
    theirs.send(b"x")
    waiting = spawn(poller.wait, world.PATIENCE)
    poller.arm(ours.fileno(), READ)
    assert waiting.result() == [ours.fileno()]


def test_a_poller_forgets(poller: Any, pair: Any) -> None:
    ours, theirs = pair
    poller.arm(ours.fileno(), READ)
    poller.forget(ours.fileno())
    theirs.send(b"x")
    assert poller.wait(0.02) == []


@pytest.mark.parametrize("descriptor", [-1, 0, 999999])
def test_forgetting_what_was_never_armed_is_nothing(descriptor: int, poller: Any) -> None:
    poller.forget(descriptor)


def test_the_bell_ends_a_wait_and_rings_once(poller: Any) -> None:
    waiting = spawn(poller.wait, world.PATIENCE)
    poller.ring()
    assert waiting.result() == []
    for _ in range(100_000):
        poller.ring()  # more than the pipe holds
    assert poller.wait(world.PATIENCE) == []
    while poller.wait(0.0) or select.select([poller._bell], [], [], 0)[0]:
        pass
    began = time.monotonic()
    assert poller.wait(0.05) == [] and time.monotonic() - began >= 0.04


def test_a_closed_poller_rings_into_nobodys_descriptor() -> None:
    poller = Poller(RUNTIME)
    gone = {poller._bell, poller._clapper}
    poller.close()
    ends = [end for _ in range(5) for end in _native.socketpair()]  # what is written into one can be read from another
    try:
        numbers = [end.fileno() for end in ends]
        assert gone <= {*numbers}, "the numbers were not reused, so this shows nothing"
        poller.ring()
        poller.forget(numbers[0])
        poller.close()
        assert select.select(numbers, [], [], 0)[0] == []
    finally:
        for end in ends:
            end.close()


# -- sockets -------------------------------------------------------------------------------------------------------


def test_a_socket_of_the_native_class_is_taken_as_it_is(pair: Any) -> None:
    assert RUNTIME.adopt(pair[0]) is pair[0]


class Special(_native.socket):
    """Somebody's own class."""


def test_a_socket_of_another_class_gives_up_its_descriptor() -> None:
    with contextlib.closing(Special(_native.AF_INET, _native.SOCK_STREAM)) as special:
        number = special.fileno()
        with contextlib.closing(RUNTIME.adopt(special)) as adopted:
            assert type(adopted) is RUNTIME.native_socket()
            assert (adopted.fileno(), special.fileno()) == (number, -1)
            assert (adopted.family, adopted.type) == (_native.AF_INET, _native.SOCK_STREAM)


def test_descriptors_of_ours_are_not_inherited(poller: Any) -> None:
    for descriptor in (poller._bell, poller._clapper, poller._epoll.fileno()):
        assert not os.get_inheritable(descriptor)


def test_names_are_resolved_in_this_world() -> None:
    assert ("127.0.0.1", 80) in [found[4] for found in RUNTIME.getaddrinfo("127.0.0.1", 80)]


def test_the_longest_wait_fits_the_system() -> None:
    assert runtime._LONGEST_WAIT <= threading.TIMEOUT_MAX


RING = """
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
from syncws.runtime import Poller, current_runtime
poller = Poller(current_runtime())
others = []
eventlet.spawn_n(others.append, "another")
for _ in range(70_000):
    poller.ring()
print(others)
print(poller.wait(1), others, poller.wait(0))
"""


@world.threads_only
@pytest.mark.skipif(importlib.util.find_spec("eventlet") is None, reason="eventlet is not installed")
def test_a_bell_waits_for_nobody_where_eventlet_has_patched_the_process() -> None:
    assert run(RING) == (0, "[]\n[] ['another'] []", "")
