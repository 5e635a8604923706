"""A chat: what one says, all hear. Who does not read any more is dropped after a second.

    python chat_server.py [PORT]        then, twice: syncws connect 'ws://127.0.0.1:8765/?name=anna'
"""

import contextlib
import sys

import syncws


def chat(ws, request):
    name = request.query.get("name", ["somebody"])[0]
    tell(f"* {name} is here")
    try:
        for message in ws:
            if isinstance(message, str):
                tell(f"{name}: {message}")
    finally:
        tell(f"* {name} is gone")


def tell(text):
    for ws in server.clients:  # a copy: clients may come and go meanwhile
        # A send that was cut short by its timeout ends the connection it was for.
        with contextlib.suppress(syncws.ConnectionClosed, TimeoutError):
            ws.send(text, timeout=1)


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
with syncws.Server(chat, host="127.0.0.1", port=port) as server:
    print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
    server.serve_forever()
