"""Programs of servers/, clients/ and load/ as processes: started on given CPUs, listened to, measured, ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .contenders import HERE
from .install import Interpreter, tidy

START = 30.0  # seconds until a server says its port
CPUS = sorted(os.sched_getaffinity(0))
TOGETHER = ((CPUS[0],), (CPUS[0],))  # the CPUs of the server and of the load: both on one,
APART = ((CPUS[0],), (CPUS[-1],))  # each on its own,
ANYWHERE = (tuple(CPUS), tuple(CPUS))  # or as the system likes
Pinning = tuple[tuple[int, ...], tuple[int, ...]]


class Failed(Exception):
    """A program did not do what it is for: why, in a line."""


@contextlib.contextmanager
def _on(cpus: tuple[int, ...]) -> Iterator[None]:
    """Whatever is started meanwhile runs there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Program:
    """One running program. As a context manager it is gone at the end."""

    def __init__(
        self,
        interpreter: Interpreter,
        file: str,
        *arguments: object,
        cpus: tuple[int, ...],
        environment: dict[str, str] | None = None,
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        path = [str(HERE / "shared"), *filter(None, [interpreter.environment.get("PYTHONPATH")])]
        variables = {**inherited, **interpreter.environment, **(environment or {}), "PYTHONPATH": os.pathsep.join(path)}
        self.file = file
        self._unread = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in stop()
        with _on(cpus):
            self._process = subprocess.Popen(
                [interpreter.command, str(HERE / file), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=variables,
                cwd=tempfile.gettempdir(),
            )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def line(self, patience: float = START) -> str:
        """The next line it says; Failed if none comes."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + patience
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise Failed(f"{self.file} said nothing for {patience:.0f} s")
            more = os.read(self._process.stdout.fileno(), 4096)
            if not more:
                raise Failed(f"{self.file} ended: {self._last_words()}")
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def answer(self, patience: float = START) -> dict[str, Any]:
        """The next line, which is JSON."""
        return dict(json.loads(self.line(patience)))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def resident(self) -> int:
        """Bytes of its memory that are in use (RSS)."""
        return self._status("VmRSS") * 1024

    def threads(self) -> int:
        return self._status("Threads")

    def _status(self, field: str) -> int:
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith(f"{field}:")).split()[1])

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return tidy(lines[-1]) if lines else f"status {self._process.returncode}"
