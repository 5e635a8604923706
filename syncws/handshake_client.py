"""The client's side of the opening handshake: the request it sends, the checks of what comes back.

Rank 3: on `answer`, `handshake`, `url`, `exchange`, `headers`, `deflate`. No I/O: bytes in, values out.
RFC 6455 sections 4.1 and 4.2.2; a missing subprotocol fails as in the WHATWG's WebSockets Standard.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterable

from .answer import AnswerReader
from .deflate import NAME as PERMESSAGE_DEFLATE
from .deflate import Agreement, Deflate, agree, offer
from .errors import HandshakeError
from .exchange import Request, Response, basic_authorization, head_bytes
from .handshake import (
    VERSIONS,
    Agreed,
    accept_key,
    connection_upgrades,
    upgrades_to_websocket,
)
from .headers import Headers, HeaderSource, checked_subprotocols, format_extension, parse_extensions, shown
from .url import Address, split_host

_REDIRECTS = frozenset([301, 302, 303, 307, 308])
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
# … and these would announce a body, which an upgrade request has not.
_OF_A_BODY = ("Content-Length", "Transfer-Encoding", "Trailer")
# Whose page it is that connects: in version 13, in version 8.
_ORIGINS = ("Origin", "Sec-WebSocket-Origin")


class ClientHandshake:
    """One request and the answer to it.

    `request_bytes()` goes out; what comes in is given to `receive` until it returns the 101 or raises. Then
    `agreed` is what was settled and `leftover` the bytes behind the head.
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
        follow_redirects: bool = False,
    ) -> None:
        self._version = _checked_version(version)
        self._key = b64encode(os.urandom(16)).decode("ascii")
        self._protocols = checked_subprotocols(protocols)
        self._compression = compression
        own = self._own_headers(address, origin)
        self.request = Request("GET", address.target, _merged(own, headers), secure=address.secure)
        self.agreed = Agreed()
        self.leftover = b""
        self._follow_redirects = follow_redirects
        self._answer = AnswerReader("GET", self._ends_at_head, self._failure)

    def request_bytes(self) -> bytes:
        """The request as it stands now: `request.headers` may have been changed."""
        return head_bytes(f"{self.request.method} {self.request.target} HTTP/1.1", self.request.headers)

    @property
    def response(self) -> Response | None:
        """What the server answered, from its head on."""
        return self._answer.response

    def receive(self, data: bytes) -> Response | None:
        """Take in what the server sent, b"" for its end of file; None = more is needed.

        Returns the 101 that passed every check, or a redirect to be followed, without its body. Any other answer:
        HandshakeError with the response, when its body is read. No answer at all: HandshakeError without one.
        """
        response = self._answer.receive(data)
        if response is None:
            return None
        if response.status == 101:
            return self._upgraded(response, self._answer.http_version)
        if not self._ends_at_head(response):
            raise self._failure(f"the server answered {response.status} {shown(response.reason)}, not 101")
        return response

    def _ends_at_head(self, response: Response) -> bool:
        return response.status == 101 or (self._follow_redirects and is_redirect(response))

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
            own.add("Authorization", basic_authorization(address.userinfo))
        return own

    def _failure(self, message: str) -> HandshakeError:
        return HandshakeError(message, request=self.request, response=self.response)

    def _upgraded(self, response: Response, http_version: bytes) -> Response:
        """The checks of a 101, in the order of RFC 6455 section 4.1."""
        headers = response.headers
        if http_version < b"1.1":
            raise self._failure(f"the server must answer in HTTP/1.1, not HTTP/{http_version.decode()}")
        if not upgrades_to_websocket(headers.get_all("Upgrade")):
            raise self._failure(f"Upgrade must be websocket, not {_came(headers, 'Upgrade')}")
        if not connection_upgrades(headers.get_all("Connection")):
            raise self._failure(f"Connection must have the token upgrade, not {_came(headers, 'Connection')}")
        if headers.get_all("Sec-WebSocket-Accept") != [accept_key(self._key)]:
            came = _came(headers, "Sec-WebSocket-Accept")
            raise self._failure(f"Sec-WebSocket-Accept does not answer our key: {came}")
        protocol = self._chosen_protocol(headers)
        deflate, extensions = self._agreed_extension(headers)
        self.agreed = Agreed(protocol, deflate, extensions, self._version)
        self.leftover = self._answer.rest
        return response

    def _chosen_protocol(self, headers: Headers) -> str:
        chosen = headers.get_all("Sec-WebSocket-Protocol")
        if not chosen and not self._protocols:
            return ""
        if len(chosen) != 1 or chosen[0] not in self._protocols:
            came = _came(headers, "Sec-WebSocket-Protocol")
            if not self._protocols:
                raise self._failure(f"the server chose a subprotocol, {came}, and none was offered")
            raise self._failure(f"the subprotocol must be one of {self._protocols}, not {came}")
        return chosen[0]

    def _agreed_extension(self, headers: Headers) -> tuple[Agreement | None, str]:
        values = headers.get_all("Sec-WebSocket-Extensions")
        if not values:
            return None, ""
        if self._compression is None:
            came = _came(headers, "Sec-WebSocket-Extensions")
            raise self._failure(f"the server chose an extension, {came}, and none was offered")
        try:
            chosen = parse_extensions(values)
            if [name for name, _ in chosen] != [PERMESSAGE_DEFLATE]:
                raise ValueError(f"expected {PERMESSAGE_DEFLATE} and nothing else")
            return agree(self._compression, chosen[0][1]), format_extension(*chosen[0])
        except ValueError as error:
            came = _came(headers, "Sec-WebSocket-Extensions")
            raise self._failure(f"Sec-WebSocket-Extensions {came}: {error}") from error


def is_redirect(response: Response) -> bool:
    """Whether it says where else to ask: RFC 9110 section 15.4, those that mean it for a GET."""
    return response.status in _REDIRECTS and "Location" in response.headers


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
    if any(name in own for name in _ORIGINS):
        for name in _ORIGINS:
            further.pop(name, None)
    for name, value in further.items():
        if name.lower() not in _OURS:
            own.add(name, value)
    return own


def _came(headers: Headers, name: str) -> str:
    """What a header of the server's says, for an error text."""
    values = headers.get_all(name)
    return shown(", ".join(values)) if values else "absent"
