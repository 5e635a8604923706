"""A graceful end of gunicorn's workers, to be named in its configuration file: `post_worker_init`.

Rank 6, over `closeall`. gunicorn waits for requests that are under way, and cannot end a WebSocket's: without this it
waits as long as it may (`graceful_timeout`) and then drops the connections. See docs/deployment.md.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from .closeall import close_all
from .runtime import Poller, Runtime, current_runtime

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_LOOK = 1.0  # seconds between two looks at a worker that may end by itself: max_requests, or --reload
_PATIENCE = 5.0  # seconds that clients have to answer the Close, if graceful_timeout leaves them so many
_AGAIN = 0.1  # seconds until those are closed that came meanwhile


def post_worker_init(worker: Any) -> None:
    """Close every connection of the worker with 1001 as soon as it is to end, so that it need not wait for them.

    That is on SIGTERM, which the workers get when gunicorn stops (TERM) or reloads (HUP), on SIGINT and SIGQUIT, where
    there is a tenth of a second for it, and when the worker ends by itself.
    """
    runtime = current_runtime()
    bell = Poller(runtime)
    came: list[int] = []
    # Started now: a signal handler must start none, nor take a lock.
    runtime.spawn("syncws-gunicorn", _close_at_the_end, worker, runtime, bell, came)
    for number in _SIGNALS:
        _tell_of(number, bell, came)


def _tell_of(number: int, bell: Poller, came: list[int]) -> None:
    usual = signal.getsignal(number)

    def tell(number: int, frame: FrameType | None) -> None:
        came.append(number)
        bell.ring()
        if callable(usual):
            usual(number, frame)

    signal.signal(number, tell)
    signal.siginterrupt(number, False)  # as gunicorn has it


def _close_at_the_end(worker: Any, runtime: Runtime, bell: Poller, came: list[int]) -> None:
    while worker.alive and not came:
        bell.wait(_LOOK)
    patience = min(_PATIENCE, worker.cfg.graceful_timeout / 2)
    while True:  # until the worker is gone: it may still serve what it has accepted
        close_all(1001, timeout=patience)
        runtime.sleep(_AGAIN)
