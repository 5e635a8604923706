"""`cork`: what is sent inside leaves together, whole and in order; whatever happens there, nothing is left held."""

from __future__ import annotations

import contextlib
import socket as _native
import time
from typing import Any

import pytest
import secure
import world
from crowd import STREAMS, crowd, writes_of
from pairs import SIDES, connected, quick_ticks, still_works
from peer import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, Peer, close_payload
from world import PATIENCE, Event, eventually, sleep, spawn

import syncws
from syncws import ConnectionClosed, InvalidStateError

HELD = 64 * 1024  # bytes that are held at most
DEFLATED = "Sec-WebSocket-Extensions: permessage-deflate"
each_side = pytest.mark.parametrize("side", SIDES)
each_stream = pytest.mark.parametrize("stream", STREAMS)


@contextlib.contextmanager
def joined(side: str, stream: str, request: Any, **options: Any) -> Any:
    """An open `Socket` of that side, and its peer."""
    if stream == "tcp":
        with connected(side, **{"compression": False, "ping_interval": None, **options}) as both:
            yield both
        return
    tls = request.getfixturevalue("server_tls"), request.getfixturevalue("client_tls")
    if side == "client":
        with secure.connected(*tls, compression=False, ping_interval=None, **options) as both:
            yield both
    else:
        with crowd(tls=tls, **options) as place:
            yield place.join()


def texts(peer: Peer, count: int) -> list[str]:
    """The next messages, all of them whole texts."""
    frames = [peer.read() for _ in range(count)]
    assert {(frame.fin, frame.opcode) for frame in frames} == {(True, TEXT)}
    return [frame.payload.decode() for frame in frames]


def fill(ws: Any) -> int:
    """Send until the system takes nothing more, before the peer reads: how many messages there were."""
    sock, count = ws._transport.sock, 0
    while world.select([], [sock], [], 0.1)[1]:
        ws.send(bytes(1000))
        count += 1
    sock.setsockopt(_native.SOL_SOCKET, _native.SO_SNDBUF, 4608)
    return count


def read_filling(peer: Peer, count: int) -> None:
    assert [peer.read().payload for _ in range(count)] == [bytes(1000)] * count


def answered(ws: Any, peer: Peer) -> None:
    """A message from the peer arrives: so what left before it was asked for has left."""
    peer.send(TEXT, b"now")
    assert ws.recv(PATIENCE) == "now"


# -- together ------------------------------------------------------------------------------------------------------


@each_stream
@each_side
def test_what_is_sent_inside_leaves_in_one_write(side: str, stream: str, request: Any) -> None:
    numbers = [str(number) for number in range(300)]
    with joined(side, stream, request) as (ws, peer):
        answered(ws, peer)
        for corked in (True, False, True):
            before = writes_of(ws)
            with ws.cork() if corked else contextlib.nullcontext():
                for number in numbers:
                    ws.send(number)
            assert texts(peer, len(numbers)) == numbers
            took = writes_of(ws) - before
            assert took == 1 if corked else took > 5  # the system joins them, too, for a peer that is slow


@each_side
def test_nothing_leaves_before_the_end_of_the_block(side: str) -> None:
    with connected(side, compression=False) as (ws, peer):
        before = writes_of(ws)
        with ws.cork():
            for number in range(20):
                ws.send(f"{number:04}")
                assert ws.bufferedAmount == (number + 1) * (6 + 4 * (side == "client"))
            answered(ws, peer)
            assert writes_of(ws) == before
            assert ws.bufferedAmount == 20 * (6 + 4 * (side == "client"))
        assert ws.bufferedAmount == 0
        assert texts(peer, 20) == [f"{number:04}" for number in range(20)]
        still_works(ws, peer)


@each_stream
@each_side
def test_64_kib_are_held_and_no_more(side: str, stream: str, request: Any) -> None:
    most = 0
    with joined(side, stream, request) as (ws, peer):
        reading = spawn(lambda: [peer.read() for _ in range(200)])
        with ws.cork():
            for number in range(200):
                ws.send(bytes([number]) * 1000)
                most = max(most, ws.bufferedAmount)
        assert HELD - 1100 < most < HELD
        assert [frame.payload for frame in reading.result()] == [bytes([number]) * 1000 for number in range(200)]


@each_stream
@each_side
def test_a_large_message_takes_what_is_before_it_along(side: str, stream: str, request: Any) -> None:
    large = bytes(range(256)) * 4096
    with joined(side, stream, request) as (ws, peer), ws.cork():
        ws.send("before")
        sending = spawn(ws.send, large)
        assert texts(peer, 1) == ["before"]
        assert peer.read().payload == large
        sending.result()
        assert ws.bufferedAmount == 0


@each_side
def test_many_tiny_messages_cost_no_more_than_their_bytes(side: str) -> None:
    """Bookkeeping for each of them over all those before it would take a minute."""
    count = 60_000
    with connected(side, compression=False) as (ws, peer):
        reading = spawn(lambda: [len(peer.read().payload) for _ in range(count)])
        began = time.process_time()
        with ws.cork():
            for _ in range(count):
                ws.send("")
        assert reading.result(50) == [0] * count
        assert time.process_time() - began < 30


@each_side
def test_a_buffer_may_be_changed_once_it_is_sent(side: str) -> None:
    with connected(side, compression=False) as (ws, peer):
        for size in (10, 1000, 20_000, 40_000):
            buffers = bytearray(b"a" * size), bytearray(b"b" * size)
            with ws.cork():
                ws.send(buffers[0])
                ws.send(memoryview(buffers[1]))
                buffers[0][:] = b""
                buffers[1][:] = b"c" * size
            assert [peer.read().payload for _ in "ab"] == [b"a" * size, b"b" * size]


def test_fragments_and_compressed_messages_are_held_too() -> None:
    with connected("server", answer=(DEFLATED,), compression=syncws.Deflate(threshold=0)) as (ws, peer):
        before = writes_of(ws)
        with ws.cork():
            ws.send(["one", "two"], compress=False)
            ws.send("x" * 1000)
            ws.send("three", fin=False, compress=False)
            ws.send("four")
        frames = [peer.read() for _ in range(6)]
        assert [frame.opcode for frame in frames] == [TEXT, CONTINUE, CONTINUE, TEXT, TEXT, CONTINUE]
        assert [frame.rsv for frame in frames] == [0, 0, 0, 4, 0, 0]
        assert writes_of(ws) - before == 1


# -- blocks in blocks, and in threads ------------------------------------------------------------------------------


@each_side
def test_the_outermost_block_lets_go(side: str) -> None:
    with connected(side, compression=False) as (ws, peer):
        before = writes_of(ws)
        with ws.cork():
            with ws.cork(), ws.cork():
                ws.send("inner")
            with contextlib.suppress(ZeroDivisionError), ws.cork():
                ws.send("failed")
                raise ZeroDivisionError
            ws.send("outer")
            answered(ws, peer)
            assert writes_of(ws) == before
        assert texts(peer, 3) == ["inner", "failed", "outer"]
        assert writes_of(ws) == before + 1


@each_side
def test_it_counts_for_all_threads(side: str) -> None:
    with connected(side, compression=False) as (ws, peer):
        before = writes_of(ws)
        with ws.cork():
            tasks = [spawn(lambda name=name: [ws.send(f"{name}{number}") for number in range(100)]) for name in "abcd"]
            for task in tasks:
                task.result()
        came = texts(peer, 400)
        for name in "abcd":
            assert [text for text in came if text[0] == name] == [f"{name}{number}" for number in range(100)]
        assert writes_of(ws) == before + 1


@each_side
def test_corks_of_several_threads_at_once(side: str, hectic: Any) -> None:
    def work(name: str) -> None:
        for number in range(0, 100, 5):
            with ws.cork():
                for step in range(5):
                    ws.send(f"{name}{number + step}")

    with connected(side, compression=False) as (ws, peer):
        tasks = [spawn(work, name) for name in "abcd"]
        came = texts(peer, 400)
        for task in tasks:
            task.result()
        for name in "abcd":
            assert [text for text in came if text[0] == name] == [f"{name}{number}" for number in range(100)]
        assert (ws.bufferedAmount, ws._corks) == (0, ())


def test_its_end_does_not_wait_for_the_iterable_of_another() -> None:
    going_on = Event()

    def pieces() -> Any:
        yield "one"
        going_on.wait(PATIENCE)
        yield "two"

    with connected(compression=False) as (ws, peer):
        with ws.cork():
            ws.send("held")
            sending = spawn(ws.send, pieces())
            eventually(lambda: ws.bufferedAmount > 12)
        assert [peer.read().payload for _ in range(2)] == [b"held", b"one"]
        assert not sending.done
        going_on.set()
        assert [peer.read().payload for _ in range(2)] == [b"two", b""]
        sending.result()


def test_it_may_end_inside_an_iterable_that_is_being_sent() -> None:
    def pieces() -> Any:
        with ws.cork():
            yield "one"
            yield "two"
        assert [peer.read().payload for _ in range(2)] == [b"one", b"two"]
        yield "three"

    with connected(compression=False) as (ws, peer):
        ws.send(pieces())
        assert [peer.read().payload for _ in range(2)] == [b"three", b""]


# -- control frames ------------------------------------------------------------------------------------------------


def ping(ws: Any, peer: Peer) -> tuple[int, bytes]:
    ws.ping(b"p")
    return PING, b"p"


def pong(ws: Any, peer: Peer) -> tuple[int, bytes]:
    ws.pong(b"q")
    return PONG, b"q"


def answer(ws: Any, peer: Peer) -> tuple[int, bytes]:
    peer.send(PING, b"r")
    answered(ws, peer)
    return PONG, b"r"


def minded(ws: Any, peer: Peer) -> tuple[int, bytes]:
    peer.send(PING, b"s")  # and nobody reads: the attendant does
    return PONG, b"s"


@each_stream
@each_side
@quick_ticks
@pytest.mark.parametrize("control", [ping, pong, answer, minded])
def test_control_frames_take_along_what_is_before_them(control: Any, side: str, stream: str, request: Any) -> None:
    with joined(side, stream, request) as (ws, peer):
        with ws.cork():
            ws.send("before")
            expected = control(ws, peer)
            assert texts(peer, 1) == ["before"]
            frame = peer.read()
            assert (frame.opcode, frame.payload) == expected
            ws.send("behind")
            ws.send("last")
        assert texts(peer, 2) == ["behind", "last"]


@quick_ticks
def test_a_ping_of_the_keepalive_takes_it_along() -> None:
    with connected(compression=False, ping_interval=0.2) as (ws, peer), ws.cork():
        ws.send("before")
        while (came := peer.read()).opcode == PING:
            pass  # the interval was over before we came to send
        assert came.payload == b"before"
        assert peer.read().opcode == PING


@each_side
@quick_ticks
@pytest.mark.parametrize("before", [[], ["before it"]])
def test_a_control_frame_that_the_system_does_not_take_does_not_wait_for_the_end(before: Any, side: str) -> None:
    with connected(side, small=True, compression=False) as (ws, peer):
        filling = fill(ws)
        with ws.cork():
            for text in before:
                ws.send(text)
            ws.ping(b"p")
            assert ws.bufferedAmount > 0
            read_filling(peer, filling)
            assert [peer.read().payload.decode() for _ in before] == before
            assert peer.read().opcode == PING
            ws.send("behind it")
        assert texts(peer, 1) == ["behind it"]
        still_works(ws, peer)


@each_stream
@each_side
def test_a_close_inside_takes_it_along(side: str, stream: str, request: Any) -> None:
    with joined(side, stream, request) as (ws, peer):
        with ws.cork():
            ws.send("before")
            ws.close(4000)
            with pytest.raises(ConnectionClosed):
                ws.send("behind")
            assert texts(peer, 1) == ["before"]
            peer.expect_close(4000)
            peer.close()
        assert ws.wait_closed(PATIENCE)
        assert ws.close_code == 4000


@each_side
@quick_ticks
@pytest.mark.parametrize("reads", [True, False])
def test_its_end_waits_for_what_a_close_leaves_behind(reads: bool, side: str) -> None:
    """The kernel did not take it all; whoever reads gets it all, and who does not is dropped in time."""

    def run() -> None:
        with ws.cork():
            ws.send("held")
            ws.close(4000)

    with connected(side, small=True, compression=False, close_timeout=PATIENCE if reads else 0.3) as (ws, peer):
        filling = fill(ws)
        running = spawn(run)
        eventually(lambda: ws.readyState == ws.CLOSING and ws.bufferedAmount)
        if reads:
            read_filling(peer, filling)
            assert texts(peer, 1) == ["held"]
            peer.expect_close(4000)
            peer.close()
            running.result()
        else:
            with pytest.raises(ConnectionClosed):
                running.result()
        assert ws.wait_closed(PATIENCE)
        assert (ws.close_code, ws.bufferedAmount) == (4000 if reads else 1006, 0)


# -- its end -------------------------------------------------------------------------------------------------------


@each_stream
@each_side
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_what_was_sent_leaves_although_the_block_raises(error: Any, side: str, stream: str, request: Any) -> None:
    with joined(side, stream, request) as (ws, peer):
        with pytest.raises(error), ws.cork():
            ws.send("before")
            raise error
        assert texts(peer, 1) == ["before"]
        still_works(ws, peer)


@each_stream
def test_the_end_waits_for_what_a_control_frame_has_taken_along(stream: str, request: Any) -> None:
    with joined("server", stream, request, small=True) as (ws, peer):
        filling = fill(ws)

        def run() -> None:
            with ws.cork():
                ws.send(bytes(20_000))
                ws.ping()
                assert ws.bufferedAmount > 0

        for reads in (True, False):
            running = spawn(run)
            sleep(0.2)
            assert not running.done
            if reads:
                read_filling(peer, filling)
                assert peer.read().payload == bytes(20_000)
                assert peer.read().opcode == PING
                running.result()
                fill(ws)
            else:
                ws.terminate()
                with pytest.raises(ConnectionClosed):
                    running.result()


@each_side
def test_the_end_does_not_wait_for_an_alert_that_tls_could_not_send(side: str, request: Any) -> None:
    with joined(side, "tls", request) as (ws, peer):

        def run() -> None:
            with ws.cork():
                peer.sock.sock.sendall(b"no record of TLS")
                assert ws.wait_closed(PATIENCE)
                assert ws._transport.wants_to_write()

        spawn(run).result()


@each_side
@quick_ticks
def test_a_block_that_raises_does_not_wait_for_the_peer(side: str) -> None:
    with connected(side, small=True, compression=False) as (ws, peer):
        filling = fill(ws)
        with pytest.raises(ZeroDivisionError), ws.cork():
            ws.send("held")
            raise ZeroDivisionError
        assert ws.bufferedAmount > 0
        read_filling(peer, filling)
        assert texts(peer, 1) == ["held"]
        eventually(lambda: ws.bufferedAmount == 0)
        still_works(ws, peer)


def noticed(ws: Any, peer: Peer) -> None:
    peer.reset()
    assert ws.wait_closed(PATIENCE)


def unnoticed(ws: Any, peer: Peer) -> None:
    peer.reset()


def terminated(ws: Any, peer: Peer) -> None:
    ws.terminate()


def pinged(ws: Any, peer: Peer) -> None:
    peer.reset()
    # Whatever finds it out drops what is held.
    while ws.readyState == ws.OPEN:
        ws.ping(ignore_closed=True)
        world.sleep(0.001)


@each_side
@pytest.mark.parametrize("gone", [noticed, unnoticed, terminated, pinged])
def test_its_end_says_if_the_connection_went_before_all_was_out(gone: Any, side: str) -> None:
    with connected(side, compression=False) as (ws, peer):
        with pytest.raises(ConnectionClosed) as caught, ws.cork():
            ws.send("before")
            gone(ws, peer)
        assert caught.value.code == 1006
        assert ws.wait_closed(PATIENCE)
        assert (ws.close_code, ws.bufferedAmount) == (1006, 0)


@each_side
def test_its_end_says_nothing_if_all_was_out(side: str) -> None:
    with connected(side, compression=False) as (ws, peer):
        with ws.cork():
            ws.send("before")
            ws.ping()
            assert texts(peer, 1) == ["before"]
            ws.terminate()
        with ws.cork():
            pass  # on a connection that is CLOSED


@each_side
def test_the_close_of_the_peer_inside(side: str) -> None:
    """It is answered behind what is held, which a peer may still want to read."""
    with connected(side, compression=False) as (ws, peer):
        with ws.cork():
            ws.send("before")
            peer.send(CLOSE, close_payload(1001))
            with pytest.raises(ConnectionClosed):
                ws.recv(PATIENCE)
        assert texts(peer, 1) == ["before"]
        assert peer.read().code == 1001


@each_side
def test_its_end_waits_for_the_peer_to_read(side: str) -> None:
    def run() -> None:
        with ws.cork():
            ws.send("held")

    with connected(side, small=True, compression=False) as (ws, peer):
        filling = fill(ws)
        running = spawn(run)
        eventually(lambda: not ws._corks and ws.bufferedAmount)
        assert not running.done
        read_filling(peer, filling)
        assert texts(peer, 1) == ["held"]
        running.result()
        still_works(ws, peer)


def test_a_send_inside_keeps_its_time_limit() -> None:
    with connected(small=True, compression=False) as (ws, _):
        with pytest.raises(ConnectionClosed), ws.cork():
            ws.send("held", timeout=0)
            with pytest.raises(TimeoutError):
                ws.send(bytes(1 << 20), timeout=0.1)
        assert ws.wait_closed(PATIENCE)


@each_side
def test_one_that_was_never_left_lets_go_with_its_object(side: str) -> None:
    """As when an interrupt comes on the first step of leaving it."""
    with connected(side, compression=False) as (ws, peer):
        cork = ws.cork()
        cork.__enter__()
        ws.send("held")
        del cork
        assert texts(peer, 1) == ["held"]
        still_works(ws, peer)


def test_it_is_an_error_before_the_connection_is_open() -> None:
    with world.raw_listener() as listener:
        ws = world.Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", blocking=False, compression=False)
        with pytest.raises(InvalidStateError), ws.cork():
            raise AssertionError("never reached")
        with Peer.accept(listener) as peer:
            eventually(lambda: ws.readyState == ws.OPEN)
            ws.send("at once")
            assert texts(peer, 1) == ["at once"]
            ws.terminate()


@world.gevent_only
@pytest.mark.parametrize("stuck", [False, True])
def test_a_greenlet_that_is_killed_inside_leaves_nothing_held(stuck: bool) -> None:
    import gevent

    def run() -> None:
        with ws.cork():
            ws.send("held")
            if not stuck:
                gevent.sleep(PATIENCE)

    with connected(small=True, compression=False) as (ws, peer):
        filling = fill(ws)
        running = gevent.spawn(run)
        eventually(lambda: ws.bufferedAmount)
        gevent.sleep(0.01)
        running.kill()
        assert not ws._corks
        if stuck:
            assert ws.wait_closed(PATIENCE)  # a frame may have been cut
        else:
            read_filling(peer, filling)
            assert texts(peer, 1) == ["held"]
            still_works(ws, peer)


def test_what_follows_a_block_leaves_at_once() -> None:
    with connected(compression=False) as (ws, peer):
        for number in range(5):
            with ws.cork():
                ws.send("inside")
            ws.send("behind")
            assert texts(peer, 2) == ["inside", "behind"]
            peer.send(BINARY, b"%d" % number)
            assert ws.recv() == b"%d" % number
