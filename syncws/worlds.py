"""One deed for connections of several worlds: threads', and those of greenlets, each of which belongs to its hub.

Rank 4, over Connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from .attendant import Attendant
from .websocket import Connection

_Any = TypeVar("_Any", bound=Connection)


def do_for(connections: Iterable[_Any], deed: Callable[[list[_Any]], None]) -> None:
    """Call `deed`, which must not block, with all of them, in one call for each world.

    What belongs to a hub is touched by that hub's thread only: where that is another one, it is told to, and is not
    waited for.
    """
    groups: dict[Attendant | None, list[_Any]] = {}
    for ws in connections:
        groups.setdefault(None if ws._runtime.may_block else ws._attendant, []).append(ws)
    for attendant, group in groups.items():
        if attendant is None or attendant.is_here():
            deed(group)
        else:
            attendant.call_at(time.monotonic(), partial(deed, group))
