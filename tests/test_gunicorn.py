"""The end of gunicorn's workers: with the hook of syncws.gunicorn, and without."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import world
from peer import CLOSE, TEXT, Peer
from unicorn import ECHO, HOOK, Gunicorn

pytestmark = world.threads_only  # processes of their own, which no test mode reaches

each_worker = pytest.mark.parametrize("kind", ["gthread", "gevent"])
PROMPT = 3.0  # seconds on a busy machine; gevent's worker looks once a second, and without the hook it would be 30


def open_peers(server: Gunicorn, count: int = 3) -> list[Peer]:
    """Clients whose echo works, so that their sessions are under way."""
    peers = [Peer.connect(server) for _ in range(count)]
    for peer in peers:
        peer.send(TEXT, b"there?")
        assert peer.read().payload == b"there?"
    return peers


def expect_goodbye(peers: list[Peer], code: int = 1001) -> None:
    for peer in peers:
        peer.expect_close(code)
        peer.expect_end()
        peer.close()


@pytest.mark.parametrize("kind", ["gthread", "gevent", "gevent_pywsgi"])
def test_a_stop_says_1001_to_every_client_and_does_not_wait(kind: str, tmp_path: Path) -> None:
    with Gunicorn(tmp_path, HOOK, kind=kind) as server:
        peers = open_peers(server)
        began = time.monotonic()
        server.send(signal.SIGTERM)
        expect_goodbye(peers)
        assert server.process.wait(world.PATIENCE) == 0
        assert time.monotonic() - began < PROMPT
        assert "Traceback" not in server.log()
        assert "graceful timeout" not in server.log()


@each_worker
def test_a_reload_says_1001_and_the_new_worker_serves(kind: str, tmp_path: Path) -> None:
    with Gunicorn(tmp_path, HOOK, kind=kind) as server:
        peers = open_peers(server)
        (old,) = server.workers()
        began = time.monotonic()
        server.send(signal.SIGHUP)
        expect_goodbye(peers)
        world.eventually(lambda: old not in server.workers())
        assert time.monotonic() - began < PROMPT + 1  # for the start of the new one
        peers = open_peers(server)
        server.send(signal.SIGTERM)
        expect_goodbye(peers)
        assert server.process.wait(world.PATIENCE) == 0
        assert "Traceback" not in server.log()


@each_worker
def test_an_interrupt_says_1001_though_gunicorn_leaves_at_once(kind: str, tmp_path: Path) -> None:
    with Gunicorn(tmp_path, HOOK, kind=kind) as server:
        peers = open_peers(server)
        server.send(signal.SIGINT)
        expect_goodbye(peers)
        assert server.process.wait(world.PATIENCE) == 0


@each_worker
def test_a_worker_that_has_served_enough_says_1001(kind: str, tmp_path: Path) -> None:
    with Gunicorn(tmp_path, HOOK, "max_requests = 2", kind=kind) as server:
        (old,) = server.workers()
        peers = open_peers(server, 2)
        expect_goodbye(peers)
        world.eventually(lambda: old not in server.workers())


def test_a_client_that_does_not_answer_is_dropped_within_half_the_graceful_timeout(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, HOOK, "graceful_timeout = 2") as server:
        (peer,) = open_peers(server, 1)
        server.send(signal.SIGTERM)
        peer.expect_close(1001, answer=False)
        assert server.process.wait(world.PATIENCE) == 0
        peer.close()
        assert "Traceback" not in server.log()


LATE = ECHO.replace("@syncws", """
import time

def slowly(environ, start_response):
    if environ["QUERY_STRING"] == "late":
        open("arrived", "w").close()
        time.sleep(0.5)
    return at_once(environ, start_response)

at_once, application = application, slowly

@syncws""")


def test_who_comes_while_the_worker_ends_gets_1001_too(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, HOOK, application=LATE) as server:
        peers = open_peers(server, 1)
        late = world.spawn(Peer.connect, server, "/?late")
        world.eventually((tmp_path / "arrived").exists)
        server.send(signal.SIGTERM)
        expect_goodbye(peers)
        expect_goodbye([late.result()])
        assert server.process.wait(world.PATIENCE) == 0


@each_worker
def test_without_the_hook_clients_are_dropped_after_the_graceful_timeout(kind: str, tmp_path: Path) -> None:
    with Gunicorn(tmp_path, "graceful_timeout = 1", kind=kind) as server:
        (peer,) = open_peers(server, 1)
        began = time.monotonic()
        server.send(signal.SIGTERM)
        frames = peer.read_all()
        assert time.monotonic() - began > 0.9
        assert [frame.opcode for frame in frames] in ([], [CLOSE])
        peer.close()
        server.process.wait(world.PATIENCE)

