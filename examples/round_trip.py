"""The round-trip time, of messages to an echo service and of a ping, which any server answers.

    python round_trip.py [URL]
"""

import sys
import threading
import time

import syncws

url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765/"
with syncws.Socket(url) as ws:
    for _ in range(3):
        began = time.monotonic()
        ws.send("there and back")
        ws.recv(timeout=5)
        print(f"message: {(time.monotonic() - began) * 1000:.2f} ms")

    answered = threading.Event()
    ws.onpong = lambda event: answered.set()
    ws.ping()
    if answered.wait(5):
        print(f"ping: {ws.latency * 1000:.2f} ms")
