"""A command in a process of its own, over real pipes or a real terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import world

ROOT = Path(__file__).resolve().parent.parent


class Command:
    """`python` with these arguments, in the folder of the package; ended at the end of the `with`."""

    def __init__(
        self, *arguments: object, stdin: Any = subprocess.PIPE, stdout: Any = subprocess.PIPE, **environment: str
    ) -> None:
        ours = {"PYTHONPATH": str(world.HOME), "PYTHONIOENCODING": "utf-8", "TERM": "dumb", "NO_COLOR": ""}
        # What a shell starts in the background ignores Ctrl-C, and so would its children.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", *map(str, arguments)],
                cwd=world.HOME,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env={**os.environ, **ours, **environment},
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def line(self) -> str:
        """The next line on its standard output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"it ended: {self.end()}")
        return line.rstrip("\n")

    def url(self) -> str:
        """Where a server says that it listens."""
        line = self.line()
        assert line.startswith("listening on ws"), line
        return line.removeprefix("listening on ")

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def minds_sigterm(self) -> bool:
        """Whether it has a handler of its own for SIGTERM, as `serve_forever` does."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def end(self, text: str | None = None) -> tuple[int, list[str], list[str]]:
        """Give it `text` and the end of its input; then its status, and its lines on stdout and stderr."""
        out, err = self.process.communicate(text, timeout=3 * world.PATIENCE)
        return self.process.returncode, (out or "").split("\n")[:-1], err.splitlines()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=world.PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def serving(name: str, *arguments: object, after: tuple[object, ...] = (), logs: bool = False) -> Iterator[str]:
    """The URL of an example that serves; ended as a user ends it, and ending well.

    `after`: arguments behind the port. `logs`: it tells of requests on stderr.
    """
    with Command(ROOT / "examples" / name, *arguments, 0, *after) as server:
        yield server.url()
        if "suppress(KeyboardInterrupt)" not in (ROOT / "examples" / name).read_text(encoding="utf-8"):
            world.eventually(server.minds_sigterm)  # it answers clients a moment before serve_forever() is reached
        server.signal(signal.SIGINT)
        status, _, complaints = server.end()
        assert (status, [] if logs else complaints) == (0, []), complaints
        assert not [line for line in complaints if "Traceback" in line], complaints


def run(name: str, *arguments: object, given: str | None = None) -> tuple[int, list[str], list[str]]:
    """Status, stdout and stderr of an example; `given` is its standard input."""
    with Command(ROOT / "examples" / name, *arguments) as example:
        return example.end(given)


def syncws(*arguments: object, **how: Any) -> Command:
    """`python -m syncws …`."""
    return Command("-m", "syncws", *arguments, **how)
