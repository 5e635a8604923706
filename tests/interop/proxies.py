"""Proxies that people run, each started with a configuration of its own, on a free port of the loopback.

They come from Debian (.ci/run installs them): tinyproxy, squid with TLS, dante and microsocks. What is not here is
skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket as _native
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import debian
import pytest

USER, PASSWORD = "someone", "s3cr3t"
START = 30.0  # seconds

TINYPROXY = """
Port {ports[0]}
Listen 127.0.0.1
MaxClients 20
BasicAuth {user} {password}
LogFile "{folder}/log"
"""
SQUID = """
http_port 127.0.0.1:{ports[0]}
https_port 127.0.0.1:{ports[1]} tls-cert={folder}/certificate.pem
auth_param basic program {folder}/knows
auth_param basic children 1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
cache_mem 1 MB
pid_filename none
access_log none
cache_log {folder}/log
pinger_enable off
visible_hostname localhost
shutdown_lifetime 0 seconds
"""
KNOWS = """#!/bin/sh
while read -r line; do
  [ "$line" = "{user} {password}" ] && echo OK || echo ERR
done
"""
DANTE = """
logoutput: {folder}/log
internal: 127.0.0.1 port = {ports[0]}
external: 127.0.0.1
clientmethod: none
socksmethod: none
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
"""
PROGRAMS: dict[str, tuple[str, list[str]]] = {  # the configuration, and the command
    "tinyproxy": (TINYPROXY, ["tinyproxy", "-d", "-c", "{folder}/conf"]),
    "squid": (SQUID, ["squid", "-N", "-f", "{folder}/conf"]),
    "danted": (DANTE, ["danted", "-f", "{folder}/conf", "-p", "{folder}/pid"]),
    "microsocks": ("", ["microsocks", "-i", "127.0.0.1", "-p", "{ports[0]}", "-u", USER, "-P", PASSWORD]),
}


class RunningProxy:
    """One that takes connections; `ports`: the plain one, and the one with TLS."""

    def __init__(self, program: str, certificate: Any) -> None:
        self.program = program
        self.folder = Path(tempfile.mkdtemp(prefix="syncws-proxy-"))
        self.folder.chmod(0o777)  # squid reads and writes there as another user
        configuration, command = PROGRAMS[program]
        found = debian.find(command[0])
        assert found
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "certificate.pem"))
        (self.folder / "certificate.pem").chmod(0o644)
        self.ports = debian.free_ports(2)
        about = {"folder": self.folder, "ports": self.ports, "user": USER, "password": PASSWORD}
        (self.folder / "knows").write_text(KNOWS.format(**about))
        (self.folder / "knows").chmod(0o755)
        (self.folder / "conf").write_text(configuration.format(**about))
        with (self.folder / "out").open("wb") as out:
            self.process = subprocess.Popen(
                [found, *(part.format(**about) for part in command[1:])],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=self.folder,
            )  # fmt: skip
        try:
            self._await_start()
        except BaseException:
            self.stop()
            raise

    def url(self, scheme: str, userinfo: str = "") -> str:
        return f"{scheme}://{userinfo}localhost:{self.ports[1 if scheme == 'https' else 0]}"

    def _await_start(self) -> None:
        deadline = time.monotonic() + START
        for port in self.ports if self.program == "squid" else self.ports[:1]:
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    _native.create_connection(("127.0.0.1", port), 5).close()
                    break
                assert self.process.poll() is None, f"{self.program} ended: {self._said()}"
                assert time.monotonic() < deadline, f"{self.program} did not start: {self._said()}"
                time.sleep(0.05)  # there is nothing that would tell

    def _said(self) -> str:
        logs = (self.folder / "out", self.folder / "log")
        texts = [path.read_text(errors="replace") for path in logs if path.exists()]
        return "\n".join(texts)[-2000:]

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # of the session that it leads
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def start(program: str, certificate: Any) -> RunningProxy:
    """The program in running order; a test that needs one that is not here is skipped."""
    if debian.find(PROGRAMS[program][1][0]) is None:
        pytest.skip(f"*** {program} IS NOT HERE: Debian has it (see .ci/run) ***")
    for _ in range(3):  # a free port may be taken before the program has it
        try:
            return RunningProxy(program, certificate)
        except AssertionError as error:
            failed = error
    raise failed
