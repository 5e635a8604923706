"""The part of `Server` that speaks to many: `clients`, `broadcast`, `publish`.

Rank 5, over `broadcast` and `topics`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from .broadcast import Broadcast
from .buffers import Data, as_bytes
from .client import Socket
from .events import EventTarget
from .options import check_bool, check_count
from .runtime import Lock, Runtime
from .topics import Broker, check_broker, check_topic, topics
from .worlds import do_for


class Publishing(EventTarget):
    """The base of `Server`, which sets the rest of what it needs."""

    _runtime: Runtime
    _lock: Lock  # guards whether the broker is used

    def __init__(self, client_tracking: bool, max_backlog: int, broker: Broker | None) -> None:
        super().__init__()
        self._client_tracking = check_bool("client_tracking", client_tracking)
        self._max_backlog = check_count("max_backlog", max_backlog)
        self._broker = check_broker(broker)
        self._uses_broker = False
        # The open ones; a socket leaves it when CLOSED, without a lock. `list` takes all in one step, GIL or not.
        self._registry: dict[Socket, None] = {}

    @property
    def clients(self) -> set[Socket]:
        """The sockets until they are CLOSED: a copy, safe to iterate while they come and go.

        Empty without `client_tracking`.
        """
        return {*list(self._registry)} if self._client_tracking else set()

    def broadcast(self, data: Data, *, to: Iterable[Socket] | None = None) -> None:
        """Send one message to all `clients`, or to those given; it is framed, and compressed, once.

        Waits for nobody: what a slow client does not take is queued for it, one message or up to `max_backlog` bytes;
        beyond them it is closed with 1013. Who is not open, or has no binary, is passed over. RuntimeError with neither
        `to` nor `client_tracking`; TypeError, or ValueError for a client's socket, before anything is sent.
        """
        if to is None and not self._client_tracking:
            raise RuntimeError("expected `to`, for there is no client_tracking")
        Broadcast(data).send(list(self._registry) if to is None else to, self._max_backlog)

    def publish(self, topic: str, data: Data) -> None:
        """Send one message to every socket of this process that has subscribed to `topic`, whosever it is.

        As `broadcast` does; may be called from any thread. With a `broker` also to those of all other processes:
        OSError if that cannot be, and those of this process have it then. TypeError, ValueError before anything is
        sent.
        """
        if not isinstance(data, (str, bytes)) and (view := as_bytes(data)) is not None:
            data = bytes(view)  # for another hub, which sends it later
        deliver(check_topic(topic), Broadcast(data), self._max_backlog)
        if self._broker is not None:
            self._runtime.offload(self._broker.publish, topic, data)

    def _use_broker(self) -> None:
        if self._broker is not None:
            self._uses_broker = True
            topics().use(self._broker, partial(_deliver_data, max_backlog=self._max_backlog))

    def _disuse_broker(self) -> None:
        with self._lock:
            used, self._uses_broker = self._uses_broker, False
        if used and self._broker is not None:
            topics().disuse(self._broker)


def deliver(topic: str, message: Broadcast, max_backlog: int) -> None:
    """Post it to the subscribed sockets of this process, in whatever world they are."""
    do_for(topics().members(topic), partial(message.send, max_backlog=max_backlog))


def _deliver_data(topic: str, data: Data, max_backlog: int) -> None:
    deliver(topic, Broadcast(data), max_backlog)
