"""`websockets` on threads, as client and server."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Any

import control
from websockets.exceptions import ConnectionClosed
from websockets.extensions import permessage_deflate as deflate
from websockets.sync.client import connect
from websockets.sync.server import serve

LIMITS: Any = {"max_size": None, "ping_interval": None, "compression": None}


class Peer:
    def __init__(self) -> None:
        self.ws: Any = None
        self.server: Any = None
        self.accepted: Any = queue.Queue()
        self.finished = threading.Event()
        self.opened = contextlib.ExitStack()

    def listen(self, compression: Any, protocols: Any, hello: str | None) -> int:
        def handle(ws: Any) -> None:
            if hello is not None:
                ws.send(hello)
            self.accepted.put(ws)
            finished.wait()

        if self.server is not None:
            self.server.shutdown()
        finished = self.finished = threading.Event()
        extensions = None if compression is None else [deflate.ServerPerMessageDeflateFactory(**compression)]
        self.server = serve(
            handle, "127.0.0.1", 0, extensions=extensions, subprotocols=protocols, **LIMITS
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server.socket.getsockname()[1]

    def accept(self) -> Any:
        self.ws = self.accepted.get(timeout=control.PATIENCE)
        return self.agreed()

    def connect(self, url: str, compression: Any, protocols: Any) -> Any:
        extensions = None if compression is None else [deflate.ClientPerMessageDeflateFactory(**compression)]
        connecting = connect(url, extensions=extensions, subprotocols=protocols, proxy=None, **LIMITS)
        self.ws = self.opened.enter_context(connecting)
        return self.agreed()

    def agreed(self) -> Any:
        return {"protocol": self.ws.subprotocol or "", "compressed": bool(self.ws.protocol.extensions)}

    def send(self, messages: Any) -> None:
        for message in messages:
            self.ws.send(control.decode(message))

    def send_fragments(self, pieces: Any) -> None:
        self.ws.send(control.decode(piece) for piece in pieces)

    def recv(self, count: int) -> Any:
        return [control.encode(self.ws.recv(timeout=control.PATIENCE)) for _ in range(count)]

    def ping(self, data: str) -> str:
        # It compares the payloads, and does not hand them out.
        if not self.ws.ping(data).wait(control.PATIENCE):
            raise TimeoutError("no pong")
        return data

    def close(self, code: int, reason: str) -> Any:
        self.ws.close(code, reason)
        self.finish()
        return [self.ws.close_code, self.ws.close_reason]

    def closed(self) -> Any:
        try:
            message = self.ws.recv(timeout=control.PATIENCE)
        except ConnectionClosed:
            return [self.ws.close_code, self.ws.close_reason]
        finally:
            self.finish()
        raise AssertionError(f"a message, not a Close: {message!r:.80}")

    def finish(self) -> None:
        self.finished.set()
        self.opened.close()


control.run(Peer())
