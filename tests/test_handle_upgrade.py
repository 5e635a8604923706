"""`handle_upgrade`: connections that somebody else accepted, and whose request somebody else read."""

from __future__ import annotations

import contextlib
import logging
import socket as _native
import ssl
from pathlib import Path
from typing import Any

import pytest
import world
from peer import CLOSE, TEXT, Peer, frame
from raw import KEY, head, parse, read_to_end
from secure import Wire
from world import Server, echo

from syncws import Request, Response, Socket

EARLY = frame(TEXT, b"early", mask=b"\0\0\0\0")


def request(target: str = "/", method: str = "GET", **replaced: str | None) -> Request:
    """A request that fits, as somebody has read it."""
    fields = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    replaced = {name.replace("_", "-"): value for name, value in replaced.items()}
    return Request(method, target, {name: value for name, value in {**fields, **replaced}.items() if value is not None})


@contextlib.contextmanager
def fed(accept: Any = echo, **options: Any) -> Any:
    with Server(accept, no_server=True, **options) as server:
        yield server


@contextlib.contextmanager
def handed_over(server: Any, asked: Any = None, head: bytes = b"", *further: Any) -> Any:
    """A client whose connection `server` has been given, and the task that serves it."""
    ours, theirs = world.pair_of_sockets()
    theirs.settimeout(world.PATIENCE)
    with theirs:
        yield Peer(theirs, client=True), world.spawn(server.handle_upgrade, asked or request(), ours, head, *further)


def say_goodbye(peer: Peer) -> None:
    peer.send(CLOSE)
    assert peer.read().opcode == CLOSE
    peer.expect_end()
    peer.close()


def test_it_serves_to_the_end_and_says_what_was_answered() -> None:
    with fed() as server, handed_over(server) as (peer, serving):
        assert peer.read_head().startswith(b"HTTP/1.1 101")
        world.eventually(lambda: len(server.clients) == 1)
        peer.send(TEXT, b"hello")
        assert peer.read().payload == b"hello"
        assert not serving.done
        say_goodbye(peer)
        assert serving.result().status == 101
        assert server.clients == set()


@pytest.mark.parametrize("cut", [len(EARLY), 1, 2, 7])
def test_bytes_that_were_read_behind_the_request_are_the_first(cut: int) -> None:
    with fed() as server, handed_over(server, None, EARLY[:cut]) as (peer, _):
        peer.read_head()
        peer.send_raw(EARLY[cut:])
        assert peer.read().payload == b"early"
        say_goodbye(peer)


@pytest.mark.parametrize(
    ("options", "asked", "status"),
    [
        ({}, request(Upgrade=None), 426),
        ({}, request(method="POST"), 405),
        ({}, request(Sec_WebSocket_Key="short"), 400),
        ({}, request(Origin="http://evil.example"), 403),
        ({"path": "/chat"}, request("/other"), 400),
        ({"verify_client": lambda info: False}, request(), 401),
        ({"verify_client": lambda info: Response(418)}, request(), 418),
        ({"max_connections": 0}, request(), 503),
    ],
)
def test_who_is_not_let_in_gets_the_status_and_the_end(options: Any, asked: Request, status: int) -> None:
    told: list[Any] = []
    with fed(**options) as server:
        server.on("client_error", lambda error, sock, request: told.append((error.status, request)))
        with handed_over(server, asked) as (peer, serving):
            assert parse(read_to_end(peer.sock)).status == status
            peer.close()
            assert serving.result().status == status
        assert told == [(status, asked)]


def test_a_mapping_of_paths_is_looked_at() -> None:
    with fed({"/a": echo}) as server:
        with handed_over(server, request("/b")) as (peer, serving):
            assert parse(read_to_end(peer.sock)).status == 404
        with handed_over(server, request("/a?x")) as (peer, serving):
            assert peer.read_head().startswith(b"HTTP/1.1 101")
            say_goodbye(peer)
            assert serving.result().status == 101


def test_accept_may_be_given_with_the_connection() -> None:
    def shout(ws: Any, request: Any) -> None:
        ws.send("LOUD")

    with fed({"/a": echo}) as server, handed_over(server, request("/b"), b"", shout) as (peer, _):
        peer.read_head()
        assert peer.read().payload == b"LOUD"
        say_goodbye(peer)


def test_after_close_it_is_503() -> None:
    server = Server(echo, no_server=True).start()
    server.close()
    with handed_over(server) as (peer, serving):
        assert parse(read_to_end(peer.sock)).status == 503
        peer.close()
        assert serving.result().status == 503


def test_close_says_1001_and_tells_it_once() -> None:
    told: list[str] = []
    with fed() as server, handed_over(server) as (peer, serving):
        server.on("close", lambda: told.append("close"))
        peer.read_head()
        closing = world.spawn(server.close)
        peer.expect_close(1001)
        peer.expect_end()
        peer.close()
        closing.result()
        assert serving.result().status == 101
    assert told == ["close"]


def test_it_has_no_address() -> None:
    with fed() as server:
        with pytest.raises(RuntimeError, match="no address"):
            server.address()
        assert repr(server) == f"<{type(server).__name__} at>"


def test_events_come_in_order() -> None:
    told: list[str] = []
    server = Server(lambda ws, request: told.append("accept"), no_server=True)
    for event in ("listening", "headers", "connection", "close"):
        server.on(event, lambda *_, event=event: told.append(event))
    server.start()
    with handed_over(server) as (peer, serving):
        peer.read_head()
        say_goodbye(peer)
        serving.result()
    server.close()
    assert told == ["listening", "headers", "connection", "accept", "close"]


def test_a_message_to_all_reaches_those_that_were_handed_over() -> None:
    with fed() as server, handed_over(server) as (one, _), handed_over(server) as (other, _):
        for peer in (one, other):
            peer.read_head()
        world.eventually(lambda: len(server.clients) == 2)
        server.broadcast("to all")
        assert one.read().payload == other.read().payload == b"to all"
        say_goodbye(one)
        say_goodbye(other)


def test_a_server_that_listens_takes_others_connections_too() -> None:
    with world.serving() as server, handed_over(server) as (peer, _):
        assert peer.read_head().startswith(b"HTTP/1.1 101")
        say_goodbye(peer)


def test_the_socket_is_closed_also_when_accept_raises(caplog: pytest.LogCaptureFixture) -> None:
    caplog.expected_errors = 1

    def fail(ws: Any, request: Any) -> None:
        raise RuntimeError("a test's")

    ours, theirs = world.pair_of_sockets()
    theirs.settimeout(world.PATIENCE)
    with fed(fail) as server, theirs:
        serving = world.spawn(server.handle_upgrade, request(), ours)
        peer = Peer(theirs, client=True)
        peer.read_head()
        peer.expect_close(1011)
        peer.expect_end()
        peer.close()
        assert serving.result().status == 101
        assert ours.fileno() == -1


def test_a_client_that_has_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "syncws")
    with fed() as server:
        ours, theirs = world.pair_of_sockets()
        theirs.close()
        assert server.handle_upgrade(request(), ours).status == 101
        assert server.clients == set()
    assert "Traceback" not in caplog.text


def test_over_tls(authority: Any, client_tls: ssl.SSLContext) -> None:
    maker = pytest.importorskip("gevent.ssl") if world.MODE == "gevent" else ssl
    context = maker.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ours, theirs = world.pair_of_sockets()
    theirs.settimeout(world.PATIENCE)

    def serve(server: Any) -> Any:
        sock = context.wrap_socket(ours, server_side=True)
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        return server.handle_upgrade(request(), sock, data.partition(b"\r\n\r\n")[2])

    with fed() as server, theirs:
        serving = world.spawn(serve, server)
        wire = Wire(theirs, client_tls, server_side=False, host="127.0.0.1").handshake()
        wire.sendall(head() + EARLY)
        peer = Peer(wire, client=True)
        assert peer.read_head().startswith(b"HTTP/1.1 101")
        assert peer.read().payload == b"early"
        peer.send(TEXT, b"x" * 100_000)
        assert peer.read().payload == b"x" * 100_000
        say_goodbye(peer)
        wire.close()
        assert serving.result().status == 101


def read_request(sock: Any) -> tuple[Request, bytes]:
    """What an accept loop of a user's does: the head, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    start, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = start.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    return Request(method, target, [tuple(line.split(": ", 1)) for line in lines]), rest


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_from_an_accept_loop_of_ones_own(family: str, tmp_path: Path) -> None:
    def accept_forever(server: Any, listener: Any) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            asked, rest = read_request(sock)
            world.spawn(server.handle_upgrade, asked, sock, rest)

    path = str(tmp_path / "socket")
    listener = world.raw_listener() if family == "tcp" else world.socket.socket(_native.AF_UNIX)
    if family == "unix":
        listener.bind(path)
        listener.listen(5)
    with fed() as server, listener:
        accepting = world.spawn(accept_forever, server, listener)
        url = f"ws+unix:{path}:/" if family == "unix" else f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        for _ in range(2):
            with world.Socket(url) as ws:
                ws.send("hello")
                assert ws.recv(world.PATIENCE) == "hello"
        with contextlib.suppress(OSError):
            listener.shutdown(_native.SHUT_RDWR)
    accepting.result()


@pytest.mark.parametrize(
    "arguments",
    [
        ("GET / HTTP/1.1", "sock", b""),
        (request(), "no socket", b""),
        (request(), "sock", "text"),
        (request(), "sock", b"", "no function"),
    ],
    ids=["request", "sock", "head", "accept"],
)
def test_what_is_of_the_wrong_kind_is_a_type_error_and_touches_nothing(arguments: Any) -> None:
    ours, theirs = world.pair_of_sockets()
    with fed() as server, ours, theirs:
        with pytest.raises(TypeError):
            server.handle_upgrade(*(ours if argument == "sock" else argument for argument in arguments))
        ours.sendall(b"still mine")
        assert theirs.recv(10) == b"still mine"


@pytest.mark.parametrize("further", [{"port": 0}, {"server": object()}, {"host": "::1"}, {"cpu": 0}])
def test_what_would_have_no_effect_is_a_type_error(further: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Server(echo, no_server=True, **further)


def test_listeners_serve_it_after_accept_returned() -> None:
    def accept(ws: Socket, request: Any) -> None:
        ws.onmessage = lambda event: ws.send(event.data * 2)

    with fed(accept) as server, handed_over(server) as (peer, serving):
        peer.read_head()
        peer.send(TEXT, b"ab")
        assert peer.read().payload == b"abab"
        say_goodbye(peer)
        serving.result()
