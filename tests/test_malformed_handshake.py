"""Malformed handshakes: bad answers to a `Socket`, bad requests to a `Server`; what is logged and sent back of them."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
import world
from peer import TEXT, Peer, accept_of
from raw import ask, connection, head, is_served, parse, read_to_end
from test_malformed import assert_discreet
from world import Socket, serving

from syncws import HandshakeError, WebSocketError

# -- bad answers ------------------------------------------------------------------------------------------

UPGRADE = ("Upgrade: websocket", "Connection: Upgrade")
GOOD = (*UPGRADE, "Sec-WebSocket-Accept: {accept}")
SWITCHING = "HTTP/1.1 101 Switching Protocols"


def answer(*lines: str, first: str = SWITCHING) -> str:
    return "\r\n".join([first, *lines, "", ""])


ANSWERS = {
    "nothing": "",
    "half a status line": "HTTP/1.1 1",
    "half a head": answer(*GOOD)[:-2],
    "garbage": "garbage\r\n\r\n",
    "a frame": "\x81\x05hello",
    "another protocol": answer(*GOOD, first="SMTP/1.1 101 Switching Protocols"),
    "no status": answer(*GOOD, first="HTTP/1.1 Switching"),
    "a status of two digits": answer(*GOOD, first="HTTP/1.1 10 Switching"),
    "200": answer("Content-Length: 2", first="HTTP/1.1 200 OK") + "hi",
    "200 without end": answer(first="HTTP/1.1 200 OK") + "x" * 100000,
    "302": answer("Location: /x", "Content-Length: 0", first="HTTP/1.1 302 Found"),
    "401": answer("Content-Length: 0", first="HTTP/1.1 401 Unauthorized"),
    "500 with a short body": answer("Content-Length: 10", first="HTTP/1.1 500 Oops") + "hi",
    "no Upgrade": answer("Connection: Upgrade", "Sec-WebSocket-Accept: {accept}"),
    "another Upgrade": answer("Upgrade: h2c", "Connection: Upgrade", "Sec-WebSocket-Accept: {accept}"),
    "two Upgrades": answer("Upgrade: websocket, h2c", "Connection: Upgrade", "Sec-WebSocket-Accept: {accept}"),
    "no Connection": answer("Upgrade: websocket", "Sec-WebSocket-Accept: {accept}"),
    "another Connection": answer("Upgrade: websocket", "Connection: close", "Sec-WebSocket-Accept: {accept}"),
    "no Accept": answer(*UPGRADE),
    "an empty Accept": answer(*UPGRADE, "Sec-WebSocket-Accept:"),
    "the key itself": answer(*UPGRADE, "Sec-WebSocket-Accept: {key}"),
    "Accept in the wrong case": answer(*UPGRADE, "Sec-WebSocket-Accept: {swapped}"),
    "Accept with more behind": answer(*UPGRADE, "Sec-WebSocket-Accept: {accept}x"),
    "two Accepts": answer(*GOOD, "Sec-WebSocket-Accept: {accept}"),
    "a subprotocol nobody asked for": answer(*GOOD, "Sec-WebSocket-Protocol: chat"),
    "an empty subprotocol": answer(*GOOD, "Sec-WebSocket-Protocol:"),
    "an extension nobody asked for": answer(*GOOD, "Sec-WebSocket-Extensions: x-nonsense"),
    "an extension that breaks the grammar": answer(*GOOD, "Sec-WebSocket-Extensions: permessage-deflate;;"),
    "an extension twice": answer(*GOOD, "Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate"),
    "a parameter nobody knows": answer(*GOOD, "Sec-WebSocket-Extensions: permessage-deflate; x=1"),
    "a window too large": answer(*GOOD, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=16"),
    "a window too small": answer(*GOOD, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7"),
    "a window without a value": answer(*GOOD, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits"),
    "NUL in a value": answer(*GOOD, "A: b\0c"),
    "escape in a value": answer(*GOOD, "A: \x1b[2J"),
    "lone LF": answer(*GOOD).replace("\r\n", "\n"),
    "a blank before the colon": answer(*GOOD, "A : b"),
    "a line without colon": answer(*GOOD, "nonsense"),
    "a long line": answer(*GOOD, "A: " + "b" * 100000),
    "lines without end": answer(*GOOD, *["A: b"] * 20000),
    "informational answers without end": answer(first="HTTP/1.1 103 Early Hints") * 5000,
}  # fmt: skip


def answer_with(listener: Any, text: str) -> None:
    """Play a server that answers the next handshake with `text`."""
    sock, _ = listener.accept()
    with sock:
        sock.settimeout(world.PATIENCE)
        peer = Peer(sock, client=False)
        peer.head = peer.read_head()
        accept = accept_of(peer.request_key()).decode()
        key = peer.request_key().decode()
        text = text.replace("{accept}", accept).replace("{swapped}", accept.swapcase()).replace("{key}", key)
        try:
            sock.sendall(text.encode("latin-1"))
            sock.shutdown(1)
            read_to_end(sock)
        except OSError:
            pass  # the client has left


@pytest.mark.parametrize("text", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_bad_answer_raises(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), world.raw_listener() as listener:
        serving = world.spawn(answer_with, listener, text)
        with pytest.raises(HandshakeError) as caught:
            Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        serving.result()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert_discreet(caplog)


@pytest.mark.parametrize("name", ["nothing", "garbage", "401", "no Upgrade", "the key itself", "a long line"])
def test_a_bad_answer_is_error_and_then_close_1006(name: str) -> None:
    told: list[Any] = []
    with world.raw_listener() as listener:
        serving = world.spawn(answer_with, listener, ANSWERS[name])
        ws = Socket(
            f"ws://127.0.0.1:{listener.getsockname()[1]}/",
            blocking=False,
            onopen=told.append,
            onmessage=told.append,
            onerror=lambda event: told.append((type(event.error), event.target.readyState)),
            onclose=lambda event: told.append((event.code, event.reason, event.wasClean, event.target.readyState)),
        )
        assert ws.wait_closed(world.PATIENCE)
        serving.result()
    assert told == [(HandshakeError, Socket.CLOSING), (1006, "", False, Socket.CLOSED)]


@pytest.mark.parametrize("chosen", [None, "", "c", "A", "a, b"])
def test_a_bad_subprotocol_raises(chosen: str | None) -> None:
    lines = [] if chosen is None else [f"Sec-WebSocket-Protocol: {chosen}"]
    with world.raw_listener() as listener:
        serving = world.spawn(answer_with, listener, answer(*GOOD, *lines))
        with pytest.raises(WebSocketError):
            Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", ["a", "b"])
        serving.result()


def test_the_answers_are_bad_for_what_they_say() -> None:
    with world.raw_listener() as listener:
        for text in (answer(*GOOD), answer(first="HTTP/1.1 103 Early Hints") + answer(*GOOD, "A: b")):
            serving = world.spawn(answer_with, listener, text)
            Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/").terminate()
            serving.result()


# -- bad requests: what is made of them -------------------------------------------------------------------

CANARIES = {
    "plain": "CaNaRy",
    "markup": "<script>CaNaRy</script>",
    "escape": "CaNaRy\x1b[31m",
    "C1": "CaNaRy\x9b31m",
    "format": "CaNaRy%s%n{0}",
    "percent": "CaNaRy%0d%0aX: y",
    "quotes": "CaNaRy'\"&",
    "long": "CaNaRy" + "x" * 3000,
}


def bad_requests(canary: str) -> list[bytes]:
    """Requests that are refused, each with the canary in another place."""
    h2c: dict[str, Any] = {"Upgrade": "h2c"}
    token = "CaNaRy" if canary.startswith("CaNaRy") else "X"
    return [
        canary.encode("latin-1") + b"\r\n\r\n",
        head(first=f"{canary} / HTTP/1.1"),
        head(first=f"{token} / HTTP/1.1"),
        head(first=f"GET /{canary} HTTP/1.1", **h2c),
        head(first=f"GET /?token={canary} HTTP/1.1", **h2c),
        head(first=f"GET / {canary}"),
        head(Host=f"{canary} x"),
        head(Upgrade=canary),
        head(Connection=canary),
        head(Sec_WebSocket_Key=canary),
        head(Sec_WebSocket_Version=canary),
        head(f"Sec-WebSocket-Protocol: {canary},,"),
        head(f"Sec-WebSocket-Extensions: {canary},,"),
        head(f"Cookie: {canary}", **h2c),
        head(f"Authorization: Basic {canary}", **h2c),
        head(f"Proxy-Authorization: {canary}", **h2c),
        head(f"{canary}: a", **h2c),
        head(f"Content-Length: {canary}"),
        head("Content-Length: 9") + canary.encode("latin-1"),
    ]


@pytest.mark.parametrize("canary", CANARIES.values(), ids=CANARIES.keys())
def test_nothing_of_a_bad_request_is_echoed(canary: str, caplog: pytest.LogCaptureFixture) -> None:
    requests = bad_requests(canary)
    with caplog.at_level(logging.DEBUG), serving() as server:
        for data in requests:
            got = ask(server, data)
            assert 400 <= got.status < 500, data
            assert b"CaNaRy" not in got.raw, data
            assert got.raw.isascii()
        assert is_served(server)
    assert_discreet(caplog)
    assert len([record for record in caplog.records if "refused" in record.getMessage()]) == len(requests)


@pytest.mark.parametrize("name", sorted({*CANARIES} - {"escape"}))  # which is refused before it is an origin
def test_a_foreign_origin_is_shown_in_the_log_escaped_and_cut(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serving() as server:
        got = ask(server, head(f"Origin: http://{CANARIES[name]}"))
        assert (got.status, got.body) == (403, b"this origin is not allowed\n")
    assert_discreet(caplog, b"\x00")
    assert "CaNaRy" in caplog.text


def test_what_a_peer_says_in_its_close_is_logged_escaped(caplog: pytest.LogCaptureFixture) -> None:
    ended = world.Event()

    def accept(ws: Any, request: Any) -> None:
        try:
            ws.recv()
        finally:
            ended.set()

    with caplog.at_level(logging.DEBUG), serving(accept) as server:
        with Peer.connect(server) as peer:
            peer.send(8, b"\x0f\xa0\n\x1b[31m\xe2\x80\xae" + b"\xf0\x9f\x98\x80" * 28)
            peer.expect_close(4000, answer=False)
        assert ended.wait(world.PATIENCE)
    assert_discreet(caplog)


def test_payloads_never_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serving() as server:
        with Peer.connect(server, "/?token=CaNaRy", "Cookie: a=CaNaRy", "Authorization: CaNaRy") as peer:
            for opcode in (TEXT, 2, 9, 10):
                peer.send(opcode, b"CaNaRy")
            peer.send(8, b"\x03\xe8")
            peer.read_all()
        Peer.connect(server, "/?token=CaNaRy").reset()
        sock = connection(server)
        sock.sendall(head("Cookie: CaNaRy")[:-1])
        sock.close()
        world.eventually(lambda: server._arrivals.unfinished == 0)
    assert_discreet(caplog)


# -- what must not take long, nor memory -------------------------------------------------------------------

SLOW = {
    "blanks in a subprotocol": head("Sec-WebSocket-Protocol: a" + " " * 7000 + "b"),
    "commas in a subprotocol": head("Sec-WebSocket-Protocol: " + "," * 7000),
    "blanks in an extension": head("Sec-WebSocket-Extensions: a" + "; " * 3000),
    "an open quote": head('Sec-WebSocket-Extensions: a; b="' + "\\c" * 3500),
    "many parameters": head("Sec-WebSocket-Extensions: a" + "; b" * 2000 + ";"),
    "names of attributes": head("Sec-WebSocket-Extensions: __class__; __init__=constructor, "),
    "blanks in Connection": head(Connection="a" + " " * 7000 + "b"),
    "a long Host": head(Host="a" * 7000),
    "an Origin of colons": head("Origin: " + ":" * 7000),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("data", SLOW.values(), ids=SLOW.keys())
def test_headers_that_are_slow_elsewhere(data: bytes) -> None:
    with serving() as server:
        start = time.process_time()
        assert 400 <= ask(server, data).status < 500
        assert time.process_time() - start < 0.5
        assert is_served(server)


def test_a_body_is_never_served_as_a_request_or_as_frames() -> None:
    smuggled = [b"\x81\x82\0\0\0\0hi", head(), b"0\r\n\r\n" + head()]
    with serving() as server:
        for body in smuggled:
            for line in (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked", "Content-Length: 1"):
                with connection(server) as sock:
                    sock.sendall(head(line) + body)
                    raw = read_to_end(sock)
                assert parse(raw).status == 400
                assert raw.count(b"HTTP/1.1 ") == 1
