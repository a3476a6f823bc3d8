"""What the primaries tell of the watched keys, in the order in which it happened.

A thread reads each primary's subscription; one queue holds what they heard. A *mark* is a PING on the
subscriptions themselves: what is read after its answer happened later than what was asked of Redis before.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from redis import exceptions as redis_errors

from celery_redis_expiry.connections import Primary
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import new_token, text

#: How many events are handed over at once at most, and how many such heaps wait: Redis keeps the rest, and
#: cuts a subscriber off that falls too far behind.
HEAP = 500
HEAPS = 100
#: Seconds of a wait for events, and so for a stop.
PATIENCE = 0.5
#: Seconds to wait until every primary has confirmed the subscription.
OPENING = 10.0
#: Seconds of silence after which a primary is asked for a sign of life, and how long it has for it.
PING_AFTER = 30.0
PONG_WITHIN = 5.0


class Heard(NamedTuple):
    """An event of a key: what happened, in Redis's own word for it."""

    kind: str
    key: bytes


class _Mark(NamedTuple):
    token: str


class _Reader(threading.Thread):
    """Reads one primary's subscription until it is lost or closed."""

    def __init__(
        self, primary: Primary, pattern: bytes | None, prefix: bytes, heaps: queue.Queue[Any]
    ) -> None:
        super().__init__(name="expiry-watch-reader", daemon=True)
        self.ready = threading.Event()
        client: Any = primary.client(retries=0)
        self._client, self._pubsub = client, client.pubsub()
        self._pattern = pattern
        self._prefix = prefix
        self._heaps = heaps
        self._closed = threading.Event()
        self._heard = self._asked = 0.0

    def ping(self, token: str) -> None:
        """May be called by another thread: sending and reading don't meet."""
        self._pubsub.ping(token)

    def add(self, keys: Sequence[bytes]) -> None:
        """Subscribe to further keys; may be called by another thread."""
        for start in range(0, len(keys), HEAP):
            self._pubsub.subscribe(*(self._prefix + key for key in keys[start : start + HEAP]))

    def drop(self, keys: Sequence[bytes]) -> None:
        """Subscribe to these no more; may be called by another thread."""
        for start in range(0, len(keys), HEAP):
            self._pubsub.unsubscribe(*(self._prefix + key for key in keys[start : start + HEAP]))

    def run(self) -> None:
        try:
            if self._pattern is None:
                # without a subscription nothing can be asked of the connection: no key has this name
                self._pubsub.subscribe(self._prefix)
            else:
                self._pubsub.psubscribe(self._prefix + self._pattern)
            self._heard = time.monotonic()
            while not self._closed.is_set():
                self._read()
        except Exception as exc:
            self._put(exc)
        finally:
            self._pubsub.close()
            self._client.close()

    def _read(self) -> None:
        raw = self._pubsub.get_message(timeout=PATIENCE)
        if raw is None:
            return self._prove_alive()
        heap = []
        while raw is not None:
            item = self._item(raw)
            if item is not None:
                heap.append(item)
            raw = self._pubsub.get_message(timeout=0) if len(heap) < HEAP else None
        self._heard, self._asked = time.monotonic(), 0.0
        if heap:
            self._put(heap)

    def _item(self, raw: dict[str, Any]) -> Heard | _Mark | None:
        if raw["type"] in ("pmessage", "message"):
            return Heard(text(raw["data"]), raw["channel"][len(self._prefix) :])
        if raw["type"] in ("psubscribe", "subscribe"):
            self.ready.set()
        return _Mark(text(raw["data"])) if raw["type"] == "pong" else None

    def _prove_alive(self) -> None:
        now = time.monotonic()
        if self._asked and now - self._asked > PONG_WITHIN:
            raise redis_errors.ConnectionError(f"no answer within {PONG_WITHIN:.0f} s")
        if not self._asked and now - self._heard > PING_AFTER:
            self._asked = now
            self.ping("")

    def _put(self, item: Any) -> None:
        while not self._closed.is_set():
            try:
                return self._heaps.put(item, timeout=PATIENCE)
            except queue.Full:
                continue

    def close(self) -> None:
        self._closed.set()


class Stream:
    """Subscribed to a pattern of keys at every primary, from its making until `close`.

    Arguments:
        pattern: None for none: keys are added one by one.
        database: whose keys are meant.

    Raises:
        StoreUnavailable: a primary can't be reached or refuses.
    """

    def __init__(self, primaries: Sequence[Primary], pattern: bytes | None, database: int) -> None:
        self._heaps: queue.Queue[Any] = queue.Queue(HEAPS)
        prefix = f"__keyspace@{database}__:".encode()
        self._readers = [_Reader(primary, pattern, prefix, self._heaps) for primary in primaries]
        self._marks: dict[str, int] = {}
        self._rest: list[Any] = []
        self._user = primaries[0].location.user
        self._channel = text(prefix + (pattern or b"*"))
        for reader in self._readers:
            reader.start()
        deadline = time.monotonic() + OPENING
        for reader in self._readers:
            while not reader.ready.wait(0.01):
                if not reader.is_alive() or time.monotonic() > deadline:
                    self._fail()

    def _fail(self) -> None:
        try:
            self.read(0)
        except StoreUnavailable:
            raise
        self.close()
        raise StoreUnavailable("a subscription to watched keys was not confirmed")

    def mark(self) -> str:
        """Put a mark into the stream; `passed` says when everything before it was read."""
        token = new_token()
        self._marks[token] = len(self._readers)
        self._each(lambda reader: reader.ping(token))
        return token

    def add(self, keys: Sequence[bytes]) -> None:
        """Listen to further keys; what is asked of Redis after that comes after the subscription."""
        self._each(lambda reader: reader.add(keys))

    def drop(self, keys: Sequence[bytes]) -> None:
        """Listen to these keys no more."""
        self._each(lambda reader: reader.drop(keys))

    def _each(self, act: Callable[[_Reader], None]) -> None:
        try:
            for reader in self._readers:
                act(reader)
        except (redis_errors.RedisError, OSError) as exc:
            self.close()
            raise StoreUnavailable(f"a subscription to watched keys was lost: {exc}") from exc

    def passed(self, token: str) -> bool:
        """Whether everything was read that came before this mark."""
        return token not in self._marks

    def read(self, timeout: float) -> list[Heard]:
        """What comes within `timeout` seconds, up to a mark: that has passed when the next is read.

        Raises:
            StoreUnavailable: a subscription is lost: from here on there is a gap.
        """
        heard: list[Heard] = []
        heap, self._rest = self._rest or self._next(timeout), []
        for position, item in enumerate(heap):
            if isinstance(item, Heard):
                heard.append(item)
            elif heard:
                self._rest = heap[position:]
                break
            elif item.token in self._marks:
                self._marks[item.token] -= 1
                if not self._marks[item.token]:
                    del self._marks[item.token]
        return heard

    def _next(self, timeout: float) -> list[Any]:
        try:
            heap = self._heaps.get(timeout=timeout) if timeout > 0 else self._heaps.get_nowait()
        except queue.Empty:
            return []
        if isinstance(heap, redis_errors.NoPermissionError):
            self.close()
            raise StoreUnavailable(
                f"the Redis user {self._user!r} may not subscribe ({heap}): give it +psubscribe +ping and "
                f"the channel &{self._channel}"
            ) from heap
        if isinstance(heap, Exception):
            self.close()
            raise StoreUnavailable(f"a subscription to watched keys was lost: {heap}") from heap
        return list(heap)

    def interrupt(self) -> None:
        """End the waiting of `read`; may be called by another thread."""
        with suppress(queue.Full):
            self._heaps.put_nowait([])

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
