"""`Server`: listens, gives each connection a thread (or greenlet) of its own, and stops.

Rank 5. What happens to one connection, in order:

    Acceptor -> Arrivals: [its thread] TLS, request -> Reception: judge, 101 -> serve: accept(ws, request), listeners
"""

from __future__ import annotations

import contextlib
import logging
import socket as _socket
import ssl as _ssl
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .admission import Admission, Handler, HandshakeSocket, Verifier, let_change, listed, listed_subprotocols, refuse
from .arrivals import Arrivals, check_cpu
from .attendant import attendant_of, owners
from .awaiting import is_inside_one
from .client import Socket, check_socket_class
from .closeall import GRACE, end_all
from .doorway import Doorway
from .errors import HandshakeError
from .exchange import Request, Response
from .frames import encode_close
from .handshake_server import Selector
from .listen import stop_signals
from .options import ConnectionOptions, Options, check_bool, check_count, check_timeout
from .publishing import Publishing
from .reception import Reception
from .runtime import LOOK, Condition, Runtime, current_runtime, deadline_after
from .sources import Attached, Fed, Listening, Place, Source, check_place, check_unused
from .tls import check_context
from .topics import Broker
from .transport import Transport
from .websocket import Connection

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger("syncws")

_HURRY = 1.0  # seconds that clients have to answer the Close after Ctrl-C or SIGTERM
_UNFINISHED = 128  # handshakes beyond max_connections that may be under way
_Self = TypeVar("_Self", bound="Server")


class Server(Publishing):
    """A WebSocket server: `accept(ws, request)` is called for each connection, on that connection's thread.

    When it returns, a socket that was read by hand is closed with 1000; one that has listeners, or that nobody
    read, stays open until it closes. If it raises: logged, closed with 1011. A mapping `{path: accept}` routes by
    exact path; others get 404.

    Exactly one of: port (0 = any free one) with host (None = all interfaces, IPv4 and IPv6), unix (a path, made
    for this user only), sock (a listening socket, which is taken over): the constructor binds, `OSError` if it cannot;
    server (a server object of http.server, wsgiref, werkzeug, gevent.pywsgi or cheroot: WebSocket upgrades are taken
    from it until we are closed); no_server=True (connections come by `handle_upgrade`).

    path: serve only this one, others get 400, or what `server` makes of them. origins: "same" answers 403 to pages of
    another host; a list of origins allows those; None any. verify_client: `(info) -> bool or Response`, info has
    `origin secure request`. protocols: subprotocols in the order of our preference. select_subprotocol:
    `(offered, request) -> str or None` instead. client_tracking: keep `clients`. max_connections: beyond it 503.
    backlog: connections that the system keeps until we accept them. reuse_port: several processes may have one port.
    max_backlog: bytes of broadcasts that may wait for a slow client, beyond it 1013. max_header_size: bytes of the
    request head, beyond it 431. ssl: an `ssl.SSLContext`. cpu: keep the connections' threads on this CPU.
    socket_class: a subclass of `Socket`. legacy: take clients of hixie-76, too. broker: carries what is published
    between processes, a `RedisBroker` say. Further options: as for `Socket`, with compression off by default.

    Events, by `on` or `addEventListener`: listening(), connection(ws, request), headers(headers, request),
    client_error(error, sock, request), error(error), close().
    """

    _TYPES: ClassVar[frozenset[str]] = frozenset(
        ("listening", "connection", "headers", "client_error", "error", "close")
    )
    _RUNTIME: ClassVar[Runtime | None] = None
    _SOCKET: ClassVar[type[Socket]] = Socket

    def __init__(
        self,
        accept: Handler | Mapping[str, Handler] | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        unix: str | None = None,
        sock: _socket.socket | None = None,
        server: Any = None,
        no_server: bool = False,
        backlog: int = 511,
        reuse_port: bool = False,
        path: str | None = None,
        origins: str | Iterable[str] | None = "same",
        verify_client: Verifier | None = None,
        protocols: Sequence[str] | None = None,
        select_subprotocol: Selector | None = None,
        client_tracking: bool = True,
        max_connections: int | None = None,
        max_backlog: int = 16 * 1024 * 1024,
        max_header_size: int = 16384,
        ssl: _ssl.SSLContext | None = None,
        cpu: int | None = None,
        socket_class: type[Socket] | None = None,
        legacy: bool = False,
        broker: Broker | None = None,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        super().__init__(client_tracking, max_backlog, broker)
        settings = Options.of("Server", {"compression": False, **options}, server=True)
        self._admission = Admission(
            settings,
            accept,
            path,
            listed(origins),
            verify_client,
            listed_subprotocols(protocols),
            select_subprotocol,
            max_header_size,
            legacy,
        )
        check_place(port, unix, sock, server, check_bool("no_server", no_server), host)
        if server is not None or no_server:
            check_unused(ssl=ssl, cpu=cpu)
        check_context(ssl, server_side=True)
        check_cpu(cpu)
        self._max_connections = None if max_connections is None else check_count("max_connections", max_connections)
        self._runtime = self._RUNTIME or current_runtime()
        # Guards what follows; no other lock is taken under it.
        self._lock = self._runtime.lock()
        self._changed = Condition(self._runtime, self._lock)
        self._started = self._closing = self._close_called = self._close_told = False
        self._closers = 0  # calls of `close` under way
        self._stopped = False  # nothing more comes from the source
        self._furnish(check_socket_class(socket_class or self._SOCKET), ssl, cpu)
        self._source = self._source_from(server, no_server, Place(host, port, unix, sock, backlog, reuse_port))
        self._use_broker()

    def _furnish(self, socket_class: type[Socket], context: _ssl.SSLContext | None, cpu: int | None) -> None:
        """What connections come by, from wherever."""
        reception = Reception(
            self._admission,
            socket_class=socket_class,
            should_handle=self.should_handle,
            headers=self._offer_headers,
            register=self._register,
        )
        timeout, most = self._admission.options.handshake_timeout, self._max_connections
        self._doorway = Doorway(
            reception, handshake_timeout=timeout, refuse=self._refuse, before=self._greet
        )
        self._arrivals = Arrivals(
            self._runtime,
            reception,
            context=context,
            cpu=cpu,
            timeout=timeout,
            max_header_size=self._admission.max_header_size,
            most=None if most is None else most + _UNFINISHED,
            refuse=self._refuse,
            before=self._greet,
        )

    def _source_from(self, server: Any, no_server: bool, place: Place) -> Source:
        if server is not None:
            by_path = type(self).should_handle is Server.should_handle
            claim = self._admission.paths if by_path else self
            return Attached(server, self._doorway, self._wants, claim, self._accepting_ended)
        if no_server:
            return Fed(self._accepting_ended)
        return Listening(self._runtime, place, self._arrivals.take, self._accepting_ended, self._accepting_failed)

    # -- what a user asks ----------------------------------------------------------------------------------

    def address(self) -> Any:
        """What the server is bound to, as the socket module has it (a path for a unix socket); None once closed.

        With `server`, what that is bound to. RuntimeError with `no_server`.
        """
        address = self._source.address()
        return None if self._closing else address

    def should_handle(self, request: Request) -> bool:
        """Whether this server takes the request, by its path; override to decide otherwise."""
        return self._admission.serves(request)

    def handle_upgrade(
        self, request: Request, sock: Any, head: bytes = b"", accept: Handler | None = None
    ) -> Response:
        """Serve a connection taken from elsewhere, on the caller's thread, to its end. Returns what was answered.

        request: as it was read. sock: connected, of any kind; it is closed. head: bytes read behind the request.
        accept: called instead of the server's own. A client that is not let in gets its refusal. TypeError for what is
        of the wrong kind, ValueError for a socket that is closed or was given before; it is then as it was.
        """
        return self._doorway.sock(request, sock, head, accept)

    def start(self: _Self) -> _Self:
        """Accept in the background; once more does nothing. RuntimeError after `close`, or without a thread."""
        with self._lock:
            if self._closing:
                raise RuntimeError("the server is closed")
            if self._started:
                return self
            self._started = True
        try:
            # Now, while there are descriptors for it: clients may take them all.
            attendant_of(self._runtime)
            self._source.start()
        except BaseException:
            self._started = False
            raise
        owners.add(weakref.ref(self))
        self._call("listening")
        return self

    def serve_forever(self) -> None:
        """Accept, and return when it is closed: by `close`, or cleanly by Ctrl-C or SIGTERM. Raises as `start` does."""
        try:
            with stop_signals(self._source.interrupt) as came:
                self.start()
                with self._lock:
                    while not came and (self._closers or not self._stopped):
                        self._changed.wait(LOOK)
                if came:
                    self.close(timeout=_HURRY)
            if not self._close_called:
                self.close()
        except KeyboardInterrupt:
            self.close(timeout=_HURRY)

    def close(
        self, code: int | None = 1001, reason: str = "", *, clients: str = "close", timeout: float | None = None
    ) -> None:
        """Stop listening, and "close" the clients with `code`, "terminate" or "leave" them.

        Waits until they are closed and their listeners told; after `timeout` seconds (None: close_timeout) those that
        are not are terminated, and listeners still at work left to it. Handshakes under way are answered 503.
        """
        encode_close(code, reason)
        check_timeout(timeout)
        if clients not in ("close", "terminate", "leave"):
            raise ValueError(f"clients must be close, terminate or leave, not {clients!r}")
        patience = self._admission.options.close_timeout + GRACE if timeout is None else timeout
        deadline = deadline_after(patience)
        with self._closing_by_call():
            self._stop_listening()
            try:
                if clients != "leave":
                    self._end_clients(code, reason, clients == "terminate", deadline)
            except BaseException:
                for ws in list(self._registry):
                    ws.terminate()
                raise
            finally:
                if clients != "leave":
                    self._disuse_broker()
            with self._lock:
                told, self._close_told = self._close_told, True
            if not told:
                self._call("close")

    def __enter__(self: _Self) -> _Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self.close(timeout=_HURRY)
        elif self._close_called:
            self._await_closers()
        else:
            self.close()

    def __repr__(self) -> str:
        where = "" if isinstance(self._source, Fed) else f" {self._source.address()!r}"
        return f"<{type(self).__name__} {'closed' if self._closing else 'at'}{where}>"

    # -- stopping ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _closing_by_call(self) -> Iterator[None]:
        """A call of `close` is under way: `serve_forever` and the end of a `with` block leave the clients to it."""
        with self._lock:
            self._close_called = True
            self._closers += 1
        try:
            yield
        finally:
            with self._lock:
                self._closers -= 1
                self._changed.notify_all()

    def _await_closers(self) -> None:
        with self._lock:
            while self._closers:
                self._changed.wait()

    def _stop_listening(self) -> None:
        with self._lock:
            begun = self._started
            first, self._closing = not self._closing, True
        if first and not begun:
            self._source.abandon()
        self._source.stop()
        with self._lock:
            while not self._stopped and not self._source.is_current():
                self._changed.wait()

    def _listener_guard(self) -> Any:
        return self._lock

    def _disinherit(self) -> None:
        """See `attendant.Owner`. To the child this server is closed; the parent goes on."""
        self._lock = self._runtime.lock()
        self._changed = Condition(self._runtime, self._lock)
        self._arrivals.disinherit()
        self._closing = self._stopped = self._close_told = True
        self._registry = {}
        self._source.disinherit()

    def _accepting_ended(self) -> None:
        owners.discard(weakref.ref(self))
        with self._lock:
            self._closing = self._stopped = True
            self._changed.notify_all()

    def _accepting_failed(self, error: OSError) -> None:
        self._call("error", error)

    def _end_clients(self, code: int | None, reason: str, terminate: bool, deadline: float | None) -> None:
        sockets = list(self._registry)

        def end(ws: Connection) -> None:
            ws.terminate() if terminate else ws.close(code, reason)

        if any(ws._runtime is not self._runtime for ws in sockets):
            end_all(list(sockets), end, deadline)  # of an HTTP server in another world, whose hub we may not touch
            return
        for ws in sockets:
            end(ws)
        inside = is_inside_one(sockets)
        late = [ws for ws in sockets if not ws._await_told(deadline, inside=inside, patient=False)]
        for ws in late:
            ws.terminate()
        deadline = deadline_after(GRACE)
        busy = sum(not ws._await_told(deadline, inside=inside) for ws in late)
        if busy:
            logger.warning("%d connections are closed, but listeners of theirs have not returned", busy)

    # -- one connection ------------------------------------------------------------------------------------

    def _wants(self, request: Request) -> bool:
        """Whether a request to somebody else's HTTP server is for us, and not for its application."""
        if not self.should_handle(request):
            return False
        try:
            self._admission.handler(request)
        except HandshakeError:
            return False
        return True

    def _check_place(self) -> None:
        """With the lock: HandshakeError 503 if there is no place for one more client."""
        if self._closing:
            raise HandshakeError("the server is closing", status=503)
        if self._max_connections is not None and len(self._registry) >= self._max_connections:
            raise HandshakeError("too many connections", status=503)

    def _register(self, ws: Socket) -> dict[Any, Any]:
        """Let an open socket in, if there still is a place."""
        with self._lock:
            self._check_place()
            self._registry[ws] = None
        return self._registry

    def _offer_headers(self, response: Response, request: Request) -> None:
        """The event `headers`: only for those who are let in, as far as that can be known beforehand."""
        with self._lock:
            self._check_place()
        let_change(self, response, request)

    def _refuse(self, transport: Transport, error: HandshakeError, request: Request | None) -> None:
        try:
            sock = HandshakeSocket(transport)
            self._call("client_error", error, sock, request or error.request)
            if not sock.answered():
                refuse(transport, error, request)
        finally:
            transport.close()

    def _greet(self, ws: Socket, request: Request) -> None:
        self._call("connection", ws, request)
