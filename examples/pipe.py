"""A WebSocket as a stream: standard input goes to the server, what comes from there to standard output.

    tar c . | python pipe.py ws://… > answer
"""

import sys
import threading

import syncws

url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765/"


def send(sender):
    with sender:  # leaving says the end, with 1000
        while data := sys.stdin.buffer.read1(65536):
            sender.write(data)


with syncws.Socket(url) as ws, ws.makefile("rb") as receiver:
    thread = threading.Thread(target=send, args=(ws.makefile("wb"),), daemon=True)
    thread.start()
    try:
        while data := receiver.read1(65536):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except syncws.BrokenStream as error:
        sys.exit(f"not all came: {error}")
