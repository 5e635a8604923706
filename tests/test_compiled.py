"""The compiled core: that it is what runs where it should, that it differs in nothing from its twin, and threads in it.

SYNCWS_EXPECT=compiled or pure says what this run should be of. SYNCWS_FUZZ is the number of random inputs.
"""

from __future__ import annotations

import gc
import os
import random
import sysconfig
import tracemalloc
from typing import Any

import fuzz_frames
import pytest
import world
from frame_vectors import KEY, WRONG, octets, xor
from program import Program, run
from twins import compiled, each_twin, needs_compiled

import syncws
from syncws import frames, pure

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# The same input each time where nobody looks at a single failure; else a new one, and more of it than the last time.
IN_CI = bool(os.environ.get("CI"))
COUNT = int(os.environ.get("SYNCWS_FUZZ") or (200_000 if IN_CI else 50_000))
SEED = 1 if IN_CI else random.randrange(1_000_000)
WHICH = "from syncws import frames; print(frames.COMPILED, frames.decode.__module__)"
LARGE = 1 << 20  # bytes that are masked without the GIL

bytearrays_are_safe = pytest.mark.skipif(FREE_THREADED, reason="without the GIL bytearray itself is not, before 3.14")
compiled_at_run_time = pytest.mark.skipif(compiled is None or not frames.COMPILED, reason="this run is in Python")


# -- which of the twins runs


@pytest.mark.skipif("SYNCWS_EXPECT" not in os.environ, reason="SYNCWS_EXPECT says nothing")
def test_the_run_is_of_the_twin_it_should_be_of() -> None:
    expected = {"compiled": True, "pure": False}[os.environ["SYNCWS_EXPECT"]]
    assert expected == frames.COMPILED, f"syncws is in {world.HOME}"


def test_all_hot_functions_are_of_one_twin() -> None:
    twin = compiled if frames.COMPILED else pure
    for name in ("decode", "encode", "mask", "Gatherer"):
        assert getattr(frames, name) is getattr(twin, name)
        assert getattr(frames, name).__module__ == twin.__name__


def test_processes_of_the_tests_run_the_same_package() -> None:
    source = "import syncws.frames; print(syncws.__file__, syncws.frames.COMPILED)"
    said = f"{syncws.__file__} {frames.COMPILED}"
    assert run(source) == (0, said, "")
    with Program(source) as program:
        assert program.line() == said


@compiled_at_run_time
@pytest.mark.parametrize("value", ["1", "yes", "false"])
def test_the_environment_switches_the_compiled_one_off(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SYNCWS_PURE", value)
    assert run(WHICH) == (0, "False syncws.pure", "")


@compiled_at_run_time
@pytest.mark.parametrize("value", ["", "0"])
def test_nothing_and_0_leave_it_on(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SYNCWS_PURE", value)
    assert run(WHICH) == (0, "True syncws._frames", "")


def test_without_the_compiled_one_nothing_is_said() -> None:
    hidden = "import sys; sys.modules['syncws._frames'] = None\n"
    assert run(hidden + WHICH) == (0, "False syncws.pure", "")


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has nothing but the GIL")
def test_importing_leaves_the_gil_off() -> None:
    assert run("import sys, syncws; print(sys._is_gil_enabled())") == (0, "False", "")


@needs_compiled
@world.untraced
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="about Linux")
def test_other_interpreters_may_import_it() -> None:
    source = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = "import sys; sys.path[:0] = %r; from syncws import _frames; assert _frames.mask(b'abcd', b'abcd') == bytes(4)"
for _ in range(3):
    other = interpreters.create()
    failure = interpreters.run_string(other, code % (sys.path,))
    assert failure is None, failure
    interpreters.destroy(other)
"""
    with Program(source) as program:
        assert program.end() == (0, "", "")


# -- the same as its twin


@needs_compiled
@pytest.mark.timeout(60 + COUNT / 1000)
def test_the_twins_do_not_differ_on_random_input() -> None:
    fuzz_frames.Fuzz(SEED).run(COUNT)


@needs_compiled
@pytest.mark.parametrize("number", range(len(WRONG)))
def test_the_twins_refuse_wrong_arguments_alike(number: int) -> None:
    name, arguments, _ = WRONG[number]
    complaints = []
    for twin in (pure, compiled):
        with pytest.raises((TypeError, ValueError, BufferError)) as caught:
            getattr(twin.Gatherer() if name == "add" else twin, name)(*arguments)
        # Python words a wrong type in its own way.
        complaints.append((caught.type, str(caught.value) if caught.type is ValueError else ""))
    assert complaints[0] == complaints[1]


@needs_compiled
def test_nothing_is_kept_by_calls_that_work_or_fail() -> None:
    text, data = "é" * 500, octets(1000)

    def calls() -> None:
        for payload in (text, "a" * 1000, data):
            wire = compiled.encode(1, payload, True, False, KEY)
            compiled.decode(wire, 0, len(wire), True, 0)
        compiled.mask(data, KEY)
        for name, arguments, error in WRONG:
            with pytest.raises(error):
                getattr(compiled.Gatherer() if name == "add" else compiled, name)(*arguments)
        gatherer = compiled.Gatherer()
        gatherer.add(data, 0, 1000, KEY, 0)
        gatherer.take()
        gatherer.add(data, 0, 1000, KEY, 0, 5000)

    held = []
    tracemalloc.start()
    for rounds in (20, 2000):
        for _ in range(rounds):
            calls()
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    # The smallest object, kept by each round, would be more; other threads of the tests may make some of their own.
    assert held[1] - held[0] < 50_000


# -- threads


def at_once(functions: list[Any]) -> None:
    for task in [world.spawn(function) for function in functions]:
        task.result(30)


@world.threads_only
@each_twin
def test_threads_that_share_a_buffer_do_not_disturb_each_other(twin: Any) -> None:
    data = octets(LARGE)
    kind = bytes if FREE_THREADED else bytearray
    buffer = kind(data)
    wire = kind(twin.encode(2, data, True, False, KEY))
    masked = xor(data, KEY)

    def work() -> None:
        for _ in range(5):
            assert twin.mask(buffer, KEY) == masked
            assert twin.decode(wire, 0, len(wire), True, 0)[0][0][1] == data
            assert twin.encode(2, buffer, True, False, KEY) == wire

    at_once([work] * 4)


@world.threads_only
@needs_compiled
@bytearrays_are_safe
def test_a_buffer_at_work_cannot_be_resized() -> None:
    buffer = bytearray(16 * LARGE)
    over = False
    refused = 0

    def work() -> None:
        nonlocal over
        try:
            for _ in range(50):
                assert len(compiled.mask(buffer, KEY)) >= 16 * LARGE
        finally:
            over = True

    task = world.spawn(work)
    while not over:
        try:
            buffer.append(0)
        except BufferError:
            refused += 1
    task.result()
    assert refused


@needs_compiled
def test_a_gatherer_lets_nobody_in_while_its_room_is_seen() -> None:
    gatherer = compiled.Gatherer()
    with gatherer.room(10) as room:
        for call in (lambda: gatherer.add(b"a", 0, 1, b"", 0), lambda: gatherer.fill(1, b"", 0), gatherer.take):
            with pytest.raises(RuntimeError, match="one thread at a time"):
                call()
        with pytest.raises(RuntimeError, match="one thread at a time"):
            gatherer.room(10)
        room[:1] = b"b"
    gatherer.fill(1, b"", 0)
    assert gatherer.take() == b"b"
    kept = compiled.Gatherer().room(10)
    kept[9] = 1  # alive as long as it is seen
    assert kept[9] == 1


@world.threads_only
@needs_compiled
def test_a_gatherer_lets_one_thread_in() -> None:
    gatherer = compiled.Gatherer()
    piece = octets(LARGE)
    masked = xor(piece, KEY)
    added: list[int] = []
    taken: list[bytes] = []
    refused: list[RuntimeError] = []

    def attempt(function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except RuntimeError as error:
            refused.append(error)
            return False

    def add() -> None:
        for _ in range(60):
            if attempt(gatherer.add, masked, 0, LARGE, KEY, 0) is None:
                added.append(1)

    def take() -> None:
        for _ in range(200):
            assert len(gatherer) % LARGE == 0
            taken.append(attempt(gatherer.take) or b"")

    at_once([add, add, take, take])
    taken.append(gatherer.take())
    assert sum(map(len, taken)) == len(added) * LARGE
    assert all(whole == piece * (len(whole) // LARGE) for whole in taken)
    assert {str(error) for error in refused} <= {"expected one thread at a time in a Gatherer"}
