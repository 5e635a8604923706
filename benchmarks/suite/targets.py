"""What syncws is meant to reach, as claims that results can be held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .contenders import CONTENDERS
from .measurements import TIMES
from .results import Results

Measured = Callable[[Results], "float | None"]


@dataclass(frozen=True)
class Target:
    claim: str
    bound: float
    measured: Measured
    at_most: bool = False
    unit: str = TIMES
    slack: float = 0.0

    def met(self, results: Results) -> bool | None:
        """None: not measured."""
        value = self.measured(results)
        if value is None:
            return None
        return value <= self.bound + self.slack if self.at_most else value >= self.bound - self.slack


def _ratios(series: str, what: str, ours: str = "syncws", **bounds: float) -> Iterator[Target]:
    """`bounds` are by contender, with _ for -."""
    for name, bound in bounds.items():
        peer = name.replace("_", "-")
        label = CONTENDERS[peer].label
        yield Target(
            f"{what}: at least {bound:g} {TIMES} {label}",
            bound,
            lambda results, peer=peer: results.ratio(series, ours, peer),
        )


def _at_most(series: str, what: str, ours: str, bound: float, unit: str, entry: str = "") -> Target:
    return Target(
        f"{what}: at most {bound:g} {unit}",
        bound,
        lambda results: results.median(series, ours, entry),
        at_most=True,
        unit=unit,
    )


def _more_for_compression(ours: str) -> Measured:
    def more(results: Results) -> float | None:
        plain, compressed = results.median("idle", ours), results.median("idle-deflate", ours)
        return compressed - plain if plain is not None and compressed is not None else None

    return more


def _left_by_stalled(ours: str) -> Measured:
    def left(results: Results) -> float | None:
        alone, beside = results.median("broadcast", ours), results.median("broadcast-stalled", ours)
        return beside / alone if alone and beside is not None else None

    return left


def _servers() -> Iterator[Target]:
    yield from _ratios("echo-1", "echo, one connection", raw=0.88, websockets=2.1, ws=1.1, picows=0.95)
    yield from _ratios("echo-64", "echo, one connection, 64 in flight", websockets=1.9, ws=1.1, picows=0.9)
    for count in (32, 100):
        yield from _ratios(f"echo-c{count}-pinned", f"echo, {count} connections, pinned", websockets=2.2, ws=0.8)
        yield from _ratios(f"echo-c{count}-free", f"echo, {count} connections, not pinned", websockets=2)
    for count in (32, 100):
        what = f"echo under gevent, {count} connections"
        yield from _ratios(f"gevent-c{count}", what, "syncws-gevent", gevent_websocket=1.4, ws=0.7)
    for count in (32, 100):
        yield from _ratios(f"nogil-c{count}", f"echo without the GIL, {count} connections", "syncws-free", ws=0.9)
    yield from _ratios("echo-1mib", "echo of 1 MiB", raw=0.9, websockets=1.9, ws=1.2)
    yield from _ratios("deflate", "echo of 1 KiB of JSON, compressed", websockets=1.5)
    yield from _ratios("deflate", "echo of 1 KiB of JSON, compressed by zlib-ng", "syncws-ng", websockets=1.5)
    yield from _ratios("churn", "short connections", websockets=2)


def _clients() -> Iterator[Target]:
    peers = {"raw": 0.82, "websocket_client": 1.35, "websockets": 2.1, "ws": 1.3}
    yield from _ratios("client-echo", "client, request and reply", **peers)
    yield from _ratios("flood-iterate", "client, flood, `for message in ws`", websockets=6, ws=0.9)
    yield from _ratios("flood-listen", "client, flood, `onmessage`", websockets=5, ws=0.7)


def _crowds() -> Iterator[Target]:
    yield _at_most("idle", "idle connection on threads", "syncws", 35, "KiB")
    threads = _at_most("idle", "idle connection on threads", "syncws", 1, "thread", "threads")
    yield Target(threads.claim, 1, threads.measured, at_most=True, unit="thread", slack=0.002)
    yield _at_most("idle", "idle connection on gevent", "syncws-gevent", 15, "KiB")
    for ours, where in (("syncws", "threads"), ("syncws-gevent", "gevent")):
        claim = f"idle compressed connection on {where}: at most 50 KiB more than a plain one"
        yield Target(claim, 50, _more_for_compression(ours), at_most=True, unit="KiB")
    yield from _ratios("broadcast", "broadcast to 1000 clients", websockets=5)
    claim = f"broadcast with 10 of 1000 clients stalled: at least 0.9 {TIMES} without"
    yield Target(claim, 0.9, _left_by_stalled("syncws"))
    for ours, where in (("syncws", "threads"), ("syncws-gevent", "gevent")):
        what = f"99th percentile of 100 that chat beside idle connections, on {where}"
        yield _at_most("beside-idle", what, ours, 3, TIMES)


TARGETS = (*_servers(), *_clients(), *_crowds())
