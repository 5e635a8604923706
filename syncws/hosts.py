"""Other people's servers: how each gives its connection up, in one small record.

Rank 4, over `borrowed`. A host is known by what it puts into the WSGI environ; none is imported. To add one:
docs/upgrade.md. What was read from the connection already comes along, for a client may send its first frames with the
request. The socket stays the server's; see `borrowed` for how a connection ends.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import socket
import sys
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from .borrowed import NOT_NOW, borrow
from .errors import UpgradeUnsupported
from .exchange import Response, status_line
from .runtime import Runtime, current_runtime
from .transport import Transport

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Any]

_MOST_WRAPPERS = 8  # around the stream of a request's body
#: under which names wrappers keep what they wrap
_WRAPPED = ("rfile", "file", "_stream", "stream", "input", "buffer", "raw")
_INSTEAD = (
    "run the application under gunicorn (-k gthread or -k gevent), gevent.pywsgi, cheroot, uWSGI (--http-socket), "
    "werkzeug or wsgiref, or start a syncws.Server on a port of its own"
)


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Takeover:
    """A connection given up by its server.

    sock: connected; what looks like a socket (`recv send settimeout gettimeout shutdown fileno`) will do. early: bytes
    behind the request that the server has read. release: called when the session is over and the connection shut.
    announce: sends the 101 where the server must do that, given a Response; the default sends it over the socket.
    greenlets: the server lives on gevent, though the socket may be none of gevent's. finish: under WSGI only, called
    last, with the `write` that `start_response` returned for the server's log.
    """

    sock: Any
    early: bytes = b""
    release: Callable[[], object] = _nothing
    announce: Callable[[StartResponse, Response], object] | None = None
    greenlets: bool = False
    finish: Callable[[Any], object] = _nothing

    def runtime(self) -> Runtime:
        """The world that the server lives in."""
        return _greenlets() if self.greenlets else runtime_of(self.sock)

    def transport(self, runtime: Runtime) -> Transport:
        return borrow(runtime, self.sock)

    def drop(self) -> None:
        """Shut the connection, which takes no descriptor."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Host(NamedTuple):
    """A server: `matches` tells its environ from others', `take` answers with a Takeover or raises UpgradeUnsupported.

    `allow` holds the hosts that are let with reservations.
    """

    name: str
    matches: Callable[[Environ], bool]
    take: Callable[[Environ, Container[str]], Takeover]


def take(environ: Environ, allow: Container[str] = ()) -> Takeover:
    """The connection that the request came by. UpgradeUnsupported if the server does not give it up."""
    ready = environ.get("syncws.takeover")
    if ready is not None:
        return _as_takeover(ready(environ) if callable(ready) else ready)
    if str(environ.get("SERVER_PROTOCOL", "")).startswith("HTTP/2"):
        raise UpgradeUnsupported(
            f"{_software(environ)}: WebSockets over HTTP/2 (RFC 8441) are not supported; switch it off for this host"
        )
    for host in [*_registered, *_HOSTS]:
        if host.matches(environ):
            return host.take(environ, allow)
    stream = environ.get("wsgi.input")
    kind = f"{type(stream).__module__}.{type(stream).__qualname__}"
    raise UpgradeUnsupported(
        f"{_software(environ)} does not give its connections up (wsgi.input is a {kind}): {_INSTEAD}"
    )


def register_host(
    name: str, matches: Callable[[Environ], bool], take: Callable[[Environ], Takeover | tuple[Any, bytes]]
) -> None:
    """Add a server, to be asked about before all others; one of the same name is replaced.

    `matches(environ)` tells whether a request came by it; `take(environ)` answers with a `Takeover`, or with the
    socket and the bytes already read from it, or raises `UpgradeUnsupported`.
    """
    if not callable(matches) or not callable(take):
        raise TypeError(f"matches and take must be callable, not {matches!r} and {take!r}")
    _registered[:] = [host for host in _registered if host.name != name]
    _registered.insert(0, Host(name, matches, lambda environ, allow: _as_takeover(take(environ))))


def runtime_of(sock: Any) -> Runtime:
    """The world that a socket belongs to, by its class; a socket of no special kind: that of the process."""
    families = {kind.__module__.partition(".")[0] for kind in type(sock).__mro__}
    if "gevent" in families:
        return _greenlets()
    if "eventlet" in families:
        from .eventlets import EVENTLETS

        return EVENTLETS
    return current_runtime()


def _greenlets() -> Runtime:
    from .greenlets import GREENLETS

    return GREENLETS


def drained(reader: Any, sock: Any) -> bytes:
    """What a buffered reader over `sock` holds, without waiting for more. Nobody may read from it afterwards."""
    usual = sock.gettimeout()
    sock.settimeout(0)
    try:
        # An empty buffer makes peek() read once, which may find a first piece too.
        return bytes(reader.read1(len(reader.peek(1))))
    except (*NOT_NOW, OSError):
        return b""  # of a client that has gone the transport will tell
    finally:
        with contextlib.suppress(OSError):
            sock.settimeout(usual)


# -- the hosts -----------------------------------------------------------------------------------------------


def _take_werkzeug(environ: Environ, allow: Container[str]) -> Takeover:
    sock = environ["werkzeug.socket"]
    found = _buffered(environ.get("wsgi.input"))
    return Takeover(sock, drained(found[0], sock) if found else b"")


def _take_gunicorn(environ: Environ, allow: Container[str]) -> Takeover:
    if not environ.get("wsgi.multithread") and "gunicorn-sync" not in allow:
        raise UpgradeUnsupported(
            "gunicorn's worker class 'sync' serves one connection at a time and kills it after --timeout: use "
            "-k gthread --threads N or -k gevent, or allow it by upgrade(allow=['gunicorn-sync'])"
        )
    return Takeover(environ["gunicorn.socket"], _gunicorns_rest(environ.get("wsgi.input")))


def _gunicorns_rest(body: Any) -> bytes:
    unreader = getattr(getattr(body, "reader", None), "unreader", None)
    if unreader is None:
        return b""
    if hasattr(unreader, "take_buffered"):
        return bytes(unreader.take_buffered())
    rest: bytes = unreader.buf.getvalue()
    unreader.buf = io.BytesIO()
    return rest


def _take_eventlet(environ: Environ, allow: Container[str]) -> Takeover:
    body = environ["eventlet.input"]
    sock = body.get_socket()

    def release() -> None:
        # Of this green thread: it would report that nothing was answered.
        sys.modules["eventlet.wsgi"].WSGI_LOCAL.already_handled = True

    return Takeover(sock, drained(body.rfile, sock), release)


def _take_uwsgi(environ: Environ, allow: Container[str]) -> Takeover:
    uwsgi = importlib.import_module("uwsgi")
    options = {name.decode() if isinstance(name, bytes) else name for name in uwsgi.opt}
    if "http-socket" not in options:
        if options & {"https-socket", "https-socket2"}:
            raise UpgradeUnsupported("uWSGI keeps the TLS of --https-socket: use --https with --http-websockets")
        if options & {"http", "https"} and "http-websockets" not in options:
            raise UpgradeUnsupported("uWSGI's router lets WebSockets through with --http-websockets only: add it")
    sock = socket.socket(fileno=os.dup(uwsgi.connection_fd()))
    return Takeover(sock, b"", sock.close, _announce_by_host, greenlets="gevent" in options)


def _announce_by_host(start_response: StartResponse, response: Response) -> None:
    # The server then knows what it logs. An empty write sends the head.
    start_response(status_line(response), list(response.headers.items()))(b"")


def _take_waitress(environ: Environ, allow: Container[str]) -> Takeover:
    if "waitress" not in allow:
        raise UpgradeUnsupported(
            "waitress has no public way to give a connection up: allow the private one by upgrade(allow=['waitress']), "
            f"or {_INSTEAD}"
        )
    channel = environ["waitress.client_disconnected"].__self__
    with channel.requests_lock:
        if channel.adj.channel_request_lookahead > 0 or len(channel.requests) > 1:
            raise UpgradeUnsupported("waitress reads on while a request is served: set channel_request_lookahead=0")
        # It takes what came behind the request for the beginning of another.
        begun, channel.request = channel.request, None
    return Takeover(channel.socket, b"" if begun is None else bytes(begun.header_plus))


def _take_input(environ: Environ, allow: Container[str]) -> Takeover:
    found = _buffered(environ.get("wsgi.input"))
    assert found is not None  # by `matches`
    reader, sock = found
    cheroots = type(reader).__module__.startswith("cheroot.")
    return Takeover(sock, drained(reader, sock), finish=_close_cheroots_writer if cheroots else _nothing)


def _close_cheroots_writer(write: Any) -> None:
    # It keeps the head that it cannot write to a connection that is shut, and tries again when it is collected: since
    # 3.13 Python reports that.
    request = getattr(getattr(write, "__self__", None), "req", None)
    writer = getattr(getattr(request, "conn", None), "wfile", None)
    if request is not None and writer is not None:
        request.close_connection = True
        with contextlib.suppress(OSError):
            write(b"")
        with contextlib.suppress(OSError):
            writer.close()


def _buffered(stream: Any) -> tuple[Any, Any] | None:
    """The buffered reader in a stream of wrappers that reads from a socket, and the socket."""
    for layer in _unwrapped(stream):
        sock = getattr(getattr(layer, "raw", None), "_sock", None)
        if sock is not None and hasattr(layer, "peek"):
            return layer, sock
    return None


def _unwrapped(stream: Any) -> Iterator[Any]:
    for _ in range(_MOST_WRAPPERS):
        if stream is None:
            return
        yield stream
        inner = (getattr(stream, name, None) for name in _WRAPPED)
        # A wrapper may keep no more of it than its method.
        method = getattr(stream, "_read", None)
        stream = next((layer for layer in inner if layer is not None), getattr(method, "__self__", None))


def _has(key: str) -> Callable[[Environ], bool]:
    return lambda environ: key in environ


#: Asked in this order. The last serves all that read requests through a buffered file: wsgiref, Django's runserver,
#: gevent.pywsgi (by itself and in gunicorn), cheroot, Paste.
_HOSTS = (
    Host("werkzeug", _has("werkzeug.socket"), _take_werkzeug),
    Host("gunicorn", _has("gunicorn.socket"), _take_gunicorn),
    Host("eventlet", _has("eventlet.input"), _take_eventlet),
    Host("uwsgi", _has("uwsgi.version"), _take_uwsgi),
    Host("waitress", _has("waitress.client_disconnected"), _take_waitress),
    Host("wsgi.input", lambda environ: _buffered(environ.get("wsgi.input")) is not None, _take_input),
)
_registered: list[Host] = []


def _as_takeover(given: Any) -> Takeover:
    return given if isinstance(given, Takeover) else Takeover(*given)


def _software(environ: Environ) -> str:
    return str(environ.get("SERVER_SOFTWARE") or "this server")
