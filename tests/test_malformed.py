"""Malformed frames: each ends one connection, with the Close code it deserves, `error`, and then `close` 1006."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import world
from malformed import CANARY, CASES, OPTIONS, Case, wire
from peer import TEXT, Peer
from raw import is_served
from world import Server, Socket

from syncws import ConnectionClosed

EXTENSION = "Sec-WebSocket-Extensions: permessage-deflate"
HELLO = b"\x81\x05hello"
MASKED_HELLO = b"\x81\x85\0\0\0\0hello"

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture(autouse=True)
def discreet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever comes, the log stays short and printable, and quotes no payload."""
    with caplog.at_level(logging.DEBUG):
        yield
    assert_discreet(caplog)


def assert_discreet(caplog: pytest.LogCaptureFixture, canary: bytes = CANARY) -> None:
    form = logging.Formatter("%(levelname)s %(message)s")
    for record in caplog.get_records("call"):
        if record.name != "syncws":
            continue
        for line in form.format(record).split("\n"):
            assert len(line.encode()) <= 512, line
            assert line.isprintable(), line
            assert canary.decode() not in line, line


class Witness:
    """What the events of a socket said, and in which order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.ended = world.Event()

    def listen(self, ws: Any) -> None:
        ws.onmessage = lambda event: self.told.append(event.data)
        ws.onerror = lambda event: self.told.append(event.error)
        ws.onclose = self.close

    def close(self, event: Any) -> None:
        self.told.append((event.code, event.reason, event.wasClean))
        self.ended.set()

    def expect(self, case: Case, *before: Any) -> None:
        assert self.ended.wait(world.PATIENCE)
        *messages, error, close = self.told
        assert [message for message in messages if message != "ab"] == [*before]
        assert type(error) is case.kind
        assert str(error).isprintable()
        assert len(str(error)) < 200
        assert CANARY.decode() not in str(error)
        assert close == (1006, "", False)


def expect_failed(peer: Peer, case: Case) -> None:
    """The peer is told the code, with no reason, once; then the connection ends."""
    got = peer.expect_close(case.code, answer=False)
    assert got.payload[2:] == b""
    peer.expect_end()
    peer.close()


@pytest.fixture(scope="module")
def witnessed() -> Iterator[Any]:
    """A server that stays for all cases: `/listen` reports to a witness, anything else echoes."""
    witnesses: list[Witness] = []

    def accept(ws: Any, request: Any) -> None:
        if request.path == "/listen":
            witness = Witness()
            witnesses.append(witness)
            witness.listen(ws)
        elif request.path == "/recv":
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    ws.send(ws.recv())
            ws.request.environ = caught.value
        else:
            world.echo(ws, request)

    with Server(accept, host="127.0.0.1", port=0, **OPTIONS) as server:
        yield server, witnesses


@each_case
def test_a_server_with_listeners(witnessed: Any, case: Case) -> None:
    server, witnesses = witnessed
    with Peer.connect(server, "/listen", EXTENSION) as peer:
        peer.send_raw(MASKED_HELLO + wire(case, masked=True))
        expect_failed(peer, case)
    witnesses.pop().expect(case, "hello")
    assert is_served(server)


@each_case
def test_a_server_that_reads_by_hand(witnessed: Any, case: Case) -> None:
    server, _ = witnessed
    with Peer.connect(server, "/recv", EXTENSION) as peer:
        peer.send(TEXT, b"hello")
        assert peer.read().payload == b"hello"
        (ws,) = [ws for ws in server.clients if ws.remote_address == peer.sock.getsockname()]
        # The message before the fault is still echoed.
        peer.send_raw(MASKED_HELLO + wire(case, masked=True))
        while (got := peer.read()).opcode != 8:
            assert got.payload in (b"hello", b"ab")
        assert got.payload == case.code.to_bytes(2, "big")
        peer.expect_end()
    world.eventually(lambda: ws.request.environ is not None)
    closed = ws.request.environ
    assert (closed.code, closed.reason, closed.wasClean) == (1006, "", False)
    assert type(closed.__cause__) is case.kind
    assert (ws.close_code, ws.close_reason) == (1006, "")


@each_case
def test_a_client_with_listeners(case: Case) -> None:
    witness = Witness()
    with world.raw_listener() as listener:
        serving = world.spawn(Peer.accept, listener, EXTENSION, extra=HELLO + wire(case, masked=False))
        ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", **OPTIONS)
        witness.listen(ws)
        with serving.result() as peer:
            expect_failed(peer, case)
    witness.expect(case, "hello")
    assert ws.wait_closed(world.PATIENCE)


@each_case
def test_a_client_that_reads_by_hand(case: Case) -> None:
    with world.raw_listener() as listener:
        serving = world.spawn(Peer.accept, listener, EXTENSION, extra=HELLO + wire(case, masked=False))
        ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", **OPTIONS)
        assert ws.recv(world.PATIENCE) == "hello"
        with pytest.raises(ConnectionClosed) as caught:
            while ws.recv(world.PATIENCE) == "ab":
                pass
        assert (caught.value.code, caught.value.wasClean) == (1006, False)
        assert type(caught.value.__cause__) is case.kind
        with serving.result() as peer:
            expect_failed(peer, case)
    assert ws.wait_closed(world.PATIENCE)


def test_rsv1_without_compression_is_refused_by_both() -> None:
    case = CASES["a zip bomb"]._replace(code=1002)
    with Server(world.echo, host="127.0.0.1", port=0) as server, Peer.connect(server) as peer:
        peer.send_raw(wire(case, masked=True))
        expect_failed(peer, case)
    with world.raw_listener() as listener:
        serving = world.spawn(Peer.accept, listener, extra=wire(case, masked=False))
        ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        with serving.result() as peer:
            expect_failed(peer, case)
    assert ws.wait_closed(world.PATIENCE)


@pytest.mark.parametrize("name", ["opcode 3", "a header of much too much", "corrupt deflate data"])
def test_a_violation_in_the_segment_of_the_handshake(witnessed: Any, name: str) -> None:
    server, witnesses = witnessed
    case = CASES[name]
    with Peer.connect(server, "/listen", EXTENSION, extra=wire(case, masked=True)) as peer:
        expect_failed(peer, case)
    witnesses.pop().expect(case)


@pytest.mark.parametrize("name", ["opcode 3", "text with a surrogate", "one byte more than allowed"])
def test_a_violation_byte_by_byte(witnessed: Any, name: str) -> None:
    server, witnesses = witnessed
    case = CASES[name]
    with Peer.connect(server, "/listen", EXTENSION) as peer:
        peer.sock.setsockopt(6, 1, 1)
        for byte in wire(case, masked=True):
            try:
                peer.send_raw(bytes([byte]))
            except ConnectionError:
                break  # refused before it was complete
        expect_failed(peer, case)
    witnesses.pop().expect(case)


def test_nothing_is_heard_behind_a_violation(witnessed: Any) -> None:
    server, witnesses = witnessed
    case = CASES["opcode 3"]
    with Peer.connect(server, "/listen") as peer:
        peer.send_raw(wire(case, masked=True) + MASKED_HELLO + b"\x89\x80\0\0\0\0")
        expect_failed(peer, case)
    witnesses.pop().expect(case)


def test_without_a_limit_big_messages_are_no_violation() -> None:
    with Server(world.echo, host="127.0.0.1", port=0, max_payload=0, max_fragments=0) as server:
        for name in ("opcode 3", "text with a surrogate", "a length of all ones", "a length of 5 in 64 bits"):
            with Peer.connect(server) as peer:
                peer.send_raw(wire(CASES[name], masked=True))
                expect_failed(peer, CASES[name])
        assert is_served(server, b"x" * 200_000)


def test_exactly_the_limit_is_no_violation(witnessed: Any) -> None:
    server, _ = witnessed
    from malformed import MAX_FRAGMENTS, MAX_PAYLOAD, deflated

    with Peer.connect(server, "/", EXTENSION) as peer:
        peer.send(TEXT, b"x" * MAX_PAYLOAD)
        peer.send(TEXT, deflated(b"x" * MAX_PAYLOAD), rsv=4)
        for index in range(MAX_FRAGMENTS):
            peer.send(TEXT if index == 0 else 0, b"x", fin=index == MAX_FRAGMENTS - 1)
        for _ in range(3):
            assert peer.read().opcode == TEXT
