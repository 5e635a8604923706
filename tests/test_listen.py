"""Where a server listens (TCP, unix sockets, a socket made elsewhere), and its accept loop."""

from __future__ import annotations

import contextlib
import errno
import os
import socket as native
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import world
from peer import Peer
from program import Program
from raw import head, is_served
from world import Event, Server, Socket, serving

# -- TCP --------------------------------------------------------------------------------------------------


def test_port_0_is_any_free_one_and_address_says_which() -> None:
    with serving() as server:
        host, port = server.address()
        assert host == "127.0.0.1"
        assert port > 0
        world.raw_connection(server.address()).close()
    assert server.address() is None


def test_without_a_host_both_families_are_served_on_one_port() -> None:
    for _ in range(20):
        with Server(world.echo, port=0) as server:
            port = server.address()[1]
            for host in ("127.0.0.1", "[::1]"):
                with Socket(f"ws://{host}:{port}/") as ws:
                    ws.send(host)
                    assert ws.recv(world.PATIENCE) == host


def test_a_host_name_may_be_given() -> None:
    with Server(world.echo, host="localhost", port=0) as server:
        assert is_served(server)


def test_the_constructor_raises_oserror_if_it_cannot_bind() -> None:
    with serving() as server:
        port = server.address()[1]
        for host in ("127.0.0.1", None):
            with pytest.raises(OSError) as caught:
                Server(world.echo, host=host, port=port)
            assert caught.value.errno == errno.EADDRINUSE
        assert is_served(server)
    for host in ("192.0.2.1", "nonexistent.invalid"):
        with pytest.raises(OSError):
            Server(world.echo, host=host, port=0)


def test_a_port_out_of_range_is_refused() -> None:
    for port in (-1, 65536):
        with pytest.raises(ValueError, match="port"):
            Server(world.echo, host="127.0.0.1", port=port)


@pytest.mark.parametrize("port", ["8765", 1.5, True])
def test_a_port_is_a_number(port: Any) -> None:
    with pytest.raises(TypeError, match="port"):
        Server(world.echo, host="127.0.0.1", port=port)


def test_a_host_that_is_empty_is_not_all_of_them() -> None:
    with pytest.raises(ValueError, match="host"):
        Server(world.echo, host="", port=0)


def test_a_socket_to_listen_on_listens() -> None:
    with pytest.raises(TypeError, match="listening"):
        Server(world.echo, sock=5)
    with contextlib.closing(native.socket()) as sock, pytest.raises(ValueError, match="listen"):
        Server(world.echo, sock=sock)


def test_a_port_can_be_taken_again_at_once() -> None:
    with serving() as server:
        port = server.address()[1]
        Peer.connect(server).close()
    with Server(world.echo, host="127.0.0.1", port=port) as server:
        assert is_served(server)


def test_two_servers_share_a_port_with_reuse_port() -> None:
    with serving(reuse_port=True) as one:
        port = one.address()[1]
        with Server(world.echo, host="127.0.0.1", port=port, reuse_port=True) as two:
            assert two.address() == one.address()
        assert is_served(one)


def test_two_hundred_at_once_are_all_accepted() -> None:
    server = Server(world.echo, host="127.0.0.1", port=0)
    socks = [world.raw_connection(server.address()) for _ in range(200)]  # nobody accepts yet
    for sock in socks:
        sock.sendall(head())
    server.start()
    for sock in socks:
        assert sock.recv(12) == b"HTTP/1.1 101"
        sock.close()
    server.close()


def test_nothing_is_inherited_by_other_programs() -> None:
    with serving() as server, Peer.connect(server):
        world.eventually(lambda: len(server.clients) == 1)
        (ws,) = server.clients
        descriptors = [*server._source._acceptor._listeners, ws._descriptor]
        assert [os.get_inheritable(descriptor) for descriptor in descriptors] == [False, False]


# -- a socket made elsewhere ------------------------------------------------------------------------------


def test_a_listening_socket_is_taken_over() -> None:
    listener = world.raw_listener()
    address = listener.getsockname()
    with Server(world.echo, sock=listener) as server:
        assert server.address() == address
        assert is_served(server)
    with pytest.raises(ConnectionRefusedError):
        world.raw_connection(address)


# -- unix sockets -----------------------------------------------------------------------------------------


@pytest.fixture
def path() -> Iterator[str]:
    # Short: the system allows about a hundred bytes, and tmp_path may be longer.
    name = f"/tmp/syncws-{os.getpid()}-{threading.get_ident() & 0xFFFF}.sock"
    yield name
    Path(name).unlink(missing_ok=True)


def test_a_unix_socket_is_served_for_this_user_only(path: str) -> None:
    before = os.umask(0)
    try:
        with Server(lambda ws, request: ws.send(request.path), unix=path) as server:
            assert server.address() == path
            mode = os.lstat(path).st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            with Socket(f"ws+unix:{path}:/target") as ws:
                assert ws.recv(world.PATIENCE) == "/target"
    finally:
        os.umask(before)
    assert not os.path.lexists(path)


def test_a_unix_socket_is_never_open_to_others(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    chmod = os.chmod

    def look(name: Any, mode: int, **options: Any) -> None:
        modes.append(stat.S_IMODE(os.lstat(name).st_mode))
        chmod(name, mode, **options)

    monkeypatch.setattr(os, "chmod", look)
    before = os.umask(0)
    try:
        Server(world.echo, unix=path).close()
    finally:
        os.umask(before)
    assert all(mode & 0o077 == 0 for mode in modes)


def test_a_stale_path_is_used_again(path: str) -> None:
    with native.socket(native.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    with Server(world.echo, unix=path), Socket(f"ws+unix:{path}:/") as ws:
        ws.send("alive")
        assert ws.recv(world.PATIENCE) == "alive"


def test_a_live_path_is_left_alone(path: str) -> None:
    with Server(world.echo, unix=path):
        with pytest.raises(OSError) as caught:
            Server(world.echo, unix=path)
        assert caught.value.errno == errno.EADDRINUSE
        with Socket(f"ws+unix:{path}:/") as ws:
            ws.send("alive")
            assert ws.recv(world.PATIENCE) == "alive"


def test_what_is_no_socket_is_left_alone(path: str) -> None:
    Path(path).write_text("mine", encoding="ascii")
    with pytest.raises(OSError) as caught:
        Server(world.echo, unix=path)
    assert caught.value.errno == errno.EEXIST
    assert Path(path).read_text(encoding="ascii") == "mine"


def test_symbolic_links_are_not_followed(path: str) -> None:
    target = path + "t"
    with native.socket(native.AF_UNIX) as dead:
        dead.bind(target)
    os.symlink(target, path)
    try:
        with pytest.raises(OSError):
            Server(world.echo, unix=path)
        assert os.path.islink(path)
        assert os.path.lexists(target)
    finally:
        os.unlink(target)


def test_only_what_we_made_is_removed(path: str) -> None:
    with Server(world.echo, unix=path):
        os.unlink(path)
        Path(path).write_text("another's", encoding="ascii")
    assert Path(path).read_text(encoding="ascii") == "another's"


@pytest.mark.parametrize("name", ["/nonexistent/directory/s", "/tmp/" + "x" * 200, ""])
def test_an_impossible_path_raises_oserror(name: str) -> None:
    with pytest.raises(OSError):
        Server(world.echo, unix=name)


# -- the accept loop --------------------------------------------------------------------------------------


class Sabotaged:
    """A listening socket whose next calls of accept() fail."""

    def __init__(self, listener: Any, failures: list[OSError]) -> None:
        self._listener = listener
        self.failures = failures
        self.calls = 0

    def accept(self) -> Any:
        self.calls += 1
        if self.failures:
            raise self.failures.pop()
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


def sabotage(server: Any, *numbers: int) -> Sabotaged:
    """Have the next calls of accept() fail with these numbers."""
    listeners = server._source._acceptor._listeners
    ((descriptor, listener),) = listeners.items()
    failures = [OSError(number, os.strerror(number)) for number in numbers]
    listeners[descriptor] = Sabotaged(listener, failures)
    return listeners[descriptor]


PASSING = [
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.EPERM,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENOPROTOOPT,
    errno.ETIMEDOUT,
]
SCARCE = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]


@pytest.mark.parametrize("number", PASSING, ids=errno.errorcode.get)
def test_a_connection_that_fails_before_it_is_accepted_is_passed_over(number: int) -> None:
    with serving() as server:
        sabotaged = sabotage(server, *[number] * 200)
        assert is_served(server)
        assert sabotaged.failures == []


@pytest.mark.parametrize("number", SCARCE, ids=errno.errorcode.get)
def test_scarcity_is_waited_out_and_told_once_a_second(number: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.expected_errors = 1  # type: ignore[attr-defined]
    errors: list[OSError] = []
    with serving() as server:
        server.on("error", errors.append)
        sabotage(server, *[number] * 4)  # 10, 20, 40, 80 ms
        start = time.monotonic()
        assert is_served(server)
        assert 0.12 < time.monotonic() - start < 5
    assert [error.errno for error in errors] == [number]


def test_a_listener_that_is_gone_ends_the_server_with_an_error(caplog: Any) -> None:
    caplog.expected_errors = 1
    ended = Event()
    errors: list[OSError] = []
    with serving() as server:
        server.on("error", errors.append)
        waiting = world.spawn(lambda: (server.serve_forever(), ended.set()))
        sabotage(server, errno.EINVAL)
        with contextlib.suppress(ConnectionError):  # it may be gone before we have arrived
            world.raw_connection(server.address()).close()
        waiting.result()
        assert ended.is_set()
    assert [error.errno for error in errors] == [errno.EINVAL]
    assert server.address() is None


STARVED = """
import resource
from world import Server, echo
server = Server(echo, host="127.0.0.1", port=0).start()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
say(server.address()[1])
def stay():
    for line in sys.stdin:
        say("alive")
if world.GREEN:
    import gevent
    gevent.get_hub().threadpool.apply(stay)
else:
    stay()
"""


@pytest.mark.timeout(120)
def test_out_of_descriptors_the_server_waits_cheaply_and_recovers() -> None:
    with Program(STARVED) as program:
        socks = [world.raw_connection(program.address()) for _ in range(100)]
        for sock in socks:
            sock.sendall(head())
        assert socks[0].recv(12) == b"HTTP/1.1 101"
        before = program.processor_time()
        world.sleep(1.0)  # the measured time
        used = program.processor_time() - before
        assert used < 0.05 * 1.0 + 0.05, used
        for sock in socks:
            sock.close()
        start = time.monotonic()
        assert is_served(program)
        assert time.monotonic() - start < 4
        program.signal(9)
        _, _, complaints = program.end()
        lines = complaints.splitlines()
        assert 1 <= len(lines) <= 8, complaints
        assert all("cannot accept connections for now" in line for line in lines)
