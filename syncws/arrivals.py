"""Connections that our own listening sockets accept: each gets a thread, TLS, its request read, and is served.

Rank 5, over `reception`. Nothing that happens here gets out: not to the accept loop, nor to other connections.
"""

from __future__ import annotations

import contextlib
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
from .runtime import Runtime, deadline_after
from .tls import TLSTransport
from .transport import Transport

logger = logging.getLogger("syncws")

_TOO_MANY = "too many handshakes are under way"
_ENDING = 16  # handshakes beyond that, at most, that were dropped and are about to end


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
        self._silent: dict[socket.socket, None] = {}  # of these, those whose request has not come, the oldest first

    def take(self, sock: socket.socket, address: Any) -> bool:
        """On the accept loop: hand a connection to a thread of its own. True if they come in crowds."""
        with self._lock:
            crowded = self._most is not None and self.unfinished >= self._most and not self._drop_oldest()
            self.unfinished += not crowded
            if not crowded:
                self._silent[sock] = None
        try:
            if crowded:
                raise RuntimeError(_TOO_MANY)
            self._runtime.spawn("syncws-connection", self._converse, sock, address)
        except Exception as error:  # no thread, or no memory, to be had
            logger.error("dropped a connection from %s: %r", address, error)
            if not crowded:
                self._handshake_ended(sock)
            sock.close()
        return self.unfinished > 1

    def _drop_oldest(self) -> bool:
        """With the lock: make place by the one that has been silent longest; its own thread finds it ended, and closes
        it. False: there is none, or so many are ending already that there is no place yet."""
        assert self._most is not None
        if not self._silent or self.unfinished >= self._most + _ENDING:
            return False
        oldest = next(iter(self._silent))
        del self._silent[oldest]
        logger.error("dropped a connection that has asked for nothing yet: %s", _TOO_MANY)
        with contextlib.suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)
        return True

    def disinherit(self) -> None:
        """In the child of a fork, where the threads that held the lock are not."""
        self._lock = self._runtime.lock()
        self._silent = {}

    def _note_heard(self, sock: socket.socket) -> None:
        """Its request has come, or never will; from now on it is left to its thread, which may close it."""
        with self._lock:
            self._silent.pop(sock, None)

    def _handshake_ended(self, sock: socket.socket) -> None:
        self._note_heard(sock)
        with self._lock:
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
