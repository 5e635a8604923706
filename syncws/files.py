"""The files that `makefile` gives out: buffers, and text, over the raw file of a connection.

Rank 4, over stream. Source: the module io of the standard library, and `makefile` of its sockets.
"""

from __future__ import annotations

import io
import operator
import sys
import warnings
from typing import Any

from .stream import RawFile, Sharing, bytes_of, check_open


def make(
    ws: Any,
    sharing: Sharing,
    mode: str,
    buffering: int | None,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> io.IOBase:
    """See `Connection.makefile`. Bad arguments raise before there is a file."""
    if not isinstance(mode, str):
        raise TypeError(f"mode must be a str, not {mode!r}")
    if not set(mode) <= set("rwb") or not set(mode) & set("rw"):
        raise ValueError(f"mode must have r, w or both, and b for bytes, not {mode!r}")
    size = -1 if buffering is None else operator.index(buffering)
    text = "b" not in mode
    if text and size == 0:
        raise ValueError("text cannot be unbuffered: buffering=0 is for modes with b")
    if not text and not encoding is errors is newline is None:
        raise ValueError("encoding, errors and newline are for text: for modes without b")
    raw = RawFile(ws, sharing, "r" in mode, "w" in mode)
    file: io.IOBase = raw
    if size:
        default = size < 0 or (text and size == 1)
        gather = 0 if size < 0 else io.DEFAULT_BUFFER_SIZE if default else size
        file = BufferedFile(raw, io.DEFAULT_BUFFER_SIZE if default else size, gather)
    if text:
        how = {"encoding": encoding or "utf-8", "errors": errors, "newline": newline}
        file = TextFile(file, **how, write_through=size < 0, line_buffering=size == 1)
    raw.enlist()
    return file


class BufferedFile(io.BufferedIOBase):
    """A buffer of `size` bytes for reading; for writing one of `gather` bytes, or none: 0, each write goes at once."""

    def __init__(self, raw: RawFile, size: int, gather: int) -> None:
        self.raw: Any = raw
        self.mode = raw.mode
        self._gather = gather
        self._turn = raw.sharing.writing
        self._pending = bytearray()  # whoever has the turn
        self._reader = io.BufferedReader(raw, size) if raw.reads else None

    def readable(self) -> bool:
        return bool(self.raw.reads)

    def writable(self) -> bool:
        return bool(self.raw.writes)

    def _for_reading(self) -> io.BufferedReader[RawFile]:
        check_open(self, self.raw.reads, "readable")
        assert self._reader is not None
        return self._reader

    def read(self, size: int | None = -1) -> bytes:
        return self._for_reading().read(size)

    def read1(self, size: int = -1) -> bytes:
        return self._for_reading().read1(size)

    def readinto(self, buffer: Any) -> int:
        return self._for_reading().readinto(buffer)

    def readinto1(self, buffer: Any) -> int:
        return self._for_reading().readinto1(buffer)

    def readline(self, size: int | None = -1) -> bytes:
        return self._for_reading().readline(size)

    def peek(self, size: int = 0) -> bytes:
        return self._for_reading().peek(size)

    def write(self, data: Any) -> int:
        check_open(self, self.raw.writes, "writable")
        if self.raw.abandoned:
            self._pending += data
            return len(data)
        if not self._gather:
            return int(self.raw.write(data))
        payload = bytes_of(data)
        with self._turn.of(self.raw.ws):
            if len(self._pending) + len(payload) > self._gather:
                self._send_pending()
            if len(payload) >= self._gather:
                self.raw.write(payload)
            else:
                self._pending += payload
        return len(payload)

    def flush(self) -> None:
        """Send what was gathered."""
        check_open(self, True, "writable")
        if self._pending and not self.raw.abandoned:
            with self._turn.of(self.raw.ws):
                self._send_pending()

    def _send_pending(self) -> None:
        """With the turn."""
        if self._pending:
            pending, self._pending = self._pending, bytearray()
            self.raw.write(pending)

    def close(self) -> None:
        if self.closed:
            return
        if self.raw.abandoned or self.raw.closed:
            self._drop()
            return
        try:
            super().close()
        except BaseException:
            self.raw.fail(*sys.exc_info())
            raise
        # Not the reader's: it would wait for whoever reads just now.
        self.raw.close()

    def _drop(self) -> None:
        """Closed without a word to anybody but the programmer."""
        lost, self._gather = len(self._pending), 0
        self._pending = bytearray()
        self.raw.abandoned = True
        super().close()
        if lost:
            warnings.warn(f"unclosed {self!r}: {lost} bytes were never sent", ResourceWarning, stacklevel=2)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.close()
        elif not self.closed:
            self._pending = bytearray()
            self.raw.fail(kind, error, trace)
            self._drop()

    def __del__(self) -> None:
        if not self.closed:
            self._drop()

    def _dealloc_warn(self, source: object) -> None:
        self.raw.abandoned = True


class TextFile(io.TextIOBase):
    """Text over a `BufferedFile`, each direction by an `io.TextIOWrapper`: one for both forgets what it has read ahead
    whenever it writes.
    """

    # Read-only in the base; here they are attributes.
    encoding = ""
    errors: str | None = None

    def __init__(self, buffer: Any, **how: Any) -> None:
        self._buffer = buffer
        self.mode = buffer.mode
        self._reader: Any = io.TextIOWrapper(buffer, **how) if buffer.readable() else None
        self._writer: Any = io.TextIOWrapper(buffer, **how) if buffer.writable() else None
        either: Any = self._reader or self._writer
        self.encoding, self.errors = either.encoding, either.errors

    @property
    def buffer(self) -> Any:
        return self._buffer

    @property
    def newlines(self) -> Any:  # type: ignore[override]
        return None if self._reader is None else self._reader.newlines

    def readable(self) -> bool:
        return self._reader is not None

    def writable(self) -> bool:
        return self._writer is not None

    def _for_reading(self) -> Any:
        check_open(self, self.readable(), "readable")
        return self._reader

    def read(self, size: int | None = -1) -> Any:
        return self._for_reading().read(size)

    def readline(self, size: int | None = -1) -> Any:
        return self._for_reading().readline(size)

    def write(self, text: str) -> Any:
        check_open(self, self.writable(), "writable")
        return self._writer.write(text)

    def flush(self) -> None:
        check_open(self, True, "writable")
        if self._writer is not None and not self._buffer.closed:
            self._writer.flush()

    def close(self) -> None:
        if self.closed:
            return
        try:
            super().close()
        except BaseException:
            self._buffer.__exit__(*sys.exc_info())
            raise
        self._buffer.close()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self._buffer.__exit__(kind, error, trace)
        self.close()

    def __del__(self) -> None:
        self._buffer.raw.abandoned = True
