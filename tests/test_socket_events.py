"""The events of a `Socket`: which, in what order, on what thread, and those that wait for their listener."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from pairs import SIDES, Journal, connected, quick_ticks, still_works
from peer import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, close_payload, frame
from world import PATIENCE, Event, Socket, eventually, serving, spawn, threads_only, url_of

import syncws

DEFLATE = ("Sec-WebSocket-Extensions: permessage-deflate",)
GARBAGE = bytes([0x83, 0])  # opcode 3 is reserved

each_side = pytest.mark.parametrize("side", SIDES)


def all_close(ws: Any, peer: Any, code: int = 1000) -> None:
    with contextlib.suppress(OSError):
        peer.send(CLOSE, close_payload(code))
    peer.end()
    assert ws.wait_closed(PATIENCE)


# -- what is told ------------------------------------------------------------------------------------------------


@each_side
def test_a_message_event_says_what_came_and_how(side: str) -> None:
    with connected(side, answer=DEFLATE, compression=True) as (ws, peer):
        journal = Journal(ws, "message")
        peer.send(TEXT, b'{"a": 1}')
        peer.send(BINARY, b"[1, 2]")
        peer.send(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4)  # RFC 7692 section 7.2.3.1
        peer.send(TEXT, b'{"a', fin=False)
        peer.send(CONTINUE, b'": 2}')
        eventually(lambda: len(journal.told) == 4)
        assert [(event.data, event.binary, event.compressed) for event in journal.events] == [
            ('{"a": 1}', False, False),
            (b"[1, 2]", True, False),
            ("Hello", False, True),
            ('{"a": 2}', False, False),
        ]
        assert [journal.events[i].json() for i in (0, 1, 3)] == [{"a": 1}, [1, 2], {"a": 2}]
        assert {(type(event), event.type, event.target) for event in journal.events} == {
            (syncws.MessageEvent, "message", ws)
        }


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "fragments"])
def test_binary_type_says_what_listeners_get(kind: str) -> None:
    with connected(binaryType=kind) as (ws, peer):
        journal = Journal(ws, "message")
        peer.send(BINARY, b"[1,", fin=False)
        peer.send(CONTINUE, b"2]")
        eventually(lambda: journal.told)
        assert journal.told == ([[b"[1,", b"2]"]] if kind == "fragments" else [b"[1,2]"])
        assert type(journal.told[0]).__name__ == {"fragments": "list"}.get(kind, kind)
        assert journal.events[0].json() == [1, 2]


def test_each_handler_given_to_the_constructor_is_there_before_anything_happens() -> None:
    told: list[Any] = []
    kinds = ("open", "message", "close", "error", "ping", "pong", "upgrade")
    handlers: dict[str, Any] = {f"on{kind}": lambda event: told.append(event.type) for kind in kinds}
    early = frame(PING) + frame(PONG) + frame(TEXT, b"a") + GARBAGE
    with connected(extra=early, **handlers) as (ws, peer):
        assert peer.read().opcode == PONG
        peer.expect_close(1002)
        peer.end()
        assert ws.wait_closed(PATIENCE)
        assert told == ["upgrade", "open", "ping", "pong", "message", "error", "close"]
        assert {ws.onopen, ws.onmessage, ws.onclose, ws.onerror, ws.onping, ws.onpong, ws.onupgrade} == {
            *handlers.values()
        }


@each_side
def test_the_state_is_set_before_its_event(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws)
        peer.send(TEXT, b"a")
        eventually(lambda: "a" in journal.told)
        peer.send_raw(GARBAGE if side == "client" else b"\x83\x80\0\0\0\0")
        peer.expect_close(1002)
        eventually(lambda: "error" in journal.told)
        peer.end()
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["open", "a", "error", "close"]
        assert journal.states == [syncws.OPEN, syncws.OPEN, syncws.CLOSING, syncws.CLOSED]
        error, close = journal.events[2:]
        assert (type(error.error), error.message) == (syncws.ProtocolError, str(error.error))
        assert (close.code, close.reason, close.wasClean) == (1006, "", False)


@pytest.mark.parametrize("end", ["end", "reset"])
@pytest.mark.parametrize("before", [b"", frame(TEXT, b"a" * 10)[:5], frame(TEXT, b"a", fin=False)])
@each_side
def test_an_end_without_a_close_is_no_error(end: str, before: bytes, side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "close", "error", "message")
        peer.send_raw(before if side == "client" else b"")
        getattr(peer, end)()
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["close"]
        event = journal.last("close")
        assert (event.code, event.reason, event.wasClean) == (1006, "", False)


@quick_ticks
def test_nobody_needs_to_listen_for_errors() -> None:
    with connected() as (ws, peer):
        peer.send_raw(GARBAGE)
        peer.expect_close(1002)
        peer.end()
        assert ws.wait_closed(PATIENCE)


# -- listeners that come late ------------------------------------------------------------------------------------


@quick_ticks
@each_side
def test_messages_wait_for_the_first_listener(side: str) -> None:
    with connected(side) as (ws, peer):
        for text in (b"1", b"2", b"3"):
            peer.send(TEXT, text)
        eventually(lambda: ws.bytes_received >= 9)  # they are here, and nobody wants them
        journal = Journal(ws, "message")
        peer.send(TEXT, b"4")
        eventually(lambda: journal.told == ["1", "2", "3", "4"])


@quick_ticks
@each_side
def test_more_messages_than_the_queue_holds_wait_too(side: str) -> None:
    with connected(side, max_queue=2) as (ws, peer):
        for number in range(50):
            peer.send(TEXT, str(number).encode())
        eventually(lambda: ws.bytes_received)
        assert ws.recv(PATIENCE) == "0"
        journal = Journal(ws, "message")
        eventually(lambda: journal.told == [str(number) for number in range(1, 50)])


@each_side
def test_open_waits_for_its_first_listener_and_comes_once(side: str) -> None:
    with connected(side) as (ws, peer):
        first = Journal(ws, "open")
        eventually(lambda: first.told == ["open"])
        second = Journal(ws, "open")
        still_works(ws, peer)
        all_close(ws, peer)
        assert (first.told, second.told) == (["open"], [])


@quick_ticks
@pytest.mark.parametrize("types", [("error", "close"), ("close", "error")])
@each_side
def test_error_and_close_wait_for_their_first_listeners(types: tuple[str, str], side: str) -> None:
    with connected(side) as (ws, peer):
        peer.send_raw(GARBAGE if side == "client" else b"\x83\x80\0\0\0\0")
        peer.expect_close(1002)
        peer.end()
        assert ws.wait_closed(PATIENCE)
        first = Journal(ws, types[0])
        eventually(lambda: first.told == [types[0]])
        second = Journal(ws, types[1])
        assert ws.wait_closed(PATIENCE)
        assert second.told == ([] if types[0] == "close" else ["close"])  # after close nothing fires
        again = Journal(ws, "error", "close")
        assert ws.wait_closed(PATIENCE)
        assert again.told == []


@pytest.mark.parametrize("late", [("message", "close"), ("close", "message")])
@each_side
def test_held_messages_come_before_the_close(late: tuple[str, str], side: str, quick_ticks: Any) -> None:
    with connected(side) as (ws, peer):
        peer.send(TEXT, b"1")
        peer.send(TEXT, b"2")
        peer.send(CLOSE, close_payload(4000))
        peer.end()
        eventually(lambda: ws.readyState == syncws.CLOSED)
        quick_ticks()  # no longer: a close waits for a tick until there is a message listener
        told: list[Any] = []
        for type in late:
            ws.addEventListener(type, lambda event: told.append(getattr(event, "data", event.type)))
        assert ws.wait_closed(PATIENCE)
        assert told == ["1", "2", "close"]


@quick_ticks
def test_messages_come_before_the_close_though_listeners_are_slow() -> None:
    with connected() as (ws, peer):
        go_on = Event()
        ws.addEventListener("message", lambda event: go_on.wait(PATIENCE))
        journal = Journal(ws, "message", "close")
        for text in (b"1", b"2", b"3"):
            peer.send(TEXT, text)
        peer.send(CLOSE, close_payload(1000))
        peer.end()
        eventually(lambda: ws.readyState != syncws.OPEN)
        assert journal.told == []
        go_on.set()
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["1", "2", "3", "close"]


@quick_ticks
def test_after_the_close_nothing_fires() -> None:
    with connected() as (ws, peer):
        closing = Journal(ws, "close")
        peer.send(TEXT, b"unread")
        all_close(ws, peer)
        eventually(lambda: closing.told == ["close"])
        late = Journal(ws, "open", "message", "error", "close")
        assert ws.wait_closed(PATIENCE)
        assert late.told == []


@quick_ticks
def test_a_close_listener_alone_is_told_in_the_end_though_messages_are_unread() -> None:
    with connected() as (ws, peer):
        journal = Journal(ws, "close")
        peer.send(TEXT, b"unread")
        peer.send(CLOSE, close_payload(4000, "bye"))
        peer.end()
        eventually(lambda: journal.told == ["close"])
        assert ws.recv() == "unread"


@pytest.mark.parametrize("waits", [False, True])
def test_a_listener_that_comes_after_messages_were_dropped_hears_the_rest(waits: bool) -> None:
    with connected(max_queue=1) as (ws, peer):
        told: list[Any] = []

        def listen(event: Any) -> None:
            ws.onmessage = lambda event: told.append(event.data)

        ws.onping = listen
        ws.onclose = lambda event: told.append(event.type)
        ws.close(1000)
        waiting = spawn(ws.wait_closed, PATIENCE) if waits else None
        eventually(lambda: ws._waits_closed == waits)
        peer.send_raw(b"".join(frame(TEXT, text) for text in (b"1", b"2", b"3")) + frame(PING) * 2)
        eventually(lambda: ws.onmessage is not None)
        all_close(ws, peer)
        # Without anybody in wait_closed() nothing is dropped yet.
        assert told == (["1", "close"] if waits else ["1", "2", "3", "close"])
        assert waiting is None or waiting.result()


# -- how listeners are run ---------------------------------------------------------------------------------------


@each_side
def test_listeners_run_one_at_a_time_and_in_order(side: str) -> None:
    with connected(side) as (ws, peer):
        inside: list[int] = []
        most: list[int] = []
        told: list[Any] = []

        def note(event: Any) -> None:
            inside.append(1)
            most.append(len(inside))
            ws.ping(b"p", ignore_closed=True)  # somewhere to switch
            told.append(getattr(event, "data", event.type))
            inside.pop()

        for type in ("message", "ping", "close", "open"):
            ws.addEventListener(type, note)
        for number in range(50):
            peer.send(TEXT if number % 3 else PING, str(number).encode())
        eventually(lambda: len(told) == 51)
        all_close(ws, peer)
        in_text = [data if isinstance(data, str) else data.decode() for data in told]
        assert in_text == ["open", *map(str, range(50)), "close"]
        assert max(most) == 1


@threads_only
def test_listeners_of_a_client_run_on_one_thread_that_is_not_the_callers() -> None:
    import threading

    with connected() as (ws, peer):
        threads: list[Any] = []
        ws.onmessage = lambda event: threads.append(threading.get_ident())
        for _ in range(5):
            peer.send(TEXT, b"a")
        eventually(lambda: len(threads) == 5)
        assert len(set(threads)) == 1
        assert threads[0] != threading.get_ident()


@quick_ticks
def test_a_listener_that_blocks_holds_up_no_other_connection() -> None:
    go_on = Event()
    with connected() as (slow, its_peer), connected() as (ws, peer):
        slow.onmessage = lambda event: go_on.wait(PATIENCE)
        journal = Journal(ws, "message")
        its_peer.send(TEXT, b"a")
        peer.send(TEXT, b"b")
        eventually(lambda: journal.told == ["b"])
        its_peer.send(PING, b"p")
        assert its_peer.read().payload == b"p"
        go_on.set()


@each_side
def test_a_listener_that_raises_is_logged_and_the_connection_goes_on(side: str, caplog: Any) -> None:
    caplog.expected_errors = 1
    with connected(side) as (ws, peer):

        def fails(event: Any) -> None:
            raise LookupError("of the listener's")

        ws.once("message", fails)
        journal = Journal(ws, "message", "close")
        peer.send(TEXT, b"1")
        peer.send(TEXT, b"2")
        eventually(lambda: journal.told == ["1", "2"])
        all_close(ws, peer)
        (record,) = [record for record in caplog.records if record.name == "syncws" and record.exc_info]
        assert record.exc_info[0] is LookupError


@quick_ticks
@pytest.mark.parametrize("type", ["open", "message", "ping", "close"])
@pytest.mark.parametrize("call", ["close", "terminate", "wait_closed"])
@each_side
def test_a_listener_may_close_drop_and_wait(type: str, call: str, side: str) -> None:
    with connected(side) as (ws, peer):
        answers: list[Any] = []
        told: list[str] = []
        ws.addEventListener("close", lambda event: told.append("close"))

        def listener(event: Any) -> None:
            answers.append(getattr(ws, call)())
            answers.append(list(told))

        ws.addEventListener(type, listener)
        mask = b"\0\0\0\0" if peer.client else None
        peer.send_raw(frame(TEXT, b"b", mask=mask) + frame(PING, b"b", mask=mask))
        if call != "wait_closed":
            eventually(lambda: answers or type == "close")
        all_close(ws, peer, 4000)
        # wait_closed() returns before the close listeners have run, but within one of them they are running.
        assert answers == [True if call == "wait_closed" else None, ["close"] if type == "close" else []]
        assert told == ["close"]


def test_wait_closed_returns_after_the_close_listeners() -> None:
    with connected() as (ws, peer):
        go_on = Event()
        ws.onclose = lambda event: go_on.wait(PATIENCE)
        waiting = spawn(ws.wait_closed)
        peer.end()
        eventually(lambda: ws.readyState == syncws.CLOSED)
        assert ws.wait_closed(0.05) is False
        assert not waiting.done
        go_on.set()
        assert waiting.result() is True


def test_an_echo_by_listener_does_not_wait_for_a_peer_that_sends_all_the_time() -> None:
    data = bytes(1 << 20)
    count = 24

    def accept(ws: Any, request: Any) -> None:
        ws.onmessage = lambda event: ws.send(event.data)

    with serving(accept) as server, Socket(url_of(server), compression=False) as ws:
        for _ in range(count):
            ws.send(data)
        assert [len(ws.recv(PATIENCE)) for _ in range(count)] == [len(data)] * count


# -- the list of listeners --------------------------------------------------------------------------------------


def test_once_off_and_unknown_types() -> None:
    with connected() as (ws, peer):
        told: list[str] = []

        @ws.once("message")
        def first(event: Any) -> None:
            told.append("once")

        @ws.on("message")
        def every(event: Any) -> None:
            told.append(event.data)

        ws.on("no such type", every)
        ws.addEventListener("message", every)  # counts once
        peer.send(TEXT, b"1")
        peer.send(TEXT, b"2")
        eventually(lambda: told == ["once", "1", "2"])
        ws.off("message", every)
        still_works(ws, peer)  # recv again
        assert told == ["once", "1", "2"]


def test_an_event_may_be_dispatched_by_hand() -> None:
    with connected() as (ws, _):
        journal = Journal(ws, "message")
        event = syncws.MessageEvent("by hand")
        assert ws.dispatchEvent(event) is True
        assert (journal.told, event.target) == (["by hand"], ws)
