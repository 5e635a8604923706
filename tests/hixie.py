"""A client of hixie-76 that is not syncws: written against the draft alone, over a plain socket, byte by byte."""

from __future__ import annotations

import contextlib
from typing import Any

import world

# The draft's own example, and another.
KEYS, NONCE, DIGEST = ("4 @1  46546xW%0l 1 5", "12998 5 Y3 1  .P00"), b"^n:ds[4U", b"8jKS'y:G*Co,Wxa-"
OTHER_KEYS, OTHER_NONCE = ("3e6b263  4 17 80", "17  9 G`ZD9   2 2b 7X 3 /r90"), b"WjN}|M(6"
OTHER_DIGEST = bytes.fromhex("6e603965426b397a245238704f745662")

FIELDS = {
    "Host": "127.0.0.1",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key2": KEYS[1],
    "Upgrade": "WebSocket",
    "Sec-WebSocket-Key1": KEYS[0],
}
END = b"\xff\x00"


def request_head(*further: str, first: str = "GET / HTTP/1.1", **replaced: str | None) -> bytes:
    """A request without the bytes behind its head; headers replaced or (None) left out, `_` for `-`."""
    fields: dict[str, str | None] = dict(FIELDS)
    fields.update({name.replace("_", "-"): value for name, value in replaced.items()})
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([first, *lines, *further, "", ""]).encode("latin-1")


def framed(text: str | bytes) -> bytes:
    return b"\x00" + (text.encode() if isinstance(text, str) else text) + b"\xff"


class Hixie:
    """One connection. Strict: what is no text in a frame, nor the end, is an error."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.head = b""
        self._buffer = bytearray()

    @classmethod
    def connect(
        cls, server: Any, *further: str, extra: bytes = b"", sock: Any = None, **replaced: Any
    ) -> Hixie:
        """The handshake, with `extra` in the segment of the request."""
        client = cls(world.raw_connection(("127.0.0.1", server.address()[1])) if sock is None else sock)
        try:
            client.sock.sendall(request_head(*further, **replaced) + NONCE + extra)
            client.expect_answer()
        except BaseException:
            client.close()
            raise
        return client

    def expect_answer(self, digest: bytes = DIGEST) -> None:
        self.head = self._read_until(b"\r\n\r\n")
        assert self.head.startswith(b"HTTP/1.1 101 WebSocket Protocol Handshake\r\n"), self.head
        assert self._read(16) == digest

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return dict(line.split(": ", 1) for line in lines)

    def send(self, *texts: str) -> None:
        self.sock.sendall(b"".join(map(framed, texts)))

    def read(self) -> str:
        """The next text."""
        first = self._read(1)
        assert first == b"\x00", first
        return self._read_until(b"\xff")[:-1].decode()

    def expect_end(self, *, answer: bool = True) -> None:
        """The closing handshake comes, and is answered; then the end of the stream, and ours."""
        assert self._read(2) == END
        if answer:
            self.sock.sendall(END)
        rest = bytes(self._buffer)
        with contextlib.suppress(ConnectionError):
            rest += self.sock.recv(65536)
        assert rest == b""
        self.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Hixie:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        assert data, f"the end of the stream, behind {bytes(self._buffer[-80:])!r}"
        self._buffer += data

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        return self._take(count)

    def _read_until(self, end: bytes) -> bytes:
        while (found := self._buffer.find(end)) < 0:
            self._fill()
        return self._take(found + len(end))
