"""One server of each kind, started once; the next ones start while one is tested."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
pytest.register_assert_rewrite("launch")

import uwsgi_program  # noqa: E402
import world  # noqa: E402
from launch import MATRIX, Host, available  # noqa: E402

_AHEAD = 3


def pytest_itemcollected(item: pytest.Item) -> None:
    """Whoever comes first waits until uWSGI is built, which takes minutes on a busy machine."""
    case = getattr(item, "callspec", None)
    if case is not None and "uwsgi" in case.params.values():
        item.add_marker(pytest.mark.timeout(uwsgi_program.BUILD + 60))


class Fleet:
    """Servers by name; started in the order of the matrix, some before they are asked for."""

    def __init__(self, folder: Path, certificate: Path, trust: Any) -> None:
        uwsgi_program.begin()
        self.arguments = folder, certificate, trust
        self._started: dict[str, Host] = {}

    def get(self, name: str) -> Host:
        position = MATRIX.index(name)
        for wanted in MATRIX[position : position + _AHEAD]:
            if wanted in self._started or (wanted != name and wanted == "uwsgi"):  # may be at work on it still
                continue
            if why := available(wanted):
                if wanted == name:
                    pytest.skip(why)
                continue
            self._started[wanted] = Host(wanted, *self.arguments)
        return self._started[name]

    def stop(self) -> None:
        for host in self._started.values():
            host.stop()


@pytest.fixture(scope="session")
def certificate(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key and the certificates of a server, in one file."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
    path.write_bytes(b"".join(pem.bytes() for pem in (issued.private_key_pem, *issued.cert_chain_pems)))
    return path


@pytest.fixture(scope="session")
def fleet(certificate: Path, client_tls: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("hosts"), certificate, client_tls)
    yield fleet
    fleet.stop()


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Any]:
    """The server that it is about, and a client that has been idle since it was started."""
    host = fleet.get(request.param).ready()
    host.idler = host.client("/echo") if host.kind.crowd else None
    host.idler_since = time.monotonic()
    yield host
    if host.idler is not None:
        host.idler.terminate()
    host.stop()


@pytest.fixture
def host(running: Any) -> Iterator[Any]:
    """The same; afterwards nobody is left in it, and its log tells of no failure but `host.failures`."""
    running.failures, running.doomed = 0, False
    yield running
    if running.doomed:
        return
    idle = int(running.idler is not None and running.idler.readyState == 1)
    world.eventually(lambda: running.state()["sessions"] == idle)
    news = running.news()
    assert news.count("Traceback (most recent call last)") == running.failures, news
    assert '" 500 ' not in news, news
    assert not running.state()["evil"]
