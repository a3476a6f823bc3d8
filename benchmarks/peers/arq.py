"""arq: `enqueue_job(_defer_until=…)`, its worker with its own defaults (it looks every 0.5 s)."""

from __future__ import annotations

import asyncio
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import func, run_worker

from benchmarks.peers.base import SECOND, AsyncAdapter, Item, moment
from benchmarks.place import Place, note


async def record(context: dict[str, Any], label: str, number: int) -> None:
    note(label)


class Peer(AsyncAdapter):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.settings = RedisSettings.from_dsn(place.redis)
        self._pool: Any = None

    async def _connected(self) -> Any:
        if self._pool is None:
            self._pool = await create_pool(self.settings)
        return self._pool

    async def one(self, item: Item) -> None:
        label, at = item
        await (await self._connected()).enqueue_job("record", label, SECOND, _defer_until=moment(at))

    def enqueue(self, label: str) -> None:
        async def now() -> None:
            await (await self._connected()).enqueue_job("record", label, SECOND)

        self._run(now())

    def work(self, role: str) -> None:
        asyncio.set_event_loop(self._loop)
        settings = {"functions": [func(record, name="record")], "redis_settings": self.settings}
        run_worker(settings)  # type: ignore[arg-type]
