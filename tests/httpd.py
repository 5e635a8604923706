"""HTTP servers of the standard library, with and without WSGI, that run as long as a `with` block."""

from __future__ import annotations

import contextlib
import http.server
import socketserver
import wsgiref.simple_server
from collections.abc import Iterator
from typing import Any

import world


class Pages(http.server.BaseHTTPRequestHandler):
    """Answers each GET with 200 and its path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"page {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


class _Threading(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


@contextlib.contextmanager
def running(server: Any) -> Iterator[Any]:
    """Serve until the end of the block. What it yields has `address()`, as a `Server` of ours has it."""
    serving = world.spawn(server.serve_forever, 0.05)
    server.address = lambda: server.server_address
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        serving.result()


def http_server(handler: Any = Pages) -> Any:
    """http.server, a thread for each connection."""
    return running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))


def wsgi_server(application: Any) -> Any:
    """wsgiref with a thread for each request."""
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, application, _Threading, _Quiet)
    return running(server)
