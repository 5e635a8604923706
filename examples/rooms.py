"""A chat with rooms: the path is the room. With a Redis it is one chat, however many processes and hosts serve it.

    python rooms.py [PORT [redis://HOST:PORT]]        then, twice: syncws connect ws://127.0.0.1:8765/tea
"""

import sys

import syncws


def chat(ws, request):
    ws.subscribe(request.path)
    server.publish(request.path, "* somebody came")
    for message in ws:
        server.publish(request.path, message)


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
broker = syncws.RedisBroker(sys.argv[2]) if len(sys.argv) > 2 else None
server = syncws.Server(chat, host="127.0.0.1", port=port, broker=broker)
with server:
    print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
    server.serve_forever()
