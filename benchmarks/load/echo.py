"""The load for echo servers: bare sockets that send ready-made frames and count the bytes that come back.

One connection is a plain loop; with --window W there are W messages on their way, and with --connections N one
thread serves all by epoll, one message on its way on each.
"""

from __future__ import annotations

import itertools
import select
import socket
from array import array

import asking
import wire

PATIENCE = wire.PATIENCE
clock = asking.clock
options = asking.options(__doc__, ("connections", 1), ("window", 1))
KIND = wire.BINARY if options.size > 4096 else wire.TEXT
FRAME = wire.frame(wire.payload(options.size), KIND, masked=True)
REPLY = wire.lengths(options.size)[1]


def one_by_one(sock: socket.socket, end: float, latencies: array[float]) -> int:
    buffer = bytearray(min(max(4096, REPLY), 1 << 18))
    sendall, recv_into = sock.sendall, sock.recv_into
    count = 0
    now = clock()
    while now < end:
        sendall(FRAME)
        due = REPLY
        while due > 0:
            size = recv_into(buffer)
            if not size:
                raise ConnectionError("the server closed the connection")
            due -= size
        if due:
            raise ConnectionError("the server sent more than its reply")
        before, now = now, clock()
        latencies.append(now - before)
        count += 1
    return count


def windowed(sock: socket.socket, end: float, latencies: array[float]) -> int:
    """As many messages at once as the window holds, then their replies, and so on."""
    buffer = bytearray(1 << 17)
    frames, due_each = FRAME * options.window, REPLY * options.window
    count = 0
    while clock() < end:
        sock.sendall(frames)
        due = due_each
        while due > 0:
            size = sock.recv_into(buffer)
            if not size:
                raise ConnectionError("the server closed the connection")
            due -= size
        count += options.window
    return count


class Crowd:
    """Many connections, each with one message on its way; lists, by descriptor, make it quick."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        room = max(sock.fileno() for sock in sockets) + 1
        self._count = len(sockets)
        self._sockets: list[socket.socket | None] = [None] * room
        self._missing = [REPLY] * room  # bytes
        self._poll = select.epoll()
        for sock in sockets:
            self._sockets[sock.fileno()] = sock
            self._poll.register(sock.fileno(), select.EPOLLIN)
        self._receive = [sock and sock.recv_into for sock in self._sockets]
        self._send = [sock and sock.send for sock in self._sockets]

    def run(self, end: float, latencies: array[float]) -> int:
        """All start at once; what is on its way at the end is waited for and not counted, but for a first answer."""
        receive, send, buffer, record = self._receive, self._send, bytearray(4096), latencies.append
        for sock in filter(None, self._sockets):
            sock.send(FRAME)
        now = clock()
        began = [now] * len(self._sockets)
        while now < end or not latencies:
            for number, _ in self._events():
                size = receive[number](buffer)
                if size != REPLY and not self._completes(number, size):
                    continue
                now = clock()
                record(now - began[number])
                began[number] = now
                send[number](FRAME)
        self._rest()
        return len(latencies)

    def _events(self) -> list[tuple[int, int]]:
        events = self._poll.poll(PATIENCE)
        if not events:
            raise TimeoutError(f"no reply within {PATIENCE} s")
        return events

    def _completes(self, number: int, size: int) -> bool:
        self._missing[number] -= size or broken()
        if self._missing[number]:
            return False
        self._missing[number] = REPLY
        return True

    def _rest(self) -> None:
        waiting, buffer = self._count, bytearray(4096)
        while waiting:
            for number, _ in self._events():
                waiting -= self._completes(number, self._receive[number](buffer))


def broken() -> int:
    raise ConnectionError("the server closed a connection")


def compressed(sock: socket.socket, end: float, latencies: array[float]) -> int:
    """Different documents in turn; replies are as long as their heads say."""
    frames = [wire.frame(wire.deflated(text), masked=True, rsv1=True) for text in wire.documents(16, options.size)]
    buffer = bytearray(1 << 16)
    view = memoryview(buffer)
    count = 0
    for ready in itertools.cycle(frames):
        before = clock()
        if before >= end:
            break
        sock.sendall(ready)
        size, whole = 0, None
        while whole is None or size < whole:
            size += sock.recv_into(view[size:]) or broken()
            whole = whole or wire.frame_length(view[:size])
        if not buffer[0] & 0x40 or size != whole:
            raise ConnectionError("the reply is not one compressed frame")
        latencies.append(clock() - before)
        count += 1
    return count


sockets = [wire.connect(options.port, deflate=options.compress) for _ in range(options.connections)]
if options.connections > 1:
    asking.in_phases(options, Crowd(sockets).run)
else:
    work = compressed if options.compress else windowed if options.window > 1 else one_by_one
    asking.in_phases(options, lambda end, latencies: work(sockets[0], end, latencies))
