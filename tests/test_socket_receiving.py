"""`recv`, iteration, `recv_stream`, `binaryType`: every form in which messages come, on either side."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from pairs import SIDES, connected, quick_ticks, still_works
from peer import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, close_payload, frame
from world import PATIENCE, eventually, sleep, spawn, threads_only

import syncws

TYPES = {"bytes": bytes, "bytearray": bytearray, "memoryview": memoryview}

each_side = pytest.mark.parametrize("side", SIDES)


# -- recv --------------------------------------------------------------------------------------------------------


@each_side
def test_messages_come_as_they_were_sent(side: str) -> None:
    with connected(side) as (ws, peer):
        peer.send(TEXT, "h\u00e9".encode())
        peer.send(BINARY, b"\xff\0")
        peer.send(TEXT)
        peer.send(BINARY)
        peer.send(TEXT, b"a", fin=False)
        peer.send(PING, b"between")
        peer.send(CONTINUE, b"b", fin=False)
        peer.send(CONTINUE, b"c")
        assert [ws.recv(PATIENCE) for _ in range(5)] == ["h\u00e9", b"\xff\0", "", b"", "abc"]


@each_side
@pytest.mark.parametrize("timeout", [0, 0.1])
def test_recv_times_out_and_nothing_is_lost(timeout: float, side: str) -> None:
    with connected(side) as (ws, peer):
        peer.send(TEXT, b"a", fin=False)
        with pytest.raises(TimeoutError):
            ws.recv(timeout)
        peer.send(CONTINUE, b"b")
        assert ws.recv(PATIENCE) == "ab"


@quick_ticks
@each_side
@pytest.mark.parametrize("pause", [0, 1, 100, 5000, 100_000, 300_000, 999_999])
def test_a_large_message_comes_whole_whoever_reads_which_part_of_it(pause: int, side: str) -> None:
    payload = random.Random(pause).randbytes(1_000_000)
    key = b"abcd" if side == "server" else None
    data = frame(BINARY, payload, mask=key) + frame(TEXT, b"next", mask=key)
    with connected(side) as (ws, peer):
        for _ in range(2):  # the second is expected to be as large as the first
            peer.send_raw(data[: 5 + pause])
            with pytest.raises(TimeoutError):
                ws.recv(0.01)
            sending = spawn(peer.send_raw, data[5 + pause :])
            assert ws.recv() == payload
            assert ws.recv(PATIENCE) == "next"
            sending.result()


@quick_ticks
@each_side
def test_what_arrived_is_read_before_the_close_is_told(side: str) -> None:
    with connected(side) as (ws, peer):
        peer.send(TEXT, b"1")
        peer.send(TEXT, b"2")
        peer.send(CLOSE, close_payload(4000, "bye"))
        eventually(lambda: ws.close_code == 4000)
        assert [ws.recv(), ws.recv()] == ["1", "2"]
        for _ in range(2):
            with pytest.raises(syncws.ConnectionClosed) as caught:
                ws.recv()
            assert (caught.value.code, caught.value.reason) == (4000, "bye")


def test_one_message_goes_to_one_caller() -> None:
    with connected() as (ws, peer):
        tasks = [spawn(ws.recv, PATIENCE) for _ in range(8)]
        for number in range(8):
            peer.send(TEXT, str(number).encode())
        assert sorted(task.result() for task in tasks) == list("01234567")


@each_side
def test_one_reads_and_when_it_leaves_another_reads_on(side: str, unattended: None) -> None:
    with connected(side) as (ws, peer):
        waiting = [spawn(ws.recv) for _ in range(3)]
        for count in (1, 2, 3):
            eventually(lambda count=count: ws._reader and len(ws._waiting) == 3 - count)
            peer.send(TEXT, b"a")
            eventually(lambda count=count: sum(task.done for task in waiting) == count, 3)
        assert [task.result() for task in waiting] == ["a", "a", "a"]


def test_all_who_wait_learn_of_the_close() -> None:
    with connected() as (ws, peer):
        tasks = [spawn(ws.recv) for _ in range(4)]
        peer.send(CLOSE, close_payload(4000))
        for task in tasks:
            with pytest.raises(syncws.ConnectionClosed) as caught:
                task.result()
            assert caught.value.code == 4000


def test_who_waits_in_recv_when_a_listener_comes_is_told() -> None:
    with connected() as (ws, peer):
        heard: list[Any] = []
        waiting = [spawn(ws.recv), spawn(ws.recv), spawn(ws.recv, PATIENCE)]
        eventually(lambda: ws._reader is not None)
        sleep(0.1)
        ws.onmessage = lambda event: heard.append(event.data)
        peer.send(TEXT, b"1")
        peer.send(TEXT, b"2")
        # One was reading already, and may have taken what came.
        eventually(lambda: sum(task.done for task in waiting) >= 2)
        peer.send(TEXT, b"3")
        eventually(lambda: all(task.done for task in waiting))
        eventually(lambda: "3" in heard)
        taken = []
        for task in waiting:
            try:
                taken.append(task.result())
            except RuntimeError as error:
                assert "message listeners" in str(error)
        assert len(taken) <= 1
        assert sorted(taken + heard) == ["1", "2", "3"]


def test_recv_and_listeners_exclude_each_other() -> None:
    with connected() as (ws, peer):

        def listener(event: Any) -> None:
            pass

        ws.addEventListener("message", listener)
        for read in (ws.recv, lambda: next(iter(ws)), lambda: next(ws.recv_stream())):
            with pytest.raises(RuntimeError):
                read()
        ws.removeEventListener("message", listener)
        still_works(ws, peer)


@each_side
@pytest.mark.parametrize(("code", "raises"), [(1000, False), (1001, False), (None, False), (1011, True), (4000, True)])
def test_iteration_ends_at_a_clean_close_and_raises_at_another(code: Any, raises: bool, side: str) -> None:
    with connected(side) as (ws, peer):
        peer.send(TEXT, b"1")
        peer.send(BINARY, b"2")
        peer.send(CLOSE, b"" if code is None else close_payload(code))
        messages = iter(ws)
        assert [next(messages), next(messages)] == ["1", b"2"]
        with pytest.raises(syncws.ConnectionClosed if raises else StopIteration) as caught:
            next(messages)
        assert getattr(caught.value, "code", None) == (code if raises else None)


def test_iteration_raises_when_the_stream_just_ends() -> None:
    with connected() as (ws, peer):
        peer.send(TEXT, b"1")
        peer.end()
        with pytest.raises(syncws.ConnectionClosed) as caught:
            list(ws)
        assert (caught.value.code, caught.value.wasClean) == (1006, False)


def test_iterations_may_be_left_and_taken_up_again() -> None:
    with connected() as (ws, peer):
        for number in range(4):
            peer.send(TEXT, str(number).encode())
        assert list(itertools.islice(ws, 2)) == ["0", "1"]
        assert ws.recv(PATIENCE) == "2"
        assert next(iter(ws)) == "3"


# -- binaryType --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*TYPES, "fragments"])
def test_binary_type_says_what_binary_messages_come_as(kind: str) -> None:
    with connected(binaryType=kind) as (ws, peer):
        assert ws.binaryType == kind
        peer.send(TEXT, b"text")
        peer.send(BINARY, b"whole")
        peer.send(BINARY, b"two ", fin=False)
        peer.send(CONTINUE, b"pieces")
        peer.send(BINARY)
        got = [ws.recv(PATIENCE) for _ in range(4)]
        if kind == "fragments":
            assert got == ["text", [b"whole"], [b"two ", b"pieces"], []]
        else:
            assert got == ["text", b"whole", b"two pieces", b""]
            assert {type(data) for data in got[1:]} == {TYPES[kind]}


def test_binary_type_may_be_set_at_any_time() -> None:
    with connected() as (ws, peer):
        assert ws.binaryType == "bytes"
        for kind in ("bytearray", "fragments", "bytes", "fragments", "memoryview"):
            peer.send(BINARY, b"a")
            ws.binaryType = kind
            got = ws.recv(PATIENCE)
            assert type(got) is {**TYPES, "fragments": list}[kind]
            assert b"".join(got if kind == "fragments" else [got]) == b"a"
        with pytest.raises(ValueError):
            ws.binaryType = "blob"
        assert ws.binaryType == "memoryview"


# -- recv_stream -------------------------------------------------------------------------------------------------


@each_side
def test_a_stream_gives_the_fragments_before_the_message_is_complete(side: str) -> None:
    with connected(side) as (ws, peer):
        stream = ws.recv_stream()
        peer.send(BINARY, b"a", fin=False)
        assert next(stream) == b"a"
        peer.send(PING)
        peer.send(CONTINUE, b"b", fin=False)
        assert next(stream) == b"b"
        peer.send(CONTINUE, b"c")
        assert list(stream) == [b"c"]
        assert peer.read().opcode == PONG
        still_works(ws, peer)


@each_side
@pytest.mark.parametrize(("opcode", "data"), [(TEXT, "whole"), (BINARY, b"whole")])
def test_a_stream_of_a_message_in_one_frame_has_one_piece(opcode: int, data: Any, side: str) -> None:
    with connected(side) as (ws, peer):
        peer.send(opcode, b"whole")
        peer.send(opcode, b"next")
        assert list(ws.recv_stream()) == [data]
        assert ws.recv(PATIENCE) == ("next" if opcode == TEXT else b"next")


@pytest.mark.parametrize(("kind", "type"), [("bytearray", bytearray), ("memoryview", memoryview), ("fragments", bytes)])
def test_pieces_are_of_the_binary_type(kind: str, type: Any) -> None:
    with connected(binaryType=kind) as (ws, peer):
        for fin in (True, False):
            peer.send(BINARY, b"a", fin=fin)
            if not fin:
                peer.send(CONTINUE, b"b")
            pieces = list(ws.recv_stream())
            assert {piece.__class__ for piece in pieces} == {type}
            assert b"".join(pieces) == (b"a" if fin else b"ab")
        peer.send(TEXT, b"text")
        assert list(ws.recv_stream()) == ["text"]


def test_pieces_of_text_are_whole_characters() -> None:
    with connected() as (ws, peer):
        euro = "\u20ac".encode()
        for number, byte in enumerate(euro):
            opcode = TEXT if number == 0 else CONTINUE
            peer.send(opcode, bytes([byte]), fin=False)
        peer.send(CONTINUE, b"!")
        pieces = list(ws.recv_stream())
        assert "".join(pieces) == "\u20ac!"
        assert all(isinstance(piece, str) for piece in pieces)


def test_fragments_that_came_before_the_call_are_in_the_stream() -> None:
    with connected() as (ws, peer):
        peer.send(TEXT, b"a", fin=False)
        with pytest.raises(TimeoutError):
            ws.recv(0.1)
        stream = ws.recv_stream()
        assert next(stream) == "a"
        peer.send(CONTINUE, b"b")
        assert list(stream) == ["b"]


def test_the_rest_of_an_abandoned_stream_is_dropped() -> None:
    with connected() as (ws, peer):
        peer.send(TEXT, b"a", fin=False)
        stream = ws.recv_stream()
        assert next(stream) == "a"
        stream.close()
        peer.send(CONTINUE, b"b", fin=False)
        peer.send(CONTINUE, b"c")
        still_works(ws, peer)


def test_the_message_after_a_stream_is_not_part_of_it() -> None:
    with connected() as (ws, peer):
        for text in (b"1", b"2"):
            peer.send(TEXT, text, fin=False)
            peer.send(CONTINUE, b"", fin=False)
            peer.send(CONTINUE, b"!")
        assert "".join(ws.recv_stream()) == "1!"
        assert "".join(ws.recv_stream()) == "2!"


@each_side
@pytest.mark.parametrize("code", [1000, 4000, 1006])
def test_a_stream_that_is_cut_raises(code: int, side: str) -> None:
    with connected(side) as (ws, peer):
        peer.send(TEXT, b"a", fin=False)
        stream = ws.recv_stream()
        assert next(stream) == "a"
        if code == 1006:
            peer.end()
        else:
            peer.send(CLOSE, close_payload(code))
        with pytest.raises(syncws.ConnectionClosed) as caught:
            next(stream)
        assert caught.value.code == code


# -- limits ------------------------------------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize("limit", [10, 70_000])
def test_a_message_of_just_max_payload_passes_and_a_longer_one_does_not(limit: int, side: str) -> None:
    with connected(side, max_payload=limit) as (ws, peer):
        peer.send(BINARY, bytes(limit))
        peer.send(BINARY, bytes(limit - 1), fin=False)
        peer.send(CONTINUE, b"1")
        assert [len(ws.recv(PATIENCE)) for _ in range(2)] == [limit, limit]
        peer.send(BINARY, bytes(limit - 1), fin=False)
        peer.send(CONTINUE, b"12")
        with pytest.raises(syncws.ConnectionClosed) as caught:
            ws.recv(PATIENCE)
        assert caught.value.code == 1006
        assert isinstance(caught.value.__cause__, syncws.MessageTooBig)
        peer.expect_close(1009)


def test_no_limit_is_no_limit() -> None:
    with connected(max_payload=0, max_fragments=0) as (ws, peer):
        size = (64 << 20) + 1  # more than the default allows
        sending = spawn(peer.send, BINARY, bytes(size))
        assert len(ws.recv(PATIENCE)) == size
        sending.result()


def test_more_frames_than_max_fragments_are_a_violation_of_policy() -> None:
    with connected(max_fragments=3) as (ws, peer):
        for opcode, fin in ((TEXT, False), (CONTINUE, False), (CONTINUE, True)):
            peer.send(opcode, b"a", fin=fin)
        assert ws.recv(PATIENCE) == "aaa"
        for opcode in (TEXT, CONTINUE, CONTINUE, CONTINUE):
            peer.send(opcode, b"a", fin=False)
        with pytest.raises(syncws.ConnectionClosed):
            ws.recv(PATIENCE)
        peer.expect_close(1008)


def test_text_that_is_not_utf_8_is_refused_or_replaced() -> None:
    with connected(skip_utf8_validation=True) as (ws, peer):
        peer.send(TEXT, b"a\xffb")
        assert ws.recv(PATIENCE) == "a\ufffdb"
    with connected() as (ws, peer):
        peer.send(TEXT, b"a\xffb")
        with pytest.raises(syncws.ConnectionClosed) as caught:
            ws.recv(PATIENCE)
        assert isinstance(caught.value.__cause__, syncws.InvalidData)
        peer.expect_close(1007)


@each_side
@pytest.mark.parametrize("reason", [b"\xff", b"\xff" * 123, b"a" + b"\xe2\x82" * 61])
def test_a_close_reason_that_is_not_utf_8_is_replaced_and_echoed_as_far_as_it_fits(reason: bytes, side: str) -> None:
    with connected(side, skip_utf8_validation=True) as (ws, peer):
        peer.send(CLOSE, b"\x03\xe8" + reason)
        with pytest.raises(syncws.ConnectionClosed) as caught:
            ws.recv(PATIENCE)
        replaced = reason.decode(errors="replace")
        assert (caught.value.code, caught.value.reason) == (1000, replaced)
        echoed = peer.read()
        assert echoed.code == 1000
        assert 1 <= len(echoed.payload[2:]) <= 123
        assert replaced.startswith(echoed.payload[2:].decode())


@threads_only
def test_the_main_thread_hears_signals_in_recv_though_another_received_before() -> None:
    with connected() as (ws, peer):
        peer.send(TEXT, b"first")
        assert spawn(ws.recv).result() == "first"
        assert not ws._transport._looks
        peer.send(TEXT, b"second")
        assert ws.recv() == "second"
        assert ws._transport._looks
