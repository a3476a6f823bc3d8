"""What the scenarios share: a private Redis, an expiry worker, foreign keys, percentiles."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ledger_app
from celery import Celery

from tests.servers.redis import RedisServer
from tests.servers.workers import Worker


@contextmanager
def server(binary: Path, version: str) -> Iterator[RedisServer]:
    redis = RedisServer(binary, version)
    try:
        yield redis.start()
    finally:
        redis.remove()


def config(redis: RedisServer, **conf: Any) -> dict[str, Any]:
    return {
        "main": "bench",
        "broker": redis.url(),
        "backend": redis.url(1),
        "ledger": redis.url(2),
        "conf": conf,
    }


def app(redis: RedisServer, **conf: Any) -> Celery:
    built: Celery = ledger_app.build({**config(redis, **conf), "current": False})
    return built


@contextmanager
def worker(redis: RedisServer, name: str, *options: str) -> Iterator[Worker]:
    with tempfile.TemporaryDirectory(prefix="expiry-bench-") as folder:
        process = Worker(config(redis), Path(folder), name, *options)
        try:
            yield process.wait_ready()
        finally:
            process.stop()


def fill(redis: RedisServer, count: int, *, seconds: int = 86_400) -> None:
    """Foreign keys with a TTL in the timers' database: what makes Redis's own events late."""
    with redis.client() as client:
        for start in range(0, count, 10_000):
            pipe = client.pipeline(transaction=False)
            for i in range(start, min(count, start + 10_000)):
                pipe.set(f"foreign:{i}", "x", ex=seconds)
            pipe.execute()


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
