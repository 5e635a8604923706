"""A Python program in a process of its own, in the world of the test: for signals, limits and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import world

_TESTS = Path(__file__).resolve().parent
_PRELUDE = f"""
import os, sys
sys.path[:0] = [{str(world.HOME)!r}, {str(_TESTS)!r}]
mode = os.environ.get("SYNCWS_TEST_MODE", "threads")
if mode == "patched-late":
    import syncws
if mode.startswith("patched"):
    import gevent.monkey
    gevent.monkey.patch_all()
import world
def say(*words):
    # Not by print: a signal's handler may say something while that is at work.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


class Program:
    """Runs `source`, in which `world` is imported and `say(…)` prints a line; ended at the end of the `with`.

    `address()` makes it a stand-in for the server whose port the program said first.
    """

    def __init__(self, source: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _PRELUDE + source, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )
        self._port = 0

    def line(self) -> str:
        """The next line it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"it ended: {self.end()}")
        return line.strip()

    def tell(self, line: str = "") -> None:
        """One line for its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.line()

    def address(self) -> tuple[str, int]:
        if not self._port:
            self._port = int(self.line())
        return "127.0.0.1", self._port

    def resident(self) -> int:
        """Bytes of memory it holds."""
        statm = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii")
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def processor_time(self) -> float:
        """Seconds of processor time it has used."""
        fields = (
            Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, timeout: float = world.PATIENCE) -> tuple[int, str, str]:
        """Wait for its end: exit code, what it still said, standard error."""
        said, complaints = self._process.communicate(timeout=timeout)
        return self._process.returncode, said, complaints

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate(timeout=world.PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def run(source: str) -> tuple[int, str, str]:
    """A process without anything of the test's world: exit code, standard output, standard error."""
    command = [sys.executable, "-W", "error", "-c", source]
    done = subprocess.run(command, cwd=world.HOME, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout.strip(), done.stderr
