"""Reads one primary's subscription to watched keys, in a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis import exceptions as redis_errors

from celery_redis_expiry.connections import Primary
from celery_redis_expiry.keys import text

#: How many events are handed over at once at most.
HEAP = 500
#: Seconds of a wait for events, and so for a stop.
PATIENCE = 0.5
#: Seconds of silence after which a primary is asked for a sign of life, and how long it has for it.
PING_AFTER = 30.0
PONG_WITHIN = 5.0


class Heard(NamedTuple):
    """An event of a key: what happened, in Redis's own word for it."""

    kind: str
    key: bytes


class Mark(NamedTuple):
    """The answer to a PING that was put into the stream."""

    token: str


class Reader(threading.Thread):
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

    def _item(self, raw: dict[str, Any]) -> Heard | Mark | None:
        if raw["type"] in ("pmessage", "message"):
            return Heard(text(raw["data"]), raw["channel"][len(self._prefix) :])
        if raw["type"] in ("psubscribe", "subscribe"):
            self.ready.set()
        return Mark(text(raw["data"])) if raw["type"] == "pong" else None

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
