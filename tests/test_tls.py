"""TLS: what is refused, what is delivered, and how it ends. Over a strict peer that encrypts by itself."""

from __future__ import annotations

import contextlib
import socket as _native
import ssl
import time
from typing import Any

import pytest
import secure
import world
from peer import BINARY, PING, PONG, TEXT, frame
from secure import VERSIONS, connected, only
from world import Socket, eventually, serving, spawn

SIZE = 1 << 20  # of one large message: more than all buffers on the way hold
COUNT = 12


def wss(server: Any, client_tls: Any, **options: Any) -> Any:
    return Socket(world.url_of(server, scheme="wss"), ssl=client_tls, **options)


# -- both ways at once ---------------------------------------------------------------------------------------------


def large(number: int) -> bytes:
    return bytes([number]) * (SIZE + number)


def send_all(ws: Any) -> None:
    for number in range(COUNT):
        ws.send(large(number))


def receive_all(ws: Any) -> None:
    for number in range(COUNT):
        assert ws.recv(world.PATIENCE) == large(number)


@pytest.mark.parametrize("version", VERSIONS)
def test_large_messages_go_both_ways_at_once(version: Any, authority: Any) -> None:
    def accept(ws: Any, request: Any) -> None:
        sending = spawn(send_all, ws)
        receive_all(ws)
        sending.result(30)
        assert ws.recv(world.PATIENCE) == "done"

    server_tls = only(version, secure.server_context(authority.issue_cert("127.0.0.1")))
    with serving(accept, ssl=server_tls) as server:
        with wss(server, world.client_context(authority)) as ws:
            sending, receiving = spawn(send_all, ws), spawn(receive_all, ws)
            sending.result(30)
            receiving.result(30)
            ws.send("done")
        assert (ws.close_code, ws.readyState) == (1000, ws.CLOSED)


def test_many_threads_send_small_messages_both_ways(server_tls: Any, client_tls: Any) -> None:
    def send_some(ws: Any, who: int) -> None:
        for number in range(300):
            ws.send(f"{who} {number}")

    def exchange(ws: Any) -> None:
        sending = [spawn(send_some, ws, who) for who in range(4)]
        expected = [0] * 4
        for _ in range(4 * 300):
            who, number = map(int, ws.recv(world.PATIENCE).split())
            assert number == expected[who]
            expected[who] += 1
        for task in sending:
            task.result()

    with serving(lambda ws, request: exchange(ws), ssl=server_tls) as server:
        with wss(server, client_tls) as ws:
            exchange(ws)
        assert ws.close_code == 1000


class Crowded:
    """An SSL object that takes its time, and notes how many were inside at once."""

    def __init__(self, tls: Any) -> None:
        self._tls = tls
        self._inside: list[int] = []
        self.most = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._tls, name)

        def slowly(*args: Any) -> Any:
            self._inside.append(1)
            self.most = max(self.most, len(self._inside))
            try:
                time.sleep(0.0005)
                return call(*args)
            finally:
                self._inside.pop()

        return slowly


@world.threads_only
def test_one_thread_at_a_time_is_inside_openssl(server_tls: Any, client_tls: Any) -> None:
    with serving(ssl=server_tls) as server, wss(server, client_tls) as ws:
        crowded = ws._transport._tls = Crowded(ws._transport._tls)
        receiving = spawn(lambda: [ws.recv(world.PATIENCE) for _ in range(400)])
        sending = [spawn(lambda: [ws.send("x") for _ in range(100)]) for _ in range(4)]
        for task in [*sending, receiving]:
            task.result()
        assert crowded.most == 1


def test_two_that_only_send_do_not_block_each_other(server_tls: Any, client_tls: Any) -> None:
    """A blocked writer reads, also when what it waits for hides in the TLS layer."""

    def accept(ws: Any, request: Any) -> None:
        send_all(ws)
        receive_all(ws)

    with serving(accept, ssl=server_tls) as server, wss(server, client_tls) as ws:
        spawn(send_all, ws).result(30)
        receive_all(ws)


# -- who is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "certificate", [secure.for_another_host, secure.self_signed, secure.expired, secure.of_a_stranger]
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_bad_certificate_is_refused_before_any_http(
    certificate: Any, version: Any, authority: Any, client_tls: Any
) -> None:
    with world.raw_listener() as listener:
        url = f"wss://127.0.0.1:{listener.getsockname()[1]}/secret"
        connecting = spawn(Socket, url, ssl=client_tls)
        wire = secure.tls_accept(listener, only(version, certificate(authority)))
        with contextlib.suppress(ssl.SSLError, EOFError, ConnectionError):
            wire.handshake()
            wire.recv(1000)
        with pytest.raises(ssl.SSLCertVerificationError):
            connecting.result()
        assert not wire.heard and b"GET" not in wire.taken
        wire.close()


def test_the_default_context_verifies(server_tls: Any) -> None:
    with serving(ssl=server_tls) as server, pytest.raises(ssl.SSLCertVerificationError):
        Socket(world.url_of(server, scheme="wss"))


def test_a_bad_certificate_is_an_error_event_when_not_blocking(server_tls: Any) -> None:
    told: list[Any] = []
    with serving(ssl=server_tls) as server:
        ws = Socket(
            world.url_of(server, scheme="wss"), blocking=False, onerror=lambda event: told.append(event.error),
            onclose=lambda event: told.append(event.code),
        )  # fmt: skip
        assert ws.wait_closed(world.PATIENCE)
    assert isinstance(told[0], ssl.SSLCertVerificationError) and told[1:] == [1006]


def test_the_server_is_told_why_it_is_refused(authority: Any, client_tls: Any) -> None:
    with world.raw_listener() as listener:
        connecting = spawn(Socket, f"wss://127.0.0.1:{listener.getsockname()[1]}/", ssl=client_tls)
        wire = secure.tls_accept(listener, secure.of_a_stranger(authority))
        with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):
            wire.handshake()
            wire.recv(100)
        with pytest.raises(OSError):
            connecting.result()
        wire.close()


def client_only() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def server_only() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.mark.parametrize(
    ("url", "context", "error"),
    [
        ("ws://127.0.0.1:1/", client_only, ValueError),
        ("http://127.0.0.1:1/", client_only, ValueError),
        ("ws+unix:/nowhere:/", client_only, ValueError),
        ("wss://127.0.0.1:1/", server_only, ValueError),
        ("wss://127.0.0.1:1/", lambda: True, TypeError),
        ("wss://127.0.0.1:1/", lambda: False, TypeError),
        ("wss://127.0.0.1:1/", lambda: "cert.pem", TypeError),
        ("wss://127.0.0.1:1/", lambda: {"cert_reqs": 0}, TypeError),
    ],
)
@pytest.mark.parametrize("blocking", [True, False])
def test_a_misused_context_is_refused_at_once(url: str, context: Any, error: Any, blocking: bool) -> None:
    with pytest.raises(error, match="ssl"):
        Socket(url, ssl=context(), blocking=blocking)


@pytest.mark.parametrize(
    ("context", "error"), [(client_only, ValueError), (lambda: True, TypeError), (lambda: ("a", "b"), TypeError)]
)
def test_a_server_refuses_a_misused_context(context: Any, error: Any) -> None:
    with pytest.raises(error, match="ssl"):
        world.Server(world.echo, host="127.0.0.1", port=0, ssl=context())


def test_a_tls_socket_is_refused_where_a_plain_one_is_due(client_tls: Any) -> None:
    plain, other = _native.socketpair()
    with contextlib.closing(other), contextlib.closing(plain):
        wrapped = client_tls.wrap_socket(plain, server_hostname="a", do_handshake_on_connect=False)
        with contextlib.closing(wrapped), pytest.raises(TypeError, match="plain socket"):
            Socket("wss://127.0.0.1/", sock=wrapped)


# -- who does not complete -----------------------------------------------------------------------------------------


HELLO = bytes.fromhex("16030100c8010000c40303")  # the first bytes of a ClientHello


def test_a_client_that_never_completes_is_dropped_and_delays_nobody(server_tls: Any, client_tls: Any) -> None:
    with serving(ssl=server_tls, handshake_timeout=1.5) as server:
        began = time.monotonic()
        mute = [world.raw_connection(server.address()) for _ in range(30)]
        for sock in mute[::2]:
            sock.sendall(HELLO + bytes(100))
        with wss(server, client_tls) as ws:
            ws.send("now")
            assert ws.recv(1.5) == "now"
        assert time.monotonic() - began < 1.5, "it waited for the others"
        for sock in mute:
            with contextlib.suppress(ConnectionError):
                assert sock.recv(100) == b""
            sock.close()
        assert 1.4 < time.monotonic() - began < 8


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x00" * 300, b"\x16\x03\x01\xff\xff" * 9])
def test_a_client_that_does_not_speak_tls_is_dropped_at_once(garbage: bytes, server_tls: Any, client_tls: Any) -> None:
    with serving(ssl=server_tls) as server:
        began = time.monotonic()
        with contextlib.closing(world.raw_connection(server.address())) as sock:
            sock.sendall(garbage)
            with contextlib.suppress(ConnectionError):
                while sock.recv(1000):
                    pass
        assert time.monotonic() - began < 2.0
        with wss(server, client_tls) as ws:
            ws.send("still here")
            assert ws.recv(world.PATIENCE) == "still here"


@pytest.mark.parametrize("beginning", [b"", b"\x16\x03\x03"])
def test_a_server_that_never_completes_is_a_timeout(beginning: bytes, client_tls: Any) -> None:
    with world.raw_listener() as listener:
        url = f"wss://127.0.0.1:{listener.getsockname()[1]}/"
        began = time.monotonic()
        connecting = spawn(Socket, url, ssl=client_tls, handshake_timeout=0.3)
        sock, _ = listener.accept()
        sock.sendall(beginning)
        with pytest.raises(TimeoutError):
            connecting.result()
        assert 0.3 <= time.monotonic() - began < 1.5
        sock.close()


def test_a_server_that_ends_the_tls_handshake_is_an_os_error(client_tls: Any) -> None:
    with world.raw_listener() as listener:
        connecting = spawn(Socket, f"wss://127.0.0.1:{listener.getsockname()[1]}/", ssl=client_tls)
        listener.accept()[0].close()
        with pytest.raises(OSError):
            connecting.result()


def test_terminate_ends_the_tls_handshake(client_tls: Any) -> None:
    with world.raw_listener() as listener:
        ws = Socket(f"wss://127.0.0.1:{listener.getsockname()[1]}/", ssl=client_tls, blocking=False)
        sock, _ = listener.accept()
        assert sock.recv(3) == b"\x16\x03\x01"  # a ClientHello: it waits for the answer now
        began = time.monotonic()
        ws.terminate()
        assert ws.wait_closed(world.PATIENCE) and time.monotonic() - began < 1.0
        sock.close()


# -- what hides in the TLS layer -----------------------------------------------------------------------------------


MANY = [f"message {number}" for number in range(700)]  # nearly one TLS record of 16 KiB
RECORD = b"".join(frame(TEXT, text.encode()) for text in MANY)


def test_what_came_with_the_101_is_delivered_at_once(server_tls: Any, client_tls: Any) -> None:
    with connected(server_tls, client_tls, extra=RECORD) as (ws, _):
        began = time.monotonic()
        assert [ws.recv(1.0) for _ in MANY] == MANY
        assert time.monotonic() - began < 1.0


def test_what_is_pending_is_delivered_at_once_to_recv(server_tls: Any, client_tls: Any) -> None:
    with connected(server_tls, client_tls) as (ws, peer):
        for _ in range(5):
            peer.send_raw(RECORD)
            assert [ws.recv(1.0) for _ in MANY] == MANY


def test_what_is_pending_is_delivered_at_once_to_listeners(server_tls: Any, client_tls: Any) -> None:
    heard: list[str] = []
    with connected(server_tls, client_tls, onmessage=lambda event: heard.append(event.data)) as (_, peer):
        peer.send_raw(RECORD)
        eventually(lambda: heard == MANY, 1.0)


def test_what_is_pending_is_found_by_the_attendant(server_tls: Any, client_tls: Any) -> None:
    """Nobody reads, the descriptor shows nothing, and the ping is behind a message in one record."""
    with connected(server_tls, client_tls) as (_, peer):
        peer.send_raw(frame(BINARY, bytes(15000)) + frame(PING, b"there?"))
        began = time.monotonic()
        got = peer.read()
        assert (got.opcode, got.payload) == (PONG, b"there?")
        assert time.monotonic() - began < 1.0


def test_a_record_byte_by_byte_is_a_message(server_tls: Any, client_tls: Any) -> None:
    with connected(server_tls, client_tls) as (ws, peer):
        receiving = spawn(ws.recv, world.PATIENCE)
        for byte in peer.sock.records(frame(TEXT, b"slowly")):
            peer.sock.sock.sendall(bytes([byte]))
        assert receiving.result() == "slowly"
