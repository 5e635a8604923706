"""A broken connection, noticed by hand from the client's end: the pings of the server stop, so it is dropped.

    python heartbeat_client.py [URL [SECONDS]]        SECONDS: how often the server pings
"""

import sys
import threading

import syncws

url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765/"
interval = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0

ws = syncws.Socket(url, ping_interval=None)
came = threading.Event()
ws.onping = ws.onclose = lambda event: came.set()
while came.wait(interval + 1) and ws.readyState == ws.OPEN:  # a second more, for the way
    came.clear()
ws.terminate()  # nothing, if it is closed already
ws.wait_closed()
print("closed:", ws.close_code)
