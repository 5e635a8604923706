"""syncws and the WebSocket libraries of Python, both as client and as server; see exchanges.py for what is done."""

from __future__ import annotations

from exchanges import Exchanges
from link import THEY_CONNECT, WE_CONNECT


class TestWebsocketsOnThreads(Exchanges):
    program = "websockets_sync_peer.py"


class TestWebsocketsOnAsyncio(Exchanges):
    program = "websockets_asyncio_peer.py"


class TestWebsocketClient(Exchanges):
    """A client only, and without compression."""

    program = "websocket_client_peer.py"
    cases = {THEY_CONNECT: ("plain", "only-we")}

    @staticmethod
    def answer(who, code, reason):
        return 1000, ""  # to any Close


class TestAiohttp(Exchanges):
    program = "aiohttp_peer.py"
    cases = {
        WE_CONNECT: ("plain", "only-they", "only-we", "deflate", "we-forget", "our-small-windows"),
        THEY_CONNECT: ("plain", "only-they", "only-we", "deflate", "we-forget", "their-small-server-window"),
    }
    sends_fragments = False

    @staticmethod
    def answer(who, code, reason):
        return 1000, ""  # to any Close


class TestSimpleWebsocket(Exchanges):
    """Its server always compresses if that is offered, its client never offers it."""

    program = "simple_websocket_peer.py"
    cases = {
        WE_CONNECT: ("only-they", "deflate", "we-forget", "our-small-windows"),
        THEY_CONNECT: ("plain", "only-we"),
    }

    @staticmethod
    def answer(who, code, reason):
        # Its client does not answer a Close, but drops the connection.
        return (code, reason) if who == WE_CONNECT else (1006, "")
