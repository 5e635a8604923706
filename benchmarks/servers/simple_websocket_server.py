"""simple-websocket inside werkzeug's threaded server."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import serving
import simple_websocket
from werkzeug.serving import make_server

options = serving.options(__doc__)
logging.getLogger("werkzeug").setLevel(logging.ERROR)


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    ws = simple_websocket.Server.accept(environ)
    try:
        while True:
            ws.send(ws.receive())
    except simple_websocket.ConnectionClosed:
        return []


server = make_server("127.0.0.1", 0, application, threaded=True)
serving.ready(server.server_port)
server.serve_forever()
