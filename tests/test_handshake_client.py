"""The client's side of the handshake: the request, and the checks of what servers answer."""

from __future__ import annotations

import base64
import pickle
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws import url
from syncws.answer import BODY_LIMIT, HEAD_LIMIT
from syncws.deflate import Deflate
from syncws.errors import HandshakeError
from syncws.exchange import Response
from syncws.handshake import Agreed, accept_key
from syncws.handshake_client import ClientHandshake
from syncws.headers import Headers

FRAME = b"\x81\x02\r\n\x00"


def handshake(address: str = "ws://h/", **options: Any) -> ClientHandshake:
    return ClientHandshake(url.parse(address), **options)


def accept_of(client: ClientHandshake) -> str:
    return accept_key(client.request.headers["Sec-WebSocket-Key"])


def answer(client: ClientHandshake, *further: str, **replaced: str | None) -> bytes:
    """A 101 that fits, with further header lines and with headers replaced or (None) left out."""
    fields: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Accept": accept_of(client),
    }
    fields.update(replaced)
    names = {"Accept": "Sec-WebSocket-Accept"}
    lines = [f"{names.get(name, name)}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, *further, "", ""]).encode("latin-1")


def failure(client: ClientHandshake, *pieces: bytes) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        for piece in pieces:
            assert client.receive(piece) is None
    error = caught.value
    assert str(error).isprintable()
    assert len(str(error)) < 700
    assert error.request is client.request
    assert error.response is client.response
    return error


def fields_of(request: bytes) -> list[str]:
    assert request.endswith(b"\r\n\r\n")
    return request.decode("latin-1")[:-4].split("\r\n")


# The request ----------------------------------------------------------------------------------------------


def test_the_plain_request() -> None:
    client = handshake("ws://Example.org:8080/chat?a=b")
    key = client.request.headers["Sec-WebSocket-Key"]
    assert fields_of(client.request_bytes()) == [
        "GET /chat?a=b HTTP/1.1",
        "Host: example.org:8080",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    assert len(base64.b64decode(key, validate=True)) == 16
    assert client.request.secure is False
    assert handshake("wss://h/").request.secure is True


def test_each_request_has_a_key_of_its_own() -> None:
    assert len({handshake().request.headers["Sec-WebSocket-Key"] for _ in range(100)}) == 100


def test_the_request_with_everything() -> None:
    client = handshake(
        "wss://us%65r:p%C3%A4ss:w@h/",
        protocols=["b", "a"],
        origin="https://h",
        headers=[("Cookie", "x=y"), ("X-A", "é"), ("x-a", "2")],
        compression=Deflate(server_max_window_bits=10),
    )
    credentials = base64.b64encode("user:päss:w".encode()).decode()
    assert fields_of(client.request_bytes())[6:] == [
        "Sec-WebSocket-Protocol: b, a",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10; client_max_window_bits",
        "Origin: https://h",
        f"Authorization: Basic {credentials}",
        "Cookie: x=y",
        "X-A: é",
        "x-a: 2",
    ]


def test_the_request_may_be_changed_before_it_is_sent() -> None:
    client = handshake()
    client.request.headers["Cookie"] = "late"
    assert b"\r\nCookie: late\r\n" in client.request_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "UPGRADE",
        "sec-websocket-key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
    ],
)
def test_the_handshakes_own_headers_cannot_be_overridden(name: str) -> None:
    for headers in ({name: "evil"}, [(name, "evil"), (name, "evil")]):
        client = handshake(headers=headers, protocols="p", compression=Deflate())
        assert "evil" not in client.request_bytes().decode()
        assert len(client.request.headers.get_all(name)) == (0 if name.endswith("Accept") else 1)


def test_host_and_authorization_of_the_caller_win() -> None:
    client = handshake("ws://u:p@h/", headers={"hOST": "other:8080", "authorization": "Bearer x"})
    assert client.request.headers.get_all("Host") == ["other:8080"]
    assert client.request.headers.get_all("Authorization") == ["Bearer x"]


def test_the_origin_argument_wins_over_the_header() -> None:
    client = handshake(headers={"origin": "http://a"}, origin="http://b")
    assert client.request.headers.get_all("Origin") == ["http://b"]
    assert handshake(headers={"origin": "http://a"}).request.headers.get_all("Origin") == ["http://a"]
    for name in ("Origin", "Sec-WebSocket-Origin"):
        headers = handshake(headers={name: "http://a"}, origin="http://b", version=8).request.headers
        assert headers.get_all("Origin") + headers.get_all("Sec-WebSocket-Origin") == ["http://b"]


def test_the_callers_headers_are_not_changed() -> None:
    headers = Headers({"Host": "x", "Connection": "close", "A": "b"})
    handshake(headers=headers, origin="http://o")
    assert list(headers.items()) == [("Host", "x"), ("Connection", "close"), ("A", "b")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "0"},
        {"Content-Length": "5"},
        {"transfer-encoding": "chunked"},
        {"Trailer": "x"},
        [("Host", "a"), ("host", "a")],
        [("Origin", "a"), ("origin", "a")],
        {"Host": ""},
        {"Host": "a b"},
        {"Host": "a@b"},
        {"Host": "a#b"},
        {"Host": "a/b"},
        {"Host": "a:b"},
        {"A b": "c"},
    ],
)
def test_headers_that_make_no_handshake_are_refused(headers: Any) -> None:
    with pytest.raises(ValueError):
        handshake(headers=headers)


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\x7f", "\r\nX: y"])
@pytest.mark.parametrize(
    "make",
    [
        lambda bad: handshake(f"ws://h{bad}/"),
        lambda bad: handshake(f"ws://h/{bad}"),
        lambda bad: handshake(f"ws://u{bad}:p@h/"),
        lambda bad: handshake(f"ws+unix:/a:/{bad}"),
        lambda bad: handshake(protocols=f"a{bad}"),
        lambda bad: handshake(protocols=["a", bad]),
        lambda bad: handshake(origin=f"http://o{bad}"),
        lambda bad: handshake(headers={"A": f"b{bad}c"}),
        lambda bad: handshake(headers={f"A{bad}": "b"}),
        lambda bad: handshake(headers={"Host": f"h{bad}"}),
        lambda bad: handshake(headers={"Connection": f"b{bad}"}),
    ],
)
def test_no_argument_can_break_a_line(make: Callable[[str], object], bad: str) -> None:
    with pytest.raises(ValueError):
        make(bad)


def test_no_attribute_can_break_the_request_line() -> None:
    client = handshake()
    client.request.target = "/ HTTP/1.1\r\nX: y\r\n"
    with pytest.raises(ValueError, match="first line"):
        client.request_bytes()


@pytest.mark.parametrize(
    "options", [{"headers": {"A": 1}}, {"origin": 1}, {"protocols": [b"a"]}, {"protocols": 1}]
)
def test_arguments_of_other_types_are_refused(options: Any) -> None:
    with pytest.raises(TypeError):
        handshake(**options)


# The 101 --------------------------------------------------------------------------------------------------


def test_the_plain_answer_is_taken_whole_byte_by_byte_and_with_a_tail() -> None:
    for tail in (b"", FRAME):
        client = handshake()
        response = client.receive(answer(client) + tail)
        assert isinstance(response, Response)
        assert client.response is response
        assert (response.status, response.reason, response.body) == (101, "Switching Protocols", b"")
        assert response.headers["upgrade"] == "websocket"
        assert (client.agreed, client.leftover) == (Agreed(), tail)
    client = handshake()
    *pieces, last = [bytes([byte]) for byte in answer(client)]
    for piece in pieces:
        assert client.receive(piece) is None
    assert client.receive(last) is not None
    assert client.leftover == b""


@given(st.lists(st.integers(0, 220), max_size=5))
def test_the_answer_does_not_depend_on_the_pieces(cuts: list[int]) -> None:
    client = handshake()
    stream = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer(client) + FRAME
    edges = [0, *sorted(cuts), len(stream)]
    for start, end in pairwise(edges):
        if start < end and client.receive(stream[start:end]):
            break
    assert client.leftover + stream[end:] == FRAME


@pytest.mark.parametrize(
    "replaced",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "WEBSOCKET\t"},
        {"Connection": "upgrade"},
        {"Connection": "keep-alive, UPGRADE"},
        {"Connection": ",Upgrade,"},
    ],
)
def test_answers_that_are_as_good(replaced: dict[str, str]) -> None:
    client = handshake()
    assert client.receive(answer(client, "Server: é", "X-Long: " + "a" * 20000, **replaced)) is not None


def test_a_missing_reason_phrase_is_no_fault() -> None:
    for first in (b"HTTP/1.1 101", b"HTTP/1.1 101 "):
        client = handshake()
        data = answer(client).replace(b"HTTP/1.1 101 Switching Protocols", first)
        response = client.receive(data)
        assert response is not None
        assert response.reason == ""


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 199 \r\nContent-Length: 5\r\n\r\n",
    ],
)
def test_interim_answers_are_skipped(interim: bytes) -> None:
    client = handshake()
    assert client.receive(interim) is None
    assert client.response is None
    assert client.receive(interim * 9 + answer(client) + FRAME) is not None
    assert client.leftover == FRAME


@pytest.mark.parametrize(
    ("replaced", "error"),
    [
        ({"Upgrade": None}, "Upgrade must be websocket, not absent"),
        ({"Upgrade": ""}, "Upgrade must be websocket, not ''"),
        ({"Upgrade": "h2c"}, "Upgrade must be websocket, not 'h2c'"),
        ({"Upgrade": "websocket, h2c"}, "Upgrade must be websocket"),
        ({"Upgrade": "websocket\r\nUpgrade: websocket"}, "Upgrade must be websocket"),
        ({"Connection": None}, "Connection must have the token upgrade, not absent"),
        ({"Connection": "close"}, "Connection must have the token upgrade, not 'close'"),
        ({"Connection": "upgraded"}, "Connection must have"),
        ({"Connection": "not upgrade"}, "Connection must have"),
        ({"Accept": None}, "Sec-WebSocket-Accept"),
        ({"Accept": ""}, "Sec-WebSocket-Accept"),
        ({"Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, "does not answer our key: 's3pPLMBiTxaQ9kYGzzhZRbK"),
        ({"Sec-WebSocket-Accept": "x"}, "Sec-WebSocket-Accept"),
        ({"Sec-WebSocket-Protocol": "a"}, "chose a subprotocol, 'a', and none was offered"),
        ({"Sec-WebSocket-Protocol": ""}, "chose a subprotocol, '', and none was offered"),
        ({"Sec-WebSocket-Extensions": "permessage-deflate"}, "extension, 'permessage-deflate', and none was offered"),
        ({"Sec-WebSocket-Extensions": ""}, "none was offered"),
    ],
)
def test_a_101_that_breaks_a_rule_fails(replaced: dict[str, str | None], error: str) -> None:
    client = handshake()
    with pytest.raises(HandshakeError, match=error) as caught:
        client.receive(answer(client, **replaced) + FRAME)
    assert caught.value.status == 101
    assert client.agreed == Agreed()
    assert client.leftover == b""


def test_the_accept_key_is_compared_exactly() -> None:
    client = handshake()
    failure(client, answer(client, Accept=accept_of(client).swapcase()))
    client = handshake()
    failure(client, answer(client, f"Sec-WebSocket-Accept: {accept_of(client)}"))
    client = handshake()
    failure(client, answer(client, Accept=client.request.headers["Sec-WebSocket-Key"]))


def test_a_101_must_be_http_1_1() -> None:
    client = handshake()
    error = failure(client, answer(client).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert str(error) == "the server must answer in HTTP/1.1, not HTTP/1.0"


def test_the_chosen_subprotocol_is_agreed() -> None:
    client = handshake(protocols=["a", "b"])
    client.receive(answer(client, "Sec-WebSocket-Protocol:\tb "))
    assert client.agreed == Agreed(protocol="b")


@pytest.mark.parametrize(
    "lines", [[], [""], ["c"], ["A"], ["a, b"], ["a", "a"], ["a", "b"], ["a;x"], ["\x80\x9b31m<script>" * 99]]
)
def test_a_subprotocol_that_was_not_asked_for_fails(lines: list[str]) -> None:
    client = handshake(protocols=["a", "b"])
    error = failure(client, answer(client, *(f"Sec-WebSocket-Protocol: {line}" for line in lines)))
    assert "the subprotocol must be one of ['a', 'b'], not " in str(error)


@pytest.mark.parametrize(
    ("lines", "extensions"),
    [
        (["permessage-deflate"], "permessage-deflate"),
        (
            ['permessage-deflate ;server_no_context_takeover;\tclient_max_window_bits="1\\0"'],
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=10",
        ),
    ],
)
def test_the_extension_is_agreed(lines: list[str], extensions: str) -> None:
    client = handshake(compression=Deflate())
    client.receive(answer(client, *(f"Sec-WebSocket-Extensions: {line}" for line in lines)))
    assert client.agreed.extensions == extensions
    assert client.agreed.deflate is not None
    assert client.agreed.deflate.server_no_context_takeover is ("server_no" in extensions)
    assert client.agreed.deflate.client_max_window_bits == (10 if "10" in extensions else 15)


def test_no_extension_may_be_chosen() -> None:
    client = handshake(compression=Deflate())
    client.receive(answer(client))
    assert client.agreed == Agreed()


@pytest.mark.parametrize(
    "lines",
    [
        [""],
        ["foo"],
        ["Permessage-Deflate"],
        ["x-webkit-deflate-frame"],
        ["permessage-deflate, permessage-deflate"],
        ["permessage-deflate", "foo"],
        ["permessage-deflate; client_max_window_bits"],
        ["permessage-deflate; client_max_window_bits=16"],
        ["permessage-deflate; server_max_window_bits=08"],
        ["permessage-deflate; unknown"],
        ["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
        ["permessage-deflate; server_no_context_takeover=1"],
        ["permessage-deflate;"],
        ['permessage-deflate; a="b'],
        ["permessage-deflate; \x9b31m" + "a" * 9999],
        ["permessage-deflate; " + "a" * 9999],
        ["permessage-deflate; server_max_window_bits=" + "9" * 9999],
    ],
)
def test_an_extension_that_was_not_offered_fails(lines: list[str]) -> None:
    client = handshake(compression=Deflate())
    error = failure(client, answer(client, *(f"Sec-WebSocket-Extensions: {line}" for line in lines)))
    assert str(error).startswith("Sec-WebSocket-Extensions '")
    assert client.agreed == Agreed()


# Other answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status_line", "error"),
    [
        (b"200 OK", "the server answered 200 'OK', not 101"),
        (b"302 Found", "the server answered 302 'Found', not 101"),
        (b"403", "the server answered 403 '', not 101"),
        (b"999 \x9b31m<b>", r"the server answered 999 '\x9b31m<b>', not 101"),
        (b"400 " + b"a" * 1000, f"the server answered 400 '{'a' * 80}…', not 101"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Content-Length: 5\r\n\r\nhello, and what follows",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: x\r\n\r\n",
        b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_a_refusal_is_raised_with_its_body(status_line: bytes, error: str, body: bytes) -> None:
    data = b"HTTP/1.1 " + status_line + b"\r\nA: b\r\n" + body
    whole = handshake()
    raised = failure(whole, data)
    assert str(raised) == error
    assert raised.status == int(status_line[:3])
    assert raised.response is not None
    assert raised.response.body == b"hello"
    assert raised.response.headers["a"] == "b"
    single = failure(handshake(), *(bytes([byte]) for byte in data))
    assert single.response is not None
    assert single.response.body == b"hello"


@pytest.mark.parametrize("status", [204, 304])
def test_a_refusal_without_a_body_does_not_wait_for_one(status: int) -> None:
    error = failure(handshake(), b"HTTP/1.1 %d x\r\n\r\n" % status)
    assert error.response is not None
    assert error.response.body == b""


def test_a_body_of_length_zero_is_not_waited_for() -> None:
    assert failure(handshake(), b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n").status == 404


def test_a_body_may_end_with_the_connection() -> None:
    for version in (b"1.1", b"1.0"):
        client = handshake()
        assert client.receive(b"HTTP/%s 500 Oh\r\n\r\n" % version) is None
        assert client.response is not None
        assert client.response.status == 500
        error = failure(client, b"hel", b"lo", b"")
        assert error.response is not None
        assert error.response.body == b"hello"


@pytest.mark.parametrize(
    "pieces",
    [
        (b"Content-Length: 9\r\n\r\nhel", b"lo", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX5\r\nhello",),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n-1\r\n",),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"0" * 70000),
    ],
)
def test_a_broken_body_is_reported_as_far_as_it_came(pieces: tuple[bytes, ...]) -> None:
    client = handshake()
    error = failure(client, b"HTTP/1.1 503 Busy\r\n" + pieces[0], *pieces[1:])
    assert str(error) == "the server answered 503 'Busy', not 101"
    assert error.response is not None
    assert error.response.body == b"hello"


@pytest.mark.parametrize(
    "framing", [b"", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n"]
)
def test_a_body_is_read_up_to_the_limit(framing: bytes) -> None:
    head = b"HTTP/1.1 404 x\r\n" + framing + b"\r\n" + (b"fffffff\r\n" if b"chunked" in framing else b"")
    for size in (1000, 65536, 1 << 20):
        client = handshake()
        pieces = [b"a" * size] * (BODY_LIMIT // size + 1)
        error = failure(client, head, *pieces[: -(-BODY_LIMIT // size)])
        assert error.response is not None
        assert error.response.body == b"a" * BODY_LIMIT


def test_errors_can_be_pickled() -> None:
    error = failure(handshake(), b"HTTP/1.1 404 x\r\nContent-Length: 1\r\n\r\na")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.status, copy.response.body, str(copy)) == (404, b"a", str(error))


# No answer ------------------------------------------------------------------------------------------------

MALFORMED = {
    "nothing": b"\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a frame": b"\x81\x05hello\r\n\r\n",
    "HTTP/2 settings": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "SMTP": b"220 mail ESMTP\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 99 x\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 x\r\n\r\n",
    "a status of letters": b"HTTP/1.1 abc x\r\n\r\n",
    "no version": b"HTTP 101 x\r\n\r\n",
    "a version of letters": b"HTTP/x.y 101 x\r\n\r\n",
    "lower case": b"http/1.1 101 x\r\n\r\n",
    "a leading blank": b" HTTP/1.1 101 x\r\n\r\n",
    "escape in the reason": b"HTTP/1.1 101 \x1b[2J\r\n\r\n",
    "NUL in a value": b"HTTP/1.1 101 x\r\nA: b\x00\r\n\r\n",
    "a blank before the colon": b"HTTP/1.1 101 x\r\nA : b\r\n\r\n",
    "no colon": b"HTTP/1.1 101 x\r\n" + b"A" * 9999 + b"\r\n\r\n",
    "no name": b"HTTP/1.1 101 x\r\n: b\r\n\r\n",
    "a name beyond ASCII": b"HTTP/1.1 101 x\r\n\xe9: b\r\n\r\n",
    "lone LF": b"HTTP/1.1 101 x\nUpgrade: websocket\n\n",
    "lone CR": b"HTTP/1.1 101 x\rUpgrade: websocket\r\r\r\n\r\n",
    "a fold in front": b"HTTP/1.1 101 x\r\n A: b\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 x\r\nContent-Length: -1\r\n\r\n",
    "a length of letters": b"HTTP/1.1 200 x\r\nContent-Length: 0x10\r\n\r\n",
    "a coding nobody knows": b"HTTP/1.1 200 x\r\nTransfer-Encoding: <script>\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_http_fails(data: bytes) -> None:
    for pieces in ([data], [data + FRAME], [bytes([byte]) for byte in data]):
        error = failure(handshake(), *pieces)
        assert str(error).startswith("malformed HTTP response: ")
        assert len(str(error)) < 300
        assert error.status is None
        assert error.response is None


@pytest.mark.parametrize(
    "data", [b"", b"H", b"HTTP/1.1 101 Switching Protocols\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
def test_end_of_file_before_the_answer_fails(data: bytes) -> None:
    client = handshake()
    if data:
        assert client.receive(data) is None
    error = failure(client, b"")
    assert str(error) == "the connection was closed before the handshake was answered"
    assert error.status is None


def test_folded_values_are_unfolded() -> None:
    # RFC 9112 section 5.2: a user agent must take them, from whoever still sends them.
    client = handshake()
    response = client.receive(answer(client, Upgrade="\r\n websocket", Connection="keep-alive,\r\n\tUpgrade"))
    assert response is not None


BOMBS = {
    "a line without end": b"HTTP/1.1 101 " + b"a" * (1 << 20),
    "a value without end": b"HTTP/1.1 101 x\r\nA: " + b"b" * (1 << 20),
    "headers without end": b"HTTP/1.1 101 x\r\n" + b"A: b\r\n" * (1 << 17),
    "interim answers without end": b"HTTP/1.1 100 x\r\n\r\n" * (1 << 16),
    "a whole head": b"HTTP/1.1 101 x\r\n" + b"A: b\r\n" * (1 << 14) + b"\r\n",
}


@pytest.mark.parametrize("size", [1 << 20, 65536, 1])
@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_heads_are_limited_and_cost_linear_time(data: bytes, size: int) -> None:
    start = time.process_time()
    taken = 0
    client = handshake()
    with pytest.raises(HandshakeError, match="head too long"):
        for taken in range(0, len(data), size):
            client.receive(data[taken : taken + size])
    assert taken <= HEAD_LIMIT
    # Measured: 0.2 s.
    assert time.process_time() - start < 5


@given(st.binary(max_size=200), st.sampled_from([b"", b"HTTP/1.1 101 x\r\n", b"HTTP/1.1 200 x\r\n"]))
def test_any_bytes_end_in_handshake_error(data: bytes, start: bytes) -> None:
    client = handshake()
    with pytest.raises(HandshakeError):
        for piece in (start + data + b"\r\n", b"\r\n\r\n", b""):
            client.receive(piece)
