"""websockets, its half for threads: `websockets.sync`."""

from __future__ import annotations

from typing import Any

import serving
from websockets.sync.server import serve

options = serving.options(__doc__)
clients: dict[Any, None] = {}


def echo(ws: Any) -> None:
    for message in ws:
        ws.send(message)


def member(ws: Any) -> None:
    if ws.request.path == serving.CONTROL:
        return control(ws)
    clients[ws] = None
    try:
        for _ in ws:
            pass
    finally:
        del clients[ws]


def control(ws: Any) -> None:
    for length in ws:
        text = serving.text(length)
        for client in list(clients):
            client.send(text)


with serve(
    echo if options.job == "echo" else member,
    "127.0.0.1",
    0,
    compression="deflate" if options.compress else None,
    max_size=serving.LARGEST,
) as server:
    serving.ready(server.socket.getsockname()[1])
    server.serve_forever()
