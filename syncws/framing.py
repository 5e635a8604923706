"""The framings there are: for each version of the protocol, what makes the two halves of a connection.

Rank 3: on `receiver`, `sender`, `hixie76`. A connection asks here once, by its version; the layers see no difference.
Versions: RFC 6455, its draft 8 (HyBi 07 to 12, the same frames), draft-hixie-thewebsocketprotocol-76.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from . import hixie76
from .deflate import Agreement
from .frames import BytesLike, encode
from .options import Options
from .receiver import Item, Receiver
from .sender import Sender


class MessageSender(Protocol):
    """What the layers ask of a sender; see `sender.Sender`."""

    @property
    def open_message(self) -> bool: ...

    @property
    def plain(self) -> bool: ...

    def message(
        self,
        opcode: int,
        payload: str | BytesLike,
        fin: bool = True,
        compress: bool | None = None,
        mask: bool | None = None,
    ) -> tuple[BytesLike, ...]: ...

    def control(self, opcode: int, payload: BytesLike, *, mask: bool | None = None) -> bytes: ...

    def forget(self) -> None: ...


class Gathering(Protocol):
    """A receiver in the middle of a payload that goes to its place as it is."""

    def room(self) -> memoryview: ...

    def fill(self, count: int, /) -> list[Item]: ...


class MessageReceiver(Protocol):
    """What the layers ask of a receiver; see `receiver.Receiver`."""

    @property
    def between(self) -> bool: ...

    @property
    def wanted(self) -> int: ...

    @property
    def only_messages(self) -> bool: ...

    @property
    def gathering(self) -> Gathering | None: ...

    def feed(
        self,
        buffer: bytes | bytearray,
        end: int | None = None,
        items: list[Any] | None = None,
        position: int = 0,
    ) -> list[Item]: ...


class Supports(NamedTuple):
    """What the version of the protocol in use has."""

    binary: bool = True
    pings: bool = True


@dataclass(frozen=True, eq=False)
class Framing:
    """How messages become bytes, and bytes messages.

    The makers of a sender and a receiver are told the options, whether we are the server, and what is agreed on
    compression. `frame` makes a whole message of a server's, for anybody: of an opcode and a payload, which may be
    compressed.
    """

    supports: Supports
    sender: Callable[[Options, bool, Agreement | None], MessageSender]
    receiver: Callable[[Options, bool, Agreement | None], MessageReceiver]
    frame: Callable[[int, BytesLike, bool], bytes]


def _sender(options: Options, server_side: bool, deflate: Agreement | None) -> Sender:
    return Sender(
        masked=not server_side,
        deflater=deflate.deflater(server_side) if deflate else None,
        threshold=deflate.threshold if deflate else 0,
        generate_mask=options.generate_mask,
    )


def _receiver(options: Options, server_side: bool, deflate: Agreement | None) -> Receiver:
    return Receiver(
        masked=server_side,
        inflater=deflate.inflater(server_side) if deflate else None,
        max_payload=options.max_payload,
        max_fragments=options.max_fragments,
        skip_utf8_validation=options.skip_utf8_validation,
    )


def _legacy_receiver(options: Options, server_side: bool, deflate: Agreement | None) -> hixie76.Receiver:
    return hixie76.Receiver(
        max_payload=options.max_payload, skip_utf8_validation=options.skip_utf8_validation
    )


def _frame(opcode: int, payload: BytesLike, compressed: bool) -> bytes:
    return encode(opcode, payload, True, compressed, b"")


MODERN = Framing(Supports(), _sender, _receiver, _frame)
LEGACY = Framing(
    Supports(binary=False, pings=False),
    lambda options, server_side, deflate: hixie76.Sender(),
    _legacy_receiver,
    lambda opcode, payload, compressed: hixie76.encode(payload),
)

#: by version, as `Socket.protocol_version` says it
FRAMINGS: dict[int | str, Framing] = {13: MODERN, 8: MODERN, hixie76.VERSION: LEGACY}
