"""An HTTP server that exists already, and WebSockets on the same port: its pages stay, its upgrades are ours.

    python http_server.py [PORT]        then open the page in a browser
"""

import contextlib
import http.server
import sys

import syncws

PAGE = b"""<!doctype html><title>echo</title><input autofocus><ol></ol><script>
const ws = new WebSocket(location.href.replace("http", "ws"))
ws.onmessage = event => document.querySelector("ol").append(event.data, document.createElement("li"))
document.querySelector("input").onchange = event => ws.send(event.target.value)
</script>"""


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)


def echo(ws, request):
    for message in ws:
        ws.send(message)


port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
pages = http.server.ThreadingHTTPServer(("127.0.0.1", port), Pages)
with syncws.Server(echo, server=pages), contextlib.suppress(KeyboardInterrupt):
    print(f"listening on ws://127.0.0.1:{pages.server_port}/", flush=True)
    pages.serve_forever()
