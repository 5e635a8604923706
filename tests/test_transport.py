"""The transport: bytes in and out of a socket, however little it takes at once and however it fails."""

from __future__ import annotations

import contextlib
import errno
import os
import socket as _native
import struct
import time
from typing import Any

import pytest
import world
from flaws import Flawed, failing
from test_runtime import RUNTIME
from world import eventually, spawn

from syncws.attendant import attendant_of
from syncws.runtime import READ, WRITE
from syncws.tls import TLSTransport
from syncws.transport import Transport, connect


@pytest.fixture
def pair() -> Any:
    """A transport and the plain socket at its other end."""
    ours, theirs = world.pair_of_sockets()
    theirs.settimeout(world.PATIENCE)
    transport = Transport(RUNTIME, ours)
    with contextlib.closing(transport), contextlib.closing(theirs):
        yield transport, theirs


@pytest.fixture(params=["plain", "tls", "tls in tls"])
def linked(request: Any, server_tls: Any, client_tls: Any) -> Any:
    """Two transports that are connected."""
    ours, theirs = world.pair_of_sockets()
    left, right = Transport(RUNTIME, ours), Transport(RUNTIME, theirs)
    for _ in range(request.param.count("tls")):
        left = TLSTransport(left, client_tls, server_hostname="localhost")
        right = TLSTransport(right, server_tls, server_side=True)
        shaking = spawn(left.handshake, time.monotonic() + 5)
        right.handshake(time.monotonic() + 5)
        shaking.result()
        assert left.read(bytearray(1), 0.01) is None  # takes the session tickets of TLS 1.3
    with contextlib.closing(left), contextlib.closing(right):
        yield left, right


def flaw(transport: Any, *args: Any, **how: Any) -> None:
    """Give it a socket with flaws, at the bottom of whatever it is over."""
    while isinstance(transport, TLSTransport):
        transport = transport._below
    transport._sock = Flawed(transport._sock, *args, **how)


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
    flaw(transport, fail=failing(getattr(errno, name)))
    assert transport.read(bytearray(10), timeout) == 0


@pytest.mark.parametrize("timeout", [None, 5])
def test_a_false_alarm_is_not_the_end(timeout: Any, pair: Any) -> None:
    transport, theirs = pair
    theirs.sendall(b"x")
    flaw(transport, fail=failing(errno.EAGAIN, times=1))
    assert transport.read(bytearray(10), timeout) == 1


def test_a_receive_timeout_of_the_systems_is_not_the_end() -> None:
    ours, theirs = world.pair_of_sockets()
    ours.setsockopt(_native.SOL_SOCKET, _native.SO_RCVTIMEO, struct.pack("ll", 0, 20_000))
    with contextlib.closing(Transport(RUNTIME, ours)) as transport, contextlib.closing(theirs):
        reading = spawn(transport.read, bytearray(10))
        world.sleep(0.1)
        theirs.send(b"late")
        assert reading.result() == 4


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
    flaw(left, most)
    flaw(right, most)
    out, expected = list(buffers), b"".join(buffers)
    receiving = spawn(drain, right, len(expected))
    while not left.write(out):
        left.wait(WRITE, 5)
    assert not out and not left.wants_to_write()
    assert receiving.result() == expected


def test_what_the_kernel_does_not_take_is_left(linked: Any) -> None:
    left, right = linked
    size = 8 << 20
    payload = bytes(range(256)) * (size // 256)
    out = [b"head", payload]
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
    flaw(left, fail=failing(getattr(errno, name)))
    with pytest.raises(OSError) as caught:
        left.write([b"x"])
    assert caught.value.errno == getattr(errno, name)


def test_waiting_for_both_ends_with_either(linked: Any) -> None:
    left, right = linked
    while left.write([bytes(65536)]):
        pass
    assert left.wait(READ | WRITE, 0.01) == 0
    right.write([b"x"])
    assert left.wait(READ | WRITE, 5) & READ


# -- looking, shutting, closing ------------------------------------------------------------------------------------


def test_unread_bytes_are_seen_and_not_taken(linked: Any) -> None:
    left, right = linked
    assert left.unread() == 0
    right.write([b"x"])
    eventually(left.unread)
    assert left.unread() > 0 and left.read(bytearray(5), 0) == 1
    assert left.unread() == 0


def test_records_without_data_come_to_an_end(linked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a peer that updates its keys and does nothing else."""
    left, right = linked
    if not isinstance(left, TLSTransport):
        return
    monkeypatch.setattr(left, "_decrypt", lambda buffer: None)
    sending = spawn(lambda: [right.write([bytes(1 << 14)]) or right.wait(WRITE, 1) for _ in range(40)])
    assert left.read(bytearray(1), 5) == 0
    assert left._incoming.pending < 1 << 18
    left.shutdown()
    with contextlib.suppress(OSError):
        sending.result()


def test_what_was_decrypted_and_not_taken_is_held(linked: Any) -> None:
    left, right = linked
    right.write([b"ab"])
    assert left.read(bytearray(1), 5) == 1
    assert left.holds_data() == isinstance(left, TLSTransport)
    assert left.read(bytearray(1), 0) == 1
    assert left.read(bytearray(1), 0) is None
    assert not left.holds_data() and not left.unread()


def test_an_end_shows_only_behind_what_is_unread(linked: Any) -> None:
    left, right = linked
    assert not left.has_ended()
    right.write([b"ab"])
    assert left.read(bytearray(1), 5) == 1
    right.shutdown()
    assert not left.has_ended()
    assert left.read(bytearray(1), 5) == 1
    assert left.read(bytearray(1), 5) == 0
    assert left.has_ended()


def test_a_connection_that_was_reset_has_ended() -> None:
    with world.raw_listener() as listener:
        theirs = _native.create_connection(listener.getsockname())
        with contextlib.closing(plain(listener.accept()[0])) as ours:
            theirs.setsockopt(_native.SOL_SOCKET, _native.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
            assert ours.wait(READ, 5) and ours.has_ended()


def test_all_is_written_before_the_deadline_or_it_is_said(linked: Any) -> None:
    left, right = linked
    left.write_all(b"", time.monotonic(), "never said")
    left.write_all(b"abc", time.monotonic() + 5, "never said")
    assert right.read(bytearray(5), 5) == 3
    with pytest.raises(TimeoutError, match="the other one does not read"):
        left.write_all(bytes(1 << 24), time.monotonic() + 0.1, "the other one does not read")


def test_who_finished_writing_still_reads(linked: Any) -> None:
    left, right = linked
    left.finish_writing()
    assert right.read(bytearray(5), 5) == 0
    right.write([b"bye"])
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
    assert left.unread() == 0
    assert not left.is_stuffed()


def never() -> bool:
    return False


def plain(sock: Any) -> Transport:
    return Transport(RUNTIME, sock)


def test_small_frames_do_not_wait_for_acknowledgements() -> None:
    with world.raw_listener() as listener:
        transport = connect(RUNTIME, plain, _native.AF_INET, listener.getsockname(), None, never)
        with contextlib.closing(transport):
            assert transport.sock.getsockopt(_native.IPPROTO_TCP, _native.TCP_NODELAY)
            assert not os.get_inheritable(transport.descriptor)


# -- connecting ----------------------------------------------------------------------------------------------------


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def refuse(sock: Any) -> Any:
    raise ValueError("no")


def test_what_cannot_be_wrapped_leaves_no_descriptor() -> None:
    before = count_descriptors()
    with pytest.raises(ValueError):
        connect(RUNTIME, refuse, _native.AF_INET, ("127.0.0.1", 9), time.monotonic() + 5, never)
    assert count_descriptors() == before


def test_a_connection_that_fails_is_whose_it_is_to_close() -> None:
    with world.raw_listener() as listener:
        address = listener.getsockname()
    made: list[Transport] = []

    def make(sock: Any) -> Transport:
        made.append(plain(sock))
        return made[0]

    with pytest.raises(ConnectionRefusedError):
        connect(RUNTIME, make, _native.AF_INET, address, time.monotonic() + 5, never)
    assert made[0].descriptor >= 0
    made[0].close()
    attendant_of(RUNTIME)  # has descriptors of its own
    before = count_descriptors()
    with pytest.raises(ConnectionRefusedError):
        world.Socket(f"ws://127.0.0.1:{address[1]}/")
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
            attendant_of(RUNTIME)
            before, began = count_descriptors(), time.monotonic()
            with pytest.raises(TimeoutError):
                world.Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", handshake_timeout=0.3)
            assert 0.3 <= time.monotonic() - began < 4
            assert count_descriptors() == before
