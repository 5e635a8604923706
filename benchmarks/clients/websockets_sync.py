"""websockets, its half for threads: `websockets.sync`."""

from __future__ import annotations

import os
import sys

import asking
from websockets.sync.client import connect

options = asking.options(__doc__)
ws = connect(f"ws://127.0.0.1:{options.port}/", compression=None, proxy=None)
if options.job == "echo":
    asking.request_reply(options, ws.send, ws.recv)
else:
    asking.read_flood(options, ws)
sys.stdout.flush()
os._exit(0)  # without its closing handshake, which waits for the end of the flood
