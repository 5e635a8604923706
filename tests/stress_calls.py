"""One round: many callers on one socket, each doing what comes to its mind; then the reckoning."""

from __future__ import annotations

import random
from typing import Any

import stress_rounds
import world
from stress_rounds import Watched, message

from syncws import ConnectionClosed

SIZES = (0, 5, 100, 130, 2000, 20_000, 70_000)
CODES = (None, 1000, 1001, 3001, 3002, 4003)
CALLERS = 8


class Caller:
    """One of the threads (greenlets) that use a socket at once."""

    def __init__(self, ws: Any, number: int, rng: random.Random, fatal: str | None, listened: bool) -> None:
        self.ws = ws
        self.number = number
        self.rng = rng
        self.fatal = fatal  # what this one does that ends the connection
        self.listened = listened
        self.returned: list[int] = []
        self.doubtful = False  # terminated, or cut a frame short
        self.closed_with: int | None = None
        self._count = 0
        self._ways = [getattr(self, name) for name in dir(self) if name.startswith("do_")]

    def run(self) -> None:
        steps = self.rng.randrange(4, 16)
        moment = self.rng.randrange(steps)
        for step in range(steps):
            if step == moment and self.fatal is not None:
                getattr(self, self.fatal)()
            way = self.rng.choice(self._ways)
            try:
                way()
            except ConnectionClosed:
                if self.rng.random() < 0.5:
                    return
            except TimeoutError:
                pass
            except RuntimeError:
                assert self.listened and way in (self.do_recv, self.do_recv_at_once)
            if self.rng.random() < 0.3:
                world.sleep(self.rng.choice((0, 0, 0.0005)))

    # -- what may be done --

    def _next(self) -> tuple[int, bytes]:
        self._count += 1
        return self._count, message(self.number, self._count, self.rng.choice(SIZES))

    def do_send(self) -> None:
        number, data = self._next()
        self.ws.send(data)
        self.returned.append(number)

    def do_send_text(self) -> None:
        number, data = self._next()
        self.ws.send(data.decode(), compress=self.rng.choice((None, True, False)))
        self.returned.append(number)

    def do_send_fragments(self) -> None:
        number, data = self._next()

        def pieces() -> Any:
            step = max(len(data) // 4, 1)
            for at in range(0, len(data), step):
                if self.rng.random() < 0.1:
                    world.sleep(0)
                yield data[at : at + step]

        self.ws.send(pieces())
        self.returned.append(number)

    def do_send_corked(self) -> None:
        numbers = []
        with self.ws.cork():
            for _ in range(self.rng.randrange(5)):
                number, data = self._next()
                self.ws.send(data)
                numbers.append(number)
        self.returned += numbers

    def do_send_in_a_hurry(self) -> None:
        number, data = self._next()
        try:
            self.ws.send(data, timeout=0.5)
        except TimeoutError:
            self.doubtful = True
            raise
        self.returned.append(number)

    def do_recv(self) -> None:
        whole(self.ws.recv(timeout=self.rng.choice((0.0005, 0.002, 0.01))))

    def do_recv_at_once(self) -> None:
        whole(self.ws.recv(timeout=0))

    def do_ping(self) -> None:
        self.ws.ping(b"%d" % self.number, ignore_closed=self.rng.random() < 0.5)

    def do_pong(self) -> None:
        self.ws.pong(b"", ignore_closed=True)

    def do_pause(self) -> None:
        self.ws.pause()
        world.sleep(0)
        self.ws.resume()

    def do_wait(self) -> None:
        self.ws.wait_closed(0.002)

    def do_look(self) -> None:
        assert self.ws.bufferedAmount >= 0
        assert self.ws.readyState in (1, 2, 3)
        repr(self.ws)

    def close(self) -> None:
        self.closed_with = self.rng.choice(CODES)
        self.ws.close(self.closed_with, "" if self.closed_with is None else "bye")

    def terminate(self) -> None:
        self.doubtful = True
        self.ws.terminate()


def play(arena: stress_rounds.Arena, rng: random.Random, evil: str | None, fatal: str | None) -> None:
    """One connection from its beginning to its end, and whether all was right."""
    arena.resides = rng.random() < 0.3
    ws, wire, over = arena.pair()
    told = arena.closes[-1]
    errors: list[Any] = []
    ws.addEventListener("error", errors.append)
    listened = rng.random() < 0.25
    if listened:
        ws.addEventListener("message", lambda event: whole(event.data))
    wire.evil, wire.evil_after = evil, rng.random() * 0.02
    wire.chatter = rng.choice((0.0, 0.1, 0.5))
    fatal_ones = set(rng.sample(range(CALLERS), 2)) if fatal else ()
    callers = [
        Caller(ws, n, random.Random(rng.random()), fatal if n in fatal_ones else None, listened)
        for n in range(CALLERS)
    ]
    watched = Watched(f"evil={evil} fatal={fatal} listened={listened} resides={arena.resides}")
    watched.start("the peer", wire.run, rng)
    for caller in callers:
        watched.start(f"caller {caller.number}", caller.run)
    if not listened and rng.random() < 0.5:
        watched.start("a reader", _read_to_the_end, ws)

    def end() -> None:
        for _, task in watched.tasks[1 : 1 + CALLERS]:
            task.result(stress_rounds.WATCHDOG)
        ws.close(4000)
        assert ws.wait_closed(stress_rounds.WATCHDOG), "wait_closed()"

    watched.start("the end", end)
    watched.finish()
    over()
    stress_rounds.ended_well(ws, told)
    _reckon(wire, told[0], errors, callers)


def whole(data: str | bytes) -> None:
    """A message of the peer's chatter is what was sent."""
    if isinstance(data, str):
        assert data == "a" * (len(data) - 1) + "b"
    else:
        assert data == b"c" * len(data)


def _read_to_the_end(ws: Any) -> None:
    try:
        while True:
            whole(ws.recv())
    except ConnectionClosed:
        pass
    finally:
        assert ws.readyState != 1


def _reckon(wire: Any, event: Any, errors: list[Any], callers: list[Caller]) -> None:
    """The codes of both ends, and the messages, against each other."""
    parser = wire.parser
    came = stress_rounds.check_messages(parser.messages)
    doubtful = wire.lost or any(caller.doubtful for caller in callers)
    if parser.close is not None:
        # What was sent before the Close has come before it.
        for caller in callers:
            missing = set(caller.returned) - set(came[caller.number])
            assert not missing, f"sent, and lost before the Close: {missing} of caller {caller.number}"
        ours = {caller.closed_with or 1005 for caller in callers if caller.closed_with} | {1005, 4000}
        ours |= {wire.due} if wire.due else {wire.sent_close}
        assert parser.close in ours, f"a Close with {parser.close}"
    expected = {1006 if wire.sent_close is None else wire.sent_close}
    if doubtful:
        expected.add(1006)
    assert event.code in expected, f"closed with {event.code}, not {expected}; the wire: {parser.close}"
    if not doubtful:
        if parser.close is not None or wire.due or wire.sent_close:
            assert parser.between_frames, "the stream ended inside a frame"
        assert event.wasClean == (wire.sent_close is not None), event.wasClean
    assert len(errors) <= 1
    if errors and not doubtful:
        assert wire.due is not None, errors[0].error
    if wire.due is not None and not doubtful:
        assert errors, "no error event for a violation"
