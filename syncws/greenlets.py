"""The runtime of gevent's greenlets: the same interface as `runtime.Runtime`, over one hub.

Rank 0, imported only when gevent is asked for or has patched the process. Sockets stay native and non-blocking;
what gevent does is wait for them, so nothing here depends on what is patched.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import gevent
import gevent.hub
import gevent.lock
import gevent.monkey
import gevent.socket
import gevent.threadpool

from .runtime import READ, WRITE, Lock, Runtime, T, Waiter

_HUB_READ, _HUB_WRITE = 1, 2


_MOST_OFFLOADED = 16
_OFFLOADERS_STAY = 30.0  # seconds without work


def _pool() -> Any:
    """Threads of our own, for each hub: those of gevent resolve names, and must not wait for anybody."""
    hub = gevent.get_hub()
    if "_syncws_pool" not in vars(hub):
        hub._syncws_pool = gevent.threadpool.ThreadPool(_MOST_OFFLOADED, hub, _OFFLOADERS_STAY)
    return hub._syncws_pool


def _attempt(function: Callable[..., T], *args: object) -> tuple[T | None, Exception | None]:
    """What it answers or raises; what gets out of a pool's thread is printed, too."""
    try:
        return function(*args), None
    except Exception as error:
        return None, error


class GreenletRuntime(Runtime):
    """The world of greenlets, one hub to a thread."""

    name = "gevent"
    may_block = False

    def lock(self) -> Lock:
        return gevent.lock.Semaphore(1)  # type: ignore[no-any-return, unused-ignore]

    def acquire(self, lock: Lock, timeout: float | None) -> bool:
        if timeout is None:
            return bool(lock.acquire())
        return bool(lock.acquire(True, timeout))

    def spawn(self, name: str, function: Callable[..., None], *args: object) -> None:
        gevent.spawn(function, *args).name = name

    def current(self) -> object:
        return gevent.getcurrent()

    def home(self) -> object:
        return gevent.get_hub()

    def native_thread(self) -> int:
        return gevent.monkey.get_original("threading", "get_ident")()  # type: ignore[no-any-return, unused-ignore]

    def offload(self, function: Callable[..., T], *args: object) -> T:
        if gevent.monkey.is_module_patched("socket"):
            return function(*args)  # it blocks this greenlet only
        answer, error = _pool().apply(_attempt, (function, *args))
        if error is not None:
            raise error
        return answer  # type: ignore[no-any-return, unused-ignore]

    def waiter(self, descriptor: int) -> Waiter:
        return HubWaiter(descriptor)

    def breathe(self) -> None:
        # Not sleep(0): the hub runs fifty of those before it looks at timers and descriptors again.
        hub = gevent.get_hub()
        with hub.loop.timer(0) as timer:
            hub.wait(timer)

    def sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)

    def getaddrinfo(self, host: str, port: int) -> list[Any]:
        return gevent.socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)  # type: ignore[no-any-return, unused-ignore]

    def numeric_address(self, host: str, port: int) -> list[Any]:
        ask = gevent.monkey.get_original("socket", "getaddrinfo")  # gevent's own takes a thread for this too
        return ask(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)  # type: ignore[no-any-return, unused-ignore]

    def native_socket(self) -> type[socket.socket]:
        return gevent.monkey.get_original("socket", "socket")  # type: ignore[no-any-return, unused-ignore]

    def native_epoll(self) -> Any:
        return gevent.monkey.get_original("select", "epoll")()

    def native_os(self, name: str) -> Callable[..., Any]:
        # Of close: gevent's own is put off until the hub comes to it.
        return gevent.monkey.get_original("os", name)  # type: ignore[no-any-return, unused-ignore]


class HubWaiter(Waiter):
    """Waits in the hub. Keeps the watcher for reading, the usual one; another wait makes its own."""

    __slots__ = ("_descriptor", "_hub", "_reading")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._hub = gevent.get_hub()
        self._reading: Any = None

    def wait(self, events: int, timeout: float | None = None) -> int:
        watcher = None
        if events == READ:
            watcher, self._reading = self._reading, None
        if watcher is None:
            watcher = self._hub.loop.io(self._descriptor, self._hub_events(events))
        try:
            return self._wait(watcher, events, timeout)
        finally:
            if events == READ and self._reading is None:
                self._reading = watcher
            else:
                watcher.close()

    def data_wait(self) -> tuple[Any, Any]:
        # The watcher is used by one at a time all the same: only the reader waits for data alone.
        if self._reading is None:
            self._reading = self._hub.loop.io(self._descriptor, _HUB_READ)
        return self._hub, self._reading

    def _wait(self, watcher: Any, events: int, timeout: float | None) -> int:
        if timeout is None:
            self._hub.wait(watcher)
            return events
        with gevent.Timeout(timeout, False):
            self._hub.wait(watcher)
            return events
        return 0

    @staticmethod
    def _hub_events(events: int) -> int:
        return (_HUB_READ if events & READ else 0) | (_HUB_WRITE if events & WRITE else 0)

    def close(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None


GREENLETS = GreenletRuntime()
