"""`websocket-client`; it has no server and no compression."""

from __future__ import annotations

import struct
from typing import Any

import control
from websocket import ABNF, WebSocket


class Peer:
    ws: Any = None

    def connect(self, url: str, compression: Any, protocols: Any) -> Any:
        assert compression is None
        self.ws = WebSocket()
        self.ws.connect(url, timeout=control.PATIENCE, subprotocols=protocols)
        return {"protocol": self.ws.subprotocol or "", "compressed": False}

    def send(self, messages: Any) -> None:
        for data in map(control.decode, messages):
            self.ws.send(data, ABNF.OPCODE_TEXT if isinstance(data, str) else ABNF.OPCODE_BINARY)

    def send_fragments(self, pieces: Any) -> None:
        for index, piece in enumerate(map(control.decode, pieces)):
            opcode = ABNF.OPCODE_TEXT if isinstance(piece, str) else ABNF.OPCODE_BINARY
            data = piece.encode() if isinstance(piece, str) else piece
            last = index == len(pieces) - 1
            self.ws.send_frame(ABNF.create_frame(data, ABNF.OPCODE_CONT if index else opcode, int(last)))

    def recv(self, count: int) -> Any:
        return [self.message() for _ in range(count)]

    def message(self) -> Any:
        opcode, data = self.ws.recv_data()
        if opcode not in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY):
            raise AssertionError(f"not a message: {opcode}, {data!r}")
        return control.encode(data.decode() if opcode == ABNF.OPCODE_TEXT else data)

    def ping(self, data: str) -> str:
        self.ws.ping(data)
        opcode, payload = self.ws.recv_data(control_frame=True)
        assert opcode == ABNF.OPCODE_PONG, opcode
        return payload.decode()

    def close(self, code: int, reason: str) -> Any:
        self.ws.close(code, reason.encode(), timeout=control.PATIENCE)
        assert self.ws.close_frame is not None, "no Close came back"
        return of_close(self.ws.close_frame.data)

    def closed(self) -> Any:
        opcode, data = self.ws.recv_data()
        assert opcode == ABNF.OPCODE_CLOSE, opcode
        self.ws.shutdown()
        return of_close(data)


def of_close(payload: bytes) -> Any:
    return [struct.unpack("!H", payload[:2])[0], payload[2:].decode()] if payload else [1005, ""]


control.run(Peer())
