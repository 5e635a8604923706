"""Environments of the suite's own: .venv-bench, one without the GIL if there is such a Python, and node's packages.

What cannot be installed is said aloud and left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from .contenders import FREE, HERE, MAIN, NODE, ROOT, Contender

FOLDERS = {MAIN: ROOT / ".venv-bench", FREE: ROOT / ".venv-bench-ft"}
FREE_NEEDS = ("websockets",)  # the peers that are measured there
_LEFT_OUT = shutil.ignore_patterns(".*", "*.so", "__pycache__", "build", "dist", "node_modules", "*.egg-info")
_FACTS = """
import importlib.metadata, json, platform, sys
versions = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()}
compiled, problem = False, ""
try:
    import syncws.frames
    compiled = bool(getattr(syncws.frames, "COMPILED", False))
    versions.setdefault("syncws", syncws.__version__)
except Exception as error:
    problem = f"{type(error).__name__}: {error}"
    versions.pop("syncws", None)
gil = getattr(sys, "_is_gil_enabled", lambda: True)()
python = f"CPython {platform.python_version()}" + ("" if gil else ", free-threaded")
print(json.dumps({"python": python, "compiled": compiled, "problem": problem, "versions": versions}))
"""


def tidy(words: str) -> str:
    """For results, which go into the docs: no folders of this machine, no addresses, no end of words."""
    return re.sub(r"(?:\w+:/)?/(?:[\w.@+-]+/)+", "", words)[:200]


@dataclass
class Interpreter:
    command: str
    environment: dict[str, str] = field(default_factory=dict)
    version: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    compiled: bool = False  # whether its syncws is

    def facts(self) -> dict[str, object]:
        return {"version": self.version, "packages": self.packages, "compiled": self.compiled}


class Environments:
    """The interpreters by name, and why others are missing."""

    def __init__(self) -> None:
        self.interpreters: dict[str, Interpreter] = {}
        self.missing: dict[str, str] = {}

    def skip(self, what: str, why: str) -> None:
        self.missing[what] = tidy(why)
        print(f"*** SKIPPED: {what}: {why}", flush=True)

    def lacks(self, contender: Contender) -> str:
        """Why this contender cannot run; empty if it can."""
        interpreter = self.interpreters.get(contender.interpreter)
        if interpreter is None:
            return self.missing.get(contender.interpreter, f"there is no {contender.interpreter} interpreter")
        absent = [need for need in contender.needs if need not in interpreter.packages]
        if absent:
            return "; ".join(self.missing.get(need, f"{need} is not installed") for need in absent)
        if contender.name == "syncws-pure" and not interpreter.compiled:
            return "syncws is not compiled here, so this is what `syncws` is already"
        return ""


def environments(source: Path, freethreaded: str | None) -> Environments:
    """Everything installed; `source` is the checkout of syncws that is measured."""
    found = Environments()
    main = _virtual(FOLDERS[MAIN], sys.executable)
    _install_peers(found, main)
    _install_syncws(found, main, source)
    found.interpreters[MAIN] = _looked_at(main)
    _add_freethreaded(found, source, freethreaded)
    _add_node(found, FOLDERS[MAIN] / "node")
    return found


def present(source: Path) -> Environments:
    """The running interpreter with what it has: nothing is installed."""
    found = Environments()
    found.interpreters[MAIN] = _looked_at(sys.executable, {"PYTHONPATH": str(source)})
    found.missing |= {NODE: "nothing was installed", FREE: "nothing was installed"}
    return found


def _install_peers(found: Environments, python: str) -> None:
    """All at once; if that fails, each for itself."""
    print("installing the peers ...", flush=True)
    if _pip(python, "--requirement", str(HERE / "requirements.txt")):
        lines = (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()
        for line in lines:
            if line and not line.startswith("#"):
                _install_or_skip(found, python, line)


def _virtual(folder: Path, python: str) -> str:
    inside = folder / "bin" / "python"
    if not inside.exists():
        print(f"making {folder.name} ...", flush=True)
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    return str(inside)


def _pip(python: str, *arguments: str) -> str:
    """Installs; answers what went wrong, in a line."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
    return "" if done.returncode == 0 else (lines or ["pip failed"])[-1].strip()


def _install_or_skip(found: Environments, python: str, requirement: str) -> None:
    name = requirement.split(">=")[0]
    problem = _pip(python, requirement)
    if problem:
        found.skip(name, problem)


def _install_syncws(found: Environments, python: str, source: Path) -> None:
    """Not editable, from a copy, so that nothing is built in the checkout; once for each state of the sources."""
    mark = Path(python).parent.parent / "syncws-installed"
    state = _digest(source)
    if mark.exists() and mark.read_text() == state:
        return
    print("installing syncws ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "syncws"
        shutil.copytree(source, copy, ignore=_LEFT_OUT)
        problem = _pip(python, "--force-reinstall", "--no-deps", str(copy)) or _pip(python, "h11>=0.16")
    if problem:
        mark.unlink(missing_ok=True)
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "syncws"], check=False)
        found.skip("syncws", problem)
    else:
        mark.write_text(state)


def _digest(source: Path) -> str:
    digest = hashlib.sha256(str(source).encode())
    build = [source / name for name in ("setup.py", "setup.cfg", "pyproject.toml")]
    for path in [*build, *sorted((source / "syncws").rglob("*"))]:
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _looked_at(python: str, environment: dict[str, str] | None = None) -> Interpreter:
    variables = {**os.environ, **(environment or {})}
    with tempfile.TemporaryDirectory() as elsewhere:  # where no source tree lies about
        asked = subprocess.run(
            [python, "-c", _FACTS], cwd=elsewhere, env=variables, capture_output=True, text=True, check=True
        )
    facts = json.loads(asked.stdout)
    if facts["problem"]:
        print(f"*** syncws CANNOT BE IMPORTED by {facts['python']}: {facts['problem']}", flush=True)
    elif not facts["compiled"]:
        print(f"*** syncws is NOT COMPILED for {facts['python']}: these are the figures of pure Python", flush=True)
    return Interpreter(python, environment or {}, facts["python"], facts["versions"], facts["compiled"])


def _add_freethreaded(found: Environments, source: Path, given: str | None) -> None:
    named = given or os.environ.get("SYNCWS_FREETHREADED")
    python = named or shutil.which("python3.14t") or shutil.which("python3.13t")
    if python is None:
        found.skip(FREE, "no python3.13t or python3.14t on the path; name one with --freethreaded PYTHON")
        return
    try:
        inside = _virtual(FOLDERS[FREE], python)
    except (OSError, subprocess.CalledProcessError) as error:
        found.skip(FREE, str(error))
        return
    for need in FREE_NEEDS:
        _install_or_skip(found, inside, need)
    _install_syncws(found, inside, source)
    found.interpreters[FREE] = _looked_at(inside)


def _add_node(found: Environments, folder: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        found.skip(NODE, "node and npm are not on the path")
        return
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", folder)
    quietly = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(
        [npm, "install", "--prefix", str(folder), *quietly], capture_output=True, text=True, check=False
    )
    package = folder / "node_modules" / "ws" / "package.json"
    if done.returncode or not package.exists():
        found.skip(NODE, f"npm install failed: {done.stderr.strip()[-200:]}")
        return
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    versions = {"ws": json.loads(package.read_text(encoding="utf-8"))["version"]}
    environment = {"BENCHMARK_NODE": str(folder)}
    found.interpreters[NODE] = Interpreter(node, environment, f"node {version.lstrip('v')}", versions)
