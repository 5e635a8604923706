"""Connects, shakes hands, has one message echoed, exchanges Closes; and again. One connection at a time."""

from __future__ import annotations

from array import array

import asking
import wire

clock = asking.clock
options = asking.options(__doc__)
FRAME = wire.frame(wire.payload(options.size), masked=True)
CLOSE = wire.frame((1000).to_bytes(2, "big"), wire.CLOSE, masked=True)
REPLY = wire.lengths(options.size)[1]


def once() -> None:
    with wire.connect(options.port) as sock:
        sock.sendall(FRAME)
        size = 0
        while size < REPLY:
            more = len(sock.recv(4096))
            if not more:
                raise ConnectionError("the server closed the connection")
            size += more
        sock.sendall(CLOSE)
        data = b""
        while (whole := wire.frame_length(data)) is None or len(data) < whole:
            more = sock.recv(4096)
            if not more:
                break
            data += more


def run(end: float, latencies: array[float]) -> int:
    count = 0
    now = clock()
    while now < end:
        once()
        before, now = now, clock()
        latencies.append(now - before)
        count += 1
    return count


asking.in_phases(options, run)
