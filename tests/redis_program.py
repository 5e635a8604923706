"""A redis-server of Debian's for a test: on a free port of the loopback, keeping nothing."""

from __future__ import annotations

import contextlib
import signal
import socket as _native
import subprocess
from pathlib import Path
from typing import Any

import debian
import world
from world import PATIENCE


class Redis:
    """Started by `start`, ended by `stop`; in between it can be held still."""

    def __init__(self, program: str, folder: Path) -> None:
        (self.port,) = debian.free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}"
        self.unix_url = f"unix://{folder}/redis.sock"
        self._command = [
            program, "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--unixsocket", folder / "redis.sock", "--dir", folder, "--daemonize", "no", "--proto-max-bulk-len", "64mb",
        ]  # fmt: skip
        self._log = folder / "log"
        self._process: Any = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(list(map(str, self._command)), stdout=log, stderr=log)
        world.eventually(self.answers)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    @contextlib.contextmanager
    def held_still(self) -> Any:
        """It takes connections and bytes, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), connection(self.port) as sock:
            sock.sendall(b"PING\r\n")
            return bool(sock.recv(7) == b"+PONG\r\n")
        return False


def connection(port: int) -> _native.socket:
    return _native.create_connection(("127.0.0.1", port), timeout=PATIENCE)
