"""Build the two wheels, and test each where the source is not: `python tests/wheels.py [FOLDER]`.

From a source distribution, a wheel in Python for every machine and one with the compiled core for this; each is
installed into an environment of its own, where it must be what it says, pass the tests of the hot functions and
echo. With a FOLDER, the distributions are left there. Needs `build`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ["tests/test_frames.py", "tests/test_pure.py", "tests/test_compiled.py"]
KINDS = {"pure": "no", "compiled": "yes"}
ECHO = """
import syncws

def accept(ws, request):
    for message in ws:
        ws.send(message)

with syncws.Server(accept, host="127.0.0.1", port=0) as server:
    with syncws.Socket("ws://127.0.0.1:%d/" % server.address()[1]) as ws:
        for message in ("", "text", "\u00fcber", b"data", "x" * 70_000, bytes(range(256)) * 10_000):
            ws.send(message)
            assert ws.recv(timeout=10) == message
print("echo:", syncws.__file__, syncws.frames.COMPILED)
"""


def call(*command: object, cwd: Path, **variables: str) -> None:
    environment = {**os.environ, **variables}
    environment.pop("PYTHONPATH", None)
    subprocess.run([str(word) for word in command], cwd=cwd, env=environment, check=True)


def source_distribution(folder: Path) -> Path:
    call(sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT, cwd=folder)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def wheel(archive: Path, kind: str, folder: Path) -> Path:
    """The wheel, after a look at its name and its list of files."""
    place = folder / kind
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", place, archive]
    call(*command, cwd=folder, SYNCWS_C=KINDS[kind])
    (built,) = place.glob("*.whl")
    for_all = built.name.endswith("-py3-none-any.whl")
    files = zipfile.ZipFile(built).namelist()
    core = [name for name in files if name.startswith("syncws/_frames.") and not name.endswith(".pyi")]
    assert for_all == (kind == "pure"), built.name
    assert len(core) == (kind == "compiled"), core
    assert not [name for name in core if name.endswith(".c")], core
    assert {"syncws/_frames.pyi", "syncws/py.typed"} <= {*files}
    return built


def check(built: Path, kind: str, folder: Path) -> None:
    venv.create(folder / f"venv-{kind}", with_pip=True)
    programs = folder / f"venv-{kind}" / "bin"
    call(programs / "pip", "install", "-q", "--disable-pip-version-check", f"{built}[test]", cwd=folder)
    call(programs / "python", "-W", "error", "-c", ECHO, cwd=folder, SYNCWS_PURE="")
    away = folder / f"tests-{kind}"
    shutil.copytree(ROOT / "tests", away / "tests", ignore=shutil.ignore_patterns("__pycache__", "interop"))
    shutil.copy(ROOT / "pyproject.toml", away)
    call(programs / "pytest", "-q", *TESTS, cwd=away, SYNCWS_EXPECT=kind, SYNCWS_PURE="")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = source_distribution(folder)
        wheels = {kind: wheel(archive, kind, folder) for kind in KINDS}
        for kind, built in wheels.items():
            print(f"--- {built.name}", flush=True)
            check(built, kind, folder)
        for target in sys.argv[1:2]:
            Path(target).mkdir(parents=True, exist_ok=True)
            for file in (archive, *wheels.values()):
                shutil.copy(file, target)
    print("both wheels are what they say")


if __name__ == "__main__":
    main()
