"""Threads (greenlets) that are struck down at a random moment: KeyboardInterrupt, GreenletExit, gevent.Timeout."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any

import world

if world.GREEN:
    import gevent


class Victim:
    """Runs `function` until it ends or is struck; at most once."""

    def __init__(self, name: str, function: Any) -> None:
        self.name = name
        self.error: BaseException | None = None  # what ended it, other than a strike
        self.struck = False
        self._released = False
        self._function = function
        if world.GREEN:
            self._greenlet = gevent.spawn(self._run)
        else:
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except Exception as error:
            self.error = error
        except BaseException:
            self.struck = True
        finally:
            # A thread that has gone may have left its number to another, which must not be struck in its place.
            while not self._released and not world.GREEN:
                time.sleep(0.0002)

    def strike(self, timeout: bool = False) -> None:
        """Raise something in it, wherever it is. Greenlets: gevent.Timeout or GreenletExit."""
        if world.GREEN:
            error = gevent.Timeout() if timeout else gevent.GreenletExit
            self._greenlet.kill(error, block=False)
        else:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
            )

    def ended(self, deadline: float) -> bool:
        self._released = True
        left = max(deadline - time.monotonic(), 0.001)
        if world.GREEN:
            self._greenlet.join(left)
            return self._greenlet.dead
        self._thread.join(left)
        return not self._thread.is_alive()
