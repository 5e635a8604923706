"""gevent-websocket, on gevent's WSGI server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import serving
from gevent.pywsgi import WSGIServer
from geventwebsocket.exceptions import WebSocketError
from geventwebsocket.handler import WebSocketHandler

options = serving.options(__doc__)


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    ws = environ["wsgi.websocket"]
    try:
        while (message := ws.receive()) is not None:
            ws.send(message)
    except WebSocketError:
        pass
    return []


server = WSGIServer(("127.0.0.1", 0), application, handler_class=WebSocketHandler, log=None, backlog=511)
server.start()
serving.ready(server.server_port)
server.serve_forever()
