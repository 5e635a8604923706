"""The documents: programs in them run, links lead somewhere, and what they list is what there is."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys

import pytest
import world
from command import ROOT

import syncws
from syncws.options import Options

pytestmark = world.threads_only  # about files, and about programs in processes of their own

DOCUMENTS = {path.name: path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)")


def text_of(name):
    return DOCUMENTS[name].read_text(encoding="utf-8")


def programs(name):
    return PROGRAM.findall(text_of(name))


def run(program):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=world.HOME, capture_output=True, text=True, timeout=30
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_programs_can_be_parsed(name):
    for program in programs(name):
        ast.parse(program)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for path, anchor in LINK.findall(text_of(name)):
        target = (DOCUMENTS[name].parent / path) if path else DOCUMENTS[name]
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}


def test_the_clients_of_the_readme_run():
    def accept(ws, request):
        ws.send(ws.recv(world.PATIENCE))
        ws.close(4000, "enough")

    blocking, listening, _ = programs("README.md")
    with world.serving(accept) as server:
        assert run(blocking.replace("ws://127.0.0.1:8765/", world.url_of(server))) == ["hello"]
        said = run(listening.replace("ws://127.0.0.1:8765/", world.url_of(server)))
        assert said == ["hello", "4000 enough"]


@pytest.mark.parametrize("name, number", [("README.md", 2), ("quickstart.md", 0), ("server.md", 0)])
def test_the_servers_run(name, number):
    program = programs(name)[number].replace("port=8765", "port=0")
    program = program.replace("server.serve_forever()", "print(server.address()[1])")
    assert program.count("port=0") == 1
    assert run(program)[0].isdigit()


def test_the_clients_of_the_quickstart_run_with_its_server():
    def accept(ws, request):  # as in the first program there
        ws.send(f"welcome to {request.path}")
        for message in ws:
            ws.send(message)

    _, blocking, listening = programs("quickstart.md")
    with world.serving(accept) as server:
        url = world.url_of(server, "/hall")
        assert run(blocking.replace("ws://127.0.0.1:8765/hall", url)) == ["welcome to /hall", "hello"]
        said = run(listening.replace("ws://127.0.0.1:8765/hall", url))
        assert said == ["welcome to /hall", "bye", "1000  True"]


def test_the_message_of_its_page_runs():
    assert run(programs("messages-and-streams.md")[1]) == ["True grüße"]


def test_the_table_of_modules_is_complete_and_right():
    section = text_of("design.md").partition("\n## Modules\n")[2].partition("\n## ")[0]
    told = {}
    for rank, modules in re.findall(r"^\| (\d) \| (.*?) \|", section, re.MULTILINE):
        told.update(dict.fromkeys(re.findall(r"`(\w+)`", modules), rank))
    found = {}
    for path in (ROOT / "syncws").glob("*.py"):
        if not path.stem.startswith("__"):
            found[path.stem] = re.search(r"\bRank (\d)\b", path.read_text(encoding="utf-8"))[1]
    assert told == found


def test_the_limits_told_are_the_defaults():
    units = {"MiB": 1 << 20, "KiB": 1 << 10}
    told = {}
    for name, value in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text_of("limits.md"), re.MULTILINE):
        number, _, unit = value.partition(" ")
        told[name] = None if value == "None" else int(number) * units.get(unit, 1)
    signature = inspect.signature(syncws.Server).parameters
    real = {name: getattr(Options, name, None) for name in told if hasattr(Options, name)}
    real |= {name: signature[name].default for name in told if name in signature}
    assert told == real
    assert {"max_payload", "max_queue", "close_timeout", "max_header_size"} <= set(told)


@pytest.mark.parametrize("name, kind", [("client.md", syncws.Socket), ("server.md", syncws.Server)])
def test_every_argument_is_told(name, kind):
    text = text_of(name) + text_of("limits.md")
    arguments = [*inspect.signature(kind).parameters, *inspect.signature(Options).parameters]
    missing = [name for name in arguments if not re.search(rf"\b{name}\b", text)]
    assert set(missing) <= {"url", "options", "generate_mask"}


def test_every_public_name_is_told():
    text = "".join(map(text_of, DOCUMENTS))
    others = {"BINARY", "CLOSE", "CONTINUE", "PING", "PONG", "TEXT", "__version__"}
    assert not [name for name in set(syncws.__all__) - others if not re.search(rf"\b{name}\b", text)]
