"""The opening handshake: what its two sides, `handshake_client` and `handshake_server`, have in common.

Rank 3: on `headers` and `deflate`. No I/O: bytes in, values out.
RFC 6455 section 4. HTTP/1.1 heads (RFC 9112) are bounded and screened here, then parsed by h11.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha1

import h11

from .deflate import Agreement
from .headers import Headers, tokens

#: by our preference; 8 is HyBi 07 to 12, the same but for the name of a header
VERSIONS = (13, 8)

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BLANK_LINE = b"\r\n\r\n"
# No control character but tab, and CR and LF only as a pair: h11 takes a lone LF for the end of a line and
# most controls for text, where an intermediary may read otherwise. A CR that comes last may still get its LF.
_NOT_IN_A_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n")


@dataclass(frozen=True)
class Agreed:
    """What the handshake settled: the subprotocol ("" = none) and the extension.

    `extensions` is what the server's Sec-WebSocket-Extensions says, as the W3C attribute wants it. `version` is that of
    the protocol: 13, 8 or "hixie-76".
    """

    protocol: str = ""
    deflate: Agreement | None = None
    extensions: str = ""
    version: int | str = 13


def accept_key(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2, step 5.4)."""
    # SHA-1 proves here that the server speaks WebSocket; nothing is secured by it.
    return b64encode(sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()).decode("ascii")


def event_headers(event: h11.Request | h11.Response | h11.InformationalResponse) -> Headers:
    """The header fields of an h11 event, names spelled as they came."""
    fields = event.headers.raw_items()
    return Headers.parsed([(name.decode("ascii"), value.decode("latin-1")) for name, value in fields])


def upgrades_to_websocket(values: list[str]) -> bool:
    """Whether Upgrade is websocket, in any case, and nothing else (RFC 6455 sections 4.1 and 4.2.1)."""
    return len(values) == 1 and values[0].lower() == "websocket"


def connection_upgrades(values: list[str]) -> bool:
    """Whether Connection is a list of tokens and has upgrade, in any case, among them."""
    try:
        return "upgrade" in [token.lower() for token in tokens(values)]
    except ValueError:
        return False


class HeadBuffer:
    """Cuts heads off a stream of bytes. Each byte is searched once, whatever pieces they come in.

    `limit` bytes in all for the heads taken from it. Too long a head, or a control character in it:
    `h11.RemoteProtocolError`, as for what h11 itself will refuse, with the status a server answers.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._data = bytearray()
        self._searched = 0

    def add(self, data: bytes) -> None:
        self._data += data

    def next_head(self) -> bytes | None:
        """The next head with its blank line, or None as long as it isn't all there."""
        data = self._data
        # Blank line and CR LF may straddle the border of two pieces.
        start = max(0, self._searched - len(_BLANK_LINE) + 1)
        found = data.find(_BLANK_LINE, start, self._left)
        end = min(len(data), self._left) if found < 0 else found + len(_BLANK_LINE)
        if _NOT_IN_A_HEAD.search(data, start, end):
            raise h11.RemoteProtocolError("control character in the head")
        if found < 0:
            self._searched = end
            if len(data) >= self._left:
                raise self._too_long()
            return None
        head = bytes(data[:end])
        del data[:end]
        self._left -= end
        self._searched = 0
        return head

    def rest(self) -> bytes:
        """The bytes behind the heads taken."""
        return bytes(self._data)

    def _too_long(self) -> h11.RemoteProtocolError:
        status = 431 if b"\r\n" in self._data else 414
        return h11.RemoteProtocolError("head too long", error_status_hint=status)
