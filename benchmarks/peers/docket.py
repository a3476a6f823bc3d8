"""pydocket: `docket.add(when=…)`; its worker with its own defaults."""

from __future__ import annotations

from contextlib import AsyncExitStack

from docket import Docket, Worker

from benchmarks.peers.base import SECOND, AsyncAdapter, Item, moment
from benchmarks.place import Place, note


async def record(label: str, number: int) -> None:
    note(label)


class Peer(AsyncAdapter):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.docket = Docket(name=place.queue, url=place.redis)
        self.docket.register(record)
        self._stack: AsyncExitStack | None = None

    async def _entered(self) -> None:
        if self._stack is None:
            self._stack = AsyncExitStack()
            await self._stack.enter_async_context(self.docket)

    async def one(self, item: Item) -> None:
        label, at = item
        await self._entered()
        await self.docket.add(record, when=moment(at))(label, SECOND)

    def enqueue(self, label: str) -> None:
        async def now() -> None:
            await self._entered()
            await self.docket.add(record)(label, SECOND)

        self._run(now())

    def work(self, role: str) -> None:
        async def forever() -> None:
            async with self.docket, Worker(self.docket) as worker:
                await worker.run_forever()

        self._run(forever())
