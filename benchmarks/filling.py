"""Jobs that wait, in any number: what a Redis holds before the measuring begins.

For this package a filled Redis is kept as a dump for further runs, since ten million timers take a while; it
holds what the package stored by `schedule_many_on_expiry`, and another release of it gets a dump of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import celery_redis_expiry
from benchmarks.bench import Bench, say
from benchmarks.client import PeerFailed, filling
from benchmarks.peers import OURS, REPOSITORY
from benchmarks.processes import available
from benchmarks.site import Site
from tests.servers.redis import RedisServer

DUMPS = REPOSITORY / "build" / "bench"
#: Bytes of memory a waiting timer may take, before one has been measured.
GUESS = 1_500
#: From so many on a dump is worth its time.
WORTH = 100_000
#: Dumps older than this, in seconds, hold timers that are due soon.
FRESH = 3 * 86_400


def fill(bench: Bench, stage: Site, count: int, budget: float | None = None) -> int:
    """Let `count` jobs wait, by several processes; answers how many could be within the budget."""
    if not count:
        return 0
    budget = bench.budget if budget is None else budget
    hands = 1 if count < WORTH else (os.cpu_count() or 1)
    clients = [stage.client, *(stage.new_client() for _ in range(hands - 1))]
    for index, client in enumerate(clients):
        share = count // hands + (index < count % hands)
        client.ask(**filling(share, budget, client.way))
    done = sum(int(client.answer(budget + 120)["done"]) for client in clients)
    for client in clients[1:]:
        client.close()
    stage.waiting += done
    return done


def filled(bench: Bench, count: int) -> Path | None:
    """A dump of a Redis in which `count` timers of ours wait; None for few, which are quicker to schedule.

    Raises:
        PeerFailed: this machine has not the memory for them.
    """
    if count < WORTH:
        return None
    if available() < 1.3 * count * GUESS:
        raise PeerFailed(f"{count:,} would take {1.3 * count * GUESS / 2**30:.0f} GiB of memory")
    path = DUMPS / f"{_release()}-{bench.version}-{count}.rdb"
    if path.exists() and time.time() - path.stat().st_mtime < FRESH:
        return path
    DUMPS.mkdir(parents=True, exist_ok=True)
    with bench.site(OURS) as stage:
        say(f"  {count:,} timers are scheduled; kept for the next time in {path.relative_to(REPOSITORY)}")
        # as long as it takes: it is done once
        fill(bench, stage, count, budget=4 * 3600)
        with stage.store.client() as client:
            client.bgsave()
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                time.sleep(0.5)
        shutil.move(stage.store.folder / "dump.rdb", path)
    return path


def foreign_keys(store: RedisServer, number: int) -> None:
    """Other keys with a day's TTL in the same database: what makes Redis's own events late."""
    with store.client() as client:
        for start in range(0, number, 10_000):
            pipe = client.pipeline(transaction=False)
            for index in range(start, min(number, start + 10_000)):
                pipe.set(f"foreign:{index}", "x", ex=86_400)
            pipe.execute()


def _release() -> str:
    """Of the package's code: whatever changes there may change what is stored."""
    digest = hashlib.sha256()
    folder = Path(celery_redis_expiry.__file__).parent
    for file in sorted([*folder.rglob("*.py"), *folder.rglob("*.lua")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
