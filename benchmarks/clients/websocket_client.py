"""websocket-client."""

from __future__ import annotations

import asking
import websocket

options = asking.options(__doc__)
ws = websocket.create_connection(f"ws://127.0.0.1:{options.port}/", enable_multithread=True)
if options.job == "echo":
    asking.request_reply(options, ws.send, ws.recv)
else:
    asking.read_flood(options, iter(ws.recv, None))
ws.shutdown()
