"""The exceptions of syncws: the class says who is to blame, the instance what to answer.

Rank 0: imports nothing of the package; raised where the fault is found, turned into an answer in one place.
Source: RFC 6455 section 7.4.1 and the IANA registry (close codes).
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .exchange import Request, Response

CLOSE_MEANINGS: dict[int, str] = {
    1000: "normal closure",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no code given",
    1006: "no Close frame came",
    1007: "invalid data",
    1008: "policy violation",
    1009: "message too big",
    1010: "extension missing",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
}

#: Why a connection was not opened, if we did not want it any more.
CALLED_OFF = "closed before the connection was established"

#: What a function of the user's may raise, and no more than its connection suffers from. GreenletExit is not
#: among them, nor the time-outs of gevent: these end whatever runs.
USERS_ERRORS = (Exception, SystemExit, KeyboardInterrupt)


class WebSocketError(Exception):
    """The base of what syncws raises, time-outs (`TimeoutError`) and the system's `OSError` aside."""


class HandshakeError(WebSocketError):
    """The opening handshake failed.

    On a client `response` is the server's answer, if one came. On a server `status` is what the client is
    answered, with `headers` (pairs) beside the usual ones; None means there is nobody to answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        response: Response | None = None,
        request: Request | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.status = response.status if status is None and response is not None else status
        self.response = response
        self.request = request
        self.headers = tuple(headers)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)

    @property
    def phrase(self) -> str:
        """The standard reason phrase of `status`, or an empty string."""
        return HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else ""


class RedirectError(HandshakeError):
    """The server's redirect, `response`, leads nowhere we go, or was one too many."""


class ProxyError(HandshakeError):
    """The proxy did not let us through; `response` is what an HTTP proxy answered, if it did."""

    #: whether another try may go better; for what a status does not tell
    _may_pass = True


class UpgradeUnsupported(HandshakeError):
    """A server of somebody else's does not give its connections up; says what to use instead. The client gets 501."""

    def __init__(self, message: str, *, status: int | None = 501, **details: Any) -> None:
        super().__init__(message, status=status, **details)


class ProtocolError(WebSocketError):
    """The peer broke the protocol; `close_code` is what it is told (RFC 6455 section 7.4.1)."""

    close_code: ClassVar[int] = 1002


class InvalidData(ProtocolError):
    """Text that is not UTF-8, compressed data that cannot be inflated; of a `Message` also frames that make none."""

    close_code = 1007


class PolicyError(ProtocolError):
    """Allowed by the protocol, refused by a limit of ours other than the size of a message."""

    close_code = 1008


class MessageTooBig(ProtocolError):
    """A message exceeds `max_payload`, before or after inflating."""

    close_code = 1009


class ConnectionClosed(WebSocketError):
    """The connection is closing or closed.

    `code` and `reason` are the peer's: 1005 for an empty Close, 1006 when none came (so far).
    `wasClean` tells whether Close frames went both ways.
    """

    def __init__(self, code: int = 1006, reason: str = "", wasClean: bool = False) -> None:
        super().__init__(code, reason, wasClean)
        self.code = code
        self.reason = reason
        self.wasClean = wasClean

    def __str__(self) -> str:
        meaning = CLOSE_MEANINGS.get(self.code, "")
        text = f"closed with {self.code}" + (f" ({meaning})" if meaning else "")
        return f"{text}: {self.reason!r}" if self.reason else text


class BrokenStream(ConnectionClosed, ConnectionError):
    """A stream of bytes broke off: its end came in the middle, or nobody takes what is written to it any more.

    As a `ConnectionError` it is what users of files and sockets expect (`OSError`, with no `errno`).
    """

    def __init__(self, code: int = 1006, reason: str = "", wasClean: bool = False) -> None:
        super().__init__(code, reason, wasClean)
        # OSError has taken the three for its own.
        self.errno = self.strerror = self.filename = None
        self.args = (code, reason, wasClean)


class EndOfStream(ConnectionClosed, EOFError):
    """A stream ended where a message would begin: there are no more."""


class InvalidStateError(WebSocketError):
    """A call that the present ready state does not allow, such as `send` while CONNECTING."""


def _rebuild(kind: type[HandshakeError], args: tuple[Any, ...], state: dict[str, Any]) -> HandshakeError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def is_our_limit(error: BaseException) -> bool:
    """Whether it says that a time limit of a caller is over, and not one of the system's (ETIMEDOUT)."""
    return isinstance(error, TimeoutError) and error.errno is None
