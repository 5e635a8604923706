"""`Message`: one message as a value, written to and read from any binary stream, without a connection.

Rank 3: on the frames, the sender and the inflater that connections use, too; the stream is the caller's.
Source: RFC 6455 section 5, RFC 7692 section 7.2.
"""

from __future__ import annotations

import io
import json
from typing import IO, Any, Final

from .deflate import Deflater, Inflater
from .errors import BrokenStream, EndOfStream, InvalidData, MessageTooBig, PolicyError
from .frames import (
    BINARY,
    CLOSE,
    CONTINUE,
    MAX_CONTROL_PAYLOAD,
    PING,
    PONG,
    TEXT,
    BytesLike,
    Gatherer,
    Header,
    read_header,
)
from .opcodes import KEY_SIZE, LENGTH, LENGTH_16, LENGTH_64, MASKED
from .options import Options, check_count, check_limit
from .sender import Sender

_NAMES = {CONTINUE: "CONTINUE", TEXT: "TEXT", BINARY: "BINARY", CLOSE: "CLOSE", PING: "PING", PONG: "PONG"}
_DATA = (TEXT, BINARY)
_WINDOW_BITS: Final = 15
# Bytes of the second length field, by the first; RFC 6455 section 5.2.
_EXTENDED = {LENGTH_16: 2, LENGTH_64: 8}
# Bytes asked of a stream at a time: memory follows what came, not what a header announces.
_STEP: Final = 1 << 16
_NOTHING: Any = object()


class Message:
    """One WebSocket message: its `type`, its `body`, and how it travels.

    `type` is TEXT, BINARY or another opcode of 0-15; `masked` says whether `send_to` masks it, as a client must;
    `compress` whether it compresses it, by itself (TEXT and BINARY only). After `read_from` they are what came.
    `max_payload` (bytes, before and after inflating; 0 = no limit) is for `read_from`. Not for two threads at once.
    """

    def __init__(
        self, type: int = BINARY, *, masked: bool = True, compress: bool = False, max_payload: int = Options.max_payload
    ) -> None:
        self.type = type
        self.masked = bool(masked)
        self.compress = bool(compress) and type in _DATA
        self.max_payload = check_limit("max_payload", max_payload)
        #: what the last `read_from` was given; None before
        self.stream: Any = None
        self._body: Any = io.BytesIO()

    @property
    def type(self) -> int:
        """The opcode: TEXT, BINARY, …"""
        return self._type

    @type.setter
    def type(self, value: int) -> None:
        if check_count("type", value) > 15:
            raise ValueError(f"type must be an opcode of 0-15, not {value!r}")
        self._type = value

    # -- the body ----------------------------------------------------------------------------------------------

    @property
    def body(self) -> IO[bytes]:
        """The payload as a stream that can be read, written and sought; another such stream may be put in its place."""
        return self._body  # type: ignore[no-any-return]

    @body.setter
    def body(self, stream: IO[bytes]) -> None:
        if not all(hasattr(stream, name) for name in ("read", "write", "seek", "tell")):
            raise TypeError(f"body must be a seekable binary stream, not {stream.__class__.__name__}")
        self._body = stream

    def read(self, n: int = -1) -> bytes:
        """Read up to `n` bytes of the body, or all that is left, from where it stands."""
        return self._body.read(n)  # type: ignore[no-any-return]

    def write(self, data: BytesLike) -> int:
        """Write to the body, where it stands; how many bytes."""
        return self._body.write(data)  # type: ignore[no-any-return]

    @property
    def length(self) -> int:
        """Bytes of the body."""
        if isinstance(self._body, io.BytesIO):
            return self._body.getbuffer().nbytes
        place = self._body.tell()
        size: int = self._body.seek(0, io.SEEK_END)
        self._body.seek(place)
        return size

    @property
    def data(self) -> str | bytes:
        """All of the body, rewound and read: str for TEXT, else bytes. InvalidData if text is not UTF-8."""
        self._body.seek(0)
        data: bytes = self._body.read()
        if self.type != TEXT:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise InvalidData(f"expected text in UTF-8, got an {error.reason} at {error.start}") from None

    def json(self, value: Any = _NOTHING) -> Any:
        """What the body says in JSON; with `value`: replace the body by that. ValueError for what is no JSON."""
        if value is _NOTHING:
            return json.loads(self._payload())
        # As JSON has neither NaN nor Infinity.
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._body = io.BytesIO(text.encode())
        return None

    def _payload(self) -> bytes:
        """All of the body, which is left where it stands."""
        if isinstance(self._body, io.BytesIO):
            return self._body.getvalue()
        place = self._body.tell()
        self._body.seek(0)
        payload: bytes = self._body.read()
        self._body.seek(place)
        return payload

    # -- the wire ----------------------------------------------------------------------------------------------

    def send_to(self, stream: Any) -> None:
        """Write the message to a binary stream, as one frame, and flush it; the body is left where it stands.

        Any `write` does, also one that takes a part at a time. ValueError for a control frame of more than 125 bytes,
        before anything is written; BlockingIOError if a stream that does not block took a part only.
        """
        _check_stream(stream, "write")
        payload = self._payload()
        if self.type >= CLOSE and len(payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"a control frame carries at most {MAX_CONTROL_PAYLOAD} bytes, not {len(payload)}")
        deflater = None
        if self.compress and self.type in _DATA:
            deflater = Deflater(window_bits=_WINDOW_BITS, context_takeover=False, level=-1, mem_level=8)
        sender = Sender(masked=self.masked, deflater=deflater, threshold=0)
        for buffer in sender.message(self.type, payload, compress=deflater is not None):
            _write_all(stream, buffer)
        flush = getattr(stream, "flush", None)
        if flush is not None:
            flush()

    def read_from(self, stream: Any) -> None:
        """Read the next message from a binary stream, its last byte included and none behind it.

        Any type, masked or not, in one frame or in fragments, compressed by itself; nothing may stand between its
        fragments. Text is not checked before `data` is asked for. An exception leaves the message as it was:
        EndOfStream (also an EOFError) where none begins any more, BrokenStream (also a ConnectionError) for an end in
        the middle, InvalidData, MessageTooBig, ProtocolError.
        """
        _check_stream(stream, "read")
        self.stream = stream
        first, payload, compressed = self._read_frames(stream)
        if compressed:
            inflater = Inflater(window_bits=_WINDOW_BITS, context_takeover=False)
            payload = inflater.inflate(payload, True, self.max_payload or -1)
        self.type, self.masked, self.compress = first.opcode, first.masked, compressed
        self._body = io.BytesIO(payload)

    def _read_frames(self, stream: Any) -> tuple[Header, bytes, bool]:
        """The first header, the payload as it came, and whether it is compressed."""
        gathered = Gatherer()
        compressed = False
        first: Header | None = None
        for _ in range(Options.max_fragments):
            header = _read_head(stream, first)
            first = first or header
            compressed = compressed or header.rsv1
            self._read_payload(stream, header, gathered)
            if header.fin:
                return first, gathered.take(), compressed
        raise PolicyError(f"expected a message of at most {Options.max_fragments} frames, got more")

    def _read_payload(self, stream: Any, header: Header, gathered: Gatherer) -> None:
        size = len(gathered) + header.length
        # RFC 6455 section 10.4: judged by the header, before anything of it is read.
        if self.max_payload and size > self.max_payload:
            raise MessageTooBig(f"expected a message of at most {self.max_payload} bytes, got {size}")
        offset = 0
        while offset < header.length:
            piece = _read_some(stream, min(header.length - offset, _STEP))
            if not piece:
                raise BrokenStream(1001, f"the stream ended {header.length - offset} bytes before the payload did")
            gathered.add(piece, 0, len(piece), header.key, offset)
            offset += len(piece)

    def __repr__(self) -> str:
        return f"<Message {_NAMES.get(self.type, self.type)}, {self.length} bytes>"


def _read_head(stream: Any, first: Header | None) -> Header:
    """The next header, which fits to the first of its message; that is None for the first itself."""
    head = _read_up_to(stream, 2)
    if not head and first is None:
        raise EndOfStream(1001, "the stream ended where a message would begin", True)
    if len(head) < 2:
        raise BrokenStream(1001, "the stream ended in the middle of a message")
    missing = _EXTENDED.get(head[1] & LENGTH, 0) + (KEY_SIZE if head[1] & MASKED else 0)
    head += _read_up_to(stream, missing)
    header = read_header(head, 0, len(head))
    if header is None:
        raise InvalidData(f"expected a header of {2 + missing} bytes, got the end of the stream after {len(head)}")
    if header.rsv23:
        raise InvalidData(f"expected RSV2 and RSV3 to be 0, got first byte 0x{head[0]:02x}")
    if first is not None and header.opcode != CONTINUE:
        raise InvalidData(f"expected a continuation, got opcode {header.opcode}")
    if first is not None and header.masked != first.masked:
        raise InvalidData("expected all frames of a message masked, or none, got both")
    return header


def _read_up_to(stream: Any, size: int) -> bytes:
    """`size` bytes; fewer at the end of the stream."""
    data = b""
    while len(data) < size:
        piece = _read_some(stream, size - len(data))
        if not piece:
            break
        data += piece
    return data


def _read_some(stream: Any, size: int) -> bytes:
    """What one read gives; b"" at the end of the stream."""
    piece = stream.read(size)
    if piece is None:
        raise BlockingIOError("the stream has nothing to be read just now: expected one that blocks")
    if not isinstance(piece, (bytes, bytearray, memoryview)):
        raise TypeError(f"expected a binary stream, got one that reads {piece.__class__.__name__}")
    if len(piece) > size:
        raise ValueError(f"expected at most {size} bytes from the stream's read(), got {len(piece)}")
    return bytes(piece)


def _write_all(stream: Any, data: BytesLike) -> None:
    rest = memoryview(data)
    while rest:
        count = stream.write(rest)
        if count is None and not isinstance(stream, io.RawIOBase):
            return  # as file-likes do that always take all
        if not count:
            raise BlockingIOError("the stream takes nothing just now: expected one that blocks")
        if not 0 < count <= len(rest):
            raise ValueError(f"expected the stream's write() to take at most {len(rest)} bytes, got {count!r}")
        rest = rest[count:]


def _check_stream(stream: Any, method: str) -> None:
    if not hasattr(stream, method):
        raise TypeError(f"expected a binary stream with {method}(), got {stream.__class__.__name__}")
