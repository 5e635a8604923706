"""`close_all`: an end to every live connection of the process, threads' and greenlets', clients' and servers'.

Rank 5, over Connection. Which there are is known from `attendant.owners`: whoever has a descriptor stands in there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .attendant import owners
from .awaiting import is_inside_one
from .frames import encode_close
from .lifecycle import OPEN
from .options import check_timeout
from .runtime import deadline_after, is_past
from .websocket import Connection
from .worlds import do_for

#: seconds for connections to be gone that were terminated
GRACE = 0.5
_FIRST_NAP, _LAST_NAP = 0.001, 0.05


def close_all(code: int | None = 1001, reason: str = "", timeout: float | None = 10.0) -> bool:
    """Close every live connection of this process with `code`, and wait until all are CLOSED.

    Those that are not after `timeout` seconds (None: each one's close_timeout) are terminated. Returns whether each
    connection that was open ended with Close frames both ways. Servers go on listening: close them first. Bad
    arguments raise, as for `Socket.close`, before anything is closed.

    May be called from any thread or greenlet, also from a listener or from `accept`; not in a signal handler.
    """
    encode_close(code, reason)
    check_timeout(timeout)
    living = [owner for reference in list(owners) if isinstance(owner := reference(), Connection)]
    opened = [ws for ws in living if ws.readyState == OPEN]
    end_all(living, lambda ws: ws.close(code, reason), deadline_after(timeout))
    return all(ws._closed_error().wasClean for ws in opened)


def end_all(connections: list[Connection], end: Callable[[Connection], None], deadline: float | None) -> None:
    """Call `end` for each, whatever its world, and wait until all are CLOSED; those that are not are terminated."""
    do_for(connections, _each(end))
    do_for(connections, _each(lambda ws: ws._hurry()))
    inside = is_inside_one(connections)
    late = _await_end(connections, deadline, inside)
    do_for(late, _each(lambda ws: ws.terminate()))
    _await_end(late, deadline_after(GRACE), inside)


def _each(end: Callable[[Connection], None]) -> Callable[[list[Connection]], None]:
    def deed(connections: list[Connection]) -> None:
        for ws in connections:
            end(ws)

    return deed


def _await_end(connections: list[Connection], deadline: float | None, inside: bool) -> list[Connection]:
    """Those that have not ended at the deadline. Looks again and again: no one event would do for both worlds.

    `inside`: a listener of one, see `_is_over`.
    """
    sleep = next((ws._runtime.sleep for ws in connections if not ws._runtime.may_block), time.sleep)
    nap = _FIRST_NAP
    while True:
        connections = [ws for ws in connections if not ws._is_over(inside)]
        if not connections or is_past(deadline):
            return connections
        sleep(nap)
        nap = min(2 * nap, _LAST_NAP)
