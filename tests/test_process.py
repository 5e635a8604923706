"""The process around the connections: Ctrl-C, its exit, fork. Each in a process of its own."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import world
from peer import TEXT, Peer
from program import Program, run
from world import eventually, spawn

LIMIT = 2.0  # seconds from the signal, or from the end of the program, to the end of the process
TRIES = 3  # a busy machine may be slow, but not each time

CLIENT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
ws = world.Socket("ws://127.0.0.1:%s/" % sys.argv[1])
try:
    say("ready")
    {body}
except KeyboardInterrupt:
    say("interrupted")
finally:
    ws.terminate()
"""
WAITS = {
    "recv": "ws.recv()",
    "recv with a timeout": "ws.recv(60)",
    "iteration": "list(ws)",
    "recv_stream": "list(ws.recv_stream())",
    "wait_closed": "ws.wait_closed()",
    "wait_closed with a listener": "ws.onmessage = print; ws.wait_closed()",
    "send": "ws.send(bytes(50_000_000), compress=False)",
    "with": "\n    with ws: ws.recv()",
    "with, while sending": "\n    with ws: ws.send(bytes(50_000_000), compress=False)",
    "with, while it ends": "\n    with ws: pass",
    "a file": "ws.makefile('rb').read()",
    "the opening handshake": """
    with world.raw_listener() as silent:
        world.Socket("ws://127.0.0.1:%s/" % silent.getsockname()[1], handshake_timeout=None)
""",
}


def asleep(program: Program) -> bool:
    stat = Path(f"/proc/{program._process.pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0] == "S"


def quick(scenario: Any) -> None:
    """The scenario answers how long it took."""
    took = []
    for _ in range(TRIES):
        took.append(scenario())
        if took[-1] < LIMIT:
            return
    raise AssertionError(f"it took {took} seconds")


def complaints(text: str) -> list[str]:
    """What is on standard error, other than the lines gevent's hub writes about the signal."""
    hub = ("KeyboardInterrupt", "Traceback", "  File ", "    ", "20") if world.GREEN else ()
    return [line for line in text.splitlines() if line and not (line.startswith(hub) and "syncws" not in line)]


@contextlib.contextmanager
def client(source: str, body: str) -> Iterator[Program]:
    """A client that has said it is ready, and its peer, who says nothing."""
    with world.raw_listener() as listener:
        accepting = spawn(Peer.accept, listener)
        with Program(source.format(body=body), listener.getsockname()[1]) as program, accepting.result():
            assert program.line() == "ready"
            yield program


# -- Ctrl-C --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", WAITS.values(), ids=WAITS.keys())
def test_ctrl_c_ends_a_client(body: str) -> None:
    def interrupt() -> float:
        with client(CLIENT, body) as program:
            eventually(lambda: asleep(program))
            began = time.monotonic()
            program.signal(signal.SIGINT)
            status, said, complained = program.end()
            took = time.monotonic() - began
        assert (status, said.strip(), complaints(complained)) == (0, "interrupted", [])
        return took

    quick(interrupt)


UNHEARD = CLIENT.replace(
    'say("ready")',
    """
    say("ready")
    world.spawn(lambda: (world.sleep(0.2), signal.pthread_kill(threading.get_ident(), signal.SIGINT)))
    """,
).replace("import signal", "import signal, threading")


@world.threads_only
@pytest.mark.parametrize("body", WAITS.values(), ids=WAITS.keys())
def test_a_ctrl_c_that_does_not_wake_the_main_thread_is_heard_all_the_same(body: str) -> None:
    # It hits another thread here. One that comes just before the wait, when the GIL is given away, is no different.
    def interrupt() -> float:
        with client(UNHEARD, body) as program:
            began = time.monotonic()
            assert program.end() == (0, "interrupted\n", "")
            return time.monotonic() - began

    quick(interrupt)


SERVER = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
server = world.Server({accept}, host="127.0.0.1", port=0, close_timeout={close_timeout})
say(server.address()[1])
{serve}
say("done")
"""
LISTEN = "lambda ws, request: ws.addEventListener('message', print)"
SERVES = {
    "serve_forever": "server.serve_forever()",
    "with": "try:\n    with server:\n        world.sleep(60)\nexcept KeyboardInterrupt:\n    pass",
}


@pytest.mark.parametrize("serve", SERVES.values(), ids=SERVES.keys())
@pytest.mark.parametrize(
    ("accept", "close_timeout"), [("world.echo", 30), (LISTEN, 0.1), ("None", 0.1)], ids=["echo", "listen", "nothing"]
)
def test_ctrl_c_ends_a_server_with_a_hundred_connections(accept: str, close_timeout: float, serve: str) -> None:
    source = SERVER.format(accept=accept, serve=serve, close_timeout=close_timeout)

    def interrupt() -> float:
        with Program(source) as program, contextlib.ExitStack() as stack:
            peers = [stack.enter_context(Peer.connect(program)) for _ in range(100)]
            eventually(lambda: asleep(program))
            began = time.monotonic()
            program.signal(signal.SIGINT)
            status, said, complained = program.end()
            took = time.monotonic() - began
            assert (status, said.strip(), complaints(complained)) == (0, "done", [])
            for peer in peers:
                peer.expect_close(1001, answer=False)
        return took

    quick(interrupt)


def test_a_ctrl_c_nobody_catches_is_one_traceback() -> None:
    source = CLIENT.replace("except KeyboardInterrupt:\n    say(\"interrupted\")\n", "")
    with client(source, WAITS["with"]) as program:
        eventually(lambda: asleep(program))
        program.signal(signal.SIGINT)
        status, _, complained = program.end()
    assert status in (-signal.SIGINT, 128 + signal.SIGINT)
    assert complained.count("Traceback") <= (2 if world.GREEN else 1) and "Exception" not in complained
    assert complained.rstrip().endswith("KeyboardInterrupt")


# -- the exit ------------------------------------------------------------------------------------------------------


EXIT = """
import logging, threading, time, warnings
warnings.simplefilter("ignore", ResourceWarning)
from world import Server, Socket, spawn
server = Server({accept}, host="127.0.0.1", port=0).start()
url = world.url_of(server)
sockets = [Socket(url) for _ in range(40)]
sockets += [Socket(url, onmessage=lambda event: event.target.send(event.data)) for _ in range(30)]
for ws in sockets[40:]:
    ws.send("round and round")
reading = [Socket(url) for _ in range(30)]
for ws in reading:
    spawn(ws.recv)
{end}
say("over")
"""
ENDS = {
    "the end": "",
    "exit": "import atexit; atexit.register(say, 'over'); sys.exit(0)",
    "unheld": "del sockets, reading, ws",
    "from a finally": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    pass",
}


@pytest.mark.parametrize(
    ("accept", "end"),
    [*(("world.echo", end) for end in ENDS.values()), ("None", "")],
    ids=[*ENDS.keys(), "the end, nobody accepts"],
)
@world.untraced
def test_open_connections_do_not_hold_up_the_exit(accept: str, end: str) -> None:
    def leave() -> float:
        with Program(EXIT.format(accept=accept, end=end)) as program:
            assert program.line() == "over"
            began = time.monotonic()
            assert program.end() == (0, "", "")
            return time.monotonic() - began

    quick(leave)


# -- fork ----------------------------------------------------------------------------------------------------------

# Threads that change one dictionary, forks, and no syncws: after one to a hundred forks a child waits for ever for that
# dictionary, or for sys.modules at its exit. The lock in it was another thread's, who is not there any more.
calm = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)() or sys.gettrace() is not None,
    reason="without the GIL CPython 3.13, and coverage with it, fork with locks of their own that other threads hold",
)

FORK = """
import threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import syncws
from world import Server, Socket, eventually, spawn
if mode == "gevent":
    from gevent.os import fork, waitpid
else:
    from os import fork, waitpid
if mode != "threads":
    import gevent
    world._start = gevent.spawn  # a Thread that gevent made a greenlet does not survive a fork
def in_child(function, *args):
    pid = fork()
    if pid:
        return pid
    try:
        function(*args)
    except SystemExit:
        raise
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    say("child done")
    sys.exit(0)  # an ordinary exit: whatever is finalized then is
def joined(pid):
    def over():
        global status
        found, status = waitpid(pid, os.WNOHANG)
        return found
    eventually(over, 30.0)  # an ordinary exit of a child among busy ones, perhaps traced
    return status
def exchange(ws, text):
    ws.send(text)
    assert ws.recv(10) == text, text
"""
STRANGER = """
server = Server(world.echo, host="127.0.0.1", port=0).start()
url = world.url_of(server)
ws, listening, unread = Socket(url), Socket(url, onmessage=lambda event: None), Socket(url)
closes = []
listening.onclose = closes.append
exchange(ws, "before")
def child():
    began = time.monotonic()
    for stranger in (ws, listening, unread, *server.clients):
        assert stranger.readyState == stranger.CLOSED and not closes
        assert stranger.close_code == 1006
        receive = stranger.ping if stranger is listening else stranger.recv
        for call in (lambda: stranger.send("x"), stranger.ping, receive):
            try:
                call()
            except syncws.ConnectionClosed as error:
                assert "parent" in str(error), error
            else:
                raise AssertionError("it works in the child")
        stranger.close()
        stranger.terminate()
        assert stranger.wait_closed(5)
        with stranger:
            pass
    assert server.address() is None and not server.clients
    server.close()
    assert time.monotonic() - began < 5
    own = Socket(url)
    exchange(own, "of the child")
    own.close(1000)
    assert own.wait_closed(10) and own.close_code == 1000
for _ in range(3):
    assert joined(in_child(child)) == 0
    exchange(ws, "after")
    listening.send("after")
    exchange(unread, "after")
assert not closes and len(server.clients) == 3, (closes, server.clients)
server.close()
say("parent done")
"""
TRAFFIC = """
server = Server(world.echo, host="127.0.0.1", port=0).start()
url = world.url_of(server)
over, begun = [], []
def talk():
    with Socket(url) as ws:
        number = 0
        while not over:
            exchange(ws, str(number) * 1000)
            number += 1
            if number == 1:
                begun.append(True)
        assert ws.close_code is None
    assert ws.close_code == 1000
    return number
talking = [spawn(talk) for _ in range(4)]
eventually(lambda: len(begun) == 4)
for _ in range(10):
    assert joined(in_child(lambda: None)) == 0
over.append(True)
assert all(task.result() for task in talking)
server.close()
say("parent done")
"""
CORKED = """
server = Server(world.echo, host="127.0.0.1", port=0).start()
ws = Socket(world.url_of(server))
cork = ws.cork()
cork.__enter__()
ws.send("held")
def child():
    try:
        cork.__exit__(None, None, None)
    except syncws.ConnectionClosed as error:
        assert "parent" in str(error), error
    else:
        raise AssertionError("it works in the child")
assert joined(in_child(child)) == 0
cork.__exit__(None, None, None)
assert ws.recv(10) == "held"
server.close()
say("parent done")
"""
LISTEN_FIRST = """
served = []
def accept(ws, request):
    world.echo(ws, request)
    served.append(True)
server = Server(accept, host="127.0.0.1", port=0)
url = world.url_of(server)
def child():
    with server:
        eventually(lambda: served and not server.clients)
for _ in range(2):
    pid = in_child(child)
    with Socket(url) as ws:
        exchange(ws, "to the child")
    assert joined(pid) == 0
server.close()
say("parent done")
"""


@pytest.mark.parametrize(
    ("source", "children"),
    [
        pytest.param(STRANGER, 3, id="strangers"),
        pytest.param(TRAFFIC, 10, id="traffic", marks=calm),
        pytest.param(LISTEN_FIRST, 2, id="listen first"),
        pytest.param(CORKED, 1, id="corked"),
    ],
)
@pytest.mark.timeout(120)
def test_a_fork_leaves_the_parent_its_connections(source: str, children: int) -> None:
    with Program(FORK + source) as program:
        status, said, complained = program.end(90)
    assert (status, complained) == (0, "")
    assert sorted(said.split("\n")) == ["", *["child done"] * children, "parent done"]


def test_the_descriptors_of_the_parent_are_closed_in_the_child() -> None:
    source = """
server = Server(world.echo, host="127.0.0.1", port=0).start()
before = set(os.listdir("/proc/self/fd"))
sockets = [Socket(world.url_of(server)) for _ in range(10)]
def child():
    eventually(lambda: set(os.listdir("/proc/self/fd")) <= before)
assert joined(in_child(child)) == 0
for ws in sockets:
    exchange(ws, "still here")
server.close()
"""
    with Program(FORK + source) as program:
        assert program.end(30) == (0, "child done\n", "")


# -- imports and inheritance ---------------------------------------------------------------------------------------


IMPORT = """
import sys
import syncws, {module}
import os, select, socket, threading
for name in [name for name in sys.modules if name.split(".")[0] == "syncws"]:
    del sys.modules[name]
made = []
def watch(module, name):
    original = getattr(module, name)
    setattr(module, name, lambda *args, **kwargs: (made.append(name), original(*args, **kwargs))[1])
for name in ("Lock", "RLock", "Condition", "Event", "Semaphore", "Thread", "Timer", "local"):
    watch(threading, name)
for module, name in ((select, "epoll"), (select, "poll"), (os, "pipe"), (socket, "socketpair")):
    watch(module, name)
init = socket.socket.__init__
socket.socket.__init__ = lambda self, *args, **kwargs: (made.append("socket"), init(self, *args, **kwargs))[1]
before = os.listdir("/proc/self/fd"), threading.active_count()
import syncws, {module}
assert (os.listdir("/proc/self/fd"), threading.active_count()) == before
print(made)
"""


@pytest.mark.parametrize("module", ["syncws", "syncws.gevent"])
def test_an_import_makes_no_threads_no_locks_and_no_sockets(module: str) -> None:
    if module == "syncws.gevent":
        pytest.importorskip("gevent")
    assert run(IMPORT.format(module=module)) == (0, "[]", "")


def test_no_descriptor_is_inherited_by_another_program() -> None:
    source = """
before = set(os.listdir("/proc/self/fd"))
server = world.Server(world.echo, host="127.0.0.1", port=0).start()
ws = world.Socket(world.url_of(server))
ws.send("x")
assert ws.recv(10) == "x"
ours = set(os.listdir("/proc/self/fd")) - before
assert len(ours) >= 5, ours
there = [int(number) for number in ours if os.path.exists("/proc/self/fd/" + number)]
say(*filter(os.get_inheritable, there))
ws.terminate()
server.close()
"""
    with Program(source) as program:
        assert program.end() == (0, "\n", "")


def test_messages_sent_just_before_an_exit_by_with_arrive() -> None:
    source = """
with world.Socket(f"ws://127.0.0.1:{sys.argv[1]}/") as ws:
    for number in range(100):
        ws.send(str(number))
"""
    with world.raw_listener() as listener:
        accepting = spawn(Peer.accept, listener)
        with Program(source, listener.getsockname()[1]) as program, accepting.result() as peer:
            assert [peer.read()[2:5:2] for _ in range(100)] == [(TEXT, str(n).encode()) for n in range(100)]
            peer.expect_close(1000)
            peer.close()
            assert program.end() == (0, "", "")
