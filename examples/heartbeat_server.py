"""Broken connections, noticed by hand: who has not answered the last ping is dropped.

    python heartbeat_server.py [PORT [SECONDS]]        ping_interval=SECONDS would do it without a line
"""

import sys
import threading

import syncws

port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
interval = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0


def accept(ws, request):
    ws.is_alive = True
    ws.onpong = lambda event: setattr(ws, "is_alive", True)
    ws.onclose = lambda event: print("gone:", event.code, flush=True)


def beat():
    while not stopped.wait(interval):
        for ws in server.clients:
            if not getattr(ws, "is_alive", True):
                ws.terminate()
            ws.is_alive = False
            ws.ping(ignore_closed=True)


stopped = threading.Event()
with syncws.Server(accept, host="127.0.0.1", port=port, ping_interval=None) as server:
    threading.Thread(target=beat, daemon=True).start()
    print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
    server.serve_forever()
    stopped.set()
