"""The outgoing half: messages leave whole and in order, whoever sends them from wherever.

Rank 4, over Control. The writer's role covers compress, encode and write, so that the compressor's order is the
wire's. A message in fragments (RFC 6455 section 5.4) also holds back other messages, never a control frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from .attendant import TICK
from .buffers import Data, Payload, as_bytes, fragment_of, kind_of
from .control import Control
from .errors import ConnectionClosed, is_our_limit
from .frames import BINARY, TEXT, encode_close
from .lifecycle import OPEN, Role
from .options import check_timeout
from .runtime import READ, WRITE, Lock, deadline_after, in_time, is_past, remaining
from .transport import Transport

_NAP = 0.02  # seconds until a write is tried again that waits for what another thread reads
#: corked bytes that leave all the same: more in one write gains nothing
_CORKED = 1 << 16


class Outgoing(Control):
    """`send`, in one frame or many, blocking until the system has it all."""

    __slots__ = ("_senders",)

    _ROLES = (*Control._ROLES, "_message_owner")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Guarded by the state lock:
        self._message_owner = None  # the Role of who sends a message in fragments
        # Who waits to send, in the order they came: what is to be taken, and for which owner of a message.
        self._senders: tuple[tuple[object, Role | None], ...] = ()

    # -- what the layer above provides ---------------------------------------------------------------------

    def _reads_for_writer(self) -> bool:
        """Whether a blocked writer should read: nobody else does, and there is room."""
        return False

    def _read_for_others(self, role: object) -> bool:
        """One read that does not wait, if the reader's role is free and there is room; whether it was."""
        return False

    # -- messages ------------------------------------------------------------------------------------------

    @property
    def bufferedAmount(self) -> int:
        """Bytes, framing included, that the system does not have yet: of a `send` at work, corked, or of broadcasts."""
        return self._buffered + self._backlog

    def send(
        self,
        data: Data | Iterable[Data],
        *,
        binary: bool | None = None,
        compress: bool | None = None,
        fin: bool = True,
        mask: bool | None = None,
        timeout: float | None = None,
    ) -> None:
        """Send one message; returns when the system has all of it. From any thread.

        `data`: str goes as text, a contiguous buffer as binary, an iterable of either as one message in as many
        fragments as it yields (RFC 6455 section 5.4). `binary` overrides. `fin=False` leaves the message open: the
        next `send` continues it. `compress` overrides the threshold. `mask=False` leaves a client's frame unmasked.

        Raises TypeError for other data, ValueError for text that is not Unicode, RuntimeError inside an iterable that
        is being sent, InvalidStateError while CONNECTING, ConnectionClosed while CLOSING or CLOSED, TimeoutError after
        `timeout` seconds: the connection is then dropped if a frame was cut short.
        """
        if timeout is not None:
            check_timeout(timeout)
        if self._plain and fin and binary is compress is mask is None and self._send_alone(data, timeout):
            return
        deadline = deadline_after(timeout)
        payload: str | Payload
        if isinstance(data, str):
            opcode, payload = TEXT, data
        elif (view := as_bytes(data)) is not None:
            opcode, payload = BINARY, view
        else:
            self._send_fragments(data, binary, fin, compress, mask, deadline)
            return
        if binary is not None:
            opcode = BINARY if binary else TEXT
        self._send_frame(opcode, payload, fin, compress, mask, deadline, None)

    def _send_fragments(
        self,
        pieces: Any,
        binary: bool | None,
        fin: bool,
        compress: bool | None,
        mask: bool | None,
        deadline: float | None,
    ) -> None:
        """One message from an iterable. Other messages wait for its end; control frames pass between."""
        if isinstance(pieces, Mapping) or not isinstance(pieces, Iterable):
            raise TypeError(f"data must be str, a buffer or an iterable of them, not {kind_of(pieces)}")
        owner = Role(self._runtime.current())
        begun = False
        try:
            self._take_message(owner, deadline)
            message_type = None
            for piece in pieces:
                opcode, payload = fragment_of(piece, binary)
                if message_type not in (None, opcode):
                    raise TypeError("all fragments of one message must be str, or all of them bytes-like")
                message_type = opcode
                self._send_frame(opcode, payload, False, compress, mask, deadline, owner)
                begun = True
            if fin or not begun:
                # What the iterable yields must not wait for its next step, so the end is an empty fragment.
                last_type = message_type or (TEXT if binary is False else BINARY)
                self._send_frame(last_type, b"", fin, compress, mask, deadline, owner)
            begun = False
        finally:
            try:
                if begun:
                    # RFC 6455 section 5.4: nothing but its continuation could follow.
                    self._fail_sending()
                self._end_message(owner)
            except BaseException:
                self._bail(owner)
                raise

    def _take_message(self, owner: Role, deadline: float | None) -> None:
        with self._lock:
            self._refuse_reentry(owner.owner)
        self._take_turn(owner, owner, deadline)

    def _refuse_reentry(self, caller: object) -> None:
        """With the state lock."""
        if self._message_owner is not None and self._message_owner.owner == caller:
            raise RuntimeError("send() from inside the iterable that another send() is sending")

    def _end_message(self, owner: Role) -> None:
        with self._lock:
            if self._message_owner is owner:
                self._message_owner = None
                self._hand_over()
                self._changed.notify_all()

    def _fail_sending(self) -> None:
        """A message was begun and cannot be finished: tell the peer 1011 and close."""
        self._start_closing(encode_close(1011, "the message could not be completed"))

    # -- one frame -----------------------------------------------------------------------------------------

    def _send_frame(
        self,
        opcode: int,
        payload: str | Payload,
        fin: bool,
        compress: bool | None,
        mask: bool | None,
        deadline: float | None,
        owner: Role | None,
    ) -> None:
        role = object()
        cut = framed = False
        if not self._runtime.may_block and self._transport is not None:
            self._transport.give_way()
        try:
            with self._lock:
                taken = self._writer is None and self._message_owner is owner and self._state == OPEN
                taken = taken and not (self._senders and owner is None)  # others came before
                if taken:
                    self._writer = role
                elif owner is None:
                    self._refuse_reentry(self._runtime.current())
            if not taken:
                self._take_turn(role, owner, deadline)
            cut = True
            if self._outbox or (self._out and not self._is_held()):
                self._write_waiting(deadline)
            # From here on the compressor may have seen the message: what does not get out whole is lost.
            framed = True
            buffers = self._sender.message(opcode, payload, fin, compress, mask)
            if not (fin and self._plain):
                self._plain = self._sender.plain
            self._write(buffers, deadline)
            cut = False
        except (TypeError, ValueError, ConnectionClosed):
            # Text that is no Unicode, a bad mask, bytes where there is only text, or closed while others were sent:
            # before anything was done.
            cut = False
            raise
        except OSError as error:
            if is_our_limit(error):
                cut = framed
                raise
            cut = False
            self._sending_failed(error)
        finally:
            try:
                self._leave_frame(role, cut)
            except BaseException:
                self._bail(role)
                raise

    def _send_rest(self, role: object, size: int, timeout: float | None) -> bool:
        """As the writer, for `_send_alone`: of a frame of `size` bytes the kernel did not take all; it is in `_out`.

        True, which is what `_send_alone` answers.
        """
        deadline = deadline_after(timeout)
        cut = True
        try:
            assert self._transport is not None
            self._write_out(self._transport, deadline)
            self.bytes_sent += size
            cut = False
        except OSError as error:
            if is_our_limit(error):
                raise
            cut = False
            self._sending_failed(error)
        finally:
            try:
                self._leave_frame(role, cut)
            except BaseException:
                self._bail(role)
                raise
        return True

    def _sending_failed(self, error: OSError) -> NoReturn:
        self._writing_failed(error)
        raise self._closed_error() from error

    def _leave_frame(self, role: object, cut: bool) -> None:
        """As the writer, if `role` says so: give the role back; a frame that was cut short is the last.

        To be called in a `try`: whoever is interrupted on its first step has still the role.
        """
        if cut:
            self._abort("a frame was cut short")
        self._leave_writing(role)

    def _take_turn(self, role: object, owner: Role | None, deadline: float | None) -> None:
        """Wait for the writer's role, or, if `role` is an owner, for the right to send a message in fragments.

        First come, first served: or else whoever sends all the time would never let another.
        """
        try:
            with self._lock:
                self._senders += ((role, owner),)
            while True:
                with self._lock:
                    self._hand_over()
                    if role in (self._writer, self._message_owner):
                        return
                    if self._state != OPEN:
                        self._refuse_unless_open()
                    bell = self._next_change(deadline)
                self._changed.hear(bell, remaining(deadline))
        finally:
            try:
                self._leave_queue(role)
            except BaseException:
                self._leave_queue(role)  # once more, for that was interrupted
                raise

    def _leave_queue(self, role: object) -> None:
        with self._lock:
            self._dequeue(role)

    def _dequeue(self, role: object) -> None:
        """With the state lock."""
        self._senders = tuple(entry for entry in self._senders if entry[0] is not role)

    def _hand_over(self) -> None:
        for role, owner in self._senders if self._state == OPEN else ():
            if role is owner and self._message_owner is None:
                self._message_owner = owner
            elif role is not owner and self._message_owner is owner and self._writer is None:
                self._writer = role
            else:
                continue
            self._dequeue(role)
            return

    def _next_change(self, deadline: float | None) -> Lock:
        """With the state lock: what to wait for; TimeoutError at `deadline`."""
        if is_past(deadline):
            raise TimeoutError("another message was being sent all the time")
        return self._changed.bell()

    def _write(self, buffers: tuple[Any, ...], deadline: float | None) -> None:
        """As the writer: get `buffers` out, after what lies in `_out`. Reads meanwhile what the peer sends."""
        transport = self._transport
        assert transport is not None
        out = self._out
        if len(buffers) == 1 and not out and not self._corks:
            frame = buffers[0]
            size = len(frame)
            sent = transport.offer(frame)
            if sent == size:
                self.bytes_sent += size
                return
            out.append(memoryview(frame)[sent:])
        else:
            size = sum(map(len, buffers))
            if not buffers:
                return  # a piece of nothing, where pieces have no headers
            if self._corks and self._hold(buffers, size):
                self.bytes_sent += size
                return
            out.extend(buffers)
        self._write_out(transport, deadline)
        self.bytes_sent += size

    def _hold(self, buffers: tuple[Payload, ...], size: int) -> bool:
        """As the writer: keep a copy of `buffers` in `_out`, for the end of the cork. False: uncorked, or too much."""
        with self._lock:
            if not self._corks or self._buffered + size >= _CORKED:
                return False
            if not self._out or self._out[-1] is not self._corked:
                self._corked = bytearray()
                self._out.append(self._corked)
            for buffer in buffers:
                self._corked += buffer
            self._buffered += size
            return True

    def _write_waiting(self, deadline: float | None) -> None:
        """As the writer: what was posted before this message leaves before it, as long as that may take."""
        assert self._transport is not None
        with self._lock:
            posts = len(self._outbox) if self._post_due() else 0
        for left in range(posts, -1, -1):
            if self._out and not self._is_held():
                self._write_out(self._transport, deadline)
            with self._lock:
                self._refuse_unless_open()
                frame = self._next_post() if left else b""
            if left:
                self._out.append(frame)
                self.bytes_sent += len(frame)

    def _write_out(self, transport: Transport, deadline: float | None) -> None:
        """As the writer: get what lies in `_out` out, as long as that may take."""
        out = self._out
        while not transport.write(out):
            self._note_buffered()
            if self._aborted or self._ended:
                raise ConnectionAbortedError("the connection was dropped")
            if not in_time(deadline, self._wait_for_room(transport, deadline)):
                raise TimeoutError("the peer did not take the message in time")
        self._buffered = 0

    def _wait_for_room(self, transport: Transport, deadline: float | None) -> bool:
        """As the writer: wait until writing may go on (True), or the deadline; reads meanwhile if nobody else does."""
        # Not for long: somebody else may read what we wait for, or the end, or room may come in the inbox, and no
        # descriptor shows that.
        left = remaining(deadline)
        left = TICK if left is None else min(left, TICK)
        reads = self._reads_for_writer()
        if transport.stalls and not reads:
            self._runtime.sleep(min(left, _NAP))
            return False
        events = (0 if transport.stalls else WRITE) | (READ if reads else 0)
        ready = READ if reads and transport.holds_data() else transport.wait(events, left)
        if ready & READ:
            self._read_for_others(object())
        return bool(ready & WRITE)
