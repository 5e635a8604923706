"""Measures syncws beside its peers: installs them, runs them in turn, writes results and, if asked, the docs' page.

See README.md in this folder. Needs nothing but the standard library, Linux, and the package registries.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import time
from pathlib import Path

from suite.contenders import ROOT
from suite.install import Environments, environments, present
from suite.measurements import GROUPS, Group
from suite.report import publish
from suite.results import DOCS, FOLDER, Results, about
from suite.rounds import Runner
from suite.sampling import Bench, Scale

SCALES = {
    "full": Scale(seconds=1.5, warmup=0.5, rounds=5, careful=True),
    "quick": Scale(seconds=0.3, warmup=0.1, rounds=2, held=3000),
    "smoke": Scale(seconds=0.05, warmup=0.02, rounds=1, idle=10, held=20, audience=20, settle=0.1),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kind = parser.add_mutually_exclusive_group()
    for name, text in (("full", "for the docs"), ("quick", "for a look: the default"), ("smoke", "does it run?")):
        kind.add_argument(f"--{name}", dest="scale", action="store_const", const=name, help=text)
    parser.add_argument("--only", metavar="P1,P3", help="these groups; --list names them")
    parser.add_argument("--contenders", metavar="A,B", help="these only, e.g. raw,syncws,websockets")
    parser.add_argument("--rounds", type=int, help="instead of the scale's number")
    parser.add_argument("--source", type=Path, default=ROOT, help="the checkout of syncws to measure (this one)")
    parser.add_argument("--freethreaded", metavar="PYTHON", help="a CPython without the GIL (else python3.13t)")
    parser.add_argument("--here", action="store_true", help="this interpreter as it is; install nothing")
    parser.add_argument("--results", type=Path, default=FOLDER, metavar="FOLDER", help="where the results go")
    parser.add_argument(
        "--publish", nargs="?", type=Path, const=DOCS, metavar="FOLDER", help="write benchmarks.md into it (docs)"
    )
    parser.add_argument("--list", action="store_true", help="name the groups and stop")
    parser.set_defaults(scale="quick")
    return parser.parse_args()


def chosen(only: str | None) -> list[Group]:
    keys = {group.key: group for group in GROUPS}
    if only is None:
        return list(GROUPS)
    unknown = [key for key in only.split(",") if key not in keys]
    if unknown:
        sys.exit(f"no such group: {', '.join(unknown)}; there are {', '.join(keys)}")
    return [keys[key] for key in only.split(",")]


def scale_of(options: argparse.Namespace) -> Scale:
    scale = SCALES[options.scale]
    if options.rounds is None:
        return scale
    return Scale(**{**vars(scale), "rounds": options.rounds})


def prepare_process() -> None:
    """SIGTERM ends what was started, too; and there are as many descriptors as may be."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(options: argparse.Namespace, groups: list[Group], here: Environments) -> Results:
    scale = scale_of(options)
    bench = Bench(here.interpreters, scale)
    rounds = [] if options.rounds is None else [f"--rounds {options.rounds}"]
    command = " ".join(["python", "benchmarks/run.py", f"--{options.scale}", *rounds])
    results = Results(about(here, scale, command), {})
    wanted = options.contenders.split(",") if options.contenders else None
    every = [(group, series.limited_to(wanted)) for group in groups for series in group.series]
    every = [(group, series) for group, series in every if series.contenders]
    runner = Runner(bench, here, scale.rounds * sum(len(series.contenders) for _, series in every))
    for group, series in every:
        results.series[series.name] = runner.run(group, series)
    return results


def main() -> None:
    options = arguments()
    if options.list:
        print("\n".join(f"{group.key:<4} {group.title}" for group in GROUPS))
        return
    groups = chosen(options.only)
    prepare_process()
    here = (
        present(options.source.resolve())
        if options.here
        else environments(options.source.resolve(), options.freethreaded)
    )
    results = measure(options, groups, here)
    path = options.results / time.strftime("%Y%m%d-%H%M%S.json")
    results.write(path)
    print(f"wrote {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}")
    if options.publish:
        print(f"wrote {publish(results, options.publish).name}")


if __name__ == "__main__":
    main()
