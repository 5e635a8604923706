"""A chat: what one says, all hear. Who does not read any more is closed when too much waits for it.

    python chat_server.py [PORT]        then, twice: syncws connect 'ws://127.0.0.1:8765/?name=anna'
"""

import sys

import syncws


def chat(ws, request):
    name = request.query.get("name", ["somebody"])[0]
    server.broadcast(f"* {name} is here")
    try:
        for message in ws:
            if isinstance(message, str):
                server.broadcast(f"{name}: {message}")
    finally:
        server.broadcast(f"* {name} is gone")


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
server = syncws.Server(chat, host="127.0.0.1", port=port)
with server:
    print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
    server.serve_forever()
