"""An echo server over TLS (wss), with a certificate and its key in PEM files.

    python tls_server.py CERT KEY [PORT]
"""

import ssl
import sys

import syncws


def echo(ws, request):
    for message in ws:
        ws.send(message)


if len(sys.argv) < 3:
    sys.exit(__doc__)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
port = int(sys.argv[3]) if len(sys.argv) > 3 else 8766
with syncws.Server(echo, host="127.0.0.1", port=port, ssl=context) as server:
    print(f"listening on wss://localhost:{server.address()[1]}/", flush=True)
    server.serve_forever()
