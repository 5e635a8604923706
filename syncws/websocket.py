"""`Connection`: a WebSocket after its opening handshake, for clients and servers alike.

Rank 4, the top of the layers Lifecycle, Control, Outgoing, Posting, Reading, Incoming, Dispatching, Awaiting, Tended.
There is one door into it, `_open`, whatever the connection comes from: a transport, what the handshake agreed, and the
bytes read too early.
"""

from __future__ import annotations

import math
import secrets
import sys
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, NamedTuple, TypeVar, cast

from . import files
from .attendant import Timer, owners
from .deflate import Agreement
from .errors import CALLED_OFF, HandshakeError
from .events import Event
from .exchange import Request, Response
from .frames import encode_close
from .framing import FRAMINGS, MODERN, Framing
from .handshake import Agreed
from .lifecycle import CLOSED, OPEN, STATE_NAMES
from .stream import Sharing
from .tending import Tended
from .transport import Transport

_IMPATIENCE = 0.5  # seconds for the closing handshake when a KeyboardInterrupt leaves a `with` block

_Self = TypeVar("_Self", bound="Connection")


class Opening(NamedTuple):
    """What a connection starts from: the three things that clients, servers and upgrades come by differently."""

    transport: Transport
    request: Request
    response: Response
    agreed: Agreed
    leftover: bytes = b""  # frames that came with the handshake
    answer: bytes = b""  # the 101, still to be written
    #: called once the socket is OPEN and before the answer: the server's registry, or HandshakeError
    register: Callable[[], dict[Any, Any]] | None = None
    deadline: float | None = None  # of the handshake


class Connection(Tended):
    """What `Socket` is apart from how it is made."""

    #: the URL, in the W3C's form; empty on a server
    url: str = ""
    #: the subprotocol agreed on, or an empty string
    protocol: str = ""
    #: the extensions agreed on, as in the header
    extensions: str = ""
    #: the opening handshake
    request: Request | None = None
    response: Response | None = None
    #: addresses as the socket module has them
    remote_address: Any = None
    local_address: Any = None
    #: the version of the protocol in use: 13, 8 or "hixie-76"
    protocol_version: int | str = 13
    #: what that has: `binary` messages, `pings`
    supports = MODERN.supports
    _framing: Framing = MODERN
    _deflate: Agreement | None = None
    _life: tuple[Timer, object] | None = None  # the look at whether the peer lives, and what had come; the attendant's
    _sharing: Sharing | None = None  # of the files of `makefile`; guarded by the state lock

    # -- the door ------------------------------------------------------------------------------------------------

    def _open(self, opening: Opening) -> None:
        """CONNECTING to OPEN. Raises OSError if that cannot be.

        After a HandshakeError the transport is the caller's again; after any other `is_taken` says whose it is.
        """
        self._equip(opening)
        try:
            self._become_open(opening)
            self._start_keepalive()
            self._watch()
            self._ensure_loop()
            self._told()
        except BaseException:
            self._abort("the handshake failed")
            raise

    def _become_open(self, opening: Opening) -> None:
        role = object()
        try:
            with self._lock:
                if self._aborted:
                    raise ConnectionAbortedError(CALLED_OFF)
                # As the writer from here on: whatever is sent stands behind the answer. And as the reader, if something
                # came with the handshake: who waits for the opening must not read what comes behind that.
                self._writer = role
                if opening.leftover:
                    self._reader = role
                self._state = OPEN
                opening.transport.is_taken = True
                self._calm = True
                self._changed.notify_all()
                self._happenings.append((0, Event("open")))
            if opening.register is not None:
                self._registry = opening.register()
            if opening.answer:
                self._write((opening.answer,), opening.deadline)
            self.bytes_sent = 0
            if opening.leftover:
                self._take_in(bytearray(opening.leftover), len(opening.leftover))
        except HandshakeError:
            self._disown()
            raise
        except BaseException:
            self._abort("the handshake failed")
            raise
        finally:
            try:
                self._leave_writing(role)
                self._leave_reading(role)
            except BaseException:
                self._bail(role)
                raise

    def _disown(self) -> None:
        """Refused at the last moment: CLOSED, and the transport is the caller's again."""
        with self._lock:
            self._state = CLOSED
            self._calm = False
            self._released = self._done = True
            if self._transport is not None:
                self._transport.is_taken = False
            owners.discard(self._reference)
            self._writer = self._reader = None
            self._happenings.clear()

    def _equip(self, opening: Opening) -> None:
        options, server_side, agreed = self._options, self._server_side, opening.agreed
        self.request, self.response = opening.request, opening.response
        self.protocol, self.extensions, self._deflate = agreed.protocol, agreed.extensions, agreed.deflate
        self.protocol_version, self._framing = agreed.version, FRAMINGS[agreed.version]
        self.supports = self._framing.supports
        self._take_over(opening.transport)
        self.remote_address, self.local_address = opening.transport.addresses()
        self._sender = self._framing.sender(options, server_side, agreed.deflate)
        self._receiver = self._framing.receiver(options, server_side, agreed.deflate)
        # For the short paths, which know one framing only:
        self._plain, self._between = self._sender.plain, self._receiver.between
        self._max_payload = options.max_payload

    def _forget(self) -> None:
        self._sender = self._receiver = None  # type: ignore[assignment]  # and what they keep for compression

    def _disinherit(self) -> None:
        super()._disinherit()
        self._done = True
        self._kept.clear()
        self._inbox = ()
        self._verdict = self._unfinished = self._message_owner = None
        if self._sharing is not None:
            self._sharing.disinherit()

    # -- as a file -----------------------------------------------------------------------------------------------

    def makefile(
        self,
        mode: str = "rwb",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """The connection as a file object, as `makefile` of a socket has it: a stream of bytes, or of text without `b`.

        Text messages arrive as their UTF-8. What is written leaves as binary messages: each write as one, at once;
        with a `buffering` of n bytes, what was gathered up to then, or to a `flush`. `buffering=0` also reads
        without a buffer (bytes only); 1 sends text by lines. `encoding` is UTF-8 unless given.

        The file ends where the peer's Close says 1000, or nothing; whatever else breaks it off is a BrokenStream, which
        is a ConnectionClosed and an OSError. Closing the last file that writes closes the connection with 1000, closing
        the last of all also waits for its end; left by an exception, a `with` block closes it with 1011.
        Reading raises RuntimeError while there are message listeners, as `recv`.
        """
        with self._lock:
            if self._sharing is None:
                self._sharing = Sharing()
        return cast("IO[Any]", files.make(self, self._sharing, mode, buffering, encoding, errors, newline))

    # -- closing -------------------------------------------------------------------------------------------------

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Start the closing handshake (RFC 6455 section 7) and return at once; again, or when CLOSED: nothing.

        ValueError before anything changes for a code that may not be sent (1000-1003, 1007-1014, 3000-4999 may) or
        a reason of more than 123 bytes of UTF-8. No code: an empty Close, the peer sees 1005.
        """
        payload = encode_close(code, reason)
        if self._call_off():
            return
        if self._start_closing(payload):
            self._act_on_verdict(jump=not self._has_listeners("message"))

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """`close(1000)`, or 1011 if the block raised, and wait; after a KeyboardInterrupt not for long."""
        impatient = kind is not None and not issubclass(kind, Exception)
        self._end(1000 if kind is None else 1011, _IMPATIENCE if impatient else None)

    def _end(self, code: int, patience: float | None) -> None:
        """Close, and wait for that so many seconds; then, or if the wait is interrupted, drop the connection."""
        try:
            self.close(code)
            if not self.wait_closed(patience):
                self.terminate()
        except BaseException:
            self.terminate()
            raise

    # -- keepalive -----------------------------------------------------------------------------------------------

    def _start_keepalive(self) -> None:
        if self._options.ping_interval is not None and self.supports.pings:
            self._call_after(self._options.ping_interval, Connection._keep_alive)

    def _keep_alive(self) -> None:
        """On the attendant: a ping is due. Any byte that comes before its deadline is a sign of life."""
        if self._state != OPEN:
            return
        # Counted before the ping leaves: its pong can be here before the next statement.
        self._expect_life()
        with self._lock:
            if self._state == OPEN and not self._pings:
                self._queue_control(self._pings, secrets.token_bytes(4), None)
        self._flush()
        self._start_keepalive()

    def _expect_life(self) -> None:
        """On the attendant: something is to come in `ping_timeout`; one such look at a time, the earliest."""
        patience, received = self._options.ping_timeout, self._arrived()
        if patience is None or patience == math.inf:
            return
        if self._life is not None and self._life[0].function is not None:
            if self._life[1] == received:
                return
            self._life[0].cancel()
        self._life = self._call_after(patience, Connection._check_life, received), received

    def _check_life(self, received: object) -> None:
        """On the attendant: the time for an answer is over."""
        if self._state == OPEN and self._arrived() == received and not self._is_stuffed():
            self._abort(f"keepalive: nothing came in {self._options.ping_timeout:g} s after a ping")

    def _arrived(self) -> object:
        """Another one whenever something has come, read or not."""
        with self._lock:
            if self._released or self._transport is None:
                return None
            return self._transport.arrived(self.bytes_received)

    def _is_stuffed(self) -> bool:
        """Whether so much waits to be read that nothing more might come, though the peer is well."""
        with self._lock:
            return not self._released and self._transport is not None and self._transport.is_stuffed()

    # -- the object ----------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        side = "from" if self._server_side else "to"
        return f"<{type(self).__name__} {side} {self.remote_address!r} {STATE_NAMES[self.readyState]}>"

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        transport = getattr(self, "_transport", None)
        # With the process the system closes everything, and of this library not much is left.
        if transport is None or self._released or _is_finalizing():
            return
        # This may run anywhere, but nobody who is interrupted by it is in here, so the lock may be waited for: until
        # now the attendant could get hold of this object. If it works on it, it gives the descriptor back.
        with self._lock:
            state = self._state
            transport.shutdown()
            if self._reader is None and self._writer is None:
                self._state, self._calm = CLOSED, False
                self._give_descriptor_back()
            else:
                self._aborted = True
        if state != CLOSED:
            # The last thing, for it raises where warnings are errors.
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
