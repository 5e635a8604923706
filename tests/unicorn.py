"""gunicorn in processes of its own, with a configuration file, and what it says in its log."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import world

pytest.importorskip("gunicorn", reason="gunicorn is not here: the test extra has it")

ECHO = """
import syncws

def application(environ, start_response):
    if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
        return echo(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]

@syncws.upgrade
def echo(ws, request):
    for message in ws:
        ws.send(message)
"""
HOOK = "from syncws.gunicorn import post_worker_init"


class Gunicorn:
    """One that listens; ended at the end of the `with`. `folder` gets its files, `settings` are lines of its file."""

    def __init__(
        self, folder: Path, *settings: str, application: str = ECHO, kind: str = "gthread", target: str = "app"
    ) -> None:
        if kind.startswith("gevent"):
            pytest.importorskip("gevent", reason="gevent is not here: the test extra has it")
        lines = [
            f"worker_class = {kind!r}",
            "bind = '127.0.0.1:0'",
            "threads = 8",
            "control_socket_disable = True",  # it is in the home folder, the same for all
            *settings,
        ]
        (folder / "gunicorn.conf.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if application:
            (folder / "app.py").write_text(application, encoding="utf-8")
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--chdir", folder, "-c", folder / "gunicorn.conf.py", target],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(world.HOME), str(folder)]), "HOME": str(folder)},
            )
        self.port = int(self._told(r"Listening at: http://[^:]*:(\d+)"))
        self._told("Booting worker with pid")

    def url(self, target: str = "/", scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{target}"

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def workers(self) -> set[int]:
        """The processes it has started that have not ended."""
        found = set()
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent = path.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
                if int(parent) == self.process.pid and state != "Z":
                    found.add(int(path.parent.name))
        return found

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def _told(self, pattern: str) -> str:
        deadline = time.monotonic() + 3 * world.PATIENCE
        while (found := re.search(pattern, self.log())) is None:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            world.sleep(0.01)
        return found[found.lastindex or 0]

    def __enter__(self) -> Gunicorn:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # of the session that it leads, with its workers
            self.process.wait()
