"""A TLS connection of another server's: read and written by its own socket object, from several threads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import secure
import world
from peer import BINARY, CLOSE, TEXT, close_payload, frame

import syncws
from syncws.borrowed import BorrowedTransport
from syncws.runtime import THREADS

pytestmark = world.threads_only

MASK = b"\0\0\0\0"
PATIENCE = world.PATIENCE
VERSIONS = {"1.2": secure.VERSIONS[0], "1.3": secure.VERSIONS[1]}


class Hosting:
    """An HTTP server with TLS that gives all its connections to `accept`; stopped at the end of the `with`."""

    def __init__(self, accept: Any, context: Any, **options: Any) -> None:
        chat = syncws.upgrade(accept, **options)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                chat.http(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def address(self) -> Any:
        return self._server.server_address

    def __enter__(self) -> Hosting:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_in_the_child_of_a_fork_it_leaves_the_parents_connection_alone(server_tls: Any, client_tls: Any) -> None:
    ours, theirs = world.pair_of_sockets()
    ours.settimeout(PATIENCE)
    theirs.settimeout(PATIENCE)
    accepting = world.spawn(server_tls.wrap_socket, theirs, server_side=True)
    client = client_tls.wrap_socket(ours, server_hostname="localhost")
    given = accepting.result()
    with contextlib.closing(client), contextlib.closing(given):
        transport = BorrowedTransport(THREADS, given)
        transport.disinherit()  # as the child does it, whose descriptors are copies
        transport.close()
        client.send(b"still there?")
        given.settimeout(PATIENCE)
        assert given.recv(100) == b"still there?"


@pytest.fixture(params=VERSIONS)
def hosting(request, authority):
    """Makes a host, with each version of TLS."""
    context = secure.only(VERSIONS[request.param], secure.server_context(authority.issue_cert("127.0.0.1")))
    with contextlib.ExitStack() as stack:
        yield lambda accept, **options: stack.enter_context(Hosting(accept, context, **options))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def closing(peer: Any, code: int = 1000) -> None:
    peer.send(CLOSE, close_payload(code))
    peer.expect_close(code, answer=False)
    peer.expect_end()


def test_both_directions_are_busy_at_once(hosting, client_tls):
    """Large and small messages, each direction with a sending and a receiving thread."""
    sizes = [3_000_000, 1, 70_000, 16_384, 3_000_000, 0, 125] * 2

    def exchange(ws: Any) -> list[str]:
        sender = world.spawn(lambda: [ws.send(os.urandom(size)) for size in sizes])
        seen = [len(ws.recv(30)) for _ in sizes]
        sender.result(30)
        return seen

    served: list[Any] = []
    host = hosting(lambda ws, request: served.append(exchange(ws)))
    with world.Socket(world.url_of(host, scheme="wss"), ssl=client_tls) as ws:
        assert exchange(ws) == sizes
        assert ws.wait_closed(10)
    assert served == [sizes]


def test_what_is_sent_arrives_as_it_was(hosting, client_tls):
    host = hosting(lambda ws, request: [ws.send(message) for message in ws])
    with world.Socket(world.url_of(host, scheme="wss"), ssl=client_tls) as ws:
        data = [os.urandom(size) for size in (3_000_000, 16_384, 16_385, 1)]
        sender = world.spawn(lambda: [ws.send(message) for message in data])
        assert [digest(ws.recv(30)) for _ in data] == [digest(message) for message in data]
        sender.result()


@pytest.mark.parametrize("senders", [4])
def test_many_threads_send_on_one_connection(hosting, client_tls, senders):
    def accept(ws: Any, request: Any) -> None:
        tasks = [world.spawn(lambda number=number: [ws.send(f"{number} {n}") for n in range(100)])
                 for number in range(senders)]  # fmt: skip
        for task in tasks:
            task.result()
        ws.recv()

    host = hosting(accept)
    with world.Socket(world.url_of(host, scheme="wss"), ssl=client_tls) as ws:
        got = [ws.recv(10).split() for _ in range(senders * 100)]
        ws.send("enough")
    for number in range(senders):
        assert [int(n) for who, n in got if int(who) == number] == list(range(100))


def test_a_frame_may_come_in_many_records(hosting, client_tls):
    host = hosting(lambda ws, request: [ws.send(message) for message in ws])
    peer = secure.tls_client(host, client_tls)
    for byte in frame(TEXT, b"byte by byte", mask=MASK):
        peer.send_raw(bytes([byte]))
    assert peer.read().payload == b"byte by byte"
    closing(peer)
    peer.close()


@pytest.mark.parametrize("listens", [False, True], ids=["recv", "listener"])
def test_many_frames_may_come_in_one_record(hosting, client_tls, listens):
    """More than a buffer holds, so that the rest lies where the descriptor does not show it."""

    def accept(ws: Any, request: Any) -> None:
        if listens:
            ws.onmessage = lambda event: ws.send(event.data)
        else:
            for message in ws:
                ws.send(message)

    frames = [frame(BINARY, b"%03d" % number + b"x" * 97, mask=MASK) for number in range(150)]
    with contextlib.closing(secure.tls_client(hosting(accept), client_tls)) as peer:
        peer.send_raw(b"".join(frames))
        assert [int(peer.read().payload[:3]) for _ in frames] == list(range(150))
        closing(peer)


def test_a_slow_reader_costs_the_sender_its_time_out(hosting, client_tls):
    outcome: Any = []

    def accept(ws: Any, request: Any) -> None:
        try:
            while True:
                ws.send(b"x" * 1_000_000, timeout=0.2)
        except TimeoutError as error:
            outcome.append(error)

    with contextlib.closing(secure.tls_client(hosting(accept), client_tls, room=4096)) as peer:
        world.eventually(lambda: outcome)
        peer.read_all()


@pytest.mark.parametrize("what", ["send", "recv"])
def test_terminate_frees_who_waits(hosting, client_tls, what):
    sockets: list[Any] = []
    outcome: Any = []

    def accept(ws: Any, request: Any) -> None:
        sockets.append(ws)
        try:
            while True:
                ws.send(b"x" * 1_000_000) if what == "send" else ws.recv()
        except syncws.ConnectionClosed as error:
            outcome.append(error.code)

    with contextlib.closing(secure.tls_client(hosting(accept), client_tls, room=4096)):
        world.eventually(lambda: sockets and (what == "recv" or sockets[0].bufferedAmount))
        sockets[0].terminate()
        world.eventually(lambda: outcome == [1006])


ENDS = {
    "close_notify": lambda peer: peer.sock.notify(),
    "a FIN without it": lambda peer: peer.end(),
    "a reset": lambda peer: peer.reset(),
    "no TLS": lambda peer: peer.sock.sock.sendall(b"GET / HTTP/1.1\r\n\r\n"),
}


@pytest.mark.parametrize("listens", [False, True], ids=["recv", "listener"])
@pytest.mark.parametrize("how", ENDS)
def test_however_tls_ends_the_handler_learns_1006(hosting, client_tls, how, listens):
    outcome: Any = []

    def accept(ws: Any, request: Any) -> None:
        ws.onclose = lambda event: outcome.append(event.code)
        if listens:
            ws.onmessage = lambda event: None
            return
        with contextlib.suppress(syncws.ConnectionClosed):
            ws.recv()

    with contextlib.closing(secure.tls_client(hosting(accept), client_tls)) as peer:
        ENDS[how](peer)
        world.eventually(lambda: outcome == [1006])


def test_a_close_ends_with_a_close_notify(hosting, client_tls):
    with contextlib.closing(
        secure.tls_client(hosting(lambda ws, request: ws.close(3000, "bye")), client_tls)
    ) as peer:
        peer.expect_close(3000)
        peer.expect_end()
        assert peer.sock.notified


def test_data_that_crosses_our_close_does_not_destroy_it(hosting, client_tls):
    """Unread bytes at the end of TCP make the system send a reset, which may overtake what was sent."""

    def accept(ws: Any, request: Any) -> None:
        ws.recv()
        ws.close(3000, "enough")

    with contextlib.closing(secure.tls_client(hosting(accept), client_tls)) as peer:
        for _ in range(20):
            peer.send(BINARY, b"x" * 50_000)
        peer.expect_close(3000)
        peer.expect_end()


def test_a_refusal_is_read_by_a_client_that_goes_on_sending(hosting, client_tls, authority):
    host = hosting(lambda ws, request: None, verify_client=lambda info: False)
    wire = secure.Wire(world.raw_connection(host.address()), client_tls, server_side=False, host="127.0.0.1")
    with wire.handshake():
        wire.sendall(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + b"x" * 50_000
        )
        answer = b""
        while data := wire.recv(65536):
            answer += data
        assert answer.startswith(b"HTTP/1.1 401 ")
