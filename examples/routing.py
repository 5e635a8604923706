"""Upgrade handlers in the routing table of a WSGI application, beside its pages.

    python routing.py [PORT]        /echo and /count are WebSockets, / is a page
"""

import contextlib
import socketserver
import sys
import wsgiref.simple_server

import syncws


def echo(ws, request):
    for message in ws:
        ws.send(message)


def count(ws, request):
    for number, _ in enumerate(ws, 1):
        ws.send(str(number))


def page(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"WebSockets: /echo /count\n"]


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True  # a connection holds its thread


routes = {"/echo": syncws.upgrade(echo), "/count": syncws.upgrade(count, compression=True)}
port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
server = wsgiref.simple_server.make_server("127.0.0.1", port, None, server_class=Server)
server.set_app(lambda environ, start_response: routes.get(environ["PATH_INFO"], page)(environ, start_response))
with contextlib.suppress(KeyboardInterrupt):
    print(f"listening on ws://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
