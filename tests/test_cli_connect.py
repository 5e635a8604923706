"""The command line's `connect`, run as users run it: in a pipe, and at a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import time

import pytest
import world
from command import syncws
from peer import Peer
from world import PATIENCE

pytestmark = world.threads_only  # processes of their own, which no test mode reaches


@pytest.fixture(scope="module")
def echo_url():
    """A server of the command's own, for all tests that only talk to one."""
    with syncws("serve", "--port", 0, "--echo") as server:
        yield server.url()


def connect(*arguments, text=""):
    """Status, lines on stdout, lines on stderr."""
    with syncws("connect", *arguments) as command:
        return command.end(text)


def test_lines_go_out_and_messages_come_in(echo_url):
    assert connect(echo_url, text="hello\ngrüß dich\n\r\nno end of line") == (
        0,
        ["hello", "grüß dich", "", "no end of line"],
        [],
    )


def test_text_is_sent_instead_of_the_input(echo_url):
    assert connect(echo_url, "--text", "one", "two", "--text", "three") == (0, ["one", "two", "three"], [])


def test_what_is_not_understood_is_told_in_json_too():
    status, said, complaints = connect("ws://127.0.0.1/", "--timeout", "soon", "--json")
    assert status == 2
    message = json.loads(said[-1])["error"]
    assert message == "argument --timeout: expected a number of seconds, more than 0"
    assert complaints[-1].endswith(message)


def test_how_it_ended_is_told_in_json(echo_url):
    status, said, complaints = connect(echo_url, "--json", "--text", "hello")
    assert (status, said[:-1], complaints) == (0, ["hello"], [])
    assert json.loads(said[-1]) == {"code": 1000, "reason": "", "clean": True}


@pytest.mark.parametrize(
    "url, complaint",
    [
        ("ftp://127.0.0.1/", "the scheme must be ws, wss, http, https or ws+unix, not 'ftp'"),
        ("ws://", "expected a host"),
        ("ws://127.0.0.1/#here", "a WebSocket URL has no fragment"),
        ("ws://127.0.0.1:9/", "cannot connect to ws://127.0.0.1:9/: Connection refused"),
        ("ws://user:secret@127.0.0.1:9/", "cannot connect to ws://127.0.0.1:9/: Connection refused"),
        ("ws+unix:/nowhere/at/all:/", "No such file or directory"),
    ],
)
def test_what_cannot_be_connected_is_said_in_one_line_and_in_json(url, complaint):
    status, said, complaints = connect(url, "--json", text="hello\n")
    assert (status, len(said), len(complaints)) == (1, 1, 1)
    assert complaints[0].startswith("syncws: ")
    assert complaint in complaints[0]
    assert json.loads(said[0]) == {"error": complaints[0].removeprefix("syncws: ")}


def test_a_proxy_that_cannot_be_reached_is_named(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://u:secret@127.0.0.1:9")
    status, _, complaints = connect("ws://server.example/", "--text", "a")
    expected = "cannot connect to ws://server.example/: the proxy http://127.0.0.1:9: Connection refused"
    assert (status, complaints) == (1, [f"syncws: {expected}"])


def test_a_url_of_other_bytes_is_said_in_one_line():
    status, _, complaints = connect("ws://127.0.0.1/\udcff", "--text", "a")
    assert (status, complaints) == (1, ["syncws: the input is not UTF-8"])


@pytest.mark.parametrize("header, complaint", [("nonsense", "'Name: value'"), ("A b: c", "must be a token")])
def test_a_bad_header_is_said_in_one_line(echo_url, header, complaint):
    status, said, complaints = connect(echo_url, "--header", header, text="hello\n")
    assert (status, said, len(complaints)) == (1, [], 1)
    assert complaint in complaints[0]


def test_a_refusal_is_told_with_its_reason(echo_url):
    status, said, complaints = connect(echo_url, "--header", "Origin: http://elsewhere.example")
    assert (status, said) == (1, [])
    assert complaints == ["syncws: the server answered 403 'Forbidden', not 101: this origin is not allowed"]


def test_headers_and_subprotocols_are_sent():
    seen = []

    def accept(ws, request):
        seen.append((request.headers.get_all("X-One"), ws.protocol))
        ws.close(1000)

    with world.serving(accept, protocols=["b", "a"]) as server:
        headers = ["--header", "X-One: 1", "--header", "x-one:2"]
        offers = ["--subprotocol", "a", "--subprotocol", "b"]
        assert connect(world.url_of(server), *headers, *offers) == (0, [], [])
    assert seen == [(["1", "2"], "b")]


@pytest.mark.parametrize(
    "code, status, complaints",
    [
        (1000, 0, []),
        (1001, 0, []),
        (None, 0, []),
        (1011, 1, ["syncws: closed with 1011 (internal error): 'so \\x1b[31mlong'"]),
        (4000, 1, ["syncws: closed with 4000: 'so \\x1b[31mlong'"]),
    ],
)
def test_the_server_may_end_it_while_the_input_goes_on(code, status, complaints):
    reason = "" if code is None else "so \x1b[31mlong"

    def accept(ws, request):
        ws.send("welcome")
        ws.close(code, reason)

    with world.serving(accept) as server, syncws("connect", world.url_of(server), "--json") as client:
        assert client.line() == "welcome"
        ending = json.loads(client.line())
        assert client.process.wait(PATIENCE) == status
        assert client.process.stderr.read().splitlines() == complaints
    assert ending == {"code": code or 1005, "reason": reason, "clean": True}


def test_a_server_that_goes_without_a_close_is_an_error():
    def accept(ws, request):
        ws.terminate()

    with world.serving(accept) as server:
        status, said, complaints = connect(world.url_of(server), "--json")
    assert status == 1
    assert complaints == ["syncws: closed with 1006 (no Close frame came)"]
    assert json.loads(said[-1]) == {"code": 1006, "reason": "", "clean": False}


def test_a_server_that_breaks_the_protocol_is_named():
    listener = world.raw_listener()
    host, port = listener.getsockname()
    with listener, syncws("connect", f"ws://{host}:{port}/", "--json") as client:
        with Peer.accept(listener) as server:
            server.send_raw(b"\x83\x00")
            server.expect_close(1002)
        status, said, complaints = client.end()
    assert status == 1
    assert complaints == ["syncws: the server broke the protocol: expected an opcode of 0-2 or 8-10, got 3"]
    assert json.loads(said[-1]) == {"code": 1006, "reason": "", "clean": False}


def test_no_control_character_of_the_server_reaches_the_terminal():
    evil = "".join(map(chr, (*range(32), *range(127, 160), 0x2028, 0x202E, 0x2066))) + " \\ ä €"

    def accept(ws, request):
        ws.send(evil)
        ws.close(4000, evil[:20])

    with world.serving(accept) as server:
        _, said, complaints = connect(world.url_of(server), "--json")
    assert len(said) == 2
    assert said[0].endswith(" \\ ä €")
    assert not [character for line in said + complaints for character in line if not character.isprintable()]


def test_binary_messages_are_shown_by_size_and_beginning():
    def accept(ws, request):
        ws.send(b"\x00\x1b\xff")
        ws.send(bytes(100))
        ws.close(1000)

    with world.serving(accept) as server:
        status, said, _ = connect(world.url_of(server))
    assert status == 0
    assert said == ["<binary, 3 bytes: 00 1b ff>", f"<binary, 100 bytes: {bytes(32).hex(' ')} …>"]


def test_replies_are_waited_for_no_longer_than_said():
    with world.serving(lambda ws, request: [None for _ in ws]) as server:
        began = time.monotonic()
        status, said, _ = connect(world.url_of(server), "--text", "anybody there?", "--timeout", 1)
        assert 1 <= time.monotonic() - began < PATIENCE
    assert (status, said) == (0, [])


def test_a_server_that_never_answers_the_handshake_is_given_up():
    with world.raw_listener() as listener:
        host, port = listener.getsockname()
        status, said, complaints = connect(f"ws://{host}:{port}/", "--timeout", 0.3, "--json")
    assert (status, len(complaints)) == (1, 1)
    assert "was not open within 0.3 s" in complaints[0]
    assert "error" in json.loads(said[-1])


def test_input_that_is_not_text_is_refused(echo_url, tmp_path):
    path = tmp_path / "latin-1"
    path.write_bytes(b"gr\xfc\xdf dich\n")
    with path.open("rb") as file, syncws("connect", echo_url, "--json", stdin=file) as client:
        status, said, complaints = client.end()
    assert (status, complaints) == (1, ["syncws: the input is not UTF-8"])
    assert json.loads(said[-1]) == {"error": "the input is not UTF-8"}


def test_lines_before_one_that_is_not_text_are_sent(echo_url):
    with syncws("connect", echo_url) as client:
        client.process.stdin.buffer.write(b"one\ntwo \xe2\x82\xac\n\xff\nthree\n")
        client.process.stdin.buffer.flush()
        status, said, complaints = client.end()
    assert (status, complaints) == (1, ["syncws: the input is not UTF-8"])
    assert said == ["one", "two €"]


def test_ctrl_c_closes_cleanly():
    codes = []

    def accept(ws, request):
        ws.send("welcome")
        ws.wait_closed(PATIENCE)
        codes.append(ws.close_code)

    with world.serving(accept) as server, syncws("connect", world.url_of(server), "--json") as client:
        assert client.line() == "welcome"
        client.signal(signal.SIGINT)
        assert json.loads(client.line())["code"] == 1000
        assert client.process.wait(PATIENCE) == 130
        assert client.process.stderr.read() == ""
        world.eventually(lambda: codes == [1000])


def test_a_reader_of_the_output_may_leave(echo_url):
    reading, writing = os.pipe()
    with syncws("connect", echo_url, stdout=writing) as client:
        os.close(writing)
        client.tell("hello\n")
        with os.fdopen(reading, encoding="utf-8") as output:
            assert output.readline() == "hello\n"
        client.tell("anybody there?\n")
        assert client.end() == (1, [], [])


# -- connect, at a terminal ------------------------------------------------------------------------------


class Terminal:
    """`connect` with a person in front of it."""

    def __init__(self, url, *arguments, **environment):
        self.screen = ""
        self._own, theirs = pty.openpty()
        environment = {"TERM": "xterm", **environment}
        self._command = syncws("connect", url, *arguments, stdin=theirs, stdout=theirs, **environment)
        os.close(theirs)

    def until(self, text):
        while text not in self.screen:
            try:
                data = os.read(self._own, 4096)
            except OSError:
                data = b""
            assert data, self.screen
            self.screen += data.decode()

    def type(self, text):
        os.write(self._own, text.encode())

    def press_ctrl_c(self):
        """As often as it takes: input() misses one that comes between its prompt and its waiting."""
        ended = False
        while not ended:
            self._command.signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._command.process.wait(0.7)
                ended = True

    def type_end(self):
        """Ctrl-D; a terminal that is just changing its mode may swallow one."""
        world.eventually(lambda: self.type("\x04") or self._command.process.poll() is not None)

    def end(self):
        return self._command.end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._command.__exit__()
        os.close(self._own)


def test_a_person_types_and_reads(echo_url):
    with Terminal(echo_url) as terminal:
        terminal.until("> ")
        terminal.type("hello\n")
        terminal.until("< \x1b[36mhello\x1b[0m")
        terminal.type("/ping\n")
        terminal.until("\x1b[2mpong after ")
        terminal.type_end()
        assert terminal.end() == (0, [], [])


def test_what_was_typed_before_comes_back(echo_url):
    pytest.importorskip("readline")
    with Terminal(echo_url) as terminal:
        terminal.until("> ")
        terminal.type("first\n")
        terminal.until("mfirst\x1b[0m")
        terminal.type("second\n")
        terminal.until("msecond\x1b[0m")
        terminal.screen = ""
        terminal.type("\x1b[A\x1b[A\n")  # the arrow up, twice
        terminal.until("mfirst\x1b[0m")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids="=".join)
def test_who_wants_no_colours_gets_none(echo_url, environment):
    with Terminal(echo_url, **environment) as terminal:
        terminal.until("> ")
        terminal.type("hello\n")
        terminal.until("< hello")
        terminal.type_end()
        assert terminal.end() == (0, [], [])
    assert "m\x1b" not in terminal.screen
    assert "\x1b[2m" not in terminal.screen


@pytest.mark.parametrize("line, status", [("/close 4001 enough\n", 1), ("/close\n", 0)])
def test_a_person_closes(echo_url, line, status):
    with Terminal(echo_url) as terminal:
        terminal.until("> ")
        terminal.type(line)
        assert terminal.end()[0] == status


def test_a_person_presses_ctrl_c(echo_url):
    with Terminal(echo_url, "--json") as terminal:
        terminal.until("> ")
        terminal.press_ctrl_c()
        assert terminal.end() == (0, [], [])
        terminal.until('{"code": 1000')


def test_the_end_reaches_the_person_at_the_prompt():
    def accept(ws, request):
        ws.send("\x1b[31mred")
        ws.close(4000, "enough")

    with world.serving(accept) as server, Terminal(world.url_of(server)) as terminal:
        terminal.until(r"\x1b[31mred")
        assert terminal.end() == (1, [], ["syncws: closed with 4000: 'enough'"])
    assert "\x1b[31m" not in terminal.screen
