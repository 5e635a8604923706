"""A server on greenlets: nothing is patched, and one operating system thread serves all connections.

    pip install 'syncws[gevent]'
    python gevent_server.py [PORT]
"""

import sys

import gevent

from syncws.gevent import Server


def echo(ws, request):
    gevent.spawn(beat, ws)  # sending is allowed from any greenlet
    for message in ws:
        ws.send(message)


def beat(ws):
    while ws.readyState == ws.OPEN:
        ws.ping("still here", ignore_closed=True)
        gevent.sleep(1)


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
with Server(echo, host="127.0.0.1", port=port) as server:
    print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
    server.serve_forever()
