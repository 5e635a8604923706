"""One client's opening handshake, from its first byte to an open connection or a refusal.

Rank 5, over Connection. What is judged, and in which order, stands in `judge`; RFC 6455 section 4.2.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, NamedTuple
from urllib.parse import quote

from . import hixie76
from .errors import USERS_ERRORS, HandshakeError
from .events import EventTarget, check_function, check_ran, check_runs
from .exchange import Request, Response
from .handshake import Agreed
from .handshake_server import (
    Selector,
    ServerHandshake,
    accept_response,
    check,
    negotiate,
    normal_origin,
    origin_allowed,
    origin_of,
    refusal,
    response_bytes,
)
from .headers import checked_subprotocols, shown
from .options import Options, check_bool, check_count
from .runtime import remaining
from .transport import Transport

logger = logging.getLogger("syncws")

_READ_SIZE = 4096
_LINGER = 1.0  # seconds a refused client has to read the answer and leave
_LINGER_BYTES = 1 << 17
_NOT_TAKEN = "the client does not take the answer"
_PATH = "%/:@!$&'()*+,;=~-._"  # what stands in a path as it is
# The handshake's own headers of a 101, hixie-76's too, and two it must not have (RFC 9110 8.6, RFC 9112 6.1).
SETTLED = (
    *("Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"),
    *("Sec-WebSocket-Origin", "Sec-WebSocket-Location", "Content-Length", "Transfer-Encoding"),
)

Handler = Callable[[Any, Request], object]


class ClientInfo(NamedTuple):
    """What `verify_client` is asked about."""

    origin: str | None
    secure: bool
    request: Request


Verifier = Callable[[ClientInfo], "bool | Response"]


class _ForeignOrigin(HandshakeError):
    """The browser's page is another host's."""

    def advice(self) -> str:
        """For the log; the client is not told."""
        assert self.request is not None
        origin = origin_of(self.request) or ""
        try:
            normal_origin(origin)
        except ValueError:
            return f"; no list can name {shown(origin)}, but origins=None would let it in"
        return f"; origins=[{shown(origin)}] would let it in, origins=None any"


@dataclass(frozen=True)
class Admission:
    """Who is let in, and what is agreed with them."""

    options: Options
    accept: Handler | Mapping[str, Handler] | None = None
    path: str | None = None
    origins: str | Iterable[str] | None = "same"
    verify_client: Verifier | None = None
    protocols: Sequence[str] | None = None
    select_subprotocol: Selector | None = None
    max_header_size: int = 16384
    legacy: bool = False

    def __post_init__(self) -> None:
        if self.origins is not None and self.origins != "same":
            for origin in [self.origins] if isinstance(self.origins, str) else self.origins:
                normal_origin(origin)
        _check_accept(self.accept)
        if self.path is not None:
            _check_path(self.path)
        check_bool("legacy", self.legacy)
        check_count("max_header_size", self.max_header_size, least=1)
        for name in ("verify_client", "select_subprotocol"):
            check_function(name, getattr(self, name))

    def serves(self, request: Request) -> bool:
        """Whether it is the path that is served, if only one is."""
        return self.path is None or request.path == self.path

    @property
    def paths(self) -> frozenset[str] | None:
        """Those that are served; None: all."""
        if self.path is not None:
            return frozenset((self.path,))
        return frozenset(self.accept) if isinstance(self.accept, Mapping) else None

    def handler(self, request: Request) -> Handler | None:
        """Who gets the connection; HandshakeError 404 for a path that is not in the mapping."""
        if not isinstance(self.accept, Mapping):
            return self.accept
        try:
            return self.accept[request.path]
        except KeyError:
            raise HandshakeError("there is nothing at this path", status=404, request=request) from None

    def judge(self, request: Request, should_handle: Callable[[Request], bool], *, routed: bool = True) -> Agreed:
        """Whether the client is let in; HandshakeError with the status if not.

        routed: by the mapping of paths, if there is one.
        """
        legacy = self.legacy and hixie76.is_offered(request.headers)
        version = hixie76.check(request) if legacy else check(request)
        if not _asked("should_handle", should_handle, request):
            raise HandshakeError("this path is not served here", status=400, request=request)
        if routed:
            self.handler(request)
        self._judge_origin(request)
        if self.verify_client is not None:
            negotiate(request)  # the grammar of what is offered, before any of the user's functions
            self._verify(request, self.verify_client)
        agreed = negotiate(
            request,
            protocols=self.protocols,
            select_subprotocol=self.select_subprotocol,
            compression=None if legacy else self.options.deflate,
        )
        return agreed if version == agreed.version else replace(agreed, version=version)

    def answer(
        self, transport: Transport, request: Request, agreed: Agreed, leftover: bytes, deadline: float | None
    ) -> tuple[Response, bytes]:
        """The 101, and what of `leftover` is frames.

        What is still missing of a legacy request is read first; HandshakeError, 408 when it is not complete in time.
        """
        if agreed.version != hixie76.VERSION:
            return accept_response(request, agreed), leftover
        while len(leftover) < hixie76.NONCE_SIZE:
            data = _read(transport, deadline)
            if not data:
                raise HandshakeError("the connection was closed before the request was complete", request=request)
            leftover += data
        nonce, frames = leftover[: hixie76.NONCE_SIZE], leftover[hixie76.NONCE_SIZE :]
        return hixie76.accept_response(request, agreed, nonce), frames

    def _judge_origin(self, request: Request) -> None:
        if origin_allowed(request, self.origins):
            return
        raise _ForeignOrigin("this origin is not allowed", status=403, request=request)

    def _verify(self, request: Request, verify_client: Verifier) -> None:
        info = ClientInfo(origin_of(request), request.secure, request)
        verdict = _asked("verify_client", verify_client, info)
        if isinstance(verdict, Response):
            # Made once more, for its parts are plain attributes, which may have been set to anything.
            parts = (verdict.status, verdict.headers, verdict.body, verdict.reason)
            verdict = _asked("the answer of verify_client", Response, *parts)
            if verdict.status < 200:
                raise HandshakeError(f"verify_client answered {verdict.status}, which ends no request", status=500)
            raise HandshakeError("verify_client refused", response=verdict, request=request)
        if not verdict:
            raise HandshakeError("not authorized", status=401, request=request)


def listed_subprotocols(protocols: Sequence[str] | None) -> tuple[str, ...] | None:
    """A server's subprotocols; TypeError or ValueError for what is no list of them."""
    if isinstance(protocols, str):
        raise TypeError(f"protocols must be a list of subprotocols, not {protocols!r}")
    return None if protocols is None else tuple(checked_subprotocols(protocols))


def _check_path(path: object) -> None:
    """TypeError or ValueError for what no request has."""
    if not isinstance(path, str):
        raise TypeError(f"a path must be a str, not {path!r}")
    if not path.startswith("/") or "?" in path or "#" in path:
        raise ValueError(f"a path must begin with /, and have no query and no fragment, not {path!r}")
    if not (path.isascii() and path.isprintable() and " " not in path):
        raise ValueError(f"a path must be as clients send it, {quote(path, safe=_PATH)!r}, not {path!r}")


def _check_accept(accept: object) -> None:
    if isinstance(accept, Mapping):
        for path, handler in accept.items():
            if not isinstance(path, str) or not callable(handler):
                raise TypeError(f"accept must map paths to callables, not {path!r} to {handler!r}")
            _check_path(path)
            check_runs(f"accept[{path!r}]", handler)
    elif accept is not None and not callable(accept):
        raise TypeError(f"accept must be callable or a mapping of paths to callables, not {accept!r}")
    else:
        check_runs("accept", accept)


def listed(origins: str | Iterable[str] | None) -> str | tuple[str, ...] | None:
    """Allowed origins as they can be looked at more than once; TypeError for what is none."""
    if origins is None or isinstance(origins, str):
        return origins
    found = tuple(origins) if isinstance(origins, Iterable) else (origins,)
    if not all(isinstance(origin, str) for origin in found):
        raise TypeError(f"origins must be 'same', an origin, a list of them or None, not {origins!r}")
    return found


def _asked(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the user's answers; HandshakeError 500 if it raises."""
    try:
        answer = function(*arguments)
        check_ran(what, answer)
        return answer
    except USERS_ERRORS as error:
        raise HandshakeError(f"{what} failed", status=500) from error


def let_change(server: EventTarget, response: Response, request: Request) -> None:
    """Ask the `headers` listeners; HandshakeError 500 if one fails, or changes what the handshake has settled."""
    if not server._has_listeners("headers"):
        return  # the usual case, and the comparison takes its time
    headers = response.headers
    settled = [headers.get_all(name) for name in SETTLED]
    _asked("a listener for 'headers'", server._consult, "headers", headers, request)
    for name, values in zip(SETTLED, settled, strict=True):
        if headers.get_all(name) != values:
            why = f"a listener for 'headers' must leave {name} as it is"
            raise HandshakeError(why, status=500, request=request)


def read_request(
    transport: Transport, deadline: float | None, max_header_size: int, address: Any, secure: bool
) -> tuple[Request, bytes]:
    """The request and what came behind its head. HandshakeError, 408 when it is not complete in time."""
    handshake = ServerHandshake(max_header_size=max_header_size, secure=secure, remote_address=address)
    while True:
        request = handshake.receive(_read(transport, deadline))
        if request is not None:
            return request, handshake.leftover


def _read(transport: Transport, deadline: float | None) -> bytes:
    """What comes next, b"" at the end of the stream."""
    buffer = bytearray(_READ_SIZE)
    count = transport.read(buffer, remaining(deadline))
    if count is None:
        raise HandshakeError("the request was not complete in time", status=408)
    return bytes(buffer[:count])


def report(error: HandshakeError, peer: Any) -> None:
    """Log that `peer` was refused, and why."""
    ours = error.status == 500
    advice = error.advice() if isinstance(error, _ForeignOrigin) else ""
    logger.log(
        logging.ERROR if ours else logging.WARNING if advice else logging.INFO,
        "refused %s: %s %s%s",
        peer,
        error.status,
        error,
        advice,
        exc_info=error.__cause__ if ours else None,
    )


def refuse(transport: Transport, error: HandshakeError, request: Request | None = None) -> None:
    """Answer a failed handshake, and give the client a moment to read that. The caller closes."""
    report(error, transport.addresses()[0])
    if error.status is None:
        return
    response = refusal(error)
    response.headers.setdefault("Date", formatdate(usegmt=True))  # RFC 9110 section 6.6.1
    request = request or error.request
    if request is not None and request.method == "HEAD":
        response.body = b""  # section 9.3.2
    deadline = time.monotonic() + _LINGER
    with contextlib.suppress(OSError):  # it has left, or does not read
        transport.write_all(response_bytes(response), deadline, _NOT_TAKEN)
        linger(transport, deadline)


def linger(transport: Transport, deadline: float) -> None:
    """Read and drop until the peer is done: a reset for unread data would destroy what it was told."""
    transport.finish_writing()
    buffer = bytearray(_READ_SIZE)
    left = _LINGER_BYTES
    while left > 0:
        count = transport.read(buffer, remaining(deadline))
        if not count:
            return
        left -= count


class HandshakeSocket:
    """What a `client_error` listener may answer on: `sendall` and `close`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._spoke = False
        self.closed = False

    def sendall(self, data: bytes) -> None:
        """Write all of `data`; TimeoutError if the client does not take it within a second."""
        self._spoke = True
        self._transport.write_all(data, time.monotonic() + _LINGER, _NOT_TAKEN)

    def getpeername(self) -> Any:
        return self._transport.addresses()[0]

    def close(self) -> None:
        """The answer is given: nothing more is sent, and the connection ends."""
        self.closed = True

    def answered(self) -> bool:
        """Whether a listener answered, if only by `close`; the client then gets a moment to read that."""
        if self._spoke:
            linger(self._transport, time.monotonic() + _LINGER)
        return self._spoke or self.closed
