"""What load generators and client programs have in common: arguments, two phases, the result as a line of JSON."""

from __future__ import annotations

import argparse
import json
import time
from array import array
from collections.abc import Callable, Iterable
from typing import Any

clock = time.perf_counter


def options(description: str | None, *more: tuple[str, int]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--warmup", type=float, default=0.3)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--compress", action="store_true")
    parser.add_argument("--job", default="echo")
    parser.add_argument("--gevent", action="store_true", help="syncws: on greenlets")
    for name, default in more:
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def percentile(ordered: list[float], per_cent: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * per_cent / 100))]


def say(**result: Any) -> None:
    print(json.dumps(result), flush=True)


class Phase:
    """One stretch of time: how long it took, and how busy this process was in it."""

    def __init__(self, seconds: float) -> None:
        self._cpu = time.process_time()
        self._began = clock()
        self.end = self._began + seconds

    def result(self, count: int, latencies: Iterable[float] = ()) -> dict[str, Any]:
        """Call it right when the last of `count` is done."""
        took = clock() - self._began
        busy = (time.process_time() - self._cpu) / took
        result = {"count": count, "seconds": took, "rate": count / took, "busy": round(busy, 3)}
        ordered = sorted(latencies)
        if ordered:
            result |= {f"p{mark}": percentile(ordered, mark) * 1e6 for mark in (50, 99)}
        return result


def in_phases(options: argparse.Namespace, run: Callable[[float, array[float]], int]) -> None:
    """`run(end, latencies)` works until `end` and answers how much it did: first to warm up, then for the record."""
    try:
        run(clock() + options.warmup, array("d"))
        latencies = array("d")
        phase = Phase(options.seconds)
        count = run(phase.end, latencies)
    except BlockingIOError:  # from a socket with a time limit of the system's
        raise TimeoutError("no reply in time") from None
    say(**phase.result(count, latencies))


def request_reply(options: argparse.Namespace, send: Callable[[Any], Any], receive: Callable[[], Any]) -> None:
    """A client that sends a text and waits for the answer."""
    text = "x" * options.size

    def run(end: float, latencies: array[float]) -> int:
        count = 0
        now = clock()
        while now < end:
            send(text)
            receive()
            before, now = now, clock()
            latencies.append(now - before)
            count += 1
        return count

    in_phases(options, run)


def read_flood(options: argparse.Namespace, messages: Iterable[Any]) -> None:
    """A client that reads messages one by one; the clock is looked at now and then."""
    stopwatch = Stopwatch(options)
    look = stopwatch.stride
    for count, _ in enumerate(messages, 1):
        if count == look:
            look += stopwatch.stride
            if stopwatch.over(count):
                return


class Stopwatch:
    """For those who count by themselves, and ask every `stride` messages whether it is `over`."""

    stride = 500

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._warm = clock() + options.warmup
        self._phase: Phase | None = None
        self._before = 0

    def over(self, count: int) -> bool:
        now = clock()
        if self._phase is None:
            if now >= self._warm:
                self._before, self._phase = count, Phase(self._options.seconds)
            return False
        if now < self._phase.end:
            return False
        say(**self._phase.result(count - self._before))
        return True
