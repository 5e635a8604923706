"""The uWSGI program: the one that is here, or built into .cache/uwsgi, for it has no wheels and needs a compiler."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

BUILD = 240  # seconds
_CACHE = Path(__file__).resolve().parent.parent.parent / ".cache"
_FOLDER = _CACHE / f"uwsgi-{sys.version_info[0]}.{sys.version_info[1]}"
_PATH = os.pathsep.join([sysconfig.get_path("scripts"), str(_FOLDER / "bin"), os.environ.get("PATH", "")])

_building: subprocess.Popen[bytes] | None = None
why = "is not here"  # that there is none


def begin() -> None:
    """Build it in the background, if there is none."""
    global _building
    if shutil.which("uwsgi", path=_PATH) or _building is not None:
        return
    _FOLDER.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-warn-script-location", "--target", str(_FOLDER)]
    with (_FOLDER / "log").open("wb") as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # other runs of these tests in this checkout
        _building = subprocess.Popen([*command, "uwsgi>=2.0.26"], stdout=log, stderr=log)


def program() -> str | None:
    """Where it is; None if there is none to be had."""
    global why
    begin()
    if _building is not None and _building.returncode is None:
        try:
            _building.wait(BUILD)
        except subprocess.TimeoutExpired:
            _building.kill()
            _building.wait()
        why = f"could not be built: {(_FOLDER / 'log').read_text(errors='replace').strip()[-300:]}"
    return shutil.which("uwsgi", path=_PATH)
