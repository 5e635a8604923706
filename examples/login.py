"""An HTTP server with sessions: who has not logged in is answered 401 by it, and the upgrade never begins.

    python login.py [PORT]        POST /login gives the cookie with which a WebSocket is let in
"""

import contextlib
import http.cookies
import http.server
import secrets
import sys

import syncws

sessions = {}  # a real one asks for a password, and forgets in time


class Site(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        session = secrets.token_urlsafe()
        sessions[session] = f"user {len(sessions) + 1}"
        self.send_response(204)
        self.send_header("Set-Cookie", f"session={session}; HttpOnly; SameSite=Strict")
        self.end_headers()

    def do_GET(self):
        cookie = http.cookies.SimpleCookie(self.headers.get("Cookie", "")).get("session")
        user = sessions.get(cookie.value) if cookie else None
        if user is None:
            self.send_error(401)
            return
        syncws.upgrade(lambda ws, request: ws.send(f"welcome, {user}")).http(self)


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
with http.server.ThreadingHTTPServer(("127.0.0.1", port), Site) as site, contextlib.suppress(KeyboardInterrupt):
    print(f"listening on ws://127.0.0.1:{site.server_port}/", flush=True)
    site.serve_forever()
