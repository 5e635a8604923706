"""Bytes that load generators and bare servers exchange: ready-made frames, and the least of a handshake.

For programs of this folder only; needs nothing but the standard library. Source: RFC 6455.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import struct
import zlib

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x1b\x2d\x3f\x41"
PATIENCE = 20.0  # seconds that a server has for anything
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DEFLATE = "permessage-deflate; client_max_window_bits"


def mask(data: bytes, key: bytes = MASK) -> bytes:
    whole = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(data), "big")


def frame(payload: bytes, opcode: int = TEXT, *, masked: bool = False, rsv1: bool = False) -> bytes:
    length, bit = len(payload), 0x80 * masked
    head = bytes([0x80 | 0x40 * rsv1 | opcode])
    if length < 126:
        head += bytes([bit | length])
    elif length < 65536:
        head += bytes([bit | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + length.to_bytes(8, "big")
    return head + MASK + mask(payload) if masked else head + payload


def payload(size: int) -> bytes:
    return b"abcdefgh" * (size // 8) + b"x" * (size % 8)


def lengths(size: int) -> tuple[int, int]:
    """Of a client's frame with that much payload, and of the server's that echoes it."""
    reply = len(frame(payload(size)))
    return reply + 4, reply


def documents(count: int, size: int = 1024) -> list[bytes]:
    """Different JSON texts, all of one shape, each a little over `size` bytes: what a service would send."""
    dice = random.Random(13)
    made = []
    for number in range(count):
        rows: list[dict[str, object]] = []
        while len(json.dumps(rows)) < size:
            price = round(dice.uniform(1, 999), 2)
            rows.append({"id": number * 100 + len(rows), "name": f"item {dice.randrange(10**6)}", "price": price})
        made.append(json.dumps(rows).encode())
    return made


def deflated(data: bytes) -> bytes:
    """One message, compressed without a memory of earlier ones: any inflater can read it at any time."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -12)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def frame_length(head: bytes | bytearray | memoryview) -> int | None:
    """The whole length of an unmasked frame that begins so; None: too little is there."""
    if len(head) < 2:
        return None
    length = head[1] & 0x7F
    if length < 126:
        return 2 + length
    width = 2 if length == 126 else 8
    if len(head) < 2 + width:
        return None
    return 2 + width + int.from_bytes(head[2 : 2 + width], "big")


def upgrade_request(path: str = "/", deflate: bool = False) -> bytes:
    extensions = f"Sec-WebSocket-Extensions: {_DEFLATE}\r\n" if deflate else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n{extensions}\r\n"
    ).encode()


def read_head(sock: socket.socket) -> bytes:
    """The head of a handshake, behind which nothing has come yet."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = sock.recv(4096)
        if not more or b"\r\n\r\n" in head:
            raise ConnectionError(f"the handshake ended badly: {head!r}")
        head += more
    return head


def limit(sock: socket.socket, seconds: float) -> None:
    """A time limit by the system: one by Python costs a call of `poll` before each other call. BlockingIOError."""
    sock.settimeout(None)
    period = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, period)


def connect(port: int, path: str = "/", *, deflate: bool = False, receive_buffer: int = 0) -> socket.socket:
    """An open WebSocket connection as a bare socket; whether it compresses is checked."""
    sock = socket.socket()
    limit(sock, PATIENCE)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(upgrade_request(path, deflate))
    head = read_head(sock)
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"the server refused: {head[:200]!r}")
    if deflate != (b"permessage-deflate" in head.lower()):
        raise ConnectionError(f"compression was {'not ' * deflate}agreed: {head!r}")
    return sock


def accept_handshake(sock: socket.socket) -> str:
    """The server's half; answers the path."""
    lines = read_head(sock).decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    key = next(line.split(": ", 1)[1] for line in lines if line.lower().startswith("sec-websocket-key:"))
    assert fields["upgrade"] == "websocket"
    accept = base64.b64encode(hashlib.sha1(key.strip().encode() + _GUID).digest()).decode()
    sock.sendall(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    return lines[0].split(" ")[1]
