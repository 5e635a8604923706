"""The way in through somebody else's HTTP server: a request it has read, the connection it gives up, a session.

Rank 5, over `reception` and `hosts`. The session takes place inside the request, on its thread or greenlet; then the
connection is shut, and the request ends as an empty 101 that the server cannot send any more. So no byte of the client
is ever taken for another request, whatever the server would do with a connection that is kept alive.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Container
from typing import Any
from urllib.parse import quote

from .admission import Handler, refuse, report
from .errors import HandshakeError, UpgradeUnsupported
from .events import check_function
from .exchange import Request, Response, status_line
from .handshake_server import refusal
from .headers import Headers
from .hosts import Environ, StartResponse, Takeover, drained, take
from .reception import Reception, Welcome, serve
from .runtime import Runtime, deadline_after
from .transport import Transport

logger = logging.getLogger("syncws")

#: PEP 3333 leaves them to the server.
_HOP_BY_HOP = ("Connection", "Transfer-Encoding")

#: what is asked of a socket that is no socket
_OF_A_SOCKET = ("recv", "send", "settimeout", "gettimeout", "shutdown", "fileno", "close")

Announce = Callable[[Response], object]
Refuse = Callable[[Transport, HandshakeError, "Request | None"], object]


class Doorway:
    """Takes requests in three forms: a WSGI environ, a handler of `http.server`, or a `Request` and its socket.

    allow: hosts that are let with reservations. refuse: answers a client that is not let in, over the connection; None:
    where the server can answer, it does, and keeps the connection. before: called with the socket and the request once
    it is open, ahead of the handler. runtime: the world of all sessions; None: the one of each server.
    """

    def __init__(
        self,
        reception: Reception,
        *,
        handshake_timeout: float | None = 10.0,
        allow: Container[str] = (),
        refuse: Refuse | None = None,
        before: Callable[[Any, Request], object] | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self._reception = reception
        self._runtime = runtime
        self._timeout = handshake_timeout
        self._allow = allow
        self._refuse = refuse
        self._before = before
        self._at_work: dict[int, object] = {}  # the sockets given to `sock`, by id

    def wsgi(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """As a WSGI application."""
        request = None
        try:
            request = request_of(environ)
            welcome = self._reception.agree(request)
            takeover = self._take(environ)
        except HandshakeError as error:
            return self._decline(environ, start_response, error, request)
        if takeover.announce is None:
            return _ended(start_response, self._enter(takeover, welcome), takeover)
        self._enter(takeover, welcome, functools.partial(takeover.announce, start_response))
        return []

    def view(self, environ: Environ) -> Response:
        """Inside a request that goes on elsewhere: what was answered, for the log; the connection is shut by then.

        UpgradeUnsupported if it cannot be had; then, and only then, HandshakeError for a client that is refused.
        """
        request = None
        try:
            request = request_of(environ)
            welcome = self._reception.agree(request)
        except HandshakeError as error:
            return self._turn_away(environ, error, request)[0]
        return self._enter(self._take(environ), welcome)

    def http(self, handler: Any) -> None:
        """Inside a method of a handler of `http.server`, whose connection then ends."""
        handler.close_connection = True
        sock = handler.connection
        takeover = Takeover(sock, drained(handler.rfile, sock))
        try:
            request = _request_of_handler(handler)
        except HandshakeError as error:
            response = self._reject(takeover, error)
        else:
            response = self._settle(takeover, request)
        handler.log_request(response.status)

    def sock(self, request: Request, sock: Any, head: bytes, accept: Handler | None) -> Response:
        """With a socket that nobody else has; `head` is what was read from it behind the request. It is closed."""
        _check_upgrade(request, sock, head, accept)
        mine = object()
        if sock.fileno() < 0 or self._at_work.setdefault(id(sock), mine) is not mine:
            raise ValueError(f"expected a socket that nobody has taken yet, got {sock!r}")
        try:
            return self._settle(Takeover(sock, bytes(head)), request, accept)
        finally:
            sock.close()
            del self._at_work[id(sock)]

    def _take(self, environ: Environ) -> Takeover:
        try:
            return take(environ, self._allow)
        except UpgradeUnsupported as error:
            _complain(error)
            raise

    def _settle(self, takeover: Takeover, request: Request, accept: Handler | None = None) -> Response:
        try:
            welcome = self._reception.agree(request, accept)
        except HandshakeError as error:
            return self._reject(takeover, error, request)
        return self._enter(takeover, welcome)

    def _decline(
        self, environ: Environ, start_response: StartResponse, error: HandshakeError, request: Request | None
    ) -> list[bytes]:
        if self._refuse is not None and not isinstance(error, UpgradeUnsupported):
            with contextlib.suppress(HandshakeError):  # the connection cannot be had
                return _ended(start_response, *self._turn_away(environ, error, request))
        report(error, environ.get("REMOTE_ADDR"))
        return _answer(start_response, refusal(error), bodiless=environ.get("REQUEST_METHOD") == "HEAD")

    def _turn_away(
        self, environ: Environ, error: HandshakeError, request: Request | None
    ) -> tuple[Response, Takeover]:
        try:
            takeover = self._take(environ)
        except UpgradeUnsupported:
            raise error from None
        return self._reject(takeover, error, request), takeover

    def _reject(self, takeover: Takeover, error: HandshakeError, request: Request | None = None) -> Response:
        transport = self._transport(takeover)
        try:
            if transport is not None:
                self._answer_over(transport, error, request)
        finally:
            if transport is not None:
                transport.close()
            takeover.release()
        return refusal(error)

    def _transport(self, takeover: Takeover) -> Transport | None:
        """None: it cannot be had, and the connection is shut, so that the server reads nothing more from it either."""
        try:
            return takeover.transport(self._runtime or takeover.runtime())
        except (OSError, ValueError) as error:
            logger.error("cannot take over a connection, which is dropped: %s", error)
            takeover.drop()
            return None

    def _answer_over(self, transport: Transport, error: HandshakeError, request: Request | None) -> None:
        if self._refuse is None:
            refuse(transport, error, request)
        else:
            self._refuse(transport, error, request)

    def _enter(self, takeover: Takeover, welcome: Welcome, announce: Announce | None = None) -> Response:
        """The session, from the 101 to its end. What was answered."""
        try:
            return self._converse(takeover, welcome, announce)
        except OSError as error:
            logger.debug("lost %s during the handshake: %s", welcome.request.remote_address, error)
            return Response(101)
        except BaseException:
            takeover.drop()  # wherever it was interrupted: the server may want to send an error
            raise
        finally:
            takeover.release()

    def _converse(self, takeover: Takeover, welcome: Welcome, announce: Announce | None) -> Response:
        transport = self._transport(takeover)
        if transport is None:
            return Response(503)
        try:
            ws = self._reception.open(
                self._runtime or takeover.runtime(),
                transport,
                welcome,
                leftover=takeover.early,
                deadline=deadline_after(self._timeout),
                announce=announce,
            )
        except HandshakeError as error:
            self._answer_over(transport, error, welcome.request)
            transport.close()
            return refusal(error)
        except BaseException:
            if not transport.is_taken:
                transport.close()
            raise
        serve(ws, welcome.handler, welcome.request, before=self._before, contained=Exception)
        return Response(101)


def _check_upgrade(request: object, sock: object, head: object, accept: object) -> None:
    if not isinstance(request, Request):
        raise TypeError(f"request must be a syncws.Request, not {request!r}")
    if not all(hasattr(sock, name) for name in _OF_A_SOCKET):
        raise TypeError(f"sock must be a connected socket, not {sock!r}")
    if not isinstance(head, (bytes, bytearray, memoryview)):
        raise TypeError(f"head must be the bytes that were read behind the request, not {head!r}")
    check_function("accept", accept)


def request_of(environ: Environ) -> Request:
    """The request of a WSGI environ. HandshakeError 400 for what cannot be one."""
    # eventlet says HTTP/1.0 of every request.
    if environ.get("SERVER_PROTOCOL") == "HTTP/1.0" and "eventlet.input" not in environ:
        raise HandshakeError("the version of HTTP must be 1.1", status=400)
    fields = [(key[5:].replace("_", "-").title(), value) for key, value in environ.items() if key.startswith("HTTP_")]
    fields += [("Content-Length", environ["CONTENT_LENGTH"])] if environ.get("CONTENT_LENGTH") else []
    return _made(
        environ["REQUEST_METHOD"],
        _target_of(environ),
        fields,
        remote_address=_remote_address(environ),
        secure=environ.get("wsgi.url_scheme") == "https",
        environ=environ,
    )


def _target_of(environ: Environ) -> str:
    for key in ("RAW_URI", "REQUEST_URI"):
        if environ.get(key):
            return str(environ[key])
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING")
    return quote(path or "/", safe="/:@!$&'()*+,;=~-._", encoding="latin-1") + (f"?{query}" if query else "")


def _remote_address(environ: Environ) -> tuple[str, int] | str | None:
    host, port = environ.get("REMOTE_ADDR"), str(environ.get("REMOTE_PORT", ""))
    return (host, int(port)) if host and port.isascii() and port.isdigit() else host


def _request_of_handler(handler: Any) -> Request:
    if handler.request_version != "HTTP/1.1":
        raise HandshakeError("the version of HTTP must be 1.1", status=400)
    return _made(
        handler.command,
        handler.path,
        handler.headers.items(),
        remote_address=handler.client_address,
        secure=hasattr(handler.connection, "getpeercert"),
    )


def _made(method: str, target: str, fields: Any, **details: Any) -> Request:
    try:
        return Request(method, target, Headers(fields), **details)
    except (TypeError, ValueError) as error:
        raise HandshakeError("malformed HTTP request", status=400) from error


def _ended(start_response: StartResponse, response: Response, takeover: Takeover) -> list[bytes]:
    """Of what was answered over the connection, which is shut, the server learns the status, for its log."""
    takeover.finish(start_response(status_line(response), []))
    return []


def _answer(start_response: StartResponse, response: Response, bodiless: bool) -> list[bytes]:
    """An ordinary response, over the server. `bodiless`: to HEAD (RFC 9110 section 9.3.2)."""
    status = status_line(response)
    fields = [(name, value) for name, value in response.headers.items() if name.title() not in _HOP_BY_HOP]
    try:
        start_response(status, fields)
    except AssertionError as error:
        # A 426 should have Upgrade (RFC 9110 section 15.5.22), but wsgiref takes no such header from an application.
        without = [field for field in fields if field[0].title() != "Upgrade"]
        start_response(status, without, (type(error), error, error.__traceback__))
    return [] if bodiless else [response.body]


_complaints: set[str] = set()


def _complain(error: UpgradeUnsupported) -> None:
    """Once per process, for it happens with each request."""
    text = str(error)
    level = logging.DEBUG if text in _complaints else logging.ERROR
    _complaints.add(text)
    logger.log(level, "cannot take over the connection: %s: %s", type(error).__name__, text)
