"""Who arrived, and when: by the ledger that jobs write, or by the broker's queue that the harness empties."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import amqp
import redis

from benchmarks.place import Place

Times = dict[str, list[float]]
#: How many messages are taken out of a queue in one call.
AT_ONCE = 1_000


class LedgerWatch:
    """When jobs ran."""

    what = "the job runs"

    def __init__(self, place: Place) -> None:
        self._path = Path(place.ledger)
        self._path.touch()
        self._begin = self._path.stat().st_size

    def __enter__(self) -> LedgerWatch:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def times(self) -> Times:
        """Label → ms since the epoch, of all that arrived since this watch began."""
        found: Times = defaultdict(list)
        with self._path.open("rb") as ledger:
            ledger.seek(self._begin)
            for line in ledger.read().decode().splitlines():
                label, _, at = line.partition(" ")
                if at:
                    found[label].append(float(at))
        return found

    def count(self) -> int:
        with self._path.open("rb") as ledger:
            ledger.seek(self._begin)
            return ledger.read().count(b"\n")


class QueueWatch:
    """When messages were in the broker's queue (a Redis list): taken out the moment that they are there.

    The reply's way to us counts as lateness, so what is measured is a little more than what is meant.
    """

    what = "in the broker's queue"

    def __init__(self, place: Place, queue: str | None = None) -> None:
        self._client = redis.Redis.from_url(place.broker, socket_timeout=10)
        self._queue = queue or place.queue
        self._taken: list[tuple[float, bytes]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)

    def __enter__(self) -> QueueWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(5)
        self._client.close()

    def _take(self) -> None:
        while not self._over.is_set():
            # one by one it got one message a turn of a Redis that is busy with scripts, and fell behind
            popped: Any = self._client.lpop(self._queue, AT_ONCE)
            if not popped:
                found: Any = self._client.blpop([self._queue], timeout=1)
                popped = found[1:] if found else []
            now = time.time() * 1000
            self._taken += [(now, message) for message in popped]

    def times(self) -> Times:
        found: Times = defaultdict(list)
        for at, message in list(self._taken):
            found[label_of(message)].append(at)
        return found

    def count(self) -> int:
        return len(self._taken)


class QueueDepth:
    """How many messages lie in the broker's queue, Redis's or RabbitMQ's; nobody takes them out.

    Attributes:
        every: seconds between two counts. RabbitMQ has work with each, which must not be what is measured.
    """

    def __init__(self, place: Place) -> None:
        self._queue = place.queue
        self._redis = self._amqp = None
        self.every = 0.02 if place.broker.startswith("amqp") else 0.005
        if place.broker.startswith("amqp"):
            self._amqp = amqp.Connection(place.broker.split("@")[1].rstrip("/"))
        else:
            self._redis = redis.Redis.from_url(place.broker, socket_timeout=10)

    def __enter__(self) -> QueueDepth:
        if self._amqp:
            self._amqp.connect()
            # as Celery declares it, which it does at its first message only
            self._amqp.channel().queue_declare(self._queue, durable=True, auto_delete=False)
        return self

    def __exit__(self, *_: object) -> None:
        (self._amqp or self._redis).close()

    def count(self) -> int:
        if self._redis:
            return int(self._redis.llen(self._queue))
        return int(self._amqp.channel(1).queue_declare(self._queue, passive=True).message_count)

    def clear(self) -> None:
        """Take everything out."""
        if self._redis:
            self._redis.delete(self._queue)
        else:
            self._amqp.channel(1).queue_purge(self._queue)


def label_of(message: bytes) -> str:
    """The first argument of a Celery message as it lies in a Redis queue."""
    arguments, *_ = json.loads(base64.b64decode(json.loads(message)["body"]))
    first = arguments[0]
    return str(first["key"] if isinstance(first, dict) else first)


def wait(done: Callable[[], bool], until: float, every: float = 0.02) -> bool:
    """Poll until it is done, or `until` (seconds since the epoch) is past."""
    while not done():
        if time.time() > until:
            return False
        time.sleep(every)
    return True
