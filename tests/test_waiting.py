"""`wait_closed`, and what waits with it: it runs no listener, and a listener that calls it does not wait for itself."""

from __future__ import annotations

import _thread
import contextlib
import threading
import time
from collections import Counter
from typing import Any

import pytest
from pairs import SIDES, Journal, connected, quick_ticks
from peer import CLOSE, PING, TEXT, Peer, close_payload
from world import PATIENCE, Event, Server, Socket, eventually, raw_listener, serving, sleep, spawn, threads_only, url_of

import syncws

each_side = pytest.mark.parametrize("side", SIDES)
NOWHERE = "ws://127.0.0.1:1/"


# -- who runs listeners meanwhile ------------------------------------------------------------------------------------


@quick_ticks
@pytest.mark.parametrize("type", ["open", "ping", "close"])
@each_side
def test_a_time_limit_holds_whatever_listeners_do(type: str, side: str) -> None:
    with connected(side) as (ws, peer):
        go_on = Event()
        ws.addEventListener(type, lambda event: go_on.wait(PATIENCE))
        mask = None if side == "client" else b"\0\0\0\0"
        peer.send(PING, b"p", mask=mask)
        ws.close(1000)
        peer.end()
        eventually(lambda: ws.readyState == syncws.CLOSED or ws._dispatcher is not None)
        began = time.monotonic()
        assert ws.wait_closed(0.2) is False
        assert time.monotonic() - began < 2
        go_on.set()
        assert ws.wait_closed(PATIENCE)


def test_a_listener_may_wait_for_what_the_waiting_caller_has_locked() -> None:
    with connected() as (ws, peer):
        lock = ws._runtime.lock()

        def listener(event: Any) -> None:
            with lock:
                pass

        ws.onclose = listener
        peer.end()
        with lock:
            assert ws.wait_closed(0.3) is False
        assert ws.wait_closed(PATIENCE)


def test_a_block_left_by_an_interrupt_does_not_wait_for_listeners() -> None:
    with connected() as (ws, peer):
        go_on = Event()
        ws.onclose = lambda event: go_on.wait(PATIENCE)
        began = time.monotonic()
        with contextlib.suppress(KeyboardInterrupt), ws:
            peer.end()
            raise KeyboardInterrupt
        assert time.monotonic() - began < 3
        assert ws.readyState == syncws.CLOSED
        go_on.set()


@threads_only
def test_in_accept_it_runs_the_listeners_for_it_is_their_thread() -> None:
    told: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        ws.onmessage = lambda event: told.append((event.data, threading.get_ident()))
        ws.onclose = lambda event: told.append((event.code, threading.get_ident()))
        told.append(("accept", threading.get_ident()))
        assert ws.wait_closed(PATIENCE)
        told.append(("returned", threading.get_ident()))

    with serving(accept) as server, Socket(url_of(server)) as ws:
        ws.send("a")
        ws.close(4000)
        assert ws.wait_closed(PATIENCE)
        eventually(lambda: len(told) == 4)
    assert [what for what, _ in told] == ["accept", "a", 4000, "returned"]
    assert len({thread for _, thread in told}) == 1


@each_side
def test_a_listener_that_leaves_python_is_logged_and_the_connection_goes_on(side: str, caplog: Any) -> None:
    with connected(side) as (ws, peer):
        told: list[Any] = []

        def listener(event: Any) -> None:
            told.append(event.data)
            raise SystemExit(3)

        caplog.expected_errors = 2
        ws.onmessage = listener
        mask = None if side == "client" else b"\0\0\0\0"
        for text in (b"1", b"2"):
            peer.send(TEXT, text, mask=mask)
        eventually(lambda: len([record for record in caplog.records if record.levelname == "ERROR"]) == 2)
        assert (told, ws.readyState) == (["1", "2"], syncws.OPEN)
    records = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.exc_info[0] for record in records] == [SystemExit, SystemExit]


# -- in listeners around the opening ---------------------------------------------------------------------------------


def test_an_error_listener_may_wait_for_the_end() -> None:
    told: list[Any] = []

    def failed(event: Any) -> None:
        told.append(event.target.readyState)
        with pytest.raises(syncws.ConnectionClosed):
            event.target.recv()
        told.append(event.target.wait_closed())

    ws = Socket(NOWHERE, blocking=False, onerror=failed, onclose=lambda event: told.append(event.code))
    assert ws.wait_closed(PATIENCE)
    assert told == [syncws.CLOSING, True, 1006]


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("call", ["wait_closed", "recv", "__exit__", "write"])
def test_an_upgrade_listener_does_not_wait_for_itself(call: str, blocking: bool) -> None:
    answers: list[Any] = []

    def upgraded(event: Any) -> None:
        ws = event.target
        try:
            if call == "write":
                ws.makefile("wb", buffering=0).write(b"early")
            answers.append(ws.__exit__(None, None, None) if call == "__exit__" else getattr(ws, call)())
        except Exception as error:
            answers.append(type(error))

    with serving() as server:
        if call == "__exit__":
            with contextlib.suppress(ConnectionAbortedError):
                ws = Socket(url_of(server), blocking=blocking, onupgrade=upgraded)
                assert ws.wait_closed(PATIENCE)
        else:
            ws = Socket(url_of(server), blocking=blocking, onupgrade=upgraded)
            eventually(lambda: ws.readyState == syncws.OPEN)
            ws.terminate()
        assert answers == [None if call == "__exit__" else syncws.InvalidStateError]


def test_a_redirect_listener_may_close_and_wait() -> None:
    def elsewhere(info: Any) -> Any:
        return syncws.Response(302, {"Location": NOWHERE})

    def stay(event: Any) -> None:
        event.target.close()
        assert event.target.wait_closed() is True

    with serving(verify_client=elsewhere) as server:
        opening = spawn(Socket, url_of(server), follow_redirects=True, onredirect=stay)
        with pytest.raises(ConnectionAbortedError):
            opening.result()


def test_without_a_thread_to_connect_the_constructor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def spawn_nothing(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with serving() as server:
        runtime = type(server._runtime)
        monkeypatch.setattr(runtime, "spawn", spawn_nothing)
        with pytest.raises(RuntimeError, match="new thread"):
            Socket(url_of(server), blocking=False)
        monkeypatch.undo()


# -- servers ---------------------------------------------------------------------------------------------------------


def test_a_close_by_another_thread_is_not_overruled_by_serve_forever() -> None:
    server = Server(lambda ws, request: ws.recv(), host="127.0.0.1", port=0)
    serving_forever = spawn(server.serve_forever)
    eventually(lambda: server._started)
    sockets = [Socket(url_of(server)) for _ in range(20)]
    eventually(lambda: len(server.clients) == 20)
    server.close(4001, "bye")
    assert serving_forever.result() is None
    assert all(ws.wait_closed(PATIENCE) for ws in sockets)
    assert Counter((ws.close_code, ws.close_reason) for ws in sockets) == {(4001, "bye"): 20}


@pytest.mark.parametrize("way", ["serve_forever", "with"])
def test_clients_that_were_left_stay(way: str) -> None:
    server = Server(lambda ws, request: [ws.send(message) for message in ws], host="127.0.0.1", port=0)
    if way == "with":
        with server:
            ws = Socket(url_of(server))
            server.close(clients="leave")
    else:
        serving_forever = spawn(server.serve_forever)
        eventually(lambda: server._started)
        ws = Socket(url_of(server))
        server.close(clients="leave")
        serving_forever.result()
    ws.send("still there?")
    assert ws.recv(PATIENCE) == "still there?"
    ws.close()
    assert ws.wait_closed(PATIENCE)


@pytest.mark.parametrize("everything", [False, True])
def test_two_listeners_may_close_the_server_at_once(everything: bool) -> None:
    both, done = [], []

    def accept(ws: Any, request: Any) -> None:
        def close(event: Any) -> None:
            both.append(event.data)
            eventually(lambda: len(both) == 2)
            syncws.close_all() if everything else server.close()
            done.append(ws.readyState)

        ws.onclose = lambda event: done.append(event.type)
        ws.onmessage = close

    with serving(accept) as server:
        sockets = [Socket(url_of(server)) for _ in range(2)]
        for ws in sockets:
            ws.send("close")
        eventually(lambda: len(done) == 4)
    assert Counter(done) == {syncws.CLOSED: 2, "close": 2}


def test_accept_that_lets_another_connections_end_out_is_closed_with_1011(caplog: Any) -> None:
    def relay(ws: Any, request: Any) -> None:
        raise syncws.ConnectionClosed(1000, "another's", True)

    caplog.expected_errors = 1
    with serving(relay) as server, Socket(url_of(server)) as ws:
        assert ws.wait_closed(PATIENCE)
        assert ws.close_code == 1011


# -- held messages ---------------------------------------------------------------------------------------------------


def test_a_message_listener_that_comes_seconds_after_a_close_listener_misses_nothing() -> None:
    with connected() as (ws, peer):
        journal = Journal(ws, "close")
        for text in (b"1", b"2"):
            peer.send(TEXT, text)
        peer.send(CLOSE, close_payload(4000))
        peer.end()
        eventually(lambda: ws.readyState == syncws.CLOSED)
        sleep(1)
        assert journal.told == []
        ws.onmessage = lambda event: journal.told.append(event.data)
        eventually(lambda: journal.told == ["1", "2", "close"])


def test_a_server_does_not_wait_for_a_close_that_hesitates() -> None:
    told: list[int] = []
    read = Event()

    def accept(ws: Any, request: Any) -> None:
        ws.onclose = lambda event: told.append(event.code)
        read.set()

    with serving(accept) as server:
        ws = Socket(url_of(server))
        ws.send("unread")
        assert read.wait(PATIENCE)
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 5
        assert told == [1001]
        assert ws.wait_closed(PATIENCE)


def test_streaming_makes_room_as_recv_does() -> None:
    with connected(max_queue=2) as (ws, peer):
        for text in (b"1", b"2", b"3"):
            peer.send(TEXT, text)
        eventually(lambda: ws._held_back)
        assert [list(ws.recv_stream()) for _ in range(3)] == [["1"], ["2"], ["3"]]
        peer.send(PING, b"?")
        assert peer.read().payload == b"?"


# -- signals ---------------------------------------------------------------------------------------------------------


@threads_only
@pytest.mark.parametrize("call", ["recv", "recv_stream", "wait_closed", "__iter__"])
def test_the_main_thread_hears_a_signal_that_came_before_it_waited(call: str) -> None:
    """Also on a socket that another thread has connected."""
    with raw_listener() as listener:
        ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", blocking=False)
        sock, _ = listener.accept()
        with Peer(sock, client=False) as peer:
            peer.head = peer.read_head()
            peer.answer()
            eventually(lambda: ws.readyState == syncws.OPEN)
            # It marks the signal as come, but interrupts no system call.
            timer = threading.Timer(0.3, _thread.interrupt_main)
            timer.start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                answer = getattr(ws, call)()
                next(answer)
            assert time.monotonic() - began < 3
            timer.join()
            ws.terminate()
