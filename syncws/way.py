"""The way of a client from its arguments to an `Opening`: names, TCP, proxies, TLS, handshake, redirects.

Rank 5: below `client`, over `proxy`, `transport` and `handshake_client`. All of it before one deadline.
Redirects: RFC 6455 section 4.1 allows them, RFC 9110 section 15.4 says what they mean.
"""

from __future__ import annotations

import logging
import socket as _socket
import ssl as _ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import proxy as _proxy
from . import url as _url
from .answer import BODY_PATIENCE
from .deflate import Deflate
from .errors import CALLED_OFF, HandshakeError, RedirectError, is_our_limit
from .events import RedirectEvent, ResponseEvent
from .exchange import Response
from .handshake_client import ClientHandshake
from .headers import Headers, HeaderSource, checked_subprotocols
from .options import check_bool, check_count
from .punctual import Punctual
from .runtime import Runtime, deadline_after, is_past, remaining
from .tls import TLSTransport, check_context
from .transport import Transport, connect
from .websocket import Connection, Opening

if TYPE_CHECKING:
    from .url import Address

logger = logging.getLogger("syncws")

_READ_SIZE = 4096
_ASK_AGAIN = 0.1  # seconds between two looks at whether anybody still wants the answer of a resolver
# What of the caller's headers is for one origin only.
_CREDENTIALS = ("Authorization", "Cookie", "Proxy-Authorization")


@dataclass(frozen=True)
class Question:
    """What one server is asked: on a redirect the next one is asked the same, but for what was not meant for it."""

    address: Address
    protocols: list[str]
    origin: str | None
    headers: Headers
    compression: Deflate | None
    version: int
    follow_redirects: bool
    trusted: bool  # credentials were given by the caller, at first: those of a Location do not count then

    def handshake(self) -> ClientHandshake:
        return ClientHandshake(
            self.address,
            protocols=self.protocols,
            origin=self.origin,
            headers=self.headers,
            compression=self.compression,
            version=self.version,
            follow_redirects=self.follow_redirects,
        )

    def redirected(self, location: str) -> Question:
        """ValueError if `location` leads nowhere we go."""
        before, address = self.address, _url.join(self.address, location)
        headers = self.headers.copy()
        dropped: tuple[str, ...] = ()
        if (address.host, address.port, address.unix) != (before.host, before.port, before.unix):
            dropped = ("Host", *_CREDENTIALS)
        elif before.secure and not address.secure:
            dropped = _CREDENTIALS
        for name in dropped:
            headers.pop(name, None)
        if self.trusted:
            address = replace(address, userinfo=None if dropped else before.userinfo)
        return replace(self, address=address, headers=headers)


@dataclass(frozen=True)
class Plan:
    """The arguments that say where to go and how, checked."""

    question: Question
    context: _ssl.SSLContext | None
    sock: _socket.socket | None
    proxy: _proxy.Choice
    max_redirects: int

    @classmethod
    def of(
        cls,
        url: str,
        protocols: str | list[str] | tuple[str, ...] | None,
        origin: str | None,
        headers: HeaderSource | None,
        compression: Deflate | None,
        version: int,
        ssl: _ssl.SSLContext | None,
        sock: _socket.socket | None,
        proxy: Any,
        follow_redirects: bool,
        max_redirects: int,
    ) -> Plan:
        """TypeError, ValueError or ProxyError for what cannot be."""
        address = _url.parse(url)
        check_bool("follow_redirects", follow_redirects)
        check_count("max_redirects", max_redirects)
        given = Headers(() if headers is None else headers)
        trusted = address.userinfo is not None or "Authorization" in given
        wanted = checked_subprotocols(protocols)
        question = Question(address, wanted, origin, given, compression, version, follow_redirects, trusted)
        plan = cls(question, ssl, sock, _proxy.checked(proxy), max_redirects)
        plan._check_transport()
        return plan

    def _check_transport(self) -> None:
        address, context, sock, proxy = self.question.address, self.context, self.sock, self.proxy
        if context is not None:
            check_context(context, server_side=False)
            used = None if sock is not None else _proxy.choose(address, proxy)
            may_be_of_use = self.question.follow_redirects or (used is not None and used.secure)
            if not address.secure and not may_be_of_use:
                raise ValueError(f"ssl is of no use for {address.url}: the scheme must be wss or https")
        if isinstance(proxy, _proxy.Proxy) and (sock is not None or address.unix is not None):
            raise ValueError("a proxy is of no use with sock, nor for a ws+unix URL")
        if sock is None:
            return
        if not hasattr(sock, "detach"):  # gevent's sockets are of another class
            raise TypeError(f"sock must be a connected socket, not {sock!r}")
        if isinstance(sock, _ssl.SSLSocket):
            raise TypeError("sock must be a plain socket: for TLS over it use a wss URL, and ssl for its context")
        if sock.type != _socket.SOCK_STREAM or _is_no_connection(sock):
            raise ValueError(f"sock must be a connected socket, not {sock!r}")
        if self.question.follow_redirects:
            raise ValueError("sock leads to one server: redirects cannot be followed with it")


class Way:
    """One going of the way. What is opened on it is `owner`'s, who closes it if it leads nowhere."""

    def __init__(self, owner: Connection, plan: Plan) -> None:
        self._owner = owner
        self._runtime = owner._runtime
        self._plan = plan
        self._context = plan.context
        self._timeout = owner._options.handshake_timeout
        self._deadline = deadline_after(self._timeout)
        self._redirects = 0
        self._ask(plan.question)

    def _ask(self, question: Question) -> None:
        self._question = question
        self._handshake = question.handshake()
        owner = self._owner
        owner.url, owner.request = question.address.url, self._handshake.request
        owner.protocol_version = question.version

    def go(self) -> Opening:
        """Raises OSError, TimeoutError or HandshakeError."""
        try:
            while True:
                transport, early = self._reach()
                response = self._shake_hands(transport, early)
                if response.status == 101:
                    return self._opening(transport, response)
                self._turn(response)
        except (OSError, HandshakeError) as error:
            if self._owner._aborted:
                raise ConnectionAbortedError(CALLED_OFF) from error
            if is_our_limit(error) and self._timeout is not None:
                url = self._plan.question.address.url
                raise TimeoutError(f"{url} was not open within {self._timeout:g} s: {error}") from error
            raise

    # -- to the server --------------------------------------------------------------------------------------------

    def _reach(self) -> tuple[Transport, bytes]:
        """A transport to the server, and bytes that came early on it."""
        address, early = self._question.address, b""
        proxy = None if self._plan.sock else _proxy.choose(address, self._plan.proxy)
        if self._plan.sock is not None:
            transport = self._adopt(self._plan.sock)
        elif address.unix is not None:
            transport = self._connect(_socket.AF_UNIX, address.unix, self._deadline)
        elif proxy is not None:
            transport, early = self._tunnel(proxy)
        else:
            transport = self._dial(address.host, address.port)
        if address.secure:
            return self._encrypt(transport, address.host, early), b""
        return transport, early

    def _tunnel(self, proxy: _proxy.Proxy) -> tuple[Transport, bytes]:
        address = self._question.address
        host = address.host
        if not proxy.looks_names_up:
            # IPv4 first: of the two it is what more proxies can reach.
            host = min(self._resolve(host, address.port), key=lambda found: found[0] != _socket.AF_INET)[4][0]
        try:
            transport = self._dial(proxy.host, proxy.port)
        except OSError as error:
            error.filename = f"the proxy {proxy}"  # so that it says who could not be reached
            raise
        if proxy.secure:
            transport = self._encrypt(transport, proxy.host)
        line = Punctual(transport, self._deadline, f"the proxy {proxy}")
        return transport, _proxy.open_tunnel(proxy, line, host, address.port)

    def _dial(self, host: str, port: int) -> Transport:
        found = self._resolve(host, port)
        for count, (family, _, _, _, address) in zip(range(len(found), 1, -1), found, strict=False):
            # One that does not answer at all leaves time for the others.
            left = remaining(self._deadline)
            try:
                return self._connect(family, address, deadline_after(None if left is None else left / count))
            except OSError as error:
                if self._owner._aborted:
                    raise
                logger.debug("no connection to %s: %s", address, error)
        return self._connect(found[-1][0], found[-1][4], self._deadline)

    def _resolve(self, host: str, port: int) -> list[Any]:
        owner = self._owner
        return resolve(self._runtime, host, port, self._deadline, lambda: owner._aborted)

    def _connect(self, family: int, address: Any, deadline: float | None) -> Transport:
        owner = self._owner
        try:
            return connect(self._runtime, self._adopt, family, address, deadline, lambda: owner._aborted)
        except BaseException:
            owner._let_go()  # under its lock: another thread may be about to shut it
            raise

    def _adopt(self, sock: _socket.socket) -> Transport:
        return self._own(Transport(self._runtime, sock))

    def _own(self, transport: Transport) -> Transport:
        """Make it known to the owner, so that `terminate` can shut it."""
        with self._owner._lock:
            self._owner._take_over(transport)
            if self._owner._aborted:
                transport.shutdown()
        return transport

    def _encrypt(self, below: Transport, host: str, early: bytes = b"") -> Transport:
        """TLS with `host`, whose name is verified, through what is there already."""
        self._context = self._context or _ssl.create_default_context()
        transport = TLSTransport(below, self._context, server_hostname=host, early=early)
        self._own(transport)
        transport.handshake(self._deadline)
        return transport

    # -- the handshake --------------------------------------------------------------------------------------------

    def _shake_hands(self, transport: Transport, early: bytes) -> Response:
        """The 101, or a redirect that is to be followed."""
        line = Punctual(transport, self._deadline, "the server")
        line.sendall(self._handshake.request_bytes())
        response = self._receive(early) if early else None
        while response is None:
            if self._handshake.response is not None:
                line.be_brief(BODY_PATIENCE)
            response = self._receive(line.recv(_READ_SIZE))
        return response

    def _receive(self, data: bytes) -> Response | None:
        owner = self._owner
        if owner._aborted:
            raise ConnectionAbortedError(CALLED_OFF)
        try:
            response = self._handshake.receive(data)
        except HandshakeError as error:
            self._tell_answer(error.response)
            raise
        if response is not None and response.status == 101:
            self._tell_answer(response)
        return response

    def _tell_answer(self, response: Response | None) -> None:
        """Before anybody hears whether we agree with it."""
        self._owner.response = response
        if response is not None:
            type = "upgrade" if response.status == 101 else "unexpected-response"
            self._owner._tell_opening(ResponseEvent(type, response))

    def _opening(self, transport: Transport, response: Response) -> Opening:
        handshake = self._handshake
        return Opening(transport, handshake.request, response, handshake.agreed, handshake.leftover)

    # -- redirects ------------------------------------------------------------------------------------------------

    def _turn(self, response: Response) -> None:
        """The server sent us elsewhere: tell, leave this connection, and ask there. RedirectError if we do not go."""
        owner, question = self._owner, self._next_question(response)
        owner._tell_opening(RedirectEvent(response, question.address.url))
        if owner._aborted:
            raise ConnectionAbortedError(CALLED_OFF)
        owner._let_go()
        self._redirects += 1
        self._ask(question)

    def _next_question(self, response: Response) -> Question:
        most, locations = self._plan.max_redirects, response.headers.get_all("Location")
        try:
            if self._redirects >= most:
                raise ValueError(f"no more than {most} redirects are followed")
            if len(locations) != 1:
                raise ValueError("Location is repeated")
            return self._question.redirected(locations[0])
        except ValueError as error:
            # Without the Location itself, which may hold a password.
            self._owner.response = response
            request = self._handshake.request
            message = f"the server answered {response.status}, a redirect that is not followed: {error}"
            raise RedirectError(message, request=request, response=response) from None


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
        if abandoned() or is_past(deadline):
            raise TimeoutError(f"the name {host!r} was not resolved")
    if isinstance(result[0], Exception):
        raise result[0]
    return list(result[0])


def _is_no_connection(sock: _socket.socket) -> bool:
    """Whether it is closed, listens, or was never connected. One whose peer has left is an OSError, on the way."""
    if sock.fileno() < 0:
        return True
    if sock.family not in (_socket.AF_INET, _socket.AF_INET6):
        return False
    return bool(sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)) or not sock.getsockname()[1]
