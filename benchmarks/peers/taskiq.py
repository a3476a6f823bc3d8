"""taskiq-redis: a schedule source in Redis, its scheduler (it looks every second), a worker on a stream."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from taskiq import TaskiqScheduler
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from benchmarks.peers.base import SECOND, AsyncAdapter, Item, moment
from benchmarks.place import Place, note

if "BENCH_PLACE" in os.environ:
    _place = Place.here()
    broker = RedisStreamBroker(_place.redis, queue_name=_place.queue)
    source = ListRedisScheduleSource(_place.redis)
    scheduler = TaskiqScheduler(broker, sources=[source])

    @broker.task(task_name="record")
    async def record(label: str, number: int) -> None:
        note(label)


class Peer(AsyncAdapter):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._started = False

    async def _start(self) -> Any:
        if not self._started:
            self._started = True
            await asyncio.gather(broker.startup(), source.startup())
        return record

    async def one(self, item: Item) -> None:
        label, at = item
        await (await self._start()).schedule_by_time(source, moment(at), label, SECOND)

    def enqueue(self, label: str) -> None:
        async def now() -> None:
            await (await self._start()).kiq(label, SECOND)

        self._run(now())

    def work(self, role: str) -> None:
        module = "benchmarks.peers.taskiq"
        if role == "scheduler":
            # without an interval it would look once a minute for what is new
            options = ["scheduler", f"{module}:scheduler", "--update-interval", "1"]
        else:
            options = ["worker", f"{module}:broker", "--workers", "1"]
        os.execv(sys.executable, [sys.executable, "-m", "taskiq", *options])
