"""What is measured: groups of series; a series is one number, taken of several contenders in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .contenders import Contender
from .processes import ANYWHERE, APART, TOGETHER
from .sampling import Bench, Sample

TIMES = "\N{MULTIPLICATION SIGN}"
Take = Callable[[Bench, Contender], Sample]


@dataclass(frozen=True)
class Unit:
    """Which entry of a sample is the number, and how it is written."""

    entry: str
    name: str
    per: float = 1.0  # of the entry make one of the unit
    digits: int = 0
    less_is_better: bool = False

    def text(self, value: float) -> str:
        return f"{value / self.per:,.{self.digits}f}".replace(",", "\u202f")


PER_SECOND = Unit("rate", "messages/s")
GIGABYTES = Unit("rate", "GB/s", 1e9 / (2 << 20), 2)  # 1 MiB there and 1 MiB back
CONNECTIONS = Unit("rate", "connections/s")
KIB = Unit("kib", "KiB per connection", 1, 1, less_is_better=True)
GROWN = Unit("grown", f"{TIMES} the p99 without them", 1, 2, less_is_better=True)


@dataclass(frozen=True)
class Series:
    name: str
    title: str
    contenders: tuple[str, ...]
    take: Take
    unit: Unit = PER_SECOND

    def limited_to(self, wanted: list[str] | None) -> Series:
        if wanted is None:
            return self
        return replace(self, contenders=tuple(name for name in self.contenders if name in wanted))


@dataclass(frozen=True)
class Group:
    key: str
    title: str
    text: str
    series: tuple[Series, ...]


def _echo(pinning: Any, **load: int) -> Take:
    return lambda bench, who: bench.echo(who, pinning, **load)


def _client(job: str) -> Take:
    return lambda bench, who: bench.client(who, job)


def _listener(bench: Bench, who: Contender) -> Sample:
    """As a flood for those who have one way to receive; ours has two."""
    return bench.client(who, "listen" if who.ours else "flood")


_SERVERS = (
    "raw",
    "syncws",
    "syncws-pure",
    "syncws-gevent",
    "websockets",
    "simple-websocket",
    "gevent-websocket",
    "aiohttp",
    "picows",
    "ws",
)
_THREADS = ("raw", "syncws", "syncws-pure", "websockets", "simple-websocket", "aiohttp", "picows", "ws")
_FREE = ("raw-free", "syncws-free", "websockets-free", "ws")
_CLIENTS = (
    "raw",
    "syncws",
    "syncws-pure",
    "syncws-gevent",
    "websocket-client",
    "websockets",
    "simple-websocket",
    "aiohttp",
    "picows",
    "ws",
)
_READERS = tuple(name for name in _CLIENTS if name not in ("raw", "simple-websocket"))
_AUDIENCES = ("raw", "syncws", "syncws-gevent", "websockets", "ws")


GROUPS = (
    Group(
        "P1",
        "Echo server, one connection",
        "One client sends 32 bytes of text, waits for them to come back, and sends again. "
        "Both ends share one CPU, so that nothing but the work counts.",
        (Series("echo-1", "one message in flight", _SERVERS, _echo(TOGETHER)),),
    ),
    Group(
        "P2",
        "Echo server, one connection, 64 messages in flight",
        "64 messages of 32 bytes arrive in one piece; each is echoed; then the next 64. The bare server answers all "
        "of them with one write. Server and load have a CPU each.",
        (Series("echo-64", "64 messages in flight", _SERVERS, _echo(APART, window=64)),),
    ),
    Group(
        "P3",
        "Echo server, many connections",
        "Each of the connections has one message of 32 bytes on its way, all the time. Pinned: server and load have a "
        "CPU each. Not pinned: the system moves threads between the CPUs, which the GIL makes expensive; "
        "the server's argument `cpu` undoes that.",
        tuple(
            Series(
                f"echo-c{connections}-{name}",
                f"{connections} connections, {words}",
                _THREADS if pinning is APART else ("raw", "syncws", "syncws-cpu", *_THREADS[2:]),
                _echo(pinning, connections=connections),
            )
            for pinning, name, words in ((APART, "pinned", "pinned"), (ANYWHERE, "free", "not pinned"))
            for connections in (32, 100)
        ),
    ),
    Group(
        "P4",
        "Echo server, many connections, under gevent",
        "The same on greenlets. Server and load have a CPU each.",
        tuple(
            Series(
                f"gevent-c{connections}",
                f"{connections} connections",
                ("syncws-gevent", "gevent-websocket", "ws"),
                _echo(APART, connections=connections),
            )
            for connections in (32, 100)
        ),
    ),
    Group(
        "P5",
        "Echo server, many connections, without the GIL",
        "The same on free-threaded CPython, not pinned: server and load share the CPUs as the system likes.",
        tuple(
            Series(
                f"nogil-c{connections}",
                f"{connections} connections, not pinned",
                _FREE,
                _echo(ANYWHERE, connections=connections),
            )
            for connections in (32, 100)
        ),
    ),
    Group(
        "P6",
        "Echo server, messages of 1 MiB",
        "One client sends 1 MiB of binary data and reads it back. Bytes there and bytes back count. "
        "Server and load have a CPU each.",
        (Series("echo-1mib", "1 MiB, binary", _SERVERS, _echo(APART, size=1 << 20), GIGABYTES),),
    ),
    Group(
        "P7",
        "Client, request and reply",
        "Each client library sends 32 bytes of text to the bare server and waits for the reply. "
        "Both ends share one CPU.",
        (Series("client-echo", "request and reply", _CLIENTS, _client("echo")),),
    ),
    Group(
        "P8",
        "Client, flood",
        "A server sends ready-made text frames of 32 bytes as fast as they are taken. Each client takes every message "
        "as a string: in a loop, or in picows and ws in a function that is called. Server and client have a CPU each.",
        (
            Series("flood-iterate", "`for message in ws`", _READERS, _client("flood")),
            Series("flood-listen", "syncws with `onmessage`", _READERS, _listener),
        ),
    ),
    Group(
        "P9",
        "Echo server, compressed",
        "JSON texts of 1 KiB, with permessage-deflate: each is inflated and deflated. Both ends share one CPU.",
        (
            Series(
                "deflate",
                "1 KiB of JSON, one in flight",
                ("syncws", "syncws-pure", "syncws-gevent", "syncws-ng", "websockets", "aiohttp", "ws"),
                lambda bench, who: bench.compressed(who, TOGETHER),
            ),
        ),
    ),
    Group(
        "P10",
        "Memory of idle connections",
        "How much the server's resident memory grows by 1000 connections on each of which one message was echoed.",
        (
            Series("idle", "without compression", _SERVERS[1:], lambda bench, who: bench.memory(who), KIB),
            Series(
                "idle-deflate",
                "with compression",
                ("syncws", "syncws-gevent", "syncws-ng", "websockets", "aiohttp", "ws"),
                lambda bench, who: bench.memory(who, compress=True),
                KIB,
            ),
        ),
    ),
    Group(
        "P11",
        "Short connections",
        "Connect, shake hands, one message of 32 bytes there and back, close; one after the other. "
        "Both ends share one CPU.",
        (Series("churn", "one at a time", _SERVERS[1:], lambda bench, who: bench.churn(who), CONNECTIONS),),
    ),
    Group(
        "P12",
        "Broadcast",
        "100 bytes to 1000 clients, 16 times in a row, and again when all have got them: messages that arrive, per "
        "second. syncws: `Server.broadcast`; the others: a loop over the connections. In the second series 10 of the "
        "1000 clients do not read, and what the system buffers for them is full. Server and load have a CPU each.",
        (
            Series("broadcast", "1000 clients", _AUDIENCES, lambda bench, who: bench.broadcast(who)),
            Series(
                "broadcast-stalled",
                "1000 clients, 10 of them stalled",
                _AUDIENCES,
                lambda bench, who: bench.broadcast(who, stalled=10),
            ),
        ),
    ),
    Group(
        "P13",
        "Chat beside idle connections",
        "100 connections with one message each on its way, alone and then beside 9000 idle ones: how much the 99th "
        "percentile of the round-trip time grows. Server and load have a CPU each.",
        (
            Series(
                "beside-idle",
                "9000 idle connections",
                ("syncws", "syncws-gevent", "ws"),
                lambda bench, who: bench.chat(who),
                GROWN,
            ),
        ),
    ),
)

SERIES = {series.name: series for group in GROUPS for series in group.series}
