"""`Message`: the vectors of the RFCs, every fault of a stream, and streams of every kind."""

from __future__ import annotations

import io
import os
import zlib
from typing import Any

import pytest
import world
from hypothesis import given
from hypothesis import strategies as st
from peer import frame

import syncws
from syncws import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, Message

KEY = bytes.fromhex("37fa213d")


def read(data: bytes, **how: Any) -> Message:
    message = Message(**how)
    message.read_from(io.BytesIO(data))
    return message


def written(message: Message) -> bytes:
    stream = io.BytesIO()
    message.send_to(stream)
    return stream.getvalue()


def made(type: int, payload: bytes, **how: Any) -> Message:
    message = Message(type, **how)
    assert message.write(payload) == len(payload)
    return message


def deflated(payload: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


# -- the vectors ---------------------------------------------------------------------------------------------------

PLAIN = [  # RFC 6455 section 5.7
    ("8105 48656c6c6f", TEXT, False, "Hello"),
    ("8185 37fa213d 7f9f4d5158", TEXT, True, "Hello"),
    ("0103 48656c 8002 6c6f", TEXT, False, "Hello"),
    ("8905 48656c6c6f", PING, False, b"Hello"),
    ("8a85 37fa213d 7f9f4d5158", PONG, True, b"Hello"),
    ("827e0100" + "5a" * 256, BINARY, False, b"\x5a" * 256),
    ("827f0000000000010000" + "5a" * 65536, BINARY, False, b"\x5a" * 65536),
]
COMPRESSED = [  # RFC 7692 section 7.2.3
    ("c107 f248cdc9c90700", "Hello"),
    ("4103 f248cd 8004 c9c90700", "Hello"),
    ("c10b 000500faff48656c6c6f00", "Hello"),
    ("c108 f348cdc9c9070000", "Hello"),
    ("c10d f248050000 00ffff cac9c90700", "Hello"),
    ("c101 00", ""),
]


@pytest.mark.parametrize(("vector", "type", "masked", "data"), PLAIN, ids=range(len(PLAIN)))
def test_the_vectors_of_rfc_6455_are_read(vector: str, type: int, masked: bool, data: Any) -> None:
    message = read(bytes.fromhex(vector))
    assert (message.type, message.masked, message.compress, message.data) == (type, masked, False, data)


@pytest.mark.parametrize(("vector", "data"), COMPRESSED)
def test_the_vectors_of_rfc_7692_are_read(vector: str, data: str) -> None:
    message = read(bytes.fromhex(vector))
    assert (message.type, message.masked, message.compress, message.data) == (TEXT, False, True, data)


def test_a_message_that_needs_the_window_of_another_is_invalid_data() -> None:
    stream = io.BytesIO(bytes.fromhex("c107 f248cdc9c90700 c105 f200110000"))  # RFC 7692 section 7.2.3.2
    message = Message()
    message.read_from(stream)
    with pytest.raises(syncws.InvalidData):
        message.read_from(stream)


@pytest.mark.parametrize(
    ("vector", "type", "data"),
    [(vector, type, data) for vector, type, masked, data in PLAIN if not masked and vector[:2] != "01"],
    ids=range(4),
)
def test_the_vectors_of_rfc_6455_are_written(vector: str, type: int, data: Any) -> None:
    payload = data.encode() if isinstance(data, str) else data
    assert written(made(type, payload, masked=False)) == bytes.fromhex(vector)


@pytest.mark.parametrize("type", [CONTINUE, TEXT, BINARY, 3, CLOSE, PING, PONG, 15])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_what_is_written_is_one_frame_and_is_read_again(type: int, masked: bool, size: int) -> None:
    if type >= CLOSE and size > 125:
        return
    payload = os.urandom(size)
    data = written(made(type, payload, masked=masked))
    assert data[0] == 0x80 | type
    assert bool(data[1] & 0x80) == masked
    again = read(data)
    assert (again.type, again.masked, again.compress, again.body.read()) == (type, masked, False, payload)


def test_each_frame_is_masked_with_a_key_of_its_own() -> None:
    message = made(BINARY, bytes(8))
    assert len({written(message) for _ in range(20)}) == 20


@pytest.mark.parametrize("type", [TEXT, BINARY])
@pytest.mark.parametrize("payload", [b"", b"a", b"abc" * 50_000])
def test_a_compressed_message_is_compressed_by_itself(type: int, payload: bytes) -> None:
    message = made(type, payload, compress=True)
    for _ in range(2):  # the second time just as the first
        data = written(message)
        assert data[0] == 0xC0 | type
        assert len(data) < 1000
        again = read(data)
        assert (again.compress, again.read()) == (True, payload)
    assert message.body.getvalue() == payload  # type: ignore[attr-defined]


@pytest.mark.parametrize("type", [CONTINUE, 3, CLOSE, PING, PONG])
def test_nothing_but_text_and_binary_is_compressed(type: int) -> None:
    message = made(type, b"a" * 100, compress=True)
    assert not message.compress
    message.compress = True
    assert written(message)[0] == 0x80 | type


def test_a_compressed_control_frame_and_rsv1_of_any_fragment_are_inflated() -> None:
    ping = read(frame(PING, deflated(b"hello"), rsv=4))
    assert (ping.type, ping.compress, ping.data) == (PING, True, b"hello")
    half = deflated(b"hello")
    late = read(frame(TEXT, half[:3], fin=False) + frame(CONTINUE, half[3:], rsv=4))
    assert (late.compress, late.data) == (True, "hello")


# -- faults --------------------------------------------------------------------------------------------------------

MIDDLE = frame(TEXT, b"abc", fin=False)
FAULTS = [
    (b"", syncws.EndOfStream, 1001),
    (b"\x81", syncws.BrokenStream, 1001),
    (MIDDLE, syncws.BrokenStream, 1001),
    (MIDDLE + b"\x80", syncws.BrokenStream, 1001),
    (b"\x81\x05Hell", syncws.BrokenStream, 1001),
    (b"\x81\x05", syncws.BrokenStream, 1001),
    (MIDDLE + b"\x80\x02a", syncws.BrokenStream, 1001),
    (b"\x81\x7e\x01", syncws.InvalidData, 1007),
    (b"\x81\x7f" + bytes(7), syncws.InvalidData, 1007),
    (b"\x81\x85\x37\xfa\x21", syncws.InvalidData, 1007),
    (b"\x81\xfe\x01\x00\x37", syncws.InvalidData, 1007),
    (frame(TEXT, b"a", rsv=2), syncws.InvalidData, 1007),
    (frame(TEXT, b"a", rsv=1), syncws.InvalidData, 1007),
    (frame(TEXT, deflated(b"a"), rsv=5), syncws.InvalidData, 1007),
    (MIDDLE + frame(CONTINUE, b"d", rsv=2), syncws.InvalidData, 1007),
    (MIDDLE + frame(CONTINUE, b"d", mask=KEY), syncws.InvalidData, 1007),
    (frame(TEXT, b"a", fin=False, mask=KEY) + frame(CONTINUE, b"d"), syncws.InvalidData, 1007),
    (MIDDLE + frame(TEXT, b"d"), syncws.InvalidData, 1007),
    (MIDDLE + frame(PING, b"d"), syncws.InvalidData, 1007),
    (frame(TEXT, b"\xff\xff\xff", rsv=4), syncws.InvalidData, 1007),
    (b"\x81\x7e\x00\x05Hello", syncws.ProtocolError, 1002),
    (b"\x81\x7f" + bytes(6) + b"\x01\x00" + bytes(256), syncws.ProtocolError, 1002),
    (b"\x81\xff\xff" + bytes(11), syncws.ProtocolError, 1002),
    (frame(BINARY, bytes(1001)), syncws.MessageTooBig, 1009),
    (frame(BINARY, length=1001), syncws.MessageTooBig, 1009),
    (frame(BINARY, bytes(600), fin=False) + frame(CONTINUE, length=401), syncws.MessageTooBig, 1009),
    (frame(BINARY, deflated(bytes(1001)), rsv=4), syncws.MessageTooBig, 1009),
]


@pytest.mark.parametrize(("data", "error", "code"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_raises_what_it_is_and_leaves_the_message_as_it_was(data: bytes, error: Any, code: int) -> None:
    message = made(TEXT, b"before", max_payload=1000)
    with pytest.raises(error) as caught:
        message.read_from(io.BytesIO(data))
    assert type(caught.value) is error
    assert code == (caught.value.close_code if hasattr(error, "close_code") else caught.value.code)
    assert (message.type, message.masked, message.compress, message.data) == (TEXT, True, False, "before")


def test_the_end_is_an_eof_error_and_a_torn_message_an_os_error() -> None:
    with pytest.raises(EOFError, match="where a message would begin"):
        read(b"")
    with pytest.raises(ConnectionError, match="1 bytes before the payload did") as caught:
        read(b"\x81\x05Hell")
    assert not isinstance(caught.value, EOFError)
    assert caught.value.errno is None


def test_a_message_of_just_the_limit_is_taken_and_zero_is_no_limit() -> None:
    for data in (frame(BINARY, bytes(1000)), frame(BINARY, deflated(bytes(1000)), rsv=4)):
        assert read(data, max_payload=1000).length == 1000
        assert read(data, max_payload=0).length == 1000


def test_what_is_too_big_by_its_header_is_not_read() -> None:
    stream = io.BytesIO(frame(BINARY, bytes(1001)))
    with pytest.raises(syncws.MessageTooBig):
        Message(max_payload=1000).read_from(stream)
    assert stream.tell() == 4


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    import tracemalloc

    bomb = frame(BINARY, deflated(bytes(100 << 20)), rsv=4)
    tracemalloc.start()
    try:
        with pytest.raises(syncws.MessageTooBig):
            read(bomb, max_payload=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_header_that_announces_much_costs_nothing() -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(syncws.BrokenStream):
            read(frame(BINARY, bytes(100), length=60 << 20))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_fragments_without_end_are_a_policy_error() -> None:
    class Endless:
        def read(self, size: int) -> bytes:
            return b"\x00\x00"

    with pytest.raises(syncws.PolicyError) as caught:
        Message().read_from(Endless())
    assert caught.value.close_code == 1008


@pytest.mark.parametrize("type", [CLOSE, PING, PONG])
def test_a_control_frame_of_more_than_125_bytes_is_not_written_but_read(type: int) -> None:
    stream = io.BytesIO()
    with pytest.raises(ValueError, match="at most 125 bytes, not 126"):
        made(type, bytes(126)).send_to(stream)
    assert stream.getvalue() == b""
    assert read(frame(type, bytes(126))).length == 126


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"type": 16}, ValueError),
        ({"type": -1}, ValueError),
        ({"type": "TEXT"}, TypeError),
        ({"type": True}, TypeError),
        ({"max_payload": -1}, ValueError),
        ({"max_payload": 1.5}, TypeError),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, error: Any) -> None:
    with pytest.raises(error, match=next(iter(arguments))):
        Message(**arguments)


def test_a_type_that_is_none_cannot_be_set() -> None:
    message = Message()
    with pytest.raises(ValueError):
        message.type = 16
    assert message.type == BINARY


@pytest.mark.parametrize("stream", [None, 5, "text"])
def test_what_is_no_stream_is_a_type_error(stream: Any) -> None:
    for method in (Message().send_to, Message().read_from):
        with pytest.raises(TypeError, match="binary stream"):
            method(stream)


def test_a_stream_of_text_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        Message().send_to(io.StringIO())
    with pytest.raises(TypeError, match="binary stream"):
        Message().read_from(io.StringIO("text"))


# -- the body ------------------------------------------------------------------------------------------------------


def test_defaults_are_an_empty_masked_binary_message() -> None:
    message = Message()
    assert (message.type, message.masked, message.compress, message.max_payload) == (BINARY, True, False, 64 << 20)
    assert (message.length, message.data, message.read(), message.stream) == (0, b"", b"", None)
    assert Message(TEXT).data == ""
    assert repr(Message(TEXT)) == "<Message TEXT, 0 bytes>"


def test_data_is_all_of_the_body_wherever_it_stands() -> None:
    message = made(TEXT, "grüße".encode())
    assert message.data == message.data == "grüße"
    message.type = BINARY
    assert message.data == "grüße".encode()


def test_the_body_is_read_written_and_sought() -> None:
    message = made(BINARY, b"abcdef")
    message.body.seek(2)
    assert (message.read(2), message.read(), message.read(5)) == (b"cd", b"ef", b"")
    message.body.seek(0)
    message.write(memoryview(b"AB"))
    assert (message.length, message.data) == (6, b"ABcdef")
    with pytest.raises(TypeError):
        message.write("text")  # type: ignore[arg-type]


def test_sending_leaves_the_body_where_it_stands() -> None:
    message = made(BINARY, b"abcdef", masked=False)
    message.body.seek(2)
    assert written(message) == b"\x82\x06abcdef"
    assert message.read() == b"cdef"


def test_what_was_read_stands_at_its_beginning() -> None:
    stream = io.BytesIO(frame(TEXT, b"abc"))
    message = made(TEXT, b"before")
    message.read_from(stream)
    assert (message.read(2), message.length, message.stream) == (b"ab", 3, stream)


def test_another_stream_may_be_the_body(tmp_path: Any) -> None:
    message = Message(masked=False)
    with (tmp_path / "body").open("w+b") as file:
        message.body = file
        message.write(b"abc")
        assert (message.length, message.data) == (3, b"abc")
        file.seek(1)
        assert written(message) == b"\x82\x03abc"
        assert message.read() == b"bc"
    with pytest.raises(TypeError):
        message.body = b"abc"  # type: ignore[assignment]


def test_text_that_is_no_utf_8_is_read_and_its_data_is_invalid() -> None:
    message = read(frame(TEXT, b"ab\xff"))
    assert message.read() == b"ab\xff"
    with pytest.raises(syncws.InvalidData, match="at 2"):
        _ = message.data


@pytest.mark.parametrize("value", [None, True, 1.5, "ü", [1, {"a": "\u2028"}], {}])
def test_json_replaces_the_body_and_reads_it(value: Any) -> None:
    message = made(TEXT, b"something much longer than that")
    assert message.json(value) is None
    assert message.json() == value
    assert message.type == TEXT
    assert read(written(message)).json() == value


@pytest.mark.parametrize(
    ("value", "error"), [(float("nan"), ValueError), (object(), TypeError), ("\ud800", ValueError)]
)
def test_what_json_cannot_say_leaves_the_body(value: Any, error: Any) -> None:
    message = made(TEXT, b"[1]")
    with pytest.raises(error):
        message.json(value)
    assert message.json() == [1]


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff"])
def test_a_body_that_is_no_json_is_a_value_error(payload: bytes) -> None:
    with pytest.raises(ValueError):
        made(TEXT, payload).json()


# -- streams -------------------------------------------------------------------------------------------------------


class Trickle(io.RawIOBase):
    """A raw stream that reads and writes at most `step` bytes at a time."""

    def __init__(self, data: bytes = b"", step: int = 1) -> None:
        self.data = bytearray(data)
        self.step = step

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = self.data[: min(len(buffer), self.step)]
        buffer[: len(taken)] = taken
        del self.data[: len(taken)]
        return len(taken)

    def write(self, data: Any) -> int:
        self.data += bytes(data[: self.step])
        return min(len(data), self.step)


LONG = bytes(range(256)) * 300
MANY = [made(TEXT, b"Hello"), made(BINARY, LONG, compress=True), made(PING, b""), made(7, b"x" * 999)]


def check_many(read_next: Any) -> None:
    for expected in MANY:
        message = read_next()
        assert (message.type, message.data, message.compress) == (expected.type, expected.data, expected.compress)


@pytest.mark.parametrize("step", [1, 3, 1000, 1 << 20])
def test_short_reads_and_partial_writes_change_nothing(step: int) -> None:
    stream = Trickle(step=step)
    for message in MANY:
        message.send_to(stream)

    def read_next() -> Message:
        message = Message()
        message.read_from(stream)
        return message

    check_many(read_next)
    with pytest.raises(syncws.EndOfStream):
        read_next()


def test_messages_cross_a_socket_one_by_one() -> None:
    here, there = world.pair_of_sockets()
    with here, there, here.makefile("wb") as sending, there.makefile("rb", 0) as receiving:

        def read_next() -> Message:
            message = Message()
            message.read_from(receiving)
            return message

        for message in MANY:  # each is there before the next is sent: the buffer is flushed
            message.send_to(sending)
            assert read_next().data == message.data
        task = world.spawn(lambda: [message.send_to(sending) for message in MANY])
        check_many(read_next)
        task.result()


def test_a_file_like_whose_write_says_nothing_took_all() -> None:
    class Silent:
        def __init__(self) -> None:
            self.data = b""

        def write(self, data: Any) -> None:
            self.data += data

    stream = Silent()
    made(BINARY, bytes(30_000), masked=False).send_to(stream)
    assert read(stream.data).length == 30_000


@pytest.mark.parametrize("count", [-1, 10**6])
def test_a_stream_that_claims_to_take_what_it_was_not_given_is_refused(count: int) -> None:
    class Liar:
        def write(self, data: Any) -> int:
            return count

    with pytest.raises(ValueError, match="to take at most"):
        made(BINARY, b"abc", masked=False).send_to(Liar())


def test_a_stream_that_does_not_block_is_refused() -> None:
    class Nothing(Trickle):
        def readinto(self, buffer: Any) -> Any:
            return None

        def write(self, data: Any) -> Any:
            return None

    for method in (Message().send_to, Message().read_from):
        with pytest.raises(BlockingIOError):
            method(Nothing())


def test_a_connection_takes_what_a_message_writes() -> None:
    """`Message` over the stream of a connection: a WebSocket within a WebSocket."""
    with world.serving() as server, world.Socket(world.url_of(server)) as ws, ws.makefile("rwb") as stream:
        for message in MANY:
            message.send_to(stream)
            echoed = Message()
            echoed.read_from(stream)
            assert (echoed.type, echoed.data) == (message.type, message.data)


@given(
    st.sampled_from([TEXT, BINARY]),
    st.lists(st.binary(max_size=300), min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
    st.integers(1, 400),
)
def test_any_cut_into_fragments_is_one_message(
    type: int, pieces: list[bytes], masked: bool, compress: bool, step: int
) -> None:
    payload = b"".join(pieces)
    data = b""
    rest = deflated(payload) if compress else payload
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        part, rest = (rest, b"") if last else (rest[: len(piece)], rest[len(piece) :])
        opcode, rsv = (type, 4 if compress else 0) if number == 0 else (CONTINUE, 0)
        data += frame(opcode, part, fin=last, rsv=rsv, mask=KEY if masked else None)
    message = Message()
    message.read_from(Trickle(data, step))
    assert (message.type, message.masked, message.compress, message.read()) == (type, masked, compress, payload)
