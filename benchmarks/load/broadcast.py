"""Has a server broadcast in bursts, the next one when all clients have all of the last.

Reading all that at once would cost this process more than sending it costs the server. So only one client, the last
that came, is watched; when it has the whole burst the others are read, with one call each.
--stalled of the --connections clients never read: what the system takes for them is filled up first.
"""

from __future__ import annotations

import contextlib
import socket
import time
from array import array

import asking
import wire

FILL = 6 << 20  # bytes: more than the system holds for one connection
SETTLE = 0.5  # seconds
PATIENCE = 3.0  # seconds for one burst: then somebody's stall is everybody's
BURST = 16  # broadcasts
clock = asking.clock
options = asking.options(__doc__, ("connections", 1000), ("stalled", 0))
SHARE = wire.lengths(options.size)[1]
buffer = bytearray(1 << 16)


def drain(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sock.recv_into(buffer):
            pass


def ask(control: socket.socket, length: int, times: int = 1) -> None:
    drain(control)
    control.sendall(wire.frame(str(length).encode(), masked=True) * times)


def stall(control: socket.socket) -> list[socket.socket]:
    """Clients that read nothing, and have been sent more than the system takes for them."""
    stalled = [wire.connect(options.port, receive_buffer=4096) for _ in range(options.stalled)]
    ask(control, FILL)
    until = clock() + SETTLE
    while clock() < until:
        drain(control)
        time.sleep(0.01)
    return stalled


def read_burst(sock: socket.socket) -> None:
    due = BURST * SHARE
    while due > 0:
        size = sock.recv_into(buffer)
        if not size:
            raise ConnectionError("the server closed a connection")
        due -= size
    if due:
        raise ConnectionError("more came than was broadcast")


def run(end: float, latencies: array[float]) -> int:
    """Messages that arrived."""
    count = 0
    while clock() < end:
        ask(control, options.size, BURST)
        for client in live:
            read_burst(client)
        count += BURST * len(live)
    return count


control = wire.connect(options.port, "/control")
control.setblocking(False)
stalled = stall(control) if options.stalled else []
live = [wire.connect(options.port) for _ in range(options.connections - options.stalled)]
live.reverse()
for client in live:
    wire.limit(client, PATIENCE)
time.sleep(SETTLE)
try:
    asking.in_phases(options, run)
except TimeoutError:
    asking.say(count=0, rate=0.0, stuck=True)
