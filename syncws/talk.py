"""The command `connect`: what is typed or piped in goes to a server, what comes from there is printed.

Rank 6, over Socket. Each message is one line, and no control character of the server's gets out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import ssl
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from . import url as _url
from .client import Socket
from .errors import ConnectionClosed, HandshakeError
from .incoming import CLEAN_CODES

_QUIET = 0.2  # seconds without a message, after which the replies are in
_SHOWN_BYTES = 32
_PROMPT = "> "
_NO_UTF8 = "the input is not UTF-8"
# What a terminal makes of it, ECMA-48 SGR: text in cyan, binary in magenta, what we say ourselves faint.
_TEXT, _BINARY, _NOTE = "36", "35", "2"
# Controls, line separators, marks that turn the direction of writing, and halves of surrogate pairs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """`text` on one line, harmless to a terminal: control characters and their kin as escapes."""
    return _UNSAFE.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


def shown(message: str | bytes) -> str:
    """A message as it is printed: text as it is, of binary its size and its beginning."""
    if isinstance(message, str):
        return visible(message)
    dots = " …" if len(message) > _SHOWN_BYTES else ""
    return f"<binary, {len(message)} bytes: {message[:_SHOWN_BYTES].hex(' ')}{dots}>"


def say(line: str) -> None:
    """One line on stdout, at once."""
    print(line, flush=True)


def complain(line: str) -> int:
    """One line on stderr; returns the status of a command that failed."""
    if sys.stderr is not None:  # print would take stdout
        print(f"syncws: {visible(line)}", file=sys.stderr, flush=True)
    return 1


def reason_of(error: OSError) -> str:
    """What the system says is wrong, without number and address."""
    if isinstance(error, ssl.SSLError) or not error.errno:
        return str(error)
    text = os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return f"{error.filename}: {text}" if error.filename else text


def run(options: argparse.Namespace) -> int:
    """`connect`: returns the exit status."""
    try:
        ws = _connect(options)
    except (OSError, HandshakeError, ValueError) as error:
        return _failed(_explained(error, options.url), options.json)
    talk = _Talk(ws, options.timeout)
    try:
        if options.text is not None:
            talk.exchange(options.text)
        elif all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
            talk.interact()
        else:
            talk.exchange(_lines_of_stdin())
        return talk.report(options.json)
    finally:
        ws.terminate()  # nothing, unless something went wrong


def _connect(options: argparse.Namespace) -> Socket:
    return Socket(
        options.url,
        options.subprotocol,
        headers=[_header(text) for text in options.header],
        handshake_timeout=options.timeout,
        close_timeout=options.timeout,
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError("a header looks like 'Name: value'")
    return name.strip(), value.strip()


def _explained(error: Exception, url: str) -> str:
    if isinstance(error, UnicodeEncodeError):
        return _NO_UTF8
    if isinstance(error, OSError) and not (isinstance(error, TimeoutError) and not error.errno):
        return f"cannot connect to {_url.parse(url).url}: {reason_of(error)}"
    if isinstance(error, HandshakeError) and error.response is not None and error.response.body:
        why = error.response.body.decode("utf-8", "replace").strip().partition("\n")[0]
        return f"{error}: {why[:200]}"
    return str(error)


def _failed(line: str, as_json: bool) -> int:
    status = complain(line)
    if as_json:
        say_json({"error": line})
    return status


def say_json(value: dict[str, Any]) -> None:
    # Beyond ASCII all is escaped; DEL is the one control character that JSON lets through.
    say(json.dumps(value).replace("\x7f", "\\u007f"))


def _lines_of_stdin() -> Iterator[str]:
    # Not by way of sys.stdin: the interpreter cannot end while another thread waits inside its buffer.
    if sys.stdin is None:
        return
    begun: list[bytes] = []  # the pieces of a line, which may be long
    while data := os.read(sys.stdin.fileno(), 1 << 16):
        first, *more = data.split(b"\n")
        begun.append(first)
        for piece in more:
            yield b"".join(begun).decode().removesuffix("\r")
            begun = [piece]
    if rest := b"".join(begun):
        yield rest.decode()


class _Talk:
    """One connection, from its opening to the report of how it ended."""

    def __init__(self, ws: Socket, timeout: float) -> None:
        self._ws = ws
        self._timeout = timeout
        self._sent = 0  # the sending thread's own
        self._changed = threading.Condition()  # guards the next
        self._received = 0
        self._input_error = ""
        self._leaving = False  # interactive: nobody is at the prompt any more
        self._pinged: set[bytes] = set()  # interactive: payloads of pings that were asked for
        self._interrupted = False
        self._errors: list[BaseException] = []
        self._closings: list[Any] = []
        ws.onerror = lambda event: self._errors.append(event.error)
        ws.onclose = self._closed

    def _closed(self, event: Any) -> None:
        self._closings.append(event)

    # -- from a file or a pipe -----------------------------------------------------------------------------

    def exchange(self, lines: Iterable[str]) -> None:
        """Send `lines` from a thread of their own, print what comes, and close when the replies are in."""
        threading.Thread(target=self._send_all, args=(lines,), daemon=True).start()
        try:
            while True:
                message = self._ws.recv()
                say(shown(message))
                with self._changed:
                    self._received += 1
                    self._changed.notify_all()
        except ConnectionClosed:
            self._finish()
        except KeyboardInterrupt:
            self._interrupted = True
            self._ws.close(1000)
            self._finish()

    def _send_all(self, lines: Iterable[str]) -> None:
        with contextlib.suppress(ConnectionClosed):
            try:
                for line in lines:
                    self._ws.send(line)
                    self._sent += 1
                self._await_replies()
            except UnicodeError:
                self._input_error = _NO_UTF8
            except OSError as error:
                self._input_error = f"cannot read the input: {reason_of(error)}"
            self._ws.close(1000)

    def _await_replies(self) -> None:
        """Until as many messages came as were sent, and no further one for a moment."""
        deadline = time.monotonic() + self._timeout
        with self._changed:
            self._changed.wait_for(lambda: 0 < self._sent <= self._received, self._timeout)
            seen = -1
            while seen != self._received and time.monotonic() < deadline:
                seen = self._received
                self._changed.wait(_QUIET)

    def _finish(self) -> None:
        try:
            if not self._ws.wait_closed(self._timeout):
                self._ws.terminate()
                self._ws.wait_closed(1)
        except KeyboardInterrupt:
            self._interrupted = True
            self._ws.terminate()
            self._ws.wait_closed(1)

    # -- at a terminal ---------------------------------------------------------------------------------------

    def interact(self) -> None:
        """Prompt for lines to send, until Ctrl-D or Ctrl-C; `/ping` and `/close` are commands."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (editing and history for input())
        ws = self._ws
        say(_coloured(_NOTE, f"connected to {visible(ws.url)}; /ping, /close [CODE [REASON]], Ctrl-D to leave"))
        ws.onmessage = self._show
        ws.onpong = self._tell_pong
        ws.addEventListener("close", self._leave_prompt)
        usual = signal.signal(signal.SIGINT, self._interrupt)
        try:
            with contextlib.suppress(EOFError, KeyboardInterrupt, ConnectionClosed):
                self._prompt()
            ws.close(1000)
            self._finish()
        finally:
            signal.signal(signal.SIGINT, usual)
        self._interrupted = False
        say("")

    def _prompt(self) -> None:
        try:
            while self._ws.readyState == self._ws.OPEN:
                self._obey(input(_PROMPT))
        finally:
            self._leaving = True

    def _interrupt(self, number: int, frame: Any) -> None:
        """Ctrl-C, or `_leave_prompt`; a second one counts only while the server is still waited for."""
        if self._leaving and self._ws.readyState == self._ws.CLOSED:
            return
        self._leaving = True
        raise KeyboardInterrupt

    def _obey(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        try:
            if command == "/ping":
                self._pinged.add(rest.encode())
                self._ws.ping(rest)
            elif command == "/close":
                code, _, reason = rest.partition(" ")
                if code and not code.isdecimal():
                    raise ValueError(f"/close must be followed by a number, or by nothing, not by {code!r}")
                self._ws.close(int(code) if code else 1000, reason)
            else:
                self._ws.send(line)
        except UnicodeEncodeError:
            complain(_NO_UTF8)
        except ValueError as error:
            complain(str(error))

    def _show(self, event: Any) -> None:
        colour = _TEXT if isinstance(event.data, str) else _BINARY
        _say_above_prompt(f"< {_coloured(colour, shown(event.data))}")

    def _tell_pong(self, event: Any) -> None:
        # Those of the keepalive are not worth a line.
        if event.data in self._pinged:
            _say_above_prompt(_coloured(_NOTE, f"pong after {(self._ws.latency or 0) * 1000:.1f} ms"))

    def _leave_prompt(self, event: Any) -> None:
        # Only a signal gets the main thread out of input(), and not one that comes just before it waits.
        while not self._leaving:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.1)

    # -- the end ---------------------------------------------------------------------------------------------

    def report(self, as_json: bool) -> int:
        """Say how it ended, where that is asked for or is no good; the exit status."""
        if self._input_error:
            return _failed(self._input_error, as_json)
        event = self._closings[0] if self._closings else None
        closed = ConnectionClosed(event.code, event.reason, event.wasClean) if event else ConnectionClosed()
        good = closed.code in CLEAN_CODES
        if not good and not self._interrupted:
            complain(f"the server broke the protocol: {self._errors[0]}" if self._errors else str(closed))
        if as_json:
            say_json({"code": closed.code, "reason": closed.reason, "clean": closed.wasClean})
        if self._interrupted:
            return 130
        return 0 if good else 1


def _coloured(colour: str, line: str) -> str:
    """For a terminal, unless its user has no colours or wants none (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return line
    return f"\x1b[{colour}m{line}\x1b[0m"


def _say_above_prompt(line: str) -> None:
    """Print a line above the prompt, and what has been typed there again."""
    readline = sys.modules.get("readline")
    typed = readline.get_line_buffer() if readline else ""
    sys.stdout.write(f"\r\x1b[K{line}\n{_PROMPT}{typed}")
    sys.stdout.flush()
