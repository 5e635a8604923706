"""The hot functions, on both twins: the one in Python, which is the definition, and the compiled one.

Each vector is tried whole, cut at every place that matters, with a tail behind it, and away from aligned addresses.
"""

from __future__ import annotations

import bisect
import itertools
from typing import Any

import pytest
from frame_vectors import (
    BINARY,
    BUFFERS,
    KEY,
    KEYS,
    LENGTHS,
    TEXT,
    VECTORS,
    WRONG,
    Vector,
    frame,
    octets,
    xor,
)
from hypothesis import example, given
from hypothesis import strategies as st
from twins import each_twin, memory_of

from syncws import frames
from syncws.errors import ProtocolError

Message = tuple[int, str | bytes, bool]

TAILS = [b"\x00", b"\xff" * 20, b"\x81\x01a\x82\x81\x00\x00\x00\x00a"]


def call(twin: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(twin.Gatherer() if name == "add" else twin, name)(*arguments)


def types_in(messages: list[Message]) -> list[tuple[type, type]]:
    return [(type(message), type(message[1])) for message in messages]


# --- decode


def cuts(vector: Vector) -> list[int]:
    """Ends before the last that might make a difference."""
    length = len(vector.wire)
    if length < 300:
        return list(range(length))
    return [*range(16), 125, 126, 127, length // 2, *range(length - 9, length)]


def ends(vector: Vector) -> list[int]:
    """Where its messages end."""
    lengths = [len(data.encode() if isinstance(data, str) else data) for _, data, _ in vector.messages]
    sizes = [2 + (0 if n < 126 else 2 if n < 65536 else 8) + 4 * vector.masked + n for n in lengths]
    return list(itertools.accumulate(sizes))


@each_twin
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_vectors_whole(twin: Any, kind: Any) -> None:
    for vector in VECTORS:
        buffer = kind(vector.wire)
        messages, position = twin.decode(buffer, 0, len(buffer), vector.masked, vector.limit)
        assert (messages, position) == (vector.messages, vector.position), vector.name
        assert types_in(messages) == types_in(vector.messages), vector.name
        assert bytes(buffer) == vector.wire


@each_twin
def test_vectors_cut(twin: Any) -> None:
    for vector in VECTORS:
        complete = ends(vector)
        for end in cuts(vector):
            count = bisect.bisect_right(complete, end)
            expected = vector.messages[:count], complete[count - 1] if count else 0
            for wire in (vector.wire, vector.wire[:end]):
                assert twin.decode(wire, 0, end, vector.masked, vector.limit) == expected, (vector.name, end)


@each_twin
def test_vectors_where_they_stand_and_before_a_tail(twin: Any) -> None:
    for number, vector in enumerate(VECTORS):
        # Every address modulo 16, each with every sort of vector.
        start = number % 17
        for tail in TAILS:
            buffer = bytearray(b"\x81" * start + vector.wire + tail)
            end = start + len(vector.wire)
            messages, position = twin.decode(buffer, start, end, vector.masked, vector.limit)
            assert (messages, position - start) == (vector.messages, vector.position), vector.name


@each_twin
def test_many_messages_at_once(twin: Any) -> None:
    wire = frame(0x81, b"text", KEY) + frame(0x82, b"data", KEY)
    messages = [(TEXT, "text", False), (BINARY, b"data", False)]
    assert twin.decode(wire * 5000, 0, len(wire) * 5000, True, 0) == (messages * 5000, len(wire) * 5000)


@each_twin
def test_truth_decides_about_the_mask(twin: Any) -> None:
    for value, masked in ((1, True), ([0], True), (0, False), ("", False), (None, False)):
        assert twin.decode(frame(0x82, b"a", KEY), 0, 7, value, 0)[1] == (7 if masked else 0)


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
    lambda first, payload, masked: frame(first, payload, KEY if masked else b""),
    st.sampled_from([0x81, 0x82, 0x81, 0x82, 0x81, 0x82, 0x80, 0x89, 0x01, 0xC1]),
    st.binary(max_size=20) | st.text(max_size=200).map(str.encode) | st.just(bytes(500)),
    st.booleans(),
)


@each_twin
@given(
    data=st.lists(mostly_good_frames, max_size=5).map(b"".join) | st.binary(max_size=40),
    cut=st.integers(0, 30),
    masked=st.booleans(),
    limit=st.sampled_from([0, 0, 10, 126]),
)
@example(data=b"\x81", cut=0, masked=False, limit=0)
def test_the_fast_path_agrees_with_the_careful_one(
    twin: Any, data: bytes, cut: int, masked: bool, limit: int
) -> None:
    data = data[: len(data) - cut] if cut < len(data) else data
    assert twin.decode(data, 0, len(data), masked, limit) == careful_decode(data, masked, limit)


# --- mask


@each_twin
def test_mask_xors_each_byte_with_the_key_at_its_place(twin: Any) -> None:
    for length in LENGTHS:
        data = octets(length)
        for key in KEYS if length < 300 else [KEY]:
            for offset in (0, 1, 2, 3, 4, 7, (1 << 40) + 1):
                assert twin.mask(data, key, offset) == xor(data, key, offset), (length, key, offset)
            assert twin.mask(data, key) == xor(data, key)


@each_twin
def test_mask_at_any_address(twin: Any) -> None:
    data = octets(100)
    for start in range(17):
        for stop in range(start, 60):
            assert twin.mask(memoryview(data)[start:stop], KEY) == xor(data[start:stop], KEY)


@each_twin
@given(data=st.binary(max_size=2000), key=st.binary(min_size=4, max_size=4), cut=st.integers(0, 2000))
def test_mask_twice_is_the_identity_and_pieces_are_as_the_whole(twin: Any, data: bytes, key: bytes, cut: int) -> None:
    masked = twin.mask(data, key)
    assert twin.mask(masked, key) == data
    assert twin.mask(data[:cut], key) + twin.mask(data[cut:], key, cut) == masked


@each_twin
@pytest.mark.parametrize("length", [2, 12, 4000, 70000])
@pytest.mark.parametrize("kind", BUFFERS.values(), ids=BUFFERS.keys())
def test_any_buffer_is_taken_and_left_alone(twin: Any, kind: Any, length: int) -> None:
    data = octets(length)
    buffer = kind(data)
    gatherer = twin.Gatherer()
    gatherer.add(buffer, 0, length, KEY, 0)
    results = [twin.mask(buffer, KEY), twin.encode(2, buffer, True, False, KEY), gatherer.take()]
    assert results == [xor(data, KEY), frame(0x82, data, KEY), xor(data, KEY)]
    assert [type(result) for result in results] == [bytes] * 3
    assert memoryview(buffer).tobytes() == data


# --- encode


@each_twin
def test_encode_frames_bytes_and_text_of_any_length(twin: Any) -> None:
    for length in LENGTHS:
        text = ("é" * (length // 2) + "a" * (length % 2), "b" * length)
        for key in (b"", *(KEYS if length < 300 else [KEY])):
            assert twin.encode(2, octets(length), True, False, key) == frame(0x82, octets(length), key)
            for payload in text:
                assert twin.encode(1, payload, True, False, key) == frame(0x81, payload.encode(), key)


@each_twin
def test_encode_sets_the_bits_it_is_told_to(twin: Any) -> None:
    for opcode in range(16):
        for fin, rsv1, bits in ((True, False, 0x80), (False, True, 0x40), (1, [0], 0xC0), (None, "", 0)):
            assert twin.encode(opcode, b"ab", fin, rsv1, b"") == frame(bits | opcode, b"ab")


@each_twin
@given(text=st.text(max_size=50), key=st.sampled_from([b"", KEY]))
def test_encode_and_decode_agree(twin: Any, text: str, key: bytes) -> None:
    wire = twin.encode(TEXT, text, True, False, key)
    assert twin.decode(wire, 0, len(wire), bool(key), 0) == ([(TEXT, text, False)], len(wire))


@each_twin
def test_encode_takes_a_str_of_a_class_of_its_own(twin: Any) -> None:
    class Text(str):
        pass

    assert twin.encode(1, Text("é"), True, False, KEY) == frame(0x81, "é".encode(), KEY)


# --- Gatherer


@each_twin
@pytest.mark.parametrize("key", [b"", *KEYS])
@pytest.mark.parametrize("step", [1, 3, 8, 61, 4096, 65536])
def test_pieces_are_put_together(twin: Any, step: int, key: bytes) -> None:
    size = min(3 * step + 5, 140_000)
    data = octets(size + 4)
    masked = xor(data[4:], key) if key else data[4:]
    for hint in (0, 1, size - 1, size, size + 1, 1 << 40):
        gatherer = twin.Gatherer()
        for start in range(0, size, step):
            assert len(gatherer) == start
            piece = bytearray(b"??" + masked[start : start + step] + b"?")
            gatherer.add(piece, 2, len(piece) - 1, key, start, hint)
        assert len(gatherer) == size
        assert gatherer.take() == data[4:]


@each_twin
def test_a_gatherer_can_be_used_again(twin: Any) -> None:
    gatherer = twin.Gatherer()
    taken = []
    for payload in (b"", b"a", b"", b"b" * 100, b"c" * 7):
        gatherer.add(payload, 0, len(payload), b"", 0)
        taken.append(gatherer.take())
        assert len(gatherer) == 0
        assert not gatherer
    assert taken == [b"", b"a", b"", b"b" * 100, b"c" * 7]
    assert {type(payload) for payload in taken} == {bytes}


@each_twin
def test_what_was_taken_does_not_change(twin: Any) -> None:
    gatherer = twin.Gatherer()
    gatherer.add(b"a" * 100, 0, 100, b"", 0, 1000)
    taken = gatherer.take()
    gatherer.add(b"b" * 100, 0, 100, b"", 0, 1000)
    assert taken == b"a" * 100
    assert gatherer.take() == b"b" * 100


@each_twin
def test_a_wrong_piece_leaves_what_was_there(twin: Any) -> None:
    gatherer = twin.Gatherer()
    gatherer.add(b"abc", 0, 3, b"", 0)
    with pytest.raises(ValueError, match="bounds"):
        gatherer.add(b"def", 0, 4, b"", 3)
    gatherer.add(b"def", 1, 3, b"", 3)
    assert gatherer.take() == b"abcef"


@each_twin
def test_a_gatherer_has_nothing_but_its_methods(twin: Any) -> None:
    gatherer = twin.Gatherer()
    with pytest.raises(TypeError):
        twin.Gatherer(5, 6)
    with pytest.raises(ValueError, match="trusted"):
        twin.Gatherer(-1)
    with pytest.raises(AttributeError):
        gatherer.name = "it"
    assert [name for name in dir(type(gatherer)) if name[0] != "_"] == ["add", "fill", "room", "take"]


@each_twin
@pytest.mark.parametrize("trusted", [0, 1 << 20])
@pytest.mark.parametrize("key", [b"", *KEYS])
@pytest.mark.parametrize("step", [1, 61, 4096, 1 << 20])
def test_what_is_put_into_the_room_is_as_if_added(twin: Any, step: int, key: bytes, trusted: int) -> None:
    size = min(3 * step + 5, 140_000)
    data = octets(size + 4)
    masked = xor(data[4:], key) if key else data[4:]
    for hint in (0, size, 1 << 40):
        gatherer = twin.Gatherer(trusted)
        gatherer.add(masked, 0, 3, key, 0, hint)
        while (start := len(gatherer)) < size:
            with gatherer.room(hint) as room:
                assert (room.format, room.ndim, room.readonly) == ("B", 1, False)
                count = min(len(room), step, size - start)
                assert count
                room[:count] = masked[start : start + count]
            gatherer.fill(count, key, start)
        assert gatherer.take() == data[4:]


@each_twin
def test_more_than_the_room_is_refused_and_leaves_what_was_there(twin: Any) -> None:
    gatherer = twin.Gatherer()
    with pytest.raises(ValueError, match="at most 0 bytes, got 1"):
        gatherer.fill(1, KEY, 0)
    gatherer.add(b"abc", 0, 3, b"", 0)
    with gatherer.room(0) as room:
        size = len(room)
    with pytest.raises(ValueError, match=f"at most {size} bytes, got {size + 1}"):
        gatherer.fill(size + 1, KEY, 0)
    assert gatherer.take() == b"abc"


@each_twin
def test_the_room_follows_what_came_or_what_is_trusted(twin: Any) -> None:
    assert memory_of(lambda: twin.Gatherer().room(1 << 40).release())[1] < 100_000
    assert memory_of(lambda: twin.Gatherer(1 << 20).room(1 << 40).release())[1] < 100_000
    assert memory_of(lambda: twin.Gatherer(1 << 20).room(1 << 20).release())[1] < (1 << 20) + 1000


@each_twin
def test_memory_follows_what_came_not_what_was_announced(twin: Any) -> None:
    gatherer = twin.Gatherer()
    buffer = bytes(1000)
    assert memory_of(lambda: gatherer.add(buffer, 0, 1000, KEY, 0, 1 << 40))[1] < 10_000


@each_twin
@pytest.mark.parametrize("hint", [0, 3_000_000, 1 << 40])
def test_memory_is_at_most_twice_what_came_and_a_piece(twin: Any, hint: int) -> None:
    buffer = bytes(60_000)

    def gather() -> Any:
        gatherer = twin.Gatherer()
        for number in range(50):
            gatherer.add(buffer, 0, 60_000, KEY, 60_000 * number, hint)
        return gatherer.take()

    held, peak = memory_of(gather)
    assert held < 3_050_000  # whatever else the process does meanwhile
    # Growing is done in place or by a copy; the measure counts both blocks for a moment.
    assert peak < 3 * 3_000_000 + 200_000


@each_twin
def test_taking_copies_nothing(twin: Any) -> None:
    data = bytes(1_000_000)

    def gather() -> Any:
        gatherer = twin.Gatherer()
        gatherer.add(data, 0, len(data), b"", 0, len(data))
        return gatherer.take()

    assert memory_of(gather)[1] < 1_100_000


# --- wrong arguments


@each_twin
@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments_are_refused(twin: Any, number: int) -> None:
    name, arguments, error = WRONG[number]
    with pytest.raises(error) as caught:
        call(twin, name, arguments)
    assert caught.type is error
    if error is ValueError:
        assert str(caught.value).startswith("expected ")


@each_twin
def test_buffers_are_free_after_each_call(twin: Any) -> None:
    buffer = bytearray(frame(0x81, b"text", KEY))
    calls = [
        ("mask", (buffer, KEY)),
        ("mask", (buffer, b"123")),
        ("decode", (buffer, 0, len(buffer), True, 0)),
        ("decode", (buffer, 0, len(buffer) + 100, True, 0)),
        ("encode", (2, buffer, True, False, KEY)),
        ("encode", (99, buffer, True, False, KEY)),
        ("add", (buffer, 0, len(buffer), KEY, 0)),
        ("add", (buffer, 5, 4, KEY, 0)),
    ]
    for name, arguments in calls:
        try:
            kept = call(twin, name, arguments)
        except ValueError as error:
            # What is in the frames of the traceback lives as long as it does.
            error.__traceback__ = None
            kept = None
        buffer.append(0)  # BufferError if anybody still looks at it
        del kept
