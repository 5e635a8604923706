"""`upgrade`: a handler that takes connections over from the HTTP or WSGI server it runs in.

Rank 5, over `doorway`; which servers, and how: `hosts`, docs/upgrade.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, overload

from .admission import SETTLED, Admission, Handler, Verifier, listed, listed_subprotocols
from .client import Socket, check_socket_class
from .doorway import Doorway
from .exchange import Request, Response
from .handshake_server import Selector
from .headers import Headers, HeaderSource
from .hosts import Environ, StartResponse
from .options import ConnectionOptions, Options
from .reception import Reception
from .runtime import Runtime

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: hosts that work with reservations, see docs/upgrade.md
RESERVED_HOSTS = ("gunicorn-sync", "waitress")
_HANDSHAKES_OWN = frozenset(name.lower() for name in SETTLED)


class Upgrade:
    """What `upgrade` makes. Three ways to mount it: as a WSGI application; `handle(environ)`; `http(handler)`."""

    _RUNTIME: ClassVar[Runtime | None] = None
    _SOCKET: ClassVar[type[Socket]] = Socket

    def __init__(
        self,
        accept: Handler | Mapping[str, Handler],
        *,
        path: str | None = None,
        origins: str | Iterable[str] | None = "same",
        verify_client: Verifier | None = None,
        protocols: Sequence[str] | None = None,
        select_subprotocol: Selector | None = None,
        headers: HeaderSource | None = None,
        allow: Iterable[str] = (),
        socket_class: type[Socket] | None = None,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        settings = Options.of("upgrade", {"compression": False, **options}, server=True)
        further = _checked_headers(headers)
        asked = listed_subprotocols(protocols)
        reception = Reception(
            Admission(settings, accept, path, listed(origins), verify_client, asked, select_subprotocol),
            socket_class=check_socket_class(socket_class or self._SOCKET),
            headers=functools.partial(_add_headers, further),
        )
        self._doorway = Doorway(
            reception,
            handshake_timeout=settings.handshake_timeout,
            allow=_checked_hosts(allow),
            runtime=self._RUNTIME,
        )
        if callable(accept):
            functools.update_wrapper(self, accept, updated=())

    def __call__(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """As a WSGI application; returns when the connection has ended."""
        return self._doorway.wsgi(environ, start_response)

    def handle(self, environ: Environ) -> Response:
        """Inside a framework's view, which then returns an empty response of its own with status 101.

        Returns when the connection has ended, or the client was refused, with what was answered; whatever the view
        returns does not reach the client. `UpgradeUnsupported` where the server does not give the connection up; for a
        client that would have been refused there, `HandshakeError`.
        """
        return self._doorway.view(environ)

    def http(self, handler: Any) -> None:
        """Inside `do_GET` of an `http.server.BaseHTTPRequestHandler`; returns when the connection has ended."""
        self._doorway.http(handler)


@overload
def upgrade(accept: Handler | Mapping[str, Handler], **options: Any) -> Upgrade: ...
@overload
def upgrade(accept: None = None, **options: Any) -> Callable[[Handler], Upgrade]: ...
def upgrade(
    accept: Handler | Mapping[str, Handler] | None = None, **options: Any
) -> Upgrade | Callable[[Handler], Upgrade]:
    """A handler that takes a connection over from an HTTP server and calls `accept(ws, request)` inside that request.

    Also a decorator, with or without options. Mount it as a WSGI application, call its `handle(environ)` in a
    framework's view, or its `http(handler)` in a method of an `http.server` handler. Each connection holds a thread or
    greenlet of the server's; when it has ended, nothing more is read from or written to it.

    Options: those of `Server` that concern one connection (path, origins, verify_client, protocols,
    select_subprotocol, socket_class, compression, limits, times), headers (further ones for the 101), and allow: hosts
    that work with reservations ("gunicorn-sync", "waitress"). ValueError or TypeError for bad ones.

    Where the server does not give its connections up the client gets 501, and the log says what to use instead.
    """
    return made(Upgrade, accept, options)


def made(
    kind: type[Upgrade], accept: Handler | Mapping[str, Handler] | None, options: dict[str, Any]
) -> Upgrade | Callable[[Handler], Upgrade]:
    """An upgrade of that kind, or the decorator that makes one."""
    if accept is None:
        kind(_nobody, **options)  # bad options raise here, and not where it decorates
        return lambda accept: kind(accept, **options)
    return kind(accept, **options)


def _nobody(ws: Socket, request: Request) -> None:
    pass


def _add_headers(further: Headers, response: Response, request: Request) -> None:
    for name, value in further.items():
        response.headers.add(name, value)


def _checked_headers(headers: HeaderSource | None) -> Headers:
    found = Headers(headers or ())
    for name in found:
        if name.lower() in _HANDSHAKES_OWN:
            raise ValueError(f"the header {name} is the handshake's own")
    return found


def _checked_hosts(allow: Iterable[str]) -> frozenset[str]:
    if isinstance(allow, str):
        raise TypeError(f"allow must be a list of hosts, not {allow!r}")
    hosts = frozenset(allow)
    if unknown := hosts - set(RESERVED_HOSTS):
        raise ValueError(f"allow knows {' and '.join(RESERVED_HOSTS)}, not {sorted(unknown)}")
    return hosts
