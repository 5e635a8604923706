"""The testee as a server: echoes every message, as the test suite expects of it.

Started by run.py; prints the address it listens on, which run.py reads. `--gevent` serves on greenlets.
"""

from __future__ import annotations

import argparse


def echo(ws, request):
    for message in ws:
        ws.send(message)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--gevent", action="store_true", help="greenlets instead of threads")
    options = parser.parse_args()
    if options.gevent:
        from syncws.gevent import Server
    else:
        from syncws import Server
    # No keepalive: the suite counts every frame. No limit on connections: it holds them for a moment.
    server = Server(echo, host="127.0.0.1", port=options.port, compression=True, ping_interval=None)
    with server:
        print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
