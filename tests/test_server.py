"""`Server`: what it takes, whom it calls, how it routes, what it knows of its clients."""

from __future__ import annotations

import os
import ssl
from typing import Any

import pytest
import world
from peer import CLOSE, TEXT, Peer, close_payload
from raw import ask, connection, head, is_served
from world import Event, Server, Socket, serving, url_of

# -- arguments --------------------------------------------------------------------------------------------


def free(**options: Any) -> None:
    """Make a server that must not come to be."""
    server = Server(None, **{"host": "127.0.0.1", "port": 0, **options})
    server.close()


@pytest.mark.parametrize("count", [0, 2, 3])
def test_exactly_one_place_to_listen_is_given(count: int) -> None:
    with world.raw_listener() as listener:
        places = dict(list({"port": 0, "unix": "/nonexistent/s", "sock": listener}.items())[:count])
        with pytest.raises(TypeError, match="exactly one"):
            Server(None, **places)


@pytest.mark.parametrize(
    "name",
    [
        "legacy",
        "blocking",
        "generate_mask",
        "binaryType",
        "proxy",
        "nonsense",
    ],
)
def test_unknown_arguments_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        free(**{name: None})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (TypeError, {"accept": 5}),
        (TypeError, {"socket_class": object}),
        (TypeError, {"socket_class": "Socket"}),
        (TypeError, {"verify_client": True}),
        (TypeError, {"select_subprotocol": ["chat"]}),
        (TypeError, {"protocols": "chat"}),
        (TypeError, {"origins": [5]}),
        (TypeError, {"origins": 5}),
        (TypeError, {"no_server": 1}),
        (TypeError, {"reuse_port": 1}),
        (ValueError, {"backlog": -1}),
        (ValueError, {"path": "/\u00e9"}),
        (ValueError, {"accept": {"/a b": print}}),
        (ValueError, {"protocols": ["a b"]}),
        (ValueError, {"protocols": [""]}),
        (ValueError, {"origins": ["good.example"]}),
        (ValueError, {"origins": "good.example"}),
        (TypeError, {"ssl": True}),
        (TypeError, {"compression": "yes"}),
        (TypeError, {"max_header_size": "big"}),
        (TypeError, {"max_payload": 1.5}),
        (ValueError, {"max_payload": -1}),
        (ValueError, {"max_fragments": -1}),
        (ValueError, {"max_queue": 0}),
        (ValueError, {"handshake_timeout": 0}),
        (ValueError, {"handshake_timeout": float("nan")}),
        (TypeError, {"close_timeout": None}),
        (ValueError, {"ping_interval": -1}),
        (TypeError, {"ping_timeout": "1"}),
        (ValueError, {"cpu": 1 << 20}),
        (TypeError, {"accept": {"/": 5}}),
        (TypeError, {"accept": {"/": None}}),
        (TypeError, {"accept": {5: print}}),
        (TypeError, {"path": 5}),
        (ValueError, {"path": "chat"}),
        (TypeError, {"protocols": [1]}),
        (ValueError, {"protocols": ["chat", "chat"]}),
        (TypeError, {"max_connections": "x"}),
        (TypeError, {"max_connections": 1.5}),
        (ValueError, {"max_connections": -1}),
        (ValueError, {"max_header_size": 0}),
        (TypeError, {"client_tracking": "x"}),
        (TypeError, {"auto_pong": 1}),
    ],
)
def test_bad_arguments_raise_at_once(kind: type[Exception], options: dict[str, Any]) -> None:
    accept = options.pop("accept", None)
    with pytest.raises(kind):
        Server(accept, host="127.0.0.1", port=0, **options)


def test_options_are_keywords() -> None:
    with pytest.raises(TypeError):
        Server(None, "127.0.0.1")


# -- serving ----------------------------------------------------------------------------------------------


def test_a_client_is_served_from_the_handshake_to_the_close() -> None:
    with serving() as server:
        assert is_served(server)


def test_accept_gets_the_socket_and_the_request_on_a_thread_of_its_own() -> None:
    seen: list[Any] = []
    together = Event()

    def accept(ws: Any, request: Any) -> None:
        seen.append((ws, request))
        if len(seen) == 2:
            together.set()
        assert together.wait(world.PATIENCE)
        ws.send(request.target)

    with serving(accept) as server, Peer.connect(server, "/a?b=c") as one, Peer.connect(server, "/d") as two:
        assert {one.read().payload, two.read().payload} == {b"/a?b=c", b"/d"}
        ws, request = next(pair for pair in seen if pair[1].path == "/a")
        assert (request.method, request.path, request.query) == ("GET", "/a", {"b": ["c"]})
        assert (request.secure, request.environ) == (False, None)
        assert request.headers["upgrade"] == "websocket"
        assert request.remote_address == ws.remote_address == one.sock.getsockname()
        assert ws.local_address == one.sock.getpeername()
        assert ws.request is request
        assert ws.response.status == 101
        assert (ws.url, ws.protocol, ws.extensions) == ("", "", "")
        assert ws.readyState == ws.OPEN


def test_without_accept_connections_are_there_for_the_event() -> None:
    with serving(None) as server:
        server.on("connection", lambda ws, request: ws.on("message", lambda event: ws.send(event.data)))
        assert is_served(server)


def test_a_mapping_routes_by_exact_path() -> None:
    def tell(name: str) -> Any:
        return lambda ws, request: ws.send(name)

    with serving({"/": tell("root"), "/a": tell("a"), "/a/": tell("slash")}) as server:
        for target, name in (
            ("/", b"root"),
            ("/a", b"a"),
            ("/a?b", b"a"),
            ("/a/", b"slash"),
            ("/?", b"root"),
        ):
            with Peer.connect(server, target) as peer:
                assert peer.read().payload == name
        for target in ("/b", "/A", "/a//", "//a", "/%61", "/a/b", "/a;b"):
            answer = ask(server, head(first=f"GET {target} HTTP/1.1"))
            assert (answer.status, answer.body) == (404, b"there is nothing at this path\n")


def test_a_mapping_may_change_while_it_serves() -> None:
    routes: dict[str, Any] = {}
    with serving(routes) as server:
        assert ask(server, head()).status == 404
        routes["/"] = world.echo
        assert is_served(server)


def test_pipelined_frames_are_not_lost() -> None:
    with serving() as server, Peer.connect(server, extra=b"\x81\x82\0\0\0\0hi\x81\x80\0\0\0\0") as peer:
        assert (peer.read().payload, peer.read().payload) == (b"hi", b"")


def test_frames_in_a_thousand_handshakes_are_not_lost() -> None:
    with serving() as server:
        for index in range(1000):
            text = b"%04d" % index
            with Peer.connect(server, extra=b"\x81\x84\0\0\0\0" + text + b"\x88\x80\0\0\0\0") as peer:
                assert peer.read().payload == text
                peer.expect_close(None, answer=False)


def test_start_is_once_and_returns_the_server() -> None:
    server = Server(world.echo, host="127.0.0.1", port=0)
    assert server.start() is server
    assert server.start() is server
    with server as entered:
        assert entered is server
        assert is_served(server)
    with pytest.raises(RuntimeError, match="closed"):
        server.start()
    with pytest.raises(RuntimeError, match="closed"), server:
        pass


def test_clients_that_come_before_start_are_served_by_it() -> None:
    server = Server(world.echo, host="127.0.0.1", port=0)
    sock = connection(server)
    sock.sendall(head())
    with server, sock:
        assert sock.recv(100).startswith(b"HTTP/1.1 101 ")


# -- the end of accept() ----------------------------------------------------------------------------------


def read_once(ws: Any, request: Any) -> None:
    ws.recv()


def iterate(ws: Any, request: Any) -> None:
    for _ in ws:
        break


@pytest.mark.parametrize("accept", [read_once, iterate])
def test_what_was_read_by_hand_is_closed_when_accept_returns(accept: Any) -> None:
    with serving(accept) as server, Peer.connect(server) as peer:
        peer.send(TEXT, b"1")
        peer.expect_close(1000)
        peer.expect_end()


def listen_only(ws: Any, request: Any) -> None:
    ws.onmessage = lambda event: ws.send(event.data)


def do_nothing(ws: Any, request: Any) -> None:
    ws.addEventListener("close", lambda event: None)


def send_only(ws: Any, request: Any) -> None:
    ws.send("x")


@pytest.mark.usefixtures("quick_ticks")
@pytest.mark.parametrize(
    ("accept", "frames"), [(listen_only, [b"1"]), (do_nothing, []), (send_only, [b"x"]), (None, [])]
)
def test_what_was_not_read_by_hand_stays_open_when_accept_returns(accept: Any, frames: list[bytes]) -> None:
    with serving(accept) as server, Peer.connect(server) as peer:
        peer.send(TEXT, b"1")
        assert [peer.read().payload for _ in frames] == frames
        peer.send(9, b"there?")
        assert peer.read().payload == b"there?"
        assert len(server.clients) == 1
        peer.send(CLOSE, close_payload(3000, "bye"))
        peer.expect_close(3000, answer=False)
        peer.expect_end()
        peer.close()
        world.eventually(lambda: not server.clients)


@pytest.mark.parametrize("error", [ValueError("oops"), MemoryError(), SystemExit(3), KeyboardInterrupt()])
def test_an_accept_that_raises_is_logged_and_closed_with_1011(error: BaseException, caplog: Any) -> None:
    caplog.expected_errors = 1

    def accept(ws: Any, request: Any) -> None:
        if request.target == "/bad":
            raise error
        world.echo(ws, request)

    with serving(accept) as server:
        with Peer.connect(server, "/bad") as peer:
            peer.expect_close(1011)
            peer.expect_end()
        assert is_served(server)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info[1] is error
    assert record.name == "syncws"


def test_a_connection_that_closes_under_accept_is_no_error() -> None:
    ended = Event()

    def accept(ws: Any, request: Any) -> None:
        try:
            ws.recv()
        finally:
            ended.set()

    with serving(accept) as server:
        with Peer.connect(server) as peer:
            peer.send(CLOSE, close_payload(1008))
            peer.expect_close(1008, answer=False)
        assert ended.wait(world.PATIENCE)


# -- what it knows ----------------------------------------------------------------------------------------


def test_clients_come_and_go() -> None:
    seen: list[Any] = []
    with serving() as server:
        server.on("connection", lambda ws, request: seen.append(ws in server.clients))
        assert server.clients == set()
        peers = [Peer.connect(server) for _ in range(3)]
        world.eventually(lambda: len(server.clients) == 3 and seen == [True] * 3)
        for ws in server.clients:  # safe while they go
            ws.close(1000)
        for peer in peers:
            peer.expect_close(1000)
            peer.close()
        world.eventually(lambda: server.clients == set())


def test_a_client_has_left_when_its_close_listeners_run() -> None:
    left: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        ws.on("close", lambda event: left.append((ws in server.clients, event.code)))

    with serving(accept) as server:
        Peer.connect(server).close()
        world.eventually(lambda: left == [(False, 1006)])


def test_without_client_tracking_nobody_is_listed_but_all_are_closed() -> None:
    with serving(client_tracking=False) as server:
        peer = Peer.connect(server)
        assert server.clients == set()
        closing = world.spawn(server.close)
        peer.expect_close(1001)
        peer.close()
        closing.result()


def test_socket_class_is_what_accept_gets() -> None:
    class Mine(Socket):
        def shout(self, text: str) -> None:
            self.send(text.upper())

    with (
        serving(lambda ws, request: ws.shout("hi"), socket_class=Mine) as server,
        Peer.connect(server) as peer,
    ):
        assert peer.read().payload == b"HI"
        assert {type(ws) for ws in server.clients} == {Mine}


def test_should_handle_decides() -> None:
    class Picky(Server):
        def should_handle(self, request: Any) -> bool:
            return "token" in request.query

    with Picky(world.echo, host="127.0.0.1", port=0) as server:
        assert ask(server, head()).status == 400
        Peer.connect(server, "/?token=1").close()


def test_options_reach_the_connections() -> None:
    with serving(max_payload=10, max_fragments=2, auto_pong=False, compression=True) as server:
        with Peer.connect(server, "/", "Sec-WebSocket-Extensions: permessage-deflate") as peer:
            assert b"permessage-deflate" in peer.head
            peer.send(9)
            peer.send(TEXT, b"1234567890")
            assert peer.read().payload == b"1234567890"
            peer.send(TEXT, b"12345678901")
            peer.expect_close(1009)
        with Peer.connect(server) as peer:
            for opcode in (TEXT, 0, 0):
                peer.send(opcode, fin=False)
            peer.expect_close(1008)


def test_compression_is_off_by_default() -> None:
    with (
        serving() as server,
        Peer.connect(server, "/", "Sec-WebSocket-Extensions: permessage-deflate") as peer,
    ):
        assert b"Extensions" not in peer.head


def test_keepalive_drops_a_client_that_is_gone() -> None:
    codes: list[int] = []

    def accept(ws: Any, request: Any) -> None:
        ws.on("close", lambda event: codes.append(event.code))

    with serving(accept, ping_interval=0.1, ping_timeout=0.1) as server, Peer.connect(server) as peer:
        assert peer.read().opcode == 9
        world.eventually(lambda: codes == [1006])


def test_tls_and_its_request_are_secure(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    def accept(ws: Any, request: Any) -> None:
        ws.send(str(request.secure))

    with (
        serving(accept, ssl=server_tls) as server,
        Socket(url_of(server, scheme="wss"), ssl=client_tls) as ws,
    ):
        assert ws.recv(world.PATIENCE) == "True"


def test_the_connections_run_on_the_cpu_that_was_asked_for() -> None:
    before = os.sched_getaffinity(0)
    cpu = max(before)
    try:
        with serving(lambda ws, request: ws.send(repr(os.sched_getaffinity(0))), cpu=cpu) as server:
            with Peer.connect(server) as peer:
                assert peer.read().payload == repr({cpu}).encode()
            # Under greenlets the one thread there is runs connections.
            assert world.GREEN or os.sched_getaffinity(0) == before
    finally:
        os.sched_setaffinity(0, before)


def test_repr_shows_where_it_is() -> None:
    with serving() as server:
        assert repr(server) == f"<Server at {server.address()!r}>"
    assert repr(server).startswith("<Server closed")
