"""A Redis Cluster: timers in many shards, heard and fired wherever their slots go."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from celery_redis_expiry import (
    NotReplicated,
    cancel,
    get_timer,
    reschedule,
    schedule_many_on_expiry,
    schedule_on_expiry,
)
from celery_redis_expiry.store import store_of
from tests.servers.cluster import RedisCluster
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker
from tests.site import Site, once_each
from tests.waiting import eventually

MANY = 400


@pytest.fixture
def site(
    redis_cluster: RedisCluster,
    shared_redis: Callable[..., RedisServer],
    make_site: Callable[..., Site],
    ordinary_worker: Worker,
) -> Site:
    """Timers in the Cluster, broker and results beside it."""
    assert ordinary_worker.process.running
    return make_site(redis_cluster, beside=shared_redis())


def schedule(site: Site, seconds: float, count: int = MANY, over: float = 0.0) -> None:
    items = ((site.record(number), seconds + over * number / count) for number in range(count))
    summary = schedule_many_on_expiry(items)
    assert (summary.scheduled, summary.errors) == (count, [])


def counts(site: Site) -> dict[str, int]:
    return store_of(site.app).counts()


def subscribers(node: RedisServer) -> int:
    """How many listeners a node has; nobody else subscribes there."""
    with node.client() as client:
        return len(client.client_list(_type="pubsub"))


def forgotten(site: Site) -> bool:
    return not any(counts(site).values())


def drain(site: Site, count: int, timeout: float = 60) -> list[Any]:
    """All runs, once nothing is stored any more and nothing is on its way."""
    eventually(
        lambda: len(site.runs()) >= count,
        timeout=timeout,
        every=0.1,
        what=lambda: f"{count} runs; {counts(site)}; ran {len(site.runs())}",
    )
    eventually(lambda: forgotten(site), timeout=30, what=lambda: f"nothing stored; {counts(site)}")
    site.wait_broker_empty()
    return site.runs()


@pytest.mark.usefixtures("face")
def test_users_calls(site: Site) -> None:
    """Names and ids are found in whatever shard they lie."""
    results = [schedule_on_expiry(site.record(number), seconds=600) for number in range(20)]
    named = schedule_on_expiry(site.record("named"), seconds=600, key="referral:42")
    assert len(store_of(site.app).shards) == 64
    assert counts(site)["waiting"] == 21
    for result in results:
        timer = get_timer(result.id, app=site.app)
        assert timer is not None
        assert timer.id == result.id
        assert site.redis.pttl(timer.trigger_key) > 0
    by_id = get_timer(named.id, app=site.app)
    assert by_id is not None
    assert by_id.name == "referral:42"
    assert reschedule(named.id, 1200, app=site.app)
    assert get_timer("referral:42", app=site.app).remaining > 700  # type: ignore[union-attr]
    replaced = schedule_on_expiry(site.record("other"), seconds=600, key="referral:42")
    assert get_timer(named.id, app=site.app) is None
    assert cancel("referral:42", app=site.app)
    assert not cancel(replaced.id, app=site.app)
    assert all(result.cancel() for result in results)
    assert forgotten(site)


def test_recurring_timers(site: Site) -> None:
    """Each beside its occurrences, whose ends are told to wherever it lies."""
    # a worker that knows where the timers are
    site.app.conf.task_default_queue = site.config["conf"]["task_default_queue"] = "clustered"
    site.ordinary()
    site.expiry()
    made = [schedule_on_expiry(site.record(number), every=0.5, key=f"r{number}") for number in range(8)]
    eventually(
        lambda: all(len(site.runs(number)) >= 3 for number in range(8)), what="three occurrences of each"
    )
    for each in made:
        timer = each.timer
        assert timer is not None
        assert timer.fired >= 3
        assert get_timer(timer.last_id, app=site.app) is None
        assert each.cancel()
    runs = drain(site, len(site.runs()))
    assert len({run["request"]["id"] for run in runs}) == len(runs)


@pytest.mark.usefixtures("face")
def test_replicas_are_waited_for(
    make_site: Any, redis_cluster: RedisCluster, shared_redis: Callable[..., RedisServer]
) -> None:
    """Of the very server that has the shard: each is asked for its own replica."""
    conf: dict[str, Any] = {"beside": shared_redis(use="idle"), "expiry_wait_replicas_timeout": 4}
    site: Site = make_site(redis_cluster, expiry_wait_replicas=1, **conf)
    for number in range(20):
        schedule_on_expiry(site.record(number), 600)
    few: Site = make_site(
        redis_cluster, expiry_wait_replicas=2, **conf | {"expiry_wait_replicas_timeout": 0.1}
    )
    with pytest.raises(NotReplicated, match="1 of 2 replicas"):
        schedule_on_expiry(few.record(20), 600)
    assert counts(site)["waiting"] == 21


def test_each_fires_once_with_two_workers(site: Site) -> None:
    one = site.expiry("one", ready=False)
    site.expiry("two", ready=False).wait_ready()
    one.wait_ready()
    assert "notifications on" in one.log
    schedule(site, 1.0, over=3.0)
    once_each(drain(site, MANY), range(MANY))


def test_an_earlier_timer_wakes_the_pacer_of_its_shard(site: Site) -> None:
    site.expiry()
    schedule(site, 3600, count=100)
    for number in range(10):
        schedule_on_expiry(site.record(f"soon:{number}"), seconds=0.3)
        schedule_on_expiry(site.record(f"now:{number}"), seconds=0)
    for number in range(10):
        site.wait_run(f"soon:{number}", timeout=10)
        site.wait_run(f"now:{number}", timeout=10)


@pytest.mark.timeout(200)
def test_orderly_failover_under_load(site: Site, redis_cluster: RedisCluster) -> None:
    worker = site.expiry()
    schedule(site, 2.0, over=8.0)
    promoted = redis_cluster.fail_over(redis_cluster.primaries()[0])
    once_each(drain(site, MANY), range(MANY))
    assert worker.process.running
    eventually(lambda: subscribers(promoted), timeout=30, what="the new primary is listened to")
    eventually(
        lambda: not subscribers(redis_cluster.replica_of(promoted)), timeout=30, what="the old one no more"
    )


@pytest.mark.timeout(200)
def test_a_primary_dies_under_load(site: Site, redis_cluster: RedisCluster) -> None:
    """Everything was replicated when it died; meanwhile the other shards go on."""
    worker = site.expiry(expiry_lease=5)
    schedule(site, 3.0, over=8.0)
    site.redis.wait(1, 1000, target_nodes=site.redis.PRIMARIES)
    redis_cluster.kill(redis_cluster.primaries()[1])
    runs = drain(site, MANY)
    assert {run["label"] for run in runs} == set(range(MANY))
    # acks that were not replicated yet may be forgotten with the old primary: under the same task id
    assert len({run["request"]["id"] for run in runs}) == MANY
    assert worker.process.running


@pytest.mark.timeout(200)
def test_a_primary_hangs_under_load(site: Site, redis_cluster: RedisCluster) -> None:
    """Stopped, not dead: connections to it stay open and silent until its replica is promoted."""
    worker = site.expiry(expiry_lease=5)
    schedule(site, 3.0, over=8.0)
    site.redis.wait(1, 1000, target_nodes=site.redis.PRIMARIES)
    hung = redis_cluster.primaries()[1]
    assert hung.process is not None
    hung.process.signal(signal.SIGSTOP)
    try:
        eventually(lambda: len({run["label"] for run in site.runs()}) == MANY, timeout=60, what="all ran")
    finally:
        hung.process.signal(signal.SIGCONT)
    redis_cluster.wait_ready()
    runs = drain(site, MANY)
    assert {run["label"] for run in runs} == set(range(MANY))
    assert len({run["request"]["id"] for run in runs}) == MANY
    assert worker.process.running


@pytest.mark.timeout(200)
def test_slots_move_under_load(site: Site, redis_cluster: RedisCluster) -> None:
    """Slots with timers go to another primary; one is held half way, and its timers fire once it is there."""
    site.expiry()
    schedule(site, 2.0, over=8.0)
    first, second, _ = redis_cluster.primaries()
    slots = {redis_cluster.slot(shard.keys.due) for shard in store_of(site.app).shards}
    slots = {slot for slot in slots if redis_cluster.owner(slot) is first}
    held, *others = sorted(slots)
    for slot in others[:8]:
        redis_cluster.migrate_slot(slot, second)
    migration = redis_cluster.begin_migration(held, second)
    migration.move_keys(3)
    eventually(lambda: len(site.runs()) > MANY // 2, timeout=60, what="the other shards go on")
    migration.end()
    once_each(drain(site, MANY), range(MANY))
