"""A blocking client: sends, waits for the answer, gives up in time.

    python client.py [URL]
"""

import sys

import syncws

url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765/"
try:
    with syncws.Socket(url) as ws:  # open now, or an exception
        ws.send("hello")  # str goes as text
        print("text:", ws.recv(timeout=5))
        ws.send(b"\x00\x01\x02")  # bytes go as binary
        print("binary:", ws.recv(timeout=5))
        ws.send(part for part in ("one message ", "in three ", "fragments"))
        print("fragments:", ws.recv(timeout=5))
    print("closed:", ws.close_code)
except syncws.HandshakeError as error:
    sys.exit(f"refused: {error}")
except syncws.ConnectionClosed as error:
    sys.exit(f"the server ended it: {error}")
except OSError as error:  # TimeoutError is one too
    sys.exit(f"no connection, or no answer: {error}")
