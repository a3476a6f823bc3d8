"""Users' own keys among many others: from due until in the broker's queue, beside a bare subscriber."""

from __future__ import annotations

import base64
import json
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.stage import config, fill, percentile, server, table
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker

PATTERN = "session:*"
PATIENCE = 60.0
#: Seconds before the first of them is due: to set them all takes a while.
LEAD = 3.0


def run(binary: Path, version: str, *, quick: bool) -> list[str]:
    count, foreign, span = (1_000, 10_000, 5.0) if quick else (10_000, 100_000, 30.0)
    rows = []
    with server(binary, version) as redis, tempfile.TemporaryDirectory(prefix="expiry-bench-") as folder:
        fill(redis, foreign)
        settings = {**config(redis), "handlers": [{"pattern": PATTERN}]}
        worker = Worker(settings, Path(folder), "expiry", "-P", "expiry").wait_ready()
        try:
            worker.wait_for("listening for keys", 120)
            late, told, cost = _ours(redis, worker, count, span)
        finally:
            worker.stop()
    rows.append(("`on_key_expired`", _times(told, count), *_cells(late)))
    with server(binary, version) as redis:
        fill(redis, foreign)
        late, told = _bare(redis, count, span)
    rows.append(("bare `PSUBSCRIBE`", _times(told, count), *_cells(late)))
    return [
        "## Users' own keys",
        "",
        f"{count:,} sessions with random TTLs that end within {span:.0f} s, among {foreign:,} other keys "
        "with a TTL; ours until the message is in the queue, the other's until its callback is called.",
        "",
        *table(("who", "told of", "p50 ms", "p99 ms", "max ms"), rows),
        "",
        f"A watched key costs {cost['bytes']:.0f} bytes in Redis, and its setting and expiry "
        f"{cost['worker']:.2f} ms of the worker's CPU; each further `EXPIRE` {cost['expire']:.3f} ms.",
    ]


def _times(told: Counter[str], count: int) -> str:
    repeated = sum(1 for times in told.values() if times > 1)
    return f"{len(told):,} of {count:,}" + (f", {repeated} of them twice" if repeated else ", each once")


def _cells(late: list[float]) -> tuple[str, ...]:
    if not late:
        return ("-", "-", "-")
    return tuple(f"{figure:,.1f}" for figure in (percentile(late, 0.5), percentile(late, 0.99), max(late)))


def _set_keys(redis: RedisServer, count: int, span: float) -> dict[str, float]:
    """Keys with a random TTL, and when each is due, ms since the epoch (one machine, one clock)."""
    due = {}
    with redis.client() as client:
        for number in range(count):
            milliseconds = int((LEAD + random.random() * span) * 1000)
            key = f"session:{number}"
            due[key] = time.time() * 1000 + milliseconds
            client.set(key, "x", px=milliseconds)
    return due


def _ours(
    redis: RedisServer, worker: Worker, count: int, span: float
) -> tuple[list[float], Counter[str], dict[str, float]]:
    late: list[float] = []
    told: Counter[str] = Counter()
    with redis.client() as client:
        before = _cpu(worker)
        due = _set_keys(redis, count, span)
        [ledger] = client.scan_iter("*watched:*", count=10_000)
        bytes = client.memory_usage(ledger, samples=0) / client.zcard(ledger)

        def collect(popped: Any) -> None:
            now = time.time() * 1000
            arguments, *_ = json.loads(base64.b64decode(json.loads(popped[1])["body"]))
            told[arguments[0]["key"]] += 1
            late.append(now - due[arguments[0]["key"]])

        _until(lambda: len(told) >= count, lambda: client.blpop("celery", timeout=1), collect, span)
        spent = _cpu(worker) - before
        client.set("session:extended", "x", ex=600)
        before, extensions = _cpu(worker), 10 * count
        pipe = client.pipeline(transaction=False)
        for _ in range(extensions):
            pipe.expire("session:extended", 600)
        pipe.execute()
        time.sleep(1.0)
        extended = _cpu(worker) - before
    return (
        late,
        told,
        {"bytes": bytes, "worker": spent / count * 1000, "expire": extended / extensions * 1000},
    )


def _cpu(worker: Worker) -> float:
    """Seconds of CPU that a process has had."""
    times = Path(f"/proc/{worker.process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def _bare(redis: RedisServer, count: int, span: float) -> tuple[list[float], Counter[str]]:
    """What every answer on the web does."""
    late: list[float] = []
    told: Counter[str] = Counter()
    due: dict[str, float] = {}
    with redis.client() as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        client.config_set("notify-keyspace-events", "Ex")
        pubsub.psubscribe("__keyevent@0__:expired")
        pubsub.get_message(timeout=1)
        setter = threading.Thread(target=lambda: due.update(_set_keys(redis, count, span)))
        setter.start()

        def collect(message: Any) -> None:
            key = str(message["data"])
            if key.startswith("session:"):
                told[key] += 1
                moments[key] = time.time() * 1000

        moments: dict[str, float] = {}
        _until(lambda: len(told) >= count, lambda: pubsub.get_message(timeout=1), collect, span)
        setter.join()
        late = [moments[key] - due[key] for key in moments]
    return late, told


def _until(
    done: Callable[[], bool], take: Callable[[], Any], collect: Callable[[Any], None], span: float
) -> None:
    """Collect what comes, and a second longer: what comes twice would come then."""
    deadline = time.monotonic() + LEAD + span + PATIENCE
    while not done() and time.monotonic() < deadline:
        if (taken := take()) is not None:
            collect(taken)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        if (taken := take()) is not None:
            collect(taken)
