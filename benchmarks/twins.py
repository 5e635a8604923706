"""The hot functions, compiled and in Python: `python benchmarks/twins.py`, pinned to one CPU, best of several.

Each row is one function on one input; ns per call, or GB/s of payload for large ones.
"""

from __future__ import annotations

import os
import timeit
from types import ModuleType

from syncws import _frames, pure

KEY = b"\x37\xfa\x21\x3d"
MIB = 1 << 20
REPEATS = 7
SECONDS = 0.02  # for one repetition
GATHER = "g = Gatherer()\nfor at in range(0, size, piece): g.add(data, at, at + piece, key, at, size)\ng.take()"
DECODE = "decode(wire, 0, len(wire), masked, 0)"


def text(length: int, letter: str = "x") -> str:
    return letter * (length // len(letter.encode()))


def wire(opcode: int, payload: str | bytes, key: bytes = KEY, count: int = 1) -> dict[str, object]:
    return {"wire": bytearray(pure.encode(opcode, payload, True, False, key) * count), "masked": bool(key)}


# What, statement, names in it, by what to divide: messages, or bytes.
ROWS: list[tuple[str, str, dict[str, object], int]] = [
    ("encode 32 B text, plain", "encode(1, data, True, False, b'')", {"data": text(32)}, 1),
    ("encode 32 B text, masked", "encode(1, data, True, False, key)", {"data": text(32)}, 1),
    ("encode 32 B of é, masked", "encode(1, data, True, False, key)", {"data": text(32, "é")}, 1),
    ("encode 32 B bytes, masked", "encode(2, data, True, False, key)", {"data": bytes(32)}, 1),
    ("encode 1 KiB, masked", "encode(2, data, True, False, key)", {"data": bytes(1024)}, 1),
    ("encode 1 MiB, masked", "encode(2, data, True, False, key)", {"data": bytes(MIB)}, MIB),
    ("mask 32 B", "mask(data, key)", {"data": bytes(32)}, 1),
    ("mask 1 MiB", "mask(data, key)", {"data": bytes(MIB)}, MIB),
    ("decode one, 32 B text, masked", DECODE, wire(1, text(32)), 1),
    ("decode each of 100, 32 B text, plain", DECODE, wire(1, text(32), b"", 100), 100),
    ("decode each of 100, 32 B text, masked", DECODE, wire(1, text(32), KEY, 100), 100),
    ("decode each of 100, 32 B of é, masked", DECODE, wire(1, text(32, "é"), KEY, 100), 100),
    ("decode each of 100, 32 B bytes, masked", DECODE, wire(2, bytes(32), KEY, 100), 100),
    ("decode 1 MiB bytes, masked", DECODE, wire(2, bytes(MIB)), MIB),
    ("decode 1 MiB ASCII, masked", DECODE, wire(1, text(MIB)), MIB),
    ("decode 1 MiB of é, masked", DECODE, wire(1, text(MIB, "é")), MIB),
    ("Gatherer.add 32 B, masked", "g.add(data, 0, 32, key, 0) or len(g) < 9999 or g.take()", {"data": bytes(32)}, 1),
    ("Gatherer, 1 MiB in 4, masked", GATHER, {"data": bytes(MIB), "size": MIB, "piece": MIB // 4}, MIB),
    ("Gatherer, 16 MiB in 256, masked", GATHER, {"data": bytes(16 * MIB), "size": 16 * MIB, "piece": 65536}, 16 * MIB),
]


def seconds(twin: ModuleType, statement: str, names: dict[str, object]) -> float:
    timer = timeit.Timer(statement, globals={**vars(twin), "g": twin.Gatherer(), "key": KEY, **names})
    count = 1
    while (spent := timer.timeit(count)) < SECONDS / 2:
        count *= 2
    return min(spent, *timer.repeat(REPEATS, count)) / count


def shown(taken: float, units: int) -> str:
    return f"{taken / units * 1e9:8.0f} ns  " if units <= 100 else f"{units / taken / 1e9:8.2f} GB/s"


def main() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{'':42}{'compiled':>13}{'in Python':>14}")
    for name, statement, names, units in ROWS:
        print(f"{name:42}", *(shown(seconds(twin, statement, names), units) for twin in (_frames, pure)))


if __name__ == "__main__":
    main()
