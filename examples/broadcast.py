"""One message to many: to all clients on /all, on /others to all but the one that sent it.

    python broadcast.py [PORT]
"""

import sys

import syncws


def to_all(ws, request):
    for message in ws:
        server.broadcast(message)


def to_others(ws, request):
    for message in ws:
        server.broadcast(message, to=server.clients - {ws})


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
server = syncws.Server({"/all": to_all, "/others": to_others}, host="127.0.0.1", port=port)
with server:
    print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
    server.serve_forever()
