"""Rounds of stress: connections of every kind, a watchdog, and what must be true of a connection that has ended.

SYNCWS_STRESS=full for many rounds; SYNCWS_STRESS_SEED repeats those of a failure.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import os
import random
import ssl
import sys
import tempfile
import time
from typing import Any

import pytest
import stress_wire
import world
from authority import CA

FULL = os.environ.get("SYNCWS_STRESS") == "full"
SEED = os.environ.get("SYNCWS_STRESS_SEED") or str(random.randrange(1 << 30))
WATCHDOG = 10.0  # seconds for one round
SMALL = 4096  # bytes: buffers in which every larger frame blocks


def rounds(few: int, many: int) -> int:
    """How many: few in CI, many when asked for."""
    return many if FULL else few


def rng_of(name: str, number: int) -> random.Random:
    return random.Random(f"{SEED} {name} {number}")


def stacks() -> str:
    """Where every thread (greenlet) is just now."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        text = file.read().decode(errors="replace")
    if world.GREEN:
        import gevent.util

        text += "\n".join(gevent.util.format_run_info())
    return text


class Watched:
    """Tasks of one round, and the clock that is held over them."""

    def __init__(self, what: str, limit: float = WATCHDOG) -> None:
        self.what = what
        self.deadline = time.monotonic() + limit
        self.tasks: list[tuple[str, Any]] = []

    def start(self, name: str, function: Any, *args: Any) -> Any:
        task = world.spawn(function, *args)
        self.tasks.append((name, task))
        return task

    def finish(self) -> None:
        """Wait for all; fail with every stack if one hangs, or with what one raised."""
        for name, task in self.tasks:
            try:
                task.result(max(self.deadline - time.monotonic(), 0.001))
            except AssertionError as error:
                if task.done:
                    raise AssertionError(f"{self.what}: {name}: {error}") from error
                pytest.fail(f"{self.what}: {name} hangs\n{stacks()}", pytrace=False)


@contextlib.contextmanager
def repeated(name: str, number: int, count: int) -> Any:
    """One round of a test: a failure says how to have it again."""
    try:
        yield rng_of(name, number)
    except BaseException as error:
        where = f"\nround {number} of {count}, SYNCWS_STRESS_SEED={SEED}"
        if isinstance(error, Exception):
            raise AssertionError(f"{error!r}{where}") from error
        print(where, file=sys.stderr)
        raise


class Arena:
    """Makes connections between a socket under test, on the `side` asked for, and a `Wire`."""

    def __init__(self, side: str, tls: Any = None, buffers: int | None = None, **options: Any) -> None:
        self.side = side
        self.tls = tls
        self.buffers = buffers
        self.options = {"close_timeout": 3.0, **options}
        self.compression = bool(options.get("compression"))
        self.closes: list[list[Any]] = []  # the close events of each socket
        self._listener = world.raw_listener()
        self._shrink(self._listener)
        self._stack = contextlib.ExitStack()
        self._arrived: collections.deque[Any] = collections.deque()
        self.resides = False  # server: leave accept() at once

    def __enter__(self) -> Arena:
        if self.side == "server":
            tls = {} if self.tls is None else {"ssl": self.tls[0]}
            server = world.Server(self._accept, sock=self._listener, **tls, **self.options)
            self.address = self._listener_address = server.address()
            self._stack.enter_context(server)
        else:
            self.address = self._listener.getsockname()
            self._stack.callback(self._listener.close)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _shrink(self, sock: Any) -> None:
        if self.buffers is not None:
            for option in (world.socket.SO_SNDBUF, world.socket.SO_RCVBUF):
                sock.setsockopt(world.socket.SOL_SOCKET, option, self.buffers)

    def _accept(self, ws: Any, request: Any) -> None:
        over = world.Event()
        self._arrived.append((ws, over))
        if not self.resides:
            over.wait(3 * WATCHDOG)

    def _connected(self) -> Any:
        sock = world.socket.socket(world.socket.AF_INET, world.socket.SOCK_STREAM)
        self._shrink(sock)
        sock.settimeout(world.PATIENCE)
        sock.connect(self.address)
        return sock

    def pair(self, listen: bool = True) -> tuple[Any, stress_wire.Wire, Any]:
        """A socket under test, its peer, and what to call when the round is over."""
        ws, wire, over = self._pair_of_server() if self.side == "server" else self._pair_of_client()
        told: list[Any] = []
        self.closes.append(told)
        if listen:
            ws.addEventListener("close", told.append)
        return ws, wire, over

    def _pair_of_client(self) -> tuple[Any, stress_wire.Wire, Any]:
        def accept() -> stress_wire.Wire:
            sock, _ = self._listener.accept()
            self._shrink(sock)
            stream = stress_wire.Stream(sock, self.tls and self.tls[0], server_side=True)
            return stress_wire.server_answer(stream)

        sock = self._connected()
        accepting = world.spawn(accept)
        scheme, tls = ("ws", {}) if self.tls is None else ("wss", {"ssl": self.tls[1]})
        url = f"{scheme}://127.0.0.1:{self.address[1]}/"
        ws = world.Socket(url, sock=sock, **tls, **{"compression": False, **self.options})
        return ws, accepting.result(), lambda: None

    def _pair_of_server(self) -> tuple[Any, stress_wire.Wire, Any]:
        stream = stress_wire.Stream(self._connected(), self.tls and self.tls[1])
        wire = stress_wire.client_ask(stream, "/", self.compression)
        world.eventually(lambda: self._arrived)
        ws, over = self._arrived.popleft()
        return ws, wire, over.set

    def closed_once(self) -> None:
        """Of all sockets so far: each told its close once."""
        assert all(len(told) == 1 for told in self.closes)


def ended_well(ws: Any, told: list[Any]) -> None:
    """What holds of any connection that is over: one close, nothing held, nothing open."""
    assert ws.readyState == 3
    assert len(told) == 1, f"{len(told)} close events"
    assert told[0].code == ws.close_code, (told[0].code, ws.close_code)
    # Whoever was in it needs a moment to leave.
    world.eventually(lambda: ws._reader is None and ws._writer is None, 2.0)
    assert ws._message_owner is None
    assert not ws._corks
    assert ws.bufferedAmount == 0
    world.eventually(lambda: ws._transport.sock.fileno() == -1, 2.0)
    # Free for others, or soon to be.
    assert ws._runtime.acquire(ws._lock, 2.0), "the state lock is held by nobody"
    ws._lock.release()


# -- messages that tell where they come from -----------------------------------------------------------------


def message(sender: int, number: int, size: int) -> bytes:
    head = b"%d:%d:%d:" % (sender, number, size)
    return head + bytes([97 + (sender + number) % 26]) * size


def check_messages(messages: list[bytes]) -> dict[int, list[int]]:
    """Each message is whole, each sender's in order; answers with the numbers that came of each."""
    came: dict[int, list[int]] = collections.defaultdict(list)
    for data in messages:
        sender, number, size = (int(part) for part in data.split(b":", 3)[:3])
        assert data == message(sender, number, size), f"{data[:60]!r}: torn"
        came[sender].append(number)
    for sender, numbers in came.items():
        assert numbers == sorted(set(numbers)), f"the messages of {sender} are out of order"
    return came


# -- TLS --------------------------------------------------------------------------------------------------------


def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server and a client that trusts it."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority = CA()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


class Lag:
    """How long this machine lets us wait for the processor, while in the `with`."""

    def __init__(self) -> None:
        self._worst = 0.0
        self._over = False

    def __enter__(self) -> Lag:
        self._task = world.spawn(self._run)
        return self

    def __exit__(self, *error: Any) -> None:
        self._over = True
        self._task.result()

    def _run(self) -> None:
        while not self._over:
            began = time.monotonic()
            world.sleep(0.001)
            self._worst = max(self._worst, time.monotonic() - began - 0.001)

    def allows(self, seconds: float) -> float:
        """A time limit, on a machine that has more to do: a call is several turns of several threads."""
        crowd = os.getloadavg()[0] / (os.cpu_count() or 1)
        return seconds * max(crowd, 1.0) + min(10 * self._worst, 2.0)


def marks() -> list[Any]:
    """For the modules of stress tests: their time limit; and only when asked for, if they take long."""
    marks = [pytest.mark.timeout(3000 if FULL else 60), pytest.mark.usefixtures("hectic")]
    return [*marks, pytest.mark.stress] if FULL else marks
