"""SAQ: `enqueue(scheduled=…)`, whole seconds; its worker with its own defaults (it looks every second)."""

from __future__ import annotations

from typing import Any

from saq import Queue, Worker

from benchmarks.peers.base import SECOND, AsyncAdapter, Item
from benchmarks.place import Place, note


async def record(context: Any, *, label: str, number: int) -> None:
    note(label)


class Peer(AsyncAdapter):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.jobs = Queue.from_url(place.redis)
        self._connected = False

    async def _enqueue(self, label: str, scheduled: int) -> None:
        if not self._connected:
            self._connected = True
            await self.jobs.connect()
        await self.jobs.enqueue("record", label=label, number=SECOND, scheduled=scheduled)

    async def one(self, item: Item) -> None:
        label, at = item
        await self._enqueue(label, -(-at // 1000))  # up, so that none is due before its time

    def enqueue(self, label: str) -> None:
        self._run(self._enqueue(label, 0))

    def work(self, role: str) -> None:
        self._run(Worker(self.jobs, functions=[record]).start())
