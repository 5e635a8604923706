"""permessage-deflate: every parameter, the vectors of RFC 7692 section 7.2.3, limits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws import deflate
from syncws.deflate import Agreement, Deflate, Deflater, Inflater, accept, agree, offer
from syncws.errors import InvalidData, MessageTooBig

PREFIX = "permessage-deflate"
HELLO = bytes.fromhex("f248cdc9c90700")
HELLO_AGAIN = bytes.fromhex("f200110000")
FINAL_BLOCK = bytes.fromhex("f348cdc9c90700")
HELLO_FINAL_BLOCK = FINAL_BLOCK + b"\x00"


def params(text: str) -> list[tuple[str, str | None]]:
    """`"a; b=1"` as the header parser hands it over."""
    pairs = [part.strip().partition("=") for part in text.split(";") if part.strip()]
    return [(name, value if sign else None) for name, sign, value in pairs]


def terms(agreement: Agreement) -> tuple[bool, bool, int, int]:
    return (
        agreement.server_no_context_takeover,
        agreement.client_no_context_takeover,
        agreement.server_max_window_bits,
        agreement.client_max_window_bits,
    )


def deflater(
    window_bits: int = 15, context_takeover: bool = True, level: int = -1, mem_level: int = 8
) -> Deflater:
    return Deflater(
        window_bits=window_bits, context_takeover=context_takeover, level=level, mem_level=mem_level
    )


def inflater(window_bits: int = 15, context_takeover: bool = True) -> Inflater:
    return Inflater(window_bits=window_bits, context_takeover=context_takeover)


# The parameters as a value


def test_defaults_ask_for_nothing_and_keep_little_memory() -> None:
    config = Deflate()
    assert (config.server_no_context_takeover, config.client_no_context_takeover) == (False, False)
    assert (config.server_max_window_bits, config.client_max_window_bits) == (None, None)
    assert (config.threshold, config.level, config.mem_level) == (1024, -1, 5)


def test_config_is_a_value() -> None:
    assert Deflate(level=3) == Deflate(level=3)
    assert hash(Deflate()) == hash(Deflate())
    with pytest.raises(AttributeError):
        Deflate().level = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", ["server_max_window_bits", "client_max_window_bits"])
@pytest.mark.parametrize("bits", [7, 16, -15, 0])
def test_window_bits_out_of_range_are_refused(name: str, bits: int) -> None:
    with pytest.raises(ValueError, match=f"{name} from 8 to 15, got {bits}"):
        Deflate(**{name: bits})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", -1), ("level", -2), ("level", 10), ("mem_level", 0), ("mem_level", 10)],
)
def test_numbers_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"expected {name} .*, got {value}"):
        Deflate(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("server_no_context_takeover", 1),
        ("client_no_context_takeover", None),
        ("server_max_window_bits", "15"),
        ("client_max_window_bits", True),
        ("threshold", 1.5),
        ("level", None),
        ("mem_level", False),
    ],
)
def test_wrong_types_are_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"as {name}, got"):
        Deflate(**{name: value})  # type: ignore[arg-type]


def test_bounds_are_allowed() -> None:
    Deflate(server_max_window_bits=8, client_max_window_bits=15, threshold=0, level=9, mem_level=1)
    Deflate(server_max_window_bits=15, client_max_window_bits=8, threshold=1 << 40, level=0, mem_level=9)


# Negotiation


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Deflate(), "; client_max_window_bits"),
        (Deflate(client_max_window_bits=10), "; client_max_window_bits=10"),
        (
            Deflate(True, True, 9, 8),
            "; server_no_context_takeover; client_no_context_takeover"
            "; server_max_window_bits=9; client_max_window_bits=8",
        ),
    ],
)
def test_offer_is_written_in_the_usual_order(config: Deflate, expected: str) -> None:
    assert offer(config) == PREFIX + expected


@pytest.mark.parametrize(
    ("config", "offered", "agreed", "answer"),
    [
        (Deflate(), "", (False, False, 15, 15), ""),
        # Flags: either side may ask.
        (Deflate(), "server_no_context_takeover", (True, False, 15, 15), "; server_no_context_takeover"),
        (Deflate(), "client_no_context_takeover", (False, True, 15, 15), "; client_no_context_takeover"),
        (Deflate(True), "", (True, False, 15, 15), "; server_no_context_takeover"),
        (Deflate(False, True), "", (False, True, 15, 15), "; client_no_context_takeover"),
        # The server's window: an offered one is answered, the smaller holds.
        (Deflate(), "server_max_window_bits=15", (False, False, 15, 15), "; server_max_window_bits=15"),
        (Deflate(), "server_max_window_bits=8", (False, False, 8, 15), "; server_max_window_bits=8"),
        (Deflate(False, False, 12), "", (False, False, 12, 15), "; server_max_window_bits=12"),
        (
            Deflate(False, False, 12),
            "server_max_window_bits=10",
            (False, False, 10, 15),
            "; server_max_window_bits=10",
        ),
        (
            Deflate(False, False, 10),
            "server_max_window_bits=12",
            (False, False, 10, 15),
            "; server_max_window_bits=10",
        ),
        (Deflate(False, False, 15), "", (False, False, 15, 15), ""),
        # The client's: a bare one is dropped from the answer unless we have a number.
        (Deflate(), "client_max_window_bits", (False, False, 15, 15), ""),
        (Deflate(), "client_max_window_bits=9", (False, False, 15, 9), "; client_max_window_bits=9"),
        (
            Deflate(client_max_window_bits=11),
            "client_max_window_bits",
            (False, False, 15, 11),
            "; client_max_window_bits=11",
        ),
        (
            Deflate(client_max_window_bits=11),
            "client_max_window_bits=9",
            (False, False, 15, 9),
            "; client_max_window_bits=9",
        ),
        (Deflate(client_max_window_bits=15), "", (False, False, 15, 15), ""),
        (
            Deflate(),
            "client_max_window_bits=10; server_max_window_bits=11; client_no_context_takeover"
            "; server_no_context_takeover",
            (True, True, 11, 10),
            "; server_no_context_takeover; client_no_context_takeover"
            "; server_max_window_bits=11; client_max_window_bits=10",
        ),
    ],
)
def test_server_accepts(
    config: Deflate, offered: str, agreed: tuple[bool, bool, int, int], answer: str
) -> None:
    accepted = accept(config, params(offered))
    assert accepted is not None
    assert terms(accepted[0]) == agreed
    assert accepted[1] == PREFIX + answer


BAD_EVERYWHERE = [
    "unknown",
    "__class__",
    "server_no_context_takeover=1",
    "client_no_context_takeover=",
    "server_no_context_takeover; server_no_context_takeover",
    "client_max_window_bits=9; client_max_window_bits=9",
    "server_max_window_bits",
    *(
        f"{side}_max_window_bits={value}"
        for side in ("server", "client")
        for value in ("", "7", "16", "08", "015", " 9", "+9", "9.0", "1e1", "-9", "٩", "x", "9" * 20)
    ),
]


@pytest.mark.parametrize("offered", BAD_EVERYWHERE)
def test_server_declines_a_bad_offer(offered: str) -> None:
    assert accept(Deflate(), params(offered)) is None


def test_server_declines_what_it_cannot_limit() -> None:
    assert accept(Deflate(client_max_window_bits=14), []) is None


@pytest.mark.parametrize(
    ("config", "answer", "agreed"),
    [
        (Deflate(), "", (False, False, 15, 15)),
        # RFC 7692 sections 7.1.1.1, 7.1.1.2 and 7.1.2.1: the server may answer these unasked.
        (Deflate(), "server_no_context_takeover", (True, False, 15, 15)),
        (Deflate(), "client_no_context_takeover", (False, True, 15, 15)),
        (Deflate(), "server_max_window_bits=8", (False, False, 8, 15)),
        (Deflate(), "client_max_window_bits=8", (False, False, 15, 8)),
        # What we hint binds us, though the answer be silent.
        (Deflate(client_no_context_takeover=True), "", (False, True, 15, 15)),
        (Deflate(client_max_window_bits=11), "", (False, False, 15, 11)),
        (Deflate(client_max_window_bits=11), "client_max_window_bits=11", (False, False, 15, 11)),
        (Deflate(client_max_window_bits=11), "client_max_window_bits=9", (False, False, 15, 9)),
        (Deflate(server_max_window_bits=11), "server_max_window_bits=10", (False, False, 10, 15)),
        (Deflate(server_max_window_bits=11), "server_max_window_bits=11", (False, False, 11, 15)),
        (Deflate(server_max_window_bits=15), "", (False, False, 15, 15)),
        (Deflate(server_no_context_takeover=True), "server_no_context_takeover", (True, False, 15, 15)),
    ],
)
def test_client_agrees(config: Deflate, answer: str, agreed: tuple[bool, bool, int, int]) -> None:
    assert terms(agree(config, params(answer))) == agreed


@pytest.mark.parametrize("answer", [*BAD_EVERYWHERE, "client_max_window_bits"])
def test_client_refuses_a_bad_answer(answer: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        agree(Deflate(), params(answer))


@pytest.mark.parametrize(
    ("config", "answer"),
    [
        (Deflate(server_no_context_takeover=True), ""),
        (Deflate(server_max_window_bits=10), ""),
        (Deflate(server_max_window_bits=10), "server_max_window_bits=11"),
        (Deflate(client_max_window_bits=10), "client_max_window_bits=11"),
    ],
)
def test_client_refuses_an_answer_that_ignores_the_offer(config: Deflate, answer: str) -> None:
    with pytest.raises(ValueError, match="as offered"):
        agree(config, params(answer))


def test_a_hostile_parameter_is_quoted_shortened() -> None:
    with pytest.raises(ValueError, match=r"got 'x\\r\\n") as caught:
        agree(Deflate(), [("x\r\n" + "y" * 10_000, None)])
    assert len(str(caught.value)) < 120


BITS = st.none() | st.integers(8, 15)
CONFIGS = st.builds(Deflate, st.booleans(), st.booleans(), BITS, BITS)


@given(CONFIGS, CONFIGS)
def test_both_sides_reach_the_same_agreement(client: Deflate, server: Deflate) -> None:
    accepted = accept(server, params(offer(client).removeprefix(PREFIX)))
    assert accepted is not None
    assert terms(agree(client, params(accepted[1].removeprefix(PREFIX)))) == terms(accepted[0])


# What is made of an agreement


@pytest.mark.parametrize("is_server", [True, False])
@pytest.mark.parametrize("server_bits", range(8, 16))
@pytest.mark.parametrize("client_bits", range(8, 16))
@pytest.mark.parametrize("no_takeover", [(False, False), (True, False), (False, True), (True, True)])
def test_each_direction_works_with_all_windows_and_takeovers(
    is_server: bool, server_bits: int, client_bits: int, no_takeover: tuple[bool, bool]
) -> None:
    agreement = Agreement(*no_takeover, server_bits, client_bits, threshold=0, level=-1, mem_level=5)
    sends = agreement.deflater(is_server)
    bits, forgets = (server_bits, no_takeover[0]) if is_server else (client_bits, no_takeover[1])
    assert (sends is None) == (bits == 8)
    if sends is None:
        return
    receives = agreement.inflater(not is_server)
    # The second half refers back over more than the smallest window.
    message = random.Random(bits).randbytes(600) * 2
    first, second = (sends.compress(message, True) for _ in range(2))
    assert receives.inflate(first, True, len(message)) == message
    assert receives.inflate(second, True, len(message)) == message
    if bits > 10:
        assert len(first) < 700
        assert (len(second) > 600) == forgets


def test_default_compressor_keeps_to_12_bits() -> None:
    message = random.Random(1).randbytes(6000)
    accepted = accept(Deflate(), [])
    asked = accept(Deflate(server_max_window_bits=15), [])
    assert accepted is not None
    assert asked is not None
    for agreement, repeats_found in ((accepted[0], False), (asked[0], True), (agree(Deflate(), []), False)):
        compressor = agreement.deflater(server=True)
        assert compressor is not None
        assert (len(compressor.compress(message * 2, True)) < 7000) == repeats_found


def test_client_compressor_obeys_its_own_window() -> None:
    message = random.Random(1).randbytes(6000)
    compressor = agree(Deflate(client_max_window_bits=15), []).deflater(server=False)
    assert compressor is not None
    assert len(compressor.compress(message * 2, True)) < 7000


def test_agreement_keeps_our_own_choices() -> None:
    agreement = agree(Deflate(threshold=7, level=1, mem_level=9), [])
    assert (agreement.threshold, agreement.level, agreement.mem_level) == (7, 1, 9)


def test_level_and_memory_reach_zlib() -> None:
    message = b"".join(b"%d," % (i * i % 1000) for i in range(3000))
    plain, fast, best = (len(deflater(level=level).compress(message, True)) for level in (0, 1, 9))
    assert plain > len(message) > fast > best
    small, large = (len(deflater(mem_level=level).compress(message, True)) for level in (1, 9))
    assert small > large


# Compressing


def test_empty_message_is_one_zero_byte() -> None:
    # RFC 7692 section 7.2.3.6
    for takeover in (True, False):
        sends = deflater(context_takeover=takeover)
        assert [sends.compress(b"", True) for _ in range(3)] == [b"\x00"] * 3
        sends.compress(b"abc", True)
        assert sends.compress(b"", True) == b"\x00"


def test_compressed_message_is_stripped_of_its_tail() -> None:
    assert not deflater().compress(b"Hello", True).endswith(b"\x00\x00\xff\xff")


def test_pieces_are_flushed_whole_and_keep_their_tail() -> None:
    sends, receives = deflater(), inflater()
    piece = sends.compress(b"Hel", False)
    assert piece.endswith(b"\x00\x00\xff\xff")
    assert receives.inflate(piece, False, -1) == b"Hel"
    assert receives.inflate(sends.compress(b"lo", True), True, -1) == b"lo"


def test_without_takeover_the_window_lasts_for_the_whole_message() -> None:
    sends = deflater(context_takeover=False)
    message = random.Random(1).randbytes(500)
    assert len(sends.compress(message, False)) > 500
    assert len(sends.compress(message, True)) < 50
    assert len(sends.compress(message, True)) > 500


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_taken(kind: type) -> None:
    assert inflater().inflate(kind(deflater().compress(kind(b"Hello"), True)), True, -1) == b"Hello"


# Inflating


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([HELLO], b"Hello", id="7.2.3.1 one block"),
        pytest.param([HELLO, HELLO_AGAIN], b"HelloHello", id="7.2.3.2 sharing the window"),
        pytest.param([bytes.fromhex("000500faff48656c6c6f00")], b"Hello", id="7.2.3.3 no compression"),
        pytest.param([HELLO_FINAL_BLOCK], b"Hello", id="7.2.3.4 final block"),
        pytest.param([bytes.fromhex("f24805000000ffffcac9c90700")], b"Hello", id="7.2.3.5 two blocks"),
        pytest.param([b"\x00"], b"", id="7.2.3.6 empty"),
        pytest.param([HELLO_FINAL_BLOCK, HELLO, HELLO_AGAIN], b"Hello" * 3, id="goes on after a final block"),
        pytest.param([FINAL_BLOCK * 3 + b"\x00"], b"Hello" * 3, id="final blocks within a message"),
        pytest.param([FINAL_BLOCK, HELLO], b"Hello" * 2, id="final block at the very end"),
        pytest.param([FINAL_BLOCK + HELLO], b"Hello" * 2, id="blocks behind a final one"),
        pytest.param([b"\x01", HELLO], b"Hello", id="final block that ends with the tail"),
    ],
)
def test_vectors_inflate_in_any_cut(messages: list[bytes], expected: bytes) -> None:
    whole, bytewise = inflater(), inflater()
    assert b"".join(whole.inflate(message, True, 64) for message in messages) == expected
    output = b""
    for message in messages:
        output += b"".join(bytewise.inflate(message[i : i + 1], False, 64) for i in range(len(message)))
        output += bytewise.inflate(b"", True, 64)
    assert output == expected


def test_vectors_inflate_in_two_pieces() -> None:
    for cut in range(len(HELLO) + 1):
        receives = inflater()
        assert receives.inflate(HELLO[:cut], False, 5) + receives.inflate(HELLO[cut:], True, 5) == b"Hello"


def test_final_block_cut_from_its_tail() -> None:
    receives = inflater()
    assert receives.inflate(FINAL_BLOCK, False, -1) == b"Hello"
    assert receives.inflate(b"", True, -1) == b""
    assert receives.inflate(HELLO, True, -1) == b"Hello"


def test_no_takeover_forgets_the_window() -> None:
    receives = inflater(context_takeover=False)
    assert receives.inflate(HELLO, True, -1) == b"Hello"
    with pytest.raises(InvalidData, match="distance too far back"):
        receives.inflate(HELLO_AGAIN, True, -1)


@pytest.mark.parametrize(
    "data", [b"\x07", b"\xff" * 10, b"\x00\x05\x00\x00\x00Hello", FINAL_BLOCK + b"\x07"]
)
def test_corrupt_data_is_invalid(data: bytes) -> None:
    with pytest.raises(InvalidData, match="expected DEFLATE blocks"):
        inflater().inflate(data, True, -1)


@pytest.mark.parametrize("size", [0, 1, 100, 70_000])
def test_exactly_the_limit_passes(size: int) -> None:
    compressed = deflater().compress(b"x" * size, True)
    assert inflater().inflate(compressed, True, size) == b"x" * size


@pytest.mark.parametrize("size", [1, 2, 100, 70_000])
def test_one_byte_over_the_limit_is_too_big(size: int) -> None:
    compressed = deflater().compress(b"x" * size, True)
    with pytest.raises(MessageTooBig):
        inflater().inflate(compressed, True, size - 1)


def test_limit_counts_over_final_blocks() -> None:
    assert inflater().inflate(FINAL_BLOCK * 3, True, 15) == b"Hello" * 3
    with pytest.raises(MessageTooBig):
        inflater().inflate(FINAL_BLOCK * 3, True, 14)


def test_bomb_gives_one_byte_more_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    produced: list[int] = []

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._stream = original(wbits)

        def decompress(self, data: bytes, max_length: int) -> bytes:
            output = self._stream.decompress(data, max_length)
            produced.append(len(output))
            return output

    bomb = deflater().compress(bytes(1 << 24), True)
    original = deflate.zlib.decompressobj
    monkeypatch.setattr(deflate.zlib, "decompressobj", Counting)
    with pytest.raises(MessageTooBig):
        inflater().inflate(bomb, True, 1000)
    assert produced == [1001]


def test_flood_of_final_blocks_is_copied_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._stream = original(wbits)

        def decompress(self, data: bytes, max_length: int) -> bytes:
            fed.append(len(data))
            return self._stream.decompress(data, max_length)

        def __getattr__(self, name: str) -> object:
            return getattr(self._stream, name)

    original = deflate.zlib.decompressobj
    monkeypatch.setattr(deflate.zlib, "decompressobj", Counting)
    count = 5000
    assert inflater().inflate(b"\x03\x00" * count, True, -1) == b""
    assert len(fed) == count
    assert sum(fed) < count * 300


@given(
    st.lists(st.lists(st.binary(max_size=200), min_size=1, max_size=4), max_size=6),
    st.integers(9, 15),
    st.booleans(),
    st.integers(-1, 9),
    st.integers(1, 40),
)
def test_whatever_is_compressed_is_inflated(
    messages: list[list[bytes]], bits: int, takeover: bool, level: int, step: int
) -> None:
    sends = deflater(bits, takeover, level)
    receives = inflater(bits, takeover)
    for pieces in messages:
        limit = sum(map(len, pieces))
        output = b""
        for number, piece in enumerate(pieces, 1):
            wire = sends.compress(piece, number == len(pieces))
            for start in range(0, len(wire), step):
                output += receives.inflate(wire[start : start + step], False, limit - len(output))
        output += receives.inflate(b"", True, limit - len(output))
        assert output == b"".join(pieces)


@given(st.binary(max_size=300), st.integers(-1, 50))
def test_noise_is_inflated_or_refused(noise: bytes, limit: int) -> None:
    try:
        output = inflater().inflate(noise, True, limit)
    except (InvalidData, MessageTooBig):
        return
    assert limit < 0 or len(output) <= limit
