"""`Server(server=…)`: the WebSocket upgrades of somebody else's HTTP server."""

from __future__ import annotations

import contextlib
import itertools
import ssl
from typing import Any

import pytest
import world
from attached import MAKERS, Host, running
from peer import CLOSE, TEXT, Peer
from raw import ask, connection, head, parse, read_to_end
from world import Server, echo

import syncws
from syncws import HandshakeError, Socket

# Unpatched, a hub's thread must not wait for those that run on threads.
KINDS = ["pywsgi"] if world.MODE == "gevent" else list(MAKERS)
each_kind = pytest.mark.parametrize("kind", KINDS)
one_kind_each = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("wsgiref", "werkzeug")])
unless_in_a_hub = pytest.mark.skipif("cheroot" not in KINDS, reason="about servers on threads")

PAGE = b"GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def name(ws: Any, request: Any) -> None:
    """A handler that says which path it was asked for, and echoes."""
    ws.send(f"welcome to {request.path}")
    echo(ws, request)


@contextlib.contextmanager
def attached(kind: str, accept: Any = echo, **options: Any) -> Any:
    with running(kind) as host, Server(accept, server=host.server, **options) as server:
        yield host, server


def talks(host: Host, target: str = "/") -> bool:
    with world.Socket(host.url(target)) as ws:
        ws.send("hello")
        return bool(ws.recv(world.PATIENCE) == "hello")


def serves_pages(host: Host) -> bool:
    with connection(host) as sock:
        sock.sendall(PAGE)
        return b"page at /page" in read_to_end(sock)


@each_kind
def test_upgrades_are_served_and_all_else_goes_where_it_went(kind: str) -> None:
    with attached(kind) as (host, _):
        assert talks(host)
        assert serves_pages(host)
        assert talks(host, "/any/where?a=b")


@each_kind
def test_other_paths_fall_through_to_the_application(kind: str) -> None:
    with attached(kind, path="/chat") as (host, _):
        assert talks(host, "/chat?room=1")
        with connection(host) as sock:
            sock.sendall(head("Connection: close", first="GET /other HTTP/1.1", Connection=None))
            assert b"page at /other" in read_to_end(sock)


@each_kind
def test_two_share_one_http_server_by_their_paths(kind: str) -> None:
    with running(kind) as host, contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(Server(name, server=host.server, path=path)) for path in ("/foo", "/bar")
        )
        with world.Socket(host.url("/foo")) as foo, world.Socket(host.url("/bar")) as bar:
            assert (foo.recv(world.PATIENCE), bar.recv(world.PATIENCE)) == ("welcome to /foo", "welcome to /bar")
            assert (len(first.clients), len(second.clients)) == (1, 1)
            second.broadcast("to bar")
            assert bar.recv(world.PATIENCE) == "to bar"


@each_kind
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_in_whatever_order_they_come_a_path_is_its_servers(kind: str, order: tuple[int, ...]) -> None:
    def saying(text: str) -> Any:
        return lambda ws, request: ws.send(text)

    how: list[dict[str, Any]] = [
        {"accept": saying("one")},
        {"accept": saying("two"), "path": "/two"},
        {"accept": {"/three": saying("three"), "/four": saying("four")}},
    ]
    with running(kind) as host, contextlib.ExitStack() as stack:
        for number in order:
            stack.enter_context(Server(server=host.server, **how[number]))
        for path, text in {"/": "one", "/two": "two", "/three": "three", "/four": "four", "/five": "one"}.items():
            with world.Socket(host.url(path)) as ws:
                assert ws.recv(world.PATIENCE) == text
        assert serves_pages(host)


@each_kind
def test_paths_that_a_mapping_does_not_have_fall_through_to_the_application(kind: str) -> None:
    with attached(kind, {"/chat": echo}) as (host, _):
        assert talks(host, "/chat?room=1")
        with connection(host) as sock:
            sock.sendall(head("Connection: close", first="GET /other HTTP/1.1", Connection=None))
            assert b"page at /other" in read_to_end(sock)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ({}, {}, "all paths"),
        ({"path": "/a"}, {"path": "/a"}, "the path '/a'"),
        ({"path": "/a"}, {"accept": {"/b": echo, "/a": echo}}, "the path '/a'"),
        ({"accept": {"/b": echo, "/a": echo}}, {"accept": {"/a": echo, "/b": echo}}, "the path '/a', the path '/b'"),
    ],
)
def test_what_one_has_already_no_other_gets(one: dict[str, Any], other: dict[str, Any], shared: str) -> None:
    with running(KINDS[0]) as host:
        refusal = pytest.raises(ValueError, match=f"another Server has {shared} of this")
        with Server(server=host.server, **one), refusal:
            Server(server=host.server, **other)
        Server(server=host.server, **other).close()


@one_kind_each
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_closing_one_leaves_the_others_and_the_http_server(kind: str, order: tuple[int, ...]) -> None:
    with running(kind) as host:
        before = dict(vars(host.server))
        servers = [Server(echo, server=host.server, path=f"/{number}").start() for number in range(3)]
        peers = [Peer.connect(host, f"/{number}") for number in range(3)]
        left = set(order)
        for number in order:
            closing = world.spawn(servers[number].close)
            peers[number].expect_close(1001)
            peers[number].expect_end()
            peers[number].close()
            closing.result()
            left.discard(number)
            for other in left:
                peers[other].send(TEXT, b"still")
                assert peers[other].read().payload == b"still"
                assert talks(host, f"/{other}")
            assert serves_pages(host)
        with connection(host) as sock:
            sock.sendall(head("Connection: close", first="GET /1 HTTP/1.1", Connection=None))
            assert b"page at /1" in read_to_end(sock)
        for attribute in ("RequestHandlerClass", "application", "wsgi_app"):
            assert vars(host.server).get(attribute) is before.get(attribute)


@unless_in_a_hub
def test_what_somebody_else_wrapped_meanwhile_stays(caplog: pytest.LogCaptureFixture) -> None:
    with running("cheroot") as host:
        server = Server(echo, server=host.server).start()
        ours, asked = host.server.wsgi_app, []

        def theirs(environ: Any, start_response: Any) -> Any:
            asked.append(environ["PATH_INFO"])
            return ours(environ, start_response)

        host.server.wsgi_app = theirs
        assert talks(host, "/one")
        server.close()
        assert host.server.wsgi_app is theirs
        assert serves_pages(host)
        with Server(echo, server=host.server):
            assert talks(host, "/two")
        assert host.server.wsgi_app is theirs
        assert asked == ["/one", "/page"]


@one_kind_each
def test_it_may_be_attached_while_the_server_runs_and_again(kind: str) -> None:
    with running(kind) as host:
        assert serves_pages(host)
        for _ in range(2):
            with Server(echo, server=host.server):
                assert talks(host)
            with connection(host) as sock:
                sock.sendall(head("Connection: close", Connection=None))
                assert b"page at /" in read_to_end(sock)


@unless_in_a_hub
def test_an_upgrade_on_a_connection_that_was_kept_alive_from_before_is_taken() -> None:
    with running("cheroot") as host, connection(host) as sock:
        sock.sendall(PAGE.replace(b"close", b"keep-alive"))
        first = Peer(sock, client=True)
        assert b"200 OK" in first.read_head()
        with Server(echo, server=host.server):
            length = len(b"page at /page")
            assert first._take(length) == b"page at /page"
            sock.sendall(head())
            assert first.read_head().startswith(b"HTTP/1.1 101")
            first.send(TEXT, b"hello")
            assert first.read().payload == b"hello"
            first.send(CLOSE)
            assert first.read().opcode == CLOSE
            first.close()


@each_kind
def test_events_come_in_order_and_may_change_the_answer(kind: str) -> None:
    told: list[Any] = []
    with running(kind) as host:
        server = Server(echo, server=host.server, path="/chat")
        server.on("listening", lambda: told.append("listening"))
        server.on("connection", lambda ws, request: told.append(("connection", request.path)))
        server.on("close", lambda: told.append("close"))

        @server.on("headers")
        def add(headers: Any, request: Any) -> None:
            headers.add("X-Served-By", "us")
            told.append("headers")

        server.start()
        with Peer.connect(host, "/chat") as peer:
            assert b"\r\nX-Served-By: us" in peer.head
            world.eventually(lambda: len(server.clients) == 1)
            peer.send(CLOSE)
            assert peer.read().opcode == CLOSE
            peer.expect_end()
        world.eventually(lambda: server.clients == set())
        server.close()
    assert told == ["listening", "headers", ("connection", "/chat"), "close"]


@each_kind
@pytest.mark.parametrize(
    "request_bytes, status",
    [
        (head("Origin: http://evil.example"), 403),
        (head(Sec_WebSocket_Version="12"), 400),
        (head(Sec_WebSocket_Key="short"), 400),
        (head(Connection="close"), 400),
        (head(first="POST / HTTP/1.1"), 405),
    ],
)
def test_who_is_not_let_in_is_answered_and_the_http_server_goes_on(
    kind: str, request_bytes: bytes, status: int, caplog: Any
) -> None:
    refused: list[Any] = []
    with attached(kind) as (host, server):
        server.on("client_error", lambda error, sock, request: refused.append((error.status, request.path)))
        with connection(host) as sock:
            sock.sendall(request_bytes)
            assert sock.recv(12) == b"HTTP/1.1 %d" % status
        assert refused == [(status, "/")]
        assert talks(host)
        assert serves_pages(host)


@each_kind
def test_a_client_error_listener_may_answer_instead(kind: str) -> None:
    with attached(kind, verify_client=lambda info: False) as (host, server):

        @server.on("client_error")
        def answer(error: Any, sock: Any, request: Any) -> None:
            sock.sendall(b"HTTP/1.1 418 Teapot\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            sock.close()

        assert ask(host, head()).status == 418
        assert serves_pages(host)


@each_kind
def test_beyond_max_connections_it_is_503_until_somebody_leaves(kind: str) -> None:
    with attached(kind, max_connections=1) as (host, server):
        with Peer.connect(host) as peer:
            world.eventually(lambda: len(server.clients) == 1)
            with pytest.raises(HandshakeError) as caught:
                world.Socket(host.url())
            assert caught.value.status == 503
            peer.send(CLOSE)
            assert peer.read().opcode == CLOSE
        world.eventually(lambda: server.clients == set())
        assert talks(host)


@each_kind
def test_the_address_is_that_of_the_http_server(kind: str) -> None:
    with attached(kind) as (host, server):
        assert server.address()[1] == host.port
        assert str(host.port) in repr(server)
    assert server.address() is None


@one_kind_each
def test_a_frame_in_the_segment_of_the_request_is_read(kind: str) -> None:
    with attached(kind) as (host, _), Peer.connect(host, extra=b"\x81\x85\0\0\0\0early") as peer:
        assert peer.read().payload == b"early"


@one_kind_each
def test_sockets_are_of_the_class_asked_for_and_are_served_on(kind: str) -> None:
    class Mine(Socket):
        pass

    kept: list[Any] = []
    def keep(ws: Any, request: Any) -> None:
        kept.append(ws)

    with attached(kind, keep, socket_class=Mine) as (host, _), world.Socket(host.url()) as ws:
        world.eventually(lambda: kept)
        assert type(kept[0]) is Mine
        kept[0].onmessage = lambda event: kept[0].send(event.data.upper())
        ws.send("louder")
        assert ws.recv(world.PATIENCE) == "LOUDER"


@one_kind_each
@pytest.mark.parametrize("clients", ["terminate", "leave"])
def test_close_may_terminate_or_leave_the_clients(kind: str, clients: str) -> None:
    with attached(kind) as (host, server), Peer.connect(host) as peer:
        world.eventually(lambda: len(server.clients) == 1)
        server.close(clients=clients)
        if clients == "terminate":
            peer.expect_end()
        else:
            peer.send(TEXT, b"still here")
            assert peer.read().payload == b"still here"
            peer.send(CLOSE)
            assert peer.read().opcode == CLOSE


@one_kind_each
def test_a_handler_that_raises_ends_its_connection_with_1011(kind: str, caplog: Any) -> None:
    def fail(ws: Any, request: Any) -> None:
        raise RuntimeError("a test's")

    with attached(kind, fail) as (host, _):
        caplog.expected_errors = 1
        with Peer.connect(host) as peer:
            peer.expect_close(1011)
            peer.expect_end()
        assert serves_pages(host)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("wsgiref", "cheroot")])
def test_tls_is_the_http_servers(kind: str, authority: Any, client_tls: ssl.SSLContext) -> None:
    maker = pytest.importorskip("gevent.ssl") if kind == "pywsgi" else ssl
    context = maker.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    secure: list[bool] = []

    def accept(ws: Any, request: Any) -> None:
        secure.append(request.secure)
        echo(ws, request)

    with running(kind, context) as host, Server(accept, server=host.server) as server:
        with world.Socket(host.url(scheme="wss"), ssl=client_tls) as ws:
            ws.send("x" * 100_000)
            assert ws.recv(world.PATIENCE) == "x" * 100_000
        with world.Socket(host.url(scheme="wss"), ssl=client_tls) as ws:
            closing = world.spawn(server.close)
            assert ws.wait_closed(world.PATIENCE)
            assert ws.close_code == 1001
            closing.result()
    assert secure == [True, True]


@world.gevent_only
def test_a_server_of_threads_finds_out_that_pywsgi_has_greenlets() -> None:
    with running("pywsgi") as host, syncws.Server(echo, server=host.server) as server, Peer.connect(host) as peer:
        assert talks(host)
        closing = world.spawn(server.close)
        peer.expect_close(1001)
        peer.expect_end()
        peer.close()
        closing.result()


@pytest.mark.parametrize("server", [object(), 8080, "127.0.0.1:80", type("Half", (), {"application": None})()])
def test_what_is_no_http_server_is_a_type_error(server: Any) -> None:
    with pytest.raises(TypeError, match=r"gevent\.pywsgi or cheroot, not"):
        Server(echo, server=server)


@pytest.mark.parametrize(
    "further",
    [{"port": 0}, {"unix": "there"}, {"no_server": True}, {"host": "127.0.0.1"}, {"ssl": "server"}, {"cpu": 0}],
    ids=lambda further: next(iter(further)),
)
def test_what_would_have_no_effect_is_a_type_error(further: dict[str, Any], server_tls: ssl.SSLContext) -> None:
    if "ssl" in further:
        further = {"ssl": server_tls}
    with running("http.server") as host:
        before = host.server.RequestHandlerClass
        with pytest.raises(TypeError):
            Server(echo, server=host.server, **further)
        assert host.server.RequestHandlerClass is before


@unless_in_a_hub
def test_without_start_it_is_attached_and_close_detaches_it() -> None:
    with running("wsgiref") as host:
        server = Server(echo, server=host.server)
        assert talks(host)
        server.close()
        server.close()
        with connection(host) as sock:
            sock.sendall(head())
            assert parse(read_to_end(sock).replace(b"HTTP/1.0", b"HTTP/1.1", 1)).status == 200
