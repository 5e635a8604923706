"""Headway: what has come is read to its end, slowly too, and what makes no progress costs nothing, and ends."""

from __future__ import annotations

import contextlib
import socket as native
from typing import Any

import pytest
import world
from crowd import crowd, stall
from pairs import connected, quick_ticks
from peer import BINARY, CLOSE, CONTINUE, PING, TEXT, Peer, close_payload, frame
from raw import FIELDS
from world import PATIENCE, Event, Server, eventually, serving, sleep, spawn

from syncws import ConnectionClosed, Request, tending
from syncws.tending import Tended


@pytest.mark.parametrize("way", ["Close", "garbage"])
def test_the_end_of_a_peer_that_takes_nothing_keeps_nobody_busy(way: str, monkeypatch: Any) -> None:
    looks = 0
    look = Tended._tend

    def counted(self: Any, ticked: bool) -> int | None:
        nonlocal looks
        looks += 1
        return look(self, ticked)

    with crowd(1, small=True) as place:
        (ws,), (peer,) = place.sockets, place.peers
        stall(place, ws)
        peer.send_raw(frame(CLOSE, b"\x03\xe8", mask=bytes(4)) if way == "Close" else b"\xff\xff")
        peer.sock.shutdown(native.SHUT_WR)
        eventually(lambda: ws._ended)
        monkeypatch.setattr(Tended, "_tend", counted)
        sleep(1.0)
        assert looks < 50
        assert ws.readyState == ws.CLOSING


@quick_ticks
def test_who_streams_slowly_holds_the_peer_back() -> None:
    with connected(max_payload=0) as (ws, peer):
        piece, count = bytes(100_000), 200

        def send() -> None:
            peer.send(BINARY, piece, fin=False)
            for _ in range(count):
                peer.send(CONTINUE, piece, fin=False)
            peer.send(CONTINUE, b"")

        sending = spawn(send)
        stream = ws.recv_stream()
        size = len(next(stream))
        sleep(1.0)
        assert ws.bytes_received < 1_000_000
        size += sum(map(len, stream))
        assert size == (count + 1) * len(piece)
        sending.result()
        peer.send(TEXT, b"next")
        assert ws.recv(PATIENCE) == "next"


@quick_ticks
def test_a_stream_that_is_given_up_holds_nobody_back() -> None:
    with connected(max_payload=0) as (ws, peer):
        peer.send(BINARY, bytes(100_000), fin=False)
        stream = ws.recv_stream()
        next(stream)
        sending = spawn(lambda: [peer.send(CONTINUE, bytes(100_000), fin=False) for _ in range(100)])
        sleep(0.5)
        stream.close()
        sending.result()
        peer.send(CONTINUE, b"")
        peer.send(TEXT, b"next")
        assert ws.recv(PATIENCE) == "next"


@pytest.mark.parametrize("what", ["pings", "keepalive"])
def test_what_came_before_a_peer_has_gone_is_not_lost_to_who_reads_slowly(what: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(tending, "LINGER", 0.2)
    got: list[int] = []
    ended = Event()

    def accept(ws: Any, request: Any) -> None:
        for message in ws:
            got.append(len(message))
            sleep(0.02)
        ended.set()

    with serving(accept, ping_interval=0.1 if what == "keepalive" else None) as server:
        with Peer.connect(server) as peer:
            for number in range(100):
                peer.send(BINARY, bytes(300))
                if what == "pings" and number % 10 == 0:
                    peer.send(PING)
            peer.send(CLOSE, close_payload(1000))
        assert ended.wait(PATIENCE)
    assert got == [300] * 100


@pytest.mark.parametrize("takes", ["all", "none"])
def test_a_connection_that_cannot_be_written_to_is_dropped_in_the_end(takes: str, monkeypatch: Any) -> None:
    """Its peer goes on sending for a while, which a pair of sockets lets it."""
    monkeypatch.setattr(tending, "LINGER", 0.3)
    mine, theirs = world.pair_of_sockets()
    server = Server(no_server=True, ping_interval=None, close_timeout=0.5)
    got: list[str] = []
    over = Event()

    def accept(ws: Any, request: Any) -> None:
        if takes == "all":
            with contextlib.suppress(ConnectionClosed):
                got.extend(ws)
        over.wait()

    with server, theirs:
        serving_it = spawn(server.handle_upgrade, Request("GET", "/", FIELDS), mine, accept=accept)
        peer = Peer(theirs, client=True)
        peer.read_head()
        eventually(lambda: server.clients)
        (ws,) = server.clients
        theirs.shutdown(native.SHUT_RD)
        with contextlib.suppress(ConnectionClosed):
            ws.ping()
        for _ in range(15 if takes == "all" else 1):
            peer.send(TEXT, b"x")
            sleep(0.1)
        eventually(lambda: ws.readyState == ws.CLOSED)
        over.set()
        serving_it.result()
    assert got == ["x"] * (15 if takes == "all" else 0)
