"""Races on purpose: sends against closes, a peer that never reads, both ends at once, descriptors that come again.

Few rounds by default; SYNCWS_STRESS=full for thousands (then marked `stress`: -m stress). See stress_rounds.
"""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Any

import pytest
import stress_rounds
import world
from stress_rounds import Arena, Watched, check_messages, message, repeated, rounds

from syncws import ConnectionClosed, control
from syncws.runtime import THREADS, WRITE
from syncws.tls import TLSTransport
from syncws.transport import Transport

pytestmark = stress_rounds.marks()

each_side = pytest.mark.parametrize("side", ["client", "server"])
each_stream = pytest.mark.parametrize("stream", ["tcp", "tls"])


def play_many(place: Arena, name: str, count: int, play: Any) -> None:
    """`count` rounds of `play(rng, ws, wire, watched)` on a fresh connection each; it closes, and says with what."""
    with place:
        for number in range(count):
            with repeated(name, number, count) as rng:
                ws, wire, over = place.pair()
                watched = Watched(name)
                watched.start("the peer", wire.run, rng)
                check = play(rng, ws, wire, watched)
                watched.finish()
                over()
                assert ws.wait_closed(stress_rounds.WATCHDOG)
                stress_rounds.ended_well(ws, place.closes[-1])
                if check is not None:
                    check()
        place.closed_once()


@each_stream
@each_side
@pytest.mark.parametrize("buffers", [None, stress_rounds.SMALL], ids=["", "small"])
def test_what_send_returned_for_has_come_before_the_close_and_nothing_else(arena, side, stream, buffers):
    def play(rng, ws, wire, watched):
        returned: dict[int, list[int]] = {sender: [] for sender in range(6)}

        def send(sender: int, sizes: Any) -> None:
            try:
                for number in range(1000):
                    ws.send(message(sender, number, sizes()))
                    returned[sender].append(number)
            except ConnectionClosed:
                pass

        def close() -> None:
            world.sleep(rng.random() * 0.004)
            ws.close(4004)

        for sender in returned:
            size = random.Random(rng.random())
            watched.start(f"sender {sender}", send, sender, lambda size=size: size.choice((1, 50, 3000, 20000)))
        watched.start("closing", close)

        def check() -> None:
            came = check_messages(wire.parser.messages)
            assert {sender: came.get(sender, []) for sender in returned} == returned
            assert (wire.parser.close, ws.close_code) == (4004, 4004)

        return check

    play_many(arena(buffers=buffers), f"send/close {side} {stream}", rounds(5, 300), play)


@each_stream
@each_side
def test_fragmented_messages_and_small_ones_never_mix(arena, side, stream):
    """The wire's parser allows nothing inside a message but control frames; those do come there."""

    def play(rng, ws, wire, watched):
        def fragments(data: bytes) -> Any:
            for at in range(0, len(data), 700):
                yield data[at : at + 700]
                world.sleep(0)

        def send(sender: int) -> None:
            for number in range(8):
                data = message(sender, number, 3000 if sender < 2 else 40)
                ws.send(fragments(data) if sender < 2 else data)
                ws.ping()

        for sender in range(6):
            watched.start(f"sender {sender}", send, sender)

        def end() -> None:
            for _, task in watched.tasks[1:7]:
                task.result(stress_rounds.WATCHDOG)
            ws.close(1000)

        watched.start("the end", end)

        def check() -> None:
            assert check_messages(wire.parser.messages) == {sender: list(range(8)) for sender in range(6)}

        return check

    play_many(arena(), f"fragments {side} {stream}", rounds(4, 300), play)


@each_stream
@each_side
def test_closing_from_eight_threads_sends_one_close(arena, side, stream):
    def play(rng, ws, wire, watched):
        for number in range(8):
            watched.start(f"closer {number}", lambda number=number: ws.close(4000 + number) or ws.wait_closed())

        def check() -> None:
            assert wire.parser.close == ws.close_code
            assert 4000 <= ws.close_code < 4008

        return check

    play_many(arena(), f"closers {side} {stream}", rounds(10, 2000 if stream == "tcp" else 500), play)


@each_stream
@each_side
@pytest.mark.parametrize("who", ["we", "the peer", "terminate"])
def test_whoever_waits_in_recv_learns_of_the_end_at_once(arena, side, stream, who):
    def play(rng, ws, wire, watched):
        ended: list[float] = []
        lag = stress_rounds.Lag().__enter__()

        def receive() -> None:
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv()
            ended.append(time.monotonic() - began[0])
            assert closed.value.code == (1006 if who == "terminate" else ws.close_code)

        began = [time.monotonic()]
        for number in range(4):
            watched.start(f"receiver {number}", receive)
        world.sleep(rng.random() * 0.01)
        began[0] = time.monotonic()
        if who == "we":
            ws.close(3000)
        elif who == "terminate":
            ws.terminate()
        else:
            wire.evil, wire.evil_after = "close", 0
            ws.ping()  # so that the peer looks up

        def check() -> None:
            # After the handshake has ended; the peer needs a moment for that, too.
            lag.__exit__()
            assert max(ended) < lag.allows(0.1), ended
            expected = {"we": 3000, "terminate": 1006, "the peer": wire.sent_close}
            assert ws.close_code == expected[who]

        return check

    play_many(arena(), f"receivers {who} {side} {stream}", rounds(4, 500 if stream == "tcp" else 150), play)


@each_stream
def test_both_ends_may_send_60_mib_at_once(stream, tls):
    """Neither reads before it has sent; a blocked writer reads, so that both finish."""
    size = 60 << 20
    data = {"client": os.urandom(size), "server": os.urandom(size)}
    got: dict[str, bytes] = {}

    def talk(name: str, ws: Any) -> None:
        ws.send(data[name])
        got[name] = ws.recv()

    with world.serving(lambda ws, request: talk("server", ws), ssl=tls and tls[0]) as server:
        url = world.url_of(server, scheme="wss" if tls else "ws")
        watched = Watched("both at once", 50)

        def client() -> None:
            with world.Socket(url, ssl=tls and tls[1], compression=False) as ws:
                talk("client", ws)

        watched.start("client", client)
        watched.finish()
        world.eventually(lambda: len(got) == 2)
        assert (got["client"], got["server"]) == (data["server"], data["client"])


@each_stream
def test_a_blocked_writer_reads(stream, tls, unattended):
    """By itself: the attendant, which would read in the end, does not do so here."""
    data = os.urandom(1 << 20) * 16  # more than the kernel takes

    def talk(ws: Any) -> None:
        ws.send(data, timeout=stress_rounds.WATCHDOG)
        assert ws.recv(stress_rounds.WATCHDOG) == data

    with world.serving(lambda ws, request: talk(ws), ssl=tls and tls[0]) as server:
        url = world.url_of(server, scheme="wss" if tls else "ws")
        with world.Socket(url, ssl=tls and tls[1], compression=False) as ws:
            talk(ws)


def test_keepalive_lets_those_live_that_answer(certificates):
    """However soon the pong comes: it must count, also when it is read before the ping's sender goes on."""
    count = rounds(12, 60)

    def receive(ws: Any) -> None:
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv()
        assert closed.value.code == 1000

    theirs, ours = certificates
    with world.serving(ping_interval=None) as plain, world.serving(ssl=theirs, ping_interval=None) as secure:
        ways = [(world.url_of(plain), None), (world.url_of(secure, scheme="wss"), ours)] * count
        sockets = [world.Socket(url, ssl=ssl, ping_interval=0.7, ping_timeout=0.6) for url, ssl in ways]
        tasks = [world.spawn(receive, ws) for ws in sockets]
        for ws in sockets:
            world.eventually(lambda ws=ws: ws.latency is not None)
        world.sleep(rounds(1, 10))  # the time for an answer is over
        for ws in sockets:
            ws.close(1000)
        for task in tasks:
            task.result()


@pytest.mark.usefixtures("quick_ticks")
@each_side
def test_a_close_behind_unread_messages_is_told_though_nobody_reads(side):
    """It waits a moment for a listener that would get the messages, and then for nobody."""
    with Arena(side) as place:
        place.resides = True
        ws, wire, _ = place.pair()
        peer = world.spawn(wire.run, random.Random(0))
        wire.stream.pump(wire.say(2, b"unread"))
        world.eventually(lambda: ws._inbox)
        wire.evil, wire.evil_after = "close", 0.0
        ws.ping()
        world.eventually(lambda: place.closes[-1], 3)
        peer.result()
        stress_rounds.ended_well(ws, place.closes[-1])
        assert len(ws.recv()) == 6


@each_stream
def test_both_directions_may_be_busy_with_a_thread_each(stream, tls):
    """Reading and writing of one connection at the same time, at both ends: for TLS, one SSL object in two threads."""
    count = rounds(150, 3000)
    data = [os.urandom(1 << 16), os.urandom(300)]

    def talk(ws: Any) -> None:
        sending = world.spawn(lambda: [ws.send(data[number % 2]) for number in range(count)])
        for number in range(count):
            assert ws.recv() == data[number % 2]
        sending.result(100)

    with world.serving(lambda ws, request: talk(ws), ssl=tls and tls[0]) as server:
        url = world.url_of(server, scheme="wss" if tls else "ws")
        with world.Socket(url, ssl=tls and tls[1], compression=False) as ws:
            talk(ws)
            assert ws.wait_closed(5)
        assert ws.close_code == 1000


@pytest.mark.usefixtures("quick_ticks")
@each_stream
def test_the_server_ends_the_connection_once_the_handshake_is_done(stream, tls, monkeypatch):
    """At once, by shutting its direction: the client need not wait for a timer of either (RFC 6455 section 7.1.1)."""
    monkeypatch.setattr(control, "LINGER", 8.0)
    with Arena("server", tls, close_timeout=8.0) as place:
        count = rounds(4, 200)
        for number in range(count):
            with repeated(f"ends {stream}", number, count) as rng:
                ws, wire, over = place.pair()
                peer = world.spawn(wire.run, rng)
                began = time.monotonic()
                if number % 2:
                    ws.close(1000)
                else:
                    wire.evil, wire.evil_after = "close", 0.0
                    ws.ping()
                peer.result()
                # The peer has waited for the end of the stream.
                assert time.monotonic() - began < 5
                over()
                assert ws.wait_closed(5)


@world.threads_only  # greenlets are never in OpenSSL at the same time
def test_two_threads_are_never_inside_one_ssl_object(certificates):
    """One reads without a pause, one writes: a read that finds nothing must not be confused by the write."""
    server, client = certificates
    pair = world.pair_of_sockets()
    ours = TLSTransport(Transport(THREADS, pair[0]), client, server_hostname="127.0.0.1")
    theirs = TLSTransport(Transport(THREADS, pair[1]), server, server_side=True)
    shaking = world.spawn(theirs.handshake, time.monotonic() + 5)
    ours.handshake(time.monotonic() + 5)
    shaking.result()
    total, piece = rounds(40, 400) << 20, os.urandom(2000)
    sys.setswitchinterval(1e-4)

    def write(transport: TLSTransport) -> None:
        for _ in range(total // len(piece)):
            out: Any = [piece]
            while not transport.write(out):
                assert transport.wait(WRITE, 10)

    def read(transport: TLSTransport) -> int:
        buffer, came = bytearray(1 << 14), 0
        while came < total // len(piece) * len(piece):
            count = transport.read(buffer, 0)
            assert count != 0, f"the end of the stream, after {came} bytes"
            came += count or 0
        return came

    try:
        tasks = [world.spawn(function, end) for function in (write, read) for end in (ours, theirs)]
        for task in tasks:
            task.result(50)
    finally:
        for end in (ours, theirs):
            end.shutdown()
            end.close()
