"""`Socket`: from a URL, or a socket, to an open connection.

Rank 5, over Connection and `way`, which leads there; then through the one door. RFC 6455 section 4.1; the
constructor: the W3C WebSocket interface.
"""

from __future__ import annotations

import socket as _socket
import ssl as _ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .errors import CALLED_OFF
from .events import ErrorEvent, check_function
from .headers import HeaderSource
from .lifecycle import CLOSED, CLOSING, Role
from .options import ConnectionOptions, Options, check_binary_type, check_bool
from .runtime import Runtime, current_runtime
from .way import Plan, Way
from .websocket import Connection

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Error = TypeVar("_Error", bound=BaseException)


class Socket(Connection):
    """A WebSocket connection, blocking or with listeners.

    `Socket(url)` connects, shakes hands and returns in state OPEN, or raises `OSError`, `TimeoutError` or
    `HandshakeError`. With `blocking=False` it returns in state CONNECTING, as the W3C constructor does: success is
    the `open` event, failure an `error` event and then `close` 1006. Bad arguments raise ValueError or TypeError
    at once.

    url: `ws: wss: http: https:`, or `ws+unix:/path/of/socket:/target`. protocols: a subprotocol or a list of them.
    origin, headers: of the request. binaryType: see there. generate_mask: `() -> 4 bytes`, instead of the
    system's random bytes. protocol_version: 13, or 8 for servers of before the RFC. ssl: an `ssl.SSLContext`; the
    default verifies. proxy: True = as the environment says, None = none, or the URL of one: `http: https: socks4:
    socks4a: socks5: socks5h:`. sock: a connected socket to use instead of connecting. follow_redirects, max_redirects:
    credentials go to the same host and port only. on…: listeners, in place before anything can happen.

    Options, in seconds and bytes; None is no limit where it is allowed: handshake_timeout (10.0, for all of the way to
    OPEN), close_timeout (30.0, for the peer's answer to our Close), compression (True; False, or a `Deflate`),
    max_payload (64 MiB, of one message, before and after inflating; 0 = no limit), max_fragments (131072),
    max_queue (16 unread messages, then the peer is held back), ping_interval and ping_timeout (20.0), auto_pong (True),
    skip_utf8_validation (False).
    """

    #: the runtime of all sockets of this class; None: whatever the process lives in when one is made
    _RUNTIME: ClassVar[Runtime | None] = None

    def __init__(
        self,
        url: str | Acceptance,
        protocols: str | list[str] | tuple[str, ...] | None = None,
        *,
        blocking: bool = True,
        origin: str | None = None,
        headers: HeaderSource | None = None,
        binaryType: str = "bytes",
        generate_mask: Callable[[], bytes] | None = None,
        protocol_version: int = 13,
        ssl: _ssl.SSLContext | None = None,
        proxy: str | bool | None = True,
        sock: _socket.socket | None = None,
        follow_redirects: bool = False,
        max_redirects: int = 10,
        onopen: Callable[[Any], object] | None = None,
        onmessage: Callable[[Any], object] | None = None,
        onclose: Callable[[Any], object] | None = None,
        onerror: Callable[[Any], object] | None = None,
        onping: Callable[[Any], object] | None = None,
        onpong: Callable[[Any], object] | None = None,
        onupgrade: Callable[[Any], object] | None = None,
        onredirect: Callable[[Any], object] | None = None,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        if isinstance(url, Acceptance):
            super().__init__(url.runtime, url.options, server_side=True)
            self._home = self._runtime.current()  # until accept() has returned
            return
        settings = Options.of("Socket", {**options, "generate_mask": generate_mask})
        check_binary_type(binaryType)
        check_bool("blocking", blocking)
        _check_listeners(
            onopen=onopen,
            onmessage=onmessage,
            onclose=onclose,
            onerror=onerror,
            onping=onping,
            onpong=onpong,
            onupgrade=onupgrade,
            onredirect=onredirect,
        )
        asked = (protocols, origin, headers, settings.deflate, protocol_version)
        plan = Plan.of(url, *asked, ssl, sock, proxy, follow_redirects, max_redirects)
        super().__init__(self._RUNTIME or current_runtime(), settings, server_side=False)
        self.binaryType = binaryType
        self.onopen, self.onmessage, self.onclose, self.onerror = onopen, onmessage, onclose, onerror
        self.onping, self.onpong, self.onupgrade, self.onredirect = onping, onpong, onupgrade, onredirect
        way = Way(self, plan)
        if blocking:
            self._connect(way)
        else:
            self._runtime.spawn("syncws-listener", self._survive, self._connect_behind, way)

    def _connect(self, way: Way) -> None:
        """Go all the way, or raise and be CLOSED."""
        try:
            self._open(way.go())
        except BaseException as error:
            self._close_fired = True  # the exception tells it all
            self._give_up(error)
            raise

    def _connect_behind(self, way: Way) -> None:
        """The same on a thread of its own; failure is an `error` event, then `close`."""
        try:
            self._open(way.go())
        except BaseException as error:
            closed = ConnectionAbortedError(CALLED_OFF)
            cause = closed if self._aborted else _untraced(error)
            role = Role(self._runtime.current())
            with self._lock:
                if self._state == CLOSED:
                    return
                self._failure = ConnectionAbortedError(str(cause))
                self._state = CLOSING
                self._ended = self._aborted = True  # nobody must read in our place, or wait for a message
                self._dispatcher = self._dispatcher or role  # nor tell in our place what has to be told first
                self._happenings.clear()
                self._happenings.append((0, ErrorEvent(cause)))
            # Told before it is CLOSED, and by this thread, which is the connection's own.
            self._tell_all(role)
            self._give_up(cause)
            self._tell_all()
            if not isinstance(error, Exception):
                raise

    def _give_up(self, error: BaseException) -> None:
        """The handshake failed: CLOSED."""
        with self._lock:
            if self._state != CLOSED:
                self._failure = ConnectionAbortedError(str(error))
                self._mark_aborted("")  # somebody may use it already, and leaves now
                self._state = CLOSING
                self._conclude_if_due()
            if self._close_fired:
                self._happenings.clear()
                self._done = True


class Acceptance:
    """What a server makes a `Socket` from, in the place of a URL; `_open` follows."""

    __slots__ = ("options", "runtime")

    def __init__(self, runtime: Runtime, options: Options) -> None:
        self.runtime = runtime
        self.options = options


def check_socket_class(value: type[Socket]) -> type[Socket]:
    """TypeError unless `value` is a subclass of `Socket`, or that itself."""
    if not (isinstance(value, type) and issubclass(value, Socket)):
        raise TypeError(f"socket_class must be a subclass of Socket, not {value!r}")
    return value


def _check_listeners(**listeners: object) -> None:
    """TypeError for what is neither callable nor None. (The attributes take it for None, as in the HTML standard.)"""
    for name, listener in listeners.items():
        check_function(name, listener)


def _untraced(error: _Error) -> _Error:
    """The error without its tracebacks: it is kept in the socket that their frames hold."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
