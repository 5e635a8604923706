"""The command `demo --port`: a page to open in a browser, with a chat and an echo.

Rank 6, over Server. The page is served by http.server, the WebSockets by a `Server` on the same port.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .client import Socket
from .demo import echo
from .exchange import Request
from .server import Server

_MOST = 64 * 1024  # bytes of a message

_PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>syncws</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
  form { display: flex; gap: .5rem }
  input { flex: 1; min-width: 0; font: inherit; padding: .3rem .5rem }
  input[name=who] { flex: 0 1 8rem }
  button { font: inherit }
  ol { list-style: none; padding: 0; min-height: 3rem; max-height: 16rem; overflow-y: auto }
  li { overflow-wrap: anywhere }
  small { color: GrayText }
</style>
<h1>syncws</h1>
<section id="chat">
  <h2>Chat <small></small></h2>
  <ol aria-live="polite"></ol>
  <form>
    <input name="who" value="somebody" maxlength="30" aria-label="your name">
    <input name="text" placeholder="to everybody with this page" maxlength="1000" autocomplete="off" autofocus>
    <button>Send</button>
  </form>
</section>
<section id="echo">
  <h2>Echo <small></small></h2>
  <ol aria-live="polite"></ol>
  <form>
    <input name="text" value="hello" maxlength="1000" autocomplete="off" aria-label="a text">
    <button>Send</button>
  </form>
</section>
<script>
"use strict"
for (const section of document.querySelectorAll("section")) {
  const state = section.querySelector("small"), list = section.querySelector("ol"), form = section.querySelector("form")
  const sent = []
  let ws

  const show = text => {
    const item = document.createElement("li")
    item.textContent = text
    list.append(item)
    while (list.children.length > 200) list.firstChild.remove()
    list.scrollTop = list.scrollHeight
  }
  const connect = () => {
    ws = new WebSocket(location.href.replace(/^http/, "ws").replace(/[?#].*/, "") + section.id)
    ws.onopen = () => { state.textContent = "connected" }
    ws.onmessage = event => {
      const began = section.id == "echo" ? sent.shift() : undefined
      show(began === undefined ? event.data : `${event.data} (${(performance.now() - began).toFixed(1)} ms)`)
    }
    ws.onclose = event => {
      sent.length = 0
      state.textContent = `closed with ${event.code}, trying again`
      setTimeout(connect, 1000)
    }
  }
  form.onsubmit = event => {
    event.preventDefault()
    const { who, text } = form.elements
    if (ws.readyState != WebSocket.OPEN || !text.value) return
    sent.push(performance.now())
    ws.send(who ? `${who.value}: ${text.value}` : text.value)
    if (who) text.value = ""
  }
  connect()
}
</script>
"""


class _Pages(BaseHTTPRequestHandler):
    server_version = "syncws"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(_PAGE)))
        self.end_headers()
        self.wfile.write(_PAGE)

    def log_message(self, *_: Any) -> None:
        """A line for each request says nothing to who looks at the page."""


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A browser that leaves in the middle of an answer is nothing to be told of."""


def serve(port: int, announce: Callable[[str], object]) -> None:
    """Serve until Ctrl-C. OSError if the port cannot be had; `announce` is called with the URL of the page."""
    pages = _HTTPServer(("127.0.0.1", port), _Pages)

    def chat(ws: Any, request: Request) -> None:
        for message in ws:
            server.broadcast(message, to=[other for other in server.clients if _is_at("/chat", other)])

    accept = {"/chat": chat, "/echo": echo}
    with pages, Server(accept, server=pages, max_payload=_MOST) as server, contextlib.suppress(KeyboardInterrupt):
        announce(f"http://127.0.0.1:{pages.server_address[1]}/")
        pages.serve_forever()


def _is_at(path: str, ws: Socket) -> bool:
    return ws.request is not None and ws.request.path == path
