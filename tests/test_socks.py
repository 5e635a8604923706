"""SOCKS proxies: what they are asked, byte by byte, and what they may answer. The protocol itself is python-socks's."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import pytest
from gateway import gateway
from pairs import Journal, still_works
from secure import server_context
from test_proxy import asked_names  # noqa: F401  (a fixture)
from world import PATIENCE, Socket, client_context, eventually, socket, spawn

import syncws
from syncws import way
from syncws.reconnect import is_passing

pytest.importorskip("python_socks", minversion="3", reason="*** python-socks 3 IS NOT HERE: SOCKS is not tested ***")

FAR = b"far.example"
GRANTED_4 = b"\x00\x5a\x00\x00\x00\x00\x00\x00"
GRANTED_5 = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
PLAIN_5, PASSWORD_5 = (b"\x05\x01\x00", b"\x05\x00"), (b"\x05\x02\x00\x02", b"\x05\x02")
TO_NAME_5 = b"\x05\x01\x00\x03\x0bfar.example\x00\x50"
LOCAL = b"\x7f\x00\x00\x01"

# What is asked, and what is answered; the client's look-ups.
TALKS = {
    "socks4": ([(b"\x04\x01\x00\x50" + LOCAL + b"\x00", GRANTED_4)], ["far.example"]),
    "socks4://me@": ([(b"\x04\x01\x00\x50" + LOCAL + b"me\x00", GRANTED_4)], ["far.example"]),
    "socks4a": ([(b"\x04\x01\x00\x50\x00\x00\x00\x01\x00" + FAR + b"\x00", GRANTED_4)], []),
    "socks5": ([PLAIN_5, (b"\x05\x01\x00\x01" + LOCAL + b"\x00\x50", GRANTED_5)], ["far.example"]),
    "socks5h": ([PLAIN_5, (TO_NAME_5, GRANTED_5)], []),
    "socks5h://u:p%40@": ([PASSWORD_5, (b"\x01\x01u\x02p@", b"\x01\x00"), (TO_NAME_5, GRANTED_5)], []),
    "socks5h://unused:x@": ([(b"\x05\x02\x00\x02", b"\x05\x00"), (TO_NAME_5, GRANTED_5)], []),
}


def read(sock: Any, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def url_of(door: Any, kind: str) -> str:
    scheme, _, userinfo = kind.partition("://")
    return door.url(scheme, userinfo)


def converse(sock: Any, talk: Any) -> None:
    for question, answer in talk:
        assert read(sock, len(question)) == question
        for byte in answer:  # in the smallest pieces there are
            sock.sendall(bytes([byte]))


@pytest.mark.parametrize(("talk", "looked_up"), TALKS.values(), ids=TALKS)
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_server_is_reached_through_socks(
    talk: Any, looked_up: list[str], scheme: str, request: Any, authority: Any, asked_names: list[str]  # noqa: F811
) -> None:
    kind = next(kind for kind, told in TALKS.items() if told[0] is talk)
    with gateway(server_context(authority.issue_cert("far.example"))) as door:
        context = client_context(authority) if scheme == "wss" else None
        opening = spawn(Socket, f"{scheme}://far.example:80/", proxy=url_of(door, kind), ssl=context)
        sock = door.accept()
        converse(sock, talk)
        peer = door.serve(sock, inner=scheme == "wss")
        ws = opening.result()
        assert b"Authorization" not in peer.head
        assert asked_names == looked_up
        still_works(ws, peer)
        ws.terminate()
        peer.expect_end()


@pytest.mark.parametrize(
    ("kind", "host", "asked"),
    [
        ("socks5", "[2001:db8::1]", b"\x05\x01\x00\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x00\x50"),
        ("socks5h", "[2001:db8::1]", b"\x05\x01\x00\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x00\x50"),
        ("socks5h", "10.0.0.1", b"\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50"),
    ],
)
def test_addresses_are_sent_as_addresses(kind: str, host: str, asked: bytes) -> None:
    with gateway() as door:
        opening = spawn(Socket, f"ws://{host}/", proxy=door.url(kind))
        sock = door.accept()
        converse(sock, [PLAIN_5, (asked, GRANTED_5)])
        door.serve(sock)
        opening.result().terminate()


@pytest.mark.parametrize("kind", ["socks4", "socks4a"])
def test_socks_4_does_not_go_to_ipv6(kind: str) -> None:
    with gateway() as door, pytest.raises(syncws.ProxyError, match="IPv6") as caught:
        Socket("ws://[::1]/", proxy=door.url(kind))
    assert not is_passing(caught.value)


def test_of_several_addresses_an_ipv4_one_is_taken(monkeypatch: Any) -> None:
    found = [(socket.AF_INET6, 1, 6, "", ("::1", 80, 0, 0)), (socket.AF_INET, 1, 6, "", ("10.0.0.1", 80))]
    real = way.resolve
    both = lambda runtime, host, *more: found if host == "two" else real(runtime, host, *more)  # noqa: E731
    monkeypatch.setattr(way, "resolve", both)
    with gateway() as door:
        opening = spawn(Socket, "ws://two/", proxy=door.url("socks5"))
        sock = door.accept()
        converse(sock, [PLAIN_5, (b"\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50", GRANTED_5)])
        door.serve(sock)
        opening.result().terminate()


# -- what comes back -------------------------------------------------------------------------------------------------

BAD = {
    "no method": ("socks5h", [(b"\x05\x01\x00", b"\x05\xff")]),
    "a method that was not offered": ("socks5h", [(b"\x05\x01\x00", b"\x05\x02")]),
    "GSSAPI": ("socks5h", [(b"\x05\x01\x00", b"\x05\x01")]),
    "another version": ("socks5h", [(b"\x05\x01\x00", b"\x04\x00")]),
    "HTTP": ("socks5h", [(b"\x05\x01\x00", b"HTTP/1.1 400 Bad\r\n\r\n")]),
    "half a method": ("socks5h", [(b"\x05\x01\x00", b"\x05")]),
    "a wrong password": ("socks5h://u:secret@", [PASSWORD_5, (b"\x01\x01u\x06secret", b"\x01\x01")]),
    "a bad answer to it": ("socks5h://u:secret@", [PASSWORD_5, (b"\x01\x01u\x06secret", b"\x09\x00")]),
    **{
        f"reply {code}": ("socks5h", [PLAIN_5, (TO_NAME_5, bytes([5, code, 0, 1]) + bytes(6))])
        for code in (1, 2, 3, 4, 5, 6, 7, 8, 9, 255)
    },
    "another version behind it": ("socks5h", [PLAIN_5, (TO_NAME_5, b"\x04\x00\x00\x01" + bytes(6))]),
    "a reserved byte": ("socks5h", [PLAIN_5, (TO_NAME_5, b"\x05\x00\x01\x01" + bytes(6))]),
    "an unknown kind of address": ("socks5h", [PLAIN_5, (TO_NAME_5, b"\x05\x00\x00\x02" + bytes(6))]),
    "a name that is none": ("socks5h", [PLAIN_5, (TO_NAME_5, b"\x05\x00\x00\x03\x02\xff\xfe\x00\x00")]),
    "half a reply": ("socks5h", [PLAIN_5, (TO_NAME_5, GRANTED_5[:7])]),
    "nothing": ("socks5h", [(b"\x05\x01\x00", b"")]),
    "socks4: refused": ("socks4a", [(TALKS["socks4a"][0][0][0], b"\x00\x5b" + bytes(6))]),
    "socks4: an unknown code": ("socks4a", [(TALKS["socks4a"][0][0][0], b"\x00\x00" + bytes(6))]),
    "socks4: another version": ("socks4a", [(TALKS["socks4a"][0][0][0], b"\x04\x5a" + bytes(6))]),
    "socks4: half a reply": ("socks4a", [(TALKS["socks4a"][0][0][0], GRANTED_4[:5])]),
}


# What `reconnect` tries again: the proxy has ended the connection, or says so of the server or of itself.
PASSING = {
    *("half a method", "half a reply", "nothing", "socks4: refused", "socks4: half a reply"),
    *(f"reply {code}" for code in (1, 3, 4, 5, 6)),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("blocking", [True, False])
def test_a_refusal_is_a_proxy_error(case: str, blocking: bool, caplog: Any) -> None:
    kind, talk = BAD[case]
    caplog.set_level("DEBUG")
    with gateway() as door:
        opening = spawn(Socket, "ws://far.example/", proxy=url_of(door, kind), blocking=blocking)
        sock = door.accept()
        with contextlib.suppress(OSError):
            converse(sock, talk)
            sock.shutdown(socket.SHUT_WR)
        if blocking:
            with pytest.raises(syncws.ProxyError) as caught:
                opening.result()
            error: Any = caught.value
        else:
            ws = opening.result()
            journal = Journal(ws)
            assert ws.wait_closed(PATIENCE)
            assert journal.told == ["error", "close"]
            error = journal.events[0].error
            assert isinstance(error, syncws.ProxyError)
        assert (error.status, error.response) == (None, None)
        assert is_passing(error) == (case in PASSING)
        assert str(error).startswith(f"the proxy {kind.partition(':')[0]}://127.0.0.1:{door.port}: ")
        assert "secret" not in f"{error} {error!r} {error.__cause__!r} {caplog.text}"
        with contextlib.suppress(ConnectionError):
            assert sock.recv(100) == b""


@pytest.mark.parametrize("talk", [[], [PLAIN_5], [PLAIN_5, (TO_NAME_5, GRANTED_5[:5])]], ids=["none", "method", "half"])
def test_a_silent_one_is_a_timeout(talk: Any) -> None:
    with gateway() as door:
        began = time.monotonic()
        opening = spawn(Socket, "ws://far.example/", proxy=door.url("socks5h"), handshake_timeout=0.4)
        converse(door.accept(), talk)
        with pytest.raises(TimeoutError, match=r"within 0\.4 s: the proxy socks5h://127\S+ does not answer"):
            opening.result()
        assert 0.4 <= time.monotonic() - began < 5


@pytest.mark.parametrize("call", ["close", "terminate"])
def test_it_can_be_ended_meanwhile(call: str) -> None:
    with gateway() as door:
        ws = Socket("ws://far.example/", proxy=door.url("socks5h"), blocking=False)
        journal = Journal(ws)
        sock = door.accept()
        converse(sock, [PLAIN_5])
        getattr(ws, call)()
        assert ws.wait_closed(PATIENCE)
        assert journal.told == ["error", "close"]
        assert isinstance(journal.events[0].error, ConnectionAbortedError)
        eventually(lambda: sock.recv(100) == b"")


# -- where python-socks is not ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False])
def test_without_python_socks_one_learns_what_to_install(blocking: bool, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(syncws.ProxyError, match=r"pip install 'syncws\[socks\]'") as caught:
        Socket("ws://far.example/", proxy="socks5://127.0.0.1:1", blocking=blocking)
    assert not is_passing(caught.value)


def test_a_socks_proxy_of_the_environment_is_not_gone_around(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    monkeypatch.setenv("all_proxy", "socks5h://127.0.0.1:1")
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with gateway() as door:
        monkeypatch.setenv("all_proxy", door.url("socks5h"))
        with pytest.raises(syncws.ProxyError, match="pip install"):
            Socket("ws://far.example/")


def test_an_old_python_socks_counts_as_none(monkeypatch: Any) -> None:
    import python_socks.sync

    monkeypatch.setattr(python_socks.sync, "Proxy", lambda kind, host, port, username=None, password=None, rdns=None: 5)
    with pytest.raises(syncws.ProxyError, match="need python-socks 3"):
        Socket("ws://far.example/", proxy="socks5://127.0.0.1:1")
