"""Huey: `task.schedule(eta=…)`, its consumer by default: one thread, and a look every second."""

from __future__ import annotations

from collections.abc import Sequence

from huey import RedisHuey

from benchmarks.peers.base import SECOND, Adapter, Item, moment
from benchmarks.place import Place, note


class Peer(Adapter):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.huey = RedisHuey(place.queue, url=place.redis, results=False)

        @self.huey.task(name="record")
        def record(label: str, number: int) -> None:
            note(label)

        self.record = record

    def schedule(self, items: Sequence[Item]) -> None:
        for label, at in items:
            self.record.schedule(args=(label, SECOND), eta=moment(at))

    def enqueue(self, label: str) -> None:
        self.record(label, SECOND)

    def work(self, role: str) -> None:
        self.huey.create_consumer().run()
