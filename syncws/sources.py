"""Where a server's connections come from: sockets that listen, another's HTTP server, or nobody but the user.

Rank 5. Each begins, stops, and says when it has stopped; `Server` does not know which it has.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from .attach import Attachment
from .doorway import Doorway
from .exchange import Request
from .listen import Acceptor, close_listeners, listen
from .runtime import Runtime

Ended = Callable[[], None]


class Source(Protocol):
    """What `Server` needs of it. `ended` is called once, when nothing more will come."""

    def address(self) -> Any:
        """What clients connect to; RuntimeError if that is not known here."""

    def start(self) -> None:
        """Once. Raises RuntimeError if there is no thread to be had."""

    def stop(self) -> None:
        """Soon."""

    def interrupt(self) -> None:
        """In a signal handler: stop soon if that takes no lock; who waits for the signal does it then."""

    def abandon(self) -> None:
        """Instead of `stop`, if it was never started."""

    def is_current(self) -> bool:
        """Whether the caller runs on what `stop` ends."""

    def disinherit(self) -> None:
        """In the child of a fork: leave it to the parent."""


class Place(NamedTuple):
    """Where to listen; see `listen`."""

    host: str | None
    port: int | None
    unix: str | None
    sock: socket.socket | None
    backlog: int
    reuse_port: bool


class Listening:
    """Sockets of our own, and the loop that accepts from them."""

    def __init__(
        self,
        runtime: Runtime,
        place: Place,
        take: Callable[[socket.socket, Any], bool],
        ended: Ended,
        failed: Callable[[OSError], None],
    ) -> None:
        self._listeners, self._unlink = listen(runtime, *place)
        self._address: Any = self._listeners[0].getsockname()
        self._ended = ended
        self._acceptor = Acceptor(runtime, self._listeners, take, self._leave, ended, failed)

    def address(self) -> Any:
        return self._address

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        self._acceptor.stop()

    interrupt = stop

    def abandon(self) -> None:
        self._leave()
        self._ended()

    def is_current(self) -> bool:
        return self._acceptor.is_current()

    def disinherit(self) -> None:
        self._unlink = lambda: None
        self._acceptor.disinherit()

    def _leave(self) -> None:
        # In this order: the number of a file that is gone may be that of another's at once.
        self._unlink()
        close_listeners(self._listeners)


class _Passive:
    """Nothing runs for it, and nothing of it has to end in the child of a fork."""

    def start(self) -> None:
        pass

    def is_current(self) -> bool:
        return False

    def interrupt(self) -> None:
        pass

    def disinherit(self) -> None:
        pass


class Attached(_Passive):
    """Another's HTTP server, from which upgrades are taken as long as this lasts."""

    def __init__(
        self, server: Any, doorway: Doorway, wants: Callable[[Request], bool], claim: object, ended: Ended
    ) -> None:
        self._attachment = Attachment(server, doorway, wants, claim)
        self._ended = ended
        self._attachment.attach()

    def address(self) -> Any:
        return self._attachment.address()

    def stop(self) -> None:
        if self._attachment.detach():
            self._ended()

    abandon = stop


class Fed(_Passive):
    """Nothing by itself: the user hands connections over, one by one."""

    def __init__(self, ended: Ended) -> None:
        self._ended = ended
        self._stopped = False

    def address(self) -> Any:
        raise RuntimeError("a server with no_server=True has no address")

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._ended()

    abandon = stop


def check_place(port: object, unix: object, sock: object, server: object, no_server: bool, host: object) -> None:
    """TypeError unless there is exactly one, with what goes with it."""
    places = {"port": port, "unix": unix, "sock": sock, "server": server, "no_server": no_server or None}
    given = [name for name, place in places.items() if place is not None]
    if len(given) != 1:
        came = " and ".join(given) or "none"
        raise TypeError(f"exactly one of {', '.join(places)} must be given, not {came}")
    if host is not None and port is None:
        raise TypeError(f"host goes with port, not with {given[0]}")


def check_unused(**arguments: object) -> None:
    """TypeError for what is a matter of our own listening sockets, and would have no effect."""
    for name, value in arguments.items():
        if value is not None:
            raise TypeError(f"{name} goes with port, unix or sock: with server or no_server it is up to who accepts")
