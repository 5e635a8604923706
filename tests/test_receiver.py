"""Bytes in, items out: every rule of framing, in every chunking.

Each vector is fed whole, byte by byte, in every two pieces and with a tail behind it, from a buffer that is
overwritten and resized after each call.
"""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncws.deflate import Deflater, Inflater
from syncws.errors import InvalidData, MessageTooBig, PolicyError, ProtocolError
from syncws.frames import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, mask, write_header
from syncws.receiver import FAILURE, FRAGMENT, Fragment, Item, Receiver

KEY = bytes.fromhex("37fa213d")
UNLIMITED = 0


def frame(
    opcode: int, payload: bytes = b"", fin: bool = True, rsv1: bool = False, key: bytes = b""
) -> bytes:
    return write_header(opcode, len(payload), fin, rsv1, key) + (mask(payload, key) if key else payload)


def inflater(context_takeover: bool = True) -> Inflater:
    return Inflater(window_bits=15, context_takeover=context_takeover)


def deflater(context_takeover: bool = True) -> Deflater:
    return Deflater(window_bits=15, context_takeover=context_takeover, level=-1, mem_level=5)


def receive(
    chunks: Iterable[bytes], *, deflate: bool = False, masked: bool = False, **options: Any
) -> list[Item]:
    """Feed the chunks to a new receiver; a failure is shown by its class."""
    receiver = Receiver(masked=masked, inflater=inflater() if deflate else None, **options)
    items: list[Item] = []
    for chunk in chunks:
        buffer = bytearray(chunk) + b"\x88\x00"
        new = receiver.feed(buffer, len(chunk))
        # What the inbox takes as it is, in one step; a beginning of something else does not count.
        assert receiver.only_messages == all(kind in (TEXT, BINARY) for kind, _, _ in new)
        items += new
        buffer[:] = b"\xff" * len(buffer)
        # BufferError if a view of it were left, be it in an exception.
        buffer.clear()
    return [(kind, type(data) if kind == FAILURE else data, compressed) for kind, data, compressed in items]


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def check(data: bytes, expected: list[Item], **options: Any) -> None:
    ended = expected[-1:] and expected[-1][0] in (CLOSE, FAILURE)
    assert receive([data], **options) == expected
    assert receive(bytewise(data), **options) == expected
    for cut in range(len(data) + 1):
        assert receive([data[:cut], data[cut:]], **options) == expected
    tail = frame(PING, b"tail", key=KEY if options.get("masked") else b"")
    after: list[Item] = [] if ended else [(PING, b"tail", False)]
    assert receive([data + tail], **options) == expected + after
    assert receive([data, tail], **options) == expected + after


def fragment(opcode: int, piece: str | bytes, first: bool, last: bool, compressed: bool = False) -> Item:
    return FRAGMENT, Fragment(opcode, piece, first, last), compressed


def failure(kind: type[ProtocolError]) -> Item:
    return FAILURE, kind, False


HELLO: Item = (TEXT, "Hello", False)

VALID = {
    # RFC 6455 section 5.7
    "unmasked text": ("810548656c6c6f", [HELLO]),
    "fragmented text": (
        "010348656c 80026c6f",
        [fragment(TEXT, "Hel", True, False), fragment(TEXT, "lo", False, True)],
    ),
    "ping and pong": ("890548656c6c6f 8a0548656c6c6f", [(PING, b"Hello", False), (PONG, b"Hello", False)]),
    "empty text": ("8100", [(TEXT, "", False)]),
    "empty binary": ("8200", [(BINARY, b"", False)]),
    "empty ping": ("8900", [(PING, b"", False)]),
    "binary that is no text": ("8201ff", [(BINARY, b"\xff", False)]),
    "text of all lengths of character": ("810a 24 c2a2 e282ac f0908d88", [(TEXT, "$¢€\U00010348", False)]),
    "last code point": ("8104 f48fbfbf", [(TEXT, "\U0010ffff", False)]),
    "around the surrogates": ("8106 ed9fbf ee8080", [(TEXT, "\ud7ff\ue000", False)]),
    "split code point goes to the next piece": (
        "0102 24e2 0001 82 8001 ac",
        [
            fragment(TEXT, "$", True, False),
            fragment(TEXT, "", False, False),
            fragment(TEXT, "€", False, True),
        ],
    ),
    "split code point of binary is no matter": (
        "0202 24e2 8000",
        [fragment(BINARY, b"$\xe2", True, False), fragment(BINARY, b"", False, True)],
    ),
    "empty fragments": (
        "0100 0000 8000",
        [fragment(TEXT, "", True, False), fragment(TEXT, "", False, False), fragment(TEXT, "", False, True)],
    ),
    "control frames between fragments": (
        "010148 890170 000169 8a00 8000",
        [
            fragment(TEXT, "H", True, False),
            (PING, b"p", False),
            fragment(TEXT, "i", False, False),
            (PONG, b"", False),
            fragment(TEXT, "", False, True),
        ],
    ),
    "message after a fragmented one": (
        "0200 8000 810548656c6c6f",
        [fragment(BINARY, b"", True, False), fragment(BINARY, b"", False, True), HELLO],
    ),
    "close within a fragmented message": (
        "010148 8800",
        [fragment(TEXT, "H", True, False), (CLOSE, (1005, ""), False)],
    ),
    "empty close": ("8800", [(CLOSE, (1005, ""), False)]),
    "close with code": ("880203e8", [(CLOSE, (1000, ""), False)]),
    "close with reason": ("880503e9e282ac", [(CLOSE, (1001, "€"), False)]),
    "close after messages": ("810548656c6c6f 8800", [HELLO, (CLOSE, (1005, ""), False)]),
}


@pytest.mark.parametrize("name", VALID)
def test_valid(name: str) -> None:
    wire, expected = VALID[name]
    check(bytes.fromhex(wire), expected)


@pytest.mark.parametrize("size", [125, 126, 300])
@pytest.mark.parametrize("masked", [False, True])
def test_all_forms_of_length(size: int, masked: bool) -> None:
    key = KEY if masked else b""
    text = ("€" * size)[:size]
    check(frame(TEXT, text.encode(), key=key), [(TEXT, text, False)], masked=masked)
    data = random.Random(size).randbytes(size)
    check(frame(BINARY, data, key=key), [(BINARY, data, False)], masked=masked)


@pytest.mark.parametrize("step", [1 << 20, 4096, 999])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("key", [b"", KEY])
def test_large_frame_in_pieces(opcode: int, key: bytes, step: int) -> None:
    payload = ("aß€😀" * 8000).encode()
    wire = frame(opcode, payload, key=key) * 2
    data = payload.decode() if opcode == TEXT else payload
    chunks = [wire[i : i + step] for i in range(0, len(wire), step)]
    assert receive(chunks, masked=bool(key)) == [(opcode, data, False)] * 2


def test_masked_text() -> None:
    # RFC 6455 section 5.7
    check(bytes.fromhex("818537fa213d7f9f4d5158"), [HELLO], masked=True)


def test_masked_control_frames() -> None:
    payloads = {PING: b"x" * 125, PONG: b"", CLOSE: b"\x03\xe8bye"}
    wire = b"".join(frame(opcode, payload, key=KEY) for opcode, payload in payloads.items())
    expected: list[Item] = [(PING, b"x" * 125, False), (PONG, b"", False), (CLOSE, (1000, "bye"), False)]
    check(wire, expected, masked=True)


def test_data_is_str_and_bytes() -> None:
    whole, first = frame(BINARY, b"abc"), frame(BINARY, b"abc", fin=False)
    for chunks in ([whole], bytewise(whole), [first], bytewise(first)):
        ((_, data, _),) = receive(chunks)
        assert type(data.piece if isinstance(data, Fragment) else data) is bytes


def test_end_defaults_to_the_whole_buffer() -> None:
    assert Receiver(masked=False).feed(bytes.fromhex("810548656c6c6f")) == [HELLO]
    assert Receiver(masked=False).feed(b"") == []


# What breaks the protocol: (name, bytes up to the one that proves it, bytes behind, class, items before)

BROKEN = [
    ("rsv2", "a1", "00", ProtocolError, []),
    ("rsv3", "91", "00", ProtocolError, []),
    ("rsv1 not negotiated", "c1", "00", ProtocolError, []),
    ("rsv1 on a control frame", "c9", "00", ProtocolError, []),
    *((f"opcode {n}", f"{0x80 | n:02x}", "00", ProtocolError, []) for n in (*range(3, 8), *range(11, 16))),
    ("continuation of nothing", "80", "00", ProtocolError, []),
    ("continuation after a message", "8100 80", "00", ProtocolError, [(TEXT, "", False)]),
    ("text within a message", "0100 81", "00", ProtocolError, [fragment(TEXT, "", True, False)]),
    ("binary within a message", "0100 02", "00", ProtocolError, [fragment(TEXT, "", True, False)]),
    ("fragmented ping", "09", "00", ProtocolError, []),
    ("fragmented close", "08", "00", ProtocolError, []),
    ("long ping", "897e", "007e", ProtocolError, []),
    ("long close", "887f", "0000000000000080", ProtocolError, []),
    ("mask from a server", "8180", "00000000", ProtocolError, []),
    ("mask on a control frame of a server", "8980", "00000000", ProtocolError, []),
    ("16 bits for 125", "827e007d", "00", ProtocolError, []),
    ("64 bits for 65535", "827f000000000000ffff", "00", ProtocolError, []),
    ("64th bit of the length", "827f8000000000000000", "00", ProtocolError, []),
    ("declared too big", "827f0000000004000001", "00", MessageTooBig, []),
    ("close with one byte", "880103", "", ProtocolError, []),
    ("close with 1004", "880203ec", "", ProtocolError, []),
    ("close with 1005", "880203ed", "", ProtocolError, []),
    ("close with 1006", "880203ee", "", ProtocolError, []),
    ("close with 5000", "88021388", "", ProtocolError, []),
    ("close reason not UTF-8", "880303e8ff", "", InvalidData, []),
    ("not UTF-8", "8103ff", "4141", InvalidData, []),
    ("overlong", "8103c0", "8041", InvalidData, []),
    ("overlong of three bytes", "8105e080", "804141", InvalidData, []),
    ("surrogate", "8105eda0", "804141", InvalidData, []),
    ("last surrogate", "8105edbf", "804141", InvalidData, []),
    ("past the last code point", "8105f490", "808041", InvalidData, []),
    ("lead without continuation", "8103e241", "41", InvalidData, []),
    ("cut at the end", "810224e2", "", InvalidData, []),
    ("cut at the end of the message", "0102 24e2 8000", "", InvalidData, [fragment(TEXT, "$", True, False)]),
    ("wrong across frames", "0102 24f4 0004 90", "808041", InvalidData, [fragment(TEXT, "$", True, False)]),
    (
        "after good items",
        "810548656c6c6f 8900 83",
        "00",
        ProtocolError,
        [HELLO, (PING, b"", False)],
    ),
]


@pytest.mark.parametrize(
    ("proof", "rest", "kind", "before"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_broken(proof: str, rest: str, kind: type[ProtocolError], before: list[Item]) -> None:
    head, tail = bytes.fromhex(proof), bytes.fromhex(rest)
    expected = [*before, failure(kind)]
    check(head + tail, expected)
    assert receive(bytewise(head)) == expected, "not seen at the byte that proves it"
    assert receive(bytewise(head[:-1])) == before, "seen too early"


@pytest.mark.parametrize("first", ["81", "82", "89", "8a", "88"])
def test_server_refuses_an_unmasked_frame(first: str) -> None:
    check(bytes.fromhex(first + "00"), [failure(ProtocolError)], masked=True)


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        # Each has every later fault too (behaviours: RSV2/3, RSV1, opcode or state, FIN, length, mask).
        ("7fff", "RSV2 and RSV3"),
        ("4fff", "RSV1"),
        ("0fff", "opcode"),
        ("00ff", "new message"),
        ("09ff", "FIN"),
        ("89ff", "125 bytes"),
        ("81ff8000000000000000", "plain frame"),
        ("827e0001", "shortest form"),
    ],
)
def test_order_of_checks(wire: str, text: str) -> None:
    ((_, error, _),) = Receiver(masked=False).feed(bytes.fromhex(wire))
    assert text in str(error)


@pytest.mark.parametrize("wire", ["8800", "8300", "810548656c6c6f 880203e8"])
def test_nothing_is_read_after_the_end(wire: str) -> None:
    receiver = Receiver(masked=False)
    receiver.feed(bytes.fromhex(wire))
    for chunk in (b"", frame(TEXT, b"x"), b"\xff"):
        assert receiver.feed(chunk) == []
    assert receiver.wanted == 0


def test_failure_tells_the_close_code() -> None:
    codes = []
    for wire in ("8300", "8101ff", "827f7fffffffffffffff"):
        ((kind, error, _),) = Receiver(masked=False).feed(bytes.fromhex(wire))
        assert kind == FAILURE
        codes.append(error.close_code)
    assert codes == [1002, 1007, 1009]


# How much of a frame is there


def test_wanted_is_what_the_payload_lacks() -> None:
    receiver = Receiver(masked=True)
    states = []
    for byte in bytewise(frame(BINARY, b"abc", key=KEY) + frame(PING, b"p", key=KEY)):
        receiver.feed(byte)
        states.append((receiver.wanted, not receiver.between))
    header = [(0, True)] * 5
    assert states == [*header, (3, True), (2, True), (1, True), (0, False), *header, (0, True), (0, False)]


# Limits


def test_exactly_max_payload_passes() -> None:
    check(frame(BINARY, b"x" * 5), [(BINARY, b"x" * 5, False)], max_payload=5)
    check(
        frame(TEXT, b"xx", fin=False) + frame(PING, b"long enough") + frame(CONTINUE, b"xxx"),
        [
            fragment(TEXT, "xx", True, False),
            (PING, b"long enough", False),
            fragment(TEXT, "xxx", False, True),
        ],
        max_payload=5,
    )


def test_one_byte_over_max_payload_is_too_big() -> None:
    too_big = failure(MessageTooBig)
    check(frame(BINARY, b"x" * 6), [too_big], max_payload=5)
    check(
        frame(TEXT, b"xx", fin=False) + frame(CONTINUE, b"xxxx"),
        [fragment(TEXT, "xx", True, False), too_big],
        max_payload=5,
    )


def test_max_payload_is_judged_by_the_header() -> None:
    assert receive([write_header(BINARY, 6)], max_payload=5) == [failure(MessageTooBig)]


def test_limits_start_afresh_with_each_message() -> None:
    wire = frame(TEXT, b"xx", fin=False) + frame(CONTINUE, b"xxx")
    pieces = [fragment(TEXT, "xx", True, False), fragment(TEXT, "xxx", False, True)]
    check(wire * 2, pieces * 2, max_payload=5, max_fragments=2)


def test_max_fragments() -> None:
    check(
        frame(TEXT, b"", fin=False) + frame(CONTINUE, b"", fin=False) + frame(PING) + frame(CONTINUE),
        [
            fragment(TEXT, "", True, False),
            fragment(TEXT, "", False, False),
            (PING, b"", False),
            failure(PolicyError),
        ],
        max_fragments=2,
    )


def test_no_limits() -> None:
    receiver = Receiver(masked=False, inflater=inflater(), max_payload=UNLIMITED, max_fragments=UNLIMITED)
    assert len(receiver.feed(frame(BINARY, b"x", fin=False) + frame(CONTINUE))) == 2
    assert receiver.feed(write_header(BINARY, (1 << 63) - 1)) == []
    assert receiver.wanted == (1 << 63) - 1


# UTF-8 left unchecked


def test_invalid_text_is_replaced_without_validation() -> None:
    options: dict[str, Any] = {"skip_utf8_validation": True}
    check(bytes.fromhex("8103 41ff42"), [(TEXT, "A�B", False)], **options)
    check(bytes.fromhex("8102 24e2"), [(TEXT, "$�", False)], **options)
    check(bytes.fromhex("8104 eda08041"), [(TEXT, "\ufffd\ufffd\ufffdA", False)], **options)
    check(
        bytes.fromhex("0102 24e2 8001 ac"),
        [fragment(TEXT, "$", True, False), fragment(TEXT, "�", False, True)],
        **options,
    )
    check(bytes.fromhex("8803 03e8 ff"), [(CLOSE, (1000, "�"), False)], **options)


# Compression


def test_compressed_messages() -> None:
    # RFC 7692 sections 7.2.3.1 and 7.2.3.2
    wire = bytes.fromhex("c107f248cdc9c90700 c105f200110000 810548656c6c6f")
    check(wire, [(TEXT, "Hello", True), (TEXT, "Hello", True), HELLO], deflate=True)


def test_compressed_fragments() -> None:
    # RFC 7692 section 7.2.3.1
    check(
        bytes.fromhex("4103f248cd 890170 8004c9c90700 c205f200110000"),
        [
            fragment(TEXT, "He", True, False, True),
            (PING, b"p", False),
            fragment(TEXT, "llo", False, True, True),
            (BINARY, b"Hello", True),
        ],
        deflate=True,
    )


def test_masked_compressed_message() -> None:
    wire = frame(BINARY, deflater().compress(b"x" * 1000, True), rsv1=True, key=KEY)
    check(wire, [(BINARY, b"x" * 1000, True)], deflate=True, masked=True)


def test_compressed_empty_message() -> None:
    check(bytes.fromhex("c10100 c20100"), [(TEXT, "", True), (BINARY, b"", True)], deflate=True)


def test_plain_message_beside_compressed_fragments() -> None:
    check(
        bytes.fromhex("4103f248cd 8004c9c90700 01014a 800150"),
        [
            fragment(TEXT, "He", True, False, True),
            fragment(TEXT, "llo", False, True, True),
            fragment(TEXT, "J", True, False),
            fragment(TEXT, "P", False, True),
        ],
        deflate=True,
    )


@pytest.mark.parametrize("wire", ["0100 c000", "0100 4000", "4103f248cd c000", "c900", "c800", "c300"])
def test_rsv1_only_where_a_message_begins(wire: str) -> None:
    data = bytes.fromhex(wire)
    items = receive([data], deflate=True)
    assert items[-1] == failure(ProtocolError)
    check(data, items, deflate=True)


@pytest.mark.parametrize("wire", ["c102ffff", "c10107", "4102ffff 8000"])
def test_corrupt_compressed_data_is_invalid(wire: str) -> None:
    check(bytes.fromhex(wire), [failure(InvalidData)], deflate=True)


def test_invalid_text_is_seen_within_a_compressed_frame() -> None:
    sends = deflater()
    start = sends.compress(b"\xf4\x90", False)
    head = write_header(TEXT, len(start) + 1000, rsv1=True)
    assert receive([head + start], deflate=True) == [failure(InvalidData)]


def test_inflated_size_is_limited_over_all_pieces() -> None:
    sends = deflater()
    one, two = sends.compress(b"x" * 600, False), sends.compress(b"x" * 400, True)
    wire = frame(BINARY, one, fin=False, rsv1=True) + frame(CONTINUE, two)
    first = fragment(BINARY, b"x" * 600, True, False, True)
    last = fragment(BINARY, b"x" * 400, False, True, True)
    check(wire, [first, last], deflate=True, max_payload=1000)
    check(wire, [first, failure(MessageTooBig)], deflate=True, max_payload=999)
    whole = frame(BINARY, one + two, rsv1=True)
    check(whole, [(BINARY, b"x" * 1000, True)], deflate=True, max_payload=1000)
    check(whole, [failure(MessageTooBig)], deflate=True, max_payload=999)
    check(whole, [(BINARY, b"x" * 1000, True)], deflate=True, max_payload=UNLIMITED)


def test_compressed_size_is_limited_too() -> None:
    assert receive([write_header(BINARY, 1001, rsv1=True)], deflate=True, max_payload=1000) == [
        failure(MessageTooBig)
    ]


# Memory


def peak_bytes(receiver: Receiver, chunks: Iterable[bytes]) -> int:
    gc.collect()
    tracemalloc.start()
    for chunk in chunks:
        receiver.feed(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_declared_length_is_not_allocated() -> None:
    receiver = Receiver(masked=True, max_payload=UNLIMITED)
    assert peak_bytes(receiver, [write_header(BINARY, 1 << 40, key=KEY), b"x" * 100]) < 20_000


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_tiny_pieces_cost_a_small_multiple_of_their_bytes(opcode: int, step: int) -> None:
    size = 60_000
    receiver = Receiver(masked=False)
    receiver.feed(write_header(opcode, size + 1))
    payload = "".join(map(chr, range(32, 127))).encode() * (size // 95 + 1)
    assert peak_bytes(receiver, [payload[i : i + step] for i in range(0, size, step)]) < 3 * size + 40_000
    ((_, data, _),) = receiver.feed(b"!")
    assert len(data) == size + 1


def test_end_frees_what_was_collected() -> None:
    receiver = Receiver(masked=False)
    gc.collect()
    tracemalloc.start()
    receiver.feed(write_header(TEXT, 100_000) + b"x" * 90_000)
    receiver.feed(b"\xff")
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 20_000


# Everything, at random

SIZES = st.sampled_from([0, 1, 3, 20, 125, 126, 400])


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[Item], bool]:
    """Valid traffic, with compression or without, masked or not; and what it says, message by message."""
    key = draw(st.sampled_from([b"", KEY]))
    sends = deflater()
    wire = b""
    items: list[Item] = []
    for _ in range(draw(st.integers(1, 6))):
        opcode = draw(st.sampled_from([TEXT, BINARY, PING, PONG]))
        if opcode in (PING, PONG):
            payload = draw(st.binary(max_size=125))
            wire += frame(opcode, payload, key=key)
            items.append((opcode, payload, False))
            continue
        text = draw(st.text(max_size=8)) * draw(SIZES)
        compressed = draw(st.booleans())
        payload = sends.compress(text.encode(), True) if compressed else text.encode()
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        bounds = list(zip([0, *cuts], [*cuts, len(payload)], strict=True))
        for number, (start, stop) in enumerate(bounds):
            last = number == len(bounds) - 1
            kind = CONTINUE if number else opcode
            wire += frame(kind, payload[start:stop], last, compressed and not number, key)
        items.append((opcode, text if opcode == TEXT else text.encode(), compressed))
    return wire, items, bool(key)


def joined(items: list[Item]) -> list[Item]:
    """Put fragments together; the conversations have no control frame between them."""
    whole: list[Item] = []
    pieces: list[Any] = []
    for kind, data, compressed in items:
        if kind != FRAGMENT:
            whole.append((kind, data, compressed))
            continue
        assert data.first == (not pieces)
        pieces.append(data.piece)
        if data.last:
            whole.append((data.opcode, pieces[0][:0].join(pieces), compressed))
            pieces.clear()
    return whole


def chunked(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks = []
    position = 0
    for size in sizes:
        chunks.append(data[position : position + size])
        position += size
    return [*chunks, data[position:]]


CHUNKS = st.lists(st.integers(0, 300), max_size=12)


@given(conversations(), CHUNKS)
def test_valid_traffic_arrives_in_any_chunks(
    conversation: tuple[bytes, list[Item], bool], sizes: list[int]
) -> None:
    wire, items, masked = conversation
    assert joined(receive(chunked(wire, sizes), masked=masked, deflate=True)) == items


@given(st.lists(st.integers(0, 255), max_size=60).map(bytes), CHUNKS, st.booleans())
@example(b"\x81\x02\xff", [1], False)
def test_noise_means_the_same_in_any_chunks(noise: bytes, sizes: list[int], masked: bool) -> None:
    options: dict[str, Any] = {"masked": masked, "deflate": True, "max_payload": 200}
    whole = receive([noise], **options)
    assert receive(bytewise(noise), **options) == whole
    assert receive(chunked(noise, sizes), **options) == whole


FRAMES = st.builds(
    frame,
    st.sampled_from([0, 0, 1, 1, 2, 2, 3, 8, 9, 10]),
    st.binary(max_size=130) | st.text(max_size=40).map(str.encode),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([KEY, KEY, KEY, b""]),
)


@given(st.lists(FRAMES, max_size=8).map(b"".join), CHUNKS)
def test_frames_in_disorder_mean_the_same_in_any_chunks(wire: bytes, sizes: list[int]) -> None:
    options: dict[str, Any] = {"masked": True, "max_fragments": 3, "max_payload": 250}
    whole = receive([wire], **options)
    assert receive(bytewise(wire), **options) == whole
    assert receive(chunked(wire, sizes), **options) == whole
