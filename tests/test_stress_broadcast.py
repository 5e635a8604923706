"""Broadcasts from many threads (greenlets) at once, while others send, and connections come and go.

Few rounds by default; SYNCWS_STRESS=full for thousands (then marked `stress`: -m stress). See stress_rounds.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
import stress_rounds
import stress_wire
import world
from stress_rounds import Watched, message, repeated, rounds

from syncws import ConnectionClosed

pytestmark = stress_rounds.marks()

each_stream = pytest.mark.parametrize("stream", ["tcp", "tls"])
SHOUTERS = 4  # who broadcast
SHOUTS = 150  # of each
TALKERS = 3  # who send to one after the other
SIZES = (0, 5, 130, 2000, 20_000)
OPTIONS = [{}, {"compression": True}, {"buffers": stress_rounds.SMALL}]


class Hall:
    """A server, and peers that read all that comes."""

    def __init__(self, rng: random.Random, tls: Any, buffers: int | None = None, compression: bool = False) -> None:
        self.rng = rng
        self._tls = tls
        self._buffers = buffers
        self._compression = compression
        self.wires: list[stress_wire.Wire] = []
        listener = world.raw_listener()
        self._shrink(listener)
        secured = {} if tls is None else {"ssl": tls[0]}
        self.server = world.Server(self._accept, sock=listener, compression=compression, close_timeout=3.0, **secured)
        self.watched = Watched("a hall")
        self.over = False

    def _shrink(self, sock: Any) -> None:
        if self._buffers is not None:
            for option in (world.socket.SO_SNDBUF, world.socket.SO_RCVBUF):
                sock.setsockopt(world.socket.SOL_SOCKET, option, self._buffers)

    @staticmethod
    def _accept(ws: Any, request: Any) -> None:
        for _ in ws:
            pass

    def join(self, evil: str | None = None) -> stress_wire.Wire:
        sock = world.socket.socket(world.socket.AF_INET, world.socket.SOCK_STREAM)
        self._shrink(sock)
        sock.settimeout(world.PATIENCE)
        sock.connect(self.server.address())
        wire = stress_wire.client_ask(
            stress_wire.Stream(sock, self._tls and self._tls[1]), "/", self._compression and self.rng.random() < 0.8
        )
        wire.chatter = self.rng.choice((0.0, 0.2))
        wire.evil, wire.evil_after = evil, self.rng.random() * 0.03
        self.wires.append(wire)
        self.watched.start(f"peer {len(self.wires)}", wire.run, random.Random(self.rng.random()))
        return wire

    # -- who is in it --

    def shout(self, number: int, rng: random.Random) -> None:
        """Messages for all, each of them once, in order."""
        for count in range(SHOUTS):
            data = message(number, count, rng.choice(SIZES))
            self.server.broadcast(data.decode() if rng.random() < 0.5 else data)
            if rng.random() < 0.3:
                world.sleep(rng.choice((0, 0.0005)))

    def talk(self, number: int, rng: random.Random) -> None:
        """Messages for one, in every form."""
        count = 0
        while not self.over:
            clients = sorted(self.server.clients, key=id)
            if not clients:
                world.sleep(0)
                continue
            ws, count = rng.choice(clients), count + 1
            data = message(number, count, rng.choice(SIZES))
            with contextlib.suppress(ConnectionClosed):
                way = rng.randrange(5)
                if way == 0:
                    half = len(data) // 2
                    ws.send(data[at : at + half] for at in (0, half, 2 * half))
                elif way == 1:
                    with ws.cork():
                        ws.ping()
                        ws.send(data)
                else:
                    ws.send(data)
            world.sleep(rng.choice((0, 0, 0.001)))

    def come_and_go(self) -> None:
        while not self.over:
            self.join(self.rng.choice(("close", "reset", "end", "garbage", "cut", None)))
            world.sleep(self.rng.random() * 0.01)


@each_stream
@pytest.mark.parametrize("options", OPTIONS, ids=["", "deflate", "small"])
def test_everyone_hears_all_of_each_in_order(options: Any, stream: str, tls: Any) -> None:
    count = rounds(3 if stream == "tcp" else 1, 400 if stream == "tcp" else 100)
    for number in range(count):
        with repeated(f"hall {stream} {sorted(options)}", number, count) as rng:
            _play(Hall(rng, tls, **options))


def _play(hall: Hall) -> None:
    rng = hall.rng
    with hall.server:
        steady = [hall.join() for _ in range(4)]
        world.eventually(lambda: len(hall.server.clients) == len(steady))
        guests = world.spawn(hall.come_and_go)
        seeds = [random.Random(rng.random()) for _ in range(SHOUTERS + TALKERS)]
        shouting = [world.spawn(hall.shout, one, seeds[one]) for one in range(SHOUTERS)]
        talking = [world.spawn(hall.talk, one, seeds[one]) for one in range(SHOUTERS, SHOUTERS + TALKERS)]
        try:
            for task in shouting:
                task.result(stress_rounds.WATCHDOG)
        finally:
            hall.over = True
        for task in (*talking, guests):
            task.result(stress_rounds.WATCHDOG)
        sockets = hall.server.clients
        hall.server.close()
    hall.watched.finish()
    for ws in sockets:
        assert ws.bufferedAmount == 0
    for wire in hall.wires:
        came = stress_rounds.check_messages(wire.parser.messages)
        for shouter in range(SHOUTERS):
            heard = came[shouter]
            # Whoever came late or went early has missed what was before, or behind.
            assert heard == list(range(SHOUTS))[heard[0] if heard else 0 :][: len(heard)]
            assert wire not in steady or len(heard) == SHOUTS
        assert wire not in steady or wire.parser.close == 1001
