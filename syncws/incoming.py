"""The incoming half: whoever needs data reads it, decodes it, and answers what must be answered.

Rank 4, over Outgoing. The reader's role (a token under the state lock) covers reading from the transport and decoding;
it is taken when free and given back after each read. Messages go into the inbox. A Close or a violation stands in
line behind them, as the verdict: it is acted on when the next message is asked for, by `close()` and `wait_closed()`,
or by the attendant once nobody has read for a tick. RFC 6455 sections 5.5 and 7.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

from .buffers import LEAST_BUFFER, fitting
from .errors import ConnectionClosed, ProtocolError
from .events import DataEvent, ErrorEvent
from .frames import BINARY, CLOSE, PING, PONG, TEXT, encode_close
from .inbox import Inbox, Unfinished, hand_out
from .lifecycle import CLOSED, CLOSING, CONNECTING, OPEN, Role
from .options import check_binary_type, check_timeout
from .outgoing import Outgoing
from .receiver import FAILURE, FRAGMENT, Item, Receiver
from .runtime import Lock, remaining

_FAIR_READ = 1 << 12  # greenlets: bytes of many frames read at once, so that the others get their turn
_UNTOUCHED = 0xF0  # no frame begins so
#: Close codes after which an iteration ends without an error
CLEAN_CODES = (1000, 1001, 1005)


class Incoming(Outgoing):
    """`recv`, `recv_stream`, iteration, `pause` and `resume`."""

    #: bytes read from the transport since the handshake, framing included
    bytes_received: int = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._binary_type = "bytes"
        self._inbox: Inbox = Inbox()
        self._decoded = 0  # messages that have gone into the inbox
        self._read_by_hand = False
        # The reader's own:
        self._receiver: Receiver = Receiver(masked=self._server_side)
        self._buffer = bytearray(LEAST_BUFFER)
        self._reads = 0
        # Guarded by the state lock:
        self._verdict: Item | None = None  # a CLOSE or FAILURE that stands behind the messages
        self._draining = False  # after the verdict: what still comes is dropped
        self._unfinished: Unfinished | None = None
        self._streamed: Unfinished | None = None  # the same, once a recv_stream has taken it
        self._paused = False
        self._held_back = False  # the attendant stopped reading because the inbox is full
        self._waits_closed = 0  # calls of wait_closed(): nobody will take what exceeds the inbox

    # -- attributes ----------------------------------------------------------------------------------------

    @property
    def binaryType(self) -> str:
        """What the next binary message is handed out as: bytes, bytearray, memoryview or fragments (a list)."""
        return self._binary_type

    @binaryType.setter
    def binaryType(self, value: str) -> None:
        self._binary_type = check_binary_type(value)

    @property
    def is_paused(self) -> bool:
        """Whether `pause` holds reading back."""
        return self._paused

    # -- taking messages --------------------------------------------------------------------------------------

    def recv(self, timeout: float | None = None) -> Any:
        """The next message: str, or what `binaryType` says. From any thread, one message to one caller.

        Raises TimeoutError after `timeout` seconds (nothing is lost), ConnectionClosed once all that arrived
        was taken, RuntimeError while there are message listeners.
        """
        if timeout is not None:
            check_timeout(timeout)
        self._refuse_if_listened()
        try:
            message = self._inbox.popleft()
        except IndexError:
            message = None
        if message is None:  # out here, so that what it raises does not come with an IndexError
            message = self._await_message(timeout)
        if self._held_back:
            self._made_room()
        return hand_out(message, self._binary_type)

    def _refuse_if_listened(self) -> None:
        if self._has_listeners("message"):
            raise RuntimeError("recv() while there are message listeners: they get the messages")
        self._read_by_hand = True

    def __iter__(self) -> Iterator[Any]:
        """Messages, until a Close with 1000, 1001 or no code; another end raises ConnectionClosed."""
        while True:
            try:
                message = self.recv()
            except ConnectionClosed as closed:
                if closed.code in CLEAN_CODES:
                    return
                raise
            yield message

    def recv_stream(self) -> Generator[Any, None, None]:
        """The fragments of the next message as they come in; pieces of text are whole characters.

        Raises as `recv` does; the rest of a message whose stream is abandoned is dropped.
        """
        self._refuse_if_listened()
        taken = self._await_message(None, unfinished=True)
        if not isinstance(taken, Unfinished):
            yield from taken[1] if isinstance(taken[1], list) else [taken[1]]
            return
        try:
            while not taken.finished or taken.pieces:
                with self._lock:
                    pieces = taken.take_pieces()
                yield from pieces
                if not pieces:
                    self._read_or_wait(None, lambda: bool(taken.pieces or taken.finished))
        finally:
            taken.dropped = True

    def _await_message(self, timeout: float | None, unfinished: bool = False) -> Any:
        """The next message; with `unfinished` also one whose end has not come yet."""
        deadline = None if timeout is None else time.monotonic() + timeout

        def ready() -> bool:
            return bool(self._inbox or (unfinished and self._unfinished))

        while True:
            # Between the look and the taking another caller may have been faster.
            taken = self._take(unfinished)
            if taken is not None:
                return taken
            if not self._read_or_wait(deadline, ready):
                raise TimeoutError(f"no message within {timeout:g} s")

    def _take(self, unfinished: bool) -> Any:
        try:
            return self._inbox.popleft()
        except IndexError:
            if not unfinished:
                return None
        with self._lock:
            taken, self._unfinished = self._unfinished, None
            if taken is not None:
                taken.taken = True
                self._streamed = taken
            return taken

    def _read_or_wait(self, deadline: float | None, ready: Any, for_message: bool = True) -> bool:
        """One step towards `ready()`: a read, or a wait for whoever reads. False at the deadline.

        Raises ConnectionClosed when a message is waited for and none can come any more.
        """
        role = Role()
        self._act_on_verdict()
        try:
            with self._lock:
                if ready() or (self._verdict is not None and not self._inbox):
                    return True  # or the verdict came after the look at it
                if for_message and self._nothing_more():
                    raise self._closed_error()
                bell = self._take_role_or_bell(role, may=self._may_read() and not self._paused)
            happened = self._changed.hear(bell, remaining(deadline)) if bell else self._read(remaining(deadline))
            return happened or not _is_past(deadline)
        finally:
            try:
                self._leave_reading(role)
            except BaseException:
                self._bail(role)
                raise

    def _take_role_or_bell(self, role: Role, may: bool) -> Lock | None:
        """With the state lock: the reader's role for `role`, if it may, else what rings at the next change."""
        if not may:
            return self._changed.bell()
        self._reader = role
        return None

    def _nothing_more(self) -> bool:
        """With the state lock: whether no further message can come."""
        return self._state == CLOSED or self._aborted or (self._draining and self._verdict is None)

    def _may_read(self) -> bool:
        """With the state lock: whether the reader's role is free, and reading makes sense."""
        if self._reader is not None or self._verdict is not None or self._ended:
            return False
        return self._state not in (CONNECTING, CLOSED)

    def _made_room(self) -> None:
        """A message was taken after the attendant had stopped at a full inbox."""
        with self._lock:
            if not self._held_back or len(self._inbox) >= self._options.max_queue:
                return
            self._held_back = False
            self._changed.notify_all()
        self._watch()

    # -- reading ----------------------------------------------------------------------------------------------

    def _read(self, timeout: float | None) -> bool:
        """As the reader: one read; what came is decoded and put where it belongs. False: nothing came in time."""
        transport, buffer = self._transport, self._buffer
        assert transport is not None
        buffer[0] = _UNTOUCHED
        try:
            count = transport.read(self._fair(buffer), timeout)
            if count:
                self._take_in(buffer, count)
        except BaseException:
            # Interrupted in the wait, nothing is lost. Behind it, bytes are, and nothing after them makes sense.
            if buffer[0] != _UNTOUCHED:
                self._abort("interrupted while reading")
            raise
        if count == 0:
            self._ended = True
        return count is not None

    def _fair(self, buffer: bytearray) -> bytearray | memoryview:
        """As much of the buffer as one read may fill."""
        if self._runtime.may_block or len(buffer) <= _FAIR_READ:
            return buffer
        return memoryview(buffer)[: max(self._receiver.wanted, _FAIR_READ)]

    def _take_in(self, buffer: bytearray, count: int) -> None:
        self.bytes_received += count
        self._reads += 1
        if not self._draining:
            items = self._receiver.feed(buffer, count)
            self._sort(items)
            self._buffer = fitting(self._buffer, count, len(items), self._receiver.wanted)

    def _sort(self, items: list[Item]) -> None:
        """As the reader: each item to its place. Pings are answered now, whatever waits to be read."""
        pinged = False
        for item in items:
            kind = item[0]
            if kind in (TEXT, BINARY):
                self._decoded += 1
                self._inbox.append(item)
            elif kind == FRAGMENT:
                self._add_fragment(item)
            elif kind in (CLOSE, FAILURE):
                self._verdict = item
            else:
                pinged = self._hear(kind, item[1]) or pinged
        if pinged:
            self._flush()

    def _hear(self, kind: int, payload: bytes) -> bool:
        """As the reader: a ping or a pong came. True if there is an answer to be flushed."""
        event_type = "ping" if kind == PING else "pong"
        if self._has_listeners(event_type):
            self._happenings.append((self._decoded, DataEvent(event_type, payload)))
        if kind == PONG:
            self._note_pong(payload)
            return False
        if self._options.auto_pong:
            self._answer_ping(payload)
        return self._options.auto_pong

    def _add_fragment(self, item: Item) -> None:
        fragment = item[1]
        with self._lock:
            if fragment.first:
                self._unfinished, self._streamed = Unfinished(fragment.opcode, item[2]), None
            message = self._streamed or self._unfinished
            assert message is not None
            message.add(fragment, fold=self._binary_type != "fragments")
            if fragment.last and not message.taken:
                self._unfinished = None
                self._decoded += 1
                self._inbox.append(message.message())
            self._changed.notify_all()

    def _leave_reading(self, role: Role) -> None:
        """Give the reader's role back, if `role` has it, and see to what was left to its holder."""
        with self._lock:
            if self._reader is not role:
                return
            self._reader = None
            self._changed.notify_all()
            closed = self._conclude_if_due()
        if self._happenings:
            self._told()
        # A verdict behind unread messages is the attendant's to act on, in a tick.
        if not closed and (self._verdict is not None or not self._watched):
            self._watch()

    def _reads_for_writer(self) -> bool:
        return self._reader is None and self._verdict is None and self._has_room()

    def _drop_overflow(self) -> None:
        """As the reader: when nobody will take them, messages beyond `max_queue` are dropped."""
        while self._drops_overflow() and len(self._inbox) > self._options.max_queue:
            self._inbox.pop()
            self._decoded -= 1

    def _drops_overflow(self) -> bool:
        return (self._waits_closed > 0 or self._state == CLOSING) and not self._has_listeners("message")

    def _has_room(self) -> bool:
        """Whether what comes may be read although nobody asks for it."""
        if self._draining or self._drops_overflow():
            return True
        return not self._paused and len(self._inbox) < self._options.max_queue

    # -- the verdict --------------------------------------------------------------------------------------------

    def _act_on_verdict(self, jump: bool = False) -> None:
        """Act on the peer's Close, or its violation of the protocol, if one stands in line.

        `jump`: although messages before it wait to be taken; they still can be.
        """
        # In this order: the reader puts messages into the inbox before it sets the verdict behind them.
        if self._verdict is None or (self._inbox and not jump):
            return
        try:
            with self._lock:
                verdict, self._verdict = self._verdict, None
                if verdict is None or self._state == CLOSED:
                    return
                self._draining = True
                if verdict[0] == CLOSE:
                    self._close_came(*verdict[1])
                else:
                    self._violation_came(verdict[1])
                self._leave_open()
            self._drop_after(self._options.close_timeout)
            self._flush()
            self._linger_if_done()
            self._attend()
            self._told()
        except BaseException:
            self._bail()
            raise

    def _close_came(self, code: int, reason: str) -> None:
        """With the state lock. RFC 6455 section 5.5.1: answer with a Close, typically with the code received."""
        self.close_code, self.close_reason = code, reason
        self._close_received = True
        if self._state == OPEN:
            self._close_frame = encode_close(None if code == 1005 else code, reason)

    def _violation_came(self, error: ProtocolError) -> None:
        """With the state lock. RFC 6455 section 7.1.7: tell the peer why, and fail the connection."""
        self.close_code, self.close_reason = 1006, ""
        self._failure = error
        if self._state == OPEN:
            self._close_frame = encode_close(error.close_code, "")
        self._happenings.append((self._decoded, ErrorEvent(error)))

    def _messages_decoded(self) -> int:
        return self._decoded

    # -- back-pressure ---------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading from the connection; the peer is held back by TCP. Nothing when not OPEN."""
        with self._lock:
            if self._state == OPEN:
                self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        with self._lock:
            if not self._paused:
                return
            self._paused = False
            self._changed.notify_all()
        self._watch()
        self._told()

    def _leave_open(self) -> None:
        super()._leave_open()
        self._paused = False  # whoever closes waits for the peer's Close


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and deadline <= time.monotonic()
