"""KeyboardInterrupt, GreenletExit and gevent.Timeout at random moments: nothing is left held, nobody is forgotten.

Few rounds by default; SYNCWS_STRESS=full for thousands (then marked `stress`: -m stress). See stress_rounds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("stress_wire", "stress_rounds", "stress_calls")

import stress_rounds
import world
from stress_rounds import FULL, Arena, repeated, rounds, stacks
from stress_strikes import Victim

from syncws import ConnectionClosed

pytestmark = [pytest.mark.timeout(3000 if FULL else 60)] + [pytest.mark.stress] * FULL

each_side = pytest.mark.parametrize("side", ["client", "server"])
each_stream = pytest.mark.parametrize("stream", ["tcp", "tls"])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: Any) -> Any:
    return stress_rounds.certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def hectic(monkeypatch: pytest.MonkeyPatch) -> Any:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    # A victim may be struck when it has just come to its end.
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    yield
    sys.setswitchinterval(before)


def receive(ws: Any) -> None:
    while True:
        ws.recv()


def receive_in_time(ws: Any) -> None:
    while True:
        try:
            ws.recv(timeout=0.001)
        except TimeoutError:
            ws.pause()
            ws.resume()


def send(ws: Any) -> None:
    while True:
        ws.send(b"z" * 300)
        world.sleep(0)


def send_fragments(ws: Any) -> None:
    while True:
        ws.send(iter([b"z" * 300, b"z" * 10000]))
        world.sleep(0)


def control(ws: Any) -> None:
    while True:
        ws.ping()
        ws.pong()
        world.sleep(0)


def end(ws: Any) -> None:
    ws.close(4001)
    ws.wait_closed()
    raise ConnectionClosed(4001, "", True)


WAYS = (receive, receive, receive, receive_in_time, send, send, send_fragments, control, end)


@each_stream
@each_side
@pytest.mark.parametrize("buffers", [None, stress_rounds.SMALL], ids=["", "small"])
def test_whoever_is_interrupted_leaves_nothing_held(side, stream, buffers, request):
    tls = request.getfixturevalue("certificates") if stream == "tls" else None
    count = rounds(6, 700 if stream == "tcp" else 200)
    with Arena(side, tls, buffers=buffers) as place:
        for number in range(count):
            with repeated(f"strikes {side} {stream} {buffers}", number, count) as rng:
                _strike(place, rng)
        place.closed_once()


def _strike(place: Arena, rng: Any) -> None:
    ws, wire, over = place.pair()
    wire.chatter = rng.choice((0.2, 0.9))
    peer = world.spawn(wire.run, rng)
    ways = rng.choice((WAYS, WAYS[:-1]))
    victims = [Victim(way.__name__, lambda way=way: way(ws)) for way in rng.sample(ways, 4)]
    world.sleep(rng.random() * 0.01)
    struck = rng.sample(victims, rng.randrange(1, 4))
    for victim in struck:
        victim.strike(rng.random() < 0.5)
        if rng.random() < 0.5:
            world.sleep(rng.random() * 0.001)
    # Those who are left go on, or learn that it is over; and so does whoever comes later.
    deadline = time.monotonic() + stress_rounds.WATCHDOG
    for victim in struck:
        if not victim.ended(deadline):
            pytest.fail(f"{victim.name} did not leave\n{stacks()}", pytrace=False)
    if rng.random() < 0.5 and ws.readyState == 1:
        pongs = len(wire.parser.pongs), wire.said
        wire.chatter = 0.9
        said = wire.said
        ws.ping()
        later = Victim("receive", lambda: receive(ws))
        victims.append(later)
        world.eventually(lambda: wire.said > said + 3 or ws.readyState != 1, 5)
        del pongs
    victims.append(Victim("end", lambda: end(ws)))
    for victim in victims:
        if not victim.ended(deadline):
            told = f"{victim.name} hangs, {[v.name for v in struck]} were struck; {_inside(ws)}"
            pytest.fail(f"{told}\n{stacks()}", pytrace=False)
        assert victim.error is None or isinstance(victim.error, ConnectionClosed), victim.error
    over()
    assert ws.wait_closed(stress_rounds.WATCHDOG), f"{[v.name for v in struck]} were struck; {_inside(ws)}"
    try:
        peer.result()
    except AssertionError:
        # After an interrupt in the middle of a frame the connection is dropped: nothing follows.
        raise
    stress_rounds.ended_well(ws, place.closes[-1])


def _inside(ws: Any) -> str:
    names = ("_reader", "_writer", "_message_owner", "_looper", "_dispatcher", "_aborted", "_ended", "_watched", "_state")
    return f"{ {name: getattr(ws, name) for name in names} } lock={ws._lock!r}"
