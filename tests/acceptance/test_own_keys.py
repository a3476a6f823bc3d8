"""Users' own keys with real workers: killed in the middle, three of them, a Cluster of three primaries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from celery_redis_expiry import schedule_on_expiry
from tests.servers.cluster import RedisCluster
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker
from tests.site import Run, Site
from tests.waiting import eventually

LISTENING = "listening for keys"
ALL = ("expired", "deleted", "evicted")


def told(site: Site) -> Counter[tuple[str, str, bool]]:
    """How often each key was told of, how, and whether as missed."""
    return Counter(
        (run["event"]["key"], run["event"]["event"], run["event"]["missed"]) for run in site.runs("told")
    )


def wait_told(site: Site, count: int, timeout: float = 40) -> list[Run]:
    """All runs, once so many tasks ran and nothing is on its way."""
    eventually(
        lambda: len(site.runs("told")) >= count,
        timeout=timeout,
        what=lambda: f"{count} tasks; ran {len(site.runs('told'))}",
    )
    if not isinstance(site.server, RedisCluster):
        site.wait_forgotten()
    site.wait_broker_empty()
    return site.runs("told")


def set_keys(site: Site, numbers: range, milliseconds: int, prefix: str = "session") -> None:
    pipe: Any = site.redis.pipeline(transaction=False)
    for number in numbers:
        pipe.set(f"{prefix}:{number}", "x", px=milliseconds)
    pipe.execute()


def test_killed_while_they_expire_are_deleted_and_extended(
    make_site: Callable[..., Site], ordinary_worker: Worker
) -> None:
    """A thousand keys and a gap: what is told afterwards is what the table of docs/own-keys.md promises."""
    site = make_site(handlers=[{"pattern": "session:*", "on": ALL}])
    worker = site.expiry()
    worker.wait_for(LISTENING)
    expire, delete, extend, heard = range(0, 400), range(400, 600), range(600, 800), range(800, 1000)
    set_keys(site, heard, 500)
    set_keys(site, expire, 4000)
    set_keys(site, delete, 60_000)
    set_keys(site, extend, 4000)
    eventually(lambda: len(site.runs("told")) >= len(heard) / 2)
    eventually(lambda: site.redis.zcount(ledger(site), site.now() * 1000 + 1, "inf") == 800)
    worker.kill()
    pipe = site.redis.pipeline(transaction=False)
    for number in delete:
        pipe.delete(f"session:{number}")
    for number in extend:
        pipe.pexpire(f"session:{number}", 60_000)
    pipe.execute()
    # Redis deletes them by itself, or when it is asked: nobody listens either way
    eventually(lambda: not any(site.redis.exists(f"session:{number}") for number in expire), every=0.2)
    set_keys(site, range(0, 100), 60_000)
    site.expiry("second")
    runs = wait_told(site, len(heard) + len(expire) - 100 + len(delete))
    assert told(site) == Counter(
        # heard in time, or, if it was killed first, concluded: once in any case
        [key for key in told(site) if key[0] in {f"session:{number}" for number in heard}]
        + [(f"session:{number}", "expired", True) for number in expire if number >= 100]
        + [(f"session:{number}", "deleted", True) for number in delete]
    )
    assert {run["event"]["event"] for run in runs if int(run["event"]["key"][8:]) in heard} == {"expired"}
    assert len({run["event"]["key"] for run in runs if int(run["event"]["key"][8:]) in heard}) == len(heard)
    # what lives is known: a thousand less those that are gone
    assert site.redis.zcard(ledger(site)) == len(extend) + 100


def ledger(site: Site) -> str:
    [key] = site.redis.scan_iter(site.key("watched:*").replace("{", "?"), count=1000)
    return str(key)


def test_three_workers_one_task_for_each(make_site: Callable[..., Site], ordinary_worker: Worker) -> None:
    """Whoever leads is killed, twice: the others take over, and nothing is told of twice."""
    site = make_site(handlers=[{"pattern": "session:*"}])
    workers = [site.expiry(f"expiry{number}", ready=False) for number in range(3)]
    for worker in workers:
        worker.wait_ready()
    for number in range(300):
        site.redis.set(f"session:{number}", "x", px=500 + 30 * number)
    for _ in range(2):
        leader = eventually(lambda: leading(site, workers))
        time.sleep(1.0)
        leader.kill()
        workers.remove(leader)
    runs = wait_told(site, 300)
    assert Counter(run["event"]["key"] for run in runs) == Counter(f"session:{i}" for i in range(300))
    missed = sum(run["event"]["missed"] for run in runs)
    assert 0 < missed < 300


def leading(site: Site, workers: list[Worker]) -> Worker | None:
    """The worker that said last that it listens, once there is one that is up."""
    if not list(site.redis.scan_iter(site.key("leader:*").replace("{", "?"), count=1000)):
        return None
    return next((worker for worker in workers if LISTENING in worker.log), None)


def test_a_cluster(
    redis_cluster: RedisCluster,
    shared_redis: Callable[..., RedisServer],
    make_site: Callable[..., Site],
    ordinary_worker: Worker,
) -> None:
    """Keys on three primaries, three workers; a slot moves with what is in it."""
    site = make_site(redis_cluster, beside=shared_redis(), handlers=[{"pattern": "session:*", "on": ALL}])
    for number in range(30):
        site.redis.set(f"session:there before {number}", "x", px=600_000)
    workers = [site.expiry(f"expiry{number}", ready=False) for number in range(3)]
    for worker in workers:
        worker.wait_ready()
    eventually(lambda: any(LISTENING in worker.log for worker in workers))
    assert site.redis.zcard(ledger(site)) == 30
    for number in range(150):
        site.redis.set(f"session:{number}", "x", px=3000 + 10 * number)
    for number in range(20):
        schedule_on_expiry(site.record(f"watched {number}"), watch=f"session:{number}")
    site.redis.set("session:gone", "x", px=60_000)
    site.redis.delete("session:gone")
    slot = redis_cluster.slot("session:7")
    target = next(node for node in redis_cluster.primaries() if node is not redis_cluster.owner(slot))
    redis_cluster.migrate_slot(slot, target)
    runs = wait_told(site, 151)
    for number in range(20):
        site.wait_run(f"watched {number}")
    assert len(site.runs()) == len(runs) + 20
    assert Counter((run["event"]["key"], run["event"]["event"]) for run in runs) == Counter(
        [("session:gone", "deleted"), *((f"session:{number}", "expired") for number in range(150))]
    )


def test_the_redis_of_the_keys_is_away(
    make_site: Callable[..., Site], ordinary_worker: Worker, shared_redis: Callable[..., RedisServer]
) -> None:
    """Or refuses the password: timers fire, other patterns are told of, and the log says where it is."""
    away = "redis://127.0.0.1:1/0"
    refuses = f"redis://:wrong@127.0.0.1:{shared_redis().port}/3"
    site = make_site(
        handlers=[
            {"pattern": "away:*", "url": away},
            {"pattern": "refused:*", "url": refuses},
            {"pattern": "session:*"},
        ],
        expiry_watch_url=shared_redis().url(4),
    )
    worker = site.expiry()
    schedule_on_expiry(site.record("fires"), seconds=0.2)
    worker.wait_for(LISTENING)
    shared_redis().client(4).set("session:1", "x", px=50)
    site.wait_run("fires")
    wait_told(site, 1)
    assert f"{away} was lost" in worker.log
    assert "/3 was lost" in worker.log
    assert "wrong" not in worker.log


def test_a_canvas_is_told(make_site: Callable[..., Site], ordinary_worker: Worker) -> None:
    site = make_site(
        handlers=[
            {"pattern": "chain:*", "shape": "chain"},
            {"pattern": "group:*", "shape": "group"},
            {"pattern": "chord:*", "shape": "chord"},
        ]
    )
    worker = site.expiry()
    eventually(lambda: worker.log.count(LISTENING) == 3)
    for name in ("chain", "group", "chord"):
        site.redis.set(f"{name}:1", "x", px=50)
    for label in ("chain:1", "group:1", ["chord:1", "chord:1"]):
        site.wait_run(label)
    assert site.wait_run("told")["event"]["key"] == "group:1"
