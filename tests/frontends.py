"""nginx and HAProxy as they are documented: the files of examples/deploy, with ports and certificates of a test's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import debian
import world
from command import ROOT

NGINX = """
daemon off;
pid {folder}/pid;
error_log {folder}/log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/documented;
}}
"""


class Program(NamedTuple):
    """package: Debian's. down: the status of an answer when nobody listens behind it."""

    package: str
    documented: str
    around: str
    command: list[str]
    down: int


PROGRAMS = {
    "nginx": Program("nginx-light", "nginx.conf", NGINX, ["nginx", "-e", "{folder}/log", "-c", "{folder}/conf"], 502),
    "haproxy": Program("haproxy", "haproxy.cfg", "{documented}", ["haproxy", "-db", "-f", "{folder}/conf"], 503),
}


class FrontEnd:
    """One that runs, before the server at `backend`; ended at the end of the `with`. changes: to the file."""

    def __init__(self, name: str, folder: Path, backend: int, certificate: Any, changes: dict[str, str]) -> None:
        self.program = PROGRAMS[name]
        self.port, self.tls_port = debian.free_ports(2)
        self._folder = folder
        pem = folder / "certificate.pem"
        certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
        text = (ROOT / "examples" / "deploy" / self.program.documented).read_text(encoding="utf-8")
        own = {
            "127.0.0.1:8000": f"127.0.0.1:{backend}",
            "listen 80;": f"listen 127.0.0.1:{self.port};",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.tls_port} ssl;",
            "bind :80\n": f"bind 127.0.0.1:{self.port}\n",
            "bind :443 ": f"bind 127.0.0.1:{self.tls_port} ",
            "/etc/ssl/example.org.pem": str(pem),
            "/etc/ssl/example.org.key": str(pem),
        }
        for old, new in {**own, **changes}.items():
            assert old in text or old in own, f"{old!r} is not in {self.program.documented}"
            text = text.replace(old, new)
        (folder / "documented").write_text(text, encoding="utf-8")
        (folder / "conf").write_text(self.program.around.format(folder=folder, documented=text), encoding="utf-8")
        command = [part.format(folder=folder) for part in self.program.command]
        found = debian.find(command[0])
        assert found
        with (folder / "out").open("wb") as out:
            self._process = subprocess.Popen(
                [found, *command[1:]], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        try:
            world.eventually(self._answers)
        except BaseException:
            self.__exit__()
            raise

    def url(self, target: str = "/", scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.tls_port if scheme in ('wss', 'https') else self.port}{target}"

    def _answers(self) -> bool:
        assert self._process.poll() is None, [path.read_text() for path in self._folder.glob("[lo][ou][gt]")]
        with contextlib.suppress(ConnectionError):
            world.raw_connection(("127.0.0.1", self.tls_port)).close()
            return True
        return False

    def __enter__(self) -> FrontEnd:
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # of the session that it leads
        self._process.wait()


def need(name: str) -> None:
    """Have the program installed; what cannot be had is skipped."""
    program = PROGRAMS[name]
    debian.need(name, program.package, f"{program.documented} is not tried")
