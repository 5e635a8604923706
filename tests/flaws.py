"""Native sockets of which each call may do less than it could, or fail."""

from __future__ import annotations

import os
from typing import Any


class Flawed:
    """A native socket of which each call may do less than it could, or fail."""

    def __init__(self, sock: Any, most: int = 1 << 30, fail: Any = None) -> None:
        self._sock = sock
        self._most = most
        self._fail = fail or (lambda call: None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        self._fail("recv")
        return self._sock.recv_into(memoryview(buffer)[: self._most], 0, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        self._fail("send")
        return self._sock.send(memoryview(data)[: self._most], flags)

    def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0) -> int:
        self._fail("send")
        left = self._most
        short = []
        for buffer in buffers:
            short.append(memoryview(buffer)[:left])
            left -= len(short[-1])
        return self._sock.sendmsg(short, ancillary, flags)


def failing(number: int, times: int = 1 << 30, first: int = 1) -> Any:
    """Fails in the calls from `first` on, `times` times."""
    left = [first - 1, times]

    def fail(call: str) -> None:
        if left[0]:
            left[0] -= 1
        elif left[1]:
            left[1] -= 1
            raise OSError(number, os.strerror(number))

    return fail
