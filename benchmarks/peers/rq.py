"""RQ: `enqueue_at`, one worker with its scheduler. It forks for every job."""

from __future__ import annotations

from collections.abc import Sequence

import redis
from rq import Queue, Worker

from benchmarks.peers.base import SECOND, Adapter, Item, moment
from benchmarks.place import Place, note


def record(label: str, number: int) -> None:
    note(label)


class Peer(Adapter):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.connection = redis.Redis.from_url(place.redis)
        self.jobs = Queue(place.queue, connection=self.connection)

    def schedule(self, items: Sequence[Item]) -> None:
        for label, at in items:
            self.jobs.enqueue_at(moment(at), "benchmarks.peers.rq.record", label, SECOND)

    def enqueue(self, label: str) -> None:
        self.jobs.enqueue("benchmarks.peers.rq.record", label, SECOND)

    def work(self, role: str) -> None:
        Worker([self.jobs], connection=self.connection).work(with_scheduler=True)
