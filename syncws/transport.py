"""A connected stream: read, write, wait, shut, close. For threads and for greenlets; over TLS see `tls`.

Rank 2: talks to a connected socket, and only it, `borrowed` and the short path of `port` do. Holds no state of the
protocol. One reader and one writer may be in it at once; `shutdown` may come from anywhere, `close` only when both have
left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
import termios
import time
from array import array
from collections.abc import Callable
from typing import Any

from .runtime import LOOK, READ, WRITE, Runtime, hears_signals, is_past, remaining

Buffer = bytes | bytearray | memoryview
Out = list[Buffer]

_DONT_WAIT = int(socket.MSG_DONTWAIT)
_PEEK = int(socket.MSG_PEEK | _DONT_WAIT)
_MOST_BUFFERS = 64  # for one sendmsg; the system's limit (IOV_MAX) is at least 16, 1024 on Linux
_LOOK = struct.pack("ll", 0, int(LOOK * 1e6))  # a struct timeval, for one call that waits in the system
# Greenlets: seconds that one may go on reading without waiting before the others get their turn.
_FAIR_SHARE = 0.005
_STUFFED = 8  # stuffed from an eighth of the receive buffer on: what the kernel needs for itself counts in it, too
_QUEUE_NAP = 0.02  # seconds until a full queue is tried again


class Transport:
    """A plain socket. Errors of reading are the end of the stream; errors of writing are raised as OSError."""

    #: whether what was written may still be in here, see `wants_to_write`
    lags = False
    #: whether a connection closes it, once nobody is in it; else it is for whoever made it to close
    is_taken = False
    #: what a read that found nothing waits for
    _read_events = READ
    #: whether what could not be written waits for something of the peer's, and not for room
    stalls = False
    #: whether a read may be one call that waits in the system, where there is such a thing
    _may_wait_in_kernel = True

    def __init__(self, runtime: Runtime, sock: socket.socket) -> None:
        self._runtime = runtime
        self._sock = runtime.adopt(sock)
        self._waits_in_kernel = self._may_wait_in_kernel and runtime.may_block
        self._sock.setblocking(self._waits_in_kernel)
        self._looks = False
        self._waiter = runtime.waiter(self._sock.fileno())
        self._turn_began = 0.0
        self._no_delay()
        #: reads as `read` does, waiting as long as it takes, but may also raise OSError for the end
        self.receive: Callable[[bytearray], int | None] = self._sock.recv_into if self._waits_in_kernel else self.read

    def _no_delay(self) -> None:
        # A small frame must not wait for the acknowledgement of the one before (Nagle's algorithm).
        if self._sock.family in (socket.AF_INET, socket.AF_INET6):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def heed_signals(self) -> None:
        """By whoever is going to read: in the main thread no read waits longer in the system than a `LOOK`."""
        if self._waits_in_kernel and not self._looks and hears_signals():
            self._looks = True
            with contextlib.suppress(OSError):  # a system with another struct timeval
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _LOOK)

    @property
    def descriptor(self) -> int:
        """-1 once closed, also by the garbage collector, for the number may then be another's."""
        return self._sock.fileno()

    @property
    def sock(self) -> socket.socket:
        return self._sock

    @property
    def short_descriptor(self) -> int:
        """The descriptor, if what is written to it goes to the peer as it is, without waiting; else -1."""
        return self._sock.fileno()

    def addresses(self) -> tuple[Any, Any]:
        """The peer's address and ours; None for one that cannot be told any more."""
        return _told(self._sock.getpeername), _told(self._sock.getsockname)

    def read(self, buffer: Buffer, timeout: float | None = None) -> int | None:
        """Read what there is, at most `buffer` full. 0 at the end of the stream, None after `timeout` seconds."""
        if timeout is None and self._waits_in_kernel:
            self.heed_signals()
            try:
                return self._sock.recv_into(buffer)
            except BlockingIOError:
                pass  # the system's time-out (SO_RCVTIMEO), ours or somebody's: it is not the end
            except OSError:
                return 0
        return self._read_waiting(buffer, timeout)

    def _read_waiting(self, buffer: Buffer, timeout: float | None) -> int | None:
        deadline = None if timeout is None or timeout <= 0 else time.monotonic() + timeout
        self.give_way()
        while True:
            try:
                count = self._recv(buffer)
            except OSError:
                return 0
            if count is not None:
                return count
            if timeout is not None and (timeout <= 0 or is_past(deadline)):
                return None
            ready = self._waiter.wait(self._read_events, remaining(deadline))
            self._turn_began = time.monotonic()
            if not ready:
                return None

    def _recv(self, buffer: Buffer) -> int | None:
        """One read that does not wait; None when nothing is there."""
        try:
            return self._sock.recv_into(buffer, 0, _DONT_WAIT)
        except BlockingIOError:
            return None

    def give_way(self) -> None:
        """Let other greenlets run, if this connection has been busy for long without waiting.

        One whose data never runs out, or is always taken, never waits, so it must give way of its own accord. To be
        called before a read or a frame: who is interrupted here has done nothing yet.
        """
        if not self._runtime.may_block and time.monotonic() - self._turn_began >= _FAIR_SHARE:
            self._runtime.breathe()
            self._turn_began = time.monotonic()

    def offer(self, frame: Buffer) -> int:
        """Write of one buffer what the kernel takes at once: how many bytes."""
        try:
            return self._sock.send(frame, _DONT_WAIT)
        except BlockingIOError:
            return 0

    def write(self, out: Out) -> bool:
        """Write from the left of `out` what the kernel takes, and remove it there. True when all is gone."""
        while out:
            try:
                if len(out) == 1:
                    sent = self._sock.send(out[0], _DONT_WAIT)
                else:
                    sent = self._sock.sendmsg(out[:_MOST_BUFFERS], (), _DONT_WAIT)
            except BlockingIOError:
                return False
            consume(out, sent)
        return True

    def write_all(self, data: Buffer, deadline: float | None, complaint: str) -> None:
        """Write until all is gone; TimeoutError at `deadline`, with `complaint`."""
        out: Out = [data] if data else []
        while not self.write(out):
            if self.stalls:
                raise ConnectionAbortedError("the peer began a new TLS handshake in the middle of another")
            if not self.wait(WRITE, remaining(deadline)):
                raise TimeoutError(complaint)

    def wait(self, events: int, timeout: float | None) -> int:
        """Wait for READ, WRITE or both; what may be tried now, 0 after `timeout` seconds."""
        ready = self._waiter.wait(events, timeout)
        self._turn_began = time.monotonic()
        return ready

    def data_wait(self) -> tuple[Any, Any]:
        """Among greenlets: who waits for data, by `wait(…)` with what; for the reader."""
        return self._waiter.data_wait()

    def wants_to_write(self) -> bool:
        """Whether something of the transport's own waits to be written."""
        return False

    def unsent(self) -> int:
        """Bytes that were taken by `write`, and wait in here for the kernel; the writer's."""
        return 0

    def unread(self) -> int:
        """How many bytes of the peer lie in the kernel, unread."""
        count = array("i", [0])
        try:
            fcntl.ioctl(self._sock.fileno(), termios.FIONREAD, count)
        except (OSError, ValueError):
            return 0
        return count[0]

    def arrived(self, read: int) -> object:
        """Another one whenever something has come; `read`: the bytes that were read from here so far."""
        return read + self.unread()

    def is_stuffed(self) -> bool:
        """Whether a good part of what the kernel takes lies there unread: the peer may be unable to send more."""
        try:
            room = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        except OSError:
            return False
        return self.unread() * _STUFFED >= room

    def has_ended(self) -> bool:
        """Whether nothing is to be read any more but the end of the stream, as far as it can be told at once."""
        if self.holds_data():
            return False
        try:
            return not self._sock.recv(1, _PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def holds_data(self) -> bool:
        """Whether a read would give something that the descriptor does not show as readable."""
        return False

    def finish_writing(self) -> None:
        """Tell the peer that nothing more will come; reading goes on."""
        self.shutdown(socket.SHUT_WR)

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """Shut the connection; wakes whoever waits in it. Does not block, may be called more than once."""
        with contextlib.suppress(OSError):  # the peer may have been faster
            self._sock.shutdown(how)

    def disinherit(self) -> None:
        """In the child of a fork: nothing that is done here reaches the connection any more, which is the parent's."""
        self._runtime.supplant(self.descriptor)

    def close(self) -> None:
        """Give the descriptor back; nobody may be in here."""
        self._waiter.close()
        self._sock.close()


def _told(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except OSError:
        return None


def consume(out: Out, count: int) -> None:
    """Remove `count` bytes from the left of `out`."""
    whole = 0
    for buffer in out:
        size = len(buffer)
        if size > count:
            break
        whole += 1
        count -= size
    del out[:whole]
    if count:
        out[0] = memoryview(out[0])[count:]


def connect(
    runtime: Runtime,
    make: Callable[[socket.socket], Transport],
    family: int,
    address: Any,
    deadline: float | None,
    abandoned: Callable[[], bool],
) -> Transport:
    """Open a TCP or unix connection. `make` wraps the socket before it connects, so that it can be shut meanwhile.

    Raises OSError, or TimeoutError at `deadline`: whoever had it from `make` closes it. `abandoned` is asked whether to
    go on waiting for a unix socket.
    """
    sock = runtime.native_socket()(family, socket.SOCK_STREAM)
    try:
        transport = make(sock)
    except BaseException:
        sock.close()
        raise
    _await_connection(transport, address, deadline, abandoned)
    return transport


def _begins_to_connect(sock: socket.socket, address: Any) -> bool:
    """False if a unix socket has no room in its queue just now. BlockingIOError: it is under way."""
    try:
        sock.connect(address)
    except BlockingIOError as error:
        if error.errno == errno.EAGAIN:
            return False
        raise
    return True


def _await_connection(
    transport: Transport, address: Any, deadline: float | None, abandoned: Callable[[], bool]
) -> None:
    sock = transport.sock
    blocking = sock.getblocking()
    sock.setblocking(False)
    try:
        try:
            while not _begins_to_connect(sock, address):
                if is_past(deadline):
                    raise TimeoutError(f"no connection to {address} in time: too many others wait for one")
                transport._runtime.sleep(_QUEUE_NAP)
                if abandoned():
                    raise ConnectionAbortedError("closed before there was a connection")
        except BlockingIOError:
            if not transport.wait(WRITE, remaining(deadline)):
                raise TimeoutError(f"no connection to {address} in time") from None
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, f"cannot connect to {address}") from None
    finally:
        sock.setblocking(blocking)
