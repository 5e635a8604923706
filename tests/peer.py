"""A WebSocket peer that is not syncws: it says what a test wants said, byte by byte, and reads strictly.

Written against RFC 6455 alone, over a plain socket, so that a fault of ours cannot hide in both ends.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket as _native
import struct
from typing import Any, NamedTuple

import world

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Frame(NamedTuple):
    fin: bool
    rsv: int
    opcode: int
    masked: bool
    payload: bytes

    @property
    def code(self) -> int | None:
        """The code of a Close; None for an empty one."""
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else None


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = None,
    length: int | None = None,
) -> bytes:
    """One frame; `length` lies about the payload's."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0 if mask is None else 0x80
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if mask is not None:
        head += mask
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if mask != b"\0\0\0\0" else payload
    return head + payload


def close_payload(code: int, reason: str = "") -> bytes:
    return struct.pack("!H", code) + reason.encode()


class Peer:
    """One end of a connection; `client`: we mask. Masks with zeros unless told otherwise, so bytes stay legible."""

    def __init__(self, sock: Any, *, client: bool, early: bytes = b"") -> None:
        self.sock = sock
        self.client = client
        self._buffer = bytearray(early)
        self.head = b""

    # -- opening ---------------------------------------------------------------------------------------------

    @classmethod
    def connect(
        cls,
        server: Any,
        target: str = "/",
        *headers: str,
        extra: bytes = b"",
        key: bytes | None = None,
        room: int | None = None,
    ) -> Peer:
        """The client's side of a handshake with a `Server`; `extra` follows in its segment. `room`: see `world`."""
        key = key or base64.b64encode(os.urandom(16))
        lines = [f"GET {target} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key.decode()}", *headers]
        peer = cls.connect_with(server, "\r\n".join(lines).encode() + b"\r\n\r\n" + extra, room)
        assert accept_of(key) in peer.head
        return peer

    @classmethod
    def connect_with(cls, server: Any, data: bytes, room: int | None = None) -> Peer:
        """As `connect`, with a request made up elsewhere."""
        peer = cls(world.raw_connection(("127.0.0.1", server.address()[1]), room), client=True)
        try:
            peer.sock.sendall(data)
            peer.head = peer.read_head()
            assert peer.head.startswith(b"HTTP/1.1 101 "), peer.head
        except BaseException:
            peer.close()
            raise
        return peer

    @classmethod
    def accept(cls, listener: Any, *headers: str, extra: bytes = b"") -> Peer:
        """The server's side of a handshake with a `Socket`; `extra` follows in the same segment as the 101."""
        sock, _ = listener.accept()
        sock.settimeout(world.PATIENCE)
        peer = cls(sock, client=False)
        peer.head = peer.read_head()
        peer.answer(*headers, extra=extra)
        return peer

    def answer(self, *headers: str, extra: bytes = b"") -> None:
        """The 101 to the head that was read."""
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Accept: {accept_of(self.request_key()).decode()}", *headers]
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + extra)

    def request_key(self) -> bytes:
        for line in self.head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"sec-websocket-key":
                return value.strip()
        raise AssertionError("no key")

    def read_head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer[:] = rest
        return head

    # -- frames ----------------------------------------------------------------------------------------------

    def send(self, opcode: int, payload: bytes = b"", **how: Any) -> None:
        if self.client:
            how.setdefault("mask", b"\0\0\0\0")
        self.sock.sendall(frame(opcode, payload, **how))

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> Frame:
        """The next frame. EOFError at the end of the stream, AssertionError for what RFC 6455 forbids."""
        first, second = self._take(2)
        length = second & 0x7F
        if length == 126:
            length = struct.unpack("!H", self._take(2))[0]
            assert length >= 126, "not the shortest length"
        elif length == 127:
            length = struct.unpack("!Q", self._take(8))[0]
            assert length >= 65536, "not the shortest length"
        masked = bool(second & 0x80)
        assert masked != self.client, "masked by a server, or not by a client"
        key = self._take(4) if masked else b""
        payload = self._take(length)
        if masked:
            payload = _unmask(payload, key)
        got = Frame(bool(first & 0x80), first >> 4 & 7, first & 0xF, masked, payload)
        assert got.opcode in (0, 1, 2, 8, 9, 10), got
        assert got.opcode < 8 or (got.fin and length <= 125), got
        return got

    def read_all(self) -> list[Frame]:
        """Every frame up to the end of the stream."""
        frames = []
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                frames.append(self.read())
        return frames

    def expect_close(self, code: int | None, answer: bool = True) -> Frame:
        """The next frame is a Close with `code`; answer it, and see the end of the stream."""
        got = self.read()
        assert got.opcode == CLOSE, got
        assert got.code == code, got
        if answer:
            with contextlib.suppress(OSError):
                self.send(CLOSE, got.payload)
        return got

    def expect_end(self) -> None:
        """The stream ends, with nothing before it."""
        try:
            data = bytes(self._buffer) or self.sock.recv(100)
        except ConnectionError:
            return
        assert data == b"", data

    def close(self) -> None:
        self.sock.close()

    def end(self) -> None:
        """End our direction of the stream with FIN."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(_native.SHUT_WR)

    def reset(self) -> None:
        """End the connection with RST."""
        self.sock.setsockopt(_native.SOL_SOCKET, _native.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"the stream ended; {bytes(self._buffer)!r:.80} was left")
        self._buffer += data

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


def accept_of(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def _unmask(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    repeated = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
