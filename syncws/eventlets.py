"""The runtime of eventlet's green threads: the same interface as `runtime.Runtime`, over one hub.

Rank 0, imported only where a server of eventlet's hands a connection over, or it has patched the process. Sockets stay
native and non-blocking; what eventlet does is wait for them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import eventlet
import eventlet.hubs
import eventlet.patcher
import eventlet.semaphore
import eventlet.tpool

from .runtime import Lock, Runtime, T, Waiter


class EventletRuntime(Runtime):
    """The world of eventlet's green threads, one hub to a thread."""

    name = "eventlet"
    may_block = False

    def lock(self) -> Lock:
        return eventlet.semaphore.Semaphore(1)  # type: ignore[no-any-return, unused-ignore]

    def acquire(self, lock: Lock, timeout: float | None) -> bool:
        return bool(lock.acquire() if timeout is None else lock.acquire(True, timeout))

    def spawn(self, name: str, function: Callable[..., None], *args: object) -> None:
        eventlet.spawn_n(function, *args)

    def current(self) -> object:
        return eventlet.getcurrent()

    def home(self) -> object:
        return eventlet.hubs.get_hub()

    def native_thread(self) -> int:
        return eventlet.patcher.original("threading").get_ident()  # type: ignore[no-any-return]

    def offload(self, function: Callable[..., T], *args: object) -> T:
        if eventlet.patcher.is_monkey_patched("socket"):
            return function(*args)  # it blocks this green thread only
        return eventlet.tpool.execute(function, *args)  # type: ignore[no-any-return]

    def waiter(self, descriptor: int) -> Waiter:
        return EventletWaiter(descriptor)

    def breathe(self) -> None:
        eventlet.sleep(0)

    def sleep(self, seconds: float) -> None:
        eventlet.sleep(seconds)

    def numeric_address(self, host: str, port: int) -> list[Any]:
        ask = eventlet.patcher.original("socket").getaddrinfo
        return ask(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)  # type: ignore[no-any-return]

    def getaddrinfo(self, host: str, port: int) -> list[Any]:
        ask = eventlet.patcher.original("socket").getaddrinfo
        return eventlet.tpool.execute(ask, host, port, 0, socket.SOCK_STREAM)  # type: ignore[no-any-return]

    def native_socket(self) -> type[socket.socket]:
        return eventlet.patcher.original("socket").socket  # type: ignore[no-any-return]

    def native_epoll(self) -> Any:
        return eventlet.patcher.original("select").epoll()

    def native_os(self, name: str) -> Callable[..., Any]:
        return getattr(eventlet.patcher.original("os"), name)  # type: ignore[no-any-return]


class EventletWaiter(Waiter):
    """Waits in the hub. That lets only one green thread wait for a descriptor, in one direction: each gets its own."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def wait(self, events: int, timeout: float | None = None) -> int:
        with EVENTLETS.native_epoll() as own:
            own.register(self._descriptor, events)
            if own.poll(0):
                eventlet.sleep(0)  # who is always ready must not keep the others waiting
            else:
                try:
                    eventlet.hubs.trampoline(own.fileno(), read=True, timeout=timeout, timeout_exc=_Late)
                except _Late:
                    return 0
            happened = own.poll(0)
        # An error or a hang-up makes every direction worth a try, which then finds out what it is.
        return ((happened[0][1] & events) or events) if happened else 0

    def close(self) -> None:
        pass


class _Late(Exception):
    """The time of a wait is over."""


EVENTLETS = EventletRuntime()
