"""The host servers: how each is started, and what each can do. One that runs is a `Host`."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uwsgi_program
import world
from peer import Peer
from secure import Wire

HERE = Path(__file__).resolve().parent
START = 40.0  # seconds for an interpreter and its imports, on a machine that has other things to do
THREADS = 70

Command = Callable[[str, int, "Path | None"], "list[object]"]


@dataclass(frozen=True)
class Kind:
    """A server: what starts it at an address and a port, perhaps with a certificate, and what it is capable of."""

    command: Command
    needs: str | None = None  # the package, if it is not of the standard library
    world: str = "threads"
    early: bool = True  # frames that come with the request are not lost
    crowd: bool = True  # serves many at once
    keeps: bool = True  # answers more than one request on a connection
    tls: bool = False
    allow: str = ""


def _serve(kind: str, **how: Any) -> Kind:
    def command(address: str, port: int, certificate: Path | None) -> list[object]:
        # Warnings are for those servers to see to.
        return [sys.executable, "-W", "ignore", HERE / "serve.py", kind, address, port, *filter(None, [certificate])]

    return Kind(command, **how)


def _gunicorn(worker: str, *further: object, **how: Any) -> Kind:
    def command(address: str, port: int, certificate: Path | None) -> list[object]:
        tls = ["--certfile", certificate, "--keyfile", certificate] if certificate else []
        bind = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        command = [sys.executable, "-m", "gunicorn", "-k", worker, "-b", bind, "--no-control-socket"]
        return [*command, "--access-logfile", "-", *further, *tls, "application:application"]

    return Kind(command, "gunicorn", **how)


def _uwsgi(address: str, port: int, certificate: Path | None) -> list[object]:
    command: list[object] = [uwsgi_program.program(), "--http-socket", f"{address}:{port}"]
    command += ["--module", "application:application"]
    return [*command, "--home", sys.prefix, "--threads", THREADS, "--enable-threads", "--master", "--die-on-term"]


HOSTS = {
    "http.server": _serve("http.server", tls=True),
    "wsgiref": _serve("wsgiref", keeps=False, tls=True),
    "werkzeug": _serve("werkzeug", needs="werkzeug", keeps=False, tls=True),
    "werkzeug-debug": _serve("werkzeug-debug", needs="werkzeug", keeps=False),
    "django": _serve("django", needs="django"),
    "paste": _serve("paste", needs="paste"),
    "cheroot": _serve("cheroot", needs="cheroot", tls=True),
    "waitress": _serve("waitress", needs="waitress", allow="waitress"),
    "gunicorn-sync": _gunicorn("sync", crowd=False, keeps=False, allow="gunicorn-sync"),
    "gunicorn-gthread": _gunicorn("gthread", "--threads", THREADS, "--keep-alive", 5, tls=True),
    "gunicorn-gevent": _gunicorn("gevent", "--keep-alive", 5, world="gevent", tls=True),
    "gunicorn-gevent_pywsgi": _gunicorn("gevent_pywsgi", world="gevent"),
    "pywsgi": _serve("pywsgi", needs="gevent", world="gevent", tls=True),
    "pywsgi-patched": _serve("pywsgi-patched", needs="gevent", world="gevent"),
    "eventlet": _serve("eventlet", needs="eventlet", world="eventlet", tls=True),
    "eventlet-patched": _serve("eventlet-patched", needs="eventlet", world="eventlet"),
    "uwsgi": Kind(_uwsgi, early=False, keeps=False),
}
#: names of the matrix: each host, and again with TLS
MATRIX = [*HOSTS, *(f"{name}+tls" for name, kind in HOSTS.items() if kind.tls)]


def available(name: str) -> str:
    """Why a host cannot be had here; an empty string if it can."""
    kind = HOSTS[name.partition("+")[0]]
    if kind.command is _uwsgi and uwsgi_program.program() is None:
        return f"uwsgi {uwsgi_program.why}"
    missing = kind.needs is not None and importlib.util.find_spec(kind.needs) is None
    return f"{kind.needs} is not here" if missing else ""


class Host:
    """A server that is being started; `ready` waits for it."""

    def __init__(
        self,
        name: str,
        folder: Path,
        certificate: Path | None = None,
        trust: ssl.SSLContext | None = None,
        *,
        address: str = "127.0.0.1",
        environment: dict[str, str] | None = None,
        further: tuple[object, ...] = (),
    ) -> None:
        self.name = name
        self.kind = HOSTS[name.partition("+")[0]]
        self.tls = trust if name.endswith("+tls") else None
        self.host = address
        # Kept, though unused: nobody else is given the port meanwhile.
        self._place = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind((address, 0))
        self._port = self._place.getsockname()[1]
        self._log = folder / f"{name}.log"
        command = [*self.kind.command(address, self._port, certificate if self.tls else None), *further]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(world.HOME), str(HERE)]),
            "PYTHONUNBUFFERED": "1",
            "HOST_WORLD": self.kind.world,
            "HOST_ALLOW": self.kind.allow,
            **(environment or {}),
        }
        # What a shell starts in the background ignores Ctrl-C, and so would its children.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with self._log.open("wb") as log:
                self.process = subprocess.Popen(
                    list(map(str, command)), env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
        finally:
            signal.signal(signal.SIGINT, before)
        self._read = 0  # bytes of the log that were looked at

    def ready(self) -> Host:
        deadline = time.monotonic() + START
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get("/plain") == (200, b"plain"):
                    return self
            assert self.process.poll() is None, f"{self.name} ended: {self.log()}"
            assert time.monotonic() < deadline, f"{self.name} did not start: {self.log()}"
            time.sleep(0.05)

    def address(self) -> tuple[str, int]:
        return self.host, self._port

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def news(self) -> str:
        """What has been logged since the last call."""
        said = self.log()
        news, self._read = said[self._read :], len(said)
        return news

    def url(self, target: str) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.tls else 'ws'}://{host}:{self._port}{target}"

    def client(self, target: str, **options: Any) -> Any:
        """A client of syncws's, open."""
        return world.Socket(self.url(target), **({"ssl": self.tls} if self.tls else {}), **options)

    def connect(self, room: int | None = None) -> Any:
        """A connection, with TLS if the host has it: what a `Peer` needs of a socket."""
        sock = world.raw_connection(self.address(), room)
        return Wire(sock, self.tls, server_side=False, host=self.host).handshake() if self.tls else sock

    def peer(self, data: bytes) -> Peer:
        """A strict peer that has sent `data`, the request and what is to be in its segment, and read the head."""
        peer = Peer(self.connect(), client=True)
        peer.sock.sendall(data)
        peer.head = peer.read_head()
        return peer

    def socket(self) -> Any:
        """A connection for plain requests."""
        sock = world.raw_connection(self.address())
        return self.tls.wrap_socket(sock, server_hostname=self.host) if self.tls else sock

    @contextlib.contextmanager
    def http(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(*self.address(), timeout=world.PATIENCE)
        connection.sock = self.socket()
        with contextlib.closing(connection):
            yield connection

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body of a plain request, on a connection of its own."""
        with self.http() as connection:
            connection.request("GET", path)
            with connection.getresponse() as response:
                return response.status, response.read()

    def state(self) -> dict[str, Any]:
        status, body = self.get("/state")
        assert status == 200, body
        return dict(json.loads(body))

    def stop(self) -> None:
        self._place.close()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        self._signal(signal.SIGKILL)  # also what the server has started
        self.process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def launched(name: str, *arguments: Any, **how: Any) -> Host:
    """A host that is being started; skipped where it cannot be had."""
    if why := available(name):
        pytest.skip(why)
    return Host(name, *arguments, **how)
