"""The other ways a `Socket` ends: violations, `terminate()`, the end of a `with` block."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from pairs import BLOCKING, SIDES, Journal, connected, end_of, quick_ticks
from peer import CLOSE, PING, TEXT, close_payload
from world import PATIENCE, Event, eventually, spawn

import syncws
from syncws.reading import Reading
from syncws.runtime import WRITE
from syncws.transport import Transport

each_side = pytest.mark.parametrize("side", SIDES)


# -- violations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "kind"),
    [
        (b"\x83\x00", 1002, syncws.ProtocolError),  # a reserved opcode
        (b"\xa1\x00", 1002, syncws.ProtocolError),  # RSV2
        (b"\xc1\x00", 1002, syncws.ProtocolError),  # RSV1, and no extension
        (b"\x80\x00", 1002, syncws.ProtocolError),  # a continuation of nothing
        (b"\x09\x00", 1002, syncws.ProtocolError),  # a ping in fragments
        (b"\x89\x7e\x00\x7e", 1002, syncws.ProtocolError),  # a ping of 126 bytes
        (b"\x81\x80\0\0\0\0", 1002, syncws.ProtocolError),  # masked, from a server
        (b"\x88\x01\x03", 1002, syncws.ProtocolError),  # half a code
        (b"\x88\x03\x03\xe8\xff", 1007, syncws.InvalidData),  # a reason that is not UTF-8
        (b"\x81\x01\xff", 1007, syncws.InvalidData),
        (b"\x82\x7f\x7f" + b"\xff" * 7, 1009, syncws.MessageTooBig),
        (b"\x82\x7f\x80" + b"\0" * 7, 1002, syncws.ProtocolError),
        (b"\x82\x7f\x00\x00\x00\x01" + b"\0" * 4, 1009, syncws.MessageTooBig),
    ],
)
def test_a_violation_gets_its_code_one_error_and_the_end(data: bytes, code: int, kind: Any) -> None:
    with connected(compression=False) as (ws, peer):
        journal = Journal(ws, "message", "error", "close")
        peer.send(TEXT, b"before")
        peer.send_raw(data + b"\xff" * 10)
        got = peer.expect_close(code)
        assert got.payload == close_payload(code)
        peer.expect_end()  # of its direction: ours goes on until we end it, or too late
        eventually(lambda: "error" in journal.told)
        assert ws.readyState == syncws.CLOSING
        peer.end()
        assert end_of(ws, journal) == (1006, "", False)
        assert journal.told == ["before", "error", "close"]
        assert type(journal.events[1].error) is kind
        assert journal.events[1].error.close_code == code


def test_a_reader_learns_of_the_violation() -> None:
    with connected() as (ws, peer):
        peer.send_raw(b"\x83\x00")
        with pytest.raises(syncws.ConnectionClosed) as caught:
            ws.recv(PATIENCE)
        assert caught.value.code == 1006
        assert isinstance(caught.value.__cause__, syncws.ProtocolError)


# -- terminate() -------------------------------------------------------------------------------------------------


@each_side
def test_terminate_drops_the_connection_now(side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "error", "close")
        ws.terminate()
        assert ws.readyState >= syncws.CLOSING
        peer.expect_end()
        assert end_of(ws, journal) == (1006, "", False)
        assert journal.told == ["close"]
        ws.terminate()
        ws.close()
        assert ws.wait_closed(0) is True


@each_side
@pytest.mark.parametrize("late", ["terminate", "close", "_bail"])  # the last: what interrupted calls do as they leave
def test_closed_is_entered_once_and_the_close_event_fires_once(late: str, side: str) -> None:
    with connected(side) as (ws, peer):
        journal = Journal(ws, "error", "close")
        peer.send(CLOSE, close_payload(4000, "bye"))
        peer.end()
        assert end_of(ws, journal) == (4000, "bye", True)
        getattr(ws, late)()
        eventually(lambda: not ws._happenings and ws._dispatcher is None)  # nothing is left to be told
        assert end_of(ws, journal) == (4000, "bye", True)
        assert journal.told == ["close"]


@each_side
@pytest.mark.parametrize("inside", ["reader", "writer"])
def test_the_descriptor_is_closed_once_nobody_is_in_it(inside: str, side: str, monkeypatch: Any) -> None:
    found: list[Any] = []
    close = Transport.close

    def noting(transport: Any) -> None:
        if transport is ws._transport:
            found.append((ws._reader, ws._writer))
        close(transport)

    monkeypatch.setattr(Transport, "close", noting)
    with connected(side, small=True) as (ws, _):
        task = spawn(ws.recv) if inside == "reader" else spawn(ws.send, BLOCKING)
        eventually(lambda: ws._reader if inside == "reader" else ws.bufferedAmount)
        ws.terminate()
        with pytest.raises(syncws.ConnectionClosed):
            task.result()
        assert ws.wait_closed(PATIENCE)
        eventually(lambda: found)
        assert found == [(None, None)]


@each_side
def test_an_interrupted_reader_leaves_the_writer_its_role(side: str, monkeypatch: Any) -> None:
    waiting, go_on = Event(), Event()
    wait = Transport.wait

    def held(transport: Any, events: int, timeout: Any) -> int:
        if transport is ws._transport and events & WRITE:
            waiting.set()
            assert go_on.wait(PATIENCE)
        return wait(transport, events, timeout)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with connected(side, small=True, compression=False) as (ws, peer):
        monkeypatch.setattr(Transport, "wait", held)
        monkeypatch.setattr(Reading, "_sort", interrupted)
        sending = spawn(lambda: [ws.send("x" * 3000) for _ in range(1000)])
        assert waiting.wait(PATIENCE)
        writer = ws._writer
        reading = spawn(ws.recv)
        eventually(lambda: ws._reader)
        peer.send(PING)
        with pytest.raises(KeyboardInterrupt):
            reading.result()
        assert (ws.readyState, ws._writer) == (syncws.CLOSING, writer)
        assert ws._transport.descriptor != -1
        go_on.set()
        with pytest.raises(syncws.ConnectionClosed):
            sending.result()
        assert ws.wait_closed(PATIENCE)


@each_side
def test_terminate_frees_whoever_waits(side: str) -> None:
    with connected(side, small=True) as (ws, _):
        begun = Event()

        def pieces() -> Any:
            yield b"a"
            begun.set()
            yield BLOCKING

        tasks = [spawn(ws.send, pieces()), spawn(ws.recv), spawn(lambda: list(ws))]
        assert begun.wait(PATIENCE)
        tasks += [spawn(ws.send, "after it"), spawn(lambda: list(ws.recv_stream()))]
        waiting = spawn(ws.wait_closed)
        eventually(lambda: ws.bufferedAmount > 0)
        ws.terminate()
        for task in tasks:
            with pytest.raises(syncws.ConnectionClosed) as caught:
                task.result()
            assert caught.value.code == 1006
        assert waiting.result() is True


@quick_ticks
@each_side
def test_terminate_after_messages_leaves_those_to_be_read(side: str) -> None:
    with connected(side) as (ws, peer):
        peer.send(TEXT, b"1")
        peer.send(TEXT, b"2", fin=False)
        eventually(lambda: ws.bytes_received)
        ws.terminate()
        assert ws.wait_closed(PATIENCE)
        assert ws.recv() == "1"
        with pytest.raises(syncws.ConnectionClosed):
            ws.recv()


# -- with --------------------------------------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize(("error", "code"), [(None, 1000), (LookupError("of the block's"), 1011)])
def test_leaving_a_with_block_closes_and_waits(error: Any, code: int, side: str) -> None:
    with connected(side) as (ws, peer):
        answering = spawn(lambda: (peer.expect_close(code), peer.end()))
        raising = contextlib.nullcontext() if error is None else pytest.raises(LookupError)
        with raising, ws as itself:
            assert itself is ws
            if error is not None:
                raise error
        assert (ws.readyState, ws.close_code) == (syncws.CLOSED, code)
        answering.result()


def test_leaving_a_with_block_that_closed_itself_changes_nothing() -> None:
    with connected() as (ws, peer):
        answering = spawn(lambda: (peer.expect_close(4000), peer.end()))
        with ws:
            ws.close(4000)
        assert ws.close_code == 4000
        answering.result()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_a_with_block_within_a_second(error: Any) -> None:
    with connected() as (ws, peer):
        started = time.monotonic()
        with pytest.raises(error), ws:
            raise error
        assert 0.5 <= time.monotonic() - started < 5
        peer.expect_close(1011, answer=False)
        peer.expect_end()
        assert ws.wait_closed(PATIENCE)
        assert ws.close_code == 1006


def test_who_reads_for_listeners_sees_that_it_was_terminated() -> None:
    with connected("client") as (ws, _):
        told = Journal(ws, "close")
        ws.onmessage = lambda event: None
        eventually(lambda: ws._reader)
        ws.terminate()
        assert ws.wait_closed(PATIENCE)
        assert len(told.told) == 1
