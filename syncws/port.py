"""What the short path of a message looks at, and that path: in Python, or compiled where that can be had.

Rank 1, under the layers of a connection: a read or a write on a plain socket in a single step, when nothing is the
matter: no other caller, no listener's event, no control frame, whole messages. In everything else the layers do it, and
they are the definition. `_port.c` does the same, faster, and among greenlets, too: there it waits in the hub.
"""

from __future__ import annotations

import contextlib
import importlib
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any

from .buffers import SMALL_BUFFER
from .events import MessageEvent, message_event
from .frames import BINARY, COMPILED, TEXT, decode, encode
from .runtime import Lock, Runtime

__all__ = ["UNTOUCHED", "Port", "message_event", "new_lock"]

_port: Any = None
if COMPILED:
    with contextlib.suppress(ImportError):  # it was not built
        _port = importlib.import_module("._port", __package__)

#: in the first byte of a buffer: nothing was read into it, for no frame begins so
UNTOUCHED = 0xF0
_MOST_SENT = 4096  # bytes or characters that are sent so
_OPCODES = {str: TEXT, bytes: BINARY}


class Port:
    """The attributes of the layers above that a short path needs, see there what each is; and the short paths."""

    # A dictionary of so many attributes is slow to look into.
    __slots__ = (
        "_between",
        "_buffer",
        "_calm",
        "_decoded",
        "_green",
        "_happenings",
        "_hub",
        "_inbox",
        "_lock",
        "_max_payload",
        "_message_owner",
        "_out",
        "_outbox",
        "_pings",
        "_plain",
        "_pongs",
        "_reader",
        "_reads_here",
        "_server_side",
        "_short_descriptor",
        "_waiting",
        "_watched",
        "_watcher",
        "_writer",
        "bytes_received",
        "bytes_sent",
    )

    # What the layers above do:
    _receive: Any
    _take_in: Any
    _note_end: Any
    _leave_reading: Any
    _abort: Any
    _bail: Any
    _transport: Any
    _sender: Any
    _send_rest: Any
    _leave_writing: Any

    def __init__(self) -> None:
        #: bytes read from the transport since the handshake, framing included
        self.bytes_received = 0
        #: bytes handed to the system since the handshake, framing included
        self.bytes_sent = 0

        self._server_side: bool
        # Guarded by the state lock:
        self._lock: Lock
        self._reader: object = None
        self._writer: object = None
        self._message_owner: Any = None
        self._waiting: list[Lock]  # whom a change must be told to
        self._pongs: list[Any]
        self._pings: list[Any]
        self._outbox: Any = None
        self._calm = False  # OPEN, not paused, no end in sight
        self._watched = False  # by the attendant
        self._short_descriptor = -1  # of a plain socket that is written to without more ado
        self._green = False  # among greenlets: nothing may wait in a system call
        # The reader's:
        self._buffer: bytearray
        self._inbox: deque[Any] | tuple[()]  # the tuple, as long as nothing was in it
        self._hub: Any  # among greenlets: `_hub.wait(_watcher)` waits for data
        self._watcher: Any
        self._happenings: list[Any]
        self._reads_here = 0  # the thread that reads: another may be the main thread, which is to hear signals
        self._between = False  # the receiver is between two messages
        self._max_payload = 0
        self._decoded = 0
        # The writer's:
        self._out: list[Any]
        self._plain = False  # a message needs nothing but framing

    def _read_alone(self, role: object = None, /) -> Any:
        """Read once, as long as it takes, if nobody reads and nothing is the matter.

        Returns a message if there is one. With a `role` to read by, all go into the inbox instead, and what is returned
        means nothing.
        """
        holder = role or object()
        buffer = self._buffer
        message: Any = None
        try:
            with self._lock:
                if not self._calm or self._reader is not None or not self._between or self._short_descriptor < 0:
                    return None
                if self._reads_here != get_ident():
                    return None
                buffer = self._buffer
                if self._green or self._inbox or self._happenings or len(buffer) > SMALL_BUFFER:
                    return None
                buffer[0] = UNTOUCHED
                self._reader = holder
            try:
                count = self._receive(buffer)
                messages, position = decode(buffer, 0, count, self._server_side, self._max_payload)
                if not count:
                    self._note_end()
                elif position < count or count == len(buffer) or len(messages) > 1 or role is not None:
                    self._take_in(buffer, count, messages, position)
                else:
                    self.bytes_received += count
                    self._decoded += 1
                    message = messages[0]
            except BlockingIOError:
                pass  # the system's time-out (SO_RCVTIMEO), ours or somebody's: it is not the end
            except OSError:
                self._note_end()
            with self._lock:
                if self._watched and self._calm and not self._waiting and not self._happenings:
                    self._reader = None
                    return message
            self._leave_reading(holder)
            return message
        except BaseException:
            try:
                if self._reader is holder:
                    if buffer[0] != UNTOUCHED:
                        self._abort("interrupted while reading")
                    self._leave_reading(holder)
            except BaseException:
                self._bail(holder)
                raise
            raise

    def _send_alone(self, data: Any, timeout: float | None, /) -> bool:
        """Send a small message if nobody writes and nothing is the matter. False: nothing was done."""
        opcode = _OPCODES.get(data.__class__)
        if opcode is None or len(data) > _MOST_SENT:
            return False
        holder: object = None
        cut = False
        try:
            # All under the lock, for it does not wait; so nobody has to be told that the role is free again.
            with self._lock:
                if not self._calm or self._writer is not None or self._message_owner is not None or not self._plain:
                    return False
                if self._green or self._out or self._outbox or self._short_descriptor < 0:
                    return False
                frame = encode(opcode, data, True, False, b"" if self._server_side else self._sender.new_key())
                size = len(frame)
                cut = True
                try:
                    sent = self._transport.offer(frame)
                except OSError:
                    sent = 0  # the next attempt will find it, too
                if sent == size:
                    self.bytes_sent += size
                    cut = False
                    return True
                holder = self._writer = object()
                self._out.append(memoryview(frame)[sent:])
            self._send_rest(holder, size, timeout)
            return True
        except BaseException:
            try:
                if cut and (holder is None or self._writer is holder):
                    self._abort("a frame was cut short")
                if holder is not None:
                    self._leave_writing(holder)
            except BaseException:
                self._bail(holder)
                raise
            raise

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
