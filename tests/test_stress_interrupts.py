"""KeyboardInterrupt, GreenletExit and gevent.Timeout at random moments: nothing is left held, nobody is forgotten.

Few rounds by default; SYNCWS_STRESS=full for thousands (then marked `stress`: -m stress). See stress_rounds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import stress_rounds
import world
from stress_rounds import Arena, repeated, rounds, stacks
from stress_strikes import Victim

from syncws import ConnectionClosed

pytestmark = stress_rounds.marks()


@pytest.fixture(autouse=True)
def strikes_that_python_ignores(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that falls into a finalizer or a weak reference's callback, such as threading's, goes no further."""
    told = sys.unraisablehook
    monkeypatch.setattr(sys, "unraisablehook", lambda what: what.exc_type is KeyboardInterrupt or told(what))


each_side = pytest.mark.parametrize("side", ["client", "server"])
each_stream = pytest.mark.parametrize("stream", ["tcp", "tls"])


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


def send_corked(ws: Any) -> None:
    while True:
        with ws.cork():
            ws.send(b"z" * 300)
            ws.send(b"z" * 3000)
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


WAYS = (receive, receive, receive, receive_in_time, send, send, send_fragments, send_corked, control, end)


@each_stream
@each_side
@pytest.mark.parametrize("buffers", [None, stress_rounds.SMALL], ids=["", "small"])
def test_whoever_is_interrupted_leaves_nothing_held(side, stream, buffers, tls):
    count = rounds(6, 700 if stream == "tcp" else 200)
    with Arena(side, tls, buffers=buffers) as place:
        for number in range(count):
            with repeated(f"strikes {side} {stream} {buffers}", number, count) as rng:
                _strike(place, rng)
        place.closed_once()


def _strike(place: Arena, rng: Any) -> None:
    # Without a listener: a thread that just starts another is taken for it by PyThreadState_SetAsyncExc.
    ws, wire, over = place.pair(listen=False)
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
    deadline = time.monotonic() + stress_rounds.WATCHDOG
    who = f"{[victim.name for victim in struck]} were struck, "

    def leaves(victim: Victim) -> None:
        if not victim.ended(deadline):
            pytest.fail(f"{who}{victim.name} hangs; {_inside(ws)}\n{stacks()}", pytrace=False)
        assert victim.error is None or isinstance(victim.error, ConnectionClosed), victim.error

    for victim in struck:
        leaves(victim)
    # Those who are left go on, or learn that it is over; so does whoever comes later.
    if rng.random() < 0.5 and ws.readyState == 1:
        wire.chatter = 0.9
        said = wire.said
        victims.append(Victim("receive", lambda: receive(ws)))
        ws.ping(ignore_closed=True)
        world.eventually(lambda: wire.said > said + 3 or peer.done or ws.readyState != 1, 5)
    victims.append(Victim("end", lambda: end(ws)))
    for victim in victims:
        leaves(victim)
    over()
    assert ws.wait_closed(stress_rounds.WATCHDOG), who + _inside(ws)
    peer.result()
    told = place.closes[-1]
    ws.addEventListener("close", told.append)
    assert ws.wait_closed(stress_rounds.WATCHDOG), who + _inside(ws)
    stress_rounds.ended_well(ws, told)


def _inside(ws: Any) -> str:
    """For whoever must find out why."""
    return str({name: getattr(ws, name) for name in (*ws._ROLES, "_state", "_aborted", "_ended", "_watched")})


# -- signals: the main thread of a process of its own ----------------------------------------------------------

_SIGNALLED = """
import os, random, signal, sys, threading, time
sys.path[:0] = {path!r}
import stress_rounds, world
from syncws import ConnectionClosed

rng = random.Random({seed!r})
count = {count}
aims = threading.Semaphore(0)
hit = threading.Event()

def shooter():
    while True:
        aims.acquire()
        time.sleep(rng.random() * 0.004)
        os.kill(os.getpid(), signal.SIGINT)
        hit.set()

def work(ws):
    while True:
        kind = rng.randrange(7)
        if kind == 0:
            ws.send(b"x" * 100)
        elif kind == 1:
            ws.send([b"x" * 10, b"y" * 3000])
        elif kind == 2:
            ws.ping()
        elif kind == 5:
            with ws.cork():
                ws.send(b"x" * 100)
                ws.send(b"x" * 100)
        elif kind == 3 and rng.random() < 0.1:
            ws.close(4000)
        elif kind == 4 and rng.random() < 0.1:
            ws.wait_closed()
        else:
            ws.recv()

def play(place):
    ws, wire, over = place.pair()
    wire.chatter = 0.8
    peer = world.spawn(wire.run, rng)
    def other():
        try:
            while True:
                ws.recv()
        except ConnectionClosed:
            pass
    companion = world.spawn(other) if rng.random() < 0.5 else None
    hit.clear()
    struck = False
    aims.release()
    try:
        try:
            work(ws)
        except ConnectionClosed:
            pass
        while not hit.is_set():
            hit.wait(1)
        time.sleep(0.001)
    except KeyboardInterrupt:
        began = time.monotonic()
    while not hit.is_set():
        hit.wait(1)
    ws.close(4001)
    assert ws.wait_closed(5), "wait_closed"
    peer.result()
    if companion is not None:
        companion.result()
    over()
    told = place.closes[-1]
    assert ws._runtime.acquire(ws._lock, 2), "the state lock is held"
    ws._lock.release()
    assert len(told) <= 1
    world.eventually(lambda: all(getattr(ws, name) is None for name in ws._ROLES))

sys.setswitchinterval(1e-6)
threading.Thread(target=shooter, daemon=True).start()
with stress_rounds.Arena({side!r}, close_timeout=1.0) as place:
    for number in range(count):
        try:
            play(place)
        except BaseException as error:
            print(f"round {{number}}: {{error!r}}", stress_rounds.stacks(), sep="\\n", flush=True)
            os._exit(1)
print("all well", flush=True)
os._exit(0)
"""


@world.threads_only  # gevent hands a signal to its hub; what becomes of greenlets is tested above
@each_side
def test_ctrl_c_at_any_moment_leaves_nothing_held(side):
    path = [str(Path(__file__).parent), str(world.HOME)]
    script = _SIGNALLED.format(path=path, seed=f"{stress_rounds.SEED} signals", side=side, count=rounds(40, 2000))
    limit = 2000 if stress_rounds.FULL else 40
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, f"SYNCWS_STRESS_SEED={stress_rounds.SEED}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines()[-1] == "all well"
