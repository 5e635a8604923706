"""A TCP service through a WebSocket: who connects to `enter` reaches HOST:PORT from `leave`, byte for byte.

    python tcp_tunnel.py leave HOST:PORT [PORT]      near the service
    python tcp_tunnel.py enter URL [PORT]            where it is wanted; URL is what `leave` says
"""

import contextlib
import socket
import struct
import sys
import threading

import syncws


def carry(ws, tcp):  # both ways, until either side ends
    receiver, sender = ws.makefile("rb", 0), ws.makefile("wb", 0)

    def send():
        with contextlib.suppress(OSError), sender:  # leaving closes the WebSocket: with 1000, or 1011 after an error
            while data := tcp.recv(65536):
                sender.write(data)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with receiver:
            while data := receiver.read(65536):
                tcp.sendall(data)
    except OSError:  # torn: what was carried must not look complete, so no FIN
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        tcp.shutdown(socket.SHUT_RD)  # wakes the other thread
    thread.join()


def leave(ws, request):
    with socket.create_connection(target.rsplit(":", 1)) as tcp:  # an error is logged, and closes ws with 1011
        carry(ws, tcp)


def enter(tcp):
    with tcp:
        carry(syncws.Socket(target), tcp)


if len(sys.argv) < 3:
    sys.exit(__doc__)
end, target, port = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 8765
if end == "leave":
    with syncws.Server(leave, host="127.0.0.1", port=port) as server:
        print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
        server.serve_forever()
else:
    with socket.create_server(("127.0.0.1", port)) as listener, contextlib.suppress(KeyboardInterrupt):
        print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            threading.Thread(target=enter, args=(listener.accept()[0],), daemon=True).start()
