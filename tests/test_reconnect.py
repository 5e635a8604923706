"""`reconnect`: when it tries again, how long it waits, and how it is ended."""

from __future__ import annotations

import contextlib
import itertools
import logging
import ssl
import sys
import threading
import time
from email.utils import formatdate
from typing import Any

import pytest
import world
from hypothesis import given
from hypothesis import strategies as st
from peer import CLOSE, Peer
from program import Program
from world import PATIENCE, Event, eventually, reconnect, serving, spawn, url_of

import syncws
from syncws import ConnectionClosed, HandshakeError, Response

module: Any = sys.modules["syncws.reconnect"]  # the function stands before it in the package
QUICK = {"min_delay": 0.01, "max_delay": 0.05}
SECRET = "hunter2"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for, none of which is made."""
    asked: list[float] = []
    monkeypatch.setattr(module._Guard, "pause", lambda self, seconds: asked.append(seconds))
    return asked


def nowhere() -> str:
    """A URL at which nobody listens."""
    with world.raw_listener() as listener:
        return f"ws://127.0.0.1:{listener.getsockname()[1]}/"


# -- arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ValueError, {"url": "ftp://127.0.0.1/"}),
        (ValueError, {"url": "ws://127.0.0.1/#part"}),
        (TypeError, {"url": None}),
        (ValueError, {"protocols": ["a b"]}),
        (ValueError, {"headers": {"A": "b\r\nC: d"}}),
        (ValueError, {"binaryType": "blob"}),
        (TypeError, {"compression": "yes"}),
        (ValueError, {"handshake_timeout": 0}),
        (TypeError, {"nonsense": 1}),
        (TypeError, {"blocking": False}),
        (TypeError, {"sock": None}),
        (TypeError, {"socket_class": object}),
        (TypeError, {"socket_class": "Socket"}),
        (ValueError, {"min_delay": 0}),
        (ValueError, {"min_delay": -1}),
        (TypeError, {"min_delay": "1"}),
        (TypeError, {"min_delay": True}),
        (ValueError, {"min_delay": float("nan")}),
        (ValueError, {"min_delay": 2, "max_delay": 1}),
        (ValueError, {"max_delay": float("inf")}),
        (ValueError, {"factor": 0.5}),
        (ValueError, {"factor": float("inf")}),
        (ValueError, {"jitter": -0.1}),
        (ValueError, {"jitter": 1.1}),
        (ValueError, {"stable_after": -1}),
        (ValueError, {"max_retry_after": -1}),
        (TypeError, {"max_retry_after": None}),
        (ValueError, {"max_tries": 0}),
        (TypeError, {"max_tries": 1.5}),
        (TypeError, {"stop": True}),
    ],
    ids=str,
)
def test_bad_arguments_raise_before_anything_is_asked_for(kind: type[Exception], arguments: Any) -> None:
    with pytest.raises(kind):
        reconnect(**{"url": "ws://127.0.0.1/", **arguments})


def test_making_one_connects_to_nothing() -> None:
    with world.raw_listener() as listener:
        connections = reconnect(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        connections.close()
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_headers_and_subprotocols_that_can_be_read_once_go_to_every_server() -> None:
    seen: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        seen.append((request.headers.get("X-One"), ws.protocol))
        ws.close(1000)

    with serving(accept, protocols=["v1"]) as server:
        headers, protocols = iter([("X-One", "1")]), iter(["v1"])
        for ws in reconnect(url_of(server), protocols, headers=headers, min_delay=0.001, max_delay=0.001):
            assert ws.wait_closed(PATIENCE)
            if len(seen) == 2:
                break
    assert seen == [("1", "v1")] * 2


# -- delays ---------------------------------------------------------------------------------------------------

seconds = st.floats(1e-3, 1e6)


@given(seconds, seconds, st.floats(1, 1e300), st.floats(0, 1), st.integers(0, 30))
def test_delays_grow_from_the_least_to_the_most_less_the_jitter(
    one: float, other: float, factor: float, jitter: float, count: int
) -> None:
    least, most = sorted((one, other))
    delays = list(itertools.islice(module.Delays(least, most, factor, jitter).sequence(), count))
    whole = least
    for delay in delays:
        assert whole * (1 - jitter) <= delay <= whole <= most
        whole = min(whole * factor, most)


@pytest.mark.parametrize(("chance", "expected"), [(0.0, [1, 2, 4, 5, 5]), (0.5, [0.75, 1.5, 3, 3.75, 3.75])])
def test_the_jitter_is_taken_off(chance: float, expected: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.random, "random", lambda: chance)
    assert list(itertools.islice(module.Delays(1, 5, 2, 0.5).sequence(), 5)) == expected


@pytest.mark.parametrize(("stable_after", "expected"), [(1000.0, [1, 2, 4, 8]), (0.0, [1, 1, 1, 1])])
def test_delays_begin_anew_only_after_a_stable_connection(
    stable_after: float, expected: list[float], waits: list[float]
) -> None:
    with serving(lambda ws, request: ws.close(1000)) as server:
        for ws in reconnect(url_of(server), jitter=0, stable_after=stable_after):
            assert list(ws) == []
            if len(waits) == 4:
                break
    assert waits == expected


def test_failures_make_the_delays_grow_and_the_last_of_max_tries_is_raised(waits: list[float]) -> None:
    with pytest.raises(ConnectionRefusedError):
        next(reconnect(nowhere(), jitter=0, max_delay=3, max_tries=5))
    assert waits == [1, 2, 3, 3]


def test_max_tries_counts_failures_in_a_row(waits: list[float]) -> None:
    verdicts = iter([Response(503), Response(503), True, Response(503), Response(503), True])
    with serving(verify_client=lambda info: next(verdicts)) as server:
        opened = list(itertools.islice(reconnect(url_of(server), max_tries=3), 2))
    assert len(opened) == 2


# -- what is tried again --------------------------------------------------------------------------------------


def refusal(status: int, **headers: str) -> HandshakeError:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return HandshakeError("refused", response=Response(status, fields))


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        *((refusal(status), True) for status in (408, 425, 429, 500, 502, 503, 504, 599)),
        *((refusal(status), False) for status in (101, 200, 302, 400, 401, 403, 404, 405, 407, 410, 426, 431)),
        (HandshakeError("no answer"), True),
        (ConnectionRefusedError(), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (FileNotFoundError(), True),
        (OSError(101, "unreachable"), True),
        (ssl.SSLCertVerificationError("expired"), False),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), False),
        (ssl.SSLEOFError(), True),
        (ValueError(), False),
    ],
    ids=repr,
)
def test_what_may_pass_is_told_from_what_will_not(error: Exception, passing: bool) -> None:
    assert module.is_passing(error) is passing


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
def test_a_refusal_that_will_not_pass_is_raised_at_once(status: int) -> None:
    asked: list[Any] = []

    def refuse(info: Any) -> Any:
        asked.append(info)
        return Response(status, body=b"no")

    with serving(verify_client=refuse) as server:
        with pytest.raises(HandshakeError) as caught:
            next(reconnect(url_of(server), **QUICK))
        assert (caught.value.status, caught.value.response.body, len(asked)) == (status, b"no", 1)


@pytest.mark.parametrize("status", [408, 429, 502, 503])
def test_a_refusal_that_may_pass_is_tried_again(status: int) -> None:
    verdicts = iter([Response(status), Response(status), True])
    with serving(verify_client=lambda info: next(verdicts)) as server:
        for ws in reconnect(url_of(server), **QUICK):
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"
            break


def test_a_certificate_that_is_not_trusted_is_raised_at_once(server_tls: Any) -> None:
    with serving(ssl=server_tls) as server, pytest.raises(ssl.SSLCertVerificationError):
        next(reconnect(url_of(server, scheme="wss"), **QUICK))


def test_a_server_that_is_none_of_http_is_raised_at_once() -> None:
    with world.raw_listener() as listener:

        def greet() -> None:
            sock, _ = listener.accept()
            with contextlib.closing(sock):
                sock.recv(1000)
                sock.sendall(b"220 mail.example\r\n\r\n")
                sock.recv(1000)

        greeting = spawn(greet)
        with pytest.raises(HandshakeError, match="malformed"):
            next(reconnect(f"ws://127.0.0.1:{listener.getsockname()[1]}/", **QUICK))
        greeting.result()


def test_a_server_that_hangs_up_before_it_answers_is_tried_again() -> None:
    with world.raw_listener() as listener:

        def come_and_go() -> Peer:
            listener.accept()[0].close()
            return Peer.accept(listener)

        coming = spawn(come_and_go)
        for ws in reconnect(f"ws://127.0.0.1:{listener.getsockname()[1]}/", **QUICK):
            assert ws.readyState == syncws.OPEN
            coming.result().close()
            break


def test_an_unknown_name_is_tried_again(waits: list[float]) -> None:
    with pytest.raises(OSError):
        next(reconnect("ws://name.invalid/", max_tries=2))
    assert len(waits) == 1


# -- Retry-After ----------------------------------------------------------------------------------------------

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (503, {}, 0),
        (503, {"Retry_After": "120"}, 120),
        (429, {"Retry_After": "7"}, 7),
        (503, {"Retry_After": "0"}, 0),
        (503, {"Retry_After": " 5 "}, 5),
        (500, {"Retry_After": "120"}, 0),
        (503, {"Retry_After": "-1"}, 0),
        (503, {"Retry_After": "1.5"}, 0),
        (503, {"Retry_After": "soon"}, 0),
        (503, {"Retry_After": ""}, 0),
        (503, {"Retry_After": "9" * 5000}, float("inf")),
        (503, {"Retry_After": "Sun, 06 Nov 1994 08:50:37 GMT"}, 60),
        (503, {"Retry_After": "Sunday, 06-Nov-94 08:50:37 GMT"}, 60),
        (503, {"Retry_After": "Sun Nov  6 08:50:37 1994"}, 60),
        (503, {"Retry_After": "Sun, 06 Nov 1994 08:48:37 GMT"}, 0),
        (503, {"Retry_After": "Sun, 99 Nov 1994 08:48:37 GMT"}, 0),
        (503, {"Retry_After": "Sun, 06 Nov 99999 08:48:37 GMT"}, 0),
        (503, {"Retry_After": "Fri, 01 Jan 2010 00:00:09 GMT", "Date": "Fri, 01 Jan 2010 00:00:00 GMT"}, 9),
        (503, {"Retry_After": "Sun, 06 Nov 1994 08:50:37 GMT", "Date": "today"}, 60),
    ],
    ids=str,
)
def test_retry_after_is_read_in_both_forms(status: int, headers: dict[str, str], expected: float) -> None:
    assert module.retry_after(refusal(status, **headers), NOW) == expected


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_no_retry_after_is_too_strange(text: str) -> None:
    assert module.retry_after(refusal(503, Retry_After=text, Date=text), NOW) >= 0


def test_retry_after_is_waited_before_the_delay(waits: list[float]) -> None:
    when, date = formatdate(NOW + 40, usegmt=True), formatdate(NOW, usegmt=True)
    verdicts = iter(
        [
            Response(503, {"Retry-After": "30"}),
            Response(429, {"Retry-After": when, "Date": date}),
            Response(503, {"Retry-After": "100000"}),
            True,
        ]
    )
    with serving(verify_client=lambda info: next(verdicts)) as server:
        next(reconnect(url_of(server), jitter=0, max_retry_after=50))
    assert waits == [30 + 1, 40 + 2, 50 + 4]


def test_retry_after_takes_as_long_as_it_says() -> None:
    verdicts = iter([Response(503, {"Retry-After": "1"}), True])
    with serving(verify_client=lambda info: next(verdicts)) as server:
        began = time.monotonic()
        next(reconnect(url_of(server), **QUICK))
        assert 1 <= time.monotonic() - began < 5


# -- one connection after the other ---------------------------------------------------------------------------

SERVER = """
server = world.Server(world.echo, host="127.0.0.1", port=int(sys.argv[1]))
say(server.address()[1])
server.serve_forever()
"""


def test_a_server_that_is_killed_and_comes_back_is_met_again() -> None:
    rounds = 0
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Program(SERVER, 0))
        port = first.address()[1]
        for ws in reconnect(f"ws://127.0.0.1:{port}/", **QUICK):
            ws.send("hello")
            assert ws.recv(PATIENCE) == "hello"
            rounds += 1
            if rounds == 2:
                break
            first.__exit__()  # killed
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(PATIENCE)
            assert caught.value.code == 1006
            coming_back = spawn(lambda: stack.enter_context(Program(SERVER, port)).address())
        assert coming_back.result()[1] == port


@pytest.mark.parametrize("code", [1000, 1001, 1012, 4000])
def test_whatever_code_the_server_closes_with_the_next_comes(code: int) -> None:
    codes = []
    with serving(lambda ws, request: ws.close(code)) as server:
        for ws in reconnect(url_of(server), **QUICK):
            with contextlib.suppress(ConnectionClosed):
                for _ in ws:
                    pass
            codes.append(ws.close_code)
            if len(codes) == 3:
                break
    assert codes == [code] * 3


@pytest.mark.parametrize("leave", ["next", "break", "return", "raise", "close"])
def test_the_last_socket_is_closed_with_1000_and_waited_for(leave: str) -> None:
    codes: list[int] = []

    def accept(ws: Any, request: Any) -> None:
        ws.on("close", lambda event: codes.append((event.code, event.wasClean)))

    seen = []

    def run(url: str) -> None:
        connections = reconnect(url, **QUICK)
        for ws in connections:
            seen.append(ws)
            if leave == "next" and len(seen) == 1:
                continue
            if leave == "return":
                return
            if leave == "raise":
                raise ZeroDivisionError
            if leave == "close":
                connections.close()
                return
            break

    with serving(accept) as server:
        with contextlib.suppress(ZeroDivisionError):
            run(url_of(server))
        assert [ws.readyState for ws in seen] == [syncws.CLOSED] * len(seen)
        assert len(seen) == (2 if leave == "next" else 1)
        eventually(lambda: codes == [(1000, True)] * len(seen))


def test_a_peer_that_does_not_answer_the_close_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.05)
    with world.raw_listener() as listener:
        accepting = spawn(Peer.accept, listener)
        began = time.monotonic()
        connections = reconnect(f"ws://127.0.0.1:{listener.getsockname()[1]}/", **QUICK)
        ws = next(connections)
        connections.close()
        assert time.monotonic() - began < 5
        assert ws.close_code == 1006
        with accepting.result() as peer:
            assert peer.expect_close(1000, answer=False)


def test_listeners_and_options_are_each_sockets() -> None:
    class Mine(world.Socket):
        pass

    heard: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        ws.close(4000, f"{request.headers['A']} {ws.protocol}")

    with serving(accept, protocols=["p"]) as server:
        options = {"headers": {"A": "b"}, "onclose": heard.append, "socket_class": Mine, **QUICK}
        for ws in itertools.islice(reconnect(url_of(server), ["p"], **options), 2):
            assert type(ws) is Mine
            assert ws.wait_closed(PATIENCE)
    assert [(event.code, event.reason) for event in heard] == [(4000, "b p")] * 2


def test_failed_attempts_are_not_told_to_listeners(waits: list[float]) -> None:
    heard: list[Any] = []
    with pytest.raises(ConnectionRefusedError):
        next(reconnect(nowhere(), max_tries=2, onerror=heard.append, onclose=heard.append))
    assert heard == []


# -- being stopped --------------------------------------------------------------------------------------------


class Flag:
    """What is no Event of any world, but has what it takes."""

    value = False

    def is_set(self) -> bool:
        return self.value

    def set(self) -> None:
        self.value = True


each_event = pytest.mark.parametrize("make", [Event, Flag], ids=["Event", "is_set"])


@each_event
def test_a_set_stop_yields_nothing(make: Any) -> None:
    stop = make()
    stop.set()
    assert list(reconnect(nowhere(), stop=stop)) == []


def test_a_delay_longer_than_the_system_can_sleep_is_waited() -> None:
    class Sleeper:
        def sleep(self, seconds: float) -> None:
            raise StopIteration(seconds)

    with pytest.raises(StopIteration) as caught:
        module._Guard(Sleeper(), None).pause(1e300)
    assert 0.1 <= caught.value.value <= threading.TIMEOUT_MAX


@each_event
def test_stop_ends_the_waiting(make: Any, caplog: Any) -> None:
    stop = make()
    running = spawn(list, reconnect(nowhere(), min_delay=1000, max_delay=1000, stop=stop))
    eventually(lambda: "trying again" in caplog.text)
    stop.set()
    assert running.result() == []


@each_event
@pytest.mark.parametrize("tls", [False, True], ids=["HTTP", "TLS"])
def test_stop_ends_the_connecting(make: Any, tls: bool, caplog: Any) -> None:
    stop = make()
    with world.raw_listener() as listener:
        url = f"{'wss' if tls else 'ws'}://127.0.0.1:{listener.getsockname()[1]}/"
        running = spawn(list, reconnect(url, stop=stop, handshake_timeout=None, max_tries=1))
        sock, _ = listener.accept()
        sock.settimeout(PATIENCE)
        assert sock.recv(1)
        stop.set()
        assert running.result() == []
        while sock.recv(1000):
            pass
        sock.close()
    assert caplog.text == ""  # nothing failed


@each_event
@pytest.mark.parametrize("call", ["recv", "iterate", "wait_closed"])
def test_stop_ends_what_waits_in_the_socket_with_1001(make: Any, call: str) -> None:
    stop = make()
    told: list[Any] = []
    opened = Event()

    def accept(ws: Any, request: Any) -> None:
        ws.on("close", lambda event: told.append((event.code, event.wasClean)))
        opened.set()

    def run(url: str) -> Any:
        outcomes = []
        for ws in reconnect(url, stop=stop, **QUICK):
            try:
                outcomes.append(list(ws) if call == "iterate" else getattr(ws, call)())
            except ConnectionClosed as error:
                outcomes.append(error.code)
        return outcomes

    with serving(accept) as server:
        running = spawn(run, url_of(server))
        assert opened.wait(PATIENCE)
        stop.set()
        assert running.result() == [{"recv": 1001, "iterate": [], "wait_closed": True}[call]]
        eventually(lambda: told == [(1001, True)])


def test_stop_drops_a_peer_that_does_not_answer_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.05)
    stop = Event()

    def run(url: str) -> Any:
        codes = []
        for ws in reconnect(url, stop=stop, **QUICK):
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv()
            codes.append(caught.value.code)
        return codes

    with world.raw_listener() as listener:
        running = spawn(run, f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        with Peer.accept(listener) as peer:
            stop.set()
            assert running.result() == [1006]
            assert [frame.opcode for frame in peer.read_all()] == [CLOSE]


def test_stop_while_the_body_is_elsewhere_closes_the_socket() -> None:
    stop = Event()
    with serving() as server:
        rounds = 0
        for ws in reconnect(url_of(server), stop=stop, **QUICK):
            rounds += 1
            stop.set()
            eventually(lambda ws=ws: ws.readyState == syncws.CLOSED)
            assert ws.close_code == 1001
        assert rounds == 1


@pytest.mark.parametrize("where", ["waiting", "connecting", "reading"])
def test_ctrl_c_ends_it_at_once(where: str) -> None:
    source = """
import logging
class Say(logging.Handler):
    def emit(self, record):
        say("waiting")
logging.getLogger("syncws").addHandler(Say())
url, where = sys.argv[1:]
try:
    for ws in world.reconnect(url, min_delay=1000, max_delay=1000, handshake_timeout=None):
        say("reading")
        ws.recv()
except KeyboardInterrupt:
    say("interrupted")
"""
    with contextlib.ExitStack() as stack:
        if where == "reading":
            url = f"ws://127.0.0.1:{stack.enter_context(Program(SERVER, 0)).address()[1]}/"
        elif where == "waiting":
            url = nowhere()
        else:
            listener = stack.enter_context(world.raw_listener())
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        program = stack.enter_context(Program(source, url, where))
        if where == "connecting":
            sock, _ = listener.accept()
            stack.callback(sock.close)
            assert sock.recv(1)
        else:
            assert program.line() == where
        began = time.monotonic()
        program.signal(2)
        status, said, complaints = program.end()
        assert (status, said) == (0, "interrupted\n")
        assert complaints == "" or world.GREEN  # gevent's hub says on its own that it saw the KeyboardInterrupt
        assert time.monotonic() - began < 5


# -- the log --------------------------------------------------------------------------------------------------


def test_each_failure_is_logged_without_secrets(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, "syncws")
    verdicts = iter([Response(503), Response(502, reason="Bad\x80Gateway"), True])
    with serving(verify_client=lambda info: next(verdicts)) as server:
        where = url_of(server).removeprefix("ws://")
        url = f"ws://user:{SECRET}@{where}path?token={SECRET}"
        next(reconnect(url, headers={"Cookie": SECRET}, **QUICK))
    lines = [record.getMessage() for record in caplog.records if "trying again" in record.getMessage()]
    assert [line.rpartition("; ")[0] for line in lines] == [
        f"no connection to ws://{where}path: HandshakeError: the server answered 503 'Service Unavailable', not 101",
        f"no connection to ws://{where}path: HandshakeError: the server answered 502 'Bad\\x80Gateway', not 101",
    ]
    assert {record.levelname for record in caplog.records if "trying again" in record.getMessage()} == {"WARNING"}
    assert SECRET not in caplog.text


def test_a_time_out_is_logged_without_the_query(caplog: Any, waits: list[float]) -> None:
    with world.raw_listener() as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/?token={SECRET}"
        with pytest.raises(TimeoutError):
            next(reconnect(url, handshake_timeout=0.05, max_tries=2))
    assert "TimeoutError; trying again" in caplog.text
    assert SECRET not in caplog.text
