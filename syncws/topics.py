"""Publish/subscribe: which sockets of this process have subscribed to what, and the brokers between processes.

Rank 4, below the connection, which joins and leaves. One registry to a process. Its lock guards all of it and is held
for a few statements; it is taken under a connection's state lock, and the lock of a broker under it, not the other way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .buffers import Data
from .runtime import Runtime

Deliver = Callable[[str, Data], None]


class Broker(Protocol):
    """Carries topics between processes. Its calls may take a while; they come from any thread."""

    def start(self, wanted: Callable[[], Iterable[str]], deliver: Deliver) -> None:
        """From now on `deliver` what other processes publish under the topics that are `wanted`.

        As `stop`, it waits for nobody, and calls neither: a lock is held that they take.
        """

    def follow(self, topic: str) -> None:
        """Return once everything that others publish under a wanted topic comes here. OSError if that cannot be."""

    def publish(self, topic: str, data: Data) -> None:
        """Hand a message to all other processes, and to none of this one. OSError if that cannot be."""

    def stop(self) -> None:
        """Deliver nothing more."""

    def disinherit(self) -> None:
        """In the child of a fork: leave the parent's connections alone; some of its own are made when there is need."""


class Topics:
    """Who is in which topic, and the brokers in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[str, dict[Any, None]] = {}  # no empty ones
        self._brokers: dict[Broker, int] = {}  # by how many servers each is used; of equal ones the first

    def join(self, topic: str, member: Any) -> None:
        with self._lock:
            self._members.setdefault(topic, {})[member] = None

    def leave(self, topics: Iterable[str], member: Any) -> None:
        with self._lock:
            for topic in topics:
                members = self._members.get(topic, {})
                members.pop(member, None)
                if not members:
                    self._members.pop(topic, None)

    def members(self, topic: str) -> list[Any]:
        with self._lock:
            return list(self._members.get(topic, ()))

    def wanted(self) -> list[str]:
        """The topics that somebody is in."""
        with self._lock:
            return list(self._members)

    # -- other processes -----------------------------------------------------------------------------------------

    def follow(self, topic: str, runtime: Runtime) -> None:
        """Return once what other processes publish there comes here. OSError if a broker cannot see to that."""
        with self._lock:
            brokers = list(self._brokers)
        for broker in brokers:
            runtime.offload(broker.follow, topic)

    def use(self, broker: Broker, deliver: Deliver) -> None:
        """Follow with this broker, too, until it is as often disused."""
        with self._lock:
            if broker not in self._brokers:
                broker.start(self.wanted, deliver)
            self._brokers[broker] = self._brokers.get(broker, 0) + 1

    def disuse(self, broker: Broker) -> None:
        with self._lock:
            used = next(other for other in self._brokers if other == broker)
            self._brokers[used] -= 1
            if not self._brokers[used]:
                del self._brokers[used]
                used.stop()

    def disinherit(self) -> None:
        """In the child of a fork, where no connection is: nobody is in a topic."""
        self._lock = threading.Lock()
        self._members = {}
        for broker in self._brokers:
            broker.disinherit()


# Made when first asked for: what is made when a module is imported is not patched by gevent.
_registries: dict[str, Topics] = {}


def topics() -> Topics:
    """The registry of this process."""
    found = _registries.get("process")
    return found if found is not None else _registries.setdefault("process", Topics())


def check_topic(topic: str) -> str:
    """TypeError for what is no str, ValueError for what is not Unicode."""
    if not isinstance(topic, str):
        raise TypeError(f"topic must be a str, not {topic!r}")
    topic.encode()
    return topic


def check_broker(broker: Broker | None) -> Broker | None:
    """`broker`; TypeError for what cannot carry topics."""
    if broker is None or all(callable(getattr(broker, name, None)) for name in _CALLS):
        return broker
    raise TypeError(f"broker must have {', '.join(_CALLS)}, as RedisBroker, not {broker!r}")


_CALLS = ("start", "follow", "publish", "stop", "disinherit")


def _forget_after_fork() -> None:
    for registry in _registries.values():
        registry.disinherit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
