"""Listeners and `on…` attributes: who is called, when, how often, in what order; and what events carry."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest

from syncws import events, port
from syncws.events import CloseEvent, DataEvent, ErrorEvent, Event, EventTarget, Handler, MessageEvent


class Target(EventTarget):
    _TYPES: ClassVar[frozenset[str]] = frozenset({"message", "close"})
    onmessage = Handler("message")
    onclose = Handler("close")


class Journal:
    """Hands out listeners that note their name, and what they were called with."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.arguments: list[tuple[Any, ...]] = []

    def __call__(self, name: str, then: Callable[[], object] | None = None) -> Callable[..., None]:
        def listener(*args: Any) -> None:
            self.names.append(name)
            self.arguments.append(args)
            if then is not None:
                then()

        return listener

    def take(self) -> str:
        """The names since the last call, joined."""
        names, self.names = self.names, []
        return "".join(names)


class Listening:
    def __init__(self, handle: Callable[..., object]) -> None:
        self.handleEvent = handle


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def journal() -> Journal:
    return Journal()


def fire(target: EventTarget) -> None:
    target.dispatchEvent(Event("message"))


# --- events


@pytest.mark.parametrize(
    ("event", "type", "fields"),
    [
        (Event("open"), "open", {}),
        (MessageEvent(), "message", {"data": None, "binary": False, "compressed": False}),
        (CloseEvent(), "close", {"code": 0, "reason": "", "wasClean": False}),
        (CloseEvent(1000, "bye", True), "close", {"code": 1000, "reason": "bye", "wasClean": True}),
        (ErrorEvent(), "error", {"error": None, "message": ""}),
        (ErrorEvent(message="why"), "error", {"error": None, "message": "why"}),
        (DataEvent("ping"), "ping", {"data": b""}),
        (DataEvent("pong", b"x"), "pong", {"data": b"x"}),
    ],
)
def test_events_carry_what_they_were_made_with(event: Event, type: str, fields: dict[str, object]) -> None:
    assert (event.type, event.target) == (type, None)
    assert {name: getattr(event, name) for name in fields} == fields


def test_an_error_event_takes_its_message_from_the_error() -> None:
    error = ValueError("no good")
    assert ErrorEvent(error).message == "no good"
    assert ErrorEvent(error, "other").message == "other"
    assert ErrorEvent(error).error is error


@pytest.mark.parametrize(
    "make",
    [
        lambda target: Event("message", target),
        lambda target: MessageEvent(b"", True, True, target),
        lambda target: CloseEvent(target=target),
        lambda target: ErrorEvent(target=target),
        lambda target: DataEvent("ping", b"", target),
    ],
)
def test_type_and_target_are_read_only(make: Callable[[object], Event], target: Target) -> None:
    event = make(target)
    assert event.target is target
    for name in ("type", "target"):
        with pytest.raises(AttributeError):
            setattr(event, name, "other")


@pytest.mark.parametrize("make", [events.message_event, port.message_event], ids=["python", "compiled, if it is"])
def test_an_event_of_a_message_is_as_one_that_was_constructed(make: Any) -> None:
    target, data = Target(), [b"a"]
    counts = [sys.getrefcount(value) for value in (target, data)]
    event = make(data, True, False, target)
    assert type(event) is MessageEvent
    assert (event.type, event.target, event.data) == ("message", target, data)
    assert (event.binary, event.compressed) == (True, False)
    event.data = None  # it may be changed, as any
    assert not hasattr(event, "__dict__")
    assert event in gc.get_referrers(target)
    del event
    assert [sys.getrefcount(value) for value in (target, data)] == counts
    with pytest.raises(TypeError):
        make(data, True, False)


@pytest.mark.parametrize(
    "data", ['{"a": 1}', b'{"a": 1}', bytearray(b'{"a": 1}'), memoryview(b'{"a": 1}'), [b'{"a"', b": 1}"]]
)
def test_json_reads_every_form_a_message_comes_in(data: object) -> None:
    assert MessageEvent(data).json() == {"a": 1}


def test_json_of_anything_else_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        MessageEvent("hello").json()


# --- adding and removing


def test_listeners_are_called_in_the_order_they_came(target: Target, journal: Journal) -> None:
    for name in "abc":
        target.addEventListener("message", journal(name))
    event = Event("message")
    assert target.dispatchEvent(event) is True
    assert journal.take() == "abc"
    assert journal.arguments == [(event,)] * 3
    assert event.target is target


def test_an_event_without_listeners_is_no_trouble(target: Target) -> None:
    assert target.dispatchEvent(CloseEvent()) is True
    assert target.dispatchEvent(Event("unheard-of")) is True


def test_only_events_are_dispatched(target: Target) -> None:
    with pytest.raises(TypeError, match="expected an Event"):
        target.dispatchEvent("message")  # type: ignore[arg-type]


def test_the_same_listener_twice_counts_once(target: Target, journal: Journal) -> None:
    first = journal("a")
    target.addEventListener("message", first)
    target.addEventListener("message", journal("b"))
    target.addEventListener("message", first, once=True)
    fire(target)
    fire(target)
    assert journal.take() == "abab"


def test_a_bound_method_is_the_same_listener_each_time(target: Target) -> None:
    events: list[Event] = []
    for _ in range(2):
        target.addEventListener("message", events.append)
    fire(target)
    assert len(events) == 1
    target.removeEventListener("message", events.append)
    assert not target._has_listeners("message")


def test_equal_objects_are_different_listeners(target: Target, journal: Journal) -> None:
    class Equal(Listening):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    target.addEventListener("message", Equal(journal("a")))
    target.addEventListener("message", Equal(journal("b")))
    fire(target)
    assert journal.take() == "ab"


def test_an_unknown_type_is_ignored(target: Target, journal: Journal) -> None:
    target.addEventListener("mesage", journal("a"))
    target.on("mesage")(journal("a"))
    target.dispatchEvent(Event("mesage"))
    target.removeEventListener("mesage", journal("a"))
    assert journal.take() == ""


@pytest.mark.parametrize("type", ["message", "unknown"])
@pytest.mark.parametrize("listener", [None, 1, "print", object()])
def test_what_cannot_listen_is_a_type_error(target: Target, type: str, listener: object) -> None:
    with pytest.raises(TypeError, match="callable or an object with handleEvent"):
        target.addEventListener(type, listener)


def test_removing_what_is_not_there_does_nothing(target: Target, journal: Journal) -> None:
    target.addEventListener("message", journal("a"))
    target.removeEventListener("message", journal("a"))
    target.removeEventListener("message", None)
    target.off("close", journal("a"))
    fire(target)
    assert journal.take() == "a"


def test_a_removed_listener_comes_back_at_the_end(target: Target, journal: Journal) -> None:
    first = journal("a")
    target.on("message", first)
    target.on("message", journal("b"))
    target.off("message", first)
    fire(target)
    target.on("message", first)
    fire(target)
    assert journal.take() == "bba"


def test_has_listeners_follows_adding_and_removing(target: Target, journal: Journal) -> None:
    listener = journal("a")
    assert not target._has_listeners("message")
    target.addEventListener("message", listener)
    assert target._has_listeners("message")
    assert not target._has_listeners("close")
    target.removeEventListener("message", listener)
    assert not target._has_listeners("message")
    target.onmessage = listener
    assert target._has_listeners("message")


# --- on, once, off


def test_on_and_once_are_decorators_that_return_the_function(target: Target, journal: Journal) -> None:
    listener = journal("a")
    assert target.on("message")(listener) is listener
    other = journal("b")
    assert target.once("message")(other) is other
    fire(target)
    fire(target)
    assert journal.take() == "aba"


def test_on_and_once_take_the_listener_at_once(target: Target, journal: Journal) -> None:
    listener = journal("a")
    assert target.on("message", listener) is listener
    assert target.once("message", other := journal("b")) is other
    fire(target)
    target.off("message", listener)
    fire(target)
    assert journal.take() == "ab"


# --- once


def test_a_once_listener_is_gone_before_it_is_called(target: Target, journal: Journal) -> None:
    def dispatch_again() -> None:
        assert not target._has_listeners("message")
        fire(target)
        journal.names.append("done")

    target.addEventListener("message", journal("a", then=dispatch_again), once=True)
    fire(target)
    assert journal.names == ["a", "done"]


def test_a_once_listener_may_add_itself_again(target: Target, journal: Journal) -> None:
    listener = journal("a", then=lambda: target.once("message", listener))
    target.once("message", listener)
    fire(target)
    fire(target)
    assert journal.take() == "aa"


def test_a_once_listener_is_called_once_by_concurrent_dispatches() -> None:
    class Guarded(Target):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

        def _listener_guard(self) -> AbstractContextManager[object]:
            return self.lock

    for _ in range(50):
        target, calls, barrier = Guarded(), list[Any](), threading.Barrier(4)

        def dispatch(target: Guarded = target, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            fire(target)

        target.once("message", calls.append)
        threads = [threading.Thread(target=dispatch) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(calls) == 1


def test_a_once_listener_taken_by_another_dispatch_is_not_called(target: Target, journal: Journal) -> None:
    # The first listener plays the other thread: it dispatches while the outer dispatch is under way.
    target.once("message", journal("a", then=lambda: fire(target)))
    target.once("message", journal("b"))
    fire(target)
    assert journal.take() == "ab"


# --- changes during a dispatch


def test_a_listener_removed_meanwhile_is_skipped(target: Target, journal: Journal) -> None:
    last = journal("c")
    target.on("message", journal("a", then=lambda: target.off("message", last)))
    target.on("message", journal("b"))
    target.on("message", last)
    fire(target)
    assert journal.take() == "ab"


def test_a_listener_added_meanwhile_waits_for_the_next_event(target: Target, journal: Journal) -> None:
    late = journal("b")
    target.on("message", journal("a", then=lambda: target.on("message", late)))
    fire(target)
    assert journal.take() == "a"
    fire(target)
    assert journal.take() == "ab"


def test_two_removals_of_one_listener_remove_it_once(target: Target, journal: Journal) -> None:
    target.on("message", journal("a"))
    (entry,) = target._listeners["message"]
    assert target._remove("message", entry) is True
    assert target._remove("message", entry) is False


# --- listeners that raise, and objects


def test_a_listener_that_raises_is_logged_and_the_others_run(
    target: Target, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Event) -> None:
        raise LookupError("broken listener")

    target.on("message", fail)
    target.on("message", journal("b"))
    caplog.expected_errors = 1  # type: ignore[attr-defined]
    with caplog.at_level(logging.ERROR, logger="syncws"):
        fire(target)
    assert journal.take() == "b"
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("syncws", "ERROR")
    assert record.getMessage() == "a listener for 'message' raised"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


def test_sys_exit_is_one_that_raises(target: Target, caplog: pytest.LogCaptureFixture) -> None:
    target.on("message", lambda event: sys.exit(3))
    caplog.expected_errors = 1  # type: ignore[attr-defined]
    fire(target)


def test_a_target_by_itself_takes_any_type() -> None:
    target, heard = EventTarget(), []
    target.addEventListener("news", heard.append)
    event = Event("news")
    target.dispatchEvent(event)
    assert heard == [event]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit])
def test_what_is_no_ordinary_error_passes_through(target: Target, kind: type[BaseException]) -> None:
    def interrupt(event: Event) -> None:
        raise kind

    target.on("message", interrupt)
    with pytest.raises(kind):
        fire(target)


def test_handle_event_is_looked_up_when_the_event_comes(target: Target, journal: Journal) -> None:
    listener = Listening(journal("a"))
    target.addEventListener("message", listener)
    fire(target)
    listener.handleEvent = journal("b")
    fire(target)
    target.removeEventListener("message", listener)
    fire(target)
    assert journal.take() == "ab"


def test_a_callable_is_called_though_it_has_handle_event(target: Target, journal: Journal) -> None:
    class Both(Listening):
        def __call__(self, event: Event) -> None:
            journal("called")()

    target.addEventListener("message", Both(journal("handled")))
    fire(target)
    assert journal.take() == "called"


def test_listeners_may_be_called_with_anything(target: Target, journal: Journal) -> None:
    target.on("message", journal("a"))
    target.on("message", Listening(journal("b")))
    target._call("message")
    target._call("message", 1, 2)
    assert journal.arguments == [(), (), (1, 2), (1, 2)]


# --- on… attributes


def test_a_handler_is_none_until_set(target: Target, journal: Journal) -> None:
    assert target.onmessage is None
    listener = journal("a")
    target.onmessage = listener
    assert target.onmessage is listener
    assert target.onclose is None
    fire(target)
    target.onmessage = None
    assert target.onmessage is None
    fire(target)
    assert journal.take() == "a"


@pytest.mark.parametrize("value", [None, 1, "print", Listening(print)])
def test_what_cannot_be_called_clears_a_handler(target: Target, journal: Journal, value: object) -> None:
    target.onmessage = value
    assert target.onmessage is None
    target.onmessage = journal("a")
    target.onmessage = value
    assert target.onmessage is None
    assert not target._has_listeners("message")


def test_a_handler_keeps_its_place_while_it_is_set(target: Target, journal: Journal) -> None:
    target.on("message", journal("a"))
    target.onmessage = journal("b")
    target.on("message", journal("c"))
    target.onmessage = journal("d")
    fire(target)
    assert journal.take() == "adc"
    target.onmessage = None
    target.onmessage = journal("e")
    fire(target)
    assert journal.take() == "ace"


def test_a_handler_and_a_listener_do_not_know_each_other(target: Target, journal: Journal) -> None:
    listener = journal("a")
    target.onmessage = listener
    target.addEventListener("message", listener)
    fire(target)
    assert journal.take() == "aa"
    target.removeEventListener("message", listener)
    target.removeEventListener("message", listener)
    assert target.onmessage is listener
    fire(target)
    assert journal.take() == "a"
    target.addEventListener("message", listener)
    target.onmessage = None
    fire(target)
    assert journal.take() == "a"


def test_a_handler_changed_meanwhile_takes_effect_at_its_turn(target: Target, journal: Journal) -> None:
    def change() -> None:
        target.onmessage = journal("c")

    target.on("message", journal("a", then=change))
    target.onmessage = journal("b")
    fire(target)
    assert journal.take() == "ac"


def test_a_handler_is_each_objects_own_and_visible_on_the_class(journal: Journal) -> None:
    one, other = Target(), Target()
    one.onmessage = journal("a")
    assert other.onmessage is None
    assert isinstance(Target.onmessage, Handler)


# --- hooks


def test_the_hooks_see_each_change_and_only_changes(journal: Journal) -> None:
    class Hooked(Target):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()
            self.added: list[tuple[str, bool]] = []

        def _listener_guard(self) -> AbstractContextManager[object]:
            return self.lock

        def _listener_added(self, type: str) -> None:
            # Not under the guard: a hook may start a thread, or add another listener.
            self.added.append((type, self.lock.locked()))

    target, listener = Hooked(), journal("a")
    target.on("message", listener)
    target.on("message", listener)
    target.on("unknown", listener)
    target.onclose = listener
    target.onclose = journal("b")
    target.onclose = None
    target.off("message", listener)
    assert target.added == [("message", False), ("close", False)]
    assert not target.lock.locked()
