"""hixie-76 as tables of bytes: the handshake's checks and answer, the framing in any pieces, its limits."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import hixie
import pytest
from hixie import DIGEST, END, KEYS, NONCE, OTHER_DIGEST, OTHER_KEYS, OTHER_NONCE, framed

from syncws import HandshakeError, InvalidData, MessageTooBig, ProtocolError, Request
from syncws.frames import BINARY, CLOSE, PING, PONG, TEXT
from syncws.handshake import Agreed
from syncws.handshake_server import response_bytes
from syncws.hixie76 import Receiver, Sender, accept_response, check, encode, is_offered
from syncws.receiver import FAILURE

# -- the handshake ----------------------------------------------------------------------------------------


def request_of(*further: tuple[str, str], target: str = "/demo", secure: bool = False, **replaced: Any) -> Request:
    fields: dict[str, str | None] = {**hixie.FIELDS, "Host": "example.com", "Origin": "http://example.com"}
    fields.update({name.replace("_", "-"): value for name, value in replaced.items()})
    headers = [(name, value) for name, value in fields.items() if value is not None]
    return Request("GET", target, [*headers, *further], secure=secure)


def refused(request: Request) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        check(request)
    assert caught.value.status == 400
    return caught.value


def answered(request: Request, agreed: Agreed | None = None) -> dict[str, str]:
    check(request)
    return dict(accept_response(request, agreed or Agreed(), NONCE).headers.items())


def test_the_answer_of_the_draft() -> None:
    request = request_of(("Sec-WebSocket-Protocol", "sample"))
    assert is_offered(request.headers)
    assert check(request) == "hixie-76"
    assert response_bytes(accept_response(request, Agreed("sample"), NONCE)) == (
        b"HTTP/1.1 101 WebSocket Protocol Handshake\r\n"
        b"Upgrade: WebSocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Origin: http://example.com\r\n"
        b"Sec-WebSocket-Location: ws://example.com/demo\r\n"
        b"Sec-WebSocket-Protocol: sample\r\n"
        b"\r\n" + DIGEST
    )


@pytest.mark.parametrize(("keys", "nonce", "digest"), [(KEYS, NONCE, DIGEST), (OTHER_KEYS, OTHER_NONCE, OTHER_DIGEST)])
def test_the_digest_answers_keys_and_nonce(keys: tuple[str, str], nonce: bytes, digest: bytes) -> None:
    request = request_of(Sec_WebSocket_Key1=keys[0], Sec_WebSocket_Key2=keys[1])
    check(request)
    assert accept_response(request, Agreed(), nonce).body == digest
    swapped = request_of(Sec_WebSocket_Key1=keys[1], Sec_WebSocket_Key2=keys[0])
    assert accept_response(swapped, Agreed(), nonce).body != digest


@pytest.mark.parametrize("nonce", [b"", NONCE[:7], NONCE + b"\0"])
def test_a_nonce_has_8_bytes(nonce: bytes) -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        accept_response(request_of(), Agreed(), nonce)


LARGEST = "4294967295"

BAD_KEYS = {
    "no spaces": "46546155",
    "no digits": "a b c",
    "nothing": "",
    "not a multiple": "1 0 1",
    "a number of 33 bits": "4294967296 x 2",
    "one more than the largest": "4294967296 x",
    "more digits than fit": "1" * 5000 + " x",
    "a digit beyond ASCII": "\xb2 x",
    "a tab for a space": "12\tx",
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
@pytest.mark.parametrize("which", ["Sec_WebSocket_Key1", "Sec_WebSocket_Key2"])
def test_a_bad_key_is_refused(which: str, key: str) -> None:
    refused(request_of(**{which: key}))


@pytest.mark.parametrize(("key", "number"), [(f"{LARGEST} x", 2**32 - 1), ("0 x", 0), ("x 1 2", 6), ("x1  8x", 9)])
def test_the_number_of_a_key(key: str, number: int) -> None:
    same = request_of(Sec_WebSocket_Key1=key, Sec_WebSocket_Key2=f"{number} x")
    check(same)
    plain = request_of(Sec_WebSocket_Key1=f"{number} x", Sec_WebSocket_Key2=f"{number} x")
    assert accept_response(same, Agreed(), NONCE).body == accept_response(plain, Agreed(), NONCE).body


REFUSED: dict[str, Request] = {
    "no second key": request_of(Sec_WebSocket_Key2=None),
    "no first key": request_of(Sec_WebSocket_Key1=None),
    "a key twice": request_of(("Sec-WebSocket-Key1", KEYS[0])),
    "two Origins": request_of(("Origin", "http://example.com")),
    "an Origin with quotes": request_of(Origin='http://a"b'),
    "an Origin that is none": request_of(Origin="example.com"),
    "an empty Origin": request_of(Origin=""),
    "an Origin with a path": request_of(Origin="http://a/b"),
    "an Origin beyond ASCII": request_of(Origin="http://b\xfccher.example"),
    "a Host with quotes": request_of(Host='a"b'),
    "a Host with a blank": request_of(Host="a b"),
    "a Host beyond ASCII": request_of(Host="b\xfccher.example"),
    "two Hosts": request_of(("Host", "example.com")),
    "no Host": request_of(Host=None),
    "a forwarded Host with quotes": request_of(X_Forwarded_Host='a"b'),
    "a forwarded Host beyond ASCII": request_of(X_Forwarded_Host="b\xfccher.example"),
    "another Upgrade": request_of(Upgrade="h2c"),
    "another Connection": request_of(Connection="close"),
    "no length": request_of(Content_Length="0"),
    "another length": request_of(Content_Length="9"),
    "a length that is not plain": request_of(Content_Length="+8"),
    "two lengths": request_of(("Content-Length", "9"), Content_Length="8"),
    "a coding": request_of(Transfer_Encoding="chunked"),
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(request_: Request) -> None:
    assert "\\" not in str(refused(request_))


@pytest.mark.parametrize(
    ("options", "location"),
    [
        ({}, "ws://example.com/demo"),
        ({"secure": True}, "wss://example.com/demo"),
        ({"target": "/a?b=c%20d&e"}, "ws://example.com/a?b=c%20d&e"),
        ({"target": "/a?"}, "ws://example.com/a?"),
        ({"Host": "Example.com:8080"}, "ws://Example.com:8080/demo"),
        ({"Host": "[::1]:8080"}, "ws://[::1]:8080/demo"),
        ({"target": "http://example.com/a?b"}, "ws://example.com/a?b"),
        ({"target": "http://example.com"}, "ws://example.com/"),
        ({"X_Forwarded_Proto": "https"}, "wss://example.com/demo"),
        ({"X_Forwarded_Proto": "HTTPS, http"}, "wss://example.com/demo"),
        ({"X_Forwarded_Proto": "http, https"}, "ws://example.com/demo"),
        ({"X_Forwarded_Host": "other.example:81"}, "ws://other.example:81/demo"),
        ({"X_Forwarded_Host": "other.example, inner"}, "ws://other.example/demo"),
    ],
)
def test_the_location_is_the_url_that_was_asked_for(options: dict[str, Any], location: str) -> None:
    assert answered(request_of(**options))["Sec-WebSocket-Location"] == location


@pytest.mark.parametrize("origin", ["null", "file://", "http://Example.com", "https://[::1]:8443"])
def test_the_origin_is_echoed_as_it_came(origin: str) -> None:
    assert answered(request_of(Origin=origin))["Sec-WebSocket-Origin"] == origin


def test_the_bytes_behind_the_head_may_be_announced() -> None:
    assert check(request_of(Content_Length="8")) == "hixie-76"


def test_what_was_not_said_is_not_echoed() -> None:
    assert set(answered(request_of(Origin=None))) == {"Upgrade", "Connection", "Sec-WebSocket-Location"}


@pytest.mark.parametrize(
    "further", [("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Key", "x")]
)
def test_who_speaks_a_later_version_is_taken_by_its_word(further: tuple[str, str]) -> None:
    assert not is_offered(request_of(further).headers)


# -- receiving --------------------------------------------------------------------------------------------


def fed(*pieces: bytes, **options: Any) -> list[Any]:
    """All items of the pieces; a failure as its class."""
    receiver = Receiver(**options)
    items = []
    for piece in pieces:
        new = receiver.feed(bytearray(piece))
        assert receiver.only_messages or not any(kind == TEXT for kind, _, _ in new) or new[-1][0] != TEXT
        items += new
    return [(type(data) if kind == FAILURE else (kind, data)) for kind, data, _ in items]


def texts(*data: str) -> list[Any]:
    return [(TEXT, text) for text in data]


CLOSED = (CLOSE, (1000, ""))
RECEIVED: dict[str, tuple[bytes, list[Any]]] = {
    "a text": (framed("hello"), texts("hello")),
    "an empty one": (framed(""), texts("")),
    "several": (framed("a") + framed("") + framed("ü"), texts("a", "", "ü")),
    "of many planes": (framed("grüße, 世界 🎉"), texts("grüße, 世界 🎉")),
    "line ends": (framed("a\r\nb\rc\n"), texts("a\r\nb\rc\n")),
    "zeros": (framed("\0\0"), texts("\0\0")),
    "the end": (END, [CLOSED]),
    "a text and the end": (framed("a") + END, [*texts("a"), CLOSED]),
    "what comes behind the end": (END + framed("a") + b"\x80", [CLOSED]),
    "an end that is none": (b"\xff\x01", [ProtocolError]),
    "the end of an empty text, twice": (framed("") + b"\xff\xff", [*texts(""), ProtocolError]),
    "a length of zero that is not the shortest": (b"\xff\x80\x00", [ProtocolError]),
    "binary": (b"\x80\x05hello", [ProtocolError]),
    "another frame with an end": (b"\x01hello\xff", [ProtocolError]),
    "another frame with a length": (b"\xfe\x01x", [ProtocolError]),
    "a frame of the RFC": (b"\x81\x80\0\0\0\0", [ProtocolError]),
    "a text before a violation": (framed("a") + b"\x80" + framed("b"), [*texts("a"), ProtocolError]),
    "no UTF-8": (framed(b"a\xc3(") + framed("b"), [InvalidData]),
    "UTF-8 cut short": (framed(b"a\xc3"), [InvalidData]),
    "a lone continuation": (framed(b"\x80"), [InvalidData]),
    "a surrogate": (framed(b"\xed\xa0\x80"), [InvalidData]),
    "more than Unicode": (framed(b"\xf4\x90\x80\x80"), [InvalidData]),
    "too long a form": (framed(b"\xc0\xaf"), [InvalidData]),
}


@pytest.mark.parametrize(("data", "expected"), RECEIVED.values(), ids=RECEIVED)
def test_what_comes_is_the_same_in_any_pieces(data: bytes, expected: list[Any]) -> None:
    assert fed(data) == expected
    assert fed(*(bytes([byte]) for byte in data)) == expected
    for cut in range(1, len(data)):
        assert fed(data[:cut], data[cut:]) == expected


def test_a_part_of_a_buffer_is_read() -> None:
    buffer = b"?" + framed("a") + b"?"
    assert Receiver().feed(buffer, 4, None, 1) == [(TEXT, "a", False)]


def test_no_text_fails_before_its_end_when_it_is_no_utf_8() -> None:
    assert fed(b"\x00a\xc3", b"(") == [InvalidData]


def test_bad_text_can_be_let_in() -> None:
    assert fed(framed(b"a\xc3(") + END, skip_utf8_validation=True) == [*texts("a\ufffd("), CLOSED]


@pytest.mark.parametrize("size", [1, 10, 100])
def test_a_message_has_a_limit_in_bytes(size: int) -> None:
    fitting = framed("ü" * (size // 2) + "x" * (size % 2))
    for pieces in ([fitting * 2], [fitting[:1], fitting[1:], fitting], [bytes([byte]) for byte in fitting * 2]):
        assert len(fed(*pieces, max_payload=size)) == 2
    larger = framed("x" * (size + 1))
    for pieces in ([larger], [larger[:-1]], [bytes([byte]) for byte in larger[:-1]]):
        assert fed(*pieces, max_payload=size) == [MessageTooBig]
    assert len(fed(framed("x" * 1000), max_payload=0)) == 1


def test_a_text_without_end_costs_no_more_than_its_limit() -> None:
    receiver = Receiver(max_payload=1 << 20)
    receiver.feed(b"\x00")
    tracemalloc.start()
    try:
        items = [item for _ in range(4096) for item in receiver.feed(b"x" * 1024)]
        now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [type(data) for _, data, _ in items] == [MessageTooBig]
    assert most < 2.5 * (1 << 20)
    assert now < 1 << 16


def test_a_text_in_single_bytes_costs_about_its_bytes() -> None:
    receiver = Receiver()
    receiver.feed(b"\x00")
    tracemalloc.start()
    try:
        for _ in range(100_000):
            receiver.feed(b"x")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 600_000
    assert receiver.feed(b"\xff") == [(TEXT, "x" * 100_000, False)]


def test_a_length_without_end_is_not_read() -> None:
    receiver = Receiver()
    tracemalloc.start()
    try:
        (item,) = receiver.feed(b"\x80" + b"\xff" * 9)
        assert receiver.feed(b"\xff" * (1 << 20)) == []
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(item[1], ProtocolError)
    assert most < (1 << 20) + 100_000  # the argument itself


def test_random_bytes_never_do_anything_else() -> None:
    choose = random.Random(76)
    for _ in range(3000):
        data = bytes(choose.choices(b"\x00\x00\xff\xffab\xc3\xbc\x80", k=choose.randrange(40)))
        whole, pieces = fed(data, max_payload=8), fed(*(bytes([byte]) for byte in data), max_payload=8)
        # Which of two faults is found first, too many bytes or bad ones, is as the pieces fell.
        failed = [bool(items) and isinstance(items[-1], type) for items in (whole, pieces)]
        assert failed[0] == failed[1]
        assert whole[: len(whole) - failed[0]] == pieces[: len(pieces) - failed[1]]
        assert all(item[0] == TEXT for item in whole[:-1])


# -- sending ----------------------------------------------------------------------------------------------


def test_a_text_is_framed() -> None:
    sender = Sender()
    for payload in ("grüße", "grüße".encode(), bytearray("grüße".encode()), memoryview("grüße".encode())):
        assert sender.message(TEXT, payload) == (b"\x00gr\xc3\xbc\xc3\x9fe\xff",)
    assert sender.message(TEXT, "") == (b"\x00\xff",)
    assert not (sender.plain or sender.open_message)


def test_the_pieces_of_a_message_make_one_frame() -> None:
    sender = Sender()
    pieces = [("a", False), ("", False), ("b", False), ("", True)]
    buffers = []
    for piece, fin in pieces:
        buffers.append(sender.message(TEXT, piece, fin))
        assert sender.open_message is not fin
    assert buffers == [(b"\x00a",), (), (b"b",), (b"\xff",)]
    # As with the RFC's frames, what continues a message is of its type.
    assert sender.message(TEXT, "a", False) + sender.message(BINARY, b"b") == (b"\x00a", b"b\xff")


def test_binary_is_refused_and_nothing_has_happened() -> None:
    sender = Sender()
    for fin in (True, False):
        with pytest.raises(TypeError, match=r"supports\.binary"):
            sender.message(BINARY, b"x", fin)
        assert not sender.open_message
    assert sender.message(TEXT, "x") == (framed("x"),)


@pytest.mark.parametrize("payload", [b"\xff", b"a\xff\x00b", bytearray(b"\xff"), memoryview(b"\xff\x00")])
def test_nothing_sent_as_text_can_end_its_frame(payload: Any) -> None:
    sender = Sender()
    with pytest.raises(ValueError, match="0xff"):
        sender.message(TEXT, payload)
    sender.message(TEXT, "a", False)
    with pytest.raises(ValueError, match="0xff"):
        sender.message(TEXT, payload)
    assert sender.message(TEXT, "b") == (b"b\xff",)
    with pytest.raises(ValueError, match="0xff"):
        encode(payload)
    with pytest.raises(UnicodeEncodeError):
        sender.message(TEXT, "\ud800")


def test_the_closing_handshake_ends_an_open_message() -> None:
    sender = Sender()
    assert sender.control(CLOSE, b"\x03\xe8") == END
    sender.message(TEXT, "a", False)
    assert sender.control(CLOSE, b"") == b"\xff" + END
    assert not sender.open_message


def test_there_are_no_pings_and_pongs() -> None:
    sender = Sender()
    sender.message(TEXT, "a", False)
    assert sender.control(PING, b"x") == sender.control(PONG, b"x") == b""
    assert sender.open_message
