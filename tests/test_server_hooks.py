"""What the user of a `Server` may put into the handshake: functions that decide, and listeners."""

from __future__ import annotations

import functools
import logging
from typing import Any

import pytest
import world
from peer import Peer
from raw import ask, connection, head, is_served, parse, read_to_end
from world import PATIENCE, Server, echo, serving, url_of

from syncws import Response

# -- the user's functions ---------------------------------------------------------------------------------


def test_verify_client_sees_origin_secure_and_request_and_may_leave_something_there() -> None:
    seen: list[Any] = []

    def verify(info: Any) -> bool:
        seen.append((info.origin, info.secure, info.request.path))
        info.request.user = "me"
        return True

    with serving(lambda ws, request: ws.send(request.user), verify_client=verify, origins=None) as server:
        with Peer.connect(server, "/a", "Origin: http://x") as peer:
            assert peer.read().payload == b"me"
        with Peer.connect(server, "/b") as peer:
            assert peer.read().payload == b"me"
    assert seen == [("http://x", False, "/a"), (None, False, "/b")]


@pytest.mark.parametrize(
    ("verdict", "status", "body"),
    [
        (False, 401, b"not authorized\n"),
        (None, 401, b"not authorized\n"),
        (Response(403, body=b"go away"), 403, b"go away"),
        (Response(302, {"Location": "/login"}), 302, b""),
        (Response(204, body=b"x"), 204, b""),
        (Response(304, {"ETag": '"a"'}, b"x"), 304, b""),
        (Response(401, {"WWW-Authenticate": "Basic"}, b"<b>"), 401, b"<b>"),
    ],
)
def test_verify_client_may_refuse(verdict: Any, status: int, body: bytes) -> None:
    with serving(verify_client=lambda info: verdict) as server:
        answer = ask(server, head())
    assert (answer.status, answer.body) == (status, body)
    if isinstance(verdict, Response):
        for name, value in verdict.headers.items():
            assert answer.headers[name.lower()] == value


def test_verify_client_cannot_answer_what_ends_no_request(caplog: Any) -> None:
    caplog.expected_errors = 1
    with serving(verify_client=lambda info: Response(101)) as server:
        assert ask(server, head()).status == 500


def changed(**parts: Any) -> Response:
    response = Response(403)
    for name, value in parts.items():
        setattr(response, name, value)
    return response


async def promise(*_: Any) -> bool:
    return False


def generator(*_: Any) -> Any:
    yield False


FAULTS = [changed(body="no"), changed(status=None), changed(status=403.5), changed(reason="a\r\nb"), changed(headers=5)]


@pytest.mark.parametrize("answer", FAULTS, ids=["body", "no status", "half a status", "reason", "headers"])
def test_an_answer_of_verify_client_that_is_none_is_its_failure(answer: Response, caplog: Any) -> None:
    caplog.expected_errors = 1
    with serving(verify_client=lambda info: answer) as server:
        assert ask(server, head()).status == 500
    assert "the answer of verify_client failed" in caplog.text


@pytest.mark.parametrize("function", [promise, generator], ids=["coroutine", "generator"])
def test_a_verdict_that_nobody_waits_for_lets_nobody_in(function: Any, caplog: Any) -> None:
    caplog.expected_errors = 1
    with serving(verify_client=lambda info: function(info)) as server:
        assert ask(server, head()).status == 500
    for name in ("verify_client", "select_subprotocol"):
        with pytest.raises(TypeError, match=f"{name} must be a plain function"):
            Server(port=0, **{name: function})


@pytest.mark.parametrize("function", [promise, generator], ids=["coroutine", "generator"])
def test_a_handler_that_nobody_would_run_is_refused_or_1011(function: Any, caplog: Any) -> None:
    caplog.expected_errors = 1

    class Called:
        def __call__(self, *arguments: Any) -> Any:
            return function(*arguments)

    Called.__call__ = function  # type: ignore[method-assign]
    for accept in (function, functools.partial(function), Called(), {"/": function}):
        with pytest.raises(TypeError, match="must be a plain function"):
            Server(accept, port=0)
    with serving(lambda ws, request: function()) as server, world.Socket(url_of(server)) as ws:
        assert ws.wait_closed(PATIENCE)
        assert ws.close_code == 1011


def test_verify_client_is_asked_only_about_what_would_be_let_in() -> None:
    asked: list[Any] = []
    with serving({"/a": echo}, verify_client=asked.append, path="/a") as server:
        ask(server, head(first="GET /b HTTP/1.1"))
        ask(server, head("Origin: http://evil.example", first="GET /a HTTP/1.1"))
        ask(server, head("Sec-WebSocket-Protocol: ,", first="GET /a HTTP/1.1"))
        assert asked == []


def raiser(error: BaseException) -> Any:
    def fail(*_: Any) -> Any:
        raise error

    return fail


ERRORS = [ValueError("<secret>"), MemoryError(), SystemExit(3), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("hook", ["verify_client", "select_subprotocol", "should_handle"])
def test_a_function_that_raises_while_judging_is_500_and_logged(hook: str, error: BaseException, caplog: Any) -> None:
    caplog.expected_errors = 1

    class Broken(Server):
        def should_handle(self, request: Any) -> bool:
            if request.path == "/bad" and hook == "should_handle":
                raise error
            return True

    def fail(*arguments: Any) -> Any:
        request = arguments[-1] if hook == "select_subprotocol" else arguments[0].request
        if request.path == "/bad":
            raise error
        return None if hook == "select_subprotocol" else True

    options = {} if hook == "should_handle" else {hook: fail}
    with Broken(echo, host="127.0.0.1", port=0, **options) as server:
        answer = ask(server, head("Sec-WebSocket-Protocol: a", first="GET /bad HTTP/1.1"))
        assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
        assert is_served(server)
    assert error.__class__.__name__ in caplog.text


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("event", ["headers", "connection", "client_error"])
def test_a_listener_that_raises_is_logged_and_the_next_client_served(
    event: str, error: BaseException, caplog: Any
) -> None:
    caplog.expected_errors = None
    with serving() as server:
        server.once(event, raiser(error))
        with connection(server) as sock:
            sock.sendall(head(Upgrade="h2c" if event == "client_error" else "websocket"))
            if event == "client_error" and isinstance(error, Exception):
                assert parse(read_to_end(sock)).status == 400
            else:
                sock.recv(100)
        world.eventually(lambda: [record for record in caplog.records if record.levelno >= logging.ERROR])
        assert is_served(server)


# -- events -----------------------------------------------------------------------------------------------


def test_headers_may_be_changed_before_they_are_sent() -> None:
    with serving() as server:

        @server.on("headers")
        def add(headers: Any, request: Any) -> None:
            headers["X-Path"] = request.path
            headers.add("Set-Cookie", "a=1")
            headers.add("Set-Cookie", "b=2")

        with Peer.connect(server, "/here") as peer:
            assert peer.head.decode().split("\r\n")[-3:] == [
                "X-Path: /here",
                "Set-Cookie: a=1",
                "Set-Cookie: b=2",
            ]


def test_listening_and_connection_come_in_order() -> None:
    seen: list[Any] = []
    server = Server(lambda ws, request: seen.append("accept"), host="127.0.0.1", port=0)
    server.on("listening", lambda: seen.append("listening"))
    server.on("headers", lambda headers, request: seen.append("headers"))
    server.on("connection", lambda ws, request: seen.append(("connection", ws.readyState, request.path)))
    server.on("close", lambda: seen.append("close"))
    with server:
        Peer.connect(server, "/x").close()
        world.eventually(lambda: "accept" in seen)
    assert seen == ["listening", "headers", ("connection", 1, "/x"), "accept", "close"]


def test_client_error_may_answer_itself() -> None:
    seen: list[Any] = []

    def answer(error: Any, sock: Any, request: Any) -> None:
        seen.append((error.status, sock.getpeername()[0], request and request.path))
        sock.sendall(b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n")
        sock.close()

    with serving() as server:
        server.on("client_error", answer)
        assert ask(server, head(Upgrade="h2c", first="GET /p HTTP/1.1")).status == 418
        assert ask(server, b"garbage\r\n\r\n").status == 418
        assert is_served(server)
    assert seen == [(400, "127.0.0.1", "/p"), (400, "127.0.0.1", None)]


def test_client_error_may_only_look() -> None:
    seen: list[Any] = []
    with serving() as server:
        server.on("client_error", lambda error, sock, request: seen.append(error.status))
        assert ask(server, head(Upgrade="h2c")).status == 400
    assert seen == [400]
