"""A server with many strict peers, who is who, over TCP or TLS; and in how many writes a socket sent what it sent."""

from __future__ import annotations

import contextlib
import socket as _native
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import secure
import world
from pairs import SMALL
from peer import Peer

STREAMS = ("tcp", "tls")
_DATA_SEGS_OUT = 156  # where it is in Linux' struct tcp_info


class Crowd:
    """`join` adds a peer; `sockets` are the server's, in that order. Their handlers wait for the end of the test."""

    def __init__(self, tls: Any = None, small: bool = False, **options: Any) -> None:
        self.sockets: list[Any] = []
        self.peers: list[Peer] = []
        self._small = small
        self._tls = tls
        self._over = world.Event()
        listener = world.raw_listener()
        if small:
            listener.setsockopt(_native.SOL_SOCKET, _native.SO_SNDBUF, SMALL)
        secured = {} if tls is None else {"ssl": tls[0]}
        self.server = world.Server(self._accept, sock=listener, **{"ping_interval": None, **secured, **options})

    def _accept(self, ws: Any, request: Any) -> None:
        self.sockets.append(ws)
        self._over.wait()

    def join(self, *headers: str) -> tuple[Any, Peer]:
        count, room = len(self.sockets), SMALL if self._small else None
        if self._tls is None:
            peer = Peer.connect(self.server, "/", *headers, room=room)
        else:
            peer = secure.tls_client(self.server, self._tls[1], room)
        self.peers.append(peer)
        world.eventually(lambda: len(self.sockets) > count)
        return self.sockets[count], peer

    def __enter__(self) -> Crowd:
        self.server.start()
        return self

    def __exit__(self, *_: Any) -> None:
        for peer in self.peers:
            peer.close()
        self._over.set()
        self.server.close(clients="terminate")


@contextlib.contextmanager
def crowd(count: int = 0, **options: Any) -> Iterator[Crowd]:
    """A server with so many peers already."""
    with Crowd(**options) as made:
        for _ in range(count):
            made.join()
        yield made


def stall(place: Crowd, *targets: Any) -> int:
    """Broadcast to those who do not read until something waits for each, and goes on waiting: how many messages."""
    count = 0
    while True:
        while not all(ws.bufferedAmount for ws in targets):
            place.server.broadcast(f"{count:04}" + "x" * 10_000, to=targets)
            count += 1
        left = [ws.bufferedAmount for ws in targets]
        # What the system took goes on to the peer's side, the last of it with a probe of the window: then there is
        # room again. The first of those comes after 0.2 s.
        world.sleep(0.3)
        for ws in targets:
            ws._flush()
        if left == [ws.bufferedAmount for ws in targets]:
            return count


def writes_of(ws: Any) -> int:
    """How many segments with data left so far: on the loopback, one for each write that is not large."""
    info = ws._transport.sock.getsockopt(_native.IPPROTO_TCP, _native.TCP_INFO, 256)
    if len(info) < _DATA_SEGS_OUT + 4:
        pytest.skip("this system does not count segments")
    return int(struct.unpack_from("=I", info, _DATA_SEGS_OUT)[0])
