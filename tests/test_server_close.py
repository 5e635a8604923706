"""The end of a server: its clients closed, terminated or left; deadlines; signals."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
import world
from peer import BINARY, CLOSE, TEXT, Peer
from raw import connection, head, is_served, parse, read_to_end
from world import Event, Server, echo, serving

GENEROUS = 3.0  # seconds on a machine with much else to do, where the design asks for half a second


def connected(server: Any, count: int = 1) -> list[Peer]:
    """Raw clients, open on both sides."""
    before = len(server.clients)
    peers = [Peer.connect(server) for _ in range(count)]
    world.eventually(lambda: len(server.clients) == before + count)
    return peers


def is_refused(address: Any) -> bool:
    try:
        world.raw_connection(address).close()
    except ConnectionError:
        return True
    return False


# -- the three ways ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ((), 1001, b""),
        ((1012, "back soon"), 1012, b"back soon"),
        ((None,), None, b""),
        ((4999, "é"), 4999, b"\xc3\xa9"),
    ],
)
def test_clients_are_closed_with_the_code_and_waited_for(arguments: Any, code: int | None, reason: bytes) -> None:
    with serving() as server:
        address = server.address()
        (peer,) = connected(server)
        closing = world.spawn(server.close, *arguments)
        got = peer.expect_close(code, answer=False)
        assert got.payload[2:] == reason
        assert is_refused(address)
        assert not closing.done
        peer.send(CLOSE, got.payload)
        peer.expect_end()
        peer.close()
        closing.result()
        assert server.clients == set()
        assert server.address() is None


def test_five_hundred_clients_are_all_told() -> None:
    with serving() as server:
        peers = connected(server, 500)
        start = time.monotonic()
        closing = world.spawn(server.close)
        for peer in peers:
            peer.expect_close(1001)
            peer.close()
        closing.result(30)
        assert time.monotonic() - start < 10


def test_replies_in_flight_are_not_lost_by_closing() -> None:
    with serving() as server:
        peers = connected(server, 20)
        for peer in peers:
            peer.send(BINARY, b"x" * 100000)
            assert len(peer.read().payload) == 100000
        closing = world.spawn(server.close)
        for peer in peers:
            peer.expect_close(1001)
            peer.close()
        closing.result()


def test_terminated_clients_get_no_close_and_1006() -> None:
    codes: list[int] = []

    def accept(ws: Any, request: Any) -> None:
        ws.on("close", lambda event: codes.append(event.code))

    with serving(accept) as server:
        peers = connected(server, 3)
        server.close(clients="terminate")
        assert server.clients == set()
        assert codes == [1006] * 3
        for peer in peers:
            peer.expect_end()
            peer.close()


def test_left_clients_go_on() -> None:
    with serving() as server:
        address = server.address()
        (peer,) = connected(server)
        server.close(clients="leave")
        assert is_refused(address)
        assert len(server.clients) == 1
        peer.send(TEXT, b"still there?")
        assert peer.read().payload == b"still there?"
        closing = world.spawn(server.close)  # changed our mind
        peer.expect_close(1001)
        peer.close()
        closing.result()


# -- deadlines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "timeout", "expected"),
    [({}, 0.3, 0.3), ({"close_timeout": 0.3}, None, 0.3), ({}, 0, 0), ({"close_timeout": 0.3}, 5, 0.3)],
)
def test_clients_that_do_not_answer_are_dropped_in_time(options: Any, timeout: float | None, expected: float) -> None:
    with serving(**options) as server:
        peers = connected(server, 10)
        start = time.monotonic()
        server.close(timeout=timeout)
        assert expected <= time.monotonic() - start < expected + GENEROUS
        world.eventually(lambda: server.clients == set())
        for peer in peers:
            assert peer.read_all()[-1:] in ([], [peer_close(1001)])
            peer.close()


def peer_close(code: int) -> Any:
    from peer import Frame

    return Frame(True, 0, CLOSE, False, code.to_bytes(2, "big"))


def test_clients_that_drip_do_not_hold_the_close_up() -> None:
    with serving(close_timeout=0.5) as server:
        (peer,) = connected(server)
        stop = Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.05):
                    peer.send(TEXT, b"drop")

        dripping = world.spawn(drip)
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 0.5 + GENEROUS
        stop.set()
        dripping.result()
        peer.close()


def test_a_handler_blocked_in_send_does_not_hold_the_close_up() -> None:
    blocked = Event()

    def accept(ws: Any, request: Any) -> None:
        blocked.set()
        while True:
            ws.send(b"x" * (1 << 20))

    with serving(accept, close_timeout=0.5) as server:
        (peer,) = connected(server)
        assert blocked.wait(world.PATIENCE)
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 0.5 + GENEROUS
        peer.close()


def test_a_handler_busy_elsewhere_does_not_hold_the_close_up() -> None:
    release = Event()
    with serving(lambda ws, request: release.wait(30)) as server:
        (peer,) = connected(server)
        closing = world.spawn(server.close)
        peer.expect_close(1001)
        peer.close()
        closing.result(GENEROUS)
        release.set()


def test_back_off_of_the_accept_loop_does_not_hold_the_close_up(caplog: Any) -> None:
    from test_listen import sabotage

    caplog.expected_errors = 1
    with serving() as server:
        sabotaged = sabotage(server, *[24] * 1000)
        connection(server).close()
        world.eventually(lambda: sabotaged.calls >= 3)
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 1 + GENEROUS


# -- rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "options"),
    [
        (ValueError, (1005,), {}),
        (ValueError, (999,), {}),
        (ValueError, (1000, "x" * 124), {}),
        (ValueError, (), {"clients": "kill"}),
        (ValueError, (), {"timeout": -1}),
        (TypeError, ("1000",), {}),
        (TypeError, (), {"timeout": "1"}),
        (TypeError, (1000, "bye", "close"), {}),
    ],
)
def test_bad_arguments_of_close_change_nothing(kind: type[Exception], arguments: Any, options: Any) -> None:
    with serving() as server:
        with pytest.raises(kind):
            server.close(*arguments, **options)
        assert is_served(server)


def test_close_again_does_nothing() -> None:
    told: list[str] = []
    with serving() as server:
        server.on("close", lambda: told.append("close"))
        for _ in range(3):
            server.close()
    assert told == ["close"]
    assert repr(server).startswith("<Server closed")


def test_close_from_many_threads_is_one_close() -> None:
    told: list[str] = []
    with serving() as server:
        server.on("close", lambda: told.append("close"))
        (peer,) = connected(server)
        closings = [world.spawn(server.close) for _ in range(8)]
        frames = [peer.expect_close(1001), *peer.read_all()]
        peer.close()
        for closing in closings:
            closing.result()
    assert len(frames) == 1
    assert told == ["close"]


def test_a_server_that_never_started_can_be_closed() -> None:
    server = Server(echo, host="127.0.0.1", port=0)
    address = server.address()
    server.close()
    assert is_refused(address)
    assert server.address() is None


def test_the_close_event_comes_when_all_is_over() -> None:
    seen: list[Any] = []
    with serving() as server:
        server.on("close", lambda: seen.append((server.address(), server.clients)))
        (peer,) = connected(server)
        closing = world.spawn(server.close)
        peer.expect_close(1001, answer=False)
        assert seen == []
        peer.send(CLOSE, b"\x03\xe9")
        peer.close()
        closing.result()
    assert seen == [(None, set())]


@pytest.mark.parametrize("where", ["accept", "message", "connection", "close of the socket", "close", "listening"])
def test_close_may_be_called_from_anywhere(where: str) -> None:
    server: Any = None
    closed = Event()

    def close(*_: object) -> None:
        server.close(timeout=5)
        closed.set()

    def accept(ws: Any, request: Any) -> None:
        if where == "accept":
            close()
        elif where == "close of the socket":
            ws.on("close", close)
        elif where == "message":
            ws.on("message", close)

    server = Server(accept, host="127.0.0.1", port=0)
    if where in ("connection", "close", "listening"):
        server.on(where, close)
    address = server.address()
    server.start()
    if where in ("accept", "message", "connection", "close of the socket"):
        with world.raw_connection(address) as sock:
            sock.sendall(head())
            peer = Peer(sock, client=True)
            assert b" 101 " in peer.read_head()
            if where == "close of the socket":
                peer.send(CLOSE)
            peer.send(TEXT, b"go")
            peer.expect_close(None if where == "close of the socket" else 1001)
    elif where == "close":
        world.spawn(server.close).result()
    assert closed.wait(world.PATIENCE)
    assert is_refused(address)
    server.close()


def test_close_may_be_called_when_the_accept_loop_reports_an_error(caplog: Any) -> None:
    from test_listen import sabotage

    caplog.expected_errors = 1
    closed = Event()
    with serving() as server:
        server.on("error", lambda error: (server.close(), closed.set()))
        sabotage(server, 24)
        with contextlib.suppress(ConnectionError):  # it may be gone before we have arrived
            connection(server).close()
        assert closed.wait(world.PATIENCE)
        assert server.address() is None


def test_a_handshake_under_way_is_answered_503() -> None:
    with serving() as server:
        sock = connection(server)
        data = head()
        sock.sendall(data[:-1])
        world.eventually(lambda: server._arrivals.unfinished == 1)
        server.close()
        sock.sendall(data[-1:])
        answer = parse(read_to_end(sock))
        assert (answer.status, answer.body) == (503, b"the server is closing\n")
        sock.close()


def test_an_exception_in_the_with_block_closes_too() -> None:
    with pytest.raises(ZeroDivisionError), serving() as server:
        (peer,) = connected(server)
        answering = world.spawn(lambda: (peer.expect_close(1001), peer.close()))
        raise ZeroDivisionError
    answering.result()
    assert server.address() is None


def test_serve_forever_returns_when_another_closes() -> None:
    server = Server(echo, host="127.0.0.1", port=0)
    serving_forever = world.spawn(server.serve_forever)
    assert is_served(server)
    server.close()
    serving_forever.result()
    with pytest.raises(RuntimeError, match="closed"):
        server.serve_forever()
