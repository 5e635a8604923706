"""`simple-websocket` (over wsproto): its client, and its server inside werkzeug.

The server always takes compression when it is offered; the client never offers it. Fragments and pings, for
which simple-websocket has no calls, go through wsproto's events.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any

import control
import simple_websocket
from werkzeug.serving import WSGIRequestHandler, make_server
from wsproto.events import BytesMessage, Ping, Pong, TextMessage


class RequestHandler(WSGIRequestHandler):
    """Ends the connection after a request, for another of which werkzeug would wait with HTTP/1.1."""

    protocol_version = "HTTP/1.0"


class Peer:
    def __init__(self) -> None:
        self.ws: Any = None
        self.server: Any = None
        self.accepted: Any = queue.Queue()
        self.pongs: Any = queue.Queue()
        self.finished = threading.Event()

    def listen(self, compression: Any, protocols: Any, hello: str | None) -> int:
        def application(environ: Any, start_response: Any) -> Any:
            ws = simple_websocket.Server.accept(environ, subprotocols=protocols)
            if hello is not None:
                ws.send(hello)
            self.accepted.put(ws)
            finished.wait()
            raise ConnectionError  # as Flask-Sock does: werkzeug has nothing to answer

        assert compression == {}, "its server has no parameters, and always compresses"
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
        finished = self.finished = threading.Event()
        self.server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=RequestHandler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self.server.port

    def accept(self) -> Any:
        self.ws = self.accepted.get(timeout=control.PATIENCE)
        return self.agreed()

    def connect(self, url: str, compression: Any, protocols: Any) -> Any:
        assert compression is None
        self.ws = simple_websocket.Client.connect(url, subprotocols=protocols)
        return self.agreed()

    def agreed(self) -> Any:
        self.pongs = queue.Queue()
        events = self.ws.ws.events
        self.ws.ws.events = lambda: self.noticed(events())
        extensions = [one for one in self.ws.ws.connection._proto.extensions if one.enabled()]
        return {"protocol": self.ws.subprotocol or "", "compressed": bool(extensions)}

    def noticed(self, events: Any) -> Any:
        for event in events:
            if isinstance(event, Pong):
                self.pongs.put(bytes(event.payload))
            yield event

    def send(self, messages: Any) -> None:
        for message in messages:
            self.ws.send(control.decode(message))

    def send_fragments(self, pieces: Any) -> None:
        for index, piece in enumerate(map(control.decode, pieces)):
            kind: Any = TextMessage if isinstance(piece, str) else BytesMessage
            self.send_event(kind(data=piece, message_finished=index == len(pieces) - 1))

    def send_event(self, event: Any) -> None:
        self.ws.sock.sendall(self.ws.ws.send(event))

    def recv(self, count: int) -> Any:
        return [self.message() for _ in range(count)]

    def message(self) -> Any:
        message = self.ws.receive(timeout=control.PATIENCE)
        if message is None:
            raise TimeoutError("no message")
        return control.encode(message)

    def ping(self, data: str) -> str:
        self.send_event(Ping(payload=data.encode()))
        return self.pongs.get(timeout=control.PATIENCE).decode()

    def close(self, code: int, reason: str) -> None:
        self.ws.close(code, reason)
        self.finish()

    def closed(self) -> Any:
        try:
            message = self.ws.receive(timeout=control.PATIENCE)
        except simple_websocket.ConnectionClosed as closed:
            return [int(closed.reason), closed.message or ""]
        finally:
            self.finish()
        raise AssertionError(f"a message, not a Close: {message!r:.80}")

    def finish(self) -> None:
        """Let its own thread see the end, then werkzeug's."""
        self.ws.thread.join(control.PATIENCE)
        self.finished.set()


logging.getLogger("werkzeug").setLevel(logging.ERROR)
control.run(Peer())
