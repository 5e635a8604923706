"""Servers with `legacy=True` and clients of hixie-76: who is let in, messages, the end; and beside them modern ones."""

from __future__ import annotations

import contextlib
import http.server
import logging
import socket as _native
from typing import Any

import pytest
import secure
import world
from hixie import DIGEST, END, KEYS, NONCE, Hixie, framed, request_head
from peer import BINARY, PING, TEXT, Peer
from raw import ask, connection, is_served, parse, read_to_end
from world import PATIENCE, serving

from syncws import ConnectionClosed, InvalidData, MessageTooBig, ProtocolError, Request
from syncws.admission import Admission
from syncws.errors import HandshakeError
from syncws.options import Options


class Held:
    """What a handler was given, for the test's own thread; the handler waits for the end of the test."""

    def __init__(self) -> None:
        self.sockets: list[Any] = []
        self.requests: list[Any] = []
        self._over = world.Event()

    def __call__(self, ws: Any, request: Any) -> None:
        self.requests.append(request)
        self.sockets.append(ws)
        self._over.wait()

    @contextlib.contextmanager
    def serving(self, **options: Any) -> Any:
        try:
            with serving(self, legacy=True, **options) as server:
                try:
                    yield server
                finally:
                    self._over.set()
        finally:
            self._over.set()

    def next(self, count: int = 1) -> Any:
        world.eventually(lambda: len(self.sockets) >= count)
        return self.sockets[count - 1]


@contextlib.contextmanager
def joined(*further: str, **options: Any) -> Any:
    """A server's socket, its client, the server."""
    held = Held()
    with held.serving(**options) as server, Hixie.connect(server, *further) as client:
        yield held.next(), client, server


def closed(ws: Any) -> list[Any]:
    """The close events, once there is one."""
    events: list[Any] = []
    ws.onclose = lambda event: events.append((event.code, event.reason, event.wasClean))
    assert ws.wait_closed(PATIENCE)
    world.eventually(lambda: events)
    return events


# -- the handshake ----------------------------------------------------------------------------------------


def test_a_client_is_served() -> None:
    with joined() as (ws, client, _):
        assert (ws.protocol_version, ws.supports.binary, ws.supports.pings) == ("hixie-76", False, False)
        assert (ws.protocol, ws.extensions, ws.request.path) == ("", "", "/")
        assert client.headers == {
            "Upgrade": "WebSocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Location": "ws://127.0.0.1/",
        }
        client.send("grüße")
        assert ws.recv(PATIENCE) == "grüße"
        ws.send("世界")
        assert client.read() == "世界"
        assert (ws.bytes_received, ws.bytes_sent) == (len(framed("grüße")), len(framed("世界")))


def test_the_last_bytes_may_be_announced() -> None:
    with serving(legacy=True) as server, Hixie.connect(server, "Content-Length: 8", extra=framed("a")) as client:
        assert client.read() == "a"


def test_frames_may_come_with_the_request() -> None:
    with serving(legacy=True) as server, Hixie.connect(server, extra=framed("a") + framed("b") + END) as client:
        assert [client.read(), client.read()] == ["a", "b"]
        client.expect_end(answer=False)


@pytest.mark.parametrize("cut", range(-len(NONCE) - 2, len(framed("hi")) + 1))
def test_the_request_may_be_cut_anywhere_around_its_last_bytes(cut: int) -> None:
    head = request_head()
    data, position = head + NONCE + framed("hi"), len(head) + len(NONCE) + cut
    with serving(legacy=True) as server, connection(server) as sock:
        sock.setsockopt(_native.IPPROTO_TCP, _native.TCP_NODELAY, 1)
        sock.sendall(data[:position])
        world.sleep(0)
        sock.sendall(data[position:])
        client = Hixie(sock)
        client.expect_answer()
        assert client.read() == "hi"


class Pieces:
    """A transport that gives these pieces, and then nothing in time."""

    def __init__(self, *pieces: bytes | None) -> None:
        self._pieces = list(pieces)

    def read(self, buffer: bytearray, timeout: float | None = None) -> int | None:
        piece = self._pieces.pop(0) if self._pieces else None
        if piece is None:
            return None
        buffer[: len(piece)] = piece
        return len(piece)


def answered(leftover: bytes, *pieces: bytes | None) -> tuple[bytes, bytes]:
    """The digest, and the bytes behind the request."""
    admission: Any = Admission(Options(), legacy=True, origins=None)
    fields = {"Host": "a", "Upgrade": "WebSocket", "Connection": "Upgrade"}
    fields.update({"Sec-WebSocket-Key1": KEYS[0], "Sec-WebSocket-Key2": KEYS[1]})
    request = Request("GET", "/", fields)
    agreed = admission.judge(request, lambda request: True)
    response, frames = admission.answer(Pieces(*pieces), request, agreed, leftover, None)
    return response.body, frames


@pytest.mark.parametrize("cut", range(len(NONCE)))
def test_what_is_behind_the_last_bytes_is_frames(cut: int) -> None:
    single = [bytes([byte]) for byte in NONCE]
    for frames in (b"", framed("x"), END):
        assert answered(NONCE[:cut], NONCE[cut:] + frames) == (DIGEST, frames)
        assert answered(NONCE + frames) == (DIGEST, frames)
    assert answered(NONCE[:cut], *single[cut:]) == (DIGEST, b"")


@pytest.mark.parametrize("count", range(len(NONCE)))
def test_the_last_bytes_must_come(count: int) -> None:
    for end, status in ((None, 408), (b"", None)):
        with pytest.raises(HandshakeError) as caught:
            answered(b"", *[bytes([byte]) for byte in NONCE[:count]], end)
        assert caught.value.status == status


def test_the_last_bytes_are_under_the_deadline() -> None:
    with serving(legacy=True, handshake_timeout=0.3) as server:
        for missing in (NONCE, NONCE[-1:]):
            answer = ask(server, request_head() + NONCE[: -len(missing)])
            assert answer.status == 408
        assert is_served(server)


def test_who_leaves_in_the_middle_of_it_is_forgotten() -> None:
    called: list[Any] = []
    with serving(lambda ws, request: called.append(ws), legacy=True) as server:
        with connection(server) as sock:
            sock.sendall(request_head() + NONCE[:7])
            sock.shutdown(_native.SHUT_WR)
            assert read_to_end(sock) == b""
        assert called == []
        Hixie.connect(server).close()


def test_byte_by_byte() -> None:
    with serving(legacy=True) as server, connection(server) as sock:
        sock.setsockopt(_native.IPPROTO_TCP, _native.TCP_NODELAY, 1)
        for byte in request_head() + NONCE + framed("grüße") + framed("") + END:
            sock.sendall(bytes([byte]))
        client = Hixie(sock)
        client.expect_answer()
        assert [client.read(), client.read()] == ["grüße", ""]
        client.expect_end(answer=False)


REFUSALS: dict[str, tuple[int, bytes, dict[str, Any]]] = {
    "a bad key": (400, request_head(Sec_WebSocket_Key1="1 0 1"), {}),
    "no second key": (400, request_head(Sec_WebSocket_Key2=None), {}),
    "POST": (405, request_head(first="POST / HTTP/1.1"), {}),
    "HTTP/1.0": (400, request_head(first="GET / HTTP/1.0"), {}),
    "a length of none": (400, request_head("Content-Length: 0"), {}),
    "another length": (400, request_head("Content-Length: 9"), {}),
    "two lengths": (400, request_head("Content-Length: 8", "Content-Length: 9"), {}),
    "a chunked body": (400, request_head("Transfer-Encoding: chunked"), {}),
    "a folded Host": (400, request_head(Host="127.0.0.1\r\n evil"), {}),
    "a bad subprotocol": (400, request_head("Sec-WebSocket-Protocol: a b"), {}),
    "another path": (400, request_head(), {"path": "/chat"}),
    "a foreign origin": (403, request_head("Origin: http://evil.example"), {}),
    "an origin that is not listed": (403, request_head("Origin: http://a"), {"origins": ["http://b"]}),
    "verify_client": (401, request_head(), {"verify_client": lambda info: False}),
    "full": (503, request_head(), {"max_connections": 0}),
}


@pytest.mark.parametrize(("status", "data", "options"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(status: int, data: bytes, options: dict[str, Any]) -> None:
    called: list[Any] = []
    with serving(lambda ws, request: called.append(ws), legacy=True, **options) as server:
        answer = ask(server, data + NONCE + framed("hello"))
        assert answer.status == status
        assert answer.raw.count(b"HTTP/1.1") == 1
    assert called == []


def test_a_refusal_does_not_wait_for_the_last_bytes() -> None:
    with serving(legacy=True) as server:
        assert ask(server, request_head("Origin: http://evil.example")).status == 403


@pytest.mark.parametrize("options", [{}, {"legacy": False}])
def test_it_is_off_unless_asked_for(options: dict[str, Any]) -> None:
    called: list[Any] = []
    with serving(lambda ws, request: called.append(ws), **options) as server:
        for head in (request_head(), request_head(Sec_WebSocket_Key2=None)):
            answer = ask(server, head + NONCE + framed("hello"))
            assert (answer.status, answer.headers["sec-websocket-version"]) == (400, "13, 8")
    assert called == []


@pytest.mark.parametrize("legacy", [None, 1, "yes"])
def test_legacy_is_true_or_false(legacy: Any) -> None:
    with pytest.raises(TypeError, match="legacy must be True or False"):
        world.Server(port=0, legacy=legacy)


def test_origins_are_checked_and_told() -> None:
    infos: list[Any] = []

    def verify(info: Any) -> bool:
        infos.append(info.origin)
        return True

    with serving(legacy=True, verify_client=verify) as server:
        origin = f"http://127.0.0.1:{server.address()[1]}"
        for lines in ([], [f"Origin: {origin}"]):
            host = origin.removeprefix("http://")
            with Hixie.connect(server, *lines, Host=host) as client:
                assert client.headers.get("Sec-WebSocket-Origin") == (origin if lines else None)
                assert client.headers["Sec-WebSocket-Location"] == f"ws://{host}/"
        # The header of version 8 has no meaning here.
        assert ask(server, request_head("Origin: http://evil", f"Sec-WebSocket-Origin: {origin}") + NONCE).status == 403
    assert infos == [None, origin]


def test_a_subprotocol_is_agreed_on() -> None:
    for offered, chosen in (("b", "b"), ("c", "")):
        with joined(f"Sec-WebSocket-Protocol: {offered}", protocols=["a", "b"]) as (ws, client, _):
            assert ws.protocol == client.headers.get("Sec-WebSocket-Protocol", "") == chosen


def test_headers_can_be_changed_before_they_are_sent() -> None:
    held = Held()
    with held.serving() as server:
        server.on("headers", lambda headers, request: headers.add("Set-Cookie", "a=b"))
        with Hixie.connect(server) as client:
            assert client.headers["Set-Cookie"] == "a=b"
            assert held.next().response.headers["Set-Cookie"] == "a=b"


def test_over_tls_the_location_is_wss(server_tls: Any, client_tls: Any) -> None:
    held = Held()
    with held.serving(ssl=server_tls) as server:
        sock = world.raw_connection(server.address())
        wire = secure.Wire(sock, client_tls, server_side=False, host="127.0.0.1").handshake()
        with Hixie.connect(server, "Origin: https://127.0.0.1", sock=wire) as client:
            assert client.headers["Sec-WebSocket-Location"] == "wss://127.0.0.1/"
            ws = held.next()
            client.send("in")
            assert ws.recv(PATIENCE) == "in"
            ws.ping()
            with ws.cork():
                ws.send("", fin=False)
                ws.send("", fin=False)
                ws.send("out")
            ws.send(["o", "", "ver"])
            assert [client.read(), client.read()] == ["out", "over"]
            ws.close()
            client.expect_end()
            assert closed(ws) == [(1000, "", True)]


def test_compression_is_not_for_it() -> None:
    with joined("Sec-WebSocket-Extensions: permessage-deflate", compression=True) as (ws, client, _):
        assert ws.extensions == ""
        ws.send("x" * 5000)
        assert client.read() == "x" * 5000


@pytest.mark.parametrize("cut", range(len(NONCE) + 2))
def test_a_connection_from_elsewhere_may_bring_a_part_of_its_last_bytes(cut: int) -> None:
    fields = {"Host": "a", "Upgrade": "WebSocket", "Connection": "Upgrade"}
    fields.update({"Sec-WebSocket-Key1": KEYS[0], "Sec-WebSocket-Key2": KEYS[1]})
    data = NONCE + framed("hi")
    ours, theirs = world.pair_of_sockets()
    with world.Server(world.echo, no_server=True, legacy=True) as server, theirs:
        serving_it = world.spawn(server.handle_upgrade, Request("GET", "/", fields), ours, data[:cut])
        theirs.sendall(data[cut:])
        client = Hixie(theirs)
        client.expect_answer()
        assert client.read() == "hi"
        theirs.sendall(END)
        client.expect_end(answer=False)
        assert serving_it.result().status == 101


@world.threads_only
def test_beside_an_http_server() -> None:
    class Quiet(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    running = world.spawn(http_server.serve_forever)
    try:
        with world.Server(world.echo, server=http_server, legacy=True):
            for extra in (b"", framed("early")):
                sock = world.raw_connection(http_server.server_address)
                with Hixie.connect(None, extra=extra, sock=sock) as client:
                    client.send("a")
                    assert [client.read() for _ in range(1 + bool(extra))][-1] == "a"
    finally:
        http_server.shutdown()
        http_server.server_close()
        running.result()


# -- messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 100_000, 3 << 20])
def test_texts_of_any_size_go_both_ways(size: int) -> None:
    text = ("grüße, 世界 🎉" * (size // 13 + 1))[:size]
    with serving(legacy=True) as server, Hixie.connect(server) as client:
        sending = world.spawn(client.send, text, "and", text)
        assert [client.read(), client.read(), client.read()] == [text, "and", text]
        sending.result()


def test_many_messages_are_read_in_their_order_by_listeners_too() -> None:
    def listen(ws: Any, request: Any) -> None:
        ws.onmessage = lambda event: ws.send(f"{event.data}, {event.binary}")

    with serving(listen, legacy=True) as server, Hixie.connect(server) as client:
        client.send(*map(str, range(2000)))
        assert [client.read() for _ in range(2000)] == [f"{number}, False" for number in range(2000)]


def test_binary_is_refused_and_the_connection_goes_on() -> None:
    with joined() as (ws, client, _):
        for data in (b"x", bytearray(b"x"), [b"x"], b""):
            with pytest.raises(TypeError, match=r"supports\.binary"):
                ws.send(data)
        with pytest.raises(TypeError, match=r"supports\.binary"):
            ws.send("x", binary=True)
        with pytest.raises(ValueError, match="0xff"):
            ws.send(b"\xff", binary=False)
        ws.send(b"bytes", binary=False)
        ws.send("text")
        assert [client.read(), client.read()] == ["bytes", "text"]


def test_a_message_in_fragments_is_one_frame() -> None:
    with joined() as (ws, client, _):
        ws.send("a", fin=False)
        ws.send("", fin=False)
        ws.send("b")
        ws.send(iter(["c", "", "d"]))
        ws.send(["", ""])
        assert [client.read(), client.read(), client.read()] == ["ab", "cd", ""]


def test_a_message_that_cannot_be_completed_ends_the_connection() -> None:
    def pieces() -> Any:
        yield "begun"
        raise KeyError("oops")

    with joined() as (ws, client, _):
        with pytest.raises(KeyError):
            ws.send(pieces())
        assert client.read() == "begun"
        client.expect_end()
        assert ws.wait_closed(PATIENCE)


def test_fragments_come_as_one_piece() -> None:
    with joined() as (ws, client, _):
        client.sock.sendall(b"\x00gr\xc3")
        streaming = world.spawn(lambda: list(ws.recv_stream()))
        client.sock.sendall(b"\xbc\xc3\x9fe\xff")
        assert streaming.result() == ["grüße"]


def test_what_is_corked_leaves_at_the_end() -> None:
    with joined() as (ws, client, _):
        with ws.cork():
            for number in range(10):
                ws.send(str(number))
            assert ws.bufferedAmount == 30
        assert [client.read() for _ in range(10)] == [str(number) for number in range(10)]


@pytest.mark.usefixtures("quick_ticks")
def test_there_are_no_pings_and_none_are_missed() -> None:
    with joined(ping_interval=0.05, ping_timeout=0.05) as (ws, client, server):
        ws.ping(b"x")
        ws.pong()
        with pytest.raises(ValueError, match="125"):
            ws.ping(b"x" * 126)
        with Peer.connect(server):  # which is as silent, and could answer
            world.eventually(lambda: len(server.clients) == 2)
            world.eventually(lambda: len(server.clients) == 1)
        assert ws.readyState == ws.OPEN
        ws.send("still there")
        assert client.read() == "still there"
        assert (ws.bytes_sent, ws.latency) == (len(framed("still there")), None)


def test_a_paused_client_is_held_back_and_goes_on() -> None:
    with joined() as (ws, client, _):
        ws.pause()
        client.send("a", "b")
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0.05)
        ws.resume()
        assert [ws.recv(PATIENCE), ws.recv(PATIENCE)] == ["a", "b"]


# -- broadcasts -------------------------------------------------------------------------------------------


def test_a_broadcast_reaches_old_and_new_clients_alike() -> None:
    held = Held()
    with held.serving(compression=True) as server:
        offer = "Sec-WebSocket-Extensions: permessage-deflate"
        with Hixie.connect(server) as old, Peer.connect(server) as new, Peer.connect(server, "/", offer) as other:
            held.next(3)
            for text in ("grüße", "x" * 5000):
                server.broadcast(text)
                assert old.read() == text
                assert new.read().payload == text.encode()
                assert other.read().rsv == (4 if len(text) > 1024 else 0)


def test_a_binary_broadcast_passes_over_who_cannot_take_it() -> None:
    held = Held()
    with held.serving() as server, Hixie.connect(server) as old, Peer.connect(server) as new:
        held.next(2)
        server.broadcast(b"\xff\x00")
        server.broadcast("text")
        assert (new.read().payload, new.read().payload) == (b"\xff\x00", b"text")
        assert old.read() == "text"


def test_a_broadcast_waits_for_the_end_of_a_message() -> None:
    with joined() as (ws, client, server):
        ws.send("a", fin=False)
        server.broadcast("for all")
        ws.send("b")
        assert [client.read(), client.read()] == ["ab", "for all"]


# -- the end ----------------------------------------------------------------------------------------------


def test_their_end_is_answered() -> None:
    with joined() as (ws, client, _):
        client.send("last")
        client.sock.sendall(END)
        assert list(ws) == ["last"]
        client.expect_end(answer=False)
        assert closed(ws) == [(1000, "", True)]


@pytest.mark.parametrize(("code", "reason"), [(None, ""), (1000, ""), (1001, "so long"), (4999, "x" * 123)])
def test_our_close_has_no_code_on_the_wire(code: int | None, reason: str) -> None:
    with joined() as (ws, client, _):
        ws.close(code, reason)
        with pytest.raises(ConnectionClosed):
            ws.send("too late")
        client.expect_end()
        assert closed(ws) == [(1000, "", True)]


def test_a_close_ends_an_open_message_first() -> None:
    with joined() as (ws, client, _):
        ws.send("open", fin=False)
        ws.close()
        assert client.read() == "open"
        client.expect_end()


def test_a_handler_that_returns_ends_the_connection() -> None:
    def once(ws: Any, request: Any) -> None:
        ws.send(ws.recv())

    with serving(once, legacy=True) as server, Hixie.connect(server) as client:
        client.send("a")
        assert client.read() == "a"
        client.expect_end()


def test_a_server_that_closes_ends_all() -> None:
    with (
        serving(lambda ws, request: ws.wait_closed(), legacy=True) as server,
        Hixie.connect(server) as old,
        Peer.connect(server) as new,
    ):
        world.eventually(lambda: len(server.clients) == 2)
        closing = world.spawn(server.close)
        old.expect_end()
        new.expect_close(1001)
        new.close()
        closing.result()


def test_an_end_of_the_stream_alone_is_1006() -> None:
    for begun in (b"", b"\x00half", b"\xff"):
        with joined() as (ws, client, _):
            client.sock.sendall(begun)
            client.close()
            assert closed(ws) == [(1006, "", False)]


def test_a_close_that_is_not_answered_is_dropped() -> None:
    with joined(close_timeout=0.2) as (ws, client, _):
        ws.close()
        client.expect_end(answer=False)
        assert closed(ws) == [(1006, "", False)]


VIOLATIONS: dict[str, tuple[bytes, type[ProtocolError]]] = {
    "binary": (b"\x80\x05hello", ProtocolError),
    "a length without end": (b"\x80" + b"\xff" * (1 << 20), ProtocolError),
    "no UTF-8": (framed(b"\xc3("), InvalidData),
    "too long a text": (framed("x" * 1001), MessageTooBig),
    "a text without end": (b"\x00" + b"x" * (1 << 20), MessageTooBig),
    "a frame of the RFC": (b"\x81\x80\0\0\0\0", ProtocolError),
    "half an end": (b"\xff\x01", ProtocolError),
}


@pytest.mark.parametrize(("data", "error"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_ends_the_connection(data: bytes, error: type[ProtocolError]) -> None:
    errors: list[Any] = []
    with joined(max_payload=1000) as (ws, client, server):
        ws.onerror = lambda event: errors.append(event.error)
        client.send("before")
        with contextlib.suppress(ConnectionError):
            client.sock.sendall(data + framed("behind"))
        assert ws.recv(PATIENCE) == "before"
        with pytest.raises(ConnectionClosed):
            ws.recv(PATIENCE)
        client.expect_end(answer=False)
        assert closed(ws) == [(1006, "", False)]
        assert [type(found) for found in errors] == [error]
        with Hixie.connect(server) as other:
            other.send("served")


def test_a_flood_of_tiny_messages_is_held_back() -> None:
    held = Held()
    with held.serving(max_queue=4) as server, Hixie.connect(server) as client:
        ws = held.next()
        client.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                client.sock.sendall(framed("") * 50_000)
        assert len(ws._inbox) < 50_000
        ws.terminate()


# -- modern ones beside them ------------------------------------------------------------------------------


def test_modern_clients_are_served_as_ever() -> None:
    with serving(legacy=True) as server:
        assert is_served(server)
        with Peer.connect(server) as peer:
            peer.send(BINARY, b"\xff\x00")
            assert peer.read().payload == b"\xff\x00"
            peer.send(PING, b"x")
            assert peer.read().payload == b"x"
            peer.send(TEXT, b"a")
            assert peer.read().payload == b"a"
        # One who has the keys of both is taken for what it is: its body would be somebody else's frames.
        with Peer.connect(server, "/", f"Sec-WebSocket-Key1: {KEYS[0]}", f"Sec-WebSocket-Key2: {KEYS[1]}") as peer:
            peer.send(TEXT, b"a")
            assert peer.read().payload == b"a"


def test_a_refusal_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), serving(legacy=True) as server:
        raw = ask(server, request_head("Origin: http://evil\x1b.example") + NONCE).raw
        assert parse(raw).status == 400
        assert ask(server, request_head("Origin: http://evil.example") + NONCE).status == 403
    lines = [record.getMessage() for record in caplog.records if record.name == "syncws"]
    assert len(lines) == 2
    assert "origins=['http://evil.example'] would let it in" in lines[1]
