"""Runs Autobahn|Testsuite against syncws and holds the result against expected.json.

The suite needs Python 2.7; it is installed once, with all it stands on, into .compliance/ of the checkout.
Needs nothing but the standard library; the testees use the syncws that this interpreter imports.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".compliance"
REQUIREMENTS = HERE / "requirements.txt"
EXPECTED = json.loads((HERE / "expected.json").read_text())
# The testee's arguments.
ROLES = {
    "server": [],
    "server-gevent": ["--gevent"],
    "client": [],
    "flask": ["--in", "flask"],
    "gunicorn-gevent": ["--in", "gunicorn"],
}
GROUPS = {"all": ["server", "server-gevent", "client"], "hosts": ["flask", "gunicorn-gevent"]}
AGENT = "syncws"
START_SECONDS = 30
Answer = TypeVar("Answer")


class Unavailable(Exception):
    """The suite cannot run on this machine."""


class Broken(Exception):
    """The run itself went wrong: the text says how."""


class Outcome(NamedTuple):
    role: str
    cases: dict[str, dict[str, object]]  # by id, as in the suite's index.json
    announced: int  # how many cases the suite said it would run
    seconds: float
    folder: Path


# ---------------------------------------------------------------- the suite


def python27() -> str:
    """A Python 2.7 with pip: on the path (a pyenv shim there may lead nowhere), or one of pyenv's."""
    candidates = [shutil.which("python2.7"), *pyenv_pythons()]
    for candidate in filter(None, candidates):
        check = subprocess.run([candidate, "-m", "pip", "--version"], capture_output=True, check=False)
        if check.returncode == 0:
            return candidate
    raise Unavailable("no Python 2.7 with pip, on the path or in pyenv")


def pyenv_pythons() -> Iterator[str]:
    if not shutil.which("pyenv"):
        return
    names = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False)
    for name in names.stdout.split():
        if re.fullmatch(r"2\.7(\.\d+)?", name):
            prefix = subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True, check=True)
            yield f"{prefix.stdout.strip()}/bin/python2.7"


def install_suite(python: str) -> Path:
    """Installs into a user base of its own, the one isolation that Python 2.7 brings along; once."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + python.encode()).hexdigest()[:12]
    base = CACHE / f"python27-{digest}"
    done = base / "installed"
    if not done.exists():
        print(f"installing the suite for {python} ...", flush=True)
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        command = [
            python,
            "-m",
            "pip",
            "install",
            "--user",
            "--ignore-installed",
            "--no-warn-script-location",
            "-r",
            str(REQUIREMENTS),
        ]
        with (base / "install.log").open("wb") as log:
            status = subprocess.run(command, env=suite_environment(base), stdout=log, stderr=log, check=False)
        if status.returncode:
            raise Broken(f"the suite could not be installed:\n{tail(base / 'install.log')}")
        done.touch()
    return base


def suite_environment(base: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**clean, "PYTHONUSERBASE": str(base), "PYTHONUNBUFFERED": "1"}


class Suite:
    """Starts wstest, in one of its two modes, with a specification file in `folder`."""

    def __init__(self, python: str, base: Path) -> None:
        self._command = [python, str(base / "bin" / "wstest"), "--webport=0"]
        self._environment = suite_environment(base)

    @contextlib.contextmanager
    def running(
        self, mode: str, specification: dict[str, object], folder: Path
    ) -> Iterator[subprocess.Popen[bytes]]:
        file = folder / "specification.json"
        file.write_text(
            json.dumps(
                {"outdir": str(folder), "exclude-cases": [], "exclude-agent-cases": {}, **specification}
            )
        )
        command = [*self._command, f"--mode={mode}", f"--spec={file}"]
        with (folder / "wstest.log").open("wb") as log, process(command, log, self._environment) as started:
            yield started


# ---------------------------------------------------------------- the roles


@contextlib.contextmanager
def process(
    command: list[str],
    log: IO[bytes],
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def run_role(role: str, suite: Suite, patterns: list[str], timeout: float) -> Outcome:
    folder = CACHE / "reports" / role
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    run = exercise_client if role == "client" else functools.partial(exercise_server, arguments=ROLES[role])
    try:
        run(suite=suite, patterns=patterns, folder=folder, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Broken(f"{role}: not done after {timeout:.0f} s\n{tails(folder)}") from None
    seconds = time.monotonic() - began
    announced = re.search(r"will run (\d+) test cases", (folder / "wstest.log").read_text(errors="replace"))
    index = folder / "index.json"
    if not (announced and index.exists()):
        raise Broken(f"{role}: the suite wrote no report\n{tails(folder)}")
    return Outcome(role, json.loads(index.read_text()).get(AGENT, {}), int(announced[1]), seconds, folder)


def exercise_server(
    suite: Suite, patterns: list[str], folder: Path, timeout: float, arguments: list[str]
) -> None:
    """The suite as client; it ends when it has run its cases."""
    log = folder / "testee.log"
    with (
        log.open("wb") as out,
        process([sys.executable, str(HERE / "echo_server.py"), *arguments], out) as testee,
    ):
        url = wait_for(lambda: re.search(r"listening on (\S+)", log.read_text()), testee, folder)[1]
        specification = {"servers": [{"agent": AGENT, "url": url}], "cases": patterns}
        with suite.running("fuzzingclient", specification, folder) as fuzzer:
            fuzzer.wait(timeout)


def exercise_client(suite: Suite, patterns: list[str], folder: Path, timeout: float) -> None:
    """The suite as server; it writes its report when the testee asks for it."""
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    with suite.running("fuzzingserver", {"url": url, "cases": patterns}, folder) as fuzzer:
        wait_for(lambda: accepts(port), fuzzer, folder)
        command = [sys.executable, str(HERE / "echo_client.py"), url, f"--agent={AGENT}"]
        with (folder / "testee.log").open("wb") as out, process(command, out) as testee:
            testee.wait(timeout)


def wait_for(ready: Callable[[], Answer | None], starting: subprocess.Popen[bytes], folder: Path) -> Answer:
    """What `ready` returns once that is true; a process that dies or sleeps instead breaks the run."""
    deadline = time.monotonic() + START_SECONDS
    while not (answer := ready()):
        if starting.poll() is not None or time.monotonic() > deadline:
            raise Broken(f"{folder.name}: {starting.args!r} did not start\n{tails(folder)}")
        time.sleep(0.05)
    return answer


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def tail(file: Path, lines: int = 30) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else ""


def tails(folder: Path) -> str:
    return "\n".join(f"--- {name}\n{tail(folder / name)}" for name in ("wstest.log", "testee.log"))


# ---------------------------------------------------------------- the verdict


def unexpected(outcome: Outcome) -> list[str]:
    """The ids of the cases that ended in a way expected.json does not allow."""
    return [
        case
        for case, entry in outcome.cases.items()
        if not (acceptable(case, entry["behavior"]) and acceptable(case, entry["behaviorClose"]))
    ]


def acceptable(case: str, behavior: object) -> bool:
    return behavior == "OK" or (behavior == "INFORMATIONAL" and case in EXPECTED["informational"])


def complaints(outcome: Outcome, count: int | None) -> list[str]:
    lines = []
    for case in sorted(unexpected(outcome), key=order):
        entry = outcome.cases[case]
        report = json.loads((outcome.folder / str(entry["reportfile"])).read_text())
        lines.append(
            f"{outcome.role} {case}: {entry['behavior']}, close {entry['behaviorClose']}:"
            f" {brief(report['description'])} -> {report['result']} / {report['resultClose']}"
        )
    wanted = outcome.announced if count is None else count
    if not len(outcome.cases) == outcome.announced == wanted or not wanted:
        lines.append(
            f"{outcome.role}: expected {wanted} cases, the suite announced {outcome.announced},"
            f" {len(outcome.cases)} have a result"
        )
    return lines


def brief(description: str) -> str:
    """The suite's HTML as one short line."""
    return " ".join(re.sub(r"<[^>]*>", "", description).split())[:120]


def order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def print_table(outcomes: list[Outcome]) -> None:
    """A line for each role and category, a column for each way to end; the worse of the two counts."""
    names = ["OK", "INFORMATIONAL", "NON-STRICT", "other"]
    print(
        f"{'role':<14} {'category':>8} {'cases':>6} "
        + " ".join(f"{name:>13}" for name in names)
        + f" {'seconds':>8}"
    )
    for outcome in outcomes:
        categories = sorted({order(case)[0] for case in outcome.cases})
        for category in categories:
            print_row(
                outcome, str(category), [case for case in outcome.cases if order(case)[0] == category], names
            )
        print_row(outcome, "all", list(outcome.cases), names, outcome.seconds)


def print_row(
    outcome: Outcome, title: str, cases: list[str], names: list[str], seconds: float | None = None
) -> None:
    worst = collections.Counter(worse_ending(outcome.cases[case], names) for case in cases)
    if seconds is None:
        seconds = sum(int(str(outcome.cases[case]["duration"])) for case in cases) / 1000
    print(
        f"{outcome.role:<14} {title:>8} {len(cases):>6} "
        + " ".join(f"{worst[name]:>13}" for name in names)
        + f" {seconds:>8.1f}"
    )


def worse_ending(entry: dict[str, object], names: list[str]) -> str:
    endings = (str(entry["behavior"]), str(entry["behaviorClose"]))
    return max((ending if ending in names else "other" for ending in endings), key=names.index)


# ---------------------------------------------------------------- the command


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--role", choices=[*ROLES, *GROUPS], default="all")
    parser.add_argument(
        "--cases",
        default="all",
        metavar="SET",
        help=f"{', '.join(EXPECTED['sets'])}, or patterns such as '1.*,7.13.1' (default: all)",
    )
    parser.add_argument("--jobs", type=int, default=2, help="roles at a time (default: 2)")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for each role (default: 3600)")
    return parser.parse_args()


def run_all(chosen: argparse.Namespace) -> int:
    python = python27()
    suite = Suite(python, install_suite(python))
    known = EXPECTED["sets"].get(chosen.cases, {"patterns": chosen.cases.split(","), "count": None})
    roles = GROUPS.get(chosen.role, [chosen.role])
    run = functools.partial(run_role, suite=suite, patterns=known["patterns"], timeout=chosen.timeout)
    with ThreadPoolExecutor(chosen.jobs) as pool:
        outcomes = list(pool.map(run, roles))
    print_table(outcomes)
    wrong = [line for outcome in outcomes for line in complaints(outcome, known["count"])]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    total = sum(len(outcome.cases) for outcome in outcomes)
    print(f"conformance: {total} cases run, {len(wrong)} not as expected; reports in {CACHE / 'reports'}")
    return 1 if wrong else 0


def main() -> int:
    try:
        return run_all(options())
    except Unavailable as reason:
        print(f"\n*** CONFORMANCE SUITE NOT RUN: {reason} ***\n", flush=True)
        return 0
    except Broken as reason:
        print(f"conformance: {reason}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
