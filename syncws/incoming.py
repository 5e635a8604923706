"""The incoming half: messages are taken by whoever asks for them, and who finds none reads.

Rank 4, over Reading. The verdict (the peer's Close, or its violation of the protocol) is acted on when the next
message is asked for, by `close()` and `wait_closed()`, or by the attendant once nobody has read for a tick.
RFC 6455 section 7.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from .errors import ConnectionClosed, ProtocolError
from .events import ErrorEvent
from .frames import CLOSE, MAX_REASON, encode_close
from .inbox import Unfinished, as_type, hand_out
from .lifecycle import CLOSED, OPEN
from .options import check_binary_type, check_timeout
from .reading import Reading, leaves_reading
from .runtime import deadline_after, in_time

#: Close codes after which an iteration ends without an error
CLEAN_CODES = (1000, 1001, 1005)


class Incoming(Reading):
    """`recv`, `recv_stream`, iteration, `pause` and `resume`."""

    __slots__ = ("_read_by_hand",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_by_hand = False  # by `recv` or iteration, and nobody has listened to messages since

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
        was taken, RuntimeError while there are message listeners, InvalidStateError in a listener of the opening.
        """
        if not self._read_by_hand:
            self._refuse_if_listened()
        if timeout is not None:
            check_timeout(timeout)
        elif not self._inbox:
            message = self._read_alone()
            if message is not None:
                data = message[1]
                return data if data.__class__ is str else hand_out(message, self._binary_type)
            if self._calm and not self._inbox:
                self._read_once(object())
        message = self._take() or self._await_message(timeout)
        if self._held_back:
            self._made_room()
        return hand_out(message, self._binary_type)

    def _refuse_if_listened(self) -> None:
        with self._lock:
            if self._has_listeners("message"):
                raise RuntimeError("recv() while there are message listeners: they get the messages")
            self._read_by_hand = True
        self._heed_signals()

    def __iter__(self) -> Iterator[Any]:
        """Messages, until a Close with 1000, 1001 or no code; another end raises ConnectionClosed."""
        while True:
            try:
                data = self.recv()
            except ConnectionClosed as closed:
                if closed.code in CLEAN_CODES:
                    return
                raise
            yield data
            # What came with it, in short; `recv` knows what to do about everything else.
            inbox = self._inbox
            while inbox and self._read_by_hand:
                try:
                    message = inbox.popleft()
                except IndexError:
                    break
                if self._held_back:
                    self._made_room()
                data = message[1]
                yield data if data.__class__ is str else hand_out(message, self._binary_type)

    def recv_stream(self) -> Generator[Any, None, None]:
        """The fragments of the next message as they come in, binary ones as `binaryType` says (bytes for "fragments");
        pieces of text are whole characters.

        Raises as `recv` does; the rest of a message whose stream is abandoned is dropped.
        """
        self._refuse_if_listened()
        taken = self._await_message(None, unfinished=True)
        if self._held_back:
            self._made_room()
        if not isinstance(taken, Unfinished):
            pieces = taken[1] if isinstance(taken[1], list) else [taken[1]]
            yield from (as_type(piece, self._binary_type) for piece in pieces)
            return
        try:
            while True:
                with self._lock:
                    pieces, finished = taken.take_pieces(), taken.finished
                if self._held_back:
                    self._made_room()
                yield from (as_type(piece, self._binary_type) for piece in pieces)
                if finished:
                    return
                if not pieces:
                    self._read_or_wait(object(), None, lambda: bool(taken.pieces or taken.finished))
        finally:
            taken.dropped = True
            if self._held_back:
                self._made_room()

    def _await_message(self, timeout: float | None, unfinished: bool = False) -> Any:
        """The next message; with `unfinished` also one whose end has not come yet."""
        deadline, late = deadline_after(timeout), False

        def ready() -> bool:
            return bool(self._inbox or (unfinished and self._unfinished))

        while True:
            if not self._read_by_hand:  # a listener came meanwhile
                self._refuse_if_listened()
            # Between the look and the taking another caller may have been faster.
            taken = self._take(unfinished)
            if taken is not None:
                return taken
            if late:
                raise TimeoutError(f"no message within {timeout:g} s")
            late = not self._read_or_wait(object(), deadline, ready)

    def _take(self, unfinished: bool = False) -> Any:
        inbox = self._inbox
        if inbox:
            try:
                return inbox.popleft()
            except IndexError:
                pass  # another caller was faster
        if not unfinished:
            return None
        with self._lock:
            if self._inbox:
                return None  # it has come meanwhile, before what is unfinished now: the caller looks again
            taken, self._unfinished = self._unfinished, None
            if taken is not None:
                taken.taken = True
                self._streamed = taken
            return taken

    @leaves_reading
    def _read_once(self, role: object) -> None:
        """`_read_or_wait` in short: a read, as long as it takes, if nobody else reads and nothing is the matter."""
        with self._lock:
            if self._reader is not None or not self._calm or self._inbox:
                return  # another caller reads, or has read: more messages than its own
            self._reader = role
        self._read(None)

    @leaves_reading
    def _read_or_wait(self, role: object, deadline: float | None, ready: Any, for_message: bool = True) -> bool:
        """One step towards `ready()`: a read, or a wait for whoever reads. False at the deadline.

        Raises ConnectionClosed when a message is waited for and none can come any more.
        """
        self._act_on_verdict()
        self._heed_signals()
        self._refuse_to_wait_for_itself()
        if self._ended and not for_message:
            self._conclude_ended()
        with self._lock:
            if ready() or self._verdict_is_due():
                return True  # or the verdict came after the look at it
            if for_message and self._nothing_more():
                raise self._closed_error()
            may = self._may_read() and (not self._paused if for_message else self._has_room())
            bell = self._take_role_or_bell(role, may)
        return in_time(deadline, self._read_or_hear(bell, deadline, drops=not for_message))

    def _refuse_to_wait_for_itself(self) -> None:
        """A hook: InvalidStateError if the caller is who connects, and so must not wait until that is done."""

    def _nothing_more(self) -> bool:
        """With the state lock: whether no further message can come."""
        return self._state == CLOSED or self._aborted or (self._draining and self._verdict is None)

    def _made_room(self) -> None:
        """A message was taken after the attendant had stopped at a full inbox."""
        with self._lock:
            if not self._held_back or self._is_full():
                return
            self._held_back = False
            self._changed.notify_all()
        self._watch()

    # -- the verdict --------------------------------------------------------------------------------------------

    def _act_on_verdict(self, jump: bool = False) -> None:
        """Act on the peer's Close, or its violation of the protocol, if one stands in line.

        `jump`: although messages before it wait to be taken; they still can be.
        """
        # In this order: the reader puts messages into the inbox before it sets the verdict behind them.
        if not self._verdict_is_due(jump):
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
            self._flush()
            self._linger_if_done()
            if not self._lingers:
                self._drop_after(self._options.close_timeout)
            self._attend_end()
            self._told()
        except BaseException:
            self._bail()
            raise

    def _verdict_is_due(self, jump: bool = False) -> bool:
        """Whether `_act_on_verdict` would."""
        return self._verdict is not None and not self._paused and (jump or not self._inbox)

    def _close_came(self, code: int, reason: str) -> None:
        """With the state lock. RFC 6455 section 5.5.1: answer with a Close, typically with the code received."""
        self.close_code, self.close_reason = code, reason
        self._close_received = True
        if self._state == OPEN:
            # With skip_utf8_validation what replaces an invalid byte is longer than it.
            fitting = reason.encode()[:MAX_REASON].decode(errors="ignore")
            self._close_frame = encode_close(None if code == 1005 else code, fitting)

    def _violation_came(self, error: ProtocolError) -> None:
        """With the state lock. RFC 6455 section 7.1.7: tell the peer why, and fail the connection."""
        self.close_code, self.close_reason = 1006, ""
        self._failure = error
        if self._state == OPEN:
            self._close_frame = encode_close(error.close_code, "")
        self._happenings.append((self._decoded, ErrorEvent(error)))

    # -- back-pressure ---------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading from the connection; the peer is held back by TCP. Nothing when not OPEN."""
        with self._lock:
            if self._state == OPEN:
                self._calm = False
                self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        with self._lock:
            if not self._paused:
                return
            self._paused = False
            self._calm = self._state == OPEN and self._verdict is None and not self._ended
            self._changed.notify_all()
        self._watch()
        self._told()

    def _leave_open(self) -> None:
        super()._leave_open()
        self._paused = False  # whoever closes waits for the peer's Close
