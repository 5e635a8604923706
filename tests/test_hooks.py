"""The hooks that the documents promise, each on a real connection; and that the promised names are there."""

from __future__ import annotations

import time
from typing import Any

import pytest
import world
from peer import Peer
from raw import ask, connection, head, is_served, parse, read_to_end
from world import PATIENCE, Event, Server, Socket, eventually, raw_listener, serving, spawn, url_of

import syncws
import syncws.client
from syncws import Deflate

# -- headers --------------------------------------------------------------------------------------------------


def fields_of(server: Any, *lines: str) -> list[str]:
    with Peer.connect(server, "/", *lines) as peer:
        return peer.head.decode("latin-1").split("\r\n")[1:]


def test_headers_can_be_added_changed_and_removed() -> None:
    def first(headers: Any, request: Any) -> None:
        headers["Server"] = "mine"
        headers.add("X-A", "1")
        headers.add("X-A", "2")
        headers["X-B"] = "b"

    def second(headers: Any, request: Any) -> None:
        del headers["x-b"]
        headers["SERVER"] = request.headers["X-Name"]

    with serving() as server:
        server.on("headers", first)
        server.on("headers", second)
        assert fields_of(server, "X-Name: caf\xe9")[3:] == ["X-A: 1", "X-A: 2", "SERVER: caf\xc3\xa9"]


HANDSHAKES_OWN = ["Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"]


def setting(name: str, value: Any) -> Any:
    return lambda headers, request: headers.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (setting("X-A", "a\r\nX-B: b"), "character '\\r' at index 1 is not allowed"),
        (setting("X-A", "a\0"), "character '\\x00' at index 1 is not allowed"),
        (setting("X-A", "\u20ac"), "is not allowed"),
        (setting("X-A", 5), "must be str, not int"),
        (setting("X A", "b"), "X A"),
        (setting("", "b"), "''"),
        (lambda headers, request: headers.pop("X-Missing"), "X-Missing"),
        *((setting(name, "x"), f"must leave {name} as it is") for name in HANDSHAKES_OWN),
        *((lambda headers, request, name=name: headers.pop(name), f"must leave {name}") for name in HANDSHAKES_OWN),
        (lambda headers, request: headers.add("Upgrade", "websocket"), "must leave Upgrade as it is"),
        (setting("Content-Length", "5"), "must leave Content-Length as it is"),
        (setting("Transfer-Encoding", "chunked"), "must leave Transfer-Encoding as it is"),
    ],
)
def test_a_bad_change_is_500_and_the_log_says_why(change: Any, why: str, caplog: Any) -> None:
    caplog.expected_errors = 1
    offers = "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Extensions: permessage-deflate"
    with serving(protocols=["a"], compression=True) as server:
        server.once("headers", change)
        answer = ask(server, head(*offers))
        assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
        assert why in caplog.text
        assert server.clients == set()
        assert is_served(server)


# -- client_error ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closes", [False, True])
def test_what_client_error_answered_is_not_answered_again(closes: bool) -> None:
    def answer(error: Any, sock: Any, request: Any) -> None:
        sock.sendall(b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n")
        if closes:
            sock.close()

    with serving() as server:
        server.on("client_error", answer)
        with connection(server) as sock:
            sock.sendall(head(Upgrade="h2c") + b"x" * 50000)  # unread data must not destroy the answer
            assert sock.recv(1000) == b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n"
            assert sock.recv(1000) == b""  # no reset


def test_client_error_may_close_without_a_word() -> None:
    with serving() as server:
        server.on("client_error", lambda error, sock, request: sock.close())
        with connection(server) as sock:
            sock.sendall(head(Upgrade="h2c"))
            assert read_to_end(sock) == b""


def test_headers_are_not_asked_for_where_there_is_no_place() -> None:
    heard: list[Any] = []
    with serving(max_connections=1) as server:
        server.on("headers", lambda headers, request: heard.append(request.path))
        with Peer.connect(server, "/first"):
            assert ask(server, head(first="GET /second HTTP/1.1")).status == 503
        assert heard == ["/first"]


def test_client_error_hears_of_every_kind_of_refusal() -> None:
    heard: list[Any] = []
    options = {"max_connections": 1, "verify_client": lambda info: "no" not in info.request.query}
    with serving({"/": world.echo}, **options) as server:
        server.on("client_error", lambda error, sock, request: heard.append((error.status, request and request.path)))
        statuses = [
            ask(server, head(first="GET /other HTTP/1.1")).status,
            ask(server, head(first="GET /?no=1 HTTP/1.1")).status,
            ask(server, head("Origin: http://evil.example")).status,
            ask(server, b"\0\r\n\r\n").status,
        ]
        with Peer.connect(server):
            statuses.append(ask(server, head()).status)
        paths = ["/other", "/", "/", None, "/"]
        assert statuses == [404, 401, 403, 400, 503]
        assert heard == list(zip(statuses, paths, strict=True))


# -- listeners of a server ------------------------------------------------------------------------------------


class Listener:
    """An object with `handleEvent`, as the DOM has them."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def handleEvent(self, *arguments: Any) -> None:
        self.heard.append(len(arguments))


def test_every_event_of_a_server_takes_objects_decorators_and_once() -> None:
    counts = {"listening": 0, "headers": 2, "connection": 2, "client_error": 3, "close": 0}
    objects = {type: Listener() for type in counts}
    once: list[str] = []
    server = Server(world.echo, host="127.0.0.1", port=0)
    for type, listener in objects.items():
        assert server.on(type, listener) is listener

        @server.once(type)
        def heard(*arguments: Any, type: str = type) -> None:
            once.append(type)

    with server:
        assert is_served(server)
        assert is_served(server)
        ask(server, head(Upgrade="h2c"))
    expected = {type: [count] * (2 if count == 2 else 1) for type, count in counts.items()}
    assert {type: listener.heard for type, listener in objects.items()} == expected
    assert sorted(once) == sorted(counts)


def test_listeners_of_a_server_may_come_and_go_while_it_tells() -> None:
    heard: list[str] = []

    def second(ws: Any, request: Any) -> None:
        heard.append("second")

    def third(ws: Any, request: Any) -> None:
        heard.append("third")

    with serving() as server:

        @server.on("connection")
        def first(ws: Any, request: Any) -> None:
            heard.append("first")
            server.off("connection", second)
            server.on("connection", third)

        server.on("connection", second)
        assert is_served(server)
        assert heard == ["first"]
        assert is_served(server)
        assert heard == ["first", "first", "third"]


def test_accepting_that_fails_is_an_error_event(caplog: Any) -> None:
    from test_listen import sabotage

    caplog.expected_errors = 1
    errors: list[Any] = []
    with serving() as server:
        server.on("error", errors.append)
        sabotage(server, 24)
        assert is_served(server)
        assert [(type(error), error.errno) for error in errors] == [(OSError, 24)]


@pytest.mark.parametrize("clients", ["close", "terminate", "leave"])
def test_a_handshake_that_is_late_is_answered_503_however_the_server_was_closed(clients: str) -> None:
    asked, go = Event(), Event()

    def slow(info: Any) -> bool:
        asked.set()
        return bool(go.wait(PATIENCE))

    with serving(verify_client=slow) as server, connection(server) as sock:
        sock.sendall(head())
        assert asked.wait(PATIENCE)
        server.close(clients=clients)
        go.set()
        assert parse(read_to_end(sock)).status == 503


def test_should_handle_decides_beside_a_path() -> None:
    class Prefixed(Server):
        def should_handle(self, request: Any) -> bool:
            return bool(request.path.startswith("/a/"))

    with Prefixed(world.echo, host="127.0.0.1", port=0, path="/ignored") as server:
        assert ask(server, head(first="GET /ignored HTTP/1.1")).status == 400
        with Socket(url_of(server, "/a/b")) as ws:
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"


@pytest.mark.parametrize("answer", ["b", "A", "", 5, b"a", ["a"]])
def test_select_subprotocol_must_answer_one_of_those_offered(answer: Any, caplog: Any) -> None:
    caplog.expected_errors = 1
    with serving(select_subprotocol=lambda offered, request: answer) as server:
        assert ask(server, head("Sec-WebSocket-Protocol: a")).status == 500
        assert "one of those offered" in caplog.text


# -- the answer that is not a 101 -----------------------------------------------------------------------------

BODIES = {
    "length": (b"Content-Length: 4\r\n\r\n", b"why?", b""),
    "chunked": (b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\nwh\r\n2\r\ny?\r\n", b"0\r\n\r\n"),
    "until the end": (b"\r\n", b"why?", None),
}


def refusing(listener: Any, framing: bytes, data: bytes, last: bytes | None, go: Any = None) -> Any:
    """Answer a handshake with 403, and a body with `last` or (None) the end behind it; wait for the client to go."""

    def run() -> bytes:
        sock, _ = listener.accept()
        sock.settimeout(PATIENCE)
        assert go is None or go.wait(PATIENCE)
        with Peer(sock, client=False) as peer:
            peer.read_head()
            peer.send_raw(b"HTTP/1.1 403 No\r\nX-Why: so\r\n" + framing)
            peer.send_raw(data)
            if last is None:
                peer.end()
            else:
                peer.send_raw(last)
            return read_to_end(sock)

    return spawn(run)


@pytest.mark.parametrize("name", BODIES)
def test_the_body_of_a_refusal_is_read_in_every_framing(name: str) -> None:
    listening = Event()
    with raw_listener() as listener:
        server = refusing(listener, *BODIES[name], listening)
        ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", blocking=False, handshake_timeout=None)
        heard: list[Any] = []
        for type in ("unexpected-response", "error", "close"):
            ws.on(type, heard.append)
        listening.set()
        assert ws.wait_closed(PATIENCE)
        assert [event.type for event in heard] == ["unexpected-response", "error", "close"]
        response = heard[0].response
        assert (response.status, response.headers["x-why"], response.body) == (403, "so", b"why?")
        assert heard[1].error.response is response
        assert server.result() == b""


@pytest.mark.parametrize("timeout", [0.2, None])
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_never_ends_is_given_up_and_the_refusal_told(
    name: str, timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if timeout is None:
        monkeypatch.setattr(syncws.way, "BODY_PATIENCE", 0.2)
    framing = BODIES[name][0].replace(b"4", b"5")
    with raw_listener() as listener:
        server = refusing(listener, framing, BODIES[name][1], b"")
        began = time.monotonic()
        with pytest.raises(syncws.HandshakeError) as caught:
            Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", handshake_timeout=timeout)
        assert 0.2 <= time.monotonic() - began < 5
        assert (caught.value.status, caught.value.response.body) == (403, b"why?")
        assert server.result() == b""


def test_of_an_endless_body_64_kib_are_kept() -> None:
    with raw_listener() as listener:
        server = refusing(listener, b"\r\n", b"x" * 300000, b"")
        with pytest.raises(syncws.HandshakeError) as caught:
            Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        assert caught.value.response.body == b"x" * 65536
        server._done.wait(PATIENCE)  # it may have been reset in the middle of its sending


# -- compression ----------------------------------------------------------------------------------------------


SMALLER = "permessage-deflate; server_max_window_bits=9"


@pytest.mark.parametrize(
    ("config", "offers", "answer"),
    [
        (Deflate(), "permessage-deflate", ""),
        (Deflate(), "permessage-deflate; client_max_window_bits", ""),
        (Deflate(server_no_context_takeover=True), "permessage-deflate", "; server_no_context_takeover"),
        (Deflate(client_no_context_takeover=True), "permessage-deflate", "; client_no_context_takeover"),
        (Deflate(server_max_window_bits=10), "permessage-deflate", "; server_max_window_bits=10"),
        (Deflate(server_max_window_bits=10), f"{SMALLER}, permessage-deflate", "; server_max_window_bits=9"),
        (Deflate(client_max_window_bits=9), "permessage-deflate; client_max_window_bits", "; client_max_window_bits=9"),
        (Deflate(client_max_window_bits=9), "permessage-deflate", None),
        (Deflate(), "permessage-deflate; server_max_window_bits=16, permessage-deflate", ""),
        (Deflate(), "permessage-deflate; nonsense, x-other, permessage-deflate", ""),
        (Deflate(), "permessage-deflate; server_no_context_takeover=1, permessage-deflate", ""),
        (Deflate(), "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", None),
        (Deflate(), "x-webkit-deflate-frame", None),
    ],
)
def test_of_the_offers_the_first_good_one_is_taken(config: Any, offers: str, answer: str | None) -> None:
    with serving(compression=config) as server:
        fields = fields_of(server, f"Sec-WebSocket-Extensions: {offers}")
        extensions = [field.partition(": ")[2] for field in fields if field.startswith("Sec-WebSocket-Extensions")]
        assert extensions == ([] if answer is None else [f"permessage-deflate{answer}"])


@pytest.mark.parametrize(
    "parameters",
    [
        {"server_no_context_takeover": True},
        {"client_no_context_takeover": True},
        {"server_max_window_bits": 9},
        {"client_max_window_bits": 9},
        {"server_max_window_bits": 8, "client_max_window_bits": 8},  # zlib cannot: those go out plain
        {"threshold": 0},
        {"threshold": 10**9},
        {"level": 0},
        {"level": 9, "mem_level": 9},
        {"mem_level": 1},
    ],
    ids=str,
)
def test_messages_survive_every_parameter(parameters: Any) -> None:
    config = Deflate(**parameters)
    text = "the same words again, " * 500
    with serving(compression=config) as server, Socket(url_of(server), compression=config) as ws:
        assert "permessage-deflate" in ws.extensions
        for _ in range(3):
            ws.send(text)
            assert ws.recv(PATIENCE) == text
        plain = {"threshold": 10**9}, {"level": 0}, {"server_max_window_bits": 8, "client_max_window_bits": 8}
        assert (ws.bytes_sent > len(text)) is (parameters in plain)


# -- names ----------------------------------------------------------------------------------------------------


def test_the_constants_have_their_numbers() -> None:
    types = syncws.CONTINUE, syncws.TEXT, syncws.BINARY, syncws.CLOSE, syncws.PING, syncws.PONG
    assert types == (0, 1, 2, 8, 9, 10)
    assert (syncws.CONNECTING, syncws.OPEN, syncws.CLOSING, syncws.CLOSED) == (0, 1, 2, 3)
    assert (Socket.CONNECTING, Socket.OPEN, Socket.CLOSING, Socket.CLOSED) == (0, 1, 2, 3)
    with serving() as server, Socket(url_of(server)) as ws:
        assert (ws.CONNECTING, ws.OPEN, ws.CLOSING, ws.CLOSED) == (0, 1, 2, 3)
        for name in ("CONNECTING", "OPEN", "CLOSING", "CLOSED"):
            with pytest.raises(AttributeError):
                setattr(ws, name, 9)


def test_what_is_exported_is_there() -> None:
    for module in (syncws, *([__import__("syncws.gevent").gevent] if world.GREEN else [])):
        assert len(set(module.__all__)) == len(module.__all__)
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert callable(syncws.reconnect)
    assert callable(syncws.close_all)


def test_a_socket_class_of_ones_own_has_its_own_start() -> None:
    class Named(Socket):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.name = "nobody"

    names: list[str] = []
    with serving(lambda ws, request: names.append(ws.name), socket_class=Named) as server:
        Peer.connect(server).close()
        eventually(lambda: names == ["nobody"])
