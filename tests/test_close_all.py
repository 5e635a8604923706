"""`close_all`: every connection of the process, whatever it came from and whoever calls."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
import world
from peer import CLOSE, Peer
from program import Program
from world import PATIENCE, Socket, eventually, serving, spawn, url_of

import syncws

GENEROUS = 5.0  # seconds for what should take a fraction of one


def idle(ws: Any, request: Any) -> None:
    """Neither reads nor listens: the connection stays open."""


@contextlib.contextmanager
def pair(**options: Any) -> Any:
    """A client, and the socket of its server."""
    with serving(idle) as server:
        ws = Socket(url_of(server), **options)
        eventually(lambda: server.clients)
        (other,) = server.clients
        yield ws, other, server
        ws.terminate()


def test_without_connections_it_returns_at_once() -> None:
    assert syncws.close_all(timeout=0) is True


def test_both_ends_are_closed_cleanly_and_the_server_goes_on() -> None:
    with pair() as (ws, other, server):
        assert syncws.close_all(timeout=PATIENCE) is True
        assert [one.readyState for one in (ws, other)] == [syncws.CLOSED] * 2
        assert [one.close_code for one in (ws, other)] == [1001] * 2
        with Socket(url_of(server)) as another:
            assert another.readyState == syncws.OPEN


def test_code_and_reason_reach_the_peer() -> None:
    with world.raw_listener() as listener:
        accepting = spawn(Peer.accept, listener)
        ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        with accepting.result() as peer:
            closing = spawn(syncws.close_all, 4000, "maintenance", timeout=PATIENCE)
            assert peer.expect_close(4000).payload[2:] == b"maintenance"
            peer.end()
            assert closing.result() is True
        assert (ws.close_code, ws.close_reason) == (4000, "maintenance")


@pytest.mark.parametrize("timeout", [0, 0.2, None])
def test_who_does_not_answer_is_dropped_in_time(timeout: float | None) -> None:
    with world.raw_listener() as listener:
        accepting = spawn(Peer.accept, listener)
        close_timeout = 0.2 if timeout is None else 30
        ws = Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", close_timeout=close_timeout)
        with accepting.result() as peer:
            began = time.monotonic()
            assert syncws.close_all(timeout=timeout) is False
            assert (0.2 if timeout != 0 else 0) <= time.monotonic() - began < GENEROUS
            assert (ws.readyState, ws.close_code) == (syncws.CLOSED, 1006)
            assert [frame.opcode for frame in peer.read_all()] in ([CLOSE], [])


def test_who_is_not_open_yet_is_dropped() -> None:
    with world.raw_listener() as listener:
        connecting = spawn(Socket, f"ws://127.0.0.1:{listener.getsockname()[1]}/", handshake_timeout=None)
        sock, _ = listener.accept()
        sock.settimeout(PATIENCE)
        assert sock.recv(1)
        assert syncws.close_all(timeout=PATIENCE) is True
        with pytest.raises(ConnectionError):
            connecting.result()
        sock.close()


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ValueError, {"code": 1005}),
        (ValueError, {"code": 999}),
        (TypeError, {"code": "1000"}),
        (ValueError, {"reason": "x" * 124}),
        (ValueError, {"timeout": -1}),
        (TypeError, {"timeout": "1"}),
    ],
)
def test_bad_arguments_close_nothing(kind: type[Exception], arguments: Any) -> None:
    with pair() as (ws, other, _):
        with pytest.raises(kind):
            syncws.close_all(**arguments)
        ws.send("hello")
        assert other.recv(PATIENCE) == "hello"


def test_whoever_waits_in_a_socket_is_woken() -> None:
    with pair() as (ws, other, _):
        waiting = [spawn(list, ws), spawn(list, other)]
        assert syncws.close_all(timeout=PATIENCE) is True
        assert [task.result() for task in waiting] == [[], []]


def test_close_listeners_have_run_when_it_returns() -> None:
    told: list[Any] = []
    with pair(onclose=lambda event: (world.sleep(0.05), told.append(event.code))) as (_, other, _):
        other.onclose = lambda event: told.append(event.code)
        assert syncws.close_all(timeout=PATIENCE) is True
        assert told == [1001, 1001]


def test_unread_messages_do_not_hold_it_up() -> None:
    with pair() as (ws, other, _):
        for one in (ws, other):
            for _ in range(100):
                one.send("hello")
        assert syncws.close_all(timeout=PATIENCE) is True


@pytest.mark.parametrize("where", ["message", "close"])
def test_a_listener_may_call_it(where: str) -> None:
    results: list[bool] = []
    with pair() as (ws, other, _):
        ws.on(where, lambda event: results.append(syncws.close_all(timeout=PATIENCE)))
        if where == "message":
            other.send("go")
        else:
            other.close(1000)
        eventually(lambda: results == [True])
        eventually(lambda: other.readyState == syncws.CLOSED)


def test_accept_may_call_it() -> None:
    results: list[bool] = []
    with serving(lambda ws, request: results.append(syncws.close_all(timeout=PATIENCE))) as server:
        with Peer.connect(server) as peer:
            peer.expect_close(1001)
        eventually(lambda: results == [True])


def test_many_may_call_it_at_once() -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(pair())
        closings = [spawn(syncws.close_all, timeout=PATIENCE) for _ in range(5)]
        assert [closing.result(2 * PATIENCE) for closing in closings] == [True] * 5


def test_connections_of_several_servers_are_closed_with_and_without_tracking() -> None:
    with serving(idle) as one, serving(idle, client_tracking=False) as other:
        peers = [Peer.connect(server) for server in (one, other, other)]
        closing = spawn(syncws.close_all, timeout=PATIENCE)
        for peer in peers:
            peer.expect_close(1001)
            peer.close()
        closing.result()


def test_a_thread_that_a_signal_started_may_call_it() -> None:
    source = """
import signal, syncws
if mode.startswith("patched"):
    from gevent import spawn  # starting a patched thread waits for it, which a signal handler must not do
else:
    spawn = world.spawn
results = []
end = world.Event()
def close():
    results.append(syncws.close_all())
    end.set()
signal.signal(signal.SIGTERM, lambda *_: spawn(close))
with world.serving() as server:
    with world.Socket(world.url_of(server)) as ws:
        say("ready")
        say(list(ws))
        end.wait(10)
        say(results, ws.close_code)
"""
    with Program(source) as program:
        assert program.line() == "ready"
        program.signal(15)
        assert program.end()[1].splitlines() == ["[]", "[True] 1001"]


BOTH = """
import gevent, syncws, syncws.gevent, threading, time
def idle(ws, request):
    pass
def pair(module):
    server = module.Server(idle, host="127.0.0.1", port=0).start()
    return module.Socket(world.url_of(server))
threads, greenlets = pair(syncws), pair(syncws.gevent)
result = []
def close():
    result.append(syncws.close_all(timeout=10))
def in_a_thread():
    thread = threading.Thread(target=close)
    thread.start()
    while thread.is_alive():
        gevent.sleep(0.01)
began = time.monotonic()
{call}
say(result, threads.close_code, greenlets.close_code, time.monotonic() - began < 5)
"""


@world.threads_only
@pytest.mark.parametrize("call", ["close()", "gevent.spawn(close).join()", "in_a_thread()"])
def test_both_worlds_of_one_process_are_closed_from_either(call: str) -> None:
    pytest.importorskip("gevent")
    with Program(BOTH.format(call=call)) as program:
        status, said, complaints = program.end(3 * PATIENCE)
        assert (status, said, complaints) == (0, "[True] 1001 1001 True\n", "")


def test_a_hub_that_is_busy_is_not_waited_for_for_ever() -> None:
    """Its connections are dropped when it comes to it; nothing of its is touched from outside."""
    source = """
import gevent, syncws, syncws.gevent, time
from gevent.monkey import get_original
Thread = get_original("threading", "Thread")
server = syncws.gevent.Server(lambda ws, request: None, host="127.0.0.1", port=0).start()
ws = syncws.gevent.Socket(world.url_of(server))
result = []
thread = Thread(target=lambda: result.append(syncws.close_all(timeout=0.1)))
thread.start()
thread.join()
say(result, ws.readyState)
ws.wait_closed(10)
say(ws.readyState)
"""
    pytest.importorskip("gevent")
    if world.MODE != "threads":
        pytest.skip("a process with both worlds in it")
    with Program(source) as program:
        status, said, complaints = program.end(3 * PATIENCE)
        assert (status, said, complaints) == (0, "[False] 1\n3\n", "")


def test_what_a_fork_inherited_is_not_closed() -> None:
    source = """
import syncws
if mode == "gevent":
    from gevent.os import fork
else:
    from os import fork
answer, tell = os.pipe()
with world.serving() as server:
    with world.Socket(world.url_of(server)) as ws:
        if not fork():
            os.write(tell, str(syncws.close_all(timeout=5)).encode())
            os._exit(0)
        say(os.read(answer, 10).decode())
        ws.send("still there")
        say(ws.recv(10))
"""
    with Program(source) as program:
        assert program.end()[1].splitlines() == ["True", "still there"]
