"""syncws: WebSockets for Python that is not asyncio: one thread or greenlet per connection, blocking calls.

The public names; where each comes from is where it is documented.
"""

from .brokers import RedisBroker
from .client import Socket
from .closeall import close_all
from .deflate import Deflate
from .errors import (
    BrokenStream,
    ConnectionClosed,
    EndOfStream,
    HandshakeError,
    InvalidData,
    InvalidStateError,
    MessageTooBig,
    PolicyError,
    ProtocolError,
    ProxyError,
    RedirectError,
    UpgradeUnsupported,
    WebSocketError,
)
from .events import CloseEvent, ErrorEvent, Event, EventTarget, MessageEvent
from .exchange import Request, Response
from .frames import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT
from .hosts import Takeover, register_host
from .lifecycle import CLOSED, CLOSING, CONNECTING, OPEN
from .message import Message
from .reconnect import reconnect
from .server import Server
from .topics import Broker
from .upgrade import upgrade

__all__ = [
    "BINARY",
    "CLOSE",
    "CLOSED",
    "CLOSING",
    "CONNECTING",
    "CONTINUE",
    "OPEN",
    "PING",
    "PONG",
    "TEXT",
    "BrokenStream",
    "Broker",
    "CloseEvent",
    "ConnectionClosed",
    "Deflate",
    "EndOfStream",
    "ErrorEvent",
    "Event",
    "EventTarget",
    "HandshakeError",
    "InvalidData",
    "InvalidStateError",
    "Message",
    "MessageEvent",
    "MessageTooBig",
    "PolicyError",
    "ProtocolError",
    "ProxyError",
    "RedirectError",
    "RedisBroker",
    "Request",
    "Response",
    "Server",
    "Socket",
    "Takeover",
    "UpgradeUnsupported",
    "WebSocketError",
    "__version__",
    "close_all",
    "reconnect",
    "register_host",
    "upgrade",
]

__version__ = "0.1.0"
