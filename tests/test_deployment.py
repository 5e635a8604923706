"""What docs/deployment.md says: nginx and HAProxy, by the files in examples/deploy, before gunicorn."""

from __future__ import annotations

import json
import random
import re
import signal
import ssl
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import world
from command import ROOT
from frontends import PROGRAMS, FrontEnd, need
from unicorn import Gunicorn

from syncws import HandshakeError

pytestmark = world.threads_only  # processes of their own, which no test mode reaches

APPLICATION = """
import json

import syncws

def application(environ, start_response):
    handler = ROUTES.get(environ["PATH_INFO"])
    if handler is not None:
        return handler(environ, start_response)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({key: environ.get(key) for key in ("wsgi.url_scheme", "HTTP_HOST", "HTTP_CONNECTION")}).encode()]

def echo(ws, request):
    for message in ws:
        ws.send(message)

@syncws.upgrade
def told(ws, request):
    names = ("Host", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-For")
    ws.send(json.dumps([request.secure, *(request.headers.get(name) for name in names)]))

@syncws.upgrade
def bye(ws, request):
    ws.close(4002, "bye")

ROUTES = {
    "/echo": syncws.upgrade(echo),
    "/alive": syncws.upgrade(echo, ping_interval=0.4),
    "/silent": syncws.upgrade(echo, ping_interval=None),
    "/told": told,
    "/bye": bye,
}
"""
each_scheme = pytest.mark.parametrize("scheme", ["ws", "wss"])
PAGE = {"ws": "http", "wss": "https"}


def documented_settings() -> str:
    """The configuration file of gunicorn's that the document has."""
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def certificate(authority: Any) -> Any:
    return authority.issue_cert("127.0.0.1", "localhost")


@pytest.fixture(scope="module", params=PROGRAMS)
def name(request: Any) -> str:
    need(request.param)
    return request.param


@pytest.fixture(scope="module", params=["gthread", "gevent"])
def backend(request: Any, tmp_path_factory: Any) -> Any:
    if request.param == "gevent":
        pytest.importorskip("gevent", reason="gevent is not here: the test extra has it")
    own = f"worker_class = {request.param!r}\nbind = '127.0.0.1:0'\nthreads = 20"
    folder = tmp_path_factory.mktemp(request.param)
    with Gunicorn(folder, documented_settings(), own, application=APPLICATION) as running:
        yield running
        assert "Traceback" not in running.log()


@pytest.fixture(scope="module")
def front(name: str, backend: Gunicorn, certificate: Any, tmp_path_factory: Any) -> Any:
    with FrontEnd(name, tmp_path_factory.mktemp(name), backend.port, certificate, {}) as running:
        yield running


@pytest.fixture
def connect(client_tls: ssl.SSLContext) -> Any:
    """`connect(front, target, scheme, …)`: a client, with TLS if the scheme says so."""
    return lambda front, target="/echo", scheme="ws", **options: world.Socket(
        front.url(target, scheme), ssl=client_tls if scheme == "wss" else None, **options
    )


@each_scheme
def test_messages_of_any_size_pass(front: FrontEnd, scheme: str, connect: Any) -> None:
    with connect(front, scheme=scheme, compression=False) as ws:
        for message in ("hello", random.Random(1).randbytes(5 << 20), ""):
            ws.send(message)
            assert ws.recv(world.PATIENCE) == message


@each_scheme
def test_the_application_learns_how_it_was_reached(front: FrontEnd, scheme: str, connect: Any) -> None:
    host = front.url("", scheme).partition("//")[2]
    with connect(front, "/told", scheme) as ws:
        told = json.loads(ws.recv(world.PATIENCE))
    assert told == [scheme == "wss", host, PAGE[scheme], host, "127.0.0.1"]


@each_scheme
def test_pages_of_the_same_host_get_in_and_others_do_not(front: FrontEnd, scheme: str, connect: Any) -> None:
    with connect(front, scheme=scheme, origin=front.url("", PAGE[scheme])) as ws:
        ws.send("in")
        assert ws.recv(world.PATIENCE) == "in"
    others = ["https://evil.example", "http://127.0.0.1:9"]
    others += [front.url("", "https").replace("https", "http")] if scheme == "wss" else []  # a clear page
    for origin in others:
        with pytest.raises(HandshakeError) as caught:
            connect(front, scheme=scheme, origin=origin)
        assert caught.value.status == 403


@each_scheme
def test_codes_and_reasons_pass_both_ways(front: FrontEnd, scheme: str, connect: Any) -> None:
    with connect(front, "/bye", scheme) as ws:
        assert ws.wait_closed(world.PATIENCE)
        assert (ws.close_code, ws.close_reason) == (4002, "bye")
    with connect(front, scheme=scheme) as ws:
        ws.close(4001, "enough")
        assert ws.wait_closed(world.PATIENCE)
        assert (ws.close_code, ws.close_reason) == (4001, "enough")


@each_scheme
def test_plain_requests_pass_beside_it(front: FrontEnd, scheme: str, connect: Any, client_tls: Any) -> None:
    with connect(front, scheme=scheme):
        url = front.url("/page", PAGE[scheme])
        with urllib.request.urlopen(url, timeout=world.PATIENCE, context=client_tls) as answer:
            told = json.load(answer)
    assert told["wsgi.url_scheme"] == PAGE[scheme]
    assert told["HTTP_HOST"] == front.url("", scheme).partition("//")[2]
    assert "upgrade" not in (told["HTTP_CONNECTION"] or "").lower()


def test_idle_connections_are_kept_by_our_pings_and_ended_without(
    name: str, backend: Gunicorn, certificate: Any, connect: Any, tmp_path: Path
) -> None:
    with (
        FrontEnd(name, tmp_path, backend.port, certificate, {"60s": "1500ms"}) as front,
        connect(front, "/alive", ping_interval=None) as alive,
        connect(front, "/silent", ping_interval=None) as silent,
    ):
        began = time.monotonic()
        assert silent.wait_closed(world.PATIENCE)
        assert silent.close_code == 1006
        assert time.monotonic() - began > 1.4
        alive.send("still")
        assert alive.recv(world.PATIENCE) == "still"


def test_nobody_behind_it_is_a_handshake_error_with_its_status(
    name: str, certificate: Any, connect: Any, tmp_path: Path
) -> None:
    with world.raw_listener() as free:
        nobody = free.getsockname()[1]
    with FrontEnd(name, tmp_path, nobody, certificate, {}) as front, pytest.raises(HandshakeError) as caught:
        connect(front)
    assert caught.value.status == front.program.down


def test_a_stop_of_the_worker_is_1001_at_the_client(
    name: str, certificate: Any, connect: Any, tmp_path: Path
) -> None:
    (tmp_path / "front").mkdir()
    with (
        Gunicorn(tmp_path, documented_settings(), "bind = '127.0.0.1:0'", application=APPLICATION) as backend,
        FrontEnd(name, tmp_path / "front", backend.port, certificate, {}) as front,
        connect(front, scheme="wss") as ws,
    ):
        ws.send("there?")
        assert ws.recv(world.PATIENCE) == "there?"
        backend.send(signal.SIGTERM)
        assert ws.wait_closed(world.PATIENCE)
        assert ws.close_code == 1001
        assert backend.process.wait(world.PATIENCE) == 0
