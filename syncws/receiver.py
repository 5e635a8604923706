"""Bytes in, messages and control frames out: one direction of a connection, judged frame by frame.

Rank 3: a pure state machine over `frames` and `deflate`; the caller owns the bytes and answers the peer.
Source: RFC 6455 sections 5 to 8, RFC 7692 section 6.
"""

from __future__ import annotations

from codecs import utf_8_decode
from io import BytesIO
from typing import Any, Final, NamedTuple

from .deflate import Inflater
from .errors import InvalidData, MessageTooBig, PolicyError, ProtocolError
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
    decode,
    decode_close,
    mask,
    read_header,
)
from .opcodes import FIN, LENGTH, MASKED, OPCODE, RSV1, RSV23

# Kinds of items beside the opcodes.
FRAGMENT: Final = 16
FAILURE: Final = 17

# (kind, data, compressed); data by kind:
#   TEXT, BINARY   str, bytes: a whole message in one frame
#   FRAGMENT       Fragment: one frame of a message in several
#   PING, PONG     bytes
#   CLOSE          (code, reason), the last item ever
#   FAILURE        ProtocolError, the last item ever
Item = tuple[int, Any, bool]

_DATA_OPCODES = (CONTINUE, TEXT, BINARY)
_CONTROL_OPCODES = (CLOSE, PING, PONG)
# The header of a control frame, with its key, and its payload; a data frame's header (14 bytes) is shorter.
_HEAD_SIZE = 2 + 4 + MAX_CONTROL_PAYLOAD
# What a header announces is room in reserve for a payload that comes; no more (bytes) is believed of any.
_MAX_HINT = 1 << 30
# Nor is it believed at once, but up to the size of what came before, and so many bytes.
_MAX_TRUST = 1 << 22
# An object of its own costs a short piece of text twenty times its bytes.
_MAX_LOOSE_PIECES = 64


class Fragment(NamedTuple):
    """One frame of a fragmented message; a piece of text ends with a whole character."""

    opcode: int
    piece: str | bytes
    first: bool
    last: bool


class Text:
    """`BytesIO` for text: memory and time stay within a small multiple of what was written, in any pieces."""

    __slots__ = ("_blocks", "_loose")

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._loose: list[str] = []

    def write(self, piece: str) -> None:
        self._loose.append(piece)
        if len(self._loose) == _MAX_LOOSE_PIECES:
            self._blocks.append("".join(self._loose))
            self._loose.clear()

    def getvalue(self) -> str:
        return "".join(self._blocks + self._loose)


class Receiver:
    """Turns the bytes of one direction into items.

    `masked`: frames must be masked, for we are the server. `max_payload` (bytes of one message, before and
    after inflating) and `max_fragments` (frames of one message): 0 = no limit.
    """

    __slots__ = (
        "_collected",
        "_cut",
        "_delivered",
        "_ended",
        "_errors",
        "_fin",
        "_frames",
        "_inflater",
        "_inflating",
        "_kept",
        "_key",
        "_masked",
        "_max_fragments",
        "_max_payload",
        "_offset",
        "_opcode",
        "_received",
        "_remaining",
        "_trusted",
        "only_messages",
    )

    def __init__(
        self,
        *,
        masked: bool,
        inflater: Inflater | None = None,
        max_payload: int = 64 * 1024 * 1024,
        max_fragments: int = 131072,
        skip_utf8_validation: bool = False,
    ) -> None:
        self._masked = masked
        self._inflater = inflater
        self._max_payload = max_payload
        self._max_fragments = max_fragments
        self._errors = "replace" if skip_utf8_validation else "strict"
        #: whether the last `feed` gave nothing but whole messages (TEXT, BINARY), if anything
        self.only_messages = False
        # After a Close or a failure nothing is read.
        self._ended = False
        # The beginning of a header or of a control frame.
        self._kept = b""
        # The message: its opcode (0 between messages), inflater if compressed, number of frames so far, bytes
        # announced by their headers and bytes delivered, and the bytes of a code point that is not complete.
        self._opcode = 0
        self._inflating: Inflater | None = None
        self._frames = 0
        self._received = 0
        self._delivered = 0
        self._cut = b""
        # Its present frame: payload bytes still to come, and what came of it so far unless it came at once.
        self._fin = False
        self._key = b""
        self._offset = 0
        self._remaining = 0
        self._collected: Any = None
        self._trusted = 0

    @property
    def wanted(self) -> int:
        """Payload bytes still missing of the data frame being read, 0 between frames."""
        return self._remaining

    @property
    def gathering(self) -> Receiver | None:
        """Itself if what comes next is the rest of a payload that goes to its place as it is: `room` says where."""
        return self if self._remaining > 0 and self._opcode == BINARY and self._inflating is None else None

    def room(self) -> memoryview:
        """Where the payload goes on, when `gathering`; to be released before `fill`, and before anything else."""
        # Not kept in a variable: an interrupt would keep that alive.
        hint = min(self._offset + self._remaining, _MAX_HINT)
        return self._collected.room(hint)[: self._remaining]  # type: ignore[no-any-return]

    def fill(self, count: int, /) -> list[Item]:
        """Eat `count` bytes that were put into the room; otherwise as `feed`."""
        items: list[Item] = []
        self.only_messages = True
        self._collected.fill(count, self._key, self._offset)
        self._note_gathered(items, count)
        return items

    @property
    def between(self) -> bool:
        """Whether what comes next begins a message, or stands between two."""
        return not (self._opcode or self._kept or self._ended)

    def feed(
        self,
        buffer: bytes | bytearray,
        end: int | None = None,
        items: list[Any] | None = None,
        position: int = 0,
    ) -> list[Item]:
        """Eat `buffer[:end]`, keeping no reference to it, and return what it completes, in order.

        `items` is what `decode` has made of `buffer[:position]` already.
        """
        if end is None:
            end = len(buffer)
        collected: list[Item] = [] if items is None else items
        if items is None and not (self._opcode or self._kept or self._ended):
            # Most of what comes is whole messages.
            collected, position = decode(buffer, 0, end, self._masked, self._max_payload)
        self.only_messages = True
        try:
            while position < end and not self._ended:
                if self._remaining:
                    position = self._read_payload(collected, buffer, position, end)
                    continue
                position = self._read_head(collected, buffer, position, end)
                if position < end and not (self._opcode or self._kept or self._ended):
                    messages, position = decode(buffer, position, end, self._masked, self._max_payload)
                    collected += messages
        except ProtocolError as error:
            self._end()
            # Their frames hold views of `buffer`, which its owner may want to resize.
            error.__traceback__ = error.__context__ = None
            collected.append((FAILURE, error, False))
            self.only_messages = False
        return collected

    def _end(self) -> None:
        self._ended = True
        self._inflater = self._inflating = self._collected = None
        self._kept = self._cut = b""
        self._remaining = 0

    # Headers and control frames

    def _read_head(self, items: list[Item], buffer: bytes | bytearray, position: int, end: int) -> int:
        """Read a header and what there is of its payload, but a control frame only as a whole."""
        start = position - len(self._kept)
        stop = min(end, start + _HEAD_SIZE)
        head = self._kept + buffer[position:stop]
        self._check_first_byte(head[0])
        if len(head) > 1:
            self._check_second_byte(head[0], head[1])
        header = read_header(head, 0, len(head))
        if header and header.opcode in _DATA_OPCODES:
            self._kept = b""
            self._begin_frame(header)
            return self._read_payload(items, buffer, start + header.size, end)
        if header and (size := header.size + header.length) <= len(head):
            self._kept = b""
            items.append(self._control(header, head[header.size : size]))
            self.only_messages = False
            return start + size
        self._kept = head
        return stop

    def _check_first_byte(self, first: int) -> None:
        opcode = first & OPCODE
        # RFC 6455 section 5.2: "MUST be 0 unless an extension is negotiated"
        if first & RSV23:
            raise ProtocolError(f"expected RSV2 and RSV3 to be 0, got first byte 0x{first:02x}")
        # RFC 7692 section 6: the mark of a compressed message, on its first frame only.
        if first & RSV1 and (self._inflater is None or opcode not in (TEXT, BINARY)):
            raise ProtocolError(f"expected RSV1 to be 0, got first byte 0x{first:02x}")
        if opcode in _CONTROL_OPCODES:
            # RFC 6455 section 5.5: "All control frames [...] MUST NOT be fragmented."
            if not first & FIN:
                raise ProtocolError(f"expected FIN on a control frame, got first byte 0x{first:02x}")
        # RFC 6455 section 5.2: the other opcodes are reserved.
        elif opcode not in _DATA_OPCODES:
            raise ProtocolError(f"expected an opcode of 0-2 or 8-10, got {opcode}")
        # RFC 6455 section 5.4: messages are not interleaved; the first frame of each, only, has its opcode.
        elif opcode == CONTINUE and not self._opcode:
            raise ProtocolError("expected a new message, got a continuation")
        elif opcode != CONTINUE and self._opcode:
            raise ProtocolError(f"expected a continuation, got opcode {opcode}")

    def _check_second_byte(self, first: int, second: int) -> None:
        # RFC 6455 section 5.5: "All control frames MUST have a payload length of 125 bytes or less"
        if first & OPCODE in _CONTROL_OPCODES and second & LENGTH > MAX_CONTROL_PAYLOAD:
            raise ProtocolError("expected at most 125 bytes in a control frame, got a longer one")
        # RFC 6455 section 5.1: a client masks all frames, a server none; whoever sees other must close.
        if bool(second & MASKED) != self._masked:
            expected, got = ("a masked", "a plain") if self._masked else ("a plain", "a masked")
            raise ProtocolError(f"expected {expected} frame, got {got} one")

    def _control(self, header: Header, payload: bytes) -> Item:
        if header.masked:
            payload = mask(payload, header.key)
        if header.opcode != CLOSE:
            return header.opcode, payload, False
        close = decode_close(payload, self._errors)
        # RFC 6455 section 5.5.1: no data follows a Close; section 1.4: what does is discarded.
        self._end()
        return CLOSE, close, False

    # Data frames

    def _begin_frame(self, header: Header) -> None:
        if header.opcode != CONTINUE:
            self._opcode = header.opcode
            self._inflating = self._inflater if header.rsv1 else None
            self._frames = self._received = self._delivered = 0
        self._frames += 1
        self._received += header.length
        # RFC 6455 section 10.4: limits for a frame and for the message it belongs to.
        limit = self._max_payload
        if limit and self._received > limit:
            raise MessageTooBig(f"expected a message of at most {limit} bytes, got {self._received}")
        if self._max_fragments and self._frames > self._max_fragments:
            raise PolicyError(f"expected a message of at most {self._max_fragments} frames, got more")
        self._fin = header.fin
        self._key = header.key
        self._offset = 0
        self._remaining = header.length

    def _read_payload(self, items: list[Item], buffer: bytes | bytearray, position: int, end: int) -> int:
        """Unmask, inflate and decode what came of the payload; once it is complete it is an item."""
        stop = min(end, position + self._remaining)
        if self._opcode == BINARY and self._inflating is None and (self._collected is not None or stop == end):
            self._gather(items, buffer, position, stop)
            return stop
        piece: BytesLike = memoryview(buffer)[position:stop]
        if self._key:
            piece = mask(piece, self._key, self._offset)
            self._offset += stop - position
        self._remaining -= stop - position
        final = self._fin and not self._remaining
        if self._inflating:
            piece = self._inflate(self._inflating, piece, final)
        data = self._decode_text(piece, final) if self._opcode == TEXT else piece
        if self._remaining:
            self._collect(data)
        else:
            items.append(self._finish_frame(data))
        return stop

    def _gather(self, items: list[Item], buffer: bytes | bytearray, position: int, stop: int) -> None:
        """`_read_payload` for bytes that come as they are: unmasked into their place, and copied no further."""
        size = stop - position
        if self._collected is None:
            self._collected = Gatherer(self._trusted)
        length = min(self._offset + self._remaining, _MAX_HINT)
        self._collected.add(buffer, position, stop, self._key, self._offset, length)
        self._note_gathered(items, size)

    def _note_gathered(self, items: list[Item], count: int) -> None:
        self._offset += count
        self._remaining -= count
        if not self._remaining:
            gathered, self._collected = self._collected.take(), None
            self._trusted = min(len(gathered), _MAX_TRUST)
            items.append(self._finish_frame(gathered))

    def _inflate(self, inflater: Inflater, piece: BytesLike, final: bool) -> bytes:
        limit = self._max_payload - self._delivered if self._max_payload else -1
        output = inflater.inflate(piece, final, limit)
        self._delivered += len(output)
        return output

    def _decode_text(self, data: BytesLike, final: bool) -> str:
        """Decode text as it comes (RFC 6455 section 8.1), holding back a code point that is cut."""
        if self._cut:
            data = self._cut + data
        try:
            text, used = utf_8_decode(data, self._errors, final)
        except UnicodeDecodeError as error:
            raise InvalidData(f"expected text in UTF-8, got an {error.reason}") from None
        self._cut = cut = bytes(data[used:])
        # RFC 3629 section 3: no surrogates. Two bytes prove one, but Python waits for the third.
        if b"\xed\xa0" <= cut <= b"\xed\xbf" and self._errors == "strict":
            raise InvalidData("expected text in UTF-8, got a surrogate")
        return text

    def _collect(self, data: str | BytesLike) -> None:
        # Never sized by the header: memory follows the bytes that came.
        if self._collected is None:
            self._collected = Text() if self._opcode == TEXT else BytesIO()
        self._collected.write(data)

    def _finish_frame(self, data: str | BytesLike) -> Item:
        if self._collected is None:
            piece = data if isinstance(data, str) else bytes(data)
        else:
            self._collected.write(data)
            piece = self._collected.getvalue()
            self._collected = None
        opcode, first = self._opcode, self._frames == 1
        compressed = self._inflating is not None
        if self._fin:
            self._opcode = 0
            if first:
                return opcode, piece, compressed
        self.only_messages = False
        return FRAGMENT, Fragment(opcode, piece, first, self._fin), compressed
