"""WebSocket by hand: the handshake by http.client, then messages that are built, written and read one by one.

    python message.py [HOST:PORT]        an echo service, say
"""

import base64
import http.client
import os
import sys

import syncws

connection = http.client.HTTPConnection(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8765")
key = base64.b64encode(os.urandom(16)).decode()
handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13"}
connection.request("GET", "/", headers=handshake)
answer = connection.getresponse()
if answer.status != 101:
    answer.close()
    connection.close()
    sys.exit(f"refused: {answer.status} {answer.reason}")

with answer, connection.sock as sock, sock.makefile("wb") as outgoing:
    message = syncws.Message(syncws.TEXT)  # masked, as a client's must be
    message.json({"by": "hand", "kind": "text"})
    message.send_to(outgoing)

    message = syncws.Message()  # binary
    message.write(b"\x00\x01")
    message.write(b"\x02")
    message.send_to(outgoing)

    close = syncws.Message(syncws.CLOSE)
    close.write((1000).to_bytes(2, "big"))
    close.send_to(outgoing)

    while message.type != syncws.CLOSE:
        message.read_from(answer.fp)
        print(message.type, message.length, message.data)
