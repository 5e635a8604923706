"""The way of a client to OPEN, blocking or not, and all that can go wrong on it."""

from __future__ import annotations

import contextlib
import errno
import time
from typing import Any

import pytest
from pairs import Journal, still_works
from peer import CLOSE, TEXT, Peer, accept_of, close_payload, frame
from world import PATIENCE, Event, Socket, eventually, raw_listener, sleep, spawn

import syncws
from syncws.way import Way
from syncws.websocket import Connection

# -- the two constructors ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def halfway(**options: Any) -> Any:
    """A socket that is CONNECTING, and a peer that has read its request and not answered."""
    with raw_listener() as listener:
        ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", blocking=False, **options)
        assert ws.readyState == syncws.CONNECTING
        sock, _ = listener.accept()
        sock.settimeout(PATIENCE)
        with Peer(sock, client=False) as peer:
            peer.head = peer.read_head()
            yield ws, peer
        ws.terminate()


def test_the_blocking_one_returns_open() -> None:
    with raw_listener() as listener:
        opening = spawn(Socket, f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        sock, _ = listener.accept()
        with Peer(sock, client=False) as peer:
            peer.head = peer.read_head()
            assert not opening.done
            peer.answer()
            ws = opening.result()
            assert ws.readyState == syncws.OPEN
            still_works(ws, peer)
        ws.terminate()


def test_the_other_returns_connecting_and_tells_of_the_opening() -> None:
    with halfway() as (ws, peer):
        assert (ws.protocol, ws.extensions, ws.close_code, ws.response) == ("", "", None, None)
        journal = Journal(ws, "upgrade", "open", "message")
        peer.answer("X-Extra: 1", extra=frame(TEXT, b"early"))
        eventually(lambda: journal.told == ["upgrade", "open", "early"])
        assert journal.states == [syncws.CONNECTING, syncws.OPEN, syncws.OPEN]
        assert journal.events[0].response.headers["x-extra"] == "1"


def test_a_reader_may_wait_for_the_opening() -> None:
    with halfway() as (ws, peer):
        waiting = spawn(ws.recv, PATIENCE)
        with pytest.raises(TimeoutError):
            ws.recv(0.05)
        peer.answer(extra=frame(TEXT, b"early"))
        assert waiting.result() == "early"


def test_who_waits_for_the_opening_does_not_get_past_what_came_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = Connection._leave_writing

    def leave_late(ws: Any, role: object) -> None:
        sleep(0.1)  # the one who waits is faster
        leave(ws, role)

    monkeypatch.setattr(Connection, "_leave_writing", leave_late)
    with halfway() as (ws, peer):
        waiting = spawn(ws.recv, PATIENCE)
        eventually(lambda: ws._waiting)
        peer.answer(extra=frame(TEXT, b"early"))
        assert waiting.result() == "early"


def test_while_connecting_nothing_can_be_sent() -> None:
    with halfway() as (ws, peer):
        for call in (lambda: ws.send("a"), lambda: ws.send(["a"]), ws.ping, ws.pong):
            with pytest.raises(syncws.InvalidStateError):
                call()
        ws.ping(ignore_closed=True)
        ws.pause()
        assert not ws.is_paused
        assert ws.wait_closed(0) is False
        peer.answer()
        eventually(lambda: ws.readyState == syncws.OPEN)
        still_works(ws, peer)


def test_bytes_behind_the_handshake_are_messages() -> None:
    early = frame(TEXT, b"1") + frame(TEXT, b"2") + frame(CLOSE, close_payload(4000))
    with raw_listener() as listener:
        accepting = spawn(Peer.accept, listener, extra=early)
        ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        with accepting.result() as peer:
            assert [ws.recv(PATIENCE), ws.recv(PATIENCE)] == ["1", "2"]
            with pytest.raises(syncws.ConnectionClosed) as caught:
                ws.recv(PATIENCE)
            assert caught.value.code == 4000
            peer.expect_close(4000)
        assert ws.wait_closed(PATIENCE)


# -- what the server may answer ----------------------------------------------------------------------------------

UPGRADE = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
GOOD = UPGRADE + "Sec-WebSocket-Accept: {accept}\r\n"
ANSWERS = {
    "refused": ("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nX-Why: so\r\n\r\nwhy?", {}),
    "no upgrade": ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", {}),
    "moved": ("HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", {}),
    "not HTTP": ("\x16\x03\x01 what\r\n\r\n", {}),
    "half a head": ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: web", {}),
    "nothing": ("", {}),
    "no Upgrade header": (GOOD.replace("Upgrade: websocket\r\n", "") + "\r\n", {}),
    "no Connection header": (GOOD.replace("Connection: Upgrade\r\n", "") + "\r\n", {}),
    "another upgrade": (GOOD.replace(": websocket", ": h2c") + "\r\n", {}),
    "no key": (UPGRADE + "\r\n", {}),
    "wrong key": (UPGRADE + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", {}),
    "a subprotocol nobody asked for": (GOOD + "Sec-WebSocket-Protocol: a\r\n\r\n", {}),
    "another subprotocol": (GOOD + "Sec-WebSocket-Protocol: A\r\n\r\n", {"protocols": ["a"]}),
    "no subprotocol": (GOOD + "\r\n", {"protocols": ["a"]}),
    "an extension nobody asked for": (
        GOOD + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        {"compression": False},
    ),
    "another extension": (GOOD + "Sec-WebSocket-Extensions: x-other\r\n\r\n", {}),
    "a bad parameter": (GOOD + "Sec-WebSocket-Extensions: permessage-deflate; what\r\n\r\n", {}),
    "an extension that cannot be read": (GOOD + "Sec-WebSocket-Extensions: ;;\r\n\r\n", {}),
}
each_answer = pytest.mark.parametrize(("answer", "options"), ANSWERS.values(), ids=ANSWERS)


def answering(listener: Any, answer: str) -> Any:
    """Read the request, answer, end our direction; what the client does then."""

    def run() -> bytes:
        sock, _ = listener.accept()
        sock.settimeout(PATIENCE)
        with Peer(sock, client=False) as peer:
            peer.head = peer.read_head()
            peer.send_raw(answer.replace("{accept}", accept_of(peer.request_key()).decode()).encode("latin-1"))
            peer.end()
            return bytes(sock.recv(100))

    return spawn(run)


@each_answer
def test_the_blocking_one_raises_what_went_wrong_and_lets_go(answer: str, options: Any) -> None:
    with raw_listener() as listener:
        server = answering(listener, answer)
        with pytest.raises(syncws.HandshakeError) as caught:
            Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", **options)
        assert server.result() == b""
        status = int(answer[9:12]) if answer.startswith("HTTP") and "\r\n\r\n" in answer else None
        assert caught.value.status == status
        assert (caught.value.response is None) == (status is None)


@each_answer
def test_the_other_tells_an_error_and_then_the_close(answer: str, options: Any) -> None:
    with halfway_to(answer, **options) as (ws, journal):
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["error", "close"]
        assert journal.states == [syncws.CLOSING, syncws.CLOSED]
        error, close = journal.events
        assert isinstance(error.error, syncws.HandshakeError)
        assert error.message == str(error.error)
        assert (close.code, close.reason, close.wasClean) == (1006, "", False)
        with pytest.raises(syncws.ConnectionClosed):
            ws.recv()
        with pytest.raises(syncws.ConnectionClosed):
            ws.send("a")


@contextlib.contextmanager
def halfway_to(answer: str, **options: Any) -> Any:
    with raw_listener() as listener:
        ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", blocking=False, **options)
        journal = Journal(ws, "open", "error", "close")
        server = answering(listener, answer)
        yield ws, journal
        assert server.result() == b""


def test_the_body_of_a_refusal_can_be_read() -> None:
    with raw_listener() as listener:
        answering(listener, ANSWERS["refused"][0])
        with pytest.raises(syncws.HandshakeError) as caught:
            Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        response = caught.value.response
        assert (response.status, response.headers["x-why"], response.body) == (403, "so", b"why?")


def test_an_unexpected_response_is_told() -> None:
    with halfway() as (ws, peer):
        journal = Journal(ws, "unexpected-response", "error", "close")
        peer.send_raw(ANSWERS["refused"][0].encode())
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["unexpected-response", "error", "close"]
        response = journal.events[0].response
        assert (response.status, response.body) == (403, b"why?")
        assert ws.response is response


def test_an_upgrade_that_is_none_of_ours_is_told() -> None:
    with halfway() as (ws, peer):
        journal = Journal(ws, "upgrade", "unexpected-response", "open", "error", "close")
        peer.send_raw(b"HTTP/1.1 101 Hello\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["upgrade", "error", "close"]
        assert journal.events[0].response is ws.response
        assert ws.response.reason == "Hello"


def test_late_listeners_learn_of_a_failure() -> None:
    with halfway() as (ws, peer):
        peer.end()
        eventually(lambda: ws.readyState == syncws.CLOSED)
        journal = Journal(ws, "error", "close")
        assert ws.wait_closed(PATIENCE)
        eventually(lambda: journal.told == ["error", "close"])


# -- nobody there, or too slow -----------------------------------------------------------------------------------


def test_a_time_out_of_the_systems_is_not_called_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def time_out(*_: Any) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(Way, "_reach", time_out)
    with pytest.raises(TimeoutError) as caught:
        Socket("ws://127.0.0.1:9/", handshake_timeout=None)
    assert str(caught.value) == f"[Errno {errno.ETIMEDOUT}] Connection timed out"


def test_a_refused_connection_is_an_os_error() -> None:
    with raw_listener() as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    with pytest.raises(ConnectionRefusedError):
        Socket(url)
    with pytest.raises(FileNotFoundError):
        Socket("ws+unix:/no/such/socket")
    ws = Socket(url, blocking=False)
    journal = Journal(ws)
    assert ws.wait_closed(PATIENCE)
    eventually(lambda: journal.told == ["error", "close"])
    assert isinstance(journal.events[0].error, ConnectionRefusedError)


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 101 Switching Protocols\r\n" * 100])
def test_the_handshake_has_one_deadline_however_the_server_drips(drip: bytes) -> None:
    with raw_listener() as listener:

        def slow() -> bytes:
            sock, _ = listener.accept()
            sock.settimeout(PATIENCE)
            with Peer(sock, client=False) as peer, contextlib.suppress(OSError):
                peer.read_head()
                for byte in drip:
                    peer.send_raw(bytes([byte]))
                    sleep(0.01)  # the pace of it
                return bytes(sock.recv(100))
            return b""

        server = spawn(slow)
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", handshake_timeout=0.3)
        assert 0.3 <= time.monotonic() - started < 5
        assert server.result() == b""


def test_too_late_is_told_as_an_error() -> None:
    with halfway(handshake_timeout=0.2) as (ws, peer):
        journal = Journal(ws, "error", "close")
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["error", "close"]
        assert isinstance(journal.events[0].error, TimeoutError)
        peer.expect_end()


# -- closing before it is open -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["close", "terminate"])
def test_closing_before_the_opening_is_a_failure(call: str) -> None:
    with halfway() as (ws, peer):
        journal = Journal(ws, "open", "error", "close")
        waiting = spawn(ws.recv)
        getattr(ws, call)()
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["error", "close"]
        assert journal.states == [syncws.CLOSING, syncws.CLOSED]
        assert (journal.events[1].code, journal.events[1].wasClean) == (1006, False)
        with pytest.raises(syncws.ConnectionClosed):
            waiting.result()
        peer.expect_end()


@pytest.mark.parametrize("call", ["close", "terminate"])
def test_closed_before_the_opening_it_is_closing_at_once(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    may = Event()

    def go(way: Any) -> None:
        assert may.wait(PATIENCE)
        raise OSError("late")

    monkeypatch.setattr(Way, "go", go)
    ws = Socket("ws://127.0.0.1:9/", blocking=False)
    assert ws.readyState == syncws.CONNECTING
    getattr(ws, call)()
    assert ws.readyState == syncws.CLOSING
    for send in (lambda: ws.send("a"), ws.ping):
        with pytest.raises(syncws.ConnectionClosed):
            send()
    may.set()
    assert ws.wait_closed(PATIENCE)


def test_a_bad_close_before_the_opening_changes_nothing() -> None:
    with halfway() as (ws, peer):
        with pytest.raises(ValueError):
            ws.close(1)
        peer.answer()
        eventually(lambda: ws.readyState == syncws.OPEN)
        still_works(ws, peer)


@pytest.mark.parametrize("call", ["close", "terminate"])
@pytest.mark.parametrize("type", ["upgrade", "unexpected-response", "error"])
def test_closing_is_allowed_in_the_listeners_of_the_handshake(type: str, call: str) -> None:
    with halfway() as (ws, peer):
        ws.addEventListener(type, lambda event: getattr(ws, call)())
        journal = Journal(ws)
        if type == "upgrade":
            peer.answer(extra=frame(TEXT, b"early"))
        else:
            peer.send_raw(ANSWERS["refused"][0].encode())
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["error", "close"]
        peer.expect_end()


@pytest.mark.parametrize("call", ["close", "terminate"])
def test_the_blocking_one_raises_when_a_listener_closes(call: str) -> None:
    with raw_listener() as listener:
        accepting = spawn(Peer.accept, listener)
        with pytest.raises(ConnectionAbortedError):
            Socket(
                f"ws://127.0.0.1:{listener.getsockname()[1]}/",
                onupgrade=lambda event: getattr(event.target, call)(),
            )
        with accepting.result() as peer:
            peer.expect_end()
