"""Messages in, buffers out: what leaves is compared byte by byte, or read back with the header reader."""

from __future__ import annotations

import array
import ctypes
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws import frames
from syncws.deflate import Deflate, Deflater, accept
from syncws.frames import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, BytesLike, Header
from syncws.sender import Sender

KEY = bytes.fromhex("37fa213d")
JOINED = 16 * 1024


def new_deflater() -> Deflater | None:
    accepted = accept(Deflate(), [])
    assert accepted is not None
    return accepted[0].deflater(True)


def deflating(threshold: int = 10) -> Sender:
    return Sender(masked=False, deflater=new_deflater(), threshold=threshold)


def masking(key: Any = KEY) -> Sender:
    return Sender(masked=True, generate_mask=lambda: key)


def parse(buffers: list[BytesLike]) -> tuple[Header, bytes]:
    data = b"".join(buffers)
    header = frames.read_header(data, 0, len(data))
    assert header is not None
    assert len(data) == header.size + header.length
    payload = data[header.size :]
    return header, frames.mask(payload, header.key) if header.masked else payload


def inflate(*payloads: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(b"".join(payloads) + b"\x00\x00\xff\xff")


# RFC 6455 section 5.7
@pytest.mark.parametrize(
    ("sender", "opcode", "payload", "text"),
    [
        (Sender(masked=False), TEXT, b"Hello", "810548656c6c6f"),
        (masking(), TEXT, b"Hello", "818537fa213d7f9f4d5158"),
        (Sender(masked=False), BINARY, bytes(256), "827e0100" + "00" * 256),
        (Sender(masked=False), BINARY, b"", "8200"),
        (masking(), TEXT, b"", "818037fa213d"),
    ],
)
def test_messages_look_as_in_the_rfc(sender: Sender, opcode: int, payload: bytes, text: str) -> None:
    assert b"".join(sender.message(opcode, payload)).hex() == text


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 1000, JOINED, JOINED + 1, 0xFFFF, 0x10000])
@pytest.mark.parametrize("sender", [Sender(masked=False), masking()], ids=["server", "client"])
def test_every_length_is_framed_in_the_shortest_form(sender: Sender, length: int) -> None:
    payload = bytes(i % 256 for i in range(length))
    header, content = parse(sender.message(BINARY, payload))
    assert content == payload
    assert (header.fin, header.rsv1, header.opcode) == (True, False, BINARY)
    assert header.size == (2 if length < 126 else 4 if length < 65536 else 10) + (4 if header.masked else 0)


@pytest.mark.parametrize("sender", [Sender(masked=False), masking()], ids=["server", "client"])
def test_header_and_payload_leave_in_one_buffer_up_to_16_kib(sender: Sender) -> None:
    assert len(sender.message(BINARY, bytes(JOINED))) == 1


def test_beyond_16_kib_what_must_be_masked_is_copied_once_and_the_rest_not_at_all() -> None:
    assert len(masking().message(BINARY, bytes(JOINED + 1))) == 1
    assert len(Sender(masked=False).message(BINARY, bytes(JOINED + 1))) == 2


@pytest.mark.parametrize("payload", [bytes(JOINED + 1), bytearray(JOINED + 1)])
def test_a_large_unmasked_payload_is_not_copied(payload: BytesLike) -> None:
    sent = Sender(masked=False).message(BINARY, payload)[1]
    assert payload is (sent.obj if isinstance(sent, memoryview) else sent)


def test_a_large_unmasked_view_is_not_copied() -> None:
    owner = array.array("I", bytes(2 * JOINED))
    payload = Sender(masked=False).message(BINARY, memoryview(owner))[1]
    assert isinstance(payload, memoryview)
    assert payload.obj is owner
    assert len(payload) == 2 * JOINED


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abcdefgh"),
        memoryview(b"__abcdefgh")[2:],
        memoryview(array.array("H", b"abcdefgh")),
        memoryview((ctypes.c_int * 2).from_buffer_copy(b"abcdefgh")),
        memoryview(b"abcdefgh").cast("B", (2, 4)),
    ],
)
@pytest.mark.parametrize("make", [Sender, deflating, masking])
def test_a_view_is_sent_byte_by_byte(view: memoryview, make: Callable[..., Sender]) -> None:
    sender = make(masked=False) if make is Sender else make()
    header, content = parse(sender.message(BINARY, view))
    assert header.length == 8
    assert content == b"abcdefgh"


def test_a_view_with_gaps_is_refused_before_anything_happens() -> None:
    sender = deflating()
    with pytest.raises(TypeError, match="contiguous"):
        sender.message(BINARY, memoryview(bytes(100))[::2], fin=False)
    assert not sender.open_message


@pytest.mark.parametrize("length", [5, 1000, 20000])
@pytest.mark.parametrize("sender", [Sender(masked=False), masking(), deflating()])
def test_the_callers_buffer_is_never_modified(sender: Sender, length: int) -> None:
    payload = bytearray(b"x" * length)
    sender.message(BINARY, payload)
    sender.control(PING, payload[:5])
    assert payload == b"x" * length


# --- fragments


def test_a_message_is_continued_whatever_the_opcode_until_fin() -> None:
    sender = Sender(masked=False)
    calls = [(TEXT, False), (TEXT, False), (BINARY, False), (TEXT, True), (BINARY, True)]
    seen = []
    for opcode, fin in calls:
        header, _ = parse(sender.message(opcode, b"part", fin=fin))
        seen.append((header.opcode, header.fin, sender.open_message))
    assert seen == [
        (TEXT, False, True),
        (CONTINUE, False, True),
        (CONTINUE, False, True),
        (CONTINUE, True, False),
        (BINARY, True, False),
    ]


def test_control_frames_go_between_fragments() -> None:
    sender = Sender(masked=False)
    sender.message(TEXT, b"one", fin=False)
    assert sender.control(PING, b"?") == b"\x89\x01?"
    assert sender.open_message
    assert sender.message(TEXT, b"two") == (b"\x80\x03two",)


# --- compression


@pytest.mark.parametrize(
    ("length", "compress", "compressed"),
    [
        (9, None, False),
        (10, None, True),
        (9, True, True),
        (0, True, True),
        (10, False, False),
        (20000, False, False),
    ],
)
def test_the_threshold_decides_unless_told(length: int, compress: bool | None, compressed: bool) -> None:
    payload = b"a" * length
    header, content = parse(deflating(threshold=10).message(TEXT, payload, compress=compress))
    assert header.rsv1 is compressed
    assert (inflate(content) if compressed else content) == payload


def test_without_a_deflater_everything_goes_plain() -> None:
    assert Sender(masked=False).message(TEXT, b"a" * 10, compress=True) == (b"\x81\x0a" + b"a" * 10,)


def test_the_first_frame_decides_for_the_message_and_alone_carries_rsv1() -> None:
    sender = deflating(threshold=10)
    first, one = parse(sender.message(TEXT, b"a" * 10, fin=False))
    second, two = parse(sender.message(TEXT, b"b", fin=False, compress=False))
    third, three = parse(sender.message(TEXT, b"", fin=True))
    assert [first.rsv1, second.rsv1, third.rsv1] == [True, False, False]
    assert inflate(one, two, three) == b"a" * 10 + b"b"


def test_a_message_begun_plain_stays_plain() -> None:
    sender = deflating(threshold=10)
    assert sender.message(TEXT, b"a", fin=False) == (b"\x01\x01a",)
    assert sender.message(TEXT, b"b" * 10, compress=True) == (b"\x80\x0a" + b"b" * 10,)
    header, _ = parse(sender.message(TEXT, b"c" * 10))
    assert header.rsv1


def test_plain_messages_between_compressed_ones_leave_the_context_alone() -> None:
    sender = deflating(threshold=10)
    _, one = parse(sender.message(TEXT, b"hello hello hello"))
    parse(sender.message(TEXT, b"short"))
    _, two = parse(sender.message(TEXT, b"hello hello hello"))
    assert inflate(one, b"\x00\x00\xff\xff", two) == b"hello hello hello" * 2
    assert len(two) < len(one)


def test_control_frames_are_never_compressed() -> None:
    assert deflating(threshold=0).control(PONG, b"a" * 20) == b"\x8a\x14" + b"a" * 20


# --- masking


@pytest.mark.parametrize("masked", [False, True])
def test_mask_overrides_the_role(masked: bool) -> None:
    sender = Sender(masked=not masked, generate_mask=lambda: KEY)
    header, content = parse(sender.message(TEXT, b"Hello", mask=masked))
    assert (header.masked, content) == (masked, b"Hello")
    header, content = parse([sender.control(PING, b"Hello", mask=masked)])
    assert (header.masked, content) == (masked, b"Hello")


def test_a_zero_key_still_sets_the_mask_bit() -> None:
    assert masking(bytes(4)).message(TEXT, b"a") == (b"\x81\x81\0\0\0\0a",)
    assert masking(bytearray(4)).control(PING, b"a") == b"\x89\x81\0\0\0\0a"


def test_every_frame_has_a_fresh_key_of_random_bytes() -> None:
    sender = Sender(masked=True)
    keys = [parse(sender.message(TEXT, b""))[0].key for _ in range(4000)]
    keys += [parse([sender.control(PING, b"")])[0].key for _ in range(96)]
    # 4096 of 2**32: more than three pairs alike has a chance below 1e-9.
    assert len(set(keys)) >= len(keys) - 3
    counts = Counter(b"".join(keys))
    # Each value is expected 64 times, give or take 8.
    assert len(counts) == 256
    assert max(counts.values()) < 64 + 8 * 8


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde", "abcd", 4, None, [1, 2, 3, 4]])
def test_a_bad_key_is_refused_before_anything_happens(key: object) -> None:
    keys: list[Any] = [KEY, key, KEY]
    sender = Sender(masked=True, deflater=new_deflater(), threshold=10, generate_mask=lambda: keys.pop(0))
    _, one = parse(sender.message(TEXT, b"hello hello hello"))
    with pytest.raises(ValueError, match="4 bytes from generate_mask"):
        sender.message(TEXT, b"goodbye goodbye", fin=False)
    assert not sender.open_message
    _, two = parse(sender.message(TEXT, b"hello hello hello"))
    # Had the compressor seen the refused message, this would not inflate.
    assert inflate(one, b"\x00\x00\xff\xff", two) == b"hello hello hello" * 2


def test_a_control_frame_with_a_bad_key_is_refused() -> None:
    with pytest.raises(ValueError, match="4 bytes from generate_mask"):
        masking(b"abc").control(PING, b"")


# --- control frames


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_control_frames_carry_up_to_125_bytes(opcode: int, kind: Callable[[bytes], BytesLike]) -> None:
    for sender in (Sender(masked=False), masking()):
        header, content = parse([sender.control(opcode, kind(b"a" * 125))])
        assert (header.fin, header.rsv1, header.opcode, content) == (True, False, opcode, b"a" * 125)
        with pytest.raises(ValueError, match="got 126"):
            sender.control(opcode, kind(b"a" * 126))


# --- everything at once


@given(
    st.booleans(),
    st.lists(
        st.tuples(st.binary(max_size=300), st.booleans(), st.sampled_from([None, True, False])), max_size=8
    ),
)
def test_what_is_sent_can_be_read_back(masked: bool, parts: list[tuple[bytes, bool, bool | None]]) -> None:
    sender = Sender(masked=masked, deflater=new_deflater(), threshold=50)
    inflater = zlib.decompressobj(wbits=-15)
    compressed = fresh = True
    for payload, fin, compress in parts:
        header, content = parse(sender.message(BINARY, payload, fin=fin, compress=compress))
        assert header.opcode == (BINARY if fresh else CONTINUE)
        compressed = header.rsv1 if fresh else compressed
        if compressed:
            content = inflater.decompress(content + (b"\x00\x00\xff\xff" if fin else b""))
        assert content == payload
        assert header.masked is masked
        assert sender.open_message is not fin
        fresh = fin
