"""A proxy and the server behind it in one: a socket that takes part in both, byte by byte as a test wants it."""

from __future__ import annotations

import contextlib
from typing import Any

import world
from peer import Peer
from secure import Wire

CONSENT = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Gateway:
    """Accepts a client as a proxy does; `heads` are the CONNECT requests that came."""

    def __init__(self, listener: Any, context: Any) -> None:
        self.listener = listener
        self.port = listener.getsockname()[1]
        self.heads: list[str] = []
        self._context = context
        self._stack = contextlib.ExitStack()

    def url(self, scheme: str = "http", userinfo: str = "") -> str:
        return f"{scheme}://{userinfo}127.0.0.1:{self.port}"

    def accept(self, *, secure: bool = False) -> Any:
        """A connection, with TLS to the proxy if `secure`."""
        sock, _ = self.listener.accept()
        self._stack.callback(sock.close)
        sock.settimeout(world.PATIENCE)
        return self.encrypt(sock) if secure else sock

    def encrypt(self, sock: Any) -> Any:
        return Wire(sock, self._context, server_side=True).handshake()

    def asked(self, *, secure: bool = False) -> Any:
        """A connection whose CONNECT was read."""
        sock = self.accept(secure=secure)
        self.heads.append(Peer(sock, client=False).read_head().decode("latin-1"))
        return sock

    def open(self, *, secure: bool = False, inner: bool = False, consent: bytes = CONSENT) -> Peer:
        """All the way to an open connection, with TLS to the server if `inner`."""
        sock = self.asked(secure=secure)
        sock.sendall(consent)
        return self.serve(sock, inner=inner)

    def serve(self, sock: Any, *, inner: bool = False) -> Peer:
        """The server's part, behind the proxy's."""
        peer = Peer(self.encrypt(sock) if inner else sock, client=False)
        peer.head = peer.read_head()
        peer.answer()
        return peer

    def close(self) -> None:
        self._stack.close()


@contextlib.contextmanager
def gateway(context: Any = None) -> Any:
    with world.raw_listener() as listener, contextlib.closing(Gateway(listener, context)) as made:
        yield made
