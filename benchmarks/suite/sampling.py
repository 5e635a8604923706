"""How one sample of each kind is taken: a fresh server, a fresh load, some seconds, both gone.

A sample is a dict: `rate` (per second), `p50` and `p99` (microseconds), `busy` (the load's share of its CPU), or
what the kind of measurement has instead.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .contenders import CONTENDERS, MAIN, Contender
from .install import Interpreter
from .processes import APART, TOGETHER, Pinning, Program

Sample = dict[str, Any]
SPOILT = 0.25  # of the machine's time used by others during a sample: it counts only where good ones are few
ENOUGH = 3  # good samples
ACCUSTOM = 20  # connections before the first look, so that what is needed once is there


def counted(samples: list[Sample]) -> list[Sample]:
    """Those that others did not spoil; all of them, if that leaves too few."""
    good = [sample for sample in samples if sample["others"] <= SPOILT]
    return good if len(good) >= ENOUGH else samples


@dataclass(frozen=True)
class Scale:
    """How long and how much: differs between a full run, a quick one and a test."""

    seconds: float
    warmup: float
    rounds: int
    idle: int = 1000  # connections whose memory is measured
    held: int = 9000  # idle connections beside those that chat
    audience: int = 1000  # clients of a broadcast
    settle: float = 1.0  # seconds from the last connection to the look at the memory
    careful: bool = False  # wait until nobody else uses the machine, and take disturbed samples again

    @property
    def times(self) -> tuple[str, ...]:
        return "--seconds", str(self.seconds), "--warmup", str(self.warmup)

    @property
    def patience(self) -> float:
        return 60 + self.warmup + self.seconds


class Bench:
    """Takes samples with the interpreters that there are."""

    def __init__(self, interpreters: dict[str, Interpreter], scale: Scale) -> None:
        self._interpreters = interpreters
        self.scale = scale

    # -- programs ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _server(self, who: Contender, cpus: tuple[int, ...], *arguments: object) -> Iterator[tuple[Program, str]]:
        """The running server of a contender, and its port."""
        interpreter = self._interpreters[who.interpreter]
        everything = (*who.arguments, *arguments)
        program = Program(interpreter, f"servers/{who.server}", *everything, cpus=cpus, environment=who.environment)
        with program:
            yield program, program.line()

    def _load(self, kind: str, cpus: tuple[int, ...], port: str, *arguments: object) -> Program:
        interpreter = self._interpreters[MAIN]
        return Program(interpreter, f"load/{kind}.py", "--port", port, *self.scale.times, *arguments, cpus=cpus)

    def _loaded(self, kind: str, cpus: tuple[int, ...], port: str, *arguments: object) -> Sample:
        with self._load(kind, cpus, port, *arguments) as load:
            return load.answer(self.scale.patience)

    # -- servers -------------------------------------------------------------------------------------------

    def echo(
        self, who: Contender, pinning: Pinning, *, connections: int = 1, window: int = 1, size: int = 32
    ) -> Sample:
        on, load_on = pinning
        with self._server(who, on, "--size", size) as (_, port):
            counts = "--connections", connections, "--window", window, "--size", size
            return self._loaded("echo", load_on, port, *counts)

    def compressed(self, who: Contender, pinning: Pinning) -> Sample:
        on, load_on = pinning
        with self._server(who, on, "--compress") as (_, port):
            return self._loaded("echo", load_on, port, "--compress", "--size", 1024)

    def churn(self, who: Contender) -> Sample:
        on, load_on = TOGETHER
        with self._server(who, on) as (_, port):
            return self._loaded("churn", load_on, port)

    def broadcast(self, who: Contender, stalled: int = 0) -> Sample:
        on, load_on = APART
        with self._server(who, on, "--job", "broadcast") as (_, port):
            crowd = "--connections", self.scale.audience, "--stalled", stalled, "--size", 100
            return self._loaded("broadcast", load_on, port, *crowd)

    def memory(self, who: Contender, compress: bool = False) -> Sample:
        """Growth of the server by idle connections that have had one message echoed, per connection."""
        on, load_on = APART
        kind = ["--compress"] * compress + ["--size", "1024" if compress else "32"]
        with (
            self._server(who, on, *["--compress"] * compress) as (server, port),
            self._load("idle", load_on, port, "--connections", ACCUSTOM, *kind) as few,
        ):
            few.answer(self.scale.patience)
            time.sleep(self.scale.settle)
            memory, threads = server.resident(), server.threads()
            with self._load("idle", load_on, port, "--connections", self.scale.idle, *kind) as many:
                count = many.answer(self.scale.patience)["count"]
                time.sleep(self.scale.settle)
                grown, more = server.resident() - memory, server.threads() - threads
        return {"kib": grown / 1024 / count, "threads": more / count}

    def chat(self, who: Contender) -> Sample:
        """100 that chat, alone and then beside many idle ones: how much slower the slowest 1 % are."""
        on, load_on = APART
        with self._server(who, on) as (_, port):
            alone = self._loaded("echo", load_on, port, "--connections", 100)
            with self._load("idle", load_on, port, "--connections", self.scale.held) as idle:
                idle.answer(self.scale.patience + self.scale.held / 100)
                time.sleep(self.scale.settle)
                beside = self._loaded("echo", load_on, port, "--connections", 100)
        grown = beside["p99"] / alone["p99"]
        return {"grown": grown, "p99": beside["p99"], "p99_alone": alone["p99"], "rate": beside["rate"]}

    # -- clients -------------------------------------------------------------------------------------------

    def client(self, who: Contender, job: str) -> Sample:
        """Request and reply on one CPU; a flood on two."""
        on, client_on = TOGETHER if job == "echo" else APART
        server = CONTENDERS["raw"] if job == "echo" else Contender("flood", "flood", "flood.py")
        with self._server(server, on) as (_, port):
            interpreter = self._interpreters[who.interpreter]
            arguments = "--port", port, *self.scale.times, "--job", job, *who.arguments
            with Program(
                interpreter, f"clients/{who.client}", *arguments, cpus=client_on, environment=who.environment
            ) as program:
                return program.answer(self.scale.patience)
