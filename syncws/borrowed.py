"""Transports over a socket that stays another server's: ours until `close`, then shut both ways, never closed.

Rank 2, beside `transport`. A server that writes after us meets a connection that is shut, which all of them take for
a client that has gone. Closing the descriptor instead would let it write into whatever gets that number next.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from typing import Any

from .runtime import READ, WRITE, Runtime
from .transport import Buffer, Out, Transport, consume

_RECORD = 1 << 14  # bytes of plaintext in one TLS record (RFC 8446 section 5.1)
# "Not now", as the TLS sockets of the standard library, gevent and eventlet say it.
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, TimeoutError)


def borrow(runtime: Runtime, sock: Any) -> Transport:
    """A transport over a connected socket of any kind. OSError or ValueError if there is no descriptor behind it."""
    if _is_plain(sock):
        return SharedTransport(runtime, _twin(runtime, sock))
    return BorrowedTransport(runtime, sock)


def _is_plain(sock: Any) -> bool:
    """Whether reading the descriptor is all that the socket's own methods do: not with TLS, nor for stand-ins."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(sock).__mro__}
    plain = {"socket.socket", "_socket.socket", "eventlet.greenio.base.GreenSocket"}
    plain |= {name for name in kinds if name.startswith("gevent._socket")}
    return bool(kinds & plain) and not hasattr(sock, "do_handshake")


def _twin(runtime: Runtime, sock: Any) -> socket.socket:
    """A socket of the native class over a descriptor of its own for the same connection."""
    descriptor = os.dup(sock.fileno())
    try:
        return runtime.native_socket()(fileno=descriptor)
    except BaseException:
        runtime.native_os("close")(descriptor)
        raise


class SharedTransport(Transport):
    """A plain socket: all is done on a descriptor of our own."""

    def close(self) -> None:
        self.shutdown()
        super().close()


class BorrowedTransport(Transport):
    """A socket with more to it than its descriptor, TLS above all: read and written by its own methods.

    These are called one at a time, for two threads must not be inside one TLS connection at once, and never wait:
    that is done on a descriptor of our own.
    """

    lags = True
    _may_wait_in_kernel = False

    def __init__(self, runtime: Runtime, sock: Any) -> None:
        twin = _twin(runtime, sock)
        self._given = sock
        self._recv_into = getattr(sock, "recv_into", self._recv_and_copy)
        self._usual_timeout = sock.gettimeout()
        self._set_waiting(False)
        super().__init__(runtime, twin)
        self._lock = runtime.lock()  # guards the calls of the socket given, and what follows
        self._unsent = b""  # one record that was begun: it must be offered again as it is
        self._ended = False
        self._is_ours = True  # but in the child of a fork

    def _set_waiting(self, may_wait: bool) -> None:
        # Not by a time-out of 0 where there is this: a TLS socket of eventlet's waits even then.
        if hasattr(self._given, "setblocking"):
            self._given.setblocking(may_wait)
        if may_wait or not hasattr(self._given, "setblocking"):
            self._given.settimeout(self._usual_timeout if may_wait else 0)

    @property
    def short_descriptor(self) -> int:
        return -1

    def _recv(self, buffer: Buffer) -> int | None:
        with self._lock:
            if self._ended:
                return 0
            try:
                count: int = self._recv_into(buffer)
            except ssl.SSLWantWriteError:
                self._read_events = WRITE
                return None
            except NOT_NOW:
                self._read_events = READ
                return None
            except (OSError, ValueError):  # ValueError: the TLS session was ended under us
                return 0
            return count

    def _recv_and_copy(self, buffer: Buffer) -> int:
        data = self._given.recv(len(buffer))
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def offer(self, frame: Buffer) -> int:
        return 0

    def write(self, out: Out) -> bool:
        with self._lock:
            while out or self._unsent:
                self._unsent = self._unsent or _gathered(out)
                self.stalls = False
                try:
                    sent = self._given.send(self._unsent)
                except NOT_NOW as error:
                    self.stalls = isinstance(error, ssl.SSLWantReadError)
                    sent = 0
                if not sent:  # as gevent says "not now"
                    return False
                self._unsent = self._unsent[sent:]
        return True

    def wants_to_write(self) -> bool:
        return bool(self._unsent)

    def unsent(self) -> int:
        return len(self._unsent)

    def arrived(self, read: int) -> object:
        return read, self.unread()  # it may be TLS: of plaintext and ciphertext there is no sum

    def holds_data(self) -> bool:
        with self._lock:
            pending = getattr(self._given, "pending", None)
            return pending is not None and not self._ended and pending() > 0

    def finish_writing(self) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError, AttributeError):
            self._given.unwrap()  # sends our close_notify; if the peer's was there already, all is over
            self._ended = True
        super().finish_writing()

    def disinherit(self) -> None:
        super().disinherit()
        self._is_ours = False

    def close(self) -> None:
        if self._is_ours:
            self._close_given()
        self.shutdown()
        super().close()

    def _close_given(self) -> None:
        # Through the object, too: a TLS socket then forgets its session, and nothing of it gets out any more.
        with contextlib.suppress(OSError, ValueError):
            self._given.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError, ValueError):
            self._set_waiting(True)


def _gathered(out: Out) -> bytes:
    """The first buffers as one record, taken from `out`."""
    parts: list[Buffer] = []
    size = 0
    for buffer in out:
        if size and size + len(buffer) > _RECORD:
            break
        part = memoryview(buffer)[: _RECORD - size]
        parts.append(part)
        size += len(part)
    consume(out, size)
    return b"".join(parts)
