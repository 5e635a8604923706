"""What people who come from other libraries rely on in events and listeners; docs/coming-from.md has the table.

On a connection, that is: test_events.py holds the same rules of the classes alone.
"""

from __future__ import annotations

from typing import Any

import pytest
import world
from pairs import SIDES, Journal, connected, end_of
from peer import BINARY, PING, PONG, TEXT
from world import PATIENCE, Socket, eventually, serving, url_of

import syncws

each_side = pytest.mark.parametrize("side", SIDES)
quick_ticks = pytest.mark.usefixtures("quick_ticks")
HANDLERS = ("onopen", "onmessage", "onclose", "onerror", "onping", "onpong", "onupgrade", "onredirect")


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("value", [None, 5, "function", object()])
def test_a_handler_is_none_until_set_and_again_by_what_cannot_be_called(name: str, value: Any) -> None:
    with connected() as (ws, _):
        assert getattr(ws, name) is None
        setattr(ws, name, print)
        assert getattr(ws, name) is print
        setattr(ws, name, value)
        assert getattr(ws, name) is None


@quick_ticks
@each_side
def test_three_ways_to_listen_do_not_know_each_other(side: str) -> None:
    with connected(side) as (ws, peer):
        heard: list[str] = []
        ws.onmessage = lambda event: heard.append("first handler")
        ws.addEventListener("message", by_listener := lambda event: heard.append("listener"))
        ws.on("message", lambda event: heard.append("on"))
        ws.onmessage = lambda event: heard.append("handler")  # takes the place of the first one only
        peer.send(TEXT, b"a")
        eventually(lambda: len(heard) == 3)
        assert heard == ["handler", "listener", "on"]
        ws.removeEventListener("message", ws.onmessage)  # it was not added so
        ws.removeEventListener("message", by_listener)
        peer.send(TEXT, b"b")
        eventually(lambda: len(heard) == 5)
        assert heard[3:] == ["handler", "on"]


@quick_ticks
@each_side
def test_an_object_may_listen_and_is_itself_when_it_does(side: str) -> None:
    class Ear:
        def __init__(self) -> None:
            self.heard: list[Any] = []

        def handleEvent(self, event: Any) -> None:
            self.heard.append((event.type, event.data, event.binary, event.target))

    ear = Ear()
    with connected(side) as (ws, peer):
        for _ in range(2):  # the second time counts for nothing
            ws.addEventListener("message", ear)
        ws.addEventListener("weather", ear)
        peer.send(TEXT, b"a")
        peer.send(BINARY, b"b")
        eventually(lambda: len(ear.heard) == 2)
        assert ear.heard == [("message", "a", False, ws), ("message", b"b", True, ws)]


@quick_ticks
@each_side
def test_pings_and_pongs_are_events_with_data_though_pings_are_answered(side: str) -> None:
    with connected(side) as (ws, peer):
        heard: list[Any] = []
        ws.onping = lambda event: heard.append((event.type, event.data, event.target))
        ws.onpong = lambda event: heard.append((event.type, event.data, event.target))
        peer.send(PING, b"1")
        assert peer.read()[2:] == (PONG, not peer.client, b"1")
        peer.send(PONG, b"2")  # nobody asked for it, and it is told
        eventually(lambda: len(heard) == 2)
        assert heard == [("ping", b"1", ws), ("pong", b"2", ws)]


def test_the_answer_to_a_ping_does_not_wait_for_its_listener() -> None:
    with connected() as (ws, peer):
        over = world.Event()
        ws.onping = lambda event: over.wait(PATIENCE)
        peer.send(PING, b"1")
        assert peer.read().payload == b"1"
        over.set()


@quick_ticks
@each_side
def test_an_error_that_nobody_listens_to_ends_nothing_but_the_connection(side: str) -> None:
    with connected(side) as (ws, peer):
        ws.onmessage = print
        peer.send(3)
        peer.expect_close(1002)
        peer.end()
        assert ws.wait_closed(PATIENCE)
        assert ws.close_code == 1006


@quick_ticks
@each_side
def test_a_listener_that_raises_stops_nobody_and_is_logged(side: str, caplog: Any) -> None:
    caplog.expected_errors = 1
    with connected(side) as (ws, peer):
        heard: list[Any] = []

        @ws.once("message")
        def fails(event: Any) -> None:
            raise LookupError("of the listener's")

        ws.on("message", lambda event: heard.append(event.data))
        peer.send(TEXT, b"a")
        peer.send(TEXT, b"b")
        eventually(lambda: heard == ["a", "b"])
        assert "of the listener's" in caplog.text


@quick_ticks
@each_side
@pytest.mark.parametrize("late", [False, True])
def test_no_message_is_lost_however_late_its_listener_comes(late: bool, side: str) -> None:
    with connected(side) as (ws, peer):
        for number in range(5):
            peer.send(TEXT, b"%d" % number)
        if late:
            peer.send(8, b"\x03\xe8")
            eventually(lambda: ws.readyState != syncws.OPEN)
        journal = Journal(ws, "message", "close")
        eventually(lambda: len(journal.told) >= 5)
        assert journal.told[:5] == ["0", "1", "2", "3", "4"]
        if late:
            peer.close()
            assert end_of(ws, journal) == (1000, "", True)
            assert journal.told[5:] == ["close"]


def test_what_the_handshake_told_is_in_its_events() -> None:
    heard: list[Any] = []
    with serving() as server:
        server.on("headers", lambda headers, request: headers.add("X-Mine", "m"))
        ws = Socket(url_of(server), onupgrade=heard.append, onopen=heard.append, onclose=heard.append)
        with ws:
            ws.send("a")
            assert ws.recv(PATIENCE) == "a"
    eventually(lambda: len(heard) == 3)
    assert [event.type for event in heard] == ["upgrade", "open", "close"]
    assert (heard[0].response.status, heard[0].response.headers["x-mine"]) == (101, "m")
    assert (heard[2].code, heard[2].reason, heard[2].wasClean) == (1000, "", True)


def test_an_event_of_ones_own_is_dispatched_at_once_on_this_thread() -> None:
    with connected() as (ws, _):
        heard: list[Any] = []
        ws.onmessage = heard.append
        event = syncws.MessageEvent("made by hand")
        assert ws.dispatchEvent(event) is True
        assert heard == [event]
        assert event.target is ws
        with pytest.raises(TypeError):
            ws.dispatchEvent("message")
