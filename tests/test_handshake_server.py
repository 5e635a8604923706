"""The server's side of the handshake: what is read, what is refused and how, what is agreed."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws import url
from syncws.deflate import Deflate
from syncws.errors import HandshakeError
from syncws.exchange import Request, Response
from syncws.handshake import Agreed
from syncws.handshake_client import ClientHandshake
from syncws.handshake_server import (
    COUNT_LIMIT,
    LINE_LIMIT,
    TARGET_LIMIT,
    ServerHandshake,
    accept_response,
    check,
    negotiate,
    normal_origin,
    origin_allowed,
    refusal,
    response_bytes,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = {
    "Host": "h",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
FRAME = b"\x81\x82\r\n\r\n\x00\x7f"


def request_of(
    *further: tuple[str, str], method: str = "GET", target: str = "/", **replaced: str | None
) -> Request:
    """A request that fits, with headers replaced or (None) left out, `_` for `-`, and further ones."""
    fields: dict[str, str | None] = dict(FIELDS)
    fields.update({name.replace("_", "-"): value for name, value in replaced.items()})
    kept = [(name, value) for name, value in fields.items() if value is not None]
    return Request(method, target, [*kept, *further])


def head_of(*lines: str, first: str = "GET / HTTP/1.1") -> bytes:
    own = [f"{name}: {value}" for name, value in FIELDS.items()]
    return "\r\n".join([first, *own, *lines, "", ""]).encode("latin-1")


def refused(status: int, *pieces: bytes, **options: Any) -> HandshakeError:
    """What reading, then checking and negotiating, the pieces raises."""
    with pytest.raises(HandshakeError) as caught:
        judge(list(pieces), **options)
    assert caught.value.status == status
    assert str(caught.value).isprintable()
    return caught.value


def judge(pieces: list[bytes], **options: Any) -> Agreed:
    server = ServerHandshake(**options)
    *unfinished, last = pieces
    for piece in unfinished:
        assert server.receive(piece) is None
    request = server.receive(last)
    assert request is not None
    check(request)
    return negotiate(request)


def failure(head: bytes) -> HandshakeError | None:
    try:
        judge([head])
    except HandshakeError as error:
        return error
    return None


# Reading the request --------------------------------------------------------------------------------------


def test_a_request_is_read_whole_byte_by_byte_and_with_a_tail() -> None:
    data = head_of("Cookie: a=b", "X: \xe9", "x: 2", first="GET /chat?a=b HTTP/1.1")
    for tail in (b"", FRAME):
        server = ServerHandshake(secure=True, remote_address=("::1", 5))
        request = server.receive(data + tail)
        assert request is not None
        assert (request.method, request.target, request.path) == ("GET", "/chat?a=b", "/chat")
        assert request.query == {"a": ["b"]}
        assert request.headers.get_all("X") == ["\xe9", "2"]
        assert (request.secure, request.remote_address) == (True, ("::1", 5))
        assert server.leftover == tail
        check(request)
    server = ServerHandshake()
    *pieces, last = [bytes([byte]) for byte in data]
    for piece in pieces:
        assert server.receive(piece) is None
    assert server.receive(last) is not None
    assert server.leftover == b""


@given(st.lists(st.integers(0, 170), max_size=5))
def test_a_request_does_not_depend_on_the_pieces(cuts: list[int]) -> None:
    stream = head_of() + FRAME
    server = ServerHandshake()
    for start, end in pairwise([0, *sorted(cuts), len(stream)]):
        if start < end and server.receive(stream[start:end]):
            break
    assert server.leftover + stream[end:] == FRAME


@pytest.mark.parametrize("pieces", [[], [b"G"], [head_of()[:-1]]])
def test_end_of_file_before_the_request_has_no_status(pieces: list[bytes]) -> None:
    server = ServerHandshake()
    for piece in pieces:
        assert server.receive(piece) is None
    with pytest.raises(HandshakeError) as caught:
        server.receive(b"")
    assert caught.value.status is None
    with pytest.raises(ValueError, match="nobody"):
        refusal(caught.value)


MALFORMED = {
    "nothing": b"\r\n\r\n",
    "an empty line in front": b"\r\n" + head_of(),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a frame": b"\x81\x85abcd\x00\x00\x00\x00",
    "a PROXY header": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + head_of(),
    "a blank in the target": head_of(first="GET /a b HTTP/1.1"),
    "two blanks": head_of(first="GET  / HTTP/1.1"),
    "a tab": head_of(first="GET\t/ HTTP/1.1"),
    "a blank at the end": head_of(first="GET / HTTP/1.1 "),
    "a target beyond ASCII": head_of(first="GET /\xe9 HTTP/1.1"),
    "a method that is no token": head_of(first="G(T / HTTP/1.1"),
    "no target": head_of(first="GET HTTP/1.1"),
    "lower case": head_of(first="GET / http/1.1"),
    "a version of two digits": head_of(first="GET / HTTP/1.10"),
    "a version beyond ASCII": head_of(first="GET / HTTP/1.\xb9"),
    "HTTP/1.0": head_of(first="GET / HTTP/1.0"),
    "lone LF": head_of().replace(b"\r\n", b"\n"),
    "one lone LF": head_of().replace(b"h\r\n", b"h\n", 1),
    "LF in a value": head_of("A: b\nTransfer-Encoding: chunked"),
    "lone CR": head_of("A: b\rC: d"),
    "NUL in a value": head_of("A: b\x00c"),
    "NUL in a name": head_of("A\x00: b"),
    "escape in a value": head_of("A: \x1b[2J"),
    "escape in the target": head_of(first="GET /\x1b[2J HTTP/1.1"),
    "DEL in a value": head_of("A: \x7f"),
    "a vertical tab before the colon": head_of("Content-Length\x0b: 5"),
    "a folded value": head_of("A: b", " c"),
    "a folded value by tab": head_of("A: b", "\tContent-Length: 5"),
    "a fold in front": b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    "a fold of blanks only": head_of("  "),
    "a blank before the colon": head_of("Transfer-Encoding : chunked"),
    "no colon": head_of("nonsense"),
    "no name": head_of(": b"),
    "a quoted name": head_of('"A": b'),
    "a name beyond ASCII": head_of("\xe9: b"),
    "no host": b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    "two hosts": head_of("Host: h"),
    "two lengths": head_of("Content-Length: 0", "Content-Length: 5"),
    "two lengths in one": head_of("Content-Length: 0, 5"),
    "a negative length": head_of("Content-Length: -1"),
    "a signed length": head_of("Content-Length: +0"),
    "a length in hexadecimal": head_of("Content-Length: 0x0"),
    "a length beyond ASCII": head_of("Content-Length: \xb2"),
    "a length without end": head_of("Content-Length: " + "0" * 100),
    "an empty length": head_of("Content-Length:"),
    "a coding nobody knows": head_of("Transfer-Encoding: xchunked"),
    "two codings": head_of("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    "two codings in one": head_of("Transfer-Encoding: gzip, chunked"),
    "a coding behind a tab": head_of("Transfer-Encoding:\tchunked"),
    "an empty coding": head_of("Transfer-Encoding:"),
    "a chunked body": head_of("Transfer-Encoding: chunked") + b"0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
    "a body": head_of("Content-Length: 5") + b"hello",
    "a body of a length of zeros": head_of("Content-Length: 00"),
    "both": head_of("Content-Length: 0", "Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_heads_are_refused_whole_byte_by_byte_and_with_a_tail(data: bytes) -> None:
    for pieces in ([data], [data + FRAME]):
        error = refused(400, *pieces)
        assert len(str(error)) < 100
    server = ServerHandshake()
    with pytest.raises(HandshakeError) as caught:
        for byte in data:
            if request := server.receive(bytes([byte])):
                check(request)
    assert caught.value.status == 400


@pytest.mark.parametrize("version", ["2.0", "3.0", "9.9"])
def test_another_major_version_is_505(version: str) -> None:
    refused(505, head_of(first=f"GET / HTTP/{version}"))


def test_an_http_2_preface_is_505() -> None:
    refused(505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def test_a_later_minor_version_is_taken() -> None:
    judge([head_of(first="GET / HTTP/1.2")])


def test_a_length_of_zero_is_no_body() -> None:
    judge([head_of("Content-Length: 0", "Content-Length: 0")])


def test_too_long_a_target_is_414() -> None:
    judge([head_of(first=f"GET /{'a' * (TARGET_LIMIT - 1)} HTTP/1.1")])
    refused(414, head_of(first=f"GET /{'a' * TARGET_LIMIT} HTTP/1.1"))
    refused(414, b"GET /" + b"a" * 16384)
    refused(414, b"GET /" + b"a" * 1024, max_header_size=1024)


def test_too_long_a_line_is_431() -> None:
    judge([head_of("A: " + "b" * (LINE_LIMIT - 3))])
    refused(431, head_of("A: " + "b" * (LINE_LIMIT - 2)))


def test_too_many_lines_are_431_repeated_or_not() -> None:
    room = COUNT_LIMIT - len(FIELDS)
    for lines in (["A: b"] * (room + 1), [f"A{index}: b" for index in range(room + 1)]):
        judge([head_of(*lines[1:])])
        refused(431, head_of(*lines))


def test_too_large_a_head_is_431_at_the_limit() -> None:
    size = len(head_of("A: "))
    for limit in (1000, 16384):
        filled = head_of(*(["A: " + "b" * 4000] * ((limit - size) // 5000)))
        data = head_of(*filled.decode().split("\r\n")[6:-2], "A: " + "b" * (limit - len(filled) - 5))
        assert len(data) == limit
        judge([data + FRAME], max_header_size=limit)
        refused(431, data[:-4] + b"b\r\n\r\n", max_header_size=limit)
        refused(431, data[:-4] + b"bbbb", max_header_size=limit)


BOMBS = {
    "a target without end": (414, b"GET /" + b"a" * (1 << 20)),
    "a value without end": (431, b"GET / HTTP/1.1\r\nA: " + b"b" * (1 << 20)),
    "a name without end": (431, b"GET / HTTP/1.1\r\n" + b"b" * (1 << 20)),
    "blanks without end": (431, b"GET / HTTP/1.1\r\nA: b" + b" \t" * (1 << 19)),
    "lines without end": (431, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (1 << 18)),
    "a whole head of lines": (431, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (1 << 18) + b"\r\n"),
    "folds without end": (431, b"GET / HTTP/1.1\r\nA: b" + b"\r\n c" * (1 << 18)),
}


@pytest.mark.parametrize("size", [1 << 20, 65536, 1])
@pytest.mark.parametrize(("status", "data"), BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused_at_the_limit_in_linear_time(status: int, data: bytes, size: int) -> None:
    start = time.process_time()
    taken = 0
    server = ServerHandshake(max_header_size=65536)
    with pytest.raises(HandshakeError) as caught:
        for taken in range(0, len(data), size):
            server.receive(data[taken : taken + size])
    assert caught.value.status == status
    assert taken <= 65536
    # Measured: 0.2 s.
    assert time.process_time() - start < 5


LETTERS = "aZ0-_:/ \t\r\n,;\"\0\x7f\x80\xe9\xff"
NAMES = st.sampled_from(["Host", "host", "X", "Upgrade", "Content-Length", "Transfer-Encoding", "Expect", "Connection"])
VALUES = st.sampled_from(["h", "", " \t", "0", "1, 1", "chunked", "100-continue", "close", "\xe9", "a  b"])
LINES = st.tuples(NAMES | st.text(LETTERS, max_size=4), st.sampled_from([": ", ":", ":\t ", " :"]), VALUES).map("".join)
STARTS = st.sampled_from(
    ["GET / HTTP/1.1", "GET /x?y HTTP/1.0", "GET  / HTTP/1.1", "POST / HTTP/1.1", "GET / HTTP/2.0", "get / HTTP/1.1"]
)


def outcome(*pieces: bytes) -> object:
    """What a server makes of a head, in a form that can be compared."""
    server = ServerHandshake(max_header_size=300)
    try:
        request = None
        for piece in pieces:
            request = request or server.receive(piece)
    except HandshakeError as error:
        return error.status, str(error)
    if request is None:
        return None
    assert all(name in request.headers for name, _ in request.headers.items())
    return request.method, request.target, list(request.headers.items()), server.leftover


@given(STARTS, st.lists(LINES | st.text(LETTERS, max_size=8), max_size=6), st.integers(0, 400), st.data())
def test_a_head_that_came_at_once_is_read_as_h11_reads_it(first: str, lines: list[str], cut: int, data: Any) -> None:
    sound = ["Host: h", *lines] if data.draw(st.booleans()) else lines
    head = "\r\n".join([first, *sound, "", ""]).encode("latin-1")
    # Of one that came in pieces all is left to h11.
    assert outcome(head) == outcome(head[:1], head[1:])
    assert cut < 2 or outcome(head[:cut]) == outcome(head[:1], head[1:cut])


@pytest.mark.parametrize(
    "head",
    [
        head_of(),
        head_of("Cookie: a=b; c=d", 'X: "quoted", (comment)', "Y:", "Z:\t z \t"),
        head_of(first="GET http://h/%C3%A9?a=b#c HTTP/1.1"),
        head_of("Content-Length: 0"),
        head_of("content-length: 1"),
        head_of("Transfer-Encoding: chunked"),
        head_of("Host: h"),
        head_of("X: \xe9"),
        head_of("X : y"),
        head_of("X: a\r b"),
        head_of("X: a\r\n b"),
        head_of("X: a\nY: b"),
        head_of("X: " + "x" * 200),
        head_of(*["X: y"] * 60),
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
        b"\r\n" + head_of(),
    ],
    ids=lambda head: repr(head[-40:]),
)
def test_what_a_plain_head_is_makes_no_difference(head: bytes) -> None:
    stream = head + FRAME
    assert outcome(stream) == outcome(stream[:1], stream[1:])


@given(st.binary(max_size=200), st.sampled_from([b"", b"GET / HTTP/1.1\r\n", head_of()[:-2]]))
def test_any_bytes_end_in_a_request_or_in_handshake_error(data: bytes, start: bytes) -> None:
    try:
        judge([start + data + b"\r\n\r\n"])
    except HandshakeError as error:
        assert error.status in (400, 405, 426, 505)
        response_bytes(refusal(error))


# Checking it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        request_of(),
        request_of(Upgrade="WebSocket", Connection="keep-alive, UPGRADE"),
        request_of(("connection", "upgrade"), Connection="keep-alive"),
        request_of(Host="[::1]:8765"),
        request_of(Host="H.example:"),
        request_of(target="http://H/a?b", Host="h"),
        request_of(target="//a"),
        request_of(("Origin", "null")),
        request_of(("Content-Length", "0")),
        # The example of RFC 6455 section 4.1, whose last letter is not what an encoder would write.
        request_of(Sec_WebSocket_Key="AQIDBAUGBwgJCgsMDQ4PEC=="),
    ],
)
def test_what_is_a_websocket_handshake(request_: Request) -> None:
    check(request_)


@pytest.mark.parametrize(
    ("status", "request_", "text"),
    [
        (426, request_of(Upgrade=None, Connection=None), "an upgrade is required"),
        (426, request_of(Upgrade=None), "an upgrade is required"),
        (426, request_of(Upgrade=None, Connection="keep-alive"), "an upgrade is required"),
        (426, request_of(Connection=None), "an upgrade is required"),
        (426, request_of(method="POST", Upgrade=None), "an upgrade is required"),
        (405, request_of(method="POST"), "the method"),
        (405, request_of(method="get"), "the method"),
        (405, request_of(method="HEAD", Upgrade="x"), "the method"),
        (405, request_of(("Content-Length", "5"), method="PUT"), "the method"),
        (400, request_of(("Content-Length", "5")), "no body"),
        (400, request_of(("Content-Length", "")), "no body"),
        (400, request_of(("Content-Length", "0"), ("Content-Length", "1")), "no body"),
        (400, request_of(("Transfer-Encoding", "")), "no body"),
        (400, request_of(Host=None), "Host must be there once"),
        (400, request_of(("host", "h")), "Host must be there once"),
        (400, request_of(Host=""), "Host must be a host"),
        (400, request_of(Host="a b"), "Host must be a host"),
        (400, request_of(Host="a@b"), "Host must be a host"),
        (400, request_of(Host="a/b"), "Host must be a host"),
        (400, request_of(Host="a,b"), "Host must be a host"),
        (400, request_of(Host="h:99999"), "Host must be a host"),
        (400, request_of(Host="h:\xb2"), "Host must be a host"),
        (400, request_of(Host="%ff%fe"), "Host must be a host"),
        (400, request_of(Host="::1"), "Host must be a host"),
        (400, request_of(Host="[::1"), "Host must be a host"),
        (400, request_of(Host="a" * 5000), "Host must be a host"),
        (400, request_of(target="*"), "the request target"),
        (400, request_of(target="h:80"), "the request target"),
        (400, request_of(target="a"), "the request target"),
        (400, request_of(target="/a#b"), "the request target"),
        (400, request_of(target="http://h#/b"), "the request target"),
        (400, request_of(target="http://evil/"), "Host must be the one"),
        (400, request_of(target="http://h@evil/"), "Host must be the one"),
        (400, request_of(target="http:///"), "Host must be the one"),
        (400, request_of(Upgrade=""), "Upgrade"),
        (400, request_of(Upgrade="h2c"), "Upgrade"),
        (400, request_of(Upgrade="websocket, h2c"), "Upgrade"),
        (400, request_of(Upgrade="websocket/13"), "Upgrade"),
        (400, request_of(("Upgrade", "websocket")), "Upgrade"),
        (400, request_of(Connection=""), "Connection"),
        (400, request_of(Connection="keep-alive"), "Connection"),
        (400, request_of(Connection="upgrades"), "Connection"),
        (400, request_of(Connection="not upgrade"), "Connection"),
        (400, request_of(Connection="upgrade, <script>"), "Connection"),
        (400, request_of(Sec_WebSocket_Key=None), "Sec-WebSocket-Key must be there once"),
        (400, request_of(("Sec-WebSocket-Key", KEY)), "Sec-WebSocket-Key must be there once"),
        (400, request_of(Sec_WebSocket_Key=""), "Sec-WebSocket-Key"),
        (400, request_of(Sec_WebSocket_Key=KEY[:-1]), "Sec-WebSocket-Key"),
        (400, request_of(Sec_WebSocket_Key="AAAA" + KEY), "Sec-WebSocket-Key"),
        (400, request_of(Sec_WebSocket_Key=KEY[:-2] + "A="), "Sec-WebSocket-Key"),
        (400, request_of(Sec_WebSocket_Key="\xb2" * 22 + "=="), "Sec-WebSocket-Key"),
        (400, request_of(Sec_WebSocket_Key="-" * 22 + "=="), "Sec-WebSocket-Key"),
        (400, request_of(Sec_WebSocket_Version=None), "Sec-WebSocket-Version"),
        (400, request_of(Sec_WebSocket_Version="12"), "Sec-WebSocket-Version"),
        (400, request_of(Sec_WebSocket_Version="013"), "Sec-WebSocket-Version"),
        (400, request_of(Sec_WebSocket_Version="13.0"), "Sec-WebSocket-Version"),
        (400, request_of(Sec_WebSocket_Version="\xb93"), "Sec-WebSocket-Version"),
        (400, request_of(("Sec-WebSocket-Version", "13")), "Sec-WebSocket-Version"),
        (
            400,
            request_of(("Sec-WebSocket-Version", "8"), Sec_WebSocket_Version="13"),
            "Sec-WebSocket-Version",
        ),
        (400, request_of(("Origin", "http://h"), ("Origin", "http://evil")), "Origin is repeated"),
    ],
)
def test_what_is_no_websocket_handshake(status: int, request_: Request, text: str) -> None:
    with pytest.raises(HandshakeError, match=text) as caught:
        check(request_)
    error = caught.value
    assert (error.status, error.request) == (status, request_)
    response = refusal(error)
    assert response.body == f"{error}\n".encode()
    assert response.headers.get("Upgrade") == ("websocket" if status == 426 else None)
    assert response.headers["Connection"] == ("close, Upgrade" if status == 426 else "close")
    assert response.headers.get("Allow") == ("GET" if status == 405 else None)
    assert response.headers.get("Sec-WebSocket-Version") == ("13, 8" if "Version" in text else None)


# Negotiating ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "ours", "chosen"),
    [
        ([], ["a"], ""),
        (["a, b"], None, ""),
        (["a, b"], [], ""),
        (["a, b"], ["c"], ""),
        (["a, b"], ["A"], ""),
        (["a, b"], ["b", "a"], "b"),
        (["a", "b"], ["c", "b"], "b"),
        (["__class__"], ["__class__"], "__class__"),
    ],
)
def test_the_first_of_our_subprotocols_is_chosen(
    offered: list[str], ours: list[str] | None, chosen: str
) -> None:
    request = request_of(*(("Sec-WebSocket-Protocol", line) for line in offered))
    assert negotiate(request, protocols=ours) == Agreed(protocol=chosen)


def test_the_selector_chooses() -> None:
    request = request_of(("Sec-WebSocket-Protocol", "a, b"))
    seen: list[object] = []

    def select(offered: list[str], of: Request) -> str | None:
        seen.append((offered, of))
        return "b"

    assert negotiate(request, protocols=["a"], select_subprotocol=select).protocol == "b"
    assert seen == [(["a", "b"], request)]
    assert negotiate(request, protocols=["a"], select_subprotocol=lambda *_: None).protocol == ""
    assert negotiate(request_of(), select_subprotocol=lambda *_: "a").protocol == ""


@pytest.mark.parametrize("answer", ["c", "", "A", "a, b", b"a", 1, ["a"], "\x1b\r\n"])
def test_a_selector_that_answers_what_was_not_offered_is_500(answer: Any) -> None:
    request = request_of(("Sec-WebSocket-Protocol", "a, b"))
    with pytest.raises(HandshakeError, match="select_subprotocol must answer") as caught:
        negotiate(request, select_subprotocol=lambda *_: answer)
    assert str(caught.value).isprintable()
    assert caught.value.status == 500
    assert refusal(caught.value).body == b"Internal Server Error\n"


def test_a_selector_that_adds_to_the_offer_is_500() -> None:
    def select(offered: list[str], of: Request) -> str:
        offered.append("evil")
        return "evil"

    with pytest.raises(HandshakeError, match="select_subprotocol must answer"):
        negotiate(request_of(("Sec-WebSocket-Protocol", "a")), select_subprotocol=select)


def test_a_selector_that_raises_is_500() -> None:
    def select(offered: list[str], of: Request) -> str:
        raise KeyError("secret")

    with pytest.raises(HandshakeError, match="select_subprotocol failed") as caught:
        negotiate(request_of(("Sec-WebSocket-Protocol", "a")), select_subprotocol=select)
    assert caught.value.status == 500
    assert isinstance(caught.value.__cause__, KeyError)
    assert refusal(caught.value).body == b"Internal Server Error\n"


@pytest.mark.parametrize("name", ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"])
@pytest.mark.parametrize(
    "values", [[""], ["a", ""], ["a b"], ["a,"], [",a"], ["<script>"], ["a;"], ["\xe9"], ['a;b="']]
)
def test_broken_grammar_is_400_whatever_we_speak(name: str, values: list[str]) -> None:
    request = request_of(*((name, value) for value in values))
    for compression in (None, Deflate()):
        with pytest.raises(HandshakeError, match=name) as caught:
            negotiate(request, compression=compression)
        assert caught.value.status == 400
        assert refusal(caught.value).body == f"{caught.value}\n".encode()


def test_a_repeated_subprotocol_is_400() -> None:
    with pytest.raises(HandshakeError, match="Sec-WebSocket-Protocol: a subprotocol is repeated") as caught:
        negotiate(request_of(("Sec-WebSocket-Protocol", "a, b, a")))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("offered", "config", "answered"),
    [
        (["permessage-deflate"], None, ""),
        ([], Deflate(), ""),
        (["foo, x-webkit-deflate-frame"], Deflate(), ""),
        (["permessage-deflate"], Deflate(), "permessage-deflate"),
        (["foo; a=b, permessage-deflate; client_max_window_bits"], Deflate(), "permessage-deflate"),
        (["permessage-deflate; unknown", "permessage-deflate"], Deflate(), "permessage-deflate"),
        (["permessage-deflate; server_max_window_bits=7"], Deflate(), ""),
        (
            ['permessage-deflate; server_max_window_bits="10", permessage-deflate'],
            Deflate(),
            "permessage-deflate; server_max_window_bits=10",
        ),
    ],
)
def test_the_first_good_offer_is_accepted(offered: list[str], config: Deflate | None, answered: str) -> None:
    request = request_of(*(("Sec-WebSocket-Extensions", line) for line in offered))
    agreed = negotiate(request, compression=config)
    assert agreed.extensions == answered
    assert (agreed.deflate is not None) is bool(answered)


# Origins --------------------------------------------------------------------------------------------------


def with_origin(*origins: str, host: str = "good.example", secure: bool = False) -> Request:
    request = request_of(*(("Origin", origin) for origin in origins), Host=host)
    request.secure = secure
    return request


@pytest.mark.parametrize(
    ("origin", "host", "clear", "secure"),
    [
        ("http://good.example", "good.example", True, False),
        ("https://good.example", "good.example", True, True),
        ("HTTPS://Good.EXAMPLE:443", "gOOd.example", True, True),
        ("https://good.example", "good.example:443", True, True),
        ("http://good.example:80", "good.example", True, False),
        ("http://good.example:443", "good.example", False, False),
        ("https://good.example:80", "good.example", False, False),
        ("https://good.example:8443", "good.example:8443", True, True),
        ("http://[::1]:8765", "[0:0::1]:8765", True, False),
        ("https://good.example:8443", "good.example", False, False),
        ("https://good.example", "good.example:8443", False, False),
        ("https://good.example.evil", "good.example", False, False),
        ("https://evil-good.example", "good.example", False, False),
        ("https://sub.good.example", "good.example", False, False),
        ("https://good.example", "sub.good.example", False, False),
        ("https://good.example/", "good.example", False, False),
        ("https://good.example?", "good.example", False, False),
        ("https://good.example@evil", "good.example", False, False),
        ("https://evil@good.example", "good.example", False, False),
        ("https://good.example, https://good.example", "good.example", False, False),
        ("https:// good.example", "good.example", False, False),
        ("ws://good.example", "good.example", False, False),
        ("chrome-extension://good.example", "good.example", False, False),
        ("good.example", "good.example", False, False),
        ("null", "good.example", False, False),
        ("null", "null", False, False),
        ("", "good.example", False, False),
        ("*", "good.example", False, False),
        ("https://", "", False, False),
        ("file://", "", False, False),
        ("https://gro\xdf.example", "gross.example", False, False),
        ("https://good.example:", "good.example", True, True),
        ("https://good.example:99999", "good.example:99999", False, False),
    ],
)
def test_the_same_origin(origin: str, host: str, clear: bool, secure: bool) -> None:
    assert origin_allowed(with_origin(origin, host=host), "same") is clear
    assert origin_allowed(with_origin(origin, host=host, secure=True), "same") is secure


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://good.example", True),
        ("HTTPS://GOOD.example:443", True),
        ("http://localhost:3000", True),
        ("https://xn--bcher-kva.example", True),
        ("chrome-extension://abcdef", True),
        ("null", True),
        ("NULL", False),
        ("http://good.example", False),
        ("https://good.example:8443", False),
        ("https://good.example.evil", False),
        ("https://xgood.example", False),
        ("https://good.exampl", False),
        ("http://localhost", False),
        ("https://b\xfccher.example", False),
        ("", False),
        ("x", False),
    ],
)
def test_listed_origins(origin: str, allowed: bool) -> None:
    origins = [
        "HTTPS://Good.Example",
        "http://localhost:3000",
        "https://bücher.example:443",
        "chrome-extension://abcdef",
        "null",
    ]
    assert origin_allowed(with_origin(origin), origins) is allowed
    assert origin_allowed(with_origin(origin), iter(origins)) is allowed


def test_one_origin_may_be_listed_without_a_list() -> None:
    assert origin_allowed(with_origin("https://a"), "https://a")
    assert not origin_allowed(with_origin("https://b"), "https://a")
    assert not origin_allowed(with_origin("https://a"), [])


def test_a_request_without_origin_is_no_browsers() -> None:
    for origins in ("same", None, [], ["https://a"]):
        assert origin_allowed(with_origin(), origins)


def test_any_origin_is_allowed_by_none_only() -> None:
    for origin in ("null", "https://evil", "\xff"):
        assert origin_allowed(with_origin(origin), None)
        assert not origin_allowed(with_origin(origin), "same")


def test_two_origins_are_never_allowed() -> None:
    for origins in ("same", ["https://good.example"]):
        assert not origin_allowed(with_origin("https://good.example", "https://good.example"), origins)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("null", "null"),
        ("file://", "file://"),
        ("HTTP://A:80", "http://a"),
        ("https://a:80", "https://a:80"),
        ("app://Host:80", "app://host:80"),
        ("https://[::0:1]:443", "https://[::1]"),
    ],
)
def test_origins_are_normalised(text: str, origin: str) -> None:
    assert normal_origin(text) == normal_origin(origin) == origin


@pytest.mark.parametrize(
    "text", ["", "*", "a", "//a", "https://", "https://*", "https://a/", "https://a/b", "Null", "a b://c"]
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match=r"an origin|host"):
        normal_origin(text)


# Answering ------------------------------------------------------------------------------------------------


def test_the_answer_of_the_rfc() -> None:
    assert response_bytes(accept_response(request_of(), Agreed())) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_the_answer_says_what_was_agreed() -> None:
    response = accept_response(request_of(), Agreed("chat", None, "permessage-deflate; x=1"))
    assert list(response.headers.items())[3:] == [
        ("Sec-WebSocket-Protocol", "chat"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; x=1"),
    ]


def test_a_refusal_is_one_line_of_text() -> None:
    error = HandshakeError("too slow", status=408, headers=[("Retry-After", "5")])
    assert response_bytes(refusal(error)) == (
        b"HTTP/1.1 408 Request Timeout\r\n"
        b"Retry-After: 5\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Connection: close\r\n"
        b"Content-Length: 9\r\n\r\n"
        b"too slow\n"
    )


@pytest.mark.parametrize("text", ["Origin 'https://evil' is not allowed", "<b>", "a\nb", "\x1b[2J", "é", ""])
def test_a_text_that_may_quote_the_client_stays_here(text: str) -> None:
    assert refusal(HandshakeError(text, status=403)).body == b"Forbidden\n"
    assert refusal(HandshakeError(text, status=499)).body == b"\n"


def test_an_error_may_bring_its_own_response() -> None:
    own = Response(
        401, {"WWW-Authenticate": "Basic", "content-length": "7", "transfer-encoding": "x"}, b"log in"
    )
    before = list(own.headers.items())
    response = refusal(HandshakeError("'verify_client' refused", response=own))
    assert response_bytes(response) == (
        b"HTTP/1.1 401 Unauthorized\r\n"
        b"WWW-Authenticate: Basic\r\nConnection: close\r\nContent-Length: 6\r\n\r\n"
        b"log in"
    )
    assert list(own.headers.items()) == before


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\x7f"])
def test_no_answer_can_be_split(bad: str) -> None:
    with pytest.raises(ValueError, match="Sec-WebSocket-Protocol"):
        accept_response(request_of(), Agreed(protocol=f"a{bad}b"))
    with pytest.raises(ValueError, match="Sec-WebSocket-Extensions"):
        accept_response(request_of(), Agreed(extensions=f"a{bad}b"))
    with pytest.raises(ValueError, match="header Location"):
        refusal(HandshakeError("no", status=403, headers=[("Location", f"/{bad}")]))
    response = Response(403)
    response.reason = f"a{bad}b"
    with pytest.raises(ValueError, match="first line"):
        response_bytes(response)


@pytest.mark.parametrize(
    "canary", ["<script>alert(1)</script>", "\x1b[31m", "\x9b31m", "%0d%0aX:y", "'\"&", "CANARY"]
)
def test_nothing_of_a_request_comes_back_in_a_refusal(canary: str) -> None:
    heads = [head_of(f"{name}: {canary}") for name in ("A", "Origin", "Content-Length", "Transfer-Encoding")]
    heads += [head_of(f"{name}: {canary}") for name in ("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")]
    heads += [
        head_of().replace(f"{name}: {FIELDS[name]}".encode(), f"{name}: {canary}".encode("latin-1"))
        for name in FIELDS
    ]
    heads += [head_of(canary), head_of(f"{canary}: a")]
    heads += [
        head_of(first=first)
        for first in (f"{canary} / HTTP/1.1", f"GET /#{canary} HTTP/1.1", f"GET / {canary}")
    ]
    errors = [error for head in heads if (error := failure(head)) is not None]
    assert len(errors) > len(heads) // 2
    for error in errors:
        sent = response_bytes(refusal(error))
        assert canary.encode("latin-1") not in sent
        assert sent.isascii()
        assert canary not in str(error)


def test_refusals_are_http() -> None:
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    http.send(h11.EndOfMessage())
    http.receive_data(response_bytes(refusal(refused(426, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"))))
    events = [http.next_event() for _ in range(3)]
    assert isinstance(events[0], h11.Response)
    assert isinstance(events[1], h11.Data)
    assert isinstance(events[2], h11.EndOfMessage)
    assert http.their_state is h11.MUST_CLOSE


# Both sides -----------------------------------------------------------------------------------------------

WINDOWS = st.none() | st.integers(8, 15)
CONFIGS = st.none() | st.builds(Deflate, st.booleans(), st.booleans(), WINDOWS, WINDOWS)


@given(CONFIGS, CONFIGS, st.permutations(["a", "b", "c"]), st.permutations(["a", "b", "c"]))
def test_client_and_server_agree(
    offered: Deflate | None, accepted: Deflate | None, theirs: list[str], ours: list[str]
) -> None:
    client = ClientHandshake(
        url.parse("wss://u:p@h:8443/x?y"), protocols=theirs, origin="https://h:8443", compression=offered
    )
    server = ServerHandshake(secure=True)
    request = server.receive(client.request_bytes() + FRAME)
    assert request is not None
    check(request)
    assert origin_allowed(request, "same")
    agreed = negotiate(request, protocols=ours, compression=accepted)
    assert client.receive(response_bytes(accept_response(request, agreed)) + FRAME) is not None
    assert client.agreed.protocol == agreed.protocol == ours[0]
    assert client.agreed.extensions == agreed.extensions
    assert (client.agreed.deflate is None) is (agreed.deflate is None)
    assert client.leftover == server.leftover == FRAME


def test_a_client_understands_a_refusal() -> None:
    client = ClientHandshake(url.parse("ws://h/"))
    client.request.headers["Sec-WebSocket-Version"] = "9"
    error = refused(400, client.request_bytes())
    with pytest.raises(HandshakeError) as caught:
        client.receive(response_bytes(refusal(error)))
    assert caught.value.response is not None
    assert caught.value.response.body == b"Sec-WebSocket-Version must be 13 or 8\n"
    assert caught.value.response.headers["Sec-WebSocket-Version"] == "13, 8"
