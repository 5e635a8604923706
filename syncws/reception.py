"""How a stream and a request become a `Socket` that is served: one way, for a server's own connections and for others'.

Rank 5, over `admission`. The order is: `agree` (nothing has been said to the client yet), `open` (the 101, the first
frames), `serve` (the user's function, then whoever listens, until all is told).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from .admission import Admission, Handler
from .client import Acceptance, Socket
from .errors import ConnectionClosed
from .events import check_ran
from .exchange import Request, Response
from .handshake import Agreed
from .handshake_server import response_bytes
from .lifecycle import OPEN
from .runtime import Runtime, deadline_after
from .transport import Transport
from .websocket import Opening

logger = logging.getLogger("syncws")

_PATIENCE = 1.0  # seconds for the closing handshake of a handler that was interrupted


class Welcome(NamedTuple):
    """What a request will get."""

    request: Request
    agreed: Agreed
    handler: Handler | None


class Reception:
    """Lets clients in, by an `Admission`.

    should_handle: asked instead of `Admission.serves`.
    headers: called with each 101 and the request, before it is sent; may change its headers, or raise HandshakeError.
    register: called with the socket once it is OPEN; answers with the registry that it leaves when CLOSED, or raises
    HandshakeError.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        socket_class: type[Socket] = Socket,
        should_handle: Callable[[Request], bool] | None = None,
        headers: Callable[[Response, Request], object] = lambda response, request: None,
        register: Callable[[Socket], dict[Any, Any]] | None = None,
    ) -> None:
        self._admission = admission
        self._socket_class = socket_class
        self._should_handle = should_handle or admission.serves
        self._headers = headers
        self._register = register

    def agree(self, request: Request, accept: Handler | None = None) -> Welcome:
        """HandshakeError if the client is not let in. `accept` is asked instead of what the admission has."""
        agreed = self._admission.judge(request, self._should_handle, routed=accept is None)
        return Welcome(request, agreed, self._admission.handler(request) if accept is None else accept)

    def open(
        self,
        runtime: Runtime,
        transport: Transport,
        welcome: Welcome,
        *,
        leftover: bytes = b"",
        deadline: float | None = None,
        announce: Callable[[Response], object] | None = None,
    ) -> Socket:
        """The open socket. HandshakeError if there is no place: the transport stays the caller's; or OSError, also for
        a client that has left while it was judged: nobody is told of it.

        leftover: what came behind the request. announce: sends the 101 instead of us.
        """
        request, agreed, _ = welcome
        response, leftover = self._admission.answer(transport, request, agreed, leftover, deadline)
        if not leftover and transport.has_ended():
            raise ConnectionAbortedError("the client has left")
        self._headers(response, request)
        answer = response_bytes(response)
        if announce is not None:
            announce(response)
            answer = b""
        ws = self._socket_class(Acceptance(runtime, self._admission.options))
        register = None if self._register is None else functools.partial(self._register, ws)
        ws._open(Opening(transport, request, response, agreed, leftover, answer, register, deadline))
        return ws


def serve(
    ws: Socket,
    handler: Handler | None,
    request: Request,
    *,
    before: Callable[[Socket, Request], object] | None = None,
    contained: type[BaseException] = BaseException,
) -> None:
    """The life of an open connection on the thread that is its own; returns when it is closed and all is told.

    What `before` or the handler raises is logged, and ends the connection with 1011, if it is `contained`. Anything
    else, also if a listener is hit by it, ends it with 1001 and goes on, for it is to end more than this.
    """
    try:
        _ask_user(ws, handler, request, before, contained)
        _stay(ws, contained)
        ws._await_told(None)
    except BaseException:
        ws.close(1001)
        try:
            ws._await_told(deadline_after(_PATIENCE))
        finally:
            ws.terminate()
        raise


def _ask_user(
    ws: Socket,
    handler: Handler | None,
    request: Request,
    before: Callable[[Socket, Request], object] | None,
    contained: type[BaseException],
) -> None:
    try:
        if before is not None:
            before(ws, request)
        if handler is not None:
            check_ran("accept()", handler(ws, request))
    except contained as error:
        if isinstance(error, ConnectionClosed) and ws.readyState != OPEN:
            logger.debug("accept() ended as the connection did: %s", error)
            return
        # A ConnectionClosed may be another connection's.
        logger.error("accept() raised %s", type(error).__name__, exc_info=error)
        ws.close(1011)
    else:
        if ws._read_by_hand and not ws._has_listeners("message"):
            ws.close(1000)


def _stay(ws: Socket, contained: type[BaseException]) -> None:
    try:
        ws._reside()
    except contained as error:
        logger.error("a listener raised %r: the connection is dropped", type(error).__name__)
        ws.terminate()
