"""Greenlets: nothing of ours stops the hub, no thread is used, and what interrupts a greenlet is survived."""

from __future__ import annotations

import contextlib
import os
import socket as _native
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import world
from pairs import BLOCKING, connected
from peer import TEXT, Peer
from world import Socket, eventually, serving, spawn

from syncws import ConnectionClosed

gevent = pytest.importorskip("gevent")
LIMIT = 0.05  # seconds the hub may be stopped
TRIES = 3  # the machine may stop it as well, but not each time


class Ticker:
    """A greenlet that notes the longest time it was not run for, other than for want of a processor."""

    def __init__(self) -> None:
        self.worst = 0.0
        self.ticks = 0

    def _tick(self) -> None:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as schedule:

            def now() -> float:
                schedule.seek(0)
                return time.monotonic() - int(schedule.read().split()[1]) / 1e9  # less the time in the run queue

            last = now()
            while True:
                gevent.sleep(0.002)
                last, before = now(), last
                self.worst = max(self.worst, last - before)
                self.ticks += 1

    def __enter__(self) -> Ticker:
        self._greenlet = gevent.spawn(self._tick)
        gevent.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        gevent.sleep(0.01)
        self._greenlet.kill()


def goes_on(scenario: Any, least: int = 3) -> None:
    """Run the scenario, which takes a while, until the hub was not stopped by it; not for ever."""
    worst = []
    for _ in range(TRIES):
        with Ticker() as ticker:
            scenario()
        assert ticker.ticks >= least or ticker.worst > LIMIT, "this scenario shows nothing"
        worst.append(ticker.worst)
        if ticker.worst <= LIMIT:
            return
    raise AssertionError(f"the hub was stopped for {worst} seconds")


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


# -- the hub goes on -----------------------------------------------------------------------------------------------


@world.gevent_only
def test_the_hub_goes_on_during_recv_and_iteration() -> None:
    with connected() as (ws, peer):

        def receive() -> None:
            with pytest.raises(TimeoutError):
                ws.recv(0.1)
            gevent.spawn_later(0.1, peer.send, TEXT, b"late")
            assert ws.recv() == "late"
            gevent.spawn_later(0.1, peer.send, TEXT, b"later")
            assert next(iter(ws)) == "later"

        goes_on(receive)


@world.gevent_only
def test_the_hub_goes_on_during_a_send_that_blocks() -> None:
    def send() -> None:
        with connected(small=True) as (ws, _), pytest.raises(TimeoutError):
            ws.send(BLOCKING, timeout=0.1)

    goes_on(send)


@world.gevent_only
def test_the_hub_goes_on_during_a_connect() -> None:
    with _native.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # nobody accepts, and the queue is full
            filler = stack.enter_context(_native.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"

        def connect() -> None:
            with pytest.raises(TimeoutError):
                Socket(url, handshake_timeout=0.1)

        goes_on(connect)


@world.gevent_only
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_the_hub_goes_on_during_a_handshake_that_is_not_answered(scheme: str, client_tls: Any) -> None:
    with world.raw_listener() as listener:
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/"
        options = {"ssl": client_tls} if scheme == "wss" else {}

        def connect() -> None:
            with pytest.raises(TimeoutError):
                Socket(url, handshake_timeout=0.1, **options)

        goes_on(connect)


@world.gevent_only
def test_the_hub_goes_on_while_a_name_is_resolved() -> None:
    def connect() -> None:
        with serving() as server:
            for _ in range(5):
                with Socket(f"ws://localhost:{server.address()[1]}/"):
                    gevent.sleep(0.01)

    goes_on(connect)


@world.gevent_only
def test_the_hub_goes_on_during_wait_closed_and_close() -> None:
    def close() -> None:
        with connected(close_timeout=0.1) as (ws, _):
            assert not ws.wait_closed(0.1)
            ws.close()
            assert ws.wait_closed(world.PATIENCE)

    goes_on(close)


@world.gevent_only
def test_the_hub_goes_on_while_a_server_serves_and_closes() -> None:
    def serve() -> None:
        with serving() as server:
            peers = [Peer.connect(server) for _ in range(30)]
            for _ in range(5):
                for peer in peers:
                    peer.send(TEXT, b"x" * 1000)
                for peer in peers:
                    assert len(peer.read().payload) == 1000
            closing = spawn(server.close, timeout=0.2)  # which none of them answers
            closing.result()
        for peer in peers:
            peer.close()

    goes_on(serve)


FLOOD = """
import contextlib, socket, sys, threading
from peer import BINARY, PING, TEXT, Peer, frame
class Server:
    def address(self): return "127.0.0.1", int(sys.argv[1])
peer = Peer.connect(Server())
def drain():
    with contextlib.suppress(OSError):
        while peer.sock.recv(1 << 20):
            pass
data = {frames}
threading.Thread(target=drain, daemon=True).start()
with contextlib.suppress(OSError):
    while True:
        peer.sock.sendall(data)
"""
FLOODS = {
    "tiny messages": 'frame(TEXT, b"x", mask=bytes(4)) * 50_000',
    "empty messages": 'frame(TEXT, b"", mask=bytes(4)) * 50_000',
    "large messages": "frame(BINARY, bytes(1 << 20), mask=bytes(4))",
    "fragments": '(frame(TEXT, b"x", fin=False, mask=bytes(4)) + frame(0, b"", mask=bytes(4))) * 20_000',
    "pings": 'frame(PING, b"x", mask=bytes(4)) * 50_000',
}


@contextlib.contextmanager
def flooding(server: Any, frames: str) -> Any:
    """A process with native sockets, whatever the world is here, that sends as fast as it can."""
    source = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + FLOOD.format(frames=frames)
    environment = {**os.environ, "SYNCWS_TEST_MODE": "threads"}
    command = [sys.executable, "-c", source, str(server.address()[1])]
    with subprocess.Popen(command, cwd=world.HOME, env=environment) as process:
        try:
            yield
        finally:
            process.kill()


def iterate(ws: Any, request: Any) -> None:
    for _ in ws:
        pass


def listen(ws: Any, request: Any) -> None:
    ws.onmessage = lambda event: None


@world.gevent_only
@pytest.mark.parametrize("accept", [world.echo, iterate, listen])
@pytest.mark.parametrize("frames", FLOODS.values(), ids=FLOODS.keys())
def test_the_hub_goes_on_under_a_flood(frames: str, accept: Any) -> None:
    with serving(accept) as server, flooding(server, frames):
        eventually(lambda: server.clients)
        goes_on(lambda: gevent.sleep(0.2))
        server.close(clients="terminate")


# -- no threads ----------------------------------------------------------------------------------------------------


@world.gevent_only
def test_connections_take_no_thread_of_the_system() -> None:
    with serving() as server:
        url = world.url_of(server)
        with Socket(url) as ws:  # the hub and its attendant are there from here on
            ws.send("x")
            before = threads()
            sockets = [Socket(url) for _ in range(200)]
            listening = [Socket(url, blocking=False, onmessage=lambda event: None) for _ in range(20)]
            for other in sockets:
                other.send("x")
            assert all(other.recv(world.PATIENCE) == "x" for other in sockets)
            assert threads() == before
            for other in sockets + listening:
                other.close()
            assert all(other.wait_closed(world.PATIENCE) for other in sockets + listening)
            assert threads() == before


# -- what interrupts a greenlet ------------------------------------------------------------------------------------


@world.gevent_only
def test_a_timeout_around_recv_loses_nothing() -> None:
    count = 300
    with connected() as (ws, peer):

        def send() -> None:
            for number in range(count):
                peer.send(TEXT, b"%d" % number)
                gevent.sleep(0.0005 * (number % 4))

        sending = spawn(send)
        heard, interrupted = [], 0
        while len(heard) < count:
            with gevent.Timeout(0.0005, False):
                heard.append(int(ws.recv()))
                continue
            interrupted += 1
        sending.result()
        assert heard == list(range(count)) and interrupted > 10
        assert ws.readyState == ws.OPEN


@world.gevent_only
def test_a_timeout_around_a_blocked_send_fails_the_connection() -> None:
    with connected(small=True) as (ws, peer):
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
            ws.send(BLOCKING)
        with pytest.raises(ConnectionClosed):
            ws.send("nothing may follow")
        assert peer.read_all() == []  # a frame that was cut
        assert ws.wait_closed(world.PATIENCE) and ws.close_code == 1006


@world.gevent_only
@pytest.mark.parametrize("wait", ["recv", "wait_closed", "recv_stream", "iteration"])
def test_a_greenlet_that_waits_can_be_killed(wait: str) -> None:
    ways = {
        "recv": lambda ws: ws.recv(),
        "wait_closed": lambda ws: ws.wait_closed(),
        "recv_stream": lambda ws: list(ws.recv_stream()),
        "iteration": lambda ws: list(ws),
    }
    with connected() as (ws, peer):
        waiting = gevent.spawn(ways[wait], ws)
        gevent.sleep(0.02)
        waiting.kill(timeout=2)
        assert waiting.dead
        peer.send(TEXT, b"for another")
        assert ws.recv(world.PATIENCE) == "for another"
        ws.close(1000)
        peer.expect_close(1000)
        peer.close()
        assert ws.wait_closed(world.PATIENCE)


@world.gevent_only
def test_a_greenlet_that_is_killed_while_it_sends_fails_the_connection() -> None:
    with connected(small=True) as (ws, peer):
        sending = gevent.spawn(ws.send, BLOCKING)
        waiting = spawn(ws.send, "behind it")
        eventually(lambda: ws.bufferedAmount)
        sending.kill(timeout=2)
        assert sending.dead
        with pytest.raises(ConnectionClosed):
            waiting.result()
        assert peer.read_all() == []
        assert ws.wait_closed(world.PATIENCE)


@world.gevent_only
def test_a_greenlet_that_is_killed_before_its_turn_to_send_fails_nothing() -> None:
    with connected(small=True) as (ws, peer):
        sending = spawn(ws.send, BLOCKING)
        eventually(lambda: ws.bufferedAmount)
        waiting = gevent.spawn(ws.send, "never sent")
        gevent.sleep(0.02)
        waiting.kill(timeout=2)
        assert peer.read().payload == BLOCKING
        sending.result()
        ws.send("next")
        assert peer.read().payload == b"next"


@world.gevent_only
def test_a_killed_accept_closes_with_1011(caplog: Any) -> None:
    caplog.expected_errors = 1
    greenlets = []

    def accept(ws: Any, request: Any) -> None:
        greenlets.append(gevent.getcurrent())
        ws.recv()

    with serving(accept) as server, Peer.connect(server) as peer:
        eventually(lambda: greenlets)
        greenlets[0].kill(block=False)
        peer.expect_close(1011)


@world.gevent_only
def test_two_greenlets_may_use_one_socket_in_both_directions() -> None:
    """gevent itself allows one waiter for a direction of a descriptor."""
    with serving() as server, Socket(world.url_of(server)) as ws:
        receiving = [spawn(lambda: [ws.recv(world.PATIENCE) for _ in range(50)]) for _ in range(2)]
        sending = [spawn(lambda who=who: [ws.send(who * 30_000) for _ in range(50)]) for who in "ab"]
        for task in sending:
            task.result()
        got = sorted(receiving[0].result() + receiving[1].result())
        assert got == ["a" * 30_000] * 50 + ["b" * 30_000] * 50
