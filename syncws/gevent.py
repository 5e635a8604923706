"""syncws on gevent's greenlets, whether or not gevent has patched the process: `Socket`, `Server`
and `reconnect` as in syncws.

Rank 6. The name shadows nothing: inside the package gevent itself is imported absolutely.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, overload

from .admission import Handler as _Handler
from .client import Socket as _Socket
from .greenlets import GREENLETS
from .reconnect import reconnect as _reconnect
from .server import Server as _Server
from .upgrade import Upgrade as _Upgrade
from .upgrade import made as _made

__all__ = ["Server", "Socket", "reconnect", "upgrade"]


class Socket(_Socket):
    """`syncws.Socket` in the world of greenlets."""

    _RUNTIME = GREENLETS


class Server(_Server):
    """`syncws.Server` in the world of greenlets: one greenlet per connection."""

    _RUNTIME = GREENLETS
    _SOCKET = Socket


def reconnect(
    url: str, protocols: str | list[str] | tuple[str, ...] | None = None, **arguments: Any
) -> Generator[_Socket, None, None]:
    """`syncws.reconnect` in the world of greenlets."""
    return _reconnect(url, protocols, **{"socket_class": Socket, **arguments})


class _GreenUpgrade(_Upgrade):
    _RUNTIME = GREENLETS
    _SOCKET = Socket


@overload
def upgrade(accept: _Handler | Mapping[str, _Handler], **options: Any) -> _Upgrade: ...
@overload
def upgrade(accept: None = None, **options: Any) -> Callable[[_Handler], _Upgrade]: ...
def upgrade(
    accept: _Handler | Mapping[str, _Handler] | None = None, **options: Any
) -> _Upgrade | Callable[[_Handler], _Upgrade]:
    """`syncws.upgrade` in the world of greenlets, whatever the server's sockets are."""
    return _made(_GreenUpgrade, accept, options)
