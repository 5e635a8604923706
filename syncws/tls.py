"""TLS over a transport: over the plain one of its socket, or over TLS to a proxy.

Rank 2, over `transport`. Never talks to the socket itself.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Any

from .runtime import READ, WRITE, is_past, remaining
from .transport import Buffer, Out, Transport, consume

_MOST_BARREN = 1 << 17  # bytes of ciphertext in a row that hold no data: a record has 16 KiB at most
_CHUNK = 1 << 16  # bytes of plaintext that are encrypted, and of ciphertext that are read, at a time


class TLSTransport(Transport):
    """TLS over another transport, whose socket it takes over.

    `early`: bytes of the peer's that were read there already.
    OpenSSL works on memory only, under one lock that is never held while anything waits: a read may have to
    write and the other way round, and two threads must not be inside one SSL object at once.
    """

    lags = True

    def __init__(
        self,
        below: Transport,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        early: bytes = b"",
    ) -> None:
        # Ciphertext goes through `below`; waiting, shutting and closing are done to the socket, which is the same one.
        self._below = below
        self._runtime = runtime = below._runtime
        self._sock, self._waiter = below._sock, below._waiter
        self._waits_in_kernel = self._looks = False
        self._turn_began = 0.0
        self._lock = runtime.lock()  # guards the SSL object and its two memory buffers
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._incoming.write(early)
        self.receive = self.read
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._renegotiates = False  # TLS 1.2: a new handshake was begun, and nothing was written since
        self._received = 0  # bytes of ciphertext; the reader's
        self._barren = 0  # bytes of ciphertext since there was data; the reader's
        self._holding = False  # data was decrypted, or can be, that the last read did not take
        self._ciphertext = bytearray(4096)
        # Guards what follows, and the order in which ciphertext leaves. `_lock` is taken under it, and whatever `below`
        # has; never held while anything waits.
        self._leaving = runtime.lock()
        self._unsent: Out = []  # ciphertext that was not taken below
        self._answering = False  # ... and is the reader's to send on; else it is for whoever writes, who wants to know

    def handshake(self, deadline: float | None) -> None:
        """The TLS handshake. Raises ssl.SSLError, TimeoutError, or ConnectionError at the end of the stream."""
        try:
            while not self._step(self._tls.do_handshake):
                self._flush_all(deadline)
                self._feed_more(deadline)
            self._flush_all(deadline)
        except ssl.SSLError:
            self._flush_alert()
            raise

    def _step(self, call: Callable[[], object]) -> bool:
        with self._lock:
            try:
                call()
            except ssl.SSLWantReadError:
                return False
            return True

    def _feed_more(self, deadline: float | None) -> None:
        if is_past(deadline) or not self._wait(READ, deadline):
            raise TimeoutError("the TLS handshake took too long")
        if self._receive() == 0:
            raise ConnectionResetError("the peer closed the connection during the TLS handshake")

    def _flush_all(self, deadline: float | None) -> None:
        while not self._write_ciphertext():
            if self._below.stalls:
                raise ConnectionAbortedError("the proxy began a new TLS handshake in the middle of another")
            if not self._wait(WRITE, deadline):
                raise TimeoutError("the TLS handshake took too long")

    def _wait(self, events: int, deadline: float | None) -> int:
        return self._waiter.wait(events, remaining(deadline))

    def _flush_alert(self) -> None:
        # The peer should learn why; if it does not listen, the failure stands all the same.
        with contextlib.suppress(OSError):
            self._write_ciphertext()

    def read(self, buffer: Buffer, timeout: float | None = None) -> int | None:
        return self._read_waiting(buffer, timeout)

    def _recv(self, buffer: Buffer) -> int | None:
        while True:
            count = self._decrypt(buffer)
            if count is not None:
                self._barren = 0
                return count
            self._read_events = READ
            if self._renegotiates:
                self._answer()
            received = self._receive()
            if received is None:
                return None
            self._barren += received
            if self._barren > _MOST_BARREN:
                return 0  # key updates without end: they are answered each, and nothing comes of them

    def _decrypt(self, buffer: Buffer) -> int | None:
        with self._lock:
            answers = self._outgoing.pending
            try:
                # With a buffer to fill it answers with a count, which typeshed does not know.
                count: int = self._tls.read(len(buffer), buffer)  # type: ignore[assignment, arg-type, unused-ignore]
                self._holding = self._incoming.pending > 0 or self._tls.pending() > 0
                return count
            except ssl.SSLWantReadError:
                self._holding = False
                return None
            except ssl.SSLError:
                # A close_notify, an end without one, or garbage: the end of what can be trusted.
                return 0
            finally:
                if self._outgoing.pending > answers and self._tls.version() != "TLSv1.3":
                    self._renegotiates = True

    def _answer(self) -> None:
        """As the reader: our part of a new handshake (TLS 1.2), which the peer waits for. The rest waits for a writer.

        What a writer has left here is not touched: it is to learn when that is gone.
        """
        if self.wants_to_write():
            with self._leaving:
                if self._answering or not self._unsent:
                    try:
                        self._answering = not self._move_ciphertext()
                    except OSError:  # whoever writes next finds it, too
                        self._answering = False
        if self._answering and not self._below.stalls:
            self._read_events = READ | WRITE

    def _receive(self) -> int | None:
        """Move ciphertext from below to the SSL object: the count, 0 at the end, None if nothing is there."""
        count = self._below._recv(self._ciphertext)
        if count is None:
            return None
        self._received += count
        with self._lock:
            if count == 0:
                self._incoming.write_eof()
            else:
                self._incoming.write(memoryview(self._ciphertext)[:count])
        if count == len(self._ciphertext) < _CHUNK:
            self._ciphertext = bytearray(4 * count)
        return count

    @property
    def short_descriptor(self) -> int:
        return -1

    def offer(self, frame: Buffer) -> int:
        return 0

    def write(self, out: Out) -> bool:
        while self._write_ciphertext():
            if not out:
                return True
            if not self._encrypt(out):
                self.stalls = self._write_ciphertext() or self._below.stalls
                return False
        self.stalls = self._below.stalls
        return False

    def _encrypt(self, out: Out) -> bool:
        """Of the first of `out` as much as is encrypted at a time; False as long as the peer renegotiates."""
        with self._lock:
            if self._renegotiates and self._incoming.pending:
                return False  # in the middle of that a write takes data which came for a violation: a read comes first
            try:
                consume(out, self._tls.write(memoryview(out[0])[:_CHUNK]))
            except ssl.SSLWantReadError:
                return False
            self._renegotiates = False
            return True

    def _write_ciphertext(self) -> bool:
        """As the writer: write what the SSL object has ready; False when the kernel takes no more just now."""
        with self._leaving:
            self._answering = False
            return self._move_ciphertext()

    def _move_ciphertext(self) -> bool:
        with self._lock:
            data = self._outgoing.read()
        if data:
            self._unsent.append(data)
        return self._below.write(self._unsent)

    def wants_to_write(self) -> bool:
        with self._lock:
            ready = self._outgoing.pending > 0
        return ready or bool(self._unsent) or self._below.wants_to_write()

    def unsent(self) -> int:
        with self._leaving:
            return sum(map(len, self._unsent)) + self._below.unsent()

    def arrived(self, read: int) -> object:
        return self._below.arrived(self._received)

    def holds_data(self) -> bool:
        return self._holding or self._below.holds_data()

    def finish_writing(self) -> None:
        with self._lock, contextlib.suppress(ssl.SSLError, ValueError):
            self._tls.unwrap()  # queues our close_notify; the peer's is not waited for
        with contextlib.suppress(OSError):
            self._write_ciphertext()
        self._below.finish_writing()


def check_context(context: Any, *, server_side: bool) -> None:
    """TypeError unless `context` is an SSLContext, of whatever world, or None; ValueError if for the other side."""
    if context is None:
        return
    # Not by its class: gevent replaces that, and contexts made before are as good here.
    if not callable(getattr(context, "wrap_bio", None)):
        raise TypeError(f"ssl must be an ssl.SSLContext, not {context!r}")
    wrong = ssl.PROTOCOL_TLS_CLIENT if server_side else ssl.PROTOCOL_TLS_SERVER
    if context.protocol == wrong:
        raise ValueError(f"ssl must be a context for {'servers' if server_side else 'clients'}, not {wrong.name}")
