"""Connections that our own listening sockets accept: each gets a thread, TLS, its request read, and is served.

Rank 5, over `reception`. Nothing that happens here gets out: not to the accept loop, nor to other connections.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from .admission import read_request
from .client import Socket
from .errors import USERS_ERRORS, HandshakeError
from .exchange import Request
from .reception import Reception, Welcome, serve
from .runtime import Runtime, deadline_after, is_past
from .tls import TLSTransport
from .transport import Transport

logger = logging.getLogger("syncws")

_TOO_MANY = "too many handshakes are under way"
_ENDING = 16  # handshakes beyond the limit, at most, that were dropped and are about to end
_PATIENCE, _SOON = 0.5, 0.001  # seconds for that, and between two looks


class Arrivals:
    """From an accepted socket to the end of its connection.

    timeout: seconds for all of the handshake. most: handshakes that may be under way, beyond which the one is dropped
    that has waited longest for its request, or, if there is none, the newcomer; None: no limit. refuse, before: as for
    `Doorway`.
    """

    def __init__(
        self,
        runtime: Runtime,
        reception: Reception,
        *,
        context: ssl.SSLContext | None,
        cpu: int | None,
        timeout: float | None,
        max_header_size: int,
        most: int | None,
        refuse: Callable[[Transport, HandshakeError, Request | None], object],
        before: Callable[[Socket, Request], object],
    ) -> None:
        self._runtime = runtime
        self._reception = reception
        self._context = context
        self._cpu = cpu
        self._timeout = timeout
        self._max_header_size = max_header_size
        self._most = most
        self._refuse = refuse
        self._before = before
        self._lock = runtime.lock()  # guards what follows; no other lock is taken under it
        self.unfinished = 0  # handshakes under way
        # Of these, those whose request has not come, the oldest first, and what ends them.
        self._silent: dict[socket.socket, Callable[[], object]] = {}

    def take(self, sock: socket.socket, address: Any) -> bool:
        """On the accept loop: hand a connection to a thread of its own. True if they come in crowds."""
        placed = self._find_place(sock)
        try:
            if not placed:
                raise RuntimeError(_TOO_MANY)
            self._runtime.spawn("syncws-connection", self._converse, sock, address)
        except Exception as error:  # no thread, or no memory, to be had
            logger.error("dropped a connection from %s: %r", address, error)
            if placed:
                self._handshake_ended(sock)
            sock.close()
        return self.unfinished > 1

    def _find_place(self, sock: socket.socket) -> bool:
        """Count it in. Beyond the limit the one goes that has been silent longest: its thread finds it ended.

        False: there is none.
        """
        deadline = deadline_after(_PATIENCE)
        while True:
            oldest = None
            with self._lock:
                beyond = -1 if self._most is None else self.unfinished - self._most
                if 0 <= beyond < _ENDING and self._silent:
                    oldest = next(iter(self._silent))
                    end = self._silent.pop(oldest)
                    with contextlib.suppress(OSError):
                        end()
                if beyond < 0 or oldest is not None:
                    self.unfinished += 1
                    self._silent[sock] = functools.partial(sock.shutdown, socket.SHUT_RDWR)
                    break
            if beyond < _ENDING or is_past(deadline):
                return False
            self._runtime.sleep(_SOON)
        if oldest is not None:
            logger.error("dropped a connection that has asked for nothing yet: %s", _TOO_MANY)
        return True

    def disinherit(self) -> None:
        """In the child of a fork, where the threads that held the lock are not."""
        self._lock = self._runtime.lock()
        self._silent = {}

    def _note_transport(self, sock: socket.socket, transport: Transport) -> None:
        """It may have taken the descriptor over."""
        with self._lock:
            if sock in self._silent:
                self._silent[sock] = transport.shutdown

    def _note_heard(self, sock: socket.socket) -> None:
        """Its request has come, or never will; from now on it is left to its thread, which may close it."""
        with self._lock:
            self._silent.pop(sock, None)

    def _handshake_ended(self, sock: socket.socket) -> None:
        with self._lock:
            self._silent.pop(sock, None)
            self.unfinished -= 1

    def _converse(self, sock: socket.socket, address: Any) -> None:
        """The life of one connection, on its own thread. Nothing gets out of here."""
        try:
            try:
                if self._cpu is not None:
                    self._pin(self._cpu)
                admitted = self._admit(sock, address)
            finally:
                self._handshake_ended(sock)
            if admitted is not None:
                ws, welcome = admitted
                serve(ws, welcome.handler, welcome.request, before=self._before)
        except OSError as error:
            logger.debug("lost %s during the handshake: %s", address, error)
        except USERS_ERRORS:
            logger.exception("a connection failed")

    def _pin(self, cpu: int) -> None:
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError as error:  # that CPU was taken away
            logger.warning("a connection is served on any CPU, for %d is not to be had: %s", cpu, error)

    def _admit(self, sock: socket.socket, address: Any) -> tuple[Socket, Welcome] | None:
        """The opening handshake; None if the client was refused."""
        deadline = deadline_after(self._timeout)
        try:
            transport = self._wrap(sock)
            self._note_transport(sock, transport)
        except BaseException:
            self._note_heard(sock)
            sock.close()
            raise
        request: Request | None = None
        try:
            try:
                if isinstance(transport, TLSTransport):
                    transport.handshake(deadline)
                secure = self._context is not None
                request, leftover = read_request(transport, deadline, self._max_header_size, address, secure)
            finally:
                self._note_heard(sock)
            welcome = self._reception.agree(request)
            ws = self._reception.open(self._runtime, transport, welcome, leftover=leftover, deadline=deadline)
        except HandshakeError as error:
            self._refuse(transport, error, request)
            return None
        except BaseException:
            if not transport.is_taken:
                transport.close()
            raise
        return ws, welcome

    def _wrap(self, sock: socket.socket) -> Transport:
        if self._context is None:
            return Transport(self._runtime, sock)
        return TLSTransport(Transport(self._runtime, sock), self._context, server_side=True)


def check_cpu(cpu: int | None) -> None:
    """ValueError for a CPU that threads cannot be kept on."""
    if cpu is None:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("cpu: this system cannot keep a thread on one CPU")
    if cpu not in os.sched_getaffinity(0):
        raise ValueError(f"cpu must be one of {sorted(os.sched_getaffinity(0))}, not {cpu!r}")
