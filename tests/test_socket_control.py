"""Pings, pongs, keepalive and the counters of a `Socket`, on either side."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import pytest
from pairs import BLOCKING, SIDES, Journal, connected, quick_ticks, still_works
from peer import CLOSE, CONTINUE, PING, PONG, TEXT, Frame, Peer, close_payload, frame
from world import PATIENCE, Event, Socket, eventually, serving, sleep, spawn, url_of

import syncws
from syncws.transport import Transport

each_side = pytest.mark.parametrize("side", SIDES)
each_kind = pytest.mark.parametrize(("kind", "opcode"), [("ping", PING), ("pong", PONG)])

# -- pings and pongs ---------------------------------------------------------------------------------------------


@each_side
@each_kind
@pytest.mark.parametrize(
    ("data", "payload"),
    [(b"", b""), ("h\u00e9", "h\u00e9".encode()), (bytearray(b"ab"), b"ab"), (memoryview(b"abc")[1:], b"bc"),
     (b"a" * 125, b"a" * 125)],
)  # fmt: skip
def test_a_control_frame_carries_what_it_is_given(kind: str, opcode: int, data: Any, payload: bytes, side: str) -> None:
    with connected(side) as (ws, peer):
        getattr(ws, kind)(data)
        assert peer.read() == Frame(True, 0, opcode, side == "client", payload)


@each_kind
@pytest.mark.parametrize(("data", "error"), [(b"a" * 126, ValueError), ("\u20ac" * 42, ValueError), (5, TypeError)])
def test_what_no_control_frame_can_carry_is_refused_and_the_connection_goes_on(
    kind: str, opcode: int, data: Any, error: Any
) -> None:
    with connected() as (ws, peer):
        with pytest.raises(error):
            getattr(ws, kind)(data)
        still_works(ws, peer)


@each_kind
def test_a_control_frame_may_go_unmasked(kind: str, opcode: int) -> None:
    with connected() as (ws, peer):
        getattr(ws, kind)(b"a", mask=False)
        assert peer.sock.recv(100) == bytes([0x80 | opcode, 1]) + b"a"


@each_kind
@each_side
def test_on_a_socket_that_is_not_open_pings_raise_or_do_nothing(kind: str, opcode: int, side: str) -> None:
    with connected(side) as (ws, peer):
        ws.close(4000)
        with pytest.raises(syncws.ConnectionClosed):
            getattr(ws, kind)(b"a")
        getattr(ws, kind)(b"a", ignore_closed=True)
        with pytest.raises(ValueError):
            getattr(ws, kind)(b"a" * 126, ignore_closed=True)
        peer.expect_close(4000)
        peer.end()
        assert ws.wait_closed(PATIENCE)
        getattr(ws, kind)(b"a", ignore_closed=True)
        assert peer.read_all() == []


@each_side
def test_each_ping_is_answered_with_what_it_carried(side: str) -> None:
    with connected(side) as (ws, peer):
        reading = spawn(ws.recv, PATIENCE)
        for number in range(10):
            peer.send(PING, str(number).encode())
        assert [peer.read()[2:] for _ in range(10)] == [
            (PONG, side == "client", str(number).encode()) for number in range(10)
        ]
        peer.send(TEXT, b"a", fin=False)
        peer.send(PING, b"between")
        assert peer.read().payload == b"between"
        peer.send(CONTINUE, b"b")
        assert reading.result() == "ab"


def test_pings_are_not_answered_without_auto_pong_but_told() -> None:
    with connected(auto_pong=False) as (ws, peer):
        journal = Journal(ws, "ping")
        peer.send(PING, b"a")
        peer.send(TEXT, b"read up to here")
        assert ws.recv(PATIENCE) == "read up to here"
        eventually(lambda: journal.told == ["ping"])
        assert journal.events[0].data == b"a"
        still_works(ws, peer)  # no pong came before it


@quick_ticks
@each_side
@pytest.mark.parametrize("read", [False, True])
def test_a_ping_and_a_pong_are_told_with_their_payload(side: str, read: bool, request: Any) -> None:
    if read and side == "client":  # where a server's thread is busy in accept(), listeners wait for the attendant
        request.getfixturevalue("unattended")
    with connected(side) as (ws, peer):
        journal = Journal(ws, "ping", "pong")
        if read:
            spawn(ws.recv)
            eventually(lambda: ws._reader)
        peer.send(PING, b"a")
        eventually(lambda: journal.told == ["ping"])  # and not only when more comes
        peer.send(PONG, b"b")
        eventually(lambda: journal.told == ["ping", "pong"])
        assert [event.data for event in journal.events] == [b"a", b"b"]


@each_side
def test_latency_is_the_time_between_ping_and_pong(side: str) -> None:
    with connected(side, ping_interval=None) as (ws, peer):
        assert ws.latency is None
        peer.send(PONG, b"unasked")
        peer.send(TEXT, b"")
        assert ws.recv(PATIENCE) == ""
        assert ws.latency is None
        started = time.monotonic()
        ws.ping(b"a")
        assert peer.read().payload == b"a"
        sleep(0.05)  # what is to be measured
        peer.send(PONG, b"a")
        peer.send(TEXT, b"")
        assert ws.recv(PATIENCE) == ""
        assert 0.05 <= ws.latency <= time.monotonic() - started


# -- control frames are not held up ------------------------------------------------------------------------------


def warm(ws: Any, peer: Peer) -> None:
    """Some unread messages, fewer than `max_queue`."""
    for _ in range(3):
        peer.send(TEXT, b"unread")
    peer.send(TEXT, b"beginning", fin=False)


@quick_ticks
@each_side
@pytest.mark.parametrize("unread", [False, True])
def test_a_ping_is_answered_within_a_second_though_nobody_reads(side: str, unread: bool) -> None:
    with connected(side) as (ws, peer):
        if unread:
            warm(ws, peer)
        for _ in range(2):
            started = time.monotonic()
            peer.send(PING, b"a")
            assert peer.read().payload == b"a"
            assert time.monotonic() - started < 1


@quick_ticks
@each_side
@pytest.mark.parametrize("unread", [False, True])
def test_a_close_is_noticed_within_a_second_though_nobody_reads(side: str, unread: bool) -> None:
    with connected(side) as (ws, peer):
        if unread:
            warm(ws, peer)
        started = time.monotonic()
        peer.send(CLOSE, close_payload(4000, "bye"))
        assert peer.read().payload == close_payload(4000, "bye")
        assert (ws.readyState, ws.close_code, ws.close_reason) == (syncws.CLOSING, 4000, "bye")
        assert time.monotonic() - started < 1


@quick_ticks
@each_side
def test_a_listener_at_work_holds_up_no_ping_and_no_close(side: str) -> None:
    with connected(side) as (ws, peer):
        go_on, at_work = Event(), Event()

        def slow(event: Any) -> None:
            at_work.set()
            go_on.wait(PATIENCE)

        ws.onmessage = slow
        peer.send(TEXT, b"a")
        assert at_work.wait(PATIENCE)
        peer.send(PING, b"p")
        assert peer.read().payload == b"p"
        peer.send(CLOSE, close_payload(4000))
        peer.expect_close(4000, answer=False)
        go_on.set()


def test_no_pong_falls_into_the_middle_of_a_frame() -> None:
    with connected(small=True) as (ws, peer):
        sending = spawn(ws.send, BLOCKING)
        eventually(lambda: ws.bufferedAmount > 0)
        peer.send(PING, b"a")
        assert peer.read().payload == BLOCKING
        assert peer.read()[2:] == (PONG, True, b"a")
        sending.result()


# -- keepalive ---------------------------------------------------------------------------------------------------


@each_side
def test_a_peer_that_does_not_answer_pings_is_dropped(side: str) -> None:
    with connected(side, ping_interval=0.1, ping_timeout=0.1) as (ws, peer):
        journal = Journal(ws, "close", "error")
        assert peer.read().opcode == PING
        assert ws.wait_closed(PATIENCE)
        assert (ws.close_code, journal.told) == (1006, ["close"])


@each_side
def test_a_peer_that_answers_pings_is_kept(side: str) -> None:
    with connected(side, ping_interval=0.05, ping_timeout=1) as (ws, peer):
        for _ in range(4):
            got = peer.read()
            assert got.opcode == PING
            peer.send(PONG, got.payload)
        eventually(lambda: ws.latency is not None)
        assert ws.readyState == syncws.OPEN


def test_any_byte_is_a_sign_of_life() -> None:
    with connected(ping_interval=0.2, ping_timeout=1) as (ws, peer):
        head = bytes([0x82, 126, 0, 200])
        for byte in head + bytes(26):  # a frame that takes its time, and no pong
            peer.send_raw(bytes([byte]))
            sleep(0.05)  # the pace of it
        assert ws.readyState == syncws.OPEN
        assert ws.wait_closed(PATIENCE)


def test_a_pong_is_a_sign_of_life_however_soon_it_comes(monkeypatch: Any) -> None:
    """Also one that was read before the writing of its ping has returned."""
    write = Transport.write

    def slow_write(transport: Any, out: Any) -> bool:
        asked = bool(out) and transport is ws._transport
        known, written = ws.bytes_received, write(transport, out)
        with contextlib.suppress(AssertionError):
            eventually(lambda: not asked or ws.bytes_received > known, 2)
        return written

    with connected(ping_interval=0.3, ping_timeout=0.2) as (ws, peer):
        monkeypatch.setattr(Transport, "write", slow_write)
        reading = spawn(ws.recv, PATIENCE)
        for _ in range(2):  # when the second leaves, the time for an answer to the first is over
            got = peer.read()
            assert got.opcode == PING
            peer.send(PONG, got.payload)
        peer.send(TEXT, b"alive")
        assert reading.result() == "alive"


def test_unread_bytes_are_a_sign_of_life() -> None:
    with connected(ping_interval=1, ping_timeout=1, max_queue=1) as (ws, peer):
        peer.send(TEXT, b"unread")
        eventually(lambda: ws.bytes_received == 8)  # the queue is full: what follows stays in the kernel
        peer.send(TEXT, b"unread")
        for _ in range(3):
            got = peer.read()
            assert got.opcode == PING
            peer.send(PONG, got.payload)  # which is not read either
        assert ws.bytes_received == 8
        assert ws.readyState == syncws.OPEN
        assert ws.wait_closed(PATIENCE) is True  # once nothing more comes


def test_a_peer_that_may_be_unable_to_send_more_is_kept() -> None:
    with connected(ping_interval=0.5, ping_timeout=0.5, max_queue=1) as (ws, peer):
        ws.pause()
        peer.sock.setblocking(False)
        data = frame(TEXT, b"x" * 10_000)
        with contextlib.suppress(BlockingIOError):
            while True:
                peer.sock.send(data)
        peer.sock.settimeout(PATIENCE)
        for _ in range(5):
            assert peer.read().opcode == PING
        assert ws.readyState == syncws.OPEN


def test_no_interval_no_pings_and_no_timeout_no_end() -> None:
    with connected(ping_interval=None, ping_timeout=0.1) as (silent, peer):
        with connected(ping_interval=0.05, ping_timeout=None) as (asking, other):
            assert [other.read().opcode for _ in range(5)] == [PING] * 5
            assert asking.readyState == syncws.OPEN
        still_works(silent, peer)


def test_a_paused_socket_notices_the_keepalive() -> None:
    with connected(ping_interval=0.1, ping_timeout=0.1) as (ws, _):
        ws.pause()
        assert ws.wait_closed(PATIENCE)
        assert ws.close_code == 1006


def test_a_paused_socket_notices_the_keepalive_though_something_is_unread() -> None:
    with connected(ping_interval=0.1, ping_timeout=0.1) as (ws, peer):
        ws.pause()
        peer.send(TEXT, b"unread")
        sleep(0.05)
        assert ws.wait_closed(PATIENCE)
        assert ws.close_code == 1006


def test_looks_for_life_do_not_pile_up() -> None:
    with connected(ping_interval=0.01, ping_timeout=3600) as (ws, peer):
        for _ in range(50):
            got = peer.read()
            peer.send(PONG, got.payload)
        assert len(ws._timers) < 6
    with connected(ping_interval=0.01, ping_timeout=math.inf) as (ws, peer):
        assert [peer.read().opcode for _ in range(20)] == [PING] * 20
        assert len(ws._timers) < 4


# -- counters ----------------------------------------------------------------------------------------------------


@each_side
def test_bytes_are_counted_with_their_framing_and_without_the_handshake(side: str) -> None:
    ours, theirs = (6, 2) if side == "client" else (2, 6)  # of header and mask
    with connected(side, ping_interval=None) as (ws, peer):
        assert (ws.bytes_sent, ws.bytes_received) == (0, 0)
        ws.send("foobar")
        ws.ping(b"p")
        assert ws.bytes_sent == 2 * ours + 7
        peer.send(TEXT, b"foobar")
        assert ws.recv(PATIENCE) == "foobar"
        assert ws.bytes_received == theirs + 6
        ws.close(1000)
        peer.read(), peer.read()
        peer.expect_close(1000)
        peer.end()
        assert ws.wait_closed(PATIENCE)
        assert (ws.bytes_sent, ws.bytes_received) == (3 * ours + 9, 2 * theirs + 8)


def test_bytes_behind_the_handshake_are_counted() -> None:
    with connected(extra=b"\x81\x01a") as (ws, _):
        assert ws.recv(PATIENCE) == "a"
        assert ws.bytes_received == 3


def test_a_client_and_a_server_count_the_same() -> None:
    ends: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        ends.append(ws)
        for message in ws:
            ws.send(message)

    with serving(accept, compression=True) as server, Socket(url_of(server)) as ws:
        for size in (0, 10, 2000, 200_000):
            ws.send("a" * size)
            assert len(ws.recv(PATIENCE)) == size
        eventually(lambda: (ws.bytes_sent, ws.bytes_received) == (ends[0].bytes_received, ends[0].bytes_sent))
