"""syncws on gevent's greenlets, whether or not gevent has patched the process: `Socket`, `Server`
and `reconnect` as in syncws.

Rank 6. The name shadows nothing: inside the package gevent itself is imported absolutely.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from .client import Socket as _Socket
from .greenlets import GREENLETS
from .reconnect import reconnect as _reconnect
from .server import Server as _Server

__all__ = ["Server", "Socket", "reconnect"]


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
