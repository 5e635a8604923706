"""HTTP server objects of several makers, running: what `Server(server=…)` is attached to.

Those of threads run on threads of the operating system unless gevent has patched the process; gevent.pywsgi in the hub
of this thread where there is one, else in one of its own.
"""

from __future__ import annotations

import contextlib
import gc
import http.server
import logging
import socketserver
import sys
import threading
import wsgiref.simple_server
from typing import Any

import pytest
import world


class Host:
    """A running HTTP server: `server` is the object, `address()` as that of a `Server` of ours."""

    def __init__(self, server: Any, port: int) -> None:
        self.server = server
        self.port = port

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def url(self, target: str = "/", scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{target}"


def page(environ: Any, start_response: Any) -> list[bytes]:
    """The HTTP application: it says which path it was asked for."""
    body = b"page at " + environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


class _Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"page at " + self.path.partition("?")[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class _QuietWSGI(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class _ThreadingWSGI(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


@contextlib.contextmanager
def _on_a_thread(server: Any, port: int) -> Any:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Host(server, port)
    finally:
        server.shutdown()
        thread.join(world.PATIENCE)
        server.server_close()


def _http(context: Any) -> Any:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return _on_a_thread(server, server.server_port)


def _wsgiref(context: Any) -> Any:
    made = wsgiref.simple_server.make_server("127.0.0.1", 0, page, _ThreadingWSGI, _QuietWSGI)
    return _on_a_thread(made, made.server_port)


@contextlib.contextmanager
def _werkzeug(context: Any) -> Any:
    serving = pytest.importorskip("werkzeug.serving")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = serving.make_server("127.0.0.1", 0, page, threaded=True, ssl_context=context)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Host(server, server.server_port)
    finally:
        server.shutdown()
        thread.join(world.PATIENCE)


@contextlib.contextmanager
def _cheroot(context: Any) -> Any:
    cheroot = pytest.importorskip("cheroot.wsgi")
    # From Python 3.13 on its buffers, which still hold the 101 that could not be sent, complain when they are dropped.
    sys.modules["cheroot.makefile"].BufferedWriter.__del__ = lambda self: None
    server = cheroot.Server(("127.0.0.1", 0), page, numthreads=10, shutdown_timeout=1)
    server.expiration_interval = 0.02  # also how long it takes to stop
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield Host(server, server.bind_addr[1])
    finally:
        server.stop()
        thread.join(world.PATIENCE)


@contextlib.contextmanager
def _pywsgi(context: Any) -> Any:
    pytest.importorskip("gevent.pywsgi")
    with _in_this_hub(context) if world.GREEN else _in_a_hub(context) as host:
        yield host


def _made_by_gevent(context: Any) -> Any:
    from gevent.pywsgi import WSGIServer

    how = {} if context is None else {"ssl_context": context}
    return WSGIServer(("127.0.0.1", 0), page, log=None, error_log=None, **how)


@contextlib.contextmanager
def _in_this_hub(context: Any) -> Any:
    server = _made_by_gevent(context)
    server.start()
    try:
        yield Host(server, server.server_port)
    finally:
        server.stop(timeout=1)


@contextlib.contextmanager
def _in_a_hub(context: Any) -> Any:
    import gevent

    hosts: list[Host] = []
    ready = threading.Event()
    asked = threading.Event()

    def run() -> None:
        with _in_this_hub(context) as host:
            hosts.append(host)
            ready.set()
            while not asked.is_set():
                gevent.sleep(0.02)
        gc.collect()  # what still waits to be closed needs the loop for that

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert ready.wait(world.PATIENCE)
        yield hosts[0]
    finally:
        asked.set()
        thread.join(world.PATIENCE)


MAKERS = {"http.server": _http, "wsgiref": _wsgiref, "werkzeug": _werkzeug, "pywsgi": _pywsgi, "cheroot": _cheroot}


def running(kind: str, context: Any = None) -> Any:
    """A server object of that kind, serving `page`; with TLS if there is a context (not wsgiref, cheroot)."""
    return MAKERS[kind](context)
