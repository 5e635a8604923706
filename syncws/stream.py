"""A connection as a raw file: its messages are a stream of bytes, each write is a binary message.

Rank 4: on the calls that users have, `send`, `recv` and `close`. `files` puts buffers over it; what the files of one
connection have in common is a `Sharing`. Source: the module io of the standard library.
"""

from __future__ import annotations

import io
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .buffers import Payload, as_bytes, kind_of
from .errors import BrokenStream, ConnectionClosed
from .lifecycle import CONNECTING

#: Close codes that say: this was all. Not 1001, with which a peer goes away in the middle, too.
_COMPLETE = (1000, 1005)


class Turn:
    """Who does what one does at a time; waited for as a change of the connection, by threads and greenlets alike."""

    def __init__(self) -> None:
        self.holder: object = None  # guarded by the state lock

    @contextmanager
    def of(self, ws: Any) -> Iterator[None]:
        token = object()
        try:
            while True:
                with ws._lock:
                    if self.holder is None:
                        self.holder = token
                        break
                    bell = ws._changed.bell()
                ws._changed.hear(bell, None)
            yield
        finally:
            with ws._lock:
                if self.holder is token:
                    self.holder = None
                    ws._changed.notify_all()


class Sharing:
    """What the files of one connection have in common."""

    def __init__(self) -> None:
        self.reading, self.writing = Turn(), Turn()
        # A message, and how much of it was read; whoever has the turn to read. Each read makes a view of its own:
        # where there is no GIL, views that come of one another are not for two threads at once.
        self.message: Payload = b""
        self.place = 0
        self.files: list[weakref.ref[RawFile]] = []  # that are not closed; guarded by the state lock
        self.wrote = False  # something went out
        self.told = False  # that the stream is broken; once is enough

    def disinherit(self) -> None:
        """In the child of a fork: who had a turn stayed in the parent."""
        self.reading.holder = self.writing.holder = None


def bytes_of(data: object) -> Payload:
    """What is written, as bytes; TypeError if it is no contiguous buffer."""
    payload = as_bytes(data)
    if payload is None:
        raise TypeError(f"expected a bytes-like object to write, got {kind_of(data)}")
    return payload


def check_open(file: io.IOBase, able: bool, what: str) -> None:
    """Raise what files raise when closed, or not made for it."""
    if file.closed:
        raise ValueError("I/O operation on closed file")
    if not able:
        raise io.UnsupportedOperation(f"not {what}")


class RawFile(io.RawIOBase):
    """The connection without a buffer: a read gives what one message has left, a write is one message.

    Any thread or greenlet may read, and any may write, at any time. `close` of the last file that writes ends what the
    peer reads (a Close with 1000); `close` of the last file of all also waits until the connection is CLOSED.
    """

    def __init__(self, ws: Any, sharing: Sharing, reads: bool, writes: bool) -> None:
        self.ws = ws
        self.sharing = sharing
        self.reads = reads
        self.writes = writes
        #: for whoever asks, as files have it
        self.mode = "rb+" if reads and writes else "rb" if reads else "wb"
        #: nobody has it any more, who could close it: no lock may be taken, for this may run anywhere
        self.abandoned = False

    def enlist(self) -> None:
        """To be counted as open."""
        with self.ws._lock:
            self.sharing.files = [*self._others(), weakref.ref(self)]

    def _others(self) -> list[weakref.ref[RawFile]]:
        """With the state lock."""
        return [file for file in self.sharing.files if file() not in (None, self)]

    def readable(self) -> bool:
        return self.reads

    def writable(self) -> bool:
        return self.writes

    # -- reading -----------------------------------------------------------------------------------------------

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from what is left of a message, or else from the next; 0 is the end.

        The end is the peer's Close with 1000 or without a code. BrokenStream for any other: it is no whole.
        """
        view = memoryview(buffer).cast("B")
        if view.readonly:
            raise TypeError("expected a buffer that can be written to")
        piece = self._take(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, of one message; all up to the end without a `size`."""
        if size is None or size < 0:
            return self.readall()
        piece = self._take(size)
        whole = piece.obj
        return whole if isinstance(whole, bytes) and len(whole) == len(piece) else bytes(piece)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self._take(sys.maxsize), b""))

    def _take(self, size: int) -> memoryview:
        check_open(self, self.reads, "readable")
        sharing = self.sharing
        with sharing.reading.of(self.ws):
            while size and sharing.place == len(sharing.message):
                data = self._next()
                if data is None:
                    break
                sharing.message, sharing.place = data, 0
            piece = memoryview(sharing.message)[sharing.place :][:size]
            sharing.place += len(piece)
            if sharing.place == len(sharing.message):
                sharing.message, sharing.place = b"", 0  # it may be large
            return piece

    def _next(self) -> Payload | None:
        """The next message as bytes; None at the end."""
        try:
            data = self.ws.recv()
        except ConnectionClosed as error:
            if error.code in _COMPLETE:
                return None
            raise self._broken(error) from error
        if isinstance(data, str):
            return data.encode()
        if isinstance(data, memoryview):
            return bytes(data.obj)  # of bytes: no copy
        return b"".join(data) if isinstance(data, list) else data

    # -- writing -----------------------------------------------------------------------------------------------

    def write(self, data: Any) -> int:
        """Send all of `data`, as one binary message; nothing if it is empty. Waits as `send` does, also for OPEN."""
        check_open(self, self.writes, "writable")
        payload = bytes_of(data)
        if payload:
            self._send(payload)
        return len(payload)

    def _send(self, payload: Payload) -> None:
        try:
            self._await_open()
            self.ws.send(payload)
        except ConnectionClosed as error:
            raise self._broken(error) from error
        self.sharing.wrote = True

    def _await_open(self) -> None:
        ws = self.ws
        while ws._state == CONNECTING:
            ws._refuse_to_wait_for_itself()
            with ws._lock:
                if ws._state != CONNECTING:
                    return
                bell = ws._changed.bell()
            ws._changed.hear(bell, None)

    def _broken(self, error: ConnectionClosed) -> BrokenStream:
        self.sharing.told = True
        return BrokenStream(error.code, error.reason, error.wasClean)

    # -- the end -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave; see the class. BrokenStream if something was written, and the peer did not agree to the end.

        It says so by a Close with 1000 or without a code.
        """
        if self.closed:
            return
        super().close()
        if self.abandoned:
            return
        last, last_writer = self._leave()
        if last:
            self.ws.__exit__(None, None, None)
            self._check_end()
        elif last_writer:
            self.ws.close(1000)

    def fail(self, *problem: Any) -> None:
        """Leave because of an exception (as `__exit__` has it): 1011 tells the peer that this was not all."""
        if self.closed:
            return
        super().close()
        self._leave()
        self.ws.__exit__(*problem)

    def _leave(self) -> tuple[bool, bool]:
        """Whether no file is left, and whether we were the last that writes."""
        with self.ws._lock:
            self.sharing.files = others = self._others()
            writers = [file for file in (reference() for reference in others) if file is not None and file.writes]
        return not others, self.writes and not writers

    def _check_end(self) -> None:
        ws, sharing = self.ws, self.sharing
        if sharing.wrote and not sharing.told and ws.close_code not in _COMPLETE:
            raise self._broken(ws._closed_error())

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.close()
        else:
            self.fail(kind, error, trace)

    def __del__(self) -> None:
        self.abandoned = True

    def _dealloc_warn(self, source: object) -> None:
        """A hook of the module io: a buffer over this is collected, and will call `close`."""
        self.abandoned = True
