"""Version 8 of the protocol (HyBi 07 to 12): the RFC's frames, and another name for the header with the origin."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import world
from pairs import connected
from peer import TEXT, Peer
from raw import ask, head
from world import PATIENCE, Socket, serving, url_of

import syncws
from syncws import HandshakeError, Request
from syncws.handshake_server import check, origin_allowed, origin_of

GOOD, EVIL = "https://good.example", "https://evil.example"


def told(**headers: str) -> list[str]:
    return [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]


# -- the server -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [13, 8])
def test_a_server_takes_both_and_tells_which(version: int) -> None:
    seen: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        seen.append((ws.protocol_version, ws.supports.binary, ws.supports.pings))
        world.echo(ws, request)

    with serving(accept) as server, Peer.connect_with(server, head(Sec_WebSocket_Version=str(version))) as peer:
        peer.send(TEXT, b"hello")
        assert peer.read().payload == b"hello"
        assert seen == [(version, True, True)]


# (version, headers, status): who may come to a server that allows GOOD only. The two names never contradict each other
# in silence, and neither is a way around the other.
ORIGINS: dict[str, tuple[str, list[str], int]] = {
    "nothing said": ("8", [], 101),
    "good": ("8", told(Sec_WebSocket_Origin=GOOD), 101),
    "evil": ("8", told(Sec_WebSocket_Origin=EVIL), 403),
    "null": ("8", told(Sec_WebSocket_Origin="null"), 403),
    "empty": ("8", told(Sec_WebSocket_Origin=""), 403),
    "a good prefix": ("8", told(Sec_WebSocket_Origin=GOOD + ".evil"), 403),
    "two in one": ("8", told(Sec_WebSocket_Origin=f"{GOOD}, {EVIL}"), 403),
    "good, by the later name": ("8", told(Origin=GOOD), 101),
    "evil, by the later name": ("8", told(Origin=EVIL), 403),
    "both good": ("8", told(Origin=GOOD, Sec_WebSocket_Origin=GOOD), 101),
    "both evil": ("8", told(Origin=EVIL, Sec_WebSocket_Origin=EVIL), 403),
    "good, and evil by the later name": ("8", told(Origin=EVIL, Sec_WebSocket_Origin=GOOD), 400),
    "evil, and good by the later name": ("8", told(Origin=GOOD, Sec_WebSocket_Origin=EVIL), 400),
    "good twice": ("8", told(Sec_WebSocket_Origin=GOOD) * 2, 400),
    "good and evil": ("8", told(Sec_WebSocket_Origin=GOOD) + told(Sec_WebSocket_Origin=EVIL), 400),
    "good twice, and by the later name": ("8", told(Sec_WebSocket_Origin=GOOD) * 2 + told(Origin=GOOD), 400),
    "both twice": ("8", (told(Sec_WebSocket_Origin=GOOD) + told(Origin=GOOD)) * 2, 400),
    "13, by the earlier name": ("13", told(Sec_WebSocket_Origin=EVIL), 101),
    "13, evil, and good by the earlier name": ("13", told(Origin=EVIL, Sec_WebSocket_Origin=GOOD), 403),
    "13, good, and evil by the earlier name": ("13", told(Origin=GOOD, Sec_WebSocket_Origin=EVIL), 101),
    "13 and 8": ("13", ["Sec-WebSocket-Version: 8", *told(Sec_WebSocket_Origin=GOOD)], 400),
}


@pytest.mark.parametrize(("version", "lines", "status"), ORIGINS.values(), ids=ORIGINS)
def test_origins(version: str, lines: list[str], status: int) -> None:
    called: list[Any] = []

    def verify(info: Any) -> bool:
        called.append(info.origin)
        return True

    data = head(*lines, Sec_WebSocket_Version=version)
    with serving(origins=[GOOD], verify_client=verify) as server:
        if status == 101:
            Peer.connect_with(server, data).close()
            expected = GOOD if any(GOOD in line for line in lines) else None
            assert called == [expected]
        else:
            assert ask(server, data).status == status
            assert called == []


def test_pages_of_the_same_host_are_let_in(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), serving() as server:
        host = f"127.0.0.1:{server.address()[1]}"
        for origin, status in ((f"http://{host}", 101), (EVIL, 403)):
            data = head(*told(Sec_WebSocket_Origin=origin), Sec_WebSocket_Version="8", Host=host)
            if status == 101:
                Peer.connect_with(server, data).close()
            else:
                assert ask(server, data).status == status
    lines = [record.getMessage() for record in caplog.records if record.name == "syncws"]
    assert any(f"origins=['{EVIL}'] would let it in" in line for line in lines)


def test_what_is_told_twice_is_not_allowed_even_unchecked() -> None:
    fields = [("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Origin", GOOD), ("Origin", EVIL)]
    request = Request("GET", "/", fields)
    assert not origin_allowed(request, [GOOD, EVIL])
    assert origin_of(Request("GET", "/", fields[:2])) == GOOD
    with pytest.raises(HandshakeError):
        check(request)


def test_the_versions_are_told_to_who_has_another() -> None:
    with serving() as server:
        for version in ("7", "08", "8.0", "9", "14", "13, 8", "-8", "\xb8"):
            answer = ask(server, head(Sec_WebSocket_Version=version))
            assert (answer.status, answer.headers["sec-websocket-version"]) == (400, "13, 8")


# -- the client -------------------------------------------------------------------------------------------


def fields(peer: Peer) -> dict[str, str]:
    lines = peer.head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize(("version", "name"), [(13, "origin"), (8, "sec-websocket-origin")])
def test_a_client_asks_for_its_version(version: int, name: str) -> None:
    headers = {"Sec-WebSocket-Version": "7"}
    with connected(protocol_version=version, origin=GOOD, headers=headers) as (ws, peer):
        sent = fields(peer)
        assert (sent["sec-websocket-version"], sent[name]) == (str(version), GOOD)
        assert len({"origin", "sec-websocket-origin"} & set(sent)) == 1
        assert (ws.protocol_version, ws.supports.binary) == (version, True)
        ws.send("hello")
        assert peer.read().payload == b"hello"
        peer.send(TEXT, b"world")
        assert ws.recv(PATIENCE) == "world"


def test_an_origin_of_the_callers_own_gives_way() -> None:
    headers = [("Sec-WebSocket-Origin", EVIL), ("X", "y")]
    with connected(protocol_version=8, origin=GOOD, headers=headers) as (_, peer):
        assert peer.head.count(b"Origin") == 1
        assert fields(peer)["sec-websocket-origin"] == GOOD


def test_the_version_is_known_while_connecting() -> None:
    with world.raw_listener() as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        ws = Socket(url, blocking=False, protocol_version=8)
        assert (ws.readyState, ws.protocol_version) == (ws.CONNECTING, 8)
        ws.terminate()
        assert ws.wait_closed(PATIENCE)


@pytest.mark.parametrize(
    ("version", "error"),
    [*[(version, ValueError) for version in (0, 7, 9, 12, 14, -8, "hixie-76", "13")],
     *[(version, TypeError) for version in (None, True, 13.0, 8.0, b"13", [13])]],
)  # fmt: skip
def test_another_version_is_refused_before_anything_is_sent(version: Any, error: type[Exception]) -> None:
    with world.raw_listener() as listener:
        with pytest.raises(error, match="protocol_version must be 13 or 8"):
            Socket(f"ws://127.0.0.1:{listener.getsockname()[1]}/", protocol_version=version)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("compression", [False, syncws.Deflate(threshold=0)])
def test_two_of_ours_speak_it(compression: Any) -> None:
    seen: list[Any] = []

    def accept(ws: Any, request: Any) -> None:
        seen.append((ws.protocol_version, request.headers["Sec-WebSocket-Origin"]))
        world.echo(ws, request)

    with serving(accept, compression=compression, protocols=["b"], origins=[GOOD]) as server:
        options: Any = {"protocol_version": 8, "compression": compression, "origin": GOOD}
        with Socket(url_of(server), ["a", "b"], **options) as ws:
            assert (ws.protocol, bool(ws.extensions)) == ("b", bool(compression))
            for message in ("grüße", b"\x00\xff" * 5000, ""):
                ws.send(message)
                assert ws.recv(PATIENCE) == message
            server.broadcast("for all")
            assert ws.recv(PATIENCE) == "for all"
            ws.close(3000, "done")
            assert ws.wait_closed(PATIENCE)
            assert (ws.close_code, ws.close_reason) == (3000, "done")
        assert seen == [(8, GOOD)]
        with pytest.raises(HandshakeError) as caught:
            Socket(url_of(server), protocol_version=8, origin=EVIL)
        assert caught.value.status == 403
