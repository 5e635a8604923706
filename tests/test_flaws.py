"""Whole sessions over flawed sockets: whatever a call answers, they end as documented and leave nothing."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

import pytest
import world
from flaws import Flawed, failing
from world import Socket, eventually, serving

from syncws import ConnectionClosed, HandshakeError, control
from syncws.transport import Transport


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


MESSAGES = ("small", bytes(70_000), "é" * 500, b"")


def talk(url: str, **options: Any) -> None:
    """One session; raises what the first call to fail raises."""
    ws = Socket(url, close_timeout=0.2, handshake_timeout=5, **options)
    try:
        for message in MESSAGES:
            ws.send(message)
            assert ws.recv(world.PATIENCE) == message
        ws.close(1000)
        assert ws.wait_closed(world.PATIENCE)
    finally:
        ws.terminate()


@pytest.fixture
def flaws(monkeypatch: Any) -> Any:
    """Call it with a side and the flaws of that side's next sockets."""
    monkeypatch.setattr(control, "LINGER", 0.03)
    flawed: dict[str, Any] = {}
    init = Transport.__init__

    def flawed_init(self: Any, runtime: Any, sock: Any) -> None:
        init(self, runtime, sock)
        side = "client" if self.addresses()[0] is None else "server"
        if side in flawed:
            self._sock = Flawed(self._sock, **flawed[side])

    monkeypatch.setattr(Transport, "__init__", flawed_init)
    return lambda side, **how: (flawed.clear(), flawed.update({side: how}))


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_session_over_short_reads_and_writes(
    side: str, scheme: str, flaws: Any, server_tls: Any, client_tls: Any
) -> None:
    tls, options = (server_tls, {"ssl": client_tls}) if scheme == "wss" else (None, {})
    with serving(ssl=tls, close_timeout=5) as server:
        for most in (1, 3):
            flaws(side, most=most)
            talk(world.url_of(server, scheme=scheme), **options)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("call", ["recv", "send"])
def test_whichever_call_fails_the_session_ends_by_a_documented_exception(
    call: str, side: str, scheme: str, flaws: Any, server_tls: Any, client_tls: Any
) -> None:
    """And leaves no descriptor, no thread, no client of the server."""
    tls, options = (server_tls, {"ssl": client_tls}) if scheme == "wss" else (None, {})
    outcomes: dict[str, int] = {}
    with serving(ssl=tls, close_timeout=0.2) as server:
        talk(world.url_of(server, scheme=scheme), **options)
        eventually(lambda: not server.clients)
        before = eventually_still(count_descriptors), eventually_still(threading.active_count)
        for name in ("EINTR", "EAGAIN", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ENOBUFS", "EBADF"):
            for first in (1, 2, 3, 4, 6, 9):
                fail = failing(getattr(errno, name), times=1 if name == "EAGAIN" else 1 << 30, first=first)
                flaws(side, fail=lambda which, fail=fail: fail(which) if which == call else None)
                outcome = outcome_of(talk, world.url_of(server, scheme=scheme), **options)
                assert outcome == "finished" or name != "EAGAIN", (name, first)
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert outcomes["finished"] >= 6 and sum(outcomes.values()) - outcomes["finished"] >= 12, outcomes
        eventually(lambda: not server.clients)
        eventually(lambda: (count_descriptors(), threading.active_count()) <= before)


def outcome_of(function: Any, *args: Any, **kwargs: Any) -> str:
    try:
        function(*args, **kwargs)
    except (ConnectionClosed, HandshakeError, OSError) as error:
        return type(error).__name__
    return "finished"


def eventually_still(count: Any) -> int:
    """What `count` says once it says the same for a while."""
    said = [count()]
    for _ in range(200):
        world.sleep(0.01)
        said.append(count())
        if len(said) > 10 and len(set(said[-10:])) == 1:
            break
    return said[-1]
