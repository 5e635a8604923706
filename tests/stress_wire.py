"""The other end of a stressed connection: a raw stream, and a reader of frames that forgives nothing.

One thread (greenlet) runs a `Wire`: it writes and reads without ever waiting for the one in the other, so that what
hangs is never the test's own end. Written against RFC 6455 and RFC 7692 alone.
"""

from __future__ import annotations

import contextlib
import random
import socket as _native
import ssl
import struct
import time
import zlib
from typing import Any

import world
from peer import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, accept_of, close_payload, frame

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
EXTENSION = "permessage-deflate"
#: what may be said to break the protocol, and the code that answers it
GARBAGE = (
    (b"\xff\xff\xff\xff" * 5, 1002),
    (b"\x83\x80\0\0\0\0", 1002),
    (b"\x80\x80\0\0\0\0", 1002),
    (b"\x81\x82\0\0\0\0\xff\xfe", 1007),
    (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),
    (b"\x88\x81\0\0\0\0\x03", 1002),
)


class Stream:
    """A connected socket that is never waited in, with TLS over it if there is a context."""

    def __init__(self, sock: Any, context: ssl.SSLContext | None = None, *, server_side: bool = False) -> None:
        self.sock = sock
        sock.settimeout(0)
        self._unsent = bytearray()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            name = None if server_side else "127.0.0.1"
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, name)
            self._shake_hands()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
            self.pump(b"")
            self.wait(world.PATIENCE)
            data = self._recv()
            if data == b"":
                raise EOFError("the stream ended in the TLS handshake")
            self._incoming.write(data or b"")
        self.pump(b"")

    def wait(self, timeout: float, reading: bool = True) -> None:
        """Wait until something can be done: reading if that is wanted, writing if something is unsent."""
        sock = [self.sock]
        world.select(sock if reading else [], sock if self._unsent else [], [], timeout)

    def pump(self, data: bytes) -> bool:
        """Take `data` to be sent, send what the kernel takes; False if something is left."""
        if self._tls is not None:
            if data:
                self._tls.write(data)
            data = self._outgoing.read()
        self._unsent += data
        while self._unsent:
            try:
                count = self.sock.send(memoryview(bytes(self._unsent[:65536])))
            except (BlockingIOError, TimeoutError):
                return False
            del self._unsent[:count]
        return True

    def recv(self) -> bytes | None:
        """What came; None if nothing did, b"" at the end."""
        data = self._recv()
        if self._tls is None:
            return data
        if data:
            self._incoming.write(data)
        elif data is not None:
            self._incoming.write_eof()
        plain = b""
        while True:
            try:
                piece = self._tls.read(65536)
            except ssl.SSLWantReadError:
                return plain or None
            except ssl.SSLError:
                return plain
            if not piece:
                return plain
            plain += piece

    def _recv(self) -> bytes | None:
        try:
            return self.sock.recv(65536)
        except (BlockingIOError, TimeoutError):
            return None

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(_native.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(_native.SOL_SOCKET, _native.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Parser:
    """Bytes of one direction to frames and messages. AssertionError for whatever is not exactly right."""

    def __init__(self, *, masked: bool, deflated: bool) -> None:
        self._masked = masked
        self._inflater = zlib.decompressobj(-15) if deflated else None
        self._buffer = bytearray()
        self._opcode = 0
        self._compressed = False
        self._pieces: list[bytes] = []
        self.messages: list[bytes] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.close: int | None = None  # the code of the Close; 1005 for an empty one

    @property
    def between_frames(self) -> bool:
        return not self._buffer

    @property
    def between_messages(self) -> bool:
        return not self._opcode

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer:
            assert self.close is None, f"{bytes(self._buffer[:40])!r} behind the Close"
            size = self._frame()
            if not size:
                return
            del self._buffer[:size]

    def _frame(self) -> int:
        """Read one frame, if all of it is there: its size."""
        buffer = self._buffer
        if len(buffer) < 2:
            return 0
        first, length, at = buffer[0], buffer[1] & 0x7F, 2
        assert bool(buffer[1] & 0x80) == self._masked, f"the mask bit is wrong: {bytes(buffer[:20])!r}"
        assert first & 0xF in (CONTINUE, TEXT, BINARY, CLOSE, PING, PONG), f"bad first byte {first:#x}"
        assert not first & 0x30, f"bad first byte {first:#x}"
        if length >= 126:
            width = 2 if length == 126 else 8
            if len(buffer) < 2 + width:
                return 0
            at += width
            length = int.from_bytes(buffer[2:at], "big")
            assert length >= (126 if width == 2 else 65536), "not the shortest length"
            assert length < 1 << 27, f"a frame of {length} bytes"
        key = b""
        if self._masked:
            key = bytes(buffer[at : at + 4])
            at += 4
        if len(buffer) < at + length:
            return 0
        payload = bytes(memoryview(buffer)[at : at + length])
        self._take(bool(first & 0x80), bool(first & 0x40), first & 0xF, unmask(payload, key) if key else payload)
        return at + length

    def _take(self, fin: bool, compressed: bool, opcode: int, payload: bytes) -> None:
        if opcode >= CLOSE:
            assert fin and not compressed and len(payload) <= 125
            self._take_control(opcode, payload)
            return
        if opcode == CONTINUE:
            assert self._opcode and not compressed, "a continuation of nothing"
        else:
            assert not self._opcode, "a message inside another"
            assert not compressed or self._inflater is not None
            self._opcode, self._compressed = opcode, compressed
        self._pieces.append(payload)
        if fin:
            message = b"".join(self._pieces)
            if self._compressed:
                message = self._inflater.decompress(message + b"\0\0\xff\xff")
            if self._opcode == TEXT:
                message.decode()
            self.messages.append(message)
            self._pieces, self._opcode = [], 0

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            assert len(payload) != 1
            payload[2:].decode()
            self.close = struct.unpack("!H", payload[:2])[0] if payload else 1005
        else:
            (self.pings if opcode == PING else self.pongs).append(payload)


def unmask(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    repeated = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


class Wire:
    """The peer: answers as RFC 6455 asks, chatters at random, and does one `evil` thing when its time has come.

    evil: None, "close" (of its own accord), "end" (of the stream), "reset", "garbage", "cut" (a frame, and the end).
    """

    def __init__(self, stream: Stream, *, client: bool, deflated: bool = False, early: bytes = b"") -> None:
        self.stream = stream
        self.client = client
        self.parser = Parser(masked=not client, deflated=deflated)
        self.evil: str | None = None
        self.evil_after = 0.01  # seconds
        self.chatter = 0.0  # the probability of a message or a ping, for each turn
        self.sent_close: int | None = None  # the code of the Close we sent
        self.due: int | None = None  # the code that must answer our garbage
        self.said = 0
        self.lost = False  # by a reset, from either side
        self._silent = False
        self._early = early

    def say(self, opcode: int, payload: bytes = b"", **how: Any) -> bytes:
        return frame(opcode, payload, mask=b"\0\0\0\0" if self.client else None, **how)

    def run(self, rng: random.Random) -> None:
        """Until the end of the stream. The parser's AssertionErrors get out of here."""
        acts_at = time.monotonic() + self.evil_after
        try:
            self.parser.feed(self._early)
            while True:
                if self.evil is not None and time.monotonic() >= acts_at:
                    evil, self.evil = self.evil, None
                    if not self._silent and self._do(evil, rng):
                        return
                self._chatter(rng)
                sent = self.stream.pump(self._answers())
                if sent and self._silent and self.parser.close is not None and not self.client:
                    return  # the server ends the connection
                self.stream.wait(0.002 if self.evil is not None or self.chatter else 0.5)
                data = self.stream.recv()
                if data == b"":
                    return
                self.parser.feed(data or b"")
        except OSError:
            self.lost = True
        finally:
            self.stream.sock.close()

    def _chatter(self, rng: random.Random) -> None:
        if self._silent or rng.random() >= self.chatter or self.stream._unsent:
            return
        self.said += 1
        kind = rng.randrange(4)
        if kind == 0:
            self.stream.pump(self.say(PING, b"p%d" % self.said))
        elif kind == 1:
            half = self.say(TEXT, b"a" * rng.randrange(300), fin=False)
            self.stream.pump(half + self.say(PING, b"between") + self.say(CONTINUE, b"b"))
        else:
            self.stream.pump(self.say(BINARY, b"c" * rng.choice((0, 5, 200, 5000))))

    def _answers(self) -> bytes:
        if self._silent:
            return b""
        pings, self.parser.pings = self.parser.pings, []
        out = b"".join(self.say(PONG, ping) for ping in pings)
        if self.parser.close is not None:
            self._silent, self.sent_close = True, self.parser.close
            out += self.say(CLOSE, close_payload(self.parser.close) if self.parser.close != 1005 else b"")
        return out

    def _do(self, evil: str, rng: random.Random) -> bool:
        """The evil thing; True if nothing is left to be read."""
        if evil == "reset":
            self.lost = True
            self.stream.reset()
            return True
        self._silent = True
        if evil == "close":
            self.sent_close = rng.choice((1000, 1001, 1005, 3000, 4999))
            payload = b"" if self.sent_close == 1005 else close_payload(self.sent_close, "so")
            self.stream.pump(self.say(CLOSE, payload))
        elif evil == "garbage":
            data, self.due = rng.choice(GARBAGE)
            # What is wrong with each stays so without a mask.
            self.stream.pump(data if self.client else unmasked(data))
        else:
            if evil == "cut":
                self.stream.pump(self.say(BINARY, b"d" * 500)[: rng.randrange(1, 400)])
            if not self.stream._unsent:
                self.stream.half_close()
            else:
                self.lost = True
                return True
        return False


def unmasked(data: bytes) -> bytes:
    if data.startswith(b"\xff"):
        return data
    head = data[:1] + bytes([data[1] & 0x7F])
    body = data[2:10] if head[1] == 127 else b""
    return head + body + data[2 + len(body) + 4 :]


def server_answer(stream: Stream) -> Wire:
    """Answer the handshake of a client at the other end of `stream`."""
    head, early = _head(stream)
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    fields = {name.lower(): value for name, value in fields.items()}
    deflated = EXTENSION.encode() in fields.get(b"sec-websocket-extensions", b"")
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {accept_of(fields[b'sec-websocket-key']).decode()}"]
    lines += [f"Sec-WebSocket-Extensions: {EXTENSION}"] if deflated else []
    stream.pump("\r\n".join(lines).encode() + b"\r\n\r\n")
    return Wire(stream, client=False, deflated=deflated, early=early)


def client_ask(stream: Stream, target: str, deflated: bool) -> Wire:
    """The handshake with a server at the other end of `stream`."""
    lines = [f"GET {target} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY.decode()}"]
    lines += [f"Sec-WebSocket-Extensions: {EXTENSION}"] if deflated else []
    stream.pump("\r\n".join(lines).encode() + b"\r\n\r\n")
    head, early = _head(stream)
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert (EXTENSION.encode() in head) == deflated, head
    return Wire(stream, client=True, deflated=deflated, early=early)


def _head(stream: Stream) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = stream.recv()
        if more == b"":
            raise EOFError(f"the stream ended in the handshake: {data!r}")
        if more is None:
            stream.wait(world.PATIENCE)
        data += more or b""
    head, _, early = data.partition(b"\r\n\r\n")
    return head, early
