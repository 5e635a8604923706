"""syncws on gevent's greenlets, whether or not gevent has patched the process: `Socket` and `Server` as in syncws.

Rank 6. The name shadows nothing: inside the package gevent itself is imported absolutely.
"""

from __future__ import annotations

from .client import Socket as _Socket
from .greenlets import GREENLETS
from .server import Server as _Server

__all__ = ["Server", "Socket"]


class Socket(_Socket):
    """`syncws.Socket` in the world of greenlets."""

    _RUNTIME = GREENLETS


class Server(_Server):
    """`syncws.Server` in the world of greenlets: one greenlet per connection."""

    _RUNTIME = GREENLETS
    _SOCKET = Socket
