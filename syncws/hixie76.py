"""hixie-76, the protocol of browsers before there was an RFC: a server's half of the handshake, and the framing.

Rank 3: on `handshake_server`, `exchange`, `headers`, `url`. No I/O: bytes in, values out.
Source: draft-hixie-thewebsocketprotocol-76, sections 5.1 and 5.2 (handshake), 5.3 (framing), 6 (closing).
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from hashlib import md5
from typing import Any, ClassVar, Final, NoReturn

from .errors import HandshakeError, InvalidData, MessageTooBig, ProtocolError
from .exchange import Request, Response, split_target
from .frames import CLOSE, TEXT, BytesLike
from .handshake import Agreed
from .handshake_server import check_request, normal_origin, single
from .headers import Headers
from .receiver import FAILURE, Item, Text
from .url import split_host

VERSION: Final = "hixie-76"
#: bytes that stand behind the request's head, and belong to it
NONCE_SIZE: Final = 8

_KEYS = ("Sec-WebSocket-Key1", "Sec-WebSocket-Key2")
_LARGEST = 2**32 - 1
_DIGITS = re.compile(r"[0-9]")  # not \d: latin-1 has more of them

_BEGIN = b"\x00"
_END = b"\xff"
_CLOSING = b"\xff\x00"


# -- the handshake -------------------------------------------------------------------------------------------


def is_offered(headers: Headers) -> bool:
    """Whether a request is of this protocol: it has its keys, and neither key nor version of a later one."""
    later = "Sec-WebSocket-Key" in headers or "Sec-WebSocket-Version" in headers
    return not later and any(name in headers for name in _KEYS)


def check(request: Request) -> str:
    """Whether this is a handshake that can be answered: the version; HandshakeError with the status if not."""
    # Some announce the bytes behind the head, and most do not.
    fields = check_request(request, body=NONCE_SIZE)
    for name in _KEYS:
        _number(request, single(request, fields, name))
    if "origin" in fields:
        single(request, fields, "Origin")
    # Both are echoed: what is no origin, or no host, must not be.
    _origin(request)
    _location(request)
    return VERSION


def accept_response(request: Request, agreed: Agreed, nonce: bytes) -> Response:
    """The 101 for a request that passed `check`; `nonce` is what came behind its head."""
    headers = Headers([("Upgrade", "WebSocket"), ("Connection", "Upgrade")])
    if origin := _origin(request):
        headers.add("Sec-WebSocket-Origin", origin)
    headers.add("Sec-WebSocket-Location", _location(request))
    if agreed.protocol:
        headers.add("Sec-WebSocket-Protocol", agreed.protocol)
    return Response(101, headers, _digest(request, nonce), "WebSocket Protocol Handshake")


def _digest(request: Request, nonce: bytes) -> bytes:
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"expected {NONCE_SIZE} bytes behind the head, got {len(nonce)}")
    numbers = [_number(request, request.headers[name]).to_bytes(4, "big") for name in _KEYS]
    # MD5 proves here that the server speaks the protocol; nothing is secured by it.
    return md5(b"".join([*numbers, nonce]), usedforsecurity=False).digest()


def _number(request: Request, key: str) -> int:
    """The number hidden in a key: its digits, divided by the number of its spaces."""
    digits, spaces = "".join(_DIGITS.findall(key)), key.count(" ")
    # The length first: of many digits the number would be costly.
    if not 1 <= len(digits) <= len(str(_LARGEST)) or int(digits) > _LARGEST:
        _refuse(request, "the digits of a key must make a number of 32 bits")
    if not spaces or int(digits) % spaces:
        _refuse(request, "the number in a key must be a multiple of its spaces")
    return int(digits) // spaces


def _origin(request: Request) -> str:
    """The Origin as it came, an empty string if there is none."""
    if "Origin" not in request.headers:
        return ""
    origin = request.headers["Origin"]
    try:
        normal_origin(origin)
    except ValueError:
        _refuse(request, "Origin must be an origin")
    return _ascii(request, origin)


def _location(request: Request) -> str:
    """The URL that the client asked for, as it spells it: it compares the two."""
    headers = request.headers
    secure = request.secure or _forwarded(headers, "X-Forwarded-Proto").lower() == "https"
    host = _forwarded(headers, "X-Forwarded-Host") or headers.get("Host", "")
    try:
        split_host(host)
    except ValueError:
        _refuse(request, "X-Forwarded-Host must be a host, or a host and a port")
    authority, path, query = split_target(request.target)
    resource = request.target if authority is None else f"{path}?{query}" if query else path
    return f"{'wss' if secure else 'ws'}://{_ascii(request, host)}{resource}"


def _forwarded(headers: Headers, name: str) -> str:
    """What the first of several proxies was asked: the client's own words."""
    return headers.get(name, "").partition(",")[0].strip(" \t")


def _ascii(request: Request, text: str) -> str:
    # A host name may be of other letters until it is looked at by the codec of host names, but no browser sends it so.
    if not text.isascii():
        _refuse(request, "Host and Origin must be in ASCII")
    return text


def _refuse(request: Request, message: str) -> NoReturn:
    raise HandshakeError(message, status=400, request=request)


# -- the framing -----------------------------------------------------------------------------------------------


def encode(payload: BytesLike) -> bytes:
    """A whole text in its frame. ValueError for what is not UTF-8: it could end the frame, and begin another."""
    data = bytes(payload)
    if _END in data:
        raise ValueError("expected text in UTF-8, got the byte 0xff")
    return _BEGIN + data + _END


class Sender:
    """See `sender.Sender`. There is text, and the closing handshake; no code, no ping, no pong."""

    plain: ClassVar[bool] = False
    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open = False

    @property
    def open_message(self) -> bool:
        """Whether the frame of a message is not ended."""
        return self._open

    def message(
        self,
        opcode: int,
        payload: str | BytesLike,
        fin: bool = True,
        compress: bool | None = None,
        mask: bool | None = None,
    ) -> tuple[BytesLike, ...]:
        """Frame a message, or a part of one: it is one frame all the same, that is ended later.

        TypeError for a binary one, ValueError for text that is not UTF-8; nothing has happened then.
        """
        if opcode != TEXT and not self._open:
            raise TypeError("expected text: hixie-76 has no binary messages, as supports.binary tells")
        frame = encode(payload.encode() if isinstance(payload, str) else payload)
        piece = frame[self._open : None if fin else -1]
        self._open = not fin
        return (piece,) if piece else ()

    def control(self, opcode: int, payload: BytesLike, *, mask: bool | None = None) -> bytes:
        """The closing handshake, which also ends a message that is open; b"" for a ping or a pong."""
        if opcode != CLOSE:
            return b""
        end, self._open = _END * self._open, False
        return end + _CLOSING

    def forget(self) -> None:
        """See `sender.Sender`: nothing is remembered."""


class Receiver:
    """See `receiver.Receiver`. `max_payload`: bytes of one message, 0 = no limit.

    Frames with a length are refused at their first byte, so that no length is ever read.
    """

    #: the short path knows other frames only
    between: ClassVar[bool] = False
    wanted: ClassVar[int] = 0
    gathering: ClassVar[None] = None
    __slots__ = ("_closing", "_collected", "_decoder", "_ended", "_max_payload", "_received", "only_messages")

    def __init__(self, *, max_payload: int = 64 * 1024 * 1024, skip_utf8_validation: bool = False) -> None:
        self._max_payload = max_payload
        self._decoder = getincrementaldecoder("utf-8")("replace" if skip_utf8_validation else "strict")
        #: whether the last `feed` gave nothing but whole messages
        self.only_messages = False
        self._ended = False  # nothing is read after the closing handshake or a failure
        self._closing = False  # the first of its two bytes came
        # The message: its text so far, None between messages, and the bytes of it.
        self._collected: Text | None = None
        self._received = 0

    def feed(
        self, buffer: bytes | bytearray, end: int | None = None, items: list[Any] | None = None, position: int = 0
    ) -> list[Item]:
        """Eat `buffer[position:end]`, keeping no reference to it; `items` and what it completes, in order."""
        end = len(buffer) if end is None else end
        collected: list[Item] = [] if items is None else items
        try:
            while position < end and not self._ended:
                position = self._read(collected, buffer, position, end)
        except ProtocolError as error:
            self._end()
            error.__traceback__ = error.__context__ = None
            collected.append((FAILURE, error, False))
        self.only_messages = not self._ended
        return collected

    def _read(self, items: list[Item], buffer: bytes | bytearray, position: int, end: int) -> int:
        """One step; how far it came."""
        if self._collected is not None:
            return self._read_text(items, self._collected, buffer, position, end)
        first = buffer[position : position + 1]
        if self._closing:
            if first != _BEGIN:
                raise ProtocolError(f"expected 0x00 behind 0xff, got 0x{first[0]:02x}")
            self._end()
            # The draft has neither code nor reason: whoever says it has ended has ended well.
            items.append((CLOSE, (1000, ""), False))
        elif first == _BEGIN:
            self._collected, self._received = Text(), 0
        elif first == _END:
            self._closing = True
        else:
            raise ProtocolError(f"expected a text (0x00) or the end (0xff), got first byte 0x{first[0]:02x}")
        return position + 1

    def _read_text(
        self, items: list[Item], collected: Text, buffer: bytes | bytearray, position: int, end: int
    ) -> int:
        found = buffer.find(_END, position, end)
        stop = end if found < 0 else found
        self._received += stop - position
        if self._max_payload and self._received > self._max_payload:
            raise MessageTooBig(f"expected a message of at most {self._max_payload} bytes, got more")
        try:
            collected.write(self._decoder.decode(buffer[position:stop], found >= 0))
        except UnicodeDecodeError as error:
            raise InvalidData(f"expected text in UTF-8, got an {error.reason}") from None
        if found < 0:
            return end
        items.append((TEXT, collected.getvalue(), False))
        self._collected = None
        return found + 1

    def _end(self) -> None:
        self._ended = True
        self._collected = None
        self._decoder.reset()
