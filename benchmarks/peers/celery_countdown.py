"""Celery's own `countdown` (`eta`, which it becomes): the message goes out at once, a worker keeps it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.app import build
from benchmarks.peers.base import SECOND, Adapter, Item, moment
from benchmarks.place import Place


class CeleryAdapter(Adapter):
    """What ours and `countdown` have in common: the app, and its ordinary workers."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.app = build(place)
        self.task = self.app.tasks["bench.record"]

    def send(self, labels: Sequence[str]) -> None:
        for label in labels:
            self.task.apply_async((label, SECOND), queue=self.queue)

    def work(self, role: str) -> None:
        self.app.worker_main(["worker", "-n", f"{role}@%h", "-l", "INFO", *self.options(role)])

    def options(self, role: str) -> list[str]:
        """Its own defaults: a pool of processes, one a core."""
        return ["-P", "solo"] if role == "solo" else []


class Peer(CeleryAdapter):
    def schedule(self, items: Sequence[Item]) -> None:
        for label, at in items:
            self.task.apply_async((label, SECOND), eta=moment(at), queue=self.queue)

    def enqueue(self, label: str) -> None:
        self.send([label])
