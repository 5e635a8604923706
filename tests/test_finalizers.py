"""Calls in the middle of another call, on its thread: a finalizer, or a signal, comes between any two steps."""

from __future__ import annotations

import signal
import threading
import weakref
from typing import Any

import pytest
import world
from pairs import connected
from peer import TEXT
from program import Program
from world import PATIENCE

from syncws.frames import COMPILED
from syncws.transport import Transport

pytestmark = [
    world.threads_only,
    pytest.mark.skipif(not COMPILED, reason="in pure Python such a call waits for ever, as the documents say"),
]

CALLS: dict[str, Any] = {
    "send": lambda ws: ws.send("x"),
    "ping": lambda ws: ws.ping(),
    "close": lambda ws: ws.close(),
    "terminate": lambda ws: ws.terminate(),
    "recv": lambda ws: ws.recv(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_inside_another_is_refused_and_harms_nothing(call: str) -> None:
    with connected() as (ws, peer):
        with ws._lock, pytest.raises(RuntimeError, match="in the middle of another call"):
            CALLS[call](ws)
        assert not ws._lock.locked()
        ws.send("all is well")
        assert peer.read().payload == b"all is well"
        peer.send(TEXT, b"so it is")
        assert ws.recv(PATIENCE) == "so it is"


def test_what_another_thread_holds_is_waited_for() -> None:
    with connected() as (ws, peer):
        with ws._lock:
            sending = world.spawn(ws.send, "later")
            world.sleep(0.1)
            assert not sending.done
        sending.result()
        assert peer.read().payload == b"later"


def test_a_signal_handler_is_refused_while_its_own_thread_is_inside() -> None:
    with connected() as (ws, peer):
        usual = signal.signal(signal.SIGUSR1, lambda *_: ws.send("from the handler"))
        try:
            with pytest.raises(RuntimeError, match="signal handler"), ws._lock:
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, usual)
        ws.send("all is well")
        assert peer.read().payload == b"all is well"


COLLECTED = """
import sys, threading
sys.unraisablehook = lambda unraisable: refused.append(unraisable.exc_value)
refused = []
class Reference:
    def __init__(self):
        self.me = self
    def __del__(self):
        client.send("released")
def accept(ws, request):
    draining = threading.Thread(target=list, args=(ws,), daemon=True)
    draining.start()
    for _ in range(20_000):
        ws.ping(b"p")
        ws.ping(b"q")
        ws.send("x")
    ws.close()
    draining.join(10)
count = 0
def count_one(event):
    global count
    count += 1
    Reference()
with world.serving(accept) as server:
    client = world.Socket(world.url_of(server), proxy=None)
    client.onping = lambda event: Reference()
    client.onmessage = count_one
    assert client.wait_closed(50)
    world.eventually(lambda: count == 20_000)
    assert all(isinstance(error, (RuntimeError, world.syncws.ConnectionClosed)) for error in refused), refused
    say("done")
"""


def test_finalizers_that_send_stop_nothing() -> None:
    with Program(COLLECTED) as program:
        assert program.line() == "done"


def test_the_attendant_does_not_come_upon_what_is_being_finalized(monkeypatch: Any, caplog: Any) -> None:
    """A weak reference gives an object back until its finalizer is through."""
    here = threading.get_ident()

    def slowly(function: Any) -> Any:
        def slow(self: Any) -> None:
            if threading.get_ident() == here:
                world.sleep(0.5)
            function(self)

        return slow

    with world.serving() as server:
        ws = world.Socket(world.url_of(server), proxy=None)
        reference = weakref.ref(ws)
        for name in ("shutdown", "close"):
            monkeypatch.setattr(Transport, name, slowly(getattr(Transport, name)))
        with pytest.warns(ResourceWarning):
            del ws
        world.eventually(lambda: reference() is None)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
