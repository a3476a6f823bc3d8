"""A FastAPI app that schedules, and tells how long its event loop was held up meanwhile.

Its Celery app is that of `ledger_app`. `uvicorn asgi_app:api` serves it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import ledger_app
import redis.asyncio
from fastapi import FastAPI

from celery_redis_expiry import acancel, aget_timer, aschedule_on_expiry, schedule_on_expiry

#: Seconds between two looks at the clock.
TICK = 0.001
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


watch = Watch()


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
