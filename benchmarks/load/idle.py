"""Opens --connections connections, has one message echoed on each, and holds them; pings are answered.

Says how many there are when they are; ends with its standard input.
"""

from __future__ import annotations

import select
import socket
import sys

import asking
import wire

options = asking.options(__doc__, ("connections", 1000))
TEXT = wire.documents(1, options.size)[0] if options.size >= 1024 else wire.payload(options.size)


def opened() -> socket.socket:
    """One connection that has been in use."""
    sock = wire.connect(options.port, deflate=options.compress)
    payload = wire.deflated(TEXT) if options.compress else TEXT
    sock.sendall(wire.frame(payload, masked=True, rsv1=options.compress))
    data = b""
    while (whole := wire.frame_length(data)) is None or len(data) < whole:
        more = sock.recv(1 << 16)
        if not more:
            raise ConnectionError("the server closed the connection")
        data += more
    return sock


def answer(data: bytes) -> bytes:
    """Pongs for the pings in `data`; control frames come whole, as they are small."""
    answers = b""
    while data:
        whole = wire.frame_length(data) or len(data)
        if data[0] & 0x0F == wire.PING:
            answers += wire.frame(data[2:whole], wire.PONG, masked=True)
        data = data[whole:]
    return answers


def hold(sockets: dict[int, socket.socket]) -> None:
    poll = select.epoll()
    poll.register(sys.stdin, select.EPOLLIN)
    for number in sockets:
        poll.register(number, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            if number == sys.stdin.fileno():
                return
            data = sockets[number].recv(4096)
            if not data:
                sys.exit("the server closed a connection")
            sockets[number].sendall(answer(data))


held = {}
for _ in range(options.connections):
    one = opened()
    held[one.fileno()] = one
asking.say(count=len(held))
hold(held)
