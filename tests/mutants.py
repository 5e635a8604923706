"""Break syncws on purpose, and see whether the tests notice: `python tests/mutants.py [--table] [NAME …]`.

Each mutant of mutants/catalogue.py is put into a temporary copy of the project, where its tests must fail, within
three attempts, for races take luck. Reports the test that caught it; status 1 if one lives. Those of the Python code
run without the compiled core; for those of the C code it is built.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "mutants"))

from catalogue import MUTANTS, Edit, Mutant  # noqa: E402

ATTEMPTS = 3
LIMIT = 60  # seconds for one test; a hang is as good as a failure
FAILED = re.compile(
    r"^(?:FAILED|ERROR) \S*?(test_\w+\.py::\w+)|^\S*?(test_\w+\.py::\w+).* Timeout", re.MULTILINE
)


# -- putting a mutant in: parts of the syntax tree are exchanged, so that layout and comments do not matter ----------


class Unfit(Exception):
    """The code has changed, so that a mutant cannot be put in any more."""


class _Exchange(ast.NodeTransformer):
    """Puts `new` in the place of `old`, and counts how often: one expression for another, or statements."""

    def __init__(self, old: str, new: str) -> None:
        self.count = 0
        self._old, self._new = ast.parse(old).body, ast.parse(new).body
        self._expressions = all(len(part) == 1 and isinstance(part[0], ast.Expr) for part in (self._old, self._new))
        self._wanted = [ast.dump(node.value if self._expressions else node) for node in self._old]

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name, field in ast.iter_fields(node):
            for at in range(len(field) if isinstance(field, list) and not self._expressions else 0):
                if [ast.dump(part) for part in field[at : at + len(self._old)]] == self._wanted:
                    self.count += 1
                    getattr(node, name)[at : at + len(self._old)] = copy.deepcopy(self._new)
        return node

    def visit(self, node: ast.AST) -> ast.AST:
        if self._expressions and ast.dump(node) == self._wanted[0]:
            self.count += 1
            return copy.deepcopy(self._new[0].value)
        return super().visit(node)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Each function and method of a module, with its name and the one that has its class before it."""
    for top in tree.body:
        for node in top.body if isinstance(top, ast.ClassDef) else [top]:
            if isinstance(node, ast.FunctionDef):
                yield node.name, node
                if node is not top:
                    yield f"{top.name}.{node.name}", node


def _put_in(edit: Edit, sources: dict[str, str]) -> tuple[str, str]:
    """Make the edit in the one function that it fits; answers with that one's file and its new source."""
    if edit.where == "C":
        found = [file for file, source in sources.items() for _ in range(source.count(edit.old)) if is_c(file)]
        if len(found) != 1:
            raise Unfit(f"the C code should have this once, and has it {len(found)} times:\n{edit.old}")
        return found[0], sources[found[0]].replace(edit.old, edit.new)
    changed, places, count = {}, 0, 0
    for file, source in sources.items():
        if not file.endswith(".py") or f"def {edit.where.rpartition('.')[2]}(" not in source:
            continue
        tree = ast.parse(source)
        for name, function in _functions(tree):
            if name == edit.where:
                places += 1
                exchange = _Exchange(edit.old, edit.new)
                exchange.visit(function)
                if exchange.count:
                    count += exchange.count
                    changed[file] = ast.unparse(tree) + "\n"
    if count != 1:
        there = f"{count} times in {places} functions of this name" if places else "not, for there is no such function"
        raise Unfit(f"{edit.where}() should have this once, and has it {there}:\n{edit.old.strip()}")
    return changed.popitem()


def mutated(mutant: Mutant, sources: dict[str, str]) -> dict[str, str]:
    """The files that the mutant changes, of those in `sources`, as it makes them. Unfit if it does not fit."""
    changed: dict[str, str] = {}
    for edit in mutant.edits:
        changed |= [_put_in(edit, {**sources, **changed})]
    return changed


def is_c(file: str) -> bool:
    return file.endswith((".c", ".h"))


def sources_of(package: Path) -> dict[str, str]:
    paths = [path for path in sorted(package.iterdir()) if path.suffix in (".c", ".h", ".py")]
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


# -- hunting it ------------------------------------------------------------------------------------------------------


def copied(folder: Path) -> Path:
    root = folder / "project"
    left_out = (".*", "__pycache__", "build", "*.egg-info", "*.so", "interop")
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*left_out))
    return root


class Unbuildable(Exception):
    """There is no compiler, or it complains."""


def build(root: Path) -> None:
    """The compiled core, in place."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=root, env={**os.environ, "SYNCWS_C": "yes"}, capture_output=True, text=True)
    if done.returncode:
        raise Unbuildable(done.stderr)


def run(root: Path, tests: str, compiled: bool = False) -> tuple[bool, str]:
    """Whether the tests pass in the project at `root`, and the first that does not."""
    words = tests.split()
    files = [f"tests/{word}" if word.startswith("test_") and word.endswith(".py") else word for word in words]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no", "-rfE"]
    command += ["--timeout", str(LIMIT), *files]
    environment = {**os.environ, "PYTHONPATH": str(root), "SYNCWS_PURE": "" if compiled else "1"}
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


def hunt(mutant: Mutant) -> tuple[str, int]:
    """The test that caught it, empty if none did, and at which attempt."""
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder))
        changed = mutated(mutant, sources_of(root / "syncws"))
        for file, source in changed.items():
            (root / "syncws" / file).write_text(source, encoding="utf-8")
        compiled = any(map(is_c, changed))
        if compiled:
            build(root)
        for attempt in range(1, ATTEMPTS + 1):
            passed, catcher = run(root, mutant.tests, compiled)
            if not passed:
                return catcher, attempt
    return "", ATTEMPTS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants; all if none are named")
    parser.add_argument("--table", action="store_true", help="print rows for docs/testing.md")
    parser.add_argument("--healthy", action="store_true", help="first run the same tests without any mutant")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    if unknown := set(options.names) - {mutant.name for mutant in chosen}:
        parser.error(f"no such mutants: {', '.join(sorted(unknown))}")
    if options.healthy:
        with tempfile.TemporaryDirectory() as folder:
            root = copied(Path(folder))
            for tests in sorted({mutant.tests for mutant in chosen}):
                passed, failed = run(root, tests)
                assert passed, f"{failed} fails without a mutant"
    alive = 0
    for mutant in chosen:
        began = time.monotonic()
        try:
            catcher, attempts = hunt(mutant)
        except Unbuildable as error:
            print(f"{mutant.name:36}    - s  NOT RUN: the compiled core cannot be built here\n{error}", file=sys.stderr)
            continue
        alive += not catcher
        if options.table:
            print(f"| `{mutant.name}` | {mutant.what} | {f'`{catcher}`' if catcher else 'NOT CAUGHT'} |", flush=True)
        else:
            verdict = f"caught by {catcher}, attempt {attempts}" if catcher else "NOT CAUGHT"
            print(f"{mutant.name:36} {time.monotonic() - began:4.0f} s  {verdict}", flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
