"""Moments that are a few instructions long, each made to happen: what another thread does just then."""

from __future__ import annotations

from typing import Any

import pytest
from interposed import Interposed
from pairs import connected
from peer import TEXT
from world import PATIENCE, Event, Socket, eventually, serving, spawn, url_of

from syncws.websocket import Connection


def test_a_message_that_another_caller_read_meanwhile_is_not_left_lying() -> None:
    with connected("server") as (ws, peer):
        peer.send(TEXT, b"first")
        assert spawn(ws.recv, PATIENCE).result() == "first"  # the main thread would end every wait after half a second
        peer.send(TEXT, b"second")
        peer.send(TEXT, b"third")
        lock = ws._lock

        def another() -> None:
            ws._lock = lock
            assert ws.recv(PATIENCE) == "second"
            eventually(lambda: ws._inbox)  # the third came in the same read, or by the attendant

        ws._lock = Interposed(lock, before=another)
        assert spawn(ws.recv).result() == "third"


def test_a_listener_may_be_added_at_the_moment_when_accept_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets: list[Any] = []
    told: list[str] = []
    done, gone = Event(), Event()

    def accept(ws: Any, request: Any) -> None:
        sockets.append(ws)
        ws.onclose = lambda event: gone.set()
        assert done.wait(PATIENCE)

    with serving(accept) as server, Socket(url_of(server)) as client:
        eventually(lambda: sockets)
        ws, needs_loop = sockets[0], Connection._needs_loop
        lock, asked = ws._lock, []

        def ask(self: Any) -> bool:
            asked.append(self)
            return needs_loop(self)

        def accept_returns() -> None:
            if asked:
                ws._lock = lock
                done.set()
                eventually(lambda: ws._home is None)

        monkeypatch.setattr(Connection, "_needs_loop", ask)
        ws._lock = Interposed(lock, after=accept_returns)
        ws.addEventListener("message", lambda event: told.append(event.data))
        assert done.is_set()
        client.send("a")
        eventually(lambda: told == ["a"])
        client.close()
        assert gone.wait(PATIENCE)
