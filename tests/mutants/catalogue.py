"""Faults to be put into syncws on purpose, each with the tests that must then fail. Data of tests/mutants.py."""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    where: str  # a function or method, as `name` or `Class.name`, in whatever module it is; or C
    old: str  # an expression or statements that are in there once, however they are laid out; of all C code a text
    new: str


class Mutant(NamedTuple):
    name: str
    what: str
    edits: tuple[Edit, ...]
    tests: str  # what pytest is called with, each part relative to tests/


CALLS = "test_stress.py"
INTERRUPTS = "test_stress_interrupts.py"

NO_LAST_LOOK = """
with self._lock:
    if self._writer is role:
        self._writer = None
    self._changed.notify_all()
    closed = self._conclude_if_due()
if closed:
    self._told()
"""
QUEUE_OF_WRITERS = """
while self._writer is not None:
    self._changed.wait()
if not self._has_unwritten():
    return
"""
COUNT = "\nself._expect_life()\n"

MUTANTS = (
    Mutant(
        "no-writers-role",
        "two writers at once",
        (
            Edit(
                "Outgoing._hand_over",
                "role is not owner and self._message_owner is owner and self._writer is None",
                "role is not owner and self._message_owner is owner",
            ),
            Edit(
                "_send_frame",
                "self._writer is None and self._message_owner is owner and self._state == OPEN",
                "self._message_owner is owner and self._state == OPEN",
            ),
        ),
        CALLS,
    ),
    Mutant(
        "no-message-lock",
        "other messages pass between the fragments of one",
        (
            Edit(
                "Outgoing._hand_over",
                "role is not owner and self._message_owner is owner and self._writer is None",
                "role is not owner and self._writer is None",
            ),
            Edit(
                "_send_frame",
                "self._writer is None and self._message_owner is owner and self._state == OPEN",
                "self._writer is None and self._state == OPEN",
            ),
        ),
        "test_stress_races.py -k never_mix",
    ),
    Mutant(
        "no-readers-role",
        "two readers at once",
        (
            Edit("_may_read", "self._reader is not None", "False"),
            Edit("_read_once", "self._reader is not None", "False"),
        ),
        CALLS,
    ),
    Mutant(
        "no-last-look",
        "the writer gives its role back without a look at what was queued meanwhile",
        (Edit("_leave_frame", "self._leave_writing(role)", NO_LAST_LOOK),),
        "test_stress_stalls.py -k queued_behind",
    ),
    Mutant(
        "no-tls-lock",
        "two threads inside one SSL object",
        (Edit("TLSTransport.__init__", "self._lock = runtime.lock()", "self._lock = contextlib.nullcontext()"),),
        "test_stress_races.py -k ssl_object",
    ),
    Mutant(
        "readers-send-on",
        "over TLS a reader sends on what a writer left, who never learns that it is gone",
        (Edit("TLSTransport._answer", "self._answering or not self._unsent", "True"),),
        "test_tls_end.py -k sent_on",
    ),
    Mutant(
        "no-abort-flag",
        "the reader leaves without a look at whether somebody has terminated",
        (Edit("_leave_reading", "self._conclude_if_due()", "False"),),
        "test_socket_dropping.py -k sees_that_it_was_terminated",
    ),
    Mutant(
        "no-half-close",
        "our direction is not shut when the closing handshake is done",
        (Edit("_half_close_due", "self._close_received and self._server_side", "False"),),
        "test_stress_races.py -k server_ends",
    ),
    Mutant(
        "blocked-writer-does-not-read",
        "two that send at once wait for the attendant",
        (Edit("_wait_for_room", "self._reads_for_writer()", "False"),),
        "test_stress_races.py -k blocked_writer",
    ),
    Mutant(
        "control-waits-for-the-writer",
        "pings and pongs wait until nobody writes",
        (Edit("_flush", "if self._writer is not None or not self._has_unwritten():\n    return", QUEUE_OF_WRITERS),),
        "test_stress_stalls.py -k control_frames",
    ),
    Mutant(
        "close-before-the-messages",
        "the peer's Close takes effect although messages before it were not taken",
        (Edit("_put", "self._sort(items)", "self._sort(items)\nself._act_on_verdict(jump=True)"),),
        "test_socket_closing.py -k before_it",
    ),
    Mutant(
        "unbounded-inbox",
        "whoever reads for others never stops",
        (Edit("_is_full", "len(self._inbox) >= self._options.max_queue", "False"),),
        "test_socket_pressure.py -k held_back",
    ),
    Mutant(
        "close-event-twice",
        "CLOSED is entered again",
        (Edit("_conclude_if_due", "self._state in (CONNECTING, CLOSED)", "self._state == CONNECTING"),),
        "test_socket_dropping.py -k once",
    ),
    Mutant(
        "descriptor-closed-under-the-writer",
        "the end does not wait for the writer to leave",
        (
            Edit("_conclude_if_due", "self._writer is not None", "False"),
            Edit("_release_if_free", "self._writer is not None", "False"),
        ),
        "test_socket_dropping.py -k nobody_is_in_it",
    ),
    Mutant(
        "descriptor-closed-under-the-reader",
        "terminate() closes what others are in",
        (Edit("_shutdown", "self._transport.shutdown()", "self._transport.close()"),),
        "test_stress_stalls.py -k descriptor",
    ),
    Mutant(
        "kept-events-dropped",
        "events before the first listener are forgotten",
        (Edit("_settle_unheard", "self._kept[event.type] = event", "pass"),),
        INTERRUPTS,
    ),
    Mutant(
        "keepalive-counts-after-the-ping",
        "a pong that is back at once does not count as life",
        (
            Edit("_keep_alive", COUNT, "pass"),
            Edit("_keep_alive", "self._flush()", "self._flush()" + COUNT),
        ),
        "test_socket_control.py -k however_soon",
    ),
    Mutant(
        "cut-frame-followed",
        "a message whose time is up in the middle of a frame does not end the connection",
        (Edit("_send_frame", "cut", "False"),),
        "test_stress_stalls.py -k time_limit",
    ),
    Mutant(
        "nobody-woken",
        "whoever waits for the reader's role is not told that it is free",
        (Edit("_leave_reading", "self._changed.notify_all()", "pass"),),
        "test_socket_receiving.py -k reads_on",
    ),
    Mutant(
        "roles-leak",
        "an interrupt while a role is given back leaves it taken",
        (
            Edit("_bail", "role is not None and getattr(self, name) is role", "False"),
            Edit("_bail", "self._mark_aborted('interrupted')", "pass"),
        ),
        INTERRUPTS + " -k tcp",
    ),
    Mutant(
        "hesitating-close-forgotten",
        "a looper that sleeps is not told of a close that hesitated",
        (Edit("_relieve", "self._changed.notify_all()", "pass"),),
        "test_stress_races.py -k unread",
    ),
    Mutant(
        "broadcast-between-fragments",
        "a broadcast does not wait for the end of a message that is open",
        (Edit("_post_due", "bool(self._outbox) and not self._sender.open_message", "bool(self._outbox)"),),
        "test_broadcast.py -k fragments",
    ),
    Mutant(
        "window-not-forgotten",
        "behind a compressed broadcast our compressor goes on as if nothing had been",
        (Edit("_next_post", "self._sender.forget()", "pass"),),
        "test_broadcast_compressed.py -k all_inflate",
    ),
    Mutant(
        "backlog-without-end",
        "what waits for a slow client grows for ever",
        (Edit("_post", "waiting > 0 and waiting + len(frame) > max_backlog", "False"),),
        "test_broadcast.py -k 1013",
    ),
    Mutant(
        "topics-outlive",
        "who is closed stays in its topics",
        (Edit("Posting._conclude", "topics().leave(self._topics, self)", "pass"),),
        "test_topics.py -k whoever_is_closed",
    ),
    Mutant(
        "follow-unconfirmed",
        "subscribe does not wait until the Redis has confirmed it",
        (Edit("RedisBroker.follow", "not listener.await_following(topic)", "False"),),
        "test_brokers.py -k misses_nothing_from_then_on",
    ),
    Mutant(
        "follow-on-its-way-out",
        "subscribe relies on a channel that is about to be left",
        (Edit("_Listener._reconcile", "self._followed -= old", "pass"),),
        "test_brokers.py -k comes_back_at_once",
    ),
    Mutant(
        "delivers-when-stopped",
        "a broker that was stopped delivers beside the one that has taken its place",
        (Edit("_Listener._listen", "self._stopped", "False"),),
        "test_brokers.py -k one_after_the_other",
    ),
    Mutant(
        "busy-at-the-end",
        "the attendant asks for what comes although the stream is at its end",
        (Edit("_events_wanted", "self._reader is None and (not self._ended)", "self._reader is None"),),
        "test_headway.py -k keeps_nobody_busy",
    ),
    Mutant(
        "drops-while-read",
        "a connection that cannot be written to is dropped although it is read",
        (Edit("Tended._read_on", "activity != seen", "seen < 0"),),
        "test_headway.py -k dropped_in_the_end",
    ),
    Mutant(
        "streams-without-end",
        "a stream that nobody takes is read on",
        (Edit("_is_full", "self._streamed is not None and self._streamed.is_ahead()", "False"),),
        "test_headway.py -k holds_the_peer_back",
    ),
    Mutant(
        "cork-stays",
        "a cork is not drawn",
        (Edit("_uncork", "self._corks = tuple(other for other in self._corks if other is not cork)", "pass"),),
        "test_cork.py -k raises",
    ),
    Mutant(
        "no-look-at-the-inbox",
        "a `recv` reads although another caller's read has left a message",
        (
            Edit("_read_once", "self._reader is not None or not self._calm or self._inbox", "self._reader is not None"),
            Edit("Port._read_alone", "self._inbox", "False"),
        ),
        "test_interleavings.py -k left_lying",
    ),
    Mutant(
        "no-turns",
        "who leaves the writer's role does not hand it to who has waited longest",
        (
            Edit("Control._leave_writing", "self._hand_over()", "None"),
            Edit("Control._keeps_writing", "self._hand_over()", "None"),
            Edit("_send_frame", "taken and not (self._senders and owner is None)", "taken"),
        ),
        "test_hostile.py -k lets_others_send",
    ),
    Mutant(
        "no-look-at-the-clock",
        "a time limit counts only while nothing comes",
        (Edit("in_time", "_OVERTIME if something else 0", "1e9 if something else 0"),),
        "test_hostile.py -k time_limits_hold",
    ),
    Mutant(
        "close-lost-at-the-end",
        "who reads the end of the stream finishes although our Close is about to be written",
        (Edit("Control._close_is_due", "self._close_frame is not None and (not self._broken)", "False"),),
        "test_interleavings.py -k another_who_reads_the_end",
    ),
    Mutant(
        "armed-and-forgotten",
        "a connection that waits to be written is looked at only then",
        (Edit("Attendant._tend", "events is not None and (not events & READ)", "events == 0"),),
        "test_interleavings.py -k what_waits_to_be_written",
    ),
    Mutant(
        "waits-without-bounds",
        "wait_closed in a listener drops nothing, and so never comes to the peer's Close",
        (Edit("Awaiting._drops_overflow", "self._waits_inside and self._state == CLOSING", "False"),),
        "test_hostile.py -k holds_no_more",
    ),
    Mutant(
        "one-long-wait",
        "the main thread waits in one go, whatever signal came before",
        (
            Edit("heeding_signals", "(timeout is not None and timeout <= LOOK) or not hears_signals()", "True"),
            Edit("Transport.heed_signals", "hears_signals()", "False"),
        ),
        "test_process.py -k does_not_wake",
    ),
    Mutant(
        "short-no-writers-role",
        "the short path in Python writes while somebody writes",
        (Edit("Port._send_alone", "self._writer is not None", "False"),),
        "test_socket_sending.py -k one_message_at_a_time",
    ),
    Mutant(
        "short-no-readers-role",
        "the short path in Python reads while somebody reads",
        (Edit("Port._read_alone", "self._reader is not None", "False"),),
        "test_socket_receiving.py -k reads_on",
    ),
    Mutant(
        "short-nobody-woken",
        "the short path in Python does not tell those who wait for the reader's role",
        (Edit("Port._read_alone", "not self._waiting", "True"),),
        "test_socket_receiving.py -k reads_on",
    ),
    Mutant(
        "short-event-forgotten",
        "the short path in Python leaves without telling what came with the messages",
        (Edit("Port._read_alone", "not self._happenings", "True"),),
        "test_socket_control.py -k are_told",
    ),
    Mutant(
        "compiled-no-writers-role",
        "the compiled short path writes while somebody writes",
        (Edit("C", "self->writer == Py_None && ", ""),),
        "test_socket_sending.py -k one_message_at_a_time",
    ),
    Mutant(
        "compiled-no-readers-role",
        "the compiled short path reads while somebody reads",
        (Edit("C", "self->reader != Py_None || ", ""),),
        "test_socket_receiving.py -k reads_on",
    ),
    Mutant(
        "compiled-nobody-woken",
        "the compiled short path does not tell those who wait for the reader's role",
        (Edit("C", "if (!self->calm || !is_empty(self->waiting)) return 0;", "if (!self->calm) return 0;"),),
        "test_socket_receiving.py -k reads_on",
    ),
    Mutant(
        "compiled-event-forgotten",
        "the compiled short path leaves without telling what came with the messages",
        (Edit("C", "return self->watched && is_empty(self->happenings);", "return self->watched;"),),
        "test_socket_control.py -k are_told",
    ),
)
