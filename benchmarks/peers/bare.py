"""The trick of a thousand blog posts: `SET PX`, and a subscriber to the `expired` events."""

from __future__ import annotations

import time
from collections.abc import Sequence

import redis

from benchmarks.peers.base import Adapter, Item
from benchmarks.place import Place, note

CHANNEL = "__keyevent@0__:expired"
PREFIX = "bare:"


class Peer(Adapter):
    bulk = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.redis = redis.Redis.from_url(place.redis, decode_responses=True)

    def schedule(self, items: Sequence[Item]) -> None:
        for label, at in items:
            self.redis.set(PREFIX + label, "", px=max(1, at - int(time.time() * 1000)))

    def schedule_many(self, items: Sequence[Item]) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            for start in range(0, len(items), 1_000):
                for label, at in items[start : start + 1_000]:
                    pipe.set(PREFIX + label, "", px=max(1, at - int(time.time() * 1000)))
                pipe.execute()

    def enqueue(self, label: str) -> None:
        # Redis tells in minutes what has expired: whether somebody listens must be known before
        self.redis.publish(CHANNEL, PREFIX + label)

    def work(self, role: str) -> None:
        self.redis.config_set("notify-keyspace-events", "Ex")
        with self.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.psubscribe(CHANNEL)
            while True:
                message = pubsub.get_message(timeout=60)
                if message and message["data"].startswith(PREFIX):
                    note(message["data"].removeprefix(PREFIX))
