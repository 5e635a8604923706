"""A `Socket`, as a client has it or as a server has it, and at its other end the strict peer."""

from __future__ import annotations

import contextlib
import socket as _native
from collections.abc import Iterator
from typing import Any

import pytest
import world
from peer import TEXT, Peer

SIDES = ("client", "server")
SMALL = 16384  # bytes of socket buffer, so that a write soon blocks
BLOCKING = bytes(192 * 1024)  # a message that does not fit into such buffers
quick_ticks = pytest.mark.usefixtures("quick_ticks")  # where a test waits for the attendant


@contextlib.contextmanager
def connected(
    side: str = "client", *, answer: tuple[str, ...] = (), extra: bytes = b"", small: bool = False, **options: Any
) -> Iterator[tuple[Any, Peer]]:
    """An open `Socket` of that side and its peer. `answer`, `extra`: see `Peer`. `small`: tiny buffers towards it."""
    with contextlib.ExitStack() as stack:
        make = _client if side == "client" else _server
        ws, peer = make(stack, answer, extra, small, options)
        stack.callback(ws.terminate)
        stack.callback(peer.close)
        yield ws, peer


def _client(stack: Any, answer: Any, extra: bytes, small: bool, options: Any) -> tuple[Any, Peer]:
    listener = stack.enter_context(world.raw_listener())
    address = listener.getsockname()
    if small:
        listener.setsockopt(_native.SOL_SOCKET, _native.SO_RCVBUF, SMALL)
        options["sock"] = world.raw_connection(address)
        options["sock"].setsockopt(_native.SOL_SOCKET, _native.SO_SNDBUF, SMALL)
    accepting = world.spawn(Peer.accept, listener, *answer, extra=extra)
    ws = world.Socket(f"ws://127.0.0.1:{address[1]}/", **options)
    return ws, accepting.result()


def _server(stack: Any, answer: Any, extra: bytes, small: bool, options: Any) -> tuple[Any, Peer]:
    listener = world.raw_listener()
    if small:
        listener.setsockopt(_native.SOL_SOCKET, _native.SO_SNDBUF, SMALL)
    sockets: list[Any] = []
    arrived, over = world.Event(), world.Event()

    def accept(ws: Any, request: Any) -> None:
        sockets.append(ws)
        arrived.set()
        over.wait()

    server = stack.enter_context(world.Server(accept, sock=listener, **options))
    stack.callback(over.set)
    peer = Peer.connect(server, "/", *answer, extra=extra, room=SMALL if small else None)
    assert arrived.wait(world.PATIENCE)
    return sockets[0], peer


class Journal:
    """What the listeners of a socket were told, in order: types, or messages.

    Without a socket, `note` is for whoever makes one to pass as a listener.
    """

    def __init__(self, ws: Any, *types: str) -> None:
        self.told: list[Any] = []
        self.events: list[Any] = []
        self.states: list[int] = []
        if ws is None:
            return
        for type in types or ("open", "message", "error", "close"):
            ws.addEventListener(type, self.note)

    def note(self, event: Any) -> None:
        self.states.append(event.target.readyState)
        self.events.append(event)
        self.told.append(event.data if event.type == "message" else event.type)

    def last(self, type: str) -> Any:
        return [event for event in self.events if event.type == type][-1]


def still_works(ws: Any, peer: Peer) -> None:
    """A message each way."""
    ws.send("still here")
    assert peer.read()[2:] == (TEXT, not peer.client, b"still here")
    peer.send(TEXT, b"and so am I")
    assert ws.recv(world.PATIENCE) == "and so am I"


def end_of(ws: Any, journal: Journal) -> tuple[int, str, bool]:
    """How it ended, as the event says; it is CLOSED, told once, and the attributes agree."""
    assert ws.wait_closed(world.PATIENCE)
    assert ws.readyState == ws.CLOSED
    assert journal.told.count("close") == 1
    event = journal.last("close")
    assert (ws.close_code, ws.close_reason) == (event.code, event.reason)
    return event.code, event.reason, event.wasClean
