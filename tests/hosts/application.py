"""What every host serves: a few plain routes, and those that take the connection over; one of `http.server` too.

`HOST_WORLD` in the environment says what runs beside a handler there: threads, gevent or eventlet.
"""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import syncws

WORLD = os.environ.get("HOST_WORLD", "threads")

logging.basicConfig(level=logging.INFO, stream=sys.stderr)

_evil: list[str] = []  # appended to by requests that must never be made
_outcomes: list[str] = []
_begun, _ended = itertools.count(), itertools.count()  # of sessions; `next` of a count is atomic


def _spawn(function):
    if WORLD == "threads":
        threading.Thread(target=function, daemon=True).start()
    else:
        importlib.import_module(WORLD).spawn(function)


# -- handlers of connections -----------------------------------------------------------------------------------


def echo(ws, request):
    for message in ws:
        ws.send(message)


def listen(ws, request):
    ws.onmessage = lambda event: ws.send(event.data)


def bye(ws, request):
    ws.send("x")
    ws.close(3001, "bye")


def once(ws, request):
    """Returns without a Close."""
    ws.send(ws.recv())


def fail(ws, request):
    raise ValueError("raised on purpose")


def push(ws, request):
    """A second thread, or greenlet, sends while this one echoes."""

    def run():
        for number in range(200):
            ws.send(f"pushed {number}")

    _spawn(run)
    echo(ws, request)


def flood(ws, request):
    """Sends what nobody reads, until that takes too long."""
    try:
        while True:
            ws.send(b"x" * 1_000_000, timeout=0.3)
    except (TimeoutError, syncws.ConnectionClosed) as error:
        _outcomes.append(type(error).__name__)


def cut(ws, request):
    """Sends what nobody reads, until it is terminated from beside."""

    def run():
        ws.recv()
        ws.terminate()

    _spawn(run)
    try:
        while True:
            ws.send(b"x" * 1_000_000)
    except syncws.ConnectionClosed as error:
        _outcomes.append(type(error).__name__)


def wait(ws, request):
    ws.recv()


def who(ws, request):
    address = request.remote_address
    host = address if isinstance(address, str) else address[0]
    ws.send(f"{host} {'secure' if request.secure else 'plain'}")


def interrupt(ws, request):
    """What ends more than this connection comes up in `recv`."""
    kind = request.target.partition("?")[2]
    if kind == "SystemExit":
        ws.recv()
        raise SystemExit
    world = importlib.import_module(WORLD)
    if kind == "Timeout":
        pending = world.Timeout.start_new(0.05) if WORLD == "gevent" else world.Timeout(0.05)
    else:
        pending = world.spawn_later(0.05, world.kill, world.getcurrent())
    try:
        ws.recv()
    finally:
        del pending


HANDLERS = (echo, listen, bye, once, fail, push, flood, cut, wait, who, interrupt)


def _verify(info):
    if info.request.path == "/teapot":
        return syncws.Response(418, body=b"short and stout")
    return info.request.path != "/locked"


_chat = syncws.upgrade(
    {path: handler for handler in HANDLERS for path in (f"/{handler.__name__}",)}
    | dict.fromkeys(("/teapot", "/locked", "/wrapped"), echo),
    compression=True,
    protocols=["chat"],
    verify_client=_verify,
    headers={"X-Extra": "yes"},
    close_timeout=2.0,
    allow=os.environ.get("HOST_ALLOW", "").split(),
)


class _Counted:
    """The sessions at work, by how many have begun and ended."""

    def __enter__(self):
        next(_begun)

    def __exit__(self, *_):
        next(_ended)


def _count(counter):
    return counter.__reduce__()[1][0]


def _state():
    own = Path("/proc/self")
    return {
        "sessions": _count(_begun) - _count(_ended),
        "evil": _evil,
        "outcomes": _outcomes,
        "threads": len(list((own / "task").iterdir())),
        "descriptors": sorted(_target(path) for path in (own / "fd").iterdir()),
    }


def _target(descriptor):
    try:
        return os.readlink(descriptor).partition(":")[0]
    except OSError:
        return ""  # the one by which the folder was read


def _page(path):
    """The body of a plain page, None for a path that is none."""
    if path == "/plain":
        return b"plain"
    if path == "/evil":
        _evil.append(path)
        return b"evil"
    return json.dumps(_state()).encode() if path == "/state" else None


def _wrapped(start_response):
    """As agents that measure responses do it; they copy the environ, too."""

    def start(status, headers, exc_info=None):
        return start_response(status, headers, *filter(None, [exc_info]))

    return start


def application(environ, start_response):
    """For WSGI servers."""
    body = _page(environ["PATH_INFO"])
    if environ["PATH_INFO"] == "/post":
        body = b"%d bytes" % len(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    if body is None:
        with _Counted():
            if environ["PATH_INFO"] == "/wrapped":
                return _chat(dict(environ), _wrapped(start_response))
            return _chat(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


if os.environ.get("HOST_PROXIED"):
    from werkzeug.middleware.proxy_fix import ProxyFix

    application = ProxyFix(application, x_for=1, x_proto=1, x_host=1)


class Handler(BaseHTTPRequestHandler):
    """For `http.server`."""

    protocol_version = "HTTP/1.1"
    timeout = 1.0

    def do_GET(self):
        body = _page(urlsplit(self.path).path)
        if body is None:
            with _Counted():
                _chat.http(self)
            return
        self._answer(body)

    def do_POST(self):
        self._answer(b"%d bytes" % len(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
