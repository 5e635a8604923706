"""What the short path of a message looks at, and that path where it is compiled.

Rank 1: the base of all layers of a connection. `_port.c` has the same attributes, and does a read or a write on a plain
socket by itself when nothing is the matter: no other caller, no listener's event, no control frame, whole messages.
Among greenlets it waits in the hub, as the layers do. In everything else, and everywhere else, the layers do it, and
they are the definition.
"""

from __future__ import annotations

import contextlib
import importlib
from collections import deque
from typing import TYPE_CHECKING, Any

from .events import MessageEvent, message_event
from .frames import COMPILED
from .runtime import Lock, Runtime

__all__ = ["Port", "message_event", "new_lock"]

_port: Any = None
if COMPILED:
    with contextlib.suppress(ImportError):  # a system that has no such sockets
        _port = importlib.import_module("._port", __package__)

class Port:
    """The attributes of the layers above that a short path needs; see there what each is."""

    #: bytes read from the transport since the handshake, framing included
    bytes_received: int = 0
    #: bytes handed to the system since the handshake, framing included
    bytes_sent: int = 0

    _server_side: bool
    # Guarded by the state lock:
    _lock: Lock
    _reader: object = None
    _writer: object = None
    _message_owner: Any = None
    _waiting: list[Lock]  # whom a change must be told to
    _pongs: list[Any]
    _pings: list[Any]
    _outbox: Any = None
    _calm: bool = False  # OPEN, not paused, no end in sight
    _watched: bool = False  # by the attendant
    _short_descriptor: int = -1  # of a plain socket that is written to without more ado
    _green: bool = False  # among greenlets: nothing may wait in a system call
    # The reader's:
    _buffer: bytearray
    _inbox: deque[Any] | tuple[()]  # the tuple, as long as nothing was in it
    _hub: Any  # among greenlets: `_hub.wait(_watcher)` waits for data
    _watcher: Any
    _happenings: list[Any]
    _between: bool = False  # the receiver is between two messages
    _max_payload: int = 0
    _decoded: int = 0
    # The writer's:
    _out: list[Any]
    _plain: bool = False  # a message needs nothing but framing

    def _read_alone(self, role: object = None, /) -> Any:
        """Read once, as long as it takes, if nobody reads and nothing is the matter.

        Returns a message if there is one. With a `role` to read by, all go into the inbox instead, and what is returned
        means nothing.
        """
        return None

    def _send_alone(self, data: Any, timeout: float | None, /) -> bool:
        """Send a small message if nobody writes and nothing is the matter. False: nothing was done."""
        return False

    def _post_alone(self, frame: bytes, /) -> bool:
        """Write a whole frame likewise, without waiting; the attendant writes what the kernel does not take."""
        return False


def new_lock(runtime: Runtime) -> Lock:
    """A lock for the state of a connection; the compiled port knows its own only."""
    lock: Lock = _port.Lock() if _port is not None and runtime.may_block else runtime.lock()
    return lock


if _port is not None and not TYPE_CHECKING:
    Port = _port.Port
    _port.set_event_class(MessageEvent)
    message_event = _port.message_event
