"""Starts one host server in this process: `serve.py KIND ADDRESS PORT [CERTIFICATE]`; see launch.py."""

from __future__ import annotations

import importlib
import ssl
import sys
from socketserver import ThreadingMixIn

KIND, ADDRESS, PORT, CERTIFICATE = sys.argv[1], sys.argv[2], int(sys.argv[3]), (*sys.argv[4:], None)[0]
THREADS = 70

# Before anything else is imported.
if KIND.endswith("-patched"):
    PATCHES = {"pywsgi": ("gevent.monkey", "patch_all"), "eventlet": ("eventlet", "monkey_patch")}
    module, function = PATCHES[KIND.partition("-")[0]]
    getattr(importlib.import_module(module), function)()

from application import Handler, application  # noqa: E402


def context(module=ssl):
    """The TLS context of the server; None for a plain one."""
    if CERTIFICATE is None:
        return None
    made = module.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTIFICATE)
    return made


def encrypt(server):
    if CERTIFICATE is not None:
        server.socket = context().wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


def http_server():
    from http.server import ThreadingHTTPServer

    encrypt(ThreadingHTTPServer((ADDRESS, PORT), Handler))


def wsgiref():
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    server = Server((ADDRESS, PORT), WSGIRequestHandler)
    server.set_app(application)
    encrypt(server)


def werkzeug():
    from werkzeug.serving import run_simple

    run_simple(ADDRESS, PORT, application, threaded=True, ssl_context=context(), use_debugger=KIND.endswith("debug"))


def pywsgi():
    import gevent.ssl
    from gevent.pywsgi import WSGIServer

    tls = {"ssl_context": context(gevent.ssl)} if CERTIFICATE else {}
    WSGIServer((ADDRESS, PORT), application, **tls).serve_forever()


def cheroot():
    from cheroot.ssl.builtin import BuiltinSSLAdapter
    from cheroot.wsgi import Server

    server = Server((ADDRESS, PORT), application, numthreads=THREADS, timeout=1)
    if CERTIFICATE:
        server.ssl_adapter = BuiltinSSLAdapter(CERTIFICATE, CERTIFICATE)
    server.shutdown_timeout = 0.5
    try:
        server.start()
    finally:
        server.stop()


def eventlet():
    import eventlet
    import eventlet.wsgi

    listener = eventlet.listen((ADDRESS, PORT))
    if CERTIFICATE:
        listener = eventlet.wrap_ssl(listener, certfile=CERTIFICATE, keyfile=CERTIFICATE, server_side=True)
    eventlet.wsgi.server(listener, application, keepalive=5)


def paste():
    from paste.httpserver import serve

    serve(application, ADDRESS, str(PORT), threadpool_workers=THREADS, protocol_version="HTTP/1.1")


def waitress():
    from waitress import serve

    serve(application, host=ADDRESS, port=PORT, threads=THREADS)


def runserver():
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.configure(DEBUG=True, SECRET_KEY="x", ALLOWED_HOSTS=["*"], WSGI_APPLICATION="application.application")
    django.setup()
    call_command("runserver", f"{ADDRESS}:{PORT}", "--noreload", "--skip-checks")


{
    "http.server": http_server,
    "wsgiref": wsgiref,
    "werkzeug": werkzeug,
    "werkzeug-debug": werkzeug,
    "pywsgi": pywsgi,
    "pywsgi-patched": pywsgi,
    "cheroot": cheroot,
    "eventlet": eventlet,
    "eventlet-patched": eventlet,
    "paste": paste,
    "waitress": waitress,
    "django": runserver,
}[KIND]()
