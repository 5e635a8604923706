"""The transport: bytes in and out of a socket, however little it takes at once and however it fails."""

from __future__ import annotations

import contextlib
import errno
import os
import socket as _native
import struct
import threading
import time
from collections import deque
from typing import Any

import pytest
import world
from test_runtime import RUNTIME
from world import Socket, eventually, serving, spawn

from syncws import ConnectionClosed, HandshakeError, control
from syncws.runtime import READ, WRITE
from syncws.transport import TLSTransport, Transport, connect


@pytest.fixture
def pair() -> Any:
    """A transport and the plain socket at its other end."""
    ours, theirs = world.pair_of_sockets()
    theirs.settimeout(world.PATIENCE)
    transport = Transport(RUNTIME, ours)
    with contextlib.closing(transport), contextlib.closing(theirs):
        yield transport, theirs


@pytest.fixture(params=["plain", "tls"])
def linked(request: Any, server_tls: Any, client_tls: Any) -> Any:
    """Two transports that are connected."""
    ours, theirs = world.pair_of_sockets()
    if request.param == "plain":
        left, right = Transport(RUNTIME, ours), Transport(RUNTIME, theirs)
    else:
        left = TLSTransport(RUNTIME, ours, client_tls, server_hostname="localhost")
        right = TLSTransport(RUNTIME, theirs, server_tls, server_side=True)
        shaking = spawn(left.handshake, time.monotonic() + 5)
        right.handshake(time.monotonic() + 5)
        shaking.result()
        assert left.read(bytearray(1), 0.01) is None  # takes the session tickets of TLS 1.3
    with contextlib.closing(left), contextlib.closing(right):
        yield left, right


class Flawed:
    """A native socket of which each call may do less than it could, or fail."""

    def __init__(self, sock: Any, most: int = 1 << 30, fail: Any = None) -> None:
        self._sock = sock
        self._most = most
        self._fail = fail or (lambda call: None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        self._fail("recv")
        return self._sock.recv_into(memoryview(buffer)[: self._most], 0, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        self._fail("send")
        return self._sock.send(memoryview(data)[: self._most], flags)

    def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0) -> int:
        self._fail("send")
        left = self._most
        short = []
        for buffer in buffers:
            short.append(memoryview(buffer)[:left])
            left -= len(short[-1])
        return self._sock.sendmsg(short, ancillary, flags)


# -- reading -------------------------------------------------------------------------------------------------------


def test_reading_gives_what_is_there(pair: Any) -> None:
    transport, theirs = pair
    theirs.sendall(b"hello")
    buffer = bytearray(100)
    assert transport.read(buffer) == 5 and buffer[:5] == b"hello"
    theirs.sendall(b"more")
    assert transport.read(buffer, 5) == 4


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_nothing_in_time_is_none(timeout: float, linked: Any) -> None:
    began = time.monotonic()
    assert linked[0].read(bytearray(10), timeout) is None
    assert time.monotonic() - began >= timeout


@pytest.mark.parametrize("timeout", [None, 5, 0])
def test_the_end_of_the_stream_is_zero_and_stays_zero(timeout: Any, linked: Any) -> None:
    left, right = linked
    right.shutdown()
    for _ in range(2):
        eventually(lambda: left.read(bytearray(10), timeout) == 0)


@pytest.mark.parametrize("timeout", [None, 5])
def test_a_shutdown_wakes_who_reads(timeout: Any, linked: Any) -> None:
    reading = spawn(linked[0].read, bytearray(10), timeout)
    assert not reading.done
    linked[0].shutdown()
    assert reading.result(2) == 0


ENDS = ["ECONNRESET", "EPIPE", "ETIMEDOUT", "EBADF", "ENOTCONN", "EHOSTUNREACH", "ENETDOWN", "ENOMEM", "EINTR"]


@pytest.mark.parametrize("timeout", [None, 5, 0])
@pytest.mark.parametrize("name", ENDS)
def test_an_error_of_reading_is_the_end_of_the_stream(name: str, timeout: Any, pair: Any) -> None:
    transport, _ = pair
    transport._sock = Flawed(transport._sock, fail=failing(getattr(errno, name)))
    assert transport.read(bytearray(10), timeout) == 0


@pytest.mark.parametrize("timeout", [None, 5])
def test_a_false_alarm_is_not_the_end(timeout: Any, pair: Any) -> None:
    transport, theirs = pair
    theirs.sendall(b"x")
    transport._sock = Flawed(transport._sock, fail=failing(errno.EAGAIN, times=1))
    assert transport.read(bytearray(10), timeout) == 1


def test_a_receive_timeout_of_the_systems_is_not_the_end() -> None:
    ours, theirs = world.pair_of_sockets()
    ours.setsockopt(_native.SOL_SOCKET, _native.SO_RCVTIMEO, struct.pack("ll", 0, 20_000))
    with contextlib.closing(Transport(RUNTIME, ours)) as transport, contextlib.closing(theirs):
        reading = spawn(transport.read, bytearray(10))
        world.sleep(0.1)
        theirs.send(b"late")
        assert reading.result() == 4


def failing(number: int, times: int = 1 << 30, first: int = 1) -> Any:
    """Fails in the calls from `first` on, `times` times."""
    left = [first - 1, times]

    def fail(call: str) -> None:
        if left[0]:
            left[0] -= 1
        elif left[1]:
            left[1] -= 1
            raise OSError(number, os.strerror(number))

    return fail


# -- writing -------------------------------------------------------------------------------------------------------


def drain(transport: Any, size: int) -> bytes:
    data, buffer = b"", bytearray(65536)
    while len(data) < size:
        count = transport.read(buffer, world.PATIENCE)
        assert count, data[-20:]
        data += buffer[:count]
    return data


@pytest.mark.parametrize("most", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "buffers",
    [
        [b"x"],
        [b"head", bytes(5000)],
        [bytearray(b"abc"), memoryview(b"defg"), b"h"],
        [bytes([number]) * number for number in range(1, 150)],  # more than one system call takes
    ],
)
def test_what_is_written_arrives_whole_and_in_order(buffers: Any, most: int, linked: Any) -> None:
    left, right = linked
    left._sock, right._sock = Flawed(left._sock, most), Flawed(right._sock, most)
    out, expected = deque(buffers), b"".join(buffers)
    receiving = spawn(drain, right, len(expected))
    while not left.write(out):
        left.wait(WRITE, 5)
    assert not out and not left.wants_to_write()
    assert receiving.result() == expected


def test_what_the_kernel_does_not_take_is_left(linked: Any) -> None:
    left, right = linked
    size = 8 << 20
    payload = bytes(range(256)) * (size // 256)
    out = deque([b"head", payload])
    assert left.write(out) is False
    assert out or left.wants_to_write()
    assert left.wait(WRITE, 0.01) == 0
    receiving = spawn(drain, right, size + 4)
    while not left.write(out):
        assert left.wait(WRITE, 5)
    assert receiving.result() == b"head" + payload


@pytest.mark.parametrize("name", [name for name in ENDS if name != "EAGAIN"])
def test_an_error_of_writing_is_raised_as_it_is(name: str, linked: Any) -> None:
    left, _ = linked
    left._sock = Flawed(left._sock, fail=failing(getattr(errno, name)))
    with pytest.raises(OSError) as caught:
        left.write(deque([b"x"]))
    assert caught.value.errno == getattr(errno, name)


def test_waiting_for_both_ends_with_either(linked: Any) -> None:
    left, right = linked
    while left.write(deque([bytes(65536)])):
        pass
    assert left.wait(READ | WRITE, 0.01) == 0
    right.write(deque([b"x"]))
    assert left.wait(READ | WRITE, 5) & READ


# -- looking, shutting, closing ------------------------------------------------------------------------------------


def test_unread_bytes_are_seen_and_not_taken(linked: Any) -> None:
    left, right = linked
    assert not left.has_unread()
    right.write(deque([b"x"]))
    eventually(left.has_unread)
    assert left.has_unread() and left.read(bytearray(5), 0) == 1
    assert not left.has_unread()


def test_what_was_decrypted_and_not_taken_is_held(linked: Any) -> None:
    left, right = linked
    right.write(deque([b"ab"]))
    assert left.read(bytearray(1), 5) == 1
    assert left.holds_data() == isinstance(left, TLSTransport)
    assert left.has_unread()
    assert left.read(bytearray(1), 0) == 1
    assert left.read(bytearray(1), 0) is None
    assert not left.holds_data() and not left.has_unread()


def test_who_finished_writing_still_reads(linked: Any) -> None:
    left, right = linked
    left.finish_writing()
    assert right.read(bytearray(5), 5) == 0
    right.write(deque([b"bye"]))
    assert left.read(bytearray(5), 5) == 3


def test_shutdown_and_close_may_come_again(linked: Any) -> None:
    left, right = linked
    for _ in range(2):
        right.shutdown()
        left.finish_writing()
    for _ in range(2):
        left.close()
    assert left.descriptor == -1
    left.shutdown()
    assert left.addresses() == (None, None)
    assert not left.has_unread()


def plain(sock: Any) -> Transport:
    return Transport(RUNTIME, sock)


def test_small_frames_do_not_wait_for_acknowledgements() -> None:
    with world.raw_listener() as listener:
        transport = connect(RUNTIME, plain, _native.AF_INET, listener.getsockname(), None)
        with contextlib.closing(transport):
            assert transport.sock.getsockopt(_native.IPPROTO_TCP, _native.TCP_NODELAY)
            assert not os.get_inheritable(transport.descriptor)


# -- connecting ----------------------------------------------------------------------------------------------------


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def refuse(sock: Any) -> Any:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("make", "error"),
    [(refuse, ValueError), (plain, ConnectionRefusedError)],
)
def test_a_connection_that_fails_leaves_no_descriptor(make: Any, error: Any) -> None:
    with world.raw_listener() as listener:
        address = listener.getsockname()
    before = count_descriptors()
    with pytest.raises(error):
        connect(RUNTIME, make, _native.AF_INET, address, time.monotonic() + 5)
    assert count_descriptors() == before


def test_a_connection_that_takes_too_long_is_a_timeout() -> None:
    with _native.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(4):  # its queue is full from here on
                filler = stack.enter_context(_native.socket())
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            before, began = count_descriptors(), time.monotonic()
            with pytest.raises(TimeoutError):
                connect(RUNTIME, plain, _native.AF_INET, listener.getsockname(), began + 0.3)
            assert 0.3 <= time.monotonic() - began < 1.3
            assert count_descriptors() == before


# -- whole sessions over flawed sockets ----------------------------------------------------------------------------


MESSAGES = ("small", bytes(70_000), "é" * 500, b"")


def talk(url: str, **options: Any) -> None:
    """One session; raises what the first call to fail raises."""
    ws = Socket(url, close_timeout=0.5, handshake_timeout=5, **options)
    try:
        for message in MESSAGES:
            ws.send(message)
            assert ws.recv(world.PATIENCE) == message
        ws.close(1000)
        assert ws.wait_closed(world.PATIENCE)
    finally:
        ws.terminate()


@pytest.fixture
def flaws(monkeypatch: Any) -> Any:
    """Call it with a side and the flaws of that side's next sockets."""
    monkeypatch.setattr(control, "LINGER", 0.1)
    flawed: dict[str, Any] = {}
    init = Transport.__init__

    def flawed_init(self: Any, runtime: Any, sock: Any) -> None:
        init(self, runtime, sock)
        side = "client" if self.addresses()[0] is None else "server"
        if side in flawed:
            self._sock = Flawed(self._sock, **flawed[side])

    monkeypatch.setattr(Transport, "__init__", flawed_init)
    return lambda side, **how: (flawed.clear(), flawed.update({side: how}))


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_session_over_short_reads_and_writes(
    side: str, scheme: str, flaws: Any, server_tls: Any, client_tls: Any
) -> None:
    tls, options = (server_tls, {"ssl": client_tls}) if scheme == "wss" else (None, {})
    with serving(ssl=tls, close_timeout=5) as server:
        for most in (1, 3):
            flaws(side, most=most)
            talk(world.url_of(server, scheme=scheme), **options)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("call", ["recv", "send"])
def test_whichever_call_fails_the_session_ends_by_a_documented_exception(
    call: str, side: str, scheme: str, flaws: Any, server_tls: Any, client_tls: Any
) -> None:
    """And leaves no descriptor, no thread, no client of the server."""
    tls, options = (server_tls, {"ssl": client_tls}) if scheme == "wss" else (None, {})
    outcomes: dict[str, int] = {}
    with serving(ssl=tls, close_timeout=0.5) as server:
        talk(world.url_of(server, scheme=scheme), **options)
        eventually(lambda: not server.clients)
        before = eventually_still(count_descriptors), eventually_still(threading.active_count)
        for name in ("EINTR", "EAGAIN", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ENOBUFS", "EBADF"):
            for first in (1, 2, 3, 4, 6, 9):
                fail = failing(getattr(errno, name), times=1 if name == "EAGAIN" else 1 << 30, first=first)
                flaws(side, fail=lambda which, fail=fail: fail(which) if which == call else None)
                outcome = outcome_of(talk, world.url_of(server, scheme=scheme), **options)
                assert outcome == "finished" or name != "EAGAIN", (name, first)
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert outcomes["finished"] >= 6 and sum(outcomes.values()) - outcomes["finished"] >= 12, outcomes
        eventually(lambda: not server.clients)
        eventually(lambda: (count_descriptors(), threading.active_count()) <= before)


def outcome_of(function: Any, *args: Any, **kwargs: Any) -> str:
    try:
        function(*args, **kwargs)
    except (ConnectionClosed, HandshakeError, OSError) as error:
        return type(error).__name__
    return "finished"


def eventually_still(count: Any) -> int:
    """What `count` says once it says the same for a while."""
    said = [count()]
    for _ in range(200):
        world.sleep(0.01)
        said.append(count())
        if len(said) > 10 and len(set(said[-10:])) == 1:
            break
    return said[-1]
