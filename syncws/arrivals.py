"""Connections that our own listening sockets accept: each gets a thread, TLS, its request read, and is served.

Rank 5, over `reception`. Nothing that happens here gets out: not to the accept loop, nor to other connections.
"""

from __future__ import annotations

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


class Arrivals:
    """From an accepted socket to the end of its connection.

    timeout: seconds for all of the handshake. most: handshakes that may be under way; None: no limit. refuse, before:
    as for `Doorway`.
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

    def take(self, sock: socket.socket, address: Any) -> bool:
        """On the accept loop: hand a connection to a thread of its own. True if they come in crowds."""
        with self._lock:
            crowded = self._most is not None and self.unfinished >= self._most
            self.unfinished += not crowded
        try:
            if crowded:
                raise RuntimeError("too many handshakes are under way")
            self._runtime.spawn("syncws-connection", self._converse, sock, address)
        except Exception as error:  # no thread, or no memory, to be had
            logger.error("dropped a connection from %s: %r", address, error)
            sock.close()
            if not crowded:
                self._handshake_ended()
        return self.unfinished > 1

    def disinherit(self) -> None:
        """In the child of a fork, where the threads that held the lock are not."""
        self._lock = self._runtime.lock()

    def _handshake_ended(self) -> None:
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
                self._handshake_ended()
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
            sock.close()
            raise
        request: Request | None = None
        try:
            if isinstance(transport, TLSTransport):
                transport.handshake(deadline)
            secure = self._context is not None
            request, leftover = read_request(transport, deadline, self._max_header_size, address, secure)
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
