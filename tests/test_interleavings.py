"""Moments that are a few instructions long, each made to happen: what another thread does just then."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest
from crowd import crowd
from interposed import Interposed
from pairs import Journal, connected, quick_ticks
from peer import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, Peer, close_payload, frame
from world import GREEN, PATIENCE, Event, Socket, eventually, raw_listener, serving, sleep, spawn, threads_only, url_of

from syncws import CLOSED, CLOSING, CONNECTING, OPEN, ConnectionClosed, inbox
from syncws.events import DataEvent, Entry
from syncws.lifecycle import Role
from syncws.runtime import THREADS, Poller
from syncws.websocket import Connection


@pytest.mark.usefixtures("unattended")
def test_a_message_that_another_caller_read_meanwhile_is_not_left_lying() -> None:
    with connected("server") as (ws, peer):
        peer.send(TEXT, b"first")
        assert spawn(ws.recv, PATIENCE).result() == "first"  # the main thread would end every wait after half a second
        peer.send_raw(b"".join(frame(TEXT, text, mask=bytes(4)) for text in (b"second", b"third")))
        lock = ws._lock

        def another() -> None:
            ws._lock = lock
            assert ws.recv(PATIENCE) == "second"
            assert ws._inbox  # the third came in the same read

        ws._lock = Interposed(lock, before=another)
        assert spawn(ws.recv).result() == "third"


def test_a_listener_may_be_added_at_the_moment_when_accept_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets: list[Any] = []
    told: list[str] = []
    done, gone = Event(), Event()

    def accept(ws: Any, request: Any) -> None:
        sockets.append(ws)
        ws.onclose = lambda event: gone.set()
        assert done.wait(PATIENCE)

    with serving(accept) as server, Socket(url_of(server)) as client:
        eventually(lambda: sockets)
        ws, needs_loop = sockets[0], Connection._needs_loop
        lock, asked = ws._lock, []

        def ask(self: Any) -> bool:
            asked.append(self)
            return needs_loop(self)

        def accept_returns() -> None:
            if asked:
                ws._lock = lock
                done.set()
                eventually(lambda: ws._home is None)

        monkeypatch.setattr(Connection, "_needs_loop", ask)
        ws._lock = Interposed(lock, after=accept_returns)
        ws.addEventListener("message", lambda event: told.append(event.data))
        assert done.is_set()
        client.send("a")
        eventually(lambda: told == ["a"])
        client.close()
        assert gone.wait(PATIENCE)


def ended(call: Any) -> None:
    with contextlib.suppress(ConnectionClosed):
        call()


@pytest.mark.parametrize("second", ["recv", "wait_closed"])
def test_the_answer_to_a_close_is_not_lost_to_another_who_reads_the_end(
    second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = Connection._flush

    def late(self: Any) -> None:
        if self._close_frame is not None:
            with contextlib.suppress(AssertionError):
                eventually(lambda: self._ended, 0.3)
        flush(self)

    monkeypatch.setattr(Connection, "_flush", late)
    with crowd() as place:
        for _ in range(3):
            ws, peer = place.join()
            for call in (ws.recv, getattr(ws, second)):
                spawn(ended, call)
            peer.send(CLOSE, close_payload(1000))
            peer.end()
            assert peer.read().opcode == CLOSE
            assert ws.wait_closed(PATIENCE)
            assert ws._ending() == (1000, "", True)


def test_a_stream_does_not_end_before_its_last_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    joining, gone_on = Event(), Event()
    real = inbox.join

    def join(opcode: int, pieces: list[Any]) -> Any:
        joining.set()
        gone_on.wait(0.3)
        return real(opcode, pieces)

    with connected("server") as (ws, peer):
        peer.send(BINARY, b"first", fin=False)
        stream = ws.recv_stream()
        got = [next(stream)]
        monkeypatch.setattr(inbox, "join", join)
        for number in range(inbox._FOLD):
            peer.send(CONTINUE, b"%02d" % number, fin=number == inbox._FOLD - 1)
        assert joining.wait(PATIENCE)  # the attendant has read, and folds
        got += stream
        gone_on.set()
        assert b"".join(got) == b"first" + b"".join(b"%02d" % number for number in range(inbox._FOLD))


@quick_ticks
def test_what_waits_to_be_written_does_not_keep_what_comes_unseen() -> None:
    with crowd(small=True, max_backlog=1 << 30) as place:
        ws, peer = place.join()
        reading = spawn(ws.recv)
        eventually(lambda: ws._reader)
        place.server.broadcast(bytes(8 << 20))
        sleep(0.3)  # the attendant looks, and leaves the reading to who reads
        peer.send(TEXT, b"a")
        assert reading.result() == "a"
        peer.send(CLOSE, close_payload(1001))
        eventually(lambda: ws.close_code == 1001)


@quick_ticks
def test_what_waits_to_be_written_does_not_keep_messages_that_nobody_takes() -> None:
    with crowd(small=True, max_backlog=1 << 30, max_queue=2) as place:
        ws, peer = place.join()
        for _ in range(4):
            peer.send(TEXT, b"a")
            sleep(0.1)  # each in a read of its own
        peer.send(CLOSE, close_payload(1000))
        place.server.broadcast(bytes(8 << 20))
        ws.close()
        eventually(lambda: ws.close_code == 1000)


def test_what_happens_as_wait_closed_leaves_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told, left = Event(), Event()
    step = Connection._step

    def last_step(self: Any, *args: Any) -> Any:
        something = step(self, *args)
        if not something:
            spawn(self.terminate).result()
        return something

    def accept(ws: Any, request: Any) -> None:
        ws.onclose = lambda event: told.set()
        ws.onmessage = lambda event: None
        ws.pause()
        ws.wait_closed(0.5)
        if told.wait(PATIENCE):
            left.set()

    monkeypatch.setattr(Connection, "_step", last_step)
    with serving(accept) as server, contextlib.closing(Peer.connect(server)):
        assert left.wait(PATIENCE)


@quick_ticks
def test_room_that_is_made_while_it_is_looked_for_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    has_room = Connection._has_room

    def look(self: Any) -> bool:
        room: bool = has_room(self)
        if not room and not taken and sys._getframe(1).f_code.co_name == "_events_wanted":
            taken.append(spawn(self.recv).result())  # without a lock: there is a message
        return room

    with connected("server", max_queue=2) as (ws, peer):
        peer.send(TEXT, b"first")
        assert ws.recv(PATIENCE) == "first"
        monkeypatch.setattr(Connection, "_has_room", look)
        peer.send(TEXT, b"a")
        peer.send(TEXT, b"b")
        eventually(lambda: taken)
        peer.send(PING, b"alive?")
        assert peer.read().opcode == PONG


def test_a_close_at_the_moment_of_the_opening_is_a_closing_handshake() -> None:
    told: list[Any] = []
    go = Event()

    def accept(ws: Any, request: Any) -> None:
        ws.onclose = lambda event: told.append((event.code, event.wasClean))

    with serving(accept, verify_client=lambda info: go.wait(PATIENCE)) as server:
        ws = Socket(url_of(server), blocking=False)
        lock, caller = ws._lock, ws._runtime.current()

        def open_first() -> None:
            if ws._runtime.current() == caller and ws.readyState == CONNECTING:
                ws._lock = lock
                go.set()
                eventually(lambda: ws.readyState == OPEN)

        ws._lock = Interposed(lock, before=open_first)
        ws.close(1000)
        assert ws.wait_closed(PATIENCE)
        eventually(lambda: told == [(1000, True)])


@pytest.mark.skipif(GREEN, reason="one greenlet is not in the middle of a call while another runs")
def test_a_late_ring_does_not_write_to_what_another_has_opened_since(tmp_path: Path) -> None:
    poller = Poller(THREADS)
    victim = tmp_path / "victim"
    write = poller._write
    opened: list[Any] = []

    def late(descriptor: int, data: bytes) -> int:
        closing.append(spawn(poller.close))
        sleep(0.03)
        opened.extend(victim.open("wb", buffering=0) for _ in range(4))
        count: int = write(descriptor, data)
        return count

    closing: list[Any] = []
    poller._write = late
    poller.ring()
    closing[0].result()
    for file in opened:
        file.close()
    assert victim.read_bytes() == b""


def test_a_failure_is_told_before_it_is_closed_though_others_wait_for_a_message_and_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect_behind, tell_all = Socket._connect_behind, Connection._tell_all
    connecting: list[object] = []

    def connect(self: Any, way: Any) -> None:
        connecting.append(self._runtime.current())
        connect_behind(self, way)

    def late(self: Any, *role: Any) -> None:
        if self.readyState == CLOSING and self._runtime.current() in connecting:
            sleep(0.2)  # whoever else would tell it comes first
        tell_all(self, *role)

    monkeypatch.setattr(Socket, "_connect_behind", connect)
    monkeypatch.setattr(Connection, "_tell_all", late)
    with raw_listener() as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/"
        ws = Socket(url, blocking=False, onerror=lambda event: sleep(0.5))
        journal = Journal(ws, "error", "close")
        ws.terminate()
        eventually(lambda: ws.readyState != CONNECTING)
        waiting = spawn(ended, ws.recv)
        assert ws.wait_closed(PATIENCE)
        assert (journal.told, journal.states) == (["error", "close"], [CLOSING, CLOSED])
        waiting.result()


@threads_only
@pytest.mark.usefixtures("unattended")
def test_a_message_is_not_told_before_the_event_that_stands_before_it() -> None:
    seen: list[str | None] = []

    class Slow(inbox.Inbox):
        def extend(self, messages: Any) -> None:
            super().extend(messages)
            looking.append(spawn(look))
            sleep(0.1)

    def look() -> None:
        with ws._lock:
            seen.append(ws._next())

    looking: list[Any] = []
    with connected() as (ws, peer):
        ws._inbox = Slow()
        ws._dispatcher = Role(None)  # who tells nothing yet
        ws._listeners["message"] = (Entry(print),)
        ws._happenings.append((0, DataEvent("pong", b"")))
        peer.send_raw(frame(TEXT, b"first") + frame(TEXT, b"second"))
        ws._read_once(object())
        looking[0].result()
        assert seen == ["event"]
        ws._dispatcher = None


@pytest.mark.parametrize("step", ["_spawn_loop", "_runtime"])
def test_whoever_is_interrupted_while_a_thread_is_had_to_read_leaves_the_role(step: str, monkeypatch: Any) -> None:
    def interrupt(*_: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    with connected() as (ws, _):
        closed = Journal(ws, "close")
        if step == "_runtime":
            monkeypatch.setattr(type(ws._runtime), "spawn", interrupt)
        else:
            monkeypatch.setattr(Connection, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            ws.onmessage = print
        assert ws.wait_closed(PATIENCE)
        assert closed.told == ["close"]


def test_whoever_is_interrupted_as_it_begins_to_wait_for_the_end_waits_no_more() -> None:
    def interrupt() -> None:
        ws._lock = lock
        raise KeyboardInterrupt

    with connected(max_queue=2) as (ws, peer):
        lock = ws._lock
        ws._lock = Interposed(lock, after=interrupt)
        with pytest.raises(KeyboardInterrupt):
            ws.wait_closed()
        assert ws._waits_closed == 0
        peer.send_raw(b"".join(frame(TEXT, b"%d" % number) for number in range(9)))
        assert [ws.recv(PATIENCE) for _ in range(9)] == [str(number) for number in range(9)]


def test_a_constructor_that_is_interrupted_when_all_is_open_leaves_no_connection() -> None:
    class Hit(Socket):
        def _open(self, opening: Any) -> None:
            super()._open(opening)
            raise KeyboardInterrupt

    with raw_listener() as listener:
        accepting = spawn(Peer.accept, listener)
        with pytest.raises(KeyboardInterrupt):
            Hit(f"ws://127.0.0.1:{listener.getsockname()[1]}/", onmessage=print)
        peer = accepting.result()
        peer.expect_end()
        peer.close()
