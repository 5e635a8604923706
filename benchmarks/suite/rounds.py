"""Runs series in rounds, A B C A B C, and shows how far it is. A sample that others disturbed is taken again."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .contenders import CONTENDERS, Contender
from .install import Environments
from .measurements import Group, Series
from .processes import Failed
from .sampling import Bench, Sample, counted

DISTURBED = 0.10  # of the machine's time used by others
LOOK = 0.25  # seconds
WAITING = 3.0  # seconds that a sample may wait for others to finish, on average,
AGAIN = 0.5  # or times that it may be taken again
SAVED = 6  # samples whose share of that can be saved up
FAILURES = 2  # of one contender in one series, and it is out
_TICKS = os.sysconf("SC_CLK_TCK")
_BAR = 30


def _machine_seconds() -> float:
    """CPU time of all that runs here, and of other guests of the host."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, interrupts, soft, steal = map(int, fields[:8])
    return (user + nice + system + interrupts + soft + steal) / _TICKS


def _own_seconds() -> float:
    """Of this process and of those it has started that are gone."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def observed(take: Callable[[], Sample]) -> Sample:
    """A sample, with `others`: the share of the machine's time that the sample's programs did not use."""
    began, machine, own = time.monotonic(), _machine_seconds(), _own_seconds()
    sample = take()
    took = time.monotonic() - began
    others = (_machine_seconds() - machine) - (_own_seconds() - own)
    return {**sample, "others": round(max(0.0, others / took / (os.cpu_count() or 1)), 3)}


class Care:
    """Keeps samples away from what others do on the machine, as far as that does not take for ever."""

    def __init__(self, careful: bool) -> None:
        self._income = float(careful)
        self._saved = 0.0  # samples that may be waited for

    def sample(self, take: Callable[[], Sample]) -> Sample:
        """The first good sample, or the least bad of a few."""
        self._saved = min(self._saved + self._income, SAVED * self._income)
        self._await_quiet()
        samples = [observed(take)]
        while samples[-1]["others"] > DISTURBED and self._saved >= 1 / AGAIN:
            self._saved -= 1 / AGAIN
            samples.append(observed(take))
        return min(samples, key=lambda sample: sample["others"])

    def _await_quiet(self) -> None:
        while self._saved > LOOK / WAITING and observed(lambda: time.sleep(LOOK) or {})["others"] > DISTURBED:
            self._saved -= LOOK / WAITING


class Progress:
    """A bar on a terminal; elsewhere lines."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._began = max(total, 1), 0, time.monotonic()
        self._live = sys.stdout.isatty()

    def step(self, words: str) -> None:
        """Before each sample."""
        if self._live:
            line = f"{self._bar()} {words}"
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:<{width}}", end="", flush=True)
        self._done += 1

    def say(self, line: str) -> None:
        if self._live:
            print("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r", end="")
        print(line, flush=True)

    def series(self, title: str) -> None:
        self.say(f"{self._bar()} {title}")

    def _bar(self) -> str:
        part = min(self._done / self._total, 1)
        filled = round(part * _BAR)
        spent = time.monotonic() - self._began
        left = f"{spent / part * (1 - part) / 60:3.0f} min left" if part > 0.02 else "           "
        return f"[{'#' * filled}{'.' * (_BAR - filled)}] {part:4.0%} {left}"


class Runner:
    """Takes the samples of one series after the other."""

    def __init__(self, bench: Bench, here: Environments, samples: int) -> None:
        self._bench, self._here = bench, here
        self._care = Care(bench.scale.careful)
        self._progress = Progress(samples)

    def run(self, group: Group, series: Series) -> dict[str, Any]:
        """All rounds of one series: what its entry in the results is."""
        self._progress.series(f"{group.title}: {series.title}")
        skipped = {name: why for name in series.contenders if (why := self._here.lacks(CONTENDERS[name]))}
        taken: dict[str, list[Sample]] = {name: [] for name in series.contenders if name not in skipped}
        failures: dict[str, list[str]] = {name: [] for name in taken}
        for _ in range(self._bench.scale.rounds):
            for name in taken:
                self._progress.step(f"{series.title}: {CONTENDERS[name].label}")
                if len(failures[name]) < FAILURES:
                    self._take(series, CONTENDERS[name], taken[name], failures[name])
        for name, samples in taken.items():
            if samples:
                self._progress.say(_line(series, name, samples))
        return {
            "taken": time.strftime("%Y-%m-%d"),
            "samples": {name: samples for name, samples in taken.items() if samples},
            "skipped": skipped | {name: failures[name][0] for name, samples in taken.items() if not samples},
        }

    def _take(self, series: Series, who: Contender, samples: list[Sample], failures: list[str]) -> None:
        try:
            samples.append(self._care.sample(lambda: series.take(self._bench, who)))
        except (Failed, OSError) as error:
            if not failures:
                self._progress.say(f"*** FAILED: {who.label}: {error}")
            failures.append(str(error))


def _line(series: Series, name: str, samples: list[Sample]) -> str:
    unit = series.unit
    good = counted(samples)
    values = [sample[unit.entry] for sample in good]
    low, high = unit.text(min(values)), unit.text(max(values))
    others = max(sample["others"] for sample in good)
    busy = f"  (others used {others:.0%} of the machine)" if others > DISTURBED else ""
    middle = unit.text(statistics.median(values))
    return f"    {CONTENDERS[name].label:<32}{middle:>12} {unit.name}  {low} … {high}{busy}"
