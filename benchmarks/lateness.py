"""From due until the message is in the broker's queue, beside a bare subscriber's events."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

from benchmarks.stage import app, fill, percentile, server, table, worker
from celery_redis_expiry import schedule_many_on_expiry
from tests.servers.redis import RedisServer

PATIENCE = 60.0


def run(binary: Path, version: str, *, quick: bool) -> list[str]:
    count, span = (200, 4.0) if quick else (500, 10.0)
    rows = []
    for foreign in (0, 10_000) if quick else (0, 10_000, 100_000):
        with server(binary, version) as redis, worker(redis, "expiry", "-P", "expiry"):
            fill(redis, foreign)
            ours = _ours(redis, count, span)
            rows.append((f"{foreign:,}", "this package", *_cells(ours, count)))
            bare = _bare(redis, count, span)
            rows.append(("", "bare `SET PX` + `PSUBSCRIBE`", *_cells(bare, count)))
    head = ("foreign keys with a TTL", "who", "arrived", "p50 ms", "p99 ms", "max ms")
    return ["## Lateness", "", f"{count} timers at random moments over {span:.0f} s.", "", *table(head, rows)]


def _cells(late: list[float], count: int) -> tuple[str, ...]:
    if not late:
        return (f"0 of {count}", "-", "-", "-")
    figures = (percentile(late, 0.5), percentile(late, 0.99), max(late))
    return (f"{len(late)} of {count}", *(f"{figure:,.1f}" for figure in figures))


def _ours(redis: RedisServer, count: int, span: float) -> list[float]:
    bench = app(redis)
    task = bench.tasks["ledger.record"]
    due = {}
    schedule_many_on_expiry(
        [(task.s(i), 2 + random.random() * span) for i in range(count)],
        on_result=lambda _, result: due.__setitem__(result.id, result),
    )
    with redis.client() as client:
        index = client.zrange("{expiry.bench.0}:due", 0, -1, withscores=True)
        moments = {member.partition(":")[2]: score for member, score in index}
        late: list[float] = []
        deadline = time.monotonic() + span + PATIENCE
        while len(late) < count and time.monotonic() < deadline:
            popped = client.blpop("celery", timeout=1)
            if popped:
                now = time.time() * 1000
                late.append(now - moments[json.loads(popped[1])["headers"]["id"]])
    return late


def _bare(redis: RedisServer, count: int, span: float) -> list[float]:
    """What a thousand blog posts do."""
    due: dict[str, float] = {}
    late: list[float] = []
    ready = threading.Event()
    deadline = time.monotonic() + span + PATIENCE

    def listen() -> None:
        with redis.client() as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
            client.config_set("notify-keyspace-events", "Ex")
            pubsub.psubscribe("__keyevent@0__:expired")
            pubsub.get_message(timeout=1)
            ready.set()
            while len(late) < count and time.monotonic() < deadline:
                message = pubsub.get_message(timeout=1)
                if message and str(message["data"]).startswith("bare:"):
                    late.append(time.time() * 1000 - due[message["data"]])

    thread = threading.Thread(target=listen)
    thread.start()
    ready.wait(10)
    with redis.client() as client:
        for i in range(count):
            milliseconds = int(2000 + random.random() * span * 1000)
            due[f"bare:{i}"] = time.time() * 1000 + milliseconds
            client.set(f"bare:{i}", "", px=milliseconds)
    thread.join(span + PATIENCE + 10)
    return late
