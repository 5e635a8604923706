"""Faults to be put into syncws on purpose, each with the tests that must then fail. Data of tests/mutants.py."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    name: str
    what: str
    edits: tuple[tuple[str, str, str], ...]  # (module, text that is there once, text in its place)
    tests: str  # what pytest is called with, each part relative to tests/


CALLS = "test_stress.py"
INTERRUPTS = "test_stress_interrupts.py"

MUTANTS = (
    Mutant(
        "no-writers-role",
        "two writers at once",
        (
            (
                "outgoing",
                "if self._writer is None and self._message_owner is owner:",
                "if self._message_owner is owner:",
            ),
        ),
        CALLS,
    ),
    Mutant(
        "no-message-lock",
        "other messages pass between the fragments of one",
        (
            (
                "outgoing",
                "if self._writer is None and self._message_owner is owner:",
                "if self._writer is None:",
            ),
        ),
        "test_stress_races.py -k never_mix",
    ),
    Mutant(
        "no-readers-role",
        "two readers at once",
        (("incoming", "if self._reader is not None or self._verdict is", "if self._verdict is"),),
        CALLS,
    ),
    Mutant(
        "no-last-look",
        "the writer gives its role back without a look at what was queued meanwhile",
        (
            (
                "outgoing",
                "                self._leave_writing(role)\n            except",
                "                with self._lock:\n"
                "                    if self._writer is role:\n"
                "                        self._writer = None\n"
                "                    self._changed.notify_all()\n"
                "                    closed = self._conclude_if_due()\n"
                "                if closed:\n"
                "                    self._told()\n            except",
            ),
        ),
        "test_stress_stalls.py -k queued_behind",
    ),
    Mutant(
        "no-tls-lock",
        "two threads inside one SSL object",
        (("transport", "self._lock = runtime.lock()", "self._lock = contextlib.nullcontext()"),),
        "test_stress_races.py -k ssl_object",
    ),
    Mutant(
        "no-abort-flag",
        "the reader leaves without a look at whether somebody has terminated",
        (
            (
                "incoming",
                "            closed = self._conclude_if_due()\n        if self._happenings:",
                "            closed = False\n        if self._happenings:",
            ),
        ),
        CALLS,
    ),
    Mutant(
        "no-half-close",
        "our direction is not shut when the closing handshake is done",
        (
            (
                "control",
                "        return (self._close_received and self._server_side)",
                "        return False and (self._close_received and self._server_side)",
            ),
        ),
        "test_stress_races.py -k server_ends",
    ),
    Mutant(
        "blocked-writer-does-not-read",
        "two that send at once wait for the attendant",
        (("outgoing", "        if not self._reads_for_writer():\n", "        if True:\n"),),
        "test_stress_races.py -k writer_reads_at_once",
    ),
    Mutant(
        "control-waits-for-the-writer",
        "pings and pongs wait until nobody writes",
        (
            (
                "control",
                "                if self._writer is not None or not self._has_unwritten():\n                    return\n",
                "                while self._writer is not None:\n                    self._changed.wait()\n"
                "                if not self._has_unwritten():\n                    return\n",
            ),
        ),
        "test_stress_stalls.py -k control_frames",
    ),
    Mutant(
        "close-before-the-messages",
        "the peer's Close takes effect although messages before it were not taken",
        (
            (
                "incoming",
                "if self._verdict is None or (self._inbox and not jump):",
                "if self._verdict is None:",
            ),
        ),
        "test_socket_closing.py test_socket_receiving.py test_states.py",
    ),
    Mutant(
        "unbounded-inbox",
        "whoever reads for others never stops",
        (
            (
                "incoming",
                "return not self._paused and len(self._inbox) < self._options.max_queue",
                "return not self._paused",
            ),
        ),
        "test_socket_receiving.py",
    ),
    Mutant(
        "close-event-twice",
        "CLOSED is entered again",
        (("lifecycle", "self._state in (CONNECTING, CLOSED) or", "self._state == CONNECTING or"),),
        CALLS,
    ),
    Mutant(
        "descriptor-closed-under-the-writer",
        "the end does not wait for the writer to leave",
        (
            (
                "lifecycle",
                "        if self._writer is not None:\n            # Freed",
                "        if False:\n            # Freed",
            ),
            (
                "lifecycle",
                "if self._state != CLOSED or self._released or self._reader is not None or self._writer is not None:",
                "if self._state != CLOSED or self._released or self._reader is not None:",
            ),
        ),
        "test_stress.py test_stress_races.py test_stress_stalls.py",
    ),
    Mutant(
        "descriptor-closed-under-the-reader",
        "terminate() closes what others are in",
        (
            (
                "lifecycle",
                "        if self._transport is not None and not self._released:\n            self._transport.shutdown()",
                "        if self._transport is not None and not self._released:\n            self._transport.close()",
            ),
        ),
        "test_stress_stalls.py -k descriptor",
    ),
    Mutant(
        "kept-events-dropped",
        "events before the first listener are forgotten",
        (("dispatch", "self._kept[event.type] = event", "pass"),),
        INTERRUPTS,
    ),
    Mutant(
        "keepalive-counts-after-the-ping",
        "a pong that is back at once does not count as life",
        (
            (
                "websocket",
                "        self._flush()\n        self._start_keepalive()",
                "        self._flush()\n"
                "        received = self.bytes_received\n"
                "        if self._options.ping_timeout is not None:\n"
                "            self._call_after(self._options.ping_timeout, Connection._check_life, received)\n"
                "        self._start_keepalive()",
            ),
            (
                "websocket",
                "            self._call_after(self._options.ping_timeout, Connection._check_life, received)\n        with",
                "            pass\n        with",
            ),
        ),
        "test_stress_races.py -k keepalive",
    ),
    Mutant(
        "cut-frame-followed",
        "a message whose time is up in the middle of a frame does not end the connection",
        (("outgoing", "                if cut:\n", "                if False:\n"),),
        "test_stress_stalls.py -k time_limit",
    ),
    Mutant(
        "nobody-woken",
        "whoever waits for the reader's role is not told that it is free",
        (
            (
                "incoming",
                "            self._reader = None\n            self._changed.notify_all()\n",
                "            self._reader = None\n",
            ),
        ),
        "test_stress.py test_stress_races.py",
    ),
    Mutant(
        "roles-leak",
        "an interrupt while a role is given back leaves it taken",
        (
            (
                "lifecycle",
                "                if role is not None and getattr(self, name) is role:",
                "                if False:",
            ),
            (
                "lifecycle",
                '                self._mark_aborted("interrupted")',
                "                pass",
            ),
        ),
        INTERRUPTS + " -k tcp",
    ),
    Mutant(
        "hesitating-close-forgotten",
        "a looper that sleeps is not told of a close that hesitated",
        (
            (
                "dispatch",
                "                self._changed.notify_all()  # it may wait for a close that hesitated until now\n",
                "",
            ),
        ),
        "test_stress_races.py -k unread",
    ),
)
