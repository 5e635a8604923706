"""A server that sends each message back.

    python echo_server.py [PORT]
"""

import sys

import syncws


def echo(ws, request):
    print("connected:", request.remote_address, request.path, flush=True)
    for message in ws:  # ends when the client closes
        ws.send(message)


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
with syncws.Server(echo, host="127.0.0.1", port=port) as server:
    print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
    server.serve_forever()  # until Ctrl-C or SIGTERM
