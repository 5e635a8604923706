"""Opening handshakes byte by byte: a client's request made up at will, and what is answered taken apart."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import world
from peer import Peer

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FIELDS = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


class Answer(NamedTuple):
    """What a server answered before it ended the connection."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes
    raw: bytes


def head(*further: str, first: str = "GET / HTTP/1.1", **replaced: str | None) -> bytes:
    """A request that fits, with headers replaced or (None) left out, `_` for `-`, and further lines."""
    fields: dict[str, str | None] = dict(FIELDS)
    fields.update({name.replace("_", "-"): value for name, value in replaced.items()})
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([first, *lines, *further, "", ""]).encode("latin-1")


def connection(server: Any) -> Any:
    """A plain TCP connection to a server on the loopback."""
    return world.raw_connection(("127.0.0.1", server.address()[1]))


def read_to_end(sock: Any) -> bytes:
    """All that comes until the other side ends the connection, be it by a reset."""
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            data += piece
    return bytes(data)


def ask(server: Any, data: bytes) -> Answer:
    """Send `data`; the answer, which must be the last that comes."""
    with connection(server) as sock:
        with contextlib.suppress(ConnectionError):  # refused before it was all out
            sock.sendall(data)
        return parse(read_to_end(sock), bodiless=data.startswith(b"HEAD "))


def status_of(server: Any, data: bytes) -> int:
    return ask(server, data).status


def parse(raw: bytes, bodiless: bool = False) -> Answer:
    start, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = start.decode("latin-1").split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1", raw
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name.lower() not in headers, raw
        headers[name.lower()] = value
    answer = Answer(int(status), headers, body, raw)
    if bodiless:
        assert not body and int(headers["content-length"]) > 0, raw
    else:
        expected = None if answer.status in (101, 204, 304) else str(len(body))
        assert headers.get("content-length") == expected, raw
    return answer


def is_served(server: Any, text: bytes = b"still there?") -> bool:
    """Whether the server, an echo, serves one more client from the handshake to the Close."""
    with Peer.connect(server) as peer:
        peer.send(1, text)
        echoed = peer.read().payload == text
        peer.send(8, b"\x03\xe8")
        closed = peer.expect_close(1000, answer=False)
        return echoed and bool(closed)
