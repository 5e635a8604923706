"""The wire format of frames: tables of bytes, and the fast path against a slow one written from the RFC."""

from __future__ import annotations

import array
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncws import frames
from syncws.errors import InvalidData, MessageTooBig, ProtocolError
from syncws.frames import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, BytesLike, Header

Message = tuple[int, str | bytes, bool]

KEY = bytes.fromhex("37fa213d")
LENGTHS = [0, 1, 125, 126, 127, 399, 400, 401, 1 << 10, (1 << 16) - 1, 1 << 16, (1 << 16) + 3]
SENDABLE_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
FORBIDDEN_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def frame(opcode: int, payload: bytes, masked: bool = False) -> bytes:
    key = KEY if masked else b""
    return frames.write_header(opcode, len(payload), key=key) + (xor(payload, KEY) if masked else payload)


def xor(payload: bytes, key: bytes, offset: int = 0) -> bytes:
    return bytes(byte ^ key[(offset + i) % 4] for i, byte in enumerate(payload))


def view_of_integers(data: bytes) -> memoryview:
    return memoryview(array.array("I", data))


def decode(data: bytes, masked: bool = False, limit: int = 0) -> tuple[list[Message], int]:
    return frames.decode(data, 0, len(data), masked, limit)


def test_numbers_are_those_of_the_rfc() -> None:
    assert (CONTINUE, TEXT, BINARY, CLOSE, PING, PONG) == (0, 1, 2, 8, 9, 10)
    assert frames.COMPILED is False


# --- mask


@pytest.mark.parametrize("offset", range(9))
@pytest.mark.parametrize("length", LENGTHS)
def test_mask_xors_each_byte_with_the_key_at_its_place(length: int, offset: int) -> None:
    data = (bytes(range(256)) * (length // 256 + 1))[:length]
    assert frames.mask(data, KEY, offset) == xor(data, KEY, offset)


@given(st.binary(max_size=2000), st.binary(min_size=4, max_size=4), st.integers(0, 2000))
def test_mask_twice_is_the_identity_and_pieces_are_as_the_whole(data: bytes, key: bytes, cut: int) -> None:
    masked = frames.mask(data, key)
    assert frames.mask(masked, key) == data
    assert frames.mask(data[:cut], key) + frames.mask(data[cut:], key, cut) == masked


@pytest.mark.parametrize("length", [12, 4000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, view_of_integers])
def test_mask_takes_any_buffer_and_leaves_it_alone(kind: Callable[[bytes], BytesLike], length: int) -> None:
    data = bytes(i % 251 for i in range(length))
    buffer = kind(data)
    masked = frames.mask(buffer, KEY)
    assert type(masked) is bytes
    assert masked == xor(data, KEY)
    assert bytes(buffer) == data


def test_mask_with_a_zero_key_changes_nothing() -> None:
    assert frames.mask(b"abcdef", bytes(4)) == b"abcdef"


# --- headers

# RFC 6455 section 5.7, and each form of the length at its borders
HEADERS = [
    ("8105", Header(True, False, False, TEXT, False, 5, b"", 2)),
    ("818537fa213d", Header(True, False, False, TEXT, True, 5, KEY, 6)),
    ("0103", Header(False, False, False, TEXT, False, 3, b"", 2)),
    ("8002", Header(True, False, False, CONTINUE, False, 2, b"", 2)),
    ("8905", Header(True, False, False, PING, False, 5, b"", 2)),
    ("8a8537fa213d", Header(True, False, False, PONG, True, 5, KEY, 6)),
    ("8880" + "00000000", Header(True, False, False, CLOSE, True, 0, bytes(4), 6)),
    ("c100", Header(True, True, False, TEXT, False, 0, b"", 2)),
    ("827d", Header(True, False, False, BINARY, False, 125, b"", 2)),
    ("827e007e", Header(True, False, False, BINARY, False, 126, b"", 4)),
    ("827e0100", Header(True, False, False, BINARY, False, 256, b"", 4)),
    ("82feffff37fa213d", Header(True, False, False, BINARY, True, 0xFFFF, KEY, 8)),
    ("827f0000000000010000", Header(True, False, False, BINARY, False, 1 << 16, b"", 10)),
    ("82ff7fffffffffffffff37fa213d", Header(True, False, False, BINARY, True, (1 << 63) - 1, KEY, 14)),
]


@pytest.mark.parametrize(("text", "header"), HEADERS)
def test_headers_are_read_and_written_alike(text: str, header: Header) -> None:
    data = bytes.fromhex(text)
    assert frames.read_header(data, 0, len(data)) == header
    assert frames.write_header(header.opcode, header.length, header.fin, header.rsv1, header.key) == data


@pytest.mark.parametrize(("text", "header"), HEADERS)
def test_a_header_is_read_where_it_stands(text: str, header: Header) -> None:
    data = bytes.fromhex(text)
    buffer = bytearray(b"\xff\xff\xff" + data + b"tail")
    assert frames.read_header(buffer, 3, len(buffer)) == header


@pytest.mark.parametrize(("text", "header"), HEADERS)
def test_an_incomplete_header_is_none_though_the_buffer_goes_on(text: str, header: Header) -> None:
    data = bytes.fromhex(text)
    assert [frames.read_header(data, 0, end) for end in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize(
    ("text", "rsv1", "rsv23"),
    [("9100", False, True), ("a100", False, True), ("f100", True, True), ("c100", True, False)],
)
def test_reserved_bits_are_reported_not_judged(text: str, rsv1: bool, rsv23: bool) -> None:
    header = frames.read_header(bytes.fromhex(text), 0, 2)
    assert header is not None
    assert (header.rsv1, header.rsv23) == (rsv1, rsv23)


@pytest.mark.parametrize("opcode", range(16))
def test_opcodes_are_reported_not_judged(opcode: int) -> None:
    header = frames.read_header(bytes((opcode, 0)), 0, 2)
    assert header == Header(False, False, False, opcode, False, 0, b"", 2)


@pytest.mark.parametrize("text", ["827e0000", "827e007d", "827f0000000000000000", "827f000000000000ffff"])
@pytest.mark.parametrize("mask_bit", [0, 0x80])
def test_a_length_in_more_bytes_than_needed_is_an_error(text: str, mask_bit: int) -> None:
    data = bytearray.fromhex(text)
    data[1] |= mask_bit
    with pytest.raises(ProtocolError, match="shortest form of the length") as caught:
        frames.read_header(data, 0, len(data))
    assert caught.value.close_code == 1002


@pytest.mark.parametrize("text", ["827f8000000000000000", "82ffffffffffffffffff"])
def test_a_length_of_64_bits_is_too_big(text: str) -> None:
    with pytest.raises(MessageTooBig, match=r"below 2\*\*63") as caught:
        frames.read_header(bytes.fromhex(text), 0, 10)
    assert caught.value.close_code == 1009


# --- decode


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_whole_messages_are_taken_in_order(
    length: int, masked: bool, kind: Callable[[bytes], bytes | bytearray]
) -> None:
    text, data = "é" * (length // 2) + "a" * (length % 2), bytes(i % 256 for i in range(length))
    buffer = kind(b"??" + frame(TEXT, text.encode(), masked) + frame(BINARY, data, masked))
    before = bytes(buffer)
    messages, position = frames.decode(buffer, 2, len(buffer), masked, 0)
    assert messages == [(TEXT, text, False), (BINARY, data, False)]
    assert [type(payload) for _, payload, _ in messages] == [str, bytes]
    assert position == len(buffer)
    assert buffer == before


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [0, 5, 126, 401, 1 << 16])
def test_a_frame_cut_anywhere_is_left(length: int, masked: bool) -> None:
    first, second = frame(TEXT, b"ok", masked), frame(BINARY, bytes(length), masked)
    data = first + second
    for end in {len(first), *range(len(first) + 1, len(first) + 15), len(data) - 1} - {len(data)}:
        if end < len(data):
            assert frames.decode(data, 0, end, masked, 0) == ([(TEXT, "ok", False)], len(first))
    assert frames.decode(data, 0, len(data), masked, 0)[1] == len(data)


STOPS = {
    "fragment": "0100",
    "continuation": "8000",
    "compressed": "c100",
    "rsv2": "a100",
    "rsv3": "9100",
    "close": "8800",
    "ping": "8900",
    "pong": "8a00",
    "unknown opcode 3": "8300",
    "unknown opcode 15": "8f00",
    "long 16-bit length": "827e0001" + "00",
    "long 64-bit length": "827f0000000000000001" + "00",
    "64-bit length past its range": "827f8000000000000000",
    "invalid text": "8101ff",
    "surrogate in text": "8103eda080",
    "text cut in a code point": "8101c3",
}


@pytest.mark.parametrize("text", STOPS.values(), ids=STOPS.keys())
@pytest.mark.parametrize("masked", [False, True])
def test_anything_else_is_left_to_the_careful_code(text: str, masked: bool) -> None:
    bad = bytearray.fromhex(text)
    if masked:
        header = {126: 4, 127: 10}.get(bad[1], 2)
        bad[1] |= 0x80
        bad[header:] = KEY + xor(bytes(bad[header:]), KEY)
    good = frame(TEXT, b"ok", masked)
    assert decode(good + bad + good, masked) == ([(TEXT, "ok", False)], len(good))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [0, 125, 126, 1 << 16])
def test_a_frame_with_the_wrong_mask_bit_is_left(length: int, masked: bool) -> None:
    assert decode(frame(BINARY, bytes(length), not masked), masked) == ([], 0)


@pytest.mark.parametrize("length", [1, 125, 126, 1 << 16])
def test_a_payload_of_exactly_the_limit_passes(length: int) -> None:
    data = frame(BINARY, bytes(length))
    assert decode(data, limit=length) == ([(BINARY, bytes(length), False)], len(data))
    assert decode(data, limit=max(length - 1, 1))[1] == (len(data) if length == 1 else 0)


def careful_decode(data: bytes, masked: bool, limit: int) -> tuple[list[Message], int]:
    messages: list[Message] = []
    position = 0
    while True:
        try:
            header = frames.read_header(data, position, len(data))
        except ProtocolError:
            break
        if header is None or not header.fin or header.rsv1 or header.rsv23:
            break
        end = position + header.size + header.length
        if header.opcode not in (TEXT, BINARY) or header.masked != masked or end > len(data):
            break
        if limit and header.length > limit:
            break
        payload = xor(data[position + header.size : end], header.key or bytes(4))
        try:
            messages.append((header.opcode, payload.decode() if header.opcode == TEXT else payload, False))
        except UnicodeDecodeError:
            break
        position = end
    return messages, position


mostly_good_frames = st.builds(
    lambda first, payload, masked: bytes((first,)) + frame(0, payload, masked)[1:],
    st.sampled_from([0x81, 0x82, 0x81, 0x82, 0x81, 0x82, 0x80, 0x89, 0x01, 0xC1]),
    st.binary(max_size=20) | st.text(max_size=200).map(str.encode) | st.just(bytes(500)),
    st.booleans(),
)


@given(
    st.lists(mostly_good_frames, max_size=5).map(b"".join) | st.binary(max_size=40),
    st.integers(0, 30),
    st.booleans(),
    st.sampled_from([0, 0, 10, 126]),
)
@example(b"\x81", 0, False, 0)
def test_the_fast_path_agrees_with_the_careful_one(data: bytes, cut: int, masked: bool, limit: int) -> None:
    data = data[: len(data) - cut] if cut < len(data) else data
    assert decode(data, masked, limit) == careful_decode(data, masked, limit)


# --- Close


@pytest.mark.parametrize("code", SENDABLE_CODES)
def test_a_close_payload_goes_there_and_back(code: int) -> None:
    payload = frames.encode_close(code, "tschüss")
    assert payload == bytes(divmod(code, 256)) + "tschüss".encode()
    assert frames.decode_close(payload) == (code, "tschüss")
    assert frames.decode_close(memoryview(bytearray(payload))) == (code, "tschüss")


def test_no_code_is_an_empty_payload_and_reads_as_1005() -> None:
    assert frames.encode_close(None, "") == b""
    assert frames.decode_close(b"") == (1005, "")


@pytest.mark.parametrize("code", FORBIDDEN_CODES)
def test_codes_that_do_not_belong_on_the_wire_are_refused_both_ways(code: int) -> None:
    with pytest.raises(ValueError, match=f"got {code}$"):
        frames.encode_close(code, "")
    with pytest.raises(ProtocolError, match=f"got {code}$") as caught:
        frames.decode_close(code.to_bytes(2, "big"))
    assert caught.value.close_code == 1002


@pytest.mark.parametrize("code", [-1, 66536, 1 << 64])
def test_codes_beyond_16_bits_are_refused(code: int) -> None:
    with pytest.raises(ValueError, match="close code"):
        frames.encode_close(code, "")


@pytest.mark.parametrize(
    ("code", "reason"), [(1000.0, ""), ("1000", ""), (True, ""), (1000, b"bye"), (None, None)]
)
def test_a_code_is_an_int_and_a_reason_a_str(code: object, reason: object) -> None:
    with pytest.raises(TypeError):
        frames.encode_close(code, reason)  # type: ignore[arg-type]


def test_a_reason_needs_a_code() -> None:
    with pytest.raises(ValueError, match="beside the reason"):
        frames.encode_close(None, "bye")


def test_a_reason_is_at_most_123_bytes_of_utf_8() -> None:
    assert len(frames.encode_close(1000, "é" * 61 + "a")) == 125
    with pytest.raises(ValueError, match="got 124"):
        frames.encode_close(1000, "é" * 62)


def test_a_reason_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        frames.encode_close(1000, "\ud800")


def test_a_close_payload_of_one_byte_is_an_error() -> None:
    with pytest.raises(ProtocolError, match=r"got 1$"):
        frames.decode_close(b"\x03")


@pytest.mark.parametrize("reason", [b"\xff", b"ab\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_a_reason_that_is_not_utf_8_is_invalid_data(reason: bytes) -> None:
    with pytest.raises(InvalidData) as caught:
        frames.decode_close(b"\x03\xe8" + reason)
    assert caught.value.close_code == 1007
    assert caught.value.__cause__ is None


def test_a_reason_that_is_not_utf_8_may_be_replaced_in_part() -> None:
    assert frames.decode_close(b"\x03\xe8a\xffb", "replace") == (1000, "a\ufffdb")
