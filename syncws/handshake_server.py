"""The server's side of the opening handshake: reading the request, judging it, answering it.

Rank 3: on `handshake`, `url`, `exchange`, `headers`, `deflate`, h11. No I/O: bytes in, values out.
RFC 6455 sections 4.2 and 4.4; origins: RFC 6454.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeAlias

import h11

from .deflate import NAME as PERMESSAGE_DEFLATE
from .deflate import Deflate, accept
from .errors import USERS_ERRORS, HandshakeError
from .exchange import Request, Response, head_bytes, split_target, status_line
from .handshake import (
    VERSIONS,
    Agreed,
    HeadBuffer,
    accept_key,
    connection_upgrades,
    event_headers,
    upgrades_to_websocket,
)
from .headers import Headers, parse_extensions, parse_subprotocols, shown
from .url import DEFAULT_PORTS, join_host, split_host

TARGET_LIMIT = 8192  # bytes of a request target
LINE_LIMIT = 8192  # bytes of one header line
COUNT_LIMIT = 128  # header lines, repeated ones counted

#: header values by their names in lower case
Fields: TypeAlias = dict[str, list[str]]
Selector: TypeAlias = Callable[[list[str], Request], str | None]

_NOTHING_AGREED = Agreed()

# A head of which there is only one reading: what h11 makes of it is known, so it is not asked. Each byte is looked at
# once, and twice if the end is missing. What h11 judges by more than its letters is not for here.
_PLAIN_HEAD = re.compile(rb"GET ([!-~]+) HTTP/1\.1\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~]*\r\n)+)\r\n")
_JUDGED = ("content-length", "transfer-encoding")
# What nearly every request says, for all of them to share: an idle connection keeps its request.
_SHARED = {
    text: text
    for text in (
        "Host", "Connection", "Upgrade", "Origin", "User-Agent", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
        "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Pragma", "Cache-Control", "Accept-Encoding",
        "Accept-Language", "Cookie", "websocket", "keep-alive, Upgrade", "13", "no-cache",
        "gzip, deflate, br, zstd", "permessage-deflate; client_max_window_bits",
    )
}  # fmt: skip
# Not only canonical base64: the example key in RFC 6455 section 4.1 has stray bits in its last letter.
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)")
_MALFORMED = {414: "the request target is too long", 431: "the request head is too large"}
_BODILESS = (204, 304)  # RFC 9110 sections 15.3.5 and 15.4.5
# Plain words: no quotation mark, so no repr() of anything, and no markup.
_PUBLISHABLE = re.compile(r"[A-Za-z0-9 ,.:;()/_\-]+")


class ServerHandshake:
    """Reads one request head. `leftover` is what came behind it."""

    def __init__(
        self, *, max_header_size: int = 16384, secure: bool = False, remote_address: Any = None
    ) -> None:
        self.leftover = b""
        self._secure = secure
        self._remote_address = remote_address
        self._limit = max_header_size
        self._heads: HeadBuffer | None = None  # once a head is not plain, or comes in pieces

    def receive(self, data: bytes) -> Request | None:
        """Take in what the client sent, b"" for its end of file; None = more is needed.

        HandshakeError for what is no HTTP/1.1 request, with the status to answer; with none at end of file.
        """
        if not data:
            raise HandshakeError("the connection was closed before the request was complete")
        if self._heads is None:
            request = self._read_plain(data)
            if request is not None:
                return request
            self._heads = HeadBuffer(self._limit)
        return self._read_any(self._heads, data)

    def _read_plain(self, data: bytes) -> Request | None:
        """What `_read_any` makes of a plain head, in short; None if it is not one, or not all there."""
        match = _PLAIN_HEAD.match(data)
        if match is None or match.end() > min(self._limit, LINE_LIMIT):
            return None
        fields = [line.split(":", 1) for line in match.group(2).decode("ascii").split("\r\n")[:-1]]
        names = [name.lower() for name, _ in fields]
        if len(names) > COUNT_LIMIT or names.count("host") != 1 or any(name in names for name in _JUDGED):
            return None
        self.leftover = data[match.end() :]
        stripped = [(name, value.strip(" \t")) for name, value in fields]
        headers = Headers.parsed([(_SHARED.get(name, name), _SHARED.get(value, value)) for name, value in stripped])
        return self._request("GET", match.group(1), headers)

    def _read_any(self, heads: HeadBuffer, data: bytes) -> Request | None:
        heads.add(data)
        try:
            head = heads.next_head()
            if head is None:
                return None
            _check_lines(head)
            event = _parse(head)
        except h11.RemoteProtocolError as error:
            # Its text quotes the client. Any transfer coding is 400 here, also where h11 hints at 501.
            status = error.error_status_hint if error.error_status_hint in _MALFORMED else 400
            what = _MALFORMED.get(status, "malformed HTTP request")
            # Without h11's traceback: one of its frames holds the error, and that all of its callers.
            raise HandshakeError(what, status=status) from error.with_traceback(None)
        self.leftover = heads.rest()
        _check_request_line(event)
        return self._request(event.method.decode("ascii"), event.target, event_headers(event))

    def _request(self, method: str, target: bytes, headers: Headers) -> Request:
        address, secure = self._remote_address, self._secure
        return Request(method, target.decode("ascii"), headers, remote_address=address, secure=secure)


def check(request: Request) -> int:
    """Whether this is a WebSocket handshake that can be answered: its version; HandshakeError with the status if not.

    The order of the checks decides which of several faults is named. RFC 6455 section 4.2.1.
    """
    fields = check_request(request)
    version = _version(request, fields)
    if not _KEY.fullmatch(single(request, fields, "Sec-WebSocket-Key")):
        _refuse(request, 400, "Sec-WebSocket-Key must be 16 bytes in base64")
    if len(_origins_told(fields)) > 1:
        _refuse(request, 400, "Origin is repeated")
    return version


def check_request(request: Request, body: int = 0) -> Fields:
    """What the handshakes of all versions have in common; HandshakeError with the status if it is not so.

    Returns the headers, grouped. `body`: the bytes that belong to the request behind its head, announced or not.
    """
    fields = request.headers.grouped()
    if "upgrade" not in fields or "connection" not in fields:
        _refuse(request, 426, "this is a WebSocket server: an upgrade is required", ("Upgrade", "websocket"))
    if request.method != "GET":
        _refuse(request, 405, "the method of a WebSocket handshake is GET", ("Allow", "GET"))
    # A body could carry a second request past an intermediary, or frames into the parser.
    if "transfer-encoding" in fields or any(length != str(body) for length in fields.get("content-length", ())):
        _refuse(request, 400, f"the body must have {body} bytes" if body else "a WebSocket handshake has no body")
    _check_target(request, single(request, fields, "Host"))
    if not upgrades_to_websocket(fields["upgrade"]):
        _refuse(request, 400, "Upgrade must be websocket and nothing else")
    if not connection_upgrades(fields["connection"]):
        _refuse(request, 400, "Connection must have the token upgrade")
    return fields


def single(request: Request, fields: Fields, name: str) -> str:
    """The value of a header that must be there once; else HandshakeError 400."""
    values = fields.get(name.lower(), ())
    if len(values) != 1:
        _refuse(request, 400, f"{name} must be there once")
    return values[0]


def negotiate(
    request: Request,
    *,
    protocols: Sequence[str] | None = None,
    select_subprotocol: Selector | None = None,
    compression: Deflate | None = None,
) -> Agreed:
    """Choose the subprotocol and the extension; `protocols` is in the order of our preference.

    HandshakeError 400 for broken grammar, 500 if `select_subprotocol` fails or names what was not offered.
    """
    offered = _parsed(request, "Sec-WebSocket-Protocol", parse_subprotocols)
    offers = _parsed(request, "Sec-WebSocket-Extensions", parse_extensions)
    if not offered:
        protocol = ""
    elif select_subprotocol is not None:
        protocol = _selected(request, offered, select_subprotocol)
    else:
        wanted = set(offered)
        protocol = next((own for own in protocols or () if own in wanted), "")
    if compression is not None:
        for name, parameters in offers:
            agreement = accept(compression, parameters) if name == PERMESSAGE_DEFLATE else None
            if agreement is not None:
                return Agreed(protocol, *agreement)
    return Agreed(protocol) if protocol else _NOTHING_AGREED


def normal_origin(text: str) -> str:
    """A serialised origin with scheme and host in lower case and without its default port; "null" is one.

    ValueError for anything else, such as a path: a list of allowed origins is checked with it.
    """
    if text == "null":
        return text
    match = _ORIGIN.fullmatch(text)
    if match is None:
        raise ValueError(f"an origin is scheme://host or scheme://host:port, not {shown(text)}")
    scheme, authority = match.group(1).lower(), match.group(2)
    # "file://" and the like are the whole of their origins.
    if not authority and scheme not in DEFAULT_PORTS:
        return f"{scheme}://"
    host, port = split_host(authority)
    return f"{scheme}://{join_host(host, None if port == DEFAULT_PORTS.get(scheme) else port)}"


def origin_allowed(request: Request, origins: str | Iterable[str] | None) -> bool:
    """Judge the request's Origin: "same" = it must be the Host's, None = any, or those listed.

    A request without Origin is no browser's and passes. Origins are compared whole, never in part.
    """
    if origins is None:
        return True
    came = _origins_told(request.headers.grouped())
    if not came:
        return True
    if origins == "same":
        allowed = _own_origins(request)
    else:
        allowed = {normal_origin(own) for own in ([origins] if isinstance(origins, str) else origins)}
    return len(came) == 1 and _normal_or_none(came[0]) in allowed


def origin_of(request: Request) -> str | None:
    """Whose page the request comes from, in its own words; None if it says nothing, and so is no browser's."""
    return next(iter(_origins_told(request.headers.grouped())), None)


def accept_response(request: Request, agreed: Agreed) -> Response:
    """The 101 for a request that passed `check` (RFC 6455 section 4.2.2)."""
    headers = Headers.parsed(
        [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept_key(request.headers["Sec-WebSocket-Key"])),
        ]
    )
    if agreed.protocol:
        headers.add("Sec-WebSocket-Protocol", agreed.protocol)
    if agreed.extensions:
        headers.add("Sec-WebSocket-Extensions", agreed.extensions)
    return Response(101, headers)


def refusal(error: HandshakeError) -> Response:
    """The response to a failed handshake: the error's own, or its text in one line; the connection then ends.

    The text goes out if it is in plain words. One that quotes something, and that of a 500, is for the log:
    the client gets the standard phrase.
    """
    if error.status is None:
        raise ValueError("there is nobody to answer")
    response = error.response or _plain_response(error.status, error)
    # A copy: the response may be one that an application returns again and again.
    headers = response.headers.copy()
    # RFC 9110 section 7.8: who sends Upgrade says so in Connection.
    headers["Connection"] = "close, Upgrade" if "Upgrade" in headers else "close"
    headers.pop("Transfer-Encoding", None)
    headers.pop("Content-Length", None)
    body = b"" if response.status in _BODILESS else response.body
    if response.status not in _BODILESS:
        headers["Content-Length"] = str(len(body))
    return Response(response.status, headers, body, response.reason)


def response_bytes(response: Response) -> bytes:
    """A response as it goes over the wire."""
    return head_bytes(f"HTTP/1.1 {status_line(response)}", response.headers) + response.body


def _plain_response(status: int, error: HandshakeError) -> Response:
    text = str(error)
    publishable = status != 500 and _PUBLISHABLE.fullmatch(text)
    headers = Headers(error.headers)
    headers.setdefault("Content-Type", "text/plain; charset=utf-8")
    return Response(status, headers, f"{text if publishable else error.phrase}\n".encode())


def _refuse(request: Request, status: int, message: str, *headers: tuple[str, str]) -> NoReturn:
    """Raise what the client is answered: the message says what was expected, and nothing of what came.

    What came is in the error's `request`, for the log.
    """
    raise HandshakeError(message, status=status, request=request, headers=headers)


def _check_lines(head: bytes) -> None:
    """The limits and the strictness that h11 does not have."""
    lines = head.split(b"\r\n")[1:-2]
    if len(lines) > COUNT_LIMIT or any(len(line) > LINE_LIMIT for line in lines):
        raise h11.RemoteProtocolError("too many header lines, or too long a one", error_status_hint=431)
    # RFC 9112 section 5.2: folded lines may be refused, and intermediaries disagree about them.
    if any(line.startswith((b" ", b"\t")) for line in lines):
        raise h11.RemoteProtocolError("folded header line")


def _parse(head: bytes) -> h11.Request:
    http = h11.Connection(h11.SERVER)
    http.receive_data(head)
    event = http.next_event()
    assert isinstance(event, h11.Request)  # a whole head makes nothing else
    return event


def _check_request_line(event: h11.Request) -> None:
    if len(event.target) > TARGET_LIMIT:
        raise HandshakeError(_MALFORMED[414], status=414)
    if event.http_version >= b"2":
        raise HandshakeError("the version of HTTP must be 1.1", status=505)
    # RFC 9110 section 7.8: in HTTP/1.0 there is no Upgrade.
    if event.http_version < b"1.1":
        raise HandshakeError("the version of HTTP must be 1.1", status=400)


def _check_target(request: Request, host: str) -> None:
    try:
        split_host(host)
    except ValueError:
        _refuse(request, 400, "Host must be a host, or a host and a port")
    authority, path, _ = split_target(request.target)
    if not path.startswith("/") or "#" in request.target:
        _refuse(request, 400, "the request target must be a path, or an absolute URI")
    # RFC 9112 section 3.2: a client sends the same in both. Who does not may want us to take the wrong one.
    if authority is not None and authority.lower() != host.lower():
        _refuse(request, 400, "Host must be the one of the request target")


def _version(request: Request, fields: Fields) -> int:
    told = fields.get("sec-websocket-version")
    for version in VERSIONS:
        if told == [str(version)]:
            return version
    ours = ("Sec-WebSocket-Version", ", ".join(map(str, VERSIONS)))
    _refuse(request, 400, f"Sec-WebSocket-Version must be {' or '.join(map(str, VERSIONS))}", ours)


def _parsed(request: Request, name: str, parse: Callable[[list[str]], list[Any]]) -> list[Any]:
    try:
        return parse(request.headers.get_all(name))
    except ValueError as error:
        # The parsers name positions, not what stands there.
        _refuse(request, 400, f"{name}: {error}")


def _selected(request: Request, offered: list[str], select: Selector) -> str:
    try:
        chosen = select(list(offered), request)
    except USERS_ERRORS as error:
        raise HandshakeError("select_subprotocol failed", status=500, request=request) from error
    if chosen is None:
        return ""
    if chosen not in offered:
        answer = shown(chosen) if isinstance(chosen, str) else f"{chosen!r:.80}"
        _refuse(request, 500, f"select_subprotocol must answer one of those offered or None, not {answer}")
    return chosen


def _origins_told(fields: Fields) -> list[str]:
    """Whatever a request says about the page it comes from; more than one is a contradiction.

    Version 8 has another name for the header. Whoever sends both must say the same in them, and one is as good as the
    other: so neither can be used to get past a look at the other.
    """
    told = fields.get("origin", [])
    if fields.get("sec-websocket-version") != ["8"]:
        return told
    further = fields.get("sec-websocket-origin", [])
    return told if told == further else told + further


def _own_origins(request: Request) -> set[str]:
    """The origins of pages served under the request's Host.

    With `secure` not those of clear pages: whoever wrote into one must not reach in over TLS. The reverse is
    allowed, as a proxy that ends TLS makes it look so.
    """
    schemes = ("https",) if request.secure else ("http", "https")
    host = request.headers.get("Host", "")
    return {origin for scheme in schemes if (origin := _normal_or_none(f"{scheme}://{host}"))}


def _normal_or_none(origin: str) -> str | None:
    # Browsers send ASCII; what the codec of host names makes of other letters must not match.
    if not origin.isascii():
        return None
    try:
        return normal_origin(origin)
    except ValueError:
        return None
