"""Control frames: pings, pongs and the Close leave without waiting for anybody, between the frames of messages.

Rank 4, over Lifecycle. The writer's role, a token under the state lock, covers all writing to the transport. Who has a
control frame to send queues it and flushes; if somebody writes just now, that one will, before it gives the role back.
RFC 6455 section 5.5; the closing handshake: section 7.1.
"""

from __future__ import annotations

import time
from typing import Any

from .buffers import Data, control_payload
from .errors import InvalidStateError, ProtocolError
from .frames import CLOSE, PING, PONG
from .framing import MessageSender
from .lifecycle import CLOSED, CONNECTING, LINGER, OPEN, Lifecycle
from .opcodes import RSV1
from .transport import Out

#: Pongs (or pings) that may wait to be written; of more than these only the latest is (RFC 6455 section 5.5.3).
MAX_WAITING = 32
_MAX_AWAITED = 16  # pings whose pongs are waited for to measure the latency

_Queue = list[tuple[bytes, "bool | None"]]
_Control = tuple[int, bytes, "bool | None"]


class Control(Lifecycle):
    """`ping`, `pong`, the Close, and how what is queued gets out."""

    __slots__ = (
        "_awaited",
        "_backlog",
        "_broken",
        "_buffered",
        "_close_frame",
        "_close_queued",
        "_corked",
        "_corks",
        "_half_closed",
        "_lingers",
        "_lost",
        "_sender",
    )

    #: seconds between the last answered ping and its pong; None until there was one
    latency: float | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sender: MessageSender  # once it is open
        self._out: Out = []  # what the kernel did not take yet; the writer's
        self._buffered = 0  # its bytes when the writer last waited or left, for others to read
        self._corked: bytearray | None = None  # what `send` left in `_out` last, corked; the writer's
        # Guarded by the state lock:
        self._pongs: _Queue = []
        self._pings: _Queue = []
        self._close_frame: bytes | None = None  # the payload of our Close, waiting to be written
        self._close_queued = False  # the Close is in `_out` or out: nothing follows it
        self._broken = False  # the transport refused to be written to
        self._half_closed = False
        self._lingers = False
        self._awaited: tuple[tuple[bytes, float], ...] = ()  # the last pings: their payload, and when
        self._outbox = None  # whole frames of messages nobody waits for, once there is one; see posting
        self._backlog = 0  # their bytes
        self._corks: tuple[object, ...] = ()  # one for each `cork` block that somebody is in
        self._lost = False  # something was in `_out`, or taken from it and unsent, when the connection went

    # -- pings and pongs ----------------------------------------------------------------------------------
    def ping(self, data: Data = b"", *, mask: bool | None = None, ignore_closed: bool = False) -> None:
        """Send a ping of at most 125 bytes; its pong sets `latency`. Does not wait for a `send` at work.

        ValueError for more bytes; on a socket that is not open as `send`, or nothing with `ignore_closed=True`.
        """
        self._send_control(self._pings, data, mask, ignore_closed)

    def pong(self, data: Data = b"", *, mask: bool | None = None, ignore_closed: bool = False) -> None:
        """Send an unsolicited pong (RFC 6455 section 5.5.3); otherwise as `ping`."""
        self._send_control(self._pongs, data, mask, ignore_closed)

    def _send_control(
        self, queue: _Queue, data: Data, mask: bool | None, ignore_closed: bool
    ) -> None:
        payload = control_payload(data)
        with self._lock:
            if self._state != OPEN:
                if ignore_closed:
                    return
                self._refuse_unless_open()
            self._queue_control(queue, payload, mask)
        self._flush()

    def _queue_control(self, queue: _Queue, payload: bytes, mask: bool | None) -> None:
        """With the state lock. More than a few waiting ones say no more than the latest."""
        if len(queue) >= MAX_WAITING:
            queue.clear()
        queue.append((payload, mask))
        if queue is self._pings:
            self._awaited = (*self._awaited[1 - _MAX_AWAITED :], (payload, time.monotonic()))

    def _answer_ping(self, payload: bytes) -> None:
        """As the reader: put the pong under control frames; `_flush` sends it."""
        with self._lock:
            if self._state == OPEN:
                self._queue_control(self._pongs, payload, None)

    def _note_pong(self, payload: bytes) -> None:
        """As the reader: a pong answers its ping and all before it."""
        with self._lock:
            for index, (sent, when) in enumerate(self._awaited):
                if sent == payload:
                    self._awaited = self._awaited[index + 1 :]
                    self.latency = time.monotonic() - when
                    return

    def _refuse_unless_open(self) -> None:
        """With the state lock."""
        if self.readyState == CONNECTING:
            raise InvalidStateError("the connection is not open yet: wait for the open event")
        if self._state != OPEN:
            raise self._closed_error()

    # -- writing them ----------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Write control frames now, unless somebody writes: that one will, before it leaves. Never waits."""
        role = object()
        try:
            with self._lock:
                if self._writer is not None or not self._has_unwritten():
                    return
                self._writer = role
            self._leave_writing(role)
        except BaseException:
            self._bail(role)
            raise

    def _leave_writing(self, role: object) -> None:
        """As the writer: write what is queued, as far as the kernel takes it, and give the role back."""
        with self._lock:
            # The usual case, in short: nothing but the message was to be written.
            rest = self._pongs or self._pings or self._out or self._outbox or self._lags
            if self._calm and self._writer is role and not rest:
                self._writer = None
                self._hand_over()
                if self._waiting:
                    self._changed.notify_all()
                return
        blocked = False
        while self._keeps_writing(role, blocked):
            blocked = not self._write_control()

    def _keeps_writing(self, role: object, blocked: bool) -> bool:
        """Give the writer's role back, unless something can still be written.

        The last look at what is queued and the giving back are one step under the state lock: no frame is left.
        """
        with self._lock:
            if self._writer is not role:
                return False
            if not blocked and self._has_unwritten():
                return True
            self._writer = None
            if self._aborted or self._broken:
                self._drop_unwritten()
            elif blocked or not self._out:  # corked it may be long, and its bytes are counted already
                self._note_buffered()
            self._hand_over()
            self._changed.notify_all()
            closed = self._conclude_if_due()
        if blocked:
            self._attend()  # it writes the rest when the kernel takes more
        if closed:
            self._told()
        return False

    def _hand_over(self) -> None:
        """A hook, with the state lock: nobody writes, and somebody may be waiting to."""

    def _has_unwritten(self) -> bool:
        """With the state lock: whether anything but new messages could be written now."""
        if self._broken or self._aborted or self._state in (CONNECTING, CLOSED):
            return False
        if self._pongs or self._pings or self._close_frame is not None or self._half_close_due():
            return True
        if (self._out and not self._is_held()) or self._post_due():
            return True
        return self._transport is not None and self._transport.wants_to_write()

    def _is_held(self) -> bool:
        """As the writer, or with the state lock and no writer: whether all that is in `_out` waits for an uncorking."""
        return bool(self._corks) and len(self._out) == 1 and self._out[0] is self._corked

    def _note_buffered(self) -> None:
        """As the writer, or with the state lock and no writer."""
        left = sum(map(len, self._out))
        self._buffered = left if self._transport is None else left + self._transport.unsent()

    def _drop_unwritten(self) -> None:
        """With the state lock, as the writer or without one: nothing more will be written."""
        self._lost = self._lost or bool(self._out or (self._transport is not None and self._transport.unsent()))
        self._out.clear()
        self._buffered = 0

    def _write_control(self) -> bool:
        """As the writer: what the kernel takes just now. False: the rest stays in `_out`."""
        transport = self._transport
        assert transport is not None
        try:
            while transport.write(self._out):
                with self._lock:
                    half_close, frame = self._next_step()
                self._linger_if_done()
                if half_close:
                    transport.finish_writing()
                elif frame is None:
                    return True
                else:
                    if not isinstance(frame, bytes):
                        opcode, payload, mask = frame
                        frame = self._sender.control(opcode, payload, mask=mask)
                    if frame:  # not every framing has pings
                        self._out.append(frame)
                    self.bytes_sent += len(frame)
        except OSError as error:
            self._writing_failed(error)
            return True
        return False

    def _next_step(self) -> tuple[bool, _Control | bytes | None]:
        """With the state lock, `_out` all written: whether to shut our direction now, or the next frame."""
        if self._close_queued and not self._close_sent:
            self._close_sent = True
            self._changed.notify_all()
        if self._half_close_due():
            self._half_closed = True
            return True, None
        return False, self._next_frame()

    def _next_frame(self) -> _Control | bytes | None:
        """With the state lock: the next frame, of a control frame opcode, payload and mask. The Close is the last."""
        for opcode, queue in ((PONG, self._pongs), (PING, self._pings)):
            if queue:
                return (opcode, *queue.pop(0))
        if self._post_due():
            return self._next_post()
        if self._close_frame is None:
            return None
        payload, self._close_frame = self._close_frame, None
        self._close_queued = True
        self._drop_posts()  # behind a message that nobody will end
        return CLOSE, payload, None

    def _post_due(self) -> bool:
        """With the state lock, as the writer or without one: whether a message from the outbox may leave.

        Not between the frames of another; RFC 6455 section 5.4.
        """
        return bool(self._outbox) and not self._sender.open_message

    def _next_post(self) -> bytes:
        """As the writer, with the state lock: the next of the outbox."""
        frame: bytes = self._outbox.popleft()
        self._backlog -= len(frame)
        if frame[0] & RSV1:
            self._sender.forget()
        return frame

    def _close_is_due(self) -> bool:
        return self._close_frame is not None and not self._broken

    def _drop_posts(self) -> None:
        """With the state lock."""
        self._outbox, self._backlog = None, 0

    def _writing_failed(self, error: OSError) -> None:
        """The transport cannot be written to. What the peer sent before may still be read."""
        with self._lock:
            if self._broken:
                return
            self._broken = True
            self._failure = self._failure or ConnectionResetError(*error.args)
            self._drop_unwritten()
            self._leave_open()
        self._read_on()
        self._attend()

    def _read_on(self) -> None:
        """A hook: what we write comes to nothing, but what has come is read, and then the connection is dropped."""

    def _half_close_due(self) -> bool:
        """With the state lock: whether it is time to shut our direction, so that no reset destroys the Close.

        RFC 6455 section 7.1.1: the server closes the TCP connection first.
        """
        if not self._close_sent or self._half_closed:
            return False
        return (self._close_received and self._server_side) or isinstance(self._failure, ProtocolError)

    def _conclude(self) -> None:
        self._drop_posts()
        self._drop_unwritten()
        if self._transport is not None and self._close_sent and not (self._half_closed or self._aborted):
            # Nobody is in the transport any more. TLS: our close_notify (RFC 8446 section 6.1).
            self._transport.finish_writing()
        super()._conclude()

    # -- closing -----------------------------------------------------------------------------------------

    def _start_closing(self, payload: bytes, *, unposted: bool = False) -> bool:
        """OPEN to CLOSING, once: our Close goes under the control frames, and the peer's time to answer runs.

        `unposted`: what lies in the outbox does not leave before it.
        """
        try:
            with self._lock:
                if self._state != OPEN:
                    return False
                if unposted:
                    self._drop_posts()
                self._close_frame = payload
                self._leave_open()
            self._drop_after(self._options.close_timeout)
            self._flush()
            self._attend_end()
        except BaseException:
            self._bail()
            raise
        return True

    def _linger_if_done(self) -> None:
        """Once nothing more is to be said either way, the peer has a moment to end the TCP connection."""
        if not self._close_sent or self._lingers:
            return
        if self._close_received or isinstance(self._failure, ProtocolError):
            self._lingers = True
            self._drop_after(min(LINGER, self._options.close_timeout))

    def _drop_after(self, seconds: float) -> None:
        self._call_after(seconds, Control._drop_late, seconds)

    def _drop_late(self, seconds: float) -> None:
        self._abort(f"the peer did not close within {seconds:g} s")
