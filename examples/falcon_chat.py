"""Falcon (WSGI): a resource that is a WebSocket, behind a middleware that wants a token.

    python falcon_chat.py [PORT]        gunicorn -k gthread --threads 100 falcon_chat
"""

import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

import falcon

import syncws


@syncws.upgrade
def echo(ws, request):
    for message in ws:
        ws.send(f"{request.headers['Authorization']}: {message}")


class Chat:
    def on_get(self, req, resp):
        resp.status = echo.handle(req.env).status


class Authenticate:
    def process_request(self, req, resp):
        if req.path == "/chat" and req.auth != "Bearer s3cr3t":
            raise falcon.HTTPUnauthorized(description="who are you?")


app = application = falcon.App(middleware=[Authenticate()])
app.add_route("/chat", Chat())
app.add_sink(lambda req, resp: setattr(resp, "text", "a page\n"), "/page")
if __name__ == "__main__":
    threads = type("Threads", (ThreadingMixIn, WSGIServer), {"daemon_threads": True})
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    make_server("127.0.0.1", port, app, threads).serve_forever()
