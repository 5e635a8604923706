"""The closing handshake of a `Socket`, begun by it or by its peer, on either side."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from pairs import BLOCKING, SIDES, Journal, connected, end_of, quick_ticks, still_works
from peer import BINARY, CLOSE, CONTINUE, PING, TEXT, close_payload, frame
from world import PATIENCE, Socket, eventually, spawn

import syncws

each_side = pytest.mark.parametrize("side", SIDES)
VALID = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
INVALID = (0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535)

# -- close() -----------------------------------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize("code", VALID)
def test_a_close_carries_its_code_and_reason(code: int, side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "close")
        ws.close(code, "b\u00fde")
        assert ws.readyState == syncws.CLOSING
        got = peer.read()
        assert (got.opcode, got.payload) == (CLOSE, close_payload(code, "b\u00fde"))
        peer.send(CLOSE, got.payload)
        peer.end()
        assert end_of(ws, journal) == (code, "b\u00fde", True)


@each_side
def test_a_close_without_code_is_empty(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "close")
        ws.close()
        peer.expect_close(None)
        peer.end()
        assert end_of(ws, journal) == (1005, "", True)


@each_side
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        *(((code,), ValueError) for code in (*INVALID, -1, 1 << 40)),
        (("1000",), TypeError),
        ((True,), TypeError),
        ((1000.0,), TypeError),
        ((1000, "a" * 124), ValueError),
        ((1000, "\u20ac" * 42), ValueError),
        ((1000, "\ud800"), ValueError),
        ((1000, 5), TypeError),
    ],
)
def test_what_no_close_can_carry_is_refused_before_anything_changes(arguments: Any, error: Any, side: str) -> None:
    with connected(side) as (ws, peer):
        with pytest.raises(error):
            ws.close(*arguments)
        assert ws.readyState == syncws.OPEN
        still_works(ws, peer)


def test_the_longest_reason_has_123_bytes() -> None:
    with connected() as (ws, peer):
        ws.close(1000, "\u20ac" * 41)
        assert peer.expect_close(1000).payload == close_payload(1000, "\u20ac" * 41)


@each_side
def test_close_returns_at_once_and_a_second_one_does_nothing(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "close")
        ws.close(4000)
        ws.close(4001)  # the peer has not answered: it did not wait
        assert ws.wait_closed(0.05) is False
        peer.expect_close(4000)
        peer.end()
        assert end_of(ws, journal) == (4000, "", True)
        ws.close(4002)
        with pytest.raises(ValueError):
            ws.close(1)
        assert peer.read_all() == []


@each_side
def test_everything_sent_before_goes_out_before_the_close(side: str) -> None:
    with connected(side, small=True) as (ws, peer):
        sending = spawn(ws.send, BLOCKING)
        eventually(lambda: ws.bufferedAmount > 0)
        ws.close(4000)  # does not wait for the other
        assert peer.read().payload == BLOCKING
        peer.expect_close(4000)
        sending.result()


@each_side
def test_messages_still_come_after_our_close(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "message", "close")
        ws.close(4000)
        peer.expect_close(4000, answer=False)
        for text in (b"1", b"2"):
            peer.send(TEXT, text)
        peer.send(CLOSE, close_payload(4000))
        peer.end()
        assert end_of(ws, journal) == (4000, "", True)
        assert journal.told == ["1", "2", "close"]


@each_side
def test_a_peer_that_does_not_answer_is_dropped(side: str) -> None:
    with connected(side, close_timeout=0.15) as (ws, peer):
        journal = Journal(ws, "close")
        started = time.monotonic()
        ws.close(4000)
        assert end_of(ws, journal) == (1006, "", False)
        assert time.monotonic() - started >= 0.15
        peer.expect_close(4000, answer=False)
        peer.expect_end()


@each_side
def test_a_peer_that_goes_on_sending_is_dropped_all_the_same(side: str) -> None:
    with connected(side, close_timeout=0.15) as (ws, peer):
        journal = Journal(ws, "close")

        def flood() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer.send(BINARY, bytes(1000))

        flooding = spawn(flood)
        ws.close(4000)
        assert end_of(ws, journal) == (1006, "", False)
        flooding.result()


@each_side
def test_what_the_peer_sent_meanwhile_does_not_destroy_our_close(side: str) -> None:
    with connected(side, close_timeout=1) as (ws, peer):
        for _ in range(200):
            peer.send(BINARY, bytes(1000))
        ws.close(4000)
        peer.expect_close(4000)
        peer.end()
        assert ws.wait_closed(PATIENCE)
        assert ws.close_code == 4000


def test_send_says_what_is_known_of_the_close_so_far() -> None:
    with connected() as (ws, peer):
        ws.close(4000)
        with pytest.raises(syncws.ConnectionClosed) as caught:
            ws.send("a")
        assert (caught.value.code, caught.value.reason, caught.value.wasClean) == (1006, "", False)
        peer.expect_close(4000, answer=False)
        peer.send(CLOSE, close_payload(4001, "bye"))
        peer.end()
        assert ws.wait_closed(PATIENCE)
        with pytest.raises(syncws.ConnectionClosed) as caught:
            ws.send("a")
        assert (caught.value.code, caught.value.reason, caught.value.wasClean) == (4001, "bye", True)


# -- the peer's Close --------------------------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize("code", [None, *VALID])
def test_the_peers_close_is_echoed_and_reported(code: int | None, side: str) -> None:
    reason = "b\u00fde" if code else ""
    payload = close_payload(code, reason) if code else b""
    with connected(side) as (ws, peer):
        journal = Journal(ws, "close")
        reading = spawn(ws.recv)
        peer.send(CLOSE, payload)
        got = peer.read()
        assert (got.opcode, got.payload) == (CLOSE, payload)
        assert (ws.close_code, ws.close_reason) == (code or 1005, reason)
        with pytest.raises(syncws.ConnectionClosed) as caught:
            reading.result()
        assert (caught.value.code, caught.value.reason) == (code or 1005, reason)
        peer.end()
        assert end_of(ws, journal) == (code or 1005, reason, True)
        assert peer.read_all() == []


@each_side
@pytest.mark.parametrize("code", INVALID)
def test_a_close_with_a_code_that_must_not_be_sent_is_a_violation(code: int, side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "error", "close")
        reading = spawn(ws.recv)
        peer.send(CLOSE, close_payload(code))
        peer.expect_close(1002)
        peer.end()
        with pytest.raises(syncws.ConnectionClosed):
            reading.result()
        assert end_of(ws, journal) == (1006, "", False)
        assert journal.told == ["error", "close"]


@each_side
def test_when_both_close_at_once_each_reports_the_others_code(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "close")
        peer.send(CLOSE, close_payload(4001, "theirs"))
        ws.close(4000, "ours")
        got = peer.read()
        assert (got.opcode, got.code in (4000, 4001)) == (CLOSE, True)
        peer.end()
        assert end_of(ws, journal) == (4001, "theirs", True)
        assert peer.read_all() == []


@each_side
def test_what_follows_the_peers_close_is_ignored(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "message", "ping", "error", "close")
        mask = b"\0\0\0\0" if peer.client else None
        after = [frame(TEXT, b"a", mask=mask), frame(PING, mask=mask), frame(CLOSE, mask=mask), b"\xff" * 20]
        peer.send_raw(frame(CLOSE, close_payload(4000), mask=mask) + b"".join(after))
        peer.end()
        assert end_of(ws, journal) == (4000, "", True)
        assert [got.opcode for got in peer.read_all()] == [CLOSE]
        assert journal.told == ["close"]


@each_side
def test_a_close_takes_effect_after_the_messages_before_it(side: str) -> None:
    with connected(side) as (ws, peer):
        mask = b"\0\0\0\0" if peer.client else None
        peer.send_raw(
            b"".join(frame(TEXT, text, mask=mask) for text in (b"1", b"2", b"3"))
            + frame(CLOSE, close_payload(1000), mask=mask)
        )
        for message in ws:
            assert ws.close_code is None
            ws.send(message)
        assert [peer.read().payload for _ in range(4)] == [b"1", b"2", b"3", close_payload(1000)]


@each_side
def test_a_listener_may_answer_all_messages_before_the_close_behind_them(side: str) -> None:
    with connected(side) as (ws, peer):
        known: list[Any] = []

        def answer(event: Any) -> None:
            known.append((ws.readyState, ws.close_code))
            ws.send(event.data)

        ws.onmessage = answer
        mask = b"\0\0\0\0" if peer.client else None
        peer.send_raw(
            b"".join(frame(TEXT, text, mask=mask) for text in (b"1", b"2", b"3"))
            + frame(CLOSE, close_payload(1000), mask=mask)
        )
        assert [peer.read().payload for _ in range(4)] == [b"1", b"2", b"3", close_payload(1000)]
        assert known == [(syncws.OPEN, None)] * 3


@each_side
def test_a_peer_that_keeps_the_tcp_connection_after_the_handshake_is_dropped(side: str) -> None:
    with connected(side, close_timeout=0.15) as (ws, peer):
        journal = Journal(ws, "close")
        peer.send(CLOSE, close_payload(4000))
        assert end_of(ws, journal) == (4000, "", True)
        peer.expect_close(4000)
        peer.expect_end()


@quick_ticks
def test_a_server_ends_the_tcp_connection_first() -> None:
    with connected("server") as (ws, peer):
        peer.send(CLOSE, close_payload(4000))
        peer.expect_close(4000, answer=False)
        peer.expect_end()
        assert ws.readyState == syncws.CLOSING  # its direction only
    with connected("client") as (ws, peer):
        peer.send(CLOSE, close_payload(4000))
        peer.expect_close(4000, answer=False)
        peer.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.sock.recv(1)
        peer.end()
        assert ws.wait_closed(PATIENCE)


def test_a_message_that_is_not_complete_is_not_told() -> None:
    with connected() as (ws, peer):
        journal = Journal(ws, "message", "close")
        peer.send(TEXT, b"a", fin=False)
        peer.send(CONTINUE, b"b", fin=False)
        peer.send(CLOSE, close_payload(1000))
        peer.end()
        assert end_of(ws, journal) == (1000, "", True)
        assert journal.told == ["close"]


@quick_ticks
@pytest.mark.parametrize("looks", range(1, 7))
def test_a_close_that_waits_for_a_message_listener_is_told_whenever_that_wait_ends(
    looks: int, monkeypatch: Any
) -> None:
    answers = iter([True] * looks)
    monkeypatch.setattr(Socket, "_hesitates", lambda self: next(answers, False))
    with connected() as (ws, peer):
        journal = Journal(ws, "close")
        peer.send(TEXT, b"unread")
        peer.send(CLOSE, close_payload(4000))
        peer.end()
        eventually(lambda: journal.told == ["close"])
