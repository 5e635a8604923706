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

pytest.register_assert_rewrite("stress_wire", "stress_rounds", "stress_calls")

import stress_rounds
import world
from stress_rounds import FULL, Arena, Watched, check_messages, message, repeated, rounds

from syncws import ConnectionClosed

pytestmark = [pytest.mark.timeout(3000 if FULL else 60)] + [pytest.mark.stress] * FULL

each_side = pytest.mark.parametrize("side", ["client", "server"])
each_stream = pytest.mark.parametrize("stream", ["tcp", "tls"])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: Any) -> Any:
    return stress_rounds.certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def hectic() -> Any:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def arena(request: pytest.FixtureRequest, side: str, stream: str) -> Any:
    def make(**options: Any) -> Arena:
        tls = request.getfixturevalue("certificates") if stream == "tls" else None
        return Arena(side, tls, **options)

    return make


def many(place: Arena, name: str, count: int, play: Any) -> None:
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

    many(arena(buffers=buffers), f"send/close {side} {stream}", rounds(5, 300), play)


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

    many(arena(), f"fragments {side} {stream}", rounds(4, 300), play)


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

    many(arena(), f"closers {side} {stream}", rounds(10, 2000 if stream == "tcp" else 500), play)


@each_stream
@each_side
@pytest.mark.parametrize("who", ["we", "the peer", "terminate"])
def test_whoever_waits_in_recv_learns_of_the_end_at_once(arena, side, stream, who):
    def play(rng, ws, wire, watched):
        ended: list[float] = []

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
            assert max(ended) < 0.1 + (stress_rounds.slack()), ended
            expected = {"we": 3000, "terminate": 1006, "the peer": wire.sent_close}
            assert ws.close_code == expected[who]

        return check

    many(arena(), f"receivers {who} {side} {stream}", rounds(4, 500 if stream == "tcp" else 150), play)


@each_stream
def test_both_ends_may_send_60_mib_at_once(stream, request):
    """Neither reads before it has sent; a blocked writer reads, so that both finish."""
    size = 60 << 20
    tls = request.getfixturevalue("certificates") if stream == "tls" else None
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
