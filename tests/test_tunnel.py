"""The example `tcp_tunnel.py`: a real service through it, and much data both ways, byte for byte.

The service is Debian's redis-server; where it is not, and cannot be installed, its tests are skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import debian
import pytest
import world
from command import ROOT, Command
from redis_program import Redis
from world import PATIENCE, spawn

pytestmark = world.threads_only  # processes of their own, which no test mode reaches

EXAMPLE = "tcp_tunnel.py"
SIZE = 8 << 20


@contextlib.contextmanager
def tunnel_to(port: int) -> Iterator[tuple[Any, int]]:
    """The end near the service, a process; and the port at which the other end is entered."""
    with Command(ROOT / "examples" / EXAMPLE, "leave", f"127.0.0.1:{port}", 0) as leaving:
        with Command(ROOT / "examples" / EXAMPLE, "enter", leaving.url(), 0) as entering:
            yield leaving, int(entering.line().rpartition(":")[2])
            entering.signal(signal.SIGINT)
            assert entering.end() == (0, [], [])
        if leaving.process.poll() is None:
            leaving.signal(signal.SIGINT)
            assert leaving.end() == (0, [], [])


def connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=3 * PATIENCE)


def read_to_end(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


# -- a service of our own ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def service(serve: Any) -> Iterator[int]:
    """A TCP service, `serve(sock)` for its one client; its port."""
    listener = world.raw_listener()

    def accept() -> None:
        with listener.accept()[0] as sock:
            sock.settimeout(3 * PATIENCE)
            serve(sock)

    with listener:
        serving = spawn(accept)
        yield listener.getsockname()[1]
        serving.result(3 * PATIENCE)


def exchange(sock: socket.socket, data: bytes) -> str:
    """Send `data` while as much comes in; the digest of that."""
    sending = spawn(sock.sendall, data)
    digest = hashlib.sha256()
    left = SIZE
    while left:
        piece = sock.recv(min(left, 1 << 16))
        assert piece, f"{left} bytes are missing"
        digest.update(piece)
        left -= len(piece)
    sending.result(3 * PATIENCE)
    return digest.hexdigest()


def test_random_bytes_cross_both_ways_at_once() -> None:
    there, back = random.randbytes(SIZE), random.randbytes(SIZE)
    got: list[str] = []
    with service(lambda sock: got.append(exchange(sock, back))) as port, tunnel_to(port) as (_, entry):
        with connection(entry) as sock:
            assert exchange(sock, there) == hashlib.sha256(back).hexdigest()
        world.eventually(lambda: got)
    assert got == [hashlib.sha256(there).hexdigest()]


def test_the_end_of_the_service_is_the_end_of_its_client_and_all_came_before() -> None:
    data = random.randbytes(SIZE)
    with service(lambda sock: sock.sendall(data)) as port, tunnel_to(port) as (_, entry), connection(entry) as sock:
        assert hashlib.sha256(read_to_end(sock)).digest() == hashlib.sha256(data).digest()


def test_the_end_of_the_client_is_the_end_of_the_service() -> None:
    data = random.randbytes(SIZE)
    got: list[bytes] = []
    with service(lambda sock: got.append(read_to_end(sock))) as port, tunnel_to(port) as (_, entry):
        with connection(entry) as sock:
            sock.sendall(data)
        world.eventually(lambda: got, 3 * PATIENCE)
    assert hashlib.sha256(got[0]).digest() == hashlib.sha256(data).digest()


def test_a_tunnel_that_breaks_looks_broken() -> None:
    over = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"some")
        assert over.wait(3 * PATIENCE)

    with service(serve) as port, tunnel_to(port) as (leaving, entry), connection(entry) as sock:
        assert sock.recv(4, socket.MSG_WAITALL) == b"some"
        leaving.process.kill()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        over.set()


def test_a_service_that_resets_looks_broken_too() -> None:
    def serve(sock: socket.socket) -> None:
        sock.sendall(b"some")
        assert sock.recv(2) == b"ok"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with service(serve) as port, tunnel_to(port) as (_, entry), connection(entry) as sock:
        assert sock.recv(4, socket.MSG_WAITALL) == b"some"
        sock.sendall(b"ok")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


# -- redis ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    """The port of a redis-server of our own, which keeps nothing."""
    redis = Redis(debian.need("redis-server", "redis-server", "nothing real went through the tunnel"), tmp_path)
    redis.start()
    try:
        yield redis.port
    finally:
        redis.stop()


def request(*words: bytes) -> bytes:
    """A command in redis' own protocol: binary, with lengths."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


BLOB = random.Random(2).randbytes(4 << 20)
SESSION = [
    [b"PING"],
    [b"SET", b"key", b"\x00\xff\r\nbinary"],
    [b"GET", b"key"],
    [b"GET", b"nothing"],
    [b"SET", b"blob", BLOB],
    [b"STRLEN", b"blob"],
    [b"GETRANGE", b"blob", b"1000", b"200000"],
    [b"RPUSH", b"list", *(b"%d" % number for number in range(5000))],
    [b"LRANGE", b"list", b"0", b"-1"],
    [b"INCR", b"key"],  # an error of redis'
    [b"NO-SUCH-COMMAND"],
    [b"MULTI"],
    [b"INCRBY", b"number", b"41"],
    [b"INCR", b"number"],
    [b"EXEC"],
    [b"GET", b"blob"],
    [b"QUIT"],
]


def session(port: int, pipelined: bool) -> bytes:
    """All that redis answers to SESSION, up to its end; all at once, or each command a few bytes after the other."""
    commands = [request(*words) for words in SESSION]
    with connection(port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if pipelined:
            pieces = [b"".join(commands)]
        else:
            pieces = [command[at:][:step] for command in commands for step in [len(command) // 7 + 1]
                      for at in range(0, len(command), step)]  # fmt: skip

        def send() -> None:
            for piece in pieces:
                sock.sendall(piece)

        sending = spawn(send)
        answer = read_to_end(sock)
        sending.result(3 * PATIENCE)
        return answer


@pytest.mark.parametrize("pipelined", [True, False])
def test_a_session_with_redis_is_the_same_through_the_tunnel(redis_port: int, pipelined: bool) -> None:
    with tunnel_to(redis_port) as (_, entry):
        assert session(redis_port, pipelined).endswith(b"+OK\r\n")
        flush(redis_port)
        plain = session(redis_port, pipelined)
        flush(redis_port)
        tunnelled = session(entry, pipelined)
    assert len(plain) > len(BLOB)
    assert hashlib.sha256(tunnelled).digest() == hashlib.sha256(plain).digest()


def flush(port: int) -> None:
    with connection(port) as sock:
        sock.sendall(request(b"FLUSHALL"))
        assert sock.recv(5) == b"+OK\r\n"


def test_what_redis_publishes_comes_through_to_whoever_waits(redis_port: int) -> None:
    with tunnel_to(redis_port) as (_, entry), connection(entry) as listening, connection(entry) as telling:
        expected = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n"
        listening.sendall(request(b"SUBSCRIBE", b"room"))
        assert listening.recv(len(expected), socket.MSG_WAITALL) == expected
        for number in range(50):
            telling.sendall(request(b"PUBLISH", b"room", b"%03d" % number))
            assert telling.recv(4, socket.MSG_WAITALL) == b":1\r\n"
            news = request(b"message", b"room", b"%03d" % number)
            assert listening.recv(len(news), socket.MSG_WAITALL) == news


def test_many_clients_share_the_tunnel(redis_port: int) -> None:
    def count(entry: int) -> None:
        with connection(entry) as sock:
            for _ in range(50):
                sock.sendall(request(b"INCR", b"shared"))
                with sock.makefile("rb") as answer:
                    assert answer.readline().startswith(b":")

    with tunnel_to(redis_port) as (_, entry):
        tasks = [spawn(count, entry) for _ in range(10)]
        for task in tasks:
            task.result(3 * PATIENCE)
        with connection(entry) as sock:
            sock.sendall(request(b"GET", b"shared"))
            assert sock.recv(9, socket.MSG_WAITALL) == b"$3\r\n500\r\n"
