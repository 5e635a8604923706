"""simple-websocket. Nothing holds a flood back in it, so there is none here."""

from __future__ import annotations

import asking
import simple_websocket

options = asking.options(__doc__)
ws = simple_websocket.Client(f"ws://127.0.0.1:{options.port}/")
asking.request_reply(options, ws.send, ws.receive)
ws.close()
