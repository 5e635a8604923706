"""`RedisBroker`: topics across processes and hosts, over the Pub/Sub of a Redis server.

Rank 5, over `redis` (extra `redis`), which is imported when a broker is made. A channel has the name of a topic with a
prefix. What goes over it is a `t` (text) or `b` (binary), 16 bytes that tell the sending process, and the data.

    follow(topic): a word on our own channel -> [listener's thread] SUBSCRIBE, confirmed -> follow returns
    publish: PUBLISH, on the caller's thread;  a message -> [listener's thread] deliver
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .buffers import Data
from .options import check_seconds
from .runtime import THREADS, Runtime
from .topics import Deliver, Wanted

logger = logging.getLogger("syncws")

_MOST_CONNECTIONS = 16
_LOOK = 0.2  # seconds between two looks at what is wanted, and at whether it is over
_SILENCE = 10.0  # seconds without a word, after which the Redis is asked for one
_LEAST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds before another attempt
_TEXT, _BINARY = b"t", b"b"
_ID_SIZE = 16


class RedisBroker:
    """Carries what is published between all processes, on all hosts, that have such a broker on the same Redis.

    url: redis://, rediss:// (over TLS) or unix://, as `redis.Redis.from_url` has it. prefix: before the topic, in the
    name of its channel. timeout: seconds that the Redis has for an answer.

    Connects when there is something to do. A message comes at most once: while the Redis is away those of other
    processes are lost, which is logged. Brokers with the same url and prefix are equal, and listen once in a process.

    ValueError for a url that is none, ImportError without the package redis (`pip install 'syncws[redis]'`).
    """

    def __init__(self, url: str, *, prefix: str = "syncws:", timeout: float = 5.0) -> None:
        for name, value in (("url", url), ("prefix", prefix)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {value!r}")
        check_seconds("timeout", timeout)
        self._key = url, prefix
        self._prefix = prefix.encode()
        self._timeout = timeout
        self._redis = _redis()
        self._client = _client(self._redis, url, timeout)
        self._name = _name_of(self._client)
        # Guards what follows; no other lock is taken under it.
        self._lock = threading.Lock()
        self._callbacks: tuple[Wanted, Deliver] | None = None
        self._listener: _Listener | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RedisBroker) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}>"

    # -- what `topics` asks --------------------------------------------------------------------------------------

    def start(self, wanted: Wanted, deliver: Deliver) -> None:
        """See `topics.Broker`."""
        with self._lock:
            self._callbacks = wanted, deliver
        if wanted.all():
            self._listening()

    def follow(self, topic: str) -> None:
        """See `topics.Broker`."""
        listener = self._listening()
        if listener is None or listener.follows(topic):
            return
        self._say(listener.bell, b"")
        if not listener.await_following(topic):
            raise TimeoutError(f"{self._name} did not subscribe to {topic!r} within {self._timeout:g} s")

    def publish(self, topic: str, data: Data) -> None:
        """See `topics.Broker`."""
        kind, payload = (_TEXT, data.encode()) if isinstance(data, str) else (_BINARY, bytes(data))
        self._say(self._prefix + topic.encode(), b"".join((kind, _id(), payload)))

    def stop(self) -> None:
        """See `topics.Broker`."""
        with self._lock:
            listener, self._listener, self._callbacks = self._listener, None, None
        if listener is not None:
            listener.stop()
        with contextlib.suppress(Exception):
            self._client.connection_pool.disconnect(inuse_connections=False)

    def disinherit(self) -> None:
        """See `topics.Broker`."""
        self._lock = threading.Lock()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.disinherit()

    # -- how -----------------------------------------------------------------------------------------------------

    def _say(self, channel: bytes, message: bytes) -> None:
        with self._as_os_errors():
            self._client.publish(channel, message)

    @contextlib.contextmanager
    def _as_os_errors(self) -> Iterator[None]:
        try:
            yield
        except self._redis.TimeoutError as error:
            raise TimeoutError(f"{self._name} did not answer: {error}") from error
        except self._redis.RedisError as error:
            raise ConnectionError(f"{self._name} did not take it: {error}") from error

    def _listening(self) -> _Listener | None:
        """The listener of this process, started if need be; None once stopped."""
        with self._lock:
            if self._callbacks is None:
                return None
            if self._listener is None or not self._listener.is_alive():
                listener = _Listener(self._name, self._client, self._prefix, self._timeout, *self._callbacks)
                listener.start()
                self._listener = listener
            return self._listener


class _Listener:
    """A thread with a connection to the Redis that subscribes to what is wanted.

    What world it is in, gevent's patches decide, as for `redis`.
    """

    def __init__(
        self,
        name: str,
        client: Any,
        prefix: bytes,
        timeout: float,
        wanted: Wanted,
        deliver: Deliver,
    ) -> None:
        self._name = name
        self._client = client
        self._prefix = prefix
        self._timeout = timeout
        self._wanted = wanted
        self._deliver = deliver
        #: the channel on which a message means that something else is wanted now
        self.bell = prefix + b"\xff" + os.urandom(_ID_SIZE)  # of no topic: their names are Unicode
        self._stopped = False
        self._ended = False
        # Guards what follows. The lock of `topics` is taken under it.
        self._changed = threading.Condition()
        self._followed: set[bytes] = set()  # channels that the Redis has confirmed, and that are wanted
        # The thread's own:
        self._asked: set[bytes] = set()  # channels that it was asked for
        self._unconfirmed: Counter[bytes] = Counter()  # how often, without an answer up to now
        self._pubsub: Any = None
        self._away = False
        self._pause = _LEAST_PAUSE

    def start(self) -> None:
        _runtime().spawn("syncws-redis", self._run)

    def is_alive(self) -> bool:
        return not self._ended

    def stop(self) -> None:
        """It takes nothing more, and its thread ends within a moment."""
        self._stopped = True

    def disinherit(self) -> None:
        """In the child of a fork. A greenlet is in the child, too, and ends: its socket is the parent's."""
        self.stop()
        with contextlib.suppress(Exception):
            self._pubsub.connection.disconnect()

    def follows(self, topic: str) -> bool:
        with self._changed:
            return self._channel(topic) in self._followed

    def await_following(self, topic: str) -> bool:
        """False: it did not come to that in time."""
        channel = self._channel(topic)
        with self._changed:
            return self._changed.wait_for(lambda: channel in self._followed, self._timeout)

    def _channel(self, topic: str) -> bytes:
        return self._prefix + topic.encode()

    # -- on the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._go_on()
        finally:
            self._ended = True

    def _go_on(self) -> None:
        while not self._stopped:
            try:
                with self._client.pubsub() as self._pubsub:
                    self._pubsub.subscribe(self.bell)
                    self._listen(self._pubsub)
            except Exception as error:
                if not (self._away or self._stopped):
                    logger.warning("%s is away: what other processes publish is lost (%s)", self._name, error)
                self._away = True
            with self._changed:
                self._followed.clear()
            self._asked = set()
            self._unconfirmed.clear()
            if not self._stopped:
                time.sleep(self._pause)
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _listen(self, pubsub: Any) -> None:
        heard = asked = looked = time.monotonic()
        while True:
            # Waiting for a message, and for the rest of one that has begun, are not the same.
            comes = pubsub.connection.can_read(timeout=_LOOK)
            message = pubsub.get_message(timeout=self._timeout) if comes else None
            if self._stopped:
                return  # another one may listen now, and would deliver it, too
            now = time.monotonic()
            if message is not None:
                heard = now
                self._take(pubsub, message["type"], message["channel"], message["data"])
            elif now - heard > _SILENCE and asked <= heard:
                asked = now
                pubsub.ping()
            elif asked > heard and now - asked > self._timeout:
                raise TimeoutError("no answer to a ping")
            if now - looked > _LOOK and not self._away:
                looked = now
                self._reconcile(pubsub, self._wanted.changes)

    def _take(self, pubsub: Any, kind: str, channel: bytes, data: Any) -> None:
        if channel == self.bell:
            if kind == "subscribe":
                self._came_back()
                self._reconcile(pubsub, lambda: dict.fromkeys(self._wanted.all(), True))
            else:
                self._reconcile(pubsub, self._wanted.changes)
        elif kind == "message":
            self._hand_over(channel, data)
        elif kind == "subscribe":
            self._unconfirmed[channel] -= 1
            if self._unconfirmed[channel] <= 0:
                del self._unconfirmed[channel]
                with self._changed:
                    self._followed |= self._asked & {channel}
                    self._changed.notify_all()

    def _came_back(self) -> None:
        if self._away:
            logger.warning("%s is back", self._name)
        self._away, self._pause = False, _LEAST_PAUSE

    def _reconcile(self, pubsub: Any, changes: Callable[[], Mapping[str, bool]]) -> None:
        """Subscribe to what has come to be wanted, and leave what is no more."""
        with self._changed:
            # In one step: whoever finds a topic followed before it has said that it is wanted before, too.
            changed = {self._channel(topic): wanted for topic, wanted in changes().items()}
            old = {channel for channel, wanted in changed.items() if not wanted} & self._asked
            self._followed -= old
        new = {channel for channel, wanted in changed.items() if wanted} - self._asked
        self._asked -= old
        self._asked |= new
        if new:
            self._unconfirmed.update(new)
            pubsub.subscribe(*new)
        if old:
            pubsub.unsubscribe(*old)

    def _hand_over(self, channel: bytes, message: bytes) -> None:
        kind, sender, payload = message[:1], message[1 : 1 + _ID_SIZE], message[1 + _ID_SIZE :]
        if sender == _id():
            return  # those of this process have it
        if kind not in (_TEXT, _BINARY) or len(sender) < _ID_SIZE:
            logger.error("a message that came over %r is dropped: expected t or b, 16 bytes and the data", channel)
            return
        try:
            data = payload.decode() if kind == _TEXT else payload
        except UnicodeDecodeError:
            logger.error("a message that came over %r is dropped: expected text in UTF-8", channel)
            return
        self._deliver(channel[len(self._prefix) :].decode(), data)


# -- the Redis ---------------------------------------------------------------------------------------------------


def _runtime() -> Runtime:
    """The world of its calls that block: greenlets as soon as gevent has patched threads."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return THREADS
    from .greenlets import GREENLETS

    return GREENLETS


def _redis() -> Any:
    try:
        return importlib.import_module("redis")  # only now: nobody else needs it, and it need not be there
    except ImportError as error:
        raise ImportError("a RedisBroker needs the package redis: pip install 'syncws[redis]'") from error


def _client(redis: Any, url: str, timeout: float) -> Any:
    """A client that tries once: who asked is told. ValueError for a url that is none."""
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=_MOST_CONNECTIONS,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        socket_keepalive=True,
        protocol=2,
        retry=importlib.import_module("redis.retry").Retry(importlib.import_module("redis.backoff").NoBackoff(), 0),
    )
    pool.connection_kwargs["decode_responses"] = False  # whatever the url says
    if "path" in pool.connection_kwargs:
        del pool.connection_kwargs["socket_keepalive"]  # of TCP
    return redis.Redis(connection_pool=pool)


def _name_of(client: Any) -> str:
    """For messages; without user and password."""
    found = client.connection_pool.connection_kwargs
    if "path" in found:
        return f"the Redis at {found['path']}"
    return f"the Redis at {found.get('host', 'localhost')}:{found.get('port', 6379)}"


# -- processes ---------------------------------------------------------------------------------------------------

_ids: dict[int, bytes] = {}


def _id() -> bytes:
    """Tells this process from all others, everywhere; the child of a fork is another."""
    pid = os.getpid()
    return _ids.get(pid) or _ids.setdefault(pid, os.urandom(_ID_SIZE))
