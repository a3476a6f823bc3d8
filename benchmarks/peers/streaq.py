"""streaq: `enqueue(…).start(schedule=…)`, `enqueue_many` for many; its worker with its own defaults."""

from __future__ import annotations

from contextlib import AsyncExitStack

from streaq import Worker

from benchmarks.peers.base import SECOND, AsyncAdapter, Item, moment
from benchmarks.place import Place, note


class Peer(AsyncAdapter):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.worker = Worker(redis_url=place.redis)
        self._stack: AsyncExitStack | None = None

        @self.worker.task(name="record")
        async def record(label: str, number: int) -> None:
            note(label)

        self.record = record

    async def _entered(self) -> None:
        if self._stack is None:
            self._stack = AsyncExitStack()
            await self._stack.enter_async_context(self.worker)

    async def one(self, item: Item) -> None:
        label, at = item
        await self._entered()
        await self.record.enqueue(label, SECOND).start(schedule=moment(at))

    async def many(self, items: list[Item]) -> None:  # type: ignore[override]
        await self._entered()
        for start in range(0, len(items), 1_000):
            part = items[start : start + 1_000]
            jobs = [self.record.enqueue(label, SECOND).start(schedule=moment(at)) for label, at in part]
            await self.worker.enqueue_many(jobs)

    def enqueue(self, label: str) -> None:
        async def now() -> None:
            await self._entered()
            await self.record.enqueue(label, SECOND)

        self._run(now())

    def work(self, role: str) -> None:
        self.worker.run_sync()
