"""Two WebSocket servers share one HTTP server, each with a path, options and clients of its own.

    python two_paths.py [PORT]        paths /foo and /bar; the rest is the HTTP server's
"""

import contextlib
import http.server
import sys

import syncws


def foo(ws, request):
    for message in ws:
        ws.send(f"foo: {message}")


def bar(ws, request):
    for message in ws:
        ws.send(f"bar: {message}")


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
http_server = http.server.ThreadingHTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler)
with (
    syncws.Server(foo, server=http_server, path="/foo"),
    syncws.Server(bar, server=http_server, path="/bar", compression=True),
    contextlib.suppress(KeyboardInterrupt),
):
    print(f"listening on ws://127.0.0.1:{http_server.server_port}/", flush=True)
    http_server.serve_forever()
