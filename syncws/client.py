"""`Socket`: from a URL, or a socket, to an open connection.

Rank 5, over Connection. The way there: resolve, connect, TLS, opening handshake, all before one deadline; then through
the one door. RFC 6455 section 4.1; the constructor: the W3C WebSocket interface.
"""

from __future__ import annotations

import logging
import socket as _socket
import ssl as _ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from . import url as _url
from .errors import HandshakeError
from .events import ErrorEvent, ResponseEvent
from .handshake_client import ClientHandshake
from .headers import HeaderSource
from .lifecycle import CLOSED, CLOSING
from .options import ConnectionOptions, Options, check_binary_type
from .runtime import READ, WRITE, Runtime, current_runtime, deadline_after, remaining
from .transport import Out, TLSTransport, Transport, check_context, connect
from .websocket import Connection, Opening

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger("syncws")

_READ_SIZE = 4096
_BODY_PATIENCE = 2.0  # seconds for the body of a refusal: the status is what matters, and it is known
_ASK_AGAIN = 0.1  # seconds between two looks at whether anybody still wants the answer of a resolver


class Socket(Connection):
    """A WebSocket connection, blocking or with listeners.

    `Socket(url)` connects, shakes hands and returns in state OPEN, or raises `OSError`, `TimeoutError` or
    `HandshakeError`. With `blocking=False` it returns in state CONNECTING, as the W3C constructor does: success is
    the `open` event, failure an `error` event and then `close` 1006. Bad arguments raise ValueError or TypeError
    at once.

    url: `ws: wss: http: https:`, or `ws+unix:/path/of/socket:/target`. protocols: a subprotocol or a list of them.
    origin, headers: of the request. binaryType: see there. generate_mask: `() -> 4 bytes`, instead of the
    system's random bytes. protocol_version: 13, or 8 for servers of before the RFC. ssl: an `ssl.SSLContext`; the
    default verifies. sock: a connected socket to use instead of connecting. on…: listeners, in place before anything
    can happen.

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
        sock: _socket.socket | None = None,
        onopen: Callable[[Any], object] | None = None,
        onmessage: Callable[[Any], object] | None = None,
        onclose: Callable[[Any], object] | None = None,
        onerror: Callable[[Any], object] | None = None,
        onping: Callable[[Any], object] | None = None,
        onpong: Callable[[Any], object] | None = None,
        onupgrade: Callable[[Any], object] | None = None,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        if isinstance(url, Acceptance):
            super().__init__(url.runtime, url.options, server_side=True)
            self._at_home = True  # until accept() has returned
            return
        address = _url.parse(url)
        settings = Options.of("Socket", {**options, "generate_mask": generate_mask})
        handshake = ClientHandshake(
            address,
            protocols=() if protocols is None else protocols,
            origin=origin,
            headers=headers,
            compression=settings.deflate,
            version=protocol_version,
        )
        check_binary_type(binaryType)
        _check_transport_arguments(address, ssl, sock)
        super().__init__(self._RUNTIME or current_runtime(), settings, server_side=False)
        self.url = address.url
        self.binaryType = binaryType
        self.protocol_version = protocol_version
        self.request = handshake.request
        self.onopen, self.onmessage, self.onclose, self.onerror = onopen, onmessage, onclose, onerror
        self.onping, self.onpong, self.onupgrade = onping, onpong, onupgrade
        way = _Way(self, address, handshake, ssl, sock)
        if blocking:
            self._connect(way)
        else:
            self._spawn(self._connect_behind, way)

    def _connect(self, way: _Way) -> None:
        """Go all the way, or raise and be CLOSED."""
        try:
            self._open(way.go())
        except BaseException as error:
            self._close_fired = True  # the exception tells it all
            self._give_up(error)
            raise

    def _connect_behind(self, way: _Way) -> None:
        """The same on a thread of its own; failure is an `error` event, then `close`."""
        try:
            self._open(way.go())
        except Exception as error:
            closed = ConnectionAbortedError("closed before the connection was established")
            cause = closed if self._aborted else _untraced(error)
            with self._lock:
                if self._state == CLOSED:
                    return
                self._state = CLOSING
                self._ended = True  # whoever waits for the close must not read in our place
                self._happenings.clear()
                self._happenings.append((0, ErrorEvent(cause)))
            # Told before it is CLOSED, and by this thread, which is the connection's own.
            self._tell_all()
            self._give_up(cause)
            self._tell_all()

    def _give_up(self, error: BaseException) -> None:
        """The handshake failed: CLOSED."""
        with self._lock:
            if self._state != CLOSED:
                self._failure = ConnectionAbortedError(str(error))
                self._aborted = True
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


class _Way:
    """The way of one client from its arguments to an `Opening`, before one deadline."""

    def __init__(
        self,
        owner: Socket,
        address: _url.Address,
        handshake: ClientHandshake,
        context: _ssl.SSLContext | None,
        sock: _socket.socket | None,
    ) -> None:
        self._owner = owner
        self._runtime = owner._runtime
        self._address = address
        self._handshake = handshake
        self._context = context
        self._sock = sock
        self._timeout = owner._options.handshake_timeout
        self._deadline = deadline_after(self._timeout)

    def go(self) -> Opening:
        """Raises OSError, TimeoutError or HandshakeError; the owner then closes what was opened."""
        try:
            transport = self._dial() if self._sock is None else self._wrap(self._sock)
            if isinstance(transport, TLSTransport):
                transport.handshake(self._deadline)
            return self._shake_hands(transport)
        except TimeoutError as error:
            raise TimeoutError(f"{self._address.url} was not open within {self._timeout} s: {error}") from error

    def _dial(self) -> Transport:
        if self._address.unix is not None:
            return self._connect(_socket.AF_UNIX, self._address.unix)
        address, owner = self._address, self._owner
        found = resolve(self._runtime, address.host, address.port, self._deadline, lambda: owner._aborted)
        for family, _, _, _, address in found[:-1]:
            try:
                return self._connect(family, address)
            except OSError as error:
                logger.debug("no connection to %s: %s", address, error)
        return self._connect(found[-1][0], found[-1][4])

    def _connect(self, family: int, address: Any) -> Transport:
        return connect(self._runtime, self._wrap, family, address, self._deadline)

    def _wrap(self, sock: _socket.socket) -> Transport:
        """A transport of the right kind, known to the owner, so that `terminate` can shut it."""
        transport: Transport
        if self._address.secure:
            context = self._context or _ssl.create_default_context()
            transport = TLSTransport(self._runtime, sock, context, server_hostname=self._address.host)
        else:
            transport = Transport(self._runtime, sock)
        with self._owner._lock:
            self._owner._take_over(transport)
            if self._owner._aborted:
                transport.shutdown()
        return transport

    def _shake_hands(self, transport: Transport) -> Opening:
        out: Out = [self._handshake.request_bytes()]
        while not transport.write(out):
            if not transport.wait(WRITE | READ, remaining(self._deadline)):
                raise TimeoutError("the server does not take the request")
        buffer = bytearray(_READ_SIZE)
        patience: float | None = None
        while True:
            count = transport.read(buffer, remaining(_earlier(self._deadline, patience)))
            if count is None and patience is None:
                raise TimeoutError("the server does not answer the handshake")
            response = self._receive(bytes(buffer[: count or 0]))
            if response is not None:
                break
            if patience is None and self._handshake.response is not None:
                patience = deadline_after(_BODY_PATIENCE)
        return Opening(
            transport,
            self._handshake.request,
            response,
            self._handshake.agreed,
            self._handshake.leftover,
        )

    def _receive(self, data: bytes) -> Any:
        owner = self._owner
        if owner._aborted:
            raise ConnectionAbortedError("closed before the connection was established")
        try:
            response = self._handshake.receive(data)
        except HandshakeError as error:
            owner.response = error.response
            if error.response is not None and error.response.status != 101:
                owner._call("unexpected-response", ResponseEvent("unexpected-response", error.response, owner))
            raise
        if response is not None:
            owner.response = response
            owner._call("upgrade", ResponseEvent("upgrade", response, owner))
        return response


def resolve(
    runtime: Runtime, host: str, port: int, deadline: float | None, abandoned: Callable[[], bool]
) -> list[Any]:
    """getaddrinfo, but with a deadline: the system's has none, so it gets a thread of its own."""
    try:
        return runtime.numeric_address(host, port)
    except _socket.gaierror:
        pass  # a name
    bell = runtime.lock()
    bell.acquire()
    result: list[Any] = []

    def ask() -> None:
        try:
            result.append(runtime.getaddrinfo(host, port))
        except Exception as error:
            result.append(error)
        finally:
            bell.release()

    runtime.spawn("syncws-resolver", ask)
    while not runtime.acquire(bell, _ASK_AGAIN if deadline is None else min(_ASK_AGAIN, remaining(deadline) or 0)):
        if abandoned() or (deadline is not None and deadline <= time.monotonic()):
            raise TimeoutError(f"the name {host!r} was not resolved")
    if isinstance(result[0], Exception):
        raise result[0]
    return list(result[0])


def _earlier(one: float | None, other: float | None) -> float | None:
    """The earlier of two deadlines; None is never."""
    return min((moment for moment in (one, other) if moment is not None), default=None)


def check_socket_class(value: type[Socket]) -> type[Socket]:
    """TypeError unless `value` is a subclass of `Socket`, or that itself."""
    if not (isinstance(value, type) and issubclass(value, Socket)):
        raise TypeError(f"socket_class must be a subclass of Socket, not {value!r}")
    return value


def _untraced(error: Exception) -> Exception:
    """The error without its tracebacks: it is kept in the socket that their frames hold."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def _check_transport_arguments(
    address: _url.Address, context: _ssl.SSLContext | None, sock: _socket.socket | None
) -> None:
    if context is not None:
        check_context(context, server_side=False)
    if context is not None and not address.secure:
        raise ValueError(f"ssl is of no use for {address.url}: the scheme must be wss or https")
    if sock is not None and not hasattr(sock, "detach"):  # gevent's sockets are of another class
        raise TypeError(f"sock must be a connected socket, not {sock!r}")
    if isinstance(sock, _ssl.SSLSocket):
        raise TypeError("sock must be a plain socket: for TLS over it use a wss URL, and ssl for its context")
