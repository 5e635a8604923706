"""Reading: whoever has the reader's role reads from the transport, decodes, and puts what came where it belongs.

Rank 4, over Posting. The role (a token under the state lock) is taken when free and given back after each read.
Messages go into the inbox; pings are answered; a Close or a violation stands in line behind the messages, as the
verdict, and nothing more is read until it was acted on. RFC 6455 section 5.5.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from threading import get_ident
from typing import Any, Concatenate, ParamSpec, TypeVar

from .attendant import TICK
from .buffers import LEAST_BUFFER, MOST_BUFFER, SMALL_BUFFER, fitting
from .control import MAX_WAITING
from .events import DataEvent
from .frames import BINARY, CLOSE, PING, PONG, TEXT
from .framing import Gathering, MessageReceiver
from .inbox import Inbox, Unfinished
from .lifecycle import CLOSED, CONNECTING
from .port import UNTOUCHED
from .posting import Posting
from .receiver import FAILURE, FRAGMENT, Item
from .runtime import Lock, remaining

_MARK = os.urandom(8)  # no payload begins so

_Self = TypeVar("_Self", bound="Reading")
_P = ParamSpec("_P")
_R = TypeVar("_R")


def leaves_reading(
    step: Callable[Concatenate[_Self, object, _P], _R],
) -> Callable[Concatenate[_Self, object, _P], _R]:
    """For a method that may take the reader's role, as the token it is given: it is left however the method ends."""

    @functools.wraps(step)
    def method(self: _Self, role: object, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return step(self, role, *args, **kwargs)
        finally:
            try:
                self._leave_reading(role)
            except BaseException:
                self._bail(role)
                raise

    return method


class Reading(Posting):
    """The reader's half of a connection, apart from who asks for it."""

    __slots__ = (
        "_binary_type",
        "_draining",
        "_held_back",
        "_paused",
        "_receiver",
        "_streamed",
        "_unfinished",
        "_verdict",
        "_waits_closed",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._binary_type = "bytes"
        self._inbox: Inbox | tuple[()] = ()  # a deque once something lies in it: 0.7 KiB
        self._decoded = 0  # messages that have gone into the inbox
        # The reader's own:
        self._receiver: MessageReceiver  # once it is open
        self._buffer = bytearray(LEAST_BUFFER)
        # Guarded by the state lock:
        self._verdict: Item | None = None  # a CLOSE or FAILURE that stands behind the messages
        self._draining = False  # after the verdict: what still comes is dropped
        self._unfinished: Unfinished | None = None
        self._streamed: Unfinished | None = None  # the same, once a recv_stream has taken it
        self._paused = False
        self._held_back = False  # the attendant stopped reading because the inbox is full
        self._waits_closed = 0  # calls of wait_closed(): nobody will take what exceeds the inbox

    # -- the role ----------------------------------------------------------------------------------------------

    def _may_read(self) -> bool:
        """With the state lock: whether the reader's role is free, and reading makes sense."""
        if self._reader is not None or self._verdict is not None or self._ended:
            return False
        return self._state not in (CONNECTING, CLOSED)

    def _read(self, timeout: float | None) -> bool:
        """As the reader: one read; what came is decoded and put where it belongs. False: nothing came in time."""
        if self._reads_here != (here := get_ident()):
            self._heed_signals()
            self._reads_here = here
        gathering = self._receiver.gathering
        if gathering is not None and not self._draining:
            return self._read_payload(gathering, timeout)
        buffer = self._buffer
        buffer[0] = UNTOUCHED
        try:
            if timeout is None and len(buffer) <= SMALL_BUFFER:
                count = self._receive(buffer)
            else:
                count = self._read_some(buffer, timeout)
            if count:
                self._take_in(buffer, count)
        except BlockingIOError:
            return False  # the system's time-out (SO_RCVTIMEO), ours or somebody's: it is not the end
        except OSError:
            count = 0
        except BaseException:
            # Interrupted in the wait, nothing is lost. Behind it, bytes are, and nothing after them makes sense.
            if buffer[0] != UNTOUCHED:
                self._abort("interrupted while reading")
            raise
        if count == 0:
            self._note_end()
        return count is not None

    def _heed_signals(self) -> None:
        """By whoever begins to read, or takes a detour: the main thread hears a signal in spite of it."""
        if self._transport is not None:
            self._transport.heed_signals()

    def _read_payload(self, gathering: Gathering, timeout: float | None) -> bool:
        """As the reader, in the middle of a large payload: one read, straight to its place."""
        assert self._transport is not None
        untouched = False
        try:
            with gathering.room() as room:
                mark = _MARK[: len(room)]
                room[: len(mark)] = mark
                try:
                    count = self._transport.read(room, timeout)
                except BaseException:
                    untouched = room[: len(mark)] == mark
                    raise
            if count:
                self.bytes_received += count
                self._put(gathering.fill(count))
        except BaseException:
            if not untouched:
                self._abort("interrupted while reading")
            raise
        if count == 0:
            self._note_end()
        return count is not None

    def _note_end(self) -> None:
        """As the reader: the stream of the peer is at its end."""
        with self._lock:
            self._calm = False
            self._ended = True

    def _read_some(self, buffer: bytearray, timeout: float | None) -> int | None:
        """A read of a kind that is not the usual: with a deadline, or into a large buffer."""
        assert self._transport is not None
        if len(buffer) <= SMALL_BUFFER:
            return self._transport.read(buffer, timeout)
        count = self._transport.read(self._fair(buffer), TICK if timeout is None else min(timeout, TICK))
        if count is None and timeout != 0:
            self._buffer = bytearray(LEAST_BUFFER)  # it is large for as long as it is in use
        return count

    def _fair(self, buffer: bytearray) -> bytearray | memoryview:
        """As much of the buffer as one read may fill."""
        return buffer if self._runtime.may_block else memoryview(buffer)[: max(self._receiver.wanted, SMALL_BUFFER)]

    def _take_in(self, buffer: bytearray, count: int, items: list[Item] | None = None, position: int = 0) -> None:
        """As the reader: what the first `count` bytes say. Those up to `position` have said `items` already."""
        self.bytes_received += count
        if self._draining:
            return
        receiver = self._receiver
        items = receiver.feed(buffer, count, items, position)
        self._put(items)
        if receiver.gathering is not None and receiver.wanted > MOST_BUFFER:
            return  # the rest needs no buffer
        if count == len(buffer) or len(buffer) > SMALL_BUFFER:
            self._buffer = fitting(buffer, count, len(items))

    def _put(self, items: list[Item]) -> None:
        """As the reader: what came, where it belongs."""
        self._between = self._receiver.between
        if not items:
            return
        if self._receiver.only_messages:
            with self._lock:  # for an event is told by the difference of the two
                self._open_inbox().extend(items)
                self._decoded += len(items)
        else:
            self._sort(items)

    def _open_inbox(self) -> Inbox:
        """As the reader: where messages go."""
        if isinstance(self._inbox, tuple):
            self._inbox = Inbox()
        return self._inbox

    def _sort(self, items: list[Item]) -> None:
        """As the reader: each item to its place. Pings are answered now, whatever waits to be read."""
        pinged = False
        for item in items:
            kind = item[0]
            if kind in (TEXT, BINARY):
                with self._lock:
                    self._open_inbox().append(item)
                    self._decoded += 1
            elif kind == FRAGMENT:
                self._add_fragment(item)
            elif kind in (CLOSE, FAILURE):
                with self._lock:
                    self._calm = False
                    self._verdict = item
            else:
                pinged = self._hear(kind, item[1]) or pinged
        if pinged:
            self._flush()

    def _hear(self, kind: int, payload: bytes) -> bool:
        """As the reader: a ping or a pong came. True if there is an answer to be flushed."""
        event_type = "ping" if kind == PING else "pong"
        if self._has_listeners(event_type):
            with self._lock:
                self._add_data_event(DataEvent(event_type, payload))
        if kind == PONG:
            self._note_pong(payload)
            return False
        if self._options.auto_pong:
            self._answer_ping(payload)
        return self._options.auto_pong

    def _add_data_event(self, event: DataEvent) -> None:
        """With the state lock. Of more than a few that wait for a slow listener, only the latest is told."""
        waiting = [pair for pair in self._happenings if pair[1].type == event.type]
        if len(waiting) >= MAX_WAITING:
            self._happenings = [pair for pair in self._happenings if pair not in waiting]
        self._happenings.append((self._decoded, event))

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
                self._open_inbox().append(message.message())
                self._decoded += 1
            self._changed.notify_all()

    def _leave_reading(self, role: object) -> None:
        """Give the reader's role back, if `role` has it, and see to what was left to its holder."""
        with self._lock:
            if self._reader is not role:
                return
            self._reader = None
            if self._waiting:
                self._changed.notify_all()
            closed = not self._calm and self._conclude_if_due()
        if self._happenings:
            self._told()
        # A verdict behind unread messages is the attendant's to act on, in a tick.
        if not self._watched or (self._verdict is not None and not closed):
            self._watch()

    def _take_role_or_bell(self, role: object, may: bool) -> Lock | None:
        """With the state lock: the reader's role for `role`, if it may, else what rings at the next change."""
        if not may:
            return self._changed.bell()
        self._reader = role
        return None

    def _read_or_hear(self, bell: Lock | None, deadline: float | None, drops: bool = True) -> bool:
        """Hear the bell; without one, as the reader: one read. False: nothing happened in time."""
        if bell is not None:
            return self._changed.hear(bell, remaining(deadline))
        something = self._read(remaining(deadline))
        if drops:
            self._drop_overflow()
        return something

    def _messages_decoded(self) -> int:
        return self._decoded

    # -- room ----------------------------------------------------------------------------------------------------

    def _reads_for_writer(self) -> bool:
        with self._lock:
            return self._may_read() and self._has_room()

    def _drop_overflow(self) -> None:
        """As the reader: when nobody will take them, messages beyond `max_queue` are dropped."""
        while self._drops_overflow() and len(self._inbox) > self._options.max_queue:
            with self._lock, contextlib.suppress(IndexError):  # the last one was taken in this moment
                self._open_inbox().pop()
                self._decoded -= 1

    def _drops_overflow(self) -> bool:
        return (self._waits_closed > 0 or self._is_given_up()) and not self._has_listeners("message")

    def _is_given_up(self) -> bool:
        """A hook: whether, after our `close`, nobody is there who might take messages."""
        return False

    def _has_room(self) -> bool:
        """Whether what comes may be read although nobody asks for it."""
        if self._draining or self._drops_overflow():
            return True
        return not self._paused and not self._is_full()

    def _is_full(self) -> bool:
        """Whether whoever takes messages has enough to do."""
        if len(self._inbox) >= self._options.max_queue:
            return True
        return self._streamed is not None and self._streamed.is_ahead()
