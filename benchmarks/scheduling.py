"""How fast timers are scheduled, beside `apply_async(countdown=…)` in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.stage import app, server, table
from celery_redis_expiry import schedule_many_on_expiry, schedule_on_expiry


def run(binary: Path, version: str, *, quick: bool) -> list[str]:
    count, rounds = (500, 3) if quick else (2_000, 5)
    with server(binary, version) as redis:
        task = app(redis).tasks["ledger.record"]

        def countdown() -> None:
            for i in range(count):
                task.apply_async((i,), countdown=86_400)

        def one_by_one() -> None:
            for i in range(count):
                schedule_on_expiry(task.s(i), 86_400)

        def in_bulk() -> None:
            schedule_many_on_expiry((task.s(i), 86_400) for i in range(count))

        ways: dict[str, Callable[[], None]] = {
            "`apply_async(countdown=…)`": countdown,
            "`schedule_on_expiry`": one_by_one,
            "`schedule_many_on_expiry`": in_bulk,
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                rates[name].append(count / (time.perf_counter() - started))
        with redis.client() as client:
            slowest = max((entry["duration"] for entry in client.slowlog_get(128)), default=0)
    base = median(rates["`apply_async(countdown=…)`"])
    rows = [(name, f"{median(each):,.0f}", f"{median(each) / base:.2f}") for name, each in rates.items()]
    note = f"Longest Redis command above its slowlog threshold (10 ms): {slowest / 1000:.1f} ms (0: none)."
    return ["## Scheduling", "", *table(("way", "timers/s", "ratio"), rows), "", note]
