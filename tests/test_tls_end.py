"""How a connection over TLS ends: what was cut is 1006, and a whole end says so on both layers."""

from __future__ import annotations

import contextlib
import socket as _native
import time
from typing import Any

import pytest
import secure
import world
from peer import CLOSE, TEXT, close_payload, frame
from secure import VERSIONS, connected, only
from world import eventually, serving, spawn

from syncws import ConnectionClosed
from syncws.runtime import WRITE


def cut_in_a_message(peer: Any) -> None:
    peer.send_raw(frame(TEXT, b"cut", length=100))


def cut_in_a_record(peer: Any) -> None:
    peer.sock.sock.sendall(peer.sock.records(frame(TEXT, b"never whole"))[:-5])


def end_with_a_close_notify(peer: Any) -> None:
    peer.sock.notify()


def forge_a_record(peer: Any) -> None:
    record = bytearray(peer.sock.records(frame(TEXT, b"forged")))
    record[-1] ^= 1
    peer.sock.sock.sendall(record)


ENDS = [lambda peer: None, cut_in_a_message, cut_in_a_record, end_with_a_close_notify, forge_a_record]


def expect_1006(ws: Any) -> None:
    assert ws.recv(world.PATIENCE) == "whole"
    with pytest.raises(ConnectionClosed) as caught:
        ws.recv(world.PATIENCE)
    assert (caught.value.code, caught.value.wasClean) == (1006, False)
    with pytest.raises(ConnectionClosed):
        next(iter(ws))


@pytest.mark.parametrize("end", ENDS)
def test_an_end_without_a_close_frame_is_1006_at_a_client(end: Any, server_tls: Any, client_tls: Any) -> None:
    with connected(server_tls, client_tls) as (ws, peer):
        peer.send(TEXT, b"whole")
        end(peer)
        peer.close()
        expect_1006(ws)


@pytest.mark.parametrize("end", ENDS)
def test_an_end_without_a_close_frame_is_1006_at_a_server(end: Any, server_tls: Any, client_tls: Any) -> None:
    ended = []

    def accept(ws: Any, request: Any) -> None:
        expect_1006(ws)
        ended.append(ws.close_code)

    with serving(accept, ssl=server_tls) as server:
        peer = secure.tls_client(server, client_tls)
        peer.send(TEXT, b"whole")
        end(peer)
        peer.close()
        eventually(lambda: ended == [1006])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("first", ["we", "the peer"])
def test_a_server_ends_with_a_close_notify(first: str, version: Any, authority: Any, server_tls: Any) -> None:
    with serving(lambda ws, request: None, ssl=server_tls) as server:
        peer = secure.tls_client(server, only(version, world.client_context(authority)))
        if first == "we":
            spawn(server.close, 1001)
            peer.expect_close(1001)
        else:
            peer.send(CLOSE, close_payload(1000))
            peer.expect_close(1000, answer=False)
        peer.expect_end()
        assert peer.sock.notified
        peer.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("first", ["we", "the peer"])
def test_a_client_ends_with_a_close_notify(first: str, version: Any, authority: Any, server_tls: Any) -> None:
    with connected(server_tls, only(version, world.client_context(authority))) as (ws, peer):
        if first == "we":
            ws.close(1000)
        else:
            peer.send(CLOSE, close_payload(1000))
        waiting = spawn(ws.wait_closed, world.PATIENCE)
        peer.expect_close(1000, answer=first == "we")
        peer.sock.notify()
        peer.sock.sock.shutdown(_native.SHUT_WR)
        peer.expect_end()
        assert peer.sock.notified
        assert waiting.result() and ws.close_code == 1000


def test_a_mute_peer_holds_a_close_no_longer_than_the_timeout(server_tls: Any, client_tls: Any) -> None:
    with connected(server_tls, client_tls, close_timeout=0.5) as (ws, _):
        began = time.monotonic()
        ws.close()
        assert ws.wait_closed(world.PATIENCE)
        assert 0.5 <= time.monotonic() - began < 4


def test_terminate_frees_a_blocked_sender(server_tls: Any, client_tls: Any) -> None:
    with connected(server_tls, client_tls) as (ws, _):
        sending = spawn(ws.send, bytes(16 << 20))
        eventually(lambda: ws.bufferedAmount > 0)
        began = time.monotonic()
        ws.terminate()
        with pytest.raises(ConnectionClosed):
            sending.result()
        assert time.monotonic() - began < 1.0


def test_what_came_is_told_from_what_was_read_of_it(server_tls: Any, client_tls: Any) -> None:
    """For the keepalive: to read what is there changes nothing, another record of the same length does."""
    with connected(server_tls, client_tls) as (ws, peer):
        transport = ws._transport
        ws.pause()
        peer.send(TEXT, b"x" * 20)
        eventually(lambda: transport.unread() > 20)
        waiting = transport.arrived(ws.bytes_received)
        ws.resume()
        assert ws.recv(world.PATIENCE) == "x" * 20
        assert transport.unread() == 0
        assert transport.arrived(ws.bytes_received) == waiting
        ws.pause()
        peer.send(TEXT, b"x" * 20)
        eventually(lambda: transport.unread() > 20)
        assert transport.arrived(ws.bytes_received) != waiting


@pytest.mark.usefixtures("unattended")
def test_what_a_writer_left_is_not_sent_on_by_a_reader(server_tls: Any, client_tls: Any) -> None:
    """Whoever wrote it is to learn that it is gone: a Close, say, counts as sent then."""
    with connected(server_tls, client_tls) as (ws, peer):
        transport, out = ws._transport, [bytes(8 << 20)]
        assert not transport.write(out)
        left = transport.unsent()
        assert left > 0
        peer.sock.sock.setblocking(False)
        while transport.wait(WRITE, 0.1) == 0:
            peer.sock.sock.recv(1 << 20)
        transport._renegotiates = True  # then readers write, too
        assert transport._recv(bytearray(10)) is None
        assert transport.unsent() == left
        out.clear()
        eventually(lambda: drained(peer.sock.sock) and transport.write(out))
        assert transport.unsent() == 0


def drained(sock: Any) -> bool:
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 20):
            pass
    return True
