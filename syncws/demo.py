"""The command `demo`: a tour of about two seconds, with a server and clients over real sockets.

Rank 6, over Server and Socket, by their public names only. Each step says what it does and what came of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .client import Socket
from .errors import ConnectionClosed
from .exchange import Request
from .server import Server

_PAUSE = 0.12  # seconds, for whoever reads along
_PATIENCE = 10.0  # seconds after which what should happen at once has failed
_CROWD = 50


def run() -> int:
    """`demo`: returns the exit status."""
    print("syncws: a short tour. Everything below goes over real sockets on this machine.")

    def chat(ws: Any, request: Request) -> None:
        for message in ws:
            server.broadcast(f"{request.query['name'][0]}: {message}")

    with Server({"/echo": echo, "/chat": chat}, host="127.0.0.1", port=0, compression=True) as server:
        url = f"ws://127.0.0.1:{server.address()[1]}"
        _title("A server", "one thread for each connection, blocking calls, no event loop")
        _line(f"listening on {url}/, with /echo and /chat")
        for step in (_blocking, _listening, _compressing, _crowding, _closing):
            time.sleep(_PAUSE)
            step(url)
        time.sleep(_PAUSE)
        _title("Stopping the server", "it closes who is still connected, with 1001")
        with Socket(f"{url}/chat") as late:
            server.close()
            late.wait_closed(_PATIENCE)
            _line(f"a client that was still there saw {late.close_code}")
    print("\nThat was it. To go on: `python -m syncws serve`, and in another terminal")
    print("`python -m syncws connect ws://127.0.0.1:8765/`.")
    return 0


def _title(what: str, more: str) -> None:
    print(f"\n{what}: {more}", flush=True)


def _line(text: str) -> None:
    print(f"    {text}", flush=True)
    time.sleep(_PAUSE / 3)


# -- the server's side --------------------------------------------------------------------------------------


def echo(ws: Any, request: Request) -> None:
    """A handler that sends each message back."""
    for message in ws:
        ws.send(message)


# -- the steps ----------------------------------------------------------------------------------------------


def _blocking(url: str) -> None:
    _title("A blocking client", "each call returns when it is done")
    with Socket(f"{url}/echo") as ws:
        for message in ("hello", "grüß dich", b"\x00\x01\x02"):
            ws.send(message)
            _line(f"send({message!r}), then recv() gave {ws.recv(timeout=_PATIENCE)!r}")
        try:
            ws.recv(timeout=0.1)
        except TimeoutError as error:
            _line(f"recv(timeout=0.1) raised TimeoutError: {error};")
        ws.send("still here")
        _line(f"the connection goes on: {ws.recv(timeout=_PATIENCE)!r}")
    _line(f"the end of the `with` block closed it: code {ws.close_code}")


def _listening(url: str) -> None:
    _title("Three clients with listeners", "a thread in the background calls them, as a browser would")
    heard: list[str] = []
    clients = [Socket(f"{url}/chat?name={name}") for name in ("anna", "ben", "cleo")]
    for name, ws in zip(("anna", "ben", "cleo"), clients, strict=True):
        ws.onmessage = _listener(name, heard)
    clients[0].send("hello, both of you")
    _until(lambda: len(heard) == 3)
    for text in sorted(heard):
        _line(text)
    for ws in clients:
        ws.close(1000)
    _line(f"all three closed: {all(ws.wait_closed(_PATIENCE) for ws in clients)}")


def _listener(name: str, heard: list[str]) -> Callable[[Any], None]:
    def on_message(event: Any) -> None:
        thread = threading.current_thread().name
        heard.append(f"{name}'s listener heard {event.data!r} on the thread {thread}")

    return on_message


def _compressing(url: str) -> None:
    _title("Compression", "permessage-deflate, agreed in the opening handshake")
    text = "to be or not to be, that is the question; " * 1000
    with Socket(f"{url}/echo") as ws:
        ws.send(text)
        assert ws.recv(timeout=_PATIENCE) == text
        _line(f"a text of {len(text)} bytes went out in {ws.bytes_sent} and came back in {ws.bytes_received}")


def _crowding(url: str) -> None:
    _title(f"{_CROWD} clients at once", "each has a thread in the server")
    clients = [Socket(f"{url}/echo") for _ in range(_CROWD)]
    for number, ws in enumerate(clients):
        ws.send(f"message {number}")
    right = sum(ws.recv(timeout=_PATIENCE) == f"message {number}" for number, ws in enumerate(clients))
    _line(f"{right} of {_CROWD} got the answer to their own message")
    for ws in clients:
        ws.close(1000)
    for ws in clients:
        ws.wait_closed(_PATIENCE)


def _closing(url: str) -> None:
    _title("Closing", "code and reason reach the other side, and everybody who waits")
    ws = Socket(f"{url}/echo")
    ws.onclose = lambda event: _line(f"close event: {event.code} {event.reason!r}, wasClean={event.wasClean}")
    ws.close(4000, "enough for today")
    ws.wait_closed(_PATIENCE)
    try:
        ws.send("too late")
    except ConnectionClosed as error:
        _line(f"send() raised ConnectionClosed: {error}")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("something that should happen at once did not")
        time.sleep(0.01)
