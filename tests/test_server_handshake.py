"""The handshake as a server's clients see it: refusals, agreements, deadlines, the user's functions."""

from __future__ import annotations

import logging
import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import world
from peer import Peer
from raw import ACCEPT, FIELDS, ask, connection, head, is_served
from world import Server, Socket, serving, url_of

from syncws import Deflate


def lines_of(caplog: pytest.LogCaptureFixture, level: int = logging.DEBUG) -> list[str]:
    """What was logged for people, without what h11 or gevent may say."""
    return [record.getMessage() for record in caplog.records if record.name == "syncws" and record.levelno >= level]


# -- refusals ---------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "no upgrade": (426, head(Upgrade=None, Connection="keep-alive"), {"upgrade": "websocket"}),
    "no Connection": (426, head(Connection=None), {"upgrade": "websocket"}),
    "POST": (405, head(first="POST / HTTP/1.1"), {"allow": "GET"}),
    "HEAD": (405, head(first="HEAD / HTTP/1.1"), {"allow": "GET"}),
    "CONNECT": (405, head(first="CONNECT / HTTP/1.1"), {"allow": "GET"}),
    "get": (405, head(first="get / HTTP/1.1"), {"allow": "GET"}),
    "a long target": (414, head(first=f"GET /{'a' * 8192} HTTP/1.1"), {}),
    "a target without end": (414, b"GET /" + b"a" * 20000, {}),
    "another Upgrade": (400, head(Upgrade="h2c"), {}),
    "two Upgrades": (400, head(Upgrade="websocket, h2c"), {}),
    "a Connection without upgrade": (400, head(Connection="close"), {}),
    "no Host": (400, head(Host=None), {}),
    "two Hosts": (400, head("Host: 127.0.0.1"), {}),
    "a bad Host": (400, head(Host="a b"), {}),
    "a Host with a bad port": (400, head(Host="a:b"), {}),
    "no key": (400, head(Sec_WebSocket_Key=None), {}),
    "an empty key": (400, head(Sec_WebSocket_Key=""), {}),
    "a short key": (400, head(Sec_WebSocket_Key="abc"), {}),
    "a key without padding": (400, head(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ"), {}),
    "a key that is no base64": (400, head(Sec_WebSocket_Key="!GhlIHNhbXBsZSBub25jZQ=="), {}),
    "two keys": (400, head("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), {}),
    "no version": (400, head(Sec_WebSocket_Version=None), {"sec-websocket-version": "13, 8"}),
    "version 12": (400, head(Sec_WebSocket_Version="12"), {"sec-websocket-version": "13, 8"}),
    "version 13.0": (400, head(Sec_WebSocket_Version="13.0"), {"sec-websocket-version": "13, 8"}),
    "two versions": (400, head("Sec-WebSocket-Version: 13"), {"sec-websocket-version": "13, 8"}),
    "two Origins": (400, head("Origin: http://127.0.0.1", "Origin: http://127.0.0.1"), {}),
    "an empty subprotocol": (400, head("Sec-WebSocket-Protocol:"), {}),
    "a subprotocol that is no token": (400, head("Sec-WebSocket-Protocol: a b"), {}),
    "a subprotocol twice": (400, head("Sec-WebSocket-Protocol: a, a"), {}),
    "a subprotocol twice in two lines": (400, head("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"), {}),
    "an extension that breaks the grammar": (400, head("Sec-WebSocket-Extensions: a;;b"), {}),
    "an extension with an open quote": (400, head('Sec-WebSocket-Extensions: a; b="'), {}),
    "an empty extension": (400, head("Sec-WebSocket-Extensions: permessage-deflate,"), {}),
    "a body": (400, head("Content-Length: 5") + b"hello", {}),
    "a body that never comes": (400, head("Content-Length: 5"), {}),
    "a chunked body": (400, head("Transfer-Encoding: chunked") + b"0\r\n\r\n", {}),
    "HTTP/1.0": (400, head(first="GET / HTTP/1.0"), {}),
    "HTTP/2.0": (505, head(first="GET / HTTP/2.0"), {}),
    "garbage": (400, b"garbage\r\n\r\n", {}),
    "a big head": (431, head("A: " + "b" * 8000, "C: " + "d" * 8000, "E: " + "f" * 8000), {}),
    "a long line": (431, head("A: " + "b" * 9000), {}),
    "many lines": (431, head(*["A: b"] * 200), {}),
    "another host in the target": (400, head(first="GET http://evil.example/ HTTP/1.1"), {}),
    "hixie-76": (
        400,
        head("Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5", "Sec-WebSocket-Key2: 12998 5 Y3 1  .P00",
             Sec_WebSocket_Key=None, Sec_WebSocket_Version=None) + b"^n:ds[4U",
        {"sec-websocket-version": "13, 8"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("status", "data", "headers"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(status: int, data: bytes, headers: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []
    with caplog.at_level(logging.DEBUG), serving(lambda ws, request: called.append(request.target)) as server:
        answer = ask(server, data)
    assert answer.status == status
    for name, value in headers.items():
        assert answer.headers[name] == value
    assert answer.headers["content-type"].startswith("text/plain")
    assert "close" in answer.headers["connection"]
    assert abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()) < 60
    # One line that says why, but for HEAD.
    if not data.startswith(b"HEAD "):
        assert answer.body.endswith(b"\n")
        assert answer.body.count(b"\n") == 1
        assert len(answer.body) > 5
    assert called == []
    # One line in the log, and no more, whoever it was.
    (line,) = lines_of(caplog)
    assert str(status) in line


def test_a_refused_connection_serves_nothing_more() -> None:
    with serving() as server:
        answer = ask(server, head(Upgrade="h2c") + head() + b"\x81\x82\0\0\0\0hi")
        assert answer.raw.count(b"HTTP/1.1") == 1


def test_what_is_not_refused() -> None:
    with serving() as server:
        for data in (
            head(),
            head(Upgrade="WebSocket", Connection="keep-alive, Upgrade"),
            head(Host="example.org:80"),
            head("Content-Length: 0"),
            head("Sec-WebSocket-Extensions: nonsense; a=b, permessage-deflate; server_max_window_bits=99"),
            head("Sec-WebSocket-Protocol: nobody, speaks"),
            head(first="GET http://127.0.0.1/ HTTP/1.1"),
        ):
            with connection(server) as sock:
                sock.sendall(data)
                peer = Peer(sock, client=True)
                lines = peer.read_head().decode().split("\r\n")
                peer.send(8, b"\x03\xe8")
                peer.expect_close(1000, answer=False)
            assert lines == [
                "HTTP/1.1 101 Switching Protocols",
                "Upgrade: websocket",
                "Connection: Upgrade",
                f"Sec-WebSocket-Accept: {ACCEPT}",
            ]


def test_the_path_is_compared_exactly_query_aside() -> None:
    with serving(path="/chat") as server:
        for target in ("/chat", "/chat?", "/chat?a=b"):
            Peer.connect(server, target).close()
        for target in ("/", "/chat/", "/Chat", "/cha%74", "/chat/x", "//chat"):
            answer = ask(server, head(first=f"GET {target} HTTP/1.1"))
            assert (answer.status, answer.body) == (400, b"this path is not served here\n")


@pytest.mark.parametrize("path", ["x", "", "/a?b", "/a#b"])
def test_a_path_that_no_request_has_is_a_value_error(path: str) -> None:
    for arguments in ({"accept": {path: world.echo}}, {"accept": world.echo, "path": path}):
        with pytest.raises(ValueError, match="path"):
            Server(**arguments, no_server=True)


# -- origins ----------------------------------------------------------------------------------------------

ORIGINS = [
    (None, {}, 101),
    ("http://127.0.0.1:{port}", {}, 101),
    ("http://127.0.0.1", {}, 403),
    ("http://localhost:{port}", {}, 403),
    ("http://127.0.0.1:{port}.evil.example", {}, 403),
    ("http://evil.example", {}, 403),
    ("null", {}, 403),
    ("", {}, 403),
    ("https://good.example", {"origins": ["https://good.example"]}, 101),
    ("HTTPS://GOOD.example:443", {"origins": ["https://good.example"]}, 101),
    ("https://good.example.evil", {"origins": ["https://good.example"]}, 403),
    ("https://sub.good.example", {"origins": ["https://good.example"]}, 403),
    ("https://good.example:8443", {"origins": ["https://good.example"]}, 403),
    ("http://good.example", {"origins": ["https://good.example"]}, 403),
    ("http://127.0.0.1:{port}", {"origins": ["https://good.example"]}, 403),
    ("null", {"origins": ["null"]}, 101),
    ("http://evil.example", {"origins": None}, 101),
    ("http://evil.example", {"origins": []}, 403),
]


@pytest.mark.parametrize(("origin", "options", "status"), ORIGINS)
def test_origins(origin: str | None, options: Any, status: int, caplog: pytest.LogCaptureFixture) -> None:
    called: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        called.append(request)
        ws.close(1000)

    def verify(info: Any) -> bool:
        called.append(info)
        return True

    with caplog.at_level(logging.INFO), serving(accept, verify_client=verify, **options) as server:
        port = server.address()[1]
        lines = [] if origin is None else ["Origin: " + origin.format(port=port)]
        if status == 101:
            with Peer.connect_with(server, head(*lines, Host=f"127.0.0.1:{port}")) as peer:
                peer.expect_close(1000)
            assert [type(info).__name__ for info in called] == ["ClientInfo", "Request"]
            return
        answer = ask(server, head(*lines, Host=f"127.0.0.1:{port}"))
    assert (answer.status, answer.body) == (403, b"this origin is not allowed\n")
    assert called == []
    (line,) = lines_of(caplog, logging.WARNING)
    assert "origins=" in line
    assert len(lines_of(caplog)) == 1


# -- what is agreed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "offered", "chosen"),
    [
        ({}, ["a"], ""),
        ({"protocols": ["b", "a"]}, ["a", "b"], "b"),
        ({"protocols": ["b", "a"]}, ["a"], "a"),
        ({"protocols": (name for name in ["b", "a"])}, ["a", "b"], "b"),
        ({"protocols": ["b"]}, ["a", "B"], ""),
        ({"protocols": []}, ["a"], ""),
        ({"protocols": ["a"]}, [], ""),
        ({"select_subprotocol": lambda offered, request: offered[-1]}, ["a", "b"], "b"),
        ({"select_subprotocol": lambda offered, request: None}, ["a", "b"], ""),
        ({"protocols": ["a"], "select_subprotocol": lambda offered, request: "b"}, ["a", "b"], "b"),
    ],
)
def test_the_subprotocol(options: Any, offered: list[str], chosen: str) -> None:
    lines = [f"Sec-WebSocket-Protocol: {', '.join(offered)}"] if offered else []
    served = serving(lambda ws, request: ws.send(f"={ws.protocol}"), **options)
    with served as server, Peer.connect(server, "/", *lines) as peer:
        assert peer.read().payload == f"={chosen}".encode()
        assert (f"Sec-WebSocket-Protocol: {chosen}\r\n" in peer.head.decode() + "\r\n") is bool(chosen)


def test_a_subprotocol_that_was_not_offered_is_500_and_logged(caplog: Any) -> None:
    caplog.expected_errors = 1
    with serving(select_subprotocol=lambda offered, request: "c\r\nX: y") as server:
        answer = ask(server, head("Sec-WebSocket-Protocol: a"))
        assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
        assert is_served(server)


def test_compression_is_agreed_and_a_bad_offer_declined() -> None:
    with serving(compression=Deflate(server_no_context_takeover=True)) as server:
        bad = "permessage-deflate; server_max_window_bits=7"
        with Peer.connect(server, "/", f"Sec-WebSocket-Extensions: {bad}") as peer:
            assert b"Extensions" not in peer.head
        with Peer.connect(server, "/", f"Sec-WebSocket-Extensions: {bad}, permessage-deflate") as peer:
            assert b"Extensions: permessage-deflate; server_no_context_takeover" in peer.head
        with Socket(url_of(server)) as ws:
            assert "permessage-deflate" in ws.extensions


# -- sizes and deadlines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [300, 16384, 60000])
def test_max_header_size_is_exact(limit: int) -> None:
    lines = ["A: " + "b" * 5000] * ((limit - 300) // 5005)
    room = limit - len(head(*lines, "C: "))
    with serving(max_header_size=limit) as server:
        with Peer.connect_with(server, head(*lines, "C: " + "d" * room)):
            pass
        answer = ask(server, head(*lines, "C: " + "d" * (room + 1)))
        assert (answer.status, answer.body) == (431, b"the request head is too large\n")


def test_what_is_not_complete_in_time_is_408() -> None:
    with serving(handshake_timeout=0.3) as server:
        for data in (b"", b"G", head()[:-1]):
            start = time.monotonic()
            answer = ask(server, data)
            assert (answer.status, answer.body) == (408, b"the request was not complete in time\n")
            assert 0.3 <= time.monotonic() - start < 3
        assert is_served(server)


def test_each_of_the_fields_is_needed() -> None:
    with serving() as server:
        for name in FIELDS:
            data = head(**{name.replace("-", "_"): None})
            assert ask(server, data).status in (400, 426), name
