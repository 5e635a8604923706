"""The command line's `bench` and `demo --port`, run as users run them."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import time

import pytest
import world
from command import syncws
from world import PATIENCE

from syncws import bench
from syncws.cli import main

pytestmark = world.threads_only  # processes of their own, which no test mode reaches

BRIEF = ("--seconds", "0.3", "--connections", "3")


def run(*arguments):
    with syncws("bench", *arguments) as command:
        return command.end()


def measured(*arguments):
    status, said, complaints = run(*arguments, "--json")
    return status, json.loads(said[-1]), complaints


def test_without_a_url_it_measures_a_server_of_its_own():
    status, result, complaints = measured(*BRIEF)
    assert (status, complaints, result["problems"]) == (0, [], [])
    assert result["connections"] == 3
    assert 0.29 < result["seconds"] < PATIENCE
    assert result["messages"] > 10
    assert result["rate"] == pytest.approx(result["messages"] / result["seconds"], rel=0.02)
    latency = result["latency_ms"]
    assert list(latency) == ["p50", "p90", "p99", "p99.9", "max"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"] * 1.01


@pytest.mark.parametrize("how", [("--binary",), ("--size", "0"), ("--size", "100000"), ("--compression",)])
def test_a_message_is_of_the_kind_that_is_asked_for(how):
    seen = set()

    def echo(ws, request):
        for message in ws:
            seen.add((type(message), len(message), ws.extensions != ""))
            ws.send(message)

    with world.serving(echo, compression=True) as server:
        status, _, complaints = measured("--url", world.url_of(server), *BRIEF, *how)
    assert (status, complaints) == (0, [])
    size = int(how[1]) if how[0] == "--size" else 32
    assert seen == {(bytes if how == ("--binary",) else str, size, how == ("--compression",))}


def test_a_rate_is_kept():
    status, result, _ = measured("--seconds", "1", "--connections", "4", "--rate", "40")
    assert status == 0
    assert 20 <= result["messages"] <= 45


def test_answers_that_are_none_are_a_problem():
    def answer(ws, request):
        for _ in ws:
            ws.send("something else")

    with world.serving(answer) as server:
        status, said, complaints = run("--url", world.url_of(server), *BRIEF)
    assert status == 1
    assert len(said) == 3
    assert complaints[0].endswith(" answers were not what was sent")


def test_connections_that_end_are_a_problem_and_the_others_go_on():
    unlucky = {}

    def echo(ws, request):
        for number, message in enumerate(ws):
            if unlucky.setdefault("one", ws) is ws and number == 5:
                return
            ws.send(message)

    with world.serving(echo) as server:
        status, result, complaints = measured("--url", world.url_of(server), *BRIEF)
    assert status == 1
    assert complaints[0].startswith("syncws: 1 of 3 connections failed: ")
    assert result["problems"] == [complaints[0].removeprefix("syncws: ")]
    assert result["messages"] > 10


@pytest.mark.parametrize("url", ["REFUSED", "nonsense"])
def test_a_server_that_is_not_there_is_said_at_once(url):
    with world.raw_listener() as listener:
        refused = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    began = time.monotonic()
    status, said, complaints = run("--url", refused if url == "REFUSED" else url, "--seconds", "60")
    assert time.monotonic() - began < PATIENCE
    assert status == 1
    assert complaints[0].startswith("syncws: 10 of 10 connections failed: ")
    assert said[1] == "messages: 0 in 0.0 s, 0 per second"


def test_ctrl_c_ends_it_with_what_was_measured():
    served = world.Event()

    def echo(ws, request):
        served.set()
        world.echo(ws, request)

    with world.serving(echo) as server, syncws("bench", "--url", world.url_of(server), "--seconds", "100") as command:
        assert served.wait(PATIENCE)
        time.sleep(0.3)  # a little is measured
        command.signal(signal.SIGINT)
        status, said, complaints = command.end()
    assert (status, complaints) == (0, [])
    assert int(said[1].split()[1]) > 0


def test_on_a_terminal_one_sees_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(bench, "_is_watched", lambda: True)
    with world.serving() as server:
        assert main(["bench", "--url", world.url_of(server), *BRIEF]) == 0
    said, seen = capsys.readouterr()
    assert "messages: " in said
    assert "\r[" in seen
    assert "of 0.3 s" in seen
    assert seen.endswith("\r\x1b[K")


@pytest.mark.parametrize(
    "arguments",
    [("--connections", "0"), ("--connections", "x"), ("--seconds", "0"), ("--seconds", "nan"), ("--size", "-1"),
     ("--rate", "-1")],
)  # fmt: skip
def test_a_bad_number_is_refused(arguments):
    status, said, complaints = run(*arguments)
    assert (status, said) == (2, [])
    assert "expected a " in complaints[-1]


# -- demo --port -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def playground():
    with syncws("demo", "--port", 0) as command:
        line = command.line()
        assert line.startswith("listening on http://127.0.0.1:")
        address = line.removeprefix("listening on http://").rstrip("/")
        yield command, address


def get(address, path):
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read()


def test_there_is_a_page_and_its_chat_and_its_echo():
    with playground() as (command, address):
        status, kind, page = get(address, "/?x")
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert b"</script>" in page
        assert get(address, "/elsewhere")[0] == 404
        with (
            world.Socket(f"ws://{address}/chat") as anna,
            world.Socket(f"ws://{address}/chat") as ben,
            world.Socket(f"ws://{address}/echo", origin=f"http://{address}") as echo,
        ):
            anna.send("anna: hello")
            assert anna.recv(PATIENCE) == ben.recv(PATIENCE) == "anna: hello"
            echo.send("just me")
            assert echo.recv(PATIENCE) == "just me"
            with pytest.raises(TimeoutError):
                echo.recv(0.1)
        command.signal(signal.SIGINT)
        assert command.end() == (0, [], [])


def test_a_port_that_is_taken_is_said():
    with world.raw_listener() as listener, syncws("demo", "--port", listener.getsockname()[1]) as command:
        status, said, complaints = command.end()
    assert (status, said) == (1, [])
    assert complaints[0].endswith("Address already in use")
