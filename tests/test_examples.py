"""The examples, run as they are, with each other and with a strict peer."""

from __future__ import annotations

import re
import signal
import ssl
from urllib.parse import urlsplit

import pytest
import world
from command import ROOT, Command, run, serving
from world import PATIENCE

pytestmark = world.threads_only  # processes of their own, which no test mode reaches

LINES = {"tcp_tunnel.py": 60}  # for the others 40
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def test_every_example_is_run_by_a_test():
    tests = ("test_examples.py", "test_examples_by_hand.py", "test_frameworks.py", "test_tunnel.py")
    own = "".join((ROOT / "tests" / name).read_text(encoding="utf-8") for name in tests)
    told = {f"{name}_chat.py" for name in re.findall(r'Case\("(\w+)"', own)} | set(re.findall(r'"(\w+\.py)"', own))
    assert not set(EXAMPLES) - told


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short(name):
    assert len((ROOT / "examples" / name).read_text(encoding="utf-8").splitlines()) < LINES.get(name, 40)


@pytest.mark.parametrize("server", ["echo_server.py", "gevent_server.py"])
def test_the_client_talks_to_the_server(server):
    if server.startswith("gevent"):
        pytest.importorskip("gevent")
    with serving(server) as url:
        status, said, complaints = run("client.py", url)
        assert said == [
            "text: hello",
            r"binary: b'\x00\x01\x02'",
            "fragments: one message in three fragments",
            "closed: 1000",
        ]
        assert (status, complaints) == (0, [])


def test_the_client_says_in_a_line_that_there_is_no_server():
    status, said, complaints = run("client.py", "ws://127.0.0.1:9/")
    assert (status, said, len(complaints)) == (1, [], 1)
    assert complaints[0].startswith("no connection")


def test_callbacks_count_to_three_and_close():
    with serving("echo_server.py") as url:
        status, said, complaints = run("callbacks.py", url)
        assert said == ["count: 1", "count: 2", "count: 3", "closed: 1000 that is all"]
        assert (status, complaints) == (0, [])


def test_callbacks_are_told_of_a_failure():
    status, said, _ = run("callbacks.py", "ws://127.0.0.1:9/")
    assert status == 1
    assert said[0].startswith("error: ")
    assert said[1].startswith("closed: 1006")


def test_the_one_that_comes_back_meets_two_servers_and_is_ended_by_ctrl_c():
    with Command(ROOT / "examples" / "echo_server.py", 0) as first:
        url = first.url()
        with Command(ROOT / "examples" / "reconnect.py", url) as client:
            assert [client.line(), client.line()] == ["connected", "text: hello"]
            first.process.kill()
            first.end()
            with Command(ROOT / "examples" / "echo_server.py", urlsplit(url).port):
                assert [client.line(), client.line()] == ["connected", "text: hello"]
                client.signal(signal.SIGINT)
                status, said, complaints = client.end()
    assert (status, said) == (0, ["done"])
    assert all("trying again in" in line for line in complaints)


def test_the_one_that_comes_back_does_not_if_that_would_not_help():
    with world.serving(origins=None, path="/there") as server:
        status, said, complaints = run("reconnect.py", world.url_of(server, "/elsewhere"))
    assert (status, said, len(complaints)) == (1, [], 1)
    assert complaints[0].startswith("trying again would not help: the server answered 400")


def test_in_the_chat_all_hear_what_one_says():
    with serving("chat_server.py") as url, world.Socket(f"{url}?name=anna") as anna:
        assert anna.recv(PATIENCE) == "* anna is here"
        with world.Socket(f"{url}?name=ben") as ben:
            assert anna.recv(PATIENCE) == ben.recv(PATIENCE) == "* ben is here"
            ben.send("hello")
            assert anna.recv(PATIENCE) == ben.recv(PATIENCE) == "ben: hello"
        assert anna.recv(PATIENCE) == "* ben is gone"


def test_in_a_room_all_hear_what_one_says_and_those_in_the_next_do_not():
    with serving("rooms.py") as url, world.Socket(f"{url}tea") as anna, world.Socket(f"{url}coffee") as carl:
        assert [anna.recv(PATIENCE), carl.recv(PATIENCE)] == ["* somebody came"] * 2
        with world.Socket(f"{url}tea") as ben:
            assert anna.recv(PATIENCE) == ben.recv(PATIENCE) == "* somebody came"
            ben.send("milk?")
            assert anna.recv(PATIENCE) == ben.recv(PATIENCE) == "milk?"
        carl.send("black")
        assert carl.recv(PATIENCE) == "black"


def test_the_greenlet_server_sends_while_it_receives():
    pytest.importorskip("gevent")
    with serving("gevent_server.py") as url:
        beats = world.Event()
        with world.Socket(url) as ws:
            ws.onping = lambda event: event.data == b"still here" and beats.set()
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"
            assert beats.wait(PATIENCE)


def test_the_tls_server_has_the_certificate_it_was_given(authority, client_tls, tmp_path):
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    with serving("tls_server.py", tmp_path / "cert.pem", tmp_path / "key.pem") as url:
        assert urlsplit(url).scheme == "wss"
        with world.Socket(url, ssl=client_tls) as ws:
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"
        with pytest.raises(ssl.SSLCertVerificationError):
            world.Socket(url)
