"""Back-pressure: `pause`, and a queue of messages that is full; on either side."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from pairs import BLOCKING, SIDES, Journal, connected, quick_ticks
from peer import BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame
from world import PATIENCE, eventually, sleep, spawn

import syncws

each_side = pytest.mark.parametrize("side", SIDES)


def stalled(count: Any) -> bool:
    before = count()
    sleep(0.25)  # for which time nothing moves
    return bool(count() == before)


@quick_ticks
@each_side
@pytest.mark.parametrize("reader", ["nobody", "the attendant", "a blocked writer"])
def test_a_peer_is_held_back_once_max_queue_messages_are_unread(
    side: str, reader: str, request: Any
) -> None:
    count, size = 200, 65536
    with connected(side, max_queue=4, small=True) as (ws, peer):
        if reader == "nobody":
            ws.pause()
        if reader != "the attendant":
            request.getfixturevalue("unattended")
        sending = spawn(ws.send, BLOCKING) if reader == "a blocked writer" else None

        def flood() -> None:
            for number in range(count):
                peer.send(BINARY, number.to_bytes(4, "big") + bytes(size - 4))

        flooding = spawn(flood)
        if reader != "nobody":
            eventually(lambda: ws.bytes_received > 4 * size)
        eventually(lambda: stalled(lambda: ws.bytes_received))
        assert not flooding.done
        assert ws.bytes_received < (6 * size if reader != "nobody" else size)
        if sending is not None:
            assert not sending.done
            assert peer.read().payload == BLOCKING
            sending.result()
        ws.resume()
        assert [int.from_bytes(ws.recv(PATIENCE)[:4], "big") for _ in range(count)] == list(range(count))
        flooding.result()


@each_side
def test_a_paused_socket_tells_no_messages(side: str) -> None:
    with connected(side) as (ws, peer):
        assert not ws.is_paused
        ws.pause()
        assert ws.is_paused
        journal = Journal(ws, "message")
        peer.send(TEXT, b"a")
        assert not journal.told
        ws.ping(b"p")  # sending goes on
        assert peer.read().opcode == PING
        ws.resume()
        assert not ws.is_paused
        eventually(lambda: journal.told == ["a"])


def test_pausing_in_a_listener_holds_back_the_next_message() -> None:
    with connected() as (ws, peer):
        journal = Journal(ws, "message")
        ws.addEventListener("message", lambda event: ws.pause())
        for text in (b"1", b"2", b"3"):
            peer.send(TEXT, text)
        for told in (["1"], ["1", "2"], ["1", "2", "3"]):
            eventually(lambda: ws.is_paused)
            assert journal.told == told
            ws.resume()


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_paused_socket_notices_close_and_terminate(end: str) -> None:
    with connected() as (ws, peer):
        ws.pause()
        waiting = spawn(ws.recv)
        getattr(ws, end)()
        with contextlib.suppress(OSError):
            peer.send(CLOSE)
        with pytest.raises(syncws.ConnectionClosed):
            waiting.result()
        peer.end()
        assert ws.wait_closed(PATIENCE)
        assert not ws.is_paused


@pytest.mark.parametrize("max_queue", [1, 4])
def test_waiting_for_the_close_drops_what_exceeds_the_queue(max_queue: int) -> None:
    with connected(max_queue=max_queue) as (ws, peer):
        peer.send_raw(b"".join(frame(TEXT, str(number).encode()) for number in range(2000)))
        closed = spawn(ws.wait_closed, PATIENCE)
        for _ in range(2):  # of which the second is read after all before it was seen to
            peer.send(PING)
            assert peer.read().opcode == PONG
        got = [ws.recv(0) for _ in range(max_queue)]
        with pytest.raises(TimeoutError):
            ws.recv(0)
        peer.send(CLOSE, close_payload(1000))
        peer.end()
        assert closed.result() is True
        assert (got, list(ws)) == ([str(number) for number in range(max_queue)], [])
