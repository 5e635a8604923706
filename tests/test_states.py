"""Every cell of the table in docs/states.md: what happens, in which state, and the one outcome it has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pairs import BLOCKING, SIDES, Journal, connected, quick_ticks
from peer import CLOSE, PING, PONG, TEXT, Frame, Peer, close_payload
from world import PATIENCE, eventually, spawn

from syncws import CLOSED, CLOSING, OPEN, ConnectionClosed, ProtocolError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "states.md"
OURS, THEIRS = 4000, 4001
SOON = 0.2  # seconds to the timers, where a timer is what happens
RESERVED_OPCODE = {"client": b"\x83\x00", "server": b"\x83\x80\0\0\0\0"}


def rows() -> Iterator[tuple[str, str, str]]:
    """Happening, state and outcome of each cell, without the backquotes."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    table = [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]
    header, _, *body = table
    for happening, *outcomes in body:
        for state, outcome in zip(header[1:], outcomes, strict=True):
            yield happening, state, outcome


class Scene:
    """One socket in one state, what it tells, and what came of the happening."""

    def __init__(self, ws: Any, peer: Peer, side: str, happening: str) -> None:
        self.ws, self.peer, self.side, self.happening = ws, peer, side, happening
        self.journal = Journal(ws, "close", "error")
        self.messages: list[Any] = []
        self.task: Any = None
        self.frames: list[Frame] | None = None

    def known(self) -> tuple[Any, ...]:
        ws = self.ws
        return ws.readyState, ws.close_code, ws.close_reason, ws.is_paused, list(self.messages)

    def see_the_end(self) -> list[Frame]:
        """End the connection from the peer's side, once; all frames that the socket sent meanwhile."""
        if self.frames is None:
            self.ws.resume()
            with contextlib.suppress(OSError):
                if self.ws.readyState == OPEN:
                    self.peer.send(CLOSE, close_payload(THEIRS))
                self.peer.end()
                closed = spawn(self.ws.wait_closed, PATIENCE)
                self.frames = self.peer.read_all()
                assert closed.result()
            assert self.ws.wait_closed(PATIENCE)
        return self.frames or []

    def closes_with(self, code: int) -> None:
        assert self.ws.wait_closed(PATIENCE)
        assert self.ws.close_code == code
        assert self.journal.last("close").code == code


# -- states ------------------------------------------------------------------------------------------------------


def open_(scene: Scene) -> None:
    assert scene.ws.readyState == OPEN


def closing_by_us(scene: Scene) -> None:
    scene.ws.close(OURS)
    assert scene.ws.readyState == CLOSING
    if scene.task is None:
        assert scene.peer.read().code == OURS


def closing_by_peer(scene: Scene) -> None:
    scene.peer.send(CLOSE, close_payload(THEIRS, "bye"))
    if scene.task is not None:
        eventually(lambda: scene.ws.readyState == CLOSING)
        return
    with pytest.raises(ConnectionClosed):
        scene.ws.recv(PATIENCE)
    assert (scene.ws.readyState, scene.ws.close_code) == (CLOSING, THEIRS)
    assert scene.peer.read().code == THEIRS


def closed(scene: Scene) -> None:
    if scene.task is not None:
        scene.ws.terminate()
        return
    closing_by_peer(scene)
    scene.peer.end()
    assert scene.ws.wait_closed(PATIENCE)


STATES: dict[str, Callable[[Scene], None]] = {
    "OPEN": open_,
    "CLOSING by us": closing_by_us,
    "CLOSING by peer": closing_by_peer,
    "CLOSED": closed,
}

# -- happenings --------------------------------------------------------------------------------------------------


def begin_blocked_send(scene: Scene) -> None:
    """Before the state is entered."""
    scene.task = spawn(scene.ws.send, BLOCKING)
    eventually(lambda: scene.ws.bufferedAmount > 0)


def listen(scene: Scene) -> None:
    scene.ws.onmessage = lambda event: scene.messages.append(event.data)


def call(method: str, *args: Any) -> Callable[[Scene], None]:
    def do(scene: Scene) -> None:
        scene.task = spawn(getattr(scene.ws, method), *args)

    return do


def iterate(scene: Scene) -> None:
    scene.task = spawn(lambda: next(iter(scene.ws)))


def resume(scene: Scene) -> None:
    if scene.ws.readyState == OPEN:
        scene.ws.pause()
    scene.ws.resume()


def peer_does(action: Callable[[Scene], None]) -> Callable[[Scene], None]:
    def do(scene: Scene) -> None:
        with contextlib.suppress(OSError):  # where nobody is there any more to take it
            action(scene)

    return do


def wait_for_timers(scene: Scene) -> None:
    """Until those of another socket, set later, have rung."""
    if scene.ws.readyState == CLOSED:
        with connected(ping_interval=SOON, ping_timeout=SOON) as (other, _):
            assert other.wait_closed(PATIENCE)


HAPPENINGS: dict[str, Callable[[Scene], None]] = {
    "recv": call("recv", PATIENCE),
    "iterate": iterate,
    "listener": listen,
    "send": call("send", "m"),
    "blocked send": lambda scene: None,
    "ping": call("ping", b"m"),
    "pause": lambda scene: scene.ws.pause(),
    "resume": resume,
    "close": lambda scene: scene.ws.close(OURS),
    "terminate": lambda scene: scene.ws.terminate(),
    "peer data": peer_does(lambda scene: scene.peer.send(TEXT, b"m")),
    "peer ping": peer_does(lambda scene: scene.peer.send(PING, b"m")),
    "peer Close": peer_does(lambda scene: scene.peer.send(CLOSE, close_payload(THEIRS, "bye"))),
    "peer garbage": peer_does(lambda scene: scene.peer.send_raw(RESERVED_OPCODE[scene.side])),
    "EOF": lambda scene: scene.peer.end(),
    "RST": peer_does(lambda scene: scene.peer.reset()),
    "timer": wait_for_timers,
}

# -- outcomes ----------------------------------------------------------------------------------------------------


def takes_the_next(scene: Scene) -> None:
    scene.peer.send(TEXT, b"m")
    if scene.task is None:
        eventually(lambda: scene.messages == ["m"])
    else:
        assert scene.task.result() == "m"


def raises(code: int) -> Callable[[Scene], None]:
    def check(scene: Scene) -> None:
        with pytest.raises(ConnectionClosed) as caught:
            scene.task.result()
        assert caught.value.code == code

    return check


def goes_out(scene: Scene) -> None:
    scene.task.result()
    assert scene.peer.read()[2:] == ({"send": TEXT, "ping": PING}[scene.happening], scene.side == "client", b"m")


def completes_then(code: int | None) -> Callable[[Scene], None]:
    def check(scene: Scene) -> None:
        assert scene.peer.read().payload == BLOCKING
        scene.task.result()
        if code is not None:
            got = scene.peer.read()
            assert (got.opcode, got.code) == (CLOSE, code)

    return check


def reading_stops(scene: Scene) -> None:
    assert scene.ws.is_paused
    scene.peer.send(TEXT, b"m")
    with pytest.raises(TimeoutError):
        scene.ws.recv(0.1)
    scene.ws.resume()
    assert scene.ws.recv(PATIENCE) == "m"


def is_kept(scene: Scene) -> None:
    if scene.happening == "resume":
        assert not scene.ws.is_paused
        scene.peer.send(TEXT, b"m")
    assert scene.ws.recv(PATIENCE) == "m"


def a_close_goes_out(scene: Scene) -> None:
    assert scene.ws.readyState == CLOSING
    assert scene.peer.read().code == OURS


def closes(code: int) -> Callable[[Scene], None]:
    def check(scene: Scene) -> None:
        scene.closes_with(code)
        assert scene.journal.told == ["close"]

    return check


def closes_by_handshake(scene: Scene) -> None:
    """As above; the peer still has to end the TCP connection, or to reset it."""
    if scene.happening == "peer Close":
        eventually(lambda: scene.ws.close_code == THEIRS)
        scene.see_the_end()
        assert scene.journal.last("close").wasClean
    closes(THEIRS)(scene)


def a_pong(scene: Scene) -> None:
    assert scene.peer.read()[2:] == (PONG, scene.side == "client", b"m")


def no_pong(scene: Scene) -> None:
    scene.peer.send(TEXT, b"after")
    assert scene.ws.recv(PATIENCE) == "after"
    assert scene.see_the_end() == []


def echoed(scene: Scene) -> None:
    got = scene.peer.read()
    assert (got.opcode, got.payload) == (CLOSE, close_payload(THEIRS, "bye"))
    assert (scene.ws.readyState, scene.ws.close_code, scene.ws.close_reason) == (CLOSING, THEIRS, "bye")


def fails(scene: Scene) -> None:
    eventually(lambda: scene.journal.told)
    scene.see_the_end()
    scene.closes_with(1006)
    assert scene.journal.told == ["error", "close"]
    assert isinstance(scene.journal.last("error").error, ProtocolError)


def fails_with_close(scene: Scene) -> None:
    assert scene.peer.read().code == 1002
    fails(scene)


def dropped(scene: Scene) -> None:
    """Nothing comes of it, and the end is as it would have been."""
    before = scene.known()[1:]
    assert scene.see_the_end() == []
    assert scene.known()[1:] == before
    assert scene.journal.told == ["close"]
    with pytest.raises(ConnectionClosed):
        scene.ws.recv(0)


OUTCOMES: dict[str, Callable[[Scene], None]] = {
    "takes the next message": takes_the_next,
    "raises the peer's code": raises(THEIRS),
    "raises 1006": raises(1006),
    "goes out": goes_out,
    "completes": completes_then(None),
    "completes, then our Close": completes_then(OURS),
    "completes, then the echo": completes_then(THEIRS),
    "reading stops": reading_stops,
    "reading goes on": is_kept,
    "a Close goes out, CLOSING by us": a_close_goes_out,
    "CLOSED with 1006": closes(1006),
    "CLOSED with the peer's code": closes_by_handshake,
    "kept for whoever reads": is_kept,
    "a pong goes out": a_pong,
    "no pong": no_pong,
    "echoed, CLOSING by peer": echoed,
    "a Close goes out, error, CLOSED with 1006": fails_with_close,
    "error, CLOSED with 1006": fails,
    "dropped": dropped,
}

# -- the walk ----------------------------------------------------------------------------------------------------


def options_for(happening: str, state: str) -> dict[str, Any]:
    options: dict[str, Any] = {"ping_interval": None, "small": happening == "blocked send"}
    if happening == "timer":
        options["close_timeout"] = SOON
    if happening == "timer" and state in ("OPEN", "CLOSED"):
        options.update(ping_interval=SOON, ping_timeout=SOON)
    return options


def test_the_table_names_each_state_each_happening_and_no_unknown_outcome() -> None:
    cells = list(rows())
    assert [cell[:2] for cell in cells] == [(happening, state) for happening in HAPPENINGS for state in STATES]
    assert {cell[2] for cell in cells} == {*OUTCOMES, "nothing"}


@quick_ticks
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("happening", "state", "outcome"), list(rows()))
def test_each_cell_has_its_outcome(happening: str, state: str, outcome: str, side: str) -> None:
    with connected(side, **options_for(happening, state)) as (ws, peer):
        scene = Scene(ws, peer, side, happening)
        if happening == "blocked send":
            begin_blocked_send(scene)
        STATES[state](scene)
        before = scene.known()
        HAPPENINGS[happening](scene)
        if outcome == "nothing":
            assert scene.known() == before
        else:
            OUTCOMES[outcome](scene)
        scene.see_the_end()
        if outcome == "nothing":
            assert (ws.close_code, scene.messages) == (before[1] or ws.close_code, [])
        # Whatever happened: CLOSED at last, told once, and after any error.
        assert ws.readyState == CLOSED
        assert scene.journal.told in (["close"], ["error", "close"])
        assert scene.journal.states[-1] == CLOSED
