"""The examples for web frameworks, each on its own server and under gunicorn: who gets in, who does not, the rest."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import world
from command import ROOT
from raw import connection, head, parse, read_to_end
from unicorn import HOOK, Gunicorn

from syncws import HandshakeError

pytestmark = world.threads_only  # processes of their own, which no test mode reaches

EXAMPLES = ROOT / "examples"


class Case(NamedTuple):
    """An example: where its WebSocket is, who may have it, what he is then called, and a plain page."""

    name: str
    chat: str
    headers: dict[str, str]
    says: str
    page: str
    refused: tuple[str, int]


CASES = [
    Case("flask", "/members/chat?token=s3cr3t", {}, "alice", "/members/chat?token=s3cr3t", ("/members/chat", 401)),
    Case("django", "/chat", {}, "bob", "/login?user=bob", ("/chat", 401)),
    Case("bottle", "/chat?token=s3cr3t", {}, "s3cr3t", "/", ("/chat?token=wrong", 401)),
    Case("falcon", "/chat", {"Authorization": "Bearer s3cr3t"}, "Bearer s3cr3t", "/page", ("/chat", 401)),
    Case("pyramid", "/chat?token=s3cr3t", {}, "s3cr3t", "/", ("/chat?token=wrong", 403)),
]


class Script:
    """The example as a program, on a port that was free."""

    def __init__(self, name: str, folder: Path) -> None:
        with world.raw_listener() as free:
            self.port = free.getsockname()[1]
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, EXAMPLES / f"{name}_chat.py", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(world.HOME)},
            )
        world.eventually(self._answers, 3 * world.PATIENCE)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log()
        with contextlib.suppress(ConnectionError):
            connection(self).close()
            return True
        return False

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def url(self, target: str = "/", scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{target}"

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(world.PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module", params=[case.name for case in CASES])
def case(request: Any) -> Case:
    pytest.importorskip(request.param)
    return next(case for case in CASES if case.name == request.param)


@pytest.fixture(scope="module", params=["its own server", "gthread", "gevent"])
def server(request: Any, case: Case, tmp_path_factory: Any) -> Any:
    folder = tmp_path_factory.mktemp(case.name)
    if request.param == "its own server":
        running: Any = Script(case.name, folder)
    else:
        settings = [HOOK, f"pythonpath = {str(EXAMPLES)!r}", "accesslog = '-'"]
        running = Gunicorn(folder, *settings, application="", kind=request.param, target=f"{case.name}_chat")
    with running:
        yield running
        assert "Traceback" not in running.log()
        assert request.param == "its own server" or '" 101 ' in running.log()


def get(server: Any, target: str, **headers: str) -> tuple[int, str, str | None]:
    """Status, body and cookie."""
    request = urllib.request.Request(server.url(target, "http"), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=world.PATIENCE) as answer:
            return answer.status, answer.read().decode(), answer.headers["Set-Cookie"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), None


def headers_of(server: Any, case: Case) -> dict[str, str]:
    """What somebody who may connect brings along."""
    cookie = get(server, case.page)[2]
    return {**case.headers, **({"Cookie": cookie.partition(";")[0]} if cookie else {})}


def test_the_websocket_works(server: Any, case: Case) -> None:
    headers = headers_of(server, case)
    with world.Socket(server.url(case.chat), headers=headers, origin=server.url("", "http")) as ws:
        for message in ("hello", "x" * 100_000):
            ws.send(message)
            assert ws.recv(world.PATIENCE) == f"{case.says}: {message}"
        ws.close(4000, "enough")
        assert ws.wait_closed(world.PATIENCE)
        assert (ws.close_code, ws.close_reason) == (4000, "enough")


def test_who_is_not_known_is_kept_out_by_the_framework(server: Any, case: Case) -> None:
    target, status = case.refused
    with pytest.raises(HandshakeError) as caught:
        world.Socket(server.url(target))
    assert caught.value.status == status


def test_another_hosts_page_is_kept_out_by_syncws(server: Any, case: Case) -> None:
    headers = headers_of(server, case)
    with pytest.raises(HandshakeError) as caught:
        world.Socket(server.url(case.chat), headers=headers, origin="http://evil.example")
    assert caught.value.status == 403


def test_other_routes_go_on_beside_an_open_websocket(server: Any, case: Case) -> None:
    with world.Socket(server.url(case.chat), headers=headers_of(server, case)) as ws:
        status, body, _ = get(server, case.page)
        assert (status, body) in ((200, "a page\n"), (200, "welcome\n"))
        assert get(server, "/nowhere")[0] == 404
        ws.send("still")
        assert ws.recv(world.PATIENCE) == f"{case.says}: still"


def test_nothing_behind_the_close_is_taken_for_a_request(server: Any, case: Case) -> None:
    further = [f"{name}: {value}" for name, value in headers_of(server, case).items()]
    with connection(server) as sock:
        evil = b"GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        sock.sendall(head(*further, first=f"GET {case.chat} HTTP/1.1") + b"\x88\x80\0\0\0\0" + evil)
        answer = parse(read_to_end(sock))
    assert (answer.status, answer.body) == (101, b"\x88\x00")
    assert "/smuggled" not in server.log()
