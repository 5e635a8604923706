"""Random input for both twins of the hot functions at once; any difference is a fault.

By hand: `python tests/fuzz_frames.py [--count N] [--seed S] [--only NUMBER]`. Each input has a number and can be had
again by it: the seed and the number are all its randomness.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

import frame_vectors
from frame_vectors import KEY, frame
from twins import compiled, receiver_over

from syncws import pure
from syncws.deflate import Deflater, Inflater

TEXTS = ["", "a", "hello", "é", "€uro", "😀", "x" * 125, "x" * 126, "ü" * 200, "y" * 401]
LIMITS = [0, 0, 0, 1, 10, 125, 126, 1000, 70000, 70000]
FRAGMENTS = [0, 1, 2, 3, 131072]
CONTROL = [0x89, 0x89, 0x8A, 0x8A, 0x88]
ANNOUNCED = [1 << 16, 1 << 31, 1 << 32, (1 << 63) - 15, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
BAD = [0x00, 0x80, 0x91, 0xA1, 0x83, 0x8B, 0x09, 0x08, 0xC0, 0xC9]


class Fuzz:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._modules = [receiver_over(pure), receiver_over(compiled)]
        self._pools = {key: [self._frames(key) for _ in range(800)] for key in (b"", KEY)}

    # -- making input

    def _below(self, limit: int) -> int:
        return int(self._rng.random() * limit)

    def _pick(self, values: Any) -> Any:
        return values[int(self._rng.random() * len(values))]

    def _text(self) -> bytes:
        return self._pick(TEXTS).encode()

    def _payload(self) -> bytes:
        kind = self._below(20)
        if kind < 12:
            return self._text()
        if kind < 14:
            return self._text() + self._pick(frame_vectors.NOT_UTF_8) + self._text()
        if kind < 16:
            return self._rng.randbytes(self._pick(frame_vectors.LENGTHS))
        return self._rng.randbytes(self._below(30))

    def _frames(self, key: bytes) -> bytes:
        """One frame, or a message in several; mostly as it should be."""
        key = self._pick(frame_vectors.KEYS) if key else b""
        kind = self._below(100)
        if kind < 50:
            return frame(self._pick([0x81, 0x82]), self._payload(), key)
        if kind < 65:
            cut = [frame(self._pick([0x01, 0x02]), self._text(), key)]
            cut += [frame(self._pick([0x00, 0x00, 0x89]), self._text(), key) for _ in range(self._below(3))]
            return b"".join([*cut, frame(0x80, self._text(), key)])
        if kind < 75:
            code = (999 + self._below(17)).to_bytes(2, "big")
            return frame(self._pick(CONTROL), code + self._text(), key)
        if kind < 85:
            deflater = Deflater(window_bits=15, context_takeover=False, level=1, mem_level=1)
            return frame(self._pick([0xC1, 0xC2]), deflater.compress(self._text() * self._below(4), True), key)
        if kind < 90:
            return frame(0x82, bytes(self._pick([0, 1, 125, 126, 127, 65535])), key, self._pick([2, 8]))
        if kind < 94:
            mark, announced = 0xFF if key else 0x7F, self._pick(ANNOUNCED)
            return bytes((0x82, mark)) + announced.to_bytes(8, "big") + key + self._text()
        return frame(self._pick(BAD), self._text(), key if kind < 98 else (b"" if key else KEY))

    def _wire(self, masked: bool) -> bytes:
        if self._below(20) == 0:
            return self._rng.randbytes(self._below(40))
        pool = self._pools[KEY if masked else b""]
        wire = b"".join([self._pick(pool) for _ in range(1 + self._below(5))])
        return self._mutated(wire) if self._below(2) else wire

    def _mutated(self, wire: bytes) -> bytes:
        changed = bytearray(wire)
        for _ in range(1 + self._below(3)):
            place = self._below(len(changed) + 1)
            kind = self._below(5)
            if kind == 0:
                del changed[place : place + 1 + self._below(4)]
            elif kind == 1:
                changed[place:place] = self._rng.randbytes(1 + self._below(4))
            elif kind == 2:
                del changed[place:]
            elif place < len(changed):
                # The first bytes are headers more often than others.
                place = place if kind == 3 else min(place, self._below(14))
                changed[place] ^= 1 << self._below(8)
        return bytes(changed)

    def _cuts(self, length: int) -> list[int]:
        kind = self._below(8)
        if kind < 2 or length == 0:
            return [length]
        if kind == 2 and length < 64:
            return list(range(1, length + 1))
        return sorted({self._below(length) for _ in range(kind - 1)} | {length})

    # -- comparing

    def receivers(self) -> None:
        """A wire in random chunks, through two receivers."""
        masked = self._below(2) == 1
        wire = self._wire(masked)
        options = {
            "masked": masked,
            "max_payload": self._pick(LIMITS),
            "max_fragments": self._pick(FRAGMENTS),
            "skip_utf8_validation": self._below(8) == 0,
        }
        deflate = self._below(4) == 0
        first, second = (
            module.Receiver(**options, inflater=Inflater(window_bits=15, context_takeover=False) if deflate else None)
            for module in self._modules
        )
        start = 0
        for stop in self._cuts(len(wire)):
            chunk = wire[start:stop]
            expected, got = first.feed(chunk), second.feed(chunk)
            if expected or got:
                same(described(expected), described(got))
            same((first.between, first.wanted), (second.between, second.wanted))
            start = stop

    def decoders(self) -> None:
        """A piece of a wire, as it stands in a larger buffer."""
        masked = self._below(2) == 1
        before, wire = self._rng.randbytes(self._below(9)), self._wire(masked)
        buffer = bytearray(before + wire)
        end = len(buffer) - self._pick([0, 0, 0, 1, 2, 9, -1])
        self._both("decode", buffer, len(before), end, masked, self._pick(LIMITS))

    def encoders(self) -> None:
        payload = self._payload()
        text = payload.decode("utf-8", self._pick(["replace", "surrogateescape", "ignore"]))
        key = self._pick([b"", *frame_vectors.KEYS, self._rng.randbytes(self._below(6))])
        self._both("encode", self._below(18) - 1, self._pick([payload, text]), self._below(2), self._below(2), key)

    def masks(self) -> None:
        data = self._payload()
        start = min(self._below(9), len(data))
        view = memoryview(data)[start : len(data) - min(self._below(9), len(data) - start)]
        self._both("mask", view, self._rng.randbytes(4), self._below(9))

    def gatherers(self) -> None:
        first, second = pure.Gatherer(), compiled.Gatherer()
        for _ in range(1 + self._below(8)):
            data = self._payload()
            start, stop = self._below(3), len(data) - self._below(3) + self._below(2)
            key = self._pick([b"", *frame_vectors.KEYS])
            arguments = (data, start, stop, key, self._below(99), self._below(3) * self._below(200_000))
            same(outcome(first.add, *arguments), outcome(second.add, *arguments))
            same(len(first), len(second))
            if self._below(3) == 0:
                self._fill_rooms(first, second, data, key)
            if self._below(4) == 0:
                same(first.take(), second.take())
        same(first.take(), second.take())

    def _fill_rooms(self, first: Any, second: Any, data: Any, key: bytes) -> None:
        hint = self._below(200_000)
        with first.room(hint) as one, second.room(hint) as other:
            count = min(len(data), len(one), len(other))
            one[:count] = other[:count] = bytes(data[:count])
        arguments = (count, key, self._below(99))
        same(outcome(first.fill, *arguments), outcome(second.fill, *arguments))
        same(len(first), len(second))

    def _both(self, name: str, *arguments: Any) -> None:
        same(outcome(getattr(pure, name), *arguments), outcome(getattr(compiled, name), *arguments))

    def run(self, count: int, only: int | None = None) -> None:
        """AssertionError tells how to have the first input again on which they differ."""
        kinds = [self.receivers] * 13 + [self.decoders] * 4 + [self.encoders, self.masks, self.gatherers]
        for number in range(count) if only is None else [only]:
            # What came before leaves no trace: each input starts its own sequence.
            self._rng.seed(self._seed * 1_000_000_007 + number)
            try:
                self._pick(kinds)()
            except Exception as error:
                again = f"fuzz_frames.py --seed {self._seed} --only {number}"
                raise AssertionError(f"the twins differ, see again with {again}") from error


def same(expected: Any, got: Any) -> None:
    if expected != got:
        raise AssertionError(f"in Python {expected!r:.1000}\ncompiled {got!r:.1000}")


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns, or raises, in a form to be compared."""
    try:
        result = function(*arguments)
    except (ValueError, TypeError, BufferError) as error:
        return type(error), str(error)
    return (result, kinds_in(result)) if isinstance(result, tuple) else (result, type(result))


def kinds_in(result: tuple[Any, ...]) -> list[Any]:
    return [type(data) for _, data, _ in result[0]]


def described(items: list[Any]) -> list[Any]:
    """Items with their types; two errors are equal only if they are one."""
    return [
        (kind, type(data).__name__, (str(data), data.close_code) if isinstance(data, Exception) else data, compressed)
        for kind, data, compressed in items
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    if compiled is None:
        raise SystemExit("the compiled core is not built")
    began = time.monotonic()
    print(f"seed {options.seed}", flush=True)
    Fuzz(options.seed).run(options.count, options.only)
    print(f"{options.count} inputs in {time.monotonic() - began:.1f} s, no difference")


if __name__ == "__main__":
    main()
