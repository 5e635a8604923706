"""A relay between client and server that makes one segment of the 101 and what the server says first."""

from __future__ import annotations

import contextlib
from typing import Any

import world


@contextlib.contextmanager
def one_segment(server_port: int, behind: int) -> Any:
    """The port of a relay; it holds a 101 until `behind` bytes came after it, then sends all at once."""
    listener = world.raw_listener()
    sockets: list[Any] = [listener]

    def relay() -> None:
        client, _ = listener.accept()
        sockets.append(client)
        server = world.raw_connection(("127.0.0.1", server_port))
        sockets.append(server)
        upwards = world.spawn(_copy, client, server)
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < behind:
            more = server.recv(65536)
            assert more, data
            data += more
        assert data.startswith(b"HTTP/1.1 101 "), data
        client.sendall(data)
        _copy(server, client)
        upwards.result()

    working = world.spawn(relay)
    try:
        yield listener.getsockname()[1]
        working.result()
    finally:
        for sock in sockets:
            sock.close()


def _copy(source: Any, target: Any) -> None:
    """Up to the end of the stream, which is passed on."""
    with contextlib.suppress(ConnectionError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(1)
