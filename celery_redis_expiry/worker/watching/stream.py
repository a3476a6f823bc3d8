"""What the primaries tell of the watched keys, in the order in which it happened.

A thread reads each primary's subscription; one queue holds what they heard. A *mark* is a PING on the
subscriptions themselves: what is read after its answer happened later than what was asked of Redis before.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis import exceptions as redis_errors

from celery_redis_expiry.connections import Primary
from celery_redis_expiry.errors import StoreUnavailable
from celery_redis_expiry.keys import new_token, text
from celery_redis_expiry.worker.watching.reader import Heard, Reader

#: How many heaps of events wait to be read: Redis keeps the rest, and cuts a subscriber off that is too slow.
HEAPS = 100
#: Seconds to wait until every primary has confirmed the subscription.
OPENING = 10.0


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
        self._readers = [Reader(primary, pattern, prefix, self._heaps) for primary in primaries]
        self._marks: dict[str, int] = {}
        self._rest: list[Any] = []
        self._user = primaries[0].location.user
        self._lost = f"a subscription to watched keys in {primaries[0].location.url} was lost"
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

    def _each(self, act: Callable[[Reader], None]) -> None:
        try:
            for reader in self._readers:
                act(reader)
        except (redis_errors.RedisError, OSError) as exc:
            self.close()
            raise StoreUnavailable(f"{self._lost}: {exc}") from exc

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
            raise StoreUnavailable(f"{self._lost}: {heap}") from heap
        return list(heap)

    def interrupt(self) -> None:
        """End the waiting of `read`; may be called by another thread."""
        with suppress(queue.Full):
            self._heaps.put_nowait([])

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
