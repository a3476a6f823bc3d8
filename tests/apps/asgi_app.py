"""A FastAPI app that schedules, and tells how long its event loop was held up meanwhile.

Its Celery app is that of `ledger_app`. `uvicorn asgi_app:api` serves it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import ledger_app
import redis.asyncio
from fastapi import FastAPI

from celery_redis_expiry import acancel, aget_timer, aschedule_on_expiry, schedule_on_expiry

#: Seconds between two looks at the clock.
TICK = 0.001
#: Seconds of which the longest step is told.
WINDOW = 0.1
app = ledger_app.app
record = app.tasks["ledger.record"]
plain = redis.asyncio.Redis.from_url(app.conf.broker_url)


class Watch:
    """Looks at the clock all the time: what it comes too late by, the loop was busy with something else."""

    def __init__(self) -> None:
        self.lags: list[float] = []

    async def look(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            self.lags.append(time.perf_counter() - before - TICK)


class Steps:
    """How long the loop's steps take: what one of them does, nobody else can be served in.

    Attributes:
        longest: in each window the longest by the clock, which goes on while other processes have the CPU; by
            the CPU that the thread used; and the garbage collector's longest run, part of some step.
    """

    def __init__(self) -> None:
        self.longest: dict[int, list[float]] = {}
        self._collects = 0.0

    def timed(self, step: Callable[[asyncio.Handle], None]) -> Callable[[asyncio.Handle], None]:
        def run(handle: asyncio.Handle) -> None:
            began, used = time.perf_counter(), time.thread_time()
            step(handle)
            self._note(time.perf_counter() - began, time.thread_time() - used, 0.0)

        return run

    def collected(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collects = time.perf_counter()
        else:
            self._note(0.0, 0.0, time.perf_counter() - self._collects)

    def _note(self, *seconds: float) -> None:
        window = int(time.perf_counter() / WINDOW)
        so_far = self.longest.get(window, seconds)
        self.longest[window] = [max(pair) for pair in zip(so_far, seconds, strict=True)]


watch = Watch()
steps = Steps()
asyncio.Handle._run = steps.timed(asyncio.Handle._run)
gc.callbacks.append(steps.collected)


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    looking = asyncio.create_task(watch.look())
    yield
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
    await plain.aclose()


api = FastAPI(lifespan=lifespan)


@api.post("/awaited/{name}")
async def awaited(name: str, seconds: float = 600) -> str:
    result = await aschedule_on_expiry(record.s(name), seconds, key=name)
    return str(result.id)


@api.post("/blocking/{name}")
async def blocking(name: str, seconds: float = 600) -> str:
    """As one should not."""
    return str(schedule_on_expiry(record.s(name), seconds, key=name).id)


@api.post("/set/{name}")
async def set_key(name: str) -> bool:
    """What any app of this kind does."""
    return bool(await plain.set(f"own:{name}", "x" * 500, ex=600))


@api.get("/timer/{name}")
async def timer(name: str) -> float | None:
    found = await aget_timer(name, app=app)
    return found.remaining if found else None


@api.delete("/timer/{name}")
async def cancel(name: str) -> bool:
    return await acancel(name, app=app)


@api.post("/lags")
async def lags() -> list[float]:
    """The seconds that the loop was late by, each time it was looked at since this was last asked."""
    told, watch.lags = watch.lags, []
    return told


@api.post("/steps")
async def longest_steps() -> list[list[float]]:
    """What was longest in each window since this was last asked, in seconds."""
    told, steps.longest = steps.longest, {}
    return list(told.values())


@api.post("/freeze")
async def freeze() -> int:
    """As an app does at the end of its start: nothing of what it loaded is looked through ever again."""
    gc.collect()
    gc.freeze()
    return gc.get_freeze_count()
