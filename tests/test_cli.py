"""The command line's `serve` and `demo`, run as users run them; `connect` is in test_cli_connect."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import world
from command import Command, syncws
from world import HOME, PATIENCE

pytestmark = world.threads_only  # processes of their own, which no test mode reaches

SIGNALS = [signal.SIGINT, signal.SIGTERM]
KINDS = {
    "echo": [],
    "broadcast": ["--broadcast"],
    "greenlets": ["--gevent"],
    "both": ["--gevent", "--broadcast"],
}


@pytest.fixture(scope="module")
def echo_url():
    """A server of the command's own, for all tests that only talk to one."""
    with syncws("serve", "--port", 0, "--echo") as server:
        yield server.url()


def needs_its_world(kind):
    if "--gevent" in KINDS[kind]:
        pytest.importorskip("gevent")


def port_of(url):
    return int(re.search(r":(\d+)/", url)[1])


# -- serve -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_ends_quietly_when_it_is_told_to(kind, number):
    needs_its_world(kind)
    with syncws("serve", "--port", 0, *KINDS[kind]) as server:
        with world.Socket(server.url()) as ws:
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"
            server.signal(number)
            assert ws.wait_closed(PATIENCE)
            assert ws.close_code == 1001
        assert server.end() == (0, [], [])


def test_a_server_ends_although_a_client_does_not_answer():
    with syncws("serve", "--port", 0) as server, socket.socket() as sock:
        sock.connect(("127.0.0.1", port_of(server.url())))
        raw_handshake(sock)
        server.signal(signal.SIGINT)
        began = time.monotonic()
        assert server.end() == (0, [], [])
        assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--port", "TAKEN"], "cannot listen on 127.0.0.1:TAKEN: Address already in use"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1:8765: Cannot assign requested address"),
        (["--host", "nowhere.invalid"], "cannot listen on nowhere.invalid:8765: "),
        (["--max-payload", "-1"], "max_payload must be at least 0, not -1"),
        (["--cpu", "4095"], "cpu must be one of "),
        (["--ssl", "nocert.pem", "nokey.pem"], "certificate and key: nocert.pem: No such file or directory"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(echo_url, arguments, complaint):
    port = str(port_of(echo_url))
    with syncws("serve", *(text.replace("TAKEN", port) for text in arguments)) as server:
        status, said, complaints = server.end()
    assert (status, said, len(complaints)) == (1, [], 1)
    assert complaint.replace("TAKEN", port) in complaints[0]


@pytest.mark.parametrize(
    "arguments", [[], ["serve", "--port", "65536"], ["serve", "--echo", "--broadcast"], ["connect"]]
)
def test_wrong_arguments_are_explained(arguments):
    with syncws(*arguments) as command:
        status, said, complaints = command.end()
    assert (status, said) == (2, [])
    assert complaints[0].startswith("usage: syncws")


@pytest.mark.parametrize("kind", ["broadcast", "both"])
def test_a_broadcast_reaches_all_in_one_order(kind):
    needs_its_world(kind)
    with syncws("serve", "--port", 0, *KINDS[kind]) as server:
        url = server.url()
        sockets = [world.Socket(url) for _ in range(4)]
        for number, ws in enumerate(sockets):
            ws.send(f"{number}")
        heard = [[ws.recv(PATIENCE) for _ in sockets] for ws in sockets]
        assert sorted(heard[0]) == ["0", "1", "2", "3"]
        assert heard == [heard[0]] * len(sockets)
        for ws in sockets:
            ws.close(1000)
            assert ws.wait_closed(PATIENCE)


@pytest.mark.parametrize("kind", ["broadcast", "both"])
def test_a_client_that_does_not_read_does_not_stop_a_broadcast(kind):
    needs_its_world(kind)
    with syncws("serve", "--port", 0, *KINDS[kind]) as server:
        url = server.url()
        with socket.socket() as dead, world.Socket(url, compression=False) as ws:
            dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            dead.connect(("127.0.0.1", port_of(url)))
            raw_handshake(dead)
            message = b"x" * 1_000_000
            for _ in range(20):  # more than the system keeps for a reader who never comes
                ws.send(message)
                assert ws.recv(PATIENCE) == message


def raw_handshake(sock):
    """Open a connection on a plain socket, and then say nothing more."""
    lines = ["GET / HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    sock.settimeout(PATIENCE)
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    assert sock.recv(12) == b"HTTP/1.1 101"


def test_options_of_a_server_have_their_effect(authority, client_tls, tmp_path):
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    options = ["--compression", "--max-payload", 100, "--any-origin", "--cpu", min(os.sched_getaffinity(0))]
    with syncws("serve", "--port", 0, *options, "--ssl", *files) as server:
        url = server.url()
        assert url.startswith("wss://127.0.0.1:")
        with world.Socket(url, ssl=client_tls, origin="https://elsewhere.example") as ws:
            assert ws.extensions.startswith("permessage-deflate")
            ws.send("x" * 101)
            assert ws.wait_closed(PATIENCE)
            assert ws.close_code == 1009


# -- demo ------------------------------------------------------------------------------------------------


def test_the_tour_ends_well():
    hurrying = "import sys, syncws.cli, syncws.demo as demo; demo._PAUSE = 0.01; sys.exit(syncws.cli.main(['demo']))"
    with Command("-c", hurrying) as demo:
        status, said, complaints = demo.end()
    assert (status, complaints) == (0, [])
    text = "\n".join(said)
    for piece in ("recv() gave 'hello'", "ben's listener heard", "50 of 50", "close event: 4000", "saw 1001"):
        assert piece in text


def test_the_version_is_told():
    with syncws("--version") as command:
        status, said, _ = command.end()
    assert (status, len(said)) == (0, 1)
    assert re.fullmatch(r"syncws \d+\.\d+\.\d+\S* \((compiled|pure Python)\)", said[0])


def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "syncws", "demo"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=50,
            env={**os.environ, "PYTHONPATH": str(HOME)},
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == ["syncws: No space left on device"]


def test_a_server_with_a_full_output_says_so_and_serves():
    with open("/dev/full", "w") as full, Command("-m", "syncws", "serve", "--port", "0", stdout=full) as command:
        assert command.process.stderr.readline() == "syncws: cannot write to the output: No space left on device\n"
        assert command.process.poll() is None
        command.process.terminate()
        assert command.end()[0] == 0


def run_without(descriptor, *arguments, **outputs):
    """The command, to its end, with one of its standard streams closed."""
    return subprocess.run(
        [sys.executable, "-m", "syncws", *arguments],
        preexec_fn=lambda: os.close(descriptor),
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": str(HOME)},
        **outputs,
    )


def test_without_an_output_for_errors_they_do_not_go_to_the_other():
    ended = run_without(2, "connect", "ws://127.0.0.1:9/", "--json", stdout=subprocess.PIPE)
    assert json.loads(ended.stdout) == {"error": "cannot connect to ws://127.0.0.1:9/: Connection refused"}
    assert ended.returncode == 1


@pytest.mark.parametrize("command", ["demo", "--version", "connect ws://127.0.0.1:1/"])
def test_it_does_without_an_output(command):
    ended = run_without(1, *command.split(), stderr=subprocess.PIPE)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == ("connect" in command)
