"""The testee as a server: echoes every message, as the test suite expects of it.

Started by run.py; prints the address it listens on, which run.py reads. `--gevent` serves on greenlets; `--in` inside
another server: a view of Flask's on werkzeug, or gunicorn with its gevent worker.
"""

from __future__ import annotations

import argparse

# No keepalive: the suite counts every frame.
OPTIONS = {"compression": True, "ping_interval": None}


def echo(ws, request):
    for message in ws:
        ws.send(message)


def announce(port: int) -> None:
    print(f"listening on ws://127.0.0.1:{port}/", flush=True)


def serve(port: int, gevent: bool) -> None:
    if gevent:
        from syncws.gevent import Server
    else:
        from syncws import Server
    # No limit on connections: the suite holds them for a moment.
    with Server(echo, host="127.0.0.1", port=port, **OPTIONS) as server:
        announce(server.address()[1])
        server.serve_forever()


def flask(port: int) -> None:
    from flask import Flask, Response, request
    from werkzeug.serving import make_server

    import syncws

    app, chat = Flask(__name__), syncws.upgrade(echo, **OPTIONS)

    @app.route("/", websocket=True)
    def index():
        return Response(status=chat.handle(request.environ).status)

    server = make_server("127.0.0.1", port, app, threaded=True)
    announce(server.server_port)
    server.serve_forever()


def gunicorn(port: int) -> None:
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self):
            self.cfg.set("bind", f"127.0.0.1:{port}")
            self.cfg.set("worker_class", "gevent")
            self.cfg.set("when_ready", lambda server: announce(server.LISTENERS[0].sock.getsockname()[1]))
            if "control_socket_disable" in self.cfg.settings:  # it would be shared with other servers
                self.cfg.set("control_socket_disable", True)

        def load(self):
            import syncws

            return syncws.upgrade(echo, **OPTIONS)

    Application().run()


HOSTS = {"flask": flask, "gunicorn": gunicorn}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--gevent", action="store_true", help="greenlets instead of threads")
    parser.add_argument("--in", dest="host", choices=HOSTS, help="inside another server")
    options = parser.parse_args()
    if options.host:
        HOSTS[options.host](options.port)
    else:
        serve(options.port, options.gevent)


if __name__ == "__main__":
    main()
