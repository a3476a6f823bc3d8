"""What a worker costs that has nothing to do, beside a stock Celery worker in the same run."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.stage import app, server, table, worker
from celery_redis_expiry import schedule_many_on_expiry
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker


def run(binary: Path, version: str, *, quick: bool) -> list[str]:
    seconds, waiting = (20, 1_000) if quick else (70, 10_000)
    rows = []
    for name, pool in (("stock worker (`-P solo`)", "solo"), ("expiry worker", "expiry")):
        with server(binary, version) as redis:
            task = app(redis).tasks["ledger.record"]
            schedule_many_on_expiry((task.s(i), 86_400) for i in range(waiting))
            with worker(redis, pool, "-P", pool) as process:
                time.sleep(5)
                rows.append((name, *_measure(redis, process, seconds)))
    head = ("who", "Redis commands/s", "CPU, % of a core")
    return ["## Idle", "", f"{waiting:,} timers waiting, over {seconds} s.", "", *table(head, rows)]


def _measure(redis: RedisServer, process: Worker, seconds: float) -> tuple[str, str]:
    with redis.client() as client:

        def commands() -> int:
            return int(client.info("stats")["total_commands_processed"])

        before, cpu = commands(), _cpu(process.process.popen.pid)
        time.sleep(seconds)
        # our own two INFO calls are no part of it
        sent = commands() - before - 1
        used = _cpu(process.process.popen.pid) - cpu
    return f"{sent / seconds:.2f}", f"{100 * used / seconds:.2f}"


def _cpu(pid: int) -> float:
    """Seconds of CPU a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
