"""What people who come from other libraries rely on in a connection; docs/coming-from.md has the table.

Each test is one row that no other file holds: arguments, sending, pausing, closing, the receiver's tolerance.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
import world
from pairs import BLOCKING, SIDES, Journal, connected, end_of, still_works
from peer import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, Peer, close_payload, frame
from world import PATIENCE, Socket, eventually, raw_connection, serving, spawn, url_of

import syncws
from syncws import Deflate

each_side = pytest.mark.parametrize("side", SIDES)
quick_ticks = pytest.mark.usefixtures("quick_ticks")


# -- arguments ----------------------------------------------------------------------------------------------------


def test_no_subprotocols_may_be_said_in_any_way() -> None:
    with serving(lambda ws, request: ws.send(str("Sec-WebSocket-Protocol" in request.headers))) as server:
        for none in (None, [], ()):
            with Socket(url_of(server), none) as ws:
                assert (ws.recv(PATIENCE), ws.protocol) == ("False", "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("WS://127.0.0.1:{port}", "ws://127.0.0.1:{port}/"),
        ("http://127.0.0.1:{port}/a?b#", "ws://127.0.0.1:{port}/a?b"),
        ("ws://anna:secret@127.0.0.1:{port}/", "ws://127.0.0.1:{port}/"),
    ],
)
def test_every_form_of_a_url_connects(url: str, shown: str) -> None:
    with serving() as server:
        port = server.address()[1]
        with Socket(url.format(port=port)) as ws:
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"
            assert ws.url == shown.format(port=port)


@pytest.mark.parametrize(
    ("userinfo", "headers", "sent"),
    [
        ("anna:p%40ss@", {}, "Basic YW5uYTpwQHNz"),
        ("anna@", {}, "Basic YW5uYTo="),
        ("anna:p%40ss@", {"authorization": "Bearer mine"}, "Bearer mine"),
    ],
)
def test_who_one_is_reaches_the_server(userinfo: str, headers: dict[str, str], sent: str) -> None:
    with serving(lambda ws, request: ws.send(request.headers["Authorization"])) as server:
        url = url_of(server).replace("127", f"{userinfo}127", 1)
        with Socket(url, headers=headers) as ws:
            assert ws.recv(PATIENCE) == sent
            assert "p@ss" not in ws.url + repr(ws)


def test_a_transport_of_ones_own_is_used_from_the_address_one_wants() -> None:
    with serving(lambda ws, request: ws.send(str(ws.remote_address[1]))) as server:
        sock = raw_connection(server.address())  # bound, tuned and connected by whatever rules
        port = sock.getsockname()[1]
        with Socket("ws://a.name.that.is.never.looked.up.example/", sock=sock) as ws:
            assert ws.recv(PATIENCE) == str(port)
            assert ws.request.headers["Host"] == "a.name.that.is.never.looked.up.example"


# -- sending ------------------------------------------------------------------------------------------------------


@each_side
def test_a_file_is_sent_as_one_message_piece_by_piece(side: str) -> None:
    data = bytes(range(256)) * 1024
    with connected(side) as (ws, peer):
        file = io.BytesIO(data)
        sending = spawn(ws.send, iter(lambda: file.read(65536), b""))
        frames = [peer.read() for _ in range(5)]
        sending.result()
        assert [got.opcode for got in frames] == [BINARY, *4 * [CONTINUE]]
        assert [got.fin for got in frames] == [False, False, False, False, True]
        assert b"".join(got.payload for got in frames) == data
        still_works(ws, peer)


@each_side
@pytest.mark.parametrize(
    ("data", "binary", "sent"),
    [
        ("", None, (TEXT, b"")),
        (b"", None, (BINARY, b"")),
        ("text", True, (BINARY, b"text")),
        ("grüße".encode(), False, (TEXT, "grüße".encode())),
        (b"\xff", False, (TEXT, b"\xff")),  # as it is: the caller has said that it is text
        (memoryview(b"abcdef")[2:4], None, (BINARY, b"cd")),
        (bytearray(b"ab"), None, (BINARY, b"ab")),
    ],
)
def test_the_type_of_what_is_sent_is_that_of_the_data_unless_told(data: Any, binary: Any, sent: Any, side: str) -> None:
    with connected(side) as (ws, peer):
        ws.send(data, binary=binary)
        got = peer.read()
        assert (got.opcode, got.payload) == sent


@each_side
def test_compress_is_of_no_effect_where_nothing_was_agreed(side: str) -> None:
    with connected(side) as (ws, peer):
        assert ws.extensions == ""
        ws.send("x" * 5000, compress=True)
        assert peer.read()[:3] == (True, 0, TEXT)


@each_side
def test_an_open_message_is_continued_and_its_type_kept_while_pings_pass(side: str) -> None:
    with connected(side) as (ws, peer):
        ws.send("a", fin=False)
        ws.ping(b"between")
        ws.send(b"b", fin=False)
        ws.send("c")
        got = [peer.read() for _ in range(4)]
        assert [(one.opcode, one.fin, one.payload) for one in got] == [
            (TEXT, False, b"a"), (PING, True, b"between"), (CONTINUE, False, b"b"), (CONTINUE, True, b"c"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("deflate", "size", "compressed"),
    [
        (Deflate(), 1023, False),
        (Deflate(), 1024, True),
        (Deflate(threshold=0), 1, True),
        (Deflate(threshold=5000), 4999, False),
        (Deflate(client_no_context_takeover=True), 1024, True),
    ],
)
def test_what_is_shorter_than_the_threshold_goes_plain(deflate: Deflate, size: int, compressed: bool) -> None:
    with serving(None, compression=True) as server:
        seen: list[Any] = []
        server.on("connection", lambda ws, request: ws.addEventListener("message", seen.append))
        with Socket(url_of(server), compression=deflate) as ws:
            ws.send("x" * size)
            eventually(lambda: seen)
        assert (seen[0].compressed, seen[0].data) == (compressed, "x" * size)


@each_side
def test_all_who_wait_to_send_learn_that_the_connection_broke(side: str) -> None:
    with connected(side, small=True) as (ws, peer):
        tasks = [spawn(ws.send, BLOCKING) for _ in range(4)]
        eventually(lambda: ws.bufferedAmount > 0)
        peer.reset()
        for task in tasks:
            with pytest.raises(syncws.ConnectionClosed) as caught:
                task.result()
            assert caught.value.code == 1006
        for late in (lambda: ws.send("a"), ws.ping, ws.pong):
            with pytest.raises(syncws.ConnectionClosed):
                late()
        ws.ping(ignore_closed=True)


@each_side
@pytest.mark.parametrize("how", ["ping", "pong"])
def test_control_frames_take_text_and_bytes_of_at_most_125_and_are_never_compressed(how: str, side: str) -> None:
    compressing = ("Sec-WebSocket-Extensions: permessage-deflate",)
    with connected(side, answer=compressing, compression=Deflate(threshold=0)) as (ws, peer):
        for data in ("grüße", b"b" * 125, bytearray(b"c")):
            getattr(ws, how)(data)
            got = peer.read()
            assert (got.opcode, got.rsv) == (PING if how == "ping" else PONG, 0)
            assert got.payload == (data.encode() if isinstance(data, str) else data)
        for error, bad in ((ValueError, b"d" * 126), (ValueError, "ü" * 63), (TypeError, 5)):
            with pytest.raises(error):
                getattr(ws, how)(bad)
        peer.send(TEXT, b"it goes on")
        assert ws.recv(PATIENCE) == "it goes on"


# -- receiving ----------------------------------------------------------------------------------------------------


@each_side
def test_fragments_leave_empty_ones_out(side: str) -> None:
    with connected(side) as (ws, peer):
        ws.binaryType = "fragments"
        for pieces in ([b"a", b"", b"b", b""], [b""], [b"", b""], [b"one"]):
            for number, piece in enumerate(pieces):
                peer.send(CONTINUE if number else BINARY, piece, fin=number == len(pieces) - 1)
            assert ws.recv(PATIENCE) == [piece for piece in pieces if piece]


@each_side
def test_control_frames_may_come_between_fragments_and_do_not_count(side: str) -> None:
    with connected(side, max_payload=4, max_fragments=2) as (ws, peer):
        peer.send(TEXT, b"ab", fin=False)
        for number in range(5):
            peer.send(PING, b"longer than that %d" % number)
        peer.send(CONTINUE, b"cd")
        assert ws.recv(PATIENCE) == "abcd"


@each_side
@pytest.mark.parametrize("value", ["blob", "arraybuffer", "", None, 5])
def test_an_unknown_binary_type_is_refused_and_changes_nothing(value: Any, side: str) -> None:
    with connected(side) as (ws, _):
        ws.binaryType = "bytearray"
        with pytest.raises(ValueError):
            ws.binaryType = value
        assert ws.binaryType == "bytearray"


@quick_ticks
@each_side
def test_what_came_before_terminate_is_told_before_the_close_though_paused(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "message", "close")
        seen = world.Event()

        @ws.once("message")
        def pause(event: Any) -> None:
            ws.pause()
            seen.set()

        peer.send_raw(b"".join(frame(TEXT, text, mask=bytes(4) if peer.client else None) for text in (b"1", b"2")))
        assert seen.wait(PATIENCE)
        ws.terminate()
        ws.resume()
        assert end_of(ws, journal) == (1006, "", False)
        assert journal.told == ["1", "2", "close"]


# -- closing ------------------------------------------------------------------------------------------------------


@each_side
def test_no_pong_follows_our_close_and_the_ping_is_told(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "ping", "message", "close")
        ws.close(4000, "bye")
        peer.expect_close(4000, answer=False)
        peer.send(PING, b"too late")
        peer.send(TEXT, b"still heard")
        peer.send(CLOSE, close_payload(4000))
        peer.end()
        assert peer.read_all() == []
        assert end_of(ws, journal) == (4000, "", True)
        assert journal.told == ["ping", "still heard", "close"]


@each_side
def test_a_violation_after_our_close_is_one_error_and_1006(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "error", "close")
        ws.close(1000)
        peer.expect_close(1000, answer=False)
        peer.send(3)
        peer.end()
        assert peer.read_all() == []  # one Close only
        assert end_of(ws, journal)[0] == 1006
        assert journal.told == ["error", "close"]


@each_side
@pytest.mark.parametrize("how", ["close", "terminate"])
def test_ending_it_again_is_nothing(how: str, side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "error", "close")
        peer.send(CLOSE, close_payload(1001, "off"))
        peer.expect_close(1001, answer=False)
        peer.close()
        assert end_of(ws, journal) == (1001, "off", True)
        getattr(ws, how)()
        getattr(ws, how)()
        assert end_of(ws, journal) == (1001, "off", True)
        assert journal.told == ["close"]


@each_side
def test_error_is_told_once_it_is_not_open_and_close_when_closed(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "error", "close")
        peer.send(TEXT, b"\xff")
        peer.expect_close(1007)
        peer.end()
        assert end_of(ws, journal) == (1006, "", False)
        assert journal.told == ["error", "close"]
        # The peer may have gone before the listener is called: nothing waits for listeners.
        assert journal.states[0] in (syncws.CLOSING, syncws.CLOSED)
        assert journal.states[1] == syncws.CLOSED
        assert isinstance(journal.last("error").error, syncws.InvalidData)


def test_a_handshake_that_fails_is_told_while_closing_and_then_closed() -> None:
    with serving({"/there": world.echo}) as server:
        journal = Journal(None)
        # Listeners that come later may be told when all is over.
        ws = Socket(url_of(server, "/elsewhere"), blocking=False, onerror=journal.note, onclose=journal.note)
        assert end_of(ws, journal) == (1006, "", False)
        assert journal.told == ["error", "close"]
        assert journal.states == [syncws.CLOSING, syncws.CLOSED]
        assert journal.last("error").error.status == 404


# -- reading on after our close -----------------------------------------------------------------------------------

MANY = [b"%d" % number + bytes(500) for number in range(100)]


def flood(peer: Any) -> None:
    """More messages than are queued, and behind them the Close and the end."""
    for payload in MANY:
        peer.send(BINARY, payload)
    peer.send(CLOSE, close_payload(1000))
    peer.end()


@quick_ticks
@each_side
@pytest.mark.parametrize("by_hand_before", [False, True])
def test_whoever_reads_on_after_its_close_misses_nothing(by_hand_before: bool, side: str) -> None:
    with connected(side) as (ws, peer):
        if by_hand_before:
            peer.send(TEXT, b"first")
            assert ws.recv(PATIENCE) == "first"
        ws.close(1000)
        peer.expect_close(1000, answer=False)
        sending = spawn(flood, peer)
        # The attendant reads what may be queued, and no more.
        eventually(lambda: len(ws._inbox) >= 16)
        got = []
        for message in ws:
            got.append(message)
            world.sleep(0.005)  # slowly, so that the attendant comes in between
        assert got == MANY
        sending.result()
        assert ws.wait_closed(PATIENCE)
        assert ws.close_code == 1000


@quick_ticks
@each_side
def test_a_file_that_is_read_after_the_writing_one_was_closed_is_whole(side: str) -> None:
    with connected(side) as (ws, peer), ws.makefile("rb") as receiver:
        with ws.makefile("wb") as sender:
            sender.write(b"question")
        assert peer.read().payload == b"question"
        peer.expect_close(1000, answer=False)
        sending = spawn(flood, peer)
        eventually(lambda: len(ws._inbox) >= 16)
        assert receiver.read() == b"".join(MANY)
        sending.result()


@quick_ticks
@pytest.mark.parametrize("how", ["accept is over", "nobody ever read"])
def test_what_nobody_will_read_after_our_close_does_not_hold_the_close_up(how: str) -> None:
    def accept(ws: Any, request: Any) -> None:
        sockets.append(ws)
        if how == "accept is over":
            ws.recv()
        else:
            ws.close(1000)
            closed.wait(PATIENCE)

    sockets: list[Any] = []
    closed = world.Event()
    with serving(accept) as server, Peer.connect(server) as peer:
        peer.send(TEXT, b"first")
        peer.expect_close(1000, answer=False)
        sending = spawn(flood, peer)
        eventually(lambda: sockets[0].readyState == syncws.CLOSED, 5)
        sending.result()
        closed.set()
        assert (sockets[0].close_code, sockets[0].close_reason) == (1000, "")
