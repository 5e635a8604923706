"""The peer programs, each started once and ended with the tests; Node's `ws` goes into .cache/node."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
pytest.register_assert_rewrite("exchanges", "glue", "link", "remote")

from link import CASES, THEY_CONNECT, WE_CONNECT  # noqa: E402
from remote import PEERS, RemotePeer  # noqa: E402

CACHE = HERE.parent.parent / ".cache"
INSTALL_TIMEOUT = 150  # seconds


@pytest.fixture(scope="session")
def running_peers() -> Any:
    """By program: those that run."""
    running: dict[str, RemotePeer] = {}
    yield running
    for peer in running.values():
        peer.stop()


@pytest.fixture
def peer(request: pytest.FixtureRequest, running_peers: dict[str, RemotePeer]) -> RemotePeer:
    """The peer of the test's class, in running order."""
    program = request.cls.program
    if program not in running_peers or not running_peers[program].alive:
        if program.endswith(".js"):
            modules = request.getfixturevalue("node_modules")
            running_peers[program] = RemotePeer(["node", str(PEERS / program)], {"NODE_PATH": str(modules)})
        else:
            running_peers[program] = RemotePeer.python(program)
    return running_peers[program]


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder in which Node finds `ws`; what cannot be had is skipped."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not here")
    wanted = (HERE / "package.json").read_text(encoding="utf-8")
    folder = CACHE / "node"
    folder.mkdir(parents=True, exist_ok=True)
    with (CACHE / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other runs of these tests in this checkout
        installed = folder / "installed.json"  # written last: an installation may have been interrupted
        if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
            installed.unlink(missing_ok=True)
            _npm_install(folder, wanted)
            installed.write_text(wanted, encoding="utf-8")
    return folder / "node_modules"


def _npm_install(folder: Path, package: str) -> None:
    (folder / "package.json").write_text(package, encoding="utf-8")
    quietly = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    command = ["npm", "install", "--prefix", str(folder), *quietly]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm install took more than {INSTALL_TIMEOUT} s")
    if done.returncode:
        pytest.skip(f"npm install failed: {done.stderr.strip()[-300:]}")
    assert (folder / "node_modules" / "ws").is_dir(), f"npm said it installed ws, and did not: {done.stdout}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Arguments `who` and `case`: what the class says that its peer can do."""
    if "who" not in metafunc.fixturenames:
        return
    able = {who: names for who in (WE_CONNECT, THEY_CONNECT) if (names := metafunc.cls.cases_of(who))}
    if "case" not in metafunc.fixturenames:
        metafunc.parametrize("who", list(able))
        return
    wanted = getattr(metafunc.function, "only", tuple(CASES))
    plainest = "plain" in wanted
    found = [(who, names[0]) for who, names in able.items() if plainest]
    found += [(who, name) for who, names in able.items() for name in names[plainest:] if name in wanted]
    ids = [f"{who}-{name}" for who, name in found]
    metafunc.parametrize(("who", "case"), [(who, CASES[name]) for who, name in found], ids=ids)
