"""Results as a file, and what is asked of them: medians and ratios of medians."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

from .contenders import HERE, ROOT
from .install import Environments
from .measurements import SERIES
from .sampling import Scale, counted

FOLDER = HERE / "results"
DOCS = ROOT / "docs"


def about(here: Environments, scale: Scale, command: str) -> dict[str, Any]:
    """The machine, the versions, the method."""
    cpu = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": command,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "load": [round(value, 2) for value in os.getloadavg()],
        "rounds": scale.rounds,
        "seconds": scale.seconds,
        "scale": {"idle": scale.idle, "held": scale.held, "audience": scale.audience},
        "interpreters": {name: interpreter.facts() for name, interpreter in here.interpreters.items()},
        "missing": here.missing,
    }


class Results:
    """One run, or several put together; of a series that is in more than one, the last counts."""

    def __init__(self, about: dict[str, Any], series: dict[str, Any]) -> None:
        self.about = about
        self.series = series

    @classmethod
    def read(cls, *paths: Path) -> Results:
        texts = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        if len({(text["about"]["seconds"], text["about"]["rounds"]) for text in texts}) > 1:
            raise SystemExit("these results are of runs of different length")
        about, merged, interpreters = dict(texts[-1]["about"]), {}, {}
        for text in texts:
            merged |= text["series"]
            interpreters |= text["about"]["interpreters"]
        about["interpreters"] = interpreters
        about["missing"] = {name: why for name, why in about["missing"].items() if name not in interpreters}
        return cls(about, {name: merged[name] for name in SERIES if name in merged})

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"about": self.about, "series": self.series}, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")

    def contenders(self, series: str) -> list[str]:
        return list(self.series[series]["samples"]) if series in self.series else []

    def values(self, series: str, contender: str, entry: str = "") -> list[float]:
        entry = entry or SERIES[series].unit.entry
        samples = counted(self.series.get(series, {}).get("samples", {}).get(contender, []))
        return [sample[entry] for sample in samples if entry in sample]

    def median(self, series: str, contender: str, entry: str = "") -> float | None:
        values = self.values(series, contender, entry)
        return statistics.median(values) if values else None

    def ratio(self, series: str, ours: str, theirs: str) -> float | None:
        """Of our median to theirs; more than 1: ours is larger."""
        our, their = self.median(series, ours), self.median(series, theirs)
        return our / their if our is not None and their else None
