"""The page for the docs, made of results: tables, charts, and words where the numbers call for them.

Also a program: `python -m suite.report FILE...`, in the folder benchmarks, puts results together and publishes them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from .charts import Bar, Panel, chart
from .contenders import CONTENDERS, FREE, MAIN, NODE
from .measurements import GROUPS, TIMES, Group, Series
from .results import DOCS, Results
from .sampling import ENOUGH, SPOILT
from .targets import TARGETS, Target

CHARTS = "benchmarks"  # the folder of the pictures and of the results, beside the page
PAGE = "benchmarks.md"
DASH = "\N{EN DASH}"
OUT_OF_PICTURE = 2.5  # times the longest bar: a floor beyond that is told, not drawn
SATURATED = 0.95  # of its CPU used by the load generator
_SHOWN = (
    "websockets", "websocket-client", "simple-websocket", "gevent-websocket", "aiohttp", "picows", "uvloop", "zlib-ng"
)  # fmt: skip
_HEAD = """# Benchmarks

syncws beside its peers, measured on one machine by the programs in the folder [benchmarks](../benchmarks/README.md).
The page is generated; the figures behind it are in [results.json](benchmarks/results.json). Compare ratios, not the
figures themselves: those belong to the machine, and on yours they will be others.
"""
_METHOD = """## How it was measured

- Each sample starts a fresh server and a fresh load, warms up, and measures for {seconds:g} s; contenders take turns
  (A B C A B C), {rounds} rounds. Tables show the median of the rounds, the lowest and the highest.
- All echo servers get the same load: one program with bare sockets that sends ready-made frames and counts what comes
  back. All clients get the same bare server.
- Where a CPU is named it is pinned. On machines with few, shared CPUs figures that are not pinned vary widely.
- {others}
- "Bare sockets" is the floor: a thread for each connection that receives bytes and sends ready-made ones, and parses
  nothing.
- picows hands out frames and leaves it to its user to check text and to put messages together; aiohttp and picows run
  on uvloop; ws is used without its optional native parts.
"""


# ---------------------------------------------------------------- words


def _names(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _reference(results: Results, series: Series) -> str | None:
    """Ours, of that series."""
    return next((name for name in results.contenders(series.name) if CONTENDERS[name].ours), None)


def _better(series: Series, factor: float) -> bool:
    return factor < 1 if series.unit.less_is_better else factor > 1


def _verdict(results: Results, series: Series) -> str:
    """Who is ahead of us, in words."""
    ours = _reference(results, series)
    if ours is None:
        return "syncws was not measured here."
    ahead, floor = [], ""
    for name in results.contenders(series.name):
        factor = results.ratio(series.name, name, ours)
        if CONTENDERS[name].ours or factor is None or not _better(series, factor):
            continue
        words = f"{CONTENDERS[name].label} ({factor:.2f} {TIMES})"
        if name.startswith("raw"):
            floor = f" The floor is {words}."
        else:
            ahead.append(words)
    word = "Better" if series.unit.less_is_better else "Faster"
    label = CONTENDERS[ours].label
    if ahead:
        return f"{word} than {label}: {_names(ahead)}.{floor}"
    return f"No peer is {word.lower()} than {label} here.{floor}"


def _saturated(results: Results, series: Series) -> str:
    found = [
        CONTENDERS[name].label
        for name in results.contenders(series.name)
        if (results.median(series.name, name, "busy") or 0) >= SATURATED and not series.name.startswith("flood")
    ]
    return f"The load generator was at its limit with {_names(found)}: they may be able to do more." if found else ""


def _stuck(results: Results, series: Series) -> str:
    found = [
        CONTENDERS[name].label
        for name, samples in results.series[series.name]["samples"].items()
        if any(sample.get("stuck") for sample in samples)
    ]
    return f"Nothing more arrived with {_names(found)}." if found else ""


def _skips(results: Results, series: Series) -> str:
    skipped = results.series[series.name]["skipped"]
    return "".join(f"Not measured: {CONTENDERS[name].label} ({why}).\n" for name, why in skipped.items())


def _disturbance(results: Results) -> str:
    shares = [
        sample["others"]
        for entry in results.series.values()
        for samples in entry["samples"].values()
        for sample in samples
    ]
    spoilt = sum(share > SPOILT for share in shares)
    return (
        "In a full run samples wait for a while until nobody else uses the machine. One during which others had more\n"
        "  than a quarter of its time counts only where fewer than "
        f"{ENOUGH} would be left; {spoilt} of {len(shares)} were so."
    )


# ---------------------------------------------------------------- tables and pictures


def _table(results: Results, series: Series) -> Iterator[str]:
    ours, unit = _reference(results, series), series.unit
    extra = [
        (entry, words)
        for entry, words in (("p50", "p50, µs"), ("p99", "p99, µs"), ("threads", "threads each"))
        if any(results.values(series.name, name, entry) for name in results.contenders(series.name))
    ]
    of_ours = f"of {CONTENDERS[ours].label}" if ours else ""
    yield "| | " + " | ".join([unit.name, f"lowest {DASH} highest", of_ours, *(words for _, words in extra)]) + " |"
    yield "|---" + "|---:" * (3 + len(extra)) + "|"
    for name in results.contenders(series.name):
        values = results.values(series.name, name)
        middle = results.median(series.name, name) or 0.0
        factor = results.ratio(series.name, name, ours) if ours else None
        label = CONTENDERS[name].label
        cells = [
            f"**{label}**" if CONTENDERS[name].ours else label,
            unit.text(middle),
            f"{unit.text(min(values))} {DASH} {unit.text(max(values))}",
            "" if factor is None or name == ours else f"{factor:.2f} {TIMES}",
            *(_extra(results, series, name, entry) for entry, _ in extra),
        ]
        yield "| " + " | ".join(cells) + " |"


def _extra(results: Results, series: Series, name: str, entry: str) -> str:
    value = results.median(series.name, name, entry)
    return "" if value is None else f"{value:.2f}" if entry == "threads" else f"{value:,.0f}".replace(",", "\u202f")


def _panel(results: Results, series: Series) -> Panel:
    bars = []
    for name in results.contenders(series.name):
        values = [value / series.unit.per for value in results.values(series.name, name)]
        middle = results.median(series.name, name) or 0.0
        who = CONTENDERS[name]
        kind = "kin" if who.ours else "floor" if name.startswith("raw") else "peer"
        kind = "ours" if name == _reference(results, series) else kind
        label, text = who.label.replace("`", ""), series.unit.text(middle)
        bars.append(Bar(label, middle / series.unit.per, min(values), max(values), text, kind))
    unit = series.unit.name + (", less is better" if series.unit.less_is_better else "")
    tallest = max((bar.value for bar in bars if bar.kind != "floor"), default=0.0)
    shown = [bar for bar in bars if bar.kind != "floor" or bar.value <= OUT_OF_PICTURE * tallest]
    unit += "".join(f"; {bar.label}: {bar.text}" for bar in bars if bar not in shown)
    return Panel(series.title.replace("`", ""), unit, tuple(shown))


def _group(results: Results, group: Group) -> Iterator[str]:
    measured = [series for series in group.series if results.contenders(series.name)]
    if not measured:
        return
    yield f"## {group.title}\n\n{group.text}\n"
    yield f"![{group.title}]({CHARTS}/{_picture(group)})\n"
    for series in measured:
        if len(group.series) > 1:
            yield f"**{series.title[0].upper()}{series.title[1:]}**\n"
        yield from _table(results, series)
        words = (_verdict(results, series), _saturated(results, series), _stuck(results, series))
        yield "\n" + " ".join(filter(None, words)) + "\n"
        if skips := _skips(results, series):
            yield skips


def _picture(group: Group) -> str:
    return f"{group.series[0].name}.svg"


# ---------------------------------------------------------------- the page


def _target_row(results: Results, target: Target) -> str:
    value, met = target.measured(results), target.met(results)
    if value is None:
        return f"| {target.claim} | | not measured |"
    return f"| {target.claim} | {value:.2f} {target.unit} | {'met' if met else '**not met**'} |"


def _targets(results: Results) -> str:
    rows = [_target_row(results, target) for target in TARGETS]
    met = [target.met(results) for target in TARGETS]
    counts = [met.count(answer) for answer in (True, False, None)]
    summary = "{} of {} are met, {} are not, {} were not measured.\n".format(counts[0], len(met), *counts[1:])
    return "\n".join(["## What it is meant to reach\n", summary, "| claim | measured | |", "|---|---:|---|", *rows, ""])


def _machine(results: Results) -> str:
    about = results.about
    main, free, node = (about["interpreters"].get(name) for name in (MAIN, FREE, NODE))
    dates = sorted({entry["taken"] for entry in results.series.values()})
    versions = [f"syncws {main['packages'].get('syncws', '?')}, {'compiled' if main['compiled'] else 'pure Python'}"]
    versions += [f"{name} {main['packages'][name]}" for name in _SHOWN if name in main["packages"]]
    versions += [f"ws {node['packages']['ws']}"] if node else []
    runtimes = _names([each["version"] for each in (main, free, node) if each])
    lines = [
        "## Machine and versions\n",
        f"- {about['cores']} {TIMES} {about['cpu']}, {about['memory_gib']} GiB, {about['system']}",
        f"- {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}, `{about['command']}`",
        f"- {runtimes}",
        f"- {', '.join(versions)}",
    ]
    lines += [f"- not measured: {what}: {why}" for what, why in about["missing"].items()]
    return "\n".join([*lines, ""])


def page(results: Results) -> str:
    about = results.about
    others = _disturbance(results)
    parts = [
        _HEAD,
        _machine(results),
        _targets(results),
        _METHOD.format(seconds=about["seconds"], rounds=about["rounds"], others=others),
        *(line for group in GROUPS for line in _group(results, group)),
    ]
    return "\n".join(parts)


def publish(results: Results, docs: Path) -> Path:
    """Writes the page, its pictures and the results into `docs`; answers the page."""
    folder = docs / CHARTS
    results.write(folder / "results.json")
    for group in GROUPS:
        panels = [_panel(results, series) for series in group.series if results.contenders(series.name)]
        if panels:
            (folder / _picture(group)).write_text(chart(group.title, panels), encoding="utf-8")
    (docs / PAGE).write_text(page(results), encoding="utf-8")
    return docs / PAGE


if __name__ == "__main__":
    print(publish(Results.read(*map(Path, sys.argv[1:])), DOCS).name)
