"""Tables of what breaks RFC 6455 and RFC 7692 after the handshake: bytes, the Close code they get, the exception."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from peer import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT
from peer import frame as plain_frame

from syncws.errors import InvalidData, MessageTooBig, PolicyError, ProtocolError

MAX_PAYLOAD = 1000
MAX_FRAGMENTS = 8
CANARY = b"CaNaRy"  # in payloads; must not turn up in a log
OPTIONS = {"max_payload": MAX_PAYLOAD, "max_fragments": MAX_FRAGMENTS, "compression": True, "close_timeout": 5}


class Case(NamedTuple):
    code: int
    kind: type[ProtocolError]
    frames: list[tuple[int, bytes, dict[str, object]]]  # opcode, payload, how
    raw: bytes = b""  # follows them as it is
    wrong_mask: bool = False


def deflated(data: bytes, whole: bool = True) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    out = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return out[:-4] if whole else out


def broken(*frames: tuple[int, bytes, dict[str, object]], **more: object) -> Case:
    return Case(1002, ProtocolError, list(frames), **more)  # type: ignore[arg-type]


def bad_data(*frames: tuple[int, bytes, dict[str, object]]) -> Case:
    return Case(1007, InvalidData, list(frames))


def too_big(*frames: tuple[int, bytes, dict[str, object]]) -> Case:
    return Case(1009, MessageTooBig, list(frames))


START: tuple[int, bytes, dict[str, object]] = (TEXT, b"start", {"fin": False})
PACKED: dict[str, object] = {"rsv": 4}

CASES: dict[str, Case] = {
    "RSV2": broken((TEXT, CANARY, {"rsv": 2})),
    "RSV3": broken((TEXT, CANARY, {"rsv": 1})),
    "all RSV": broken((TEXT, CANARY, {"rsv": 7})),
    "RSV1 on a continuation": broken(START, (CONTINUE, CANARY, PACKED)),
    "RSV1 on a ping": broken((PING, CANARY, PACKED)),
    "RSV1 on a pong": broken((PONG, CANARY, PACKED)),
    "RSV1 on a Close": broken((CLOSE, b"\x03\xe8", PACKED)),
    **{f"opcode {opcode}": broken((opcode, CANARY, {})) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a continuation of nothing": broken((CONTINUE, CANARY, {})),
    "a continuation after the end": broken((TEXT, b"a", {"fin": False}), (CONTINUE, b"b", {}), (CONTINUE, b"c", {})),
    "text within a message": broken(START, (TEXT, CANARY, {})),
    "binary within a message": broken(START, (BINARY, CANARY, {"fin": False})),
    "a ping in fragments": broken((PING, CANARY, {"fin": False})),
    "a pong in fragments": broken((PONG, b"", {"fin": False})),
    "a Close in fragments": broken((CLOSE, b"\x03\xe8", {"fin": False})),
    "a ping of 126 bytes": broken((PING, b"x" * 126, {})),
    "a pong of 65536 bytes": broken((PONG, b"x" * 65536, {})),
    "a Close of 126 bytes": broken((CLOSE, b"\x03\xe8" + b"x" * 124, {})),
    "a Close of one byte": broken((CLOSE, b"\x03", {})),
    **{
        f"a Close with {code}": broken((CLOSE, struct.pack("!H", code) + CANARY, {}))
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "the wrong mask bit": broken((TEXT, CANARY, {}), wrong_mask=True),
    "the wrong mask bit on a ping": broken((PING, CANARY, {}), wrong_mask=True),
    "the wrong mask bit on an empty Close": broken((CLOSE, b"", {}), wrong_mask=True),
    "text with a lone continuation byte": bad_data((TEXT, b"a\x80", {})),
    "text that overlong encodes": bad_data((TEXT, b"\xc0\xaf", {})),
    "text with a surrogate": bad_data((TEXT, b"\xed\xa0\x80", {})),
    "text beyond U+10FFFF": bad_data((TEXT, b"\xf4\x90\x80\x80", {})),
    "text that ends in a character": bad_data((TEXT, b"\xe2\x82", {})),
    "text in fragments that ends in a character": bad_data((TEXT, b"\xe2", {"fin": False}), (CONTINUE, b"\x82", {})),
    "text in fragments, bad in the first": bad_data((TEXT, b"\xff" + CANARY, {"fin": False})),
    "text in fragments, bad across": bad_data((TEXT, b"\xe2\x82", {"fin": False}), (CONTINUE, b"a", {"fin": False})),
    "text, bad before the frame is complete": bad_data((TEXT, b"\xff" + CANARY, {"length": 500})),
    "compressed text that is none": bad_data((TEXT, deflated(b"\xff\xfe" + CANARY), PACKED)),
    "a reason that is no text": bad_data((CLOSE, b"\x03\xe8\xff" + CANARY, {})),
    "a reason that ends in a character": bad_data((CLOSE, b"\x03\xe8\xe2\x82", {})),
    "corrupt deflate data": bad_data((BINARY, b"\xff" * 20, PACKED)),
    "corrupt deflate data in fragments": bad_data((BINARY, b"\x07", {"rsv": 4, "fin": False}), (CONTINUE, b"\xff", {})),
    "one byte more than allowed": too_big((BINARY, b"x" * (MAX_PAYLOAD + 1), {})),
    "a header of too much": too_big((BINARY, b"", {"length": MAX_PAYLOAD + 1})),
    "a header of much too much": too_big((TEXT, b"", {"length": (1 << 63) - 1})),
    "a header of 2 GiB": too_big((BINARY, b"", {"length": 1 << 31})),
    "a header of 2 GiB less one": too_big((BINARY, b"", {"length": (1 << 31) - 1})),
    "a header of 4 GiB": too_big((BINARY, b"", {"length": 1 << 32})),
    "a length with its top bit set": broken((BINARY, b"", {"length": 1 << 63})),
    "a length of all ones": broken((BINARY, b"", {"length": (1 << 64) - 1})),
    "fragments that add up": too_big((BINARY, b"x" * 600, {"fin": False}), (CONTINUE, b"x" * 401, {})),
    "a continuation of too much": too_big(START, (CONTINUE, b"", {"length": (1 << 63) - 1, "fin": False})),
    "a zip bomb": too_big((BINARY, deflated(bytes(200_000)), PACKED)),
    "a zip bomb of text": too_big((TEXT, deflated(b"a" * 200_000), PACKED)),
    "a zip bomb by one byte": too_big((BINARY, deflated(bytes(MAX_PAYLOAD + 1)), PACKED)),
    "a zip bomb in fragments": too_big(
        (BINARY, deflated(bytes(800), False), {"rsv": 4, "fin": False}), (CONTINUE, deflated(bytes(800)), {})
    ),
    "too many fragments": Case(1008, PolicyError, [START] + [(CONTINUE, b"", {"fin": False})] * MAX_FRAGMENTS),
}
# 126 and 127 announce longer forms of the length, which must be needed (RFC 6455 section 5.2).
for _name, _length in {
    "5 in 16 bits": b"\x7e\0\5",
    "0 in 16 bits": b"\x7e\0\0",
    "5 in 64 bits": b"\x7f" + bytes(7) + b"\5",
    "65535 in 64 bits": b"\x7f" + bytes(6) + b"\xff\xff",
}.items():
    CASES[f"a length of {_name}"] = broken(raw=b"\x82" + _length)


def wire(case: Case, masked: bool) -> bytes:
    """The bytes of a case as a client (masked) or a server sends them."""
    if case.wrong_mask:
        masked = not masked
    key = b"\x11\x22\x33\x44" if masked else None
    data = b"".join(
        plain_frame(opcode, payload, mask=key, **how)  # type: ignore[arg-type]
        for opcode, payload, how in case.frames
    )
    if not case.raw:
        return data
    second = case.raw[1] | (0x80 if masked else 0)
    return data + case.raw[:1] + bytes([second]) + case.raw[2:] + (key or b"") + b"hello"
