"""TLS 1.2: a server may begin a new handshake whenever it likes (RFC 5246 section 7.4.1.1). `openssl s_server` does."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import debian
import pytest
import world
from peer import TEXT, accept_of, frame
from world import Socket, eventually, raw_connection, raw_listener, spawn

import syncws

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")

_COMMAND = ("openssl", "s_server", "-tls1_2", "-msg", "-naccept", "1")


class OpenSSL:
    """`openssl s_server`: what it is told goes to the client, what comes is in its output."""

    def __init__(self, stack: contextlib.ExitStack, authority: Any, folder: Path) -> None:
        certificate, self._output = folder / "certificate", folder / "output"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        self.address = "127.0.0.1", debian.free_ports(1)[0]
        place = "{}:{}".format(*self.address)
        output = stack.enter_context(self._output.open("wb"))
        command = [*_COMMAND, "-accept", place, "-cert", str(certificate), "-key", str(certificate)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)
        stack.callback(self._process.wait)
        stack.callback(self._process.kill)
        stack.callback(self._process.stdin.close)
        eventually(lambda: b"ACCEPT" in self.said)

    @property
    def said(self) -> bytes:
        return self._output.read_bytes()

    def tell(self, data: bytes) -> None:
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def renegotiate(self) -> None:
        self.tell(b"r\n")

    def answer(self) -> None:
        """The 101. (Lines that begin with some letters are orders.)"""
        pattern = re.compile(rb"Sec-WebSocket-Key: *(\S+)\r\n")
        eventually(lambda: pattern.search(self.said))
        accept = accept_of(pattern.search(self.said)[1])
        head = b"HTTP/1.1 101 Y\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nsec-websocket-accept: %b\r\n\r\n"
        self.tell(head % accept)

    def handshakes(self) -> int:
        return self.said.count(b"ClientHello")


@pytest.fixture
def openssl(authority: Any, tmp_path: Path) -> Iterator[OpenSSL]:
    with contextlib.ExitStack() as stack:
        yield OpenSSL(stack, authority, tmp_path)


def opened(openssl: OpenSSL, context: Any, address: Any = None) -> Any:
    url = "wss://{}:{}/".format(*(address or openssl.address))
    opening = spawn(Socket, url, ssl=context, compression=False, ping_interval=None)
    openssl.answer()
    return opening.result()


def relay(listener: Any, address: Any, delay: float) -> None:
    """What the server says arrives late."""
    client, _ = listener.accept()
    server = raw_connection(address)

    def forward(source: Any, target: Any, delay: float) -> None:
        with source, target, contextlib.suppress(OSError):
            while data := source.recv(65536):
                world.sleep(delay)
                target.sendall(data)

    spawn(forward, client, server, 0)
    spawn(forward, server.dup(), client.dup(), delay)


@pytest.mark.parametrize("read", [True, False])
def test_a_new_handshake_is_answered_whoever_reads(openssl: OpenSSL, client_tls: Any, read: bool) -> None:
    with contextlib.closing(opened(openssl, client_tls)) as ws:
        reading = spawn(ws.recv) if read else None
        if read:
            eventually(lambda: ws._reader)
        before = openssl.handshakes()
        openssl.renegotiate()
        eventually(lambda: openssl.handshakes() > before)
        ws.send("a text")
        openssl.tell(frame(TEXT, b"hello"))
        assert (reading.result() if reading else ws.recv(world.PATIENCE)) == "hello"
        assert ws.readyState == syncws.OPEN
        ws.terminate()


@pytest.mark.parametrize("read", [True, False])
def test_what_is_sent_during_a_new_handshake_waits_for_its_end(openssl: OpenSSL, client_tls: Any, read: bool) -> None:
    with raw_listener() as listener:
        spawn(relay, listener, openssl.address, 0.2)
        with contextlib.closing(opened(openssl, client_tls, listener.getsockname())) as ws:
            reading = spawn(ws.recv) if read else None
            before = openssl.handshakes()
            openssl.renegotiate()
            for _ in range(10):
                ws.send("a text", timeout=world.PATIENCE)
                world.sleep(0.05)
            assert openssl.handshakes() > before
            openssl.tell(frame(TEXT, b"hello"))
            assert (reading.result() if reading else ws.recv(world.PATIENCE)) == "hello"
            ws.terminate()


def test_messages_may_come_in_the_middle_of_a_new_handshake(openssl: OpenSSL, client_tls: Any) -> None:
    """And be answered from their listener: what OpenSSL reads then must not be taken for the handshake's."""
    with raw_listener() as listener:
        spawn(relay, listener, openssl.address, 0.2)
        with contextlib.closing(opened(openssl, client_tls, listener.getsockname())) as ws:
            heard: list[str] = []

            def answer(event: Any) -> None:
                heard.append(event.data)
                ws.send(event.data, timeout=world.PATIENCE)

            ws.onmessage = answer
            before = openssl.handshakes()
            openssl.renegotiate()
            world.sleep(0.1)  # it takes an order for one only if nothing else comes with it
            for number in range(10):
                openssl.tell(frame(TEXT, b"number %d" % number))
            eventually(lambda: len(heard) == 10)
            assert ws.readyState == syncws.OPEN
            eventually(lambda: openssl.handshakes() > before)
            openssl.tell(frame(TEXT, b"the last"))
            eventually(lambda: heard[-1] == "the last")
            assert heard[:-1] == [f"number {number}" for number in range(10)]
            ws.terminate()


def test_what_came_before_the_end_of_a_new_handshake_is_read_before_anything_is_sent(
    openssl: OpenSSL, client_tls: Any
) -> None:
    with raw_listener() as listener:
        spawn(relay, listener, openssl.address, 0.2)
        with contextlib.closing(opened(openssl, client_tls, listener.getsockname())) as ws:
            openssl.renegotiate()
            world.sleep(0.1)
            numbers = [f"number {number}" for number in range(10)]
            openssl.tell(b"".join(frame(TEXT, number.encode()) for number in numbers[:5]))
            world.sleep(0.05)
            openssl.tell(b"".join(frame(TEXT, number.encode()) for number in numbers[5:]))
            for number in numbers:
                assert ws.recv(world.PATIENCE) == number
                ws.send(number, timeout=world.PATIENCE)
            ws.terminate()
