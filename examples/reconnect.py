"""A client that comes back: after the server went, after a network that failed, until Ctrl-C.

    python reconnect.py [URL]
"""

import contextlib
import logging
import sys

import syncws

logging.basicConfig(format="%(message)s")  # says why it is not connected just now, and when it tries again

url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765/"
try:
    for ws in syncws.reconnect(url, min_delay=0.2, max_delay=30):
        print("connected", flush=True)
        # An abrupt end raises; the loop then goes on with the next connection.
        with contextlib.suppress(syncws.ConnectionClosed):
            ws.send("hello")
            for message in ws:
                print("text:", message, flush=True)
except (syncws.HandshakeError, OSError) as error:
    sys.exit(f"trying again would not help: {error}")
except KeyboardInterrupt:
    print("done")
