"""What the tests share: one vocabulary for threads and greenlets, so that the same suite runs in every world.

SYNCWS_TEST_MODE says which: threads (the default), gevent (syncws.gevent, nothing patched), patched
(gevent.monkey.patch_all() before syncws was imported), patched-late (after it).
"""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

import syncws

MODE = os.environ.get("SYNCWS_TEST_MODE", "threads")
GREEN = MODE != "threads"

if MODE == "gevent":
    import gevent
    import gevent.event
    from gevent import socket
    from gevent.select import select

    from syncws.gevent import Server, Socket, reconnect

    sleep = gevent.sleep
    Event = gevent.event.Event
    _start = gevent.spawn
else:
    import socket
    import threading
    from select import select

    from syncws import Server, Socket, reconnect

    sleep = time.sleep
    Event = threading.Event

    def _start(function: Any) -> None:
        threading.Thread(target=function, daemon=True).start()


# The folder of the syncws under test, source tree or installed: for processes that the tests start.
HOME = Path(syncws.__file__).resolve().parent.parent

PATIENCE = 10.0  # seconds after which something that should happen at once has failed


class Task:
    """A function on a thread (greenlet) of its own; `result()` waits for it and raises what it raised."""

    def __init__(self, function: Any, *args: Any, **kwargs: Any) -> None:
        self._done = Event()
        self._value: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._value = function(*args, **kwargs)
            except BaseException as error:
                self._error = error
            finally:
                self._done.set()

        _start(run)

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def result(self, timeout: float = PATIENCE) -> Any:
        assert self._done.wait(timeout), f"not done within {timeout} s"
        if self._error is not None:
            raise self._error
        return self._value


def spawn(function: Any, *args: Any, **kwargs: Any) -> Task:
    return Task(function, *args, **kwargs)


def eventually(condition: Any, timeout: float = PATIENCE) -> None:
    """Wait until `condition()` is true; the only way tests wait for what they cannot be told."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not so within {timeout} s"
        sleep(0.002)


def url_of(server: Any, target: str = "/", scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{server.address()[1]}{target}"


def echo(ws: Any, request: Any) -> None:
    for message in ws:
        ws.send(message)


@contextlib.contextmanager
def serving(accept: Any = echo, **options: Any) -> Any:
    """A server on a free port of the loopback, started."""
    with Server(accept, host="127.0.0.1", port=0, **options) as server:
        yield server


def raw_connection(address: Any, room: int | None = None) -> Any:
    """A plain TCP connection of this world, with a time-out; with `room` for so many bytes that are not read."""
    if room is None:
        return socket.create_connection(address, timeout=PATIENCE)
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)  # after the connection it would come too late
    sock.settimeout(PATIENCE)
    sock.connect(address)
    return sock


def raw_listener() -> Any:
    """A plain listening socket of this world, on a free port of the loopback."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(50)
    listener.settimeout(PATIENCE)
    return listener


def pair_of_sockets() -> Any:
    return socket.socketpair()


untraced = pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="the tracer's own costs would be measured")
threads_only = pytest.mark.skipif(GREEN, reason="about threads of the operating system")
gevent_only = pytest.mark.skipif(not GREEN, reason="about greenlets")


def client_context(authority: Any) -> ssl.SSLContext:
    """A context that trusts the test authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context
