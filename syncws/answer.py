"""The answer to one request of a client's, to a server or to a proxy: its head, and the body of a refusal.

Rank 3: on `handshake`, `exchange`, h11. No I/O: bytes in, values out. HTTP/1.1: RFC 9112, and RFC 9110 section 9.3.6.
"""

from __future__ import annotations

from collections.abc import Callable

import h11

from .errors import HandshakeError
from .exchange import Response
from .handshake import HeadBuffer, event_headers

HEAD_LIMIT = 65536  # bytes: the heads of all responses together, interim ones included
BODY_LIMIT = 65536  # bytes kept of the body of a refusal
BODY_PATIENCE = 2.0  # seconds for it: the status is what matters, and it is known


class AnswerReader:
    """Bytes to one `Response`. `ends_at_head(response)`: what follows its head is no body, and is kept in `rest`.

    `failure(text)` makes what is raised if none comes, or no HTTP. `response` is set with the head; `receive` returns
    it when the body is there too, cut to `BODY_LIMIT`.
    """

    def __init__(
        self, method: str, ends_at_head: Callable[[Response], bool], failure: Callable[[str], HandshakeError]
    ) -> None:
        self.response: Response | None = None
        self.http_version = b""
        self.rest = b""
        self._ends_at_head = ends_at_head
        self._failure = failure
        self._asked = "the handshake" if method == "GET" else method
        self._heads = HeadBuffer(HEAD_LIMIT)
        self._http = _having_asked(method)
        self._body = bytearray()

    def receive(self, data: bytes) -> Response | None:
        """Take in what came, b"" for the end of file; None = more is needed."""
        if self.response is not None:
            return self._receive_body(data)
        if not data:
            raise self._failure(f"the connection was closed before {self._asked} was answered")
        self._heads.add(data)
        try:
            return self._receive_heads()
        except h11.RemoteProtocolError as error:
            # h11 quotes what it refuses by repr(), at any length.
            # Without h11's traceback: one of its frames holds the error, and that all of its callers.
            text = str(error).replace("bytearray(b", "(b")
            raise self._failure(f"malformed HTTP response: {text[:200]}") from error.with_traceback(None)

    def _receive_heads(self) -> Response | None:
        while (head := self._heads.next_head()) is not None:
            self._http.receive_data(head)
            event = self._http.next_event()
            # A whole head makes nothing else.
            assert isinstance(event, h11.Response | h11.InformationalResponse)
            status = event.status_code
            # 100, 103 and the like come before the answer (RFC 9110 section 15.2).
            if status < 200 and status != 101:
                continue
            response = Response(status, event_headers(event), reason=event.reason.decode("latin-1"))
            self.response, self.http_version = response, event.http_version
            if self._ends_at_head(response):
                self.rest = self._heads.rest()
                return response
            # An empty rest is not given to h11, which would take it for the end of file.
            return self._receive_body(self._heads.rest() or None)
        return None

    def _receive_body(self, data: bytes | None) -> Response | None:
        if data is not None:
            self._http.receive_data(data)
        try:
            event = self._http.next_event()
            while isinstance(event, h11.Data):
                self._body += event.data
                event = self._http.next_event()
        except h11.RemoteProtocolError:
            # Cut short or badly chunked: the status is what matters, and it is known.
            event = h11.PAUSED
        if event is h11.NEED_DATA and len(self._body) < BODY_LIMIT:
            return None
        assert self.response is not None
        self.response.body = bytes(self._body[:BODY_LIMIT])
        return self.response


def _having_asked(method: str) -> h11.Connection:
    """An h11 connection on which the request was sent: it reads the response to one."""
    http = h11.Connection(h11.CLIENT)
    # Only an upgrade may be answered 101, and only behind a CONNECT is a 2xx without a body.
    target, upgrade = ("/", [("Upgrade", "websocket")]) if method == "GET" else ("h:1", [])
    http.send(h11.Request(method=method, target=target, headers=[("Host", "h"), *upgrade]))
    http.send(h11.EndOfMessage())
    return http
