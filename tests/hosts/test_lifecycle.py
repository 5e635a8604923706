"""Hosts in other circumstances: other addresses, behind middleware, killed by their own master, by signals."""

from __future__ import annotations

import contextlib
import signal
import socket
import time

import pytest
import raw
import world
from launch import launched
from peer import CLOSE, TEXT, Peer, close_payload

import syncws

pytestmark = world.threads_only


@pytest.fixture
def start(tmp_path, certificate, client_tls):
    """Starts a host of the test's own; its log must tell of no failure."""
    hosts = []

    def start(name, **how):
        hosts.append(launched(name, tmp_path, certificate, client_tls, **how))
        return hosts[-1].ready()

    yield start
    for host in hosts:
        host.stop()


def exchange(sock):
    """A whole session over a connection."""
    peer = Peer(sock, client=True)
    sock.sendall(raw.head(first="GET /echo HTTP/1.1"))
    peer.head = peer.read_head()
    assert peer.head.startswith(b"HTTP/1.1 101 ")
    peer.send(TEXT, b"hello")
    assert peer.read().payload == b"hello"
    peer.send(CLOSE, close_payload(1000))
    peer.expect_close(1000, answer=False)
    peer.expect_end()


@pytest.mark.parametrize("name", ["gunicorn-gthread", "gunicorn-gevent"])
def test_a_unix_socket_will_do(start, tmp_path, name):
    path = f"{tmp_path}/s"
    host = start(name, further=("-b", f"unix:{path}"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(world.PATIENCE)
        sock.connect(path)
        exchange(sock)
    assert "Traceback" not in host.log()


@pytest.fixture
def ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


@pytest.mark.parametrize("name", ["gunicorn-gthread", "pywsgi", "cheroot", "cheroot+tls"])
def test_ipv6_will_do(start, ipv6, name):
    host = start(name, address="::1")
    with host.client("/echo") as ws:
        ws.send("hello")
        assert ws.recv(world.PATIENCE) == "hello"
    assert "Traceback" not in host.log()


def test_a_proxy_s_headers_say_who_the_client_is(start):
    """The way in which frameworks have it: middleware that changes the environ."""
    host = start("werkzeug", environment={"HOST_PROXIED": "1"})
    forwarded = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "public.example"}
    with host.client("/who", headers=forwarded, origin="https://public.example") as ws:
        assert ws.recv(world.PATIENCE) == "192.0.2.7 secure"
    with pytest.raises(syncws.HandshakeError, match="403"):
        host.client("/who", headers=forwarded, origin="http://127.0.0.1")


@pytest.mark.parametrize("name", ["gunicorn-sync", "waitress"])
def test_hosts_with_reservations_must_be_allowed(start, name):
    host = start(name, environment={"HOST_ALLOW": ""})
    for _ in range(2):
        with pytest.raises(syncws.HandshakeError, match="501"):
            host.client("/echo")
    assert host.get("/plain") == (200, b"plain")
    assert host.log().count("cannot take over the connection") == 1


def test_a_worker_s_master_that_kills_it_ends_the_connection_with_1001(start):
    """gunicorn's sync worker is told to exit after its time-out, in the middle of a recv()."""
    host = start("gunicorn-sync", further=("--timeout", "2"))
    with host.peer(raw.head(first="GET /wait HTTP/1.1")) as peer:
        peer.sock.settimeout(3 * world.PATIENCE)
        peer.expect_close(1001)
        peer.expect_end()
    world.eventually(lambda: host.get("/plain") == (200, b"plain"))


@pytest.mark.parametrize("name", ["gunicorn-gthread", "gunicorn-gevent"])
def test_gunicorn_s_time_out_is_not_for_workers_of_many(start, name):
    host = start(name, further=("--timeout", "1"))
    with host.client("/echo") as ws:
        time.sleep(2.5)  # it is about time
        ws.send("still here")
        assert ws.recv(world.PATIENCE) == "still here"


def test_requests_are_served_again_when_a_connection_leaves_its_thread(start):
    host = start("gunicorn-gthread", further=("--threads", "2"))
    clients = [host.client("/echo") for _ in range(2)]
    waiting = world.spawn(host.get, "/plain")
    clients[0].send("hello")
    assert clients[0].recv(world.PATIENCE) == "hello"
    assert not waiting.done
    for ws in clients:
        ws.close(1000)
        assert ws.wait_closed(world.PATIENCE)
    assert waiting.result() == (200, b"plain")


SIGNALS = ["http.server", "werkzeug", "cheroot", "pywsgi", "pywsgi-patched", "eventlet", "uwsgi"]


@pytest.mark.parametrize("name", SIGNALS)
def test_a_server_that_is_interrupted_writes_no_http_to_open_connections(start, name):
    """Ctrl-C: a Close, or nothing at all; not every server gets as far as to say something."""
    host = start(name)

    def interrupt():
        host.process.send_signal(signal.SIGINT)
        while name == "eventlet" and host.process.poll() is None:  # it waits for requests under way, until the second
            time.sleep(0.5)
            host.process.send_signal(signal.SIGINT)

    with host.peer(raw.head(first="GET /wait HTTP/1.1")) as peer:
        world.spawn(interrupt)
        peer.sock.settimeout(2 * world.PATIENCE)
        with contextlib.suppress(ConnectionError):
            frames = peer.read_all()
            assert [(got.opcode, got.code) for got in frames] in ([], [(CLOSE, 1001)])
