"""Dramatiq: `send_with_options(delay=…)`; a worker takes the message at once and keeps it until due."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers.base import SECOND, Adapter, Item
from benchmarks.place import Place, note


class Peer(Adapter):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.broker = RedisBroker(url=place.redis)
        dramatiq.set_broker(self.broker)

        @dramatiq.actor(actor_name="record", queue_name=place.queue)
        def record(label: str, number: int) -> None:
            note(label)

        self.record = record

    def schedule(self, items: Sequence[Item]) -> None:
        for label, at in items:
            delay = max(0, at - int(time.time() * 1000))
            self.record.send_with_options(args=(label, SECOND), delay=delay)

    def enqueue(self, label: str) -> None:
        self.record.send(label, SECOND)

    def work(self, role: str) -> None:
        # what its command starts in each of its processes: eight threads
        worker = dramatiq.Worker(self.broker, worker_threads=8)
        worker.start()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        worker.stop(timeout=2_000)
