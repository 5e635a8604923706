"""Who is measured: each contender's name, programs, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "benchmarks"
NODE = "node"  # the interpreters: this one,
MAIN = "main"  # CPython of .venv-bench,
FREE = "freethreaded"  # CPython without the GIL


@dataclass(frozen=True)
class Contender:
    """`server` and `client` are files of servers/ and clients/; `needs` are packages of its interpreter."""

    name: str
    label: str
    server: str = ""
    client: str = ""
    needs: tuple[str, ...] = ()
    interpreter: str = MAIN
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    ours: bool = False


_OURS = {"server": "syncws_server.py", "client": "syncws_client.py", "ours": True}
_PURE = {"SYNCWS_PURE": "1"}

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("syncws", "syncws", needs=("syncws",), **_OURS),
        Contender("syncws-pure", "syncws, pure Python", needs=("syncws",), environment=_PURE, **_OURS),
        Contender("syncws-cpu", "syncws, `cpu=0`", needs=("syncws",), arguments=("--cpu", "0"), **_OURS),
        Contender("syncws-gevent", "syncws on gevent", needs=("syncws", "gevent"), arguments=("--gevent",), **_OURS),
        Contender("syncws-ng", "syncws with zlib-ng", needs=("syncws", "zlib-ng"), arguments=("--zlib-ng",), **_OURS),
        Contender("syncws-free", "syncws, free-threaded", needs=("syncws",), interpreter=FREE, **_OURS),
        Contender("raw", "bare sockets", "raw.py", "raw.py"),
        Contender("raw-free", "bare sockets, free-threaded", "raw.py", "raw.py", interpreter=FREE),
        Contender("websockets", "websockets.sync", "websockets_sync.py", "websockets_sync.py", ("websockets",)),
        Contender(
            "websockets-free",
            "websockets.sync, free-threaded",
            "websockets_sync.py",
            "websockets_sync.py",
            ("websockets",),
            interpreter=FREE,
        ),
        Contender("websocket-client", "websocket-client", "", "websocket_client.py", ("websocket-client",)),
        Contender(
            "simple-websocket",
            "simple-websocket",
            "simple_websocket_server.py",
            "simple_websocket_client.py",
            ("simple-websocket", "werkzeug"),
        ),
        Contender("gevent-websocket", "gevent-websocket", "gevent_websocket.py", needs=("gevent", "gevent-websocket")),
        Contender("aiohttp", "aiohttp + uvloop", "aiohttp_server.py", "aiohttp_client.py", ("aiohttp", "uvloop")),
        Contender("picows", "picows + uvloop", "picows_server.py", "picows_client.py", ("picows", "uvloop")),
        Contender("ws", "ws on node", "ws.mjs", "ws.mjs", ("ws",), interpreter=NODE),
    )
}
