"""Guarded timers on real workers: what a guard calls off never reaches the broker, and others do, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import chain
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from celery_redis_expiry import cancel, schedule_many_on_expiry, schedule_on_expiry
from celery_redis_expiry.store import Claims, store_of
from tests.events import watched
from tests.servers.cluster import RedisCluster
from tests.servers.redis import RedisServer
from tests.servers.workers import Worker
from tests.site import Site, once_each
from tests.waiting import eventually

COUNT = 300


def referrals(site: Site, count: int, seconds: float, over: float = 0.0) -> set[int]:
    """A third has no guard; of the others every second friend signs up. Which are to be told."""
    told = set()
    for number in range(count):
        if number % 3 == 0 or number % 2 == 0:
            told.add(number)
        if number % 2:
            site.redis.set(f"user:{number}:registered", "")

    def items() -> Any:
        for number in range(count):
            guard = {"unless_exists": f"user:{number}:registered"} if number % 3 else {}
            yield {"signature": site.record(number), "seconds": seconds + over * number / count, **guard}

    assert schedule_many_on_expiry(items()).scheduled == count
    return told


def then(site: Site, label: str) -> Any:
    """For a chain: a task that takes nothing of the one before."""
    return site.record(label).set(immutable=True)


def called_off(site: Site, worker: Worker) -> int:
    told = site.app.control.inspect([worker.hostname], timeout=5).stats()
    return int(told[worker.hostname]["expiry"]["called_off"]) if told else -1


def test_those_who_signed_up_are_not_told(site: Site) -> None:
    worker = site.expiry()
    told = referrals(site, COUNT, 1.0, over=1.5)
    late = schedule_on_expiry(site.record("late"), seconds=2, only_if_exists=["cart:1", "user:1:registered"])
    site.redis.set("cart:1", "")
    site.redis.delete("user:1:registered")  # who leaves again before the timer is due
    once_each(site.drain(len(told) + 1), {*told, 1})
    assert called_off(site, worker) == COUNT - len(told)
    assert AsyncResult(late.id, app=site.app).state == "PENDING"
    assert site.stored() == {}


def test_what_fell_due_while_no_worker_was_up(site: Site) -> None:
    """Found by the sweep; half of it was let pass, and that by two workers."""
    told = referrals(site, COUNT, 0)
    one, two = site.expiry("one", ready=False), site.expiry("two")
    one.wait_ready()
    once_each(site.drain(len(told)), told)
    eventually(lambda: called_off(site, one) + called_off(site, two) == COUNT - len(told), timeout=10)


def test_monitors_and_who_waits_for_the_result_are_told(
    make_site: Callable[..., Site], shared_redis: Callable[..., Any]
) -> None:
    site = make_site(shared_redis(use="idle"), task_send_sent_event=True, expiry_mark_revoked=True)
    worker = site.expiry("expiry", "-l", "DEBUG")
    site.redis.set("user:42", "")
    with watched(site.app) as task:
        result = schedule_on_expiry(site.record(1), seconds=0.5, key="sms:42", unless_exists="user:42")
        canvas = schedule_on_expiry(
            chain(site.record(2), site.record(3)), seconds=0.5, unless_exists=["user:41", "user:42"]
        )
        for id in (result.id, canvas.id):
            eventually(lambda id=id: getattr(task(id), "state", None) == "REVOKED", what=worker.process.tail)
        with pytest.raises(TaskRevokedError, match="guard"):
            result.get(timeout=10)
    worker.wait_for(r"the guard of timer sms:42 called it off")
    assert not site.queues.llen("celery")


def test_a_canvas_is_asked_for_once(site: Site) -> None:
    site.expiry()
    schedule_on_expiry(chain(site.record("a"), then(site, "b")), seconds=0.3, unless_exists="stop")
    site.wait_run("a")
    site.redis.set("stop", "")
    once_each(site.drain(2), ["a", "b"])


def test_keys_that_may_not_be_read(make_site: Callable[..., Site], site: Site) -> None:
    """Their timers wait, and can be cancelled; others fire. When the right is granted they are asked."""
    user = ("ACL SETUSER", "few", "reset", "on", ">secret", "+@all", "allchannels", "~*")
    site.redis.execute_command(*user, "resetkeys", "~{expiry.*", "~user:*")
    worker = site.expiry(expiry_redis_url=site.server.url(user="few", password="secret"))
    site.redis.set("secret:off", "")
    for name in ("on", "off", "cancelled"):
        canvas = chain(site.record(name), then(site, "after"))
        schedule_on_expiry(canvas, seconds=0.2, key=name, unless_exists=f"secret:{name}")
    schedule_on_expiry(site.record("user"), seconds=0.2, unless_exists="user:1")
    schedule_on_expiry(site.record("plain"), seconds=0.2)
    once_each([site.wait_run("user"), site.wait_run("plain")], ["user", "plain"])
    worker.wait_for(r"of its guard can't be read")
    # nothing of it was sent, so it can be cancelled; now and then it is claimed for a moment
    eventually(lambda: cancel("cancelled", app=site.app), what=worker.process.tail)
    assert not site.runs("on")
    site.redis.execute_command("ACL SETUSER", "few", "~secret:*")
    site.wait_run("on")
    once_each(site.drain(4), ["user", "plain", "on", "after"])


@pytest.fixture
def cluster_site(
    redis_cluster: RedisCluster,
    shared_redis: Callable[..., RedisServer],
    make_site: Callable[..., Site],
    ordinary_worker: Worker,
) -> Site:
    assert ordinary_worker.process.running
    return make_site(redis_cluster, beside=shared_redis())


def forgotten(site: Site) -> bool:
    return not any(store_of(site.app).counts().values())


@pytest.mark.timeout(120)
def test_on_a_cluster_their_own_nodes_are_asked(cluster_site: Site) -> None:
    """Keys of the user's own lie in whatever slot, on whatever node."""
    site = cluster_site
    worker = site.expiry()
    told = referrals(site, 120, 1.0, over=1.0)
    eventually(lambda: len(site.runs()) >= len(told), timeout=30, what=lambda: worker.process.tail())
    eventually(lambda: forgotten(site), timeout=20, what=lambda: worker.process.tail())
    site.wait_broker_empty()
    once_each(site.runs(), told)
    assert called_off(site, worker) == 120 - len(told)


@pytest.mark.timeout(150)
def test_a_node_of_a_cluster_that_is_away(cluster_site: Site, redis_cluster: RedisCluster) -> None:
    """Whose guard can't be asked waits until the node's replica is promoted; those of other nodes fire."""
    site = cluster_site
    site.expiry()
    away = redis_cluster.owner("user:1")
    elsewhere = next(
        key for key in (f"user:{number}" for number in range(2, 99)) if redis_cluster.owner(key) is not away
    )
    # timers of shards on other nodes
    shards = [
        shard for shard in store_of(site.app).shards if redis_cluster.owner(shard.keys.namespace) is not away
    ]
    names = iter(f"n:{number}" for number in range(999))

    def schedule(label: str, key: str) -> None:
        name = next(name for name in names if store_of(site.app).home(name) in shards)
        schedule_on_expiry(site.record(label), seconds=1, key=name, unless_exists=key)

    schedule("waits", "user:1")
    schedule("fires", elsewhere)
    redis_cluster.kill(away)
    site.wait_run("fires", timeout=30)
    site.wait_run("waits", timeout=60)
    eventually(lambda: forgotten(site), timeout=30)
    once_each(site.runs(), ["waits", "fires"])


def test_a_key_whose_slot_has_moved(cluster_site: Site, redis_cluster: RedisCluster) -> None:
    """It can't be read at first; then the nodes are asked who has it, and know it soon."""
    site, key = cluster_site, "user:1"
    site.redis.set(key, "")
    schedule_on_expiry(site.record(1), seconds=0, key="n", unless_exists=key)
    shard = store_of(site.app).home("n")
    source = redis_cluster.owner(key)
    target = next(node for node in redis_cluster.primaries() if node is not source)
    migration = redis_cluster.begin_migration(redis_cluster.slot(key), target)
    migration.move_keys(10)
    migration.end()

    def claim(token: str) -> Claims:
        member = str(shard.find("n"))
        guarded = eventually(lambda: shard.claim([(member, False)], token=token, lease=60).guarded)
        return shard.claim_guarded(guarded, token=token, lease=60)

    [unread] = claim("first")
    assert "'user:1' of its guard can't be read: its slot moves" in unread.problem
    shard.release("first", [unread])

    def asked() -> bool:
        claims = claim("again")
        shard.release("again", claims)
        return bool(claims.called_off)

    eventually(asked, timeout=10, what="its new node is asked")
