"""The project's own rules: layers, sizes, what is named where; the version in its one place.

Reads the files, imports nothing of the package. Source: CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import configparser
import contextlib
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "syncws"
SOURCES = {path.stem: path for path in sorted(PACKAGE.glob("*.py"))}
FOLDERS = ("benchmarks", "compliance", "examples")
CODE = [*SOURCES.values(), *sorted(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))]
FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef
FRONT = {"__init__", "__main__"}  # above all ranks
# The backbone; every other module's rank is what its own head says.
RANKS = {
    "errors": 0, "events": 0, "runtime": 0, "greenlets": 0, "eventlets": 0,
    "frames": 1, "headers": 1, "url": 1, "exchange": 1,
    "deflate": 2,
    "receiver": 3, "sender": 3, "handshake": 3,
    "lifecycle": 4, "outgoing": 4, "incoming": 4, "websocket": 4,
    "client": 5, "server": 5,
    "cli": 6,
}  # fmt: skip
PURE = 1, 3  # ranks that know no socket, lock or thread, apart from these:
IMPURE = {"attendant", "borrowed", "port", "tls", "transport"}
DEPENDENCIES = {"h11"}
OPTIONAL = {"deflate": {"zlib_ng"}, "eventlets": {"eventlet"}}  # used where it is there
TEST_COMMAND = (
    "python3 -m venv .venv-test && .venv-test/bin/pip install -q '.[test]' && .venv-test/bin/pytest"
)

each_module = pytest.mark.parametrize("module", sorted(SOURCES))
each_file = pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def rank(module: str) -> int:
    if module in FRONT:
        return 99
    said = re.search(r"\brank (\d)\b", ast.get_docstring(tree(SOURCES[module])) or "", re.IGNORECASE)
    assert said, f"the head of syncws/{module}.py does not say its rank"
    return int(said[1])


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """What runs when the module is imported: not the bodies of functions, nor what type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from statements(child)


def imported(found: Iterator[ast.AST]) -> Iterator[str]:
    """Full names of what these nodes import: `syncws.frames`, `h11`, `collections.abc`."""
    for node in found:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield from (f"syncws.{node.module or alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"syncws.{alias.name}" if node.module == "syncws" else node.module


def siblings(module: str) -> set[str]:
    names = (name.split(".") for name in imported(statements(tree(SOURCES[module]))))
    return {parts[1] for parts in names if parts[0] == "syncws" and len(parts) > 1 and parts[1] in SOURCES}


def outside(module: str) -> set[str]:
    """Top-level packages imported anywhere in the module, also late."""
    return {name.split(".")[0] for name in imported(ast.walk(tree(SOURCES[module])))} - {"syncws"}


@each_module
def test_a_module_imports_only_from_its_own_rank_and_below(module):
    above = {name for name in siblings(module) if rank(name) > rank(module)}
    assert not above, f"syncws/{module}.py, of rank {rank(module)}, imports {above}"


def test_imports_make_no_cycle():
    graph = {module: siblings(module) for module in SOURCES}
    assert list(graphlib.TopologicalSorter(graph).static_order())


@each_module
def test_the_backbone_has_the_ranks_of_the_design(module):
    if module in RANKS:
        assert rank(module) == RANKS[module]


@each_module
def test_only_the_greenlets_module_imports_gevent(module):
    assert "gevent" not in outside(module) or module == "greenlets"


@each_module
def test_values_know_no_sockets_and_no_threads(module):
    if PURE[0] <= rank(module) <= PURE[1] and module not in IMPURE:
        assert not outside(module) & {"socket", "ssl", "select", "selectors", "threading", "queue", "asyncio"}


@each_module
def test_importing_needs_nothing_but_the_declared_dependencies(module):
    if module == "greenlets":
        return
    names = {name.split(".")[0] for name in imported(statements(tree(SOURCES[module])))}
    assert names <= {*sys.stdlib_module_names, *DEPENDENCIES, *OPTIONAL.get(module, ()), "syncws"}


@each_file
def test_a_file_has_at_most_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@each_file
def test_a_function_has_at_most_60_lines(path):
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, FUNCTIONS)]
    assert not [node.name for node in functions if node.end_lineno - node.lineno >= 60]


@each_file
def test_a_file_begins_with_what_it_is_for(path):
    assert ast.get_docstring(tree(path))


def texts() -> Iterator[tuple[str, str]]:
    """Each file of the project that is text."""
    folders = ("syncws", "tests", "docs", "examples", "benchmarks", "compliance", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    for path in [*files, *ROOT.iterdir()]:
        if path.is_file() and not {"node_modules", "__pycache__", ".git"} & set(path.parts):
            with contextlib.suppress(UnicodeDecodeError):
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_no_file_names_a_path_of_some_machine():
    machine = re.compile(r"(?<![\w.)}])/(?:home|root|work|Users)/\w")
    found = [f"{name}: {match[0]}" for name, text in texts() for match in machine.finditer(text)]
    assert not found


def version() -> str:
    """The literal in syncws/__init__.py; the build reads it in the same way, without an import."""
    for node in tree(SOURCES["__init__"]).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return ast.literal_eval(node.value)
    raise AssertionError("syncws/__init__.py has no literal __version__")


def test_the_version_is_the_newest_in_the_changelog():
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heading[1] == version()


def test_the_package_needs_h11_only():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    needed = setup["options"]["install_requires"].split()
    assert {re.split("[<>=]", name)[0] for name in needed} == DEPENDENCIES
    assert setup["metadata"]["version"] == "attr: syncws.__version__"


def test_the_package_tells_type_checkers_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("file", ["README.md", ".ci/run"])
def test_ci_runs_what_the_readme_says(file):
    assert TEST_COMMAND in (ROOT / file).read_text(encoding="utf-8")
