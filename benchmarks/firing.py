"""A burst due in one instant: until the last message is in the queue, beside `apply_async` in a loop."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from benchmarks.stage import app, server, table, worker
from celery_redis_expiry import schedule_many_on_expiry

PATIENCE = 120.0


def run(binary: Path, version: str, *, quick: bool) -> list[str]:
    count = 5_000 if quick else 20_000
    with server(binary, version) as redis, worker(redis, "expiry", "-P", "expiry"), redis.client() as client:
        task = app(redis).tasks["ledger.record"]
        started = time.perf_counter()
        for i in range(count // 10):
            task.apply_async((i,))
        loop = count / 10 / (time.perf_counter() - started)
        client.delete("celery")

        due = datetime.now(timezone.utc) + timedelta(seconds=5 + count / 500)
        schedule_many_on_expiry({"signature": task.s(i), "at": due} for i in range(count))
        if datetime.now(timezone.utc) > due:
            return ["## Firing", "", "Not measured: scheduling took longer than the burst was away."]
        deadline = time.monotonic() + PATIENCE + (due - datetime.now(timezone.utc)).total_seconds()
        while (arrived := client.llen("celery")) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        took = (datetime.now(timezone.utc) - due).total_seconds()
    rate = arrived / took
    rows = [
        ("`apply_async` in a loop", f"{loop:,.0f}", "1.00"),
        (f"burst of {count:,} timers, one expiry worker", f"{rate:,.0f}", f"{rate / loop:.2f}"),
    ]
    note = f"{arrived:,} of {count:,} arrived, the last {took:.1f} s after the due time."
    return ["## Firing", "", *table(("way", "messages/s", "ratio"), rows), "", note]
