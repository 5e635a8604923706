"""Which world a process lives in, by what gevent has patched and when; each in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest
from program import run

pytest.importorskip("gevent")

EXCHANGE = """
import threading, time
def echo(ws, request):
    for message in ws:
        ws.send(message)
with Server(echo, host="127.0.0.1", port=0) as server:
    with Socket(f"ws://127.0.0.1:{server.address()[1]}/") as ws:
        ws.send("hello")
        print(ws.recv(timeout=5), ws._runtime.name, flush=True)
"""
PATCH = "import gevent.monkey; gevent.monkey.patch_all({})\n"
IMPORT = "from syncws import Server, Socket\n"
NATIVE = "import gevent\n" + IMPORT
GREEN = "from syncws.gevent import Server, Socket\n"
KEPT_CONTEXT = """
import ssl, socket
context = ssl.create_default_context()
import gevent.monkey; gevent.monkey.patch_all()
from syncws import Socket, Server
with socket.create_server(("127.0.0.1", 0)) as listener:
    try:
        Socket(f"wss://127.0.0.1:{listener.getsockname()[1]}/", ssl=context, handshake_timeout=0.1)
    except TimeoutError:
        print("in use")
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (IMPORT + EXCHANGE, "hello threads"),
        (NATIVE + EXCHANGE, "hello threads"),
        (GREEN + EXCHANGE, "hello gevent"),
        (PATCH.format("") + IMPORT + EXCHANGE, "hello gevent"),
        (IMPORT + PATCH.format("") + EXCHANGE, "hello gevent"),
        (GREEN + PATCH.format("") + EXCHANGE, "hello gevent"),
        (PATCH.format("") + GREEN + EXCHANGE, "hello gevent"),
        (PATCH.format("thread=False") + GREEN + EXCHANGE, "hello gevent"),
        (PATCH.format("socket=False, dns=False") + GREEN + EXCHANGE, "hello gevent"),
        (PATCH.format("ssl=False") + IMPORT + EXCHANGE, "hello gevent"),
        (PATCH.format("queue=False") + IMPORT + EXCHANGE, "hello gevent"),
        (KEPT_CONTEXT, "in use"),
    ],
)
def test_the_exchange_works_whatever_is_patched_and_when(source: str, said: str) -> None:
    assert run(source) == (0, said, "")


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize(
    ("left_out", "names"),
    [("thread=False", ("'socket'", "'threading'")), ("socket=False, dns=False", ("'threading'", "'socket'"))],
)
@pytest.mark.parametrize("use", ["Socket('ws://127.0.0.1:1/')", "Server(port=0)"])
def test_half_patched_is_refused_with_what_to_do(order: str, left_out: str, names: Any, use: str) -> None:
    parts = [PATCH.format(left_out), IMPORT]
    status, _, complaint = run("".join(parts if order == "before" else parts[::-1]) + use)
    last = complaint.strip().splitlines()[-1]
    assert status == 1 and last.startswith("RuntimeError: ")
    assert last.index(names[0]) < last.index("but not " + names[1])
    assert "patch_all()" in last and "syncws.gevent" in last


def test_importing_syncws_does_not_import_gevent() -> None:
    assert run("import syncws, sys; print('gevent' in sys.modules)") == (0, "False", "")


