"""`send`: every form of a message, on a client's socket and on a server's."""

from __future__ import annotations

import array
from typing import Any

import pytest
from pairs import BLOCKING, SIDES, connected, still_works
from peer import BINARY, CONTINUE, PING, TEXT, Frame, Peer
from world import PATIENCE, Event, Socket, eventually, serving, spawn, url_of

import syncws
from syncws.sender import Sender

DEFLATE = ("Sec-WebSocket-Extensions: permessage-deflate",)

each_side = pytest.mark.parametrize("side", SIDES)


def read_message(peer: Peer) -> list[Frame]:
    """The frames of one message."""
    frames = [peer.read()]
    while not frames[-1].fin:
        frames.append(peer.read())
    return frames


# -- send --------------------------------------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize(
    ("data", "binary", "opcode", "payload"),
    [
        ("h\u00e9", None, TEXT, "h\u00e9".encode()),
        ("", None, TEXT, b""),
        (b"\xff\x00", None, BINARY, b"\xff\x00"),
        (b"", None, BINARY, b""),
        (bytearray(b"ab"), None, BINARY, b"ab"),
        (memoryview(b"abcd")[1:3], None, BINARY, b"bc"),
        (array.array("H", [1, 2]), None, BINARY, array.array("H", [1, 2]).tobytes()),
        ("h\u00e9", True, BINARY, "h\u00e9".encode()),
        (b"text", False, TEXT, b"text"),
    ],
)
def test_str_goes_as_text_and_a_buffer_as_binary(
    data: Any, binary: Any, opcode: int, payload: bytes, side: str
) -> None:
    with connected(side) as (ws, peer):
        ws.send(data, binary=binary)
        assert peer.read() == Frame(True, 0, opcode, side == "client", payload)


@each_side
@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 300_000])
def test_every_length_goes_out_in_its_shortest_form_and_comes_in(size: int, side: str) -> None:
    payload = bytes(i * 7 & 0xFF for i in range(size))
    with connected(side, compression=False) as (ws, peer):
        sending = spawn(ws.send, payload)
        assert peer.read().payload == payload  # a peer that is strict about lengths
        sending.result()
        sending = spawn(peer.send, BINARY, payload)
        assert ws.recv(PATIENCE) == payload
        sending.result()


@each_side
@pytest.mark.parametrize("data", [None, 5, True, 1.5, {"a": "b"}, object(), memoryview(b"abcd")[::2]])
def test_what_is_no_message_is_a_type_error_and_the_connection_goes_on(data: Any, side: str) -> None:
    with connected(side) as (ws, peer):
        with pytest.raises(TypeError):
            ws.send(data)
        still_works(ws, peer)


def test_text_that_is_no_unicode_is_a_value_error_and_the_connection_goes_on() -> None:
    with connected() as (ws, peer):
        with pytest.raises(ValueError):
            ws.send("\ud800")
        still_works(ws, peer)


@each_side
def test_the_callers_buffer_is_not_modified(side: str) -> None:
    with connected(side) as (ws, peer):
        for size in (10, 100_000):
            data = bytearray(b"\x5a" * size)
            sending = spawn(ws.send, data)
            assert peer.read().payload == data
            sending.result()
            assert data == b"\x5a" * size
            data.append(0)  # nothing holds on to it


@pytest.mark.parametrize(
    ("mask", "generate_mask", "head"),
    [
        (None, lambda: b"\1\2\3\4", b"\x81\x81\1\2\3\4" + b"\x60"),
        (True, lambda: b"\0\0\0\0", b"\x81\x81\0\0\0\0" + b"a"),
        (False, None, b"\x81\x01a"),
    ],
)
def test_masks_are_as_the_caller_wants_them(mask: Any, generate_mask: Any, head: bytes) -> None:
    with connected(generate_mask=generate_mask) as (ws, peer):
        ws.send("a", mask=mask)
        assert peer.sock.recv(100) == head


def test_each_frame_has_a_mask_of_its_own() -> None:
    with connected() as (ws, peer):
        seen = []
        for _ in range(20):
            ws.send("a")
            seen.append(peer.sock.recv(7)[2:6])
        assert len(set(seen)) == 20


@pytest.mark.parametrize("bad", [b"123", "1234", None])
def test_a_bad_mask_is_a_value_error(bad: Any) -> None:
    masks = iter([bad])
    with connected(generate_mask=lambda: next(masks, b"\1\2\3\4")) as (ws, _), pytest.raises(ValueError):
        ws.send("lost")


def test_a_server_refuses_an_unmasked_frame() -> None:
    with serving() as server, Socket(url_of(server)) as ws:
        ws.send("a", mask=False)
        with pytest.raises(syncws.ConnectionClosed) as caught:
            ws.recv(PATIENCE)
        assert caught.value.code == 1002


@each_side
@pytest.mark.parametrize(
    ("size", "compress", "compressed"),
    [(2000, None, True), (10, None, False), (2000, False, False), (10, True, True)],
)
def test_compression_is_by_size_unless_the_caller_says(size: int, compress: Any, compressed: bool, side: str) -> None:
    with connected(side, answer=DEFLATE, compression=True) as (ws, peer):
        assert ws.extensions == "permessage-deflate"
        ws.send(b"a" * size, compress=compress)
        got = peer.read()
        assert got.rsv == (4 if compressed else 0)
        assert (len(got.payload) < 30) == (compressed or size < 30)


# -- fragments ---------------------------------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize(
    ("pieces", "binary", "opcode", "payloads"),
    [
        (["a", "b", "c"], None, TEXT, [b"a", b"b", b"c"]),
        ([b"a", bytearray(b"b"), memoryview(b"c")], None, BINARY, [b"a", b"b", b"c"]),
        (("a",), None, TEXT, [b"a"]),
        (["a", "b"], True, BINARY, [b"a", b"b"]),
        ([b"a", b"b"], False, TEXT, [b"a", b"b"]),
        ([], None, BINARY, []),
        ([], False, TEXT, []),
    ],
)
def test_an_iterable_is_one_message_in_fragments(
    pieces: Any, binary: Any, opcode: int, payloads: list[bytes], side: str
) -> None:
    with connected(side) as (ws, peer):
        ws.send(iter(pieces), binary=binary)
        frames = read_message(peer)
        assert [frame.opcode for frame in frames] == [opcode] + [CONTINUE] * (len(frames) - 1)
        assert [frame.payload for frame in frames if frame.payload] == payloads
        still_works(ws, peer)


def test_fragments_leave_as_they_are_yielded() -> None:
    with connected() as (ws, peer):
        asked: list[int] = []

        def pieces() -> Any:
            for number in range(3):
                asked.append(number)
                yield str(number)
                # The peer has it before the next one is asked for.
                assert peer.read().payload == str(number).encode()

        ws.send(pieces())
        assert (peer.read(), asked) == (Frame(True, 0, CONTINUE, True, b""), [0, 1, 2])


@each_side
@pytest.mark.parametrize("pieces", [[5], [None, "a"], (object(),)])
def test_a_first_fragment_that_cannot_be_one_is_a_type_error_and_nothing_is_sent(pieces: Any, side: str) -> None:
    with connected(side) as (ws, peer):
        with pytest.raises(TypeError):
            ws.send(pieces)
        still_works(ws, peer)


def raising(*pieces: Any) -> Any:
    yield from pieces
    raise LookupError("of the caller's")


def test_an_iterable_that_raises_at_once_leaves_the_connection_alone() -> None:
    with connected() as (ws, peer):
        with pytest.raises(LookupError):
            ws.send(raising())
        still_works(ws, peer)


@pytest.mark.parametrize(
    ("pieces", "error"), [(raising("a"), LookupError), (["a", b"b"], TypeError), (["a", 5], TypeError)]
)
def test_an_iterable_that_raises_later_fails_the_connection(pieces: Any, error: Any) -> None:
    with connected() as (ws, peer):
        with pytest.raises(error):
            ws.send(pieces)
        assert peer.read().payload == b"a"
        peer.expect_close(1011)
        with pytest.raises(syncws.ConnectionClosed):
            ws.send("more")


def test_sending_from_inside_the_iterable_is_a_runtime_error() -> None:
    with connected() as (ws, peer):

        def pieces() -> Any:
            with pytest.raises(RuntimeError):
                ws.send("nested")
            with pytest.raises(RuntimeError):
                ws.send(["nested"])
            yield "a"

        ws.send(pieces())
        assert b"".join(frame.payload for frame in read_message(peer)) == b"a"
        still_works(ws, peer)


def test_a_slow_iterable_holds_back_messages_and_nothing_else() -> None:
    with connected() as (ws, peer):
        go_on = Event()

        def pieces() -> Any:
            yield "a"
            go_on.wait()
            yield "b"

        slow = spawn(ws.send, pieces())
        assert peer.read().payload == b"a"
        other = spawn(ws.send, "other")
        with pytest.raises(TimeoutError):
            ws.send("too late", timeout=0.1)
        ws.ping(b"p")
        assert peer.read().opcode == PING
        peer.send(PING, b"q")
        spawn(ws.recv)
        assert peer.read().payload == b"q"
        assert not other.done
        go_on.set()
        assert b"".join(frame.payload for frame in read_message(peer)) == b"b"
        slow.result()
        other.result()
        assert peer.read().payload == b"other"


def test_a_close_does_not_wait_for_a_slow_iterable() -> None:
    with connected() as (ws, peer):
        go_on = Event()

        def pieces() -> Any:
            yield "a"
            go_on.wait()
            yield "b"

        slow = spawn(ws.send, pieces())
        assert peer.read().payload == b"a"
        ws.close(4000)
        peer.expect_close(4000)
        go_on.set()
        with pytest.raises(syncws.ConnectionClosed):
            slow.result()


@each_side
def test_an_open_message_is_continued_by_whoever_sends_next(side: str) -> None:
    with connected(side) as (ws, peer):
        ws.send("a", fin=False)
        ws.ping(b"between")
        spawn(ws.send, b"b", fin=False).result()
        ws.send("c")
        frames = [peer.read() for _ in range(4)]
        assert [(f.opcode, f.fin, f.payload) for f in frames] == [
            (TEXT, False, b"a"),
            (PING, True, b"between"),
            (CONTINUE, False, b"b"),
            (CONTINUE, True, b"c"),
        ]
        still_works(ws, peer)


@each_side
def test_an_iterable_may_begin_continue_and_leave_open_a_message(side: str) -> None:
    with connected(side) as (ws, peer):
        ws.send(["a", "b"], fin=False)
        spawn(ws.send, iter(["c"]), fin=False).result()
        ws.send([], fin=False)
        ws.send(["d"])
        frames = read_message(peer)
        assert [(f.opcode, f.payload) for f in frames] == [
            (TEXT, b"a"),
            (CONTINUE, b"b"),
            (CONTINUE, b"c"),
            (CONTINUE, b""),
            (CONTINUE, b"d"),
            (CONTINUE, b""),
        ]
        still_works(ws, peer)


@each_side
@pytest.mark.parametrize(("binary", "opcode"), [(None, BINARY), (False, TEXT)])
def test_an_empty_iterable_that_is_left_open_begins_a_message(binary: Any, opcode: int, side: str) -> None:
    with connected(side) as (ws, peer):
        ws.send([], binary=binary, fin=False)
        ws.send("a")
        assert [(f.opcode, f.payload) for f in read_message(peer)] == [(opcode, b""), (CONTINUE, b"a")]


@each_side
@pytest.mark.parametrize(
    ("compress", "later", "rsv"), [(None, None, 0), (True, False, 4), (False, True, 0), (True, None, 4)]
)
def test_the_first_part_decides_whether_a_message_is_compressed(
    compress: Any, later: Any, rsv: int, side: str
) -> None:
    with connected(side, answer=DEFLATE, compression=True) as (ws, peer):
        for _ in range(2):  # the second time with what the compressor remembers
            ws.send("a", fin=False, compress=compress)
            ws.send("b" * 3000, fin=False, compress=later)
            ws.send(["c" * 3000], compress=later)
            frames = read_message(peer)
            assert [frame.rsv for frame in frames] == [rsv, 0, 0, 0]
            assert (len(b"".join(frame.payload for frame in frames)) < 200) == bool(rsv)


@each_side
def test_an_open_message_reaches_the_other_side_as_one(side: str) -> None:
    """Compressed or not, begun and ended by different threads, with pings between."""
    ends: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        ends.append(ws)
        ws.wait_closed()

    with serving(accept, compression=True) as server, Socket(url_of(server)) as ws:
        eventually(lambda: ends)
        sender, receiver = (ws, ends[0]) if side == "client" else (ends[0], ws)
        for compress in (True, False, None):
            sender.send("a" * 2000, fin=False, compress=compress)
            sender.ping(b"between")
            spawn(sender.send, ["b" * 2000, "c"], fin=False).result()
            spawn(sender.send, b"d").result()
            got: list[Any] = []
            receiver.once("message", got.append)
            eventually(lambda got=got: got)
            assert got[0].data == "a" * 2000 + "b" * 2000 + "cd"
            assert (got[0].binary, got[0].compressed) == (False, compress is not False)


# -- when the peer is slow ---------------------------------------------------------------------------------------


@each_side
def test_a_send_that_is_cut_by_its_timeout_fails_the_connection(side: str) -> None:
    with connected(side, small=True) as (ws, peer):
        with pytest.raises(TimeoutError):
            ws.send(BLOCKING, timeout=0.1)
        assert ws.wait_closed(PATIENCE)
        assert ws.close_code == 1006
        with pytest.raises(EOFError):
            peer.read()


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("1", TypeError), (float("nan"), ValueError)])
@pytest.mark.parametrize("method", ["send", "recv", "wait_closed"])
def test_a_timeout_is_a_number_of_seconds(method: str, timeout: Any, error: Any) -> None:
    with connected() as (ws, peer):
        arguments = ["lost"] if method == "send" else []
        with pytest.raises(error):
            getattr(ws, method)(*arguments, timeout=timeout)
        still_works(ws, peer)


def test_buffered_amount_is_what_a_send_has_not_got_rid_of() -> None:
    with connected(small=True) as (ws, peer):
        assert ws.bufferedAmount == 0
        sending = spawn(ws.send, BLOCKING)
        eventually(lambda: 0 < ws.bufferedAmount < len(BLOCKING))
        assert peer.read().payload == BLOCKING
        sending.result()
        assert ws.bufferedAmount == 0


@each_side
def test_one_message_at_a_time_is_framed_and_written(side: str, monkeypatch: Any) -> None:
    inside, go_on = Event(), Event()
    message = Sender.message

    def slow(sender: Any, opcode: int, payload: Any, *how: Any) -> Any:
        if len(payload) > 100_000:
            inside.set()
            assert go_on.wait(PATIENCE)
        return message(sender, opcode, payload, *how)

    monkeypatch.setattr(Sender, "message", slow)
    with connected(side, compression=False) as (ws, peer):
        sending = spawn(ws.send, bytes(100_001))
        assert inside.wait(PATIENCE)
        with pytest.raises(TimeoutError):
            ws.send("small", timeout=0.05)
        go_on.set()
        assert len(peer.read().payload) == 100_001
        sending.result()
        still_works(ws, peer)


@each_side
def test_frames_of_many_senders_never_interleave_and_keep_each_ones_order(side: str) -> None:
    with connected(side, small=True) as (ws, peer):

        def send_many(sender: int) -> None:
            for number in range(10):
                ws.send(f"{sender} {number} " + "x" * (number * 700))

        tasks = [spawn(send_many, sender) for sender in range(6)]
        got = [peer.read().payload.split(b" ") for _ in range(60)]
        for task in tasks:
            task.result()
        for sender in range(6):
            mine = [(int(number), len(rest)) for who, number, rest in got if int(who) == sender]
            assert mine == [(number, number * 700) for number in range(10)]


@pytest.mark.parametrize("attended", [True, False])
def test_two_that_send_at_once_do_not_wait_for_each_other(attended: bool, request: Any) -> None:
    data = bytes(12 << 20)  # more than the system takes on loopback
    if not attended:
        # The senders read for themselves: nobody else has to.
        request.getfixturevalue("unattended")

    def accept(ws: Any, request: Any) -> None:
        ws.send(data, timeout=PATIENCE)
        assert len(ws.recv(PATIENCE)) == len(data)
        ws.send("done")

    with serving(accept) as server, Socket(url_of(server), compression=False) as ws:
        ws.send(data, timeout=PATIENCE)
        assert len(ws.recv(PATIENCE)) == len(data)
        assert ws.recv(PATIENCE) == "done"


@each_side
def test_text_that_is_not_unicode_is_no_news_to_a_closed_connection(side: str) -> None:
    with connected(side) as (ws, peer):
        with pytest.raises(ValueError):
            ws.send("\ud800")
        ws.send("\u20ac")
        assert peer.read().payload == "\u20ac".encode()
        ws.terminate()
        with pytest.raises(syncws.ConnectionClosed):
            ws.send("\ud800")
