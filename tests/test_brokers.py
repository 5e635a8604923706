"""`RedisBroker` with a real redis-server: what is published in one process comes to the others, once, or it is said."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import command
import debian
import pytest
import world
from program import Program
from redis_program import Redis
from test_topics import Members, gathering, has_nothing
from world import PATIENCE, Server, Socket, eventually, sleep, spawn, url_of

from syncws import RedisBroker, brokers
from syncws.topics import topics

redis_py = pytest.importorskip("redis")

PREFIX = b"syncws:"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def running(tmp_path_factory: Any) -> Iterator[Redis]:
    program = debian.need("redis-server", "redis-server", "brokers were tried with no Redis")
    found = Redis(program, tmp_path_factory.mktemp("redis"))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def redis(running: Redis) -> Iterator[Redis]:
    """The server, in good health before and after each test."""
    yield running
    if not running.answers():
        running.start()


@pytest.fixture
def topic() -> str:
    return f"broker topic {next(_numbers)}"


def client_of(redis: Redis) -> Any:
    return redis_py.Redis(port=redis.port, socket_timeout=PATIENCE)


def stranger(topic: str, data: str | bytes, sender: bytes = bytes(16)) -> tuple[bytes, bytes]:
    """Channel and message of what another process publishes."""
    kind, payload = (b"t", data.encode()) if isinstance(data, str) else (b"b", data)
    return PREFIX + topic.encode(), kind + sender + payload


OTHER = """
from syncws import RedisBroker
import sys
read = sys.stdin.readline
if mode != "threads":
    import gevent
    read = lambda: gevent.get_hub().threadpool.apply(sys.stdin.readline)
url, topic, timeout = sys.argv[1], sys.argv[2], 10
def accept(ws, request):
    ws.subscribe(topic)
    ws.send("in")
    for message in ws:
        server.publish(topic, message)
with world.serving(accept, broker=RedisBroker(url)) as server:
    with world.Socket(world.url_of(server), proxy=None) as client:
        assert client.recv(timeout) == "in"
        say("ready")
        while True:
            line = read().strip()
            if line == "take":
                message = client.recv(timeout)
                say(repr(message))
            elif line == "nothing":
                try:
                    say(repr(client.recv(0.3)))
                except TimeoutError:
                    say("nothing")
            elif line:
                client.send(eval(line))
                say("sent")
            else:
                break
"""


@contextlib.contextmanager
def other_process(redis: Redis, topic: str) -> Iterator[Program]:
    with Program(OTHER, redis.url, topic) as program:
        assert program.line() == "ready"
        yield program


@contextlib.contextmanager
def with_broker(redis: Redis, **options: Any) -> Iterator[tuple[Any, Members]]:
    with gathering(broker=RedisBroker(redis.url, **options)) as found:
        yield found


# -- between processes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["text ✓", b"\0\xff" * 100, ""], ids=["text", "binary", "empty"])
def test_what_one_process_publishes_comes_to_the_sockets_of_all_once(redis: Redis, topic: str, data: Any) -> None:
    with with_broker(redis) as (server, members), other_process(redis, topic) as other:
        client, _ = members.add(topic)
        server.publish(topic, data)
        assert client.recv(PATIENCE) == data
        assert other.ask("take") == repr(data)
        assert other.ask(repr(data)) == "sent"
        assert client.recv(PATIENCE) == data
        assert other.ask("take") == repr(data)
        has_nothing(client)
        assert other.ask("nothing") == "nothing"


def test_messages_of_one_process_come_in_order(redis: Redis, topic: str) -> None:
    with with_broker(redis) as (_, members), client_of(redis) as stranger_s:
        client, _ = members.add(topic)
        for number in range(1000):
            stranger_s.publish(*stranger(topic, str(number)))
        assert [client.recv(PATIENCE) for _ in range(1000)] == [str(number) for number in range(1000)]


def test_who_has_subscribed_misses_nothing_from_then_on(redis: Redis, topic: str) -> None:
    with with_broker(redis) as (_, members), client_of(redis) as stranger_s:
        client, ws = members.add()
        for number in range(200):
            ws.subscribe(f"{topic}/{number}")
            assert stranger_s.publish(*stranger(f"{topic}/{number}", str(number))) == 1
            assert client.recv(PATIENCE) == str(number)
            if number % 2:
                ws.unsubscribe(f"{topic}/{number}")


@pytest.mark.usefixtures("hectic")
def test_who_leaves_and_comes_back_at_once_misses_nothing(redis: Redis, topic: str) -> None:
    with with_broker(redis) as (_, members), client_of(redis) as stranger_s:
        client, ws = members.add(topic)
        for number in range(300):
            ws.unsubscribe(topic)
            if number % 3 == 0:
                time.sleep(0.0003 * (number % 7))
            if number % 50 == 0:
                world.sleep(0.3)  # until it is unsubscribed from the Redis, too
            ws.subscribe(topic)
            stranger_s.publish(*stranger(topic, str(number)))
            assert client.recv(PATIENCE) == str(number)


def test_channels_of_topics_that_nobody_is_in_are_left(redis: Redis, topic: str) -> None:
    with with_broker(redis) as (server, members), client_of(redis) as observer:
        _, ws = members.add(topic)
        _, other = members.add(topic)
        channel = PREFIX + topic.encode()
        assert channel in observer.pubsub_channels()
        ws.unsubscribe(topic)
        world.sleep(0.5)
        assert channel in observer.pubsub_channels()
        other.close()
        eventually(lambda: channel not in observer.pubsub_channels())
        server.close()
        eventually(lambda: not observer.pubsub_channels())


def test_prefixes_keep_applications_apart(redis: Redis, topic: str) -> None:
    with with_broker(redis, prefix="mine:") as (_, members), client_of(redis) as stranger_s:
        client, _ = members.add(topic)
        assert stranger_s.publish(*stranger(topic, "not mine")) == 0
        assert stranger_s.publish(b"mine:" + topic.encode(), stranger(topic, "mine")[1]) == 1
        assert client.recv(PATIENCE) == "mine"


def test_two_servers_of_one_process_hear_of_a_message_once(redis: Redis, topic: str) -> None:
    with with_broker(redis) as (one, ones), with_broker(redis) as (two, twos), client_of(redis) as stranger_s:
        (mine, _), (theirs, _) = ones.add(topic), twos.add(topic)
        stranger_s.publish(*stranger(topic, "from afar"))
        assert [mine.recv(PATIENCE), theirs.recv(PATIENCE)] == ["from afar"] * 2
        one.publish(topic, "from one")
        two.publish(topic, "from two")
        for client in (mine, theirs):
            assert [client.recv(PATIENCE), client.recv(PATIENCE)] == ["from one", "from two"]
        has_nothing(mine, theirs)


def test_two_servers_one_after_the_other_hear_of_a_message_once(redis: Redis, topic: str) -> None:
    with client_of(redis) as stranger_s:
        for _ in range(10):
            with with_broker(redis) as (_, members):
                client, _ = members.add(topic)
                stranger_s.publish(*stranger(topic, "from afar"))
                assert client.recv(PATIENCE) == "from afar"
                has_nothing(client)


@pytest.mark.parametrize("message", [b"", b"t", b"x" + bytes(16) + b"data", b"t" + bytes(16) + b"\xff"])
def test_what_is_not_ours_is_logged_and_dropped(redis: Redis, topic: str, message: bytes, caplog: Any) -> None:
    with with_broker(redis) as (_, members), client_of(redis) as stranger_s:
        client, _ = members.add(topic)
        stranger_s.publish(PREFIX + topic.encode(), message)
        stranger_s.publish(*stranger(topic, "all is well"))
        assert client.recv(PATIENCE) == "all is well"
        assert "is dropped: expected" in caplog.text
        caplog.expected_errors = 1


def test_a_redis_may_be_at_a_unix_socket(redis: Redis, topic: str) -> None:
    broker = RedisBroker(redis.unix_url)
    with gathering(broker=broker) as (_, members), client_of(redis) as stranger_s:
        client, _ = members.add(topic)
        stranger_s.publish(*stranger(topic, "from afar"))
        assert client.recv(PATIENCE) == "from afar"


def test_a_broker_that_comes_late_hears_what_is_followed_already(redis: Redis, topic: str) -> None:
    with gathering() as (_, members), client_of(redis) as stranger_s:
        client, _ = members.add(topic)
        for _ in range(2):  # and again, when another one takes its place
            with Server(no_server=True, broker=RedisBroker(redis.url)):
                eventually(lambda: stranger_s.publish(*stranger(topic, "")) == 1)
                assert client.recv(PATIENCE) == ""
            eventually(lambda: stranger_s.publish(*stranger(topic, "nobody hears it")) == 0)


class Relay:
    """Between a broker and its Redis; may hold back the rest of what the Redis says."""

    def __init__(self, port: int) -> None:
        self.halts = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._target = "127.0.0.1", port
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def _start(self, function: Any, *args: Any) -> None:
        threading.Thread(target=function, args=args, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._start(self._pass_on, near, far)
                self._start(self._pass_on, far, near)

    def _pass_on(self, source: Any, target: Any) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(1 << 16):
                cut = len(data) // 2 if self.halts else len(data)
                target.sendall(data[:cut])
                if cut < len(data):
                    time.sleep(0.5)
                    target.sendall(data[cut:])
            target.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_a_message_that_comes_in_two_pieces_is_none_the_worse(redis: Redis, topic: str, caplog: Any) -> None:
    with (
        contextlib.closing(Relay(redis.port)) as relay,
        client_of(redis) as stranger_s,
        gathering(broker=RedisBroker(relay.url)) as (_, members),
    ):
        client, _ = members.add(topic)
        relay.halts = True
        for number in range(3):
            stranger_s.publish(*stranger(topic, str(number) * 1000))
            assert client.recv(PATIENCE) == str(number) * 1000
        relay.halts = False
    assert "is away" not in caplog.text


@pytest.mark.skipif(world.MODE != "gevent", reason="about the threads that do what would stop a hub")
def test_what_waits_for_a_redis_holds_up_no_names_and_prints_nothing(redis: Redis, topic: str, capfd: Any) -> None:
    with with_broker(redis, timeout=2.0) as (server, _):
        with redis.held_still():
            asked = [spawn(server.publish, topic, "x") for _ in range(40)]
            sleep(0.2)
            with Socket(url_of(server).replace("127.0.0.1", "localhost"), proxy=None, handshake_timeout=1.5):
                pass
            with pytest.raises(TimeoutError):
                asked[0].result()
        for task in asked[1:]:
            with contextlib.suppress(OSError):
                task.result()
    assert capfd.readouterr().err == ""


FORKED = """
if mode == "threads":
    from os import fork, waitpid
else:
    from gevent.os import fork, waitpid
from syncws import RedisBroker
import signal, sys
topic = sys.argv[2]
broker = RedisBroker(sys.argv[1])
with world.serving(None, broker=broker) as server, world.Socket(world.url_of(server), proxy=None) as client:
    world.eventually(lambda: server.clients)
    (ws,) = server.clients
    ws.subscribe(topic)
    pid = fork()
    if not pid:
        signal.alarm(20)
        try:
            with world.serving(None, broker=broker) as mine, world.Socket(world.url_of(mine), proxy=None) as peer:
                world.eventually(lambda: mine.clients)
                (ws,) = mine.clients
                ws.subscribe(topic)
                mine.publish(topic, "from the child")
                ok = peer.recv(10) == "from the child" and peer.recv(10) == "from the parent"
            os._exit(0 if ok else 3)
        finally:
            os._exit(4)
    assert client.recv(10) == "from the child"
    server.publish(topic, "from the parent")
    assert client.recv(10) == "from the parent"
    assert waitpid(pid, 0)[1] == 0
    server.publish(topic, "and on")
    say(client.recv(10))
"""


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)() or "coverage" in sys.modules,
    reason="without the GIL CPython 3.13, and coverage with it, fork with locks of their own that other threads hold",
)
def test_parent_and_child_of_a_fork_hear_each_other(redis: Redis, topic: str) -> None:
    with Program(FORKED, redis.url, topic) as program:
        assert program.line() == "and on"
        assert "Traceback" not in program.end()[2]


@world.threads_only
def test_the_rooms_of_two_processes_are_one(redis: Redis) -> None:
    with (
        command.serving("rooms.py", after=(redis.url,)) as one,
        command.serving("rooms.py", after=(redis.url,)) as two,
        Socket(f"{one}tea", proxy=None) as anna,
    ):
        assert anna.recv(PATIENCE) == "* somebody came"
        with Socket(f"{two}tea", proxy=None) as ben:
            assert anna.recv(PATIENCE) == ben.recv(PATIENCE) == "* somebody came"
            anna.send("milk?")
            assert anna.recv(PATIENCE) == ben.recv(PATIENCE) == "milk?"


# -- a Redis that is away ------------------------------------------------------------------------------------------


def test_without_a_redis_it_is_said_and_the_process_goes_on_by_itself(topic: str) -> None:
    (port,) = debian.free_ports(1)
    with gathering(broker=RedisBroker(f"redis://127.0.0.1:{port}", timeout=2)) as (server, members):
        client, ws = members.add()
        with pytest.raises(ConnectionError, match="the Redis"):
            ws.subscribe(topic)
        assert topic not in topics().wanted()
        with pytest.raises(ConnectionError, match="the Redis"):
            server.publish(topic, "to nobody")
        client.send("still there")
        assert ws.recv(PATIENCE) == "still there"


def test_a_redis_that_went_away_and_came_back_is_used_again(redis: Redis, topic: str, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, logger="syncws")
    with with_broker(redis) as (server, members):
        client, ws = members.add(topic)
        redis.stop()
        eventually(lambda: "is lost" in caplog.text)
        with pytest.raises(ConnectionError):
            server.publish(topic, "only here")
        assert client.recv(PATIENCE) == "only here"
        with pytest.raises(ConnectionError):
            ws.subscribe(topic + "/more")
        redis.start()
        eventually(lambda: "is back" in caplog.text)
        with client_of(redis) as stranger_s:
            eventually(lambda: stranger_s.publish(*stranger(topic, "again")) == 1)
        assert client.recv(PATIENCE) == "again"
        ws.subscribe(topic + "/more")
        server.publish(topic, "as before")
        assert client.recv(PATIENCE) == "as before"
    assert caplog.text.count("is lost") == 1


def test_a_redis_that_does_not_answer_holds_up_only_who_asked_it(redis: Redis, topic: str) -> None:
    with with_broker(redis, timeout=PATIENCE) as (server, members):
        client, _ = members.add(topic)
        with redis.held_still():
            asked = spawn(server.publish, topic, "here")
            assert client.recv(PATIENCE) == "here"
            client.ping()
            eventually(lambda: client.latency is not None)
            assert not asked.done
        asked.result()


def test_a_redis_that_does_not_answer_in_time_is_a_time_out(redis: Redis, topic: str) -> None:
    with with_broker(redis, timeout=0.3) as (server, members):
        _, ws = members.add(topic)
        with redis.held_still():
            for call in (lambda: server.publish(topic, "here"), lambda: ws.subscribe(f"{topic}/more")):
                with pytest.raises(TimeoutError, match="did not answer"):
                    call()


def test_silence_is_noticed(redis: Redis, topic: str, caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(brokers, "_SILENCE", 0.3)
    with with_broker(redis, timeout=2.0) as (_, members):
        client, _ = members.add(topic)
        world.sleep(1.5)
        assert "is lost" not in caplog.text  # it answers pings
        with redis.held_still():
            eventually(lambda: "is lost" in caplog.text)
        eventually(lambda: "is back" in caplog.text)
        with client_of(redis) as stranger_s:
            eventually(lambda: stranger_s.publish(*stranger(topic, "again")) == 1)
        assert client.recv(PATIENCE) == "again"


# -- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"url": "http://localhost"}, ValueError),
        ({"url": "localhost:6379"}, ValueError),
        ({"url": 6379}, TypeError),
        ({"url": "redis://localhost", "prefix": b"x"}, TypeError),
        ({"url": "redis://localhost", "timeout": 0}, ValueError),
        ({"url": "redis://localhost", "timeout": "1"}, TypeError),
    ],
)
def test_a_broker_that_cannot_be_is_refused(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        RedisBroker(**arguments)


def test_without_the_package_it_says_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"pip install 'syncws\[redis\]'"):
        RedisBroker("redis://localhost")


def test_brokers_of_one_redis_and_prefix_are_equal() -> None:
    one = RedisBroker("redis://localhost")
    assert one == RedisBroker("redis://localhost", timeout=1)
    assert hash(one) == hash(RedisBroker("redis://localhost"))
    assert one not in (RedisBroker("redis://localhost/1"), RedisBroker("redis://localhost", prefix="x"), "redis")


def test_a_broker_connects_to_nothing_before_there_is_need() -> None:
    with world.raw_listener() as listener:
        broker = RedisBroker(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        with Server(no_server=True, broker=broker):
            listener.settimeout(0.2)
            with pytest.raises(TimeoutError):
                listener.accept()
