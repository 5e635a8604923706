"""Listening sockets, and the loop that accepts from them and survives everything.

Rank 4. TCP on one or all addresses, unix sockets, or a socket made elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .options import check_bool, check_count
from .runtime import Poller, Runtime

logger = logging.getLogger("syncws")

_BATCH = 64  # connections accepted before the others' turn
_FIRST_BACK_OFF, _LAST_BACK_OFF = 0.01, 1.0
_PORT_TRIES = 16
#: accept(2) failed for a reason that lies in the one connection
_PASSING = {errno.ECONNABORTED, errno.EPROTO, errno.EINTR, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH}
_PASSING |= {errno.ENETUNREACH, errno.ENOPROTOOPT, errno.ETIMEDOUT, errno.ECONNRESET}
#: the listening socket itself is gone
_FATAL = {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}


def listen(
    runtime: Runtime,
    host: str | None,
    port: int | None,
    unix: str | None,
    sock: socket.socket | None,
    backlog: int,
    reuse_port: bool,
) -> tuple[list[socket.socket], Callable[[], None]]:
    """The listening sockets for one of `port`, `unix` and `sock`, and what removes the file that they made."""
    check_count("backlog", backlog)
    check_bool("reuse_port", reuse_port)
    if port is not None:
        return listen_tcp(runtime, host, port, backlog, reuse_port), _nothing
    if unix is not None:
        unix = os.fspath(unix)
        listener = listen_unix(runtime, unix, backlog)
        return [listener], partial(_unlink_ours, unix, os.lstat(unix).st_ino)
    _check_listening(sock)
    assert sock is not None
    listener = runtime.adopt(sock)
    listener.setblocking(False)
    return [listener], _nothing


def _check_listening(sock: Any) -> None:
    """TypeError for what is no socket, ValueError for one that does not listen."""
    if not all(hasattr(sock, name) for name in ("accept", "detach", "getsockopt")):
        raise TypeError(f"sock must be a listening socket, not {sock!r}")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"sock must be a listening socket: call listen() first on {sock!r}")


def _nothing() -> None:
    """TCP leaves nothing behind."""


def _unlink_ours(path: str, inode: int) -> None:
    """Remove a unix socket, unless somebody has put another in its place."""
    with contextlib.suppress(OSError):
        if os.lstat(path).st_ino == inode:
            os.unlink(path)


def listen_tcp(
    runtime: Runtime, host: str | None, port: int, backlog: int, reuse_port: bool
) -> list[socket.socket]:
    """Sockets that listen on `host`; None: on all addresses, IPv4 and IPv6, with one port. Raises OSError."""
    # Some systems' getaddrinfo takes a larger one modulo 65536.
    if check_count("port", port) > 65535:
        raise ValueError(f"port must be 0 to 65535, not {port}")
    if host == "":
        raise ValueError("host must be a name or an address; None listens on all")  # no variable that is unset
    if host is not None:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
        addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    else:
        addresses = [(socket.AF_INET, ("0.0.0.0", port))]
        if socket.has_ipv6:
            addresses.append((socket.AF_INET6, ("::", port)))
    for _ in range(_PORT_TRIES):
        listeners = _listen_all(runtime, addresses, port, backlog, reuse_port, optional_rest=host is None)
        if listeners:
            return listeners
    raise OSError(errno.EADDRINUSE, "no port was free on all addresses")


def _listen_all(
    runtime: Runtime, addresses: list[Any], port: int, backlog: int, reuse_port: bool, optional_rest: bool
) -> list[socket.socket]:
    """Listen on each address with the port that the first got; [] if another has that port taken."""
    listeners: list[socket.socket] = []
    for family, address in addresses:
        if listeners and port == 0:
            address = (address[0], listeners[0].getsockname()[1], *address[2:])
        try:
            listeners.append(_listen(runtime, family, address, backlog, reuse_port))
        except OSError as error:
            if listeners and port == 0 and error.errno == errno.EADDRINUSE:
                close_listeners(listeners)
                return []
            # A machine without IPv6 still listens on "all addresses".
            if not (listeners and optional_rest and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)):
                close_listeners(listeners)
                raise
    return listeners


def _listen(runtime: Runtime, family: int, address: Any, backlog: int, reuse_port: bool) -> socket.socket:
    sock = runtime.native_socket()(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def close_listeners(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


def listen_unix(runtime: Runtime, path: str, backlog: int) -> socket.socket:
    """A unix socket at `path`, for this user only. Replaces a socket nobody listens to, and nothing else."""
    sock = runtime.native_socket()(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(runtime, path)
        # Created by bind() with the mode of the descriptor, so that there is no moment when others may connect.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(runtime: Runtime, path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is something else than a socket", path)
    with runtime.native_socket()(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except BlockingIOError:
            pass  # its queue is full: somebody listens
    raise OSError(errno.EADDRINUSE, "another server listens there", path)


class Acceptor:
    """Accepts from listening sockets on a thread of its own, until stopped; then `leave` closes them."""

    def __init__(
        self,
        runtime: Runtime,
        listeners: list[socket.socket],
        take: Callable[[socket.socket, Any], bool],
        leave: Callable[[], None],
        ended: Callable[[], None],
        failed: Callable[[OSError], None],
    ) -> None:
        self._runtime = runtime
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._take = take
        self._leave = leave
        self._ended = ended
        self._failed = failed
        self._poller: Poller | None = None  # made late: a server made before a fork may be started after it
        self._runner: object = None
        self._stopping = False
        self._back_off = _FIRST_BACK_OFF
        self._logged = 0.0

    def start(self) -> None:
        """Raises RuntimeError if there is no thread to be had."""
        self._poller = Poller(self._runtime)
        try:
            self._runtime.spawn("syncws-accept", self._run, self._poller)
        except BaseException:
            self._poller.close()
            raise

    def stop(self) -> None:
        """Have the loop end, soon. Safe in a signal handler."""
        self._stopping = True
        if self._poller is not None:
            self._poller.ring()

    def is_current(self) -> bool:
        """Whether the caller runs on the accept loop, which therefore cannot end before it returns."""
        return self._runner == self._runtime.current()

    def disinherit(self) -> None:
        """In the child of a fork: leave accepting to the parent."""
        self._stopping = True
        close_listeners(list(self._listeners.values()))
        if self._poller is not None:
            self._poller.disinherit()

    def _run(self, poller: Poller) -> None:
        self._runner = self._runtime.current()
        try:
            for descriptor in self._listeners:
                poller.keep(descriptor)
            while not self._stopping:
                for descriptor in poller.wait(None):
                    self._accept_from(self._listeners[descriptor])
        except OSError as error:
            logger.error("accepting has ended: %s", error)
            self._failed(error)
        finally:
            self._leave()
            poller.close()
            self._ended()

    def _accept_from(self, listener: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _PASSING:
                    continue
                if error.errno in _FATAL:
                    raise
                self._wait_for_better(error)
                return
            self._back_off = _FIRST_BACK_OFF
            if not self._take(sock, address):
                return  # to ask for another one costs more than to be told of it

    def _wait_for_better(self, error: OSError) -> None:
        """Out of descriptors or memory: the connection stays in the queue; try again a little later."""
        now = time.monotonic()
        if now - self._logged >= _LAST_BACK_OFF:
            self._logged = now
            logger.error("cannot accept connections for now: %s", error)
            self._failed(error)
        if self._stopping:
            return
        self._runtime.sleep(self._back_off)
        self._back_off = min(2 * self._back_off, _LAST_BACK_OFF)


@contextlib.contextmanager
def stop_signals(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Call `stop` on Ctrl-C and SIGTERM, where that is possible and nobody else does anything about them.

    Gives the list of those that came. Greenlets need it for Ctrl-C too: KeyboardInterrupt hits whichever runs. The
    second is no different, so that it hits nobody who is just leaving; after it all is as it was before.
    """
    came: list[int] = []

    def take(number: int, _: object) -> None:
        came.append(number)
        stop()
        if len(came) > 1:
            restore()

    def restore() -> None:
        for number in replaced:
            signal.signal(number, usual[number])

    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if threading.current_thread() is not threading.main_thread():
        usual = {}
    replaced = [number for number, handler in usual.items() if signal.getsignal(number) is handler]
    for number in replaced:
        signal.signal(number, take)
    try:
        yield came
    finally:
        restore()
