"""Who a client is, asked before the handshake: without a token it is answered 401, and there is no connection.

    python authentication.py [PORT]
    syncws connect ws://127.0.0.1:8765/ --header 'Authorization: Bearer anna-secret'
"""

import hmac
import sys

import syncws

TOKENS = {"anna": "anna-secret", "ben": "ben-secret"}
WHO_ARE_YOU = syncws.Response(401, {"WWW-Authenticate": "Bearer"}, b"a token, please\n")


def verify(info):
    token = info.request.headers.get("Authorization", "").removeprefix("Bearer ").encode("latin-1")
    for user, secret in TOKENS.items():
        if hmac.compare_digest(token, secret.encode()):
            info.request.user = user  # the handler finds it there
            return True
    return WHO_ARE_YOU  # or False, for a plain 401


def accept(ws, request):
    for message in ws:
        ws.send(f"{request.user}: {message}")


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
with syncws.Server(accept, host="127.0.0.1", port=port, verify_client=verify) as server:
    print(f"listening on ws://127.0.0.1:{server.address()[1]}/", flush=True)
    server.serve_forever()
