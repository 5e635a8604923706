"""Break syncws on purpose, and see whether the tests notice: `python tests/mutants.py [--table] [NAME …]`.

Each mutant of mutants/catalogue.py is put into a temporary copy of the project, where its tests must fail, within
three attempts, for races take luck. Reports the test that caught it; status 1 if one lives.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "mutants"))

from catalogue import MUTANTS, Mutant  # noqa: E402

ATTEMPTS = 3
LIMIT = 60  # seconds for one test; a hang is as good as a failure
FAILED = re.compile(
    r"^(?:FAILED|ERROR) \S*?(test_\w+\.py::\w+)|^\S*?(test_\w+\.py::\w+).* Timeout", re.MULTILINE
)


def mutated(source: str, old: str, new: str) -> str:
    """ValueError unless `old` is there exactly once."""
    if source.count(old) != 1:
        raise ValueError(f"expected once, found {source.count(old)} times: {old!r}")
    return source.replace(old, new)


def apply(mutant: Mutant, root: Path) -> None:
    for module, old, new in mutant.edits:
        path = root / "syncws" / f"{module}.py"
        path.write_text(mutated(path.read_text(encoding="utf-8"), old, new), encoding="utf-8")


def copied(folder: Path) -> Path:
    root = folder / "project"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "interop"))
    return root


def run(root: Path, tests: str) -> tuple[bool, str]:
    """Whether the tests pass in the project at `root`, and the first that does not."""
    words = tests.split()
    files = [f"tests/{word}" if word.startswith("test_") and word.endswith(".py") else word for word in words]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no", "-rfE"]
    command += ["--timeout", str(LIMIT), *files]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("SYNCWS_STRESS", None)
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10 * LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, "a hang"
    if done.returncode == 0:
        return True, ""
    found = FAILED.search(done.stdout)
    if done.returncode == 1 and found:
        return False, found[1] or found[2]
    if done.returncode in (2, 3, 4, 5):
        raise RuntimeError(f"pytest: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return False, f"ended with {done.returncode}"


def hunt(mutant: Mutant) -> str:
    """The test that caught it; empty if none did."""
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder))
        apply(mutant, root)
        for _ in range(ATTEMPTS):
            passed, catcher = run(root, mutant.tests)
            if not passed:
                return catcher
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants; all if none are named")
    parser.add_argument("--table", action="store_true", help="print rows for docs/testing.md")
    parser.add_argument("--healthy", action="store_true", help="first run the same tests without any mutant")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    if options.healthy:
        with tempfile.TemporaryDirectory() as folder:
            root = copied(Path(folder))
            for tests in sorted({mutant.tests for mutant in chosen}):
                passed, failed = run(root, tests)
                assert passed, f"{failed} fails without a mutant"
    alive = 0
    for mutant in chosen:
        began = time.monotonic()
        catcher = hunt(mutant)
        alive += not catcher
        if options.table:
            print(f"| `{mutant.name}` | {mutant.what} | {catcher or 'NOT CAUGHT'} |", flush=True)
        else:
            verdict = f"caught by {catcher}" if catcher else "NOT CAUGHT"
            print(f"{mutant.name:36} {time.monotonic() - began:4.0f} s  {verdict}", flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
