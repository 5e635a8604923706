"""`Server(server=…)`: takes WebSocket upgrades from an HTTP server object that somebody else made and runs.

Rank 5, over `doorway`. Two kinds: those that make a handler of `http.server` for each connection (http.server, wsgiref,
werkzeug), and those that call a WSGI application (gevent.pywsgi, cheroot). What is no upgrade, or not for the path
of any attached server, goes where it went before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from .doorway import Doorway, request_of
from .errors import HandshakeError
from .exchange import Request
from .handshake import upgrades_to_websocket
from .headers import Headers
from .hosts import Environ, StartResponse

#: attributes in which servers keep their WSGI application: gevent.pywsgi, cheroot
_APPLICATIONS = ("application", "wsgi_app")
_ADDRESSES = ("server_address", "bind_addr", "address")

# One lock, made when first needed (an import makes none): guards the changing of a server's attributes.
_locks: dict[str, threading.Lock] = {}


class Attachment:
    """One `Server` at one HTTP server. TypeError if it is of no kind that is known.

    claim: what no two at one server may share, for the second would get nothing: a set of paths (None: all of them), or
    what is equal to itself alone.
    """

    def __init__(self, server: Any, doorway: Doorway, wants: Callable[[Request], bool], claim: object) -> None:
        self._server = server
        self._hook = _hook_for(server)
        self.doorway = doorway
        self.wants = wants
        self.claim = claim

    def address(self) -> Any:
        found = (getattr(self._server, name, None) for name in _ADDRESSES)
        return next((address for address in found if address), None)

    def attach(self) -> None:
        """ValueError if another has the same claim."""
        with _guard():
            present = getattr(self._server, self._hook.attribute)
            attached = getattr(present, "_syncws_attached", None)
            if attached is None:
                attached = []
                wrapper = self._hook.wrap(present, attached)
                wrapper._syncws_attached, wrapper._syncws_wrapped = attached, present
                setattr(self._server, self._hook.attribute, wrapper)
            for other in attached:
                if taken := _shared(self.claim, other.claim):
                    raise ValueError(f"expected a path of its own: another Server has {taken} of this HTTP server")
            attached.append(self)
            self._attached: list[Attachment] = attached

    def detach(self) -> bool:
        """True the first time."""
        with _guard():
            if self not in self._attached:
                return False
            self._attached.remove(self)
            present = getattr(self._server, self._hook.attribute)
            # Others may have wrapped it since: then it stays, and passes everything on.
            if not self._attached and getattr(present, "_syncws_attached", None) is self._attached:
                setattr(self._server, self._hook.attribute, present._syncws_wrapped)
            return True


def _shared(one: object, other: object) -> str:
    """What both claim, in words."""
    if isinstance(one, frozenset) and isinstance(other, frozenset):
        return ", ".join(f"the path {path!r}" for path in sorted(one & other))
    return "all paths" if one is other else ""


def _guard() -> threading.Lock:
    return _locks.setdefault("attributes", threading.Lock())


class _Hook(NamedTuple):
    attribute: str
    wrap: Callable[[Any, list[Attachment]], Any]


def _hook_for(server: Any) -> _Hook:
    if isinstance(getattr(server, "RequestHandlerClass", None), type) and hasattr(
        server.RequestHandlerClass, "parse_request"
    ):
        return _Hook("RequestHandlerClass", _wrap_handler_class)
    for attribute in _APPLICATIONS:
        if callable(getattr(server, attribute, None)):
            return _Hook(attribute, _wrap_application)
    raise TypeError(
        "server must be a server object of http.server, wsgiref, werkzeug, gevent.pywsgi or cheroot, not "
        f"{type(server).__module__}.{type(server).__qualname__}"
    )


def _wrap_handler_class(handler_class: Any, attached: list[Attachment]) -> Any:
    def parse_request(self: Any) -> bool:
        """The head has been read: an upgrade is served here, and nothing is left to be done by the method."""
        if not handler_class.parse_request(self):
            return False
        if not upgrades_to_websocket(self.headers.get_all("Upgrade", [])):
            return True
        taker = _taker(attached, lambda: _sketch(self))
        if taker is None:
            return True
        taker.doorway.http(self)
        return False

    return type(handler_class.__name__, (handler_class,), {"parse_request": parse_request})


def _wrap_application(application: Any, attached: list[Attachment]) -> Any:
    def wrapper(environ: Environ, start_response: StartResponse) -> Any:
        if str(environ.get("HTTP_UPGRADE", "")).strip().lower() == "websocket":
            taker = _taker(attached, lambda: request_of(environ))
            if taker is not None:
                return taker.doorway.wsgi(environ, start_response)
        return application(environ, start_response)

    return wrapper


def _taker(attached: list[Attachment], request: Callable[[], Request]) -> Attachment | None:
    """Whose the request is: the first that wants it, but who takes all paths is asked after the others.

    One that is malformed is anybody's, who then refuses it.
    """
    takers = sorted(attached, key=lambda taker: taker.claim is None)
    try:
        asked = request()
    except HandshakeError:
        return takers[0] if takers else None
    return next((taker for taker in takers if taker.wants(asked)), None)


def _sketch(handler: Any) -> Request:
    try:
        return Request(handler.command, handler.path, _lenient(handler.headers.items()))
    except ValueError as error:
        raise HandshakeError("malformed HTTP request", status=400) from error


def _lenient(fields: Any) -> Headers:
    """The fields that can be in a head; what cannot is found by whoever judges the request."""
    found = Headers()
    for name, value in fields:
        try:
            found.add(name, value)
        except ValueError:
            continue
    return found
