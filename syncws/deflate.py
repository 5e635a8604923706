"""permessage-deflate: the parameters, their negotiation, compressing and inflating within limits.

Rank 2: values and two one-way codecs; header grammar is left to `headers`, RSV1 to receiver and sender.
Source: RFC 7692 section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .errors import InvalidData, MessageTooBig
from .frames import BytesLike

try:
    # Faster (the extra `speed`), for some more memory: its tables have one size.
    from zlib_ng import zlib_ng as zlib
except ImportError:
    import zlib  # type: ignore[no-redef, unused-ignore]

NAME: Final = "permessage-deflate"

Parameters = Sequence[tuple[str, str | None]]

_FLAGS: Final = ("server_no_context_takeover", "client_no_context_takeover")
_WINDOWS: Final = ("server_max_window_bits", "client_max_window_bits")
_MAX_WINDOW_BITS: Final = 15
# RFC 7692 section 7.1.2.1: "a decimal integer value without leading zeroes between 8 to 15, inclusive"
_WINDOW_BITS: Final = {str(bits): bits for bits in range(8, _MAX_WINDOW_BITS + 1)}
# What zlib can compress with; it inflates 8 as well.
_MIN_COMPRESSOR_WINDOW_BITS: Final = 9
# A compressor then keeps 38 KiB at `mem_level` 5; zlib's own 15 bits and 8 make it 262 KiB, and slower.
_DEFAULT_COMPRESSOR_WINDOW_BITS: Final = 12
# RFC 7692 section 7.2: the end of a sync flush, which does not travel.
_TAIL: Final = b"\x00\x00\xff\xff"
# Bytes inflated at a time behind a final block, so that a flood of final blocks is not copied once per block.
_STEP_AFTER_FINAL_BLOCK: Final = 256


@dataclass(frozen=True)
class Deflate:
    """What we want of permessage-deflate (RFC 7692 section 7.1).

    `…_no_context_takeover`: True makes that side forget its window after each message. `…_max_window_bits`
    (8-15) bounds the window of that side; None takes whatever the peer takes, and our own compressor then
    uses up to 12 bits. With 8 bits, too few for zlib to compress with, we inflate but send plain.
    `threshold` (bytes): shorter messages are sent plain. `level` (-1 to 9, -1 is zlib's choice) and
    `mem_level` (1-9) are zlib's; with the defaults an idle connection stays below 50 KiB per direction (zlib-ng: 130).
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None
    threshold: int = 1024
    level: int = -1
    mem_level: int = 5

    def __post_init__(self) -> None:
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"expected a bool as {name}, got {getattr(self, name)!r}")
        for name in _WINDOWS:
            if getattr(self, name) is not None:
                self._check_range(name, 8, _MAX_WINDOW_BITS)
        self._check_range("threshold", 0, None)
        self._check_range("level", -1, 9)
        self._check_range("mem_level", 1, 9)

    def _check_range(self, name: str, low: int, high: int | None) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"expected an int as {name}, got {value!r}")
        if value < low or (high is not None and value > high):
            bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
            raise ValueError(f"expected {name} {bounds}, got {value}")


@dataclass(frozen=True)
class Agreement:
    """The parameters both sides agreed on, with our own choices for compressing.

    `compressor_window_bits` bounds the window that our compressor takes of the agreed one.
    """

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int
    threshold: int
    level: int
    mem_level: int
    compressor_window_bits: int = _MAX_WINDOW_BITS

    def compressor(self, server: bool) -> tuple[int, int, int] | None:
        """Window bits, level and memory level of the side we are; None if zlib has no such compressor."""
        agreed = self.server_max_window_bits if server else self.client_max_window_bits
        # RFC 7692 section 7.2.1: no distance beyond the agreed window; a plain message is always allowed.
        if agreed < _MIN_COMPRESSOR_WINDOW_BITS:
            return None
        return min(agreed, self.compressor_window_bits), self.level, self.mem_level

    def deflater(self, server: bool) -> Deflater | None:
        """Make the compressor of the side we are; None if zlib has none, and everything goes plain."""
        chosen = self.compressor(server)
        if chosen is None:
            return None
        window_bits, level, mem_level = chosen
        forgets = self.server_no_context_takeover if server else self.client_no_context_takeover
        return Deflater(window_bits=window_bits, context_takeover=not forgets, level=level, mem_level=mem_level)

    def inflater(self, server: bool) -> Inflater:
        """Make the inflater for what the other side compresses; `server` is the side we are."""
        forgets = self.client_no_context_takeover if server else self.server_no_context_takeover
        return Inflater(
            window_bits=self.client_max_window_bits if server else self.server_max_window_bits,
            context_takeover=not forgets,
        )


class _Parameters(NamedTuple):
    """One offer or answer as the peer wrote it; None = not mentioned."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None


def offer(config: Deflate) -> str:
    """Write the offer of a client."""
    return _format(
        config.server_no_context_takeover,
        config.client_no_context_takeover,
        config.server_max_window_bits,
        # RFC 7692 section 7.1.2.2: a bare one says that we understand the parameter.
        config.client_max_window_bits or True,
    )


def accept(config: Deflate, params: Parameters) -> tuple[Agreement, str] | None:
    """Judge one offer on the server: the agreement and the answer to send, or None to decline."""
    try:
        offered = _read(params, is_offer=True)
    except ValueError:
        return None
    agreement = _agreement(config, offered, config.server_max_window_bits)
    client_bits = agreement.client_max_window_bits
    # RFC 7692 section 7.1.2.2: the answer must not have it if the offer has not, so we cannot insist.
    if offered.client_max_window_bits is None and client_bits < _MAX_WINDOW_BITS:
        return None
    server_bits = agreement.server_max_window_bits
    # RFC 7692 section 7.1.2.1: an offered one is accepted by answering the same or a smaller value.
    names_server_bits = offered.server_max_window_bits is not None or server_bits < _MAX_WINDOW_BITS
    return agreement, _format(
        agreement.server_no_context_takeover,
        agreement.client_no_context_takeover,
        server_bits if names_server_bits else None,
        client_bits if client_bits < _MAX_WINDOW_BITS else None,
    )


def agree(config: Deflate, params: Parameters) -> Agreement:
    """Judge the answer to our `offer` on the client; ValueError for one that must fail the handshake."""
    answer = _read(params, is_offer=False)
    # RFC 7692 section 7.1.1.1: accepted "by including" it in the answer.
    if config.server_no_context_takeover and not answer.server_no_context_takeover:
        raise ValueError("expected server_no_context_takeover, as offered, got none")
    # RFC 7692 section 7.1.2.1: "with the same or smaller value as the offer"
    server_bits = answer.server_max_window_bits or _MAX_WINDOW_BITS
    _check_window("server_max_window_bits", config.server_max_window_bits, server_bits)
    # RFC 7692 section 7.1.2.2: likewise, but the server need not answer it; then our own bound holds.
    _check_window("client_max_window_bits", config.client_max_window_bits, answer.client_max_window_bits)
    return _agreement(config, answer, config.client_max_window_bits)


def _check_window(name: str, offered: int | None, answered: int | None) -> None:
    if offered is not None and answered is not None and answered > offered:
        raise ValueError(f"expected {name} of at most {offered}, as offered, got {answered}")


def _agreement(config: Deflate, peer: _Parameters, compressor_window_bits: int | None) -> Agreement:
    """Combine both sides' wishes: either may forbid takeover, the smaller window holds."""

    def smaller(ours: int | None, theirs: int | None) -> int:
        return min(ours or _MAX_WINDOW_BITS, theirs or _MAX_WINDOW_BITS)

    return Agreement(
        server_no_context_takeover=config.server_no_context_takeover or peer.server_no_context_takeover,
        client_no_context_takeover=config.client_no_context_takeover or peer.client_no_context_takeover,
        server_max_window_bits=smaller(config.server_max_window_bits, peer.server_max_window_bits),
        client_max_window_bits=smaller(config.client_max_window_bits, peer.client_max_window_bits),
        threshold=config.threshold,
        level=config.level,
        mem_level=config.mem_level,
        compressor_window_bits=compressor_window_bits or _DEFAULT_COMPRESSOR_WINDOW_BITS,
    )


def _format(*values: int | None) -> str:
    """Write the header value; True is a parameter without a value, None and False leave it out."""
    params = zip(_FLAGS + _WINDOWS, values, strict=True)
    written = [name if value is True else f"{name}={value}" for name, value in params if value]
    return "; ".join([NAME, *written])


def _read(params: Parameters, *, is_offer: bool) -> _Parameters:
    """Check one list of parameters; ValueError for an unknown or repeated one or a bad value."""
    found: dict[str, Any] = {}
    for name, value in params:
        if name not in _FLAGS and name not in _WINDOWS:
            raise ValueError(f"expected a parameter of {NAME}, got {name!r:.40}")
        # RFC 7692 section 7.1: each parameter at most once.
        if name in found:
            raise ValueError(f"expected {name} once, got it again")
        found[name] = _read_flag(name, value) if name in _FLAGS else _read_window(name, value, is_offer)
    return _Parameters(**found)


def _read_flag(name: str, value: str | None) -> bool:
    # RFC 7692 section 7.1.1: these parameters have no value.
    if value is not None:
        raise ValueError(f"expected no value of {name}, got {value!r:.40}")
    return True


def _read_window(name: str, value: str | None, is_offer: bool) -> int:
    # RFC 7692 section 7.1.2.2: the client's may go without a value, in an offer only.
    if value is None and is_offer and name == "client_max_window_bits":
        return _MAX_WINDOW_BITS
    if value not in _WINDOW_BITS:
        raise ValueError(f"expected {name} from 8 to 15, got {value!r:.40}")
    return _WINDOW_BITS[value]


class Deflater:
    """Compresses the messages of one direction, one after the other (RFC 7692 section 7.2.1).

    Memory is taken at the first message, and given back after each one without context takeover.
    """

    __slots__ = ("_arguments", "_context_takeover", "_stream")

    def __init__(self, *, window_bits: int, context_takeover: bool, level: int, mem_level: int) -> None:
        # Negative bits: DEFLATE without zlib's header.
        self._arguments = (level, zlib.DEFLATED, -window_bits, mem_level)
        self._context_takeover = context_takeover
        self._stream: Any = None

    def compress(self, data: BytesLike, final: bool) -> bytes:
        """Compress the next piece of a message, whole and flushed; `final` ends the message."""
        stream = self._stream or zlib.compressobj(*self._arguments)
        output: bytes = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
        self._stream = stream if self._context_takeover or not final else None
        return output[: -len(_TAIL)] if final else output

    def forget(self) -> None:
        """Compress the next message without reference to those before; not between the pieces of one."""
        self._stream = None


class Inflater:
    """Inflates the messages of one direction, one after the other (RFC 7692 section 7.2.2).

    After an exception it must not be used again. Memory is taken and given back as by `Deflater`.
    """

    __slots__ = ("_context_takeover", "_stream", "_window_bits")

    def __init__(self, *, window_bits: int, context_takeover: bool) -> None:
        self._window_bits = window_bits
        self._context_takeover = context_takeover
        self._stream: Any = None

    def inflate(self, chunk: BytesLike, final: bool, limit: int) -> bytes:
        """Inflate the next bytes of a message, cut anywhere; `final` says that they are its last.

        `limit` (bytes, -1 = none) is what this call may give: MessageTooBig past it. InvalidData if corrupt.
        """
        data = b"".join((chunk, _TAIL)) if final else chunk
        size = step = len(data)
        position = 0
        output = []
        while position < size:
            # Behind a final block that ends the payload the tail is not wanted.
            if self._stream is None and final and size - position == len(_TAIL):
                break
            part = data[position : position + step]
            piece, position = self._inflate_part(part, position, limit)
            output.append(piece)
            if limit > 0:
                limit -= len(piece)
            # RFC 7692 section 7.2.3.4: a block may have BFINAL set; what follows is a stream of its own.
            if self._stream is None:
                step = _STEP_AFTER_FINAL_BLOCK
        if final and not self._context_takeover:
            self._stream = None
        return output[0] if len(output) == 1 else b"".join(output)

    def _inflate_part(self, part: BytesLike, position: int, limit: int) -> tuple[bytes, int]:
        """Inflate up to the end of `part` or of a final block; also returns the position reached."""
        stream = self._stream or zlib.decompressobj(-self._window_bits)
        try:
            # One byte more than allowed tells an excess from a message of just that size; 0 is no limit.
            piece = stream.decompress(part, limit + 1)
        except zlib.error as error:  # type: ignore[misc, unused-ignore]
            raise InvalidData(f"expected DEFLATE blocks, got {error}") from None
        if 0 <= limit < len(piece):
            raise MessageTooBig("expected an inflated message within the size limit, got more")
        self._stream = None if stream.eof else stream
        return piece, position + len(part) - len(stream.unused_data)
