"""syncws, on threads or greenlets."""

from __future__ import annotations

import sys
from typing import Any

import serving

options = serving.options(__doc__)
if not options.zlib_ng:
    sys.modules["zlib_ng"] = None  # type: ignore[assignment]  # as where it is not installed
if options.gevent:
    from syncws.gevent import Server
else:
    from syncws import Server  # type: ignore[assignment]


def echo(ws: Any, request: Any) -> None:
    for message in ws:
        ws.send(message)


def idle(ws: Any, request: Any) -> None:
    for _ in ws:
        pass


def control(ws: Any, request: Any) -> None:
    for length in ws:
        server.broadcast(serving.text(length))


accept: Any = echo if options.job == "echo" else {"/": idle, serving.CONTROL: control}
arguments: dict[str, Any] = {} if options.cpu is None else {"cpu": options.cpu}
server: Any = Server(
    accept, host="127.0.0.1", port=0, compression=options.compress, max_payload=serving.LARGEST, **arguments
)
if options.job == "broadcast" and not hasattr(server, "broadcast"):
    raise SystemExit("this syncws has no Server.broadcast")
server.start()
serving.ready(server.address()[1])
server.serve_forever()
