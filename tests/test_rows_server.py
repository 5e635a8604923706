"""What people who come from other libraries rely on in a server; docs/coming-from.md has the table.

Each test is one row that no other file holds: attaching to an HTTP server, connections from elsewhere, the handshake's
order, what `clients` and the events are when.
"""

from __future__ import annotations

import socket as _native
from typing import Any

import pytest
import world
from httpd import http_server
from peer import TEXT, Peer, frame
from raw import FIELDS, ask, connection, head, parse, read_to_end
from world import PATIENCE, Event, Server, Socket, echo, eventually, serving, spawn, url_of

import syncws
from syncws import Request, Response

on_http_server = world.threads_only  # http.server has threads of the system


# -- server=: an HTTP server that is there already ----------------------------------------------------------------


def page(server: Any, path: str = "/") -> bytes:
    """What the HTTP server answers to a plain GET."""
    with connection(server) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return read_to_end(sock).rpartition(b"\r\n\r\n")[2]


@on_http_server
def test_an_http_server_keeps_its_pages_and_gives_away_its_upgrades() -> None:
    with http_server() as pages, Server(echo, server=pages) as server:
        assert server.address() == pages.server_address
        assert page(pages) == b"page /"
        with Socket(url_of(pages)) as ws:
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"
            assert len(server.clients) == 1
        assert page(pages) == b"page /"


@on_http_server
def test_closing_leaves_the_http_server_running_and_without_us() -> None:
    with http_server() as pages:
        before = pages.RequestHandlerClass
        with Server(echo, server=pages) as server, Socket(url_of(pages)) as ws:
            server.close(1001, "bye")
            assert ws.wait_closed(PATIENCE)
            assert (ws.close_code, ws.close_reason) == (1001, "bye")
        assert page(pages) == b"page /"
        assert pages.RequestHandlerClass is before
        with pytest.raises(syncws.HandshakeError) as caught:
            Socket(url_of(pages))
        assert caught.value.status == 200


@on_http_server
def test_two_paths_share_one_http_server_and_other_paths_are_its_own() -> None:
    def shout(ws: Any, request: Any) -> None:
        for message in ws:
            ws.send(message.upper())

    with http_server() as pages, Server(echo, server=pages, path="/echo") as quiet, Server(
        shout, server=pages, path="/shout"
    ) as loud:
        for path, answer in (("/echo", "a"), ("/shout?loud", "A")):
            with Socket(url_of(pages, path)) as ws:
                ws.send("a")
                assert ws.recv(PATIENCE) == answer
                assert (len(quiet.clients), len(loud.clients)) == ((1, 0) if answer == "a" else (0, 1))
        # Not ours, so not refused by us: the HTTP server makes of it what it likes.
        with pytest.raises(syncws.HandshakeError) as caught:
            Socket(url_of(pages, "/else"))
        assert caught.value.status == 200
        loud.close()
        with Socket(url_of(pages, "/echo")) as ws:
            ws.send("still here")
            assert ws.recv(PATIENCE) == "still here"


@on_http_server
@pytest.mark.parametrize("path", [None, "/chat"])
def test_two_servers_on_one_http_server_need_different_paths(path: str | None) -> None:
    with http_server() as pages, Server(echo, server=pages, path=path):
        with pytest.raises(ValueError, match="another"):
            Server(echo, server=pages, path=path)
        assert page(pages) == b"page /"
    # Once the first is gone its path is free.
    with http_server() as pages:
        Server(echo, server=pages, path=path).close()
        Server(echo, server=pages, path=path).close()


@on_http_server
def test_servers_that_decide_for_themselves_may_share_a_path() -> None:
    class Hall(Server):
        def should_handle(self, request: Any) -> bool:
            return "hall" in request.query

    with http_server() as pages, Hall(echo, server=pages) as hall, Server(echo, server=pages) as rest:
        with Socket(url_of(pages, "/?hall=1")):
            assert (len(hall.clients), len(rest.clients)) == (1, 0)
        with Socket(url_of(pages)):
            assert len(rest.clients) == 1


@on_http_server
def test_frames_that_came_with_the_request_are_the_first_messages() -> None:
    early = frame(TEXT, b"early", mask=bytes(4))
    with http_server() as pages, Server(echo, server=pages), Peer.connect(pages, extra=early) as peer:
        assert peer.read().payload == b"early"
        peer.send(8, b"\x03\xe8")
        peer.expect_close(1000, answer=False)


@pytest.mark.parametrize("what", [object(), "http://127.0.0.1/", 8765])
def test_what_is_no_http_server_is_a_type_error(what: Any) -> None:
    with pytest.raises(TypeError, match="server must be"):
        Server(echo, server=what)


# -- no_server and handle_upgrade ---------------------------------------------------------------------------------


def fields(**further: str) -> Request:
    return Request("GET", "/a?b=c", {**FIELDS, **further})


def test_without_a_server_of_its_own_it_has_no_address() -> None:
    with Server(echo, no_server=True) as server, pytest.raises(RuntimeError, match="no_server"):
        server.address()


def test_handle_upgrade_serves_a_socket_of_any_kind_with_the_bytes_already_read() -> None:
    ours, theirs = world.pair_of_sockets()
    seen: list[Any] = []
    with Server(echo, no_server=True) as server, theirs:
        server.on("connection", lambda ws, request: seen.append((ws in server.clients, request.path)))
        data = frame(TEXT, b"early", mask=bytes(4))
        serving_it = spawn(server.handle_upgrade, fields(), ours, data[:3])
        theirs.sendall(data[3:])
        peer = Peer(theirs, client=True)
        assert peer.read_head().startswith(b"HTTP/1.1 101 ")
        assert peer.read().payload == b"early"
        assert seen == [(True, "/a")]
        peer.send(8, b"\x03\xe8")
        peer.expect_close(1000, answer=False)
        peer.expect_end()
        theirs.close()
        assert serving_it.result().status == 101


def test_handle_upgrade_may_be_given_who_accepts() -> None:
    ours, theirs = world.pair_of_sockets()
    with Server({"/elsewhere": echo}, no_server=True) as server, theirs:
        serving_it = spawn(server.handle_upgrade, fields(), ours, b"", lambda ws, request: ws.send(request.target))
        peer = Peer(theirs, client=True)
        peer.read_head()
        assert peer.read().payload == b"/a?b=c"
        peer.end()
        assert serving_it.result().status == 101


def test_handle_upgrade_refuses_as_a_server_would() -> None:
    ours, theirs = world.pair_of_sockets()
    with Server(echo, no_server=True, verify_client=lambda info: False) as server, theirs:
        serving_it = spawn(server.handle_upgrade, fields(), ours)
        assert parse(read_to_end(theirs)).status == 401
        theirs.close()
        assert serving_it.result().status == 401


def test_handle_upgrade_twice_for_one_socket_is_an_error() -> None:
    ours, theirs = world.pair_of_sockets()
    with Server(echo, no_server=True) as server, theirs:
        serving_it = spawn(server.handle_upgrade, fields(), ours)
        peer = Peer(theirs, client=True)
        peer.read_head()
        with pytest.raises(ValueError, match="socket"):
            server.handle_upgrade(fields(), ours)
        peer.send(TEXT, b"undisturbed")
        assert peer.read().payload == b"undisturbed"
        peer.end()
        serving_it.result()
        with pytest.raises(ValueError, match="socket"):
            server.handle_upgrade(fields(), ours)


def test_a_closing_server_answers_handle_upgrade_503() -> None:
    ours, theirs = world.pair_of_sockets()
    with theirs, Server(echo, no_server=True) as server:
        server.close()
        answering = spawn(server.handle_upgrade, fields(), ours)
        assert parse(read_to_end(theirs)).status == 503
        theirs.close()
        assert answering.result().status == 503


# -- the handshake ------------------------------------------------------------------------------------------------

FAULTS: list[tuple[str, str | None, int, str]] = [
    ("Upgrade", None, 426, "an upgrade is required"),
    ("method", "POST", 405, "GET"),
    ("Upgrade", "h2c", 400, "Upgrade"),
    ("Connection", "close", 400, "Connection"),
    ("Sec-WebSocket-Version", "12", 400, "Sec-WebSocket-Version"),
    ("Sec-WebSocket-Key", "abc", 400, "Sec-WebSocket-Key"),
    ("path", "/elsewhere", 400, "path"),
    ("Origin", "http://evil.example", 403, "origin"),
    ("Sec-WebSocket-Protocol", "a, a", 400, "Sec-WebSocket-Protocol"),
    ("verify", None, 401, "authorized"),
]


@pytest.mark.parametrize("first", range(len(FAULTS)), ids=[f"{name} {value}" for name, value, _, _ in FAULTS])
def test_of_several_faults_the_first_is_named(first: int) -> None:
    request: dict[str, str | None] = dict(FIELDS)
    # The later fault of one header does not undo the earlier one.
    for name, value, _, _ in reversed(FAULTS[first:]):
        request[name] = value
    method, path = request.pop("method", "GET"), request.pop("path", "/")
    refuses = "verify" in request
    request.pop("verify", None)
    lines = [f"{name}: {value}" for name, value in request.items() if value is not None]
    data = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()
    with serving(path="/", verify_client=lambda info: not refuses) as server:
        answer = ask(server, data)
    assert answer.status == FAULTS[first][2]
    assert FAULTS[first][3].encode() in answer.body


@pytest.mark.parametrize("leaves", ["end", "reset"])
def test_who_has_left_while_it_was_verified_is_no_connection(leaves: str) -> None:
    asked, gone = Event(), Event()
    seen: list[Any] = []

    def verify(info: Any) -> bool:
        asked.set()
        return gone.wait(PATIENCE)

    with serving(verify_client=verify) as server:
        server.on("connection", lambda ws, request: seen.append(ws))
        server.on("client_error", lambda *what: seen.append(what))
        with connection(server) as sock:
            sock.sendall(head())
            assert asked.wait(PATIENCE)
            if leaves == "reset":
                Peer(sock, client=True).reset()
                gone.set()
            else:
                sock.shutdown(_native.SHUT_WR)
                gone.set()
                # Dropped: there is no 101, nor anything else.
                assert read_to_end(sock) == b""
        eventually(lambda: server._arrivals.unfinished == 0)
    assert seen == []


def test_who_sends_its_last_frames_with_the_request_is_served() -> None:
    with serving() as server, connection(server) as sock:
        frames = frame(TEXT, b"all I say", mask=bytes(4)) + frame(8, b"\x03\xe8", mask=bytes(4))
        sock.sendall(head() + frames)
        sock.shutdown(_native.SHUT_WR)
        peer = Peer(sock, client=True)
        assert peer.read_head().startswith(b"HTTP/1.1 101 ")
        assert peer.read().payload == b"all I say"
        peer.expect_close(1000, answer=False)


def test_headers_are_told_with_all_that_was_agreed_on() -> None:
    seen: list[dict[str, str]] = []
    with serving(protocols=["a"], compression=True) as server:
        server.on("headers", lambda headers, request: seen.append(dict(headers)))
        with Socket(url_of(server), ["b", "a"]):
            (told,) = seen
    assert list(told)[:3] == ["Upgrade", "Connection", "Sec-WebSocket-Accept"]
    assert told["Sec-WebSocket-Protocol"] == "a"
    assert told["Sec-WebSocket-Extensions"].startswith("permessage-deflate")


def test_select_subprotocol_is_asked_only_if_any_was_offered() -> None:
    asked: list[Any] = []

    def select(offered: list[str], request: Any) -> str | None:
        asked.append((offered, request.path))
        return offered[-1]

    with serving(select_subprotocol=select) as server:
        with Socket(url_of(server)) as ws:
            assert ws.protocol == ""
        with Socket(url_of(server, "/x"), ["a", "b"]) as ws:
            assert ws.protocol == "b"
    assert asked == [(["a", "b"], "/x")]


def test_small_frames_of_a_server_do_not_wait_either() -> None:
    sockets: list[Any] = []
    with serving(lambda ws, request: sockets.append(ws)) as server, Socket(url_of(server)):
        eventually(lambda: sockets)
        sock = sockets[0]._transport.sock
        assert sock.getsockopt(_native.IPPROTO_TCP, _native.TCP_NODELAY)


# -- clients and events -------------------------------------------------------------------------------------------


def test_a_client_is_listed_before_connection_and_gone_before_the_close_listeners() -> None:
    seen: list[Any] = []
    over = Event()

    def connected(ws: Any, request: Any) -> None:
        def left(event: Any) -> None:
            seen.append(len(server.clients))
            over.set()

        seen.append(ws in server.clients)
        ws.addEventListener("close", left)

    with serving(None) as server:
        server.on("connection", connected)
        with Socket(url_of(server)):
            pass
        assert over.wait(PATIENCE)
    assert seen == [True, 0]


def test_the_request_of_the_handshake_stays_with_the_socket() -> None:
    def accept(ws: Any, request: Any) -> None:
        ws.send(f"{ws.request is request} {ws.request.headers['X-Mine']} {ws.url!r} {ws.protocol!r}")

    with serving(accept) as server, Socket(url_of(server), headers={"X-Mine": "m"}) as ws:
        assert ws.recv(PATIENCE) == "True m '' ''"


def test_the_address_of_a_unix_server_is_its_path_and_none_once_closed(tmp_path: Any) -> None:
    path = str(tmp_path / "s")
    with Server(echo, unix=path) as server:
        assert server.address() == path
    assert server.address() is None


def test_a_backlog_is_the_systems() -> None:
    with serving(backlog=3) as server, Socket(url_of(server)) as ws:
        ws.send("a")
        assert ws.recv(PATIENCE) == "a"
    for bad in ("many", 1.5):
        with pytest.raises(TypeError):
            Server(echo, port=0, backlog=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [Response(403, {"X-Why": "because"}, b"no"), False])
def test_a_refusal_has_the_length_of_its_body_and_ends_the_connection(answer: Any) -> None:
    with serving(verify_client=lambda info: answer) as server:
        got = ask(server, head())
    assert got.headers["content-length"] == str(len(got.body))
    assert got.headers["connection"] == "close"
