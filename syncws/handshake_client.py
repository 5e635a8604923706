"""The client's side of the opening handshake: the request it sends, the checks of what comes back.

Rank 3: on `handshake`, `url`, `exchange`, `headers`, `deflate`, h11. No I/O: bytes in, values out.
RFC 6455 sections 4.1 and 4.2.2; a missing subprotocol fails as in the WHATWG's WebSockets Standard.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterable

import h11

from .deflate import NAME as PERMESSAGE_DEFLATE
from .deflate import Agreement, Deflate, agree, offer
from .errors import HandshakeError
from .exchange import Request, Response, head_bytes
from .handshake import (
    VERSIONS,
    Agreed,
    HeadBuffer,
    accept_key,
    connection_upgrades,
    event_headers,
    upgrades_to_websocket,
)
from .headers import Headers, HeaderSource, checked_subprotocols, format_extension, parse_extensions, shown
from .url import Address, split_host

HEAD_LIMIT = 65536  # bytes: the heads of all responses together, interim ones included
BODY_LIMIT = 65536  # bytes kept of the body of a refusal

# The caller's headers of these names give way to the handshake's own …
_OURS = frozenset(
    [
        "connection",
        "upgrade",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
    ]
)
# Whose page it is that connects: in version 13, in version 8.
_ORIGINS = ("Origin", "Sec-WebSocket-Origin")
# … and these would announce a body, which an upgrade request has not.
_OF_A_BODY = ("Content-Length", "Transfer-Encoding", "Trailer")


class ClientHandshake:
    """One request and the answer to it.

    `request_bytes()` goes out; what comes in is given to `receive` until it returns the 101 or raises. Then
    `agreed` is what was settled and `leftover` the bytes behind the head. `response` is set with its head.
    """

    def __init__(
        self,
        address: Address,
        *,
        protocols: str | Iterable[str] | None = (),
        origin: str | None = None,
        headers: HeaderSource | None = None,
        compression: Deflate | None = None,
        version: int = 13,
    ) -> None:
        self._version = _checked_version(version)
        self._key = b64encode(os.urandom(16)).decode("ascii")
        self._protocols = checked_subprotocols(protocols)
        self._compression = compression
        own = self._own_headers(address, origin)
        self.request = Request("GET", address.target, _merged(own, headers), secure=address.secure)
        self.response: Response | None = None
        self.agreed = Agreed()
        self.leftover = b""
        self._heads = HeadBuffer(HEAD_LIMIT)
        self._http = _expecting_upgrade()
        self._body = bytearray()

    def request_bytes(self) -> bytes:
        """The request as it stands now: `request.headers` may have been changed."""
        return head_bytes(f"{self.request.method} {self.request.target} HTTP/1.1", self.request.headers)

    def receive(self, data: bytes) -> Response | None:
        """Take in what the server sent, b"" for its end of file; None = more is needed.

        Returns the 101 that passed every check. Any other answer: HandshakeError with the response, when its
        body is read. No answer at all: HandshakeError without one.
        """
        if self.response is not None:
            self._receive_body(data)
            return None
        if not data:
            raise self._failure("the connection was closed before the handshake was answered")
        self._heads.add(data)
        try:
            return self._receive_heads()
        except h11.RemoteProtocolError as error:
            # h11 quotes what it refuses by repr(), at any length.
            # Without h11's traceback: one of its frames holds the error, and that all of its callers.
            raise self._failure(f"malformed HTTP response: {str(error)[:200]}") from error.with_traceback(None)

    def _own_headers(self, address: Address, origin: str | None) -> Headers:
        own = Headers(
            [
                ("Host", address.host_header),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Key", self._key),
                ("Sec-WebSocket-Version", str(self._version)),
            ]
        )
        if self._protocols:
            own.add("Sec-WebSocket-Protocol", ", ".join(self._protocols))
        if self._compression is not None:
            own.add("Sec-WebSocket-Extensions", offer(self._compression))
        if origin is not None:
            own.add("Origin" if self._version == 13 else "Sec-WebSocket-Origin", origin)
        if address.userinfo is not None:
            credentials = ":".join(address.userinfo).encode()
            own.add("Authorization", "Basic " + b64encode(credentials).decode("ascii"))
        return own

    def _receive_heads(self) -> Response | None:
        while (head := self._heads.next_head()) is not None:
            self._http.receive_data(head)
            event = self._http.next_event()
            # A whole head makes nothing else.
            assert isinstance(event, h11.Response | h11.InformationalResponse)
            status = event.status_code
            # 100, 103 and the like come before the answer (RFC 9110 section 15.2).
            if status < 200 and status != 101:
                continue
            self.response = Response(status, event_headers(event), reason=event.reason.decode("latin-1"))
            if status == 101:
                return self._upgraded(self.response, event.http_version)
            # An empty rest is not given to h11, which would take it for the end of file.
            self._receive_body(self._heads.rest() or None)
            break
        return None

    def _receive_body(self, data: bytes | None) -> None:
        """Collect the body of a refusal; `HandshakeError` at its end, or at the limit."""
        if data is not None:
            self._http.receive_data(data)
        try:
            event = self._http.next_event()
            while isinstance(event, h11.Data):
                self._body += event.data
                event = self._http.next_event()
        except h11.RemoteProtocolError:
            # Cut short or badly chunked: the status is what matters, and it is known.
            event = h11.PAUSED
        if event is not h11.NEED_DATA or len(self._body) >= BODY_LIMIT:
            raise self._refused()

    def _refused(self) -> HandshakeError:
        response = self.response
        assert response is not None
        response.body = bytes(self._body[:BODY_LIMIT])
        return self._failure(f"the server answered {response.status} {shown(response.reason)}, not 101")

    def _failure(self, message: str) -> HandshakeError:
        return HandshakeError(message, request=self.request, response=self.response)

    def _upgraded(self, response: Response, http_version: bytes) -> Response:
        """The checks of a 101, in the order of RFC 6455 section 4.1."""
        headers = response.headers
        if http_version < b"1.1":
            raise self._failure("the server must answer in HTTP/1.1")
        if not upgrades_to_websocket(headers.get_all("Upgrade")):
            raise self._failure(f"Upgrade must be websocket, not {_came(headers, 'Upgrade')}")
        if not connection_upgrades(headers.get_all("Connection")):
            raise self._failure(f"Connection must have the token upgrade, not {_came(headers, 'Connection')}")
        if headers.get_all("Sec-WebSocket-Accept") != [accept_key(self._key)]:
            raise self._failure("Sec-WebSocket-Accept does not answer our key")
        protocol = self._chosen_protocol(headers)
        deflate, extensions = self._agreed_extension(headers)
        self.agreed = Agreed(protocol, deflate, extensions, self._version)
        self.leftover = self._heads.rest()
        return response

    def _chosen_protocol(self, headers: Headers) -> str:
        chosen = headers.get_all("Sec-WebSocket-Protocol")
        if not chosen and not self._protocols:
            return ""
        if len(chosen) != 1 or chosen[0] not in self._protocols:
            came = _came(headers, "Sec-WebSocket-Protocol")
            raise self._failure(f"the subprotocol must be one of {self._protocols}, not {came}")
        return chosen[0]

    def _agreed_extension(self, headers: Headers) -> tuple[Agreement | None, str]:
        values = headers.get_all("Sec-WebSocket-Extensions")
        if not values:
            return None, ""
        if self._compression is None:
            raise self._failure("the server chose an extension, and none was offered")
        try:
            chosen = parse_extensions(values)
            if [name for name, _ in chosen] != [PERMESSAGE_DEFLATE]:
                raise ValueError(f"expected {PERMESSAGE_DEFLATE} and nothing else")
            return agree(self._compression, chosen[0][1]), format_extension(*chosen[0])
        except ValueError as error:
            came = _came(headers, "Sec-WebSocket-Extensions")
            raise self._failure(f"Sec-WebSocket-Extensions {came}: {error}") from error


def _expecting_upgrade() -> h11.Connection:
    """An h11 connection on which the request was sent: it reads the response to one."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "h"), ("Upgrade", "websocket")]))
    http.send(h11.EndOfMessage())
    return http


def _checked_version(version: int) -> int:
    """A caller's version of the protocol; else TypeError or ValueError."""
    if version in VERSIONS and isinstance(version, int):
        return version
    known = " or ".join(map(str, VERSIONS))
    if isinstance(version, bool) or not isinstance(version, (int, str)):
        raise TypeError(f"protocol_version must be {known}, not {version!r}")
    raise ValueError(f"protocol_version must be {known}, not {version!r}")


def _merged(own: Headers, source: HeaderSource | None) -> Headers:
    """Our headers and the caller's; theirs win for Host and Authorization, ours for the rest."""
    further = Headers(source or ())
    for name in _OF_A_BODY:
        if name in further:
            raise ValueError(f"a handshake has no body, and so no {name}")
    for name in ("Host", *_ORIGINS):
        if len(further.get_all(name)) > 1:
            raise ValueError(f"{name} is repeated")
    if "Host" in further:
        split_host(further["Host"])
        own["Host"] = further.pop("Host")
    if "Authorization" in further:
        own.pop("Authorization", None)
    for name in _ORIGINS:
        if name in own:
            further.pop(name, None)
    for name, value in further.items():
        if name.lower() not in _OURS:
            own.add(name, value)
    return own


def _came(headers: Headers, name: str) -> str:
    """What a header of the server's says, for an error text."""
    values = headers.get_all(name)
    return shown(", ".join(values)) if values else "absent"
