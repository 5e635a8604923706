"""What a connection leaves behind: no descriptor, no thread, no memory, nothing for the garbage collector."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import weakref
from typing import Any

import pytest
import world
from peer import CLOSE, PING, TEXT, Peer, close_payload, frame
from program import Program
from world import Socket, eventually, serving, spawn

from syncws import ConnectionClosed, HandshakeError

MEASURE = """
import gc, threading, warnings, weakref
from world import Server, Socket, eventually, spawn
def descriptors(): return len(os.listdir("/proc/self/fd"))
def tasks(): return len(os.listdir("/proc/self/task"))
def exchange(ws):
    ws.send("x")
    assert ws.recv(10) == "x"
server = Server(world.echo, host="127.0.0.1", port=0, ping_interval=None).start()
url = world.url_of(server)
with Socket(url) as ws:
    exchange(ws)
del ws
eventually(lambda: not server.clients)
"""


def program(source: str, timeout: float = 50) -> str:
    with Program(MEASURE + source) as running:
        status, said, complained = running.end(timeout)
    assert (status, complained) == (0, "")
    return said.strip()


# -- threads -------------------------------------------------------------------------------------------------------


THOUSAND = """
from peer import TEXT, Peer
with Peer.connect(server):  # gevent resolves even an address on a thread
    pass
eventually(lambda: threading.active_count() == 3 or mode != "threads")
before = threading.active_count(), tasks()
peers = [Peer.connect(server) for _ in range(1000)]
for peer in peers:
    peer.send(TEXT, b"x")
for peer in peers:
    assert peer.read().payload == b"x"
say(threading.active_count() - before[0], tasks() - before[1])
for peer in peers:
    peer.close()
eventually(lambda: not server.clients)
eventually(lambda: (threading.active_count(), tasks()) <= before)
server.close()
"""


def test_a_thousand_connections_have_a_thousand_threads_or_none() -> None:
    counts = program(THOUSAND)
    assert counts.split()[1] == ("0" if world.GREEN else "1000")
    assert world.GREEN or counts.split()[0] == "1000"


# -- garbage -------------------------------------------------------------------------------------------------------


DROPPED = """
gc.collect()
eventually(lambda: threading.active_count() <= 3 or mode != "threads")
before = descriptors(), tasks()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for number in range(1000):
        ws = Socket(url)
        if number % 2:
            ws.me = ws  # a reference cycle
        if number % 50 == 0:
            exchange(ws)
    del ws
    gc.collect()
    eventually(lambda: (gc.collect(), not server.clients)[1])
    eventually(lambda: (descriptors(), tasks()) <= before)
assert {warning.category for warning in caught} == {ResourceWarning}
ours = [warning for warning in caught if str(warning.message).startswith("unclosed <Socket to")]
say(len(ours))  # in a cycle, the socket within may have been found before and warn as well
server.close()
"""


def test_dropped_sockets_warn_and_give_everything_back() -> None:
    assert program(DROPPED) == "1000"


STRICT = """
gc.collect()
before = descriptors()
complaints = []
sys.unraisablehook = lambda told: complaints.append(told.exc_type)
Socket(url)
gc.collect()
eventually(lambda: not server.clients)
eventually(lambda: descriptors() == before)
assert complaints == [ResourceWarning], complaints
server.close()
say("ok")
"""


def test_a_dropped_socket_gives_its_descriptor_back_where_warnings_are_errors() -> None:
    assert program(STRICT) == "ok"


# -- no reference cycles -------------------------------------------------------------------------------------------


def closed_by_us(peer: Any, ws: Any) -> None:
    ws.close(1000, "bye")
    peer.expect_close(1000)


def closed_by_the_peer(peer: Any, ws: Any) -> None:
    peer.send(CLOSE, close_payload(1001))
    peer.expect_close(1001, answer=False)


def ended(peer: Any, ws: Any) -> None:
    pass


def terminated(peer: Any, ws: Any) -> None:
    ws.terminate()


def violated(peer: Any, ws: Any) -> None:
    peer.send_raw(frame(TEXT, b"\xff", mask=None if ws._server_side is False else b"\0\0\0\0"))
    with contextlib.suppress(ConnectionClosed):
        ws.recv(world.PATIENCE)


def reset(peer: Any, ws: Any) -> None:
    peer.reset()


def timed_out(peer: Any, ws: Any) -> None:
    with pytest.raises(TimeoutError):
        ws.recv(0.01)
    ws.terminate()


def used_in_every_way(peer: Any, ws: Any) -> None:
    ws.ping()
    assert peer.read().opcode == PING
    ws.send(["in", "fragments"])
    peer.send(TEXT, b"for the listener")
    ws.addEventListener("message", lambda event: None)
    ws.onclose = lambda event: event.target
    ws.close()
    assert [peer.read().payload for _ in range(3)] == [b"in", b"fragments", b""]
    peer.expect_close(None)


HAPPENINGS = [closed_by_us, closed_by_the_peer, ended, terminated, violated, reset, timed_out, used_in_every_way]


@pytest.fixture
def without_gc() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def end_of(ws: Any, peer: Any, happening: Any) -> None:
    happening(peer, ws)
    peer.close()
    assert ws.wait_closed(world.PATIENCE)
    for call in (ws.recv, lambda: ws.send("late")):
        with contextlib.suppress(ConnectionClosed, RuntimeError):
            call()


@pytest.mark.usefixtures("quick_ticks")
@pytest.mark.parametrize("happening", HAPPENINGS)
def test_a_closed_client_is_gone_without_the_garbage_collector(happening: Any, without_gc: None) -> None:
    def session() -> Any:
        with world.raw_listener() as listener:
            accepting = spawn(Peer.accept, listener)
            ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", close_timeout=5)
            end_of(ws, accepting.result(), happening)
        return weakref.ref(ws)

    reference = session()
    eventually(lambda: reference() is None, 3.0)


@pytest.mark.usefixtures("quick_ticks")
@pytest.mark.parametrize("happening", HAPPENINGS)
def test_a_closed_socket_of_a_server_is_gone_without_the_garbage_collector(happening: Any, without_gc: None) -> None:
    references: list[Any] = []
    with serving(lambda ws, request: handle(ws), close_timeout=5) as server:
        peers: list[Peer] = []

        def handle(ws: Any) -> None:
            eventually(lambda: peers)
            references.append(weakref.ref(ws))
            end_of(ws, peers.pop(), happening)

        peers.append(Peer.connect(server))
        eventually(lambda: references)
        eventually(lambda: references[0]() is None, 8.0)


REFUSALS = [b"", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"garbage\r\n\r\n"]
AWAY = b"HTTP/1.1 302 Found\r\nLocation: file:/etc/passwd\r\n\r\n"
WAYS = [*(("", text) for text in (*REFUSALS, AWAY)), *(("http", text) for text in REFUSALS), ("socks5h", b"")]


@pytest.mark.parametrize(("through", "answer"), WAYS)
@pytest.mark.parametrize("blocking", [True, False])
def test_a_client_that_did_not_open_is_gone_without_the_garbage_collector(
    through: str, answer: bytes, blocking: bool, without_gc: None
) -> None:
    if through == "socks5h":
        pytest.importorskip("python_socks")
    references: list[Any] = []

    class Noted(Socket):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            references.append(weakref.ref(self))
            super().__init__(*args, **kwargs)

    def attempt() -> None:
        with world.raw_listener() as listener:
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"

            def refuse() -> None:
                sock, _ = listener.accept()
                sock.recv(10_000)
                sock.sendall(answer)
                sock.close()

            refusing = spawn(refuse)
            options = {"proxy": url.replace("ws", through).rstrip("/")} if through else {"follow_redirects": True}
            with contextlib.suppress(HandshakeError, OSError):
                ws = Noted("ws://far.example/" if through else url, blocking=blocking, **options)
                assert not blocking and ws.wait_closed(world.PATIENCE)
            refusing.result()

    attempt()
    eventually(lambda: references[0]() is None, 3.0)


FAILING = """
import logging
from peer import Peer
logging.getLogger("syncws").addHandler(logging.NullHandler())
logging.getLogger("syncws").propagate = False
references = []
def fail(ws, request):
    references.append(weakref.ref(ws))
    raise ValueError("a bug of the user's")
gc.collect()
gc.disable()
with Server(fail, host="127.0.0.1", port=0) as failing:
    with Peer.connect(failing) as peer:
        peer.expect_close(1011)
    eventually(lambda: references and references[0]() is None)
say("ok")
server.close()
"""


def test_a_failing_accept_leaves_no_socket() -> None:
    assert program(FAILING) == "ok"


# -- many, one after the other -------------------------------------------------------------------------------------


FLAT = """
def rounds(count):
    for number in range(count):
        ws = Socket(url, close_timeout=5)
        exchange(ws)
        if number % 10:
            ws.close()
            assert ws.wait_closed(10)
        else:
            ws.terminate()
    del ws
    eventually(lambda: not server.clients)
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
gc.collect()
rounds(500)
eventually(lambda: threading.active_count() <= 3 or mode != "threads")
before = descriptors(), tasks()
grown = []
for _ in range(4):
    memory = resident()
    rounds(500)
    grown.append(resident() - memory)
eventually(lambda: (descriptors(), tasks()) <= before)
say(*grown)
server.close()
"""


@pytest.mark.timeout(120)
@world.untraced
def test_many_connections_leave_nothing() -> None:
    grown = [int(size) / 500 for size in program(FLAT, 110).split()]
    # Without the GIL, memory of threads that have ended comes back late and in lumps: what is lost is lost each time.
    assert min(grown) < 700, f"bytes a connection: {grown}"


@world.threads_only
def test_a_closed_server_leaves_no_thread_and_no_descriptor() -> None:
    with serving() as server, Socket(world.url_of(server)):
        pass
    eventually(lambda: not any(thread.name.startswith("syncws-conn") for thread in threading.enumerate()))
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(20):
        with serving() as server, Socket(world.url_of(server)) as ws:
            ws.send("x")
    eventually(lambda: (len(os.listdir("/proc/self/fd")), threading.active_count()) <= before)
