"""Peers, users and systems that do their worst: limits hold, nothing is lost, nobody starves."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket as native
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import world
from crowd import crowd
from interposed import Interposed
from pairs import SIDES, Journal, connected, quick_ticks
from peer import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, Peer, close_payload, frame
from raw import is_served
from world import PATIENCE, Event, Server, Socket, eventually, serving, sleep, spawn, threads_only, url_of

import syncws
from syncws import hosts, sources
from syncws.sender import Sender

each_side = pytest.mark.parametrize("side", SIDES)
FLOODS = {
    "pings": (b"", frame(PING) * 5000),
    "pongs": (b"", frame(PONG) * 5000),
    "fragments": (frame(BINARY, b"", fin=False), frame(CONTINUE, b"x", fin=False) * 5000),
}


@contextlib.contextmanager
def flooding(peer: Peer, kind: str) -> Any:
    """Meanwhile the peer sends frames without a pause that are no messages."""
    begin, more = FLOODS[kind]
    over = False

    def flood() -> None:
        with contextlib.suppress(OSError):
            peer.send_raw(begin)
            while not over:
                peer.send_raw(more)

    task = spawn(flood)
    try:
        yield
    finally:
        over = True
        peer.sock.close()
        task.result(60)


# -- time limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["recv", "poll", "wait_closed", "send", "with"])
@pytest.mark.parametrize("kind", FLOODS)
def test_time_limits_hold_in_a_flood_of_what_is_no_message(kind: str, call: str) -> None:
    with connected(max_fragments=0, close_timeout=30) as (ws, peer), flooding(peer, kind):
        calls = {
            "recv": lambda: ws.recv(0.5),
            "poll": lambda: ws.recv(0),
            "wait_closed": lambda: ws.wait_closed(0.5),
            "send": lambda: ws.send(bytes(1 << 26), timeout=0.5),
        }

        def interrupt() -> None:
            with contextlib.suppress(KeyboardInterrupt), ws:
                raise KeyboardInterrupt

        began = time.monotonic()
        with contextlib.suppress(TimeoutError, syncws.ConnectionClosed):
            assert calls.get(call, interrupt)() in (False, None)
        assert time.monotonic() - began < 6
        ws.terminate()


@quick_ticks
def test_a_server_closes_although_a_listener_does_not_return(caplog: Any) -> None:
    go_on, here = Event(), Event()

    def accept(ws: Any, request: Any) -> None:
        ws.onmessage = lambda event: (here.set(), go_on.wait(30))

    with serving(accept, close_timeout=0.5) as server:
        ws = Socket(url_of(server))
        ws.send("work")
        assert here.wait(PATIENCE)
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 5
        assert ["1 connections" in record.getMessage() for record in caplog.records] == [True]
        go_on.set()
        assert ws.wait_closed(PATIENCE)


# -- memory ----------------------------------------------------------------------------------------------------------


@each_side
def test_wait_closed_in_a_listener_holds_no_more_than_the_queue(side: str) -> None:
    with connected(side, max_queue=4) as (ws, peer):
        most = 0

        def listener(event: Any) -> None:
            ws.close(1000)
            ws.wait_closed()

        ws.onmessage = listener
        mask = None if side == "client" else b"\0\0\0\0"
        for _ in range(20_000):
            peer.send(TEXT, b"x" * 100, mask=mask)
            most = max(most, len(ws._inbox))
        peer.send(CLOSE, close_payload(1000), mask=mask)
        peer.end()
        assert ws.wait_closed(PATIENCE)
        assert most < 1500  # of one read


@pytest.mark.parametrize("type", ["ping", "pong"])
def test_pings_do_not_pile_up_before_a_slow_listener(type: str) -> None:
    with connected() as (ws, peer):
        go_on = Event()
        told: list[bytes] = []
        ws.addEventListener(type, lambda event: (told.append(event.data), go_on.wait(PATIENCE)))
        opcode = PING if type == "ping" else PONG
        all_of_them = b"".join(frame(opcode, b"%d" % number) for number in range(5000))
        before = ws.bytes_received
        peer.send_raw(all_of_them)
        eventually(lambda: ws.bytes_received == before + len(all_of_them))
        assert len(ws._happenings) <= 40
        go_on.set()
        eventually(lambda: told and told[-1] == b"4999")
        numbers = list(map(int, told))
        assert numbers == sorted(numbers)
        assert len(numbers) < 50


def test_a_broadcast_is_kept_once_for_all_that_do_not_take_it() -> None:
    with crowd(2, small=True) as place:
        while not all(ws.bufferedAmount for ws in place.sockets):
            place.server.broadcast("x" * 10_000)
        for ws in place.sockets:
            assert all(isinstance(piece, (bytes, memoryview)) for piece in ws._out)
        wholes = [ws._out[0].obj for ws in place.sockets if isinstance(ws._out[0], memoryview)]
        assert len(wholes) == 2
        assert all(len(whole) > 10_000 for whole in wholes)


@pytest.mark.parametrize("way", ["close", "terminate"])
def test_a_closed_socket_keeps_nothing_for_compression(way: str) -> None:
    with serving(compression=True) as server, Socket(url_of(server)) as ws:
        ws.send("x" * 5000)
        assert ws.recv(PATIENCE) == "x" * 5000
        getattr(ws, way)()
        assert ws.wait_closed(PATIENCE)
        eventually(lambda: ws._released)
        assert ws._sender is None
        assert ws._receiver is None


def test_a_client_that_resets_fills_no_log(caplog: Any) -> None:
    def accept(ws: Any, request: Any) -> None:
        ws.onmessage = lambda event: ws.send(event.data)

    with serving(accept) as server:
        for _ in range(3):
            with Peer.connect(server) as peer:
                for _ in range(500):
                    peer.send(TEXT, b"x" * 100)
                peer.reset()
        eventually(lambda: not server.clients)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


# -- order and wholeness ---------------------------------------------------------------------------------------------


def test_what_is_being_sent_cannot_be_resized() -> None:
    data = bytearray(100_000)
    buffers = Sender(masked=False).message(BINARY, data)
    with pytest.raises(BufferError):
        data.append(1)
    assert sum(map(len, buffers)) == 100_010
    del buffers
    data.append(1)


def test_nothing_is_lost_after_close_though_there_was_a_listener_once() -> None:
    with connected() as (ws, peer):
        first = Event()
        ws.once("message", lambda event: first.set())
        peer.send(TEXT, b"hello")
        assert first.wait(PATIENCE)
        peer.send(TEXT, b"0")
        assert ws.recv(PATIENCE) == "0"
        ws.close(1000)
        for number in range(1, 100):
            peer.send(TEXT, b"%d" % number)
        sleep(0.5)
        peer.send(CLOSE, close_payload(1000))
        peer.end()
        assert list(ws) == [str(number) for number in range(1, 100)]


def test_a_stream_begins_with_the_message_that_came_first() -> None:
    with connected() as (ws, peer):
        lock = ws._lock
        taken: list[Any] = []

        def another() -> None:
            """Between a look at the inbox and one at what is unfinished, both come."""
            ws._lock = lock
            peer.send(TEXT, b"first")
            peer.send(TEXT, b"sec", fin=False)
            eventually(lambda: ws._inbox and ws._unfinished)

        peer.send(TEXT, b"begin", fin=False)
        eventually(lambda: ws._unfinished)
        peer.send(CONTINUE, b"ning")
        assert ws.recv(PATIENCE) == "beginning"
        original = type(ws)._take

        def take(self: Any, unfinished: bool = False) -> Any:
            if unfinished and not taken:
                taken.append(True)
                self._lock = Interposed(lock, before=another)
            return original(self, unfinished)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(ws), "_take", take)
            assert next(ws.recv_stream()) == "first"
        peer.send(CONTINUE, b"ond")
        assert ws.recv(PATIENCE) == "second"


@quick_ticks
def test_a_close_behind_unread_messages_does_not_end_a_pause() -> None:
    with connected() as (ws, peer):
        journal = Journal(ws, "close")

        def listener(event: Any) -> None:
            journal.told.append(event.data)
            if event.data == "0":
                ws.pause()

        ws.onmessage = listener
        peer.send_raw(b"".join(frame(TEXT, b"%d" % n) for n in range(3)) + frame(CLOSE, close_payload(4000)))
        eventually(lambda: ws.is_paused)
        sleep(0.5)
        assert (journal.told, ws.is_paused, ws.readyState) == (["0"], True, syncws.OPEN)
        ws.resume()
        peer.expect_close(4000)
        peer.end()
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["0", "1", "2", "close"]


# -- taking turns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 20_000])
@pytest.mark.parametrize("fragments", [False, True])
@pytest.mark.parametrize("others", [1, 2])
def test_who_sends_all_the_time_lets_others_send(others: int, fragments: bool, size: int) -> None:
    with serving(lambda ws, request: [None for _ in ws]) as server, Socket(url_of(server), compression=False) as ws:
        over = Event()
        data = bytes(size)

        def busy() -> None:
            while not over.is_set():
                ws.send([data, data] if fragments else data)

        tasks = [spawn(busy) for _ in range(others)]
        sleep(0.2)
        for message in ("urgent", "x" * 10_000, ["ur", "gent"]):
            ws.send(message, timeout=5)
        over.set()
        for task in tasks:
            task.result()


@threads_only
@pytest.mark.usefixtures("hectic")
def test_a_cork_of_one_thread_does_not_end_what_another_receives() -> None:
    with serving() as server, Socket(url_of(server)) as ws:
        over = threading.Event()

        def cork() -> None:
            while not over.is_set():
                with ws.cork():
                    pass

        corking = spawn(cork)
        for number in range(2000):
            ws.send(str(number))
            assert ws.recv(PATIENCE) == str(number)
        over.set()
        corking.result()


@threads_only
def test_listeners_of_a_server_may_be_added_by_many_threads() -> None:
    server = Server(None, no_server=True)
    for _ in range(200):
        ready = threading.Barrier(4)
        heard: list[int] = []

        def add(number: int, ready: Any = ready, heard: Any = heard) -> None:
            ready.wait(PATIENCE)
            server.once("error", lambda error: heard.append(number))

        for task in [spawn(add, number) for number in range(4)]:
            task.result()
        server._call("error", OSError())
        assert sorted(heard) == [0, 1, 2, 3]
    server.close()


# -- the system ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def silent_listener() -> Any:
    """An address that answers no connection, as a host behind a filter: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(native.socket())
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        for _ in range(12):
            sock = stack.enter_context(native.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()


def test_an_address_that_is_silent_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_listener() as silent, serving() as server:
        found = [(native.AF_INET, native.SOCK_STREAM, 6, "", address) for address in (silent, server.address())]
        monkeypatch.setattr("syncws.way.resolve", lambda *_: found)
        with Socket("ws://two.example/", handshake_timeout=3, proxy=None) as ws:
            assert ws.remote_address == server.address()
            ws.send("a")
            assert ws.recv(PATIENCE) == "a"


@contextlib.contextmanager
def full_queue(path: str) -> Iterator[Any]:
    """A unix socket that listens and has taken as many connections as it does before one is accepted."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(native.socket(native.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        for _ in range(2):
            sock = stack.enter_context(native.socket(native.AF_UNIX))
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(path)
        yield listener


def test_a_unix_socket_with_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with full_queue(path) as listener:
        with pytest.raises(TimeoutError):
            Socket(f"ws+unix:{path}", handshake_timeout=0.3)
        opening = spawn(Socket, f"ws+unix:{path}")
        sleep(0.2)
        assert not opening.done
        listener.setblocking(False)
        while not opening.done:
            with contextlib.suppress(BlockingIOError):
                sock = listener.accept()[0]
                sock.close()
            sleep(0.01)
        with pytest.raises((syncws.HandshakeError, OSError)):  # it got through, and nobody answered
            opening.result()


def test_a_servers_file_is_gone_before_it_stops_to_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    seen: list[bool] = []
    close = sources.close_listeners
    monkeypatch.setattr(sources, "close_listeners", lambda listeners: (seen.append(path.exists()), close(listeners)))
    with Server(world.echo, unix=path):
        assert path.exists()
    assert seen == [False]


@threads_only
def test_a_cpu_that_is_taken_away_costs_nobody_his_place(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(22, "Invalid argument")

    with serving(cpu=min(os.sched_getaffinity(0)), max_connections=1) as server:
        monkeypatch.setattr(os, "sched_setaffinity", refuse)
        for _ in range(3):
            assert is_served(server)
            eventually(lambda: not server.clients and server._arrivals.unfinished == 0)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 3


# -- in another's server ---------------------------------------------------------------------------------------------


REQUEST = syncws.Request(
    "GET",
    "/",
    {
        "Host": "x",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    },
)


def test_a_connection_that_cannot_be_taken_over_is_shut(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """So that the server it belongs to reads nothing more from it, as if it were HTTP."""

    def no_more(*_: Any) -> int:
        raise OSError(24, "Too many open files")

    caplog.expected_errors = 1
    ours, theirs = world.pair_of_sockets()
    with contextlib.closing(ours), Server(world.echo, no_server=True) as server:
        monkeypatch.setattr("syncws.borrowed.os.dup", no_more)
        assert server.handle_upgrade(REQUEST, theirs).status == 503
        ours.settimeout(PATIENCE)
        assert ours.recv(100) == b""


def test_a_client_that_resets_before_it_is_taken_over_raises_nothing() -> None:
    class Reader:
        def peek(self, size: int) -> bytes:
            raise ConnectionResetError

        read1 = peek

    with contextlib.closing(native.socket()) as sock:
        assert hosts.drained(Reader(), sock) == b""


def test_head_is_refused_without_a_body() -> None:
    answered: list[Any] = []
    environ = {"REQUEST_METHOD": "HEAD", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "x", "PATH_INFO": "/"}
    body = syncws.upgrade(world.echo)(environ, lambda status, fields, *_: answered.append((status, dict(fields))))
    assert list(body) == []
    assert answered[0][0].startswith("4")
    assert int(answered[0][1]["Content-Length"]) > 0


@pytest.mark.parametrize("lacking", ["recv", "send", "settimeout", "gettimeout", "shutdown", "fileno", "close"])
def test_a_stand_in_for_a_socket_is_checked_before_it_is_touched(lacking: str) -> None:
    ours, theirs = world.pair_of_sockets()

    class StandIn:
        def __getattr__(self, name: str) -> Any:
            if name == lacking:
                raise AttributeError(name)
            return getattr(theirs, name)

    with contextlib.closing(ours), contextlib.closing(theirs), Server(world.echo, no_server=True) as server:
        with pytest.raises(TypeError, match="socket"):
            server.handle_upgrade(REQUEST, StandIn())
        assert theirs.fileno() >= 0


@pytest.mark.parametrize("kind", ["no_server", "server"])
def test_a_signal_takes_no_lock_that_its_thread_may_hold(kind: str) -> None:
    place: Any = {"no_server": True}
    if kind == "server":
        place = {"server": http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)}
    server = Server(world.echo, **place)
    try:
        with server._lock:
            server._source.interrupt()
        with server:
            pass
    finally:
        if kind == "server":
            place["server"].server_close()


@pytest.mark.parametrize("way", ["close", "terminate"])
def test_who_waits_for_a_unix_socket_can_be_called_off(way: str, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with full_queue(path):
        ws = Socket(f"ws+unix:{path}", blocking=False, handshake_timeout=None)
        sleep(0.1)
        assert ws.readyState == syncws.CONNECTING
        getattr(ws, way)()
        assert ws.wait_closed(3)


def test_what_cannot_be_written_to_takes_nothing_from_a_file() -> None:
    with connected() as (ws, peer):
        peer.send(BINARY, b"abcdef")
        file = ws.makefile("rb", buffering=0)
        with pytest.raises(TypeError):
            file.readinto(b"12345")
        assert file.read(6) == b"abcdef"
