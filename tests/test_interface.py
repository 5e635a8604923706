"""Names, arguments and defaults of the public interface, as they are promised: one table each."""

from __future__ import annotations

import inspect
import weakref
from typing import Any

import pytest
import world
from pairs import SIDES, connected
from peer import BINARY, CONTINUE, TEXT
from world import PATIENCE, serving, url_of

import syncws

CALLS = {
    "send": "data, *, binary=None, compress=None, fin=True, mask=None, timeout=None",
    "recv": "timeout=None",
    "recv_stream": "",
    "ping": "data=b'', *, mask=None, ignore_closed=False",
    "pong": "data=b'', *, mask=None, ignore_closed=False",
    "close": "code=None, reason=''",
    "wait_closed": "timeout=None",
    "terminate": "",
    "pause": "",
    "resume": "",
    "makefile": "mode='rwb', buffering=None, *, encoding=None, errors=None, newline=None",
    "cork": "",
    "subscribe": "topic",
    "unsubscribe": "topic",
    "addEventListener": "type, listener, *, once=False",
    "removeEventListener": "type, listener",
    "dispatchEvent": "event",
    "on": "type, listener=None",
    "once": "type, listener=None",
    "off": "type, listener",
}
MESSAGE_CALLS = {
    "__init__": "type=2, *, masked=True, compress=False, max_payload=67108864",
    "read": "n=-1",
    "write": "data",
    "send_to": "stream",
    "read_from": "stream",
}


def told(function: Any) -> str:
    """Its arguments but for self, without annotations."""
    _, *parameters = inspect.signature(function).parameters.values()
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(plain))[1:-1]


@pytest.mark.parametrize(("name", "arguments"), CALLS.items())
def test_the_calls_of_a_socket_take_what_is_promised(name: str, arguments: str) -> None:
    for kind in (syncws.Socket, world.Socket):
        assert told(getattr(kind, name)) == arguments


@pytest.mark.parametrize(("name", "arguments"), MESSAGE_CALLS.items())
def test_the_calls_of_a_message_take_what_is_promised(name: str, arguments: str) -> None:
    assert told(getattr(syncws.Message, name)) == arguments


def test_the_numbers_are_those_of_the_protocol_and_of_the_w3c() -> None:
    types = [getattr(syncws, name) for name in ("CONTINUE", "TEXT", "BINARY", "CLOSE", "PING", "PONG")]
    assert types == [0, 1, 2, 8, 9, 10]
    for place in (syncws, syncws.Socket, world.Socket):
        assert [getattr(place, name) for name in ("CONNECTING", "OPEN", "CLOSING", "CLOSED")] == [0, 1, 2, 3]


# -- attributes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_a_fresh_socket_has_all_attributes(side: str) -> None:
    with connected(side, ping_interval=None) as (ws, peer):
        server = side == "server"
        found = {
            "readyState": 1, "protocol": "", "extensions": "", "bufferedAmount": 0, "binaryType": "bytes",
            "close_code": None, "close_reason": "", "bytes_received": 0, "bytes_sent": 0, "latency": None,
            "is_paused": False, "protocol_version": 13,
        }  # fmt: skip
        assert {name: getattr(ws, name) for name in found} == found
        assert ws.supports.binary
        assert ws.request.method == "GET"
        assert ws.response.status == 101
        assert ws.remote_address == peer.sock.getsockname()
        assert ws.local_address == peer.sock.getpeername()
        assert ws.url == ("" if server else f"ws://127.0.0.1:{ws.remote_address[1]}/")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["readyState", "OPEN", "CLOSED", "bufferedAmount", "is_paused"])
def test_what_is_read_only_cannot_be_set(name: str, side: str) -> None:
    with connected(side) as (ws, _):
        before = getattr(ws, name)
        with pytest.raises(AttributeError):
            setattr(ws, name, 2)
        assert getattr(ws, name) == before


@pytest.mark.parametrize("side", SIDES)
def test_a_socket_takes_any_further_attribute(side: str) -> None:
    with connected(side) as (ws, _):
        ws.user, ws.count = {"name": "anna"}, 0
        ws.count += 1
        assert (ws.user, ws.count) == ({"name": "anna"}, 1)
        del ws.user
        assert not hasattr(ws, "user")
        assert weakref.ref(ws)() is ws
        assert {ws: "as a key"}[ws]


def test_what_a_handler_puts_on_its_socket_its_listeners_find_there() -> None:
    def accept(ws: Any, request: Any) -> None:
        ws.name = request.path
        ws.onmessage = lambda event: event.target.send(event.target.name)

    with serving(accept) as server, world.Socket(url_of(server, "/anna")) as ws:
        ws.send("who am I?")
        assert ws.recv(PATIENCE) == "/anna"


# -- events --------------------------------------------------------------------------------------------------------

EVENTS = [
    (syncws.Event("x"), {"type": "x", "target": None}),
    (syncws.Event("x", 5), {"type": "x", "target": 5}),
    (syncws.MessageEvent(), {"type": "message", "target": None, "data": None, "binary": False, "compressed": False}),
    (syncws.MessageEvent("a", False, True), {"type": "message", "data": "a", "binary": False, "compressed": True}),
    (syncws.MessageEvent(b"a", binary=True), {"data": b"a", "binary": True, "compressed": False}),
    (syncws.CloseEvent(), {"type": "close", "target": None, "code": 0, "reason": "", "wasClean": False}),
    (syncws.CloseEvent(1000, "bye", True), {"type": "close", "code": 1000, "reason": "bye", "wasClean": True}),
    (syncws.ErrorEvent(), {"type": "error", "target": None, "error": None, "message": ""}),
    (syncws.ErrorEvent(OSError("x")), {"type": "error", "message": "x"}),
    (syncws.ErrorEvent(None, "y"), {"error": None, "message": "y"}),
]


@pytest.mark.parametrize(("event", "attributes"), EVENTS, ids=range(len(EVENTS)))
def test_an_event_has_what_it_was_made_of(event: Any, attributes: dict[str, Any]) -> None:
    assert {name: getattr(event, name) for name in attributes} == attributes
    assert isinstance(event, syncws.Event)
    for name in ("type", "target"):
        with pytest.raises(AttributeError):
            setattr(event, name, "another")


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "fragments"])
def test_a_message_event_reads_json_whatever_it_came_as(kind: str) -> None:
    with connected(binaryType=kind) as (ws, peer):
        got: list[Any] = []
        ws.onmessage = got.append
        peer.send(TEXT, b'{"a": "\xc3\xbc"}')
        peer.send(BINARY, b'[1, "\xc3', fin=False)
        peer.send(CONTINUE, b'\xbc"]')
        peer.send(BINARY, b"not json")
        world.eventually(lambda: len(got) == 3)
        assert [event.json() for event in got[:2]] == [{"a": "ü"}, [1, "ü"]]
        assert [event.binary for event in got] == [False, True, True]
        assert {event.target for event in got} == {ws}
        with pytest.raises(ValueError):
            got[2].json()


def test_binary_type_may_be_switched_inside_a_listener() -> None:
    kinds = ["bytearray", "memoryview", "fragments", "bytes"]
    with connected() as (ws, peer):
        got: list[Any] = []

        @ws.on("message")
        def switch(event: Any) -> None:
            got.append(type(event.data))
            ws.binaryType = kinds[(len(got) - 1) % 4]

        for _ in range(5):
            peer.send(BINARY, b"a")
        world.eventually(lambda: len(got) == 5)
        assert got == [bytes, bytearray, memoryview, list, bytes]
