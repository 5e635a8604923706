"""The wire format of frames: tables of bytes. The hot functions have a file of their own, test_pure.py."""

from __future__ import annotations

import pytest

from syncws import frames
from syncws.errors import InvalidData, ProtocolError
from syncws.frames import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, Header

KEY = bytes.fromhex("37fa213d")
SENDABLE_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
FORBIDDEN_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def test_numbers_are_those_of_the_rfc() -> None:
    assert (CONTINUE, TEXT, BINARY, CLOSE, PING, PONG) == (0, 1, 2, 8, 9, 10)


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
def test_a_length_of_64_bits_breaks_the_protocol(text: str) -> None:
    with pytest.raises(ProtocolError, match=r"below 2\*\*63") as caught:
        frames.read_header(bytes.fromhex(text), 0, 10)
    assert caught.value.close_code == 1002


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
