"""Pyramid: a view that is a WebSocket, with a permission as other views have.

    python pyramid_chat.py [PORT]        gunicorn -k gthread --threads 100 pyramid_chat
"""

import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from pyramid.config import Configurator
from pyramid.response import Response
from pyramid.security import Allowed, Denied

import syncws


@syncws.upgrade
def echo(ws, request):
    for message in ws:
        ws.send(f"{request.query['token'][0]}: {message}")


def chat(request):
    return Response(status=echo.handle(request.environ).status)


class Policy:
    def permits(self, request, context, permission):
        return Allowed("known") if request.GET.get("token") == "s3cr3t" else Denied("who are you?")


with Configurator() as config:
    config.set_security_policy(Policy())
    config.add_view(chat, name="chat", permission="chat")
    config.add_view(lambda request: Response("a page\n"))
    app = application = config.make_wsgi_app()
if __name__ == "__main__":
    threads = type("Threads", (ThreadingMixIn, WSGIServer), {"daemon_threads": True})
    make_server("127.0.0.1", int((sys.argv[1:] or [8000])[0]), app, threads).serve_forever()
