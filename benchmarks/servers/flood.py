"""Floods whoever connects with ready-made text frames of --size bytes, as fast as they are taken."""

from __future__ import annotations

import socket
import threading

import serving
import wire

CHUNK = 1 << 16  # bytes for one call, about
options = serving.options(__doc__)
ready_made = wire.frame(wire.payload(options.size))
flood = ready_made * max(1, CHUNK // len(ready_made))


def converse(sock: socket.socket) -> None:
    try:
        wire.accept_handshake(sock)
        while True:
            sock.sendall(flood)
    except ConnectionError:
        sock.close()


listener = socket.create_server(("127.0.0.1", 0))
serving.ready(listener.getsockname()[1])
while True:
    connection, _ = listener.accept()
    threading.Thread(target=converse, args=(connection,), daemon=True).start()
