"""Threads or greenlets: the few things that differ between the two worlds, behind one small interface.

Rank 0: imports nothing of the package but its greenlet twins, and those late. Everything above asks a `Runtime` for its
locks, its threads and its waiting; primitives are looked up through their modules at call time, never at import.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

READ = 1
WRITE = 4

# Seconds that the main thread waits in one go. Python hears a signal in the middle of a system call, and between two of
# its own steps; but not one that comes while it gives its GIL away on the way from the one to the other.
LOOK = 0.5

# threading.Lock.acquire refuses longer waits, and poll(2) and epoll; nobody notices the difference.
_LONGEST_WAIT = 10 * 365 * 86400.0
_LONGEST_POLL = 2e6

_LAST_RING = 1.0  # seconds that a `ring` under way may take
_OVERTIME = 0.1  # seconds; a peer that never falls silent must not make anybody wait for ever


class Lock(Protocol):
    """A mutual exclusion of threads or of greenlets."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> Any: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> Any: ...


class Waiter(Protocol):
    """Waits for a descriptor to become ready."""

    __slots__ = ()

    def wait(self, events: int, timeout: float | None = None) -> int:
        """Wait for READ, WRITE or both; returns those that may be tried now, 0 after `timeout` seconds."""

    def data_wait(self) -> tuple[Any, Any]:
        """An object and a value: `object.wait(value)` is `wait(READ)`, in as few steps as can be."""
        return self, READ

    def close(self) -> None:
        """Forget the descriptor; nobody waits any more."""


class Runtime:
    """The world of operating system threads."""

    name = "threads"
    #: a system call may block the thread that makes it
    may_block = True

    def lock(self) -> Lock:
        return threading.Lock()

    def acquire(self, lock: Lock, timeout: float | None) -> bool:
        """Take `lock` within `timeout` seconds; None waits for ever."""
        return bool(heeding_signals(lambda span: lock.acquire(True, -1 if span is None else span), timeout))

    def spawn(self, name: str, function: Callable[..., None], *args: object) -> None:
        """Run `function` on a thread of its own. Raises RuntimeError if there is none to be had."""
        thread: Any = threading.Thread(target=function, args=args, name=name, daemon=True)
        # `start` would wait until the thread runs: two switches, to learn what nobody here asks.
        thread._started.wait = _at_once
        thread.start()

    def current(self) -> object:
        """Who is running: equal for two calls of one thread, different for two that run."""
        return threading.get_ident()

    def home(self) -> object:
        """What an attendant belongs to: the process, here."""
        return self

    def native_thread(self) -> int:
        """The number of the thread that runs this, whatever runs on it."""
        return threading.get_ident()

    def offload(self, function: Callable[..., T], *args: object) -> T:
        """What `function` answers, which may block whoever calls it for long: here that is a thread."""
        return function(*args)

    def waiter(self, descriptor: int) -> Waiter:
        return ThreadWaiter(descriptor)

    def breathe(self) -> None:
        """Let others run; the system does that for threads."""

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def getaddrinfo(self, host: str, port: int) -> list[Any]:
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)

    def numeric_address(self, host: str, port: int) -> list[Any]:
        """As getaddrinfo, but asks nobody; socket.gaierror for a name."""
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)

    def native_socket(self) -> type[socket.socket]:
        return socket.socket

    def native_epoll(self) -> Any:
        return select.epoll()

    def supplant(self, descriptor: int) -> None:
        """In the child of a fork: let `descriptor` be a stream at its end, instead of what the parent uses."""
        ours, theirs = os.pipe()
        close = self.native_os("close")
        close(theirs)
        os.dup2(ours, descriptor, inheritable=False)
        close(ours)

    def native_os(self, name: str) -> Callable[..., Any]:
        """A function of `os` as it is where nobody has patched it."""
        return getattr(os, name)  # type: ignore[no-any-return]

    def adopt(self, sock: socket.socket) -> socket.socket:
        """A socket of the native class for the same descriptor, which `sock` gives up."""
        native = self.native_socket()
        if type(sock) is native:
            return sock
        return native(sock.family, sock.type, sock.proto, fileno=sock.detach())


def _at_once(timeout: float | None = None) -> bool:
    return True


def hears_signals() -> bool:
    """Whether this is the thread in which Python runs the handlers of signals."""
    return threading.get_ident() == threading.main_thread().ident


def heeding_signals(wait: Callable[[float | None], T], timeout: float | None) -> T:
    """What `wait` answers within `timeout` seconds; in the main thread asked a `LOOK` at a time, while it is false."""
    if timeout is not None:
        timeout = min(timeout, _LONGEST_WAIT)
    if (timeout is not None and timeout <= LOOK) or not hears_signals():
        return wait(timeout)
    deadline = deadline_after(timeout)
    while True:
        left = remaining(deadline)
        last = left is not None and left <= LOOK
        answer = wait(left if last else LOOK)
        if answer or last:
            return answer


class ThreadWaiter(Waiter):
    """Waits in poll(2). Any number of threads may wait at once: each makes its own poll object."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def wait(self, events: int, timeout: float | None = None) -> int:
        poll = select.poll()
        poll.register(self._descriptor, events)
        # Rounded up: a wait must not end before its deadline and come back for a wait of no time.
        ready = heeding_signals(
            lambda span: poll.poll(None if span is None else math.ceil(min(span, _LONGEST_POLL) * 1000)), timeout
        )
        if not ready:
            return 0
        # An error or a hang-up makes every direction worth a try, which then finds out what it is.
        happened = ready[0][1]
        return happened & events or events

    def close(self) -> None:
        pass


class Condition:
    """Waiting for a change of what a lock guards; the lock is held by whoever calls a method here, but `hear`.

    One implementation over `Runtime.lock`, for threads and greenlets alike.
    """

    __slots__ = ("_lock", "_runtime", "waiting")

    def __init__(self, runtime: Runtime, lock: Lock) -> None:
        self._runtime = runtime
        self._lock = lock
        self.waiting: list[Lock] = []  # the bells of those who wait: empty, there is nobody to notify

    def bell(self) -> Lock:
        """What the next `notify_all` rings; to be waited for with `hear`, when the lock is released."""
        bell = self._runtime.lock()
        bell.acquire()
        self.waiting.append(bell)
        return bell

    def hear(self, bell: Lock, timeout: float | None) -> bool:
        """Without the lock: wait until `bell` rings. False: `timeout` seconds went by.

        Unlike `wait`, it may be interrupted anywhere: no lock is released or taken on behalf of the caller.
        """
        rung = False
        try:
            rung = self._runtime.acquire(bell, None if timeout is None else max(timeout, 0))
            return rung
        finally:
            if not rung:
                with self._lock:
                    if bell in self.waiting:
                        self.waiting.remove(bell)

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait for `notify_all`, take the lock again. False: `timeout` seconds went by."""
        bell = self.bell()
        self._lock.release()
        try:
            return self._runtime.acquire(bell, None if timeout is None else max(timeout, 0))
        finally:
            try:
                self._take_back()
            finally:
                if bell in self.waiting:
                    self.waiting.remove(bell)

    def notify_all(self) -> None:
        waiting = self.waiting
        while waiting:
            # Rung before it is forgotten: an interrupt between the two costs nobody his wake-up.
            if waiting[-1].locked():
                waiting[-1].release()
            waiting.pop()

    def _take_back(self) -> None:
        # Whatever interrupts, the caller's `with` will release the lock: so it must be held when we leave.
        interrupted: BaseException | None = None
        while True:
            try:
                self._lock.acquire()
                break
            except BaseException as error:  # a KeyboardInterrupt, or the end of a greenlet
                interrupted = error
        if interrupted is not None:
            raise interrupted


class Poller:
    """Waits for many descriptors at once; each is reported once and must then be armed again.

    `arm` and `forget` may be called from any thread while another is in `wait`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._epoll = runtime.native_epoll()
        self._bell, self._clapper = os.pipe()
        for descriptor in (self._bell, self._clapper):
            os.set_blocking(descriptor, False)
        self.keep(self._bell)
        self._waiter = runtime.waiter(self._epoll.fileno())
        self._runtime = runtime
        self._ringing: deque[None] = deque()  # one for each `ring` under way
        # eventlet's own would wait for their turn, and only one green thread at a time may do that.
        self._read, self._write = runtime.native_os("read"), runtime.native_os("write")

    def keep(self, descriptor: int) -> None:
        """Report `descriptor` in every `wait` for as long as it is readable."""
        self._epoll.register(descriptor, READ)

    def arm(self, descriptor: int, events: int) -> None:
        events |= select.EPOLLONESHOT
        try:
            self._epoll.modify(descriptor, events)
        except FileNotFoundError:
            self._epoll.register(descriptor, events)

    def forget(self, descriptor: int) -> None:
        with contextlib.suppress(OSError, ValueError):  # never armed, or one of us is closed
            self._epoll.unregister(descriptor)

    def ring(self) -> None:
        """End the present `wait`, or the next one; nothing when closed. Takes no lock: for signal handlers, too."""
        self._ringing.append(None)
        try:
            self._write(self._clapper, b"!")
        except OSError:
            pass  # full: it rings already
        finally:
            self._ringing.pop()

    def wait(self, timeout: float | None) -> list[int]:
        """The descriptors that became ready within `timeout` seconds, or 23 days; none when the bell rang."""
        if timeout is not None:
            timeout = min(timeout, _LONGEST_POLL)
        if self._runtime.may_block:
            ready = self._epoll.poll(timeout)
        else:
            ready = self._waiter.wait(READ, timeout) and self._bell >= 0 and self._epoll.poll(0)
        descriptors = [descriptor for descriptor, _ in ready or ()]
        if self._bell in descriptors:
            descriptors.remove(self._bell)
            self._read(self._bell, 4096)
        return descriptors

    def close(self) -> None:
        if self._epoll.closed:
            return
        self._waiter.close()
        self._epoll.close()
        self._close_bell()

    def disinherit(self) -> None:
        """In the child of a fork. A greenlet that waits here is in the child too: it is woken, and then closes."""
        self._ringing = deque()
        if self._runtime.may_block:
            self.close()
        else:
            self._runtime.supplant(self._epoll.fileno())
            self._close_bell()

    def _close_bell(self) -> None:
        if self._bell < 0:
            return
        # Their numbers may be somebody else's in the next moment: who rings now may be about to write there. (One that
        # was interrupted may be counted for ever.)
        bell, self._bell = self._bell, -1
        clapper, self._clapper = self._clapper, -1
        patience = time.monotonic() + _LAST_RING
        while self._ringing and time.monotonic() < patience:
            self._runtime.sleep(0.001)
        close = self._runtime.native_os("close")
        close(bell)
        close(clapper)


THREADS = Runtime()


def current_runtime() -> Runtime:
    """The world this process lives in just now: greenlets when gevent (or eventlet) has patched it, else threads.

    Raises RuntimeError when gevent has patched sockets or threads but not both: blocking calls would then
    stop all greenlets, or switch between threads, which greenlets cannot.
    """
    monkey = sys.modules.get("gevent.monkey")
    patched = {name: monkey.is_module_patched(name) for name in ("socket", "threading")} if monkey else {}
    if not any(patched.values()):
        return _eventlets() or THREADS
    if all(patched.values()):
        from .greenlets import GREENLETS

        return GREENLETS
    green, native = sorted(patched, key=patched.__getitem__, reverse=True)
    raise RuntimeError(
        f"gevent.monkey has patched the module {green!r} but not {native!r}: call gevent.monkey.patch_all() "
        "without leaving either out, or leave both and take Socket and Server from syncws.gevent"
    )


def _eventlets() -> Runtime | None:
    """The world of eventlet's green threads, if it has patched the process."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None or not (patcher.is_monkey_patched("socket") and patcher.is_monkey_patched("thread")):
        return None
    from .eventlets import EVENTLETS

    return EVENTLETS


def remaining(deadline: float | None) -> float | None:
    """Seconds left until `deadline` (of time.monotonic), at least 0; None stays None."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)


def is_past(deadline: float | None) -> bool:
    """Whether `deadline` (of time.monotonic) was reached; never, if it is None."""
    return deadline is not None and deadline <= time.monotonic()


def in_time(deadline: float | None, something: bool) -> bool:
    """Whether to go on. A little beyond the deadline as long as `something` is found: what has come already counts."""
    return deadline is None or time.monotonic() < deadline + (_OVERTIME if something else 0)


def deadline_after(timeout: float | None) -> float | None:
    """The moment, in time.monotonic, `timeout` seconds from now; None stays None."""
    return None if timeout is None else time.monotonic() + timeout
