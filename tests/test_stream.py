"""`makefile`: a connection as a file, by the conventions of io and of the files of sockets."""

from __future__ import annotations

import gc
import hashlib
import io
import random
import shutil
import tracemalloc
import warnings
from typing import Any

import pytest
import world
from hixie import END, Hixie, framed
from pairs import SIDES, connected, still_works
from peer import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, close_payload
from world import PATIENCE, Event, Socket, eventually, serving, spawn, url_of

import syncws

each_side = pytest.mark.parametrize("side", SIDES)
each_buffering = pytest.mark.parametrize("buffering", [-1, None, 0, 1, 100, 1 << 20])
DATA = random.Random(1).randbytes(5 << 20)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def end(peer: Any, code: int | None = 1000) -> Any:
    """The peer's answer to our Close, on its own: closing a file waits for it."""

    def answer() -> None:
        peer.expect_close(code)
        peer.end()

    return spawn(answer)


# -- modes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "reads", "writes", "text"),
    [
        ("r", True, False, True),
        ("w", False, True, True),
        ("rw", True, True, True),
        ("rb", True, False, False),
        ("wb", False, True, False),
        ("rwb", True, True, False),
        ("bwr", True, True, False),
    ],
)
@pytest.mark.parametrize("buffering", [-1, 0, 1, 100])
def test_a_file_can_do_what_its_mode_says(mode: str, reads: bool, writes: bool, text: bool, buffering: int) -> None:
    if text and buffering == 0:
        return
    with connected() as (ws, peer):
        file = ws.makefile(mode, buffering)
        kind = io.TextIOBase if text else io.BufferedIOBase if buffering else io.RawIOBase
        assert isinstance(file, kind)
        assert (file.readable(), file.writable(), file.seekable(), file.isatty()) == (reads, writes, False, False)
        if not reads:
            for call in (file.read, file.readline, lambda: next(file)):
                with pytest.raises(io.UnsupportedOperation):
                    call()
        if not writes:
            with pytest.raises(io.UnsupportedOperation):
                file.write("a" if text else b"a")
        for call in (file.fileno, file.tell, lambda: file.seek(0), file.detach if buffering else file.tell):
            with pytest.raises(io.UnsupportedOperation):
                call()
        still_works(ws, peer)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("",), ValueError),
        (("b",), ValueError),
        (("a",), ValueError),
        (("r+",), ValueError),
        ((None,), TypeError),
        (("r", 0), ValueError),
        (("rb", 1.5), TypeError),
        (("rb", "1"), TypeError),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, error: Any) -> None:
    with connected() as (ws, _), pytest.raises(error):
        ws.makefile(*arguments)


@pytest.mark.parametrize(
    ("how", "error"),
    [({"encoding": "no such"}, LookupError), ({"newline": "x"}, ValueError), ({"errors": 5}, TypeError)],
)
def test_bad_ways_of_text_are_refused_and_there_is_no_file(how: Any, error: Any) -> None:
    with connected() as (ws, peer):
        with pytest.raises(error):
            ws.makefile("rw", **how)
        with pytest.raises(ValueError, match="text"):
            ws.makefile("rwb", **{"encoding": "utf-8", **how})
        gc.collect()
        closing = end(peer)
        ws.makefile().close()  # the only one
        closing.result()


# -- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2**62, 10**20])
def test_a_buffer_beyond_all_memory_is_refused_and_leaves_nothing(size: int) -> None:
    with connected() as (ws, peer):
        with pytest.raises((MemoryError, OverflowError, ValueError)):
            ws.makefile("rb", size)
        still_works(ws, peer)


@each_side
@each_buffering
def test_messages_of_both_types_are_one_stream(side: str, buffering: Any) -> None:
    with connected(side) as (ws, peer):
        messages = [(BINARY, b"ab\xff"), (TEXT, "grü".encode()), (BINARY, b""), (TEXT, b""), (BINARY, b"z")]
        for opcode, payload in messages:
            peer.send(opcode, payload)
        peer.send(BINARY, b"frag", fin=False)
        peer.send(PING, b"between")
        peer.send(CONTINUE, b"ments")
        peer.send(CLOSE, close_payload(1000))
        assert ws.makefile("rb", buffering).read() == b"ab\xff" + "grü".encode() + b"zfragments"


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "fragments"])
def test_the_binary_type_makes_no_difference(kind: str) -> None:
    with connected(binaryType=kind) as (ws, peer):
        file = ws.makefile("rb", 0)
        peer.send(BINARY, b"whole")
        peer.send(BINARY, b"in ", fin=False)
        peer.send(CONTINUE, b"two")
        got = [file.read(100), file.read(4), file.read(100)]
        assert got == [b"whole", b"in t", b"wo"]
        assert {type(piece) for piece in got} == {bytes}


def test_a_raw_read_gives_what_one_message_has_left() -> None:
    with connected() as (ws, peer):
        file = ws.makefile("rb", 0)
        peer.send(BINARY, b"abcde")
        peer.send(BINARY, b"fg")
        assert [file.read(2), file.read(0), file.read(100), file.read(100)] == [b"ab", b"", b"cde", b"fg"]


def test_what_a_read_leaves_is_there_for_another_file() -> None:
    with connected() as (ws, peer):
        first = ws.makefile("rb", 0)
        second = ws.makefile("rb", 0)
        peer.send(BINARY, b"abcde")
        assert (first.read(2), second.read(2), first.read(2)) == (b"ab", b"cd", b"e")


def test_a_buffered_read_waits_for_all_of_it_and_read1_does_not() -> None:
    with connected() as (ws, peer):
        file = ws.makefile("rb")
        peer.send(BINARY, b"abc")
        assert file.read1(100) == b"abc"
        peer.send(BINARY, b"de")
        reading = spawn(file.read, 4)
        peer.send(BINARY, b"fg\nhi\n")
        assert reading.result() == b"defg"
        assert (file.peek(1)[:1], file.readline(), file.readline()) == (b"\n", b"\n", b"hi\n")
        peer.send(BINARY, b"jkl")
        room = bytearray(4)
        assert (file.readinto1(room), room) == (3, b"jkl\0")
        peer.send(BINARY, b"mn")
        peer.send(BINARY, b"op")
        assert (file.readinto(memoryview(room)), room) == (4, b"mnop")


def test_a_message_that_was_read_takes_no_more_memory() -> None:
    with connected(compression=False) as (ws, peer):
        file = ws.makefile("rb", 0)
        sending = spawn(peer.send, BINARY, bytes(8 << 20))
        tracemalloc.start()
        try:
            assert len(file.read(1)) == 1
            assert tracemalloc.get_traced_memory()[0] > 8 << 20
            assert file.readinto(bytearray(8 << 20)) == (8 << 20) - 1
            assert tracemalloc.get_traced_memory()[0] < 4 << 20
        finally:
            tracemalloc.stop()
        sending.result()


def test_lines_are_iterated() -> None:
    with connected() as (ws, peer):
        peer.send(BINARY, b"a\nb")
        peer.send(TEXT, b"c\n\nd")
        peer.send(CLOSE)
        assert list(ws.makefile("rb")) == [b"a\n", b"bc\n", b"\n", b"d"]


def test_readinto_copies_once() -> None:
    with connected(compression=False, max_payload=0) as (ws, peer):
        size = 8 << 20
        file = ws.makefile("rb", 0)
        sending = spawn(peer.send, BINARY, bytes(size))
        file.readinto(bytearray(1))  # the message is here
        sending.result()
        room = bytearray(size)
        tracemalloc.start()
        try:
            assert file.readinto(memoryview(room)) == size - 1
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()


# -- the end -------------------------------------------------------------------------------------------------------


@each_side
@each_buffering
@pytest.mark.parametrize("payload", [b"", close_payload(1000), close_payload(1000, "done")])
def test_a_close_with_1000_or_without_a_code_is_the_end_and_stays_it(side: str, buffering: Any, payload: bytes) -> None:
    with connected(side) as (ws, peer):
        peer.send(BINARY, b"last")
        peer.send(CLOSE, payload)
        file = ws.makefile("rb", buffering)
        assert file.read(4) == b"last"
        for _ in range(3):
            assert file.read(1) == b""
            assert file.readinto(bytearray(5)) == 0
            assert file.read() == b""


def reset(peer: Any) -> None:
    peer.reset()


TEARS = [
    (lambda peer: peer.send(CLOSE, close_payload(1001)), 1001),
    (lambda peer: peer.send(CLOSE, close_payload(1011, "why")), 1011),
    (lambda peer: peer.send(CLOSE, close_payload(4000)), 4000),
    (lambda peer: peer.end(), 1006),
    (lambda peer: peer.reset(), 1006),
    (lambda peer: peer.send_raw(b"\x82\x7e"), 1006),
    (lambda peer: peer.send(3, b""), 1006),
]


@each_side
@pytest.mark.parametrize("buffering", [-1, 0, 100])
@pytest.mark.parametrize(("tear", "code"), TEARS, ids=range(len(TEARS)))
def test_any_other_end_is_a_broken_stream_each_time(side: str, buffering: int, tear: Any, code: int) -> None:
    with connected(side) as (ws, peer):
        file = ws.makefile("rb", buffering)
        peer.send(BINARY, b"some")
        assert file.read(4) == b"some"
        tear(peer)
        peer.end()
        for read in (lambda: file.read(1), file.read, lambda: file.readinto(bytearray(1))):
            with pytest.raises(syncws.BrokenStream) as caught:
                read()
            assert caught.value.code == code
            assert isinstance(caught.value, (OSError, syncws.ConnectionClosed))
            assert isinstance(caught.value.__cause__, syncws.ConnectionClosed)


@each_side
@pytest.mark.parametrize(("tear", "code"), TEARS, ids=range(len(TEARS)))
def test_a_copy_of_a_torn_stream_is_an_error(side: str, tear: Any, code: int) -> None:
    with connected(side) as (ws, peer):
        for _ in range(3):
            peer.send(BINARY, bytes(1000))
        tear(peer)
        peer.end()
        with pytest.raises(OSError):
            shutil.copyfileobj(ws.makefile("rb"), io.BytesIO())


# -- writing -------------------------------------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize("buffering", [-1, None, 0])
@pytest.mark.parametrize("mode", ["wb", "rwb"])
def test_each_write_is_one_binary_message_at_once(side: str, buffering: Any, mode: str) -> None:
    with connected(side) as (ws, peer):
        file = ws.makefile(mode, buffering)
        for data in (b"a", bytearray(b"bc"), memoryview(b"defg")[1:3], b"x" * 20_000):
            assert file.write(data) == len(data)
            assert peer.read()[2:] == (BINARY, side == "client", bytes(data))
        assert file.write(b"") == 0
        file.flush()
        file.writelines([b"h", b"i"])
        assert [peer.read().payload, peer.read().payload] == [b"h", b"i"]


def test_a_buffer_gathers_what_is_written() -> None:
    with connected() as (ws, peer):
        file = ws.makefile("wb", 10)
        for data in (b"abc", b"def", b"ghij"):
            assert file.write(data) == len(data)
        file.write(b"k")  # no room for it beside those
        assert peer.read().payload == b"abcdefghij"
        file.write(b"l" * 10)
        assert [peer.read().payload, peer.read().payload] == [b"k", b"l" * 10]
        file.write(b"mn")
        file.flush()
        file.flush()
        assert peer.read().payload == b"mn"
        closing = spawn(lambda: [peer.read().payload, peer.expect_close(1000).code, peer.end()])
        file.write(b"last")
        file.close()
        assert closing.result() == [b"last", 1000, None]


@pytest.mark.parametrize("data", ["text", None, 5, [b"a"], memoryview(b"abcd")[::2]])
@pytest.mark.parametrize("buffering", [-1, 0, 10])
def test_what_is_no_buffer_is_a_type_error(data: Any, buffering: int) -> None:
    with connected() as (ws, peer):
        with pytest.raises(TypeError):
            ws.makefile("wb", buffering).write(data)
        still_works(ws, peer)


@each_side
@pytest.mark.parametrize("buffering", [-1, 0, 2])
def test_writing_to_a_closed_connection_is_a_broken_stream(side: str, buffering: int) -> None:
    with connected(side) as (ws, peer):
        file = ws.makefile("wb", buffering)
        peer.send(CLOSE, close_payload(1000))
        peer.end()
        with pytest.raises(syncws.ConnectionClosed):
            ws.recv(PATIENCE)
        with pytest.raises(syncws.BrokenStream) as caught:
            file.write(b"too late")
        assert caught.value.code == 1000
        file.close()  # it has said so already


def test_a_write_waits_for_the_connection_to_be_open() -> None:
    with serving() as server, Socket(url_of(server), blocking=False) as ws:
        file = ws.makefile("rwb", 0)
        assert file.write(b"early") == 5
        assert file.read(5) == b"early"


def test_a_write_does_not_wait_for_a_connection_that_cannot_be_had() -> None:
    listener = world.raw_listener()
    address = listener.getsockname()
    listener.close()
    ws = Socket(f"ws://127.0.0.1:{address[1]}/", blocking=False)
    with pytest.raises(syncws.BrokenStream):
        ws.makefile("wb").write(b"lost")
    assert ws.wait_closed(PATIENCE)


# -- back-pressure -------------------------------------------------------------------------------------------------


@each_side
def test_a_write_waits_for_the_peer_to_read(side: str) -> None:
    with connected(side, small=True) as (ws, peer):
        file = ws.makefile("wb")
        writing = spawn(file.write, bytes(300_000))
        eventually(lambda: ws.bufferedAmount)
        assert not writing.done
        assert len(peer.read().payload) == 300_000
        assert writing.result() == 300_000


def test_nothing_is_read_ahead_beyond_the_queue() -> None:
    with connected(compression=False, max_queue=4) as (ws, peer):
        size = 50_000
        sending = spawn(lambda: [peer.send(BINARY, bytes(size)) for _ in range(400)])
        file = ws.makefile("rb", 0)
        assert len(file.read(size)) == size
        eventually(lambda: ws.bytes_received > 2 * size)
        known = -1
        while known != ws.bytes_received:
            known = ws.bytes_received
            world.sleep(0.3)  # longer than a tick of the attendant, who would read on
        assert known < 20 * size
        assert not sending.done
        for _ in range(399):
            assert file.readinto(bytearray(size)) == size
        sending.result()


# -- closing -------------------------------------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize("mode", ["rb", "wb", "rwb", "r", "w", "rw"])
def test_closing_the_only_file_closes_the_connection_and_waits(side: str, mode: str) -> None:
    with connected(side) as (ws, peer):
        closing = end(peer)
        with ws.makefile(mode) as file:
            assert not file.closed
        assert file.closed
        assert (ws.readyState, ws.close_code) == (ws.CLOSED, 1000)
        closing.result()
        file.close()
        with ws.makefile(mode) as file:  # closed, closed again, nothing
            pass


@each_side
def test_of_two_files_the_writing_one_says_the_end_and_the_reading_one_reads_on(side: str) -> None:
    with connected(side) as (ws, peer):
        reading, writing = ws.makefile("rb"), ws.makefile("wb")
        writing.write(b"question")
        writing.close()
        assert peer.read().payload == b"question"
        assert peer.read().code == 1000
        peer.send(BINARY, b"answer")
        peer.send(CLOSE, close_payload(1000))
        peer.end()
        assert reading.read() == b"answer"
        reading.close()
        assert ws.readyState == ws.CLOSED


@each_side
def test_of_two_files_the_reading_one_says_nothing(side: str) -> None:
    with connected(side) as (ws, peer):
        with ws.makefile("wb") as writing:
            ws.makefile("rb").close()
            with ws.makefile("wb") as another:
                another.write(b"a")
            writing.write(b"b")
            assert [peer.read().payload, peer.read().payload] == [b"a", b"b"]
            closing = end(peer)
        closing.result()


@each_side
@pytest.mark.parametrize(("mode", "buffering"), [("rwb", -1), ("rwb", 0), ("wb", 100), ("rw", -1), ("w", 100)])
def test_a_block_that_raises_closes_with_1011_and_sends_nothing_more(side: str, mode: str, buffering: int) -> None:
    with connected(side) as (ws, peer):
        closing = end(peer, 1011)
        with pytest.raises(LookupError), ws.makefile(mode, buffering) as file:
            if buffering == 100:
                file.write("lost" if mode == "w" else b"lost")
            raise LookupError
        closing.result()
        assert file.closed


@pytest.mark.parametrize("code", [1001, 1011, 4000])
@pytest.mark.parametrize("buffering", [-1, 0, 100])
def test_an_end_that_the_peer_does_not_agree_to_is_told_to_the_writer(code: int, buffering: int) -> None:
    with connected() as (ws, peer):
        file = ws.makefile("wb", buffering)
        file.write(b"a" * 100)
        assert peer.read().payload == b"a" * 100
        peer.send(CLOSE, close_payload(code))
        peer.end()
        with pytest.raises(syncws.BrokenStream) as caught:
            file.close()
        assert (caught.value.code, caught.value.wasClean) == (code, True)
        assert file.closed
        file.close()


def test_an_end_without_an_answer_is_told_to_the_writer_and_not_to_a_reader() -> None:
    for mode, problem in (("wb", pytest.raises(syncws.BrokenStream)), ("rb", world.contextlib.nullcontext())):
        with connected(close_timeout=0.2) as (ws, _):
            file = ws.makefile(mode)
            if mode == "wb":
                file.write(b"a")
            with problem:
                file.close()
            assert ws.readyState == ws.CLOSED


def test_a_closed_file_can_do_nothing() -> None:
    with serving() as server:
        for mode, buffering in (("rwb", 0), ("rwb", -1), ("rwb", 10), ("rw", -1)):
            with Socket(url_of(server)) as ws:
                file = ws.makefile(mode, buffering)
                file.close()
                data: Any = "a" if mode == "rw" else b"a"
                for call in (file.read, lambda file=file: file.read(1), file.readline, file.flush):
                    with pytest.raises(ValueError, match="closed"):
                        call()
                with pytest.raises(ValueError, match="closed"):
                    file.write(data)


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_reader_is_freed_by_closing_its_file(buffering: int) -> None:
    with serving() as server, Socket(url_of(server)) as ws:
        file = ws.makefile("rb", buffering)
        reading = spawn(file.read, 5)
        eventually(lambda: ws._sharing.reading.holder)
        file.close()
        assert reading.result() == b""


def test_a_file_that_is_dropped_closes_nothing() -> None:
    with connected() as (ws, peer), warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode, buffering in (("rwb", 0), ("rwb", -1), ("rwb", 100), ("rw", -1), ("rw", 100)):
            file = ws.makefile(mode, buffering)
            assert file
            del file
            gc.collect()
        still_works(ws, peer)


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_what_a_dropped_file_had_gathered_is_warned_of(mode: str) -> None:
    with connected() as (ws, peer):
        file = ws.makefile(mode, 100)
        file.write("lost" if mode == "w" else b"lost")
        with pytest.warns(ResourceWarning, match="4 bytes were never sent"):
            del file
            gc.collect()
        still_works(ws, peer)


def test_a_file_dropped_under_the_state_lock_does_not_wait_for_it() -> None:
    with connected() as (ws, peer):
        held = [ws.makefile("rwb"), ws.makefile("rw"), ws.makefile("rwb", 0)]
        with ws._lock:
            held.clear()
            gc.collect()
        still_works(ws, peer)


# -- text ----------------------------------------------------------------------------------------------------------


def test_text_is_utf_8_and_lines() -> None:
    with connected() as (ws, peer):
        file = ws.makefile("rw")
        assert (file.encoding, file.errors) == ("utf-8", "strict")
        assert file.write("grü\n") == 4
        assert peer.read()[2:] == (BINARY, True, "grü\n".encode())
        text = "grüße\r\nworld\n".encode()
        peer.send(BINARY, text[:3])  # in the middle of a character
        peer.send(BINARY, text[3:])
        peer.send(TEXT, b"the rest")
        peer.send(CLOSE, close_payload(1000))
        assert (file.readline(), file.read(3), file.read()) == ("grüße\n", "wor", "ld\nthe rest")


def test_bytes_that_are_no_text_are_a_unicode_error() -> None:
    with connected() as (ws, peer):
        peer.send(BINARY, b"ab\xff\n")
        with pytest.raises(UnicodeDecodeError):
            ws.makefile("r").readline()


def test_reading_and_writing_text_by_turns_loses_nothing() -> None:
    with serving() as server, Socket(url_of(server)) as ws, ws.makefile("rw") as file:
        file.write("one\ntwo\nthree\n")
        for line in ("one\n", "two\n", "three\n"):
            assert file.readline() == line
            file.write("again\n")  # what was read ahead stays
        assert [file.readline() for _ in range(3)] == ["again\n"] * 3


@pytest.mark.parametrize(
    ("how", "received", "text", "sent"),
    [
        ({"encoding": "latin-1"}, b"gr\xfc\r\n", "grü\n", b"gr\xfc\n"),
        ({"newline": "\r\n"}, b"gr\r\n", "gr\r\n", None),
        ({"newline": ""}, b"gr\r\n", "gr\r\n", None),
        ({"errors": "replace"}, b"gr\xff\n", "gr\ufffd\n", None),
        ({"encoding": "ascii", "errors": "backslashreplace"}, b"gr\xff\n", "gr\\xff\n", None),
    ],
)
def test_text_is_as_the_caller_wants_it(how: Any, received: bytes, text: str, sent: Any) -> None:
    with connected() as (ws, peer):
        file = ws.makefile("rw", **how)
        peer.send(BINARY, received)
        assert file.readline() == text
        if sent is not None:
            file.write(text)
            assert peer.read().payload == sent


def test_text_of_a_buffer_of_one_leaves_by_lines_and_of_more_by_flushes() -> None:
    with connected() as (ws, peer):
        by_lines = ws.makefile("w", 1)
        by_lines.write("half ")
        by_lines.write("line\n")
        assert peer.read().payload == b"half line\n"
        more = ws.makefile("w", 1000)
        more.write("one\n")
        more.write("two\n")
        more.flush()
        assert peer.read().payload == b"one\ntwo\n"


# -- with others ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffering", [-1, 0])
def test_reading_beside_a_message_listener_is_a_runtime_error(buffering: int) -> None:
    with connected() as (ws, peer):
        file = ws.makefile("rwb", buffering)
        ws.onmessage = lambda event: None
        with pytest.raises(RuntimeError):
            file.read(1)
        file.write(b"but writing")
        assert peer.read().payload == b"but writing"


def test_control_frames_pass_beside_a_file() -> None:
    with connected() as (ws, peer):
        file = ws.makefile()
        ws.ping(b"p")
        assert peer.read()[2::2] == (PING, b"p")
        peer.send(PING, b"q")
        peer.send(BINARY, b"data")
        assert file.read(4) == b"data"
        assert peer.read()[2::2] == (PONG, b"q")


@pytest.mark.parametrize("buffering", [-1, 0])
def test_writes_of_many_are_messages_of_their_own(buffering: int) -> None:
    with connected(small=True) as (ws, peer):
        file = ws.makefile("wb", buffering)

        def write_some(who: int) -> None:
            for number in range(10):
                file.write(b"%d" % who * (1 + number * 900))

        tasks = [spawn(write_some, who) for who in range(6)]
        got = [peer.read().payload for _ in range(60)]
        for task in tasks:
            task.result()
        for who in range(6):
            mine = [len(payload) for payload in got if payload[:1] == b"%d" % who]
            assert mine == [1 + number * 900 for number in range(10)]
        assert all(len(set(payload)) == 1 for payload in got)


def test_writes_of_many_into_one_buffer_are_whole() -> None:
    with connected() as (ws, peer):
        file = ws.makefile("wb", 1000)

        def write_some(who: bytes) -> None:
            for number in range(200):
                file.write(who * 3 + b"%03d" % number)

        tasks = [spawn(write_some, who) for who in (b"a", b"b", b"c")]
        for task in tasks:
            task.result()
        file.flush()
        stream = b""
        while len(stream) < 3600:
            stream += peer.read().payload
        records = [stream[at : at + 6] for at in range(0, 3600, 6)]
        for who in (b"a", b"b", b"c"):
            assert [r for r in records if r[:3] == who * 3] == [who * 3 + b"%03d" % number for number in range(200)]


def test_of_many_readers_each_byte_goes_to_one() -> None:
    with connected() as (ws, peer):
        file = ws.makefile("rb", 0)

        def read_all() -> list[bytes]:
            return list(iter(lambda: file.read(7), b""))

        tasks = [spawn(read_all) for _ in range(4)]
        for number in range(200):
            peer.send(BINARY, bytes([number]) * 20)
        peer.send(CLOSE)
        got = b"".join(b"".join(task.result()) for task in tasks)
        assert sorted(got) == [number for number in range(200) for _ in range(20)]


def test_with_hixie_76_text_is_read_and_bytes_are_not_written() -> None:
    seen: list[Any] = []
    over = Event()

    def accept(ws: Any, request: Any) -> None:
        file = ws.makefile("rwb")
        seen.append(file.readline())
        with pytest.raises(TypeError):
            file.write(b"bytes")
        ws.send("text")
        seen.append(file.read())
        over.set()

    with serving(accept, legacy=True) as server, Hixie.connect(server) as client:
        client.sock.sendall(framed("one\ntwo"))
        assert client.read() == "text"
        client.sock.sendall(framed("three") + END)
        assert over.wait(PATIENCE)
        assert seen == [b"one\n", b"twothree"]


# -- copies --------------------------------------------------------------------------------------------------------


def mirrored(ws: Any, request: Any) -> None:
    """Take what the client copies; then copy it back."""
    with ws.makefile("rwb") as file:
        size = int(file.readline())
        file.write(file.read(size))


@pytest.fixture(params=["ws", "wss"])
def endpoint(request: Any) -> Any:
    """Keywords of a `Server` and of a `Socket`, and the scheme."""
    if request.param == "ws":
        return {}, {}, "ws"
    server_tls, client_tls = request.getfixturevalue("server_tls"), request.getfixturevalue("client_tls")
    return {"ssl": server_tls}, {"ssl": client_tls}, "wss"


@pytest.mark.parametrize("buffering", [-1, 0, 1 << 16])
def test_a_copy_to_the_server_is_complete(endpoint: Any, buffering: int) -> None:
    got: list[bytes] = []
    over = Event()

    def accept(ws: Any, request: Any) -> None:
        into = io.BytesIO()
        with ws.makefile("rb", buffering) as file:
            shutil.copyfileobj(file, into)
        got.append(into.getvalue())
        over.set()

    for_server, for_client, scheme = endpoint
    with serving(accept, **for_server) as server, Socket(url_of(server, scheme=scheme), **for_client) as ws:
        with ws.makefile("wb", buffering) as file:
            shutil.copyfileobj(io.BytesIO(DATA), file)
        assert over.wait(PATIENCE)
    assert digest(got[0]) == digest(DATA)


@pytest.mark.parametrize("buffering", [-1, 0, 1 << 16])
def test_a_copy_from_the_server_is_complete(endpoint: Any, buffering: int) -> None:
    def accept(ws: Any, request: Any) -> None:
        with ws.makefile("wb", buffering) as file:
            shutil.copyfileobj(io.BytesIO(DATA), file)

    for_server, for_client, scheme = endpoint
    into = io.BytesIO()
    with serving(accept, **for_server) as server:
        ws = Socket(url_of(server, scheme=scheme), **for_client)
        with ws.makefile("rb", buffering) as file:
            shutil.copyfileobj(file, into)
    assert digest(into.getvalue()) == digest(DATA)


def test_copies_both_ways_at_once_are_complete(endpoint: Any) -> None:
    back = DATA[::-1]
    got: dict[str, bytes] = {}

    def both_ways(ws: Any, who: str, data: bytes) -> None:
        with ws.makefile("rb") as reading, ws.makefile("wb") as writing:
            task = spawn(shutil.copyfileobj, io.BytesIO(data), writing)
            got[who] = reading.read(len(DATA))
            task.result()

    def accept(ws: Any, request: Any) -> None:
        both_ways(ws, "server", back)

    for_server, for_client, scheme = endpoint
    with serving(accept, **for_server) as server, Socket(url_of(server, scheme=scheme), **for_client) as ws:
        both_ways(ws, "client", DATA)
        eventually(lambda: len(got) == 2)
    assert {who: digest(data) for who, data in got.items()} == {"server": digest(DATA), "client": digest(back)}


def test_a_server_that_leaves_in_the_middle_tears_the_copy() -> None:
    """With 1001, with which a `Server` closes its clients: iteration takes that for an end, a stream must not."""
    begun = Event()

    def accept(ws: Any, request: Any) -> None:
        with ws.makefile("wb") as file:
            file.write(b"some")
            begun.set()
            ws.wait_closed()

    with serving(accept) as server, Socket(url_of(server)) as ws:
        copying = spawn(shutil.copyfileobj, ws.makefile("rb"), io.BytesIO())
        assert begun.wait(PATIENCE)
        server.close(timeout=PATIENCE)
        with pytest.raises(syncws.BrokenStream) as caught:
            copying.result()
        assert caught.value.code == 1001
