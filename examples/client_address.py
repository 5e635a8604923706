"""Where a client comes from: the other end of the connection, or, behind a proxy of ours, whom that was asked by.

    python client_address.py [PORT [PROXY …]]        PROXY: an address whose X-Forwarded-For is believed
"""

import sys

import syncws

PROXIES = set(sys.argv[2:])  # anybody else may write into the header what he likes


def address_of(request):
    address = request.remote_address[0]
    # Each proxy adds whom it was asked by at the right, so go left as long as that is one of ours.
    forwarded = ",".join(request.headers.get_all("X-Forwarded-For")).split(",")
    while address in PROXIES and forwarded[-1].strip():
        address = forwarded.pop().strip()
        forwarded = forwarded or [""]
    return address


def accept(ws, request):
    ws.send(f"you are {address_of(request)}")


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
with syncws.Server(accept, host="127.0.0.1", port=port) as server:
    print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
    server.serve_forever()
