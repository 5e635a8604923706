"""The floor: a thread for each connection receives bytes and sends ready-made ones; nothing is parsed or copied.

It knows how long messages are (--size), so it knows when one is complete.
"""

from __future__ import annotations

import socket
import threading

import serving
import wire

SMALL = 4096  # bytes of a message
options = serving.options(__doc__)
REQUEST, _ = wire.lengths(options.size)
READY = [wire.frame(wire.payload(options.size)) * count for count in range(129 if options.size < SMALL else 2)]
clients: dict[socket.socket, None] = {}


def echo_large(sock: socket.socket) -> None:
    """A whole message into one buffer, again and again."""
    view = memoryview(bytearray(REQUEST))
    received = 0
    while size := sock.recv_into(view[received:]):
        received += size
        if received == REQUEST:
            sock.sendall(READY[1])
            received = 0


def echo(sock: socket.socket) -> None:
    buffer = bytearray(4096)
    received = 0
    while size := sock.recv_into(buffer):
        received += size
        due, received = divmod(received, REQUEST)
        if due:
            sock.sendall(READY[due])


def control(sock: socket.socket) -> None:
    """Frames from the control connection are small, and come whole."""
    while data := sock.recv(4096):
        while data:
            end = 6 + (data[1] & 0x7F)
            ready = wire.frame(serving.text(wire.mask(data[6:end], data[2:6]).decode()).encode())
            for other in list(clients):
                other.sendall(ready)
            data = data[end:]


def converse(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        path = wire.accept_handshake(sock)
        if path == serving.CONTROL:
            control(sock)
        elif options.job == "echo":
            (echo if options.size < SMALL else echo_large)(sock)
        else:
            clients[sock] = None
            while sock.recv(4096):
                pass
    except ConnectionError:
        pass
    finally:
        clients.pop(sock, None)
        sock.close()


listener = socket.create_server(("127.0.0.1", 0), backlog=511)
serving.ready(listener.getsockname()[1])
while True:
    connection, _ = listener.accept()
    threading.Thread(target=converse, args=(connection,), daemon=True).start()
