"""Publish/subscribe in one process: who gets what, until when; and what is asked of a broker."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import world
from pairs import connected
from program import Program
from world import PATIENCE, Event, Server, Socket, eventually, serving, spawn, url_of

import syncws
from syncws import ConnectionClosed
from syncws.topics import topics

ROUNDS = 60  # of a member's coming and going
_numbers = itertools.count()


@pytest.fixture
def topic() -> Iterator[str]:
    """One that no other test has; nobody is in it afterwards."""
    name = f"topic {next(_numbers)}"
    yield name
    eventually(lambda: name not in topics().wanted())


class Members:
    """Clients of a server, and the server's socket of each, in the order in which they came."""

    def __init__(self, server: Any, stack: contextlib.ExitStack) -> None:
        self._server = server
        self._stack = stack
        self._came: list[Any] = []
        server.on("connection", lambda ws, request: self._came.append(ws))

    def add(self, *subscribed: str, **options: Any) -> tuple[Any, Any]:
        count = len(self._came)
        client = self._stack.enter_context(Socket(url_of(self._server), proxy=None, **options))
        eventually(lambda: len(self._came) > count)
        for name in subscribed:
            self._came[count].subscribe(name)
        return client, self._came[count]


@contextlib.contextmanager
def gathering(**options: Any) -> Iterator[tuple[Any, Members]]:
    with serving(None, **options) as server, contextlib.ExitStack() as stack:
        yield server, Members(server, stack)


def has_nothing(*clients: Any) -> None:
    for client in clients:
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.05)


# -- who gets what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("data", ["words" * 100, b"\0\1" * 1000, "", b""], ids=["text", "binary", "empty", "no bytes"])
def test_what_is_published_comes_to_all_who_subscribed_and_to_nobody_else(
    topic: str, data: Any, compression: bool
) -> None:
    with gathering(compression=compression) as (server, members):
        (first, _), (second, _), (third, _) = members.add(topic), members.add(topic, "other"), members.add("other")
        server.publish(topic, data)
        assert [first.recv(PATIENCE), second.recv(PATIENCE)] == [data, data]
        has_nothing(third)


def test_it_comes_to_the_sockets_of_all_servers_of_the_process(topic: str) -> None:
    with gathering() as (one, ones), gathering() as (_, others):
        mine, _ = ones.add(topic)
        theirs, _ = others.add(topic)
        one.publish(topic, "to all")
        assert [mine.recv(PATIENCE), theirs.recv(PATIENCE)] == ["to all", "to all"]


def test_it_needs_no_client_tracking(topic: str) -> None:
    with gathering(client_tracking=False) as (server, members):
        client, _ = members.add(topic)
        server.publish(topic, "hello")
        assert client.recv(PATIENCE) == "hello"


def test_a_server_that_listens_nowhere_can_publish(topic: str) -> None:
    with gathering() as (_, members), Server(no_server=True) as other:
        client, _ = members.add(topic)
        other.publish(topic, "from nowhere")
        assert client.recv(PATIENCE) == "from nowhere"


def test_to_subscribe_twice_counts_once(topic: str) -> None:
    with gathering() as (server, members):
        client, ws = members.add(topic, topic)
        server.publish(topic, "once")
        assert client.recv(PATIENCE) == "once"
        has_nothing(client)
        ws.unsubscribe(topic)
        server.publish(topic, "never")
        has_nothing(client)


def test_to_unsubscribe_without_having_subscribed_is_nothing(topic: str) -> None:
    with gathering() as (server, members):
        (client, ws), (other, _) = members.add(), members.add(topic)
        ws.unsubscribe(topic)
        server.publish(topic, "still")
        assert other.recv(PATIENCE) == "still"
        has_nothing(client)


def test_nobody_in_a_topic_is_nothing(topic: str) -> None:
    with gathering() as (server, _):
        server.publish(topic, "to nobody")


def test_what_one_thread_publishes_and_sends_comes_in_that_order(topic: str) -> None:
    with gathering() as (server, members):
        client, ws = members.add(topic)
        for number in range(200):
            server.publish(topic, f"published {number}")
            ws.send(f"sent {number}")
        got = [client.recv(PATIENCE) for _ in range(400)]
        assert got == [f"{how} {number}" for number in range(200) for how in ("published", "sent")]


def test_any_thread_may_publish(topic: str) -> None:
    # A thread of the system also where the sockets are greenlets' and nothing is patched.
    with gathering() as (server, members):
        client, _ = members.add(topic)
        thread = threading.Thread(target=lambda: [server.publish(topic, str(number)) for number in range(100)])
        thread.start()
        assert [client.recv(PATIENCE) for _ in range(100)] == [str(number) for number in range(100)]
        thread.join(PATIENCE)


def test_a_buffer_may_be_changed_once_it_is_published(topic: str) -> None:
    def publish(server: Any) -> None:
        buffer = bytearray(b"before")
        server.publish(topic, buffer)
        buffer[:] = b"behind"

    with gathering() as (server, members):
        client, _ = members.add(topic)
        thread = threading.Thread(target=publish, args=(server,))
        thread.start()
        assert client.recv(PATIENCE) == b"before"
        thread.join(PATIENCE)


def test_a_subscriber_that_does_not_read_is_closed_with_1013_and_costs_the_others_nothing(topic: str) -> None:
    with gathering(max_backlog=100_000) as (server, members):
        (lazy, ws), (eager, _) = members.add(topic, max_queue=1), members.add(topic)
        count = 0
        while ws.readyState == syncws.OPEN:
            server.publish(topic, bytes(200_000))
            assert eager.recv(PATIENCE) == bytes(200_000)
            count += 1
            assert count < 1000
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                lazy.recv(PATIENCE)
        assert closed.value.code == 1013


# -- until when ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "terminate", "the peer's close", "the peer's end"])
def test_whoever_is_closed_is_in_no_topic(topic: str, end: str) -> None:
    with gathering() as (server, members):
        client, ws = members.add(topic)
        {
            "close": ws.close,
            "terminate": ws.terminate,
            "the peer's close": client.close,
            "the peer's end": client.terminate,
        }[end]()
        assert ws.wait_closed(PATIENCE)
        assert topic not in topics().wanted()
        server.publish(topic, "too late")
        ws.unsubscribe(topic)


@pytest.mark.parametrize("state", ["CLOSING", "CLOSED"])
def test_whoever_is_not_open_cannot_subscribe(topic: str, state: str) -> None:
    with gathering() as (_, members):
        client, ws = members.add()
        if state == "CLOSING":
            client.pause()  # so that it does not answer
        ws.close(4000)
        if state == "CLOSED":
            assert ws.wait_closed(PATIENCE)
        with pytest.raises(ConnectionClosed):
            ws.subscribe(topic)
        assert topic not in topics().wanted()
        client.terminate()


def test_a_clients_socket_cannot_subscribe(topic: str) -> None:
    with connected("client") as (ws, _), pytest.raises(ValueError, match="socket of a server"):
        ws.subscribe(topic)


@pytest.mark.parametrize(
    ("bad", "error"), [(None, TypeError), (b"bytes", TypeError), (7, TypeError), ("\ud800", ValueError)]
)
def test_a_topic_is_text(bad: Any, error: type[Exception], topic: str) -> None:
    with gathering() as (server, members):
        client, ws = members.add(topic)
        for call in (lambda: ws.subscribe(bad), lambda: ws.unsubscribe(bad), lambda: server.publish(bad, "x")):
            with pytest.raises(error):
                call()
        server.publish(topic, "all is well")
        assert client.recv(PATIENCE) == "all is well"


@pytest.mark.parametrize(("data", "error"), [(None, TypeError), (["a"], TypeError), ("\udfff", ValueError)])
def test_data_that_cannot_be_sent_is_refused_before_anything_is(data: Any, error: type[Exception], topic: str) -> None:
    with gathering() as (server, members):
        client, _ = members.add(topic)
        with pytest.raises(error):
            server.publish(topic, data)
        has_nothing(client)


def test_topics_of_users_who_come_and_go_leave_nothing_behind(topic: str) -> None:
    with gathering() as (server, members):
        _, ws = members.add()
        before = len(topics().wanted())
        for number in range(1000):
            ws.subscribe(f"{topic}/{number}")
            server.publish(f"{topic}/{number}", "")
            ws.unsubscribe(f"{topic}/{number}")
        assert len(topics().wanted()) == before


@pytest.mark.usefixtures("hectic")
def test_between_subscribing_and_leaving_nobody_misses_a_message(topic: str) -> None:
    """Members come and go while somebody publishes; each sees an unbroken row of numbers, but for what was on its way
    when it had left the time before."""
    rows: list[tuple[list[int], list[int]]] = []
    over = Event()

    def member(ws: Any, request: Any) -> None:
        for _ in range(ROUNDS):
            ws.subscribe(topic)
            ws.send("in")
            ws.recv()
            ws.unsubscribe(topic)
            ws.send("out")
            ws.recv()

    def follow(server: Any) -> None:
        with Socket(url_of(server), proxy=None, max_queue=1000) as client:
            for _ in range(ROUNDS):
                before: list[int] = []
                inside: list[int] = []
                rows.append((before, inside))
                while (message := client.recv(PATIENCE)) != "in":
                    before.append(int(message))
                inside.extend(int(client.recv(PATIENCE)) for _ in range(5))
                client.send("on")
                while (message := client.recv(PATIENCE)) != "out":
                    inside.append(int(message))
                client.send("on")

    def publish(server: Any) -> None:
        for number in itertools.count():
            if over.is_set():
                return
            server.publish(topic, str(number))
            world.sleep(0.0005)

    with serving(member) as server:
        publisher = spawn(publish, server)
        try:
            followers = [spawn(follow, server) for _ in range(8)]
            for follower in followers:
                follower.result(60)
        finally:
            over.set()
        publisher.result()
    assert len(rows) == 8 * ROUNDS
    for before, inside in rows:
        row = before + inside
        if before and before[0] + 1 != row[1]:
            del row[0]  # the late one: one at most, for one thread publishes
        assert row == list(range(row[0], row[0] + len(row)))


FORKED = """
if mode == "threads":
    from os import fork, waitpid
else:
    from gevent.os import fork, waitpid
from syncws.topics import topics
with world.serving(None) as server, world.Socket(world.url_of(server), proxy=None) as client:
    world.eventually(lambda: server.clients)
    (ws,) = server.clients
    ws.subscribe("room")
    told, teller = os.pipe()
    pid = fork()
    if not pid:
        server.publish("room", "from the child")
        code = 0 if topics().wanted() == [] else 1
        os.read(told, 1)
        os._exit(code)
    os.write(teller, b"!")  # gevent's waitpid never hears of a child that ends before its fork returns
    assert waitpid(pid, 0)[1] == 0
    server.publish("room", "from the parent")
    say(client.recv(10))
"""


def test_the_child_of_a_fork_has_no_subscribers_of_the_parents() -> None:
    with Program(FORKED) as program:
        assert program.line() == "from the parent"


# -- brokers -------------------------------------------------------------------------------------------------------


class Notes:
    """A broker that writes down what is asked of it, and fails where it is told to."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.calls: list[tuple[Any, ...]] = []
        self.fails = False

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Notes) and bool(self.name) and self.name == other.name) or self is other

    def __hash__(self) -> int:
        return hash(self.name)

    def start(self, wanted: Any, deliver: Any) -> None:
        self.wanted, self.deliver = wanted, deliver
        self.calls.append(("start",))

    def stop(self) -> None:
        self.calls.append(("stop",))

    def disinherit(self) -> None:
        self.calls.append(("disinherit",))

    def follow(self, topic: str) -> None:
        self._do("follow", topic, topic in self.wanted.all())

    def publish(self, topic: str, data: Any) -> None:
        self._do("publish", topic, data)

    def _do(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fails:
            raise ConnectionError("away")


def test_a_broker_is_started_followed_with_published_to_and_stopped(topic: str) -> None:
    broker = Notes()
    with gathering(broker=broker) as (server, members):
        client, _ = members.add(topic)
        server.publish(topic, b"out")
        assert client.recv(PATIENCE) == b"out"
        broker.deliver(topic, "in")
        assert client.recv(PATIENCE) == "in"
        assert broker.calls == [("start",), ("follow", topic, True), ("publish", topic, b"out")]
    assert broker.calls[3:] == [("stop",)]


def test_a_broker_that_cannot_follow_leaves_the_socket_out_of_the_topic(topic: str) -> None:
    broker = Notes()
    broker.fails = True
    with gathering(broker=broker) as (_, members):
        _, ws = members.add()
        with pytest.raises(ConnectionError, match="away"):
            ws.subscribe(topic)
        assert topic not in topics().wanted()
        broker.fails = False
        ws.subscribe(topic)
        broker.fails = True
        with pytest.raises(ConnectionError, match="away"):
            ws.subscribe(topic)
        assert topic in topics().wanted()  # as before


class SlowToFail(Notes):
    """The first that asks waits, and then gets nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answer = Event(), Event()

    def follow(self, topic: str) -> None:
        super().follow(topic)
        if len(self.calls) == 2:
            self.asked.set()
            self.answer.wait(PATIENCE)
            raise ConnectionError("away")


@pytest.mark.skipif(world.MODE == "gevent", reason="a broker is asked on another thread, with other events")
@pytest.mark.parametrize("meanwhile", ["subscribes", "comes back", "leaves"])
def test_a_subscription_that_fails_takes_nothing_from_another(meanwhile: str, topic: str) -> None:
    broker = SlowToFail()
    with gathering(broker=broker) as (server, members):
        client, ws = members.add()
        first = spawn(ws.subscribe, topic)
        assert broker.asked.wait(PATIENCE)
        if meanwhile != "subscribes":
            ws.unsubscribe(topic)
        if meanwhile != "leaves":
            ws.subscribe(topic)
        broker.answer.set()
        with pytest.raises(ConnectionError):
            first.result()
        assert (topic in topics().wanted()) == (meanwhile != "leaves")
        server.publish(topic, "for whom it may be")
        if meanwhile == "leaves":
            has_nothing(client)
        else:
            assert client.recv(PATIENCE) == "for whom it may be"
        ws.unsubscribe(topic)


def test_a_broker_that_cannot_publish_is_said_when_those_of_the_process_have_it(topic: str) -> None:
    broker = Notes()
    with gathering(broker=broker) as (server, members):
        client, _ = members.add(topic)
        broker.fails = True
        with pytest.raises(ConnectionError, match="away"):
            server.publish(topic, "here")
        assert client.recv(PATIENCE) == "here"


def test_of_equal_brokers_one_is_at_work_as_long_as_any_server_has_one(topic: str) -> None:
    first, second = Notes("equal"), Notes("equal")
    with gathering(broker=first) as (_, members):
        with Server(no_server=True, broker=second) as server:
            server.publish(topic, "x")
            client, _ = members.add(topic)
        assert [call[0] for call in first.calls] == ["start", "follow"]
        first.deliver(topic, "once")
        assert client.recv(PATIENCE) == "once"
        has_nothing(client)
    assert [call[0] for call in first.calls] == ["start", "follow", "stop"]
    assert second.calls == [("publish", topic, "x")]


def test_a_server_that_leaves_its_clients_leaves_them_the_broker(topic: str) -> None:
    broker = Notes()
    with gathering(broker=broker) as (server, members):
        client, ws = members.add(topic)
        server.close(clients="leave")
        broker.deliver(topic, "still")
        assert client.recv(PATIENCE) == "still"
        assert ("stop",) not in broker.calls
        ws.terminate()
    server.close()
    assert broker.calls[-1] == ("stop",)


@pytest.mark.parametrize("bad", ["redis://localhost", object(), 7])
def test_what_cannot_carry_topics_is_no_broker(bad: Any) -> None:
    with pytest.raises(TypeError, match="broker must have start"):
        Server(no_server=True, broker=bad)
