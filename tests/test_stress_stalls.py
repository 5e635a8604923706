"""A peer that never reads, and descriptors that come again: everything has its time limit, and its own socket.

Few rounds by default; SYNCWS_STRESS=full for thousands (then marked `stress`: -m stress). See stress_rounds.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import stress_rounds
import world
from stress_rounds import Arena, repeated, rounds

from syncws import ConnectionClosed

pytestmark = stress_rounds.marks()

each_side = pytest.mark.parametrize("side", ["client", "server"])
each_stream = pytest.mark.parametrize("stream", ["tcp", "tls"])
BIG = b"x" * (8 << 20)  # more than the kernel takes


@pytest.fixture
def stalled(side: str, tls: Any) -> Any:
    """Sockets whose peer never reads: a function that makes one."""
    arenas = []

    def make(**options: Any) -> Any:
        arena = Arena(side, tls, **options)
        arena.__enter__()
        ws, wire, over = arena.pair()
        arenas.append((arena, ws, wire, over))
        return ws

    yield make
    for arena, ws, wire, over in arenas:
        ws.terminate()
        assert ws.wait_closed(stress_rounds.WATCHDOG)
        over()
        wire.stream.sock.close()
        arena.__exit__(None, None, None)
        stress_rounds.ended_well(ws, arena.closes[-1])


def blocked_send(ws: Any) -> Any:
    """A task in a `send` that cannot go on; its result is when it ended, and how."""

    def send() -> tuple[float, BaseException | None]:
        try:
            ws.send(BIG)
        except Exception as error:
            return time.monotonic(), error
        return time.monotonic(), None

    task = world.spawn(send)
    world.eventually(lambda: ws.bufferedAmount > 0)
    return task


@each_stream
@each_side
def test_send_keeps_its_time_limit(stalled, lag):
    ws = stalled(ping_interval=None)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ws.send(BIG, timeout=0.3)
    assert 0.3 <= time.monotonic() - began < lag.allows(0.3 + 0.5)
    # A frame was cut: nothing may follow it.
    with pytest.raises(ConnectionClosed):
        ws.send("more", timeout=1)
    assert ws.wait_closed(2)
    assert ws.close_code == 1006


@each_stream
@each_side
def test_terminate_frees_a_blocked_send(stalled, lag):
    for _ in range(rounds(1, 100)):
        ws = stalled()
        task = blocked_send(ws)
        began = time.monotonic()
        ws.terminate()
        assert time.monotonic() - began < lag.allows(0.1)
        ended, error = task.result()
        assert ended - began < lag.allows(0.1)
        assert isinstance(error, ConnectionClosed)
        assert error.code == 1006


@each_stream
@each_side
def test_close_ends_a_blocked_send_within_its_timeout(stalled, lag):
    ws = stalled(close_timeout=0.3)
    task = blocked_send(ws)
    began = time.monotonic()
    ws.close(1000)
    assert time.monotonic() - began < lag.allows(0.1)
    ended, error = task.result()
    assert ended - began < lag.allows(0.3 + 0.5)
    assert isinstance(error, ConnectionClosed)
    assert ws.wait_closed(1)
    assert ws.close_code == 1006


@each_stream
@each_side
def test_keepalive_ends_a_blocked_send(stalled, lag):
    ws = stalled(ping_interval=0.2, ping_timeout=0.2)
    began = time.monotonic()
    ended, error = blocked_send(ws).result()
    assert ended - began < lag.allows(0.4 + 0.5)
    assert isinstance(error, ConnectionClosed)
    assert ws.wait_closed(1)
    assert ws.close_code == 1006


@each_stream
@each_side
def test_control_frames_and_their_callers_do_not_wait_for_a_blocked_send(stalled, lag):
    ws = stalled()
    task = blocked_send(ws)

    def control() -> None:
        for number in range(1000):
            ws.ping(b"%d" % number)
            ws.pong()

    began = time.monotonic()
    world.spawn(control).result()
    with pytest.raises(TimeoutError):
        ws.recv(timeout=0)
    with pytest.raises(TimeoutError):
        ws.send("behind it", timeout=0.05)
    assert time.monotonic() - began < lag.allows(1.0)
    assert ws.readyState == 1, "a send that never began does no harm"
    assert not task.done


@each_stream
@each_side
def test_a_descriptor_that_comes_again_gets_nothing_of_the_old_connection(side, stream, tls):
    """While some send, others close, and pipes and sockets are made with the numbers that become free."""
    count = rounds(15, 1000 if stream == "tcp" else 200)
    with Arena(side, tls) as place:
        for number in range(count):
            with repeated(f"descriptors {side} {stream}", number, count) as rng:
                _reuse(place, rng)
        place.closed_once()


def _reuse(place: Arena, rng: Any) -> None:
    ws, wire, over = place.pair()
    watched = stress_rounds.Watched("descriptors")
    watched.start("the peer", wire.run, rng)
    ours = ws._transport.descriptor

    def send() -> None:
        try:
            while True:
                ws.send(b"y" * 100)
                ws.ping()
                if world.GREEN:
                    world.sleep(0)
        except ConnectionClosed:
            pass

    def receive() -> None:
        try:
            while True:
                ws.recv()
        except ConnectionClosed:
            pass

    def end() -> None:
        world.sleep(rng.random() * 0.003)
        (ws.terminate if rng.random() < 0.7 else ws.close)()

    for function in (send, send, send, receive, end, end):
        watched.start(function.__name__, function)
    strangers: list[tuple[Any, Any]] = []
    taken = False
    for _ in range(400):
        pair = world.pair_of_sockets()
        strangers.append(pair)
        taken = taken or ours in (pair[0].fileno(), pair[1].fileno())
        if taken:
            break
        if len(strangers) > 20:
            for old in strangers.pop(0):
                old.close()
        world.sleep(0)
    watched.finish()
    over()
    assert ws.wait_closed(stress_rounds.WATCHDOG)
    try:
        for one, other in strangers:
            for sock in (one, other):
                sock.setblocking(False)
                # Neither bytes nor an end: nobody has written to them, or shut or closed them.
                with pytest.raises(BlockingIOError):
                    sock.recv(1)
                os.fstat(sock.fileno())
    finally:
        for pair in strangers:
            for sock in pair:
                sock.close()
    stress_rounds.ended_well(ws, place.closes[-1])


def closed_recv(ws):
    """A reader that gets nothing but the end."""
    with pytest.raises(ConnectionClosed):
        ws.recv()


@each_stream
@each_side
@pytest.mark.parametrize("closing", [False, True], ids=["ping", "close"])
def test_what_is_queued_behind_a_blocked_send_leaves_with_it(side, stream, tls, closing, unattended):
    """Without any further call: the writer looks at what was queued before it gives its role back."""
    for number in range(rounds(1, 50)):
        with Arena(side, tls) as place, repeated("queued", number, 1) as rng:
            ws, wire, over = place.pair()
            task = blocked_send(ws)
            reader = world.spawn(closed_recv, ws)
            ws.ping(b"late")
            if closing:
                ws.close(4000)
            peer = world.spawn(wire.run, rng)
            _, error = task.result()
            assert error is None
            world.eventually(lambda ws=ws: ws.latency is not None, 3)
            ws.close(4000)
            assert ws.wait_closed(5)
            reader.result()
            peer.result()
            assert (wire.parser.close, ws.close_code) == (4000, 4000)
            assert [len(data) for data in wire.parser.messages] == [len(BIG)]
            over()
            stress_rounds.ended_well(ws, place.closes[-1])
