"""docs/coming-from.md: what it names is there, its programs run, and theirs do the same where they are installed."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import socket
import subprocess
import sys
import threading

import debian
import pytest
import world
from command import ROOT

import syncws
from syncws.options import Options

pytest.importorskip("gevent")  # the tables name syncws.gevent, too
importlib.import_module("syncws.gevent")

pytestmark = world.threads_only  # about a document, and about programs in processes of their own

TEXT = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
SECTIONS = {section.partition("\n")[0].strip(): section for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}
TABLES = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| theirs")]
PLACES = {
    "ws": syncws.Socket,
    "server": syncws.Server,
    "message": syncws.Message,
    "request": syncws.Request,
    "syncws": syncws,
    "event": (syncws.MessageEvent, syncws.CloseEvent),
}
# Set by the instance, and so not on the class.
OF_INSTANCES = {"request.headers", "request.path", "request.environ", "message.stream", "event.response", "event.url"}


def programs(section):
    return re.findall(r"^```python\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


def at(program, port):
    assert "8765" in program
    return program.replace("8765", str(port))


def run(program):
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, cwd=world.HOME, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


def ours(line):
    return re.split(r"(?<!\\)\|", line)[2]


# -- the tables -----------------------------------------------------------------------------------------------------


def test_every_name_of_ours_is_there():
    missing = []
    named = re.findall(r"\b(ws|server|message|request|syncws|event)\.(?!py\b)(\w+)", " ".join(map(ours, TABLES)))
    assert len(named) > 50
    for place, name in named:
        kinds = PLACES[place] if isinstance(PLACES[place], tuple) else (PLACES[place],)
        there = any(hasattr(kind, name) for kind in kinds) or f"{place}.{name}" in OF_INSTANCES
        missing += [] if there else [f"{place}.{name}"]
    assert missing == []


@pytest.mark.parametrize("kind", ["Socket", "Server"])
def test_every_argument_of_ours_is_there(kind):
    told = set(re.findall(rf"\b{kind}\((\w+)=", " ".join(map(ours, TABLES))))
    known = {*inspect.signature(getattr(syncws, kind)).parameters, *inspect.signature(Options).parameters}
    assert len(told) > 10
    assert told <= known


def test_what_is_not_there_has_a_reason():
    without = [line for line in TABLES if "**no**" in ours(line)]
    assert len(without) > 5
    assert [line for line in without if len(line.split("|")[3].strip()) < 20] == []


def test_every_example_named_is_there():
    named = set(re.findall(r"`(\w+\.py)`", TEXT))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "examples" / name).is_file()] == []


# -- the programs ---------------------------------------------------------------------------------------------------


def test_the_one_for_ws_talks_to_itself():
    pair, _ = programs("From ws and fibjs")
    assert run(at(pair, debian.free_ports(1)[0])) == ["hello", "1000"]


def test_the_one_for_fibjs_serves_its_path():
    _, server = programs("From ws and fibjs")
    names = {}
    exec(server.replace("port=8765", "port=0"), names)
    with names["server"] as server, world.Socket(world.url_of(server, "/echo")) as ws:
        ws.send("hello")
        assert ws.recv(world.PATIENCE) == "hello"


@pytest.mark.parametrize("section", ["From websocket-client", "From websockets.sync"])
def test_theirs_and_ours_say_the_same(section):
    found = programs(section)
    assert len(found) in (2, 4)
    with world.serving() as server:
        for program in found:
            assert run(at(program, server.address()[1])) == ["hello"]


def test_the_one_for_flask_sock_is_a_route_of_flask():
    pytest.importorskip("flask")
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *arguments):
            pass

    _, program = programs("From simple-websocket and Flask-Sock")
    names = {"__name__": __name__}  # where Flask looks for the folder of the application
    exec(program, names)
    server = make_server("127.0.0.1", 0, names["app"], threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with world.Socket(f"ws://127.0.0.1:{server.port}/echo") as ws:
            ws.send("hello")
            assert ws.recv(world.PATIENCE) == "hello"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_one_for_gevent_websocket_is_an_application_of_pywsgi():
    pytest.importorskip("gevent")
    _, program = programs("From gevent-websocket")
    port = debian.free_ports(1)[0]
    command = [sys.executable, "-c", at(program, port)]
    with subprocess.Popen(command, cwd=world.HOME, stderr=subprocess.DEVNULL) as process:
        try:
            world.eventually(lambda: listens(port))
            with world.Socket(f"ws://127.0.0.1:{port}/") as ws:
                ws.send("hello")
                assert ws.recv(world.PATIENCE) == "hello"
        finally:
            process.kill()


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
