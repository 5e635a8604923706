"""Publish/subscribe: which sockets of this process have subscribed to what, and the brokers between processes.

Rank 4, below the connection, which joins and leaves. One registry to a process, for all worlds in it: so the lock that
guards it is the system's, is held for a few statements, and nothing waits under it. It is taken under a connection's
state lock, and under a broker's. Brokers are started and stopped under another one, which is taken first.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from .buffers import Data
from .runtime import Runtime

Deliver = Callable[[str, Data], None]


class Wanted(Protocol):
    """What a broker is to hear of: the topics that somebody of this process is in."""

    def all(self) -> Collection[str]: ...

    def changes(self) -> Mapping[str, bool]:
        """Topics that came (True) or went since the last call of either."""


class Broker(Protocol):
    """Carries topics between processes. Its calls may take a while; they come from any thread."""

    def start(self, wanted: Wanted, deliver: Deliver) -> None:
        """From now on `deliver` what other processes publish under the topics that are `wanted`. Waits for nobody."""

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
        self._lock = _native_lock()
        self._members: dict[str, dict[Any, None]] = {}  # no empty ones
        self._interests: dict[Broker, Interest] = {}  # of equal brokers the first
        self._changing = threading.Lock()  # guards how often each is used, and the starting and stopping of brokers

    def join(self, topic: str, member: Any) -> None:
        with self._lock:
            if topic not in self._members:
                self._members[topic] = {}
                self._note(topic)
            self._members[topic][member] = None

    def leave(self, topics: Iterable[str], member: Any) -> None:
        with self._lock:
            for topic in topics:
                members = self._members.get(topic, {})
                members.pop(member, None)
                if not members and self._members.pop(topic, None) is not None:
                    self._note(topic)

    def _note(self, topic: str) -> None:
        for interest in self._interests.values():
            interest.changed.add(topic)

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
            brokers = list(self._interests)
        for broker in brokers:
            runtime.offload(broker.follow, topic)

    def use(self, broker: Broker, deliver: Deliver) -> None:
        """Follow with this broker, too, until it is as often disused."""
        with self._changing:
            interest = self._interests.get(broker)
            if interest is None:
                interest = Interest(self)
                with self._lock:
                    self._interests[broker] = interest
                try:
                    broker.start(interest, deliver)
                except BaseException:
                    self._lose(broker)
                    raise
            interest.uses += 1

    def disuse(self, broker: Broker) -> None:
        with self._changing:
            interest = self._interests[broker]
            interest.uses -= 1
            if not interest.uses:
                self._lose(broker).stop()

    def _lose(self, broker: Broker) -> Broker:
        """The one of those that are equal that was started."""
        with self._lock:
            used = next(other for other in self._interests if other == broker)
            del self._interests[used]
        return used

    def disinherit(self) -> None:
        """In the child of a fork, where no connection is: nobody is in a topic."""
        self._lock, self._changing = _native_lock(), threading.Lock()
        self._members = {}
        for broker in self._interests:
            broker.disinherit()


class Interest:
    """The `Wanted` of one broker, and by how many servers it is used."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self.uses = 0
        self.changed: set[str] = set()  # guarded by the lock of the topics

    def all(self) -> Collection[str]:
        with self._topics._lock:
            self.changed.clear()
        return self._topics.wanted()  # what changes in between is told once more

    def changes(self) -> Mapping[str, bool]:
        if not self.changed:  # what comes in this moment is seen the next time
            return {}
        with self._topics._lock:
            changed, self.changed = self.changed, set()
            return {topic: topic in self._topics._members for topic in changed}


def _native_lock() -> Any:
    """The system's: of gevent's own, one that two hubs want at once raises whatever it may."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey.get_original("threading", "Lock")() if monkey else threading.Lock()


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
