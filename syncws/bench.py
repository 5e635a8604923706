"""The command `bench`: a load generator, which says how many messages a server answers, and how soon.

Rank 6, over Socket, by its public names only. Each connection is a thread: it sends a message and waits for the answer.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .client import Socket
from .errors import WebSocketError
from .talk import complain, reason_of, say, say_json

_PATIENCE = 10.0  # seconds for an answer
_LOOK = 0.1  # seconds between two looks at how far it is
_BAR = 30  # characters
_FINE = 128  # classes of time, for each doubling: half a per cent
_PERCENTILES = (50, 90, 99, 99.9)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    add = parser.add_argument
    add("--url", metavar="URL", help="a server that echoes (default: one of our own, for the time being)")
    add("--connections", type=_count, metavar="N", default=10, help="at once (default: %(default)s)")
    add("--seconds", type=_amount, metavar="S", default=5.0, help="how long (default: %(default)g)")
    add("--rate", type=_amount, metavar="R", help="messages per second, of all together (default: all they can)")
    add("--size", type=_size, metavar="B", default=32, help="bytes of a message (default: %(default)s)")
    add("--binary", action="store_true", help="binary messages, not text")
    add("--compression", action="store_true", help="offer permessage-deflate")
    add("--json", action="store_true", help="the result as a line of JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """`bench`: returns the exit status."""
    with contextlib.nullcontext(options.url) if options.url else _server_of_our_own() as url:
        load = Load(url, options)
        with contextlib.suppress(KeyboardInterrupt):  # then what was measured is told all the same
            load.run()
        load.stop()
    return load.report(options.json)


@contextlib.contextmanager
def _server_of_our_own() -> Iterator[str]:
    """The URL of an echo server in a process of its own."""
    command = [sys.executable, "-m", "syncws", "serve", "--port", "0", "--compression"]
    # Out of reach of a Ctrl-C at the terminal, which is for us alone.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            if not line:
                raise OSError("the server that was to be measured did not start")
            yield line.strip().removeprefix("listening on ")
        finally:
            process.terminate()


class Load:
    """Connections that send and wait for the answers, for a while."""

    def __init__(self, url: str, options: argparse.Namespace) -> None:
        self._url = url
        self._options = options
        self._message: str | bytes = bytes(options.size) if options.binary else "x" * options.size
        self._stopped = False
        self._began = 0.0
        self._lasted = 0.0
        self._lock = threading.Lock()  # guards what follows
        self._begun = 0  # connections that are open, or failed before
        self._problems: list[str] = []
        self._clients = [_Client() for _ in range(options.connections)]

    def run(self) -> None:
        """Connect all, let them talk, and wait for them."""
        start = threading.Event()
        threads = [
            threading.Thread(target=self._converse, args=(client, number, start), daemon=True)
            for number, client in enumerate(self._clients)
        ]
        for count, thread in enumerate(threads):
            try:
                thread.start()
            except RuntimeError as error:
                self._problems += [str(error)] * (len(threads) - count)
                del threads[count:]
                break
        while self._begun < len(threads):
            time.sleep(0.001)
        self._began = time.monotonic()
        start.set()
        while any(thread.is_alive() for thread in threads):
            self._show_progress()
            time.sleep(_LOOK)

    def stop(self) -> None:
        """No more; the time counts until the last answer."""
        self._stopped = True
        self._lasted = max([client.seen - self._began for client in self._clients if client.answered], default=0.0)
        self._clear_progress()

    def _converse(self, client: _Client, number: int, start: threading.Event) -> None:
        """One connection, on its own thread."""
        try:
            ws = self._connect()
            if ws is not None:
                start.wait()
                with ws:
                    self._exchange(client, number, ws)
        except (OSError, WebSocketError) as error:
            self._note(error)

    def _connect(self) -> Socket | None:
        ws = None
        try:
            ws = Socket(self._url, compression=self._options.compression)
        except (OSError, WebSocketError, ValueError, RuntimeError) as error:
            self._note(error)
        finally:
            with self._lock:
                self._begun += 1
        return ws

    def _note(self, error: Exception) -> None:
        if self._stopped:
            return  # it ended because we did
        with self._lock:
            self._problems.append(reason_of(error) if isinstance(error, OSError) else str(error))

    def _exchange(self, client: _Client, number: int, ws: Socket) -> None:
        message, end = self._message, self._began + self._options.seconds
        pause = self._options.connections / self._options.rate if self._options.rate else 0.0
        due = self._began + pause * number / self._options.connections
        while not self._stopped and time.monotonic() < end:
            if pause:
                time.sleep(max(min(due, end) - time.monotonic(), 0.0))
                due += pause
            sent = time.perf_counter()
            ws.send(message, timeout=_PATIENCE)
            answer = ws.recv(timeout=_PATIENCE)
            client.note(time.perf_counter() - sent, answer == message)

    # -- what came of it -------------------------------------------------------------------------------------

    def _answered(self) -> int:
        return sum(client.answered for client in self._clients)

    def _show_progress(self) -> None:
        if not _is_watched():
            return
        gone = min(time.monotonic() - self._began, self._options.seconds)
        done = int(_BAR * gone / self._options.seconds)
        rate = self._answered() / gone if gone else 0.0
        bar = "#" * done + "." * (_BAR - done)
        line = f"\r[{bar}] {gone:.1f} of {self._options.seconds:g} s, {rate:.0f}/s "
        print(line, end="", file=sys.stderr, flush=True)

    def _clear_progress(self) -> None:
        if _is_watched():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def report(self, as_json: bool) -> int:
        """Tell the result; returns the exit status."""
        times: Counter[int] = Counter()
        for client in self._clients:
            times.update(dict(client.times))  # a copy, for it may still be at work
        answered, wrong = self._answered(), sum(client.wrong for client in self._clients)
        latency = {f"p{share:g}": _percentile(times, share) for share in _PERCENTILES}
        latency["max"] = max((client.slowest for client in self._clients), default=0.0)
        rate = answered / self._lasted if self._lasted else 0.0
        problems = [f"{wrong} answers were not what was sent"] if wrong else []
        if self._problems:
            failed = f"{len(self._problems)} of {len(self._clients)} connections failed"
            problems.append(f"{failed}: {self._problems[0]}")
        if as_json:
            milliseconds = {name: round(1000 * value, 4) for name, value in latency.items()}
            counts: dict[str, Any] = {"connections": len(self._clients), "seconds": round(self._lasted, 3)}
            say_json({"url": self._url, **counts, "messages": answered, "rate": round(rate, 1),
                      "latency_ms": milliseconds, "problems": problems})  # fmt: skip
        else:
            say(f"{self._url}, connections: {len(self._clients)}, bytes of a message: {self._options.size}")
            say(f"messages: {answered} in {self._lasted:.1f} s, {rate:.0f} per second")
            say("latency in ms: " + ", ".join(f"{name} {1000 * value:.3f}" for name, value in latency.items()))
        for problem in problems:
            complain(problem)
        return 1 if problems else 0


class _Client:
    """What one connection has seen; its thread's alone until that has ended."""

    def __init__(self) -> None:
        self.answered = 0
        self.wrong = 0
        self.slowest = 0.0
        self.seen = 0.0  # the last answer, in time.monotonic
        self.times: Counter[int] = Counter()  # by classes, for the run may be long

    def note(self, seconds: float, right: bool) -> None:
        self.answered += 1
        self.wrong += not right
        self.slowest = max(self.slowest, seconds)
        self.seen = time.monotonic()
        self.times[int(_FINE * math.log2(seconds * 1e9 + 1))] += 1


def _percentile(times: Counter[int], share: float) -> float:
    """Seconds that `share` per cent did not exceed, 0.0 if there were none."""
    left = math.ceil(times.total() * share / 100)
    for kind in sorted(times):
        left -= times[kind]
        if left <= 0:
            return float(2 ** ((kind + 0.5) / _FINE) - 1) / 1e9
    return 0.0


def _is_watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


# -- the arguments --------------------------------------------------------------------------------------------


def _amount(text: str) -> float:
    with contextlib.suppress(ValueError):
        amount = float(text)
        if 0 < amount <= 1e6:
            return amount
    raise argparse.ArgumentTypeError(f"expected a number above 0 and up to a million, got {text!r}")


def _whole(text: str, least: int, most: int) -> int:
    with contextlib.suppress(ValueError):
        number = int(text)
        if least <= number <= most:
            return number
    raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r}")


def _count(text: str) -> int:
    return _whole(text, 1, 20_000)


def _size(text: str) -> int:
    return _whole(text, 0, 1 << 26)
