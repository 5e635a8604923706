"""What people rely on who come from handlers that upgrade inside a chain or a routing table of an HTTP server.

Each test is one row of docs/coming-from.md. With the servers of the standard library; the others: test by server.
"""

from __future__ import annotations

import gc
import http.server
from typing import Any

import pytest
import world
from httpd import Pages, http_server, wsgi_server
from peer import TEXT, Peer, frame
from world import PATIENCE, Socket, echo, eventually, url_of

import syncws

pytestmark = world.threads_only  # the servers have threads of the system


def not_found(environ: Any, start_response: Any) -> Any:
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


def status_of(server: Any, target: str = "/", **how: Any) -> int:
    with pytest.raises(syncws.HandshakeError) as caught:
        Socket(url_of(server, target), **how)
    assert caught.value.status is not None
    return caught.value.status


def test_accept_runs_after_the_101_inside_the_request() -> None:
    seen: list[Any] = []

    @syncws.upgrade
    def accept(ws: Any, request: Any) -> None:
        ws.send(f"{ws.readyState} {request.environ['PATH_INFO']} {request.path}")

    def application(environ: Any, start_response: Any) -> Any:
        try:
            return accept(environ, start_response)
        finally:
            seen.append("over")

    with wsgi_server(application) as server:
        with Socket(url_of(server, "/a?b")) as ws:
            assert ws.recv(PATIENCE) == "1 /a /a"
            assert seen == []  # the request is still at work
        eventually(lambda: seen == ["over"])


def test_an_earlier_link_of_a_chain_may_answer_and_the_upgrade_never_runs() -> None:
    ran: list[Any] = []
    handler = syncws.upgrade(lambda ws, request: ran.append(request.environ["user"]) or ws.send("welcome"))

    def guard(application: Any) -> Any:
        def guarded(environ: Any, start_response: Any) -> Any:
            if "token=right" not in environ.get("HTTP_COOKIE", "") and environ.get("HTTP_X_TOKEN") != "right":
                start_response("403 Forbidden", [("Content-Length", "2")])
                return [b"no"]
            environ["user"] = "anna"
            return application(environ, start_response)

        return guarded

    with wsgi_server(guard(handler)) as server:
        assert status_of(server) == 403
        assert status_of(server, headers={"X-Token": "wrong"}) == 403
        assert ran == []
        for headers in ({"X-Token": "right"}, {"Cookie": "a=b; token=right"}):
            with Socket(url_of(server), headers=headers) as ws:
                assert ws.recv(PATIENCE) == "welcome"
        assert ran == ["anna", "anna"]


def test_a_handler_is_an_entry_of_a_routing_table_and_others_are_as_ever() -> None:
    shout = syncws.upgrade(lambda ws, request: [ws.send(message.upper()) for message in ws])
    routes = {"/echo": syncws.upgrade(echo), "/shout": shout}

    def application(environ: Any, start_response: Any) -> Any:
        return routes.get(environ["PATH_INFO"], not_found)(environ, start_response)

    with wsgi_server(application) as server:
        for target, answer in (("/echo", "a"), ("/shout", "A")):
            with Socket(url_of(server, target)) as ws:
                ws.send("a")
                assert ws.recv(PATIENCE) == answer
        assert status_of(server, "/else") == 404
        ws = Socket(url_of(server, "/else"), blocking=False)
        told: list[Any] = []
        ws.onerror = ws.onclose = told.append
        assert ws.wait_closed(PATIENCE)
        assert [event.type for event in told] == ["error", "close"]
        assert told[1].code == 1006


def test_a_mapping_is_a_routing_table_of_its_own() -> None:
    with wsgi_server(syncws.upgrade({"/echo": echo, "/bye": lambda ws, request: ws.close(4000)})) as server:
        with Socket(url_of(server, "/echo")) as ws:
            ws.send("a")
            assert ws.recv(PATIENCE) == "a"
        with Socket(url_of(server, "/bye")) as ws, pytest.raises(syncws.ConnectionClosed) as caught:
            ws.recv(PATIENCE)
        assert caught.value.code == 4000
        assert status_of(server, "/else") == 404


def test_compression_and_limits_are_those_of_the_handler() -> None:
    with wsgi_server(syncws.upgrade(echo)) as server, Socket(url_of(server)) as ws:
        assert ws.extensions == ""
        ws.send("x" * 11)
        assert ws.recv(PATIENCE) == "x" * 11
    limited = syncws.upgrade(echo, compression=True, max_payload=10)
    with wsgi_server(limited) as server, Socket(url_of(server)) as ws:
        assert ws.extensions.startswith("permessage-deflate")
        ws.send("x" * 11)
        with pytest.raises(syncws.ConnectionClosed) as caught:
            ws.recv(PATIENCE)
        assert ws.wait_closed(PATIENCE)
        assert caught.value.code == 1009


def test_listeners_attached_by_accept_hear_what_came_with_the_request() -> None:
    @syncws.upgrade
    def accept(ws: Any, request: Any) -> None:
        ws.onmessage = lambda event: event.target.send(event.data)

    with wsgi_server(accept) as server, Peer.connect(server, extra=frame(TEXT, b"early", mask=bytes(4))) as peer:
        assert peer.read().payload == b"early"
        peer.send(TEXT, b"late")
        assert peer.read().payload == b"late"


def test_a_connection_that_nobody_holds_lives_as_long_as_its_request() -> None:
    ended: list[Any] = []

    def application(environ: Any, start_response: Any) -> Any:
        try:
            return handler(environ, start_response)
        finally:
            ended.append(1)

    handler = syncws.upgrade(lambda ws, request: None)  # no listener, no reference
    with wsgi_server(application) as server:
        with Peer.connect(server) as peer:
            gc.collect()
            peer.send(9, b"there?")
            assert peer.read().payload == b"there?"
            assert ended == []
            peer.send(8, b"\x03\xe8")
            peer.expect_close(1000, answer=False)
            peer.expect_end()
        eventually(lambda: ended == [1])


def test_an_ordinary_request_is_told_to_upgrade() -> None:
    with wsgi_server(syncws.upgrade(echo)) as server, world.raw_connection(server.address()) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert sock.recv(12).endswith(b" 426")


def test_in_a_method_of_http_server_it_is_one_page_among_others() -> None:
    handler = syncws.upgrade(echo)

    class Site(Pages):
        def do_GET(self: http.server.BaseHTTPRequestHandler) -> None:
            if self.path == "/chat":
                handler.http(self)
            else:
                Pages.do_GET(self)  # type: ignore[arg-type]

    with http_server(Site) as server:
        with Socket(url_of(server, "/chat")) as ws:
            ws.send("a")
            assert ws.recv(PATIENCE) == "a"
        assert status_of(server, "/page") == 200


BAD_OPTIONS = [{"port": 1}, {"compresion": True}, {"max_payload": -1}, {"headers": {"Upgrade": "x"}}, {"allow": ["me"]}]


@pytest.mark.parametrize("bad", BAD_OPTIONS)
def test_a_bad_option_is_refused_when_the_handler_is_made(bad: Any) -> None:
    for make in (lambda: syncws.upgrade(echo, **bad), lambda: syncws.upgrade(**bad)):
        with pytest.raises((TypeError, ValueError)):
            make()
