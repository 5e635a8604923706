"""Messages that have come in and were not taken yet, and the one that is still coming in.

Rank 4. Appended to by whoever has the reader's role, taken from by anybody: a deque, whose two ends need no lock.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from .frames import TEXT
from .receiver import Fragment

#: one message: (TEXT or BINARY, its data or the pieces of it, whether it came compressed)
Arrived = tuple[int, Any, bool]

_FOLD = 64  # pieces that are joined, so that tiny fragments cost no more than their bytes
_MOST_AHEAD = 1 << 16  # bytes (characters) that may have come, and not been taken, of a message that is streamed


class Pieces(list[Any]):
    """The pieces of a message that came in fragments, in order."""


class Unfinished:
    """A message in fragments that is still coming in. The reader adds to it; guarded by the state lock."""

    __slots__ = ("ahead", "compressed", "dropped", "finished", "opcode", "pieces", "taken", "unfolded")

    def __init__(self, opcode: int, compressed: bool) -> None:
        self.opcode = opcode
        self.compressed = compressed
        self.pieces = Pieces()
        self.ahead = 0  # their size together
        self.unfolded = 0  # pieces at the end that were not joined yet
        self.finished = False
        self.taken = False  # a recv_stream hands the pieces out
        self.dropped = False  # and was abandoned

    def add(self, fragment: Fragment, fold: bool) -> None:
        """Add a piece. `fold`: the boundaries of the fragments do not matter."""
        self.finished = fragment.last
        if not fragment.piece or self.dropped:
            return
        self.pieces.append(fragment.piece)
        self.ahead += len(fragment.piece)
        self.unfolded += 1
        if fold and self.unfolded >= _FOLD:
            self._fold()

    def _fold(self) -> None:
        tail = self.pieces[-self.unfolded :]
        del self.pieces[-self.unfolded :]
        self.pieces.append(join(self.opcode, tail))
        self.unfolded = 0

    def message(self) -> Arrived:
        return self.opcode, self.pieces, self.compressed

    def take_pieces(self) -> list[Any]:
        """The pieces that came since the last call."""
        pieces, self.pieces = self.pieces, Pieces()
        self.ahead = self.unfolded = 0
        return pieces

    def is_ahead(self) -> bool:
        """Whether its taker has enough to do before more should come."""
        return self.ahead >= _MOST_AHEAD and not (self.finished or self.dropped)


def join(opcode: int, pieces: list[Any]) -> str | bytes:
    return "".join(pieces) if opcode == TEXT else b"".join(pieces)


def hand_out(message: Arrived, binary_type: str) -> Any:
    """The data of a message as the user gets it: str for text, else as `binary_type` says."""
    opcode, data, _ = message
    if binary_type == "fragments" and opcode != TEXT:
        return list(data) if isinstance(data, Pieces) else [data] if data else []
    if isinstance(data, Pieces):
        data = join(opcode, data)
    return as_type(data, binary_type)


def as_type(data: Any, binary_type: str) -> Any:
    """Text as it is; bytes as `binary_type` says, but for "fragments"."""
    if isinstance(data, str) or binary_type not in ("bytearray", "memoryview"):
        return data
    return bytearray(data) if binary_type == "bytearray" else memoryview(data)


Inbox = deque[Arrived]
