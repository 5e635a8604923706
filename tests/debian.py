"""Programs from Debian that run beside a test: found, installed if that can be, and given ports of the loopback."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket as _native
import subprocess

import pytest

_PORTS = 10_000, 32_000
_FOLDERS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def find(program: str) -> str | None:
    """Its path, also where root keeps things."""
    return shutil.which(program, path=_FOLDERS)


def need(program: str, package: str, loss: str) -> str:
    """The path of the program, which is installed if it can be; if not, the test is skipped, and `loss` says what
    that means."""
    found = find(program) or _install(program, package)
    if found is None:
        pytest.skip(f"*** {program} IS NOT HERE and could not be installed: {loss} ***")
    return found


def _install(program: str, package: str) -> str | None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # start nothing
    with contextlib.suppress(subprocess.TimeoutExpired):
        for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", package]):
            subprocess.run(["apt-get", *command], env=environment, capture_output=True, timeout=40, check=False)
    return find(program)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody has just now, from below those that the system gives to outgoing connections:
    one of these could have it in the next moment."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            sock = stack.enter_context(_native.socket())
            port = random.SystemRandom().randrange(*_PORTS)
            with contextlib.suppress(OSError):  # somebody has it
                sock.bind(("127.0.0.1", port))
                ports.append(port)
        return ports
