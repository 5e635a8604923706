"""`reconnect`: an open `Socket` again and again, with growing, jittered delays in between.

Rank 5, over `client`. What is worth another try stands in `is_passing`, how long to wait for it in `Delays` and
`retry_after` (RFC 9110 section 10.2.3).
"""

from __future__ import annotations

import logging
import math
import random
import re
import ssl
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Protocol

import h11

from . import url as _url
from .attendant import attendant_of
from .client import Socket, check_socket_class
from .errors import HandshakeError, ProxyError
from .options import check_count
from .runtime import LOOK, Runtime, current_runtime

logger = logging.getLogger("syncws")

#: Seconds between two looks at whether `stop` is set.
STOP_LOOK = 0.1
#: Seconds the peer has to answer our Close before the connection is dropped.
GRACE = 1.0

# Too slow, too early, too often: the only refusals below 500 that say nothing against the request itself.
_PASSING = {408, 425, 429}
_SAYS_WHEN = {429, 503}
_SECONDS = re.compile(r"[0-9]+")


class StopEvent(Protocol):
    """What ends it all when it is set: an Event of threading or of gevent, or of its kind."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True)
class Delays:
    """How long to wait before each of several attempts in a row, in seconds."""

    min_delay: float
    max_delay: float
    factor: float
    jitter: float

    def __post_init__(self) -> None:
        # At zero seconds a server that is gone would be asked without a pause.
        _check_number("min_delay", self.min_delay, above=0)
        _check_number("max_delay", self.max_delay, least=self.min_delay)
        _check_number("factor", self.factor, least=1)
        _check_number("jitter", self.jitter, least=0, most=1)

    def sequence(self) -> Iterator[float]:
        """`min_delay`, each further one `factor` times the last, to `max_delay`; less a random part, up to `jitter`."""
        delay = self.min_delay
        while True:
            yield delay * (1 - self.jitter * random.random())
            delay = min(delay * self.factor, self.max_delay)


def reconnect(
    url: str,
    protocols: str | list[str] | tuple[str, ...] | None = None,
    *,
    min_delay: float = 1.0,
    max_delay: float = 60.0,
    factor: float = 2.0,
    jitter: float = 0.5,
    stable_after: float = 10.0,
    max_retry_after: float = 600.0,
    max_tries: int | None = None,
    stop: StopEvent | None = None,
    socket_class: type[Socket] = Socket,
    **options: Any,
) -> Generator[Socket, None, None]:
    """Yield an open `Socket`, and another one each time the next is asked for.

    The arguments are those of `Socket`, except `blocking` and `sock`; bad ones raise ValueError or TypeError now. What
    may pass is tried again: an OSError, a TimeoutError, no answer at all, the statuses 408, 425, 429 and from 500 on,
    and a server that a SOCKS proxy does not reach. What will not is raised: any other answer, and errors of TLS.

    The delays, in seconds: min_delay, then each factor times the last, up to max_delay, of which a random part of up
    to jitter (0 to 1) is taken off. After a connection that lasted for stable_after they begin anew. Retry-After of a
    429 or 503, up to max_retry_after, is waited before the delay. max_tries: failures in a row, the last
    of which is raised; None = no end. stop: an Event of threading or gevent; once it is set the socket in use is closed
    with 1001 and nothing more is yielded. socket_class: a subclass of `Socket`.

    The last socket is closed, with 1000, when the next is asked for and when the loop is left.
    """
    check_socket_class(socket_class)
    # For each connection: what can be iterated but once is taken now.
    if isinstance(protocols, Iterator):
        protocols = list(protocols)
    if isinstance(options.get("headers"), Iterator):
        options["headers"] = list(options["headers"])
    for name in ("blocking", "sock"):
        if name in options:
            raise TypeError(f"reconnect() got an unexpected keyword argument {name!r}")
    if stop is not None and not callable(getattr(stop, "is_set", None)):
        raise TypeError(f"stop must be an Event or None, not {stop!r}")
    plan = _Plan(
        url,
        protocols,
        options,
        socket_class,
        Delays(min_delay, max_delay, factor, jitter),
        _check_number("stable_after", stable_after, least=0),
        _check_number("max_retry_after", max_retry_after, least=0),
        None if max_tries is None else check_count("max_tries", max_tries, least=1),
        stop,
    )
    plan.check()
    return plan.connections()


@dataclass(frozen=True)
class _Plan:
    """One call of `reconnect`."""

    url: str
    protocols: str | list[str] | tuple[str, ...] | None
    options: dict[str, Any]
    socket_class: type[Socket]
    delays: Delays
    stable_after: float
    max_retry_after: float
    max_tries: int | None
    stop: StopEvent | None

    def check(self) -> None:
        """Raise what a `Socket` would raise for these arguments, and do not connect."""
        _url.parse(self.url)
        if self.socket_class.__init__ is Socket.__init__:  # another one might do more than that
            unconnected = type("Socket", (self.socket_class,), {"_connect": lambda ws, way: None})
            unconnected(self.url, self.protocols, **self.options)

    def connections(self) -> Generator[Socket, None, None]:
        runtime = self.socket_class._RUNTIME or current_runtime()
        guard = _Guard(runtime, self.stop)
        where = _url.parse(self.url).url.partition("?")[0]  # a query string often holds a secret
        waits, failures = self.delays.sequence(), 0
        try:
            while not guard.stopped():
                try:
                    ws = self._open(guard)
                except (HandshakeError, OSError) as error:
                    if guard.stopped():
                        return
                    failures += 1
                    if not is_passing(error) or failures == self.max_tries:
                        raise
                    wait = min(retry_after(error, time.time()), self.max_retry_after) + next(waits)
                    told = describe(error)
                    logger.warning("no connection to %s: %s; trying again in %.1f s", where, told, wait)
                else:
                    failures, began = 0, time.monotonic()
                    try:
                        yield ws
                    finally:
                        guard.release()
                        ws._end(1001 if guard.stopped() else 1000, GRACE)
                    if guard.stopped():
                        return
                    if time.monotonic() - began >= self.stable_after:
                        waits = self.delays.sequence()
                    wait = next(waits)
                    code = ws.close_code
                    logger.info("the connection to %s ended with %s; the next in %.1f s", where, code, wait)
                guard.pause(wait)
        finally:
            guard.release()

    def _open(self, guard: _Guard) -> Socket:
        # Made in two steps, as a class makes its objects: so `stop` can reach a socket that is being opened.
        ws = self.socket_class.__new__(self.socket_class)
        guard.watch(ws)
        self.socket_class.__init__(ws, self.url, self.protocols, **self.options)
        return ws


class _Guard:
    """Looks whether `stop` is set while somebody waits, connects, or uses a socket.

    By looking, not by waiting for it: that does with every kind of event in both worlds, and takes no thread.
    """

    def __init__(self, runtime: Runtime, stop: StopEvent | None) -> None:
        self._runtime = runtime
        self._stop = stop
        self._ws: Socket | None = None
        self._drop_at: float | None = None  # only the attendant's own thread touches it

    def stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def pause(self, seconds: float) -> None:
        """Sleep, or until `stop` is set."""
        deadline = time.monotonic() + seconds
        while not self.stopped() and (left := deadline - time.monotonic()) > 0:
            self._runtime.sleep(min(left, LOOK if self._stop is None else STOP_LOOK))

    def watch(self, ws: Socket) -> None:
        """End this socket once `stop` is set, whoever is in it."""
        self._ws = ws
        if self._stop is not None:
            self._look_later(ws)

    def release(self) -> None:
        self._ws = None

    def _look_later(self, ws: Socket) -> None:
        attendant_of(self._runtime).call_at(time.monotonic() + STOP_LOOK, partial(self._look, ws))

    def _look(self, ws: Socket) -> None:
        """On the attendant."""
        if self._ws is not ws:
            return
        if self.stopped():
            self._end(ws)
        self._look_later(ws)

    def _end(self, ws: Socket) -> None:
        if ws.request is None:
            return  # its __init__ has not come that far
        if self._drop_at is None:
            self._drop_at = time.monotonic() + GRACE
        if time.monotonic() < self._drop_at:
            ws.close(1001)
        else:
            ws.terminate()


def is_passing(error: Exception) -> bool:
    """Whether it is worth another try; anything but HandshakeError and OSError is not."""
    if isinstance(error, HandshakeError):
        if isinstance(error, ProxyError) and not error._may_pass:
            return False
        if error.status is None:
            # No answer: a server that goes, or comes. One that is not HTTP: another kind of server.
            return not isinstance(error.__cause__, h11.RemoteProtocolError)
        return error.status in _PASSING or error.status >= 500
    if isinstance(error, ssl.SSLError):
        # Certificates, versions, ciphers: nothing that passes. The end of the stream is.
        return isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    return isinstance(error, OSError)


def retry_after(error: Exception, now: float) -> float:
    """The seconds, counted from `now` (time.time), that a 429 or 503 asks us to stay away; 0.0 if it says nothing."""
    response = error.response if isinstance(error, HandshakeError) else None
    if response is None or response.status not in _SAYS_WHEN:
        return 0.0
    text = response.headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    when = _moment(text)
    if when is None:
        return 0.0
    # By the server's clock if it tells the time, for ours may be wrong.
    date = _moment(response.headers.get("Date", ""))
    return max(when - (now if date is None else date), 0.0)


def _moment(text: str) -> float | None:
    """The seconds since 1970 of an HTTP date (RFC 9110 section 5.6.7), None for what is not one."""
    try:
        moment: datetime = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)  # the form of asctime
        return moment.timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def describe(error: Exception) -> str:
    """An error for the log: without what may quote a query string, as the text of a time-out does."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check_number(
    name: str, value: Any, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> float:
    """`value`; TypeError or ValueError unless it is a finite number within these bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not math.isfinite(value) or value < least or value <= above or value > most:
        bounds = [f"at least {least:g}"] * (least > -math.inf) + [f"more than {above:g}"] * (above > -math.inf)
        bounds += [f"at most {most:g}"] * (most < math.inf)
        raise ValueError(f"{name} must be finite, {' and '.join(bounds)}, not {value!r}")
    return value
