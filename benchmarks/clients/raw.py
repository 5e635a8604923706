"""The floor: a socket that sends a ready-made frame and waits for as many bytes as the reply has."""

from __future__ import annotations

from array import array

import asking
import wire

clock = asking.clock
options = asking.options(__doc__)
sock = wire.connect(options.port)
FRAME = wire.frame(wire.payload(options.size), masked=True)
REPLY = wire.lengths(options.size)[1]


def run(end: float, latencies: array[float]) -> int:
    sendall, recv_into, buffer = sock.sendall, sock.recv_into, bytearray(4096)
    count = 0
    now = clock()
    while now < end:
        sendall(FRAME)
        due = REPLY
        while due > 0:
            due -= recv_into(buffer)
        before, now = now, clock()
        latencies.append(now - before)
        count += 1
    return count


asking.in_phases(options, run)
