"""syncws and the WebSocket libraries of Python, as client and as server; exchanges.py has what is done."""

from __future__ import annotations

from exchanges import Exchanges, only
from link import WE_CONNECT


class TestWebsocketsOnThreads(Exchanges):
    program = "websockets_sync_peer.py"


class TestWebsocketsOnAsyncio(Exchanges):
    program = "websockets_asyncio_peer.py"


class TestWebsocketClient(Exchanges):
    """A client only, and without compression."""

    program = "websocket_client_peer.py"
    as_server = ()
    as_client = ("plain", "only-we")
    test_windows_are_as_agreed = None

    @staticmethod
    def answer(who, code, reason):
        return 1000, ""  # to any Close


class TestAiohttp(Exchanges):
    program = "aiohttp_peer.py"
    as_server = ("plain", "only-they", "only-we", "deflate", "we-forget", "our-small-windows")
    as_client = ("plain", "only-they", "only-we", "deflate", "we-forget", "their-small-server-window")
    test_their_fragments_are_one_message = None

    @staticmethod
    def answer(who, code, reason):
        return 1000, ""  # to any Close


class TestSimpleWebsocket(Exchanges):
    """Its server always compresses if that is offered, its client never offers it."""

    program = "simple_websocket_peer.py"
    as_server = ("only-they", "deflate", "we-forget", "our-small-windows")
    as_client = ("plain", "only-we")
    sees_what_came_early = False  # with the next bytes only

    @staticmethod
    def answer(who, code, reason):
        # Its client does not answer a Close, but drops the connection.
        return (code, reason) if who == WE_CONNECT else (1006, "")

    @only("plain")
    def test_our_pings_between_fragments_are_answered(self, peer, who, case):
        """Not where messages are compressed: wsproto takes for plain what follows the ping."""
        super().test_our_pings_between_fragments_are_answered(peer, who, case)
