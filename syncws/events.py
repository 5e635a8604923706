"""Events and those who listen: `EventTarget`, the `on…` attributes, and the events of a socket.

Rank 0: imports nothing of the package; sockets and servers inherit from `EventTarget`.
Source: the DOM standard, section 2 (events); the HTML standard, "event handlers"; the WebSockets standard.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import AsyncGeneratorType, BuiltinMethodType, CoroutineType, GeneratorType, MethodType
from typing import Any, ClassVar, TypeVar, overload

logger = logging.getLogger("syncws")

#: What a listener may raise, and the connection goes on. A KeyboardInterrupt, or a greenlet's end, hits whoever runs.
LISTENERS_ERRORS = (Exception, SystemExit)

_Listener = TypeVar("_Listener")
_UNGUARDED: AbstractContextManager[object] = nullcontext()
_CALL = "__call__"
_RUN_BY_OTHERS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR


def check_runs(what: str, function: Any) -> None:
    """TypeError for a function that does nothing when it is called: nobody here awaits or iterates what it returns."""
    while isinstance(function, functools.partial):
        function = function.func
    for called in (function, getattr(type(function), _CALL, None)):
        code = getattr(called, "__code__", None)
        if code is not None and getattr(code, "co_flags", 0) & _RUN_BY_OTHERS:
            raise TypeError(f"{what} must be a plain function, neither a coroutine's nor a generator's: {function!r}")


def check_function(what: str, function: Any) -> None:
    """TypeError unless it is None, or runs when it is called."""
    if function is not None and not callable(function):
        raise TypeError(f"{what} must be callable or None, not {function!r}")
    check_runs(what, function)


def check_ran(what: str, result: Any) -> None:
    """TypeError if that is a coroutine or a generator: the function has not run."""
    if isinstance(result, (CoroutineType, GeneratorType, AsyncGeneratorType)):
        if not isinstance(result, AsyncGeneratorType):
            result.close()
        raise TypeError(f"{what} returned a {type(result).__name__}, which nobody runs: it must be a plain function")


class Event:
    """Something that happened to `target`."""

    __slots__ = ("_target", "_type")

    def __init__(self, type: str, target: object = None) -> None:
        self._type = type
        self._target = target

    @property
    def type(self) -> str:
        return self._type

    @property
    def target(self) -> Any:
        return self._target


class MessageEvent(Event):
    """A message came: `data` is str for text, else what `binaryType` says; `compressed` is how it came."""

    __slots__ = ("binary", "compressed", "data")

    # Made once per message, hence one plain function: no super().__init__().
    def __init__(
        self,
        data: Any = None,
        binary: bool = False,
        compressed: bool = False,
        target: object = None,
        type: str = "message",
    ) -> None:
        self._type = type
        self._target = target
        self.data = data
        self.binary = binary
        self.compressed = compressed

    def json(self) -> Any:
        """What the message says in JSON; ValueError if it does not."""
        data = self.data
        if isinstance(data, list):
            data = b"".join(data)
        elif isinstance(data, memoryview):
            data = bytes(data)
        return json.loads(data)


class DataEvent(Event):
    """A Ping or Pong came: `data` is its payload."""

    __slots__ = ("data",)

    def __init__(self, type: str, data: bytes = b"", target: object = None) -> None:
        super().__init__(type, target)
        self.data = data


class ResponseEvent(Event):
    """The server answered the opening handshake: `response` holds status, headers and body."""

    __slots__ = ("response",)

    def __init__(self, type: str, response: Any = None, target: object = None) -> None:
        super().__init__(type, target)
        self.response = response


class RedirectEvent(ResponseEvent):
    """The server sent us elsewhere: to `url`, which is asked next unless the listener closes the socket."""

    __slots__ = ("url",)

    def __init__(self, response: Any = None, url: str = "", target: object = None) -> None:
        super().__init__("redirect", response, target)
        self.url = url


class CloseEvent(Event):
    """The connection is closed: `code` and `reason` are the peer's.

    `wasClean` says that Close frames went both ways.
    """

    __slots__ = ("code", "reason", "wasClean")

    def __init__(
        self, code: int = 0, reason: str = "", wasClean: bool = False, target: object = None
    ) -> None:
        super().__init__("close", target)
        self.code = code
        self.reason = reason
        self.wasClean = wasClean


class ErrorEvent(Event):
    """The connection failed: `error` is the exception, `message` its text unless given."""

    __slots__ = ("error", "message")

    def __init__(
        self, error: BaseException | None = None, message: str | None = None, target: object = None
    ) -> None:
        super().__init__("error", target)
        self.error = error
        if message is None:
            message = "" if error is None else str(error)
        self.message = message


def message_event(data: Any, binary: bool, compressed: bool, target: object) -> MessageEvent:
    """A MessageEvent, for whoever makes millions: without the call of a class."""
    event = _new_event(MessageEvent)
    event._type = "message"
    event._target = target
    event.data = data
    event.binary = binary
    event.compressed = compressed
    return event


_new_event = MessageEvent.__new__


class Entry:
    """A listener in the list of its type; `removed` reaches the dispatches that hold an older list."""

    __slots__ = ("call", "handler", "listener", "once", "removed")

    def __init__(self, listener: Any, *, once: bool = False, handler: bool = False) -> None:
        self.once = once
        self.handler = handler
        self.removed = False
        self.replace(listener)

    def replace(self, listener: Any) -> None:
        """Let another listener have this place."""
        self.listener = listener
        self.call: Callable[..., object] = listener if callable(listener) else self._call_handle_event

    def _call_handle_event(self, *args: Any) -> None:
        # Looked up each time, as the DOM standard has it ("inner invoke").
        self.listener.handleEvent(*args)


class EventTarget:
    """Keeps listeners and calls them, in the order they came, on the thread that dispatches.

    A listener is a callable or an object with `handleEvent`. One that raises is logged, and the others run.
    """

    # The types there are; listeners for another are ignored. None: any.
    _TYPES: ClassVar[frozenset[str] | None] = None

    def __init__(self) -> None:
        # Tuples are replaced, never changed: a dispatch walks the one it found, without a lock.
        self._listeners: dict[str, tuple[Entry, ...]] = {}

    def addEventListener(self, type: str, listener: Any, *, once: bool = False) -> None:
        """Call `listener` for each event of `type`, or for the next one only; added twice it counts once.

        A type that there is not is ignored. TypeError for what is neither callable nor has `handleEvent`, and for
        coroutine functions.
        """
        if not callable(listener) and not hasattr(listener, "handleEvent"):
            raise TypeError(f"expected a callable or an object with handleEvent, got {listener!r}")
        check_runs("a listener", listener if callable(listener) else listener.handleEvent)
        if self._TYPES is not None and type not in self._TYPES:
            return
        with self._listener_guard():
            if self._find(type, listener) is not None:
                return
            self._append(type, Entry(listener, once=once))
        self._listener_added(type)

    def removeEventListener(self, type: str, listener: Any) -> None:
        """Undo `addEventListener`, `on` or `once`; nothing if there is nothing to undo."""
        entry = self._find(type, listener)
        if entry is not None:
            self._remove(type, entry)

    def dispatchEvent(self, event: Event) -> bool:
        """Make this the event's target and call its listeners now; True, for no event can be cancelled."""
        if not isinstance(event, Event):
            raise TypeError(f"expected an Event, got {event!r}")
        event._target = self
        self._call(event.type, event)
        return True

    @overload
    def on(self, type: str) -> Callable[[_Listener], _Listener]: ...
    @overload
    def on(self, type: str, listener: _Listener) -> _Listener: ...
    def on(self, type: str, listener: Any = None) -> Any:
        """`addEventListener`; without a listener a decorator. Returns the listener."""
        return self._on(type, listener, once=False)

    @overload
    def once(self, type: str) -> Callable[[_Listener], _Listener]: ...
    @overload
    def once(self, type: str, listener: _Listener) -> _Listener: ...
    def once(self, type: str, listener: Any = None) -> Any:
        """As `on`, for the next event only."""
        return self._on(type, listener, once=True)

    def off(self, type: str, listener: Any) -> None:
        """`removeEventListener`."""
        self.removeEventListener(type, listener)

    def _on(self, type: str, listener: Any, *, once: bool) -> Any:
        def add(listener: _Listener) -> _Listener:
            self.addEventListener(type, listener, once=once)
            return listener

        return add if listener is None else add(listener)

    def _call(self, type: str, *args: Any) -> None:
        for entry in self._due(type):
            try:
                entry.call(*args)
            except LISTENERS_ERRORS as error:
                self._listener_raised(type, error)

    def _listener_raised(self, type: str, error: BaseException) -> None:
        logger.error("a listener for %r raised", type, exc_info=error)

    def _consult(self, type: str, *args: Any) -> None:
        """As `_call`, for listeners whose failure is the caller's: the first exception is raised."""
        for entry in self._due(type):
            entry.call(*args)

    def _due(self, type: str) -> Iterator[Entry]:
        for entry in self._listeners.get(type, ()):
            # Whoever takes a `once` listener off the list is the one to call it.
            if not entry.removed and (not entry.once or self._remove(type, entry)):
                yield entry

    def _has_listeners(self, type: str) -> bool:
        return bool(self._listeners.get(type))

    def _listener_guard(self) -> AbstractContextManager[object]:
        """A hook: guards the lists of listeners against two writers at once."""
        return _UNGUARDED

    def _listener_added(self, type: str) -> None:
        """A hook: called after a listener was added, outside the guard."""

    def _find(self, type: str, listener: Any) -> Entry | None:
        for entry in self._listeners.get(type, ()):
            if not entry.handler and _same(entry.listener, listener):
                return entry
        return None

    def _handler(self, type: str) -> Entry | None:
        return next((entry for entry in self._listeners.get(type, ()) if entry.handler), None)

    def _set_handler(self, type: str, listener: Callable[..., object] | None) -> None:
        entry = self._handler(type)
        if listener is None:
            if entry is not None:
                self._remove(type, entry)
            return
        with self._listener_guard():
            # HTML standard, "event handlers": one that is replaced keeps its place among the listeners.
            entry = self._handler(type)
            if entry is not None:
                entry.replace(listener)
                return
            self._append(type, Entry(listener, handler=True))
        self._listener_added(type)

    def _append(self, type: str, entry: Entry) -> None:
        self._listeners[type] = (*self._listeners.get(type, ()), entry)

    def _remove(self, type: str, entry: Entry) -> bool:
        """Take `entry` off the list; False if somebody else did."""
        with self._listener_guard():
            if entry.removed:
                return False
            entry.removed = True
            self._listeners[type] = tuple(other for other in self._listeners[type] if other is not entry)
            return True


class Handler:
    """An `on…` attribute: one callable or None, independent of the listeners added by `addEventListener`."""

    def __init__(self, type: str) -> None:
        self._type = type

    @overload
    def __get__(self, target: None, owner: type[EventTarget]) -> Handler: ...
    @overload
    def __get__(self, target: EventTarget, owner: type[EventTarget]) -> Callable[..., object] | None: ...
    def __get__(self, target: EventTarget | None, owner: type[EventTarget]) -> Any:
        if target is None:
            return self
        entry = target._handler(self._type)
        return None if entry is None else entry.listener

    def __set__(self, target: EventTarget, value: object) -> None:
        # HTML standard: what cannot be called is taken for null.
        check_runs(f"on{self._type}", value)
        target._set_handler(self._type, value if callable(value) else None)


def _same(one: Any, other: Any) -> bool:
    # Each look-up of a bound method makes another object, equal to the last; anything else is itself only.
    return one is other or (isinstance(one, (MethodType, BuiltinMethodType)) and bool(one == other))
