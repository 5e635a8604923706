"""Bottle: a route for a WebSocket, and a hook that asks for a token first.

    python bottle_chat.py [PORT]        gunicorn -k gthread --threads 100 bottle_chat
"""

import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from bottle import Bottle, HTTPResponse, abort, request

import syncws

app = application = Bottle()


@syncws.upgrade
def echo(ws, _):
    for message in ws:
        ws.send(f"{request.query.token}: {message}")


@app.hook("before_request")
def authenticate():
    if request.path == "/chat" and request.query.token != "s3cr3t":
        abort(401, "who are you?")


@app.get("/chat")
def chat():
    return HTTPResponse(status=echo.handle(request.environ).status)


app.get("/", callback=lambda: "a page\n")
if __name__ == "__main__":  # app.run() would serve one connection at a time
    threads = type("Threads", (ThreadingMixIn, WSGIServer), {"daemon_threads": True})
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    make_server("127.0.0.1", port, app, threads).serve_forever()
